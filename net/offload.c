/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * offload.c: checksums and TCP segmentation in software, from a virtio_net_hdr (virtio 1.2,
 * 5.1.6.2), for backends that take only finished frames. The header and the frame are the guest's:
 * every offset is checked first.
 */
#include <errno.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "net/backend.h"

#define IP4_HLEN 20
#define IP6_HLEN 40
#define TCP_HLEN 20
#define TCP_FIN_PSH 0x09
#define TCP_CWR 0x80
#define MSS_MIN 48		/* below it a packet would become thousands of segments */

struct net_gso *gso_new(void)
{
	struct net_gso *g = xcalloc(1, sizeof(*g));

	g->frame = xcalloc(1, NET_MAX_FRAME);
	return g;
}

void gso_free(struct net_gso *g)
{
	if (g)
		free(g->frame);
	free(g);
}

/*
 * Words of 64 bits with the carry put back in: their 16-bit parts have the same one's complement
 * sum.
 */
static uint64_t sum_words(uint64_t s, const uint8_t *p, size_t words)
{
	uint64_t a, b, c, d;

	for (; words >= 4; words -= 4, p += 32) {
		memcpy(&a, p, 8);
		memcpy(&b, p + 8, 8);
		memcpy(&c, p + 16, 8);
		memcpy(&d, p + 24, 8);
		s += a, s += s < a;
		s += b, s += s < b;
		s += c, s += s < c;
		s += d, s += s < d;
	}
	for (; words; words--, p += 8) {
		memcpy(&a, p, 8);
		s += a, s += s < a;
	}
	return s;
}

uint32_t csum_add(uint32_t sum, const void *buf, size_t len)
{
	const uint8_t *p = buf;
	uint64_t s = sum_words(sum, p, len / 8), tail = 0;

	/* The odd byte is the first of a pair whose second is 0; little endian host. */
	memcpy(&tail, p + len / 8 * 8, len % 8);
	s = (s & 0xffffffff) + (s >> 32) + (tail & 0xffffffff) + (tail >> 32);
	s = (s & 0xffffffff) + (s >> 32);
	return (s & 0xffffffff) + (s >> 32);
}

uint16_t csum_fold(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/*
 * The checksum field holds the pseudo header's sum; 0 is sent as its other form, which UDP needs.
 */
static int finish_csum(struct net_gso *g)
{
	uint32_t start = g->hdr.csum_start, at = start + g->hdr.csum_offset;
	uint16_t sum;

	if (start >= g->len || !range_ok(at, 2, g->len))
		return -EINVAL;
	sum = csum_fold(csum_add(0, g->frame + start, g->len - start));
	if (!sum)
		sum = 0xffff;
	memcpy(g->frame + at, &sum, 2);
	return 0;
}

static int find_headers(struct net_gso *g)
{
	uint32_t off = ETH_HLEN - 2;
	const uint8_t *f = g->frame;
	uint16_t type = 0;

	for (int tags = 0; tags < 3; tags++, off += 4) {
		if (!range_ok(off, 2, g->len))
			return -EINVAL;
		type = ld_be16(f + off);
		if (type != ETH_P_8021Q && type != ETH_P_8021AD)
			break;
	}
	g->net_off = off + 2;
	g->v6 = type == ETH_P_IPV6;
	if (type != (g->v6 ? ETH_P_IPV6 : ETH_P_IP) ||
	    !range_ok(g->net_off, g->v6 ? IP6_HLEN : IP4_HLEN, g->len))
		return -EINVAL;
	f += g->net_off;
	if (g->v6) {
		/* Extension headers are walked by the driver: csum_start says where TCP is. */
		g->l4_off = g->hdr.csum_start;
		if (g->l4_off < g->net_off + IP6_HLEN)
			return -EINVAL;
	} else {
		g->l4_off = g->net_off + (f[0] & 15) * 4;
		if ((f[0] & 15) < 5 || f[9] != IPPROTO_TCP)
			return -EINVAL;
	}
	if (!range_ok(g->l4_off, TCP_HLEN, g->len))
		return -EINVAL;
	g->payload_off = g->l4_off + (g->frame[g->l4_off + 12] >> 4) * 4;
	if (g->payload_off < g->l4_off + TCP_HLEN || g->payload_off > g->len ||
	    g->payload_off > sizeof(g->head))
		return -EINVAL;
	return 0;
}

int gso_begin(struct net_gso *g)
{
	unsigned type = g->hdr.gso_type & ~VIRTIO_NET_HDR_GSO_ECN;

	g->tcp = type != VIRTIO_NET_HDR_GSO_NONE;
	g->next = 0;
	g->segment = 0;
	if (g->len > NET_MAX_FRAME)
		return -EINVAL;
	if (!g->tcp)
		return g->hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM ? finish_csum(g) : 0;
	if ((type != VIRTIO_NET_HDR_GSO_TCPV4 && type != VIRTIO_NET_HDR_GSO_TCPV6) ||
	    g->hdr.gso_size < MSS_MIN || find_headers(g) < 0 ||
	    g->v6 != (type == VIRTIO_NET_HDR_GSO_TCPV6))
		return -EINVAL;
	g->next = g->payload_off;
	return 0;
}

static uint32_t segment_len(const struct net_gso *g)
{
	return g->jumbo ? g->len - g->next : MIN(g->len - g->next, (uint32_t)g->hdr.gso_size);
}

bool gso_segment(struct net_gso *g, struct iovec iov[2])
{
	uint8_t *ip = g->head + g->net_off, *tcp = g->head + g->l4_off;
	uint32_t len, l4_len, sum;
	uint16_t c;

	if (!g->tcp) {
		iov[0] = (struct iovec){ g->frame, g->len };
		iov[1] = (struct iovec){ NULL, 0 };
		return g->segment == 0;
	}
	if (g->next >= g->len && g->segment)
		return false;
	len = segment_len(g);
	l4_len = g->payload_off - g->l4_off + len;
	memcpy(g->head, g->frame, g->payload_off);
	if (g->v6) {
		st_be16(ip + 4, g->l4_off - g->net_off - IP6_HLEN + l4_len);
		sum = csum_add(0, ip + 8, 32);
	} else {
		st_be16(ip + 2, g->l4_off - g->net_off + l4_len);
		st_be16(ip + 4, ld_be16(ip + 4) + g->segment);
		memset(ip + 10, 0, 2);
		c = csum_fold(csum_add(0, ip, g->l4_off - g->net_off));
		memcpy(ip + 10, &c, 2);
		sum = csum_add(0, ip + 12, 8);
	}
	sum = csum_add(sum, (uint8_t[]){ 0, IPPROTO_TCP, l4_len >> 8, l4_len & 0xff }, 4);
	st_be32(tcp + 4, ld_be32(tcp + 4) + (g->next - g->payload_off));
	if (g->next + len < g->len)
		tcp[13] &= ~TCP_FIN_PSH;
	if (g->segment)
		tcp[13] &= ~TCP_CWR;
	memset(tcp + 16, 0, 2);
	sum = csum_add(sum, tcp, g->payload_off - g->l4_off);
	c = csum_fold(csum_add(sum, g->frame + g->next, len));
	memcpy(tcp + 16, &c, 2);
	iov[0] = (struct iovec){ g->head, g->payload_off };
	iov[1] = (struct iovec){ g->frame + g->next, len };
	return true;
}

void gso_advance(struct net_gso *g)
{
	g->segment++;
	if (g->tcp)
		g->next += segment_len(g);
}
