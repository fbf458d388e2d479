/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The block device saved and loaded, reset, and stopped by an I/O error, each with requests in
 * flight; and saved files of strangers.
 */
#include "tests/lib/blk_bench.h"

/* --- three ways: straight, saved and loaded at each step, reset at each step --- */

enum way { STRAIGHT, SAVED, RESET };

/* Saves the device with requests in flight and goes on with another one made from that. */
static void replace(struct bench *b)
{
	struct err why;
	void *blob;
	size_t len;
	int ret;

	guest_quiesce(b->g, b->dev);
	guest_save(b->dev, &blob, &len);
	destroy(b);
	build(b);
	ret = guest_load(b->dev, blob, len, &why);
	if (ret)
		tap_fail(__FILE__, __LINE__, "load: %s", why.msg);
	free(blob);
	loop_lock(b->g->loop);
	b->dev->ops->resume(b->dev);
	loop_unlock(b->g->loop);
}

/* Four writes of this round's blocks, four reads of the last round's. */
static void round_add(struct bench *b, unsigned round, struct req **reqs)
{
	for (unsigned i = 0; i < 8; i++) {
		bool write = i < 4;
		uint64_t sector = ((round + (write ? 0 : 23)) % 24 * 4 + i % 4) * 16;

		reqs[i] = req_new(b, write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, sector, 4096);
		if (write)
			pattern(guest_ptr(b->g, reqs[i]->data, 4096), 4096, round * 8 + i);
		req_add(b, b->r, reqs[i]);
		if (i == 5)
			vring_kick(b->r);
		if (i == 6)
			guest_run(b->g, 0);
	}
	vring_kick(b->r);
	if (round % 2)
		guest_run(b->g, 0);
}

static uint32_t scenario(enum vtransport t, uint64_t features, enum way way)
{
	struct bench *b = bench_new(t, features | FEATURES, false);
	unsigned in_flight = 0;
	uint32_t trace = 0;

	b->disk->delay_us = 300;
	for (unsigned round = 0; round < 24; round++) {
		struct req *reqs[8];

		round_add(b, round, reqs);
		in_flight += b->r->outstanding;
		CHECK(b->r->outstanding > 0);
		if (way == SAVED) {
			replace(b);
		} else if (way == RESET) {
			/*
			 * The driver starts anew and asks everything again; nothing of before may
			 * come back.
			 */
			drive(b);
			CHECK_EQ(b->disk->running, 0);
			for (unsigned i = 0; i < 8; i++)
				free(reqs[i]);
			round_add(b, round, reqs);
		}
		for (unsigned n = 0; n < 8; n++)
			CHECK(vring_wait(b->r, NULL));
		for (unsigned i = 0; i < 8; i++) {
			trace = crc32c(trace, (uint8_t[]){ req_status(b, reqs[i]) }, 1);
			trace = crc32c(trace, guest_ptr(b->g, reqs[i]->data, 4096), 4096);
			free(reqs[i]);
		}
	}
	CHECK(in_flight > 0);
	trace = crc32c(trace, b->disk->data, DISK);
	bench_free(b);
	return trace;
}

static void three_ways(enum vtransport t, uint64_t features)
{
	uint32_t straight = scenario(t, features, STRAIGHT);

	CHECK_EQ(scenario(t, features, SAVED), straight);
	CHECK_EQ(scenario(t, features, RESET), straight);
}

TEST(three_ways_legacy) { three_ways(V_LEGACY, 0); }
TEST(three_ways_modern) { three_ways(V_MODERN, RINGS); }
TEST(three_ways_packed) { three_ways(V_MODERN, PACKED | RINGS); }
TEST(three_ways_mmio) { three_ways(V_MMIO, RINGS); }

/* --- requests an I/O error stopped --- */

static void stop_the_machine(void *ctx, const struct blk_req *r, enum blk_on_error action)
{
	if (action == BLK_ERR_STOP)
		vm_pause_async(ctx, PAUSE_IO_ERROR);
}

static bool paused(void *ctx)
{
	return vm_pause_reasons(ctx) & PAUSE_IO_ERROR;
}

static void stopped_by_error(uint64_t features, bool through_file)
{
	struct bench *b = xcalloc(1, sizeof(*b));
	struct req *q[6];

	b->transport = V_MODERN;
	b->features = features | FEATURES;
	b->g = guest_new();
	b->disk = testdisk_new(DISK, false);
	blk_set_on_error(b->disk->blk, BLK_ERR_STOP, BLK_ERR_STOP);
	blk_on_io_error(b->disk->blk, stop_the_machine, b->g->vm);
	build(b);
	vdrv_find(&b->d, b->g, V_MODERN, DEVFN, 0);
	drive(b);
	b->disk->error = -EIO;
	b->disk->errors = 3;
	for (unsigned i = 0; i < 6; i++) {
		q[i] = req_new(b, VIRTIO_BLK_T_OUT, i * 8, 4096);
		pattern(guest_ptr(b->g, q[i]->data, 4096), 4096, i);
		req_add(b, b->r, q[i]);
	}
	vring_kick(b->r);
	CHECK(guest_run_until(b->g, paused, b->g->vm, 5000));
	guest_quiesce(b->g, b->dev);
	CHECK_EQ(b->v->queues[0].held, 3);
	if (through_file) {
		replace(b);
	} else {
		loop_lock(b->g->loop);
		b->dev->ops->resume(b->dev);
		loop_unlock(b->g->loop);
	}
	for (unsigned i = 0; i < 6; i++)
		CHECK(vring_wait(b->r, NULL));
	CHECK_EQ(b->v->queues[0].held, 0);
	for (unsigned i = 0; i < 6; i++) {
		uint8_t want[4096];

		pattern(want, 4096, i);
		CHECK_EQ(req_status(b, q[i]), VIRTIO_BLK_S_OK);
		CHECK(!memcmp(b->disk->data + i * 4096, want, 4096));
		free(q[i]);
	}
	bench_free(b);
}

TEST(stopped_and_retried) { stopped_by_error(RINGS, false); }
TEST(stopped_saved_retried) { stopped_by_error(RINGS, true); }
TEST(stopped_saved_retried_packed) { stopped_by_error(PACKED | RINGS, true); }

/* --- saved files from strangers --- */

TEST(saved_state_cut_or_changed)
{
	struct bench *b = bench_new(V_MODERN, FEATURES | RINGS, false);
	struct err why;
	uint8_t *blob, *copy;
	size_t len;

	guest_quiesce(b->g, b->dev);
	guest_save(b->dev, (void **)&blob, &len);
	copy = malloc(len);
	for (size_t cut = 0; cut < len; cut += 37) {
		uint8_t *exact = malloc(cut ? cut : 1);

		memcpy(exact, blob, cut);
		CHECK(guest_load(b->dev, exact, cut, &why) < 0);
		CHECK(why.msg[0]);
		free(exact);
	}
	/* Any byte changed: refused, or loaded into something that still works as a device. */
	for (size_t at = 0; at < len; at++) {
		memcpy(copy, blob, len);
		copy[at] ^= 1u << (at % 8);
		if (guest_load(b->dev, copy, len, &why) == 0) {
			loop_lock(b->g->loop);
			b->dev->ops->resume(b->dev);
			loop_unlock(b->g->loop);
			guest_run(b->g, 0);
			guest_quiesce(b->g, b->dev);
		}
	}
	CHECK_EQ(guest_load(b->dev, blob, len, &why), 0);
	free(copy);
	free(blob);
	bench_free(b);
}

TAP_MAIN
