/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * timer.c: the VM clock, and a loop's timers: a binary heap for each clock the loop uses.
 *
 * A heap is guarded by its loop's timer_mutex, a leaf, so any thread can arm. A timer is taken off
 * its heap with the loop's lock AND the timer_mutex held and then called with the lock alone:
 * whoever holds the lock and cancels knows that the callback will not run.
 */
#include <assert.h>
#include <stdlib.h>

#include "vmm/base/loop_impl.h"

struct timer_heap {
	struct vm_clock *clock;
	/* t[1] is the earliest; t[0] unused so that position 0 means "not armed" */
	struct loop_timer **t;
	size_t n, cap;
};

struct vm_clock {
	/*
	 * Running: (vm - host time) << 1 | 1. Stopped: vm time << 1. One word, so that reading
	 * needs no lock.
	 */
	int64_t word;
	pthread_mutex_t mutex;		/* taken before a loop's timer_mutex */
	struct loop **loops;		/* with a heap on this clock */
	size_t nloops;
};

/* --- the clock --- */

struct vm_clock *vm_clock_new(void)
{
	struct vm_clock *c = xcalloc(1, sizeof(*c));

	pthread_mutex_init(&c->mutex, NULL);
	return c;
}

static int64_t clock_at(int64_t word, int64_t host)
{
	return (word >> 1) + (word & 1 ? host : 0);
}

static int64_t clock_word(const struct vm_clock *c)
{
	return __atomic_load_n(&c->word, __ATOMIC_ACQUIRE);
}

int64_t vm_clock_now(const struct vm_clock *c)
{
	int64_t word = clock_word(c);

	return clock_at(word, word & 1 ? now_ns() : 0);
}

static void clock_store(struct vm_clock *c, int64_t value, bool running)
{
	__atomic_store_n(&c->word, (int64_t)((uint64_t)value << 1 | running), __ATOMIC_RELEASE);
}

void vm_clock_stop(struct vm_clock *c)
{
	pthread_mutex_lock(&c->mutex);
	clock_store(c, vm_clock_now(c), false);
	pthread_mutex_unlock(&c->mutex);
}

void vm_clock_start(struct vm_clock *c)
{
	pthread_mutex_lock(&c->mutex);
	if (!(clock_word(c) & 1)) {
		clock_store(c, vm_clock_now(c) - now_ns(), true);
		for (size_t i = 0; i < c->nloops; i++)
			loop_kick(c->loops[i]);
	}
	pthread_mutex_unlock(&c->mutex);
}

void vm_clock_set(struct vm_clock *c, int64_t ns)
{
	pthread_mutex_lock(&c->mutex);
	assert(!(clock_word(c) & 1));
	clock_store(c, ns, false);
	pthread_mutex_unlock(&c->mutex);
}

static void clock_add_loop(struct vm_clock *c, struct loop *l)
{
	pthread_mutex_lock(&c->mutex);
	c->loops = xrealloc(c->loops, (c->nloops + 1) * sizeof(*c->loops));
	c->loops[c->nloops++] = l;
	pthread_mutex_unlock(&c->mutex);
}

static void clock_del_loop(struct vm_clock *c, struct loop *l)
{
	pthread_mutex_lock(&c->mutex);
	for (size_t i = 0; i < c->nloops; i++)
		if (c->loops[i] == l)
			c->loops[i--] = c->loops[--c->nloops];
	pthread_mutex_unlock(&c->mutex);
}

static void heap_free(struct timer_heap *h)
{
	free(h->t);
	free(h);
}

void vm_clock_free(struct vm_clock *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->nloops; i++) {
		struct loop *l = c->loops[i];

		pthread_mutex_lock(&l->timer_mutex);
		for (size_t k = 0; k < l->nheaps; k++) {
			if (l->heaps[k]->clock == c) {
				assert(!l->heaps[k]->n);
				heap_free(l->heaps[k]);
				l->heaps[k--] = l->heaps[--l->nheaps];
			}
		}
		pthread_mutex_unlock(&l->timer_mutex);
	}
	free(c->loops);
	pthread_mutex_destroy(&c->mutex);
	free(c);
}

/* --- heaps --- */

void timers_init(struct loop *l)
{
	pthread_mutex_init(&l->timer_mutex, NULL);
	l->sleeps_until = INT64_MIN;
}

void timers_exit(struct loop *l)
{
	for (size_t i = 0; i < l->nheaps; i++) {
		assert(!l->heaps[i]->n);
		if (l->heaps[i]->clock)
			clock_del_loop(l->heaps[i]->clock, l);
		heap_free(l->heaps[i]);
	}
	free(l->heaps);
	pthread_mutex_destroy(&l->timer_mutex);
}

static struct timer_heap *heap_find(struct loop *l, const struct vm_clock *c)
{
	for (size_t i = 0; i < l->nheaps; i++)
		if (l->heaps[i]->clock == c)
			return l->heaps[i];
	return NULL;
}

static void heap_put(struct timer_heap *h, size_t pos, struct loop_timer *t)
{
	h->t[pos] = t;
	__atomic_store_n(&t->heap_pos, pos, __ATOMIC_RELAXED);
}

static void heap_up(struct timer_heap *h, size_t pos, struct loop_timer *t)
{
	while (pos > 1 && h->t[pos / 2]->deadline > t->deadline) {
		heap_put(h, pos, h->t[pos / 2]);
		pos /= 2;
	}
	heap_put(h, pos, t);
}

static void heap_down(struct timer_heap *h, size_t pos, struct loop_timer *t)
{
	size_t child;

	while ((child = pos * 2) <= h->n) {
		if (child < h->n && h->t[child + 1]->deadline < h->t[child]->deadline)
			child++;
		if (h->t[child]->deadline >= t->deadline)
			break;
		heap_put(h, pos, h->t[child]);
		pos = child;
	}
	heap_put(h, pos, t);
}

static void heap_remove(struct timer_heap *h, struct loop_timer *t)
{
	size_t pos = t->heap_pos;
	struct loop_timer *last = h->t[h->n--];

	__atomic_store_n(&t->heap_pos, 0, __ATOMIC_RELAXED);
	if (last == t)
		return;
	if (pos > 1 && h->t[pos / 2]->deadline > last->deadline)
		heap_up(h, pos, last);
	else
		heap_down(h, pos, last);
}

/* Host time at which the heap's first timer is due; INT64_MAX while its clock stands. */
static int64_t heap_due(const struct timer_heap *h)
{
	int64_t word, deadline, due;

	if (!h->n)
		return INT64_MAX;
	deadline = h->t[1]->deadline;
	if (!h->clock)
		return deadline;
	word = clock_word(h->clock);
	if (!(word & 1))
		return INT64_MAX;
	if (__builtin_sub_overflow(deadline, word >> 1, &due))
		return deadline < 0 ? INT64_MIN : INT64_MAX;
	return due;
}

/* --- timers --- */

void loop_timer_init(struct loop_timer *t, struct loop *l, struct vm_clock *c,
		     void (*cb)(void *ctx), void *ctx)
{
	bool fresh = false;

	*t = (struct loop_timer){ .loop = l, .clock = c, .cb = cb, .ctx = ctx };
	pthread_mutex_lock(&l->timer_mutex);
	if (!heap_find(l, c)) {
		l->heaps = xrealloc(l->heaps, (l->nheaps + 1) * sizeof(*l->heaps));
		l->heaps[l->nheaps] = xcalloc(1, sizeof(**l->heaps));
		l->heaps[l->nheaps++]->clock = c;
		fresh = true;
	}
	pthread_mutex_unlock(&l->timer_mutex);
	if (fresh && c)
		clock_add_loop(c, l);
}

void loop_timer_set(struct loop_timer *t, int64_t deadline_ns)
{
	struct loop *l = t->loop;
	struct timer_heap *h;
	bool kick;

	pthread_mutex_lock(&l->timer_mutex);
	h = heap_find(l, t->clock);
	if (t->heap_pos)
		heap_remove(h, t);
	t->deadline = deadline_ns;
	if (h->n + 1 >= h->cap) {
		h->cap = h->cap ? h->cap * 2 : 16;
		h->t = xrealloc(h->t, h->cap * sizeof(*h->t));
	}
	heap_up(h, ++h->n, t);
	kick = heap_due(h) < l->sleeps_until;
	if (kick)
		l->sleeps_until = INT64_MIN;
	pthread_mutex_unlock(&l->timer_mutex);
	if (kick)
		loop_kick(l);
}

void loop_timer_cancel(struct loop_timer *t)
{
	if (!t->loop)
		return;
	pthread_mutex_lock(&t->loop->timer_mutex);
	if (t->heap_pos)
		heap_remove(heap_find(t->loop, t->clock), t);
	pthread_mutex_unlock(&t->loop->timer_mutex);
}

/* --- the loop's side --- */

int64_t timers_before_sleep(struct loop *l, int64_t max_ns)
{
	int64_t due = INT64_MAX, now;

	pthread_mutex_lock(&l->timer_mutex);
	for (size_t i = 0; i < l->nheaps; i++)
		due = MIN(due, heap_due(l->heaps[i]));
	if (due != INT64_MAX) {
		now = now_ns();
		due = MAX(due, now);
		if (max_ns < 0 || due - now < max_ns)
			max_ns = due - now;
	}
	if (max_ns)
		l->sleeps_until = due;
	pthread_mutex_unlock(&l->timer_mutex);
	return max_ns;
}

void timers_after_sleep(struct loop *l)
{
	pthread_mutex_lock(&l->timer_mutex);
	l->sleeps_until = INT64_MIN;
	pthread_mutex_unlock(&l->timer_mutex);
}

/* Takes the first timer that is due off its heap. */
static struct loop_timer *timer_take(struct loop *l, int64_t now)
{
	struct loop_timer *t = NULL;

	pthread_mutex_lock(&l->timer_mutex);
	for (size_t i = 0; i < l->nheaps && !t; i++) {
		if (heap_due(l->heaps[i]) <= now) {
			t = l->heaps[i]->t[1];
			heap_remove(l->heaps[i], t);
		}
	}
	pthread_mutex_unlock(&l->timer_mutex);
	return t;
}

void timers_run(struct loop *l)
{
	int64_t now = 0, due = INT64_MAX;
	size_t left = 0;

	pthread_mutex_lock(&l->timer_mutex);
	for (size_t i = 0; i < l->nheaps; i++) {
		due = MIN(due, heap_due(l->heaps[i]));
		left += l->heaps[i]->n;
	}
	pthread_mutex_unlock(&l->timer_mutex);
	if (due == INT64_MAX)
		return;
	now = now_ns();
	if (due > now)
		return;
	/*
	 * At most as many as there are: one that arms itself for the past must not keep the rest
	 * out.
	 */
	while (left--) {
		struct loop_timer *t;

		loop_lock(l);
		t = timer_take(l, now);
		if (t)
			t->cb(t->ctx);
		loop_unlock(l);
		if (!t)
			break;
	}
}
