/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VGA from the guest's side, and its picture: modes are set through ports as a video BIOS does,
 * memory is written through the window, pixels are compared.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "devices/chips.h"
#include "devices/vga/vga.h"
#include "tests/tap.h"

struct bench {
	struct pci_wires w;
	struct mem *mem;
	struct pci_bus *pci;
	struct device *dev;
	struct vga *v;
	struct screen *s;
	unsigned rects;
	struct screen_rect last, all;
};

static void bench_new(struct bench *b)
{
	struct vga_opts o = { .devfn = PCI_DEVFN(2, 0), .id = "vga", .rom_fd = -1 };
	struct err err = { "" };

	memset(b, 0, sizeof(*b));
	b->mem = mem_new(NULL, NULL);
	b->w = (struct pci_wires){ .pio = bus_new("pio", 0xffff),
				   .mmio = bus_new("mmio", UINT64_MAX),
				   .mem = b->mem,
				   .loop = loop_new("test") };
	b->pci = pci_bus_new(&b->w);
	b->dev = vga_new(b->pci, &o, &err);
	if (!b->dev)
		tap_fail(__FILE__, __LINE__, "%s", err.msg);
	b->v = container_of(b->dev, struct vga, pci.dev);
	b->s = screen_open(vga_display(b->dev));
}

static void out(struct bench *b, uint16_t port, uint8_t val)
{
	bus_write(b->w.pio, port, 1, val);
}

static uint8_t in(struct bench *b, uint16_t port)
{
	uint64_t v;

	bus_read(b->w.pio, port, 1, &v);
	return v;
}

static void out_index(struct bench *b, uint16_t port, uint8_t index, uint8_t val)
{
	bus_write(b->w.pio, port, 2, index | val << 8);
}

/* As a guest's access: memory where it is mapped, the device elsewhere. */
static void poke(struct bench *b, uint64_t addr, unsigned size, uint64_t val)
{
	if (mem_write(b->mem, addr, &val, size) < 0)
		CHECK(bus_write(b->w.mmio, addr, size, val));
}

static uint64_t peek(struct bench *b, uint64_t addr, unsigned size)
{
	uint64_t val = 0;

	if (mem_read(b->mem, addr, &val, size) < 0)
		CHECK(bus_read(b->w.mmio, addr, size, &val));
	return val;
}

static bool mapped(struct bench *b, uint64_t addr)
{
	return mem_ptr(b->mem, addr, 1, false) != NULL;
}

static void changed(void *ctx, const struct screen_rect *r)
{
	struct bench *b = ctx;
	const struct surface *s = b->v->display.ops->surface(b->s);

	CHECK(r->w && r->h && r->x + r->w <= s->width && r->y + r->h <= s->height);
	b->rects++;
	b->last = *r;
}

static const struct surface *update(struct bench *b)
{
	b->rects = 0;
	b->v->display.ops->update(b->s, changed, b);
	return b->v->display.ops->surface(b->s);
}

/* --- modes, as the video BIOS programs them (register tables of the IBM VGA) --- */
struct mode {
	uint8_t msr, seq[5], crtc[25], attr[21], gc[9];
};
static const struct mode mode3 = {
	0x67,
	{ 3, 0, 3, 0, 2 },
	{ 0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0,	0x4f, 0x0d, 0x0e, 0,
	  0,	0,    0,    0x9c, 0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff },
	{ 0,	1,    2,    3,	  4,	5,    0x14, 7,	  0x38, 0x39, 0x3a,
	  0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x0c, 0,    0x0f, 8,	0 },
	{ 0, 0, 0, 0, 0, 0x10, 0x0e, 0x0f, 0xff },
};
static const struct mode mode12 = {
	0xe3,
	{ 3, 1, 0x0f, 0, 6 },
	{ 0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0,	0x40, 0,    0,	 0,
	  0,	0,    0,    0xea, 0x8c, 0xdf, 0x28, 0,	  0xe7, 4,    0xe3, 0xff },
	{ 0,	1,    2,    3,	  4,	5, 0x14, 7,    0x38, 0x39, 0x3a,
	  0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 1, 0,	 0x0f, 0,    0 },
	{ 0, 0, 0, 0, 0, 0, 5, 0x0f, 0xff },
};
static const struct mode mode13 = {
	0x63,
	{ 3, 1, 0x0f, 0, 0x0e },
	{ 0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0,	0x41, 0,    0,	 0,
	  0,	0,    0,    0x9c, 0x8e, 0x8f, 0x28, 0x40, 0x96, 0xb9, 0xa3, 0xff },
	{ 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0x41, 0, 0x0f, 0, 0 },
	{ 0, 0, 0, 0, 0, 0x40, 5, 0x0f, 0xff },
};
static const struct mode mode4 = {
	0x63,
	{ 3, 9, 3, 0, 2 },
	{ 0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0,	0xc1, 0,    0,	 0,
	  0,	0,    0,    0x9c, 0x8e, 0x8f, 0x14, 0,	  0x96, 0xb9, 0xa2, 0xff },
	{ 0,	0x13, 0x15, 0x17, 2,	4, 6, 7, 0x10, 0x11, 0x12,
	  0x13, 0x14, 0x15, 0x16, 0x17, 1, 0, 3, 0,    0 },
	{ 0, 0, 0, 0, 0, 0x30, 0x0f, 0x0f, 0xff },
};

static void set_mode(struct bench *b, const struct mode *m)
{
	unsigned i;

	out(b, 0x3c2, m->msr);
	for (i = 0; i < 5; i++)
		out_index(b, 0x3c4, i, m->seq[i]);
	out_index(b, 0x3d4, 0x11, 0);
	for (i = 0; i < 25; i++)
		out_index(b, 0x3d4, i, m->crtc[i]);
	for (i = 0; i < 9; i++)
		out_index(b, 0x3ce, i, m->gc[i]);
	in(b, 0x3da);
	for (i = 0; i < 21; i++) {
		out(b, 0x3c0, i);
		out(b, 0x3c0, m->attr[i]);
	}
	/* A palette in which entry n has the colour (n, 63 - n, 0) of 6 bits. */
	out(b, 0x3c8, 0);
	for (i = 0; i < 256; i++) {
		out(b, 0x3c9, i & 63);
		out(b, 0x3c9, 63 - (i & 63));
		out(b, 0x3c9, 0);
	}
	out(b, 0x3c0, 0x20);
}

static uint32_t colour(unsigned n)
{
	unsigned r = n & 63, g = 63 - (n & 63);

	return (r << 2 | r >> 4) << 16 | (g << 2 | g >> 4) << 8;
}

static uint32_t pixel(const struct surface *s, unsigned x, unsigned y)
{
	CHECK(x < s->width && y < s->height);
	return s->pixels[y * s->width + x];
}

/* A font in which every line of character c is c itself. */
static void load_font(struct bench *b)
{
	out_index(b, 0x3c4, 2, 4);
	out_index(b, 0x3c4, 4, 6);
	out_index(b, 0x3ce, 4, 2);
	out_index(b, 0x3ce, 5, 0);
	out_index(b, 0x3ce, 6, 4);
	for (unsigned c = 0; c < 256; c++)
		for (unsigned i = 0; i < 16; i++)
			poke(b, 0xa0000 + c * 32 + i, 1, c);
	out_index(b, 0x3c4, 2, 3);
	out_index(b, 0x3c4, 4, 2);
	out_index(b, 0x3ce, 4, 0);
	out_index(b, 0x3ce, 5, 0x10);
	out_index(b, 0x3ce, 6, 0x0e);
}

/* --- tests --- */
TEST(power_on_is_blank)
{
	struct bench b;
	const struct surface *s;

	bench_new(&b);
	s = update(&b);
	CHECK_EQ(s->width, 640);
	CHECK_EQ(s->height, 400);
	for (unsigned i = 0; i < 640 * 400; i++)
		CHECK_EQ(s->pixels[i], 0);
}

TEST(text)
{
	struct bench b;
	const struct surface *s;
	unsigned width, height;
	static struct text_screen t;

	bench_new(&b);
	set_mode(&b, &mode3);
	CHECK(!mapped(&b, 0xb8000));
	poke(&b, 0xb8000, 2, 0x1441);			/* first access: from now on it is memory */
	CHECK(mapped(&b, 0xb8000));
	CHECK(mapped(&b, 0xbffff));
	CHECK_EQ(peek(&b, 0xb8000, 2), 0x1441);
	poke(&b, 0xb8020, 2, 0x0758);
	load_font(&b);
	CHECK(!mapped(&b, 0xb8000));
	poke(&b, 0xb8002, 2, 0x0742);
	CHECK(mapped(&b, 0xb8000));
	CHECK_EQ(peek(&b, 0xb8000, 4), 0x07421441);	/* the text survived the font */
	CHECK_EQ(peek(&b, 0xb8020, 2), 0x0758);
	s = update(&b);
	CHECK_EQ(s->width, 720);
	CHECK_EQ(s->height, 400);
	/*
	 * 'A' is 0x41: pixels 1 and 7 set; foreground 4, background 1; the ninth column is
	 * background.
	 */
	CHECK_EQ(pixel(s, 0, 3), colour(1));
	CHECK_EQ(pixel(s, 1, 3), colour(4));
	CHECK_EQ(pixel(s, 7, 3), colour(4));
	CHECK_EQ(pixel(s, 8, 3), colour(1));
	CHECK_EQ(pixel(s, 9 + 1, 15), colour(7));
	/* One cell changes: only it is reported. Nothing changes: nothing is. */
	update(&b);
	CHECK_EQ(b.rects, 0);
	poke(&b, 0xb8000 + 2 * (80 * 3 + 5), 2, 0x0743);
	update(&b);
	CHECK_EQ(b.rects, 1);
	CHECK_EQ(b.last.x, 5 * 9);
	CHECK_EQ(b.last.y, 3 * 16);
	CHECK_EQ(b.last.w, 9);
	CHECK_EQ(b.last.h, 16);
	/* The cursor moves: where it was and where it is. */
	out_index(&b, 0x3d4, 0x0f, 81);
	update(&b);
	CHECK_EQ(b.rects, 1);
	CHECK_EQ(b.last.x, 0);
	CHECK_EQ(b.last.w, 18);
	CHECK_EQ(b.last.h, 32);
	/* foreground of an empty cell: attribute 0 */
	CHECK_EQ(pixel(s, 9, 16 + 13), colour(0));
	CHECK(vga_display_ops.text(b.v, &t, &width, &height));
	CHECK_EQ(t.cols, 80);
	CHECK_EQ(t.rows, 25);
	CHECK_EQ(t.cursor_x, 1);
	CHECK_EQ(t.cursor_y, 1);
	CHECK_EQ(t.cells[0], 0x1441);
	CHECK_EQ(t.cells[80 * 3 + 5], 0x0743);
	/* Scrolling by the start address. */
	out_index(&b, 0x3d4, 0x0d, 240);
	s = update(&b);
	CHECK(vga_display_ops.text(b.v, &t, &width, &height));
	CHECK_EQ(t.cells[5], 0x0743);
}

TEST(mode13_is_memory)
{
	struct bench b;
	const struct surface *s;

	bench_new(&b);
	set_mode(&b, &mode13);
	poke(&b, 0xa0000, 1, 5);
	CHECK(mapped(&b, 0xa0000));
	CHECK(!mapped(&b, 0xb0000));
	poke(&b, 0xa0000 + 320 * 100 + 7, 2, 0x0b0a);
	s = update(&b);
	CHECK_EQ(s->width, 640);
	CHECK_EQ(s->height, 400);
	CHECK_EQ(pixel(s, 0, 0), colour(5));
	CHECK_EQ(pixel(s, 1, 1), colour(5));
	CHECK_EQ(pixel(s, 2, 0), colour(0));
	CHECK_EQ(pixel(s, 14, 200), colour(10));
	CHECK_EQ(pixel(s, 17, 201), colour(11));
	update(&b);
	CHECK_EQ(b.rects, 0);
	poke(&b, 0xa0000 + 320 * 100 + 7, 1, 20);
	update(&b);
	CHECK_EQ(b.rects, 1);
	CHECK_EQ(b.last.y, 200);
	CHECK_EQ(b.last.h, 2);
	CHECK_EQ(b.last.x, 14);
	CHECK_EQ(b.last.w, 2);
}

TEST(planar_write_modes)
{
	struct bench b;
	const struct surface *s;

	bench_new(&b);
	set_mode(&b, &mode12);
	/* Mode 0, set/reset: colour 5 into every pixel that the bit mask lets through. */
	out_index(&b, 0x3ce, 0, 5);
	out_index(&b, 0x3ce, 1, 0xf);
	out_index(&b, 0x3ce, 8, 0xf0);
	peek(&b, 0xa0000, 1);
	poke(&b, 0xa0000, 1, 0);
	s = update(&b);
	CHECK_EQ(s->width, 640);
	CHECK_EQ(s->height, 480);
	CHECK_EQ(pixel(s, 3, 0), colour(5));
	CHECK_EQ(pixel(s, 4, 0), colour(0));
	CHECK(!mapped(&b, 0xa0000));
	/* Mode 1 copies latches. */
	peek(&b, 0xa0000, 1);
	out_index(&b, 0x3ce, 5, 1);
	poke(&b, 0xa0000 + 80, 1, 0xff);
	s = update(&b);
	CHECK_EQ(pixel(s, 3, 1), colour(5));
	CHECK_EQ(pixel(s, 4, 1), colour(0));
	/* Mode 2: the byte is the colour; XOR with what is there. */
	out_index(&b, 0x3ce, 5, 2);
	out_index(&b, 0x3ce, 8, 0xff);
	out_index(&b, 0x3ce, 3, 0x18);
	peek(&b, 0xa0000, 1);
	poke(&b, 0xa0000, 1, 0xf);
	s = update(&b);
	CHECK_EQ(pixel(s, 0, 0), colour(0x3a));		/* 5 ^ 15 = 10 */
	CHECK_EQ(pixel(s, 4, 0), colour(0x3f));
	/* Mode 3: set/reset through the rotated byte as mask. */
	out_index(&b, 0x3ce, 5, 3);
	out_index(&b, 0x3ce, 3, 1);
	out_index(&b, 0x3ce, 0, 2);
	peek(&b, 0xa0000 + 160, 1);
	poke(&b, 0xa0000 + 160, 1, 0x01);		/* rotated right by one: 0x80 */
	s = update(&b);
	CHECK_EQ(pixel(s, 0, 2), colour(2));
	CHECK_EQ(pixel(s, 7, 2), colour(0));
	/* Read mode 1: which pixels have colour 2. */
	out_index(&b, 0x3ce, 5, 8);
	out_index(&b, 0x3ce, 2, 2);
	CHECK_EQ(peek(&b, 0xa0000 + 160, 1), 0x80);
	/* Map mask: only plane 0. */
	out_index(&b, 0x3ce, 5, 0);
	out_index(&b, 0x3ce, 1, 0);
	out_index(&b, 0x3ce, 3, 0);
	out_index(&b, 0x3c4, 2, 1);
	poke(&b, 0xa0000 + 160, 1, 0xff);
	s = update(&b);
	CHECK_EQ(pixel(s, 0, 2), colour(3));
	CHECK_EQ(pixel(s, 7, 2), colour(1));
	/* Odd widths and the edge of the window. */
	poke(&b, 0xaffff, 1, 1);
	poke(&b, 0xafffc, 8, UINT64_MAX);
}

TEST(cga_interleaves)
{
	struct bench b;
	const struct surface *s;

	bench_new(&b);
	set_mode(&b, &mode4);
	poke(&b, 0xb8000, 1, 0x1b);			/* colours 0 1 2 3 */
	poke(&b, 0xba000 + 1, 1, 0xff);			/* second line, second four pixels */
	s = update(&b);
	CHECK_EQ(s->width, 640);
	CHECK_EQ(s->height, 400);
	CHECK_EQ(pixel(s, 0, 0), colour(0));
	CHECK_EQ(pixel(s, 2, 0), colour(0x13));
	CHECK_EQ(pixel(s, 4, 1), colour(0x15));
	CHECK_EQ(pixel(s, 7, 1), colour(0x17));
	CHECK_EQ(pixel(s, 7, 2), colour(0));
	CHECK_EQ(pixel(s, 8, 2), colour(0x17));
	CHECK_EQ(pixel(s, 15, 3), colour(0x17));
	CHECK_EQ(pixel(s, 8, 4), colour(0));
}

static void vbe(struct bench *b, unsigned index, unsigned val)
{
	bus_write(b->w.pio, 0x1ce, 2, index);
	bus_write(b->w.pio, 0x1cf, 2, val);
}

static unsigned vbe_in(struct bench *b, unsigned index, unsigned port)
{
	uint64_t v;

	bus_write(b->w.pio, 0x1ce, 2, index);
	bus_read(b->w.pio, port, 2, &v);
	return v;
}

static void vbe_mode(struct bench *b, unsigned w, unsigned h, unsigned bpp)
{
	vbe(b, VBE_ENABLE, 0);
	vbe(b, VBE_XRES, w);
	vbe(b, VBE_YRES, h);
	vbe(b, VBE_BPP, bpp);
	vbe(b, VBE_ENABLE, VBE_ENABLED | VBE_LFB);
}

static void map_bars(struct bench *b)
{
	pci_bus_config_write(b->pci, PCI_DEVFN(2, 0), PCI_BASE_ADDRESS_0, 4, 0xe0000000);
	pci_bus_config_write(b->pci, PCI_DEVFN(2, 0), PCI_BASE_ADDRESS_0 + 8, 4, 0xe1000000);
	pci_bus_config_write(b->pci, PCI_DEVFN(2, 0), PCI_COMMAND, 2, 3);
	CHECK(mapped(b, 0xe0000000));
}

TEST(vbe_registers)
{
	struct bench b;
	uint64_t v;

	bench_new(&b);
	map_bars(&b);
	out(&b, 0x3c2, 0x67);
	CHECK_EQ(vbe_in(&b, VBE_ID, 0x1cf), 0xb0c5);
	CHECK_EQ(vbe_in(&b, VBE_ID, 0x1d0), 0xb0c5);
	CHECK_EQ(vbe_in(&b, VBE_MEMORY_64K, 0x1d0), 256);
	vbe(&b, VBE_ENABLE, VBE_GETCAPS);
	CHECK_EQ(vbe_in(&b, VBE_BPP, 0x1cf), 32);
	vbe_mode(&b, 1024, 768, 32);
	CHECK_EQ(vbe_in(&b, VBE_XRES, 0x1cf), 1024);
	CHECK_EQ(vbe_in(&b, VBE_VIRT_WIDTH, 0x1cf), 1024);
	CHECK_EQ(vbe_in(&b, VBE_VIRT_HEIGHT, 0x1cf), 4096);
	/* The same registers in BAR 2, where Linux's driver uses them. */
	bus_read(b.w.mmio, 0xe1000500 + 2 * VBE_YRES, 2, &v);
	CHECK_EQ(v, 768);
	bus_write(b.w.mmio, 0xe1000500 + 2 * VBE_Y_OFFSET, 2, 3);
	CHECK_EQ(vbe_in(&b, VBE_Y_OFFSET, 0x1d0), 3);
	bus_read(b.w.mmio, 0xe1000604, 4, &v);
	CHECK_EQ(v, 0x1e1e1e1e);
	bus_write(b.w.mmio, 0xe1000400 + 0x14, 1, 0x0f);	/* CRTC index */
	CHECK_EQ(b.v->crtc_index, 0x0f);
	/* Nonsense is made to fit into memory. */
	vbe_mode(&b, 0xffff, 0xffff, 7);
	CHECK(vbe_start(b.v) + (uint64_t)vbe_line_bytes(b.v) * b.v->vbe[VBE_YRES] <=
	      b.v->vram_size);
	vbe(&b, VBE_VIRT_WIDTH, 0xffff);
	vbe(&b, VBE_X_OFFSET, 0xffff);
	vbe(&b, VBE_Y_OFFSET, 0xffff);
	CHECK(vbe_start(b.v) + (uint64_t)vbe_line_bytes(b.v) * b.v->vbe[VBE_YRES] <=
	      b.v->vram_size);
	update(&b);
	vbe_mode(&b, 0, 0, 32);
	update(&b);
}

TEST(vbe_pictures)
{
	struct bench b;
	const struct surface *s;
	static const struct { unsigned bpp; uint32_t raw; uint32_t rgb;
	} depth[] = {
		{ 32, 0x00123456, 0x123456 }, { 24, 0x00123456, 0x123456 },
		{ 16, 0xf81f, 0xff00ff },     { 15, 0x03e0, 0x00ff00 },
		{ 16, 0x07e0, 0x00ff00 },
	};

	bench_new(&b);
	map_bars(&b);
	out(&b, 0x3c2, 0x67);
	for (unsigned i = 0; i < ARRAY_SIZE(depth); i++) {
		unsigned bytes = (depth[i].bpp + 7) / 8;

		vbe_mode(&b, 800, 600, depth[i].bpp);
		update(&b);
		poke(&b, 0xe0000000 + (800 * 17 + 23) * bytes, bytes, depth[i].raw);
		s = update(&b);
		CHECK_EQ(s->width, 800);
		CHECK_EQ(s->height, 600);
		CHECK_EQ(b.rects, 1);
		CHECK_EQ(b.last.x, 23);
		CHECK_EQ(b.last.y, 17);
		CHECK_EQ(b.last.w, 1);
		CHECK_EQ(b.last.h, 1);
		CHECK_EQ(pixel(s, 23, 17), depth[i].rgb);
	}
	/* Panning. */
	vbe_mode(&b, 640, 480, 32);
	poke(&b, 0xe0000000 + 640 * 480 * 4, 4, 0xabcdef);
	vbe(&b, VBE_Y_OFFSET, 480);
	s = update(&b);
	CHECK_EQ(pixel(s, 0, 0), 0xabcdef);
	/* Banks: 64 KiB of it in the window. */
	vbe(&b, VBE_BANK, 3);
	poke(&b, 0xa0000, 4, 0x112233);
	CHECK(mapped(&b, 0xa0000));
	CHECK_EQ(peek(&b, 0xe0030000, 4), 0x112233);
	vbe(&b, VBE_BANK, 4);
	poke(&b, 0xa0000, 4, 0x445566);
	CHECK_EQ(peek(&b, 0xe0040000, 4), 0x445566);
	/* Moving BAR 0 takes nothing away for good. */
	pci_bus_config_write(b.pci, PCI_DEVFN(2, 0), PCI_BASE_ADDRESS_0, 4, 0xd0000000);
	poke(&b, 0xa0004, 4, 0x778899);
	CHECK_EQ(peek(&b, 0xd0040004, 4), 0x778899);
}

TEST(ports_of_the_other_monitor_are_dead)
{
	struct bench b;

	bench_new(&b);
	set_mode(&b, &mode3);
	CHECK_EQ(in(&b, 0x3b5), 0xff);
	out(&b, 0x3c2, 0x66);
	CHECK_EQ(in(&b, 0x3d5), 0xff);
	CHECK(in(&b, 0x3b4) != 0xff);
}

TEST(protected_crtc_registers)
{
	struct bench b;

	bench_new(&b);
	set_mode(&b, &mode3);				/* sets bit 7 of register 0x11 */
	out_index(&b, 0x3d4, 1, 0x10);
	CHECK_EQ(b.v->crtc[1], 0x4f);
	out_index(&b, 0x3d4, 7, 0);
	CHECK_EQ(b.v->crtc[7], 0x0f);
	out(&b, 0x3d4, 0xff);
	out(&b, 0x3d5, 0xff);
	CHECK_EQ(in(&b, 0x3d5), 0);
}

TEST(save_and_load)
{
	struct bench a, b;
	struct state_out *o = state_out_new();
	struct err err = { "" };
	struct state_in *st;
	const struct surface *s;
	void *blob;
	size_t len;

	bench_new(&a);
	bench_new(&b);
	map_bars(&a);
	set_mode(&a, &mode3);
	poke(&a, 0xb8000, 2, 0x1441);
	load_font(&a);
	poke(&a, 0xb8000, 2, 0x1441);
	CHECK_EQ(device_save(a.dev, o), 0);
	CHECK_EQ(state_out_finish(o, &blob, &len), 0);
	/* The blocks travel as memory does. */
	memcpy(b.v->vram_host, a.v->vram_host, a.v->vram_size);
	memcpy(b.v->text_host, a.v->text_host, 2 * VGA_TEXT_CELLS);
	st = state_in_new(blob, len, &err);
	CHECK(st);
	if (device_load(b.dev, st) < 0)
		tap_fail(__FILE__, __LINE__, "%s", state_in_reason(st));
	CHECK_EQ(state_in_finish(st, &err), 0);
	CHECK(mapped(&b, 0xb8000));
	CHECK(mapped(&b, 0xe0000000));
	CHECK_EQ(peek(&b, 0xb8000, 2), 0x1441);
	s = update(&b);
	CHECK_EQ(pixel(s, 1, 3), colour(4));
}

TEST(reset_is_blank_again)
{
	struct bench b;
	const struct surface *s;

	bench_new(&b);
	set_mode(&b, &mode13);
	poke(&b, 0xa0000, 8, UINT64_MAX);
	update(&b);
	b.dev->ops->reset(b.dev);
	CHECK(!mapped(&b, 0xa0000));
	s = update(&b);
	CHECK_EQ(pixel(s, 0, 0), 0);
	b.v->display.ops->close(b.s);
	device_destroy(b.dev);
}

TEST(edid)
{
	char path[] = "/tmp/minivmm-edid-XXXXXX", cmd[256];
	uint8_t e[128], sum = 0;
	int fd;

	for (unsigned w = 640; w <= 2560; w += 64) {
		vga_edid(e, w, w * 3 / 4);
		sum = 0;
		for (unsigned i = 0; i < 128; i++)
			sum += e[i];
		CHECK_EQ(sum, 0);
	}
	if (system("command -v edid-decode >/dev/null") != 0)
		SKIP("edid-decode is not installed");
	vga_edid(e, 1024, 768);
	fd = mkstemp(path);
	CHECK(fd >= 0 && write_full(fd, e, 128) == 0 && close(fd) == 0);
	snprintf(cmd, sizeof(cmd),
		 "edid-decode --check %s >%s.log; grep -q 'EDID conformity: PASS' %s.log || "
		 "{ sed 's/^/# /' %s.log; false; }",
		 path, path, path, path);
	CHECK_EQ(system(cmd), 0);
	snprintf(cmd, sizeof(cmd), "rm -f %s %s.log", path, path);
	CHECK_EQ(system(cmd), 0);
}

TEST(screendump)
{
	struct bench b;
	struct err err = { "" };
	uint8_t head[24];
	int fd = memfd_create("png", 0);

	bench_new(&b);
	set_mode(&b, &mode13);
	CHECK_EQ(display_screendump(vga_display(b.dev), fd, &err), 0);
	CHECK_EQ(pread_full(fd, head, sizeof(head), 0), 0);
	CHECK(!memcmp(head, "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\2\x80\0\0\1\x90", 24));
	fd = open("/dev/full", O_WRONLY);
	CHECK_EQ(display_screendump(vga_display(b.dev), fd, &err), -ENOSPC);
	CHECK(strstr(err.msg, "picture"));
}

TAP_MAIN
