/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * blk_bench.h: a machine with one virtio disk over a test's own, and requests to it: for the two
 * halves of its tests.
 */
#ifndef TESTS_LIB_BLK_BENCH_H
#define TESTS_LIB_BLK_BENCH_H

#include <errno.h>
#include <linux/virtio_blk.h>
#include <stdlib.h>

#include "tests/lib/testdisk.h"
#include "tests/lib/vdriver.h"

#define DISK (1 * MiB)
#define DEVFN PCI_DEVFN(3, 0)
#define MMIO_BASE 0xd0000000ull
#define F(bit) (1ull << (bit))
#define FEATURES                                                                                   \
	(F(VIRTIO_BLK_F_FLUSH) | F(VIRTIO_BLK_F_DISCARD) | F(VIRTIO_BLK_F_WRITE_ZEROES) |          \
	 F(VIRTIO_BLK_F_SEG_MAX))
#define RINGS (F(VIRTIO_RING_F_EVENT_IDX) | F(VIRTIO_RING_F_INDIRECT_DESC))
#define PACKED F(VIRTIO_F_RING_PACKED)

struct bench {
	struct guest *g;
	struct testdisk *disk;
	struct device *dev;
	struct virtio_dev *v;
	struct vdrv d;
	struct dring *r;
	enum vtransport transport;
	uint64_t features;
	unsigned nqueues;
};

static inline void build(struct bench *b)
{
	struct virtio_blk_config_opts o = { .blk = b->disk->blk,
					    .nqueues = b->nqueues ? b->nqueues : 1,
					    .serial = "SERIAL-0123456789",
					    .packed = true };
	struct err err = { "" };

	b->v = virtio_blk_new("disk0", b->g->loop, b->g->mem, &o, &err);
	CHECK(b->v);
	if (b->transport == V_MMIO)
		b->dev = virtio_mmio_new(b->g->mmio, MMIO_BASE, irq_source(b->g->irqs, 5), NULL,
					 b->v, &err);
	else
		b->dev = virtio_pci_new(b->g->pci, DEVFN, b->v, &err);
	CHECK(b->dev);
}

static inline void drive(struct bench *b)
{
	guest_alloc_reset(b->g);
	CHECK(vdrv_negotiate(&b->d, b->features));
	for (unsigned q = 0; q < (b->nqueues ? b->nqueues : 1); q++)
		vdrv_queue(&b->d, q, 0);
	b->r = &b->d.rings[0];
	vdrv_start(&b->d);
}

static inline struct bench *bench_new(enum vtransport t, uint64_t features, bool readonly)
{
	struct bench *b = xcalloc(1, sizeof(*b));

	b->transport = t;
	b->features = features;
	b->g = guest_new();
	b->disk = testdisk_new(DISK, readonly);
	build(b);
	vdrv_find(&b->d, b->g, t, DEVFN, MMIO_BASE);
	drive(b);
	return b;
}

static inline void destroy(struct bench *b)
{
	loop_lock(b->g->loop);
	device_destroy(b->dev);
	loop_unlock(b->g->loop);
}

static inline void bench_free(struct bench *b)
{
	destroy(b);
	vdrv_free(&b->d);
	testdisk_free(b->disk);
	guest_free(b->g);
	free(b);
}

struct req {
	uint64_t hdr, data, status;
	uint32_t len;
};

static inline struct req *req_new(struct bench *b, uint32_t type, uint64_t sector, uint32_t len)
{
	struct virtio_blk_outhdr *h;
	struct req *q = xcalloc(1, sizeof(*q));

	q->hdr = guest_alloc(b->g, sizeof(*h), 16);
	h = guest_ptr(b->g, q->hdr, sizeof(*h));
	h->type = type;
	h->sector = sector;
	q->data = guest_alloc(b->g, len, 512);
	q->len = len;
	q->status = guest_alloc(b->g, 1, 1);
	guest_alloc(b->g, 1, 1);	/* never adjacent to the next piece */
	*(uint8_t *)guest_ptr(b->g, q->status, 1) = 0xee;
	return q;
}

static inline void req_add(struct bench *b, struct dring *r, struct req *q)
{
	struct virtio_blk_outhdr *h = guest_ptr(b->g, q->hdr, sizeof(*h));
	bool in_data = h->type == VIRTIO_BLK_T_IN || h->type == VIRTIO_BLK_T_GET_ID;
	struct vbuf bufs[3] = { { q->hdr, sizeof(*h) } };
	int n = 1;

	if (q->len)
		bufs[n++] = (struct vbuf){ q->data, q->len };
	bufs[n++] = (struct vbuf){ q->status, 1 };
	vring_add(r, bufs, q->len && !in_data ? 2 : 1, q->len && in_data ? 2 : 1, q);
}

static inline uint8_t req_status(struct bench *b, struct req *q)
{
	return *(uint8_t *)guest_ptr(b->g, q->status, 1);
}

/* One request from start to end; its status. */
static inline uint8_t req_run(struct bench *b, uint32_t type, uint64_t sector, void *data,
			      uint32_t len)
{
	struct req *q = req_new(b, type, sector, len);
	uint8_t status;

	if (len)
		memcpy(guest_ptr(b->g, q->data, len), data, len);
	req_add(b, b->r, q);
	vring_kick(b->r);
	CHECK(vring_wait(b->r, NULL) == q);
	if (len)
		memcpy(data, guest_ptr(b->g, q->data, len), len);
	status = req_status(b, q);
	free(q);
	return status;
}

static inline void pattern(uint8_t *p, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (seed * 131 + i * 7 + (i >> 9)) & 0xff;
}

#endif
