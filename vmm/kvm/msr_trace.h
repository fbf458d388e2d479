/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * msr_trace.h: -trace msr: KVM answers RDMSR and WRMSR itself, without a word to user space. To
 * show them, it is asked to hand over those worth seeing, and each is then done by KVM_GET_MSRS or
 * KVM_SET_MSRS.
 */
#ifndef VMM_KVM_MSR_TRACE_H
#define VMM_KVM_MSR_TRACE_H

#include "vmm/kvm/vcpu.h"

/* Before the vCPUs are made; nothing while the trace is off. A warning where KVM cannot. */
void msr_trace_start(struct kvm *k);
/* KVM_EXIT_X86_RDMSR and _WRMSR: a line, and the answer into the run page. vCPU's thread. */
void msr_trace_exit(struct vcpu *v);

#endif
