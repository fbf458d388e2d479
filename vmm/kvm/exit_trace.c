/* SPDX-License-Identifier: GPL-2.0-or-later */
/* exit_trace.c: lines and tallies of exits; MSR accesses that KVM hands over to be seen. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/base/host.h"
#include "vmm/base/log.h"
#include "vmm/base/symtab.h"
#include "vmm/kvm/exit_trace.h"

#define MAX_TALLIES 512

struct tally {
	char what[64];
	uint64_t count;
	int64_t total, worst;
};

static struct {
	pthread_mutex_t lock;
	struct tally all[MAX_TALLIES];
	unsigned n;
} tallies = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void tally_add(const char *what, int64_t ns)
{
	struct tally *t = NULL;

	pthread_mutex_lock(&tallies.lock);
	for (unsigned i = 0; i < tallies.n && !t; i++)
		if (!strcmp(tallies.all[i].what, what))
			t = &tallies.all[i];
	if (!t && tallies.n < MAX_TALLIES) {
		t = &tallies.all[tallies.n++];
		snprintf(t->what, sizeof(t->what), "%s", what);
	}
	if (t) {
		t->count++;
		t->total += ns;
		t->worst = MAX(t->worst, ns);
	}
	pthread_mutex_unlock(&tallies.lock);
}

void exit_trace_begin(struct vcpu *v, struct exit_trace *t)
{
	struct kvm_run *run = v->run;

	*t = (struct exit_trace){ .reason = run->exit_reason, .count = 1 };
	if (t->reason == KVM_EXIT_IO) {
		t->addr = run->io.port;
		t->size = run->io.size;
		t->count = run->io.count;
		t->write = run->io.direction == KVM_EXIT_IO_OUT;
		if (t->write)
			memcpy(&t->value, (uint8_t *)run + run->io.data_offset, t->size);
	} else if (t->reason == KVM_EXIT_MMIO) {
		t->addr = run->mmio.phys_addr;
		t->size = MIN(run->mmio.len, 8u);
		t->write = run->mmio.is_write;
		if (t->write)
			memcpy(&t->value, run->mmio.data, t->size);
	}
	t->start = now_ns();
}

static struct symtab *symbols;

int exit_trace_init(const char *kernel, struct err *err)
{
	const char *path = trace_symbols();
	int ret;

	if (symbols || (!path && !kernel))
		return 0;
	ret = symtab_load(path ? path : kernel, &symbols, err);
	if (ret < 0)
		err_prefix(err, "-trace: symbols");
	else if (path && !symbols)
		log_warn("-trace: %s holds no symbols: neither a vmlinux nor a System.map", path);
	return ret;
}

/* What a PC has at ports that nobody has here. */
static const struct { uint16_t first, last; const char *name;
} isa_names[] = {
	{ 0x00, 0x0f, "DMA 1" },      { 0x80, 0x80, "POST code" },
	{ 0x81, 0x8f, "DMA page" },   { 0xc0, 0xdf, "DMA 2" },
	{ 0xed, 0xed, "delay" },      { 0xf0, 0xff, "FPU" },
	{ 0x170, 0x177, "IDE 2" },    { 0x1f0, 0x1f7, "IDE" },
	{ 0x200, 0x207, "joystick" }, { 0x220, 0x22f, "sound" },
	{ 0x278, 0x27f, "LPT2" },     { 0x279, 0x279, "ISA PnP" },
	{ 0x2e8, 0x2ef, "COM4" },     { 0x2f8, 0x2ff, "COM2" },
	{ 0x378, 0x37f, "LPT1" },     { 0x3bc, 0x3bf, "LPT" },
	{ 0x3e8, 0x3ef, "COM3" },     { 0x3f0, 0x3f7, "floppy" },
	{ 0x3f8, 0x3ff, "COM1" },     { 0xb004, 0xb008, "PM of Bochs" },
	{ 0xcf8, 0xcff, "PCI" },
};

/* The usual ports of devices that could be there. */
static struct { uint16_t port; const char *name; } device_ports[32];
static unsigned ndevice_ports;

void exit_trace_port(uint16_t port, const char *name)
{
	if (ndevice_ports == ARRAY_SIZE(device_ports))
		return;
	device_ports[ndevice_ports].port = port;
	device_ports[ndevice_ports++].name = name;
}

static const char *isa_name(uint64_t port)
{
	for (unsigned i = 0; i < ndevice_ports; i++)
		if (port == device_ports[i].port)
			return device_ports[i].name;
	for (size_t i = 0; i < ARRAY_SIZE(isa_names); i++)
		if (port >= isa_names[i].first && port <= isa_names[i].last)
			return isa_names[i].name;
	return NULL;
}

/*
 * How long the "out" that ends right before rip is, 0: there is none. (PVM's KVM has stepped past
 * it when the exit comes, VT-x and AMD-V have not.) code: the 2 bytes before rip.
 */
static unsigned out_before(const uint8_t code[2], uint64_t port)
{
	if ((code[1] & 0xfe) == 0xee)
		return 1;
	return (code[0] & 0xfe) == 0xe6 && code[1] == port ? 2 : 0;
}

/*
 * "0010:00101234 put+0x4 out dx, al". A write to memory has been stepped past where KVM interprets
 * the instruction; what stands there is then the next one, and how far back the guilty one lies
 * cannot be told: "before mov ...".
 */
static void describe_rip(struct vcpu *v, const struct exit_trace *t, char *buf, size_t len)
{
	const char *(*disasm)(uint64_t, int, const uint8_t *, size_t, char *, size_t);
	struct kvm_regs r;
	struct kvm_sregs s;
	const char *word = "";
	uint8_t code[15];
	uint64_t base;
	char text[80];
	size_t n;

	buf[0] = 0;
	if (vcpu_get_regs(v, &r, &s) < 0)
		return;
	base = s.cs.l ? 0 : s.cs.base;
	if (kvm_is_pvm(v->w->kvm) && t->reason == KVM_EXIT_IO && t->write && t->count == 1 &&
	    r.rip >= 2 && vcpu_read_virtual(v, base + r.rip - 2, code, 2) == 0)
		r.rip -= out_before(code, t->addr);
	else if (kvm_is_pvm(v->w->kvm) && t->reason == KVM_EXIT_MMIO && t->write)
		word = " before";
	n = snprintf(buf, len, "%04x:%0*llx", s.cs.selector, s.cs.l ? 16 : 8, r.rip);
	if (n < len && symtab_name(symbols, base + r.rip, text, sizeof(text)))
		n += snprintf(buf + n, len - n, " %s", text);
	disasm = module_symbol("disasm", "disasm_one", NULL);
	if (disasm && n < len && vcpu_read_virtual(v, base + r.rip, code, sizeof(code)) == 0 &&
	    disasm(r.rip, s.cs.l ? 64 : s.cs.db ? 32 : 16, code, sizeof(code), text, sizeof(text)))
		/* A repeated instruction stays where it is until it is done. */
		snprintf(buf + n, len - n, "%s %s", strncmp(text, "rep", 3) ? word : "", text);
}

/*
 * "PIO w1 0x03f8 = 0x48 'H' serial0 THR 1.2 us 0008:00100130 print+0x9 out dx, al", or the exit's
 * name.
 */
static void exit_text(struct vcpu *v, const struct exit_trace *t, int64_t ns, const char *rip,
		      char *buf, size_t len)
{
	bool pio = t->reason == KVM_EXIT_IO;
	const char *who = NULL, *chip = NULL, *reg = NULL;
	char text[8] = "", number[40], took[24] = "";
	uint64_t off;

	if (ns >= 0)
		snprintf(took, sizeof(took), "%6.1f us", ns / 1000.0);
	if (!pio && t->reason != KVM_EXIT_MMIO) {
		snprintf(buf, len, "%-57s %s  %s", vcpu_exit_name(t->reason), took, rip);
		return;
	}
	bus_lookup(pio ? v->w->pio : v->w->mmio, t->addr, &who, &chip, &off, &reg, t->write);
	if (t->size == 1 && isprint((int)t->value))
		snprintf(text, sizeof(text), " '%c'", (int)t->value);
	snprintf(number, sizeof(number), "0x%0*" PRIx64 "%s%s", (int)t->size * 2, t->value, text,
		 t->count > 1 ? " ..." : "");
	snprintf(buf, len, "%s %c%u 0x%0*" PRIx64 " = %-14s %-10s %-16s %s  %s",
		 pio ? "PIO " : "MMIO", t->write ? 'w' : 'r', t->size, pio ? 4 : 8, t->addr, number,
		 who ? who : "(nobody)",
		 reg			    ? reg
		 : chip			    ? chip
		 : pio && isa_name(t->addr) ? isa_name(t->addr)
					    : "",
		 took, rip);
}

/* What a read was answered with. */
static void take_answer(struct vcpu *v, struct exit_trace *t)
{
	if (t->write)
		return;
	if (t->reason == KVM_EXIT_IO)
		memcpy(&t->value, (uint8_t *)v->run + v->run->io.data_offset, t->size);
	else if (t->reason == KVM_EXIT_MMIO)
		memcpy(&t->value, v->run->mmio.data, t->size);
}

void exit_describe(struct vcpu *v, char *buf, size_t len)
{
	struct exit_trace t;
	char rip[192], line[384];

	exit_trace_begin(v, &t);
	take_answer(v, &t);
	describe_rip(v, &t, rip, sizeof(rip));
	exit_text(v, &t, -1, rip, line, sizeof(line));
	snprintf(buf, len, "vcpu%u  %s", v->index, line);
}

static void tally(struct vcpu *v, const struct exit_trace *t, int64_t ns)
{
	bool pio = t->reason == KVM_EXIT_IO;
	const char *who = NULL, *chip = NULL, *reg = NULL;
	uint64_t off;
	char what[64];

	if (!pio && t->reason != KVM_EXIT_MMIO)
		snprintf(what, sizeof(what), "%s", vcpu_exit_name(t->reason));
	else if (bus_lookup(pio ? v->w->pio : v->w->mmio, t->addr, &who, &chip, &off, &reg,
			    t->write))
		snprintf(what, sizeof(what), "%s %s %s%s%s", pio ? "PIO" : "MMIO",
			 t->write ? "write" : "read ", who, reg ? " " : "", reg ? reg : "");
	else
		snprintf(what, sizeof(what), "%s %s nobody at 0x%" PRIx64 " %s",
			 pio ? "PIO" : "MMIO", t->write ? "write" : "read ", t->addr,
			 pio && isa_name(t->addr) ? isa_name(t->addr) : "");
	tally_add(what, ns);
}

void exit_trace_end(struct vcpu *v, struct exit_trace *t)
{
	int64_t ns = now_ns() - t->start;
	enum trace_cat cat = t->reason == KVM_EXIT_IO	  ? TRACE_PIO
			     : t->reason == KVM_EXIT_MMIO ? TRACE_MMIO
							  : TRACE_EXITS;
	char rip[192], line[384], name[16];

	/* An access is a line of its own category, or one among the exits. */
	if (!(trace_mask & cat))
		cat = TRACE_EXITS;
	if (trace_mask & cat) {
		take_answer(v, t);
		describe_rip(v, t, rip, sizeof(rip));
		exit_text(v, t, ns, rip, line, sizeof(line));
		snprintf(name, sizeof(name), "vcpu%u", v->index);
		trace(cat, 0, name, "%s", line);
	}
	if (trace_mask & TRACE_SUMMARY)
		tally(v, t, ns);
}

static int by_total(const void *a, const void *b)
{
	const struct tally *x = a, *y = b;

	return x->total < y->total ? 1 : x->total > y->total ? -1 : 0;
}

void exit_trace_summary(void)
{
	struct tally sum = { "all exits to user space", 0, 0, 0 };

	if (!(trace_mask & TRACE_SUMMARY))
		return;
	qsort(tallies.all, tallies.n, sizeof(tallies.all[0]), by_total);
	fprintf(stderr, "%-52s %10s %12s %10s\n", "exit", "count", "total us", "worst us");
	for (unsigned i = 0; i < tallies.n; i++) {
		struct tally *t = &tallies.all[i];

		fprintf(stderr, "%-52s %10" PRIu64 " %12.0f %10.1f\n", t->what, t->count,
			t->total / 1000.0, t->worst / 1000.0);
		sum.count += t->count;
		sum.total += t->total;
		sum.worst = MAX(sum.worst, t->worst);
	}
	fprintf(stderr, "%-52s %10" PRIu64 " %12.0f %10.1f\n", sum.what, sum.count,
		sum.total / 1000.0, sum.worst / 1000.0);
}
