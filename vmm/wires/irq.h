/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * irq.h: interrupt wires and message vectors. irq.c alone owns KVM_SET_GSI_ROUTING.
 */
#ifndef VMM_WIRES_IRQ_H
#define VMM_WIRES_IRQ_H

#include "vmm/base/util.h"

/* A level-triggered wire: what a chip is given for its interrupt pin. Any thread. */
struct irq {
	void (*set)(void *ctx, int n, int level);
	void *ctx;
	int n;
};
static inline void irq_set(const struct irq *i, int level)
{
	if (i->set)
		i->set(i->ctx, i->n, level);
}

/* What carries interrupts into the guest; vmm/kvm/kvm.c implements it, tests record it. */
struct irq_route { uint32_t gsi; uint64_t addr; uint32_t data; };
struct irq_backend {
	void (*line)(void *ctx, unsigned gsi, int level);			/* KVM_IRQ_LINE */
	void (*msi)(void *ctx, uint64_t addr, uint32_t data);			/* KVM_SIGNAL_MSI */
	/* KVM_SET_GSI_ROUTING: these after the fixed ones */
	int (*routes)(void *ctx, const struct irq_route *msi, size_t n);
	int (*irqfd)(void *ctx, int fd, unsigned gsi, bool add);		/* KVM_IRQFD */
};

struct irq_hub;
struct irq_hub *irq_hub_new(const struct irq_backend *ops, void *ctx);
void irq_hub_free(struct irq_hub *h);

/*
 * A new source on global interrupt `gsi` (0-15 reach PIC and IOAPIC, 16-23 IOAPIC only). Sources of
 * one gsi are a wired OR: one bit for each. The returned wire is valid as long as the hub. At most
 * 64 sources a gsi.
 */
struct irq irq_source(struct irq_hub *h, unsigned gsi);
/* Level of the wired OR, for save and tests. */
int irq_level(struct irq_hub *h, unsigned gsi);
/*
 * Drive every line again from the recorded levels (after a load or reset of the in-kernel chips).
 */
void irq_resync(struct irq_hub *h);

/* --- message vectors: one MSI or MSI-X table entry --- */
struct vec;
struct vec *vec_new(struct irq_hub *h);
void vec_free(struct vec *v);
/*
 * Table entry written by the guest: address, data, mask. Takes effect at once; pending is delivered
 * on unmask. Any thread.
 */
void vec_set(struct vec *v, uint64_t addr, uint32_t data, bool masked);
/* Send the message, or remember it in the pending bit while masked. Any thread. */
void vec_notify(struct vec *v);
/*
 * An eventfd (owned by the vector) that does the same when written to: for vhost and irqfd; -errno
 * on failure.
 */
int vec_fd(struct vec *v);
/* The pending bit (MSI-X PBA); collects vec_fd signals while masked. */
bool vec_pending(struct vec *v);
void vec_set_pending(struct vec *v, bool pending);		/* at load and reset */

#endif
