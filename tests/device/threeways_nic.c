/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * threeways_nic.c: the classic network cards straight, saved and loaded at each step with frames
 * under way, and reset at each step (tests/lib/threeway.h). Each frame a driver gave goes out once,
 * each that came is received once.
 */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/nic/e1000.h"
#include "devices/nic/rtl8139.h"
#include "tests/lib/threeway.h"

#define DEVFN PCI_DEVFN(3, 0)
#define MEM 0xe0000000u
#define IO 0xc000u
#define TX_RING 0x110000u
#define RX_RING 0x120000u
#define TX_BUF 0x200000u
#define RX_BUF 0x300000u
#define N 16

static const uint8_t ours[6] = { 0x52, 0x54, 0, 1, 2, 3 };

/* The wire outlives the machines at its end. */
struct wire {
	int ends[2];
	struct net *net;
	bool intel;
};

static struct wire *wire_new(bool intel)
{
	struct wire *w = xcalloc(1, sizeof(*w));

	w->intel = intel;
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, w->ends) == 0);
	return w;
}

static void wire_free(struct wire *w)
{
	close(w->ends[0]);
	close(w->ends[1]);
	free(w);
}

static void wire_empty(void *ctx)
{
	struct wire *w = ctx;
	char buf[2048];

	for (int i = 0; i < 2; i++)
		while (recv(w->ends[i], buf, sizeof(buf), 0) > 0)
			;
}

static struct device *make(struct guest *g, void *ctx)
{
	struct wire *w = ctx;
	struct err err = { "" };
	struct device *d;
	char spec[40];

	snprintf(spec, sizeof(spec), "socket,fd=%d", dup(w->ends[0]));
	w->net = net_open("net0", spec, g->loop, &host_direct, &err);
	CHECK(w->net);
	loop_lock(g->loop);
	d = (w->intel ? e1000_new : rtl8139_new)(g->pci, DEVFN, "nic0", w->net, ours, g->loop,
						 &err);
	loop_unlock(g->loop);
	return d;
}

static void unmake(struct guest *g, void *ctx)
{
	struct wire *w = ctx;

	loop_lock(g->loop);
	net_close(w->net);
	loop_unlock(g->loop);
}

static void frame_make(uint8_t *f, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		f[i] = seed * 17 + i * 3;
	memcpy(f, ours, 6);
	memcpy(f + 6, "\x52\x54\x00\x0a\x0b\x0c", 6);
	st_be16(f + 12, 0x88b5);
}

static void frame_comes(struct tw *t, size_t len, unsigned seed)
{
	struct wire *w = t->ctx;
	uint8_t f[2048];

	frame_make(f, len, seed);
	CHECK_EQ(send(w->ends[1], f, len, 0), (ssize_t)len);
}

/* All frames that the card has sent. */
static void say_sent(struct tw *t)
{
	struct wire *w = t->ctx;
	uint8_t f[2048];
	ssize_t n;

	while ((n = recv(w->ends[1], f, sizeof(f), 0)) > 0)
		tw_say(t, "sent %zd %08x", n, crc32c(0, f, n));
}

static void work(struct tw *t)
{
	for (int i = 0; i < 4; i++)
		guest_run(t->g, 1);
}

static void bars(struct tw *t, unsigned io, unsigned mem)
{
	cfg_write(t->g, DEVFN, PCI_BASE_ADDRESS_0 + 4 * io, 4, IO);
	cfg_write(t->g, DEVFN, PCI_BASE_ADDRESS_0 + 4 * mem, 4, MEM);
	cfg_write(t->g, DEVFN, PCI_COMMAND, 2,
		  PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

/* --- the Intel card --- */

static uint32_t rd(struct tw *t, uint32_t reg)
{
	return (uint32_t)in(t->g->mmio, MEM + reg, 4);
}

static void wr(struct tw *t, uint32_t reg, uint32_t val)
{
	out(t->g->mmio, MEM + reg, 4, val);
}

static void e_start(struct tw *t)
{
	bars(t, 1, 0);
	/* A driver of this card begins so; the link comes back when negotiation is over. */
	wr(t, E_IMC, ~0u);
	wr(t, E_CTRL, rd(t, E_CTRL) | CTRL_SLU);
	for (int i = 0; i < 200 && !(rd(t, E_STATUS) & STATUS_LU); i++)
		guest_run(t->g, 1);
	rd(t, E_ICR);
	tw_say(t, "status %x, address %08x", rd(t, E_STATUS), rd(t, E_RA));
}

static void e_rings(struct tw *t)
{
	for (unsigned i = 0; i < N; i++)
		st_le64(guest_ptr(t->g, RX_RING + 16 * i, 16), RX_BUF + 2048 * i);
	wr(t, E_TDBAL, TX_RING);
	wr(t, E_TDLEN, N * 16);
	wr(t, E_TCTL, TCTL_EN | TCTL_PSP);
	wr(t, E_RDBAL, RX_RING);
	wr(t, E_RDLEN, N * 16);
	wr(t, E_MTA + 12, 0x1234);
	wr(t, E_IMS, ICR_RXT0 | ICR_TXDW);
	wr(t, E_RCTL, RCTL_EN | RCTL_BAM | RCTL_SECRC);
	tw_say(t, "rctl %x mta %x", rd(t, E_RCTL), rd(t, E_MTA + 12));
}

static void e_desc(struct tw *t, unsigned i, uint32_t off, uint32_t low)
{
	uint8_t *d = guest_ptr(t->g, TX_RING + 16 * (i % N), 16);

	st_le64(d, TX_BUF + off);
	st_le32(d + 8, low);
	st_le32(d + 12, 0);
}

/* A packet whose end is not in the ring yet. */
static void e_send_half(struct tw *t)
{
	frame_make(guest_ptr(t->g, TX_BUF, 200), 200, 3);
	e_desc(t, 0, 0, 60);
	e_desc(t, 1, 60, 70);
	wr(t, E_TDT, 2);
	work(t);
	say_sent(t);
}

static void e_send_rest(struct tw *t)
{
	e_desc(t, 2, 130, 70 | TXD_EOP | TXD_RS);
	e_desc(t, 3, 0, 90 | TXD_EOP | TXD_RS);
	wr(t, E_TDT, 4);
	work(t);
	say_sent(t);
	tw_say(t, "tdh %u tdt %u icr %x line %d", rd(t, E_TDH), rd(t, E_TDT), rd(t, E_ICR),
	       t->g->intx_level);
}

/* Frames that nobody has buffers for. */
static void e_frames_wait(struct tw *t)
{
	for (unsigned i = 0; i < 3; i++)
		frame_comes(t, 100 + i, i);
	work(t);
	tw_say(t, "rdh %u icr %x", rd(t, E_RDH), rd(t, E_ICR) & ICR_RXT0);
}

static void e_buffers(struct tw *t)
{
	wr(t, E_RDT, 8);
	work(t);
	tw_say(t, "rdh %u line %d", rd(t, E_RDH), t->g->intx_level);
}

/* The interrupt is up until the cause is read. */
static void e_received(struct tw *t)
{
	tw_say(t, "icr %x line %d", rd(t, E_ICR) & ICR_RXT0, t->g->intx_level);
	for (unsigned i = 0; i < 3; i++) {
		const uint8_t *d = guest_ptr(t->g, RX_RING + 16 * i, 16);
		unsigned len = ld_le16(d + 8);

		tw_say(t, "frame %u: %u bytes %08x status %x", i, len,
		       crc32c(0, guest_ptr(t->g, RX_BUF + 2048 * i, len), len), d[12] & 3);
	}
	tw_say(t, "received %u", rd(t, 0x4074));
}

/* Microwire: command and address are in, the word is half out. */
static void e_eeprom_begin(struct tw *t)
{
	unsigned bits = 6 << 6 | 2, v = 0;

	wr(t, E_EECD, 0x40);
	wr(t, E_EECD, 0x42);
	for (int i = 8; i >= 0; i--) {
		unsigned di = bits >> i & 1 ? 4 : 0;

		wr(t, E_EECD, 0x42 | di);
		wr(t, E_EECD, 0x43 | di);
		wr(t, E_EECD, 0x42 | di);
	}
	for (int i = 0; i < 7; i++) {
		wr(t, E_EECD, 0x43);
		v = v << 1 | (rd(t, E_EECD) >> 3 & 1);
		wr(t, E_EECD, 0x42);
	}
	tw_say(t, "eeprom %x", v);
}

static void e_eeprom_end(struct tw *t)
{
	unsigned v = 0;

	for (int i = 0; i < 9; i++) {
		wr(t, E_EECD, 0x43);
		v = v << 1 | (rd(t, E_EECD) >> 3 & 1);
		wr(t, E_EECD, 0x42);
	}
	wr(t, E_EECD, 0);
	tw_say(t, "eeprom %x", v);
}

/*
 * The address of an I/O access is written before its data; the offload's context before its packet.
 */
static void e_two_halves(struct tw *t)
{
	uint8_t *d = guest_ptr(t->g, TX_RING + 16 * 4, 16);

	out(t->g->pio, IO, 4, E_RA);
	st_le32(d, 33 << 16 | 24 << 8 | 14);
	st_le32(d + 4, 34 | 50 << 8);
	st_le32(d + 8, TXD_DEXT);
	st_le32(d + 12, 0);
	wr(t, E_TDT, 5);
	work(t);
	say_sent(t);
}

static void e_other_halves(struct tw *t)
{
	tw_say(t, "by I/O %08x", (unsigned)in(t->g->pio, IO + 4, 4));
	e_desc(t, 5, 0, 200 | TXD_EOP | TXD_RS | TXD_DEXT | 1 << 20);
	st_le32(guest_ptr(t->g, TX_RING + 16 * 5 + 12, 4), TXD_POPTS_IXSM);
	wr(t, E_TDT, 6);
	work(t);
	say_sent(t);
	tw_say(t, "tdh %u sent %u", rd(t, E_TDH), rd(t, 0x4080));
}

/* What the driver gave and the card has not answered: descriptors, and frames that wait. */
static unsigned e_in_flight(struct tw *t)
{
	struct wire *w = t->ctx;
	struct pollfd p = { w->ends[0], POLLIN, 0 };

	if (!(cfg_read(t->g, DEVFN, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY))
		return 0;
	return (rd(t, E_TDT) != rd(t, E_TDH)) + (poll(&p, 1, 0) == 1);
}

static void (*const e_steps[])(struct tw *t) = {
	e_start,    e_rings,	    e_send_half,  e_send_rest,	e_frames_wait,	e_buffers,
	e_received, e_eeprom_begin, e_eeprom_end, e_two_halves, e_other_halves,
};

TEST(e1000_three_ways)
{
	struct wire *w = wire_new(true);

	threeway(&(struct tw_scenario){ make, e_steps, ARRAY_SIZE(e_steps), wire_empty, w, unmake,
					e_in_flight });
	wire_free(w);
}

/* --- the Realtek card --- */

static uint32_t rr(struct tw *t, unsigned reg, unsigned size)
{
	return (uint32_t)in(t->g->pio, IO + reg, size);
}

static void rw(struct tw *t, unsigned reg, unsigned size, uint32_t val)
{
	out(t->g->pio, IO + reg, size, val);
}

static void r_start(struct tw *t)
{
	bars(t, 0, 1);
	rw(t, R_CR, 1, CR_RST);
	rw(t, R_RBSTART, 4, RX_RING);
	rw(t, R_CR, 1, CR_RE | CR_TE);
	rw(t, R_RCR, 4, RCR_APM | RCR_AB | RCR_WRAP);
	rw(t, R_IMR, 2, 0xffff);
	tw_say(t, "cr %x address %x", rr(t, R_CR, 1), rr(t, 0, 4));
}

static void r_send(struct tw *t)
{
	for (unsigned i = 0; i < 3; i++) {
		frame_make(guest_ptr(t->g, TX_BUF + 2048 * i, 200), 200, i);
		rw(t, R_TSAD0 + 4 * i, 4, TX_BUF + 2048 * i);
		rw(t, R_TSD + 4 * i, 4, 100 + i);
	}
	work(t);
	say_sent(t);
	tw_say(t, "isr %x line %d", rr(t, R_ISR, 2), t->g->intx_level);
}

/* The fourth slot is next, and the interrupt is still up. */
static void r_send_next(struct tw *t)
{
	frame_make(guest_ptr(t->g, TX_BUF, 200), 200, 9);
	rw(t, R_TSAD0 + 12, 4, TX_BUF);
	rw(t, R_TSD + 12, 4, 150);
	work(t);
	say_sent(t);
	tw_say(t, "tsad %x", rr(t, R_TSAD, 2));
	rw(t, R_ISR, 2, 0xffff);
	tw_say(t, "isr %x line %d", rr(t, R_ISR, 2), t->g->intx_level);
}

static void r_frames(struct tw *t)
{
	frame_comes(t, 300, 4);
	work(t);
	tw_say(t, "cbr %u isr %x", rr(t, R_CBR, 2), rr(t, R_ISR, 2));
	/* More than the ring holds: the rest waits. */
	for (unsigned i = 0; i < 9; i++)
		frame_comes(t, 1400, i);
	work(t);
	tw_say(t, "cbr %u", rr(t, R_CBR, 2));
}

/* Takes one frame after the other out of the ring. */
static void r_take(struct tw *t)
{
	for (unsigned i = 0; i < 4 && !(rr(t, R_CR, 1) & CR_BUFE); i++) {
		uint32_t at = (rr(t, R_CAPR, 2) + 16) & 8191;
		const uint8_t *h = guest_ptr(t->g, RX_RING + at, 2000);
		unsigned len = ld_le16(h + 2);

		tw_say(t, "at %u: %x %u bytes %08x", at, ld_le16(h), len,
		       crc32c(0, h + 4, len - 4));
		rw(t, R_CAPR, 2, ((at + 4 + len + 3) & ~3u) % 8192 - 16);
		rw(t, R_ISR, 2, 0xffff);
		work(t);
	}
}

static void r_eeprom_begin(struct tw *t)
{
	unsigned bits = 6 << 6 | 7, v = 0;

	rw(t, R_9346CR, 1, 0x80);
	rw(t, R_9346CR, 1, 0x88);
	for (int i = 8; i >= 0; i--) {
		unsigned di = bits >> i & 1 ? 2 : 0;

		rw(t, R_9346CR, 1, 0x88 | di);
		rw(t, R_9346CR, 1, 0x8c | di);
	}
	for (int i = 0; i < 5; i++) {
		rw(t, R_9346CR, 1, 0x88);
		rw(t, R_9346CR, 1, 0x8c);
		v = v << 1 | (rr(t, R_9346CR, 1) & 1);
	}
	tw_say(t, "eeprom %x", v);
}

static void r_eeprom_end(struct tw *t)
{
	unsigned v = 0;

	for (int i = 0; i < 11; i++) {
		rw(t, R_9346CR, 1, 0x88);
		rw(t, R_9346CR, 1, 0x8c);
		v = v << 1 | (rr(t, R_9346CR, 1) & 1);
	}
	rw(t, R_9346CR, 1, 0);
	tw_say(t, "eeprom %x", v);
}

/* The C+ mode's descriptors; a packet whose last part comes later. */
static void r_cplus(struct tw *t)
{
	uint8_t *d = guest_ptr(t->g, TX_RING, 64);

	rw(t, R_CPCR, 2, CPCR_TXEN | CPCR_RXEN);
	rw(t, R_TSAD0, 4, TX_RING);
	rw(t, R_TSAD0 + 4, 4, 0);
	frame_make(guest_ptr(t->g, TX_BUF, 400), 400, 6);
	st_le32(d, 1u << 31 | 1u << 29 | 160);
	st_le64(d + 8, TX_BUF);
	st_le32(d + 16, 1u << 30);
	rw(t, R_TPPOLL, 1, 0x40);
	work(t);
	say_sent(t);
	tw_say(t, "descriptor %x", ld_le32(d));
}

static void r_cplus_rest(struct tw *t)
{
	uint8_t *d = guest_ptr(t->g, TX_RING, 64);

	st_le64(d + 24, TX_BUF + 160);
	st_le32(d + 16, 1u << 31 | 1u << 30 | 1u << 28 | 240);
	rw(t, R_TPPOLL, 1, 0x40);
	work(t);
	say_sent(t);
	tw_say(t, "descriptors %x %x isr %x", ld_le32(d), ld_le32(d + 16), rr(t, R_ISR, 2));
}

static unsigned r_in_flight(struct tw *t)
{
	struct wire *w = t->ctx;
	struct pollfd p = { w->ends[0], POLLIN, 0 };

	return poll(&p, 1, 0) == 1;
}

static void (*const r_steps[])(struct tw *t) = {
	r_start, r_send,	 r_send_next,  r_frames, r_take,       r_take,
	r_take,	 r_eeprom_begin, r_eeprom_end, r_cplus,	 r_cplus_rest,
};

TEST(rtl8139_three_ways)
{
	struct wire *w = wire_new(false);

	threeway(&(struct tw_scenario){ make, r_steps, ARRAY_SIZE(r_steps), wire_empty, w, unmake,
					r_in_flight });
	wire_free(w);
}

TAP_MAIN
