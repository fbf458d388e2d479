/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2_snapshot.c: internal snapshots and the VM state beside the disk (spec: "Snapshots").
 * Drained.
 *
 * A snapshot is a copy of the L1 table; every cluster reachable from it counts one more. Counts and
 * COPIED flags change in many places, so the image is marked dirty meanwhile (version 3): after a
 * crash opening it counts anew. The switch itself, the header's number and place of snapshots or
 * L1, is one sector. When a step fails, memory is dropped and the counts are made anew at once.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "disk/qcow2/qcow2.h"
#include "disk/qcow2/qcow2_bitmap.h"
#include "disk/qcow2/qcow2_check.h"
#include "vmm/base/log.h"

static int find(const struct qcow2 *q, const char *id_or_name)
{
	for (uint32_t i = 0; i < q->h.nb_snapshots; i++)
		if (!strcmp(q->snapshots[i].name, id_or_name))
			return i;
	for (uint32_t i = 0; i < q->h.nb_snapshots; i++)
		if (!strcmp(q->snapshots[i].id, id_or_name))
			return i;
	return -1;
}

/* --- counting what an L1 table reaches --- */

static int entry_count(struct qcow2 *q, uint64_t entry, int delta)
{
	uint64_t host, len;

	if (entry & L2E_COMPRESSED) {
		entry_packed(q, entry, &host, &len);
		return refcount_add(q, host >> q->cluster_bits,
				    q_clusters(q, q_in_cluster(q, host) + len), delta);
	}
	if (!(entry & L2E_OFFSET) || q->n->data_file)
		return 0;
	if (q_in_cluster(q, entry & L2E_OFFSET))
		return qcow2_corrupt(q, "unaligned cluster %#llx", (unsigned long long)entry);
	return refcount_add(q, (entry & L2E_OFFSET) >> q->cluster_bits, 1, delta);
}

/*
 * Adds delta to all that l1 reaches. Tables not in the active disk are read from the file; all is
 * flushed before.
 */
static int tree_count(struct qcow2 *q, const uint64_t *l1, uint64_t size, int delta)
{
	uint8_t *buf = malloc(q->cluster_size);
	int ret = buf ? 0 : -ENOMEM;

	for (uint64_t i = 0; i < size && !ret; i++) {
		uint64_t l2 = l1[i] & L1E_OFFSET;

		if (!l2)
			continue;
		if (!host_ok(q, l2, q->cluster_size)) {
			ret = qcow2_corrupt(q, "L1 entry %#llx", (unsigned long long)l1[i]);
			break;
		}
		ret = node_pread(q->n->file, buf, q->cluster_size, l2);
		pthread_mutex_lock(&q->lock);
		for (uint64_t e = 0; e < q->cluster_size / q->entry_size && !ret; e++)
			ret = entry_count(q, ld_be64(buf + e * q->entry_size), delta);
		if (!ret)
			ret = refcount_add(q, l2 >> q->cluster_bits, 1, delta);
		pthread_mutex_unlock(&q->lock);
		if (!ret && q->need_flush)
			ret = qcow2_flush(q->n);
	}
	free(buf);
	return ret;
}

/* COPIED flags of the active tables follow the counts: set exactly where the count is one. */
static int copied_update(struct qcow2 *q)
{
	int ret = 0;

	for (uint64_t i = 0; i < q->l1_size && !ret; i++) {
		uint64_t v, entry, bitmap;
		struct table *t;

		pthread_mutex_lock(&q->lock);
		ret = l2_get(q, i, &t);
		if (!ret && t) {
			ret = refcount_get(q, t->host >> q->cluster_bits, &v);
			if (!ret && (v == 1) != !!(q->l1[i] & L2E_COPIED))
				l1_set(q, i, t->host | (v == 1 ? L2E_COPIED : 0));
			for (uint64_t e = 0; e < 1ull << q->l2_bits && !ret && !q->n->data_file;
			     e++) {
				entry_load(q, t, e, &entry, &bitmap);
				if ((entry & L2E_COMPRESSED) || !(entry & L2E_OFFSET))
					continue;
				ret = refcount_get(q, (entry & L2E_OFFSET) >> q->cluster_bits, &v);
				if (!ret && (v == 1) != !!(entry & L2E_COPIED))
					entry_store(q, t, e,
						    v == 1 ? entry | L2E_COPIED
							   : entry & ~L2E_COPIED,
						    bitmap);
			}
		}
		pthread_mutex_unlock(&q->lock);
		if (!ret && q->need_flush)
			ret = qcow2_flush(q->n);
	}
	return ret;
}

static int l1_load(struct qcow2 *q, const struct qcow2_snapshot *s, uint64_t entries,
		   uint64_t **out)
{
	uint64_t *l1 = calloc(MAX(entries, (uint64_t)s->l1_size) + 1, 8);
	int ret = l1 ? node_pread(q->n->file, l1, (uint64_t)s->l1_size * 8, s->l1_offset) : -ENOMEM;

	if (ret) {
		free(l1);
		return ret;
	}
	for (uint32_t i = 0; i < s->l1_size; i++)
		l1[i] = be64toh(l1[i]);
	*out = l1;
	return 0;
}

static int l1_write(struct qcow2 *q, const uint64_t *l1, uint64_t entries, uint64_t *host)
{
	uint64_t bytes = entries * 8;
	uint8_t *raw;
	int ret;

	*host = 0;
	if (!entries)
		return 0;
	raw = calloc(1, ALIGN_UP(bytes, q->cluster_size));
	if (!raw)
		return -ENOMEM;
	pthread_mutex_lock(&q->lock);
	ret = clusters_alloc_all(q, q_clusters(q, bytes), host);
	pthread_mutex_unlock(&q->lock);
	for (uint64_t i = 0; i < entries; i++)
		st_be64(raw + i * 8, l1[i] & ~L2E_COPIED);
	if (!ret)
		ret = node_pwrite(q->n->file, raw, ALIGN_UP(bytes, q->cluster_size), *host);
	free(raw);
	return ret;
}

static int begin(struct qcow2 *q, const char *what, struct err *err)
{
	int ret;

	if (!(q->n->flags & BLK_RDWR) || q->n->inactive)
		return err_set(err, EPERM, "'%s' is open read-only: cannot %s a snapshot",
			       q->n->filename, what);
	if (q->h.incompatible & QCOW2_INCOMPAT_DATA_FILE)
		return err_set(
			err, ENOTSUP,
			"'%s': an image with a data file of its own has no internal snapshots",
			q->n->filename);
	ret = qcow2_bitmaps_store(q, err);
	if (!ret)
		ret = qcow2_flush_locked_out(q);
	if (!ret)
		ret = qcow2_set_incompatible(q, QCOW2_INCOMPAT_DIRTY, 0);
	return ret ? err_set(err, -ret, "'%s': cannot %s a snapshot: %s", q->n->filename, what,
			     strerror(-ret))
		   : 0;
}

static int end(struct qcow2 *q, int ret, const char *what, struct err *err)
{
	if (!ret)
		ret = qcow2_flush_locked_out(q);
	if (!ret)
		return qcow2_set_incompatible(q, 0, QCOW2_INCOMPAT_DIRTY);
	err_set(err, -ret, "'%s': cannot %s the snapshot: %s", q->n->filename, what,
		ret == -EINVAL ? "the reference counts of this image are too narrow"
			       : strerror(-ret));
	/* Whatever is half done: back to what the file's header says, with counts to match. */
	{
		struct node_check c = { 0 };

		pthread_mutex_lock(&q->lock);
		free(q->frees.v);
		q->frees = (struct free_list){ 0 };
		for (struct table *t = q->l2s.head; t; t = t->next)
			t->is_dirty = t->fresh = false;
		for (struct table *t = q->rbs.head; t; t = t->next)
			t->is_dirty = t->fresh = false;
		q->l1_is_dirty = q->reft_is_dirty = false;
		pthread_mutex_unlock(&q->lock);
		if (qcow2_reload(q, NULL) ||
		    qcow2_check(q->n, &c, CHECK_FIX_LEAKS | CHECK_FIX_ERRORS)) {
			q->corrupt = true;
			log_error("'%s': cannot go back to where it was; check it with minivmm-img "
				  "check -r all",
				  q->n->filename);
		}
	}
	return ret;
}

static int refuse_broken(struct node *n, const struct qcow2_snapshot *s, struct err *err)
{
	return err_set(
		err, EINVAL,
		"'%s': snapshot '%s' is damaged: its L1 table cannot be where its entry says "
		"(check -r all removes it)",
		n->filename, s->name);
}

int qcow2_snapshot_create(struct node *n, const struct node_snapshot *s, struct err *err)
{
	struct qcow2 *q = n->priv;
	uint32_t count = q->h.nb_snapshots;
	struct qcow2_snapshot *old = q->snapshots, *list, *mine;
	unsigned long max = 0;
	int ret;

	for (uint32_t i = 0; i < count; i++)
		max = MAX(max, strtoul(old[i].id, NULL, 10));
	if (s->id[0] && find(q, s->id) >= 0)
		return err_set(err, EEXIST, "'%s' has a snapshot '%s' already", n->filename, s->id);
	ret = begin(q, "create", err);
	if (ret)
		return ret;
	list = xcalloc(count + 1, sizeof(*list));
	if (count)
		memcpy(list, old, count * sizeof(*list));
	mine = &list[count];
	*mine = (struct qcow2_snapshot){ .date_sec = s->date_sec,
					 .date_nsec = s->date_nsec,
					 .vm_clock_nsec = s->vm_clock_nsec,
					 .vm_state_size = s->vm_state_size,
					 .disk_size = n->size,
					 .icount = s->icount,
					 .l1_size = q->l1_size };
	mine->id = s->id[0] ? xstrdup(s->id) : xasprintf("%lu", max + 1);
	mine->name = xstrdup(s->name);
	ret = tree_count(q, q->l1, q->l1_size, 1);
	if (!ret)
		ret = copied_update(q);
	if (!ret)
		ret = l1_write(q, q->l1, q->l1_size, &mine->l1_offset);
	if (!ret)
		ret = qcow2_snapshots_write(q, list, count + 1);
	if (q->snapshots == list) {
		free(old);
	} else {
		free(mine->id);
		free(mine->name);
		free(list);
	}
	/* The state belongs to the snapshot now. */
	if (!ret && s->vm_state_size)
		ret = qcow2_forget(q, qcow2_vmstate_offset(q),
				   ALIGN_UP(s->vm_state_size, q->cluster_size));
	return end(q, ret, "create", err);
}

int qcow2_snapshot_delete(struct node *n, const char *id_or_name, struct err *err)
{
	struct qcow2 *q = n->priv;
	int i = find(q, id_or_name), ret;
	uint32_t count = q->h.nb_snapshots;
	struct qcow2_snapshot *old = q->snapshots, *list, gone;
	uint64_t *l1 = NULL;

	if (i < 0)
		return err_set(err, ENOENT, "Can't find the snapshot '%s' in '%s'", id_or_name,
			       n->filename);
	ret = begin(q, "delete", err);
	if (ret)
		return ret;
	gone = old[i];
	list = xcalloc(count, sizeof(*list));
	memcpy(list, old, i * sizeof(*list));
	memcpy(list + i, old + i + 1, (count - i - 1) * sizeof(*list));
	/* Of a damaged one the entry goes; what it reached is found by check -r leaks. */
	if (!gone.broken)
		ret = l1_load(q, &gone, 0, &l1);
	if (!ret)
		ret = qcow2_snapshots_write(q, list, count - 1);
	if (q->snapshots == list)
		free(old);
	else
		free(list);
	if (!ret && !gone.broken)
		ret = tree_count(q, l1, gone.l1_size, -1);
	if (!ret && gone.l1_size && !gone.broken) {
		pthread_mutex_lock(&q->lock);
		ret = refcount_add(q, gone.l1_offset >> q->cluster_bits,
				   q_clusters(q, (uint64_t)gone.l1_size * 8), -1);
		pthread_mutex_unlock(&q->lock);
	}
	if (!ret)
		ret = copied_update(q);
	if (q->snapshots == list) {
		free(gone.id);
		free(gone.name);
		free(gone.extra);
	}
	free(l1);
	return end(q, ret, "delete", err);
}

int qcow2_snapshot_goto(struct node *n, const char *id_or_name, struct err *err)
{
	struct qcow2 *q = n->priv;
	struct qcow2_header was = q->h;
	int i = find(q, id_or_name), ret;
	struct qcow2_snapshot *s;
	uint64_t *l1 = NULL, *old_l1, entries, host, need;

	if (i < 0)
		return err_set(err, ENOENT, "Can't find the snapshot '%s' in '%s'", id_or_name,
			       n->filename);
	s = &q->snapshots[i];
	if (s->broken)
		return refuse_broken(n, s, err);
	need = s->disk_size ? q_l1_index(q, s->disk_size - 1) + 1 : 0;
	if (need * 8 > QCOW2_MAX_L1_BYTES)
		return err_set(err, EINVAL, "'%s': snapshot '%s' has an impossible size",
			       n->filename, id_or_name);
	if (s->disk_size != n->size && q->bitmaps)
		return err_set(err, ENOTSUP,
			       "'%s': the snapshot has another size, and there are bitmaps; remove "
			       "them first",
			       n->filename);
	ret = begin(q, "apply", err);
	if (ret)
		return ret;
	entries = MAX(need, (uint64_t)s->l1_size);
	old_l1 = xcalloc(q->l1_size + 1, 8);
	memcpy(old_l1, q->l1, q->l1_size * 8);
	ret = l1_load(q, s, entries, &l1);
	if (!ret)
		ret = tree_count(q, l1, s->l1_size, 1);
	if (!ret)
		ret = l1_write(q, l1, entries, &host);
	if (!ret)
		ret = qcow2_flush(n);
	if (!ret) {
		q->h.l1_offset = host;
		q->h.l1_size = entries;
		q->h.size = s->disk_size;
		ret = qcow2_header_update(q);
		if (!ret)
			ret = node_flush(n->file);
		if (ret)
			q->h = was;
	}
	/* From here on the snapshot is the disk; what it was before is given up. */
	if (!ret)
		ret = qcow2_reload(q, err);
	if (!ret)
		ret = tree_count(q, old_l1, was.l1_size, -1);
	if (!ret && was.l1_size) {
		pthread_mutex_lock(&q->lock);
		ret = refcount_add(q, was.l1_offset >> q->cluster_bits,
				   q_clusters(q, (uint64_t)was.l1_size * 8), -1);
		pthread_mutex_unlock(&q->lock);
	}
	if (!ret)
		ret = copied_update(q);
	free(l1);
	free(old_l1);
	return end(q, ret, "apply", err);
}

int qcow2_snapshot_list(struct node *n, struct node_snapshot **list, int *count)
{
	struct qcow2 *q = n->priv;
	struct node_snapshot *v;

	if (q->h.nb_snapshots && !q->snapshots)
		/* given up to other programs: what the file holds now is not known */
		return -EBUSY;
	v = xcalloc(q->h.nb_snapshots + 1, sizeof(*v));
	for (uint32_t i = 0; i < q->h.nb_snapshots; i++) {
		struct qcow2_snapshot *s = &q->snapshots[i];

		snprintf(v[i].id, sizeof(v[i].id), "%s", s->id);
		snprintf(v[i].name, sizeof(v[i].name), "%s", s->name);
		v[i].vm_state_size = s->vm_state_size;
		v[i].date_sec = s->date_sec;
		v[i].date_nsec = s->date_nsec;
		v[i].vm_clock_nsec = s->vm_clock_nsec;
		v[i].icount = s->icount;
		v[i].disk_size = s->disk_size;
	}
	*list = v;
	*count = q->h.nb_snapshots;
	return 0;
}

int qcow2_snapshot_load_tmp(struct node *n, const char *id_or_name, struct err *err)
{
	struct qcow2 *q = n->priv;
	int i = find(q, id_or_name), ret;
	struct table **map;
	uint64_t *l1, entries;

	if (n->flags & BLK_RDWR)
		return err_set(err, EINVAL,
			       "'%s': a snapshot can be looked at in an image opened read-only",
			       n->filename);
	if (i < 0)
		return err_set(err, ENOENT, "Can't find the snapshot '%s' in '%s'", id_or_name,
			       n->filename);
	if (q->snapshots[i].broken)
		return refuse_broken(n, &q->snapshots[i], err);
	entries = MAX(q->snapshots[i].disk_size ? q_l1_index(q, q->snapshots[i].disk_size - 1) + 1
						: 0,
		      (uint64_t)q->snapshots[i].l1_size);
	if (entries * 8 > QCOW2_MAX_L1_BYTES)
		return err_set(err, EINVAL, "'%s': snapshot '%s' has an impossible size",
			       n->filename, id_or_name);
	map = calloc(entries + 1, sizeof(*map));
	ret = map ? l1_load(q, &q->snapshots[i], entries, &l1) : -ENOMEM;
	if (ret) {
		free(map);
		return err_set(err, -ret, "'%s': cannot read the snapshot's L1 table: %s",
			       n->filename, strerror(-ret));
	}
	tables_drop_all(q);
	qcow2_cbuf_drop(q);
	free(q->l1);
	free(q->map);
	q->l1 = l1;
	q->map = map;
	q->l1_size = entries;
	for (uint64_t e = 0; e < entries; e++)
		meta_add(q, l1[e] & L1E_OFFSET);
	n->size = q->snapshots[i].disk_size;
	return 0;
}

/* --- the VM's state: guest addresses behind the disk, from the next L1 entry on --- */

uint64_t qcow2_vmstate_offset(const struct qcow2 *q)
{
	uint64_t span = 1ull << (q->cluster_bits + q->l2_bits);

	return ALIGN_UP(q->h.size, span);
}

int qcow2_vmstate_read(struct node *n, void *buf, uint64_t len, uint64_t off)
{
	struct qcow2 *q = n->priv;
	uint64_t at = qcow2_vmstate_offset(q);
	struct iovec iov = { buf, len };

	return range_ok(off, len, INT64_MAX - at) ? qcow2_read(n, at + off, &iov, 1, len) : -EINVAL;
}

int qcow2_vmstate_write(struct node *n, const void *buf, uint64_t len, uint64_t off)
{
	struct qcow2 *q = n->priv;
	uint64_t at = qcow2_vmstate_offset(q);
	struct iovec iov = { (void *)buf, len };
	int ret;

	if (!range_ok(off, len, INT64_MAX - at) || !len)
		return len ? -EINVAL : 0;
	if (!(n->flags & BLK_RDWR) || n->inactive)
		return -EPERM;
	if (q_l1_index(q, at + off + len - 1) >= q->l1_size) {
		pthread_mutex_lock(&q->lock);
		ret = qcow2_l1_grow(q, q_l1_index(q, at + off + len - 1) + 1, NULL);
		pthread_mutex_unlock(&q->lock);
		if (ret)
			return ret;
	}
	return qcow2_write(n, at + off, &iov, 1, len, 0);
}
