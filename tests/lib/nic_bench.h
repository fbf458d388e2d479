/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nic_bench.h: a PCI bus with one network card, 16 MiB of memory and a wire whose far end is in the
 * test's hand.
 */
#ifndef TESTS_LIB_NIC_BENCH_H
#define TESTS_LIB_NIC_BENCH_H

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "devices/nic/nic.h"
#include "tests/tap.h"

#define RAM (16 * MiB)
#define BAR_MEM 0xe0000000u
#define BAR_IO 0xc000u

struct nic_bench {
	struct loop *loop;
	struct mem *mem;
	struct bus *pio, *mmio;
	struct irq_hub *irqs;
	struct pci_bus *pci;
	struct net *net;
	struct device *nic;
	int wire;			/* a frame a message */
	int line;			/* INTA# */
	unsigned raised;		/* how often it rose */
};

static inline void bench_line(void *ctx, unsigned gsi, int level) {}
static inline void bench_msi(void *ctx, uint64_t addr, uint32_t data) {}
static inline void bench_intx(void *ctx, unsigned slot, unsigned pin, int level)
{
	struct nic_bench *b = ctx;

	b->raised += level && !b->line;
	b->line = level;
}

typedef struct device *nic_new_fn(struct pci_bus *, unsigned, const char *, struct net *,
				  const uint8_t[6], struct loop *, struct err *);

static inline void bench_config(struct nic_bench *b, unsigned off, unsigned size, uint32_t val)
{
	loop_lock(b->loop);
	pci_bus_config_write(b->pci, PCI_DEVFN(3, 0), off, size, val);
	loop_unlock(b->loop);
}

/* The second machine's card goes on as the first one's is. */
static inline void bench_copy(struct nic_bench *from, struct nic_bench *to)
{
	struct state_out *o = state_out_new();
	struct err err = { "" };
	struct state_in *in;
	void *blob;
	size_t len;

	loop_lock(from->loop);
	CHECK_EQ(device_save(from->nic, o), 0);
	loop_unlock(from->loop);
	CHECK_EQ(state_out_finish(o, &blob, &len), 0);
	in = state_in_new(blob, len, &err);
	CHECK(in);
	loop_lock(to->loop);
	CHECK_EQ(device_load(to->nic, in), 0);
	CHECK_EQ(state_in_finish(in, &err), 0);
	to->nic->ops->resume(to->nic);
	loop_unlock(to->loop);
	free(blob);
}

/* A machine with the card at 00:03.0; io_bar and mem_bar are the numbers of its BARs. */
static inline struct nic_bench *bench_new_mac(nic_new_fn *make, int io_bar, int mem_bar,
					      const uint8_t mac[6])
{
	static const struct irq_backend irq_ops = { .line = bench_line, .msi = bench_msi };
	struct nic_bench *b = xcalloc(1, sizeof(*b));
	struct err err = { 0 };
	struct pci_wires w;
	struct block *ram;
	char spec[64];
	int pair[2];

	b->loop = loop_new("main");
	b->mem = mem_new(NULL, NULL);
	ram = block_new(b->mem, "ram", RAM, BLOCK_RAM, &err);
	CHECK(ram && block_map(ram, 0, 0, RAM, 0) == 0);
	b->pio = bus_new("pio", 0xffff);
	b->mmio = bus_new("mmio", UINT64_MAX);
	b->irqs = irq_hub_new(&irq_ops, b);
	w = (struct pci_wires){ b->pio, b->mmio, b->mem, b->irqs, NULL, b->loop };
	b->pci = pci_bus_new(&w);
	pci_bus_set_intx(b->pci, bench_intx, b);
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	snprintf(spec, sizeof(spec), "socket,fd=%d", pair[0]);
	b->wire = pair[1];
	b->net = net_open("net0", spec, b->loop, &host_direct, &err);
	CHECK(b->net);
	loop_lock(b->loop);
	b->nic = make(b->pci, PCI_DEVFN(3, 0), "nic0", b->net, mac, b->loop, &err);
	loop_unlock(b->loop);
	CHECK(b->nic);
	bench_config(b, PCI_BASE_ADDRESS_0 + 4 * io_bar, 4, BAR_IO);
	bench_config(b, PCI_BASE_ADDRESS_0 + 4 * mem_bar, 4, BAR_MEM);
	bench_config(b, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	return b;
}

static inline struct nic_bench *bench_new(nic_new_fn *make, int io_bar, int mem_bar)
{
	return bench_new_mac(make, io_bar, mem_bar, (const uint8_t[6]){ 0x52, 0x54, 0, 1, 2, 3 });
}

static inline void bench_free(struct nic_bench *b)
{
	loop_lock(b->loop);
	device_destroy(b->nic);
	net_close(b->net);
	loop_unlock(b->loop);
	close(b->wire);
	pci_bus_free(b->pci);
	irq_hub_free(b->irqs);
	bus_free(b->pio);
	bus_free(b->mmio);
	mem_free(b->mem);
	loop_free(b->loop);
	free(b);
}

/* Lets the card work: events and timers of the next milliseconds. */
static inline void bench_run(struct nic_bench *b, int ms)
{
	int64_t end = now_ns() + ms * NS_PER_MS;

	do
		loop_once(b->loop, 1);
	while (now_ns() < end);
}

static inline uint32_t rd32(struct nic_bench *b, uint32_t off)
{
	uint64_t v = 0;

	CHECK(bus_read(b->mmio, BAR_MEM + off, 4, &v));
	return v;
}

static inline void wr32(struct nic_bench *b, uint32_t off, uint32_t v)
{
	CHECK(bus_write(b->mmio, BAR_MEM + off, 4, v));
}

static inline void poke(struct nic_bench *b, uint64_t at, const void *p, size_t len)
{
	CHECK_EQ(mem_write(b->mem, at, p, len), 0);
}

static inline void peek(struct nic_bench *b, uint64_t at, void *p, size_t len)
{
	CHECK_EQ(mem_read(b->mem, at, p, len), 0);
}

/* The next frame on the wire, or -1 when there is none. */
static inline ssize_t wire_take(struct nic_bench *b, void *buf, size_t len)
{
	return recv(b->wire, buf, len, MSG_DONTWAIT);
}

static inline void wire_put(struct nic_bench *b, const void *buf, size_t len)
{
	CHECK_EQ(send(b->wire, buf, len, 0), len);
}

/* An Ethernet frame with a recognizable body. */
static inline void frame_make(uint8_t *f, size_t len, const uint8_t *dst, uint16_t type)
{
	for (size_t i = 0; i < len; i++)
		f[i] = i * 5 + 1;
	memcpy(f, dst, 6);
	memcpy(f + 6, "\x52\x54\x00\x0a\x0b\x0c", 6);
	st_be16(f + 12, type);
}

static inline uint16_t inet_sum(const uint8_t *p, size_t len, uint32_t sum)
{
	for (size_t i = 0; i < len; i++)
		sum += i & 1 ? p[i] : p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* A TCP/IPv4 frame of len bytes whose sums are right. */
static inline void frame_tcp(uint8_t *f, size_t len)
{
	uint8_t *ip = f + 14, *tcp = ip + 20;

	frame_make(f, len, (const uint8_t *)"\x52\x54\x00\x01\x02\x03", 0x800);
	memcpy(ip,
	       "\x45\x00\x00\x00\x12\x34\x40\x00\x40\x06\x00\x00\x0a\x00\x00\x01\x0a\x00\x00\x02",
	       20);
	st_be16(ip + 2, len - 14);
	st_be16(ip + 10, ~inet_sum(ip, 20, 0));
	memset(tcp, 0, 20);
	st_be32(tcp + 4, 1000);
	tcp[12] = 5 << 4;
	tcp[13] = 0x18;
	st_be16(tcp + 16, ~inet_sum(tcp, len - 34, inet_sum(ip + 12, 8, 6 + len - 34)));
}

/* Both sums of a TCP/IPv4 frame are right. */
static inline bool frame_tcp_ok(const uint8_t *f)
{
	const uint8_t *ip = f + 14;
	size_t len = ld_be16(ip + 2);

	return inet_sum(ip, 20, 0) == 0xffff &&
	       inet_sum(ip + 20, len - 20, inet_sum(ip + 12, 8, 6 + len - 20)) == 0xffff;
}

#endif
