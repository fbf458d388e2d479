/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fds.h: how many of the process's descriptors a guest may have a hand in. */
#ifndef VMM_BASE_FDS_H
#define VMM_BASE_FDS_H

/*
 * The limit of open files is raised as far as it may be, for a superuser to at least `wanted`.
 * Returns the number of the first descriptor that is not for a guest: the kernel hands out the
 * lowest that is free, so whoever leaves the last ones alone (limits.h, FDS_KEPT) leaves them to
 * the rest of the program. Any thread.
 */
int fds_for_guest(unsigned wanted);

#endif
