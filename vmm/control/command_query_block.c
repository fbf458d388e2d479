/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * command_query_block.c: what clients ask about disks. Main loop. Replies have the members of
 * QEMU's schema.
 */
#include <stdlib.h>

#include "devices/chips.h"
#include "disk/node.h"
#include "vmm/control/command.h"
#include "vmm/control/command_print.h"

static unsigned chain_depth(const struct node *n)
{
	unsigned depth = 0;

	while (n && (n = n->backing))
		depth++;
	return depth;
}

/* A node as ImageInfo has it, its backing files inside. */
static json_t *image_info(struct node *n)
{
	struct node_info info = { 0 };
	int64_t actual;
	json_t *j;

	if (n->ops->info && n->ops->info(n, &info) < 0)
		info = (struct node_info){ 0 };
	actual = node_actual_size(n, &info);
	j = json_pack("{s:s,s:s,s:I,s:b}", "filename", n->filename, "format", n->ops->format,
		      "virtual-size", (json_int_t)n->size, "dirty-flag", info.dirty);
	if (actual >= 0)
		json_object_set_new(j, "actual-size", json_integer(actual));
	if (info.cluster_size)
		json_object_set_new(j, "cluster-size", json_integer(info.cluster_size));
	if (info.encrypted)
		json_object_set_new(j, "encrypted", json_true());
	/* the others have members that QEMU's schema does not */
	if (info.specific && !strcmp(n->ops->format, "qcow2"))
		json_object_set_new(
			j, "format-specific",
			json_pack("{s:s,s:O}", "type", n->ops->format, "data", info.specific));
	json_decref(info.specific);
	if (!n->backing_name)
		return j;
	json_object_set_new(j, "backing-filename", json_string(n->backing_name));
	if (n->backing_format)
		json_object_set_new(j, "backing-filename-format", json_string(n->backing_format));
	if (n->backing) {
		json_object_set_new(j, "full-backing-filename", json_string(n->backing->filename));
		json_object_set_new(j, "backing-image", image_info(n->backing));
	}
	return j;
}

static void limit_object(json_t *j, const char *name, const struct blk_limit *l)
{
	char key[40];

	json_object_set_new(j, name, json_integer((json_int_t)l->rate));
	if (!l->max)
		return;
	snprintf(key, sizeof(key), "%s_max", name);
	json_object_set_new(j, key, json_integer((json_int_t)l->max));
	snprintf(key, sizeof(key), "%s_max_length", name);
	json_object_set_new(j, key, json_integer((json_int_t)MAX(l->length, 1)));
}

/*
 * BlockDeviceInfo: a drive's top node has its name and its front's limits, one below is named by
 * its file and has none.
 */
static json_t *node_object(struct node *n, const char *name, const struct blk_throttle *t)
{
	json_t *j = json_pack(
		"{s:s,s:s,s:s,s:b,s:b,s:i,s:s,s:i,s:{s:b,s:b,s:b},s:o}", "node-name", name, "file",
		n->filename, "drv", n->ops->format, "ro", !(n->flags & BLK_RDWR), "encrypted", 0,
		"backing_file_depth", chain_depth(n), "detect_zeroes",
		!(n->flags & BLK_DETECT_ZEROES) ? "off"
		: n->flags & BLK_DISCARD_UNMAP	? "unmap"
						: "on",
		"write_threshold", 0, "cache", "writeback", !(n->flags & BLK_WRITETHROUGH),
		"direct", (n->flags & BLK_NOCACHE) != 0, "no-flush", (n->flags & BLK_UNSAFE) != 0,
		"image", image_info(n));

	for (int i = 0; i < LIMITS; i++)
		limit_object(j, blk_limit_names[i], &t->limit[i]);
	if (t->iops_size)
		json_object_set_new(j, "iops_size", json_integer((json_int_t)t->iops_size));
	if (n->backing_name)
		json_object_set_new(j, "backing_file", json_string(n->backing_name));
	return j;
}

static json_t *drive_inserted(struct machine_drive *d)
{
	struct blk_throttle t = { 0 };
	json_t *j;

	blk_get_throttle(d->blk, &t);
	j = node_object(blk_root(d->blk), d->config->id, &t);
	json_object_set_new(j, "ro", json_boolean(blk_readonly(d->blk)));
	return j;
}

/* The device that shows a drive, or NULL. */
static const struct machine_device *drive_device(struct machine *m, const struct machine_drive *d)
{
	for (unsigned i = 0; i < m->ndevices; i++) {
		const struct device_config *c = m->devices[i].config;

		if (c && device_backend(c) && !strcmp(device_backend(c), d->config->id))
			return &m->devices[i];
	}
	return NULL;
}

static int query_block(struct machine *m, json_t *args, struct command_result *r)
{
	r->value = json_array();
	for (unsigned i = 0; i < m->ndrives; i++) {
		struct machine_drive *d = &m->drives[i];
		const struct machine_device *dev = drive_device(m, d);
		json_t *j;

		if (!*d->config->id)
			continue;
		j = json_pack("{s:s,s:s,s:b,s:b}", "device", d->config->id, "type", "unknown",
			      "locked", 0, "removable", d->config->cdrom);

		if (dev)
			json_object_set_new(j, "qdev", json_string(dev->config->id));
		if (d->config->cdrom && d->on_ide)
			json_object_set_new(
				j, "tray_open",
				json_boolean(piix3_ide_tray_open(m->ide, d->ide_unit)));
		if (d->blk) {
			json_object_set_new(j, "inserted", drive_inserted(d));
			json_object_set_new(j, "io-status",
					    json_string(vm_pause_reasons(m->vm) & PAUSE_IO_ERROR
								? "failed"
								: "ok"));
		}
		json_array_append_new(r->value, j);
	}
	return 0;
}

static json_t *stats_object(const struct blk_stats *s)
{
	/*
	 * What is not kept apart here counts as none: requests are not merged, invalid ones end
	 * before the disk.
	 */
	static const char *const none[] = {
		"rd_merged",
		"wr_merged",
		"unmap_merged",
		"invalid_rd_operations",
		"invalid_wr_operations",
		"invalid_flush_operations",
		"invalid_unmap_operations",
	};
	json_t *j = json_pack(
		"{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:b,s:b,s:[]}",
		"rd_bytes", (json_int_t)s->bytes[0], "wr_bytes", (json_int_t)s->bytes[1],
		"unmap_bytes", (json_int_t)s->discard_bytes, "rd_operations", (json_int_t)s->ops[0],
		"wr_operations", (json_int_t)s->ops[1], "flush_operations",
		(json_int_t)s->flush_ops, "unmap_operations", (json_int_t)s->discard_ops,
		"rd_total_time_ns", (json_int_t)s->ns[0], "wr_total_time_ns", (json_int_t)s->ns[1],
		"flush_total_time_ns", (json_int_t)s->flush_ns, "unmap_total_time_ns",
		(json_int_t)s->discard_ns, "failed_rd_operations", (json_int_t)s->failed[0],
		"failed_wr_operations", (json_int_t)s->failed[1], "failed_flush_operations",
		(json_int_t)s->failed_flush, "failed_unmap_operations",
		(json_int_t)s->failed_discard, "wr_highest_offset", (json_int_t)s->highest,
		"account_invalid", 0, "account_failed", 1, "timed_stats");

	for (size_t i = 0; i < ARRAY_SIZE(none); i++)
		json_object_set_new(j, none[i], json_integer(0));
	return j;
}

static int query_blockstats(struct machine *m, json_t *args, struct command_result *r)
{
	r->value = json_array();
	for (unsigned i = 0; i < m->ndrives; i++) {
		const struct machine_device *dev = drive_device(m, &m->drives[i]);
		struct blk_stats s = { 0 };
		json_t *j;

		if (!*m->drives[i].config->id)
			continue;
		if (m->drives[i].blk)
			blk_get_stats(m->drives[i].blk, &s);
		j = json_pack("{s:s,s:s,s:o}", "device", m->drives[i].config->id, "node-name",
			      m->drives[i].config->id, "stats", stats_object(&s));
		if (dev)
			json_object_set_new(j, "qdev", json_string(dev->config->id));
		json_array_append_new(r->value, j);
	}
	return 0;
}

static int query_nodes(struct machine *m, json_t *args, struct command_result *r)
{
	r->value = json_array();
	for (unsigned i = 0; i < m->ndrives; i++) {
		struct blk_throttle t = { 0 };

		if (!m->drives[i].blk)
			continue;
		blk_get_throttle(m->drives[i].blk, &t);
		for (struct node *n = blk_root(m->drives[i].blk); n; n = n->backing) {
			bool top = n == blk_root(m->drives[i].blk);

			json_array_append_new(
				r->value,
				node_object(n, top ? m->drives[i].config->id : n->filename, &t));
			t = (struct blk_throttle){ 0 };
		}
	}
	return 0;
}

#define NO_ARGS { { 0 } }
const struct command commands_query_block[] = {
	{ "query-block", "info block", "the drives", query_block, print_block, COMMAND_FAST,
	  NO_ARGS },
	{ "query-blockstats",
	  "info blockstats",
	  "what the drives did",
	  query_blockstats,
	  print_blockstats,
	  COMMAND_FAST,
	  { { "query-nodes", ARG_BOOL, true } } },
	{ "query-named-block-nodes",
	  NULL,
	  "the layers of the drives",
	  query_nodes,
	  NULL,
	  COMMAND_FAST,
	  { { "flat", ARG_BOOL, true } } },
	{ 0 },
};
