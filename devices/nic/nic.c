/* SPDX-License-Identifier: GPL-2.0-or-later */
/* nic.c: the beginning and the end that the network cards on PCI have in common. */
#include <linux/virtio_net.h>
#include <stdlib.h>

#include "devices/nic/nic.h"
#include "vmm/base/log.h"

int nic_init(struct pci_dev *p, const struct device_ops *ops, const char *id, struct loop *loop,
	     struct pci_bus *bus, unsigned devfn, const struct pci_id *pci_id, struct err *err)
{
	int ret;

	device_init(&p->dev, ops, id, loop);
	ret = pci_dev_init(p, bus, devfn, pci_id);
	if (ret < 0) {
		err_set(err, -ret, "%s: PCI slot %u is taken", id, PCI_DEVFN_SLOT(devfn));
		free(p->dev.id);
	}
	return ret;
}

void nic_connect(struct pci_dev *p, struct net *net, unsigned offloads,
		 void (*readable)(void *, unsigned), void (*writable)(void *, unsigned),
		 void (*link)(void *, bool), void *ctx)
{
	int ret;

	if (!net)
		return;
	net_attach(net, p->dev.loop, readable, writable, link, ctx);
	ret = net_set_offload(net, net->vnet_hdr ? offloads : 0, sizeof(struct virtio_net_hdr));
	if (ret < 0)
		log_warn("%s: no receive offload: %s", p->dev.id, strerror(-ret));
}

void nic_exit(struct pci_dev *p, struct net *net)
{
	if (net)
		net_attach(net, p->dev.loop, NULL, NULL, NULL, NULL);
	pci_dev_exit(p);
}
