/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2_bitmap.c: persistent dirty bitmaps (spec: "Bitmaps extension", "Bitmap directory", "Bitmap
 * table", "Bitmap data").
 *
 * Changes go by one way: new tables and data, a new directory, a flush (R1), then the header, then
 * the old places are given up. While the guest writes, its bitmaps carry IN_USE in the file; only a
 * clean end takes that away.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "disk/qcow2/qcow2.h"
#include "disk/qcow2/qcow2_bitmap.h"
#include "disk/qcow2/qcow2_check.h"
#include "vmm/base/iov.h"
#include "vmm/base/log.h"

enum {
	DIR_FIXED = 24, EXT_LEN = 24, MAX_NAME = 1023, TYPE_DIRTY = 1,
	FLAG_IN_USE = 1, FLAG_AUTO = 2, FLAG_EXTRA_OK = 4,
	MIN_GRANULARITY_BITS = 9, MAX_GRANULARITY_BITS = 31,
	MAX_DIR_BYTES = 64 << 20, MAX_TABLE_ENTRIES = 0x8000000,
};
#define MAX_BITMAP_BYTES (512 * MiB)
#define TABLE_OFFSET 0x00fffffffffffe00ull
#define TABLE_ALL_ONES 1ull

struct bitmap {
	char *name;
	uint64_t table;			/* 0: none in the file yet */
	uint32_t entries, flags;	/* flags as in the file, but IN_USE of our own */
	unsigned granularity_bits;
	uint8_t *extra;
	uint32_t extra_len;
	uint64_t dir_at;		/* where its entry is in the file */
	uint64_t *bits;			/* loaded; written atomically */
	bool changed;
};

struct qcow2_bitmaps {
	struct bitmap *v;
	uint32_t n;
	uint64_t dir, dir_len;
	pthread_mutex_t lock;		/* the first mark */
	bool marked;			/* IN_USE stands in the file for those we record in */
};

static uint64_t bit_count(const struct qcow2 *q, const struct bitmap *b, uint64_t size)
{
	return (size >> b->granularity_bits) + !!(size & ((1ull << b->granularity_bits) - 1));
}

static uint64_t byte_count(const struct qcow2 *q, const struct bitmap *b)
{
	return (bit_count(q, b, q->n->size) + 7) / 8;
}

static void bitmap_free(struct bitmap *b)
{
	free(b->name);
	free(b->extra);
	free(b->bits);
}

void qcow2_bitmaps_free(struct qcow2 *q)
{
	struct qcow2_bitmaps *bm = q->bitmaps;

	q->bitmaps_watch = false;
	q->bitmaps = NULL;
	if (!bm)
		return;
	for (uint32_t i = 0; i < bm->n; i++)
		bitmap_free(&bm->v[i]);
	pthread_mutex_destroy(&bm->lock);
	free(bm->v);
	free(bm);
}

static struct bitmap *find(struct qcow2 *q, const char *name)
{
	for (uint32_t i = 0; q->bitmaps && i < q->bitmaps->n; i++)
		if (!strcmp(q->bitmaps->v[i].name, name))
			return &q->bitmaps->v[i];
	return NULL;
}

static void watch_update(struct qcow2 *q)
{
	bool watch = false;

	for (uint32_t i = 0; q->bitmaps && i < q->bitmaps->n; i++)
		watch |= (q->bitmaps->v[i].flags & (FLAG_AUTO | FLAG_IN_USE)) == FLAG_AUTO;
	q->bitmaps_watch = watch && (q->n->flags & BLK_RDWR);
}

static int directory_parse(struct qcow2 *q, const uint8_t *d, uint64_t len, struct err *err)
{
	struct qcow2_bitmaps *bm = q->bitmaps;
	uint64_t at = 0;

	for (uint32_t i = 0; i < bm->n; i++) {
		struct bitmap *b = &bm->v[i];
		uint32_t name_len;

		if (len - at < DIR_FIXED)
			return err_set(err, EINVAL, "Bitmap directory is too short");
		b->dir_at = bm->dir + at;
		b->table = ld_be64(d + at);
		b->entries = ld_be32(d + at + 8);
		b->flags = ld_be32(d + at + 12);
		b->granularity_bits = d[at + 17];
		name_len = ld_be16(d + at + 18);
		b->extra_len = ld_be32(d + at + 20);
		if (b->extra_len > len - at - DIR_FIXED ||
		    name_len > len - at - DIR_FIXED - b->extra_len)
			return err_set(err, EINVAL, "Bitmap directory entry %u is too long", i);
		if (d[at + 16] != TYPE_DIRTY || b->granularity_bits < MIN_GRANULARITY_BITS ||
		    b->granularity_bits > MAX_GRANULARITY_BITS || !name_len ||
		    name_len > MAX_NAME || (b->flags & ~7u) || b->entries > MAX_TABLE_ENTRIES)
			return err_set(err, EINVAL, "Bitmap directory entry %u is invalid", i);
		if (b->entries && !host_ok(q, b->table, 1))
			return err_set(err, EINVAL, "Bitmap %u: table offset %#llx is invalid", i,
				       (unsigned long long)b->table);
		b->extra = xcalloc(1, b->extra_len + 1);
		memcpy(b->extra, d + at + DIR_FIXED, b->extra_len);
		b->name = xcalloc(1, name_len + 1);
		memcpy(b->name, d + at + DIR_FIXED + b->extra_len, name_len);
		at = ALIGN_UP(at + DIR_FIXED + b->extra_len + name_len, 8ull);
		if (at > ALIGN_UP(len, 8ull))
			return err_set(err, EINVAL, "Bitmap directory is too short");
		at = MIN(at, len);
	}
	return 0;
}

static int load(struct qcow2 *q, struct err *err)
{
	struct qcow2_ext *e = qcow2_ext_find(q, QCOW2_EXT_BITMAPS);
	struct qcow2_bitmaps *bm;
	uint8_t *d;
	int ret;

	qcow2_bitmaps_free(q);
	if (!e)
		return 0;
	if (!(q->h.autoclear & QCOW2_AUTOCLEAR_BITMAPS)) {
		if (q->n->flags & BLK_RDWR)
			log_warn("'%s': a program that knows no bitmaps has changed this image: "
				 "its bitmaps are no longer valid",
				 q->n->filename);
		qcow2_ext_set(q, QCOW2_EXT_BITMAPS, NULL, 0);
		return 0;
	}
	if (e->len != EXT_LEN)
		return err_set(err, EINVAL, "bitmaps_ext: Invalid extension length");
	bm = q->bitmaps = xcalloc(1, sizeof(*bm));
	pthread_mutex_init(&bm->lock, NULL);
	bm->dir_len = ld_be64(e->data + 8);
	bm->dir = ld_be64(e->data + 16);
	if (ld_be32(e->data + 4) || !ld_be32(e->data) || ld_be32(e->data) > QCOW2_MAX_BITMAPS ||
	    bm->dir_len > MAX_DIR_BYTES || bm->dir_len < (uint64_t)ld_be32(e->data) * DIR_FIXED ||
	    !host_ok(q, bm->dir, bm->dir_len)) {
		qcow2_bitmaps_free(q);
		return err_set(err, EINVAL, "bitmaps_ext: invalid number of bitmaps or directory");
	}
	bm->n = ld_be32(e->data);
	bm->v = xcalloc(bm->n, sizeof(*bm->v));
	d = xcalloc(1, bm->dir_len);
	ret = node_pread(q->n->file, d, bm->dir_len, bm->dir);
	if (ret)
		err_set(err, -ret, "cannot read the bitmap directory: %s", strerror(-ret));
	else
		ret = directory_parse(q, d, bm->dir_len, err);
	free(d);
	if (ret)
		qcow2_bitmaps_free(q);
	else
		watch_update(q);
	return ret;
}

int qcow2_bitmaps_load(struct qcow2 *q, struct err *err)
{
	struct err why = { "" };
	int ret = load(q, &why);

	q->bitmaps_broken = ret == -EINVAL;
	if (!ret)
		return 0;
	/* The disk does not need them. Written to it is not: they would no longer be true. */
	if (!q->bitmaps_broken || ((q->n->flags & BLK_RDWR) && !q->no_repair))
		return err_set(
			err, -ret,
			"%s (it can be read and converted; check -r all removes its bitmaps)",
			why.msg);
	log_warn("'%s': its bitmaps cannot be used: %s", q->n->filename, why.msg);
	return 0;
}

/* None can be told apart: all go. */
int qcow2_bitmaps_mend(struct qcow2 *q, struct node_check *c)
{
	struct err err = { "" };
	int ret;

	node_check_say(c, "Repairing bitmap directory: bitmaps removed");
	qcow2_ext_set(q, QCOW2_EXT_BITMAPS, NULL, 0);
	q->h.autoclear &= ~(uint64_t)QCOW2_AUTOCLEAR_BITMAPS;
	q->bitmaps_broken = false;
	ret = qcow2_header_rewrite(q, &err);
	c->corruptions++;
	c->corruptions_fixed += !ret;
	return ret;
}

/* --- bits in memory --- */

static int table_load(struct qcow2 *q, const struct bitmap *b, uint64_t **out)
{
	uint64_t *t;
	int ret;

	*out = NULL;
	if (!range_ok(b->table, (uint64_t)b->entries * 8,
		      ALIGN_UP(q->n->file->size, q->cluster_size)))
		return -EINVAL;
	t = calloc(b->entries + 1, 8);
	if (!t)
		return -ENOMEM;
	ret = node_pread(q->n->file, t, (uint64_t)b->entries * 8, b->table);
	if (ret) {
		free(t);
		return ret;
	}
	for (uint32_t i = 0; i < b->entries; i++)
		t[i] = be64toh(t[i]);
	*out = t;
	return 0;
}

static int bits_load(struct qcow2 *q, struct bitmap *b)
{
	uint64_t bytes = byte_count(q, b), *t = NULL;
	int ret;

	if (b->bits)
		return 0;
	if (bytes > MAX_BITMAP_BYTES)
		return -EFBIG;
	b->bits = calloc(bytes / 8 + 1, 8);
	if (!b->bits)
		return -ENOMEM;
	if (!b->entries)
		return 0;
	ret = b->entries == q_clusters(q, bytes) ? table_load(q, b, &t) : -EINVAL;
	for (uint32_t i = 0; i < b->entries && !ret; i++) {
		uint64_t at = (uint64_t)i << q->cluster_bits,
			 len = MIN(q->cluster_size, bytes - at), host = t[i] & TABLE_OFFSET;

		if (host)
			ret = host_ok(q, host, 1)
				      ? node_pread(q->n->file, (uint8_t *)b->bits + at, len, host)
				      : -EINVAL;
		else if (t[i] & TABLE_ALL_ONES)
			memset((uint8_t *)b->bits + at, 0xff, len);
	}
	free(t);
	if (ret) {
		free(b->bits);
		b->bits = NULL;
	}
	return ret;
}

static void bits_set(struct bitmap *b, uint64_t first, uint64_t last)
{
	for (uint64_t i = first; i <= last; i++) {
		uint64_t bit = 1ull << (i % 64), *w = &b->bits[i / 64];

		/* In the file the bits of a byte go up from the lowest: little-endian words. */
		bit = htole64(bit);
		if (!(__atomic_load_n(w, __ATOMIC_RELAXED) & bit))
			__atomic_fetch_or(w, bit, __ATOMIC_RELAXED);
	}
}

static int first_mark(struct qcow2 *q)
{
	struct qcow2_bitmaps *bm = q->bitmaps;
	int ret = 0;

	pthread_mutex_lock(&bm->lock);
	for (uint32_t i = 0; i < bm->n && !ret && !bm->marked; i++) {
		struct bitmap *b = &bm->v[i];
		uint8_t flags[4];

		if ((b->flags & (FLAG_AUTO | FLAG_IN_USE)) != FLAG_AUTO)
			continue;
		ret = bits_load(q, b);
		st_be32(flags, b->flags | FLAG_IN_USE);
		if (!ret)
			ret = node_pwrite(q->n->file, flags, sizeof(flags), b->dir_at + 12);
		b->changed = true;
	}
	if (!ret && !bm->marked)
		ret = node_flush(q->n->file);
	if (!ret)
		__atomic_store_n(&bm->marked, true, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&bm->lock);
	return ret;
}

int qcow2_bitmaps_mark(struct qcow2 *q, uint64_t off, uint64_t len)
{
	struct qcow2_bitmaps *bm = q->bitmaps;

	if (off >= q->n->size || !len)
		return 0;		/* VM state */
	if (!__atomic_load_n(&bm->marked, __ATOMIC_ACQUIRE)) {
		int ret = first_mark(q);

		if (ret)
			return ret;
	}
	len = MIN(len, q->n->size - off);
	for (uint32_t i = 0; i < bm->n; i++)
		if ((bm->v[i].flags & (FLAG_AUTO | FLAG_IN_USE)) == FLAG_AUTO)
			bits_set(&bm->v[i], off >> bm->v[i].granularity_bits,
				 (off + len - 1) >> bm->v[i].granularity_bits);
	return 0;
}

/* --- writing --- */

static bool all_ones(const uint8_t *p, uint64_t len)
{
	for (uint64_t i = 0; i < len; i++)
		if (p[i] != 0xff)
			return false;
	return true;
}

static int clusters_write(struct qcow2 *q, const void *data, uint64_t len, uint64_t *host)
{
	uint8_t *padded = calloc(1, ALIGN_UP(len, q->cluster_size));
	int ret = -ENOMEM;

	if (padded) {
		memcpy(padded, data, len);
		pthread_mutex_lock(&q->lock);
		ret = clusters_alloc_all(q, q_clusters(q, len), host);
		pthread_mutex_unlock(&q->lock);
		if (!ret)
			ret = node_pwrite(q->n->file, padded, ALIGN_UP(len, q->cluster_size),
					  *host);
	}
	free(padded);
	return ret;
}

/* New table and data for one bitmap; what it had goes to the list. */
static int bitmap_write(struct qcow2 *q, struct bitmap *b, struct free_list *old)
{
	uint64_t bytes = byte_count(q, b), entries = q_clusters(q, bytes), *t = NULL, host;
	uint8_t *raw;
	int ret = 0;

	if (b->entries) {
		ret = table_load(q, b, &t);
		for (uint32_t i = 0; i < b->entries && !ret; i++)
			if (t[i] & TABLE_OFFSET)
				ret = free_later(q, old, t[i] & TABLE_OFFSET, 1);
		if (!ret)
			ret = free_later(q, old, b->table, q_clusters(q, (uint64_t)b->entries * 8));
		free(t);
		if (ret)
			return ret;
	}
	raw = calloc(entries + 1, 8);
	if (!raw)
		return -ENOMEM;
	for (uint64_t i = 0; i < entries && !ret; i++) {
		uint8_t *p = (uint8_t *)b->bits + (i << q->cluster_bits);
		uint64_t len = MIN(q->cluster_size, bytes - (i << q->cluster_bits));

		if (buf_is_zero(p, len))
			continue;
		if (all_ones(p, len)) {
			st_be64(raw + i * 8, TABLE_ALL_ONES);
			continue;
		}
		ret = clusters_write(q, p, len, &host);
		st_be64(raw + i * 8, host);
	}
	if (!ret)
		ret = clusters_write(q, raw, MAX(entries * 8, 8ull), &host);
	free(raw);
	if (!ret) {
		b->table = host;
		b->entries = entries;
	}
	return ret;
}

static int directory_write(struct qcow2 *q, struct err *err)
{
	struct qcow2_bitmaps *bm = q->bitmaps;
	uint64_t len = 0, at = 0, host = 0;
	uint8_t *d, ext[EXT_LEN] = { 0 };
	int ret;

	for (uint32_t i = 0; i < bm->n; i++)
		len += ALIGN_UP(DIR_FIXED + bm->v[i].extra_len + strlen(bm->v[i].name), 8);
	if (len > MAX_DIR_BYTES || bm->n > QCOW2_MAX_BITMAPS)
		return -EFBIG;
	d = xcalloc(1, len + 1);
	for (uint32_t i = 0; i < bm->n; i++) {
		struct bitmap *b = &bm->v[i];

		st_be64(d + at, b->table);
		st_be32(d + at + 8, b->entries);
		st_be32(d + at + 12, b->flags);
		d[at + 16] = TYPE_DIRTY;
		d[at + 17] = b->granularity_bits;
		st_be16(d + at + 18, strlen(b->name));
		st_be32(d + at + 20, b->extra_len);
		memcpy(d + at + DIR_FIXED, b->extra ? b->extra : (uint8_t *)"", b->extra_len);
		memcpy(d + at + DIR_FIXED + b->extra_len, b->name, strlen(b->name));
		at = ALIGN_UP(at + DIR_FIXED + b->extra_len + strlen(b->name), 8ull);
	}
	ret = len ? clusters_write(q, d, len, &host) : 0;
	free(d);
	if (!ret)
		ret = qcow2_flush(q->n);
	if (ret)
		return ret;
	st_be32(ext, bm->n);
	st_be64(ext + 8, len);
	st_be64(ext + 16, host);
	qcow2_ext_set(q, QCOW2_EXT_BITMAPS, len ? ext : NULL, EXT_LEN);
	q->h.autoclear = len ? q->h.autoclear | QCOW2_AUTOCLEAR_BITMAPS
			     : q->h.autoclear & ~(uint64_t)QCOW2_AUTOCLEAR_BITMAPS;
	return qcow2_header_rewrite(q, err);
}

/* Everything that changed, a new directory, the header; then the old places. */
static int store(struct qcow2 *q, struct err *err)
{
	struct qcow2_bitmaps *bm = q->bitmaps;
	struct free_list old = { 0 };
	int ret = 0;

	for (uint32_t i = 0; i < bm->n && !ret; i++)
		if (bm->v[i].changed)
			ret = bitmap_write(q, &bm->v[i], &old);
	if (!ret && bm->dir_len)
		ret = free_later(q, &old, bm->dir, q_clusters(q, bm->dir_len));
	if (!ret)
		ret = directory_write(q, err);
	for (size_t i = 0; i < old.n && !ret; i++) {
		pthread_mutex_lock(&q->lock);
		ret = refcount_add(q, old.v[i].host >> q->cluster_bits, old.v[i].count, -1);
		pthread_mutex_unlock(&q->lock);
	}
	free(old.v);
	if (ret)
		return err_set(err, -ret, "'%s': cannot write its bitmaps: %s", q->n->filename,
			       strerror(-ret));
	return qcow2_bitmaps_load(q, err);
}

int qcow2_bitmaps_store(struct qcow2 *q, struct err *err)
{
	return q->bitmaps && q->bitmaps->marked && (q->n->flags & BLK_RDWR) ? store(q, err) : 0;
}

int qcow2_bitmaps_resize_check(struct qcow2 *q, uint64_t size, struct err *err)
{
	struct qcow2_bitmaps *bm = q->bitmaps;

	for (uint32_t i = 0; bm && i < bm->n; i++) {
		if (bm->v[i].flags & FLAG_IN_USE)
			return err_set(
				err, ENOTSUP,
				"'%s': bitmap '%s' is inconsistent: remove it before resizing",
				q->n->filename, bm->v[i].name);
		if (bit_count(q, &bm->v[i], size) / 8 >= MAX_BITMAP_BYTES)
			return err_set(err, EFBIG, "'%s': bitmap '%s' is too fine for this size",
				       q->n->filename, bm->v[i].name);
	}
	return 0;
}

int qcow2_bitmaps_resize(struct qcow2 *q, uint64_t size, struct err *err)
{
	struct qcow2_bitmaps *bm = q->bitmaps;
	uint64_t was = q->n->size;
	int ret = 0;

	if (!bm)
		return 0;
	for (uint32_t i = 0; i < bm->n && !ret; i++) {
		struct bitmap *b = &bm->v[i];
		uint64_t words, old_bits = bit_count(q, b, was), bits;

		ret = bits_load(q, b);
		if (ret)
			break;
		bits = bit_count(q, b, size);
		words = bits / 64 + 1;
		b->bits = xrealloc(b->bits, words * 8);
		for (uint64_t k = MIN(old_bits, bits); k < words * 64; k++)
			b->bits[k / 64] &= ~htole64(1ull << (k % 64));
		b->changed = true;
	}
	if (ret)
		return err_set(err, -ret, "'%s': cannot read its bitmaps: %s", q->n->filename,
			       strerror(-ret));
	q->n->size = size;
	ret = store(q, err);
	q->n->size = was;
	return ret;
}

/* --- what users do with them --- */

static int add(struct qcow2 *q, const char *name, uint32_t granularity, struct err *err)
{
	struct qcow2_bitmaps *bm;
	struct bitmap *b;

	granularity = granularity ? granularity
				  : MAX(MIN((uint64_t)65536, q->cluster_size), 4096ull);
	if (!IS_POWER_OF_2(granularity) || granularity < 512)
		return err_set(err, EINVAL, "Granularity must be a power of 2, at least 512");
	if (!*name || strlen(name) > MAX_NAME)
		return err_set(err, EINVAL, "Bitmap name is empty or too long");
	if (q->h.version < 3)
		return err_set(err, ENOTSUP, "Cannot store dirty bitmaps in qcow2 v2 files");
	if (find(q, name))
		return err_set(err, EEXIST, "Bitmap already exists: %s", name);
	if (!q->bitmaps) {
		q->bitmaps = xcalloc(1, sizeof(*q->bitmaps));
		pthread_mutex_init(&q->bitmaps->lock, NULL);
	}
	bm = q->bitmaps;
	bm->v = xrealloc(bm->v, (bm->n + 1) * sizeof(*bm->v));
	b = &bm->v[bm->n];
	*b = (struct bitmap){ .name = xstrdup(name),
			      .flags = FLAG_AUTO,
			      .granularity_bits = __builtin_ctz(granularity),
			      .changed = true };
	if (byte_count(q, b) > MAX_BITMAP_BYTES) {
		bitmap_free(b);
		return err_set(err, EFBIG, "The granularity is too fine for a disk of this size");
	}
	b->bits = xcalloc(byte_count(q, b) / 8 + 1, 8);
	bm->n++;
	return store(q, err);
}

/* The clusters of one bitmap go; the directory is written without it. */
static int drop(struct qcow2 *q, struct bitmap *b, struct err *err)
{
	struct qcow2_bitmaps *bm = q->bitmaps;
	struct free_list old = { 0 };
	uint64_t *t = NULL;
	int ret = 0;

	if (b->entries)
		ret = table_load(q, b, &t);
	for (uint32_t i = 0; i < b->entries && !ret; i++)
		if (t[i] & TABLE_OFFSET)
			ret = free_later(q, &old, t[i] & TABLE_OFFSET, 1);
	if (!ret && b->entries)
		ret = free_later(q, &old, b->table, q_clusters(q, (uint64_t)b->entries * 8));
	free(t);
	if (!ret) {
		bitmap_free(b);
		memmove(b, b + 1, (bm->v + bm->n - (b + 1)) * sizeof(*b));
		bm->n--;
		ret = store(q, err);
	}
	for (size_t i = 0; i < old.n && !ret; i++) {
		pthread_mutex_lock(&q->lock);
		ret = refcount_add(q, old.v[i].host >> q->cluster_bits, old.v[i].count, -1);
		pthread_mutex_unlock(&q->lock);
	}
	free(old.v);
	return ret ? err_set(err, -ret, "'%s': cannot remove the bitmap: %s", q->n->filename,
			     strerror(-ret))
		   : 0;
}

static int merge(struct qcow2 *q, struct bitmap *b, struct node *src, const char *src_name,
		 struct err *err)
{
	struct qcow2 *sq;
	struct bitmap *s;
	uint64_t bits;
	int ret;

	if (!src || strcmp(src->ops->format, "qcow2"))
		return err_set(err, ENOTSUP, "Bitmaps can be merged from qcow2 images only");
	sq = src->priv;
	s = find(sq, src_name);
	if (!s)
		return err_set(err, ENOENT, "Bitmap '%s' not found in '%s'", src_name,
			       src->filename);
	if (s->flags & FLAG_IN_USE)
		return err_set(err, EINVAL, "Bitmap '%s' is inconsistent and cannot be used",
			       src_name);
	if (src->size != q->n->size)
		return err_set(err, EINVAL, "The disks of the two bitmaps differ in size");
	ret = bits_load(sq, s);
	if (ret)
		return err_set(err, -ret, "'%s': cannot read bitmap '%s': %s", src->filename,
			       src_name, strerror(-ret));
	bits = bit_count(sq, s, src->size);
	for (uint64_t i = 0; i < bits; i++)
		if (le64toh(s->bits[i / 64]) >> (i % 64) & 1) {
			uint64_t off = i << s->granularity_bits,
				 end = MIN(off + (1ull << s->granularity_bits), q->n->size);

			bits_set(b, off >> b->granularity_bits, (end - 1) >> b->granularity_bits);
		}
	return 0;
}

int qcow2_bitmap(struct node *n, enum bitmap_op op, const char *name, uint32_t granularity,
		 struct node *src, const char *src_name, struct err *err)
{
	struct qcow2 *q = n->priv;
	struct bitmap *b;
	int ret;

	if (!(n->flags & BLK_RDWR) || n->inactive)
		return err_set(err, EPERM, "'%s' is open read-only: its bitmaps cannot be changed",
			       n->filename);
	ret = qcow2_bitmaps_store(q, err);
	if (ret)
		return ret;
	if (op == BITMAP_ADD)
		return add(q, name, granularity, err);
	b = find(q, name);
	if (!b)
		return err_set(err, ENOENT, "Dirty bitmap '%s' not found", name);
	if (op == BITMAP_REMOVE)
		return drop(q, b, err);
	if (b->flags & FLAG_IN_USE)
		return err_set(
			err, EINVAL,
			"Bitmap '%s' is inconsistent and cannot be used; try --remove to delete it",
			name);
	switch (op) {
	case BITMAP_ENABLE:
		b->flags |= FLAG_AUTO;
		break;
	case BITMAP_DISABLE:
		b->flags &= ~FLAG_AUTO;
		break;
	default:
		ret = bits_load(q, b);
		if (ret)
			return err_set(err, -ret, "'%s': cannot read bitmap '%s': %s", n->filename,
				       name, strerror(-ret));
		if (op == BITMAP_CLEAR)
			memset(b->bits, 0, byte_count(q, b));
		else
			ret = merge(q, b, src, src_name, err);
		b->changed = true;
	}
	return ret ? ret : store(q, err);
}

int qcow2_bitmap_list(struct node *n, struct node_bitmap **list, int *count)
{
	struct qcow2 *q = n->priv;
	uint32_t total = q->bitmaps ? q->bitmaps->n : 0;
	struct node_bitmap *v;

	if (q->h.version < 3)
		return -ENOTSUP;	/* version 2 has none */
	v = xcalloc(total + 1, sizeof(*v));
	for (uint32_t i = 0; i < total; i++) {
		struct bitmap *b = &q->bitmaps->v[i];

		snprintf(v[i].name, sizeof(v[i].name), "%s", b->name);
		v[i].granularity = 1u << b->granularity_bits;
		v[i].in_use = b->flags & FLAG_IN_USE;
		v[i].autoload = b->flags & FLAG_AUTO;
		if (!v[i].in_use && bits_load(q, b) == 0) {
			for (uint64_t w = 0; w <= byte_count(q, b) / 8; w++)
				v[i].count += __builtin_popcountll(b->bits[w]);
			v[i].count <<= b->granularity_bits;
		}
	}
	*list = v;
	*count = total;
	return 0;
}

void qcow2_bitmaps_refer(struct qcow2 *q, struct check *k)
{
	struct qcow2_bitmaps *bm = q->bitmaps;

	if (q->bitmaps_broken) {
		qcow2_check_error(k, "the bitmap directory is damaged");
		k->uncounted = true;
	}
	if (!bm)
		return;
	qcow2_check_refer(k, bm->dir, bm->dir_len);
	for (uint32_t i = 0; i < bm->n; i++) {
		struct bitmap *b = &bm->v[i];
		uint64_t *t;

		if (!b->entries)
			continue;
		qcow2_check_refer(k, b->table, (uint64_t)b->entries * 8);
		if (table_load(q, b, &t)) {
			qcow2_check_error(k, "a bitmap table cannot be read");
			k->uncounted = true;
			continue;
		}
		for (uint32_t e = 0; e < b->entries; e++)
			if (t[e] & TABLE_OFFSET)
				qcow2_check_refer(k, t[e] & TABLE_OFFSET, q->cluster_size);
		free(t);
	}
}
