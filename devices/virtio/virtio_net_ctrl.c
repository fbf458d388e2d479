/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio_net_ctrl.c: the network device's control queue (virtio 1.2, 5.1.6.5) and the receive
 * filter it sets up. The device's loop, with the loops of the queues locked while a command changes
 * what they look at.
 */
#include <errno.h>

#include "devices/virtio/virtio_net.h"
#include "vmm/base/log.h"

#define ETH_P_8021Q 0x8100
#define VLAN_VID 0x0fff

/* --- filter --- */

void filter_reset(struct vnet *d)
{
	memset(&d->filter, 0, sizeof(d->filter));
	d->filter.promisc = true;
}

void virtio_net_on_filter(struct virtio_dev *v, void (*fn)(void *ctx, struct virtio_dev *v),
			  void *ctx)
{
	to_net(v)->on_filter = fn;
	to_net(v)->filter_ctx = ctx;
}

const struct net_filter *virtio_net_filter(struct virtio_dev *v, const uint8_t **mac)
{
	*mac = to_net(v)->cfg.mac;
	return &to_net(v)->filter;
}

static bool in_table(const uint8_t (*macs)[MAC_LEN], unsigned n, const uint8_t *mac)
{
	for (unsigned i = 0; i < n; i++)
		if (!memcmp(macs[i], mac, MAC_LEN))
			return true;
	return false;
}

bool filter_accepts(const struct vnet *d, const uint8_t *frame, size_t len)
{
	static const uint8_t broadcast[MAC_LEN] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	const struct net_filter *f = &d->filter;

	if (len < 14)
		return false;
	if (f->promisc)
		return true;
	if (len >= 18 && ld_be16(frame + 12) == ETH_P_8021Q &&
	    virtio_has(&d->v, VIRTIO_NET_F_CTRL_VLAN)) {
		unsigned vid = ld_be16(frame + 14) & VLAN_VID;

		if (!(f->vlans[vid / 8] >> (vid % 8) & 1))
			return false;
	}
	if (!memcmp(frame, broadcast, MAC_LEN))
		return !f->nobcast;
	if (frame[0] & 1)
		return !f->nomulti && (f->allmulti || f->multi_overflow ||
				       in_table(f->multi, f->multi_count, frame));
	return !f->nouni && (f->alluni || f->uni_overflow || !memcmp(frame, d->cfg.mac, MAC_LEN) ||
			     in_table(f->uni, f->uni_count, frame));
}

/* --- commands --- */
/* `off` is where the command's own data starts in the chain; VIRTIO_NET_OK or _ERR. */

static uint8_t ctrl_rx(struct vnet *d, uint8_t cmd, const struct virtq_elem *e, size_t off)
{
	struct net_filter *f = &d->filter;
	bool *const flags[] = {
		[VIRTIO_NET_CTRL_RX_PROMISC] = &f->promisc,
		[VIRTIO_NET_CTRL_RX_ALLMULTI] = &f->allmulti,
		[VIRTIO_NET_CTRL_RX_ALLUNI] = &f->alluni,
		[VIRTIO_NET_CTRL_RX_NOMULTI] = &f->nomulti,
		[VIRTIO_NET_CTRL_RX_NOUNI] = &f->nouni,
		[VIRTIO_NET_CTRL_RX_NOBCAST] = &f->nobcast,
	};
	unsigned feature = cmd <= VIRTIO_NET_CTRL_RX_ALLMULTI ? VIRTIO_NET_F_CTRL_RX
							      : VIRTIO_NET_F_CTRL_RX_EXTRA;
	uint8_t on;

	if (cmd >= ARRAY_SIZE(flags) || !virtio_has(&d->v, feature) ||
	    iov_to_buf(e->iov, e->out_n, off, &on, 1) != 1)
		return VIRTIO_NET_ERR;
	*flags[cmd] = on;
	return VIRTIO_NET_OK;
}

/* One of the two lists: count, then addresses. Returns its length in bytes, or 0. */
static size_t mac_list(const struct virtq_elem *e, size_t off, uint8_t (*macs)[MAC_LEN],
		       uint8_t *count, bool *overflow)
{
	uint8_t le[4];
	uint32_t n;

	if (iov_to_buf(e->iov, e->out_n, off, le, 4) != 4)
		return 0;
	n = ld_le32(le);
	off += 4;
	if (!range_ok(off, (uint64_t)n * MAC_LEN, e->out_len))
		return 0;
	*overflow = n > FILTER_MACS;
	*count = *overflow ? 0 : n;
	iov_to_buf(e->iov, e->out_n, off, macs, (size_t)*count * MAC_LEN);
	return 4 + (size_t)n * MAC_LEN;
}

static uint8_t ctrl_mac(struct vnet *d, uint8_t cmd, const struct virtq_elem *e, size_t off)
{
	struct net_filter new = d->filter;
	uint8_t mac[MAC_LEN];
	size_t uni;

	switch (cmd) {
	case VIRTIO_NET_CTRL_MAC_TABLE_SET:
		uni = mac_list(e, off, new.uni, &new.uni_count, &new.uni_overflow);
		if (!virtio_has(&d->v, VIRTIO_NET_F_CTRL_RX) || !uni ||
		    !mac_list(e, off + uni, new.multi, &new.multi_count, &new.multi_overflow))
			return VIRTIO_NET_ERR;
		d->filter = new;
		return VIRTIO_NET_OK;
	case VIRTIO_NET_CTRL_MAC_ADDR_SET:
		if (!virtio_has(&d->v, VIRTIO_NET_F_CTRL_MAC_ADDR) ||
		    iov_to_buf(e->iov, e->out_n, off, mac, MAC_LEN) != MAC_LEN)
			return VIRTIO_NET_ERR;
		memcpy(d->cfg.mac, mac, MAC_LEN);
		return VIRTIO_NET_OK;
	default:
		return VIRTIO_NET_ERR;
	}
}

static uint8_t ctrl_vlan(struct vnet *d, uint8_t cmd, const struct virtq_elem *e, size_t off)
{
	uint8_t le[2];
	uint16_t vid;

	if (!virtio_has(&d->v, VIRTIO_NET_F_CTRL_VLAN) ||
	    iov_to_buf(e->iov, e->out_n, off, le, 2) != 2)
		return VIRTIO_NET_ERR;
	vid = ld_le16(le);
	if (vid >= VLANS || cmd > VIRTIO_NET_CTRL_VLAN_DEL)
		return VIRTIO_NET_ERR;
	if (cmd == VIRTIO_NET_CTRL_VLAN_ADD)
		d->filter.vlans[vid / 8] |= 1u << (vid % 8);
	else
		d->filter.vlans[vid / 8] &= ~(1u << (vid % 8));
	return VIRTIO_NET_OK;
}

static uint8_t ctrl_announce(struct vnet *d, uint8_t cmd)
{
	if (cmd != VIRTIO_NET_CTRL_ANNOUNCE_ACK || !virtio_has(&d->v, VIRTIO_NET_F_GUEST_ANNOUNCE))
		return VIRTIO_NET_ERR;
	st_le16(&d->cfg.status, ld_le16(&d->cfg.status) & ~VIRTIO_NET_S_ANNOUNCE);
	return VIRTIO_NET_OK;
}

static uint8_t ctrl_mq(struct vnet *d, uint8_t cmd, const struct virtq_elem *e, size_t off)
{
	uint8_t le[2];
	uint16_t pairs;

	if (cmd != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET || !virtio_has(&d->v, VIRTIO_NET_F_MQ) ||
	    iov_to_buf(e->iov, e->out_n, off, le, 2) != 2)
		return VIRTIO_NET_ERR;
	pairs = ld_le16(le);
	if (!pairs || pairs > d->pairs || (d->net && net_set_queues(d->net, pairs)))
		return VIRTIO_NET_ERR;
	d->active = pairs;
	vnet_poll_all(d);
	return VIRTIO_NET_OK;
}

static uint8_t ctrl_offloads(struct vnet *d, uint8_t cmd, const struct virtq_elem *e, size_t off)
{
	uint8_t le[8];
	uint64_t bits;
	unsigned offloads;

	if (cmd != VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET ||
	    !virtio_has(&d->v, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) ||
	    iov_to_buf(e->iov, e->out_n, off, le, 8) != 8)
		return VIRTIO_NET_ERR;
	bits = ld_le64(le);
	offloads = vnet_guest_offloads(bits);
	if (bits & ~d->v.features || !d->net || net_set_offload(d->net, offloads, d->hdr_len))
		return VIRTIO_NET_ERR;
	d->offloads = offloads;
	return VIRTIO_NET_OK;
}

static uint8_t filter_changed(struct vnet *d, uint8_t status)
{
	if (status == VIRTIO_NET_OK && d->on_filter)
		d->on_filter(d->filter_ctx, &d->v);
	return status;
}

static uint8_t ctrl_command(struct vnet *d, const struct virtq_elem *e)
{
	struct virtio_net_ctrl_hdr hdr;
	size_t off = sizeof(hdr);

	if (iov_to_buf(e->iov, e->out_n, 0, &hdr, off) != off)
		return VIRTIO_NET_ERR;
	trace(TRACE_NET, e->id, d->v.id, "control class %u command %u", hdr.class, hdr.cmd);
	switch (hdr.class) {
	case VIRTIO_NET_CTRL_RX: return filter_changed(d, ctrl_rx(d, hdr.cmd, e, off));
	case VIRTIO_NET_CTRL_MAC: return filter_changed(d, ctrl_mac(d, hdr.cmd, e, off));
	case VIRTIO_NET_CTRL_VLAN: return filter_changed(d, ctrl_vlan(d, hdr.cmd, e, off));
	case VIRTIO_NET_CTRL_ANNOUNCE: return ctrl_announce(d, hdr.cmd);
	case VIRTIO_NET_CTRL_MQ: return ctrl_mq(d, hdr.cmd, e, off);
	case VIRTIO_NET_CTRL_GUEST_OFFLOADS: return ctrl_offloads(d, hdr.cmd, e, off);
	default: return VIRTIO_NET_ERR;
	}
}

void ctrl_kick(struct virtio_dev *v, unsigned q)
{
	struct vnet *d = to_net(v);
	struct virtq *vq = &v->queues[q];
	struct iovec iov[VIRTQ_MAX_IOV];
	struct virtq_elem e;

	do {
		virtq_kicks_off(vq);
		while (virtq_pop(vq, &e, iov, ARRAY_SIZE(iov)) == 1) {
			uint8_t ack;

			virtio_queues_lock(v);
			ack = ctrl_command(d, &e);
			virtio_queues_unlock(v);
			iov_from_buf(e.iov + e.out_n, e.in_n, 0, &ack, 1);
			virtq_push(vq, &e, e.in_len ? 1 : 0);
		}
	} while (virtq_kicks_on(vq));
	virtio_flush(v, q);
}

/* --- saved machines --- */

static const struct state_field filter_fields[] = {
	STATE_FIELD(struct net_filter, STATE_BOOL, promisc),
	STATE_FIELD(struct net_filter, STATE_BOOL, allmulti),
	STATE_FIELD(struct net_filter, STATE_BOOL, alluni),
	STATE_FIELD(struct net_filter, STATE_BOOL, nomulti),
	STATE_FIELD(struct net_filter, STATE_BOOL, nouni),
	STATE_FIELD(struct net_filter, STATE_BOOL, nobcast),
	STATE_FIELD(struct net_filter, STATE_BOOL, uni_overflow),
	STATE_FIELD(struct net_filter, STATE_BOOL, multi_overflow),
	STATE_FIELD(struct net_filter, STATE_U8, uni_count),
	STATE_FIELD(struct net_filter, STATE_U8, multi_count),
	STATE_FIELD(struct net_filter, STATE_BYTES, uni),
	STATE_FIELD(struct net_filter, STATE_BYTES, multi),
	STATE_FIELD(struct net_filter, STATE_BYTES, vlans),
};

void filter_save(struct vnet *d, struct state_out *o)
{
	state_save_fields(o, &d->filter, filter_fields, ARRAY_SIZE(filter_fields));
}

int filter_load(struct vnet *d, struct state_in *in)
{
	struct net_filter f = { 0 };
	int ret = state_load_fields(in, &f, filter_fields, ARRAY_SIZE(filter_fields));

	if (ret)
		return ret;
	if (f.uni_count > FILTER_MACS || f.multi_count > FILTER_MACS)
		return state_bad(in, "%s: %u and %u addresses in a filter of %u", d->v.id,
				 f.uni_count, f.multi_count, FILTER_MACS);
	d->filter = f;
	return 0;
}
