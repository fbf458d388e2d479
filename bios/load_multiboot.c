/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * load_multiboot.c: a kernel with a multiboot 1 header (kvm-unit-tests, hobby and research kernels)
 * starts in 32-bit protected mode with EAX = 0x2badb002 and EBX pointing at the information
 * structure.
 *
 * Multiboot Specification 0.6.96: 3.1 (header), 3.2 (machine state), 3.3 (information format). The
 * structure lies behind the image, never in page 0: a kernel may use real memory for itself. The
 * first word of the command line is the kernel's path, as every boot loader has it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "bios/load.h"
#include "vmm/base/log.h"

#define MB_SEARCH 8192
#define MB_MAGIC 0x1badb002
#define MB_EAX 0x2badb002
#define MB_LOADER_NAME "minivmm"
enum { MB_PAGE_ALIGN = 1 << 0, MB_MEMORY_INFO = 1 << 1, MB_VIDEO_MODE = 1 << 2,
       MB_ADDRESSES = 1 << 16 };
enum { MBI_MEMORY = 1 << 0, MBI_CMDLINE = 1 << 2, MBI_MODS = 1 << 3, MBI_MMAP = 1 << 6,
       MBI_LOADER = 1 << 9 };

struct mb_header {
	uint32_t magic, flags, checksum, header_addr, load_addr, load_end_addr, bss_end_addr,
		entry_addr;
};
struct mb_info {
	uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4],
		mmap_length, mmap_addr, drives_length, drives_addr, config_table, boot_loader_name,
		apm_table, vbe[4];
};
struct mb_mod {
	uint32_t start, end, cmdline, reserved;
};
struct mb_mmap {
	uint32_t size;
	uint64_t base, len;
	uint32_t type;
} __attribute__((packed));

/* The information structure and everything it points to, in one piece at one address. */
struct mb_block {
	uint8_t gdt[BOOT_GDT_SIZE];
	struct mb_info info;
	struct mb_mod mods[BIOS_MAX_MODULES + 1];
	struct mb_mmap mmap[E820_MAX];
	char loader[16];
	char strings[];			/* command lines */
};

static int mb_find(const struct bios_file *f, struct mb_header *h, uint64_t *at, struct err *err)
{
	static const char what[] =
		"is no kernel minivmm can start: neither a Linux bzImage, nor multiboot, nor PVH";
	uint8_t buf[MB_SEARCH] = { 0 };
	uint64_t size, off;
	int ret;

	ret = file_size(f, &size, err);
	if (ret < 0)
		return ret;
	size = MIN(size, sizeof(buf));
	ret = file_read(f, buf, size, 0, err);
	if (ret < 0)
		return ret;
	for (off = 0; off + 12 <= size; off += 4) {
		if (ld_le32(buf + off) != MB_MAGIC ||
		    ld_le32(buf + off) + ld_le32(buf + off + 4) + ld_le32(buf + off + 8))
			continue;
		memset(h, 0, sizeof(*h));
		memcpy(h, buf + off, MIN(sizeof(*h), size - off));
		if ((h->flags & MB_ADDRESSES) && size - off < sizeof(*h))
			return err_set(err, ENODATA, "%s is truncated in its multiboot header",
				       f->path);
		/* Bits 0-15 are requirements: an unknown one must be refused. */
		if (h->flags & 0xfff8)
			return err_set(
				err, ENOTSUP,
				"%s demands multiboot features 0x%x that minivmm does not have",
				f->path, h->flags & 0xfff8);
		*at = off;
		return 0;
	}
	return err_set(err, ENOEXEC, "%s %s", f->path, what);
}

/* An image that says itself where it goes, for formats other than ELF (3.1.3). */
static int mb_load_addresses(const struct bios_config *c, const struct mb_header *h, uint64_t at,
			     struct elf_image *img, struct err *err)
{
	const struct bios_file *f = &c->kernel;
	uint64_t size, off, len, end;
	int ret;

	ret = file_size(f, &size, err);
	if (ret < 0)
		return ret;
	if (h->load_addr > h->header_addr || h->header_addr - h->load_addr > at)
		return err_set(err, ENOEXEC,
			       "%s: load address 0x%x and header address 0x%x of its multiboot "
			       "header make no "
			       "sense",
			       f->path, h->load_addr, h->header_addr);
	off = at - (h->header_addr - h->load_addr);
	len = h->load_end_addr ? (uint64_t)h->load_end_addr - h->load_addr : size - off;
	if (h->load_end_addr && h->load_end_addr < h->load_addr)
		return err_set(err, ENOEXEC,
			       "%s: its multiboot header ends loading before it begins", f->path);
	if (!range_ok(off, len, size))
		return err_set(err, ENODATA,
			       "%s is truncated: its multiboot header wants %llu bytes at %llu",
			       f->path, (unsigned long long)len, (unsigned long long)off);
	end = h->load_addr + len;
	if (h->bss_end_addr) {
		if (h->bss_end_addr < end)
			return err_set(err, ENOEXEC,
				       "%s: its multiboot header ends the bss inside the data",
				       f->path);
		end = h->bss_end_addr;
	}
	if (h->load_addr < LOW_END && end > LOW_EBDA)
		return err_set(err, ENOEXEC,
			       "%s: 0x%x-0x%llx lies on the video memory and ROM area", f->path,
			       h->load_addr, (unsigned long long)end);
	if (!ram_at(c, h->load_addr, end - h->load_addr))
		return err_set(err, ENOMEM,
			       "%s: 0x%x-0x%llx does not fit into the guest's memory; give it more "
			       "with -m",
			       f->path, h->load_addr, (unsigned long long)end);
	ret = ram_load(c, f, off, h->load_addr, len, err);
	if (ret < 0)
		return ret;
	memset(ram_at(c, h->load_addr + len, end - h->load_addr - len), 0,
	       end - h->load_addr - len);
	mem_mark_dirty(c->mem, h->load_addr, end - h->load_addr);
	*img = (struct elf_image){ .low = h->load_addr, .high = end, .entry = h->entry_addr };
	return 0;
}

struct mb_build {
	struct mb_block *b;
	size_t size, used;		/* of b; bytes of strings used */
	uint64_t gpa;			/* where b will lie */
	uint64_t next;			/* first free page behind it: modules */
};

/* Copies "a" or "a b" into the block; returns its guest address. */
static uint32_t mb_string(struct mb_build *m, const char *a, const char *b)
{
	char *to = m->b->strings + m->used;
	size_t room = m->size - sizeof(*m->b) - m->used;
	int n = snprintf(to, room, "%s%s%s", a, b && *b ? " " : "", b ? b : "");

	m->used += MIN((size_t)n + 1, room);
	return m->gpa + (to - (char *)m->b);
}

static int mb_module(const struct bios_config *c, struct mb_build *m, const struct bios_file *f,
		     const char *cmdline, struct err *err)
{
	uint64_t size, at = m->next;
	struct mb_mod *mod;
	int ret;

	ret = file_size(f, &size, err);
	if (ret < 0)
		return ret;
	if (at < LOW_END && at + size > LOW_EBDA)
		at = LOW_END;
	if (!range_ok(at, size, c->ram_low))
		return err_set(err, EFBIG,
			       "%s (%llu MiB) does not fit into memory behind the kernel; give the "
			       "guest more with -m",
			       f->path, (unsigned long long)((size + MiB - 1) / MiB));
	mod = &m->b->mods[m->b->info.mods_count++];
	mod->start = at;
	mod->end = at + size;
	mod->cmdline = mb_string(m, cmdline ? cmdline : f->path, NULL);
	m->next = ALIGN_UP(at + size, 4096ull);
	return ram_load(c, f, 0, at, size, err);
}

static void mb_memory(const struct bios_config *c, struct mb_build *m)
{
	struct e820_entry map[E820_MAX];
	unsigned i, n = e820_build(c, map, E820_MAX);
	struct mb_info *info = &m->b->info;

	for (i = 0; i < n; i++)
		m->b->mmap[i] = (struct mb_mmap){ sizeof(struct mb_mmap) - 4, map[i].base,
						  map[i].len, map[i].type };
	info->mmap_addr = m->gpa + offsetof(struct mb_block, mmap);
	info->mmap_length = n * sizeof(struct mb_mmap);
	info->mem_lower = LOW_EBDA / KiB;
	info->mem_upper = (c->ram_low - MiB) / KiB;
	info->flags |= MBI_MEMORY | MBI_MMAP;
}

static size_t mb_size(const struct bios_config *c)
{
	size_t n = sizeof(struct mb_block) + strlen(c->kernel.path) +
		   (c->cmdline ? strlen(c->cmdline) : 0) + 2;
	unsigned i;

	if (c->initrd.fd >= 0)
		n += strlen(c->initrd.path) + 1;
	for (i = 0; i < c->nmodules; i++)
		n += strlen(c->modules[i].cmdline ? c->modules[i].cmdline
						  : c->modules[i].file.path) +
		     1;
	return n;
}

/* Builds the block and loads the modules behind it. */
static int mb_build(const struct bios_config *c, struct mb_build *m, struct err *err)
{
	struct mb_info *info = &m->b->info;
	unsigned i;
	int ret = 0;

	info->cmdline = mb_string(m, c->kernel.path, c->cmdline);
	info->flags |= MBI_CMDLINE | MBI_LOADER | MBI_MODS;
	info->mods_addr = m->gpa + offsetof(struct mb_block, mods);
	strcpy(m->b->loader, MB_LOADER_NAME);
	info->boot_loader_name = m->gpa + offsetof(struct mb_block, loader);
	mb_memory(c, m);
	if (c->initrd.fd >= 0)
		ret = mb_module(c, m, &c->initrd, NULL, err);
	for (i = 0; ret == 0 && i < c->nmodules; i++)
		ret = mb_module(c, m, &c->modules[i].file, c->modules[i].cmdline, err);
	if (ret == 0)
		ret = ram_write(c, m->gpa, m->b, m->size);
	return ret;
}

int load_multiboot(const struct bios_config *c, uint64_t rsdp, struct boot_cpu *cpu,
		   struct err *err)
{
	struct mb_build m = { .size = mb_size(c) };
	struct elf_image img;
	struct mb_header h;
	uint64_t at;
	int ret;

	ret = mb_find(&c->kernel, &h, &at, err);
	if (ret < 0)
		return ret;
	if (h.flags & MB_ADDRESSES)
		ret = mb_load_addresses(c, &h, at, &img, err);
	else
		ret = elf_load(c, &c->kernel, LOW_EBDA, LOW_END, &img, err);
	if (ret < 0)
		return ret;
	if (img.entry < img.low || img.entry >= img.high || img.entry > UINT32_MAX)
		return err_set(err, ENOEXEC,
			       "%s: its entry point 0x%llx lies outside what it loads",
			       c->kernel.path, (unsigned long long)img.entry);

	m.gpa = ALIGN_UP(MAX(img.high, 4096ull), 4096ull);
	if (m.gpa < LOW_END && m.gpa + m.size > LOW_EBDA)
		m.gpa = LOW_END;
	m.next = ALIGN_UP(m.gpa + m.size, 4096ull);
	if (!range_ok(m.gpa, m.size, c->ram_low))
		return err_set(err, ENOMEM,
			       "no memory left behind %s for the boot information; give the guest "
			       "more with -m",
			       c->kernel.path);
	m.b = xcalloc(1, m.size);
	ret = mb_build(c, &m, err);
	free(m.b);
	if (ret < 0)
		return ret;
	ret = boot_flat32(c, m.gpa, cpu);
	if (ret < 0)
		return ret;
	cpu->rip = img.entry;
	cpu->rax = MB_EAX;
	cpu->rbx = m.gpa + offsetof(struct mb_block, info);
	cpu->rsp = 0;
	cpu->way = "multiboot";
	trace(TRACE_BOOT, 0, "bios",
	      "%s: multiboot, 0x%llx-0x%llx, entry 0x%llx, information at 0x%llx", c->kernel.path,
	      (unsigned long long)img.low, (unsigned long long)img.high,
	      (unsigned long long)img.entry, (unsigned long long)cpu->rbx);
	return 0;
}

enum bios_kernel kernel_identify(const struct bios_file *f, struct err *err)
{
	struct err mb_err = { "" };
	uint8_t head[0x206] = { 0 };
	struct mb_header h;
	uint64_t size, at;

	if (file_size(f, &size, err) < 0 || file_read(f, head, MIN(sizeof(head), size), 0, err) < 0)
		return KERNEL_UNKNOWN;
	if (size >= sizeof(head) && ld_le32(head + 0x202) == 0x53726448 &&
	    ld_le16(head + 0x1fe) == 0xaa55)
		return KERNEL_BZIMAGE;
	if (mb_find(f, &h, &at, &mb_err) == 0)
		return KERNEL_MULTIBOOT;
	if (!memcmp(head, "\177ELF", 4))
		return KERNEL_PVH;
	err_set(err, ENOEXEC, "%s", mb_err.msg);
	return KERNEL_UNKNOWN;
}
