/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio_mmio.c: virtio over a page of registers (virtio 1.2, 4.2, version 2) and one level
 * interrupt, for machines without PCI. Register callbacks run with the lock of the device's loop,
 * notifications on any queue's loop.
 */
#include <errno.h>
#include <linux/virtio_mmio.h>
#include <pthread.h>
#include <stdlib.h>

#include "devices/virtio/virtio.h"
#include "vmm/base/log.h"
#include "vmm/wires/bus.h"
#include "vmm/wires/irq.h"
#include "vmm/wires/vm.h"

#define VIRTIO_MMIO_SIZE 0x200
#define VIRTIO_MMIO_MAGIC 0x74726976	/* "virt" */
#define VIRTIO_MMIO_VENDOR 0x4d4d564d	/* "MVMM" */
#define VIRTIO_MMIO_QUEUE_RESET 0xc0

struct virtio_mmio {
	struct device dev;
	struct virtio_dev *v;
	struct bus *bus;
	uint64_t base;
	struct irq irq;
	struct vm *vm;
	pthread_mutex_t irq_lock;	/* leaf: interrupt status and the wire agree */
	uint32_t irq_status;
	uint32_t dfselect, gfselect, qsel;
	uint64_t driver_features;
	bool bells;			/* in the bus */
};

/* --- interrupt --- */

static void irq_change(struct virtio_mmio *m, uint32_t set, uint32_t clear)
{
	pthread_mutex_lock(&m->irq_lock);
	m->irq_status = (m->irq_status | set) & ~clear;
	irq_set(&m->irq, m->irq_status != 0);
	pthread_mutex_unlock(&m->irq_lock);
}

static uint32_t irq_status(struct virtio_mmio *m)
{
	uint32_t status;

	pthread_mutex_lock(&m->irq_lock);
	status = m->irq_status;
	pthread_mutex_unlock(&m->irq_lock);
	return status;
}

static void notify_queue(void *ctx, unsigned q)
{
	irq_change(ctx, VIRTIO_MMIO_INT_VRING, 0);
}

static void notify_config(void *ctx)
{
	irq_change(ctx, VIRTIO_MMIO_INT_CONFIG, 0);
}

static int queue_fd(void *ctx, unsigned q)
{
	return -ENOTSUP;
}

static const struct virtio_transport_ops mmio_transport = { notify_queue, notify_config, queue_fd };

/* --- doorbells: exclusive section, or nothing runs --- */

static void bells_add(void *ctx)
{
	struct virtio_mmio *m = ctx;

	for (unsigned q = 0; !m->bells && q < m->v->nqueues; q++) {
		int ret = bus_eventfd_add(m->bus, m->base + VIRTIO_MMIO_QUEUE_NOTIFY, 4, false, q,
					  m->v->bells[q].fd);

		if (ret)
			log_debug("%s: doorbells without KVM's short cut: %s", m->dev.id,
				  strerror(-ret));
	}
	m->bells = true;
}

static void bells_remove(struct virtio_mmio *m)
{
	for (unsigned q = 0; m->bells && q < m->v->nqueues; q++)
		bus_eventfd_del(m->bus, m->base + VIRTIO_MMIO_QUEUE_NOTIFY, m->v->bells[q].fd);
	m->bells = false;
}

/* --- registers --- */

static void regs_reset(struct virtio_mmio *m)
{
	m->dfselect = m->gfselect = m->qsel = 0;
	m->driver_features = 0;
	irq_change(m, 0, ~0u);
}

static uint64_t mmio_read(void *dev, uint64_t off, unsigned size)
{
	struct virtio_mmio *m = dev;
	struct virtio_dev *v = m->v;
	struct virtq *vq = m->qsel < v->nqueues ? &v->queues[m->qsel] : NULL;

	if (off >= VIRTIO_MMIO_CONFIG)
		return virtio_config_load(v, off - VIRTIO_MMIO_CONFIG, size);
	switch (off) {
	case VIRTIO_MMIO_MAGIC_VALUE: return VIRTIO_MMIO_MAGIC;
	case VIRTIO_MMIO_VERSION: return 2;
	case VIRTIO_MMIO_DEVICE_ID: return v->ops->id;
	case VIRTIO_MMIO_VENDOR_ID: return VIRTIO_MMIO_VENDOR;
	case VIRTIO_MMIO_DEVICE_FEATURES:
		return m->dfselect < 2 ? v->offer >> (32 * m->dfselect) & UINT32_MAX : 0;
	case VIRTIO_MMIO_QUEUE_NUM_MAX: return vq ? vq->max_size : 0;
	case VIRTIO_MMIO_QUEUE_READY: return vq && vq->enabled;
	case VIRTIO_MMIO_INTERRUPT_STATUS: return irq_status(m);
	case VIRTIO_MMIO_STATUS: return virtio_status(v);
	case VIRTIO_MMIO_CONFIG_GENERATION:
		return __atomic_load_n(&v->generation, __ATOMIC_ACQUIRE);
	/* No shared memory region has any length (4.2.2.1). */
	case VIRTIO_MMIO_SHM_LEN_LOW:
	case VIRTIO_MMIO_SHM_LEN_HIGH:
	case VIRTIO_MMIO_SHM_BASE_LOW:
	case VIRTIO_MMIO_SHM_BASE_HIGH: return UINT32_MAX;
	default: return 0;
	}
}

static void set_half(uint64_t *reg, uint32_t val, bool high)
{
	*reg = high ? (*reg & UINT32_MAX) | (uint64_t)val << 32
		    : (*reg & ~(uint64_t)UINT32_MAX) | val;
}

static void queue_write(struct virtio_mmio *m, uint64_t off, uint32_t val)
{
	struct virtq *vq = &m->v->queues[m->qsel];

	if (off == VIRTIO_MMIO_QUEUE_READY) {
		if (val == 1)
			virtio_queue_enable(m->v, m->qsel);
		else if (val == 0 && vq->enabled)
			virtio_queue_disable(m->v, m->qsel);
		return;
	}
	if (off == VIRTIO_MMIO_QUEUE_RESET) {
		if (val == 1 && virtio_has(m->v, VIRTIO_F_RING_RESET))
			virtio_queue_disable(m->v, m->qsel);
		return;
	}
	if (vq->enabled || m->v->resetting)
		return;
	switch (off) {
	case VIRTIO_MMIO_QUEUE_NUM: vq->size = val <= UINT16_MAX ? val : 0; break;
	case VIRTIO_MMIO_QUEUE_DESC_LOW: set_half(&vq->desc, val, false); break;
	case VIRTIO_MMIO_QUEUE_DESC_HIGH: set_half(&vq->desc, val, true); break;
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW: set_half(&vq->avail, val, false); break;
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH: set_half(&vq->avail, val, true); break;
	case VIRTIO_MMIO_QUEUE_USED_LOW: set_half(&vq->used, val, false); break;
	case VIRTIO_MMIO_QUEUE_USED_HIGH: set_half(&vq->used, val, true); break;
	}
}

static void mmio_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct virtio_mmio *m = dev;

	if (off >= VIRTIO_MMIO_CONFIG) {
		virtio_config_store(m->v, off - VIRTIO_MMIO_CONFIG, size, val);
		return;
	}
	if (size != 4)			/* 4.2.2.2: registers are 32 bits wide */
		return;
	switch (off) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		m->dfselect = val;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		m->gfselect = val;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		if (m->gfselect > 1)
			break;
		set_half(&m->driver_features, val, m->gfselect);
		virtio_set_features(m->v, m->driver_features, false);
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		m->qsel = val;
		break;
	case VIRTIO_MMIO_QUEUE_NOTIFY:
		virtio_ring_bell(m->v, val & 0xffff);
		break;
	case VIRTIO_MMIO_INTERRUPT_ACK:
		irq_change(m, 0, val);
		break;
	case VIRTIO_MMIO_STATUS:
		if (virtio_set_status(m->v, val, false))
			regs_reset(m);
		if (m->v->started && !m->bells) {
			if (m->vm)
				vm_exclusive(m->vm, bells_add, m);
			else
				bells_add(m);
		}
		break;
	default:
		if (m->qsel < m->v->nqueues)
			queue_write(m, off, val);
	}
}

static const char *mmio_reg_name(void *dev, uint64_t off, bool is_write)
{
	static const char *const names[] = {
		[0x00] = "MagicValue",	   [0x04] = "Version",
		[0x08] = "DeviceID",	   [0x0c] = "VendorID",
		[0x10] = "DeviceFeatures", [0x14] = "DeviceFeaturesSel",
		[0x20] = "DriverFeatures", [0x24] = "DriverFeaturesSel",
		[0x30] = "QueueSel",	   [0x34] = "QueueNumMax",
		[0x38] = "QueueNum",	   [0x44] = "QueueReady",
		[0x50] = "QueueNotify",	   [0x60] = "InterruptStatus",
		[0x64] = "InterruptACK",   [0x70] = "Status",
		[0x80] = "QueueDescLow",   [0x84] = "QueueDescHigh",
		[0x90] = "QueueDriverLow", [0x94] = "QueueDriverHigh",
		[0xa0] = "QueueDeviceLow", [0xa4] = "QueueDeviceHigh",
		[0xc0] = "QueueReset",	   [0xfc] = "ConfigGeneration",
	};

	return off < ARRAY_SIZE(names) ? names[off] : off >= VIRTIO_MMIO_CONFIG ? "Config" : NULL;
}

static const struct region_ops mmio_ops = {
	.name = "virtio-mmio",
	.read = mmio_read, .write = mmio_write, .reg_name = mmio_reg_name,
	.min_width = 1, .max_width = 4,
};

/* --- the device --- */

static struct virtio_mmio *to_mmio(struct device *d)
{
	return container_of(d, struct virtio_mmio, dev);
}

static void mmio_reset(struct device *d)
{
	virtio_reset(to_mmio(d)->v);
	regs_reset(to_mmio(d));
}

static void mmio_quiesce(struct device *d, void (*done)(void *ctx), void *ctx)
{
	virtio_quiesce(to_mmio(d)->v, done, ctx);
}

static void mmio_resume(struct device *d)
{
	virtio_resume(to_mmio(d)->v);
}

static const struct state_field mmio_fields[] = {
	STATE_FIELD(struct virtio_mmio, STATE_U32, irq_status),
	STATE_FIELD(struct virtio_mmio, STATE_U32, dfselect),
	STATE_FIELD(struct virtio_mmio, STATE_U32, gfselect),
	STATE_FIELD(struct virtio_mmio, STATE_U32, qsel),
	STATE_FIELD(struct virtio_mmio, STATE_U64, driver_features),
};

static int mmio_save(struct device *d, struct state_out *o)
{
	state_save_fields(o, to_mmio(d), mmio_fields, ARRAY_SIZE(mmio_fields));
	return virtio_save(to_mmio(d)->v, o);
}

static int mmio_load(struct device *d, struct state_in *in, uint32_t version)
{
	struct virtio_mmio *m = to_mmio(d);
	int ret = state_load_fields(in, m, mmio_fields, ARRAY_SIZE(mmio_fields));

	if (!ret && m->irq_status & ~(VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG))
		ret = state_bad(in, "%s: interrupt status 0x%x", m->dev.id, m->irq_status);
	if (ret)
		return ret;
	irq_change(m, 0, 0);
	ret = virtio_load(m->v, in);
	virtio_features_loaded(m->v, m->driver_features);
	if (!ret && m->v->started)
		bells_add(m);
	return ret;
}

static void mmio_destroy(struct device *d)
{
	struct virtio_mmio *m = to_mmio(d);

	virtio_reset(m->v);
	bells_remove(m);
	irq_change(m, 0, ~0u);
	bus_del(m->bus, m->base, &mmio_ops, m);
	pthread_mutex_destroy(&m->irq_lock);
	m->v->ops->destroy(m->v);
	free(m);
}

static const struct device_ops virtio_mmio_ops = {
	.name = "virtio-mmio", .version = 1,
	.reset = mmio_reset, .quiesce = mmio_quiesce, .resume = mmio_resume,
	.save = mmio_save, .load = mmio_load, .destroy = mmio_destroy,
};

struct device *virtio_mmio_new(struct bus *mmio, uint64_t base, struct irq irq, struct vm *vm,
			       struct virtio_dev *v, struct err *err)
{
	struct virtio_mmio *m = xcalloc(1, sizeof(*m));
	int ret;

	device_init(&m->dev, &virtio_mmio_ops, v->id, v->loop);
	m->v = v;
	m->bus = mmio;
	m->base = base;
	m->irq = irq;
	m->vm = vm;
	pthread_mutex_init(&m->irq_lock, NULL);
	v->transport = &mmio_transport;
	v->transport_ctx = m;
	ret = bus_add(mmio, base, VIRTIO_MMIO_SIZE, &mmio_ops, m, v->loop, v->id, 0);
	if (ret) {
		err_set(err, -ret, "%s: registers at 0x%llx: %s", v->id, (unsigned long long)base,
			strerror(-ret));
		goto fail;
	}
	ret = virtio_attach(v);
	if (ret) {
		err_set(err, -ret, "%s: doorbells: %s", v->id, strerror(-ret));
		bus_del(mmio, base, &mmio_ops, m);
		goto fail;
	}
	return &m->dev;
fail:
	v->ops->destroy(v);
	free(m->dev.id);
	free(m);
	return NULL;
}
