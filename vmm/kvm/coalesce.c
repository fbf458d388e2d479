/* SPDX-License-Identifier: GPL-2.0-or-later */
/* coalesce.c: KVM's ring of collected port writes (Linux Documentation/virt/kvm/api.rst, 4.116). */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/kvm/coalesce.h"

#define PHASE_NS (4 * NS_PER_SEC)	/* a stock kernel has found its devices by then */
#define DRAIN_NS (50 * NS_PER_MS)	/* how long a write may wait meanwhile */

/* Registers that only remember what is written, and the console's transmitter. */
static const struct kvm_coalesced_mmio_zone zones[] = {
	{ .addr = 0xcf8, .size = 4, .pio = 1 },		/* PCI CONFADD */
	{ .addr = 0x70, .size = 1, .pio = 1 },		/* RTC index */
	{ .addr = 0x3f8, .size = 1, .pio = 1 },		/* COM1 THR */
};

struct coalesce {
	struct kvm *k;
	struct bus *pio;
	struct kvm_coalesced_mmio_ring *ring;
	unsigned entries;
	pthread_mutex_t lock;		/* one drains at a time: order */
	struct loop_timer timer;
	int64_t end;			/* of the phase; 0: not collecting */
};

/*
 * Only where a chip listens: in many kernels each change of KVM's list of ports waits for a grace
 * period.
 */
static void collect(struct coalesce *c, bool on)
{
	const char *who, *chip, *reg;
	uint64_t off;

	for (size_t i = 0; i < ARRAY_SIZE(zones); i++)
		if (bus_lookup(c->pio, zones[i].addr, &who, &chip, &off, &reg, true))
			ioctl(c->k->vm_fd,
			      on ? KVM_REGISTER_COALESCED_MMIO : KVM_UNREGISTER_COALESCED_MMIO,
			      &zones[i]);
}

static bool empty(struct coalesce *c)
{
	return __atomic_load_n(&c->ring->first, __ATOMIC_RELAXED) ==
	       __atomic_load_n(&c->ring->last, __ATOMIC_ACQUIRE);
}

/* Lock held. */
static void drain(struct coalesce *c)
{
	struct kvm_coalesced_mmio_ring *r = c->ring;
	uint32_t first;

	while ((first = r->first) != __atomic_load_n(&r->last, __ATOMIC_ACQUIRE)) {
		struct kvm_coalesced_mmio e = r->coalesced_mmio[first % c->entries];
		uint64_t val = 0;

		memcpy(&val, e.data, MIN(e.len, 8u));
		__atomic_store_n(&r->first, (first + 1) % c->entries, __ATOMIC_RELEASE);
		if (e.pio)
			bus_write(c->pio, e.phys_addr, e.len, val);
	}
}

void coalesce_drain(struct coalesce *c)
{
	if (!c || empty(c))
		return;
	pthread_mutex_lock(&c->lock);
	drain(c);
	pthread_mutex_unlock(&c->lock);
}

/*
 * The loop's lock is held, which a vCPU takes after ours when it drains: so only try. Whoever has
 * ours empties the ring.
 */
static void on_timer(void *ctx)
{
	struct coalesce *c = ctx;
	int64_t now = now_ns();

	if (now >= c->end) {
		collect(c, false);
		c->end = 0;
	} else {
		loop_timer_set(&c->timer, now + DRAIN_NS);
	}
	if (!empty(c) && pthread_mutex_trylock(&c->lock) == 0) {
		drain(c);
		pthread_mutex_unlock(&c->lock);
	}
}

void coalesce_start(struct coalesce *c)
{
	if (!c)
		return;
	/* Who watches wants to see each write, when it happens. */
	if (trace_mask & (TRACE_EXITS | TRACE_PIO | TRACE_SUMMARY))
		return;
	if (!c->end)
		collect(c, true);
	c->end = now_ns() + PHASE_NS;
	loop_timer_set(&c->timer, now_ns() + DRAIN_NS);
}

void coalesce_stop(struct coalesce *c)
{
	if (!c || !c->end)
		return;
	collect(c, false);
	c->end = 0;
}

struct coalesce *coalesce_new(struct kvm *k, struct bus *pio, struct loop *l, void *vcpu_run)
{
	int page = kvm_has(k, KVM_CAP_COALESCED_MMIO);
	size_t size = sysconf(_SC_PAGESIZE);
	struct coalesce *c;

	if (page <= 0 || !kvm_has(k, KVM_CAP_COALESCED_PIO) || (page + 1) * size > k->mmap_size)
		return NULL;
	c = xcalloc(1, sizeof(*c));
	c->k = k;
	c->pio = pio;
	c->ring = (void *)((char *)vcpu_run + page * size);
	c->entries = (size - sizeof(struct kvm_coalesced_mmio_ring)) /
		     sizeof(struct kvm_coalesced_mmio);
	pthread_mutex_init(&c->lock, NULL);
	loop_timer_init(&c->timer, l, NULL, on_timer, c);
	return c;
}

void coalesce_free(struct coalesce *c)
{
	if (!c)
		return;
	coalesce_drain(c);
	loop_timer_cancel(&c->timer);
	pthread_mutex_destroy(&c->lock);
	free(c);
}
