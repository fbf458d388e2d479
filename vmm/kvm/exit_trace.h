/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * exit_trace.h: what -trace exits,pio,mmio,summary shows of a vCPU's exits. Called on the vCPU's
 * thread, only while some trace is on.
 */
#ifndef VMM_KVM_EXIT_TRACE_H
#define VMM_KVM_EXIT_TRACE_H

#include "vmm/kvm/vcpu.h"

/* What an exit was, taken before it is answered (the answer overwrites the run page). */
struct exit_trace {
	int64_t start;
	uint64_t addr, value;
	unsigned reason, size, count;
	bool write;
};
void exit_trace_begin(struct vcpu *v, struct exit_trace *t);
/* After the answer: the line, with how long it took, and the tally. */
void exit_trace_end(struct vcpu *v, struct exit_trace *t);
/* The exit that was just answered, as the same line without its time. vCPU's thread. */
void exit_describe(struct vcpu *v, char *buf, size_t len);
/*
 * Names for the guest's addresses: what symbols= said, or the kernel itself. Before the guest runs.
 * 0 or -errno with the reason.
 */
int exit_trace_init(const char *kernel, struct err *err);
/*
 * What is usually at a port, for accesses that nobody answers. Before the guest runs; name stays
 * the caller's.
 */
void exit_trace_port(uint16_t port, const char *name);
/*
 * The table of -trace summary: exits by reason and device with count, total and worst time. At the
 * end; to stderr.
 */
void exit_trace_summary(void);

#endif
