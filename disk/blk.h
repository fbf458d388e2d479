/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * blk.h: what a device or tool holds of a disk image: the front. Formats and filters are nodes
 * (disk/node.h); the front stays while the tree behind it changes.
 *
 * Threads: a request is submitted on the loop of its blk_queue (lock held) and its done() runs on
 * that loop, exactly once, never inside blk_submit. FLUSH covers every write that has completed
 * before it was submitted.
 */
#ifndef DISK_BLK_H
#define DISK_BLK_H

#include <sys/uio.h>

#include "vmm/base/host.h"
#include "vmm/base/loop.h"
#include "vmm/base/util.h"

struct blk;
struct blk_queue;
struct node;

enum blk_op { BLK_READ, BLK_WRITE, BLK_FLUSH, BLK_DISCARD, BLK_ZEROES };
enum blk_flags {
	BLK_FUA = 1 << 0,		/* this write is durable when it completes */
	BLK_UNMAP = 1 << 1,		/* WRITE ZEROES may deallocate */
};

struct blk_req {
	enum blk_op op;
	unsigned flags;
	uint64_t off, len;		/* bytes; any alignment (the front handles request_align) */
	/* READ, WRITE: sum of lengths == len; stays valid until done */
	const struct iovec *iov;
	int niov;
	void (*done)(struct blk_req *r);
	void *ctx;
	int ret;			/* 0 or -errno, set before done */
	uint64_t id;			/* trace id */
	/* private to disk/ */
	struct blk_queue *q;
	struct blk_req *next;		/* in one list at a time */
	struct node *node;		/* plain() said yes: its plain_done ends the request */
	uintptr_t cookie;
	int fd;				/* where plain() said the bytes are */
	uint64_t fd_off;
	int64_t start;			/* ns */
	struct pool_work { void (*fn)(struct pool_work *w); struct pool_work *next; } work;
};

/* --- opening --- */
enum blk_open_flags {
	BLK_RDWR = 1 << 0,
	BLK_NOCACHE = 1 << 1,		/* O_DIRECT */
	BLK_WRITETHROUGH = 1 << 2,	/* every write is flushed before it completes */
	BLK_UNSAFE = 1 << 3,		/* flush does nothing */
	BLK_SNAPSHOT = 1 << 4,		/* writes go to a temporary unlinked overlay */
	BLK_SHARE = 1 << 5,		/* allow another writer (force-share): info -U */
	BLK_CHECK = 1 << 6,		/* open even when marked corrupt / dirty, for repair */
	BLK_NO_BACKING = 1 << 7,
	/* no lock, no cached metadata, no writes, until blk_activate */
	BLK_INACTIVE = 1 << 8,
	BLK_DISCARD_UNMAP = 1 << 9,	/* discard=unmap: guest discards reach the file */
	BLK_DETECT_ZEROES = 1 << 10,
	BLK_NO_IO = 1 << 11,		/* metadata only (info): no data file is opened */
	/* the caller warns when a writable disk was only guessed to be raw */
	BLK_GUESS_TOLD = 1 << 12,
	/* the caller holds a loop: a lock whose holder cannot be seen is not waited for */
	BLK_NOWAIT = 1 << 13,
};
struct image_name;
struct blk_secret { const char *id, *file; };
struct blk_options {
	const char *format;		/* NULL: probe */
	unsigned flags;
	const struct host *host;	/* NULL: host_direct */
	uint64_t l2_cache_size;		/* 0: default */
	const char *secret_file;	/* passphrase, for encrypted images; may be "/dev/fd/N" */
	/* those a json: name may ask for by id; ends with id NULL. NULL: none */
	const struct blk_secret *secrets;
	const char *tmpdir;		/* for BLK_SNAPSHOT */
	/* What a json: name said of the layer it names; for the formats, not for those who open. */
	const struct image_name *said;
};
/*
 * NULL with the reason (names the holder when locked). May block: not on the main loop once the
 * guest runs.
 */
struct blk *blk_open(const char *filename, const struct blk_options *o, struct err *err);
/* Drains, flushes, releases. Returns the first error a flush gave. */
int blk_close(struct blk *b);

/* --- properties --- */
uint64_t blk_size(struct blk *b);
bool blk_readonly(struct blk *b);
const char *blk_filename(struct blk *b);
const char *blk_format(struct blk *b);
struct node *blk_root(struct blk *b);
/* A front for a node that is open already (tests, jobs); takes over the reference. */
struct blk *blk_new(struct node *root, const struct blk_options *o);
/*
 * Puts another root behind the front, while drained (an overlay, a filter). Takes over the new
 * reference, drops the old.
 */
void blk_set_root(struct blk *b, struct node *root);
/*
 * From now on writes go to the existing image filename (qcow2 with this disk as its backing file),
 * or to a new one.
 */
int blk_overlay(struct blk *b, const char *filename, const char *format, bool existing,
		struct err *err);
/* Takes back a blk_overlay that nothing was written to, while drained since before it. */
void blk_drop_overlay(struct blk *b);
/* Tell the device that size or medium changed (any thread; runs on the loop given). */
void blk_on_change(struct blk *b, struct loop *l, void (*fn)(void *ctx), void *ctx);
void blk_off_change(struct blk *b, void (*fn)(void *ctx), void *ctx);

/* --- asynchronous requests --- */
/* One for each loop that submits. Free only when it has nothing in flight. */
struct blk_queue *blk_queue_new(struct blk *b, struct loop *l);
void blk_queue_free(struct blk_queue *q);
/*
 * fn runs on the loop after each batch of done()s: what they have in common (one interrupt) is done
 * once. A queue that has it also runs done() inside the outermost blk_unplug, for what was finished
 * by then.
 */
void blk_queue_on_batch(struct blk_queue *q, void (*fn)(void *ctx), void *ctx);
void blk_submit(struct blk_queue *q, struct blk_req *r);
/* Around a batch: submissions are handed to the kernel at the unplug. Nests. */
void blk_plug(struct blk_queue *q);
void blk_unplug(struct blk_queue *q);

/* --- synchronous, for tools, loaders, jobs; not on a loop that must not block --- */
int blk_request(struct blk *b, enum blk_op op, unsigned flags, void *buf, uint64_t off,
		uint64_t len);
static inline int blk_pread(struct blk *b, void *buf, uint64_t len, uint64_t off)
{
	return blk_request(b, BLK_READ, 0, buf, off, len);
}
static inline int blk_pwrite(struct blk *b, const void *buf, uint64_t len, uint64_t off,
			     unsigned flags)
{
	return blk_request(b, BLK_WRITE, flags, (void *)buf, off, len);
}
static inline int blk_pzero(struct blk *b, uint64_t off, uint64_t len, unsigned flags)
{
	return blk_request(b, BLK_ZEROES, flags, NULL, off, len);
}
static inline int blk_pdiscard(struct blk *b, uint64_t off, uint64_t len)
{
	return blk_request(b, BLK_DISCARD, 0, NULL, off, len);
}
static inline int blk_flush(struct blk *b)
{
	return blk_request(b, BLK_FLUSH, 0, NULL, 0, 0);
}
int blk_resize(struct blk *b, uint64_t size, bool shrink, struct err *err);

/* --- draining: no new request reaches the nodes, and those in flight have ended. Nests. --- */
/* blocks until drained; a thread that holds no loop lock, or exclusive owner */
void blk_drain_begin(struct blk *b);
void blk_drain_end(struct blk *b);
/*
 * Give up lock and caches / take them again and re-read everything (migration, pause for a copy). 0
 * or -errno.
 */
int blk_inactivate(struct blk *b, struct err *err);
int blk_activate(struct blk *b, struct err *err);
bool blk_is_inactive(const struct blk *b);

/* --- error policy and throttle --- */
enum blk_on_error { BLK_ERR_REPORT, BLK_ERR_IGNORE, BLK_ERR_STOP, BLK_ERR_ENOSPC };
void blk_set_on_error(struct blk *b, enum blk_on_error rerror, enum blk_on_error werror);
/*
 * Who owns the machine is told of each failed request, on the request's loop, and stops it for
 * BLK_ERR_STOP (asynchronously). Without such an owner nothing is ever stopped: STOP becomes
 * REPORT. Set once, before the first request.
 */
void blk_on_io_error(struct blk *b,
		     void (*fn)(void *ctx, const struct blk_req *r, enum blk_on_error action),
		     void *ctx);
/*
 * What the device does with a failed request: REPORT it to the guest, IGNORE it, or keep it (STOP):
 * the machine is being stopped, and the request is tried again when it resumes. Tells the owner and
 * the log, where the device is called who. Once for each failure.
 */
enum blk_on_error blk_error_action(struct blk *b, const struct blk_req *r, const char *who);
enum blk_limit_kind { LIMIT_BPS, LIMIT_BPS_RD, LIMIT_BPS_WR, LIMIT_IOPS, LIMIT_IOPS_RD,
                      LIMIT_IOPS_WR, LIMITS };
/* "bps", "iops_rd": by these people and programs set them */
extern const char *const blk_limit_names[LIMITS];
struct blk_limit {
	uint64_t rate;		/* bytes or requests a second in the long run; 0: no limit */
	/* in a burst, a second; 0: a tenth of a second's worth at once, and no more */
	uint64_t max;
	/*
	 * how many seconds a burst may last after a long rest; 0: 1, and that second's worth may
	 * come at once
	 */
	uint64_t length;
};
struct blk_throttle {
	struct blk_limit limit[LIMITS];
	uint64_t iops_size;	/* a request of more bytes counts as several; 0: each as one */
};
#define BLK_LIMIT_MAX 1000000000000000ull
/* Whether the limits go together: 0 or -EINVAL with the reason. */
int blk_throttle_check(const struct blk_throttle *t, struct err *err);
/* t has passed blk_throttle_check. Any thread. */
void blk_set_throttle(struct blk *b, const struct blk_throttle *t);
void blk_get_throttle(struct blk *b, struct blk_throttle *t);

struct blk_stats {
	uint64_t bytes[2], ops[2], failed[2];		/* BLK_READ, BLK_WRITE */
	uint64_t flush_ops, discard_ops, zeroes_ops, failed_flush, failed_discard;
	uint64_t discard_bytes;
	uint64_t ns[2], flush_ns, discard_ns;
	uint64_t highest;				/* highest offset written */
};
void blk_get_stats(struct blk *b, struct blk_stats *s);

#endif
