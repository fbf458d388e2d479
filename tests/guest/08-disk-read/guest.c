/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lesson 08: a disk read, and a write. The virtio block device by its 1.x registers, doorbell by
 * ioeventfd, completion by an MSI-X interrupt. Virtual I/O Device specification 1.2, section 5.2.
 */
#include "virtio.h"

#define BLK_T_IN 0
#define BLK_T_OUT 1
#define BLK_T_FLUSH 4
#define BLK_F_FLUSH (1 << 9)
#define VECTOR 0x30

static struct virtio disk;
static struct queue queue;
static volatile uint32_t called;
static struct { uint32_t type, reserved; uint64_t sector; } header;
static uint8_t data[512], status;

static void interrupt(void) { called = 1; }

static uint8_t request(uint32_t type, uint64_t sector)
{
	bool flush = type == BLK_T_FLUSH;
	uint32_t head, len;

	header.type = type;
	header.sector = sector;
	status = 0xff;
	queue.desc[0] = (struct desc){ (uintptr_t)&header, 16, DESC_F_NEXT, flush ? 2 : 1 };
	queue.desc[1] = (struct desc){ (uintptr_t)data, 512,
				       DESC_F_NEXT | (type == BLK_T_IN ? DESC_F_WRITE : 0), 2 };
	queue.desc[2] = (struct desc){ (uintptr_t)&status, 1, DESC_F_WRITE, 0 };
	queue_offer(&queue, 0);
	if (!queue_wait(&queue, &called, 500, &head, &len))
		fail("request %u did not complete", type);
	CHECK(head == 0);
	CHECK(len == (type == BLK_T_IN ? 513 : 1));	/* what the device wrote */
	return status;
}

int main(void)
{
	uint32_t sectors;

	irq_handler(VECTOR, interrupt);
	irq_enable();
	virtio_find(&disk, 0x1001, 0x1042);
	CHECK(virtio_begin(&disk, BLK_F_FLUSH) & BLK_F_FLUSH);
	virtio_queue(&disk, &queue, 0, VECTOR);
	virtio_ready(&disk);
	sectors = MMIO32(disk.device);
	print("08: a disk of %u sectors\n", sectors);

	CHECK(request(BLK_T_IN, 1) == 0);
	data[511] = 0;
	print("08: sector 1 says: %s\n", (char *)data);

	for (unsigned i = 0; i < 512; i++)
		data[i] = (uint8_t)(i * 7);
	CHECK(request(BLK_T_OUT, 2) == 0);
	CHECK(request(BLK_T_FLUSH, 0) == 0);
	memset(data, 0, sizeof(data));
	CHECK(request(BLK_T_IN, 2) == 0);
	for (unsigned i = 0; i < 512; i++)
		CHECK(data[i] == (uint8_t)(i * 7));

	/* beyond the end: an error, and the disk works on */
	CHECK(request(BLK_T_IN, sectors) != 0);
	CHECK(request(77, 0) == 2);			/* unknown: VIRTIO_BLK_S_UNSUPP */
	CHECK(request(BLK_T_IN, sectors - 1) == 0);
	print("08: written, flushed, read back; errors are errors\n");
	finish(0x17);
}
