/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: the saved state of every device. The input is a program: which device, what a guest
 * does to it, then a save; properties of the saved tree are bent as a whole (one flipped byte is
 * refused by the tree's own rules nearly always), it is loaded into a fresh device, and the guest
 * goes on. What must hold beside the sanitizers:
 *   - what was saved loads again, whatever the guest did before, in a bent device too;
 *   - what a load gives saves as the same tree, but for what tells the time (`volatile_`);
 *   - a refusal says why, and after a reset the device is as good as new.
 */
#include <errno.h>
#include <libfdt.h>
#include <linux/virtio_config.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bios/fw_cfg.h"
#include "devices/chips.h"
#include "devices/nic/nic.h"
#include "devices/pc/pflash.h"
#include "tests/fuzz/bend.h"
#include "tests/lib/testdisk.h"
#include "tests/lib/threeway.h"
#include "tests/lib/vdriver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct rig {
	struct guest *g;
	const struct kind *k;
	struct device *d, *helper;	/* helper: the keyboard controller of vmmouse */
	struct virtio_dev *v;
	struct testdisk *hd, *cd;
	unsigned how;			/* variants of the device */
	struct bytes in;
};

/* Where a device is; a function on PCI has its BARs besides. */
struct kind {
	const char *name;
	struct device *(*make)(struct rig *r);
	unsigned devfn;
	struct { uint16_t base, len; } ports[5];
	struct { uint64_t base, len; } memory[2];
	void (*busy)(struct rig *r);	/* something whole, as a driver does it */
};

#define SLOT PCI_DEVFN(3, 0)
#define RINGS 0x100000ull

/* --- devices --- */

static void nothing(void *ctx) { }
static void nothing_n(void *ctx, unsigned n) { }

static struct block *chips_ram(struct guest *g)
{
	struct block *b = block_find(g->mem, "pc-ram");

	return b ? b : block_new(g->mem, "pc-ram", 2 * MiB, BLOCK_RAM, NULL);
}

static struct device *make_i440fx(struct rig *r)
{
	return i440fx_new(r->g->pci, chips_ram(r->g), false, NULL);
}

static struct device *make_piix3(struct rig *r)
{
	return piix3_new(r->g->pci, &(struct piix3_opts){ .devfn = PCI_DEVFN(1, 0) }, NULL);
}

static struct device *make_pm(struct rig *r)
{
	struct piix4_pm_opts o = { .devfn = PCI_DEVFN(1, 3), .sci = irq_source(r->g->irqs, 9),
				   .suspend = nothing };

	return piix4_pm_new(r->g->pci, &o, NULL);
}

static struct device *make_hotplug(struct rig *r)
{
	struct acpi_hotplug_opts o = { .base = 0xae00, .gpe = nothing_n, .eject = nothing_n };
	struct device *d = acpi_hotplug_new(r->g->pio, r->g->loop, &o, NULL);

	acpi_hotplug_set_removable(d, 0xfffffff8);
	return d;
}

static void busy_hotplug(struct rig *r)
{
	unsigned v = take(&r->in, 1);

	/* a slot is empty before something is plugged into it */
	if (v & 1)
		acpi_hotplug_ejected(r->d, 3 + v % 8);
	if (v & 1)
		acpi_hotplug_plugged(r->d, 3 + v % 8);
	else
		acpi_hotplug_unplug_request(r->d, 3 + v % 8);
}

static struct device *make_port92(struct rig *r)
{
	return port92_new(r->g->pio, r->g->vm, r->g->loop, NULL);
}

static struct device *make_uart(struct rig *r)
{
	return uart16550_new("serial0", r->g->pio, 0x3f8, irq_source(r->g->irqs, 4), NULL,
			     r->g->clock, r->g->loop, NULL);
}

static struct device *make_rtc(struct rig *r)
{
	struct mc146818_opts o = { .irq = irq_source(r->g->irqs, 8), .base = RTC_DATE,
				   .date = 1700000000 };

	return mc146818_new(r->g->pio, r->g->clock, r->g->loop, &o, NULL);
}

static struct device *make_i8042(struct rig *r)
{
	struct i8042_opts o = { .kbd = irq_source(r->g->irqs, 1),
				.aux = irq_source(r->g->irqs, 12) };

	return i8042_new(r->g->pio, r->g->vm, r->g->clock, r->g->loop, &o, NULL);
}

static void busy_i8042(struct rig *r)
{
	unsigned v = take(&r->in, 1);

	if (v & 1)
		i8042_key(r->d, v / 2, v & 64);
	else
		i8042_mouse(r->d, (int8_t)take(&r->in, 1), (int8_t)take(&r->in, 1), v & 2, v >> 3);
}

static uint32_t vcpu[4];
static int get_regs(void *ctx, uint32_t regs[4])
{
	memcpy(regs, vcpu, sizeof(vcpu));
	return 0;
}

static void set_regs(void *ctx, const uint32_t regs[4])
{
	memcpy(vcpu, regs, sizeof(vcpu));
}

static struct device *make_vmmouse(struct rig *r)
{
	struct vmmouse_opts o = { .get_regs = get_regs, .set_regs = set_regs };

	if (!r->helper)
		r->helper = make_i8042(r);
	return vmmouse_new(r->g->pio, r->helper, r->g->loop, &o, NULL);
}

static void busy_vmmouse(struct rig *r)
{
	static const uint32_t magic[] = { 0x45414552, 0xf5, 0x53424152, 0x4c455252, 1, 4, 1000 };
	unsigned v = take(&r->in, 1);

	if (v & 0x80) {
		vmmouse_move(r->d, take(&r->in, 2), take(&r->in, 2), 1 - (int)(v % 3), v >> 4 & 7);
		return;
	}
	vcpu[VMPORT_EAX] = 0x564d5868;
	vcpu[VMPORT_EBX] = magic[v % ARRAY_SIZE(magic)];
	vcpu[VMPORT_ECX] = v & 8 ? 39 + (v >> 4 & 3) : v >> 3;
	vcpu[VMPORT_EDX] = 0x5658;
	in(r->g->pio, 0x5658, 4);
}

static struct device *make_vmgenid(struct rig *r)
{
	struct vmgenid_opts o = { .gpa = GUEST_HOLE, .has_uuid = true };

	return vmgenid_new(r->g->mem, r->g->loop, &o, NULL);
}

static struct device *make_pc_testdev(struct rig *r)
{
	return guest_make(r->g, &kind_pc_testdev, "", NULL);
}

static struct device *make_pci_testdev(struct rig *r)
{
	return guest_make(r->g, &kind_pci_testdev, "addr=3", NULL);
}

static struct device *make_pvpanic(struct rig *r)
{
	return pvpanic_new(r->g->pio, 0x505, r->g->vm, r->g->loop, NULL);
}

static struct device *make_vga(struct rig *r)
{
	struct vga_opts o = { .devfn = PCI_DEVFN(2, 0), .id = "vga", .rom_fd = -1, .vram_mib = 1 };

	/* as in a PC, no RAM in the card's window */
	block_unmap_piece(r->g->ram, 0xa0000, 0x20000);
	return vga_new(r->g->pci, &o, NULL);
}

/* Modes as drivers set them: the text window, planes, linear VBE modes. */
static void busy_vga(struct rig *r)
{
	struct bus *pio = r->g->pio;
	unsigned v = take(&r->in, 1);

	out(pio, 0x1ce, 2, v % 12);
	out(pio, 0x1cf, 2, take(&r->in, 2) & (v & 0x80 ? 0x1ff : 0xffff));
	out(pio, 0x3ce, 2, (v & 0x40 ? 6 : 5) | (take(&r->in, 1) & 15) << 8);
	out(pio, 0x3c4, 2, 4 | (v & 15) << 8);
}

static struct device *make_flash(struct rig *r)
{
	return pflash_new(r->g->pci, "pflash0", r->hd->blk, 4 * GiB, r->how & 1, NULL);
}

static struct device *make_fw_cfg(struct rig *r)
{
	struct fw_cfg *f = fw_cfg_new(r->g->pio, r->g->mem, r->g->loop, NULL);

	fw_cfg_add_file(f, "opt/a", "0123456789", 10);
	fw_cfg_add_file_hooks(f, "opt/b", "abcdefgh", 8, true, &(struct fw_cfg_hooks){ 0 });
	return fw_cfg_device(f);
}

static void busy_fw_cfg(struct rig *r)
{
	uint8_t *desc = guest_ptr(r->g, RINGS, 16);

	st_be32(desc, take(&r->in, 2) % 0x24 << 16 | (take(&r->in, 1) & 31));
	st_be32(desc + 4, take(&r->in, 1));
	st_be64(desc + 8, RINGS + 4096);
	out(r->g->pio, 0x514, 4, 0);
	out(r->g->pio, 0x518, 4, htobe32((uint32_t)RINGS));
}

static struct device *make_e1000(struct rig *r)
{
	static const uint8_t mac[6] = { 0x52, 0x54, 0, 1, 2, 3 };

	return e1000_new(r->g->pci, SLOT, "nic", NULL, mac, r->g->loop, NULL);
}

static struct device *make_rtl8139(struct rig *r)
{
	static const uint8_t mac[6] = { 0x52, 0x54, 0, 1, 2, 3 };

	return rtl8139_new(r->g->pci, SLOT, "nic", NULL, mac, r->g->loop, NULL);
}

static uint64_t bar(struct rig *r, int n)
{
	return bar_addr(r->g, r->k->devfn, n);
}

/* Rings in both directions, packets in them, and loopback. */
static void busy_e1000(struct rig *r)
{
	uint64_t at = bar(r, 0);
	unsigned v = take(&r->in, 1);

	for (unsigned tx = 0; tx < 2; tx++) {
		uint64_t base = at + (tx ? 0x3800 : 0x2800);

		for (unsigned i = 0; i < 16; i++) {
			uint8_t *d = guest_ptr(r->g, RINGS + 4096 * tx + 16 * i, 16);

			st_le64(d, RINGS + 0x4000 + 0x800 * i);
			st_le32(d + 8, (v & 1 ? 0x09000000u : 0x29100000u) | take(&r->in, 1));
			st_le32(d + 12, take(&r->in, 1) << 8);
		}
		out(r->g->mmio, base, 4, RINGS + 4096 * tx);
		out(r->g->mmio, base + 4, 4, 0);
		out(r->g->mmio, base + 8, 4, 256);
		out(r->g->mmio, base + 16, 4, v >> 1 & 7);
		out(r->g->mmio, base + 24, 4, v >> 4 & 15);
	}
	out(r->g->mmio, at + 0x100, 4, 0xe0 | 0x801a | (v & 4 ? 0x40 : 0));
	out(r->g->mmio, at + 0x400, 4, 10);
	out(r->g->mmio, at + 0x3818, 4, v >> 3 & 15);
}

static void busy_rtl8139(struct rig *r)
{
	uint64_t at = bar(r, 0);
	unsigned v = take(&r->in, 1);

	out(r->g->pio, at + 0x30, 4, RINGS);
	out(r->g->pio, at + 0xe0, 2, v & 3);
	out(r->g->pio, at + 0x37, 1, 0x0c);
	out(r->g->pio, at + 0x44, 4, 0xf | (v & 0x30) << 7);
	out(r->g->pio, at + 0x40, 4, v & 4 ? 0x60000 : 0);
	for (unsigned i = 0; i < 8; i++) {
		uint8_t *d = guest_ptr(r->g, RINGS + 0x10000 + 16 * i, 16);

		st_le32(d, 0xb0000000u | take(&r->in, 1) | (i == 7 ? 0x40000000u : 0));
		st_le32(d + 4, 0);
		st_le64(d + 8, RINGS + 0x20000);
	}
	out(r->g->pio, at + 0x20, 4, RINGS + 0x10000);
	out(r->g->pio, at + 0x24, 4, v & 2 ? 0 : RINGS + 0x20000);
	out(r->g->pio, at + 0xe4, 4, RINGS + 0x10000);
	out(r->g->pio, at + 0x10 + (v >> 2 & 12), 4, take(&r->in, 2) & 0x7ff);
	out(r->g->pio, at + 0xd9, 1, 0x40);
}

static struct device *make_ide(struct rig *r)
{
	struct piix3_ide_opts o = {
		.devfn = PCI_DEVFN(1, 1),
		.irq = { irq_source(r->g->irqs, 14), irq_source(r->g->irqs, 15) } };
	struct ide_drive_opts hd = { .blk = r->hd->blk }, cd = { .blk = r->cd->blk, .cdrom = true };
	struct device *d = piix3_ide_new(r->g->pci, &o, NULL);

	if (piix3_ide_attach(d, 0, &hd, NULL) || piix3_ide_attach(d, 1, &cd, NULL) ||
	    piix3_ide_attach(d, 2, &cd, NULL))
		abort();
	return d;
}

/* A command, or a packet, and the DMA or data that belongs to it, perhaps. */
static void busy_ide(struct rig *r)
{
	static const uint8_t ata[] = { 0x20, 0x24, 0x29, 0x30, 0x34, 0x39, 0x40, 0x06, 0xc4, 0xc5,
				       0xc6, 0xc8, 0xca, 0xec, 0xef, 0xe7, 0x91, 0x90, 0x08, 0xa1 };
	static const uint8_t atapi[] = { 0x00, 0x03, 0x12, 0x1a, 0x1b, 0x1e, 0x25, 0x28, 0x43,
					 0x46, 0x4a, 0x51, 0x55, 0x5a, 0xa8, 0xad, 0xbe };
	unsigned v = take(&r->in, 1), ch = v & 1, n = take(&r->in, 1);
	uint16_t base = ch ? 0x170 : 0x1f0, bm = bar(r, 4) + 8 * ch;
	struct bus *pio = r->g->pio;
	uint8_t p[64] = { 0 };

	for (unsigned i = 0; i < 4; i++) {
		uint8_t *e = guest_ptr(r->g, RINGS + 8 * i, 8);

		st_le32(e, RINGS + 0x10000 + 0x10000 * i);
		st_le32(e + 4, take(&r->in, 2) | (i == (v >> 6) ? 0x80000000u : 0));
	}
	out(pio, base + 6, 1, 0xe0 | (v & 2 ? 0x10 : 0));
	out(pio, base + 1, 1, n & 3);
	out(pio, base + 2, 1, n);
	out(pio, base + 3, 2, take(&r->in, 1));
	out(pio, base + 5, 1, 0);
	if (v & 4) {
		p[0] = atapi[n % sizeof(atapi)];
		p[5] = take(&r->in, 1);
		p[8] = n & 7;
		p[9] = v & 0x10 ? 0xf8 : 0x10;
		out(pio, base + 4, 2, v & 8 ? 0x800 : take(&r->in, 2));
		out(pio, base + 7, 1, 0xa0);
		bus_write_rep(pio, base, 2, p, 6);
	} else {
		out(pio, base + 7, 1, ata[n % sizeof(ata)]);
	}
	if (v & 0x20) {
		out(pio, bm, 1, 0);
		out(pio, bm + 4, 4, RINGS);
		out(pio, bm, 1, v & 0x10 ? 1 : 9);
	} else {
		bus_read_rep(pio, base, 2, p, v % 32);
	}
}

/* --- virtio --- */

static struct device *virtio_make(struct rig *r, struct virtio_dev *v)
{
	r->v = v;
	if (r->how & 8)
		return virtio_mmio_new(r->g->mmio, 0xd0000000, irq_source(r->g->irqs, 5), NULL, v,
				       NULL);
	return virtio_pci_new(r->g->pci, SLOT, v, NULL);
}

static struct device *make_vblk(struct rig *r)
{
	struct virtio_blk_config_opts o = { .blk = r->hd->blk, .nqueues = 2, .queue_size = 16,
					    .packed = r->how & 1 };

	return virtio_make(r, virtio_blk_new("v", r->g->loop, r->g->mem, &o, NULL));
}

static struct device *make_vnet(struct rig *r)
{
	struct virtio_net_opts o = { .pairs = 1 + (r->how & 1), .queue_size = 16,
				     .packed = r->how & 2 };

	return virtio_make(r, virtio_net_new("v", r->g->loop, r->g->mem, &o, NULL));
}

static struct device *make_vrng(struct rig *r)
{
	return virtio_make(r, virtio_rng_new("v", r->g->loop, r->g->mem, NULL));
}

static struct device *make_vcon(struct rig *r)
{
	return virtio_make(r, virtio_console_new("v", r->g->loop, r->g->mem, NULL, NULL));
}

static struct device *make_vballoon(struct rig *r)
{
	return virtio_make(r, virtio_balloon_new("v", r->g->loop, r->g->mem, NULL));
}

static struct device *make_vinput(struct rig *r)
{
	return virtio_make(r, virtio_input_new("v", r->g->loop, r->g->mem, r->how & 1, NULL));
}

static struct device *make_v9p(struct rig *r)
{
	struct virtio_9p_opts o = { .path = "/nonexistent", .tag = "t" };
	static char dir[] = "/tmp/minivmm-fuzz-9p";

	mkdir(dir, 0700);
	o.path = dir;
	return virtio_make(r, virtio_9p_new("v", r->g->loop, r->g->mem, &o, NULL));
}

static void common_write(struct rig *r, unsigned pci_off, unsigned size, unsigned mmio_off,
			 uint64_t val)
{
	if (r->how & 8)
		out(r->g->mmio, 0xd0000000 + mmio_off, 4, val);
	else
		out(r->g->mmio, bar(r, 4) + pci_off, size, val);
}

static void negotiate(struct rig *r, uint64_t features)
{
	common_write(r, 20, 1, 0x70, 0);
	common_write(r, 20, 1, 0x70, 3);
	for (unsigned half = 0; half < 2; half++) {
		common_write(r, 8, 4, 0x24, half);
		common_write(r, 12, 4, 0x20, features >> (32 * half) & UINT32_MAX);
	}
	common_write(r, 20, 1, 0x70, 11);
}

static void place_queue(struct rig *r, unsigned q, unsigned size)
{
	uint64_t at = RINGS + 0x4000ull * (q % 8);

	common_write(r, 22, 2, 0x30, q);
	common_write(r, 24, 2, 0x38, size);
	for (unsigned k = 0; k < 3; k++) {
		common_write(r, 32 + 8 * k, 4, 0x80 + 16 * k, at + 0x1000 * k);
		common_write(r, 36 + 8 * k, 4, 0x84 + 16 * k, 0);
	}
	common_write(r, 28, 2, 0x44, 1);
}

static void busy_virtio(struct rig *r)
{
	unsigned v = take(&r->in, 1), q = v >> 4 & 3;
	uint64_t at = RINGS + 0x4000ull * q;

	switch (v & 7) {
	case 0:
		negotiate(r, v & 8 ? take(&r->in, 8) : r->v->offer & ~(take(&r->in, 1) << 28));
		break;
	case 1:
		place_queue(r, q, 1u << (v >> 5));
		break;
	case 2:
		common_write(r, 20, 1, 0x70, 15);
		break;
	case 3:			/* chains, split or packed, as the bytes come out */
		for (unsigned i = 0; i < 4; i++) {
			uint8_t *d = guest_ptr(r->g, at + 16 * i, 16);

			st_le64(d, RINGS + 0x40000 + 64 * take(&r->in, 1));
			st_le32(d + 8, take(&r->in, 1));
			st_le16(d + 12, take(&r->in, 1) & 0x87);
			st_le16(d + 14, take(&r->in, 1) & (v & 8 ? 0x83 : 7));
			st_le16(guest_ptr(r->g, at + 0x1004 + 2 * i, 2), take(&r->in, 1) & 7);
		}
		st_le16(guest_ptr(r->g, at + 0x1002, 2), take(&r->in, 1) & 15);
		break;
	case 4:
		st_le32(guest_ptr(r->g, RINGS + 0x40000 + 64 * take(&r->in, 1), 4),
			take(&r->in, 1));
		break;
	case 5:			/* a queue of its own is stopped */
		common_write(r, 22, 2, 0x30, q);
		common_write(r, 58, 2, 0xc0, 1);
		break;
	case 6:			/* the next requests fail, and stay with us */
		r->hd->error = -EIO;
		r->hd->errors = v >> 3 & 3;
		break;
	default:
		virtio_ring_bell(r->v, q);
	}
}

#define V(n)                                                                                       \
	{                                                                                          \
		.name = "virtio-" #n, .make = make_v##n, .devfn = SLOT, .busy = busy_virtio,       \
		.memory = { { 0xd0000000, 0x200 } },                                               \
	}
static const struct kind kinds[] = {
	V(blk), V(net), V(rng), V(con), V(balloon), V(input), V(9p),
	{ .name = "ide", .make = make_ide, .devfn = PCI_DEVFN(1, 1), .busy = busy_ide,
	  .ports = { { 0x1f0, 8 }, { 0x170, 8 }, { 0x3f6, 1 }, { 0x376, 1 } } },
	{ .name = "e1000", .make = make_e1000, .devfn = SLOT, .busy = busy_e1000 },
	{ .name = "rtl8139", .make = make_rtl8139, .devfn = SLOT, .busy = busy_rtl8139 },
	{ .name = "vga", .make = make_vga, .devfn = PCI_DEVFN(2, 0), .busy = busy_vga,
	  .ports = { { 0x3b4, 7 }, { 0x3c0, 27 }, { 0x1ce, 3 } },
	  .memory = { { 0xa0000, 0x20000 } } },
	{ .name = "pflash", .make = make_flash,
	  .memory = { { 4 * GiB - 128 * KiB, 128 * KiB } } },
	{ .name = "fw_cfg", .make = make_fw_cfg, .busy = busy_fw_cfg, .ports = { { 0x510, 12 } } },
	{ .name = "i440fx", .make = make_i440fx, .ports = { { 0xcf8, 8 } } },
	{ .name = "piix3", .make = make_piix3, .devfn = PCI_DEVFN(1, 0),
	  .ports = { { 0x4d0, 2 } } },
	{ .name = "pm", .make = make_pm, .devfn = PCI_DEVFN(1, 3),
	  .ports = { { 0x600, 64 }, { 0xafe0, 4 }, { 0xb2, 2 }, { 0x700, 16 } } },
	{ .name = "hotplug", .make = make_hotplug, .busy = busy_hotplug,
	  .ports = { { 0xae00, 24 } } },
	{ .name = "port92", .make = make_port92, .ports = { { 0x92, 1 } } },
	{ .name = "uart", .make = make_uart, .ports = { { 0x3f8, 8 } } },
	{ .name = "rtc", .make = make_rtc, .ports = { { 0x70, 2 } } },
	{ .name = "i8042", .make = make_i8042, .busy = busy_i8042,
	  .ports = { { 0x60, 1 }, { 0x64, 1 } } },
	{ .name = "vmmouse", .make = make_vmmouse, .busy = busy_vmmouse,
	  .ports = { { 0x5658, 4 } } },
	{ .name = "vmgenid", .make = make_vmgenid },
	{ .name = "pc-testdev", .make = make_pc_testdev,
	  .ports = { { 0xe0, 4 }, { 0xe4, 4 }, { 0x2000, 24 }, { 0xe8, 8 } },
	  .memory = { { 0xff000000, 0x10000 } } },
	{ .name = "pci-testdev", .make = make_pci_testdev, .devfn = SLOT },
	{ .name = "pvpanic", .make = make_pvpanic, .ports = { { 0x505, 1 } } },
};

/* --- the guest --- */

static void build(struct rig *r)
{
	loop_lock(r->g->loop);
	r->d = r->k->make(r);
	loop_unlock(r->g->loop);
	if (!r->d)
		abort();
}

static void decode(struct rig *r)
{
	if (!r->k->devfn)
		return;
	guest_assign_bars(r->g);
	cfg_write(r->g, r->k->devfn, PCI_COMMAND, 2, 7);
	if (!strcmp(r->k->name, "ide"))
		cfg_write(r->g, r->k->devfn, 0x40, 4, 0x80008000);
	if (!strcmp(r->k->name, "pm")) {
		cfg_write(r->g, r->k->devfn, 0x40, 4, 0x601);
		cfg_write(r->g, r->k->devfn, 0x80, 1, 1);
		cfg_write(r->g, r->k->devfn, 0x90, 4, 0x701);
		cfg_write(r->g, r->k->devfn, 0xd2, 1, 1);
	}
}

static void access_port(struct rig *r, unsigned v)
{
	unsigned n = take(&r->in, 1), size = 1u << (v >> 5) % 3, i = n >> 5;
	uint64_t got;

	while (i && !r->k->ports[i % 5].len)
		i--;
	if (!r->k->ports[i % 5].len)
		return;
	n = r->k->ports[i % 5].base + (n & 31) % r->k->ports[i % 5].len;
	if (v & 16)
		bus_read(r->g->pio, n, size, &got);
	else
		bus_write(r->g->pio, n, size, take(&r->in, size));
}

static void access_memory(struct rig *r, unsigned v)
{
	uint64_t off = take(&r->in, 2), got, val, at;
	unsigned size = 1u << (v >> 5) % 4, n = v >> 3 & 1;

	if (!r->k->memory[n].len)
		n = 0;
	if (!r->k->memory[n].len)
		return;
	at = r->k->memory[n].base + off % r->k->memory[n].len;
	if (v & 16) {
		bus_read(r->g->mmio, at, size, &got);
		return;
	}
	val = take(&r->in, size);
	if (mem_write(r->g->mem, at, &val, size) < 0)
		bus_write(r->g->mmio, at, size, val);
}

static void access_bar(struct rig *r, unsigned v)
{
	unsigned n = (v >> 5) % 6, size = 1u << (v >> 3 & 3);
	uint64_t at, off = take(&r->in, 2), got;
	struct bus *b;

	if (!r->k->devfn)
		return;
	b = cfg_read(r->g, r->k->devfn, PCI_BASE_ADDRESS_0 + 4 * n, 4) & 1 ? r->g->pio : r->g->mmio;
	at = bar(r, n);
	if (!at)
		return;
	size = b == r->g->pio ? MIN(size, 4u) : size;
	at += b == r->g->pio ? off % 256 : off & 0x8000 ? off & 0x7f : off;
	if (v & 4)
		bus_read(b, at, size, &got);
	else
		bus_write(b, at, size, take(&r->in, size));
}

static void step(struct rig *r)
{
	unsigned v = take(&r->in, 1);

	switch (v & 7) {
	case 0:
	case 1:
		access_port(r, v);
		break;
	case 2:
		access_memory(r, v);
		break;
	case 3:
		access_bar(r, v);
		break;
	case 4:
	case 5:
		if (r->k->busy)
			r->k->busy(r);
		break;
	case 6:
		guest_run(r->g, 0);
		break;
	default:
		if (!r->k->devfn)
			break;
		if (v & 0x80) {
			decode(r);
			break;
		}
		cfg_write(r->g, r->k->devfn, take(&r->in, 1) & 0xfc, 1u << (v >> 3) % 3,
			  take(&r->in, 4));
	}
}

static void act(struct rig *r, unsigned steps)
{
	while (steps-- && r->in.len)
		step(r);
}

/* --- states --- */

/* What tells the time, or is another on another host. */
static bool volatile_(const char *node, const char *prop)
{
	static const char *const names[] = { "timer_age", "offset", "looked", "ee.words",
					     "status" };

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(prop, names[i]))
			return i < 4 || !strcmp(node, "device");
	return false;
}

static void same(const void *a, const void *b, const char *who)
{
	int na = 0, nb = 0, pa, pb, la, lb;
	const char *name, *other;
	const void *va, *vb;

	for (; na >= 0; na = fdt_next_node(a, na, NULL), nb = fdt_next_node(b, nb, NULL)) {
		const char *node = fdt_get_name(a, na, NULL);

		if (nb < 0 || strcmp(node, fdt_get_name(b, nb, NULL)))
			goto differ;
		pb = fdt_first_property_offset(b, nb);
		fdt_for_each_property_offset(pa, a, na) {
			va = fdt_getprop_by_offset(a, pa, &name, &la);
			vb = pb < 0 ? NULL : fdt_getprop_by_offset(b, pb, &other, &lb);
			if (!vb || strcmp(name, other) ||
			    (!volatile_(node, name) && (la != lb || memcmp(va, vb, la)))) {
				fprintf(stderr, "%s: %s/%s differs\n", who, node, name);
				goto differ;
			}
			pb = fdt_next_property_offset(b, pb);
		}
	}
	if (nb < 0)
		return;
differ:
	fprintf(stderr, "%s: what was loaded saves as something else\n", who);
	abort();
}

/* What the device asked of the loop has been done: it goes as an unplugged one does. */
static void finish(struct rig *r)
{
	for (int i = 0; i < 3; i++)
		guest_run(r->g, 0);
	loop_lock(r->g->loop);
	device_destroy(r->d);
	loop_unlock(r->g->loop);
}

static bool save(struct rig *r, void **blob, size_t *len)
{
	struct state_out *o;
	int ret;

	guest_quiesce(r->g, r->d);
	o = state_out_new();
	loop_lock(r->g->loop);
	ret = device_save(r->d, o);
	loop_unlock(r->g->loop);
	if (state_out_finish(o, blob, len))
		abort();
	/* 9p alone has states that cannot be saved, and says so: files of the host */
	if (ret && strcmp(r->k->name, "virtio-9p"))
		abort();
	return ret == 0;
}

static void resume(struct rig *r)
{
	loop_lock(r->g->loop);
	if (r->d->ops->resume)
		r->d->ops->resume(r->d);
	loop_unlock(r->g->loop);
}

/* The device is saved, replaced by a fresh one that loads it, which saves as the same. */
static void replace(struct rig *r)
{
	struct err why = { "" };
	void *blob, *again;
	size_t len, len2;

	if (!save(r, &blob, &len)) {
		free(blob);
		resume(r);
		return;
	}
	finish(r);
	build(r);
	if (guest_load(r->d, blob, len, &why)) {
		fprintf(stderr, "%s: what was saved does not load: %s\n", r->k->name, why.msg);
		abort();
	}
	guest_save(r->d, &again, &len2);
	same(blob, again, r->k->name);
	free(blob);
	free(again);
	resume(r);
}

/* A bent state is refused with a reason, or lived with. */
static void load_bent(struct rig *r)
{
	struct err why = { "" };
	void *blob, *bent;
	size_t len, blen;

	if (!save(r, &blob, &len)) {
		free(blob);
		resume(r);
		return;
	}
	bent = bend_tree(&r->in, blob, len, &blen);
	free(blob);
	finish(r);
	build(r);
	if (guest_load(r->d, bent, blen, &why) == 0) {
		resume(r);
	} else {
		if (!why.msg[0])
			abort();
		loop_lock(r->g->loop);
		r->d->ops->reset(r->d);
		loop_unlock(r->g->loop);
		resume(r);
		decode(r);
	}
	free(bent);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct rig r = { .in = { data, len } };

	r.k = &kinds[take(&r.in, 1) % ARRAY_SIZE(kinds)];
	r.how = take(&r.in, 1);
	r.g = chips_guest();
	r.hd = testdisk_new(128 * KiB, false);
	r.cd = testdisk_new(64 * 2048, true);
	build(&r);
	decode(&r);
	for (unsigned round = 0; round < 4 && r.in.len; round++) {
		act(&r, take(&r.in, 1) % 32);
		replace(&r);
		act(&r, take(&r.in, 1) % 8);
		load_bent(&r);
		act(&r, take(&r.in, 1) % 32);
		replace(&r);
	}
	guest_quiesce(r.g, r.d);
	finish(&r);
	if (r.helper) {
		loop_lock(r.g->loop);
		device_destroy(r.helper);
		loop_unlock(r.g->loop);
	}
	testdisk_free(r.hd);
	testdisk_free(r.cd);
	guest_free(r.g);
	return 0;
}
