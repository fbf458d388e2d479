/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * msr_trace.c: Linux Documentation/virt/kvm/api.rst: KVM_CAP_X86_USER_SPACE_MSR,
 * KVM_X86_SET_MSR_FILTER. Names: Intel SDM volume 4, AMD APM volume 2 appendix A,
 * Documentation/virt/kvm/x86/msr.rst.
 *
 * The time stamp counter, its deadline and the x2APIC's registers stay with KVM: their timing is
 * what they are for. A write done for the guest is checked a little less than its own: that is the
 * price of looking.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "vmm/base/log.h"
#include "vmm/kvm/msr_trace.h"

#define RANGE_MAX 256

/* What KVM is asked to hand over; what it does not know at all comes too. */
static const struct { uint32_t base, n;
} ranges[] = {
	{ 0x11, 2 },	   { 0x1b, 1 },	      { 0x3a, 1 },	 { 0x48, 2 },
	{ 0x8b, 1 },	   { 0xfe, 1 },	      { 0x174, 3 },	 { 0x179, 2 },
	{ 0x1a0, 1 },	   { 0x200, 16 },     { 0x250, 0x28 },	 { 0x2ff, 1 },
	{ 0x4b564d00, 9 }, { 0xc0000080, 5 }, { 0xc0000100, 4 }, { 0xc0010015, 1 },
};

static const struct { uint32_t index; const char *name;
} names[] = {
	{ 0x11, "KVM_WALL_CLOCK" },
	{ 0x12, "KVM_SYSTEM_TIME" },
	{ 0x1b, "APIC_BASE" },
	{ 0x3a, "FEATURE_CONTROL" },
	{ 0x48, "SPEC_CTRL" },
	{ 0x49, "PRED_CMD" },
	{ 0x8b, "BIOS_SIGN_ID" },
	{ 0xfe, "MTRRCAP" },
	{ 0x174, "SYSENTER_CS" },
	{ 0x175, "SYSENTER_ESP" },
	{ 0x176, "SYSENTER_EIP" },
	{ 0x179, "MCG_CAP" },
	{ 0x17a, "MCG_STATUS" },
	{ 0x1a0, "MISC_ENABLE" },
	{ 0x250, "MTRR_FIX64K_00000" },
	{ 0x258, "MTRR_FIX16K_80000" },
	{ 0x259, "MTRR_FIX16K_A0000" },
	{ 0x277, "PAT" },
	{ 0x2ff, "MTRR_DEF_TYPE" },
	{ 0x4b564d00, "KVM_WALL_CLOCK_NEW" },
	{ 0x4b564d01, "KVM_SYSTEM_TIME_NEW" },
	{ 0x4b564d02, "KVM_ASYNC_PF_EN" },
	{ 0x4b564d03, "KVM_STEAL_TIME" },
	{ 0x4b564d04, "KVM_PV_EOI_EN" },
	{ 0x4b564d05, "KVM_POLL_CONTROL" },
	{ 0x4b564d06, "KVM_ASYNC_PF_INT" },
	{ 0x4b564d07, "KVM_ASYNC_PF_ACK" },
	{ 0x4b564d08, "KVM_MIGRATION_CONTROL" },
	{ 0xc0000080, "EFER" },
	{ 0xc0000081, "STAR" },
	{ 0xc0000082, "LSTAR" },
	{ 0xc0000083, "CSTAR" },
	{ 0xc0000084, "SFMASK" },
	{ 0xc0000100, "FS_BASE" },
	{ 0xc0000101, "GS_BASE" },
	{ 0xc0000102, "KERNEL_GS_BASE" },
	{ 0xc0000103, "TSC_AUX" },
	{ 0xc0010015, "HWCR" },
};

void msr_trace_start(struct kvm *k)
{
	/* a clear bit is an access that comes to us */
	static uint8_t deny[RANGE_MAX / 8];
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_X86_USER_SPACE_MSR,
		.args = { KVM_MSR_EXIT_REASON_FILTER | KVM_MSR_EXIT_REASON_UNKNOWN |
			  KVM_MSR_EXIT_REASON_INVAL },
	};
	struct kvm_msr_filter filter = { .flags = KVM_MSR_FILTER_DEFAULT_ALLOW };

	if (!(trace_mask & TRACE_MSR))
		return;
	_Static_assert(ARRAY_SIZE(ranges) <= KVM_MSR_FILTER_MAX_RANGES,
		       "more ranges than KVM takes");
	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++)
		filter.ranges[i] = (struct kvm_msr_filter_range){ .flags = KVM_MSR_FILTER_READ |
									   KVM_MSR_FILTER_WRITE,
								  .base = ranges[i].base,
								  .nmsrs = ranges[i].n,
								  .bitmap = deny };
	if (!kvm_has(k, KVM_CAP_X86_USER_SPACE_MSR) || ioctl(k->vm_fd, KVM_ENABLE_CAP, &cap) < 0 ||
	    ioctl(k->vm_fd, KVM_X86_SET_MSR_FILTER, &filter) < 0)
		log_warn("-trace msr: this host's KVM does not hand over MSR accesses (Linux 5.10 "
			 "does)");
}

static const char *msr_name(uint32_t index, char *buf, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].index == index)
			return names[i].name;
	if (index >= 0x200 && index < 0x210)
		snprintf(buf, len, "MTRR_PHYS%s%u", index & 1 ? "MASK" : "BASE",
			 (index - 0x200) / 2);
	else if (index >= 0x268 && index <= 0x26f)
		snprintf(buf, len, "MTRR_FIX4K_%05X", 0xc0000 + (index - 0x268) * 0x8000);
	else
		buf[0] = 0;
	return buf;
}

void msr_trace_exit(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	bool is_read = run->exit_reason == KVM_EXIT_X86_RDMSR;
	struct { struct kvm_msrs head; struct kvm_msr_entry entry; } m = {
		.head.nmsrs = 1, .entry = { .index = run->msr.index, .data = run->msr.data },
	};
	char name[16], buf[32];

	/* What KVM itself does not have or take stays the fault it is. */
	run->msr.error = run->msr.reason != KVM_MSR_EXIT_REASON_FILTER ||
			 ioctl(v->fd, is_read ? KVM_GET_MSRS : KVM_SET_MSRS, &m) != 1;
	if (is_read && !run->msr.error)
		run->msr.data = m.entry.data;
	snprintf(name, sizeof(name), "vcpu%u", v->index);
	if (is_read && run->msr.error)
		trace(TRACE_MSR, 0, name, "RDMSR 0x%08x   #GP                  %s", m.entry.index,
		      msr_name(m.entry.index, buf, sizeof(buf)));
	else
		trace(TRACE_MSR, 0, name, "%s 0x%08x = 0x%016llx %s%s", is_read ? "RDMSR" : "WRMSR",
		      m.entry.index, m.entry.data, msr_name(m.entry.index, buf, sizeof(buf)),
		      run->msr.error ? ": #GP" : "");
}
