/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * copy.c: the copy engine of convert and dd. Workers take pieces of the output in ascending order
 * from one cursor that follows the sources' allocation; each reads, looks for zeros and writes its
 * piece, all at once. Formats that must be written in order (streamOptimized) compress at once and
 * append in turn.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <linux/fs.h>
#include <time.h>
#include <unistd.h>

#include "tools/img/img.h"
#include "vmm/base/iov.h"

/* small enough to stay in a processor's cache between read and write */
#define PIECE (512 * KiB)
#define PIECE_PACKED (512 * KiB)
#define HEAD 4096			/* of a unit: what is read to see that it is not zeros */
#define WORKERS_MAX 16
#define READY_MAX 32		/* twice the workers: bounds what waits in memory */

enum what { COPY_DATA, COPY_ZERO };

struct piece {
	uint64_t off, len, seq;
	enum what what;
};

/* A piece that has been compressed and waits for those before it. */
struct ready {
	bool filled;
	void *packed;
	size_t len;
	uint64_t off;
};

struct engine {
	struct copy *c;
	struct err *err;
	/* most of one piece; pieces begin and end at multiples of grain */
	uint64_t piece, grain;
	uint64_t unit;			/* of looking for zeros */
	bool packed;
	/* pieces may be copied unread: until the first one could not */
	bool in_kernel;
	bool copied_in_kernel;
	pthread_mutex_t lock;		/* cursor and turns */
	pthread_cond_t turned;
	/* plain writes one at a time: the kernel lets in no more, and its lock spins */
	pthread_mutex_t writing;
	uint64_t cursor, seq, turn;
	struct ready ready[READY_MAX];	/* by their seq; [turn] is next */
	bool appending;			/* a worker writes ready pieces */
	/* The last answer about the source's allocation: holds for [ext_off, ext_end). */
	uint64_t ext_off, ext_end;
	enum what ext_what;
	bool ext_skip;			/* the output's backing file has it */
	int64_t started;
	uint64_t copied;
	int ret;
};

static int source_at(const struct copy *c, uint64_t off)
{
	int i = 0;

	while (i + 1 < c->nsrc && off >= c->start[i + 1])
		i++;
	return i;
}

/* Reads output bytes from the sources that hold them. */
static int read_sources(const struct copy *c, uint8_t *buf, uint64_t off, uint64_t len)
{
	while (len) {
		int i = source_at(c, off), ret;
		uint64_t part = MIN(len, c->start[i + 1] - off);

		ret = node_pread(c->src[i], buf, part, off - c->start[i]);
		if (ret < 0)
			return ret;
		off += part;
		buf += part;
		len -= part;
	}
	return 0;
}

/* What the sources hold from off on; fills ext_*. Lock held. */
static int look(struct engine *e, uint64_t off)
{
	struct copy *c = e->c;
	int i = source_at(c, off), ret;
	struct node *n = c->src[i], *owner;
	struct extent x;

	if (off >= e->ext_off && off < e->ext_end)
		return 0;
	if (c->dst_backing)
		ret = node_extent(n, off - c->start[i], c->start[i + 1] - off, &x);
	else
		ret = node_extent_chain(n, off - c->start[i], c->start[i + 1] - off, &x, &owner);
	if (ret < 0 && !c->salvage)
		return err_set(e->err, -ret, "error while reading block status at offset %llu: %s",
			       (unsigned long long)off, strerror(-ret));
	if (ret < 0)			/* what cannot be told is tried in steps */
		x = (struct extent){ .len = MIN(e->grain, c->start[i + 1] - off),
				     .flags = EXT_DATA | EXT_ALLOCATED };
	e->ext_off = off;
	e->ext_end = off + MIN(x.len, c->start[i + 1] - off);
	e->ext_skip = c->dst_backing && !(x.flags & (EXT_ALLOCATED | EXT_DATA | EXT_ZERO));
	e->ext_what = x.flags & EXT_ZERO && c->min_sparse ? COPY_ZERO : COPY_DATA;
	return 0;
}

/*
 * Output the extent at off needs no reading for: zeros, or left to the backing file, at least a
 * grain of it. Returns its length, 0 when there is data.
 */
static int idle_run(struct engine *e, uint64_t off, uint64_t *len, bool *skip)
{
	uint64_t end = off;
	int ret;

	*len = 0;
	do {
		ret = look(e, end);
		if (ret < 0)
			return ret;
		if (end == off)
			*skip = e->ext_skip;
		if ((!e->ext_skip && e->ext_what != COPY_ZERO) || e->ext_skip != *skip)
			break;
		end = e->ext_end;
	} while (end < e->c->total);
	*len = end >= e->c->total ? e->c->total - off
				  : ALIGN_DOWN(end, e->grain) - MIN(off, ALIGN_DOWN(end, e->grain));
	return 0;
}

/* The next piece to copy; 1: there is one, 0: the end, or -errno. Lock held. */
static int next_piece(struct engine *e, struct piece *p)
{
	struct copy *c = e->c;
	uint64_t len, limit;
	bool skip;
	int ret;

	while (e->cursor < c->total) {
		ret = idle_run(e, e->cursor, &len, &skip);
		if (ret < 0)
			return ret;
		if (len && (skip || (c->dst_zero && !c->dst_backing))) {
			e->cursor += len;
			progress_add(len);
			continue;
		}
		p->off = e->cursor;
		p->seq = e->seq++;
		if (len) {
			p->what = COPY_ZERO;
			p->len = MIN(len, 1 * GiB);
			e->cursor += p->len;
			return 1;
		}
		p->what = COPY_DATA;
		limit = MIN(ALIGN_DOWN(e->cursor, e->piece) + e->piece, c->total);
		while (e->cursor < limit && !len) {
			/* On to the end of this extent, in whole grains. */
			ret = look(e, e->cursor);
			if (ret < 0)
				return ret;
			e->cursor = MIN(ALIGN_UP(MAX(e->ext_end, e->cursor + 1), e->grain), limit);
			if (e->cursor < limit)
				ret = idle_run(e, e->cursor, &len, &skip);
			if (ret < 0)
				return ret;
		}
		p->len = e->cursor - p->off;
		return 1;
	}
	return 0;
}

static void give_up(struct engine *e, int ret)
{
	pthread_mutex_lock(&e->lock);
	if (e->ret == 0)
		e->ret = ret;
	pthread_cond_broadcast(&e->turned);
	pthread_mutex_unlock(&e->lock);
}

static int write_failed(struct engine *e, uint64_t off, int ret)
{
	pthread_mutex_lock(&e->lock);
	err_set(e->err, -ret, "error while writing at byte %llu: %s", (unsigned long long)off,
		strerror(-ret));
	pthread_mutex_unlock(&e->lock);
	return ret;
}

static int write_zeros(struct engine *e, uint64_t off, uint64_t len)
{
	int ret = e->c->dst_zero && !e->c->dst_backing
			  ? 0
			  : node_zeroes(e->c->dst, off, len, e->c->min_sparse ? BLK_UNMAP : 0);

	return ret < 0 ? write_failed(e, off, ret) : 0;
}

/* Writes a piece that has been read: runs of zeros are left out or made by the format. */
static int write_data(struct engine *e, const uint8_t *buf, uint64_t off, uint64_t len)
{
	uint64_t unit = e->unit;

	while (len) {
		uint64_t run = 0;
		bool zero = false;
		int ret;

		if (!unit) {
			run = len;
		} else {
			/* Units end at multiples of themselves. */
			run = MIN(len, unit - off % unit);
			zero = buf_is_zero(buf, run);
			while (run < len && buf_is_zero(buf + run, MIN(unit, len - run)) == zero)
				run += MIN(unit, len - run);
		}
		if (zero) {
			ret = write_zeros(e, off, run);
		} else {
			ret = node_pwrite(e->c->dst, buf, run, off);
			if (ret < 0)
				write_failed(e, off, ret);
		}
		if (ret < 0)
			return ret;
		off += run;
		buf += run;
		len -= run;
	}
	return 0;
}

static int write_compressed(struct engine *e, const uint8_t *buf, uint64_t off, uint64_t len)
{
	for (uint64_t at = 0; at < len; at += e->grain) {
		uint64_t part = MIN(e->grain, len - at);
		int ret;

		if (e->c->min_sparse && buf_is_zero(buf + at, part))
			ret = write_zeros(e, off + at, part);
		else
			ret = node_write_compressed(e->c->dst, off + at, buf + at, part);
		if (ret < 0)
			return write_failed(e, off + at, ret);
	}
	return 0;
}

/*
 * Appends what is ready, in order, unless another worker is at it. Lock held, but for the writing
 * itself.
 */
static int append_ready(struct engine *e)
{
	const struct node_ops *ops = e->c->dst->ops;
	int ret = 0;

	if (e->appending)
		return 0;
	e->appending = true;
	while (e->ready[e->turn % READY_MAX].filled && e->ret == 0 && ret == 0) {
		struct ready *r = &e->ready[e->turn % READY_MAX];

		pthread_mutex_unlock(&e->lock);
		if (r->len)
			ret = ops->put_packed(e->c->dst, r->off, r->packed, r->len);
		if (ret < 0)
			write_failed(e, r->off, ret);
		free(r->packed);
		pthread_mutex_lock(&e->lock);
		*r = (struct ready){ 0 };
		e->turn++;
		pthread_cond_broadcast(&e->turned);
	}
	e->appending = false;
	return ret;
}

/* Compresses now; the piece is appended, by whoever comes by, when all before has been. */
static int write_packed(struct engine *e, const struct piece *p, const uint8_t *buf)
{
	struct ready r = { .filled = true, .off = p->off };
	int ret = p->what == COPY_ZERO
			  ? 0
			  : e->c->dst->ops->pack(e->c->dst, p->off, buf, p->len, &r.packed, &r.len);

	if (ret < 0)
		return write_failed(e, p->off, ret);
	pthread_mutex_lock(&e->lock);
	while (p->seq - e->turn >= READY_MAX && e->ret == 0)
		pthread_cond_wait(&e->turned, &e->lock);
	ret = e->ret;
	if (ret == 0) {
		e->ready[p->seq % READY_MAX] = r;
		ret = append_ready(e);
	} else {
		free(r.packed);
	}
	pthread_mutex_unlock(&e->lock);
	return ret;
}

/* Reads a piece sector by sector where it cannot be read at once, as far as possible. */
static int read_salvage(struct engine *e, uint8_t *buf, uint64_t off, uint64_t len)
{
	for (uint64_t at = 0; at < len; at += 512) {
		uint64_t part = MIN(512, len - at);
		int ret = read_sources(e->c, buf + at, off + at, part);

		if (ret < 0) {
			memset(buf + at, 0, part);
			log_warn("error while reading offset %llu: %s",
				 (unsigned long long)(off + at), strerror(-ret));
		}
	}
	return 0;
}

/*
 * The kernel's own copy: one instead of two, or none where the file system can share blocks.
 * -ENOTSUP: the bytes of the source do not lie in a row in a file, or the output cannot take them
 * so.
 */
static int copy_in_kernel(struct engine *e, uint64_t off, uint64_t len)
{
	struct copy *c = e->c;
	int i = source_at(c, off), fd, ret;
	struct node *src = c->src[i];
	uint64_t fd_off;
	uintptr_t cookie;

	if (off + len > c->start[i + 1] || !src->ops->plain ||
	    src->ops->plain(src, off - c->start[i], len, false, &fd, &fd_off, &cookie) != 0)
		return -ENOTSUP;
	ret = node_copy_from(c->dst, off, fd, fd_off, len);
	if (src->ops->plain_done)
		src->ops->plain_done(src, cookie);
	return ret;
}

/* Is this unit all zeros? Most that are not show it in their first bytes. */
static int unit_is_zero(struct engine *e, uint8_t *buf, uint64_t off, uint64_t len, bool *zero)
{
	uint64_t head = MIN(len, (uint64_t)HEAD);
	int ret = read_sources(e->c, buf, off, head);

	*zero = !ret && buf_is_zero(buf, head);
	if (*zero && len > head) {
		ret = read_sources(e->c, buf, off + head, len - head);
		*zero = !ret && buf_is_zero(buf, len - head);
	}
	return ret;
}

/* How far from off on the units are alike: zeros, or not. */
static int units_alike(struct engine *e, uint8_t *buf, uint64_t off, uint64_t end, uint64_t *len,
		       bool *zero)
{
	uint64_t at = off, part;
	bool other;
	int ret = 0;

	*zero = false;
	if (e->c->copy_range || !e->unit) {
		*len = end - off;
		return 0;
	}
	do {
		part = MIN(end - at, e->unit - at % e->unit);
		ret = unit_is_zero(e, buf, at, part, at == off ? zero : &other);
		if (at > off && other != *zero)
			break;
		at += part;
	} while (at < end && !ret);
	*len = at - off;
	return ret;
}

/* A piece without reading more of it than tells zeros from data. -ENOTSUP: it has to be read. */
static int copy_unread(struct engine *e, const struct piece *p, uint8_t *buf)
{
	uint64_t off = p->off, end = p->off + p->len, len;
	bool zero;
	int ret = 0;

	for (; off < end && !ret; off += len) {
		if (units_alike(e, buf, off, end, &len, &zero))
			return -ENOTSUP;		/* reading says why */
		if (zero) {
			ret = write_zeros(e, off, len);
			continue;
		}
		pthread_mutex_lock(&e->writing);
		ret = copy_in_kernel(e, off, len);
		pthread_mutex_unlock(&e->writing);
	}
	return ret;
}

static int copy_piece(struct engine *e, const struct piece *p, uint8_t *buf)
{
	int ret;

	if (p->what == COPY_ZERO)
		return e->packed ? write_packed(e, p, buf) : write_zeros(e, p->off, p->len);
	if (__atomic_load_n(&e->in_kernel, __ATOMIC_RELAXED)) {
		ret = copy_unread(e, p, buf);
		if (!ret)
			__atomic_store_n(&e->copied_in_kernel, true, __ATOMIC_RELAXED);
		else if (ret == -ENOTSUP &&
			 !__atomic_load_n(&e->copied_in_kernel, __ATOMIC_RELAXED))
			__atomic_store_n(&e->in_kernel, false, __ATOMIC_RELAXED);
		if (ret != -ENOTSUP)
			return ret < 0 ? write_failed(e, p->off, ret) : 0;
	}
	ret = read_sources(e->c, buf, p->off, p->len);
	if (ret < 0 && e->c->salvage)
		ret = read_salvage(e, buf, p->off, p->len);
	if (ret < 0) {
		pthread_mutex_lock(&e->lock);
		err_set(e->err, -ret, "error while reading at byte %llu: %s",
			(unsigned long long)p->off, strerror(-ret));
		pthread_mutex_unlock(&e->lock);
		return ret;
	}
	if (e->packed)
		return write_packed(e, p, buf);
	if (e->c->compressed)
		return write_compressed(e, buf, p->off, p->len);
	pthread_mutex_lock(&e->writing);
	ret = write_data(e, buf, p->off, p->len);
	pthread_mutex_unlock(&e->writing);
	return ret;
}

static void pace(struct engine *e, uint64_t bytes)
{
	int64_t due;
	struct timespec ts;

	pthread_mutex_lock(&e->lock);
	e->copied += bytes;
	due = e->started + (int64_t)((double)e->copied / e->c->rate * NS_PER_SEC) - now_ns();
	pthread_mutex_unlock(&e->lock);
	if (due > 0) {
		ts = (struct timespec){ due / NS_PER_SEC, due % NS_PER_SEC };
		nanosleep(&ts, NULL);
	}
}

static void *worker(void *arg)
{
	struct engine *e = arg;
	uint8_t *buf = NULL;
	int ret = posix_memalign((void **)&buf, 4096, e->piece) ? -ENOMEM : 0;

	while (ret == 0) {
		struct piece p = { 0 };

		pthread_mutex_lock(&e->lock);
		ret = e->ret ? e->ret : stop_requested() ? -ECANCELED : next_piece(e, &p);
		pthread_mutex_unlock(&e->lock);
		if (ret <= 0)
			break;
		ret = copy_piece(e, &p, buf);
		progress_add(p.len);
		if (ret == 0 && e->c->rate)
			pace(e, p.len);
	}
	if (ret < 0)
		give_up(e, ret);
	free(buf);
	return NULL;
}

static int plan(struct engine *e)
{
	struct copy *c = e->c;
	struct node_info info = { 0 };

	e->packed = c->dst->needs_packed;
	e->piece = e->packed || c->compressed ? PIECE_PACKED : PIECE;
	e->grain = 4096;
	if (c->dst->ops->info) {
		c->dst->ops->info(c->dst, &info);
		json_decref(info.specific);
	}
	if (info.cluster_size > 4096)
		e->grain = c->compressed || e->packed ? info.cluster_size
						      : MIN(info.cluster_size, (uint64_t)PIECE);
	if (c->compressed && !e->packed && info.cluster_size)
		e->grain = info.cluster_size;
	else if (c->compressed && !e->packed)
		e->grain = 64 * KiB;
	if (!IS_POWER_OF_2(e->grain))
		return -ENOTSUP;
	e->piece = MAX(e->piece, e->grain);
	e->unit = 0;
	if (c->min_sparse) {
		e->unit = MAX(c->min_sparse, 512u);
		/* Less than a cluster cannot be left out of a format that has clusters. */
		if (info.cluster_size)
			e->unit = MAX(e->unit, MIN(e->grain, 64 * KiB));
		while (!IS_POWER_OF_2(e->unit))
			e->unit &= e->unit - 1;
		e->unit = MIN(e->unit, e->piece);
	}
	/* Small units would be read nearly whole. */
	e->in_kernel = !e->packed && !c->compressed &&
		       (c->copy_range || !e->unit || e->unit >= 4 * HEAD);
	return 0;
}

int copy_run(struct copy *c, struct err *err)
{
	struct engine e = { .c = c, .err = err, .started = now_ns(), .ext_end = 0 };
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	pthread_t threads[WORKERS_MAX];
	unsigned n = c->threads ? c->threads : (unsigned)MAX(cpus, 1);
	int ret = plan(&e);

	if (ret < 0)
		return err_set(err, -ret, "cannot copy into clusters of that size");
	n = MIN(n, (unsigned)WORKERS_MAX);
	if (n > 1 && c->total / e.piece < n)
		n = MAX(c->total / e.piece, 1);
	pthread_mutex_init(&e.lock, NULL);
	pthread_cond_init(&e.turned, NULL);
	pthread_mutex_init(&e.writing, NULL);
	for (unsigned i = 1; i < n; i++)
		if (pthread_create(&threads[i], NULL, worker, &e))
			n = i;
	worker(&e);
	for (unsigned i = 1; i < n; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < READY_MAX; i++)		/* left over after an error */
		free(e.ready[i].packed);
	pthread_mutex_destroy(&e.lock);
	pthread_cond_destroy(&e.turned);
	pthread_mutex_destroy(&e.writing);
	if (e.ret < 0)
		err_set(err, -e.ret, "%s", strerror(-e.ret));
	return e.ret;
}
