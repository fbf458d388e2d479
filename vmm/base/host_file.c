/* SPDX-License-Identifier: GPL-2.0-or-later */
/* host_file.c: the files of the host, in this process. See host.h. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "vmm/base/host_impl.h"

#define LINKS_MAX 8

int host_open_again(const char *path, int flags, int mode)
{
	int fd;

	do
		fd = open(path, flags | O_CLOEXEC, mode);
	while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : fd;
}

char *host_folder_of(const char *path)
{
	char *copy = xstrdup(path), *dir = xstrdup(dirname(copy));

	free(copy);
	return dir;
}

/*
 * Where the link at path leads, or NULL with *ret set: 0 when the kernel has to follow it itself
 * (/proc/self/fd/1 names what no path names), -ELOOP when somebody else made it.
 */
static char *link_target(const char *path, int *ret)
{
	int fd = host_open_again(path, O_PATH | O_NOFOLLOW, 0);
	char target[4096], *dir, *whole;
	struct statfs fs;
	struct stat st;
	ssize_t n;

	*ret = fd;
	if (fd < 0)
		return NULL;
	*ret = fstat(fd, &st) || fstatfs(fd, &fs) ? -errno : 0;
	n = *ret ? -1 : readlinkat(fd, "", target, sizeof(target) - 1);
	if (!*ret && (n < 0 || (st.st_uid != geteuid() && st.st_uid)))
		*ret = -ELOOP;
	close(fd);
	if (*ret || fs.f_type == PROC_SUPER_MAGIC)
		return NULL;
	target[n] = 0;
	if (*target == '/')
		return xstrdup(target);
	dir = host_folder_of(path);
	whole = xasprintf("%s/%s", dir, target);
	free(dir);
	return whole;
}

/*
 * In a folder where everybody makes files, one that is there already and is somebody else's was
 * laid out for us.
 */
static bool is_bait(const char *path, int fd)
{
	char *dir = host_folder_of(path);
	struct stat folder, st;
	bool bait = fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISFIFO(st.st_mode)) &&
		    stat(dir, &folder) == 0 && folder.st_mode & S_ISVTX &&
		    folder.st_mode & (S_IWOTH | S_IWGRP) && st.st_uid != folder.st_uid &&
		    st.st_uid != geteuid();

	free(dir);
	return bait;
}

static bool locked_by_others(int fd)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

/* The file is there or was made; nothing in it has changed yet. */
static int output_check(const char *path, int fd, int flags, struct err *err)
{
	struct stat st;

	if (!(flags & O_EXCL) && is_bait(path, fd))
		return err_set(err, EACCES,
			       "'%s' is another user's file in a folder that everybody writes to: "
			       "take another name",
			       path);
	if (!(flags & O_TRUNC) || fstat(fd, &st) || !S_ISREG(st.st_mode) || !st.st_size)
		return 0;
	if (locked_by_others(fd))
		return err_set(
			err, EBUSY,
			"'%s' is in use (a disk of a running machine?) and is not overwritten",
			path);
	return ftruncate(fd, 0)
		       ? err_set(err, errno, "cannot empty '%s': %s", path, strerror(errno))
		       : 0;
}

static int open_output(const char *name, int flags, int mode, struct err *err)
{
	char *path = xstrdup(name);
	int fd, ret = 0;

	for (int links = 0;; links++) {
		char *next;

		fd = host_open_again(path, (flags & ~O_TRUNC) | O_NOFOLLOW, mode);
		if (fd != -ELOOP)
			break;
		next = links < LINKS_MAX ? link_target(path, &ret) : NULL;
		if (!next && !ret && links < LINKS_MAX)
			fd = host_open_again(path, flags & ~O_TRUNC, mode);
		if (!next)
			break;
		free(path);
		path = next;
	}
	if (fd == -ELOOP)
		ret = err_set(err, ELOOP,
			      "cannot open '%s' for writing: '%s' is a symbolic link that another "
			      "user made, or leads "
			      "to itself",
			      name, path);
	else if (fd < 0)
		ret = err_set(err, -fd, "cannot open '%s' for writing: %s", name, strerror(-fd));
	else if ((ret = output_check(path, fd, flags, err)) < 0)
		close(fd);
	free(path);
	return ret < 0 ? ret : fd;
}


static int make_temporary(const char *dir, struct err *err)
{
	char *path = xasprintf("%s/minivmm-XXXXXX", dir);
	int fd = host_open_again(dir, O_RDWR | O_TMPFILE, 0600);

	if (fd == -EOPNOTSUPP || fd == -EISDIR) {	/* not every file system has them */
		fd = mkostemp(path, O_CLOEXEC);
		fd = fd < 0 ? -errno : fd;
		if (fd >= 0)
			unlink(path);
	}
	free(path);
	return fd < 0 ? err_set(err, -fd, "cannot make a temporary file in '%s': %s", dir,
				strerror(-fd))
		      : fd;
}

int host_remove_exact(const char *path, int fd)
{
	struct stat is, ours;

	if (lstat(path, &is) || fstat(fd, &ours))
		return errno == ENOENT ? -ESTALE : -errno;
	if (is.st_dev != ours.st_dev || is.st_ino != ours.st_ino ||
	    !(S_ISREG(is.st_mode) || S_ISSOCK(is.st_mode)))
		return -ESTALE;		/* nor a device, whoever named it */
	return unlink(path) ? -errno : 0;
}

/* A file without a name gets one. */
static int name_file(int fd, const char *path)
{
	char self[32];

	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW) ? -errno : 0;
}

static int open_file(struct host_call *c, struct err *err)
{
	int fd;

	if (c->flags & O_CREAT)
		return open_output(c->name, c->flags, c->mode, err);
	if (c->mode == HOST_OPEN_DISK || c->origin == HOST_IMAGE)
		return host_open_image(c, err);
	fd = host_open_again(c->name, c->flags, c->mode);
	if (fd < 0)
		return err_set(err, -fd, "cannot open '%s'%s: %s", c->name,
			       (c->flags & O_ACCMODE) == O_RDONLY ? "" : " for writing",
			       strerror(-fd));
	return fd;
}

static int open_descriptor(const struct host_call *c, struct err *err)
{
	char self[32];
	int fd;

	snprintf(self, sizeof(self), "/proc/self/fd/%d", c->fd);
	fd = host_open_again(self, c->flags & ~(O_CREAT | O_EXCL), 0);
	return fd < 0 ? err_set(err, -fd, "cannot open descriptor %d anew: %s", c->fd,
				strerror(-fd))
		      : fd;
}

int host_file_call(struct host_call *c, struct err *err)
{
	switch (c->op) {
	case HOST_OPEN:
		return open_file(c, err);
	case HOST_REOPEN:
		return open_descriptor(c, err);
	case HOST_TEMPORARY:
		return make_temporary(c->name, err);
	case HOST_REMOVE:
		return host_remove_exact(c->name, c->fd);
	case HOST_STAT:
		return fstatat(AT_FDCWD, c->name, &c->st, c->flags) ? -errno : 0;
	case HOST_RENAME:
		return rename(c->name, c->other) ? -errno : 0;
	case HOST_LINK:
		return name_file(c->fd, c->name);
	default:
		return -ENOSYS;
	}
}
