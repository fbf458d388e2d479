/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * command_chips.c: the interrupt controllers that KVM emulates, as QEMU's monitor shows them.
 * Specifications: Intel 82093AA (IOAPIC, 3.2.4), 8259A, SDM volume 3, chapter 11 (local APIC).
 */
#include <errno.h>
#include <sys/ioctl.h>

#include "vmm/control/command.h"

#define VECTORS 256

static const char *const delivery[] = { "fixed", "lowest", "SMI",  "...",
					"NMI",	 "INIT",   "SIPI", "ExtINT" };

/* The numbers of the bits that are set, or "(none)". */
static void bits_line(FILE *out, const char *name, const uint32_t *words, unsigned n)
{
	bool any = false;

	fprintf(out, "%s", name);
	for (unsigned i = 0; i < n; i++) {
		if (!(words[i / 32] >> (i % 32) & 1))
			continue;
		fprintf(out, " %u", i);
		any = true;
	}
	fprintf(out, "%s\n", any ? "" : " (none)");
}

/* --- info pic --- */

static void print_ioapic(const struct kvm_ioapic_state *s, FILE *out)
{
	uint32_t remote = 0;

	fprintf(out, "ioapic0: ver=0x11 id=0x%02x sel=0x%02x\n", s->id, s->ioregsel);
	for (unsigned i = 0; i < KVM_IOAPIC_NUM_PINS; i++) {
		uint64_t e = s->redirtbl[i].bits;
		bool level = e >> 15 & 1;

		fprintf(out,
			"  pin %-2u 0x%016llx dest=%llX vec=%-3u active-%s %-5s %-6s %-6s %s\n", i,
			(unsigned long long)e, (unsigned long long)(e >> 56), (unsigned)e & 0xff,
			e >> 13 & 1 ? "lo" : "hi", level ? "level" : "edge",
			e >> 16 & 1 ? "masked" : "", delivery[e >> 8 & 7],
			e >> 11 & 1 ? "logical" : "physical");
		remote |= (uint32_t)(e >> 14 & 1) << i;
	}
	bits_line(out, "  IRR     ", &s->irr, KVM_IOAPIC_NUM_PINS);
	bits_line(out, "  Remote IRR", &remote, KVM_IOAPIC_NUM_PINS);
}

static void print_pic(unsigned n, const struct kvm_pic_state *s, FILE *out)
{
	fprintf(out,
		"pic%u: irr=%02x imr=%02x isr=%02x hprio=%u irq_base=%02x rr_sel=%u elcr=%02x "
		"fnm=%u\n",
		n, s->irr, s->imr, s->isr, s->priority_add, s->irq_base, s->read_reg_select,
		s->elcr, s->special_fully_nested_mode);
}

static int query_pic(struct machine *m, json_t *args, struct command_result *r)
{
	static const int ids[] = { KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_SLAVE,
				   KVM_IRQCHIP_PIC_MASTER };
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	int ret = 0;

	for (size_t i = 0; i < ARRAY_SIZE(ids) && ret == 0; i++) {
		struct kvm_irqchip c = { .chip_id = ids[i] };

		if (ioctl(m->kvm->vm_fd, KVM_GET_IRQCHIP, &c) < 0)
			ret = err_set(&r->err, errno, "KVM_GET_IRQCHIP: %s", strerror(errno));
		else if (ids[i] == KVM_IRQCHIP_IOAPIC)
			print_ioapic(&c.chip.ioapic, out);
		else
			print_pic(ids[i] == KVM_IRQCHIP_PIC_SLAVE, &c.chip.pic, out);
	}
	r->value = command_text(out, &text, &len);
	return ret;
}

/* --- info lapic --- */

static uint32_t reg(const struct kvm_lapic_state *l, unsigned offset)
{
	uint32_t v;

	memcpy(&v, l->regs + offset, sizeof(v));
	return v;
}

/* Eight registers of 32 bits, 16 bytes apart: a bit for each vector (11.8.4). */
static void vectors_line(FILE *out, const char *name, const struct kvm_lapic_state *l,
			 unsigned offset)
{
	uint32_t words[VECTORS / 32];

	for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
		words[i] = reg(l, offset + 16 * i);
	bits_line(out, name, words, VECTORS);
}

static void lvt_line(FILE *out, const char *name, uint32_t v, bool timer)
{
	static const char *const timers[] = { "one-shot", "periodic", "tsc-deadline", "..." };

	fprintf(out, "%-8s 0x%08x active-%s %-5s %-6s %-12s %-12s %-6s (vec %u)\n", name, v,
		v >> 13 & 1 ? "lo" : "hi", v >> 15 & 1 ? "level" : "edge",
		v >> 16 & 1 ? "masked" : "", v >> 12 & 1 ? "pending" : "",
		timer ? timers[v >> 17 & 3] : "", timer ? "Fixed" : delivery[v >> 8 & 7], v & 0xff);
}

static void print_lapic(const struct kvm_lapic_state *l, unsigned cpu, FILE *out)
{
	static const struct { const char *name; unsigned offset;
	} lvts[] = {
		{ "LVT0", 0x350 },   { "LVT1", 0x360 },	   { "LVTPC", 0x340 },
		{ "LVTERR", 0x370 }, { "LVTTHMR", 0x330 }, { "LVTT", 0x320 },
	};
	static const char *const shorthand[] = { "no-shorthand", "self", "all", "all-self" };
	uint32_t divide = reg(l, 0x3e0), spurious = reg(l, 0xf0), icr = reg(l, 0x300);
	unsigned by = ((divide & 3) | (divide >> 1 & 4)) + 1;

	fprintf(out, "dumping local APIC state for CPU %u\n\n", cpu);
	for (size_t i = 0; i < ARRAY_SIZE(lvts); i++)
		lvt_line(out, lvts[i].name, reg(l, lvts[i].offset), lvts[i].offset == 0x320);
	fprintf(out, "Timer    DCR=0x%x (divide by %u) initial_count = %u current_count = %u\n",
		divide, by == 8 ? 1 : 1u << by, reg(l, 0x380), reg(l, 0x390));
	fprintf(out, "SPIV     0x%08x APIC %s, focus=%s, spurious vec %u\n", spurious,
		spurious & 0x100 ? "enabled" : "disabled", spurious & 0x200 ? "on" : "off",
		spurious & 0xff);
	fprintf(out, "ICR      0x%08x %s %s %s %s\n", icr, icr & 0x800 ? "logical" : "physical",
		icr & 0x8000 ? "level" : "edge", icr & 0x4000 ? "assert" : "de-assert",
		shorthand[icr >> 18 & 3]);
	fprintf(out, "ICR2     0x%08x\nESR      0x%08x\n", reg(l, 0x310), reg(l, 0x280));
	vectors_line(out, "ISR     ", l, 0x100);
	vectors_line(out, "IRR     ", l, 0x200);
	fprintf(out, "\nID 0x%08x TPR 0x%02x DFR 0x%02x LDR 0x%02x PPR 0x%02x\n", reg(l, 0x20),
		reg(l, 0x80), reg(l, 0xe0) >> 28, reg(l, 0xd0) >> 24, reg(l, 0xa0));
}

static int query_lapic(struct machine *m, json_t *args, struct command_result *r)
{
	json_t *cpu = json_object_get(args, "cpu");
	json_int_t n = cpu ? json_integer_value(cpu) : 0;
	struct kvm_lapic_state l;
	char *text = NULL;
	size_t len;
	FILE *out;
	int ret;

	if (n < 0 || n >= m->nvcpus)
		return err_set(&r->err, EINVAL, "there are processors 0 to %u", m->nvcpus - 1);
	vm_pause(m->vm, PAUSE_DEBUG);
	ret = ioctl(m->vcpus[n]->fd, KVM_GET_LAPIC, &l) < 0 ? -errno : 0;
	vm_resume(m->vm, PAUSE_DEBUG);
	if (ret < 0)
		return err_set(&r->err, -ret, "KVM_GET_LAPIC: %s", strerror(-ret));
	out = open_memstream(&text, &len);
	print_lapic(&l, n, out);
	r->value = command_text(out, &text, &len);
	return 0;
}

const struct command commands_chips[] = {
	{ NULL,
	  "info pic",
	  "the interrupt controllers that all processors share: IOAPIC, 8259",
	  query_pic,
	  NULL,
	  COMMAND_FAST,
	  { { 0 } } },
	{ NULL,
	  "info lapic",
	  "a processor's local interrupt controller",
	  query_lapic,
	  NULL,
	  COMMAND_SLOW,
	  { { "cpu", ARG_INT, true } } },
	{ 0 },
};
