/* SPDX-License-Identifier: GPL-2.0-or-later */
/* command_block.c: disks while they run: size, speed limits, media. Main loop. */
#include <errno.h>
#include <stdlib.h>

#include "devices/chips.h"
#include "vmm/base/log.h"
#include "vmm/control/command.h"
#include "vmm/machine/drives.h"

static const char *str(json_t *args, const char *name)
{
	return json_string_value(json_object_get(args, name));
}

/* A drive by its own id ("device") or that of the device that shows it ("id"). */
static struct machine_drive *drive_arg(struct machine *m, json_t *args, struct err *err)
{
	const char *device = str(args, "device"), *id = str(args, "id"),
		   *node = str(args, "node-name");
	const char *name = device ? device : id ? id : node;
	struct machine_drive *d = name ? machine_drive_by_name(m, name) : NULL;

	if (!name || (device && id)) {
		err_set(err, EINVAL, "Need exactly one of 'device' and 'id'");
		return NULL;
	}
	if (!d)
		err_set(err, ENODEV, "Device '%s' not found", name);
	return d;
}

static int run_resize(struct machine *m, json_t *args, struct command_result *r)
{
	struct machine_drive *d = drive_arg(m, args, &r->err);
	json_int_t size = json_integer_value(json_object_get(args, "size"));

	if (!d)
		return -ENODEV;
	if (!d->blk)
		return err_set(&r->err, ENOMEDIUM, "Device '%s' has no medium", d->config->id);
	if (size < 0)
		return err_set(&r->err, EINVAL, "Parameter 'size' expects a >0 size");
	return blk_resize(d->blk, size, true, &r->err);
}

static int limit_arg(json_t *args, const char *name, const char *tail, uint64_t *v, struct err *err)
{
	char key[40];
	json_int_t n;

	snprintf(key, sizeof(key), "%s%s", name, tail);
	n = json_integer_value(json_object_get(args, key));
	if (n < 0)
		return err_set(err, EINVAL, "bps/iops/max values must be within [0, %llu]: %s",
			       BLK_LIMIT_MAX, key);
	*v = n;
	return 0;
}

static int run_throttle(struct machine *m, json_t *args, struct command_result *r)
{
	struct machine_drive *d = drive_arg(m, args, &r->err);
	struct blk_throttle t = { 0 };

	if (!d)
		return -ENODEV;
	if (!d->blk)
		return err_set(&r->err, ENOMEDIUM, "Device '%s' has no medium", d->config->id);
	for (int i = 0; i < LIMITS; i++)
		if (limit_arg(args, blk_limit_names[i], "", &t.limit[i].rate, &r->err) < 0 ||
		    limit_arg(args, blk_limit_names[i], "_max", &t.limit[i].max, &r->err) < 0 ||
		    limit_arg(args, blk_limit_names[i], "_max_length", &t.limit[i].length,
			      &r->err) < 0)
			return -EINVAL;
	if (limit_arg(args, "iops_size", "", &t.iops_size, &r->err) < 0 ||
	    blk_throttle_check(&t, &r->err) < 0)
		return -EINVAL;
	blk_set_throttle(d->blk, &t);
	return 0;
}

/*
 * Puts blk (NULL: nothing) into a CD drive; *old is what was in it, for the caller to close. On
 * failure blk stays the caller's. Takes the main loop's lock.
 */
static int change_medium(struct machine *m, struct machine_drive *d, struct blk *blk, bool force,
			 struct blk **old, struct err *err)
{
	int ret;

	if (!d->config->cdrom || !d->on_ide)
		return err_set(err, EINVAL, "Device '%s' is not removable", d->config->id);
	loop_lock(m->loop);
	ret = piix3_ide_change_medium(m->ide, d->ide_unit, blk, force, old);
	if (ret == 0)
		machine_drive_put(d, blk, false);
	loop_unlock(m->loop);
	if (ret == -EBUSY)
		return err_set(err, EBUSY,
			       "Device '%s' is locked and force was not specified, wait for tray "
			       "to open and try again",
			       d->config->id);
	if (ret < 0)
		return err_set(err, -ret, "Device '%s': %s", d->config->id, strerror(-ret));
	return 0;
}

static void close_old(struct machine_drive *d, struct blk *old)
{
	if (old && blk_close(old) < 0)
		log_warn("%s: closing the old medium failed", d->config->id);
}

static int run_eject(struct machine *m, json_t *args, struct command_result *r)
{
	struct machine_drive *d = drive_arg(m, args, &r->err);
	bool force = json_is_true(json_object_get(args, "force"));
	struct blk *old = NULL;
	int ret;

	if (!d)
		return -ENODEV;
	ret = change_medium(m, d, NULL, force, &old, &r->err);
	close_old(d, old);
	return ret;
}

/* Opening may wait for a server: it is done with no lock held. */
static int run_change(struct machine *m, json_t *args, struct command_result *r)
{
	struct machine_drive *d = drive_arg(m, args, &r->err);
	bool force = json_is_true(json_object_get(args, "force"));
	struct blk_options o = { .format = str(args, "format"),
				 .flags = BLK_NOWAIT,
				 .host = &m->host };
	struct blk *blk, *old = NULL;
	int ret;

	if (!d)
		return -ENODEV;
	blk = machine_drive_open(d, str(args, "filename"), &o, &r->err);
	if (!blk)
		return -EIO;
	ret = change_medium(m, d, blk, force, &old, &r->err);
	close_old(d, ret < 0 ? blk : old);
	return ret;
}

const struct command commands_block[] = {
	{ "block_resize",
	  "block_resize",
	  "change a disk's size",
	  run_resize,
	  NULL,
	  COMMAND_DISKS,
	  { { "device", ARG_STR, true },
	    { "size", ARG_SIZE, false },
	    { "node-name", ARG_STR, true } } },
	{ "block_set_io_throttle",
	  "block_set_io_throttle",
	  "limit a disk's speed",
	  run_throttle,
	  NULL,
	  COMMAND_FAST,
	  { { "device", ARG_STR, true },
	    { "bps", ARG_INT, false },
	    { "bps_rd", ARG_INT, false },
	    { "bps_wr", ARG_INT, false },
	    { "iops", ARG_INT, false },
	    { "iops_rd", ARG_INT, false },
	    { "iops_wr", ARG_INT, false },
	    { "bps_max", ARG_INT, true },
	    { "bps_rd_max", ARG_INT, true },
	    { "bps_wr_max", ARG_INT, true },
	    { "iops_max", ARG_INT, true },
	    { "iops_rd_max", ARG_INT, true },
	    { "iops_wr_max", ARG_INT, true },
	    { "bps_max_length", ARG_INT, true },
	    { "bps_rd_max_length", ARG_INT, true },
	    { "bps_wr_max_length", ARG_INT, true },
	    { "iops_max_length", ARG_INT, true },
	    { "iops_rd_max_length", ARG_INT, true },
	    { "iops_wr_max_length", ARG_INT, true },
	    { "iops_size", ARG_INT, true },
	    { "id", ARG_STR, true } } },
	{ "eject",
	  "eject",
	  "take the medium out of a CD drive",
	  run_eject,
	  NULL,
	  COMMAND_SLOW,
	  { { "device", ARG_STR, true }, { "force", ARG_BOOL, true }, { "id", ARG_STR, true } } },
	{ "blockdev-change-medium",
	  "change",
	  "put another medium into a CD drive",
	  run_change,
	  NULL,
	  COMMAND_SLOW,
	  { { "device", ARG_STR, true },
	    { "filename", ARG_STR, false },
	    { "format", ARG_STR, true },
	    { "id", ARG_STR, true },
	    { "force", ARG_BOOL, true } } },
	{ 0 },
};
