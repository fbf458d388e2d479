/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio_pci.c: virtio over PCI (virtio 1.2, 4.1), transitional: the registers of 2011's drivers in
 * I/O BAR 0 (4.1.4.8), MSI-X in BAR 1, the structures of virtio 1.x in the 64-bit memory BAR 4, and
 * the window to them in configuration space (4.1.4.9). A device without a transitional id has no
 * BAR 0. The registers are in virtio_pci_regs.c.
 *
 * Register callbacks run with the lock of the device's loop, configuration space with the main
 * loop's, notifications on any queue's loop. Doorbells become eventfds in KVM once a driver runs:
 * of the register set it uses.
 */
#include <assert.h>
#include <errno.h>
#include <linux/virtio_pci.h>
#include <stdlib.h>

#include "devices/virtio/virtio_pci.h"
#include "vmm/base/log.h"

#define PCI_VENDOR_VIRTIO 0x1af4
#define PCI_DEVICE_MODERN 0x1040	/* + virtio id */

/* Transitional device ids (4.1.2.1). */
static uint16_t transitional_id(uint16_t virtio_id)
{
	switch (virtio_id) {
	case VIRTIO_ID_NET: return 0x1000;
	case VIRTIO_ID_BLOCK: return 0x1001;
	case VIRTIO_ID_BALLOON: return 0x1002;
	case VIRTIO_ID_CONSOLE: return 0x1003;
	case VIRTIO_ID_SCSI: return 0x1004;
	case VIRTIO_ID_RNG: return 0x1005;
	case VIRTIO_ID_9P: return 0x1009;
	default: return 0;
	}
}

/* --- interrupts --- */

static void notify(struct virtio_pci *vp, uint16_t *vector, uint8_t isr)
{
	struct vec *vec;

	if (!pci_msix_enabled(&vp->pci)) {
		__atomic_fetch_or(&vp->isr, isr, __ATOMIC_ACQ_REL);
		pci_intx(&vp->pci, 1);
		return;
	}
	vec = pci_msix_vec(&vp->pci, __atomic_load_n(vector, __ATOMIC_RELAXED));
	if (vec)
		vec_notify(vec);
}

static void notify_queue(void *ctx, unsigned q)
{
	struct virtio_pci *vp = ctx;

	notify(vp, &vp->queue_vectors[q], 1);
}

static void notify_config(void *ctx)
{
	struct virtio_pci *vp = ctx;

	notify(vp, &vp->config_vector, 1 | VIRTIO_PCI_ISR_CONFIG);
}

static int queue_fd(void *ctx, unsigned q)
{
	struct virtio_pci *vp = ctx;
	struct vec *vec = pci_msix_enabled(&vp->pci) ? pci_msix_vec(&vp->pci, vp->queue_vectors[q])
						     : NULL;

	return vec ? vec_fd(vec) : -ENOTSUP;
}

static const struct virtio_transport_ops pci_transport = { notify_queue, notify_config, queue_fd };

/* The function sends either messages or INTA#, never both. */
static void msix_switched(struct pci_dev *p, bool on)
{
	struct virtio_pci *vp = container_of(p, struct virtio_pci, pci);

	pci_intx(p, !on && __atomic_load_n(&vp->isr, __ATOMIC_ACQUIRE));
}

/* --- doorbells in the bus; exclusive section, or nothing runs --- */

static void bells_remove(struct virtio_pci *vp)
{
	const struct pci_wires *w = pci_bus_wires(vp->pci.bus);

	for (unsigned q = 0; vp->bells_now != BELLS_NONE && q < vp->v->nqueues; q++) {
		if (vp->bells_now == BELLS_LEGACY)
			bus_eventfd_del(w->pio, vp->bells_base, vp->v->bells[q].fd);
		else
			bus_eventfd_del(w->mmio, vp->bells_base + NOTIFY_MULT * q,
					vp->v->bells[q].fd);
	}
	vp->bells_now = BELLS_NONE;
}

static void bells_add(struct virtio_pci *vp)
{
	const struct pci_wires *w = pci_bus_wires(vp->pci.bus);
	const struct pci_bar *bar =
		&vp->pci.bars[vp->bells == BELLS_LEGACY ? BAR_LEGACY : BAR_MODERN];
	int ret = 0;

	if (vp->bells == BELLS_NONE || !bar->mapped)
		return;
	vp->bells_base = bar->addr +
			 (vp->bells == BELLS_LEGACY ? VIRTIO_PCI_QUEUE_NOTIFY : AT_NOTIFY);
	vp->bells_now = vp->bells;
	for (unsigned q = 0; !ret && q < vp->v->nqueues; q++) {
		int fd = vp->v->bells[q].fd;

		if (vp->bells == BELLS_LEGACY)
			ret = bus_eventfd_add(w->pio, vp->bells_base, 2, false, q, fd);
		else
			ret = bus_eventfd_add(w->mmio, vp->bells_base + NOTIFY_MULT * q, 0, true, 0,
					      fd);
	}
	/* The register's own callback does the same, slower. */
	if (ret)
		log_debug("%s: doorbells without KVM's short cut: %s", vp->pci.dev.id,
			  strerror(-ret));
}

static void bells_follow(void *ctx)
{
	struct virtio_pci *vp = ctx;

	bells_remove(vp);
	bells_add(vp);
}

static void bar_moved(void *ctx, bool mapped, uint64_t addr)
{
	struct virtio_pci *vp = ctx;
	const struct pci_bar *bar =
		&vp->pci.bars[vp->bells_now == BELLS_LEGACY ? BAR_LEGACY : BAR_MODERN];

	/* Called for either BAR; on unmapping, it still says where it was. */
	if (mapped && vp->bells_now == BELLS_NONE)
		bells_add(vp);
	else if (!mapped && vp->bells_now != BELLS_NONE && bar->addr == addr)
		bells_remove(vp);
}

/*
 * A driver runs: its doorbells belong into the kernel. They stay after a reset, for the next
 * driver.
 */
void virtio_pci_bells_want(struct virtio_pci *vp)
{
	enum bells want = virtio_has(vp->v, VIRTIO_F_VERSION_1) ? BELLS_MODERN : BELLS_LEGACY;
	struct vm *vm = pci_bus_wires(vp->pci.bus)->vm;

	if (!vp->v->started || want == vp->bells)
		return;
	vp->bells = want;
	if (vm)
		vm_exclusive(vm, bells_follow, vp);
	else
		bells_follow(vp);
}

/* --- the device --- */

static uint8_t cap_add(struct virtio_pci *vp, uint8_t type, uint32_t offset, uint32_t length,
		       unsigned extra)
{
	uint8_t len = sizeof(struct virtio_pci_cap) + extra;
	uint8_t at = pci_cap_add(&vp->pci, PCI_CAP_ID_VNDR, len);
	uint8_t *cap = vp->pci.config + at;

	cap[VIRTIO_PCI_CAP_LEN] = len;
	cap[VIRTIO_PCI_CAP_CFG_TYPE] = type;
	cap[VIRTIO_PCI_CAP_BAR] = type == VIRTIO_PCI_CAP_PCI_CFG ? 0 : BAR_MODERN;
	st_le32(cap + VIRTIO_PCI_CAP_OFFSET, offset);
	st_le32(cap + VIRTIO_PCI_CAP_LENGTH, length);
	return at;
}

static void caps_add(struct virtio_pci *vp)
{
	uint8_t at;

	cap_add(vp, VIRTIO_PCI_CAP_COMMON_CFG, AT_COMMON, PART, 0);
	cap_add(vp, VIRTIO_PCI_CAP_ISR_CFG, AT_ISR, PART, 0);
	if (vp->v->cfg_len)
		cap_add(vp, VIRTIO_PCI_CAP_DEVICE_CFG, AT_DEVICE, PART, 0);
	at = cap_add(vp, VIRTIO_PCI_CAP_NOTIFY_CFG, AT_NOTIFY, PART, 4);
	st_le32(vp->pci.config + at + VIRTIO_PCI_NOTIFY_CAP_MULT, NOTIFY_MULT);
	at = cap_add(vp, VIRTIO_PCI_CAP_PCI_CFG, 0, 0, 4);
	vp->window = at;
	vp->pci.wmask[at + VIRTIO_PCI_CAP_BAR] = 0xff;
	memset(vp->pci.wmask + at + VIRTIO_PCI_CAP_OFFSET, 0xff, 12);	/* offset, length, data */
	vp->pci.config_reading = virtio_pci_config_reading;
	vp->pci.config_written = virtio_pci_config_written;
}

static void pci_reset(struct device *d)
{
	struct virtio_pci *vp = container_of(d, struct virtio_pci, pci.dev);

	virtio_reset(vp->v);
	virtio_pci_regs_reset(vp);
	pci_dev_reset(&vp->pci);
}

static void pci_quiesce(struct device *d, void (*done)(void *ctx), void *ctx)
{
	virtio_quiesce(container_of(d, struct virtio_pci, pci.dev)->v, done, ctx);
}

static void pci_resume(struct device *d)
{
	virtio_resume(container_of(d, struct virtio_pci, pci.dev)->v);
}

static int pci_save(struct device *d, struct state_out *o)
{
	struct virtio_pci *vp = container_of(d, struct virtio_pci, pci.dev);
	uint8_t vectors[2 * (UINT8_MAX + 1)];
	int ret;

	ret = pci_dev_save(&vp->pci, o);
	state_u32(o, "dfselect", vp->dfselect);
	state_u32(o, "gfselect", vp->gfselect);
	state_u64(o, "driver_features", vp->driver_features);
	state_u16(o, "qsel", vp->qsel);
	state_u16(o, "config_vector", vp->config_vector);
	state_u8(o, "isr", vp->isr);
	for (unsigned q = 0; q < vp->v->nqueues; q++)
		st_be16(vectors + 2 * q, vp->queue_vectors[q]);
	state_bytes(o, "queue_vectors", vectors, 2 * (size_t)vp->v->nqueues);
	return ret ? ret : virtio_save(vp->v, o);
}

static int pci_load(struct device *d, struct state_in *in, uint32_t version)
{
	struct virtio_pci *vp = container_of(d, struct virtio_pci, pci.dev);
	uint8_t vectors[2 * (UINT8_MAX + 1)];
	int ret;

	state_get_u32(in, "dfselect", &vp->dfselect);
	state_get_u32(in, "gfselect", &vp->gfselect);
	state_get_u64(in, "driver_features", &vp->driver_features);
	state_get_u16(in, "qsel", &vp->qsel);
	state_get_u16(in, "config_vector", &vp->config_vector);
	state_get_u8(in, "isr", &vp->isr);
	ret = state_get_bytes(in, "queue_vectors", vectors, 2 * (size_t)vp->v->nqueues);
	if (ret || state_in_error(in))
		return -EINVAL;
	vp->config_vector = virtio_pci_vector_ok(vp, vp->config_vector);
	for (unsigned q = 0; q < vp->v->nqueues; q++)
		vp->queue_vectors[q] = virtio_pci_vector_ok(vp, ld_be16(vectors + 2 * q));
	if (vp->isr & ~(1 | VIRTIO_PCI_ISR_CONFIG))
		return state_bad(in, "%s: interrupt status 0x%x", vp->pci.dev.id, vp->isr);
	ret = virtio_load(vp->v, in);
	if (ret)
		return ret;
	virtio_features_loaded(vp->v, vp->driver_features);
	ret = pci_dev_load(&vp->pci, in);
	if (ret)
		return ret;
	if (vp->v->started)
		vp->bells = virtio_has(vp->v, VIRTIO_F_VERSION_1) ? BELLS_MODERN : BELLS_LEGACY;
	bells_follow(vp);
	return 0;
}

static void pci_destroy(struct device *d)
{
	struct virtio_pci *vp = container_of(d, struct virtio_pci, pci.dev);
	struct virtio_dev *v = vp->v;

	virtio_reset(v);
	bells_remove(vp);
	vp->bells = BELLS_NONE;
	pci_dev_exit(&vp->pci);
	v->ops->destroy(v);
	free(vp->queue_vectors);
	free(vp);
}

static const struct device_ops virtio_pci_ops = {
	.name = "virtio-pci", .version = 1,
	.reset = pci_reset, .quiesce = pci_quiesce, .resume = pci_resume,
	.save = pci_save, .load = pci_load, .destroy = pci_destroy,
};

struct device *virtio_pci_new(struct pci_bus *bus, unsigned devfn, struct virtio_dev *v,
			      struct err *err)
{
	uint16_t legacy_id = transitional_id(v->ops->id);
	struct pci_id id = {
		.vendor = PCI_VENDOR_VIRTIO,
		.device = legacy_id ? legacy_id : PCI_DEVICE_MODERN + v->ops->id,
		.subsystem_vendor = PCI_VENDOR_VIRTIO,
		.subsystem = legacy_id ? v->ops->id : PCI_DEVICE_MODERN + v->ops->id,
		.class_rev = v->ops->class_code << 8 | !legacy_id,
		.intx = true,
	};
	struct virtio_pci *vp = xcalloc(1, sizeof(*vp));
	uint64_t io_size = 32;
	int ret;

	assert(v->nqueues <= UINT8_MAX);
	device_init(&vp->pci.dev, &virtio_pci_ops, v->id, v->loop);
	vp->v = v;
	vp->queue_vectors = xcalloc(v->nqueues, sizeof(uint16_t));
	v->transport = &pci_transport;
	v->transport_ctx = vp;
	ret = pci_dev_init(&vp->pci, bus, devfn, &id);
	if (ret) {
		err_set(err, -ret, "%s: PCI slot %u.%u is taken", v->id, PCI_DEVFN_SLOT(devfn),
			PCI_DEVFN_FUNC(devfn));
		goto fail;
	}
	if (legacy_id) {
		while (io_size < VIRTIO_PCI_CONFIG_OFF(1) + v->cfg_len)
			io_size *= 2;
		pci_bar_regs(&vp->pci, BAR_LEGACY, PCI_BASE_ADDRESS_SPACE_IO, io_size,
			     &virtio_pci_legacy_ops, vp);
		vp->pci.bars[BAR_LEGACY].moved = bar_moved;
	}
	pci_bar_regs(&vp->pci, BAR_MODERN,
		     PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH, MODERN_SIZE,
		     &virtio_pci_modern_ops, vp);
	vp->pci.bars[BAR_MODERN].moved = bar_moved;
	ret = pci_msix_init(&vp->pci, BAR_MSIX, v->nqueues + 1);
	if (!ret)
		ret = virtio_attach(v);
	if (ret) {
		err_set(err, -ret, "%s: interrupts and doorbells: %s", v->id, strerror(-ret));
		pci_dev_exit(&vp->pci);
		goto fail;
	}
	pci_msix_on_enable(&vp->pci, msix_switched);
	caps_add(vp);
	virtio_pci_regs_reset(vp);
	return &vp->pci.dev;
fail:
	v->ops->destroy(v);
	free(vp->pci.dev.id);
	free(vp->queue_vectors);
	free(vp);
	return NULL;
}
