/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * paging.c: Intel SDM volume 3, 4.3 (32-bit), 4.4 (PAE), 4.5 (4-level and 5-level paging). vCPUs
 * parked.
 */
#include "vmm/kvm/paging.h"

enum { P = 1, RW = 2, US = 4, PS = 0x80 };
#define CR0_PG (1ull << 31)
#define CR4_PSE (1u << 4)
#define CR4_PAE (1u << 5)
#define CR4_LA57 (1u << 12)
#define EFER_LMA (1u << 10)
#define NX (1ull << 63)
#define WALKS_MAX (4u << 20)
#define ADDRESS 0x000ffffffffff000ull

struct mode {
	const char *name;
	unsigned levels, entry;			/* entry: bytes */
	/* of the address each level takes, the first level first */
	unsigned bits[PAGING_LEVELS];
	const char *tables[PAGING_LEVELS];
};

static const struct mode off = { .name = "off" };
static const struct mode legacy = { "32-bit", 2, 4, { 10, 10 }, { "PD", "PT" } };
static const struct mode pae = { "PAE", 3, 8, { 2, 9, 9 }, { "PDPT", "PD", "PT" } };
static const struct mode four = { "4-level", 4, 8, { 9, 9, 9, 9 }, { "PML4", "PDPT", "PD", "PT" } };
static const struct mode five = {
	"5-level", 5, 8, { 9, 9, 9, 9, 9 }, { "PML5", "PML4", "PDPT", "PD", "PT" }
};

static const struct mode *mode_of(const struct kvm_sregs *s)
{
	if (!(s->cr0 & CR0_PG))
		return &off;
	if (s->efer & EFER_LMA)
		return s->cr4 & CR4_LA57 ? &five : &four;
	return s->cr4 & CR4_PAE ? &pae : &legacy;
}

const char *paging_mode(const struct kvm_sregs *s)
{
	return mode_of(s)->name;
}

/* Whether an entry of this level is a page itself. */
static bool is_leaf(const struct mode *m, const struct kvm_sregs *s, unsigned level, uint64_t entry)
{
	unsigned left = m->levels - level;	/* 1: PT, 2: PD, 3: PDPT */

	if (left == 1)
		return true;
	if (!(entry & PS))
		return false;
	return (left == 2 && (m != &legacy || s->cr4 & CR4_PSE)) ||
	       (left == 3 && (m == &four || m == &five));
}

void paging_walk(struct mem *mem, const struct kvm_sregs *s, uint64_t va, struct paging_walk *w)
{
	const struct mode *m = mode_of(s);
	unsigned shift = 12;
	uint64_t table = s->cr3 & (m == &pae	  ? 0xffffffe0ull
				   : m == &legacy ? 0xfffff000ull
						  : ADDRESS);

	*w = (struct paging_walk){ .user = true, .write = true, .exec = true, .size = 4096 };
	if (m == &off) {
		w->mapped = true;
		w->gpa = va;
		return;
	}
	for (unsigned i = 0; i < m->levels; i++)
		shift += m->bits[i];
	for (unsigned i = 0; i < m->levels; i++) {
		struct paging_step *st = &w->step[w->n++];
		uint8_t raw[8] = { 0 };
		bool rights = !(m == &pae && i == 0);	/* these four have none */

		shift -= m->bits[i];
		st->table = m->tables[i];
		st->index = (unsigned)(va >> shift & ((1u << m->bits[i]) - 1));
		st->at = table + st->index * m->entry;
		st->unreadable = mem_read(mem, st->at, raw, m->entry) < 0;
		st->entry = ld_le64(raw);
		w->size = 1ull << shift;
		if (st->unreadable || !(st->entry & P))
			return;
		w->user &= !rights || (st->entry & US);
		w->write &= !rights || (st->entry & RW);
		w->exec &= m == &legacy || !rights || !(st->entry & NX);
		if (is_leaf(m, s, i, st->entry)) {
			/* A 4 MiB page has address bits 32-39 at 13-20 (PSE-36). */
			uint64_t base = m == &legacy && i == 0
						? (st->entry & 0xffc00000) |
							  (st->entry >> 13 & 0xff) << 32
						: st->entry & ADDRESS & ~(w->size - 1);

			w->mapped = true;
			w->gpa = base | (va & (w->size - 1));
			return;
		}
		table = st->entry & (m == &legacy ? 0xfffff000ull : ADDRESS);
	}
}

static bool same_rights(const struct paging_walk *a, const struct paging_walk *b)
{
	return a->user == b->user && a->write == b->write && a->exec == b->exec;
}

void paging_ranges(struct mem *mem, const struct kvm_sregs *s,
		   bool (*fn)(void *ctx, uint64_t va, uint64_t end, const struct paging_walk *w),
		   void *ctx)
{
	const struct mode *m = mode_of(s);
	unsigned bits = m == &five ? 57 : m == &four ? 48 : 32;
	struct paging_walk w, open = { 0 };
	uint64_t va = 0, start = 0, end = 0;	/* [start, end) is open while open.mapped */

	if (m == &off)
		return;
	/* Tables that point at themselves map all there is: nobody waits for that. */
	for (unsigned n = 0; n < WALKS_MAX; n++) {
		paging_walk(mem, s, va, &w);
		if (open.mapped && (!w.mapped || !same_rights(&open, &w) || va != end)) {
			if (!fn(ctx, start, end, &open))
				return;
			open.mapped = false;
		}
		if (w.mapped && !open.mapped) {
			open = w;
			start = va;
		}
		va = (va & ~(w.size - 1)) + w.size;
		if (w.mapped)
			end = va;
		if (bits == 32 ? va >> 32 != 0 : va == 0)
			break;
		/* Addresses are sign-extended: after the lower half comes the upper. */
		if (bits > 32 && va == 1ull << (bits - 1))
			va = ~0ull << (bits - 1);
	}
	if (open.mapped)
		fn(ctx, start, end, &open);
}
