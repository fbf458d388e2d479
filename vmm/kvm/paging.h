/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * paging.h: the guest's own page tables, walked as its processor does, with every level shown.
 * (What KVM makes of them is another matter: vcpu_translate asks it.)
 */
#ifndef VMM_KVM_PAGING_H
#define VMM_KVM_PAGING_H

#include "vmm/kvm/vcpu.h"

#define PAGING_LEVELS 5
struct paging_step {
	const char *table;		/* "PML4", "PDPT", "PD", "PT" */
	unsigned index;
	uint64_t at, entry;		/* guest physical address of the entry, and what is there */
	bool unreadable;		/* it lies outside memory */
};
struct paging_walk {
	unsigned n;
	struct paging_step step[PAGING_LEVELS];
	bool mapped;
	uint64_t gpa, size;		/* when mapped: where, and how large a page */
	bool user, write, exec;		/* of all levels together */
};
/* "off", "32-bit", "PAE", "4-level", "5-level". */
const char *paging_mode(const struct kvm_sregs *s);
void paging_walk(struct mem *m, const struct kvm_sregs *s, uint64_t va, struct paging_walk *w);
/* Calls fn for each range of the same rights, in order; stops when it returns false. */
void paging_ranges(struct mem *m, const struct kvm_sregs *s,
		   bool (*fn)(void *ctx, uint64_t va, uint64_t end, const struct paging_walk *w),
		   void *ctx);

#endif
