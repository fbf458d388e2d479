/* SPDX-License-Identifier: GPL-2.0-or-later */
/* kvm_pit.h: the 8254 timer: KVM's own from the first count on, a few bytes of ours before. */
#ifndef VMM_KVM_KVM_PIT_H
#define VMM_KVM_KVM_PIT_H

#include "vmm/kvm/kvm.h"
#include "vmm/wires/vm.h"

struct kvm_pit;

/*
 * Takes the ports 0x40 to 0x43 and 0x61 of k's port bus; loop guards them. discard: what KVM's chip
 * does with ticks that come too late to be taken: it drops them, or makes up for them. NULL with
 * the reason.
 */
struct kvm_pit *kvm_pit_new(struct kvm *k, struct vm *vm, struct loop *loop, bool discard,
			    struct err *err);
void kvm_pit_free(struct kvm_pit *p);
/* As kvm_chips_*: vCPUs parked; 0 or -errno. */
int kvm_pit_reset(struct kvm_pit *p);
int kvm_pit_save(struct kvm_pit *p, struct state_out *o);
int kvm_pit_load(struct kvm_pit *p, struct state_in *in);

#endif
