/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pool.h: threads on which requests run that may block. One pool for the program; it grows and
 * shrinks by itself.
 */
#ifndef DISK_POOL_H
#define DISK_POOL_H

#include "disk/blk.h"

/* Runs w->fn(w) on a worker, in no order. Any thread; never blocks. */
void pool_submit(struct pool_work *w);

#endif
