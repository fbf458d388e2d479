/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * port92.c: system control port A: bit 0 resets the machine when it rises, bit 1 is the fast A20
 * gate. Main loop.
 *
 * Address line 20 is never really masked (KVM cannot); the bit is remembered, and set from
 * power-on, which is what software that asks before it enables the line wants to see.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/chips.h"

#define PORT92		0x92
#define PORT92_RESET	0x01
#define PORT92_A20	0x02

struct port92 {
	struct device dev;
	struct bus *pio;
	struct vm *vm;
	uint8_t value;
};

static uint64_t port92_read(void *dev, uint64_t off, unsigned size)
{
	struct port92 *p = dev;

	return p->value;
}

static void port92_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct port92 *p = dev;
	bool rises = (val & PORT92_RESET) && !(p->value & PORT92_RESET);

	p->value = val & (PORT92_RESET | PORT92_A20);
	if (rises)
		vm_request(p->vm, VM_END_RESET, 0);
}

static const char *port92_name(void *dev, uint64_t off, bool is_write)
{
	return "A20, fast reset";
}

static const struct region_ops port92_ops = {
	.name = "port92",
	.read = port92_read,
	.write = port92_write,
	.max_width = 1,
	.reg_name = port92_name,
};

static void port92_reset(struct device *d)
{
	struct port92 *p = container_of(d, struct port92, dev);

	p->value = PORT92_A20;
}

static int port92_save(struct device *d, struct state_out *o)
{
	struct port92 *p = container_of(d, struct port92, dev);

	state_u8(o, "value", p->value);
	return 0;
}

static int port92_load(struct device *d, struct state_in *in, uint32_t version)
{
	struct port92 *p = container_of(d, struct port92, dev);
	uint8_t value;

	if (state_get_u8(in, "value", &value) < 0)
		return -EINVAL;
	if (value & ~(PORT92_RESET | PORT92_A20))
		return state_bad(in, "value 0x%x has reserved bits", value);
	p->value = value;
	return 0;
}

static void port92_destroy(struct device *d)
{
	struct port92 *p = container_of(d, struct port92, dev);

	bus_del(p->pio, PORT92, &port92_ops, p);
	free(p);
}

static const struct device_ops port92_device = {
	.name = "port92", .version = 1,
	.reset = port92_reset, .save = port92_save, .load = port92_load, .destroy = port92_destroy,
};

struct device *port92_new(struct bus *pio, struct vm *vm, struct loop *loop, struct err *err)
{
	struct port92 *p = xcalloc(1, sizeof(*p));
	int ret;

	p->pio = pio;
	p->vm = vm;
	p->value = PORT92_A20;
	device_init(&p->dev, &port92_device, "port92", loop);
	ret = bus_add(pio, PORT92, 1, &port92_ops, p, loop, "port92", 0);
	if (ret < 0) {
		err_set(err, -ret, "port 0x92 is taken: %s", strerror(-ret));
		free(p->dev.id);
		free(p);
		return NULL;
	}
	return &p->dev;
}
