/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hotplug.h: parts of a machine that come and go while the guest runs: devices by ACPI PCI
 * hot-plug, drives and networks behind them.
 *
 * What parts there are (machine.devices, drives, nets and the configuration's entries) changes
 * under two locks: the shape, held for writing, and the main loop's. Whoever reads holds one of
 * them: fast commands and devices the loop's, slow commands and everything that saves or moves the
 * machine the shape for reading. So a machine does not change its parts while it is saved: adding
 * is refused then, and what the guest lets go waits until it is over. The shape is taken before any
 * loop's lock.
 */
#ifndef VMM_MACHINE_HOTPLUG_H
#define VMM_MACHINE_HOTPLUG_H

#include "vmm/machine/machine.h"

/*
 * All for a control thread that holds no lock; they may block (opening an image). 0, or -errno with
 * the reason: -ENODEV no such part, -EBUSY in use, or the machine is being saved or moved.
 */
/* spec as -device has it. The guest is told. */
int hotplug_add_device(struct machine *m, const char *spec, struct err *err);
/* Asks the guest to let it go; DEVICE_DELETED says when it is gone. */
int hotplug_del_device(struct machine *m, const char *id, struct err *err);
/*
 * spec as -drive has it, with if=none. keep: it stays when its device goes (blockdev-add); others
 * go with it.
 */
int hotplug_add_drive(struct machine *m, const char *spec, bool keep, struct err *err);
int hotplug_del_drive(struct machine *m, const char *id, struct err *err);
int hotplug_add_net(struct machine *m, const char *id, const char *spec, struct err *err);
int hotplug_del_net(struct machine *m, const char *id, struct err *err);

/*
 * The guest let go of a slot (acpi_hotplug_opts.eject). ctx: the machine. Main loop's lock; a
 * thread takes the device out.
 */
void hotplug_eject(void *ctx, unsigned slot);
/* Which slots the guest may let go: after the machine is built. */
void hotplug_init(struct machine *m);
/* Waits for devices on their way out. Main thread; no loop runs, the vCPUs have ended. */
void hotplug_exit(struct machine *m);

#endif
