/* SPDX-License-Identifier: GPL-2.0-or-later */
/* rotate.c: an output file with an end. Any thread. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/base/rotate.h"

int rotate_parse(const char *what, const char *text, uint64_t *size, struct err *err)
{
	if (parse_size(text, 1, size) < 0 || *size < ROTATE_MIN || *size > INT64_MAX / 2)
		return err_set(err, EINVAL, "%s%s: a size from %lluK on expected, as 10M", what,
			       text, ROTATE_MIN / KiB);
	return 0;
}

static int rename_old(const struct host *h, const char *purpose, const char *path, int fd)
{
	char *old = xasprintf("%s.1", path);
	struct stat st, now;
	int ret = 0;

	/* Somebody else may have renamed it (log rotation from outside): then it is enough. */
	if (fstat(fd, &now) < 0)
		ret = -errno;
	else if (host_stat(h, path, &st) == 0 && st.st_dev == now.st_dev &&
		 st.st_ino == now.st_ino)
		ret = host_lstat(h, old, &st) == 0 && !S_ISREG(st.st_mode)
			      ? -EEXIST
			      : host_rename(h, purpose, path, old);
	free(old);
	return ret;
}

int file_rotate(const struct host *h, const char *purpose, const char *path, int fd,
		struct err *err)
{
	int ret = rename_old(h, purpose, path, fd), next = -1;

	if (ret < 0)
		err_set(err, -ret, "%s cannot become %s.1: %s", path, path, strerror(-ret));
	else
		next = ret = host_open(h, purpose, path, O_WRONLY | O_CREAT | O_APPEND, 0644, err);
	if (next >= 0) {
		dup3(next, fd, O_CLOEXEC);
		close(next);
		return 0;
	}
	if (ftruncate(fd, 0) < 0)
		return -errno;
	return ret;
}
