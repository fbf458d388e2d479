/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * net.c: the front of every network backend: opening by spec, the NIC's callbacks, watching
 * descriptors, the link, counters, and headers for backends that take plain frames. A queue's
 * functions run on its loop, the others on the NIC's, which locks those of the queues after its
 * own.
 */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "net/backend.h"
#include "vmm/base/log.h"

#define DRAIN_MAX 2048		/* packets thrown away at most when the cable is plugged in again */
#define ERRORS_MAX 64		/* receive errors in a row until the backend counts as gone */

struct net_queue {
	struct net *net;
	unsigned index;
	struct loop *loop;
	struct loop_fd *watch;
	int fd;				/* what watch is on */
	bool want_read, want_write;	/* the NIC */
	bool want_flush;		/* the backend, or segments of ours, wait for room */
	bool broken;
	unsigned errors;
	/* segments of a packet not all sent yet; made at the first need */
	struct net_gso *gso;
	bool gso_pending;
	struct net_gso *cut;		/* segments of a packet not all received yet (NET_CUT) */
	struct loop_timer cut_next;	/* no descriptor tells of them */
	/* for packets in more pieces than writev takes; made at the first need */
	uint8_t *flat;
	struct net_stats stats;
};

/* Counters have one writer, the queue's loop; readers are on any thread. */
static void count(uint64_t *counter, uint64_t by)
{
	__atomic_store_n(counter, *counter + by, __ATOMIC_RELAXED);
}

/* --- loops --- */

static void queues_lock(struct net *n)
{
	for (unsigned q = 0; q < n->max_queues; q++)
		if (n->queues[q].loop != n->loop)
			loop_lock(n->queues[q].loop);
}

static void queues_unlock(struct net *n)
{
	for (unsigned q = 0; q < n->max_queues; q++)
		if (n->queues[q].loop != n->loop)
			loop_unlock(n->queues[q].loop);
}

/* --- watching --- */

static int gso_flush(struct net_queue *q);

static void queue_watch(struct net_queue *q);

static void queue_room(struct net_queue *q)
{
	struct net *n = q->net;
	bool tell = q->want_write;

	if (q->want_flush) {
		if (n->ops->flush && n->ops->flush(n, q->index) == -EAGAIN)
			return;
		if (q->gso_pending && gso_flush(q) == -EAGAIN)
			return;
	}
	q->want_flush = q->want_write = false;
	queue_watch(q);
	if (tell && n->writable)
		n->writable(n->ctx, q->index);
}

static bool cut_waiting(const struct net_queue *q)
{
	return q->cut && q->cut->pending && q->want_read && q->net->link_up;
}

static void queue_readable(struct net_queue *q)
{
	if (q->net->readable)
		q->net->readable(q->net->ctx, q->index);
	if (cut_waiting(q))
		loop_timer_set(&q->cut_next, 0);
}

static void cut_next(void *ctx)
{
	if (cut_waiting(ctx))
		queue_readable(ctx);
}

static void queue_event(void *ctx, uint32_t events)
{
	struct net_queue *q = ctx;
	struct net *n = q->net;

	if (events & EPOLLOUT && (q->want_write || q->want_flush))
		queue_room(q);
	if (events & EPOLLIN && q->want_read)
		queue_readable(q);
	else if (events & (EPOLLERR | EPOLLHUP) && !(events & EPOLLIN) && n->ops->hangup)
		n->ops->hangup(n, q->index);
	else if (events & (EPOLLERR | EPOLLHUP) && !(events & EPOLLIN))
		net_broken(n, q->index, "its host side was removed");
}

static void queue_watch(struct net_queue *q)
{
	struct net *n = q->net;
	int fd = q->broken || q->index >= n->pairs ? -1 : n->ops->poll_fd(n, q->index);
	uint32_t events = 0;

	if (q->want_read && n->link_up)
		events |= EPOLLIN;
	if (q->want_write || q->want_flush)
		events |= EPOLLOUT;
	if (q->watch && (fd != q->fd || !events)) {
		/* Nothing wanted: no watch at all, for epoll would go on reporting a hang-up. */
		loop_fd_del(q->watch);
		q->watch = NULL;
	}
	q->fd = fd;
	if (fd < 0 || !events || !q->loop)
		return;
	if (q->watch)
		loop_fd_mod(q->watch, events);
	else
		q->watch = loop_fd_add(q->loop, fd, events, queue_event, q);
}

void net_poll(struct net *n, unsigned q, bool read, bool write)
{
	struct net_queue *nq = &n->queues[q];

	if (nq->want_read == read && nq->want_write == write && nq->watch)
		return;
	nq->want_read = read;
	nq->want_write = write;
	queue_watch(nq);
	if (cut_waiting(nq))
		loop_timer_set(&nq->cut_next, 0);
}

void net_want_room(struct net *n, unsigned q)
{
	n->queues[q].want_flush = true;
	queue_watch(&n->queues[q]);
}

struct loop *net_queue_runs_on(struct net *n, unsigned q)
{
	return n->queues[q].loop;
}

void net_fd_changed(struct net *n, unsigned q)
{
	struct net_queue *nq = &n->queues[q];

	if (nq->watch) {
		/* The number may be the same one, reused: start afresh. */
		loop_fd_del(nq->watch);
		nq->watch = NULL;
	}
	queue_watch(nq);
}

void net_broken(struct net *n, unsigned q, const char *why)
{
	struct net_queue *nq = &n->queues[q];

	if (nq->broken)
		return;
	nq->broken = true;
	log_error("%s: %s stopped working: %s; the guest sees its cable unplugged", n->id,
		  n->ops->kind, why);
	queue_watch(nq);
	/* The link is the NIC's: its loop must not be locked from a queue's. */
	if (nq->loop != n->loop)
		loop_timer_set(&n->lost, 0);
	else
		net_set_link(n, false);
}

static void lost(void *ctx)
{
	net_set_link(ctx, false);
}

static void queue_drain(struct net_queue *q)
{
	uint8_t buf[128];
	struct iovec iov = { buf, sizeof(buf) };

	if (q->cut)
		q->cut->pending = false;
	for (int i = 0; i < DRAIN_MAX; i++) {
		ssize_t len = q->net->ops->recv(q->net, q->index, &iov, 1);

		if (len < 0 && len != -EMSGSIZE)
			return;
	}
}

void net_set_link(struct net *n, bool up)
{
	if (n->link_up == up)
		return;
	queues_lock(n);
	for (unsigned q = 0; up && q < n->max_queues; q++) {
		if (n->queues[q].broken) {
			queues_unlock(n);
			log_warn("%s: the link stays down: its host side is gone", n->id);
			return;
		}
		queue_drain(&n->queues[q]);	/* nobody wants yesterday's packets */
	}
	n->link_up = up;
	if (n->ops->set_link)
		n->ops->set_link(n, up);
	for (unsigned q = 0; q < n->max_queues; q++)
		queue_watch(&n->queues[q]);
	queues_unlock(n);
	trace(TRACE_NET, 0, n->id, "link %s", up ? "up" : "down");
	if (n->link)
		n->link(n->ctx, up);
}

static void queue_set_loop(struct net_queue *q, struct loop *loop)
{
	loop_timer_cancel(&q->cut_next);
	loop_timer_init(&q->cut_next, loop, NULL, cut_next, q);
	q->loop = loop;
}

void net_attach(struct net *n, struct loop *loop, void (*readable)(void *, unsigned),
		void (*writable)(void *, unsigned), void (*link)(void *, bool), void *ctx)
{
	for (unsigned q = 0; q < n->max_queues; q++) {
		struct net_queue *nq = &n->queues[q];
		struct loop *old = nq->loop;

		loop_lock(old);
		nq->want_read = nq->want_write = nq->want_flush = nq->gso_pending = false;
		queue_watch(nq);
		queue_set_loop(nq, loop);
		loop_unlock(old);
	}
	loop_timer_cancel(&n->lost);
	loop_timer_init(&n->lost, loop, NULL, lost, n);
	n->loop = loop;
	n->readable = readable;
	n->writable = writable;
	n->link = link;
	n->ctx = ctx;
	if (!readable && !writable && !link) {
		net_set_offload(n, 0, 0);
		net_set_queues(n, 1);
	}
}

void net_queue_loop(struct net *n, unsigned q, struct loop *loop)
{
	struct net_queue *nq = &n->queues[q];

	assert(n->any_loop && !nq->watch);
	loop_lock(loop);
	queue_set_loop(nq, loop);
	loop_unlock(loop);
}

/* --- packets --- */

int net_set_offload(struct net *n, unsigned bits, unsigned hdr_len)
{
	int ret = 0;

	if (hdr_len != 0 && hdr_len != sizeof(struct virtio_net_hdr) &&
	    hdr_len != sizeof(struct virtio_net_hdr_mrg_rxbuf))
		return -EINVAL;
	if (bits & NET_CUT)
		bits = NET_CSUM | NET_TSO4 | NET_TSO6 | NET_TSO_ECN | NET_CUT;
	if (n->vnet_hdr)
		ret = n->ops->set_offload(n, hdr_len ? bits & ~NET_CUT : 0, hdr_len);
	if (ret < 0)
		return ret;
	queues_lock(n);
	n->hdr_len = hdr_len;
	n->cut = n->vnet_hdr && hdr_len && bits & NET_CUT;
	for (unsigned q = 0; q < n->max_queues; q++) {
		struct net_queue *nq = &n->queues[q];

		if (n->cut && !nq->cut)
			nq->cut = gso_new();
		if (nq->cut)
			nq->cut->pending = false;
	}
	queues_unlock(n);
	return 0;
}

int net_set_queues(struct net *n, unsigned pairs)
{
	int ret = 0;

	if (pairs < 1 || pairs > n->max_queues)
		return -EINVAL;
	queues_lock(n);
	if (n->ops->set_queues)
		ret = n->ops->set_queues(n, pairs);
	if (ret == 0)
		n->pairs = pairs;
	for (unsigned q = 0; q < n->max_queues; q++)
		queue_watch(&n->queues[q]);
	queues_unlock(n);
	return ret;
}

static size_t iov_bytes(const struct iovec *iov, int niov)
{
	size_t len = 0;

	for (int i = 0; i < niov; i++)
		len += iov[i].iov_len;
	return len;
}

/*
 * The list without its first `skip` bytes; returns the entries of out used. out has niov of them.
 */
static int iov_skip(struct iovec *out, const struct iovec *iov, int niov, size_t skip)
{
	int n = 0;

	for (int i = 0; i < niov; i++) {
		size_t cut = MIN(skip, iov[i].iov_len);

		skip -= cut;
		if (iov[i].iov_len == cut)
			continue;
		out[n].iov_base = (char *)iov[i].iov_base + cut;
		out[n++].iov_len = iov[i].iov_len - cut;
	}
	return n;
}

static size_t iov_gather(void *buf, size_t len, const struct iovec *iov, int niov)
{
	size_t done = 0;

	for (int i = 0; i < niov && done < len; i++) {
		size_t n = MIN(len - done, iov[i].iov_len);

		memcpy((char *)buf + done, iov[i].iov_base, n);
		done += n;
	}
	return done;
}

static struct net_gso *queue_gso(struct net_queue *q)
{
	if (!q->gso)
		q->gso = gso_new();
	return q->gso;
}

/*
 * Sends what is left of the packet in q->gso: 0, or -EAGAIN when the backend is full. Other errors
 * lose a segment.
 */
static int gso_flush(struct net_queue *q)
{
	struct iovec iov[2];

	while (gso_segment(q->gso, iov)) {
		ssize_t len = q->net->ops->send(q->net, q->index, iov, iov[1].iov_len ? 2 : 1);

		if (len == -EAGAIN) {
			q->gso_pending = true;
			return -EAGAIN;
		}
		gso_advance(q->gso);
	}
	q->gso_pending = false;
	return 0;
}

/* A packet with a header that asks for work, on a backend that takes plain frames. */
static ssize_t send_software(struct net_queue *q, const struct virtio_net_hdr *hdr,
			     const struct iovec *iov, int niov, size_t len)
{
	struct net_gso *g = queue_gso(q);
	int ret;

	g->hdr = *hdr;
	g->jumbo = q->net->jumbo;
	g->len = iov_gather(g->frame, len, iov, niov);
	ret = gso_begin(g);
	if (ret < 0)
		return ret;
	/* The packet is ours now: segments that find no room go out at the next writable event. */
	if (gso_flush(q) == -EAGAIN)
		net_want_room(q->net, q->index);
	return len;
}

static ssize_t send_plain(struct net_queue *q, const struct iovec *iov, int niov, size_t total)
{
	struct net *n = q->net;
	struct iovec skipped[niov];
	struct virtio_net_hdr hdr;
	ssize_t ret;

	if (!n->hdr_len)
		return n->ops->send(n, q->index, iov, niov);
	iov_gather(&hdr, sizeof(hdr), iov, niov);
	niov = iov_skip(skipped, iov, niov, n->hdr_len);
	if (hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM || hdr.gso_type != VIRTIO_NET_HDR_GSO_NONE)
		ret = send_software(q, &hdr, skipped, niov, total - n->hdr_len);
	else
		ret = n->ops->send(n, q->index, skipped, niov);
	return ret < 0 ? ret : (ssize_t)total;
}

/*
 * readv and writev take at most IOV_MAX pieces, a chain may have more, and a backend puts two
 * around them.
 */
#define PIECES_MAX (IOV_MAX - 4)

ssize_t net_send(struct net *n, unsigned q, const struct iovec *iov, int niov)
{
	struct net_queue *nq = &n->queues[q];
	size_t total = iov_bytes(iov, niov);
	struct iovec flat;
	ssize_t ret;

	if (nq->gso_pending && gso_flush(nq) == -EAGAIN)
		return -EAGAIN;
	if (!n->link_up) {
		count(&nq->stats.tx_dropped, 1);
		return total;
	}
	if (total < n->hdr_len + 14u || total > n->hdr_len + (size_t)NET_MAX_FRAME) {
		count(&nq->stats.tx_dropped, 1);
		return -EMSGSIZE;
	}
	if (niov > PIECES_MAX) {
		if (!nq->flat)
			nq->flat = xcalloc(1,
					   NET_MAX_FRAME + sizeof(struct virtio_net_hdr_mrg_rxbuf));
		iov_gather(nq->flat, total, iov, niov);
		flat = (struct iovec){ nq->flat, total };
		iov = &flat;
		niov = 1;
	}
	ret = n->vnet_hdr ? n->ops->send(n, q, iov, niov) : send_plain(nq, iov, niov, total);
	if (ret >= 0) {
		count(&nq->stats.tx_packets, 1);
		count(&nq->stats.tx_bytes, total - n->hdr_len);
	} else if (ret != -EAGAIN) {
		count(&nq->stats.tx_dropped, 1);
	}
	return ret;
}

/* A backend without headers: ours in front, all zero: a whole packet with its checksum. */
static ssize_t recv_plain(struct net_queue *q, const struct iovec *iov, int niov)
{
	static const struct virtio_net_hdr_mrg_rxbuf none = { .num_buffers = 1 };
	struct net *n = q->net;
	struct iovec skipped[niov];
	size_t put = 0;
	ssize_t len;

	if (!n->hdr_len)
		return n->ops->recv(n, q->index, iov, niov);
	len = n->ops->recv(n, q->index, skipped, iov_skip(skipped, iov, niov, n->hdr_len));
	if (len < 0)
		return len;
	for (int i = 0; i < niov && put < n->hdr_len; i++) {
		size_t k = MIN(n->hdr_len - put, iov[i].iov_len);

		memcpy(iov[i].iov_base, (const char *)&none + put, k);
		put += k;
	}
	return len + n->hdr_len;
}

ssize_t net_recv(struct net *n, unsigned q, const struct iovec *iov, int niov)
{
	struct net_queue *nq = &n->queues[q];
	ssize_t len;

	if (nq->broken)
		return -EAGAIN;
	if (niov <= 0)
		return -EINVAL;
	niov = MIN(niov, PIECES_MAX);
	if (n->cut)
		len = cut_recv(n, q, nq->cut, iov, niov);
	else
		len = n->vnet_hdr ? n->ops->recv(n, q, iov, niov) : recv_plain(nq, iov, niov);
	if (len >= 0) {
		nq->errors = 0;
		count(&nq->stats.rx_packets, 1);
		count(&nq->stats.rx_bytes, len - n->hdr_len);
	} else if (len == -EMSGSIZE) {
		count(&nq->stats.rx_dropped, 1);
	} else if (len != -EAGAIN && ++nq->errors >= ERRORS_MAX) {
		net_broken(n, q, strerror(-len));
	}
	return len;
}

/* --- opening and closing --- */

static int backend_open(struct net *n, struct net_spec *s, struct err *err)
{
	net_user_open_fn *user;

	if (!strcmp(s->kind, "tap") || !strcmp(s->kind, "bridge"))
		return tap_open(n, s, err);
	if (!strcmp(s->kind, "socket"))
		return socket_open(n, s, err);
	if (!strcmp(s->kind, "user")) {
		user = (net_user_open_fn *)module_symbol("net-user", "net_user_open", err);
		return user ? user(n, s, err) : -ENOENT;
	}
	return err_set(err, EINVAL,
		       "unknown network \"%s\"; there are tap, bridge, user, socket and none",
		       s->kind);
}

struct net *net_open(const char *id, const char *spec, struct loop *loop, const struct host *host,
		     struct err *err)
{
	struct net *n = xcalloc(1, sizeof(*n));
	struct net_spec s;
	const char *v;
	int ret;

	n->id = xstrdup(id);
	n->loop = loop;
	n->host = host;
	n->link_up = true;
	n->max_queues = n->pairs = 1;
	ret = net_spec_parse(&s, spec, err);
	if (ret == 0) {
		net_spec_get(&s, "id");			/* the caller's */
		net_spec_get(&s, "name");
		v = net_spec_get(&s, "vlan");
		if (v && strcmp(v, "0"))
			ret = err_set(err, EINVAL,
				      "vlan=%s: each NIC has a network of its own here, vlan=0", v);
	}
	if (ret == 0)
		ret = backend_open(n, &s, err);
	if (ret < 0) {
		err_prefix(err, "network %s (%s)", id, spec);
		net_spec_free(&s);
		free(n->id);
		free(n);
		return NULL;
	}
	net_spec_free(&s);
	if (!n->vnet_hdr)
		n->offload = NET_CSUM | NET_TSO4 | NET_TSO6 | NET_TSO_ECN;	/* offload.c */
	n->queues = xcalloc(n->max_queues, sizeof(*n->queues));
	for (unsigned q = 0; q < n->max_queues; q++) {
		n->queues[q] = (struct net_queue){ .net = n, .index = q, .fd = -1 };
		queue_set_loop(&n->queues[q], loop);
	}
	loop_timer_init(&n->lost, loop, NULL, lost, n);
	return n;
}

void net_close(struct net *n)
{
	if (!n)
		return;
	loop_timer_cancel(&n->lost);
	for (unsigned q = 0; q < n->max_queues; q++) {
		struct net_queue *nq = &n->queues[q];

		if (nq->watch)
			loop_fd_del(nq->watch);
		loop_timer_cancel(&nq->cut_next);
		gso_free(nq->gso);
		gso_free(nq->cut);
		free(nq->flat);
	}
	n->ops->close(n);
	free(n->queues);
	free(n->id);
	free(n);
}

int net_vhost_fd(struct net *n, unsigned q)
{
	return n->ops->vhost_fd ? n->ops->vhost_fd(n, q) : -1;
}

int net_forward(struct net *n, const char *rule, bool add, struct err *err)
{
	if (!n->ops->forward)
		return err_set(err, ENOTSUP,
			       "'%s' is a %s network, which forwards no ports (-netdev user does)",
			       n->id, n->ops->kind);
	return n->ops->forward(n, rule, add, err);
}

char *net_connections(struct net *n)
{
	return n->ops->connections ? n->ops->connections(n) : NULL;
}

void net_info(struct net *n, char *buf, size_t len)
{
	int k = snprintf(buf, len, "%s,", n->ops->kind);

	if (k > 0 && (size_t)k < len)
		n->ops->info(n, buf + k, len - k);
}

void net_get_stats(struct net *n, struct net_stats *s)
{
	memset(s, 0, sizeof(*s));
	for (unsigned q = 0; q < n->max_queues; q++) {
		const struct net_stats *from = &n->queues[q].stats;

		s->rx_packets += __atomic_load_n(&from->rx_packets, __ATOMIC_RELAXED);
		s->rx_bytes += __atomic_load_n(&from->rx_bytes, __ATOMIC_RELAXED);
		s->rx_dropped += __atomic_load_n(&from->rx_dropped, __ATOMIC_RELAXED);
		s->tx_packets += __atomic_load_n(&from->tx_packets, __ATOMIC_RELAXED);
		s->tx_bytes += __atomic_load_n(&from->tx_bytes, __ATOMIC_RELAXED);
		s->tx_dropped += __atomic_load_n(&from->tx_dropped, __ATOMIC_RELAXED);
	}
}
