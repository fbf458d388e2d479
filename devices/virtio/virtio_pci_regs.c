/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio_pci_regs.c: the registers of virtio over PCI: legacy (virtio 1.2, 4.1.4.8), those of 1.x
 * (4.1.4.3), and the window to the latter in configuration space (4.1.4.9). Which thread:
 * virtio_pci.c.
 */
#include "devices/virtio/virtio_pci.h"

/* --- interrupt status and vectors --- */

static uint8_t isr_take(struct virtio_pci *vp)
{
	uint8_t isr = __atomic_exchange_n(&vp->isr, 0, __ATOMIC_ACQ_REL);

	pci_intx(&vp->pci, 0);
	/* A queue's loop may have raised it between the two. */
	if (__atomic_load_n(&vp->isr, __ATOMIC_ACQUIRE))
		pci_intx(&vp->pci, 1);
	return isr;
}

uint16_t virtio_pci_vector_ok(struct virtio_pci *vp, uint64_t vector)
{
	return vector <= UINT16_MAX && pci_msix_vec(&vp->pci, vector) ? vector
								      : VIRTIO_MSI_NO_VECTOR;
}

static uint16_t *selected_vector(struct virtio_pci *vp)
{
	return vp->qsel < vp->v->nqueues ? &vp->queue_vectors[vp->qsel] : NULL;
}

/* --- registers both sets have --- */

void virtio_pci_regs_reset(struct virtio_pci *vp)
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
		virtio_pci_regs_reset(vp);
	virtio_pci_bells_want(vp);
}

static void vector_write(struct virtio_pci *vp, uint16_t *vector, uint64_t val)
{
	if (vector)
		__atomic_store_n(vector, virtio_pci_vector_ok(vp, val), __ATOMIC_RELAXED);
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

const struct region_ops virtio_pci_legacy_ops = {
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
	/* Q_NDATA, Q_RESET: a reset is over when the write returns */
	default: return 0;
	}
}

static uint64_t common_read(struct virtio_pci *vp, uint64_t off)
{
	struct virtio_dev *v = vp->v;

	switch (off) {
	case VIRTIO_PCI_COMMON_DFSELECT: return vp->dfselect;
	case VIRTIO_PCI_COMMON_DF:
		return vp->dfselect < 2 ? v->offer >> (32 * vp->dfselect) & UINT32_MAX : 0;
	case VIRTIO_PCI_COMMON_GFSELECT: return vp->gfselect;
	case VIRTIO_PCI_COMMON_GF:
		return vp->gfselect < 2 ? vp->driver_features >> (32 * vp->gfselect) & UINT32_MAX
					: 0;
	case VIRTIO_PCI_COMMON_MSIX: return vp->config_vector;
	case VIRTIO_PCI_COMMON_NUMQ: return v->nqueues;
	case VIRTIO_PCI_COMMON_STATUS: return virtio_status(v);
	case VIRTIO_PCI_COMMON_CFGGENERATION:
		return __atomic_load_n(&v->generation, __ATOMIC_ACQUIRE) & 0xff;
	case VIRTIO_PCI_COMMON_Q_SELECT: return vp->qsel;
	default: return vp->qsel < v->nqueues ? common_queue_read(vp, off) : 0;
	}
}

static void set_half(uint64_t *reg, uint32_t val, bool high)
{
	*reg = high ? (*reg & UINT32_MAX) | (uint64_t)val << 32
		    : (*reg & ~(uint64_t)UINT32_MAX) | val;
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
		[0] = "device_feature_select", [4] = "device_feature",
		[8] = "driver_feature_select", [12] = "driver_feature",
		[16] = "config_msix_vector",   [18] = "num_queues",
		[20] = "device_status",	       [21] = "config_generation",
		[22] = "queue_select",	       [24] = "queue_size",
		[26] = "queue_msix_vector",    [28] = "queue_enable",
		[30] = "queue_notify_off",     [32] = "queue_desc",
		[36] = "queue_desc high",      [40] = "queue_driver",
		[44] = "queue_driver high",    [48] = "queue_device",
		[52] = "queue_device high",    [56] = "queue_notify_data",
		[58] = "queue_reset",
	};

	switch (ALIGN_DOWN(off, (uint64_t)PART)) {
	case AT_COMMON: return off < ARRAY_SIZE(common) ? common[off] : NULL;
	case AT_ISR: return "isr";
	case AT_DEVICE: return "config";
	default: return "notify";
	}
}

const struct region_ops virtio_pci_modern_ops = {
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
	return cap[VIRTIO_PCI_CAP_BAR] == BAR_MODERN && (*size == 1 || *size == 2 || *size == 4) &&
	       *off % *size == 0 && range_ok(*off, *size, MODERN_SIZE);
}

static bool touches_data(struct virtio_pci *vp, unsigned off, unsigned size)
{
	unsigned data = vp->window + sizeof(struct virtio_pci_cap);

	return vp->window && off < data + 4 && data < off + size;
}

void virtio_pci_config_reading(struct pci_dev *p, unsigned off, unsigned size)
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

void virtio_pci_config_written(struct pci_dev *p, unsigned off, unsigned size)
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
