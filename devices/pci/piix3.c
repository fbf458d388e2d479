/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * piix3.c: the 82371SB's ISA bridge (Intel 290550, function 0): the router from PIRQA#-PIRQD# to
 * ISA interrupts, ELCR (0x4d0, 0x4d1) and the reset control register (0xcf9). Main loop; the router
 * takes pins from any thread.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "devices/chips.h"
#include "vmm/base/log.h"

#define PIIX_PIRQRC	0x60		/* 0x60-0x63: route of PIRQA#-PIRQD# */
#define PIRQRC_DISABLE	0x80		/* bit 7; bits 3:0 the ISA interrupt */
#define PIIX_XBCS	0x4e
#define PIRQS		4
#define ISA_IRQS	16
/* Interrupts a PIRQ may go to (290550, 2.3.3): the others are the board's own. */
#define PIRQ_ROUTABLE	0xdef8u
#define ELCR_MASK	0xdef8u		/* 0, 1, 2, 8 and 13 are always edge-triggered */
#define ELCR_PORT	0x4d0
#define RCR_PORT	0xcf9
#define RCR_SRST	0x02
#define RCR_RCPU	0x04

struct piix3 {
	struct pci_dev pci;
	struct piix3_opts o;
	struct irq out[ISA_IRQS];
	pthread_mutex_t lock;		/* leaf: what follows, up to rcr */
	uint32_t slots[PIRQS][4];	/* who pulls each PIRQ: bit of the slot, by pin */
	uint8_t route[PIRQS];		/* as last applied: interrupt, or ISA_IRQS for none */
	bool level[ISA_IRQS];
	uint8_t rcr;
	uint16_t elcr;			/* when no one else keeps it */
};

/* Drives every ISA interrupt as the pins and routes say. The lock is held. */
static void router_update(struct piix3 *s)
{
	bool level[ISA_IRQS] = { 0 };

	for (unsigned i = 0; i < PIRQS; i++)
		if (s->route[i] < ISA_IRQS &&
		    (s->slots[i][0] | s->slots[i][1] | s->slots[i][2] | s->slots[i][3]))
			level[s->route[i]] = true;
	for (unsigned i = 0; i < ISA_IRQS; i++) {
		if (level[i] == s->level[i])
			continue;
		s->level[i] = level[i];
		irq_set(&s->out[i], level[i]);
	}
}

static void router_set(void *ctx, unsigned slot, unsigned pin, int level)
{
	struct piix3 *s = ctx;
	uint32_t *slots = &s->slots[pci_intx_pirq(slot, pin)][pin];

	pthread_mutex_lock(&s->lock);
	if (level)
		*slots |= 1u << slot;
	else
		*slots &= ~(1u << slot);
	router_update(s);
	pthread_mutex_unlock(&s->lock);
}

static void routes_changed(struct piix3 *s)
{
	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < PIRQS; i++) {
		uint8_t rc = s->pci.config[PIIX_PIRQRC + i];
		unsigned irq = rc & 15;

		s->route[i] = !(rc & PIRQRC_DISABLE) && (PIRQ_ROUTABLE >> irq & 1) ? irq : ISA_IRQS;
	}
	router_update(s);
	pthread_mutex_unlock(&s->lock);
}

static void config_written(struct pci_dev *p, unsigned off, unsigned size)
{
	if (off < PIIX_PIRQRC + PIRQS && off + size > PIIX_PIRQRC)
		routes_changed(container_of(p, struct piix3, pci));
}

/* --- ports --- */

static uint16_t elcr_get(struct piix3 *s)
{
	return s->o.elcr_get ? s->o.elcr_get(s->o.elcr_ctx) : s->elcr;
}

static uint64_t elcr_read(void *dev, uint64_t off, unsigned size)
{
	return elcr_get(dev) >> (8 * off) & 0xff;
}

static void elcr_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct piix3 *s = dev;
	uint16_t v = elcr_get(s);

	v = (v & ~(0xff << (8 * off))) | (uint16_t)((val & 0xff) << (8 * off));
	v &= ELCR_MASK;
	if (s->o.elcr_set)
		s->o.elcr_set(s->o.elcr_ctx, v);
	else
		s->elcr = v;
}

static uint64_t rcr_read(void *dev, uint64_t off, unsigned size)
{
	struct piix3 *s = dev;

	return s->rcr;
}

static void rcr_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct piix3 *s = dev;

	/* A rising RCPU resets: the bit itself never reads as one, the machine is gone by then. */
	s->rcr = val & RCR_SRST;
	if (val & RCR_RCPU)
		vm_request(pci_bus_wires(s->pci.bus)->vm, VM_END_RESET, 0);
}

static const char *elcr_name(void *dev, uint64_t off, bool is_write)
{
	return off ? "ELCR2" : "ELCR1";
}

static const char *rcr_name(void *dev, uint64_t off, bool is_write)
{
	return "RC";
}

static const struct region_ops elcr_ops = {
	.name = "82371sb",
	.read = elcr_read,
	.write = elcr_write,
	.max_width = 1,
	.reg_name = elcr_name,
};
static const struct region_ops rcr_ops = {
	.name = "82371sb",
	.read = rcr_read,
	.write = rcr_write,
	.max_width = 1,
	.reg_name = rcr_name,
};

/* --- the device --- */

static void piix3_reset(struct device *d)
{
	struct piix3 *s = container_of(d, struct piix3, pci.dev);

	s->rcr = 0;
	s->elcr = 0;
	pci_dev_reset(&s->pci);
	routes_changed(s);
}

static int piix3_save(struct device *d, struct state_out *o)
{
	struct piix3 *s = container_of(d, struct piix3, pci.dev);

	/* The pins are the functions' to save: each drives its own again when it is loaded. */
	state_u8(o, "rcr", s->rcr);
	state_u16(o, "elcr", s->elcr);
	return pci_dev_save(&s->pci, o);
}

static int piix3_load(struct device *d, struct state_in *in, uint32_t version)
{
	struct piix3 *s = container_of(d, struct piix3, pci.dev);
	uint16_t elcr;
	uint8_t rcr;
	int ret;

	state_get_u8(in, "rcr", &rcr);
	state_get_u16(in, "elcr", &elcr);
	ret = state_in_error(in);
	if (!ret && ((rcr & ~RCR_SRST) || (elcr & ~ELCR_MASK)))
		ret = state_bad(in, "rcr 0x%x or elcr 0x%x has reserved bits", rcr, elcr);
	if (!ret)
		ret = pci_dev_load(&s->pci, in);
	if (ret < 0)
		return ret;
	s->rcr = rcr;
	s->elcr = elcr;
	routes_changed(s);
	return 0;
}

static void piix3_destroy(struct device *d)
{
	struct piix3 *s = container_of(d, struct piix3, pci.dev);
	const struct pci_wires *w = pci_bus_wires(s->pci.bus);

	bus_del(w->pio, RCR_PORT, &rcr_ops, s);
	bus_del(w->pio, ELCR_PORT, &elcr_ops, s);
	pci_bus_set_intx(s->pci.bus, NULL, NULL);
	pci_dev_exit(&s->pci);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static const struct device_ops piix3_device = {
	.name = "piix3",
	.version = 1,
	.reset = piix3_reset,
	.save = piix3_save,
	.load = piix3_load,
	.destroy = piix3_destroy,
};

static const struct pci_id piix3_id = {
	.vendor = 0x8086, .device = 0x7000, .class_rev = 0x06010000, .multifunction = true,
	.subsystem_vendor = 0x1af4, .subsystem = 0x1100,
};

/*
 * Registers software may set and read back without effect on this machine: {offset, reset value,
 * writable bits}.
 */
static const struct { uint8_t off, val, wmask; } piix3_regs[] = {
	{ 0x4c, 0x4d, 0xff },		/* IORT: ISA I/O recovery */
	/* chip selects of the X-bus: RTC and keyboard controller on */
	{ PIIX_XBCS, 0x03, 0xff },
	{ 0x4f, 0x00, 0x01 },		/* XBCS, upper half */
	{ 0x69, 0x02, 0xfe },		/* TOM */
	{ 0x70, 0x80, 0xef },		/* MBIRQ0 */
	{ 0x76, 0x0c, 0x8f }, { 0x77, 0x0c, 0x8f },	/* MBDMA */
	{ 0x78, 0x02, 0x03 }, { 0x79, 0x00, 0xff },	/* PCSC */
	{ 0x82, 0x00, 0x0f },		/* DLC */
	{ 0xa0, 0x08, 0x1f },		/* SMICNTL */
	{ 0xa8, 0x0f, 0xff },		/* FTMR */
};

struct device *piix3_new(struct pci_bus *pci, const struct piix3_opts *o, struct err *err)
{
	const struct pci_wires *w = pci_bus_wires(pci);
	struct piix3 *s = xcalloc(1, sizeof(*s));
	int ret;

	s->o = *o;
	pthread_mutex_init(&s->lock, NULL);
	device_init(&s->pci.dev, &piix3_device, "piix3", w->loop);
	ret = pci_dev_init(&s->pci, pci, o->devfn, &piix3_id);
	if (ret < 0)
		goto fail;
	/* An ISA bridge passes everything on: decoding and mastering cannot be turned off. */
	st_le16(s->pci.config + PCI_COMMAND,
		PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	st_le16(s->pci.wmask + PCI_COMMAND, PCI_COMMAND_SPECIAL | PCI_COMMAND_SERR);
	st_le16(s->pci.config + PCI_STATUS, PCI_STATUS_DEVSEL_MEDIUM);
	for (unsigned i = 0; i < ARRAY_SIZE(piix3_regs); i++) {
		s->pci.config[piix3_regs[i].off] = piix3_regs[i].val;
		s->pci.wmask[piix3_regs[i].off] = piix3_regs[i].wmask;
	}
	memset(s->pci.config + PIIX_PIRQRC, PIRQRC_DISABLE, PIRQS);
	memset(s->pci.wmask + PIIX_PIRQRC, PIRQRC_DISABLE | 0x0f, PIRQS);
	s->pci.config_written = config_written;
	for (unsigned i = 0; i < ISA_IRQS; i++)
		if (PIRQ_ROUTABLE >> i & 1)
			s->out[i] = irq_source(w->irqs, i);
	memset(s->route, ISA_IRQS, sizeof(s->route));
	ret = bus_add(w->pio, ELCR_PORT, 2, &elcr_ops, s, w->loop, "piix3", 0);
	if (ret < 0)
		goto fail_pci;
	ret = bus_add(w->pio, RCR_PORT, 1, &rcr_ops, s, w->loop, "piix3", BUS_OVER);
	if (ret < 0)
		goto fail_elcr;
	pci_bus_set_intx(pci, router_set, s);
	return &s->pci.dev;
fail_elcr:
	bus_del(w->pio, ELCR_PORT, &elcr_ops, s);
fail_pci:
	pci_dev_exit(&s->pci);
fail:
	err_set(err, -ret, "the ISA bridge cannot be plugged in: %s", strerror(-ret));
	pthread_mutex_destroy(&s->lock);
	free(s->pci.dev.id);
	free(s);
	return NULL;
}
