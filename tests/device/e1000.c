/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * e1000.c: the 82540EM driven as its drivers drive it, over a wire whose far end is the test. Rings
 * of the manual's three descriptor kinds, every offload, moderation by time, saving in the middle,
 * and drivers that get everything wrong.
 */
#include "devices/nic/e1000.h"
#include "tests/lib/nic_bench.h"

#define TX_RING 0x10000
#define RX_RING 0x20000
#define TX_BUF 0x100000
#define RX_BUF 0x200000
#define N 64

static uint8_t f[70000], g[70000];
static const uint8_t ours[6] = { 0x52, 0x54, 0, 1, 2, 3 };

static struct nic_bench *start(void)
{
	struct nic_bench *b = bench_new(e1000_new, 1, 0);

	wr32(b, E_TDBAL, TX_RING);
	wr32(b, E_TDLEN, N * 16);
	wr32(b, E_TCTL, TCTL_EN | TCTL_PSP);
	for (unsigned i = 0; i < N; i++) {
		uint8_t d[16] = { 0 };

		st_le64(d, RX_BUF + i * 2048);
		poke(b, RX_RING + i * 16, d, 16);
	}
	wr32(b, E_RDBAL, RX_RING);
	wr32(b, E_RDLEN, N * 16);
	wr32(b, E_RCTL, RCTL_EN | RCTL_BAM | RCTL_SECRC);
	wr32(b, E_RDT, N - 1);
	return b;
}

static void desc(struct nic_bench *b, unsigned i, uint64_t addr, uint32_t low, uint32_t high)
{
	uint8_t d[16];

	st_le64(d, addr);
	st_le32(d + 8, low);
	st_le32(d + 12, high);
	poke(b, TX_RING + i % N * 16, d, 16);
}

static bool tx_done(struct nic_bench *b, unsigned i)
{
	uint8_t d[16];

	peek(b, TX_RING + i * 16, d, 16);
	return d[12] & 1;
}

static uint8_t rx_status(struct nic_bench *b, unsigned i, uint16_t *len)
{
	uint8_t d[16];

	peek(b, RX_RING + i % N * 16, d, 16);
	if (len)
		*len = ld_le16(d + 8);
	return d[12];
}

TEST(identity)
{
	struct nic_bench *b = start();

	CHECK_EQ(pci_bus_config_read(b->pci, PCI_DEVFN(3, 0), 0, 4), 0x100e8086);
	CHECK_EQ(rd32(b, E_RA), 0x01005452);
	CHECK_EQ(rd32(b, E_RA + 4), 0x80000302u);
	CHECK_EQ(rd32(b, E_STATUS) & 3, 3);
	/* Through the I/O window. */
	uint64_t v;

	bus_write(b->pio, BAR_IO, 4, E_RA);
	CHECK(bus_read(b->pio, BAR_IO + 4, 4, &v) && v == 0x01005452);
	bench_free(b);
}

/* The Microwire dance as drivers do it: 9 command bits, then 16 of data. */
static uint16_t eeprom_word(struct nic_bench *b, unsigned addr)
{
	unsigned bits = 6 << 6 | addr, v = 0;

	wr32(b, E_EECD, 0x40);
	CHECK(rd32(b, E_EECD) & 0x80);
	wr32(b, E_EECD, 0x42);
	for (int i = 8; i >= 0; i--) {
		unsigned di = bits >> i & 1 ? 4 : 0;

		wr32(b, E_EECD, 0x42 | di);
		wr32(b, E_EECD, 0x43 | di);
		wr32(b, E_EECD, 0x42 | di);
	}
	for (int i = 0; i < 16; i++) {
		wr32(b, E_EECD, 0x43);
		v = v << 1 | (rd32(b, E_EECD) >> 3 & 1);
		wr32(b, E_EECD, 0x42);
	}
	wr32(b, E_EECD, 0);
	return v;
}

TEST(eeprom_both_ways)
{
	struct nic_bench *b = start();
	uint16_t sum = 0;

	for (unsigned i = 0; i < 64; i++) {
		uint16_t w = eeprom_word(b, i);

		wr32(b, E_EERD, i << 8 | 1);
		CHECK(rd32(b, E_EERD) & 0x10);
		CHECK_EQ(rd32(b, E_EERD) >> 16, w);
		sum += w;
	}
	CHECK_EQ(sum, 0xbaba);
	CHECK_EQ(eeprom_word(b, 0), 0x5452);
	bench_free(b);
}

static uint16_t phy_read(struct nic_bench *b, unsigned reg)
{
	wr32(b, E_MDIC, 2u << 26 | 1 << 21 | reg << 16);
	CHECK(rd32(b, E_MDIC) & 1u << 28);
	return rd32(b, E_MDIC);
}

TEST(phy_and_link)
{
	struct nic_bench *b = start();

	CHECK_EQ(phy_read(b, 2), 0x0141);
	CHECK_EQ(phy_read(b, 3), 0x0c20);
	CHECK_EQ(phy_read(b, 1) & 0x24, 0x24);
	wr32(b, E_MDIC, 2u << 26 | 2 << 21 | 1 << 16);
	CHECK(rd32(b, E_MDIC) & 1u << 30);		/* nobody at address 2 */
	wr32(b, E_IMS, ICR_LSC);
	loop_lock(b->loop);
	net_set_link(b->net, false);
	loop_unlock(b->loop);
	CHECK(b->line);
	CHECK_EQ(rd32(b, E_ICR) & ICR_LSC, ICR_LSC);
	CHECK(!b->line);
	CHECK_EQ(rd32(b, E_STATUS) & 2, 0);
	CHECK_EQ(phy_read(b, 1) & 4, 0);
	loop_lock(b->loop);
	net_set_link(b->net, true);
	loop_unlock(b->loop);
	bench_run(b, 60);
	CHECK_EQ(rd32(b, E_STATUS) & 2, 2);
	CHECK(b->line);
	/* Restarting negotiation takes the link down for a moment. */
	rd32(b, E_ICR);
	wr32(b, E_MDIC, 1u << 26 | 1 << 21 | 0 << 16 | 0x1340);
	CHECK_EQ(rd32(b, E_STATUS) & 2, 0);
	bench_run(b, 60);
	CHECK_EQ(rd32(b, E_ICR) & ICR_LSC, ICR_LSC);
	bench_free(b);
}

TEST(send_legacy)
{
	struct nic_bench *b = start();

	wr32(b, E_IMS, ICR_TXDW);
	frame_make(f, 100, ours, 0x88b5);
	poke(b, TX_BUF, f, 100);
	/* In three pieces, then a short one that is padded. */
	desc(b, 0, TX_BUF, 10, 0);
	desc(b, 1, TX_BUF + 10, 50, 0);
	wr32(b, E_TDT, 2);
	CHECK_EQ(wire_take(b, g, sizeof(g)), -1);		/* its end is missing */
	desc(b, 2, TX_BUF + 60, 40 | TXD_EOP | TXD_RS, 0);
	desc(b, 3, TX_BUF, 20 | TXD_EOP, 0);
	wr32(b, E_TDT, 4);
	CHECK_EQ(wire_take(b, g, sizeof(g)), 100);
	CHECK(!memcmp(f, g, 100));
	CHECK_EQ(wire_take(b, g, sizeof(g)), 60);
	CHECK(!memcmp(f, g, 20) && !g[20] && !g[59]);
	CHECK_EQ(rd32(b, E_TDH), 4);
	CHECK(tx_done(b, 2) && !tx_done(b, 0) && !tx_done(b, 3));
	CHECK(b->line);
	CHECK_EQ(rd32(b, E_ICR) & 3, 3);
	CHECK_EQ(rd32(b, 0x4080), 2);		/* GPTC, cleared by reading */
	CHECK_EQ(rd32(b, 0x4080), 0);
	bench_free(b);
}

static void context(struct nic_bench *b, unsigned i, unsigned tucss, unsigned tucso, unsigned mss,
		    unsigned hdrlen, uint32_t cmd)
{
	/* IP header at 14, its sum at 24, ends at 33; transport sum to the end of the packet. */
	desc(b, i, (uint64_t)(tucso << 8 | tucss) << 32 | 33 << 16 | 24 << 8 | 14, TXD_DEXT | cmd,
	     mss << 16 | hdrlen << 8);
}

TEST(send_checksums)
{
	struct nic_bench *b = start();

	frame_tcp(f, 500);
	memcpy(g, f, 500);
	/* What a driver leaves to the chip: IP sum 0, the pseudo header's sum in TCP's. */
	st_be16(g + 24, 0);
	st_be16(g + 50, inet_sum(g + 26, 8, 6 + 466));
	poke(b, TX_BUF, g, 500);
	context(b, 0, 34, 50, 0, 0, TXD_TUCMD_TCP | TXD_TUCMD_IP);
	desc(b, 1, TX_BUF, 500 | 1 << 20 | TXD_DEXT | TXD_EOP | TXD_RS,
	     TXD_POPTS_IXSM | TXD_POPTS_TXSM);
	/* Legacy: sum from 34, put at 50. */
	desc(b, 2, TX_BUF, 500 | 50 << 16 | TXD_EOP | TXD_IC, 34 << 8);
	wr32(b, E_TDT, 3);
	CHECK_EQ(wire_take(b, g, sizeof(g)), 500);
	CHECK(!memcmp(f, g, 500));
	CHECK_EQ(wire_take(b, g, sizeof(g)), 500);
	CHECK(!memcmp(f + 50, g + 50, 450));
	CHECK(tx_done(b, 1));
	bench_free(b);
}

static void tso_frame(struct nic_bench *b, size_t len, unsigned at)
{
	frame_tcp(f, len);
	memcpy(g, f, len);
	st_be16(g + 16, 0);			/* no length, no sum: the chip fills them in */
	st_be16(g + 24, 0);
	st_be16(g + 50, inet_sum(g + 26, 8, 6));
	poke(b, TX_BUF + at, g, len);
}

TEST(send_segmented)
{
	struct nic_bench *b = start();
	size_t total = 0;
	unsigned n = 0;
	ssize_t len;

	tso_frame(b, 54 + 10000, 0);
	context(b, 0, 34, 50, 1460, 54, TXD_TUCMD_TCP | TXD_TUCMD_IP | TXD_TSE);
	/* Headers and data in descriptors of their own, and the data in two. */
	desc(b, 1, TX_BUF, 54 | 1 << 20 | TXD_DEXT | TXD_TSE, TXD_POPTS_IXSM | TXD_POPTS_TXSM);
	desc(b, 2, TX_BUF + 54, 4000 | 1 << 20 | TXD_DEXT | TXD_TSE, 0);
	desc(b, 3, TX_BUF + 4054, 6000 | 1 << 20 | TXD_DEXT | TXD_TSE | TXD_EOP | TXD_RS, 0);
	wr32(b, E_TDT, 4);
	while ((len = wire_take(b, g, sizeof(g))) > 0) {
		CHECK(frame_tcp_ok(g));
		CHECK_EQ(ld_be16(g + 16), len - 14);
		CHECK_EQ(ld_be32(g + 38), 1000 + total);
		CHECK(!memcmp(g + 54, f + 54 + total, len - 54));
		total += len - 54;
		n++;
	}
	CHECK_EQ(total, 10000);
	CHECK_EQ(n, 7);
	CHECK(tx_done(b, 3));
	bench_free(b);
}

TEST(vlan_in_and_out)
{
	struct nic_bench *b = start();
	uint8_t d[16];

	wr32(b, E_CTRL, rd32(b, E_CTRL) | CTRL_VME);
	frame_make(f, 200, ours, 0x88b5);
	poke(b, TX_BUF, f, 200);
	desc(b, 0, TX_BUF, 200 | TXD_EOP | TXD_VLE, 0x2123u << 16);
	wr32(b, E_TDT, 1);
	CHECK_EQ(wire_take(b, g, sizeof(g)), 204);
	CHECK(!memcmp(g, f, 12) && ld_be32(g + 12) == 0x81002123 && !memcmp(g + 16, f + 12, 188));
	wire_put(b, g, 204);
	bench_run(b, 5);
	peek(b, RX_RING, d, 16);
	CHECK(d[12] & RXD_VP);
	CHECK_EQ(ld_le16(d + 8), 200);
	CHECK_EQ(ld_le16(d + 14), 0x2123);
	peek(b, RX_BUF, g, 200);
	CHECK(!memcmp(f, g, 200));
	/* The filter table: only VLAN 0x123 + 1 allowed now. */
	wr32(b, E_VFTA + 4 * (0x124 >> 5), 1u << (0x124 & 31));
	wr32(b, E_RCTL, RCTL_EN | RCTL_SECRC | RCTL_VFE);
	memmove(g + 16, g + 12, 188);
	st_be32(g + 12, 0x81000123);
	wire_put(b, g, 204);
	st_be32(g + 12, 0x81000124);
	wire_put(b, g, 204);
	bench_run(b, 5);
	CHECK_EQ(rd32(b, E_RDH), 2);
	bench_free(b);
}

TEST(receive_filters)
{
	static const uint8_t other[6] = { 2, 0, 0, 0, 0, 1 },
			     all[6] = { 255, 255, 255, 255, 255, 255 },
			     group[6] = { 1, 0, 0x5e, 0, 0, 0xfb };
	struct nic_bench *b = start();
	unsigned hash = (0xfb00 >> 4) & 0xfff;
	unsigned want = 0;
	uint16_t len;

#define TRY(dst, wanted)                                                                           \
	do {                                                                                       \
		frame_make(f, 80, dst, 0x88b5);                                                    \
		wire_put(b, f, 80);                                                                \
		bench_run(b, 3);                                                                   \
		want += wanted;                                                                    \
		CHECK_EQ(rd32(b, E_RDH), want);                                                    \
	} while (0)
	TRY(ours, 1);
	CHECK_EQ(rx_status(b, 0, &len) & 3, 3);
	CHECK_EQ(len, 80);
	peek(b, RX_BUF, g, 80);
	frame_make(f, 80, ours, 0x88b5);
	CHECK(!memcmp(f, g, 80));
	TRY(other, 0);
	TRY(all, 1);
	TRY(group, 0);
	wr32(b, E_MTA + 4 * (hash >> 5), 1u << (hash & 31));
	TRY(group, 1);
	wr32(b, E_MTA + 4 * (hash >> 5), 0);
	TRY(group, 0);
	wr32(b, E_RCTL, RCTL_EN | RCTL_MPE);
	TRY(group, 1);
	TRY(all, 1);
	TRY(other, 0);
	wr32(b, E_RCTL, RCTL_EN);
	TRY(all, 0);
	wr32(b, E_RCTL, RCTL_EN | RCTL_UPE);
	TRY(other, 1);
	rx_status(b, want - 1, &len);
	CHECK_EQ(len, 84);			/* with FCS now */
	wr32(b, E_RA + 8, ld_le32(other));
	wr32(b, E_RA + 12, ld_le16(other + 4) | RAH_AV);
	wr32(b, E_RCTL, RCTL_EN);
	TRY(other, 1);
	CHECK_EQ(rd32(b, 0x4074), want);	/* GPRC */
	bench_free(b);
}

/* No buffers: frames wait at the host, none is lost, and they come when the driver gives some. */
TEST(receive_waits_for_buffers)
{
	struct nic_bench *b = start();

	wr32(b, E_RDT, 2);
	for (unsigned i = 0; i < 6; i++) {
		frame_make(f, 60 + i, ours, 0x88b5);
		wire_put(b, f, 60 + i);
	}
	bench_run(b, 5);
	CHECK_EQ(rd32(b, E_RDH), 2);
	wr32(b, E_RDT, 20);
	bench_run(b, 5);
	CHECK_EQ(rd32(b, E_RDH), 6);
	for (unsigned i = 0; i < 6; i++) {
		uint16_t len;

		CHECK_EQ(rx_status(b, i, &len) & 3, 3);
		CHECK_EQ(len, 60 + i);
	}
	bench_free(b);
}

/*
 * A frame too long is refused before it has overwritten what a driver keeps behind the 1522 bytes
 * it gave.
 */
TEST(receive_stays_within_the_frame)
{
	struct nic_bench *b = start();
	uint8_t mark[2048 - 1522];

	memset(mark, 0xa5, sizeof(mark));
	memset(g, 0, sizeof(g));
	for (unsigned i = 0; i < N; i++)
		poke(b, RX_BUF + i * 2048 + 1522, mark, sizeof(mark));
	frame_make(f, 4000, ours, 0x88b5);
	wire_put(b, f, 1900);
	wire_put(b, f, 4000);
	wire_put(b, f, 1514);
	bench_run(b, 5);
	CHECK_EQ(rd32(b, E_RDH), 1);
	for (unsigned i = 0; i < 4; i++) {
		peek(b, RX_BUF + i * 2048 + 1522, g, sizeof(mark));
		CHECK(!memcmp(g, mark, sizeof(mark)));
	}
	bench_free(b);
}

/* A jumbo frame over several descriptors; only the last has EOP. */
TEST(receive_long)
{
	struct nic_bench *b = start();
	uint16_t len;

	frame_make(f, 9000, ours, 0x88b5);
	wire_put(b, f, 9000);
	bench_run(b, 5);
	CHECK_EQ(rd32(b, E_RDH), 0);		/* too long without LPE */
	wr32(b, E_RCTL, RCTL_EN | RCTL_LPE | RCTL_SECRC);
	wire_put(b, f, 9000);
	bench_run(b, 5);
	CHECK_EQ(rd32(b, E_RDH), 5);
	for (unsigned i = 0; i < 5; i++) {
		CHECK_EQ(rx_status(b, i, &len) & 3, i == 4 ? 3 : 1);
		CHECK_EQ(len, i == 4 ? 9000 - 4 * 2048 : 2048);
	}
	peek(b, RX_BUF, g, 9000);
	CHECK(!memcmp(f, g, 9000));
	bench_free(b);
}

TEST(moderation)
{
	struct nic_bench *b = start();
	int64_t t0 = now_ns();

	wr32(b, E_IMS, ICR_RXT0 | ICR_TXDW);
	wr32(b, E_ITR, 0xffff);				/* 16.7 ms */
	frame_make(f, 80, ours, 0x88b5);
	wire_put(b, f, 80);
	bench_run(b, 2);
	CHECK_EQ(b->raised, 1);
	rd32(b, E_ICR);
	CHECK(!b->line);
	wire_put(b, f, 80);
	bench_run(b, 1);
	if (now_ns() - t0 < 16 * NS_PER_MS)		/* else this machine was busy */
		CHECK_EQ(b->raised, 1);
	bench_run(b, 25);
	CHECK_EQ(b->raised, 2);
	rd32(b, E_ICR);
	bench_run(b, 25);
	/*
	 * A delayed transmit interrupt: TIDV of 51 ms, TADV never later than 66 ms after the first.
	 */
	wr32(b, E_ITR, 0);
	wr32(b, E_TIDV, 50000);
	wr32(b, E_TADV, 64000);
	poke(b, TX_BUF, f, 80);
	for (unsigned i = 0; i < 20; i++)
		desc(b, i, TX_BUF, 80 | TXD_EOP | TXD_RS | TXD_IDE, 0);
	wr32(b, E_TDT, 1);
	CHECK_EQ(b->raised, 2);
	for (unsigned i = 2; i < 20 && b->raised == 2; i++) {
		bench_run(b, 10);
		wr32(b, E_TDT, i);
	}
	CHECK_EQ(b->raised, 3);
	CHECK(rd32(b, E_TDT) < 12);
	/* And at once without IDE. */
	rd32(b, E_ICR);
	desc(b, rd32(b, E_TDT), TX_BUF, 80 | TXD_EOP | TXD_RS, 0);
	wr32(b, E_TDT, rd32(b, E_TDT) + 1);
	CHECK_EQ(b->raised, 4);
	bench_free(b);
}

TEST(loopback)
{
	struct nic_bench *b = start();
	uint16_t len;

	wr32(b, E_RCTL, RCTL_EN | 3 << 6 | RCTL_SECRC);
	frame_make(f, 300, ours, 0x88b5);
	poke(b, TX_BUF, f, 300);
	desc(b, 0, TX_BUF, 300 | TXD_EOP, 0);
	wr32(b, E_TDT, 1);
	CHECK_EQ(wire_take(b, g, sizeof(g)), -1);
	CHECK_EQ(rx_status(b, 0, &len) & 3, 3);
	CHECK_EQ(len, 300);
	peek(b, RX_BUF, g, 300);
	CHECK(!memcmp(f, g, 300));
	bench_free(b);
}

/* More than the wire takes: nothing is lost, the rest goes when there is room. */
TEST(full_wire)
{
	struct nic_bench *b = start();
	unsigned sent = 0, got = 0;

	frame_make(f, 1500, ours, 0x88b5);
	for (int round = 0; round < 200 && got < 3000; round++) {
		while (sent < 3000 && (sent + 1) % N != rd32(b, E_TDH)) {
			f[20] = sent;
			f[21] = sent >> 8;
			poke(b, TX_BUF + sent % N * 2048, f, 1500);
			desc(b, sent % N, TX_BUF + sent % N * 2048, 1500 | TXD_EOP | TXD_RS, 0);
			wr32(b, E_TDT, ++sent % N);
		}
		while (wire_take(b, g, sizeof(g)) == 1500) {
			CHECK_EQ(g[20] | g[21] << 8, got);
			got++;
		}
		bench_run(b, 1);
	}
	CHECK_EQ(got, 3000);
	bench_free(b);
}

TEST(save_and_load)
{
	struct nic_bench *b = start(), *c;
	uint16_t n;

	wr32(b, E_IMS, ICR_RXT0);
	wr32(b, E_MTA + 12, 0x1234);
	frame_make(f, 80, ours, 0x88b5);
	wire_put(b, f, 80);
	bench_run(b, 3);
	CHECK(b->line);
	c = bench_new(e1000_new, 1, 0);
	for (uint64_t at = 0x10000; at < 0x20000 + N * 16; at += 4096) {
		peek(b, at, g, 4096);
		poke(c, at, g, 4096);
	}
	bench_copy(b, c);
	CHECK(c->line);
	CHECK_EQ(rd32(c, E_MTA + 12), 0x1234);
	wire_put(c, f, 80);
	bench_run(c, 3);
	CHECK_EQ(rd32(c, E_RDH), 2);
	CHECK_EQ(rx_status(c, 1, &n) & 3, 3);
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
			 *c = bench_new_mac(e1000_new, 1, 0,
					    (const uint8_t[6]){ 0x52, 0x54, 0, 7, 8, 9 });
	uint16_t sum = 0;

	bench_copy(b, c);
	CHECK_EQ(rd32(c, E_RA), 0x01005452);
	for (unsigned i = 0; i < 64; i++)
		sum += eeprom_word(c, i);
	CHECK_EQ(sum, 0xbaba);
	CHECK_EQ(eeprom_word(c, 1), 0x0700);
	wr32(c, E_CTRL, CTRL_RST);
	CHECK_EQ(rd32(c, E_RA), 0x07005452);
	bench_free(b);
	bench_free(c);
}

/* Everything a driver can get wrong with a ring. The card must still work after a reset. */
TEST(hostile_rings)
{
	struct nic_bench *b = start();
	unsigned seed = 3;

	for (int round = 0; round < 3000; round++) {
		uint8_t d[16];
		uint32_t ring = rand_r(&seed) % 8 ? TX_RING : rand_r(&seed);

		for (unsigned i = 0; i < N; i++) {
			for (int k = 0; k < 16; k++)
				d[k] = rand_r(&seed) >> 8;
			if (rand_r(&seed) % 4)
				st_le64(d, rand_r(&seed) % (RAM + 4096));
			if (rand_r(&seed) % 2)
				d[11] |= 1;
			poke(b, (i & 1 ? RX_RING : TX_RING) + i * 16, d, 16);
		}
		wr32(b, E_TDBAL, ring);
		wr32(b, E_TDLEN, rand_r(&seed) % 4 ? N * 16 : rand_r(&seed));
		wr32(b, E_TDH, rand_r(&seed) % 4 ? rand_r(&seed) % N : rand_r(&seed));
		wr32(b, E_RCTL, rand_r(&seed));
		wr32(b, E_CTRL, rand_r(&seed) & ~(CTRL_RST | CTRL_PHY_RST));
		wr32(b, E_RDLEN, rand_r(&seed) % 4 ? N * 16 : rand_r(&seed));
		wr32(b, E_RDH, rand_r(&seed) % 4 ? rand_r(&seed) % N : rand_r(&seed));
		wr32(b, E_RDT, rand_r(&seed) % N);
		wr32(b, E_TDT, rand_r(&seed) % 4 ? rand_r(&seed) % N : rand_r(&seed));
		frame_make(f, 1000, ours, rand_r(&seed));
		if (round % 8 == 0)
			send(b->wire, f, 14 + rand_r(&seed) % 9000, MSG_DONTWAIT);
		loop_once(b->loop, 0);
		while (wire_take(b, g, sizeof(g)) > 0)
			;
	}
	wr32(b, E_CTRL, CTRL_RST);
	bench_run(b, 2);
	while (wire_take(b, g, sizeof(g)) > 0)
		;
	wr32(b, E_TDBAL, TX_RING);
	wr32(b, E_TDLEN, N * 16);
	wr32(b, E_TCTL, TCTL_EN);
	frame_make(f, 100, ours, 0x88b5);
	poke(b, TX_BUF, f, 100);
	desc(b, 0, TX_BUF, 100 | TXD_EOP | TXD_RS, 0);
	wr32(b, E_TDT, 1);
	CHECK_EQ(wire_take(b, g, sizeof(g)), 100);
	CHECK(!memcmp(f, g, 100));
	bench_free(b);
}

TEST(every_register)
{
	struct nic_bench *b = start();
	unsigned seed = 5;

	for (int round = 0; round < 3; round++)
		for (uint32_t off = 0; off < E_MEM_SIZE; off += 4) {
			if (off == E_CTRL && round < 2)
				continue;
			wr32(b, off, (unsigned)rand_r(&seed) << 16 ^ rand_r(&seed));
			rd32(b, off);
		}
	bench_run(b, 5);
	bench_free(b);
}

TAP_MAIN
