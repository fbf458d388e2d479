/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * boot_cpu.h: how the first vCPU starts. bios/ fills it, vmm/kvm/vcpu_state.c turns it into
 * KVM_SET_SREGS, KVM_SET_REGS and KVM_SET_MSRS. Plain data, no thread.
 */
#ifndef VMM_WIRES_BOOT_CPU_H
#define VMM_WIRES_BOOT_CPU_H

#include "vmm/base/util.h"

enum boot_mode {
	BOOT_RESET,		/* as INIT leaves it: real mode at f000:fff0 */
	BOOT_REAL,		/* real mode: segs as given */
	BOOT_PROTECTED,		/* CR0.PE, paging off, flat 32-bit segments */
	/* CR0.PE|PG, CR4.PAE, EFER.LME|LMA, CR3: identity map of the first 4 GiB */
	BOOT_LONG,
};
struct boot_segment {
	uint16_t selector;
	uint64_t base;
	uint32_t limit;		/* in bytes, granularity applied: 0xffffffff */
	uint8_t type;		/* descriptor type: 0xb code, 0x3 data, 0xb with s == 0: busy TSS */
	uint8_t s, present, db, l, g;
};
struct boot_msr {
	uint32_t index;
	uint64_t value;
};
#define BOOT_MAX_MSRS 24
struct boot_cpu {
	enum boot_mode mode;
	uint64_t rip, rsp, rsi, rax, rbx, rflags;
	uint64_t cr0, cr3, cr4, efer;
	struct boot_segment cs, ds, ss, tr;	/* es, fs, gs: as ds */
	uint64_t gdt_base;
	uint16_t gdt_limit;
	/* For every vCPU: what firmware would have programmed (MTRRs). Empty with BOOT_RESET. */
	struct boot_msr msrs[BOOT_MAX_MSRS];
	unsigned nmsrs;
	/* "bios", "linux", "linux32", "pvh", "multiboot": for trace and messages */
	const char *way;
};

#endif
