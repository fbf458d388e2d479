/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * machine_device.c: one device from its entry, at boot, hot-plug and restore alike; the steps that
 * its row's build function takes (build.h).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "devices/pci/pci.h"
#include "devices/virtio/virtio.h"
#include "vmm/machine/build.h"
#include "vmm/machine/drives.h"

/* 0 host bridge, 1 ISA bridge and its functions, 2 graphics card */
#define PCI_FIRST_FREE_SLOT 3

/* --- PCI --- */

const struct prop build_pci_props[] = { PROP_PCI_ADDR(struct pci_entry), PROP_PCI_BUS, { 0 } };

int build_slot(struct machine *m, struct device_config *d, unsigned first, unsigned *devfn,
	       struct err *err)
{
	struct prop_pci *at = device_prop(d, PROP_PCI);

	for (unsigned slot = first; at->slot < 0 && slot < PCI_SLOTS; slot++)
		if (!pci_bus_find(m->pci, PCI_DEVFN(slot, 0)))
			*at = (struct prop_pci){ slot, 0 };
	if (at->slot < 0)
		return err_set(err, EBUSY, "%s %s: all PCI slots are taken", d->kind->name, d->id);
	*devfn = PCI_DEVFN(at->slot, at->func);
	return 0;
}

int build_pci_slot(struct machine *m, struct device_config *d, unsigned *devfn, struct err *err)
{
	return build_slot(m, d, PCI_FIRST_FREE_SLOT, devfn, err);
}

char *build_pci_path(struct machine *m, const struct device_config *d, const char *name,
		     const char *rest)
{
	const struct prop_pci *at = device_prop(d, PROP_PCI);
	char func[8] = "";

	if (!m->pci || !at || at->slot < 0)
		return NULL;
	if (at->func)
		snprintf(func, sizeof(func), ",%x", at->func);
	return xasprintf("/pci@i0cf8/%s@%x%s/%s", name, at->slot, func, rest);
}

/* --- threads --- */

int build_threads(struct machine *m, struct queue_threads *t, const char *id, unsigned n,
		  bool patient, struct err *err)
{
	t->loops = xcalloc(n, sizeof(*t->loops));
	for (; t->n < n; t->n++) {
		char *name = n > 1 ? xasprintf("%s.%u", id, t->n) : xstrdup(id);
		struct loop *l = loop_new(name);
		int ret;

		free(name);
		if (patient)
			loop_set_patient(l);
		vm_add_loop(m->vm, l);
		t->loops[t->n] = l;
		ret = loop_thread_start(l);
		if (ret < 0) {
			t->n++;
			machine_threads_free(m, t);
			return err_set(err, -ret, "%s: a thread: %s", id, strerror(-ret));
		}
	}
	return 0;
}

void machine_threads_join(struct queue_threads *t)
{
	for (unsigned i = 0; i < t->n; i++)
		loop_thread_join(t->loops[i]);
}

void machine_threads_free(struct machine *m, struct queue_threads *t)
{
	machine_threads_join(t);
	for (unsigned i = 0; i < t->n; i++) {
		vm_del_loop(m->vm, t->loops[i]);
		loop_free(t->loops[i]);
	}
	free(t->loops);
	*t = (struct queue_threads){ 0 };
}

/* --- steps --- */

int build_done(struct machine *m, struct device_config *d, struct device *dev)
{
	if (!dev)
		return -EINVAL;
	machine_add_device(m, dev, d);
	return 0;
}

/* The micro machine's next window; NULL with the reason. v stays the caller's then. */
static struct device *new_mmio(struct machine *m, struct virtio_dev *v, const char *id,
			       struct err *err)
{
	struct bios_virtio_mmio *w = &m->mmio_windows[m->nmmio];

	if (m->nmmio == MICRO_MMIO_MAX) {
		err_set(err, EBUSY, "%s: more than %d devices in a micro machine", id,
			MICRO_MMIO_MAX);
		v->ops->destroy(v);
		return NULL;
	}
	/* Global interrupts 5-7, 10-15, 16-23: what the machine's other chips do not use. */
	w->gsi = m->nmmio < 3 ? 5 + m->nmmio : m->nmmio - 3 + 10;
	w->base = MICRO_MMIO_BASE + m->nmmio * MICRO_MMIO_SIZE;
	w->size = MICRO_MMIO_SIZE;
	m->nmmio++;
	return virtio_mmio_new(m->mmio, w->base, irq_source(m->irqs, w->gsi), m->vm, v, err);
}

static struct device *new_pci(struct machine *m, struct device_config *d, struct virtio_dev *v,
			      struct err *err)
{
	unsigned devfn;

	if (build_pci_slot(m, d, &devfn, err) < 0) {
		v->ops->destroy(v);
		return NULL;
	}
	return virtio_pci_new(m->pci, devfn, v, err);
}

int build_virtio(struct machine *m, struct device_config *d, struct virtio_dev *v,
		 struct queue_threads *threads, struct err *err)
{
	struct machine_device *md;
	struct device *dev = NULL;

	if (v)
		dev = m->pci ? new_pci(m, d, v, err) : new_mmio(m, v, d->id, err);
	if (!dev) {
		if (threads)
			machine_threads_free(m, threads);
		return -EINVAL;
	}
	md = machine_add_device(m, dev, d);
	md->virtio = v;
	if (threads)
		md->threads = *threads;
	return 0;
}

struct machine_drive *build_drive(struct machine *m, const struct device_config *d, const char *id,
				  struct err *err)
{
	struct machine_drive *md = id ? machine_find_drive(m, id) : NULL;

	if (md && md->blk)
		return md;
	err_set(err, ENOENT, "%s %s: drive=%s: no -drive has that id (with if=none)", d->kind->name,
		d->id, id ? id : "");
	return NULL;
}

int build_chardev(struct machine *m, const struct device_config *d, const char *spec,
		  struct chardev **chr, struct err *err)
{
	if (m->nconsoles == ARRAY_SIZE(m->consoles))
		return err_set(err, E2BIG, "%s: more than %zu consoles", d->id,
			       ARRAY_SIZE(m->consoles));
	*chr = chardev_open(d->id, config_chardev_spec(m->config, spec), m->loop, &m->host, err);
	if (!*chr && err->msg[0])
		return -EIO;
	m->consoles[m->nconsoles++] = *chr;
	return 0;
}

static int make(struct machine *m, struct device_config *d, struct err *err)
{
	const struct board b = { m->pio, m->mmio, m->mem, m->irqs, m->vm, m->clock, m->loop,
				 m->pci };
	unsigned devfn;

	if (device_prop(d, PROP_PCI) && build_pci_slot(m, d, &devfn, err) < 0)
		return -EBUSY;
	return build_done(m, d, d->kind->make(&b, d, err));
}

int device_build(struct machine *m, struct device_config *d, struct err *err)
{
	const struct prop_pci *at = device_prop(d, PROP_PCI);

	if (!(d->kind->machines & 1u << m->config->machine))
		return err_set(err, ENOTSUP,
			       "%s %s: -M micro has no place for it; the device needs -M pc",
			       d->kind->name, d->id);
	if (at && at->slot >= 0 && !m->pci)
		return err_set(err, ENOTSUP, "%s %s: addr=: -M micro has no PCI", d->kind->name,
			       d->id);
	return d->kind->make ? make(m, d, err) : d->kind->build(m, d, err);
}
