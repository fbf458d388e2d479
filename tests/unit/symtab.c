/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * symtab.c: names from a kernel's own table, in both of its layouts, and from tables that are none.
 */
#include <criterion/criterion.h>
#include <elf.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/base/kallsyms.h"
#include "vmm/base/symtab.h"

#define SYMBOLS 5000
#define BASE 0xffffffff81000000ull
#define STEP 0x40

struct image { uint8_t *p; size_t n; };

static void put(struct image *im, const void *p, size_t n)
{
	im->p = xrealloc(im->p, im->n + n + 8);
	memcpy(im->p + im->n, p, n);
	im->n += n;
}

static void put_align(struct image *im)
{
	while (im->n & 7)
		put(im, "", 1);
}

static void put32(struct image *im, uint32_t v) { uint8_t b[4]; st_le32(b, v); put(im, b, 4); }
static void put64(struct image *im, uint64_t v) { uint8_t b[8]; st_le64(b, v); put(im, b, 8); }

static void put_offsets(struct image *im)
{
	for (uint32_t i = 0; i < SYMBOLS; i++)
		put32(im, i * STEP);
	put_align(im);
	put64(im, BASE);
}

/*
 * As scripts/kallsyms.c lays it out, with a token for each character; every tenth symbol is data.
 */
static struct image make_table(bool new_layout)
{
	struct image im = { 0 };
	uint32_t markers[SYMBOLS / 256 + 1], nmarkers = 0, names;
	uint16_t index[256];
	size_t tokens;

	put(&im, ELFMAG, SELFMAG);
	while (im.n < 70000)
		put(&im, "\x90", 1);
	put_align(&im);
	if (!new_layout)
		put_offsets(&im);
	put32(&im, SYMBOLS);
	put_align(&im);
	names = im.n;
	for (unsigned i = 0; i < SYMBOLS; i++) {
		char name[200];
		/* Since Linux 6.1 a length from 128 on takes two bytes. */
		int len = snprintf(name, sizeof(name), "%cfn%u%s%.*s", i % 10 ? 't' : 'D', i,
				   i == 7 ? "_" : "", i == 7 ? 140 : 0,
				   "long_long_long_long_long_long_long_long_long_long_long_long_"
				   "long_long_long_long_long_long_long_long_"
				   "long_long_long_long_long_long_long_long_long_long_");

		if (i % 256 == 0)
			markers[nmarkers++] = im.n - names;
		if (len > 127)
			put(&im, (uint8_t[]){ len | 0x80, len >> 7 }, 2);
		else
			put(&im, (uint8_t[]){ len }, 1);
		put(&im, name, len);
	}
	put_align(&im);
	for (unsigned i = 0; i < nmarkers; i++)
		put32(&im, markers[i]);
	put_align(&im);
	tokens = im.n;
	for (unsigned i = 0; i < 256; i++) {
		index[i] = im.n - tokens;
		put(&im, (char[]){ i, 0 }, i ? 2 : 1);
	}
	put_align(&im);
	for (unsigned i = 0; i < 256; i++)
		put(&im, (uint8_t[]){ index[i], index[i] >> 8 }, 2);
	put_align(&im);
	if (new_layout)
		put_offsets(&im);
	return im;
}

static struct symtab *load(const void *p, size_t n)
{
	char path[] = "/tmp/symtab-test-XXXXXX";
	int fd = mkstemp(path);
	struct symtab *t;

	cr_assert(fd >= 0 && write(fd, p, n) == (ssize_t)n);
	close(fd);
	cr_assert_eq(symtab_load(path, &t, NULL), 0);
	unlink(path);
	return t;
}

static void check(bool new_layout)
{
	struct image im = make_table(new_layout);
	struct symtab *t = load(im.p, im.n);
	char name[300];

	cr_assert(t);
	cr_assert(symtab_name(t, BASE + 1 * STEP, name, sizeof(name)));
	cr_assert_str_eq(name, "fn1");
	cr_assert(symtab_name(t, BASE + 4321 * STEP + 0x1c, name, sizeof(name)));
	cr_assert_str_eq(name, "fn4321+0x1c");
	cr_assert(symtab_name(t, BASE + 7 * STEP, name, sizeof(name)));
	cr_assert_eq(strlen(name), 4 + 140);
	cr_assert(symtab_has(t, "fn4998") && !symtab_has(t, "fn10") && !symtab_has(t, "fn5000"),
		  "data is no function");
	cr_assert(!symtab_name(t, BASE, name, sizeof(name)), "before the first function");
	cr_assert(!symtab_name(t, BASE + 10 * STEP, name, sizeof(name)), "data");
	cr_assert(!symtab_name(t, BASE + 4999 * STEP, name, sizeof(name)),
		  "behind the last function is data");
	symtab_free(t);
	free(im.p);
}

Test(symtab, kallsyms_until_6_3) { check(false); }
Test(symtab, kallsyms_since_6_4) { check(true); }

static void none(void *opaque, uint64_t addr, char type, const char *name)
{
	cr_assert(strlen(name) < 512);
	++*(unsigned *)opaque;
}

Test(symtab, a_cut_or_bent_table_is_harmless)
{
	for (int layout = 0; layout < 2; layout++) {
		struct image im = make_table(layout);
		unsigned n = 0;

		for (size_t cut = im.n; cut > 66000; cut -= 97) {
			/* so that the sanitizer sees a byte too many */
			void *copy = malloc(cut);

			memcpy(copy, im.p, cut);
			kallsyms_read(copy, cut, none, &n);
			free(copy);
		}
		for (unsigned i = 0; i < 400; i++) {
			size_t at = 70000 + (i * 2654435761u) % (im.n - 70000);
			uint8_t old = im.p[at];

			im.p[at] ^= 1 << i % 8;
			kallsyms_read(im.p, im.n, none, &n);
			im.p[at] = old;
		}
		free(im.p);
	}
}

Test(symtab, maps_and_files_without_names)
{
	static const char map[] = "ffffffff81000000 T _text\nffffffff81000100 D "
				  "data\nffffffff81000200 t second\nffffffff81000300 D more\n";
	struct symtab *t = load(map, sizeof(map) - 1);
	char name[80];

	cr_assert(symtab_name(t, 0xffffffff81000210, name, sizeof(name)));
	cr_assert_str_eq(name, "second+0x10");
	cr_assert(symtab_name(t, 0xffffffff810000ff, name, sizeof(name)));
	cr_assert_str_eq(name, "_text+0xff");
	cr_assert(!symtab_name(t, 0xffffffff81000110, name, sizeof(name)),
		  "data has no function's name");
	cr_assert(!symtab_name(t, 0xffffffff81000310, name, sizeof(name)),
		  "nor has what is behind all of them");
	symtab_free(t);
	cr_assert_null(load("MZ, and then a kernel in its own wrapping", 41));
	cr_assert_null(load(ELFMAG "and nothing of it", 21));
}

/* A table in which all symbols have one long name: it costs no more than its file. */
Test(symtab, a_name_named_often)
{
	enum { N = 4000, NAME = 1 << 20 };
	size_t osym = sizeof(Elf64_Ehdr) + NAME, osh = osym + N * sizeof(Elf64_Sym),
	       len = osh + 3 * sizeof(Elf64_Shdr),
	       before = mallinfo2().uordblks + mallinfo2().hblkhd;
	uint8_t *p = xcalloc(1, len);
	Elf64_Ehdr *e = (void *)p;
	Elf64_Sym *sym = (void *)(p + osym);
	Elf64_Shdr *sh = (void *)(p + osh);
	struct symtab *t;
	char name[2000];

	*e = (Elf64_Ehdr){ .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, 1 },
			   .e_type = ET_EXEC, .e_machine = EM_X86_64, .e_shoff = osh,
			   .e_shnum = 3 };
	memset(p + sizeof(*e) + 1, 'A', NAME - 2);
	for (unsigned i = 0; i < N; i++)
		sym[i] = (Elf64_Sym){ .st_name = 1, .st_info = STT_FUNC, .st_shndx = 1,
				      .st_value = BASE + i * STEP, .st_size = 1 };
	sh[1] = (Elf64_Shdr){ .sh_type = SHT_SYMTAB, .sh_offset = osym,
			      .sh_size = N * sizeof(Elf64_Sym), .sh_link = 2,
			      .sh_entsize = sizeof(Elf64_Sym) };
	sh[2] = (Elf64_Shdr){ .sh_type = SHT_STRTAB, .sh_offset = sizeof(*e), .sh_size = NAME };
	t = load(p, len);
	free(p);
	cr_assert(t);
	cr_assert(symtab_name(t, BASE + 3 * STEP + 1, name, sizeof(name)));
	cr_assert(name[0] == 'A' && strlen(name) < 600, "cut, not dropped");
	cr_assert_leq(mallinfo2().uordblks + mallinfo2().hblkhd - before, 2 * len);
	symtab_free(t);
}
