/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * uart16550.c: a serial port (PC16550D data sheet, chapter 8). Main loop.
 *
 * The transmitter is as fast as the chardev: a byte leaves the moment it is written, so that THRE
 * is set again at once, unless the host takes no more; then up to 16 wait in the FIFO. The receiver
 * never overruns: it takes from the chardev what fits. OUT2 does not gate the interrupt, as on
 * other virtual PCs.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/chips.h"
#include "vmm/backends/chardev.h"

enum { REG_DATA, REG_IER, REG_IIR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR, REG_COUNT };
#define REG_FCR		REG_IIR		/* on writing */

#define IER_ERBFI	0x01		/* received data */
#define IER_ETBEI	0x02		/* transmitter empty */
#define IER_ELSI	0x04		/* line status */
#define IER_EDSSI	0x08		/* modem status */
#define IIR_NONE	0x01
#define IIR_MODEM	0x00
#define IIR_THRE	0x02
#define IIR_DATA	0x04
#define IIR_LINE	0x06
#define IIR_TIMEOUT	0x0c
#define IIR_FIFO	0xc0
#define FCR_ENABLE	0x01
#define FCR_RX_RESET	0x02
#define FCR_TX_RESET	0x04
#define FCR_MASK	0xc9
#define LCR_DLAB	0x80
#define MCR_DTR		0x01
#define MCR_RTS		0x02
#define MCR_OUT1	0x04
#define MCR_OUT2	0x08
#define MCR_LOOP	0x10
#define MCR_MASK	0x1f
#define LSR_DR		0x01
#define LSR_OE		0x02
#define LSR_BI		0x10
#define LSR_THRE	0x20
#define LSR_TEMT	0x40
#define LSR_FIFO_ERR	0x80
#define MSR_DELTAS	0x0f
#define MSR_CTS		0x10
#define MSR_DSR		0x20
#define MSR_RI		0x40
#define MSR_DCD		0x80

#define FIFO_SIZE	16
#define UART_CLOCK	1843200
#define UART_PORTS	8

struct uart {
	struct device dev;
	struct bus *pio;
	uint16_t base;
	struct irq irq;
	struct chardev *chr;
	/* characters below the trigger level have waited long enough */
	struct loop_timer timeout;
	struct vm_clock *clock;

	uint16_t divisor;
	uint8_t ier, fcr, lcr, mcr, scr;
	uint8_t msr_deltas, lines;	/* modem lines as last seen, with their changes */
	bool thre_pending;		/* the transmitter's interrupt has not been taken */
	bool timeout_pending;
	bool overrun, break_seen;	/* LSR bits that a read clears */
	bool burst;			/* the last access was a write to THR; not saved */
	uint8_t rx[FIFO_SIZE];
	uint16_t rx_break;		/* bit n: rx[n] (from the head) is a break */
	uint8_t rx_len;
	uint8_t tx[FIFO_SIZE];
	uint8_t tx_len;
};

static unsigned fifo_room(const struct uart *u)
{
	return ((u->fcr & FCR_ENABLE) ? FIFO_SIZE : 1) - u->rx_len;
}

static unsigned trigger_level(const struct uart *u)
{
	static const uint8_t level[4] = { 1, 4, 8, 14 };

	return (u->fcr & FCR_ENABLE) ? level[u->fcr >> 6] : 1;
}

/*
 * What the modem inputs are: looped back, or a cable that is plugged in for as long as there is a
 * chardev.
 */
static uint8_t modem_lines(const struct uart *u)
{
	if (u->mcr & MCR_LOOP)
		return (u->mcr & MCR_RTS ? MSR_CTS : 0) | (u->mcr & MCR_DTR ? MSR_DSR : 0) |
		       (u->mcr & MCR_OUT1 ? MSR_RI : 0) | (u->mcr & MCR_OUT2 ? MSR_DCD : 0);
	return u->chr ? MSR_CTS | MSR_DSR | MSR_DCD : 0;
}

static uint8_t line_status(const struct uart *u)
{
	uint8_t lsr = 0;

	if (u->rx_len)
		lsr |= LSR_DR;
	if (u->overrun)
		lsr |= LSR_OE;
	if (u->break_seen)
		lsr |= LSR_BI;
	if (!u->tx_len)
		lsr |= LSR_THRE | LSR_TEMT;
	if ((u->fcr & FCR_ENABLE) && (u->rx_break || u->break_seen))
		lsr |= LSR_FIFO_ERR;
	return lsr;
}

/* The pending interrupt of the highest priority, as IIR encodes it. */
static uint8_t interrupt_id(const struct uart *u)
{
	if ((u->ier & IER_ELSI) && (u->overrun || u->break_seen))
		return IIR_LINE;
	if ((u->ier & IER_ERBFI) && u->rx_len >= trigger_level(u))
		return IIR_DATA;
	if ((u->ier & IER_ERBFI) && u->timeout_pending && u->rx_len)
		return IIR_TIMEOUT;
	if ((u->ier & IER_ETBEI) && u->thre_pending)
		return IIR_THRE;
	if ((u->ier & IER_EDSSI) && u->msr_deltas)
		return IIR_MODEM;
	return IIR_NONE;
}

static void irq_update(struct uart *u)
{
	irq_set(&u->irq, interrupt_id(u) != IIR_NONE);
}

/* --- receiver --- */

/*
 * Four characters' time (8.4 of the data sheet), from the divisor and the frame's length in half
 * bits.
 */
static int64_t timeout_ns(const struct uart *u)
{
	unsigned bits2 = 2 * (1 + 5 + (u->lcr & 3) + (u->lcr & 8 ? 1 : 0)) +
			 (u->lcr & 4 ? ((u->lcr & 3) ? 4 : 3) : 2);
	int64_t divisor = u->divisor ? u->divisor : 1;

	return 4 * bits2 * divisor * 16 * NS_PER_SEC / UART_CLOCK / 2;
}

static void timeout_arm(struct uart *u)
{
	u->timeout_pending = false;
	if ((u->fcr & FCR_ENABLE) && u->rx_len && u->rx_len < trigger_level(u))
		loop_timer_set(&u->timeout, vm_clock_now(u->clock) + timeout_ns(u));
	else
		loop_timer_cancel(&u->timeout);
}

static void timeout_expired(void *ctx)
{
	struct uart *u = ctx;

	u->timeout_pending = true;
	irq_update(u);
}

/* The character at the head of the FIFO sets the error bits of LSR. */
static void rx_head_changed(struct uart *u)
{
	if (u->rx_len && (u->rx_break & 1)) {
		u->break_seen = true;
		u->rx_break &= ~1;
	}
}

static void rx_push(struct uart *u, uint8_t byte, bool is_break)
{
	if (!fifo_room(u)) {
		/* With FIFOs the newest is lost, without them the one in the buffer (8.6.5). */
		u->overrun = true;
		if (u->fcr & FCR_ENABLE)
			return;
		u->rx_len = 0;
		u->rx_break = 0;
	}
	u->rx[u->rx_len] = byte;
	if (is_break)
		u->rx_break |= 1u << u->rx_len;
	if (++u->rx_len == 1)
		rx_head_changed(u);
	timeout_arm(u);
}

static void rx_clear(struct uart *u)
{
	u->rx_len = 0;
	u->rx_break = 0;
	timeout_arm(u);
}

static uint8_t rx_pop(struct uart *u)
{
	uint8_t byte;

	if (!u->rx_len)
		return 0;
	byte = u->rx[0];
	u->rx_len--;
	memmove(u->rx, u->rx + 1, u->rx_len);
	u->rx_break >>= 1;
	rx_head_changed(u);
	timeout_arm(u);
	if (u->chr && !u->rx_len)
		chardev_accept(u->chr);
	return byte;
}

static size_t uart_can_read(void *ctx)
{
	struct uart *u = ctx;

	return u->mcr & MCR_LOOP ? 0 : fifo_room(u);
}

static void uart_receive(void *ctx, const uint8_t *buf, size_t len)
{
	struct uart *u = ctx;

	while (len--)
		rx_push(u, *buf++, false);
	irq_update(u);
}

static void uart_event(void *ctx, enum chardev_event e)
{
	struct uart *u = ctx;

	if (e != CHARDEV_BREAK || (u->mcr & MCR_LOOP))
		return;
	rx_push(u, 0, true);
	irq_update(u);
}

/* --- transmitter --- */

static void tx_drain(struct uart *u)
{
	size_t n = u->chr ? chardev_write(u->chr, u->tx, u->tx_len) : u->tx_len;

	u->tx_len -= n;
	memmove(u->tx, u->tx + n, u->tx_len);
	if (!u->tx_len)
		u->thre_pending = true;
}

static void uart_writable(void *ctx)
{
	struct uart *u = ctx;

	if (!u->tx_len)
		return;
	tx_drain(u);
	irq_update(u);
}

static void tx_write(struct uart *u, uint8_t byte)
{
	u->thre_pending = false;
	if (u->mcr & MCR_LOOP) {
		rx_push(u, byte, false);
		u->thre_pending = true;
		return;
	}
	if (!u->tx_len && (!u->chr || chardev_write(u->chr, &byte, 1))) {
		u->thre_pending = true;
		return;
	}
	/* Written without waiting for THRE: a full FIFO loses it, without FIFO the older one. */
	if (!(u->fcr & FCR_ENABLE))
		u->tx_len = 0;
	if (u->tx_len < FIFO_SIZE)
		u->tx[u->tx_len++] = byte;
}

/* --- registers --- */

static uint64_t uart_read(void *dev, uint64_t off, unsigned size)
{
	struct uart *u = dev;
	uint8_t val;

	u->burst = false;
	switch (off) {
	case REG_DATA:
		if (u->lcr & LCR_DLAB)
			return u->divisor & 0xff;
		val = rx_pop(u);
		break;
	case REG_IER:
		return u->lcr & LCR_DLAB ? u->divisor >> 8 : u->ier;
	case REG_IIR:
		val = interrupt_id(u);
		if (val == IIR_THRE)
			u->thre_pending = false;
		if (u->fcr & FCR_ENABLE)
			val |= IIR_FIFO;
		break;
	case REG_LCR:
		return u->lcr;
	case REG_MCR:
		return u->mcr;
	case REG_LSR:
		val = line_status(u);
		if (!u->overrun && !u->break_seen)
			return val;	/* the poll loop of every console: nothing changes */
		u->overrun = u->break_seen = false;
		break;
	case REG_MSR:
		val = modem_lines(u) | u->msr_deltas;
		u->msr_deltas = 0;
		break;
	default:
		return u->scr;
	}
	irq_update(u);
	return val;
}

static void fcr_write(struct uart *u, uint8_t val)
{
	bool toggled = (val ^ u->fcr) & FCR_ENABLE;

	/* The other bits count only together with the enable bit (8.4). */
	u->fcr = val & FCR_ENABLE ? val & FCR_MASK : 0;
	if (toggled || (val & FCR_RX_RESET)) {
		rx_clear(u);
		if (u->chr)
			chardev_accept(u->chr);
	}
	if ((toggled || (val & FCR_TX_RESET)) && u->tx_len) {
		u->tx_len = 0;
		u->thre_pending = true;
	}
	timeout_arm(u);
}

static void lines_update(struct uart *u)
{
	uint8_t lines = modem_lines(u), changed = lines ^ u->lines;

	/* Ring counts when it ends, the others when they change. */
	if ((changed & MSR_RI) && (lines & MSR_RI))
		changed &= ~MSR_RI;
	u->msr_deltas |= changed >> 4;
	u->lines = lines;
}

static void mcr_write(struct uart *u, uint8_t val)
{
	bool was_loop = u->mcr & MCR_LOOP;

	u->mcr = val & MCR_MASK;
	lines_update(u);
	if (was_loop && !(u->mcr & MCR_LOOP) && u->chr)
		chardev_accept(u->chr);
}

static void uart_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct uart *u = dev;
	uint8_t byte = (uint8_t)val, old;
	bool burst = u->burst;

	u->burst = off == REG_DATA;
	switch (off) {
	case REG_DATA:
		if (u->lcr & LCR_DLAB) {
			u->divisor = (u->divisor & 0xff00) | byte;
			return;
		}
		tx_write(u, byte);
		if (!(u->ier & IER_ETBEI) && !(u->mcr & MCR_LOOP))
			return;		/* no interrupt can have changed */
		/*
		 * The writing lowers the line and the empty transmitter raises it again: an edge
		 * for the PIC, which a driver that never reads IIR waits for. One is enough for
		 * bytes written back to back.
		 */
		if (!burst)
			irq_set(&u->irq, 0);
		break;
	case REG_IER:
		if (u->lcr & LCR_DLAB) {
			u->divisor = (u->divisor & 0xff) | (uint16_t)(byte << 8);
			return;
		}
		old = u->ier;
		u->ier = byte & (IER_ERBFI | IER_ETBEI | IER_ELSI | IER_EDSSI);
		/*
		 * Enabling it with an empty transmitter raises the interrupt; drivers start sending
		 * that way.
		 */
		if ((u->ier & IER_ETBEI) && !(old & IER_ETBEI) && !u->tx_len)
			u->thre_pending = true;
		break;
	case REG_FCR:
		fcr_write(u, byte);
		break;
	case REG_LCR:
		u->lcr = byte;
		return;
	case REG_MCR:
		mcr_write(u, byte);
		break;
	case REG_SCR:
		u->scr = byte;
		return;
	default:
		return;
	}
	irq_update(u);
}

static const char *uart_name(void *dev, uint64_t off, bool is_write)
{
	static const char *const in[] = { "RBR", "IER", "IIR", "LCR", "MCR", "LSR", "MSR", "SCR" };
	static const char *const out[] = { "THR", "IER", "FCR", "LCR", "MCR", "LSR", "MSR", "SCR" };
	const struct uart *u = dev;

	if (u->lcr & LCR_DLAB && off < 2)
		return off ? "DLM" : "DLL";
	return (is_write ? out : in)[off % REG_COUNT];
}

static void uart_write_rep(void *dev, uint64_t off, unsigned size, const void *data, size_t count)
{
	const uint8_t *byte = data;

	for (size_t i = 0; i < count; i++)
		uart_write(dev, off, 1, byte[i]);
}

static const struct region_ops uart_ops = {
	.name = "16550",
	.read = uart_read,
	.write = uart_write,
	.max_width = 1,
	.reg_name = uart_name,
	.write_rep = uart_write_rep,
};

static const struct chardev_user uart_user = {
	.can_read = uart_can_read,
	.read = uart_receive,
	.writable = uart_writable,
	.event = uart_event,
};

/* --- the device --- */

static void uart_reset(struct device *d)
{
	struct uart *u = container_of(d, struct uart, dev);

	u->divisor = 12;		/* 9600; the sheet leaves it undefined */
	u->ier = u->fcr = u->lcr = u->scr = 0;
	/* what firmware leaves: kernels without a driver for it expect the line connected */
	u->mcr = MCR_OUT2;
	u->thre_pending = u->overrun = u->break_seen = false;
	u->tx_len = 0;
	rx_clear(u);
	u->lines = modem_lines(u);
	u->msr_deltas = 0;
	if (u->chr)
		chardev_accept(u->chr);
	irq_update(u);
}

static const struct state_field uart_fields[] = {
	STATE_FIELD(struct uart, STATE_U16, divisor),
	STATE_FIELD(struct uart, STATE_U8, ier),
	STATE_FIELD(struct uart, STATE_U8, fcr),
	STATE_FIELD(struct uart, STATE_U8, lcr),
	STATE_FIELD(struct uart, STATE_U8, mcr),
	STATE_FIELD(struct uart, STATE_U8, scr),
	STATE_FIELD(struct uart, STATE_U8, msr_deltas),
	STATE_FIELD(struct uart, STATE_BOOL, thre_pending),
	STATE_FIELD(struct uart, STATE_BOOL, timeout_pending),
	STATE_FIELD(struct uart, STATE_BOOL, overrun),
	STATE_FIELD(struct uart, STATE_BOOL, break_seen),
	STATE_FIELD(struct uart, STATE_BYTES, rx),
	STATE_FIELD(struct uart, STATE_U16, rx_break),
	STATE_FIELD(struct uart, STATE_U8, rx_len),
	STATE_FIELD(struct uart, STATE_BYTES, tx),
	STATE_FIELD(struct uart, STATE_U8, tx_len),
};

static int uart_save(struct device *d, struct state_out *o)
{
	state_save_fields(o, container_of(d, struct uart, dev), uart_fields,
			  ARRAY_SIZE(uart_fields));
	return 0;
}

static int uart_load(struct device *d, struct state_in *in, uint32_t version)
{
	struct uart *u = container_of(d, struct uart, dev);
	int ret = state_load_fields(in, u, uart_fields, ARRAY_SIZE(uart_fields));
	bool timeout;

	if (!ret && (u->rx_len > ((u->fcr & FCR_ENABLE) ? FIFO_SIZE : 1) || u->tx_len > FIFO_SIZE))
		ret = state_bad(in, "%u received and %u unsent bytes in FIFOs of %d", u->rx_len,
				u->tx_len, FIFO_SIZE);
	if (!ret && ((u->ier & 0xf0) || (u->fcr & ~FCR_MASK) || (u->mcr & ~MCR_MASK) ||
		     (u->msr_deltas & ~MSR_DELTAS)))
		ret = state_bad(in, "reserved bits in IER 0x%x, FCR 0x%x, MCR 0x%x or MSR 0x%x",
				u->ier, u->fcr, u->mcr, u->msr_deltas);
	if (ret < 0) {
		uart_reset(d);
		return ret;
	}
	u->rx_break &= (1u << u->rx_len) - 1;
	u->lines = modem_lines(u);
	timeout = u->timeout_pending;
	timeout_arm(u);
	u->timeout_pending = timeout;
	if (u->tx_len)
		tx_drain(u);
	if (u->chr)
		chardev_accept(u->chr);
	irq_update(u);
	return 0;
}

static void uart_destroy(struct device *d)
{
	struct uart *u = container_of(d, struct uart, dev);

	bus_del(u->pio, u->base, &uart_ops, u);
	loop_timer_cancel(&u->timeout);
	if (u->chr)
		chardev_set_user(u->chr, NULL, NULL);
	irq_set(&u->irq, 0);
	free(u);
}

static const struct device_ops uart_device = {
	.name = "16550",
	.version = 1,
	.reset = uart_reset,
	.save = uart_save,
	.load = uart_load,
	.destroy = uart_destroy,
};

struct device *uart16550_new(const char *id, struct bus *pio, uint16_t base, struct irq irq,
			     struct chardev *chr, struct vm_clock *clock, struct loop *loop,
			     struct err *err)
{
	struct uart *u = xcalloc(1, sizeof(*u));
	int ret;

	u->pio = pio;
	u->base = base;
	u->irq = irq;
	u->chr = chr;
	u->clock = clock;
	loop_timer_init(&u->timeout, loop, clock, timeout_expired, u);
	device_init(&u->dev, &uart_device, id, loop);
	ret = bus_add(pio, base, UART_PORTS, &uart_ops, u, loop, id, 0);
	if (ret < 0) {
		err_set(err, -ret, "%s cannot have ports 0x%x-0x%x: %s", id, base,
			base + UART_PORTS - 1, strerror(-ret));
		free(u->dev.id);
		free(u);
		return NULL;
	}
	uart_reset(&u->dev);
	if (chr)
		chardev_set_user(chr, &uart_user, u);
	return &u->dev;
}
