/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2_resize.c: what changes the shape of an image: its size, preallocation, its backing file,
 * emptying after a commit. The front is drained; each switch is one sector of the header (old state
 * or new, never between).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "disk/qcow2/qcow2.h"
#include "disk/qcow2/qcow2_bitmap.h"
#include "vmm/base/log.h"

/*
 * The active L1 table at a new place with room for `entries`. Drained; with the lock, which it
 * drops for a moment.
 */
int qcow2_l1_grow(struct qcow2 *q, uint64_t entries, struct err *err)
{
	struct qcow2_header was = q->h;
	uint64_t host = 0, clusters = q_clusters(q, entries * 8), old_size = q->l1_size, *l1,
		 *dirty;
	struct table **map;
	uint8_t *raw;
	int ret;

	if (entries <= q->l1_size)
		return 0;
	if (entries * 8 > QCOW2_MAX_L1_BYTES)
		return err_set(
			err, EFBIG,
			"Image is too big for its cluster size: its L1 table would exceed %d bytes",
			QCOW2_MAX_L1_BYTES);
	raw = calloc(1, clusters << q->cluster_bits);
	l1 = calloc(entries + 1, sizeof(*l1));
	map = calloc(entries + 1, sizeof(*map));
	dirty = calloc(entries * 8 / 512 / 64 + 1, 8);
	ret = raw && l1 && map && dirty ? clusters_alloc_all(q, clusters, &host) : -ENOMEM;
	if (ret)
		goto fail;
	for (uint64_t i = 0; i < q->l1_size; i++)
		st_be64(raw + i * 8, q->l1[i]);
	ret = node_pwrite(q->n->file, raw, clusters << q->cluster_bits, host);
	/* R1: the new table's refcounts before the header points to it. */
	pthread_mutex_unlock(&q->lock);
	if (!ret)
		ret = qcow2_flush(q->n);
	pthread_mutex_lock(&q->lock);
	if (ret) {
		clusters_unalloc(q, host, clusters);
		goto fail;
	}
	q->h.l1_offset = host;
	q->h.l1_size = entries;
	ret = qcow2_header_update(q);
	if (!ret)
		ret = node_flush(q->n->file);
	if (ret) {
		q->h = was;
		if (qcow2_header_update(q) || node_flush(q->n->file))
			q->corrupt = true;
		goto fail;		/* the clusters leak: the header may point to them */
	}
	memcpy(l1, q->l1, q->l1_size * sizeof(*l1));
	memcpy(map, q->map, q->l1_size * sizeof(*map));
	free(q->l1);
	free(q->map);
	free(q->l1_dirty);
	q->l1 = l1;
	q->map = map;
	q->l1_dirty = dirty;
	q->l1_size = entries;
	free(raw);
	if (old_size)
		free_later(q, &q->frees, was.l1_offset, q_clusters(q, old_size * 8));
	return 0;
fail:
	free(raw);
	free(l1);
	free(map);
	free(dirty);
	return err_set(err, -ret, "'%s': cannot enlarge its L1 table: %s", q->n->filename,
		       strerror(-ret));
}

/* Gives up refcount blocks at the end that count nothing but themselves. With the lock. */
static void trim_refblocks(struct qcow2 *q)
{
	for (uint64_t i = q->reft_size; i-- > 1;) {
		uint64_t host = q->reft[i] & REFT_OFFSET, first = i << q->rb_bits, s = i * 8 / 512,
			 v, used = 0;

		if (!host)
			continue;
		if (host != first << q->cluster_bits)
			return;
		for (uint64_t c = 0; c < 1ull << q->rb_bits; c++)
			if (refcount_get(q, first + c, &v) || v)
				used++;
		if (used != 1)
			return;
		if (q->rmap[i])
			table_drop(q, q->rmap[i]);
		meta_del(q, host);
		q->reft[i] = 0;
		q->reft_dirty[s / 64] |= 1ull << (s % 64);
		q->reft_is_dirty = true;
	}
}

/* Cuts off what no cluster uses at the file's end. Drained. */
static void trim_file(struct qcow2 *q)
{
	uint64_t end = q_clusters(q, q->n->file->size), v;

	pthread_mutex_lock(&q->lock);
	trim_refblocks(q);
	pthread_mutex_unlock(&q->lock);
	if (!q->sparse_file || qcow2_flush(q->n))
		return;
	while (end > 1 && refcount_get(q, end - 1, &v) == 0 && v == 0)
		end--;
	if (end << q->cluster_bits < q->n->file->size &&
	    node_resize(q->n->file, end << q->cluster_bits, NULL) == 0) {
		q->end = end;
		q->free_hint = MIN(q->free_hint, end);
	}
}

static int shrink(struct qcow2 *q, uint64_t size, struct err *err)
{
	struct node *n = q->n;
	uint64_t from = ALIGN_UP(size, q->cluster_size),
		 span = 1ull << (q->cluster_bits + q->l2_bits);
	int ret = 0;

	/*
	 * Nothing stays behind, not even zeros: should the disk grow again, they must not come
	 * back.
	 */
	if (from < n->size)
		ret = qcow2_forget(q, from, ALIGN_UP(n->size, q->cluster_size) - from);
	for (uint64_t i = (size + span - 1) / span; i < q->l1_size && !ret; i++) {
		uint64_t host = q->l1[i] & L1E_OFFSET;

		if (!host)
			continue;
		if (q->map[i])
			table_drop(q, q->map[i]);
		l1_set(q, i, 0);
		ret = free_later(q, &q->frees, host, 1);
	}
	if (!ret)
		ret = qcow2_flush_locked_out(q);
	if (ret)
		return err_set(err, -ret, "'%s': cannot give up what lies beyond the new end: %s",
			       n->filename, strerror(-ret));
	return 0;
}

int qcow2_resize_check(struct qcow2 *q, uint32_t version, uint64_t size, struct err *err)
{
	uint64_t span = 1ull << (q->cluster_bits + q->l2_bits);

	if (size & 511)
		return err_set(err, EINVAL, "The new size must be a multiple of 512");
	if (q->h.nb_snapshots && version < 3)
		return err_set(err, ENOTSUP, "Can't resize a v2 image which has snapshots");
	if (size > INT64_MAX - span || (size + span - 1) / span * 8 > QCOW2_MAX_L1_BYTES)
		return err_set(err, EFBIG,
			       "Image is too big for its cluster size: its L1 table would exceed "
			       "%d bytes",
			       QCOW2_MAX_L1_BYTES);
	return qcow2_bitmaps_resize_check(q, size, err);
}

/*
 * The disk has grown from old to size: what is new reads as zeros. The rest of the last cluster has
 * never been the guest's and may hold anything; a longer backing file may have data there.
 */
static int zero_new(struct qcow2 *q, uint64_t old, uint64_t size)
{
	struct node *n = q->n;
	uint64_t below = n->backing ? MAX(MIN(size, n->backing->size), old) : old;
	uint64_t tail = MIN(ALIGN_UP(old, q->cluster_size), size);
	int ret = below > old ? node_zeroes(n, old, below - old, 0) : 0;

	for (uint64_t at = below; at < tail && !ret;) {
		struct mapping m;

		pthread_mutex_lock(&q->lock);
		ret = qcow2_map(q, at, tail - at, &m);
		pthread_mutex_unlock(&q->lock);
		if (!ret && m.type != MAP_UNALLOCATED)
			ret = node_zeroes(n, at, m.len, 0);
		at += m.len;
	}
	return ret;
}

int qcow2_resize(struct node *n, uint64_t size, struct err *err)
{
	struct qcow2 *q = n->priv;
	struct qcow2_header was = q->h;
	uint64_t span = 1ull << (q->cluster_bits + q->l2_bits), old = n->size;
	int ret;

	ret = qcow2_resize_check(q, q->h.version, size, err);
	if (ret)
		return ret;
	if (size == n->size)
		return 0;
	ret = qcow2_bitmaps_store(q, err);
	if (ret)
		return ret;
	if (q->bitmaps || qcow2_ext_find(q, QCOW2_EXT_BITMAPS)) {
		ret = qcow2_bitmaps_resize(q, size, err);
		if (ret)
			return ret;
	}
	ret = qcow2_flush(n);
	if (ret)
		return err_set(err, -ret, "'%s': %s", n->filename, strerror(-ret));
	if (size < n->size) {
		ret = shrink(q, size, err);
	} else {
		pthread_mutex_lock(&q->lock);
		ret = qcow2_l1_grow(q, (size + span - 1) / span, err);
		pthread_mutex_unlock(&q->lock);
		n->size = size;
		if (!ret)
			ret = zero_new(q, old, size);
		if (!ret)
			ret = qcow2_flush(n);
	}
	if (!ret && n->data_file)
		ret = node_resize(n->data_file, size, err);
	if (!ret) {
		q->h.size = size;
		ret = qcow2_header_update(q);
		if (!ret)
			ret = node_flush(n->file);
		if (ret)
			q->h.size = was.size;
	}
	n->size = ret ? old : size;
	if (!ret) {
		uint64_t max = MAX(
			MIN((32ull << 20) >> q->cluster_bits, span ? size / span + 2 : 2), 4ull);

		q->l2s.max = MAX(q->l2s.max, max);
		if (size < old)
			trim_file(q);
	}
	return ret ? err_set(err, -ret, "'%s': cannot resize: %s", n->filename, strerror(-ret)) : 0;
}

/*
 * Host clusters for a range that has none: never used ones, which read as zeros. The entries say
 * "allocated", not "zero", so that the guest's writes change no metadata; but where what is stored
 * is encrypted, zeros of the host are none of the guest: there they say "zero", and keep their
 * cluster.
 */
static int preallocate_step(struct qcow2 *q, uint64_t off, uint64_t len, uint64_t *done,
			    uint64_t *where, uint64_t *bytes)
{
	uint64_t i0 = q_l2_index(q, off),
		 count = MIN(q_clusters(q, len), (1ull << q->l2_bits) - i0), host, got = 0, entry,
		 bitmap, n;
	struct table *t;
	int ret = l2_get_writable(q, q_l1_index(q, off), &t);

	if (ret)
		return ret;
	for (n = 0; n < count; n++) {
		entry_load(q, t, i0 + n, &entry, &bitmap);
		if (entry || bitmap)
			break;
	}
	if (!n) {
		*done = q->cluster_size;
		return 0;
	}
	if (q->n->data_file) {
		host = ALIGN_DOWN(off, q->cluster_size);
		got = n;
	} else {
		t->pins++;
		ret = clusters_alloc_unused(q, n, &host, &got);
		t->pins--;
		if (ret)
			return ret;
	}
	entry = L2E_COPIED | (q->crypt && !q_ext_l2(q) ? L2E_ZERO : 0);
	bitmap = !q_ext_l2(q) || q_below(q) ? 0 : q->crypt ? SC_ALL_ZERO : SC_ALL_ALLOC;
	for (uint64_t i = 0; i < got; i++)
		entry_store(q, t, i0 + i, (host + (i << q->cluster_bits)) | entry, bitmap);
	*done = *bytes = got << q->cluster_bits;
	*where = host;
	return 0;
}

int qcow2_preallocate(struct node *n, uint64_t off, uint64_t len, const char *mode, struct err *err)
{
	struct qcow2 *q = n->priv;
	struct node *d = q_data(q);
	uint64_t end;
	bool fill = strcmp(mode, "metadata");
	int ret = 0;

	if (!strcmp(mode, "off"))
		return 0;
	if (strcmp(mode, "metadata") && strcmp(mode, "falloc") && strcmp(mode, "full"))
		return err_set(err, EINVAL,
			       "Unsupported preallocation mode '%s': off, metadata, falloc or full",
			       mode);
	if (n->backing_name && !q_ext_l2(q))
		return err_set(err, EINVAL,
			       "Backing file and preallocation can only be used at the same time "
			       "if extended_l2 is enabled");
	if (q->crypt && q->h.version < 3)
		return err_set(
			err, EINVAL,
			"'%s': preallocation of an encrypted image needs compat=1.1, which can "
			"mark what nobody has written",
			n->filename);
	if (fill && !d->ops->preallocate)
		return err_set(err, ENOTSUP, "'%s': a %s cannot preallocate", d->filename,
			       d->ops->format);
	if (!len)
		return 0;
	for (uint64_t at = ALIGN_DOWN(off, q->cluster_size); at < off + len && !ret;) {
		uint64_t done = 0, host, bytes = 0;

		pthread_mutex_lock(&q->lock);
		ret = preallocate_step(q, at, off + len - at, &done, &host, &bytes);
		pthread_mutex_unlock(&q->lock);
		if (!ret && bytes && fill)
			ret = d->ops->preallocate(d, host, bytes, mode, err);
		at += done;
		if (!ret && q->need_flush)
			ret = qcow2_flush(n);
	}
	end = q->end << q->cluster_bits;
	if (!ret && !n->data_file && end > n->file->size)
		ret = node_resize(n->file, end, err);
	if (!ret)
		ret = qcow2_flush(n);
	return ret ? err_set(err, -ret, "'%s': cannot preallocate: %s", n->filename, strerror(-ret))
		   : 0;
}

int qcow2_set_backing(struct node *n, const char *backing, const char *format, struct err *err)
{
	struct qcow2 *q = n->priv;
	char *was = n->backing_name, *was_format = n->backing_format;
	int ret;

	if (backing && strlen(backing) > QCOW2_MAX_BACKING_NAME)
		return err_set(err, EINVAL, "Backing file name too long");
	if (backing && *backing && (q->h.autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW))
		return err_set(err, EINVAL,
			       "Cannot set a backing file for images with data-file-raw");
	ret = qcow2_flush(n);
	if (ret)
		return err_set(err, -ret, "'%s': %s", n->filename, strerror(-ret));
	n->backing_name = backing && *backing ? xstrdup(backing) : NULL;
	n->backing_format = backing && *backing && format ? xstrdup(format) : NULL;
	ret = qcow2_header_rewrite(q, err);
	if (ret) {
		free(n->backing_name);
		free(n->backing_format);
		n->backing_name = was;
		n->backing_format = was_format;
		return ret;
	}
	free(was);
	free(was_format);
	return 0;
}

int qcow2_make_empty(struct node *n)
{
	struct qcow2 *q = n->priv;
	uint64_t span = 1ull << (q->cluster_bits + q->l2_bits);
	int ret = qcow2_flush(n);

	/*
	 * Table by table: the L1 entry goes, and with it all that only it reached, once that is
	 * durable.
	 */
	for (uint64_t i = 0; i < q->l1_size && !ret; i++) {
		struct table *t;

		pthread_mutex_lock(&q->lock);
		ret = l2_get(q, i, &t);
		for (uint64_t e = 0; t && e < 1ull << q->l2_bits && !ret; e++) {
			uint64_t entry, bitmap;

			entry_load(q, t, e, &entry, &bitmap);
			if (!entry && !bitmap)
				continue;
			if (t->suspect &&
			    !entry_ok(q, entry, bitmap, (i * span >> q->cluster_bits) + e))
				ret = qcow2_corrupt(q, "the entry %#llx is impossible",
						    (unsigned long long)entry);
			else
				ret = entry_free(q, entry);
		}
		if (!ret && t)
			ret = free_later(q, &q->frees, t->host, 1);
		if (!ret && t) {
			table_drop(q, t);
			l1_set(q, i, 0);
		}
		pthread_mutex_unlock(&q->lock);
		if (!ret && q->need_flush)
			ret = qcow2_flush(n);
	}
	if (!ret)
		ret = qcow2_flush_locked_out(q);
	if (!ret)
		trim_file(q);
	return ret;
}
