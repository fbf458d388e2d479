/* SPDX-License-Identifier: GPL-2.0-or-later */
/* build_pc.c: the rows of what only a PC has: IDE drives and graphics. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "devices/chips.h"
#include "vmm/backends/display.h"
#include "vmm/base/event.h"
#include "vmm/base/log.h"
#include "vmm/machine/build.h"
#include "vmm/machine/drives.h"

#define VGA_SLOT 2

/* --- IDE --- */

struct ide_entry {
	struct device_config base;
	char *drive, *serial;
	int bootindex;
	int bus, unit;				/* -1: the first */
	struct drive_geometry geometry;
};

/* The IDE's loop, or the control thread that changes the medium. */
static void tray_moved(void *ctx, bool open)
{
	const struct machine_drive *md = ctx;

	event_emit("DEVICE_TRAY_MOVED", json_pack("{s:s,s:s,s:b}", "device", md->config->id, "id",
						  md->config->id, "tray-open", open));
}

static int attach_ide(struct machine *m, struct device_config *d, bool cdrom, struct err *err)
{
	struct ide_entry *e = container_of(d, struct ide_entry, base);
	struct machine_drive *md = e->drive ? machine_find_drive(m, e->drive) : NULL;
	struct ide_drive_opts o = { .cdrom = cdrom, .serial = e->serial };
	const struct drive_geometry *g = &e->geometry;
	int ret;

	e->bus = MAX(e->bus, 0);
	e->unit = MAX(e->unit, 0);
	if (e->drive && !md)
		return build_drive(m, d, e->drive, err) ? 0 : -ENOENT;
	o.blk = md ? md->blk : NULL;
	if (!o.blk && !o.cdrom)
		return err_set(err, EINVAL, "%s: an IDE disk needs a drive=", d->id);
	if (!o.serial && md)
		o.serial = md->config->serial;
	if (md && !g->cylinders && !g->heads && !g->sectors)
		g = &md->config->geometry;
	if ((g->cylinders || g->heads || g->sectors) &&
	    !(g->cylinders && g->heads && g->sectors))
		return err_set(err, EINVAL, "%s: cyls, heads and secs go together", d->id);
	o.geometry = (struct ide_geometry){ g->cylinders, g->heads, g->sectors,
					    MAX(g->translation, 0) };
	if (md && o.cdrom) {
		o.tray_moved = tray_moved;
		o.tray_ctx = md;
	}
	ret = piix3_ide_attach(m->ide, e->bus * 2 + e->unit, &o, err);
	if (ret == 0 && md) {
		md->on_ide = true;
		md->ide_unit = e->bus * 2 + e->unit;
	}
	return ret;
}

static int build_ide_hd(struct machine *m, struct device_config *d, struct err *err)
{
	return attach_ide(m, d, false, err);
}

static int build_ide_cd(struct machine *m, struct device_config *d, struct err *err)
{
	return attach_ide(m, d, true, err);
}

static char *ide_path(struct machine *m, const struct device_config *d)
{
	const struct ide_entry *e = container_of(d, struct ide_entry, base);

	return xasprintf("/pci@i0cf8/ide@1,1/drive@%x/disk@%x", e->bus, e->unit);
}

static const char *const ide_buses[] = { "ide.0", "ide.1", NULL };
/* What disks and CD drives have. */
#define IDE_PROPS                                                                                  \
	{ "drive", NULL, PROP_DRIVE, offsetof(struct ide_entry, drive),                            \
	  .help = "the -drive that it shows; a CD drive may be empty" },                           \
		PROP_BOOT(struct ide_entry),                                                       \
		{ "bus",                                                                           \
		  NULL,                                                                            \
		  PROP_CHOICE,                                                                     \
		  offsetof(struct ide_entry, bus),                                                 \
		  .def = -1,                                                                       \
		  .words = ide_buses,                                                              \
		  .help = "its channel" },                                                         \
		{ "unit",                                                                          \
		  NULL,                                                                            \
		  PROP_INDEX,                                                                      \
		  offsetof(struct ide_entry, unit),                                                \
		  .max = 1,                                                                        \
		  .value = "0|1",                                                                  \
		  .help = "its place on the channel" },                                            \
	{                                                                                          \
		"serial", NULL, PROP_STRING, offsetof(struct ide_entry, serial),                   \
			.help = "the serial number that the guest reads"                           \
	}
static const struct prop ide_hd_props[] = {
	IDE_PROPS,
	PROP_GEOMETRY(offsetof(struct ide_entry, geometry)),
	{ 0 },
};
static const struct prop ide_cd_props[] = { IDE_PROPS, { 0 } };

const struct device_kind kind_ide_hd = {
	.name = "ide-hd",
	.aliases = { "ide-drive" },
	.help = "IDE disk",
	.machines = ON_PC,
	.size = sizeof(struct ide_entry),
	.props = ide_hd_props,
	.build = build_ide_hd,
	.boot_path = ide_path,
};

const struct device_kind kind_ide_cd = {
	.name = "ide-cd",
	.help = "IDE CD-ROM drive",
	.machines = ON_PC,
	.size = sizeof(struct ide_entry),
	.props = ide_cd_props,
	.build = build_ide_cd,
	.boot_path = ide_path,
};

/* --- graphics --- */

static int build_vga(struct machine *m, struct device_config *d, struct err *err)
{
	static const char rom[] = "/usr/share/seabios/vgabios-stdvga.bin";
	struct vga_opts o = { .id = d->id, .rom_fd = -1 };
	struct err none = { "" };

	if (m->display)
		return err_set(err, ENOTSUP,
			       "-device VGA: the machine has a graphics card already");
	if (build_slot(m, d, VGA_SLOT, &o.devfn, err) < 0)
		return -EBUSY;
	/* A kernel's own driver needs no video BIOS. */
	if ((!m->config->kernel || machine_has_viewer(m->config)) &&
	    (o.rom_fd = host_open(&m->host, "option ROM", rom, O_RDONLY, 0, &none)) < 0)
		log_warn("%s: no video BIOS, the screen stays dark until the guest's driver runs: "
			 "%s (apt-get install seabios)",
			 d->id, none.msg);
	m->vga = vga_new(m->pci, &o, err);
	if (o.rom_fd >= 0)
		close(o.rom_fd);
	if (m->vga)
		m->display = vga_display(m->vga);
	return build_done(m, d, m->vga);
}

const struct device_kind kind_vga = {
	.name = "VGA",
	.aliases = { "vga", "stdvga" },
	.help = "graphics card",
	.machines = ON_PC,
	.size = sizeof(struct pci_entry),
	.props = build_pci_props,
	.build = build_vga,
};
