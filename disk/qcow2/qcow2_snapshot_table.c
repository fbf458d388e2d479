/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2_snapshot_table.c: the table of internal snapshots in the file (spec: "Snapshots"): read,
 * written anew, repaired. An entry that is damaged costs that snapshot, not the image.
 */
#include <errno.h>
#include <stdlib.h>

#include "disk/qcow2/qcow2.h"
#include "disk/qcow2/qcow2_check.h"
#include "vmm/base/log.h"

enum { ENTRY_FIXED = 40, EXTRA_KNOWN = 24 };

static void snapshot_free(struct qcow2_snapshot *s)
{
	free(s->id);
	free(s->name);
	free(s->extra);
}

void qcow2_snapshots_free(struct qcow2 *q)
{
	for (uint32_t i = 0; q->snapshots && i < q->h.nb_snapshots; i++)
		snapshot_free(&q->snapshots[i]);
	free(q->snapshots);
	q->snapshots = NULL;
}

static char *take_string(const uint8_t *p, size_t len)
{
	char *s = xcalloc(1, len + 1);

	memcpy(s, p, len);
	return s;
}

/* One entry at *off of the file, which moves on. 0, or -errno with what is wrong with the table. */
static int entry_read(struct qcow2 *q, struct qcow2_snapshot *s, uint64_t *off, const char **why)
{
	uint8_t fixed[ENTRY_FIXED], *var;
	uint32_t id_len, name_len, extra;
	int ret = node_pread(q->n->file, fixed, sizeof(fixed), *off);

	*why = "cannot be read";
	if (ret)
		return ret;
	s->l1_offset = ld_be64(fixed);
	s->l1_size = ld_be32(fixed + 8);
	id_len = ld_be16(fixed + 12);
	name_len = ld_be16(fixed + 14);
	s->date_sec = ld_be32(fixed + 16);
	s->date_nsec = ld_be32(fixed + 20);
	s->vm_clock_nsec = ld_be64(fixed + 24);
	s->vm_state_size = ld_be32(fixed + 32);
	extra = ld_be32(fixed + 36);
	*why = "has too much extra data";
	if (extra > QCOW2_MAX_SNAPSHOT_EXTRA)
		return -EINVAL;
	*why = "makes the table too long";
	if (*off - q->h.snapshots_offset + ENTRY_FIXED + extra + id_len + name_len >
	    QCOW2_MAX_SNAPSHOT_BYTES)
		return -EFBIG;
	/* The rest of the image, and the other snapshots, do not need this one's table. */
	s->broken = (uint64_t)s->l1_size * 8 > QCOW2_MAX_L1_BYTES ||
		    (s->l1_size && !host_ok(q, s->l1_offset, (uint64_t)s->l1_size * 8));
	var = xcalloc(1, extra + id_len + name_len + 1);
	ret = node_pread(q->n->file, var, extra + id_len + name_len, *off + ENTRY_FIXED);
	*why = "cannot be read";
	if (ret) {
		free(var);
		return ret;
	}
	if (extra >= 8)
		s->vm_state_size = ld_be64(var);
	s->disk_size = extra >= 16 ? ld_be64(var + 8) : q->h.size;
	s->icount = extra >= 24 ? ld_be64(var + 16) : UINT64_MAX;
	if (extra > EXTRA_KNOWN) {
		s->extra_len = extra - EXTRA_KNOWN;
		s->extra = xcalloc(1, s->extra_len);
		memcpy(s->extra, var + EXTRA_KNOWN, s->extra_len);
	}
	s->id = take_string(var + extra, id_len);
	s->name = take_string(var + extra + id_len, name_len);
	free(var);
	*off = ALIGN_UP(*off + ENTRY_FIXED + extra + id_len + name_len, 8ull);
	return 0;
}

/*
 * From entry i on the table makes no sense. The disk does not need it: it can be read, and the
 * table repaired. Written to it is not, or the entries that are not understood would be lost on the
 * way.
 */
static int table_cut(struct qcow2 *q, uint32_t i, const char *why, struct err *err)
{
	uint32_t n = q->h.nb_snapshots;

	q->snapshots_lost = n - i;
	q->h.nb_snapshots = i;
	if ((q->n->flags & BLK_RDWR) && !q->no_repair)
		return err_set(err, EINVAL,
			       "its snapshot table is damaged: entry %u %s (it can be read and "
			       "converted; check -r all removes the snapshots from there on)",
			       i, why);
	log_warn("'%s': its snapshot table is damaged: entry %u %s; %u of %u snapshots are not "
		 "shown",
		 q->n->filename, i, why, n - i, n);
	return 0;
}

int qcow2_snapshots_load(struct qcow2 *q, struct err *err)
{
	uint64_t off = q->h.snapshots_offset;
	uint32_t n = q->h.nb_snapshots;

	q->snapshots_lost = 0;
	q->snapshots_len = 0;
	if (!n)
		return 0;
	if (n > QCOW2_MAX_SNAPSHOTS)
		return table_cut(q, 0, "is one of too many", err);
	if (q_in_cluster(q, off) || !range_ok(off, (uint64_t)n * ENTRY_FIXED, q->n->file->size))
		return table_cut(q, 0, "is not at a place where a table can be", err);
	q->snapshots = calloc(n, sizeof(*q->snapshots));
	if (!q->snapshots)
		return err_set(err, ENOMEM, "out of memory for %u snapshots", n);
	for (uint32_t i = 0; i < n; i++) {
		struct qcow2_snapshot *s = &q->snapshots[i];
		const char *why;

		if (entry_read(q, s, &off, &why))
			return table_cut(q, i, why, err);
		q->snapshots_len = off - q->h.snapshots_offset;
		if (s->broken)
			log_warn("'%s': snapshot '%s' is damaged: its L1 table cannot be where its "
				 "entry says",
				 q->n->filename, s->name);
	}
	return 0;
}

static size_t table_bytes(const struct qcow2_snapshot *s, uint32_t n)
{
	size_t len = 0;

	for (uint32_t i = 0; i < n; i++)
		len = ALIGN_UP(len + ENTRY_FIXED + EXTRA_KNOWN + s[i].extra_len + strlen(s[i].id) +
				       strlen(s[i].name),
			       8);
	return len;
}

void qcow2_snapshots_refer(struct qcow2 *q, struct check *k)
{
	for (uint32_t i = 0; i < q->h.nb_snapshots; i++) {
		if (!q->snapshots[i].broken)
			continue;
		node_check_say(k->c,
			       "ERROR snapshot %s (%s): L1 table offset or size invalid; snapshot "
			       "table entry corrupted",
			       q->snapshots[i].id, q->snapshots[i].name);
		k->c->corruptions++;
		k->uncounted = true;
	}
	if (q->snapshots_lost) {
		node_check_say(k->c, "ERROR snapshot table: %u entries are damaged",
			       q->snapshots_lost);
		k->c->corruptions++;
		k->uncounted = true;
	}
	qcow2_check_refer(k, q->h.snapshots_offset, q->snapshots_len);
}

/* The table's bytes, table_bytes() of them. */
static void table_encode(const struct qcow2_snapshot *list, uint32_t n, uint8_t *buf)
{
	size_t at = 0;

	for (uint32_t i = 0; i < n; i++) {
		const struct qcow2_snapshot *s = &list[i];
		uint8_t *p = buf + at;
		size_t id_len = strlen(s->id), name_len = strlen(s->name);

		st_be64(p, s->l1_offset);
		st_be32(p + 8, s->l1_size);
		st_be16(p + 12, id_len);
		st_be16(p + 14, name_len);
		st_be32(p + 16, s->date_sec);
		st_be32(p + 20, s->date_nsec);
		st_be64(p + 24, s->vm_clock_nsec);
		st_be32(p + 32, s->vm_state_size > UINT32_MAX ? 0 : s->vm_state_size);
		st_be32(p + 36, EXTRA_KNOWN + s->extra_len);
		st_be64(p + 40, s->vm_state_size);
		st_be64(p + 48, s->disk_size);
		st_be64(p + 56, s->icount);
		if (s->extra_len)
			memcpy(p + 64, s->extra, s->extra_len);
		p += ENTRY_FIXED + EXTRA_KNOWN + s->extra_len;
		memcpy(p, s->id, id_len);
		memcpy(p + id_len, s->name, name_len);
		at = ALIGN_UP(at + ENTRY_FIXED + EXTRA_KNOWN + s->extra_len + id_len + name_len, 8);
	}
}

bool qcow2_snapshots_damaged(const struct qcow2 *q)
{
	for (uint32_t i = 0; i < q->h.nb_snapshots; i++)
		if (q->snapshots[i].broken)
			return true;
	return q->snapshots_lost;
}

/*
 * The good entries alone, behind all that the file has: no count is believed yet, so nothing is
 * allocated. The check that follows counts the new place, and finds the old one leaked.
 */
int qcow2_snapshots_mend(struct qcow2 *q, struct node_check *c)
{
	uint32_t good = 0, gone = q->snapshots_lost;
	uint64_t host = ALIGN_UP(q->n->file->size, q->cluster_size), len;
	uint8_t *buf;
	int ret = 0;

	if (q->snapshots_lost)
		node_check_say(c, "Repairing snapshot table: %u damaged entries removed",
			       q->snapshots_lost);
	for (uint32_t i = 0; i < q->h.nb_snapshots; i++) {
		struct qcow2_snapshot *s = &q->snapshots[i];

		if (!s->broken) {
			q->snapshots[good++] = *s;
			continue;
		}
		node_check_say(c,
			       "Repairing snapshot %s (%s): L1 table offset or size invalid; "
			       "snapshot removed",
			       s->id, s->name);
		snapshot_free(s);
		gone++;
	}
	q->h.nb_snapshots = good;
	q->h.snapshots_offset = good ? host : 0;
	q->snapshots_len = len = table_bytes(q->snapshots, good);
	q->snapshots_lost = 0;
	buf = xcalloc(1, len + 8);
	table_encode(q->snapshots, good, buf);
	if (good)
		ret = node_pwrite(q->n->file, buf, len, host);
	free(buf);
	if (!ret)
		ret = node_flush(q->n->file);
	if (!ret)
		ret = qcow2_header_update(q);
	if (!ret)
		ret = node_flush(q->n->file);
	c->corruptions += gone;
	c->corruptions_fixed += ret ? 0 : gone;
	return ret;
}

int qcow2_snapshots_write(struct qcow2 *q, struct qcow2_snapshot *list, uint32_t n)
{
	uint64_t len = table_bytes(list, n), host = 0, old_len = q->snapshots_len,
		 old = q->h.snapshots_offset;
	struct qcow2_header was = q->h;
	uint8_t *buf = xcalloc(1, len + 8);
	int ret = 0;

	if (len > QCOW2_MAX_SNAPSHOT_BYTES || n > QCOW2_MAX_SNAPSHOTS)
		ret = -EFBIG;
	if (!ret)
		table_encode(list, n, buf);
	pthread_mutex_lock(&q->lock);
	if (!ret && len)
		ret = clusters_alloc_all(q, q_clusters(q, len), &host);
	pthread_mutex_unlock(&q->lock);
	if (!ret && len)
		ret = node_pwrite(q->n->file, buf, len, host);
	free(buf);
	if (!ret)
		ret = qcow2_flush(q->n);
	if (ret)
		return ret;
	q->h.nb_snapshots = n;
	q->h.snapshots_offset = host;
	ret = qcow2_header_update(q);
	if (!ret)
		ret = node_flush(q->n->file);
	if (ret) {
		q->h = was;
		return ret;
	}
	q->snapshots = list;
	q->snapshots_len = len;
	pthread_mutex_lock(&q->lock);
	if (old_len)
		ret = refcount_add(q, old >> q->cluster_bits, q_clusters(q, old_len), -1);
	pthread_mutex_unlock(&q->lock);
	return ret;
}
