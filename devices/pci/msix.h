/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * msix.h: between pci.c and msix.c only; devices use pci_msix_* of pci.h.
 */
#ifndef DEVICES_PCI_MSIX_H
#define DEVICES_PCI_MSIX_H

#include "devices/pci/pci.h"

struct msix;
void msix_config_written(struct pci_dev *p);	/* the control word may have changed */
void msix_reset(struct pci_dev *p);
void msix_free(struct pci_dev *p);
void msix_save(struct pci_dev *p, struct state_out *o);
int msix_load(struct pci_dev *p, struct state_in *in);

#endif
