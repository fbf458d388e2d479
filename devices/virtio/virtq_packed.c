/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtq_packed.c: packed virtqueues (virtio 1.2, 2.8). One ring of descriptors that driver and
 * device take turns to fill; flag bits and a wrap counter on each side say whose turn it is.
 * Threads: as virtq.c.
 *
 * Used entries overwrite descriptors of chains still in flight, so the descriptors of each chain
 * are kept (shadow) until it is used: a held chain is parsed again from there.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/virtio/virtq_ring.h"

#define DESC_AVAIL (1 << VRING_PACKED_DESC_F_AVAIL)
#define DESC_USED (1 << VRING_PACKED_DESC_F_USED)
#define EVENT_OFF_MASK 0x7fff

/* Per buffer id, where its shadow list starts. */
static uint16_t *shadow_start(struct virtq *q, uint16_t id)
{
	return &q->shadow[q->max_size + id].next;
}

void packed_init(struct virtq *q)
{
	free(q->shadow);
	q->shadow = xcalloc(2 * (size_t)q->max_size, sizeof(*q->shadow));
	for (unsigned i = 0; i < q->max_size; i++) {
		q->shadow[i].next = i + 1 < q->max_size ? i + 1 : SHADOW_END;
		*shadow_start(q, i) = SHADOW_END;
	}
	q->shadow_free = 0;
}

/*
 * Appends a copy of d behind *tail; false when all `size` descriptors of the ring are in flight
 * already.
 */
static bool shadow_add(struct virtq *q, uint16_t **tail, const struct virtq_desc *d)
{
	uint16_t i = q->shadow_free;

	if (i == SHADOW_END)
		return false;
	q->shadow_free = q->shadow[i].next;
	q->shadow[i] = (struct virtq_shadow){ d->addr, d->len, d->flags, SHADOW_END };
	**tail = i;
	*tail = &q->shadow[i].next;
	return true;
}

static void shadow_release(struct virtq *q, uint16_t first)
{
	while (first != SHADOW_END) {
		uint16_t next = q->shadow[first].next;

		q->shadow[first].next = q->shadow_free;
		q->shadow_free = first;
		first = next;
	}
}

static inline uint16_t slot_next(const struct virtq *q, unsigned slot, unsigned n)
{
	slot += n;
	return slot >= q->size ? slot - q->size : slot;
}

static inline bool is_avail(uint16_t flags, bool wrap)
{
	return !!(flags & DESC_AVAIL) == wrap && !!(flags & DESC_USED) != wrap;
}

bool packed_empty(struct virtq *q)
{
	struct vring_packed_desc *ring = q->desc_host;

	return !is_avail(le16toh(load_acquire(&ring[q->last_avail].flags)), q->avail_wrap);
}

static void slot_load(struct virtq *q, uint16_t slot, struct virtq_desc *d)
{
	struct vring_packed_desc *p = (struct vring_packed_desc *)q->desc_host + slot;

	d->flags = le16toh(load_acquire(&p->flags));
	d->addr = le64toh(load_relaxed(&p->addr));
	d->len = le32toh(load_relaxed(&p->len));
	d->next = le16toh(load_relaxed(&p->id));
}

int packed_pop(struct virtq *q, struct virtq_elem *e, struct iovec *iov, int max)
{
	uint16_t first = SHADOW_END, *tail = &first, slot = q->last_avail;
	struct virtq_desc d;
	struct chain c;
	unsigned n = 0;
	int ret;

	slot_load(q, slot, &d);
	if (!is_avail(d.flags, q->avail_wrap))
		return 0;
	chain_begin(&c, q, e, iov, max);
	for (;;) {
		if (++n > q->size || !shadow_add(q, &tail, &d)) {
			virtq_set_broken(q, "more than %u descriptors in flight in a ring of %u", n,
					 q->size);
			goto broken;
		}
		if (chain_add(&c, &d))
			goto broken;
		slot = slot_next(q, slot, 1);
		if (!(d.flags & VRING_DESC_F_NEXT))
			break;
		slot_load(q, slot, &d);
	}
	/* The id stands in the last descriptor of the chain (2.8.6). */
	if (d.next >= q->size || q->popped[d.next]) {
		virtq_set_broken(q,
				 d.next >= q->size
					 ? "buffer id %u of %u"
					 : "buffer id %u of %u given while it is in flight",
				 d.next, q->size);
		goto broken;
	}
	ret = chain_end(&c, d.next, n);
	if (ret < 0)
		goto broken;
	*shadow_start(q, d.next) = first;
	q->popped[d.next] = HEAD_POPPED;
	q->inflight++;
	q->avail_wrap ^= slot < q->last_avail || n == q->size;
	q->last_avail = slot;
	return 1;
broken:
	chain_abort(&c);
	shadow_release(q, first);
	return -EPROTO;
}

int packed_pop_held(struct virtq *q, uint16_t id, struct virtq_elem *e, struct iovec *iov, int max)
{
	struct chain c;
	unsigned n = 0;

	chain_begin(&c, q, e, iov, max);
	for (uint16_t i = *shadow_start(q, id); i != SHADOW_END; i = q->shadow[i].next) {
		struct virtq_desc d = { q->shadow[i].addr, q->shadow[i].len, q->shadow[i].flags,
					id };

		if (chain_add(&c, &d)) {
			chain_abort(&c);
			return -EPROTO;
		}
		n++;
	}
	return chain_end(&c, id, n);
}

static void chain_over(struct virtq *q, uint16_t id)
{
	shadow_release(q, *shadow_start(q, id));
	*shadow_start(q, id) = SHADOW_END;
}

void packed_unpop(struct virtq *q, struct virtq_elem *e)
{
	chain_over(q, e->head);
	if (q->last_avail < e->ndesc) {
		q->last_avail += q->size;
		q->avail_wrap ^= true;
	}
	q->last_avail -= e->ndesc;
}

void packed_push(struct virtq *q, struct virtq_elem *e, uint32_t written)
{
	struct vring_packed_desc *p = (struct vring_packed_desc *)q->desc_host + q->used_idx;
	uint16_t flags = (q->used_wrap ? DESC_AVAIL | DESC_USED : 0) |
			 (written ? VRING_DESC_F_WRITE : 0);

	chain_over(q, e->head);
	store_relaxed(&p->id, htole16(e->head));
	store_relaxed(&p->len, htole32(written));
	/*
	 * The driver reads entries in order: while the first one is held back it sees none of the
	 * batch.
	 */
	if (q->pending++) {
		store_relaxed(&p->flags, htole16(flags));
	} else {
		q->first_slot = q->used_idx;
		q->first_flags = flags;
	}
	mem_mark_dirty(q->mem, q->desc + 16ull * q->used_idx, 16);
	q->used_wrap ^= q->used_idx + e->ndesc >= q->size;
	q->used_idx = slot_next(q, q->used_idx, e->ndesc);
}

bool packed_flush(struct virtq *q)
{
	struct vring_packed_desc *ring = q->desc_host;
	struct vring_packed_desc_event *ev = q->avail_host;
	uint16_t old = q->signalled_used, new = q->used_idx, flags, off_wrap, event;
	bool valid = q->signalled_valid;

	q->pending = 0;
	store_release(&ring[q->first_slot].flags, htole16(q->first_flags));
	mem_mark_dirty(q->mem, q->desc + 16ull * q->first_slot, 16);
	q->signalled_used = new;
	q->signalled_valid = true;
	full_barrier();
	flags = le16toh(load_acquire(&ev->flags));
	if (flags != VRING_PACKED_EVENT_FLAG_DESC || !q->event_idx)
		return flags != VRING_PACKED_EVENT_FLAG_DISABLE;
	/*
	 * Place all three on one line of numbers that ends at `new`: what lies before the wrap is
	 * negative.
	 */
	off_wrap = le16toh(load_relaxed(&ev->off_wrap));
	event = off_wrap & EVENT_OFF_MASK;
	if (off_wrap >> VRING_PACKED_EVENT_F_WRAP_CTR != q->used_wrap)
		event -= q->size;
	if (old >= new)
		old -= q->size;
	return !valid || vring_need_event(event, new, old);
}

void packed_kicks_off(struct virtq *q)
{
	struct vring_packed_desc_event *ev = q->used_host;

	store_relaxed(&ev->flags, htole16(VRING_PACKED_EVENT_FLAG_DISABLE));
	mem_mark_dirty(q->mem, q->used, 4);
}

void packed_kicks_on(struct virtq *q)
{
	struct vring_packed_desc_event *ev = q->used_host;

	if (q->event_idx) {
		store_relaxed(
			&ev->off_wrap,
			htole16(q->last_avail | q->avail_wrap << VRING_PACKED_EVENT_F_WRAP_CTR));
		store_release(&ev->flags, htole16(VRING_PACKED_EVENT_FLAG_DESC));
	} else {
		store_relaxed(&ev->flags, htole16(VRING_PACKED_EVENT_FLAG_ENABLE));
	}
	mem_mark_dirty(q->mem, q->used, 4);
}

/* --- saved machines --- */
/* The descriptors of held chains, 16 bytes each: address, length, id, flags. */

void packed_save_held(struct virtq *q, struct state_out *o)
{
	uint8_t *buf = xcalloc(q->max_size, 16);
	size_t n = 0;

	for (unsigned id = 0; id < q->max_size && q->shadow; id++) {
		if (q->popped[id] != HEAD_HELD)
			continue;
		for (uint16_t i = *shadow_start(q, id); i != SHADOW_END;
		     i = q->shadow[i].next, n++) {
			st_be64(buf + 16 * n, q->shadow[i].addr);
			st_be32(buf + 16 * n + 8, q->shadow[i].len);
			st_be16(buf + 16 * n + 12, id);
			st_be16(buf + 16 * n + 14, q->shadow[i].flags);
		}
	}
	state_bytes(o, "held-descriptors", buf, 16 * n);
	free(buf);
}

int packed_load_held(struct virtq *q, struct state_in *in)
{
	uint16_t *tail = NULL, last = SHADOW_END;
	unsigned of_chain = 0;
	const uint8_t *p;
	size_t len;
	int ret;

	ret = state_get_blob(in, "held-descriptors", (const void **)&p, &len,
			     16 * (size_t)q->max_size);
	if (ret)
		return ret;
	if (q->enabled && !q->broken && (q->last_avail >= q->size || q->used_idx >= q->size))
		return state_bad(in, "%s: indices %u and %u of %u", q->who, q->last_avail,
				 q->used_idx, q->size);
	if (len % 16)
		return state_bad(in, "%s: %zu bytes of held descriptors", q->who, len);
	packed_init(q);
	for (size_t i = 0; i < len / 16; i++, p += 16) {
		uint16_t id = ld_be16(p + 12);
		struct virtq_desc d = { ld_be64(p), ld_be32(p + 8), ld_be16(p + 14), id };

		if (id >= MIN(q->size, q->max_size) || q->popped[id] != HEAD_HELD ||
		    (id != last && *shadow_start(q, id) != SHADOW_END))
			return state_bad(in, "%s: held descriptor of buffer id %u", q->who, id);
		if (id != last) {
			tail = shadow_start(q, id);
			of_chain = 0;
		}
		last = id;
		if (++of_chain > q->size)
			return state_bad(in, "%s: buffer id %u has more descriptors than the ring",
					 q->who, id);
		if (!shadow_add(q, &tail, &d))
			return state_bad(in, "%s: more held descriptors than the ring has", q->who);
	}
	for (unsigned id = 0; id < q->max_size; id++)
		if (q->popped[id] == HEAD_HELD && *shadow_start(q, id) == SHADOW_END)
			return state_bad(in, "%s: held buffer id %u without descriptors", q->who,
					 id);
	return 0;
}
