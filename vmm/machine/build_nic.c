/* SPDX-License-Identifier: GPL-2.0-or-later */
/* build_nic.c: the rows of network cards. */
#include <errno.h>

#include "devices/nic/nic.h"
#include "devices/virtio/virtio.h"
#include "vmm/machine/build.h"

struct nic_entry {
	struct device_config base;
	struct prop_pci addr;
	char *netdev;				/* NULL: no cable */
	struct prop_mac mac;
	int bootindex;
	/* virtio-net: pairs, 0: as many as the backend has; 0: the device's default */
	unsigned queues, queue_size;
	bool packed;
};

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
		index += m->devices[i].config && device_is_nic(m->devices[i].config);
	while (taken) {
		net_default_mac(m->config->name, index++, moves, mac);
		taken = false;
		for (unsigned i = 0; i < m->ndevices && !taken; i++) {
			const struct device_config *o = m->devices[i].config;
			const struct prop_mac *other = o ? device_prop(o, PROP_MAC) : NULL;

			taken = other && !memcmp(other->addr, mac, 6);
		}
	}
}

/* What all cards begin with: the backend, or NULL, and an address. 0 or -errno with the reason. */
static int nic_begin(struct machine *m, struct nic_entry *e, struct net **net, struct err *err)
{
	*net = e->netdev ? machine_find_net(m, e->netdev) : NULL;
	if (e->netdev && !*net)
		return err_set(err, ENOENT, "%s %s: netdev=%s: no -netdev has that id",
			       e->base.kind->name, e->base.id, e->netdev);
	if (!e->mac.set)
		pick_mac(m, e->mac.addr);
	e->mac.set = true;
	return 0;
}

/*
 * Each pair of queues has a thread, where what it is connected to allows that: a disk does not wait
 * for packets, nor they for a disk.
 */
static int build_virtio_net(struct machine *m, struct device_config *d, struct err *err)
{
	struct nic_entry *e = container_of(d, struct nic_entry, base);
	struct virtio_net_opts o = { .queue_size = e->queue_size, .packed = e->packed };
	struct queue_threads threads = { 0 };
	struct net *net;
	int ret = nic_begin(m, e, &net, err);

	if (ret < 0)
		return ret;
	o.net = net;
	o.pairs = e->queues ? e->queues : net ? net->max_queues : 1;
	memcpy(o.mac, e->mac.addr, 6);
	if (net && net->any_loop && o.pairs <= net->max_queues &&
	    build_threads(m, &threads, d->id, o.pairs, true, err) < 0)
		return -EAGAIN;
	o.queue_loops = threads.loops;
	return build_virtio(m, d, virtio_net_new(d->id, m->loop, m->mem, &o, err), &threads, err);
}

static int build_pci_nic(struct machine *m, struct device_config *d,
			 struct device *(*new)(struct pci_bus *, unsigned, const char *,
					       struct net *, const uint8_t *, struct loop *,
					       struct err *),
			 struct err *err)
{
	struct nic_entry *e = container_of(d, struct nic_entry, base);
	unsigned devfn;
	struct net *net;
	int ret = nic_begin(m, e, &net, err);

	if (ret == 0)
		ret = build_pci_slot(m, d, &devfn, err);
	if (ret < 0)
		return ret;
	return build_done(m, d, new(m->pci, devfn, d->id, net, e->mac.addr, m->loop, err));
}

static int build_e1000(struct machine *m, struct device_config *d, struct err *err)
{
	return build_pci_nic(m, d, e1000_new, err);
}

static int build_rtl8139(struct machine *m, struct device_config *d, struct err *err)
{
	return build_pci_nic(m, d, rtl8139_new, err);
}

static char *nic_path(struct machine *m, const struct device_config *d)
{
	return build_pci_path(m, d, "ethernet", "ethernet-phy@0");
}

#define NIC_PROPS                                                                                  \
	PROP_PCI_ADDR(struct nic_entry), PROP_PCI_BUS,                                             \
	{ "netdev", NULL, PROP_NETDEV, offsetof(struct nic_entry, netdev),                         \
	  .help = "the -netdev that it is connected to" },                                         \
	{ "mac", "macaddr", PROP_MAC, offsetof(struct nic_entry, mac),                             \
	  .help = "its address; left out: made from -name" },                                      \
	PROP_BOOT(struct nic_entry)

static const struct prop virtio_net_props[] = { NIC_PROPS, PROP_QUEUES(struct nic_entry), { 0 } };
static const struct prop nic_props[] = { NIC_PROPS, { 0 } };

const struct device_kind kind_virtio_net = {
	.name = "virtio-net",
	.aliases = { "virtio-net-pci", "virtio-net-device" },
	.help = "network card",
	.machines = ON_PC | ON_MICRO,
	.hotplugs = true,
	.size = sizeof(struct nic_entry),
	.props = virtio_net_props,
	.build = build_virtio_net,
	.boot_path = nic_path,
	.rom = "efi-virtio.rom",
};

const struct device_kind kind_e1000 = {
	.name = "e1000",
	.aliases = { "e1000-82540em" },
	.help = "network card, Intel 82540EM",
	.machines = ON_PC,
	.hotplugs = true,
	.size = sizeof(struct nic_entry),
	.props = nic_props,
	.build = build_e1000,
	.boot_path = nic_path,
	.rom = "efi-e1000.rom",
};

const struct device_kind kind_rtl8139 = {
	.name = "rtl8139",
	.help = "network card, Realtek 8139",
	.machines = ON_PC,
	.hotplugs = true,
	.size = sizeof(struct nic_entry),
	.props = nic_props,
	.build = build_rtl8139,
	.boot_path = nic_path,
	.rom = "efi-rtl8139.rom",
};
