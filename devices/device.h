/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * device.h: what every chip can do besides answering its bus.
 *
 * All calls run with the lock of the device's loop held. A constructor takes exactly its wires
 * (bus, irq or vectors, memory, backend, loop) and returns the device; nothing reaches into struct
 * machine.
 */
#ifndef DEVICES_DEVICE_H
#define DEVICES_DEVICE_H

#include "vmm/base/loop.h"
#include "vmm/base/state.h"
#include "vmm/base/util.h"

struct bus;
struct device;
struct irq_hub;
struct mem;
struct pci_bus;
struct vm;

struct device_ops {
	const char *name;		/* "16550", "virtio-blk" */
	/* of the saved registers; rises only when meaning changes */
	uint32_t version;
	/*
	 * Back to power-on state. Requests in flight complete or are dropped before it returns
	 * (loop_wait).
	 */
	void (*reset)(struct device *d);
	/*
	 * Stop taking new work, call done(ctx) once (maybe before returning) when nothing is in
	 * flight. Optional.
	 */
	void (*quiesce)(struct device *d, void (*done)(void *ctx), void *ctx);
	void (*resume)(struct device *d);			/* optional */
	/*
	 * Registers into the current node / from it; quiesced, vCPUs parked. load gets the saved
	 * version. 0 or -errno.
	 */
	int (*save)(struct device *d, struct state_out *o);
	int (*load)(struct device *d, struct state_in *in, uint32_t version);
	void (*destroy)(struct device *d);			/* unplugs from its buses, frees */
};

struct device {
	const struct device_ops *ops;
	char *id;			/* unique: "serial0", "pci@3.0" ...; owned */
	struct loop *loop;		/* its control loop */
};

/* The wires that lie there for any device: what a row's make function passes on from. */
struct board {
	struct bus *pio, *mmio;
	struct mem *mem;
	struct irq_hub *irqs;
	struct vm *vm;
	struct vm_clock *clock;
	struct loop *loop;		/* main */
	struct pci_bus *pci;		/* NULL: the machine has none */
};

static inline void device_init(struct device *d, const struct device_ops *ops, const char *id,
			       struct loop *loop)
{
	d->ops = ops;
	d->id = xstrdup(id);
	d->loop = loop;
}

/*
 * The node "<id>" with name, version and registers; and back, refusing another name or a newer
 * version.
 */
int device_save(struct device *d, struct state_out *o);
int device_load(struct device *d, struct state_in *in);
/* NULL is fine; frees id after ops->destroy unplugged it */
void device_destroy(struct device *d);

#endif
