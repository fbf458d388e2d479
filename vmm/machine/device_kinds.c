/* SPDX-License-Identifier: GPL-2.0-or-later */
/* device_kinds.c: the table of devices. A row is beside its build function, in build_*.c. */
#include "vmm/machine/device_kinds.h"

#define KINDS(ROW)                                                                                 \
	ROW(virtio_blk)                                                            \
	ROW(virtio_net)                                                            \
	ROW(virtio_rng)                                                            \
	ROW(virtio_console)                                                        \
	ROW(virtio_balloon)                                                        \
	ROW(virtio_tablet)                                                         \
	ROW(virtio_9p)                                                             \
	ROW(e1000)                                                                 \
	ROW(rtl8139)                                                               \
	ROW(ide_hd)                                                                \
	ROW(ide_cd)                                                                \
	ROW(vga)                                                                   \
	ROW(debug_exit)                                                            \
	ROW(debugcon)                                                              \
	ROW(pvpanic)                                                               \
	ROW(pc_testdev)                                                            \
	ROW(pci_testdev)                                                           \
	ROW(vmgenid)

#define DECLARE(name) extern const struct device_kind kind_##name;
#define POINTER(name) &kind_##name,
KINDS(DECLARE)
const struct device_kind *const device_kinds[] = { KINDS(POINTER) NULL };
