/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rtl8139.c: Realtek 8139C+ fast Ethernet: registers, interrupts, PHY, saving. "RTL8139C(L)+
 * Advanced Programming Guide" and data sheet: the plain mode's four transmit slots and receive ring
 * that Windows XP's own driver uses, and C+ mode's descriptor rings. Packets are in rtl8139_dma.c.
 * Everything runs with the lock of the device's loop.
 */
#include <linux/mii.h>
#include <stdlib.h>

#include "devices/nic/rtl8139.h"
#include "vmm/base/log.h"

#define BAR_SIZE 256
#define PCI_CLOCK_NS 30			/* TCTR counts 33 MHz */
#define HW_VERSION 0x74800000		/* TCR: 8139C+ */
#define TCR_WMASK 0x3b0607f1u

/* What an access of any width is cut into. */
static const struct rtl_reg { uint8_t off, size; const char *name;
} regs[] = {
	{ 0x00, 4, "IDR0" },	     { 0x04, 4, "IDR4" },
	{ R_MAR, 4, "MAR0" },	     { R_MAR + 4, 4, "MAR4" },
	{ 0x10, 4, "TSD0" },	     { 0x14, 4, "TSD1" },
	{ 0x18, 4, "TSD2" },	     { 0x1c, 4, "TSD3" },
	{ 0x20, 4, "TSAD0" },	     { 0x24, 4, "TSAD1" },
	{ 0x28, 4, "TSAD2" },	     { 0x2c, 4, "TSAD3" },
	{ R_RBSTART, 4, "RBSTART" }, { R_ERBCR, 2, "ERBCR" },
	{ R_ERSR, 1, "ERSR" },	     { R_CR, 1, "CR" },
	{ R_CAPR, 2, "CAPR" },	     { R_CBR, 2, "CBR" },
	{ R_IMR, 2, "IMR" },	     { R_ISR, 2, "ISR" },
	{ R_TCR, 4, "TCR" },	     { R_RCR, 4, "RCR" },
	{ R_TCTR, 4, "TCTR" },	     { R_MPC, 4, "MPC" },
	{ R_9346CR, 1, "9346CR" },   { R_CONFIG0, 1, "CONFIG0" },
	{ R_CONFIG1, 1, "CONFIG1" }, { R_TIMERINT, 4, "TimerInt" },
	{ R_MSR, 1, "MSR" },	     { R_CONFIG3, 1, "CONFIG3" },
	{ R_CONFIG4, 1, "CONFIG4" }, { 0x5b, 1, "HLTCLK" },
	{ R_MULINT, 2, "MULINT" },   { R_RERID, 1, "RERID" },
	{ R_TSAD, 2, "TSAD" },	     { R_BMCR, 2, "BMCR" },
	{ R_BMSR, 2, "BMSR" },	     { R_ANAR, 2, "ANAR" },
	{ R_ANLPAR, 2, "ANLPAR" },   { R_ANER, 2, "ANER" },
	{ 0x6c, 2, "DIS" },	     { 0x6e, 2, "FCSC" },
	{ 0x70, 2, "NWAYTR" },	     { 0x72, 2, "REC" },
	{ R_CSCR, 2, "CSCR" },	     { 0x78, 4, "PHY1_PARM" },
	{ 0x7c, 4, "TW_PARM" },	     { 0x80, 1, "PHY2_PARM" },
	{ R_CONFIG5, 1, "Config5" }, { R_TPPOLL, 1, "TPPoll" },
	{ R_CPCR, 2, "C+CR" },	     { 0xe2, 2, "IntrMitigate" },
	{ R_RDSAR, 4, "RDSAR" },     { R_RDSAR + 4, 4, "RDSAR4" },
	{ 0xec, 1, "ETThR" },
};

static const struct rtl_reg *reg_at(uint64_t off)
{
	for (size_t i = 0; i < ARRAY_SIZE(regs); i++)
		if (off >= regs[i].off && off < (uint64_t)regs[i].off + regs[i].size)
			return &regs[i];
	return NULL;
}

static const char *rtl_reg_name(void *dev, uint64_t off, bool is_write)
{
	const struct rtl_reg *r = reg_at(off);

	return r ? r->name : NULL;
}

/* --- time and interrupts --- */

static struct vm_clock *rtl_clock(struct rtl8139 *d)
{
	const struct pci_wires *w = pci_bus_wires(d->pci.bus);

	return w->vm ? vm_get_clock(w->vm) : NULL;
}

static int64_t rtl_now(struct rtl8139 *d)
{
	struct vm_clock *c = rtl_clock(d);

	return c ? vm_clock_now(c) : now_ns();
}

static void irq_update(struct rtl8139 *d)
{
	pci_intx(&d->pci, (rtl16(d, R_ISR) & rtl16(d, R_IMR)) != 0);
}

void rtl_cause(struct rtl8139 *d, uint16_t bits)
{
	st_le16(d->reg + R_ISR, rtl16(d, R_ISR) | bits);
	irq_update(d);
}

static uint32_t timer_count(struct rtl8139 *d)
{
	return (rtl_now(d) - d->timer_base) / PCI_CLOCK_NS;
}

static void timer_arm(struct rtl8139 *d)
{
	uint32_t at = rtl32(d, R_TIMERINT), now = timer_count(d);

	if (at && now < at)
		loop_timer_set(&d->timer, d->timer_base + (int64_t)at * PCI_CLOCK_NS);
	else
		loop_timer_cancel(&d->timer);
}

static void timer_over(void *ctx)
{
	rtl_cause(ctx, ISR_TIMEOUT);
}

/* --- network and PHY --- */

void rtl_watch(struct rtl8139 *d)
{
	if (d->net)
		net_poll(d->net, 0, d->rx_watch, d->tx_watch);
}

void rtl_rx_start(struct rtl8139 *d)
{
	bool can = d->net && rtl_can_receive(d);

	if (can != d->rx_watch) {
		d->rx_watch = can;
		rtl_watch(d);
	}
}

static void net_readable(void *ctx, unsigned q)
{
	rtl_receive(ctx);
}

static void net_writable(void *ctx, unsigned q)
{
	struct rtl8139 *d = ctx;

	d->tx_watch = false;
	rtl_watch(d);
	rtl_transmit(d);
}

static void phy_link(struct rtl8139 *d, bool up)
{
	uint16_t bmsr = BMSR_100FULL | BMSR_100HALF | BMSR_10FULL | BMSR_10HALF | BMSR_ANEGCAPABLE |
			BMSR_ERCAP;

	d->link = up;
	st_le16(d->reg + R_BMSR, bmsr | (up ? BMSR_LSTATUS | BMSR_ANEGCOMPLETE : 0));
	st_le16(d->reg + R_ANLPAR, up ? LPA_LPACK | LPA_PAUSE_CAP | LPA_100FULL | LPA_100HALF |
						   LPA_10FULL | LPA_10HALF | 1
				      : 0);
	st_le16(d->reg + R_ANER, up ? EXPANSION_NWAY : 0);
	st_le16(d->reg + R_CSCR, up ? 0x13c8 : 0x0000);	/* connection status, link good */
}

static void net_link(void *ctx, bool up)
{
	struct rtl8139 *d = ctx;

	phy_link(d, up);
	rtl_cause(d, ISR_LINKCHG);
	rtl_rx_start(d);
}

/* --- registers --- */

static void reset_chip(struct rtl8139 *d)
{
	uint8_t keep[R_MAR], cfg[8];

	loop_timer_cancel(&d->timer);
	loop_timer_cancel(&d->tx_next);
	memcpy(keep, d->reg, sizeof(keep));		/* the address survives CR.RST */
	memcpy(cfg, d->reg + R_CONFIG0, 2);
	memset(d->reg, 0, sizeof(d->reg));
	memcpy(d->reg, keep, 6);
	memcpy(d->reg + R_CONFIG0, cfg, 2);
	for (unsigned i = 0; i < TX_SLOTS; i++)
		st_le32(d->reg + R_TSD + 4 * i, TSD_OWN);
	st_le32(d->reg + R_TCR, HW_VERSION);
	st_le16(d->reg + R_CAPR, 0xfff0);
	d->reg[R_CONFIG3] = 0x01;
	st_le16(d->reg + R_BMCR, BMCR_ANENABLE | BMCR_FULLDPLX | BMCR_SPEED100);
	st_le16(d->reg + R_ANAR, ADVERTISE_PAUSE_CAP | ADVERTISE_ALL | ADVERTISE_CSMA);
	phy_link(d, d->net && d->net->link_up);
	d->rx_head = 0;
	d->tx_slot = 0;
	d->cp_tx = d->cp_tx_high = d->cp_rx = 0;
	d->cp_poll = 0;
	d->timer_base = rtl_now(d);
	d->tx_watch = d->rx_watch = false;
	rtl_watch(d);
	irq_update(d);
}

static void eeprom_address(struct rtl8139 *d)
{
	for (int i = 0; i < 3; i++)
		d->ee.words[7 + i] = d->mac[2 * i] | d->mac[2 * i + 1] << 8;
}

static void load_eeprom(struct rtl8139 *d)
{
	for (int i = 0; i < 3; i++)
		st_le16(d->reg + 2 * i, d->ee.words[7 + i]);
}

static bool config_open(const struct rtl8139 *d)
{
	return (d->reg[R_9346CR] & EEM_MASK) == EEM_CONFIG;
}

static void write_9346(struct rtl8139 *d, uint8_t val)
{
	d->reg[R_9346CR] = val & ~1;
	if ((val & EEM_MASK) == EEM_AUTOLOAD) {
		load_eeprom(d);
		d->reg[R_9346CR] = 0;
	}
	eeprom93_wires(&d->ee, (val & EEM_MASK) == EEM_PROGRAM && val & 8, val & 4, val & 2);
}

static void write_cr(struct rtl8139 *d, uint8_t val)
{
	uint8_t old = d->reg[R_CR];

	if (val & CR_RST) {
		reset_chip(d);
		return;
	}
	d->reg[R_CR] = val & (CR_RE | CR_TE);
	if (!(old & CR_TE) && val & CR_TE)
		d->tx_slot = 0;
	rtl_rx_start(d);
	rtl_transmit(d);
}

static void write_bmcr(struct rtl8139 *d, uint16_t val)
{
	if (val & BMCR_RESET)
		val = BMCR_ANENABLE | BMCR_FULLDPLX | BMCR_SPEED100;
	st_le16(d->reg + R_BMCR, val & ~(BMCR_RESET | BMCR_ANRESTART));
}

/* One register; val has only the bits of mask. */
static void reg_write(struct rtl8139 *d, const struct rtl_reg *r, uint32_t val, uint32_t mask)
{
	uint32_t old = 0, now;

	memcpy(&old, d->reg + r->off, r->size);
	now = (old & ~mask) | val;
	switch (r->off) {
	case 0x00:
	case 0x04:
		if (!config_open(d))
			return;
		break;
	case R_TSD ... R_TSD + 15:
		/* C+ mode: the address of the tally counters, and 8 to have them written. */
		if (rtl_cplus(d)) {
			memcpy(d->reg + r->off, &now, 4);
			if (r->off == R_TSD && now & DTCCR_DUMP)
				rtl_dump_tally(d);
			return;
		}
		st_le32(d->reg + r->off,
			(old & ~(TSD_SIZE | TSD_OWN | TSD_ERTXTH | TSD_TUN | TSD_TOK | TSD_TABT)) |
				(now & (TSD_SIZE | TSD_OWN | TSD_ERTXTH)));
		rtl_transmit(d);
		return;
	case R_CR:
		write_cr(d, now);
		return;
	case R_CAPR:
		st_le16(d->reg + R_CAPR, now);
		rtl_rx_start(d);
		return;
	case R_IMR:
		st_le16(d->reg + R_IMR, now);
		irq_update(d);
		return;
	case R_ISR:
		st_le16(d->reg + R_ISR, old & ~val);
		irq_update(d);
		/* The last overflow is dealt with: go on. */
		rtl_rx_start(d);
		return;
	case R_TCR:
		now = HW_VERSION | (now & TCR_WMASK);
		break;
	case R_RCR:
		st_le32(d->reg + R_RCR, now);
		rtl_rx_start(d);
		return;
	case R_TCTR:
		d->timer_base = rtl_now(d);
		timer_arm(d);
		return;
	case R_TIMERINT:
		st_le32(d->reg + R_TIMERINT, now);
		timer_arm(d);
		return;
	case R_MPC:
		now = 0;
		break;
	case R_9346CR:
		write_9346(d, now);
		return;
	case R_CONFIG0:
	case R_CONFIG1:
	case R_CONFIG3:
	case R_CONFIG4:
		if (!config_open(d))
			return;
		break;
	case R_BMCR:
		write_bmcr(d, now);
		return;
	case R_TPPOLL:
		d->cp_poll |= now & (TPPOLL_NPQ | TPPOLL_HPQ);
		if (now & TPPOLL_FSWINT)
			rtl_cause(d, ISR_SWINT);
		rtl_transmit(d);
		return;
	case R_CPCR:
		now &= 0xff;
		break;
	case R_RDSAR:
	case R_RDSAR + 4:
		d->cp_rx = 0;
		break;
	case R_ERBCR: case R_ERSR: case R_CBR: case R_MSR: case R_RERID: case R_TSAD:
	case R_BMSR: case R_ANLPAR: case R_ANER: case R_CSCR:
		return;				/* read-only */
	}
	memcpy(d->reg + r->off, &now, r->size);
	if (r->off >= R_TSAD0 && r->off < R_TSAD0 + 8)
		d->cp_tx = 0;			/* C+: another normal-priority ring */
	else if (r->off >= R_TSAD0 + 8 && r->off < R_TSAD0 + 16)
		d->cp_tx_high = 0;
	if (r->off == R_CPCR || r->off == R_RDSAR + 4 || r->off == R_RDSAR)
		rtl_rx_start(d);
}

static uint16_t tsad_summary(const struct rtl8139 *d)
{
	uint16_t v = 0;

	for (unsigned i = 0; i < TX_SLOTS; i++) {
		uint32_t tsd = rtl32(d, R_TSD + 4 * i);

		v |= (tsd & TSD_OWN ? 0x0001 : 0) << i | (tsd & TSD_TABT ? 0x0010 : 0) << i |
		     (tsd & TSD_TUN ? 0x0100 : 0) << i | (tsd & TSD_TOK ? 0x1000 : 0) << i;
	}
	return v;
}

/* Registers whose value is made when they are read; then the bytes tell the truth. */
static void refresh(struct rtl8139 *d)
{
	st_le16(d->reg + R_CBR, d->rx_head);
	st_le16(d->reg + R_TSAD, tsad_summary(d));
	st_le32(d->reg + R_TCTR, timer_count(d));
	d->reg[R_CR] = (d->reg[R_CR] & ~CR_BUFE) | (rtl_ring_empty(d) ? CR_BUFE : 0);
	d->reg[R_MSR] = 0xc0 | (d->link ? 0 : 4);	/* flow control both ways; LINKB */
	d->reg[R_9346CR] = (d->reg[R_9346CR] & ~1) | eeprom93_out(&d->ee);
}

static uint64_t rtl_read(void *dev, uint64_t off, unsigned size)
{
	struct rtl8139 *d = dev;
	uint32_t v = 0;

	refresh(d);
	memcpy(&v, d->reg + off, MIN(size, (unsigned)(BAR_SIZE - off)));
	return v;
}

static void rtl_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct rtl8139 *d = dev;

	while (size) {
		const struct rtl_reg *r = reg_at(off);
		unsigned skip, n;

		if (!r) {
			off++;
			size--;
			val >>= 8;
			continue;
		}
		skip = off - r->off;
		n = MIN(size, r->size - skip);
		{
			uint32_t mask = n == 4 ? 0xffffffffu : (1u << 8 * n) - 1;

			reg_write(d, r, ((uint32_t)val & mask) << 8 * skip, mask << 8 * skip);
		}
		off += n;
		size -= n;
		val = n < 8 ? val >> 8 * n : 0;
	}
}

static const struct region_ops rtl_region = {
	.name = "RTL8139C+",
	.read = rtl_read,
	.write = rtl_write,
	.min_width = 1,
	.max_width = 4,
	.reg_name = rtl_reg_name,
};

/* --- device --- */

static void config_written(struct pci_dev *p, unsigned off, unsigned size)
{
	struct rtl8139 *d = (struct rtl8139 *)p;

	if (off <= PCI_COMMAND + 1 && off + size > PCI_COMMAND) {
		rtl_rx_start(d);
		rtl_transmit(d);
	}
}

static void rtl_reset(struct device *dev)
{
	struct rtl8139 *d = (struct rtl8139 *)dev;

	memset(d->reg, 0, sizeof(d->reg));
	load_eeprom(d);
	d->reg[R_CONFIG1] = 0x0c;		/* both windows */
	reset_chip(d);
	eeprom93_wires(&d->ee, false, false, false);
	pci_dev_reset(&d->pci);
}

static void rtl_quiesce(struct device *dev, void (*done)(void *ctx), void *ctx)
{
	struct rtl8139 *d = (struct rtl8139 *)dev;

	d->paused = true;
	d->rx_watch = d->tx_watch = false;
	rtl_watch(d);
	done(ctx);
}

static void rtl_resume(struct device *dev)
{
	struct rtl8139 *d = (struct rtl8139 *)dev;

	d->paused = false;
	rtl_rx_start(d);
	rtl_transmit(d);
}

#define F(t, member) STATE_FIELD(struct rtl8139, STATE_##t, member)
static const struct state_field fields[] = {
	F(BYTES, reg),	F(U32, rx_head),    F(U32, tx_slot),
	F(U32, cp_tx),	F(U32, cp_tx_high), F(U32, cp_rx),
	F(U8, cp_poll), F(BYTES, tally),    EEPROM93_FIELDS(struct rtl8139, ee),
};

static int rtl_save(struct device *dev, struct state_out *o)
{
	struct rtl8139 *d = (struct rtl8139 *)dev;
	int ret = pci_dev_save(&d->pci, o);

	refresh(d);
	state_save_fields(o, d, fields, ARRAY_SIZE(fields));
	state_u64(o, "timer_age", rtl_now(d) - d->timer_base);
	return ret;
}

static int rtl_load(struct device *dev, struct state_in *in, uint32_t version)
{
	struct rtl8139 *d = (struct rtl8139 *)dev;
	uint64_t age;
	int ret = pci_dev_load(&d->pci, in);

	reset_chip(d);
	if (ret == 0)
		ret = state_load_fields(in, d, fields, ARRAY_SIZE(fields));
	if (ret == 0)
		ret = state_get_u64(in, "timer_age", &age);
	if (!eeprom93_valid(&d->ee) && ret == 0)
		ret = state_bad(in, "an EEPROM transfer that cannot be");
	if (ret < 0)
		return ret;
	/* a copy's own; the guest goes on with the one it has until it resets the card */
	eeprom_address(d);
	if (d->rx_head > 0xffff || d->tx_slot >= TX_SLOTS || d->cp_tx >= CP_RING ||
	    d->cp_tx_high >= CP_RING || d->cp_rx >= CP_RING)
		return state_bad(in, "ring positions %u, %u, %u, %u, %u", d->rx_head, d->tx_slot,
				 d->cp_tx, d->cp_tx_high, d->cp_rx);
	d->timer_base = rtl_now(d) - (int64_t)MIN(age, (uint64_t)INT64_MAX / 2);
	timer_arm(d);
	d->link = d->reg[R_BMSR] & BMSR_LSTATUS;
	irq_update(d);
	if (d->link != (d->net && d->net->link_up))
		net_link(d, !d->link);
	return 0;
}

static void tx_next(void *ctx)
{
	rtl_transmit(ctx);
}

static void rtl_destroy(struct device *dev)
{
	struct rtl8139 *d = (struct rtl8139 *)dev;

	loop_timer_cancel(&d->timer);
	loop_timer_cancel(&d->tx_next);
	nic_exit(&d->pci, d->net);
	free(d->frame);
	free(d);
}

static const struct device_ops rtl_ops = {
	.name = "rtl8139",
	.version = 1,
	.reset = rtl_reset,
	.quiesce = rtl_quiesce,
	.resume = rtl_resume,
	.save = rtl_save,
	.load = rtl_load,
	.destroy = rtl_destroy,
};

struct device *rtl8139_new(struct pci_bus *pci, unsigned devfn, const char *id, struct net *net,
			   const uint8_t mac[6], struct loop *loop, struct err *err)
{
	static const struct pci_id pci_id = {
		.vendor = 0x10ec, .device = 0x8139, .subsystem_vendor = 0x10ec, .subsystem = 0x8139,
		.class_rev = 0x020000 << 8 | 0x20, .intx = true,
	};
	struct rtl8139 *d = xcalloc(1, sizeof(*d));

	if (nic_init(&d->pci, &rtl_ops, id, loop, pci, devfn, &pci_id, err) < 0) {
		free(d);
		return NULL;
	}
	d->net = net;
	d->mem = pci_bus_wires(pci)->mem;
	d->frame = xcalloc(1, RTL_FRAME);
	d->ee.words[0] = 0x8129;		/* signature */
	d->ee.words[1] = d->ee.words[3] = 0x10ec;
	d->ee.words[2] = d->ee.words[4] = 0x8139;
	d->ee.words[5] = 0x4020;		/* MXLAT, MNGNT */
	d->ee.words[6] = 0xe512;
	memcpy(d->mac, mac, 6);
	eeprom_address(d);
	d->pci.config[PCI_MIN_GNT] = 0x20;
	d->pci.config[PCI_MAX_LAT] = 0x40;
	d->pci.config_written = config_written;
	pci_bar_regs(&d->pci, 0, PCI_BASE_ADDRESS_SPACE_IO, BAR_SIZE, &rtl_region, d);
	pci_bar_regs(&d->pci, 1, PCI_BASE_ADDRESS_SPACE_MEMORY, BAR_SIZE, &rtl_region, d);
	loop_timer_init(&d->timer, loop, rtl_clock(d), timer_over, d);
	loop_timer_init(&d->tx_next, loop, NULL, tx_next, d);
	nic_connect(&d->pci, net, NET_CUT, net_readable, net_writable, net_link, d);
	rtl_reset(&d->pci.dev);
	return &d->pci.dev;
}
