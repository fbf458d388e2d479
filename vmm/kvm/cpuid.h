/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cpuid.h: which processor the guest sees: models, feature flags, topology, KVM's and Hyper-V's
 * leaves.
 */
#ifndef VMM_KVM_CPUID_H
#define VMM_KVM_CPUID_H

#include "vmm/base/util.h"
#include "vmm/kvm/kvm.h"

struct cpu_topology {
	unsigned sockets, cores, threads;	/* cores in a socket, threads in a core */
};

/*
 * The leaves all vCPUs share, for spec "MODEL[,+feature|,-feature|,feature=on|off]...". Models:
 * host, max (the same), qemu64, x86-64-v1 ... x86-64-v4, Opteron_G1, IvyBridge; also vendor=,
 * phys-bits=, enforce=off (what the host lacks is left out with a warning). Allocated; NULL with
 * the reason (unknown model or flag, with the nearest known name; a feature this host lacks).
 */
struct kvm_cpuid2 *cpuid_build(struct kvm *k, const char *spec, struct err *err);
/*
 * The same for a host that is described: what its KVM offers. Pure, so that what guests see can be
 * compared with a stored dump.
 */
struct cpuid_host {
	struct kvm_cpuid2 *leaves;
	bool hyperv, hyperv_time;		/* KVM_CAP_HYPERV, KVM_CAP_HYPERV_TIME */
};
struct kvm_cpuid2 *cpuid_derive(const struct cpuid_host *h, const char *spec, struct err *err);
/* A copy with the leaves that differ between vCPUs filled in. Allocated. */
struct kvm_cpuid2 *cpuid_for_vcpu(const struct kvm_cpuid2 *base, const struct cpu_topology *t,
				  uint32_t apic_id);
/* APIC id of the index-th vCPU: thread, core and socket in bit fields of their own. */
uint32_t cpu_apic_id(const struct cpu_topology *t, unsigned index);
/* Width of physical addresses the leaves promise. */
unsigned cpuid_phys_bits(const struct kvm_cpuid2 *c);
/* One line a model or feature, for -cpu help. */
void cpuid_help(void);
/* The leaves as text, a line each, for golden dumps and `info`. */
char *cpuid_dump(const struct kvm_cpuid2 *c);

#endif
