/* SPDX-License-Identifier: GPL-2.0-or-later */
/* bmap.c: blocks and a table of where they lie; see bmap.h. Runs on the front's workers. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "disk/formats/bmap.h"
#include "vmm/base/iov.h"

#define CORRUPTIONS_MAX 10000		/* a table of garbage: more of it says nothing */

/* Blocks a worker has taken from the end of the file and not yet entered into the table. */
struct bmap_alloc {
	uint64_t first, n;
	struct bmap_alloc *next;
};

void bmap_init(struct bmap *m)
{
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->wake, NULL);
	m->unpacked_block = UINT64_MAX;
	if (!m->stride)
		m->stride = m->block;
	if (!m->align)
		m->align = 512;
}

void bmap_destroy(struct bmap *m)
{
	pthread_mutex_destroy(&m->lock);
	pthread_cond_destroy(&m->wake);
	free(m->unpacked);
	m->unpacked = NULL;
}

static uint64_t block_count(const struct bmap *m)
{
	return m->size / m->block + !!(m->size % m->block);
}

/*
 * The run of blocks from b, at most max bytes from in_block on, that lie like the first:
 * contiguous, or all absent.
 */
static int lookup_run(struct bmap *m, uint64_t b, uint64_t in_block, uint64_t max,
		      struct bmap_entry *e, uint64_t *len)
{
	uint64_t have = m->block - in_block, blocks = block_count(m);
	int ret = m->ops->lookup(m, b, e);

	if (ret < 0)
		return ret;
	if (e->state == BMAP_NONE && e->span > 1)
		have += MIN(e->span - 1, blocks - b - 1) * m->block;
	if (e->state == BMAP_PACKED || (e->state == BMAP_DATA && m->ops->sector_present)) {
		*len = MIN(have, max);
		return 0;
	}
	for (uint64_t i = 1 + (have - (m->block - in_block)) / m->block;
	     have < max && b + i < blocks; i++) {
		struct bmap_entry next = { 0 };

		ret = m->ops->lookup(m, b + i, &next);
		if (ret < 0 || next.state != e->state)
			break;
		if (e->state == BMAP_DATA &&
		    (m->stride != m->block || next.off != e->off + i * m->block))
			break;
		have += m->block;
		if (next.state == BMAP_NONE && next.span > 1) {
			uint64_t more = MIN(next.span - 1, blocks - b - i - 1);

			have += more * m->block;
			i += more;
		}
	}
	*len = MIN(have, max);
	return 0;
}

/* What lies below: the backing file, zeros past its end or without one. */
static int read_below(struct bmap *m, uint64_t off, const struct iovec *iov, int niov,
		      uint64_t skip, uint64_t len)
{
	uint64_t at = off + m->backing_off, have = 0;
	struct iovec *part;
	int n, ret = 0;

	if (m->owner->backing && at < m->owner->backing->size)
		have = MIN(len, m->owner->backing->size - at);
	if (have) {
		part = malloc(niov * sizeof(*part));
		if (!part)
			return -ENOMEM;
		n = iov_slice(part, iov, niov, skip, have);
		ret = node_readv(m->owner->backing, at, part, n, have);
		free(part);
	}
	if (ret == 0 && have < len)
		iov_zero(iov, niov, skip + have, len - have);
	return ret;
}

static int read_file(struct bmap *m, uint64_t at, const struct iovec *iov, int niov, uint64_t skip,
		     uint64_t len)
{
	struct iovec small[16], *part = small;
	int n, ret;

	if (niov > (int)ARRAY_SIZE(small)) {
		part = malloc(niov * sizeof(*part));
		if (!part)
			return -ENOMEM;
	}
	n = iov_slice(part, iov, niov, skip, len);
	ret = node_readv(m->file, at, part, n, len);
	if (part != small)
		free(part);
	return ret;
}

static int read_packed(struct bmap *m, uint64_t b, const struct bmap_entry *e, uint64_t in_block,
		       const struct iovec *iov, int niov, uint64_t skip, uint64_t len)
{
	uint8_t *packed, *out;
	int ret;

	pthread_mutex_lock(&m->lock);
	if (m->unpacked_block == b) {
		iov_from_buf(iov, niov, skip, m->unpacked + in_block, len);
		pthread_mutex_unlock(&m->lock);
		return 0;
	}
	pthread_mutex_unlock(&m->lock);
	packed = malloc(e->packed_len ? e->packed_len : 1);
	out = malloc(m->block);
	ret = packed && out ? node_pread(m->file, packed, e->packed_len, e->off) : -ENOMEM;
	if (ret == 0)
		ret = m->ops->unpack(m, b, packed, e->packed_len, out);
	if (ret == 0) {
		iov_from_buf(iov, niov, skip, out + in_block, len);
		if (len < m->block) {
			pthread_mutex_lock(&m->lock);
			free(m->unpacked);
			m->unpacked = out;
			m->unpacked_block = b;
			pthread_mutex_unlock(&m->lock);
			out = NULL;
		}
	}
	free(packed);
	free(out);
	return ret;
}

int bmap_read(struct bmap *m, uint64_t off, const struct iovec *iov, int niov, uint64_t skip,
	      uint64_t len)
{
	while (len) {
		uint64_t b = off / m->block, in_block = off % m->block, run;
		struct bmap_entry e = { 0 };
		int ret;

		pthread_mutex_lock(&m->lock);
		ret = lookup_run(m, b, in_block, len, &e, &run);
		if (ret == 0 && e.state == BMAP_DATA && m->ops->sector_present &&
		    !m->ops->sector_present(m, b, &e, in_block, &run))
			e.state = BMAP_NONE;
		pthread_mutex_unlock(&m->lock);
		if (ret < 0)
			return ret;
		switch (e.state) {
		case BMAP_NONE:
			ret = read_below(m, off, iov, niov, skip, run);
			break;
		case BMAP_ZERO:
			iov_zero(iov, niov, skip, run);
			break;
		case BMAP_DATA:
			ret = read_file(m, e.off + in_block, iov, niov, skip, run);
			break;
		case BMAP_PACKED:
			ret = read_packed(m, b, &e, in_block, iov, niov, skip, run);
			break;
		}
		if (ret < 0)
			return ret;
		off += run;
		skip += run;
		len -= run;
	}
	return 0;
}

static bool allocating(struct bmap *m, uint64_t first, uint64_t n)
{
	for (struct bmap_alloc *a = m->allocs; a; a = a->next)
		if (a->first < first + n && first < a->first + a->n)
			return true;
	return false;
}

static void alloc_end(struct bmap *m, struct bmap_alloc *a)
{
	struct bmap_alloc **p = &m->allocs;

	while (*p != a)
		p = &(*p)->next;
	*p = a->next;
	pthread_cond_broadcast(&m->wake);
}

/*
 * Writes [off, off + len) of the guest's data into fresh blocks at `at`, with what surrounds it in
 * the first and last block: one write. Space past the old end of a regular file reads as zeros, so
 * zeros around the data need no writing there.
 */
static int write_fresh(struct bmap *m, const struct bmap_alloc *a, uint64_t at, enum bmap_state was,
		       uint64_t old_off, uint64_t old_len, uint64_t off, const struct iovec *iov,
		       int niov, uint64_t skip, uint64_t len)
{
	uint64_t start = a->first * m->block, total = a->n * m->block;
	uint64_t head = off - start, tail = total - head - len, below;
	struct bmap_entry old = { was, old_off, old_len, 0 };
	struct iovec *list = malloc((niov + 2) * sizeof(*list)), h, t;
	uint8_t *buf = NULL;
	int n = 0, ret = -ENOMEM;

	if (!list)
		return ret;
	if (was == BMAP_NONE && !m->owner->backing && m->file->fd >= 0) {
		/*
		 * Zeros all around: the end of the last block is made by growing the file, the rest
		 * is a hole.
		 */
		n = iov_slice(list, iov, niov, skip, len);
		ret = node_writev(m->file, at + m->head + head, list, n, len, 0);
		if (ret == 0 && tail) {
			/* Never by a resize: another worker may be past us already. */
			static const uint8_t zeros[512];
			uint64_t n_end = MIN(tail, sizeof(zeros));

			if (at + m->head + total > bmap_file_size(m))
				ret = node_pwrite(m->file, zeros, n_end,
						  at + m->head + total - n_end);
		}
		goto out;
	}
	buf = calloc(1, head + tail + 1);
	if (!buf)
		goto out;
	h = (struct iovec){ buf, head };
	t = (struct iovec){ buf + head, tail };
	ret = 0;
	if (was == BMAP_PACKED) {
		if (head)
			ret = read_packed(m, a->first, &old, 0, &h, 1, 0, head);
		if (ret == 0 && tail)
			ret = read_packed(m, a->first, &old, m->block - tail, &t, 1, 0, tail);
	} else if (was == BMAP_NONE) {
		if (head)
			ret = read_below(m, start, &h, 1, 0, head);
		below = start + total > m->size ? MIN(tail, start + total - m->size) : 0;
		if (ret == 0 && tail > below)
			ret = read_below(m, off + len, &t, 1, 0, tail - below);
	}
	if (ret < 0)
		goto out;
	if (head)
		list[n++] = h;
	n += iov_slice(list + n, iov, niov, skip, len);
	if (tail)
		list[n++] = t;
	ret = node_writev(m->file, at + m->head, list, n, total, 0);
out:
	free(buf);
	free(list);
	return ret;
}

static int write_alloc(struct bmap *m, const struct bmap_entry *e, uint64_t off,
		       const struct iovec *iov, int niov, uint64_t skip, uint64_t *len)
{
	struct bmap_alloc a = { .first = off / m->block };
	uint64_t at;
	int ret;

	/*
	 * Lock held: as many blocks as lie alike; one where each has a header of its own, or an old
	 * packed content.
	 */
	if (m->stride != m->block || e->state == BMAP_PACKED)
		*len = MIN(*len, m->block - off % m->block);
	a.n = (off + *len - 1) / m->block - a.first + 1;
	if (allocating(m, a.first, a.n)) {
		pthread_cond_wait(&m->wake, &m->lock);
		return -EAGAIN;
	}
	at = ALIGN_UP(m->end, m->align);
	if (at > INT64_MAX - a.n * m->stride)
		return -EFBIG;
	m->end = at + a.n * m->stride;
	a.next = m->allocs;
	m->allocs = &a;
	pthread_mutex_unlock(&m->lock);

	ret = m->ops->prepare ? m->ops->prepare(m, a.first, at, true, off % m->block, *len) : 0;
	if (ret == 0)
		ret = write_fresh(m, &a, at, e->state, e->off, e->packed_len, off, iov, niov, skip,
				  *len);

	pthread_mutex_lock(&m->lock);
	if (ret == 0) {
		m->dirty = true;
		ret = m->ops->commit(m, a.first, a.n, at + m->head);
		if (m->unpacked_block >= a.first && m->unpacked_block < a.first + a.n)
			m->unpacked_block = UINT64_MAX;
	}
	alloc_end(m, &a);
	return ret;
}

int bmap_write(struct bmap *m, uint64_t off, const struct iovec *iov, int niov, uint64_t skip,
	       uint64_t len)
{
	struct iovec *part = malloc(niov * sizeof(*part));
	int ret = 0, n;

	if (!part)
		return -ENOMEM;
	while (len) {
		uint64_t b = off / m->block, in_block = off % m->block, run;
		struct bmap_entry e = { 0 };

		pthread_mutex_lock(&m->lock);
		ret = lookup_run(m, b, in_block, len, &e, &run);
		if (ret == 0 && e.state != BMAP_DATA) {
			ret = write_alloc(m, &e, off, iov, niov, skip, &run);
			pthread_mutex_unlock(&m->lock);
			if (ret == -EAGAIN)
				continue;
		} else {
			pthread_mutex_unlock(&m->lock);
			if (ret == 0 && m->ops->prepare)
				ret = m->ops->prepare(m, b, e.off - m->head, false, in_block, run);
			if (ret == 0) {
				n = iov_slice(part, iov, niov, skip, run);
				ret = node_writev(m->file, e.off + in_block, part, n, run, 0);
			}
		}
		if (ret < 0)
			break;
		off += run;
		skip += run;
		len -= run;
	}
	free(part);
	return ret;
}

int bmap_zeroes(struct bmap *m, uint64_t off, uint64_t len)
{
	static const uint8_t zeros[64 * 1024];

	while (len) {
		uint64_t b = off / m->block, in_block = off % m->block, run, left;
		struct bmap_entry e = { 0 };
		bool done = false;
		int ret;

		pthread_mutex_lock(&m->lock);
		ret = lookup_run(m, b, in_block, len, &e, &run);
		if (ret == 0 && allocating(m, b, (in_block + run - 1) / m->block + 1)) {
			pthread_cond_wait(&m->wake, &m->lock);
			pthread_mutex_unlock(&m->lock);
			continue;
		}
		if (ret == 0) {
			if (e.state == BMAP_ZERO || (e.state == BMAP_NONE && !m->owner->backing)) {
				done = true;
			} else if (m->ops->commit_zero &&
				   !(m->zero_in_place && e.state == BMAP_DATA)) {
				/*
				 * Whole blocks (the disk's last one counts as whole), if the run
				 * begins with one.
				 */
				uint64_t n = run / m->block;

				if (off + run == m->size && run % m->block)
					n++;
				if (in_block == 0 && n) {
					run = MIN(run, n * m->block);
					m->dirty = true;
					ret = m->ops->commit_zero(m, b, n);
					if (m->unpacked_block >= b && m->unpacked_block < b + n)
						m->unpacked_block = UINT64_MAX;
					done = true;
				} else {
					run = MIN(run, m->block - in_block);
				}
			}
		}
		pthread_mutex_unlock(&m->lock);
		if (ret < 0)
			return ret;
		if (!done) {
			if (e.state == BMAP_DATA && !m->ops->prepare && m->stride == m->block) {
				ret = node_zeroes(m->file, e.off + in_block, run, 0);
				if (ret < 0 && ret != -ENOTSUP)
					return ret;
				done = ret == 0;
			}
			for (left = done ? 0 : run; left; left -= MIN(left, sizeof(zeros))) {
				struct iovec iov = { (void *)zeros, MIN(left, sizeof(zeros)) };

				ret = bmap_write(m, off + run - left, &iov, 1, 0, iov.iov_len);
				if (ret < 0)
					return ret;
			}
		}
		off += run;
		len -= run;
	}
	return 0;
}

int bmap_flush(struct bmap *m)
{
	int ret;

	if (m->read_only)
		return 0;
	pthread_mutex_lock(&m->lock);
	ret = node_flush(m->file);
	if (ret == 0 && m->dirty) {
		ret = m->ops->writeback(m);
		if (ret == 0) {
			m->dirty = false;
			ret = node_flush(m->file);
		}
	}
	pthread_mutex_unlock(&m->lock);
	return ret;
}

int bmap_extent(struct bmap *m, uint64_t off, uint64_t len, struct extent *e)
{
	uint64_t b = off / m->block, in_block = off % m->block, run;
	struct bmap_entry entry = { 0 };
	int ret;

	pthread_mutex_lock(&m->lock);
	ret = lookup_run(m, b, in_block, len, &entry, &run);
	if (ret == 0 && entry.state == BMAP_DATA && m->ops->sector_present &&
	    !m->ops->sector_present(m, b, &entry, in_block, &run))
		entry.state = BMAP_NONE;
	pthread_mutex_unlock(&m->lock);
	if (ret < 0)
		return ret;
	*e = (struct extent){ .len = run };
	switch (entry.state) {
	case BMAP_NONE:
		break;
	case BMAP_ZERO:
		e->flags = EXT_ZERO | EXT_ALLOCATED;
		break;
	case BMAP_DATA:
		e->flags = EXT_DATA | EXT_ALLOCATED | EXT_OFFSET;
		e->file = m->file;
		e->file_off = entry.off + in_block;
		break;
	case BMAP_PACKED:
		e->flags = EXT_DATA | EXT_ALLOCATED | EXT_COMPRESSED;
		break;
	}
	return 0;
}

static int compare_offsets(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

int bmap_check(struct bmap *m, struct node_check *c, uint64_t first_data)
{
	uint64_t blocks = block_count(m), n = 0, cap = 0, last = 0, *at = NULL, span;
	int ret = 0;

	for (uint64_t b = 0; b < blocks; b += span) {
		struct bmap_entry e = { 0 };
		int r;

		pthread_mutex_lock(&m->lock);
		r = m->ops->lookup(m, b, &e);
		pthread_mutex_unlock(&m->lock);
		span = e.state == BMAP_NONE && e.span > 1 ? MIN(e.span, blocks - b) : 1;
		c->total_clusters += span;
		if (c->corruptions >= CORRUPTIONS_MAX) {
			node_check_say(c,
				       "ERROR: more than %d errors: the check stops at block %llu",
				       CORRUPTIONS_MAX, (unsigned long long)b);
			break;
		}
		if (r < 0) {
			node_check_say(c, "ERROR: block %llu: its table entry is not usable",
			       (unsigned long long)b);
			c->corruptions++;
			continue;
		}
		if (e.state != BMAP_DATA && e.state != BMAP_PACKED)
			continue;
		c->allocated_clusters++;
		c->compressed_clusters += e.state == BMAP_PACKED;
		if (n && e.state == BMAP_DATA && e.off != last + m->stride)
			c->fragmented_clusters++;
		last = e.off;
		if (e.off < first_data || e.off > bmap_file_size(m)) {
			node_check_say(c, "ERROR: block %llu lies at %llu, %s",
				       (unsigned long long)b, (unsigned long long)e.off,
				       e.off < first_data ? "inside the metadata"
							  : "past the end of the file");
			c->corruptions++;
			continue;
		}
		if (n == cap) {
			uint64_t *more = realloc(at, (cap = cap ? cap * 2 : 4096) * sizeof(*at));

			if (!more) {
				ret = -ENOMEM;
				goto out;
			}
			at = more;
		}
		at[n++] = e.off;
	}
	if (n)
		qsort(at, n, sizeof(*at), compare_offsets);
	for (uint64_t i = 1; i < n; i++) {
		if (at[i] == at[i - 1]) {
			node_check_say(c, "ERROR: two blocks lie at %llu",
				       (unsigned long long)at[i]);
			c->corruptions++;
		}
	}
	c->image_end_offset = m->end;
out:
	free(at);
	return ret;
}
