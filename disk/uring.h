/* SPDX-License-Identifier: GPL-2.0-or-later */
/* uring.h: reads and writes of plain extents handed to the kernel without a worker. */
#ifndef DISK_URING_H
#define DISK_URING_H

#include "disk/blk.h"

struct uring;

/* NULL where the kernel refuses io_uring. */
struct uring *uring_new(void);
/* A descriptor that is readable while a completion waits; nobody has to read it. */
int uring_fd(const struct uring *u);
bool uring_ready(const struct uring *u);
void uring_free(struct uring *u);
/* Puts r's transfer in the ring; false when it is full. The loop's thread. */
bool uring_add(struct uring *u, struct blk_req *r, int fd, uint64_t fd_off);
/* Hands what was added to the kernel; it never waits. */
void uring_submit(struct uring *u);
/* Calls fn for each completed request, with its result. Any thread. */
void uring_reap(struct uring *u, void (*fn)(struct blk_req *r, int result));

#endif
