/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vga_vbe.c: the Bochs VBE extensions (index port 0x1ce, data port 0x1cf or 0x1d0), BAR 2 that
 * shows EDID and all registers in memory, and the EDID itself.
 *
 * Facts: Bochs' vbe_display_api.txt; QEMU's docs/specs/standard-vga.rst; VESA Enhanced EDID 1.4.
 * Main loop.
 */
#include "devices/vga/vga.h"

#define VBE_ID5 0xb0c5

/* --- registers --- */
static unsigned vbe_bytes(const struct vga *v)
{
	return (v->vbe[VBE_BPP] + 7) / 8;
}

uint32_t vbe_line_bytes(const struct vga *v)
{
	return v->vbe[VBE_BPP] == 4 ? v->vbe[VBE_VIRT_WIDTH] / 2u
				    : v->vbe[VBE_VIRT_WIDTH] * vbe_bytes(v);
}

uint32_t vbe_start(const struct vga *v)
{
	uint32_t x = v->vbe[VBE_X_OFFSET], start = v->vbe[VBE_Y_OFFSET] * vbe_line_bytes(v);

	return v->vbe[VBE_BPP] == 4 ? start + x / 2 : start + x * vbe_bytes(v);
}

static bool bpp_ok(unsigned bpp)
{
	return bpp == 4 || bpp == 8 || bpp == 15 || bpp == 16 || bpp == 24 || bpp == 32;
}

/* Whatever was written: afterwards the picture lies inside VRAM. */
static void vbe_fix(struct vga *v)
{
	uint32_t line, lines;

	if (!bpp_ok(v->vbe[VBE_BPP]))
		v->vbe[VBE_BPP] = 8;
	v->vbe[VBE_XRES] = MIN(MAX(v->vbe[VBE_XRES] & ~7, 8), VBE_MAX_XRES);
	v->vbe[VBE_YRES] = MIN(MAX(v->vbe[VBE_YRES], 1), VBE_MAX_YRES);
	v->vbe[VBE_VIRT_WIDTH] = MAX(v->vbe[VBE_VIRT_WIDTH] & ~7, v->vbe[VBE_XRES]);
	line = vbe_line_bytes(v);
	if ((uint64_t)line * v->vbe[VBE_YRES] > v->vram_size) {
		v->vbe[VBE_VIRT_WIDTH] = v->vbe[VBE_XRES];
		line = vbe_line_bytes(v);
	}
	lines = v->vram_size / line;
	v->vbe[VBE_YRES] = MIN(v->vbe[VBE_YRES], lines);
	v->vbe[VBE_VIRT_HEIGHT] = MIN(lines, UINT16_MAX);
	if (v->vbe[VBE_X_OFFSET] + v->vbe[VBE_XRES] > v->vbe[VBE_VIRT_WIDTH])
		v->vbe[VBE_X_OFFSET] = 0;
	if (v->vbe[VBE_Y_OFFSET] + v->vbe[VBE_YRES] > lines)
		v->vbe[VBE_Y_OFFSET] = 0;
}

/* A VBE mode is a chained or planar graphics mode to the rest of the card. */
static void vbe_enable(struct vga *v, uint16_t val)
{
	bool on = val & VBE_ENABLED, was = v->vbe[VBE_ENABLE] & VBE_ENABLED;

	if (on && !was) {
		v->vbe[VBE_VIRT_WIDTH] = 0;
		v->vbe[VBE_X_OFFSET] = v->vbe[VBE_Y_OFFSET] = 0;
		v->vbe[VBE_ENABLE] = val;
		vbe_fix(v);
		if (!(val & VBE_NOCLEAR)) {
			uint64_t len = (uint64_t)v->vbe[VBE_YRES] * vbe_line_bytes(v);

			memset(v->vram_host, 0, len);
			block_mark_dirty(v->vram, 0, len);
		}
		v->gc[GC_MISC] = (v->gc[GC_MISC] & ~0x0c) | 0x04 | GC_MISC_GRAPHICS;
		v->crtc[CRTC_MODE] |= 3;
		v->crtc[CRTC_MAX_SCAN] &= ~0x9f;
		if (v->vbe[VBE_BPP] == 4) {
			v->seq[SEQ_MEMORY_MODE] &= ~SEQ_MM_CHAIN4;
			v->gc[GC_MODE] &= ~0x60;
		} else {
			v->seq[SEQ_MEMORY_MODE] |= SEQ_MM_CHAIN4;
			v->seq[SEQ_MAP_MASK] |= 0xf;
			v->gc[GC_MODE] = (v->gc[GC_MODE] & ~0x60) | 0x40;
		}
	} else if (!on) {
		v->vbe[VBE_BANK] = 0;
	}
	v->vbe[VBE_ENABLE] = val;
	vga_remap(v);
}

static uint16_t vbe_get(struct vga *v, unsigned index)
{
	bool caps = v->vbe[VBE_ENABLE] & VBE_GETCAPS;

	if (index == VBE_MEMORY_64K)
		return v->vram_size / (64 * KiB);
	if (index >= VBE_COUNT)
		return 0;
	if (caps && index == VBE_XRES)
		return VBE_MAX_XRES;
	if (caps && index == VBE_YRES)
		return VBE_MAX_YRES;
	if (caps && index == VBE_BPP)
		return 32;
	return v->vbe[index];
}

void vbe_set(struct vga *v, unsigned index, uint16_t val)
{
	switch (index) {
	case VBE_ID:
		/* Asks for an older interface: granted. */
		if (val >= 0xb0c0 && val <= VBE_ID5)
			v->vbe[VBE_ID] = val;
		break;
	case VBE_XRES:
	case VBE_YRES:
	case VBE_BPP:
		/* Written before the mode is enabled; vbe_fix then makes sense of them. */
		if (!(v->vbe[VBE_ENABLE] & VBE_ENABLED))
			v->vbe[index] = val;
		break;
	case VBE_VIRT_WIDTH:
	case VBE_X_OFFSET:
	case VBE_Y_OFFSET:
		v->vbe[index] = val;
		if (v->vbe[VBE_ENABLE] & VBE_ENABLED)
			vbe_fix(v);
		break;
	case VBE_BANK:
		/* Planar modes see all four planes behind 64 KiB. */
		val &= (v->vram_size / (64 * KiB)) - 1;
		v->vbe[VBE_BANK] = v->vbe[VBE_BPP] == 4 ? val & ((v->vram_size / (256 * KiB)) - 1)
							: val;
		vga_remap(v);
		break;
	case VBE_ENABLE:
		vbe_enable(v, val);
		break;
	}
}

/*
 * --- ports 0x1ce (index), 0x1cf and 0x1d0 (data) ---
 * 0x1cf is an odd address: the bus hands its words over in two bytes, low first.
 */
static uint64_t dispi_read(void *dev, uint64_t off, unsigned size)
{
	struct vga *v = dev;

	if (off == 0)
		return v->vbe_index;
	if (off == 2 && size == 2)
		return vbe_get(v, v->vbe_index);
	return off == 1 ? vbe_get(v, v->vbe_index) & 0xff : vbe_get(v, v->vbe_index) >> 8;
}

static void dispi_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct vga *v = dev;

	if (off == 0)
		v->vbe_index = val;
	else if (off == 2 && size == 2)
		vbe_set(v, v->vbe_index, val);
	else if (off == 1)
		v->vbe_low = val;
	else if (off == 2)
		vbe_set(v, v->vbe_index, v->vbe_low | val << 8);
}

static const char *dispi_reg_name(void *dev, uint64_t off, bool is_write)
{
	return off ? "VBE data" : "VBE index";
}

const struct region_ops vga_dispi_ops = {
	.name = "VGA VBE",
	.read = dispi_read,
	.write = dispi_write,
	.min_width = 1,
	.max_width = 2,
	.reg_name = dispi_reg_name,
};

/* --- BAR 2: EDID at 0, VGA ports at 0x400, VBE at 0x500, byte order at 0x600 --- */
enum { BAR_VGA = 0x400, BAR_VGA_END = 0x420, BAR_VBE = 0x500, BAR_VBE_END = 0x500 + 2 * VBE_COUNT,
       BAR_EXT = 0x600 };
#define EXT_SIZE 8
#define EXT_LITTLE_ENDIAN 0x1e1e1e1e

static uint64_t bar_read(void *dev, uint64_t off, unsigned size)
{
	struct vga *v = dev;
	uint64_t val = 0;

	if (off < sizeof(v->edid)) {
		memcpy(&val, v->edid + off, MIN(size, sizeof(v->edid) - off));
		return val;
	}
	if (off >= BAR_VGA && off < BAR_VGA_END)
		return size == 1 ? vga_port_read(v, off - BAR_VGA, 1)
				 : vga_port_read(v, off - BAR_VGA, 1) |
					   vga_port_read(v, off - BAR_VGA + 1, 1) << 8;
	if (off >= BAR_VBE && off < BAR_VBE_END)
		return vbe_get(v, (off - BAR_VBE) / 2) >> (off & 1) * 8;
	if (off >= BAR_EXT && off < BAR_EXT + 4)
		return EXT_SIZE >> (off & 3) * 8;
	if (off >= BAR_EXT + 4 && off < BAR_EXT + 8)
		return EXT_LITTLE_ENDIAN >> (off & 3) * 8;
	return 0;
}

static void bar_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct vga *v = dev;

	if (off >= BAR_VGA && off < BAR_VGA_END) {
		vga_port_write(v, off - BAR_VGA, 1, val & 0xff);
		if (size == 2)
			vga_port_write(v, off - BAR_VGA + 1, 1, val >> 8);
	} else if (off >= BAR_VBE && off < BAR_VBE_END && size == 2) {
		vbe_set(v, (off - BAR_VBE) / 2, val);
	}
}

static const char *bar_name(void *dev, uint64_t off, bool is_write)
{
	return off < BAR_VGA			     ? "EDID"
	       : off < BAR_VGA_END		     ? "VGA port"
	       : off >= BAR_VBE && off < BAR_VBE_END ? "VBE data"
	       : off >= BAR_EXT			     ? "extension"
						     : "nothing";
}

const struct region_ops vga_bar_ops = {
	.name = "VGA BAR 2",
	.read = bar_read,
	.write = bar_write,
	.min_width = 1,
	.max_width = 2,
	.reg_name = bar_name,
};

/* --- EDID --- */
static void edid_timing(uint8_t *d, unsigned w, unsigned h)
{
	/* Reduced blanking: 160 pixels, and lines enough for 460 us; 60 Hz. */
	unsigned hblank = 160, vblank = MAX(h * 28 / 1000 + 1, 20u),
		 clock = (w + hblank) * (h + vblank) / 1000 * 60 / 10;
	unsigned mm_w = w * 254 / 960, mm_h = h * 254 / 960;	/* 96 dots an inch */

	st_le16(d, MIN(clock, 0xffffu));
	d[2] = w;
	d[3] = hblank;
	d[4] = (w >> 8) << 4 | hblank >> 8;
	d[5] = h;
	d[6] = vblank;
	d[7] = (h >> 8) << 4 | vblank >> 8;
	d[8] = 48;			/* horizontal front porch, sync */
	d[9] = 32;
	d[10] = 3 << 4 | 6;		/* vertical */
	d[11] = 0;
	d[12] = mm_w;
	d[13] = mm_h;
	d[14] = (mm_w >> 8) << 4 | mm_h >> 8;
	d[15] = d[16] = 0;
	d[17] = 0x1a;			/* digital separate sync, positive horizontal */
}

static void edid_text(uint8_t *d, uint8_t tag, const char *s)
{
	size_t n = strlen(s);

	memset(d, 0, 5);
	d[3] = tag;
	memset(d + 5, ' ', 13);
	memcpy(d + 5, s, MIN(n, 13));
	if (n < 13)
		d[5 + n] = '\n';
}

void vga_edid(uint8_t e[128], unsigned width, unsigned height)
{
	/*
	 * Standard timings (3.9): 1600x1200, 1280x1024, 1280x720, 1024x768, 800x600, 640x480, at 60
	 * Hz.
	 */
	static const struct { uint16_t w; uint8_t aspect;
	} standard[8] = { { 1920, 3 }, { 1600, 1 }, { 1280, 2 }, { 1280, 3 },
			  { 1024, 1 }, { 800, 1 },  { 640, 1 },	 { 0, 0 } };
	unsigned i, sum = 0;

	memset(e, 0, 128);
	memset(e + 1, 0xff, 6);
	st_be16(e + 8, ('M' - '@') << 10 | ('V' - '@') << 5 | ('M' - '@'));
	st_le16(e + 10, 1);		/* product code */
	e[17] = 2026 - 1990;		/* year of the model; belongs to the machine version */
	e[16] = 0xff;
	e[18] = 1;
	e[19] = 4;
	e[20] = 0xa0;			/* digital, 8 bits a colour */
	e[21] = width * 254 / 9600;	/* centimetres */
	e[22] = height * 254 / 9600;
	e[23] = 120;			/* gamma 2.2 */
	e[24] = 0x06;			/* sRGB, preferred timing is native */
	memcpy(e + 25, "\xee\x91\xa3\x54\x4c\x99\x26\x0f\x50\x54", 10);	/* the primaries of sRGB */
	e[35] = 0x21;			/* 640x480, 800x600 at 60 Hz */
	e[36] = 0x08;			/* 1024x768 at 60 Hz */
	for (i = 0; i < 8; i++) {
		e[38 + 2 * i] = standard[i].w ? standard[i].w / 8 - 31 : 1;
		e[39 + 2 * i] = standard[i].w ? standard[i].aspect << 6 : 1;
	}
	edid_timing(e + 54, width, height);
	edid_text(e + 72, 0xfc, "minivmm");
	/* Range limits (3.10.3.3.1): 50-125 Hz, 30-160 kHz, 2550 MHz at most. */
	memcpy(e + 90, "\0\0\0\xfd\0\x32\x7d\x1e\xa0\xff\1\n      ", 18);
	memcpy(e + 108, "\0\0\0\x10", 4);	/* dummy */
	for (i = 0; i < 127; i++)
		sum += e[i];
	e[127] = -sum;
}
