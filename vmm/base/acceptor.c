/* SPDX-License-Identifier: GPL-2.0-or-later */
/* acceptor.c: a listening socket that rests while there are no descriptors. Its loop, lock held. */
#include <errno.h>
#include <sys/socket.h>

#include "vmm/base/acceptor.h"
#include "vmm/base/limits.h"
#include "vmm/base/log.h"

bool accept_exhausted(int errnum)
{
	return errnum == EMFILE || errnum == ENFILE || errnum == ENOMEM || errnum == ENOBUFS;
}

static void rested(void *ctx)
{
	struct acceptor *a = ctx;

	loop_fd_mod(a->watch, EPOLLIN);
}

static void incoming(void *ctx, uint32_t events)
{
	struct acceptor *a = ctx;
	int fd = accept4(a->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0) {
		a->peer(a->ctx, fd);
		return;
	}
	if (!accept_exhausted(errno))
		return;
	log_host("%s: a peer has to wait: %s (see ulimit -n)", a->what, strerror(errno));
	loop_fd_mod(a->watch, 0);
	loop_timer_set(&a->rest, now_ns() + ACCEPT_REST_NS);
}

int acceptor_start(struct acceptor *a, struct loop *loop)
{
	a->loop = loop;
	loop_timer_init(&a->rest, loop, NULL, rested, a);
	a->watch = loop_fd_add(loop, a->fd, EPOLLIN, incoming, a);
	return a->watch ? 0 : -errno;
}

void acceptor_stop(struct acceptor *a)
{
	if (!a->watch)
		return;
	loop_timer_cancel(&a->rest);
	loop_fd_del(a->watch);
	a->watch = NULL;
}
