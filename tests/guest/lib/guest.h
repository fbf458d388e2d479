/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * guest.h: what the guests written in C share: ports, printing, ending, interrupts. 32-bit
 * protected mode, flat memory, no paging.
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline void outb(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}
static inline void outw(uint16_t port, uint16_t v)
{
	__asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(port));
}
static inline void outl(uint16_t port, uint32_t v)
{
	__asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port));
}
static inline uint8_t inb(uint16_t port)
{
	uint8_t v;
	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}
static inline uint16_t inw(uint16_t port)
{
	uint16_t v;
	__asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}
static inline uint32_t inl(uint16_t port)
{
	uint32_t v;
	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}
static inline void barrier(void) { __asm__ volatile("" : : : "memory"); }
/* A full barrier without mfence, which not every interpreter of ring 0 knows. */
static inline void full_barrier(void)
{
	__asm__ volatile("lock addl $0, (%%esp)" : : : "memory", "cc");
}

#define MMIO8(a) (*(volatile uint8_t *)(uintptr_t)(a))
#define MMIO16(a) (*(volatile uint16_t *)(uintptr_t)(a))
#define MMIO32(a) (*(volatile uint32_t *)(uintptr_t)(a))

void print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));	/* %s %c %u %d %x %0Nx */
/* minivmm ends with (value << 1) | 1 */
void finish(int value) __attribute__((noreturn));
void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
#define CHECK(x) ((x) ? (void)0 : fail("line %d: not so: %s", __LINE__, #x))

/* fn runs with interrupts off and ends with the APIC's EOI done for it */
void irq_handler(unsigned vector, void (*fn)(void));
/* IDT loaded, PIC masked, local APIC on, sti */
void irq_enable(void);
/* Sleeps in hlt until *flag is set; false after about `ticks` of 10 ms. */
bool irq_wait(volatile uint32_t *flag, unsigned ticks);

int main(void);
void *memset(void *d, int c, size_t n);
void *memcpy(void *d, const void *s, size_t n);
int memcmp(const void *a, const void *b, size_t n);

#endif
