/* SPDX-License-Identifier: GPL-2.0-or-later */
/* build_isa.c: the rows of debug console, panic port and generation id. */
#include <errno.h>

#include "bios/boot.h"
#include "devices/chips.h"
#include "vmm/base/log.h"
#include "vmm/machine/build.h"

#define DEBUGCON_PORT 0x402

/* --- isa-debugcon --- */

struct debugcon_entry {
	struct device_config base;
	unsigned iobase;			/* 0: the usual one */
	char *chardev;
};

static int build_debugcon(struct machine *m, struct device_config *d, struct err *err)
{
	struct debugcon_entry *e = container_of(d, struct debugcon_entry, base);
	struct chardev *chr;
	int ret = build_chardev(m, d, e->chardev ? e->chardev : "stdio", &chr, err);

	if (ret < 0)
		return ret;
	return build_done(m, d, debugport_new(m->pio, e->iobase ? e->iobase : d->kind->port, chr,
					m->loop, err));
}

static const struct prop debugcon_props[] = {
	PROP_PORT(struct debugcon_entry, iobase),
	{ "chardev", NULL, PROP_CHARDEV, offsetof(struct debugcon_entry, chardev),
	  .help = "where it goes: a -chardev, or as -serial has it; stdio" },
	{ 0 },
};

const struct device_kind kind_debugcon = {
	.name = "isa-debugcon",
	.help = "debug console port",
	.machines = ON_PC | ON_MICRO,
	.size = sizeof(struct debugcon_entry),
	.props = debugcon_props,
	.build = build_debugcon,
	.port = DEBUGCON_PORT,
};

/* --- pvpanic --- */

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
