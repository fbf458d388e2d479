/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The flash chip as firmware probes and writes it, and what is in the image afterwards. */
#include <errno.h>
#include <fcntl.h>

#include "devices/pc/pflash.h"
#include "disk/blk.h"
#include "tests/tap.h"

#define SIZE (128 * KiB)
#define BASE (4 * GiB - SIZE)

struct bench {
	struct pci_wires w;
	struct pci_bus *pci;
	struct device *dev;
	struct blk *blk;
	char path[40];
};

static void bench_new(struct bench *b, bool readonly)
{
	struct blk_options o = { .format = "raw", .flags = readonly ? 0 : BLK_RDWR };
	struct err err = { "" };
	uint8_t page[4096];
	int fd;

	strcpy(b->path, "/tmp/minivmm-pflash-XXXXXX");
	fd = mkstemp(b->path);
	memset(page, 0xff, sizeof(page));
	page[0] = 0x5a;
	for (unsigned i = 0; i < SIZE / 4096; i++)
		CHECK(write_full(fd, page, sizeof(page)) == 0);
	close(fd);
	b->w = (struct pci_wires){ .pio = bus_new("pio", 0xffff),
				   .mmio = bus_new("mmio", UINT64_MAX),
				   .mem = mem_new(NULL, NULL),
				   .loop = loop_new("test") };
	b->pci = pci_bus_new(&b->w);
	b->blk = blk_open(b->path, &o, &err);
	if (!b->blk)
		tap_fail(__FILE__, __LINE__, "%s", err.msg);
	loop_lock(b->w.loop);
	b->dev = pflash_new(b->pci, "pflash0", b->blk, 4 * GiB, true, &err);
	loop_unlock(b->w.loop);
	if (!b->dev)
		tap_fail(__FILE__, __LINE__, "%s", err.msg);
}

static void poke(struct bench *b, uint64_t off, uint8_t val)
{
	CHECK(mem_write(b->w.mem, BASE + off, &val, 1) < 0);	/* ROM: the chip sees it */
	CHECK(bus_write(b->w.mmio, BASE + off, 1, val));
}

static uint8_t peek(struct bench *b, uint64_t off)
{
	uint64_t val = 0;

	if (mem_read(b->w.mem, BASE + off, &val, 1) < 0)
		CHECK(bus_read(b->w.mmio, BASE + off, 1, &val));
	return val;
}

static bool mapped(struct bench *b)
{
	return mem_ptr(b->w.mem, BASE, 1, false) != NULL;
}

static uint8_t image_byte(struct bench *b, uint64_t off)
{
	int fd = open(b->path, O_RDONLY);
	uint8_t v;

	CHECK(pread_full(fd, &v, 1, off) == 0);
	close(fd);
	return v;
}

static void settle(struct bench *b)
{
	for (int i = 0; i < 50; i++)
		loop_once(b->w.loop, 20);
}

/* How UEFI firmware tells flash from RAM and ROM. */
TEST(detection)
{
	struct bench b;

	bench_new(&b, false);
	CHECK(mapped(&b));
	CHECK_EQ(peek(&b, 0), 0x5a);
	poke(&b, 0, 0x50);
	CHECK_EQ(peek(&b, 0), 0x5a);
	poke(&b, 0, 0x70);
	CHECK(!mapped(&b));
	CHECK_EQ(peek(&b, 0), 0);
	poke(&b, 0, 0xff);
	CHECK(mapped(&b));
	CHECK_EQ(peek(&b, 0), 0x5a);
	poke(&b, 0, 0x90);
	CHECK_EQ(peek(&b, 0), 0x89);
	poke(&b, 0, 0x98);
	CHECK_EQ(peek(&b, 0x10), 'Q');
	CHECK_EQ(peek(&b, 0x27), 17);
	CHECK_EQ(peek(&b, 0x2d), SIZE / 4096 - 1);
	poke(&b, 0, 0xff);
	unlink(b.path);
}

TEST(erase_and_program_reach_the_image)
{
	struct bench b;

	bench_new(&b, false);
	poke(&b, 0x2000, 0x10);
	poke(&b, 0x2001, 0x3c);
	CHECK_EQ(peek(&b, 0x2001), 0x80);		/* ready */
	poke(&b, 0x2002, 0x40);
	poke(&b, 0x2002, 0x77);
	poke(&b, 0x2002, 0xff);
	CHECK_EQ(peek(&b, 0x2001), 0x3c);
	CHECK_EQ(peek(&b, 0x2002), 0x77);
	settle(&b);
	CHECK_EQ(image_byte(&b, 0x2001), 0x3c);
	CHECK_EQ(image_byte(&b, 0x2002), 0x77);
	/* Programming clears bits and never sets one. */
	poke(&b, 0x2001, 0x10);
	poke(&b, 0x2001, 0xc3);
	poke(&b, 0x2001, 0xff);
	CHECK_EQ(peek(&b, 0x2001), 0);
	poke(&b, 0x2fff, 0x20);
	poke(&b, 0x2fff, 0xd0);
	poke(&b, 0x2fff, 0xff);
	CHECK_EQ(peek(&b, 0x2000), 0xff);
	CHECK_EQ(peek(&b, 0x1000), 0x5a);
	CHECK_EQ(peek(&b, 0x3000), 0x5a);
	settle(&b);
	CHECK_EQ(image_byte(&b, 0x2001), 0xff);
	CHECK_EQ(image_byte(&b, 0x3000), 0x5a);
	/* Through the write buffer. */
	poke(&b, 0x4020, 0xe8);
	CHECK_EQ(peek(&b, 0x4020) & 0x80, 0x80);
	poke(&b, 0x4020, 3);
	for (unsigned i = 0; i < 4; i++)
		poke(&b, 0x4020 + i, 0x10 + i);
	poke(&b, 0x4020, 0xd0);
	poke(&b, 0x4020, 0xff);
	CHECK_EQ(peek(&b, 0x4023), 0x13);
	CHECK_EQ(peek(&b, 0x4024), 0xff);
	loop_lock(b.w.loop);
	device_destroy(b.dev);
	loop_unlock(b.w.loop);
	CHECK_EQ(image_byte(&b, 0x4023), 0x13);
	CHECK_EQ(blk_close(b.blk), 0);
	unlink(b.path);
}

TEST(read_only)
{
	struct bench b;

	bench_new(&b, true);
	poke(&b, 1, 0x10);
	poke(&b, 1, 0);
	CHECK_EQ(peek(&b, 1) & 0x12, 0x12);
	poke(&b, 1, 0x50);
	CHECK_EQ(peek(&b, 1), 0xff);
	poke(&b, 0, 0x20);
	poke(&b, 0, 0xd0);
	CHECK_EQ(peek(&b, 1) & 0x22, 0x22);
	poke(&b, 0, 0xff);
	CHECK_EQ(peek(&b, 0), 0x5a);
	unlink(b.path);
}

TEST(nonsense)
{
	struct bench b;

	bench_new(&b, false);
	poke(&b, 0, 0x20);
	poke(&b, 0, 0x55);				/* no confirmation */
	CHECK_EQ(peek(&b, 0) & 0x30, 0x30);
	poke(&b, 0, 0xff);
	CHECK_EQ(peek(&b, 0), 0x5a);
	srand(1);
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t v, off = rand() % SIZE;
		unsigned size = 1 << rand() % 4;

		off = MIN(off, SIZE - size);
		if (rand() % 2)
			bus_write(b.w.mmio, BASE + off, size, rand() | (uint64_t)rand() << 32);
		else
			bus_read(b.w.mmio, BASE + off, size, &v);
		if (i % 1000 == 0)
			loop_once(b.w.loop, 0);
	}
	poke(&b, 0, 0xff);
	poke(&b, 0, 0xff);
	poke(&b, 0, 0xff);
	settle(&b);
	loop_lock(b.w.loop);
	device_destroy(b.dev);
	loop_unlock(b.w.loop);
	unlink(b.path);
}

TEST(bad_images)
{
	struct bench b;
	struct err err = { "" };
	struct blk *blk;
	struct blk_options o = { .format = "raw" };

	bench_new(&b, true);
	loop_lock(b.w.loop);
	device_destroy(b.dev);
	CHECK(truncate(b.path, 5000) == 0);
	blk = blk_open(b.path, &o, &err);
	CHECK(blk);
	CHECK(!pflash_new(b.pci, "pflash0", blk, 4 * GiB, false, &err));
	CHECK(strstr(err.msg, "multiple of 4 KiB"));
	unlink(b.path);
}

TAP_MAIN
