/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vcpu_state.c: a virtual CPU's registers: reset, entry state of a loader, save, load, description.
 * Specification: Intel SDM volume 3, 9.1.1 (state after reset); Linux
 * Documentation/virt/kvm/api.rst. Everything here runs with the vCPU parked, or on its own thread
 * between two entries.
 *
 * The order in which state goes back into KVM matters:
 *   CPUID        at creation; decides which registers exist
 *   TSC_KHZ      before the counter
 *   SREGS2       CR4, EFER and APIC base decide what the rest may hold
 *   NESTED       needs CR4/EFER
 *   REGS
 *   XCRS, XSAVE  XCR0 before the components it enables
 *   LAPIC        timer mode before TSC_DEADLINE
 *   MSRs         TSC first, TSC_DEADLINE after LAPIC, kvmclock's last (they read the counter)
 *   EVENTS, MP_STATE, DEBUGREGS
 */
#include <asm/kvm_para.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "vmm/base/host.h"
#include "vmm/base/log.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/wires/boot_cpu.h"
#include "vmm/wires/layout.h"

#define MSR_IA32_TSC 0x10u
#define MSR_IA32_APICBASE 0x1bu
#define MSR_IA32_SYSENTER_CS 0x174u
#define MSR_IA32_SYSENTER_ESP 0x175u
#define MSR_IA32_SYSENTER_EIP 0x176u
#define MSR_IA32_MISC_ENABLE 0x1a0u
#define MSR_IA32_CR_PAT 0x277u
#define MSR_MTRRdefType 0x2ffu
#define MSR_IA32_TSC_DEADLINE 0x6e0u
#define MSR_STAR 0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_CSTAR 0xc0000083u
#define MSR_SYSCALL_MASK 0xc0000084u
#define MSR_KERNEL_GS_BASE 0xc0000102u
#define MSR_TSC_AUX 0xc0000103u
#define MSR_IA32_SPEC_CTRL 0x48u
#define MSR_IA32_XSS 0xda0u

#define APIC_ENABLE 0x800u
#define APIC_BSP 0x100u
#define APIC_LINT1 0x360
#define LVT_MASKED 0x10000u
#define LVT_MODE 0x700u
#define LVT_NMI 0x400u
#define PAT_RESET 0x0007040600070406ull
#define MAX_MSRS 512
#define MAX_XSAVE (64 * KiB)

#define IOCTL(v, nr, arg) (ioctl((v)->fd, nr, arg) < 0 ? -errno : 0)

int vcpu_set_msr(struct vcpu *v, uint32_t index, uint64_t value)
{
	struct {
		struct kvm_msrs h;
		struct kvm_msr_entry e;
	} m = { .h.nmsrs = 1, .e = { .index = index, .data = value } };
	int n = ioctl(v->fd, KVM_SET_MSRS, &m);

	return n == 1 ? 0 : n < 0 ? -errno : -EINVAL;
}

int vcpu_get_msr(struct vcpu *v, uint32_t index, uint64_t *value)
{
	struct {
		struct kvm_msrs h;
		struct kvm_msr_entry e;
	} m = { .h.nmsrs = 1, .e.index = index };
	int n = ioctl(v->fd, KVM_GET_MSRS, &m);

	*value = m.e.data;
	return n == 1 ? 0 : n < 0 ? -errno : -EINVAL;
}

int vcpu_get_regs(struct vcpu *v, struct kvm_regs *r, struct kvm_sregs *s)
{
	int ret = IOCTL(v, KVM_GET_REGS, r);

	return ret < 0 ? ret : IOCTL(v, KVM_GET_SREGS, s);
}

int vcpu_set_regs(struct vcpu *v, const struct kvm_regs *r, const struct kvm_sregs *s)
{
	int ret = IOCTL(v, KVM_SET_SREGS, s);

	return ret < 0 ? ret : IOCTL(v, KVM_SET_REGS, r);
}

/* --- reset --- */

static struct kvm_segment segment(uint16_t selector, uint64_t base, uint32_t limit, uint8_t type,
				  uint8_t s)
{
	return (struct kvm_segment){ .selector = selector,
				     .base = base,
				     .limit = limit,
				     .type = type,
				     .s = s,
				     .present = 1 };
}

static int reset_sregs(struct vcpu *v)
{
	struct kvm_segment data = segment(0, 0, 0xffff, 0x3, 1);
	struct kvm_sregs s = {
		.cs = segment(0xf000, 0xffff0000, 0xffff, 0xb, 1),
		.ds = data, .es = data, .fs = data, .gs = data, .ss = data,
		.tr = segment(0, 0, 0xffff, 0xb, 0),
		.ldt = segment(0, 0, 0xffff, 0x2, 0),
		.gdt.limit = 0xffff, .idt.limit = 0xffff,
		.cr0 = 0x60000010,
		.apic_base = LAPIC_GPA | APIC_ENABLE | (v->index == 0 ? APIC_BSP : 0),
	};
	struct kvm_regs r = { .rip = 0xfff0, .rflags = 2, .rdx = 0x600 };

	return vcpu_set_regs(v, &r, &s);
}

static int reset_msrs(struct vcpu *v)
{
	static const struct { uint32_t index; uint64_t value;
	} msrs[] = {
		{ MSR_IA32_SYSENTER_CS, 0 },
		{ MSR_IA32_SYSENTER_ESP, 0 },
		{ MSR_IA32_SYSENTER_EIP, 0 },
		{ MSR_STAR, 0 },
		{ MSR_LSTAR, 0 },
		{ MSR_CSTAR, 0 },
		{ MSR_SYSCALL_MASK, 0 },
		{ MSR_KERNEL_GS_BASE, 0 },
		{ MSR_TSC_AUX, 0 },
		{ MSR_IA32_SPEC_CTRL, 0 },
		{ MSR_IA32_XSS, 0 },
		{ MSR_IA32_MISC_ENABLE, 1 },
		{ MSR_IA32_CR_PAT, PAT_RESET },
		{ MSR_MTRRdefType, 0 },
		{ MSR_IA32_TSC_DEADLINE, 0 },
		/*
		 * kvmclock and its relatives would go on writing into the memory of the guest that
		 * was.
		 */
		{ MSR_KVM_SYSTEM_TIME, 0 },
		{ MSR_KVM_WALL_CLOCK, 0 },
		{ MSR_KVM_SYSTEM_TIME_NEW, 0 },
		{ MSR_KVM_WALL_CLOCK_NEW, 0 },
		{ MSR_KVM_ASYNC_PF_EN, 0 },
		{ MSR_KVM_STEAL_TIME, 0 },
		{ MSR_KVM_PV_EOI_EN, 0 },
		{ MSR_KVM_POLL_CONTROL, 1 },
		{ MSR_KVM_ASYNC_PF_INT, 0 },
	};

	/* A processor model without one of these has nothing to reset there. */
	for (size_t i = 0; i < ARRAY_SIZE(msrs); i++)
		vcpu_set_msr(v, msrs[i].index, msrs[i].value);
	return 0;
}

static void lapic_write(struct kvm_lapic_state *l, unsigned reg, uint32_t value)
{
	memcpy(l->regs + reg, &value, sizeof(value));
}

static int reset_lapic(struct vcpu *v)
{
	static const unsigned lvts[] = { 0x2f0, 0x320, 0x330, 0x340, 0x350, 0x360, 0x370 };
	struct kvm_lapic_state old, l = { 0 };
	int ret = IOCTL(v, KVM_GET_LAPIC, &old);

	if (ret < 0)
		return ret;
	lapic_write(&l, 0x20, v->apic_id << 24);
	memcpy(l.regs + 0x30, old.regs + 0x30, 4);		/* version */
	lapic_write(&l, 0xe0, 0xffffffff);			/* destination format: flat */
	lapic_write(&l, 0xf0, 0xff);				/* spurious vector, disabled */
	for (size_t i = 0; i < ARRAY_SIZE(lvts); i++)
		lapic_write(&l, lvts[i], 0x10000);
	if (v->index == 0)
		/* LINT0: the PIC, as on a PC after its BIOS */
		lapic_write(&l, 0x350, 0x700);
	return IOCTL(v, KVM_SET_LAPIC, &l);
}

static struct kvm_segment boot_segment(const struct boot_segment *b)
{
	return (struct kvm_segment){
		.selector = b->selector,
		.base = b->base,
		.limit = b->limit,
		.type = b->type,
		.s = b->s,
		.present = b->present,
		.db = b->db,
		.l = b->l,
		.g = b->g,
		.unusable = !b->present,
	};
}

static int apply_boot(struct vcpu *v, const struct boot_cpu *b)
{
	struct kvm_regs r = {
		.rip = b->rip,
		.rsp = b->rsp,
		.rsi = b->rsi,
		.rax = b->rax,
		.rbx = b->rbx,
		.rflags = b->rflags | 2,
	};
	struct kvm_sregs s;
	int ret = IOCTL(v, KVM_GET_SREGS, &s);

	if (ret < 0)
		return ret;
	s.cs = boot_segment(&b->cs);
	s.ds = s.es = s.fs = s.gs = boot_segment(&b->ds);
	s.ss = boot_segment(&b->ss);
	if (b->tr.present)
		s.tr = boot_segment(&b->tr);
	s.gdt = (struct kvm_dtable){ .base = b->gdt_base, .limit = b->gdt_limit };
	s.cr0 = b->cr0;
	s.cr3 = b->cr3;
	s.cr4 = b->cr4;
	s.efer = b->efer;
	return vcpu_set_regs(v, &r, &s);
}

int vcpu_reset(struct vcpu *v, const struct boot_cpu *boot)
{
	struct kvm_mp_state mp = { .mp_state = v->index == 0 ? KVM_MP_STATE_RUNNABLE
							     : KVM_MP_STATE_UNINITIALIZED };
	struct kvm_vcpu_events ev = { 0 };
	struct kvm_debugregs dr = { .dr6 = 0xffff0ff0, .dr7 = 0x400 };
	int ret;

	/* A vCPU that never ran is in this state already; a fast start needs no ioctl here. */
	if (v->used) {
		if ((ret = reset_sregs(v)) < 0 || (ret = reset_msrs(v)) < 0 ||
		    (ret = reset_lapic(v)) < 0 || (ret = IOCTL(v, KVM_SET_VCPU_EVENTS, &ev)) < 0 ||
		    (ret = IOCTL(v, KVM_SET_MP_STATE, &mp)) < 0 ||
		    (ret = IOCTL(v, KVM_SET_DEBUGREGS, &dr)) < 0)
			return ret;
		v->io_pending = false;
	}
	if (!boot)
		return 0;
	for (unsigned i = 0; i < boot->nmsrs; i++)
		if ((ret = vcpu_set_msr(v, boot->msrs[i].index, boot->msrs[i].value)) < 0)
			log_debug("vCPU %u: MSR 0x%x cannot be set: %s", v->index,
				  boot->msrs[i].index, strerror(-ret));
	return v->index == 0 && boot->mode != BOOT_RESET ? apply_boot(v, boot) : 0;
}

/* --- save and load --- */

static const struct state_field regs_fields[] = {
#define R(name) STATE_FIELD(struct kvm_regs, STATE_U64, name)
	R(rax), R(rbx), R(rcx), R(rdx), R(rsi), R(rdi), R(rsp), R(rbp), R(r8),
	R(r9),	R(r10), R(r11), R(r12), R(r13), R(r14), R(r15), R(rip), R(rflags),
#undef R
};

static const struct state_field segment_fields[] = {
#define S(t, name) STATE_FIELD(struct kvm_segment, t, name)
	S(STATE_U64, base),   S(STATE_U32, limit), S(STATE_U16, selector), S(STATE_U8, type),
	S(STATE_U8, present), S(STATE_U8, dpl),	   S(STATE_U8, db),	   S(STATE_U8, s),
	S(STATE_U8, l),	      S(STATE_U8, g),	   S(STATE_U8, avl),	   S(STATE_U8, unusable),
#undef S
};

static const struct state_field sregs_fields[] = {
#define C(name) STATE_FIELD(struct kvm_sregs2, STATE_U64, name)
	C(cr0),
	C(cr2),
	C(cr3),
	C(cr4),
	C(cr8),
	C(efer),
	C(apic_base),
	C(flags),
	C(gdt.base),
	C(idt.base),
	{ "gdt.limit", STATE_U16, offsetof(struct kvm_sregs2, gdt.limit), 2 },
	{ "idt.limit", STATE_U16, offsetof(struct kvm_sregs2, idt.limit), 2 },
	STATE_FIELD(struct kvm_sregs2, STATE_BYTES, pdptrs),
#undef C
};

static const struct state_field debug_fields[] = {
	{ "db0", STATE_U64, offsetof(struct kvm_debugregs, db[0]), 8 },
	{ "db1", STATE_U64, offsetof(struct kvm_debugregs, db[1]), 8 },
	{ "db2", STATE_U64, offsetof(struct kvm_debugregs, db[2]), 8 },
	{ "db3", STATE_U64, offsetof(struct kvm_debugregs, db[3]), 8 },
	STATE_FIELD(struct kvm_debugregs, STATE_U64, dr6),
	STATE_FIELD(struct kvm_debugregs, STATE_U64, dr7),
};

static const struct { const char *name; size_t offset; } segments[] = {
#define S(name) { #name, offsetof(struct kvm_sregs2, name) }
	S(cs), S(ds), S(es), S(fs), S(gs), S(ss), S(tr), S(ldt),
#undef S
};

/* Old kernels have no KVM_GET_SREGS2; then the PDPTRs come from memory as they always did. */
static int get_sregs2(struct vcpu *v, struct kvm_sregs2 *s2)
{
	struct kvm_sregs s;
	int ret;

	if (kvm_has(v->w->kvm, KVM_CAP_SREGS2))
		return IOCTL(v, KVM_GET_SREGS2, s2);
	ret = IOCTL(v, KVM_GET_SREGS, &s);
	memset(s2, 0, sizeof(*s2));
	memcpy(s2, &s, offsetof(struct kvm_sregs, interrupt_bitmap));
	return ret;
}

static int set_sregs2(struct vcpu *v, const struct kvm_sregs2 *s2)
{
	struct kvm_sregs s = { 0 };

	if (kvm_has(v->w->kvm, KVM_CAP_SREGS2))
		return IOCTL(v, KVM_SET_SREGS2, s2);
	memcpy(&s, s2, offsetof(struct kvm_sregs, interrupt_bitmap));
	return IOCTL(v, KVM_SET_SREGS, &s);
}

static int msr_list(struct vcpu *v, struct kvm_msr_list **list)
{
	struct kvm_msr_list *l = xcalloc(1, sizeof(*l) + MAX_MSRS * sizeof(l->indices[0]));

	l->nmsrs = MAX_MSRS;
	*list = l;
	return ioctl(v->w->kvm->dev_fd, KVM_GET_MSR_INDEX_LIST, l) < 0 ? -errno : 0;
}

/*
 * kvmclock's pages are (re)written when their address is set, so they come after everything else.
 */
static bool msr_is_late(uint32_t index)
{
	return index == MSR_IA32_TSC_DEADLINE || index == MSR_KVM_SYSTEM_TIME ||
	       index == MSR_KVM_SYSTEM_TIME_NEW || index == MSR_KVM_WALL_CLOCK ||
	       index == MSR_KVM_WALL_CLOCK_NEW;
}

static int save_msrs(struct vcpu *v, struct state_out *o, uint64_t tsc)
{
	struct kvm_msr_list *list;
	uint8_t *blob, *p;
	int ret = msr_list(v, &list);

	p = blob = xcalloc(list->nmsrs, 12);
	for (unsigned i = 0; ret == 0 && i < list->nmsrs; i++) {
		uint32_t index = list->indices[i];
		uint64_t value;

		if (vcpu_get_msr(v, index, &value) < 0)
			continue;		/* in the list, but not on this processor model */
		st_be32(p, index);
		st_be64(p + 4, index == MSR_IA32_TSC ? tsc : value);
		p += 12;
	}
	state_bytes(o, "msrs", blob, p - blob);
	free(blob);
	free(list);
	return ret;
}

/* Returns whether the value is in the processor already (an MSR that can only be read). */
static bool msr_is(struct vcpu *v, uint32_t index, uint64_t value)
{
	uint64_t now;

	return vcpu_get_msr(v, index, &now) == 0 && now == value;
}

static int load_msrs(struct vcpu *v, struct state_in *in)
{
	const uint8_t *p;
	const void *blob;
	size_t len;

	if (state_get_blob(in, "msrs", &blob, &len, MAX_MSRS * 12) < 0)
		return -EINVAL;
	if (len % 12)
		return state_bad(in, "msrs: %zu bytes are no whole number of entries", len);
	for (int late = 0; late < 2; late++) {
		for (p = blob; p < (const uint8_t *)blob + len; p += 12) {
			uint32_t index = ld_be32(p);
			uint64_t value = ld_be64(p + 4);

			if (msr_is_late(index) != late || index == MSR_IA32_APICBASE)
				continue;
			if (index == MSR_IA32_TSC)
				v->loaded_tsc = value;
			if (vcpu_set_msr(v, index, value) < 0 && value && !msr_is(v, index, value))
				return state_bad(
					in, "MSR 0x%x: this host does not take the value 0x%lx",
					index, value);
		}
	}
	return 0;
}

static size_t xsave_size(struct vcpu *v)
{
	int n = v->w->kvm->xsave2 ? kvm_has(v->w->kvm, KVM_CAP_XSAVE2) : 0;

	return n > (int)sizeof(struct kvm_xsave) && n <= (int)MAX_XSAVE ? (size_t)n
									: sizeof(struct kvm_xsave);
}

static int save_fpu(struct vcpu *v, struct state_out *o)
{
	size_t size = xsave_size(v);
	uint8_t *area = xcalloc(1, size);
	struct kvm_xcrs xcrs;
	int ret;

	ret = size > sizeof(struct kvm_xsave) ? IOCTL(v, KVM_GET_XSAVE2, area)
					      : IOCTL(v, KVM_GET_XSAVE, area);
	if (ret == 0) {
		state_bytes(o, "xsave", area, size);
		ret = IOCTL(v, KVM_GET_XCRS, &xcrs);
	}
	if (ret == 0)
		state_u64(o, "xcr0", xcrs.nr_xcrs ? xcrs.xcrs[0].value : 1);
	free(area);
	return ret;
}

static int load_fpu(struct vcpu *v, struct state_in *in)
{
	size_t size = xsave_size(v), len = 0;
	uint8_t *area = xcalloc(1, size);
	const void *blob = NULL;
	struct kvm_xcrs xcrs = { .nr_xcrs = 1 };
	uint64_t xcr0;
	int ret;

	state_get_blob(in, "xsave", &blob, &len, size);
	state_get_u64(in, "xcr0", &xcr0);
	xcrs.xcrs[0].value = xcr0;
	ret = state_in_error(in);
	if (ret == 0) {
		memcpy(area, blob, len);
		ret = IOCTL(v, KVM_SET_XCRS, &xcrs);
		if (ret < 0)
			ret = state_bad(in, "xcr0 0x%llx: this host's processor lacks some of it",
					xcrs.xcrs[0].value);
	}
	if (ret == 0) {
		ret = IOCTL(v, KVM_SET_XSAVE, area);
		if (ret < 0)
			ret = state_bad(in, "xsave: %s", strerror(-ret));
	}
	free(area);
	return ret;
}

static int save_nested(struct vcpu *v, struct state_out *o)
{
	int size = kvm_has(v->w->kvm, KVM_CAP_NESTED_STATE);
	struct kvm_nested_state *n;

	if (size < (int)sizeof(*n))
		return 0;
	n = xcalloc(1, size);
	n->size = size;
	/* A guest without VMX or SVM has no such state. */
	if (ioctl(v->fd, KVM_GET_NESTED_STATE, n) == 0 && n->size > sizeof(*n) &&
	    n->size <= (unsigned)size)
		state_bytes(o, "nested", n, n->size);
	free(n);
	return 0;
}

static int load_nested(struct vcpu *v, struct state_in *in)
{
	const void *blob;
	size_t len;
	struct kvm_nested_state *n;
	int ret;

	if (!state_has(in, "nested"))
		return 0;
	if (state_get_blob(in, "nested", &blob, &len, 64 * KiB) < 0)
		return -EINVAL;
	if (len < sizeof(*n))
		return state_bad(in, "nested: too short");
	n = xcalloc(1, len);
	memcpy(n, blob, len);
	n->size = len;
	ret = IOCTL(v, KVM_SET_NESTED_STATE, n);
	free(n);
	return ret < 0 ? state_bad(in, "nested: %s (the other host's KVM allows nested guests?)",
				   strerror(-ret))
		       : 0;
}

int vcpu_save(struct vcpu *v, struct state_out *o, uint64_t tsc)
{
	struct kvm_regs regs;
	struct kvm_sregs2 s2;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp;
	struct kvm_debugregs dr;
	int ret;

	if ((ret = IOCTL(v, KVM_GET_REGS, &regs)) < 0 || (ret = get_sregs2(v, &s2)) < 0 ||
	    (ret = IOCTL(v, KVM_GET_LAPIC, &lapic)) < 0 ||
	    (ret = IOCTL(v, KVM_GET_VCPU_EVENTS, &events)) < 0 ||
	    (ret = IOCTL(v, KVM_GET_MP_STATE, &mp)) < 0 ||
	    (ret = IOCTL(v, KVM_GET_DEBUGREGS, &dr)) < 0)
		return ret;
	state_u32(o, "apic-id", v->apic_id);
	state_u64(o, "tsc-khz", MAX(ioctl(v->fd, KVM_GET_TSC_KHZ, 0), 0));
	state_save_fields(o, &regs, regs_fields, ARRAY_SIZE(regs_fields));
	state_save_fields(o, &s2, sregs_fields, ARRAY_SIZE(sregs_fields));
	state_bytes(o, "lapic", lapic.regs, sizeof(lapic.regs));
	state_bytes(o, "events", &events, sizeof(events));
	state_u32(o, "mp-state", mp.mp_state);
	state_save_fields(o, &dr, debug_fields, ARRAY_SIZE(debug_fields));
	if ((ret = save_fpu(v, o)) < 0 || (ret = save_msrs(v, o, tsc)) < 0 ||
	    (ret = save_nested(v, o)) < 0)
		return ret;
	for (size_t i = 0; i < ARRAY_SIZE(segments); i++) {
		state_begin(o, segments[i].name);
		state_save_fields(o, (char *)&s2 + segments[i].offset, segment_fields,
				  ARRAY_SIZE(segment_fields));
		state_end(o);
	}
	return 0;
}

static int load_sregs(struct vcpu *v, struct state_in *in)
{
	struct kvm_sregs2 s2 = { 0 };
	int ret;

	state_load_fields(in, &s2, sregs_fields, ARRAY_SIZE(sregs_fields));
	for (size_t i = 0; i < ARRAY_SIZE(segments); i++) {
		if (state_enter(in, segments[i].name) < 0)
			return -EINVAL;
		state_load_fields(in, (char *)&s2 + segments[i].offset, segment_fields,
				  ARRAY_SIZE(segment_fields));
		state_leave(in);
	}
	if (state_in_error(in))
		return -EINVAL;
	ret = set_sregs2(v, &s2);
	return ret < 0 ? state_bad(in, "vCPU %u: segment and control registers: %s", v->index,
				   strerror(-ret))
		       : 0;
}

static int load_tsc_khz(struct vcpu *v, struct state_in *in)
{
	uint64_t khz;
	int now = ioctl(v->fd, KVM_GET_TSC_KHZ, 0);

	if (state_get_u64(in, "tsc-khz", &khz) < 0)
		return -EINVAL;
	/*
	 * A guest that calibrated its TSC goes wrong by the ratio; 250 ppm is what NTP can still
	 * correct.
	 */
	if (!khz || now <= 0 || (khz > (uint64_t)now ? khz - now : now - khz) * 4000 <= khz)
		return 0;
	if (ioctl(v->fd, KVM_SET_TSC_KHZ, khz) == 0)
		v->tsc_scaled = true;
	else
		log_warn("the saved machine's TSC ran at %lu kHz, this host's runs at %d kHz and "
			 "cannot be scaled: guests "
			 "that keep time by it drift (kvm-clock does not)",
			 khz, now);
	return 0;
}

int vcpu_load(struct vcpu *v, struct state_in *in)
{
	struct kvm_regs regs = { 0 };
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp;
	struct kvm_debugregs dr = { 0 };
	uint32_t apic_id;
	int ret;

	state_get_u32(in, "apic-id", &apic_id);
	state_load_fields(in, &regs, regs_fields, ARRAY_SIZE(regs_fields));
	state_get_bytes(in, "lapic", lapic.regs, sizeof(lapic.regs));
	state_get_bytes(in, "events", &events, sizeof(events));
	state_get_u32(in, "mp-state", &mp.mp_state);
	state_load_fields(in, &dr, debug_fields, ARRAY_SIZE(debug_fields));
	if (state_in_error(in))
		return -EINVAL;
	if (apic_id != v->apic_id)
		return state_bad(in, "vCPU %u: saved with APIC id %u, this machine's is %u",
				 v->index, apic_id, v->apic_id);
	v->used = true;
	v->io_pending = false;
	if ((ret = load_tsc_khz(v, in)) < 0 || (ret = load_sregs(v, in)) < 0 ||
	    (ret = load_nested(v, in)) < 0)
		return ret;
	if ((ret = IOCTL(v, KVM_SET_REGS, &regs)) < 0)
		return state_bad(in, "vCPU %u: registers: %s", v->index, strerror(-ret));
	if ((ret = load_fpu(v, in)) < 0)
		return ret;
	if ((ret = IOCTL(v, KVM_SET_LAPIC, &lapic)) < 0)
		return state_bad(in, "vCPU %u: lapic: %s", v->index, strerror(-ret));
	if ((ret = load_msrs(v, in)) < 0)
		return ret;
	if ((ret = IOCTL(v, KVM_SET_VCPU_EVENTS, &events)) < 0 ||
	    (ret = IOCTL(v, KVM_SET_MP_STATE, &mp)) < 0 ||
	    (ret = IOCTL(v, KVM_SET_DEBUGREGS, &dr)) < 0)
		return state_bad(in, "vCPU %u: events, run state or debug registers: %s", v->index,
				 strerror(-ret));
	return 0;
}

int vcpu_nmi(struct vcpu *v)
{
	struct kvm_lapic_state lapic;
	struct kvm_sregs sregs;
	uint32_t lint1;
	int ret;

	if ((ret = IOCTL(v, KVM_GET_SREGS, &sregs)) < 0 ||
	    (ret = IOCTL(v, KVM_GET_LAPIC, &lapic)) < 0)
		return ret;
	memcpy(&lint1, lapic.regs + APIC_LINT1, sizeof(lint1));
	if ((sregs.apic_base & APIC_ENABLE) &&
	    ((lint1 & LVT_MASKED) || (lint1 & LVT_MODE) != LVT_NMI))
		return 0;
	return IOCTL(v, KVM_NMI, NULL);
}

void vcpu_clock_stopped(struct vcpu *v)
{
	/* EINVAL: the guest has no kvmclock, so it cannot be told. */
	ioctl(v->fd, KVM_KVMCLOCK_CTRL, 0);
}

/* --- description --- */

static const char *mode_name(const struct kvm_sregs *s, uint64_t rflags)
{
	if (!(s->cr0 & 1))
		return "real mode";
	if (rflags & 1 << 17)
		return "virtual 8086 mode";
	if (s->efer & 1 << 10)
		return s->cs.l ? "64-bit mode" : "compatibility mode";
	return s->cs.db ? "32-bit protected mode" : "16-bit protected mode";
}

static size_t describe_code(struct vcpu *v, const struct kvm_regs *r, const struct kvm_sregs *s,
			    char *buf, size_t len)
{
	const char *(*disasm)(uint64_t, int, const uint8_t *, size_t, char *, size_t);
	uint64_t linear = r->rip + (s->cs.l ? 0 : s->cs.base);
	int bits = s->cs.l ? 64 : s->cs.db ? 32 : 16;
	uint8_t code[15];
	char text[128];
	size_t n, got;

	for (got = sizeof(code); got && vcpu_read_virtual(v, linear, code, got) < 0; got--)
		;
	if (!got)
		return snprintf(
			buf, len,
			"  the bytes at rip cannot be read (linear address 0x%lx is not mapped)",
			linear);
	n = snprintf(buf, len, "  code at rip:");
	for (size_t i = 0; i < got && n < len; i++)
		n += snprintf(buf + n, len - n, " %02x", code[i]);
	disasm = module_symbol("disasm", "disasm_one", NULL);
	if (disasm && disasm(r->rip, bits, code, got, text, sizeof(text)) && n < len)
		n += snprintf(buf + n, len - n, "\n  instruction: %s", text);
	return n;
}

void vcpu_describe(struct vcpu *v, char *buf, size_t len)
{
	struct kvm_regs r;
	struct kvm_sregs s;
	size_t n;

	if (vcpu_get_regs(v, &r, &s) < 0) {
		snprintf(buf, len, "  registers cannot be read");
		return;
	}
	n = snprintf(buf, len,
		     "  %s, cs:rip %04x:%016llx rflags %08llx\n"
		     "  rax %016llx rbx %016llx rcx %016llx rdx %016llx\n"
		     "  rsi %016llx rdi %016llx rbp %016llx rsp %016llx\n"
		     "  r8  %016llx r9  %016llx r10 %016llx r11 %016llx\n"
		     "  r12 %016llx r13 %016llx r14 %016llx r15 %016llx\n"
		     "  cr0 %08llx cr2 %016llx cr3 %016llx cr4 %08llx efer %llx\n"
		     "  cs base %llx limit %x  ss %04x  ds %04x  gdt %llx:%x idt %llx:%x\n",
		     mode_name(&s, r.rflags), s.cs.selector, r.rip, r.rflags, r.rax, r.rbx, r.rcx,
		     r.rdx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13,
		     r.r14, r.r15, s.cr0, s.cr2, s.cr3, s.cr4, s.efer, s.cs.base, s.cs.limit,
		     s.ss.selector, s.ds.selector, s.gdt.base, s.gdt.limit, s.idt.base,
		     s.idt.limit);
	if (n < len)
		describe_code(v, &r, &s, buf + n, len - n);
}
