/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ring rules: what a hostile, broken or merely unusual driver may put into a virtqueue, split
 * and packed.
 */
#include <errno.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "devices/virtio/virtq.h"
#include "tests/lib/guest.h"

#define SIZE 8
#define DESC 0x100000ull
#define AVAIL 0x101000ull
#define USED 0x102000ull
#define TABLE 0x103000ull
#define BUF 0x200000ull

#define D_AVAIL (1 << VRING_PACKED_DESC_F_AVAIL)

struct ring {
	struct guest *g;
	struct virtq q;
	struct vring_desc *desc, *table;
	struct vring_packed_desc *packed;
	struct vring_avail *avail;
	struct vring_used *used;
	unsigned broken;
	struct iovec iov[VIRTQ_MAX_IOV];
	struct virtq_elem e;
};

static void count_broken(void *ctx, const char *why)
{
	((struct ring *)ctx)->broken++;
}

static struct ring *ring_new(bool packed)
{
	struct ring *r = xcalloc(1, sizeof(*r));

	r->g = guest_new();
	r->desc = guest_ptr(r->g, DESC, 4096);
	r->packed = (void *)r->desc;
	r->avail = guest_ptr(r->g, AVAIL, 4096);
	r->used = guest_ptr(r->g, USED, 4096);
	r->table = guest_ptr(r->g, TABLE, 4096);
	virtq_init(&r->q, r->g->mem, "test queue", 256);
	r->q.on_broken = count_broken;
	r->q.on_broken_ctx = r;
	r->q.size = SIZE;
	r->q.desc = DESC;
	r->q.avail = AVAIL;
	r->q.used = USED;
	r->q.indirect = true;
	r->q.packed = packed;
	CHECK_EQ(virtq_enable(&r->q), 0);
	return r;
}

static void ring_free(struct ring *r)
{
	virtq_exit(&r->q);
	guest_free(r->g);	/* would wait for ever if a buffer were still pinned */
	free(r);
}

static void put(struct ring *r, unsigned i, uint64_t addr, uint32_t len, uint16_t flags,
		uint16_t next)
{
	r->desc[i] = (struct vring_desc){ addr, len, flags, next };
}

static void offer(struct ring *r, uint16_t head)
{
	r->avail->ring[r->avail->idx % SIZE] = head;
	r->avail->idx++;
}

static int pop(struct ring *r)
{
	return virtq_pop(&r->q, &r->e, r->iov, ARRAY_SIZE(r->iov));
}

/* The ring is found broken: once, for good, with nothing pinned and nothing popped. */
static void expect_broken(struct ring *r)
{
	uint16_t inflight = r->q.inflight;

	alarm(10);
	CHECK_EQ(pop(r), -EPROTO);
	CHECK_EQ(pop(r), -EPROTO);
	CHECK_EQ(r->broken, 1);
	CHECK_EQ(r->q.inflight, inflight);
	CHECK(!virtq_kicks_on(&r->q));
	CHECK(virtq_empty(&r->q));
	ring_free(r);
}

#define BROKEN_SPLIT(name, ...)								\
	TEST(name) { struct ring *r = ring_new(false); __VA_ARGS__; expect_broken(r); }
#define BROKEN_PACKED(name, ...)							\
	TEST(name) { struct ring *r = ring_new(true); __VA_ARGS__; expect_broken(r); }
#define NEXT VRING_DESC_F_NEXT
#define WRITE VRING_DESC_F_WRITE
#define IND VRING_DESC_F_INDIRECT

BROKEN_SPLIT(split_self_loop, put(r, 0, BUF, 16, NEXT, 0); offer(r, 0))
BROKEN_SPLIT(split_loop, put(r, 0, BUF, 16, NEXT, 1); put(r, 1, BUF, 16, NEXT, 0); offer(r, 0))
/* Empty descriptors need no room in the list of pieces: only the count ends this. */
BROKEN_SPLIT(split_empty_loop, put(r, 0, BUF, 0, NEXT, 1); put(r, 1, BUF, 0, NEXT, 0); offer(r, 0))
BROKEN_SPLIT(split_head_out_of_range, offer(r, SIZE))
BROKEN_SPLIT(split_next_out_of_range, put(r, 0, BUF, 16, NEXT, SIZE); offer(r, 0))
BROKEN_SPLIT(split_index_jumps, r->avail->idx = SIZE + 1)
BROKEN_SPLIT(split_index_goes_back, r->avail->idx = 0xffff)
BROKEN_SPLIT(split_address_wraps, put(r, 0, UINT64_MAX - 7, 16, 0, 0); offer(r, 0))
BROKEN_SPLIT(split_run_wraps, put(r, 0, 0ull - 16, 16, NEXT, 1); put(r, 1, 0, 16, 0, 0);
	     offer(r, 0))
BROKEN_SPLIT(split_buffer_nowhere, put(r, 0, GUEST_HOLE, 16, 0, 0); offer(r, 0))
BROKEN_SPLIT(split_buffer_half_outside, put(r, 0, GUEST_RAM - 8, 16, 0, 0); offer(r, 0))
BROKEN_SPLIT(split_second_buffer_nowhere, put(r, 0, BUF, 16, NEXT, 1);
	     put(r, 1, GUEST_HOLE, 1, WRITE, 0); offer(r, 0))
BROKEN_SPLIT(split_write_to_rom, put(r, 0, GUEST_ROM, 16, WRITE, 0); offer(r, 0))
BROKEN_SPLIT(split_read_behind_write, put(r, 0, BUF, 16, NEXT | WRITE, 1); put(r, 1, BUF, 16, 0, 0);
	     offer(r, 0))
BROKEN_SPLIT(split_read_behind_empty_write, put(r, 0, BUF, 0, NEXT | WRITE, 1);
	     put(r, 1, BUF, 16, 0, 0); offer(r, 0))
BROKEN_SPLIT(split_four_gigabytes_too_long, put(r, 0, BUF, UINT32_MAX, 0, 0); offer(r, 0))
BROKEN_SPLIT(split_indirect_without_feature, r->q.indirect = false; put(r, 0, TABLE, 16, IND, 0);
	     offer(r, 0))
BROKEN_SPLIT(split_indirect_not_last, put(r, 0, TABLE, 16, IND | NEXT, 1); offer(r, 0))
BROKEN_SPLIT(split_indirect_in_indirect, put(r, 0, TABLE, 16, IND, 0);
	     r->table[0] = (struct vring_desc){ TABLE, 16, IND, 0 }; offer(r, 0))
BROKEN_SPLIT(split_indirect_empty, put(r, 0, TABLE, 0, IND, 0); offer(r, 0))
BROKEN_SPLIT(split_indirect_odd_length, put(r, 0, TABLE, 24, IND, 0); offer(r, 0))
BROKEN_SPLIT(split_indirect_endless, put(r, 0, TABLE, 16 * 65536, IND, 0); offer(r, 0))
BROKEN_SPLIT(split_indirect_nowhere, put(r, 0, GUEST_HOLE, 16, IND, 0); offer(r, 0))
BROKEN_SPLIT(split_indirect_across_the_end, put(r, 0, GUEST_RAM - 16, 32, IND, 0); offer(r, 0))
BROKEN_SPLIT(split_indirect_loop, put(r, 0, TABLE, 32, IND, 0);
	     r->table[0] = (struct vring_desc){ BUF, 1, NEXT, 1 };
	     r->table[1] = (struct vring_desc){ BUF, 1, NEXT, 0 }; offer(r, 0))
BROKEN_SPLIT(split_indirect_next_outside, put(r, 0, TABLE, 32, IND, 0);
	     r->table[0] = (struct vring_desc){ BUF, 1, NEXT, 2 }; offer(r, 0))
BROKEN_SPLIT(split_head_twice, put(r, 0, BUF, 16, 0, 0); offer(r, 0); offer(r, 0);
	     CHECK_EQ(pop(r), 1); virtq_hold(&r->q, &r->e))
BROKEN_SPLIT(split_map_changes_under_the_ring, put(r, 0, BUF, 16, 0, 0); offer(r, 0);
	     block_unmap(r->g->ram);
	     CHECK_EQ(block_map(r->g->ram, 2 * MiB, 2 * MiB, GUEST_RAM - 2 * MiB, 0), 0))

static void put_packed(struct ring *r, unsigned i, uint64_t addr, uint32_t len, uint16_t flags,
		       uint16_t id)
{
	r->packed[i] = (struct vring_packed_desc){ addr, len, id, flags | D_AVAIL };
}

BROKEN_PACKED(packed_id_out_of_range, put_packed(r, 0, BUF, 16, 0, SIZE))
BROKEN_PACKED(packed_id_twice, put_packed(r, 0, BUF, 16, 0, 3); put_packed(r, 1, BUF, 16, 0, 3);
	      CHECK_EQ(pop(r), 1); virtq_hold(&r->q, &r->e))
BROKEN_PACKED(packed_endless_chain,
	      for (int i = 0; i < SIZE; i++) put_packed(r, i, BUF, 16, NEXT, 0))
BROKEN_PACKED(packed_address_wraps, put_packed(r, 0, UINT64_MAX, 2, 0, 0))
BROKEN_PACKED(packed_buffer_nowhere, put_packed(r, 0, GUEST_HOLE, 2, 0, 0))
BROKEN_PACKED(packed_write_to_rom, put_packed(r, 0, GUEST_ROM, 2, WRITE, 0))
BROKEN_PACKED(packed_read_behind_write, put_packed(r, 0, BUF, 2, NEXT | WRITE, 0);
	      put_packed(r, 1, BUF, 2, 0, 0))
BROKEN_PACKED(packed_indirect_in_indirect, put_packed(r, 0, TABLE, 16, IND, 0);
	      *(struct vring_packed_desc *)r->table = (struct vring_packed_desc){ TABLE, 16, 0,
										  IND })
BROKEN_PACKED(packed_indirect_odd_length, put_packed(r, 0, TABLE, 17, IND, 0))
BROKEN_PACKED(packed_indirect_nowhere, put_packed(r, 0, GUEST_HOLE, 16, IND, 0))

static void enable_fails(uint16_t size, uint64_t desc, uint64_t avail, uint64_t used)
{
	struct ring *r = ring_new(false);

	virtq_reset(&r->q);
	r->q.size = size;
	r->q.desc = desc;
	r->q.avail = avail;
	r->q.used = used;
	CHECK(virtq_enable(&r->q) < 0);
	expect_broken(r);
}

TEST(enable_size_zero) { enable_fails(0, DESC, AVAIL, USED); }
TEST(enable_size_not_power_of_two) { enable_fails(12, DESC, AVAIL, USED); }
TEST(enable_size_too_large) { enable_fails(512, DESC, AVAIL, USED); }
TEST(enable_descriptors_nowhere) { enable_fails(SIZE, GUEST_HOLE, AVAIL, USED); }
TEST(enable_avail_beyond_memory) { enable_fails(SIZE, DESC, GUEST_RAM - 4, USED); }
TEST(enable_used_in_rom) { enable_fails(SIZE, DESC, AVAIL, GUEST_ROM); }
TEST(enable_used_wraps) { enable_fails(SIZE, DESC, AVAIL, UINT64_MAX - 3); }
TEST(enable_unaligned) { enable_fails(SIZE, DESC + 8, AVAIL, USED); }

/* --- unusual, but right --- */

TEST(zero_length_buffers_are_nothing)
{
	struct ring *r = ring_new(false);

	put(r, 0, GUEST_HOLE, 0, NEXT, 1);
	put(r, 1, BUF, 4, NEXT, 2);
	put(r, 2, GUEST_HOLE, 0, NEXT | WRITE, 3);
	put(r, 3, BUF + 64, 4, WRITE, 0);
	offer(r, 0);
	CHECK_EQ(pop(r), 1);
	CHECK_EQ(r->e.out_len, 4);
	CHECK_EQ(r->e.in_len, 4);
	CHECK_EQ(r->e.out_n, 1);
	CHECK_EQ(r->e.in_n, 1);
	virtq_push(&r->q, &r->e, 4);
	ring_free(r);
}

TEST(neighbours_are_one_piece)
{
	struct ring *r = ring_new(false);

	for (int i = 0; i < SIZE; i++)
		put(r, i, BUF + 512 * i, 512, (i < SIZE - 1 ? NEXT : 0) | (i >= 4 ? WRITE : 0),
		    i + 1);
	offer(r, 0);
	CHECK_EQ(pop(r), 1);
	CHECK_EQ(r->e.out_n, 1);
	CHECK_EQ(r->e.in_n, 1);
	CHECK_EQ(r->e.out_len, 2048);
	CHECK_EQ(r->e.in_len, 2048);
	CHECK(r->e.iov[1].iov_base == guest_ptr(r->g, BUF + 2048, 1));
	virtq_push(&r->q, &r->e, 0);
	ring_free(r);
}

TEST(direct_then_indirect_at_odd_address)
{
	struct ring *r = ring_new(false);
	struct vring_desc d = { BUF + 4096, 8, WRITE, 0 };

	memcpy(guest_ptr(r->g, TABLE + 3, 16), &d, 16);
	put(r, 5, BUF, 16, NEXT, 6);
	put(r, 6, TABLE + 3, 16, IND, 0);
	offer(r, 5);
	CHECK_EQ(pop(r), 1);
	CHECK_EQ(r->e.out_len, 16);
	CHECK_EQ(r->e.in_len, 8);
	virtq_push(&r->q, &r->e, 8);
	ring_free(r);
}

/*
 * Running indices pass 65535, the packed ring's wrap counters turn; used entries of one batch
 * appear together.
 */
static void many(bool packed)
{
	struct ring *r = ring_new(packed);
	uint16_t seen = 0, slot = 0, uslot = 0;
	bool wrap = true, uwrap = true;

	for (unsigned i = 0; i < 70000; i++) {
		unsigned n = 1 + i % 3, flag;

		for (unsigned k = 0; k < n; k++) {
			if (packed) {
				r->packed[slot] = (struct vring_packed_desc){
					BUF, 8, k, WRITE | (wrap ? D_AVAIL : D_AVAIL << 8)
				};
				if (++slot == SIZE) {
					slot = 0;
					wrap = !wrap;
				}
			} else {
				put(r, k, BUF, 8, WRITE, 0);
				offer(r, k);
			}
		}
		for (unsigned k = 0; k < n; k++) {
			CHECK_EQ(pop(r), 1);
			CHECK_EQ(r->e.head, k);
			virtq_push(&r->q, &r->e, k + 1);
			flag = packed ? r->packed[uslot].flags : 0;
			CHECK(packed ? !!(flag & D_AVAIL) != !!(flag & D_AVAIL << 8)
				     : r->used->idx == seen);
		}
		CHECK_EQ(pop(r), 0);
		virtq_flush(&r->q);
		for (unsigned k = 0; k < n; k++) {
			if (packed) {
				flag = r->packed[uslot].flags;
				CHECK_EQ(!!(flag & D_AVAIL), uwrap);
				CHECK_EQ(!!(flag & D_AVAIL << 8), uwrap);
				CHECK_EQ(r->packed[uslot].id, k);
				CHECK_EQ(r->packed[uslot].len, k + 1);
				if (++uslot == SIZE) {
					uslot = 0;
					uwrap = !uwrap;
				}
			} else {
				CHECK_EQ(r->used->ring[(uint16_t)(seen + k) % SIZE].id, k);
				CHECK_EQ(r->used->ring[(uint16_t)(seen + k) % SIZE].len, k + 1);
			}
		}
		seen += n;
		CHECK(packed || r->used->idx == seen);
	}
	CHECK_EQ(r->broken, 0);
	ring_free(r);
}

TEST(split_many_times_round) { many(false); }
TEST(packed_many_times_round) { many(true); }

/*
 * When does a driver with an event index get its interrupt? At the entry it named, and only once.
 */
TEST(split_event_index)
{
	struct ring *r = ring_new(false);
	unsigned interrupts = 0;

	r->q.event_idx = true;
	r->avail->ring[SIZE] = 4;	/* used_event: tell me when entry 4 is used */
	for (int i = 0; i < 8; i++) {
		put(r, 0, BUF, 8, 0, 0);
		offer(r, 0);
		CHECK_EQ(pop(r), 1);
		virtq_push(&r->q, &r->e, 0);
		if (virtq_flush(&r->q)) {
			interrupts++;
			/* the first flush does not know what was signalled */
			CHECK(i == 0 || i == 4);
		}
	}
	CHECK_EQ(interrupts, 2);
	/* avail_event follows what we popped. */
	CHECK(!virtq_kicks_on(&r->q));
	CHECK_EQ(ld_le16(&r->used->ring[SIZE]), 8);
	offer(r, 0);
	CHECK(virtq_kicks_on(&r->q));
	ring_free(r);
}

TEST(packed_event_index)
{
	struct ring *r = ring_new(true);
	uint16_t *ev = (uint16_t *)r->avail;
	unsigned interrupts = 0;
	bool wrap = true;

	r->q.event_idx = true;
	ev[1] = VRING_PACKED_EVENT_FLAG_DESC;
	ev[0] = 2;			/* slot 2 of the second round: wrap counter 0 */
	for (int i = 0; i < 16; i++) {
		r->packed[i % SIZE] = (struct vring_packed_desc){ BUF, 8, 0,
								  wrap ? D_AVAIL : D_AVAIL << 8 };
		CHECK_EQ(pop(r), 1);
		virtq_push(&r->q, &r->e, 0);
		if (virtq_flush(&r->q)) {
			interrupts++;
			CHECK(i == 0 || i == 10);
		}
		if (i % SIZE == SIZE - 1)
			wrap = !wrap;
	}
	CHECK_EQ(interrupts, 2);
	ring_free(r);
}

TEST(interrupt_flag)
{
	struct ring *r = ring_new(false);

	for (int i = 0; i < 4; i++) {
		put(r, 0, BUF, 8, 0, 0);
		offer(r, 0);
		CHECK_EQ(pop(r), 1);
		virtq_push(&r->q, &r->e, 0);
		r->avail->flags = i & 1 ? VRING_AVAIL_F_NO_INTERRUPT : 0;
		CHECK_EQ(virtq_flush(&r->q), !(i & 1));
		CHECK(!virtq_flush(&r->q));
	}
	virtq_kicks_off(&r->q);
	CHECK_EQ(r->used->flags, VRING_USED_F_NO_NOTIFY);
	virtq_kicks_on(&r->q);
	CHECK_EQ(r->used->flags, 0);
	ring_free(r);
}

/* --- putting back, holding, saving --- */

static void unpop(bool packed)
{
	struct ring *r = ring_new(packed);
	struct virtq_elem e[3];
	struct iovec iov[3][4];

	for (int i = 0; i < 3; i++) {
		if (packed) {
			put_packed(r, 2 * i, BUF, 8, NEXT, 0);
			put_packed(r, 2 * i + 1, BUF + 64, 8, WRITE, i);
		} else {
			put(r, i, BUF + 64 * i, 8, 0, 0);
			offer(r, i);
		}
	}
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 3; i++) {
			CHECK_EQ(virtq_pop(&r->q, &e[i], iov[i], 4), 1);
			CHECK_EQ(e[i].head, i);
		}
		CHECK_EQ(pop(r), 0);
		for (int i = 2; i >= round; i--)
			virtq_unpop(&r->q, &e[i]);
		for (int i = 0; i < round; i++)
			virtq_unpop(&r->q, &e[round - 1 - i]);
	}
	CHECK_EQ(r->q.inflight, 0);
	ring_free(r);
}

TEST(split_unpop) { unpop(false); }
TEST(packed_unpop) { unpop(true); }

/* Chain 1 of three is held, the queue saved, loaded into a fresh one, and the chain taken again. */
static void hold_and_load(bool packed)
{
	struct ring *r = ring_new(packed);
	struct state_out *o = state_out_new();
	struct virtq_elem e[3];
	struct iovec iov[3][4];
	struct state_in *in;
	struct err err = { "" };
	struct virtq old;
	void *blob;
	size_t len;

	for (int i = 0; i < 3; i++) {
		if (packed) {
			put_packed(r, 2 * i, BUF + 512 * i, 8, NEXT, 0);
			put_packed(r, 2 * i + 1, BUF + 512 * i + 64, 8, WRITE, i);
		} else {
			put(r, 2 * i, BUF + 512 * i, 8, NEXT, 2 * i + 1);
			put(r, 2 * i + 1, BUF + 512 * i + 64, 8, WRITE, 0);
			offer(r, 2 * i);
		}
	}
	for (int i = 0; i < 3; i++)
		CHECK_EQ(virtq_pop(&r->q, &e[i], iov[i], 4), 1);
	virtq_hold(&r->q, &e[1]);
	/* In a packed ring these two overwrite the held chain's descriptors. */
	virtq_push(&r->q, &e[0], 1);
	virtq_push(&r->q, &e[2], 1);
	virtq_flush(&r->q);
	if (packed)
		memset(r->packed + 2, 0xff, 32);
	state_begin(o, "q");
	virtq_save(&r->q, o);
	state_end(o);
	CHECK_EQ(state_out_finish(o, &blob, &len), 0);
	old = r->q;
	virtq_init(&r->q, r->g->mem, "second queue", 256);
	r->q.packed = packed;
	in = state_in_new(blob, len, &err);
	CHECK(in);
	CHECK_EQ(state_enter(in, "q"), 0);
	CHECK_EQ(virtq_load(&r->q, in), 0);
	state_leave(in);
	CHECK_EQ(state_in_finish(in, &err), 0);
	CHECK_EQ(r->q.held, 1);
	CHECK_EQ(pop(r), 0);
	CHECK_EQ(virtq_pop_held(&r->q, &r->e, r->iov, 4), 1);
	CHECK_EQ(r->e.head, packed ? 1 : 2);
	CHECK_EQ(r->e.out_n, 1);
	CHECK(r->e.iov[0].iov_base == guest_ptr(r->g, BUF + 512, 1));
	CHECK(r->e.iov[1].iov_base == guest_ptr(r->g, BUF + 512 + 64, 1));
	CHECK_EQ(virtq_pop_held(&r->q, &e[0], iov[0], 4), 0);
	virtq_push(&r->q, &r->e, 8);
	virtq_flush(&r->q);
	CHECK_EQ(r->q.inflight, 0);
	if (packed) {
		CHECK_EQ(r->packed[4].id, 1);
		CHECK_EQ(r->packed[4].len, 8);
	} else {
		CHECK_EQ(r->used->idx, 3);
		CHECK_EQ(r->used->ring[2].id, 2);
	}
	virtq_exit(&old);
	free(blob);
	ring_free(r);
}

TEST(split_hold_and_load) { hold_and_load(false); }
TEST(packed_hold_and_load) { hold_and_load(true); }

/* --- changing under us --- */

struct attacker {
	struct ring *r;
	bool stop;
};

/* A second vCPU that writes nonsense, and now and then sense, into everything the device reads. */
static void *attack(void *arg)
{
	struct attacker *a = arg;
	struct ring *r = a->r;
	uint32_t x = 12345;
	bool packed = r->q.packed;

	while (!__atomic_load_n(&a->stop, __ATOMIC_RELAXED)) {
		uint64_t *d = (uint64_t *)(x & 1 ? r->table : r->desc) + 2 * (x >> 8 & 7);
		uint64_t hi = (x >> 4 & 1 ? 16 : x & 0xffff) | (uint64_t)(x >> 16 & 7) << 32 |
			      (uint64_t)(x >> 12 & 7) << 48;

		if (packed)
			hi |= (uint64_t)(x >> 28 & 1) << 55 | (uint64_t)(x >> 29 & 1) << 63;
		__atomic_store_n(d, x >> 20 & 1 ? (x & 1 ? BUF : TABLE) : (uint64_t)x << 8,
				 __ATOMIC_RELAXED);
		__atomic_store_n(d + 1, hi, __ATOMIC_RELAXED);
		__atomic_store_n(&r->avail->ring[x >> 24 & 7], x >> 5 & 7, __ATOMIC_RELAXED);
		__atomic_store_n(&r->avail->idx, r->avail->idx + !(x >> 21 & 63), __ATOMIC_RELEASE);
		x = x * 1664525 + 1013904223;
	}
	return NULL;
}

static void changing(bool packed)
{
	struct ring *r = ring_new(packed);
	struct attacker a = { r, false };
	struct virtq_elem held[4];
	struct iovec iov[4][64];
	unsigned taken = 0, resets = 0, n = 0;
	int64_t end = now_ns() + 20 * NS_PER_SEC;
	pthread_t t;

	CHECK_EQ(pthread_create(&t, NULL, attack, &a), 0);
	while (now_ns() < end && (taken < 2000 || resets < 2000)) {
		int ret = virtq_pop(&r->q, &held[n], iov[n], 64);

		CHECK(ret == 0 || ret == 1 || ret == -EPROTO);
		if (ret == 1) {
			uint64_t len = 0;

			for (int i = 0; i < held[n].out_n + held[n].in_n; i++)
				len += iov[n][i].iov_len;
			CHECK_EQ(len, held[n].out_len + held[n].in_len);
			taken++;
			n++;
		}
		if (n == 4 || ret < 0) {
			while (n)
				virtq_push(&r->q, &held[--n], 0);
			virtq_flush(&r->q);
		}
		if (ret < 0) {
			CHECK_EQ(r->q.inflight, 0);
			virtq_reset(&r->q);
			r->q.size = SIZE;
			r->q.desc = DESC;
			r->q.avail = AVAIL;
			r->q.used = USED;
			r->q.last_avail =
				packed ? 0 : __atomic_load_n(&r->avail->idx, __ATOMIC_ACQUIRE);
			CHECK_EQ(virtq_enable(&r->q), 0);
			resets++;
		}
	}
	while (n)
		virtq_push(&r->q, &held[--n], 0);
	__atomic_store_n(&a.stop, true, __ATOMIC_RELAXED);
	pthread_join(t, NULL);
	printf("# %u chains, %u resets\n", taken, resets);
	CHECK(taken > 0 && resets > 0);
	ring_free(r);
}

TEST(split_changing_under_us) { changing(false); }
TEST(packed_changing_under_us) { changing(true); }

TAP_MAIN
