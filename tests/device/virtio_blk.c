/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The block device, driven through both register sets, the configuration window and memory-mapped
 * registers.
 */
#include "tests/lib/blk_bench.h"

/* --- what a well-meaning driver does, on every transport and kind of ring --- */

static void plain_work(enum vtransport t, uint64_t features)
{
	struct bench *b = bench_new(t, features | FEATURES, false);
	uint8_t buf[8192], want[8192];

	CHECK_EQ(vdrv_config(&b->d, 0, 8), DISK / 512);
	for (unsigned i = 0; i < 600; i++) {
		pattern(buf, 4096, i);
		CHECK_EQ(req_run(b, VIRTIO_BLK_T_OUT, (i * 8) % 2000, buf, 4096), VIRTIO_BLK_S_OK);
		pattern(want, 4096, i);
		CHECK(!memcmp(b->disk->data + (i * 8) % 2000 * 512, want, 4096));
		memset(buf, 0, 4096);
		CHECK_EQ(req_run(b, VIRTIO_BLK_T_IN, (i * 8) % 2000, buf, 4096), VIRTIO_BLK_S_OK);
		CHECK(!memcmp(buf, want, 4096));
		if (i % 100 == 99) {
			guest_alloc_reset(b->g);
			b->g->next += 256 * KiB;	/* the rings stay */
		}
	}
	CHECK_EQ(req_run(b, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
	CHECK_EQ(b->disk->unstable, 0);
	memset(buf, 0, 20);
	CHECK_EQ(req_run(b, VIRTIO_BLK_T_GET_ID, 0, buf, 20), VIRTIO_BLK_S_OK);
	CHECK(!memcmp(buf, "SERIAL-0123456789\0\0\0", 20));
	bench_free(b);
}

TEST(legacy) { plain_work(V_LEGACY, 0); }
TEST(legacy_event_indirect) { plain_work(V_LEGACY, RINGS); }
TEST(modern) { plain_work(V_MODERN, 0); }
TEST(modern_event_indirect) { plain_work(V_MODERN, RINGS); }
TEST(modern_packed) { plain_work(V_MODERN, PACKED); }
TEST(modern_packed_event_indirect) { plain_work(V_MODERN, PACKED | RINGS); }
TEST(config_window) { plain_work(V_WINDOW, RINGS); }
TEST(mmio) { plain_work(V_MMIO, RINGS); }
TEST(mmio_packed) { plain_work(V_MMIO, PACKED | RINGS); }

TEST(discard_and_zeroes)
{
	struct bench *b = bench_new(V_MODERN, FEATURES, false);
	struct virtio_blk_discard_write_zeroes range = { .sector = 16, .num_sectors = 8 };

	memset(b->disk->data, 0x55, DISK);
	CHECK_EQ(req_run(b, VIRTIO_BLK_T_WRITE_ZEROES, 0, &range, sizeof(range)), VIRTIO_BLK_S_OK);
	CHECK_EQ(b->disk->data[16 * 512 - 1], 0x55);
	CHECK_EQ(b->disk->data[16 * 512], 0);
	CHECK_EQ(b->disk->data[24 * 512 - 1], 0);
	CHECK_EQ(b->disk->data[24 * 512], 0x55);
	range.sector = 32;
	CHECK_EQ(req_run(b, VIRTIO_BLK_T_DISCARD, 0, &range, sizeof(range)), VIRTIO_BLK_S_OK);
	CHECK_EQ(b->disk->data[32 * 512], 0xdd);
	range.flags = VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	CHECK_EQ(req_run(b, VIRTIO_BLK_T_WRITE_ZEROES, 0, &range, sizeof(range)), VIRTIO_BLK_S_OK);
	CHECK_EQ(req_run(b, VIRTIO_BLK_T_DISCARD, 0, &range, sizeof(range)), VIRTIO_BLK_S_UNSUPP);
	range.flags = 2;
	CHECK_EQ(req_run(b, VIRTIO_BLK_T_WRITE_ZEROES, 0, &range, sizeof(range)),
		 VIRTIO_BLK_S_UNSUPP);
	range.flags = 0;
	range.num_sectors = DISK / 512;
	CHECK_EQ(req_run(b, VIRTIO_BLK_T_WRITE_ZEROES, 0, &range, sizeof(range)),
		 VIRTIO_BLK_S_IOERR);
	range.sector = UINT64_MAX - 1;
	range.num_sectors = 4;
	CHECK_EQ(req_run(b, VIRTIO_BLK_T_DISCARD, 0, &range, sizeof(range)), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(req_run(b, VIRTIO_BLK_T_DISCARD, 0, &range, sizeof(range) - 1),
		 VIRTIO_BLK_S_UNSUPP);
	CHECK_EQ(b->disk->discards, 1);
	CHECK_EQ(b->disk->zeroes, 2);
	bench_free(b);
}

/* Without FLUSH every write must last by itself. */
TEST(writethrough_without_flush)
{
	struct bench *b = bench_new(V_LEGACY, 0, false);
	uint8_t buf[512] = { 1 };

	CHECK_EQ(req_run(b, VIRTIO_BLK_T_OUT, 5, buf, 512), VIRTIO_BLK_S_OK);
	CHECK_EQ(b->disk->unstable, 0);
	bench_free(b);
}

TEST(readonly)
{
	struct bench *b = bench_new(V_MODERN, FEATURES | F(VIRTIO_BLK_F_RO), true);
	uint8_t buf[512] = { 1 };

	CHECK(b->d.features & F(VIRTIO_BLK_F_RO));
	CHECK_EQ(req_run(b, VIRTIO_BLK_T_OUT, 5, buf, 512), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(req_run(b, VIRTIO_BLK_T_IN, 5, buf, 512), VIRTIO_BLK_S_OK);
	CHECK_EQ(b->disk->writes, 0);
	bench_free(b);
}

TEST(bad_requests_end_with_a_status)
{
	struct bench *b = bench_new(V_MODERN, FEATURES | RINGS, false);
	uint8_t buf[1024] = { 0 };

	CHECK_EQ(req_run(b, VIRTIO_BLK_T_IN, DISK / 512, buf, 512), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(req_run(b, VIRTIO_BLK_T_IN, DISK / 512 - 1, buf, 1024), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(req_run(b, VIRTIO_BLK_T_IN, UINT64_MAX / 512, buf, 512), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(req_run(b, VIRTIO_BLK_T_IN, UINT64_MAX, buf, 512), VIRTIO_BLK_S_IOERR);
	/* sector 0, mod 2^64 bytes */
	CHECK_EQ(req_run(b, VIRTIO_BLK_T_OUT, 1ull << 55, buf, 512), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(req_run(b, VIRTIO_BLK_T_OUT, DISK / 512, buf, 512), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(req_run(b, VIRTIO_BLK_T_OUT, 0, buf, 100), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(req_run(b, VIRTIO_BLK_T_IN, 0, buf, 511), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(req_run(b, VIRTIO_BLK_T_GET_ID, 0, buf, 19), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(req_run(b, VIRTIO_BLK_T_SCSI_CMD, 0, buf, 512), VIRTIO_BLK_S_UNSUPP);
	CHECK_EQ(req_run(b, 0x1234, 0, NULL, 0), VIRTIO_BLK_S_UNSUPP);
	CHECK_EQ(req_run(b, VIRTIO_BLK_T_IN, 0, NULL, 0), VIRTIO_BLK_S_OK);
	CHECK_EQ(b->disk->reads + b->disk->writes, 0);
	/* The queue still works. */
	CHECK_EQ(req_run(b, VIRTIO_BLK_T_IN, 0, buf, 512), VIRTIO_BLK_S_OK);
	bench_free(b);
}

TEST(odd_layouts)
{
	struct bench *b = bench_new(V_MODERN, FEATURES | F(VIRTIO_F_ANY_LAYOUT), false);
	uint8_t want[1024];
	uint64_t at = guest_alloc(b->g, 4096, 4096);
	struct virtio_blk_outhdr *h = guest_ptr(b->g, at, 16);
	uint32_t len;

	/* Header in three pieces, the last one with data; more data elsewhere. */
	h->type = VIRTIO_BLK_T_OUT;
	h->sector = 7;
	pattern(want, 1024, 3);
	memcpy(guest_ptr(b->g, at + 16, 1024), want, 1024);
	vring_add(b->r,
		  (struct vbuf[]){ { at, 4 },
				   { at + 4, 5 },
				   { at + 9, 107 },
				   { at + 116, 924 },
				   { at + 2000, 1 } },
		  4, 1, h);
	vring_kick(b->r);
	CHECK(vring_wait(b->r, &len) == h);
	CHECK_EQ(*(uint8_t *)guest_ptr(b->g, at + 2000, 1), 0);
	CHECK(!memcmp(b->disk->data + 7 * 512, want, 1024));
	/* Status in the same piece as the data read, which comes in two pieces out of order. */
	h->type = VIRTIO_BLK_T_IN;
	vring_add(b->r, (struct vbuf[]){ { at, 16 }, { at + 2048, 1000 }, { at + 1024, 25 } }, 1, 2,
		  h);
	vring_kick(b->r);
	CHECK(vring_wait(b->r, &len) == h);
	CHECK_EQ(len, 1025);
	CHECK(!memcmp(guest_ptr(b->g, at + 2048, 1000), want, 1000));
	CHECK(!memcmp(guest_ptr(b->g, at + 1024, 24), want + 1000, 24));
	CHECK_EQ(*(uint8_t *)guest_ptr(b->g, at + 1048, 1), 0);
	/* A short header, and a chain without anything to write. */
	vring_add(b->r, (struct vbuf[]){ { at, 15 }, { at + 2000, 1 } }, 1, 1, h);
	vring_kick(b->r);
	CHECK(vring_wait(b->r, &len) == h);
	CHECK_EQ(*(uint8_t *)guest_ptr(b->g, at + 2000, 1), VIRTIO_BLK_S_IOERR);
	vring_add(b->r, (struct vbuf[]){ { at, 16 } }, 1, 0, h);
	vring_kick(b->r);
	CHECK(vring_wait(b->r, &len) == h);
	CHECK_EQ(len, 0);
	bench_free(b);
}

TEST(many_pieces)
{
	struct bench *b = bench_new(V_MODERN, FEATURES | RINGS, false);
	struct vbuf bufs[200];
	uint64_t at = guest_alloc(b->g, 16, 16), data = guest_alloc(b->g, 198 * 2048, 4096),
		 status = guest_alloc(b->g, 1, 64);
	struct virtio_blk_outhdr *h = guest_ptr(b->g, at, 16);

	pattern(b->disk->data, DISK, 9);
	h->type = VIRTIO_BLK_T_IN;
	bufs[0] = (struct vbuf){ at, 16 };
	for (int i = 0; i < 198; i++)
		bufs[1 + i] = (struct vbuf){ data + (197 - i) * 2048ull, 1024 };
	bufs[199] = (struct vbuf){ status, 1 };
	for (int round = 0; round < 4; round++) {
		memset(guest_ptr(b->g, data, 198 * 2048), 0, 198 * 2048);
		vring_add(b->r, bufs, 1, 199, h);
		vring_kick(b->r);
		CHECK(vring_wait(b->r, NULL) == h);
		for (int i = 0; i < 198; i++)
			CHECK(!memcmp(guest_ptr(b->g, bufs[1 + i].gpa, 1024),
				      b->disk->data + i * 1024, 1024));
	}
	bench_free(b);
}

/* --- interrupts --- */

static bool all_back(void *ctx)
{
	struct dring *r = ctx;
	struct req *q;

	while ((q = vring_get(r, NULL)))
		free(q);
	return !r->outstanding;
}

TEST(one_interrupt_for_a_batch)
{
	struct bench *b = bench_new(V_MODERN, FEATURES | RINGS, false);

	vdrv_msix(&b->d, 1);
	vring_want_irq(b->r, true);
	for (int i = 0; i < 20; i++)
		req_add(b, b->r, req_new(b, VIRTIO_BLK_T_GET_ID, 0, 20));
	vring_kick(b->r);
	CHECK(guest_run_until(b->g, all_back, b->r, 5000));
	CHECK_EQ(b->g->msi[0], 1);
	CHECK_EQ(b->g->intx_raised, 0);
	/* None when the driver says so. */
	vring_want_irq(b->r, false);
	req_add(b, b->r, req_new(b, VIRTIO_BLK_T_GET_ID, 0, 20));
	vring_kick(b->r);
	CHECK(guest_run_until(b->g, all_back, b->r, 5000));
	CHECK_EQ(b->g->msi[0], 1);
	bench_free(b);
}

static void intx(enum vtransport t)
{
	struct bench *b = bench_new(t, FEATURES, false);
	uint8_t buf[512];

	vring_want_irq(b->r, true);
	req_run(b, VIRTIO_BLK_T_IN, 0, buf, 512);
	CHECK_EQ(b->g->intx_raised, 1);
	CHECK_EQ(b->g->intx_level, 1);
	CHECK_EQ(vdrv_isr(&b->d), 1);
	CHECK_EQ(b->g->intx_level, 0);
	CHECK_EQ(vdrv_isr(&b->d), 0);
	bench_free(b);
}

TEST(intx_legacy) { intx(V_LEGACY); }
TEST(intx_modern) { intx(V_MODERN); }

TEST(mmio_interrupt)
{
	struct bench *b = bench_new(V_MMIO, FEATURES, false);
	uint8_t buf[512];

	vring_want_irq(b->r, true);
	req_run(b, VIRTIO_BLK_T_IN, 0, buf, 512);
	CHECK_EQ(b->g->lines[5], 1);
	CHECK_EQ(b->g->line_level[5], 1);
	CHECK_EQ(vdrv_isr(&b->d), 1);
	CHECK_EQ(b->g->line_level[5], 0);
	bench_free(b);
}

/*
 * A busy driver is not asked to kick: while the device works, kicks are off; after the last chain
 * they are on.
 */
TEST(kicks_are_suppressed_and_come_back)
{
	struct bench *b = bench_new(V_MODERN, FEATURES, false);

	for (int i = 0; i < 50; i++) {
		req_add(b, b->r, req_new(b, VIRTIO_BLK_T_GET_ID, 0, 20));
		CHECK(vring_kick(b->r));
		CHECK(guest_run_until(b->g, all_back, b->r, 5000));
	}
	bench_free(b);
}

/* --- old drivers --- */

/* 3.1.2: requests before DRIVER_OK. */
TEST(legacy_before_driver_ok)
{
	struct bench *b = bench_new(V_LEGACY, FEATURES, false);
	uint8_t buf[512];

	vdrv_negotiate(&b->d, FEATURES);
	guest_alloc_reset(b->g);
	b->r = vdrv_queue(&b->d, 0, 0);
	memset(b->disk->data, 0x77, 512);
	CHECK_EQ(req_run(b, VIRTIO_BLK_T_IN, 0, buf, 512), VIRTIO_BLK_S_OK);
	CHECK_EQ(buf[511], 0x77);
	vdrv_start(&b->d);
	CHECK_EQ(req_run(b, VIRTIO_BLK_T_IN, 0, buf, 512), VIRTIO_BLK_S_OK);
	bench_free(b);
}

TEST(modern_not_before_driver_ok)
{
	struct bench *b = bench_new(V_MODERN, FEATURES, false);
	struct req *q;

	vdrv_negotiate(&b->d, FEATURES);
	guest_alloc_reset(b->g);
	b->r = vdrv_queue(&b->d, 0, 0);
	q = req_new(b, VIRTIO_BLK_T_GET_ID, 0, 20);
	req_add(b, b->r, q);
	vdrv_notify(&b->d, 0);
	for (int i = 0; i < 10; i++)
		guest_run(b->g, 1);
	CHECK(!vring_get(b->r, NULL));
	vdrv_start(&b->d);
	CHECK(vring_wait(b->r, NULL) == q);
	free(q);
	bench_free(b);
}

TEST(unoffered_features_are_refused)
{
	struct bench *b = bench_new(V_MODERN, FEATURES, false);
	uint32_t c = b->d.common;

	vdrv_set_status(&b->d, 0);
	vdrv_set_status(&b->d, 3);
	out(b->g->mmio, b->d.base + c + 8, 4, 0);
	out(b->g->mmio, b->d.base + c + 12, 4, 1u << VIRTIO_BLK_F_SECURE_ERASE);
	out(b->g->mmio, b->d.base + c + 8, 4, 1);
	out(b->g->mmio, b->d.base + c + 12, 4, 1);	/* VERSION_1 */
	vdrv_set_status(&b->d, 3 | VIRTIO_CONFIG_S_FEATURES_OK);
	CHECK(!(vdrv_status(&b->d) & VIRTIO_CONFIG_S_FEATURES_OK));
	/* And a modern driver without VERSION_1. */
	vdrv_set_status(&b->d, 0);
	vdrv_set_status(&b->d, 3);
	out(b->g->mmio, b->d.base + c + 8, 4, 1);
	out(b->g->mmio, b->d.base + c + 12, 4, 0);
	vdrv_set_status(&b->d, 3 | VIRTIO_CONFIG_S_FEATURES_OK);
	CHECK(!(vdrv_status(&b->d) & VIRTIO_CONFIG_S_FEATURES_OK));
	bench_free(b);
}

/* --- the disk changes under the guest --- */

TEST(resize_notice)
{
	struct bench *b = bench_new(V_MODERN, FEATURES, false);
	struct err err = { "" };
	uint8_t buf[512], gen = in(b->g->mmio, b->d.base + b->d.common + 21, 1);

	vdrv_msix(&b->d, 1);
	CHECK_EQ(blk_resize(b->disk->blk, DISK / 2, true, &err), 0);
	for (int i = 0; i < 10 && !b->g->msi[1]; i++)
		guest_run(b->g, 10);
	CHECK_EQ(b->g->msi[1], 1);
	CHECK_EQ(vdrv_config(&b->d, 0, 8), DISK / 1024);
	CHECK(in(b->g->mmio, b->d.base + b->d.common + 21, 1) != gen);
	CHECK_EQ(req_run(b, VIRTIO_BLK_T_IN, DISK / 1024, buf, 512), VIRTIO_BLK_S_IOERR);
	bench_free(b);
}

TEST(errors_are_reported)
{
	struct bench *b = bench_new(V_MODERN, FEATURES, false);
	uint8_t buf[512];

	b->disk->error = -EIO;
	b->disk->errors = 2;
	CHECK_EQ(req_run(b, VIRTIO_BLK_T_IN, 0, buf, 512), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(req_run(b, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(req_run(b, VIRTIO_BLK_T_IN, 0, buf, 512), VIRTIO_BLK_S_OK);
	bench_free(b);
}

/* --- several queues --- */

TEST(multi_queue)
{
	struct bench *b = xcalloc(1, sizeof(*b));
	struct req *q[4];

	b->transport = V_MODERN;
	b->features = FEATURES | RINGS | F(VIRTIO_BLK_F_MQ);
	b->nqueues = 4;
	b->g = guest_new();
	b->disk = testdisk_new(DISK, false);
	build(b);
	vdrv_find(&b->d, b->g, V_MODERN, DEVFN, 0);
	drive(b);
	CHECK_EQ(vdrv_config(&b->d, offsetof(struct virtio_blk_config, num_queues), 2), 4);
	vdrv_msix(&b->d, 4);
	for (int i = 0; i < 4; i++) {
		vring_want_irq(&b->d.rings[i], true);
		q[i] = req_new(b, VIRTIO_BLK_T_IN, i, 512);
		b->disk->data[512 * i] = 0x40 + i;
		req_add(b, &b->d.rings[i], q[i]);
		vring_kick(&b->d.rings[i]);
	}
	for (int i = 0; i < 4; i++) {
		CHECK(vring_wait(&b->d.rings[i], NULL) == q[i]);
		CHECK_EQ(*(uint8_t *)guest_ptr(b->g, q[i]->data, 1), 0x40 + i);
		CHECK_EQ(b->g->msi[i], 1);
		free(q[i]);
	}
	bench_free(b);
}

TAP_MAIN
