/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vga_mem.c: the window 0xa0000-0xbffff when every access counts: planar modes with latches,
 * rotation and masks, odd/even addressing, chain 4. Plain text and chained modes do not come here:
 * vga.c maps memory there instead.
 *
 * IBM VGA technical reference, graphics controller; Intel OpenSource HD Graphics PRM volume 3 (VGA
 * registers), 3.3-3.4. Main loop's lock.
 */
#include "devices/vga/vga.h"

/* Bit n of a nibble as byte n: which planes a mask names. */
static const uint32_t plane_mask[16] = {
	0x00000000, 0x000000ff, 0x0000ff00, 0x0000ffff, 0x00ff0000, 0x00ff00ff,
	0x00ffff00, 0x00ffffff, 0xff000000, 0xff0000ff, 0xff00ff00, 0xff00ffff,
	0xffff0000, 0xffff00ff, 0xffffff00, 0xffffffff,
};

/* Offset in the window to a position in the mapped part, or -1 outside it (GC_MISC, memory map). */
static int64_t window_offset(const struct vga *v, uint64_t off)
{
	uint32_t bank = v->vbe[VBE_ENABLE] & VBE_ENABLED ? v->vbe[VBE_BANK] * 64 * KiB : 0;

	if (!(v->msr & MSR_RAM_ENABLE))
		return -1;
	switch (v->gc[GC_MISC] >> 2 & 3) {
	case 0:
		return off;
	case 1:
		return off < 0x10000 ? (int64_t)(off + bank) : -1;
	case 2:
		return off >= 0x10000 && off < 0x18000 ? (int64_t)off - 0x10000 : -1;
	default:
		return off >= 0x18000 ? (int64_t)off - 0x18000 : -1;
	}
}

static uint8_t *plane_byte(struct vga *v, uint32_t pos)
{
	return v->vram_host + (pos & (v->vram_size - 1));
}

static uint8_t read_byte(struct vga *v, uint64_t off)
{
	int64_t at = window_offset(v, off);
	uint32_t planes;

	if (at < 0)
		return 0xff;
	if (v->seq[SEQ_MEMORY_MODE] & SEQ_MM_CHAIN4)
		return *plane_byte(v, at);
	if (v->gc[GC_MODE] & GC_MODE_ODD_EVEN)
		return *plane_byte(v,
				   (uint32_t)(at >> 1) * 4 + ((v->gc[GC_READ_MAP] & 2) | (at & 1)));
	memcpy(&v->latch, plane_byte(v, (uint32_t)at * 4), 4);
	planes = le32toh(v->latch);
	if (!(v->gc[GC_MODE] & 8))
		return planes >> 8 * (v->gc[GC_READ_MAP] & 3);
	/* Read mode 1: a one for each pixel whose colour matches in the planes that count. */
	planes = (planes ^ plane_mask[v->gc[GC_COLOR_COMPARE] & 0xf]) &
		 plane_mask[v->gc[GC_DONT_CARE] & 0xf];
	planes |= planes >> 16;
	planes |= planes >> 8;
	return ~planes;
}

static uint32_t rotate(const struct vga *v, uint8_t val)
{
	unsigned n = v->gc[GC_ROTATE] & 7;

	return (uint8_t)(val >> n | val << (8 - n)) * 0x01010101u;
}

/*
 * The bytes for the four planes by the write mode, or false when write mode 1 copies the latches as
 * they are.
 */
static uint32_t planar_value(const struct vga *v, uint8_t val, uint32_t latch)
{
	uint32_t bit_mask = v->gc[GC_BIT_MASK] * 0x01010101u, set, data;

	switch (v->gc[GC_MODE] & 3) {
	case 0:
		set = plane_mask[v->gc[GC_ENABLE_SET_RESET] & 0xf];
		data = (rotate(v, val) & ~set) | (plane_mask[v->gc[GC_SET_RESET] & 0xf] & set);
		break;
	case 1:
		return latch;
	case 2:
		data = plane_mask[val & 0xf];
		break;
	default:
		bit_mask &= rotate(v, val);
		return (plane_mask[v->gc[GC_SET_RESET] & 0xf] & bit_mask) | (latch & ~bit_mask);
	}
	switch (v->gc[GC_ROTATE] >> 3 & 3) {
	case 1:
		data &= latch;
		break;
	case 2:
		data |= latch;
		break;
	case 3:
		data ^= latch;
		break;
	}
	return (data & bit_mask) | (latch & ~bit_mask);
}

static void write_byte(struct vga *v, uint64_t off, uint8_t val)
{
	int64_t at = window_offset(v, off);
	uint32_t pos, mask, old, data;
	unsigned plane;

	if (at < 0)
		return;
	if ((v->seq[SEQ_MEMORY_MODE] & SEQ_MM_CHAIN4) || (v->gc[GC_MODE] & GC_MODE_ODD_EVEN)) {
		bool chain4 = v->seq[SEQ_MEMORY_MODE] & SEQ_MM_CHAIN4;

		plane = chain4 ? at & 3 : at & 1;
		if (!(v->seq[SEQ_MAP_MASK] >> plane & 1))
			return;
		pos = chain4 ? (uint32_t)at : (uint32_t)(at >> 1) * 4 + plane;
		*plane_byte(v, pos) = val;
		block_mark_dirty(v->vram, pos & (v->vram_size - 1), 1);
		return;
	}
	pos = (uint32_t)at * 4 & (v->vram_size - 1);
	mask = plane_mask[v->seq[SEQ_MAP_MASK] & 0xf];
	data = planar_value(v, val, le32toh(v->latch));
	old = ld_le32(v->vram_host + pos);
	st_le32(v->vram_host + pos, (old & ~mask) | (data & mask));
	v->font_writes += v->seq[SEQ_MAP_MASK] >> 2 & 1;
	block_mark_dirty(v->vram, pos, 4);
}

static uint64_t window_read(void *dev, uint64_t off, unsigned size)
{
	uint64_t val = 0;
	unsigned i;

	for (i = 0; i < size; i++)
		val |= (uint64_t)read_byte(dev, off + i) << i * 8;
	vga_touch(dev);
	return val;
}

static void window_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	unsigned i;

	for (i = 0; i < size; i++)
		write_byte(dev, off + i, val >> i * 8);
	vga_touch(dev);
}

static const char *window_name(void *dev, uint64_t off, bool is_write)
{
	return "window";
}

const struct region_ops vga_window_ops = {
	.name = "VGA", .read = window_read, .write = window_write, .min_width = 1, .max_width = 8,
	.reg_name = window_name,
};

/* --- text between planes 0 and 1 and the block that is mapped while text is plain --- */
void vga_planes_to_text(struct vga *v)
{
	unsigned i;

	for (i = 0; i < VGA_TEXT_CELLS; i++)
		memcpy(v->text_host + 2 * i, v->vram_host + 4 * i, 2);
	block_mark_dirty(v->text, 0, 2 * VGA_TEXT_CELLS);
}

void vga_text_to_planes(struct vga *v)
{
	unsigned i;

	for (i = 0; i < VGA_TEXT_CELLS; i++)
		memcpy(v->vram_host + 4 * i, v->text_host + 2 * i, 2);
	block_mark_dirty(v->vram, 0, 4 * VGA_TEXT_CELLS);
}
