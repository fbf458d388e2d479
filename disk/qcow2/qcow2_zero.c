/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2_zero.c: write zeroes and discard: whole clusters (and subclusters) by their entries, the
 * rest by writing. Worker threads. What an entry no longer refers to is freed as R1 and R4 want it.
 */
#include <errno.h>

#include "disk/qcow2/qcow2.h"
#include "disk/qcow2/qcow2_bitmap.h"

static const uint8_t zeros[65536] __attribute__((aligned(4096)));

/* Part of a cluster: nothing to do when it reads as zeros already. */
static int write_zeros(struct qcow2 *q, uint64_t off, uint64_t len)
{
	while (len) {
		struct iovec iov = { (void *)zeros, MIN(len, sizeof(zeros)) };
		struct mapping m;
		int ret;

		pthread_mutex_lock(&q->lock);
		ret = qcow2_map(q, off, len, &m);
		pthread_mutex_unlock(&q->lock);
		if (ret)
			return ret;
		if (m.type == MAP_ZERO || m.type == MAP_ZERO_ALLOC ||
		    (m.type == MAP_UNALLOCATED && !q_below(q))) {
			off += m.len;
			len -= m.len;
			continue;
		}
		iov.iov_len = MIN(iov.iov_len, m.len);
		ret = qcow2_write(q->n, off, &iov, 1, iov.iov_len, 0);
		if (ret)
			return ret;
		off += iov.iov_len;
		len -= iov.iov_len;
	}
	return 0;
}

/* Makes a whole cluster read as zeros (or, with full, unallocated). With the lock. */
static int cluster_zero(struct qcow2 *q, uint64_t guest, bool unmap, bool full)
{
	uint64_t i = q_l2_index(q, guest), entry, bitmap, e = 0, b = 0;
	struct table *t;
	int ret = l2_get(q, q_l1_index(q, guest), &t);

	if (ret)
		return ret;
	if (!t && (full || !q_below(q)))
		return 0;
	if (t)
		entry_load(q, t, i, &entry, &bitmap);
	else
		entry = bitmap = 0;
	if (t && t->suspect && (entry || bitmap) &&
	    !entry_ok(q, entry, bitmap, guest >> q->cluster_bits))
		return qcow2_corrupt(q, "the entry %#llx of guest offset %#llx is impossible",
				     (unsigned long long)entry, (unsigned long long)guest);
	if (!entry && !bitmap && (full || !q_below(q)))
		return 0;
	if (!full && q->h.version >= 3) {
		/* Keep the cluster that is there, unless it may go. */
		if (!unmap && !(entry & L2E_COMPRESSED) && (entry & L2E_COPIED))
			e = entry & ~L2E_ZERO;
		if (q_ext_l2(q))
			b = SC_ALL_ZERO;
		else
			e |= L2E_ZERO;
	}
	if (e == entry && b == bitmap)
		return 0;
	ret = l2_get_writable(q, q_l1_index(q, guest), &t);
	if (ret)
		return ret;
	if ((e & L2E_OFFSET) != (entry & L2E_OFFSET) || (entry & L2E_COMPRESSED)) {
		ret = entry_free(q, entry);
		if (ret)
			return ret;
	}
	entry_store(q, t, i, e, b);
	return 0;
}

/* With extended L2: the whole subclusters of a part of one cluster. With the lock. */
static int subclusters_zero(struct qcow2 *q, uint64_t off, uint64_t len)
{
	uint64_t entry, bitmap;
	struct table *t;
	int ret = l2_get_writable(q, q_l1_index(q, off), &t);

	if (ret)
		return ret;
	entry_load(q, t, q_l2_index(q, off), &entry, &bitmap);
	if (entry & L2E_COMPRESSED)
		return -ENOTSUP;
	for (uint64_t sc = q_in_cluster(q, off) >> q->sc_bits; len; sc++, len -= 1ull << q->sc_bits)
		bitmap = (bitmap | SC_ZERO(sc)) & ~SC_ALLOC(sc);
	entry_store(q, t, q_l2_index(q, off), entry, bitmap);
	return 0;
}

/* The parts of one cluster at either end of a range. */
static int partial_zero(struct qcow2 *q, uint64_t off, uint64_t len)
{
	uint64_t sc = 1ull << q->sc_bits, first = ALIGN_UP(off, sc),
		 last = ALIGN_DOWN(off + len, sc);
	struct alloc a;
	int ret;

	if (!q_ext_l2(q) || first >= last)
		return write_zeros(q, off, len);
	pthread_mutex_lock(&q->lock);
	alloc_begin(q, &a, off >> q->cluster_bits, 1);
	ret = q->corrupt ? -EIO : subclusters_zero(q, first, last - first);
	alloc_end(q, &a);
	pthread_mutex_unlock(&q->lock);
	if (ret == -ENOTSUP)
		return write_zeros(q, off, len);
	if (!ret && first > off)
		ret = write_zeros(q, off, first - off);
	if (!ret && last < off + len)
		ret = write_zeros(q, last, off + len - last);
	return ret;
}

static int clusters_zero(struct qcow2 *q, uint64_t off, uint64_t len, bool unmap, bool full)
{
	/* At most this many under the lock at once. */
	enum { BATCH = 1024 };
	bool flush = false;
	int ret = 0;

	while (len && !ret) {
		uint64_t n = MIN(len >> q->cluster_bits, (uint64_t)BATCH);
		struct alloc a;

		pthread_mutex_lock(&q->lock);
		alloc_begin(q, &a, off >> q->cluster_bits, n);
		ret = q->corrupt ? -EIO : 0;
		for (uint64_t i = 0; i < n && !ret; i++) {
			struct table *t;
			uint64_t span = 1ull << (q->cluster_bits + q->l2_bits),
				 at = off + (i << q->cluster_bits);

			/*
			 * Where no table is, there is nothing to take away: over its whole span at
			 * once.
			 */
			ret = l2_get(q, q_l1_index(q, at), &t);
			if (!ret && !t && (full || !q_below(q))) {
				i += (MIN(ALIGN_DOWN(at, span) + span, off + len) - at) >>
				     q->cluster_bits;
				i--;
				continue;
			}
			if (!ret)
				ret = cluster_zero(q, at, unmap, full);
		}
		alloc_end(q, &a);
		flush |= q->need_flush;
		pthread_mutex_unlock(&q->lock);
		off += n << q->cluster_bits;
		len -= n << q->cluster_bits;
	}
	if (flush)
		qcow2_flush(q->n);
	return ret;
}

int qcow2_zeroes(struct node *n, uint64_t off, uint64_t len, unsigned flags)
{
	struct qcow2 *q = n->priv;
	uint64_t first = ALIGN_UP(off, q->cluster_size), last, end = off + len;
	bool raw_data = n->data_file && (q->h.autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW);
	int ret;

	if (q->h.version < 3 && q_below(q))
		return -ENOTSUP;	/* version 2 has no zero clusters */
	ret = qcow2_bitmaps_dirty(q, off, len);
	if (ret)
		return ret;
	if (raw_data) {
		/* The data file alone shall be the disk. */
		ret = node_zeroes(n->data_file, off, len, flags);
		if (ret)
			return ret;
	}
	/* The cluster at the disk's end is whole when the range goes up to there. */
	last = end == n->size ? ALIGN_UP(end, q->cluster_size) : ALIGN_DOWN(end, q->cluster_size);
	if (first >= last)
		return q_in_cluster(q, off) + len <= q->cluster_size ? partial_zero(q, off, len)
		       : (ret = partial_zero(q, off, first - off))
			       ? ret
			       : partial_zero(q, first, end - first);
	if (off < first)
		ret = partial_zero(q, off, first - off);
	if (!ret)
		ret = clusters_zero(q, first, last - first, flags & BLK_UNMAP, q->h.version < 3);
	if (!ret && end > last)
		ret = partial_zero(q, last, end - last);
	return ret;
}

int qcow2_discard(struct node *n, uint64_t off, uint64_t len)
{
	struct qcow2 *q = n->priv;
	uint64_t first = ALIGN_UP(off, q->cluster_size), end = off + len, last;
	int ret;

	last = end == n->size ? ALIGN_UP(end, q->cluster_size) : ALIGN_DOWN(end, q->cluster_size);
	if (first >= last || (q->h.version < 3 && q_below(q)))
		return 0;
	ret = qcow2_bitmaps_dirty(q, off, len);
	if (!ret && n->data_file && (q->h.autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW))
		ret = node_zeroes(n->data_file, first, MIN(last, n->size) - first, BLK_UNMAP);
	return ret ? ret : clusters_zero(q, first, last - first, true, q->h.version < 3);
}

/* Whole clusters anywhere in the guest's addresses (the VM state, too) become unallocated. */
int qcow2_forget(struct qcow2 *q, uint64_t off, uint64_t len)
{
	return clusters_zero(q, off, len, true, true);
}
