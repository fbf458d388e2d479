/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hyperv.c: what Windows looks for with hv_relaxed, hv_time and hv_vapic (Hypervisor Top-Level
 * Functional Specification, 2.4 and 12.4): the leaves, the processor's index, the time in units of
 * 100 ns, the page that turns the TSC into it, the hypercall page.
 */
#include "guest.h"

#define HV_GUEST_OS_ID		0x40000000
#define HV_HYPERCALL		0x40000001
#define HV_VP_INDEX		0x40000002
#define HV_TIME_REF_COUNT	0x40000020
#define HV_REFERENCE_TSC	0x40000021
#define ACCESS_TIME		(1u << 1)
#define ACCESS_APIC		(1u << 4)
#define ACCESS_HYPERCALL	(1u << 5)
#define ACCESS_VP_INDEX		(1u << 6)
#define ACCESS_REFERENCE_TSC	(1u << 9)
#define ADVICE_APIC_MSRS	(1u << 3)
#define ADVICE_RELAXED		(1u << 5)

static void cpuid(uint32_t leaf, uint32_t r[4])
{
	__asm__ volatile("cpuid"
			 : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
			 : "a"(leaf), "c"(0));
}

static uint64_t rdmsr(uint32_t index)
{
	uint64_t v;

	__asm__ volatile("rdmsr" : "=A"(v) : "c"(index));
	return v;
}

static void wrmsr(uint32_t index, uint64_t v)
{
	__asm__ volatile("wrmsr" : : "c"(index), "A"(v));
}

static uint64_t rdtsc(void)
{
	uint64_t v;

	__asm__ volatile("rdtsc" : "=A"(v));
	return v;
}

int main(void)
{
	static uint8_t pages[3 * 4096];
	uint32_t page = ((uint32_t)(uintptr_t)pages + 4095) & ~4095u, r[4];
	volatile uint32_t *tsc_page = (volatile uint32_t *)(uintptr_t)page;
	uint8_t *code = (uint8_t *)(uintptr_t)(page + 4096);
	uint64_t before, after, tsc;

	cpuid(1, r);
	CHECK(r[2] >> 31);
	cpuid(0x40000000, r);
	CHECK(r[0] >= 0x40000005 && !memcmp(&r[1], "Microsoft Hv", 12));
	cpuid(0x40000001, r);
	CHECK(!memcmp(&r[0], "Hv#1", 4));
	cpuid(0x40000003, r);
	CHECK((r[0] & (ACCESS_HYPERCALL | ACCESS_VP_INDEX)) ==
	      (ACCESS_HYPERCALL | ACCESS_VP_INDEX));
	CHECK((r[0] & (ACCESS_TIME | ACCESS_REFERENCE_TSC)) ==
	      (ACCESS_TIME | ACCESS_REFERENCE_TSC));
	CHECK(r[0] & ACCESS_APIC);
	cpuid(0x40000004, r);
	CHECK((r[0] & (ADVICE_RELAXED | ADVICE_APIC_MSRS)) == (ADVICE_RELAXED | ADVICE_APIC_MSRS));
	/* KVM's own leaves have made room: a Linux guest finds its clock there, too. */
	cpuid(0x40000100, r);
	CHECK(!memcmp(&r[1], "KVMKVMKVM\0\0\0", 12));

	CHECK(rdmsr(HV_VP_INDEX) == 0);
	before = rdmsr(HV_TIME_REF_COUNT);
	tsc = rdtsc();
	while (rdtsc() - tsc < 20000000)
		;
	after = rdmsr(HV_TIME_REF_COUNT);
	CHECK(after > before && after - before < 100000000);	/* 20 million cycles are no 10 s */

	wrmsr(HV_GUEST_OS_ID, 0x1000000000001ull);
	CHECK(rdmsr(HV_GUEST_OS_ID) == 0x1000000000001ull);
	wrmsr(HV_HYPERCALL, (uint32_t)(uintptr_t)code | 1);
	/* vmcall or vmmcall, then a return: KVM has written them. */
	CHECK(code[0] == 0x0f && code[1] == 0x01 && (code[2] == 0xc1 || code[2] == 0xd9));
	wrmsr(HV_REFERENCE_TSC, page | 1);
	CHECK(rdmsr(HV_REFERENCE_TSC) == (page | 1));
	print("Hyper-V's leaves, time and pages; TSC page sequence %u\n", tsc_page[0]);
	finish(40);
}
