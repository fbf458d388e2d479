/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vga.c: the standard VGA, PCI 1234:1111: registers at ports 0x3b0-0x3df, VRAM in BAR 0, registers
 * in BAR 2, the video BIOS in the ROM BAR, and the window at 0xa0000.
 *
 * The window is memory whenever memory can stand for it: in plain text modes a block of characters
 * and attributes, in chained modes VRAM itself. Then a guest that writes to the screen causes no
 * exit. The other modes are vga_mem.c's.
 *
 * IBM VGA technical reference (registers), QEMU's docs/specs/standard-vga.rst (PCI). Main loop's
 * lock.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "devices/chips.h"
#include "devices/vga/vga.h"
#include "vmm/base/log.h"

#define VGA_PORTS 0x3b0			/* to 0x3df */
#define VGA_PORTS_LEN 0x30
#define VBE_PORTS 0x1ce
#define VGA_WINDOW 0xa0000
#define VGA_WINDOW_LEN 0x20000
#define MEM_PRIO_VGA (MEM_PRIO_ROM + 1)
#define ST01_RETRACE 0x08
#define ST01_DISABLED 0x01

/* Bits that exist. */
static const uint8_t seq_mask[SEQ_COUNT] = { 0x03, 0x3d, 0x0f, 0x3f, 0x0e };
static const uint8_t gc_mask[GC_COUNT] = { 0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff };

/* --- the window --- */
static bool text_is_plain(const struct vga *v)
{
	return !(v->vbe[VBE_ENABLE] & VBE_ENABLED) && !(v->gc[GC_MISC] & GC_MISC_GRAPHICS) &&
	       (v->gc[GC_MISC] >> 2 & 2) &&
	       !(v->seq[SEQ_MEMORY_MODE] & (SEQ_MM_CHAIN4 | SEQ_MM_ODD_EVEN_OFF)) &&
	       (v->seq[SEQ_MAP_MASK] & 3) == 3 &&
	       (v->gc[GC_MODE] & (GC_MODE_ODD_EVEN | 0xb)) == GC_MODE_ODD_EVEN &&
	       !(v->gc[GC_READ_MAP] & 2);
}

static bool chain_is_plain(const struct vga *v)
{
	return (v->gc[GC_MISC] >> 2 & 3) == 1 && (v->seq[SEQ_MEMORY_MODE] & SEQ_MM_CHAIN4) &&
	       (v->seq[SEQ_MAP_MASK] & 0xf) == 0xf;
}

static enum vga_window window_wanted(const struct vga *v, uint64_t *gpa, uint32_t *off)
{
	*gpa = VGA_WINDOW;
	*off = 0;
	if (!(v->msr & MSR_RAM_ENABLE))
		return WINDOW_REGS;
	if (text_is_plain(v)) {
		*gpa = v->gc[GC_MISC] & 4 ? 0xb8000 : 0xb0000;
		return WINDOW_TEXT;
	}
	if (chain_is_plain(v)) {
		if (v->vbe[VBE_ENABLE] & VBE_ENABLED)
			*off = v->vbe[VBE_BANK] * 64 * KiB;
		return WINDOW_LINEAR;
	}
	return WINDOW_REGS;
}

static void window_switch(void *ctx)
{
	struct vga *v = ctx;
	enum vga_window want;
	uint32_t off;
	uint64_t gpa;
	int ret = 0;

	v->remap_pending = false;
	want = window_wanted(v, &gpa, &off);
	if (want != v->window && !v->touched)
		want = WINDOW_REGS;
	v->touched = false;
	if (want == v->window && gpa == v->window_gpa && off == v->window_off)
		return;
	if (v->window == WINDOW_TEXT && want != WINDOW_TEXT)
		vga_text_to_planes(v);
	if (v->window == WINDOW_TEXT)
		block_unmap(v->text);
	else if (v->window == WINDOW_LINEAR)
		block_unmap_piece(v->vram, v->window_gpa, 64 * KiB);
	if (want == WINDOW_TEXT) {
		if (v->window != WINDOW_TEXT)
			vga_planes_to_text(v);
		ret = block_map(v->text, gpa, 0, 2 * VGA_TEXT_CELLS, MEM_PRIO_VGA);
	} else if (want == WINDOW_LINEAR) {
		ret = block_map(v->vram, gpa, off, 64 * KiB, MEM_PRIO_VGA);
	}
	if (ret < 0) {
		/* The slow way always works. */
		log_warn("%s: its window cannot be mapped: %s", v->pci.dev.id, strerror(-ret));
		if (want == WINDOW_TEXT)
			vga_text_to_planes(v);
		want = WINDOW_REGS;
	}
	v->window = want;
	v->window_gpa = gpa;
	v->window_off = off;
}

/*
 * What is mapped goes at once when it no longer holds; the guest has not gone on by then. Memory
 * appears with the first access only (vga_touch): setting a mode writes many registers, and each
 * change of the map stops all processors.
 */
void vga_remap(struct vga *v)
{
	enum vga_window want;
	uint32_t off;
	uint64_t gpa;

	want = window_wanted(v, &gpa, &off);
	if (v->remap_pending || v->window == WINDOW_REGS ||
	    (want == v->window && gpa == v->window_gpa && off == v->window_off))
		return;
	v->remap_pending = true;
	pci_exclusive(v->pci.bus, window_switch, v);
}

void vga_touch(struct vga *v)
{
	uint32_t off;
	uint64_t gpa;

	if (v->remap_pending || v->window != WINDOW_REGS ||
	    window_wanted(v, &gpa, &off) == WINDOW_REGS)
		return;
	v->touched = v->remap_pending = true;
	pci_exclusive(v->pci.bus, window_switch, v);
}

/* BAR 0 moved: taking it away took the window's piece of VRAM with it. */
static void vram_moved(void *ctx, bool mapped, uint64_t addr)
{
	struct vga *v = ctx;

	if (!mapped && v->window == WINDOW_LINEAR) {
		block_unmap_piece(v->vram, v->window_gpa, 64 * KiB);
		v->window = WINDOW_REGS;
	}
}

/* --- ports; off counts from 0x3c0, the CRTC's from 0x3d4 - 0x3c0 --- */
static uint8_t dac_read(struct vga *v)
{
	unsigned n = v->dac_read * 3 + v->dac_sub;
	uint8_t val = v->palette[n];

	if (++v->dac_sub == 3) {
		v->dac_sub = 0;
		v->dac_read++;
	}
	return val;
}

static void dac_write(struct vga *v, uint8_t val)
{
	v->dac_latch[v->dac_sub] = v->vbe[VBE_ENABLE] & VBE_8BIT_DAC ? val : val & 0x3f;
	if (++v->dac_sub < 3)
		return;
	memcpy(v->palette + v->dac_write * 3, v->dac_latch, 3);
	v->dac_sub = 0;
	v->dac_write++;
}

static void attr_write(struct vga *v, uint8_t val)
{
	v->attr_flip ^= 1;
	if (v->attr_flip) {
		v->attr_index = val & 0x3f;
		return;
	}
	switch (v->attr_index & 0x1f) {
	case 0x00 ... 0x0f:
		v->attr[v->attr_index & 0xf] = val & 0x3f;
		break;
	case ATTR_MODE:
		v->attr[ATTR_MODE] = val & ~0x10;
		break;
	case 0x11:
		v->attr[0x11] = val;
		break;
	case ATTR_PLANE_ENABLE:
		v->attr[ATTR_PLANE_ENABLE] = val & ~0xc0;
		break;
	case 0x13:
	case ATTR_COLOR_PAGE:
		v->attr[v->attr_index & 0x1f] = val & 0x0f;
		break;
	}
}

static void crtc_write(struct vga *v, uint8_t val)
{
	unsigned n = v->crtc_index;

	if (n >= CRTC_COUNT)
		return;
	if ((v->crtc[CRTC_VSYNC_END] & 0x80) && n <= CRTC_OVERFLOW) {
		/* Protected; but for the line compare's bit. */
		if (n == CRTC_OVERFLOW)
			v->crtc[n] = (v->crtc[n] & ~0x10) | (val & 0x10);
		return;
	}
	v->crtc[n] = val;
}

/* The CRTC and status 1 answer at 0x3b0-0x3bf or at 0x3d0-0x3df, never at both. */
static bool port_is_dead(const struct vga *v, unsigned port)
{
	return (port >= 0x3b0 && port <= 0x3bf && (v->msr & MSR_COLOR)) ||
	       (port >= 0x3d0 && port <= 0x3df && !(v->msr & MSR_COLOR));
}

static uint8_t port_get(struct vga *v, unsigned port)
{
	if (port_is_dead(v, port))
		return 0xff;
	switch (port) {
	case 0x3c0:
		return v->attr_flip ? 0 : v->attr_index;
	case 0x3c1:
		return (v->attr_index & 0x1f) < ATTR_COUNT ? v->attr[v->attr_index & 0x1f] : 0;
	case 0x3c2:
		return 0;
	case 0x3c4:
		return v->seq_index;
	case 0x3c5:
		return v->seq[v->seq_index];
	case 0x3c6:
		return v->dac_mask;
	case 0x3c7:
		return v->dac_state;
	case 0x3c8:
		return v->dac_write;
	case 0x3c9:
		return dac_read(v);
	case 0x3ca:
		return v->fcr;
	case 0x3cc:
		return v->msr;
	case 0x3ce:
		return v->gc_index;
	case 0x3cf:
		return v->gc[v->gc_index];
	case 0x3b4:
	case 0x3d4:
		return v->crtc_index;
	case 0x3b5:
	case 0x3d5:
		return v->crtc_index < CRTC_COUNT ? v->crtc[v->crtc_index] : 0;
	case 0x3ba:
	case 0x3da:
		/* Whoever waits for the retrace to begin or to end sees it with the next look. */
		v->attr_flip = 0;
		v->st01 ^= ST01_RETRACE | ST01_DISABLED;
		return v->st01;
	}
	return 0xff;
}

static void port_set(struct vga *v, unsigned port, uint8_t val)
{
	if (port_is_dead(v, port))
		return;
	switch (port) {
	case 0x3c0:
		attr_write(v, val);
		break;
	case 0x3c2:
		v->msr = val & ~0x10;
		vga_remap(v);
		break;
	case 0x3c4:
		v->seq_index = val & 7;
		break;
	case 0x3c5:
		v->seq[v->seq_index] = val & seq_mask[v->seq_index];
		vga_remap(v);
		break;
	case 0x3c6:
		v->dac_mask = val;
		break;
	case 0x3c7:
		v->dac_read = val;
		v->dac_sub = 0;
		v->dac_state = 3;
		break;
	case 0x3c8:
		v->dac_write = val;
		v->dac_sub = 0;
		v->dac_state = 0;
		break;
	case 0x3c9:
		dac_write(v, val);
		break;
	case 0x3ce:
		v->gc_index = val & 0xf;
		break;
	case 0x3cf:
		v->gc[v->gc_index] = val & gc_mask[v->gc_index];
		vga_remap(v);
		break;
	case 0x3b4:
	case 0x3d4:
		v->crtc_index = val;
		break;
	case 0x3b5:
	case 0x3d5:
		crtc_write(v, val);
		break;
	case 0x3ba:
	case 0x3da:
		v->fcr = val & 0x10;
		break;
	}
}

uint64_t vga_port_read(void *dev, uint64_t off, unsigned size)
{
	return port_get(dev, 0x3c0 + off);
}

void vga_port_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	port_set(dev, 0x3c0 + off, val);
}

static uint64_t ports_read(void *dev, uint64_t off, unsigned size)
{
	return port_get(dev, VGA_PORTS + off);
}

static void ports_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	port_set(dev, VGA_PORTS + off, val);
}

static const char *ports_reg_name(void *dev, uint64_t off, bool is_write)
{
	switch (VGA_PORTS + off) {
	case 0x3c0:
	case 0x3c1:
		return "attribute";
	case 0x3c2:
	case 0x3cc:
		return "misc output";
	case 0x3c4:
	case 0x3c5:
		return "sequencer";
	case 0x3c6 ... 0x3c9:
		return "DAC";
	case 0x3ce:
	case 0x3cf:
		return "graphics";
	case 0x3b4:
	case 0x3b5:
	case 0x3d4:
	case 0x3d5:
		return "CRTC";
	case 0x3ba:
	case 0x3da:
		return is_write ? "feature control" : "status 1";
	}
	return NULL;
}

static const struct region_ops vga_ports_ops = {
	.name = "VGA",
	.read = ports_read,
	.write = ports_write,
	.min_width = 1,
	.max_width = 1,
	.reg_name = ports_reg_name,
};

/* --- device --- */
static void registers_reset(struct vga *v)
{
	memset(v->seq, 0, sizeof(v->seq));
	memset(v->gc, 0, sizeof(v->gc));
	memset(v->crtc, 0, sizeof(v->crtc));
	memset(v->attr, 0, sizeof(v->attr));
	memset(v->palette, 0, sizeof(v->palette));
	memset(v->vbe, 0, sizeof(v->vbe));
	v->vbe[VBE_ID] = 0xb0c5;
	v->seq_index = v->gc_index = v->crtc_index = v->attr_index = v->attr_flip = 0;
	v->dac_state = v->dac_read = v->dac_write = v->dac_sub = 0;
	v->msr = v->fcr = v->st01 = v->vbe_low = 0;
	v->vbe_index = 0;
	v->dac_mask = 0xff;
	v->latch = 0;
}

/* Only pages that hold something: writing zeros to all of them would cost the host 16 MiB. */
static void vram_clear(struct vga *v)
{
	static const uint8_t zeros[4096];

	for (uint32_t off = 0; v->used && off < v->vram_size; off += sizeof(zeros))
		if (memcmp(v->vram_host + off, zeros, sizeof(zeros)))
			memset(v->vram_host + off, 0, sizeof(zeros));
	v->used = true;
}

static void vga_reset(struct device *d)
{
	struct vga *v = container_of(d, struct vga, pci.dev);

	pci_dev_reset(&v->pci);
	registers_reset(v);
	vga_remap(v);
	vram_clear(v);
	memset(v->text_host, 0, 2 * VGA_TEXT_CELLS);
	block_mark_dirty(v->vram, 0, v->vram_size);
	block_mark_dirty(v->text, 0, 2 * VGA_TEXT_CELLS);
	v->font_writes++;
}

#define F(t, m) STATE_FIELD(struct vga, STATE_##t, m)
static const struct state_field vga_fields[] = {
	F(U8, msr),	   F(U8, fcr),		F(U8, st01),	   F(U8, seq_index),
	F(BYTES, seq),	   F(U8, gc_index),	F(BYTES, gc),	   F(U8, crtc_index),
	F(BYTES, crtc),	   F(U8, attr_index),	F(U8, attr_flip),  F(BYTES, attr),
	F(U8, dac_mask),   F(U8, dac_state),	F(U8, dac_read),   F(U8, dac_write),
	F(U8, dac_sub),	   F(BYTES, dac_latch), F(BYTES, palette), F(U32, latch),
	F(U16, vbe_index), F(U8, vbe_low),
};
#undef F

static int vga_save(struct device *d, struct state_out *o)
{
	struct vga *v = container_of(d, struct vga, pci.dev);
	char prop[8];

	state_save_fields(o, v, vga_fields, ARRAY_SIZE(vga_fields));
	for (unsigned i = 0; i < VBE_COUNT; i++) {
		snprintf(prop, sizeof(prop), "vbe%x", i);
		state_u16(o, prop, v->vbe[i]);
	}
	state_u8(o, "text-in-block", v->window == WINDOW_TEXT);
	return pci_dev_save(&v->pci, o);
}

static int vga_load(struct device *d, struct state_in *in, uint32_t version)
{
	struct vga *v = container_of(d, struct vga, pci.dev);
	uint16_t enable;
	uint8_t in_text;
	char prop[8];
	int ret;

	ret = state_load_fields(in, v, vga_fields, ARRAY_SIZE(vga_fields));
	for (unsigned i = 0; i < VBE_COUNT; i++) {
		snprintf(prop, sizeof(prop), "vbe%x", i);
		state_get_u16(in, prop, &v->vbe[i]);
	}
	state_get_u8(in, "text-in-block", &in_text);
	if (ret < 0 || state_in_error(in))
		return -EINVAL;
	/* Indices the guest could not have written. */
	if (v->seq_index >= SEQ_COUNT || v->gc_index >= GC_COUNT || v->dac_sub > 2 ||
	    v->attr_flip > 1)
		return state_bad(in, "VGA: an index register holds an impossible value");
	enable = v->vbe[VBE_ENABLE];
	if (enable & VBE_ENABLED)
		/* makes the geometry fit into VRAM */
		vbe_set(v, VBE_VIRT_WIDTH, v->vbe[VBE_VIRT_WIDTH]);
	vbe_set(v, VBE_BANK, v->vbe[VBE_BANK]);
	ret = pci_dev_load(&v->pci, in);
	if (ret < 0)
		return ret;
	/*
	 * Blocks are loaded apart: whichever holds the text is right already, so the window is set
	 * without copying.
	 */
	if (v->window == WINDOW_TEXT)
		block_unmap(v->text);
	else if (v->window == WINDOW_LINEAR)
		block_unmap_piece(v->vram, v->window_gpa, 64 * KiB);
	v->window = WINDOW_REGS;
	if (!in_text)
		goto out;
	if (window_wanted(v, &v->window_gpa, &v->window_off) != WINDOW_TEXT)
		return state_bad(in, "VGA: its text window does not fit its registers");
	ret = block_map(v->text, v->window_gpa, 0, 2 * VGA_TEXT_CELLS, MEM_PRIO_VGA);
	v->window = ret ? WINDOW_REGS : WINDOW_TEXT;
out:
	v->font_writes++;
	return ret;
}

static void vga_destroy(struct device *d)
{
	struct vga *v = container_of(d, struct vga, pci.dev);

	bus_del(v->pio, VGA_PORTS, &vga_ports_ops, v);
	bus_del(v->pio, VBE_PORTS, &vga_dispi_ops, v);
	bus_del(v->mmio, VGA_WINDOW, &vga_window_ops, v);
	pci_dev_exit(&v->pci);
	block_free(v->vram);
	block_free(v->text);
	if (v->rom)
		block_free(v->rom);
	free(v);
}

static const struct device_ops vga_device_ops = {
	.name = "VGA",
	.version = 1,
	.reset = vga_reset,
	.save = vga_save,
	.load = vga_load,
	.destroy = vga_destroy,
};

/* The video BIOS, in a block of a power of two. */
static int rom_load(struct vga *v, int fd, struct err *err)
{
	uint64_t size;
	struct stat st;
	int ret;

	if (fstat(fd, &st) < 0)
		return err_set(err, errno, "video BIOS: %s", strerror(errno));
	if (st.st_size < 512 || st.st_size > 256 * (off_t)KiB)
		return err_set(err, EINVAL, "video BIOS: %lld bytes are no option ROM",
			       (long long)st.st_size);
	for (size = 4 * KiB; size < (uint64_t)st.st_size; size *= 2)
		;
	v->rom = block_new(v->mem, "vga-rom", size, BLOCK_ROM, err);
	if (!v->rom)
		return -ENOMEM;
	ret = pread_full(fd, block_host(v->rom), st.st_size, 0);
	if (ret < 0)
		return err_set(err, -ret, "video BIOS: %s", strerror(-ret));
	if (ld_le16(block_host(v->rom)) != 0xaa55)
		return err_set(err, ENOEXEC,
			       "video BIOS: it does not begin with 55 aa, so it is no option ROM");
	return 0;
}

static int vga_blocks(struct vga *v, const struct vga_opts *o, struct err *err)
{
	v->vram_size = (o->vram_mib ? o->vram_mib : 16) * MiB;
	if (!IS_POWER_OF_2(v->vram_size) || v->vram_size > 256 * MiB)
		return err_set(err, EINVAL,
			       "VGA: %u MiB of video memory; it must be a power of two up to 256",
			       o->vram_mib);
	v->vram = block_new(v->mem, "vram", v->vram_size, 0, err);
	v->text = v->vram ? block_new(v->mem, "vga-text", 2 * VGA_TEXT_CELLS, 0, err) : NULL;
	if (!v->text)
		return -ENOMEM;
	v->vram_host = block_host(v->vram);
	v->text_host = block_host(v->text);
	return o->rom_fd >= 0 ? rom_load(v, o->rom_fd, err) : 0;
}

static int vga_plug(struct vga *v, struct err *err)
{
	struct loop *loop = v->pci.dev.loop;
	int ret;

	ret = bus_add(v->pio, VGA_PORTS, VGA_PORTS_LEN, &vga_ports_ops, v, loop, "vga", 0);
	if (ret < 0)
		goto out;
	ret = bus_add(v->pio, VBE_PORTS, 4, &vga_dispi_ops, v, loop, "vga", 0);
	if (ret < 0)
		goto no_vbe;
	ret = bus_add(v->mmio, VGA_WINDOW, VGA_WINDOW_LEN, &vga_window_ops, v, loop, "vga", 0);
	if (ret < 0)
		goto no_window;
	return 0;
no_window:
	bus_del(v->pio, VBE_PORTS, &vga_dispi_ops, v);
no_vbe:
	bus_del(v->pio, VGA_PORTS, &vga_ports_ops, v);
out:
	return err_set(err, -ret,
		       "VGA: its ports or its window are taken; is there a second graphics card?");
}

struct device *vga_new(struct pci_bus *pci, const struct vga_opts *o, struct err *err)
{
	static const struct pci_id id = {
		.vendor = 0x1234, .device = 0x1111, .subsystem_vendor = 0x1af4, .subsystem = 0x1100,
		.class_rev = 0x03000002,	/* VGA compatible, revision 2: BAR 2 has it all */
	};
	const struct pci_wires *w = pci_bus_wires(pci);
	struct vga *v = xcalloc(1, sizeof(*v));

	device_init(&v->pci.dev, &vga_device_ops, o->id ? o->id : "vga", w->loop);
	v->mem = w->mem;
	v->pio = w->pio;
	v->mmio = w->mmio;
	v->display = (struct display){ &vga_display_ops, v };
	registers_reset(v);
	vga_edid(v->edid, o->width ? o->width : 1024, o->height ? o->height : 768);
	if (vga_blocks(v, o, err) < 0 || vga_plug(v, err) < 0)
		goto fail;
	if (pci_dev_init(&v->pci, pci, o->devfn, &id) < 0) {
		err_set(err, EBUSY, "VGA: PCI slot %u is taken", o->devfn >> 3);
		goto unplug;
	}
	pci_bar_block(&v->pci, 0, PCI_BASE_ADDRESS_MEM_PREFETCH, v->vram);
	v->pci.bars[0].moved = vram_moved;
	v->pci.bars[0].ctx = v;
	pci_bar_regs(&v->pci, 2, 0, 4096, &vga_bar_ops, v);
	if (v->rom)
		pci_bar_block(&v->pci, PCI_ROM_SLOT, 0, v->rom);
	return &v->pci.dev;
unplug:
	bus_del(v->mmio, VGA_WINDOW, &vga_window_ops, v);
	bus_del(v->pio, VBE_PORTS, &vga_dispi_ops, v);
	bus_del(v->pio, VGA_PORTS, &vga_ports_ops, v);
fail:
	if (v->rom)
		block_free(v->rom);
	if (v->text)
		block_free(v->text);
	if (v->vram)
		block_free(v->vram);
	free(v->pci.dev.id);
	free(v);
	return NULL;
}

const struct display *vga_display(struct device *d)
{
	return &container_of(d, struct vga, pci.dev)->display;
}
