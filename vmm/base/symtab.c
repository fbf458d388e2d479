/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * symtab.c: reads ELF symbol tables (System V ABI, chapter 4) and System.map, and has a stripped
 * kernel's own table read. The file is the guest's: every offset is checked. Loaded before the
 * guest runs; read-only then.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/host.h"
#include "vmm/base/kallsyms.h"
#include "vmm/base/symtab.h"

#define FILE_MAX (1024 * MiB)
#define NAME_MAX_BYTES 512
#define SYMBOL_MIN 6		/* bytes of a file that a symbol takes: "0 t a\n" */
#define NEAR (1 * MiB)		/* no function is longer: an address farther off belongs to none */

struct symbol {
	uint64_t addr;
	/* in `names`; 0: data, or what is no symbol's; the function before it ends here */
	uint32_t name;
};

/*
 * What a file says may stand in it once and be named a million times: names together are no longer
 * than the file, and symbols no more than find room in it.
 */
struct symtab {
	struct symbol *s;
	size_t n, cap, most;
	char *names;		/* one after the other; the first byte is no name's */
	size_t names_len, names_cap, names_most;
};

/* A file in memory, with a 0 behind it. */
struct text { char *p; size_t size; };

static void *grown(void *p, size_t *cap, size_t want, size_t most, size_t each)
{
	if (want <= *cap)
		return p;
	*cap = MIN(MAX(*cap * 2, want + 1023), most);
	return xrealloc(p, *cap * each);
}

static void symtab_add(struct symtab *t, uint64_t addr, const char *name)
{
	size_t len = name ? strnlen(name, NAME_MAX_BYTES) : 0;
	uint32_t at = 0;

	if ((name && (!*name || *name == '$' || !strncmp(name, ".L", 2))) || t->n == t->most ||
	    len + 1 > t->names_most - t->names_len)
		return;
	if (name) {
		at = (uint32_t)t->names_len;
		t->names = grown(t->names, &t->names_cap, at + len + 1, t->names_most, 1);
		memcpy(t->names + at, name, len);
		t->names[at + len] = 0;
		t->names_len += len + 1;
	}
	t->s = grown(t->s, &t->cap, t->n + 1, t->most, sizeof(*t->s));
	t->s[t->n++] = (struct symbol){ addr, at };
}

/* What both classes of ELF have, in one form. */
struct section { uint64_t off, size, entsize; uint32_t type, link; };

static bool section_get(const struct text *t, unsigned i, struct section *s)
{
	const Elf64_Ehdr *h64 = (const void *)t->p;
	const Elf32_Ehdr *h32 = (const void *)t->p;
	bool is64 = t->p[EI_CLASS] == ELFCLASS64;
	uint64_t at = is64 ? h64->e_shoff : h32->e_shoff,
		 size = is64 ? sizeof(Elf64_Shdr) : sizeof(Elf32_Shdr);

	if (i >= (is64 ? h64->e_shnum : h32->e_shnum) || !range_ok(at, (i + 1) * size, t->size))
		return false;
	if (is64) {
		Elf64_Shdr e;

		memcpy(&e, t->p + at + i * size, sizeof(e));
		*s = (struct section){ e.sh_offset, e.sh_size, e.sh_entsize, e.sh_type, e.sh_link };
	} else {
		Elf32_Shdr e;

		memcpy(&e, t->p + at + i * size, sizeof(e));
		*s = (struct section){ e.sh_offset, e.sh_size, e.sh_entsize, e.sh_type, e.sh_link };
	}
	return s->type == SHT_NOBITS || range_ok(s->off, s->size, t->size);
}

static void read_symbols(struct symtab *out, const struct text *t, const struct section *syms,
			 const struct section *names)
{
	bool is64 = t->p[EI_CLASS] == ELFCLASS64;
	uint64_t size = is64 ? sizeof(Elf64_Sym) : sizeof(Elf32_Sym);

	if (syms->entsize != size || !names->size || t->p[names->off + names->size - 1])
		return;
	for (uint64_t off = 0; off + size <= syms->size; off += size) {
		const char *at = t->p + syms->off + off;
		Elf64_Sym s;

		if (is64) {
			memcpy(&s, at, sizeof(s));
		} else {
			Elf32_Sym s32;

			memcpy(&s32, at, sizeof(s32));
			s = (Elf64_Sym){ .st_name = s32.st_name,
					 .st_info = s32.st_info,
					 .st_shndx = s32.st_shndx,
					 .st_value = s32.st_value };
		}
		/*
		 * Functions, and the untyped labels of assembler; numbers (absolute) are no places.
		 */
		if (s.st_name < names->size && s.st_shndx != SHN_UNDEF && s.st_shndx != SHN_ABS &&
		    (ELF64_ST_TYPE(s.st_info) == STT_FUNC ||
		     ELF64_ST_TYPE(s.st_info) == STT_NOTYPE))
			symtab_add(out, s.st_value, t->p + names->off + s.st_name);
	}
}

static void read_elf(struct symtab *out, const struct text *t)
{
	struct section syms, names;
	uint64_t tables = 0;

	if (t->size < sizeof(Elf64_Ehdr))
		return;
	/* Tables lie beside each other: together they are no longer than the file. */
	for (unsigned i = 0; section_get(t, i, &syms); i++) {
		if (syms.type != SHT_SYMTAB)
			continue;
		tables += syms.size;
		if (tables <= t->size && section_get(t, syms.link, &names) &&
		    names.type == SHT_STRTAB)
			read_symbols(out, t, &syms, &names);
	}
}

/* As nm types them. Of data, which follows its like, the first is enough. */
static void add_typed(void *opaque, uint64_t addr, char type, const char *name)
{
	struct symtab *t = opaque;

	if (strchr("tTwW", type))
		symtab_add(t, addr, name);
	else if (t->n && t->s[t->n - 1].name)
		symtab_add(t, addr, NULL);
}

/* "ffffffff81000000 T _text", a line each. */
static void read_map(struct symtab *out, struct text *t)
{
	char *save = NULL;

	for (char *line = strtok_r(t->p, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		uint64_t addr;
		int name = 0;
		char type;

		if (sscanf(line, "%" SCNx64 " %c %n", &addr, &type, &name) != 2 || !name)
			return;
		add_typed(out, addr, type, line + name);
	}
}

/*
 * The last function, often the only symbol there behind the code, is followed by data that the
 * table may leave out.
 */
static void read_linux(struct symtab *out, const struct text *t)
{
	uint64_t last = 0;

	kallsyms_read(t->p, t->size, add_typed, out);
	for (size_t i = 0; i < out->n; i++)
		last = MAX(last, out->s[i].addr);
	if (out->n)
		symtab_add(out, last, NULL);
}

static int by_address(const void *a, const void *b)
{
	const struct symbol *x = a, *y = b;

	return x->addr != y->addr ? (x->addr > y->addr) - (x->addr < y->addr) : !x->name - !y->name;
}

int symtab_load(const char *path, struct symtab **out, struct err *err)
{
	int fd = host_open(&host_door, "symbols", path, O_RDONLY, 0, err), ret;
	struct text text;
	struct symtab *t;
	struct stat st;

	*out = NULL;
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0) {
		ret = err_set(err, errno, "%s: %s", path, strerror(errno));
		close(fd);
		return ret;
	}
	if (!S_ISREG(st.st_mode) || st.st_size < EI_NIDENT || (uint64_t)st.st_size > FILE_MAX) {
		close(fd);
		return 0;
	}
	text.size = (size_t)st.st_size;
	text.p = xcalloc(1, text.size + 1);
	ret = pread_full(fd, text.p, text.size, 0);
	close(fd);
	t = xcalloc(1, sizeof(*t));
	t->most = text.size / SYMBOL_MIN;
	t->names_most = text.size;
	t->names_len = 1;
	if (ret < 0) {
		err_set(err, -ret, "%s: %s", path, strerror(-ret));
	} else if (!memcmp(text.p, ELFMAG, SELFMAG)) {
		read_elf(t, &text);
	} else if (strchr("0123456789abcdef", *text.p)) {
		read_map(t, &text);
	}
	if (ret >= 0 && !t->n)
		read_linux(t, &text);
	free(text.p);
	if (t->n) {
		qsort(t->s, t->n, sizeof(*t->s), by_address);
		*out = t;
	} else {
		symtab_free(t);
	}
	return MIN(ret, 0);
}

void symtab_free(struct symtab *t)
{
	if (!t)
		return;
	free(t->names);
	free(t->s);
	free(t);
}

bool symtab_has(const struct symtab *t, const char *function)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->s[i].name && !strcmp(t->names + t->s[i].name, function))
			return true;
	return false;
}

bool symtab_name(const struct symtab *t, uint64_t addr, char *buf, size_t len)
{
	size_t low = 0, high = t ? t->n : 0;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (t->s[mid].addr <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	if (!low || !t->s[low - 1].name || addr - t->s[low - 1].addr >= NEAR)
		return false;
	if (addr == t->s[low - 1].addr)
		snprintf(buf, len, "%s", t->names + t->s[low - 1].name);
	else
		snprintf(buf, len, "%s+0x%" PRIx64, t->names + t->s[low - 1].name,
			 addr - t->s[low - 1].addr);
	return true;
}
