/* SPDX-License-Identifier: GPL-2.0-or-later */
/* exit_trace.c: lines and tallies of exits. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/exit_trace.h"
#include "vmm/host.h"
#include "vmm/log.h"

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

/* "rip ffffffff81000000  out dx, al" */
static void describe_rip(struct vcpu *v, char *buf, size_t len)
{
	const char *(*disasm)(uint64_t, int, const uint8_t *, size_t, char *, size_t);
	struct kvm_regs r;
	struct kvm_sregs s;
	uint8_t code[15];
	char text[80];
	size_t n;

	buf[0] = 0;
	if (vcpu_get_regs(v, &r, &s) < 0)
		return;
	n = snprintf(buf, len, "%04x:%0*llx", s.cs.selector, s.cs.l ? 16 : 8, r.rip);
	disasm = module_symbol("disasm", "disasm_one", NULL);
	if (disasm && n < len && vcpu_read_virtual(v, r.rip + (s.cs.l ? 0 : s.cs.base), code, sizeof(code)) == 0 &&
	    disasm(r.rip, s.cs.l ? 64 : s.cs.db ? 32 : 16, code, sizeof(code), text, sizeof(text)))
		snprintf(buf + n, len - n, " %s", text);
}

static void access_line(struct vcpu *v, const struct exit_trace *t, uint64_t value, int64_t ns, const char *who, const char *chip,
			const char *reg, const char *rip)
{
	bool pio = t->reason == KVM_EXIT_IO;
	char name[16], text[24] = "";

	snprintf(name, sizeof(name), "vcpu%u", v->index);
	if (t->size == 1 && isprint((int)value))
		snprintf(text, sizeof(text), " '%c'", (int)value);
	trace(pio ? TRACE_PIO : TRACE_MMIO, 0, name, "%s %c%u 0x%04" PRIx64 "%s = 0x%0*" PRIx64 "%-4s %-10s %-14s %5.1f us  %s",
	      pio ? "PIO " : "MMIO", t->write ? 'w' : 'r', t->size, t->addr, t->count > 1 ? " (rep)" : "", (int)t->size * 2, value,
	      text, who ? who : "(nobody)", reg ? reg : chip ? chip : "", ns / 1000.0, rip);
}

void exit_trace_end(struct vcpu *v, struct exit_trace *t)
{
	int64_t ns = now_ns() - t->start;
	bool pio = t->reason == KVM_EXIT_IO, access = pio || t->reason == KVM_EXIT_MMIO;
	const char *who = NULL, *chip = NULL, *reg = NULL;
	uint64_t value = t->value, off;
	char rip[128] = "", name[16], what[64];

	if (access)
		bus_lookup(pio ? v->w->pio : v->w->mmio, t->addr, &who, &chip, &off, &reg, t->write);
	if (access && !t->write)
		memcpy(&value, pio ? (uint8_t *)v->run + v->run->io.data_offset : v->run->mmio.data, t->size);
	if (trace_mask & (TRACE_EXITS | (pio ? TRACE_PIO : TRACE_MMIO)))
		describe_rip(v, rip, sizeof(rip));
	if (access)
		access_line(v, t, value, ns, who, chip, reg, rip);
	if (!access || !(trace_mask & (pio ? TRACE_PIO : TRACE_MMIO))) {
		snprintf(name, sizeof(name), "vcpu%u", v->index);
		trace(TRACE_EXITS, 0, name, "%-24s %5.1f us  %s", vcpu_exit_name(t->reason), ns / 1000.0, rip);
	}
	if (!(trace_mask & TRACE_SUMMARY))
		return;
	if (access && who)
		snprintf(what, sizeof(what), "%s %s %s%s%s", pio ? "PIO" : "MMIO", t->write ? "write" : "read ", who, reg ? " " : "",
			 reg ? reg : "");
	else if (access)
		snprintf(what, sizeof(what), "%s %s nobody at 0x%" PRIx64, pio ? "PIO" : "MMIO", t->write ? "write" : "read ", t->addr);
	else
		snprintf(what, sizeof(what), "%s", vcpu_exit_name(t->reason));
	tally_add(what, ns);
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

		fprintf(stderr, "%-52s %10" PRIu64 " %12.0f %10.1f\n", t->what, t->count, t->total / 1000.0, t->worst / 1000.0);
		sum.count += t->count;
		sum.total += t->total;
		sum.worst = MAX(sum.worst, t->worst);
	}
	fprintf(stderr, "%-52s %10" PRIu64 " %12.0f %10.1f\n", sum.what, sum.count, sum.total / 1000.0, sum.worst / 1000.0);
}
