/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2_io.c: reads and writes of the guest. MAP under the image lock, DATA without it, COMMIT
 * under it (see qcow2.h). Worker threads, several at once; qcow2_plain also on loops.
 */
#include <errno.h>
#include <stdlib.h>

#include "disk/qcow2/qcow2.h"
#include "disk/qcow2/qcow2_bitmap.h"
#include "disk/qcow2/qcow2_crypt.h"
#include "vmm/base/iov.h"

/* A part of a request's scatter list; small ones need no memory. */
struct part { struct iovec few[8], *iov; int n; };

static int part_init(struct part *p, const struct iovec *iov, int niov, uint64_t off, uint64_t len,
		     int extra)
{
	p->iov = p->few;
	if (niov + extra > (int)ARRAY_SIZE(p->few)) {
		p->iov = calloc(niov + extra, sizeof(*p->iov));
		if (!p->iov)
			return -ENOMEM;
	}
	p->n = iov_slice(p->iov, iov, niov, off, len);
	return 0;
}

static void part_free(struct part *p)
{
	if (p->iov != p->few)
		free(p->iov);
}

/* --- reading --- */

static int read_piece(struct qcow2 *q, const struct mapping *m, uint64_t off, uint64_t pos,
		      const struct iovec *iov, int niov)
{
	struct part p;
	int ret = 0;

	switch (m->type) {
	case MAP_UNALLOCATED:
		if (q->n->backing && off < q->n->size) {
			ret = part_init(&p, iov, niov, pos, m->len, 0);
			if (!ret) {
				ret = node_readv(q->n->backing, off, p.iov, p.n, m->len);
				part_free(&p);
			}
			return ret;
		}
		/* fall through */
	case MAP_ZERO:
	case MAP_ZERO_ALLOC:
		iov_zero(iov, niov, pos, m->len);
		return 0;
	case MAP_COMPRESSED:
		return qcow2_read_compressed(q, m, q_in_cluster(q, off), pos, iov, niov, m->len);
	case MAP_NORMAL:
		break;
	}
	if (q->crypt)
		return qcow2_crypt_read(q, m->host, off, pos, iov, niov, m->len);
	ret = part_init(&p, iov, niov, pos, m->len, 0);
	if (!ret) {
		ret = node_readv(q_data(q), m->host, p.iov, p.n, m->len);
		part_free(&p);
	}
	return ret;
}

int qcow2_read(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len)
{
	struct qcow2 *q = n->priv;
	uint64_t pos = 0;

	while (pos < len) {
		struct mapping m;
		unsigned epoch;
		int ret;

		pthread_mutex_lock(&q->lock);
		ret = qcow2_map(q, off + pos, len - pos, &m);
		epoch = epoch_enter(q);
		pthread_mutex_unlock(&q->lock);
		if (!ret)
			ret = read_piece(q, &m, off + pos, pos, iov, niov);
		epoch_leave(q, epoch);
		if (ret)
			return ret;
		pos += m.len;
	}
	return 0;
}

/* --- one owner for each cluster being allocated (R3) --- */

void alloc_begin(struct qcow2 *q, struct alloc *a, uint64_t first, uint64_t count)
{
again:
	for (struct alloc *o = q->allocs; o; o = o->next)
		if (o->first < first + count && first < o->first + o->count) {
			pthread_cond_wait(&q->changed, &q->lock);
			goto again;
		}
	a->first = first;
	a->count = count;
	a->next = q->allocs;
	q->allocs = a;
}

void alloc_end(struct qcow2 *q, struct alloc *a)
{
	for (struct alloc **p = &q->allocs; *p; p = &(*p)->next)
		if (*p == a) {
			*p = a->next;
			break;
		}
	pthread_cond_broadcast(&q->changed);
}

static bool alloc_overlaps(const struct qcow2 *q, uint64_t first, uint64_t count)
{
	for (const struct alloc *o = q->allocs; o; o = o->next)
		if (o->first < first + count && first < o->first + o->count)
			return true;
	return false;
}

/* --- writing --- */

/* What a write writes: memory, or (iov NULL) bytes of a host file. */
struct source {
	const struct iovec *iov;
	int niov;
	int fd;
	uint64_t fd_off;
};

/* One step of a write: a range of guest clusters that get host clusters [host, ...). */
struct step {
	struct alloc a;
	uint64_t off, len;		/* the guest's bytes */
	uint64_t from, to;		/* bytes written: with the copied head and tail */
	uint64_t host;			/* of the first cluster */
	/* host clusters are there already (zero or partly allocated clusters) */
	bool in_place;
	/* never written: the rest of the clusters reads as zeros by itself */
	bool fresh;
	struct table *t;		/* pinned */
};

/* Can the guest's bytes of this cluster be written where they are? */
static bool cluster_reusable(const struct qcow2 *q, uint64_t entry)
{
	return (entry & L2E_COPIED) && !(entry & L2E_COMPRESSED) &&
	       ((entry & L2E_OFFSET) || q->n->data_file);
}

/*
 * How many clusters from first on can be done in one step: all new, or all in place and in a row.
 * *entry0: the first one. Stops before one that could simply be overwritten.
 */
static uint64_t step_extent(struct qcow2 *q, struct table *t, uint64_t first, uint64_t max,
			    uint64_t *entry0)
{
	uint64_t i0 = first & ((1ull << q->l2_bits) - 1), n, bitmap, entry;

	max = MIN(max, (1ull << q->l2_bits) - i0);
	entry_load(q, t, i0, entry0, &bitmap);
	for (n = 1; n < max; n++) {
		entry_load(q, t, i0 + n, &entry, &bitmap);
		if (cluster_reusable(q, entry) != cluster_reusable(q, *entry0))
			break;
		if (!cluster_reusable(q, entry))
			continue;
		if (entry_type(q, entry, bitmap, 0) == MAP_NORMAL ||
		    (entry & L2E_OFFSET) != (*entry0 & L2E_OFFSET) + (n << q->cluster_bits))
			break;
	}
	return n;
}

/* MAP of an allocating write. With the lock. */
static int step_map(struct qcow2 *q, struct step *s, uint64_t off, uint64_t len)
{
	uint64_t first = off >> q->cluster_bits,
		 count = ((off + len - 1) >> q->cluster_bits) - first + 1, entry, got;
	uint64_t sc = 1ull << q->sc_bits;
	int ret;

	if (q->corrupt)
		return -EIO;
	ret = l2_get_writable(q, q_l1_index(q, off), &s->t);
	if (ret)
		return ret;
	count = step_extent(q, s->t, first, count, &entry);
	s->in_place = cluster_reusable(q, entry);
	s->fresh = false;
	if (s->in_place) {
		s->host = entry & L2E_OFFSET;
	} else if (q->n->data_file) {
		s->host = first << q->cluster_bits;
	} else {
		uint64_t was_end = q->end;

		s->t->pins++;
		ret = clusters_alloc(q, count, &s->host, &got);
		s->t->pins--;
		if (ret)
			return ret;
		count = got;
		s->fresh = q->sparse_file && s->host >= was_end << q->cluster_bits;
	}
	s->off = off;
	s->len = MIN(len, ((first + count) << q->cluster_bits) - off);
	/*
	 * What is written at least: whole subclusters, but of those in place that are allocated
	 * already.
	 */
	s->from = ALIGN_DOWN(off, sc);
	s->to = ALIGN_UP(off + s->len, sc);
	if (s->in_place && q_ext_l2(q)) {
		uint64_t e, bitmap, last = off + s->len - 1;

		entry_load(q, s->t, q_l2_index(q, off), &e, &bitmap);
		if (entry_type(q, e, bitmap, q_in_cluster(q, off) >> q->sc_bits) == MAP_NORMAL)
			s->from = off;
		entry_load(q, s->t, q_l2_index(q, last), &e, &bitmap);
		if (entry_type(q, e, bitmap, q_in_cluster(q, last) >> q->sc_bits) == MAP_NORMAL)
			s->to = last + 1;
	}
	s->t->pins++;
	s->a.first = first;
	s->a.count = count;
	s->a.next = q->allocs;
	q->allocs = &s->a;
	return 0;
}

/*
 * The old bytes around the guest's. *zero: they are known to be zeros, and fresh clusters need none
 * written.
 */
static int read_around(struct qcow2 *q, uint64_t off, uint64_t len, uint8_t *buf, bool *zero)
{
	struct iovec iov = { buf, len };
	struct mapping m;
	int ret;

	*zero = true;
	if (!len)
		return 0;
	pthread_mutex_lock(&q->lock);
	ret = qcow2_map(q, off, len, &m);
	pthread_mutex_unlock(&q->lock);
	if (ret)
		return ret;
	if (m.len >= len &&
	    (m.type == MAP_ZERO || m.type == MAP_ZERO_ALLOC ||
	     (m.type == MAP_UNALLOCATED && (!q->n->backing || off >= q->n->backing->size)))) {
		memset(buf, 0, len);
		return 0;
	}
	*zero = false;
	return qcow2_read(q->n, off, &iov, 1, len);
}

/*
 * DATA of an allocating write: head, the guest's bytes (from pos of the source on) and tail in one
 * write.
 */
static int step_data(struct qcow2 *q, struct step *s, const struct source *src, uint64_t pos)
{
	uint64_t head = s->off - s->from, tail = s->to - (s->off + s->len), start = s->from;
	uint64_t host = s->host + s->from - (s->a.first << q->cluster_bits);
	bool head_zero, tail_zero;
	uint8_t *around = NULL;
	struct part p;
	int ret, n = 0;

	if (!src->iov)
		return head + tail ? -ENOTSUP
				   : node_copy_from(q_data(q), host, src->fd, src->fd_off + pos,
						    s->len);
	if (head + tail) {
		if (posix_memalign((void **)&around, 4096, head + tail))
			return -ENOMEM;
	}
	ret = read_around(q, s->from, head, around, &head_zero);
	if (!ret)
		ret = read_around(q, s->off + s->len, tail, head ? around + head : around,
				  &tail_zero);
	if (ret)
		goto out;
	if (s->fresh && !q->crypt) {
		if (head_zero) {
			start += head;
			host += head;
			head = 0;
		}
		if (tail_zero)
			tail = 0;
	}
	ret = part_init(&p, src->iov, src->niov, pos, s->len, 2);
	if (ret)
		goto out;
	if (head) {
		memmove(p.iov + 1, p.iov, p.n * sizeof(*p.iov));
		p.iov[0] = (struct iovec){ around, head };
		n = 1;
	}
	n += p.n;
	if (tail)
		p.iov[n++] = (struct iovec){ around + s->off - s->from, tail };
	if (q->crypt)
		ret = qcow2_crypt_write(q, host, start, p.iov, n, head + s->len + tail);
	else
		ret = node_writev(q_data(q), host, p.iov, n, head + s->len + tail, 0);
	part_free(&p);
out:
	free(around);
	return ret;
}

/* COMMIT: the entries. With the lock. */
static int step_commit(struct qcow2 *q, struct step *s)
{
	uint64_t i0 = s->a.first & ((1ull << q->l2_bits) - 1);

	for (uint64_t i = 0; i < s->a.count; i++) {
		uint64_t entry, bitmap, host = s->host + (i << q->cluster_bits),
					guest = (s->a.first + i) << q->cluster_bits;
		int ret;

		entry_load(q, s->t, i0 + i, &entry, &bitmap);
		if (!s->in_place) {
			ret = entry_free(q, entry);
			if (ret)
				return ret;
		}
		if (q_ext_l2(q)) {
			uint64_t from = MAX(s->from, guest),
				 to = MIN(s->to, guest + q->cluster_size);

			if (entry & L2E_COMPRESSED)
				bitmap = SC_ALL_ALLOC;
			for (uint64_t sc = (from - guest) >> q->sc_bits;
			     sc < (to - guest + (1ull << q->sc_bits) - 1) >> q->sc_bits; sc++)
				bitmap = (bitmap | SC_ALLOC(sc)) & ~SC_ZERO(sc);
		}
		entry_store(q, s->t, i0 + i, host | L2E_COPIED, bitmap);
	}
	return 0;
}

/*
 * A cluster that moves takes its other subclusters along: those allocated in the old place are
 * copied, so the range written is widened to the whole clusters at both ends. With the lock.
 */
static void step_widen(struct qcow2 *q, struct step *s)
{
	uint64_t guest = s->a.first << q->cluster_bits,
		 end = (s->a.first + s->a.count) << q->cluster_bits, entry, bitmap;

	if (s->in_place || !q_ext_l2(q))
		return;
	entry_load(q, s->t, q_l2_index(q, s->off), &entry, &bitmap);
	if ((entry & L2E_COMPRESSED) || (bitmap & SC_ALL_ALLOC))
		s->from = guest;
	entry_load(q, s->t, q_l2_index(q, s->off + s->len - 1), &entry, &bitmap);
	if ((entry & L2E_COMPRESSED) || (bitmap & SC_ALL_ALLOC))
		s->to = end;
}

static int write_alloc(struct qcow2 *q, uint64_t off, uint64_t len, const struct source *src,
		       uint64_t pos, uint64_t *done)
{
	struct step s = { .off = 0 };
	unsigned epoch;
	int ret;

	ret = step_map(q, &s, off, len);
	if (!ret)
		step_widen(q, &s);
	epoch = epoch_enter(q);
	pthread_mutex_unlock(&q->lock);
	if (ret) {
		epoch_leave(q, epoch);
		pthread_mutex_lock(&q->lock);
		return ret;
	}
	ret = step_data(q, &s, src, pos);
	epoch_leave(q, epoch);
	pthread_mutex_lock(&q->lock);
	if (!ret)
		ret = step_commit(q, &s);
	else if (!s.in_place && !q->n->data_file)
		clusters_unalloc(q, s.host, s.a.count);	/* nothing has ever pointed to them */
	s.t->pins--;
	alloc_end(q, &s.a);
	*done = s.len;
	return ret;
}

/* DATA of a write to where the bytes are. */
static int write_in_place(struct qcow2 *q, uint64_t host, uint64_t off, const struct source *src,
			  uint64_t pos, uint64_t len)
{
	struct part p;
	int ret;

	if (!src->iov)
		return node_copy_from(q_data(q), host, src->fd, src->fd_off + pos, len);
	ret = part_init(&p, src->iov, src->niov, pos, len, 0);
	if (!ret && q->crypt)
		ret = qcow2_crypt_write(q, host, off, p.iov, p.n, len);
	else if (!ret)
		ret = node_writev(q_data(q), host, p.iov, p.n, len, 0);
	part_free(&p);
	return ret;
}

static int write_source(struct node *n, uint64_t off, const struct source *src, uint64_t len)
{
	struct qcow2 *q = n->priv;
	uint64_t pos = 0;
	bool flush = false;
	int ret = qcow2_bitmaps_dirty(q, off, len);

	while (pos < len && !ret) {
		uint64_t at = off + pos, done = 0, first = at >> q->cluster_bits;
		struct mapping m;

		pthread_mutex_lock(&q->lock);
		while (alloc_overlaps(q, first, 1))
			pthread_cond_wait(&q->changed, &q->lock);
		ret = qcow2_map(q, at, len - pos, &m);
		if (!ret && m.type == MAP_NORMAL && m.copied && !q->corrupt &&
		    (q->l1[q_l1_index(q, at)] & L2E_COPIED)) {
			unsigned epoch = epoch_enter(q);

			pthread_mutex_unlock(&q->lock);
			ret = write_in_place(q, m.host, at, src, pos, m.len);
			epoch_leave(q, epoch);
			pos += m.len;
			continue;
		}
		if (!ret) {
			/* Up to the next cluster that somebody else is allocating. */
			uint64_t want = len - pos, last = (at + want - 1) >> q->cluster_bits;

			for (struct alloc *a = q->allocs; a; a = a->next)
				if (a->first > first && a->first <= last) {
					last = a->first - 1;
					want = ((last + 1) << q->cluster_bits) - at;
				}
			ret = write_alloc(q, at, want, src, pos, &done);
		}
		flush |= q->need_flush;
		pthread_mutex_unlock(&q->lock);
		pos += done;
	}
	if (flush)
		qcow2_flush(n);		/* its error comes back at the next flush */
	return ret;
}

int qcow2_write(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len,
		unsigned flags)
{
	const struct source src = { .iov = iov, .niov = niov };

	return write_source(n, off, &src, len);
}

int qcow2_copy_from(struct node *n, uint64_t off, int fd, uint64_t fd_off, uint64_t len)
{
	const struct source src = { .fd = fd, .fd_off = fd_off };

	return ((struct qcow2 *)n->priv)->crypt ? -ENOTSUP : write_source(n, off, &src, len);
}

/* --- the fast path --- */

/* Do these bytes read as zeros without looking at anything but the table (NULL: not in memory)? */
static bool plainly_zeros(const struct qcow2 *q, const struct table *t, uint64_t off, uint64_t len)
{
	uint64_t last = q_l2_index(q, off + len - 1);

	if (!t)
		return !q->n->backing &&
		       !(__atomic_load_n(&q->l1[q_l1_index(q, off)], __ATOMIC_RELAXED) &
			 L1E_OFFSET);
	for (uint64_t i = q_l2_index(q, off); i <= last; i++) {
		uint64_t entry, bitmap;
		enum map_type type;

		entry_load(q, t, i, &entry, &bitmap);
		type = entry_type(q, entry, bitmap, 0);
		if (type != MAP_ZERO && type != MAP_ZERO_ALLOC &&
		    (type != MAP_UNALLOCATED || q->n->backing))
			return false;
	}
	return true;
}

/*
 * Bit 0 of a cookie is always set, bit 1 the epoch; above that the cookie of the file's own
 * plain().
 */
int qcow2_plain(struct node *n, uint64_t off, uint64_t len, bool write, int *fd, uint64_t *fd_off,
		uintptr_t *cookie)
{
	struct qcow2 *q = n->priv;
	const struct node_ops *ops = q_data(q)->ops;
	uint64_t i, last, host = 0, entry, bitmap;
	uintptr_t below = 0;
	struct table *t;
	unsigned epoch;

	if (!ops->plain || !len || q->crypt || __atomic_load_n(&q->corrupt, __ATOMIC_RELAXED) ||
	    (write && qcow2_bitmaps_watch(q)))
		return -EAGAIN;
	epoch = epoch_enter(q);
	if (q_l1_index(q, off) >= q->l1_size || q_l1_index(q, off) != q_l1_index(q, off + len - 1))
		goto no;
	t = __atomic_load_n(&q->map[q_l1_index(q, off)], __ATOMIC_ACQUIRE);
	if (!write && !q_ext_l2(q) && !(t && t->suspect) && plainly_zeros(q, t, off, len)) {
		epoch_leave(q, epoch);
		return 1;
	}
	if (!t || t->suspect)
		goto no;
	last = q_l2_index(q, off + len - 1);
	for (i = q_l2_index(q, off); i <= last; i++) {
		uint64_t guest = (off & ~(q->cluster_size - 1)) +
				 ((i - q_l2_index(q, off)) << q->cluster_bits);
		uint64_t from = MAX(off, guest), to = MIN(off + len, guest + q->cluster_size);

		entry_load(q, t, i, &entry, &bitmap);
		if ((entry & (L2E_COMPRESSED | L2E_ZERO)) || (write && !(entry & L2E_COPIED)))
			goto no;
		if (entry_type(q, entry, bitmap, 0) != MAP_NORMAL && !q_ext_l2(q))
			goto no;
		if (q_ext_l2(q)) {
			uint64_t again, unused;

			/*
			 * Two words: a bitmap that belongs to another place of the cluster must not
			 * be taken for this one's.
			 */
			entry_load(q, t, i, &again, &unused);
			if (again != entry)
				goto no;
			for (uint64_t sc = (from - guest) >> q->sc_bits;
			     sc <= (to - 1 - guest) >> q->sc_bits; sc++)
				if (entry_type(q, entry, bitmap, sc) != MAP_NORMAL)
					goto no;
		}
		if (from == off)
			host = (entry & L2E_OFFSET) + (off - guest);
		else if ((entry & L2E_OFFSET) != host + (guest - off))
			goto no;
	}
	if (ops->plain(q_data(q), host, len, write, fd, fd_off, &below))
		goto no;
	*cookie = below | 1 | epoch << 1;
	return 0;
no:
	epoch_leave(q, epoch);
	return -EAGAIN;
}

void qcow2_plain_done(struct node *n, uintptr_t cookie)
{
	struct qcow2 *q = n->priv;
	struct node *d = q_data(q);

	if (d->ops->plain_done)
		d->ops->plain_done(d, cookie & ~(uintptr_t)3);
	epoch_leave(q, cookie >> 1 & 1);
}

int qcow2_extent(struct node *n, uint64_t off, uint64_t len, struct extent *e)
{
	struct qcow2 *q = n->priv;
	struct mapping m;
	int ret;

	pthread_mutex_lock(&q->lock);
	ret = qcow2_map(q, off, len, &m);
	pthread_mutex_unlock(&q->lock);
	if (ret)
		return ret;
	*e = (struct extent){ .len = m.len };
	switch (m.type) {
	case MAP_UNALLOCATED:
		break;
	case MAP_ZERO:
		e->flags = EXT_ZERO | EXT_ALLOCATED;
		break;
	case MAP_ZERO_ALLOC:
		e->flags = EXT_ZERO | EXT_ALLOCATED | EXT_OFFSET;
		break;
	case MAP_NORMAL:
		e->flags = EXT_DATA | EXT_ALLOCATED | (q->crypt ? 0 : EXT_OFFSET);
		break;
	case MAP_COMPRESSED:
		e->flags = EXT_DATA | EXT_ALLOCATED | EXT_COMPRESSED;
		break;
	}
	if (e->flags & EXT_OFFSET) {
		e->file = q_data(q);
		e->file_off = m.host;
	}
	return 0;
}
