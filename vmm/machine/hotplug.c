/* SPDX-License-Identifier: GPL-2.0-or-later */
/* hotplug.c: see hotplug.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "devices/chips.h"
#include "devices/pci/pci.h"
#include "vmm/base/event.h"
#include "vmm/base/log.h"
#include "vmm/machine/drives.h"
#include "vmm/machine/hotplug.h"
#include "vmm/machine/jobs.h"
#include "vmm/machine/machine_state.h"

/* a short reader (stop, cont) is waited for, a migration is not */
#define SHAPE_SECONDS 2

/* The shape for writing, and the main loop. */
static int shape_lock(struct machine *m, struct err *err)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += SHAPE_SECONDS;
	if (pthread_rwlock_timedwrlock(&m->shape, &end))
		return err_set(err, EBUSY,
			       "the machine is being saved or moved: its parts cannot change now");
	loop_lock(m->loop);
	return 0;
}

static void shape_unlock(struct machine *m)
{
	loop_unlock(m->loop);
	pthread_rwlock_unlock(&m->shape);
}

/* The device that shows a drive or network, or NULL. */
static struct machine_device *user_of(struct machine *m, const char *backend)
{
	for (unsigned i = 0; i < m->ndevices; i++) {
		const struct device_config *c = m->devices[i].config;

		if (c && device_backend(c) && !strcmp(device_backend(c), backend))
			return &m->devices[i];
	}
	return NULL;
}

/* --- devices --- */

static struct machine_device *device_in_slot(struct machine *m, unsigned slot)
{
	struct pci_dev *p = pci_bus_find(m->pci, PCI_DEVFN(slot, 0));

	for (unsigned i = 0; p && i < m->ndevices; i++)
		if (m->devices[i].dev == &p->dev)
			return &m->devices[i];
	return NULL;
}

static int slot_of(struct machine *m, const struct machine_device *d)
{
	for (unsigned slot = 0; slot < PCI_SLOTS; slot++)
		if (device_in_slot(m, slot) == d)
			return slot;
	return -ENOENT;
}

/* Empty slots, and those whose device may go. */
static void set_removable(struct machine *m)
{
	uint32_t slots = 0;

	for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
		struct machine_device *d = device_in_slot(m, slot);
		bool may = d ? d->config && d->config->kind->hotplugs
			     : !pci_bus_find(m->pci, PCI_DEVFN(slot, 0));

		for (unsigned func = 1; func < PCI_FUNCS; func++)
			may &= !pci_bus_find(m->pci, PCI_DEVFN(slot, func));
		slots |= may ? 1u << slot : 0;
	}
	acpi_hotplug_set_removable(m->hotplug, slots);
}

void hotplug_init(struct machine *m)
{
	if (m->hotplug)
		set_removable(m);
}

static int check_new_device(struct machine *m, const struct device_config *d, struct err *err)
{
	const struct prop_pci *at = device_prop(d, PROP_PCI);

	if (!d->kind->hotplugs)
		return err_set(err, ENOTSUP, "Device '%s' does not support hotplugging",
			       d->kind->name);
	if (!m->hotplug)
		return err_set(
			err, ENOTSUP,
			"-M micro has no bus that devices can be plugged into; -M pc has one");
	if (at && at->func)
		return err_set(err, EINVAL,
			       "addr=%x.%d: only function 0 of a slot can be plugged in", at->slot,
			       at->func);
	if (device_backend(d) && user_of(m, device_backend(d)))
		return err_set(err, EBUSY, "'%s' is already in use by device '%s'",
			       device_backend(d), user_of(m, device_backend(d))->config->id);
	return 0;
}

int hotplug_add_device(struct machine *m, const char *spec, struct err *err)
{
	struct device_config *d;
	int ret = shape_lock(m, err), slot;

	if (ret < 0)
		return ret;
	d = config_parse_device(m->config, spec, err);
	ret = d ? check_new_device(m, d, err) : -EINVAL;
	if (ret == 0)
		ret = device_build(m, d, err);
	if (ret < 0) {
		if (d)
			config_remove_device(m->config, d);
		goto out;
	}
	set_removable(m);
	slot = slot_of(m, machine_find_device(m, d->id));
	if (slot >= 0)
		acpi_hotplug_plugged(m->hotplug, slot);
out:
	shape_unlock(m);
	return ret;
}

int hotplug_del_device(struct machine *m, const char *id, struct err *err)
{
	struct machine_device *d;
	int ret = shape_lock(m, err), slot;

	if (ret < 0)
		return ret;
	d = machine_find_device(m, id);
	slot = d && m->pci ? slot_of(m, d) : -ENOENT;
	if (!d)
		ret = err_set(err, ENODEV, "Device '%s' not found", id);
	else if (slot < 0 || !m->hotplug || !d->config->kind->hotplugs)
		ret = err_set(err, ENOTSUP, "Device '%s' does not support unplugging", id);
	else if (device_backend(d->config) &&
		 jobs_use(machine_find_drive(m, device_backend(d->config))))
		ret = err_set(err, EBUSY, "Device '%s' is used by a block job (query-jobs)", id);
	else if (!acpi_hotplug_unplug_request(m->hotplug, slot))
		ret = err_set(err, EALREADY, "Device %s is already in the process of unplug", id);
	shape_unlock(m);
	return ret;
}

/* --- a device's way out --- */

struct eject {
	struct machine *m;
	unsigned slot;
	struct machine_device d;	/* a copy: the entry goes */
	char *id, *backend;
};

/* Exclusive section: nothing of the guest and no loop runs. */
static void take_out(void *ctx)
{
	struct eject *e = ctx;
	struct machine *m = e->m;
	struct machine_device *d = device_in_slot(m, e->slot);

	if (m->tablet && m->tablet == d->virtio)
		m->tablet = NULL;
	device_destroy(d->dev);
	m->ndevices--;
	memmove(d, d + 1, (m->devices + m->ndevices - d) * sizeof(*d));
	config_remove_device(m->config, e->d.config);
	acpi_hotplug_ejected(m->hotplug, e->slot);
	set_removable(m);
}

/*
 * A drive that nobody wants to keep goes with its device. Shape and loop locked; gives what is to
 * be closed.
 */
static struct blk *forget_drive(struct machine_drive *d)
{
	struct blk *b = d->blk;

	machine_drive_put(d, NULL, false);
	config_remove_drive(d->config);
	return b;
}

static void close_drive(struct blk *b, const char *id)
{
	int ret = b ? blk_close(b) : 0;

	if (ret < 0)
		log_error("drive %s: closing: %s: the last writes may be lost", id, strerror(-ret));
}

static void eject_device(struct eject *e)
{
	struct machine *m = e->m;
	struct machine_drive *drive;
	struct blk *b = NULL;
	struct err err = { "" };

	if (machine_quiesce_device(m, e->d.dev, &err) < 0) {
		log_warn("%s: the guest let it go, but it is busy and stays: %s", e->id, err.msg);
		event_emit("DEVICE_UNPLUG_GUEST_ERROR",
			   json_pack("{s:s,s:o}", "device", e->id, "path",
				     json_sprintf("/machine/peripheral/%s", e->id)));
		return;
	}
	vm_exclusive_sync(m->vm, take_out, e);
	machine_threads_join(&e->d.threads);
	loop_lock(m->loop);
	machine_threads_free(m, &e->d.threads);
	drive = e->backend ? machine_find_drive(m, e->backend) : NULL;
	if (drive && !drive->config->keep && !jobs_use(drive))
		b = forget_drive(drive);
	loop_unlock(m->loop);
	close_drive(b, e->backend);
	log_debug("%s: taken out", e->id);
	event_emit("DEVICE_DELETED", json_pack("{s:s,s:o}", "device", e->id, "path",
					       json_sprintf("/machine/peripheral/%s", e->id)));
}

static void *eject_thread(void *ctx)
{
	struct eject *e = ctx;
	struct machine *m = e->m;
	struct machine_device *d;

	/*
	 * While the machine is saved or moved this waits; the chip's state says that it is still to
	 * be done.
	 */
	pthread_rwlock_wrlock(&m->shape);
	loop_lock(m->loop);
	d = device_in_slot(m, e->slot);
	if (d) {
		e->d = *d;
		e->id = xstrdup(d->config->id);
		e->backend = device_backend(d->config) ? xstrdup(device_backend(d->config)) : NULL;
	} else {
		acpi_hotplug_ejected(m->hotplug, e->slot);
	}
	loop_unlock(m->loop);
	if (d)
		eject_device(e);
	pthread_rwlock_unlock(&m->shape);
	free(e->id);
	free(e->backend);
	free(e);
	loop_lock(m->loop);
	m->ejecting--;
	loop_wake(m->loop);
	loop_unlock(m->loop);
	return NULL;
}

void hotplug_eject(void *ctx, unsigned slot)
{
	struct machine *m = ctx;
	struct eject *e = xcalloc(1, sizeof(*e));
	pthread_t thread;

	e->m = m;
	e->slot = slot;
	if (pthread_create(&thread, NULL, eject_thread, e)) {
		log_error("PCI slot %u: no thread to take the device out; it stays", slot);
		free(e);
		return;
	}
	pthread_detach(thread);
	m->ejecting++;
}

static bool none_ejecting(void *ctx)
{
	return !((struct machine *)ctx)->ejecting;
}

void hotplug_exit(struct machine *m)
{
	loop_lock(m->loop);
	loop_wait(m->loop, none_ejecting, m);
	loop_unlock(m->loop);
}

/* --- drives and networks --- */

int hotplug_add_drive(struct machine *m, const char *spec, bool keep, struct err *err)
{
	struct machine_drive *md;
	struct drive_config *d;
	struct blk *b = NULL;
	int ret = shape_lock(m, err);

	if (ret < 0)
		return ret;
	d = config_parse_drive(m->config, spec, err);
	if (d && (d->interface != IF_NONE || !d->file)) {
		err_set(err, EINVAL,
			"only if=none drives with a file can be added to a running machine; a "
			"device_add then shows them");
		config_remove_drive(d);
		d = NULL;
	}
	loop_unlock(m->loop);
	/* The entry stays ours while the shape is locked; opening may take its time. */
	if (d) {
		md = &m->drives[d - m->config->drives];
		*md = (struct machine_drive){ .config = d, .machine = m };
		d->keep = keep;
		d->open.host = &m->host;
		b = machine_drive_open(md, d->file, &d->open, err);
	}
	loop_lock(m->loop);
	if (b) {
		machine_drive_put(md, b, true);
		m->ndrives = MAX(m->ndrives, (unsigned)(md - m->drives) + 1);
	} else if (d) {
		config_remove_drive(d);
	}
	shape_unlock(m);
	return b ? 0 : -EINVAL;
}

int hotplug_del_drive(struct machine *m, const char *id, struct err *err)
{
	struct machine_drive *d;
	struct blk *b = NULL;
	int ret = shape_lock(m, err);

	if (ret < 0)
		return ret;
	d = machine_find_drive(m, id);
	if (!d)
		ret = err_set(err, ENOENT, "Failed to find node with node-name='%s'", id);
	else if (user_of(m, id))
		ret = err_set(err, EBUSY,
			      "Node '%s' is busy: device '%s' shows it (device_del it first)", id,
			      user_of(m, id)->config->id);
	else if (jobs_use(d))
		ret = err_set(err, EBUSY, "Node '%s' is busy: a block job uses it (query-jobs)",
			      id);
	else
		b = forget_drive(d);
	loop_unlock(m->loop);
	close_drive(b, id);
	pthread_rwlock_unlock(&m->shape);
	return ret;
}

int hotplug_add_net(struct machine *m, const char *id, const char *spec, struct err *err)
{
	struct net_config *c;
	int ret = shape_lock(m, err);
	unsigned i;

	if (ret < 0)
		return ret;
	c = config_add_net(m->config, id, spec, err);
	i = c ? c - m->config->nets : 0;
	if (c && !(m->nets[i] = net_open(id, spec, m->loop, &m->host, err))) {
		config_remove_net(c);
		c = NULL;
	}
	if (c)
		m->nnets = MAX(m->nnets, i + 1);
	shape_unlock(m);
	return c ? 0 : -EINVAL;
}

int hotplug_del_net(struct machine *m, const char *id, struct err *err)
{
	struct net *n;
	int ret = shape_lock(m, err);

	if (ret < 0)
		return ret;
	n = machine_find_net(m, id);
	if (!n) {
		ret = err_set(err, ENODEV, "Device '%s' not found", id);
	} else if (user_of(m, id)) {
		ret = err_set(err, EBUSY,
			      "netdev '%s' is in use by device '%s' (device_del it first)", id,
			      user_of(m, id)->config->id);
	} else {
		for (unsigned i = 0; i < m->nnets; i++)
			if (m->nets[i] == n)
				m->nets[i] = NULL;
		config_remove_net(config_net(m->config, id));
		net_close(n);
	}
	shape_unlock(m);
	return ret;
}
