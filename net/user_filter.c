/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * user_filter.c: see user_filter.h. IPv4: RFC 791; IPv6: RFC 8200 (libslirp takes no extension
 * headers); TCP: RFC 9293; addresses by what libslirp 4.7 does with them.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/user_filter.h"

#define ETH_LEN 14
#define ETH_IP 0x0800
#define ETH_IP6 0x86dd
#define IP_MORE_FRAGMENTS 0x2000
#define IP_FRAGMENT_OFFSET 0x1fff
#define PORT_BOOTP 67
#define PORT_TFTP 69
#define PORT_DHCP6 547
#define TCP_LEN 20
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* What a frame carries, as far as the filter asks. */
struct packet {
	bool v6, fragment;
	unsigned proto;			/* 0: neither TCP nor UDP */
	struct in_addr to;
	struct in6_addr to6;
	uint16_t from_port, to_port;
	uint8_t flags;			/* of TCP */
	size_t l3, l4;			/* where the headers begin */
};

/* False: nothing that libslirp would carry anywhere. */
static bool parse(const uint8_t *b, size_t len, struct packet *p)
{
	unsigned type, l4_len;

	*p = (struct packet){ .l3 = ETH_LEN };
	if (len < ETH_LEN + 20)
		return false;
	type = ld_be16(b + 12);
	if (type == ETH_IP) {
		unsigned fragment = ld_be16(b + ETH_LEN + 6);

		p->l4 = ETH_LEN + (b[ETH_LEN] & 15u) * 4;
		p->proto = b[ETH_LEN + 9];
		memcpy(&p->to, b + ETH_LEN + 16, 4);
		p->fragment = fragment & (IP_MORE_FRAGMENTS | IP_FRAGMENT_OFFSET);
	} else if (type == ETH_IP6 && len >= ETH_LEN + 40) {
		p->v6 = true;
		p->l4 = ETH_LEN + 40;
		p->proto = b[ETH_LEN + 6];
		memcpy(&p->to6, b + ETH_LEN + 24, 16);
	} else {
		return false;
	}
	l4_len = p->proto == IPPROTO_TCP ? TCP_LEN : 8;
	if (p->proto != IPPROTO_TCP && p->proto != IPPROTO_UDP) {
		p->proto = 0;
	} else if (!p->fragment && len >= p->l4 + l4_len && p->l4 >= ETH_LEN + 20) {
		p->from_port = ld_be16(b + p->l4);
		p->to_port = ld_be16(b + p->l4 + 2);
		p->flags = p->proto == IPPROTO_TCP ? b[p->l4 + 13] : 0;
	} else {
		/* What is missing may come in the next fragment: judged by its address alone. */
		p->fragment = true;
	}
	return true;
}

static bool in_prefix(const struct in6_addr *a, const struct in6_addr *net, unsigned bits)
{
	unsigned bytes = bits / 8, rest = bits % 8;

	return !memcmp(a, net, bytes) &&
	       (!rest || !((a->s6_addr[bytes] ^ net->s6_addr[bytes]) & (0xff00 >> rest & 0xff)));
}

/* Addresses that lead to the host's loopback: by libslirp's translation, or by themselves. */
static bool is_loopback4(const struct user_filter *f, struct in_addr a)
{
	uint32_t n = ntohl(a.s_addr);

	if ((a.s_addr & f->mask.s_addr) == f->net.s_addr)
		return a.s_addr != f->dns.s_addr;
	return n >> 24 == 127 || n >> 24 == 0 || n == 0xffffffff;
}

static bool is_loopback6(const struct user_filter *f, const struct in6_addr *a)
{
	static const struct in6_addr all_nodes = { { { 0xff, 2, [15] = 1 } } };
	struct in_addr v4;

	if (!memcmp(a, &f->dns6, sizeof(*a)))
		return false;
	if (IN6_IS_ADDR_V4MAPPED(a) || IN6_IS_ADDR_V4COMPAT(a)) {
		memcpy(&v4, a->s6_addr + 12, 4);
		return is_loopback4(f, v4);
	}
	return in_prefix(a, &f->net6, f->bits6) || IN6_IS_ADDR_LINKLOCAL(a) ||
	       IN6_IS_ADDR_LOOPBACK(a) || IN6_IS_ADDR_UNSPECIFIED(a) ||
	       !memcmp(a, &all_nodes, sizeof(*a));
}

/* What libslirp answers itself: DHCP, TFTP, guestfwd. */
static bool is_service(const struct user_filter *f, const struct packet *p)
{
	if (p->proto == IPPROTO_UDP) {
		if (p->v6)
			return p->to_port == PORT_DHCP6 ||
			       (p->to_port == PORT_TFTP &&
				!memcmp(&p->to6, &f->host6, sizeof(p->to6)));
		return p->to_port == PORT_BOOTP ||
		       (p->to_port == PORT_TFTP && p->to.s_addr == f->host.s_addr);
	}
	for (unsigned i = 0; i < f->nservices && !p->v6; i++)
		if (f->services[i].addr.s_addr == p->to.s_addr &&
		    f->services[i].port == p->to_port)
			return true;
	return false;
}

static bool is_open(const struct user_filter *f, uint16_t port)
{
	if (f->is_ours && f->is_ours(port))
		return false;
	for (unsigned i = 0; i < f->nopen; i++)
		if (f->open[i] == port)
			return true;
	return f->open_all;
}

static bool is_answer(const struct user_filter *f, const struct packet *p)
{
	/* Of a connection that the host began, or that was let through: it is known, or reset. */
	if (p->proto == IPPROTO_TCP)
		return (p->flags & (TCP_SYN | TCP_ACK)) != TCP_SYN;
	for (unsigned i = 0; i < MIN(f->nflows, (unsigned)USER_FILTER_FLOWS); i++)
		if (f->flows[i].host == p->to_port && f->flows[i].guest == p->from_port)
			return true;
	return false;
}

static bool tell(struct user_filter *f, uint16_t port)
{
	for (unsigned i = 0; i < f->ntold; i++)
		if (f->told[i] == port)
			return false;
	if (f->ntold == ARRAY_SIZE(f->told))
		return false;
	f->told[f->ntold++] = port;
	return true;
}

enum user_verdict user_filter_out(struct user_filter *f, const uint8_t *frame, size_t len,
				  unsigned *port)
{
	struct packet p;

	*port = 0;
	if (!parse(frame, len, &p) || !p.proto)
		return USER_PASS;	/* ARP, ping, neighbours: libslirp answers itself */
	if (p.v6 ? !is_loopback6(f, &p.to6) : !is_loopback4(f, p.to))
		return USER_PASS;
	if (p.fragment)
		return f->open_all && p.proto == IPPROTO_UDP ? USER_PASS : USER_DROP;
	if (is_service(f, &p) || is_open(f, p.to_port) || is_answer(f, &p))
		return USER_PASS;
	*port = tell(f, p.to_port) ? p.to_port : 0;
	return p.proto == IPPROTO_TCP ? USER_REFUSE : USER_DROP;
}

void user_filter_in(struct user_filter *f, const uint8_t *frame, size_t len)
{
	size_t l4 = ETH_LEN + 20;
	unsigned type;

	if (len < ETH_LEN + 20 + 8)
		return;
	type = ld_be16(frame + 12);
	if (type == ETH_IP) {
		if (frame[ETH_LEN + 9] != IPPROTO_UDP ||
		    memcmp(frame + ETH_LEN + 12, &f->host, 4))
			return;
		l4 = ETH_LEN + (frame[ETH_LEN] & 15u) * 4;
	} else if (type == ETH_IP6) {
		if (len < ETH_LEN + 48 || frame[ETH_LEN + 6] != IPPROTO_UDP ||
		    memcmp(frame + ETH_LEN + 8, &f->host6, 16))
			return;
		l4 = ETH_LEN + 40;
	} else {
		return;
	}
	if (len < l4 + 4)
		return;
	for (unsigned i = 0; i < MIN(f->nflows, (unsigned)USER_FILTER_FLOWS); i++)
		if (f->flows[i].host == ld_be16(frame + l4) &&
		    f->flows[i].guest == ld_be16(frame + l4 + 2))
			return;
	f->flows[f->nflows % USER_FILTER_FLOWS].host = ld_be16(frame + l4);
	f->flows[f->nflows % USER_FILTER_FLOWS].guest = ld_be16(frame + l4 + 2);
	/* Stays above USER_FILTER_FLOWS once the table is full. */
	if (++f->nflows == 2 * USER_FILTER_FLOWS)
		f->nflows = USER_FILTER_FLOWS;
}

/* --- the answer to a connection that is refused --- */

static uint32_t sum(uint32_t s, const uint8_t *b, size_t len)
{
	for (size_t i = 0; i < len; i += 2)
		s += ld_be16(b + i);
	return s;
}

static uint16_t fold(uint32_t s)
{
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return ~s;
}

size_t user_filter_reset(const uint8_t *frame, uint8_t out[USER_RESET_MAX])
{
	bool v6 = ld_be16(frame + 12) == ETH_IP6;
	size_t ip = v6 ? 40 : 20, alen = v6 ? 16 : 4, from = v6 ? 8 : 12;
	const uint8_t *in3 = frame + ETH_LEN,
		      *in4 = in3 + (v6 ? 40 : (in3[0] & 15u) * 4);
	uint8_t *o3 = out + ETH_LEN, *o4 = o3 + ip;

	memset(out, 0, USER_RESET_MAX);
	memcpy(out, frame + 6, 6);
	memcpy(out + 6, frame, 6);
	memcpy(out + 12, frame + 12, 2);
	memcpy(o3 + from, in3 + from + alen, alen);
	memcpy(o3 + from + alen, in3 + from, alen);
	if (v6) {
		o3[0] = 0x60;
		st_be16(o3 + 4, TCP_LEN);
		o3[6] = IPPROTO_TCP;
		o3[7] = 64;
	} else {
		o3[0] = 0x45;
		st_be16(o3 + 2, 20 + TCP_LEN);
		o3[8] = 64;
		o3[9] = IPPROTO_TCP;
		st_be16(o3 + 10, fold(sum(0, o3, 20)));
	}
	memcpy(o4, in4 + 2, 2);
	memcpy(o4 + 2, in4, 2);
	/* RST, ACK of the SYN (9293, 3.5.2): sequence 0. */
	st_be32(o4 + 8, ld_be32(in4 + 4) + 1);
	o4[12] = TCP_LEN / 4 << 4;
	o4[13] = TCP_RST | TCP_ACK;
	st_be16(o4 + 16, fold(sum(sum(IPPROTO_TCP + TCP_LEN, o3 + from, 2 * alen), o4, TCP_LEN)));
	return ETH_LEN + ip + TCP_LEN;
}

/* --- options --- */

int user_filter_open(struct user_filter *f, const char *text, struct err *err)
{
	char *copy, *save = NULL;
	uint64_t port;
	int ret = 0;

	if (!parse_bool(text, &f->open_all))
		return 0;
	copy = xstrdup(text);
	for (char *w = strtok_r(copy, ":", &save); w && ret == 0; w = strtok_r(NULL, ":", &save)) {
		if (parse_u64(w, 65535, &port) < 0 || !port)
			ret = err_set(err, EINVAL,
				      "loopback=%s: on, off or ports from 1 to 65535 with colons "
				      "between, as 8000:5432",
				      text);
		else if (f->nopen == ARRAY_SIZE(f->open))
			ret = err_set(err, E2BIG, "loopback=: more than %zu ports",
				      ARRAY_SIZE(f->open));
		else
			f->open[f->nopen++] = port;
	}
	if (ret == 0 && !f->nopen)
		ret = err_set(err, EINVAL, "loopback=: on, off or ports, as 8000:5432");
	free(copy);
	return ret;
}

int user_filter_service(struct user_filter *f, struct in_addr addr, uint16_t port)
{
	if (f->nservices == ARRAY_SIZE(f->services))
		return -ENOSPC;
	f->services[f->nservices].addr = addr;
	f->services[f->nservices++].port = port;
	return 0;
}
