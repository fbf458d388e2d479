/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * machine_state.h: everything of a machine but the contents of its memory, as one tree; the common
 * part of saving (snapshot.c), migration (migrate.c) and restoring.
 */
#ifndef VMM_MACHINE_MACHINE_STATE_H
#define VMM_MACHINE_MACHINE_STATE_H

#include "vmm/base/state.h"
#include "vmm/machine/machine.h"

/*
 * Devices stop taking work and finish what is in flight, disks are flushed. The machine is paused.
 * A control thread, or the main loop before the guest runs. 0, or -errno with the reason (a
 * deadline passed, a flush failed): the devices run again then. machine_unquiesce undoes it, before
 * the machine resumes.
 */
int machine_quiesce(struct machine *m, struct err *err);
/* One device alone (it is about to go). On failure it works on. 0 or -ETIMEDOUT with the reason. */
int machine_quiesce_device(struct machine *m, struct device *d, struct err *err);
void machine_unquiesce(struct machine *m);
/*
 * Takes again what an I/O error stopped; what fails again stops the machine again. The machine may
 * run. A control thread.
 */
int machine_retry_io(struct machine *m, struct err *err);

/* What must be the same on both sides, written into / compared with the current node. */
void machine_describe(struct machine *m, struct state_out *o);
int machine_compare(struct machine *m, struct state_in *in);

/*
 * Registers of every part. memory(ctx, o): optional, adds properties to the node of each block.
 * disks: what identifies the disks' contents as well (machine_disks.h). Quiesced. blob is the
 * caller's to free. 0 or -errno with the reason.
 */
int machine_save(struct machine *m, void (*memory)(void *ctx, struct block *b, struct state_out *o),
		 void *ctx, bool disks, void **blob, size_t *len, struct err *err);
/*
 * The opposite, after the contents of memory are there, on a machine that has not run: compares,
 * then loads. memory(ctx, b, in): what machine_save's memory wrote. On failure the machine must not
 * run.
 */
int machine_load(struct machine *m, const void *blob, size_t len,
		 int (*memory)(void *ctx, struct block *b, struct state_in *in), void *ctx,
		 struct err *err);

/*
 * Writes what the machine is made of, without registers (dumpdtb.c). 0 or -errno with the reason.
 */
int machine_dumpdtb(struct machine *m, const char *path, struct err *err);

#endif
