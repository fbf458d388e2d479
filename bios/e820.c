/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * e820.c: the memory map a kernel is given when no firmware runs, and the map of RAM the firmware
 * is given. ACPI 6.5, chapter 15 (system address map interfaces).
 */
#include "bios/load.h"

static unsigned e820_add(struct e820_entry *e, unsigned n, unsigned max, uint64_t base,
			 uint64_t len, uint32_t type)
{
	if (!len || n >= max)
		return n;
	e[n] = (struct e820_entry){ base, len, type };
	return n + 1;
}

unsigned e820_build(const struct bios_config *c, struct e820_entry *e, unsigned max)
{
	unsigned n = 0;

	n = e820_add(e, n, max, 0, LOW_EBDA, E820_RAM);
	n = e820_add(e, n, max, LOW_EBDA, 0xa0000 - LOW_EBDA, E820_RESERVED);
	n = e820_add(e, n, max, LOW_TABLES, LOW_END - LOW_TABLES, E820_RESERVED);
	n = e820_add(e, n, max, LOW_END, c->ram_low - LOW_END, E820_RAM);
	/* The generation id page and, behind it, KVM's own pages. */
	n = e820_add(e, n, max, VMGENID_GPA, 0xff000000 - VMGENID_GPA, E820_RESERVED);
	n = e820_add(e, n, max, 4 * GiB, c->ram_high, E820_RAM);
	return n;
}
