/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image.c: the kernel proper out of a bzImage (Documentation/arch/x86/boot.rst: payload_offset,
 * payload_length), unpacked once and kept in the user's cache. Started by its PVH entry it does not
 * unpack itself at every boot; and its symbols can be read.
 */
#include <dirent.h>
#include <elf.h>
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

#define KEPT 6
#define PVH_NOTE 18			/* XEN_ELFNOTE_PHYS32_ENTRY */

extern char **environ;

char *cache_folder(void)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	char *base = cache && *cache == '/' ? xstrdup(cache)
		     : home && *home == '/' ? xasprintf("%s/.cache", home)
					    : NULL,
	     *dir;
	struct stat st;

	if (!base)
		return NULL;
	mkdir(base, 0700);
	dir = xasprintf("%s/minivmm", base);
	free(base);
	/* What lies there is started as a kernel: nobody else may have put it there. */
	if ((mkdir(dir, 0700) < 0 && errno != EEXIST) || stat(dir, &st) < 0 ||
	    !S_ISDIR(st.st_mode) || st.st_uid != geteuid() || st.st_mode & (S_IWGRP | S_IWOTH)) {
		free(dir);
		return NULL;
	}
	return dir;
}

static const char *packer(const uint8_t *p)
{
	static const struct { const char *magic; unsigned len; const char *tool;
	} kinds[] = {
		{ "\xfd"
		  "7zXZ",
		  5, "xz" },
		{ "\x1f\x8b", 2, "gzip" },
		{ "\x28\xb5\x2f\xfd", 4, "zstd" },
		{ "BZh", 3, "bzip2" },
		{ "\x02\x21\x4c\x18", 4, "lz4" },
		{ "\x89LZO", 4, "lzop" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (!memcmp(p, kinds[i].magic, kinds[i].len))
			return kinds[i].tool;
	return NULL;
}

/* Runs `tool -dc` from one descriptor into another. */
static int unpack(const char *tool, int from, int to)
{
	char *argv[] = { (char *)tool, "-dc", NULL };
	posix_spawn_file_actions_t fa;
	int ret, status = 0;
	pid_t pid;

	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, from, 0);
	posix_spawn_file_actions_adddup2(&fa, to, 1);
	posix_spawn_file_actions_addopen(&fa, 2, "/dev/null", O_WRONLY, 0);
	ret = posix_spawnp(&pid, tool, &fa, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	while (!ret && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return ret ? -ret : status ? -EIO : 0;
}

/* Is there an entry for machines like ours? */
static bool has_pvh(const uint8_t *p, size_t size)
{
	const Elf64_Ehdr *e = (const void *)p;

	if (size < sizeof(*e) || memcmp(e->e_ident, ELFMAG, SELFMAG) ||
	    e->e_ident[EI_CLASS] != ELFCLASS64)
		return false;
	for (unsigned i = 0; i < e->e_phnum; i++) {
		uint64_t at = e->e_phoff + i * sizeof(Elf64_Phdr);
		Elf64_Phdr ph;

		if (!range_ok(at, sizeof(ph), size))
			return false;
		memcpy(&ph, p + at, sizeof(ph));
		if (ph.p_type != PT_NOTE || !range_ok(ph.p_offset, ph.p_filesz, size))
			continue;
		for (at = 0; range_ok(at, 16, ph.p_filesz);) {
			const uint8_t *note = p + ph.p_offset + at;

			if (ld_le32(note) == 4 && ld_le32(note + 8) == PVH_NOTE &&
			    !memcmp(note + 12, "Xen", 4))
				return true;
			at += 12 + ALIGN_UP((uint64_t)ld_le32(note), 4) +
			      ALIGN_UP((uint64_t)ld_le32(note + 4), 4);
		}
	}
	return false;
}

bool image_has_pvh(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool yes = false;
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0) {
		uint8_t *p = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);

		if (p != MAP_FAILED) {
			yes = has_pvh(p, st.st_size);
			munmap(p, st.st_size);
		}
	}
	if (fd >= 0)
		close(fd);
	return yes;
}

/* The oldest unpacked kernels go: they come back when they are asked for. */
static void prune(const char *dir)
{
	for (;;) {
		DIR *d = opendir(dir);
		char *oldest = NULL;
		struct dirent *e;
		struct stat st;
		unsigned n = 0;
		time_t when = 0;

		while (d && (e = readdir(d))) {
			if (strncmp(e->d_name, "vmlinux-", 8) ||
			    fstatat(dirfd(d), e->d_name, &st, 0) < 0)
				continue;
			n++;
			if (!oldest || st.st_atime < when) {
				free(oldest);
				oldest = xstrdup(e->d_name);
				when = st.st_atime;
			}
		}
		if (d && n > KEPT)
			unlinkat(dirfd(d), oldest, 0);
		if (d)
			closedir(d);
		free(oldest);
		if (n <= KEPT + 1)
			return;
	}
}

/* The packed kernel inside a bzImage, in memory; -errno. */
static int payload(int fd, const struct stat *st, const char **tool)
{
	uint8_t head[0x260], magic[8];
	uint64_t at, len;
	uint8_t *data;
	int mem, ret;

	if (pread_full(fd, head, sizeof(head), 0) < 0 || ld_le32(head + 0x202) != 0x53726448 ||
	    ld_le16(head + 0x206) < 0x208)
		return -ENOEXEC;
	at = ((head[0x1f1] ? head[0x1f1] : 4) + 1) * 512ull + ld_le32(head + 0x248);
	len = ld_le32(head + 0x24c);
	if (len < 16 || !range_ok(at, len, st->st_size) ||
	    pread_full(fd, magic, sizeof(magic), at) < 0)
		return -ENOEXEC;
	*tool = packer(magic);
	if (!*tool)
		return -ENOEXEC;
	len -= 4;				/* behind it stands its unpacked size */
	mem = memfd_create("minivmm-ci kernel", MFD_CLOEXEC);
	data = mmap(NULL, st->st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	ret = mem < 0 || data == MAP_FAILED ? -errno : write_full(mem, data + at, len);
	if (data != MAP_FAILED)
		munmap(data, st->st_size);
	if (ret < 0 && mem >= 0)
		close(mem);
	if (ret < 0)
		return ret;
	lseek(mem, 0, SEEK_SET);
	return mem;
}

static int unpack_to(int fd, const struct stat *st, const char *dir, const char *path)
{
	char *tmp = xasprintf("%s/.unpack-XXXXXX", dir);
	const char *tool;
	int from, to, ret;

	from = payload(fd, st, &tool);
	ret = from;
	if (from >= 0) {
		to = mkostemp(tmp, O_CLOEXEC);
		ret = to < 0 ? -errno : unpack(tool, from, to);
		if (to >= 0)
			close(to);
		if (ret == 0 && rename(tmp, path) < 0)
			ret = -errno;
		if (ret < 0 && to >= 0)
			unlink(tmp);
		close(from);
	}
	free(tmp);
	return ret;
}

char *image_unpacked(const char *bzimage, const char *version)
{
	int fd = open(bzimage, O_RDONLY | O_CLOEXEC);
	char *dir = cache_folder(), *path = NULL;
	struct stat st;

	if (fd >= 0 && dir && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
		path = xasprintf("%s/vmlinux-%s-%llx-%llx", dir, version ? version : "unknown",
				 (unsigned long long)st.st_size,
				 (unsigned long long)st.st_mtim.tv_sec);
		if (access(path, R_OK) == 0) {
			utimensat(AT_FDCWD, path,
				  (struct timespec[]){ { .tv_nsec = UTIME_NOW },
						       { .tv_nsec = UTIME_OMIT } },
				  0);
		} else if (unpack_to(fd, &st, dir, path) < 0) {
			free(path);
			path = NULL;
		} else {
			prune(dir);
		}
	}
	if (fd >= 0)
		close(fd);
	free(dir);
	return path;
}
