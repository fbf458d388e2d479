/* SPDX-License-Identifier: GPL-2.0-or-later */
/* job.c: long work on a disk, each on a thread of its own: start, pace, pause, cancel, end. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "disk/job.h"
#include "disk/node.h"

struct job_thread {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct loop *loop;
	void (*ended)(void *ctx, struct job *j);
	void (*changed_fn)(void *ctx, struct job *j, enum job_state now);
	void *ctx;
	int64_t due;			/* when the speed limit lets the next bytes go */
	bool joined;
};

static void job_ended(void *arg)
{
	struct job *j = arg;

	j->thread->ended(j->thread->ctx, j);
}

struct change {
	struct job *j;
	enum job_state now;
};

static void change_posted(void *arg)
{
	struct change *c = arg;

	c->j->thread->changed_fn(c->j->thread->ctx, c->j, c->now);
	free(c);
}

static void set_state(struct job *j, enum job_state now)
{
	struct change *c;

	__atomic_store_n(&j->state, now, __ATOMIC_RELAXED);
	if (!j->thread->changed_fn || !j->thread->loop)
		return;
	c = xcalloc(1, sizeof(*c));
	*c = (struct change){ j, now };
	loop_post(j->thread->loop, change_posted, c);
}

static void *job_run(void *arg)
{
	struct job *j = arg;
	struct job_thread *t = j->thread;
	struct loop *loop = t->loop;
	void (*ended)(void *ctx, struct job *job) = t->ended;

	pthread_setname_np(pthread_self(), "disk-job");
	/*
	 * The guest comes first: a copy takes what processor time is left. (Linux has a nice value
	 * for each thread.)
	 */
	setpriority(PRIO_PROCESS, 0, 10);
	j->ret = j->ops->run(j);
	if (j->ops->clean)
		j->ops->clean(j);
	__atomic_store_n(&j->state, JOB_DONE, __ATOMIC_RELEASE);
	/* The owner frees j from ended(): it is not touched after that. */
	if (ended && loop)
		loop_post(loop, job_ended, j);
	else if (ended)
		ended(t->ctx, j);
	return NULL;
}

struct job *job_start(const struct job_ops *ops, struct blk *b, void *priv,
		      const struct job_common *c, struct err *err)
{
	struct job *j = xcalloc(1, sizeof(*j));
	struct job_thread *t = xcalloc(1, sizeof(*t));
	sigset_t all, old;
	int ret;

	j->ops = ops;
	j->id = xstrdup(c->id ? c->id : ops->type);
	j->blk = b;
	j->priv = priv;
	j->speed = c->speed;
	j->thread = t;
	t->loop = c->loop;
	t->ended = c->ended;
	t->changed_fn = c->changed;
	t->ctx = c->ctx;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->changed, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&t->thread, NULL, job_run, j);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret) {
		t->joined = true;
		err_set(err, ret, "cannot start a thread for the %s job: %s", ops->type,
			strerror(ret));
		job_free(j);
		return NULL;
	}
	return j;
}

/* With the lock. */
static void sleep_until(struct job_thread *t, int64_t ns_from_now)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	ns_from_now += until.tv_nsec;
	until.tv_sec += ns_from_now / NS_PER_SEC;
	until.tv_nsec = ns_from_now % NS_PER_SEC;
	pthread_cond_timedwait(&t->changed, &t->lock, &until);
}

bool job_pace(struct job *j, uint64_t bytes)
{
	struct job_thread *t = j->thread;
	uint64_t speed = __atomic_load_n(&j->speed, __ATOMIC_RELAXED);
	bool cancel;

	__atomic_add_fetch(&j->done, bytes, __ATOMIC_RELAXED);
	pthread_mutex_lock(&t->lock);
	if (speed)
		t->due = MAX(t->due, now_ns()) + (int64_t)((double)bytes * NS_PER_SEC / speed);
	while (!j->cancel && (j->pause || (speed && t->due > now_ns()))) {
		if (j->pause) {
			enum job_state was = j->state;

			set_state(j, JOB_PAUSED);
			pthread_cond_wait(&t->changed, &t->lock);
			set_state(j, was == JOB_PAUSED ? JOB_RUNNING : was);
		} else {
			sleep_until(t, MIN(t->due - now_ns(), NS_PER_SEC));
		}
	}
	cancel = j->cancel;
	pthread_mutex_unlock(&t->lock);
	return cancel;
}

bool job_wait_complete(struct job *j, int (*again)(struct job *j))
{
	struct job_thread *t = j->thread;
	bool complete;

	set_state(j, JOB_READY);
	pthread_mutex_lock(&t->lock);
	while (!j->cancel && !j->complete && !j->ret) {
		sleep_until(t, 100 * NS_PER_MS);
		if (j->cancel || j->complete)
			break;
		pthread_mutex_unlock(&t->lock);
		j->ret = again(j);
		pthread_mutex_lock(&t->lock);
	}
	complete = j->complete && !j->cancel;
	pthread_mutex_unlock(&t->lock);
	set_state(j, JOB_RUNNING);
	return complete;
}

static void set_flag(struct job *j, bool *flag, bool value)
{
	pthread_mutex_lock(&j->thread->lock);
	*flag = value;
	pthread_cond_broadcast(&j->thread->changed);
	pthread_mutex_unlock(&j->thread->lock);
}

void job_cancel(struct job *j)
{
	set_flag(j, &j->cancel, true);
}

void job_complete(struct job *j)
{
	set_flag(j, &j->complete, true);
}

void job_set_paused(struct job *j, bool pause)
{
	set_flag(j, &j->pause, pause);
}

int job_wait(struct job *j)
{
	if (!j->thread->joined)
		pthread_join(j->thread->thread, NULL);
	j->thread->joined = true;
	return j->ret;
}

void job_free(struct job *j)
{
	struct job_thread *t = j->thread;

	/* From ended() on the job's own thread it cannot wait for itself. */
	if (!t->joined && pthread_equal(t->thread, pthread_self()))
		pthread_detach(t->thread);
	else
		job_wait(j);
	pthread_cond_destroy(&t->changed);
	pthread_mutex_destroy(&t->lock);
	free(t);
	free(j->id);
	free(j);
}
