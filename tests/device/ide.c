/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ide.c: the PIIX3 IDE controller and its disks, driven through their ports as a driver does. */
#include <errno.h>
#include <libfdt.h>

#include "tests/lib/ide_rig.h"

/* --- the disk, three ways --- */

static void step_setup(struct tw *t)
{
	setup(t->g);
	tw_say(t, "status %02x", (unsigned)in(t->g->pio, CMD + 7, 1));
}

static void step_identify(struct tw *t)
{
	uint8_t buf[512];

	out(t->g->pio, CMD + 6, 1, 0xa0);
	out(t->g->pio, CMD + 7, 1, 0xec);
	CHECK_EQ(pio_in(t->g, CMD, buf, 512, 512), 512);
	tw_say(t, "identify %08x", sum(buf, 512));
	CHECK_EQ(ld_le32(buf + 120), SECTORS);
	CHECK(!memcmp(buf + 20, "1S32  ", 6));
}

static void step_multiple(struct tw *t)
{
	out(t->g->pio, CMD + 2, 1, 8);
	out(t->g->pio, CMD + 7, 1, 0xc6);
	tw_say(t, "set multiple %02x", wait_busy(t->g, CMD));
}

static void step_read_begin(struct tw *t)
{
	task(t->g, 100, 20, false);
	out(t->g->pio, CMD + 7, 1, 0xc4);
	tw_say(t, "read multiple %02x", wait_busy(t->g, CMD));
}

/* In the middle of a DRQ block, and of a word. */
static void step_read_some(struct tw *t)
{
	uint8_t buf[1001];

	in(t->g->pio, CMD + 7, 1);
	for (unsigned i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)in(t->g->pio, CMD, 1);
	CHECK(is_disk(buf, 100 * 512, sizeof(buf), 1));
	tw_say(t, "some %08x %02x", sum(buf, sizeof(buf)), (unsigned)in(t->g->pio, CTL, 1));
}

static void step_read_rest(struct tw *t)
{
	uint8_t buf[20 * 512 - 1001];

	for (unsigned i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)in(t->g->pio, CMD, 1);
	CHECK(is_disk(buf, 100 * 512 + 1001, sizeof(buf), 1));
	tw_say(t, "rest %02x", wait_busy(t->g, CMD));
}

static void step_write_begin(struct tw *t)
{
	uint8_t buf[700];

	memset(buf, 0x5a, sizeof(buf));
	task(t->g, 200, 3, true);
	out(t->g->pio, CMD + 7, 1, 0x34);
	tw_say(t, "write %02x", wait_busy(t->g, CMD));
	bus_write_rep(t->g->pio, CMD, 2, buf, sizeof(buf) / 2);
	tw_say(t, "wrote %02x", (unsigned)in(t->g->pio, CTL, 1));
}

static void step_write_end(struct tw *t)
{
	struct disks *k = t->ctx;
	uint8_t buf[3 * 512 - 700];

	memset(buf, 0xa5, sizeof(buf));
	bus_write_rep(t->g->pio, CMD, 2, buf, sizeof(buf) / 2);
	tw_say(t, "write end %02x", wait_busy(t->g, CMD));
	tw_say(t, "disk %08x", sum(k->hd->data, k->hd->size));
}

static void step_dma_read(struct tw *t)
{
	uint64_t buf = guest_alloc(t->g, 70000, 4),
		 table = prd_make(t->g, buf + 2, 130 * 512, 8190);

	task(t->g, 1000, 130, true);
	out(t->g->pio, CMD + 7, 1, 0x25);
	dma_start(t->g, table, true);
	CHECK(guest_run_until(t->g, dma_ended, t->g, 5000));
	tw_say(t, "dma read %02x %02x", (unsigned)in(t->g->pio, BM + 2, 1),
	       (unsigned)in(t->g->pio, CMD + 7, 1));
	dma_stop(t->g);
	CHECK(is_disk(guest_ptr(t->g, buf + 2, 130 * 512), 1000 * 512, 130 * 512, 1));
}

static void step_dma_write(struct tw *t)
{
	struct disks *k = t->ctx;
	uint64_t buf = guest_alloc(t->g, 64 * 512, 4096),
		 table = prd_make(t->g, buf, 64 * 512, 4096);

	memset(guest_ptr(t->g, buf, 64 * 512), 0x77, 64 * 512);
	task(t->g, 3000, 64, false);
	out(t->g->pio, CMD + 7, 1, 0xca);
	dma_start(t->g, table, false);
	CHECK(guest_run_until(t->g, dma_ended, t->g, 5000));
	tw_say(t, "dma write %02x %02x", (unsigned)in(t->g->pio, BM + 2, 1),
	       (unsigned)in(t->g->pio, CMD + 7, 1));
	dma_stop(t->g);
	tw_say(t, "disk %08x", sum(k->hd->data, k->hd->size));
	CHECK_EQ(k->hd->data[3000 * 512], 0x77);
	CHECK_EQ(k->hd->data[3063 * 512 + 511], 0x77);
	CHECK_EQ(k->hd->data[3064 * 512], pattern(3064 * 512, 1));
}

/* A slow disk: the transfer is under way when the machine is saved or reset. */
static void step_slow_begin(struct tw *t)
{
	struct disks *k = t->ctx;
	uint64_t buf = guest_alloc(t->g, 256 * 512, 4096),
		 table = prd_make(t->g, buf, 256 * 512, 65536);

	k->hd->delay_us = 3000;
	k->slow = buf;
	task(t->g, 2000, 256, true);
	out(t->g->pio, CMD + 7, 1, 0x25);
	dma_start(t->g, table, true);
	tw_say(t, "slow dma %02x %02x", (unsigned)in(t->g->pio, BM + 2, 1),
	       (unsigned)in(t->g->pio, CTL, 1));
}

static void step_slow_end(struct tw *t)
{
	struct disks *k = t->ctx;

	CHECK(guest_run_until(t->g, dma_ended, t->g, 5000));
	tw_say(t, "slow dma %02x %02x", (unsigned)in(t->g->pio, BM + 2, 1),
	       (unsigned)in(t->g->pio, CMD + 7, 1));
	dma_stop(t->g);
	CHECK(is_disk(guest_ptr(t->g, k->slow, 256 * 512), 2000 * 512, 256 * 512, 1));
	k->hd->delay_us = 0;
}

/* A transfer that was begun and has not raised its interrupt. */
static unsigned in_flight(struct tw *t)
{
	return (cfg_read(t->g, DEVFN, PCI_COMMAND, 2) & PCI_COMMAND_IO) &&
	       (in(t->g->pio, BM + 2, 1) & 5) == 1;
}

static void step_flush(struct tw *t)
{
	struct disks *k = t->ctx;

	out(t->g->pio, CMD + 7, 1, 0xea);
	tw_say(t, "flush %02x", wait_busy(t->g, CMD));
	CHECK_EQ(k->hd->unstable, 0);
	tw_say(t, "status %02x level %d", (unsigned)in(t->g->pio, CMD + 7, 1),
	       t->g->line_level[14]);
}

static void step_error(struct tw *t)
{
	task(t->g, SECTORS, 1, true);
	out(t->g->pio, CMD + 7, 1, 0x24);
	tw_say(t, "beyond the end %02x %02x", wait_busy(t->g, CMD),
	       (unsigned)in(t->g->pio, CMD + 1, 1));
	/* IDNF, from the drive and not from the image */
	CHECK_EQ(in(t->g->pio, CMD + 1, 1), 0x10);
	CHECK(in(t->g->pio, CMD + 7, 1) & ERR);
}

static void (*const disk_steps[])(struct tw *t) = {
	step_setup,	step_identify,	  step_multiple,  step_read_begin, step_read_some,
	step_read_rest, step_write_begin, step_write_end, step_dma_read,   step_slow_begin,
	step_slow_end,	step_dma_write,	  step_flush,	  step_error,
};

TEST(disk_three_ways)
{
	struct disks *k = disks_new();

	threeway(&(struct tw_scenario){ .make = make,
					.steps = disk_steps,
					.n = ARRAY_SIZE(disk_steps),
					.restore = restore,
					.ctx = k,
					.in_flight = in_flight });
	disks_free(k);
}

/* --- single rules --- */

TEST(hdparm_understands_the_disk)
{
	/* "*" marks what is enabled. */
	static const char *const expected[] = {
		"ATA device, with non-removable media",
		"Serial Number:      S123",
		"LBA    user addressable sectors:        4096",
		"LBA48  user addressable sectors:        4096",
		"R/W multiple sector transfer: Max = 16",
		"udma5",
		"mdma2",
		"*\tWrite cache",
		"*\tMandatory FLUSH_CACHE",
		"*\tFLUSH_CACHE_EXT",
		"*\t48-bit Address feature set",
		"SMART feature set",
		"*\tWRITE_{DMA|MULTIPLE}_FUA_EXT",
		"*\tData Set Management TRIM supported",
		"Checksum: correct",
	};
	struct rig r = rig_new();
	uint8_t id[512];
	char said[8192];

	out(r.g->pio, CMD + 6, 1, 0xa0);
	out(r.g->pio, CMD + 7, 1, 0xec);
	CHECK_EQ(pio_in(r.g, CMD, id, 512, 512), 512);
	hdparm_says(id, said, sizeof(said));
	if (!said[0])
		SKIP("hdparm is not installed");
	for (unsigned i = 0; i < ARRAY_SIZE(expected); i++)
		if (!strstr(said, expected[i]))
			tap_fail(__FILE__, __LINE__, "hdparm does not say \"%s\" but:\n%s",
				 expected[i], said);
}

TEST(a_write_error_reaches_the_guest_once)
{
	struct rig r = rig_new();
	uint64_t buf = guest_alloc(r.g, 4096, 4096), table = prd_make(r.g, buf, 4096, 4096);

	r.k->hd->error = -EIO;
	r.k->hd->errors = 1;
	task(r.g, 64, 8, false);
	out(r.g->pio, CMD + 7, 1, 0xca);
	dma_start(r.g, table, false);
	CHECK(guest_run_until(r.g, dma_ended, r.g, 5000));
	CHECK(in(r.g->pio, CMD + 7, 1) & ERR);
	CHECK_EQ(in(r.g->pio, CMD + 3, 1), 64);
	CHECK_EQ(r.g->lines[14], 1);
	for (int i = 0; i < 10; i++)
		guest_run(r.g, 1);
	CHECK_EQ(r.g->lines[14], 1);
}

TEST(dma_to_nowhere_is_an_error_not_a_crash)
{
	static const uint32_t bad[] = { 0xfffffff0, 0x8000000, 0xf0000 /* ROM: cannot be written */,
					0xfff000 + 0xffc };
	struct rig r = rig_new();

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		uint64_t table = guest_alloc(r.g, 64, 64);
		uint8_t *p = guest_ptr(r.g, table, 16);

		st_le32(p, bad[i]);
		st_le32(p + 4, 0x80001000);
		task(r.g, 0, 8, false);
		out(r.g->pio, CMD + 7, 1, 0xc8);
		dma_start(r.g, table, true);
		guest_run(r.g, 1);
		CHECK(in(r.g->pio, BM + 2, 1) & 2);
		CHECK(in(r.g->pio, CMD + 7, 1) & ERR);
		dma_stop(r.g);
	}
	/* The table itself lies nowhere. */
	task(r.g, 0, 8, false);
	out(r.g->pio, CMD + 7, 1, 0xc8);
	dma_start(r.g, 0xfffff000, true);
	CHECK(in(r.g->pio, BM + 2, 1) & 2);
	dma_stop(r.g);
	/* Bus mastering off. */
	cfg_write(r.g, DEVFN, PCI_COMMAND, 2, PCI_COMMAND_IO);
	task(r.g, 0, 8, false);
	out(r.g->pio, CMD + 7, 1, 0xc8);
	dma_start(r.g, prd_make(r.g, guest_alloc(r.g, 4096, 4096), 4096, 4096), true);
	CHECK(in(r.g->pio, BM + 2, 1) & 2);
}

TEST(a_short_table_moves_no_more_than_it_says)
{
	struct rig r = rig_new();
	uint64_t buf = guest_alloc(r.g, 8192, 4096), table = prd_make(r.g, buf, 1024, 1024);

	task(r.g, 10, 8, false);
	out(r.g->pio, CMD + 7, 1, 0xc8);
	dma_start(r.g, table, true);
	for (int i = 0; i < 50; i++)
		guest_run(r.g, 1);
	CHECK_EQ(in(r.g->pio, BM + 2, 1) & 7, 0);		/* inactive, no interrupt */
	CHECK(is_disk(guest_ptr(r.g, buf, 1024), 10 * 512, 1024, 1));
	for (unsigned i = 1024; i < 8192; i++)
		CHECK_EQ(*(uint8_t *)guest_ptr(r.g, buf + i, 1), 0);
}

TEST(soft_reset_with_a_request_in_flight)
{
	struct rig r = rig_new();
	uint64_t buf = guest_alloc(r.g, 4096, 4096), table = prd_make(r.g, buf, 4096, 4096);
	uint8_t id[512];

	r.k->hd->delay_us = 30000;
	task(r.g, 0, 8, false);
	out(r.g->pio, CMD + 7, 1, 0xca);
	dma_start(r.g, table, false);
	CHECK(in(r.g->pio, CTL, 1) & BSY);
	out(r.g->pio, CTL, 1, 4);
	out(r.g->pio, CTL, 1, 0);
	CHECK(in(r.g->pio, CTL, 1) & BSY);		/* until the write is out */
	CHECK_EQ(wait_busy(r.g, CMD) & 0x41, 0x40);
	CHECK_EQ(r.k->hd->writes, 1);
	CHECK_EQ(in(r.g->pio, CMD + 2, 1), 1);
	CHECK_EQ(in(r.g->pio, CMD + 3, 1), 1);
	CHECK_EQ(r.g->lines[14], 0);
	r.k->hd->delay_us = 0;
	out(r.g->pio, CMD + 7, 1, 0xec);
	CHECK_EQ(pio_in(r.g, CMD, id, 512, 512), 512);
}

TEST(machine_reset_waits_for_the_write)
{
	struct rig r = rig_new();
	uint64_t buf = guest_alloc(r.g, 4096, 4096), table = prd_make(r.g, buf, 4096, 4096);

	memset(guest_ptr(r.g, buf, 4096), 9, 4096);
	r.k->hd->delay_us = 30000;
	task(r.g, 0, 8, false);
	out(r.g->pio, CMD + 7, 1, 0xca);
	dma_start(r.g, table, false);
	loop_lock(r.g->loop);
	r.d->ops->reset(r.d);
	loop_unlock(r.g->loop);
	CHECK_EQ(r.k->hd->data[4095], 9);
	CHECK_EQ(r.k->hd->running, 0);
	CHECK_EQ(r.g->lines[14], 0);
}

/* "quit" comes in the middle of a write: nobody holds the loop's lock then. */
TEST(machine_end_waits_for_the_write)
{
	struct rig r = rig_new();
	uint64_t buf = guest_alloc(r.g, 4096, 4096), table = prd_make(r.g, buf, 4096, 4096);

	memset(guest_ptr(r.g, buf, 4096), 9, 4096);
	r.k->hd->delay_us = 30000;
	task(r.g, 0, 8, false);
	out(r.g->pio, CMD + 7, 1, 0xca);
	dma_start(r.g, table, false);
	device_destroy(r.d);
	CHECK_EQ(r.k->hd->data[4095], 9);
	CHECK_EQ(r.k->hd->running, 0);
}

TEST(quiesce_stops_between_two_pieces)
{
	struct rig r = rig_new();
	/* 300 regions: more than one piece holds, so a second one follows. */
	uint64_t buf = guest_alloc(r.g, 512 * 512, 4096),
		 table = prd_make(r.g, buf, 300 * 512, 512);
	unsigned reads;

	r.k->hd->reads = 0;		/* the partition table was looked for */
	r.k->hd->delay_us = 5000;
	task(r.g, 0, 300, true);
	out(r.g->pio, CMD + 7, 1, 0x25);
	dma_start(r.g, table, true);
	guest_quiesce(r.g, r.d);
	reads = r.k->hd->reads;
	CHECK_EQ(reads, 1);
	for (int i = 0; i < 20; i++)
		guest_run(r.g, 1);
	CHECK_EQ(r.k->hd->reads, reads);
	CHECK(in(r.g->pio, CTL, 1) & BSY);
	loop_lock(r.g->loop);
	r.d->ops->resume(r.d);
	loop_unlock(r.g->loop);
	CHECK(guest_run_until(r.g, dma_ended, r.g, 5000));
	CHECK(is_disk(guest_ptr(r.g, buf, 300 * 512), 0, 300 * 512, 1));
}

TEST(trim_reaches_the_disk)
{
	struct rig r = rig_new();
	uint64_t buf = guest_alloc(r.g, 512, 512), table = prd_make(r.g, buf, 512, 512);
	uint8_t *p = guest_ptr(r.g, buf, 512);

	st_le64(p, 100 | 8ull << 48);
	st_le64(p + 16, 200 | 16ull << 48);
	out(r.g->pio, CMD + 1, 1, 1);
	task(r.g, 0, 1, true);
	out(r.g->pio, CMD + 7, 1, 0x06);
	dma_start(r.g, table, false);
	CHECK(guest_run_until(r.g, dma_ended, r.g, 5000));
	CHECK_EQ(in(r.g->pio, CMD + 7, 1) & ERR, 0);
	CHECK_EQ(r.k->hd->discards, 2);
	/* A range beyond the end is an error. */
	st_le64(p + 16, (SECTORS - 1) | 2ull << 48);
	out(r.g->pio, CMD + 1, 1, 1);
	task(r.g, 0, 1, true);
	out(r.g->pio, CMD + 7, 1, 0x06);
	dma_start(r.g, table, false);
	CHECK(guest_run_until(r.g, dma_ended, r.g, 5000));
	CHECK(in(r.g->pio, CMD + 7, 1) & ERR);
}

TEST(no_drive_answers_with_nothing)
{
	struct rig r = rig_new();

	out(r.g->pio, CMD + 6, 1, 0xb0);		/* drive 1 of channel 0 */
	CHECK_EQ(in(r.g->pio, CMD + 7, 1), 0);
	out(r.g->pio, CMD + 7, 1, 0xec);
	CHECK_EQ(in(r.g->pio, CMD + 7, 1), 0);
	out(r.g->pio, CMD + 6, 1, 0xa0);
	CHECK_EQ(in(r.g->pio, CMD + 7, 1), 0x50);
	cfg_write(r.g, DEVFN, 0x40, 4, 0);		/* ports off */
	CHECK_EQ(in(r.g->pio, CMD + 7, 1), 0xff);
}

/*
 * Firmware that knows nothing of the chip's own bits, as OVMF: ports and bus mastering on by the
 * command register alone.
 */
TEST(ports_by_the_command_register_alone)
{
	struct rig r = rig_new();

	loop_lock(r.g->loop);
	r.d->ops->reset(r.d);
	loop_unlock(r.g->loop);
	CHECK_EQ(in(r.g->pio, CMD + 7, 1), 0xff);
	cfg_write(r.g, DEVFN, PCI_COMMAND, 2, PCI_COMMAND_IO);
	CHECK_EQ(in(r.g->pio, CMD + 7, 1), 0x50);
	CHECK_EQ(cfg_read(r.g, DEVFN, 0x40, 4), 0x80008000u);
}

/* What a guest left behind in an idle drive is its own business: the machine saves and loads. */
TEST(a_saved_drive_loads_whatever_came_before)
{
	static const uint8_t read10[12] = { 0x28, 0, 0, 0, 0, 4, 0, 0, 8 }, ready[12];
	/* bytes of the table, the last region's flag */
	static const struct { uint32_t piece, total; } tables[] = {
		{ 2, 2 }, { 2, 512 }, { 6, 600 }, { 2048, 2048 }, { 2046, 4 * 2046 },
	};

	for (unsigned i = 0; i < 2 * ARRAY_SIZE(tables); i++) {
		struct rig r = rig_new(), again;
		uint64_t buf = guest_alloc(r.g, 64 * KiB, 4096);
		struct err err = { "" };
		void *blob, *second;
		size_t len, second_len;

		for (int go = 0; go < 3; go++) {
			out(r.g->pio, CMD2 + 1, 1, go == 2);
			out(r.g->pio, CMD2 + 4, 2, 0x800);
			out(r.g->pio, CMD2 + 7, 1, 0xa0);
			bus_write_rep(r.g->pio, CMD2, 2, go == 2 ? read10 : ready, 6);
			if (go < 2)
				wait_busy(r.g, CMD2);
		}
		out(r.g->pio, BM + 8 + 4, 4,
		    prd_make(r.g, buf, tables[i / 2].total, tables[i / 2].piece));
		out(r.g->pio, BM + 8, 1, 9);
		for (int k = 0; k < 5 && i % 2; k++)
			guest_run(r.g, 1);
		guest_quiesce(r.g, r.d);
		guest_save(r.d, &blob, &len);
		again = rig_new();
		if (guest_load(again.d, blob, len, &err))
			tap_fail(__FILE__, __LINE__, "table %u: %s", i, err.msg);
		guest_save(again.d, &second, &second_len);
		CHECK(len == second_len && !memcmp(blob, second, len));
		free(blob);
		free(second);
	}
}

TEST(a_hostile_state_is_refused)
{
	struct rig r = rig_new();
	struct guest *g2 = chips_guest();
	struct device *d2 = make(g2, r.k);
	struct err err;
	unsigned refused = 0, taken = 0;
	size_t len;
	void *blob;

	task(r.g, 100, 20, false);
	out(r.g->pio, CMD + 7, 1, 0x20);
	wait_busy(r.g, CMD);
	guest_quiesce(r.g, r.d);
	guest_save(r.d, &blob, &len);
	/* Every byte once, each by another value: refused by name or taken and then lived with. */
	for (size_t i = 0; i < len; i++) {
		uint8_t *p = blob, old = p[i];

		if (i % 3)
			continue;
		p[i] ^= 1u << (i % 8);
		err.msg[0] = 0;
		if (guest_load(d2, blob, len, &err)) {
			refused++;
		} else {
			taken++;
			setup(g2);
			for (int k = 0; k < 3; k++) {
				in(g2->pio, CMD, 4);
				in(g2->pio, CMD + 7, 1);
				out(g2->pio, BM, 1, k & 1 ? 9 : 0);
			}
			out(g2->pio, CTL, 1, 4);
			out(g2->pio, CTL, 1, 0);
			wait_busy(g2, CMD);
		}
		p[i] = old;
	}
	CHECK(refused > 100 && taken > 100);
}

/* Where a transfer stands in its buffer, each a little and a lot too far: never taken. */
TEST(a_saved_transfer_beyond_its_buffer)
{
	static const struct { const char *name; uint32_t value;
	} bad[] = {
		{ "buf_pos", 513 },	   { "buf_pos", UINT32_MAX }, { "drq_end", 513 },
		{ "drq_end", UINT32_MAX }, { "drq_end", 0 },	      { "buf_len", UINT32_MAX },
		{ "buf_len", 1 << 20 },
	};
	struct rig r = rig_new();
	struct device *d2 = make(chips_guest(), r.k);
	struct err err;
	size_t len;
	void *blob;
	int drive;

	task(r.g, 100, 1, false);
	out(r.g->pio, CMD + 7, 1, 0x20);
	wait_busy(r.g, CMD);
	in(r.g->pio, CMD, 4);
	guest_quiesce(r.g, r.d);
	guest_save(r.d, &blob, &len);
	drive = fdt_path_offset(blob, "/ide/channel@0/drive@0");
	CHECK(drive > 0);
	CHECK_EQ(guest_load(d2, blob, len, &err), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		const fdt32_t *p = fdt_getprop(blob, drive, bad[i].name, NULL);
		uint32_t old;

		CHECK(p != NULL);
		old = fdt32_ld(p);
		CHECK_EQ(fdt_setprop_inplace_u32(blob, drive, bad[i].name, bad[i].value), 0);
		CHECK(guest_load(d2, blob, len, &err) < 0);
		CHECK(strstr(err.msg, "of a block") != NULL);
		fdt_setprop_inplace_u32(blob, drive, bad[i].name, old);
	}
}

TAP_MAIN

/* --- geometry: what QEMU 7.2 tells of the same disks (IDENTIFY, CMOS 0x39) --- */

static void partition(uint8_t *mbr, unsigned end_head, unsigned end_sector)
{
	mbr[510] = 0x55;
	mbr[511] = 0xaa;
	mbr[0x1be + 5] = (uint8_t)end_head;
	mbr[0x1be + 6] = (uint8_t)end_sector;
	st_le32(mbr + 0x1be + 12, 1000);
}

TEST(geometry_is_what_old_systems_expect)
{
	static const struct {
		uint64_t sectors;
		unsigned end_head, end_sector;	/* 0: no partition table */
		unsigned cylinders, heads, spt;
		enum ide_translation t;
	} rows[] = {
		/* by size: the smallest, the last that needs no translation, the first that does */
		{ 3, 0, 0, 2, 16, 63, IDE_TRANSLATION_NONE },
		{ 2048, 0, 0, 2, 16, 63, IDE_TRANSLATION_NONE },
		{ 1024 * 1008, 0, 0, 1024, 16, 63, IDE_TRANSLATION_NONE },
		{ 1025 * 1008, 0, 0, 1025, 16, 63, IDE_TRANSLATION_LBA },
		{ 4194304, 0, 0, 4161, 16, 63, IDE_TRANSLATION_LBA },
		{ 1ull << 32, 0, 0, 16383, 16, 63, IDE_TRANSLATION_LBA },
		/* partitioned as 15 heads of 17 sectors: the drive shows just that */
		{ 1024 * 255, 14, 17, 1024, 15, 17, IDE_TRANSLATION_NONE },
		/* by a BIOS that translated: up to 131072 tracks it doubled heads */
		{ 4194304, 63, 63, 4161, 16, 63, IDE_TRANSLATION_LARGE },
		{ 1ull << 24, 254, 63, 16383, 16, 63, IDE_TRANSLATION_LBA },
		/* a head of 0 or a sector of 0 tells nothing */
		{ 4194304, 0, 63, 4161, 16, 63, IDE_TRANSLATION_LBA },
		{ 4194304, 63, 0, 4161, 16, 63, IDE_TRANSLATION_LBA },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		uint8_t mbr[512] = { 0 };
		struct ide_geometry g = { 0 };
		char name[] = "/tmp/minivmm-geometry.XXXXXX";
		struct blk_options o = { .format = "raw" };
		int fd = mkstemp(name);
		struct err err = { "" };
		struct blk *b;

		if (rows[i].end_head || rows[i].end_sector)
			partition(mbr, rows[i].end_head, rows[i].end_sector);
		CHECK(pwrite(fd, mbr, sizeof(mbr), 0) == sizeof(mbr));
		CHECK(ftruncate(fd, (off_t)(rows[i].sectors * 512)) == 0);
		b = blk_open(name, &o, &err);
		CHECK(b);
		ide_geometry_fill(&g, b);
		CHECK_EQ(g.cylinders, rows[i].cylinders);
		CHECK_EQ(g.heads, rows[i].heads);
		CHECK_EQ(g.sectors, rows[i].spt);
		CHECK_EQ(g.translation, rows[i].t);
		blk_close(b);
		close(fd);
		unlink(name);
	}
}
