/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2_counts.c: the counters of a check. They lie in small leaves, made on demand and found by a
 * hash: a full file of many clusters and a hostile one, with a reference here and there in a huge
 * hole, both cost in proportion to the references that are really in the file.
 */
#include <errno.h>
#include <stdlib.h>

#include "disk/qcow2/qcow2_counts.h"
#include "vmm/base/util.h"

enum { LEAF_BITS = 5, LEAF = 1 << LEAF_BITS, CHUNK = 1024 };

struct count_leaf {
	uint64_t number;
	uint32_t *wide;			/* once a count exceeds 16 bits */
	uint16_t v[LEAF];
};

static struct count_leaf *leaf_at(const struct counts *t, size_t i)
{
	return &t->chunks[i / CHUNK][i % CHUNK];
}

static size_t slot_of(const struct counts *t, uint64_t number)
{
	size_t i = (number * 0x9e3779b97f4a7c15ull >> 32) & (t->size - 1);

	while (t->slots[i] && leaf_at(t, t->slots[i] - 1)->number != number)
		i = (i + 1) & (t->size - 1);
	return i;
}

static int hash_grow(struct counts *t)
{
	size_t size = t->size ? t->size * 2 : 256;
	uint32_t *slots = size <= UINT32_MAX ? calloc(size, sizeof(*slots)) : NULL;

	if (!slots)
		return -ENOMEM;
	free(t->slots);
	t->slots = slots;
	t->size = size;
	for (size_t i = 0; i < t->n; i++)
		t->slots[slot_of(t, leaf_at(t, i)->number)] = i + 1;
	return 0;
}

static struct count_leaf *leaf_find(struct counts *t, uint64_t number)
{
	size_t i;

	if (t->last && t->last->number == number)
		return t->last;
	if (!t->size)
		return NULL;
	i = t->slots[slot_of(t, number)];
	return i ? t->last = leaf_at(t, i - 1) : NULL;
}

static struct count_leaf *leaf_make(struct counts *t, uint64_t number)
{
	struct count_leaf *l;

	/* Three quarters full at most. */
	if (t->n >= t->size / 4 * 3 && hash_grow(t))
		return NULL;
	if (t->n % CHUNK == 0) {
		size_t chunks = t->n / CHUNK;
		struct count_leaf **v = realloc(t->chunks, (chunks + 1) * sizeof(*v));

		if (!v)
			return NULL;
		t->chunks = v;
		v[chunks] = calloc(CHUNK, sizeof(*v[chunks]));
		if (!v[chunks])
			return NULL;
	}
	l = leaf_at(t, t->n);
	l->number = number;
	t->slots[slot_of(t, number)] = ++t->n;
	return t->last = l;
}

int counts_add(struct counts *t, uint64_t cluster, uint32_t times)
{
	struct count_leaf *l = leaf_find(t, cluster >> LEAF_BITS);
	unsigned i = cluster % LEAF;

	if (!l)
		l = leaf_make(t, cluster >> LEAF_BITS);
	if (!l)
		return -ENOMEM;
	if (!l->wide && times > (uint32_t)(UINT16_MAX - l->v[i])) {
		l->wide = malloc(LEAF * sizeof(*l->wide));
		if (!l->wide)
			return -ENOMEM;
		for (unsigned k = 0; k < LEAF; k++)
			l->wide[k] = l->v[k];
	}
	if (l->wide)
		l->wide[i] = times > UINT32_MAX - l->wide[i] ? UINT32_MAX : l->wide[i] + times;
	else
		l->v[i] += times;
	return 0;
}

static uint32_t leaf_get(const struct count_leaf *l, unsigned i)
{
	return l->wide ? l->wide[i] : l->v[i];
}

uint32_t counts_get(struct counts *t, uint64_t cluster)
{
	struct count_leaf *l = leaf_find(t, cluster >> LEAF_BITS);

	return l ? leaf_get(l, cluster % LEAF) : 0;
}

void counts_drop(struct counts *t, uint64_t cluster)
{
	struct count_leaf *l = leaf_find(t, cluster >> LEAF_BITS);

	if (!l || !leaf_get(l, cluster % LEAF))
		return;
	if (l->wide)
		l->wide[cluster % LEAF]--;
	else
		l->v[cluster % LEAF]--;
}

static int by_number(const void *a, const void *b, void *ctx)
{
	uint64_t x = leaf_at(ctx, *(const uint32_t *)a)->number;
	uint64_t y = leaf_at(ctx, *(const uint32_t *)b)->number;

	return x < y ? -1 : x > y;
}

static int leaves_sort(struct counts *t)
{
	uint32_t *sorted;

	if (t->nsorted == t->n)
		return 0;
	sorted = realloc(t->sorted, t->n * sizeof(*sorted));
	if (!sorted)
		return -ENOMEM;
	t->sorted = sorted;
	for (size_t i = 0; i < t->n; i++)
		sorted[i] = i;
	qsort_r(sorted, t->n, sizeof(*sorted), by_number, t);
	t->nsorted = t->n;
	return 0;
}

int counts_next(struct counts *t, uint64_t cluster, uint64_t *next)
{
	uint64_t number = cluster >> LEAF_BITS;
	size_t lo = 0, hi = t->n;
	int ret = leaves_sort(t);

	*next = UINT64_MAX;
	while (!ret && lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (leaf_at(t, t->sorted[mid])->number < number)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; !ret && lo < t->n; lo++) {
		struct count_leaf *l = leaf_at(t, t->sorted[lo]);

		for (unsigned i = l->number == number ? cluster % LEAF : 0; i < LEAF; i++) {
			if (leaf_get(l, i)) {
				*next = (l->number << LEAF_BITS) + i;
				return 0;
			}
		}
	}
	return ret;
}

void counts_free(struct counts *t)
{
	for (size_t i = 0; i < t->n; i++)
		free(leaf_at(t, i)->wide);
	for (size_t i = 0; i * CHUNK < t->n; i++)
		free(t->chunks[i]);
	free(t->chunks);
	free(t->slots);
	free(t->sorted);
}

/* --- references to L2 tables --- */

static int by_cluster(const void *a, const void *b)
{
	const struct l2_ref *x = a, *y = b;

	return x->cluster < y->cluster ? -1 : x->cluster > y->cluster;
}

void l2_refs_merge(struct l2_refs *r)
{
	size_t n = 0;

	if (!r->n)
		return;
	qsort(r->v, r->n, sizeof(*r->v), by_cluster);
	for (size_t i = 1; i < r->n; i++) {
		if (r->v[i].cluster != r->v[n].cluster)
			r->v[++n] = r->v[i];
		else
			r->v[n].times += MIN(r->v[i].times, UINT32_MAX - r->v[n].times);
	}
	r->n = n + 1;
}

int l2_refs_add(struct l2_refs *r, uint64_t cluster)
{
	/* Snapshots name the same tables again and again: room is made by merging first. */
	if (r->n == r->max) {
		size_t max = MAX(r->max * 2, (size_t)1024);
		struct l2_ref *v;

		l2_refs_merge(r);
		if (r->n >= r->max / 2) {
			v = realloc(r->v, max * sizeof(*v));
			if (!v)
				return -ENOMEM;
			r->v = v;
			r->max = max;
		}
	}
	r->v[r->n++] = (struct l2_ref){ cluster, 1 };
	return 0;
}

struct l2_ref *l2_refs_find(struct l2_refs *r, uint64_t cluster)
{
	struct l2_ref key = { cluster, 0 };

	return r->n ? bsearch(&key, r->v, r->n, sizeof(*r->v), by_cluster) : NULL;
}
