/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * machine_device.c: one device from its entry, at boot, hot-plug and restore alike. Main thread,
 * before the guest runs or in an exclusive section.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "devices/chips.h"
#include "devices/nic/nic.h"
#include "devices/pci/pci.h"
#include "devices/virtio/virtio.h"
#include "vmm/backends/display.h"
#include "vmm/base/event.h"
#include "vmm/base/log.h"
#include "vmm/machine/drives.h"
#include "vmm/machine/machine.h"

#define DEBUG_EXIT_IOBASE 0x501
#define DEBUG_EXIT_IOSIZE 2
#define DEBUGCON_IOBASE 0x402
#define PVPANIC_IOBASE 0x505
/* 0 host bridge, 1 ISA bridge and its functions, 2 graphics card */
#define PCI_FIRST_FREE_SLOT 3

/* The PCI address asked for, or the lowest free slot. */
static int pick_devfn(struct machine *m, const struct device_config *d, unsigned *devfn,
		      struct err *err)
{
	int first = d->kind == DEV_VGA ? 2 : PCI_FIRST_FREE_SLOT;

	if (!m->pci)
		return err_set(err, ENOTSUP, "%s %s: -M micro has no PCI; the device needs -M pc",
			       device_kind_name(d->kind), d->id);
	if (d->slot >= 0) {
		*devfn = PCI_DEVFN(d->slot, d->func);
		return 0;
	}
	for (int slot = first; slot < PCI_SLOTS; slot++) {
		if (!pci_bus_find(m->pci, PCI_DEVFN(slot, 0))) {
			*devfn = PCI_DEVFN(slot, 0);
			return 0;
		}
	}
	return err_set(err, EBUSY, "%s %s: all PCI slots are taken", device_kind_name(d->kind),
		       d->id);
}

/* --- threads --- */

static int threads_start(struct machine *m, struct queue_threads *t, const char *id, unsigned n,
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

/* --- devices --- */

/*
 * A virtio device behind the transport of this machine. Takes v and its threads over, also on
 * failure; no threads: NULL.
 */
static int attach_virtio(struct machine *m, const struct device_config *d, struct virtio_dev *v,
			 struct queue_threads *threads, struct err *err)
{
	struct machine_device *md;
	struct device *dev;
	unsigned devfn;

	if (!v)
		goto fail;
	if (m->config->machine == MACHINE_MICRO) {
		struct bios_virtio_mmio *w = &m->mmio_windows[m->nmmio];

		if (m->nmmio == MICRO_MMIO_MAX)
			return err_set(err, EBUSY, "%s: more than %d devices in a micro machine",
				       d->id, MICRO_MMIO_MAX);
		/*
		 * Global interrupts 5-7, 10-15, 16-23: what the machine's other chips do not use.
		 */
		w->gsi = m->nmmio < 3 ? 5 + m->nmmio : m->nmmio - 3 + 10;
		w->base = MICRO_MMIO_BASE + m->nmmio * MICRO_MMIO_SIZE;
		w->size = MICRO_MMIO_SIZE;
		dev = virtio_mmio_new(m->mmio, w->base, irq_source(m->irqs, w->gsi), m->vm, v, err);
		m->nmmio++;
	} else {
		if (pick_devfn(m, d, &devfn, err) < 0) {
			v->ops->destroy(v);
			goto fail;
		}
		dev = virtio_pci_new(m->pci, devfn, v, err);
	}
	if (!dev)
		goto fail;
	md = machine_add_device(m, dev, d);
	md->virtio = v;
	if (threads)
		md->threads = *threads;
	return 0;
fail:
	if (threads)
		machine_threads_free(m, threads);
	return -EINVAL;
}

static struct blk *find_blk(struct machine *m, const struct device_config *d, struct err *err)
{
	struct machine_drive *md = d->backend ? machine_find_drive(m, d->backend) : NULL;

	if (!md || !md->blk) {
		err_set(err, ENOENT, "%s %s: drive=%s: no -drive has that id (with if=none)",
			device_kind_name(d->kind), d->id, d->backend ? d->backend : "");
		return NULL;
	}
	return md->blk;
}

static int build_blk(struct machine *m, const struct device_config *d, struct err *err)
{
	struct virtio_blk_config_opts o = { .nqueues = d->queues ? d->queues : 1,
					    .queue_size = d->queue_size,
					    .packed = d->packed };
	struct machine_drive *md = d->backend ? machine_find_drive(m, d->backend) : NULL;
	struct queue_threads threads = { 0 };

	o.blk = find_blk(m, d, err);
	if (!o.blk)
		return -ENOENT;
	o.serial = d->serial ? d->serial : md->config->serial;
	if (d->iothread && threads_start(m, &threads, d->id, 1, false, err) < 0)
		return -EAGAIN;
	return attach_virtio(
		m, d,
		virtio_blk_new(d->id, d->iothread ? threads.loops[0] : m->loop, m->mem, &o, err),
		&threads, err);
}

/* The IDE's loop, or the control thread that changes the medium. */
static void tray_moved(void *ctx, bool open)
{
	const struct machine_drive *md = ctx;

	event_emit("DEVICE_TRAY_MOVED", json_pack("{s:s,s:s,s:b}", "device", md->config->id, "id",
						  md->config->id, "tray-open", open));
}

static int build_ide(struct machine *m, const struct device_config *d, struct err *err)
{
	struct machine_drive *md = d->backend ? machine_find_drive(m, d->backend) : NULL;
	struct ide_drive_opts o = { .cdrom = d->kind == DEV_IDE_CD, .serial = d->serial };
	int unit = d->ide_index >= 0 ? d->ide_index : 0;

	if (!m->ide)
		return err_set(err, ENOTSUP, "%s: -M micro has no IDE", d->id);
	if (d->backend && !md)
		return find_blk(m, d, err) ? 0 : -ENOENT;
	o.blk = md ? md->blk : NULL;
	if (!o.blk && !o.cdrom)
		return err_set(err, EINVAL, "%s: an IDE disk needs a drive=", d->id);
	if (!o.serial && md)
		o.serial = md->config->serial;
	if (md && o.cdrom) {
		o.tray_moved = tray_moved;
		o.tray_ctx = md;
	}
	return piix3_ide_attach(m->ide, unit, &o, err);
}

/*
 * The machine's n-th card has its n-th address; one that was plugged in takes the first that no
 * other card has.
 */
static void pick_mac(struct machine *m, uint8_t mac[6])
{
	/* What comes with the machine; not what is plugged in later. */
	bool moves = machine_moves_here(m->config) && vm_pause_reasons(m->vm) & PAUSE_BOOT;
	unsigned index = 0;
	bool taken = true;

	for (unsigned i = 0; i < m->ndevices; i++)
		index += m->devices[i].config && config_is_nic(m->devices[i].config);
	while (taken) {
		net_default_mac(m->config->name, index++, moves, mac);
		taken = false;
		for (unsigned i = 0; i < m->ndevices && !taken; i++) {
			const struct device_config *o = m->devices[i].config;

			taken = o && config_is_nic(o) && !memcmp(o->mac, mac, 6);
		}
	}
}

/*
 * Each pair of queues has a thread, where what it is connected to allows that: a disk does not wait
 * for packets, nor they for a disk.
 */
static int build_virtio_net(struct machine *m, const struct device_config *d, struct net *net,
			    const uint8_t mac[6], struct err *err)
{
	struct virtio_net_opts o = { .net = net,
				     .pairs = d->queues ? d->queues
					      : net	? net->max_queues
							: 1,
				     .queue_size = d->queue_size,
				     .packed = d->packed };
	struct queue_threads threads = { 0 };

	memcpy(o.mac, mac, 6);
	if (net && net->any_loop && o.pairs <= net->max_queues &&
	    threads_start(m, &threads, d->id, o.pairs, true, err) < 0)
		return -EAGAIN;
	o.queue_loops = threads.loops;
	return attach_virtio(m, d, virtio_net_new(d->id, m->loop, m->mem, &o, err), &threads, err);
}

static int build_nic(struct machine *m, const struct device_config *d, struct err *err)
{
	struct net *net = d->backend ? machine_find_net(m, d->backend) : NULL;
	uint8_t mac[6];
	unsigned devfn;
	struct device *dev;

	if (d->backend && !net)
		return err_set(err, ENOENT, "%s %s: netdev=%s: no -netdev has that id",
			       device_kind_name(d->kind), d->id, d->backend);
	if (!d->has_mac)
		pick_mac(m, m->config->devices[d - m->config->devices].mac);
	memcpy(mac, d->mac, 6);
	if (d->kind == DEV_VIRTIO_NET)
		return build_virtio_net(m, d, net, mac, err);
	if (pick_devfn(m, d, &devfn, err) < 0)
		return -EBUSY;
	dev = d->kind == DEV_E1000 ? e1000_new(m->pci, devfn, d->id, net, mac, m->loop, err) :
				     rtl8139_new(m->pci, devfn, d->id, net, mac, m->loop, err);
	if (!dev)
		return -EINVAL;
	machine_add_device(m, dev, d);
	return 0;
}

static int build_9p(struct machine *m, const struct device_config *d, struct err *err)
{
	struct virtio_9p_opts o = { .path = d->path,
				    .tag = d->tag,
				    .hide = d->hide,
				    .readonly = d->readonly,
				    .pipes = d->pipes,
				    .host = &m->host };

	if (!d->path || !d->tag)
		return err_set(err, EINVAL, "%s %s: path= and mount_tag= are needed",
			       device_kind_name(d->kind), d->id);
	return attach_virtio(m, d, virtio_9p_new(d->id, m->loop, m->mem, &o, err), NULL, err);
}

static int build_console(struct machine *m, const struct device_config *d, struct err *err)
{
	struct chardev *chr = NULL;

	if (m->nconsoles == ARRAY_SIZE(m->consoles))
		return err_set(err, E2BIG, "%s: more than %zu consoles", d->id,
			       ARRAY_SIZE(m->consoles));
	if (d->backend) {
		chr = chardev_open(d->id, config_chardev_spec(m->config, d->backend), m->loop,
				   &m->host, err);
		if (!chr && err->msg[0])
			return -EIO;
		m->consoles[m->nconsoles++] = chr;
	}
	return attach_virtio(m, d, virtio_console_new(d->id, m->loop, m->mem, chr, err), NULL, err);
}

static int build_tablet(struct machine *m, const struct device_config *d, struct err *err)
{
	struct virtio_dev *v = virtio_input_new(d->id, m->loop, m->mem, true, err);
	int ret = attach_virtio(m, d, v, NULL, err);

	if (!ret)
		m->tablet = v;
	return ret;
}

static int build_port(struct machine *m, const struct device_config *d, struct err *err)
{
	struct device *dev = NULL;
	struct chardev *chr = NULL;
	const char *spec;

	switch (d->kind) {
	case DEV_DEBUG_EXIT:
		dev = isa_debug_exit_new(m->pio, d->iobase ? d->iobase : DEBUG_EXIT_IOBASE,
					 d->iosize ? d->iosize : DEBUG_EXIT_IOSIZE, m->vm, m->loop,
					 err);
		break;
	case DEV_PVPANIC:
		dev = pvpanic_new(m->pio, PVPANIC_IOBASE, m->vm, m->loop, err);
		break;
	default:
		if (m->nconsoles == ARRAY_SIZE(m->consoles))
			return err_set(err, E2BIG, "%s: more than %zu consoles", d->id,
				       ARRAY_SIZE(m->consoles));
		spec = config_chardev_spec(m->config, d->backend ? d->backend : "stdio");
		chr = chardev_open(d->id, spec, m->loop, &m->host, err);
		if (!chr && err->msg[0])
			return -EIO;
		m->consoles[m->nconsoles++] = chr;
		dev = debugport_new(m->pio, d->iobase ? d->iobase : DEBUGCON_IOBASE, chr, m->loop,
				    err);
		break;
	}
	if (!dev)
		return -EINVAL;
	machine_add_device(m, dev, d);
	return 0;
}

/* What kvm-unit-tests measures with. */
static int build_testdev(struct machine *m, const struct device_config *d, struct err *err)
{
	struct device *dev;
	unsigned devfn;

	if (d->kind == DEV_PC_TESTDEV) {
		struct pc_testdev_wires w = { m->pio, m->mmio, m->mem, m->irqs };

		dev = pc_testdev_new(&w, m->loop, err);
	} else {
		if (pick_devfn(m, d, &devfn, err) < 0)
			return -EBUSY;
		dev = pci_testdev_new(m->pci, devfn, d->id, err);
	}
	if (!dev)
		return -EINVAL;
	machine_add_device(m, dev, d);
	return 0;
}

static int build_vga(struct machine *m, const struct device_config *d, struct err *err)
{
	static const char rom[] = "/usr/share/seabios/vgabios-stdvga.bin";
	struct vga_opts o = { .id = d->id, .rom_fd = -1 };
	struct err none = { "" };
	struct device *dev;

	if (m->display)
		return err_set(err, ENOTSUP,
			       "-device VGA: the machine has a graphics card already");
	if (pick_devfn(m, d, &o.devfn, err) < 0)
		return -EBUSY;
	/* A kernel's own driver needs no video BIOS. */
	if ((!m->config->kernel || machine_has_viewer(m->config)) &&
	    (o.rom_fd = host_open(&m->host, "option ROM", rom, O_RDONLY, 0, &none)) < 0)
		log_warn("%s: no video BIOS, the screen stays dark until the guest's driver runs: "
			 "%s (apt-get install seabios)",
			 d->id, none.msg);
	dev = vga_new(m->pci, &o, err);
	if (o.rom_fd >= 0)
		close(o.rom_fd);
	if (!dev)
		return -EINVAL;
	machine_add_device(m, dev, d);
	m->vga = dev;
	m->display = vga_display(dev);
	return 0;
}

static void generation_changed(void *ctx)
{
	struct machine *m = ctx;

	if (m->pm)
		piix4_pm_gpe(m->pm, BIOS_GPE_VMGENID);
	else
		micro_pm_generation(m->micro_pm);
}

static int build_vmgenid(struct machine *m, const struct device_config *d, struct err *err)
{
	struct vmgenid_opts o = {
		.gpa = VMGENID_GPA, .has_uuid = d->has_guid, .changed = generation_changed, .ctx = m
	};

	if (m->vmgenid)
		return err_set(err, EEXIST, "-device vmgenid: the machine has one already");
	memcpy(o.uuid, d->guid, sizeof(o.uuid));
	m->vmgenid = vmgenid_new(m->mem, m->loop, &o, err);
	if (!m->vmgenid)
		return -EINVAL;
	machine_add_device(m, m->vmgenid, d);
	return 0;
}

void machine_copied(struct machine *m)
{
	int ret = m->vmgenid ? vmgenid_renew(m->vmgenid) : 0;

	if (ret < 0)
		log_error("the generation id stays: %s", strerror(-ret));
}

static void balloon_changed(void *ctx, uint64_t actual)
{
	event_limit_emit(ctx, json_pack("{s:I}", "actual", (json_int_t)actual));
}

static int build_balloon(struct machine *m, const struct device_config *d, struct err *err)
{
	struct virtio_dev *v = virtio_balloon_new(d->id, m->loop, m->mem, err);

	if (v)
		virtio_balloon_on_change(v, balloon_changed, &m->balloon_event);
	return attach_virtio(m, d, v, NULL, err);
}

int device_build(struct machine *m, const struct device_config *d, struct err *err)
{
	switch (d->kind) {
	case DEV_VIRTIO_BLK:
		return build_blk(m, d, err);
	case DEV_VIRTIO_NET:
	case DEV_E1000:
	case DEV_RTL8139:
		return build_nic(m, d, err);
	case DEV_VIRTIO_RNG:
		return attach_virtio(m, d, virtio_rng_new(d->id, m->loop, m->mem, err), NULL, err);
	case DEV_VIRTIO_CONSOLE:
		return build_console(m, d, err);
	case DEV_VIRTIO_BALLOON:
		return build_balloon(m, d, err);
	case DEV_VIRTIO_INPUT:
		return build_tablet(m, d, err);
	case DEV_VIRTIO_9P:
		return build_9p(m, d, err);
	case DEV_IDE_HD:
	case DEV_IDE_CD:
		return build_ide(m, d, err);
	case DEV_VGA:
		return build_vga(m, d, err);
	case DEV_VMGENID:
		return build_vmgenid(m, d, err);
	case DEV_DEBUG_EXIT:
	case DEV_DEBUGCON:
	case DEV_PVPANIC:
		return build_port(m, d, err);
	case DEV_PC_TESTDEV:
	case DEV_PCI_TESTDEV:
		return build_testdev(m, d, err);
	default:
		return err_set(err, ENOTSUP, "-device %s: this version does not have it",
			       device_kind_name(d->kind));
	}
}
