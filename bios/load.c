/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * load.c: guest RAM, files and start-up processor state for the loaders.
 *
 * Intel SDM volume 3: 3.4.5 (descriptors), 4.5 (4-level paging), 9.8.5 (entering IA-32e mode),
 * 11.11 (MTRRs).
 */
#include <errno.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <linux/fs.h>

#include "bios/load.h"

void *ram_at(const struct bios_config *c, uint64_t gpa, uint64_t len)
{
	char *host = block_host(c->ram);

	if (range_ok(gpa, len, c->ram_low))
		return host + gpa;
	if (gpa >= 4 * GiB && range_ok(gpa - 4 * GiB, len, c->ram_high))
		return host + c->ram_low + (gpa - 4 * GiB);
	return NULL;
}

int ram_write(const struct bios_config *c, uint64_t gpa, const void *p, uint64_t len)
{
	void *to = ram_at(c, gpa, len);

	if (!to)
		return -EFAULT;
	memcpy(to, p, len);
	mem_mark_dirty(c->mem, gpa, len);
	return 0;
}

int ram_load(const struct bios_config *c, const struct bios_file *f, uint64_t off, uint64_t gpa,
	     uint64_t len, struct err *err)
{
	void *to = ram_at(c, gpa, len);
	int ret;

	if (!to)
		return err_set(err, EFBIG,
			       "%s: %llu bytes at 0x%llx do not fit into the guest's memory; give "
			       "it more with -m",
			       f->path, (unsigned long long)len, (unsigned long long)gpa);
	ret = file_read(f, to, len, off, err);
	mem_mark_dirty(c->mem, gpa, len);
	return ret;
}

int file_size(const struct bios_file *f, uint64_t *size, struct err *err)
{
	struct stat st;

	if (fstat(f->fd, &st) < 0)
		return err_set(err, errno, "%s: %s", f->path, strerror(errno));
	if (S_ISDIR(st.st_mode))
		return err_set(err, EISDIR, "%s is a directory", f->path);
	if (S_ISBLK(st.st_mode)) {
		if (ioctl(f->fd, BLKGETSIZE64, size) < 0)
			return err_set(err, errno, "%s: cannot find its size: %s", f->path,
				       strerror(errno));
	} else if (S_ISREG(st.st_mode)) {
		*size = st.st_size;
	} else {
		return err_set(
			err, ESPIPE,
			"%s is a pipe or device; it must be a regular file, as it is read again at "
			"each reset",
			f->path);
	}
	if (!*size)
		return err_set(err, ENODATA, "%s is empty", f->path);
	return 0;
}

int file_read(const struct bios_file *f, void *buf, size_t len, uint64_t off, struct err *err)
{
	int ret = pread_full(f->fd, buf, len, off);

	if (ret == -ENODATA)
		return err_set(err, ENODATA, "%s is truncated: it ends before byte %llu", f->path,
			       (unsigned long long)off + len);
	if (ret < 0)
		return err_set(err, -ret, "%s: cannot read %zu bytes at %llu: %s", f->path, len,
			       (unsigned long long)off, strerror(-ret));
	return 0;
}

/* One 8-byte descriptor: flat, present, DPL 0. */
static uint64_t descriptor(uint8_t type, bool is_system, bool db, bool l, uint32_t limit)
{
	uint64_t g = limit > 0xfffff, lim = g ? limit >> 12 : limit;
	uint64_t access = 0x80 | (is_system ? 0 : 0x10) | type;

	return (lim & 0xffff) | access << 40 | (lim >> 16) << 48 | (uint64_t)l << 53 |
	       (uint64_t)db << 54 | g << 55;
}

static struct boot_segment segment(uint16_t selector, uint8_t type, bool is_system, bool db, bool l,
				   uint32_t limit)
{
	return (struct boot_segment){
		.selector = selector, .type = type, .s = !is_system, .present = 1, .db = db, .l = l,
		.limit = limit, .g = limit > 0xfffff,
	};
}

static int boot_gdt(const struct bios_config *c, uint64_t gpa, bool long_mode, struct boot_cpu *cpu)
{
	uint64_t gdt[BOOT_GDT_SIZE / 8] = {
		[2] = htole64(descriptor(0xb, false, !long_mode, long_mode, UINT32_MAX)),
		[3] = htole64(descriptor(0x3, false, true, false, UINT32_MAX)),
		[4] = htole64(descriptor(0xb, true, false, false, 0x67)),
	};

	cpu->cs = segment(0x10, 0xb, false, !long_mode, long_mode, UINT32_MAX);
	cpu->ds = cpu->ss = segment(0x18, 0x3, false, true, false, UINT32_MAX);
	cpu->tr = segment(0x20, 0xb, true, false, false, 0x67);
	cpu->gdt_base = gpa;
	cpu->gdt_limit = sizeof(gdt) - 1;
	cpu->rflags = 0x2;
	return ram_write(c, gpa, gdt, sizeof(gdt));
}

int boot_flat32(const struct bios_config *c, uint64_t gdt, struct boot_cpu *cpu)
{
	cpu->mode = BOOT_PROTECTED;
	cpu->cr0 = 0x11;	/* PE, ET */
	cpu->cr3 = cpu->cr4 = cpu->efer = 0;
	return boot_gdt(c, gdt, false, cpu);
}

void boot_real(uint32_t at, struct boot_cpu *cpu)
{
	memset(cpu, 0, sizeof(*cpu));
	cpu->mode = BOOT_REAL;
	cpu->cs = segment((uint16_t)(at >> 4), 0xb, false, false, false, 0xffff);
	cpu->cs.base = at & ~15u;
	cpu->ds = cpu->ss = segment(0, 0x3, false, false, false, 0xffff);
	cpu->gdt_limit = 0xffff;
	cpu->cr0 = 0x10;	/* ET */
	cpu->rip = at & 15;
	cpu->rflags = 0x2;
	cpu->way = "wake";
}

int boot_long64(const struct bios_config *c, struct boot_cpu *cpu)
{
	enum { P = 1, RW = 2, ACCESSED = 0x20, DIRTY = 0x40, PS = 0x80, TABLES = 6 };
	uint64_t *t = ram_at(c, LOW_PAGE_TABLES, TABLES * 4096);
	unsigned i;

	if (!t)
		return -EFAULT;
	memset(t, 0, 2 * 4096);
	t[0] = htole64((LOW_PAGE_TABLES + 4096) | P | RW | ACCESSED);
	for (i = 0; i < 4; i++)
		t[512 + i] = htole64((LOW_PAGE_TABLES + (2 + i) * 4096) | P | RW | ACCESSED);
	for (i = 0; i < 4 * 512; i++)
		t[1024 + i] = htole64(i * 2 * MiB | P | RW | ACCESSED | DIRTY | PS);
	mem_mark_dirty(c->mem, LOW_PAGE_TABLES, TABLES * 4096);

	cpu->mode = BOOT_LONG;
	cpu->cr0 = 0x80000011;	/* PG, ET, PE */
	cpu->cr3 = LOW_PAGE_TABLES;
	cpu->cr4 = 0x20;	/* PAE */
	cpu->efer = 0x500;	/* LME, LMA */
	return boot_gdt(c, LOW_GDT, true, cpu);
}

void boot_bda(const struct bios_config *c)
{
	static const uint16_t com[4] = { 0x3f8, 0x2f8, 0x3e8, 0x2e8 };
	uint8_t bda[0x100] = { 0 };
	unsigned i, n = 0;

	for (i = 0; i < 4; i++)
		if (c->serial_mask >> i & 1)
			st_le16(bda + 2 * n++, com[i]);
	st_le16(bda + 0x0e, LOW_EBDA >> 4);
	st_le16(bda + 0x10, n << 9);			/* equipment: serial ports */
	st_le16(bda + 0x13, LOW_EBDA / KiB);
	ram_write(c, LOW_BDA, bda, sizeof(bda));
	ram_write(c, LOW_EBDA, "\1", 1);		/* its length in KiB */
}

/*
 * A kernel that goes back to real mode to ask a BIOS (Xen does, for memory map, disks and screen)
 * hears from each service that it does not exist: carry, ah 0x86. What is no service returns.
 * Vectors of zeros would let it run into the weeds.
 */
void boot_no_bios(const struct bios_config *c)
{
	static const uint8_t code[16] = {
		0x55,				/* push bp */
		0x89, 0xe5,			/* mov bp, sp */
		/* or byte [bp + 6], 1: carry among the flags to return to */
		0x80, 0x4e, 0x06, 0x01,
		0xb4, 0x86,			/* mov ah, 0x86 */
		0x5d,				/* pop bp */
		0xcf,				/* iret */
	};
	enum { IRET = 10, FIRST_SERVICE = 0x10, LAST_SERVICE = 0x1a, VECTORS = 256 };
	uint8_t ivt[VECTORS * 4];

	for (unsigned i = 0; i < VECTORS; i++) {
		bool service = i >= FIRST_SERVICE && i <= LAST_SERVICE;

		st_le16(ivt + 4 * i, (LOW_NO_BIOS & 0xffff) + (service ? 0 : IRET));
		st_le16(ivt + 4 * i + 2, LOW_NO_BIOS >> 4 & 0xf000);
	}
	ram_write(c, 0, ivt, sizeof(ivt));
	ram_write(c, LOW_NO_BIOS, code, sizeof(code));
}

void boot_mtrrs(const struct bios_config *c, struct boot_cpu *cpu)
{
	enum { DEF_TYPE = 0x2ff, FIX64K_00000 = 0x250, FIX16K_80000 = 0x258, FIX16K_A0000 = 0x259,
	       FIX4K_C0000 = 0x268,
	       PHYS_BASE0 = 0x200, PHYS_MASK0 = 0x201 };
	const uint64_t wb = 0x0606060606060606, uc = 0;
	uint64_t phys_mask = (1ull << (c->phys_bits ? c->phys_bits : 36)) - 1;
	unsigned n = 0, i;

	cpu->msrs[n++] = (struct boot_msr){ FIX64K_00000, wb };
	cpu->msrs[n++] = (struct boot_msr){ FIX16K_80000, wb };
	cpu->msrs[n++] = (struct boot_msr){ FIX16K_A0000, c->machine == BIOS_MICRO ? wb : uc };
	for (i = 0; i < 8; i++)
		cpu->msrs[n++] = (struct boot_msr){ FIX4K_C0000 + i, wb };
	/* One uncached gigabyte: 0xc0000000 to 4 GiB. RAM never reaches into it. */
	cpu->msrs[n++] = (struct boot_msr){ PHYS_BASE0, BIOS_PCI_HOLE };
	cpu->msrs[n++] = (struct boot_msr){ PHYS_MASK0, (phys_mask & ~(GiB - 1)) | 0x800 };
	cpu->msrs[n++] = (struct boot_msr){ DEF_TYPE, 0xc06 };
	cpu->nmsrs = n;
}
