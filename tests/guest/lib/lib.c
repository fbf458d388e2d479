/* SPDX-License-Identifier: GPL-2.0-or-later */
/* lib.c: the few functions of guest.h that are not inline. */
#include "guest.h"

#define COM1 0x3f8
#define DEBUG_EXIT 0xf4
#define LAPIC 0xfee00000
#define LAPIC_EOI 0xb0
#define LAPIC_SVR 0xf0
#define LAPIC_LVT_TIMER 0x320
#define LAPIC_TIMER_INITIAL 0x380
#define LAPIC_TIMER_DIVIDE 0x3e0
#define TIMER_PERIODIC 0x20000
#define TICK_VECTOR 0x3f
#define VECTORS 64

struct gate { uint16_t low, selector, type, high; } idt[VECTORS];
extern char vector_entries[];
static void (*handlers[VECTORS])(void);
static volatile uint32_t ticks;

void *memset(void *d, int c, size_t n)
{
	for (uint8_t *p = d; n--; )
		*p++ = (uint8_t)c;
	return d;
}

void *memcpy(void *d, const void *s, size_t n)
{
	const uint8_t *q = s;

	for (uint8_t *p = d; n--; )
		*p++ = *q++;
	return d;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const uint8_t *p = a, *q = b;

	for (; n--; p++, q++)
		if (*p != *q)
			return *p - *q;
	return 0;
}

static void put(char c) { outb(COM1, (uint8_t)c); }

static void put_number(uint32_t v, unsigned base, int width)
{
	char buf[12];
	int n = 0;

	do
		buf[n++] = "0123456789abcdef"[v % base];
	while (v /= base);
	while (width-- > n)
		put('0');
	while (n)
		put(buf[--n]);
}

static void vprint(const char *fmt, va_list ap)
{
	for (; *fmt; fmt++) {
		int width = 0;

		if (*fmt != '%') {
			put(*fmt);
			continue;
		}
		while (*++fmt >= '0' && *fmt <= '9')
			width = width * 10 + *fmt - '0';
		switch (*fmt) {
		case 's':
			for (const char *s = va_arg(ap, const char *); *s; s++)
				put(*s);
			break;
		case 'c': put((char)va_arg(ap, int)); break;
		case 'd':
		case 'u': put_number(va_arg(ap, uint32_t), 10, width); break;
		case 'x': put_number(va_arg(ap, uint32_t), 16, width); break;
		default: put(*fmt);
		}
	}
}

void print(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprint(fmt, ap);
	va_end(ap);
}

void finish(int value)
{
	outb(DEBUG_EXIT, (uint8_t)value);
	for (;;)
		__asm__ volatile("cli; hlt");
}

void fail(const char *fmt, ...)
{
	va_list ap;

	print("FAILED: ");
	va_start(ap, fmt);
	vprint(fmt, ap);
	va_end(ap);
	print("\n");
	finish(0x3f);
}

void vector_called(unsigned vector)
{
	if (vector < 32 && !handlers[vector])
		fail("exception %u", vector);
	if (handlers[vector])
		handlers[vector]();
	if (vector >= 32)
		MMIO32(LAPIC + LAPIC_EOI) = 0;
}

void irq_handler(unsigned vector, void (*fn)(void)) { handlers[vector] = fn; }
static void tick(void) { ticks++; }

void irq_enable(void)
{
	for (unsigned i = 0; i < VECTORS; i++) {
		uint32_t entry = (uint32_t)(uintptr_t)vector_entries + i * 16;

		idt[i] = (struct gate){ (uint16_t)entry, 8, 0x8e00, (uint16_t)(entry >> 16) };
	}
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	MMIO32(LAPIC + LAPIC_SVR) = 0x1ff;
	irq_handler(TICK_VECTOR, tick);
	__asm__ volatile("sti");
}

bool irq_wait(volatile uint32_t *flag, unsigned limit)
{
	/* KVM's local APIC counts nanoseconds by 16 with this divisor: a tick each 10 ms. */
	MMIO32(LAPIC + LAPIC_TIMER_DIVIDE) = 3;
	MMIO32(LAPIC + LAPIC_LVT_TIMER) = TIMER_PERIODIC | TICK_VECTOR;
	MMIO32(LAPIC + LAPIC_TIMER_INITIAL) = 625000;
	ticks = 0;
	for (;;) {
		__asm__ volatile("cli" : : : "memory");
		if (*flag || ticks >= limit)
			break;
		__asm__ volatile("sti; hlt" : : : "memory");
	}
	MMIO32(LAPIC + LAPIC_TIMER_INITIAL) = 0;
	__asm__ volatile("sti");
	return *flag;
}
