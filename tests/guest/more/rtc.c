/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest that sets the real-time clock 20000 times as fast as it can, to noon in the end, and
 * sleeps: what RTC_CHANGE makes of it.
 */
#include "guest.h"

static void set(uint8_t reg, uint8_t value)
{
	outb(0x70, reg);
	outb(0x71, value);
}

int main(void)
{
	volatile uint32_t never = 0;

	irq_enable();
	print("ready\n");
	irq_wait(&never, 100);		/* somebody connects */
	for (uint32_t n = 0; n < 20000; n++)
		set(4, n & 1 ? 0x12 : 0x11);
	print("done\n");
	irq_wait(&never, 10000);
	finish(0);
}
