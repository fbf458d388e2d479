/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * drives.c: the machine's drives: opening a medium, finding and walking drives, giving the disks of
 * a stopped machine to others and taking them back. Main loop or a control thread, as drives.h
 * says.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "disk/name.h"
#include "vmm/base/event.h"
#include "vmm/base/log.h"
#include "vmm/machine/drives.h"

/* --- opening --- */

/*
 * The disk layer says what is wrong with an image; here it is said with which, and what can be
 * done.
 */
static void open_failed(const struct host *host, const char *file, bool cdrom, struct err *err)
{
	struct stat st;
	bool missing = !strchr(file, ':') && host_stat(host, file, &st) == -ENOENT;
	char why[sizeof(err->msg)];

	snprintf(why, sizeof(why), "%s", err->msg);
	err->msg[0] = 0;
	if (missing && cdrom)
		err_set(err, ENOENT, "%s (\"\" as the file is an empty drive)", why);
	else if (missing)
		err_set(err, ENOENT, "%s (minivmm-img create -f qcow2 '%s' 20G makes an empty one)",
			why, file);
	else if (!strstr(why, file))
		err_set(err, EINVAL, "'%s': %s (minivmm-img info and minivmm-img check say more)",
			file, why);
	else
		err_set(err, EINVAL, "%s", why);
}

/*
 * A drive's error policy speaks: tell who listens, stop the guest when it says so. The request's
 * loop.
 */
static void on_io_error(void *ctx, const struct blk_req *r, enum blk_on_error action)
{
	struct machine_drive *d = ctx;
	json_t *data = json_pack("{s:s, s:s, s:s, s:s}", "device", d->config->id, "operation",
				 r->op == BLK_READ ? "read" : "write", "action",
				 action == BLK_ERR_STOP	    ? "stop"
				 : action == BLK_ERR_IGNORE ? "ignore"
							    : "report",
				 "reason", strerror(-r->ret));

	if (action == BLK_ERR_STOP)
		json_object_set_new(data, "nospace", json_boolean(r->ret == -ENOSPC));
	event_emit("BLOCK_IO_ERROR", data);
	if (action == BLK_ERR_STOP)
		vm_pause_async(d->machine->vm, PAUSE_IO_ERROR);
}

struct blk *machine_drive_open(struct machine_drive *md, const char *file,
				const struct blk_options *o, struct err *err)
{
	const struct drive_config *d = md->config;
	struct blk *blk = blk_open(file, o, err);

	if (!blk) {
		open_failed(o->host ? o->host : &host_door, file, d->cdrom, err);
		return NULL;
	}
	blk_set_on_error(blk, d->rerror, d->werror);
	blk_on_io_error(blk, on_io_error, md);
	blk_set_throttle(blk, &d->throttle);
	return blk;
}

void machine_drive_put(struct machine_drive *md, struct blk *blk, bool as_said)
{
	free(md->opened);
	md->opened = blk && as_said ? xstrdup(blk_filename(blk)) : NULL;
	md->blk = blk;
}

/*
 * A CD drive of the host with nothing in it: the guest's is empty too, until somebody changes that.
 */
static bool host_drive_is_empty(struct machine *m, const struct drive_config *d)
{
	struct err err = { "" };
	bool elsewhere;
	int fd = d->cdrom && *d->file == '/'
			 ? host_open_disk(&m->host, d->file, O_RDONLY, NULL, &elsewhere, &err)
			 : -ENOENT;

	if (fd >= 0)
		close(fd);
	if (fd == -ENOMEDIUM)
		log_info("%s: no disc in %s; when there is one: \"change %s %s\" in the monitor",
			 d->id, d->file, d->id, d->file);
	return fd == -ENOMEDIUM;
}

int machine_open_drives(struct machine *m, struct err *err)
{
	struct config *c = m->config;

	/* All that the command line names, before the first image may name one of them. */
	for (unsigned i = 0; i < c->nimage_dirs; i++)
		if (host_allow(&m->host, c->image_dirs[i], err) < 0)
			return -EINVAL;
	for (unsigned i = 0; i < c->ndrives; i++)
		if (c->drives[i].file)
			name_allow(&m->host, c->drives[i].file);
	for (unsigned i = 0; i < c->ndrives; i++) {
		struct drive_config *d = &c->drives[i];
		struct machine_drive *md = &m->drives[m->ndrives++];

		md->config = d;
		md->machine = m;
		if (!d->file || host_drive_is_empty(m, d))
			continue;
		d->open.host = &m->host;
		if (machine_moves_here(c))	/* the other side still has them */
			d->open.flags |= BLK_INACTIVE;
		machine_drive_put(md, machine_drive_open(md, d->file, &d->open, err), true);
		if (!md->blk)
			return -EIO;
	}
	return 0;
}

void machine_close_drives(struct machine *m)
{
	for (struct machine_drive *d = NULL; (d = machine_next_drive(m, d));) {
		int ret = blk_close(d->blk);

		machine_drive_put(d, NULL, false);
		if (ret < 0)
			log_error("%s: closing: %s: the last writes may be lost", d->config->file,
				  strerror(-ret));
	}
}

/* --- finding and walking --- */

struct machine_drive *machine_next_drive(struct machine *m, struct machine_drive *d)
{
	for (d = d ? d + 1 : m->drives; d < m->drives + m->ndrives; d++)
		if (d->blk)
			return d;
	return NULL;
}

struct machine_drive *machine_next_writable(struct machine *m, struct machine_drive *d)
{
	while ((d = machine_next_drive(m, d)) && blk_readonly(d->blk))
		;
	return d;
}

struct machine_drive *machine_find_drive(struct machine *m, const char *id)
{
	for (unsigned i = 0; i < m->ndrives; i++)
		if (!strcmp(m->drives[i].config->id, id))
			return &m->drives[i];
	return NULL;
}

/* ide1-cd0, ide0-hd1: what people call a drive that was given no id. */
static struct machine_drive *drive_by_place(struct machine *m, const char *name)
{
	unsigned bus, unit;
	char kind;
	int end = 0;

	if (sscanf(name, "ide%u-%cd%u%n", &bus, &kind, &unit, &end) != 3 || name[end] || unit > 1)
		return NULL;
	for (unsigned i = 0; i < m->ndrives; i++) {
		struct machine_drive *d = &m->drives[i];

		if (d->on_ide && d->ide_unit == 2 * bus + unit &&
		    d->config->cdrom == (kind == 'c'))
			return d;
	}
	return NULL;
}

struct machine_drive *machine_drive_by_name(struct machine *m, const char *name)
{
	struct machine_drive *d = machine_find_drive(m, name);
	struct machine_device *dev = d ? NULL : machine_find_device(m, name);

	if (dev && device_backend(dev->config))
		d = machine_find_drive(m, device_backend(dev->config));
	return d ? d : drive_by_place(m, name);
}

int machine_each_disk(struct machine *m, int (*fn)(struct blk *b, struct err *err), struct err *err)
{
	int ret = 0;

	for (struct machine_drive *d = NULL; ret == 0 && (d = machine_next_drive(m, d));)
		ret = fn(d->blk, err);
	return ret;
}

/* --- the disks of a stopped machine --- */

/* The drives before `end` are drained and inactive; one that cannot come back stays drained. */
static void take_back(struct machine *m, const struct machine_drive *end)
{
	for (struct machine_drive *d = NULL; (d = machine_next_drive(m, d)) && d != end;)
		if (blk_activate(d->blk, NULL) == 0)
			blk_drain_end(d->blk);
}

int machine_give_disks(struct machine *m, struct err *err)
{
	int ret = 0;

	pthread_mutex_lock(&m->disks_lock);
	for (struct machine_drive *d = NULL; !m->disks_given && (d = machine_next_drive(m, d));) {
		blk_drain_begin(d->blk);
		ret = blk_inactivate(d->blk, err);
		if (ret < 0) {
			/* Nothing may be lost for a reader's sake: all of them stay here. */
			blk_drain_end(d->blk);
			take_back(m, d);
			break;
		}
	}
	m->disks_given = ret == 0;
	pthread_mutex_unlock(&m->disks_lock);
	return ret;
}

int machine_take_disks(struct machine *m, struct err *err)
{
	struct machine_drive *d = NULL, *failed = NULL;
	int ret = 0;

	pthread_mutex_lock(&m->disks_lock);
	while (m->disks_given && !failed && (d = machine_next_drive(m, d))) {
		ret = blk_activate(d->blk, err);
		failed = ret < 0 ? d : NULL;
	}
	/* The one that failed is inactive as it was; those before it are given back. */
	if (failed)
		for (d = NULL; (d = machine_next_drive(m, d)) != failed;)
			blk_inactivate(d->blk, NULL);
	if (m->disks_given && !failed) {
		for (d = NULL; (d = machine_next_drive(m, d));)
			blk_drain_end(d->blk);
		m->disks_given = false;
	}
	pthread_mutex_unlock(&m->disks_lock);
	return ret;
}
