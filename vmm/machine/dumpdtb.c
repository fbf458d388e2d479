/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dumpdtb.c: -machine dumpdtb=FILE: the machine that the options describe as a flattened device
 * tree: the tree of a saved machine (machine_state.c) without registers, and where everything lies.
 * fdtdump and dtc show it as text. Before the guest runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "devices/pci/pci.h"
#include "vmm/machine/machine_state.h"

static void dump_region(void *ctx, uint64_t base, uint64_t len, const char *who, const char *chip)
{
	struct state_out *o = ctx;
	char name[64];

	snprintf(name, sizeof(name), "%.40s@%" PRIx64, who, base);
	for (char *p = name; *p; p++)
		if (*p == ' ' || *p == '/')
			*p = '-';
	state_begin(o, name);
	state_str(o, "compatible", chip);
	state_u64(o, "base", base);
	state_u64(o, "size", len);
	state_end(o);
}

static void dump_function(void *ctx, struct pci_dev *p)
{
	struct state_out *o = ctx;
	char name[32];

	snprintf(name, sizeof(name), "function@%x,%x", PCI_DEVFN_SLOT(p->devfn),
		 PCI_DEVFN_FUNC(p->devfn));
	state_begin(o, name);
	state_str(o, "device", p->dev.id);
	state_u16(o, "vendor-id", ld_le16(p->config + PCI_VENDOR_ID));
	state_u16(o, "device-id", ld_le16(p->config + PCI_DEVICE_ID));
	state_u32(o, "class-code", ld_le32(p->config + PCI_CLASS_REVISION) >> 8);
	for (int i = 0; i < PCI_BARS; i++) {
		if (!p->bars[i].size)
			continue;
		snprintf(name, sizeof(name), "bar%d-size", i);
		state_u64(o, name, p->bars[i].size);
		snprintf(name, sizeof(name), "bar%d", i);
		if (p->bars[i].mapped)
			state_u64(o, name, p->bars[i].addr);
	}
	state_end(o);
}

static void dump_memory(struct machine *m, struct state_out *o)
{
	struct block *b = NULL;

	state_begin(o, "memory");
	while ((b = block_next(m->mem, b))) {
		state_begin(o, block_id(b));
		state_u64(o, "size", block_size(b));
		state_end(o);
	}
	state_end(o);
}

static struct state_out *dump_tree(struct machine *m)
{
	struct state_out *o = state_out_new();

	state_str(o, "program", "minivmm " MINIVMM_VERSION);
	state_begin(o, "config");
	machine_describe(m, o);
	state_end(o);
	dump_memory(m, o);
	state_begin(o, "devices");
	for (unsigned i = 0; i < m->ndevices; i++) {
		state_begin(o, m->devices[i].dev->id);
		state_str(o, "compatible", m->devices[i].dev->ops->name);
		state_u32(o, "version", m->devices[i].dev->ops->version);
		state_end(o);
	}
	state_end(o);
	state_begin(o, "ports");
	bus_for_each(m->pio, dump_region, o);
	state_end(o);
	state_begin(o, "registers");
	bus_for_each(m->mmio, dump_region, o);
	state_end(o);
	if (m->pci) {
		state_begin(o, "pci");
		pci_bus_for_each(m->pci, dump_function, o);
		state_end(o);
	}
	return o;
}

int machine_dumpdtb(struct machine *m, const char *path, struct err *err)
{
	void *blob;
	size_t len;
	int fd, ret = state_out_finish(dump_tree(m), &blob, &len);

	if (ret < 0)
		return err_set(err, -ret, "dumpdtb=%s: %s", path, strerror(-ret));
	fd = host_open(&m->host, "device tree", path, O_WRONLY | O_CREAT | O_TRUNC, 0644, err);
	ret = MIN(fd, 0);
	if (fd >= 0)
		ret = write_full(fd, blob, len);
	if (fd >= 0 && close(fd) < 0 && ret == 0)
		ret = -errno;
	if (ret < 0)
		err_set(err, -ret, "dumpdtb=%s: %s", path, strerror(-ret));
	free(blob);
	return ret;
}
