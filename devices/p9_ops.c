/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * p9_ops.c: what can be done with a fid (9P2000.L): files, folders, attributes, locks. Each operation acts on descriptors
 * only; names are single ones in a folder's descriptor. A thread that may block.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "devices/p9_impl.h"

/* Flags of Tlopen and Tlcreate are Linux's own. O_DIRECT was about the guest's cache; O_NOATIME needs ownership. */
#define OPEN_FLAGS (O_ACCMODE | O_APPEND | O_TRUNC | O_DSYNC | O_SYNC | O_DIRECTORY)
#define MODE_BITS 07777
#define GETATTR_BASIC 0x7ffull
#define GETATTR_BTIME 0x800ull

static struct p9_fid *path_fid(struct p9 *s, struct p9_msg *m)
{
	struct p9_fid *f = p9_fid_get(s, p9_u32(m));

	return f && f->kind == FID_PATH ? f : NULL;
}

static int sys(int ret)
{
	return ret < 0 ? -errno : 0;
}

/* A folder something is made in. */
static struct p9_fid *dir_fid(struct p9 *s, struct p9_msg *m, int *ret)
{
	struct p9_fid *f = path_fid(s, m);

	*ret = !f ? -EBADF : f->opaque ? -EACCES : 0;
	return f;
}

/* What the guest must not see it must not unlink, move, open by creating, or put something else over. */
static int check_hidden(struct p9 *s, int dir, const char *name)
{
	struct stat st;

	if (s->nhide && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && p9_hidden(s, st.st_dev, st.st_ino))
		return -EACCES;
	return 0;
}

/* --- open, create, read, write --- */

int p9_lopen(struct p9 *s, struct p9_msg *m)
{
	struct p9_fid *f = path_fid(s, m);
	uint32_t flags = p9_u32(m);
	char link[16];
	struct stat st;

	if (!f || f->open >= 0)
		return -EBADF;
	if (fstat(f->path, &st) < 0)
		return -errno;
	if (s->readonly && ((flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC))
		return -EROFS;
	/* Devices, FIFOs and sockets are the guest's kernel's own business; the host's are not for it. */
	f->stream = s->pipes && S_ISFIFO(st.st_mode);
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode) && !f->stream)
		return S_ISLNK(st.st_mode) ? -ELOOP : -EACCES;
	f->open = openat(s->proc, p9_link(link, f->path), (flags & OPEN_FLAGS) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (f->open < 0)
		return errno == EMFILE ? -ENFILE : -errno;
	f->dir_pos = 0;
	p9_put_qid(s, m, &st);
	p9_put32(m, 0);				/* iounit: as msize allows */
	return 0;
}

/* The new file belongs to the group the guest says where that is possible, as on a file system that ignores chown. */
static void give_group(int dir, const char *name, uint32_t gid)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_gid != gid)
		(void)!fchownat(dir, name, -1, gid, AT_SYMLINK_NOFOLLOW);
}

int p9_lcreate(struct p9 *s, struct p9_msg *m)
{
	struct open_how how = { .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS };
	int ret, fd, path;
	struct p9_fid *f = dir_fid(s, m, &ret);
	char name[256], link[16];
	uint32_t flags, mode, gid;
	struct stat st;

	if (ret == 0)
		ret = p9_name(m, name);
	flags = p9_u32(m);
	mode = p9_u32(m);
	gid = p9_u32(m);
	if (ret < 0 || m->short_in)
		return ret < 0 ? ret : -EPROTO;
	if (f->open >= 0)
		return -EBADF;
	/* Without O_EXCL the name may be a FIFO by now: O_NONBLOCK, and a look before it is kept. */
	ret = check_hidden(s, f->path, name);	/* before O_TRUNC could do harm */
	if (ret < 0)
		return ret;
	how.flags = (flags & (OPEN_FLAGS | O_EXCL) & ~O_DIRECTORY) | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK;
	how.mode = mode & MODE_BITS;
	fd = syscall(SYS_openat2, f->path, name, &how, sizeof(how));
	if (fd < 0)
		return errno == EMFILE ? -ENFILE : -errno;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || p9_hidden(s, st.st_dev, st.st_ino)) {
		close(fd);
		return -EACCES;
	}
	if (st.st_gid != gid)
		(void)!fchown(fd, -1, gid);
	path = openat(s->proc, p9_link(link, fd), O_PATH | O_CLOEXEC);
	if (path < 0) {
		close(fd);
		return -ENFILE;
	}
	close(f->path);
	f->path = path;
	f->open = fd;
	p9_put_qid(s, m, &st);
	p9_put32(m, 0);
	return 0;
}

static int xattr_read(struct p9_fid *f, struct p9_msg *m, uint64_t off, uint32_t count)
{
	size_t n = off < f->xattr_len ? MIN(f->xattr_len - off, (uint64_t)count) : 0;

	p9_put32(m, n);
	if (n)
		m->data_len = iov_from_buf(m->out, m->nout, P9_READ_HEAD, f->xattr + off, n);
	return 0;
}

/* The part of a scatter list that data of a message goes to or comes from. */
static int data_iov(struct iovec *to, const struct iovec *from, int n, size_t head, size_t len)
{
	int k = iov_slice(to, from, n, head, len);

	return MIN(k, 1024);			/* as many as one preadv takes; the rest is a short count */
}

/* Waits for the host program at the other end. False, errno EINTR: the device stops meanwhile. */
static bool stream_wait(struct p9 *s, const struct p9_fid *f, short events)
{
	struct pollfd p[2] = { { f->open, events, 0 }, { s->cancel, POLLIN, 0 } };
	uint64_t count;

	while (poll(p, 2, -1) < 0 && errno == EINTR)
		;
	if (!(p[1].revents & POLLIN))
		return true;
	if (read(s->cancel, &count, sizeof(count)) < 0)
		return true;
	errno = EINTR;
	return false;
}

int p9_read(struct p9 *s, struct p9_msg *m)
{
	struct p9_fid *f = p9_fid_get(s, p9_u32(m));
	uint64_t off = p9_u64(m), fits = iov_bytes(m->out, m->nout);
	uint32_t count = p9_u32(m);
	struct iovec iov[m->nout + 1];
	ssize_t n;

	if (m->short_in || off > INT64_MAX)
		return -EINVAL;
	fits = MIN(fits, (uint64_t)s->msize);
	if (!f || fits < P9_READ_HEAD)
		return -EBADF;
	count = MIN((uint64_t)count, fits - P9_READ_HEAD);
	if (f->kind == FID_XATTR_READ)
		return xattr_read(f, m, off, count);
	if (f->kind != FID_PATH || f->open < 0)
		return -EBADF;
	do
		if (f->stream)
			n = readv(f->open, iov, data_iov(iov, m->out, m->nout, P9_READ_HEAD, count));
		else
			n = preadv(f->open, iov, data_iov(iov, m->out, m->nout, P9_READ_HEAD, count), off);
	while (n < 0 && (errno == EINTR || (errno == EAGAIN && f->stream && stream_wait(s, f, POLLIN))));
	if (n < 0)
		return -errno;
	p9_put32(m, n);
	m->data_len = n;
	return 0;
}

int p9_write(struct p9 *s, struct p9_msg *m)
{
	struct p9_fid *f = p9_fid_get(s, p9_u32(m));
	uint64_t off = p9_u64(m);
	uint32_t count = p9_u32(m);
	struct iovec iov[m->nin + 1];
	ssize_t n;

	if (m->short_in || off > INT64_MAX || count > iov_bytes(m->in, m->nin) - P9_WRITE_HEAD)
		return -EINVAL;
	if (!f)
		return -EBADF;
	if (f->kind == FID_XATTR_WRITE) {
		if (off != f->xattr_have || count > f->xattr_len - f->xattr_have)
			return -EINVAL;
		f->xattr_have += iov_to_buf(m->in, m->nin, P9_WRITE_HEAD, f->xattr + off, count);
		p9_put32(m, count);
		return 0;
	}
	if (f->kind != FID_PATH || f->open < 0)
		return -EBADF;
	do
		if (f->stream)
			n = writev(f->open, iov, data_iov(iov, m->in, m->nin, P9_WRITE_HEAD, count));
		else
			n = pwritev(f->open, iov, data_iov(iov, m->in, m->nin, P9_WRITE_HEAD, count), off);
	while (n < 0 && (errno == EINTR || (errno == EAGAIN && f->stream && stream_wait(s, f, POLLOUT))));
	if (n < 0)
		return -errno;
	p9_put32(m, n);
	return 0;
}

int p9_fsync(struct p9 *s, struct p9_msg *m)
{
	struct p9_fid *f = path_fid(s, m);
	bool data = p9_u32(m);

	if (!f || f->open < 0)
		return -EBADF;
	return sys(data ? fdatasync(f->open) : fsync(f->open));
}

/* --- folders --- */

struct dirent_raw { uint64_t ino; int64_t off; uint16_t len; uint8_t type; char name[]; };

/* One entry: false when it does not fit any more. */
static bool put_entry(struct p9 *s, struct p9_fid *f, const struct stat *dir, struct p9_msg *m, const uint8_t *limit,
		      const struct dirent_raw *e)
{
	size_t len = strlen(e->name);
	struct stat st = { .st_dev = dir->st_dev, .st_ino = e->ino };

	if (m->r + P9_QID + 8 + 1 + 2 + len > limit)
		return false;
	/* A mount point's entry has the number of what it covers. */
	if (e->type == DT_DIR || e->type == DT_UNKNOWN || s->nhide)
		if (fstatat(f->open, e->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			st = (struct stat){ .st_dev = dir->st_dev, .st_ino = e->ino, .st_mode = e->type << 12 };
	if (e->type != DT_UNKNOWN)
		st.st_mode = e->type << 12;
	if (p9_hidden(s, st.st_dev, st.st_ino) && !S_ISDIR(st.st_mode))
		return true;
	p9_put_qid(s, m, &st);
	p9_put64(m, e->off);
	p9_put8(m, e->type == DT_UNKNOWN ? st.st_mode >> 12 & 15 : e->type);
	p9_put_str(m, e->name, len);
	return true;
}

int p9_readdir(struct p9 *s, struct p9_msg *m)
{
	struct p9_fid *f = path_fid(s, m);
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
		long n = syscall(SYS_getdents64, f->open, buf, MIN(sizeof(buf), MAX((size_t)(limit - m->r), (size_t)1024)));

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

int p9_mkdir(struct p9 *s, struct p9_msg *m)
{
	int ret;
	struct p9_fid *f = dir_fid(s, m, &ret);
	char name[256];
	uint32_t mode, gid;
	struct stat st;

	if (ret == 0)
		ret = p9_name(m, name);
	mode = p9_u32(m);
	gid = p9_u32(m);
	if (ret < 0 || m->short_in)
		return ret < 0 ? ret : -EPROTO;
	if (mkdirat(f->path, name, mode & MODE_BITS) < 0)
		return -errno;
	/* mkdir drops the set-id and sticky bits of its mode. */
	if (mode & 07000 && fstatat(f->path, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode))
		fchmodat(f->path, name, mode & MODE_BITS, 0);
	give_group(f->path, name, gid);
	if (fstatat(f->path, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	p9_put_qid(s, m, &st);
	return 0;
}

int p9_symlink(struct p9 *s, struct p9_msg *m)
{
	int ret;
	struct p9_fid *f = dir_fid(s, m, &ret);
	char name[256], target[4096];
	struct stat st;

	if (ret == 0)
		ret = p9_name(m, name);
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
	struct p9_fid *f = dir_fid(s, m, &ret);
	uint32_t mode, gid;
	char name[256];
	struct stat st;

	if (ret == 0)
		ret = p9_name(m, name);
	mode = p9_u32(m);
	p9_u32(m);
	p9_u32(m);
	gid = p9_u32(m);
	if (ret < 0 || m->short_in)
		return ret < 0 ? ret : -EPROTO;
	/* A device node would be a door to the host's device for everybody who can reach the file. */
	if (S_ISCHR(mode) || S_ISBLK(mode))
		return -EPERM;
	if (mknodat(f->path, name, mode & (S_IFMT | MODE_BITS), 0) < 0)
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
	struct p9_fid *dir = dir_fid(s, m, &ret), *f = path_fid(s, m);
	char name[256], link[16];

	if (ret == 0)
		ret = !f || f->opaque ? -EBADF : p9_name(m, name);
	if (ret < 0)
		return ret;
	return sys(linkat(s->proc, p9_link(link, f->path), dir->path, name, AT_SYMLINK_FOLLOW));
}

int p9_renameat(struct p9 *s, struct p9_msg *m)
{
	int ret, ret2 = 0;
	char from[256], to[256];
	struct p9_fid *a = dir_fid(s, m, &ret), *b = NULL;

	if (ret == 0)
		ret = p9_name(m, from);
	if (ret == 0)
		b = dir_fid(s, m, &ret2);
	if (ret == 0)
		ret = ret2;
	if (ret == 0)
		ret = p9_name(m, to);
	if (ret == 0)
		ret = check_hidden(s, a->path, from);
	if (ret == 0)
		ret = check_hidden(s, b->path, to);
	if (ret < 0)
		return ret;
	return sys(renameat(a->path, from, b->path, to));
}

int p9_rename(struct p9 *s, struct p9_msg *m)
{
	struct p9_fid *f = path_fid(s, m);
	int ret, dir, fd;
	struct p9_fid *to = dir_fid(s, m, &ret);
	char name[256], old[256];

	if (ret == 0)
		ret = f ? p9_name(m, name) : -EBADF;
	if (ret < 0)
		return ret;
	dir = to->path;
	ret = f->opaque ? -EACCES : check_hidden(s, dir, name);
	if (ret < 0)
		return ret;
	fd = p9_parent(s, f, old);
	if (fd < 0)
		return fd;
	ret = sys(renameat(fd, old, dir, name));
	close(fd);
	return ret;
}

int p9_unlinkat(struct p9 *s, struct p9_msg *m)
{
	int ret;
	struct p9_fid *f = dir_fid(s, m, &ret);
	char name[256];
	uint32_t flags;

	if (ret == 0)
		ret = p9_name(m, name);
	flags = p9_u32(m);
	if (ret == 0)
		ret = check_hidden(s, f->path, name);
	if (ret < 0)
		return ret;
	return sys(unlinkat(f->path, name, flags & AT_REMOVEDIR));
}

int p9_remove(struct p9 *s, struct p9_msg *m)
{
	struct p9_fid *f = path_fid(s, m);
	char name[256];
	struct stat st;
	int fd, ret;

	if (!f)
		return -EBADF;
	fd = f->opaque ? -EACCES : p9_parent(s, f, name);
	ret = fd;
	if (fd >= 0) {
		ret = fstat(f->path, &st) < 0 ? -errno : sys(unlinkat(fd, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0));
		close(fd);
	}
	p9_fid_drop(s, f);			/* even when it failed: intro(5) */
	return ret;
}

int p9_readlink(struct p9 *s, struct p9_msg *m)
{
	struct p9_fid *f = path_fid(s, m);
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

/* --- attributes --- */

int p9_statfs(struct p9 *s, struct p9_msg *m)
{
	struct p9_fid *f = path_fid(s, m);
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
	struct p9_fid *f = path_fid(s, m);
	struct statx x = { 0 };
	struct stat st;
	bool btime;

	if (!f)
		return -EBADF;
	/* The opened file where there is one: some file systems tell the length only there. */
	if (fstat(f->open >= 0 ? f->open : f->path, &st) < 0)
		return -errno;
	btime = statx(f->path, "", AT_EMPTY_PATH, STATX_BTIME, &x) == 0 && x.stx_mask & STATX_BTIME;
	p9_put64(m, GETATTR_BASIC | (btime ? GETATTR_BTIME : 0));
	p9_put_qid(s, m, &st);
	if (s->pipes && S_ISFIFO(st.st_mode)) {
		/* As a FIFO it would be the guest kernel's own. It has no end that could be known. */
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
	ret = sys(ftruncate(fd, size));
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
	return sys(utimensat(s->proc, p9_link(link, f->path), ts, 0));
}

int p9_setattr(struct p9 *s, struct p9_msg *m)
{
	struct p9_fid *f = path_fid(s, m);
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
		ret = S_ISLNK(st.st_mode) ? -EOPNOTSUPP : sys(fchmodat(s->proc, p9_link(link, f->path), mode & MODE_BITS, 0));
	}
	if (ret == 0 && valid & 6)
		ret = sys(fchownat(f->path, "", valid & 2 ? uid : (uint32_t)-1, valid & 4 ? gid : (uint32_t)-1,
				   AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
	if (ret == 0 && valid & 8)
		ret = set_size(s, f, size);
	if (ret == 0 && valid & 0x30)
		ret = set_times(s, f, valid, t);
	return ret;
}

/* --- extended attributes: the user's and ACLs; the host's security labels are not the guest's --- */

static bool xattr_allowed(const char *name, bool set)
{
	return !strncmp(name, "user.", 5) || !strcmp(name, "system.posix_acl_access") ||
	       !strcmp(name, "system.posix_acl_default") || (!set && !strcmp(name, "security.capability"));
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
	struct p9_fid *f = path_fid(s, m), *to;
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
	to = p9_fid_new(s, num, -1);
	to->kind = FID_XATTR_READ;
	to->xattr = buf;
	to->xattr_len = n;
	p9_put64(m, n);
	return 0;
}

int p9_xattrcreate(struct p9 *s, struct p9_msg *m)
{
	struct p9_fid *f = path_fid(s, m);
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
		return sys(removexattr(proc_path(path, f->path), f->xattr_name));
	return sys(setxattr(proc_path(path, f->path), f->xattr_name, f->xattr, f->xattr_len,
			    f->xattr_flags & (XATTR_CREATE | XATTR_REPLACE)));
}

/* --- locks: of the open file, so that guests and host programs see each other's --- */

static short lock_type(uint8_t type)
{
	return type == 0 ? F_RDLCK : type == 1 ? F_WRLCK : F_UNLCK;
}

int p9_lock(struct p9 *s, struct p9_msg *m)
{
	struct p9_fid *f = path_fid(s, m);
	uint8_t type = p9_u8(m);
	struct flock fl = { .l_type = lock_type(type), .l_whence = SEEK_SET };

	p9_u32(m);				/* flags: whether to wait is the client's business */
	fl.l_start = p9_u64(m);
	fl.l_len = p9_u64(m);
	if (m->short_in || type > 2 || fl.l_start < 0 || fl.l_len < 0)
		return -EINVAL;
	if (!f || f->open < 0)
		return -EBADF;
	if (fcntl(f->open, F_OFD_SETLK, &fl) == 0)
		p9_put8(m, 0);			/* P9_LOCK_SUCCESS */
	else if (errno == EAGAIN || errno == EACCES)
		p9_put8(m, 1);			/* P9_LOCK_BLOCKED */
	else
		return -errno;
	return 0;
}

int p9_getlock(struct p9 *s, struct p9_msg *m)
{
	struct p9_fid *f = path_fid(s, m);
	uint8_t type = p9_u8(m);
	struct flock fl = { .l_type = lock_type(type), .l_whence = SEEK_SET };
	char client[256];
	uint32_t pid;
	int ret;

	fl.l_start = p9_u64(m);
	fl.l_len = p9_u64(m);
	pid = p9_u32(m);
	ret = p9_str(m, client, sizeof(client));
	if (ret < 0 || type > 1 || fl.l_start < 0 || fl.l_len < 0)
		return ret < 0 ? ret : -EINVAL;
	if (!f || f->open < 0)
		return -EBADF;
	if (fcntl(f->open, F_OFD_GETLK, &fl) < 0)
		return -errno;
	p9_put8(m, fl.l_type == F_RDLCK ? 0 : fl.l_type == F_WRLCK ? 1 : 2);
	p9_put64(m, fl.l_start);
	p9_put64(m, fl.l_len);
	p9_put32(m, pid);
	p9_put_str(m, client, strlen(client));
	return 0;
}
