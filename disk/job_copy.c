/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * job_copy.c: backup, mirror, commit and stream. Each puts a filter before the root while the front
 * is drained, copies chunk by chunk on its own thread while the guest runs, and takes the filter
 * out in another short drain.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <limits.h>
#include <unistd.h>

#include "disk/filter.h"
#include "disk/job.h"
#include "disk/name.h"
#include "disk/pool.h"
#include "vmm/base/iov.h"
#include "vmm/base/log.h"

enum { CATCH_UP_ROUNDS = 8, FEW_CHUNKS = 64, SAVED_MAX = 256 };

/* A chunk on its way to the target. */
struct chunk {
	struct chunk *next;
	uint64_t off, len;
	uint8_t *data;
};

struct copy_job {
	struct node *root;		/* below the filter */
	struct node *target;
	struct node *filter_node;
	struct filter *filter;
	struct node *base;		/* commit, stream: where the copied layers end */
	bool base_made_writable;
	/*
	 * backup: the guest waits only until what it overwrites is read; a worker writes it to the
	 * target.
	 */
	pthread_mutex_t lock;		/* all below; a leaf */
	pthread_cond_t idle;		/* the worker has nothing left */
	struct chunk *saved, **saved_tail;
	/* memory that was touched before: new pages cost as much as the copy */
	struct chunk *spare;
	unsigned nsaved;
	int save_error;
	bool worker;
	struct pool_work work;
};

/*
 * Is any of it in the layers from n down to (not including) base? Where one of them ends, its zeros
 * are its own: what base has there must not show.
 */
static int above_base(struct node *n, const struct node *base, uint64_t off, uint64_t len,
		      bool *yes)
{
	*yes = false;
	for (; n && n != base; n = n->backing) {
		if (base && off + len > n->size) {
			*yes = true;
			return 0;
		}
		for (uint64_t at = off; at < off + len && at < n->size;) {
			struct extent e;
			int ret = node_extent(n, at, off + len - at, &e);

			if (ret)
				return ret;
			if (e.flags & EXT_ALLOCATED) {
				*yes = true;
				return 0;
			}
			at += e.len;
		}
	}
	return 0;
}

static struct chunk *chunk_get(struct copy_job *c)
{
	struct chunk *k;

	pthread_mutex_lock(&c->lock);
	k = c->spare;
	if (k)
		c->spare = k->next;
	pthread_mutex_unlock(&c->lock);
	if (k)
		return k;
	k = xcalloc(1, sizeof(*k));
	if (posix_memalign((void **)&k->data, 4096, FILTER_CHUNK)) {
		free(k);
		return NULL;
	}
	return k;
}

static void chunk_put(struct copy_job *c, struct chunk *k)
{
	pthread_mutex_lock(&c->lock);
	k->next = c->spare;
	c->spare = k;
	pthread_mutex_unlock(&c->lock);
}

/* A chunk of the disk as it is now; NULL with *ret. */
static struct chunk *chunk_read(struct copy_job *c, uint64_t off, uint64_t len, int *ret)
{
	struct chunk *k = chunk_get(c);

	*ret = k ? node_pread(c->root, k->data, len, off) : -ENOMEM;
	if (*ret && k) {
		chunk_put(c, k);
		return NULL;
	}
	if (k)
		k->off = off, k->len = len;
	return k;
}

/* Into the target. */
static int chunk_write(struct copy_job *c, struct chunk *k)
{
	int ret = buf_is_zero(k->data, k->len) ? node_zeroes(c->target, k->off, k->len, BLK_UNMAP) :
		  node_pwrite(c->target, k->data, k->len, k->off);

	chunk_put(c, k);
	return ret;
}

static int copy_chunk(void *ctx, uint64_t off, uint64_t len)
{
	struct copy_job *c = ctx;
	int ret;
	struct chunk *k = chunk_read(c, off, len, &ret);

	return k ? chunk_write(c, k) : ret;
}

/* A worker. */
static void write_saved(struct pool_work *w)
{
	struct copy_job *c = container_of(w, struct copy_job, work);
	struct chunk *k;

	pthread_mutex_lock(&c->lock);
	while ((k = c->saved)) {
		int ret;

		c->saved = k->next;
		if (!c->saved)
			c->saved_tail = &c->saved;
		pthread_mutex_unlock(&c->lock);
		ret = chunk_write(c, k);
		pthread_mutex_lock(&c->lock);
		c->nsaved--;
		if (!c->save_error)
			c->save_error = ret;
	}
	c->worker = false;
	pthread_cond_broadcast(&c->idle);
	pthread_mutex_unlock(&c->lock);
}

/*
 * The guest is about to change the chunk. When the worker cannot keep up, the guest writes, too,
 * and so is slowed down.
 */
static int save_chunk(void *ctx, uint64_t off, uint64_t len)
{
	struct copy_job *c = ctx;
	int ret;
	struct chunk *k = chunk_read(c, off, len, &ret);

	if (!k)
		return ret;
	pthread_mutex_lock(&c->lock);
	if (c->nsaved >= SAVED_MAX) {
		pthread_mutex_unlock(&c->lock);
		return chunk_write(c, k);
	}
	k->next = NULL;
	*c->saved_tail = k;
	c->saved_tail = &k->next;
	c->nsaved++;
	if (!c->worker)
		pool_submit(&c->work);
	c->worker = true;
	pthread_mutex_unlock(&c->lock);
	return 0;
}

/* The first error so far of what was saved for the guest; all: when the worker has nothing left. */
static int saved_error(struct copy_job *c, bool all)
{
	int ret;

	pthread_mutex_lock(&c->lock);
	while (all && c->worker)
		pthread_cond_wait(&c->idle, &c->lock);
	ret = c->save_error;
	pthread_mutex_unlock(&c->lock);
	return ret;
}

/* Stream: what the top layer does not have comes up from below. With the chunk to itself. */
static int pull_chunk(void *ctx, uint64_t off, uint64_t len)
{
	struct copy_job *c = ctx;
	uint8_t *buf;
	int ret = 0;

	if (posix_memalign((void **)&buf, 4096, FILTER_CHUNK))
		return -ENOMEM;
	for (uint64_t at = off; at < off + len && !ret;) {
		struct extent e;
		bool below = false;

		ret = node_extent(c->root, at, off + len - at, &e);
		if (ret)
			break;
		if (!(e.flags & EXT_ALLOCATED))
			ret = above_base(c->root->backing, c->base, at, e.len, &below);
		if (!ret && below) {
			ret = node_pread(c->root, buf, e.len, at);
			if (!ret)
				ret = buf_is_zero(buf, e.len)
					      ? node_zeroes(c->root, at, e.len, BLK_UNMAP)
					      : node_pwrite(c->root, buf, e.len, at);
		}
		at += e.len;
	}
	free(buf);
	return ret;
}

static void filter_in(struct job *j, struct copy_job *c)
{
	/* The front's reference moves from the root to the filter, which holds the root. */
	node_ref(c->root);
	blk_set_root(j->blk, c->filter_node);
}

/* While drained: root stands before the front again. */
static void filter_out(struct job *j, struct copy_job *c, struct node *root)
{
	node_ref(root);
	blk_set_root(j->blk, root);
	c->filter = NULL;
}

static int fail(struct job *j, int ret, const char *what)
{
	return err_set(&j->err, -ret, "%s of '%s': %s", what, blk_filename(j->blk), strerror(-ret));
}

static struct job *copy_start(const struct job_ops *ops, struct blk *b, struct node *target,
			      struct node *base, enum filter_mode mode, const struct job_common *jc,
			      struct err *err);

/* --- backup --- */

static int backup_run(struct job *j)
{
	struct copy_job *c = j->priv;
	uint64_t size = c->root->size;
	int ret = 0, err;

	j->total = size;
	for (uint64_t off = 0; off < size && !ret;) {
		uint64_t next = filter_next(c->filter, off);

		next = MIN(next, size);
		if (job_pace(j, next - off)) {
			ret = -ECANCELED;
			break;
		}
		off = next;
		if (off < size)
			ret = filter_copy(c->filter, off, copy_chunk, c);
		if (!ret)
			ret = filter_error(c->filter);
		if (!ret)
			ret = saved_error(c, false);
	}
	blk_drain_begin(j->blk);
	if (!ret)
		ret = filter_error(c->filter);
	filter_out(j, c, c->root);
	blk_drain_end(j->blk);
	/* The guest has no part in it any more, and nothing is added. */
	err = saved_error(c, true);
	if (!ret)
		ret = err;
	if (!ret)
		ret = node_flush(c->target);
	return ret && ret != -ECANCELED ? fail(j, ret, "backup") : ret;
}

/* --- mirror and commit: copy what is marked, again and again, the last time while drained --- */

static int copy_marked(struct job *j, uint64_t *copied)
{
	struct copy_job *c = j->priv;
	uint64_t off = 0;
	int ret = 0;

	*copied = 0;
	while (!ret && (off = filter_next(c->filter, off)) != UINT64_MAX) {
		uint64_t len = MIN((uint64_t)FILTER_CHUNK, c->root->size - off);

		filter_take(c->filter, off);
		ret = copy_chunk(c, off, len);
		if (ret)
			filter_mark(c->filter, off, len);
		(*copied)++;
		off += FILTER_CHUNK;
		if (!ret && job_pace(j, len))
			ret = -ECANCELED;
	}
	return ret;
}

static int mirror_again(struct job *j)
{
	uint64_t copied;

	return copy_marked(j, &copied);
}

static int catch_up(struct job *j)
{
	uint64_t copied = UINT64_MAX;
	int ret = 0;

	for (int i = 0; i < CATCH_UP_ROUNDS && !ret && copied > FEW_CHUNKS; i++)
		ret = copy_marked(j, &copied);
	return ret;
}

/* The last chunks, while nothing changes; then the disk is `root`. */
static int pivot(struct job *j, struct node *root)
{
	struct copy_job *c = j->priv;
	uint64_t copied;
	int ret;

	blk_drain_begin(j->blk);
	ret = node_flush(c->root);
	if (!ret)
		ret = copy_marked(j, &copied);
	if (!ret)
		ret = node_flush(c->target);
	filter_out(j, c, ret ? c->root : root);
	blk_drain_end(j->blk);
	return ret;
}

static void leave(struct job *j)
{
	struct copy_job *c = j->priv;

	blk_drain_begin(j->blk);
	filter_out(j, c, c->root);
	blk_drain_end(j->blk);
}

static int mirror_run(struct job *j)
{
	struct copy_job *c = j->priv;
	int ret;

	j->total = c->root->size;
	ret = catch_up(j);
	if (!ret && job_wait_complete(j, mirror_again))
		return (ret = pivot(j, c->target)) ? fail(j, ret, "mirror") : 0;
	if (!ret)
		ret = j->ret ? j->ret : -ECANCELED;
	leave(j);
	return ret != -ECANCELED ? fail(j, ret, "mirror") : ret;
}

static int commit_run(struct job *j)
{
	struct copy_job *c = j->priv;
	int ret = 0;

	j->total = c->root->size;
	if (c->base->size < c->root->size)
		ret = node_resize(c->base, c->root->size, &j->err);
	for (uint64_t off = 0; off < c->root->size && !ret; off += FILTER_CHUNK) {
		uint64_t len = MIN((uint64_t)FILTER_CHUNK, c->root->size - off);
		bool yes;

		ret = above_base(c->root, c->base, off, len, &yes);
		if (!ret && yes)
			filter_mark(c->filter, off, len);
		else
			__atomic_add_fetch(&j->done, len, __ATOMIC_RELAXED);
	}
	if (!ret)
		ret = catch_up(j);
	if (!ret)
		return (ret = pivot(j, c->base)) ? fail(j, ret, "commit") : 0;
	leave(j);
	if (c->base_made_writable) {
		blk_drain_begin(j->blk);
		node_set_rdwr(c->base, false, NULL);
		blk_drain_end(j->blk);
	}
	return ret != -ECANCELED ? fail(j, ret, "commit") : ret;
}

/* How root, in whose folder a relative name is looked for, calls its new backing file. Free it. */
static char *base_name(const struct node *root, const struct node *base)
{
	const struct node *above = root;
	struct node as_root = { .filename = root->filename };
	char *path, *again, *name, cwd[PATH_MAX];
	bool same;

	while (above->backing != base)
		above = above->backing;
	/* The name that stands in the layer above it, if it means the same from here. */
	path = node_backing_path(above);
	if (!path)
		return xstrdup(base->filename);
	as_root.backing_name = above->backing_name;
	again = node_backing_path(&as_root);
	same = !strcmp(path, again);
	free(again);
	if (same)
		name = xstrdup(above->backing_name);
	else if (path[0] == '/' || name_is_json(path) || !getcwd(cwd, sizeof(cwd)))
		name = xstrdup(path);
	else
		name = xasprintf("%s/%s", cwd, path);
	free(path);
	return name;
}

/* All above base is in the root now: that is its backing file from here on. While drained. */
static int stream_cut(struct copy_job *c, struct err *err)
{
	struct node *root = c->root, *old = root->backing;
	char *name = c->base ? base_name(root, c->base) : NULL;
	int ret = 0;

	if (root->ops->set_backing)
		ret = root->ops->set_backing(root, name, c->base ? c->base->ops->format : NULL,
					     err);
	else if (c->base && c->base != old)
		ret = err_set(err, ENOTSUP, "the format %s cannot change its backing file",
			      root->ops->format);
	free(name);
	if (ret)
		return ret;
	if (c->base)
		node_ref(c->base);
	root->backing = c->base;
	node_unref(old);
	return 0;
}

static int stream_run(struct job *j)
{
	struct copy_job *c = j->priv;
	uint64_t size = c->root->size;
	int ret = 0;

	j->total = size;
	for (uint64_t off = 0; off < size && !ret; off += FILTER_CHUNK) {
		ret = filter_alone(c->filter, off, pull_chunk, c);
		if (!ret && job_pace(j, MIN((uint64_t)FILTER_CHUNK, size - off)))
			ret = -ECANCELED;
	}
	blk_drain_begin(j->blk);
	if (!ret)
		ret = node_flush(c->root);
	if (!ret)
		ret = stream_cut(c, &j->err);
	filter_out(j, c, c->root);
	blk_drain_end(j->blk);
	return ret && ret != -ECANCELED ? fail(j, ret, "stream") : ret;
}

static struct copy_job *copy_new(struct node *target, struct node *base)
{
	struct copy_job *c = xcalloc(1, sizeof(*c));

	c->target = target;
	c->base = base;
	c->saved_tail = &c->saved;
	c->work.fn = write_saved;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->idle, NULL);
	return c;
}

static void copy_free(struct copy_job *c)
{
	for (struct chunk *k; (k = c->spare);) {
		c->spare = k->next;
		free(k->data);
		free(k);
	}
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->idle);
	free(c);
}

static void copy_clean(struct job *j)
{
	struct copy_job *c = j->priv;

	node_unref(c->root);
	node_unref(c->target);
	copy_free(c);
	j->priv = NULL;
}

static const struct job_ops backup_ops = { "backup", backup_run, copy_clean };
static const struct job_ops mirror_ops = { "mirror", mirror_run, copy_clean };
static const struct job_ops commit_ops = { "commit", commit_run, copy_clean };
static const struct job_ops stream_ops = { "stream", stream_run, copy_clean };

/* Takes over target. The filter is in place when it returns: the backup is of this moment. */
static struct job *copy_start(const struct job_ops *ops, struct blk *b, struct node *target,
			      struct node *base, enum filter_mode mode, const struct job_common *jc,
			      struct err *err)
{
	static const struct job_common plain;
	struct copy_job *c = copy_new(target, base);
	struct job *j, first = { .blk = b, .ops = ops };

	jc = jc ? jc : &plain;
	blk_drain_begin(b);
	c->root = blk_root(b);
	if (c->root->ops->filter) {
		blk_drain_end(b);
		err_set(err, EBUSY, "'%s': another job is at work on this disk", blk_filename(b));
		goto fail;
	}
	if (base && ops == &commit_ops && !(base->flags & BLK_RDWR)) {
		if (node_set_rdwr(base, true, err)) {
			blk_drain_end(b);
			goto fail;
		}
		c->base_made_writable = true;
	}
	/* One reference for the job, one for the filter. */
	node_ref(c->root);
	c->filter_node = filter_new(c->root, mode, save_chunk, c, &c->filter);
	if (mode != FILTER_BESIDE && ops != &commit_ops)
		filter_mark(c->filter, 0, c->root->size);
	filter_in(&first, c);
	blk_drain_end(b);
	j = job_start(ops, b, c, jc, err);
	if (j)
		return j;
	leave(&(struct job){ .blk = b, .priv = c });
	/* what the guest made it save meanwhile is the worker's still */
	saved_error(c, true);
	node_unref(c->root);
fail:
	node_unref(target);
	copy_free(c);
	return NULL;
}

struct job *job_backup(struct blk *b, struct node *target, const struct job_common *c,
		       struct err *err)
{
	if (target->size < blk_size(b)) {
		err_set(err, ENOSPC, "'%s' is smaller than the disk", target->filename);
		node_unref(target);
		return NULL;
	}
	return copy_start(&backup_ops, b, target, NULL, FILTER_BEFORE, c, err);
}

struct job *job_mirror(struct blk *b, struct node *target, const struct job_common *c,
		       struct err *err)
{
	if (target->size != blk_size(b)) {
		err_set(err, EINVAL, "'%s' has another size than the disk", target->filename);
		node_unref(target);
		return NULL;
	}
	return copy_start(&mirror_ops, b, target, NULL, FILTER_AFTER, c, err);
}

struct job *job_commit(struct blk *b, struct node *base, const struct job_common *c,
		       struct err *err)
{
	struct node *root = blk_root(b);

	base = base ? base : root->backing;
	if (!base || base == root || !node_reaches(root, base)) {
		err_set(err, EINVAL, "'%s' has no backing file to commit to", blk_filename(b));
		return NULL;
	}
	node_ref(base);
	return copy_start(&commit_ops, b, base, base, FILTER_AFTER, c, err);
}

struct job *job_stream(struct blk *b, struct node *base, const struct job_common *c,
		       struct err *err)
{
	struct node *root = blk_root(b);

	if (!root->backing) {
		err_set(err, EINVAL, "'%s' has no backing file to stream from", blk_filename(b));
		return NULL;
	}
	if (base && (base == root || !node_reaches(root, base))) {
		err_set(err, EINVAL, "'%s' does not lie below '%s'", base->filename,
			blk_filename(b));
		return NULL;
	}
	return copy_start(&stream_ops, b, NULL, base, FILTER_BESIDE, c, err);
}
