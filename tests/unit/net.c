/* SPDX-License-Identifier: GPL-2.0-or-later */
/* net.c: options, addresses, checksums and segments. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/backend.h"
#include "net/user_filter.h"

Test(net_spec, words_values_and_commas)
{
	struct net_spec s;
	unsigned at = 0;
	struct err err = { 0 };

	cr_assert_eq(net_spec_parse(&s, "tap,br0,script=/a,,b,x=1,x=2,restrict", NULL), 0);
	cr_expect_str_eq(s.kind, "tap");
	cr_expect_str_eq(net_spec_get(&s, "script"), "/a,b");
	cr_expect_str_eq(net_spec_next(&s, "x", &at), "1");
	cr_expect_str_eq(net_spec_next(&s, "x", &at), "2");
	cr_expect_null(net_spec_next(&s, "x", &at));
	cr_expect_str_eq(net_spec_get(&s, "restrict"), "on");
	cr_expect_eq(net_spec_check(&s, "k", &err), -EINVAL);
	cr_expect(strstr(err.msg, "\"br0\""));
	cr_expect_str_eq(net_spec_word(&s), "br0");
	cr_expect_null(net_spec_word(&s));
	cr_expect_eq(net_spec_check(&s, "k", NULL), 0);
	net_spec_free(&s);
}

Test(net_mac, parse)
{
	uint8_t mac[6];

	cr_expect_eq(net_parse_mac("52:54:00:12:34:5f", mac, NULL), 0);
	cr_expect_eq(memcmp(mac, "\x52\x54\x00\x12\x34\x5f", 6), 0);
	cr_expect_eq(net_parse_mac("52-54-00-12-34-5F", mac, NULL), 0);
	for (const char *const *p =
		     (const char *const[]){ "", "52:54:00:12:34", "52:54:00:12:34:56:78",
					    "53:54:00:12:34:56", "00:00:00:00:00:00",
					    "52:54-00:12:34:56", "52:54:00:12:34:5g",
					    "5254.0012.3456", NULL };
	     *p; p++)
		cr_expect_eq(net_parse_mac(*p, mac, NULL), -EINVAL, "%s", *p);
}

/* Two machines of one name get two addresses; the first gets its own again when it is alone. */
Test(net_mac, stable_and_unique)
{
	uint8_t first[6], again[6], other[6];
	int status, pair[2];
	pid_t pid;

	cr_assert_eq(pipe(pair), 0);
	pid = fork();
	if (pid == 0) {
		net_default_mac("unit-test-vm", 0, false, first);
		net_default_mac("unit-test-vm", 1, false, other);
		_exit(write(pair[1], first, 6) != 6 || !memcmp(first, other, 6));
	}
	cr_assert_eq(read(pair[0], first, 6), 6);
	waitpid(pid, &status, 0);
	cr_assert_eq(status, 0);
	net_default_mac("unit-test-vm", 0, false, again);
	cr_expect_eq(memcmp(first, again, 6), 0);
	cr_expect_eq(memcmp(first, "\x52\x54\x00", 3), 0);
	pid = fork();
	if (pid == 0) {
		net_default_mac("unit-test-vm", 0, false, other);
		_exit(!memcmp(other, again, 6));
	}
	waitpid(pid, &status, 0);
	cr_expect_eq(status, 0);
	/* One that takes over from this process keeps it. */
	pid = fork();
	if (pid == 0) {
		net_default_mac("unit-test-vm", 0, true, other);
		_exit(memcmp(other, again, 6) != 0);
	}
	waitpid(pid, &status, 0);
	cr_expect_eq(status, 0);
}

/* RFC 1071's own example, and odd lengths. */
Test(net_csum, examples)
{
	static const uint8_t rfc[] = { 0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7 };
	uint16_t sum = csum_fold(csum_add(0, rfc, sizeof(rfc)));

	cr_expect_eq(ld_be16(&sum), (uint16_t)~0xddf2);
	sum = csum_fold(csum_add(0, rfc, 3));
	cr_expect_eq(ld_be16(&sum), (uint16_t)~(0x0001 + 0xf200));
}

static void put_ip4(uint8_t *f, unsigned payload, unsigned flags)
{
	memset(f, 0, 54);
	memcpy(f + 12, "\x08\x00\x45\x00", 4);
	st_be16(f + 16, 40 + payload);
	st_be16(f + 18, 0x1234);
	memcpy(f + 22, "\x40\x06\x00\x00\x0a\x00\x00\x01\x0a\x00\x00\x02", 12);
	st_be32(f + 38, 0xfffffff0);		/* the sequence number wraps */
	f[46] = 5 << 4;
	f[47] = flags;
	for (unsigned i = 0; i < payload; i++)
		f[54 + i] = i * 3;
}

Test(net_gso, segments_are_whole_packets)
{
	struct net_gso g = { .frame = calloc(1, NET_MAX_FRAME), .len = 54 + 2500 };
	struct iovec iov[2];
	unsigned n = 0, payload = 0;

	g.hdr = (struct virtio_net_hdr){ .flags = 1,
					 .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
					 .gso_size = 1000,
					 .csum_start = 34,
					 .csum_offset = 16 };
	put_ip4(g.frame, 2500, 0x99);		/* CWR ACK PSH FIN */
	cr_assert_eq(gso_begin(&g), 0);
	while (gso_segment(&g, iov)) {
		uint8_t p[2000], *h = p;
		uint32_t sum;

		memcpy(p, iov[0].iov_base, iov[0].iov_len);
		memcpy(p + iov[0].iov_len, iov[1].iov_base, iov[1].iov_len);
		cr_expect_eq(iov[0].iov_len, 54);
		cr_expect_eq(iov[1].iov_len, n < 2 ? 1000 : 500);
		cr_expect_eq(ld_be16(h + 16), 40 + iov[1].iov_len);
		cr_expect_eq(ld_be16(h + 18), 0x1234 + n);
		cr_expect_eq(ld_be32(h + 38), 0xfffffff0 + n * 1000);
		cr_expect_eq(h[47], n == 0 ? 0x90 : n == 1 ? 0x10 : 0x19);
		cr_expect_eq(csum_fold(csum_add(0, h + 14, 20)), 0);
		sum = csum_add(0, h + 26, 8);
		sum = csum_add(sum,
			       (uint8_t[]){ 0, 6, (20 + iov[1].iov_len) >> 8, 20 + iov[1].iov_len },
			       4);
		cr_expect_eq(csum_fold(csum_add(sum, h + 34, 20 + iov[1].iov_len)), 0);
		for (unsigned i = 0; i < iov[1].iov_len; i++)
			cr_assert_eq(p[54 + i], (uint8_t)((payload + i) * 3));
		payload += iov[1].iov_len;
		n++;
		gso_advance(&g);
	}
	cr_expect_eq(n, 3);
	cr_expect_eq(payload, 2500);
	free(g.frame);
}

/*
 * Random headers over random frames: refused or sent, never outside the buffer (the sanitizers
 * watch).
 */
Test(net_gso, nonsense)
{
	struct net_gso g = { .frame = calloc(1, NET_MAX_FRAME) };
	unsigned seed = 7, sent = 0;

	for (int i = 0; i < 200000; i++) {
		struct iovec iov[2];
		unsigned n = 0;

		g.len = rand_r(&seed) % (i % 16 ? 200 : NET_MAX_FRAME);
		for (unsigned k = 0; k < MIN(g.len, 100u); k++)
			g.frame[k] = rand_r(&seed) >> 9;
		if (i % 2)
			put_ip4(g.frame, 0, 0);
		for (unsigned k = 0; k < sizeof(g.hdr); k++)
			((uint8_t *)&g.hdr)[k] = rand_r(&seed) >> 9;
		g.hdr.gso_type = (uint8_t[]){ 0, 1, 4, 0x81, g.hdr.gso_type }[i % 5];
		if (i % 3)
			g.hdr.csum_start %= 100;
		if (gso_begin(&g) < 0)
			continue;
		while (gso_segment(&g, iov)) {
			cr_assert_leq(iov[0].iov_len + iov[1].iov_len, g.len);
			cr_assert_lt(n++, 2000);
			gso_advance(&g);
		}
		sent += n;
	}
	cr_expect_gt(sent, 1000);
	free(g.frame);
}

/* --- what a guest behind user networking may reach --- */

static size_t v4(uint8_t *f, const char *to, unsigned proto, unsigned from_port, unsigned to_port,
		 unsigned flags, unsigned fragment)
{
	memset(f, 0, 80);
	st_be16(f + 12, 0x800);
	f[14] = 0x45;
	st_be16(f + 20, fragment);
	f[23] = proto;
	inet_pton(AF_INET, "10.0.2.15", f + 26);
	inet_pton(AF_INET, to, f + 30);
	st_be16(f + 34, from_port);
	st_be16(f + 36, to_port);
	f[34 + 12] = 0x50;
	f[34 + 13] = flags;
	return 60;
}

static size_t v6(uint8_t *f, const char *to, unsigned proto, unsigned to_port, unsigned flags)
{
	memset(f, 0, 100);
	st_be16(f + 12, 0x86dd);
	f[14] = 0x60;
	f[20] = proto;
	inet_pton(AF_INET6, "fec0::15", f + 22);
	inet_pton(AF_INET6, to, f + 38);
	st_be16(f + 54, 4000);
	st_be16(f + 56, to_port);
	f[54 + 13] = flags;
	return 80;
}

static bool port_99_is_ours(uint16_t port) { return port == 99; }

static struct user_filter default_filter(void)
{
	struct user_filter f = { .bits6 = 64, .is_ours = port_99_is_ours };

	inet_pton(AF_INET, "10.0.2.0", &f.net);
	inet_pton(AF_INET, "255.255.255.0", &f.mask);
	inet_pton(AF_INET, "10.0.2.2", &f.host);
	inet_pton(AF_INET, "10.0.2.3", &f.dns);
	inet_pton(AF_INET6, "fec0::", &f.net6);
	inet_pton(AF_INET6, "fec0::2", &f.host6);
	inet_pton(AF_INET6, "fec0::3", &f.dns6);
	return f;
}

enum { SYN = 2, ACK = 16, MORE = 0x2000 };

Test(user_filter, addresses_ports_and_services)
{
	static const struct {
		const char *to;
		unsigned proto, port, flags, fragment;
		enum user_verdict closed, open;		/* without and with loopback=on */
	} rows[] = {
		{ "8.8.8.8", IPPROTO_TCP, 80, SYN, 0, USER_PASS, USER_PASS },
		{ "10.0.3.2", IPPROTO_TCP, 80, SYN, 0, USER_PASS, USER_PASS },
		{ "10.0.2.2", IPPROTO_TCP, 80, SYN, 0, USER_REFUSE, USER_PASS },
		{ "10.0.2.2", IPPROTO_TCP, 99, SYN, 0, USER_REFUSE, USER_REFUSE },
		{ "10.0.2.77", IPPROTO_TCP, 80, SYN, 0, USER_REFUSE, USER_PASS },
		{ "10.0.2.255", IPPROTO_TCP, 80, SYN, 0, USER_REFUSE, USER_PASS },
		{ "127.0.0.1", IPPROTO_TCP, 80, SYN, 0, USER_REFUSE, USER_PASS },
		{ "127.9.9.9", IPPROTO_TCP, 99, SYN, 0, USER_REFUSE, USER_REFUSE },
		{ "0.0.0.0", IPPROTO_TCP, 80, SYN, 0, USER_REFUSE, USER_PASS },
		{ "255.255.255.255", IPPROTO_UDP, 80, 0, 0, USER_DROP, USER_PASS },
		/* of a connection that stands, or stands not */
		{ "10.0.2.2", IPPROTO_TCP, 80, ACK, 0, USER_PASS, USER_PASS },
		{ "10.0.2.2", IPPROTO_TCP, 80, SYN | ACK, 0, USER_PASS, USER_PASS },
		{ "10.0.2.2", IPPROTO_UDP, 80, 0, 0, USER_DROP, USER_PASS },
		/* DHCP, TFTP, DNS, ping are libslirp's own */
		{ "255.255.255.255", IPPROTO_UDP, 67, 0, 0, USER_PASS, USER_PASS },
		{ "10.0.2.2", IPPROTO_UDP, 67, 0, 0, USER_PASS, USER_PASS },
		{ "10.0.2.2", IPPROTO_UDP, 69, 0, 0, USER_PASS, USER_PASS },
		{ "10.0.2.9", IPPROTO_UDP, 69, 0, 0, USER_DROP, USER_PASS },
		{ "10.0.2.3", IPPROTO_UDP, 53, 0, 0, USER_PASS, USER_PASS },
		{ "10.0.2.2", IPPROTO_ICMP, 0, 0, 0, USER_PASS, USER_PASS },
		/* a header in two pieces is not looked through */
		{ "10.0.2.2", IPPROTO_TCP, 80, ACK, MORE, USER_DROP, USER_DROP },
		{ "10.0.2.2", IPPROTO_TCP, 80, ACK, 1, USER_DROP, USER_DROP },
		{ "10.0.2.2", IPPROTO_UDP, 69, 0, MORE, USER_DROP, USER_PASS },
		{ "8.8.8.8", IPPROTO_TCP, 80, SYN, MORE, USER_PASS, USER_PASS },
	};
	uint8_t f[128];
	unsigned port;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		for (int open = 0; open < 2; open++) {
			struct user_filter u = default_filter();
			size_t len = v4(f, rows[i].to, rows[i].proto, 4000, rows[i].port,
					rows[i].flags, rows[i].fragment);

			u.open_all = open;
			cr_expect_eq(user_filter_out(&u, f, len, &port),
				     open ? rows[i].open : rows[i].closed, "row %zu, open %d", i,
				     open);
			/* Cut short it is nothing, or judged by its address; never read beyond. */
			for (size_t n = 0; n < len; n++) {
				uint8_t *cut = malloc(n ? n : 1);

				memcpy(cut, f, n);
				user_filter_out(&u, cut, n, &port);
				user_filter_in(&u, cut, n);
				free(cut);
			}
		}
}

Test(user_filter, ip6)
{
	static const struct {
		const char *to;
		unsigned proto, port;
		enum user_verdict v;
	} rows[] = {
		{ "2001:db8::1", IPPROTO_TCP, 80, USER_PASS },
		{ "fec0::2", IPPROTO_TCP, 80, USER_REFUSE },
		{ "fec0::9:9", IPPROTO_TCP, 80, USER_REFUSE },
		{ "fe80::2", IPPROTO_TCP, 80, USER_REFUSE },
		{ "::1", IPPROTO_TCP, 80, USER_REFUSE },
		{ "::", IPPROTO_TCP, 80, USER_REFUSE },
		{ "::ffff:127.0.0.1", IPPROTO_TCP, 80, USER_REFUSE },
		{ "::ffff:10.0.2.2", IPPROTO_TCP, 80, USER_REFUSE },
		{ "::ffff:8.8.8.8", IPPROTO_TCP, 80, USER_PASS },
		{ "ff02::1", IPPROTO_UDP, 80, USER_DROP },
		{ "ff02::1:2", IPPROTO_UDP, 547, USER_PASS },
		{ "fec0::2", IPPROTO_UDP, 69, USER_PASS },
		{ "fec0::3", IPPROTO_UDP, 53, USER_PASS },
	};
	uint8_t f[128];
	unsigned port;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct user_filter u = default_filter();
		size_t len = v6(f, rows[i].to, rows[i].proto, rows[i].port, SYN);

		cr_expect_eq(user_filter_out(&u, f, len, &port), rows[i].v, "row %zu", i);
	}
}

/* A forwarded datagram is answered; nothing else is sent under its name. Each port is told once. */
Test(user_filter, answers_services_and_words)
{
	struct user_filter u = default_filter();
	struct in_addr a;
	uint8_t f[128], out[USER_RESET_MAX];
	unsigned port;
	size_t len = v4(f, "10.0.2.15", IPPROTO_UDP, 5353, 53, 0, 0);

	inet_pton(AF_INET, "10.0.2.2", f + 26);
	user_filter_in(&u, f, len);
	len = v4(f, "10.0.2.2", IPPROTO_UDP, 53, 5353, 0, 0);
	cr_expect_eq(user_filter_out(&u, f, len, &port), USER_PASS);
	len = v4(f, "10.0.2.2", IPPROTO_UDP, 53, 5354, 0, 0);
	cr_expect_eq(user_filter_out(&u, f, len, &port), USER_DROP);
	cr_expect_eq(port, 5354);
	user_filter_out(&u, f, len, &port);
	cr_expect_eq(port, 0);
	inet_pton(AF_INET, "10.0.2.100", &a);
	cr_expect_eq(user_filter_service(&u, a, 80), 0);
	len = v4(f, "10.0.2.100", IPPROTO_TCP, 4000, 80, SYN, 0);
	cr_expect_eq(user_filter_out(&u, f, len, &port), USER_PASS);
	len = v4(f, "10.0.2.100", IPPROTO_TCP, 4000, 81, SYN, 0);
	cr_expect_eq(user_filter_out(&u, f, len, &port), USER_REFUSE);
	cr_expect_eq(user_filter_reset(f, out), 54);
	cr_expect_eq(ld_be16(out + 34), 81);
	cr_expect_eq(ld_be16(out + 36), 4000);
	cr_expect_eq(out[34 + 13], 4 | 16);
	cr_expect_eq(user_filter_open(&u, "8000:5432", NULL), 0);
	len = v4(f, "10.0.2.2", IPPROTO_TCP, 4000, 5432, SYN, 0);
	cr_expect_eq(user_filter_out(&u, f, len, &port), USER_PASS);
}
