/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vcpu.h: virtual CPUs: a thread each that enters the guest and answers its exits.
 */
#ifndef VMM_KVM_VCPU_H
#define VMM_KVM_VCPU_H

#include <pthread.h>

#include "vmm/base/state.h"
#include "vmm/kvm/kvm.h"
#include "vmm/wires/bus.h"
#include "vmm/wires/mem.h"
#include "vmm/wires/vm.h"

struct boot_cpu;

/* What a vCPU needs of the machine around it. */
struct vcpu_wires {
	struct kvm *kvm;
	struct vm *vm;
	struct mem *mem;
	struct bus *pio, *mmio;
	struct coalesce *coalesce;	/* may be NULL */
};

/*
 * Exits by reason, and how many of them came to user space at all; written by the vCPU's thread
 * only.
 */
#define VCPU_EXIT_REASONS 40
struct vcpu_stats {
	uint64_t exits[VCPU_EXIT_REASONS];
	uint64_t kicks;			/* entries ended by a signal or immediate_exit */
};

struct vcpu {
	unsigned index;			/* position, 0 is the boot processor */
	uint32_t apic_id;
	const struct vcpu_wires *w;
	int fd;
	/* KVM's counters, or -1; taken at the start because the ioctl waits for KVM_RUN's end */
	int stats_fd;
	struct kvm_run *run;
	pthread_t thread;
	bool thread_started;
	int tid;
	struct vm_runner runner;
	bool io_pending;		/* KVM still has to finish the last exit's access */
	bool used;			/* has left power-on state */
	bool tsc_scaled;		/* its counter runs at another rate than the host's */
	uint64_t loaded_tsc;		/* what vcpu_load found */
	struct vcpu_stats stats;
	/* A debugger's hook: KVM_EXIT_DEBUG on the vCPU's thread; the VM is paused by it. */
	void (*on_debug)(void *ctx, struct vcpu *v);
	void *debug_ctx;
	/*
	 * A tool's hook (step, exits): called on the vCPU's thread after each exit to user space.
	 */
	void (*on_exit)(void *ctx, struct vcpu *v);
	void *exit_ctx;
};

/* Creates the vCPU in KVM and gives it its CPUID leaves. NULL with the reason. */
struct vcpu *vcpu_new(const struct vcpu_wires *w, unsigned index, uint32_t apic_id,
		      const struct kvm_cpuid2 *cpuid, struct err *err);
void vcpu_free(struct vcpu *v);
/* The thread; it waits in vm_runner_enter until the machine runs. 0 or -errno. */
int vcpu_start(struct vcpu *v);
/* After the machine was told to end (vm_request, PAUSE_EXIT): waits for the thread. */
void vcpu_join(struct vcpu *v);

/*
 * Power-on state: registers, MSRs and LAPIC as after RESET#; the boot processor runnable, the
 * others waiting for INIT/SIPI. Parked. With boot non-NULL the boot processor gets a loader's entry
 * state instead of the reset vector.
 */
int vcpu_reset(struct vcpu *v, const struct boot_cpu *boot);

/*
 * All of a CPU's state, in the one order that restores right (table in vcpu_state.c). Parked. tsc:
 * what every vCPU is saved with (vcpu_tsc of the first), so that a restored machine's counters
 * agree.
 */
int vcpu_save(struct vcpu *v, struct state_out *o, uint64_t tsc);
int vcpu_load(struct vcpu *v, struct state_in *in);
/* One model-specific register. Parked. 0 or -errno. */
int vcpu_get_msr(struct vcpu *v, uint32_t index, uint64_t *value);
int vcpu_set_msr(struct vcpu *v, uint32_t index, uint64_t value);
/*
 * The time stamp counter over a pause (vcpu_tsc.c). Parked, all of them.
 * vcpu_tsc: what it was at that moment; where that cannot be told (host_tsc is 0, or KVM scales
 * it), what it is now. vcpu_tsc_moment: the host's counter when this one is tsc; 0 where that
 * cannot be told. vcpu_tsc_resume: it goes on from where it was at `paused`; `resumed` is a moment
 * since kvmclock was set to go on from there too.
 */
uint64_t vcpu_tsc(struct vcpu *v, const struct kvm_moment *at);
uint64_t vcpu_tsc_moment(struct vcpu *v, uint64_t tsc);
void vcpu_tsc_resume(struct vcpu *v, const struct kvm_moment *paused,
		     const struct kvm_moment *resumed);
/*
 * The vCPU whose thread this is, or NULL: for a device that reads registers in its access (the
 * VMware port).
 */
struct vcpu *vcpu_current(void);
/* General and segment registers for a debugger. Parked. 0 or -errno. */
int vcpu_get_regs(struct vcpu *v, struct kvm_regs *r, struct kvm_sregs *s);
int vcpu_set_regs(struct vcpu *v, const struct kvm_regs *r, const struct kvm_sregs *s);
/*
 * The NMI button, wired to LINT1: an NMI if the guest has LINT1 set up for one (Intel SDM 3A,
 * 11.5.1), or its APIC off. Parked, as KVM waits for the end of KVM_RUN, and a guest that sleeps
 * does not end it. 0 or -errno.
 */
int vcpu_nmi(struct vcpu *v);
/* Tell the guest's watchdog that it was stopped (KVM_KVMCLOCK_CTRL). Parked. */
void vcpu_clock_stopped(struct vcpu *v);

/* Registers, mode and the bytes at rip, as text for messages. On the vCPU's thread or parked. */
void vcpu_describe(struct vcpu *v, char *buf, size_t len);
/*
 * Guest virtual to physical in the CPU's current mode; -EFAULT when not mapped. Thread or parked.
 */
int vcpu_translate(struct vcpu *v, uint64_t va, uint64_t *gpa);
/* Reads guest virtual memory across pages. 0 or -EFAULT. */
int vcpu_read_virtual(struct vcpu *v, uint64_t va, void *buf, size_t len);
const char *vcpu_exit_name(unsigned reason);

#endif
