/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What one turn of a loop does for a hostile producer: chains, descriptors, pages and bytes are
 * counted after each pass of the loop and compared with vmm/base/limits.h; in the end everything
 * has had its turn.
 */
#include <fcntl.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_net.h>
#include <sys/stat.h>

#include "tests/lib/testdisk.h"
#include "tests/lib/vdriver.h"
#include "vmm/backends/chardev.h"
#include "vmm/base/limits.h"

#define DEVFN PCI_DEVFN(3, 0)
#define F(bit) (1ull << (bit))
#define INDIRECT F(VIRTIO_RING_F_INDIRECT_DESC)
#define PIECE 0x900000ull		/* behind everything the tests allocate */

struct rig {
	struct guest *g;
	struct virtio_dev *v;
	struct device *dev;
	struct vdrv d;
	struct dring *r;
};

static void rig_start(struct rig *x, uint64_t features, unsigned q)
{
	struct err err = { "" };

	CHECK(x->v);
	x->dev = virtio_pci_new(x->g->pci, DEVFN, x->v, &err);
	CHECK(x->dev);
	vdrv_find(&x->d, x->g, V_MODERN, DEVFN, 0);
	CHECK(vdrv_negotiate(&x->d, features));
	x->r = vdrv_queue(&x->d, q, 0);
	vdrv_start(&x->d);
	for (int i = 0; i < 4; i++)
		guest_run(x->g, 0);
}

static uint16_t used(struct rig *x)
{
	return ld_le16(guest_ptr(x->g, x->r->used + 2, 2));
}

/* Every head of the ring is a chain over the same table: `out` pieces to read, `in` to write. */
static void ring_fill(struct rig *x, unsigned out, unsigned in, uint32_t len, unsigned step)
{
	uint64_t table = guest_alloc(x->g, 16ull * (out + in), 16);

	for (unsigned i = 0; i < out + in; i++)
		*(struct vring_desc *)guest_ptr(x->g, table + 16 * i, 16) = (struct vring_desc){
			PIECE + (uint64_t)step * i, len,
			(i < out ? 0 : VRING_DESC_F_WRITE) |
				(i + 1 < out + in ? VRING_DESC_F_NEXT : 0),
			i + 1 };
	for (unsigned i = 0; i < x->r->size; i++) {
		*(struct vring_desc *)guest_ptr(x->g, x->r->desc + 16 * i, 16) =
			(struct vring_desc){ table, 16 * (out + in), VRING_DESC_F_INDIRECT, 0 };
		st_le16(guest_ptr(x->g, x->r->avail + 4 + 2 * i, 2), i);
	}
	st_le16(guest_ptr(x->g, x->r->avail + 2, 2), x->r->size);
	vdrv_notify(&x->d, x->r->index);
}

/* Passes of the loop until all chains are back; none does more than its share. */
static void count_turns(struct rig *x, unsigned most, unsigned per_chain)
{
	unsigned passes = 0, busy = 0;

	while (used(x) < x->r->size) {
		unsigned before = used(x), done;

		CHECK(passes++ < 20000);
		guest_run(x->g, 0);
		done = used(x) - before;
		busy += done != 0;
		CHECK(done <= most);
		CHECK(done * per_chain < TURN_DESCRIPTORS + per_chain);
	}
	CHECK(busy >= x->r->size / most);
	CHECK(busy >= (uint64_t)x->r->size * per_chain / (TURN_DESCRIPTORS + per_chain));
}

static void blk(unsigned pieces)
{
	struct rig x = { .g = guest_new() };
	struct testdisk *disk = testdisk_new(MiB, false);
	struct virtio_blk_config_opts o = { .blk = disk->blk, .nqueues = 1, .queue_size = 1024 };
	struct err err = { "" };

	x.v = virtio_blk_new("d", x.g->loop, x.g->mem, &o, &err);
	rig_start(&x, INDIRECT, 0);
	/* An unknown type: over at once, and its head is free for the next. */
	memset(guest_ptr(x.g, PIECE, 64), 0x77, 64);
	ring_fill(&x, pieces - 1, 1, pieces > 2 ? 1 : 16, 2);
	count_turns(&x, TURN_REQUESTS, pieces);
}

TEST(blk_requests) { blk(2); }
TEST(blk_descriptors) { blk(1000); }

static void net(unsigned q, unsigned pieces, unsigned most)
{
	struct rig x = { .g = guest_new() };
	struct virtio_net_opts o = { .pairs = 1, .queue_size = 1024 };

	x.v = virtio_net_new("n", x.g->loop, x.g->mem, &o, NULL);
	rig_start(&x, INDIRECT | F(VIRTIO_NET_F_CTRL_VQ), q);
	ring_fill(&x, pieces - 1, 1, 16, 16);
	count_turns(&x, most, pieces);
}

TEST(net_transmit) { net(1, 3, TURN_REQUESTS); }
TEST(net_transmit_descriptors) { net(1, 900, TURN_REQUESTS); }
TEST(net_control) { net(2, 3, TURN_COMMANDS); }

TEST(small_devices)
{
	static const struct { unsigned kind, q, most; } t[] = {
		{ 0, 0, TURN_COMMANDS }, { 1, 1, TURN_REQUESTS }, { 2, 1, TURN_COMMANDS },
		{ 3, 1, TURN_REQUESTS },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		struct rig x = { .g = guest_new() };
		struct loop *l = x.g->loop;

		x.v = t[i].kind == 0   ? virtio_rng_new("v", l, x.g->mem, NULL)
		      : t[i].kind == 1 ? virtio_console_new("v", l, x.g->mem, NULL, NULL)
		      : t[i].kind == 2 ? virtio_balloon_new("v", l, x.g->mem, NULL)
				       : virtio_input_new("v", l, x.g->mem, true, NULL);
		rig_start(&x, INDIRECT, t[i].q);
		ring_fill(&x, 0, 1000, 1, 2);
		count_turns(&x, t[i].most, 1000);
	}
}

/* --- one request that is endless by itself --- */

/* Pages of the second eight MiB that read as zeroes. */
static unsigned zeroed(struct rig *x)
{
	unsigned n = 0;

	for (uint64_t at = 8 * MiB; at < 16 * MiB; at += 4096)
		n += !*(uint64_t *)guest_ptr(x->g, at, 8);
	return n;
}

static void balloon_new(struct rig *x, unsigned q, uint64_t features)
{
	x->g = guest_new();
	x->v = virtio_balloon_new("b", x->g->loop, x->g->mem, NULL);
	rig_start(x, INDIRECT | features, q);
	memset(guest_ptr(x->g, 8 * MiB, 8 * MiB), 0x5a, 8 * MiB);
}

static void one_chain(struct rig *x, uint64_t table, unsigned n)
{
	*(struct vring_desc *)guest_ptr(x->g, x->r->desc, 16) =
		(struct vring_desc){ table, 16 * n, VRING_DESC_F_INDIRECT, 0 };
	st_le16(guest_ptr(x->g, x->r->avail + 4, 2), 0);
	st_le16(guest_ptr(x->g, x->r->avail + 2, 2), 1);
	vdrv_notify(&x->d, x->r->index);
}

TEST(balloon_pages)
{
	struct rig x = { 0 };
	unsigned last = 0, passes = 0;
	uint64_t list, table;

	/* 2048 pages, each a call of its own: every other one up, then the rest down. */
	balloon_new(&x, 0, 0);
	list = guest_alloc(x.g, 4 * 2048, 16);
	table = guest_alloc(x.g, 16, 16);
	for (unsigned i = 0; i < 1024; i++) {
		st_le32(guest_ptr(x.g, list + 4 * i, 4), 2048 + 2 * i);
		st_le32(guest_ptr(x.g, list + 4 * (2047 - i), 4), 2049 + 2 * i);
	}
	*(struct vring_desc *)guest_ptr(x.g, table, 16) = (struct vring_desc){
		list, 4 * 2048, 0, 0 };
	one_chain(&x, table, 1);
	while (!used(&x)) {
		CHECK(passes++ < 1000);
		guest_run(x.g, 0);
		/* where the two directions meet, two pages are one call */
		CHECK(zeroed(&x) <= last + TURN_CALLS + 4);
		last = zeroed(&x);
	}
	CHECK_EQ(last, 2048);
	CHECK(passes >= 2);
}

TEST(balloon_endless_chain)
{
	struct rig x = { 0 };
	uint64_t table;

	/* Eight GiB of page numbers in one chain: 1000 times the same eight MiB. */
	balloon_new(&x, 0, 0);
	table = guest_alloc(x.g, 16 * 1000, 16);
	for (unsigned i = 0; i < 1000; i++)
		*(struct vring_desc *)guest_ptr(x.g, table + 16 * i, 16) = (struct vring_desc){
			8 * MiB, 8 * MiB, i < 999 ? VRING_DESC_F_NEXT : 0, i + 1 };
	for (unsigned i = 0; i < 2 * MiB; i++)
		st_le32(guest_ptr(x.g, 8 * MiB + 4 * i, 4), i % 2 ? 4095 : 100);
	one_chain(&x, table, 1000);
	for (int i = 0; i < 3; i++)
		guest_run(x.g, 0);
	CHECK_EQ(used(&x), 0);
	/* It is still there for everybody: a reset ends it. */
	vdrv_set_status(&x.d, 0);
	CHECK_EQ(vdrv_status(&x.d), 0);
}

TEST(balloon_reports)
{
	struct rig x = { 0 };
	uint64_t table;

	/* 512 times the same eight MiB are reported free, in one chain. */
	balloon_new(&x, 2, F(VIRTIO_BALLOON_F_REPORTING));
	table = guest_alloc(x.g, 16 * 512, 16);
	for (unsigned i = 0; i < 512; i++)
		*(struct vring_desc *)guest_ptr(x.g, table + 16 * i, 16) = (struct vring_desc){
			8 * MiB, 8 * MiB, VRING_DESC_F_WRITE | (i < 511 ? VRING_DESC_F_NEXT : 0),
			i + 1 };
	one_chain(&x, table, 512);
	for (unsigned passes = 0; !used(&x); passes++) {
		/* 2048 pages a piece */
		CHECK(passes <= 512 * 2048 / TURN_PAGES + 4);
		guest_run(x.g, 0);
		if (passes + 2 < 512 * 2048 / TURN_PAGES)
			CHECK_EQ(used(&x), 0);
	}
	CHECK_EQ(zeroed(&x), 2048);
}

TEST(console_bytes)
{
	struct rig x = { .g = guest_new() };
	char path[64], spec[80];
	struct err err = { "" };
	struct chardev *chr;
	off_t last = 0;
	struct stat st;
	uint64_t table;

	snprintf(path, sizeof(path), "/tmp/minivmm-turns.%d", getpid());
	snprintf(spec, sizeof(spec), "file:%s", path);
	chr = chardev_open("c", spec, x.g->loop, &host_direct, &err);
	CHECK(chr);
	x.v = virtio_console_new("c", x.g->loop, x.g->mem, chr, NULL);
	rig_start(&x, INDIRECT, 1);
	table = guest_alloc(x.g, 16 * 64, 16);
	for (unsigned i = 0; i < 64; i++)
		*(struct vring_desc *)guest_ptr(x.g, table + 16 * i, 16) = (struct vring_desc){
			8 * MiB, MiB, i < 63 ? VRING_DESC_F_NEXT : 0, i + 1 };
	one_chain(&x, table, 64);
	for (int passes = 0; !used(&x); passes++) {
		CHECK(passes < 2000);
		guest_run(x.g, 0);
		CHECK(stat(path, &st) == 0);
		CHECK(st.st_size - last <= (off_t)(TURN_BYTES + TURN_BYTES / 16 + 65536));
		last = st.st_size;
	}
	loop_lock(x.g->loop);
	device_destroy(x.dev);
	chardev_free(chr);
	loop_unlock(x.g->loop);
	CHECK(stat(path, &st) == 0 && unlink(path) == 0);
	CHECK_EQ(st.st_size, 64 * MiB);
}
TAP_MAIN
