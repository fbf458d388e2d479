/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The NMI button (inject-nmi): it is wired to each processor's LINT1. One that the guest has masked
 * does not reach it, the next wakes it from a sleep without interrupts.
 */
#include "guest.h"

#define LVT_LINT1	0xfee00360
#define LVT_NMI		0x400
#define LVT_MASKED	0x10000

static volatile uint32_t nmis, never;

static void on_nmi(void)
{
	nmis++;
}

int main(void)
{
	irq_handler(2, on_nmi);
	irq_enable();
	MMIO32(LVT_LINT1) = LVT_NMI | LVT_MASKED;
	print("masked\n");
	irq_wait(&never, 200);
	print("then %u\n", nmis);
	MMIO32(LVT_LINT1) = LVT_NMI;
	print("ready\n");
	while (!nmis)
		__asm__ volatile("cli; hlt; sti" : : : "memory");
	print("nmi %u\n", nmis);
	finish(0);
}
