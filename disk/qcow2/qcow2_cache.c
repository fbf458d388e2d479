/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2_cache.c: L2 tables and refcount blocks in memory (spec: "Cluster mapping", "Host cluster
 * management"), and the set of host clusters that hold such metadata. With the image lock; q->map
 * is also read without it (qcow2_plain).
 */
#include <errno.h>
#include <stdlib.h>

#include "disk/qcow2/qcow2.h"

/* --- which host clusters are metadata --- */
/* An open hash set; 0 is free (cluster 0, the header, is always metadata). */

static size_t meta_slot(const struct qcow2 *q, uint64_t cluster)
{
	size_t i = (cluster * 0x9e3779b97f4a7c15ull) >> 32 & (q->meta_size - 1);

	while (q->meta[i] && q->meta[i] != cluster)
		i = (i + 1) & (q->meta_size - 1);
	return i;
}

void meta_add(struct qcow2 *q, uint64_t host)
{
	uint64_t cluster = host >> q->cluster_bits;
	size_t i;

	if (!cluster)
		return;
	if (q->meta_n * 2 >= q->meta_size) {
		uint64_t *old = q->meta;
		size_t old_size = q->meta_size;

		q->meta_size = MAX(old_size * 2, (size_t)64);
		q->meta = xcalloc(q->meta_size, sizeof(*q->meta));
		for (i = 0; i < old_size; i++)
			if (old[i])
				q->meta[meta_slot(q, old[i])] = old[i];
		free(old);
	}
	i = meta_slot(q, cluster);
	q->meta_n += !q->meta[i];
	q->meta[i] = cluster;
}

bool meta_has(const struct qcow2 *q, uint64_t host)
{
	uint64_t cluster = host >> q->cluster_bits;

	return !cluster || (q->meta_size && q->meta[meta_slot(q, cluster)]);
}

void meta_del(struct qcow2 *q, uint64_t host)
{
	uint64_t cluster = host >> q->cluster_bits;
	size_t i, j;

	if (!cluster || !q->meta_size)
		return;
	i = meta_slot(q, cluster);
	if (!q->meta[i])
		return;
	q->meta[i] = 0;
	q->meta_n--;
	/* Those behind it in the probe run may have to move up. */
	for (j = (i + 1) & (q->meta_size - 1); q->meta[j]; j = (j + 1) & (q->meta_size - 1)) {
		uint64_t c = q->meta[j];

		q->meta[j] = 0;
		q->meta[meta_slot(q, c)] = c;
	}
}

static bool overlap(uint64_t a, uint64_t alen, uint64_t b, uint64_t blen)
{
	return alen && blen && a < b + blen && b < a + alen;
}

bool meta_overlaps(const struct qcow2 *q, uint64_t off, uint64_t len)
{
	const struct qcow2_header *h = &q->h;

	if (overlap(off, len, 0, q->cluster_size) ||
	    overlap(off, len, h->l1_offset, (uint64_t)h->l1_size * 8) ||
	    overlap(off, len, h->reftable_offset,
		    (uint64_t)h->reftable_clusters << q->cluster_bits))
		return true;
	if (h->nb_snapshots && overlap(off, len, h->snapshots_offset, q->cluster_size))
		return true;
	for (uint64_t at = ALIGN_DOWN(off, q->cluster_size); at < off + len; at += q->cluster_size)
		if (meta_has(q, at))
			return true;
	return false;
}

bool host_ok(const struct qcow2 *q, uint64_t host, uint64_t len)
{
	return host && !q_in_cluster(q, host) &&
	       range_ok(host, len, __atomic_load_n(&q->n->file->size, __ATOMIC_RELAXED));
}

/* --- tables --- */

struct table *table_new(struct qcow2 *q, bool refblock, uint64_t index, uint64_t host)
{
	struct table_list *l = refblock ? &q->rbs : &q->l2s;
	struct table *t = calloc(1, sizeof(*t));
	size_t sectors = q->cluster_size / 512;

	if (!t)
		return NULL;
	if (posix_memalign((void **)&t->data, 4096, q->cluster_size)) {
		free(t);
		return NULL;
	}
	memset(t->data, 0, q->cluster_size);
	t->dirty = xcalloc((sectors + 63) / 64, 8);
	t->host = host;
	t->index = index;
	t->refblock = refblock;
	t->used = ++q->clock;
	t->next = l->head;
	if (t->next)
		t->next->prev = t;
	l->head = t;
	l->count++;
	return t;
}

static void table_free(struct table *t)
{
	free(t->data);
	free(t->dirty);
	free(t);
}

/*
 * Takes it out of the cache; readers without the lock may still look at it: it dies with their
 * epoch.
 */
void table_drop(struct qcow2 *q, struct table *t)
{
	struct table_list *l = t->refblock ? &q->rbs : &q->l2s;

	if (t->refblock)
		q->rmap[t->index] = NULL;
	else
		__atomic_store_n(&q->map[t->index], NULL, __ATOMIC_SEQ_CST);
	if (t->prev)
		t->prev->next = t->next;
	else
		l->head = t->next;
	if (t->next)
		t->next->prev = t->prev;
	l->count--;
	if (t->refblock) {
		table_free(t);
		return;
	}
	t->next = q->epochs.dead;
	q->epochs.dead = t;
	q->epochs.busy = true;
}

void tables_trim(struct qcow2 *q, struct table_list *l)
{
	while (l->count > l->max) {
		struct table *oldest = NULL;

		for (struct table *t = l->head; t; t = t->next)
			if (!t->pins && !t->is_dirty && !t->fresh &&
			    (!oldest || t->used < oldest->used))
				oldest = t;
		if (!oldest) {
			q->need_flush = true;
			return;
		}
		table_drop(q, oldest);
	}
}

/* Drained: nobody reads without the lock. */
void tables_drop_all(struct qcow2 *q)
{
	while (q->l2s.head)
		table_drop(q, q->l2s.head);
	while (q->rbs.head)
		table_drop(q, q->rbs.head);
	for (int i = 0; i < 2; i++) {
		struct table **dead = i ? &q->epochs.dead_waiting : &q->epochs.dead;

		while (*dead) {
			struct table *t = *dead;

			*dead = t->next;
			table_free(t);
		}
	}
}

void table_dirty(struct qcow2 *q, struct table *t, uint64_t byte, uint64_t len)
{
	for (uint64_t s = byte / 512; s <= (byte + len - 1) / 512; s++)
		t->dirty[s / 64] |= 1ull << (s % 64);
	t->is_dirty = true;
}

/* --- L1 and L2 --- */

void l1_set(struct qcow2 *q, uint64_t index, uint64_t entry)
{
	uint64_t s = index * 8 / 512;

	__atomic_store_n(&q->l1[index], entry, __ATOMIC_RELAXED);
	q->l1_dirty[s / 64] |= 1ull << (s % 64);
	q->l1_is_dirty = true;
}

static bool l2_suspect(const struct qcow2 *q, const struct table *t)
{
	for (uint64_t i = 0; i < 1ull << q->l2_bits; i++) {
		uint64_t entry, bitmap, guest = (t->index << q->l2_bits) + i;

		entry_load(q, t, i, &entry, &bitmap);
		if ((entry || bitmap) && !entry_ok(q, entry, bitmap, guest))
			return true;
	}
	return false;
}

int l2_get(struct qcow2 *q, uint64_t index, struct table **tp)
{
	struct table *t;
	uint64_t host;
	int ret;

	*tp = NULL;
	if (index >= q->l1_size)
		return 0;
	t = q->map[index];
	if (t) {
		t->used = ++q->clock;
		*tp = t;
		return 0;
	}
	host = q->l1[index] & L1E_OFFSET;
	if (!host)
		return 0;
	if (!host_ok(q, host, q->cluster_size))
		return qcow2_corrupt(q,
				     "L1 entry %llu points to %#llx: unaligned or outside the file",
				     (unsigned long long)index, (unsigned long long)host);
	q->l2s.max--;
	tables_trim(q, &q->l2s);
	q->l2s.max++;
	t = table_new(q, false, index, host);
	if (!t)
		return -ENOMEM;
	ret = node_pread(q->n->file, t->data, q->cluster_size, host);
	if (ret) {
		table_drop(q, t);
		return ret;
	}
	t->suspect = l2_suspect(q, t);
	__atomic_store_n(&q->map[index], t, __ATOMIC_RELEASE);
	*tp = t;
	return 0;
}

/* With an L2 table that belongs to the active disk alone. */
int l2_get_writable(struct qcow2 *q, uint64_t index, struct table **tp)
{
	struct table *old, *t;
	uint64_t host, got, old_host;
	int ret = l2_get(q, index, &old);

	if (ret)
		return ret;
	if (index >= q->l1_size)
		return -EIO;
	if (old && (q->l1[index] & L2E_COPIED)) {
		*tp = old;
		return 0;
	}
	if (old)
		old->pins++;
	ret = clusters_alloc(q, 1, &host, &got);
	if (old)
		old->pins--;
	if (ret)
		return ret;
	old_host = q->l1[index] & L1E_OFFSET;
	if (old) {
		ret = free_later(q, &q->frees, old_host, 1);
		if (ret) {
			clusters_unalloc(q, host, 1);
			return ret;
		}
	}
	if (!old) {
		t = table_new(q, false, index, host);
		if (!t) {
			clusters_unalloc(q, host, 1);
			return -ENOMEM;
		}
	} else {
		t = old;
		t->host = host;		/* the copy lives on in memory under its new address */
	}
	t->fresh = true;
	t->is_dirty = true;
	meta_add(q, host);
	l1_set(q, index, host | L2E_COPIED);
	__atomic_store_n(&q->map[index], t, __ATOMIC_RELEASE);
	*tp = t;
	return 0;
}
