/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * device_kinds.h: the list of devices there are, one line each, in the order of "-device help". The
 * row kind_NAME is in the device's own file, or in build_*.c.
 */
#ifndef VMM_MACHINE_DEVICE_KINDS_H
#define VMM_MACHINE_DEVICE_KINDS_H

#include "vmm/config/device_kind.h"

/* clang-format off */
#define DEVICE_KINDS(ROW) \
	ROW(virtio_blk) \
	ROW(virtio_net) \
	ROW(virtio_rng) \
	ROW(virtio_console) \
	ROW(virtio_balloon) \
	ROW(virtio_tablet) \
	ROW(virtio_9p) \
	ROW(e1000) \
	ROW(rtl8139) \
	ROW(ide_hd) \
	ROW(ide_cd) \
	ROW(vga) \
	ROW(debug_exit) \
	ROW(debugcon) \
	ROW(pvpanic) \
	ROW(pc_testdev) \
	ROW(pci_testdev) \
	ROW(vmgenid)
/* clang-format on */

#define DEVICE_KIND_DECLARE(name) extern const struct device_kind kind_##name;
DEVICE_KINDS(DEVICE_KIND_DECLARE)

/* All of them; ends with NULL. */
extern const struct device_kind *const device_kinds[];

#endif
