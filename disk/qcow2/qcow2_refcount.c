/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2_refcount.c: how often each host cluster is used, and finding free ones (spec: "Host cluster
 * management"). Widths of 1 to 64 bits. With the image lock.
 *
 * A refcount block that is missing covers clusters that are all free, so the new block is put at
 * the first cluster of its own range and counts itself.
 */
#include <errno.h>
#include <stdlib.h>

#include "disk/qcow2/qcow2.h"

uint64_t refcount_read(const struct qcow2 *q, const uint8_t *b, uint64_t i)
{
	switch (q->h.refcount_order) {
	case 0: return b[i / 8] >> (i % 8) & 1;
	case 1: return b[i / 4] >> (i % 4 * 2) & 3;
	case 2: return b[i / 2] >> (i % 2 * 4) & 15;
	case 3: return b[i];
	case 4: return ld_be16(b + i * 2);
	case 5: return ld_be32(b + i * 4);
	default: return ld_be64(b + i * 8);
	}
}

void refcount_write(const struct qcow2 *q, uint8_t *b, uint64_t i, uint64_t v)
{
	unsigned bits = 1u << q->h.refcount_order, per, shift;

	switch (q->h.refcount_order) {
	case 0: case 1: case 2:
		per = 8 / bits;
		shift = i % per * bits;
		b[i / per] = (b[i / per] & ~(((1u << bits) - 1) << shift)) | v << shift;
		break;
	case 3: b[i] = v; break;
	case 4: st_be16(b + i * 2, v); break;
	case 5: st_be32(b + i * 4, v); break;
	default: st_be64(b + i * 8, v); break;
	}
}

/* *tp NULL: no block, all zero. */
static int rb_get(struct qcow2 *q, uint64_t index, struct table **tp)
{
	struct table *t;
	uint64_t host;
	int ret;

	*tp = NULL;
	if (index >= q->reft_size)
		return 0;
	t = q->rmap[index];
	if (t) {
		t->used = ++q->clock;
		*tp = t;
		return 0;
	}
	host = q->reft[index] & REFT_OFFSET;
	if (!host)
		return 0;
	if (!host_ok(q, host, q->cluster_size))
		return qcow2_corrupt(
			q,
			"refcount table entry %llu points to %#llx: unaligned or outside the file",
			(unsigned long long)index, (unsigned long long)host);
	q->rbs.max--;
	tables_trim(q, &q->rbs);
	q->rbs.max++;
	t = table_new(q, true, index, host);
	if (!t)
		return -ENOMEM;
	q->rmap[index] = t;
	ret = node_pread(q->n->file, t->data, q->cluster_size, host);
	if (ret) {
		table_drop(q, t);
		return ret;
	}
	*tp = t;
	return 0;
}

int refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *v)
{
	struct table *t;
	int ret = rb_get(q, cluster >> q->rb_bits, &t);

	*v = !ret && t ? refcount_read(q, t->data, cluster & ((1ull << q->rb_bits) - 1)) : 0;
	return ret;
}

static void rb_set(struct qcow2 *q, struct table *t, uint64_t cluster, uint64_t v)
{
	uint64_t i = cluster & ((1ull << q->rb_bits) - 1);

	refcount_write(q, t->data, i, v);
	table_dirty(q, t, i << q->h.refcount_order >> 3, MAX(1u, (1u << q->h.refcount_order) / 8));
}

/* A block for a range that has none. */
static struct table *rb_create(struct qcow2 *q, uint64_t index, uint64_t host)
{
	struct table *t = table_new(q, true, index, host);
	uint64_t s = index * 8 / 512;

	if (!t)
		return NULL;
	t->fresh = true;
	t->is_dirty = true;
	q->rmap[index] = t;
	q->reft[index] = host;
	q->reft_dirty[s / 64] |= 1ull << (s % 64);
	q->reft_is_dirty = true;
	meta_add(q, host);
	q->end = MAX(q->end, (host >> q->cluster_bits) + 1);
	return t;
}

/* A new block will not come to be. */
static void rb_forget(struct qcow2 *q, struct table *t)
{
	meta_del(q, t->host);
	table_drop(q, t);
}

/*
 * A larger refcount table, at the start of the first range that the old one does not reach, behind
 * the refcount blocks that cover it. Nothing points there before the header does, and that is one
 * sector.
 */
static int reftable_grow(struct qcow2 *q, uint64_t need)
{
	uint64_t per = q->cluster_size / 8,
		 first = MAX(q->reft_size, (q->end + (1ull << q->rb_bits) - 1) >> q->rb_bits);
	uint64_t entries, clusters, blocks = 1, start, old_host = q->h.reftable_offset,
				    old_clusters = q->h.reftable_clusters;
	struct qcow2_header was = q->h;
	uint64_t *reft = NULL, old_size = q->reft_size;
	struct table **rmap = NULL;
	uint8_t *raw = NULL;
	int ret;

	entries = MAX(need + 1, first + 1);
	for (;;) {
		uint64_t all;

		all = ALIGN_UP(MAX(entries + entries / 2, first + blocks), per);
		clusters = all / per;
		if ((clusters << q->cluster_bits) > QCOW2_MAX_REFTABLE_BYTES) {
			all = ALIGN_UP(MAX(entries, first + blocks), per);
			clusters = all / per;
			if ((clusters << q->cluster_bits) > QCOW2_MAX_REFTABLE_BYTES)
				return -EFBIG;
		}
		if (blocks + clusters <= blocks << q->rb_bits) {
			entries = all;
			break;
		}
		blocks++;
	}
	start = first << q->rb_bits;
	reft = calloc(entries, sizeof(*reft));
	rmap = calloc(entries, sizeof(*rmap));
	raw = calloc(entries, 8);
	if (!reft || !rmap || !raw) {
		ret = -ENOMEM;
		goto fail;
	}
	memcpy(reft, q->reft, q->reft_size * sizeof(*reft));
	memcpy(rmap, q->rmap, q->reft_size * sizeof(*rmap));
	free(q->reft);
	free(q->rmap);
	free(q->reft_dirty);
	q->reft = reft;
	q->rmap = rmap;
	q->reft_size = entries;
	q->reft_dirty = xcalloc((entries * 8 / 512 + 64) / 64, 8);
	reft = NULL;
	rmap = NULL;
	for (uint64_t i = 0; i < blocks; i++) {
		struct table *t = rb_create(q, first + i, (start + i) << q->cluster_bits);

		if (!t) {
			ret = -ENOMEM;
			goto fail;
		}
		for (uint64_t c = MAX(start, (first + i) << q->rb_bits);
		     c < MIN(start + blocks + clusters, (first + i + 1) << q->rb_bits); c++)
			rb_set(q, t, c, 1);
	}
	q->end = MAX(q->end, start + blocks + clusters);
	for (struct table *t = q->rbs.head; t; t = t->next) {
		if (!t->fresh)
			continue;
		ret = node_pwrite(q->n->file, t->data, q->cluster_size, t->host);
		if (ret)
			goto fail;
	}
	for (uint64_t i = 0; i < entries; i++)
		st_be64(raw + i * 8, q->reft[i]);
	ret = node_pwrite(q->n->file, raw, entries * 8, (start + blocks) << q->cluster_bits);
	if (!ret)
		ret = node_flush(q->n->file);
	if (ret)
		goto fail;
	q->h.reftable_offset = (start + blocks) << q->cluster_bits;
	q->h.reftable_clusters = clusters;
	ret = qcow2_header_update(q);
	if (!ret)
		ret = node_flush(q->n->file);
	if (ret) {
		q->h.reftable_offset = was.reftable_offset;
		q->h.reftable_clusters = was.reftable_clusters;
		if (qcow2_header_update(q) || node_flush(q->n->file))
			/* which table counts is unknown now: no more changes */
			q->corrupt = true;
		goto fail;
	}
	for (struct table *t = q->rbs.head; t; t = t->next)
		t->fresh = false;
	q->reft_is_dirty = false;
	memset(q->reft_dirty, 0, (entries * 8 / 512 + 64) / 64 * 8);
	ret = refcount_add(q, old_host >> q->cluster_bits, old_clusters, -1);
	old_size = q->reft_size;
fail:
	if (old_size != q->reft_size) {
		/* The larger table did not come to be: forget the blocks made for it. */
		for (uint64_t i = old_size; i < q->reft_size; i++)
			if (q->rmap[i])
				rb_forget(q, q->rmap[i]);
		q->reft_size = old_size;
	}
	free(reft);
	free(rmap);
	free(raw);
	return ret;
}

/* The block that covers cluster, made if there is none. */
static int rb_get_writable(struct qcow2 *q, uint64_t cluster, struct table **tp)
{
	uint64_t index = cluster >> q->rb_bits, host = index << q->rb_bits << q->cluster_bits;
	int ret = rb_get(q, index, tp);

	if (ret || *tp)
		return ret;
	if (index >= q->reft_size) {
		ret = reftable_grow(q, index);
		if (ret)
			return ret;
		ret = rb_get(q, index, tp);
		if (ret || *tp)
			return ret;
	}
	if (meta_overlaps(q, host, q->cluster_size))
		return qcow2_corrupt(q, "cluster %#llx holds metadata and has no refcount",
				     (unsigned long long)host);
	*tp = rb_create(q, index, host);
	if (!*tp)
		return -ENOMEM;
	rb_set(q, *tp, index << q->rb_bits, 1);
	return 0;
}

int refcount_add(struct qcow2 *q, uint64_t cluster, uint64_t count, int delta)
{
	for (uint64_t i = 0; i < count; i++) {
		struct table *t;
		uint64_t v;
		int ret = rb_get_writable(q, cluster + i, &t);

		if (!ret) {
			v = refcount_read(q, t->data, (cluster + i) & ((1ull << q->rb_bits) - 1));
			if (delta < 0 && !v)
				ret = qcow2_corrupt(q, "cluster %#llx is freed and has no refcount",
						    (unsigned long long)(cluster + i)
							    << q->cluster_bits);
			else if (delta > 0 && v >= q->refcount_max)
				ret = -EINVAL;
		}
		if (ret) {
			if (i)
				refcount_add(q, cluster, i, -delta);
			return ret;
		}
		rb_set(q, t, cluster + i, v + delta);
		if (v + delta == 0) {
			q->free_hint = MIN(q->free_hint, cluster + i);
			if (q->bytes_next >> q->cluster_bits == cluster + i)
				q->bytes_next = 0;
			meta_del(q, (cluster + i) << q->cluster_bits);
		}
	}
	return 0;
}

/* Is it free: no refcount, and not the place where its own block will go. */
static int cluster_free(struct qcow2 *q, uint64_t cluster, bool *is_free)
{
	uint64_t v;
	struct table *t;
	int ret = rb_get(q, cluster >> q->rb_bits, &t);

	if (ret)
		return ret;
	if (!t) {
		*is_free = cluster & ((1ull << q->rb_bits) - 1);
		return 0;
	}
	v = refcount_read(q, t->data, cluster & ((1ull << q->rb_bits) - 1));
	*is_free = !v;
	return 0;
}

/*
 * Counts clusters that were found free. -EAGAIN: a new, larger refcount table may have taken the
 * place.
 */
static int run_take(struct qcow2 *q, uint64_t first, uint64_t n)
{
	uint64_t size = q->reft_size;
	int ret;

	if ((first + n) << q->cluster_bits > 1ull << 55)
		return -EFBIG;
	for (uint64_t i = first >> q->rb_bits; i <= (first + n - 1) >> q->rb_bits; i++) {
		struct table *t;

		ret = rb_get_writable(q, i << q->rb_bits, &t);
		if (ret)
			return ret;
	}
	if (size != q->reft_size)
		return -EAGAIN;
	if (meta_overlaps(q, first << q->cluster_bits, n << q->cluster_bits))
		return qcow2_corrupt(q, "a cluster at %#llx that holds metadata has no refcount",
				     (unsigned long long)first << q->cluster_bits);
	ret = refcount_add(q, first, n, 1);
	if (!ret)
		q->end = MAX(q->end, first + n);
	return ret;
}

/* The first free clusters from `from` on, at most `want` in a row. -EAGAIN: as run_take. */
static int alloc_from(struct qcow2 *q, uint64_t from, uint64_t want, uint64_t *first, uint64_t *got)
{
	bool is_free = false;
	uint64_t c, n;
	int ret;

	for (c = from;; c++) {
		ret = cluster_free(q, c, &is_free);
		if (ret)
			return ret;
		if (is_free)
			break;
	}
	for (n = 1; n < want; n++) {
		ret = cluster_free(q, c + n, &is_free);
		if (ret)
			return ret;
		if (!is_free)
			break;
	}
	*first = c;
	*got = n;
	return run_take(q, c, n);
}

int clusters_alloc(struct qcow2 *q, uint64_t want, uint64_t *host, uint64_t *got)
{
	uint64_t first;
	int ret;

	do
		ret = alloc_from(q, q->free_hint, want, &first, got);
	while (ret == -EAGAIN);
	if (ret)
		return ret;
	q->free_hint = first + *got;
	*host = first << q->cluster_bits;
	return 0;
}

int clusters_alloc_unused(struct qcow2 *q, uint64_t want, uint64_t *host, uint64_t *got)
{
	uint64_t first;
	int ret;

	/*
	 * The end moves when a larger refcount table is laid there; the old one's place is free
	 * then, and not zero.
	 */
	do
		ret = alloc_from(q, q->end, want, &first, got);
	while (ret == -EAGAIN);
	*host = first << q->cluster_bits;
	return ret;
}

/*
 * The first `want` free clusters in a row that begin below the end and need no refcount block in
 * their midst.
 */
static int run_find(struct qcow2 *q, uint64_t want, uint64_t *first, bool *found)
{
	uint64_t c = q->free_hint, n = 0;

	while (n < want && c - n <= q->end) {
		bool is_free;
		int ret = cluster_free(q, c++, &is_free);

		if (ret)
			return ret;
		n = is_free ? n + 1 : 0;
	}
	*first = c - n;
	*found = n == want;
	return 0;
}

/* The first cluster behind which no refcount block counts anything. */
static int run_start(struct qcow2 *q, uint64_t *start)
{
	uint64_t top = q->reft_size, v = 0;
	int ret = 0;

	*start = q->end;
	while (top && !(q->reft[top - 1] & REFT_OFFSET))
		top--;
	if (top << q->rb_bits <= *start)
		return 0;
	if (top - 1 == *start >> q->rb_bits)
		for (uint64_t c = *start; c < top << q->rb_bits && !ret && !v; c++)
			ret = refcount_get(q, c, &v);
	if (v || top - 1 > *start >> q->rb_bits)
		*start = top << q->rb_bits;
	return ret;
}

/*
 * A run behind everything else, of any length: the refcount blocks that its range lacks lie side by
 * side before it. In their usual place, at the start of what each of them counts, they would cut
 * every run that is longer than what one block counts.
 */
static int run_lay(struct qcow2 *q, uint64_t want, uint64_t *host)
{
	uint64_t start, blocks, was, last, next;
	struct table *t;
	int ret;

	for (;;) {
		ret = run_start(q, &start);
		if (ret)
			return ret;
		blocks = 0;
		do {
			was = blocks;
			last = (start + was + want - 1) >> q->rb_bits;
			blocks = last + 1 - (start >> q->rb_bits);
			blocks -= start >> q->rb_bits < q->reft_size &&
				  (q->reft[start >> q->rb_bits] & REFT_OFFSET);
		} while (blocks != was);
		if ((start + blocks + want) << q->cluster_bits > 1ull << 55)
			return -EFBIG;
		if (last < q->reft_size)
			break;
		ret = reftable_grow(q, last);
		if (ret)
			return ret;
	}
	if (meta_overlaps(q, start << q->cluster_bits, (blocks + want) << q->cluster_bits))
		return qcow2_corrupt(q, "metadata lies beyond the file's end, at %#llx",
				     (unsigned long long)start << q->cluster_bits);
	next = start;
	for (uint64_t i = start >> q->rb_bits; i <= last && !ret; i++) {
		ret = rb_get(q, i, &t);
		if (!ret && !t && !rb_create(q, i, next++ << q->cluster_bits))
			ret = -ENOMEM;
	}
	if (!ret)
		ret = refcount_add(q, start, blocks + want, 1);
	for (uint64_t i = start >> q->rb_bits; i <= last && ret; i++)
		if (q->rmap[i] && q->rmap[i]->host >> q->cluster_bits >= start) {
			rb_forget(q, q->rmap[i]);
			q->reft[i] = 0;
		}
	if (ret)
		return ret;
	q->end = start + blocks + want;
	*host = (start + blocks) << q->cluster_bits;
	return 0;
}

int clusters_alloc_all(struct qcow2 *q, uint64_t want, uint64_t *host)
{
	for (;;) {
		uint64_t first;
		bool found;
		int ret = run_find(q, want, &first, &found);

		if (ret)
			return ret;
		if (!found)
			return run_lay(q, want, host);
		ret = run_take(q, first, want);
		if (ret != -EAGAIN) {
			*host = first << q->cluster_bits;
			return ret;
		}
	}
}

void clusters_unalloc(struct qcow2 *q, uint64_t host, uint64_t count)
{
	refcount_add(q, host >> q->cluster_bits, count, -1);
}

int bytes_alloc(struct qcow2 *q, uint64_t len, uint64_t *host)
{
	uint64_t at = q->bytes_next, room = at ? q->cluster_size - q_in_cluster(q, at) : 0, v = 0,
		 got, next;
	int ret;

	/* Go on in the last cluster if one more reference to it can be counted. */
	if (at && q_in_cluster(q, at)) {
		ret = refcount_get(q, at >> q->cluster_bits, &v);
		if (ret)
			return ret;
		if (v && v < q->refcount_max) {
			if (len <= room) {
				ret = refcount_add(q, at >> q->cluster_bits, 1, 1);
				if (ret)
					return ret;
				*host = at;
				q->bytes_next = at + len;
				return 0;
			}
			ret = clusters_alloc(q, 1, &next, &got);
			if (ret)
				return ret;
			if (next == ALIGN_UP(at, q->cluster_size)) {
				ret = refcount_add(q, at >> q->cluster_bits, 1, 1);
				if (ret) {
					clusters_unalloc(q, next, 1);
					return ret;
				}
				*host = at;
				q->bytes_next = at + len;
				return 0;
			}
			*host = next;
			q->bytes_next = next + len;
			return 0;
		}
	}
	ret = clusters_alloc(q, 1, host, &got);
	if (!ret)
		q->bytes_next = *host + len;
	return ret;
}
