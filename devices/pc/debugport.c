/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * debugport.c: the debug console of Bochs and its heirs: what firmware writes to the port is text
 * for the person watching; a read gives the value by which firmware knows the port is there. Main
 * loop. No registers.
 */
#include <stdlib.h>

#include "devices/chips.h"
#include "vmm/backends/chardev.h"

#define DEBUGPORT_MAGIC 0xe9

struct debugport {
	struct device dev;
	struct bus *pio;
	struct chardev *chr;
	uint16_t base;
};

static uint64_t debugport_read(void *dev, uint64_t off, unsigned size)
{
	return DEBUGPORT_MAGIC;
}

static void debugport_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct debugport *p = dev;
	uint8_t byte = (uint8_t)val;

	chardev_write(p->chr, &byte, 1);
}

static void debugport_write_rep(void *dev, uint64_t off, unsigned size, const void *data,
				size_t count)
{
	struct debugport *p = dev;

	chardev_write(p->chr, data, count);
}

static const char *debugport_name(void *dev, uint64_t off, bool is_write)
{
	return "text";
}

static const struct region_ops debugport_ops = {
	.name = "debugport",
	.read = debugport_read,
	.write = debugport_write,
	.max_width = 1,
	.reg_name = debugport_name,
	.write_rep = debugport_write_rep,
};

static void debugport_reset(struct device *d)
{
}

static void debugport_destroy(struct device *d)
{
	struct debugport *p = container_of(d, struct debugport, dev);

	bus_del(p->pio, p->base, &debugport_ops, p);
	free(p);
}

static const struct device_ops debugport_device = {
	.name = "debugport", .version = 1, .reset = debugport_reset, .destroy = debugport_destroy,
};

static const struct chardev_user write_only;

struct device *debugport_new(struct bus *pio, uint16_t base, struct chardev *chr, struct loop *loop,
			     struct err *err)
{
	struct debugport *p = xcalloc(1, sizeof(*p));
	int ret;

	p->pio = pio;
	p->base = base;
	p->chr = chr;
	device_init(&p->dev, &debugport_device, "debugport", loop);
	ret = bus_add(pio, base, 1, &debugport_ops, p, loop, "debugport", 0);
	if (ret < 0) {
		err_set(err, -ret, "the debug port cannot have port 0x%x: %s", base,
			strerror(-ret));
		free(p->dev.id);
		free(p);
		return NULL;
	}
	chardev_set_user(chr, &write_only, p);
	return &p->dev;
}
