/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * machine_micro.c: the "micro" machine: serial ports, a power register, and virtio-mmio windows
 * that its small DSDT lists. No PCI, no firmware, no legacy chips.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/chips.h"
#include "devices/virtio/virtio.h"
#include "vmm/machine/machine.h"

#define SLP_EN 0x20
#define SLP_TYP(v) ((v) >> 2 & 7)
#define SLP_TYP_S5 5

/*
 * ACPI's sleep control, sleep status and reset registers (ACPI 6.4, 4.8.3.7), and the event word
 * our DSDT reads.
 */
struct micro_pm {
	struct device dev;
	struct bus *pio;
	struct vm *vm;
	struct irq event;
	uint32_t events;
};

static uint64_t pm_read(void *ctx, uint64_t off, unsigned size)
{
	return 0;		/* sleep status: WAK_STS never set, there is no S3 here */
}

static void pm_write(void *ctx, uint64_t off, unsigned size, uint64_t val)
{
	struct micro_pm *p = ctx;

	if (off == 0 && (val & SLP_EN) && SLP_TYP(val) == SLP_TYP_S5)
		vm_request(p->vm, VM_END_POWEROFF, 0);
	else if (off == 2 && val == 1)
		vm_request(p->vm, VM_END_RESET, 0);
}

static uint64_t event_read(void *ctx, uint64_t off, unsigned size)
{
	struct micro_pm *p = ctx;
	uint32_t v = p->events;

	p->events = 0;
	irq_set(&p->event, 0);
	return v;
}

static void event_write(void *ctx, uint64_t off, unsigned size, uint64_t val)
{
}

static const char *pm_name(void *ctx, uint64_t off, bool is_write)
{
	return off == 0 ? "sleep control" : off == 1 ? "sleep status" : "reset";
}

static const char *event_name(void *ctx, uint64_t off, bool is_write)
{
	return "events";
}

static const struct region_ops pm_ops = {
	.name = "micro-pm",
	.read = pm_read,
	.write = pm_write,
	.min_width = 1,
	.max_width = 1,
	.reg_name = pm_name,
};
static const struct region_ops event_ops = {
	.name = "micro-event",
	.read = event_read,
	.write = event_write,
	.min_width = 4,
	.max_width = 4,
	.reg_name = event_name,
};

static void micro_pm_reset(struct device *d)
{
	struct micro_pm *p = container_of(d, struct micro_pm, dev);

	p->events = 0;
	irq_set(&p->event, 0);
}

static int micro_pm_save(struct device *d, struct state_out *o)
{
	state_u32(o, "events", container_of(d, struct micro_pm, dev)->events);
	return 0;
}

static int micro_pm_load(struct device *d, struct state_in *in, uint32_t version)
{
	struct micro_pm *p = container_of(d, struct micro_pm, dev);
	int ret = state_get_u32(in, "events", &p->events);

	irq_set(&p->event, p->events != 0);
	return ret;
}

static void micro_pm_destroy(struct device *d)
{
	struct micro_pm *p = container_of(d, struct micro_pm, dev);

	bus_del(p->pio, BIOS_MICRO_PM, &pm_ops, p);
	bus_del(p->pio, BIOS_MICRO_EVENT, &event_ops, p);
	free(p);
}

static const struct device_ops micro_pm_device_ops = {
	.name = "micro-pm",
	.version = 1,
	.reset = micro_pm_reset,
	.save = micro_pm_save,
	.load = micro_pm_load,
	.destroy = micro_pm_destroy,
};

static int micro_pm_new(struct machine *m, struct err *err)
{
	struct micro_pm *p = xcalloc(1, sizeof(*p));
	int ret;

	device_init(&p->dev, &micro_pm_device_ops, "micro-pm", m->loop);
	p->pio = m->pio;
	p->vm = m->vm;
	p->event = irq_source(m->irqs, BIOS_SCI_IRQ);
	ret = bus_add(m->pio, BIOS_MICRO_PM, 4, &pm_ops, p, m->loop, "micro-pm", 0);
	if (ret == 0)
		ret = bus_add(m->pio, BIOS_MICRO_EVENT, 4, &event_ops, p, m->loop, "micro-pm", 0);
	machine_add_device(m, &p->dev, NULL);
	m->micro_pm = &p->dev;
	return ret < 0 ? err_set(err, -ret, "power registers of the micro machine: %s",
				 strerror(-ret))
		       : 0;
}

/* The user presses the power button. Lock held. */
static void micro_pm_power_button(struct device *d)
{
	struct micro_pm *p = container_of(d, struct micro_pm, dev);

	p->events |= BIOS_EVENT_POWER_BUTTON;
	irq_set(&p->event, 1);
}

void micro_pm_generation(struct device *d)
{
	struct micro_pm *p = container_of(d, struct micro_pm, dev);

	p->events |= BIOS_EVENT_VMGENID;
	irq_set(&p->event, 1);
}

int machine_init_micro(struct machine *m, struct err *err)
{
	if (micro_pm_new(m, err) < 0)
		return -EINVAL;
	return machine_init_serial(m, err);
}

void machine_powerdown(struct machine *m)
{
	if (machine_wakeup(m, PM_WAKE_POWER_BUTTON))
		return;		/* asleep, the button wakes it */
	if (m->pm)
		piix4_pm_power_button(m->pm);
	else if (m->micro_pm)
		micro_pm_power_button(m->micro_pm);
}

bool machine_powerdown_heard(struct machine *m)
{
	if (m->pm)
		return piix4_pm_button_heard(m->pm);
	return m->micro_pm && !kvm_ioapic_pin_masked(m->kvm, BIOS_SCI_IRQ);
}
