/* SPDX-License-Identifier: GPL-2.0-or-later */
/* config.c: entries of a configuration, and what its options left open. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/base/log.h"
#include "vmm/base/nearest.h"
#include "vmm/config/config.h"

#define DEFAULT_RAM (128 * MiB)

void config_init(struct config *c, const struct device_kind *const *kinds)
{
	memset(c, 0, sizeof(*c));
	c->kinds = kinds;
	c->version = 1;
	c->ram = DEFAULT_RAM;
	c->boot_splash_ms = -1;
	c->shutdown_timeout = CONFIG_SHUTDOWN_TIMEOUT;
	c->pit = c->acpi = c->hpet = true;
}

static void free_drive(struct drive_config *d)
{
	free(d->id);
	props_free(drive_props, d);
}

static void free_device(struct device_config *d)
{
	free(d->id);
	props_free(d->kind->props, d);
	free(d);
}

void config_free(struct config *c)
{
	char **strings[] = { &c->name,	   &c->mem_path, &c->cpu,	 &c->kernel,	&c->initrd,
			     &c->append,   &c->bios,	 &c->boot_order, &c->boot_once, &c->display,
			     &c->vnc,	   &c->keymap,	 &c->monitor,	 &c->qmp,	&c->gdb,
			     &c->incoming, &c->loadvm,	 &c->verify,	 &c->pidfile,	&c->logfile,
			     &c->trace,	   &c->dumpdtb,	 &c->unsupported, &c->accel,
			     &c->rtc_text, &c->rtc_driftfix };

	for (size_t i = 0; i < ARRAY_SIZE(strings); i++)
		free(*strings[i]);
	for (unsigned i = 0; i < c->ndrives; i++)
		free_drive(&c->drives[i]);
	for (unsigned i = 0; i < c->nnets; i++) {
		free(c->nets[i].id);
		free(c->nets[i].spec);
	}
	for (unsigned i = 0; i < c->ndevices; i++)
		free_device(c->devices[i]);
	for (unsigned i = 0; i < c->nserial; i++)
		free(c->serial[i]);
	for (unsigned i = 0; i < c->nchardevs; i++) {
		free(c->chardevs[i].id);
		free(c->chardevs[i].spec);
		free(c->chardevs[i].arg);
	}
	for (unsigned i = 0; i < c->nroms; i++)
		free(c->roms[i]);
	for (unsigned i = 0; i < c->nimage_dirs; i++)
		free(c->image_dirs[i]);
	for (unsigned i = 0; i < c->nglobals; i++)
		free(c->globals[i].value);
	memset(c, 0, sizeof(*c));
}

/* --- entries that go again --- */
/*
 * A drive or network leaves a hole, for others stand parallel to them: an empty id, which no lookup
 * asks for; the next new entry fills it.
 */

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

void config_remove_device(struct config *c, struct device_config *d)
{
	unsigned i = 0;

	while (i < c->ndevices && c->devices[i] != d)
		i++;
	if (i == c->ndevices)
		return;
	c->ndevices--;
	memmove(c->devices + i, c->devices + i + 1, (c->ndevices - i) * sizeof(c->devices[0]));
	free_device(d);
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
		if (!strcmp(c->devices[i]->id, id))
			return c->devices[i];
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
	*d = (struct drive_config){ .interface = IF_VIRTIO, .index = -1 };
	props_init(drive_props, d);
	config_drive_open(d);
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

/* --- devices --- */

static const struct device_kind *find_kind(struct config *c, const char *name, struct err *err)
{
	const struct device_kind *k = device_kind_find(c->kinds, name);
	const char *all[256], *near;
	unsigned n = 0;

	if (k)
		return k;
	for (unsigned i = 0; c->kinds[i]; i++) {
		if (n < ARRAY_SIZE(all) - 1)
			all[n++] = c->kinds[i]->name;
		for (size_t a = 0; a < ARRAY_SIZE(k->aliases); a++)
			if (c->kinds[i]->aliases[a] && n < ARRAY_SIZE(all) - 1)
				all[n++] = c->kinds[i]->aliases[a];
	}
	all[n] = NULL;
	near = nearest_name(name, all);
	err_set(err, ENODEV, "no device is called \"%s\"%s%s%s (-device help lists them)", name,
		near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
	return NULL;
}

static int name_device(struct config *c, struct device_config *d, const char *id, struct err *err)
{
	unsigned same = 0;

	if (id && check_id(id, err) < 0)
		return -EINVAL;
	if (id && find_device(c, id))
		return err_set(err, EEXIST, "device id=%s is taken", id);
	for (unsigned i = 0; i < c->ndevices; i++)
		same += c->devices[i]->kind == d->kind && !c->devices[i]->any_model;
	d->id = id ? xstrdup(id) : xasprintf("%s%u", d->kind->name, same);
	while (!id && find_device(c, d->id)) {
		free(d->id);
		d->id = xasprintf("%s%u", d->kind->name, ++same);
	}
	return 0;
}

/* -global: what a device does not say itself. */
static int take_globals(struct config *c, struct device_config *d, struct err *err)
{
	int ret = 0;

	for (unsigned g = 0; ret == 0 && g < c->nglobals; g++)
		if (d->kind == c->globals[g].kind && prop_is_default(c->globals[g].prop, d))
			ret = prop_set(c->globals[g].prop, d, c->globals[g].value, err);
	return ret;
}

struct new_device { struct config *c; struct device_config *d; };

static int take_device(struct keyval *kv, void *ctx, struct err *err)
{
	struct new_device *n = ctx;
	const char *driver = keyval_get(kv, "driver");
	const struct device_kind *k = find_kind(n->c, driver ? driver : "", err);

	if (!k)
		return -ENODEV;
	if (n->c->ndevices == CONFIG_MAX_DEVICES)
		return err_set(err, E2BIG, "more than %d devices", CONFIG_MAX_DEVICES);
	n->d = xcalloc(1, k->size);
	n->d->kind = k;
	n->d->vlan = -1;
	props_init(k->props, n->d);
	if (name_device(n->c, n->d, keyval_get(kv, "id"), err) < 0)
		return -EINVAL;
	return props_take(k->props, n->d, kv, err);
}

struct device_config *config_add_device(struct config *c, const char *spec, struct err *err)
{
	struct new_device n = { c, NULL };

	if (keyval_use(spec, "driver", take_device, &n, err) == 0 &&
	    take_globals(c, n.d, err) == 0)
		return c->devices[c->ndevices++] = n.d;
	if (n.d)
		free_device(n.d);
	return NULL;
}

struct device_config *config_add_device_with(struct config *c, const char *kind, const char *key,
					     const char *value, struct err *err)
{
	struct device_config *d;
	char *spec = NULL;
	size_t len;
	FILE *out = open_memstream(&spec, &len);

	if (!out) {
		err_set(err, ENOMEM, "%s", strerror(ENOMEM));
		return NULL;
	}
	fputs(kind, out);
	keyval_put(out, key, value);
	fclose(out);
	d = config_add_device(c, spec, err);
	free(spec);
	return d;
}

struct device_config *config_parse_device(struct config *c, const char *spec, struct err *err)
{
	struct device_config *d = config_add_device(c, spec, err);

	if (!d)
		err_prefix(err, "-device %s", spec);
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
	char *spec;

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
			dr->snapshot = true;
		config_drive_open(dr);
		if (dr->interface == IF_NONE || dr->interface == IF_PFLASH)
			continue;
		if (dr->interface == IF_VIRTIO) {
			spec = xasprintf("virtio-blk,drive=%s", dr->id);
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
			spec = xasprintf("%s,drive=%s,bus=ide.%d,unit=%d",
					 dr->cdrom ? "ide-cd" : "ide-hd", dr->id, dr->index / 2,
					 dr->index % 2);
		}
		d = config_add_device(c, spec, err);
		free(spec);
		if (!d)
			return -EINVAL;
		*(int *)device_prop(d, PROP_BOOTINDEX) = dr->bootindex;
	}
	return 0;
}

/*
 * A nic of no model becomes one of this: what was said of it must fit that, too. Its id stays as it
 * was made up, and so does its place.
 */
static int choose_model(struct config *c, struct device_config **d, const char *model,
			struct err *err)
{
	struct device_config *old = *d, *new;
	char *text = device_text(old), *spec;

	old->any_model = false;
	if (!strcmp(old->kind->name, model)) {
		free(text);
		return 0;
	}
	spec = xasprintf("%s%s", model, strchr(text, ','));
	/* The old one makes room for the id. */
	*old->id = 0;
	new = config_add_device(c, spec, err);
	free(text);
	free(spec);
	if (!new)
		return -EINVAL;
	new->vlan = old->vlan;
	c->ndevices--;
	*d = new;
	free_device(old);
	return 0;
}

/*
 * The old -net pairs NICs and backends of one vlan; a backend nobody pairs gets a NIC of its own.
 */
static int finish_nets(struct config *c, struct err *err)
{
	const char *model = has_ide(c) && c->machine == MACHINE_PC ? "e1000" : "virtio-net";

	for (unsigned i = 0; i < c->ndevices; i++)
		if (c->devices[i]->any_model && choose_model(c, &c->devices[i], model, err) < 0)
			return -EINVAL;
	for (unsigned n = 0; n < c->nnets; n++) {
		struct device_config *nic = NULL;

		if (c->nets[n].vlan < 0)
			continue;
		for (unsigned i = 0; i < c->ndevices && !nic; i++)
			if (device_is_nic(c->devices[i]) &&
			    c->devices[i]->vlan == c->nets[n].vlan &&
			    !device_backend(c->devices[i]))
				nic = c->devices[i];
		if (!nic)
			nic = config_add_device(c, model, err);
		if (!nic)
			return -EINVAL;
		nic->vlan = c->nets[n].vlan;
		*(char **)device_prop(nic, PROP_NETDEV) = xstrdup(c->nets[n].id);
	}
	/* kvm joined all of a vlan by a hub; here a card has a network of its own. */
	for (unsigned i = 0; i < c->ndevices; i++)
		if (device_is_nic(c->devices[i]) && c->devices[i]->vlan >= 0 &&
		    !device_backend(c->devices[i]))
			log_warn("network card %s (%s) has no network: -net nic and -net tap or "
				 "user are "
				 "joined in pairs, in their order; several guests or cards on one "
				 "network "
				 "want a bridge (-net tap,BRIDGE for each)",
				 c->devices[i]->id, c->devices[i]->kind->name);
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
	if (n > c->cpus)
		log_warn("-smp maxcpus=%u: processors cannot be added to a machine that runs; the "
			 "guest "
			 "has %u",
			 n, c->cpus);
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

static bool has_device(const struct config *c, const char *kind)
{
	for (unsigned i = 0; i < c->ndevices; i++)
		if (!strcmp(c->devices[i]->kind->name, kind))
			return true;
	return false;
}

/* For those that came before their -global. */
static int finish_globals(struct config *c, struct err *err)
{
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < c->ndevices; i++)
		ret = take_globals(c, c->devices[i], err);
	return ret;
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
	if (vga && !has_device(c, "VGA") && !config_add_device(c, "VGA,id=vga", err))
		return -EINVAL;
	if (finish_topology(c, err) < 0 || finish_drives(c, err) < 0 || finish_nets(c, err) < 0)
		return -EINVAL;
	return finish_globals(c, err);
}
