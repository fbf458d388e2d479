/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * e1000_phy.c: the 82540EM's neighbours on two serial wires: its PHY (a Marvell 88E1011 behind
 * MDIC; IEEE 802.3 clause 22 and 28) and its EEPROM (a 93C46 behind EECD or EERD; manual, chapter
 * 5). Lock of the device's loop.
 */
#include <linux/mii.h>

#include "devices/nic/e1000.h"
#include "vmm/base/log.h"

#define PHY_ADDRESS 1
#define PHY_ID1 0x0141
#define PHY_ID2 0x0c20
#define M88_PSCR 16		/* PHY specific control */
#define M88_PSSR 17		/* PHY specific status */
#define M88_EPSCR 20		/* extended PHY specific control */
#define M88_PSSR_LINK 0x0400
#define M88_PSSR_RESOLVED 0x0800
#define M88_PSSR_1000_FULL 0xa000
#define AUTONEG_NS (20 * NS_PER_MS)

#define MDIC_REG(v) ((v) >> 16 & 31)
#define MDIC_PHY(v) ((v) >> 21 & 31)
#define MDIC_OP_WRITE (1u << 26)
#define MDIC_OP_READ (2u << 26)
#define MDIC_OP(v) ((v) & 3u << 26)
#define MDIC_READY (1u << 28)
#define MDIC_INT (1u << 29)
#define MDIC_ERROR (1u << 30)

/* --- PHY --- */

void e1000_phy_reset(struct e1000 *d)
{
	memset(d->phy, 0, sizeof(d->phy));
	d->phy[MII_BMCR] = BMCR_ANENABLE | BMCR_FULLDPLX | BMCR_SPEED1000;
	d->phy[MII_BMSR] = BMSR_100FULL | BMSR_100HALF | BMSR_10FULL | BMSR_10HALF | BMSR_ESTATEN |
			   BMSR_ANEGCAPABLE | BMSR_ERCAP | 0x40;
	d->phy[MII_PHYSID1] = PHY_ID1;
	d->phy[MII_PHYSID2] = PHY_ID2;
	d->phy[MII_ADVERTISE] = ADVERTISE_PAUSE_CAP | ADVERTISE_PAUSE_ASYM | ADVERTISE_ALL |
				ADVERTISE_CSMA;
	d->phy[MII_CTRL1000] = ADVERTISE_1000FULL | ADVERTISE_1000HALF | 0x0c00;
	d->phy[MII_ESTATUS] = ESTATUS_1000_TFULL | ESTATUS_1000_THALF;
	d->phy[M88_PSCR] = 0x0360;
	d->phy[M88_EPSCR] = 0x0d60;
	if (d->status & STATUS_LU)
		e1000_phy_link(d, true);
}

/* What the two ends of the wire agreed on: a gigabit, full duplex. */
void e1000_phy_link(struct e1000 *d, bool up)
{
	if (up) {
		d->phy[MII_BMSR] |= BMSR_LSTATUS | BMSR_ANEGCOMPLETE;
		d->phy[MII_LPA] = LPA_LPACK | LPA_PAUSE_CAP | LPA_PAUSE_ASYM | LPA_100FULL |
				  LPA_100HALF | LPA_10FULL | LPA_10HALF | ADVERTISE_CSMA;
		d->phy[MII_EXPANSION] = EXPANSION_NWAY | EXPANSION_LCWP;
		d->phy[MII_STAT1000] = LPA_1000FULL | LPA_1000HALF | LPA_1000LOCALRXOK |
				       LPA_1000REMRXOK;
		d->phy[M88_PSSR] = M88_PSSR_1000_FULL | M88_PSSR_RESOLVED | M88_PSSR_LINK | 0x0008;
	} else {
		/* The link bit latches low until it is read; ours is low while the link is. */
		d->phy[MII_BMSR] &= ~(BMSR_LSTATUS | BMSR_ANEGCOMPLETE);
		d->phy[MII_LPA] = d->phy[MII_STAT1000] = d->phy[MII_EXPANSION] = 0;
		d->phy[M88_PSSR] = 0;
	}
}

bool e1000_phy_loopback(const struct e1000 *d)
{
	return d->phy[MII_BMCR] & BMCR_LOOPBACK;
}

void e1000_autoneg(struct e1000 *d)
{
	if (!d->net || !d->net->link_up)
		return;
	d->status &= ~STATUS_LU;
	e1000_phy_link(d, false);
	loop_timer_set(&d->link_timer, e1000_now(d) + AUTONEG_NS);
}

static void phy_write(struct e1000 *d, unsigned reg, uint16_t val)
{
	switch (reg) {
	case MII_BMCR:
		if (val & BMCR_RESET) {
			e1000_phy_reset(d);
			e1000_autoneg(d);
			return;
		}
		d->phy[reg] = val & ~(BMCR_ANRESTART | 0x3f);
		if (val & BMCR_ANRESTART && val & BMCR_ANENABLE)
			e1000_autoneg(d);
		return;
	case MII_ADVERTISE:
	case MII_CTRL1000:
	case 7:				/* next page */
	case M88_PSCR:
	case 18:			/* interrupt enable: the wire leads nowhere on this board */
	case M88_EPSCR:
	case 24 ... 31:			/* LED, page select and the vendor's test registers */
		d->phy[reg] = val;
		return;
	}
	/* The rest is read-only. */
}

void e1000_mdic_write(struct e1000 *d, uint32_t val)
{
	unsigned reg = MDIC_REG(val);

	d->mdic = (val & ~(MDIC_ERROR | MDIC_READY)) | MDIC_READY;
	if (MDIC_PHY(val) != PHY_ADDRESS)
		d->mdic |= MDIC_ERROR;
	else if (MDIC_OP(val) == MDIC_OP_READ)
		d->mdic = (d->mdic & ~0xffffu) | d->phy[reg];
	else if (MDIC_OP(val) == MDIC_OP_WRITE)
		phy_write(d, reg, val);
	else
		d->mdic |= MDIC_ERROR;
	if (val & MDIC_INT)
		e1000_cause(d, ICR_MDAC);
}

/* --- EEPROM --- */

#define EECD_SK (1u << 0)
#define EECD_CS (1u << 1)
#define EECD_DI (1u << 2)
#define EECD_DO (1u << 3)
#define EECD_FWE (3u << 4)
#define EECD_REQ (1u << 6)
#define EECD_GNT (1u << 7)
#define EECD_PRES (1u << 8)
#define EERD_START (1u << 0)
#define EERD_DONE (1u << 4)
#define EEPROM_SUM 0xbaba

void e1000_eeprom_init(struct e1000 *d)
{
	/*
	 * Words 3 to 0x3e as Intel's PRO/1000 MT Desktop carries them (manual, table 5-2); words
	 * 0-2 are the address.
	 */
	static const uint16_t words[64] = {
		[0x04] = 0xffff, [0x05] = 0xffff, [0x06] = 0xffff, [0x07] = 0xffff,
		[0x08] = 0x3000,		/* PBA number, high */
		[0x09] = 0x1000,
		/* initialization control 1: valid signature, load subsystem ids */
		[0x0a] = 0x6403,
		[0x0b] = 0x001e,		/* subsystem */
		[0x0c] = 0x8086,
		[0x0d] = 0x100e,		/* device */
		[0x0e] = 0x8086,
		[0x0f] = 0x3040,		/* initialization control 2 */
		[0x10] = 0x0008, [0x11] = 0x2000, [0x12] = 0x7e14, [0x13] = 0x0048,
		[0x14] = 0x1000, [0x15] = 0x00d8, [0x17] = 0x2700,
		[0x1e] = 0x6cc9, [0x1f] = 0x3150, [0x20] = 0x0722, [0x21] = 0x040b, [0x22] = 0x0984,
		[0x24] = 0xc000, [0x25] = 0x0706,
		[0x27] = 0x1008, [0x2a] = 0x0f04, [0x2b] = 0x7fff, [0x2c] = 0x4d01,
	};
	memcpy(d->ee.words, words, sizeof(words));
	e1000_eeprom_address(d);
}

void e1000_eeprom_address(struct e1000 *d)
{
	uint16_t sum = 0;

	for (int i = 0; i < 3; i++)
		d->ee.words[i] = d->mac[2 * i] | d->mac[2 * i + 1] << 8;
	for (int i = 0; i < 63; i++)
		sum += d->ee.words[i];
	d->ee.words[63] = EEPROM_SUM - sum;
}

void e1000_eeprom_load(struct e1000 *d)
{
	d->ra[0] = d->ee.words[0] | (uint32_t)d->ee.words[1] << 16;
	d->ra[1] = d->ee.words[2] | RAH_AV;
}

uint32_t e1000_eecd_read(struct e1000 *d)
{
	return d->eecd | EECD_PRES | (d->eecd & EECD_REQ ? EECD_GNT : 0) |
	       (eeprom93_out(&d->ee) ? EECD_DO : 0);
}

void e1000_eecd_write(struct e1000 *d, uint32_t val)
{
	d->eecd = val & (EECD_SK | EECD_CS | EECD_DI | EECD_FWE | EECD_REQ);
	eeprom93_wires(&d->ee, val & EECD_CS, val & EECD_SK, val & EECD_DI);
}

void e1000_eerd_write(struct e1000 *d, uint32_t val)
{
	unsigned addr = val >> 8 & 0xff;

	d->eerd = val & 0xff00;
	if (val & EERD_START)
		d->eerd |= EERD_DONE | (uint32_t)(addr < 64 ? d->ee.words[addr] : 0xffff) << 16;
}
