/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * threeways_rom.c: what firmware talks to (screen, fw_cfg, flash) straight, saved and loaded at
 * each step, and reset at each step (tests/lib/threeway.h), in the middle of every sequence of
 * accesses that belong together.
 */
#include <unistd.h>

#include "devices/chips.h"
#include "bios/fw_cfg.h"
#include "devices/pc/pflash.h"
#include "disk/blk.h"
#include "tests/lib/threeway.h"
#include "vmm/backends/display.h"

static void outb(struct tw *t, uint16_t port, uint8_t val)
{
	out(t->g->pio, port, 1, val);
}

static unsigned inb(struct tw *t, uint16_t port)
{
	return (unsigned)in(t->g->pio, port, 1);
}

/* As a guest's access: memory where it is mapped, the device elsewhere. */
static void poke(struct tw *t, uint64_t addr, unsigned size, uint64_t val)
{
	if (mem_write(t->g->mem, addr, &val, size) < 0)
		out(t->g->mmio, addr, size, val);
}

static unsigned peek(struct tw *t, uint64_t addr, unsigned size)
{
	uint64_t val = 0;

	if (mem_read(t->g->mem, addr, &val, size) < 0)
		val = in(t->g->mmio, addr, size);
	return (unsigned)val;
}

/* --- VGA --- */

#define VGA_DEVFN PCI_DEVFN(2, 0)
#define LFB 0xe0000000u

static struct device *make_vga(struct guest *g, void *ctx)
{
	struct vga_opts o = { .devfn = VGA_DEVFN, .id = "vga", .rom_fd = -1 };
	struct err err = { "" };
	struct device *d;

	/* As in a PC, no RAM in the card's window. */
	CHECK_EQ(block_unmap_piece(g->ram, 0xa0000, 0x20000), 0);
	loop_lock(g->loop);
	d = vga_new(g->pci, &o, &err);
	loop_unlock(g->loop);
	return d;
}

static void drawn(void *ctx, const struct screen_rect *r)
{
}

/* What a viewer sees now. */
static void say_picture(struct tw *t)
{
	const struct display *d = vga_display(t->d);
	struct screen *s;
	const struct surface *p;

	loop_lock(t->g->loop);
	s = screen_open(d);
	d->ops->update(s, drawn, NULL);
	p = d->ops->surface(s);
	tw_say(t, "picture %ux%u %08x", p->width, p->height,
	       crc32c(0, p->pixels, 4ul * p->width * p->height));
	d->ops->close(s);
	loop_unlock(t->g->loop);
}

static void index_write(struct tw *t, uint16_t port, uint8_t index, uint8_t val)
{
	out(t->g->pio, port, 2, index | val << 8);
}

static void vga_begin(struct tw *t)
{
	static const uint8_t seq[5] = { 3, 1, 0x0f, 0, 6 };
	static const uint8_t crtc[25] = { 0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0,
					  0x40, 0,    0,    0,	  0,	0,    0,    0xea, 0x8c,
					  0xdf, 0x28, 0,    0xe7, 4,	0xe3, 0xff };
	static const uint8_t zeros[4096];

	cfg_write(t->g, VGA_DEVFN, PCI_BASE_ADDRESS_0, 4, LFB);
	cfg_write(t->g, VGA_DEVFN, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
	/* A reset leaves the picture's memory as it was. */
	for (unsigned i = 0; i < MiB; i += sizeof(zeros))
		CHECK_EQ(mem_write(t->g->mem, LFB + i, zeros, sizeof(zeros)), 0);
	outb(t, 0x3c2, 0xe3);
	for (unsigned i = 0; i < 5; i++)
		index_write(t, 0x3c4, i, seq[i]);
	index_write(t, 0x3d4, 0x11, 0);
	for (unsigned i = 0; i < 25; i++)
		index_write(t, 0x3d4, i, crtc[i]);
	tw_say(t, "msr %x", inb(t, 0x3cc));
}

/* The attribute controller has one port for index and data, and remembers which is next. */
static void vga_attributes_half(struct tw *t)
{
	inb(t, 0x3da);
	for (unsigned i = 0; i < 16; i++) {
		outb(t, 0x3c0, i);
		outb(t, 0x3c0, i);
	}
	outb(t, 0x3c0, 0x10);
}

static void vga_attributes_rest(struct tw *t)
{
	outb(t, 0x3c0, 1);
	outb(t, 0x3c0, 0x12);
	outb(t, 0x3c0, 0x0f);
	outb(t, 0x3c0, 0x20);
	tw_say(t, "attribute index %x", inb(t, 0x3c0));
}

/* Two of a colour's three bytes. */
static void vga_palette_half(struct tw *t)
{
	outb(t, 0x3c8, 0);
	for (unsigned i = 0; i < 3 * 40 + 2; i++)
		outb(t, 0x3c9, i * 5 & 63);
}

static void vga_palette_rest(struct tw *t)
{
	for (unsigned i = 3 * 40 + 2; i < 768; i++)
		outb(t, 0x3c9, i * 5 & 63);
	outb(t, 0x3c7, 40);
	tw_say(t, "colour 40: %x %x", inb(t, 0x3c9), inb(t, 0x3c9));
}

static void vga_palette_read_rest(struct tw *t)
{
	tw_say(t, "and %x, next %x", inb(t, 0x3c9), inb(t, 0x3c9));
}

/* The latches keep what was read last, of all four planes. */
static void vga_latch(struct tw *t)
{
	static const uint8_t gc[9] = { 0, 0, 0, 0, 0, 0, 5, 0x0f, 0xff };

	for (unsigned i = 0; i < 9; i++)
		index_write(t, 0x3ce, i, gc[i]);
	for (unsigned p = 0; p < 4; p++) {
		index_write(t, 0x3c4, 2, 1 << p);
		for (unsigned i = 0; i < 4096; i++)
			poke(t, 0xa0000 + i, 1, (i * 7 ^ p * 0x35) & 0xff);
	}
	index_write(t, 0x3c4, 2, 0x0f);
	tw_say(t, "read %x", peek(t, 0xa0123, 1));
}

static void vga_latch_write(struct tw *t)
{
	index_write(t, 0x3ce, 5, 1);		/* write mode 1: the latches */
	poke(t, 0xa2000, 1, 0);
	index_write(t, 0x3ce, 5, 0);
	for (unsigned p = 0; p < 4; p++) {
		index_write(t, 0x3ce, 4, p);
		tw_say(t, "plane %u: %x", p, peek(t, 0xa2000, 1));
	}
	say_picture(t);
}

static void vga_mode13(struct tw *t)
{
	index_write(t, 0x3c4, 4, 0x0e);
	index_write(t, 0x3ce, 5, 0x40);
	index_write(t, 0x3d4, 0x14, 0x40);
	index_write(t, 0x3d4, 9, 0x41);
	inb(t, 0x3da);
	outb(t, 0x3c0, 0x10);
	outb(t, 0x3c0, 0x41);
	outb(t, 0x3c0, 0x20);
	for (unsigned i = 0; i < 64000; i += 4)
		poke(t, 0xa0000 + i, 4, i * 0x01030507u);
	say_picture(t);
}

/* The Bochs extension's index register before its data. */
static void vbe_half(struct tw *t)
{
	static const uint16_t set[][2] = {
		{ 4, 0 }, { 1, 320 }, { 2, 240 }, { 3, 32 }, { 4, 0x41 }
	};

	for (unsigned i = 0; i < ARRAY_SIZE(set); i++) {
		out(t->g->pio, 0x1ce, 2, set[i][0]);
		out(t->g->pio, 0x1cf, 2, set[i][1]);
	}
	out(t->g->pio, 0x1ce, 2, 2);
}

static void vbe_rest(struct tw *t)
{
	tw_say(t, "yres %u", (unsigned)in(t->g->pio, 0x1cf, 2));
	for (unsigned i = 0; i < 320 * 240; i++)
		poke(t, LFB + 4 * i, 4, i * 0x010307u);
	say_picture(t);
}

static void vbe_pan(struct tw *t)
{
	out(t->g->pio, 0x1ce, 2, 7);
	out(t->g->pio, 0x1cf, 2, 480);
	out(t->g->pio, 0x1ce, 2, 9);
	out(t->g->pio, 0x1cf, 2, 10);
	tw_say(t, "pixel %x", peek(t, LFB + 4 * 5000, 4));
	say_picture(t);
}

static void (*const vga_steps[])(struct tw *t) = {
	vga_begin,
	vga_attributes_half,
	vga_attributes_rest,
	vga_palette_half,
	vga_palette_rest,
	vga_palette_read_rest,
	vga_latch,
	vga_latch_write,
	vga_mode13,
	vbe_half,
	vbe_rest,
	vbe_pan,
};

TEST(vga_three_ways)
{
	threeway(&(struct tw_scenario){
		.make = make_vga, .steps = vga_steps, .n = ARRAY_SIZE(vga_steps) });
}

/* --- fw_cfg --- */

#define SEL 0x510
#define DATA 0x511
#define DMA_HIGH 0x514
#define DMA_LOW 0x518
#define DESC 0x101000u
#define BUF 0x102000u

static struct device *make_fw_cfg(struct guest *g, void *ctx)
{
	struct err err = { "" };
	struct fw_cfg *f = fw_cfg_new(g->pio, g->mem, g->loop, &err);

	CHECK(f);
	fw_cfg_add_key_u32(f, FW_CFG_NB_CPUS, 0x04030201);
	fw_cfg_add_file(f, "etc/text", "abcdefghijklmnop", 16);
	fw_cfg_add_file_hooks(f, "etc/rw", "........", 8, true, NULL);
	return fw_cfg_device(f);
}

static void fw_select(struct tw *t)
{
	out(t->g->pio, SEL, 2, FW_CFG_FILE_FIRST);
}

static void fw_read(struct tw *t)
{
	for (int i = 0; i < 5; i++)
		tw_say(t, "byte %x", inb(t, DATA));
}

static void fw_descriptor(struct tw *t, uint32_t control, uint32_t len)
{
	uint8_t *d = guest_ptr(t->g, DESC, 16);

	st_be32(d, control);
	st_be32(d + 4, len);
	st_be64(d + 8, BUF);
}

/* One half of the descriptor's address. */
static void fw_dma_half(struct tw *t)
{
	memcpy(guest_ptr(t->g, BUF, 8), "ABCDEFGH", 8);
	fw_descriptor(t, (FW_CFG_FILE_FIRST + 1u) << 16 | 8 | 16, 8);
	out(t->g->pio, DMA_HIGH, 4, 0);
}

static void fw_dma_rest(struct tw *t)
{
	out(t->g->pio, DMA_LOW, 4, htobe32(DESC));
	tw_say(t, "control %x", ld_be32(guest_ptr(t->g, DESC, 4)));
}

static void fw_read_back(struct tw *t)
{
	fw_descriptor(t, (FW_CFG_FILE_FIRST + 1u) << 16 | 8 | 2, 6);
	out(t->g->pio, DMA_HIGH, 4, 0);
	out(t->g->pio, DMA_LOW, 4, htobe32(DESC));
	tw_say(t, "control %x: %.6s", ld_be32(guest_ptr(t->g, DESC, 4)),
	       (char *)guest_ptr(t->g, BUF, 8));
}

/* DMA without a selection goes on where the last access ended. */
static void fw_go_on(struct tw *t)
{
	fw_descriptor(t, 2, 4);
	out(t->g->pio, DMA_HIGH, 4, 0);
	out(t->g->pio, DMA_LOW, 4, htobe32(DESC));
	tw_say(t, "control %x: %08x", ld_be32(guest_ptr(t->g, DESC, 4)),
	       ld_be32(guest_ptr(t->g, BUF, 4)));
}

static void (*const fw_steps[])(struct tw *t) = {
	fw_select, fw_read, fw_read, fw_dma_half, fw_dma_rest, fw_read_back, fw_go_on,
};

TEST(fw_cfg_three_ways)
{
	threeway(&(struct tw_scenario){
		.make = make_fw_cfg, .steps = fw_steps, .n = ARRAY_SIZE(fw_steps) });
}

/* --- flash --- */

#define FLASH (128 * KiB)
#define FLASH_BASE (4 * GiB - FLASH)

struct image { struct blk *blk; char path[40]; };

static struct device *make_flash(struct guest *g, void *ctx)
{
	struct blk_options o = { .format = "raw", .flags = BLK_RDWR };
	struct image *im = ctx;
	struct err err = { "" };
	struct device *d;

	im->blk = blk_open(im->path, &o, &err);
	if (!im->blk)
		tap_fail(__FILE__, __LINE__, "%s", err.msg);
	loop_lock(g->loop);
	d = pflash_new(g->pci, "pflash0", im->blk, 4 * GiB, true, &err);
	loop_unlock(g->loop);
	return d;
}

static void unmake_flash(struct guest *g, void *ctx)
{
	CHECK_EQ(blk_close(((struct image *)ctx)->blk), 0);
}

static void flash(struct tw *t, uint64_t off, uint8_t val)
{
	out(t->g->mmio, FLASH_BASE + off, 1, val);
}

static unsigned flash_read(struct tw *t, uint64_t off)
{
	return peek(t, FLASH_BASE + off, 1);
}

static void flash_wait(struct tw *t, uint64_t off)
{
	for (int i = 0; i < 1000 && !(flash_read(t, off) & 0x80); i++)
		guest_run(t->g, 1);
}

static void flash_identify(struct tw *t)
{
	flash(t, 0, 0x90);
}

static void flash_identified(struct tw *t)
{
	tw_say(t, "maker %x", flash_read(t, 0));
	flash(t, 0, 0xff);
}

static void flash_erase_half(struct tw *t)
{
	flash(t, 0x4000, 0x20);
}

static void flash_erase_rest(struct tw *t)
{
	flash(t, 0x4000, 0xd0);
	flash_wait(t, 0x4000);
	tw_say(t, "status %x", flash_read(t, 0x4000));
	flash(t, 0x4000, 0xff);
	tw_say(t, "erased %x", flash_read(t, 0x4002));
}

static void flash_program_half(struct tw *t)
{
	flash(t, 0x4001, 0x40);
}

static void flash_program_rest(struct tw *t)
{
	flash(t, 0x4001, 0x3c);
	flash_wait(t, 0x4001);
	tw_say(t, "status %x", flash_read(t, 0x4001));
}

/* The write buffer, filled to the half. */
static void flash_buffer_half(struct tw *t)
{
	flash(t, 0x4020, 0xe8);
	flash_wait(t, 0x4020);
	flash(t, 0x4020, 3);
	flash(t, 0x4020, 0x10);
	flash(t, 0x4021, 0x11);
}

static void flash_buffer_rest(struct tw *t)
{
	flash(t, 0x4022, 0x12);
	flash(t, 0x4023, 0x13);
	flash(t, 0x4020, 0xd0);
	flash_wait(t, 0x4020);
	flash(t, 0x4020, 0xff);
	for (unsigned i = 0; i < 6; i++)
		tw_say(t, "byte %u: %x", i, flash_read(t, 0x401f + i));
	tw_say(t, "first %x %x", flash_read(t, 0x4001), flash_read(t, 0));
}

static void (*const flash_steps[])(struct tw *t) = {
	flash_identify,	    flash_identified,	flash_erase_half,  flash_erase_rest,
	flash_program_half, flash_program_rest, flash_buffer_half, flash_buffer_rest,
};

TEST(flash_three_ways)
{
	struct image im = { .path = "/tmp/minivmm-flash-XXXXXX" };
	uint8_t page[4096];
	int fd = mkstemp(im.path);

	memset(page, 0x5a, sizeof(page));
	for (unsigned i = 0; i < FLASH / sizeof(page); i++)
		CHECK_EQ(write_full(fd, page, sizeof(page)), 0);
	close(fd);
	threeway(&(struct tw_scenario){ .make = make_flash,
					.steps = flash_steps,
					.n = ARRAY_SIZE(flash_steps),
					.ctx = &im,
					.unmake = unmake_flash });
	unlink(im.path);
}

TAP_MAIN
