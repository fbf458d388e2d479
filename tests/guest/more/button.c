/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * button.c: a guest that enables the power button's event (PM1_EN, ACPI 6.0 section 4.8.3.1.2),
 * says when it was pressed, and does not power off. suite-parent presses it.
 */
#include "acpi.h"

#define PWRBTN (1 << 8)

int main(void)
{
	uint16_t event = (uint16_t)MMIO32(acpi_find("FACP") + FADT_PM1A_EVT);

	outw((uint16_t)(event + 2), PWRBTN);
	print("listening\n");
	for (;;) {
		if (inw(event) & PWRBTN) {
			outw(event, PWRBTN);
			print("pressed\n");
		}
	}
}
