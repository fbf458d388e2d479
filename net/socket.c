/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * socket.c: frames to another VM's socket. Stream sockets (listen=, connect=) put a 32-bit
 * big-endian length before each frame; udp= and mcast= carry one frame a datagram. Both are what
 * QEMU's -net socket speaks, so the two can talk. One queue; everything here runs on its loop.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/backend.h"
#include "vmm/base/acceptor.h"
#include "vmm/base/limits.h"
#include "vmm/base/fdset.h"
#include "vmm/base/log.h"

#define SOCKET_KNOWN                                                                               \
	"listen=[HOST]:PORT or unix:PATH, connect=HOST:PORT or unix:PATH, mcast=ADDR:PORT, "       \
	"udp=HOST:PORT, localaddr=, fd="

#define PASSED_OVER 16		/* datagrams that are no frames, for each one asked for */

struct sock {
	int fd;				/* the connection, or the datagram socket; -1: none yet */
	int listen_fd;			/* -1: this side connected */
	struct host_path own;		/* of a unix socket that listens */
	bool resting;			/* no descriptor for a peer: look again when rest is over */
	struct loop_timer rest;
	char *what;			/* "listen=:1234" */
	/* stream: the frame being received, and what the peer has not taken of the last one sent */
	uint8_t rx_head[4], *rx, *tx;
	uint32_t rx_have, rx_len;	/* of header and frame together */
	uint32_t tx_at, tx_len;
	/* datagram */
	bool filter;			/* multicast: leave out what we sent */
	bool seqpacket;			/* a read of nothing is the end, not an empty datagram */
	int send_fd;
	struct sockaddr_in to, self;
};

/* --- stream --- */

static void stream_hangup(struct net *n, unsigned q)
{
	struct sock *s = n->priv;

	if (s->fd < 0)
		return;
	if (s->listen_fd < 0) {
		net_broken(n, 0, "the peer closed the connection");
		return;
	}
	log_info("%s: the peer closed the connection; waiting for another on %s", n->id, s->what);
	close(s->fd);
	s->fd = -1;
	s->rx_have = s->tx_len = 0;
	net_fd_changed(n, 0);
}

static void rested(void *ctx)
{
	struct net *n = ctx;

	((struct sock *)n->priv)->resting = false;
	net_fd_changed(n, 0);
}

static void stream_accept(struct net *n)
{
	struct sock *s = n->priv;
	int on = 1;

	s->fd = accept4(s->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (s->fd < 0 && accept_exhausted(errno)) {
		log_host("%s: a peer has to wait: %s (see ulimit -n)", n->id, strerror(errno));
		s->resting = true;
		net_fd_changed(n, 0);
		loop_timer_cancel(&s->rest);
		loop_timer_init(&s->rest, net_queue_runs_on(n, 0), NULL, rested, n);
		loop_timer_set(&s->rest, now_ns() + ACCEPT_REST_NS);
	}
	if (s->fd < 0)
		return;
	/* fails on a unix socket, which needs none */
	setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	log_info("%s: a peer connected to %s", n->id, s->what);
	net_fd_changed(n, 0);
}

static int stream_flush(struct net *n, unsigned q)
{
	struct sock *s = n->priv;

	while (s->tx_len && s->fd >= 0) {
		ssize_t len = send(s->fd, s->tx + s->tx_at, s->tx_len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0 && errno == EAGAIN)
			return -EAGAIN;
		if (len < 0) {
			s->tx_len = 0;
			stream_hangup(n, 0);
			return 0;
		}
		s->tx_at += len;
		s->tx_len -= len;
	}
	return 0;
}

static ssize_t stream_send(struct net *n, unsigned q, const struct iovec *iov, int niov)
{
	struct sock *s = n->priv;
	struct iovec with[niov + 1];
	struct msghdr msg = { .msg_iov = with, .msg_iovlen = niov + 1 };
	uint8_t head[4];
	size_t total = 0;
	ssize_t len;

	if (s->fd < 0)
		return -ENOTCONN;
	if (s->tx_len && stream_flush(n, q) == -EAGAIN)
		return -EAGAIN;
	for (int i = 0; i < niov; i++)
		total += iov[i].iov_len;
	if (total > NET_MAX_FRAME)
		return -EMSGSIZE;
	st_be32(head, total);
	with[0] = (struct iovec){ head, sizeof(head) };
	memcpy(with + 1, iov, niov * sizeof(*iov));
	do
		len = sendmsg(s->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (len < 0 && errno == EINTR);
	if (len < 0 && errno == EAGAIN)
		return -EAGAIN;
	if (len < 0) {
		int e = errno;

		stream_hangup(n, q);
		return -e;
	}
	if ((size_t)len < total + sizeof(head)) {
		/* The stream must not lose its frame boundaries: the rest waits for room. */
		s->tx_at = s->tx_len = 0;
		for (int i = 0; i <= niov; i++) {
			size_t cut = MIN((size_t)len, with[i].iov_len);

			memcpy(s->tx + s->tx_len, (char *)with[i].iov_base + cut,
			       with[i].iov_len - cut);
			s->tx_len += with[i].iov_len - cut;
			len -= cut;
		}
		net_want_room(n, q);
	}
	return total;
}

/* Reads up to `want` bytes of header and frame together: 1 when they are there, else -errno. */
static int stream_fill(struct net *n, uint8_t *buf, uint32_t base, uint32_t want)
{
	struct sock *s = n->priv;

	while (s->rx_have < base + want) {
		ssize_t len = recv(s->fd, buf + (s->rx_have - base), base + want - s->rx_have,
				   MSG_DONTWAIT);

		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0 && errno == EAGAIN)
			return -EAGAIN;
		if (len <= 0) {
			stream_hangup(n, 0);
			return -EAGAIN;
		}
		s->rx_have += len;
	}
	return 1;
}

/* Never holds a whole frame back, so that the socket's readiness always tells the truth. */
static ssize_t stream_recv(struct net *n, unsigned q, const struct iovec *iov, int niov)
{
	struct sock *s = n->priv;
	uint32_t done = 0;
	int ret;

	if (s->fd < 0) {
		if (s->listen_fd >= 0)
			stream_accept(n);
		return -EAGAIN;
	}
	ret = stream_fill(n, s->rx_head, 0, sizeof(s->rx_head));
	if (ret < 0)
		return ret;
	s->rx_len = ld_be32(s->rx_head);
	if (!s->rx_len || s->rx_len > NET_MAX_FRAME) {
		log_guest("%s: the peer sent a frame of %u bytes; this is no network socket, "
			  "closing it",
			  n->id, s->rx_len);
		stream_hangup(n, q);
		return -EAGAIN;
	}
	ret = stream_fill(n, s->rx, sizeof(s->rx_head), s->rx_len);
	if (ret < 0)
		return ret;
	s->rx_have = 0;
	for (int i = 0; i < niov && done < s->rx_len; i++) {
		size_t k = MIN(s->rx_len - done, iov[i].iov_len);

		memcpy(iov[i].iov_base, s->rx + done, k);
		done += k;
	}
	return done < s->rx_len ? -EMSGSIZE : (ssize_t)done;
}

/* --- datagrams --- */

static ssize_t packet_send(struct net *n, unsigned q, const struct iovec *iov, int niov)
{
	struct sock *s = n->priv;

	return dgram_send(s->send_fd >= 0 ? s->send_fd : s->fd, s->to.sin_port ? &s->to : NULL, iov,
			  niov);
}

static ssize_t packet_recv(struct net *n, unsigned q, const struct iovec *iov, int niov)
{
	struct sock *s = n->priv;
	struct sockaddr_in from = { 0 };

	/* What is no frame for us is passed over, but not for as long as somebody sends it. */
	for (int i = 0; i < PASSED_OVER; i++) {
		ssize_t len = dgram_recv(s->fd, s->filter ? &from : NULL, iov, niov);

		/* An empty datagram, from whomever, is no frame and no end either. */
		if (len == -EPIPE && !s->seqpacket)
			continue;
		/* Multicast comes back to its sender; the guest must not hear itself. */
		if (s->filter && (len >= 0 || len == -EMSGSIZE) &&
		    from.sin_port == s->self.sin_port &&
		    from.sin_addr.s_addr == s->self.sin_addr.s_addr)
			continue;
		return len;
	}
	return -EAGAIN;
}

/* --- both --- */

static int sock_poll_fd(struct net *n, unsigned q)
{
	struct sock *s = n->priv;

	return s->fd >= 0 ? s->fd : s->resting ? -1 : s->listen_fd;
}

static void sock_info(struct net *n, char *buf, size_t len)
{
	struct sock *s = n->priv;

	snprintf(buf, len, "%s%s", s->what, s->fd < 0 ? ",waiting" : "");
}

static void sock_close(struct net *n)
{
	struct sock *s = n->priv;

	loop_timer_cancel(&s->rest);
	if (s->fd >= 0)
		close(s->fd);
	host_remove(n->host, &s->own);
	if (s->listen_fd >= 0)
		close(s->listen_fd);
	if (s->send_fd >= 0)
		close(s->send_fd);
	free(s->what);
	free(s->rx);
	free(s->tx);
	free(s);
}

static const struct net_ops stream_ops = {
	.kind = "socket",
	.send = stream_send,
	.recv = stream_recv,
	.poll_fd = sock_poll_fd,
	.flush = stream_flush,
	.hangup = stream_hangup,
	.info = sock_info,
	.close = sock_close,
};
static const struct net_ops packet_ops = {
	.kind = "socket",
	.send = packet_send,
	.recv = packet_recv,
	.poll_fd = sock_poll_fd,
	.info = sock_info,
	.close = sock_close,
};

/* "HOST:PORT" to an IPv4 address. Runs before the guest: a name may be looked up. */
static int lookup(struct net *n, const char *text, const char *option, struct sockaddr_in *sa,
		  struct err *err)
{
	int ret = host_resolve(n->host, "network socket", text, sa, err);

	if (ret < 0)
		err_prefix(err, "%s", option);
	return ret;
}

static int udp_open(struct net *n, struct sock *s, const char *udp, const char *local,
		    struct err *err)
{
	int ret = lookup(n, udp, "udp", &s->to, err);

	if (ret == 0 && !s->to.sin_port)
		ret = err_set(err, EINVAL, "udp=%s: expected HOST:PORT", udp);
	if (ret == 0 && !local)
		ret = err_set(err, EINVAL,
			      "udp= needs localaddr=[HOST]:PORT, where this side receives");
	if (ret < 0)
		return ret;
	s->fd = host_datagram(n->host, "network socket", -1, local, NULL, false, err);
	if (s->fd < 0)
		err_prefix(err, "localaddr");
	return MIN(s->fd, 0);
}

/*
 * A socket of its own for sending, connected: its address tells our frames from the others'.
 */
static int mcast_sender(struct net *n, struct sock *s, const char *mcast, const char *local,
			const struct ip_mreqn *group, struct err *err)
{
	const struct host *h = n->host;
	socklen_t len = sizeof(s->self);
	char *from = local ? xasprintf("%.*s", (int)strcspn(local, ":"), local) : NULL;
	int ret, on = 1;

	ret = s->send_fd = host_datagram(h, "network socket", -1, NULL, NULL, false, err);
	/* The interface first: connecting picks the way. */
	if (ret >= 0 && ((group->imr_address.s_addr &&
			  setsockopt(s->send_fd, IPPROTO_IP, IP_MULTICAST_IF, group,
				     sizeof(*group)) < 0) ||
			 setsockopt(s->send_fd, IPPROTO_IP, IP_MULTICAST_LOOP, &on,
				    sizeof(on)) < 0))
		ret = err_set(err, errno, "mcast=%s: %s", mcast, strerror(errno));
	if (ret >= 0)
		ret = host_datagram(h, "network socket", s->send_fd,
				    group->imr_address.s_addr ? from : NULL, mcast, false, err);
	if (ret >= 0 && getsockname(s->send_fd, (struct sockaddr *)&s->self, &len) < 0)
		ret = err_set(err, errno, "mcast=%s: %s", mcast, strerror(errno));
	free(from);
	return MIN(ret, 0);
}

static int mcast_open(struct net *n, struct sock *s, const char *mcast, const char *local,
		      struct err *err)
{
	struct sockaddr_in from = { .sin_family = AF_INET };
	struct ip_mreqn group = { 0 };
	int ret;

	ret = lookup(n, mcast, "mcast", &s->to, err);
	if (ret == 0 && (!s->to.sin_port || !IN_MULTICAST(ntohl(s->to.sin_addr.s_addr))))
		ret = err_set(
			err, EINVAL,
			"mcast=%s: expected a multicast address and a port, as 230.0.0.1:1234",
			mcast);
	if (ret == 0 && local)
		ret = lookup(n, local, "localaddr", &from, err);
	if (ret < 0)
		return ret;
	group.imr_multiaddr = s->to.sin_addr;
	group.imr_address = from.sin_addr;
	ret = s->fd = host_datagram(n->host, "network socket", -1, mcast, NULL, true, err);
	if (ret >= 0 &&
	    setsockopt(s->fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof(group)) < 0)
		ret = err_set(err, errno,
			      "mcast=%s: cannot join the group: %s (is there a route to it? "
			      "localaddr= names the interface's address)",
			      mcast, strerror(errno));
	if (ret >= 0)
		ret = mcast_sender(n, s, mcast, local, &group, err);
	if (ret < 0)
		return ret;
	s->to.sin_port = 0;		/* connected */
	s->filter = true;
	return 0;
}

static int fd_open(struct net *n, struct sock *s, const char *text, struct err *err)
{
	socklen_t len = sizeof(int);
	int type, fd = fd_given(text);

	if (fd < 0)
		return err_set(err, EINVAL, "fd=%s: no descriptor has that number or name", text);
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0)
		return err_set(err, errno, "descriptor %s is no socket: %s", text, strerror(errno));
	s->fd = fd;
	n->ops = type == SOCK_STREAM ? &stream_ops : &packet_ops;
	s->seqpacket = type == SOCK_SEQPACKET;
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return err_set(err, errno, "descriptor %s: %s", text, strerror(errno));
	return 0;
}

/* A bare "HOST:PORT" means TCP. */
static char *with_scheme(const char *address)
{
	return xasprintf("%s%s",
			 strncmp(address, "unix:", 5) && strncmp(address, "tcp:", 4) ? "tcp:" : "",
			 address);
}

static int stream_open(struct net *n, struct sock *s, const char *listen_on, const char *peer,
		       struct err *err)
{
	char *address = with_scheme(listen_on ? listen_on : peer);
	const struct host *h = n->host;
	int on = 1, fd;

	fd = listen_on ? host_listen(h, "network socket", address, &s->own, err)
		       : host_connect(h, "network socket", address, err);
	if (fd >= 0 && listen_on) {
		s->listen_fd = fd;
	} else if (fd >= 0) {
		s->fd = fd;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		fd = fcntl(fd, F_SETFL, O_NONBLOCK) < 0
			     ? err_set(err, errno, "%s: %s", address, strerror(errno))
			     : 0;
	}
	free(address);
	return MIN(fd, 0);
}

int socket_open(struct net *n, struct net_spec *spec, struct err *err)
{
	static const char *const keys[] = { "listen", "connect", "mcast", "udp", "fd" };
	struct sock *s = xcalloc(1, sizeof(*s));
	const char *v[ARRAY_SIZE(keys)], *local = net_spec_get(spec, "localaddr");
	unsigned given = 0, which = 0;
	int ret;

	for (unsigned i = 0; i < ARRAY_SIZE(keys); i++) {
		v[i] = net_spec_get(spec, keys[i]);
		if (v[i]) {
			given++;
			which = i;
		}
	}
	s->fd = s->listen_fd = s->send_fd = -1;
	n->priv = s;
	n->ops = which < 2 ? &stream_ops : &packet_ops;
	ret = net_spec_check(spec, SOCKET_KNOWN, err);
	if (ret == 0 && given != 1)
		ret = err_set(err, EINVAL,
			      "give exactly one of listen=, connect=, mcast=, udp= and fd=");
	if (ret == 0 && local && which < 2)
		ret = err_set(err, EINVAL, "localaddr= goes with udp= and mcast=");
	s->what = given ? xasprintf("%s=%s", keys[which], v[which]) : xstrdup("");
	if (ret == 0 && which < 2)
		ret = stream_open(n, s, v[0], v[1], err);
	else if (ret == 0 && which == 2)
		ret = mcast_open(n, s, v[2], local, err);
	else if (ret == 0 && which == 3)
		ret = udp_open(n, s, v[3], local, err);
	else if (ret == 0)
		ret = fd_open(n, s, v[4], err);
	if (ret < 0) {
		sock_close(n);
		return ret;
	}
	n->jumbo = n->ops == &stream_ops;
	if (n->jumbo) {
		s->rx = xcalloc(1, NET_MAX_FRAME);
		s->tx = xcalloc(1, NET_MAX_FRAME + 4);
	}
	return 0;
}
