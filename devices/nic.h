/* SPDX-License-Identifier: GPL-2.0-or-later */
/* nic.h: constructors of the network cards on PCI that are not virtio. net is borrowed and may be NULL (no cable). */
#ifndef DEVICES_NIC_H
#define DEVICES_NIC_H

#include "devices/pci.h"
#include "net/net.h"

/* Intel 82540EM / Realtek 8139C+. The device belongs to loop. NULL with the reason. */
struct device *e1000_new(struct pci_bus *pci, unsigned devfn, const char *id, struct net *net, const uint8_t mac[6],
			 struct loop *loop, struct err *err);
struct device *rtl8139_new(struct pci_bus *pci, unsigned devfn, const char *id, struct net *net, const uint8_t mac[6],
			   struct loop *loop, struct err *err);

#endif
