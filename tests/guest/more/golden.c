/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest for the saved machines of tests/golden/states: finds every device, starts it, and stops
 * in the middle of something with each ("half N"). When it is sent a character it ends what it
 * began, compares what each register and disk should hold ("whole N"), and begins again. Its words
 * on the command line: packed, legacy, flash, smp, nopit, idewrite.
 *
 * Whoever restores the machine and sees "whole N" knows that nothing was lost on the way. Each
 * device does the same in rounds of two kinds: odd rounds and even ones leave different halves
 * behind.
 */
#include "vdev.h"

#define COM1 0x3f8
#define COM2 0x2f8
#define LAPIC 0xfee00000u
#define IOAPIC 0xfec00000u
#define SIGNATURE 0x444c4f47u		/* "GOLD": how sector n of a disk begins, then n */
#define MAX_VDEVS 40

extern struct { uint32_t flags, lower, upper, boot, cmdline; } *multiboot_info;
static bool want_packed, want_legacy, has_pci;
static struct vdev vdevs[MAX_VDEVS];
static uint8_t *buffers[MAX_VDEVS];	/* 4 KiB each */
static unsigned nvdevs, round;

static bool word(const char *w)
{
	const char *c = (multiboot_info->flags & 4)
				? (const char *)(uintptr_t)multiboot_info->cmdline
				: "";
	unsigned n = 0;

	while (w[n])
		n++;
	for (; *c; c++)
		if (!memcmp(c, w, n))
			return true;
	return false;
}

/* --- virtio --- */

/* The queue that takes this round's request. */
static unsigned vdev_queue(const struct vdev *v)
{
	switch (v->type) {
	case 1: case 3: case 18:
		return 1;
	case 2:
		return round % v->nqueues;
	case 5:
		return !(round & 1);
	}
	return 0;
}

/*
 * This round's request: a chain of up to three buffers; the device's answer is looked at by
 * vdev_check.
 */
static unsigned vdev_request(const struct vdev *v, uint8_t *p, struct desc *c)
{
	uint32_t *w = (uint32_t *)(uintptr_t)p;
	uint32_t at = (uint32_t)(uintptr_t)p;
	static const uint8_t hello[] = "golden\n";
	/* size 21, Tversion, no tag, msize 8192, "9P2000.L" */
	static const uint8_t version[] = { 21, 0, 0,   0,   100, 0xff, 0xff, 0,	  32,  0,  0,
					   8,  0, '9', 'P', '2', '0',  '0',  '0', '.', 'L' };

	switch (v->type) {
	case 1:
		memset(p, 0, 12 + 60);
		memset(p + (v->transport == LEGACY ? 10 : 12), 0xff, 6);
		c[0] = (struct desc){ at, (v->transport == LEGACY ? 10 : 12) + 60, 0, 0 };
		return 1;
	case 2:		/* odd: read sector 1; even: write sector 2 */
		w[0] = !(round & 1);
		w[1] = 0;
		w[2] = w[0] ? 2 : 1;
		w[3] = 0;
		w[128] = w[0] ? SIGNATURE : 0;
		w[129] = w[0] ? 2 : 0;
		p[16] = 0xff;
		c[0] = (struct desc){ at, 16, 0, 0 };
		c[1] = (struct desc){ at + 512, 512, w[0] ? 0 : DESC_F_WRITE, 0 };
		c[2] = (struct desc){ at + 16, 1, DESC_F_WRITE, 0 };
		return 3;
	case 3:
		memcpy(p, hello, sizeof(hello) - 1);
		c[0] = (struct desc){ at, sizeof(hello) - 1, 0, 0 };
		return 1;
	case 4:
		memset(p, 0, 64);
		c[0] = (struct desc){ at, 64, DESC_F_WRITE, 0 };
		return 1;
	case 5:		/* odd: a page goes; even: it comes back */
		w[0] = (at + 4096) >> 12;
		c[0] = (struct desc){ at, 4, 0, 0 };
		return 1;
	case 9:
		memcpy(p, version, sizeof(version));
		c[0] = (struct desc){ at, sizeof(version), 0, 0 };
		c[1] = (struct desc){ at + 512, 512, DESC_F_WRITE, 0 };
		return 2;
	case 18:
		memset(p, 0, 8);
		c[0] = (struct desc){ at, 8, 0, 0 };
		return 1;
	}
	return 0;
}

static void vdev_check(struct vdev *v, uint8_t *p, uint32_t len)
{
	uint32_t *w = (uint32_t *)(uintptr_t)p, any = 0;

	switch (v->type) {
	case 2:
		if (p[16])
			fail("round %u: disk in slot %u: status %u", round, v->slot, p[16]);
		if (w[128] != SIGNATURE || w[129] != (round & 1 ? 1u : 2u))
			fail("round %u: disk in slot %u: sector begins with %08x %u", round,
			     v->slot, w[128], w[129]);
		break;
	case 4:
		for (unsigned i = 0; i < 16; i++)
			any |= w[i];
		CHECK(len && any);
		break;
	case 9:
		CHECK(len == 21 && p[512 + 4] == 101 && p[512 + 20] == 'L');
	}
}

/*
 * Buffers on the queues from which the device takes when something comes: packets, characters,
 * events.
 */
static void vdev_wait_for_input(struct vdev *v)
{
	uint8_t *p = page_alloc(4096);

	if (v->type != 1 && v->type != 3 && v->type != 18)
		return;
	for (unsigned i = 0; i < 2; i++) {
		vqueue_put(&v->q[0],
			   &(struct desc){ (uint32_t)(uintptr_t)p + i * 2048,
					   v->type == 18 ? 8 : 2048, DESC_F_WRITE, 0 },
			   1);
		vqueue_ring(v, 0);
	}
}

static void vdevs_begin(void)
{
	for (unsigned i = 0; i < (has_pci ? 32 : MICRO_WINDOW_COUNT) && nvdevs < MAX_VDEVS; i++) {
		struct vdev *v = &vdevs[nvdevs];

		if (!(has_pci ? vdev_find_pci(v, i, want_legacy) : vdev_find_mmio(v, i)))
			continue;
		vdev_start(v,
			   v->type == 2 ? 1 << 9 | (v->transport == LEGACY ? 0 : 1 << 12) : 1 << 5,
			   want_packed);
		print("slot %u: virtio %u, %u queues%s\n", v->slot, v->type, v->nqueues,
		      v->q[0].packed ? ", packed" : "");
		buffers[nvdevs++] = page_alloc(8192);
		vdev_wait_for_input(v);
	}
}

/*
 * The odd rounds' chains are there and not told of; the even ones' were used already and not looked
 * at.
 */
static void vdevs_half(void)
{
	struct desc c[3];

	for (unsigned i = 0; i < nvdevs; i++) {
		unsigned n = vdev_request(&vdevs[i], buffers[i], c), q = vdev_queue(&vdevs[i]);

		if (!n)
			fail("virtio %u is not known here", vdevs[i].type);
		vqueue_put(&vdevs[i].q[q], c, n);
		if (!(round & 1))
			vqueue_ring(&vdevs[i], q);
	}
}

static void vdevs_whole(void)
{
	for (unsigned i = 0; i < nvdevs; i++) {
		struct vdev *v = &vdevs[i];

		CHECK((vdev_status(v) & (STATUS_DRIVER_OK | STATUS_NEEDS_RESET)) ==
		      STATUS_DRIVER_OK);
		if (v->transport == MODERN) {
			MMIO16(v->base + C_QUEUE_SELECT) = 0;
			CHECK(MMIO32(v->base + C_QUEUE_DESC) ==
			      (uint32_t)(uintptr_t)v->q[0].r.desc);
			CHECK(!v->pci.msix_table || MMIO32(v->pci.msix_table + 8) == 0x40);
		}
		if (round & 1)
			vqueue_ring(v, vdev_queue(v));
		vdev_check(v, buffers[i], vqueue_reap(&v->q[vdev_queue(v)]));
	}
}

/* --- network cards that are no virtio --- */

static uint32_t e1000s[4], rtl8139s[4];		/* registers: memory, ports */
static uint8_t *e1000_rings[4], *rtl_rings[4];
static unsigned ne1000, nrtl;

static void nics_begin(void)
{
	for (unsigned slot = 0; slot < 32; slot++) {
		uint32_t id = pci_read(slot, 0, 0), b;

		if (id == 0x100e8086 && ne1000 < 4) {
			pci_write(slot, 0, PCI_COMMAND, PCI_COMMAND_ALL);
			b = e1000s[ne1000] = pci_read(slot, 0, PCI_BAR(0)) & ~15u;
			e1000_rings[ne1000] = page_alloc(8192);
			/* RDBAL, RDLEN */
			MMIO32(b + 0x2800) = (uint32_t)(uintptr_t)e1000_rings[ne1000];
			MMIO32(b + 0x2808) = 128;
			/* TDBAL, TDLEN */
			MMIO32(b + 0x3800) = (uint32_t)(uintptr_t)e1000_rings[ne1000] + 2048;
			MMIO32(b + 0x3808) = 128;
			for (unsigned i = 0; i < 8; i++)
				MMIO32(e1000_rings[ne1000] + 16 * i) =
					(uint32_t)(uintptr_t)e1000_rings[ne1000] + 4096;
			MMIO32(b + 0x2818) = 4;			/* RDT */
			MMIO32(b + 0x0100) = 0x8002;		/* RCTL: on, broadcasts */
			MMIO32(b + 0x0400) = 0x10a;		/* TCTL: on, pads short packets */
			ne1000++;
		}
		if (id == 0x813910ec && nrtl < 4) {
			pci_write(slot, 0, PCI_COMMAND, PCI_COMMAND_ALL);
			b = rtl8139s[nrtl] = pci_read(slot, 0, PCI_BAR(0)) & ~3u;
			rtl_rings[nrtl] = page_alloc(16384);
			outb((uint16_t)(b + 0x37), 0x10);
			while (inb((uint16_t)(b + 0x37)) & 0x10)
				;
			/* RBSTART: 8 KiB and 16 */
			outl((uint16_t)(b + 0x30), (uint32_t)(uintptr_t)rtl_rings[nrtl] + 4096);
			outb((uint16_t)(b + 0x37), 0x0c);
			outl((uint16_t)(b + 0x44), 0x0f);
			nrtl++;
		}
	}
}

static void nics_half(void)
{
	for (unsigned i = 0; i < ne1000; i++) {
		uint8_t *ring = e1000_rings[i];
		uint32_t tail = MMIO32(e1000s[i] + 0x3818);

		memset(ring + 3072, 0xff, 60);
		MMIO32(ring + 2048 + 16 * tail) = (uint32_t)(uintptr_t)ring + 3072;
		MMIO32(ring + 2048 + 16 * tail + 4) = 0;
		MMIO32(ring + 2048 + 16 * tail + 8) = 60 | 0x0b000000;		/* EOP, IFCS, RS */
		MMIO32(ring + 2048 + 16 * tail + 12) = 0;
		/* ICS: an interrupt that nobody fetches ... */
		MMIO32(e1000s[i] + 0xc8) = 1 << 2;
		/* ... IMS: and sometimes the line rises */
		MMIO32(e1000s[i] + 0xd0) = round & 1 ? 1 << 2 : 0;
		if (!(round & 1))
			MMIO32(e1000s[i] + 0x3818) = (tail + 1) % 8;
		MMIO32(e1000s[i] + 0x14) = 0x0101;		/* EERD: word 1 of the EEPROM */
	}
	for (unsigned i = 0; i < nrtl; i++) {
		uint16_t b = (uint16_t)rtl8139s[i];
		unsigned n = (round - 1) % 4;

		memset(rtl_rings[i], 0xff, 64);
		outl(b + 0x20 + 4 * n, (uint32_t)(uintptr_t)rtl_rings[i]);
		if (!(round & 1))
			outl(b + 0x10 + 4 * n, 64);
		outw(b + 0x3c, round & 1 ? 4 : 0);		/* IMR: sent */
	}
}

static void nics_whole(void)
{
	for (unsigned i = 0; i < ne1000; i++) {
		uint8_t *ring = e1000_rings[i];
		uint32_t tail = MMIO32(e1000s[i] + 0x3818), last;

		if (round & 1) {
			MMIO32(e1000s[i] + 0x3818) = (tail + 1) % 8;
			last = tail;
		} else {
			last = (tail + 7) % 8;
		}
		for (unsigned n = 0; !(MMIO8(ring + 2048 + 16 * last + 12) & 1); n++)
			if (n > 100000000)
				fail("e1000 %u: a packet is never sent", i);
		CHECK(MMIO32(e1000s[i] + 0x14) & 0x10);
		CHECK(MMIO32(e1000s[i] + 0xd0) == (round & 1 ? 4u : MMIO32(e1000s[i] + 0xd0)));
		CHECK(MMIO32(e1000s[i] + 0xc0) & 4);		/* ICR, and the line falls */
		CHECK(MMIO32(e1000s[i] + 0x2800) == (uint32_t)(uintptr_t)ring &&
		      MMIO32(e1000s[i] + 0x2818) == 4);
		/* the address filter has an address */
		CHECK(MMIO32(e1000s[i] + 0x5404) >> 31);
		MMIO32(e1000s[i] + 0xd8) = ~0u;
	}
	for (unsigned i = 0; i < nrtl; i++) {
		uint16_t b = (uint16_t)rtl8139s[i];
		unsigned n = (round - 1) % 4;

		CHECK(inl(b + 0x20 + 4 * n) == (uint32_t)(uintptr_t)rtl_rings[i]);
		CHECK(inl(b + 0x30) == (uint32_t)(uintptr_t)rtl_rings[i] + 4096);
		CHECK(inw(b + 0x3c) == (round & 1 ? 4 : 0));
		if (round & 1)
			outl(b + 0x10 + 4 * n, 64);
		for (unsigned k = 0; !(inl(b + 0x10 + 4 * n) & 0x8000); k++)
			if (k > 1000000)
				fail("rtl8139 %u: a packet is never sent", i);
		CHECK(inw(b + 0x3e) & 4);
		outw(b + 0x3e, 0xffff);
	}
}

/* --- IDE: channel 0 has a disk (or none), channel 1 a CD drive (or none) --- */

static bool has_disk, has_cd, cd_is_empty, ide_writes;	/* even rounds write what is there */
static uint32_t bmdma;
static uint16_t sector[256], cd[1024];
static uint32_t prd[2] __attribute__((aligned(8)));

static uint8_t ide_ready(uint16_t base, uint8_t want)
{
	uint8_t s;

	for (unsigned i = 0; (s = inb(base + 7)) & 0x80 || (s & want) != want; i++)
		if (i > 100000 || (s & 1))
			fail("IDE at %03x: status %02x, not %02x", base, s, want);
	return s;
}

static void ide_read(uint16_t base, unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++)
		sector[i] = inw(base);
}

static void packet(uint8_t op, uint8_t last)
{
	uint8_t p[12] = { op, [8] = last };

	outb(0x171, 0);
	outb(0x174, 0);			/* 2048 bytes at a time */
	outb(0x175, 8);
	outb(0x177, 0xa0);
	ide_ready(0x170, 8);
	for (unsigned i = 0; i < 6; i++)
		outw(0x170, (uint16_t)(p[2 * i] | p[2 * i + 1] << 8));
}

static void ide_begin(void)
{
	ide_writes = word("idewrite");
	pci_write(1, 1, PCI_COMMAND, PCI_COMMAND_ALL);
	bmdma = pci_read(1, 1, PCI_BAR(4)) & ~3u;
	outb(0x1f6, 0xe0);
	outb(0x1f2, 0x5a);
	has_disk = inb(0x1f2) == 0x5a && (inb(0x1f7) & 0x40);
	outb(0x176, 0xa0);
	has_cd = inb(0x174) == 0x14 && inb(0x175) == 0xeb;
	if (has_cd) {
		for (unsigned i = 0; i < 3; i++) {
			/* power on, medium changed: said once each */
			packet(0x00, 0);
			while (inb(0x177) & 0x80)
				;
			cd_is_empty = inb(0x177) & 1;
			packet(0x03, 0);
			while (inb(0x177) & 0x80)
				;
			while (inb(0x177) & 8)
				inw(0x170);
		}
	}
	print("ide: %s, %s\n", has_disk ? "a disk" : "no disk",
	      !has_cd	    ? "no CD"
	      : cd_is_empty ? "an empty CD drive"
			    : "a CD");
}

static void sector_fill(void)
{
	for (unsigned i = 4; i < 256; i++)
		sector[i] = (uint16_t)(i * 259);
	sector[0] = (uint16_t)SIGNATURE;
	sector[1] = SIGNATURE >> 16;
	sector[2] = 1;
}

static void ide_half(void)
{
	memset(sector, 0, sizeof(sector));
	if (has_disk) {
		outb(0x1f2, 1);
		outb(0x1f3, 1);
		outb(0x1f4, 0);
		outb(0x1f5, 0);
		outb(0x1f6, 0xe0);
		if (round & 1) {
			outb(0x1f7, 0x20);		/* 100 words of a sector are fetched */
			ide_ready(0x1f0, 8);
			ide_read(0x1f0, 0, 100);
		} else {
			prd[0] = (uint32_t)(uintptr_t)sector;
			prd[1] = 512 | 0x80000000;
			outl((uint16_t)(bmdma + 4), (uint32_t)(uintptr_t)prd);
			outb((uint16_t)(bmdma + 2), 6);
			if (ide_writes) {
				sector_fill();
				outb(0x1f7, 0xca);	/* told and started */
				outb((uint16_t)bmdma, 1);
			} else {
				outb(0x1f7, 0xc8);	/* told, and not started */
			}
		}
	}
	if (has_cd && !cd_is_empty && (round & 1)) {
		packet(0x28, 1);
		ide_ready(0x170, 8);
		for (unsigned i = 0; i < 500; i++)
			cd[i] = inw(0x170);
	}
}

static void sector_check(const char *what, const uint16_t *w, unsigned n)
{
	if (w[0] != (uint16_t)SIGNATURE || w[1] != SIGNATURE >> 16 || w[2] != n)
		fail("round %u: %s: sector %u begins with %04x %04x %u", round, what, n, w[0], w[1],
		     w[2]);
	for (unsigned i = 4; i < 256; i++)
		if (w[i] != (uint16_t)(i * 259))
			fail("round %u: %s: word %u of sector %u is %04x", round, what, i, n, w[i]);
}

static void disk_whole(void)
{
	if (round & 1) {
		ide_read(0x1f0, 100, 256);
	} else {
		if (!ide_writes)
			outb((uint16_t)bmdma, 9);
		for (unsigned i = 0; !(inb((uint16_t)(bmdma + 2)) & 4); i++)
			if (i > 1000000)
				fail("IDE: DMA does not end");
		CHECK(!(inb((uint16_t)(bmdma + 2)) & 2));
		outb((uint16_t)bmdma, 0);
		outb((uint16_t)(bmdma + 2), 6);
	}
	full_barrier();
	CHECK(!(ide_ready(0x1f0, 0x40) & 9));
	sector_check("IDE", sector, 1);
}

static void ide_whole(void)
{
	if (has_disk)
		disk_whole();
	if (has_cd && !cd_is_empty && (round & 1)) {
		for (unsigned i = 500; i < 1024; i++)
			cd[i] = inw(0x170);
		for (unsigned i = 0; i < 4; i++)
			sector_check("CD", cd + 256 * i, i);
		CHECK(!(ide_ready(0x170, 0x40) & 9));
	}
	if (has_cd && cd_is_empty && (round & 1)) {
		packet(0x00, 0);
		while (inb(0x177) & 0x80)
			;
		CHECK(inb(0x177) & 1);
	}
}

/* --- what every PC has --- */

static uint32_t vram;
static uint8_t *flash;
/* sum over each function's configuration space but status */
static uint32_t configs[32][8];

static uint32_t config_sum(unsigned slot, unsigned function)
{
	uint32_t sum = 0;

	for (unsigned reg = 0; reg < 0x100; reg += 4)
		sum = sum * 31 + (reg == 4 ? pci_read(slot, function, reg) & 0xffff
					   : pci_read(slot, function, reg));
	return sum;
}

static void configs_visit(bool check)
{
	for (unsigned slot = 0; slot < 32; slot++) {
		for (unsigned f = 0; f < (slot == 1 ? 8 : 1); f++) {
			uint32_t sum = pci_read(slot, f, 0) == 0xffffffff ? 0 : config_sum(slot, f);

			/* What was plugged in meanwhile has no sum yet. */
			if (check && configs[slot][f] && sum != configs[slot][f])
				fail("round %u: the configuration space of %02x.%u changed", round,
				     slot, f);
			configs[slot][f] = sum;
		}
	}
}

static void vbe(uint16_t reg, uint16_t v)
{
	outw(0x1ce, reg);
	outw(0x1cf, v);
}

static void vga_begin(void)
{
	int slot = has_pci ? pci_find(0x1234, 0x1111, 0x1111) : -1;

	if (slot < 0)
		return;
	pci_write((unsigned)slot, 0, PCI_COMMAND, PCI_COMMAND_ALL);
	vram = pci_read((unsigned)slot, 0, PCI_BAR(0)) & ~15u;
	outb(0x3c2, 0x67);
	vbe(4, 0);
	vbe(1, 320);
	vbe(2, 200);
	vbe(3, 8);
	vbe(4, 0x41);
	for (unsigned i = 0; i < 320 * 200; i += 256)
		MMIO32(vram + i) = i * 2654435761u;
}

static void vga_half(void)
{
	vbe(9, (uint16_t)round);		/* y offset */
	outb(0x3c8, 17);			/* one colour of three */
	outb(0x3c9, 10 + round % 16);
	outb(0x3d4, 0x0f);			/* cursor: index told, value not */
}

static void vga_whole(void)
{
	outb(0x3d5, (uint8_t)round);
	CHECK(inb(0x3d5) == (uint8_t)round);
	outb(0x3c9, 20);
	outb(0x3c9, 30);
	outb(0x3c7, 17);
	CHECK(inb(0x3c9) == 10 + round % 16);
	CHECK(inb(0x3c9) == 20 && inb(0x3c9) == 30);
	outw(0x1ce, 9);
	CHECK(inw(0x1cf) == (uint16_t)round);
	outw(0x1ce, 1);
	CHECK(inw(0x1cf) == 320);
	for (unsigned i = 0; i < 320 * 200; i += 256)
		if (MMIO32(vram + i) != i * 2654435761u)
			fail("round %u: screen memory at %x is %08x", round, i, MMIO32(vram + i));
}

/* A chip of flash memory ends at 4 GiB when one was asked for by "flash". */
static void flash_half(void)
{
	/* its id is to be read; a byte is to be written */
	MMIO8(flash) = round & 1 ? 0x90 : 0x40;
}

static void flash_whole(void)
{
	if (round & 1) {
		CHECK(MMIO8(flash) != 0xff);
	} else {
		MMIO8(flash) = 0xff & ~round;
		for (unsigned i = 0; !(MMIO8(flash) & 0x80); i++)
			if (i > 1000000)
				fail("the flash is never ready");
	}
	MMIO8(flash) = 0xff;
	CHECK(MMIO32(flash + 4096) == SIGNATURE);
}

static uint8_t kbd_answer(void)
{
	for (unsigned i = 0; !(inb(0x64) & 1); i++)
		if (i > 1000000)
			fail("the keyboard does not answer");
	return inb(0x60);
}

static void vmport(uint32_t command, uint32_t ebx, uint32_t *eax)
{
	uint32_t c = command, d = 0x5658;

	*eax = 0x564d5868;
	__asm__ volatile("inl %%dx, %%eax" : "+a"(*eax), "+b"(ebx), "+c"(c), "+d"(d));
}

static void pc_begin(void)
{
	outb(0x70, 0x50);		/* a byte of the clock chip's memory */
	outb(0x71, 0xa5);
	outb(0x92, 2);
	outw(0x602, 0x0100);		/* PM1_EN: the power button */
	outb(0x43, 0x34);		/* the timer, mode 2, 1 kHz */
	outb(0x40, 0xa9);
	outb(0x40, 0x04);
	outb(0x20, 0x11);		/* both interrupt controllers, vectors 0x20 and 0x28 */
	outb(0x21, 0x20);
	outb(0x21, 4);
	outb(0x21, 1);
	outb(0xa0, 0x11);
	outb(0xa1, 0x28);
	outb(0xa1, 2);
	outb(0xa1, 1);
	outb(0x21, 0xeb);
	outb(0xa1, 0x5f);
	while (inb(0x64) & 1)
		inb(0x60);
	vga_begin();
	if (word("flash")) {
		flash = (uint8_t *)0xffff0000u;
		CHECK(MMIO32(flash + 4096) == SIGNATURE);
	}
}

static void pc_half(void)
{
	uint32_t eax;

	while (inb(0x64) & 1)
		inb(0x60);
	if (round & 1) {
		outb(0x60, 0xf3);	/* keyboard: a rate is to come; its ACK is not fetched */
	} else {
		outb(0x64, 0xd4);	/* the next byte is for the mouse */
		vmport(41, 0x45414552, &eax);
	}
	outb(0x70, 0x50);
	outw(0x510, 0);			/* fw_cfg: half the signature */
	CHECK(inb(0x511) == 'Q' && inb(0x511) == 'E');
	outb(0x61, 1);			/* the speaker's timer: the low byte of two */
	outb(0x43, 0xb6);
	outb(0x42, 0x34);
	if (vram)
		vga_half();
	if (flash)
		flash_half();
	configs_visit(false);
}

static void pc_whole(void)
{
	uint32_t eax;

	configs_visit(true);
	if (round & 1) {
		CHECK(kbd_answer() == 0xfa);
		outb(0x60, 0x20);
	} else {
		outb(0x60, 0xf4);
	}
	CHECK(kbd_answer() == 0xfa);
	if (!(round & 1)) {
		vmport(40, 0, &eax);
		CHECK((eax & 0xffff) == 1);		/* a word waits: the version */
		vmport(39, 1, &eax);
	}
	CHECK(inb(0x71) == 0xa5);
	CHECK(inb(0x511) == 'M' && inb(0x511) == 'U');
	CHECK(inb(0x92) & 2);
	CHECK(inw(0x602) == 0x0100);
	CHECK(inb(0x21) == 0xeb && inb(0xa1) == 0x5f);
	if (!word("nopit")) {
		outb(0x42, 0x12);
		outb(0x43, 0xe8);	/* read back: how channel 2 stands */
		CHECK((inb(0x42) & 0x3f) == 0x36);
	}
	if (vram)
		vga_whole();
	if (flash)
		flash_whole();
}

/* --- what both machines may have --- */

static bool has_com2, has_latch;

static void common_begin(void)
{
	outb(COM2 + 7, 0x3c);
	has_com2 = inb(COM2 + 7) == 0x3c;
	if (has_com2) {
		outb(COM2 + 3, 0x83);	/* divisor 12, 8 bits, FIFOs */
		outb(COM2, 12);
		outb(COM2 + 1, 0);
		outb(COM2 + 3, 3);
		outb(COM2 + 2, 7);
	}
	outl(0xe0, 0x12345678);
	has_latch = inl(0xe0) == 0x12345678;
	MMIO32(LAPIC + 0xf0) = 0x1ff;
	MMIO32(LAPIC + 0x80) = 0x50;		/* task priority */
	MMIO32(LAPIC + 0x3e0) = 3;
	MMIO32(LAPIC + 0x320) = 0x30031;	/* its timer: periodic, masked */
	MMIO32(LAPIC + 0x380) = 0x7fffffff;
	MMIO32(IOAPIC) = 0x10 + 2 * 9;		/* line 9: level, masked */
	MMIO32(IOAPIC + 0x10) = 0x18039;
	if (word("smp")) {
		static const uint8_t sleep[] = { 0xfa, 0xf4, 0xeb, 0xfd };

		memcpy((void *)0x7000, sleep, sizeof(sleep));
		MMIO32(LAPIC + 0x310) = 1 << 24;
		MMIO32(LAPIC + 0x300) = 0x4500;
		for (unsigned i = 0; i < 1000; i++)
			inb(0x80);
		MMIO32(LAPIC + 0x300) = 0x4607;
	}
}

static void common_half(void)
{
	if (has_com2) {
		outb(COM2 + 4, 0x10);	/* a loop: two bytes in its FIFO */
		outb(COM2, 0x40 + round % 16);
		outb(COM2, 0x41 + round % 16);
	}
	outb(0x402, 'h');		/* where there is a debug port */
}

static void common_whole(void)
{
	if (has_com2) {
		for (unsigned i = 0; i < 2; i++) {
			for (unsigned n = 0; !(inb(COM2 + 5) & 1); n++)
				if (n > 1000000)
					fail("COM2 does not answer itself");
			CHECK(inb(COM2) == 0x40 + i + round % 16);
		}
		CHECK(inb(COM2 + 7) == 0x3c);
		outb(COM2 + 3, 0x83);
		CHECK(inb(COM2) == 12);
		outb(COM2 + 3, 3);
	}
	CHECK(!has_latch || inl(0xe0) == 0x12345678);
	CHECK(MMIO32(LAPIC + 0x80) == 0x50 && MMIO32(LAPIC + 0x320) == 0x30031 &&
	      MMIO32(LAPIC + 0x380) == 0x7fffffff);
	MMIO32(IOAPIC) = 0x10 + 2 * 9;
	CHECK((MMIO32(IOAPIC + 0x10) & ~0x5000u) == 0x18039);
}

int main(void)
{
	want_packed = word("packed");
	want_legacy = word("legacy");
	has_pci = pci_read(0, 0, 0) == 0x12378086;
	common_begin();
	if (has_pci) {
		pc_begin();
		nics_begin();
		ide_begin();
	}
	vdevs_begin();
	for (round = 1;; round++) {
		vdevs_half();
		if (has_pci) {
			nics_half();
			ide_half();
		}
		common_half();
		if (has_pci)
			pc_half();
		print("half %u\n", round);
		while (!(inb(COM1 + 5) & 1))
			;
		inb(COM1);
		vdevs_whole();
		if (has_pci) {
			nics_whole();
			ide_whole();
			pc_whole();
		}
		common_whole();
		print("whole %u\n", round);
	}
}
