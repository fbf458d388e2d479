/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * front.h: what blk.c (front), queue.c (its asynchronous side) and throttle.c share. Nobody else
 * includes it.
 *
 * A front is drained when `busy`, the count of requests inside the nodes, is zero. (Whose done()
 * has run yet is a device's own business: it counts its requests.) A request announces itself in
 * busy and then looks at drain; a drainer raises drain and then looks at busy (both sequentially
 * consistent), so one of the two always sees the other.
 */
#ifndef DISK_FRONT_H
#define DISK_FRONT_H

#include <pthread.h>

#include "disk/node.h"

struct change_watch {
	struct loop *loop;
	void (*fn)(void *ctx);
	void *ctx;
	struct change_watch *next;
};

struct blk {
	struct node *root;
	unsigned flags;
	unsigned drain;			/* atomic: nested drains */
	unsigned busy;			/* atomic */
	pthread_mutex_t lock;		/* all below; a leaf */
	pthread_cond_t idle;		/* busy or drain has reached zero */
	struct blk_queue *queues;
	struct change_watch *watches;
	struct blk_throttle throttle;
	/* when each limit's bucket is empty again, and its burst's */
	struct { int64_t due, peak_due; } buckets[LIMITS];
	bool throttled;			/* atomic: any limit set */
	enum blk_on_error rerror, werror;
	void (*on_io_error)(void *ctx, const struct blk_req *r, enum blk_on_error action);
	void *on_io_error_ctx;
	/*
	 * What the root says, for whoever asks while the tree may change: atomic; names live as
	 * long as the front.
	 */
	uint64_t size;
	uint32_t align;
	bool readonly;
	const char *filename, *format;
	struct name { struct name *next; char text[]; } *names;
	struct blk_stats stats;		/* atomic members */
	struct temporary *temporary;	/* -snapshot: what its file is opened by; or NULL */
	/* for blk_activate, overlays; strings owned by the caller of blk_open */
	struct blk_options options;
};

struct uring;

struct blk_queue {
	struct blk *blk;
	struct loop *loop;
	int wake_fd;			/* eventfd: completions by other threads, end of a drain */
	struct loop_fd *wake, *ring_watch;
	bool running;			/* inside queue_run */
	/* the file looked at last, and whether it lives in memory (tmpfs) */
	int memory_fd;
	bool memory;
	struct blk_req *completed;	/* atomic stack, newest first */
	struct uring *ring;		/* NULL: refused by the kernel, or not tried yet */
	bool ring_tried;
	unsigned plugged;
	unsigned reaping;		/* drains that take its completions; the front's lock */
	/* plain buffered writes for one worker, collected while plugged */
	struct blk_req *writes, **writes_tail;
	unsigned nwrites;
	uint64_t writes_bytes;
	unsigned finishing;		/* atomic: threads inside queue_complete */
	struct blk_req *held, **held_tail;	/* in order of arrival: drained or throttled */
	struct loop_timer throttle_timer;
	void (*batch)(void *ctx);	/* after a round of done()s */
	void *batch_ctx;
	struct blk_queue *next;
};

/* --- blk.c --- */
/* Enters the nodes, or says that the front is being drained. */
bool front_enter(struct blk *b);
void front_leave(struct blk *b);
/* What a request asks, done now, on this thread. Counts nothing. */
int front_run(struct blk *b, enum blk_op op, unsigned flags, uint64_t off, const struct iovec *iov,
	      int niov, uint64_t len);
void front_account(struct blk *b, enum blk_op op, uint64_t off, uint64_t len, int64_t ns, int ret);
/* Takes the ring's completions so that busy can fall (queue.c). */
void queue_reap(struct blk_queue *q);
void queue_wake(struct blk_queue *q);

/* --- throttle.c --- */
/* 0: go (and it is paid for); otherwise the time (ns, host clock) to try again. */
int64_t throttle_take(struct blk *b, enum blk_op op, uint64_t len);

#endif
