/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pvpanic.c: one port through which a guest kernel says that it panicked, or that its crash kernel
 * takes over (the pvpanic specification of QEMU's documentation). Main loop. No registers.
 */
#include <stdlib.h>

#include "devices/chips.h"
#include "vmm/base/log.h"

#define PVPANIC_PANICKED	0x01
#define PVPANIC_CRASH_LOADED	0x02

struct pvpanic {
	struct device dev;
	struct bus *pio;
	struct vm *vm;
	uint16_t base;
};

static uint64_t pvpanic_read(void *dev, uint64_t off, unsigned size)
{
	return PVPANIC_PANICKED | PVPANIC_CRASH_LOADED;
}

static void pvpanic_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct pvpanic *p = dev;

	if (val & PVPANIC_PANICKED)
		vm_request(p->vm, VM_END_PANIC, 0);
	else if (val & PVPANIC_CRASH_LOADED)
		log_guest("the guest's kernel panicked and its crash kernel takes over");
}

static const char *pvpanic_name(void *dev, uint64_t off, bool is_write)
{
	return "events";
}

static const struct region_ops pvpanic_ops = {
	.name = "pvpanic",
	.read = pvpanic_read,
	.write = pvpanic_write,
	.max_width = 1,
	.reg_name = pvpanic_name,
};

static void pvpanic_reset(struct device *d)
{
}

static void pvpanic_destroy(struct device *d)
{
	struct pvpanic *p = container_of(d, struct pvpanic, dev);

	bus_del(p->pio, p->base, &pvpanic_ops, p);
	free(p);
}

static const struct device_ops pvpanic_device = {
	.name = "pvpanic", .version = 1, .reset = pvpanic_reset, .destroy = pvpanic_destroy,
};

struct device *pvpanic_new(struct bus *pio, uint16_t base, struct vm *vm, struct loop *loop,
			   struct err *err)
{
	struct pvpanic *p = xcalloc(1, sizeof(*p));
	int ret;

	p->pio = pio;
	p->base = base;
	p->vm = vm;
	device_init(&p->dev, &pvpanic_device, "pvpanic", loop);
	ret = bus_add(pio, base, 1, &pvpanic_ops, p, loop, "pvpanic", 0);
	if (ret < 0) {
		err_set(err, -ret, "pvpanic cannot have port 0x%x: %s", base, strerror(-ret));
		free(p->dev.id);
		free(p);
		return NULL;
	}
	return &p->dev;
}
