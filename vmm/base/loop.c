/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loop.c: the epoll loop: descriptors, posted calls, the lock and waiting. Timers are in timer.c.
 *
 * One thread at a time is the loop's runner. Everything a callback may touch is guarded by the
 * loop's lock; the queue of posted calls and the timer heaps have leaf locks of their own, so that
 * any thread can post and arm without the loop's lock.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/base/loop_impl.h"

#define LOOP_BATCH 64		/* events taken from the kernel at once */
#define APART_NS (10 * NS_PER_MS)	/* how often poll() looks at what epoll did not take */

struct loop_fd {
	struct loop *loop;
	int fd;
	uint32_t events;
	void (*cb)(void *ctx, uint32_t events);
	void *ctx;
	bool polled;		/* in the epoll set */
	bool apart;		/* epoll did not take it: poll() looks at it in each pass */
	bool dead;
	struct loop_fd *next;	/* in the list of those apart, then of dead ones */
};

struct loop_post {
	void (*fn)(void *ctx);
	void *ctx;
	struct loop_post *next;
};

/* The address of this variable names the thread. */
static __thread char thread_id;

/* --- life --- */

struct loop *loop_new(const char *name)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	struct loop *l = xcalloc(1, sizeof(*l));

	snprintf(l->name, sizeof(l->name), "%s", name);
	pthread_mutex_init(&l->mutex, NULL);
	pthread_cond_init(&l->cond, NULL);
	pthread_mutex_init(&l->post_mutex, NULL);
	l->post_tail = &l->posts;
	timers_init(l);
	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	l->wakefd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	/* Edge triggered: each write wakes once and nobody needs to read. */
	if (l->epfd < 0 || l->wakefd < 0 || epoll_ctl(l->epfd, EPOLL_CTL_ADD, l->wakefd, &ev)) {
		fprintf(stderr, "cannot make an event loop: %s (see ulimit -n)\n", strerror(errno));
		exit(1);
	}
	return l;
}

static void loop_reap(struct loop *l)
{
	while (l->dead) {
		struct loop_fd *f = l->dead;

		l->dead = f->next;
		free(f);
	}
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	assert(!l->nfds && !__atomic_load_n(&l->runner, __ATOMIC_RELAXED));
	loop_reap(l);
	while (l->posts) {
		struct loop_post *p = l->posts;

		l->posts = p->next;
		free(p);
	}
	timers_exit(l);
	close(l->wakefd);
	close(l->epfd);
	pthread_mutex_destroy(&l->post_mutex);
	pthread_cond_destroy(&l->cond);
	pthread_mutex_destroy(&l->mutex);
	free(l);
}

/* --- the lock --- */

void loop_lock(struct loop *l)
{
	if (__atomic_load_n(&l->owner, __ATOMIC_RELAXED) == &thread_id) {
		l->depth++;
		return;
	}
	pthread_mutex_lock(&l->mutex);
	__atomic_store_n(&l->owner, &thread_id, __ATOMIC_RELAXED);
	l->depth = 1;
}

void loop_unlock(struct loop *l)
{
	assert(l->owner == &thread_id);
	if (--l->depth)
		return;
	__atomic_store_n(&l->owner, NULL, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&l->mutex);
}

bool loop_is_locked(struct loop *l)
{
	return __atomic_load_n(&l->owner, __ATOMIC_RELAXED) == &thread_id;
}

/* Gives the lock up however often this thread holds it; the depth to restore. */
static unsigned lock_drop(struct loop *l)
{
	unsigned depth = l->depth;

	assert(l->owner == &thread_id);
	__atomic_store_n(&l->owner, NULL, __ATOMIC_RELAXED);
	l->depth = 0;
	return depth;
}

static void lock_restore(struct loop *l, unsigned depth)
{
	__atomic_store_n(&l->owner, &thread_id, __ATOMIC_RELAXED);
	l->depth = depth;
}

bool loop_is_current(struct loop *l)
{
	return __atomic_load_n(&l->runner, __ATOMIC_RELAXED) == &thread_id;
}

/* --- waking and posting --- */

void loop_kick(struct loop *l)
{
	uint64_t one = 1;

	/* Cannot fail but by a full counter, which wakes as well. */
	if (write(l->wakefd, &one, sizeof(one)) < 0)
		assert(errno == EAGAIN);
}

void loop_post(struct loop *l, void (*fn)(void *ctx), void *ctx)
{
	struct loop_post *p = xcalloc(1, sizeof(*p));
	bool first;

	p->fn = fn;
	p->ctx = ctx;
	pthread_mutex_lock(&l->post_mutex);
	first = !l->posts;
	*l->post_tail = p;
	l->post_tail = &p->next;
	__atomic_add_fetch(&l->nposts, 1, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&l->post_mutex);
	/* The runner looks at the queue before it sleeps. */
	if (first && !loop_is_current(l))
		loop_kick(l);
}

static struct loop_post *post_take(struct loop *l)
{
	struct loop_post *p;

	pthread_mutex_lock(&l->post_mutex);
	p = l->posts;
	if (p) {
		l->posts = p->next;
		if (!l->posts)
			l->post_tail = &l->posts;
		__atomic_sub_fetch(&l->nposts, 1, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&l->post_mutex);
	return p;
}

/* --- descriptors --- */

/*
 * epoll reports errors and hang-ups even for an empty mask: a descriptor nobody listens to must
 * leave the set.
 */
static void fd_update(struct loop_fd *f, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = f };
	int op = !f->polled ? EPOLL_CTL_ADD : events ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;

	f->events = events;
	if (f->apart || (!f->polled && !events))
		return;
	if (epoll_ctl(f->loop->epfd, op, f->fd, &ev) == 0) {
		f->polled = events != 0;
	} else if (op == EPOLL_CTL_ADD) {
		assert(errno != EBADF);
		/*
		 * A regular file, or the host is out of watches or memory: poll() serves it, and
		 * nobody has to cope with a descriptor that is not watched.
		 */
		f->apart = true;
		f->next = f->loop->apart;
		f->loop->apart = f;
		loop_kick(f->loop);
	}
}

struct loop_fd *loop_fd_add(struct loop *l, int fd, uint32_t events,
			    void (*cb)(void *ctx, uint32_t events), void *ctx)
{
	struct loop_fd *f = xcalloc(1, sizeof(*f));

	f->loop = l;
	f->fd = fd;
	f->cb = cb;
	f->ctx = ctx;
	fd_update(f, events);
	l->nfds++;
	return f;
}

void loop_fd_mod(struct loop_fd *f, uint32_t events)
{
	if (events == f->events)
		return;
	fd_update(f, events);
	if (f->apart && events)
		loop_kick(f->loop);
}

void loop_fd_del(struct loop_fd *f)
{
	struct loop *l;

	if (!f)
		return;
	l = f->loop;
	fd_update(f, 0);
	if (f->apart) {
		struct loop_fd **at = &l->apart;

		while (*at != f)
			at = &(*at)->next;
		*at = f->next;
	}
	/* The runner may hold an event that points here: it frees f when it holds none. */
	f->dead = true;
	f->next = l->dead;
	l->dead = f;
	l->nfds--;
}

static void fd_dispatch(struct loop *l, struct loop_fd *f, uint32_t events)
{
	loop_lock(l);
	if (!f->dead) {
		/* The mask may have shrunk since the kernel filled this event in. */
		events &= f->events | (f->events ? EPOLLERR | EPOLLHUP : 0);
		if (events)
			f->cb(f->ctx, events);
	}
	loop_unlock(l);
}

/* What of its mask a descriptor outside epoll is ready for. */
static uint32_t apart_ready(const struct loop_fd *f)
{
	struct pollfd p = { .fd = f->fd, .events = f->events & (EPOLLIN | EPOLLOUT) };

	return f->events && poll(&p, 1, 0) > 0 ? (uint32_t)p.revents & ~POLLNVAL : 0;
}

static void apart_dispatch(struct loop *l)
{
	struct loop_fd *batch[LOOP_BATCH];
	uint32_t ready[LOOP_BATCH];
	int n = 0;

	loop_lock(l);
	for (struct loop_fd *f = l->apart; f && n < LOOP_BATCH; f = f->next)
		if ((ready[n] = apart_ready(f)))
			batch[n++] = f;
	loop_unlock(l);
	for (int i = 0; i < n; i++)
		fd_dispatch(l, batch[i], ready[i]);
}

/* --- running --- */

/*
 * Frees dead entries while no event can point to them. How long a pass may sleep on account of
 * descriptors that epoll does not watch: 0 when one is ready, -1 when there is none.
 */
static int64_t pass_prepare(struct loop *l)
{
	int64_t max_ns = -1;

	loop_lock(l);
	if (!l->nesting)
		loop_reap(l);
	for (struct loop_fd *f = l->apart; f && max_ns; f = f->next)
		if (f->events)
			max_ns = apart_ready(f) ? 0 : APART_NS;
	loop_unlock(l);
	return max_ns;
}

static int pass_sleep(struct loop *l, struct epoll_event *ev, int64_t ns)
{
	static bool no_pwait2;		/* Linux before 5.11 */
	struct timespec ts = { ns / NS_PER_SEC, ns % NS_PER_SEC };
	int n;

	if (!__atomic_load_n(&no_pwait2, __ATOMIC_RELAXED)) {
		n = epoll_pwait2(l->epfd, ev, LOOP_BATCH, ns < 0 ? NULL : &ts, NULL);
		if (n >= 0 || errno != ENOSYS)
			return n;
		__atomic_store_n(&no_pwait2, true, __ATOMIC_RELAXED);
	}
	return epoll_wait(l->epfd, ev, LOOP_BATCH,
			  ns < 0 ? -1 : (int)MIN((ns + NS_PER_MS - 1) / NS_PER_MS, 60000));
}

/*
 * One pass: sleep at most max_ns (-1: for ever), then run what is ready. On the runner, lock not
 * held.
 */
static void loop_pass(struct loop *l, int64_t max_ns)
{
	UNINITIALIZED struct epoll_event ev[LOOP_BATCH];
	int64_t apart_ns = pass_prepare(l);
	int n, posts;

	if (__atomic_load_n(&l->nposts, __ATOMIC_RELAXED))
		max_ns = 0;
	else if (apart_ns >= 0)
		max_ns = max_ns < 0 ? apart_ns : MIN(max_ns, apart_ns);
	n = pass_sleep(l, ev, timers_before_sleep(l, max_ns));
	timers_after_sleep(l);

	__atomic_store_n(&l->turn, l->turn + 1, __ATOMIC_RELAXED);
	l->nesting++;
	/* As many as there are now: a call that posts itself again must not keep the rest out. */
	for (posts = __atomic_load_n(&l->nposts, __ATOMIC_RELAXED); posts > 0; posts--) {
		struct loop_post *p = post_take(l);

		if (!p)
			break;
		loop_lock(l);
		p->fn(p->ctx);
		loop_unlock(l);
		free(p);
	}
	timers_run(l);
	for (int i = 0; i < n; i++)
		if (ev[i].data.ptr)
			fd_dispatch(l, ev[i].data.ptr, ev[i].events);
	if (apart_ns >= 0)
		apart_dispatch(l);
	l->nesting--;
	if (__atomic_load_n(&l->waiters, __ATOMIC_RELAXED)) {
		loop_lock(l);
		pthread_cond_broadcast(&l->cond);
		loop_unlock(l);
	}
}

uint64_t loop_turn(const struct loop *l)
{
	return __atomic_load_n(&l->turn, __ATOMIC_RELAXED);
}

static void *runner_get(struct loop *l)
{
	return __atomic_load_n(&l->runner, __ATOMIC_RELAXED);
}

static void runner_set(struct loop *l, void *who)
{
	__atomic_store_n(&l->runner, who, __ATOMIC_RELAXED);
}

/* Sleeps until the end of somebody's pass; the lock is held before and after. */
static void cond_sleep(struct loop *l)
{
	unsigned depth = lock_drop(l);

	__atomic_add_fetch(&l->waiters, 1, __ATOMIC_RELAXED);
	pthread_cond_wait(&l->cond, &l->mutex);
	__atomic_sub_fetch(&l->waiters, 1, __ATOMIC_RELAXED);
	lock_restore(l, depth);
}

/*
 * Become the runner; true when this thread was not before. A loop nobody runs is run by whoever
 * waits for it.
 */
static bool runner_claim(struct loop *l)
{
	if (loop_is_current(l))
		return false;
	loop_lock(l);
	while (runner_get(l))
		cond_sleep(l);
	runner_set(l, &thread_id);
	loop_unlock(l);
	return true;
}

static void runner_release(struct loop *l)
{
	loop_lock(l);
	runner_set(l, NULL);
	pthread_cond_broadcast(&l->cond);
	loop_unlock(l);
}

void loop_run(struct loop *l)
{
	bool claimed = runner_claim(l);

	while (!__atomic_load_n(&l->stop, __ATOMIC_ACQUIRE))
		loop_pass(l, -1);
	__atomic_store_n(&l->stop, false, __ATOMIC_RELAXED);
	if (claimed)
		runner_release(l);
}

void loop_once(struct loop *l, int timeout_ms)
{
	bool claimed = runner_claim(l);

	loop_pass(l, timeout_ms < 0 ? -1 : timeout_ms * NS_PER_MS);
	if (claimed)
		runner_release(l);
}

void loop_stop(struct loop *l)
{
	__atomic_store_n(&l->stop, true, __ATOMIC_RELEASE);
	loop_kick(l);
}

void loop_set_patient(struct loop *l)
{
	assert(!l->has_thread);
	l->patient = true;
}

static void *loop_thread(void *arg)
{
	struct sched_param none = { 0 };
	struct loop *l = arg;

	pthread_setname_np(pthread_self(), l->name);
	/* Whoever gave this process another policy than the ordinary one knows better. */
	if (l->patient && sched_getscheduler(0) == SCHED_OTHER)
		sched_setscheduler(0, SCHED_BATCH, &none);
	__atomic_store_n(&l->tid, gettid(), __ATOMIC_RELAXED);
	runner_set(l, &thread_id);
	loop_run(l);
	runner_release(l);
	return NULL;
}

int loop_thread_id(struct loop *l)
{
	return __atomic_load_n(&l->tid, __ATOMIC_RELAXED);
}

int loop_thread_start(struct loop *l)
{
	sigset_t all, old;
	int ret;

	assert(!runner_get(l) && !l->has_thread);
	/* Nobody may claim the loop while its thread is on the way: any name but NULL will do. */
	runner_set(l, l);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);	/* signals are the main thread's */
	ret = pthread_create(&l->thread, NULL, loop_thread, l);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret)
		runner_set(l, NULL);
	l->has_thread = !ret;
	return -ret;
}

void loop_thread_join(struct loop *l)
{
	if (!l->has_thread)
		return;
	loop_stop(l);
	pthread_join(l->thread, NULL);
	l->has_thread = false;
	__atomic_store_n(&l->stop, false, __ATOMIC_RELAXED);
}

/* --- waiting --- */

void loop_wait(struct loop *l, bool (*done)(void *ctx), void *ctx)
{
	bool run = loop_is_current(l), claimed = false;

	assert(loop_is_locked(l));
	while (!done(ctx)) {
		if (!run && !runner_get(l)) {
			runner_set(l, &thread_id);
			run = claimed = true;
		}
		if (run) {
			unsigned depth = lock_drop(l);

			pthread_mutex_unlock(&l->mutex);
			loop_pass(l, -1);
			pthread_mutex_lock(&l->mutex);
			lock_restore(l, depth);
		} else {
			cond_sleep(l);
		}
	}
	if (claimed)
		runner_release(l);
}

/* The end of the pass this causes wakes whoever sleeps in loop_wait. */
void loop_wake(struct loop *l)
{
	loop_kick(l);
}
