/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio.h: a virtio 1.x device on PCI, as lessons 08 and 09 drive it: capabilities, one split
 * queue at a time, an interrupt by MSI-X. Virtual I/O Device specification 1.2, sections 2.7, 3.1
 * and 4.1.
 */
#ifndef GUEST_VIRTIO_H
#define GUEST_VIRTIO_H

#include "pci.h"

#define VIRTIO_VENDOR 0x1af4
#define CAP_COMMON 1
#define CAP_NOTIFY 2
#define CAP_DEVICE 4
/* struct virtio_pci_common_cfg */
#define C_DEVICE_FEATURE_SELECT 0
#define C_DEVICE_FEATURE 4
#define C_DRIVER_FEATURE_SELECT 8
#define C_DRIVER_FEATURE 12
#define C_DEVICE_STATUS 20
#define C_QUEUE_SELECT 22
#define C_QUEUE_SIZE 24
#define C_QUEUE_MSIX_VECTOR 26
#define C_QUEUE_ENABLE 28
#define C_QUEUE_NOTIFY_OFF 30
#define C_QUEUE_DESC 32
#define C_QUEUE_DRIVER 40
#define C_QUEUE_DEVICE 48
#define STATUS_ACKNOWLEDGE 1
#define STATUS_DRIVER 2
#define STATUS_DRIVER_OK 4
#define STATUS_FEATURES_OK 8
#define DESC_F_NEXT 1
#define DESC_F_WRITE 2
#ifndef QUEUE_SIZE
#define QUEUE_SIZE 8
#endif

struct desc { uint64_t addr; uint32_t len; uint16_t flags, next; };
struct queue {
	struct desc desc[QUEUE_SIZE] __attribute__((aligned(4096)));
	struct {
		volatile uint16_t flags, idx, ring[QUEUE_SIZE], event;
	} avail __attribute__((aligned(4096)));
	struct {
		volatile uint16_t flags, idx;
		volatile struct {
			uint32_t id, len;
		} ring[QUEUE_SIZE];
		volatile uint16_t event;
	} used __attribute__((aligned(4096)));
	uint32_t doorbell;
	uint16_t number, seen;
};
struct virtio { int slot; uint32_t common, device, notify, notify_multiplier, msix_table; };

/* The address of a memory BAR. */
static inline uint32_t pci_bar_address(int slot, unsigned bar)
{
	uint32_t low = pci_read(slot, 0, PCI_BAR(bar));

	CHECK(!(low & 1));
	if ((low & 6) == 4 && pci_read(slot, 0, PCI_BAR(bar + 1)))
		fail("BAR %u of 00:%02x.0 lies above 4 GiB, out of this guest's reach", bar, slot);
	return low & ~15u;
}

/* The 1.x registers of the device in a slot. */
static inline void virtio_find_slot(struct virtio *v, int slot)
{
	unsigned cap;

	memset(v, 0, sizeof(*v));
	v->slot = slot;
	pci_write(v->slot, 0, PCI_COMMAND, PCI_COMMAND_ALL);
	for (cap = pci_read(v->slot, 0, PCI_CAPABILITIES) & 0xfc; cap;
	     cap = pci_read(v->slot, 0, cap + 1) & 0xfc) {
		uint32_t address;
		uint8_t type = pci_read(v->slot, 0, cap + 3) & 0xff;

		if ((pci_read(v->slot, 0, cap) & 0xff) == PCI_CAP_MSIX) {
			uint32_t table = pci_read(v->slot, 0, cap + 4);

			v->msix_table = pci_bar_address(v->slot, table & 7) + (table & ~7u);
			/* MSI-X enable */
			pci_write(v->slot, 0, cap, pci_read(v->slot, 0, cap) | 0x80000000);
		}
		if ((pci_read(v->slot, 0, cap) & 0xff) != PCI_CAP_VENDOR || type > CAP_DEVICE ||
		    type == 3)
			continue;
		address = pci_bar_address(v->slot, pci_read(v->slot, 0, cap + 4) & 0xff) +
			  pci_read(v->slot, 0, cap + 8);
		if (type == CAP_COMMON)
			v->common = address;
		else if (type == CAP_DEVICE)
			v->device = address;
		else
			v->notify = address, v->notify_multiplier = pci_read(v->slot, 0, cap + 16);
	}
	CHECK(v->common && v->notify);
}

static inline void virtio_find(struct virtio *v, uint16_t transitional_id, uint16_t id)
{
	int slot = pci_find(VIRTIO_VENDOR, transitional_id, id);

	if (slot < 0)
		fail("no virtio device %04x", id);
	virtio_find_slot(v, slot);
}

/*
 * Reset, and features: VIRTIO_F_VERSION_1 (bit 32) and those of `low` that the device offers.
 * Returns these.
 */
static inline uint32_t virtio_begin(struct virtio *v, uint32_t low)
{
	MMIO8(v->common + C_DEVICE_STATUS) = 0;
	while (MMIO8(v->common + C_DEVICE_STATUS))
		;
	MMIO8(v->common + C_DEVICE_STATUS) = STATUS_ACKNOWLEDGE | STATUS_DRIVER;
	MMIO32(v->common + C_DEVICE_FEATURE_SELECT) = 1;
	CHECK(MMIO32(v->common + C_DEVICE_FEATURE) & 1);
	MMIO32(v->common + C_DEVICE_FEATURE_SELECT) = 0;
	low &= MMIO32(v->common + C_DEVICE_FEATURE);
	MMIO32(v->common + C_DRIVER_FEATURE_SELECT) = 0;
	MMIO32(v->common + C_DRIVER_FEATURE) = low;
	MMIO32(v->common + C_DRIVER_FEATURE_SELECT) = 1;
	MMIO32(v->common + C_DRIVER_FEATURE) = 1;
	MMIO8(v->common + C_DEVICE_STATUS) = STATUS_ACKNOWLEDGE | STATUS_DRIVER |
					     STATUS_FEATURES_OK;
	CHECK(MMIO8(v->common + C_DEVICE_STATUS) & STATUS_FEATURES_OK);
	return low;
}

/* Queue `number`, whose completions interrupt by MSI-X entry `number` as `vector`. */
static inline void virtio_queue(struct virtio *v, struct queue *q, unsigned number, uint8_t vector)
{
	uint32_t entry = v->msix_table + number * 16;

	MMIO32(entry) = 0xfee00000;		/* message address: local APIC 0 */
	MMIO32(entry + 4) = 0;
	MMIO32(entry + 8) = vector;		/* message data */
	MMIO32(entry + 12) = 0;			/* not masked */
	memset(q, 0, sizeof(*q));
	q->number = (uint16_t)number;
	MMIO16(v->common + C_QUEUE_SELECT) = (uint16_t)number;
	CHECK(MMIO16(v->common + C_QUEUE_SIZE) >= QUEUE_SIZE);
	MMIO16(v->common + C_QUEUE_SIZE) = QUEUE_SIZE;
	MMIO16(v->common + C_QUEUE_MSIX_VECTOR) = (uint16_t)number;
	CHECK(MMIO16(v->common + C_QUEUE_MSIX_VECTOR) == number);
	MMIO32(v->common + C_QUEUE_DESC) = (uint32_t)(uintptr_t)q->desc;
	MMIO32(v->common + C_QUEUE_DESC + 4) = 0;
	MMIO32(v->common + C_QUEUE_DRIVER) = (uint32_t)(uintptr_t)&q->avail;
	MMIO32(v->common + C_QUEUE_DRIVER + 4) = 0;
	MMIO32(v->common + C_QUEUE_DEVICE) = (uint32_t)(uintptr_t)&q->used;
	MMIO32(v->common + C_QUEUE_DEVICE + 4) = 0;
	q->doorbell = v->notify + MMIO16(v->common + C_QUEUE_NOTIFY_OFF) * v->notify_multiplier;
	MMIO16(v->common + C_QUEUE_ENABLE) = 1;
}

static inline void virtio_ready(struct virtio *v)
{
	MMIO8(v->common + C_DEVICE_STATUS) |= STATUS_DRIVER_OK;
}

static inline void queue_offer(struct queue *q, uint16_t head)
{
	q->avail.ring[q->avail.idx % QUEUE_SIZE] = head;
	full_barrier();
	q->avail.idx++;
	full_barrier();
	MMIO16(q->doorbell) = q->number;
}

/*
 * The next used entry, or false after `ticks` of 10 ms. `called` is what the interrupt handler
 * sets.
 */
static inline bool queue_wait(struct queue *q, volatile uint32_t *called, unsigned ticks,
			      uint32_t *head, uint32_t *len)
{
	while (q->used.idx == q->seen) {
		if (!irq_wait(called, ticks))
			return false;
		*called = 0;
	}
	full_barrier();
	*head = q->used.ring[q->seen % QUEUE_SIZE].id;
	*len = q->used.ring[q->seen % QUEUE_SIZE].len;
	q->seen++;
	return true;
}

#endif
