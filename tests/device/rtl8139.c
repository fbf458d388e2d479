/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rtl8139.c: the 8139C+ as Windows XP's driver uses it (slots and a ring) and as 8139cp does
 * (descriptors).
 */
#include "devices/nic/rtl8139.h"
#include "tests/lib/nic_bench.h"

#define RING 0x30000
#define TX_BUF 0x100000
#define RX_BUF 0x200000
#define CP_TX 0x40000
#define CP_RX 0x41000

static uint8_t f[70000], g[70000];
static const uint8_t ours[6] = { 0x52, 0x54, 0, 1, 2, 3 };

static uint32_t rd(struct nic_bench *b, unsigned off, unsigned size)
{
	uint64_t v = 0;

	CHECK(bus_read(b->pio, BAR_IO + off, size, &v));
	return v;
}

static void wr(struct nic_bench *b, unsigned off, unsigned size, uint32_t v)
{
	CHECK(bus_write(b->pio, BAR_IO + off, size, v));
}

static struct nic_bench *start(void)
{
	struct nic_bench *b = bench_new(rtl8139_new, 0, 1);

	wr(b, R_CR, 1, CR_RST);
	CHECK_EQ(rd(b, R_CR, 1) & CR_RST, 0);
	wr(b, R_RBSTART, 4, RING);
	wr(b, R_CR, 1, CR_RE | CR_TE);
	wr(b, R_RCR, 4, RCR_APM | RCR_AB | RCR_WRAP);
	wr(b, R_IMR, 2, 0xffff);
	return b;
}

TEST(identity_and_widths)
{
	struct nic_bench *b = start();

	CHECK_EQ(pci_bus_config_read(b->pci, PCI_DEVFN(3, 0), 0, 4), 0x813910ec);
	CHECK_EQ(rd(b, 0, 4), 0x01005452);
	CHECK_EQ(rd(b, 4, 2), 0x0302);
	CHECK_EQ(rd(b, 5, 1), 0x03);
	CHECK_EQ(rd(b, R_TCR, 4) & 0x7cc00000, 0x74800000);
	CHECK_EQ(rd32(b, 0), 0x01005452);		/* the memory window too */
	/* The address is writable only when configuration is open. */
	wr(b, 0, 4, 0x11111111);
	CHECK_EQ(rd(b, 0, 4), 0x01005452);
	wr(b, R_9346CR, 1, EEM_CONFIG);
	wr(b, 0, 4, 0x11111110);
	CHECK_EQ(rd(b, 0, 4), 0x11111110);
	wr(b, R_9346CR, 1, EEM_AUTOLOAD);
	CHECK_EQ(rd(b, 0, 4), 0x01005452);
	/* One dword write reaches both interrupt registers. */
	wr(b, R_IMR, 4, 0x0000ffff);
	CHECK_EQ(rd(b, R_IMR, 4) & 0xffff, 0xffff);
	CHECK_EQ(rd(b, R_BMSR, 2) & 0x24, 0x24);
	bench_free(b);
}

TEST(eeprom)
{
	struct nic_bench *b = start();
	unsigned v = 0, bits = 6 << 6 | 7;

	wr(b, R_9346CR, 1, EEM_PROGRAM);
	for (int i = 8; i >= 0; i--) {
		wr(b, R_9346CR, 1, EEM_PROGRAM | 8 | (bits >> i & 1 ? 2 : 0));
		wr(b, R_9346CR, 1, EEM_PROGRAM | 8 | 4 | (bits >> i & 1 ? 2 : 0));
	}
	for (int i = 0; i < 16; i++) {
		wr(b, R_9346CR, 1, EEM_PROGRAM | 8);
		wr(b, R_9346CR, 1, EEM_PROGRAM | 8 | 4);
		v = v << 1 | (rd(b, R_9346CR, 1) & 1);
	}
	CHECK_EQ(v, 0x5452);
	bench_free(b);
}

TEST(four_slots)
{
	struct nic_bench *b = start();

	for (unsigned i = 0; i < 10; i++) {
		frame_make(f, 100 + i, ours, 0x88b5);
		poke(b, TX_BUF + i * 2048, f, 100 + i);
		wr(b, R_TSAD0 + 4 * (i % 4), 4, TX_BUF + i * 2048);
		wr(b, R_TSD + 4 * (i % 4), 4, 100 + i);
		CHECK_EQ(wire_take(b, g, sizeof(g)), 100 + i);
		CHECK(!memcmp(f, g, 100 + i));
		CHECK_EQ(rd(b, R_TSD + 4 * (i % 4), 4) & (TSD_OWN | TSD_TOK), TSD_OWN | TSD_TOK);
	}
	CHECK(b->line);
	CHECK_EQ(rd(b, R_ISR, 2), ISR_TOK);
	wr(b, R_ISR, 2, ISR_TOK);
	CHECK(!b->line);
	/* A short one is padded; one outside memory aborts and does not block the next. */
	wr(b, R_TSD + 8, 4, 20);
	CHECK_EQ(wire_take(b, g, sizeof(g)), 60);
	wr(b, R_TSAD0 + 12, 4, 0xfffff000);
	wr(b, R_TSD + 12, 4, 100);
	CHECK(rd(b, R_TSD + 12, 4) & TSD_TABT);
	wr(b, R_TSD, 4, 100);
	CHECK_EQ(wire_take(b, g, sizeof(g)), 100);
	CHECK_EQ(rd(b, R_TSAD, 2) & 0x00f0, 0x0080);
	bench_free(b);
}

/* Reads the ring as a driver does, through many laps, in all sizes. */
TEST(receive_ring)
{
	struct nic_bench *b = start();
	unsigned seed = 9;

	for (int wrap = 0; wrap < 2; wrap++) {
		uint32_t size = 8192, at = 0;

		wr(b, R_CR, 1, 0);
		wr(b, R_CR, 1, CR_RST);
		wr(b, R_RBSTART, 4, RING);
		wr(b, R_CR, 1, CR_RE | CR_TE);
		wr(b, R_RCR, 4, RCR_APM | RCR_AB | (wrap ? RCR_WRAP : 0));
		for (unsigned i = 0; i < 300; i++) {
			unsigned len = 60 + rand_r(&seed) % 1454;
			uint8_t h[4];

			frame_make(f, len, ours, 0x88b5);
			f[20] = i;
			CHECK(rd(b, R_CR, 1) & CR_BUFE);
			wire_put(b, f, len);
			for (int k = 0; k < 50 && rd(b, R_CR, 1) & CR_BUFE; k++)
				loop_once(b->loop, 1);
			peek(b, RING + at, h, 4);
			CHECK_EQ(ld_le16(h) & 0x4001, 0x4001);
			CHECK_EQ(ld_le16(h + 2), len + 4);
			for (unsigned k = 0; k < len; k++)
				peek(b, RING + (wrap ? at + 4 + k : (at + 4 + k) % size), g + k, 1);
			CHECK(!memcmp(f, g, len));
			at = (at + 4 + len + 4 + 3) & ~3u;
			at %= size;
			CHECK_EQ(rd(b, R_CBR, 2), at);
			wr(b, R_CAPR, 2, at - 16);
		}
	}
	/* A full ring: frames wait at the host until CAPR moves. */
	for (int i = 0; i < 12; i++) {
		frame_make(f, 1500, ours, 0x88b5);
		wire_put(b, f, 1500);
	}
	bench_run(b, 5);
	CHECK_EQ(rd(b, R_ISR, 2) & ISR_RXOVW, 0);
	unsigned got = 0;

	for (int i = 0; i < 30 && got < 12; i++) {
		while (!(rd(b, R_CR, 1) & CR_BUFE)) {
			uint32_t at = (rd(b, R_CAPR, 2) + 16) & 8191;

			at = (at + 1508) & ~3u;
			wr(b, R_CAPR, 2, at % 8192 - 16);
			got++;
		}
		bench_run(b, 2);
	}
	CHECK_EQ(got, 12);
	bench_free(b);
}

static void cp_desc(struct nic_bench *b, uint64_t ring, unsigned i, uint32_t cmd, uint32_t vlan,
		    uint64_t addr)
{
	uint8_t d[16];

	st_le32(d, cmd);
	st_le32(d + 4, vlan);
	st_le64(d + 8, addr);
	poke(b, ring + 16 * i, d, 16);
}

static uint32_t cp_status(struct nic_bench *b, uint64_t ring, unsigned i)
{
	uint8_t d[4];

	peek(b, ring + 16 * i, d, 4);
	return ld_le32(d);
}

static struct nic_bench *start_cplus(void)
{
	struct nic_bench *b = start();

	wr(b, R_CPCR, 2, CPCR_TXEN | CPCR_RXEN);
	wr(b, R_TSAD0, 4, CP_TX);
	wr(b, R_TSAD0 + 4, 4, 0);
	wr(b, R_RDSAR, 4, CP_RX);
	wr(b, R_RDSAR + 4, 4, 0);
	for (unsigned i = 0; i < 4; i++)
		cp_desc(b, CP_RX, i, 1u << 31 | (i == 3 ? 1u << 30 : 0) | 1600, 0,
			RX_BUF + i * 2048);
	return b;
}

TEST(cplus_receive)
{
	struct nic_bench *b = start_cplus();

	for (unsigned i = 0; i < 9; i++) {
		frame_make(f, 200 + i, ours, 0x88b5);
		wire_put(b, f, 200 + i);
		bench_run(b, 3);
		CHECK_EQ(cp_status(b, CP_RX, i % 4) & ~(1u << 30), 3u << 28 | 1u << 25 | (204 + i));
		peek(b, RX_BUF + i % 4 * 2048, g, 200 + i);
		CHECK(!memcmp(f, g, 200 + i));
		cp_desc(b, CP_RX, i % 4, 1u << 31 | (i % 4 == 3 ? 1u << 30 : 0) | 1600, 0,
			RX_BUF + i % 4 * 2048);
	}
	bench_free(b);
}

TEST(cplus_send_checksums_and_segments)
{
	struct nic_bench *b = start_cplus();
	size_t total = 0;
	ssize_t len;

	frame_tcp(f, 700);
	memcpy(g, f, 700);
	st_be16(g + 24, 0);
	st_be16(g + 50, 0x1234);		/* whatever was there */
	poke(b, TX_BUF, g, 700);
	cp_desc(b, CP_TX, 0, 1u << 31 | 1u << 29 | 1u << 18 | 1u << 16 | 100, 0, TX_BUF);
	cp_desc(b, CP_TX, 1, 1u << 31 | 1u << 28 | 600, 0, TX_BUF + 100);
	/* A VLAN tag (byte order as the chip has it), at the end of the ring. */
	cp_desc(b, CP_TX, 2, 1u << 31 | 1u << 30 | 3u << 28 | 700, 1u << 17 | 0x2301, TX_BUF);
	wr(b, R_TPPOLL, 1, TPPOLL_NPQ);
	CHECK_EQ(wire_take(b, g, sizeof(g)), 700);
	CHECK(!memcmp(f, g, 700));
	CHECK_EQ(wire_take(b, g, sizeof(g)), 704);
	CHECK_EQ(ld_be32(g + 12), 0x81000123);
	CHECK(!(cp_status(b, CP_TX, 0) >> 31) && !(cp_status(b, CP_TX, 1) >> 31) &&
	      !(cp_status(b, CP_TX, 2) >> 31));
	/* Segmentation, from the ring's start again. */
	frame_tcp(f, 54 + 6000);
	poke(b, TX_BUF, f, 54 + 6000);
	cp_desc(b, CP_TX, 0, 1u << 31 | 3u << 28 | 1u << 27 | 1460 << 16 | 6054, 0, TX_BUF);
	wr(b, R_TPPOLL, 1, TPPOLL_NPQ);
	while ((len = wire_take(b, g, sizeof(g))) > 0) {
		CHECK(frame_tcp_ok(g));
		CHECK(!memcmp(g + 54, f + 54 + total, len - 54));
		total += len - 54;
	}
	CHECK_EQ(total, 6000);
	CHECK(rd(b, R_ISR, 2) & ISR_TOK);
	bench_free(b);
}

TEST(timer_and_link)
{
	struct nic_bench *b = start();

	wr(b, R_IMR, 2, ISR_TIMEOUT | ISR_LINKCHG);
	/* a minute, whatever else this machine does */
	wr(b, R_TIMERINT, 4, 33000000u * 60);
	wr(b, R_TCTR, 4, 0);
	bench_run(b, 2);
	CHECK(!b->line);
	wr(b, R_TIMERINT, 4, 33000 * 5);		/* 5 ms */
	wr(b, R_TCTR, 4, 0);
	for (int i = 0; i < 500 && !b->line; i++)
		bench_run(b, 5);
	CHECK_EQ(rd(b, R_ISR, 2), ISR_TIMEOUT);
	CHECK(b->line);
	wr(b, R_ISR, 2, 0xffff);
	loop_lock(b->loop);
	net_set_link(b->net, false);
	loop_unlock(b->loop);
	CHECK_EQ(rd(b, R_ISR, 2), ISR_LINKCHG);
	CHECK(rd(b, R_MSR, 1) & 4);
	CHECK_EQ(rd(b, R_BMSR, 2) & 4, 0);
	bench_free(b);
}

TEST(save_and_load)
{
	struct nic_bench *b = start(), *c = bench_new(rtl8139_new, 0, 1);

	frame_make(f, 100, ours, 0x88b5);
	wire_put(b, f, 100);
	bench_run(b, 3);
	wr(b, R_TSAD0, 4, TX_BUF);
	wr(b, R_TSD, 4, 100);
	bench_copy(b, c);
	CHECK(c->line);
	CHECK_EQ(rd(c, R_CBR, 2), 108);
	CHECK_EQ(rd(c, R_ISR, 2), ISR_ROK | ISR_TOK);
	wire_put(c, f, 100);
	bench_run(c, 3);
	CHECK_EQ(rd(c, R_CBR, 2), 216);
	/* The next slot is the second. */
	poke(c, TX_BUF, f, 100);
	wr(c, R_TSAD0 + 4, 4, TX_BUF);
	wr(c, R_TSD + 4, 4, 100);
	CHECK_EQ(wire_take(c, g, sizeof(g)), 100);
	bench_free(b);
	bench_free(c);
}

/*
 * A copy has an address of its own, for the guest to find when it resets the card; until then the
 * one it knows works.
 */
TEST(copy_has_its_own_address)
{
	struct nic_bench *b = start(),
			 *c = bench_new_mac(rtl8139_new, 0, 1,
					    (const uint8_t[6]){ 0x52, 0x54, 0, 7, 8, 9 });

	bench_copy(b, c);
	CHECK_EQ(rd(c, 0, 4), 0x01005452);
	wr(c, R_9346CR, 1, EEM_AUTOLOAD);
	CHECK_EQ(rd(c, 0, 4), 0x07005452);
	bench_free(b);
	bench_free(c);
}

TEST(hostile)
{
	struct nic_bench *b = start();
	unsigned seed = 11;

	for (int round = 0; round < 60000; round++) {
		unsigned off = rand_r(&seed) % 256, size = 1u << rand_r(&seed) % 3;
		uint32_t v = (unsigned)rand_r(&seed) << 16 ^ rand_r(&seed);

		if (off + size > 256)
			continue;
		if (rand_r(&seed) % 3 == 0)
			v %= RAM + 0x1000;
		bus_write(b->pio, BAR_IO + off, size, v);
		rd(b, rand_r(&seed) % 253, 1u << rand_r(&seed) % 3);
		if (round % 50 == 0) {
			for (int i = 0; i < 16; i++)
				f[i] = rand_r(&seed) >> 8;
			st_le32(f + 8, rand_r(&seed) % RAM);
			st_le32(f + 12, 0);
			f[3] |= 0xb0;
			poke(b, (rand_r(&seed) % RAM) & ~0xffull & (RAM - 256), f, 16);
			bus_write(b->pio, BAR_IO + R_CR, 1, CR_RE | CR_TE);
			frame_make(f, 1514, ours, 0x88b5);
			send(b->wire, f, 60 + rand_r(&seed) % 1454, MSG_DONTWAIT);
			loop_once(b->loop, 0);
			while (wire_take(b, g, sizeof(g)) > 0)
				;
		}
	}
	wr(b, R_CR, 1, CR_RST);
	wr(b, R_CR, 1, CR_RE | CR_TE);
	wr(b, R_TCR, 4, 0);
	bench_run(b, 3);
	while (wire_take(b, g, sizeof(g)) > 0)
		;
	frame_make(f, 100, ours, 0x88b5);
	poke(b, TX_BUF, f, 100);
	wr(b, R_TSAD0, 4, TX_BUF);
	wr(b, R_TSD, 4, 100);
	CHECK_EQ(wire_take(b, g, sizeof(g)), 100);
	bench_free(b);
}

TAP_MAIN
