/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2_check.c: counts every reference in the file anew, compares with the reference counts it
 * has, and mends them. Drained.
 *
 * Reads the file, not the caches. Each L2 table is walked once however often it is referred to,
 * tables in holes are skipped, and the counters live in pages made on demand: a small hostile file
 * costs little.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "disk/qcow2/qcow2.h"
#include "disk/qcow2/qcow2_bitmap.h"
#include "disk/qcow2/qcow2_check.h"
#include "vmm/base/log.h"

enum { REGION_MAX = 1 << 30 };	/* no piece of metadata is longer */

void qcow2_check_refer_times(struct check *k, uint64_t off, uint64_t len, uint32_t times)
{
	struct qcow2 *q = k->q;
	uint64_t first = off >> q->cluster_bits, last;

	if (!len)
		return;
	last = (off + len - 1) >> q->cluster_bits;
	if (!range_ok(off, len, INT64_MAX) || first >= k->file_clusters ||
	    last > k->file_clusters || len > REGION_MAX) {
		node_check_say(k->c,
		       "ERROR: counting reference for region exceeding the end of the file by one "
		       "cluster or more: offset 0x%llx size 0x%llx",
		       (unsigned long long)off, (unsigned long long)len);
		k->c->corruptions++;
		return;
	}
	for (uint64_t c = first; c <= last && !k->no_memory; c++)
		k->no_memory = counts_add(&k->refs, c, times) != 0;
	k->last_used = MAX(k->last_used, last);
}

void qcow2_check_refer(struct check *k, uint64_t off, uint64_t len)
{
	qcow2_check_refer_times(k, off, len, 1);
}

void qcow2_check_error(struct check *k, const char *what)
{
	node_check_say(k->c, "ERROR: %s", what);
	k->c->corruptions++;
}

/* The L1 table itself, and how often each L2 table is referred to. */
static int l1_count(struct check *k, uint64_t off, uint64_t entries)
{
	struct qcow2 *q = k->q;
	uint64_t *l1;
	int ret;

	if (!entries)
		return 0;
	if (entries * 8 > QCOW2_MAX_L1_BYTES || !range_ok(off, entries * 8, q->n->file->size)) {
		node_check_say(k->c,
		       "ERROR: L1 table at 0x%llx with %llu entries: too large or outside the file",
		       (unsigned long long)off, (unsigned long long)entries);
		k->c->corruptions++;
		k->uncounted = true;
		return 0;
	}
	qcow2_check_refer(k, off, entries * 8);
	l1 = malloc(entries * 8);
	if (!l1)
		return -ENOMEM;
	ret = node_pread(q->n->file, l1, entries * 8, off);
	for (uint64_t i = 0; i < entries && !ret; i++) {
		uint64_t l2 = be64toh(l1[i]) & L1E_OFFSET;

		if (!l2)
			continue;
		if (q_in_cluster(q, l2)) {
			node_check_say(k->c,
			       "ERROR l2_offset=%llx: Table is not cluster aligned; L1 entry "
			       "corrupted",
			       (unsigned long long)l2);
			k->c->corruptions++;
			k->uncounted = true;
			continue;
		}
		qcow2_check_refer(k, l2, q->cluster_size);
		if (!range_ok(l2, q->cluster_size, q->n->file->size))
			continue;
		if (l2_refs_add(&k->tables, l2 >> q->cluster_bits))
			k->no_memory = true;
	}
	free(l1);
	if (ret) {
		node_check_say(k->c, "ERROR: I/O error in check_refcounts_l1: %s", strerror(-ret));
		k->c->check_errors++;
		k->uncounted = true;
	}
	return ret;
}

static void tables_walk(struct check *k)
{
	struct qcow2 *q = k->q;
	uint8_t *buf = malloc(q->cluster_size);

	if (!buf) {
		k->c->check_errors++;
		return;
	}
	l2_refs_merge(&k->tables);
	/* The active ones in order, for the statistics; then those only snapshots have. */
	for (uint64_t i = 0; i < q->l1_size; i++) {
		uint64_t l2 = q->l1[i] & L1E_OFFSET;
		struct l2_ref *r = l2 ? l2_refs_find(&k->tables, l2 >> q->cluster_bits) : NULL;

		if (r && r->times) {
			qcow2_check_l2(k, l2, r->times, true, buf);
			r->times = 0;
		}
	}
	for (size_t i = 0; i < k->tables.n; i++) {
		struct l2_ref *r = &k->tables.v[i];

		if (r->times)
			qcow2_check_l2(k, r->cluster << q->cluster_bits, r->times, false, buf);
	}
	free(buf);
}

static void refcounts_count(struct check *k)
{
	struct qcow2 *q = k->q;

	qcow2_check_refer(k, q->h.reftable_offset,
			  (uint64_t)q->h.reftable_clusters << q->cluster_bits);
	for (uint64_t i = 0; i < q->reft_size; i++) {
		uint64_t off = q->reft[i] & REFT_OFFSET;

		if (!off)
			continue;
		if (q_in_cluster(q, off)) {
			node_check_say(k->c,
			       "ERROR refcount block %llu is not cluster aligned; refcount table "
			       "entry corrupted",
			       (unsigned long long)i);
			k->c->corruptions++;
			k->rebuild = true;
			continue;
		}
		if (off >> q->cluster_bits >= k->file_clusters) {
			node_check_say(k->c, "ERROR refcount block %llu is outside image",
			       (unsigned long long)i);
			k->c->corruptions++;
			k->rebuild = true;
			continue;
		}
		qcow2_check_refer(k, off, q->cluster_size);
		if (counts_get(&k->refs, off >> q->cluster_bits) != 1) {
			node_check_say(k->c, "ERROR refcount block %llu refcount=%u",
				       (unsigned long long)i,
				       counts_get(&k->refs, off >> q->cluster_bits));
			k->c->corruptions++;
			k->rebuild = true;
		}
	}
}

static bool one_differs(struct check *k, uint64_t cluster, uint64_t have, uint64_t should)
{
	bool leak = have > should, mend = k->fix & (leak ? CHECK_FIX_LEAKS : CHECK_FIX_ERRORS);
	unsigned long long c = cluster, h = have, s = should;

	mend &= !leak || !k->uncounted;

	if (mend)
		node_check_say(k->c, "Repairing cluster %llu refcount=%llu reference=%llu", c, h,
			       s);
	else if (leak)
		node_check_say(k->c, "Leaked cluster %llu refcount=%llu reference=%llu", c, h, s);
	else
		node_check_say(k->c, "ERROR cluster %llu refcount=%llu reference=%llu", c, h, s);
	if (leak)
		k->c->leaks++;
	else
		k->c->corruptions++;
	return mend;
}

/* A range that no refcount block counts: all its references are errors. */
static int compare_missing(struct check *k, uint64_t first, uint64_t end)
{
	for (uint64_t c = first; c < end; c++) {
		int ret = counts_next(&k->refs, c, &c);

		if (ret || c >= end)
			return ret;
		k->rebuild |= one_differs(k, c, 0, counts_get(&k->refs, c));
	}
	return 0;
}

/* One refcount block of the file beside the counts; mended where it lies. */
static void compare_block(struct check *k, uint64_t off, uint64_t first, uint8_t *block)
{
	struct qcow2 *q = k->q;
	uint64_t leaks = 0, errors = 0;

	if (node_pread(q->n->file, block, q->cluster_size, off)) {
		k->c->check_errors++;
		return;
	}
	for (uint64_t i = 0; i < 1ull << q->rb_bits; i++) {
		uint64_t have = refcount_read(q, block, i);
		uint64_t should = counts_get(&k->refs, first + i);

		if (have == should || !one_differs(k, first + i, have, should))
			continue;
		if (should > q->refcount_max) {
			k->rebuild = true;
			continue;
		}
		refcount_write(q, block, i, should);
		leaks += have > should;
		errors += have < should;
	}
	/* A rebuild mends them all. */
	if (!(leaks || errors) || k->rebuild)
		return;
	if (node_pwrite(q->n->file, block, q->cluster_size, off)) {
		k->c->check_errors++;
		return;
	}
	k->c->leaks_fixed += leaks;
	k->c->corruptions_fixed += errors;
}

static int compare(struct check *k)
{
	struct qcow2 *q = k->q;
	uint64_t per = 1ull << q->rb_bits, size = ALIGN_UP(q->n->file->size, q->cluster_size);
	uint8_t *block = malloc(q->cluster_size);
	int ret = block ? 0 : -ENOMEM;

	for (uint64_t i = 0; i < q->reft_size && !ret; i++) {
		uint64_t off = q->reft[i] & REFT_OFFSET;

		if (off && !q_in_cluster(q, off) && range_ok(off, q->cluster_size, size))
			compare_block(k, off, i * per, block);
		else
			ret = compare_missing(k, i * per, (i + 1) * per);
	}
	if (!ret)
		ret = compare_missing(k, q->reft_size * per, UINT64_MAX);
	free(block);
	return ret;
}

/* The clusters of the refcount structures that the file has are no longer used for them. */
static void old_refcounts_forget(struct check *k)
{
	struct qcow2 *q = k->q;

	for (uint64_t i = 0; i < q->reft_size; i++) {
		uint64_t off = q->reft[i] & REFT_OFFSET;

		if (off && !q_in_cluster(q, off))
			counts_drop(&k->refs, off >> q->cluster_bits);
	}
	for (uint64_t i = 0; i < q->h.reftable_clusters; i++)
		counts_drop(&k->refs, (q->h.reftable_offset >> q->cluster_bits) + i);
}

/* Ranges of a refcount block's width, below a range, that have a cluster in use. */
static int ranges_used(struct check *k, uint64_t end, uint64_t *used)
{
	unsigned bits = k->q->rb_bits;
	uint64_t c;
	int ret = counts_next(&k->refs, 0, &c);

	*used = 0;
	while (!ret && c >> bits < end) {
		++*used;
		ret = counts_next(&k->refs, ((c >> bits) + 1) << bits, &c);
	}
	return ret;
}

/*
 * New refcount structures behind everything that is used, from the counts; then the header points
 * to them. Until that one sector is written the file is as it was.
 */
static int rebuild(struct check *k)
{
	struct qcow2 *q = k->q;
	uint64_t per = 1ull << q->rb_bits, start = MAX(k->last_used + 1, k->file_clusters),
		 blocks = 0, clusters = 0;
	uint64_t total, entries, below, was;
	uint8_t *block, *table;
	int ret = 0;

	if (start >> q->rb_bits > QCOW2_MAX_REFTABLE_BYTES / 8)
		return -EFBIG;
	old_refcounts_forget(k);
	ret = ranges_used(k, start >> q->rb_bits, &below);
	if (ret)
		return ret;
	/* Blocks for the ranges in use and for those that the new structures reach into. */
	do {
		was = blocks + clusters;
		total = start + was;
		entries = (total - 1) / per + 1;
		blocks = below + entries - (start >> q->rb_bits);
		clusters = q_clusters(q, entries * 8);
	} while (blocks + clusters != was);
	if (clusters << q->cluster_bits > QCOW2_MAX_REFTABLE_BYTES)
		return -EFBIG;
	block = malloc(q->cluster_size);
	table = calloc(clusters, q->cluster_size);
	if (!block || !table) {
		ret = -ENOMEM;
		goto out;
	}
	k->file_clusters = MAX(k->file_clusters, total);
	for (uint64_t c = start; c < total && !ret; c++)
		ret = counts_add(&k->refs, c, 1);
	k->last_used = total - 1;
	for (uint64_t i = 0, b = 0; i < entries && !ret; i++) {
		bool used = false;

		memset(block, 0, q->cluster_size);
		for (uint64_t c = 0; c < per && !ret; c++) {
			uint32_t v = counts_get(&k->refs, i * per + c);

			if (v > q->refcount_max)
				ret = -ERANGE;
			refcount_write(q, block, c, v);
			used |= v;
		}
		if (!used || ret)
			continue;
		if (b == blocks) {
			ret = -EIO;
			break;
		}
		st_be64(table + i * 8, (start + b) << q->cluster_bits);
		ret = node_pwrite(q->n->file, block, q->cluster_size,
				  (start + b++) << q->cluster_bits);
	}
	if (!ret)
		ret = node_pwrite(q->n->file, table, clusters << q->cluster_bits,
				  (start + blocks) << q->cluster_bits);
	if (!ret)
		ret = node_flush(q->n->file);
	if (ret)
		goto out;
	q->h.reftable_offset = (start + blocks) << q->cluster_bits;
	q->h.reftable_clusters = clusters;
	ret = qcow2_header_update(q);
	if (!ret)
		ret = node_flush(q->n->file);
out:
	free(block);
	free(table);
	return ret;
}

/* COPIED says "refcount is one" in the active tables. */
static int copied_word(struct check *k, uint64_t entry, uint64_t at, const char *what, bool *bad)
{
	struct qcow2 *q = k->q;
	uint64_t off = entry & L2E_OFFSET;
	bool one = counts_get(&k->refs, off >> q->cluster_bits) == 1;
	uint8_t b[8];

	*bad = one != !!(entry & L2E_COPIED);
	if (!*bad)
		return 0;
	node_check_say(k->c, k->fix & CHECK_FIX_ERRORS
				     ? "Repairing OFLAG_COPIED %s: entry=%llx refcount=%u"
				     : "ERROR OFLAG_COPIED %s: entry=%llx refcount=%u",
		       what, (unsigned long long)entry,
		       counts_get(&k->refs, off >> q->cluster_bits));
	k->c->corruptions++;
	if (!(k->fix & CHECK_FIX_ERRORS))
		return 0;
	st_be64(b, one ? entry | L2E_COPIED : entry & ~L2E_COPIED);
	if (node_pwrite(q->n->file, b, 8, at)) {
		k->c->check_errors++;
		return -EIO;
	}
	k->c->corruptions_fixed++;
	return 0;
}

static int copied_check(struct check *k)
{
	struct qcow2 *q = k->q;
	uint8_t *buf = malloc(q->cluster_size);
	int ret = buf ? 0 : -ENOMEM;
	bool bad;

	for (uint64_t i = 0; i < q->l1_size && !ret; i++) {
		uint64_t l2 = q->l1[i] & L1E_OFFSET;
		struct extent x;

		if (!l2 || q_in_cluster(q, l2) || !range_ok(l2, q->cluster_size, q->n->file->size))
			continue;
		copied_word(k, q->l1[i], q->h.l1_offset + i * 8, "L2 cluster", &bad);
		if (node_extent(q->n->file, l2, q->cluster_size, &x) == 0 && (x.flags & EXT_ZERO) &&
		    x.len >= q->cluster_size)
			continue;
		if (node_pread(q->n->file, buf, q->cluster_size, l2)) {
			k->c->check_errors++;
			continue;
		}
		for (uint64_t e = 0; e < q->cluster_size / q->entry_size; e++) {
			uint64_t entry = ld_be64(buf + e * q->entry_size);

			if ((entry & L2E_COMPRESSED) || !(entry & L2E_OFFSET) ||
			    q_in_cluster(q, entry & L2E_OFFSET) ||
			    (q->h.incompatible & QCOW2_INCOMPAT_DATA_FILE))
				continue;
			copied_word(k, entry, l2 + e * q->entry_size, "data cluster", &bad);
		}
	}
	free(buf);
	return ret;
}

static int check_all(struct check *k)
{
	struct qcow2 *q = k->q;
	int ret;

	qcow2_check_refer(k, 0, q->cluster_size);
	ret = l1_count(k, q->h.l1_offset, q->l1_size);
	for (uint32_t i = 0; i < q->h.nb_snapshots && ret != -ENOMEM; i++)
		if (!q->snapshots[i].broken)
			ret = l1_count(k, q->snapshots[i].l1_offset, q->snapshots[i].l1_size);
	if (ret == -ENOMEM)
		return ret;
	tables_walk(k);
	qcow2_snapshots_refer(q, k);
	qcow2_bitmaps_refer(q, k);
	{
		struct qcow2_ext *e = qcow2_ext_find(q, QCOW2_EXT_CRYPTO);

		if (e && e->len >= 16 && q->h.crypt_method == QCOW2_CRYPT_LUKS)
			qcow2_check_refer(k, ld_be64(e->data), ld_be64(e->data + 8));
	}
	refcounts_count(k);
	if (k->no_memory)
		return -ENOMEM;
	if (k->rebuild && k->fix)
		node_check_say(k->c, "Rebuilding refcount structure");
	if (!(k->rebuild && (k->fix & CHECK_FIX_ERRORS))) {
		ret = compare(k);
		if (ret)
			return ret;
	}
	if (k->rebuild && (k->fix & CHECK_FIX_ERRORS) && !k->c->check_errors) {
		ret = rebuild(k);
		if (ret)
			return ret;
		k->c->corruptions_fixed = k->c->corruptions;
		k->c->leaks_fixed = k->c->leaks;
	}
	return copied_check(k);
}

int qcow2_check(struct node *n, struct node_check *c, unsigned fix)
{
	struct qcow2 *q = n->priv;
	struct check k = { .q = q, .c = c, .fix = fix };
	int ret = 0;

	if ((n->flags & BLK_RDWR) && !n->inactive) {
		ret = qcow2_bitmaps_store(q, NULL);
		if (!ret)
			ret = qcow2_flush_locked_out(q);
	} else if (fix) {
		return -EPERM;
	}
	if (ret)
		return ret;
	/* Only who asks for it loses a snapshot or bitmap, not who opens an image after a crash. */
	if ((fix & CHECK_FIX_ERRORS) && q->no_repair && qcow2_snapshots_damaged(q))
		ret = qcow2_snapshots_mend(q, c);
	if (!ret && (fix & CHECK_FIX_ERRORS) && q->no_repair && q->bitmaps_broken)
		ret = qcow2_bitmaps_mend(q, c);
	if (ret)
		return ret;
	k.file_clusters = q_clusters(q, n->file->size);
	ret = check_all(&k);
	c->image_end_offset = (k.last_used + 1) << q->cluster_bits;
	c->total_clusters = q_clusters(q, n->size);
	if (fix && !ret && !c->check_errors)
		ret = node_flush(n->file);
	/* All is well: the marks of a crash and of corruption may go. */
	if (!ret && (n->flags & BLK_RDWR) && !n->inactive && fix && !c->check_errors &&
	    c->corruptions == c->corruptions_fixed) {
		uint64_t clear = QCOW2_INCOMPAT_DIRTY |
				 (fix & CHECK_FIX_ERRORS ? QCOW2_INCOMPAT_CORRUPT : 0);

		if (!(fix & CHECK_FIX_ERRORS) && c->corruptions)
			clear = 0;
		ret = qcow2_set_incompatible(q, 0, clear);
	}
	counts_free(&k.refs);
	free(k.tables.v);
	if (fix && !ret) {
		struct err err = { "" };

		ret = qcow2_reload(q, &err);
		if (ret)
			log_error("'%s': after the repair: %s", n->filename, err.msg);
	}
	return ret;
}

/* 0, -ERANGE: a count does not fit, or -ENOMEM. */
static int counts_fit(struct counts *t, uint64_t max)
{
	for (uint64_t at = 0, next;; at = next + 1) {
		int ret = counts_next(t, at, &next);

		if (ret || next == UINT64_MAX)
			return ret;
		if (counts_get(t, next) > max)
			return -ERANGE;
	}
}

/*
 * Other widths of the reference counts: new structures from new counts; the header's one sector has
 * both their place and the width.
 */
int qcow2_refcount_width(struct qcow2 *q, unsigned order, bool try_only, struct err *err)
{
	struct node_check c = { 0 };
	struct check k = { .q = q, .c = &c };
	struct qcow2_header was = q->h;
	unsigned rb_bits = q->rb_bits;
	uint64_t max = q->refcount_max;
	int ret = qcow2_bitmaps_store(q, err);

	if (!ret)
		ret = qcow2_flush_locked_out(q);
	k.file_clusters = q_clusters(q, q->n->file->size);
	if (!ret)
		ret = check_all(&k);
	if (!ret && (c.corruptions || c.check_errors))
		ret = err_set(err, EIO, "'%s' has errors: repair it first (check -r all)",
			      q->n->filename);
	if (!ret)
		ret = counts_fit(&k.refs, q_refcount_max(order));
	if (!ret && !try_only) {
		q->h.refcount_order = order;
		q->rb_bits = q->cluster_bits + 3 - order;
		q->refcount_max = q_refcount_max(order);
		ret = rebuild(&k);
		if (ret) {
			q->h = was;
			q->rb_bits = rb_bits;
			q->refcount_max = max;
		}
	}
	counts_free(&k.refs);
	free(k.tables.v);
	if (ret)
		return err_set(
			err, -ret, "'%s': cannot change the width of its reference counts: %s",
			q->n->filename, ret == -ERANGE ? "a count does not fit" : strerror(-ret));
	return try_only ? 0 : qcow2_reload(q, err);
}
