/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rotate.h: an output file with an end (size=): when it is full it becomes PATH.1, in place of the
 * last one of that name, and PATH begins anew. So the guest's words take at most twice the size.
 */
#ifndef VMM_BASE_ROTATE_H
#define VMM_BASE_ROTATE_H

#include "vmm/base/host.h"

#define ROTATE_MIN (64 * KiB)		/* the smallest size= */

/* The text behind size=: bytes, or with K, M, G. 0 or -errno with the reason; what: for it. */
int rotate_parse(const char *what, const char *text, uint64_t *size, struct err *err);
/*
 * fd, open on path, is full: afterwards it is open on an empty file of that name. When renaming is
 * not possible the file is emptied where it is, for the disk must not fill; the reason is in err
 * then and the result -errno. May block as the file system does. Any thread; who writes to fd at
 * the same time writes into either file.
 */
int file_rotate(const struct host *h, const char *purpose, const char *path, int fd,
		struct err *err);

#endif
