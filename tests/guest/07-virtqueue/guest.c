/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lesson 07: a virtqueue by hand. A virtio entropy device through its legacy registers, without any
 * driver framework. Virtual I/O Device specification 1.2, sections 2.7 (split virtqueues), 4.1.4.8
 * (legacy registers), 5.4 (entropy).
 */
#include "pci.h"

#define QUEUE_PFN 8		/* legacy registers, offsets in BAR 0 */
#define QUEUE_NUM 12
#define QUEUE_SEL 14
#define QUEUE_NOTIFY 16
#define STATUS 18
#define ISR 19
#define DESC_F_NEXT 1
#define DESC_F_WRITE 2		/* the device writes */

struct desc { uint64_t addr; uint32_t len; uint16_t flags, next; };
struct avail { uint16_t flags, idx, ring[]; };
struct used { uint16_t flags, idx; struct { uint32_t id, len; } ring[]; };

static uint8_t ring_memory[16384] __attribute__((aligned(4096)));
static uint8_t bytes[2][32];

int main(void)
{
	int slot = pci_find(0x1af4, 0x1005, 0x1005);
	struct desc *desc = (struct desc *)ring_memory;
	volatile struct avail *avail;
	volatile struct used *used;
	unsigned num, spins;
	uint16_t base;

	CHECK(slot >= 0);
	pci_write(slot, 0, PCI_COMMAND, PCI_COMMAND_ALL);
	base = pci_read(slot, 0, PCI_BAR(0)) & ~3u;

	outb(base + STATUS, 0);				/* reset */
	outb(base + STATUS, 1 | 2);			/* acknowledge, driver */
	outw(base + QUEUE_SEL, 0);
	num = inw(base + QUEUE_NUM);			/* the device says how long the queue is */
	CHECK(num && !(num & (num - 1)));
	avail = (struct avail *)(ring_memory + num * sizeof(*desc));
	used = (struct used *)(((uintptr_t)&avail->ring[num + 1] + 4095) & ~4095ul);
	CHECK((uintptr_t)&used->ring[num] <= (uintptr_t)ring_memory + sizeof(ring_memory));
	outl(base + QUEUE_PFN, (uint32_t)(uintptr_t)ring_memory >> 12);
	outb(base + STATUS, 1 | 2 | 4);			/* driver ok */

	/* One chain of two buffers that the device may write. */
	desc[0] = (struct desc){ (uintptr_t)bytes[0], sizeof(bytes[0]), DESC_F_WRITE | DESC_F_NEXT,
				 1 };
	desc[1] = (struct desc){ (uintptr_t)bytes[1], sizeof(bytes[1]), DESC_F_WRITE, 0 };
	avail->ring[0] = 0;				/* the chain's head */
	/* first the entry, then the index that shows it */
	full_barrier();
	avail->idx = 1;
	full_barrier();
	outw(base + QUEUE_NOTIFY, 0);			/* the doorbell */

	for (spins = 0; used->idx != 1; spins++)
		if (spins > 100000000)
			fail("the device did not use the chain");
	full_barrier();
	CHECK(used->ring[0].id == 0);
	CHECK(used->ring[0].len > 0 && used->ring[0].len <= 64);
	/* it raised its interrupt; reading the register lowers it */
	CHECK(inb(base + ISR) == 1);
	CHECK(inb(base + ISR) == 0);

	spins = 0;
	for (unsigned i = 0; i < used->ring[0].len && i < 64; i++)
		spins |= bytes[i / 32][i % 32];
	/* all zero by chance: 1 in 2 to the power of 8 for each byte */
	CHECK(spins);
	print("07: %u random bytes:", used->ring[0].len);
	for (unsigned i = 0; i < 8; i++)
		print(" %02x", bytes[0][i]);
	print("\n07: the virtqueue works\n");
	finish(0x16);
}
