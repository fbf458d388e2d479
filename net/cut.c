/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cut.c: for a card without large receive: a TCP packet of many segments, as the host's kernel
 * passes it on, is taken from the backend in one piece and handed to the card segment by segment,
 * checksums complete (NET_CUT). One read of the TAP instead of one for each segment, and the kernel
 * need not cut it. The queue's loop.
 */
#include <errno.h>
#include <limits.h>

#include "net/backend.h"
#include "vmm/base/iov.h"

static void give_header(struct net *n, const struct iovec *iov, int niov)
{
	static const struct virtio_net_hdr_mrg_rxbuf whole = {
		.hdr.flags = VIRTIO_NET_HDR_F_DATA_VALID, .num_buffers = 1
	};

	iov_from_buf(iov, niov, 0, &whole, n->hdr_len);
}

/*
 * The next segment of the packet in g. One that does not fit is lost, as it would be on a wire to
 * such a card.
 */
static ssize_t next_segment(struct net *n, struct net_gso *g, const struct iovec *iov, int niov)
{
	struct iovec seg[2];
	size_t len;

	if (!gso_segment(g, seg)) {
		g->pending = false;
		return -EAGAIN;
	}
	len = seg[0].iov_len + seg[1].iov_len;
	gso_advance(g);
	g->pending = g->next < g->len;
	if (n->hdr_len + len > iov_bytes(iov, niov))
		return -EMSGSIZE;
	give_header(n, iov, niov);
	iov_from_buf(iov, niov, n->hdr_len, seg[0].iov_base, seg[0].iov_len);
	iov_from_buf(iov, niov, n->hdr_len + seg[0].iov_len, seg[1].iov_base, seg[1].iov_len);
	return n->hdr_len + len;
}

ssize_t cut_recv(struct net *n, unsigned q, struct net_gso *g, const struct iovec *iov, int niov)
{
	size_t room = iov_bytes(iov, niov) - n->hdr_len, frame;
	struct iovec with[niov + 1];
	ssize_t len;

	if (g->pending)
		return next_segment(n, g, iov, niov);
	/*
	 * What the card's buffers cannot hold goes behind the place where their contents can be
	 * put.
	 */
	memcpy(with, iov, niov * sizeof(*iov));
	room = MIN(room, (size_t)NET_MAX_FRAME);
	with[niov] = (struct iovec){ g->frame + room, NET_MAX_FRAME - room };
	len = n->ops->recv(n, q, with, room < NET_MAX_FRAME ? niov + 1 : niov);
	if (len < 0)
		return len;
	frame = len - n->hdr_len;
	iov_to_buf(iov, niov, 0, &g->hdr, sizeof(g->hdr));
	g->len = frame;
	if (g->hdr.gso_type == VIRTIO_NET_HDR_GSO_NONE &&
	    !(g->hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
		return frame <= room ? len : -EMSGSIZE;
	if (g->hdr.gso_type == VIRTIO_NET_HDR_GSO_NONE && frame > room)
		return -EMSGSIZE;
	iov_to_buf(iov, niov, n->hdr_len, g->frame, MIN(frame, room));
	if (gso_begin(g) < 0)
		return -EMSGSIZE;
	return next_segment(n, g, iov, niov);
}
