/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2_check_l2.c: what a check finds in L2 tables. Nothing that holds data is given up: only what
 * cannot be read any more, and places that never held any.
 */
#include <errno.h>
#include <stdlib.h>

#include "disk/qcow2/qcow2.h"
#include "disk/qcow2/qcow2_check.h"

/* An entry of the file gets other words. */
static void entry_mend(struct check *k, uint64_t at, uint64_t entry, uint64_t bitmap)
{
	uint8_t b[16];

	st_be64(b, entry);
	st_be64(b + 8, bitmap);
	if (node_pwrite(k->q->n->file, b, k->q->entry_size, at))
		k->c->check_errors++;
	else
		k->c->corruptions_fixed++;
}

/*
 * Extended L2: words that no program writes. Mended so that data stays: a subcluster that is data
 * and zeros at once is data; one that is data without a cluster is nothing.
 */
static void subclusters_check(struct check *k, uint64_t at, uint64_t *entry, uint64_t *bitmap)
{
	uint64_t alloc = *bitmap & SC_ALL_ALLOC, good_entry = *entry & ~L2E_ZERO, good = *bitmap;

	if (!(*entry & L2E_OFFSET) && !(k->q->h.incompatible & QCOW2_INCOMPAT_DATA_FILE))
		good &= ~alloc;
	else
		good &= ~(alloc << 32);
	if (good == *bitmap && good_entry == *entry)
		return;
	node_check_say(k->c,
		       k->fix & CHECK_FIX_ERRORS
			       ? "Repairing offset=%llx: Allocated cluster with corrupted "
				 "subcluster allocation bitmap (bitmap=0x%llx)"
			       : "ERROR offset=%llx: Allocated cluster with corrupted subcluster "
				 "allocation bitmap (bitmap=0x%llx)",
		       (unsigned long long)(*entry & L2E_OFFSET), (unsigned long long)*bitmap);
	k->c->corruptions++;
	if (!(k->fix & CHECK_FIX_ERRORS))
		return;
	entry_mend(k, at, good_entry, good);
	*entry = good_entry;
	*bitmap = good;
}

/* An entry of the table that is not compressed; at: where it lies in the file. */
static void entry_check(struct check *k, uint64_t at, uint64_t entry, uint64_t bitmap,
			uint32_t times, bool active)
{
	struct qcow2 *q = k->q;
	uint64_t off = entry & L2E_OFFSET;
	bool data, mend;

	if (q_ext_l2(q))
		subclusters_check(k, at, &entry, &bitmap);
	if (!off)
		return;
	if (active) {
		k->c->allocated_clusters++;
		if (k->next_offset && off != k->next_offset)
			k->c->fragmented_clusters++;
		k->next_offset = off + q->cluster_size;
	}
	if (q->n->data_file || (q->h.incompatible & QCOW2_INCOMPAT_DATA_FILE))
		return;
	if (!q_in_cluster(q, off) && off >> q->cluster_bits < k->file_clusters) {
		qcow2_check_refer_times(k, off, q->cluster_size, times);
		return;
	}
	/*
	 * Its place is wrong. What has no data gives its place up, what lies outside the file has
	 * nothing left. Data in a wrong place stay for those who can tell the right one.
	 */
	data = q_ext_l2(q) ? bitmap & SC_ALL_ALLOC : !(entry & L2E_ZERO) || q->h.version < 3;
	mend = (k->fix & CHECK_FIX_ERRORS) && !(data && q_in_cluster(q, off));
	node_check_say(k->c,
		       mend ? "Repairing offset=%llx: %s cluster is %s; L2 entry corrupted.%s"
			    : "ERROR offset=%llx: %s cluster is %s; L2 entry corrupted.%s",
		       (unsigned long long)off, data ? "Data" : "Preallocated",
		       q_in_cluster(q, off) ? "not properly aligned" : "outside the file",
		       mend && data ? " It reads as zeros from now on." : "");
	k->uncounted |= !mend;
	k->c->corruptions++;
	if (mend && q_ext_l2(q))
		entry_mend(k, at, 0, (bitmap & SC_ALL_ZERO) | (bitmap & SC_ALL_ALLOC) << 32);
	else if (mend)
		entry_mend(k, at, q->h.version >= 3 ? L2E_ZERO : 0, 0);
}

void qcow2_check_l2(struct check *k, uint64_t host, uint32_t times, bool active, uint8_t *buf)
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
		node_check_say(k->c, "ERROR: I/O error in check_refcounts_l2: %s", strerror(-ret));
		k->c->check_errors++;
		k->uncounted = true;
		return;
	}
	for (uint64_t i = 0; i < q->cluster_size / q->entry_size; i++) {
		uint64_t entry = ld_be64(buf + i * q->entry_size), packed, len;
		uint64_t bitmap = q_ext_l2(q) ? ld_be64(buf + i * 16 + 8) : 0;

		if (!entry && !bitmap)
			continue;
		if (entry & L2E_COMPRESSED) {
			entry_packed(q, entry, &packed, &len);
			if (entry & L2E_COPIED) {
				node_check_say(k->c,
				       "ERROR: coffset=0x%llx: copied flag must never be set for "
				       "compressed clusters",
				       (unsigned long long)packed);
				k->c->corruptions++;
			}
			if (q->n->data_file) {
				node_check_say(k->c,
				       "ERROR compressed cluster %llu with data file, entry=0x%llx",
				       (unsigned long long)i, (unsigned long long)entry);
				k->c->corruptions++;
				continue;
			}
			qcow2_check_refer_times(k, packed & ~511ull,
						ALIGN_UP(len + (packed & 511), 512ull), times);
			if (active) {
				k->c->allocated_clusters++;
				k->c->compressed_clusters++;
				/* Packed clusters count as fragmented, as in QEMU. */
				k->c->fragmented_clusters++;
			}
			continue;
		}
		entry_check(k, host + i * q->entry_size, entry, bitmap, times, active);
	}
}
