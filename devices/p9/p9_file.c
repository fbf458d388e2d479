/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * p9_file.c: open files (9P2000.L): open, create, read, write, streams, locks. Each operation acts
 * on descriptors only; names are single ones in a folder's descriptor. A thread that may block.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "devices/p9/p9_impl.h"

/*
 * Flags of Tlopen and Tlcreate are Linux's own. O_DIRECT was about the guest's cache; O_NOATIME
 * needs ownership.
 */
#define OPEN_FLAGS (O_ACCMODE | O_APPEND | O_TRUNC | O_DSYNC | O_SYNC | O_DIRECTORY)

int p9_lopen(struct p9 *s, struct p9_msg *m)
{
	struct p9_fid *f = p9_path_fid(s, m);
	uint32_t flags = p9_u32(m);
	char link[16];
	struct stat st;

	if (!f || f->open >= 0)
		return -EBADF;
	if (fstat(f->path, &st) < 0)
		return -errno;
	if (s->readonly && ((flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC))
		return -EROFS;
	/*
	 * Devices, FIFOs and sockets are the guest's kernel's own business; the host's are not for
	 * it.
	 */
	f->stream = s->pipes && S_ISFIFO(st.st_mode);
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode) && !f->stream)
		return S_ISLNK(st.st_mode) ? -ELOOP : -EACCES;
	f->open = openat(s->proc, p9_link(link, f->path),
			 (flags & OPEN_FLAGS) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (f->open < 0)
		return errno == EMFILE ? -ENFILE : -errno;
	/* One descriptor for each fid: a thousand processes have ten thousand of them. */
	close(f->path);
	f->path = f->open;
	f->dir_pos = 0;
	p9_put_qid(s, m, &st);
	p9_put32(m, 0);				/* iounit: as msize allows */
	return 0;
}


int p9_lcreate(struct p9 *s, struct p9_msg *m)
{
	struct open_how how = { .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
					   RESOLVE_NO_MAGICLINKS };
	int ret, fd;
	struct p9_fid *f = p9_dir_fid(s, m, &ret);
	char name[256];
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
	/*
	 * Without O_EXCL the name may be a FIFO by now: O_NONBLOCK, and a look before it is kept.
	 */
	ret = p9_check_hidden(s, f->path, name);	/* before O_TRUNC could do harm */
	if (ret < 0)
		return ret;
	how.flags = (flags & (OPEN_FLAGS | O_EXCL) & ~O_DIRECTORY) | O_CREAT | O_CLOEXEC |
		    O_NOFOLLOW | O_NOCTTY | O_NONBLOCK;
	how.mode = mode & P9_MODE_BITS;
	fd = syscall(SYS_openat2, f->path, name, &how, sizeof(how));
	if (fd < 0)
		return errno == EMFILE ? -ENFILE : -errno;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || p9_check_hidden(s, f->path, name) < 0) {
		close(fd);
		return -EACCES;
	}
	if (st.st_gid != gid)
		(void)!fchown(fd, -1, gid);
	close(f->path);
	f->path = f->open = fd;
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

	/* as many as one preadv takes; the rest is a short count */
	return MIN(k, 1024);
}

static bool may_wait(struct p9 *s, uint16_t tag)
{
	return !__atomic_load_n(&s->cancelled, __ATOMIC_SEQ_CST) &&
	       !(__atomic_load_n(&s->flushed[tag / 64], __ATOMIC_SEQ_CST) >> tag % 64 & 1);
}

/*
 * Waits for the host program at the other end. False, errno EINTR: the device stops meanwhile, or
 * the guest gave up.
 */
static bool stream_wait(struct p9 *s, const struct p9_fid *f, short events)
{
	struct pollfd p[2] = { { f->open, events, 0 }, { s->cancel, POLLIN, 0 } };
	uint16_t tag = ld_le16(s->buf + 5);
	bool ready = false;
	uint64_t count;

	__atomic_store_n(&s->waiting, 0x10000u | tag, __ATOMIC_SEQ_CST);
	while (!ready && may_wait(s, tag)) {
		if (poll(p, 2, -1) < 0)
			continue;
		ready = p[0].revents;
		if (p[1].revents && read(s->cancel, &count, sizeof(count)) < 0)
			continue;
	}
	__atomic_store_n(&s->waiting, 0, __ATOMIC_SEQ_CST);
	if (!ready)
		errno = EINTR;
	return ready;
}

/* After a failed call: once more? */
static bool again(struct p9 *s, const struct p9_fid *f, short events)
{
	return errno == EINTR || (errno == EAGAIN && f->stream && stream_wait(s, f, events));
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
			n = readv(f->open, iov,
				  data_iov(iov, m->out, m->nout, P9_READ_HEAD, count));
		else
			n = preadv(f->open, iov,
				   data_iov(iov, m->out, m->nout, P9_READ_HEAD, count), off);
	while (n < 0 && again(s, f, POLLIN));
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
			n = writev(f->open, iov,
				   data_iov(iov, m->in, m->nin, P9_WRITE_HEAD, count));
		else
			n = pwritev(f->open, iov,
				    data_iov(iov, m->in, m->nin, P9_WRITE_HEAD, count), off);
	while (n < 0 && again(s, f, POLLOUT));
	if (n < 0)
		return -errno;
	p9_put32(m, n);
	return 0;
}

int p9_fsync(struct p9 *s, struct p9_msg *m)
{
	struct p9_fid *f = p9_path_fid(s, m);
	bool data = p9_u32(m);

	if (!f || f->open < 0)
		return -EBADF;
	return p9_sys(data ? fdatasync(f->open) : fsync(f->open));
}

/* --- locks: of the open file, so that guests and host programs see each other's --- */

static short lock_type(uint8_t type)
{
	return type == 0 ? F_RDLCK : type == 1 ? F_WRLCK : F_UNLCK;
}

int p9_lock(struct p9 *s, struct p9_msg *m)
{
	struct p9_fid *f = p9_path_fid(s, m);
	uint8_t type = p9_u8(m);
	struct flock fl = { .l_type = lock_type(type), .l_whence = SEEK_SET };

	/* flags: whether to wait is the client's business */
	p9_u32(m);
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
	struct p9_fid *f = p9_path_fid(s, m);
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
