/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * initramfs.c: a cpio archive ("newc": Documentation/driver-api/early-userspace/buffer-format.rst
 * of Linux) in a memfd.
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/ci/ci.h"

extern char **environ;

struct cpio { uint8_t *data; size_t len, room; unsigned ino; };

static void put(struct cpio *c, const void *p, size_t len)
{
	if (c->len + len > c->room) {
		c->room = MAX(c->room * 2, c->len + len + 65536);
		c->data = xrealloc(c->data, c->room);
	}
	memcpy(c->data + c->len, p, len);
	c->len += len;
}

static void pad(struct cpio *c)
{
	while (c->len & 3)
		put(c, "", 1);
}

static void entry(struct cpio *c, const char *name, unsigned mode, const void *data, size_t len)
{
	char head[111];

	snprintf(head, sizeof(head), "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		 ++c->ino, mode, 0, 0, 1, 0, (unsigned)len, 0, 0, 0, 0, (unsigned)strlen(name) + 1,
		 0);
	put(c, head, 110);
	put(c, name, strlen(name) + 1);
	pad(c);
	put(c, data, len);
	pad(c);
}

struct cpio *cpio_new(void)
{
	return xcalloc(1, sizeof(struct cpio));
}

void cpio_dir(struct cpio *c, const char *name)
{
	entry(c, name, S_IFDIR | 0755, "", 0);
}

void cpio_file(struct cpio *c, const char *name, unsigned mode, const void *data, size_t len)
{
	entry(c, name, S_IFREG | mode, data, len);
}

/* The whole of a descriptor. */
static int slurp(int fd, uint8_t **data, size_t *len)
{
	size_t room = 0;

	*data = NULL;
	*len = 0;
	for (;;) {
		ssize_t n;

		if (*len + 65536 > room) {
			room = MAX(room * 2, (size_t)1 << 18);
			*data = xrealloc(*data, room);
		}
		n = read(fd, *data + *len, room - *len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		*len += n;
	}
}

/*
 * Compressed modules are unpacked by the tool of their kind: kernels differ in what they unpack
 * themselves.
 */
static const char *unpacker(const char *path)
{
	size_t n = strlen(path);

	if (n > 3 && !strcmp(path + n - 3, ".xz"))
		return "xz";
	if (n > 3 && !strcmp(path + n - 3, ".gz"))
		return "gzip";
	return n > 4 && !strcmp(path + n - 4, ".zst") ? "zstd" : NULL;
}

static int slurp_command(const char *tool, const char *path, uint8_t **data, size_t *len,
			 struct err *err)
{
	char *argv[] = { (char *)tool, "-dc", (char *)path, NULL };
	posix_spawn_file_actions_t fa;
	int fds[2], ret, status = 0;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_set(err, errno, "pipe: %s", strerror(errno));
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, fds[1], 1);
	ret = posix_spawnp(&pid, tool, &fa, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	close(fds[1]);
	if (ret) {
		close(fds[0]);
		return err_set(err, ret, "cannot run %s, which %s needs: %s", tool, path,
			       strerror(ret));
	}
	ret = slurp(fds[0], data, len);
	close(fds[0]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (ret == 0 && status)
		ret = err_set(err, EIO, "%s could not unpack %s", tool, path);
	return ret;
}

int cpio_add(struct cpio *c, const char *name, unsigned mode, const char *path, struct err *err)
{
	const char *tool = unpacker(path);
	uint8_t *data = NULL;
	size_t len = 0;
	int ret, fd;

	if (tool) {
		ret = slurp_command(tool, path, &data, &len, err);
	} else {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		ret = fd < 0 ? -errno : slurp(fd, &data, &len);
		if (fd >= 0)
			close(fd);
		if (ret < 0)
			err_set(err, -ret, "cannot read %s: %s", path, strerror(-ret));
	}
	if (ret == 0)
		entry(c, name, S_IFREG | mode, data, len);
	free(data);
	return ret;
}

int cpio_finish(struct cpio *c, struct err *err)
{
	int fd = memfd_create("minivmm-ci initramfs", 0), ret;

	entry(c, "TRAILER!!!", 0, "", 0);
	ret = fd < 0 ? -errno : write_full(fd, c->data, c->len);
	free(c->data);
	free(c);
	if (ret < 0) {
		if (fd >= 0)
			close(fd);
		return err_set(err, -ret, "memory for the initial RAM disk: %s", strerror(-ret));
	}
	return fd;
}
