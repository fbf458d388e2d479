/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * savevm.h: snapshots of the whole machine inside its qcow2 images: savevm, loadvm, delvm. Every
 * writable disk gets one of that name; memory and registers (the stream of migrate_stream.h) lie in
 * the first. All block; the main loop or a thread that holds no lock. 0 or -errno with the reason.
 */
#ifndef VMM_MOVE_SAVEVM_H
#define VMM_MOVE_SAVEVM_H

#include "vmm/machine/machine.h"

struct node_snapshot;

/*
 * A snapshot of that name is replaced. The machine goes on afterwards; an error leaves it as it
 * was.
 */
int savevm_save(struct machine *m, const char *name, struct err *err);
/*
 * The machine and its disks are what they were then. Refused before anything is touched when a disk
 * has no such snapshot; a failure later leaves the machine paused.
 */
int savevm_load(struct machine *m, const char *name, struct err *err);
int savevm_delete(struct machine *m, const char *name, struct err *err);
/* Those of the disk that holds the machine's state; the caller frees list. */
int savevm_list(struct machine *m, struct node_snapshot **list, int *count, struct err *err);

#endif
