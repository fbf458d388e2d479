/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * i440fx.c: the 82441FX host bridge (PMC, Intel 290549): configuration mechanism 1 at ports 0xcf8
 * and 0xcfc, and the programmable attribute map that puts RAM, writable or not, over [0xc0000,
 * 0x100000). Main loop.
 *
 * RAM for writes with the bus behind it for reads (WE without RE) is shown as no RAM, as other
 * virtual PCs do: no firmware for them shadows that way, and it could not be a KVM memory slot.
 * There is no SMRAM: no SMM.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/chips.h"
#include "vmm/base/log.h"

#define PMC_PAM0	0x59		/* high nibble: 0xf0000, 64 KiB */
#define PMC_PAM6	0x5f
#define PMC_SMRAM	0x72
#define PAM_RE		1		/* reads go to DRAM */
#define PAM_WE		2		/* writes go to DRAM */
#define PAM_SEGMENTS	13		/* 12 of 16 KiB from 0xc0000 on, then 64 KiB */
#define PAM_BASE	0xc0000u
#define PAM_SEGMENT	0x4000u

/* CONFADD: bit 31, bus 23:16, function 15:8, register 7:2 */
#define CONFIG_ENABLE	0x80000000u
#define CONFIG_MASK	0x80fffffcu

enum shown { SHOWN_NOT, SHOWN_ROM, SHOWN_RAM };

struct i440fx {
	struct pci_dev pci;
	struct block *ram;
	uint32_t address;
	enum shown shown[PAM_SEGMENTS];	/* as it is mapped now */
	bool pending;
};

static uint64_t address_read(void *dev, uint64_t off, unsigned size)
{
	struct i440fx *h = dev;

	if (off != 0 || size != 4)
		return ~0ull;
	return h->address;
}

static void address_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct i440fx *h = dev;

	if (off == 0 && size == 4)
		h->address = (uint32_t)val & CONFIG_MASK;
}

static bool address_decodes(const struct i440fx *h)
{
	return (h->address & CONFIG_ENABLE) && (h->address >> 16 & 0xff) == 0;
}

static uint64_t data_read(void *dev, uint64_t off, unsigned size)
{
	struct i440fx *h = dev;

	if (!address_decodes(h))
		return ~0ull;
	return pci_bus_config_read(h->pci.bus, h->address >> 8 & 0xff,
				   (h->address & 0xfc) + (unsigned)off, size);
}

static void data_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct i440fx *h = dev;

	if (address_decodes(h))
		pci_bus_config_write(h->pci.bus, h->address >> 8 & 0xff,
				     (h->address & 0xfc) + (unsigned)off, size, (uint32_t)val);
}

static const char *address_name(void *dev, uint64_t off, bool is_write)
{
	return "CONFADD";
}

static const char *data_name(void *dev, uint64_t off, bool is_write)
{
	return "CONFDATA";
}

static const struct region_ops address_ops = {
	.name = "82441fx",
	.read = address_read,
	.write = address_write,
	.max_width = 4,
	.reg_name = address_name,
};
static const struct region_ops data_ops = {
	.name = "82441fx",
	.read = data_read,
	.write = data_write,
	.max_width = 4,
	.reg_name = data_name,
};

/* --- PAM --- */

static enum shown pam_wanted(const struct i440fx *h, unsigned seg)
{
	unsigned attr;

	if (seg == PAM_SEGMENTS - 1)
		attr = h->pci.config[PMC_PAM0] >> 4;
	else
		attr = h->pci.config[PMC_PAM0 + 1 + seg / 2] >> (seg % 2 * 4);
	switch (attr & (PAM_RE | PAM_WE)) {
	case PAM_RE | PAM_WE:
		return SHOWN_RAM;
	case PAM_RE:
		return SHOWN_ROM;
	default:
		return SHOWN_NOT;
	}
}

static uint64_t segment_start(unsigned seg)
{
	return PAM_BASE + (uint64_t)seg * PAM_SEGMENT;
}

static uint64_t segment_end(unsigned seg)
{
	return seg == PAM_SEGMENTS - 1 ? MiB : segment_start(seg + 1);
}

/* Neighbours that change alike are one piece of memory: fewer slots, fewer calls. */
static void run_apply(struct i440fx *h, unsigned first, unsigned last, enum shown to)
{
	uint64_t gpa = segment_start(first), size = segment_end(last) - gpa;
	enum shown from = h->shown[first];
	int ret = 0;

	if (to == SHOWN_NOT)
		ret = block_unmap_piece(h->ram, gpa, size);
	else if (from == SHOWN_NOT)
		ret = block_map(h->ram, gpa, gpa, size, MEM_PRIO_CHIPSET);
	if (!ret && to != SHOWN_NOT && (from != SHOWN_NOT || to == SHOWN_ROM))
		ret = block_protect(h->ram, gpa, size, to == SHOWN_ROM);
	if (ret < 0)
		log_error("the RAM at 0x%llx cannot be shown as PAM asks: %s",
			  (unsigned long long)gpa, strerror(-ret));
	for (unsigned i = first; i <= last; i++)
		h->shown[i] = to;
}

static void pam_apply(void *ctx)
{
	struct i440fx *h = ctx;

	h->pending = false;
	for (unsigned i = 0, last; i < PAM_SEGMENTS; i = last + 1) {
		enum shown from = h->shown[i], to = pam_wanted(h, i);

		last = i;
		if (from == to)
			continue;
		while (last + 1 < PAM_SEGMENTS && h->shown[last + 1] == from &&
		       pam_wanted(h, last + 1) == to)
			last++;
		run_apply(h, i, last, to);
	}
}

static void pam_changed(struct i440fx *h)
{
	for (unsigned i = 0; i < PAM_SEGMENTS && !h->pending; i++) {
		if (h->shown[i] == pam_wanted(h, i))
			continue;
		h->pending = true;
		pci_exclusive(h->pci.bus, pam_apply, h);
		return;
	}
}

static void config_written(struct pci_dev *p, unsigned off, unsigned size)
{
	if (off <= PMC_PAM6 && off + size > PMC_PAM0)
		pam_changed(container_of(p, struct i440fx, pci));
}

/* --- the device --- */

static void i440fx_reset(struct device *d)
{
	struct i440fx *h = container_of(d, struct i440fx, pci.dev);

	h->address = 0;
	pci_dev_reset(&h->pci);
	pam_changed(h);
}

static int i440fx_save(struct device *d, struct state_out *o)
{
	struct i440fx *h = container_of(d, struct i440fx, pci.dev);

	state_u32(o, "address", h->address);
	return pci_dev_save(&h->pci, o);
}

static int i440fx_load(struct device *d, struct state_in *in, uint32_t version)
{
	struct i440fx *h = container_of(d, struct i440fx, pci.dev);
	uint32_t address;
	int ret = state_get_u32(in, "address", &address);

	if (ret < 0)
		return ret;
	if (address & ~CONFIG_MASK)
		return state_bad(in, "address 0x%x has reserved bits", address);
	ret = pci_dev_load(&h->pci, in);
	if (ret < 0)
		return ret;
	h->address = address;
	pam_apply(h);
	return 0;
}

static void i440fx_destroy(struct device *d)
{
	struct i440fx *h = container_of(d, struct i440fx, pci.dev);
	struct bus *pio = pci_bus_wires(h->pci.bus)->pio;

	for (unsigned i = 0; i < PAM_SEGMENTS; i++)
		if (h->shown[i] != SHOWN_NOT)
			run_apply(h, i, i, SHOWN_NOT);
	bus_del(pio, 0xcf8, &address_ops, h);
	bus_del(pio, 0xcfc, &data_ops, h);
	pci_dev_exit(&h->pci);
	free(h);
}

static const struct device_ops i440fx_device = {
	.name = "i440fx",
	.version = 1,
	.reset = i440fx_reset,
	.save = i440fx_save,
	.load = i440fx_load,
	.destroy = i440fx_destroy,
};

static const struct pci_id i440fx_id = {
	.vendor = 0x8086, .device = 0x1237, .class_rev = 0x06000002,
	.subsystem_vendor = 0x1af4, .subsystem = 0x1100,
};

struct device *i440fx_new(struct pci_bus *pci, struct block *ram, bool shadow_shown,
			  struct err *err)
{
	const struct pci_wires *w = pci_bus_wires(pci);
	struct i440fx *h;
	int ret;

	if (block_size(ram) < MiB) {
		err_set(err, EINVAL, "a PC needs at least 1 MiB of RAM, not %llu bytes",
			(unsigned long long)block_size(ram));
		return NULL;
	}
	h = xcalloc(1, sizeof(*h));
	h->ram = ram;
	for (unsigned i = 0; shadow_shown && i < PAM_SEGMENTS; i++)
		h->shown[i] = SHOWN_RAM;
	device_init(&h->pci.dev, &i440fx_device, "i440fx", w->loop);
	ret = pci_dev_init(&h->pci, pci, PCI_DEVFN(0, 0), &i440fx_id);
	if (ret < 0)
		goto fail;
	/* The bridge always answers memory and is always a master (290549, 3.2.3). */
	st_le16(h->pci.config + PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	st_le16(h->pci.wmask + PCI_COMMAND, PCI_COMMAND_PARITY | PCI_COMMAND_SERR);
	st_le16(h->pci.config + PCI_STATUS, PCI_STATUS_FAST_BACK | PCI_STATUS_DEVSEL_MEDIUM);
	h->pci.config[PMC_SMRAM] = 0x02;
	h->pci.wmask[PMC_PAM0] = 0x30;
	memset(h->pci.wmask + PMC_PAM0 + 1, 0x33, PMC_PAM6 - PMC_PAM0);
	h->pci.config_written = config_written;
	ret = bus_add(w->pio, 0xcf8, 4, &address_ops, h, w->loop, "i440fx", 0);
	if (ret < 0)
		goto fail_pci;
	ret = bus_add(w->pio, 0xcfc, 4, &data_ops, h, w->loop, "i440fx", 0);
	if (ret < 0)
		goto fail_address;
	return &h->pci.dev;
fail_address:
	bus_del(w->pio, 0xcf8, &address_ops, h);
fail_pci:
	pci_dev_exit(&h->pci);
fail:
	err_set(err, -ret, "the host bridge cannot be plugged in: %s", strerror(-ret));
	free(h->pci.dev.id);
	free(h);
	return NULL;
}
