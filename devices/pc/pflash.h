/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pflash.h: flash chips for UEFI firmware and its variables. */
#ifndef DEVICES_PC_PFLASH_H
#define DEVICES_PC_PFLASH_H

#include "devices/device.h"
#include "devices/pci/pci.h"

struct blk;
/*
 * A chip that holds the image and ends below `end` (4 GiB, or the base of the chip above). shadow:
 * its last 128 KiB are also seen below 1 MiB. blk is borrowed. NULL with the reason. Blocks (reads
 * the image): before the guest runs.
 */
struct device *pflash_new(struct pci_bus *pci, const char *id, struct blk *blk, uint64_t end,
			  bool shadow, struct err *err);
uint64_t pflash_base(struct device *d);

#endif
