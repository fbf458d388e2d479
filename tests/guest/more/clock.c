/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest that watches kvmclock as user space does: both CPUs read the page of CPU 0 (Linux
 * Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW), and neither may see a time before
 * one that the other has seen. It tells both its clocks without an end.
 */
#include "guest.h"

#define MSR_KVM_SYSTEM_TIME_NEW 0x4b564d01
#define LAPIC_SVR 0xfee000f0
#define LAPIC_ICR_LOW 0xfee00300
#define ICR_PENDING 0x1000
#define ALL_BUT_SELF 0xc0000
#define INIT 0x4500
#define STARTUP 0x4600
#define TRAMPOLINE 0x8000

static volatile struct {
	uint32_t version, pad;
	uint64_t tsc_timestamp, system_time;
	uint32_t tsc_to_system_mul;
	int8_t tsc_shift;
	uint8_t flags, pad2[2];
} page[2] __attribute__((aligned(64)));

static volatile uint32_t lock, started;
static uint64_t latest;
uint8_t second_stack[4096] __attribute__((aligned(16)));

/* From STARTUP's real mode into the tables of the first CPU; copied to TRAMPOLINE. */
__asm__(
	"	.code16\n"
	"trampoline:\n"
	"	cli\n"
	"	xorw	%ax, %ax\n"
	"	movw	%ax, %ds\n"
	"	lgdtl	0x8000 + trampoline_gdt - trampoline\n"
	"	movl	$0x11, %eax\n"
	"	movl	%eax, %cr0\n"
	"	ljmpl	$8, $second_entry\n"
	"	.balign	8\n"
	"trampoline_gdt:\n"
	"	.word	23\n"
	"	.long	trampoline_tables\n"
	"trampoline_end:\n"
	"	.balign	8\n"
	"trampoline_tables:\n"
	"	.quad	0, 0x00cf9b000000ffff, 0x00cf93000000ffff\n"
	"	.code32\n"
	"second_entry:\n"
	"	movw	$16, %ax\n"
	"	movw	%ax, %ds\n"
	"	movw	%ax, %es\n"
	"	movw	%ax, %ss\n"
	"	movl	$second_stack + 4096, %esp\n"
	"	call	second\n"
);
extern const uint8_t trampoline[], trampoline_end[];

static uint64_t rdtsc(void)
{
	uint64_t v;

	__asm__ volatile("rdtsc" : "=A"(v));
	return v;
}

static uint64_t scaled(uint64_t ticks)
{
	int shift = page[0].tsc_shift;
	uint32_t mul = page[0].tsc_to_system_mul;

	ticks = shift < 0 ? ticks >> -shift : ticks << shift;
	return ((ticks & 0xffffffff) * mul >> 32) + (ticks >> 32) * mul;
}

static uint64_t clock_ns(void)
{
	uint32_t version;
	uint64_t ns;

	do {
		version = page[0].version;
		full_barrier();
		ns = page[0].system_time + scaled(rdtsc() - page[0].tsc_timestamp);
		full_barrier();
	} while (version & 1 || version != page[0].version);
	return ns;
}

static void take(void)
{
	while (__atomic_exchange_n(&lock, 1, __ATOMIC_SEQ_CST))
		__asm__ volatile("pause");
}

static void give(void)
{
	__atomic_store_n(&lock, 0, __ATOMIC_SEQ_CST);
}

static uint64_t look(unsigned cpu)
{
	uint64_t before, now;

	take();
	before = latest;
	give();
	now = clock_ns();
	if (now < before)
		fail("on CPU %u the clock went back by %u us", cpu,
		     (uint32_t)(before - now) / 1000);
	take();
	if (now > latest)
		latest = now;
	give();
	return now;
}

static void enable(unsigned cpu)
{
	__asm__ volatile("wrmsr"
			 :
			 : "c"(MSR_KVM_SYSTEM_TIME_NEW), "A"((uint64_t)(uintptr_t)&page[cpu] | 1));
}

void second(void)
{
	enable(1);
	started = 1;
	for (;;)
		look(1);
}

static void message(uint32_t what)
{
	MMIO32(LAPIC_ICR_LOW) = ALL_BUT_SELF | what;
	while (MMIO32(LAPIC_ICR_LOW) & ICR_PENDING)
		;
}

int main(void)
{
	uint64_t next;

	enable(0);
	memcpy((void *)TRAMPOLINE, trampoline, trampoline_end - trampoline);
	MMIO32(LAPIC_SVR) = 0x1ff;
	message(INIT);
	message(STARTUP | TRAMPOLINE >> 12);
	while (!started)
		;
	for (next = look(0);; next = look(0) + 50000000) {
		while (look(0) < next)
			;
		/* In units of 2^20 ns, for there is no division of 64 bits here. */
		print("clock %u counter %u%s\n", (uint32_t)(look(0) >> 20),
		      (uint32_t)(scaled(rdtsc()) >> 20), page[0].flags & 1 ? "" : " unstable");
	}
}
