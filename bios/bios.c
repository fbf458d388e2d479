/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bios.c: chooses the way to boot and puts its parts together: tables into fw_cfg when firmware
 * runs, into memory when none does. Main thread, before the vCPUs run or with all of them parked.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bios/acpi.h"
#include "bios/fw_cfg.h"
#include "bios/load.h"
#include "bios/smbios.h"
#include "devices/ide/geometry.h"
#include "devices/pci/pci.h"
#include "vmm/base/log.h"

#define MIN_RAM MiB

#define PIIX_PM PCI_DEVFN(1, 3)

struct bios {
	struct bios_config c;
	uint32_t *apic_ids;
	struct bios_virtio_mmio *mmio;
	uint8_t rng_seed[32];
	char *strings[8 + BIOS_MAX_ROMS + 2 * BIOS_MAX_MODULES];
	unsigned nstrings;

	enum bios_kernel kind;		/* with a kernel */
	struct block *rom;
	struct acpi_tables acpi;	/* at their final place when no firmware runs */
	struct smbios smbios;
	uint64_t rsdp, tables, anchor, structures;
	struct fw_cfg *fw;
};

/* --- the copied configuration --- */
static const char *keep(struct bios *b, const char *s)
{
	if (!s)
		return NULL;
	assert(b->nstrings < ARRAY_SIZE(b->strings));
	return b->strings[b->nstrings++] = xstrdup(s);
}

static void keep_file(struct bios *b, struct bios_file *f)
{
	f->path = keep(b, f->path ? f->path : "(unnamed)");
}

static void *keep_array(const void *p, size_t n, size_t size)
{
	void *copy;

	if (!p || !n)
		return NULL;
	copy = xcalloc(n, size);
	memcpy(copy, p, n * size);
	return copy;
}

static void bios_copy_config(struct bios *b, const struct bios_config *from)
{
	struct bios_config *c = &b->c;
	unsigned i;

	*c = *from;
	c->max_cpus = MAX(c->max_cpus, c->ncpus);
	c->apic_ids = b->apic_ids = keep_array(c->apic_ids, c->max_cpus, sizeof(*c->apic_ids));
	c->mmio = b->mmio = keep_array(c->mmio, c->nmmio, sizeof(*c->mmio));
	c->name = keep(b, c->name);
	c->cmdline = keep(b, c->cmdline);
	c->boot_order = keep(b, c->boot_order);
	c->boot_devices = keep(b, c->boot_devices);
	keep_file(b, &c->firmware);
	keep_file(b, &c->kernel);
	keep_file(b, &c->initrd);
	for (i = 0; i < c->nroms; i++)
		keep_file(b, &c->roms[i]);
	for (i = 0; i < c->nmodules; i++) {
		keep_file(b, &c->modules[i].file);
		c->modules[i].cmdline = keep(b, c->modules[i].cmdline);
	}
	if (c->rng_seed) {
		memcpy(b->rng_seed, c->rng_seed, sizeof(b->rng_seed));
		c->rng_seed = b->rng_seed;
	}
}

static int bios_check_config(const struct bios_config *c, struct err *err)
{
	if (c->ram_low < MIN_RAM)
		return err_set(err, EINVAL,
			       "the guest needs at least 1 MiB of memory; give it more with -m");
	if (c->ram_low > BIOS_PCI_HOLE || c->ram_low % 4096 || c->ram_high % 4096 ||
	    c->ram_low + c->ram_high > block_size(c->ram))
		return err_set(err, EINVAL, "RAM of 0x%llx and 0x%llx bytes cannot be described",
			       (unsigned long long)c->ram_low, (unsigned long long)c->ram_high);
	if (!c->ncpus || c->nroms > BIOS_MAX_ROMS || c->nmodules > BIOS_MAX_MODULES)
		return err_set(
			err, EINVAL,
			"a machine with %u processors, %u ROMs, %u modules cannot be described",
			c->ncpus, c->nroms, c->nmodules);
	if (c->kernel.fd < 0 && c->firmware.fd < 0 && !c->pflash)
		return err_set(err, ENOENT, "nothing to boot: neither firmware nor -kernel");
	if (c->kernel.fd < 0 && c->initrd.fd >= 0)
		return err_set(err, EINVAL, "-initrd %s needs -kernel", c->initrd.path);
	if (c->kernel.fd < 0 && c->cmdline && *c->cmdline)
		return err_set(err, EINVAL, "-append needs -kernel");
	return 0;
}

/* --- firmware: everything goes through fw_cfg --- */
static void fw_cfg_memory_map(const struct bios_config *c, struct fw_cfg *fw)
{
	const struct e820_entry map[] = {
		{ 0, c->ram_low, E820_RAM },
		{ VMGENID_GPA, 0xff000000 - VMGENID_GPA, E820_RESERVED },
		{ 4 * GiB, c->ram_high, E820_RAM },
	};
	uint8_t packed[ARRAY_SIZE(map) * 20];
	unsigned i, n = ARRAY_SIZE(map) - !c->ram_high;

	for (i = 0; i < n; i++) {
		st_le64(packed + 20 * i, map[i].base);
		st_le64(packed + 20 * i + 8, map[i].len);
		st_le32(packed + 20 * i + 16, map[i].type);
	}
	fw_cfg_add_file(fw, "etc/e820", packed, 20 * n);
}

static void fw_cfg_boot(const struct bios_config *c, struct fw_cfg *fw)
{
	uint8_t states[6] = { 0x80, 0, 0, 0x01, 0x02, 0x80 };
	uint32_t ms;

	fw_cfg_add_key_u16(fw, FW_CFG_BOOT_MENU, c->boot_menu);
	if (c->boot_splash_ms >= 0) {
		uint16_t wait = htole16(MIN(c->boot_splash_ms, 0xffff));

		fw_cfg_add_file(fw, "etc/boot-menu-wait", &wait, sizeof(wait));
	}
	/* Without -boot reboot-timeout: stay at "no bootable device". */
	ms = htole32(c->boot_reboot_ms >= 0 ? (uint32_t)c->boot_reboot_ms : UINT32_MAX);
	fw_cfg_add_file(fw, "etc/boot-fail-wait", &ms, sizeof(ms));
	if (c->boot_devices)
		fw_cfg_add_file(fw, "bootorder", c->boot_devices, strlen(c->boot_devices) + 1);
	/* Sleep states: bit 7 says there is one, the rest is its SLP_TYP. */
	states[3] |= c->no_s3 ? 0 : 0x80;
	states[4] |= c->no_s4 ? 0 : 0x80;
	fw_cfg_add_file(fw, "etc/system-states", states, sizeof(states));
	/* Nobody looks at the screen: SeaBIOS shows its text on the first serial port too. */
	if (c->serial_console && (c->serial_mask & 1)) {
		uint64_t port = htole64(0x3f8);

		fw_cfg_add_file(fw, "etc/sercon-port", &port, sizeof(port));
	}
}

static int fw_cfg_rom(const struct bios_config *c, struct fw_cfg *fw, const struct bios_file *f,
		      struct err *err)
{
	const char *base = strrchr(f->path, '/');
	char name[FW_CFG_NAME_MAX];
	uint64_t size;
	void *data;
	int ret;

	ret = file_size(f, &size, err);
	if (ret < 0)
		return ret;
	if (size > 256 * KiB || size % 512)
		return err_set(err, EINVAL,
			       "%s is no option ROM: its size of %llu bytes is not a multiple of "
			       "512 up to 256 KiB",
			       f->path, (unsigned long long)size);
	data = xcalloc(1, size);
	ret = file_read(f, data, size, 0, err);
	if (ret == 0 && ld_le16(data) != 0xaa55)
		ret = err_set(err, ENOEXEC, "%s is no option ROM: it does not begin with 55 aa",
			      f->path);
	if (ret == 0) {
		snprintf(name, sizeof(name), "genroms/%.40s", base ? base + 1 : f->path);
		ret = fw_cfg_add_file(fw, name, data, size);
	}
	free(data);
	return ret;
}

/*
 * Firmware puts the power-management ports where it likes (SeaBIOS at 0x600, OVMF at 0xb000) and
 * fetches the tables after that: they must say where the ports are, or GRUB waits for ever for a
 * timer that nobody has, and nothing powers off.
 */
static void tables_selected(void *ctx)
{
	struct bios *b = ctx;
	uint16_t base = pci_bus_config_read(b->c.pci, PIIX_PM, 0x40, 2) & 0xffc0;
	size_t len = b->acpi.a.len;

	if (!(pci_bus_config_read(b->c.pci, PIIX_PM, 0x80, 1) & 1) || !base)
		base = BIOS_PM_BASE;
	if (base == (b->c.pm_base ? b->c.pm_base : BIOS_PM_BASE))
		return;
	b->c.pm_base = base;
	acpi_free(&b->acpi);
	acpi_build(&b->c, &b->acpi);
	/* the loader's script, which knows every place in them, stays */
	assert(b->acpi.a.len == len);
	fw_cfg_replace_file(b->fw, "etc/acpi/tables", b->acpi.a.data, len);
	trace(TRACE_BOOT, 0, "bios", "ACPI tables for power management at 0x%x", base);
}

static int bios_fill_fw_cfg(struct bios *b, struct fw_cfg *fw, struct err *err)
{
	const struct bios_config *c = &b->c;
	const uint64_t no_numa[1] = { 0 };
	unsigned i;
	int ret = 0;

	fw_cfg_add_key(fw, FW_CFG_UUID, c->uuid, sizeof(c->uuid));
	fw_cfg_add_key_u64(fw, FW_CFG_RAM_SIZE, c->ram_low + c->ram_high);
	fw_cfg_add_key_u16(fw, FW_CFG_NOGRAPHIC, !c->graphics);
	fw_cfg_add_key_u16(fw, FW_CFG_NB_CPUS, c->ncpus);
	fw_cfg_add_key_u16(fw, FW_CFG_MAX_CPUS, c->max_cpus);
	fw_cfg_add_key(fw, FW_CFG_NUMA, no_numa, sizeof(no_numa));
	fw_cfg_add_key_u32(fw, FW_CFG_IRQ0_OVERRIDE, 1);
	fw_cfg_memory_map(c, fw);
	fw_cfg_boot(c, fw);
	if (!c->no_acpi) {
		struct fw_cfg_hooks hooks = {
			.selected = c->pci && c->kernel.fd < 0 ? tables_selected : NULL, .ctx = b
		};
		uint8_t *script;
		size_t len = acpi_loader_script(&b->acpi, &script);

		fw_cfg_add_file(fw, "etc/acpi/rsdp", b->acpi.rsdp, sizeof(b->acpi.rsdp));
		fw_cfg_add_file_hooks(fw, "etc/acpi/tables", b->acpi.a.data, b->acpi.a.len, false,
				      &hooks);
		fw_cfg_add_file(fw, "etc/table-loader", script, len);
		free(script);
	}
	fw_cfg_add_file(fw, "etc/smbios/smbios-anchor", b->smbios.anchor, sizeof(b->smbios.anchor));
	fw_cfg_add_file(fw, "etc/smbios/smbios-tables", b->smbios.data, b->smbios.len);
	for (i = 0; ret == 0 && i < c->nroms; i++)
		ret = fw_cfg_rom(c, fw, &c->roms[i], err);
	return ret;
}

/* --- no firmware --- */
/* Everything goes to 0xe0000-0xfffff; RSDP and SMBIOS anchor where old kernels search for them. */
static int bios_place_tables(struct bios *b, struct err *err)
{
	b->rsdp = LOW_TABLES;
	b->tables = LOW_TABLES + 64;
	acpi_relocate(&b->acpi, b->tables);
	b->anchor = MAX(0xf0000ull, ALIGN_UP(b->tables + b->acpi.a.len, 16ull));
	b->structures = ALIGN_UP(b->anchor + SMBIOS_ANCHOR_LEN, 16ull);
	smbios_place(&b->smbios, b->structures);
	if (b->structures + b->smbios.len > LOW_NO_BIOS)
		return err_set(err, E2BIG,
			       "ACPI and SMBIOS tables for %u processors do not fit below 1 MiB; "
			       "boot through "
			       "the firmware instead of -kernel",
			       b->c.max_cpus);
	return 0;
}

static void bios_write_tables(struct bios *b)
{
	const struct bios_config *c = &b->c;

	if (!c->no_acpi) {
		ram_write(c, b->rsdp, b->acpi.rsdp, sizeof(b->acpi.rsdp));
		ram_write(c, b->tables, b->acpi.a.data, b->acpi.a.len);
	}
	ram_write(c, b->anchor, b->smbios.anchor, sizeof(b->smbios.anchor));
	ram_write(c, b->structures, b->smbios.data, b->smbios.len);
}

static int bios_load_kernel(struct bios *b, struct boot_cpu *cpu, struct err *err)
{
	uint64_t rsdp = b->c.no_acpi ? 0 : b->rsdp;

	switch (b->kind) {
	case KERNEL_BZIMAGE:
		return load_linux(&b->c, rsdp, cpu, err);
	case KERNEL_PVH:
		return load_pvh(&b->c, rsdp, cpu, err);
	case KERNEL_MULTIBOOT:
		return load_multiboot(&b->c, rsdp, cpu, err);
	case KERNEL_UNKNOWN:
		break;
	}
	return -ENOEXEC;
}

struct bios *bios_new(const struct bios_config *c, struct fw_cfg *fw, struct err *err)
{
	struct bios *b = xcalloc(1, sizeof(*b));
	int ret;

	bios_copy_config(b, c);
	ret = bios_check_config(&b->c, err);
	if (ret < 0)
		goto fail;
	acpi_build(&b->c, &b->acpi);
	smbios_build(&b->c, &b->smbios);
	b->fw = fw;
	if (fw) {
		ret = bios_fill_fw_cfg(b, fw, err);
		if (ret < 0)
			goto fail;
	}
	if (b->c.kernel.fd >= 0) {
		b->kind = kernel_identify(&b->c.kernel, err);
		ret = b->kind == KERNEL_UNKNOWN ? -ENOEXEC : bios_place_tables(b, err);
	} else if (!b->c.pflash) {
		b->rom = firmware_map(&b->c, err);
		ret = b->rom ? 0 : -EINVAL;
	}
	if (ret < 0)
		goto fail;
	return b;
fail:
	bios_free(b);
	return NULL;
}

void bios_free(struct bios *b)
{
	if (!b)
		return;
	if (b->rom)
		block_free(b->rom);
	acpi_free(&b->acpi);
	smbios_free(&b->smbios);
	free(b->apic_ids);
	free(b->mmio);
	explicit_bzero(b->rng_seed, sizeof(b->rng_seed));
	while (b->nstrings)
		free(b->strings[--b->nstrings]);
	free(b);
}

int bios_reset(struct bios *b, struct pci_bus *pci, struct bus *pio, struct boot_cpu *cpu,
	       struct err *err)
{
	int ret;

	memset(cpu, 0, sizeof(*cpu));
	if (b->c.kernel.fd < 0) {
		cpu->mode = BOOT_RESET;
		cpu->way = "bios";
		return b->rom ? firmware_reload(&b->c, b->rom, err) : 0;
	}
	if (pci)
		bios_setup_pci(&b->c, pci, pio);
	boot_bda(&b->c);
	boot_no_bios(&b->c);
	bios_write_tables(b);
	ret = bios_load_kernel(b, cpu, err);
	if (ret < 0)
		return ret;
	/* The guest has this seed now; the next boot must not get the same. */
	if (b->c.rng_seed && getentropy(b->rng_seed, sizeof(b->rng_seed)) < 0)
		b->c.rng_seed = NULL;
	boot_mtrrs(&b->c, cpu);
	return 0;
}

/*
 * ACPI 6.0, 5.2.10: the vector is a physical address below 1 MiB; execution starts there in real
 * mode, CS:IP = vector >> 4:vector & 15.
 */
int bios_resume(struct bios *b, struct pci_bus *pci, struct bus *pio, struct boot_cpu *cpu,
		struct err *err)
{
	enum { FACS_LEN = 64, FACS_VECTOR = 12 };
	const uint8_t *facs;
	uint32_t vector;

	if (b->c.kernel.fd < 0 || b->c.machine != BIOS_PC || b->c.no_acpi)
		return bios_reset(b, pci, pio, cpu, err);
	facs = ram_at(&b->c, b->tables + b->acpi.facs, FACS_LEN);
	if (!facs || memcmp(facs, "FACS", 4))
		return err_set(err, EINVAL,
			       "the guest has overwritten the FACS, in which ACPI has it say where "
			       "to wake up");
	vector = ld_le32(facs + FACS_VECTOR);
	if (!vector || vector >= MiB)
		return err_set(err, EINVAL,
			       "waking vector 0x%x: a real mode address below 1 MiB expected",
			       vector);
	if (pci)
		bios_setup_pci(&b->c, pci, pio);
	boot_real(vector, cpu);
	boot_mtrrs(&b->c, cpu);
	trace(TRACE_BOOT, 0, "bios", "waking at 0x%x", vector);
	return 0;
}

void bios_cmos_order(const char *order, void (*set)(void *ctx, unsigned index, uint8_t value),
		     void *ctx)
{
	/* 1 floppy, 2 hard disk, 3 CD-ROM, 4 network */
	static const char letters[] = "?acdn";
	uint8_t code[3] = { 0 };
	unsigned i, n = 0;

	if (!order || !*order)
		order = "cad";
	for (i = 0; order[i] && n < ARRAY_SIZE(code); i++) {
		const char *p = strchr(letters + 1, order[i]);

		if (p)
			code[n++] = p - letters;
	}
	set(ctx, 0x3d, code[0] | code[1] << 4);
	/* bit 0 clear: a floppy must have its signature */
	set(ctx, 0x38, code[2] << 4);
}

void bios_cmos(const struct bios_config *c, void (*set)(void *ctx, unsigned index, uint8_t value),
	       void *ctx)
{
	bios_cmos_order(c->boot_order, set, ctx);
	set(ctx, 0x5f, MIN(c->ncpus - 1, 255u));
	set(ctx, 0x10, 0);				/* no floppy drives */
	set(ctx, 0x14, 0x06);				/* equipment: FPU, PS/2 mouse */
}

/*
 * The disk's type in CMOS: 47, with its parameters in nine bytes (Phoenix, System BIOS, table 47).
 */
static void cmos_disk(const struct ide_geometry *g, uint8_t type, uint8_t params,
		      void (*set)(void *ctx, unsigned index, uint8_t value), void *ctx)
{
	uint8_t low = g->cylinders & 0xff, high = g->cylinders >> 8 & 0xff;
	/* No write precompensation; the control byte says more than 8 heads. */
	const uint8_t bytes[9] = { low, high, g->heads,	 0xff, 0xff, 0xc0 | (g->heads > 8) << 3,
				   low, high, g->sectors };

	set(ctx, type, 47);
	for (unsigned i = 0; i < sizeof(bytes); i++)
		set(ctx, params + i, bytes[i]);
}

void bios_cmos_disks(const struct ide_geometry *const disks[4],
		     void (*set)(void *ctx, unsigned index, uint8_t value), void *ctx)
{
	uint8_t translation = 0;

	if (disks[0])
		cmos_disk(disks[0], 0x19, 0x1b, set, ctx);
	if (disks[1])
		cmos_disk(disks[1], 0x1a, 0x24, set, ctx);
	set(ctx, 0x12, (disks[0] ? 0xf0 : 0) | (disks[1] ? 0x0f : 0));
	for (unsigned i = 0; i < 4; i++)
		if (disks[i])
			translation |= ((disks[i]->translation - 1) & 3) << 2 * i;
	set(ctx, 0x39, translation);
}
