/* SPDX-License-Identifier: GPL-2.0-or-later */
/* lock.h: keeps two programs from writing one image. See lock.c for the scheme. */
#ifndef DISK_LOCK_H
#define DISK_LOCK_H

#include "vmm/base/host.h"

enum lock_kind {
	FILE_UNLOCKED,		/* forget about it (info -U, inactive) */
	FILE_READS,		/* we read; nobody may write */
	FILE_WRITES,		/* we write; nobody else may write, or read what must not change */
};
/*
 * Changes what fd holds of filename from one kind to another. -EAGAIN with the holder's name when
 * another program is in the way; it holds `from` then, as before. wait: a holder that cannot be
 * seen is given two seconds to vanish.
 */
int lock_set(const struct host *host, int fd, const char *filename, enum lock_kind from,
	     enum lock_kind kind, bool wait, struct err *err);

#endif
