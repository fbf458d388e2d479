/* SPDX-License-Identifier: GPL-2.0-or-later */
/* dgram.c: one frame, one datagram. Never blocks. */
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "net/backend.h"

/* Errors that mean "not this one, but perhaps the next". */
static bool passing(int e)
{
	return e == ECONNREFUSED || e == ENETUNREACH || e == EHOSTUNREACH || e == ENETDOWN ||
	       e == ENOBUFS;
}

ssize_t dgram_send(int fd, const struct sockaddr_in *to, const struct iovec *iov, int niov)
{
	struct msghdr msg = { .msg_iov = (struct iovec *)iov,
			      .msg_iovlen = niov,
			      .msg_name = (void *)to,
			      .msg_namelen = to ? sizeof(*to) : 0 };
	ssize_t len;

	do
		len = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (len < 0 && errno == EINTR);
	return len < 0 ? -errno : len;
}

ssize_t dgram_recv(int fd, struct sockaddr_in *from, const struct iovec *iov, int niov)
{
	struct msghdr msg = { .msg_iov = (struct iovec *)iov, .msg_iovlen = niov, .msg_name = from,
			      .msg_namelen = from ? sizeof(*from) : 0 };
	ssize_t len;

	do
		len = recvmsg(fd, &msg, MSG_DONTWAIT);
	while (len < 0 && (errno == EINTR || passing(errno)));
	if (len < 0)
		return -errno;
	if (len == 0)
		return -EPIPE;
	return msg.msg_flags & MSG_TRUNC ? -EMSGSIZE : len;
}
