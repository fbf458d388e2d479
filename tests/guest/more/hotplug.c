/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest that does by hand what the ACPI methods do (QEMU's acpi_pci_hotplug specification): looks
 * which slots got a device and which shall be empty, says who came, ejects, and says when the slot
 * is empty. suite-qmp drives it.
 */
#include "pci.h"

#define UP 0xae00
#define DOWN 0xae04
#define EJECT 0xae08

int main(void)
{
	uint32_t waiting = 0;

	print("ready\n");
	for (;;) {
		uint32_t up = inl(UP), down = inl(DOWN);

		for (unsigned slot = 0; slot < 32; slot++) {
			uint32_t bit = 1u << slot, id = pci_read(slot, 0, 0);

			if (up & bit)
				print("slot %u has %08x\n", slot, id);
			if (down & bit) {
				print("slot %u shall go\n", slot);
				outl(EJECT, bit);
				waiting |= bit;
			}
			if ((waiting & bit) && id == 0xffffffff) {
				print("slot %u is empty\n", slot);
				waiting &= ~bit;
			}
		}
	}
}
