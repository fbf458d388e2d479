/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * load.h: what the loaders of this folder share: guest RAM by address, files, segments, ELF images.
 * Runs before the vCPUs or with all of them parked.
 */
#ifndef BIOS_LOAD_H
#define BIOS_LOAD_H

#include "bios/boot.h"

/* Real memory below 1 MiB as the direct boot ways use it. */
#define LOW_BDA		0x400		/* BIOS data area */
#define LOW_GDT		0x1000
#define LOW_START_INFO	0x6000		/* PVH */
#define LOW_ZERO_PAGE	0x7000		/* struct boot_params */
#define LOW_STACK_TOP	0x8ff0
#define LOW_PAGE_TABLES	0x9000		/* PML4, PDPT, 4 page directories: up to 0xf000 */
#define LOW_SETUP_DATA	0x10000
#define LOW_CMDLINE	0x20000		/* up to the EBDA */
#define LOW_EBDA	0x9fc00		/* 1 KiB */
#define LOW_TABLES	0xe0000		/* ACPI, SMBIOS */
/* what BIOS interrupts come to, where there is no BIOS: 16 bytes */
#define LOW_NO_BIOS	0xfffe0
#define LOW_END		0x100000

/*
 * Host address of guest RAM [gpa, gpa + len), or NULL when any byte is not RAM. Whatever is mapped
 * over it is ignored.
 */
void *ram_at(const struct bios_config *c, uint64_t gpa, uint64_t len);
/* Reads len bytes of the file at off straight into guest RAM. 0 or -errno with the reason. */
int ram_load(const struct bios_config *c, const struct bios_file *f, uint64_t off, uint64_t gpa,
	     uint64_t len, struct err *err);
int ram_write(const struct bios_config *c, uint64_t gpa, const void *p, uint64_t len);

/* Length of a regular file (or block device). 0 or -errno with the reason. */
int file_size(const struct bios_file *f, uint64_t *size, struct err *err);
/* Reads exactly len bytes; "truncated" when the file is shorter. */
int file_read(const struct bios_file *f, void *buf, size_t len, uint64_t off, struct err *err);

/* The start-up GDT: flat code at 0x10, data at 0x18, TSS at 0x20. */
#define BOOT_GDT_SIZE 0x30
/* 32-bit protected mode, flat, paging off; gdt must have room for BOOT_GDT_SIZE. */
int boot_flat32(const struct bios_config *c, uint64_t gdt, struct boot_cpu *cpu);
/* 64-bit mode on an identity map of 4 GiB at LOW_PAGE_TABLES. */
int boot_long64(const struct bios_config *c, struct boot_cpu *cpu);
/* Real mode at a physical address below 1 MiB. */
void boot_real(uint32_t at, struct boot_cpu *cpu);
/*
 * BIOS data area: where the EBDA begins, how much memory lies below it, which serial ports there
 * are.
 */
void boot_bda(const struct bios_config *c);
/* interrupt vectors by which every BIOS call fails */
void boot_no_bios(const struct bios_config *c);
/* MTRRs as firmware leaves them: write-back, PCI hole and VGA window uncached. */
void boot_mtrrs(const struct bios_config *c, struct boot_cpu *cpu);

/* --- ELF executables (elf.c) --- */
struct elf_image {
	bool is64;
	uint64_t entry;		/* e_entry */
	uint64_t low, high;	/* physical extent of what was loaded, [low, high) */
	bool has_pvh;
	uint32_t pvh_entry;
};
/* Loads the segments at their physical addresses. Nothing may lie in [avoid, avoid_end). */
int elf_load(const struct bios_config *c, const struct bios_file *f, uint64_t avoid,
	     uint64_t avoid_end, struct elf_image *img, struct err *err);

#endif
