/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * acpi_hotplug.c: PCI hot-plug as the ACPI tables of virtual PCs know it (QEMU's acpi_pci_hotplug
 * specification): which slots of bus 0 changed, and the register by which the guest's _EJ0 lets a
 * device go. Main loop.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/chips.h"

enum { REG_UP = 0x00, REG_DOWN = 0x04, REG_EJECT = 0x08, REG_REMOVABLE = 0x0c, REG_SELECT = 0x10,
       REG_LEN = 0x14 };
#define HOTPLUG_GPE 1

struct acpi_hotplug {
	struct device dev;
	struct bus *pio;
	struct acpi_hotplug_opts o;
	uint32_t up, down;		/* slots with a new device / whose device shall go */
	/* slots the guest let go, and the machine has not emptied yet */
	uint32_t ejecting;
	uint32_t removable;		/* the machine's; not saved: wiring says it again */
	uint32_t select;		/* bus number; only 0 exists */
};

static uint64_t hotplug_read(void *dev, uint64_t off, unsigned size)
{
	struct acpi_hotplug *h = dev;
	uint32_t val;

	if (off == REG_SELECT)
		return h->select;
	if (h->select != 0)
		return 0;
	switch (off) {
	case REG_UP:		/* reading says that the guest goes to look */
		val = h->up;
		h->up = 0;
		return val;
	case REG_DOWN:
		return h->down;
	case REG_REMOVABLE:
		return h->removable;
	default:
		return 0;
	}
}

static void slots_eject(struct acpi_hotplug *h, uint32_t slots)
{
	slots &= h->removable & ~h->ejecting;
	h->down &= ~slots;
	h->up &= ~slots;
	h->ejecting |= slots;
	for (unsigned slot = 0; slot < PCI_SLOTS; slot++)
		if (slots >> slot & 1)
			h->o.eject(h->o.eject_ctx, slot);
}

static void hotplug_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct acpi_hotplug *h = dev;

	if (off == REG_SELECT)
		h->select = (uint32_t)val;
	else if (off == REG_EJECT && h->select == 0)
		slots_eject(h, (uint32_t)val);
}

static const char *hotplug_name(void *dev, uint64_t off, bool is_write)
{
	static const char *const names[] = { "PCIU", "PCID", "B0EJ", "RMV", "BNUM" };

	return names[off / 4];
}

static const struct region_ops hotplug_ops = {
	.name = "acpi-hotplug", .read = hotplug_read, .write = hotplug_write,
	.min_width = 4, .max_width = 4, .reg_name = hotplug_name,
};

void acpi_hotplug_set_removable(struct device *d, uint32_t slots)
{
	container_of(d, struct acpi_hotplug, dev)->removable = slots;
}

void acpi_hotplug_plugged(struct device *d, unsigned slot)
{
	struct acpi_hotplug *h = container_of(d, struct acpi_hotplug, dev);

	h->up |= 1u << (slot & 31);
	h->o.gpe(h->o.gpe_ctx, HOTPLUG_GPE);
}

bool acpi_hotplug_unplug_request(struct device *d, unsigned slot)
{
	struct acpi_hotplug *h = container_of(d, struct acpi_hotplug, dev);
	uint32_t bit = 1u << (slot & 31);
	bool asked = (h->down | h->ejecting) & bit;

	/* Asked again: a guest that was not up yet when it was told may be now. */
	h->down |= bit & ~h->ejecting;
	h->o.gpe(h->o.gpe_ctx, HOTPLUG_GPE);
	return !asked;
}

void acpi_hotplug_ejected(struct device *d, unsigned slot)
{
	container_of(d, struct acpi_hotplug, dev)->ejecting &= ~(1u << (slot & 31));
}

static void hotplug_reset(struct device *d)
{
	struct acpi_hotplug *h = container_of(d, struct acpi_hotplug, dev);

	/* A guest that starts anew no longer holds what it was asked to let go. */
	h->select = 0;
	slots_eject(h, h->down);
	h->up = h->down = 0;
}

static const struct state_field hotplug_fields[] = {
	STATE_FIELD(struct acpi_hotplug, STATE_U32, up),
	STATE_FIELD(struct acpi_hotplug, STATE_U32, down),
	STATE_FIELD(struct acpi_hotplug, STATE_U32, select),
};

static int hotplug_save(struct device *d, struct state_out *o)
{
	struct acpi_hotplug *h = container_of(d, struct acpi_hotplug, dev);

	state_save_fields(o, h, hotplug_fields, ARRAY_SIZE(hotplug_fields));
	state_u32(o, "ejecting", h->ejecting);
	return 0;
}

static int hotplug_load(struct device *d, struct state_in *in, uint32_t version)
{
	struct acpi_hotplug *h = container_of(d, struct acpi_hotplug, dev);
	uint32_t ejecting = 0;
	int ret = state_load_fields(in, h, hotplug_fields, ARRAY_SIZE(hotplug_fields));

	if (ret == 0)
		ret = state_get_u32_opt(in, "ejecting", &ejecting, 0);
	h->ejecting = 0;
	if (ret == 0)
		slots_eject(h, ejecting);
	return ret;
}

static void hotplug_destroy(struct device *d)
{
	struct acpi_hotplug *h = container_of(d, struct acpi_hotplug, dev);

	bus_del(h->pio, h->o.base, &hotplug_ops, h);
	free(h);
}

static const struct device_ops hotplug_device = {
	.name = "acpi-hotplug",
	.version = 1,
	.reset = hotplug_reset,
	.save = hotplug_save,
	.load = hotplug_load,
	.destroy = hotplug_destroy,
};

struct device *acpi_hotplug_new(struct bus *pio, struct loop *loop,
				const struct acpi_hotplug_opts *o, struct err *err)
{
	struct acpi_hotplug *h = xcalloc(1, sizeof(*h));
	int ret;

	h->pio = pio;
	h->o = *o;
	device_init(&h->dev, &hotplug_device, "acpi-hotplug", loop);
	ret = bus_add(pio, o->base, REG_LEN, &hotplug_ops, h, loop, "acpi-hotplug", 0);
	if (ret < 0) {
		err_set(err, -ret, "PCI hot-plug cannot have port 0x%x: %s", o->base,
			strerror(-ret));
		free(h->dev.id);
		free(h);
		return NULL;
	}
	return &h->dev;
}
