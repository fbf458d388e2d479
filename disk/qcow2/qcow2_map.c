/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2_map.c: what an L2 entry says (spec: "Cluster mapping", "Standard Cluster Descriptor",
 * "Compressed Clusters Descriptor", "Extended L2 Entries"). The smallest unit is the subcluster;
 * without extended L2 a cluster has one.
 */
#include <errno.h>

#include "disk/qcow2/qcow2.h"

void entry_load(const struct qcow2 *q, const struct table *t, uint64_t i, uint64_t *entry,
		uint64_t *bitmap)
{
	const uint64_t *p = (const uint64_t *)(t->data + i * q->entry_size);

	*entry = be64toh(__atomic_load_n(p, __ATOMIC_ACQUIRE));
	*bitmap = q_ext_l2(q) ? be64toh(__atomic_load_n(p + 1, __ATOMIC_ACQUIRE)) : 0;
}

void entry_store(struct qcow2 *q, struct table *t, uint64_t i, uint64_t entry, uint64_t bitmap)
{
	uint64_t *p = (uint64_t *)(t->data + i * q->entry_size);

	/* A reader without the lock that sees the new bitmap must see the new entry. */
	__atomic_store_n(p, htobe64(entry), __ATOMIC_SEQ_CST);
	if (q_ext_l2(q))
		__atomic_store_n(p + 1, htobe64(bitmap), __ATOMIC_SEQ_CST);
	table_dirty(q, t, i * q->entry_size, q->entry_size);
}

enum map_type entry_type(const struct qcow2 *q, uint64_t entry, uint64_t bitmap, unsigned sc)
{
	if (entry & L2E_COMPRESSED)
		return MAP_COMPRESSED;
	if (q_ext_l2(q)) {
		bool host = entry & L2E_OFFSET;

		if (bitmap & SC_ZERO(sc))
			return host ? MAP_ZERO_ALLOC : MAP_ZERO;
		return host && (bitmap & SC_ALLOC(sc)) ? MAP_NORMAL : MAP_UNALLOCATED;
	}
	if ((entry & L2E_ZERO) && q->h.version >= 3)
		return entry & L2E_OFFSET ? MAP_ZERO_ALLOC : MAP_ZERO;
	if (entry & L2E_OFFSET)
		return MAP_NORMAL;
	/* In a data file guest cluster 0 may lie at offset 0. */
	return q->n->data_file && (entry & L2E_COPIED) ? MAP_NORMAL : MAP_UNALLOCATED;
}

void entry_packed(const struct qcow2 *q, uint64_t entry, uint64_t *host, uint64_t *len)
{
	unsigned shift = 62 - (q->cluster_bits - 8);
	uint64_t sectors = (entry >> shift & ((1ull << (q->cluster_bits - 8)) - 1)) + 1;

	*host = entry & ((1ull << shift) - 1);
	*len = sectors * 512 - (*host & 511);
}

bool entry_ok(const struct qcow2 *q, uint64_t entry, uint64_t bitmap, uint64_t guest_cluster)
{
	uint64_t host, len, size = __atomic_load_n(&q->n->file->size, __ATOMIC_RELAXED);

	if (entry & L2E_COMPRESSED) {
		entry_packed(q, entry, &host, &len);
		/* Its last sector may reach past the end of the file. */
		return !q->n->data_file && host >= q->cluster_size && host < size &&
		       len <= 2 * q->cluster_size && !meta_has(q, host);
	}
	if (q_ext_l2(q) && (((bitmap >> 32) & bitmap & SC_ALL_ALLOC) || (entry & L2E_ZERO)))
		return false;
	host = entry & L2E_OFFSET;
	if (!host)
		return !q_ext_l2(q) || q->n->data_file || !(bitmap & SC_ALL_ALLOC);
	if (q_in_cluster(q, host))
		return false;
	if (q->n->data_file)
		return !(q->h.autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW) ||
		       host == guest_cluster << q->cluster_bits;
	/*
	 * Clusters that were allocated and not written may lie past the end; they read as zeros,
	 * but not out of the world.
	 */
	if (host >= 1ull << 55 ||
	    (host >= ALIGN_UP(size, q->cluster_size) && host >= q->end << q->cluster_bits))
		return false;
	return !meta_overlaps(q, host, q->cluster_size);
}

static int map_one(struct qcow2 *q, uint64_t off, struct table *t, struct mapping *m)
{
	uint64_t i = q_l2_index(q, off), entry, bitmap;
	unsigned sc = q_in_cluster(q, off) >> q->sc_bits;

	entry_load(q, t, i, &entry, &bitmap);
	if (t->suspect && (entry || bitmap) && !entry_ok(q, entry, bitmap, off >> q->cluster_bits))
		return qcow2_corrupt(q, "the entry %#llx of guest offset %#llx is impossible",
				     (unsigned long long)entry, (unsigned long long)off);
	m->type = entry_type(q, entry, bitmap, sc);
	m->entry = entry;
	m->copied = entry & L2E_COPIED;
	m->host = m->packed_len = 0;
	m->len = (1ull << q->sc_bits) - (off & ((1ull << q->sc_bits) - 1));
	if (m->type == MAP_COMPRESSED) {
		entry_packed(q, entry, &m->host, &m->packed_len);
		m->len = q->cluster_size - q_in_cluster(q, off);
		m->copied = false;
	} else if (m->type == MAP_NORMAL || m->type == MAP_ZERO_ALLOC) {
		m->host = (entry & L2E_OFFSET) + q_in_cluster(q, off);
	}
	return 0;
}

int qcow2_map(struct qcow2 *q, uint64_t off, uint64_t len, struct mapping *m)
{
	uint64_t table_end = (q_l1_index(q, off) + 1) << (q->cluster_bits + q->l2_bits);
	struct table *t;
	int ret = l2_get(q, q_l1_index(q, off), &t);

	if (ret)
		return ret;
	len = MIN(len, table_end - off);
	if (!t) {
		*m = (struct mapping){ .type = MAP_UNALLOCATED, .len = len };
		return 0;
	}
	ret = map_one(q, off, t, m);
	if (ret)
		return ret;
	while (m->len < len && m->type != MAP_COMPRESSED) {
		struct mapping more;

		ret = map_one(q, off + m->len, t, &more);
		if (ret)
			/* what came before is good; the next request meets the bad one */
			break;
		if (more.type != m->type || more.copied != m->copied ||
		    ((m->type == MAP_NORMAL || m->type == MAP_ZERO_ALLOC) &&
		     more.host != m->host + m->len))
			break;
		m->len += more.len;
	}
	m->len = MIN(m->len, len);
	return 0;
}

int entry_free(struct qcow2 *q, uint64_t entry)
{
	uint64_t host, len;

	if (entry & L2E_COMPRESSED) {
		entry_packed(q, entry, &host, &len);
		return free_later(q, &q->frees, ALIGN_DOWN(host, q->cluster_size),
				  q_clusters(q, q_in_cluster(q, host) + len));
	}
	if (!(entry & L2E_OFFSET) || q->n->data_file)
		return 0;
	return free_later(q, &q->frees, entry & L2E_OFFSET, 1);
}
