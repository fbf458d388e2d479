/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * filter.h: the node that stands before a disk's root while a job runs. It sees every change the
 * guest makes:
 *   FILTER_BEFORE  a chunk that is still to be copied is copied before the guest changes it
 *                  (backup)
 *   FILTER_AFTER   what the guest changed is to be copied again (mirror, commit)
 *   FILTER_BESIDE  the guest's changes and the job's keep out of each other's chunks (stream)
 */
#ifndef DISK_FILTER_H
#define DISK_FILTER_H

#include "disk/node.h"

enum filter_mode { FILTER_BEFORE, FILTER_AFTER, FILTER_BESIDE };
enum { FILTER_CHUNK = 64 << 10 };
struct filter;

typedef int filter_fn(void *ctx, uint64_t off, uint64_t len);
/*
 * Takes over the reference on child. save is called for FILTER_BEFORE, with the chunk held, on the
 * thread of a guest's request that is about to change it: the faster it is back, the better.
 */
struct node *filter_new(struct node *child, enum filter_mode mode, filter_fn *save, void *ctx,
			struct filter **f);
/* All chunks are to be copied / whether this one is, and no longer. */
void filter_mark(struct filter *f, uint64_t off, uint64_t len);
bool filter_take(struct filter *f, uint64_t off);
/* The next chunk from off on that is to be copied; UINT64_MAX: none. */
uint64_t filter_next(struct filter *f, uint64_t off);
/* fn copies the chunk at off if that is still to be done; nobody else is in it meanwhile. */
int filter_copy(struct filter *f, uint64_t off, filter_fn *fn, void *ctx);
/* Alone in the chunk: runs fn. */
int filter_alone(struct filter *f, uint64_t off, filter_fn *fn, void *ctx);
/* The first error of save. */
int filter_error(struct filter *f);

#endif
