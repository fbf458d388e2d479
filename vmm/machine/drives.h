/* SPDX-License-Identifier: GPL-2.0-or-later */
/* drives.h: the machine's drives. Their list changes on the main loop, with the shape locked. */
#ifndef VMM_MACHINE_DRIVES_H
#define VMM_MACHINE_DRIVES_H

#include "vmm/machine/machine.h"

/*
 * Opens a medium for a drive, with the drive's error policy, its owner for I/O errors and its
 * limits: at start, at hot-plug and when a CD is changed. It may block: not on a running main loop.
 * The caller puts it into the drive, or closes it. NULL with the reason.
 */
struct blk *machine_drive_open(struct machine_drive *md, const char *file,
			       const struct blk_options *o, struct err *err);
/*
 * Puts a medium into the drive, or none (NULL); the old one stays the caller's. as_said: it was
 * opened from the entry's own file=. Main loop's lock.
 */
void machine_drive_put(struct machine_drive *md, struct blk *blk, bool as_said);
/* All drives of the configuration, at start; and closing them, at the end. */
int machine_open_drives(struct machine *m, struct err *err);
void machine_close_drives(struct machine *m);

/* The next drive with a medium after d (NULL: the first). NULL: there is none. */
struct machine_drive *machine_next_drive(struct machine *m, struct machine_drive *d);
/* The same of those that the guest can change. */
struct machine_drive *machine_next_writable(struct machine *m, struct machine_drive *d);
/* Calls fn for each medium until one fails. What it returned. */
int machine_each_disk(struct machine *m, int (*fn)(struct blk *b, struct err *err),
		      struct err *err);
struct machine_drive *machine_find_drive(struct machine *m, const char *id);
/* By its id, the id of the device that shows it, or its place (ide1-cd0). NULL: none. */
struct machine_drive *machine_drive_by_name(struct machine *m, const char *name);

/*
 * A stopped machine lets others read its disks: everything is flushed, caches and locks are given
 * up (stop). Before the guest or a command touches them again they are taken back and read anew
 * (cont), or it is said who has them. A control thread that holds no lock. 0 or -errno with the
 * reason; both do nothing when it is so already.
 */
int machine_give_disks(struct machine *m, struct err *err);
int machine_take_disks(struct machine *m, struct err *err);

#endif
