/* SPDX-License-Identifier: GPL-2.0-or-later */
/* loop_impl.h: what loop.c and timer.c share; nobody else includes it. */
#ifndef VMM_BASE_LOOP_IMPL_H
#define VMM_BASE_LOOP_IMPL_H

#include <pthread.h>

#include "vmm/base/loop.h"

struct loop_post;
struct timer_heap;

struct loop {
	char name[16];			/* a thread's name has at most 15 characters */
	int epfd, wakefd;
	/* The lock: a mutex made recursive by its owner's name. */
	pthread_mutex_t mutex;
	pthread_cond_t cond;		/* loop_wait, runner_claim */
	void *owner;
	unsigned depth, waiters;
	/* Who runs it: set with the lock held. */
	void *runner;
	unsigned nesting;		/* passes on the runner's stack */
	uint64_t turn;			/* passes so far; atomic */
	bool stop, has_thread, patient;
	pthread_t thread;
	int tid;			/* of the thread; atomic */
	/* Descriptors; under the lock. */
	struct loop_fd *apart, *dead;
	unsigned nfds;
	/* Posted calls. */
	pthread_mutex_t post_mutex;
	struct loop_post *posts, **post_tail;
	unsigned nposts;
	/* Timers: one heap for each clock. */
	pthread_mutex_t timer_mutex;
	struct timer_heap **heaps;
	size_t nheaps;
	/* host time of the next pass, INT64_MIN while awake; under timer_mutex */
	int64_t sleeps_until;
};

/* Wake the runner from its sleep. Any thread. */
void loop_kick(struct loop *l);

void timers_init(struct loop *l);
void timers_exit(struct loop *l);
/* How long to sleep, at most max_ns (-1: for ever). */
int64_t timers_before_sleep(struct loop *l, int64_t max_ns);
void timers_after_sleep(struct loop *l);
/* Run the timers that are due. On the runner, lock not held. */
void timers_run(struct loop *l);

#endif
