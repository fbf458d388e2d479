/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * coalesce.h: port writes that KVM collects in a ring instead of leaving the guest for each
 * (KVM_CAP_COALESCED_PIO).
 *
 * A kernel that starts writes PCI addresses, RTC indices and console characters by the hundred, and
 * follows each group with a read that comes to us anyway: that read finds the ring emptied first,
 * so the order the device sees is the guest's. A write that no read follows would wait, so writes
 * are collected only for the first seconds after power-on or reset, and the ring is emptied by a
 * timer meanwhile; later nothing is collected and no timer runs.
 */
#ifndef VMM_KVM_COALESCE_H
#define VMM_KVM_COALESCE_H

#include "vmm/kvm/kvm.h"
#include "vmm/wires/bus.h"
#include "vmm/wires/vm.h"

struct coalesce;

/* vcpu_run: a mapped run page, behind which the ring lies. NULL when this KVM cannot. */
struct coalesce *coalesce_new(struct kvm *k, struct bus *pio, struct loop *l, void *vcpu_run);
void coalesce_free(struct coalesce *c);
/* Collect from now on for the starting phase: at power-on and reset. Main loop. */
void coalesce_start(struct coalesce *c);
/*
 * Collect no more: someone wants to see each write. Main loop's lock; what was collected is still
 * to be drained. c may be NULL.
 */
void coalesce_stop(struct coalesce *c);
/* Carry out what was collected, in order. Any thread that holds no lock. c may be NULL. */
void coalesce_drain(struct coalesce *c);

#endif
