/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtq_ring.h: what virtq.c (both layouts' common part, split rings) and virtq_packed.c share.
 * Nobody else includes it.
 *
 * The guest may write a ring while we read it: every field is loaded once, into a local, and then
 * checked.
 */
#ifndef DEVICES_VIRTIO_VIRTQ_RING_H
#define DEVICES_VIRTIO_VIRTQ_RING_H

#include <linux/virtio_ring.h>

#include "devices/virtio/virtq.h"

enum { HEAD_FREE, HEAD_POPPED, HEAD_HELD };	/* popped[] */

#define load_relaxed(p) __atomic_load_n(p, __ATOMIC_RELAXED)
#define load_acquire(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define store_relaxed(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)
#define store_release(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)
/* Between our store (index, event) and the load of the driver's answer to it. */
/* (Thread sanitizer knows no fences.) */
#define full_barrier() __asm__ volatile("lock; addl $0, (%%rsp)" ::: "memory", "cc")

/* A descriptor of either layout, copied out of guest memory. */
struct virtq_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;			/* split: next index; packed: buffer id */
};

/*
 * A ring descriptor of a packed chain in flight: its place in the ring may be overwritten by used
 * entries.
 */
struct virtq_shadow {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;			/* SHADOW_END ends; also links the free ones */
};
#define SHADOW_END 0xffff

/* A chain being put together. */
struct chain {
	struct virtq *q;
	struct virtq_elem *e;
	int n, max;			/* entries used and there */
	uint64_t run_gpa, run_len;	/* adjacent descriptors, not yet looked up */
	bool run_write;
};

void chain_begin(struct chain *c, struct virtq *q, struct virtq_elem *e, struct iovec *iov,
		 int max);
/* One descriptor, plain or INDIRECT. 0, or -EPROTO with the queue broken. */
int chain_add(struct chain *c, const struct virtq_desc *d);
/* 1, or -EPROTO. Either chain_end or chain_abort undoes nothing but the pins. */
int chain_end(struct chain *c, uint16_t head, uint16_t ndesc);
void chain_abort(struct chain *c);

/* The rings' host addresses are right; false with the queue broken otherwise. */
bool ring_map_slow(struct virtq *q);
static inline bool ring_map(struct virtq *q)
{
	return (q->desc_host && q->map_generation == mem_generation(q->mem)) || ring_map_slow(q);
}

int packed_pop(struct virtq *q, struct virtq_elem *e, struct iovec *iov, int max);
int packed_pop_held(struct virtq *q, uint16_t id, struct virtq_elem *e, struct iovec *iov, int max);
void packed_unpop(struct virtq *q, struct virtq_elem *e);
void packed_push(struct virtq *q, struct virtq_elem *e, uint32_t written);
bool packed_flush(struct virtq *q);
void packed_kicks_off(struct virtq *q);
void packed_kicks_on(struct virtq *q);
bool packed_empty(struct virtq *q);
void packed_init(struct virtq *q);		/* the shadow's free list */
void packed_save_held(struct virtq *q, struct state_out *o);
int packed_load_held(struct virtq *q, struct state_in *in);

#endif
