/* SPDX-License-Identifier: GPL-2.0-or-later */
/* build_virtio.c: the rows of virtio devices; the network card is in build_nic.c. */
#include <errno.h>

#include "devices/virtio/virtio.h"
#include "vmm/base/event.h"
#include "vmm/machine/build.h"
#include "vmm/machine/drives.h"

/* --- disk --- */

struct blk_entry {
	struct device_config base;
	struct prop_pci addr;
	char *drive, *serial;
	int bootindex;
	unsigned queues, queue_size;		/* 0: one; the device's default */
	bool packed, iothread;			/* iothread: its queues on a thread of their own */
};

static int build_blk(struct machine *m, struct device_config *d, struct err *err)
{
	struct blk_entry *e = container_of(d, struct blk_entry, base);
	struct machine_drive *md = build_drive(m, d, e->drive, err);
	struct virtio_blk_config_opts o = { .nqueues = e->queues ? e->queues : 1,
					    .queue_size = e->queue_size,
					    .packed = e->packed };
	struct queue_threads threads = { 0 };

	if (!md)
		return -ENOENT;
	o.blk = md->blk;
	if (md->config->geometry.cylinders || md->config->geometry.translation)
		return err_set(err, EINVAL,
			       "drive \"%s\": cyls=, heads=, secs= and trans= are for if=ide",
			       md->config->id);
	o.serial = e->serial ? e->serial : md->config->serial;
	if (e->iothread && build_threads(m, &threads, d->id, 1, false, err) < 0)
		return -EAGAIN;
	return build_virtio(
		m, d,
		virtio_blk_new(d->id, e->iothread ? threads.loops[0] : m->loop, m->mem, &o, err),
		&threads, err);
}

static char *blk_path(struct machine *m, const struct device_config *d)
{
	return build_pci_path(m, d, "scsi", "disk@0,0");
}

static const struct prop blk_props[] = {
	PROP_PCI_ADDR(struct blk_entry),
	PROP_PCI_BUS,
	{ "drive", NULL, PROP_DRIVE, offsetof(struct blk_entry, drive),
	  .help = "the -drive that it shows" },
	PROP_BOOT(struct blk_entry),
	PROP_QUEUES(struct blk_entry),
	{ "iothread", NULL, PROP_BOOL, offsetof(struct blk_entry, iothread),
	  .help = "its requests have a thread of their own" },
	{ "serial", NULL, PROP_STRING, offsetof(struct blk_entry, serial),
	  .help = "the serial number that the guest reads" },
	{ 0 },
};

const struct device_kind kind_virtio_blk = {
	.name = "virtio-blk",
	.aliases = { "virtio-blk-pci", "virtio-blk-device" },
	.help = "disk",
	.machines = ON_PC | ON_MICRO,
	.hotplugs = true,
	.size = sizeof(struct blk_entry),
	.props = blk_props,
	.build = build_blk,
	.boot_path = blk_path,
};

/* --- console --- */

struct console_entry {
	struct device_config base;
	struct prop_pci addr;
	char *chardev;
};

static int build_console(struct machine *m, struct device_config *d, struct err *err)
{
	struct console_entry *e = container_of(d, struct console_entry, base);
	struct chardev *chr = NULL;
	int ret = e->chardev ? build_chardev(m, d, e->chardev, &chr, err) : 0;

	if (ret < 0)
		return ret;
	return build_virtio(m, d, virtio_console_new(d->id, m->loop, m->mem, chr, err), NULL, err);
}

static const struct prop console_props[] = {
	PROP_PCI_ADDR(struct console_entry),
	PROP_PCI_BUS,
	{ "chardev", NULL, PROP_CHARDEV, offsetof(struct console_entry, chardev),
	  .help = "where it goes: a -chardev, or as -serial has it" },
	{ 0 },
};

const struct device_kind kind_virtio_console = {
	.name = "virtio-console",
	.aliases = { "virtconsole", "virtio-serial-pci" },
	.help = "console",
	.machines = ON_PC | ON_MICRO,
	.size = sizeof(struct console_entry),
	.props = console_props,
	.build = build_console,
};

/* --- shared folder --- */

struct p9_entry {
	struct device_config base;
	struct prop_pci addr;
	char *path, *tag, *hide;		/* hide: paths to cover with colons between */
	bool readonly, pipes;
};

static int build_9p(struct machine *m, struct device_config *d, struct err *err)
{
	struct p9_entry *e = container_of(d, struct p9_entry, base);
	struct virtio_9p_opts o = { .path = e->path,
				    .tag = e->tag,
				    .hide = e->hide,
				    .readonly = e->readonly,
				    .pipes = e->pipes,
				    .host = &m->host };

	if (!e->path || !e->tag)
		return err_set(err, EINVAL, "%s %s: path= and mount_tag= are needed", d->kind->name,
			       d->id);
	return build_virtio(m, d, virtio_9p_new(d->id, m->loop, m->mem, &o, err), NULL, err);
}

static const struct prop p9_props[] = {
	PROP_PCI_ADDR(struct p9_entry),
	PROP_PCI_BUS,
	{ "path", NULL, PROP_STRING, offsetof(struct p9_entry, path), .value = "DIR",
	  .help = "the folder that is shared" },
	{ "mount_tag", NULL, PROP_STRING, offsetof(struct p9_entry, tag), .value = "NAME",
	  .help = "what the guest mounts" },
	{ "readonly", NULL, PROP_BOOL, offsetof(struct p9_entry, readonly),
	  .help = "the guest cannot write" },
	{ "pipes", NULL, PROP_BOOL, offsetof(struct p9_entry, pipes),
	  .help = "named pipes of the host can be opened" },
	{ "hide", NULL, PROP_STRING, offsetof(struct p9_entry, hide), .value = "PATH[:PATH]",
	  .help = "the guest finds nothing there" },
	{ 0 },
};

const struct device_kind kind_virtio_9p = {
	.name = "virtio-9p",
	.aliases = { "virtio-9p-pci", "virtio-9p-device" },
	.help = "shared folder",
	.machines = ON_PC | ON_MICRO,
	.hotplugs = true,
	.size = sizeof(struct p9_entry),
	.props = p9_props,
	.build = build_9p,
};

/* --- those with nothing to say but their place --- */

static int build_rng(struct machine *m, struct device_config *d, struct err *err)
{
	return build_virtio(m, d, virtio_rng_new(d->id, m->loop, m->mem, err), NULL, err);
}

const struct device_kind kind_virtio_rng = {
	.name = "virtio-rng",
	.aliases = { "virtio-rng-pci", "virtio-rng-device" },
	.help = "random numbers",
	.machines = ON_PC | ON_MICRO,
	.hotplugs = true,
	.size = sizeof(struct pci_entry),
	.props = build_pci_props,
	.build = build_rng,
};

static void balloon_changed(void *ctx, uint64_t actual)
{
	event_limit_emit(ctx, json_pack("{s:I}", "actual", (json_int_t)actual));
}

static int build_balloon(struct machine *m, struct device_config *d, struct err *err)
{
	struct virtio_dev *v = virtio_balloon_new(d->id, m->loop, m->mem, err);

	if (v)
		virtio_balloon_on_change(v, balloon_changed, &m->balloon_event);
	return build_virtio(m, d, v, NULL, err);
}

const struct device_kind kind_virtio_balloon = {
	.name = "virtio-balloon",
	.aliases = { "virtio-balloon-pci", "virtio-balloon-device" },
	.help = "memory balloon",
	.machines = ON_PC | ON_MICRO,
	.hotplugs = true,
	.size = sizeof(struct pci_entry),
	.props = build_pci_props,
	.build = build_balloon,
};

static int build_tablet(struct machine *m, struct device_config *d, struct err *err)
{
	struct virtio_dev *v = virtio_input_new(d->id, m->loop, m->mem, true, err);
	int ret = build_virtio(m, d, v, NULL, err);

	if (!ret)
		m->tablet = v;
	return ret;
}

const struct device_kind kind_virtio_tablet = {
	.name = "virtio-tablet",
	.aliases = { "virtio-tablet-pci" },
	.help = "absolute pointer",
	.machines = ON_PC | ON_MICRO,
	.hotplugs = true,
	.size = sizeof(struct pci_entry),
	.props = build_pci_props,
	.build = build_tablet,
};
