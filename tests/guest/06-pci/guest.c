/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lesson 06: PCI. Who is on the bus, how large are their windows, and how a window moves.
 * PCI Local Bus 3.0, chapter 6.
 */
#include "pci.h"

static void show_bars(unsigned slot, unsigned function)
{
	for (unsigned bar = 0; bar < 6; bar++) {
		uint32_t old = pci_read(slot, function, PCI_BAR(bar)), mask, size;
		bool io = old & 1, wide = !io && (old & 6) == 4;

		pci_write(slot, function, PCI_BAR(bar), 0xffffffff);
		mask = pci_read(slot, function, PCI_BAR(bar)) & (io ? ~3u : ~15u);
		pci_write(slot, function, PCI_BAR(bar), old);
		if (!mask)
			continue;
		size = ~(io ? mask | 0xffff0000 : mask) + 1;
		CHECK(!(size & (size - 1)));			/* a power of two */
		/* at a multiple of itself */
		CHECK(!((old & (io ? ~3u : ~15u)) & (size - 1)));
		print("06:     BAR %u: %s, %u bytes\n", bar,
		      io     ? "ports"
		      : wide ? "64-bit memory"
			     : "memory",
		      size);
		bar += wide;
	}
}

int main(void)
{
	unsigned found = 0;
	uint32_t old;
	uint16_t base;
	int nic;

	for (unsigned slot = 0; slot < 32; slot++) {
		for (unsigned function = 0; function < 8; function++) {
			uint32_t id = pci_read(slot, function, 0), class;

			if ((uint16_t)id == 0xffff) {
				if (!function)
					break;
				continue;
			}
			class = pci_read(slot, function, 8) >> 16;
			print("06: 00:%02x.%u %04x:%04x class %04x\n", slot, function, id & 0xffff,
			      id >> 16, class);
			show_bars(slot, function);
			found++;
			if (!function && !(pci_read(slot, 0, 0x0c) & 0x800000))
				break;				/* not a multi-function device */
		}
	}
	/* The host bridge of a PC is the i440FX, its south bridge the PIIX3. */
	CHECK(pci_read(0, 0, 0) == 0x12378086);
	CHECK(pci_read(1, 0, 0) == 0x70008086);
	CHECK(pci_read(31, 0, 0) == 0xffffffff);

	/*
	 * A window moves: the legacy virtio registers follow their BAR, and nobody answers at the
	 * old place.
	 */
	nic = pci_find(0x1af4, 0x1005, 0x1005);
	CHECK(nic >= 0);
	pci_write(nic, 0, PCI_COMMAND, PCI_COMMAND_ALL);
	old = pci_read(nic, 0, PCI_BAR(0));
	CHECK(old & 1);
	base = old & ~3u;
	CHECK(inb(base + 18) == 0);				/* device status after reset */
	outb(base + 18, 1);
	CHECK(inb(base + 18) == 1);
	pci_write(nic, 0, PCI_BAR(0), 0xe000);
	CHECK(inb(0xe000 + 18) == 1);
	CHECK(inb(base + 18) == 0xff);
	pci_write(nic, 0, PCI_COMMAND, PCI_COMMAND_ALL & ~1u);	/* ports off */
	CHECK(inb(0xe000 + 18) == 0xff);
	print("06: %u functions; the window of 00:%02x.0 moved\n", found, nic);
	finish(0x15);
}
