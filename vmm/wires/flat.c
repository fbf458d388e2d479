/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * flat.c: see flat.h. Linear where nothing overlaps; only a knot of overlapping ranges takes
 * longer. No state.
 */
#include <stdlib.h>

#include "vmm/wires/flat.h"

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* n ranges that hang together. Between two neighbouring cuts the same range is seen everywhere. */
static size_t flatten_knot(const struct span *in, size_t n, struct span *out)
{
	uint64_t *cuts = xcalloc(2 * n, sizeof(*cuts)), end = 0;
	size_t ncuts = 0, used = 0;

	for (size_t i = 0; i < n; i++) {
		cuts[ncuts++] = in[i].start;
		if (in[i].last != UINT64_MAX)
			cuts[ncuts++] = in[i].last + 1;
		end = MAX(end, in[i].last);
	}
	qsort(cuts, ncuts, sizeof(*cuts), by_value);
	for (size_t i = 0; i < ncuts; i++) {
		uint64_t start = cuts[i], last = i + 1 < ncuts ? cuts[i + 1] - 1 : end;
		const struct span *top = NULL;

		if (start > end || (i + 1 < ncuts && cuts[i + 1] == start))
			continue;
		for (size_t k = 0; k < n; k++)
			if (in[k].start <= start && last <= in[k].last &&
			    (!top || in[k].rank < top->rank))
				top = &in[k];
		if (used && out[used - 1].rank == top->rank && out[used - 1].last + 1 == start)
			out[used - 1].last = last;
		else
			out[used++] = (struct span){ start, last, top->rank, top->owner };
	}
	free(cuts);
	return used;
}

size_t flatten(const struct span *in, size_t n, struct span *out)
{
	size_t used = 0, next;

	for (size_t i = 0; i < n; i = next) {
		uint64_t last = in[i].last;

		for (next = i + 1; next < n && in[next].start <= last; next++)
			last = MAX(last, in[next].last);
		if (next == i + 1)
			out[used++] = in[i];
		else
			used += flatten_knot(in + i, next - i, out + used);
	}
	return used;
}
