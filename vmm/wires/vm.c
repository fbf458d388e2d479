/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vm.c: who may run when: runners (vCPU threads), exclusive sections, pause and resume, requests.
 * KVM-free.
 *
 * One mutex guards everything here; it is a leaf: no loop's lock is taken and no callback is called
 * under it (kicks excepted, which call nobody back). One atomic word of flags says whether a runner
 * must look before it enters the guest; while it is zero, entering costs one load.
 *
 * Nobody waits for the vCPUs with a loop's lock held, because a vCPU may be inside a device and
 * need that lock. So exclusive work is a queue, and whoever finds every runner parked carries it
 * out: the runner that asked for it, the last one to park, the main loop, or the thread in
 * vm_exclusive_sync.
 */
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "vmm/wires/vm.h"

enum need {
	NEED_HALT = 1 << 0,		/* reasons to pause, or a resume that is not finished */
	NEED_EXCLUSIVE = 1 << 1,	/* work is queued or running */
	NEED_REQUEST = 1 << 2,		/* the main loop has not yet answered */
	/* a runner was added and has not entered yet; blocks nobody */
	NEED_FRESH = 1 << 3,
};

struct exclusive {
	void (*fn)(void *ctx);
	void *ctx;
	bool *done;			/* of a waiting vm_exclusive_sync, or NULL */
	struct exclusive *next;
};

struct request {
	enum vm_end what;
	int code;
	struct request *next;
};

struct change_fn {
	void (*fn)(void *ctx, bool running);
	void *ctx;
};

struct vm {
	struct loop *main;
	struct vm_clock *clock;
	struct loop **loops;		/* main first: the order in which they are locked */
	size_t nloops;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	unsigned flags;			/* enum need; written under the mutex, read by anyone */
	unsigned main_waits;		/* loop_waits of the main loop on us */

	struct vm_runner *runners;
	unsigned nbusy, nfresh;		/* not parked; never entered */

	struct exclusive *queue, **tail;
	void *executor;			/* thread that runs exclusive work */

	unsigned reasons;
	bool running, finished;
	void *changer;			/* thread that is between running and paused */
	struct change_fn *changes;
	size_t nchanges;

	struct request *requests, **request_tail;
	bool answering;
	void (*on_request)(void *ctx, enum vm_end what, int code);
	void *request_ctx;
};

static __thread char thread_id;			/* its address names the thread */
static __thread struct vm_runner *self;		/* the runner this thread is, once it has entered */

struct vm *vm_new(struct loop *main_loop, struct vm_clock *clock)
{
	struct vm *v = xcalloc(1, sizeof(*v));

	v->main = main_loop;
	v->clock = clock;
	v->reasons = PAUSE_BOOT;
	v->flags = NEED_HALT;
	v->tail = &v->queue;
	v->request_tail = &v->requests;
	pthread_mutex_init(&v->mutex, NULL);
	pthread_cond_init(&v->cond, NULL);
	vm_add_loop(v, main_loop);
	return v;
}

void vm_free(struct vm *v)
{
	if (!v)
		return;
	assert(!v->runners && !v->executor && !v->changer);
	while (v->queue) {
		struct exclusive *e = v->queue;

		v->queue = e->next;
		free(e);
	}
	while (v->requests) {
		struct request *r = v->requests;

		v->requests = r->next;
		free(r);
	}
	free(v->loops);
	free(v->changes);
	pthread_cond_destroy(&v->cond);
	pthread_mutex_destroy(&v->mutex);
	free(v);
}

struct vm_clock *vm_get_clock(struct vm *v)
{
	return v->clock;
}

void vm_add_loop(struct vm *v, struct loop *l)
{
	pthread_mutex_lock(&v->mutex);
	v->loops = xrealloc(v->loops, (v->nloops + 1) * sizeof(*v->loops));
	v->loops[v->nloops++] = l;
	pthread_mutex_unlock(&v->mutex);
}

void vm_del_loop(struct vm *v, struct loop *l)
{
	pthread_mutex_lock(&v->mutex);
	for (size_t i = 0; i < v->nloops; i++) {
		if (v->loops[i] == l) {
			v->nloops--;
			memmove(v->loops + i, v->loops + i + 1,
				(v->nloops - i) * sizeof(*v->loops));
			break;
		}
	}
	pthread_mutex_unlock(&v->mutex);
}

/* --- flags, kicks, waiting; all with the mutex held --- */

static void flag_set(struct vm *v, unsigned bit)
{
	__atomic_or_fetch(&v->flags, bit, __ATOMIC_SEQ_CST);
}

static void flag_clear(struct vm *v, unsigned bit)
{
	__atomic_and_fetch(&v->flags, ~bit, __ATOMIC_SEQ_CST);
}

/*
 * Raises a flag that runners must see. A runner once kicked looks at the flags until it parks: one
 * kick is enough.
 */
static void flag_raise(struct vm *v, unsigned bit)
{
	bool kicked = v->flags & ~NEED_FRESH;

	flag_set(v, bit);
	if (kicked)
		return;
	for (struct vm_runner *r = v->runners; r; r = r->next)
		if (!r->parked && r != self)
			r->kick(r);
}

/* Something changed that a sleeper may wait for. */
static void announce(struct vm *v)
{
	pthread_cond_broadcast(&v->cond);
	if (v->main_waits)
		loop_wake(v->main);
}

struct until {
	struct vm *v;
	bool (*holds)(struct vm *v, void *ctx);
	void *ctx;
};

static bool until_holds(void *ctx)
{
	struct until *u = ctx;
	bool holds;

	pthread_mutex_lock(&u->v->mutex);
	holds = u->holds(u->v, u->ctx);
	pthread_mutex_unlock(&u->v->mutex);
	return holds;
}

/*
 * Waits until holds(v, ctx); the mutex is dropped meanwhile. The main loop goes on serving its
 * devices: a vCPU on its way to the parking place may be waiting for one of them.
 */
static void wait_until(struct vm *v, bool (*holds)(struct vm *v, void *ctx), void *ctx)
{
	struct until u = { v, holds, ctx };

	while (!holds(v, ctx)) {
		if (!loop_is_current(v->main) && !loop_is_locked(v->main)) {
			pthread_cond_wait(&v->cond, &v->mutex);
			continue;
		}
		v->main_waits++;
		pthread_mutex_unlock(&v->mutex);
		loop_lock(v->main);
		loop_wait(v->main, until_holds, &u);
		loop_unlock(v->main);
		pthread_mutex_lock(&v->mutex);
		v->main_waits--;
	}
}

static bool all_parked(struct vm *v, void *ctx UNUSED)
{
	return v->nbusy == 0;
}

/* --- exclusive section --- */

static void exclusive_append(struct vm *v, void (*fn)(void *ctx), void *ctx, bool *done)
{
	struct exclusive *e = xcalloc(1, sizeof(*e));

	*e = (struct exclusive){ fn, ctx, done, NULL };
	*v->tail = e;
	v->tail = &e->next;
	flag_raise(v, NEED_EXCLUSIVE);
}

static bool exclusive_possible(struct vm *v)
{
	return v->queue && !v->executor && !v->nbusy;
}

/*
 * Runs what is queued, in order, also what that queues. The mutex is held before and after, not
 * meanwhile.
 */
static void exclusive_run(struct vm *v)
{
	v->executor = &thread_id;
	pthread_mutex_unlock(&v->mutex);
	/* The list changes only with the main loop's lock held, which is the first. */
	for (size_t i = 0; i < v->nloops; i++)
		loop_lock(v->loops[i]);
	pthread_mutex_lock(&v->mutex);
	while (v->queue) {
		struct exclusive *e = v->queue;

		v->queue = e->next;
		if (!v->queue)
			v->tail = &v->queue;
		pthread_mutex_unlock(&v->mutex);
		e->fn(e->ctx);
		pthread_mutex_lock(&v->mutex);
		if (e->done)
			*e->done = true;
		free(e);
	}
	pthread_mutex_unlock(&v->mutex);
	for (size_t i = v->nloops; i-- > 0;)
		loop_unlock(v->loops[i]);
	pthread_mutex_lock(&v->mutex);
	v->executor = NULL;
	if (!v->queue)
		flag_clear(v, NEED_EXCLUSIVE);
	announce(v);
}

/*
 * On the main loop, for requests of threads that are no runner: the last runner to park may have
 * been faster.
 */
static void exclusive_posted(void *ctx)
{
	struct vm *v = ctx;

	pthread_mutex_lock(&v->mutex);
	while (exclusive_possible(v))
		exclusive_run(v);
	pthread_mutex_unlock(&v->mutex);
}

void vm_exclusive(struct vm *v, void (*fn)(void *ctx), void *ctx)
{
	bool runner = self && self->vm == v;

	pthread_mutex_lock(&v->mutex);
	exclusive_append(v, fn, ctx, NULL);
	pthread_mutex_unlock(&v->mutex);
	if (!runner)
		loop_post(v->main, exclusive_posted, v);
}

static bool done_or_possible(struct vm *v, void *ctx)
{
	return *(bool *)ctx || exclusive_possible(v);
}

void vm_exclusive_sync(struct vm *v, void (*fn)(void *ctx), void *ctx)
{
	bool done = false;

	pthread_mutex_lock(&v->mutex);
	if (v->executor == &thread_id) {	/* inside already */
		pthread_mutex_unlock(&v->mutex);
		fn(ctx);
		return;
	}
	assert(!self || self->vm != v);
	exclusive_append(v, fn, ctx, &done);
	while (!done) {
		wait_until(v, done_or_possible, &done);
		if (!done)
			exclusive_run(v);
	}
	pthread_mutex_unlock(&v->mutex);
}

/* --- runners --- */

void vm_runner_add(struct vm *v, struct vm_runner *r)
{
	pthread_mutex_lock(&v->mutex);
	r->vm = v;
	r->parked = r->fresh = true;
	r->next = v->runners;
	v->runners = r;
	v->nfresh++;
	flag_set(v, NEED_FRESH);
	pthread_mutex_unlock(&v->mutex);
}

static void runner_not_fresh(struct vm *v, struct vm_runner *r)
{
	if (r->fresh && --v->nfresh == 0)
		flag_clear(v, NEED_FRESH);
	r->fresh = false;
}

void vm_runner_del(struct vm *v, struct vm_runner *r)
{
	struct vm_runner **at;

	pthread_mutex_lock(&v->mutex);
	for (at = &v->runners; *at && *at != r; at = &(*at)->next)
		;
	if (*at) {
		*at = r->next;
		v->nbusy -= !r->parked;
		runner_not_fresh(v, r);
		announce(v);
		if (v->queue)
			loop_post(v->main, exclusive_posted, v);
	}
	pthread_mutex_unlock(&v->mutex);
	if (self == r)
		self = NULL;
}

bool vm_runner_needed(struct vm *v)
{
	return __atomic_load_n(&v->flags, __ATOMIC_SEQ_CST) != 0;
}

bool vm_runner_enter(struct vm *v, struct vm_runner *r)
{
	bool go;

	pthread_mutex_lock(&v->mutex);
	if (!r->parked) {
		r->parked = true;
		if (--v->nbusy == 0)
			announce(v);
	}
	for (;;) {
		if (exclusive_possible(v))
			exclusive_run(v);
		else if (v->finished || !(v->flags & ~NEED_FRESH))
			break;
		else
			pthread_cond_wait(&v->cond, &v->mutex);
	}
	go = !v->finished;
	runner_not_fresh(v, r);
	if (go) {
		r->parked = false;
		v->nbusy++;
		self = r;
	}
	pthread_mutex_unlock(&v->mutex);
	return go;
}

void vm_finish(struct vm *v)
{
	pthread_mutex_lock(&v->mutex);
	v->finished = true;
	flag_raise(v, NEED_HALT);
	announce(v);
	pthread_mutex_unlock(&v->mutex);
}

/* --- pause and resume --- */

static bool not_changing(struct vm *v, void *ctx UNUSED)
{
	return !v->changer;
}

static void tell_change(struct vm *v, bool running)
{
	size_t n = v->nchanges;

	for (size_t i = 0; i < n; i++) {
		struct change_fn *c = &v->changes[running ? i : n - 1 - i];

		c->fn(c->ctx, running);
	}
}

static bool can_go_on(struct vm *v, void *ctx UNUSED)
{
	return !v->nbusy || !v->reasons || v->changer;
}

/*
 * Brings the machine to where the reasons want it; the mutex is held. A callback that pauses or
 * resumes changes the reasons only: the thread that called it sees to them afterwards. While we
 * wait for the vCPUs anyone may change the reasons, also another callback of the main loop inside
 * our wait: look again after each wait.
 */
static void settle(struct vm *v)
{
	while (v->changer != &thread_id) {
		wait_until(v, not_changing, NULL);
		if (v->running == !v->reasons)
			break;
		if (v->running && v->nbusy) {
			wait_until(v, can_go_on, NULL);
			continue;
		}
		v->changer = &thread_id;
		pthread_mutex_unlock(&v->mutex);
		if (v->running) {
			vm_clock_stop(v->clock);
			tell_change(v, false);
		} else {
			tell_change(v, true);
			vm_clock_start(v->clock);
		}
		pthread_mutex_lock(&v->mutex);
		v->running = !v->running;
		v->changer = NULL;
		announce(v);
	}
	if (v->running && !v->reasons && !v->changer && !v->finished) {
		flag_clear(v, NEED_HALT);
		announce(v);
	}
}

static void settle_posted(void *ctx)
{
	struct vm *v = ctx;

	pthread_mutex_lock(&v->mutex);
	settle(v);
	pthread_mutex_unlock(&v->mutex);
}

static void reason_add(struct vm *v, enum pause_reason r)
{
	v->reasons |= r;
	flag_raise(v, NEED_HALT);
}

void vm_pause(struct vm *v, enum pause_reason r)
{
	assert(!self || self->vm != v);
	pthread_mutex_lock(&v->mutex);
	reason_add(v, r);
	settle(v);
	pthread_mutex_unlock(&v->mutex);
}

void vm_pause_async(struct vm *v, enum pause_reason r)
{
	pthread_mutex_lock(&v->mutex);
	reason_add(v, r);
	pthread_mutex_unlock(&v->mutex);
	loop_post(v->main, settle_posted, v);
}

void vm_resume(struct vm *v, enum pause_reason r)
{
	assert(!self || self->vm != v);
	pthread_mutex_lock(&v->mutex);
	v->reasons &= ~r;
	settle(v);
	pthread_mutex_unlock(&v->mutex);
}

unsigned vm_pause_reasons(struct vm *v)
{
	unsigned reasons;

	pthread_mutex_lock(&v->mutex);
	reasons = v->reasons;
	pthread_mutex_unlock(&v->mutex);
	return reasons;
}

void vm_on_change(struct vm *v, void (*fn)(void *ctx, bool running), void *ctx)
{
	pthread_mutex_lock(&v->mutex);
	v->changes = xrealloc(v->changes, (v->nchanges + 1) * sizeof(*v->changes));
	v->changes[v->nchanges++] = (struct change_fn){ fn, ctx };
	pthread_mutex_unlock(&v->mutex);
}

/* --- requests --- */

/* On the main loop. The guest stands still until the last request is answered. */
static void requests_posted(void *ctx)
{
	struct vm *v = ctx;

	pthread_mutex_lock(&v->mutex);
	if (v->answering) {	/* a pass inside the handler: the one outside goes on */
		pthread_mutex_unlock(&v->mutex);
		return;
	}
	v->answering = true;
	while (v->requests) {
		struct request *r;

		wait_until(v, all_parked, NULL);
		r = v->requests;
		v->requests = r->next;
		if (!v->requests)
			v->request_tail = &v->requests;
		pthread_mutex_unlock(&v->mutex);
		if (v->on_request)
			v->on_request(v->request_ctx, r->what, r->code);
		free(r);
		pthread_mutex_lock(&v->mutex);
	}
	v->answering = false;
	flag_clear(v, NEED_REQUEST);
	announce(v);
	pthread_mutex_unlock(&v->mutex);
}

void vm_request(struct vm *v, enum vm_end what, int code)
{
	struct request *r = xcalloc(1, sizeof(*r));

	r->what = what;
	r->code = code;
	pthread_mutex_lock(&v->mutex);
	*v->request_tail = r;
	v->request_tail = &r->next;
	flag_raise(v, NEED_REQUEST);
	pthread_mutex_unlock(&v->mutex);
	loop_post(v->main, requests_posted, v);
}

void vm_on_request(struct vm *v, void (*fn)(void *ctx, enum vm_end what, int code), void *ctx)
{
	v->on_request = fn;
	v->request_ctx = ctx;
}
