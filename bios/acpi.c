/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * acpi.c: the fixed tables (FACS, FADT, MADT, HPET, WAET, RSDT, XSDT, RSDP) and their relocation.
 *
 * ACPI 6.5 chapter 5.2; the PC's FADT is revision 3 (ACPI 2.0), which Windows XP reads; micro's is
 * revision 6 with hardware-reduced ACPI (4.1). HPET: IA-PC HPET 1.0a, 3.2.4. Linker script: the
 * format SeaBIOS and OVMF take from etc/table-loader.
 */
#include <assert.h>
#include <stdlib.h>

#include "bios/acpi.h"

#define TABLE_HEADER 36
#define HEADER_CHECKSUM 9
#define RSDP_RSDT 16
#define RSDP_XSDT 24

uint32_t bios_apic_id(const struct bios_config *c, unsigned cpu)
{
	return c->apic_ids ? c->apic_ids[cpu] : cpu;
}

static unsigned cpu_slots(const struct bios_config *c)
{
	return MAX(c->ncpus, c->max_cpus);
}

static uint8_t checksum(const uint8_t *p, size_t len)
{
	uint8_t sum = 0;

	while (len--)
		sum += *p++;
	return -sum;
}

static void table_begin(struct acpi_tables *t, const struct bios_config *c, const char *signature,
			uint8_t revision)
{
	struct aml *a = &t->a;

	while (a->len % 16)
		aml_byte(a, 0);
	assert(t->ntables < ACPI_MAX_TABLES);
	t->tables[t->ntables].off = a->len;
	aml_bytes(a, signature, 4);
	aml_dword(a, 0);		/* length: table_end */
	aml_byte(a, revision);
	aml_byte(a, 0);			/* checksum: acpi_relocate */
	aml_bytes(a, "MINIVM", 6);
	aml_bytes(a, c->machine == BIOS_PC ? "MVMPC   " : "MVMMICRO", 8);
	aml_dword(a, c->version);
	aml_bytes(a, "MVMM", 4);
	aml_dword(a, 1);
}

/* Returns the table's offset. */
static uint32_t table_end(struct acpi_tables *t)
{
	uint32_t off = t->tables[t->ntables].off, len = t->a.len - off;

	st_le32(t->a.data + off + 4, len);
	t->tables[t->ntables++].len = len;
	return off;
}

/* A pointer of `size` bytes at `at` in the tables to the table at offset `target`. */
static void pointer_set(struct acpi_tables *t, uint32_t at, unsigned size, uint32_t target)
{
	assert(t->npointers < ACPI_MAX_POINTERS);
	t->pointers[t->npointers++] = (struct acpi_pointer){ .off = at, .size = size };
	if (size == 8)
		st_le64(t->a.data + at, target);
	else
		st_le32(t->a.data + at, target);
}

static void facs_build(struct acpi_tables *t)
{
	struct aml *a = &t->a;
	uint8_t zero[64 - 8] = { 0 };

	t->facs = a->len;		/* the first: aligned like the whole */
	zero[32 - 8] = 1;		/* version */
	aml_bytes(a, "FACS", 4);
	aml_dword(a, 64);
	aml_bytes(a, zero, sizeof(zero));
}

/* Generic address structure (5.2.3.2). */
static void gas_io(struct aml *a, unsigned bits, unsigned access, uint64_t port)
{
	aml_byte(a, 1);			/* system I/O */
	aml_byte(a, bits);
	aml_byte(a, 0);
	aml_byte(a, access);
	aml_qword(a, port);
}

static void gas_none(struct aml *a)
{
	const uint8_t zero[12] = { 0 };

	aml_bytes(a, zero, sizeof(zero));
}

enum fadt_flags {
	FADT_WBINVD = 1 << 0, FADT_PROC_C1 = 1 << 2, FADT_PWR_BUTTON = 1 << 4,
	FADT_SLP_BUTTON = 1 << 5, FADT_RTC_S4 = 1 << 7,
	FADT_RESET_REG = 1 << 10, FADT_PLATFORM_CLOCK = 1 << 15, FADT_HW_REDUCED = 1 << 20,
};
enum { BOOT_LEGACY_DEVICES = 1 << 0, BOOT_8042 = 1 << 1, BOOT_NO_VGA = 1 << 2,
       BOOT_NO_RTC = 1 << 5 };

static uint16_t fadt_boot_arch(const struct bios_config *c)
{
	return (c->machine == BIOS_PC ? BOOT_LEGACY_DEVICES : 0) | (c->no_kbd ? 0 : BOOT_8042) |
	       (c->graphics ? 0 : BOOT_NO_VGA) | (c->no_rtc ? BOOT_NO_RTC : 0);
}

static uint16_t pm_base(const struct bios_config *c)
{
	return c->pm_base ? c->pm_base : BIOS_PM_BASE;
}

/* The part all revisions share: up to and without the X_ fields. Offsets as in table 5.9. */
static void fadt_first_part(struct acpi_tables *t, const struct bios_config *c, uint32_t dsdt)
{
	bool pc = c->machine == BIOS_PC;
	struct aml *a = &t->a;
	uint32_t base = t->tables[t->ntables].off;

	aml_dword(a, 0);
	if (pc)
		pointer_set(t, base + 36, 4, t->facs);
	aml_dword(a, 0);
	pointer_set(t, base + 40, 4, dsdt);
	aml_byte(a, 0);
	/* preferred profile: desktop; 0: unspecified */
	aml_byte(a, pc ? 1 : 0);
	aml_word(a, pc ? BIOS_SCI_IRQ : 0);
	aml_dword(a, 0);				/* SMI_CMD: none, ACPI mode is always on */
	aml_dword(a, 0);				/* ACPI_ENABLE .. PSTATE_CNT */
	aml_dword(a, pc ? pm_base(c) : 0);		/* PM1a event block */
	aml_dword(a, 0);
	aml_dword(a, pc ? pm_base(c) + 4 : 0);	/* PM1a control block */
	aml_dword(a, 0);
	aml_dword(a, 0);
	aml_dword(a, pc ? pm_base(c) + 8 : 0);	/* PM timer */
	aml_dword(a, pc ? BIOS_GPE0_BASE : 0);
	aml_dword(a, 0);
	/* lengths: PM1 event, PM1 control, PM2, timer, GPE0, GPE1 */
	aml_byte(a, pc ? 4 : 0);
	aml_byte(a, pc ? 2 : 0);
	aml_byte(a, 0);
	aml_byte(a, pc ? 4 : 0);
	aml_byte(a, pc ? 4 : 0);
	aml_byte(a, 0);
	aml_byte(a, 0);
	aml_byte(a, 0);
	aml_word(a, 0xfff);				/* no C2, no C3 */
	aml_word(a, 0xfff);
	aml_dword(a, 0);				/* flush size, stride: WBINVD works */
	aml_byte(a, 0);
	aml_byte(a, 0);
	aml_byte(a, 0);					/* day alarm, month alarm */
	aml_byte(a, 0);
	aml_byte(a, c->no_rtc ? 0 : 0x32);		/* century in the CMOS */
	aml_word(a, fadt_boot_arch(c));
	aml_byte(a, 0);
}

static uint32_t fadt_pc(struct acpi_tables *t, const struct bios_config *c, uint32_t dsdt)
{
	struct aml *a = &t->a;
	uint32_t base;

	table_begin(t, c, "FACP", 3);
	base = t->tables[t->ntables].off;
	fadt_first_part(t, c, dsdt);
	aml_dword(a, FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_RTC_S4 | FADT_RESET_REG |
		  (c->hpet ? FADT_PLATFORM_CLOCK : 0));
	gas_io(a, 8, 1, 0xcf9);
	aml_byte(a, 0x0f);				/* full reset */
	aml_byte(a, 0);
	aml_word(a, 0);
	aml_qword(a, 0);				/* X_FIRMWARE_CTRL: the 32-bit one holds */
	aml_qword(a, 0);
	pointer_set(t, base + 140, 8, dsdt);
	gas_io(a, 32, 2, pm_base(c));
	gas_none(a);
	gas_io(a, 16, 2, pm_base(c) + 4);
	gas_none(a);
	gas_none(a);
	gas_io(a, 32, 3, pm_base(c) + 8);
	gas_io(a, 32, 1, BIOS_GPE0_BASE);
	gas_none(a);
	assert(a->len - base == 244);
	return table_end(t);
}

static uint32_t fadt_micro(struct acpi_tables *t, const struct bios_config *c, uint32_t dsdt)
{
	struct aml *a = &t->a;
	uint32_t base;
	unsigned i;

	table_begin(t, c, "FACP", 6);
	base = t->tables[t->ntables].off;
	fadt_first_part(t, c, dsdt);
	aml_dword(a, FADT_WBINVD | FADT_PROC_C1 | FADT_PWR_BUTTON | FADT_SLP_BUTTON |
			     FADT_RESET_REG | FADT_HW_REDUCED);
	gas_io(a, 8, 1, BIOS_MICRO_PM + 2);
	aml_byte(a, 1);
	aml_word(a, 0);					/* ARM boot flags */
	aml_byte(a, 3);					/* minor version */
	aml_qword(a, 0);
	aml_qword(a, 0);
	pointer_set(t, base + 140, 8, dsdt);
	for (i = 0; i < 8; i++)
		gas_none(a);
	gas_io(a, 8, 1, BIOS_MICRO_PM);			/* sleep control, sleep status */
	gas_io(a, 8, 1, BIOS_MICRO_PM + 1);
	aml_bytes(a, "minivmm", 8);			/* hypervisor vendor identity */
	assert(a->len - base == 276);
	return table_end(t);
}

static void madt_overrides(const struct bios_config *c, struct aml *a)
{
	unsigned irq;

	for (irq = 0; irq < 16; irq++) {
		/*
		 * The timer is wired to pin 2. The SCI and what PIRQs can reach (5, 9, 10, 11) are
		 * level, active high.
		 */
		bool timer = irq == 0, level = 0x0e20 >> irq & 1;

		if (!timer && !level)
			continue;
		aml_byte(a, 2);
		aml_byte(a, 10);
		aml_byte(a, 0);
		aml_byte(a, irq);
		aml_dword(a, timer ? 2 : irq);
		aml_word(a, timer ? 0 : 0xd);
	}
}

static uint32_t madt_build(struct acpi_tables *t, const struct bios_config *c)
{
	struct aml *a = &t->a;
	bool x2apic = false;
	unsigned i;

	table_begin(t, c, "APIC", 3);
	aml_dword(a, LAPIC_GPA);
	aml_dword(a, c->machine == BIOS_PC);		/* PCAT_COMPAT */
	for (i = 0; i < cpu_slots(c); i++) {
		/* enabled, or online capable */
		uint32_t id = bios_apic_id(c, i), flags = i < c->ncpus ? 1 : 2;

		if (id < 255 && i < 255) {
			aml_byte(a, 0);
			aml_byte(a, 8);
			aml_byte(a, i);
			aml_byte(a, id);
			aml_dword(a, flags);
			continue;
		}
		x2apic = true;
		aml_byte(a, 9);
		aml_byte(a, 16);
		aml_word(a, 0);
		aml_dword(a, id);
		aml_dword(a, flags);
		aml_dword(a, i);
	}
	aml_byte(a, 1);					/* IOAPIC */
	aml_byte(a, 12);
	aml_byte(a, 0);
	aml_byte(a, 0);
	aml_dword(a, IOAPIC_GPA);
	aml_dword(a, 0);
	if (c->machine == BIOS_PC)
		madt_overrides(c, a);
	aml_byte(a, 4);					/* NMI: LINT1 of every processor */
	aml_byte(a, 6);
	aml_byte(a, 0xff);
	aml_word(a, 0);
	aml_byte(a, 1);
	if (x2apic) {
		aml_byte(a, 0xa);
		aml_byte(a, 12);
		aml_word(a, 0);
		aml_dword(a, UINT32_MAX);
		aml_byte(a, 1);
		aml_byte(a, 0);
		aml_word(a, 0);
	}
	return table_end(t);
}

static uint32_t hpet_build(struct acpi_tables *t, const struct bios_config *c)
{
	struct aml *a = &t->a;

	table_begin(t, c, "HPET", 1);
	/* 3 timers, 64 bits, legacy routes, Intel */
	aml_dword(a, 0x8086a201);
	aml_byte(a, 0);					/* memory */
	aml_byte(a, 64);
	aml_byte(a, 0);
	aml_byte(a, 0);
	aml_qword(a, HPET_GPA);
	aml_byte(a, 0);
	aml_word(a, 0);
	aml_byte(a, 0);
	return table_end(t);
}

/*
 * Windows: the PM timer reads right the first time (Microsoft, Windows ACPI Emulated Devices
 * Table).
 */
static uint32_t waet_build(struct acpi_tables *t, const struct bios_config *c)
{
	table_begin(t, c, "WAET", 1);
	aml_dword(&t->a, 1 << 1);
	return table_end(t);
}

/* RSDT with 4-byte, XSDT with 8-byte pointers. */
static uint32_t root_build(struct acpi_tables *t, const struct bios_config *c, unsigned size,
			   const uint32_t *tables, unsigned n)
{
	unsigned i;

	table_begin(t, c, size == 8 ? "XSDT" : "RSDT", 1);
	for (i = 0; i < n; i++) {
		aml_dword(&t->a, 0);
		if (size == 8)
			aml_dword(&t->a, 0);
		pointer_set(t, t->a.len - size, size, tables[i]);
	}
	return table_end(t);
}

void acpi_build(const struct bios_config *c, struct acpi_tables *t)
{
	bool pc = c->machine == BIOS_PC;
	uint32_t list[8], dsdt, rsdt, xsdt;
	unsigned n = 0;

	memset(t, 0, sizeof(*t));
	if (pc)
		facs_build(t);
	table_begin(t, c, "DSDT", pc ? 1 : 2);
	if (pc)
		acpi_dsdt_pc(c, &t->a);
	else
		acpi_dsdt_micro(c, &t->a);
	assert(t->a.depth == 0);
	dsdt = table_end(t);
	list[n++] = pc ? fadt_pc(t, c, dsdt) : fadt_micro(t, c, dsdt);
	list[n++] = madt_build(t, c);
	if (c->hpet)
		list[n++] = hpet_build(t, c);
	if (pc)
		list[n++] = waet_build(t, c);
	rsdt = root_build(t, c, 4, list, n);
	xsdt = root_build(t, c, 8, list, n);

	memcpy(t->rsdp, "RSD PTR ", 8);
	memcpy(t->rsdp + 9, "MINIVM", 6);
	t->rsdp[15] = 2;
	st_le32(t->rsdp + RSDP_RSDT, rsdt);
	st_le32(t->rsdp + 20, ACPI_RSDP_LEN);
	st_le64(t->rsdp + RSDP_XSDT, xsdt);
	t->pointers[t->npointers++] = (struct acpi_pointer){ true, RSDP_RSDT, 4 };
	t->pointers[t->npointers++] = (struct acpi_pointer){ true, RSDP_XSDT, 8 };
	while (t->a.len % 64)
		aml_byte(&t->a, 0);
}

void acpi_free(struct acpi_tables *t)
{
	aml_free(&t->a);
}

void acpi_relocate(struct acpi_tables *t, uint64_t base)
{
	unsigned i;

	for (i = 0; i < t->npointers; i++) {
		uint8_t *p = (t->pointers[i].in_rsdp ? t->rsdp : t->a.data) + t->pointers[i].off;

		if (t->pointers[i].size == 8)
			st_le64(p, ld_le64(p) + base);
		else
			st_le32(p, ld_le32(p) + base);
	}
	for (i = 0; i < t->ntables; i++) {
		uint8_t *p = t->a.data + t->tables[i].off;

		p[HEADER_CHECKSUM] = 0;
		p[HEADER_CHECKSUM] = checksum(p, t->tables[i].len);
	}
	t->rsdp[8] = t->rsdp[32] = 0;
	t->rsdp[8] = checksum(t->rsdp, 20);		/* ACPI 1.0 part */
	t->rsdp[32] = checksum(t->rsdp, ACPI_RSDP_LEN);
}

/* --- the linker script: entries of 128 bytes --- */
enum { LOADER_ALLOCATE = 1, LOADER_ADD_POINTER = 2, LOADER_ADD_CHECKSUM = 3 };
enum { ZONE_HIGH = 1, ZONE_FSEG = 2 };
#define LOADER_ENTRY 128
#define LOADER_NAME 56
#define TABLES_FILE "etc/acpi/tables"
#define RSDP_FILE "etc/acpi/rsdp"

static void loader_allocate(uint8_t *e, const char *file, uint32_t align, uint8_t zone)
{
	st_le32(e, LOADER_ALLOCATE);
	strcpy((char *)e + 4, file);
	st_le32(e + 4 + LOADER_NAME, align);
	e[8 + LOADER_NAME] = zone;
}

static void loader_pointer(uint8_t *e, const struct acpi_pointer *p)
{
	st_le32(e, LOADER_ADD_POINTER);
	strcpy((char *)e + 4, p->in_rsdp ? RSDP_FILE : TABLES_FILE);
	strcpy((char *)e + 4 + LOADER_NAME, TABLES_FILE);
	st_le32(e + 4 + 2 * LOADER_NAME, p->off);
	e[8 + 2 * LOADER_NAME] = p->size;
}

static void loader_checksum(uint8_t *e, const char *file, uint32_t at, uint32_t start, uint32_t len)
{
	st_le32(e, LOADER_ADD_CHECKSUM);
	strcpy((char *)e + 4, file);
	st_le32(e + 4 + LOADER_NAME, at);
	st_le32(e + 8 + LOADER_NAME, start);
	st_le32(e + 12 + LOADER_NAME, len);
}

size_t acpi_loader_script(const struct acpi_tables *t, uint8_t **script)
{
	size_t n = 2 + t->npointers + t->ntables + 2;
	uint8_t *e = xcalloc(n, LOADER_ENTRY);
	unsigned i;

	*script = e;
	loader_allocate(e, RSDP_FILE, 16, ZONE_FSEG);
	loader_allocate(e += LOADER_ENTRY, TABLES_FILE, 64, ZONE_HIGH);
	for (i = 0; i < t->npointers; i++)
		loader_pointer(e += LOADER_ENTRY, &t->pointers[i]);
	for (i = 0; i < t->ntables; i++)
		loader_checksum(e += LOADER_ENTRY, TABLES_FILE, t->tables[i].off + HEADER_CHECKSUM,
				t->tables[i].off, t->tables[i].len);
	loader_checksum(e += LOADER_ENTRY, RSDP_FILE, 8, 0, 20);
	loader_checksum(e += LOADER_ENTRY, RSDP_FILE, 32, 0, ACPI_RSDP_LEN);
	return n * LOADER_ENTRY;
}
