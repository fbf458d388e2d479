/* SPDX-License-Identifier: GPL-2.0-or-later */
/* build_isa.c: the rows of devices at ports, and of the generation id: both machines have them. */
#include <errno.h>

#include "bios/boot.h"
#include "devices/chips.h"
#include "vmm/base/log.h"
#include "vmm/machine/build.h"

#define DEBUG_EXIT_PORT 0x501
#define DEBUG_EXIT_SIZE 2
#define DEBUGCON_PORT 0x402

/* A device at a port. */
struct port_entry {
	struct device_config base;
	unsigned iobase, iosize;		/* 0: the device's default */
	char *chardev;
};

#define PROP_IOBASE                                                                                \
	{ "iobase", NULL, PROP_NUMBER, offsetof(struct port_entry, iobase), .max = 0xffff,         \
	  .hex = true, .value = "PORT", .help = "where it is" }

static uint16_t port_of(const struct port_entry *e)
{
	return e->iobase ? e->iobase : e->base.kind->port;
}

/* --- isa-debug-exit --- */

static int build_debug_exit(struct machine *m, struct device_config *d, struct err *err)
{
	struct port_entry *e = container_of(d, struct port_entry, base);

	return build_done(m, d,
			  isa_debug_exit_new(m->pio, port_of(e),
					     e->iosize ? e->iosize : DEBUG_EXIT_SIZE, m->vm,
					     m->loop, err));
}

static const struct prop debug_exit_props[] = {
	PROP_IOBASE,
	{ "iosize", NULL, PROP_NUMBER, offsetof(struct port_entry, iosize), .min = 1, .max = 8,
	  .power_of_2 = true, .help = "how many ports" },
	{ 0 },
};

const struct device_kind kind_debug_exit = {
	.name = "isa-debug-exit",
	.help = "a write of v ends with exit status v*2+1",
	.machines = ON_PC | ON_MICRO,
	.size = sizeof(struct port_entry),
	.props = debug_exit_props,
	.build = build_debug_exit,
	.port = DEBUG_EXIT_PORT,
};

/* --- isa-debugcon --- */

static int build_debugcon(struct machine *m, struct device_config *d, struct err *err)
{
	struct port_entry *e = container_of(d, struct port_entry, base);
	struct chardev *chr;
	int ret = build_chardev(m, d, e->chardev ? e->chardev : "stdio", &chr, err);

	if (ret < 0)
		return ret;
	return build_done(m, d, debugport_new(m->pio, port_of(e), chr, m->loop, err));
}

static const struct prop debugcon_props[] = {
	PROP_IOBASE,
	{ "chardev", NULL, PROP_CHARDEV, offsetof(struct port_entry, chardev),
	  .help = "where it goes: a -chardev, or as -serial has it; stdio" },
	{ 0 },
};

const struct device_kind kind_debugcon = {
	.name = "isa-debugcon",
	.help = "debug console port",
	.machines = ON_PC | ON_MICRO,
	.size = sizeof(struct port_entry),
	.props = debugcon_props,
	.build = build_debugcon,
	.port = DEBUGCON_PORT,
};

/* --- those that have no properties --- */

static int build_pvpanic(struct machine *m, struct device_config *d, struct err *err)
{
	return build_done(m, d, pvpanic_new(m->pio, d->kind->port, m->vm, m->loop, err));
}

const struct device_kind kind_pvpanic = {
	.name = "pvpanic",
	.help = "tells when the guest panics",
	.machines = ON_PC | ON_MICRO,
	.size = sizeof(struct device_config),
	.build = build_pvpanic,
	.acpi = &acpi_pvpanic,
	.port = PVPANIC_PORT,
};

static int build_pc_testdev(struct machine *m, struct device_config *d, struct err *err)
{
	struct pc_testdev_wires w = { m->pio, m->mmio, m->mem, m->irqs };

	return build_done(m, d, pc_testdev_new(&w, m->loop, err));
}

const struct device_kind kind_pc_testdev = {
	.name = "pc-testdev",
	.help = "ports of kvm-unit-tests",
	.machines = ON_PC | ON_MICRO,
	.size = sizeof(struct device_config),
	.build = build_pc_testdev,
};

/* --- the generation id --- */

struct vmgenid_entry {
	struct device_config base;
	/* not given: a new one whenever the machine is copied */
	struct prop_uuid guid;
};

static void generation_changed(void *ctx)
{
	struct machine *m = ctx;

	if (m->pm)
		piix4_pm_gpe(m->pm, BIOS_GPE_VMGENID);
	else
		micro_pm_generation(m->micro_pm);
}

static int build_vmgenid(struct machine *m, struct device_config *d, struct err *err)
{
	struct vmgenid_entry *e = container_of(d, struct vmgenid_entry, base);
	struct vmgenid_opts o = { .gpa = VMGENID_GPA,
				  .has_uuid = e->guid.set,
				  .changed = generation_changed,
				  .ctx = m };

	if (m->vmgenid)
		return err_set(err, EEXIST, "-device vmgenid: the machine has one already");
	memcpy(o.uuid, e->guid.bytes, sizeof(o.uuid));
	m->vmgenid = vmgenid_new(m->mem, m->loop, &o, err);
	return build_done(m, d, m->vmgenid);
}

void machine_copied(struct machine *m)
{
	int ret = m->vmgenid ? vmgenid_renew(m->vmgenid) : 0;

	if (ret < 0)
		log_error("the generation id stays: %s", strerror(-ret));
}

static const struct prop vmgenid_props[] = {
	{ "guid", NULL, PROP_UUID, offsetof(struct vmgenid_entry, guid),
	  .help = "auto: another one whenever a saved machine starts" },
	{ 0 },
};

const struct device_kind kind_vmgenid = {
	.name = "vmgenid",
	.help = "generation id: changes when a saved machine is started again",
	.machines = ON_PC | ON_MICRO,
	.size = sizeof(struct vmgenid_entry),
	.props = vmgenid_props,
	.build = build_vmgenid,
	.acpi = &acpi_vmgenid,
};
