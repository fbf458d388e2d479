/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * jobs.h: the list of long work that clients started and watch: block jobs (disk/node.h) and
 * snapshots of the whole machine. Each has an id, a status in QEMU's words and its events
 * (JOB_STATUS_CHANGE, BLOCK_JOB_*); one that was asked to stays in the list after its end until
 * job-dismiss. One machine is one process, and so is the list.
 */
#ifndef VMM_MACHINE_JOBS_H
#define VMM_MACHINE_JOBS_H

#include <jansson.h>

#include "disk/job.h"
#include "disk/node.h"
#include "vmm/machine/machine.h"

struct job_entry;

/*
 * A place in the list, "created" and "running". drive: whom it works on (block jobs), or NULL. NULL
 * with the reason: the id is taken, or there are too many.
 */
struct job_entry *jobs_add(const char *id, const char *type, struct machine_drive *drive,
			   bool auto_dismiss, struct err *err);
/*
 * What a block job of the entry is started with; then jobs_started with what came of it (NULL:
 * nothing, the entry goes).
 */
struct job_common jobs_common(struct job_entry *e, struct machine *m, uint64_t speed);
void jobs_started(struct job_entry *e, struct job *j);
/*
 * Work on a thread of the list's own, with the machine's parts held. tag is copied. 0 or -errno
 * with the reason.
 */
int jobs_run(struct job_entry *e, struct machine *m,
	     int (*fn)(struct machine *m, const char *tag, struct err *err), const char *tag,
	     struct err *err);

/* A job works on the drive (NULL: no). Any thread. */
bool jobs_use(const struct machine_drive *d);
/*
 * Before the machine is taken apart: waits for work on its own threads. Main thread, no loop runs.
 */
void jobs_finish(struct machine *m);
/* Ends the block jobs before the drives are closed. Main thread, no loop runs. */
void jobs_exit(void);

/* The commands' part. Main loop. */
json_t *jobs_list(void);
json_t *jobs_list_block(void);
enum job_verb { JOB_CANCEL, JOB_COMPLETE, JOB_PAUSE, JOB_RESUME, JOB_DISMISS, JOB_FINALIZE };
/* 0, or -errno with the reason: -ENOENT no such job. block: only a block job counts. */
int jobs_steer(const char *id, enum job_verb verb, bool block, struct err *err);
int jobs_set_speed(const char *id, uint64_t speed, struct err *err);

#endif
