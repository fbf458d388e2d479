/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qcow2_check.h: how the other parts of qcow2 report what they refer to. */
#ifndef DISK_QCOW2_QCOW2_CHECK_H
#define DISK_QCOW2_QCOW2_CHECK_H

#include "disk/qcow2/qcow2.h"
#include "disk/qcow2/qcow2_counts.h"

struct check {
	struct qcow2 *q;
	struct node_check *c;
	unsigned fix;
	uint64_t file_clusters, last_used, next_offset;
	struct counts refs;		/* to any cluster */
	struct l2_refs tables;		/* to L2 tables, by active disk and snapshots */
	bool rebuild;			/* the refcount structures themselves are broken */
	/* something could not be followed: what looks leaked may be in use */
	bool uncounted;
	bool no_memory;
};
/* One reference to each cluster of the range. */
void qcow2_check_refer(struct check *k, uint64_t off, uint64_t len);
/* The same, `times` references to each. */
void qcow2_check_refer_times(struct check *k, uint64_t off, uint64_t len, uint32_t times);
void qcow2_check_error(struct check *k, const char *what);
/* The clusters of one L2 table, which is referred to `times`; buf: room for a cluster. */
void qcow2_check_l2(struct check *k, uint64_t host, uint32_t times, bool active, uint8_t *buf);
/* Their answers: the snapshot table; the bitmap directory with all tables and data. */
void qcow2_snapshots_refer(struct qcow2 *q, struct check *k);
void qcow2_bitmaps_refer(struct qcow2 *q, struct check *k);

#endif
