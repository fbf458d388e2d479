/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * isa_debug_exit.c: a test kernel's way out: writing v to the port ends the program with status (v
 * << 1) | 1, which is never 0, so that success has to be said as such by the one who runs it. Main
 * loop. No registers.
 */
#include <stdlib.h>

#include "devices/chips.h"
#include "vmm/config/device_kind.h"

struct debug_exit {
	struct device dev;
	struct bus *pio;
	struct vm *vm;
	uint16_t base;
};

static uint64_t debug_exit_read(void *dev, uint64_t off, unsigned size)
{
	return 0;
}

static void debug_exit_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct debug_exit *e = dev;

	vm_request(e->vm, VM_END_EXIT_CODE, (int)((val << 1 | 1) & 0xff));
}

static const char *debug_exit_name(void *dev, uint64_t off, bool is_write)
{
	return "status";
}

static const struct region_ops debug_exit_ops = {
	.name = "isa-debug-exit",
	.read = debug_exit_read,
	.write = debug_exit_write,
	.max_width = 4,
	.reg_name = debug_exit_name,
};

static void debug_exit_reset(struct device *d)
{
}

static void debug_exit_destroy(struct device *d)
{
	struct debug_exit *e = container_of(d, struct debug_exit, dev);

	bus_del(e->pio, e->base, &debug_exit_ops, e);
	free(e);
}

static const struct device_ops debug_exit_device = {
	.name = "isa-debug-exit",
	.version = 1,
	.reset = debug_exit_reset,
	.destroy = debug_exit_destroy,
};

/* --- the row --- */

struct debug_exit_entry {
	struct device_config base;
	unsigned iobase, iosize;		/* iobase 0: the usual one */
};

static struct device *debug_exit_make(const struct board *b, const struct device_config *d,
				      struct err *err)
{
	const struct debug_exit_entry *c = container_of(d, struct debug_exit_entry, base);
	struct debug_exit *e = xcalloc(1, sizeof(*e));
	int ret;

	e->pio = b->pio;
	e->base = c->iobase ? c->iobase : d->kind->port;
	e->vm = b->vm;
	device_init(&e->dev, &debug_exit_device, "isa-debug-exit", b->loop);
	ret = bus_add(e->pio, e->base, c->iosize, &debug_exit_ops, e, b->loop, "isa-debug-exit", 0);
	if (ret < 0) {
		err_set(err, -ret,
			"isa-debug-exit cannot have ports 0x%x-0x%x: %s; give another iobase=",
			e->base, e->base + c->iosize - 1, strerror(-ret));
		free(e->dev.id);
		free(e);
		return NULL;
	}
	return &e->dev;
}

static const struct prop debug_exit_props[] = {
	PROP_PORT(struct debug_exit_entry, iobase),
	{ "iosize", NULL, PROP_NUMBER, offsetof(struct debug_exit_entry, iosize), .min = 1,
	  .max = 8, .def = 2, .power_of_2 = true, .help = "how many ports" },
	{ 0 },
};

const struct device_kind kind_debug_exit = {
	.name = "isa-debug-exit",
	.help = "a write of v ends with exit status v*2+1",
	.machines = ON_PC | ON_MICRO,
	.size = sizeof(struct debug_exit_entry),
	.props = debug_exit_props,
	.make = debug_exit_make,
	.port = 0x501,
};
