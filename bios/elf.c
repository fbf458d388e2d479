/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * elf.c: executables of the ELF format, 32 and 64 bits, for PVH and multiboot kernels. Nothing in
 * the file is trusted: every table, segment and note is checked against the file and guest RAM
 * before it is used.
 *
 * System V ABI, chapters 4 (ELF header) and 5 (program header, note section).
 */
#include <elf.h>
#include <errno.h>
#include <stdlib.h>

#include "bios/load.h"

#define ELF_MAX_PHDRS 128
#define ELF_MAX_NOTES (64 * KiB)
#ifndef XEN_ELFNOTE_PHYS32_ENTRY
#define XEN_ELFNOTE_PHYS32_ENTRY 18
#endif

struct elf_segment {
	uint32_t type;
	uint64_t off, filesz, memsz, paddr, align;
};

struct elf_file {
	const struct bios_file *f;
	uint64_t size, entry;
	bool is64;
	unsigned nsegs;
	struct elf_segment segs[ELF_MAX_PHDRS];
};

static int elf_header(struct elf_file *e, uint64_t *phoff, unsigned *phentsize, struct err *err)
{
	Elf64_Ehdr h = { 0 };
	Elf32_Ehdr h32;
	int ret;

	ret = file_size(e->f, &e->size, err);
	if (ret == 0)
		ret = file_read(e->f, &h, MIN(sizeof(h), e->size), 0, err);
	if (ret < 0)
		return ret;
	if (memcmp(h.e_ident, ELFMAG, SELFMAG) || h.e_ident[EI_DATA] != ELFDATA2LSB ||
	    (h.e_ident[EI_CLASS] != ELFCLASS32 && h.e_ident[EI_CLASS] != ELFCLASS64))
		return err_set(err, ENOEXEC, "%s is not a little-endian ELF file", e->f->path);
	e->is64 = h.e_ident[EI_CLASS] == ELFCLASS64;
	if (e->size < (e->is64 ? sizeof(Elf64_Ehdr) : sizeof(Elf32_Ehdr)))
		return err_set(err, ENODATA, "%s is truncated in its ELF header", e->f->path);
	memcpy(&h32, &h, sizeof(h32));
	/*
	 * e_type and e_machine lie at the same place in both. A 32-bit entry into a 64-bit kernel
	 * comes as either machine.
	 */
	if (h.e_machine != EM_386 && h.e_machine != EM_X86_64)
		return err_set(err, ENOEXEC, "%s is an ELF file for another processor (machine %u)",
			       e->f->path, h.e_machine);
	if (h.e_type != ET_EXEC && h.e_type != ET_DYN)
		return err_set(err, ENOEXEC, "%s is an ELF file that cannot be run (type %u)",
			       e->f->path, h.e_type);
	e->entry = e->is64 ? h.e_entry : h32.e_entry;
	*phoff = e->is64 ? h.e_phoff : h32.e_phoff;
	e->nsegs = e->is64 ? h.e_phnum : h32.e_phnum;
	*phentsize = e->is64 ? h.e_phentsize : h32.e_phentsize;
	if (*phentsize != (e->is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)) || !e->nsegs ||
	    e->nsegs > ELF_MAX_PHDRS)
		return err_set(err, ENOEXEC, "%s: %u program headers of %u bytes make no sense",
			       e->f->path, e->nsegs, *phentsize);
	return 0;
}

static int elf_open(struct elf_file *e, const struct bios_file *f, struct err *err)
{
	union { Elf64_Phdr p64; Elf32_Phdr p32; } p;
	unsigned i, entsize = 0;
	uint64_t phoff = 0;
	int ret;

	e->f = f;
	ret = elf_header(e, &phoff, &entsize, err);
	if (ret < 0)
		return ret;
	if (!range_ok(phoff, (uint64_t)e->nsegs * entsize, e->size))
		return err_set(err, ENODATA, "%s is truncated in its program headers", f->path);
	for (i = 0; i < e->nsegs; i++) {
		struct elf_segment *s = &e->segs[i];

		ret = file_read(f, &p, entsize, phoff + i * entsize, err);
		if (ret < 0)
			return ret;
		*s = e->is64 ? (struct elf_segment){ p.p64.p_type,  p.p64.p_offset, p.p64.p_filesz,
						     p.p64.p_memsz, p.p64.p_paddr,  p.p64.p_align }
			     : (struct elf_segment){ p.p32.p_type,  p.p32.p_offset, p.p32.p_filesz,
						     p.p32.p_memsz, p.p32.p_paddr,  p.p32.p_align };
		if ((s->type == PT_LOAD || s->type == PT_NOTE) &&
		    !range_ok(s->off, s->filesz, e->size))
			return err_set(
				err, ENODATA,
				"%s is truncated: segment %u wants %llu bytes at %llu of %llu",
				f->path, i, (unsigned long long)s->filesz,
				(unsigned long long)s->off, (unsigned long long)e->size);
	}
	return 0;
}

/* Looks for the Xen note that gives the 32-bit physical entry point. */
static void elf_find_pvh(struct elf_image *img, const uint8_t *p, size_t len, size_t align)
{
	while (len >= sizeof(Elf64_Nhdr)) {
		uint64_t namesz = ld_le32(p), descsz = ld_le32(p + 4), type = ld_le32(p + 8);
		uint64_t name = sizeof(Elf64_Nhdr), desc = ALIGN_UP(name + namesz, align),
			 next = ALIGN_UP(desc + descsz, align);

		if (!range_ok(name, namesz, len) || !range_ok(desc, descsz, len))
			return;
		if (type == XEN_ELFNOTE_PHYS32_ENTRY && namesz == 4 &&
		    !memcmp(p + name, "Xen", 4) && descsz >= 4) {
			img->has_pvh = true;
			img->pvh_entry = ld_le32(p + desc);
			return;
		}
		if (next >= len)
			return;
		p += next;
		len -= next;
	}
}

static int elf_notes(struct elf_file *e, struct elf_image *img, struct err *err)
{
	unsigned i;

	for (i = 0; i < e->nsegs && !img->has_pvh; i++) {
		struct elf_segment *s = &e->segs[i];
		uint8_t *notes;
		int ret;

		if (s->type != PT_NOTE || s->filesz > ELF_MAX_NOTES)
			continue;
		notes = xcalloc(1, s->filesz + 1);
		ret = file_read(e->f, notes, s->filesz, s->off, err);
		if (ret == 0)
			elf_find_pvh(img, notes, s->filesz, s->align == 8 ? 8 : 4);
		free(notes);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int elf_check_segments(const struct bios_config *c, struct elf_file *e,
			      struct elf_image *img, struct err *err)
{
	unsigned i;

	img->low = UINT64_MAX;
	img->high = 0;
	for (i = 0; i < e->nsegs; i++) {
		struct elf_segment *s = &e->segs[i];

		if (s->type != PT_LOAD || !s->memsz)
			continue;
		if (s->filesz > s->memsz)
			return err_set(err, ENOEXEC,
				       "%s: segment %u has more bytes in the file than in memory",
				       e->f->path, i);
		if (!ram_at(c, s->paddr, s->memsz))
			return err_set(err, ENOMEM,
				       "%s: segment %u (%llu bytes at 0x%llx) does not fit into "
				       "the guest's memory "
				       "of %llu MiB; give it more with -m",
				       e->f->path, i, (unsigned long long)s->memsz,
				       (unsigned long long)s->paddr,
				       (unsigned long long)((c->ram_low + c->ram_high) / MiB));
		img->low = MIN(img->low, s->paddr);
		img->high = MAX(img->high, s->paddr + s->memsz);
	}
	if (!img->high)
		return err_set(err, ENOEXEC, "%s has nothing to load", e->f->path);
	return 0;
}

static int elf_scan(struct elf_file *e, const struct bios_config *c, const struct bios_file *f,
		    struct elf_image *img, struct err *err)
{
	int ret;

	memset(img, 0, sizeof(*img));
	ret = elf_open(e, f, err);
	if (ret == 0)
		ret = elf_notes(e, img, err);
	if (ret == 0)
		ret = elf_check_segments(c, e, img, err);
	img->is64 = e->is64;
	img->entry = e->entry;
	return ret;
}

int elf_load(const struct bios_config *c, const struct bios_file *f, uint64_t avoid,
	     uint64_t avoid_end, struct elf_image *img, struct err *err)
{
	struct elf_file e = { .f = f };
	unsigned i;
	int ret;

	ret = elf_scan(&e, c, f, img, err);
	if (ret < 0)
		return ret;
	for (i = 0; i < e.nsegs; i++) {
		struct elf_segment *s = &e.segs[i];

		if (s->type != PT_LOAD || !s->memsz)
			continue;
		if (s->paddr < avoid_end && s->paddr + s->memsz > avoid)
			return err_set(err, ENOEXEC,
				       "%s: segment %u at 0x%llx lies on 0x%llx-0x%llx, which the "
				       "machine needs",
				       f->path, i, (unsigned long long)s->paddr,
				       (unsigned long long)avoid,
				       (unsigned long long)avoid_end - 1);
		ret = ram_load(c, f, s->off, s->paddr, s->filesz, err);
		if (ret < 0)
			return ret;
		/* Whatever an earlier run left there. */
		memset(ram_at(c, s->paddr + s->filesz, s->memsz - s->filesz), 0,
		       s->memsz - s->filesz);
		mem_mark_dirty(c->mem, s->paddr, s->memsz);
	}
	return 0;
}
