/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * uring.c: one io_uring for each queue. The loop's thread fills it and submits; completions are
 * taken by the loop, or by a thread that drains the front while the loop stands still: hence the
 * lock around the completion side.
 */
#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <stdlib.h>

#include "disk/uring.h"
#include "vmm/base/log.h"

enum { ENTRIES = 256 };

struct uring {
	struct io_uring ring;
	/* atomic; at most ENTRIES, so the completion queue cannot overflow */
	unsigned inflight;
	unsigned added;
	pthread_mutex_t submit_lock, reap_lock;
};

struct uring *uring_new(void)
{
	struct uring *u = xcalloc(1, sizeof(*u));
	int ret = io_uring_queue_init(ENTRIES, &u->ring, 0);

	if (!ret) {
		pthread_mutex_init(&u->submit_lock, NULL);
		pthread_mutex_init(&u->reap_lock, NULL);
		return u;
	}
	log_debug("io_uring is not available (%s): disk requests run on threads", strerror(-ret));
	free(u);
	return NULL;
}

void uring_free(struct uring *u)
{
	if (!u)
		return;
	io_uring_queue_exit(&u->ring);
	pthread_mutex_destroy(&u->submit_lock);
	pthread_mutex_destroy(&u->reap_lock);
	free(u);
}

int uring_fd(const struct uring *u)
{
	return u->ring.ring_fd;
}

bool uring_ready(const struct uring *u)
{
	return io_uring_cq_ready(&u->ring);
}

bool uring_add(struct uring *u, struct blk_req *r, int fd, uint64_t fd_off)
{
	struct io_uring_sqe *sqe = NULL;

	pthread_mutex_lock(&u->submit_lock);
	if (__atomic_load_n(&u->inflight, __ATOMIC_RELAXED) < ENTRIES)
		sqe = io_uring_get_sqe(&u->ring);
	if (sqe) {
		if (r->op == BLK_WRITE)
			io_uring_prep_writev(sqe, fd, r->iov, r->niov, fd_off);
		else
			io_uring_prep_readv(sqe, fd, r->iov, r->niov, fd_off);
		io_uring_sqe_set_data(sqe, r);
		/*
		 * Pairs with the one in uring_reap: a request may be ended by another thread, and
		 * the kernel is between.
		 */
		__atomic_add_fetch(&u->inflight, 1, __ATOMIC_RELEASE);
		u->added++;
	}
	pthread_mutex_unlock(&u->submit_lock);
	return sqe;
}

void uring_submit(struct uring *u)
{
	pthread_mutex_lock(&u->submit_lock);
	while (u->added) {
		int ret = io_uring_submit(&u->ring);

		if (ret > 0)
			u->added -= MIN((unsigned)ret, u->added);
		else if (ret != -EINTR && ret != -EAGAIN && ret != -EBUSY)
			/* cannot happen with a ring that was set up; the requests stay in it */
			break;
	}
	pthread_mutex_unlock(&u->submit_lock);
}

void uring_reap(struct uring *u, void (*fn)(struct blk_req *r, int result))
{
	struct io_uring_cqe *cqe;

	pthread_mutex_lock(&u->reap_lock);
	while (io_uring_peek_cqe(&u->ring, &cqe) == 0) {
		struct blk_req *r = io_uring_cqe_get_data(cqe);
		int result = cqe->res;

		io_uring_cqe_seen(&u->ring, cqe);
		__atomic_sub_fetch(&u->inflight, 1, __ATOMIC_ACQ_REL);
		fn(r, result);
	}
	pthread_mutex_unlock(&u->reap_lock);
}
