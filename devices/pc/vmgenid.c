/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmgenid.c: Microsoft's Virtual Machine Generation ID: a number in guest memory that changes when
 * the guest goes back in time or becomes two (a restored snapshot, a copy), so that it makes new
 * random keys and addresses. A page the guest may only read; a notification through ACPI says that
 * it changed. Main loop.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "devices/chips.h"

#define PAGE 4096

struct vmgenid {
	struct device dev;
	struct vmgenid_opts o;
	struct block *page;
	uint8_t uuid[16];		/* in text order */
	bool fixed;			/* by the user */
};

static void put(struct vmgenid *g)
{
	uint8_t *p = block_host(g->page);

	/* As Windows has it: three little-endian numbers, then bytes. */
	st_le32(p, ld_be32(g->uuid));
	st_le16(p + 4, ld_be16(g->uuid + 4));
	st_le16(p + 6, ld_be16(g->uuid + 6));
	memcpy(p + 8, g->uuid + 8, 8);
	block_mark_dirty(g->page, 0, PAGE);
}

static int make_random(uint8_t uuid[16])
{
	if (getrandom(uuid, 16, 0) != 16)
		return -errno;
	uuid[6] = (uuid[6] & 0x0f) | 0x40;	/* RFC 4122, version 4 */
	uuid[8] = (uuid[8] & 0x3f) | 0x80;
	return 0;
}

int vmgenid_renew(struct device *d)
{
	struct vmgenid *g = container_of(d, struct vmgenid, dev);
	uint8_t before[16];
	int ret = 0;

	memcpy(before, g->uuid, sizeof(before));
	if (g->fixed)
		memcpy(g->uuid, g->o.uuid, sizeof(g->uuid));
	else
		ret = make_random(g->uuid);
	put(g);
	if (ret == 0 && memcmp(before, g->uuid, sizeof(before)))
		g->o.changed(g->o.ctx);
	return ret;
}

void vmgenid_get(struct device *d, uint8_t uuid[16])
{
	memcpy(uuid, container_of(d, struct vmgenid, dev)->uuid, 16);
}

static void vmgenid_reset(struct device *d)
{
	put(container_of(d, struct vmgenid, dev));
}

static int vmgenid_save(struct device *d, struct state_out *o)
{
	state_bytes(o, "uuid", container_of(d, struct vmgenid, dev)->uuid, 16);
	return 0;
}

static int vmgenid_load(struct device *d, struct state_in *in, uint32_t version)
{
	struct vmgenid *g = container_of(d, struct vmgenid, dev);
	int ret = state_get_bytes(in, "uuid", g->uuid, sizeof(g->uuid));

	if (ret == 0)
		put(g);
	return ret;
}

static void vmgenid_destroy(struct device *d)
{
	struct vmgenid *g = container_of(d, struct vmgenid, dev);

	block_free(g->page);
	free(g);
}

static const struct device_ops vmgenid_ops = {
	.name = "vmgenid",
	.version = 1,
	.reset = vmgenid_reset,
	.save = vmgenid_save,
	.load = vmgenid_load,
	.destroy = vmgenid_destroy,
};

struct device *vmgenid_new(struct mem *mem, struct loop *loop, const struct vmgenid_opts *o,
			   struct err *err)
{
	struct block *page = block_new(mem, "vmgenid", PAGE, BLOCK_ROM, err);
	struct vmgenid *g;
	int ret;

	if (!page)
		return NULL;
	ret = block_map(page, o->gpa, 0, PAGE, MEM_PRIO_CHIPSET);
	if (ret < 0) {
		err_set(err, -ret, "vmgenid: its page at 0x%llx: %s", (unsigned long long)o->gpa,
			strerror(-ret));
		block_free(page);
		return NULL;
	}
	g = xcalloc(1, sizeof(*g));
	device_init(&g->dev, &vmgenid_ops, "vmgenid", loop);
	g->o = *o;
	g->page = page;
	g->fixed = o->has_uuid;
	if (g->fixed)
		memcpy(g->uuid, o->uuid, sizeof(g->uuid));
	else if ((ret = make_random(g->uuid)) < 0)
		goto fail;
	put(g);
	return &g->dev;
fail:
	err_set(err, -ret, "vmgenid: random numbers: %s", strerror(-ret));
	device_destroy(&g->dev);
	return NULL;
}
