/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * flat.h: ranges that may overlap become a sorted list of pieces that do not: who is seen at each
 * address. Shared by the bus and guest memory.
 */
#ifndef VMM_WIRES_FLAT_H
#define VMM_WIRES_FLAT_H

#include "vmm/base/util.h"

struct span {
	uint64_t start, last;	/* both inside */
	uint64_t rank;		/* the lowest rank is seen; no two are equal */
	void *owner;
};

/* in is sorted by start; out has room for 2 * n. Returns how many pieces there are. */
size_t flatten(const struct span *in, size_t n, struct span *out);

#endif
