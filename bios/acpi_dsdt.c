/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * acpi_dsdt.c: the namespace of the PC: host bridge with its windows and interrupt routing (PIIX3
 * link devices LNKA-LNKD), ISA devices, sleep states, PCI hot-plug by GPE 1, generation id by GPE
 * 5.
 *
 * ACPI 6.5 chapters 5.6 (events), 6 (device configuration), 7 (power); Intel 82371SB (PIIX3) 2.2
 * (PIRQRC[A:D] at 0x60-0x63 of function 0). Hot-plug registers: devices/pci/acpi_hotplug.c.
 */
#include <stdio.h>

#include "bios/acpi.h"
#include "devices/chips.h"

#define HOTPLUG_FIRST_SLOT 3		/* 0: host bridge, 1: PIIX3, 2: VGA */
#define FW_CFG_PORT 0x510

/* --- sleep states --- */
static void dsdt_sleep_state(struct aml *a, const char *name, unsigned type)
{
	aml_op(a, AML_NAME);
	aml_name(a, name);
	aml_package(a, 4);
	aml_int(a, type);
	aml_int(a, type);
	aml_int(a, 0);
	aml_int(a, 0);
	aml_end(a);
}

/* --- processors --- */
/* The old object as far as it reaches (Windows XP knows no other), the device beyond. */
void acpi_dsdt_cpus(const struct bios_config *c, struct aml *a)
{
	unsigned i, n = MAX(c->ncpus, c->max_cpus);
	char name[8];

	aml_scope(a, "\\_SB");
	for (i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "C%03X", i & 0xfff);
		if (i < 255 && bios_apic_id(c, i) < 255) {
			aml_begin(a, AML_PROCESSOR);
			aml_name(a, name);
			aml_byte(a, i);
			aml_dword(a, 0);
			aml_byte(a, 0);
		} else {
			aml_device(a, name);
			aml_name_string(a, "_HID", "ACPI0007");
			aml_name_int(a, "_UID", i);
		}
		aml_end(a);
	}
	aml_end(a);
}

/* --- what both machines may have --- */
void acpi_dsdt_serial(const struct bios_config *c, struct aml *a)
{
	static const struct {
		uint16_t port;
		uint8_t irq;
	} com[4] = { { 0x3f8, 4 }, { 0x2f8, 3 }, { 0x3e8, 4 }, { 0x2e8, 3 } };
	char name[] = "COM1";
	unsigned i;

	for (i = 0; i < 4; i++) {
		if (!(c->serial_mask >> i & 1))
			continue;
		name[3] = '1' + i;
		aml_device(a, name);
		aml_name_eisaid(a, "_HID", "PNP0501");
		aml_name_int(a, "_UID", i + 1);
		aml_name_int(a, "_STA", 0xf);
		aml_resources(a, "_CRS");
		aml_io(a, com[i].port, 8);
		aml_irq_edge(a, com[i].irq);
		aml_resources_end(a);
		aml_end(a);
	}
}

void acpi_dsdt_rtc(struct aml *a)
{
	aml_device(a, "RTC");
	aml_name_eisaid(a, "_HID", "PNP0B00");
	aml_resources(a, "_CRS");
	aml_io(a, 0x70, 2);
	aml_irq_edge(a, 8);
	aml_resources_end(a);
	aml_end(a);
}

static void dsdt_pvpanic(struct aml *a)
{
	aml_device(a, "PEVT");
	aml_name_string(a, "_HID", "QEMU0001");
	aml_name_int(a, "_STA", 0xf);
	aml_resources(a, "_CRS");
	aml_io(a, PVPANIC_PORT, 1);
	aml_resources_end(a);
	aml_end(a);
}

const struct acpi_part acpi_pvpanic = { .isa = dsdt_pvpanic };

/* Microsoft, Virtual Machine Generation ID: _CID and _DDN are the names drivers look for. */
static void dsdt_vmgenid(struct aml *a)
{
	aml_device(a, "VGEN");
	aml_name_string(a, "_HID", "MVMM0001");
	aml_op(a, AML_NAME);
	aml_name(a, "_CID");
	aml_package(a, 2);
	aml_string(a, "VM_Gen_Counter");	/* the specification's, longer than ACPI allows */
	aml_string(a, "VMGENCTR");		/* Hyper-V's second one */
	aml_end(a);
	aml_name_string(a, "_DDN", "VM_Gen_Counter");
	aml_name_int(a, "_STA", 0xf);
	aml_op(a, AML_NAME);
	aml_name(a, "ADDR");
	aml_package(a, 2);
	aml_int(a, VMGENID_GPA);
	aml_int(a, 0);
	aml_end(a);
	aml_end(a);
}

const struct acpi_part acpi_vmgenid = {
	.board = dsdt_vmgenid,
	.notify = "\\_SB.VGEN",
	.gpe = BIOS_GPE_VMGENID,
	.event = BIOS_EVENT_VMGENID,
};

void acpi_dsdt_isa_parts(const struct bios_config *c, struct aml *a)
{
	for (unsigned i = 0; i < c->nparts; i++)
		if (c->parts[i]->isa)
			c->parts[i]->isa(a);
}

void acpi_dsdt_board_parts(const struct bios_config *c, struct aml *a)
{
	for (unsigned i = 0; i < c->nparts; i++)
		if (c->parts[i]->board)
			c->parts[i]->board(a);
}

void acpi_dsdt_notify(struct aml *a, const char *path)
{
	aml_op(a, AML_NOTIFY);
	aml_name(a, path);
	aml_int(a, 0x80);
}

/* --- ISA --- */
static void dsdt_kbd(struct aml *a)
{
	aml_device(a, "KBD");
	aml_name_eisaid(a, "_HID", "PNP0303");
	aml_name_int(a, "_STA", 0xf);
	aml_resources(a, "_CRS");
	aml_io(a, 0x60, 1);
	aml_io(a, 0x64, 1);
	aml_irq_edge(a, 1);
	aml_resources_end(a);
	aml_end(a);

	aml_device(a, "MOU");
	aml_name_eisaid(a, "_HID", "PNP0F13");
	aml_name_int(a, "_STA", 0xf);
	aml_resources(a, "_CRS");
	aml_irq_edge(a, 12);
	aml_resources_end(a);
	aml_end(a);
}

static void dsdt_fw_cfg(struct aml *a)
{
	aml_device(a, "FWCF");
	aml_name_string(a, "_HID", "QEMU0002");
	aml_name_int(a, "_STA", 0xb);		/* present, not shown in the user interface */
	aml_resources(a, "_CRS");
	aml_io(a, FW_CFG_PORT, 0xc);
	aml_resources_end(a);
	aml_end(a);
}

static void dsdt_hpet(struct aml *a)
{
	aml_device(a, "HPET");
	aml_name_eisaid(a, "_HID", "PNP0103");
	aml_name_int(a, "_UID", 0);
	aml_resources(a, "_CRS");
	aml_memory32(a, HPET_GPA, 0x400);
	aml_resources_end(a);
	aml_end(a);
}

/* Ports of the board that no other device claims. */
static void dsdt_board_ports(const struct bios_config *c, struct aml *a)
{
	aml_device(a, "BRD");
	aml_name_eisaid(a, "_HID", "PNP0C02");
	aml_name_int(a, "_UID", 1);
	aml_resources(a, "_CRS");
	aml_io(a, c->pm_base ? c->pm_base : BIOS_PM_BASE, 0x40);
	aml_io(a, BIOS_SMB_BASE, 0x10);
	aml_io(a, BIOS_PCIHP_BASE, 0x18);
	aml_io(a, BIOS_GPE0_BASE, 4);
	aml_io(a, 0xb2, 2);
	aml_resources_end(a);
	aml_end(a);
}

static void dsdt_isa(const struct bios_config *c, struct aml *a)
{
	static const char *const prq[4] = { "PRQ0", "PRQ1", "PRQ2", "PRQ3" };
	unsigned i;

	aml_device(a, "ISA");
	aml_name_int(a, "_ADR", 0x00010000);
	aml_region(a, "P40C", AML_PCI_CONFIG, 0x60, 4);
	aml_field(a, "P40C", AML_BYTE_ACC, false);
	for (i = 0; i < 4; i++)
		aml_field_unit(a, prq[i], 8);
	aml_end(a);
	dsdt_board_ports(c, a);
	if (!c->no_rtc)
		acpi_dsdt_rtc(a);
	if (!c->no_kbd)
		dsdt_kbd(a);
	acpi_dsdt_serial(c, a);
	dsdt_fw_cfg(a);
	acpi_dsdt_isa_parts(c, a);
	aml_end(a);
}

/* --- interrupt routing --- */
/* in the extended interrupt descriptor: behind tag, length (2), flags, count */
#define INTERRUPT_NUMBER 5
static const uint32_t pirq_choice[] = { 5, 10, 11 };

/* LNKA-LNKD: each reads and writes its PIIX3 register PIRQRC; bit 7 set means not routed. */
static void dsdt_link(struct aml *a, unsigned n)
{
	char name[] = "LNKA", reg[] = "\\_SB.PCI0.ISA.PRQ0";
	const uint32_t none = 0;

	name[3] += n;
	reg[sizeof(reg) - 2] += n;
	aml_device(a, name);
	aml_name_eisaid(a, "_HID", "PNP0C0F");
	aml_name_int(a, "_UID", n);
	aml_resources(a, "_PRS");
	aml_interrupts(a, true, true, pirq_choice, ARRAY_SIZE(pirq_choice));
	aml_resources_end(a);

	aml_method(a, "_STA", 0, false);
	aml_begin(a, AML_IF);
	aml_op(a, AML_AND);
	aml_name(a, reg);
	aml_int(a, 0x80);
	aml_op(a, AML_ZERO);			/* no target */
	aml_op(a, AML_RETURN);
	aml_int(a, 0x9);			/* present, disabled */
	aml_end(a);
	aml_op(a, AML_RETURN);
	aml_int(a, 0xb);
	aml_end(a);

	aml_method(a, "_DIS", 0, false);
	aml_op(a, AML_OR);
	aml_name(a, reg);
	aml_int(a, 0x80);
	aml_name(a, reg);
	aml_end(a);

	aml_resources(a, "BUF0");
	aml_interrupts(a, true, true, &none, 1);
	aml_resources_end(a);
	aml_op(a, AML_CREATE_DWORD);
	aml_name(a, "BUF0");
	aml_int(a, INTERRUPT_NUMBER);
	aml_name(a, "IRQW");
	aml_method(a, "_CRS", 0, true);
	aml_begin(a, AML_IF);
	aml_op(a, AML_LNOT);
	aml_op(a, AML_AND);
	aml_name(a, reg);
	aml_int(a, 0x80);
	aml_op(a, AML_ZERO);
	aml_op(a, AML_STORE);
	aml_name(a, reg);
	aml_name(a, "IRQW");
	aml_end(a);
	aml_op(a, AML_RETURN);
	aml_name(a, "BUF0");
	aml_end(a);

	aml_method(a, "_SRS", 1, true);
	aml_op(a, AML_CREATE_DWORD);
	aml_op(a, AML_ARG0);
	aml_int(a, INTERRUPT_NUMBER);
	aml_name(a, "IRQS");
	aml_op(a, AML_STORE);
	aml_name(a, "IRQS");
	aml_name(a, reg);
	aml_end(a);
	aml_end(a);
}

/* The SCI: function 3 of the PIIX is wired to interrupt 9. */
static void dsdt_link_sci(struct aml *a)
{
	const uint32_t sci = BIOS_SCI_IRQ;

	aml_device(a, "LNKS");
	aml_name_eisaid(a, "_HID", "PNP0C0F");
	aml_name_int(a, "_UID", 4);
	aml_resources(a, "_PRS");
	aml_interrupts(a, true, true, &sci, 1);
	aml_resources_end(a);
	aml_name_int(a, "_STA", 0xb);
	aml_method(a, "_DIS", 0, false);
	aml_end(a);
	aml_resources(a, "_CRS");
	aml_interrupts(a, true, true, &sci, 1);
	aml_resources_end(a);
	aml_method(a, "_SRS", 1, false);
	aml_end(a);
	aml_end(a);
}

static void dsdt_prt(struct aml *a)
{
	static const char *const link[4] = { "LNKA", "LNKB", "LNKC", "LNKD" };
	unsigned slot, pin;

	aml_op(a, AML_NAME);
	aml_name(a, "_PRT");
	aml_package(a, PCI_SLOTS * 4);
	for (slot = 0; slot < PCI_SLOTS; slot++) {
		for (pin = 0; pin < 4; pin++) {
			aml_package(a, 4);
			aml_int(a, slot << 16 | 0xffff);
			aml_int(a, pin);
			aml_name(a,
				 slot == 1 && pin == 0 ? "LNKS" : link[pci_intx_pirq(slot, pin)]);
			aml_int(a, 0);
			aml_end(a);
		}
	}
	aml_end(a);
}

/* --- host bridge --- */
static void dsdt_windows(const struct bios_config *c, struct aml *a)
{
	uint64_t base64, limit64;

	bios_pci64_window(c, &base64, &limit64);
	aml_resources(a, "_CRS");
	aml_bus_numbers(a, 0, 255);
	aml_io(a, 0xcf8, 8);
	aml_io_window(a, 0, 0xcf7);
	aml_io_window(a, 0xd00, 0xffff);
	aml_memory32_window(a, 0xa0000, 0xbffff, true);
	/* Firmware puts BARs from 2 GiB on when RAM ends there. */
	aml_memory32_window(a, c->ram_low <= 2 * GiB ? 0x80000000u : BIOS_PCI_HOLE,
			    BIOS_PCI_HOLE_END - 1, false);
	if (limit64 > base64)
		aml_memory64_window(a, base64, limit64 - 1);
	aml_resources_end(a);
}

static void slot_name(char *name, unsigned slot)
{
	snprintf(name, 5, "S%02X_", slot << 3 & 0xff);
}

static void dsdt_slots(struct aml *a)
{
	unsigned slot;
	char name[5];

	for (slot = HOTPLUG_FIRST_SLOT; slot < PCI_SLOTS; slot++) {
		slot_name(name, slot);
		aml_device(a, name);
		aml_name_int(a, "_ADR", slot << 16);
		aml_name_int(a, "_SUN", slot);
		aml_method(a, "_EJ0", 1, false);
		aml_name(a, "PCEJ");
		aml_int(a, slot);
		aml_end(a);
		aml_end(a);
	}
}

/*
 * PCIU, PCID: slots that came, slots that shall go; a one written to B0EJ ejects. BNUM selects the
 * bus: 0.
 */
static void dsdt_hotplug(struct aml *a)
{
	unsigned slot;
	char name[5];

	aml_region(a, "PCST", AML_SYSTEM_IO, BIOS_PCIHP_BASE, 8);
	aml_field(a, "PCST", AML_DWORD_ACC, true);
	aml_field_unit(a, "PCIU", 32);
	aml_field_unit(a, "PCID", 32);
	aml_end(a);
	aml_region(a, "SEJ", AML_SYSTEM_IO, BIOS_PCIHP_BASE + 8, 4);
	aml_field(a, "SEJ", AML_DWORD_ACC, true);
	aml_field_unit(a, "B0EJ", 32);
	aml_end(a);
	aml_region(a, "BNMR", AML_SYSTEM_IO, BIOS_PCIHP_BASE + 0x10, 4);
	aml_field(a, "BNMR", AML_DWORD_ACC, true);
	aml_field_unit(a, "BNUM", 32);
	aml_end(a);
	aml_op(a, AML_MUTEX);
	aml_name(a, "BLCK");
	aml_byte(a, 0);

	aml_method(a, "PCEJ", 1, true);
	aml_op(a, AML_ACQUIRE);
	aml_name(a, "BLCK");
	aml_word(a, 0xffff);
	aml_op(a, AML_STORE);
	aml_int(a, 0);
	aml_name(a, "BNUM");
	aml_op(a, AML_STORE);
	aml_op(a, AML_SHIFT_LEFT);
	aml_int(a, 1);
	aml_op(a, AML_ARG0);
	aml_op(a, AML_ZERO);
	aml_name(a, "B0EJ");
	aml_op(a, AML_RELEASE);
	aml_name(a, "BLCK");
	aml_end(a);

	dsdt_slots(a);

	/* DVNT (mask of slots, event) */
	aml_method(a, "DVNT", 2, false);
	for (slot = HOTPLUG_FIRST_SLOT; slot < PCI_SLOTS; slot++) {
		slot_name(name, slot);
		aml_begin(a, AML_IF);
		aml_op(a, AML_AND);
		aml_op(a, AML_ARG0);
		aml_int(a, 1u << slot);
		aml_op(a, AML_ZERO);
		aml_op(a, AML_NOTIFY);
		aml_name(a, name);
		aml_op(a, AML_ARG1);
		aml_end(a);
	}
	aml_end(a);

	aml_method(a, "PCNT", 0, true);
	aml_op(a, AML_ACQUIRE);
	aml_name(a, "BLCK");
	aml_word(a, 0xffff);
	aml_op(a, AML_STORE);
	aml_int(a, 0);
	aml_name(a, "BNUM");
	aml_name(a, "DVNT");
	aml_name(a, "PCIU");
	aml_int(a, 1);				/* device check */
	aml_name(a, "DVNT");
	aml_name(a, "PCID");
	aml_int(a, 3);				/* eject request */
	aml_op(a, AML_RELEASE);
	aml_name(a, "BLCK");
	aml_end(a);
}

static void dsdt_events(const struct bios_config *c, struct aml *a)
{
	aml_scope(a, "\\_GPE");
	aml_name_string(a, "_HID", "ACPI0006");
	aml_method(a, "_E01", 0, false);
	aml_name(a, "\\_SB.PCI0.PCNT");
	aml_end(a);
	for (unsigned i = 0; i < c->nparts; i++) {
		char name[8];

		if (!c->parts[i]->notify)
			continue;
		snprintf(name, sizeof(name), "_E%02X", c->parts[i]->gpe & 0xff);
		aml_method(a, name, 0, false);
		acpi_dsdt_notify(a, c->parts[i]->notify);
		aml_end(a);
	}
	aml_end(a);
}
_Static_assert(BIOS_GPE_PCIHP == 1, "the name _E01 says the number");

void acpi_dsdt_pc(const struct bios_config *c, struct aml *a)
{
	unsigned i;

	aml_scope(a, "\\_SB");
	aml_device(a, "PCI0");
	aml_name_eisaid(a, "_HID", "PNP0A03");
	aml_name_int(a, "_ADR", 0);
	aml_name_int(a, "_UID", 0);
	dsdt_windows(c, a);
	dsdt_prt(a);
	dsdt_isa(c, a);
	dsdt_hotplug(a);
	aml_end(a);
	for (i = 0; i < 4; i++)
		dsdt_link(a, i);
	dsdt_link_sci(a);
	if (c->hpet)
		dsdt_hpet(a);
	acpi_dsdt_board_parts(c, a);
	aml_end(a);
	acpi_dsdt_cpus(c, a);
	dsdt_events(c, a);
	if (!c->no_s3)
		dsdt_sleep_state(a, "\\_S3", PIIX4_SLP_S3);
	if (!c->no_s4)
		dsdt_sleep_state(a, "\\_S4", PIIX4_SLP_S4);
	dsdt_sleep_state(a, "\\_S5", PIIX4_SLP_S5);
}
