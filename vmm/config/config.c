/* SPDX-License-Identifier: GPL-2.0-or-later */
/* config.c: entries of a configuration, and what its options left open. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/config/config.h"

#define DEFAULT_RAM (128 * MiB)

void config_init(struct config *c)
{
	memset(c, 0, sizeof(*c));
	c->version = 1;
	c->ram = DEFAULT_RAM;
	c->boot_splash_ms = -1;
}

static void free_drive(struct drive_config *d)
{
	free(d->id);
	free(d->file);
	free(d->serial);
	free(d->format);
	free(d->secret_file);
}

static void free_device(struct device_config *d)
{
	free(d->id);
	free(d->backend);
	free(d->serial);
	free(d->path);
	free(d->tag);
	free(d->hide);
}

void config_free(struct config *c)
{
	char **strings[] = { &c->name,	   &c->mem_path, &c->cpu,	 &c->kernel,	&c->initrd,
			     &c->append,   &c->bios,	 &c->boot_order, &c->boot_once, &c->display,
			     &c->vnc,	   &c->keymap,	 &c->monitor,	 &c->qmp,	&c->gdb,
			     &c->incoming, &c->loadvm,	 &c->verify,	 &c->pidfile,	&c->logfile,
			     &c->trace,	   &c->dumpdtb,	 &c->unsupported };

	for (size_t i = 0; i < ARRAY_SIZE(strings); i++)
		free(*strings[i]);
	for (unsigned i = 0; i < c->ndrives; i++)
		free_drive(&c->drives[i]);
	for (unsigned i = 0; i < c->nnets; i++) {
		free(c->nets[i].id);
		free(c->nets[i].spec);
	}
	for (unsigned i = 0; i < c->ndevices; i++)
		free_device(&c->devices[i]);
	for (unsigned i = 0; i < c->nserial; i++)
		free(c->serial[i]);
	for (unsigned i = 0; i < c->nchardevs; i++) {
		free(c->chardevs[i].id);
		free(c->chardevs[i].spec);
	}
	for (unsigned i = 0; i < c->nroms; i++)
		free(c->roms[i]);
	memset(c, 0, sizeof(*c));
}

/* --- entries that go again leave a hole --- */
/* An empty id, which no lookup asks for; the next new entry fills it. */

void config_remove_drive(struct drive_config *d)
{
	free_drive(d);
	*d = (struct drive_config){ .id = xstrdup(""), .interface = IF_NONE };
}

void config_remove_net(struct net_config *n)
{
	free(n->id);
	free(n->spec);
	*n = (struct net_config){ .id = xstrdup(""), .spec = xstrdup(""), .vlan = -1 };
}

void config_remove_device(struct device_config *d)
{
	free_device(d);
	*d = (struct device_config){ .id = xstrdup(""), .slot = -1, .vlan = -1, .bootindex = -1 };
}

struct drive_config *config_drive(struct config *c, const char *id)
{
	for (unsigned i = 0; i < c->ndrives; i++)
		if (!strcmp(c->drives[i].id, id))
			return &c->drives[i];
	return NULL;
}

struct net_config *config_net(struct config *c, const char *id)
{
	for (unsigned i = 0; i < c->nnets; i++)
		if (!strcmp(c->nets[i].id, id))
			return &c->nets[i];
	return NULL;
}

static struct device_config *find_device(struct config *c, const char *id)
{
	for (unsigned i = 0; i < c->ndevices; i++)
		if (!strcmp(c->devices[i].id, id))
			return &c->devices[i];
	return NULL;
}

/* An id names nodes of saved machines, so it keeps to letters a path can have. */
static int check_id(const char *id, struct err *err)
{
	if (!*id || strlen(id) > 64 ||
	    strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") !=
		    strlen(id))
		return err_set(err, EINVAL,
			       "id=%s: letters, digits, '-', '_' and '.' expected, at most 64", id);
	return 0;
}

struct drive_config *config_add_drive(struct config *c, const char *id, struct err *err)
{
	struct drive_config *d = config_drive(c, "");
	unsigned n = c->ndrives;
	char *name;

	if (!d && n == CONFIG_MAX_DRIVES) {
		err_set(err, E2BIG, "more than %d drives", CONFIG_MAX_DRIVES);
		return NULL;
	}
	if (id && check_id(id, err) < 0)
		return NULL;
	if (id && config_drive(c, id)) {
		err_set(err, EEXIST, "drive id=%s is taken", id);
		return NULL;
	}
	name = id ? xstrdup(id) : xasprintf("drive%u", n);
	while (!id && config_drive(c, name)) {
		free(name);
		name = xasprintf("drive%u", ++n);
	}
	if (d)
		free_drive(d);
	else
		d = &c->drives[c->ndrives++];
	*d = (struct drive_config){
		.index = -1, .bootindex = -1, .werror = BLK_ERR_ENOSPC, .rerror = BLK_ERR_REPORT
	};
	d->open.flags = BLK_RDWR | BLK_DISCARD_UNMAP;
	d->id = name;
	return d;
}

struct net_config *config_add_net(struct config *c, const char *id, const char *spec,
				  struct err *err)
{
	struct net_config *n = config_net(c, "");
	unsigned number = c->nnets;
	char *name;

	if (!n && number == CONFIG_MAX_NETS) {
		err_set(err, E2BIG, "more than %d network backends", CONFIG_MAX_NETS);
		return NULL;
	}
	if (id && check_id(id, err) < 0)
		return NULL;
	if (id && config_net(c, id)) {
		err_set(err, EEXIST, "netdev id=%s is taken", id);
		return NULL;
	}
	name = id ? xstrdup(id) : xasprintf("net%u", number);
	while (!id && config_net(c, name)) {
		free(name);
		name = xasprintf("net%u", ++number);
	}
	if (n) {
		free(n->id);
		free(n->spec);
	} else {
		n = &c->nets[c->nnets++];
	}
	*n = (struct net_config){ .vlan = -1 };
	n->id = name;
	n->spec = xstrdup(spec);
	return n;
}

struct device_config *config_add_device(struct config *c, enum device_kind kind, const char *id,
					struct err *err)
{
	struct device_config *d = find_device(c, "");
	unsigned same = 0;
	char *name;

	if (!d && c->ndevices == CONFIG_MAX_DEVICES) {
		err_set(err, E2BIG, "more than %d devices", CONFIG_MAX_DEVICES);
		return NULL;
	}
	if (id && check_id(id, err) < 0)
		return NULL;
	if (id && find_device(c, id)) {
		err_set(err, EEXIST, "device id=%s is taken", id);
		return NULL;
	}
	for (unsigned i = 0; i < c->ndevices; i++)
		same += c->devices[i].kind == kind && *c->devices[i].id;
	name = id ? xstrdup(id) : xasprintf("%s%u", device_kind_name(kind), same);
	while (!id && find_device(c, name)) {
		free(name);
		name = xasprintf("%s%u", device_kind_name(kind), ++same);
	}
	if (d)
		free_device(d);
	else
		d = &c->devices[c->ndevices++];
	*d = (struct device_config){
		.kind = kind, .slot = -1, .vlan = -1, .bootindex = -1, .ide_index = -1
	};
	d->id = name;
	return d;
}

/* --- what the options left open --- */

static bool has_ide(struct config *c)
{
	for (unsigned i = 0; i < c->ndrives; i++)
		if (c->drives[i].interface == IF_IDE && !c->drives[i].cdrom)
			return true;
	return false;
}

/* A device for each drive whose if= names one. */
static int finish_drives(struct config *c, struct err *err)
{
	bool taken[4] = { 0 };
	struct device_config *d;

	for (unsigned i = 0; i < c->ndrives; i++) {
		struct drive_config *dr = &c->drives[i];

		if (dr->interface != IF_IDE || dr->index < 0)
			continue;
		if (dr->index > 3 || taken[dr->index])
			return err_set(err, EINVAL, "drive \"%s\": IDE position %d is %s",
				       dr->file ? dr->file : dr->id, dr->index,
				       dr->index > 3 ? "beyond the four there are"
						     : "taken by another drive");
		taken[dr->index] = true;
	}
	for (unsigned i = 0; i < c->ndrives; i++) {
		struct drive_config *dr = &c->drives[i];

		if (c->snapshot && !dr->cdrom)
			dr->open.flags |= BLK_SNAPSHOT;
		if (dr->interface == IF_NONE || dr->interface == IF_PFLASH)
			continue;
		if (dr->interface == IF_VIRTIO) {
			d = config_add_device(c, DEV_VIRTIO_BLK, NULL, err);
		} else {
			if (c->machine == MACHINE_MICRO)
				return err_set(err, EINVAL,
					       "-M micro has no IDE: give the disk as -drive "
					       "file=%s,if=virtio, or take -M pc",
					       dr->file ? dr->file : "");
			/* CDs stand third, as they have since the first PCs with one. */
			for (int n = dr->cdrom ? 2 : 0; dr->index < 0 && n < 4; n++)
				if (!taken[n])
					taken[dr->index = n] = true;
			if (dr->index < 0)
				return err_set(err, EINVAL,
					       "drive \"%s\": all four IDE positions are taken "
					       "(if=virtio has room)",
					       dr->file ? dr->file : dr->id);
			d = config_add_device(c, dr->cdrom ? DEV_IDE_CD : DEV_IDE_HD, NULL, err);
		}
		if (!d)
			return -EINVAL;
		d->backend = xstrdup(dr->id);
		d->ide_index = dr->index;
		d->bootindex = dr->bootindex;
	}
	return 0;
}

bool config_is_nic(const struct device_config *d)
{
	return d->kind == DEV_VIRTIO_NET || d->kind == DEV_E1000 || d->kind == DEV_RTL8139;
}

/*
 * The old -net pairs NICs and backends of one vlan; a backend nobody pairs gets a NIC of its own.
 */
static int finish_nets(struct config *c, struct err *err)
{
	enum device_kind model = has_ide(c) && c->machine == MACHINE_PC ? DEV_E1000
									: DEV_VIRTIO_NET;

	for (unsigned i = 0; i < c->ndevices; i++)
		if (c->devices[i].kind == DEV_NONE)
			c->devices[i].kind = model;
	for (unsigned n = 0; n < c->nnets; n++) {
		struct device_config *nic = NULL;

		if (c->nets[n].vlan < 0)
			continue;
		for (unsigned i = 0; i < c->ndevices && !nic; i++)
			if (config_is_nic(&c->devices[i]) &&
			    c->devices[i].vlan == c->nets[n].vlan && !c->devices[i].backend)
				nic = &c->devices[i];
		if (!nic)
			nic = config_add_device(c, model, NULL, err);
		if (!nic)
			return -EINVAL;
		nic->vlan = c->nets[n].vlan;
		nic->backend = xstrdup(c->nets[n].id);
	}
	return 0;
}

static int finish_topology(struct config *c, struct err *err)
{
	struct cpu_topology *t = &c->topology;
	unsigned n;

	if (!c->cpus)
		c->cpus = t->sockets || t->cores || t->threads ?
			MAX(t->sockets, 1u) * MAX(t->cores, 1u) * MAX(t->threads, 1u) : 1;
	n = MAX(c->cpus, c->max_cpus);
	c->max_cpus = n;
	t->threads = MAX(t->threads, 1u);
	if (!t->cores)
		t->cores = t->sockets ? n / (t->sockets * t->threads) : n / t->threads;
	t->cores = MAX(t->cores, 1u);
	if (!t->sockets)
		t->sockets = (n + t->cores * t->threads - 1) / (t->cores * t->threads);
	if (t->sockets * t->cores * t->threads != n)
		return err_set(err, EINVAL,
			       "-smp: %u sockets x %u cores x %u threads are %u processors, not %u",
			       t->sockets, t->cores, t->threads, t->sockets * t->cores * t->threads,
			       n);
	return 0;
}

static bool config_has_device(const struct config *c, enum device_kind kind)
{
	for (unsigned i = 0; i < c->ndevices; i++)
		if (c->devices[i].kind == kind)
			return true;
	return false;
}

int config_finish(struct config *c, struct err *err)
{
	bool vga;

	if (!c->cpu)
		c->cpu = xstrdup("host");
	if (c->ram % 4096 || c->ram < 1 * MiB)
		return err_set(err, EINVAL, "-m: %lu bytes: at least 1M, and whole pages", c->ram);
	if (c->kernel && c->bios)
		return err_set(err, EINVAL,
			       "-kernel and -bios: one of them starts the machine; -kernel needs "
			       "no firmware");
	if (!c->kernel && (c->initrd || c->append))
		return err_set(err, EINVAL,
			       "-initrd and -append belong to a -kernel, and none is given");
	if (c->machine == MACHINE_MICRO && !c->kernel)
		return err_set(
			err, EINVAL,
			"-M micro has no firmware: give it a kernel (-kernel FILE), or take -M pc");
	if (!c->nserial && !c->nodefaults)
		c->serial[c->nserial++] =
			xstrdup(c->daemonize || (c->display && !strcmp(c->display, "curses")) ||
						(c->monitor && !strcmp(c->monitor, "stdio"))
					? "null"
					: "mon:stdio");
	/*
	 * Nobody looks at the screen of a -nographic machine; it does without the card, as with
	 * -nodefaults, unless one is asked for.
	 */
	vga = c->vga == CONFIG_VGA_STD ||
	      (c->vga == CONFIG_VGA_DEFAULT && c->machine == MACHINE_PC && !c->nographic &&
	       !c->nodefaults);
	if (vga && c->machine == MACHINE_MICRO)
		return err_set(err, EINVAL,
			       "-vga std: -M micro has no PCI to hold a graphics card; take -M pc");
	if (vga && !config_has_device(c, DEV_VGA) && !config_add_device(c, DEV_VGA, "vga", err))
		return -EINVAL;
	for (unsigned i = 0; i < c->ndevices; i++)
		if (c->devices[i].kind == DEV_DEBUGCON && !c->devices[i].iobase)
			c->devices[i].iobase = c->debugcon_iobase;
	if (finish_topology(c, err) < 0 || finish_drives(c, err) < 0)
		return -EINVAL;
	return finish_nets(c, err);
}
