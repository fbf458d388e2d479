/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Kernels of every kind and every kind of damage: what is loaded lies where the boot protocol says,
 * what is broken is refused with words that name the file.
 */
#include <asm/bootparam.h>
#include <elf.h>
#include <errno.h>

#include "bios/load.h"
#include "tests/lib/bios_fixture.h"
#include "tests/tap.h"

#define RAM (64 * MiB)

static struct err err;

#define REFUSED(call, code, words)                                                                 \
	do {                                                                                       \
		err.msg[0] = 0;                                                                    \
		int ret_ = (call);                                                                 \
		if (ret_ != -(code))                                                               \
			tap_fail(__FILE__, __LINE__, "%s gave %d, not %d: %s", #call, ret_,        \
				 -(code), err.msg);                                                \
		if (!strstr(err.msg, words))                                                       \
			tap_fail(__FILE__, __LINE__, "%s says \"%s\", not \"%s\"", #call, err.msg, \
				 words);                                                           \
	} while (0)
#define WORKS(call)										\
	do {											\
		err.msg[0] = 0;									\
		int ret_ = (call);								\
		if (ret_)									\
			tap_fail(__FILE__, __LINE__, "%s gave %d: %s", #call, ret_, err.msg);	\
	} while (0)

/* --- Linux --- */
struct kernel {
	uint8_t bytes[8192];
	size_t len;
};

#define H(k) ((struct setup_header *)((k)->bytes + 0x1f1))

/* One setup sector behind the boot sector, then 2 KiB of protected-mode code. */
static struct kernel kernel_new(void)
{
	struct kernel k = { .len = 1024 + 2048 };
	struct setup_header *h = H(&k);
	unsigned i;

	for (i = 1024; i < k.len; i++)
		k.bytes[i] = 0xc0 + (i & 0x1f);
	h->setup_sects = 1;
	h->boot_flag = 0xaa55;
	h->jump = 0xeb | (0x268 - 0x202) << 8;
	h->header = 0x53726448;
	h->version = 0x020f;
	h->loadflags = LOADED_HIGH;
	h->syssize = 2048 / 16;
	h->cmdline_size = 255;
	h->initrd_addr_max = 0x7fffffff;
	h->kernel_alignment = 0x200000;
	h->relocatable_kernel = 1;
	h->xloadflags = XLF_KERNEL_64;
	h->pref_address = 0x1000000;
	h->init_size = 0x400000;
	return k;
}

static int load(struct bios_config *c, const struct kernel *k, struct boot_cpu *cpu)
{
	memset(cpu, 0, sizeof(*cpu));
	if (c->kernel.fd >= 0)
		close(c->kernel.fd);
	c->kernel = bios_file_of("vmlinuz", k->bytes, k->len);
	return load_linux(c, 0xe0000, cpu, &err);
}

TEST(linux_64_bit_entry)
{
	struct bios_config c = bios_fixture(BIOS_PC, RAM, 0);
	struct kernel k = kernel_new();
	struct boot_params *bp;
	struct setup_data *sd;
	struct boot_cpu cpu;
	uint64_t *pml4, *pdpt, *pd, a;
	uint8_t seed[32] = { 1, 2, 3 };

	c.cmdline = "console=ttyS0";
	c.rng_seed = seed;
	WORKS(load(&c, &k, &cpu));
	CHECK_EQ(cpu.mode, BOOT_LONG);
	CHECK_EQ(cpu.rip, 0x1000200);
	CHECK(!memcmp(ram_at(&c, 0x1000000, 2048), k.bytes + 1024, 2048));
	bp = ram_at(&c, cpu.rsi, sizeof(*bp));
	CHECK_EQ(bp->hdr.header, 0x53726448);
	CHECK_EQ(bp->hdr.type_of_loader, 0xff);
	CHECK_EQ(bp->hdr.code32_start, 0x1000000);
	CHECK_EQ(bp->acpi_rsdp_addr, 0xe0000);
	CHECK(!strcmp(ram_at(&c, bp->hdr.cmd_line_ptr, 32), "console=ttyS0"));
	/* The seed travels as setup_data type 9. */
	sd = ram_at(&c, bp->hdr.setup_data, 48);
	CHECK_EQ(sd->type, 9);
	CHECK_EQ(sd->len, 32);
	CHECK(!memcmp(sd->data, seed, 32));
	/* Every address below 4 GiB maps to itself. */
	pml4 = ram_at(&c, cpu.cr3, 4096);
	for (a = 0; a < 4 * GiB; a += 2 * MiB) {
		pdpt = ram_at(&c, pml4[0] & ~0xfffull, 4096);
		pd = ram_at(&c, pdpt[a >> 30] & ~0xfffull, 4096);
		CHECK_EQ(pd[a >> 21 & 511] & ~0xfffull, a);
		CHECK((pd[a >> 21 & 511] & 0x83) == 0x83);
	}
	CHECK_EQ(cpu.cs.l, 1);
	CHECK_EQ(cpu.cs.db, 0);
	CHECK_EQ(ld_le64(ram_at(&c, cpu.gdt_base + cpu.cs.selector, 8)), 0x00af9b000000ffff);
	CHECK_EQ(ld_le64(ram_at(&c, cpu.gdt_base + cpu.ds.selector, 8)), 0x00cf93000000ffff);
}

TEST(linux_32_bit_entry)
{
	struct bios_config c = bios_fixture(BIOS_PC, RAM, 0);
	struct kernel k = kernel_new();
	struct boot_cpu cpu;

	H(&k)->xloadflags = 0;
	WORKS(load(&c, &k, &cpu));
	CHECK_EQ(cpu.mode, BOOT_PROTECTED);
	CHECK_EQ(cpu.rip, 0x1000000);
	CHECK_EQ(cpu.rsi, LOW_ZERO_PAGE);
	CHECK_EQ(cpu.rbx, 0);
	CHECK_EQ(cpu.cs.db, 1);
	CHECK_EQ(cpu.cr0 & 0x80000001, 1);
	CHECK_EQ(ld_le64(ram_at(&c, cpu.gdt_base + cpu.cs.selector, 8)), 0x00cf9b000000ffff);
}

TEST(linux_old_protocol_loads_at_one_mebibyte)
{
	struct bios_config c = bios_fixture(BIOS_PC, RAM, 0);
	struct kernel k = kernel_new();
	struct boot_cpu cpu;

	H(&k)->version = 0x0203;
	H(&k)->pref_address = 0;
	WORKS(load(&c, &k, &cpu));
	CHECK_EQ(cpu.rip, MiB);
}

TEST(linux_moves_down_when_memory_is_small)
{
	struct bios_config c = bios_fixture(BIOS_PC, 12 * MiB, 0);
	struct kernel k = kernel_new();
	struct boot_cpu cpu;

	WORKS(load(&c, &k, &cpu));
	CHECK_EQ(cpu.rip, 2 * MiB + 0x200);
	H(&k)->relocatable_kernel = 0;
	REFUSED(load(&c, &k, &cpu), ENOMEM, "-m");
	H(&k)->relocatable_kernel = 1;
	H(&k)->init_size = 0xffffffff;
	REFUSED(load(&c, &k, &cpu), ENOMEM, "vmlinuz needs 4096 MiB");
}

TEST(linux_memory_map)
{
	struct bios_config c = bios_fixture(BIOS_PC, RAM, 32 * MiB);
	struct kernel k = kernel_new();
	struct boot_params *bp;
	struct boot_cpu cpu;
	uint64_t ram = 0;

	WORKS(load(&c, &k, &cpu));
	bp = ram_at(&c, cpu.rsi, sizeof(*bp));
	CHECK(bp->e820_entries >= 5);
	for (unsigned i = 0; i < bp->e820_entries; i++) {
		struct boot_e820_entry *e = &bp->e820_table[i];

		if (i)
			CHECK(e->addr >= bp->e820_table[i - 1].addr + bp->e820_table[i - 1].size);
		if (e->type != E820_RAM)
			continue;
		CHECK(ram_at(&c, e->addr, e->size));
		ram += e->size;
	}
	/* All RAM but 0x9fc00-0xfffff. */
	CHECK_EQ(ram, RAM + 32 * MiB - (MiB - 0x9fc00));
}

TEST(linux_initrd)
{
	struct bios_config c = bios_fixture(BIOS_PC, RAM, 16 * MiB);
	static uint8_t ramdisk[8 * MiB + 5];
	struct kernel k = kernel_new();
	struct boot_params *bp;
	struct boot_cpu cpu;
	uint64_t at;

	memset(ramdisk, 0x5a, sizeof(ramdisk));
	c.initrd = bios_file_of("initrd.img", ramdisk, sizeof(ramdisk));
	WORKS(load(&c, &k, &cpu));
	bp = ram_at(&c, cpu.rsi, sizeof(*bp));
	CHECK_EQ(bp->hdr.ramdisk_size, sizeof(ramdisk));
	CHECK(bp->hdr.ramdisk_image + sizeof(ramdisk) <= RAM);
	CHECK(!memcmp(ram_at(&c, bp->hdr.ramdisk_image, sizeof(ramdisk)), ramdisk,
		      sizeof(ramdisk)));
	/* Below what the kernel can address. */
	H(&k)->initrd_addr_max = 0x1ffffff;
	WORKS(load(&c, &k, &cpu));
	bp = ram_at(&c, cpu.rsi, sizeof(*bp));
	CHECK(bp->hdr.ramdisk_image + sizeof(ramdisk) <= 0x2000000);
	CHECK(bp->hdr.ramdisk_image >= 0x1400000);
	/* Not on the kernel: above 4 GiB if it can, else refused. */
	H(&k)->initrd_addr_max = 0x1bfffff;
	REFUSED(load(&c, &k, &cpu), EFBIG, "initrd.img (9 MiB) does not fit");
	H(&k)->xloadflags |= XLF_CAN_BE_LOADED_ABOVE_4G;
	WORKS(load(&c, &k, &cpu));
	bp = ram_at(&c, cpu.rsi, sizeof(*bp));
	at = (uint64_t)bp->ext_ramdisk_image << 32 | bp->hdr.ramdisk_image;
	CHECK(at >= 4 * GiB);
	CHECK(!memcmp(ram_at(&c, at, sizeof(ramdisk)), ramdisk, sizeof(ramdisk)));
}

TEST(linux_refuses_damage)
{
	struct bios_config c = bios_fixture(BIOS_PC, RAM, 0);
	const struct kernel good = kernel_new();
	struct kernel k = good;
	char line[300];
	struct boot_cpu cpu;

	k.len = 0;
	REFUSED(load(&c, &k, &cpu), ENODATA, "vmlinuz is empty");
	k.len = 0x200;
	REFUSED(load(&c, &k, &cpu), ENOEXEC, "not a Linux kernel");
	k.len = 1024;
	REFUSED(load(&c, &k, &cpu), ENODATA, "truncated");
	k.len = 2048;
	REFUSED(load(&c, &k, &cpu), ENODATA, "truncated");
	k = good;
	H(&k)->boot_flag = 0;
	REFUSED(load(&c, &k, &cpu), ENOEXEC, "not a Linux kernel");
	k = good;
	H(&k)->version = 0x0201;
	REFUSED(load(&c, &k, &cpu), ENOEXEC, "older than 2.02");
	k = good;
	H(&k)->loadflags = 0;
	REFUSED(load(&c, &k, &cpu), ENOEXEC, "zImage");
	k = good;
	H(&k)->pref_address = UINT64_MAX - 4096;
	H(&k)->relocatable_kernel = 0;
	REFUSED(load(&c, &k, &cpu), ENOMEM, "needs");
	k = good;
	H(&k)->pref_address = 0x5000;
	H(&k)->relocatable_kernel = 0;
	REFUSED(load(&c, &k, &cpu), ENOMEM, "needs");
	memset(line, 'x', sizeof(line));
	line[256] = 0;
	c.cmdline = line;
	REFUSED(load(&c, &good, &cpu), E2BIG, "256 bytes, vmlinuz takes at most 255");
	line[255] = 0;
	WORKS(load(&c, &good, &cpu));
}

TEST(files_that_are_none)
{
	struct bios_config c = bios_fixture(BIOS_PC, RAM, 0);
	struct boot_cpu cpu;
	uint64_t size;
	int p[2];

	CHECK(pipe(p) == 0);
	c.kernel = (struct bios_file){ p[0], "pipe" };
	REFUSED(file_size(&c.kernel, &size, &err), ESPIPE, "pipe");
	c.kernel = (struct bios_file){ 99, "gone" };
	REFUSED(load_linux(&c, 0, &cpu, &err), EBADF, "gone");
}

/* --- ELF --- */
struct elf64 {
	Elf64_Ehdr h;
	Elf64_Phdr p[2];
	struct { Elf64_Nhdr h; char name[4]; uint32_t entry; } note;
	uint8_t code[256];
};

static struct elf64 elf64_new(void)
{
	struct elf64 e = {
		.h = { .e_ident = ELFMAG "\2\1\1",
		       .e_type = ET_EXEC,
		       .e_machine = EM_X86_64,
		       .e_entry = 0x1000010,
		       .e_phoff = offsetof(struct elf64, p),
		       .e_phentsize = sizeof(Elf64_Phdr),
		       .e_phnum = 2 },
		.p = { { .p_type = PT_LOAD,
			 .p_offset = offsetof(struct elf64, code),
			 .p_paddr = 0x1000000,
			 .p_vaddr = 0xffffffff81000000,
			 .p_filesz = 256,
			 .p_memsz = 0x2000 },
		       { .p_type = PT_NOTE,
			 .p_offset = offsetof(struct elf64, note),
			 .p_filesz = 20,
			 .p_memsz = 20,
			 .p_align = 4 } },
		.note = { .h = { 4, 4, 18 }, .name = "Xen", .entry = 0x1000020 },
	};

	memset(e.code, 0x90, sizeof(e.code));
	return e;
}

static int load_elf(struct bios_config *c, const struct elf64 *e, size_t len, struct boot_cpu *cpu)
{
	memset(cpu, 0, sizeof(*cpu));
	if (c->kernel.fd >= 0)
		close(c->kernel.fd);
	c->kernel = bios_file_of("vmlinux", e, len);
	return load_pvh(c, 0xe0000, cpu, &err);
}

TEST(pvh)
{
	struct bios_config c = bios_fixture(BIOS_MICRO, RAM, 0);
	const struct elf64 good = elf64_new();
	uint64_t *mod, *map;
	uint32_t *info;
	struct boot_cpu cpu;

	c.cmdline = "hello world";
	c.initrd = bios_file_of("module", "12345", 5);
	memset(ram_at(&c, 0x1000000, 0x2000), 0xee, 0x2000);
	WORKS(load_elf(&c, &good, sizeof(good), &cpu));
	CHECK_EQ(cpu.mode, BOOT_PROTECTED);
	CHECK_EQ(cpu.rip, 0x1000020);
	CHECK(!memcmp(ram_at(&c, 0x1000000, 256), good.code, 256));
	for (unsigned i = 256; i < 0x2000; i++)
		CHECK_EQ(((uint8_t *)ram_at(&c, 0x1000000, 0x2000))[i], 0);
	info = ram_at(&c, cpu.rbx, 56);
	CHECK_EQ(info[0], 0x336ec578);
	CHECK_EQ(info[3], 1);
	CHECK_EQ(ld_le64(info + 8), 0xe0000);
	CHECK(!strcmp(ram_at(&c, ld_le64(info + 6), 12), "hello world"));
	mod = ram_at(&c, ld_le64(info + 4), 32);
	CHECK_EQ(mod[1], 5);
	CHECK(!memcmp(ram_at(&c, mod[0], 5), "12345", 5));
	map = ram_at(&c, ld_le64(info + 10), 24);
	CHECK_EQ(map[0], 0);
	CHECK_EQ(map[1], 0x9fc00);
	CHECK(info[12] >= 4);
}

TEST(pvh_refuses_damage)
{
	struct bios_config c = bios_fixture(BIOS_MICRO, RAM, 0);
	const struct elf64 good = elf64_new();
	struct elf64 e = good;
	struct boot_cpu cpu;

	REFUSED(load_elf(&c, &good, 40, &cpu), ENODATA, "truncated");
	REFUSED(load_elf(&c, &good, sizeof(Elf64_Ehdr) + 20, &cpu), ENODATA,
		"truncated in its program headers");
	REFUSED(load_elf(&c, &good, offsetof(struct elf64, code) + 255, &cpu), ENODATA,
		"segment 0 wants");
	e.h.e_phoff = UINT64_MAX - 10;
	REFUSED(load_elf(&c, &e, sizeof(e), &cpu), ENODATA, "truncated");
	e = good;
	e.h.e_phnum = 0xffff;
	REFUSED(load_elf(&c, &e, sizeof(e), &cpu), ENOEXEC, "program headers");
	e = good;
	e.h.e_machine = EM_AARCH64;
	REFUSED(load_elf(&c, &e, sizeof(e), &cpu), ENOEXEC, "another processor");
	e = good;
	e.p[0].p_offset = UINT64_MAX - 8;
	REFUSED(load_elf(&c, &e, sizeof(e), &cpu), ENODATA, "segment 0");
	e = good;
	e.p[0].p_memsz = UINT64_MAX - 0x1000000 + 2;		/* wraps round the address space */
	REFUSED(load_elf(&c, &e, sizeof(e), &cpu), ENOMEM, "segment 0");
	e = good;
	e.p[0].p_paddr = UINT64_MAX - 0xfff;
	REFUSED(load_elf(&c, &e, sizeof(e), &cpu), ENOMEM, "segment 0");
	e = good;
	e.p[0].p_memsz = 100;
	REFUSED(load_elf(&c, &e, sizeof(e), &cpu), ENOEXEC, "more bytes in the file");
	e = good;
	e.p[0].p_paddr = 0x7000;
	REFUSED(load_elf(&c, &e, sizeof(e), &cpu), ENOEXEC, "which the machine needs");
	e = good;
	e.note.entry = 0x2000000;
	REFUSED(load_elf(&c, &e, sizeof(e), &cpu), ENOEXEC, "outside what it loads");
	e = good;
	e.note.h.n_namesz = 0xfffffff0;
	REFUSED(load_elf(&c, &e, sizeof(e), &cpu), ENOEXEC, "without a PVH entry");
	e = good;
	e.note.h.n_type = 6;
	REFUSED(load_elf(&c, &e, sizeof(e), &cpu), ENOEXEC, "without a PVH entry");
	e = good;
	e.p[0].p_type = PT_NULL;
	REFUSED(load_elf(&c, &e, sizeof(e), &cpu), ENOEXEC, "nothing to load");
}

/* --- multiboot --- */
struct flat {
	uint32_t pad[4];
	uint32_t h[8];			/* the header, at file offset 16 */
	uint8_t code[64];
};

static struct flat flat_new(uint32_t base)
{
	struct flat f = { .h = { 0x1badb002, 0x10003, -(0x1badb002 + 0x10003), base + 16, base, 0,
				 base + 0x3000, base + 48 } };

	memset(f.code, 0xcc, sizeof(f.code));
	return f;
}

static int load_flat(struct bios_config *c, const struct flat *f, size_t len, struct boot_cpu *cpu)
{
	memset(cpu, 0, sizeof(*cpu));
	if (c->kernel.fd >= 0)
		close(c->kernel.fd);
	c->kernel = bios_file_of("x86/test.flat", f, len);
	return load_multiboot(c, 0xe0000, cpu, &err);
}

static void check_info(struct bios_config *c, const struct boot_cpu *cpu, uint64_t low,
		       uint64_t high)
{
	uint32_t *info = ram_at(c, cpu->rbx, 96), *mod;

	CHECK_EQ(cpu->rax, 0x2badb002);
	CHECK(cpu->rbx >= 4096);
	CHECK(cpu->rbx + 96 <= low || cpu->rbx >= high);
	CHECK_EQ(info[0] & 0x4d, 0x4d);
	CHECK_EQ(info[1], 639);
	CHECK_EQ(info[2], (c->ram_low - MiB) / KiB);
	CHECK(!strcmp(ram_at(c, info[4], 32), "x86/test.flat -x 1"));
	CHECK_EQ(info[5], 1);
	mod = ram_at(c, info[6], 16);
	CHECK_EQ(mod[1] - mod[0], 7);
	CHECK(!memcmp(ram_at(c, mod[0], 7), "ENV=yes", 7));
	CHECK(!strcmp(ram_at(c, mod[2], 4), "env"));
	CHECK_EQ(mod[0] % 4096, 0);
	/* The map: entries that say their size without this word: 20. */
	CHECK_EQ(*(uint32_t *)ram_at(c, info[12], 24), 20);
	CHECK_EQ(info[11] % 24, 0);
}

TEST(multiboot_with_addresses)
{
	struct bios_config c = bios_fixture(BIOS_PC, RAM, 0);
	struct flat f = flat_new(0x400000);
	struct boot_cpu cpu;

	c.cmdline = "-x 1";
	c.initrd = bios_file_of("env", "ENV=yes", 7);
	WORKS(load_flat(&c, &f, sizeof(f), &cpu));
	CHECK_EQ(kernel_identify(&c.kernel, &err), KERNEL_MULTIBOOT);
	CHECK_EQ(cpu.rip, 0x400030);
	CHECK(!memcmp(ram_at(&c, 0x400000, sizeof(f)), &f, sizeof(f)));
	check_info(&c, &cpu, 0x400000, 0x403000);
	/* In real memory, as kvm-unit-tests' realmode.flat wants it. */
	f = flat_new(0x4000);
	WORKS(load_flat(&c, &f, sizeof(f), &cpu));
	check_info(&c, &cpu, 0x4000, 0x7000);
}

TEST(multiboot_elf)
{
	struct bios_config c = bios_fixture(BIOS_PC, RAM, 0);
	struct {
		Elf32_Ehdr h;
		Elf32_Phdr p;
		uint32_t mb[3];
	} e = {
		.h = { .e_ident = ELFMAG "\1\1\1",
		       .e_type = ET_EXEC,
		       .e_machine = EM_386,
		       .e_entry = 0x100010,
		       .e_phoff = sizeof(Elf32_Ehdr),
		       .e_phentsize = sizeof(Elf32_Phdr),
		       .e_phnum = 1 },
		.p = { .p_type = PT_LOAD,
		       .p_offset = 0,
		       .p_paddr = 0x100000,
		       .p_filesz = sizeof(e),
		       .p_memsz = 0x5000 },
		.mb = { 0x1badb002, 3, -(0x1badb002 + 3) },
	};
	struct boot_cpu cpu = { .mode = 0 };

	c.cmdline = "-x 1";
	c.kernel = bios_file_of("x86/test.flat", &e, sizeof(e));
	c.initrd = bios_file_of("env", "ENV=yes", 7);
	WORKS(load_multiboot(&c, 0, &cpu, &err));
	CHECK_EQ(cpu.rip, 0x100010);
	check_info(&c, &cpu, 0x100000, 0x105000);
}

TEST(multiboot_refuses_damage)
{
	struct bios_config c = bios_fixture(BIOS_PC, RAM, 0);
	struct flat f = flat_new(0x400000);
	struct boot_cpu cpu;

	REFUSED(load_flat(&c, &f, 30, &cpu), ENODATA, "truncated in its multiboot header");
	f.h[2]++;
	REFUSED(load_flat(&c, &f, sizeof(f), &cpu), ENOEXEC,
		"neither a Linux bzImage, nor multiboot, nor PVH");
	f = flat_new(0x400000);
	f.h[4] = f.h[3] + 1;				/* loads behind its own header */
	REFUSED(load_flat(&c, &f, sizeof(f), &cpu), ENOEXEC, "make no sense");
	f = flat_new(0x400000);
	f.h[5] = 0x400000 + sizeof(f) + 1;
	REFUSED(load_flat(&c, &f, sizeof(f), &cpu), ENODATA, "truncated");
	f.h[5] = 0x3fffff;
	REFUSED(load_flat(&c, &f, sizeof(f), &cpu), ENOEXEC, "before it begins");
	f = flat_new(0x400000);
	f.h[6] = 0x400010;
	REFUSED(load_flat(&c, &f, sizeof(f), &cpu), ENOEXEC, "ends the bss inside");
	f.h[6] = 0xfffff000;
	REFUSED(load_flat(&c, &f, sizeof(f), &cpu), ENOMEM, "does not fit");
	f = flat_new(0x9f000);
	REFUSED(load_flat(&c, &f, sizeof(f), &cpu), ENOEXEC, "video memory");
	f = flat_new(0x400000);
	f.h[7] = 0;
	REFUSED(load_flat(&c, &f, sizeof(f), &cpu), ENOEXEC, "entry point");
	f = flat_new(0x400000);
	/* a wish for a video mode may be left unanswered */
	f.h[1] |= 4;
	f.h[2] = -(f.h[0] + f.h[1]);
	WORKS(load_flat(&c, &f, sizeof(f), &cpu));
	f.h[1] |= 0x20;
	f.h[2] = -(f.h[0] + f.h[1]);
	REFUSED(load_flat(&c, &f, sizeof(f), &cpu), ENOTSUP, "demands");
}

/* --- firmware and the whole --- */
TEST(firmware_is_seen_twice)
{
	struct bios_config c = bios_fixture(BIOS_PC, RAM, 0);
	static uint8_t image[256 * KiB];
	struct boot_cpu cpu;
	struct bios *b;
	uint8_t byte;

	for (unsigned i = 0; i < sizeof(image); i++)
		image[i] = i >> 10 ^ i;
	c.firmware = bios_file_of("bios.bin", image, sizeof(image));
	b = bios_new(&c, NULL, &err);
	CHECK(b);
	CHECK(mem_read(c.mem, 0xfffffff0, &byte, 1) == 0);
	CHECK_EQ(byte, image[sizeof(image) - 16]);
	CHECK(mem_read(c.mem, 0xfffc0000, &byte, 1) == 0);
	CHECK_EQ(byte, image[0]);
	CHECK(mem_read(c.mem, 0xe0000, &byte, 1) == 0);
	CHECK_EQ(byte, image[128 * KiB]);
	CHECK(mem_write(c.mem, 0xe0000, &byte, 1) < 0);
	WORKS(bios_reset(b, NULL, NULL, &cpu, &err));
	CHECK_EQ(cpu.mode, BOOT_RESET);
	bios_free(b);
	c.firmware = bios_file_of("odd.bin", image, 1000);
	err.msg[0] = 0;
	CHECK(!bios_new(&c, NULL, &err));
	CHECK(strstr(err.msg, "no firmware"));
}

/* Where the FACS lies, 64-byte aligned (ACPI 6.0, 5.2.10); NULL when it does not. */
static uint8_t *facs_of(const struct bios_config *c)
{
	for (uint64_t at = 0xe0000; at < 0x100000; at += 64)
		if (!memcmp(ram_at(c, at, 64), "FACS", 4))
			return ram_at(c, at, 64);
	return NULL;
}

TEST(a_guest_wakes_where_it_said)
{
	struct bios_config c = bios_fixture(BIOS_PC, RAM, 0);
	struct kernel k = kernel_new();
	struct boot_cpu cpu;
	struct bios *b;
	uint8_t *facs;

	c.kernel = bios_file_of("vmlinuz", k.bytes, k.len);
	b = bios_new(&c, NULL, &err);
	CHECK(b);
	WORKS(bios_reset(b, NULL, NULL, &cpu, &err));
	facs = facs_of(&c);
	CHECK(facs);
	memset(ram_at(&c, 0x1000000, 4096), 0xaa, 4096);
	REFUSED(bios_resume(b, NULL, NULL, &cpu, &err), EINVAL, "waking vector 0x0");
	st_le32(facs + 12, 0x9a123);
	WORKS(bios_resume(b, NULL, NULL, &cpu, &err));
	CHECK_EQ(cpu.mode, BOOT_REAL);
	CHECK_EQ(cpu.cs.selector, 0x9a12);
	CHECK_EQ(cpu.cs.base, 0x9a120);
	CHECK_EQ(cpu.rip, 3);
	CHECK_EQ(cpu.cr0 & 1, 0);
	CHECK(cpu.nmsrs > 0);
	/* the kernel was not loaded again */
	CHECK_EQ(*(uint8_t *)ram_at(&c, 0x1000000, 1), 0xaa);
	st_le32(facs + 12, 0x100000);
	REFUSED(bios_resume(b, NULL, NULL, &cpu, &err), EINVAL, "waking vector 0x100000");
	memset(facs, 0, 4);
	REFUSED(bios_resume(b, NULL, NULL, &cpu, &err), EINVAL, "overwritten the FACS");
	bios_free(b);
}

/*
 * What a kernel that calls a BIOS meets: an entry for each vector, in memory it does not overwrite,
 * that fails or returns.
 */
TEST(without_a_bios_its_calls_fail)
{
	struct bios_config c = bios_fixture(BIOS_PC, RAM, 0);
	struct kernel k = kernel_new();
	struct boot_cpu cpu;
	struct bios *b;

	c.cmdline = "quiet";
	c.kernel = bios_file_of("vmlinuz", k.bytes, k.len);
	b = bios_new(&c, NULL, &err);
	CHECK(b);
	WORKS(bios_reset(b, NULL, NULL, &cpu, &err));
	for (unsigned i = 0; i < 256; i++) {
		const uint8_t *v = ram_at(&c, 4 * i, 4), *code;

		code = ram_at(&c, ld_le16(v + 2) * 16 + ld_le16(v), 1);
		CHECK_EQ(code[0], i >= 0x10 && i <= 0x1a ? 0x55 : 0xcf);
	}
	bios_free(b);
}

TEST(a_reset_loads_again)
{
	struct bios_config c = bios_fixture(BIOS_PC, RAM, 0);
	struct kernel k = kernel_new();
	struct boot_cpu first, again;
	struct bios *b;

	c.cmdline = "quiet";
	c.kernel = bios_file_of("vmlinuz", k.bytes, k.len);
	b = bios_new(&c, NULL, &err);
	CHECK(b);
	WORKS(bios_reset(b, NULL, NULL, &first, &err));
	CHECK(!memcmp(ram_at(&c, 0xe0000, 8), "RSD PTR ", 8));
	CHECK(facs_of(&c));
	memset(ram_at(&c, 0, RAM), 0xaa, RAM);
	WORKS(bios_reset(b, NULL, NULL, &again, &err));
	CHECK(!memcmp(&first, &again, sizeof(first)));
	CHECK(!memcmp(ram_at(&c, 0x1000000, 2048), k.bytes + 1024, 2048));
	CHECK(!memcmp(ram_at(&c, 0xe0000, 8), "RSD PTR ", 8));
	CHECK(!strcmp(ram_at(&c, LOW_CMDLINE, 8), "quiet"));
	/* What firmware leaves in the MTRRs: the last one switches them on. */
	CHECK_EQ(again.msrs[again.nmsrs - 1].index, 0x2ff);
	bios_free(b);
}

TEST(impossible_wishes)
{
	struct bios_config c = bios_fixture(BIOS_PC, RAM, 0);

	err.msg[0] = 0;
	CHECK(!bios_new(&c, NULL, &err));
	CHECK(strstr(err.msg, "nothing to boot"));
	err.msg[0] = 0;
	c.pflash = true;
	c.initrd = bios_file_of("initrd", "x", 1);
	CHECK(!bios_new(&c, NULL, &err));
	CHECK(strstr(err.msg, "-initrd initrd needs -kernel"));
	c.initrd.fd = -1;
	c.cmdline = "x";
	err.msg[0] = 0;
	CHECK(!bios_new(&c, NULL, &err));
	CHECK(strstr(err.msg, "-append needs -kernel"));
	c.kernel = bios_file_of("notes.txt", "hello, this is no kernel", 24);
	err.msg[0] = 0;
	CHECK(!bios_new(&c, NULL, &err));
	CHECK(strstr(err.msg, "notes.txt is no kernel"));
}

TAP_MAIN
