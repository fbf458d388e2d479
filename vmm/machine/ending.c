/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ending.c: a machine that must not run for ever: a limit of its time, and a watchdog that bites
 * when the guest makes no progress. Progress is what reaches a device of ours: a port or memory
 * access, a doorbell. A guest that spins, or halts and waits for an interrupt that never comes,
 * makes none; its own timer's interrupts are KVM's. Main loop.
 */
#include <stdio.h>

#include "devices/virtio/virtio.h"
#include "vmm/base/log.h"
#include "vmm/machine/ending.h"

#define LOOK_NS (NS_PER_SEC / 4)
#define STACK_BYTES 4096
#define STACK_SHOWN 24
#define KERNEL_TEXT 0xffffffff80000000ull	/* Linux's, Documentation/arch/x86/x86_64/mm.rst */

static uint64_t count_requests(const struct machine *m)
{
	static const uint8_t reasons[] = { KVM_EXIT_IO, KVM_EXIT_MMIO, KVM_EXIT_HYPERCALL,
					   KVM_EXIT_X86_RDMSR, KVM_EXIT_X86_WRMSR };
	uint64_t n = 0;

	for (unsigned i = 0; i < m->nvcpus; i++)
		for (size_t k = 0; k < ARRAY_SIZE(reasons); k++)
			n += __atomic_load_n(&m->vcpus[i]->stats.exits[reasons[k]],
					     __ATOMIC_RELAXED);
	for (unsigned i = 0; i < m->ndevices; i++)
		if (m->devices[i].virtio)
			n += virtio_doorbells(m->devices[i].virtio);
	return n;
}

static void on_timeout(void *ctx)
{
	struct machine *m = ctx;

	vm_request(m->vm, VM_END_TIMEOUT, 0);
}

static void look(void *ctx)
{
	struct machine *m = ctx;
	int64_t now = now_ns();
	uint64_t n = count_requests(m);

	/* A machine that is paused makes no progress and is no worse for it. */
	if (n != m->progress || vm_pause_reasons(m->vm)) {
		m->progress = n;
		m->progress_at = now;
	} else if (now - m->progress_at >= m->config->idle_timeout * NS_PER_SEC) {
		vm_request(m->vm, VM_END_HANG, 0);
		return;
	}
	loop_timer_set(&m->idle_timer, now + LOOK_NS);
}

void ending_start(struct machine *m)
{
	loop_timer_init(&m->timeout_timer, m->loop, NULL, on_timeout, m);
	loop_timer_init(&m->idle_timer, m->loop, NULL, look, m);
	if (m->config->timeout)
		loop_timer_set(&m->timeout_timer, now_ns() + m->config->timeout * NS_PER_SEC);
	m->progress_at = now_ns();
	if (m->config->idle_timeout)
		loop_timer_set(&m->idle_timer, now_ns() + LOOK_NS);
}

void ending_stop(struct machine *m)
{
	loop_timer_cancel(&m->timeout_timer);
	loop_timer_cancel(&m->idle_timer);
}

/*
 * A Linux kernel's stack, without knowledge of its frames: what could be an address of its text,
 * the innermost first.
 */
static void describe_stack(struct vcpu *v)
{
	char text[STACK_SHOWN * 20] = "";
	struct kvm_sregs s;
	struct kvm_regs r;
	unsigned shown = 0;
	size_t n = 0;

	if (vcpu_get_regs(v, &r, &s) < 0 || !s.cs.l || s.ss.dpl || r.rsp & 7)
		return;
	for (uint64_t at = r.rsp; at < r.rsp + STACK_BYTES && shown < STACK_SHOWN; at += 8) {
		uint64_t word;

		if (vcpu_read_virtual(v, at, &word, 8) < 0)
			break;
		if (word < KERNEL_TEXT || word >= UINT64_MAX - 4095)
			continue;
		n += snprintf(text + n, sizeof(text) - n, "%s%016llx", shown % 4 ? " " : "\n  ",
			      (unsigned long long)word);
		shown++;
	}
	if (shown)
		log_error("vCPU %u, perhaps return addresses on its stack:%s", v->index, text);
}

void ending_describe(struct machine *m)
{
	for (unsigned i = 0; i < m->nvcpus; i++) {
		char state[1800];

		vcpu_describe(m->vcpus[i], state, sizeof(state));
		log_error("vCPU %u:\n%s", i, state);
		describe_stack(m->vcpus[i]);
	}
}
