/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vcpu.c: the thread of one virtual CPU: enter the guest, answer the exit, again.
 * Specification: Linux Documentation/virt/kvm/api.rst, KVM_RUN. Everything here runs on the vCPU's
 * own thread unless it says otherwise.
 *
 * How a vCPU is taken out of the guest: whoever wants it out records why (vm.c), sets
 * run->immediate_exit and sends SIG_KICK. The flag covers the time before KVM_RUN, the signal the
 * time inside; the thread clears the flag before it looks for reasons, so neither can be lost.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/kvm/coalesce.h"
#include "vmm/kvm/exit_trace.h"
#include "vmm/kvm/msr_trace.h"
#include "vmm/kvm/vcpu.h"

#define SIG_KICK SIGUSR1
#define EXIT_MEMORY_FAULT 39	/* KVM_EXIT_MEMORY_FAULT of Linux 6.8: comes with EFAULT */

static const char *const exit_names[VCPU_EXIT_REASONS] = {
	[KVM_EXIT_UNKNOWN] = "KVM_EXIT_UNKNOWN",
	[KVM_EXIT_EXCEPTION] = "KVM_EXIT_EXCEPTION",
	[KVM_EXIT_IO] = "KVM_EXIT_IO",
	[KVM_EXIT_HYPERCALL] = "KVM_EXIT_HYPERCALL",
	[KVM_EXIT_DEBUG] = "KVM_EXIT_DEBUG",
	[KVM_EXIT_HLT] = "KVM_EXIT_HLT",
	[KVM_EXIT_MMIO] = "KVM_EXIT_MMIO",
	[KVM_EXIT_IRQ_WINDOW_OPEN] = "KVM_EXIT_IRQ_WINDOW_OPEN",
	[KVM_EXIT_SHUTDOWN] = "KVM_EXIT_SHUTDOWN",
	[KVM_EXIT_FAIL_ENTRY] = "KVM_EXIT_FAIL_ENTRY",
	[KVM_EXIT_INTR] = "KVM_EXIT_INTR",
	[KVM_EXIT_SET_TPR] = "KVM_EXIT_SET_TPR",
	[KVM_EXIT_TPR_ACCESS] = "KVM_EXIT_TPR_ACCESS",
	[KVM_EXIT_NMI] = "KVM_EXIT_NMI",
	[KVM_EXIT_INTERNAL_ERROR] = "KVM_EXIT_INTERNAL_ERROR",
	[KVM_EXIT_OSI] = "KVM_EXIT_OSI",
	[KVM_EXIT_WATCHDOG] = "KVM_EXIT_WATCHDOG",
	[KVM_EXIT_SYSTEM_EVENT] = "KVM_EXIT_SYSTEM_EVENT",
	[KVM_EXIT_IOAPIC_EOI] = "KVM_EXIT_IOAPIC_EOI",
	[KVM_EXIT_HYPERV] = "KVM_EXIT_HYPERV",
	[KVM_EXIT_X86_RDMSR] = "KVM_EXIT_X86_RDMSR",
	[KVM_EXIT_X86_WRMSR] = "KVM_EXIT_X86_WRMSR",
	[KVM_EXIT_DIRTY_RING_FULL] = "KVM_EXIT_DIRTY_RING_FULL",
	[KVM_EXIT_AP_RESET_HOLD] = "KVM_EXIT_AP_RESET_HOLD",
	[KVM_EXIT_X86_BUS_LOCK] = "KVM_EXIT_X86_BUS_LOCK",
	[KVM_EXIT_XEN] = "KVM_EXIT_XEN",
	[KVM_EXIT_NOTIFY] = "KVM_EXIT_NOTIFY",
	[EXIT_MEMORY_FAULT] = "KVM_EXIT_MEMORY_FAULT",
};

const char *vcpu_exit_name(unsigned reason)
{
	return reason < VCPU_EXIT_REASONS && exit_names[reason]
		       ? exit_names[reason]
		       : "an exit this program does not know";
}

static void on_signal(int sig UNUSED)
{
	/* Its arrival ends KVM_RUN; there is nothing else to do. */
}

/* Any thread. */
static void vcpu_kick(struct vm_runner *r)
{
	struct vcpu *v = container_of(r, struct vcpu, runner);

	__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&v->thread_started, __ATOMIC_ACQUIRE))
		pthread_kill(v->thread, SIG_KICK);
}

struct vcpu *vcpu_new(const struct vcpu_wires *w, unsigned index, uint32_t apic_id,
		      const struct kvm_cpuid2 *cpuid, struct err *err)
{
	struct vcpu *v = xcalloc(1, sizeof(*v));
	struct sigaction sa = { .sa_handler = on_signal };

	sigaction(SIG_KICK, &sa, NULL);
	v->index = index;
	v->apic_id = apic_id;
	v->w = w;
	v->run = MAP_FAILED;
	v->stats_fd = -1;
	v->runner.kick = vcpu_kick;
	v->fd = ioctl(w->kvm->vm_fd, KVM_CREATE_VCPU, (unsigned long)apic_id);
	if (v->fd < 0) {
		err_set(err, errno, "KVM_CREATE_VCPU %u: %s", index, strerror(errno));
		goto fail;
	}
	v->run = mmap(NULL, w->kvm->mmap_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (v->run == MAP_FAILED) {
		err_set(err, errno, "mapping vCPU %u's run page: %s", index, strerror(errno));
		goto fail;
	}
	if (cpuid && ioctl(v->fd, KVM_SET_CPUID2, cpuid) < 0) {
		err_set(err, errno, "KVM_SET_CPUID2 of vCPU %u: %s (try -cpu host)", index,
			strerror(errno));
		goto fail;
	}
	v->stats_fd = ioctl(v->fd, KVM_GET_STATS_FD, NULL);
	vm_runner_add(w->vm, &v->runner);
	return v;
fail:
	vcpu_free(v);
	return NULL;
}

void vcpu_free(struct vcpu *v)
{
	if (!v)
		return;
	if (v->run != MAP_FAILED)
		munmap(v->run, v->w->kvm->mmap_size);
	if (v->stats_fd >= 0)
		close(v->stats_fd);
	if (v->fd >= 0)
		close(v->fd);
	free(v);
}

int vcpu_translate(struct vcpu *v, uint64_t va, uint64_t *gpa)
{
	struct kvm_translation t = { .linear_address = va };

	if (ioctl(v->fd, KVM_TRANSLATE, &t) < 0 || !t.valid)
		return -EFAULT;
	*gpa = t.physical_address;
	return 0;
}

int vcpu_read_virtual(struct vcpu *v, uint64_t va, void *buf, size_t len)
{
	uint8_t *p = buf;

	while (len) {
		size_t n = MIN(len, 4096 - (va & 4095));
		uint64_t gpa;

		if (vcpu_translate(v, va, &gpa) < 0 || mem_read(v->w->mem, gpa, p, n) < 0)
			return -EFAULT;
		va += n;
		p += n;
		len -= n;
	}
	return 0;
}

/* The machine cannot go on: say what happened with all a person needs to find out why, and end. */
static void PRINTF(2, 3) vcpu_fatal(struct vcpu *v, const char *fmt, ...)
{
	char what[512], state[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	vcpu_describe(v, state, sizeof(state));
	log_error("vCPU %u: %s\n%s", v->index, what, state);
	vm_request(v->w->vm, VM_END_KVM_ERROR, 0);
}

static void exit_io(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	unsigned size = run->io.size, count = run->io.count;
	struct bus *bus = v->w->pio;
	uint64_t val = 0;

	if (count == 1 && run->io.direction == KVM_EXIT_IO_OUT) {
		memcpy(&val, data, size);
		bus_write(bus, run->io.port, size, val);
	} else if (count == 1) {
		bus_read(bus, run->io.port, size, &val);
		memcpy(data, &val, size);
	} else if (run->io.direction == KVM_EXIT_IO_OUT) {
		bus_write_rep(bus, run->io.port, size, data, count);
	} else {
		bus_read_rep(bus, run->io.port, size, data, count);
	}
}

static void exit_mmio(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	uint8_t *data = run->mmio.data;
	uint64_t addr = run->mmio.phys_addr, val;
	unsigned left = run->mmio.len;

	/* KVM hands over 1 to 8 bytes; the bus takes powers of two. */
	while (left) {
		unsigned n = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;

		val = 0;
		if (run->mmio.is_write) {
			memcpy(&val, data, n);
			bus_write(v->w->mmio, addr, n, val);
		} else {
			bus_read(v->w->mmio, addr, n, &val);
			memcpy(data, &val, n);
		}
		addr += n;
		data += n;
		left -= n;
	}
}

static const char *const internal_errors[] = {
	[KVM_INTERNAL_ERROR_EMULATION] = "KVM could not emulate an instruction",
	[KVM_INTERNAL_ERROR_SIMUL_EX] = "two exceptions at once that KVM cannot deliver",
	[KVM_INTERNAL_ERROR_DELIVERY_EV] =
		"an event could not be delivered (the guest's tables lie in device memory?)",
	[KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON] =
		"the processor gave an exit KVM does not expect",
};

static void exit_internal_error(struct vcpu *v)
{
	unsigned sub = v->run->internal.suberror;
	const char *advice = "";

	if (sub == KVM_INTERNAL_ERROR_EMULATION)
		advice = kvm_is_pvm(v->w->kvm)
					   ? "\n  This host's KVM is PVM: it has neither VT-x nor "
					     "AMD-V and interprets the guest kernel's code, so it"
					     "\n  lacks instructions a stock kernel uses. Run this "
					     "guest on a host with VT-x or AMD-V, or try a"
					     "\n  smaller CPU (-cpu qemu64) and, for Linux, the "
					     "kernel parameters \"noxsave nosmap clearcpuid=cx16\"."
					     "\n  minivmm-doctor says what this machine can."
					   : "\n  The guest executed it in a state that needs "
					     "KVM's emulator (real mode, device memory). Another"
					     "\n  -cpu model may keep the guest from using it.";
	vcpu_fatal(v, "KVM_EXIT_INTERNAL_ERROR, suberror %u: %s%s", sub,
		   sub < ARRAY_SIZE(internal_errors) && internal_errors[sub] ? internal_errors[sub]
									     : "unknown",
		   advice);
}

static void exit_system_event(struct vcpu *v)
{
	switch (v->run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN:
		vm_request(v->w->vm, VM_END_POWEROFF, 0);
		break;
	case KVM_SYSTEM_EVENT_RESET:
		vm_request(v->w->vm, VM_END_RESET, 0);
		break;
	case KVM_SYSTEM_EVENT_CRASH:
		vm_request(v->w->vm, VM_END_PANIC, 0);
		break;
	default:
		vcpu_fatal(v, "KVM_EXIT_SYSTEM_EVENT type %u, which this program does not know",
			   v->run->system_event.type);
	}
}

/* -trace msr has KVM hand over accesses to be seen (msr_trace.c); without it none comes here. */
static void exit_msr(struct vcpu *v)
{
	msr_trace_exit(v);
	v->io_pending = true;
}

static void vcpu_exit(struct vcpu *v)
{
	struct kvm_run *run = v->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		v->io_pending = true;
		exit_io(v);
		break;
	case KVM_EXIT_MMIO:
		v->io_pending = true;
		exit_mmio(v);
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_SET_TPR:
		break;
	case KVM_EXIT_SHUTDOWN:
		vm_request(v->w->vm, VM_END_TRIPLE_FAULT, 0);
		break;
	case KVM_EXIT_DEBUG:
		if (v->on_debug)
			v->on_debug(v->debug_ctx, v);
		else
			vcpu_fatal(v, "a debug exception came to user space, but no debugger asked "
				      "for one");
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		exit_system_event(v);
		break;
	case KVM_EXIT_X86_RDMSR:
	case KVM_EXIT_X86_WRMSR:
		exit_msr(v);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		vcpu_fatal(
			v,
			"KVM_EXIT_FAIL_ENTRY: the processor refused to enter the guest, hardware "
			"reason 0x%llx on host "
			"CPU %u%s",
			run->fail_entry.hardware_entry_failure_reason, run->fail_entry.cpu,
			run->fail_entry.hardware_entry_failure_reason == 0x80000021
				? " (invalid guest state: this host lacks unrestricted guest mode?)"
				: "");
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		exit_internal_error(v);
		break;
	case KVM_EXIT_UNKNOWN:
		vcpu_fatal(v,
			   "KVM_EXIT_UNKNOWN: the processor left the guest for reason 0x%llx, "
			   "which KVM does not know",
			   run->hw.hardware_exit_reason);
		break;
	default:
		vcpu_fatal(v, "%s (%u), which this machine has no use for",
			   vcpu_exit_name(run->exit_reason), run->exit_reason);
	}
}

/*
 * KVM_RUN itself fails. Memory that the host cannot give is the one case a user can do something
 * about.
 */
static void run_failed(struct vcpu *v, int errnum)
{
	const uint64_t *fault = (const uint64_t *)&v->run->hw;	/* flags, guest address, length */
	char where[48] = "";

	if (errnum != EFAULT) {
		vcpu_fatal(v, "KVM_RUN: %s", strerror(errnum));
		return;
	}
	if (v->run->exit_reason == EXIT_MEMORY_FAULT)
		snprintf(where, sizeof(where), " at 0x%llx", (unsigned long long)fault[1]);
	vcpu_fatal(v,
		   "KVM_RUN: the host cannot give the guest its memory%s: no huge page is left for "
		   "-mem-path, the file behind it "
		   "was cut, or the host has none left",
		   where);
}

/*
 * Have KVM finish an access whose answer lies in the run page, so that the registers are those
 * after the instruction: nobody may look at a parked vCPU in between. It may ask for the next part
 * of the same access.
 */
static void vcpu_settle(struct vcpu *v)
{
	while (v->io_pending) {
		v->io_pending = false;
		__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		if (ioctl(v->fd, KVM_RUN, 0) == 0)
			vcpu_exit(v);
	}
	__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
}

static void traced_exit(struct vcpu *v)
{
	struct exit_trace t;

	exit_trace_begin(v, &t);
	vcpu_exit(v);
	exit_trace_end(v, &t);
}

static __thread struct vcpu *current;

struct vcpu *vcpu_current(void)
{
	return current;
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *v = arg;
	char name[16];
	int ret;

	snprintf(name, sizeof(name), "vcpu%u", v->index);
	pthread_setname_np(pthread_self(), name);
	v->tid = syscall(SYS_gettid);
	current = v;
	for (;;) {
		__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
		if (vm_runner_needed(v->w->vm)) {
			vcpu_settle(v);
			if (!vm_runner_enter(v->w->vm, &v->runner))
				break;
		}
		v->io_pending = false;
		v->used = true;
		ret = ioctl(v->fd, KVM_RUN, 0);
		if (ret < 0 && (errno == EINTR || errno == EAGAIN)) {
			v->stats.kicks++;
			continue;
		}
		if (ret < 0) {
			run_failed(v, errno);
			continue;
		}
		coalesce_drain(v->w->coalesce);
		if (v->run->exit_reason < VCPU_EXIT_REASONS)
			v->stats.exits[v->run->exit_reason]++;
		if (__builtin_expect(trace_mask, 0))
			traced_exit(v);
		else
			vcpu_exit(v);
		if (__builtin_expect(v->on_exit != NULL, 0))
			v->on_exit(v->exit_ctx, v);
	}
	return NULL;
}

int vcpu_start(struct vcpu *v)
{
	sigset_t all, old;
	int ret;

	/*
	 * Signals for the process go to the main loop's signalfd; this thread takes the kick only.
	 */
	sigfillset(&all);
	sigdelset(&all, SIG_KICK);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGSEGV);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&v->thread, NULL, vcpu_thread, v);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret == 0)
		__atomic_store_n(&v->thread_started, true, __ATOMIC_RELEASE);
	return -ret;
}

void vcpu_join(struct vcpu *v)
{
	if (v->thread_started)
		pthread_join(v->thread, NULL);
	v->thread_started = false;
	vm_runner_del(v->w->vm, &v->runner);
}
