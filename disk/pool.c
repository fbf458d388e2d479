/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pool.c: the worker threads. Work is taken in order of arrival; a thread is added when work
 * arrives and none is idle, up to POOL_MAX (as many as a queue of a disk is deep), and leaves after
 * IDLE_SECONDS without work. The pool is the one piece of disk/ that all images share; its lock is
 * a leaf.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "disk/pool.h"
#include "vmm/base/log.h"

enum { POOL_MAX = 64, IDLE_SECONDS = 10 };

static struct {
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct pool_work *head, **tail;
	unsigned threads, idle, queued;
} pool = { .lock = PTHREAD_MUTEX_INITIALIZER,
	   .work = PTHREAD_COND_INITIALIZER,
	   .tail = &pool.head };

static void *pool_thread(void *arg)
{
	pthread_setname_np(pthread_self(), "disk-worker");
	pthread_mutex_lock(&pool.lock);
	for (;;) {
		struct pool_work *w;

		while (!pool.head) {
			struct timespec until;
			int ret;

			clock_gettime(CLOCK_REALTIME, &until);
			until.tv_sec += IDLE_SECONDS;
			pool.idle++;
			ret = pthread_cond_timedwait(&pool.work, &pool.lock, &until);
			pool.idle--;
			if (ret == ETIMEDOUT && !pool.head) {
				pool.threads--;
				pthread_mutex_unlock(&pool.lock);
				return NULL;
			}
		}
		w = pool.head;
		pool.head = w->next;
		pool.queued--;
		if (!pool.head)
			pool.tail = &pool.head;
		pthread_mutex_unlock(&pool.lock);
		w->fn(w);
		pthread_mutex_lock(&pool.lock);
	}
}

/* With the lock held. The guest's signals (kicks, SIGUSR1 ...) are not for these threads. */
static void pool_grow(void)
{
	pthread_attr_t attr;
	sigset_t all, old;
	pthread_t t;
	int ret;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 1 * MiB);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&t, &attr, pool_thread, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (!ret)
		pool.threads++;
	else if (!pool.threads)
		log_error("cannot start a thread for disk requests: %s; they wait until one can",
			  strerror(ret));
}

void pool_submit(struct pool_work *w)
{
	w->next = NULL;
	pthread_mutex_lock(&pool.lock);
	*pool.tail = w;
	pool.tail = &w->next;
	pool.queued++;
	if (pool.queued > pool.idle && pool.threads < POOL_MAX)
		pool_grow();
	pthread_mutex_unlock(&pool.lock);
	/* Whoever wakes finds the lock free. */
	pthread_cond_signal(&pool.work);
}
