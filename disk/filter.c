/* SPDX-License-Identifier: GPL-2.0-or-later */
/* filter.c: see filter.h. Worker threads and the job's; the lock is never held while data moves. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "disk/filter.h"

struct span { uint64_t first, last; bool alone; struct span *next; };

struct filter {
	struct node *n;
	enum filter_mode mode;
	filter_fn *save;
	void *ctx;
	int error;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t chunks, *todo;
	struct span *spans;
};

static void span_begin(struct filter *f, struct span *s, uint64_t first, uint64_t last, bool alone)
{
	*s = (struct span){ first, last, alone, NULL };
	pthread_mutex_lock(&f->lock);
again:
	for (struct span *o = f->spans; o; o = o->next)
		if (o->first <= last && first <= o->last && (alone || o->alone)) {
			pthread_cond_wait(&f->changed, &f->lock);
			goto again;
		}
	s->next = f->spans;
	f->spans = s;
	pthread_mutex_unlock(&f->lock);
}

static void span_end(struct filter *f, struct span *s)
{
	pthread_mutex_lock(&f->lock);
	for (struct span **p = &f->spans; *p; p = &(*p)->next)
		if (*p == s) {
			*p = s->next;
			break;
		}
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
}

static uint64_t chunk_of(uint64_t off)
{
	return off / FILTER_CHUNK;
}

void filter_mark(struct filter *f, uint64_t off, uint64_t len)
{
	if (!len)
		return;
	pthread_mutex_lock(&f->lock);
	for (uint64_t c = chunk_of(off); c <= chunk_of(off + len - 1) && c < f->chunks; c++)
		f->todo[c / 64] |= 1ull << (c % 64);
	pthread_mutex_unlock(&f->lock);
}

bool filter_take(struct filter *f, uint64_t off)
{
	uint64_t c = chunk_of(off), bit = 1ull << (c % 64);
	bool was;

	pthread_mutex_lock(&f->lock);
	was = f->todo[c / 64] & bit;
	f->todo[c / 64] &= ~bit;
	pthread_mutex_unlock(&f->lock);
	return was;
}

uint64_t filter_next(struct filter *f, uint64_t off)
{
	uint64_t c = chunk_of(off);

	pthread_mutex_lock(&f->lock);
	while (c < f->chunks && !(f->todo[c / 64] >> (c % 64) & 1))
		c = f->todo[c / 64] >> (c % 64) ? c + 1 : (c | 63) + 1;
	pthread_mutex_unlock(&f->lock);
	return c < f->chunks ? c * FILTER_CHUNK : UINT64_MAX;
}

int filter_alone(struct filter *f, uint64_t off, filter_fn *fn, void *ctx)
{
	uint64_t c = chunk_of(off), at = c * FILTER_CHUNK;
	struct span s;
	int ret;

	span_begin(f, &s, c, c, true);
	ret = fn(ctx, at, MIN((uint64_t)FILTER_CHUNK, f->n->size - at));
	span_end(f, &s);
	return ret;
}

int filter_copy(struct filter *f, uint64_t off, filter_fn *fn, void *ctx)
{
	uint64_t c = chunk_of(off), at = c * FILTER_CHUNK;
	struct span s;
	int ret = 0;

	span_begin(f, &s, c, c, true);
	if (filter_take(f, off))
		ret = fn(ctx, at, MIN((uint64_t)FILTER_CHUNK, f->n->size - at));
	span_end(f, &s);
	return ret;
}

int filter_error(struct filter *f)
{
	return __atomic_load_n(&f->error, __ATOMIC_RELAXED);
}

/* --- the guest's side --- */

static struct span *before(struct filter *f, struct span *s, uint64_t off, uint64_t len)
{
	if (f->mode == FILTER_BEFORE)
		for (uint64_t at = filter_next(f, off); at < off + len && !filter_error(f);
		     at = filter_next(f, at + FILTER_CHUNK)) {
			int ret = filter_copy(f, at, f->save, f->ctx);

			/* The guest goes on; it is the copy that is lost. */
			if (ret)
				__atomic_store_n(&f->error, ret, __ATOMIC_RELAXED);
		}
	/*
	 * A chunk that the job copies just now keeps the guest out, even when its bit is gone
	 * already.
	 */
	if (f->mode == FILTER_AFTER || !len)
		return NULL;
	span_begin(f, s, chunk_of(off), chunk_of(off + len - 1), false);
	return s;
}

static int after(struct filter *f, struct span *s, uint64_t off, uint64_t len, int ret)
{
	if (s)
		span_end(f, s);
	/* Also after an error: part of it may be written. */
	if (f->mode == FILTER_AFTER)
		filter_mark(f, off, len);
	return ret;
}

static int filter_read(struct node *n, uint64_t off, const struct iovec *iov, int niov,
		       uint64_t len)
{
	return node_readv(n->file, off, iov, niov, len);
}

static int filter_write(struct node *n, uint64_t off, const struct iovec *iov, int niov,
			uint64_t len, unsigned flags)
{
	struct span s, *held = before(n->priv, &s, off, len);

	return after(n->priv, held, off, len, node_writev(n->file, off, iov, niov, len, flags));
}

static int filter_zeroes(struct node *n, uint64_t off, uint64_t len, unsigned flags)
{
	struct span s, *held = before(n->priv, &s, off, len);

	return after(n->priv, held, off, len, node_zeroes(n->file, off, len, flags));
}

static int filter_discard(struct node *n, uint64_t off, uint64_t len)
{
	struct span s, *held = before(n->priv, &s, off, len);

	return after(n->priv, held, off, len, node_discard(n->file, off, len));
}

static int filter_flush(struct node *n)
{
	return node_flush(n->file);
}

static int filter_extent(struct node *n, uint64_t off, uint64_t len, struct extent *e)
{
	struct node *owner;

	return node_extent_chain(n->file, off, len, e, &owner);
}

/* Every chunk of it is copied, and the job will not come back: nothing has to know of a change. */
static bool is_copied(struct filter *f, uint64_t off, uint64_t len)
{
	uint64_t first = chunk_of(off), last = chunk_of(off + len - 1);
	bool yes = f->mode == FILTER_BEFORE && len && last < f->chunks;

	pthread_mutex_lock(&f->lock);
	for (uint64_t c = first; c <= last && yes; c++)
		yes = !(f->todo[c / 64] >> (c % 64) & 1);
	for (struct span *o = f->spans; o && yes; o = o->next)
		yes = !(o->alone && o->first <= last && first <= o->last);
	pthread_mutex_unlock(&f->lock);
	return yes;
}

static int filter_plain(struct node *n, uint64_t off, uint64_t len, bool write, int *fd,
			uint64_t *fd_off, uintptr_t *cookie)
{
	if (!n->file->ops->plain || (write && !is_copied(n->priv, off, len)))
		return -EAGAIN;
	return n->file->ops->plain(n->file, off, len, write, fd, fd_off, cookie);
}

static void filter_plain_done(struct node *n, uintptr_t cookie)
{
	if (n->file->ops->plain_done)
		n->file->ops->plain_done(n->file, cookie);
}

static int filter_resize(struct node *n, uint64_t size, struct err *err)
{
	return err_set(err, EBUSY, "'%s': a job is at work on this disk; resize it afterwards",
		       n->filename);
}

static void filter_close(struct node *n)
{
	struct filter *f = n->priv;

	pthread_mutex_destroy(&f->lock);
	pthread_cond_destroy(&f->changed);
	free(f->todo);
	free(f);
	n->priv = NULL;
}

static const struct node_ops filter_ops = {
	.format = "job-filter",
	.filter = true,
	.close = filter_close,
	.read = filter_read,
	.write = filter_write,
	.zeroes = filter_zeroes,
	.discard = filter_discard,
	.flush = filter_flush,
	.extent = filter_extent,
	.plain = filter_plain,
	.plain_done = filter_plain_done,
	.resize = filter_resize,
};

struct node *filter_new(struct node *child, enum filter_mode mode, filter_fn *save, void *ctx,
			struct filter **out)
{
	struct node *n = node_new(&filter_ops, child->filename, child, child->flags);
	struct filter *f = xcalloc(1, sizeof(*f));

	f->n = n;
	f->mode = mode;
	f->save = save;
	f->ctx = ctx;
	f->chunks = (child->size + FILTER_CHUNK - 1) / FILTER_CHUNK;
	f->todo = xcalloc(f->chunks / 64 + 1, 8);
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->changed, NULL);
	n->priv = f;
	n->size = child->size;
	n->request_align = child->request_align;
	*out = f;
	return n;
}
