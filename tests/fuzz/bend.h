/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bend.h: input as a stream of numbers, and saved trees changed by whole properties: one flipped
 * byte is refused by the tree's own rules, or by a length, nearly always.
 */
#ifndef TESTS_FUZZ_BEND_H
#define TESTS_FUZZ_BEND_H

#include <libfdt.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/base/util.h"

struct bytes { const uint8_t *p; size_t len; };

static inline uint64_t take(struct bytes *in, unsigned n)
{
	uint64_t v = 0;

	while (n--) {
		v = v << 8 | (in->len ? *in->p : 0);
		if (in->len)
			in->p++, in->len--;
	}
	return v;
}

static const uint64_t odd[] = { 0, 1, 2, 3, 7, 8, 15, 16, 0x7f, 0x80, 0xff, 0x100, 0x3ff, 0x400,
				0x7fff, 0x8000, 0xffff, 0x10000, 0xfffff0, 0x7fffffff, 0x80000000,
				0xffffffff, 1ull << 32, 3ull << 32, 1ull << 34, 1ull << 40,
				INT64_MAX, 1ull << 63, UINT64_MAX };

/* The n-th property of the tree; false when there are fewer. */
static inline bool nth_prop(const void *fdt, unsigned n, int *node, int *prop)
{
	for (*node = 0; *node >= 0; *node = fdt_next_node(fdt, *node, NULL))
		fdt_for_each_property_offset(*prop, fdt, *node)
			if (!n--)
				return true;
	return false;
}

static inline void bend_one(struct bytes *in, void *fdt, int node, const char *name, int len)
{
	unsigned op = take(in, 1);
	uint64_t v = op & 1 ? odd[take(in, 1) % ARRAY_SIZE(odd)] : take(in, 8);
	uint8_t val[256], *p;
	int n;

	if (op >= 0xe0) {		/* a list of any length */
		n = take(in, 1);
		for (int i = 0; i < n; i++)
			val[i] = take(in, 1);
		fdt_setprop(fdt, node, name, val, n);
	} else if (len <= 8) {
		st_be64(val, v);
		fdt_setprop_inplace(fdt, node, name, val + 8 - len, len);
	} else {
		p = fdt_getprop_w(fdt, node, name, &n);
		if (p && n)
			p[take(in, 2) % n] = v;
	}
}

/* Some properties of the tree changed; malloc()ed, as long as it says. */
static inline void *bend_tree(struct bytes *in, const void *blob, size_t len, size_t *bent)
{
	void *fdt = malloc(len + 8192), *exact;
	unsigned total = 0;
	int node, prop, n;
	const char *name;
	char copy[64];

	fdt_open_into(blob, fdt, len + 8192);
	while (nth_prop(fdt, total, &node, &prop))
		total++;
	for (unsigned k = 1 + take(in, 1) % 6; k--;) {
		if (!nth_prop(fdt, take(in, total > 256 ? 2 : 1) % total, &node, &prop) ||
		    !fdt_getprop_by_offset(fdt, prop, &name, &n))
			continue;
		snprintf(copy, sizeof(copy), "%s", name);
		bend_one(in, fdt, node, copy, n);
	}
	fdt_pack(fdt);
	*bent = fdt_totalsize(fdt);
	exact = malloc(*bent);
	memcpy(exact, fdt, *bent);
	free(fdt);
	return exact;
}

#endif
