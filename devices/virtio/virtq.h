/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtq.h: one virtqueue (virtio 1.2, 2.7 split, 2.8 packed). This module alone owns the ring
 * rules: index bounds, chain length, indirect tables, event index, barriers, and which heads are
 * popped and not yet used. A ring the guest broke is virtq_set_broken() plus a rate-limited line,
 * never an assert or a hang.
 *
 * A queue belongs to one loop at a time, whose lock guards it.
 */
#ifndef DEVICES_VIRTIO_VIRTQ_H
#define DEVICES_VIRTIO_VIRTQ_H

#include "vmm/base/iov.h"
#include "vmm/base/state.h"
#include "vmm/base/util.h"
#include "vmm/wires/mem.h"

#define VIRTQ_MAX_SIZE 1024
#define VIRTQ_MAX_IOV 1026		/* entries of one chain after merging, both directions */

struct virtq_shadow;
struct loop;

struct virtq {
	struct mem *mem;
	const char *who;		/* "virtio-blk0 queue 0", for messages */
	unsigned trace;			/* categories its chains are traced in */
	uint64_t used_id;		/* of the chain used last */
	/* Set by the transport while the queue is disabled. */
	uint16_t size, max_size;
	uint64_t desc, avail, used;	/* guest physical; driver and device area for packed */
	bool enabled;
	bool event_idx, indirect, packed;
	bool broken;
	/* Told once when the ring turns out to be broken, on the queue's loop. */
	void (*on_broken)(void *ctx, const char *why);
	void *on_broken_ctx;
	/*
	 * Its share of one turn of the loop (limits.h). Once it is used up pop finds nothing more
	 * and `again` has been called, which has the device look again in a later turn. loop NULL:
	 * no bound.
	 */
	struct loop *loop;
	uint16_t turn_max;		/* chains */
	void (*again)(void *ctx);
	void *again_ctx;
	/* The rest is virtq.c's. */
	uint64_t turn;			/* the one these count: */
	uint32_t turn_chains, turn_descs;
	uint64_t turn_bytes;
	bool turn_over;
	uint16_t last_avail;		/* next to pop: running index (split), slot (packed) */
	uint16_t avail_seen;		/* split: the driver's index when we last looked */
	uint16_t used_idx;		/* next to fill: running index (split), slot (packed) */
	uint16_t pending;		/* pushed, not yet published */
	uint16_t signalled_used;	/* used_idx at the last flush */
	bool signalled_valid, avail_wrap, used_wrap;
	bool kicks_off;
	uint16_t first_slot, first_flags;	/* packed: the held back start of the batch */
	uint16_t inflight;		/* popped, not yet pushed; includes held */
	uint16_t held;			/* ... of these without an element */
	uint8_t *popped;		/* one byte a head (or packed buffer id): enum in virtq.c */
	struct virtq_shadow *shadow;	/* packed: descriptors of chains in flight */
	uint16_t shadow_free;
	uint64_t map_generation;
	void *desc_host, *avail_host, *used_host;
};

/* A popped chain: the driver's buffers (out: we read) first, then ours (in: we write). */
struct virtq_elem {
	uint16_t head;			/* to give back */
	uint16_t ndesc;			/* descriptors it took (packed) */
	int out_n, in_n;
	uint64_t out_len, in_len;	/* bytes; no wrap-around */
	uint64_t id;			/* for the trace; 0 while it is off */
	struct iovec *iov;		/* out_n entries, then in_n; pinned */
};

void virtq_init(struct virtq *q, struct mem *mem, const char *who, uint16_t max_size);
void virtq_exit(struct virtq *q);
/* back to disabled, indices 0; nothing may be in flight but held chains */
void virtq_reset(struct virtq *q);
/*
 * Look up the rings. 0, or -EFAULT / -EINVAL when an address or size is impossible (the queue is
 * then broken).
 */
int virtq_enable(struct virtq *q);

/*
 * Take the next chain. Returns 1 with e filled (iov points at the caller's array of max entries), 0
 * when empty or when the queue's share of this turn is used up, -EPROTO when the ring is broken.
 * Every popped chain is given back by exactly one virtq_push (or _unpop, _hold).
 */
int virtq_pop(struct virtq *q, struct virtq_elem *e, struct iovec *iov, int max);
/* Undo the last pop; several in reverse order (net: buffers fetched ahead). */
void virtq_unpop(struct virtq *q, struct virtq_elem *e);
/*
 * Unpins (marks written bytes dirty), puts it into the used ring. The driver sees it after
 * virtq_flush.
 */
void virtq_push(struct virtq *q, struct virtq_elem *e, uint32_t written);
/*
 * Publish pushed elements with one index update (barriers inside). Returns whether the driver wants
 * an interrupt.
 */
bool virtq_flush(struct virtq *q);

/*
 * A request that an I/O error stopped: the chain is unpinned and stays popped, without an element.
 * It is saved with the queue; virtq_pop_held takes such chains again, parsing them from the start.
 * Returns as virtq_pop.
 */
void virtq_hold(struct virtq *q, struct virtq_elem *e);
int virtq_pop_held(struct virtq *q, struct virtq_elem *e, struct iovec *iov, int max);

/*
 * Bytes of the queue's chains were copied on the loop: they count in its share of the turn. Whether
 * the share is used up (`again` has been called then).
 */
void virtq_charge(struct virtq *q, uint64_t bytes);
bool virtq_turn_over(struct virtq *q);

/*
 * Ask the driver not to / to kick. virtq_kicks_on returns true when chains came meanwhile: look
 * again.
 */
void virtq_kicks_off(struct virtq *q);
bool virtq_kicks_on(struct virtq *q);
bool virtq_empty(struct virtq *q);
void virtq_set_broken(struct virtq *q, const char *fmt, ...) PRINTF(2, 3);

/* Quiesced: nothing in flight but held chains. Size, addresses, indices, held heads. */
void virtq_save(struct virtq *q, struct state_out *o);
int virtq_load(struct virtq *q, struct state_in *in);

#endif
