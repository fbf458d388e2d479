/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ide.c: the PIIX3 IDE controller with disks and a CD-ROM drive, driven through its ports as a driver does. */
#include <errno.h>
#include <libfdt.h>

#include "devices/chips.h"
#include "tests/lib/testdisk.h"
#include "tests/lib/threeway.h"

#define DEVFN PCI_DEVFN(1, 1)
#define CMD 0x1f0
#define CTL 0x3f6
#define CMD2 0x170
#define BM 0xc000		/* where the tests put BAR 4 */
#define BSY 0x80
#define DRQ 0x08
#define ERR 0x01
#define SECTORS 4096u
#define CD_SECTORS 400u

struct disks {
	struct testdisk *hd, *cd;
	uint64_t slow;			/* buffer of the transfer under way */
};

static uint8_t pattern(uint64_t off, unsigned salt)
{
	return (uint8_t)((off * 2654435761u >> 13) ^ (off >> 9) ^ salt);
}

static void fill(struct testdisk *t, unsigned salt)
{
	for (uint64_t i = 0; i < t->size; i++)
		t->data[i] = pattern(i, salt);
}

static void restore(void *ctx)
{
	struct disks *d = ctx;

	fill(d->hd, 1);
	fill(d->cd, 2);
}

static struct disks *disks_new(void)
{
	struct disks *d = xcalloc(1, sizeof(*d));

	d->hd = testdisk_new(SECTORS * 512, false);
	d->cd = testdisk_new(CD_SECTORS * 2048, true);
	restore(d);
	return d;
}

static void disks_free(struct disks *d)
{
	testdisk_free(d->hd);
	testdisk_free(d->cd);
	free(d);
}

static struct device *make(struct guest *g, void *ctx)
{
	struct disks *k = ctx;
	struct piix3_ide_opts o = { .devfn = DEVFN, .irq = { irq_source(g->irqs, 14), irq_source(g->irqs, 15) } };
	struct ide_drive_opts hd = { .blk = k->hd->blk, .serial = "S123" }, cd = { .blk = k->cd->blk, .cdrom = true };
	struct err err = { "" };
	struct device *d = piix3_ide_new(g->pci, &o, &err);

	CHECK(d);
	CHECK_EQ(piix3_ide_attach(d, 0, &hd, &err), 0);
	CHECK_EQ(piix3_ide_attach(d, 2, &cd, &err), 0);
	return d;
}

/* What firmware does: ports on, BAR 4, bus mastering. */
static void setup(struct guest *g)
{
	cfg_write(g, DEVFN, 0x40, 4, 0x80008000);
	cfg_write(g, DEVFN, PCI_BASE_ADDRESS_4, 4, BM);
	cfg_write(g, DEVFN, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
}

static uint8_t wait_busy(struct guest *g, unsigned cmd)
{
	for (int i = 0; i < 5000; i++) {
		uint8_t st = (uint8_t)in(g->pio, cmd + 0x206, 1);

		if (!(st & BSY))
			return st;
		guest_run(g, 1);
	}
	tap_fail(__FILE__, __LINE__, "the drive stays busy");
}

static void task(struct guest *g, uint64_t lba, unsigned count, bool ext)
{
	if (ext) {
		out(g->pio, CMD + 2, 1, count >> 8);
		for (unsigned i = 0; i < 3; i++)
			out(g->pio, CMD + 3 + i, 1, lba >> (24 + 8 * i) & 0xff);
	}
	out(g->pio, CMD + 2, 1, count & 0xff);
	for (unsigned i = 0; i < 3; i++)
		out(g->pio, CMD + 3 + i, 1, lba >> (8 * i) & 0xff);
	out(g->pio, CMD + 6, 1, 0xe0 | (ext ? 0 : lba >> 24 & 15));
}

static uint32_t sum(const uint8_t *p, size_t n)
{
	return crc32c(0, p, n);
}

/* Reads what the drive offers, DRQ block by block; each must raise the interrupt. Returns bytes. */
static size_t pio_in(struct guest *g, unsigned cmd, uint8_t *buf, size_t max, unsigned block)
{
	size_t n = 0;

	for (;;) {
		uint8_t st = wait_busy(g, cmd);

		if (!(st & DRQ))
			return n;
		CHECK_EQ(g->line_level[cmd == CMD ? 14 : 15], 1);
		in(g->pio, cmd + 7, 1);
		CHECK_EQ(g->line_level[cmd == CMD ? 14 : 15], 0);
		CHECK(n + block <= max);
		bus_read_rep(g->pio, cmd, 2, buf + n, block / 2);
		n += block;
	}
}

static bool is_disk(const uint8_t *buf, uint64_t off, size_t n, unsigned salt)
{
	for (size_t i = 0; i < n; i++)
		if (buf[i] != pattern(off + i, salt))
			return false;
	return true;
}

/* A table of regions of `piece` bytes for len bytes at buf, the last marked. */
static uint64_t prd_make(struct guest *g, uint64_t buf, uint32_t len, uint32_t piece)
{
	uint64_t table = guest_alloc(g, 4096, 4096);
	uint8_t *p = guest_ptr(g, table, 4096);

	while (len) {
		uint32_t n = MIN(len, piece);

		st_le32(p, (uint32_t)buf);
		st_le32(p + 4, (n & 0xffff) | (n == len ? 0x80000000u : 0));
		p += 8;
		buf += n;
		len -= n;
	}
	return table;
}

static void dma_start(struct guest *g, uint64_t table, bool to_memory)
{
	out(g->pio, BM + 4, 4, table);
	out(g->pio, BM + 2, 1, 0x06);
	out(g->pio, BM, 1, to_memory ? 0x08 : 0);
	out(g->pio, BM, 1, to_memory ? 0x09 : 1);
}

static bool dma_ended(void *ctx)
{
	return in(((struct guest *)ctx)->pio, BM + 2, 1) & 4;
}

static void dma_stop(struct guest *g)
{
	out(g->pio, BM, 1, 0);
	out(g->pio, BM + 2, 1, 0x06);
}

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
	uint64_t buf = guest_alloc(t->g, 70000, 4), table = prd_make(t->g, buf + 2, 130 * 512, 8190);

	task(t->g, 1000, 130, true);
	out(t->g->pio, CMD + 7, 1, 0x25);
	dma_start(t->g, table, true);
	CHECK(guest_run_until(t->g, dma_ended, t->g, 5000));
	tw_say(t, "dma read %02x %02x", (unsigned)in(t->g->pio, BM + 2, 1), (unsigned)in(t->g->pio, CMD + 7, 1));
	dma_stop(t->g);
	CHECK(is_disk(guest_ptr(t->g, buf + 2, 130 * 512), 1000 * 512, 130 * 512, 1));
}

static void step_dma_write(struct tw *t)
{
	struct disks *k = t->ctx;
	uint64_t buf = guest_alloc(t->g, 64 * 512, 4096), table = prd_make(t->g, buf, 64 * 512, 4096);

	memset(guest_ptr(t->g, buf, 64 * 512), 0x77, 64 * 512);
	task(t->g, 3000, 64, false);
	out(t->g->pio, CMD + 7, 1, 0xca);
	dma_start(t->g, table, false);
	CHECK(guest_run_until(t->g, dma_ended, t->g, 5000));
	tw_say(t, "dma write %02x %02x", (unsigned)in(t->g->pio, BM + 2, 1), (unsigned)in(t->g->pio, CMD + 7, 1));
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
	uint64_t buf = guest_alloc(t->g, 256 * 512, 4096), table = prd_make(t->g, buf, 256 * 512, 65536);

	k->hd->delay_us = 3000;
	k->slow = buf;
	task(t->g, 2000, 256, true);
	out(t->g->pio, CMD + 7, 1, 0x25);
	dma_start(t->g, table, true);
	tw_say(t, "slow dma %02x %02x", (unsigned)in(t->g->pio, BM + 2, 1), (unsigned)in(t->g->pio, CTL, 1));
}

static void step_slow_end(struct tw *t)
{
	struct disks *k = t->ctx;

	CHECK(guest_run_until(t->g, dma_ended, t->g, 5000));
	tw_say(t, "slow dma %02x %02x", (unsigned)in(t->g->pio, BM + 2, 1), (unsigned)in(t->g->pio, CMD + 7, 1));
	dma_stop(t->g);
	CHECK(is_disk(guest_ptr(t->g, k->slow, 256 * 512), 2000 * 512, 256 * 512, 1));
	k->hd->delay_us = 0;
}

/* A transfer that was begun and has not raised its interrupt. */
static unsigned in_flight(struct tw *t)
{
	return (cfg_read(t->g, DEVFN, PCI_COMMAND, 2) & PCI_COMMAND_IO) && (in(t->g->pio, BM + 2, 1) & 5) == 1;
}

static void step_flush(struct tw *t)
{
	struct disks *k = t->ctx;

	out(t->g->pio, CMD + 7, 1, 0xea);
	tw_say(t, "flush %02x", wait_busy(t->g, CMD));
	CHECK_EQ(k->hd->unstable, 0);
	tw_say(t, "status %02x level %d", (unsigned)in(t->g->pio, CMD + 7, 1), t->g->line_level[14]);
}

static void step_error(struct tw *t)
{
	task(t->g, SECTORS, 1, true);
	out(t->g->pio, CMD + 7, 1, 0x24);
	tw_say(t, "beyond the end %02x %02x", wait_busy(t->g, CMD), (unsigned)in(t->g->pio, CMD + 1, 1));
	CHECK_EQ(in(t->g->pio, CMD + 1, 1), 0x10);		/* IDNF, from the drive and not from the image */
	CHECK(in(t->g->pio, CMD + 7, 1) & ERR);
}

static void (*const disk_steps[])(struct tw *t) = {
	step_setup, step_identify, step_multiple, step_read_begin, step_read_some, step_read_rest, step_write_begin,
	step_write_end, step_dma_read, step_slow_begin, step_slow_end, step_dma_write, step_flush, step_error,
};

TEST(disk_three_ways)
{
	struct disks *k = disks_new();

	threeway(&(struct tw_scenario){ .make = make, .steps = disk_steps, .n = ARRAY_SIZE(disk_steps), .restore = restore, .ctx = k,
					.in_flight = in_flight });
	disks_free(k);
}

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
	tw_say(t, "signature %02x %02x", (unsigned)in(t->g->pio, CMD2 + 4, 1), (unsigned)in(t->g->pio, CMD2 + 5, 1));
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
	tw_say(t, "dma %02x, bus master %02x, %08x", wait_busy(t->g, CMD2), (unsigned)in(t->g->pio, BM + 10, 1),
	       sum(guest_ptr(t->g, buf, len), len));
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
	step_cd_setup, step_cd_words, step_cd_read_begin, step_cd_read_end, step_cd_dma, step_cd_tray, step_cd_open,
	step_cd_closed,
};

TEST(cdrom_three_ways)
{
	/* A tray the guest opened stays open over a reset: the last steps close it, so every run begins alike. */
	struct disks *k = disks_new();

	threeway(&(struct tw_scenario){ .make = make, .steps = cd_steps, .n = ARRAY_SIZE(cd_steps) - 3, .restore = restore, .ctx = k });
	disks_free(k);
}

/* --- single rules --- */

struct rig {
	struct guest *g;
	struct disks *k;
	struct device *d;
};

static struct rig rig_new(void)
{
	struct rig r = { .g = chips_guest(), .k = disks_new() };

	r.d = make(r.g, r.k);
	setup(r.g);
	return r;
}

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
	CHECK_EQ(packet_in(r.g, (uint8_t[12]){ 0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8 }, buf, sizeof(buf), &len), 0x50);
	CHECK_EQ(buf[4], 1);
	CHECK_EQ(change(&r, 2, other->blk, true, &old), 0);
	CHECK(old == r.k->cd->blk);
	CHECK_EQ(packet_in(r.g, (uint8_t[12]){ 0 }, buf, sizeof(buf), NULL), 0x651);	/* unit attention, once */
	CHECK_EQ(packet_in(r.g, (uint8_t[12]){ 0x25 }, buf, sizeof(buf), &len), 0x50);
	CHECK_EQ(ld_be32(buf), 7);
	CHECK_EQ(change(&r, 2, NULL, false, &old), 0);
	CHECK_EQ(packet_in(r.g, (uint8_t[12]){ 0 }, buf, sizeof(buf), NULL), 0x251);	/* not ready */
	CHECK_EQ(packet_in(r.g, (uint8_t[12]){ 0x28, 0, 0, 0, 0, 0, 0, 0, 1 }, buf, sizeof(buf), NULL), 0x251);
}

/* What GET CONFIGURATION lists: the codes, one after the other. */
static unsigned features(struct rig *r, uint8_t rt, uint16_t from, uint16_t *codes, bool *current, unsigned max)
{
	uint8_t buf[256];
	unsigned n = 0;
	size_t len;

	CHECK_EQ(packet_in(r->g, (uint8_t[12]){ 0x46, rt, from >> 8, (uint8_t)from, 0, 0, 0, 1, 0 }, buf, sizeof(buf), &len), 0x50);
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
	CHECK_EQ(features(&r, 2, 4, codes, current, 32), 0);		/* there is none of that number */
	CHECK_EQ(features(&r, 0, 0x1e, codes, current, 32), 4);
	CHECK_EQ(codes[0], 0x1e);
	CHECK_EQ(change(&r, 2, NULL, true, &old), 0);
	now = features(&r, 1, 0, codes, current, 32);
	CHECK_EQ(now, all - 4);						/* nothing is read without a medium */
	CHECK_EQ(packet_in(r.g, (uint8_t[12]){ 0x46, 3, 0, 0, 0, 0, 0, 1, 0 }, buf, sizeof(buf), NULL), 0x551);
}

TEST(read_cd_has_no_subchannels)
{
	struct rig r = rig_new();
	uint8_t buf[4096];
	size_t len;

	CHECK_EQ(packet_in(r.g, (uint8_t[12]){ 0xbe, 0, 0, 0, 0, 3, 0, 0, 1, 0x10, 0 }, buf, sizeof(buf), &len), 0x50);
	CHECK_EQ(len, 2048);
	CHECK_EQ(packet_in(r.g, (uint8_t[12]){ 0xbe, 0, 0, 0, 0, 3, 0, 0, 1, 0x10, 1 }, buf, sizeof(buf), NULL), 0x551);
	CHECK_EQ(packet_in(r.g, (uint8_t[12]){ 0xbe, 0, 0, 0, 0, 3, 0, 0, 1, 0xf8, 2 }, buf, sizeof(buf), NULL), 0x551);
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
	static const uint32_t bad[] = { 0xfffffff0, 0x8000000, 0xf0000 /* ROM: cannot be written */, 0xfff000 + 0xffc };
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

TEST(quiesce_stops_between_two_pieces)
{
	struct rig r = rig_new();
	/* 300 regions: more than one piece holds, so a second one follows. */
	uint64_t buf = guest_alloc(r.g, 512 * 512, 4096), table = prd_make(r.g, buf, 300 * 512, 512);
	unsigned reads;

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
	static const struct { const char *name; uint32_t value; } bad[] = {
		{ "buf_pos", 513 }, { "buf_pos", UINT32_MAX }, { "drq_end", 513 }, { "drq_end", UINT32_MAX }, { "drq_end", 0 },
		{ "buf_len", UINT32_MAX }, { "buf_len", 1 << 20 },
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
