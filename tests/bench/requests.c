/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * requests.c: a guest without a kernel that keeps a virtio disk busy, so that the VMM's part of a
 * request can be measured on any host's KVM. Command line: ... N DEPTH read|write|seqread|seqwrite:
 * N requests, DEPTH at once; 4 KiB at random places, or 1 MiB one after the other. The driver is as
 * sparing as Linux': event index, one doorbell for a batch, sleep while there is nothing.
 */
#define QUEUE_SIZE 128
#include "virtio.h"

/* event index; FLUSH: a write need not be durable by itself */
#define FEATURES (1u << 29 | 1u << 9)
#define VECTOR 0x30
#define SLOTS 32

extern struct {
	uint32_t flags, mem_lower, mem_upper, boot_device;
	const char *cmdline;
} * multiboot_info;

static struct virtio disk;
static struct queue queue;
static struct { uint32_t type, reserved; uint64_t sector; } headers[SLOTS];
static uint8_t status[SLOTS], data[SLOTS][4096] __attribute__((aligned(4096))),
	big[4][1 << 20] __attribute__((aligned(4096)));
static volatile uint32_t called;
static uint32_t blocks, next, seed = 2463534242u;
static bool write, sequential;

static void interrupt(void) { called = 1; }

static void prepare(unsigned slot)
{
	uint32_t size = sequential ? 1 << 20 : 4096, at;
	struct desc *d = queue.desc + slot * 3;

	seed ^= seed << 13, seed ^= seed >> 17, seed ^= seed << 5;
	at = sequential ? next++ % blocks : seed % blocks;
	headers[slot].type = write;
	headers[slot].sector = (uint64_t)at * (size / 512);
	d[0] = (struct desc){ (uintptr_t)&headers[slot], 16, DESC_F_NEXT, slot * 3 + 1 };
	d[1] = (struct desc){ sequential ? (uintptr_t)big[slot] : (uintptr_t)data[slot], size,
			      DESC_F_NEXT | (write ? 0 : DESC_F_WRITE), slot * 3 + 2 };
	d[2] = (struct desc){ (uintptr_t)&status[slot], 1, DESC_F_WRITE, 0 };
	queue.avail.ring[queue.avail.idx % QUEUE_SIZE] = slot * 3;
	barrier();
	queue.avail.idx++;
}

/* 2.7.10: only when the device asked to be told of one of these. */
static void kick(uint16_t old)
{
	full_barrier();
	if ((uint16_t)(queue.avail.idx - queue.used.event - 1) < (uint16_t)(queue.avail.idx - old))
		MMIO16(queue.doorbell) = 0;
}

static void wait_used(void)
{
	queue.avail.event = queue.seen;
	full_barrier();
	while (queue.used.idx == queue.seen) {
		__asm__ volatile("cli" : : : "memory");
		if (!called && queue.used.idx == queue.seen)
			__asm__ volatile("sti; hlt" : : : "memory");
		else
			__asm__ volatile("sti" : : : "memory");
		called = 0;
	}
}

static const char *number(const char *p, uint32_t *n)
{
	while (*p && (*p < '0' || *p > '9'))
		p++;
	for (*n = 0; *p >= '0' && *p <= '9'; p++)
		*n = *n * 10 + (uint32_t)(*p - '0');
	while (*p == ' ')
		p++;
	return p;
}

int main(void)
{
	uint32_t count, depth, done = 0, offered = 0;
	const char *p = multiboot_info->cmdline;

	CHECK(multiboot_info->flags & 4);
	/* a loader may put the file's name in front */
	while (*p && memcmp(p, "bench ", 6))
		p++;
	p = number(number(p, &count), &depth);
	sequential = p[0] == 's';
	write = p[sequential ? 3 : 0] == 'w';
	CHECK(depth && depth <= (sequential ? 4 : SLOTS));
	irq_handler(VECTOR, interrupt);
	irq_enable();
	virtio_find(&disk, 0x1001, 0x1042);
	CHECK(virtio_begin(&disk, FEATURES) == FEATURES);
	virtio_queue(&disk, &queue, 0, VECTOR);
	virtio_ready(&disk);
	blocks = MMIO32(disk.device) / (sequential ? 2048 : 8);
	while (offered < depth && offered < count)
		prepare(offered++);
	if (count)
		kick(0);
	while (done < count) {
		uint16_t old = queue.avail.idx;

		wait_used();
		while (queue.seen != queue.used.idx) {
			uint32_t slot = queue.used.ring[queue.seen % QUEUE_SIZE].id / 3;

			CHECK(status[slot] == 0);
			status[slot] = 0xff;
			queue.seen++;
			done++;
			if (offered < count) {
				prepare(slot);
				offered++;
			}
		}
		if (queue.avail.idx != old)
			kick(old);
	}
	finish(0x17);
}
