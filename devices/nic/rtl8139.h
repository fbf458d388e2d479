/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rtl8139.h: what the two files of the Realtek 8139C+ share; registers and bits by their names in
 * the data sheet.
 */
#ifndef DEVICES_NIC_RTL8139_H
#define DEVICES_NIC_RTL8139_H

#include <linux/virtio_net.h>

#include "devices/nic/eeprom93.h"
#include "devices/nic/nic.h"

#define TX_SLOTS 4
#define CP_RING 64			/* descriptors of a C+ ring, at most */
#define RTL_FRAME (65536 + 64)

enum {
	R_MAR = 0x08, R_TSD = 0x10, R_TSAD0 = 0x20, R_RBSTART = 0x30, R_ERBCR = 0x34, R_ERSR = 0x36,
	R_CR = 0x37,
	R_CAPR = 0x38, R_CBR = 0x3a, R_IMR = 0x3c, R_ISR = 0x3e, R_TCR = 0x40, R_RCR = 0x44,
	R_TCTR = 0x48, R_MPC = 0x4c,
	R_9346CR = 0x50, R_CONFIG0 = 0x51, R_CONFIG1 = 0x52, R_TIMERINT = 0x54, R_MSR = 0x58,
	R_CONFIG3 = 0x59,
	R_CONFIG4 = 0x5a, R_MULINT = 0x5c, R_RERID = 0x5e, R_TSAD = 0x60, R_BMCR = 0x62,
	R_BMSR = 0x64, R_ANAR = 0x66,
	R_ANLPAR = 0x68, R_ANER = 0x6a, R_CSCR = 0x74, R_CONFIG5 = 0xd8, R_TPPOLL = 0xd9,
	R_CPCR = 0xe0, R_RDSAR = 0xe4,
};
#define CR_BUFE 0x01
#define CR_TE 0x04
#define CR_RE 0x08
#define CR_RST 0x10
#define ISR_ROK 0x0001
#define ISR_TOK 0x0004
#define ISR_TER 0x0008
#define ISR_RXOVW 0x0010
#define ISR_LINKCHG 0x0020
#define ISR_TDU 0x0080
#define ISR_SWINT 0x0100
#define ISR_TIMEOUT 0x4000
#define ISR_SERR 0x8000
#define TSD_SIZE 0x1fffu
#define TSD_OWN (1u << 13)
#define TSD_TUN (1u << 14)
#define TSD_TOK (1u << 15)
#define TSD_ERTXTH (0x3fu << 16)
#define TSD_TABT (1u << 30)
#define DTCCR_DUMP 8
#define RCR_AAP 0x01
#define RCR_APM 0x02
#define RCR_AM 0x04
#define RCR_AB 0x08
#define RCR_WRAP 0x80
#define RCR_RBLEN(r) (8192u << ((r) >> 11 & 3))
#define TCR_LBK (3u << 17)
#define EEM_MASK 0xc0
#define EEM_AUTOLOAD 0x40
#define EEM_PROGRAM 0x80
#define EEM_CONFIG 0xc0
#define TPPOLL_HPQ 0x80
#define TPPOLL_NPQ 0x40
#define TPPOLL_FSWINT 0x01
#define CPCR_TXEN 0x01
#define CPCR_RXEN 0x02
#define CPCR_RXVLAN 0x40

/* Tally counters, as the chip dumps them. */
enum { T_TX_OK, T_RX_OK, T_TX_ERR, T_RX_ERR, T_MISSED, T_RX_PHYS, T_RX_BROADCAST, T_RX_MULTICAST,
       T_COUNT };

struct rtl8139 {
	struct pci_dev pci;		/* first */
	struct net *net;
	struct mem *mem;
	uint8_t reg[256];		/* the register file, as the guest sees it */
	uint32_t rx_head;		/* CBR: where the next frame goes */
	uint32_t tx_slot;		/* the transmit slot that is next */
	uint32_t cp_tx, cp_tx_high, cp_rx;	/* positions in the C+ rings */
	uint8_t cp_poll;		/* rings the driver told of */
	uint64_t tally[T_COUNT];
	struct eeprom93 ee;
	uint8_t mac[6];			/* this machine's own: what the EEPROM has */
	/* not registers */
	struct loop_timer timer, tx_next;
	int64_t timer_base;		/* when TCTR was 0 */
	bool link, rx_watch, tx_watch, paused;
	uint8_t *frame;			/* one frame, with its header in front */
};

static inline uint16_t rtl16(const struct rtl8139 *d, unsigned off)
{
	return ld_le16(d->reg + off);
}
static inline uint32_t rtl32(const struct rtl8139 *d, unsigned off)
{
	return ld_le32(d->reg + off);
}
static inline bool rtl_cplus(const struct rtl8139 *d)
{
	return d->reg[R_CPCR] & (CPCR_TXEN | CPCR_RXEN);
}

/* rtl8139.c */
void rtl_cause(struct rtl8139 *d, uint16_t bits);
void rtl_watch(struct rtl8139 *d);
void rtl_rx_start(struct rtl8139 *d);
/* rtl8139_dma.c */
void rtl_transmit(struct rtl8139 *d);
void rtl_receive(struct rtl8139 *d);
bool rtl_can_receive(struct rtl8139 *d);
bool rtl_ring_empty(const struct rtl8139 *d);
void rtl_dump_tally(struct rtl8139 *d);

#endif
