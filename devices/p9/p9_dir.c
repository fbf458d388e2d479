/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * p9_dir.c: folders (9P2000.L): listing, making, linking, renaming, removing. Each operation acts
 * on descriptors only; names are single ones in a folder's descriptor. A thread that may block.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "devices/p9/p9_impl.h"

/* --- listing --- */

struct dirent_raw { uint64_t ino; int64_t off; uint16_t len; uint8_t type; char name[]; };

/* One entry: false when it does not fit any more. */
static bool put_entry(struct p9 *s, struct p9_fid *f, const struct stat *dir, struct p9_msg *m,
		      const uint8_t *limit, const struct dirent_raw *e)
{
	size_t len = strlen(e->name);
	struct stat st = { .st_dev = dir->st_dev, .st_ino = e->ino };

	if (m->r + P9_QID + 8 + 1 + 2 + len > limit)
		return false;
	/*
	 * A mount point's entry has the number of what it covers. (A file that is one is hidden by
	 * its name.)
	 */
	if (e->type == DT_DIR || e->type == DT_UNKNOWN)
		if (fstatat(f->open, e->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			st = (struct stat){ .st_dev = dir->st_dev,
					    .st_ino = e->ino,
					    .st_mode = e->type << 12 };
	if (e->type != DT_UNKNOWN)
		st.st_mode = e->type << 12;
	if (p9_hidden(s, &st, dir, e->name) && !S_ISDIR(st.st_mode))
		return true;
	p9_put_qid(s, m, &st);
	p9_put64(m, e->off);
	p9_put8(m, e->type == DT_UNKNOWN ? st.st_mode >> 12 & 15 : e->type);
	p9_put_str(m, e->name, len);
	return true;
}

int p9_readdir(struct p9 *s, struct p9_msg *m)
{
	struct p9_fid *f = p9_path_fid(s, m);
	uint64_t off = p9_u64(m);
	uint32_t count = p9_u32(m);
	uint8_t *head = m->r, *limit;
	_Alignas(8) char buf[32768];
	struct stat dir;
	bool full = false;

	if (!f || f->open < 0)
		return -EBADF;
	if (m->short_in || off > INT64_MAX || m->r_end - m->r < 4)
		return -EINVAL;
	p9_put32(m, 0);
	limit = m->r + MIN((size_t)count, (size_t)(m->r_end - m->r));
	if (f->opaque)
		return 0;
	if (fstat(f->open, &dir) < 0 || (off != f->dir_pos && lseek(f->open, off, SEEK_SET) < 0))
		return -errno;
	f->dir_pos = UINT64_MAX;		/* unknown until the end */
	while (!full) {
		long n = syscall(SYS_getdents64, f->open, buf,
				 MIN(sizeof(buf), MAX((size_t)(limit - m->r), (size_t)1024)));

		if (n < 0 && m->r == head + 4)
			return -errno;
		if (n <= 0)
			break;
		for (long at = 0; at < n && !full; at += ((struct dirent_raw *)(buf + at))->len)
			full = !put_entry(s, f, &dir, m, limit, (struct dirent_raw *)(buf + at));
	}
	st_le32(head, m->r - head - 4);
	return 0;
}

/* --- making --- */

/* The name of something to be made: nothing comes up under a hidden one. */
static int new_name(struct p9 *s, const struct p9_fid *dir, struct p9_msg *m, char name[256])
{
	int ret = p9_name(m, name);

	return ret < 0 ? ret : p9_check_hidden(s, dir->path, name);
}

/*
 * The new file belongs to the group the guest says where that is possible, as on a file system that
 * ignores chown.
 */
static void give_group(int dir, const char *name, uint32_t gid)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_gid != gid)
		(void)!fchownat(dir, name, -1, gid, AT_SYMLINK_NOFOLLOW);
}

/*
 * mkdir drops these bits of its mode. By a descriptor: the name may be a symbolic link by now, and
 * chmod follows those.
 */
static void set_id_bits(struct p9 *s, int dir, const char *name, uint32_t mode)
{
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return;
	(void)!fchmod(fd, mode & P9_MODE_BITS);
	close(fd);
}

int p9_mkdir(struct p9 *s, struct p9_msg *m)
{
	int ret;
	struct p9_fid *f = p9_dir_fid(s, m, &ret);
	char name[256];
	uint32_t mode, gid;
	struct stat st;

	if (ret == 0)
		ret = new_name(s, f, m, name);
	mode = p9_u32(m);
	gid = p9_u32(m);
	if (ret < 0 || m->short_in)
		return ret < 0 ? ret : -EPROTO;
	if (mkdirat(f->path, name, mode & P9_MODE_BITS) < 0)
		return -errno;
	if (mode & 07000)
		set_id_bits(s, f->path, name, mode);
	give_group(f->path, name, gid);
	if (fstatat(f->path, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	p9_put_qid(s, m, &st);
	return 0;
}

int p9_symlink(struct p9 *s, struct p9_msg *m)
{
	int ret;
	struct p9_fid *f = p9_dir_fid(s, m, &ret);
	char name[256], target[4096];
	struct stat st;

	if (ret == 0)
		ret = new_name(s, f, m, name);
	if (ret == 0)
		ret = p9_str(m, target, sizeof(target));
	if (ret < 0)
		return ret;
	if (symlinkat(target, f->path, name) < 0)
		return -errno;
	give_group(f->path, name, p9_u32(m));
	if (fstatat(f->path, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	p9_put_qid(s, m, &st);
	return 0;
}

int p9_mknod(struct p9 *s, struct p9_msg *m)
{
	int ret;
	struct p9_fid *f = p9_dir_fid(s, m, &ret);
	uint32_t mode, gid;
	char name[256];
	struct stat st;

	if (ret == 0)
		ret = new_name(s, f, m, name);
	mode = p9_u32(m);
	p9_u32(m);
	p9_u32(m);
	gid = p9_u32(m);
	if (ret < 0 || m->short_in)
		return ret < 0 ? ret : -EPROTO;
	/*
	 * A device node would be a door to the host's device for everybody who can reach the file.
	 */
	if (S_ISCHR(mode) || S_ISBLK(mode))
		return -EPERM;
	if (mknodat(f->path, name, mode & (S_IFMT | P9_MODE_BITS), 0) < 0)
		return -errno;
	give_group(f->path, name, gid);
	if (fstatat(f->path, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	p9_put_qid(s, m, &st);
	return 0;
}

int p9_link_op(struct p9 *s, struct p9_msg *m)
{
	int ret;
	struct p9_fid *dir = p9_dir_fid(s, m, &ret), *f = p9_path_fid(s, m);
	char name[256], link[16];

	if (ret == 0)
		ret = !f || f->opaque ? -EBADF : new_name(s, dir, m, name);
	if (ret < 0)
		return ret;
	return p9_sys(linkat(s->proc, p9_link(link, f->path), dir->path, name, AT_SYMLINK_FOLLOW));
}

int p9_renameat(struct p9 *s, struct p9_msg *m)
{
	int ret, ret2 = 0;
	char from[256], to[256];
	struct p9_fid *a = p9_dir_fid(s, m, &ret), *b = NULL;

	if (ret == 0)
		ret = p9_name(m, from);
	if (ret == 0)
		b = p9_dir_fid(s, m, &ret2);
	if (ret == 0)
		ret = ret2;
	if (ret == 0)
		ret = p9_name(m, to);
	if (ret == 0)
		ret = p9_check_hidden(s, a->path, from);
	if (ret == 0)
		ret = p9_check_hidden(s, b->path, to);
	if (ret < 0)
		return ret;
	return p9_sys(renameat(a->path, from, b->path, to));
}

int p9_rename(struct p9 *s, struct p9_msg *m)
{
	struct p9_fid *f = p9_path_fid(s, m);
	int ret, dir, fd;
	struct p9_fid *to = p9_dir_fid(s, m, &ret);
	char name[256], old[256];

	if (ret == 0)
		ret = f ? p9_name(m, name) : -EBADF;
	if (ret < 0)
		return ret;
	dir = to->path;
	ret = f->opaque ? -EACCES : p9_check_hidden(s, dir, name);
	if (ret < 0)
		return ret;
	fd = p9_parent(s, f, old);
	if (fd < 0)
		return fd;
	ret = p9_sys(renameat(fd, old, dir, name));
	close(fd);
	return ret;
}

int p9_unlinkat(struct p9 *s, struct p9_msg *m)
{
	int ret;
	struct p9_fid *f = p9_dir_fid(s, m, &ret);
	char name[256];
	uint32_t flags;

	if (ret == 0)
		ret = p9_name(m, name);
	flags = p9_u32(m);
	if (ret == 0)
		ret = p9_check_hidden(s, f->path, name);
	if (ret < 0)
		return ret;
	return p9_sys(unlinkat(f->path, name, flags & AT_REMOVEDIR));
}

int p9_remove(struct p9 *s, struct p9_msg *m)
{
	struct p9_fid *f = p9_path_fid(s, m);
	char name[256];
	struct stat st;
	int fd, ret;

	if (!f)
		return -EBADF;
	fd = f->opaque ? -EACCES : p9_parent(s, f, name);
	ret = fd;
	if (fd >= 0) {
		ret = fstat(f->path, &st) < 0
			      ? -errno
			      : p9_sys(unlinkat(fd, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0));
		close(fd);
	}
	p9_fid_drop(s, f);			/* even when it failed: intro(5) */
	return ret;
}

int p9_readlink(struct p9 *s, struct p9_msg *m)
{
	struct p9_fid *f = p9_path_fid(s, m);
	char target[4096];
	ssize_t n;

	if (!f)
		return -EBADF;
	n = readlinkat(f->path, "", target, sizeof(target));
	if (n < 0)
		return errno == ENOENT ? -EINVAL : -errno;
	p9_put_str(m, target, n);
	return 0;
}
