/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * queue.c: the asynchronous side of the front. A request goes to the kernel by io_uring when the
 * tree says that it is plainly bytes of a host file, to a worker otherwise, and waits in the
 * queue's `held` list while the front is drained or throttled. A worker that finishes it puts it on
 * `completed` and wakes the loop by one eventfd; the ring's own descriptor tells of the ring's.
 * done() runs on the loop. What the kernel completes while it is submitted (the page cache had it)
 * is done at the end of the batch (blk_unplug), without a turn of the loop.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <linux/magic.h>
#include <sys/eventfd.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "disk/front.h"
#include "disk/pool.h"
#include "disk/uring.h"
#include "vmm/base/iov.h"
#include "vmm/base/log.h"

enum { WRITES_MAX = 32, WRITES_BYTES_MAX = 256 << 10, WRITE_SMALL = 64 << 10 };

static void queue_resume(struct blk_queue *q);
static void ring_event(void *ctx, uint32_t events);

void queue_wake(struct blk_queue *q)
{
	uint64_t one = 1;

	if (write(q->wake_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		log_error("disk queue: eventfd: %s", strerror(errno));
}

/*
 * The request has left the nodes; its done() is the loop's business. Any thread; wake: unless the
 * loop itself looks next.
 */
static void queue_complete(struct blk_req *r, bool wake)
{
	struct blk_queue *q = r->q;
	struct blk_req *old = __atomic_load_n(&q->completed, __ATOMIC_RELAXED);

	do {
		r->next = old;
	} while (!__atomic_compare_exchange_n(&q->completed, &old, r, true, __ATOMIC_RELEASE,
					      __ATOMIC_RELAXED));
	if (!old && wake)
		queue_wake(q);
	/* q may be freed from here on */
	__atomic_sub_fetch(&q->finishing, 1, __ATOMIC_RELEASE);
}

static void request_end(struct blk_req *r, int ret, bool wake)
{
	struct blk *b = r->q->blk;
	struct node *n = r->node;

	r->ret = ret;
	if (n) {
		r->node = NULL;
		if (n->ops->plain_done)
			n->ops->plain_done(n, r->cookie);
	}
	front_account(b, r->op, r->off, r->len, now_ns() - r->start, ret);
	trace(TRACE_BLK, r->id, blk_format(b), "end of %s at %llu, %llu bytes: %s",
	      r->op == BLK_READ	   ? "read"
	      : r->op == BLK_WRITE ? "write"
				   : "request",
	      (unsigned long long)r->off, (unsigned long long)r->len, ret ? strerror(-ret) : "ok");
	__atomic_add_fetch(&r->q->finishing, 1, __ATOMIC_RELAXED);
	front_leave(b);
	queue_complete(r, wake);
}

static void request_work(struct pool_work *w)
{
	struct blk_req *r = container_of(w, struct blk_req, work);
	struct blk *b = r->q->blk;

	request_end(r, front_run(b, r->op, r->flags, r->off, r->iov, r->niov, r->len), true);
}

static void ring_done(struct blk_req *r, int result, bool wake)
{
	if (result >= 0 && (uint64_t)result == r->len) {
		request_end(r, 0, wake);
		return;
	}
	/*
	 * Short (end of file, signal), or an error worth a second try on the slow path, which knows
	 * all the cases.
	 */
	if (r->node->ops->plain_done)
		r->node->ops->plain_done(r->node, r->cookie);
	r->node = NULL;
	pool_submit(&r->work);
}

static void writes_dispatch(struct blk_queue *q);

static void request_ring_done(struct blk_req *r, int result)
{
	ring_done(r, result, true);
}

/* On the loop, which takes what has completed right away. */
static void request_ring_done_here(struct blk_req *r, int result)
{
	ring_done(r, result, false);
}

void queue_reap(struct blk_queue *q)
{
	struct uring *u = __atomic_load_n(&q->ring, __ATOMIC_ACQUIRE);

	/* A drain from the queue's own loop, in the middle of a batch. */
	if (loop_is_current(q->loop)) {
		writes_dispatch(q);
		if (u)
			uring_submit(u);
	}

	if (u)
		uring_reap(u, request_ring_done);
}

/*
 * Plain writes to a buffered file are copies into the page cache, which io_uring hands to a kernel
 * thread one by one. A worker of ours takes all of a batch in one go: one wake-up instead of many,
 * there and back.
 */
static void writes_work(struct pool_work *w)
{
	struct blk_req *first = container_of(w, struct blk_req, work), *r, *next;

	for (r = first; r; r = r->next) {
		struct blk *b = r->q->blk;
		ssize_t n = pwritev(r->fd, r->iov, r->niov, r->fd_off);

		r->ret = 0;
		if (n == (ssize_t)r->len)
			continue;
		/* Short or failed: the slow path knows all the cases. */
		if (r->node->ops->plain_done)
			r->node->ops->plain_done(r->node, r->cookie);
		r->node = NULL;
		r->ret = front_run(b, r->op, r->flags, r->off, r->iov, r->niov, r->len);
	}
	/* All at once: the loop is woken for the first and finds the rest. */
	for (r = first; r; r = next) {
		next = r->next;
		request_end(r, r->ret, true);
	}
}

static void writes_dispatch(struct blk_queue *q)
{
	struct blk_req *first = q->writes;
	bool alone = q->nwrites == 1;

	if (!first)
		return;
	q->writes = NULL;
	q->nwrites = 0;
	q->writes_bytes = 0;
	/*
	 * A single one costs least where the next submission to the ring goes anyway: no thread of
	 * ours is woken, nor wakes us.
	 */
	if (alone && q->ring && uring_add(q->ring, first, first->fd, first->fd_off)) {
		if (!q->plugged)
			uring_submit(q->ring);
		return;
	}
	first->work.fn = writes_work;
	pool_submit(&first->work);
}

static void writes_add(struct blk_queue *q, struct blk_req *r)
{
	if (!q->writes)
		q->writes_tail = &q->writes;
	r->next = NULL;
	*q->writes_tail = r;
	q->writes_tail = &r->next;
	q->nwrites++;
	q->writes_bytes += r->len;
	if (!q->plugged || q->nwrites >= WRITES_MAX || q->writes_bytes >= WRITES_BYTES_MAX)
		writes_dispatch(q);
}

/*
 * A file in memory has no disk to wait for: a small transfer is a copy, cheaper than handing it to
 * anybody (io_uring would give it to a kernel thread). False: short or failed, or not such a file.
 */
static bool request_copy(struct blk_queue *q, struct blk_req *r)
{
	struct statfs fs;
	ssize_t n;

	if (!q->batch || !q->plugged || r->len > WRITE_SMALL || r->node->request_align > 1)
		return false;
	if (q->memory_fd != r->fd) {
		q->memory_fd = r->fd;
		q->memory = fstatfs(r->fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
	}
	if (!q->memory)
		return false;
	n = r->op == BLK_WRITE ? pwritev(r->fd, r->iov, r->niov, r->fd_off)
			       : preadv(r->fd, r->iov, r->niov, r->fd_off);
	if (n != (ssize_t)r->len)
		return false;
	request_end(r, 0, false);		/* done() runs at the unplug */
	return true;
}

static bool request_plain(struct blk_queue *q, struct blk_req *r)
{
	struct blk *b = q->blk;
	struct node *n = b->root;
	int plain;

	if ((r->op != BLK_READ && r->op != BLK_WRITE) || !n->ops->plain || n->inactive ||
	    r->niov > 1024)
		return false;
	if (r->op == BLK_WRITE &&
	    ((r->flags & BLK_FUA) || (b->flags & (BLK_WRITETHROUGH | BLK_DETECT_ZEROES))))
		return false;
	if (n->request_align > 1 && (((r->off | r->len) & (n->request_align - 1)) ||
				     !iov_aligned(r->iov, r->niov, n->request_align)))
		return false;
	if (r->len == 0 || r->len > INT32_MAX)
		return false;
	if (!q->ring_tried) {
		q->ring_tried = true;
		__atomic_store_n(&q->ring, uring_new(), __ATOMIC_RELEASE);
		if (q->ring)
			q->ring_watch = loop_fd_add(q->loop, uring_fd(q->ring), EPOLLIN, ring_event,
						    q);
	}
	plain = n->ops->plain(n, r->off, r->len, r->op == BLK_WRITE, &r->fd, &r->fd_off,
			      &r->cookie);
	if (plain < 0)
		return false;
	if (plain > 0) {
		iov_zero(r->iov, r->niov, 0, r->len);
		request_end(r, 0, !q->batch || !q->plugged);
		return true;
	}
	r->node = n;
	if (request_copy(q, r))
		return true;
	if (r->op == BLK_WRITE && n->request_align == 1 && r->len <= WRITE_SMALL) {
		writes_add(q, r);
		return true;
	}
	if (!q->ring || !uring_add(q->ring, r, r->fd, r->fd_off)) {
		if (n->ops->plain_done)
			n->ops->plain_done(n, r->cookie);
		r->node = NULL;
		return false;
	}
	if (!q->plugged)
		uring_submit(q->ring);
	return true;
}

/* False: not now (drained, throttled); it stays with the caller. */
static bool request_start(struct blk_queue *q, struct blk_req *r)
{
	struct blk *b = q->blk;
	int64_t again;

	if (!front_enter(b))
		return false;
	again = throttle_take(b, r->op, r->len);
	if (again) {
		front_leave(b);
		loop_timer_set(&q->throttle_timer, again);
		return false;
	}
	r->start = now_ns();
	if (!request_plain(q, r))
		pool_submit(&r->work);
	return true;
}

void blk_submit(struct blk_queue *q, struct blk_req *r)
{
	r->q = q;
	r->node = NULL;
	r->work.fn = request_work;
	trace(TRACE_BLK, r->id, blk_format(q->blk), "%s at %llu, %llu bytes",
	      r->op == BLK_READ	     ? "read"
	      : r->op == BLK_WRITE   ? "write"
	      : r->op == BLK_FLUSH   ? "flush"
	      : r->op == BLK_DISCARD ? "discard"
				     : "zeroes",
	      (unsigned long long)r->off, (unsigned long long)r->len);
	if (!q->held && request_start(q, r))
		return;
	r->next = NULL;
	*q->held_tail = r;
	q->held_tail = &r->next;
}

static void queue_resume(struct blk_queue *q)
{
	while (q->held) {
		struct blk_req *r = q->held, *next = r->next;

		if (!request_start(q, r))
			return;
		q->held = next;
		if (!next)
			q->held_tail = &q->held;
	}
}

static void queue_throttle_over(void *ctx)
{
	struct blk_queue *q = ctx;

	blk_plug(q);
	queue_resume(q);
	blk_unplug(q);
}

/*
 * One round: done() of everything that has ended, oldest first, then let go what was held. False
 * when there was nothing.
 */
static bool queue_round(struct blk_queue *q)
{
	struct blk_req *r, *list = NULL;
	bool any;

	if (q->ring)
		uring_reap(q->ring, request_ring_done_here);
	r = __atomic_exchange_n(&q->completed, NULL, __ATOMIC_ACQUIRE);
	any = r;
	while (r) {
		struct blk_req *next = r->next;

		r->next = list;
		list = r;
		r = next;
	}
	blk_plug(q);
	while (list) {
		r = list;
		list = r->next;
		r->done(r);
	}
	queue_resume(q);
	blk_unplug(q);
	return any;
}

/* then others get their turn; the ring's descriptor stays readable */
enum { ROUNDS = 8 };

static void queue_run(struct blk_queue *q)
{
	if (q->running)
		return;
	q->running = true;
	for (int i = 0; i < ROUNDS; i++)
		if (!queue_round(q))
			break;
	if (__atomic_load_n(&q->completed, __ATOMIC_RELAXED))
		queue_wake(q);		/* what a round's own submissions finished */
	q->running = false;
	if (q->batch)
		q->batch(q->batch_ctx);
}

static void wake_event(void *ctx, uint32_t events)
{
	struct blk_queue *q = ctx;
	uint64_t count;

	if (read(q->wake_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		log_error("disk queue: eventfd: %s", strerror(errno));
	queue_run(q);
}

static void ring_event(void *ctx, uint32_t events)
{
	queue_run(ctx);
}

void blk_queue_on_batch(struct blk_queue *q, void (*fn)(void *ctx), void *ctx)
{
	q->batch = fn;
	q->batch_ctx = ctx;
}

struct blk_queue *blk_queue_new(struct blk *b, struct loop *l)
{
	struct blk_queue *q = xcalloc(1, sizeof(*q));

	q->blk = b;
	q->loop = l;
	q->held_tail = &q->held;
	q->memory_fd = -1;
	q->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (q->wake_fd < 0) {
		log_error("disk queue: eventfd: %s", strerror(errno));
		free(q);
		return NULL;
	}
	/*
	 * Level triggered: a callback that waits in loop_wait for a request (a reset) must see this
	 * event again when the pass around it has taken it already.
	 */
	q->wake = loop_fd_add(l, q->wake_fd, EPOLLIN, wake_event, q);
	loop_timer_init(&q->throttle_timer, l, NULL, queue_throttle_over, q);
	pthread_mutex_lock(&b->lock);
	q->next = b->queues;
	b->queues = q;
	pthread_mutex_unlock(&b->lock);
	return q;
}

void blk_queue_free(struct blk_queue *q)
{
	struct blk *b;

	if (!q)
		return;
	b = q->blk;
	pthread_mutex_lock(&b->lock);
	while (q->reaping)
		pthread_cond_wait(&b->idle, &b->lock);
	for (struct blk_queue **p = &b->queues; *p; p = &(*p)->next)
		if (*p == q) {
			*p = q->next;
			break;
		}
	pthread_mutex_unlock(&b->lock);
	loop_timer_cancel(&q->throttle_timer);
	loop_fd_del(q->wake);
	loop_fd_del(q->ring_watch);
	/* A worker may still be between handing over its last request and the end of that call. */
	while (__atomic_load_n(&q->finishing, __ATOMIC_ACQUIRE))
		sched_yield();
	uring_free(q->ring);
	close(q->wake_fd);
	free(q);
}

void blk_plug(struct blk_queue *q)
{
	q->plugged++;
}

void blk_unplug(struct blk_queue *q)
{
	if (--q->plugged)
		return;
	writes_dispatch(q);
	if (q->ring)
		uring_submit(q->ring);
	if (q->batch &&
	    ((q->ring && uring_ready(q->ring)) || __atomic_load_n(&q->completed, __ATOMIC_RELAXED)))
		queue_run(q);
}
