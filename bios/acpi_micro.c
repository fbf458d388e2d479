/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * acpi_micro.c: the namespace of the micro machine: virtio-mmio devices, serial ports, a generic
 * event device that carries the power button and the generation id. Hardware-reduced ACPI: no fixed
 * registers but sleep and reset.
 *
 * ACPI 6.5: 4.1 (hardware-reduced), 5.6.9 (interrupt-signaled events: ACPI0013, _EVT), 4.8.3.7
 * (sleep control).
 */
#include <stdio.h>

#include "bios/acpi.h"

static void micro_virtio(const struct bios_config *c, struct aml *a)
{
	unsigned i;
	char name[8];

	for (i = 0; i < c->nmmio; i++) {
		uint32_t gsi = c->mmio[i].gsi;

		snprintf(name, sizeof(name), "VR%02X", i & 0xff);
		aml_device(a, name);
		aml_name_string(a, "_HID", "LNRO0005");
		aml_name_int(a, "_UID", i);
		aml_name_int(a, "_CCA", 1);
		aml_resources(a, "_CRS");
		aml_memory32(a, c->mmio[i].base, c->mmio[i].size);
		aml_interrupts(a, true, false, &gsi, 1);
		aml_resources_end(a);
		aml_end(a);
	}
}

static void micro_event(struct aml *a, uint32_t bit, const char *path)
{
	aml_begin(a, AML_IF);
	aml_op(a, AML_AND);
	aml_op(a, AML_LOCAL0);
	aml_int(a, bit);
	aml_op(a, AML_ZERO);
	acpi_dsdt_notify(a, path);
	aml_end(a);
}

/* Reading the event register clears it; _EVT tells whoever is concerned. */
static void micro_events(const struct bios_config *c, struct aml *a)
{
	const uint32_t irq = BIOS_SCI_IRQ;

	aml_region(a, "EVR", AML_SYSTEM_IO, BIOS_MICRO_EVENT, 4);
	aml_field(a, "EVR", AML_DWORD_ACC, true);
	aml_field_unit(a, "ESEL", 32);
	aml_end(a);

	aml_device(a, "PWRB");
	aml_name_eisaid(a, "_HID", "PNP0C0C");
	aml_name_int(a, "_UID", 0);
	aml_end(a);
	acpi_dsdt_board_parts(c, a);

	aml_device(a, "GED");
	aml_name_string(a, "_HID", "ACPI0013");
	aml_name_int(a, "_UID", 0);
	aml_resources(a, "_CRS");
	aml_interrupts(a, true, false, &irq, 1);
	aml_resources_end(a);
	aml_method(a, "_EVT", 1, true);
	aml_op(a, AML_STORE);
	aml_name(a, "\\_SB.ESEL");
	aml_op(a, AML_LOCAL0);
	micro_event(a, BIOS_EVENT_POWER_BUTTON, "\\_SB.PWRB");
	for (unsigned i = 0; i < c->nparts; i++)
		if (c->parts[i]->notify)
			micro_event(a, c->parts[i]->event, c->parts[i]->notify);
	aml_end(a);
	aml_end(a);
}

void acpi_dsdt_micro(const struct bios_config *c, struct aml *a)
{
	aml_scope(a, "\\_SB");
	micro_events(c, a);
	acpi_dsdt_serial(c, a);
	if (!c->no_rtc)
		acpi_dsdt_rtc(a);
	acpi_dsdt_isa_parts(c, a);
	micro_virtio(c, a);
	aml_end(a);
	acpi_dsdt_cpus(c, a);

	aml_op(a, AML_NAME);
	aml_name(a, "\\_S5");
	aml_package(a, 4);
	aml_int(a, 5);
	aml_int(a, 0);
	aml_int(a, 0);
	aml_int(a, 0);
	aml_end(a);
}
