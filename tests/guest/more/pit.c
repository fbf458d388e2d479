/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pit.c: the 8254 from its first access on, through the moment when KVM takes it over, to a counter
 * that ticks: gate and output of counter 2 at port 0x61, status, latches, halves of a count,
 * interrupts of counter 0 at the PIC and at pin 2 of the IOAPIC.
 */
#include "guest.h"

#define CONTROL 0x43
#define PORT_B 0x61
#define PIC 0x20
#define IOAPIC 0xfec00000
#define IOAPIC_REDIRECTION 0x10
#define TIMER_PIN 2			/* as the MADT's override says */
#define VECTOR 0x30

static bool out2(void) { return inb(PORT_B) & 0x20; }

static uint16_t latched(unsigned n)
{
	uint16_t v;

	outb(CONTROL, n << 6);
	v = inb(0x40 + n);
	return v | inb(0x40 + n) << 8;
}

/* Counter 0's interrupt waits at the PIC, which is masked. */
static bool irq0(void)
{
	outb(PIC, 0x0a);
	return inb(PIC) & 1;
}

static void pic_init(void)
{
	outb(PIC, 0x11);
	outb(PIC + 1, 0x20);
	outb(PIC + 1, 0x04);
	outb(PIC + 1, 0x01);
	outb(PIC + 1, 0xff);
}

/* Port reads until what() holds; 0: never. */
static unsigned wait_for(bool (*what)(void))
{
	for (unsigned n = 1; n < 30000000; n++)
		if (what())
			return n;
	return 0;
}

static volatile uint32_t ticks, enough;
static void tick(void) { enough = ++ticks >= 3; }

static void ioapic_write(unsigned reg, uint32_t v)
{
	MMIO32(IOAPIC) = reg;
	MMIO32(IOAPIC + 0x10) = v;
}

int main(void)
{
	uint16_t a, b;
	unsigned i;

	pic_init();
	outb(PORT_B, inb(PORT_B) & ~3);
	CHECK((inb(PORT_B) & 3) == 0);
	outb(PORT_B, (inb(PORT_B) & ~2) | 1);
	CHECK((inb(PORT_B) & 3) == 1);

	/* counter 2, both bytes, mode 0: low until the count has run down */
	outb(CONTROL, 0xb0);
	CHECK(!out2());
	outb(CONTROL, 0xe8);			/* read its status back */
	/* whether there is a count yet not every emulator says */
	CHECK((inb(0x42) & 0xbf) == 0x30);
	outb(0x42, 0x60);
	CHECK(!out2());				/* half a count does not count */
	outb(0x42, 0xea);			/* 60000 ticks: 50 ms */
	CHECK(!out2());
	CHECK(wait_for(out2) > 1);
	print("counter 2 ran down\n");

	outb(CONTROL, 0xb4);			/* mode 2: again and again */
	outb(0x42, 0xff);
	outb(0x42, 0xff);
	a = latched(2);
	for (i = 0; i < 1000000 && (b = latched(2)) == a; i++)
		;
	CHECK(b != a);

	pic_init();
	outb(CONTROL, 0x34);			/* counter 0, mode 2, 100 times a second */
	outb(0x40, 11932 & 0xff);
	outb(0x40, 11932 >> 8);
	CHECK(wait_for(irq0));
	print("counter 0 ticks\n");

	irq_handler(VECTOR, tick);
	irq_enable();
	ioapic_write(IOAPIC_REDIRECTION + 2 * TIMER_PIN + 1, 0);
	ioapic_write(IOAPIC_REDIRECTION + 2 * TIMER_PIN, VECTOR);
	CHECK(irq_wait(&enough, 500));
	print("and interrupts\n");
	finish(0x2a);
}
