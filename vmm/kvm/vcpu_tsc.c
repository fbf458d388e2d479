/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vcpu_tsc.c: a virtual CPU's time stamp counter stands while the machine is paused, as kvmclock
 * does. Specification: Linux Documentation/virt/kvm/devices/vcpu.rst, KVM_VCPU_TSC_CTRL; Intel SDM
 * volume 3, 17.17.
 *
 * It is not only for guests that keep time by the counter. Guests read kvmclock as "the page's
 * time, and what the counter counted since", and KVM writes the page of a CPU when that CPU enters;
 * user space on all CPUs reads the page of CPU 0. Were the counters to run on in a pause, a CPU
 * that enters before CPU 0 would see the pause pass, and then time go back. With counters that
 * stood, the old page and the new one say the same.
 *
 * So counters are moved by one number of ticks for all of them, exactly, and never set to a value
 * "now". A counter that KVM scales (a machine restored on a host of another frequency) runs on: the
 * host's counter does not tell it to the tick.
 */
#include <asm/kvm.h>
#include <errno.h>
#include <sys/ioctl.h>

#include "vmm/base/log.h"
#include "vmm/kvm/vcpu.h"

#define MSR_IA32_TSC 0x10u
#define MSR_IA32_TSC_DEADLINE 0x6e0u

/* guest's counter = host's + offset, modulo 2^64. 0 or -errno. */
static int offset_get(struct vcpu *v, uint64_t *offset)
{
	struct kvm_device_attr a = { .group = KVM_VCPU_TSC_CTRL,
				     .attr = KVM_VCPU_TSC_OFFSET,
				     .addr = (uintptr_t)offset };

	if (v->tsc_scaled)
		return -EOPNOTSUPP;
	return ioctl(v->fd, KVM_GET_DEVICE_ATTR, &a) < 0 ? -errno : 0;
}

uint64_t vcpu_tsc(struct vcpu *v, const struct kvm_moment *at)
{
	uint64_t n;

	if (at->host_tsc && offset_get(v, &n) == 0)
		return at->host_tsc + n;
	return vcpu_get_msr(v, MSR_IA32_TSC, &n) < 0 ? 0 : n;
}

uint64_t vcpu_tsc_moment(struct vcpu *v, uint64_t tsc)
{
	uint64_t offset;

	return offset_get(v, &offset) < 0 ? 0 : tsc - offset;
}

void vcpu_tsc_resume(struct vcpu *v, const struct kvm_moment *paused,
		     const struct kvm_moment *resumed)
{
	uint64_t offset, deadline, stood, ran;
	struct kvm_device_attr a = { .group = KVM_VCPU_TSC_CTRL,
				     .attr = KVM_VCPU_TSC_OFFSET,
				     .addr = (uintptr_t)&offset };
	int khz = ioctl(v->fd, KVM_GET_TSC_KHZ, 0);

	if (!paused->host_tsc || !resumed->host_tsc || khz <= 0 || offset_get(v, &offset) < 0)
		return;
	/* Since kvmclock was set it counts again, and the counter with it. */
	ran = (unsigned __int128)(resumed->clock_ns - paused->clock_ns) * khz / 1000000;
	stood = resumed->host_tsc - paused->host_tsc - ran;
	offset -= stood;
	if (ioctl(v->fd, KVM_SET_DEVICE_ATTR, &a) < 0) {
		log_debug(
			"vCPU %u: its time stamp counter cannot be moved: it ran during the pause",
			v->index);
		return;
	}
	/* KVM armed the timer by the counter of before; written again it is armed by this one. */
	if (vcpu_get_msr(v, MSR_IA32_TSC_DEADLINE, &deadline) == 0 && deadline)
		vcpu_set_msr(v, MSR_IA32_TSC_DEADLINE, deadline);
}
