/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * e1000_tx.c: the 82540EM's transmit side (manual, 3.3-3.5): legacy, context and data descriptors,
 * checksum insertion, segmentation, VLAN tags. Lock of the device's loop.
 *
 * A packet is taken when its last descriptor is there, sent from the driver's own buffers, and only
 * then passed over. Checksums and segmentation are left to the backend by a virtio_net_hdr; the
 * headers are copied where the chip would change them (IP length and checksum, VLAN tag).
 */
#include <errno.h>
#include <linux/virtio_net.h>

#include "devices/nic/e1000.h"
#include "vmm/base/iov.h"
#include "vmm/base/limits.h"
#include "vmm/base/log.h"

#define HDR_LEN sizeof(struct virtio_net_hdr)
#define TX_PIECES 256		/* a packet in more pieces is dropped */
#define TX_BATCH 64		/* packets until others get their turn */
#define CACHE 32		/* descriptors fetched at a time */
#define HEAD_MAX 512		/* bytes of headers we may have to change */

struct tx_cache { uint32_t first, count; struct e1000_desc desc[CACHE]; };

struct tx_packet {
	struct virtio_net_hdr hdr;
	struct e1000_desc first, last;
	uint32_t ndesc;
	size_t len;
	bool bad, rs, ide;
	unsigned tag;			/* bytes put into head */
	int n;				/* pieces in iov, from index 2 on */
	struct iovec iov[TX_PIECES + 4];
	uint8_t head[HEAD_MAX + 4];
	size_t head_len;
};

/* Descriptor i of the ring; a run of them is fetched at once, as the chip does. */
static int tx_desc(struct e1000 *d, struct tx_cache *c, uint32_t i, uint32_t ring,
		   struct e1000_desc *out)
{
	UNINITIALIZED uint8_t raw[CACHE * DESC_SIZE];

	if (i < c->first || i >= c->first + c->count) {
		uint32_t n = i < d->tdt ? d->tdt - i : ring - i;

		n = MIN(n, (uint32_t)CACHE);
		if (mem_read(d->mem, e1000_tx_base(d) + (uint64_t)i * DESC_SIZE, raw,
			     n * DESC_SIZE) < 0)
			return -EFAULT;
		for (uint32_t k = 0; k < n; k++)
			c->desc[k] = (struct e1000_desc){ ld_le64(raw + k * DESC_SIZE),
							  ld_le32(raw + k * DESC_SIZE + 8),
							  ld_le32(raw + k * DESC_SIZE + 12) };
		c->first = i;
		c->count = n;
	}
	*out = c->desc[i - c->first];
	return 0;
}

static bool is_context(const struct e1000_desc *t)
{
	return t->low & TXD_DEXT && TXD_DTYP(t->low) != TXD_DTYP_DATA;
}

static void take_context(struct e1000 *d, const struct e1000_desc *t)
{
	d->tctx = (struct e1000_ctx){
		.ip = t->addr, .tu = t->addr >> 32, .cmd = t->low, .mss = t->high
	};
}

static void add_piece(struct e1000 *d, struct tx_packet *p, const struct e1000_desc *t)
{
	uint32_t len = t->low & (t->low & TXD_DEXT ? 0xfffff : 0xffff);
	int n;

	if (!len || p->bad)
		return;
	if (p->len + len > NET_MAX_FRAME) {
		p->bad = true;
		return;
	}
	n = mem_iov(d->mem, t->addr, len, false, p->iov + 2 + p->n, TX_PIECES - p->n);
	if (n < 0) {
		log_guest("%s: a packet of %u bytes at 0x%llx, where no memory is, or in too many "
			  "pieces: dropped",
			  d->pci.dev.id, len, (unsigned long long)t->addr);
		p->bad = true;
		return;
	}
	p->n += n;
	p->len += len;
}

/*
 * Collects the packet at TDH: 1, 0 when its end is not there yet, -EFAULT when the ring cannot be
 * read.
 */
static int tx_collect(struct e1000 *d, struct tx_cache *c, uint32_t ring, struct tx_packet *p)
{
	uint32_t i = d->tdh;
	struct e1000_desc t;

	p->n = p->ndesc = 0;
	p->len = p->head_len = 0;
	p->bad = p->rs = p->ide = false;
	p->tag = 0;
	for (; i != d->tdt; i = i + 1 == ring ? 0 : i + 1) {
		if (tx_desc(d, c, i, ring, &t) < 0) {
			mem_iov_done(d->mem, p->iov + 2, p->n, 0);
			return -EFAULT;
		}
		p->ndesc++;
		p->rs |= !!(t.low & TXD_RS);
		p->ide |= !!(t.low & TXD_IDE);
		if (is_context(&t)) {
			take_context(d, &t);
			if (p->ndesc == 1)
				return 1;	/* a context alone: nothing to send */
			continue;
		}
		if (p->ndesc == 1)
			p->first = t;
		add_piece(d, p, &t);
		/* No driver has packets of so many descriptors; whoever does loses them. */
		p->bad |= p->ndesc >= TURN_DESCRIPTORS;
		if (t.low & TXD_EOP || p->ndesc >= TURN_DESCRIPTORS) {
			p->last = t;
			return 1;
		}
	}
	mem_iov_done(d->mem, p->iov + 2, p->n, 0);
	return 0;
}

/* --- what the chip puts into the packet --- */

/* The first bytes of the packet, copied so that they can be changed. */
static bool need_head(struct tx_packet *p, size_t len)
{
	if (len > HEAD_MAX || len > p->len)
		return false;
	if (!p->head_len)
		p->head_len = iov_to_buf(p->iov + 2, p->n, 0, p->head,
					 MIN(p->len, (size_t)HEAD_MAX));
	return true;
}

static uint16_t head_csum(const uint8_t *p, size_t len, uint32_t sum)
{
	for (; len > 1; len -= 2, p += 2)
		sum += ld_be16(p);
	if (len)
		sum += *p << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static void insert_ip_csum(struct e1000 *d, struct tx_packet *p)
{
	unsigned start = d->tctx.ip & 0xff, at = d->tctx.ip >> 8 & 0xff,
		 end = (d->tctx.ip >> 16) + 1;

	if (end <= start || at + 2 > end || at < start || !need_head(p, end)) {
		log_guest("%s: IP checksum over bytes %u to %u of %zu: left out", d->pci.dev.id,
			  start, end, p->len);
		return;
	}
	st_be16(p->head + at, 0);
	st_be16(p->head + at, ~head_csum(p->head + start, end - start, 0));
}

/* A checksum that ends before the packet does, which a virtio_net_hdr cannot say. */
static void insert_partial_csum(struct e1000 *d, struct tx_packet *p, unsigned start, unsigned at,
				unsigned end)
{
	size_t len = iov_to_buf(p->iov + 2, p->n, 0, d->bounce, p->len);
	uint16_t sum = ~head_csum(d->bounce + start, end - start, 0);

	if (!need_head(p, at + 2) || len != p->len)
		return;
	st_be16(p->head + at, sum);
}

static void insert_l4_csum(struct e1000 *d, struct tx_packet *p, unsigned start, unsigned at,
			   unsigned end)
{
	if (at < start || at + 2 > p->len || start >= p->len || (end && end <= at + 1)) {
		log_guest("%s: checksum at byte %u of %zu, from %u on: left out", d->pci.dev.id, at,
			  p->len, start);
		return;
	}
	if (end && end < p->len) {
		insert_partial_csum(d, p, start, at, end);
		return;
	}
	p->hdr.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	p->hdr.csum_start = start;
	p->hdr.csum_offset = at - start;
}

/*
 * The driver left lengths out of the headers, for the chip to fill in each segment; the backend
 * wants the whole's.
 */
static bool prepare_tso(struct e1000 *d, struct tx_packet *p)
{
	unsigned ipcss = d->tctx.ip & 0xff, tucss = d->tctx.tu & 0xff,
		 hdrlen = d->tctx.mss >> 8 & 0xff;
	unsigned mss = d->tctx.mss >> 16;
	bool v4 = d->tctx.cmd & TXD_TUCMD_IP;
	uint8_t *ip = p->head + ipcss;
	uint32_t sum, l4_len;

	if (!(d->tctx.cmd & TXD_TUCMD_TCP) || !mss || hdrlen < tucss + 20 ||
	    tucss < ipcss + (v4 ? 20 : 40) || hdrlen >= p->len || !need_head(p, hdrlen) ||
	    *ip >> 4 != (v4 ? 4 : 6)) {
		log_guest("%s: segmentation of %zu bytes with headers of %u (IP at %u, TCP at %u), "
			  "MSS %u makes no sense: dropped",
			  d->pci.dev.id, p->len, hdrlen, ipcss, tucss, mss);
		return false;
	}
	l4_len = p->len - tucss;
	if (v4) {
		st_be16(ip + 2, p->len - ipcss);
		st_be16(ip + 10, 0);
		st_be16(ip + 10, ~head_csum(ip, tucss - ipcss, 0));
		sum = head_csum(ip + 12, 8, 0);
	} else {
		st_be16(ip + 4, p->len - ipcss - 40);
		sum = head_csum(ip + 8, 32, 0);
	}
	sum += 6 /* IPPROTO_TCP */ + (l4_len & 0xffff) + (l4_len >> 16);
	st_be16(p->head + tucss + 16, head_csum(NULL, 0, sum));
	p->hdr.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	p->hdr.csum_start = tucss;
	p->hdr.csum_offset = 16;
	if (p->len - hdrlen > mss) {
		p->hdr.gso_type = v4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
		p->hdr.gso_size = mss;
		p->hdr.hdr_len = hdrlen;
		if (p->head[tucss + 13] & 0x80)
			p->hdr.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
		e1000_count(d, 0x40f8, 1);		/* TSCTC */
	}
	return true;
}

static void insert_vlan(struct e1000 *d, struct tx_packet *p)
{
	if (!need_head(p, 12))
		return;
	memmove(p->head + 16, p->head + 12, p->head_len - 12);
	st_be16(p->head + 12, d->vet);
	st_be16(p->head + 14, p->last.high >> 16);
	p->tag = 4;
	p->head_len += p->tag;
	p->len += p->tag;
	if (p->hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
		p->hdr.csum_start += 4;
	if (p->hdr.hdr_len)
		p->hdr.hdr_len += 4;
}

/* False: the packet cannot be sent. */
static bool tx_offload(struct e1000 *d, struct tx_packet *p)
{
	const struct e1000_desc *t = &p->first;
	uint32_t popts = t->high;

	if (!(t->low & TXD_DEXT)) {
		if (p->last.low & TXD_IC)
			insert_l4_csum(d, p, p->last.high >> 8 & 0xff, p->last.low >> 16 & 0xff, 0);
	} else if (t->low & TXD_TSE) {
		if (!prepare_tso(d, p))
			return false;
	} else {
		if (popts & TXD_POPTS_IXSM)
			insert_ip_csum(d, p);
		if (popts & TXD_POPTS_TXSM)
			insert_l4_csum(d, p, d->tctx.tu & 0xff, d->tctx.tu >> 8 & 0xff,
				       d->tctx.tu >> 16 ? (d->tctx.tu >> 16) + 1 : 0);
	}
	if (p->last.low & TXD_VLE && d->ctrl & CTRL_VME)
		insert_vlan(d, p);
	return true;
}

/* --- sending --- */

static ssize_t tx_send(struct e1000 *d, struct tx_packet *p)
{
	static const uint8_t zeros[60];
	UNINITIALIZED struct iovec iov[TX_PIECES + 4];
	size_t replaced = p->head_len - p->tag;
	int n = 0;

	iov[n++] = (struct iovec){ &p->hdr, HDR_LEN };
	if (p->head_len)
		iov[n++] = (struct iovec){ p->head, p->head_len };
	for (int i = 0; i < p->n; i++) {
		size_t cut = MIN(replaced, p->iov[2 + i].iov_len);

		replaced -= cut;
		if (cut < p->iov[2 + i].iov_len)
			iov[n++] = (struct iovec){ (char *)p->iov[2 + i].iov_base + cut,
						   p->iov[2 + i].iov_len - cut };
	}
	if (p->len < sizeof(zeros) && d->tctl & TCTL_PSP)
		iov[n++] = (struct iovec){ (void *)zeros, sizeof(zeros) - p->len };
	if (RCTL_LBM(d->rctl) || e1000_phy_loopback(d)) {
		if (p->hdr.gso_type == VIRTIO_NET_HDR_GSO_NONE)
			e1000_loopback(d, d->bounce,
				       iov_to_buf(iov + 1, n - 1, 0, d->bounce, NET_MAX_FRAME));
		return 0;
	}
	if (!d->net)
		return 0;
	return net_send(d->net, 0, iov, n);
}

static void tx_statistics(struct e1000 *d, const struct tx_packet *p)
{
	uint8_t dst = 0;

	if (p->head_len)
		dst = p->head[0];
	else
		iov_to_buf(p->iov + 2, p->n, 0, &dst, 1);
	e1000_count(d, 0x4080, 1);			/* GPTC */
	e1000_count(d, 0x40d4, 1);			/* TPT */
	e1000_count64(d, 0x4090, p->len + 4);		/* GOTC */
	e1000_count64(d, 0x40c8, p->len + 4);		/* TOT */
	if (dst == 0xff)
		e1000_count(d, 0x40f4, 1);		/* BPTC */
	else if (dst & 1)
		e1000_count(d, 0x40f0, 1);		/* MPTC */
}

/* Marks the packet's descriptors done and moves TDH past them. */
static void tx_complete(struct e1000 *d, struct tx_cache *c, uint32_t ring,
			const struct tx_packet *p)
{
	for (uint32_t k = 0; k < p->ndesc; k++) {
		struct e1000_desc t;

		if (p->rs && tx_desc(d, c, d->tdh, ring, &t) == 0 && t.low & TXD_RS) {
			uint8_t status = t.high | TXD_DD;

			mem_write(d->mem, e1000_tx_base(d) + (uint64_t)d->tdh * DESC_SIZE + 12,
				  &status, 1);
		}
		d->tdh = d->tdh + 1 == ring ? 0 : d->tdh + 1;
	}
}

/* Delays count in units of 1.024 us. */
static void tx_interrupt(struct e1000 *d, bool now, bool delayed)
{
	int64_t at, t = d->tidv & 0xffff;

	if (now || (delayed && !t)) {
		loop_timer_cancel(&d->tx_timer);
		d->tx_absolute = 0;
		e1000_cause(d, ICR_TXDW);
		return;
	}
	if (!delayed)
		return;
	at = e1000_now(d);
	if (!d->tx_absolute && d->tadv & 0xffff)
		d->tx_absolute = at + (d->tadv & 0xffff) * 1024ll;
	at += t * 1024;
	if (d->tx_absolute)
		at = MIN(at, d->tx_absolute);
	loop_timer_set(&d->tx_timer, at);
}

void e1000_tx_flush(struct e1000 *d)
{
	if (!loop_timer_armed(&d->tx_timer))
		return;
	loop_timer_cancel(&d->tx_timer);
	d->tx_absolute = 0;
	e1000_cause(d, ICR_TXDW);
}

/* One packet: 1 to go on, 0 to stop. */
static int tx_one(struct e1000 *d, struct tx_cache *c, uint32_t ring, struct tx_packet *p,
		  bool *now, bool *delayed)
{
	ssize_t ret = 0;
	int got = tx_collect(d, c, ring, p);

	if (got == -EFAULT)
		log_guest("%s: the transmit ring at 0x%llx lies outside memory", d->pci.dev.id,
			  (unsigned long long)e1000_tx_base(d));
	if (got <= 0)
		return 0;
	memset(&p->hdr, 0, sizeof(p->hdr));
	if (!p->bad && p->len && tx_offload(d, p))
		ret = tx_send(d, p);
	mem_iov_done(d->mem, p->iov + 2, p->n, 0);
	if (ret == -EAGAIN) {
		d->tx_watch = true;
		e1000_watch(d);
		return 0;
	}
	if (ret >= 0 && p->len && !p->bad)
		tx_statistics(d, p);
	trace(TRACE_NET, 0, d->pci.dev.id, "sent %zu bytes of %u descriptors%s", p->len, p->ndesc,
	      ret < 0 ? ": dropped" : "");
	tx_complete(d, c, ring, p);
	*now |= p->rs && !p->ide;
	*delayed |= p->rs && p->ide;
	return 1;
}

void e1000_transmit(struct e1000 *d)
{
	uint32_t ring = (d->tdlen & 0xfff80) / DESC_SIZE;
	struct tx_cache cache = { 0 };
	bool now = false, delayed = false;
	UNINITIALIZED struct tx_packet p;
	uint32_t descs = 0;
	int done = 0;

	if (!(d->tctl & TCTL_EN) || !e1000_dma_allowed(d) || d->tx_watch ||
	    loop_timer_armed(&d->tx_next))
		return;
	if (d->tdh >= ring || d->tdt >= ring) {
		if (ring)
			log_guest("%s: TDH %u or TDT %u beyond the ring of %u", d->pci.dev.id,
				  d->tdh, d->tdt, ring);
		return;
	}
	while (d->tdh != d->tdt && done < TX_BATCH && descs < TURN_DESCRIPTORS &&
	       tx_one(d, &cache, ring, &p, &now, &delayed)) {
		descs += p.ndesc;
		done++;
	}
	if (d->tdh == d->tdt && done) {
		d->icr |= ICR_TXQE;
		now |= d->ims & ICR_TXQE;
	}
	if (now || delayed)
		tx_interrupt(d, now, delayed);
	if (d->tdh != d->tdt && (done == TX_BATCH || descs >= TURN_DESCRIPTORS))
		loop_timer_set(&d->tx_next, 0);
}
