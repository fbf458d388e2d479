/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire.h: what a machine and its parent say to each other, over one SOCK_SEQPACKET pair.
 *
 * The machine asks: one message a wish, with the descriptors the wish is about and before them one
 * end of a socket pair of its own, on which the answer comes, and then the end of file: the parent
 * holds none of the descriptors any more. So any thread may ask at any time, and an answer that
 * does not come is an end of file, too. The parent says on its own: a signal that came for the
 * machine.
 * End of file on the pair itself: the other one is gone.
 *
 * Both sides take no length, count or text of the other on trust.
 */
#ifndef VMM_PARENT_WIRE_H
#define VMM_PARENT_WIRE_H

#include "vmm/base/host.h"

#define WIRE_MAX 32768		/* a request: two paths of 4096 and a command line */
#define WIRE_ARGS 64
#define WIRE_FDS 3		/* the answer's socket and two */

/* Wishes beside those of struct host. */
enum wire_op {
	WIRE_PREPARE = HOST_OPS,	/* the machine stands: pid file; a failure ends the start */
	WIRE_READY,			/* it runs: tell whoever waits for that */
	WIRE_OPS
};

struct wire_request {
	uint32_t op, origin;
	int32_t flags, mode;
	uint32_t argc;
	uint8_t has_fd, has_fd2, pad[2];
	struct ifreq ifr;
	/*
	 * from, purpose, name, other and argv, one after the other: each a byte 1 and its
	 * characters with the NUL, or a byte 0 for none.
	 */
};
struct wire_answer {
	int32_t ret, status;
	uint8_t has_fd, has_pin, pad[6];
	union {
		struct stat st;
		struct ifreq ifr;
		struct sockaddr_in in;
		char text[128];
	};
	char why[sizeof(((struct err *)0)->msg)];
};
struct wire_signal {
	int32_t signal;
};

/* A call with room for what it points to. */
struct wire_call {
	struct host_call c;
	char buf[WIRE_MAX];
	size_t len;
	char *argv[WIRE_ARGS + 1];
	bool has_fd, has_fd2;		/* of the descriptors that came along */
};

/* w->buf, w->len become the message. 0, or -E2BIG. */
int wire_pack(struct wire_call *w, const struct host_call *c);
/* w->c becomes what w->buf says; it points into w. 0, or -EPROTO: nothing in it is to be used. */
int wire_unpack(struct wire_call *w);

/*
 * One message with up to WIRE_FDS descriptors (nfds: room, then how many). Received ones are
 * close-on-exec and the caller's. Length, 0 at the other's end, or -errno; a message that is cut
 * off is -EPROTO.
 */
int wire_send(int sock, const void *buf, size_t len, const int *fds, int nfds, int flags);
int wire_recv(int sock, void *buf, size_t len, int *fds, int *nfds, int flags);

#endif
