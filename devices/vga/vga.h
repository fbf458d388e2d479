/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vga.h: what the files of the VGA share; nobody else includes it. */
#ifndef DEVICES_VGA_VGA_H
#define DEVICES_VGA_VGA_H

#include "devices/pci/pci.h"
#include "vmm/backends/display.h"

/* --- registers, by the names of the IBM VGA's manuals --- */
enum { SEQ_RESET, SEQ_CLOCKING, SEQ_MAP_MASK, SEQ_CHAR_MAP, SEQ_MEMORY_MODE, SEQ_COUNT = 8 };
enum { GC_SET_RESET, GC_ENABLE_SET_RESET, GC_COLOR_COMPARE, GC_ROTATE, GC_READ_MAP, GC_MODE,
       GC_MISC, GC_DONT_CARE,
       GC_BIT_MASK, GC_COUNT = 16 };
enum { CRTC_HDISP = 0x01, CRTC_OVERFLOW = 0x07, CRTC_MAX_SCAN = 0x09, CRTC_CURSOR_START = 0x0a,
       CRTC_CURSOR_END = 0x0b,
       CRTC_START_HIGH = 0x0c, CRTC_START_LOW = 0x0d, CRTC_CURSOR_HIGH = 0x0e,
       CRTC_CURSOR_LOW = 0x0f, CRTC_VSYNC_END = 0x11,
       CRTC_VDISP = 0x12, CRTC_OFFSET = 0x13, CRTC_MODE = 0x17, CRTC_LINE_COMPARE = 0x18,
       CRTC_COUNT = 0x19 };
enum { ATTR_MODE = 0x10, ATTR_PLANE_ENABLE = 0x12, ATTR_COLOR_PAGE = 0x14, ATTR_COUNT = 0x15 };
enum { MSR_COLOR = 1 << 0, MSR_RAM_ENABLE = 1 << 1 };
enum { SEQ_MM_ODD_EVEN_OFF = 1 << 2, SEQ_MM_CHAIN4 = 1 << 3 };
enum { GC_MODE_ODD_EVEN = 1 << 4, GC_MISC_GRAPHICS = 1 << 0 };

/* Bochs VBE extensions ("dispi"). */
enum { VBE_ID, VBE_XRES, VBE_YRES, VBE_BPP, VBE_ENABLE, VBE_BANK, VBE_VIRT_WIDTH, VBE_VIRT_HEIGHT,
       VBE_X_OFFSET,
       VBE_Y_OFFSET, VBE_MEMORY_64K, VBE_COUNT };
enum { VBE_ENABLED = 1 << 0, VBE_GETCAPS = 1 << 1, VBE_8BIT_DAC = 1 << 5, VBE_LFB = 1 << 6,
       VBE_NOCLEAR = 1 << 7 };
#define VBE_MAX_XRES 4096
#define VBE_MAX_YRES 4096

#define VGA_TEXT_CELLS 0x4000		/* 32 KiB of character and attribute */

/* What the guest's window 0xa0000-0xbffff shows at the moment. */
enum vga_window {
	WINDOW_REGS,			/* every access comes to us */
	WINDOW_TEXT,			/* the text block: plain text needs no exit */
	/* VRAM itself, 64 KiB from the bank on: mode 13h and banked VBE */
	WINDOW_LINEAR,
};

struct vga {
	struct pci_dev pci;		/* first */
	struct mem *mem;
	struct bus *pio, *mmio;
	struct display display;
	struct block *vram, *text, *rom;
	uint8_t *vram_host;		/* planes interleaved: byte n of plane p at 4 * n + p */
	uint8_t *text_host;		/* cells, while window == WINDOW_TEXT */
	uint32_t vram_size;
	enum vga_window window;
	uint64_t window_gpa;
	uint32_t window_off;
	bool remap_pending, touched;
	bool used;			/* the first reset is behind: memory may hold something */
	uint32_t font_writes;		/* counts writes that may change a font */
	uint8_t edid[128];

	/* registers */
	uint8_t msr, fcr, st01;
	uint8_t seq_index, seq[SEQ_COUNT];
	uint8_t gc_index, gc[GC_COUNT];
	uint8_t crtc_index, crtc[CRTC_COUNT];
	uint8_t attr_index, attr_flip, attr[ATTR_COUNT];
	uint8_t dac_mask, dac_state, dac_read, dac_write, dac_sub, dac_latch[3], palette[768];
	uint32_t latch;
	uint16_t vbe_index, vbe[VBE_COUNT];
	uint8_t vbe_low;		/* first byte of a data word written in halves */
};

/* vga.c */
void vga_remap(struct vga *v);		/* after a register changed what the window shows */
/* after an access to the window that memory could have served */
void vga_touch(struct vga *v);
uint64_t vga_port_read(void *dev, uint64_t off, unsigned size);		/* off from 0x3c0 */
void vga_port_write(void *dev, uint64_t off, unsigned size, uint64_t val);

/* vga_mem.c: the window when it is not mapped */
extern const struct region_ops vga_window_ops;
void vga_text_to_planes(struct vga *v);
void vga_planes_to_text(struct vga *v);

/* vga_vbe.c */
extern const struct region_ops vga_dispi_ops, vga_bar_ops;
void vbe_set(struct vga *v, unsigned index, uint16_t val);
/* Bytes a line and where the picture starts; both inside VRAM whatever the guest wrote. */
uint32_t vbe_line_bytes(const struct vga *v);
uint32_t vbe_start(const struct vga *v);
void vga_edid(uint8_t edid[128], unsigned width, unsigned height);

/* vga_draw.c */
extern const struct display_ops vga_display_ops;

#endif
