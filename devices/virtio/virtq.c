/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtq.c: virtqueues (virtio 1.2): what both layouts have in common, and split rings (2.7). Packed
 * rings (2.8) are in virtq_packed.c.
 *
 * Runs on the queue's loop, with its lock held. The other side of the ring is the guest, which may
 * write anything at any time: each field is read once, then checked. A chain is built from ring
 * descriptors (at most `size`) and at most one indirect table, so no loop can hold us.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "devices/virtio/virtq_ring.h"
#include "vmm/base/limits.h"
#include "vmm/base/log.h"
#include "vmm/base/loop.h"

void virtq_init(struct virtq *q, struct mem *mem, const char *who, uint16_t max_size)
{
	memset(q, 0, sizeof(*q));
	q->mem = mem;
	q->who = xstrdup(who);
	q->max_size = MIN(max_size, VIRTQ_MAX_SIZE);
	q->turn_max = TURN_REQUESTS;
	q->popped = xcalloc(q->max_size, 1);
	virtq_reset(q);
}

void virtq_exit(struct virtq *q)
{
	free((void *)q->who);
	free(q->popped);
	free(q->shadow);
	memset(q, 0, sizeof(*q));
}

void virtq_reset(struct virtq *q)
{
	q->size = q->max_size;
	q->desc = q->avail = q->used = 0;
	q->enabled = q->broken = false;
	q->last_avail = q->avail_seen = q->used_idx = q->pending = q->signalled_used = 0;
	q->signalled_valid = false;
	q->avail_wrap = q->used_wrap = true;
	q->kicks_off = false;
	q->inflight = q->held = 0;
	memset(q->popped, HEAD_FREE, q->max_size);
	free(q->shadow);
	q->shadow = NULL;
	q->desc_host = q->avail_host = q->used_host = NULL;
}

void virtq_set_broken(struct virtq *q, const char *fmt, ...)
{
	char why[160];
	va_list ap;

	if (q->broken)
		return;
	q->broken = true;
	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	log_guest("%s: the guest's driver broke the ring: %s; the queue stands until the driver "
		  "resets the device",
		  q->who, why);
	if (q->on_broken)
		q->on_broken(q->on_broken_ctx, why);
}

/* --- where the rings are --- */

bool ring_map_slow(struct virtq *q)
{
	uint64_t n = q->size;
	uint64_t desc_len = n * sizeof(struct vring_desc);
	uint64_t avail_len = q->packed ? sizeof(struct vring_packed_desc_event) : 6 + 2 * n;
	uint64_t used_len = q->packed ? sizeof(struct vring_packed_desc_event) : 6 + 8 * n;

	q->map_generation = mem_generation(q->mem);
	if (q->desc % 16 || q->avail % (q->packed ? 4 : 2) || q->used % 4) {
		virtq_set_broken(q, "its areas at 0x%llx, 0x%llx, 0x%llx are not aligned",
				 (unsigned long long)q->desc, (unsigned long long)q->avail,
				 (unsigned long long)q->used);
		return false;
	}
	q->desc_host = mem_ptr(q->mem, q->desc, desc_len, q->packed);
	q->avail_host = mem_ptr(q->mem, q->avail, avail_len, false);
	q->used_host = mem_ptr(q->mem, q->used, used_len, true);
	if (q->desc_host && q->avail_host && q->used_host)
		return true;
	q->desc_host = NULL;
	virtq_set_broken(
		q,
		"its areas at 0x%llx, 0x%llx, 0x%llx (size %u) are not wholly in writable memory",
		(unsigned long long)q->desc, (unsigned long long)q->avail,
		(unsigned long long)q->used, q->size);
	return false;
}

int virtq_enable(struct virtq *q)
{
	q->enabled = true;
	if (!q->size || q->size > q->max_size || (!q->packed && !IS_POWER_OF_2(q->size))) {
		virtq_set_broken(q, "size %u (at most %u%s)", q->size, q->max_size,
				 q->packed ? "" : ", a power of two");
		return -EINVAL;
	}
	if (q->packed)
		packed_init(q);
	return ring_map_slow(q) ? 0 : -EFAULT;
}

/* --- chains: descriptors to iovec, for both layouts --- */

void chain_begin(struct chain *c, struct virtq *q, struct virtq_elem *e, struct iovec *iov, int max)
{
	memset(e, 0, sizeof(*e));
	e->iov = iov;
	c->q = q;
	c->e = e;
	c->n = 0;
	c->max = max;
	c->run_len = 0;
	c->run_write = false;
}

void chain_abort(struct chain *c)
{
	if (c->n)
		mem_iov_done(c->q->mem, c->e->iov, c->n, 0);
	c->n = 0;
}

/* Looks up the run of adjacent descriptors gathered so far. */
static int chain_flush_run(struct chain *c)
{
	struct virtq_elem *e = c->e;
	int n;

	if (!c->run_len)
		return 0;
	n = mem_iov(c->q->mem, c->run_gpa, c->run_len, c->run_write, e->iov + c->n, c->max - c->n);
	if (n < 0) {
		if (n == -E2BIG)
			virtq_set_broken(c->q, "a chain of more than %d pieces", c->max);
		else
			virtq_set_broken(c->q, "a buffer at 0x%llx, %llu bytes, is not in %smemory",
					 (unsigned long long)c->run_gpa,
					 (unsigned long long)c->run_len,
					 c->run_write ? "writable " : "");
		return -EPROTO;
	}
	c->n += n;
	*(c->run_write ? &e->in_n : &e->out_n) += n;
	*(c->run_write ? &e->in_len : &e->out_len) += c->run_len;
	c->run_len = 0;
	return 0;
}

static int chain_buffer(struct chain *c, const struct virtq_desc *d)
{
	bool write = d->flags & VRING_DESC_F_WRITE;

	c->q->turn_descs++;
	if (!write && c->run_write) {
		virtq_set_broken(c->q, "a buffer to read behind one to write");
		return -EPROTO;
	}
	if (!d->len) {
		/* Nothing to look up; a later change of direction still counts. */
		if (write && !c->run_write) {
			if (chain_flush_run(c))
				return -EPROTO;
			c->run_write = true;
		}
		return 0;
	}
	if (d->addr + d->len < d->addr) {
		virtq_set_broken(c->q, "a buffer at 0x%llx wraps around",
				 (unsigned long long)d->addr);
		return -EPROTO;
	}
	if (c->run_len && (write != c->run_write || d->addr != c->run_gpa + c->run_len) &&
	    chain_flush_run(c))
		return -EPROTO;
	if (!c->run_len)
		c->run_gpa = d->addr;
	c->run_len += d->len;
	c->run_write = write;
	return 0;
}

/*
 * Copies descriptor i of a table in guest memory: two loads where it is aligned, as drivers have
 * it. Split ones end in flags and next, packed ones in id and flags; within a table the id means
 * nothing (2.8.7).
 */
static void desc_load(const void *table, unsigned i, bool packed, struct virtq_desc *d)
{
	const uint64_t *p = (const uint64_t *)((const char *)table + 16 * (size_t)i);
	uint64_t lo, hi;

	if ((uintptr_t)p % 8 == 0) {
		lo = load_relaxed(p);
		hi = load_relaxed(p + 1);
	} else {
		memcpy(&lo, p, 8);
		memcpy(&hi, (const char *)p + 8, 8);
		__asm__ volatile("" ::: "memory");	/* the copy is what counts from here on */
	}
	d->addr = le64toh(lo);
	hi = le64toh(hi);
	d->len = hi;
	d->flags = packed ? hi >> 48 : hi >> 32;
	d->next = packed ? 0 : hi >> 48;
}

/*
 * 2.7.5.3, 2.8.7: a table of descriptors; split ones are linked by next, packed ones follow each
 * other.
 */
static int chain_indirect(struct chain *c, const struct virtq_desc *table_desc)
{
	unsigned count = table_desc->len / 16, i = 0, seen = 0;
	struct virtq *q = c->q;
	struct virtq_desc d;
	const void *table;

	if (!q->indirect || table_desc->flags & (q->packed ? 0 : VRING_DESC_F_NEXT)) {
		virtq_set_broken(q, q->indirect
					    ? "an indirect table that is not the end of its chain"
					    : "an indirect table without the feature");
		return -EPROTO;
	}
	if (!count || table_desc->len % 16 || count > VIRTQ_MAX_IOV) {
		virtq_set_broken(q, "an indirect table of %u bytes", table_desc->len);
		return -EPROTO;
	}
	table = mem_ptr(q->mem, table_desc->addr, table_desc->len, false);
	if (!table) {
		virtq_set_broken(q, "an indirect table at 0x%llx, not in one piece of memory",
				 (unsigned long long)table_desc->addr);
		return -EPROTO;
	}
	for (;;) {
		desc_load(table, i, q->packed, &d);
		if (d.flags & VRING_DESC_F_INDIRECT) {
			virtq_set_broken(q, "an indirect table in an indirect table");
			return -EPROTO;
		}
		if (chain_buffer(c, &d))
			return -EPROTO;
		if (q->packed) {
			if (++i == count)
				return 0;
			continue;
		}
		if (!(d.flags & VRING_DESC_F_NEXT))
			return 0;
		i = d.next;
		if (i >= count || ++seen >= count) {
			virtq_set_broken(q, i >= count ? "index %u in an indirect table of %u" :
					 "a loop (at %u) in an indirect table of %u", i, count);
			return -EPROTO;
		}
	}
}

int chain_add(struct chain *c, const struct virtq_desc *d)
{
	return d->flags & VRING_DESC_F_INDIRECT ? chain_indirect(c, d) : chain_buffer(c, d);
}

int chain_end(struct chain *c, uint16_t head, uint16_t ndesc)
{
	if (chain_flush_run(c)) {
		chain_abort(c);
		return -EPROTO;
	}
	c->e->head = head;
	c->e->ndesc = ndesc;
	if (trace_mask & (TRACE_VIRTIO | TRACE_BLK | TRACE_NET)) {
		c->e->id = trace_new_id();
		trace(c->q->trace, c->e->id, c->q->who, "pop head %u out %llu in %llu bytes",
		      head, (unsigned long long)c->e->out_len, (unsigned long long)c->e->in_len);
	}
	return 1;
}

/* --- split rings --- */

static int split_chain(struct virtq *q, uint16_t head, struct virtq_elem *e, struct iovec *iov,
		       int max)
{
	struct virtq_desc d;
	struct chain c;
	unsigned i = head, seen = 0;

	chain_begin(&c, q, e, iov, max);
	for (;;) {
		desc_load(q->desc_host, i, false, &d);
		if (chain_add(&c, &d))
			goto broken;
		if (d.flags & VRING_DESC_F_INDIRECT || !(d.flags & VRING_DESC_F_NEXT))
			return chain_end(&c, head, seen + 1);
		i = d.next;
		if (i >= q->size || ++seen >= q->size) {
			virtq_set_broken(q,
					 i >= q->size ? "descriptor %u of %u"
						      : "a loop (at %u) in a ring of %u",
					 i, q->size);
			goto broken;
		}
	}
broken:
	chain_abort(&c);
	return -EPROTO;
}

/* How many chains wait; 0 also when the driver's index is impossible (the queue is then broken). */
static uint16_t split_waiting(struct virtq *q)
{
	struct vring_avail *avail = q->avail_host;
	uint16_t n = q->avail_seen - q->last_avail;

	if (n)
		return n;
	q->avail_seen = le16toh(load_acquire(&avail->idx));
	n = q->avail_seen - q->last_avail;
	if (n > q->size) {
		virtq_set_broken(q, "available index %u, %u ahead of us, in a ring of %u",
				 q->avail_seen, n, q->size);
		q->avail_seen = q->last_avail;
		return 0;
	}
	return n;
}

static int split_pop(struct virtq *q, struct virtq_elem *e, struct iovec *iov, int max)
{
	struct vring_avail *avail = q->avail_host;
	uint16_t head;
	int ret;

	if (!split_waiting(q))
		return q->broken ? -EPROTO : 0;
	head = le16toh(load_relaxed(&avail->ring[q->last_avail & (q->size - 1)]));
	if (head >= q->size || q->popped[head]) {
		virtq_set_broken(q,
				 head >= q->size ? "head %u of %u"
						 : "head %u of %u given while it is in flight",
				 head, q->size);
		return -EPROTO;
	}
	ret = split_chain(q, head, e, iov, max);
	if (ret < 0)
		return ret;
	q->last_avail++;
	q->popped[head] = HEAD_POPPED;
	q->inflight++;
	return 1;
}

static void split_push(struct virtq *q, struct virtq_elem *e, uint32_t written)
{
	struct vring_used *used = q->used_host;
	uint16_t slot = (q->used_idx + q->pending) & (q->size - 1);

	store_relaxed(&used->ring[slot].id, htole32(e->head));
	store_relaxed(&used->ring[slot].len, htole32(written));
	mem_mark_dirty(q->mem, q->used + offsetof(struct vring_used, ring[slot]),
		       sizeof(used->ring[0]));
	q->pending++;
}

static bool split_flush(struct virtq *q)
{
	struct vring_avail *avail = q->avail_host;
	struct vring_used *used = q->used_host;
	uint16_t old = q->signalled_used, event;
	bool valid = q->signalled_valid;

	q->used_idx += q->pending;
	q->pending = 0;
	store_release(&used->idx, htole16(q->used_idx));
	mem_mark_dirty(q->mem, q->used, 4);
	full_barrier();
	if (!q->event_idx)
		return !(le16toh(load_relaxed(&avail->flags)) & VRING_AVAIL_F_NO_INTERRUPT);
	q->signalled_used = q->used_idx;
	q->signalled_valid = true;
	event = le16toh(load_relaxed(&avail->ring[q->size]));
	return !valid || vring_need_event(event, q->used_idx, old);
}

static void split_set_kicks(struct virtq *q, bool on)
{
	struct vring_used *used = q->used_host;

	if (q->event_idx) {
		/*
		 * An event index left behind suppresses by itself: kicks come only when it is
		 * passed.
		 */
		if (!on)
			return;
		store_relaxed((uint16_t *)&used->ring[q->size], htole16(q->last_avail));
		mem_mark_dirty(q->mem, q->used + offsetof(struct vring_used, ring[q->size]), 2);
	} else {
		store_relaxed(&used->flags, htole16(on ? 0 : VRING_USED_F_NO_NOTIFY));
		mem_mark_dirty(q->mem, q->used, 2);
	}
}

/* --- both layouts --- */

static inline bool usable(struct virtq *q)
{
	return q->enabled && !q->broken && ring_map(q);
}

bool virtq_turn_over(struct virtq *q)
{
	uint64_t now;

	if (!q->loop)
		return false;
	now = loop_turn(q->loop);
	if (q->turn != now) {
		q->turn = now;
		q->turn_chains = q->turn_descs = 0;
		q->turn_bytes = 0;
		q->turn_over = false;
	}
	if (!q->turn_over && (q->turn_chains >= q->turn_max || q->turn_descs >= TURN_DESCRIPTORS ||
			      q->turn_bytes >= TURN_BYTES)) {
		q->turn_over = true;
		q->again(q->again_ctx);
	}
	return q->turn_over;
}

void virtq_charge(struct virtq *q, uint64_t bytes)
{
	q->turn_bytes += MIN(bytes, (uint64_t)UINT32_MAX);
}

int virtq_pop(struct virtq *q, struct virtq_elem *e, struct iovec *iov, int max)
{
	int ret;

	if (!usable(q))
		return q->broken ? -EPROTO : 0;
	if (virtq_turn_over(q))
		return 0;
	ret = q->packed ? packed_pop(q, e, iov, max) : split_pop(q, e, iov, max);
	q->turn_chains += ret == 1;
	return ret;
}

int virtq_pop_held(struct virtq *q, struct virtq_elem *e, struct iovec *iov, int max)
{
	int ret;

	if (!q->held || !usable(q))
		return q->broken ? -EPROTO : 0;
	if (virtq_turn_over(q))
		return 0;
	for (unsigned head = 0; head < q->size; head++) {
		if (q->popped[head] != HEAD_HELD)
			continue;
		ret = q->packed ? packed_pop_held(q, head, e, iov, max)
				: split_chain(q, head, e, iov, max);
		if (ret == 1) {
			q->popped[head] = HEAD_POPPED;
			q->held--;
			q->turn_chains++;
		}
		return ret;
	}
	return 0;
}

static void unpin(struct virtq *q, struct virtq_elem *e, uint64_t written)
{
	if (e->out_n)
		mem_iov_done(q->mem, e->iov, e->out_n, 0);
	if (e->in_n)
		mem_iov_done(q->mem, e->iov + e->out_n, e->in_n, MIN(written, e->in_len));
	e->out_n = e->in_n = 0;
}

void virtq_unpop(struct virtq *q, struct virtq_elem *e)
{
	unpin(q, e, 0);
	q->popped[e->head] = HEAD_FREE;
	q->inflight--;
	if (q->packed)
		packed_unpop(q, e);
	else
		q->last_avail--;
}

void virtq_hold(struct virtq *q, struct virtq_elem *e)
{
	unpin(q, e, 0);
	q->popped[e->head] = HEAD_HELD;
	q->held++;
}

void virtq_push(struct virtq *q, struct virtq_elem *e, uint32_t written)
{
	unpin(q, e, written);
	q->popped[e->head] = HEAD_FREE;
	q->inflight--;
	q->used_id = e->id;
	trace(q->trace, e->id, q->who, "used head %u, %u bytes written", e->head, written);
	/*
	 * A ring that broke or moved out of memory meanwhile gets nothing, but the chain is over
	 * all the same.
	 */
	if (!usable(q))
		return;
	if (q->packed)
		packed_push(q, e, written);
	else
		split_push(q, e, written);
}

bool virtq_flush(struct virtq *q)
{
	if (!q->pending || !usable(q)) {
		q->pending = 0;
		return false;
	}
	return q->packed ? packed_flush(q) : split_flush(q);
}

void virtq_kicks_off(struct virtq *q)
{
	if (q->kicks_off || !usable(q))
		return;
	q->kicks_off = true;
	if (q->packed)
		packed_kicks_off(q);
	else
		split_set_kicks(q, false);
}

bool virtq_kicks_on(struct virtq *q)
{
	/* Kicks stay off: the next turn looks by itself. */
	if (!usable(q) || virtq_turn_over(q))
		return false;
	q->kicks_off = false;
	if (q->packed)
		packed_kicks_on(q);
	else
		split_set_kicks(q, true);
	full_barrier();
	return !virtq_empty(q);
}

bool virtq_empty(struct virtq *q)
{
	if (!usable(q))
		return true;
	return q->packed ? packed_empty(q) : !split_waiting(q);
}

/* --- saved machines --- */

static const struct state_field virtq_fields[] = {
	STATE_FIELD(struct virtq, STATE_U16, size),
	STATE_FIELD(struct virtq, STATE_U64, desc),
	STATE_FIELD(struct virtq, STATE_U64, avail),
	STATE_FIELD(struct virtq, STATE_U64, used),
	STATE_FIELD(struct virtq, STATE_BOOL, enabled),
	STATE_FIELD(struct virtq, STATE_BOOL, broken),
	STATE_FIELD(struct virtq, STATE_U16, last_avail),
	STATE_FIELD(struct virtq, STATE_U16, used_idx),
	STATE_FIELD(struct virtq, STATE_U16, signalled_used),
	STATE_FIELD(struct virtq, STATE_BOOL, signalled_valid),
	STATE_FIELD(struct virtq, STATE_BOOL, avail_wrap),
	STATE_FIELD(struct virtq, STATE_BOOL, used_wrap),
};

void virtq_save(struct virtq *q, struct state_out *o)
{
	uint8_t heads[2 * VIRTQ_MAX_SIZE];
	size_t n = 0;

	state_save_fields(o, q, virtq_fields, ARRAY_SIZE(virtq_fields));
	for (unsigned head = 0; head < q->max_size; head++) {
		if (q->popped[head] == HEAD_HELD) {
			st_be16(heads + 2 * n, head);
			n++;
		}
	}
	state_bytes(o, "held", heads, 2 * n);
	if (q->packed)
		packed_save_held(q, o);
}

/*
 * What a queue does not use has its reset value: the indices of one that is not enabled (its size
 * and addresses are the driver's, checked when it enables it), and of a broken one what cannot be.
 */
static void load_stopped(struct virtq *q)
{
	if (!q->enabled) {
		q->broken = q->signalled_valid = false;
		q->last_avail = q->used_idx = q->signalled_used = 0;
		q->avail_wrap = q->used_wrap = true;
	} else if (q->broken && q->packed) {
		q->last_avail = q->last_avail < q->size ? q->last_avail : 0;
		q->used_idx = q->used_idx < q->size ? q->used_idx : 0;
	}
}

int virtq_load(struct virtq *q, struct state_in *in)
{
	const void *heads;
	size_t len;
	int ret;

	virtq_reset(q);
	state_load_fields(in, q, virtq_fields, ARRAY_SIZE(virtq_fields));
	state_get_blob(in, "held", &heads, &len, 2 * (size_t)q->max_size);
	ret = state_in_error(in);
	if (ret)
		goto bad;
	if (q->enabled && !q->broken &&
	    (!q->size || q->size > q->max_size || (!q->packed && !IS_POWER_OF_2(q->size)))) {
		ret = state_bad(in, "%s: size %u of %u", q->who, q->size, q->max_size);
		goto bad;
	}
	load_stopped(q);
	if (!q->enabled && len) {
		ret = state_bad(in, "%s: chains of a queue that is not enabled", q->who);
		goto bad;
	}
	for (size_t i = 0; i < len / 2; i++) {
		uint16_t head = ld_be16((const char *)heads + 2 * i);

		if (len % 2 || head >= MIN(q->size, q->max_size) || q->popped[head]) {
			ret = state_bad(in, "%s: held head %u of %u", q->who, head, q->size);
			goto bad;
		}
		q->popped[head] = HEAD_HELD;
		q->held++;
		q->inflight++;
	}
	q->avail_seen = q->last_avail;
	if (q->packed) {
		ret = packed_load_held(q, in);
		if (ret)
			goto bad;
	} else if (q->enabled && !q->broken && (uint16_t)(q->last_avail - q->used_idx) != q->held) {
		ret = state_bad(in, "%s: indices %u and %u with %u chains in flight", q->who,
				q->last_avail, q->used_idx, q->held);
		goto bad;
	}
	return 0;
bad:
	virtq_reset(q);
	return ret;
}
