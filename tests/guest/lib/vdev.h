/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vdev.h: virtio devices of any kind, their queues split or packed, behind each of the three
 * transports: PCI with 1.x registers, PCI with the legacy ports, memory-mapped windows. By polling,
 * without interrupts. Virtual I/O Device specification 1.2, sections 2.7, 2.8, 4.1 and 4.2.
 */
#ifndef GUEST_VDEV_H
#define GUEST_VDEV_H

#include "virtio.h"

#define VDEV_QUEUES 6
#define VDEV_RING 8			/* entries; the legacy ports do not let a driver choose */
#define MICRO_WINDOWS 0xfeb00000u
#define MICRO_WINDOW_SIZE 0x200
#define MICRO_WINDOW_COUNT 16
#define PACKED_AVAIL (1u << 7)
#define PACKED_USED (1u << 15)
#define F_RING_PACKED (1u << 2)		/* of the upper 32 features */
#define F_VERSION_1 1u
#define STATUS_NEEDS_RESET 64

enum transport { MODERN, LEGACY, MMIO };
/* Packed: the last two are the buffer's id and the flags. */
struct vring { struct desc *desc; volatile uint16_t *avail, *used; unsigned size; };
struct vqueue {
	struct vring r;
	bool packed, wrap;
	uint16_t next, seen;		/* packed: next place; split: used entries seen */
	uint16_t chain;			/* packed: entries of the chain under way */
	uint32_t doorbell;
};
struct vdev {
	enum transport transport;
	unsigned type, slot, nqueues;	/* type: 1 net, 2 blk ... */
	uint32_t base, config;		/* registers; the device's own */
	uint32_t features;		/* lower half, agreed */
	struct vqueue q[VDEV_QUEUES];
	struct virtio pci;
};

extern char image_end[];

/* Memory behind the image, zeroed, that nobody gives back. */
static inline void *page_alloc(unsigned bytes)
{
	static uint32_t next;
	uint32_t p;

	if (!next)
		next = ((uint32_t)(uintptr_t)image_end + 4095) & ~4095u;
	p = next;
	next += (bytes + 4095) & ~4095u;
	memset((void *)(uintptr_t)p, 0, bytes);
	return (void *)(uintptr_t)p;
}

/*
 * Descriptors, then the available ring, then on a new page the used ring: where the legacy layout
 * has them.
 */
static inline void ring_place(struct vring *r, unsigned size)
{
	unsigned used = (size * 16 + 6 + 2 * size + 4095) & ~4095u;
	uint8_t *p = page_alloc(used + 6 + 8 * size);

	r->size = size;
	r->desc = (struct desc *)p;
	r->avail = (volatile uint16_t *)(p + size * 16);
	r->used = (volatile uint16_t *)(p + used);
}

static inline uint8_t vdev_status(const struct vdev *v)
{
	return v->transport == LEGACY ? inb((uint16_t)(v->base + 18))
	       : v->transport == MMIO ? (uint8_t)MMIO32(v->base + 0x70)
				      : MMIO8(v->base + C_DEVICE_STATUS);
}

static inline void vdev_set_status(struct vdev *v, uint8_t s)
{
	if (v->transport == LEGACY)
		outb((uint16_t)(v->base + 18), s);
	else if (v->transport == MMIO)
		MMIO32(v->base + 0x70) = s;
	else
		MMIO8(v->base + C_DEVICE_STATUS) = s;
}

/* Half n of what the device offers / of what the driver takes. */
static inline uint32_t vdev_offers(struct vdev *v, unsigned n)
{
	if (v->transport == LEGACY)
		return n ? 0 : inl((uint16_t)v->base);
	MMIO32(v->base + (v->transport == MMIO ? 0x14 : C_DEVICE_FEATURE_SELECT)) = n;
	return MMIO32(v->base + (v->transport == MMIO ? 0x10 : C_DEVICE_FEATURE));
}

static inline void vdev_takes(struct vdev *v, unsigned n, uint32_t f)
{
	if (v->transport == LEGACY) {
		if (!n)
			outl((uint16_t)(v->base + 4), f);
		return;
	}
	MMIO32(v->base + (v->transport == MMIO ? 0x24 : C_DRIVER_FEATURE_SELECT)) = n;
	MMIO32(v->base + (v->transport == MMIO ? 0x20 : C_DRIVER_FEATURE)) = f;
}

static inline void vqueue_legacy(struct vdev *v, struct vqueue *q, unsigned n)
{
	outw((uint16_t)(v->base + 14), (uint16_t)n);
	ring_place(&q->r, inw((uint16_t)(v->base + 12)));
	if (!q->r.size)
		return;
	outl((uint16_t)(v->base + 8), (uint32_t)(uintptr_t)q->r.desc >> 12);
	q->doorbell = v->base + 16;
}

static inline void vqueue_mmio(struct vdev *v, struct vqueue *q, unsigned n)
{
	MMIO32(v->base + 0x30) = n;
	if (!MMIO32(v->base + 0x34))
		return;
	ring_place(&q->r, VDEV_RING);
	MMIO32(v->base + 0x38) = VDEV_RING;
	MMIO32(v->base + 0x80) = (uint32_t)(uintptr_t)q->r.desc;
	MMIO32(v->base + 0x90) = (uint32_t)(uintptr_t)q->r.avail;
	MMIO32(v->base + 0xa0) = (uint32_t)(uintptr_t)q->r.used;
	MMIO32(v->base + 0x44) = 1;
	q->doorbell = v->base + 0x50;
}

static inline void vqueue_modern(struct vdev *v, struct vqueue *q, unsigned n)
{
	uint32_t entry = v->pci.msix_table + n * 16;

	MMIO16(v->base + C_QUEUE_SELECT) = (uint16_t)n;
	if (!MMIO16(v->base + C_QUEUE_SIZE))
		return;
	if (v->pci.msix_table) {		/* queue n has entry n, every second one masked */
		MMIO32(entry) = 0xfee00000;
		MMIO32(entry + 8) = 0x40 + n;
		MMIO32(entry + 12) = n & 1;
		MMIO16(v->base + C_QUEUE_MSIX_VECTOR) = (uint16_t)n;
	}
	ring_place(&q->r, VDEV_RING);
	MMIO16(v->base + C_QUEUE_SIZE) = VDEV_RING;
	MMIO32(v->base + C_QUEUE_DESC) = (uint32_t)(uintptr_t)q->r.desc;
	MMIO32(v->base + C_QUEUE_DRIVER) = (uint32_t)(uintptr_t)q->r.avail;
	MMIO32(v->base + C_QUEUE_DEVICE) = (uint32_t)(uintptr_t)q->r.used;
	q->doorbell = v->pci.notify +
		      MMIO16(v->base + C_QUEUE_NOTIFY_OFF) * v->pci.notify_multiplier;
	MMIO16(v->base + C_QUEUE_ENABLE) = 1;
}

static inline void vdev_start(struct vdev *v, uint32_t features, bool packed)
{
	vdev_set_status(v, 0);
	while (vdev_status(v))
		;
	vdev_set_status(v, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
	v->features = features & vdev_offers(v, 0);
	packed = packed && (vdev_offers(v, 1) & F_RING_PACKED);
	vdev_takes(v, 0, v->features);
	vdev_takes(v, 1, F_VERSION_1 | (packed ? F_RING_PACKED : 0));
	if (v->transport != LEGACY) {
		vdev_set_status(v, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
		CHECK(vdev_status(v) & STATUS_FEATURES_OK);
	}
	for (unsigned n = 0; n < VDEV_QUEUES; n++) {
		struct vqueue *q = &v->q[n];

		q->packed = packed;
		q->wrap = true;
		if (v->transport == LEGACY)
			vqueue_legacy(v, q, n);
		else if (v->transport == MMIO)
			vqueue_mmio(v, q, n);
		else
			vqueue_modern(v, q, n);
		if (!q->r.size)
			break;
		v->nqueues = n + 1;
	}
	vdev_set_status(v, vdev_status(v) | STATUS_DRIVER_OK);
}

/* Finds and does not touch: false when there is no virtio device. */
static inline bool vdev_find_pci(struct vdev *v, unsigned slot, bool legacy)
{
	uint32_t id = pci_read(slot, 0, 0), subsystem = pci_read(slot, 0, 0x2c) >> 16;

	memset(v, 0, sizeof(*v));
	if ((id & 0xffff) != VIRTIO_VENDOR || id >> 16 < 0x1000 || id >> 16 > 0x107f)
		return false;
	v->slot = slot;
	v->type = id >> 16 >= 0x1040 ? (id >> 16) - 0x1040 : subsystem;
	legacy = legacy && id >> 16 < 0x1040;
	pci_write(slot, 0, PCI_COMMAND, PCI_COMMAND_ALL);
	if (legacy) {
		v->transport = LEGACY;
		v->base = pci_read(slot, 0, PCI_BAR(0)) & ~3u;
		v->config = v->base + 20;
		return true;
	}
	virtio_find_slot(&v->pci, (int)slot);
	v->base = v->pci.common;
	v->config = v->pci.device;
	return true;
}

static inline bool vdev_find_mmio(struct vdev *v, unsigned window)
{
	uint32_t base = MICRO_WINDOWS + window * MICRO_WINDOW_SIZE;

	memset(v, 0, sizeof(*v));
	if (MMIO32(base) != 0x74726976 || !MMIO32(base + 8))
		return false;
	v->transport = MMIO;
	v->slot = window;
	v->type = MMIO32(base + 8);
	v->base = base;
	v->config = base + 0x100;
	return true;
}

/* A chain of n buffers; the device hears of it by vqueue_ring. */
static inline void vqueue_put(struct vqueue *q, const struct desc *chain, unsigned n)
{
	uint16_t slot = q->packed ? q->next : (uint16_t)(q->r.avail[1] * n % (q->r.size / n * n)),
		 first = 0;

	for (unsigned i = 0; i < n; i++) {
		struct desc d = chain[i];
		uint16_t flags = (d.flags & DESC_F_WRITE) | (i + 1 < n ? DESC_F_NEXT : 0);

		if (!q->packed) {
			d.flags = flags;
			d.next = (uint16_t)(slot + i + 1);
			q->r.desc[slot + i] = d;
			continue;
		}
		flags |= q->wrap ? PACKED_AVAIL : PACKED_USED;
		d.flags = slot;		/* the buffer's id */
		d.next = i ? flags : (uint16_t)(flags ^ (PACKED_AVAIL | PACKED_USED));
		if (!i)
			first = flags;
		q->r.desc[q->next] = d;
		if (++q->next == q->r.size) {
			q->next = 0;
			q->wrap = !q->wrap;
		}
	}
	full_barrier();
	if (q->packed) {
		*(volatile uint16_t *)&q->r.desc[slot].next = first;
		q->chain = (uint16_t)n;
	} else {
		q->r.avail[2 + q->r.avail[1] % q->r.size] = slot;
		full_barrier();
		q->r.avail[1]++;
	}
	full_barrier();
}

static inline void vqueue_ring(struct vdev *v, unsigned n)
{
	if (v->transport == LEGACY)
		outw((uint16_t)v->q[n].doorbell, (uint16_t)n);
	else if (v->transport == MMIO)
		MMIO32(v->q[n].doorbell) = n;
	else
		MMIO16(v->q[n].doorbell) = (uint16_t)n;
}

/* Waits until the one chain under way was used; returns how much the device wrote. */
static inline uint32_t vqueue_reap(struct vqueue *q)
{
	volatile uint16_t *flags;
	uint16_t head;

	if (!q->packed) {
		volatile uint32_t *ring = (volatile uint32_t *)(q->r.used + 2);

		for (unsigned i = 0; q->r.used[1] == q->seen; i++)
			if (i > 100000000)
				fail("a chain is never used");
		full_barrier();
		return ring[q->seen++ % q->r.size * 2 + 1];
	}
	head = (uint16_t)((q->next + q->r.size - q->chain) % q->r.size);
	flags = (volatile uint16_t *)&q->r.desc[head].next;
	for (unsigned i = 0; !(*flags & PACKED_AVAIL) != !(*flags & PACKED_USED); i++)
		if (i > 100000000)
			fail("a chain of a packed queue is never used");
	full_barrier();
	return q->r.desc[head].len;
}

#endif
