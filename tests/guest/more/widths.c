/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * widths.c: accesses of each width to ports and memory-mapped registers, repeated ones, and to
 * where nobody is.
 */
#include "virtio.h"

#define FW_CFG_SEL 0x510
#define FW_CFG_DATA 0x511
#define NOWHERE 0x5100			/* a port that no chip claims */
#define NOWHERE_MEMORY 0xfd000000

static inline void rep_insb(uint16_t port, void *to, uint32_t n)
{
	__asm__ volatile("cld; rep insb" : "+D"(to), "+c"(n) : "d"(port) : "memory");
}

static inline void rep_outsb(uint16_t port, const void *from, uint32_t n)
{
	__asm__ volatile("cld; rep outsb" : "+S"(from), "+c"(n) : "d"(port) : "memory");
}

static inline void rep_insl(uint16_t port, void *to, uint32_t n)
{
	__asm__ volatile("cld; rep insl" : "+D"(to), "+c"(n) : "d"(port) : "memory");
}

int main(void)
{
	static uint8_t buffer[8192];
	static uint32_t words[3000];
	struct virtio rng;
	uint32_t all;

	CHECK(inb(NOWHERE) == 0xff && inw(NOWHERE) == 0xffff && inl(NOWHERE) == 0xffffffff);
	outb(NOWHERE, 1), outw(NOWHERE, 1), outl(NOWHERE, 1);
	CHECK(MMIO8(NOWHERE_MEMORY) == 0xff && MMIO16(NOWHERE_MEMORY) == 0xffff &&
	      MMIO32(NOWHERE_MEMORY) == 0xffffffff);
	MMIO32(NOWHERE_MEMORY) = 0;

	/*
	 * The address register of PCI as 32 bits; its bytes are no register of their own (0xcf9 is
	 * the reset control).
	 */
	outl(CONFIG_ADDRESS, 0x80000000);
	CHECK(inl(CONFIG_ADDRESS) == 0x80000000);
	all = inl(CONFIG_DATA);
	CHECK(inw(CONFIG_DATA) == (all & 0xffff) && inw(CONFIG_DATA + 2) == all >> 16);
	CHECK(inb(CONFIG_DATA + 1) == (all >> 8 & 0xff) && inb(CONFIG_DATA + 3) == all >> 24);

	/* Repeated input and output, also across the page that KVM hands over at a time. */
	outw(FW_CFG_SEL, 0);
	rep_insb(FW_CFG_DATA, buffer, 4);
	CHECK(!memcmp(buffer, "QEMU", 4));
	rep_insb(FW_CFG_DATA, buffer, sizeof(buffer));		/* beyond the item: zeroes */
	for (unsigned i = 0; i < sizeof(buffer); i++)
		CHECK(buffer[i] == 0);
	rep_insl(NOWHERE, words, 3000);
	for (unsigned i = 0; i < 3000; i++)
		CHECK(words[i] == 0xffffffff);
	rep_outsb(0x3f8, "repeated output\n", 16);

	/*
	 * Memory-mapped: the common configuration of a virtio device has registers of 8, 16 and 32
	 * bits.
	 */
	virtio_find(&rng, 0x1005, 0x1044);
	MMIO8(rng.common + C_DEVICE_STATUS) = 0;
	MMIO8(rng.common + C_DEVICE_STATUS) = 3;
	CHECK(MMIO8(rng.common + C_DEVICE_STATUS) == 3);
	MMIO16(rng.common + C_QUEUE_SELECT) = 0;
	CHECK(MMIO16(rng.common + C_QUEUE_SIZE) > 0);
	MMIO32(rng.common + C_QUEUE_DESC) = 0x12345000;
	MMIO32(rng.common + C_QUEUE_DESC + 4) = 0;
	CHECK(MMIO32(rng.common + C_QUEUE_DESC) == 0x12345000);
	/* no such queue: size 0, and writes to it go nowhere */
	MMIO16(rng.common + C_QUEUE_SELECT) = 77;
	CHECK(MMIO16(rng.common + C_QUEUE_SIZE) == 0);
	MMIO16(rng.common + C_QUEUE_ENABLE) = 1;
	MMIO8(rng.common + C_DEVICE_STATUS) = 0;
	CHECK(MMIO8(rng.common + C_DEVICE_STATUS) == 0);
	print("widths are right\n");
	finish(0x20);
}
