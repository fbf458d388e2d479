/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * file.c: the bottom of most trees: a host file or block device, with pread, pwrite and fallocate.
 * Worker threads, several at once; nothing here is kept in memory but the length.
 *
 * With O_DIRECT the device wants aligned offsets, lengths and addresses. What is not aligned goes
 * through a bounce buffer; a write reads, changes and writes whole blocks, and for that moment no
 * other write may be in these blocks: the ranges under way are kept in a list (struct range).
 * Buffered files need none of that.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk/formats.h"
#include "disk/lock.h"
#include "vmm/base/iov.h"
#include "vmm/base/log.h"

enum { IOV_PIECE = 512 };		/* entries handed to the kernel at once; below IOV_MAX */

struct range {
	uint64_t off, end;
	bool serial;			/* reads, changes, writes: alone in its blocks */
	struct range *next, **link;
};

struct file {
	bool blockdev;
	enum lock_kind held;
	/* once fdatasync has failed, the kernel forgets which pages: it stays failed */
	int flush_error;
	pthread_mutex_t lock;		/* the ranges; a leaf */
	pthread_cond_t freed;
	struct range *ranges;
};

static void range_begin(struct file *f, struct range *r, uint64_t off, uint64_t end, bool serial)
{
	r->off = off;
	r->end = end;
	r->serial = serial;
	pthread_mutex_lock(&f->lock);
again:
	for (struct range *o = f->ranges; o; o = o->next)
		if (o->off < end && off < o->end && (serial || o->serial)) {
			pthread_cond_wait(&f->freed, &f->lock);
			goto again;
		}
	r->next = f->ranges;
	r->link = &f->ranges;
	if (r->next)
		r->next->link = &r->next;
	f->ranges = r;
	pthread_mutex_unlock(&f->lock);
}

static void range_end(struct file *f, struct range *r)
{
	pthread_mutex_lock(&f->lock);
	*r->link = r->next;
	if (r->next)
		r->next->link = r->link;
	pthread_cond_broadcast(&f->freed);
	pthread_mutex_unlock(&f->lock);
}

/* As range_begin for a write that needs no serial range; false instead of waiting. */
static bool range_try(struct file *f, struct range *r, uint64_t off, uint64_t end)
{
	bool ok = true;

	pthread_mutex_lock(&f->lock);
	for (struct range *o = f->ranges; o && ok; o = o->next)
		ok = !(o->serial && o->off < end && off < o->end);
	if (ok) {
		*r = (struct range){
			.off = off, .end = end, .next = f->ranges, .link = &f->ranges
		};
		if (r->next)
			r->next->link = &r->next;
		f->ranges = r;
	}
	pthread_mutex_unlock(&f->lock);
	return ok;
}

static void size_grow(struct node *n, uint64_t end)
{
	uint64_t size = __atomic_load_n(&n->size, __ATOMIC_RELAXED);

	while (size < end && !__atomic_compare_exchange_n(&n->size, &size, end, true,
							  __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

/* --- opening --- */

static const char *file_path(const char *filename)
{
	return strncmp(filename, "file:", 5) ? filename : filename + 5;
}

static int file_size(int fd, const struct stat *st, uint64_t *size)
{
	if (S_ISBLK(st->st_mode))
		return ioctl(fd, BLKGETSIZE64, size) ? -errno : 0;
	*size = st->st_size;
	return 0;
}

/* The block size O_DIRECT asks for here. */
static uint32_t direct_align(int fd, const struct stat *st)
{
	int lbs = 0;

	if (S_ISBLK(st->st_mode))
		return ioctl(fd, BLKSSZGET, &lbs) == 0 && lbs >= 512 && IS_POWER_OF_2(lbs) ? lbs
											   : 4096;
#ifdef STATX_DIOALIGN
	{
		struct statx sx;

		if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) == 0 &&
		    (sx.stx_mask & STATX_DIOALIGN) && sx.stx_dio_offset_align &&
		    IS_POWER_OF_2(sx.stx_dio_offset_align))
			return MAX(MAX(sx.stx_dio_offset_align, sx.stx_dio_mem_align), 512u);
	}
#endif
	/* Ask by doing: a read of 512 bytes works only where that is enough. */
	{
		void *buf;
		uint32_t align = 4096;

		if (posix_memalign(&buf, 4096, 4096))
			return 4096;
		if (pread(fd, buf, 512, 512) >= 0)
			align = 512;
		free(buf);
		return align;
	}
}

static int file_mode(unsigned flags)
{
	return (flags & BLK_RDWR ? O_RDWR : O_RDONLY) | (flags & BLK_NOCACHE ? O_DIRECT : 0) |
	       O_CLOEXEC;
}

static enum lock_kind file_lock_kind(unsigned flags)
{
	return flags & (BLK_SHARE | BLK_INACTIVE) ? FILE_UNLOCKED
	       : flags & BLK_RDWR		  ? FILE_WRITES
						  : FILE_READS;
}

static void file_close(struct node *n)
{
	struct file *f = n->priv;

	if (n->fd >= 0)
		close(n->fd);
	n->fd = -1;
	if (f) {
		pthread_cond_destroy(&f->freed);
		pthread_mutex_destroy(&f->lock);
	}
	free(f);
	n->priv = NULL;
}

/* Takes over fd; looks what it is, locks it. */
static int file_attach(struct node *n, int fd, struct err *err)
{
	struct file *f = xcalloc(1, sizeof(*f));
	struct stat st;
	int ret;

	n->priv = f;
	n->fd = fd;
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->freed, NULL);
	if (fstat(fd, &st) < 0) {
		ret = err_set(err, errno, "'%s': %s", n->filename, strerror(errno));
		goto fail;
	}
	if (S_ISDIR(st.st_mode)) {
		ret = err_set(err, EISDIR, "'%s' is a directory, not a disk image", n->filename);
		goto fail;
	}
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		ret = err_set(err, ENOTSUP, "'%s' is neither a file nor a block device",
			      n->filename);
		goto fail;
	}
	f->blockdev = S_ISBLK(st.st_mode);
	ret = file_size(fd, &st, &n->size);
	if (ret) {
		err_set(err, -ret, "'%s': cannot tell its size: %s", n->filename, strerror(-ret));
		goto fail;
	}
	n->request_align = n->flags & BLK_NOCACHE ? direct_align(fd, &st) : 1;
	ret = lock_set(n->host, fd, n->filename, FILE_UNLOCKED, file_lock_kind(n->flags),
		       !(n->flags & BLK_NOWAIT), err);
	if (ret)
		goto fail;
	f->held = file_lock_kind(n->flags);
	node_stamp(fd, &n->opened);
	return 0;
fail:
	file_close(n);
	return ret;
}

static int file_open(struct node *n, const struct blk_options *o, struct err *err)
{
	int fd = host_open_disk(n->host, file_path(n->filename), file_mode(n->flags), o->format,
				&n->elsewhere, err);

	if (fd == -EINVAL && (n->flags & BLK_NOCACHE) && err)
		err_prefix(err, "its file system may not know O_DIRECT (cache=none); use another "
				"cache mode");
	if (fd < 0)
		return err_set(err, -fd, "Could not open '%s': %s", n->filename, strerror(-fd));
	return file_attach(n, fd, err);
}

/* A new description with the other access mode; the descriptor's number stays. */
static int file_reopen(struct node *n, bool rdwr, struct err *err)
{
	struct file *f = n->priv;
	struct stat was, is;
	int fd, ret;

	fd = host_open_disk(n->host, file_path(n->filename), file_mode(n->flags), NULL,
			    &n->elsewhere, err);
	if (fd < 0)
		return err_set(err, -fd, "Could not open '%s' %s: %s", n->filename,
			       rdwr ? "for writing" : "again", strerror(-fd));
	if (fstat(n->fd, &was) || fstat(fd, &is) || was.st_dev != is.st_dev ||
	    was.st_ino != is.st_ino) {
		ret = err_set(err, ESTALE, "'%s' is another file now than the one in use",
			      n->filename);
		goto fail;
	}
	/* The old description's locks are in the new one's way. */
	lock_set(n->host, n->fd, n->filename, f->held, FILE_UNLOCKED, false, NULL);
	ret = lock_set(n->host, fd, n->filename, FILE_UNLOCKED, file_lock_kind(n->flags), false,
		       err);
	if (ret) {
		lock_set(n->host, n->fd, n->filename, FILE_UNLOCKED, f->held, false, NULL);
		goto fail;
	}
	if (dup3(fd, n->fd, O_CLOEXEC) < 0) {
		ret = err_set(err, errno, "'%s': %s", n->filename, strerror(errno));
		goto fail;
	}
	close(fd);
	f->held = file_lock_kind(n->flags);
	return 0;
fail:
	close(fd);
	return ret;
}

static int file_inactivate(struct node *n, struct err *err)
{
	struct file *f = n->priv;

	lock_set(n->host, n->fd, n->filename, f->held, FILE_UNLOCKED, false, NULL);
	f->held = FILE_UNLOCKED;
	return 0;
}

static int file_activate(struct node *n, struct err *err)
{
	struct file *f = n->priv;
	struct stat st;
	int ret = lock_set(n->host, n->fd, n->filename, f->held,
			   file_lock_kind(n->flags & ~BLK_INACTIVE), false, err);

	if (ret)
		return ret;
	f->held = file_lock_kind(n->flags & ~BLK_INACTIVE);
	if (fstat(n->fd, &st) == 0)
		file_size(n->fd, &st, &n->size);
	node_stamp(n->fd, &n->opened);
	return 0;
}

/* --- data --- */

/* iov is the caller's own copy. An early end of the file reads as zeros. */
static int transfer(int fd, struct iovec *iov, int niov, uint64_t off, bool write)
{
	while (niov) {
		ssize_t n = write ? pwritev(fd, iov, niov, off) : preadv(fd, iov, niov, off);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (n == 0) {
			if (write)
				return -EIO;
			iov_zero(iov, niov, 0, iov_bytes(iov, niov));
			return 0;
		}
		off += n;
		while (niov && (size_t)n >= iov->iov_len) {
			n -= iov->iov_len;
			iov++;
			niov--;
		}
		if (niov) {
			iov->iov_base = (char *)iov->iov_base + n;
			iov->iov_len -= n;
		}
	}
	return 0;
}

static int transfer_all(int fd, uint64_t off, const struct iovec *iov, int niov, bool write)
{
	UNINITIALIZED struct iovec piece[IOV_PIECE];
	int ret = 0;

	for (int i = 0; i < niov && !ret; i += IOV_PIECE) {
		int take = MIN(niov - i, IOV_PIECE);

		memcpy(piece, iov + i, take * sizeof(*iov));
		ret = transfer(fd, piece, take, off, write);
		off += iov_bytes(iov + i, take);
	}
	return ret;
}

/* Through a bounce buffer, whole blocks, at most 1 MiB at a time. */
static int bounced(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len,
		   bool write)
{
	uint32_t align = n->request_align;
	uint64_t size = ALIGN_UP(MIN(len, MiB), (uint64_t)align) + 2 * align, pos = 0;
	struct iovec one;
	void *buf;
	int ret = 0;

	if (posix_memalign(&buf, MAX(align, 4096u), size))
		return -ENOMEM;
	while (pos < len && !ret) {
		uint64_t take = MIN(len - pos, MiB), start = ALIGN_DOWN(off + pos, (uint64_t)align);
		uint64_t end = ALIGN_UP(off + pos + take, (uint64_t)align),
			 skip = off + pos - start;
		bool partial = skip || end != off + pos + take;

		one = (struct iovec){ buf, end - start };
		if (!write || partial)
			ret = transfer(n->fd, &one, 1, start, false);
		if (!ret && write) {
			iov_to_buf(iov, niov, pos, (char *)buf + skip, take);
			one = (struct iovec){ buf, end - start };
			ret = transfer(n->fd, &one, 1, start, true);
		} else if (!ret) {
			iov_from_buf(iov, niov, pos, (char *)buf + skip, take);
		}
		pos += take;
	}
	free(buf);
	return ret;
}

static bool direct_ok(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len)
{
	uint32_t align = n->request_align;

	return align == 1 || (!((off | len) & (align - 1)) && iov_aligned(iov, niov, align));
}

static int file_read(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len)
{
	if (!direct_ok(n, off, iov, niov, len))
		return bounced(n, off, iov, niov, len, false);
	return transfer_all(n->fd, off, iov, niov, false);
}

static int file_write(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len,
		      unsigned flags)
{
	struct file *f = n->priv;
	uint64_t align = n->request_align, was = __atomic_load_n(&n->size, __ATOMIC_RELAXED);
	struct range r;
	int ret;

	if (align == 1) {
		ret = transfer_all(n->fd, off, iov, niov, true);
	} else if (direct_ok(n, off, iov, niov, len)) {
		range_begin(f, &r, off, off + len, false);
		ret = transfer_all(n->fd, off, iov, niov, true);
		range_end(f, &r);
	} else {
		range_begin(f, &r, ALIGN_DOWN(off, align), ALIGN_UP(off + len, align), true);
		ret = bounced(n, off, iov, niov, len, true);
		/* The last block was written whole: cut off what is beyond the data. */
		if (!ret && !f->blockdev && off + len > was && ((off + len) & (align - 1)) &&
		    off + len > n->size && ftruncate(n->fd, off + len) < 0)
			ret = -errno;
		range_end(f, &r);
	}
	if (!ret)
		size_grow(n, off + len);
	return ret;
}

static int file_copy_from(struct node *n, uint64_t off, int fd, uint64_t fd_off, uint64_t len)
{
	off_t from = fd_off, to = off;

	if (n->request_align > 1)
		return -ENOTSUP;
	while (len) {
		ssize_t done = copy_file_range(fd, &from, n->fd, &to, len, 0);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)		/* writing says better what is wrong, if anything is */
			return -ENOTSUP;
		len -= done;
	}
	size_grow(n, to);
	return 0;
}

static int file_fallocate(struct node *n, int mode, uint64_t off, uint64_t len)
{
	int ret;

	do {
		ret = fallocate(n->fd, mode, off, len);
	} while (ret < 0 && errno == EINTR);
	if (ret == 0)
		return 0;
	/*
	 * EINVAL: a block device with an unaligned range; ENODEV, ENOSYS: no such operation here.
	 */
	return errno == EOPNOTSUPP || errno == EINVAL || errno == ENODEV || errno == ENOSYS
		       ? -ENOTSUP
		       : -errno;
}

static int file_zeroes(struct node *n, uint64_t off, uint64_t len, unsigned flags)
{
	struct file *f = n->priv;
	uint64_t size = __atomic_load_n(&n->size, __ATOMIC_RELAXED), inside;
	struct range r;
	int ret;

	range_begin(f, &r, ALIGN_DOWN(off, (uint64_t)n->request_align),
		    ALIGN_UP(off + len, (uint64_t)n->request_align), true);
	inside = off < size ? MIN(len, size - off) : 0;
	ret = -ENOTSUP;
	if (flags & BLK_UNMAP)
		ret = inside ? file_fallocate(n, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off,
					      inside)
			     : 0;
	if (ret == -ENOTSUP && inside)
		ret = file_fallocate(n, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, off, inside);
	else if (!inside)
		ret = 0;
	if (!ret && off + len > size) {
		if (f->blockdev)
			ret = -ENOSPC;
		else if (ftruncate(n->fd, off + len) < 0)
			ret = -errno;
		else
			size_grow(n, off + len);
	}
	range_end(f, &r);
	return ret;
}

static int file_discard(struct node *n, uint64_t off, uint64_t len)
{
	int ret = file_fallocate(n, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len);

	return ret == -ENOTSUP ? 0 : ret;
}

static int file_flush(struct node *n)
{
	struct file *f = n->priv;
	int ret = __atomic_load_n(&f->flush_error, __ATOMIC_RELAXED);

	if (ret)
		return ret;
	do {
		ret = fdatasync(n->fd);
	} while (ret < 0 && errno == EINTR);
	if (ret == 0 || errno == EROFS || errno == EINVAL)
		return 0;
	ret = -errno;
	log_error("'%s': the host could not write data that it had taken before: %s; what was "
		  "written since the last flush may be lost",
		  n->filename, strerror(-ret));
	if (ret != -ENOSPC && ret != -EDQUOT)
		__atomic_store_n(&f->flush_error, ret, __ATOMIC_RELAXED);
	return ret;
}

static int file_extent(struct node *n, uint64_t off, uint64_t len, struct extent *e)
{
	off_t data, hole;

	*e = (struct extent){ .len = len,
			      .flags = EXT_DATA | EXT_ALLOCATED | EXT_OFFSET,
			      .file = n,
			      .file_off = off };
	data = lseek(n->fd, off, SEEK_DATA);
	if (data < 0) {
		if (errno == ENXIO)		/* a hole up to the end */
			e->flags = EXT_ZERO | EXT_ALLOCATED | EXT_OFFSET;
		return 0;
	}
	if ((uint64_t)data > off) {
		e->flags = EXT_ZERO | EXT_ALLOCATED | EXT_OFFSET;
		e->len = MIN(len, (uint64_t)data - off);
		return 0;
	}
	hole = lseek(n->fd, off, SEEK_HOLE);
	if (hole > 0 && (uint64_t)hole > off)
		e->len = MIN(len, (uint64_t)hole - off);
	return 0;
}

static int file_plain(struct node *n, uint64_t off, uint64_t len, bool write, int *fd,
		      uint64_t *fd_off, uintptr_t *cookie)
{
	struct range *r;

	if (!range_ok(off, len, __atomic_load_n(&n->size, __ATOMIC_RELAXED)))
		return -EAGAIN;
	*cookie = 0;
	if (write && n->request_align > 1) {
		r = malloc(sizeof(*r));
		if (!r || !range_try(n->priv, r, off, off + len)) {
			free(r);
			return -EAGAIN;
		}
		*cookie = (uintptr_t)r;
	}
	*fd = n->fd;
	*fd_off = off;
	return 0;
}

static void file_plain_done(struct node *n, uintptr_t cookie)
{
	if (cookie) {
		range_end(n->priv, (struct range *)cookie);
		free((void *)cookie);
	}
}

static int file_resize(struct node *n, uint64_t size, struct err *err)
{
	struct file *f = n->priv;

	if (f->blockdev) {
		if (size <= n->size)
			return 0;
		return err_set(err, ENOSPC,
			       "'%s' is a block device of %llu bytes; enlarge the device first",
			       n->filename, (unsigned long long)n->size);
	}
	if (ftruncate(n->fd, size) < 0)
		return err_set(err, errno, "'%s': cannot resize to %llu bytes: %s", n->filename,
			       (unsigned long long)size, strerror(errno));
	__atomic_store_n(&n->size, size, __ATOMIC_RELAXED);
	return 0;
}

static int file_preallocate(struct node *n, uint64_t off, uint64_t len, const char *mode,
			    struct err *err)
{
	int ret;

	if (!strcmp(mode, "falloc")) {
		ret = len ? -posix_fallocate(n->fd, off, len) : 0;
	} else {
		static const char zeros[64 * 1024];

		for (ret = 0; len && !ret;
		     off += MIN(len, sizeof(zeros)), len -= MIN(len, sizeof(zeros)))
			ret = pwrite_full(n->fd, zeros, MIN(len, sizeof(zeros)), off);
		size_grow(n, off);
	}
	if (ret)
		return err_set(err, -ret, "'%s': cannot allocate its space: %s", n->filename,
			       strerror(-ret));
	size_grow(n, off + len);
	return 0;
}

const struct node_ops file_ops = {
	.format = "file",
	.open = file_open,
	.close = file_close,
	.read = file_read,
	.write = file_write,
	.copy_from = file_copy_from,
	.zeroes = file_zeroes,
	.discard = file_discard,
	.flush = file_flush,
	.extent = file_extent,
	.plain = file_plain,
	.plain_done = file_plain_done,
	.resize = file_resize,
	.reopen = file_reopen,
	.inactivate = file_inactivate,
	.activate = file_activate,
	.preallocate = file_preallocate,
};

struct node *node_create_file(const char *filename, uint64_t size, const struct host *host,
			      struct err *err)
{
	struct node *n;
	int fd;

	for (int i = 0; node_protocols[i]; i++)
		if (node_protocols[i]->match && node_protocols[i]->match(filename)) {
			/* A server's export cannot be made here, only used. */
			n = node_open_file(filename, BLK_RDWR, host, err);
			if (n && n->size < size) {
				err_set(err, ENOSPC, "'%s' has %llu bytes, %llu are needed",
					filename, (unsigned long long)n->size,
					(unsigned long long)size);
				node_unref(n);
				n = NULL;
			}
			return n;
		}
	if (protocol_refuse(filename, true, err))
		return NULL;
	n = node_new(&file_ops, filename, NULL, BLK_RDWR);
	node_set_host(n, host);
	fd = host_open(n->host, "new disk image", file_path(filename), O_RDWR | O_CREAT, 0644,
		       err);
	if (fd < 0) {
		err_set(err, -fd, "Could not create '%s': %s", filename, strerror(-fd));
		goto fail;
	}
	/* The lock comes before the first byte changes. */
	if (file_attach(n, fd, err))
		goto fail;
	if (((struct file *)n->priv)->blockdev ? n->size < size
					       : ftruncate(fd, 0) < 0 || ftruncate(fd, size) < 0) {
		int e = ((struct file *)n->priv)->blockdev ? ENOSPC : errno;

		err_set(err, e, "'%s': cannot give it %llu bytes: %s", filename,
			(unsigned long long)size, strerror(e));
		goto fail;
	}
	if (!((struct file *)n->priv)->blockdev)
		n->size = size;
	/* Whoever makes a data file names it; the image that has its name is opened next. */
	host_allow_file(n->host, file_path(filename));
	return n;
fail:
	node_unref(n);
	return NULL;
}
