/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nic.h: the network cards on PCI that are not virtio. net is borrowed and may be NULL (no cable).
 */
#ifndef DEVICES_NIC_NIC_H
#define DEVICES_NIC_NIC_H

#include "devices/pci/pci.h"
#include "net/net.h"

/* Intel 82540EM / Realtek 8139C+. The device belongs to loop. NULL with the reason. */
struct device *e1000_new(struct pci_bus *pci, unsigned devfn, const char *id, struct net *net,
			 const uint8_t mac[6], struct loop *loop, struct err *err);
struct device *rtl8139_new(struct pci_bus *pci, unsigned devfn, const char *id, struct net *net,
			   const uint8_t mac[6], struct loop *loop, struct err *err);

/* --- for the cards: what they have in common (nic.c) --- */
/*
 * The function on the bus. On failure nothing is left behind but the caller's own memory. 0 or
 * -errno.
 */
int nic_init(struct pci_dev *p, const struct device_ops *ops, const char *id, struct loop *loop,
	     struct pci_bus *bus, unsigned devfn, const struct pci_id *pci_id, struct err *err);
/*
 * Packets travel with a struct virtio_net_hdr; offloads: what the card can take, where the backend
 * gives it.
 */
void nic_connect(struct pci_dev *p, struct net *net, unsigned offloads,
		 void (*readable)(void *, unsigned), void (*writable)(void *, unsigned),
		 void (*link)(void *, bool), void *ctx);
void nic_exit(struct pci_dev *p, struct net *net);

#endif
