/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The network device on a datagram socket pair: packets both ways, the control queue, the filter,
 * three ways.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_net.h>
#include <sys/socket.h>
#include <stdlib.h>
#include <unistd.h>

#include "net/net.h"
#include "tests/lib/vdriver.h"

#define DEVFN PCI_DEVFN(4, 0)
#define MMIO_BASE 0xd0000000ull
#define F(bit) (1ull << (bit))
#define RINGS (F(VIRTIO_RING_F_EVENT_IDX) | F(VIRTIO_RING_F_INDIRECT_DESC))
#define PACKED F(VIRTIO_F_RING_PACKED)
#define CTRL                                                                                       \
	(F(VIRTIO_NET_F_CTRL_VQ) | F(VIRTIO_NET_F_CTRL_RX) | F(VIRTIO_NET_F_CTRL_RX_EXTRA) |       \
	 F(VIRTIO_NET_F_CTRL_VLAN) | F(VIRTIO_NET_F_CTRL_MAC_ADDR) |                               \
	 F(VIRTIO_NET_F_GUEST_ANNOUNCE))
#define BASE (F(VIRTIO_NET_F_MAC) | F(VIRTIO_NET_F_STATUS))
#define MRG F(VIRTIO_NET_F_MRG_RXBUF)

static const uint8_t mac[6] = { 0x52, 0x54, 0x00, 1, 2, 3 };

struct bench {
	struct guest *g;
	struct net *net;
	int wire, host;			/* the cable: our end, the backend's */
	struct device *dev;
	struct virtio_dev *v;
	struct vdrv d;
	struct dring *rx, *tx, *ctrl;
	enum vtransport transport;
	uint64_t features;
	unsigned hdr_len, rx_buf;
	const uint8_t *own_mac;		/* another than mac, or NULL */
};

static void build(struct bench *b)
{
	struct virtio_net_opts o = { .net = b->net, .pairs = 1, .packed = true };
	struct err err = { "" };

	memcpy(o.mac, b->own_mac ? b->own_mac : mac, 6);
	b->v = virtio_net_new("net0", b->g->loop, b->g->mem, &o, &err);
	CHECK(b->v);
	b->dev = b->transport == V_MMIO
			 ? virtio_mmio_new(b->g->mmio, MMIO_BASE, irq_source(b->g->irqs, 6), NULL,
					   b->v, &err)
			 : virtio_pci_new(b->g->pci, DEVFN, b->v, &err);
	CHECK(b->dev);
}

static void rx_post(struct bench *b, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		uint64_t at = guest_alloc(b->g, b->rx_buf, 64);

		vring_add(b->rx, &(struct vbuf){ at, b->rx_buf }, 0, 1,
			  guest_ptr(b->g, at, b->rx_buf));
		guest_alloc(b->g, 64, 64);	/* pieces stay apart */
	}
	vring_kick(b->rx);
}

static void drive(struct bench *b)
{
	guest_alloc_reset(b->g);
	CHECK(vdrv_negotiate(&b->d, b->features | BASE));
	b->hdr_len = b->d.features >> VIRTIO_F_VERSION_1 & 1 || b->d.features & MRG ? 12 : 10;
	b->rx = vdrv_queue(&b->d, 0, 0);
	b->tx = vdrv_queue(&b->d, 1, 0);
	b->ctrl = b->features & F(VIRTIO_NET_F_CTRL_VQ) ? vdrv_queue(&b->d, 2, 0) : NULL;
	vdrv_start(&b->d);
}

static struct bench *bench_new(enum vtransport t, uint64_t features, unsigned rx_buf)
{
	struct bench *b = xcalloc(1, sizeof(*b));
	struct err err = { "" };
	int pair[2], room = 1 << 20;
	char spec[64];

	b->g = guest_new();
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
	setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	snprintf(spec, sizeof(spec), "socket,fd=%d", pair[0]);
	b->net = net_open("n0", spec, b->g->loop, &host_direct, &err);
	if (!b->net)
		tap_fail(__FILE__, __LINE__, "%s", err.msg);
	b->wire = pair[1];
	b->host = pair[0];
	b->transport = t;
	b->features = features;
	b->rx_buf = rx_buf;
	build(b);
	vdrv_find(&b->d, b->g, t, DEVFN, MMIO_BASE);
	drive(b);
	return b;
}

static void destroy(struct bench *b)
{
	loop_lock(b->g->loop);
	device_destroy(b->dev);
	loop_unlock(b->g->loop);
}

static void bench_free(struct bench *b)
{
	destroy(b);
	vdrv_free(&b->d);
	loop_lock(b->g->loop);
	net_close(b->net);
	loop_unlock(b->g->loop);
	close(b->wire);
	guest_free(b->g);
	free(b);
}

static void frame_make(uint8_t *f, size_t len, const uint8_t *to, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		f[i] = seed * 17 + i;
	memcpy(f, to, 6);
	memcpy(f + 6, (uint8_t[]){ 2, 0, 0, 0, 0, 9 }, 6);
	f[12] = 0x88;			/* an experimental Ethernet type */
	f[13] = 0xb5;
}

static void wire_send(struct bench *b, const void *f, size_t len)
{
	CHECK_EQ(send(b->wire, f, len, 0), (ssize_t)len);
}

/* The next frame the guest gets, put together from its buffers; 0 when none comes within ms. */
static size_t guest_recv(struct bench *b, uint8_t *f, int ms)
{
	int64_t end = now_ns() + ms * NS_PER_MS;
	unsigned buffers = 1;
	size_t len = 0;

	for (unsigned i = 0; i < buffers; i++) {
		uint8_t *p;
		uint32_t n;

		while (!(p = vring_get(b->rx, &n))) {
			if (!i && now_ns() > end)
				return 0;
			guest_run(b->g, 1);
		}
		if (!i) {
			CHECK(n >= b->hdr_len);
			if (b->hdr_len == 12)
				buffers = ld_le16(p + 10);
			CHECK(buffers >= 1 && buffers <= 200);
			p += b->hdr_len;
			n -= b->hdr_len;
		}
		memcpy(f + len, p, n);
		len += n;
	}
	return len;
}

static void guest_send(struct bench *b, const uint8_t *f, size_t len)
{
	uint64_t at = guest_alloc(b->g, b->hdr_len + len, 64);
	void *token = guest_ptr(b->g, at, 1);

	memset(guest_ptr(b->g, at, b->hdr_len), 0, b->hdr_len);
	memcpy(guest_ptr(b->g, at + b->hdr_len, len), f, len);
	vring_add(b->tx,
		  (struct vbuf[]){ { at, b->hdr_len },
				   { at + b->hdr_len, len / 2 },
				   { at + b->hdr_len + len / 2, len - len / 2 } },
		  3, 0, token);
	vring_kick(b->tx);
}

static ssize_t wire_recv(struct bench *b, uint8_t *f)
{
	ssize_t n = -1;

	for (int i = 0; i < 1000 && n < 0; i++) {
		n = recv(b->wire, f, 65536, 0);
		if (n < 0)
			guest_run(b->g, 1);
	}
	return n;
}

static void both_ways(enum vtransport t, uint64_t features, unsigned rx_buf)
{
	static const size_t sizes[] = { 60, 14, 1514, 101, 999, 1000, 64, 1200, 512, 1514 };
	struct bench *b = bench_new(t, features, rx_buf);
	uint8_t f[2048], got[65536];

	for (unsigned i = 0; i < 6; i++)
		CHECK_EQ(vdrv_config(&b->d, i, 1), mac[i]);
	CHECK_EQ(vdrv_config(&b->d, 6, 2), VIRTIO_NET_S_LINK_UP);
	for (unsigned round = 0; round < 40; round++) {
		if (b->rx->outstanding < 100)
			rx_post(b, 100);
		for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
			frame_make(f, sizes[i], mac, round + i);
			wire_send(b, f, sizes[i]);
		}
		for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
			size_t n = guest_recv(b, got, 5000);

			frame_make(f, sizes[i], mac, round + i);
			CHECK(n >= sizes[i] && (n == sizes[i] || n == 60));
			CHECK(!memcmp(got, f, sizes[i]));
		}
		for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
			frame_make(f, sizes[i], (uint8_t[6]){ 2, 1 }, round + i);
			guest_send(b, f, sizes[i]);
		}
		for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
			frame_make(f, sizes[i], (uint8_t[6]){ 2, 1 }, round + i);
			CHECK_EQ(wire_recv(b, got), sizes[i]);
			CHECK(!memcmp(got, f, sizes[i]));
		}
		while (vring_get(b->tx, NULL))
			;
		CHECK_EQ(b->tx->outstanding, 0);
	}
	bench_free(b);
}

TEST(legacy) { both_ways(V_LEGACY, 0, 1600); }
TEST(legacy_mergeable) { both_ways(V_LEGACY, MRG, 128); }
TEST(modern) { both_ways(V_MODERN, RINGS, 1600); }
TEST(modern_mergeable) { both_ways(V_MODERN, MRG | RINGS, 256); }
TEST(packed_mergeable) { both_ways(V_MODERN, MRG | RINGS | PACKED, 256); }
TEST(mmio_mergeable) { both_ways(V_MMIO, MRG, 300); }

/* Packets wait at the host while the guest has no buffers, and none is lost. */
TEST(no_buffers)
{
	struct bench *b = bench_new(V_MODERN, MRG | RINGS, 2048);
	uint8_t f[100], got[65536];

	for (unsigned i = 0; i < 5; i++) {
		frame_make(f, 100, mac, i);
		wire_send(b, f, 100);
	}
	for (int i = 0; i < 20; i++)
		guest_run(b->g, 1);
	for (unsigned i = 0; i < 5; i++) {
		rx_post(b, 1);
		CHECK_EQ(guest_recv(b, got, 5000), 100);
		frame_make(f, 100, mac, i);
		CHECK(!memcmp(f, got, 100));
	}
	bench_free(b);
}

/* A packet that does not fit is dropped; the buffer serves the next one. */
TEST(too_long_without_merging)
{
	struct bench *b = bench_new(V_MODERN, RINGS, 256);
	uint8_t f[1000], got[65536];

	rx_post(b, 2);
	frame_make(f, 1000, mac, 1);
	wire_send(b, f, 1000);
	frame_make(f, 100, mac, 2);
	wire_send(b, f, 100);
	CHECK_EQ(guest_recv(b, got, 5000), 100);
	CHECK(!memcmp(f, got, 100));
	bench_free(b);
}

/* The host's socket fills up: chains wait in the ring and go out when there is room. */
TEST(transmit_waits_for_room)
{
	struct bench *b = bench_new(V_MODERN, RINGS, 2048);
	uint8_t f[1514], got[65536];
	int room = 16384;
	unsigned n = 0;

	setsockopt(b->host, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	for (unsigned i = 0; i < 80; i++) {
		frame_make(f, 1514, (uint8_t[6]){ 2 }, i);
		guest_send(b, f, 1514);
	}
	for (int i = 0; i < 20; i++)
		guest_run(b->g, 1);
	while (vring_get(b->tx, NULL))
		n++;
	printf("# %u of 80 went at once\n", n);
	CHECK(n < 80);
	for (unsigned i = 0; i < 80; i++) {
		CHECK_EQ(wire_recv(b, got), 1514);
		frame_make(f, 1514, (uint8_t[6]){ 2 }, i);
		CHECK(!memcmp(f, got, 1514));
	}
	for (int i = 0; i < 100 && b->tx->outstanding; i++) {
		guest_run(b->g, 1);
		while (vring_get(b->tx, NULL))
			;
	}
	CHECK_EQ(b->tx->outstanding, 0);
	bench_free(b);
}

/* --- control queue --- */

static uint8_t command(struct bench *b, uint8_t class, uint8_t cmd, const void *data, size_t len)
{
	uint64_t at = guest_alloc(b->g, 4096, 64);

	memcpy(guest_ptr(b->g, at, 2), (uint8_t[]){ class, cmd }, 2);
	memcpy(guest_ptr(b->g, at + 64, len), data, len);
	*(uint8_t *)guest_ptr(b->g, at + 4000, 1) = 0xee;
	if (len)
		vring_add(b->ctrl, (struct vbuf[]){ { at, 2 }, { at + 64, len }, { at + 4000, 1 } },
			  2, 1, b);
	else
		vring_add(b->ctrl, (struct vbuf[]){ { at, 2 }, { at + 4000, 1 } }, 1, 1, b);
	vring_kick(b->ctrl);
	CHECK(vring_wait(b->ctrl, NULL) == b);
	return *(uint8_t *)guest_ptr(b->g, at + 4000, 1);
}

static bool passes(struct bench *b, const uint8_t *to, int vlan)
{
	uint8_t f[80], got[65536];
	static unsigned seed;
	size_t n;

	frame_make(f, 80, to, ++seed);
	if (vlan >= 0) {
		st_be16(f + 12, 0x8100);
		st_be16(f + 14, vlan);
	}
	wire_send(b, f, 80);
	n = guest_recv(b, got, 30);
	CHECK(!n || !memcmp(f, got, 80));
	return n;
}

TEST(filter)
{
	static const uint8_t other[6] = { 2, 2, 2, 2, 2, 2 }, third[6] = { 2, 3, 3, 3, 3, 3 },
			     multi[6] = { 1, 0, 0x5e, 0, 0, 1 },
			     multi2[6] = { 1, 0, 0x5e, 0, 0, 2 },
			     broadcast[6] = { 255, 255, 255, 255, 255, 255 };
	struct bench *b = bench_new(V_MODERN, MRG | CTRL, 2048);
	uint8_t table[20] = { 1, 0, 0, 0, 2, 3, 3, 3, 3, 3, 1, 0, 0, 0, 1, 0, 0x5e, 0, 0, 2 };
	uint8_t off = 0, on = 1;

	rx_post(b, 100);
	/* Everything, until the driver says otherwise. */
	CHECK(passes(b, mac, -1) && passes(b, other, -1) && passes(b, multi, -1) &&
	      passes(b, mac, 5));
	CHECK_EQ(command(b, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &off, 1),
		 VIRTIO_NET_OK);
	CHECK(passes(b, mac, -1) && passes(b, broadcast, -1));
	CHECK(!passes(b, other, -1) && !passes(b, multi, -1) && !passes(b, mac, 5));
	CHECK_EQ(command(b, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, &on, 1),
		 VIRTIO_NET_OK);
	CHECK(passes(b, multi, -1));
	CHECK_EQ(command(b, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, &off, 1),
		 VIRTIO_NET_OK);
	CHECK_EQ(command(b, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, table, 20),
		 VIRTIO_NET_OK);
	CHECK(passes(b, third, -1) && passes(b, multi2, -1) && !passes(b, multi, -1) &&
	      !passes(b, other, -1));
	CHECK_EQ(command(b, VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, "\x05\x00", 2),
		 VIRTIO_NET_OK);
	CHECK(passes(b, mac, 5) && !passes(b, mac, 6));
	CHECK_EQ(command(b, VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_DEL, "\x05\x00", 2),
		 VIRTIO_NET_OK);
	CHECK(!passes(b, mac, 5));
	CHECK_EQ(command(b, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, other, 6),
		 VIRTIO_NET_OK);
	CHECK(passes(b, other, -1) && !passes(b, mac, -1));
	CHECK_EQ(vdrv_config(&b->d, 0, 1), 2);
	CHECK_EQ(command(b, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_NOBCAST, &on, 1), VIRTIO_NET_OK);
	CHECK(!passes(b, broadcast, -1));
	/* After a reset it is as it was. */
	drive(b);
	rx_post(b, 100);
	CHECK(passes(b, mac, -1) && passes(b, multi, -1) && passes(b, broadcast, -1));
	CHECK_EQ(vdrv_config(&b->d, 0, 1), 0x52);
	bench_free(b);
}

TEST(bad_commands)
{
	struct bench *b = bench_new(V_MODERN, MRG | CTRL, 2048);
	uint8_t table[16] = { 2, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0 };

	CHECK_EQ(command(b, 99, 0, "", 1), VIRTIO_NET_ERR);
	CHECK_EQ(command(b, VIRTIO_NET_CTRL_RX, 77, "", 1), VIRTIO_NET_ERR);
	CHECK_EQ(command(b, VIRTIO_NET_CTRL_RX, 0, "", 0), VIRTIO_NET_ERR);
	CHECK_EQ(command(b, VIRTIO_NET_CTRL_MAC, 0, table, 14), VIRTIO_NET_ERR);
	memset(table, 0xff, 4);
	CHECK_EQ(command(b, VIRTIO_NET_CTRL_MAC, 0, table, 14), VIRTIO_NET_ERR);
	CHECK_EQ(command(b, VIRTIO_NET_CTRL_MAC, 1, table, 5), VIRTIO_NET_ERR);
	CHECK_EQ(command(b, VIRTIO_NET_CTRL_VLAN, 0, "\x00\x10", 2), VIRTIO_NET_ERR);
	CHECK_EQ(command(b, VIRTIO_NET_CTRL_MQ, 0, "\x01\x00", 2), VIRTIO_NET_ERR);
	CHECK_EQ(command(b, VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, "\1\0\0\0\0\0\0\0", 8),
		 VIRTIO_NET_ERR);
	/* No command at all, and nowhere to answer. */
	vring_add(
		b->ctrl,
		(struct vbuf[]){ { guest_alloc(b->g, 1, 64), 1 }, { guest_alloc(b->g, 1, 64), 1 } },
		1, 1, b);
	vring_kick(b->ctrl);
	CHECK(vring_wait(b->ctrl, NULL) == b);
	vring_add(b->ctrl, (struct vbuf[]){ { guest_alloc(b->g, 8, 64), 8 } }, 1, 0, b);
	vring_kick(b->ctrl);
	CHECK(vring_wait(b->ctrl, NULL) == b);
	bench_free(b);
}

TEST(hostile_packets)
{
	struct bench *b = bench_new(V_MODERN, MRG | RINGS, 2048);
	uint64_t at = guest_alloc(b->g, 70000, 64);
	uint8_t got[65536];

	vring_add(b->tx, (struct vbuf[]){ { at, 3 } }, 1, 0, b);
	vring_add(b->tx, (struct vbuf[]){ { at, 12 } }, 1, 0, b);
	vring_add(b->tx, (struct vbuf[]){ { at, 13 } }, 1, 0, b);
	vring_add(b->tx, (struct vbuf[]){ { at, 69999 } }, 1, 0, b);
	vring_add(b->tx, (struct vbuf[]){ { at, 100 } }, 0, 1, b);
	vring_kick(b->tx);
	for (int i = 0; i < 5; i++)
		CHECK(vring_wait(b->tx, NULL) == b);
	/* Segmentation asked for without the feature, with nonsense in every field. */
	memset(guest_ptr(b->g, at, 1600), 0xff, 1600);
	vring_add(b->tx, (struct vbuf[]){ { at, 1600 } }, 1, 0, b);
	vring_kick(b->tx);
	CHECK(vring_wait(b->tx, NULL) == b);
	/* A receive buffer that cannot even take the header breaks its queue. */
	vring_add(b->rx, (struct vbuf[]){ { at, 11 } }, 0, 1, b);
	vring_kick(b->rx);
	wire_send(b, guest_ptr(b->g, at, 60), 60);
	for (int i = 0; i < 10; i++)
		guest_run(b->g, 1);
	CHECK(vdrv_status(&b->d) & VIRTIO_CONFIG_S_NEEDS_RESET);
	drive(b);
	rx_post(b, 10);
	CHECK_EQ(guest_recv(b, got, 5000), 60);
	CHECK(passes(b, mac, -1));
	bench_free(b);
}

TEST(link)
{
	struct bench *b = bench_new(V_MODERN, MRG, 2048);

	vdrv_msix(&b->d, 3);
	loop_lock(b->g->loop);
	virtio_net_set_link(b->v, false);
	loop_unlock(b->g->loop);
	CHECK_EQ(vdrv_config(&b->d, 6, 2), 0);
	CHECK_EQ(b->g->msi[3], 1);
	loop_lock(b->g->loop);
	virtio_net_set_link(b->v, true);
	loop_unlock(b->g->loop);
	CHECK_EQ(vdrv_config(&b->d, 6, 2), VIRTIO_NET_S_LINK_UP);
	CHECK_EQ(b->g->msi[3], 2);
	bench_free(b);
}

/* --- three ways --- */

enum way { STRAIGHT, SAVED, RESET };

static void replace(struct bench *b)
{
	struct err why;
	void *blob;
	size_t len;

	guest_quiesce(b->g, b->dev);
	/* Chains fetched ahead are back in the ring. */
	for (unsigned q = 0; q < b->v->nqueues; q++)
		CHECK_EQ(b->v->queues[q].inflight, 0);
	guest_save(b->dev, &blob, &len);
	destroy(b);
	build(b);
	if (guest_load(b->dev, blob, len, &why))
		tap_fail(__FILE__, __LINE__, "load: %s", why.msg);
	free(blob);
	loop_lock(b->g->loop);
	b->dev->ops->resume(b->dev);
	loop_unlock(b->g->loop);
}

static uint32_t scenario(enum vtransport t, uint64_t features, enum way way)
{
	struct bench *b = bench_new(t, features, 700);
	uint8_t f[2048], got[65536], off = 0;
	unsigned ahead = 0;
	uint32_t trace = 0;

	for (unsigned round = 0; round < 30; round++) {
		if (b->rx->outstanding < 60)
			rx_post(b, 60);
		if (b->ctrl)
			CHECK_EQ(
				command(b, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &off, 1),
				VIRTIO_NET_OK);
		/*
		 * One packet the device has fetched buffers for, one on the wire, two in the
		 * transmit ring.
		 */
		frame_make(f, 1000, mac, round);
		wire_send(b, f, 1000);
		CHECK_EQ(guest_recv(b, got, 5000), 1000);
		trace = crc32c(trace, got, 1000);
		ahead += b->v->queues[0].inflight;
		if (way == SAVED)
			replace(b);
		if (way == RESET) {
			drive(b);
			rx_post(b, 60);
			if (b->ctrl)
				CHECK_EQ(command(b, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC,
						 &off, 1),
					 VIRTIO_NET_OK);
		}
		frame_make(f, 90, (uint8_t[6]){ 2, 7 }, round);	/* not for us */
		wire_send(b, f, 90);
		frame_make(f, 1300, mac, round + 100);
		wire_send(b, f, 1300);
		frame_make(f, 800, (uint8_t[6]){ 2 }, round);
		guest_send(b, f, 800);
		guest_send(b, f, 801);
		CHECK(b->tx->outstanding > 0);
		if (way == SAVED)
			replace(b);
		CHECK_EQ(wire_recv(b, got), 800);
		CHECK_EQ(wire_recv(b, got), 801);
		trace = crc32c(trace, got, 801);
		if (!b->ctrl)
			CHECK_EQ(guest_recv(b, got, 5000), 90);
		CHECK_EQ(guest_recv(b, got, 5000), 1300);
		trace = crc32c(trace, got, 1300);
		while (b->tx->outstanding)
			CHECK(vring_wait(b->tx, NULL));
	}
	printf("# %u chains fetched ahead\n", ahead);
	CHECK(ahead > 0);
	bench_free(b);
	return trace;
}

static void three_ways(enum vtransport t, uint64_t features)
{
	uint32_t straight = scenario(t, features, STRAIGHT);

	CHECK_EQ(scenario(t, features, SAVED), straight);
	CHECK_EQ(scenario(t, features, RESET), straight);
}

TEST(three_ways_legacy) { three_ways(V_LEGACY, MRG); }
TEST(three_ways_modern) { three_ways(V_MODERN, MRG | RINGS | CTRL); }
TEST(three_ways_packed) { three_ways(V_MODERN, MRG | RINGS | PACKED | CTRL); }
TEST(three_ways_mmio) { three_ways(V_MMIO, MRG | RINGS | CTRL); }

/* After a load the guest is asked to announce itself, until it says that it did. */
TEST(announce_after_load)
{
	struct bench *b = bench_new(V_MODERN, MRG | CTRL, 2048);

	vdrv_msix(&b->d, 3);
	replace(b);
	CHECK_EQ(vdrv_config(&b->d, 6, 2), VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
	CHECK_EQ(b->g->msi[3], 1);
	CHECK_EQ(command(b, VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, "", 0),
		 VIRTIO_NET_OK);
	CHECK_EQ(vdrv_config(&b->d, 6, 2), VIRTIO_NET_S_LINK_UP);
	bench_free(b);
}

/*
 * A copy has an address of its own, for the guest to find when it resets the card; until then the
 * one it knows works.
 */
TEST(copy_has_its_own_address)
{
	struct bench *b = bench_new(V_MODERN, MRG | CTRL, 2048);
	uint8_t off = 0;

	rx_post(b, 20);
	CHECK_EQ(command(b, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &off, 1),
		 VIRTIO_NET_OK);
	b->own_mac = (const uint8_t[6]){ 0x52, 0x54, 0, 7, 8, 9 };
	replace(b);
	CHECK_EQ(vdrv_config(&b->d, 3, 1), 1);
	CHECK(passes(b, mac, -1) && !passes(b, b->own_mac, -1));
	drive(b);
	rx_post(b, 20);
	CHECK_EQ(vdrv_config(&b->d, 3, 1), 7);
	CHECK_EQ(command(b, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &off, 1),
		 VIRTIO_NET_OK);
	CHECK(passes(b, b->own_mac, -1) && !passes(b, mac, -1));
	bench_free(b);
}

TAP_MAIN
