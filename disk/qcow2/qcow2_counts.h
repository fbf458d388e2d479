/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2_counts.h: how often each cluster is referred to, as a check counts it. Takes about three
 * bytes for a cluster of a full file, and at most about a hundred for each lone reference.
 * Not for several threads.
 */
#ifndef DISK_QCOW2_QCOW2_COUNTS_H
#define DISK_QCOW2_QCOW2_COUNTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct count_leaf;
struct counts {
	struct count_leaf **chunks;
	size_t n;			/* leaves */
	uint32_t *slots;		/* open hash: number of a leaf + 1, 0 free */
	size_t size;
	struct count_leaf *last;	/* found last */
	uint32_t *sorted;		/* leaves by cluster, as of nsorted leaves */
	size_t nsorted;
};

/* Adds to a cluster's count, up to UINT32_MAX. 0 or -ENOMEM. */
int counts_add(struct counts *t, uint64_t cluster, uint32_t times);
/* Takes one off, if there is any. */
void counts_drop(struct counts *t, uint64_t cluster);
uint32_t counts_get(struct counts *t, uint64_t cluster);
/* The first cluster from this one on that has a count; *next UINT64_MAX: none. 0 or -ENOMEM. */
int counts_next(struct counts *t, uint64_t cluster, uint64_t *next);
void counts_free(struct counts *t);

/* L2 tables, each with how often it is referred to. */
struct l2_refs {
	struct l2_ref { uint64_t cluster; uint32_t times; } *v;
	size_t n, max;
};
int l2_refs_add(struct l2_refs *r, uint64_t cluster);
/* Sorts them, each once. Before l2_refs_find. */
void l2_refs_merge(struct l2_refs *r);
/* NULL: there is no reference to it. */
struct l2_ref *l2_refs_find(struct l2_refs *r, uint64_t cluster);

#endif
