/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio_net.c: the network device (virtio 1.2, 5.1): packets between the rings and net/net.h. The
 * control queue and the receive filter are in virtio_net_ctrl.c. A pair of queues may have a loop
 * of its own; control (the device's loop) locks them all before it changes what they look at.
 *
 * Nothing is copied here: a packet is written from, and read into, the driver's own buffers. To
 * receive, buffers for the largest packet the guest takes are fetched ahead; what a packet leaves
 * stays for the next one and goes back to the ring when the device stops. The virtio header travels
 * with the packet, so checksums and segmentation are left to whoever is last.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/virtio/virtio_net.h"
#include "vmm/base/limits.h"
#include "vmm/base/log.h"

#define QUEUE_SIZE 256
#define ETH_HLEN 14
#define FRAME_PLAIN (1500 + ETH_HLEN + 4)
#define RX_AHEAD 128			/* chains fetched ahead, at most */
#define RX_IOV (2 * VIRTQ_MAX_IOV)	/* room for one more chain of any length, always */
#define BATCH 128			/* packets received before others get their turn */
/* of the first chain, for a read that expects a small packet */
#define SMALL_PIECES 4
/* small packets until the next one is expected to be small, too */
#define LARGE_FOR 8

struct net_rx {
	struct virtq_elem elems[RX_AHEAD];
	unsigned first, count;		/* chains there are: elems[first ...] */
	unsigned iov_first, iov_count;	/* their pieces, one after the other */
	size_t room;			/* bytes of them */
	size_t most;			/* the largest room seen: what this driver provides */
	bool watch_rx, watch_tx;	/* waiting for packets; for room at the host */
	/* a packet longer than its first chain came lately: counts down */
	unsigned large;
	/* what of a packet does not fit into the first chain, when none was expected */
	uint8_t *rest;
	struct iovec iov[RX_IOV];
};

static unsigned ctrl_queue(struct vnet *d)
{
	return virtio_has(&d->v, VIRTIO_NET_F_MQ) ? 2 * d->pairs : 2;
}

static void watch(struct vnet *d, unsigned pair, bool rx, bool tx)
{
	d->rx[pair]->watch_rx = rx;
	d->rx[pair]->watch_tx = tx;
	net_poll(d->net, pair, rx, tx);
}

/* --- receive --- */

/* Moves what is left to the front of the arrays. */
static void rx_compact(struct net_rx *rx)
{
	struct iovec *iov;

	memmove(rx->elems, rx->elems + rx->first, rx->count * sizeof(rx->elems[0]));
	memmove(rx->iov, rx->iov + rx->iov_first, rx->iov_count * sizeof(rx->iov[0]));
	rx->first = rx->iov_first = 0;
	iov = rx->iov;
	for (unsigned i = 0; i < rx->count; i++) {
		rx->elems[i].iov = iov;
		iov += rx->elems[i].in_n;
	}
}

static void rx_drop_first(struct net_rx *rx)
{
	struct virtq_elem *e = &rx->elems[rx->first];

	rx->first++;
	rx->count--;
	rx->iov_first += e->in_n;
	rx->iov_count -= e->in_n;
	rx->room -= e->in_len;
}

/*
 * Fetches chains until the largest packet fits, or all that this driver ever provides. False when
 * more are needed: a packet that does not fit would be lost, one that waits at the host is not.
 */
static bool rx_fill(struct vnet *d, unsigned pair)
{
	bool mergeable = virtio_has(&d->v, VIRTIO_NET_F_MRG_RXBUF);
	struct virtq *vq = &d->v.queues[2 * pair];
	struct net_rx *rx = d->rx[pair];
	size_t want = d->hdr_len +
		      (d->offloads & (NET_TSO4 | NET_TSO6) ? NET_MAX_FRAME : FRAME_PLAIN);

	if (!mergeable)
		want = 1;
	while (rx->room < want && rx->count < RX_AHEAD && rx->iov_count <= VIRTQ_MAX_IOV) {
		struct virtq_elem *e;

		if (rx->first + rx->count == RX_AHEAD ||
		    rx->iov_first + rx->iov_count > VIRTQ_MAX_IOV)
			rx_compact(rx);
		e = &rx->elems[rx->first + rx->count];
		if (virtq_pop(vq, e, rx->iov + rx->iov_first + rx->iov_count, VIRTQ_MAX_IOV) != 1)
			break;
		if (e->out_n || e->in_len < d->hdr_len) {
			virtq_push(vq, e, 0);
			virtq_set_broken(vq, "a receive buffer of %llu bytes (%llu to read)",
					 (unsigned long long)e->in_len,
					 (unsigned long long)e->out_len);
			break;
		}
		rx->count++;
		rx->iov_count += e->in_n;
		rx->room += e->in_len;
	}
	rx->most = MAX(rx->most, rx->room);
	return rx->count && rx->room >= MIN(want, rx->most);
}

static void rx_return_all(struct vnet *d, unsigned pair)
{
	struct net_rx *rx = d->rx[pair];

	while (rx->count)
		virtq_unpop(&d->v.queues[2 * pair], &rx->elems[rx->first + --rx->count]);
	rx->first = rx->iov_first = rx->iov_count = 0;
	rx->room = rx->most = 0;
}

/* A packet of len bytes, header included, lies in the first chains. */
static void rx_deliver(struct vnet *d, unsigned pair, size_t len)
{
	struct virtq *vq = &d->v.queues[2 * pair];
	struct net_rx *rx = d->rx[pair];
	struct iovec *iov = rx->iov + rx->iov_first;
	unsigned pieces = rx->iov_count;
	uint8_t num_buffers[2];
	uint16_t n = 0;
	size_t left = len;

	for (; n < rx->count && left; n++)
		left -= MIN(left, rx->elems[rx->first + n].in_len);
	if (d->hdr_len > offsetof(struct virtio_net_hdr_v1, num_buffers)) {
		st_le16(num_buffers, n);
		iov_from_buf(iov, pieces, offsetof(struct virtio_net_hdr_v1, num_buffers),
			     num_buffers, 2);
	}
	trace(TRACE_NET, rx->elems[rx->first].id, d->v.id, "received %zu bytes in %u buffers", len,
	      n);
	while (len) {
		struct virtq_elem *e = &rx->elems[rx->first];
		size_t part = MIN(len, e->in_len);
		struct virtq_elem used = *e;

		rx_drop_first(rx);
		virtq_push(vq, &used, part);
		len -= part;
	}
}

static bool rx_wanted(struct vnet *d, unsigned pair, size_t len)
{
	struct net_rx *rx = d->rx[pair];
	uint8_t frame[ETH_HLEN + 4];
	size_t n = iov_to_buf(rx->iov + rx->iov_first, rx->iov_count, d->hdr_len, frame,
			      MIN(sizeof(frame), len - d->hdr_len));

	return filter_accepts(d, frame, n);
}

/*
 * A large packet is read straight into the forty pieces it may need. To name them all for every
 * acknowledgement costs more than the packet: while only small ones come, the read names the first
 * chain and a buffer of ours, from which the rest is copied.
 */
static ssize_t rx_read(struct vnet *d, unsigned pair)
{
	struct net_rx *rx = d->rx[pair];
	struct virtq_elem *e = &rx->elems[rx->first];
	struct iovec *iov = rx->iov + rx->iov_first, with[SMALL_PIECES + 1];
	ssize_t len;

	if (rx->large || rx->count == 1 || e->in_n > SMALL_PIECES) {
		len = net_recv(d->net, pair, iov, rx->iov_count);
	} else {
		memcpy(with, iov, e->in_n * sizeof(*iov));
		with[e->in_n] = (struct iovec){ rx->rest,
						MIN(rx->room - e->in_len, (size_t)NET_MAX_FRAME) };
		len = net_recv(d->net, pair, with, e->in_n + 1);
		if (len > (ssize_t)e->in_len)
			iov_from_buf(iov, rx->iov_count, e->in_len, rx->rest, len - e->in_len);
	}
	if (len > (ssize_t)e->in_len)
		rx->large = LARGE_FOR;
	else if (len > 0 && rx->large)
		rx->large--;
	return len;
}

static void readable(void *ctx, unsigned pair)
{
	struct vnet *d = ctx;
	struct virtq *vq = &d->v.queues[2 * pair];
	struct net_rx *rx = d->rx[pair];
	ssize_t len;

	if (!__atomic_load_n(&d->v.running, __ATOMIC_ACQUIRE) || pair >= d->active) {
		watch(d, pair, false, rx->watch_tx);
		return;
	}
	for (int i = 0; i < BATCH; i++) {
		if (!rx_fill(d, pair)) {
			if (virtq_turn_over(vq))
				break;
			/*
			 * No buffers: the next kick brings some. Until then the packets wait at the
			 * host.
			 */
			if (virtq_kicks_on(vq))
				continue;
			watch(d, pair, false, rx->watch_tx);
			break;
		}
		virtq_kicks_off(vq);
		len = rx_read(d, pair);
		if (len < 0 && len != -EMSGSIZE)
			break;
		if (len <= (ssize_t)d->hdr_len || !rx_wanted(d, pair, len))
			continue;
		rx_deliver(d, pair, len);
	}
	virtio_flush(&d->v, 2 * pair);
}

static void rx_kick(struct vnet *d, unsigned pair)
{
	if (d->net && pair < d->active)
		watch(d, pair, true, d->rx[pair]->watch_tx);
}

/* --- transmit --- */

static void tx_kick(struct vnet *d, unsigned pair)
{
	struct virtq *vq = &d->v.queues[2 * pair + 1];
	UNINITIALIZED struct iovec iov[VIRTQ_MAX_IOV];
	struct virtq_elem e;
	unsigned n = 0;
	ssize_t ret;

	do {
		virtq_kicks_off(vq);
		while (virtq_pop(vq, &e, iov, ARRAY_SIZE(iov)) == 1) {
			if (e.out_len <= d->hdr_len || e.out_len > d->hdr_len + NET_MAX_FRAME) {
				log_guest("%s: a packet of %llu bytes is dropped", d->v.id,
					  (unsigned long long)e.out_len);
			} else if (d->net) {
				ret = net_send(d->net, pair, e.iov, e.out_n);
				if (ret == -EAGAIN) {
					virtq_unpop(vq, &e);
					watch(d, pair, d->rx[pair]->watch_rx, true);
					goto out;
				}
				trace(TRACE_NET, e.id, d->v.id, "sent %llu bytes: %s",
				      (unsigned long long)e.out_len,
				      ret < 0 ? strerror(-ret) : "ok");
				virtq_charge(vq, e.out_len);
			}
			virtq_push(vq, &e, 0);
			n++;
		}
	} while (virtq_kicks_on(vq));
out:
	virtio_flush(&d->v, 2 * pair + 1);
	/* The answer of a peer on this host is there already: take it before the loop sleeps. */
	if (n && d->rx[pair]->watch_rx)
		readable(d, pair);
}

static void writable(void *ctx, unsigned pair)
{
	struct vnet *d = ctx;

	watch(d, pair, d->rx[pair]->watch_rx, false);
	if (__atomic_load_n(&d->v.running, __ATOMIC_ACQUIRE))
		tx_kick(d, pair);
}

static void kick(struct virtio_dev *v, unsigned q)
{
	struct vnet *d = to_net(v);

	if (q == ctrl_queue(d))
		ctrl_kick(v, q);
	else if (q / 2 >= d->pairs || q > ctrl_queue(d))
		return;
	else if (q & 1)
		tx_kick(d, q / 2);
	else
		rx_kick(d, q / 2);
}

/* --- life --- */

unsigned vnet_guest_offloads(uint64_t features)
{
	unsigned bits = 0;

	if (features >> VIRTIO_NET_F_GUEST_CSUM & 1)
		bits |= NET_CSUM;
	if (features >> VIRTIO_NET_F_GUEST_TSO4 & 1)
		bits |= NET_TSO4;
	if (features >> VIRTIO_NET_F_GUEST_TSO6 & 1)
		bits |= NET_TSO6;
	if (features >> VIRTIO_NET_F_GUEST_ECN & 1)
		bits |= NET_TSO_ECN;
	return bits;
}

static bool features_ok(struct virtio_dev *v)
{
	struct vnet *d = to_net(v);

	d->hdr_len = virtio_has(v, VIRTIO_F_VERSION_1) || virtio_has(v, VIRTIO_NET_F_MRG_RXBUF) ?
		     sizeof(struct virtio_net_hdr_v1) : sizeof(struct virtio_net_hdr);
	for (unsigned q = 0; q < v->nqueues; q++)
		v->queues[q].turn_max = q == ctrl_queue(d) ? TURN_COMMANDS : TURN_REQUESTS;
	if (d->net && net_set_offload(d->net, vnet_guest_offloads(v->features), d->hdr_len))
		return false;
	d->offloads = vnet_guest_offloads(v->features);
	return true;
}

void vnet_poll_all(struct vnet *d)
{
	bool running = __atomic_load_n(&d->v.running, __ATOMIC_ACQUIRE);

	virtio_queues_lock(&d->v);
	for (unsigned i = 0; d->net && i < d->pairs; i++)
		watch(d, i, running && i < d->active && d->v.queues[2 * i].enabled, false);
	virtio_queues_unlock(&d->v);
}

static void stop(struct virtio_dev *v)
{
	struct vnet *d = to_net(v);

	vnet_poll_all(d);
	for (unsigned i = 0; i < d->pairs; i++)
		rx_return_all(d, i);
	virtio_stopped(v);
}

static void set_status_bits(struct vnet *d)
{
	st_le16(&d->cfg.status, d->net && d->net->link_up ? VIRTIO_NET_S_LINK_UP : 0);
}

static void reset(struct virtio_dev *v)
{
	struct vnet *d = to_net(v);

	d->active = 1;
	d->offloads = 0;
	d->hdr_len = sizeof(struct virtio_net_hdr);
	memcpy(d->cfg.mac, d->perm_mac, MAC_LEN);
	set_status_bits(d);
	filter_reset(d);
	if (d->net) {
		net_set_offload(d->net, 0, d->hdr_len);
		net_set_queues(d->net, 1);
	}
}

static void link_changed(void *ctx, bool up)
{
	struct vnet *d = ctx;
	uint16_t status = ld_le16(&d->cfg.status) & ~VIRTIO_NET_S_LINK_UP;

	st_le16(&d->cfg.status, status | (up ? VIRTIO_NET_S_LINK_UP : 0));
	trace(TRACE_NET, 0, d->v.id, "link %s", up ? "up" : "down");
	virtio_config_changed(&d->v);
}

void virtio_net_set_link(struct virtio_dev *v, bool up)
{
	struct vnet *d = to_net(v);

	if (d->net)
		net_set_link(d->net, up);	/* calls link_changed */
}

static uint64_t config_read(struct virtio_dev *v, uint32_t off, unsigned size)
{
	return virtio_bytes_read((const char *)&to_net(v)->cfg + off, 0, size);
}

/* Only drivers older than CTRL_MAC_ADDR write here: their address (5.1.4.2). */
static void config_write(struct virtio_dev *v, uint32_t off, unsigned size, uint64_t val)
{
	struct vnet *d = to_net(v);

	for (unsigned i = 0; i < size && off + i < MAC_LEN; i++)
		if (!virtio_has(v, VIRTIO_F_VERSION_1) &&
		    !virtio_has(v, VIRTIO_NET_F_CTRL_MAC_ADDR))
			d->cfg.mac[off + i] = val >> (8 * i);
}

static int save(struct virtio_dev *v, struct state_out *o)
{
	struct vnet *d = to_net(v);

	state_bytes(o, "mac", d->cfg.mac, MAC_LEN);
	state_u16(o, "status", ld_le16(&d->cfg.status));
	state_u32(o, "active", d->active);
	state_u32(o, "offloads", d->offloads);
	filter_save(d, o);
	return 0;
}

static int load(struct virtio_dev *v, struct state_in *in, uint32_t version)
{
	struct vnet *d = to_net(v);
	uint32_t active, offloads;
	uint16_t status;
	int ret;

	state_get_bytes(in, "mac", d->cfg.mac, MAC_LEN);
	state_get_u16(in, "status", &status);
	state_get_u32(in, "active", &active);
	state_get_u32(in, "offloads", &offloads);
	ret = filter_load(d, in);
	if (ret || state_in_error(in))
		return -EINVAL;
	if (!active || active > (virtio_has(v, VIRTIO_NET_F_MQ) ? d->pairs : 1) ||
	    offloads & ~vnet_guest_offloads(v->features))
		return state_bad(in, "%s: %u queue pairs of %u, offloads 0x%x", v->id, active,
				 d->pairs, offloads);
	d->active = active;
	d->offloads = offloads;
	if (d->net &&
	    (net_set_queues(d->net, active) || net_set_offload(d->net, offloads, d->hdr_len)))
		return state_bad(in,
				 "%s: the network backend cannot do what the saved guest uses (%u "
				 "queue pairs, offloads 0x%x)",
				 v->id, active, offloads);
	set_status_bits(d);
	/* It may be another switch port now: the guest tells its neighbours, if it can. */
	if (virtio_has(v, VIRTIO_NET_F_GUEST_ANNOUNCE) || status & VIRTIO_NET_S_ANNOUNCE)
		st_le16(&d->cfg.status, ld_le16(&d->cfg.status) | VIRTIO_NET_S_ANNOUNCE);
	return 0;
}

/*
 * After stop or load: the kicks that follow look at the rings; receiving has no kick to wait for.
 */
static void resume(struct virtio_dev *v)
{
	struct vnet *d = to_net(v);

	vnet_poll_all(d);
	if (ld_le16(&d->cfg.status) & VIRTIO_NET_S_ANNOUNCE)
		virtio_config_changed(v);
}

static void destroy(struct virtio_dev *v)
{
	struct vnet *d = to_net(v);

	if (d->net)
		net_attach(d->net, v->loop, NULL, NULL, NULL, NULL);
	for (unsigned i = 0; i < d->pairs; i++) {
		free(d->rx[i]->rest);
		free(d->rx[i]);
	}
	free(d->rx);
	virtio_exit(v);
	free(d);
}

static const struct virtio_ops virtio_net_ops = {
	.name = "virtio-net", .id = VIRTIO_ID_NET, .class_code = 0x020000, .version = 1,
	.config_read = config_read, .config_write = config_write, .features_ok = features_ok,
	.start = resume, .kick = kick, .stop = stop, .resume = resume, .reset = reset,
	.save = save, .load = load, .destroy = destroy,
};

static uint64_t offered(const struct net *net, unsigned pairs)
{
	static const struct { unsigned net, host, guest; } map[] = {
		{ NET_CSUM, VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM },
		{ NET_TSO4, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_GUEST_TSO4 },
		{ NET_TSO6, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_GUEST_TSO6 },
		{ NET_TSO_ECN, VIRTIO_NET_F_HOST_ECN, VIRTIO_NET_F_GUEST_ECN },
	};
	uint64_t f = 1ull << VIRTIO_NET_F_MAC | 1ull << VIRTIO_NET_F_STATUS |
		     1ull << VIRTIO_NET_F_MRG_RXBUF | 1ull << VIRTIO_NET_F_CTRL_VQ |
		     1ull << VIRTIO_NET_F_CTRL_RX | 1ull << VIRTIO_NET_F_CTRL_RX_EXTRA |
		     1ull << VIRTIO_NET_F_CTRL_VLAN | 1ull << VIRTIO_NET_F_CTRL_MAC_ADDR |
		     1ull << VIRTIO_NET_F_GUEST_ANNOUNCE;

	if (pairs > 1)
		f |= 1ull << VIRTIO_NET_F_MQ;
	for (size_t i = 0; net && i < ARRAY_SIZE(map); i++) {
		if (net->offload & map[i].net)
			f |= 1ull << map[i].host;
		if (net->offload & map[i].net && net->vnet_hdr)
			f |= 1ull << map[i].guest;
	}
	if (net && net->vnet_hdr)
		f |= 1ull << VIRTIO_NET_F_CTRL_GUEST_OFFLOADS;
	return f;
}

struct virtio_dev *virtio_net_new(const char *id, struct loop *loop, struct mem *mem,
				  const struct virtio_net_opts *o, struct err *err)
{
	uint16_t queue_size = o->queue_size ? o->queue_size : QUEUE_SIZE;
	uint64_t offer = offered(o->net, o->pairs);
	struct vnet *d;

	if (!o->pairs || o->pairs > 64 || (o->net && o->pairs > o->net->max_queues)) {
		err_set(err, EINVAL, "%s: %u queue pairs, the network backend has %u", id, o->pairs,
			o->net ? o->net->max_queues : 64);
		return NULL;
	}
	if (queue_size < 16 || queue_size > VIRTQ_MAX_SIZE || !IS_POWER_OF_2(queue_size)) {
		err_set(err, EINVAL, "%s: queues of %u entries: a power of two from 16 to %u", id,
			queue_size, VIRTQ_MAX_SIZE);
		return NULL;
	}
	if (o->packed)
		offer |= 1ull << VIRTIO_F_RING_PACKED;
	d = xcalloc(1, sizeof(*d));
	d->net = o->net;
	d->pairs = o->pairs;
	memcpy(d->perm_mac, o->mac, MAC_LEN);
	st_le16(&d->cfg.max_virtqueue_pairs, o->pairs);
	d->rx = xcalloc(o->pairs, sizeof(*d->rx));
	for (unsigned i = 0; i < o->pairs; i++) {
		d->rx[i] = xcalloc(1, sizeof(*d->rx[i]));
		d->rx[i]->rest = xcalloc(1, NET_MAX_FRAME);
	}
	virtio_init(&d->v, &virtio_net_ops, id, loop, mem, 2 * o->pairs + 1, queue_size, offer,
		    offsetof(struct virtio_net_config, mtu));
	if (d->net)
		net_attach(d->net, loop, readable, writable, link_changed, d);
	for (unsigned i = 0; i < o->pairs && o->queue_loops; i++) {
		d->v.queue_loops[2 * i] = d->v.queue_loops[2 * i + 1] = o->queue_loops[i];
		if (d->net)
			net_queue_loop(d->net, i, o->queue_loops[i]);
	}
	reset(&d->v);
	return &d->v;
}
