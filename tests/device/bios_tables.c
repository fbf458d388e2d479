/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Everything the guest reads of the machine, per machine version, against tests/golden: a change
 * without a new version fails. iasl and dmidecode judge the tables themselves.
 *
 * GOLDEN_UPDATE=1 writes the files anew (for a new machine version).
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "bios/acpi.h"
#include "bios/fw_cfg.h"
#include "bios/load.h"
#include "bios/smbios.h"
#include "devices/pci/pci.h"
#include "tests/lib/bios_fixture.h"
#include "tests/lib/guest.h"
#include "tests/tap.h"

static struct err err;
static const struct bios_virtio_mmio windows[] = { { 0xfeb00000, 0x1000, 16 },
						   { 0xfeb01000, 0x1000, 17 } };

static struct bios_config pc_config(void)
{
	struct bios_config c = bios_fixture(BIOS_PC, 64 * MiB, 0);

	/* What the tables tell of; no byte of this RAM is touched. */
	c.ram_low = 3 * GiB;
	c.ram_high = 5 * GiB;
	c.ncpus = 4;
	c.graphics = true;
	c.parts[0] = &acpi_pvpanic;
	c.parts[1] = &acpi_vmgenid;
	c.nparts = 2;
	c.serial_mask = 3;
	c.name = "golden";
	memcpy(c.uuid, "\x12\x34\x56\x78\x9a\xbc\xde\xf0\x01\x23\x45\x67\x89\xab\xcd\xef", 16);
	c.pflash = true;
	return c;
}

static struct bios_config micro_config(void)
{
	struct bios_config c = pc_config();

	c.machine = BIOS_MICRO;
	c.no_kbd = c.no_rtc = true;
	c.graphics = false;
	c.mmio = windows;
	c.nmmio = ARRAY_SIZE(windows);
	return c;
}

/* --- a dump as text: a title, then lines of 16 bytes --- */
struct dump {
	char *text;
	size_t len;
	FILE *f;
};

static void dump_open(struct dump *d)
{
	d->f = open_memstream(&d->text, &d->len);
}

static void dump_bytes(struct dump *d, const char *title, const void *data, size_t len)
{
	const uint8_t *p = data;

	fprintf(d->f, "%s: %zu bytes\n", title, len);
	for (size_t i = 0; i < len; i++)
		fprintf(d->f, "%s%02x%s", i % 16 ? " " : "  ", p[i],
			i % 16 == 15 || i == len - 1 ? "\n" : "");
}

static void golden(struct dump *d, const char *name)
{
	char path[128], line[256], want[256];
	size_t n = 0, lineno = 0;
	FILE *f, *got;

	fclose(d->f);
	snprintf(path, sizeof(path), "tests/golden/%s", name);
	if (getenv("GOLDEN_UPDATE")) {
		f = fopen(path, "w");
		CHECK(f && fwrite(d->text, 1, d->len, f) == d->len && fclose(f) == 0);
		return;
	}
	f = fopen(path, "r");
	if (!f)
		tap_fail(__FILE__, __LINE__, "%s: %s (run from the top of the sources)", path,
			 strerror(errno));
	got = fmemopen(d->text, d->len, "r");
	for (;; n++) {
		bool a = fgets(line, sizeof(line), got), b = fgets(want, sizeof(want), f);

		lineno++;
		if (!a && !b)
			break;
		if (!a || !b || strcmp(line, want))
			tap_fail(__FILE__, __LINE__,
				 "%s:%zu: was %s# is %s# guest-visible bytes changed without a new "
				 "machine "
				 "version",
				 path, lineno, b ? want : "(end)\n", a ? line : "(end)\n");
	}
	CHECK(n > 10);
}

static void dump_acpi(struct dump *d, const struct bios_config *c)
{
	struct acpi_tables t;
	char title[16];

	acpi_build(c, &t);
	acpi_relocate(&t, 0xe0040);
	dump_bytes(d, "RSDP", t.rsdp, sizeof(t.rsdp));
	for (unsigned i = 0; i < t.ntables; i++) {
		snprintf(title, sizeof(title), "%.4s", t.a.data + t.tables[i].off);
		dump_bytes(d, title, t.a.data + t.tables[i].off, t.tables[i].len);
	}
	acpi_free(&t);
}

static void dump_smbios(struct dump *d, const struct bios_config *c)
{
	struct smbios s;

	smbios_build(c, &s);
	smbios_place(&s, 0xf0020);
	dump_bytes(d, "SMBIOS entry point", s.anchor, sizeof(s.anchor));
	dump_bytes(d, "SMBIOS structures", s.data, s.len);
	smbios_free(&s);
}

static void dump_e820(struct dump *d, const struct bios_config *c)
{
	struct e820_entry e[E820_MAX];
	unsigned n = e820_build(c, e, E820_MAX);

	for (unsigned i = 0; i < n; i++)
		fprintf(d->f, "e820 %016llx-%016llx type %u\n", (unsigned long long)e[i].base,
			(unsigned long long)(e[i].base + e[i].len - 1), e[i].type);
}

static void dump_key(void *ctx, uint16_t key, const char *name, const void *data, size_t len)
{
	char title[80];

	snprintf(title, sizeof(title), "key %04x %s", key, name);
	dump_bytes(ctx, title, data, len);
}

TEST(golden_pc)
{
	struct bios_config c = pc_config();
	struct dump d;

	dump_open(&d);
	dump_acpi(&d, &c);
	dump_smbios(&d, &c);
	dump_e820(&d, &c);
	golden(&d, "pc-1.tables");
}

TEST(golden_micro)
{
	struct bios_config c = micro_config();
	struct dump d;

	dump_open(&d);
	dump_acpi(&d, &c);
	dump_smbios(&d, &c);
	dump_e820(&d, &c);
	golden(&d, "micro-1.tables");
}

TEST(golden_fw_cfg)
{
	struct bios_config c = pc_config();
	struct bus *pio = bus_new("pio", 0xffff);
	struct loop *loop = loop_new("test");
	struct fw_cfg *fw = fw_cfg_new(pio, c.mem, loop, &err);
	struct block *ram = c.ram;
	struct dump d;
	struct bios *b;

	/* bios_new checks that the RAM is there. */
	c.ram = block_new(c.mem, "big", c.ram_low + c.ram_high, BLOCK_RAM, &err);
	CHECK(c.ram);
	b = bios_new(&c, fw, &err);
	if (!b)
		tap_fail(__FILE__, __LINE__, "%s", err.msg);
	dump_open(&d);
	fw_cfg_for_each(fw, dump_key, &d);
	golden(&d, "pc-1.fw_cfg");
	bios_free(b);
	block_free(c.ram);
	block_free(ram);
	device_destroy(fw_cfg_device(fw));
}

/*
 * Firmware moves the power-management ports, then fetches the tables: they name the place where the
 * ports are.
 */
TEST(tables_follow_the_pm_ports)
{
	static const struct pci_id id = { .vendor = 0x8086, .device = 0x7113 };
	static const struct device_ops ops = { .name = "pm", .version = 1 };
	static struct pci_dev pm;
	struct guest *g = guest_new();
	struct bios_config c = bios_fixture(BIOS_PC, 64 * MiB, 0);
	struct fw_cfg *fw = fw_cfg_new(g->pio, c.mem, g->loop, &err);
	char facp[4] = "FACP";
	const uint8_t *tables, *fadt;
	struct bios *b;
	size_t len = 0, n;

	device_init(&pm.dev, &ops, "pm", g->loop);
	CHECK_EQ(pci_dev_init(&pm, g->pci, PCI_DEVFN(1, 3), &id), 0);
	memset(pm.wmask + 0x40, 0xff, 0x60);
	c.pci = g->pci;
	c.pflash = true;
	b = bios_new(&c, fw, &err);
	CHECK(b);
	for (unsigned base = 0x600; base <= 0xb000; base += 0xaa00) {
		loop_lock(g->loop);
		pci_bus_config_write(g->pci, PCI_DEVFN(1, 3), 0x40, 4, base | 1);
		pci_bus_config_write(g->pci, PCI_DEVFN(1, 3), 0x80, 1, 1);
		for (unsigned key = 0x20; key < 0x40; key++)
			bus_write(g->pio, 0x510, 2, key);
		loop_unlock(g->loop);
		tables = fw_cfg_file(fw, "etc/acpi/tables", &n);
		fadt = memmem(tables, n, facp, 4);
		CHECK(fadt);
		CHECK_EQ(ld_le32(fadt + 56), base);		/* PM1a events */
		CHECK_EQ(ld_le32(fadt + 64), base + 4);		/* PM1a control */
		CHECK_EQ(ld_le32(fadt + 76), base + 8);		/* the timer */
		CHECK_EQ(ld_le32(fadt + 208 + 4), base + 8);	/* and its 64-bit twin */
		CHECK(base == 0x600 || n == len);
		len = n;
	}
	bios_free(b);
	device_destroy(fw_cfg_device(fw));
}

TEST(same_tables_every_time)
{
	struct bios_config c = pc_config();
	struct dump a, b;

	dump_open(&a);
	dump_acpi(&a, &c);
	dump_smbios(&a, &c);
	fclose(a.f);
	sleep(1);
	dump_open(&b);
	dump_acpi(&b, &c);
	dump_smbios(&b, &c);
	fclose(b.f);
	CHECK_EQ(a.len, b.len);
	CHECK(!memcmp(a.text, b.text, a.len));
}

/* --- judges --- */
static char dir[] = "/tmp/minivmm-tables-XXXXXX";

static void write_file(const char *name, const void *data, size_t len)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	CHECK(fd >= 0 && write_full(fd, data, len) == 0 && close(fd) == 0);
}

static void shell(const char *what, const char *cmd)
{
	char line[512];

	setenv("D", dir, 1);
	snprintf(line, sizeof(line), "cd $D && { %s; } >log 2>&1", cmd);
	if (system(line) != 0) {
		snprintf(line, sizeof(line), "sed 's/^/# /' %s/log | tail -20", dir);
		if (system(line) != 0)
			perror("sed");
		tap_fail(__FILE__, __LINE__, "%s: %s", what, cmd);
	}
}

static bool have(const char *program)
{
	char cmd[64];

	snprintf(cmd, sizeof(cmd), "command -v %s >/dev/null 2>&1", program);
	return system(cmd) == 0;
}

/* Every table disassembles, and what comes out compiles without an error. */
static void iasl(struct bios_config *c)
{
	struct acpi_tables t;
	uint8_t sum = 0;

	if (!have("iasl"))
		SKIP("iasl is not installed (acpica-tools)");
	CHECK(mkdtemp(dir));
	acpi_build(c, &t);
	acpi_relocate(&t, 0xe0040);
	for (unsigned i = 0; i < t.ntables; i++) {
		const uint8_t *p = t.a.data + t.tables[i].off;
		char name[16], cmd[256];

		sum = 0;
		for (unsigned n = 0; n < t.tables[i].len; n++)
			sum += p[n];
		CHECK_EQ(sum, 0);
		snprintf(name, sizeof(name), "%.4s.dat", p);
		write_file(name, p, t.tables[i].len);
		snprintf(cmd, sizeof(cmd),
			 "iasl -p %.4s -d %s && iasl -p again %.4s.dsl && "
			 "grep -q 'Compilation successful. 0 Errors' log && ! grep -iE "
			 "'invalid|unknown|incorrect' %.4s.dsl",
			 p, name, p, p);
		shell(name, cmd);
	}
	acpi_free(&t);
	shell("clean", "rm -rf $D");
}

TEST(iasl_judges_pc)
{
	struct bios_config c = pc_config();

	c.hpet = true;
	iasl(&c);
}

TEST(iasl_judges_pc_without_options)
{
	struct bios_config c = pc_config();

	c.no_rtc = c.no_kbd = c.no_s3 = c.no_s4 = true;
	c.graphics = false;
	c.nparts = 0;
	c.serial_mask = 0;
	c.ram_low = 1 * GiB;
	c.ram_high = 0;
	iasl(&c);
}

TEST(iasl_judges_micro)
{
	struct bios_config c = micro_config();

	iasl(&c);
}

TEST(iasl_judges_many_processors)
{
	struct bios_config c = pc_config();
	uint32_t ids[300];

	/* Topologies leave holes: ids beyond 254 need x2APIC entries. */
	for (unsigned i = 0; i < 300; i++)
		ids[i] = i * 2;
	c.apic_ids = ids;
	c.ncpus = 200;
	c.max_cpus = 300;
	iasl(&c);
}

TEST(dmidecode_judges)
{
	struct bios_config c = pc_config();
	struct smbios s;
	uint8_t dump[32 + 4096] = { 0 };

	if (!have("dmidecode"))
		SKIP("dmidecode is not installed");
	CHECK(mkdtemp(dir));
	c.sockets = 2;
	c.cores = 2;
	c.threads = 1;
	smbios_build(&c, &s);
	smbios_place(&s, 32);
	memcpy(dump, s.anchor, sizeof(s.anchor));
	memcpy(dump + 32, s.data, s.len);
	write_file("dump", dump, 32 + s.len);
	shell("dmidecode", "dmidecode --from-dump dump && ! grep -iE "
			   "'wrong|invalid|bad|truncated|out of spec|broken' log");
	shell("uuid", "test $(dmidecode --from-dump dump -s system-uuid | tail -1) = "
		      "12345678-9abc-def0-0123-456789abcdef");
	shell("memory", "dmidecode --from-dump dump -t 17 | grep -q 'Size: 8 GB'");
	shell("sockets", "test $(dmidecode --from-dump dump -t 4 | grep -c 'Core Count: 2') = 2");
	shell("name", "dmidecode --from-dump dump -t 1 | grep -q 'Family: golden'");
	smbios_free(&s);
	shell("clean", "rm -rf $D");
}

/* The firmware follows the script; what comes out must equal the tables placed without firmware. */
TEST(loader_script_links_as_we_do)
{
	struct bios_config c = pc_config();
	struct acpi_tables ours, theirs;
	uint8_t *script, *rsdp, *tables;
	const uint64_t base = 0xbffe0000;
	unsigned allocated = 0;
	size_t len;

	acpi_build(&c, &ours);
	acpi_build(&c, &theirs);
	acpi_relocate(&ours, base);
	len = acpi_loader_script(&theirs, &script);
	CHECK_EQ(len % 128, 0);
	rsdp = theirs.rsdp;
	tables = theirs.a.data;
	for (uint8_t *e = script; e < script + len; e += 128) {
		const char *file = (char *)e + 4;
		uint8_t *dest = !strcmp(file, "etc/acpi/rsdp") ? rsdp : tables;
		size_t size = dest == rsdp ? sizeof(theirs.rsdp) : theirs.a.len;
		uint32_t off, start, n;
		uint64_t v = 0;
		uint8_t sum = 0;

		CHECK(dest == rsdp || !strcmp(file, "etc/acpi/tables"));
		switch (ld_le32(e)) {
		case 1:
			allocated++;
			CHECK(IS_POWER_OF_2(ld_le32(e + 60)));
			break;
		case 2:
			CHECK_EQ(allocated, 2);
			CHECK(!strcmp((char *)e + 60, "etc/acpi/tables"));
			off = ld_le32(e + 116);
			n = e[120];
			CHECK(range_ok(off, n, size));
			memcpy(&v, dest + off, n);
			v += base;
			memcpy(dest + off, &v, n);
			break;
		case 3:
			off = ld_le32(e + 60);
			start = ld_le32(e + 64);
			n = ld_le32(e + 68);
			CHECK(range_ok(start, n, size) && off < size);
			for (uint32_t i = 0; i < n; i++)
				sum += dest[start + i];
			dest[off] -= sum;
			break;
		default:
			tap_fail(__FILE__, __LINE__, "command %u", ld_le32(e));
		}
	}
	CHECK(!memcmp(ours.rsdp, theirs.rsdp, sizeof(ours.rsdp)));
	CHECK(!memcmp(ours.a.data, theirs.a.data, ours.a.len));
}

/* 64 and more processors still fit below 1 MiB without firmware. */
TEST(many_processors_fit)
{
	struct bios_config c = bios_fixture(BIOS_PC, 64 * MiB, 0);
	struct boot_cpu cpu;
	uint8_t flat[64] = { 0 };
	struct bios *b;

	st_le32(flat, 0x1badb002);
	st_le32(flat + 4, 0x10000);
	st_le32(flat + 8, -(0x1badb002u + 0x10000u));
	st_le32(flat + 12, 0x400000);
	st_le32(flat + 16, 0x400000);
	st_le32(flat + 28, 0x400020);
	c.kernel = bios_file_of("flat", flat, sizeof(flat));
	c.ncpus = 255;
	b = bios_new(&c, NULL, &err);
	if (!b)
		tap_fail(__FILE__, __LINE__, "%s", err.msg);
	CHECK_EQ(bios_reset(b, NULL, NULL, &cpu, &err), 0);
	bios_free(b);
}

TAP_MAIN
