/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pending.c: constructors of devices still to come; each goes when its device arrives. */
#include "devices/chips.h"
#include "devices/virtio.h"
#include "devices/nic.h"
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#define W __attribute__((weak))
W struct device *piix3_ide_new(struct pci_bus *pci, const struct piix3_ide_opts *o, struct err *err)
{
	err_set(err, 95, "%s: not there yet", __func__);
	return NULL;
}

W int piix3_ide_attach(struct device *d, unsigned unit, const struct ide_drive_opts *o, struct err *err){return -1;}
W struct device *mc146818_new(struct bus *pio, struct vm_clock *clock, struct loop *loop, const struct mc146818_opts *o, struct err *err)
{
	err_set(err, 95, "%s: not there yet", __func__);
	return NULL;
}

W void mc146818_set_memory(struct device *d, uint64_t low, uint64_t high){}
W struct device *i8042_new(struct bus *pio, struct vm *vm, struct vm_clock *clock, struct loop *loop, const struct i8042_opts *o, struct err *err)
{
	err_set(err, 95, "%s: not there yet", __func__);
	return NULL;
}

W struct device *e1000_new(struct pci_bus *pci, unsigned devfn, const char *id, struct net *net, const uint8_t mac[6], struct loop *loop, struct err *err)
{
	err_set(err, 95, "%s: not there yet", __func__);
	return NULL;
}

W struct device *rtl8139_new(struct pci_bus *pci, unsigned devfn, const char *id, struct net *net, const uint8_t mac[6], struct loop *loop, struct err *err)
{
	err_set(err, 95, "%s: not there yet", __func__);
	return NULL;
}

W struct virtio_dev *virtio_rng_new(const char *id, struct loop *loop, struct mem *mem, struct err *err)
{
	err_set(err, 95, "%s: not there yet", __func__);
	return NULL;
}

W struct virtio_dev *virtio_net_new(const char *id, struct loop *loop, struct mem *mem, const struct virtio_net_opts *o, struct err *err)
{
	err_set(err, 95, "%s: not there yet", __func__);
	return NULL;
}

W struct virtio_dev *virtio_console_new(const char *id, struct loop *loop, struct mem *mem, struct chardev *chr, struct err *err)
{
	err_set(err, 95, "%s: not there yet", __func__);
	return NULL;
}

W struct virtio_dev *virtio_balloon_new(const char *id, struct loop *loop, struct mem *mem, struct err *err)
{
	err_set(err, 95, "%s: not there yet", __func__);
	return NULL;
}

W int piix3_ide_change_medium(struct device *d, unsigned unit, struct blk *blk, bool force, struct blk **old){return -95;}
