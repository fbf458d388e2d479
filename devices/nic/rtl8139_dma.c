/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rtl8139_dma.c: the 8139C+'s packets: four transmit slots and one receive ring (plain mode), or
 * descriptor rings (C+ mode). A frame passes through d->frame in both directions, behind a
 * virtio_net_hdr. Lock of the device's loop.
 */
#include <errno.h>

#include "devices/nic/rtl8139.h"
#include "vmm/base/log.h"

#define HDR_LEN sizeof(struct virtio_net_hdr)
#define ETH_HLEN 14
#define FCS_LEN 4
#define FRAME_MIN 60
#define FRAME_MAX 1792			/* what the chip sends in plain mode */
#define RX_MAX (0x1fff - FCS_LEN)
#define BATCH 64
#define IP_TCP 6
#define IP_UDP 17

/* Receive status of the plain ring and, shifted, of C+ descriptors */
#define RX_ROK 0x0001
#define RX_BAR 0x2000
#define RX_PAM 0x4000
#define RX_MAR 0x8000

#define CP_OWN (1u << 31)
#define CP_EOR (1u << 30)
#define CP_FS (1u << 29)
#define CP_LS (1u << 28)
#define CP_LGSEN (1u << 27)
#define CP_IPCS (1u << 18)
#define CP_UDPCS (1u << 17)
#define CP_TCPCS (1u << 16)
#define CP_MSS(v) ((v) >> 16 & 0x7ff)
#define CP_TAGC (1u << 17)
#define CP_TAVA (1u << 16)
#define CP_RX_MAR (1u << 26)
#define CP_RX_PAM (1u << 25)
#define CP_RX_BAR (1u << 24)
#define CP_DESC 16

static uint8_t *frame_at(struct rtl8139 *d) { return d->frame + HDR_LEN; }

static bool dma_allowed(struct rtl8139 *d)
{
	return pci_bus_master(&d->pci) && !d->paused;
}

/* --- receive --- */

static uint32_t ring_size(const struct rtl8139 *d)
{
	return RCR_RBLEN(rtl32(d, R_RCR));
}

/* Bytes the driver has not read yet. It writes CAPR 16 short. */
static uint32_t ring_unread(const struct rtl8139 *d)
{
	return (d->rx_head - (rtl16(d, R_CAPR) + 16u)) & (ring_size(d) - 1);
}

bool rtl_ring_empty(const struct rtl8139 *d)
{
	return ring_unread(d) == 0;
}

static uint64_t cp_rx_desc(const struct rtl8139 *d)
{
	return ((uint64_t)rtl32(d, R_RDSAR + 4) << 32 | (rtl32(d, R_RDSAR) & ~0xffu)) +
	       d->cp_rx * CP_DESC;
}

static bool cp_rx_read(struct rtl8139 *d, uint32_t dw[4])
{
	uint8_t raw[CP_DESC];

	if (mem_read(d->mem, cp_rx_desc(d), raw, sizeof(raw)) < 0)
		return false;
	for (int i = 0; i < 4; i++)
		dw[i] = ld_le32(raw + 4 * i);
	return true;
}

bool rtl_can_receive(struct rtl8139 *d)
{
	if (!(d->reg[R_CR] & CR_RE) || !d->link || !dma_allowed(d))
		return false;
	if (d->reg[R_CPCR] & CPCR_RXEN)
		/* the driver gives descriptors without a word: looked at for each frame */
		return true;
	/* A frame that finds no room waits at the host: the driver writes CAPR. */
	return ring_size(d) - ring_unread(d) > 1536 + 16;
}

static uint32_t ether_crc_be(const uint8_t *p, int len)
{
	uint32_t crc = ~0u;

	while (len--) {
		uint8_t byte = *p++;

		for (int bit = 0; bit < 8; bit++, byte >>= 1)
			crc = crc << 1 ^ ((crc >> 31 ^ byte) & 1 ? 0x04c11db7u : 0);
	}
	return crc;
}

/* The status bits of a frame for us, 0 when nobody wants it. */
static uint16_t rx_filter(const struct rtl8139 *d, const uint8_t *dst)
{
	uint32_t rcr = rtl32(d, R_RCR);
	unsigned hash;

	if (!memcmp(dst, "\xff\xff\xff\xff\xff\xff", 6))
		return rcr & (RCR_AB | RCR_AAP) ? RX_ROK | RX_BAR : 0;
	if (dst[0] & 1) {
		hash = ether_crc_be(dst, 6) >> 26;
		if (rcr & RCR_AAP ||
		    (rcr & RCR_AM && d->reg[R_MAR + (hash >> 3)] >> (hash & 7) & 1))
			return RX_ROK | RX_MAR;
		return 0;
	}
	if (!memcmp(dst, d->reg, 6))
		return rcr & (RCR_APM | RCR_AAP) ? RX_ROK | RX_PAM : 0;
	return rcr & RCR_AAP ? RX_ROK : 0;
}

static int ring_write(struct rtl8139 *d, uint32_t at, const void *buf, uint32_t len)
{
	uint32_t size = ring_size(d), first;
	uint64_t base = rtl32(d, R_RBSTART);

	/* With WRAP a frame runs on past the ring's end, except in the largest ring. */
	if (rtl32(d, R_RCR) & RCR_WRAP && size != 65536)
		return mem_write(d->mem, base + at, buf, len);
	first = MIN(len, size - at);
	if (mem_write(d->mem, base + at, buf, first) < 0)
		return -EFAULT;
	return len > first ? mem_write(d->mem, base, (const uint8_t *)buf + first, len - first) : 0;
}

static void rx_plain(struct rtl8139 *d, uint16_t status, size_t len)
{
	uint32_t size = ring_size(d), need = ALIGN_UP(4 + len + FCS_LEN, 4);
	uint8_t head[4];

	d->rx_head &= size - 1;
	if (need + 4 > size - ring_unread(d)) {
		st_le32(d->reg + R_MPC, (rtl32(d, R_MPC) + 1) & 0xffffff);
		rtl_cause(d, ISR_RXOVW);
		return;
	}
	memset(frame_at(d) + len, 0, FCS_LEN + 3);
	st_le16(head, status);
	st_le16(head + 2, len + FCS_LEN);
	/* Header and frame lie together; one piece with them makes WRAP simple. */
	memmove(frame_at(d) + 4, frame_at(d), len + FCS_LEN + 3);
	memcpy(frame_at(d), head, 4);
	if (ring_write(d, d->rx_head, frame_at(d), need) < 0) {
		log_guest("%s: the receive ring at 0x%x lies outside memory", d->pci.dev.id,
			  rtl32(d, R_RBSTART));
		d->reg[R_CR] &= ~CR_RE;
		return;
	}
	d->rx_head = (d->rx_head + need) & (size - 1);
	rtl_cause(d, ISR_ROK);
}

/* False: no descriptor; the frame is lost, as the chip loses it. */
static bool rx_cplus(struct rtl8139 *d, uint16_t status, size_t len)
{
	uint32_t dw[4], room, flags = 0, vlan = 0;
	uint8_t *f = frame_at(d), raw[8];

	if (!cp_rx_read(d, dw) || !(dw[0] & CP_OWN))
		return false;
	room = dw[0] & 0x1fff;
	if (d->reg[R_CPCR] & CPCR_RXVLAN && len >= ETH_HLEN + 4 && ld_be16(f + 12) == 0x8100) {
		vlan = CP_TAVA | ld_le16(f + 14);
		memmove(f + 12, f + 16, len - 16);
		len -= 4;
	}
	if (len < FRAME_MIN) {
		memset(f + len, 0, FRAME_MIN - len);
		len = FRAME_MIN;
	}
	memset(f + len, 0, FCS_LEN);
	len += FCS_LEN;
	/*
	 * A frame longer than the buffer is cut; the drivers that exist give buffers for a whole
	 * one.
	 */
	if (mem_write(d->mem, (uint64_t)dw[3] << 32 | dw[2], f, MIN(len, (size_t)room)) < 0) {
		log_guest("%s: receive descriptor %u points outside memory", d->pci.dev.id,
			  d->cp_rx);
		rtl_cause(d, ISR_SERR);
		return false;
	}
	flags |= status & RX_BAR   ? CP_RX_BAR
		 : status & RX_MAR ? CP_RX_MAR
		 : status & RX_PAM ? CP_RX_PAM
				   : 0;
	st_le32(raw, (dw[0] & CP_EOR) | CP_FS | CP_LS | flags | len);
	st_le32(raw + 4, vlan);
	mem_write(d->mem, cp_rx_desc(d) + 4, raw + 4, 4);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	mem_write(d->mem, cp_rx_desc(d), raw, 4);
	d->cp_rx = dw[0] & CP_EOR ? 0 : (d->cp_rx + 1) % CP_RING;
	rtl_cause(d, ISR_ROK);
	return true;
}

/* A frame of len bytes stands in d->frame. */
static void rx_frame(struct rtl8139 *d, size_t len)
{
	uint8_t *f = frame_at(d);
	uint16_t status;

	if (len < ETH_HLEN || len > RX_MAX)
		return;
	status = rx_filter(d, f);
	if (!status)
		return;
	if (len < FRAME_MIN) {
		memset(f + len, 0, FRAME_MIN - len);
		len = FRAME_MIN;
	}
	trace(TRACE_NET, 0, d->pci.dev.id, "received %zu bytes", len);
	d->tally[T_RX_OK]++;
	d->tally[T_RX_PHYS] += !!(status & RX_PAM);
	d->tally[T_RX_BROADCAST] += !!(status & RX_BAR);
	d->tally[T_RX_MULTICAST] += !!(status & RX_MAR);
	if (!(d->reg[R_CPCR] & CPCR_RXEN)) {
		rx_plain(d, status, len);
	} else if (!rx_cplus(d, status, len)) {
		d->tally[T_MISSED]++;
		rtl_cause(d, ISR_RXOVW);
	}
}

void rtl_receive(struct rtl8139 *d)
{
	for (int i = 0; i < BATCH && rtl_can_receive(d); i++) {
		struct iovec iov = { d->frame, HDR_LEN + RX_MAX };
		ssize_t len = net_recv(d->net, 0, &iov, 1);

		if (len == -EMSGSIZE)
			continue;
		if (len < 0)
			break;
		rx_frame(d, len - HDR_LEN);
	}
	rtl_rx_start(d);
}

/* --- transmit --- */

/* One's complement sum of big-endian words. */
static uint32_t sum(const uint8_t *p, size_t len, uint32_t s)
{
	for (; len > 1; len -= 2, p += 2) {
		s += ld_be16(p);
		s = (s & 0xffff) + (s >> 16);
	}
	if (len)
		s += *p << 8;
	return (s & 0xffff) + (s >> 16);
}

/*
 * What a C+ descriptor asks for: IP header sum, transport sum, segmentation (IPv4 only, as the
 * chip).
 */
static bool tx_offload(struct rtl8139 *d, uint32_t cmd, size_t len)
{
	struct virtio_net_hdr *h = (struct virtio_net_hdr *)d->frame;
	uint8_t *ip = frame_at(d) + ETH_HLEN, *l4;
	bool large = cmd & CP_LGSEN;
	size_t ihl, l4_len;
	uint32_t s;

	if (len >= ETH_HLEN + 4 && ld_be16(ip - 2) == 0x8100)
		ip += 4;
	if (len < (size_t)(ip - frame_at(d)) + 20 || ld_be16(ip - 2) != 0x800 || *ip >> 4 != 4)
		return !large;
	ihl = (*ip & 15) * 4;
	l4 = ip + ihl;
	l4_len = large ? len - (l4 - frame_at(d)) : ld_be16(ip + 2) - ihl;
	if (ihl < 20 || l4 + l4_len > frame_at(d) + len || l4_len > 65535)
		return !large;
	if (large)
		st_be16(ip + 2, ihl + l4_len);
	if (large || cmd & CP_IPCS) {
		st_be16(ip + 10, 0);
		st_be16(ip + 10, ~sum(ip, ihl, 0));
	}
	if (!large && !(cmd & (CP_TCPCS | CP_UDPCS)))
		return true;
	if ((ip[9] != IP_TCP && ip[9] != IP_UDP) || l4_len < (ip[9] == IP_TCP ? 20 : 8))
		return !large;
	s = sum(ip + 12, 8, ip[9] + l4_len);
	st_be16(l4 + (ip[9] == IP_TCP ? 16 : 6), (s & 0xffff) + (s >> 16));
	h->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	h->csum_start = l4 - frame_at(d);
	h->csum_offset = ip[9] == IP_TCP ? 16 : 6;
	if (!large)
		return true;
	h->hdr_len = h->csum_start + (l4[12] >> 4) * 4;
	if (ip[9] != IP_TCP || !CP_MSS(cmd) || (l4[12] >> 4) < 5 || h->hdr_len > len)
		return false;
	if (len - h->hdr_len > CP_MSS(cmd)) {
		h->gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
		h->gso_size = CP_MSS(cmd);
	}
	return true;
}

/*
 * The frame in d->frame goes out, or comes back in loopback mode. 0, -EAGAIN, or an error that
 * loses it.
 */
static ssize_t tx_frame(struct rtl8139 *d, size_t len)
{
	struct iovec iov = { d->frame, HDR_LEN };

	if (len < FRAME_MIN) {
		memset(frame_at(d) + len, 0, FRAME_MIN - len);
		len = FRAME_MIN;
	}
	trace(TRACE_NET, 0, d->pci.dev.id, "sent %zu bytes", len);
	if ((rtl32(d, R_TCR) & TCR_LBK) == TCR_LBK) {
		if (d->reg[R_CR] & CR_RE)
			rx_frame(d, len);
		return 0;
	}
	iov.iov_len += len;
	return d->net && d->link ? MIN(net_send(d->net, 0, &iov, 1), (ssize_t)0) : 0;
}

/* 1: one frame went; 0: nothing to do, or no room. */
static int tx_plain(struct rtl8139 *d)
{
	unsigned off = R_TSD + 4 * d->tx_slot;
	uint32_t tsd = rtl32(d, off);
	size_t len = tsd & TSD_SIZE;
	ssize_t ret;

	if (tsd & TSD_OWN)
		return 0;
	memset(d->frame, 0, HDR_LEN);
	if (len > FRAME_MAX ||
	    mem_read(d->mem, rtl32(d, R_TSAD0 + 4 * d->tx_slot), frame_at(d), len) < 0) {
		log_guest("%s: transmit slot %u: %zu bytes at 0x%x cannot be sent", d->pci.dev.id,
			  d->tx_slot, len, rtl32(d, R_TSAD0 + 4 * d->tx_slot));
		st_le32(d->reg + off, tsd | TSD_OWN | TSD_TABT);
		d->tx_slot = (d->tx_slot + 1) % TX_SLOTS;
		d->tally[T_TX_ERR]++;
		rtl_cause(d, ISR_TER);
		return 1;
	}
	ret = tx_frame(d, len);
	if (ret == -EAGAIN) {
		d->tx_watch = true;
		rtl_watch(d);
		return 0;
	}
	d->tally[T_TX_OK]++;
	st_le32(d->reg + off, tsd | TSD_OWN | TSD_TOK);
	d->tx_slot = (d->tx_slot + 1) % TX_SLOTS;
	rtl_cause(d, ISR_TOK);
	return 1;
}

/*
 * The frame at *pos of the ring at base: 1 sent, 0 there is none (or no room: d->tx_watch). All its
 * descriptors are read first, then, when it is sent, given back.
 */
static int tx_cplus(struct rtl8139 *d, unsigned base_reg, uint32_t *pos)
{
	uint64_t base = (uint64_t)rtl32(d, base_reg + 4) << 32 | (rtl32(d, base_reg) & ~0xffu);
	uint32_t i = *pos, n = 0, dw[4], first = 0, vlan = 0;
	uint64_t where[CP_RING];
	uint32_t flags[CP_RING];
	size_t len = 0;
	bool bad = false;
	ssize_t ret = 0;

	do {
		uint8_t raw[CP_DESC];
		uint32_t part;

		if (n == CP_RING || mem_read(d->mem, base + i * CP_DESC, raw, sizeof(raw)) < 0)
			return 0;
		for (int k = 0; k < 4; k++)
			dw[k] = ld_le32(raw + 4 * k);
		if (!(dw[0] & CP_OWN))
			return 0;
		if (n == 0) {
			first = dw[0];
			vlan = dw[1];
		}
		part = dw[0] & 0xffff;
		if (len + part > RTL_FRAME - HDR_LEN - 64 ||
		    mem_read(d->mem, (uint64_t)dw[3] << 32 | dw[2], frame_at(d) + len, part) < 0)
			bad = true;
		else
			len += part;
		where[n] = base + i * CP_DESC;
		flags[n++] = dw[0];
		i = dw[0] & CP_EOR ? 0 : (i + 1) % CP_RING;
	} while (!(dw[0] & CP_LS));
	memset(d->frame, 0, HDR_LEN);
	if (vlan & CP_TAGC && len >= 12 && !bad) {
		memmove(frame_at(d) + 16, frame_at(d) + 12, len - 12);
		st_be16(frame_at(d) + 12, 0x8100);
		st_le16(frame_at(d) + 14, vlan);
		len += 4;
	}
	if (!bad && tx_offload(d, first, len))
		ret = tx_frame(d, len);
	else
		log_guest("%s: a frame of %u descriptors at 0x%llx cannot be sent", d->pci.dev.id,
			  n, (unsigned long long)where[0]);
	if (ret == -EAGAIN) {
		d->tx_watch = true;
		rtl_watch(d);
		return 0;
	}
	d->tally[T_TX_OK]++;
	while (n--) {
		uint8_t raw[4];

		st_le32(raw, flags[n] & ~CP_OWN);
		mem_write(d->mem, where[n], raw, 4);
	}
	*pos = i;
	rtl_cause(d, ISR_TOK);
	return 1;
}

void rtl_transmit(struct rtl8139 *d)
{
	int done = 0;

	if (!(d->reg[R_CR] & CR_TE) || !dma_allowed(d) || d->tx_watch ||
	    loop_timer_armed(&d->tx_next))
		return;
	if (!(d->reg[R_CPCR] & CPCR_TXEN)) {
		while (!rtl_cplus(d) && done < BATCH && tx_plain(d))
			done++;
		/* at most four can wait: the rest is the driver's doing in loopback */
		return;
	}
	while (d->cp_poll && done++ < BATCH && !d->tx_watch) {
		bool high = d->cp_poll & TPPOLL_HPQ;

		if (!tx_cplus(d, high ? R_TSAD0 + 8 : R_TSAD0, high ? &d->cp_tx_high : &d->cp_tx) &&
		    !d->tx_watch) {
			d->cp_poll &= ~(high ? TPPOLL_HPQ : TPPOLL_NPQ);
			rtl_cause(d, ISR_TDU);
		}
	}
	if (d->cp_poll && !d->tx_watch)
		loop_timer_set(&d->tx_next, 0);
}

/* The tally counters to the address in TSD0/TSD1; the command bit clears when they are there. */
void rtl_dump_tally(struct rtl8139 *d)
{
	uint64_t to = (uint64_t)rtl32(d, R_TSD + 4) << 32 | (rtl32(d, R_TSD) & ~0x3fu);
	const uint64_t *t = d->tally;
	uint8_t raw[64] = { 0 };

	st_le64(raw, t[T_TX_OK]);
	st_le64(raw + 8, t[T_RX_OK]);
	st_le64(raw + 16, t[T_TX_ERR]);
	st_le32(raw + 24, t[T_RX_ERR]);
	st_le16(raw + 28, t[T_MISSED]);
	st_le64(raw + 40, t[T_RX_PHYS]);
	st_le64(raw + 48, t[T_RX_BROADCAST]);
	st_le32(raw + 56, t[T_RX_MULTICAST]);
	if (dma_allowed(d) && mem_write(d->mem, to, raw, sizeof(raw)) < 0)
		log_guest("%s: tally counters to 0x%llx, outside memory", d->pci.dev.id,
			  (unsigned long long)to);
	st_le32(d->reg + R_TSD, rtl32(d, R_TSD) & ~DTCCR_DUMP);
}
