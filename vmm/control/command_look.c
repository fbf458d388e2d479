/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * command_look.c: looking into a machine: memory in any form, the guest's page tables and
 * descriptor tables, virtqueues. The processors stand meanwhile. A control thread; what is read is
 * the guest's and may be nonsense.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "devices/virtio/virtio.h"
#include "devices/virtio/virtq.h"
#include "vmm/base/host.h"
#include "vmm/control/command.h"
#include "vmm/kvm/paging.h"

#define LOOK_MAX 4096			/* items of x, entries of a table, lines of info mem */

/* A look at a processor: its registers, and a place for the text. */
struct look {
	struct machine *m;
	struct vcpu *v;
	struct kvm_regs r;
	struct kvm_sregs s;
	FILE *out;
	char *text;
	size_t len;
};

static int look_begin(struct look *l, struct machine *m, json_t *args, struct command_result *r)
{
	json_t *cpu = json_object_get(args, "cpu");
	json_int_t n = cpu ? json_integer_value(cpu) : 0;
	int ret;

	*l = (struct look){ .m = m };
	if (n < 0 || n >= m->nvcpus)
		return err_set(&r->err, EINVAL, "there are processors 0 to %u", m->nvcpus - 1);
	l->v = m->vcpus[n];
	vm_pause(m->vm, PAUSE_DEBUG);
	ret = vcpu_get_regs(l->v, &l->r, &l->s);
	if (ret < 0) {
		vm_resume(m->vm, PAUSE_DEBUG);
		return err_set(&r->err, -ret, "the registers cannot be read: %s", strerror(-ret));
	}
	l->out = open_memstream(&l->text, &l->len);
	return 0;
}

static int look_end(struct look *l, struct command_result *r, int ret)
{
	vm_resume(l->m->vm, PAUSE_DEBUG);
	r->value = command_text(l->out, &l->text, &l->len);
	return ret;
}

/* --- x and xp: "/16xb ADDRESS" --- */

struct format { unsigned count, size; char as; };

static int parse_format(const char *s, struct format *f, struct err *err)
{
	char *end;
	unsigned long count;

	*f = (struct format){ 1, 4, 'x' };
	if (!s)
		return 0;
	count = strtoul(s + 1, &end, 10);
	if (end != s + 1)
		f->count = (unsigned)MIN(count, (unsigned long)LOOK_MAX);
	for (; *end; end++) {
		if (strchr("xduoci", *end))
			f->as = *end;
		else if (strchr("bhwg", *end))
			f->size = *end == 'b' ? 1 : *end == 'h' ? 2 : *end == 'w' ? 4 : 8;
		else
			return err_set(err, EINVAL,
				       "%s: a count, then one of x d u o c i and one of b h w g "
				       "expected, as /16xb",
				       s);
	}
	if (f->as == 'c')
		f->size = 1;
	return 0;
}

/* A number, or $rip, $rsp ... */
static int parse_address(const struct look *l, const char *s, uint64_t *addr, struct err *err)
{
#define R(name) { #name, offsetof(struct kvm_regs, name) }
	static const struct { const char *name; size_t off;
	} regs[] = {
		R(rax),
		R(rbx),
		R(rcx),
		R(rdx),
		R(rsi),
		R(rdi),
		R(rsp),
		R(rbp),
		R(r8),
		R(r9),
		R(r10),
		R(r11),
		R(r12),
		R(r13),
		R(r14),
		R(r15),
		R(rip),
		{ "pc", offsetof(struct kvm_regs, rip) },
		{ "sp", offsetof(struct kvm_regs, rsp) },
	};
#undef R

	for (size_t i = 0; *s == '$' && i < ARRAY_SIZE(regs); i++) {
		if (!strcmp(s + 1, regs[i].name)) {
			memcpy(addr, (const char *)&l->r + regs[i].off, sizeof(*addr));
			if (!strcmp(regs[i].name, "rip") || !strcmp(regs[i].name, "pc"))
				*addr += l->s.cs.l ? 0 : l->s.cs.base;
			return 0;
		}
	}
	if (parse_u64(s, UINT64_MAX, addr) < 0)
		return err_set(err, EINVAL, "%s: a number or a register ($rip, $rsp ...) expected",
			       s);
	return 0;
}

static int look_read(const struct look *l, bool physical, uint64_t addr, void *buf, size_t len)
{
	return physical ? mem_read(l->m->mem, addr, buf, len)
			: vcpu_read_virtual(l->v, addr, buf, len);
}

static void show_item(FILE *out, const struct format *f, uint64_t v)
{
	unsigned bits = f->size * 8;
	int64_t signed_v = (int64_t)(v << (64 - bits)) >> (64 - bits);

	switch (f->as) {
	case 'x': fprintf(out, " 0x%0*" PRIx64, (int)f->size * 2, v); break;
	case 'd': fprintf(out, " %*" PRId64, bits == 64 ? 20 : (int)bits / 3 + 2, signed_v); break;
	case 'u': fprintf(out, " %*" PRIu64, bits == 64 ? 20 : (int)bits / 3 + 1, v); break;
	case 'o': fprintf(out, " 0%0*" PRIo64, (int)(bits + 2) / 3, v); break;
	case 'c':
		if (isprint((int)v))
			fprintf(out, " '%c'", (int)v);
		else
			fprintf(out, " \\x%02x", (unsigned)v);
		break;
	}
}

static void show_memory(struct look *l, bool physical, uint64_t addr, const struct format *f)
{
	unsigned per_line = f->as == 'c' ? 16 : MIN(16 / f->size, 8u);

	for (unsigned i = 0; i < f->count; i++, addr += f->size) {
		uint8_t b[8] = { 0 };

		if (i % per_line == 0)
			fprintf(l->out, "%s%016" PRIx64 ":", i ? "\n" : "", addr);
		if (look_read(l, physical, addr, b, f->size) < 0)
			fprintf(l->out, " (nothing)");
		else
			show_item(l->out, f, ld_le64(b));
	}
}

/* capstone gives the text alone; the length is found by asking with less and less. */
static unsigned show_instruction(struct look *l, bool physical, uint64_t addr)
{
	const char *(*disasm)(uint64_t, int, const uint8_t *, size_t, char *,
			      size_t) = module_symbol("disasm", "disasm_one", NULL);
	int bits = l->s.cs.l ? 64 : l->s.cs.db ? 32 : 16;
	uint8_t code[15];
	char text[96], shorter[96];
	size_t have = sizeof(code), len;

	while (have && look_read(l, physical, addr, code, have) < 0)
		have--;
	fprintf(l->out, "%016" PRIx64 ": ", addr);
	if (!have || !disasm || !disasm(addr, bits, code, have, text, sizeof(text))) {
		fprintf(l->out, "%s\n",
			!disasm ? "(libcapstone is not installed)"
			: have	? "(bad)"
				: "(nothing)");
		return 1;
	}
	for (len = have; len > 1 && disasm(addr, bits, code, len - 1, shorter, sizeof(shorter));
	     len--)
		;
	for (size_t i = 0; i < 10; i++)
		fprintf(l->out, i < len ? "%02x" : "  ", code[i]);
	fprintf(l->out, " %s\n", text);
	return (unsigned)len;
}

static int look_at_memory(struct machine *m, json_t *args, struct command_result *r, bool physical)
{
	const char *a = json_string_value(json_object_get(args, "format_or_address"));
	const char *b = json_string_value(json_object_get(args, "address"));
	struct format f;
	struct look l;
	uint64_t addr = 0;
	int ret = look_begin(&l, m, args, r);

	if (ret < 0)
		return ret;
	ret = parse_format(*a == '/' ? a : NULL, &f, &r->err);
	if (ret == 0)
		ret = parse_address(&l, *a != '/' ? a : b ? b : "$rip", &addr, &r->err);
	/* "xp ADDRESS COUNT" without a format */
	if (ret == 0 && *a != '/' && b) {
		uint64_t n;

		ret = parse_u64(b, LOOK_MAX, &n) < 0
			      ? err_set(&r->err, EINVAL, "%s: how many? up to %d", b, LOOK_MAX)
			      : 0;
		f.count = ret ? 0 : (unsigned)n;
	}
	for (unsigned i = 0; ret == 0 && f.as == 'i' && i < f.count; i++)
		addr += show_instruction(&l, physical, addr);
	if (ret == 0 && f.as != 'i')
		show_memory(&l, physical, addr, &f);
	return look_end(&l, r, ret);
}

static int run_x(struct machine *m, json_t *args, struct command_result *r)
{
	return look_at_memory(m, args, r, false);
}

static int run_xp(struct machine *m, json_t *args, struct command_result *r)
{
	return look_at_memory(m, args, r, true);
}

/* --- page tables --- */

static void show_bits(FILE *out, uint64_t v, const char *const *names, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (names[i] && v >> i & 1)
			fprintf(out, " %s", names[i]);
}

static int run_walk(struct machine *m, json_t *args, struct command_result *r)
{
	static const char *const names[] = { "P", "RW", "US", "PWT", "PCD", "A", "D", "PS", "G" };
	struct look l;
	struct paging_walk w;
	uint64_t va;
	int ret = look_begin(&l, m, args, r);

	if (ret < 0)
		return ret;
	ret = parse_address(&l, json_string_value(json_object_get(args, "address")), &va, &r->err);
	if (ret < 0)
		return look_end(&l, r, ret);
	paging_walk(m->mem, &l.s, va, &w);
	fprintf(l.out, "paging %s, cr3 0x%llx\n", paging_mode(&l.s), l.s.cr3);
	for (unsigned i = 0; i < w.n; i++) {
		const struct paging_step *s = &w.step[i];

		fprintf(l.out, "%-4s[%3u] at 0x%010" PRIx64, s->table, s->index, s->at);
		if (s->unreadable) {
			fprintf(l.out, ": outside memory\n");
			continue;
		}
		fprintf(l.out, " = 0x%016" PRIx64, s->entry);
		/* Bit 7 of the last level's entries is PAT, not the page size. */
		show_bits(l.out, s->entry & ~(i + 1 == w.n && w.size == 4096 ? 0x80ull : 0), names,
			  ARRAY_SIZE(names));
		fprintf(l.out, "%s%s\n", s->entry >> 63 ? " NX" : "",
			s->entry & 1 ? "" : " not present");
	}
	if (w.mapped)
		fprintf(l.out,
			"0x%" PRIx64 " is physical 0x%" PRIx64 ", a page of %" PRIu64
			" KiB, %s %s%s\n",
			va, w.gpa, w.size / 1024, w.user ? "user" : "kernel", w.write ? "rw" : "r-",
			w.exec ? "x" : "-");
	else
		fprintf(l.out, "0x%" PRIx64 " is not mapped\n", va);
	return look_end(&l, r, 0);
}

struct range_list { FILE *out; unsigned n; };

static bool show_range(void *ctx, uint64_t va, uint64_t end, const struct paging_walk *w)
{
	struct range_list *list = ctx;

	fprintf(list->out, "%016" PRIx64 "-%016" PRIx64 " %016" PRIx64 " %c%c%c\n", va, end,
		end - va, w->user ? 'u' : '-', w->write ? 'w' : 'r', w->exec ? 'x' : '-');
	if (++list->n < LOOK_MAX)
		return true;
	fprintf(list->out, "... more than %d ranges\n", LOOK_MAX);
	return false;
}

static int run_gva2gpa(struct machine *m, json_t *args, struct command_result *r)
{
	struct look l;
	uint64_t va, gpa;
	int ret = look_begin(&l, m, args, r);

	if (ret < 0)
		return ret;
	ret = parse_address(&l, json_string_value(json_object_get(args, "address")), &va, &r->err);
	if (ret == 0 && vcpu_translate(l.v, va, &gpa) < 0)
		ret = err_set(&r->err, EFAULT, "Unmapped");
	if (ret == 0)
		fprintf(l.out, "gpa: 0x%" PRIx64 "\n", gpa);
	return look_end(&l, r, ret);
}

static int query_mem(struct machine *m, json_t *args, struct command_result *r)
{
	struct range_list list = { NULL, 0 };
	struct look l;
	int ret = look_begin(&l, m, args, r);

	if (ret < 0)
		return ret;
	fprintf(l.out, "paging %s, cr3 0x%llx\n", paging_mode(&l.s), l.s.cr3);
	list.out = l.out;
	paging_ranges(m->mem, &l.s, show_range, &list);
	return look_end(&l, r, 0);
}

/* --- descriptor tables (Intel SDM volume 3, 3.4.5, 3.5, 6.11) --- */

static const char *system_type(unsigned type)
{
	static const char *const names[16] = {
		[1] = "16-bit TSS",	  [2] = "LDT",
		[3] = "16-bit TSS, busy", [4] = "16-bit call gate",
		[5] = "task gate",	  [6] = "16-bit interrupt gate",
		[7] = "16-bit trap gate", [9] = "TSS",
		[0xb] = "TSS, busy",	  [0xc] = "call gate",
		[0xe] = "interrupt gate", [0xf] = "trap gate",
	};

	return names[type] ? names[type] : "reserved";
}

static void show_segment(FILE *out, unsigned selector, const uint8_t d[16], bool long_mode)
{
	uint64_t e = ld_le64(d), base = (e >> 16 & 0xffffff) | (e >> 56 & 0xff) << 24;
	uint32_t limit = (uint32_t)((e & 0xffff) | (e >> 32 & 0xf0000));
	unsigned type = e >> 40 & 15;
	bool system = !(e >> 44 & 1), g = e >> 55 & 1;

	if (system && long_mode)
		base |= (uint64_t)ld_le32(d + 8) << 32;
	fprintf(out, "%04x: base 0x%08" PRIx64 " limit 0x%08x dpl %u ", selector, base,
		g ? limit << 12 | 0xfff : limit, (unsigned)(e >> 45 & 3));
	if (system)
		fprintf(out, "%s", system_type(type));
	else if (type & 8)
		fprintf(out, "%s code%s%s",
			e >> 53 & 1   ? "64-bit"
			: e >> 54 & 1 ? "32-bit"
				      : "16-bit",
			type & 4 ? ", conforming" : "", type & 2 ? "" : ", execute only");
	else
		fprintf(out, "data%s%s", type & 2 ? "" : ", read-only",
			type & 4 ? ", expands down" : "");
	fprintf(out, "%s%s\n", !system && type & 1 ? ", accessed" : "",
		e >> 47 & 1 ? "" : ", not present");
}

static int query_gdt(struct machine *m, json_t *args, struct command_result *r)
{
	struct look l;
	int ret = look_begin(&l, m, args, r);
	bool long_mode;

	if (ret < 0)
		return ret;
	long_mode = l.s.efer & 1 << 10;
	fprintf(l.out, "GDT at 0x%llx, limit 0x%x\n", l.s.gdt.base, l.s.gdt.limit);
	for (unsigned at = 0; at + 7 <= l.s.gdt.limit && at < 8 * LOOK_MAX; at += 8) {
		uint8_t d[16] = { 0 };

		if (vcpu_read_virtual(l.v, l.s.gdt.base + at, d, 8) < 0) {
			fprintf(l.out, "%04x: not mapped\n", at);
			break;
		}
		if (!ld_le64(d))
			continue;
		if (long_mode && !(d[5] & 0x10)) {
			vcpu_read_virtual(l.v, l.s.gdt.base + at + 8, d + 8, 8);
			show_segment(l.out, at, d, true);
			at += 8;
		} else {
			show_segment(l.out, at, d, false);
		}
	}
	return look_end(&l, r, 0);
}

static int query_idt(struct machine *m, json_t *args, struct command_result *r)
{
	struct look l;
	int ret = look_begin(&l, m, args, r);
	unsigned size;
	bool real;

	if (ret < 0)
		return ret;
	real = !(l.s.cr0 & 1);
	size = real ? 4 : l.s.efer & 1 << 10 ? 16 : 8;
	fprintf(l.out, "%s at 0x%llx, limit 0x%x\n", real ? "interrupt vectors" : "IDT",
		l.s.idt.base, l.s.idt.limit);
	for (unsigned n = 0; n < 256 && (n + 1) * size - 1 <= l.s.idt.limit; n++) {
		uint8_t d[16] = { 0 };
		uint64_t off;

		if (vcpu_read_virtual(l.v, l.s.idt.base + n * size, d, size) < 0) {
			fprintf(l.out, "%02x: not mapped\n", n);
			break;
		}
		if (real && ld_le32(d)) {
			fprintf(l.out, "%02x: %04x:%04x\n", n, ld_le16(d + 2), ld_le16(d));
		} else if (!real && (d[5] & 0x80)) {
			off = ld_le16(d) | (uint64_t)ld_le16(d + 6) << 16 |
			      (size == 16 ? (uint64_t)ld_le32(d + 8) << 32 : 0);
			fprintf(l.out, "%02x: %04x:%08" PRIx64 " dpl %u %s", n, ld_le16(d + 2), off,
				d[5] >> 5 & 3, system_type(d[5] & 15));
			fprintf(l.out, size == 16 && (d[4] & 7) ? ", stack %u\n" : "\n", d[4] & 7);
		}
	}
	return look_end(&l, r, 0);
}

/* --- virtqueues --- */

static void show_queue(FILE *out, struct mem *mem, unsigned n, const struct virtq *q)
{
	uint8_t idx[2] = { 0 }, used[2] = { 0 };

	if (!q->enabled) {
		fprintf(out, "  queue %u: not set up, up to %u entries\n", n, q->max_size);
		return;
	}
	fprintf(out,
		"  queue %u: %u entries, %s, descriptors 0x%" PRIx64 ", driver 0x%" PRIx64
		", device 0x%" PRIx64 "%s%s%s\n",
		n, q->size, q->packed ? "packed" : "split", q->desc, q->avail, q->used,
		q->indirect ? ", indirect" : "", q->event_idx ? ", event index" : "",
		q->broken ? ", BROKEN" : "");
	if (!q->packed && mem_read(mem, q->avail + 2, idx, 2) == 0 &&
	    mem_read(mem, q->used + 2, used, 2) == 0)
		fprintf(out, "    available index %u (we took %u), used index %u (we filled %u), ",
			ld_le16(idx), q->last_avail, ld_le16(used), q->used_idx);
	else
		fprintf(out, "    next slot to take %u, to fill %u, ", q->last_avail, q->used_idx);
	fprintf(out, "in flight %u%s\n", q->inflight, q->kicks_off ? ", kicks off" : "");
}

static int query_virtio(struct machine *m, json_t *args, struct command_result *r)
{
	static const char *const bits[] = { "ACKNOWLEDGE", "DRIVER", "DRIVER_OK",   "FEATURES_OK",
					    NULL,	   NULL,     "NEEDS_RESET", "FAILED" };
	struct look l;
	int ret = look_begin(&l, m, args, r);

	if (ret < 0)
		return ret;
	for (unsigned i = 0; i < m->ndevices; i++) {
		struct virtio_dev *v = m->devices[i].virtio;

		if (!v)
			continue;
		fprintf(l.out, "%s: status 0x%02x", v->id, virtio_status(v));
		show_bits(l.out, virtio_status(v), bits, ARRAY_SIZE(bits));
		fprintf(l.out, "; features 0x%" PRIx64 " of 0x%" PRIx64 "\n", v->features,
			v->offer);
		for (unsigned q = 0; q < v->nqueues; q++)
			show_queue(l.out, m->mem, q, &v->queues[q]);
	}
	return look_end(&l, r, 0);
}

#define CPU_ARG { { "cpu", ARG_INT, true } }
#define X_ARGS                                                                                     \
	{                                                                                          \
		{ "format_or_address", ARG_STR, false }, { "address", ARG_STR, true },             \
		{                                                                                  \
			"cpu", ARG_INT, true                                                       \
		}                                                                                  \
	}
const struct command commands_look[] = {
	{ NULL, "x", "virtual memory: x /16xb 0x7c00, x /5i $rip; x d u o c i, b h w g", run_x,
	  NULL, COMMAND_SLOW, X_ARGS },
	{ NULL, "xp", "physical memory, the same way", run_xp, NULL, COMMAND_SLOW, X_ARGS },
	{ NULL,
	  "walk",
	  "the page tables' entries for an address",
	  run_walk,
	  NULL,
	  COMMAND_SLOW,
	  { { "address", ARG_STR, false }, { "cpu", ARG_INT, true } } },
	{ NULL,
	  "gva2gpa",
	  "the physical address behind a virtual one",
	  run_gva2gpa,
	  NULL,
	  COMMAND_SLOW,
	  { { "address", ARG_STR, false }, { "cpu", ARG_INT, true } } },
	{ NULL, "info mem", "what is mapped, with which rights", query_mem, NULL, COMMAND_SLOW,
	  CPU_ARG },
	{ NULL, "info gdt", "the global descriptor table", query_gdt, NULL, COMMAND_SLOW, CPU_ARG },
	{ NULL, "info idt", "the interrupt descriptor table", query_idt, NULL, COMMAND_SLOW,
	  CPU_ARG },
	{ NULL, "info virtio", "the virtio devices and their queues", query_virtio, NULL,
	  COMMAND_SLOW, CPU_ARG },
	{ 0 },
};
