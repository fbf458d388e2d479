/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * command_job.c: disks change their shape while the guest writes: snapshots, backup, mirror,
 * commit, stream. Opening and creating files blocks, so these commands are slow ones: a control
 * thread, no lock. The list of jobs belongs to the main loop.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "disk/job.h"
#include "disk/name.h"
#include "disk/node.h"
#include "vmm/control/command.h"
#include "vmm/control/command_print.h"
#include "vmm/machine/drives.h"
#include "vmm/machine/jobs.h"
#include "vmm/move/savevm.h"

static const char *str(json_t *args, const char *name)
{
	return json_string_value(json_object_get(args, name));
}

struct machine_drive *command_drive(struct machine *m, json_t *args, struct err *err)
{
	const char *name = str(args, "device") ? str(args, "device") : str(args, "node-name");
	struct machine_drive *d = name ? machine_drive_by_name(m, name) : NULL;

	if (!d || !d->blk) {
		err_set(err, ENOENT, "Cannot find device='%s' nor node-name='%s'", name ? name : "",
			name ? name : "");
		return NULL;
	}
	return d;
}

/* --- starting --- */

/* The entry of a new block job. NULL with the reason. */
static struct job_entry *entry(json_t *args, const char *type, struct machine_drive *d,
			       struct err *err)
{
	const char *id = str(args, "job-id");

	return jobs_add(id ? id : d->config->id, type, d,
			!json_is_false(json_object_get(args, "auto-dismiss")), err);
}

static uint64_t speed_arg(json_t *args)
{
	json_int_t speed = json_integer_value(json_object_get(args, "speed"));

	return speed > 0 ? speed : 0;
}

static int started(struct job_entry *e, struct job *j)
{
	jobs_started(e, j);
	return j ? 0 : -EIO;
}

/* The target of a backup or mirror: made new unless mode=existing. */
static struct node *open_target(struct machine *m, json_t *args, struct machine_drive *d,
				struct err *err)
{
	const char *name = str(args, "target"), *mode = str(args, "mode");
	const char *format = str(args, "format") ? str(args, "format") : blk_format(d->blk);
	struct node_create c = { .filename = name, .size = blk_size(d->blk), .host = &m->host };
	struct blk_options o = { .format = format,
				 .flags = BLK_RDWR | BLK_NO_BACKING,
				 .host = &m->host };
	struct node *n;

	if (!mode || strcmp(mode, "existing")) {
		if (node_create(format, &c, err) < 0)
			return NULL;
	}
	n = node_open(name, &o, err);
	if (n && n->size < blk_size(d->blk)) {
		err_set(err, EINVAL, "%s: smaller than the disk", name);
		node_unref(n);
		return NULL;
	}
	return n;
}

static int run_copy(struct machine *m, json_t *args, struct command_result *r, bool mirror)
{
	struct machine_drive *d = command_drive(m, args, &r->err);
	const char *sync = str(args, "sync");
	struct job_entry *e;
	struct job_common c;
	struct node *target;

	if (!d)
		return -ENOENT;
	if (sync && strcmp(sync, "full"))
		return err_set(&r->err, ENOTSUP, "sync=%s: only 'full' is offered", sync);
	target = open_target(m, args, d, &r->err);
	if (!target)
		return -EIO;
	e = entry(args, mirror ? "mirror" : "backup", d, &r->err);
	if (!e) {
		node_unref(target);
		return -EBUSY;
	}
	c = jobs_common(e, m, speed_arg(args));
	return started(e, mirror ? job_mirror(d->blk, target, &c, &r->err)
				 : job_backup(d->blk, target, &c, &r->err));
}

static int run_backup(struct machine *m, json_t *args, struct command_result *r)
{
	return run_copy(m, args, r, false);
}

static int run_mirror(struct machine *m, json_t *args, struct command_result *r)
{
	return run_copy(m, args, r, true);
}

/* A member of the chain, by any name of its file; NULL with the reason. */
static struct node *named_layer(struct blk *b, const char *name, struct err *err)
{
	struct node *n = name_find_layer(blk_root(b), name);

	if (!n)
		err_set(err, ENOENT, "Can't find '%s' in the backing chain", name);
	return n;
}

static int run_commit(struct machine *m, json_t *args, struct command_result *r)
{
	struct machine_drive *d = command_drive(m, args, &r->err);
	const char *base = str(args, "base"), *top = str(args, "top");
	struct node *n = NULL, *t;
	struct job_entry *e;
	struct job_common c;

	if (!d)
		return -ENOENT;
	if (base && !(n = named_layer(d->blk, base, &r->err)))
		return -ENOENT;
	if (top && !(t = named_layer(d->blk, top, &r->err)))
		return -ENOENT;
	if (top && t != blk_root(d->blk))
		return err_set(&r->err, ENOTSUP,
			       "'%s' is not the topmost layer of '%s': only that can be committed "
			       "while the machine runs",
			       top, d->config->id);
	if (!blk_root(d->blk)->backing)
		return err_set(&r->err, EINVAL, "Device '%s' has no backing file to commit to",
			       d->config->id);
	e = entry(args, "commit", d, &r->err);
	if (!e)
		return -EBUSY;
	c = jobs_common(e, m, speed_arg(args));
	return started(e, job_commit(d->blk, n, &c, &r->err));
}

static int run_stream(struct machine *m, json_t *args, struct command_result *r)
{
	struct machine_drive *d = command_drive(m, args, &r->err);
	const char *base = str(args, "base");
	struct node *n = NULL;
	struct job_entry *e;
	struct job_common c;

	if (!d)
		return -ENOENT;
	if (base && !(n = named_layer(d->blk, base, &r->err)))
		return -ENOENT;
	e = entry(args, "stream", d, &r->err);
	if (!e)
		return -EBUSY;
	c = jobs_common(e, m, speed_arg(args));
	return started(e, job_stream(d->blk, n, &c, &r->err));
}

/* The monitor's commit: what -snapshot kept apart goes into the image, and is waited for. */
static int run_commit_all(struct machine *m, json_t *args, struct command_result *r)
{
	const char *name = str(args, "device");
	struct machine_drive *one = NULL;
	int ret = 0;

	if (strcmp(name, "all")) {
		one = machine_drive_by_name(m, name);
		if (!one || !one->blk)
			return err_set(&r->err, ENODEV, "Device '%s' %s", name,
				       one ? "has no medium" : "not found");
		if (!blk_root(one->blk)->backing)
			return err_set(&r->err, ENOTSUP,
				       "Device '%s' has no layer to commit: nothing is kept apart",
				       name);
	}
	for (struct machine_drive *d = NULL; ret == 0 && (d = machine_next_drive(m, d));) {
		struct job_common c = { .id = d->config->id };
		struct job *j;

		if (!blk_root(d->blk)->backing || (one && one != d))
			continue;
		j = job_commit(d->blk, NULL, &c, &r->err);
		if (!j)
			return -EIO;
		job_complete(j);	/* as soon as it is ready */
		ret = job_wait(j);
		if (ret < 0)
			err_set(&r->err, -ret, "%s: %s", d->config->id,
				j->err.msg[0] ? j->err.msg : strerror(-ret));
		job_free(j);
	}
	return ret;
}

/* --- steering --- */

static int query_jobs(struct machine *m, json_t *args, struct command_result *r)
{
	r->value = jobs_list();
	return 0;
}

static int query_block_jobs(struct machine *m, json_t *args, struct command_result *r)
{
	r->value = jobs_list_block();
	return 0;
}

/* "device" of a block-job- command, "id" of a job- command, which takes every job. */
static int steer(json_t *args, enum job_verb verb, struct command_result *r)
{
	const char *device = str(args, "device");

	return jobs_steer(device ? device : str(args, "id"), verb, device != NULL, &r->err);
}

static int run_job_cancel(struct machine *m, json_t *args, struct command_result *r)
{
	return steer(args, JOB_CANCEL, r);
}
static int run_job_complete(struct machine *m, json_t *args, struct command_result *r)
{
	return steer(args, JOB_COMPLETE, r);
}
static int run_job_pause(struct machine *m, json_t *args, struct command_result *r)
{
	return steer(args, JOB_PAUSE, r);
}
static int run_job_resume(struct machine *m, json_t *args, struct command_result *r)
{
	return steer(args, JOB_RESUME, r);
}
static int run_job_dismiss(struct machine *m, json_t *args, struct command_result *r)
{
	return steer(args, JOB_DISMISS, r);
}
static int run_job_finalize(struct machine *m, json_t *args, struct command_result *r)
{
	return steer(args, JOB_FINALIZE, r);
}

static int run_job_speed(struct machine *m, json_t *args, struct command_result *r)
{
	json_int_t speed = json_integer_value(json_object_get(args, "speed"));

	if (speed < 0)
		return err_set(&r->err, EINVAL, "Parameter 'speed' expects a non-negative value");
	return jobs_set_speed(str(args, "device"), speed, &r->err);
}

/* --- snapshots of the machine: savevm and loadvm as jobs --- */

static bool named(json_t *list, const struct machine_drive *d)
{
	json_t *name;
	size_t i;

	json_array_foreach(list, i, name) if (json_is_string(name) &&
					      (!strcmp(json_string_value(name), d->config->id) ||
					       !strcmp(json_string_value(name),
						       blk_filename(d->blk)))) return true;
	return false;
}

/*
 * A snapshot here is of all disks the guest can change, and the first of them keeps the machine:
 * what the client names must be that.
 */
static int check_disks(struct machine *m, json_t *args, struct err *err)
{
	const char *vmstate = str(args, "vmstate");
	json_t *devices = json_object_get(args, "devices");
	const struct machine_drive *first = machine_next_writable(m, NULL);

	for (struct machine_drive *d = NULL; (d = machine_next_writable(m, d));) {
		if (devices && !named(devices, d))
			return err_set(err, EINVAL,
				       "'devices' leaves out '%s': a snapshot is of all disks the "
				       "guest can change",
				       d->config->id);
	}
	if (vmstate && (!first || (strcmp(vmstate, first->config->id) &&
				   strcmp(vmstate, blk_filename(first->blk)))))
		return err_set(err, EINVAL,
			       "vmstate '%s': the machine is kept in the first disk%s%s", vmstate,
			       first ? ", " : "", first ? first->config->id : "");
	return 0;
}

static int run_snapshot_job(struct machine *m, json_t *args, const char *type,
			    int (*fn)(struct machine *m, const char *tag, struct err *err),
			    struct command_result *r)
{
	int ret = check_disks(m, args, &r->err);
	struct job_entry *e = ret == 0 ? jobs_add(str(args, "job-id"), type, NULL, false, &r->err)
				       : NULL;

	if (ret < 0)
		return ret;
	return e ? jobs_run(e, m, fn, str(args, "tag"), &r->err) : -EBUSY;
}

static int run_snapshot_save(struct machine *m, json_t *args, struct command_result *r)
{
	return run_snapshot_job(m, args, "snapshot-save", savevm_save, r);
}

static int run_snapshot_load(struct machine *m, json_t *args, struct command_result *r)
{
	return run_snapshot_job(m, args, "snapshot-load", savevm_load, r);
}

static int run_snapshot_remove(struct machine *m, json_t *args, struct command_result *r)
{
	return run_snapshot_job(m, args, "snapshot-delete", savevm_delete, r);
}

/* --- snapshots of one disk --- */

static int run_snapshot_sync(struct machine *m, json_t *args, struct command_result *r)
{
	struct machine_drive *d = command_drive(m, args, &r->err);
	const char *mode = str(args, "mode"), *format = str(args, "format");

	if (!d)
		return -ENOENT;
	return blk_overlay(d->blk, str(args, "snapshot-file"), format ? format : "qcow2",
			   mode && !strcmp(mode, "existing"), &r->err);
}

/* By name or id; *s when it is there. */
static bool find_snapshot(struct node *n, const char *name, struct node_snapshot *s)
{
	struct node_snapshot *list = NULL;
	int count = 0;
	bool found = false;

	if (n->ops->snapshot_list(n, &list, &count) < 0)
		return false;
	for (int i = 0; i < count && !found; i++) {
		found = !strcmp(list[i].name, name) || !strcmp(list[i].id, name);
		if (found && s)
			*s = list[i];
	}
	free(list);
	return found;
}

static int run_snapshot_internal(struct machine *m, json_t *args, struct command_result *r)
{
	struct machine_drive *d = command_drive(m, args, &r->err);
	struct node_snapshot s = { .date_sec = time(NULL) };
	struct node *n;
	int ret;

	if (!d)
		return -ENOENT;
	n = blk_root(d->blk);
	if (!n->ops->snapshot_create)
		return err_set(
			&r->err, ENOTSUP,
			"Block format '%s' used by device '%s' does not support internal snapshots "
			"(minivmm-img convert -O qcow2 makes one that does)",
			n->ops->format, d->config->id);
	if (!*str(args, "name"))
		return err_set(&r->err, EINVAL, "Name is empty");
	if (find_snapshot(n, str(args, "name"), NULL))
		return err_set(&r->err, EEXIST,
			       "Snapshot with name '%s' already exists on device '%s'",
			       str(args, "name"), d->config->id);
	snprintf(s.name, sizeof(s.name), "%s", str(args, "name"));
	s.vm_clock_nsec = vm_clock_now(m->clock);
	blk_drain_begin(d->blk);
	ret = n->ops->snapshot_create(n, &s, &r->err);
	blk_drain_end(d->blk);
	return ret;
}

static int run_snapshot_delete(struct machine *m, json_t *args, struct command_result *r)
{
	struct machine_drive *d = command_drive(m, args, &r->err);
	const char *name = str(args, "name") ? str(args, "name") : str(args, "id");
	struct node_snapshot s;
	struct node *n;
	int ret;

	if (!d)
		return -ENOENT;
	n = blk_root(d->blk);
	if (!name)
		return err_set(&r->err, EINVAL, "Name or id must be provided");
	if (!n->ops->snapshot_delete)
		return err_set(
			&r->err, ENOTSUP,
			"Block format '%s' used by device '%s' does not support internal snapshots",
			n->ops->format, d->config->id);
	if (!find_snapshot(n, name, &s))
		return err_set(&r->err, ENOENT,
			       "Snapshot with id '%s' and name '%s' does not exist on device '%s'",
			       str(args, "id") ? str(args, "id") : "null",
			       str(args, "name") ? str(args, "name") : "null", d->config->id);
	blk_drain_begin(d->blk);
	ret = n->ops->snapshot_delete(n, name, &r->err);
	blk_drain_end(d->blk);
	if (ret == 0)
		r->value = json_pack("{s:s,s:s,s:I,s:I,s:I,s:I,s:I}", "id", s.id, "name", s.name,
				     "vm-state-size", (json_int_t)s.vm_state_size, "date-sec",
				     (json_int_t)s.date_sec, "date-nsec", (json_int_t)s.date_nsec,
				     "vm-clock-sec", (json_int_t)(s.vm_clock_nsec / NS_PER_SEC),
				     "vm-clock-nsec", (json_int_t)(s.vm_clock_nsec % NS_PER_SEC));
	return ret;
}

#define ID { { "id", ARG_STR, false } }
#define DEVICE { "device", ARG_STR, false }
const struct command commands_job[] = {
	{ "drive-backup",
	  "drive_backup",
	  "copy a disk as it is now, while the guest writes",
	  run_backup,
	  NULL,
	  COMMAND_DISKS,
	  { DEVICE,
	    { "target", ARG_STR, false },
	    { "format", ARG_STR, true },
	    { "sync", ARG_STR, true },
	    { "mode", ARG_STR, true },
	    { "speed", ARG_SIZE, true },
	    { "job-id", ARG_STR, true },
	    { "auto-dismiss", ARG_BOOL, true } } },
	{ "drive-mirror",
	  "drive_mirror",
	  "copy a disk and keep the copy the same; block_job_complete switches over",
	  run_mirror,
	  NULL,
	  COMMAND_DISKS,
	  { DEVICE,
	    { "target", ARG_STR, false },
	    { "format", ARG_STR, true },
	    { "sync", ARG_STR, true },
	    { "mode", ARG_STR, true },
	    { "speed", ARG_SIZE, true },
	    { "job-id", ARG_STR, true },
	    { "auto-dismiss", ARG_BOOL, true } } },
	{ "block-commit",
	  "block_commit",
	  "merge the top layers of a disk into a lower one",
	  run_commit,
	  NULL,
	  COMMAND_DISKS,
	  { DEVICE,
	    { "base", ARG_STR, true },
	    { "top", ARG_STR, true },
	    { "speed", ARG_SIZE, true },
	    { "job-id", ARG_STR, true },
	    { "auto-dismiss", ARG_BOOL, true } } },
	{ "block-stream",
	  "block_stream",
	  "take the lower layers, all or those above base, into the top one",
	  run_stream,
	  NULL,
	  COMMAND_DISKS,
	  { DEVICE,
	    { "speed", ARG_SIZE, true },
	    { "base", ARG_STR, true },
	    { "job-id", ARG_STR, true },
	    { "auto-dismiss", ARG_BOOL, true } } },
	{ NULL,
	  "commit",
	  "keep what -snapshot set apart: a device, or all",
	  run_commit_all,
	  NULL,
	  COMMAND_DISKS,
	  { DEVICE } },
	{ "block-job-cancel",
	  "block_job_cancel",
	  "stop a job",
	  run_job_cancel,
	  NULL,
	  COMMAND_FAST,
	  { DEVICE, { "force", ARG_BOOL, true } } },
	{ "block-job-complete",
	  "block_job_complete",
	  "let a ready job finish",
	  run_job_complete,
	  NULL,
	  COMMAND_FAST,
	  { DEVICE } },
	{ "block-job-pause",
	  "block_job_pause",
	  "hold a job",
	  run_job_pause,
	  NULL,
	  COMMAND_FAST,
	  { DEVICE } },
	{ "block-job-resume",
	  "block_job_resume",
	  "let it go on",
	  run_job_resume,
	  NULL,
	  COMMAND_FAST,
	  { DEVICE } },
	{ "block-job-set-speed",
	  "block_job_set_speed",
	  "limit a job's speed (bytes a second)",
	  run_job_speed,
	  NULL,
	  COMMAND_FAST,
	  { DEVICE, { "speed", ARG_SIZE, false } } },
	{ "job-cancel", "job_cancel", "stop a job", run_job_cancel, NULL, COMMAND_FAST, ID },
	{ "job-complete", "job_complete", "let a ready job finish", run_job_complete, NULL,
	  COMMAND_FAST, ID },
	{ "job-pause", "job_pause", "hold a job", run_job_pause, NULL, COMMAND_FAST, ID },
	{ "job-resume", "job_resume", "let it go on", run_job_resume, NULL, COMMAND_FAST, ID },
	{ "job-dismiss", "job_dismiss", "forget a job that is over", run_job_dismiss, NULL,
	  COMMAND_FAST, ID },
	{ "job-finalize", NULL, "let a pending job end (none waits for it)", run_job_finalize, NULL,
	  COMMAND_FAST, ID },
	{ "block-job-dismiss", NULL, "forget a block job that is over", run_job_dismiss, NULL,
	  COMMAND_FAST, ID },
	{ "block-job-finalize", NULL, "let a pending job end (none waits for it)", run_job_finalize,
	  NULL, COMMAND_FAST, ID },
	{ "snapshot-save",
	  NULL,
	  "savevm as a job",
	  run_snapshot_save,
	  NULL,
	  COMMAND_SLOW,
	  { { "job-id", ARG_STR, false },
	    { "tag", ARG_STR, false },
	    { "vmstate", ARG_STR, false },
	    { "devices", ARG_ARRAY, false } } },
	{ "snapshot-load",
	  NULL,
	  "loadvm as a job",
	  run_snapshot_load,
	  NULL,
	  COMMAND_SLOW,
	  { { "job-id", ARG_STR, false },
	    { "tag", ARG_STR, false },
	    { "vmstate", ARG_STR, false },
	    { "devices", ARG_ARRAY, false } } },
	{ "snapshot-delete",
	  NULL,
	  "delvm as a job",
	  run_snapshot_remove,
	  NULL,
	  COMMAND_SLOW,
	  { { "job-id", ARG_STR, false },
	    { "tag", ARG_STR, false },
	    { "devices", ARG_ARRAY, false } } },
	{ "query-block-jobs",
	  "info block-jobs",
	  "the jobs",
	  query_block_jobs,
	  print_block_jobs,
	  COMMAND_FAST,
	  { { 0 } } },
	{ "query-jobs", NULL, "the jobs", query_jobs, NULL, COMMAND_FAST, { { 0 } } },
	{ "blockdev-snapshot-sync",
	  "snapshot_blkdev",
	  "go on in a new overlay; the disk so far is its backing file",
	  run_snapshot_sync,
	  NULL,
	  COMMAND_DISKS,
	  { { "device", ARG_STR, true },
	    { "snapshot-file", ARG_STR, false },
	    { "format", ARG_STR, true },
	    { "mode", ARG_STR, true },
	    { "node-name", ARG_STR, true } } },
	{ "blockdev-snapshot-internal-sync",
	  "snapshot_blkdev_internal",
	  "a snapshot inside the disk's image",
	  run_snapshot_internal,
	  NULL,
	  COMMAND_DISKS,
	  { DEVICE, { "name", ARG_STR, false } } },
	{ "blockdev-snapshot-delete-internal-sync",
	  "snapshot_delete_blkdev_internal",
	  "remove one",
	  run_snapshot_delete,
	  NULL,
	  COMMAND_DISKS,
	  { DEVICE, { "name", ARG_STR, true }, { "id", ARG_STR, true } } },
	{ 0 },
};
