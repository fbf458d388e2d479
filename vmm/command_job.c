/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * command_job.c: disks change their shape while the guest writes: snapshots, backup, mirror, commit, stream. Opening and
 * creating files blocks, so these commands are slow ones: a control thread, no lock. The list of jobs belongs to the main loop.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "disk/node.h"
#include "vmm/command.h"
#include "vmm/log.h"

#define MAX_JOBS 16

static struct {
	pthread_mutex_t lock;		/* a leaf */
	struct job *job[MAX_JOBS];
	struct machine_drive *drive[MAX_JOBS];
	bool told_ready[MAX_JOBS];
} jobs = { .lock = PTHREAD_MUTEX_INITIALIZER };

static const char *str(json_t *args, const char *name)
{
	return json_string_value(json_object_get(args, name));
}

static struct machine_drive *drive_arg(struct machine *m, json_t *args, struct err *err)
{
	const char *name = str(args, "device") ? str(args, "device") : str(args, "node-name");
	struct machine_drive *d = name ? machine_find_drive(m, name) : NULL;
	struct machine_device *dev = name && !d ? machine_find_device(m, name) : NULL;

	if (dev && dev->config->backend)
		d = machine_find_drive(m, dev->config->backend);
	if (!d || !d->blk) {
		err_set(err, ENODEV, "Cannot find device='%s' nor node-name=''", name ? name : "");
		return NULL;
	}
	return d;
}

/* --- the list --- */

static json_t *job_object(const struct job *j)
{
	return json_pack("{s:s,s:s,s:I,s:I,s:I}", "type", j->ops->type, "device", j->id, "len",
			 (json_int_t)__atomic_load_n(&j->total, __ATOMIC_RELAXED), "offset",
			 (json_int_t)__atomic_load_n(&j->done, __ATOMIC_RELAXED), "speed",
			 (json_int_t)__atomic_load_n(&j->speed, __ATOMIC_RELAXED));
}

/* Main loop: the job is over. */
static void job_ended(void *ctx, struct job *j)
{
	json_t *data = job_object(j);

	if (j->ret < 0 && !j->cancel)
		json_object_set_new(data, "error", json_string(j->err.msg[0] ? j->err.msg : strerror(-j->ret)));
	event_emit(j->cancel ? "BLOCK_JOB_CANCELLED" : "BLOCK_JOB_COMPLETED", data);
	pthread_mutex_lock(&jobs.lock);
	for (int i = 0; i < MAX_JOBS; i++)
		if (jobs.job[i] == j)
			jobs.job[i] = NULL;
	pthread_mutex_unlock(&jobs.lock);
	job_free(j);
}

static int job_add(struct job *j, struct machine_drive *d)
{
	int i;

	pthread_mutex_lock(&jobs.lock);
	for (i = 0; i < MAX_JOBS && jobs.job[i]; i++)
		;
	if (i < MAX_JOBS) {
		jobs.job[i] = j;
		jobs.drive[i] = d;
		jobs.told_ready[i] = false;
	}
	pthread_mutex_unlock(&jobs.lock);
	return i < MAX_JOBS ? 0 : -E2BIG;
}

bool command_jobs_use(const struct machine_drive *d)
{
	bool found = false;

	pthread_mutex_lock(&jobs.lock);
	for (int i = 0; i < MAX_JOBS && d && !found; i++)
		found = jobs.job[i] && jobs.drive[i] == d;
	pthread_mutex_unlock(&jobs.lock);
	return found;
}

static struct job *job_arg(json_t *args, struct err *err)
{
	const char *id = str(args, "device") ? str(args, "device") : str(args, "id");
	struct job *found = NULL;

	pthread_mutex_lock(&jobs.lock);
	for (int i = 0; i < MAX_JOBS && !found; i++)
		if (jobs.job[i] && id && !strcmp(jobs.job[i]->id, id))
			found = jobs.job[i];
	pthread_mutex_unlock(&jobs.lock);
	if (!found)
		err_set(err, ENOTCONN, "Block job '%s' not found", id ? id : "");
	return found;
}

static int query_jobs(struct machine *m, json_t *args, struct command_result *r)
{
	static const char *const states[] = { "running", "paused", "ready", "concluded" };

	r->value = json_array();
	pthread_mutex_lock(&jobs.lock);
	for (int i = 0; i < MAX_JOBS; i++) {
		struct job *j = jobs.job[i];
		json_t *o;

		if (!j)
			continue;
		o = job_object(j);
		json_object_set_new(o, "status", json_string(states[j->state]));
		json_object_set_new(o, "ready", json_boolean(j->state == JOB_READY));
		json_object_set_new(o, "paused", json_boolean(j->state == JOB_PAUSED));
		json_object_set_new(o, "busy", json_boolean(j->state == JOB_RUNNING));
		json_object_set_new(o, "io-status", json_string("ok"));
		json_array_append_new(r->value, o);
	}
	pthread_mutex_unlock(&jobs.lock);
	return 0;
}

/* --- starting --- */

static struct job_common common(struct machine *m, json_t *args, struct machine_drive *d)
{
	const char *id = str(args, "job-id");
	json_int_t speed = json_integer_value(json_object_get(args, "speed"));

	return (struct job_common){ .id = id ? id : d->config->id, .speed = speed > 0 ? speed : 0, .loop = m->loop,
				    .ended = job_ended };
}

static int started(struct job *j, struct machine_drive *d, struct err *err)
{
	if (!j)
		return -EIO;
	if (job_add(j, d) < 0) {
		job_cancel(j);
		return err_set(err, E2BIG, "more than %d jobs", MAX_JOBS);
	}
	return 0;
}

/* The target of a backup or mirror: made new unless mode=existing. */
static struct node *open_target(struct machine *m, json_t *args, struct machine_drive *d, struct err *err)
{
	const char *name = str(args, "target"), *mode = str(args, "mode");
	const char *format = str(args, "format") ? str(args, "format") : blk_format(d->blk);
	struct node_create c = { .filename = name, .size = blk_size(d->blk), .host = &m->host };
	struct blk_options o = { .format = format, .flags = BLK_RDWR | BLK_NO_BACKING, .host = &m->host };
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
	struct machine_drive *d = drive_arg(m, args, &r->err);
	const char *sync = str(args, "sync");
	struct job_common c;
	struct node *target;

	if (!d)
		return -ENODEV;
	if (sync && strcmp(sync, "full"))
		return err_set(&r->err, ENOTSUP, "sync=%s: only 'full' is offered", sync);
	target = open_target(m, args, d, &r->err);
	if (!target)
		return -EIO;
	c = common(m, args, d);
	return started(mirror ? job_mirror(d->blk, target, &c, &r->err) : job_backup(d->blk, target, &c, &r->err), d, &r->err);
}

static int run_backup(struct machine *m, json_t *args, struct command_result *r)
{
	return run_copy(m, args, r, false);
}

static int run_mirror(struct machine *m, json_t *args, struct command_result *r)
{
	return run_copy(m, args, r, true);
}

static struct node *find_layer(struct blk *b, const char *name)
{
	struct node *n = blk_root(b);

	while (n && strcmp(n->filename, name))
		n = n->backing;
	return n;
}

static int run_commit(struct machine *m, json_t *args, struct command_result *r)
{
	struct machine_drive *d = drive_arg(m, args, &r->err);
	const char *base = str(args, "base");
	struct node *n = NULL;
	struct job_common c;

	if (!d)
		return -ENODEV;
	if (base && !(n = find_layer(d->blk, base)))
		return err_set(&r->err, ENOENT, "Can't find '%s' in the backing chain", base);
	if (!blk_root(d->blk)->backing)
		return err_set(&r->err, EINVAL, "Device '%s' has no backing file to commit to", d->config->id);
	c = common(m, args, d);
	return started(job_commit(d->blk, n, &c, &r->err), d, &r->err);
}

static int run_stream(struct machine *m, json_t *args, struct command_result *r)
{
	struct machine_drive *d = drive_arg(m, args, &r->err);
	struct job_common c;

	if (!d)
		return -ENODEV;
	c = common(m, args, d);
	return started(job_stream(d->blk, &c, &r->err), d, &r->err);
}

/* The monitor's commit: what -snapshot kept apart goes into the image, and is waited for. */
static int run_commit_all(struct machine *m, json_t *args, struct command_result *r)
{
	const char *name = str(args, "device");
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < m->ndrives; i++) {
		struct machine_drive *d = &m->drives[i];
		struct job_common c = { .id = d->config->id };
		struct job *j;

		if (!d->blk || !blk_root(d->blk)->backing || (strcmp(name, "all") && strcmp(name, d->config->id)))
			continue;
		j = job_commit(d->blk, NULL, &c, &r->err);
		if (!j)
			return -EIO;
		while (j->state != JOB_READY && j->state != JOB_DONE)
			usleep(10000);
		job_complete(j);
		ret = job_wait(j);
		if (ret < 0)
			err_set(&r->err, -ret, "%s: %s", d->config->id, j->err.msg[0] ? j->err.msg : strerror(-ret));
		job_free(j);
	}
	return ret;
}

/* --- steering --- */

static int run_job_cancel(struct machine *m, json_t *args, struct command_result *r)
{
	struct job *j = job_arg(args, &r->err);

	if (!j)
		return -ENOTCONN;
	job_cancel(j);
	return 0;
}

static int run_job_complete(struct machine *m, json_t *args, struct command_result *r)
{
	struct job *j = job_arg(args, &r->err);

	if (!j)
		return -ENOTCONN;
	if (j->state != JOB_READY)
		return err_set(&r->err, EINVAL, "The active block job '%s' cannot be completed", j->id);
	job_complete(j);
	return 0;
}

static int run_job_pause(struct machine *m, json_t *args, struct command_result *r)
{
	struct job *j = job_arg(args, &r->err);

	if (!j)
		return -ENOTCONN;
	job_set_paused(j, true);
	return 0;
}

static int run_job_resume(struct machine *m, json_t *args, struct command_result *r)
{
	struct job *j = job_arg(args, &r->err);

	if (!j)
		return -ENOTCONN;
	job_set_paused(j, false);
	return 0;
}

static int run_job_speed(struct machine *m, json_t *args, struct command_result *r)
{
	struct job *j = job_arg(args, &r->err);
	json_int_t speed = json_integer_value(json_object_get(args, "speed"));

	if (!j)
		return -ENOTCONN;
	if (speed < 0)
		return err_set(&r->err, EINVAL, "Parameter 'speed' expects a non-negative value");
	__atomic_store_n(&j->speed, speed, __ATOMIC_RELAXED);
	return 0;
}

/* --- snapshots of one disk --- */

static int run_snapshot_sync(struct machine *m, json_t *args, struct command_result *r)
{
	struct machine_drive *d = drive_arg(m, args, &r->err);
	const char *mode = str(args, "mode"), *format = str(args, "format");

	if (!d)
		return -ENODEV;
	return blk_overlay(d->blk, str(args, "snapshot-file"), format ? format : "qcow2", mode && !strcmp(mode, "existing"), &r->err);
}

static int run_snapshot_internal(struct machine *m, json_t *args, struct command_result *r)
{
	struct machine_drive *d = drive_arg(m, args, &r->err);
	struct node_snapshot s = { .date_sec = time(NULL) };
	struct node *n;
	int ret;

	if (!d)
		return -ENODEV;
	n = blk_root(d->blk);
	if (!n->ops->snapshot_create)
		return err_set(&r->err, ENOTSUP, "Block format '%s' used by device '%s' does not support internal snapshots "
			       "(minivmm-img convert -O qcow2 makes one that does)", n->ops->format, d->config->id);
	snprintf(s.name, sizeof(s.name), "%s", str(args, "name"));
	s.vm_clock_nsec = vm_clock_now(m->clock);
	blk_drain_begin(d->blk);
	ret = n->ops->snapshot_create(n, &s, &r->err);
	blk_drain_end(d->blk);
	return ret;
}

static int run_snapshot_delete(struct machine *m, json_t *args, struct command_result *r)
{
	struct machine_drive *d = drive_arg(m, args, &r->err);
	const char *name = str(args, "name") ? str(args, "name") : str(args, "id");
	struct node *n;
	int ret;

	if (!d)
		return -ENODEV;
	n = blk_root(d->blk);
	if (!name)
		return err_set(&r->err, EINVAL, "Name or id must be provided");
	if (!n->ops->snapshot_delete)
		return err_set(&r->err, ENOTSUP, "Block format '%s' used by device '%s' does not support internal snapshots", n->ops->format,
			       d->config->id);
	blk_drain_begin(d->blk);
	ret = n->ops->snapshot_delete(n, name, &r->err);
	blk_drain_end(d->blk);
	return ret;
}

/* Before the drives are closed: jobs go no further. Main thread, loops stopped. */
void command_jobs_exit(void)
{
	for (int i = 0; i < MAX_JOBS; i++) {
		struct job *j = jobs.job[i];

		if (!j)
			continue;
		job_cancel(j);
		job_wait(j);
		jobs.job[i] = NULL;
	}
}

#define DEVICE { "device", ARG_STR, false }
const struct command commands_job[] = {
	{ "drive-backup", "drive_backup", "copy a disk as it is now, while the guest writes", run_backup, NULL, COMMAND_DISKS,
	  { DEVICE, { "target", ARG_STR, false }, { "format", ARG_STR, true }, { "sync", ARG_STR, true }, { "mode", ARG_STR, true },
	    { "speed", ARG_SIZE, true }, { "job-id", ARG_STR, true } } },
	{ "drive-mirror", "drive_mirror", "copy a disk and keep the copy the same; block_job_complete switches over", run_mirror, NULL, COMMAND_DISKS,
	  { DEVICE, { "target", ARG_STR, false }, { "format", ARG_STR, true }, { "sync", ARG_STR, true }, { "mode", ARG_STR, true },
	    { "speed", ARG_SIZE, true }, { "job-id", ARG_STR, true } } },
	{ "block-commit", "block_commit", "merge the top layers of a disk into a lower one", run_commit, NULL, COMMAND_DISKS,
	  { DEVICE, { "base", ARG_STR, true }, { "top", ARG_STR, true }, { "speed", ARG_SIZE, true }, { "job-id", ARG_STR, true } } },
	{ "block-stream", "block_stream", "take all lower layers into the top one", run_stream, NULL, COMMAND_DISKS,
	  { DEVICE, { "speed", ARG_SIZE, true }, { "job-id", ARG_STR, true } } },
	{ NULL, "commit", "keep what -snapshot set apart: a device, or all", run_commit_all, NULL, COMMAND_DISKS, { DEVICE } },
	{ "block-job-cancel", "block_job_cancel", "stop a job", run_job_cancel, NULL, COMMAND_FAST, { DEVICE, { "force", ARG_BOOL, true } } },
	{ "block-job-complete", "block_job_complete", "let a ready job finish", run_job_complete, NULL, COMMAND_FAST, { DEVICE } },
	{ "block-job-pause", "block_job_pause", "hold a job", run_job_pause, NULL, COMMAND_FAST, { DEVICE } },
	{ "block-job-resume", "block_job_resume", "let it go on", run_job_resume, NULL, COMMAND_FAST, { DEVICE } },
	{ "block-job-set-speed", "block_job_set_speed", "limit a job's speed (bytes a second)", run_job_speed, NULL, COMMAND_FAST,
	  { DEVICE, { "speed", ARG_SIZE, false } } },
	{ "query-block-jobs", "info block-jobs", "the jobs", query_jobs, NULL, COMMAND_FAST, { { 0 } } },
	{ "query-jobs", NULL, "the jobs", query_jobs, NULL, COMMAND_FAST, { { 0 } } },
	{ "blockdev-snapshot-sync", "snapshot_blkdev", "go on in a new overlay; the disk so far is its backing file", run_snapshot_sync, NULL,
	  COMMAND_DISKS, { { "device", ARG_STR, true }, { "snapshot-file", ARG_STR, false }, { "format", ARG_STR, true }, { "mode", ARG_STR, true },
		  { "node-name", ARG_STR, true } } },
	{ "blockdev-snapshot-internal-sync", "snapshot_blkdev_internal", "a snapshot inside the disk's image", run_snapshot_internal, NULL,
	  COMMAND_DISKS, { DEVICE, { "name", ARG_STR, false } } },
	{ "blockdev-snapshot-delete-internal-sync", "snapshot_delete_blkdev_internal", "remove one", run_snapshot_delete, NULL, COMMAND_DISKS,
	  { DEVICE, { "name", ARG_STR, true }, { "id", ARG_STR, true } } },
	{ 0 },
};
