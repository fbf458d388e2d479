/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * p9_impl.h: what the files of the 9P server share. Message numbers and layouts: "9P2000.L" (the
 * diod project's protocol.md) and intro(5).
 */
#ifndef DEVICES_P9_P9_IMPL_H
#define DEVICES_P9_P9_IMPL_H

#include <errno.h>
#include <sys/stat.h>

#include "devices/p9/p9.h"
#include "vmm/base/iov.h"

enum p9_type {
	P9_RLERROR = 7, P9_TSTATFS = 8, P9_TLOPEN = 12, P9_TLCREATE = 14, P9_TSYMLINK = 16,
	P9_TMKNOD = 18, P9_TRENAME = 20,
	P9_TREADLINK = 22, P9_TGETATTR = 24, P9_TSETATTR = 26, P9_TXATTRWALK = 30,
	P9_TXATTRCREATE = 32, P9_TREADDIR = 40,
	P9_TFSYNC = 50, P9_TLOCK = 52, P9_TGETLOCK = 54, P9_TLINK = 70, P9_TMKDIR = 72,
	P9_TRENAMEAT = 74, P9_TUNLINKAT = 76,
	P9_TVERSION = 100, P9_TAUTH = 102, P9_TATTACH = 104, P9_TFLUSH = 108, P9_TWALK = 110,
	P9_TREAD = 116, P9_TWRITE = 118,
	P9_TCLUNK = 120, P9_TREMOVE = 122,
};
#define P9_NOFID 0xffffffffu
#define P9_HEAD 7			/* size[4] type[1] tag[2] */
#define P9_READ_HEAD (P9_HEAD + 4)	/* ... and count[4] of Rread and Rreaddir */
#define P9_WRITE_HEAD (P9_HEAD + 16)	/* Twrite: fid[4] offset[8] count[4] */
#define P9_QID 13
#define P9_WALK_MAX 16
/* a message without data: two extended-attribute-sized strings at most */
#define P9_SMALL (128u << 10)
#define P9_XATTR_MAX 65536
#define P9_MODE_BITS 07777

enum fid_kind { FID_PATH, FID_XATTR_READ, FID_XATTR_WRITE };

struct p9_fid {
	uint32_t num;
	struct p9_fid *next;		/* in its hash chain */
	enum fid_kind kind;
	/* O_PATH | O_NOFOLLOW of the file; the same as open once that is there */
	int path;
	int open;			/* the file opened, or -1 */
	bool stream;			/* `open` is a FIFO */
	bool opaque;			/* a folder that looks empty: another kernel's, or hidden */
	uint64_t dir_pos;		/* where `open`, a folder, is read next */
	char *xattr_name;
	uint8_t *xattr;
	uint64_t xattr_len, xattr_have;
	uint32_t xattr_flags;
};

#define FID_BUCKETS 1024
#define FIDS_MAX (1u << 20)		/* a guest that makes more is told ENFILE */
#define XATTR_BYTES_MAX (16u << 20)
#define DEVS_MAX 4096
#define HIDE_MAX 64

struct p9 {
	char *id;
	bool readonly, pipes;
	/* an eventfd: a waiting request looks again whether it may go on waiting */
	int cancel;
	bool cancelled;			/* atomic */
	uint32_t waiting;		/* atomic: 0x10000 | tag of the request that waits, or 0 */
	uint64_t flushed[1024];		/* atomic: tags whose Tflush is on its way */
	int root, proc;			/* the folder; /proc/self/fd */
	char *root_path;		/* as the kernel spells it */
	struct p9_hide {
		dev_t dev, dir_dev;
		/* of the file when the server was made (0: there was none), of its folder */
		ino_t ino, dir_ino;
		char name[256];		/* in its folder: who replaces a file makes another inode */
	} hide[HIDE_MAX];
	unsigned nhide;
	size_t xattr_bytes;		/* what fids hold */
	dev_t devs[DEVS_MAX];		/* file systems seen; their numbers make qid paths unique */
	unsigned ndevs;
	uint32_t msize;			/* 0: no Tversion yet */
	unsigned nfids;
	int fd_end;			/* descriptors from here on are not for fids */
	struct p9_fid *fids[FID_BUCKETS];
	uint8_t *buf;			/* the request without its data, P9_SMALL bytes */
	uint8_t *reply;			/* P9_MSIZE_MAX bytes */
};

/*
 * A request under way. Reading past its end, or writing past the reply's, is remembered and fails
 * it.
 */
struct p9_msg {
	const uint8_t *p, *end;
	bool short_in;
	uint8_t *r, *r_end;		/* the reply's body so far, its limit */
	const struct iovec *in, *out;	/* for data */
	int nin, nout;
	size_t data_len;		/* bytes of data put into out behind the body (Tread) */
};

uint8_t p9_u8(struct p9_msg *m);
uint32_t p9_u32(struct p9_msg *m);
uint64_t p9_u64(struct p9_msg *m);
/* A string of at most max - 1 bytes without NUL; -errno. */
int p9_str(struct p9_msg *m, char *buf, size_t max);
/* A single name of a folder's entry: not empty, not "." or "..", no slash. */
int p9_name(struct p9_msg *m, char buf[256]);
void p9_put8(struct p9_msg *m, uint8_t v);
void p9_put32(struct p9_msg *m, uint32_t v);
void p9_put64(struct p9_msg *m, uint64_t v);
void p9_put_str(struct p9_msg *m, const char *s, size_t len);
void p9_put_qid(struct p9 *s, struct p9_msg *m, const struct stat *st);

struct p9_fid *p9_fid_get(struct p9 *s, uint32_t num);
/* A new fid; owns path. NULL when the number is taken, or there are too many. */
struct p9_fid *p9_fid_new(struct p9 *s, uint32_t num, int path);
int p9_fid_drop(struct p9 *s, struct p9_fid *f);
/* The request's next word as a fid that names a file; NULL when it is none. */
struct p9_fid *p9_path_fid(struct p9 *s, struct p9_msg *m);
/* ... as a folder something is made in: *ret is 0, -EBADF, or -EACCES for one that looks empty. */
struct p9_fid *p9_dir_fid(struct p9 *s, struct p9_msg *m, int *ret);
/* The folder a file is in now, and its name there; a descriptor or -errno. */
int p9_parent(struct p9 *s, const struct p9_fid *f, char name[256]);
/* Is the file, or the name in that folder, hidden? */
bool p9_hidden(const struct p9 *s, const struct stat *file, const struct stat *dir,
	       const char *name);
/*
 * What the guest must not see it must not unlink, move, open by creating, or put something else
 * over: -EACCES.
 */
int p9_check_hidden(const struct p9 *s, int dir, const char *name);
static inline int p9_sys(int ret) { return ret < 0 ? -errno : 0; }
/* "self/fd/N" for the calls that take a path only; relative to s->proc. */
const char *p9_link(char buf[16], int fd);

/*
 * p9_file.c, p9_dir.c, p9_attr.c: 0 or -errno; reading the request from m, putting the reply's
 * body.
 */
typedef int p9_op(struct p9 *s, struct p9_msg *m);
p9_op p9_statfs, p9_lopen, p9_lcreate, p9_symlink, p9_mknod, p9_rename, p9_readlink, p9_getattr,
	p9_setattr, p9_xattrwalk, p9_xattrcreate, p9_readdir, p9_fsync, p9_lock, p9_getlock,
	p9_link_op, p9_mkdir, p9_renameat, p9_unlinkat, p9_read, p9_write, p9_remove;
/* A clunked Txattrcreate sets the attribute. */
int p9_xattr_store(struct p9 *s, struct p9_fid *f);

#endif
