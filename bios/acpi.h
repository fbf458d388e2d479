/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * acpi.h: the ACPI tables of both machines, as one relocatable piece. Either the machine puts it at
 * a fixed address (-kernel), or the firmware does, following the linker script of fw_cfg's
 * etc/table-loader.
 */
#ifndef BIOS_ACPI_H
#define BIOS_ACPI_H

#include "bios/aml.h"
#include "bios/boot.h"

#define ACPI_RSDP_LEN 36
#define ACPI_MAX_TABLES 16
#define ACPI_MAX_POINTERS 32

struct acpi_pointer {
	bool in_rsdp;			/* the pointer lies in the RSDP, else in the tables */
	/* where it lies; it holds the target's offset in the tables */
	uint32_t off, size;
};
struct acpi_tables {
	struct aml a;			/* all tables; FACS first, 64-byte aligned */
	uint8_t rsdp[ACPI_RSDP_LEN];
	struct acpi_pointer pointers[ACPI_MAX_POINTERS];
	unsigned npointers;
	struct { uint32_t off, len; } tables[ACPI_MAX_TABLES];	/* those with a checksum */
	unsigned ntables;
	uint32_t facs;			/* offset */
};

/* Builds everything; the checksums are those of unrelocated tables until acpi_relocate. */
void acpi_build(const struct bios_config *c, struct acpi_tables *t);
void acpi_free(struct acpi_tables *t);
/* For tables that will lie at base: pointers and checksums become final. */
void acpi_relocate(struct acpi_tables *t, uint64_t base);
/* The linker script for firmware. Returns its length; *script is the caller's to free. */
size_t acpi_loader_script(const struct acpi_tables *t, uint8_t **script);

/* --- inside: the namespace of each machine --- */
void acpi_dsdt_pc(const struct bios_config *c, struct aml *a);
void acpi_dsdt_micro(const struct bios_config *c, struct aml *a);
/* Used by both: processors, COM ports, RTC, devices. */
void acpi_dsdt_cpus(const struct bios_config *c, struct aml *a);
void acpi_dsdt_serial(const struct bios_config *c, struct aml *a);
void acpi_dsdt_rtc(struct aml *a);
/* Of the devices, below the ISA bridge and in \\_SB. */
void acpi_dsdt_isa_parts(const struct bios_config *c, struct aml *a);
void acpi_dsdt_board_parts(const struct bios_config *c, struct aml *a);
/* Notify (path, 0x80) */
void acpi_dsdt_notify(struct aml *a, const char *path);
uint32_t bios_apic_id(const struct bios_config *c, unsigned cpu);

#endif
