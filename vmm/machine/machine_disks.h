/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * machine_disks.h: a saved machine remembers what its disks held: memory knows what it read from
 * them, and a file system of the guest that is restored over a changed disk destroys it.
 */
#ifndef VMM_MACHINE_MACHINE_DISKS_H
#define VMM_MACHINE_MACHINE_DISKS_H

#include "vmm/base/state.h"
#include "vmm/machine/machine.h"

struct machine_disks;			/* each drive of the machine, as it stands */

/*
 * After the last flush, quiesced: what identifies the disks now. Reads images' metadata, so before
 * the exclusive section. Free it by machine_disks_free.
 */
struct machine_disks *machine_disks_get(struct machine *m);
void machine_disks_free(struct machine_disks *d);
/* The node "disks" of the tree. */
void machine_disks_save(const struct machine_disks *d, struct state_out *o);
/*
 * Compares the tree's node "disks", if it has one, with the disks as they were when they were
 * opened: a line for each drive that is not, or may not be, what it was. strict: a changed one is
 * an error of in. A machine that has not run.
 */
void machine_disks_check(struct machine *m, struct state_in *in, bool strict);

#endif
