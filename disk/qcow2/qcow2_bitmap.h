/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qcow2_bitmap.h: persistent dirty bitmaps (spec: "Bitmaps"). */
#ifndef DISK_QCOW2_QCOW2_BITMAP_H
#define DISK_QCOW2_QCOW2_BITMAP_H

#include "disk/qcow2/qcow2.h"

/*
 * Reads the directory. Bitmaps of an image that another program has written without keeping them
 * are not taken.
 */
int qcow2_bitmaps_load(struct qcow2 *q, struct err *err);
void qcow2_bitmaps_free(struct qcow2 *q);
/* Removes bitmaps whose directory is damaged. Opened for check alone. */
int qcow2_bitmaps_mend(struct qcow2 *q, struct node_check *c);
/* Writes what changed back and marks the bitmaps as not in use. Drained. */
int qcow2_bitmaps_store(struct qcow2 *q, struct err *err);
/* The disk gets another size; the bitmaps follow. */
int qcow2_bitmaps_resize_check(struct qcow2 *q, uint64_t size, struct err *err);
int qcow2_bitmaps_resize(struct qcow2 *q, uint64_t size, struct err *err);
int qcow2_bitmap(struct node *n, enum bitmap_op op, const char *name, uint32_t granularity,
		 struct node *src, const char *src_name, struct err *err);
int qcow2_bitmap_list(struct node *n, struct node_bitmap **list, int *count);

/*
 * The guest changes a range. The first call after opening marks the enabled bitmaps as in use,
 * durably: after a crash they are not trusted. Any worker thread.
 */
int qcow2_bitmaps_mark(struct qcow2 *q, uint64_t off, uint64_t len);
static inline bool qcow2_bitmaps_watch(const struct qcow2 *q) { return q->bitmaps_watch; }
static inline int qcow2_bitmaps_dirty(struct qcow2 *q, uint64_t off, uint64_t len)
{
	return q->bitmaps_watch ? qcow2_bitmaps_mark(q, off, len) : 0;
}

#endif
