/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * e1000_rx.c: the 82540EM's receive side (manual, 3.2): filters, descriptors, checksums, VLAN
 * stripping, delayed interrupts. Lock of the device's loop.
 *
 * A packet is read straight into the driver's buffers; one that the filter refuses leaves them
 * unused. Packets the kernel hands over large or without a checksum are cut and completed by net/
 * (NET_CUT), and the driver is told that the checksum is right.
 */
#include <errno.h>
#include <linux/virtio_net.h>

#include "devices/nic/e1000.h"
#include "vmm/base/iov.h"
#include "vmm/base/log.h"

#define HDR_LEN sizeof(struct virtio_net_hdr)
#define FCS_LEN 4
#define ETH_HLEN 14
#define FRAME_MAX (1522 - FCS_LEN)	/* with a VLAN tag */
#define FRAME_MAX_LONG (16384 - FCS_LEN)
#define FRAME_MIN (64 - FCS_LEN)
#define RX_BATCH 64
/* for one packet: 16 KiB in buffers of 256 bytes, and some */
#define RX_DESCS 80
#define RX_PIECES (2 * RX_DESCS)
#define P_VLAN 0x8100

struct rx_slots {
	uint32_t n, index[RX_DESCS];	/* descriptors, from RDH on */
	int pieces;
	size_t room;
	struct iovec iov[RX_PIECES + 1];	/* [0]: the header */
};

static uint32_t rx_ring(const struct e1000 *d)
{
	return (d->rdlen & 0xfff80) / DESC_SIZE;
}

static uint32_t rx_buffer_size(const struct e1000 *d)
{
	static const uint32_t sizes[2][4] = { { 2048, 1024, 512, 256 },
					      { 2048, 16384, 8192, 4096 } };

	return sizes[!!(d->rctl & RCTL_BSEX)][RCTL_BSIZE(d->rctl)];
}

static size_t frame_max(const struct e1000 *d)
{
	return d->rctl & RCTL_LPE ? FRAME_MAX_LONG : FRAME_MAX;
}

static uint32_t rx_available(const struct e1000 *d)
{
	uint32_t ring = rx_ring(d);

	if (d->rdh >= ring || d->rdt >= ring)
		return 0;
	return d->rdt >= d->rdh ? d->rdt - d->rdh : ring - d->rdh + d->rdt;
}

bool e1000_can_receive(struct e1000 *d)
{
	return d->rctl & RCTL_EN && d->status & STATUS_LU && e1000_dma_allowed(d) &&
	       rx_available(d);
}

/* --- filters --- */
/* 13.4, "Receive Address High/Low", "Multicast Table Array", "VLAN Filter Table". */

static bool filter_address(const struct e1000 *d, const uint8_t *dst)
{
	static const unsigned shift[4] = { 4, 3, 2, 0 };
	unsigned hash;

	if (dst[0] & 1) {
		if (d->rctl & RCTL_MPE)
			return true;
		if (!memcmp(dst, "\xff\xff\xff\xff\xff\xff", 6))
			return d->rctl & RCTL_BAM;
	} else if (d->rctl & RCTL_UPE) {
		return true;
	}
	for (unsigned i = 0; i < E_RA_WORDS; i += 2)
		if (d->ra[i + 1] & RAH_AV && ld_le32(dst) == d->ra[i] &&
		    ld_le16(dst + 4) == (d->ra[i + 1] & 0xffff))
			return true;
	if (!(dst[0] & 1))
		return false;
	hash = (ld_le16(dst + 4) >> shift[RCTL_MO(d->rctl)]) & 0xfff;
	return d->mta[hash >> 5] >> (hash & 31) & 1;
}

static bool filter_accepts(const struct e1000 *d, const uint8_t *head, size_t len)
{
	if (len >= ETH_HLEN + 4 && d->rctl & RCTL_VFE && ld_be16(head + 12) == P_VLAN) {
		unsigned vid = ld_be16(head + 14) & 0xfff;

		if (!(d->vfta[vid >> 5] >> (vid & 31) & 1))
			return false;
	}
	return filter_address(d, head);
}

/* --- checksums --- */

static bool ip_header_sum_ok(const uint8_t *ip)
{
	uint32_t sum = 0;

	for (int i = 0; i < 20; i += 2)
		sum += ld_le16(ip + i);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16) == 0xffff;
}

/* Status bits for a packet whose transport checksum is known to be right. */
static uint32_t csum_status(const struct e1000 *d, const struct virtio_net_hdr *h,
			    const uint8_t *head, size_t len)
{
	size_t ip = ETH_HLEN;
	uint32_t status = 0;
	unsigned proto;

	if (!(h->flags & VIRTIO_NET_HDR_F_DATA_VALID))
		return RXD_IXSM;
	if (ld_be16(head + 12) == P_VLAN)
		ip += 4;
	if (len < ip + 20 || ld_be16(head + ip - 2) != 0x800 || head[ip] >> 4 != 4 ||
	    (head[ip] & 15) != 5)
		return RXD_IXSM;
	proto = head[ip + 9];
	if (d->rxcsum & RXCSUM_IPOFL) {
		if (!ip_header_sum_ok(head + ip))
			return RXD_IXSM;
		status |= RXD_IPCS;
	}
	if (d->rxcsum & RXCSUM_TUOFL && (proto == 6 || proto == 17) &&
	    !(ld_be16(head + ip + 6) & 0x3fff))
		status |= RXD_TCPCS;
	return status ? status : RXD_IXSM;
}

/* --- descriptors --- */

/*
 * The chip takes nothing longer than `want` off the wire, and drivers count on that: Linux gives it
 * 1522 bytes and has data of its own behind them, although the register says 2048.
 */
static void rx_trim(struct rx_slots *s, size_t want)
{
	for (int i = 1; i <= s->pieces; i++) {
		s->iov[i].iov_len = MIN(s->iov[i].iov_len, want);
		want -= s->iov[i].iov_len;
	}
}

/* Fetches descriptors for a packet of `want` bytes: 1, 0 when there are too few, -EFAULT. */
static int rx_fetch(struct e1000 *d, struct rx_slots *s, size_t want)
{
	uint32_t ring = rx_ring(d), size = rx_buffer_size(d), i = d->rdh;

	s->n = s->pieces = 0;
	s->room = 0;
	while (s->room < want && i != d->rdt && s->n < RX_DESCS) {
		uint8_t raw[DESC_SIZE];
		uint64_t at = e1000_rx_base(d) + (uint64_t)i * DESC_SIZE;
		bool there = mem_read(d->mem, at, raw, sizeof(raw)) == 0;
		int n = -EFAULT;

		if (there) {
			at = ld_le64(raw);
			n = mem_iov(d->mem, at, size, true, s->iov + 1 + s->pieces,
				    RX_PIECES - s->pieces);
		}
		if (n < 0) {
			mem_iov_done(d->mem, s->iov + 1, s->pieces, 0);
			log_guest("%s: receive descriptor %u of %u %s 0x%llx, outside memory",
				  d->pci.dev.id, i, ring, there ? "points to" : "lies at",
				  (unsigned long long)at);
			return -EFAULT;
		}
		s->index[s->n++] = i;
		s->pieces += n;
		s->room += size;
		i = i + 1 == ring ? 0 : i + 1;
	}
	rx_trim(s, want);
	/* All a small ring can ever offer has to do. */
	if (s->room >= want || s->n + 1 >= ring)
		return 1;
	mem_iov_done(d->mem, s->iov + 1, s->pieces, 0);
	return 0;
}

/* The packet of len bytes (with FCS) lies in the slots: writes descriptors back, moves RDH. */
static void rx_complete(struct e1000 *d, struct rx_slots *s, size_t len, uint32_t status,
			uint16_t vlan)
{
	uint32_t size = rx_buffer_size(d), ring = rx_ring(d), k = 0;

	mem_iov_done(d->mem, s->iov + 1, s->pieces, MIN(len, s->room));
	do {
		size_t part = MIN(len, (size_t)size);
		uint8_t raw[8];

		len -= part;
		st_le16(raw, part);
		st_le16(raw + 2, 0);
		raw[4] = RXD_DD | status | (len ? 0 : RXD_EOP);
		raw[5] = 0;
		st_le16(raw + 6, vlan);
		/* The status byte tells the driver: the rest has to be there before. */
		mem_write(d->mem, e1000_rx_base(d) + (uint64_t)s->index[k] * DESC_SIZE + 8, raw, 4);
		__atomic_thread_fence(__ATOMIC_RELEASE);
		mem_write(d->mem, e1000_rx_base(d) + (uint64_t)s->index[k] * DESC_SIZE + 12,
			  raw + 4, 4);
		k++;
	} while (len && k < s->n);
	d->rdh = (d->rdh + k) % ring;
}

static void rx_statistics(struct e1000 *d, const uint8_t *dst, size_t len)
{
	static const unsigned limit[] = { 64, 127, 255, 511, 1023 };
	unsigned bucket = 0;

	len += FCS_LEN;
	e1000_count(d, 0x4074, 1);			/* GPRC */
	e1000_count(d, 0x40d0, 1);			/* TPR */
	e1000_count64(d, 0x4088, len);			/* GORC */
	e1000_count64(d, 0x40c0, len);			/* TOR */
	while (bucket < ARRAY_SIZE(limit) && len > limit[bucket])
		bucket++;
	e1000_count(d, 0x405c + 4 * bucket, 1);		/* PRC64 ... PRC1522 */
	if (!memcmp(dst, "\xff\xff\xff\xff\xff\xff", 6))
		e1000_count(d, 0x4078, 1);		/* BPRC */
	else if (*dst & 1)
		e1000_count(d, 0x407c, 1);		/* MPRC */
}

/* --- interrupts --- */

static void rx_interrupt(struct e1000 *d)
{
	int64_t now, at, delay = d->rdtr & 0xffff;
	uint32_t ring = rx_ring(d), bits = 0;

	/* Few descriptors left: 1/2, 1/4, 1/8 of the ring. */
	if (rx_available(d) <= ring >> (1 + MIN(RCTL_RDMTS(d->rctl), 2u)))
		bits = ICR_RXDMT0;
	if (!delay) {
		e1000_cause(d, bits | ICR_RXT0);
		return;
	}
	now = e1000_now(d);
	if (!d->rx_absolute && d->radv & 0xffff)
		d->rx_absolute = now + (d->radv & 0xffff) * 1024ll;
	at = now + delay * 1024;
	if (d->rx_absolute)
		at = MIN(at, d->rx_absolute);
	loop_timer_set(&d->rx_timer, at);
	if (bits)
		e1000_cause(d, bits);
}

void e1000_rx_flush(struct e1000 *d)
{
	if (!loop_timer_armed(&d->rx_timer))
		return;
	loop_timer_cancel(&d->rx_timer);
	d->rx_absolute = 0;
	e1000_cause(d, ICR_RXT0);
}

/* --- one packet --- */

/* Takes the tag out of a packet in d->bounce when the driver wants that. Returns the new length. */
static size_t strip_vlan(struct e1000 *d, size_t len, uint32_t *status, uint16_t *vlan)
{
	if (!(d->ctrl & CTRL_VME) || len < ETH_HLEN + 4 ||
	    ld_be16(d->bounce + 12) != (uint16_t)d->vet)
		return len;
	*vlan = ld_be16(d->bounce + 14);
	*status |= RXD_VP;
	memmove(d->bounce + 12, d->bounce + 16, len - 16);
	return len - 4;
}

/*
 * The packet of len bytes is in the slots: filter, checksum, hand over. False when it was not
 * wanted.
 */
static bool rx_accept(struct e1000 *d, struct rx_slots *s, const struct virtio_net_hdr *h,
		      size_t len)
{
	static const uint8_t tail[FRAME_MIN + FCS_LEN];
	struct iovec *iov = s->iov + 1;
	uint8_t head[64] = { 0 };
	uint32_t status;
	uint16_t vlan = 0;

	iov_to_buf(iov, s->pieces, 0, head, MIN(len, sizeof(head)));
	if (len < ETH_HLEN || len > frame_max(d) || !filter_accepts(d, head, len))
		return false;
	status = csum_status(d, h, head, len);
	if (d->ctrl & CTRL_VME && ld_be16(head + 12) == (uint16_t)d->vet) {
		iov_to_buf(iov, s->pieces, 0, d->bounce, len);
		len = strip_vlan(d, len, &status, &vlan);
		iov_from_buf(iov, s->pieces, 0, d->bounce, len);
	}
	if (len < FRAME_MIN) {
		/* a host may hand over less than a wire can carry */
		iov_from_buf(iov, s->pieces, len, tail, FRAME_MIN - len);
		len = FRAME_MIN;
	}
	rx_statistics(d, head, len);
	/* The FCS counts in the length; its bytes are zero, for nobody checked the wire's. */
	if (!(d->rctl & RCTL_SECRC)) {
		iov_from_buf(iov, s->pieces, len, tail, FCS_LEN);
		len += FCS_LEN;
	}
	trace(TRACE_NET, 0, d->pci.dev.id, "received %zu bytes into descriptor %u", len, d->rdh);
	rx_complete(d, s, len, status, vlan);
	return true;
}

void e1000_receive(struct e1000 *d)
{
	size_t want = frame_max(d) + FCS_LEN;
	struct virtio_net_hdr h;
	UNINITIALIZED struct rx_slots s;
	unsigned got = 0;

	for (int i = 0; i < RX_BATCH && e1000_can_receive(d); i++) {
		int ret = rx_fetch(d, &s, want);
		ssize_t len;

		if (ret == -EFAULT) {
			/* until the driver sets its ring up again */
			d->rctl &= ~RCTL_EN;
			break;
		}
		if (ret == 0) {
			/*
			 * A long packet might not fit: it waits at the host until the driver gives
			 * more.
			 */
			d->rx_watch = false;
			e1000_watch(d);
			break;
		}
		s.iov[0] = (struct iovec){ &h, HDR_LEN };
		len = net_recv(d->net, 0, s.iov, 1 + s.pieces);
		if (len < 0) {
			mem_iov_done(d->mem, s.iov + 1, s.pieces, 0);
			if (len == -EMSGSIZE) {
				e1000_count(d, 0x40ac, 1);	/* ROC: too long */
				continue;
			}
			break;
		}
		if (!rx_accept(d, &s, &h, len - HDR_LEN))
			mem_iov_done(d->mem, s.iov + 1, s.pieces, len - HDR_LEN);
		else
			got++;
	}
	if (got)
		rx_interrupt(d);
	if (!e1000_can_receive(d)) {
		d->rx_watch = false;
		e1000_watch(d);
	}
}

/* A packet of our own comes back: MAC or PHY loopback. */
void e1000_loopback(struct e1000 *d, const uint8_t *frame, size_t len)
{
	static const struct virtio_net_hdr none;
	UNINITIALIZED struct rx_slots s;

	if (!(d->rctl & RCTL_EN) || !rx_available(d) || len > frame_max(d) ||
	    rx_fetch(d, &s, len + FCS_LEN) < 1) {
		e1000_count(d, 0x4010, 1);	/* MPC */
		return;
	}
	iov_from_buf(s.iov + 1, s.pieces, 0, frame, len);
	if (rx_accept(d, &s, &none, len))
		rx_interrupt(d);
	else
		mem_iov_done(d->mem, s.iov + 1, s.pieces, len);
}
