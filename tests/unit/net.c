/* SPDX-License-Identifier: GPL-2.0-or-later */
/* net.c: options, addresses, checksums and segments. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/backend.h"

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
