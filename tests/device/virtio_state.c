/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Saved virtio devices of strangers, property by property: what a disabled queue carries means
 * nothing, features outside the offer are nobody's, positions lie inside their rings.
 */
#include <libfdt.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_net.h>

#include "tests/lib/testdisk.h"
#include "tests/lib/vdriver.h"

#define DEVFN PCI_DEVFN(3, 0)
#define F(bit) (1ull << (bit))

struct rig {
	struct guest *g;
	struct virtio_dev *v;
	struct device *dev;
	struct vdrv d;
	struct testdisk *disk;
	bool packed;
	void *blob;			/* the saved tree, with room to change it */
};

static void build(struct rig *r)
{
	struct virtio_blk_config_opts o = { .blk = r->disk->blk, .nqueues = 1, .queue_size = 16,
					    .packed = r->packed };
	struct err err = { "" };

	r->v = virtio_blk_new("d", r->g->loop, r->g->mem, &o, &err);
	CHECK(r->v);
	r->dev = virtio_pci_new(r->g->pci, DEVFN, r->v, &err);
	CHECK(r->dev);
}

static void start(struct rig *r, bool packed)
{
	*r = (struct rig){ .g = guest_new(), .disk = testdisk_new(MiB, false), .packed = packed };
	build(r);
	vdrv_find(&r->d, r->g, V_MODERN, DEVFN, 0);
}

static void save(struct rig *r)
{
	void *blob;
	size_t len;

	guest_quiesce(r->g, r->dev);
	guest_save(r->dev, &blob, &len);
	r->blob = xcalloc(1, len + 4096);
	CHECK_EQ(fdt_open_into(blob, r->blob, len + 4096), 0);
	free(blob);
}

static int node(struct rig *r, const char *name)
{
	for (int n = 0; n >= 0; n = fdt_next_node(r->blob, n, NULL))
		if (!strcmp(fdt_get_name(r->blob, n, NULL), name))
			return n;
	tap_fail(__FILE__, __LINE__, "no node %s", name);
}

static void set(struct rig *r, const char *where, const char *prop, uint64_t v)
{
	uint8_t be[8];
	int len;

	CHECK(fdt_getprop(r->blob, node(r, where), prop, &len));
	CHECK(len <= 8);
	st_be64(be, v);
	CHECK_EQ(fdt_setprop_inplace(r->blob, node(r, where), prop, be + 8 - len, len), 0);
}

static void set_list(struct rig *r, const char *where, const char *prop, const void *p, int len)
{
	CHECK_EQ(fdt_open_into(r->blob, r->blob, fdt_totalsize(r->blob) + 1024), 0);
	CHECK_EQ(fdt_setprop(r->blob, node(r, where), prop, p, len), 0);
}

static int load(struct rig *r, struct err *why)
{
	loop_lock(r->g->loop);
	device_destroy(r->dev);
	loop_unlock(r->g->loop);
	build(r);
	fdt_pack(r->blob);
	return guest_load(r->dev, r->blob, fdt_totalsize(r->blob), why);
}

static void refused(struct rig *r, const char *words)
{
	struct err why;

	CHECK(load(r, &why) < 0);
	if (!strstr(why.msg, words))
		tap_fail(__FILE__, __LINE__, "'%s' does not say '%s'", why.msg, words);
}

static void loads(struct rig *r)
{
	struct err why;

	if (load(r, &why))
		tap_fail(__FILE__, __LINE__, "%s", why.msg);
}

TEST(a_queue_that_is_not_enabled)
{
	for (int packed = 0; packed < 2; packed++) {
		struct rig r;
		struct virtq *q;

		start(&r, packed);
		CHECK(vdrv_negotiate(&r.d, packed ? F(VIRTIO_F_RING_PACKED) : 0));
		save(&r);
		set(&r, "queue0", "last_avail", 40000);
		set(&r, "queue0", "used_idx", 65535);
		set(&r, "queue0", "signalled_used", 9);
		set(&r, "queue0", "broken", 1);
		set(&r, "queue0", "used_wrap", 0);
		loads(&r);
		q = &r.v->queues[0];
		CHECK(!q->enabled && !q->broken && q->used_wrap);
		CHECK_EQ(q->last_avail, 0);
		CHECK_EQ(q->used_idx, 0);
		CHECK_EQ(q->signalled_used, 0);
		CHECK_EQ(q->packed, packed);
	}
}

TEST(chains_of_a_queue_that_is_not_enabled)
{
	struct rig r;

	start(&r, false);
	save(&r);
	set_list(&r, "queue0", "held", "\0\1", 2);
	refused(&r, "not enabled");
}

/* The size register takes anything: enabling the queue is what looks at it. */
TEST(a_size_that_was_only_written)
{
	struct rig r;

	start(&r, false);
	CHECK(vdrv_negotiate(&r.d, 0));
	out(r.g->mmio, r.d.base + r.d.common + 22, 2, 0);
	out(r.g->mmio, r.d.base + r.d.common + 24, 2, 5000);
	save(&r);
	loads(&r);
	CHECK_EQ(r.v->queues[0].size, 5000);
	out(r.g->mmio, r.d.base + r.d.common + 28, 2, 1);
	CHECK(r.v->queues[0].broken);
	/* and such a queue, enabled and broken, loads too */
	save(&r);
	loads(&r);
	CHECK(r.v->queues[0].broken);
	set_list(&r, "queue0", "held", "\7\320", 2);
	refused(&r, "held head");
}

TEST(features_outside_the_offer)
{
	struct rig r;

	start(&r, false);
	save(&r);
	set(&r, "virtio", "features", F(VIRTIO_F_RING_PACKED));
	refused(&r, "lacks");
	set(&r, "virtio", "features", F(VIRTIO_F_VERSION_1) | F(60));
	refused(&r, "lacks");
	/* FEATURES_OK is not given to a driver without VERSION_1. */
	set(&r, "virtio", "features", 0);
	set(&r, "virtio", "status", 11);
	refused(&r, "status");
	set(&r, "virtio", "status", 3);
	loads(&r);
}

/* A driver that takes what it may not is refused, before a save and after it. */
TEST(a_driver_that_asks_for_more)
{
	struct rig r;

	start(&r, false);
	vdrv_set_status(&r.d, 0);
	vdrv_set_status(&r.d, 3);
	for (unsigned half = 0; half < 2; half++) {
		out(r.g->mmio, r.d.base + r.d.common + 8, 4, half);
		out(r.g->mmio, r.d.base + r.d.common + 12, 4, 0xffffffff);
	}
	CHECK_EQ(r.v->features & ~r.v->offer, 0);
	save(&r);
	loads(&r);
	vdrv_set_status(&r.d, 11);
	CHECK_EQ(vdrv_status(&r.d), 3);
}

TEST(a_held_chain_longer_than_its_ring)
{
	uint8_t list[16 * 16];
	struct dring *ring;
	struct rig r;

	start(&r, true);
	CHECK(vdrv_negotiate(&r.d, F(VIRTIO_F_RING_PACKED)));
	ring = vdrv_queue(&r.d, 0, 4);
	vdrv_start(&r.d);
	CHECK(ring->packed);
	save(&r);
	for (unsigned i = 0; i < 16; i++) {
		st_be64(list + 16 * i, 0x200000 + 64 * i);
		st_be32(list + 16 * i + 8, 16);
		st_be16(list + 16 * i + 12, 1);
		st_be16(list + 16 * i + 14, i < 15 ? 1 : 2);
	}
	set_list(&r, "queue0", "held", "\0\1", 2);
	set_list(&r, "queue0", "held-descriptors", list, 80);
	refused(&r, "more descriptors than the ring");
	set_list(&r, "queue0", "held-descriptors", list, 72);
	refused(&r, "72 bytes");
	set_list(&r, "queue0", "held-descriptors", list, 64);
	loads(&r);
	set(&r, "queue0", "used_idx", 4);
	refused(&r, "indices");
}

TEST(what_small_devices_carry)
{
	static const struct { const char *kind, *where, *prop; uint64_t v; const char *words;
	} t[] = {
		{ "balloon", "device", "num_pages", UINT32_MAX, "balloon" },
		{ "net", "device", "active", 2, "queue pairs" },
		{ "net", "device", "active", 0, "queue pairs" },
		{ "net", "device", "offloads", 1, "offloads" },
		{ "input", "device", "buttons", 0x100, "buttons" },
		{ "balloon", "d", "isr", 4, "interrupt status" },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		struct virtio_net_opts no = { .pairs = 2 };
		struct rig r = { .g = guest_new() };
		struct err why;

		r.v = t[i].kind[0] == 'b' ? virtio_balloon_new("d", r.g->loop, r.g->mem, NULL)
		      : t[i].kind[0] == 'n'
			      ? virtio_net_new("d", r.g->loop, r.g->mem, &no, NULL)
			      : virtio_input_new("d", r.g->loop, r.g->mem, true, NULL);
		r.dev = virtio_pci_new(r.g->pci, DEVFN, r.v, NULL);
		save(&r);
		set(&r, t[i].where, t[i].prop, t[i].v);
		fdt_pack(r.blob);
		CHECK(guest_load(r.dev, r.blob, fdt_totalsize(r.blob), &why) < 0);
		if (!strstr(why.msg, t[i].words))
			tap_fail(__FILE__, __LINE__, "%s: %s", t[i].prop, why.msg);
	}
}
TAP_MAIN
