/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pending.c: constructors of devices still to come; each goes when its device arrives. */
#include "devices/chips.h"
#include "devices/virtio.h"
#include "devices/nic.h"
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#define W __attribute__((weak))
W struct device *rtl8139_new(struct pci_bus *pci, unsigned devfn, const char *id, struct net *net, const uint8_t mac[6], struct loop *loop, struct err *err)
{
	err_set(err, 95, "%s: not there yet", __func__);
	return NULL;
}
