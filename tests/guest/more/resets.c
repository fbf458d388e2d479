/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * resets.c: the machine resets by each of its ways and starts the kernel again; the RTC's memory,
 * which a reset does not clear, counts. After the last, ends.
 */
#include "guest.h"

#define NVRAM_INDEX 0x70
#define NVRAM_DATA 0x71
#define COUNTER 0x60		/* free bytes of the RTC's memory */
#define MAGIC 0x61

static uint8_t nvram_read(uint8_t i) { outb(NVRAM_INDEX, i); return inb(NVRAM_DATA); }
static void nvram_write(uint8_t i, uint8_t v) { outb(NVRAM_INDEX, i); outb(NVRAM_DATA, v); }

int main(void)
{
	static uint32_t dirty = 0x600d;
	uint8_t n;

	CHECK(dirty == 0x600d);			/* the kernel was loaded anew */
	dirty = 0xbad;
	if (nvram_read(MAGIC) != 0x5a) {
		nvram_write(MAGIC, 0x5a);
		nvram_write(COUNTER, 0);
	}
	n = nvram_read(COUNTER);
	nvram_write(COUNTER, n + 1);
	print("start %u\n", n);
	switch (n) {
	/* PIIX3 reset control: hard reset */
	case 0: outb(0xcf9, 0x02); outb(0xcf9, 0x06); break;
	case 1: outb(0x64, 0xfe); break;			/* i8042: pulse the reset line */
	case 2: outb(0x92, 0x01); break;			/* port 92h: fast INIT */
	case 3: {						/* a triple fault */
		static const struct __attribute__((packed)) { uint16_t limit; uint32_t base; } none;

		__asm__ volatile("lidt %0; ud2" : : "m"(none));
		break;
	}
	case 4: finish(0x21);
	}
	for (volatile unsigned i = 0; i < 1000000000; i++)
		;
	fail("way %u does not reset", n);
}
