/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * p9_attr.c: what files are like (9P2000.L): file system, attributes, extended attributes. Each
 * operation acts on descriptors only. A thread that may block.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "devices/p9/p9_impl.h"

#define GETATTR_BASIC 0x7ffull
#define GETATTR_BTIME 0x800ull

int p9_statfs(struct p9 *s, struct p9_msg *m)
{
	struct p9_fid *f = p9_path_fid(s, m);
	struct statfs sf;

	if (!f)
		return -EBADF;
	if (fstatfs(f->path, &sf) < 0)
		return -errno;
	p9_put32(m, sf.f_type);
	p9_put32(m, sf.f_bsize);
	p9_put64(m, sf.f_blocks);
	p9_put64(m, sf.f_bfree);
	p9_put64(m, sf.f_bavail);
	p9_put64(m, sf.f_files);
	p9_put64(m, sf.f_ffree);
	p9_put64(m, (uint32_t)sf.f_fsid.__val[0] | (uint64_t)(uint32_t)sf.f_fsid.__val[1] << 32);
	p9_put32(m, sf.f_namelen);
	return 0;
}

static void put_time(struct p9_msg *m, int64_t sec, uint32_t nsec)
{
	p9_put64(m, sec);
	p9_put64(m, nsec);
}

int p9_getattr(struct p9 *s, struct p9_msg *m)
{
	struct p9_fid *f = p9_path_fid(s, m);
	struct statx x;
	struct stat st;
	bool btime;

	if (!f)
		return -EBADF;
	/* The opened file where there is one: some file systems tell the length only there. */
	if (statx(f->open >= 0 ? f->open : f->path, "", AT_EMPTY_PATH,
		  STATX_BASIC_STATS | STATX_BTIME, &x) < 0)
		return -errno;
	btime = x.stx_mask & STATX_BTIME;
	st = (struct stat){
		.st_dev = makedev(x.stx_dev_major, x.stx_dev_minor),
		.st_ino = x.stx_ino,
		.st_mode = x.stx_mode,
		.st_nlink = x.stx_nlink,
		.st_uid = x.stx_uid,
		.st_gid = x.stx_gid,
		.st_rdev = makedev(x.stx_rdev_major, x.stx_rdev_minor),
		.st_size = x.stx_size,
		.st_blksize = x.stx_blksize,
		.st_blocks = x.stx_blocks,
		.st_atim = { x.stx_atime.tv_sec, x.stx_atime.tv_nsec },
		.st_mtim = { x.stx_mtime.tv_sec, x.stx_mtime.tv_nsec },
		.st_ctim = { x.stx_ctime.tv_sec, x.stx_ctime.tv_nsec },
	};
	p9_put64(m, GETATTR_BASIC | (btime ? GETATTR_BTIME : 0));
	p9_put_qid(s, m, &st);
	if (s->pipes && S_ISFIFO(st.st_mode)) {
		/*
		 * As a FIFO it would be the guest kernel's own. It has no end that could be known.
		 */
		st.st_mode = (st.st_mode & ~S_IFMT) | S_IFREG;
		st.st_size = 1ll << 62;
	}
	p9_put32(m, st.st_mode);
	p9_put32(m, st.st_uid);
	p9_put32(m, st.st_gid);
	p9_put64(m, f->opaque ? 2 : st.st_nlink);
	p9_put64(m, st.st_rdev);
	p9_put64(m, st.st_size);
	p9_put64(m, st.st_blksize);
	p9_put64(m, st.st_blocks);
	put_time(m, st.st_atim.tv_sec, st.st_atim.tv_nsec);
	put_time(m, st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	put_time(m, st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
	put_time(m, btime ? x.stx_btime.tv_sec : 0, btime ? x.stx_btime.tv_nsec : 0);
	p9_put64(m, 0);				/* generation */
	p9_put64(m, 0);				/* data version */
	return 0;
}

static int set_size(struct p9 *s, struct p9_fid *f, uint64_t size)
{
	char link[16];
	struct stat st;
	int fd, ret;

	if (size > INT64_MAX)
		return -EFBIG;
	if (f->open >= 0 && ftruncate(f->open, size) == 0)
		return 0;
	if (fstat(f->path, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	fd = openat(s->proc, p9_link(link, f->path), O_WRONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	ret = p9_sys(ftruncate(fd, size));
	close(fd);
	return ret;
}

static int set_times(struct p9 *s, struct p9_fid *f, uint32_t valid, const uint64_t t[4])
{
	struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_OMIT } };
	char link[16];

	for (int i = 0; i < 2; i++) {
		if (!(valid & 0x10u << i))
			continue;
		if (!(valid & 0x80u << i))
			ts[i].tv_nsec = UTIME_NOW;
		else if (t[2 * i + 1] >= 1000000000)
			return -EINVAL;
		else
			ts[i] = (struct timespec){ t[2 * i], t[2 * i + 1] };
	}
	if (utimensat(f->path, "", ts, AT_EMPTY_PATH) == 0)
		return 0;
	return p9_sys(utimensat(s->proc, p9_link(link, f->path), ts, 0));
}

int p9_setattr(struct p9 *s, struct p9_msg *m)
{
	struct p9_fid *f = p9_path_fid(s, m);
	uint32_t valid = p9_u32(m), mode = p9_u32(m), uid = p9_u32(m), gid = p9_u32(m);
	uint64_t size = p9_u64(m), t[4];
	char link[16];
	struct stat st;
	int ret = 0;

	for (int i = 0; i < 4; i++)
		t[i] = p9_u64(m);
	if (m->short_in)
		return -EPROTO;
	if (!f || f->opaque)
		return f ? -EACCES : -EBADF;
	if (s->pipes && fstat(f->path, &st) == 0 && S_ISFIFO(st.st_mode))
		return 0;			/* a stream has no attributes worth keeping */
	if (valid & 1) {
		if (fstat(f->path, &st) < 0)
			return -errno;
		ret = S_ISLNK(st.st_mode) ? -EOPNOTSUPP
					  : p9_sys(fchmodat(s->proc, p9_link(link, f->path),
							    mode & P9_MODE_BITS, 0));
	}
	if (ret == 0 && valid & 6)
		ret = p9_sys(fchownat(f->path, "", valid & 2 ? uid : (uint32_t)-1,
				      valid & 4 ? gid : (uint32_t)-1,
				      AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
	if (ret == 0 && valid & 8)
		ret = set_size(s, f, size);
	if (ret == 0 && valid & 0x30)
		ret = set_times(s, f, valid, t);
	return ret;
}

/* --- extended attributes --- */
/* The user's and ACLs; the host's security labels are not the guest's. */

static bool xattr_allowed(const char *name, bool set)
{
	return !strncmp(name, "user.", 5) || !strcmp(name, "system.posix_acl_access") ||
	       !strcmp(name, "system.posix_acl_default") ||
	       (!set && !strcmp(name, "security.capability"));
}

/* /proc/self/fd/N as a path, for calls without an "at" form. */
static const char *proc_path(char buf[32], int fd)
{
	snprintf(buf, 32, "/proc/self/fd/%d", fd);
	return buf;
}

static bool is_symlink(int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 || S_ISLNK(st.st_mode);
}

/* Leaves only names the guest may see. */
static ssize_t filter_list(char *list, ssize_t len)
{
	ssize_t out = 0;

	for (ssize_t at = 0, n; at < len; at += n) {
		n = strnlen(list + at, len - at) + 1;
		if (at + n <= len && xattr_allowed(list + at, false)) {
			memmove(list + out, list + at, n);
			out += n;
		}
	}
	return out;
}

int p9_xattrwalk(struct p9 *s, struct p9_msg *m)
{
	struct p9_fid *f = p9_path_fid(s, m), *to;
	uint32_t num = p9_u32(m);
	char name[256], path[32];
	uint8_t *buf;
	ssize_t n;
	int ret = p9_str(m, name, sizeof(name));

	if (ret < 0)
		return ret;
	if (!f || num == P9_NOFID || p9_fid_get(s, num))
		return -EBADF;
	if (is_symlink(f->path) || f->opaque)
		return -EOPNOTSUPP;
	if (*name && !xattr_allowed(name, false))
		return -EOPNOTSUPP;
	buf = xcalloc(1, P9_XATTR_MAX);
	if (*name)
		n = getxattr(proc_path(path, f->path), name, buf, P9_XATTR_MAX);
	else
		n = listxattr(proc_path(path, f->path), (char *)buf, P9_XATTR_MAX);
	if (n < 0) {
		ret = -errno;
		free(buf);
		return ret;
	}
	if (!*name)
		n = filter_list((char *)buf, n);
	to = n > (ssize_t)(XATTR_BYTES_MAX - s->xattr_bytes) ? NULL : p9_fid_new(s, num, -1);
	if (!to) {
		free(buf);
		return -ENFILE;
	}
	s->xattr_bytes += n;
	to->kind = FID_XATTR_READ;
	to->xattr = xrealloc(buf, MAX(n, (ssize_t)1));
	to->xattr_len = n;
	p9_put64(m, n);
	return 0;
}

int p9_xattrcreate(struct p9 *s, struct p9_msg *m)
{
	struct p9_fid *f = p9_path_fid(s, m);
	char name[256];
	uint64_t size;
	uint32_t flags;
	int ret = p9_str(m, name, sizeof(name));

	size = p9_u64(m);
	flags = p9_u32(m);
	if (ret < 0 || m->short_in)
		return ret < 0 ? ret : -EPROTO;
	if (!f || f->open >= 0)
		return -EBADF;
	if (!xattr_allowed(name, true) || is_symlink(f->path) || f->opaque)
		return -EOPNOTSUPP;
	if (size > P9_XATTR_MAX)
		return -E2BIG;
	if (size > XATTR_BYTES_MAX - s->xattr_bytes)
		return -ENFILE;
	s->xattr_bytes += size;
	f->kind = FID_XATTR_WRITE;
	f->xattr_name = xstrdup(name);
	f->xattr = xcalloc(1, size);
	f->xattr_len = size;
	f->xattr_have = 0;
	f->xattr_flags = flags;
	return 0;
}

int p9_xattr_store(struct p9 *s, struct p9_fid *f)
{
	char path[32];

	if (f->xattr_have != f->xattr_len)
		return -EINVAL;			/* the guest changed its mind half way */
	/* Linux's client removes an attribute by setting nothing with XATTR_REPLACE. */
	if (!f->xattr_len && f->xattr_flags & XATTR_REPLACE)
		return p9_sys(removexattr(proc_path(path, f->path), f->xattr_name));
	return p9_sys(setxattr(proc_path(path, f->path), f->xattr_name, f->xattr, f->xattr_len,
			    f->xattr_flags & (XATTR_CREATE | XATTR_REPLACE)));
}
