/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio_pci.c: virtio over PCI (virtio 1.2, 4.1), transitional: the registers of 2011's drivers in I/O BAR 0
 * (4.1.4.8), MSI-X in BAR 1, the structures of virtio 1.x in the 64-bit memory BAR 4, and the window to them in
 * configuration space (4.1.4.9). A device without a transitional id has no BAR 0.
 *
 * Register callbacks run with the lock of the device's loop, configuration space with the main loop's,
 * notifications on any queue's loop. Doorbells become eventfds in KVM once a driver runs: of the register set it uses.
 */
#include <assert.h>
#include <errno.h>
#include <linux/virtio_pci.h>
#include <stdlib.h>

#include "devices/pci.h"
#include "devices/virtio.h"
#include "vmm/log.h"

#define PCI_VENDOR_VIRTIO 0x1af4
#define PCI_DEVICE_MODERN 0x1040	/* + virtio id */

enum { BAR_LEGACY = 0, BAR_MSIX = 1, BAR_MODERN = 4 };

/* Where the structures lie in BAR 4. */
#define AT_COMMON 0x0000
#define AT_ISR 0x1000
#define AT_DEVICE 0x2000
#define AT_NOTIFY 0x3000
#define PART 0x1000
#define NOTIFY_MULT 4
#define MODERN_SIZE 0x4000

enum bells { BELLS_NONE, BELLS_LEGACY, BELLS_MODERN };

struct virtio_pci {
	struct pci_dev pci;
	struct virtio_dev *v;
	uint32_t dfselect, gfselect;
	uint64_t driver_features;
	uint16_t qsel;
	uint16_t config_vector;
	uint16_t *queue_vectors;
	uint8_t isr;			/* atomic */
	enum bells bells, bells_now;	/* wanted; in the bus at bells_base */
	uint64_t bells_base;
	uint8_t window;			/* offset of the VIRTIO_PCI_CAP_PCI_CFG capability */
};

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

static uint8_t isr_take(struct virtio_pci *vp)
{
	uint8_t isr = __atomic_exchange_n(&vp->isr, 0, __ATOMIC_ACQ_REL);

	pci_intx(&vp->pci, 0);
	/* A queue's loop may have raised it between the two. */
	if (__atomic_load_n(&vp->isr, __ATOMIC_ACQUIRE))
		pci_intx(&vp->pci, 1);
	return isr;
}

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
	struct vec *vec = pci_msix_enabled(&vp->pci) ? pci_msix_vec(&vp->pci, vp->queue_vectors[q]) : NULL;

	return vec ? vec_fd(vec) : -ENOTSUP;
}

static const struct virtio_transport_ops pci_transport = { notify_queue, notify_config, queue_fd };

/* The function sends either messages or INTA#, never both. */
static void msix_switched(struct pci_dev *p, bool on)
{
	struct virtio_pci *vp = container_of(p, struct virtio_pci, pci);

	pci_intx(p, !on && __atomic_load_n(&vp->isr, __ATOMIC_ACQUIRE));
}

static uint16_t vector_ok(struct virtio_pci *vp, uint64_t vector)
{
	return vector <= UINT16_MAX && pci_msix_vec(&vp->pci, vector) ? vector : VIRTIO_MSI_NO_VECTOR;
}

static uint16_t *selected_vector(struct virtio_pci *vp)
{
	return vp->qsel < vp->v->nqueues ? &vp->queue_vectors[vp->qsel] : NULL;
}

/* --- doorbells in the bus; exclusive section, or nothing runs --- */

static void bells_remove(struct virtio_pci *vp)
{
	const struct pci_wires *w = pci_bus_wires(vp->pci.bus);

	for (unsigned q = 0; vp->bells_now != BELLS_NONE && q < vp->v->nqueues; q++) {
		if (vp->bells_now == BELLS_LEGACY)
			bus_eventfd_del(w->pio, vp->bells_base, vp->v->bells[q].fd);
		else
			bus_eventfd_del(w->mmio, vp->bells_base + NOTIFY_MULT * q, vp->v->bells[q].fd);
	}
	vp->bells_now = BELLS_NONE;
}

static void bells_add(struct virtio_pci *vp)
{
	const struct pci_wires *w = pci_bus_wires(vp->pci.bus);
	const struct pci_bar *bar = &vp->pci.bars[vp->bells == BELLS_LEGACY ? BAR_LEGACY : BAR_MODERN];
	int ret = 0;

	if (vp->bells == BELLS_NONE || !bar->mapped)
		return;
	vp->bells_base = bar->addr + (vp->bells == BELLS_LEGACY ? VIRTIO_PCI_QUEUE_NOTIFY : AT_NOTIFY);
	vp->bells_now = vp->bells;
	for (unsigned q = 0; !ret && q < vp->v->nqueues; q++) {
		int fd = vp->v->bells[q].fd;

		if (vp->bells == BELLS_LEGACY)
			ret = bus_eventfd_add(w->pio, vp->bells_base, 2, false, q, fd);
		else
			ret = bus_eventfd_add(w->mmio, vp->bells_base + NOTIFY_MULT * q, 0, true, 0, fd);
	}
	/* The register's own callback does the same, slower. */
	if (ret)
		log_debug("%s: doorbells without KVM's short cut: %s", vp->pci.dev.id, strerror(-ret));
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
	const struct pci_bar *bar = &vp->pci.bars[vp->bells_now == BELLS_LEGACY ? BAR_LEGACY : BAR_MODERN];

	/* Called for either BAR; on unmapping, it still says where it was. */
	if (mapped && vp->bells_now == BELLS_NONE)
		bells_add(vp);
	else if (!mapped && vp->bells_now != BELLS_NONE && bar->addr == addr)
		bells_remove(vp);
}

/* A driver runs: its doorbells belong into the kernel. They stay after a reset, for the next driver. */
static void bells_want(struct virtio_pci *vp)
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

/* --- registers both sets have --- */

static void regs_reset(struct virtio_pci *vp)
{
	vp->dfselect = vp->gfselect = 0;
	vp->driver_features = 0;
	vp->qsel = 0;
	vp->config_vector = VIRTIO_MSI_NO_VECTOR;
	for (unsigned q = 0; q < vp->v->nqueues; q++)
		vp->queue_vectors[q] = VIRTIO_MSI_NO_VECTOR;
	isr_take(vp);
}

static void status_write(struct virtio_pci *vp, uint8_t status, bool legacy)
{
	if (virtio_set_status(vp->v, status, legacy))
		regs_reset(vp);
	bells_want(vp);
}

static void vector_write(struct virtio_pci *vp, uint16_t *vector, uint64_t val)
{
	if (vector)
		__atomic_store_n(vector, vector_ok(vp, val), __ATOMIC_RELAXED);
}

/* --- legacy registers (4.1.4.8) --- */

static void pfn_write(struct virtio_pci *vp, uint32_t pfn)
{
	struct virtq *vq;
	uint64_t at = (uint64_t)pfn << VIRTIO_PCI_QUEUE_ADDR_SHIFT;

	if (vp->qsel >= vp->v->nqueues)
		return;
	vq = &vp->v->queues[vp->qsel];
	if (vq->enabled)
		virtio_queue_disable(vp->v, vp->qsel);
	if (!pfn)
		return;
	vq->size = vq->max_size;
	vq->desc = at;
	vq->avail = at + 16ull * vq->size;
	vq->used = ALIGN_UP(vq->avail + 2ull * (3 + vq->size), (uint64_t)VIRTIO_PCI_VRING_ALIGN);
	virtio_queue_enable(vp->v, vp->qsel);
}

static uint32_t legacy_config_off(struct virtio_pci *vp)
{
	return VIRTIO_PCI_CONFIG_OFF(pci_msix_enabled(&vp->pci));
}

static uint64_t legacy_read(void *dev, uint64_t off, unsigned size)
{
	struct virtio_pci *vp = dev;
	struct virtio_dev *v = vp->v;
	struct virtq *vq = vp->qsel < v->nqueues ? &v->queues[vp->qsel] : NULL;
	uint16_t *vector;

	if (off >= legacy_config_off(vp))
		return virtio_config_load(v, off - legacy_config_off(vp), size);
	switch (off) {
	case VIRTIO_PCI_HOST_FEATURES:
		return v->offer & UINT32_MAX;
	case VIRTIO_PCI_GUEST_FEATURES:
		return v->features & UINT32_MAX;
	case VIRTIO_PCI_QUEUE_PFN:
		return vq && vq->enabled ? vq->desc >> VIRTIO_PCI_QUEUE_ADDR_SHIFT : 0;
	case VIRTIO_PCI_QUEUE_NUM:
		return vq ? vq->max_size : 0;
	case VIRTIO_PCI_QUEUE_SEL:
		return vp->qsel;
	case VIRTIO_PCI_STATUS:
		return virtio_status(v);
	case VIRTIO_PCI_ISR:
		return isr_take(vp);
	case VIRTIO_MSI_CONFIG_VECTOR:
		return vp->config_vector;
	case VIRTIO_MSI_QUEUE_VECTOR:
		vector = selected_vector(vp);
		return vector ? *vector : VIRTIO_MSI_NO_VECTOR;
	}
	return 0;
}

static void legacy_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct virtio_pci *vp = dev;

	if (off >= legacy_config_off(vp)) {
		virtio_config_store(vp->v, off - legacy_config_off(vp), size, val);
		return;
	}
	switch (off) {
	case VIRTIO_PCI_GUEST_FEATURES:
		virtio_set_features(vp->v, val, true);
		break;
	case VIRTIO_PCI_QUEUE_PFN:
		pfn_write(vp, val);
		break;
	case VIRTIO_PCI_QUEUE_SEL:
		vp->qsel = val;
		break;
	case VIRTIO_PCI_QUEUE_NOTIFY:
		virtio_ring_bell(vp->v, val);
		break;
	case VIRTIO_PCI_STATUS:
		status_write(vp, val, true);
		break;
	case VIRTIO_MSI_CONFIG_VECTOR:
		vector_write(vp, &vp->config_vector, val);
		break;
	case VIRTIO_MSI_QUEUE_VECTOR:
		vector_write(vp, selected_vector(vp), val);
		break;
	}
}

static const char *legacy_reg_name(void *dev, uint64_t off, bool is_write)
{
	switch (off) {
	case VIRTIO_PCI_HOST_FEATURES: return "HOST_FEATURES";
	case VIRTIO_PCI_GUEST_FEATURES: return "GUEST_FEATURES";
	case VIRTIO_PCI_QUEUE_PFN: return "QUEUE_PFN";
	case VIRTIO_PCI_QUEUE_NUM: return "QUEUE_NUM";
	case VIRTIO_PCI_QUEUE_SEL: return "QUEUE_SEL";
	case VIRTIO_PCI_QUEUE_NOTIFY: return "QUEUE_NOTIFY";
	case VIRTIO_PCI_STATUS: return "STATUS";
	case VIRTIO_PCI_ISR: return "ISR";
	default: return off < legacy_config_off(dev) ? "MSI_VECTOR" : "config";
	}
}

static const struct region_ops legacy_ops = {
	.name = "virtio-pci legacy",
	.read = legacy_read, .write = legacy_write, .reg_name = legacy_reg_name,
	.min_width = 1, .max_width = 4,
};

/* --- virtio 1.x registers (4.1.4.3) --- */

static uint64_t common_queue_read(struct virtio_pci *vp, uint64_t off)
{
	struct virtq *vq = &vp->v->queues[vp->qsel];

	switch (off) {
	case VIRTIO_PCI_COMMON_Q_SIZE: return vq->size;
	case VIRTIO_PCI_COMMON_Q_MSIX: return vp->queue_vectors[vp->qsel];
	case VIRTIO_PCI_COMMON_Q_ENABLE: return vq->enabled;
	case VIRTIO_PCI_COMMON_Q_NOFF: return vp->qsel;
	case VIRTIO_PCI_COMMON_Q_DESCLO: return vq->desc & UINT32_MAX;
	case VIRTIO_PCI_COMMON_Q_DESCHI: return vq->desc >> 32;
	case VIRTIO_PCI_COMMON_Q_AVAILLO: return vq->avail & UINT32_MAX;
	case VIRTIO_PCI_COMMON_Q_AVAILHI: return vq->avail >> 32;
	case VIRTIO_PCI_COMMON_Q_USEDLO: return vq->used & UINT32_MAX;
	case VIRTIO_PCI_COMMON_Q_USEDHI: return vq->used >> 32;
	default: return 0;		/* Q_NDATA, Q_RESET: a reset is over when the write returns */
	}
}

static uint64_t common_read(struct virtio_pci *vp, uint64_t off)
{
	struct virtio_dev *v = vp->v;

	switch (off) {
	case VIRTIO_PCI_COMMON_DFSELECT: return vp->dfselect;
	case VIRTIO_PCI_COMMON_DF: return vp->dfselect < 2 ? v->offer >> (32 * vp->dfselect) & UINT32_MAX : 0;
	case VIRTIO_PCI_COMMON_GFSELECT: return vp->gfselect;
	case VIRTIO_PCI_COMMON_GF: return vp->gfselect < 2 ? vp->driver_features >> (32 * vp->gfselect) & UINT32_MAX : 0;
	case VIRTIO_PCI_COMMON_MSIX: return vp->config_vector;
	case VIRTIO_PCI_COMMON_NUMQ: return v->nqueues;
	case VIRTIO_PCI_COMMON_STATUS: return virtio_status(v);
	case VIRTIO_PCI_COMMON_CFGGENERATION: return __atomic_load_n(&v->generation, __ATOMIC_ACQUIRE) & 0xff;
	case VIRTIO_PCI_COMMON_Q_SELECT: return vp->qsel;
	default: return vp->qsel < v->nqueues ? common_queue_read(vp, off) : 0;
	}
}

static void set_half(uint64_t *reg, uint32_t val, bool high)
{
	*reg = high ? (*reg & UINT32_MAX) | (uint64_t)val << 32 : (*reg & ~(uint64_t)UINT32_MAX) | val;
}

static void common_queue_write(struct virtio_pci *vp, uint64_t off, uint32_t val)
{
	struct virtq *vq = &vp->v->queues[vp->qsel];

	switch (off) {
	case VIRTIO_PCI_COMMON_Q_MSIX:
		vector_write(vp, selected_vector(vp), val);
		return;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		if (val == 1)
			virtio_queue_enable(vp->v, vp->qsel);
		return;
	case VIRTIO_PCI_COMMON_Q_RESET:
		if (val == 1 && virtio_has(vp->v, VIRTIO_F_RING_RESET))
			virtio_queue_disable(vp->v, vp->qsel);
		return;
	}
	/* Where the rings are is fixed while they are in use. */
	if (vq->enabled || vp->v->resetting)
		return;
	switch (off) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		vq->size = val;
		break;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		set_half(&vq->desc, val, off == VIRTIO_PCI_COMMON_Q_DESCHI);
		break;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		set_half(&vq->avail, val, off == VIRTIO_PCI_COMMON_Q_AVAILHI);
		break;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		set_half(&vq->used, val, off == VIRTIO_PCI_COMMON_Q_USEDHI);
		break;
	}
}

static void common_write(struct virtio_pci *vp, uint64_t off, uint32_t val)
{
	switch (off) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		vp->dfselect = val;
		break;
	case VIRTIO_PCI_COMMON_GFSELECT:
		vp->gfselect = val;
		break;
	case VIRTIO_PCI_COMMON_GF:
		if (vp->gfselect > 1)
			break;
		set_half(&vp->driver_features, val, vp->gfselect);
		virtio_set_features(vp->v, vp->driver_features, false);
		break;
	case VIRTIO_PCI_COMMON_MSIX:
		vector_write(vp, &vp->config_vector, val);
		break;
	case VIRTIO_PCI_COMMON_STATUS:
		status_write(vp, val, false);
		break;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		vp->qsel = val;
		break;
	default:
		if (vp->qsel < vp->v->nqueues)
			common_queue_write(vp, off, val);
	}
}

static uint64_t modern_read(void *dev, uint64_t off, unsigned size)
{
	struct virtio_pci *vp = dev;

	switch (ALIGN_DOWN(off, (uint64_t)PART)) {
	case AT_COMMON: return common_read(vp, off - AT_COMMON);
	case AT_ISR: return off == AT_ISR ? isr_take(vp) : 0;
	case AT_DEVICE: return virtio_config_load(vp->v, off - AT_DEVICE, size);
	default: return 0;
	}
}

static void modern_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct virtio_pci *vp = dev;

	switch (ALIGN_DOWN(off, (uint64_t)PART)) {
	case AT_COMMON:
		common_write(vp, off - AT_COMMON, val);
		break;
	case AT_DEVICE:
		virtio_config_store(vp->v, off - AT_DEVICE, size, val);
		break;
	case AT_NOTIFY:
		virtio_ring_bell(vp->v, (off - AT_NOTIFY) / NOTIFY_MULT);
		break;
	}
}

static const char *modern_reg_name(void *dev, uint64_t off, bool is_write)
{
	static const char *const common[] = {
		[0] = "device_feature_select", [4] = "device_feature", [8] = "driver_feature_select",
		[12] = "driver_feature", [16] = "config_msix_vector", [18] = "num_queues", [20] = "device_status",
		[21] = "config_generation", [22] = "queue_select", [24] = "queue_size", [26] = "queue_msix_vector",
		[28] = "queue_enable", [30] = "queue_notify_off", [32] = "queue_desc", [36] = "queue_desc high",
		[40] = "queue_driver", [44] = "queue_driver high", [48] = "queue_device", [52] = "queue_device high",
		[56] = "queue_notify_data", [58] = "queue_reset",
	};

	switch (ALIGN_DOWN(off, (uint64_t)PART)) {
	case AT_COMMON: return off < ARRAY_SIZE(common) ? common[off] : NULL;
	case AT_ISR: return "isr";
	case AT_DEVICE: return "config";
	default: return "notify";
	}
}

static const struct region_ops modern_ops = {
	.name = "virtio-pci",
	.read = modern_read, .write = modern_write, .reg_name = modern_reg_name,
	.min_width = 1, .max_width = 4,
};

/* --- the window in configuration space (4.1.4.9) --- */

/* The access that cap.bar, offset and length describe; false when it is none of ours. */
static bool window_access(struct virtio_pci *vp, uint64_t *off, unsigned *size)
{
	const uint8_t *cap = vp->pci.config + vp->window;

	*off = ld_le32(cap + VIRTIO_PCI_CAP_OFFSET);
	*size = ld_le32(cap + VIRTIO_PCI_CAP_LENGTH);
	return cap[VIRTIO_PCI_CAP_BAR] == BAR_MODERN && (*size == 1 || *size == 2 || *size == 4) && *off % *size == 0 &&
	       range_ok(*off, *size, MODERN_SIZE);
}

static bool touches_data(struct virtio_pci *vp, unsigned off, unsigned size)
{
	unsigned data = vp->window + sizeof(struct virtio_pci_cap);

	return vp->window && off < data + 4 && data < off + size;
}

static void config_reading(struct pci_dev *p, unsigned off, unsigned size)
{
	struct virtio_pci *vp = container_of(p, struct virtio_pci, pci);
	unsigned width;
	uint64_t at;

	if (!touches_data(vp, off, size) || !window_access(vp, &at, &width))
		return;
	loop_lock(p->dev.loop);
	st_le32(p->config + vp->window + sizeof(struct virtio_pci_cap), modern_read(vp, at, width));
	loop_unlock(p->dev.loop);
}

static void config_written(struct pci_dev *p, unsigned off, unsigned size)
{
	struct virtio_pci *vp = container_of(p, struct virtio_pci, pci);
	unsigned width;
	uint64_t at, val;

	if (!touches_data(vp, off, size) || !window_access(vp, &at, &width))
		return;
	val = ld_le32(p->config + vp->window + sizeof(struct virtio_pci_cap));
	loop_lock(p->dev.loop);
	modern_write(vp, at, width, width == 4 ? val : val & ((1u << 8 * width) - 1));
	loop_unlock(p->dev.loop);
}

/* --- the device --- */

static uint8_t cap_add(struct virtio_pci *vp, uint8_t type, uint32_t offset, uint32_t length, unsigned extra)
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
	vp->pci.config_reading = config_reading;
	vp->pci.config_written = config_written;
}

static void pci_reset(struct device *d)
{
	struct virtio_pci *vp = container_of(d, struct virtio_pci, pci.dev);

	virtio_reset(vp->v);
	regs_reset(vp);
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
	vp->config_vector = vector_ok(vp, vp->config_vector);
	for (unsigned q = 0; q < vp->v->nqueues; q++)
		vp->queue_vectors[q] = vector_ok(vp, ld_be16(vectors + 2 * q));
	ret = virtio_load(vp->v, in);
	if (ret)
		return ret;
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

struct device *virtio_pci_new(struct pci_bus *bus, unsigned devfn, struct virtio_dev *v, struct err *err)
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
		err_set(err, -ret, "%s: PCI slot %u.%u is taken", v->id, PCI_DEVFN_SLOT(devfn), PCI_DEVFN_FUNC(devfn));
		goto fail;
	}
	if (legacy_id) {
		while (io_size < VIRTIO_PCI_CONFIG_OFF(1) + v->cfg_len)
			io_size *= 2;
		pci_bar_regs(&vp->pci, BAR_LEGACY, PCI_BASE_ADDRESS_SPACE_IO, io_size, &legacy_ops, vp);
		vp->pci.bars[BAR_LEGACY].moved = bar_moved;
	}
	pci_bar_regs(&vp->pci, BAR_MODERN, PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH, MODERN_SIZE,
		     &modern_ops, vp);
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
	regs_reset(vp);
	return &vp->pci.dev;
fail:
	v->ops->destroy(v);
	free(vp->pci.dev.id);
	free(vp->queue_vectors);
	free(vp);
	return NULL;
}
