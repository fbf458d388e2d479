/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio_pci.h: what virtio_pci.c and virtio_pci_regs.c share; nobody else includes it. */
#ifndef DEVICES_VIRTIO_VIRTIO_PCI_H
#define DEVICES_VIRTIO_VIRTIO_PCI_H

#include <linux/virtio_pci.h>

#include "devices/pci/pci.h"
#include "devices/virtio/virtio.h"

enum { BAR_LEGACY = 0, BAR_MSIX = 1, BAR_MODERN = 4 };

/* Where the structures lie in BAR 4. */
#define AT_COMMON 0x0000
#define AT_ISR 0x1000
#define AT_DEVICE 0x2000
#define AT_NOTIFY 0x3000
#define PART 0x1000
#define NOTIFY_MULT 4
#define MODERN_SIZE 0x4000

/* Which register set the doorbells in KVM belong to. */
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

/*
 * virtio_pci.c: a driver runs: its doorbells belong into the kernel. They stay after a reset, for
 * the next driver.
 */
void virtio_pci_bells_want(struct virtio_pci *vp);

/* virtio_pci_regs.c */
extern const struct region_ops virtio_pci_legacy_ops, virtio_pci_modern_ops;
void virtio_pci_regs_reset(struct virtio_pci *vp);
/* or VIRTIO_MSI_NO_VECTOR */
uint16_t virtio_pci_vector_ok(struct virtio_pci *vp, uint64_t vector);
void virtio_pci_config_reading(struct pci_dev *p, unsigned off, unsigned size);
void virtio_pci_config_written(struct pci_dev *p, unsigned off, unsigned size);

#endif
