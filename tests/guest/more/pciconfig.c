/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pciconfig.c: the whole configuration space of every PCI function, and which bits of its BARs and
 * of its expansion ROM's can be written (their sizes). test.sh compares that with the machine
 * version's golden dump. PCI Local Bus 3.0, chapter 6.
 */
#include "pci.h"

#define PCI_ROM 0x30

static void show_mask(unsigned slot, unsigned function, unsigned reg, uint32_t keep)
{
	uint32_t old = pci_read(slot, function, reg), mask;

	pci_write(slot, function, reg, keep);
	mask = pci_read(slot, function, reg);
	pci_write(slot, function, reg, old);
	if (mask)
		print("writable %02x: %08x\n", reg, mask);
}

static void show(unsigned slot, unsigned function)
{
	print("00:%02x.%u\n", slot, function);
	for (unsigned reg = 0; reg < 256; reg += 16)
		print("%02x: %08x %08x %08x %08x\n", reg, pci_read(slot, function, reg),
		      pci_read(slot, function, reg + 4), pci_read(slot, function, reg + 8),
		      pci_read(slot, function, reg + 12));
	for (unsigned bar = 0; bar < 6; bar++)
		show_mask(slot, function, PCI_BAR(bar), 0xffffffff);
	show_mask(slot, function, PCI_ROM, 0xfffffffe);
}

int main(void)
{
	for (unsigned slot = 0; slot < 32; slot++)
		for (unsigned function = 0; function < 8; function++)
			if ((uint16_t)pci_read(slot, function, 0) != 0xffff)
				show(slot, function);
	finish(0x20);
}
