/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pci.h: PCI configuration mechanism 1 (PCI Local Bus 3.0, section 3.2.2.3.2): an address port and
 * a data port.
 */
#ifndef GUEST_PCI_H
#define GUEST_PCI_H

#include "guest.h"

#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA 0xcfc
#define PCI_COMMAND 0x04
#define PCI_COMMAND_ALL 0x7		/* I/O, memory, bus master */
#define PCI_BAR(n) (0x10 + 4 * (n))
#define PCI_CAPABILITIES 0x34
#define PCI_CAP_MSIX 0x11
#define PCI_CAP_VENDOR 0x09

static inline uint32_t pci_read(unsigned slot, unsigned function, unsigned reg)
{
	outl(CONFIG_ADDRESS, 0x80000000u | slot << 11 | function << 8 | (reg & ~3u));
	return inl(CONFIG_DATA) >> (reg & 3) * 8;
}

static inline void pci_write(unsigned slot, unsigned function, unsigned reg, uint32_t v)
{
	outl(CONFIG_ADDRESS, 0x80000000u | slot << 11 | function << 8 | reg);
	outl(CONFIG_DATA, v);
}

/*
 * The slot of the first function 0 with this vendor and one of two device numbers; -1 when there is
 * none.
 */
static inline int pci_find(uint16_t vendor, uint16_t device, uint16_t or_device)
{
	for (int slot = 0; slot < 32; slot++) {
		uint32_t id = pci_read(slot, 0, 0);

		if ((uint16_t)id == vendor && (id >> 16 == device || id >> 16 == or_device))
			return slot;
	}
	return -1;
}

#endif
