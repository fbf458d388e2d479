/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gdb.c: a debugger's connection (GDB manual, appendix E: Remote Serial Protocol). Threads are
 * vCPUs, numbered from 1. Main loop; a vCPU that stops reports from its own thread and posts here.
 *
 * The debugger's wish to stop is a pause reason of its own (PAUSE_DEBUG), so that it goes together
 * with any other.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "vmm/base/log.h"
#include "vmm/control/control.h"
#include "vmm/control/gdb.h"
#include "vmm/control/gdb_regs.h"

#define PACKET_MAX 8192
#define MAX_SOFTWARE 128
#define MAX_HARDWARE 4			/* DR0-DR3 */
#define SIGNAL_INT 2
#define SIGNAL_TRAP 5

enum { BREAK_SOFTWARE, BREAK_HARDWARE, WATCH_WRITE, WATCH_READ, WATCH_ACCESS };

struct breakpoint {
	bool used;
	int type;
	uint64_t addr, len;
	uint8_t old;			/* byte under a software breakpoint */
};

static struct gdb {
	struct machine *m;
	struct control_conn *c;		/* the debugger, one at a time */
	bool no_ack;
	unsigned thread;		/* vCPU chosen by Hg */
	unsigned stopped;		/* vCPU that stopped last */
	int step;			/* vCPU in single step, -1: none */
	uint64_t why;			/* DR6 of the stop, 0: none of ours in hardware */
	/* KVM_GUESTDBG_BLOCKIRQ where KVM has it: a step does not end in an interrupt */
	unsigned can_block_irq;
	bool waiting;			/* a stop reply is owed */
	struct breakpoint soft[MAX_SOFTWARE], hard[MAX_HARDWARE];
} gdb;

/* --- packets --- */

static void send_packet(const char *text)
{
	size_t len = strlen(text);
	char *buf = xcalloc(1, len + 5);
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += (uint8_t)text[i];
	snprintf(buf, len + 5, "$%s#%02x", text, sum);
	if (gdb.c)
		control_send(gdb.c, buf, strlen(buf));
	free(buf);
}

static size_t to_hex(char *out, const uint8_t *in, size_t len)
{
	for (size_t i = 0; i < len; i++)
		sprintf(out + 2 * i, "%02x", in[i]);
	return 2 * len;
}

static size_t from_hex(uint8_t *out, const char *in, size_t max)
{
	size_t n = 0;
	unsigned b;

	for (; n < max && isxdigit((unsigned char)in[0]) && isxdigit((unsigned char)in[1]);
	     in += 2) {
		sscanf(in, "%2x", &b);
		out[n++] = b;
	}
	return n;
}

/* Which of our hardware breakpoints it was, in GDB's words. */
static void stop_reason(char *text, size_t len)
{
	static const char *const words[] = {
		[WATCH_WRITE] = "watch", [WATCH_READ] = "rwatch", [WATCH_ACCESS] = "awatch"
	};

	text[0] = 0;
	for (int i = 0; i < MAX_HARDWARE; i++) {
		struct breakpoint *b = &gdb.hard[i];

		if (!b->used || !(gdb.why >> i & 1))
			continue;
		if (b->type == BREAK_HARDWARE)
			snprintf(text, len, "hwbreak:;");
		else
			snprintf(text, len, "%s:%" PRIx64 ";", words[b->type], b->addr);
		return;
	}
}

static void send_stop(int signal)
{
	char text[96], reason[48];

	gdb.waiting = false;
	gdb.thread = gdb.stopped;
	stop_reason(reason, sizeof(reason));
	gdb.why = 0;
	snprintf(text, sizeof(text), "T%02x%sthread:%02x;", signal, reason, gdb.stopped + 1);
	send_packet(text);
}

/* --- debug registers and stepping --- */

static int apply_debug(unsigned cpu)
{
	struct kvm_guest_debug d = { 0 };
	bool any_soft = false;

	for (int i = 0; i < MAX_SOFTWARE; i++)
		any_soft |= gdb.soft[i].used;
	if (any_soft)
		d.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
	if (gdb.step == (int)cpu)
		d.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | gdb.can_block_irq;
	d.arch.debugreg[7] = 0x400;
	for (int i = 0; i < MAX_HARDWARE; i++) {
		static const uint8_t rw[] = { [BREAK_HARDWARE] = 0,
					      [WATCH_WRITE] = 1,
					      [WATCH_READ] = 3,
					      [WATCH_ACCESS] = 3 };
		struct breakpoint *b = &gdb.hard[i];
		unsigned len = b->type == BREAK_HARDWARE ? 0
			       : b->len == 8		 ? 2
			       : b->len == 4		 ? 3
			       : b->len == 2		 ? 1
							 : 0;

		if (!b->used)
			continue;
		d.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
		d.arch.debugreg[i] = b->addr;
		d.arch.debugreg[7] |= 2ull << (2 * i) | (uint64_t)rw[b->type] << (16 + 4 * i) |
				      (uint64_t)len << (18 + 4 * i);
	}
	return ioctl(gdb.m->vcpus[cpu]->fd, KVM_SET_GUEST_DEBUG, &d) < 0 ? -errno : 0;
}

static int apply_all(void)
{
	int ret = 0;

	for (unsigned i = 0; i < gdb.m->nvcpus; i++)
		ret = ret ? ret : apply_debug(i);
	return ret;
}

static int write_virtual(unsigned cpu, uint64_t va, const uint8_t *buf, size_t len)
{
	while (len) {
		size_t n = MIN(len, 4096 - (va & 4095));
		uint64_t gpa;

		if (vcpu_translate(gdb.m->vcpus[cpu], va, &gpa) < 0 ||
		    mem_write(gdb.m->mem, gpa, buf, n) < 0)
			return -EFAULT;
		va += n;
		buf += n;
		len -= n;
	}
	return 0;
}

static int breakpoint_set(int type, uint64_t addr, uint64_t len)
{
	static const uint8_t int3 = 0xcc;
	struct breakpoint *table = type == BREAK_SOFTWARE ? gdb.soft : gdb.hard;
	int max = type == BREAK_SOFTWARE ? MAX_SOFTWARE : MAX_HARDWARE;

	for (int i = 0; i < max; i++) {
		struct breakpoint *b = &table[i];

		if (b->used)
			continue;
		*b = (struct breakpoint){ .used = true, .type = type, .addr = addr, .len = len };
		if (type == BREAK_SOFTWARE &&
		    (vcpu_read_virtual(gdb.m->vcpus[gdb.thread], addr, &b->old, 1) < 0 ||
		     write_virtual(gdb.thread, addr, &int3, 1) < 0)) {
			b->used = false;
			return -EFAULT;
		}
		return apply_all();
	}
	return -ENOSPC;
}

static int breakpoint_clear(int type, uint64_t addr)
{
	struct breakpoint *table = type == BREAK_SOFTWARE ? gdb.soft : gdb.hard;
	int max = type == BREAK_SOFTWARE ? MAX_SOFTWARE : MAX_HARDWARE;

	for (int i = 0; i < max; i++) {
		struct breakpoint *b = &table[i];

		if (!b->used || b->type != type || b->addr != addr)
			continue;
		b->used = false;
		if (type == BREAK_SOFTWARE)
			write_virtual(gdb.thread, addr, &b->old, 1);
		return apply_all();
	}
	return -ENOENT;
}

/* --- stopping and going on --- */

static void stopped_posted(void *ctx)
{
	vm_pause(gdb.m->vm, PAUSE_DEBUG);	/* until every vCPU is parked */
	apply_all();
	if (gdb.waiting)
		send_stop(SIGNAL_TRAP);
}

/* vCPU thread: an int3 or debug exception. The guest's own are given to it. */
static void on_debug(void *ctx, struct vcpu *v)
{
	struct kvm_guest_debug d = { 0 };
	bool ours = v->run->debug.arch.exception != 3;

	for (int i = 0; i < MAX_SOFTWARE && !ours; i++)
		ours = gdb.soft[i].used && gdb.soft[i].addr == v->run->debug.arch.pc;
	if (!ours) {
		d.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP | KVM_GUESTDBG_INJECT_BP;
		ioctl(v->fd, KVM_SET_GUEST_DEBUG, &d);
		return;
	}
	gdb.stopped = v->index;
	gdb.step = -1;
	gdb.why = v->run->debug.arch.exception == 3 ? 0 : v->run->debug.arch.dr6 & 15;
	vm_pause_async(gdb.m->vm, PAUSE_DEBUG);
	loop_post(gdb.m->loop, stopped_posted, NULL);
}

static void go_on(int step)
{
	gdb.step = step;
	gdb.waiting = true;
	apply_all();
	/* A machine stopped by hand (-S, stop) is the debugger's to start. */
	vm_resume(gdb.m->vm, PAUSE_USER);
	vm_resume(gdb.m->vm, PAUSE_DEBUG);
}

static void interrupt(void)
{
	vm_pause(gdb.m->vm, PAUSE_DEBUG);
	gdb.stopped = gdb.thread < gdb.m->nvcpus ? gdb.thread : 0;
	if (gdb.waiting)
		send_stop(SIGNAL_INT);
}

static void detach(void)
{
	/* KVM keeps a running vCPU's ioctls waiting, so everything is parked first. */
	vm_pause(gdb.m->vm, PAUSE_DEBUG);
	for (int i = 0; i < MAX_SOFTWARE; i++)
		if (gdb.soft[i].used)
			breakpoint_clear(BREAK_SOFTWARE, gdb.soft[i].addr);
	memset(gdb.hard, 0, sizeof(gdb.hard));
	gdb.step = -1;
	gdb.waiting = false;
	apply_all();
	vm_resume(gdb.m->vm, PAUSE_DEBUG);
}

/* --- commands --- */

static void cmd_read_registers(void)
{
	uint8_t raw[GDB_REGS_BYTES];
	char text[2 * GDB_REGS_BYTES + 1];
	size_t n = gdb_regs_read(gdb.m->vcpus[gdb.thread], raw);

	text[to_hex(text, raw, n)] = 0;
	send_packet(n ? text : "E01");
}

static void cmd_write_registers(const char *hex)
{
	uint8_t raw[GDB_REGS_BYTES];
	size_t n = from_hex(raw, hex, sizeof(raw));

	send_packet(gdb_regs_write(gdb.m->vcpus[gdb.thread], raw, n) < 0 ? "E01" : "OK");
}

static void cmd_one_register(const char *arg, bool write)
{
	uint8_t raw[GDB_REGS_BYTES];
	char text[64];
	size_t offset, size, len = gdb_regs_read(gdb.m->vcpus[gdb.thread], raw);
	char *end;
	unsigned n = strtoul(arg, &end, 16);

	if (!len || !gdb_reg_place(n, &offset, &size) || (write && *end != '=')) {
		send_packet("E01");
	} else if (write) {
		from_hex(raw + offset, end + 1, size);
		send_packet(gdb_regs_write(gdb.m->vcpus[gdb.thread], raw, len) < 0 ? "E01" : "OK");
	} else {
		text[to_hex(text, raw + offset, size)] = 0;
		send_packet(text);
	}
}

static void cmd_memory(const char *arg, bool write)
{
	char *end, text[PACKET_MAX + 1];
	uint64_t addr = strtoull(arg, &end, 16),
		 len = *end == ',' ? strtoull(end + 1, &end, 16) : 0;
	uint8_t buf[PACKET_MAX / 2];

	len = MIN(len, sizeof(buf));
	if (write) {
		len = *end == ':' ? MIN(len, from_hex(buf, end + 1, sizeof(buf))) : 0;
		send_packet(write_virtual(gdb.thread, addr, buf, len) < 0 ? "E0e" : "OK");
		return;
	}
	/* Give what there is up to the first page that is not mapped. */
	while (len && vcpu_read_virtual(gdb.m->vcpus[gdb.thread], addr, buf, len) < 0)
		len = addr % 4096 + len > 4096 ? (addr + len - 1) / 4096 * 4096 - addr : 0;
	text[to_hex(text, buf, len)] = 0;
	send_packet(len ? text : "E0e");
}

static void cmd_breakpoint(const char *arg, bool set)
{
	int type = arg[0] - '0', ret;
	char *end;
	uint64_t addr, len;

	if (type < BREAK_SOFTWARE || type > WATCH_ACCESS || arg[1] != ',') {
		send_packet("");
		return;
	}
	addr = strtoull(arg + 2, &end, 16);
	len = *end == ',' ? strtoull(end + 1, NULL, 16) : 1;
	ret = set ? breakpoint_set(type, addr, len) : breakpoint_clear(type, addr);
	send_packet(ret < 0 ? "E01" : "OK");
}

static void cmd_thread(const char *arg)
{
	long n = *arg ? strtol(arg + 1, NULL, 16) : LONG_MAX;

	if (n > (long)gdb.m->nvcpus) {
		send_packet("E01");
		return;
	}
	if (arg[0] == 'g' && n > 0)
		gdb.thread = n - 1;
	send_packet("OK");
}

static void cmd_vcont(const char *arg)
{
	const char *step = strchr(arg, 's');
	int cpu = -1;

	if (step) {
		const char *colon = strchr(step, ':');
		bool own = colon && (!strchr(step, ';') || colon < strchr(step, ';'));

		cpu = own ? (int)strtol(colon + 1, NULL, 16) - 1 : (int)gdb.thread;
	}
	go_on(cpu < (int)gdb.m->nvcpus ? cpu : -1);
}

static void cmd_xfer(const char *arg)
{
	size_t total = strlen(gdb_target_xml);
	char *end, text[PACKET_MAX];
	uint64_t off, len;

	if (strncmp(arg, "features:read:target.xml:", 25)) {
		send_packet("");
		return;
	}
	off = strtoull(arg + 25, &end, 16);
	len = *end == ',' ? strtoull(end + 1, NULL, 16) : 0;
	off = MIN(off, total);
	len = MIN(MIN(len, total - off), sizeof(text) - 2);
	text[0] = off + len < total ? 'm' : 'l';
	memcpy(text + 1, gdb_target_xml + off, len);
	text[1 + len] = 0;
	send_packet(text);
}

static void cmd_query(const char *p)
{
	char text[PACKET_MAX] = "m";
	size_t n = 1;

	if (!strncmp(p, "qSupported", 10)) {
		snprintf(text, sizeof(text),
			 "PacketSize=%x;qXfer:features:read+;QStartNoAckMode+;vContSupported+;"
			 "hwbreak+",
			 PACKET_MAX - 16);
		send_packet(text);
	} else if (!strncmp(p, "qXfer:", 6)) {
		cmd_xfer(p + 6);
	} else if (!strcmp(p, "qfThreadInfo")) {
		for (unsigned i = 0; i < gdb.m->nvcpus; i++)
			n += snprintf(text + n, sizeof(text) - n, "%s%x", i ? "," : "", i + 1);
		send_packet(text);
	} else if (!strcmp(p, "qsThreadInfo")) {
		send_packet("l");
	} else if (!strcmp(p, "qC")) {
		snprintf(text, sizeof(text), "QC%x", gdb.thread + 1);
		send_packet(text);
	} else if (!strncmp(p, "qThreadExtraInfo,", 17)) {
		unsigned cpu = strtoul(p + 17, NULL, 16) - 1;
		char name[32];

		snprintf(name, sizeof(name), "CPU#%u", cpu);
		text[to_hex(text, (uint8_t *)name, strlen(name))] = 0;
		send_packet(text);
	} else if (!strncmp(p, "qAttached", 9)) {
		send_packet("1");
	} else {
		send_packet("");
	}
}

static void cmd_continue(const char *arg, int step)
{
	struct kvm_regs r;
	struct kvm_sregs s;

	if (*arg && vcpu_get_regs(gdb.m->vcpus[gdb.thread], &r, &s) == 0) {
		r.rip = strtoull(arg, NULL, 16);
		vcpu_set_regs(gdb.m->vcpus[gdb.thread], &r, &s);
	}
	go_on(step);
}

static void command(const char *p)
{
	switch (*p) {
	case '?':
		send_stop(SIGNAL_TRAP);
		break;
	case 'g':
		cmd_read_registers();
		break;
	case 'G':
		cmd_write_registers(p + 1);
		break;
	case 'p':
	case 'P':
		cmd_one_register(p + 1, *p == 'P');
		break;
	case 'm':
	case 'M':
		cmd_memory(p + 1, *p == 'M');
		break;
	case 'c':
		cmd_continue(p + 1, -1);
		break;
	case 's':
		cmd_continue(p + 1, gdb.thread);
		break;
	case 'Z':
	case 'z':
		cmd_breakpoint(p + 1, *p == 'Z');
		break;
	case 'H':
		cmd_thread(p + 1);
		break;
	case 'T':
		send_packet(strtoul(p + 1, NULL, 16) - 1 < gdb.m->nvcpus ? "OK" : "E01");
		break;
	case 'q':
		cmd_query(p);
		break;
	case 'Q':
		gdb.no_ack |= !strcmp(p, "QStartNoAckMode");
		send_packet(!strcmp(p, "QStartNoAckMode") ? "OK" : "");
		break;
	case 'v':
		if (!strcmp(p, "vCont?"))
			send_packet("vCont;c;C;s;S");
		else if (!strncmp(p, "vCont;", 6))
			cmd_vcont(p + 6);
		else
			send_packet("");
		break;
	case 'D':
		send_packet("OK");
		detach();
		break;
	case 'k':
		vm_request(gdb.m->vm, VM_END_QUIT, 0);
		break;
	default:
		send_packet("");
	}
}

/* --- the connection --- */

static void gdb_opened(struct control_conn *c)
{
	if (gdb.c) {
		control_send(c, "$E.one debugger at a time#00", 28);
		return;
	}
	gdb.c = c;
	gdb.no_ack = false;
	gdb.thread = gdb.stopped = 0;
	for (unsigned i = 0; i < gdb.m->nvcpus; i++)
		gdb.m->vcpus[i]->on_debug = on_debug;
	vm_pause(gdb.m->vm, PAUSE_DEBUG);
}

static void gdb_closed(struct control_conn *c)
{
	if (gdb.c != c)
		return;
	detach();
	gdb.c = NULL;
}

static size_t gdb_input(struct control_conn *c, const char *buf, size_t len)
{
	const char *hash;
	char *packet;
	uint8_t sum = 0;
	unsigned want;
	size_t n;

	if (gdb.c != c)
		return len;
	if (buf[0] == 3) {
		interrupt();
		return 1;
	}
	if (buf[0] != '$')
		return 1;		/* acknowledgements and noise */
	hash = memchr(buf, '#', len);
	if (!hash || hash + 3 > buf + len)
		return len > PACKET_MAX ? len : 0;
	n = hash - buf - 1;
	for (size_t i = 0; i < n; i++)
		sum += (uint8_t)buf[1 + i];
	if (sscanf(hash + 1, "%2x", &want) != 1 || want != sum) {
		if (!gdb.no_ack)
			control_send(c, "-", 1);
		return n + 4;
	}
	if (!gdb.no_ack)
		control_send(c, "+", 1);
	packet = strndup(buf + 1, n);
	if (packet)
		command(packet);
	free(packet);
	return n + 4;
}

static const struct control_protocol gdb_protocol = {
	"gdb", gdb_opened, gdb_input, gdb_closed
};

int gdb_start(struct machine *m, const char *spec, struct err *err)
{
	char *full = NULL;
	uint64_t port;
	int ret;

	if (parse_u64(spec, 65535, &port) == 0)
		full = xasprintf("tcp::%s", spec);
	gdb.m = m;
	gdb.step = -1;
	ret = ioctl(m->kvm->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_SET_GUEST_DEBUG2);
	gdb.can_block_irq = ret > 0 ? ret & KVM_GUESTDBG_BLOCKIRQ : 0;
	ret = control_listen(m, full ? full : spec, &gdb_protocol, err);
	free(full);
	if (ret < 0)
		err_prefix(err, "-gdb");
	return ret;
}
