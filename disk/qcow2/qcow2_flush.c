/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2_flush.c: the order in which things become durable (R1, R2, R4), and the epochs.
 *
 * A flush:  A under the lock: write refcount blocks and tables that nothing points to yet; copy the
 *           changed sectors of
 *              L2 tables and L1 (they may change again meanwhile)
 *           A' when there are new refcount blocks: fdatasync, then write the refcount table's
 *           changed sectors
 *           B  fdatasync: data, refcounts, new tables
 *           C  write the copies: the L2 and L1 entries that link all that; fdatasync
 *           D  under the lock: what those entries no longer point to may go, once its epoch is over
 */
#include <errno.h>
#include <stdlib.h>

#include "disk/qcow2/qcow2.h"

/* --- epochs --- */

unsigned epoch_enter(struct qcow2 *q)
{
	struct epochs *e = &q->epochs;

	for (;;) {
		unsigned cur = __atomic_load_n(&e->current, __ATOMIC_SEQ_CST) & 1;

		__atomic_add_fetch(&e->users[cur], 1, __ATOMIC_SEQ_CST);
		if ((__atomic_load_n(&e->current, __ATOMIC_SEQ_CST) & 1) == cur)
			return cur;
		__atomic_sub_fetch(&e->users[cur], 1, __ATOMIC_SEQ_CST);
	}
}

void epoch_leave(struct qcow2 *q, unsigned epoch)
{
	__atomic_sub_fetch(&q->epochs.users[epoch], 1, __ATOMIC_SEQ_CST);
}

static void release_waiting(struct qcow2 *q)
{
	struct epochs *e = &q->epochs;

	for (size_t i = 0; i < e->waiting.n; i++) {
		struct qcow2_free *f = &e->waiting.v[i];

		if (q->discard_files && !q->n->data_file) {
			/*
			 * Only what nobody else refers to; still counted, so nobody takes it
			 * meanwhile.
			 */
			for (uint64_t c = 0; c < f->count; c++) {
				uint64_t v;

				if (refcount_get(q, (f->host >> q->cluster_bits) + c, &v) == 0 &&
				    v == 1)
					node_discard(q->n->file, f->host + (c << q->cluster_bits),
						     q->cluster_size);
			}
		}
		refcount_add(q, f->host >> q->cluster_bits, f->count, -1);
	}
	e->waiting.n = 0;
	while (e->dead_waiting) {
		struct table *t = e->dead_waiting;

		e->dead_waiting = t->next;
		free(t->data);
		free(t->dirty);
		free(t);
	}
}

static void epochs_advance(struct qcow2 *q)
{
	struct epochs *e = &q->epochs;

	/* Twice: what was thrown away just now may go at once when nobody is inside. */
	for (int i = 0; i < 2 && e->busy; i++) {
		struct free_list spare;

		if (e->waiting.n || e->dead_waiting) {
			if (__atomic_load_n(&e->users[e->waiting_for], __ATOMIC_SEQ_CST))
				return;
			release_waiting(q);
		}
		if (!e->pending.n && !e->dead) {
			e->busy = false;
			return;
		}
		spare = e->waiting;
		e->waiting = e->pending;
		e->pending = spare;
		e->dead_waiting = e->dead;
		e->dead = NULL;
		e->waiting_for = e->current & 1;
		__atomic_add_fetch(&e->current, 1, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&e->users[e->waiting_for], __ATOMIC_SEQ_CST))
			return;
		release_waiting(q);
	}
}

int free_later(struct qcow2 *q, struct free_list *l, uint64_t host, uint64_t clusters)
{
	struct qcow2_free *last = l->n ? &l->v[l->n - 1] : NULL;

	if (last && last->host + (last->count << q->cluster_bits) == host) {
		last->count += clusters;
		return 0;
	}
	if (l->n == l->max) {
		size_t max = MAX(l->max * 2, (size_t)64);
		struct qcow2_free *v = realloc(l->v, max * sizeof(*v));

		if (!v)
			return -ENOMEM;
		l->v = v;
		l->max = max;
	}
	l->v[l->n++] = (struct qcow2_free){ host, clusters };
	if (l == &q->frees && l->n > 16384)
		q->need_flush = true;
	return 0;
}

/* --- the flush --- */

/* Bytes to be written when phase B has passed. */
struct piece { uint64_t off; uint32_t len; size_t at; struct table *t; };
struct pieces {
	struct piece *v;
	size_t n, max;
	uint8_t *bytes;
	size_t used, room;
};

static int piece_add(struct pieces *p, uint64_t off, const void *data, size_t len, struct table *t)
{
	if (p->n == p->max) {
		size_t max = MAX(p->max * 2, (size_t)32);
		struct piece *v = realloc(p->v, max * sizeof(*v));

		if (!v)
			return -ENOMEM;
		p->v = v;
		p->max = max;
	}
	if (p->used + len > p->room) {
		size_t room = MAX(p->room * 2, p->used + len + 65536);
		uint8_t *b = realloc(p->bytes, room);

		if (!b)
			return -ENOMEM;
		p->bytes = b;
		p->room = room;
	}
	memcpy(p->bytes + p->used, data, len);
	p->v[p->n++] = (struct piece){ off, len, p->used, t };
	p->used += len;
	return 0;
}

/* Calls fn for each run of dirty 512-byte sectors and clears them. */
static int dirty_runs(uint64_t *dirty, uint64_t sectors,
		      int (*fn)(void *ctx, uint64_t byte, uint64_t len), void *ctx)
{
	for (uint64_t s = 0; s < sectors; s++) {
		uint64_t first = s;
		int ret;

		if (!dirty[s / 64]) {
			s |= 63;
			continue;
		}
		while (s < sectors && (dirty[s / 64] >> (s % 64) & 1))
			s++;
		if (s == first)
			continue;
		ret = fn(ctx, first * 512, (s - first) * 512);
		if (ret)
			return ret;
		for (uint64_t i = first; i < s; i++)
			dirty[i / 64] &= ~(1ull << (i % 64));
	}
	return 0;
}

struct run_ctx { struct qcow2 *q; struct pieces *p; struct table *t; };

static int run_copy(void *ctx, uint64_t byte, uint64_t len)
{
	struct run_ctx *r = ctx;

	return piece_add(r->p, r->t->host + byte, r->t->data + byte, len, r->t);
}

static int run_write(void *ctx, uint64_t byte, uint64_t len)
{
	struct run_ctx *r = ctx;

	return node_pwrite(r->q->n->file, r->t->data + byte, len, r->t->host + byte);
}

/* Sectors of a table of 64-bit numbers kept in the machine's order. */
static int words_piece(struct pieces *p, const uint64_t *words, uint64_t count, uint64_t byte,
		       uint64_t len, uint64_t host)
{
	uint8_t *b = xcalloc(1, len);
	int ret;

	len = MIN(len, count * 8 - byte);
	for (uint64_t i = 0; i < len; i += 8)
		st_be64(b + i, words[(byte + i) / 8]);
	ret = piece_add(p, host + byte, b, len, NULL);
	free(b);
	return ret;
}

static int run_l1(void *ctx, uint64_t byte, uint64_t len)
{
	struct run_ctx *r = ctx;

	return words_piece(r->p, r->q->l1, r->q->l1_size, byte, len, r->q->h.l1_offset);
}

static int run_reft(void *ctx, uint64_t byte, uint64_t len)
{
	struct run_ctx *r = ctx;

	return words_piece(r->p, r->q->reft, r->q->reft_size, byte, len, r->q->h.reftable_offset);
}

static int pieces_write(struct qcow2 *q, struct pieces *p)
{
	int ret = 0;

	for (size_t i = 0; i < p->n && !ret; i++)
		ret = node_pwrite(q->n->file, p->bytes + p->v[i].at, p->v[i].len, p->v[i].off);
	return ret;
}

static int write_refblocks(struct qcow2 *q)
{
	uint64_t sectors = q->cluster_size / 512;

	for (struct table *t = q->rbs.head; t; t = t->next) {
		struct run_ctx r = { q, NULL, t };
		int ret;

		if (!t->is_dirty)
			continue;
		if (t->fresh) {
			ret = node_pwrite(q->n->file, t->data, q->cluster_size, t->host);
			if (!ret) {
				t->fresh = false;
				memset(t->dirty, 0, (sectors + 63) / 64 * 8);
			}
		} else {
			ret = dirty_runs(t->dirty, sectors, run_write, &r);
		}
		if (ret)
			return ret;
		t->is_dirty = false;
	}
	return 0;
}

/* Everything dirty again: the copies did not all reach the file. */
static void l2_undo(struct qcow2 *q, struct pieces *p)
{
	for (size_t i = 0; i < p->n; i++) {
		struct table *t = p->v[i].t;

		if (t)
			table_dirty(q, t, p->v[i].off - t->host, p->v[i].len);
		else
			for (uint64_t b = 0; b < p->v[i].len; b += 512)
				l1_set(q, (p->v[i].off - q->h.l1_offset + b) / 8,
				       q->l1[(p->v[i].off - q->h.l1_offset + b) / 8]);
	}
}

/* Phase A for L2 and L1. Tables whose copies are under way are pinned. */
static int l2_collect(struct qcow2 *q, struct pieces *p)
{
	uint64_t sectors = q->cluster_size / 512;
	struct run_ctx r = { q, p, NULL };
	int ret;

	for (struct table *t = q->l2s.head; t; t = t->next) {
		if (!t->is_dirty)
			continue;
		r.t = t;
		if (t->fresh) {
			/*
			 * Not linked yet: all of it, now. What is changed later goes by copies,
			 * after B.
			 */
			ret = node_pwrite(q->n->file, t->data, q->cluster_size, t->host);
			if (ret)
				return ret;
			memset(t->dirty, 0, (sectors + 63) / 64 * 8);
			t->fresh = false;
		} else {
			ret = dirty_runs(t->dirty, sectors, run_copy, &r);
			if (ret)
				return ret;
		}
		t->is_dirty = false;
	}
	if (q->l1_is_dirty) {
		ret = dirty_runs(q->l1_dirty, (q->l1_size * 8 + 511) / 512, run_l1, &r);
		if (ret)
			return ret;
		q->l1_is_dirty = false;
	}
	return 0;
}

static int data_sync(struct qcow2 *q)
{
	int ret = q->n->data_file ? node_flush(q->n->data_file) : 0;

	return ret ? ret : node_flush(q->n->file);
}

/* With flush_lock. */
static int flush_once(struct qcow2 *q)
{
	struct pieces links = { 0 }, reft = { 0 };
	struct run_ctx r = { q, &reft, NULL };
	struct free_list batch;
	int ret;

	pthread_mutex_lock(&q->lock);
	batch = q->frees;
	q->frees = (struct free_list){ 0 };
	q->need_flush = false;
	ret = write_refblocks(q);
	if (!ret && q->reft_is_dirty) {
		ret = dirty_runs(q->reft_dirty, (q->reft_size * 8 + 511) / 512, run_reft, &r);
		q->reft_is_dirty = ret != 0;
	}
	if (!ret)
		ret = l2_collect(q, &links);
	for (size_t i = 0; i < links.n; i++)
		if (links.v[i].t)
			links.v[i].t->pins++;
	pthread_mutex_unlock(&q->lock);

	if (!ret && reft.n) {
		ret = node_flush(q->n->file);
		if (!ret)
			ret = pieces_write(q, &reft);
	}
	if (!ret)
		ret = data_sync(q);
	if (!ret && links.n) {
		ret = pieces_write(q, &links);
		if (!ret)
			ret = node_flush(q->n->file);
	}

	pthread_mutex_lock(&q->lock);
	for (size_t i = 0; i < links.n; i++)
		if (links.v[i].t)
			links.v[i].t->pins--;
	if (ret) {
		l2_undo(q, &links);
		for (size_t i = 0; i < reft.n; i++)
			for (uint64_t b = reft.v[i].off - q->h.reftable_offset;
			     b < reft.v[i].off - q->h.reftable_offset + reft.v[i].len; b += 512) {
				q->reft_dirty[b / 512 / 64] |= 1ull << (b / 512 % 64);
				q->reft_is_dirty = true;
			}
		for (size_t i = 0; i < batch.n; i++)
			free_later(q, &q->frees, batch.v[i].host, batch.v[i].count);
	} else {
		for (size_t i = 0; i < batch.n; i++)
			free_later(q, &q->epochs.pending, batch.v[i].host, batch.v[i].count);
		q->epochs.busy |= batch.n > 0;
		epochs_advance(q);
	}
	pthread_mutex_unlock(&q->lock);
	free(batch.v);
	free(links.v);
	free(links.bytes);
	free(reft.v);
	free(reft.bytes);
	return ret;
}

int qcow2_flush(struct node *n)
{
	struct qcow2 *q = n->priv;
	int ret;

	pthread_mutex_lock(&q->flush_lock);
	ret = flush_once(q);
	pthread_mutex_unlock(&q->flush_lock);
	return ret;
}

int qcow2_flush_locked_out(struct qcow2 *q)
{
	int ret;

	pthread_mutex_lock(&q->flush_lock);
	ret = flush_once(q);
	/* The refcounts that fell are written too: a leak after a clean end would be untidy. */
	if (!ret)
		ret = flush_once(q);
	pthread_mutex_unlock(&q->flush_lock);
	return ret;
}
