/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * filter.h: the node that stands before a disk's root while a job runs. It sees every change the guest makes:
 *   FILTER_BEFORE  a chunk that is still to be copied is copied before the guest changes it (backup)
 *   FILTER_AFTER   what the guest changed is to be copied again (mirror, commit)
 *   FILTER_BESIDE  the guest's changes and the job's keep out of each other's chunks (stream)
 */
#ifndef DISK_FILTER_H
#define DISK_FILTER_H

#include "disk/node.h"

enum filter_mode { FILTER_BEFORE, FILTER_AFTER, FILTER_BESIDE };
enum { FILTER_CHUNK = 64 << 10 };
struct filter;

/* Takes over the reference on child. copy is called with a chunk held, for FILTER_BEFORE. */
struct node *filter_new(struct node *child, enum filter_mode mode, int (*copy)(void *ctx, uint64_t off, uint64_t len), void *ctx,
			struct filter **f);
/* All chunks are to be copied / whether this one is, and no longer. */
void filter_mark(struct filter *f, uint64_t off, uint64_t len);
bool filter_take(struct filter *f, uint64_t off);
/* The next chunk from off on that is to be copied; UINT64_MAX: none. */
uint64_t filter_next(struct filter *f, uint64_t off);
/* Copies the chunk at off if that is still to be done; nobody else is in it meanwhile. */
int filter_copy(struct filter *f, uint64_t off);
/* Alone in the chunk: runs fn. */
int filter_alone(struct filter *f, uint64_t off, int (*fn)(void *ctx, uint64_t off, uint64_t len), void *ctx);
/* The first error of a copy on the guest's behalf. */
int filter_error(struct filter *f);

#endif
