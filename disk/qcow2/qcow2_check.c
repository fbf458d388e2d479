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
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "disk/qcow2/qcow2.h"
#include "disk/qcow2/qcow2_bitmap.h"
#include "disk/qcow2/qcow2_check.h"
#include "vmm/base/log.h"

enum { PAGE_BITS = 12, PAGES_MAX = 8192 };	/* 128 MiB of counters: 32 M clusters */

/* Sparse counters: pages sorted by number in an open hash. */
struct page { uint64_t number; uint32_t *v; };
struct counts { struct page *p; size_t n, size; };

struct check {
	struct qcow2 *q;
	struct node_check *c;
	unsigned fix;
	uint64_t file_clusters, last_used, next_offset;
	struct counts refs;		/* to any cluster */
	struct counts tables;		/* to L2 tables, by active disk and snapshots */
	bool rebuild;			/* the refcount structures themselves are broken */
	bool too_big;
};

static uint32_t *count_slot(struct check *k, struct counts *t, uint64_t cluster, bool make)
{
	uint64_t number = cluster >> PAGE_BITS;
	size_t i;

	if (t->n * 2 >= t->size && make) {
		struct page *old = t->p;
		size_t old_size = t->size;

		t->size = MAX(old_size * 2, (size_t)64);
		t->p = xcalloc(t->size, sizeof(*t->p));
		for (size_t o = 0; o < old_size; o++) {
			if (!old[o].v)
				continue;
			for (i = (old[o].number * 0x9e3779b97f4a7c15ull >> 32) & (t->size - 1);
			     t->p[i].v; i = (i + 1) & (t->size - 1))
				;
			t->p[i] = old[o];
		}
		free(old);
	}
	if (!t->size)
		return NULL;
	for (i = (number * 0x9e3779b97f4a7c15ull >> 32) & (t->size - 1); t->p[i].v;
	     i = (i + 1) & (t->size - 1))
		if (t->p[i].number == number)
			return &t->p[i].v[cluster & ((1u << PAGE_BITS) - 1)];
	if (!make)
		return NULL;
	if (t->n >= PAGES_MAX) {
		k->too_big = true;
		return NULL;
	}
	t->p[i] = (struct page){ number, calloc(1u << PAGE_BITS, sizeof(uint32_t)) };
	if (!t->p[i].v) {
		k->too_big = true;
		return NULL;
	}
	t->n++;
	return &t->p[i].v[cluster & ((1u << PAGE_BITS) - 1)];
}

static uint32_t count_get(struct check *k, struct counts *t, uint64_t cluster)
{
	uint32_t *v = count_slot(k, t, cluster, false);

	return v ? *v : 0;
}

static void counts_free(struct counts *t)
{
	for (size_t i = 0; i < t->size; i++)
		free(t->p[i].v);
	free(t->p);
}

static void report(struct check *k, const char *fmt, ...) PRINTF(2, 3);
static void report(struct check *k, const char *fmt, ...)
{
	char line[300];
	va_list ap;

	if (!k->c->report)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	k->c->report(k->c->ctx, line);
}

/* References to all clusters of a range, `times` of them. */
static void refer(struct check *k, uint64_t off, uint64_t len, uint32_t times)
{
	struct qcow2 *q = k->q;
	uint64_t first = off >> q->cluster_bits, last;

	if (!len)
		return;
	last = (off + len - 1) >> q->cluster_bits;
	if (!range_ok(off, len, INT64_MAX) || first >= k->file_clusters ||
	    last > k->file_clusters) {
		report(k,
		       "ERROR: counting reference for region exceeding the end of the file by one "
		       "cluster or more: offset 0x%llx size 0x%llx",
		       (unsigned long long)off, (unsigned long long)len);
		k->c->corruptions++;
		return;
	}
	for (uint64_t c = first; c <= last; c++) {
		uint32_t *v = count_slot(k, &k->refs, c, true);

		if (v)
			*v = *v > UINT32_MAX - times ? UINT32_MAX : *v + times;
		k->last_used = MAX(k->last_used, c);
	}
}

void qcow2_check_refer(struct check *k, uint64_t off, uint64_t len)
{
	refer(k, off, len, 1);
}

void qcow2_check_error(struct check *k, const char *what)
{
	report(k, "ERROR: %s", what);
	k->c->corruptions++;
}

/* Replaces one entry in the file by a zero cluster (or nothing, in version 2). */
static int entry_mend(struct check *k, uint64_t at)
{
	struct qcow2 *q = k->q;
	uint8_t b[16] = { 0 };

	st_be64(b, q->h.version >= 3 && !q_ext_l2(q) ? L2E_ZERO : 0);
	st_be64(b + 8, SC_ALL_ZERO);
	return node_pwrite(q->n->file, b, q->entry_size, at);
}

static void l2_walk(struct check *k, uint64_t host, uint32_t times, bool active, uint8_t *buf)
{
	struct qcow2 *q = k->q;
	struct extent x;
	int ret;

	/* A hole is a table of zeros. */
	if (node_extent(q->n->file, host, q->cluster_size, &x) == 0 && (x.flags & EXT_ZERO) &&
	    x.len >= q->cluster_size)
		return;
	ret = node_pread(q->n->file, buf, q->cluster_size, host);
	if (ret) {
		report(k, "ERROR: I/O error in check_refcounts_l2: %s", strerror(-ret));
		k->c->check_errors++;
		return;
	}
	for (uint64_t i = 0; i < q->cluster_size / q->entry_size; i++) {
		uint64_t entry = ld_be64(buf + i * q->entry_size), packed, len;
		uint64_t off = entry & L2E_OFFSET,
			 bitmap = q_ext_l2(q) ? ld_be64(buf + i * 16 + 8) : 0;
		bool bad = false;

		if (!entry && !bitmap)
			continue;
		if (entry & L2E_COMPRESSED) {
			entry_packed(q, entry, &packed, &len);
			if (entry & L2E_COPIED) {
				report(k,
				       "ERROR: coffset=0x%llx: copied flag must never be set for "
				       "compressed clusters",
				       (unsigned long long)packed);
				k->c->corruptions++;
			}
			if (q->n->data_file) {
				report(k,
				       "ERROR compressed cluster %llu with data file, entry=0x%llx",
				       (unsigned long long)i, (unsigned long long)entry);
				k->c->corruptions++;
				continue;
			}
			refer(k, packed & ~511ull, ALIGN_UP(len + (packed & 511), 512ull), times);
			if (active) {
				k->c->allocated_clusters++;
				k->c->compressed_clusters++;
				/* Packed clusters count as fragmented, as in QEMU. */
				k->c->fragmented_clusters++;
			}
			continue;
		}
		if (q_ext_l2(q) && ((bitmap >> 32) & bitmap & SC_ALL_ALLOC)) {
			report(k,
			       "ERROR offset=%llx: Allocated cluster with corrupted subcluster "
			       "allocation bitmap (bitmap=0x%llx)",
			       (unsigned long long)off, (unsigned long long)bitmap);
			k->c->corruptions++;
			continue;
		}
		if (!off)
			continue;
		if (active) {
			k->c->allocated_clusters++;
			if (k->next_offset && off != k->next_offset)
				k->c->fragmented_clusters++;
			k->next_offset = off + q->cluster_size;
		}
		if (q->n->data_file || (q->h.incompatible & QCOW2_INCOMPAT_DATA_FILE))
			continue;
		bad = q_in_cluster(q, off) || off >> q->cluster_bits >= k->file_clusters;
		if (bad && (k->fix & CHECK_FIX_ERRORS)) {
			report(k,
			       "Repairing offset=%llx: Preallocated cluster is not properly "
			       "aligned or outside the file; L2 entry corrupted.",
			       (unsigned long long)off);
			k->c->corruptions++;
			if (entry_mend(k, host + i * q->entry_size))
				k->c->check_errors++;
			else
				k->c->corruptions_fixed++;
			continue;
		}
		if (q_in_cluster(q, off)) {
			report(k,
			       "ERROR offset=%llx: Cluster is not properly aligned; L2 entry "
			       "corrupted.",
			       (unsigned long long)off);
			k->c->corruptions++;
			continue;
		}
		refer(k, off, q->cluster_size, times);
	}
}

/* The L1 table itself, and how often each L2 table is referred to. */
static int l1_count(struct check *k, uint64_t off, uint64_t entries)
{
	struct qcow2 *q = k->q;
	uint64_t *l1;
	int ret;

	if (!entries)
		return 0;
	refer(k, off, entries * 8, 1);
	if (entries * 8 > QCOW2_MAX_L1_BYTES || !range_ok(off, entries * 8, q->n->file->size)) {
		report(k,
		       "ERROR: L1 table at 0x%llx with %llu entries: too large or outside the file",
		       (unsigned long long)off, (unsigned long long)entries);
		k->c->corruptions++;
		return 0;
	}
	l1 = malloc(entries * 8);
	if (!l1)
		return -ENOMEM;
	ret = node_pread(q->n->file, l1, entries * 8, off);
	for (uint64_t i = 0; i < entries && !ret; i++) {
		uint64_t l2 = be64toh(l1[i]) & L1E_OFFSET;
		uint32_t *v;

		if (!l2)
			continue;
		if (q_in_cluster(q, l2)) {
			report(k,
			       "ERROR l2_offset=%llx: Table is not cluster aligned; L1 entry "
			       "corrupted",
			       (unsigned long long)l2);
			k->c->corruptions++;
			continue;
		}
		refer(k, l2, q->cluster_size, 1);
		if (!range_ok(l2, q->cluster_size, q->n->file->size))
			continue;
		v = count_slot(k, &k->tables, l2 >> q->cluster_bits, true);
		if (v)
			*v += *v < UINT32_MAX;
	}
	free(l1);
	if (ret) {
		report(k, "ERROR: I/O error in check_refcounts_l1: %s", strerror(-ret));
		k->c->check_errors++;
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
	/* The active ones in order, for the statistics; then those only snapshots have. */
	for (uint64_t i = 0; i < q->l1_size; i++) {
		uint64_t l2 = q->l1[i] & L1E_OFFSET;
		uint32_t *v = l2 ? count_slot(k, &k->tables, l2 >> q->cluster_bits, false) : NULL;

		if (v && *v) {
			l2_walk(k, l2, *v, true, buf);
			*v = 0;
		}
	}
	for (size_t p = 0; p < k->tables.size; p++)
		for (uint64_t i = 0; k->tables.p[p].v && i < 1u << PAGE_BITS; i++)
			if (k->tables.p[p].v[i])
				l2_walk(k,
					((k->tables.p[p].number << PAGE_BITS) + i)
						<< q->cluster_bits,
					k->tables.p[p].v[i], false, buf);
	free(buf);
}

static void refcounts_count(struct check *k)
{
	struct qcow2 *q = k->q;

	refer(k, q->h.reftable_offset, (uint64_t)q->h.reftable_clusters << q->cluster_bits, 1);
	for (uint64_t i = 0; i < q->reft_size; i++) {
		uint64_t off = q->reft[i] & REFT_OFFSET;

		if (!off)
			continue;
		if (q_in_cluster(q, off)) {
			report(k,
			       "ERROR refcount block %llu is not cluster aligned; refcount table "
			       "entry corrupted",
			       (unsigned long long)i);
			k->c->corruptions++;
			k->rebuild = true;
			continue;
		}
		if (off >> q->cluster_bits >= k->file_clusters) {
			report(k, "ERROR refcount block %llu is outside image",
			       (unsigned long long)i);
			k->c->corruptions++;
			k->rebuild = true;
			continue;
		}
		refer(k, off, q->cluster_size, 1);
		if (count_get(k, &k->refs, off >> q->cluster_bits) != 1) {
			report(k, "ERROR refcount block %llu refcount=%u", (unsigned long long)i,
			       count_get(k, &k->refs, off >> q->cluster_bits));
			k->c->corruptions++;
			k->rebuild = true;
		}
	}
}

static bool one_differs(struct check *k, uint64_t cluster, uint64_t have, uint64_t should)
{
	bool leak = have > should, mend = k->fix & (leak ? CHECK_FIX_LEAKS : CHECK_FIX_ERRORS);

	report(k, "%s cluster %llu refcount=%llu reference=%llu",
	       mend   ? "Repairing"
	       : leak ? "Leaked"
		      : "ERROR",
	       (unsigned long long)cluster, (unsigned long long)have, (unsigned long long)should);
	if (leak)
		k->c->leaks++;
	else
		k->c->corruptions++;
	return mend;
}

/* Sets one refcount straight in the file's block; -ENOENT when there is none. */
static int refcount_put(struct check *k, uint8_t *block, uint64_t cluster, uint64_t v, bool *dirty)
{
	struct qcow2 *q = k->q;

	if (v > q->refcount_max)
		return -ERANGE;
	refcount_write(q, block, cluster & ((1ull << q->rb_bits) - 1), v);
	*dirty = true;
	return 0;
}

static int compare(struct check *k)
{
	struct qcow2 *q = k->q;
	uint64_t per = 1ull << q->rb_bits,
		 blocks = MAX(q->reft_size, (k->file_clusters + per - 1) / per);
	uint8_t *block = malloc(q->cluster_size);
	int ret = block ? 0 : -ENOMEM;

	for (uint64_t i = 0; i < blocks && !ret; i++) {
		uint64_t off = i < q->reft_size ? q->reft[i] & REFT_OFFSET : 0, leaks = k->c->leaks,
			 errors = k->c->corruptions;
		bool dirty = false, usable = off && !q_in_cluster(q, off) &&
					     range_ok(off, q->cluster_size,
						      ALIGN_UP(q->n->file->size, q->cluster_size));
		uint64_t mended_leaks = 0, mended = 0;

		if (!usable && i > k->last_used >> q->rb_bits)
			continue;
		if (usable)
			ret = node_pread(q->n->file, block, q->cluster_size, off);
		else
			memset(block, 0, q->cluster_size);
		if (ret) {
			k->c->check_errors++;
			ret = 0;
			continue;
		}
		for (uint64_t c = 0; c < per; c++) {
			uint64_t have = refcount_read(q, block, c),
				 should = count_get(k, &k->refs, i * per + c);

			if (have == should || !one_differs(k, i * per + c, have, should))
				continue;
			if (!usable || refcount_put(k, block, i * per + c, should, &dirty)) {
				k->rebuild = true;
				continue;
			}
			if (have > should)
				mended_leaks++;
			else
				mended++;
		}
		if (dirty && !k->rebuild) {
			if (node_pwrite(q->n->file, block, q->cluster_size, off)) {
				k->c->check_errors++;
				continue;
			}
			k->c->leaks_fixed += mended_leaks;
			k->c->corruptions_fixed += mended;
		} else if (dirty) {
			/* The rebuild mends them all. */
			k->c->leaks = MAX(k->c->leaks, leaks);
			k->c->corruptions = MAX(k->c->corruptions, errors);
		}
	}
	free(block);
	return ret;
}

/* The clusters of the refcount structures that the file has are no longer used for them. */
static void old_refcounts_forget(struct check *k)
{
	struct qcow2 *q = k->q;

	for (uint64_t i = 0; i < q->reft_size; i++) {
		uint64_t off = q->reft[i] & REFT_OFFSET;
		uint32_t *v = off && !q_in_cluster(q, off)
				      ? count_slot(k, &k->refs, off >> q->cluster_bits, false)
				      : NULL;

		if (v && *v)
			--*v;
	}
	for (uint64_t i = 0; i < q->h.reftable_clusters; i++) {
		uint32_t *v = count_slot(k, &k->refs, (q->h.reftable_offset >> q->cluster_bits) + i,
					 false);

		if (v && *v)
			--*v;
	}
}

/* Ranges of a refcount block's width, below a range, that have a cluster in use. */
static uint64_t ranges_used(struct check *k, uint64_t end)
{
	uint64_t per = 1ull << k->q->rb_bits, n = 0;

	for (uint64_t i = 0; i < end; i++) {
		uint64_t c = 0;

		while (c < per && !count_get(k, &k->refs, i * per + c))
			c++;
		n += c < per;
	}
	return n;
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
	below = ranges_used(k, start >> q->rb_bits);
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
	refer(k, start << q->cluster_bits, (blocks + clusters) << q->cluster_bits, 1);
	for (uint64_t i = 0, b = 0; i < entries && !ret; i++) {
		bool used = false;

		memset(block, 0, q->cluster_size);
		for (uint64_t c = 0; c < per && !ret; c++) {
			uint32_t v = count_get(k, &k->refs, i * per + c);

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
	bool one = count_get(k, &k->refs, off >> q->cluster_bits) == 1;
	uint8_t b[8];

	*bad = one != !!(entry & L2E_COPIED);
	if (!*bad)
		return 0;
	report(k, "%s OFLAG_COPIED %s: entry=%llx refcount=%u",
	       k->fix & CHECK_FIX_ERRORS ? "Repairing" : "ERROR", what, (unsigned long long)entry,
	       count_get(k, &k->refs, off >> q->cluster_bits));
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

	refer(k, 0, q->cluster_size, 1);
	ret = l1_count(k, q->h.l1_offset, q->l1_size);
	for (uint32_t i = 0; i < q->h.nb_snapshots && ret != -ENOMEM; i++)
		ret = l1_count(k, q->snapshots[i].l1_offset, q->snapshots[i].l1_size);
	if (ret == -ENOMEM)
		return ret;
	tables_walk(k);
	qcow2_snapshots_refer(q, k);
	qcow2_bitmaps_refer(q, k);
	{
		struct qcow2_ext *e = qcow2_ext_find(q, QCOW2_EXT_CRYPTO);

		if (e && e->len >= 16 && q->h.crypt_method == QCOW2_CRYPT_LUKS)
			refer(k, ld_be64(e->data), ld_be64(e->data + 8), 1);
	}
	refcounts_count(k);
	if (k->too_big)
		return -EFBIG;
	if (k->rebuild && k->fix)
		report(k, "Rebuilding refcount structure");
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
	counts_free(&k.tables);
	if (fix && !ret) {
		struct err err = { "" };

		ret = qcow2_reload(q, &err);
		if (ret)
			log_error("'%s': after the repair: %s", n->filename, err.msg);
	}
	return ret;
}

/*
 * Other widths of the reference counts: new structures from new counts; the header's one sector has
 * both their place and the width.
 */
int qcow2_refcount_width(struct qcow2 *q, unsigned order, struct err *err)
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
	if (!ret) {
		q->h.refcount_order = order;
		q->rb_bits = q->cluster_bits + 3 - order;
		q->refcount_max = order == 6 ? INT64_MAX : (1ull << (1u << order)) - 1;
		ret = rebuild(&k);
		if (ret) {
			q->h = was;
			q->rb_bits = rb_bits;
			q->refcount_max = max;
		}
	}
	counts_free(&k.refs);
	counts_free(&k.tables);
	if (ret)
		return err_set(
			err, -ret, "'%s': cannot change the width of its reference counts: %s",
			q->n->filename, ret == -ERANGE ? "a count does not fit" : strerror(-ret));
	return qcow2_reload(q, err);
}
