/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * p9.c: the 9P2000.L server's core: messages, fids, walking, attaching. The other operations are in
 * p9_file.c, p9_dir.c and p9_attr.c. A thread that may block, one at a time.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/p9/p9_impl.h"
#include "vmm/base/fds.h"
#include "vmm/base/log.h"

/* --- messages: little endian --- */

static const uint8_t *take(struct p9_msg *m, size_t n)
{
	static const uint8_t zeros[8];
	const uint8_t *p = m->p;

	if ((size_t)(m->end - m->p) < n) {
		m->short_in = true;
		return zeros;
	}
	m->p += n;
	return p;
}

uint8_t p9_u8(struct p9_msg *m) { return *take(m, 1); }
static uint16_t p9_u16(struct p9_msg *m) { return ld_le16(take(m, 2)); }
uint32_t p9_u32(struct p9_msg *m) { return ld_le32(take(m, 4)); }
uint64_t p9_u64(struct p9_msg *m) { return ld_le64(take(m, 8)); }

int p9_str(struct p9_msg *m, char *buf, size_t max)
{
	size_t len = p9_u16(m);

	if (m->short_in || (size_t)(m->end - m->p) < len) {
		m->short_in = true;
		return -EPROTO;
	}
	if (len >= max)
		return -ENAMETOOLONG;
	memcpy(buf, m->p, len);
	buf[len] = 0;
	m->p += len;
	return memchr(buf, 0, len) ? -EINVAL : 0;
}

int p9_name(struct p9_msg *m, char buf[256])
{
	int ret = p9_str(m, buf, 256);

	if (ret < 0)
		return ret;
	if (!*buf)
		return -ENOENT;
	return strchr(buf, '/') || !strcmp(buf, ".") || !strcmp(buf, "..") ? -EINVAL : 0;
}

static uint8_t *room(struct p9_msg *m, size_t n)
{
	static _Thread_local uint8_t nowhere[8];
	uint8_t *r = m->r;

	if (!r || (size_t)(m->r_end - r) < n) {
		m->r = NULL;			/* checked once, at the end */
		return nowhere;
	}
	m->r += n;
	return r;
}

void p9_put8(struct p9_msg *m, uint8_t v) { *room(m, 1) = v; }
static void p9_put16(struct p9_msg *m, uint16_t v) { st_le16(room(m, 2), v); }
void p9_put32(struct p9_msg *m, uint32_t v) { st_le32(room(m, 4), v); }
void p9_put64(struct p9_msg *m, uint64_t v) { st_le64(room(m, 8), v); }

void p9_put_str(struct p9_msg *m, const char *s, size_t len)
{
	uint8_t *to;

	p9_put16(m, len);
	if (!len || !m->r)
		return;
	to = room(m, len);
	if (m->r)
		memcpy(to, s, len);
}

/* Inode numbers are unique in one file system; the tree may hold several. */
static uint64_t qid_path(struct p9 *s, dev_t dev, ino_t ino)
{
	unsigned i;

	for (i = 0; i < s->ndevs && s->devs[i] != dev; i++)
		;
	if (i == s->ndevs) {
		if (s->ndevs < DEVS_MAX)
			s->devs[s->ndevs++] = dev;
		else
			i = DEVS_MAX - 1;
	}
	return (uint64_t)i << 52 ^ ino;
}

void p9_put_qid(struct p9 *s, struct p9_msg *m, const struct stat *st)
{
	p9_put8(m, S_ISDIR(st->st_mode) ? 0x80 : S_ISLNK(st->st_mode) ? 0x02 : 0);
	/* The version is what a caching client compares: it changes with the contents. */
	p9_put32(m, st->st_mtim.tv_sec ^ st->st_mtim.tv_nsec << 8 ^ st->st_size);
	p9_put64(m, qid_path(s, st->st_dev, st->st_ino));
}

/* --- fids --- */

struct p9_fid *p9_fid_get(struct p9 *s, uint32_t num)
{
	struct p9_fid *f = s->fids[num % FID_BUCKETS];

	while (f && f->num != num)
		f = f->next;
	return f;
}

struct p9_fid *p9_fid_new(struct p9 *s, uint32_t num, int path)
{
	struct p9_fid *f;

	if (num == P9_NOFID || s->nfids >= FIDS_MAX || path >= s->fd_end || p9_fid_get(s, num))
		return NULL;
	f = xcalloc(1, sizeof(*f));
	f->num = num;
	f->path = path;
	f->open = -1;
	f->next = s->fids[num % FID_BUCKETS];
	s->fids[num % FID_BUCKETS] = f;
	__atomic_add_fetch(&s->nfids, 1, __ATOMIC_RELAXED);
	return f;
}

int p9_fid_drop(struct p9 *s, struct p9_fid *f)
{
	struct p9_fid **p = &s->fids[f->num % FID_BUCKETS];
	int ret = 0;

	while (*p != f)
		p = &(*p)->next;
	*p = f->next;
	if (f->kind == FID_XATTR_WRITE)
		ret = p9_xattr_store(s, f);
	if (f->open >= 0 && f->open != f->path)
		close(f->open);
	if (f->path >= 0)
		close(f->path);
	if (f->xattr)
		s->xattr_bytes -= f->xattr_len;
	free(f->xattr_name);
	free(f->xattr);
	free(f);
	__atomic_sub_fetch(&s->nfids, 1, __ATOMIC_RELAXED);
	return ret;
}

void p9_reset(struct p9 *s)
{
	for (unsigned i = 0; i < FID_BUCKETS; i++) {
		while (s->fids[i]) {
			/* What was not clunked was not finished either. */
			s->fids[i]->kind = FID_PATH;
			p9_fid_drop(s, s->fids[i]);
		}
	}
	s->msize = 0;
	memset(s->flushed, 0, sizeof(s->flushed));
}

static void look_again(struct p9 *s)
{
	uint64_t one = 1;

	if (write(s->cancel, &one, sizeof(one)) < 0)
		log_debug("%s: woken often", s->id);
}

void p9_cancel(struct p9 *s, bool on)
{
	__atomic_store_n(&s->cancelled, on, __ATOMIC_SEQ_CST);
	if (on)
		look_again(s);
}

/* Its bit first, then a look who waits; the waiting one does it the other way round (p9_file.c). */
void p9_flush(struct p9 *s, uint16_t tag)
{
	__atomic_fetch_or(&s->flushed[tag / 64], 1ull << tag % 64, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&s->waiting, __ATOMIC_SEQ_CST) == (0x10000u | tag))
		look_again(s);
}

unsigned p9_fids(const struct p9 *s)
{
	return __atomic_load_n(&s->nfids, __ATOMIC_RELAXED);
}

struct p9_fid *p9_path_fid(struct p9 *s, struct p9_msg *m)
{
	struct p9_fid *f = p9_fid_get(s, p9_u32(m));

	return f && f->kind == FID_PATH ? f : NULL;
}

struct p9_fid *p9_dir_fid(struct p9 *s, struct p9_msg *m, int *ret)
{
	struct p9_fid *f = p9_path_fid(s, m);

	*ret = !f ? -EBADF : f->opaque ? -EACCES : 0;
	return f;
}

/* --- names --- */

bool p9_hidden(const struct p9 *s, const struct stat *file, const struct stat *dir,
	       const char *name)
{
	for (const struct p9_hide *h = s->hide; h < s->hide + s->nhide; h++)
		if ((h->ino && h->ino == file->st_ino && h->dev == file->st_dev) ||
		    (h->dir_ino == dir->st_ino && h->dir_dev == dir->st_dev &&
		     !strcmp(h->name, name)))
			return true;
	return false;
}

int p9_check_hidden(const struct p9 *s, int dir, const char *name)
{
	struct stat st = { 0 }, up;

	if (!s->nhide)
		return 0;
	if (fstat(dir, &up) < 0)
		return -errno;
	/* not there: its name still counts */
	(void)!fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW);
	return p9_hidden(s, &st, &up, name) ? -EACCES : 0;
}

const char *p9_link(char buf[16], int fd)
{
	snprintf(buf, 16, "%d", fd);
	return buf;
}

static int open_beneath(int dir, const char *path, int flags)
{
	struct open_how how = { .flags = flags | O_CLOEXEC | O_NOFOLLOW,
				.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
					   RESOLVE_NO_MAGICLINKS };
	int fd;

	do
		fd = syscall(SYS_openat2, dir, path, &how, sizeof(how));
	while (fd < 0 && (errno == EINTR || errno == EAGAIN));
	return fd < 0 ? -errno : fd;
}

/* File systems whose files are doors into this kernel or this process. */
static bool is_kernel_fs(int fd)
{
	struct statfs sf;

	if (fstatfs(fd, &sf) < 0)
		return true;
	switch ((unsigned long)sf.f_type) {
	case PROC_SUPER_MAGIC:
	case SYSFS_MAGIC:
	case DEBUGFS_MAGIC:
	case TRACEFS_MAGIC:
	case SECURITYFS_MAGIC:
	case CGROUP_SUPER_MAGIC:
	case CGROUP2_SUPER_MAGIC:
	case BPF_FS_MAGIC:
	case DEVPTS_SUPER_MAGIC:
	case EFIVARFS_MAGIC:
	case BINFMTFS_MAGIC:
	case PSTOREFS_MAGIC:
	case SELINUX_MAGIC:
	case NSFS_MAGIC:
	case 0x19800202: /* mqueue */ case 0x62656570: /* configfs */ case 0x65735543: /* fusectl */
	case 0x0187: /* autofs */
		return true;
	}
	return false;
}

/*
 * An entry of a folder as O_PATH descriptor, nothing followed, and what it is; -ENOENT for hidden
 * files. *opaque as in the fid.
 */
static int p9_enter(struct p9 *s, const struct p9_fid *dir, const char *name, bool *opaque,
	     struct stat *st)
{
	struct stat up;
	int fd;

	if (dir->opaque)
		return -ENOENT;
	fd = open_beneath(dir->path, name, O_PATH);
	if (fd < 0)
		return fd == -EXDEV ? -ENOENT : fd;
	if (fstat(fd, st) < 0 || fstat(dir->path, &up) < 0) {
		int e = errno;

		close(fd);
		return -e;
	}
	*opaque = p9_hidden(s, st, &up, name) || (st->st_dev != up.st_dev && is_kernel_fs(fd));
	if (*opaque && !S_ISDIR(st->st_mode)) {
		close(fd);
		return -ENOENT;
	}
	return fd;
}

int p9_parent(struct p9 *s, const struct p9_fid *f, char name[256])
{
	char link[16], path[4096], *rest, *slash;
	size_t root_len = strlen(s->root_path);
	ssize_t n = readlinkat(s->proc, p9_link(link, f->path), path, sizeof(path) - 1);
	struct stat a, b;
	int fd;

	if (n < 0)
		return -errno;
	path[n] = 0;
	if (root_len == 1)
		root_len = 0;			/* "/" */
	if (strncmp(path, s->root_path, root_len) || path[root_len] != '/')
		return -ENOENT;			/* the root itself, or removed, or moved away */
	rest = path + root_len + 1;
	slash = strrchr(rest, '/');
	snprintf(name, 256, "%s", slash ? slash + 1 : rest);
	if (slash)
		*slash = 0;
	fd = open_beneath(s->root, slash ? rest : ".", O_PATH | O_DIRECTORY);
	if (fd < 0)
		return fd;
	/* The text was only a hint: the file has to be there. */
	if (fstatat(fd, name, &a, AT_SYMLINK_NOFOLLOW) < 0 || fstat(f->path, &b) < 0 ||
	    a.st_ino != b.st_ino || a.st_dev != b.st_dev) {
		close(fd);
		return -ENOENT;
	}
	return fd;
}

/* --- the operations that make and end fids --- */

static int op_version(struct p9 *s, struct p9_msg *m)
{
	uint32_t msize = p9_u32(m);
	char version[32];
	bool known;

	if (p9_str(m, version, sizeof(version)) < 0)
		return -EINVAL;
	p9_reset(s);
	known = !strcmp(version, "9P2000.L") && msize >= P9_MSIZE_MIN;
	s->msize = MIN(msize, P9_MSIZE_MAX);
	p9_put32(m, s->msize);
	p9_put_str(m, known ? "9P2000.L" : "unknown", known ? 8 : 7);
	if (!known)
		s->msize = 0;
	return 0;
}

static int op_auth(struct p9 *s, struct p9_msg *m)
{
	return -ENOENT;				/* none is needed */
}

static int op_attach(struct p9 *s, struct p9_msg *m)
{
	uint32_t num = p9_u32(m);
	struct stat st;
	int fd;

	if (m->short_in || p9_fid_get(s, num) || num == P9_NOFID)
		return -EINVAL;
	fd = fcntl(s->root, F_DUPFD_CLOEXEC, 3);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!p9_fid_new(s, num, fd)) {
		close(fd);
		return -ENFILE;
	}
	p9_put_qid(s, m, &st);
	return 0;
}

/* One step: replaces *at, whose descriptor is closed unless it is `keep`; what is there now. */
static int walk_step(struct p9 *s, struct p9_fid *at, const char *name, int keep, struct stat *st)
{
	bool opaque = false;
	char last[256];
	struct stat root;
	int fd;

	if (!strcmp(name, ".."))  {
		if (fstat(at->path, st) < 0 || fstat(s->root, &root) < 0)
			return -errno;
		if (st->st_ino == root.st_ino && st->st_dev == root.st_dev)
			fd = fcntl(at->path, F_DUPFD_CLOEXEC, 3);
		else
			fd = p9_parent(s, at, last);
		if (fd >= 0 && fstat(fd, st) < 0) {
			close(fd);
			return -EIO;
		}
	} else {
		fd = p9_enter(s, at, name, &opaque, st);
	}
	if (fd < 0)
		return fd;
	if (at->path != keep)
		close(at->path);
	at->path = fd;
	at->opaque = opaque;
	return 0;
}

/*
 * The steps of a walk, as far as they go; their qids. The descriptor reached is from's own when no
 * step was done.
 */
static unsigned walk_steps(struct p9 *s, struct p9_msg *m, const struct p9_fid *from, unsigned n,
			   struct p9_fid *at, int *ret)
{
	uint8_t *count = room(m, 2);
	unsigned done = 0;
	char name[256];
	struct stat st;

	*at = *from;
	for (*ret = 0; done < n; done++) {
		*ret = p9_str(m, name, sizeof(name));
		if (*ret == 0 && (!*name || strchr(name, '/') || !strcmp(name, ".")))
			*ret = -ENOENT;
		if (*ret == 0)
			*ret = walk_step(s, at, name, from->path, &st);
		if (*ret < 0)
			break;
		p9_put_qid(s, m, &st);
	}
	if (m->r)
		st_le16(count, done);
	return done;
}

/*
 * Another descriptor of the same file. An open one's copy would keep its locks, which must end with
 * it.
 */
static int another(struct p9 *s, const struct p9_fid *f)
{
	char link[16];

	return f->open < 0 ? fcntl(f->path, F_DUPFD_CLOEXEC, 3)
			   : openat(s->proc, p9_link(link, f->path), O_PATH | O_CLOEXEC);
}

static int op_walk(struct p9 *s, struct p9_msg *m)
{
	struct p9_fid *from = p9_fid_get(s, p9_u32(m)), at, *to;
	uint32_t num = p9_u32(m);
	unsigned n = p9_u16(m), done;
	int ret;

	if (m->short_in || n > P9_WALK_MAX)
		return -EINVAL;
	if (!from || from->kind != FID_PATH)
		return -EBADF;
	if (from->open >= 0 && n)
		return -EINVAL;
	if (num != from->num && (num == P9_NOFID || p9_fid_get(s, num)))
		return -EINVAL;
	done = walk_steps(s, m, from, n, &at, &ret);
	if (done < n) {
		if (at.path != from->path)
			close(at.path);
		/* as far as it went; no fid is made */
		return done ? 0 : ret == -EMFILE ? -ENFILE : ret;
	}
	if (num == from->num) {
		if (at.path != from->path)
			close(from->path);
		from->path = at.path;
		from->opaque = at.opaque;
		return 0;
	}
	if (at.path == from->path)
		at.path = another(s, from);
	to = at.path < 0 ? NULL : p9_fid_new(s, num, at.path);
	if (!to) {
		if (at.path >= 0)
			close(at.path);
		return -ENFILE;
	}
	to->opaque = at.opaque;
	return 0;
}

static int op_clunk(struct p9 *s, struct p9_msg *m)
{
	struct p9_fid *f = p9_fid_get(s, p9_u32(m));

	return f ? p9_fid_drop(s, f) : -EBADF;
}

/*
 * Requests are carried out one after the other: the one to flush has been answered, if it had to
 * wait because of p9_flush.
 */
static int op_flush(struct p9 *s, struct p9_msg *m)
{
	uint16_t tag = p9_u16(m);

	__atomic_fetch_and(&s->flushed[tag / 64], ~(1ull << tag % 64), __ATOMIC_SEQ_CST);
	return 0;
}

static const struct { p9_op *op; bool writes; const char *name;
} ops[256] = {
	[P9_TVERSION] = { op_version, false, "version" },
	[P9_TAUTH] = { op_auth, false, "auth" },
	[P9_TATTACH] = { op_attach, false, "attach" },
	[P9_TFLUSH] = { op_flush, false, "flush" },
	[P9_TWALK] = { op_walk, false, "walk" },
	[P9_TCLUNK] = { op_clunk, false, "clunk" },
	[P9_TSTATFS] = { p9_statfs, false, "statfs" },
	[P9_TLOPEN] = { p9_lopen, false, "lopen" },
	[P9_TLCREATE] = { p9_lcreate, true, "lcreate" },
	[P9_TSYMLINK] = { p9_symlink, true, "symlink" },
	[P9_TMKNOD] = { p9_mknod, true, "mknod" },
	[P9_TRENAME] = { p9_rename, true, "rename" },
	[P9_TREADLINK] = { p9_readlink, false, "readlink" },
	[P9_TGETATTR] = { p9_getattr, false, "getattr" },
	[P9_TSETATTR] = { p9_setattr, true, "setattr" },
	[P9_TXATTRWALK] = { p9_xattrwalk, false, "xattrwalk" },
	[P9_TXATTRCREATE] = { p9_xattrcreate, true, "xattrcreate" },
	[P9_TREADDIR] = { p9_readdir, false, "readdir" },
	[P9_TFSYNC] = { p9_fsync, false, "fsync" },
	[P9_TLOCK] = { p9_lock, false, "lock" },
	[P9_TGETLOCK] = { p9_getlock, false, "getlock" },
	[P9_TLINK] = { p9_link_op, true, "link" },
	[P9_TMKDIR] = { p9_mkdir, true, "mkdir" },
	[P9_TRENAMEAT] = { p9_renameat, true, "renameat" },
	[P9_TUNLINKAT] = { p9_unlinkat, true, "unlinkat" },
	[P9_TREAD] = { p9_read, false, "read" },
	[P9_TWRITE] = { p9_write, true, "write" },
	[P9_TREMOVE] = { p9_remove, true, "remove" },
};

size_t p9_handle(struct p9 *s, const struct iovec *in, int nin, const struct iovec *out, int nout)
{
	uint64_t in_len = iov_bytes(in, nin), out_len = iov_bytes(out, nout);
	struct p9_msg m = { .in = in, .nin = nin, .out = out, .nout = nout };
	uint32_t size, limit;
	uint64_t small;
	uint8_t type;
	int ret;

	if (in_len < P9_HEAD || out_len < P9_HEAD + 4) {
		log_guest("%s: a request of %llu bytes with %llu for the answer", s->id,
			  (unsigned long long)in_len, (unsigned long long)out_len);
		return 0;
	}
	/* Copied once; what is checked is what is used. */
	iov_to_buf(in, nin, 0, s->buf, P9_HEAD);
	size = ld_le32(s->buf);
	type = s->buf[4];
	small = MIN(in_len, (uint64_t)(type == P9_TWRITE ? P9_WRITE_HEAD : P9_SMALL));
	iov_to_buf(in, nin, P9_HEAD, s->buf + P9_HEAD, small - P9_HEAD);
	limit = MIN(s->msize && type != P9_TVERSION ? s->msize : P9_MSIZE_MAX, out_len);
	limit = MAX(limit, (uint32_t)P9_HEAD + 4);
	m.p = s->buf + P9_HEAD;
	m.end = s->buf + MAX(MIN(small, (uint64_t)size), (uint64_t)P9_HEAD);
	m.r = s->reply + P9_HEAD;
	m.r_end = s->reply + limit;
	if (size < P9_HEAD || size > in_len ||
	    (type != P9_TVERSION && (!s->msize || size > s->msize)))
		ret = -EPROTO;
	else if (!ops[type].op)
		ret = -EOPNOTSUPP;
	else if (s->readonly && ops[type].writes)
		ret = -EROFS;
	else
		ret = ops[type].op(s, &m);
	if (ret == 0 && m.short_in)
		ret = -EPROTO;
	if (ret == 0 && !m.r)
		ret = -EMSGSIZE;
	trace(TRACE_VIRTIO, 0, s->id, "9p %s: %s", ops[type].name ? ops[type].name : "unknown",
	      ret ? strerror(-ret) : "done");
	if (ret < 0) {
		m.r = s->reply + P9_HEAD;
		m.data_len = 0;
		p9_put32(&m, -ret);
		type = P9_RLERROR - 1;
	}
	size = m.r - s->reply;
	st_le32(s->reply, size + m.data_len);
	s->reply[4] = type + 1;
	memcpy(s->reply + 5, s->buf + 5, 2);
	return iov_from_buf(out, nout, 0, s->reply, size) + m.data_len;
}

/* --- life --- */

static int add_hidden(struct p9 *s, const struct host *host, const char *path,
		      struct err *err)
{
	struct p9_hide h = { 0 };
	char *dir = xstrdup(path), *slash;
	struct stat st, up;

	while ((slash = strrchr(dir, '/')) && slash > dir && !slash[1])
		*slash = 0;
	if (slash && slash[1])
		snprintf(h.name, sizeof(h.name), "%s", slash + 1);
	if (host_stat(host, dir, &st) == 0) {
		h.dev = st.st_dev;
		h.ino = st.st_ino;
	}
	if (slash)
		slash[slash == dir] = 0;
	if (slash && host_stat(host, dir, &up) == 0) {
		h.dir_dev = up.st_dev;
		h.dir_ino = up.st_ino;
	}
	free(dir);
	if (!h.ino && !h.dir_ino)
		return 0;			/* neither it nor its folder is there */
	if (s->nhide == HIDE_MAX)
		return err_set(err, E2BIG, "more than %d hidden paths", HIDE_MAX);
	s->hide[s->nhide++] = h;
	return 0;
}

struct p9 *p9_new(const struct p9_opts *o, struct err *err)
{
	const struct host *host = o->host ? o->host : &host_door;
	struct p9 *s = xcalloc(1, sizeof(*s));
	char link[16], path[4096];
	struct err why = { "" };
	struct stat st;
	ssize_t n;

	s->id = xstrdup(o->id);
	s->readonly = o->readonly;
	s->pipes = o->pipes;
	s->cancel = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->proc = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	s->root = host_open(host, "shared folder", o->path, O_PATH | O_DIRECTORY, 0, &why);
	s->buf = xcalloc(1, P9_SMALL);
	s->reply = xcalloc(1, P9_MSIZE_MAX);
	if (s->root < 0) {
		err_set(err, -s->root, "%s: cannot share %s: %s", o->id, o->path,
			strerror(-s->root));
		goto fail;
	}
	n = s->proc < 0 ? -1 : readlinkat(s->proc, p9_link(link, s->root), path, sizeof(path) - 1);
	if (n < 0) {
		err_set(err, errno, "%s: sharing a folder needs /proc: %s", o->id, strerror(errno));
		goto fail;
	}
	path[n] = 0;
	s->root_path = xstrdup(path);
	n = open_beneath(s->root, ".", O_PATH);
	if (n < 0) {
		err_set(err, -n,
			"%s: this kernel has no openat2 (Linux 5.6), without which a shared folder "
			"is no safe place: %s",
			o->id, strerror(-n));
		goto fail;
	}
	close(n);
	if (fstat(s->root, &st) == 0)
		s->devs[s->ndevs++] = st.st_dev;
	for (const char *const *h = o->hide; h && *h; h++)
		if (add_hidden(s, host, *h, err) < 0)
			goto fail;
	/* Each file a guest knows costs one: a thousand programs that run, some thousand. */
	s->fd_end = fds_for_guest(FIDS_MAX);
	return s;
fail:
	p9_free(s);
	return NULL;
}

void p9_free(struct p9 *s)
{
	if (!s)
		return;
	p9_reset(s);
	if (s->root >= 0)
		close(s->root);
	if (s->proc >= 0)
		close(s->proc);
	if (s->cancel >= 0)
		close(s->cancel);
	free(s->root_path);
	free(s->buf);
	free(s->reply);
	free(s->id);
	free(s);
}
