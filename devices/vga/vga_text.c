/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vga_text.c: the text mode a kernel finds when a firmware has run before it. With -kernel none
 * does, so the card is put into mode 3 here: registers as the IBM VGA's video BIOS sets them, the
 * font out of our video BIOS' ROM.
 *
 * IBM VGA technical reference, mode tables; EGA colours: two bits each of red, green and blue in
 * the order rgbRGB.
 */
#include "devices/vga/vga.h"

#define FONT_HEIGHT 16
#define FONT_SIZE (256 * FONT_HEIGHT)

static const uint8_t mode3_seq[5] = { 3, 0, 3, 0, 2 };
static const uint8_t mode3_crtc[CRTC_COUNT] = {
	0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0x00,
	0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff,
};
static const uint8_t mode3_attr[ATTR_COUNT] = {
	0,    1,    2,	  3,	4,    5,    0x14, 7,	0x38, 0x39, 0x3a,
	0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x0c, 0,	  0x0f, 8,    0,
};
static const uint8_t mode3_gc[9] = { 0, 0, 0, 0, 0, 0x10, 0x0e, 0x0f, 0xff };

static bool all(const uint8_t *glyph, uint8_t byte)
{
	for (unsigned i = 0; i < FONT_HEIGHT; i++)
		if (glyph[i] != byte)
			return false;
	return true;
}

/*
 * An 8x16 font of code page 437 gives itself away: empty 0x00 and 0x20, a full block at 0xdb, a
 * vertical line at 0xb3.
 */
static const uint8_t *font_find(const uint8_t *rom, uint64_t size)
{
	for (uint64_t at = 0; at + FONT_SIZE <= size; at++) {
		const uint8_t *f = rom + at;

		if (all(f + 0xdb * FONT_HEIGHT, 0xff) && all(f + 0xb3 * FONT_HEIGHT, 0x18) &&
		    all(f, 0) && all(f + 0x20 * FONT_HEIGHT, 0))
			return f;
	}
	return NULL;
}

bool vga_text_mode(struct device *d)
{
	struct vga *v = container_of(d, struct vga, pci.dev);
	const uint8_t *font = v->rom ? font_find(block_host(v->rom), block_size(v->rom)) : NULL;
	unsigned i, row;

	if (!font)
		return false;
	v->msr = 0x67;
	memcpy(v->seq, mode3_seq, sizeof(mode3_seq));
	memcpy(v->crtc, mode3_crtc, sizeof(mode3_crtc));
	memcpy(v->attr, mode3_attr, sizeof(mode3_attr));
	memcpy(v->gc, mode3_gc, sizeof(mode3_gc));
	v->attr_index = 0x20;
	for (i = 0; i < 64; i++) {
		v->palette[3 * i] = (i >> 2 & 1) * 42 + (i >> 5 & 1) * 21;
		v->palette[3 * i + 1] = (i >> 1 & 1) * 42 + (i >> 4 & 1) * 21;
		v->palette[3 * i + 2] = (i & 1) * 42 + (i >> 3 & 1) * 21;
	}
	for (i = 0; i < 256; i++)
		for (row = 0; row < FONT_HEIGHT; row++)
			v->vram_host[4 * (32 * i + row) + 2] = font[FONT_HEIGHT * i + row];
	for (i = 0; i < VGA_TEXT_CELLS; i++) {
		v->vram_host[4 * i] = ' ';
		v->vram_host[4 * i + 1] = 0x07;
	}
	block_mark_dirty(v->vram, 0, 4 * VGA_TEXT_CELLS);
	v->font_writes++;
	vga_remap(v);
	return true;
}
