/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * atapi.c: the CD-ROM drive: packets, their answers, tray and medium, driven through the channel's
 * ports as a driver does.
 */
#include <errno.h>

#include "tests/lib/ide_rig.h"

/* --- CD-ROM, three ways --- */

static void packet(struct guest *g, const uint8_t *p, bool dma, unsigned limit)
{
	out(g->pio, CMD2 + 6, 1, 0xa0);
	out(g->pio, CMD2 + 1, 1, dma);
	out(g->pio, CMD2 + 4, 1, limit & 0xff);
	out(g->pio, CMD2 + 5, 1, limit >> 8);
	out(g->pio, CMD2 + 7, 1, 0xa0);
	CHECK(wait_busy(g, CMD2) & DRQ);
	CHECK_EQ(in(g->pio, CMD2 + 2, 1) & 3, 1);
	bus_write_rep(g->pio, CMD2, 2, p, 6);
}

/* A packet command with its answer by PIO; status or'ed with the sense key << 8. */
static unsigned packet_in(struct guest *g, const uint8_t *p, uint8_t *buf, size_t max, size_t *len)
{
	uint8_t st;
	size_t n = 0;

	packet(g, p, false, 0x1000);
	while ((st = wait_busy(g, CMD2)) & DRQ) {
		size_t part = in(g->pio, CMD2 + 4, 1) | in(g->pio, CMD2 + 5, 1) << 8;

		CHECK_EQ(in(g->pio, CMD2 + 2, 1) & 3, 2);
		CHECK(part && part <= 0x1000 && n + part <= max);
		CHECK_EQ(g->line_level[15], 1);
		in(g->pio, CMD2 + 7, 1);
		bus_read_rep(g->pio, CMD2, 2, buf + n, (part + 1) / 2);
		n += part;
	}
	CHECK_EQ(in(g->pio, CMD2 + 2, 1) & 3, 3);
	if (len)
		*len = n;
	return st | (unsigned)(in(g->pio, CMD2 + 1, 1) >> 4) << 8;
}

static void say_packet(struct tw *t, const char *what, const uint8_t *p)
{
	uint8_t buf[65536];
	size_t len;
	unsigned st = packet_in(t->g, p, buf, sizeof(buf), &len);

	tw_say(t, "%s %04x, %zu bytes %08x", what, st, len, sum(buf, len));
}

static void step_cd_setup(struct tw *t)
{
	setup(t->g);
	out(t->g->pio, CMD2 + 6, 1, 0xa0);
	tw_say(t, "signature %02x %02x", (unsigned)in(t->g->pio, CMD2 + 4, 1),
	       (unsigned)in(t->g->pio, CMD2 + 5, 1));
	out(t->g->pio, CMD2 + 7, 1, 0xec);
	tw_say(t, "identify device %02x", wait_busy(t->g, CMD2));
}

static void step_cd_words(struct tw *t)
{
	say_packet(t, "ready", (uint8_t[12]){ 0 });
	say_packet(t, "inquiry", (uint8_t[12]){ 0x12, 0, 0, 0, 36 });
	say_packet(t, "capacity", (uint8_t[12]){ 0x25 });
	say_packet(t, "toc", (uint8_t[12]){ 0x43, 2, 0, 0, 0, 0, 0, 0x10 });
	say_packet(t, "raw toc", (uint8_t[12]){ 0x43, 0, 2, 0, 0, 0, 0, 0x10 });
	say_packet(t, "configuration", (uint8_t[12]){ 0x46, 0, 0, 0, 0, 0, 0, 0x10 });
	say_packet(t, "event", (uint8_t[12]){ 0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8 });
	say_packet(t, "mode sense", (uint8_t[12]){ 0x5a, 0, 0x3f, 0, 0, 0, 0, 1 });
	say_packet(t, "disc info", (uint8_t[12]){ 0x51, 0, 0, 0, 0, 0, 0, 0, 34 });
	say_packet(t, "unknown", (uint8_t[12]){ 0xdd });
	say_packet(t, "sense", (uint8_t[12]){ 0x03, 0, 0, 0, 18 });
}

static void step_cd_read_begin(struct tw *t)
{
	packet(t->g, (uint8_t[12]){ 0x28, 0, 0, 0, 0, 40, 0, 0, 70 }, false, 0xfffe);
	tw_say(t, "read %02x", wait_busy(t->g, CMD2));
}

static void step_cd_read_end(struct tw *t)
{
	static uint8_t buf[70 * 2048];
	size_t n = 0;

	while (wait_busy(t->g, CMD2) & DRQ) {
		size_t part = in(t->g->pio, CMD2 + 4, 1) | in(t->g->pio, CMD2 + 5, 1) << 8;

		CHECK(n + part <= sizeof(buf));
		in(t->g->pio, CMD2 + 7, 1);
		bus_read_rep(t->g->pio, CMD2, 2, buf + n, part / 2);
		n += part;
	}
	tw_say(t, "%zu bytes, %02x", n, wait_busy(t->g, CMD2));
	CHECK_EQ(n, sizeof(buf));
	CHECK(is_disk(buf, 40 * 2048, n, 2));
}

static void cd_dma(struct tw *t, const uint8_t *p, uint32_t len)
{
	uint64_t buf = guest_alloc(t->g, len, 4096), table = prd_make(t->g, buf, len, 6000);

	packet(t->g, p, true, 0);
	out(t->g->pio, BM + 12, 4, table);
	out(t->g->pio, BM + 10, 1, 0x06);
	out(t->g->pio, BM + 8, 1, 0x09);
	for (int i = 0; i < 2000 && !(in(t->g->pio, BM + 10, 1) & 4); i++)
		guest_run(t->g, 1);
	tw_say(t, "dma %02x, bus master %02x, %08x", wait_busy(t->g, CMD2),
	       (unsigned)in(t->g->pio, BM + 10, 1), sum(guest_ptr(t->g, buf, len), len));
	out(t->g->pio, BM + 8, 1, 0);
	in(t->g->pio, CMD2 + 7, 1);
}

static void step_cd_dma(struct tw *t)
{
	cd_dma(t, (uint8_t[12]){ 0xa8, 0, 0, 0, 0, 7, 0, 0, 0, 30 }, 30 * 2048);
	cd_dma(t, (uint8_t[12]){ 0x12, 0, 0, 0, 36 }, 36);
	cd_dma(t, (uint8_t[12]){ 0xbe, 0, 0, 0, 0, 3, 0, 0, 60, 0xf8 }, 60 * 2352);
}

static void step_cd_tray(struct tw *t)
{
	say_packet(t, "lock", (uint8_t[12]){ 0x1e, 0, 0, 0, 1 });
	say_packet(t, "eject", (uint8_t[12]){ 0x1b, 0, 0, 0, 2 });
	say_packet(t, "unlock", (uint8_t[12]){ 0x1e });
	say_packet(t, "eject", (uint8_t[12]){ 0x1b, 0, 0, 0, 2 });
	CHECK(piix3_ide_tray_open(t->d, 2));
}

static void step_cd_open(struct tw *t)
{
	say_packet(t, "ready", (uint8_t[12]){ 0 });
	say_packet(t, "sense", (uint8_t[12]){ 0x03, 0, 0, 0, 18 });
	say_packet(t, "event", (uint8_t[12]){ 0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8 });
	say_packet(t, "close", (uint8_t[12]){ 0x1b, 0, 0, 0, 3 });
}

static void step_cd_closed(struct tw *t)
{
	say_packet(t, "event", (uint8_t[12]){ 0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8 });
	say_packet(t, "attention", (uint8_t[12]){ 0 });
	say_packet(t, "ready", (uint8_t[12]){ 0 });
}

static void (*const cd_steps[])(struct tw *t) = {
	step_cd_setup, step_cd_words, step_cd_read_begin, step_cd_read_end,
	step_cd_dma,   step_cd_tray,  step_cd_open,	  step_cd_closed,
};

TEST(cdrom_three_ways)
{
	/*
	 * A tray the guest opened stays open over a reset: the last steps close it, so every run
	 * begins alike.
	 */
	struct disks *k = disks_new();

	threeway(&(struct tw_scenario){ .make = make,
					.steps = cd_steps,
					.n = ARRAY_SIZE(cd_steps) - 3,
					.restore = restore,
					.ctx = k });
	disks_free(k);
}

/* --- single rules --- */

static int change(struct rig *r, unsigned unit, struct blk *blk, bool force, struct blk **old)
{
	int ret;

	loop_lock(r->g->loop);
	ret = piix3_ide_change_medium(r->d, unit, blk, force, old);
	loop_unlock(r->g->loop);
	return ret;
}

TEST(eject_and_media_change)
{
	struct rig r = rig_new();
	struct tw t = { .g = r.g, .d = r.d, .ctx = r.k };
	struct testdisk *other = testdisk_new(2048 * 8, true);
	struct blk *old;
	uint8_t buf[64];
	size_t len;

	t.log = open_memstream(&t.text, &t.len);
	step_cd_tray(&t);
	step_cd_open(&t);
	step_cd_closed(&t);
	fclose(t.log);
	/* Locked by the guest: it is asked, and the medium stays. */
	packet_in(r.g, (uint8_t[12]){ 0x1e, 0, 0, 0, 1 }, buf, sizeof(buf), NULL);
	CHECK_EQ(change(&r, 2, other->blk, false, &old), -EBUSY);
	CHECK_EQ(packet_in(r.g, (uint8_t[12]){ 0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8 }, buf, sizeof(buf),
			   &len),
		 0x50);
	CHECK_EQ(buf[4], 1);
	CHECK_EQ(change(&r, 2, other->blk, true, &old), 0);
	CHECK(old == r.k->cd->blk);
	/* unit attention, once */
	CHECK_EQ(packet_in(r.g, (uint8_t[12]){ 0 }, buf, sizeof(buf), NULL), 0x651);
	CHECK_EQ(packet_in(r.g, (uint8_t[12]){ 0x25 }, buf, sizeof(buf), &len), 0x50);
	CHECK_EQ(ld_be32(buf), 7);
	CHECK_EQ(change(&r, 2, NULL, false, &old), 0);
	/* not ready */
	CHECK_EQ(packet_in(r.g, (uint8_t[12]){ 0 }, buf, sizeof(buf), NULL), 0x251);
	CHECK_EQ(packet_in(r.g, (uint8_t[12]){ 0x28, 0, 0, 0, 0, 0, 0, 0, 1 }, buf, sizeof(buf),
			   NULL),
		 0x251);
}

TEST(hdparm_understands_the_drive)
{
	static const char *const expected[] = {
		"ATAPI CD-ROM, with removable media",
		"DRQ response: 50us",
		"Packet size: 12 bytes",
		"mdma2",
		"udma5",
	};
	struct rig r = rig_new();
	uint8_t id[512];
	char said[8192];

	out(r.g->pio, CMD2 + 6, 1, 0xa0);
	out(r.g->pio, CMD2 + 7, 1, 0xa1);
	CHECK_EQ(pio_in(r.g, CMD2, id, 512, 512), 512);
	hdparm_says(id, said, sizeof(said));
	if (!said[0])
		SKIP("hdparm is not installed");
	for (unsigned i = 0; i < ARRAY_SIZE(expected); i++)
		if (!strstr(said, expected[i]))
			tap_fail(__FILE__, __LINE__, "hdparm does not say \"%s\" but:\n%s",
				 expected[i], said);
}

/* What GET CONFIGURATION lists: the codes, one after the other. */
static unsigned features(struct rig *r, uint8_t rt, uint16_t from, uint16_t *codes, bool *current,
			 unsigned max)
{
	uint8_t buf[256];
	unsigned n = 0;
	size_t len;

	CHECK_EQ(packet_in(r->g, (uint8_t[12]){ 0x46, rt, from >> 8, (uint8_t)from, 0, 0, 0, 1, 0 },
			   buf, sizeof(buf), &len),
		 0x50);
	CHECK_EQ(ld_be32(buf), len - 4);
	for (size_t at = 8; at < len; at += 4 + buf[at + 3]) {
		CHECK(n < max && at + 4 + buf[at + 3] <= len && !(buf[at + 3] & 3));
		current[n] = buf[at + 2] & 1;
		codes[n++] = ld_be16(buf + at);
	}
	return n;
}

TEST(configuration_lists_what_is_asked_for)
{
	struct rig r = rig_new();
	uint16_t codes[32];
	bool current[32];
	unsigned all = features(&r, 0, 0, codes, current, 32), now;
	struct blk *old;
	uint8_t buf[16];

	CHECK_EQ(codes[0], 0);
	for (unsigned i = 1; i < all; i++)
		CHECK(codes[i] > codes[i - 1]);
	for (unsigned i = 0; i < all; i++)
		CHECK_EQ(current[i], codes[i] != 0x1f);			/* a CD is in it, no DVD */
	CHECK_EQ(features(&r, 1, 0, codes, current, 32), all - 1);
	CHECK_EQ(features(&r, 2, 3, codes, current, 32), 1);
	CHECK_EQ(codes[0], 3);
	/* there is none of that number */
	CHECK_EQ(features(&r, 2, 4, codes, current, 32), 0);
	CHECK_EQ(features(&r, 0, 0x1e, codes, current, 32), 4);
	CHECK_EQ(codes[0], 0x1e);
	CHECK_EQ(change(&r, 2, NULL, true, &old), 0);
	now = features(&r, 1, 0, codes, current, 32);
	/* nothing is read without a medium */
	CHECK_EQ(now, all - 4);
	CHECK_EQ(packet_in(r.g, (uint8_t[12]){ 0x46, 3, 0, 0, 0, 0, 0, 1, 0 }, buf, sizeof(buf),
			   NULL),
		 0x551);
}

TEST(read_cd_has_no_subchannels)
{
	struct rig r = rig_new();
	uint8_t buf[4096];
	size_t len;

	CHECK_EQ(packet_in(r.g, (uint8_t[12]){ 0xbe, 0, 0, 0, 0, 3, 0, 0, 1, 0x10, 0 }, buf,
			   sizeof(buf), &len),
		 0x50);
	CHECK_EQ(len, 2048);
	CHECK_EQ(packet_in(r.g, (uint8_t[12]){ 0xbe, 0, 0, 0, 0, 3, 0, 0, 1, 0x10, 1 }, buf,
			   sizeof(buf), NULL),
		 0x551);
	CHECK_EQ(packet_in(r.g, (uint8_t[12]){ 0xbe, 0, 0, 0, 0, 3, 0, 0, 1, 0xf8, 2 }, buf,
			   sizeof(buf), NULL),
		 0x551);
}

TAP_MAIN
