/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvm.h: /dev/kvm and one virtual machine. The only file besides vcpu*.c that knows its ioctls.
 */
#ifndef VMM_KVM_KVM_H
#define VMM_KVM_KVM_H

#include <linux/kvm.h>

#include "vmm/base/state.h"
#include "vmm/base/util.h"
#include "vmm/wires/bus.h"
#include "vmm/wires/irq.h"
#include "vmm/wires/mem.h"

struct kvm_pit;

struct kvm {
	int dev_fd, vm_fd;
	struct bus *pio;		/* to tell port eventfds from memory ones */
	unsigned mmap_size;		/* of a vCPU's run page */
	unsigned max_vcpus;
	struct kvm_pit *pit;		/* the 8254, or NULL; the machine's */
	int pvm;			/* kvm_is_pvm: 1, -1: no, 0: nobody has asked */
	bool readonly_mem, xsave2, dirty_ring;
	bool irqchip;
	bool ended;			/* by kvm_end_vm */
	int some_slot;			/* a memory slot in use, -1: none yet */
	uint32_t clock_flags;
};

/*
 * Opens /dev/kvm and checks what this program needs. NULL with a reason that says what to do:
 * module missing, no permission (which group), too old.
 */
struct kvm *kvm_open(struct err *err);
/* A KVM without VT-x or AMD-V. Looked up at the first call: few machines ever ask. Any thread. */
bool kvm_is_pvm(struct kvm *k);
/* Creates the VM. 0 or -errno with the reason. */
int kvm_create_vm(struct kvm *k, struct err *err);
/* The interrupt controllers: PICs, IOAPIC and, with each vCPU, a local APIC. */
int kvm_create_irqchip(struct kvm *k, struct err *err);
/* Whether the guest has an IOAPIC pin masked, as after a reset. Any thread. */
bool kvm_ioapic_pin_masked(struct kvm *k, unsigned pin);
/*
 * Ends the VM before its devices, doorbells and memory are taken apart: each of them given back to
 * a living VM costs a grace period of the host kernel. What they ask for from here on does nothing.
 * The vCPUs are closed (each holds the VM).
 */
void kvm_end_vm(struct kvm *k);
void kvm_close(struct kvm *k);

/* KVM_CHECK_EXTENSION on the VM (or the device before there is one). */
int kvm_has(struct kvm *k, int cap);
/* CPUID leaves the host's KVM can give, allocated; NULL on failure. */
struct kvm_cpuid2 *kvm_supported_cpuid(struct kvm *k);

/* What mem.c, irq.c and the buses are given (ctx is the struct kvm). */
extern const struct mem_backend kvm_mem_backend;
extern const struct irq_backend kvm_irq_backend;
extern const struct bus_backend kvm_bus_backend;

/* In-kernel PIC, IOAPIC and PIT registers, and kvmclock. vCPUs parked. */
int kvm_chips_save(struct kvm *k, struct state_out *o);
int kvm_chips_load(struct kvm *k, struct state_in *in);
/* PIC, IOAPIC, PIT to power-on state. */
int kvm_chips_reset(struct kvm *k);
/*
 * kvmclock in ns, and the host's time stamp counter at that very moment (0 where KVM does not count
 * by it); set restarts it from there.
 */
struct kvm_moment { uint64_t clock_ns, host_tsc; };
int kvm_clock_get(struct kvm *k, struct kvm_moment *now);
int kvm_clock_set(struct kvm *k, uint64_t ns);

#endif
