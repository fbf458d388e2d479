/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * job.h: long work on a disk while the guest uses it: commit, stream, backup, mirror. Each runs on
 * a thread of its own (job.c); what it copies and how is job_copy.c.
 */
#ifndef DISK_JOB_H
#define DISK_JOB_H

#include "disk/node.h"

enum job_state { JOB_RUNNING, JOB_PAUSED, JOB_READY, JOB_DONE };
struct job;
struct job_ops {
	const char *type;			/* "backup" */
	/* on the job's thread; looks at job_should_stop often */
	int (*run)(struct job *j);
	void (*clean)(struct job *j);		/* after run, whatever it returned */
};
struct job {
	const struct job_ops *ops;
	char *id;
	struct blk *blk;
	void *priv;
	enum job_state state;			/* the thread sets it; atomic */
	uint64_t done, total;			/* bytes; atomic */
	uint64_t speed;				/* bytes a second; 0: no limit; atomic */
	bool cancel, pause, complete;
	int ret;
	struct err err;				/* with ret */
	struct job_thread *thread;		/* private to job.c */
};
struct job_common;
struct job *job_start(const struct job_ops *ops, struct blk *b, void *priv,
		      const struct job_common *c, struct err *err);
/*
 * Sleeps for the speed limit and while paused; true when the job was cancelled. On the job's
 * thread.
 */
bool job_pace(struct job *j, uint64_t bytes);
/*
 * On the job's thread: READY, until job_complete (true) or job_cancel (false). Calls again(j)
 * meanwhile, every 100 ms.
 */
bool job_wait_complete(struct job *j, int (*again)(struct job *j));
void job_cancel(struct job *j);
/* A job that is READY goes to its end; one that is not yet does so when it is. Any thread. */
void job_complete(struct job *j);
void job_set_paused(struct job *j, bool pause);
/* Waits for its end; for tools and tests, not on a loop. Returns j->ret. */
int job_wait(struct job *j);
void job_free(struct job *j);			/* after it ended */

/*
 * ended(ctx, j) is called on the loop, or, without one, on the job's thread; it may come before the
 * call that started the job has returned. changed(ctx, j, now) tells on the loop, before ended,
 * that the job is READY, PAUSED or RUNNING again; optional.
 */
struct job_common {
	const char *id;
	uint64_t speed;
	struct loop *loop;
	void (*ended)(void *ctx, struct job *j);
	void (*changed)(void *ctx, struct job *j, enum job_state now);
	void *ctx;
};
/* The disk as it is now into target (taken over), while the guest goes on writing. */
struct job *job_backup(struct blk *b, struct node *target, const struct job_common *c,
		       struct err *err);
/*
 * target becomes and stays the same as the disk; READY when it is. Complete: the disk is target
 * from then on.
 */
struct job *job_mirror(struct blk *b, struct node *target, const struct job_common *c,
		       struct err *err);
/* The layers above base (NULL: the top one alone) into base, which is the disk afterwards. */
struct job *job_commit(struct blk *b, struct node *base, const struct job_common *c,
		       struct err *err);
/*
 * All that the layers above base have into the top one, whose backing file is then base; NULL:
 * none.
 */
struct job *job_stream(struct blk *b, struct node *base, const struct job_common *c,
		       struct err *err);

#endif
