/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fds.c: see fds.h. */
#include <sys/resource.h>

#include "vmm/base/fds.h"
#include "vmm/base/limits.h"

int fds_for_guest(unsigned wanted)
{
	struct rlimit rl, more;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
		return FDS_KEPT;
	more.rlim_cur = more.rlim_max = MAX(rl.rlim_max, (rlim_t)wanted);
	rl.rlim_cur = rl.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &more) == 0)
		rl = more;
	else
		setrlimit(RLIMIT_NOFILE, &rl);
	return MIN(rl.rlim_cur, (rlim_t)INT32_MAX) - MIN((rlim_t)FDS_KEPT, rl.rlim_cur / 2);
}
