/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * setup_pci.c: with -kernel no firmware has run; this does to the PC's chips what firmware would
 * have done.
 *
 * Intel 82441FX (PAM, 0x59-0x5f), 82371SB PIIX3 (PIRQRC 0x60-0x63, ELCR, IDETIM 0x40), 82371AB
 * PIIX4 function 3 (PMBA 0x40, PMREGMISC 0x80, SMBBA 0x90, SMBHSTCFG 0xd2).
 */
#include "bios/boot.h"
#include "devices/pci/pci.h"

#define HOST_BRIDGE PCI_DEVFN(0, 0)
#define PIIX_ISA PCI_DEVFN(1, 0)
#define PIIX_IDE PCI_DEVFN(1, 1)
#define PIIX_PM PCI_DEVFN(1, 3)

/* What PIRQA-D are routed to; all of them level-triggered, as is the SCI. */
static const uint8_t irq_of_pirq[4] = { 10, 10, 11, 11 };

void bios_pci64_window(const struct bios_config *c, uint64_t *base, uint64_t *limit)
{
	uint64_t top = 1ull << (c->phys_bits ? c->phys_bits : 36);

	*base = ALIGN_UP(4 * GiB + c->ram_high, GiB);
	*limit = MIN(*base + 64 * GiB, top);
	if (*limit < *base)
		*limit = *base;
}

static void setup_host_bridge(struct pci_bus *pci)
{
	unsigned reg;

	/* PAM: 0xc0000-0xfffff is RAM, read and write. */
	pci_bus_config_write(pci, HOST_BRIDGE, 0x59, 1, 0x30);
	for (reg = 0x5a; reg <= 0x5f; reg++)
		pci_bus_config_write(pci, HOST_BRIDGE, reg, 1, 0x33);
}

static void setup_isa_bridge(struct pci_bus *pci, struct bus *pio)
{
	uint16_t elcr = 1 << BIOS_SCI_IRQ;
	unsigned i;

	for (i = 0; i < 4; i++) {
		pci_bus_config_write(pci, PIIX_ISA, 0x60 + i, 1, irq_of_pirq[i]);
		elcr |= 1 << irq_of_pirq[i];
	}
	bus_write(pio, 0x4d0, 1, elcr & 0xff);
	bus_write(pio, 0x4d1, 1, elcr >> 8);
}

static void setup_ide(struct pci_bus *pci)
{
	/* Decode both channels. */
	pci_bus_config_write(pci, PIIX_IDE, 0x40, 2, 0x8000);
	pci_bus_config_write(pci, PIIX_IDE, 0x42, 2, 0x8000);
}

static void setup_pm(struct pci_bus *pci)
{
	pci_bus_config_write(pci, PIIX_PM, 0x40, 4, BIOS_PM_BASE | 1);
	pci_bus_config_write(pci, PIIX_PM, 0x80, 1, 1);
	pci_bus_config_write(pci, PIIX_PM, 0x90, 4, BIOS_SMB_BASE | 1);
	pci_bus_config_write(pci, PIIX_PM, 0xd2, 1, 0x09);	/* enabled, by the SCI */
	pci_bus_config_write(pci, PIIX_PM, PCI_INTERRUPT_LINE, 1, BIOS_SCI_IRQ);
}

void bios_setup_pci(const struct bios_config *c, struct pci_bus *pci, struct bus *pio)
{
	uint64_t base64, limit64;

	bios_pci64_window(c, &base64, &limit64);
	setup_host_bridge(pci);
	if (pci_bus_find(pci, PIIX_ISA))
		setup_isa_bridge(pci, pio);
	if (pci_bus_find(pci, PIIX_IDE))
		setup_ide(pci);
	pci_bus_assign(pci, BIOS_PCI_IO_BASE, BIOS_PCI_HOLE, BIOS_PCI_HOLE_END, base64,
		       irq_of_pirq);
	if (pci_bus_find(pci, PIIX_PM))
		setup_pm(pci);
}
