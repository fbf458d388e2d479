/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * acceptor.h: a listening socket on a loop. When the process has no descriptor left for a peer, the
 * peer waits in the kernel's queue and the listener rests (limits.h) instead of waking the loop
 * again at once, for ever.
 */
#ifndef VMM_BASE_ACCEPTOR_H
#define VMM_BASE_ACCEPTOR_H

#include "vmm/base/loop.h"

struct acceptor {
	int fd;				/* borrowed */
	const char *what;		/* for messages; borrowed */
	void (*peer)(void *ctx, int fd);
	void *ctx;
	/* acceptor.c's */
	struct loop *loop;
	struct loop_fd *watch;
	struct loop_timer rest;
};

/* Whether accept failed because nothing is left to take a peer with: it is worth waiting for. */
bool accept_exhausted(int errnum);

/*
 * fd, what, peer and ctx are set; peer gets each connection (close-on-exec, non-blocking), which is
 * its own from then on. The loop's lock, or before it runs. 0 or -errno.
 */
int acceptor_start(struct acceptor *a, struct loop *loop);
/* Idempotent; fd is the caller's to close. */
void acceptor_stop(struct acceptor *a);

#endif
