/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fills.c: writes one sector into each cluster of its disk, flushes, and reads all of them back.
 * The command line says whether the disk is virtio or IDE (programmed I/O). When the host has no
 * room, the guest must not notice more than the wait.
 */
#include "virtio.h"

#define CLUSTER 128		/* sectors */
#define SECTORS 32768
#define IN 0
#define OUT 1
#define FLUSH 4
#define ATA_READ 0x20
#define ATA_WRITE 0x30
#define ATA_FLUSH 0xe7
#define ATA_BSY 0x80
#define ATA_DRQ 0x08
#define ATA_ERR 0x01

extern struct {
	uint32_t flags, mem_lower, mem_upper, boot_device;
	const char *cmdline;
} * multiboot_info;

static struct virtio disk;
static struct queue queue;
static struct { uint32_t type, reserved; uint64_t sector; } header;
static uint8_t data[512], status;

static bool virtio_request(uint32_t type, uint32_t sector)
{
	bool flush = type == FLUSH;
	uint16_t seen = queue.used.idx;

	header.type = type;
	header.sector = sector;
	status = 0xff;
	queue.desc[0] = (struct desc){ (uintptr_t)&header, 16, DESC_F_NEXT, flush ? 2 : 1 };
	queue.desc[1] = (struct desc){ (uintptr_t)data, 512,
				       DESC_F_NEXT | (type == IN ? DESC_F_WRITE : 0), 2 };
	queue.desc[2] = (struct desc){ (uintptr_t)&status, 1, DESC_F_WRITE, 0 };
	queue_offer(&queue, 0);
	while (queue.used.idx == seen)
		barrier();
	return status == 0;
}

static uint8_t ata_wait(void)
{
	uint8_t s;

	while ((s = inb(0x1f7)) & ATA_BSY)
		;
	return s;
}

static bool ide_request(uint32_t type, uint32_t sector)
{
	uint8_t *p = data;
	uint32_t n = 256;

	outb(0x3f6, 2);			/* no interrupts */
	outb(0x1f6, 0xe0 | sector >> 24);
	outb(0x1f2, 1);
	outb(0x1f3, sector);
	outb(0x1f4, sector >> 8);
	outb(0x1f5, sector >> 16);
	outb(0x1f7, type == IN ? ATA_READ : type == OUT ? ATA_WRITE : ATA_FLUSH);
	if (type == FLUSH)
		return !(ata_wait() & ATA_ERR);
	if (!(ata_wait() & ATA_DRQ))
		return false;
	if (type == IN)
		__asm__ volatile("rep insw" : "+D"(p), "+c"(n) : "d"(0x1f0) : "memory");
	else
		__asm__ volatile("rep outsw" : "+S"(p), "+c"(n) : "d"(0x1f0) : "memory");
	return !(ata_wait() & ATA_ERR);
}

static uint8_t byte_of(uint32_t sector, unsigned i)
{
	return sector / CLUSTER * 31 + i * 7 + 1;
}

int main(void)
{
	bool ide = false;
	bool (*request)(uint32_t type, uint32_t sector);

	for (const char *p = multiboot_info->cmdline; p[0] && p[1]; p++)
		ide |= !memcmp(p, "ide", 3);
	request = ide ? ide_request : virtio_request;
	if (ide) {
		pci_write(1, 1, PCI_COMMAND, PCI_COMMAND_ALL);	/* PIIX3's channels decode */
	} else {
		virtio_find(&disk, 0x1001, 0x1042);
		virtio_begin(&disk, 1 << 9);
		virtio_queue(&disk, &queue, 0, 0);
		virtio_ready(&disk);
	}
	for (uint32_t s = 0; s < SECTORS; s += CLUSTER) {
		for (unsigned i = 0; i < sizeof(data); i += 37)
			data[i] = byte_of(s, i);
		if (!request(OUT, s))
			fail("the write of sector %u failed", s);
	}
	if (!request(FLUSH, 0))
		fail("the flush failed");
	for (uint32_t s = 0; s < SECTORS; s += CLUSTER) {
		memset(data, 0, sizeof(data));
		if (!request(IN, s))
			fail("the read of sector %u failed", s);
		for (unsigned i = 0; i < sizeof(data); i += 37)
			if (data[i] != byte_of(s, i))
				fail("sector %u byte %u is %u", s, i, data[i]);
	}
	print("all there\n");
	finish(0);
}
