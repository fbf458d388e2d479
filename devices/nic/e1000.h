/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * e1000.h: what the files of the Intel 82540EM share. Register names, offsets and bits are those of
 * the "PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual" (317453),
 * chapter 13; private to e1000*.c.
 */
#ifndef DEVICES_NIC_E1000_H
#define DEVICES_NIC_E1000_H

#include "devices/nic/eeprom93.h"
#include "devices/nic/nic.h"

/* --- registers: byte offsets in BAR 0 --- */
enum {
	E_CTRL = 0x0000, E_STATUS = 0x0008, E_EECD = 0x0010, E_EERD = 0x0014, E_CTRL_EXT = 0x0018,
	E_MDIC = 0x0020,
	E_ICR = 0x00c0, E_ITR = 0x00c4, E_ICS = 0x00c8, E_IMS = 0x00d0, E_IMC = 0x00d8,
	E_RCTL = 0x0100, E_TCTL = 0x0400,
	E_RDBAL = 0x2800, E_RDBAH = 0x2804, E_RDLEN = 0x2808, E_RDH = 0x2810, E_RDT = 0x2818,
	E_RDTR = 0x2820, E_RADV = 0x282c,
	E_TDBAL = 0x3800, E_TDBAH = 0x3804, E_TDLEN = 0x3808, E_TDH = 0x3810, E_TDT = 0x3818,
	E_TIDV = 0x3820, E_TADV = 0x382c,
	E_STATS = 0x4000, E_STATS_END = 0x4100, E_RXCSUM = 0x5000,
	E_MTA = 0x5200, E_RA = 0x5400, E_VFTA = 0x5600, E_TABLES_END = 0x5800,
};
#define E_MTA_WORDS 128
#define E_RA_WORDS 32
#define E_VFTA_WORDS 128
#define E_MEM_SIZE 0x20000
#define E_IO_SIZE 64

#define CTRL_FD (1u << 0)
#define CTRL_SLU (1u << 6)
#define CTRL_RST (1u << 26)
#define CTRL_VME (1u << 30)
#define CTRL_PHY_RST (1u << 31)
#define STATUS_FD (1u << 0)
#define STATUS_LU (1u << 1)
#define STATUS_SPEED_1000 (2u << 6)
#define STATUS_ASDV_1000 (2u << 8)
#define STATUS_MTXCKOK (1u << 10)
#define CTRL_EXT_EE_RST (1u << 13)

/* Interrupt causes */
#define ICR_TXDW (1u << 0)
#define ICR_TXQE (1u << 1)
#define ICR_LSC (1u << 2)
#define ICR_RXDMT0 (1u << 4)
#define ICR_RXO (1u << 6)
#define ICR_RXT0 (1u << 7)
#define ICR_MDAC (1u << 9)

#define RCTL_EN (1u << 1)
#define RCTL_UPE (1u << 3)
#define RCTL_MPE (1u << 4)
#define RCTL_LPE (1u << 5)
#define RCTL_LBM(r) ((r) >> 6 & 3)
#define RCTL_RDMTS(r) ((r) >> 8 & 3)
#define RCTL_MO(r) ((r) >> 12 & 3)
#define RCTL_BAM (1u << 15)
#define RCTL_BSIZE(r) ((r) >> 16 & 3)
#define RCTL_VFE (1u << 18)
#define RCTL_BSEX (1u << 25)
#define RCTL_SECRC (1u << 26)
#define TCTL_EN (1u << 1)
#define TCTL_PSP (1u << 3)
#define RXCSUM_IPOFL (1u << 8)
#define RXCSUM_TUOFL (1u << 9)
#define RAH_AV (1u << 31)
#define DELAY_FPD (1u << 31)		/* RDTR, TIDV: flush the partial block now */

/* --- descriptors: 16 bytes, chapter 3 --- */
#define DESC_SIZE 16
/* low: length and commands; high: status, options, VLAN */
struct e1000_desc { uint64_t addr; uint32_t low, high; };
#define TXD_EOP (1u << 24)
#define TXD_IC (1u << 26)		/* legacy: insert checksum */
#define TXD_TSE (1u << 26)		/* data and context: segment */
#define TXD_RS (1u << 27)
#define TXD_DEXT (1u << 29)
#define TXD_VLE (1u << 30)
#define TXD_IDE (1u << 31)
#define TXD_DTYP(low) ((low) >> 20 & 15)
#define TXD_DTYP_DATA 1
#define TXD_TUCMD_TCP (1u << 24)
#define TXD_TUCMD_IP (1u << 25)
#define TXD_POPTS_IXSM (1u << 8)
#define TXD_POPTS_TXSM (1u << 9)
#define TXD_DD (1u << 0)
#define RXD_DD (1u << 0)
#define RXD_EOP (1u << 1)
#define RXD_IXSM (1u << 2)
#define RXD_VP (1u << 3)
#define RXD_TCPCS (1u << 5)
#define RXD_IPCS (1u << 6)
#define RXD_PIF (1u << 7)

/* The offloads of the packets that follow: the context descriptor as the driver wrote it. */
struct e1000_ctx { uint32_t ip, tu, cmd, mss; };

struct e1000 {
	struct pci_dev pci;		/* first */
	struct net *net;
	struct mem *mem;
	uint8_t mac[6];			/* as wired; the EEPROM holds it */
	/* registers */
	uint32_t ctrl, status, eecd, eerd, ctrl_ext, mdic, icr, itr, ims, rctl, tctl;
	uint32_t fla, fcal, fcah, fct, vet, fcttv, txcw, rxcw, tipg, ait, ledctl, pba, fcrtl, fcrth;
	uint32_t rdbal, rdbah, rdlen, rdh, rdt, rdtr, rxdctl, radv, rsrpd;
	uint32_t txdmac, tdbal, tdbah, tdlen, tdh, tdt, tidv, txdctl, tadv, tspmt;
	uint32_t rxcsum, wuc, wufc, wus, manc;
	uint32_t stats[(E_STATS_END - E_STATS) / 4];
	uint32_t mta[E_MTA_WORDS], ra[E_RA_WORDS], vfta[E_VFTA_WORDS];
	uint16_t phy[32];
	struct eeprom93 ee;
	uint32_t io_addr;
	struct e1000_ctx tctx;
	/* not registers */
	struct loop_timer itr_timer, rx_timer, tx_timer, link_timer, tx_next;
	int64_t rx_absolute, tx_absolute;	/* latest time of a delayed interrupt; 0: none */
	bool line;			/* INTA# is driven */
	bool rx_watch, tx_watch;	/* net_poll */
	bool paused;
	uint8_t *bounce;		/* one packet, for what cannot be done in place */
};

static inline bool e1000_dma_allowed(struct e1000 *d)
{
	return pci_bus_master(&d->pci) && !d->paused;
}
static inline uint64_t e1000_rx_base(const struct e1000 *d)
{
	return (uint64_t)d->rdbah << 32 | (d->rdbal & ~15u);
}
static inline uint64_t e1000_tx_base(const struct e1000 *d)
{
	return (uint64_t)d->tdbah << 32 | (d->tdbal & ~15u);
}

/* e1000.c */
int64_t e1000_now(struct e1000 *d);
void e1000_cause(struct e1000 *d, uint32_t bits);	/* sets interrupt causes */
void e1000_watch(struct e1000 *d);			/* net_poll by rx_watch and tx_watch */
/* statistics that stay at their maximum */
void e1000_count(struct e1000 *d, unsigned reg, uint64_t by);
void e1000_count64(struct e1000 *d, unsigned reg, uint64_t by);

/* e1000_tx.c: sends from TDH on; more than a batch continues on the loop. */
void e1000_transmit(struct e1000 *d);
void e1000_tx_flush(struct e1000 *d);			/* a delayed TXDW happens now */

/* e1000_rx.c */
/* everything there is, or as far as descriptors reach */
void e1000_receive(struct e1000 *d);
bool e1000_can_receive(struct e1000 *d);
void e1000_loopback(struct e1000 *d, const uint8_t *frame, size_t len);
void e1000_rx_flush(struct e1000 *d);

/* e1000_phy.c: MDIO and EEPROM */
void e1000_phy_reset(struct e1000 *d);
void e1000_phy_link(struct e1000 *d, bool up);
bool e1000_phy_loopback(const struct e1000 *d);
void e1000_mdic_write(struct e1000 *d, uint32_t val);
void e1000_eeprom_init(struct e1000 *d);
uint32_t e1000_eecd_read(struct e1000 *d);
void e1000_eecd_write(struct e1000 *d, uint32_t val);
void e1000_eerd_write(struct e1000 *d, uint32_t val);
void e1000_eeprom_address(struct e1000 *d);	/* this machine's, and the checksum */
void e1000_eeprom_load(struct e1000 *d);		/* what reset reads from it: the address */
void e1000_autoneg(struct e1000 *d);			/* starts it; e1000_link_done ends it */

#endif
