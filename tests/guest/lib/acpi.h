/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * acpi.h: finding a table and its registers (ACPI 6.0, sections 5.2.5 RSDP, 5.2.7 RSDT, 5.2.9 FADT,
 * 5.2.10 FACS).
 */
#ifndef GUEST_ACPI_H
#define GUEST_ACPI_H

#include "guest.h"

#define FADT_FIRMWARE_CTRL 36		/* the FACS */
#define FADT_PM1A_EVT 56
#define FADT_PM1A_CNT 64
#define FADT_PM_TMR 76
#define FACS_WAKING_VECTOR 12

/* A table by its signature; fails when there is none. */
static inline uint32_t acpi_find(const char *signature)
{
	for (uint32_t a = 0xe0000; a < 0x100000; a += 16) {
		uint32_t rsdt, n;

		if (memcmp((void *)(uintptr_t)a, "RSD PTR ", 8))
			continue;
		rsdt = MMIO32(a + 16);
		n = (MMIO32(rsdt + 4) - 36) / 4;
		for (uint32_t i = 0; i < n; i++)
			if (!memcmp((void *)(uintptr_t)MMIO32(rsdt + 36 + 4 * i), signature, 4))
				return MMIO32(rsdt + 36 + 4 * i);
	}
	fail("no ACPI table %s", signature);
}

#endif
