/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qcow2_check.h: how the other parts of qcow2 report what they refer to. */
#ifndef DISK_QCOW2_QCOW2_CHECK_H
#define DISK_QCOW2_QCOW2_CHECK_H

#include "disk/qcow2/qcow2.h"

struct check;
/* One reference to each cluster of the range. */
void qcow2_check_refer(struct check *k, uint64_t off, uint64_t len);
void qcow2_check_error(struct check *k, const char *what);
/* Their answers: the snapshot table; the bitmap directory with all tables and data. */
void qcow2_snapshots_refer(struct qcow2 *q, struct check *k);
void qcow2_bitmaps_refer(struct qcow2 *q, struct check *k);

#endif
