/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * e1000.c: Intel 82540EM gigabit Ethernet (PRO/1000 MT Desktop): registers, interrupts and their
 * moderation, reset, link, saving. "PCI/PCI-X Family of Gigabit Ethernet Controllers Software
 * Developer's Manual" (317453), chapter 13. The rings are in e1000_tx.c and e1000_rx.c, PHY and
 * EEPROM in e1000_phy.c. Everything runs with the lock of the device's loop.
 */
#include <linux/virtio_net.h>
#include <stdlib.h>

#include "devices/nic/e1000.h"
#include "vmm/base/log.h"

#define ITR_UNIT 256			/* ns */
#define PBA_DEFAULT 0x00100030		/* 48 KiB receive, 16 KiB transmit */
#define R(reg, member, wmask) { reg, #member, offsetof(struct e1000, member), wmask }

/* Registers that only hold what is written to them. */
static const struct { uint32_t off; const char *name; size_t at; uint32_t wmask;
} plain[] = {
	R(E_CTRL_EXT, ctrl_ext, 0xffffdfff),
	R(0x001c, fla, 0xffffffff),
	R(0x0028, fcal, 0xffffffff),
	R(0x002c, fcah, 0xffff),
	R(0x0030, fct, 0xffff),
	R(0x0038, vet, 0xffff),
	R(E_ITR, itr, 0xffff),
	R(0x0170, fcttv, 0xffff),
	R(0x0178, txcw, 0xffffffff),
	R(0x0180, rxcw, 0),
	R(0x0410, tipg, 0x3fffffff),
	R(0x0458, ait, 0xffff),
	R(0x0e00, ledctl, 0xffffffff),
	R(0x1000, pba, 0xffff),
	R(0x2160, fcrtl, 0x8000fff8),
	R(0x2168, fcrth, 0xfff8),
	R(E_RDBAL, rdbal, 0xfffffff0),
	R(E_RDBAH, rdbah, 0xffffffff),
	R(E_RDLEN, rdlen, 0xfff80),
	R(E_RDH, rdh, 0xffff),
	R(E_RDT, rdt, 0xffff),
	R(E_RDTR, rdtr, 0xffff),
	R(0x2828, rxdctl, 0xffffffff),
	R(E_RADV, radv, 0xffff),
	R(0x2c00, rsrpd, 0xfff),
	R(0x3000, txdmac, 1),
	R(E_TDBAL, tdbal, 0xfffffff0),
	R(E_TDBAH, tdbah, 0xffffffff),
	R(E_TDLEN, tdlen, 0xfff80),
	R(E_TDH, tdh, 0xffff),
	R(E_TDT, tdt, 0xffff),
	R(E_TIDV, tidv, 0xffff),
	R(0x3828, txdctl, 0xffffffff),
	R(E_TADV, tadv, 0xffff),
	R(0x3830, tspmt, 0xffffffff),
	R(E_RXCSUM, rxcsum, 0x7ff),
	R(0x5800, wuc, 0xf),
	R(0x5808, wufc, 0xfffff),
	R(0x5810, wus, 0),
	R(0x5820, manc, 0xffffffff),
	/* Those with a meaning of their own, here for their names. */
	R(E_CTRL, ctrl, 0),
	R(E_STATUS, status, 0),
	R(E_EECD, eecd, 0),
	R(E_EERD, eerd, 0),
	R(E_MDIC, mdic, 0),
	R(E_ICR, icr, 0),
	R(E_IMS, ims, 0),
	R(E_RCTL, rctl, 0),
	R(E_TCTL, tctl, 0),
};

static uint32_t *plain_reg(struct e1000 *d, uint32_t off, uint32_t *wmask)
{
	for (size_t i = 0; i < ARRAY_SIZE(plain); i++) {
		if (plain[i].off == off) {
			*wmask = plain[i].wmask;
			return (uint32_t *)((char *)d + plain[i].at);
		}
	}
	return NULL;
}

static const char *e1000_reg_name(void *dev, uint64_t off, bool is_write)
{
	for (size_t i = 0; i < ARRAY_SIZE(plain); i++)
		if (plain[i].off == off)
			return plain[i].name;
	if (off == E_ICS)
		return "ics";
	if (off == E_IMC)
		return "imc";
	if (off >= E_STATS && off < E_STATS_END)
		return "statistics";
	return off >= E_MTA && off < E_RA ? "mta" : off >= E_RA && off < E_VFTA ? "ra" :
	       off >= E_VFTA && off < E_TABLES_END ? "vfta" : NULL;
}

/* --- time and interrupts --- */

static struct vm_clock *e1000_clock(struct e1000 *d)
{
	const struct pci_wires *w = pci_bus_wires(d->pci.bus);

	return w->vm ? vm_get_clock(w->vm) : NULL;
}

int64_t e1000_now(struct e1000 *d)
{
	struct vm_clock *c = e1000_clock(d);

	return c ? vm_clock_now(c) : now_ns();
}

/* The line follows the causes, but is raised again only when the throttling interval is over. */
static void irq_update(struct e1000 *d)
{
	bool want = d->icr & d->ims;

	if (want && !d->line) {
		if (loop_timer_armed(&d->itr_timer))
			return;
		if (d->itr)
			loop_timer_set(&d->itr_timer, e1000_now(d) + (int64_t)d->itr * ITR_UNIT);
	}
	if (want != d->line) {
		d->line = want;
		pci_intx(&d->pci, want);
	}
}

void e1000_cause(struct e1000 *d, uint32_t bits)
{
	d->icr |= bits;
	irq_update(d);
}

static void itr_expired(void *ctx)
{
	irq_update(ctx);
}

static void rx_delay_over(void *ctx)
{
	struct e1000 *d = ctx;

	d->rx_absolute = 0;
	e1000_cause(d, ICR_RXT0);
}

static void tx_delay_over(void *ctx)
{
	struct e1000 *d = ctx;

	d->tx_absolute = 0;
	e1000_cause(d, ICR_TXDW);
}

static void tx_next(void *ctx)
{
	e1000_transmit(ctx);
}

void e1000_count(struct e1000 *d, unsigned reg, uint64_t by)
{
	uint32_t *p = &d->stats[(reg - E_STATS) / 4];

	*p = *p + by > UINT32_MAX ? UINT32_MAX : *p + by;
}

void e1000_count64(struct e1000 *d, unsigned reg, uint64_t by)
{
	uint32_t *p = &d->stats[(reg - E_STATS) / 4];
	uint64_t v = (p[0] | (uint64_t)p[1] << 32) + by;

	p[0] = v;
	p[1] = v >> 32;
}

/* --- the network --- */

void e1000_watch(struct e1000 *d)
{
	if (d->net)
		net_poll(d->net, 0, d->rx_watch, d->tx_watch);
}

/* The driver gave buffers, or something else that was missing. */
static void rx_start(struct e1000 *d)
{
	bool can = d->net && e1000_can_receive(d);

	if (can != d->rx_watch) {
		d->rx_watch = can;
		e1000_watch(d);
	}
}

static void net_readable(void *ctx, unsigned q)
{
	e1000_receive(ctx);
}

static void net_writable(void *ctx, unsigned q)
{
	struct e1000 *d = ctx;

	d->tx_watch = false;
	e1000_watch(d);
	e1000_transmit(d);
}

static void link_set(struct e1000 *d, bool up)
{
	loop_timer_cancel(&d->link_timer);
	if (!!(d->status & STATUS_LU) != up) {
		d->status ^= STATUS_LU;
		e1000_phy_link(d, up);
		e1000_cause(d, ICR_LSC);
	}
	rx_start(d);
}

static void link_timer_over(void *ctx)
{
	struct e1000 *d = ctx;

	link_set(d, d->net && d->net->link_up);
}

static void net_link(void *ctx, bool up)
{
	struct e1000 *d = ctx;

	if (up)
		e1000_autoneg(d);
	else
		link_set(d, false);
}

/* --- registers --- */

/* What CTRL.RST and power-on have in common: everything but the PHY and the EEPROM's contents. */
static void reset_mac(struct e1000 *d)
{
	bool link = d->status & STATUS_LU;

	loop_timer_cancel(&d->itr_timer);
	loop_timer_cancel(&d->rx_timer);
	loop_timer_cancel(&d->tx_timer);
	loop_timer_cancel(&d->tx_next);
	d->rx_absolute = d->tx_absolute = 0;
	for (size_t i = 0; i < ARRAY_SIZE(plain); i++)
		*(uint32_t *)((char *)d + plain[i].at) = 0;
	memset(d->stats, 0, sizeof(d->stats));
	memset(d->mta, 0, sizeof(d->mta));
	memset(d->ra, 0, sizeof(d->ra));
	memset(d->vfta, 0, sizeof(d->vfta));
	memset(&d->tctx, 0, sizeof(d->tctx));
	eeprom93_wires(&d->ee, false, false, false);
	d->ctrl = CTRL_FD | CTRL_SLU | 1u << 9 /* SPEED: 1000 */;
	d->status = STATUS_FD | STATUS_SPEED_1000 | STATUS_ASDV_1000 | STATUS_MTXCKOK |
		    (link ? STATUS_LU : 0);
	d->vet = 0x8100;
	d->pba = PBA_DEFAULT;
	d->ledctl = 0x07068302;
	d->mdic = 1u << 28;
	d->rxcsum = 0;
	e1000_eeprom_load(d);
	d->tx_watch = d->rx_watch = false;
	e1000_watch(d);
	irq_update(d);
}

static void ctrl_write(struct e1000 *d, uint32_t val)
{
	if (val & CTRL_RST) {
		reset_mac(d);
		return;
	}
	if (val & CTRL_PHY_RST && !(d->ctrl & CTRL_PHY_RST)) {
		e1000_phy_reset(d);
		e1000_autoneg(d);
	}
	d->ctrl = val;
}

static void e1000_reg_write(struct e1000 *d, uint32_t off, uint32_t val)
{
	uint32_t wmask, *reg;

	switch (off) {
	case E_TDT:
		d->tdt = val & 0xffff;
		e1000_transmit(d);
		return;
	case E_RDT:
		d->rdt = val & 0xffff;
		rx_start(d);
		return;
	case E_IMS:
		d->ims |= val;
		irq_update(d);
		return;
	case E_IMC:
		d->ims &= ~val;
		irq_update(d);
		return;
	case E_ICS:
		e1000_cause(d, val);
		return;
	case E_ICR:
		d->icr &= ~val;
		irq_update(d);
		return;
	case E_CTRL:
		ctrl_write(d, val);
		return;
	case E_RCTL:
		d->rctl = val;
		rx_start(d);
		return;
	case E_TCTL:
		d->tctl = val;
		e1000_transmit(d);
		return;
	case E_MDIC:
		e1000_mdic_write(d, val);
		return;
	case E_EECD:
		e1000_eecd_write(d, val);
		return;
	case E_EERD:
		e1000_eerd_write(d, val);
		return;
	case E_MTA ... E_RA - 1:
		d->mta[(off - E_MTA) / 4 % E_MTA_WORDS] = val;
		return;
	case E_RA ... E_RA + E_RA_WORDS * 4 - 1:
		d->ra[(off - E_RA) / 4] = val & (off & 4 ? 0x8003ffff : 0xffffffff);
		return;
	case E_VFTA ... E_TABLES_END - 1:
		d->vfta[(off - E_VFTA) / 4 % E_VFTA_WORDS] = val;
		return;
	}
	reg = plain_reg(d, off, &wmask);
	if (reg)
		*reg = (*reg & ~wmask) | (val & wmask);
	if (off == E_RDTR && val & DELAY_FPD)
		e1000_rx_flush(d);
	if (off == E_TIDV && val & DELAY_FPD)
		e1000_tx_flush(d);
	if (off == E_CTRL_EXT && val & CTRL_EXT_EE_RST)
		e1000_eeprom_load(d);
	if (off == E_RDH || off == E_RDLEN)
		rx_start(d);
}

static uint32_t e1000_reg_read(struct e1000 *d, uint32_t off)
{
	uint32_t val, wmask, *reg;

	switch (off) {
	case E_ICR:
		val = d->icr;
		d->icr = 0;
		irq_update(d);
		return val;
	case E_ICS:
		return d->icr;
	case E_EECD:
		return e1000_eecd_read(d);
	case E_STATS ... E_STATS_END - 1:
		/* Cleared by reading; of a pair the high half is read last. */
		val = d->stats[(off - E_STATS) / 4];
		d->stats[(off - E_STATS) / 4] = 0;
		return val;
	case E_MTA ... E_RA - 1:
		return d->mta[(off - E_MTA) / 4 % E_MTA_WORDS];
	case E_RA ... E_RA + E_RA_WORDS * 4 - 1:
		return d->ra[(off - E_RA) / 4];
	case E_VFTA ... E_TABLES_END - 1:
		return d->vfta[(off - E_VFTA) / 4 % E_VFTA_WORDS];
	}
	reg = plain_reg(d, off, &wmask);
	return reg ? *reg : 0;
}

static uint64_t bar_read(void *dev, uint64_t off, unsigned size)
{
	return e1000_reg_read(dev, off);
}

static void bar_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	e1000_reg_write(dev, off, val);
}

static const struct region_ops mem_ops = {
	.name = "82540EM",
	.read = bar_read,
	.write = bar_write,
	.min_width = 4,
	.max_width = 4,
	.reg_name = e1000_reg_name,
};

/* The I/O window: IOADDR chooses a register, IODATA is it. */
static uint64_t io_read(void *dev, uint64_t off, unsigned size)
{
	struct e1000 *d = dev;

	if (off == 0)
		return d->io_addr;
	return off == 4 && d->io_addr < E_MEM_SIZE ? e1000_reg_read(d, d->io_addr & ~3u) : 0;
}

static void io_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct e1000 *d = dev;

	if (off == 0)
		d->io_addr = val;
	else if (off == 4 && d->io_addr < E_MEM_SIZE)
		e1000_reg_write(d, d->io_addr & ~3u, val);
}

static const char *io_reg_name(void *dev, uint64_t off, bool is_write)
{
	return off == 0 ? "IOADDR" : off == 4 ? "IODATA" : NULL;
}

static const struct region_ops io_ops = {
	.name = "82540EM",
	.read = io_read,
	.write = io_write,
	.min_width = 4,
	.max_width = 4,
	.reg_name = io_reg_name,
};

/* --- device --- */

static void config_written(struct pci_dev *p, unsigned off, unsigned size)
{
	struct e1000 *d = (struct e1000 *)p;

	/* Bus mastering came: the rings can be read. */
	if (off <= PCI_COMMAND + 1 && off + size > PCI_COMMAND) {
		rx_start(d);
		e1000_transmit(d);
	}
}

static void e1000_reset(struct device *dev)
{
	struct e1000 *d = (struct e1000 *)dev;

	loop_timer_cancel(&d->link_timer);
	d->status = d->net && d->net->link_up ? STATUS_LU : 0;
	e1000_phy_reset(d);
	reset_mac(d);
	d->io_addr = 0;
	pci_dev_reset(&d->pci);
}

static void e1000_quiesce(struct device *dev, void (*done)(void *ctx), void *ctx)
{
	struct e1000 *d = (struct e1000 *)dev;

	d->paused = true;
	d->rx_watch = d->tx_watch = false;
	e1000_watch(d);
	done(ctx);
}

static void e1000_resume(struct device *dev)
{
	struct e1000 *d = (struct e1000 *)dev;

	d->paused = false;
	rx_start(d);
	e1000_transmit(d);
}

#define F(member) STATE_FIELD(struct e1000, STATE_U32, member)
#define FB(member) STATE_FIELD(struct e1000, STATE_BYTES, member)
static const struct state_field fields[] = {
	F(ctrl),    F(status),	F(eecd),     F(eerd),	  F(ctrl_ext),
	F(mdic),    F(icr),	F(itr),	     F(ims),	  F(rctl),
	F(tctl),    F(fla),	F(fcal),     F(fcah),	  F(fct),
	F(vet),	    F(fcttv),	F(txcw),     F(rxcw),	  F(tipg),
	F(ait),	    F(ledctl),	F(pba),	     F(fcrtl),	  F(fcrth),
	F(rdbal),   F(rdbah),	F(rdlen),    F(rdh),	  F(rdt),
	F(rdtr),    F(rxdctl),	F(radv),     F(rsrpd),	  F(txdmac),
	F(tdbal),   F(tdbah),	F(tdlen),    F(tdh),	  F(tdt),
	F(tidv),    F(txdctl),	F(tadv),     F(tspmt),	  F(rxcsum),
	F(wuc),	    F(wufc),	F(wus),	     F(manc),	  FB(stats),
	FB(mta),    FB(ra),	FB(vfta),    FB(phy),	  F(io_addr),
	F(tctx.ip), F(tctx.tu), F(tctx.cmd), F(tctx.mss), EEPROM93_FIELDS(struct e1000, ee),
};

static int e1000_save(struct device *dev, struct state_out *o)
{
	struct e1000 *d = (struct e1000 *)dev;
	int ret = pci_dev_save(&d->pci, o);

	/* A delayed interrupt comes a little early: moderation is not state. */
	e1000_rx_flush(d);
	e1000_tx_flush(d);
	state_save_fields(o, d, fields, ARRAY_SIZE(fields));
	return ret;
}

static int e1000_load(struct device *dev, struct state_in *in, uint32_t version)
{
	struct e1000 *d = (struct e1000 *)dev;
	int ret;

	reset_mac(d);
	ret = pci_dev_load(&d->pci, in);
	if (ret == 0)
		ret = state_load_fields(in, d, fields, ARRAY_SIZE(fields));
	if (!eeprom93_valid(&d->ee) && ret == 0)
		ret = state_bad(in, "an EEPROM transfer that cannot be");
	if (ret < 0)
		return ret;
	/* a copy's own; the guest goes on with the one it has until it resets the card */
	e1000_eeprom_address(d);
	/* The cable of this host may be another than that of the saved machine. */
	d->line = false;
	irq_update(d);
	if (!(d->net && d->net->link_up))
		link_set(d, false);
	else if (!(d->status & STATUS_LU))
		e1000_autoneg(d);
	return 0;
}

static void e1000_destroy(struct device *dev)
{
	struct e1000 *d = (struct e1000 *)dev;

	loop_timer_cancel(&d->itr_timer);
	loop_timer_cancel(&d->rx_timer);
	loop_timer_cancel(&d->tx_timer);
	loop_timer_cancel(&d->link_timer);
	loop_timer_cancel(&d->tx_next);
	nic_exit(&d->pci, d->net);
	free(d->bounce);
	free(d);
}

static const struct device_ops e1000_ops = {
	.name = "e1000",
	.version = 1,
	.reset = e1000_reset,
	.quiesce = e1000_quiesce,
	.resume = e1000_resume,
	.save = e1000_save,
	.load = e1000_load,
	.destroy = e1000_destroy,
};

struct device *e1000_new(struct pci_bus *pci, unsigned devfn, const char *id, struct net *net,
			 const uint8_t mac[6], struct loop *loop, struct err *err)
{
	static const struct pci_id pci_id = {
		.vendor = 0x8086, .device = 0x100e, .subsystem_vendor = 0x8086, .subsystem = 0x001e,
		.class_rev = 0x020000 << 8 | 2, .intx = true,
	};
	struct e1000 *d = xcalloc(1, sizeof(*d));
	struct vm_clock *clock;

	if (nic_init(&d->pci, &e1000_ops, id, loop, pci, devfn, &pci_id, err) < 0) {
		free(d);
		return NULL;
	}
	d->net = net;
	d->mem = pci_bus_wires(pci)->mem;
	d->bounce = xcalloc(1, NET_MAX_FRAME + 64);
	memcpy(d->mac, mac, 6);
	d->pci.config[PCI_MIN_GNT] = 255;
	d->pci.config_written = config_written;
	pci_bar_regs(&d->pci, 0, PCI_BASE_ADDRESS_SPACE_MEMORY, E_MEM_SIZE, &mem_ops, d);
	pci_bar_regs(&d->pci, 1, PCI_BASE_ADDRESS_SPACE_IO, E_IO_SIZE, &io_ops, d);
	clock = e1000_clock(d);
	loop_timer_init(&d->itr_timer, loop, clock, itr_expired, d);
	loop_timer_init(&d->rx_timer, loop, clock, rx_delay_over, d);
	loop_timer_init(&d->tx_timer, loop, clock, tx_delay_over, d);
	loop_timer_init(&d->link_timer, loop, clock, link_timer_over, d);
	loop_timer_init(&d->tx_next, loop, NULL, tx_next, d);
	nic_connect(&d->pci, net, NET_CUT, net_readable, net_writable, net_link, d);
	e1000_eeprom_init(d);
	e1000_reset(&d->pci.dev);
	return &d->pci.dev;
}
