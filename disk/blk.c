/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * blk.c: the front: what a device or a tool holds while the tree behind it changes. Synchronous
 * calls, draining, error policy, statistics. The asynchronous side is queue.c. Threads: front.h
 * says how requests and drains see each other.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "disk/front.h"
#include "vmm/base/iov.h"
#include "vmm/base/log.h"

/* --- entering and leaving, draining --- */

bool front_enter(struct blk *b)
{
	__atomic_add_fetch(&b->busy, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&b->drain, __ATOMIC_SEQ_CST) == 0)
		return true;
	front_leave(b);
	return false;
}

/*
 * The last thing a request does with the front. Without a drain nobody waits and the front is not
 * touched again: it may be gone when the count has fallen. With one, the drainer keeps it alive
 * until it has had the lock.
 */
void front_leave(struct blk *b)
{
	if (__atomic_load_n(&b->drain, __ATOMIC_SEQ_CST) == 0 &&
	    __atomic_load_n(&b->busy, __ATOMIC_RELAXED) > 1) {
		unsigned busy = __atomic_load_n(&b->busy, __ATOMIC_RELAXED);

		while (busy > 1)
			if (__atomic_compare_exchange_n(&b->busy, &busy, busy - 1, true,
							__ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
				return;
	}
	pthread_mutex_lock(&b->lock);
	if (__atomic_sub_fetch(&b->busy, 1, __ATOMIC_SEQ_CST) == 0)
		pthread_cond_broadcast(&b->idle);
	pthread_mutex_unlock(&b->lock);
}

/* For the synchronous calls: waits until no drain is in the way. */
static void front_enter_wait(struct blk *b)
{
	while (!front_enter(b)) {
		pthread_mutex_lock(&b->lock);
		while (__atomic_load_n(&b->drain, __ATOMIC_SEQ_CST))
			pthread_cond_wait(&b->idle, &b->lock);
		pthread_mutex_unlock(&b->lock);
	}
}

void blk_drain_begin(struct blk *b)
{
	__atomic_add_fetch(&b->drain, 1, __ATOMIC_SEQ_CST);
	pthread_mutex_lock(&b->lock);
	while (__atomic_load_n(&b->busy, __ATOMIC_SEQ_CST)) {
		struct timespec until;
		bool ring = false;

		/*
		 * Their loops may stand still (exclusive section): take what the kernel has
		 * finished for them.
		 */
		for (struct blk_queue *q = b->queues; q; q = q->next)
			ring |= __atomic_load_n(&q->ring, __ATOMIC_RELAXED) ||
				loop_is_current(q->loop);
		if (!ring) {
			pthread_cond_wait(&b->idle, &b->lock);
			continue;
		}
		for (struct blk_queue *q = b->queues; q; q = q->next) {
			/* It cannot go meanwhile: blk_queue_free waits for those who reap it. */
			q->reaping++;
			pthread_mutex_unlock(&b->lock);
			queue_reap(q);
			pthread_mutex_lock(&b->lock);
			if (--q->reaping == 0)
				pthread_cond_broadcast(&b->idle);
		}
		if (!__atomic_load_n(&b->busy, __ATOMIC_SEQ_CST))
			break;
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += NS_PER_MS;
		if (until.tv_nsec >= NS_PER_SEC) {
			until.tv_sec++;
			until.tv_nsec -= NS_PER_SEC;
		}
		pthread_cond_timedwait(&b->idle, &b->lock, &until);
	}
	pthread_mutex_unlock(&b->lock);
}

void blk_drain_end(struct blk *b)
{
	if (__atomic_sub_fetch(&b->drain, 1, __ATOMIC_SEQ_CST))
		return;
	pthread_mutex_lock(&b->lock);
	pthread_cond_broadcast(&b->idle);
	for (struct blk_queue *q = b->queues; q; q = q->next)
		queue_wake(q);
	pthread_mutex_unlock(&b->lock);
}

/* --- running one request --- */

static int front_check(struct blk *b, enum blk_op op, uint64_t off, uint64_t len)
{
	if (op == BLK_FLUSH)
		return 0;
	if (!range_ok(off, len, b->root->size))
		return -EINVAL;
	if (op != BLK_READ && !(b->root->flags & BLK_RDWR))
		return -EPERM;
	return 0;
}

int front_run(struct blk *b, enum blk_op op, unsigned flags, uint64_t off, const struct iovec *iov,
	      int niov, uint64_t len)
{
	struct node *n = b->root;
	bool unmap = b->flags & BLK_DISCARD_UNMAP;
	int ret = front_check(b, op, off, len);

	if (ret)
		return ret;
	switch (op) {
	case BLK_READ:
		return node_readv(n, off, iov, niov, len);
	case BLK_WRITE:
		if ((b->flags & BLK_DETECT_ZEROES) && iov_is_zero(iov, niov))
			ret = node_zeroes(n, off, len, unmap ? BLK_UNMAP : 0);
		else
			ret = node_writev(n, off, iov, niov, len, 0);
		break;
	case BLK_FLUSH:
		return b->flags & BLK_UNSAFE ? 0 : node_flush(n);
	case BLK_DISCARD:
		return unmap ? node_discard(n, off, len) : 0;
	case BLK_ZEROES:
		ret = node_zeroes(n, off, len, unmap ? flags & BLK_UNMAP : 0);
		break;
	default:
		return -ENOTSUP;
	}
	if (!ret && ((flags & BLK_FUA) || (b->flags & BLK_WRITETHROUGH)) &&
	    !(b->flags & BLK_UNSAFE))
		ret = node_flush(n);
	return ret;
}

void front_account(struct blk *b, enum blk_op op, uint64_t off, uint64_t len, int64_t ns, int ret)
{
	struct blk_stats *s = &b->stats;
	int w = op != BLK_READ;

	if (ret) {
		__atomic_add_fetch(op == BLK_FLUSH     ? &s->failed_flush
				   : op == BLK_DISCARD ? &s->failed_discard
						       : &s->failed[w],
				   1, __ATOMIC_RELAXED);
		return;
	}
	switch (op) {
	case BLK_FLUSH:
		__atomic_add_fetch(&s->flush_ops, 1, __ATOMIC_RELAXED);
		__atomic_add_fetch(&s->flush_ns, ns, __ATOMIC_RELAXED);
		return;
	case BLK_DISCARD:
		__atomic_add_fetch(&s->discard_ops, 1, __ATOMIC_RELAXED);
		__atomic_add_fetch(&s->discard_bytes, len, __ATOMIC_RELAXED);
		__atomic_add_fetch(&s->discard_ns, ns, __ATOMIC_RELAXED);
		return;
	case BLK_ZEROES:
		__atomic_add_fetch(&s->zeroes_ops, 1, __ATOMIC_RELAXED);
		break;
	default:
		__atomic_add_fetch(&s->ops[w], 1, __ATOMIC_RELAXED);
		__atomic_add_fetch(&s->bytes[w], len, __ATOMIC_RELAXED);
		__atomic_add_fetch(&s->ns[w], ns, __ATOMIC_RELAXED);
	}
	if (w) {
		uint64_t high = __atomic_load_n(&s->highest, __ATOMIC_RELAXED);

		while (high < off + len &&
		       !__atomic_compare_exchange_n(&s->highest, &high, off + len, true,
						    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			;
	}
}

int blk_request(struct blk *b, enum blk_op op, unsigned flags, void *buf, uint64_t off,
		uint64_t len)
{
	struct iovec iov = { buf, len };
	int64_t start = now_ns();
	int ret;

	front_enter_wait(b);
	ret = front_run(b, op, flags, off, &iov, 1, len);
	front_account(b, op, off, len, now_ns() - start, ret);
	front_leave(b);
	return ret;
}

/* --- opening and closing --- */

/* With the lock. */
static const char *name_keep(struct blk *b, const char *text)
{
	struct name *n;

	for (n = b->names; n; n = n->next)
		if (!strcmp(n->text, text))
			return n->text;
	n = xcalloc(1, sizeof(*n) + strlen(text) + 1);
	strcpy(n->text, text);
	n->next = b->names;
	b->names = n;
	return n->text;
}

/* After every change of the root: takes over what it says about itself. */
static void front_refresh(struct blk *b)
{
	const struct node *n = b->root, *format = n;

	while (format->ops->filter)
		format = format->file;
	pthread_mutex_lock(&b->lock);
	__atomic_store_n(&b->size, n->size, __ATOMIC_RELAXED);
	__atomic_store_n(&b->align, n->request_align, __ATOMIC_RELAXED);
	__atomic_store_n(&b->readonly, !(n->flags & BLK_RDWR), __ATOMIC_RELAXED);
	__atomic_store_n(&b->filename, name_keep(b, n->filename), __ATOMIC_RELEASE);
	__atomic_store_n(&b->format, name_keep(b, format->ops->format), __ATOMIC_RELEASE);
	pthread_mutex_unlock(&b->lock);
}

struct blk *blk_new(struct node *root, const struct blk_options *o)
{
	struct blk *b = xcalloc(1, sizeof(*b));

	b->root = root;
	if (o)
		b->options = *o;
	b->flags = o ? o->flags : root->flags;
	b->werror = BLK_ERR_ENOSPC;
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->idle, NULL);
	front_refresh(b);
	return b;
}

/*
 * -snapshot: an unnamed file takes the writes; the image below stays as it is. The format layer
 * makes and opens images by name: it is given a host whose every file is a duplicate of this one
 * descriptor.
 */
#define TEMPORARY_NAME "-snapshot's temporary file"

struct temporary {
	struct host host;
	const struct host *below;
	int fd;
};

static int temporary_call(void *ctx, struct host_call *c, struct err *err)
{
	struct temporary *t = ctx;
	int fd;

	if (c->op != HOST_OPEN)
		return t->below->call(t->below->ctx, c, err);
	fd = fcntl(t->fd, F_DUPFD_CLOEXEC, 3);
	/* A tmpfs may not know O_DIRECT: then its pages are the file. */
	if (fd >= 0)
		fcntl(fd, F_SETFL, c->flags & O_DIRECT);
	return fd < 0 ? err_set(err, errno, "%s: %s", c->name, strerror(errno)) : fd;
}

static void temporary_free(struct temporary *t)
{
	if (t && t->fd >= 0)
		close(t->fd);
	free(t);
}

static struct temporary *temporary_new(const struct blk_options *o, struct err *err)
{
	const char *dir = o->tmpdir ? o->tmpdir : getenv("TMPDIR") ? getenv("TMPDIR") : "/var/tmp";
	struct temporary *t = xcalloc(1, sizeof(*t));

	t->below = o->host ? o->host : &host_door;
	t->host = (struct host){ .call = temporary_call, .ctx = t };
	t->fd = host_temporary(t->below, "-snapshot", dir, err);
	if (t->fd >= 0)
		return t;
	err_prefix(err, "-snapshot");
	temporary_free(t);
	return NULL;
}

/* Takes over the reference on base, on failure too. */
static struct node *temporary_overlay(struct node *base, struct temporary *t, unsigned flags,
				      struct err *err)
{
	struct node_create c = { .filename = TEMPORARY_NAME, .size = base->size, .host = &t->host };
	struct blk_options oo = { .format = "qcow2",
				  .flags = BLK_RDWR | BLK_NO_BACKING | BLK_UNSAFE |
					   BLK_DISCARD_UNMAP | (flags & BLK_NOCACHE),
				  .host = &t->host };
	struct node *top = NULL;

	if (node_create("qcow2", &c, err) == 0)
		top = node_open(TEMPORARY_NAME, &oo, err);
	if (top) {
		top->backing = base;
	} else {
		err_prefix(err, "-snapshot");
		node_unref(base);
	}
	return top;
}

struct blk *blk_open(const char *filename, const struct blk_options *o, struct err *err)
{
	static const struct blk_options none;
	struct blk_options oo = o ? *o : none;
	struct temporary *t = NULL;
	struct node *root;
	struct blk *b;

	if (oo.flags & BLK_SNAPSHOT)
		oo.flags &= ~(BLK_RDWR | BLK_SNAPSHOT);
	root = node_open(filename, &oo, err);
	if (root && o && (o->flags & BLK_SNAPSHOT)) {
		oo.flags |= BLK_RDWR | BLK_UNSAFE;
		t = temporary_new(&oo, err);
		if (t)
			root = temporary_overlay(root, t, oo.flags, err);
		else
			node_unref(root);
		if (!t || !root) {
			temporary_free(t);
			return NULL;
		}
	}
	if (!root)
		return NULL;
	b = blk_new(root, &oo);
	b->temporary = t;
	return b;
}

int blk_close(struct blk *b)
{
	int ret;

	if (!b)
		return 0;
	blk_drain_begin(b);
	ret = node_flush(b->root);
	node_unref(b->root);
	while (b->watches) {
		struct change_watch *w = b->watches;

		b->watches = w->next;
		free(w);
	}
	while (b->names) {
		struct name *n = b->names;

		b->names = n->next;
		free(n);
	}
	temporary_free(b->temporary);
	pthread_cond_destroy(&b->idle);
	pthread_mutex_destroy(&b->lock);
	free(b);
	return ret;
}

void blk_set_root(struct blk *b, struct node *root)
{
	struct node *old = b->root;

	b->root = root;
	front_refresh(b);
	node_unref(old);
}

int blk_overlay(struct blk *b, const char *filename, const char *format, bool existing,
		struct err *err)
{
	struct blk_options o = { .format = format ? format : "qcow2",
				 .flags = (b->flags & ~BLK_SNAPSHOT) | BLK_RDWR | BLK_NO_BACKING,
				 .host = b->options.host,
				 .l2_cache_size = b->options.l2_cache_size };
	struct node_create c = { .filename = filename,
				 .size = b->root->size,
				 .backing = b->root->filename,
				 .backing_format = b->root->ops->format,
				 .host = o.host };
	struct node *top;
	int ret = existing ? 0
		  : b->temporary && b->root->host->ctx == b->temporary
			  ? err_set(err, ENOTSUP,
				    "the disk's writes are in a temporary file (-snapshot) that "
				    "has no name for '%s' to refer to",
				    filename)
			  : node_create(o.format, &c, err);

	if (ret)
		return ret;
	top = node_open(filename, &o, err);
	if (!top)
		return -EIO;
	if (top->size < b->root->size && !existing) {
		node_unref(top);
		return err_set(err, EINVAL, "'%s' is smaller than the disk", filename);
	}
	blk_drain_begin(b);
	ret = node_flush(b->root);
	if (ret) {
		err_set(err, -ret, "'%s': cannot write out before the snapshot: %s",
			b->root->filename, strerror(-ret));
		node_unref(top);
	} else {
		/*
		 * The image keeps its write lock until it is closed: a commit may follow. New
		 * writes do not reach it.
		 */
		node_ref(b->root);
		top->backing = b->root;
		blk_set_root(b, top);
	}
	blk_drain_end(b);
	return ret;
}

void blk_drop_overlay(struct blk *b)
{
	node_ref(b->root->backing);
	blk_set_root(b, b->root->backing);
}

bool blk_is_inactive(const struct blk *b)
{
	return b->root->inactive;
}

int blk_inactivate(struct blk *b, struct err *err)
{
	int ret;

	blk_drain_begin(b);
	ret = node_inactivate(b->root, err);
	blk_drain_end(b);
	return ret;
}

int blk_activate(struct blk *b, struct err *err)
{
	int ret;

	blk_drain_begin(b);
	ret = node_activate(b->root, err);
	if (!ret) {		/* what is opened from here on, an overlay say, is active */
		b->flags &= ~(unsigned)BLK_INACTIVE;
		b->options.flags &= ~(unsigned)BLK_INACTIVE;
	}
	front_refresh(b);
	blk_drain_end(b);
	return ret;
}

/* --- properties --- */

uint64_t blk_size(struct blk *b)
{
	return __atomic_load_n(&b->size, __ATOMIC_RELAXED);
}

bool blk_readonly(struct blk *b)
{
	return __atomic_load_n(&b->readonly, __ATOMIC_RELAXED);
}

const char *blk_filename(struct blk *b)
{
	return __atomic_load_n(&b->filename, __ATOMIC_ACQUIRE);
}

const char *blk_format(struct blk *b)
{
	return __atomic_load_n(&b->format, __ATOMIC_ACQUIRE);
}

struct node *blk_root(struct blk *b)
{
	return b->root;
}

void blk_on_change(struct blk *b, struct loop *l, void (*fn)(void *ctx), void *ctx)
{
	struct change_watch *w = xcalloc(1, sizeof(*w));

	w->loop = l;
	w->fn = fn;
	w->ctx = ctx;
	pthread_mutex_lock(&b->lock);
	w->next = b->watches;
	b->watches = w;
	pthread_mutex_unlock(&b->lock);
}

void blk_off_change(struct blk *b, void (*fn)(void *ctx), void *ctx)
{
	pthread_mutex_lock(&b->lock);
	for (struct change_watch **p = &b->watches; *p; p = &(*p)->next) {
		struct change_watch *w = *p;

		if (w->fn != fn || w->ctx != ctx)
			continue;
		*p = w->next;
		free(w);
		break;
	}
	pthread_mutex_unlock(&b->lock);
}

int blk_resize(struct blk *b, uint64_t size, bool shrink, struct err *err)
{
	int ret;

	if (size < b->root->size && !shrink)
		return err_set(err, EINVAL,
			       "'%s': making the disk smaller would delete data at its end; ask "
			       "for it with --shrink",
			       b->root->filename);
	blk_drain_begin(b);
	ret = node_resize(b->root, size, err);
	front_refresh(b);
	blk_drain_end(b);
	if (!ret) {
		pthread_mutex_lock(&b->lock);
		for (struct change_watch *w = b->watches; w; w = w->next)
			loop_post(w->loop, w->fn, w->ctx);
		pthread_mutex_unlock(&b->lock);
	}
	return ret;
}

void blk_set_on_error(struct blk *b, enum blk_on_error rerror, enum blk_on_error werror)
{
	b->rerror = rerror;
	b->werror = werror;
}

void blk_on_io_error(struct blk *b,
		     void (*fn)(void *ctx, const struct blk_req *r, enum blk_on_error action),
		     void *ctx)
{
	b->on_io_error = fn;
	b->on_io_error_ctx = ctx;
}

static enum blk_on_error error_action(const struct blk *b, const struct blk_req *r)
{
	enum blk_on_error e = r->op == BLK_READ ? b->rerror : b->werror;

	/* EINVAL and EPERM are the guest's own mistakes: stopping the VM would not mend them. */
	if (r->ret == -EINVAL || r->ret == -EPERM)
		return BLK_ERR_REPORT;
	if (e == BLK_ERR_ENOSPC)
		e = r->ret == -ENOSPC ? BLK_ERR_STOP : BLK_ERR_REPORT;
	return e == BLK_ERR_STOP && !b->on_io_error ? BLK_ERR_REPORT : e;
}

enum blk_on_error blk_error_action(struct blk *b, const struct blk_req *r, const char *who)
{
	static const char *const op[] = {
		[BLK_READ] = "read",	   [BLK_WRITE] = "write",	  [BLK_FLUSH] = "flush",
		[BLK_DISCARD] = "discard", [BLK_ZEROES] = "write zeroes",
	};
	enum blk_on_error action = error_action(b, r);

	log_host("%s: '%s': %s at %llu, %llu bytes: %s%s", who, blk_filename(b), op[r->op],
		 (unsigned long long)r->off, (unsigned long long)r->len, strerror(-r->ret),
		 action == BLK_ERR_STOP ? "; the guest is stopped, `cont` tries again" : "");
	if (b->on_io_error)
		b->on_io_error(b->on_io_error_ctx, r, action);
	return action;
}

void blk_get_stats(struct blk *b, struct blk_stats *s)
{
	*s = b->stats;
}
