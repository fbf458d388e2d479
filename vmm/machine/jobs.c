/* SPDX-License-Identifier: GPL-2.0-or-later */
/* jobs.c: see jobs.h. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "vmm/base/event.h"
#include "vmm/machine/drives.h"
#include "vmm/machine/jobs.h"

#define MAX_JOBS 16

enum status { CREATED, RUNNING, PAUSED, READY, WAITING, PENDING, ABORTING, CONCLUDED, NONE };

struct job_entry {
	char *id;			/* NULL: free */
	const char *type;
	struct machine_drive *drive;
	struct job *block;		/* NULL before the start and after the end */
	enum status status;
	bool auto_dismiss, starting, over;
	uint64_t done, total;		/* of one that ended */
	char error[1024];
	/* Work of our own. */
	struct machine *m;
	int (*fn)(struct machine *m, const char *tag, struct err *err);
	char *tag;
	bool own_thread;
};

/* The entries change on the main loop or, at the start, on a control thread; the lock is a leaf. */
static struct {
	pthread_mutex_t lock;
	struct job_entry entry[MAX_JOBS];
	unsigned own;			/* threads of ours */
} jobs = { .lock = PTHREAD_MUTEX_INITIALIZER };

static const char *const status_names[] = {
	"created", "running",  "paused",    "ready", "waiting",
	"pending", "aborting", "concluded", "null",
};

static void set_status(struct job_entry *e, enum status s)
{
	e->status = s;
	event_emit("JOB_STATUS_CHANGE",
		   json_pack("{s:s,s:s}", "id", e->id, "status", status_names[s]));
}

static void forget(struct job_entry *e)
{
	set_status(e, NONE);
	pthread_mutex_lock(&jobs.lock);
	free(e->id);
	free(e->tag);
	memset(e, 0, sizeof(*e));
	pthread_mutex_unlock(&jobs.lock);
}

struct job_entry *jobs_add(const char *id, const char *type, struct machine_drive *drive,
			   bool auto_dismiss, struct err *err)
{
	struct job_entry *e = NULL;
	bool taken = false;

	pthread_mutex_lock(&jobs.lock);
	for (int i = 0; i < MAX_JOBS; i++) {
		taken |= jobs.entry[i].id && !strcmp(jobs.entry[i].id, id);
		if (!jobs.entry[i].id && !e)
			e = &jobs.entry[i];
	}
	if (e && !taken)
		*e = (struct job_entry){ .id = xstrdup(id),
					 .type = type,
					 .drive = drive,
					 .auto_dismiss = auto_dismiss,
					 .starting = true };
	pthread_mutex_unlock(&jobs.lock);
	if (taken || !e) {
		err_set(err, EBUSY,
			taken ? "Job ID '%s' already in use"
			      : "'%s': there are as many jobs as there may be",
			id);
		return NULL;
	}
	set_status(e, CREATED);
	set_status(e, RUNNING);
	return e;
}

static json_t *block_object(const struct job_entry *e)
{
	const struct job *j = e->block;

	return json_pack(
		"{s:s,s:s,s:I,s:I,s:I}", "type", e->type, "device", e->id, "len",
		(json_int_t)(j ? __atomic_load_n(&j->total, __ATOMIC_RELAXED) : e->total), "offset",
		(json_int_t)(j ? __atomic_load_n(&j->done, __ATOMIC_RELAXED) : e->done), "speed",
		(json_int_t)(j ? __atomic_load_n(&j->speed, __ATOMIC_RELAXED) : 0));
}

/* --- block jobs --- */

/* Main loop: it is over. */
static void block_ended(void *ctx, struct job *j)
{
	struct job_entry *e = ctx;
	bool failed = j->ret < 0 || j->cancel, release;
	json_t *data;

	pthread_mutex_lock(&jobs.lock);
	e->block = j;
	pthread_mutex_unlock(&jobs.lock);
	if (failed) {
		set_status(e, ABORTING);
	} else {
		set_status(e, WAITING);
		set_status(e, PENDING);
	}
	data = block_object(e);
	if (j->ret < 0 && !j->cancel) {
		snprintf(e->error, sizeof(e->error), "%s",
			 j->err.msg[0] ? j->err.msg : strerror(-j->ret));
		json_object_set_new(data, "error", json_string(e->error));
	}
	event_emit(j->cancel ? "BLOCK_JOB_CANCELLED" : "BLOCK_JOB_COMPLETED", data);
	pthread_mutex_lock(&jobs.lock);
	e->done = j->done;
	e->total = j->total;
	e->block = NULL;
	e->drive = NULL;
	e->over = true;
	release = e->auto_dismiss && !e->starting;
	pthread_mutex_unlock(&jobs.lock);
	job_free(j);
	set_status(e, CONCLUDED);
	if (release)
		forget(e);
}

static void block_changed(void *ctx, struct job *j, enum job_state now)
{
	struct job_entry *e = ctx;

	if (now == JOB_READY)
		event_emit("BLOCK_JOB_READY", block_object(e));
	set_status(e, now == JOB_READY ? READY : now == JOB_PAUSED ? PAUSED : RUNNING);
}

struct job_common jobs_common(struct job_entry *e, struct machine *m, uint64_t speed)
{
	return (struct job_common){ .id = e->id,
				    .speed = speed,
				    .loop = m->loop,
				    .ended = block_ended,
				    .changed = block_changed,
				    .ctx = e };
}

void jobs_started(struct job_entry *e, struct job *j)
{
	bool release;

	pthread_mutex_lock(&jobs.lock);
	e->starting = false;
	if (!e->over)		/* a short one is over already, and j gone */
		e->block = j;
	release = !j || (e->over && e->auto_dismiss);
	pthread_mutex_unlock(&jobs.lock);
	if (release)
		forget(e);
}

/* --- snapshots of the machine --- */

static void own_ended(void *ctx)
{
	struct job_entry *e = ctx;

	if (e->error[0]) {
		set_status(e, ABORTING);
	} else {
		set_status(e, WAITING);
		set_status(e, PENDING);
	}
	e->over = true;
	set_status(e, CONCLUDED);
	if (e->auto_dismiss)
		forget(e);
}

static void *own_thread(void *ctx)
{
	struct job_entry *e = ctx;
	struct machine *m = e->m;
	struct err err = { "" };
	int ret;

	pthread_setname_np(pthread_self(), "job");
	pthread_rwlock_rdlock(&m->shape);
	ret = machine_take_disks(m, &err);
	if (ret == 0)
		ret = e->fn(m, e->tag, &err);
	pthread_rwlock_unlock(&m->shape);
	if (ret < 0)
		snprintf(e->error, sizeof(e->error), "%s", err.msg[0] ? err.msg : strerror(-ret));
	e->done = e->total = 1;
	loop_post(m->loop, own_ended, e);
	loop_lock(m->loop);
	jobs.own--;
	loop_wake(m->loop);
	loop_unlock(m->loop);
	return NULL;
}

int jobs_run(struct job_entry *e, struct machine *m,
	     int (*fn)(struct machine *m, const char *tag, struct err *err), const char *tag,
	     struct err *err)
{
	pthread_t thread;

	e->m = m;
	e->fn = fn;
	e->tag = xstrdup(tag);
	e->total = 1;
	e->starting = false;
	e->own_thread = true;
	loop_lock(m->loop);
	jobs.own++;
	if (pthread_create(&thread, NULL, own_thread, e)) {
		jobs.own--;
		loop_unlock(m->loop);
		forget(e);
		return err_set(err, EAGAIN, "no thread for the job");
	}
	pthread_detach(thread);
	loop_unlock(m->loop);
	return 0;
}

static bool none_own(void *ctx)
{
	return !jobs.own;
}

void jobs_finish(struct machine *m)
{
	loop_lock(m->loop);
	loop_wait(m->loop, none_own, NULL);
	loop_unlock(m->loop);
}

void jobs_exit(void)
{
	for (int i = 0; i < MAX_JOBS; i++) {
		struct job *j = jobs.entry[i].block;

		if (!j)
			continue;
		job_cancel(j);
		job_wait(j);
		jobs.entry[i].block = NULL;
	}
}

/* --- asking and steering --- */

bool jobs_use(const struct machine_drive *d)
{
	bool found = false;

	pthread_mutex_lock(&jobs.lock);
	for (int i = 0; i < MAX_JOBS && d && !found; i++)
		found = jobs.entry[i].id && jobs.entry[i].drive == d;
	pthread_mutex_unlock(&jobs.lock);
	return found;
}

json_t *jobs_list(void)
{
	json_t *list = json_array();

	pthread_mutex_lock(&jobs.lock);
	for (int i = 0; i < MAX_JOBS; i++) {
		const struct job_entry *e = &jobs.entry[i];
		json_t *o;

		if (!e->id)
			continue;
		o = json_pack(
			"{s:s,s:s,s:s,s:I,s:I}", "id", e->id, "type", e->type, "status",
			status_names[e->status], "current-progress",
			(json_int_t)(e->block ? __atomic_load_n(&e->block->done, __ATOMIC_RELAXED)
					      : e->done),
			"total-progress",
			(json_int_t)(e->block ? __atomic_load_n(&e->block->total, __ATOMIC_RELAXED)
					      : e->total));
		if (e->error[0])
			json_object_set_new(o, "error", json_string(e->error));
		json_array_append_new(list, o);
	}
	pthread_mutex_unlock(&jobs.lock);
	return list;
}

json_t *jobs_list_block(void)
{
	json_t *list = json_array();

	pthread_mutex_lock(&jobs.lock);
	for (int i = 0; i < MAX_JOBS; i++) {
		const struct job_entry *e = &jobs.entry[i];
		json_t *o;

		if (!e->id || e->own_thread)
			continue;
		o = block_object(e);
		json_object_update_new(
			o, json_pack("{s:s,s:b,s:b,s:b,s:s,s:b,s:b}", "status",
				     status_names[e->status], "ready", e->status == READY, "paused",
				     e->status == PAUSED, "busy", e->status == RUNNING, "io-status",
				     "ok", "auto-finalize", 1, "auto-dismiss", e->auto_dismiss));
		if (e->error[0])
			json_object_set_new(o, "error", json_string(e->error));
		json_array_append_new(list, o);
	}
	pthread_mutex_unlock(&jobs.lock);
	return list;
}

static struct job_entry *find(const char *id)
{
	struct job_entry *e = NULL;

	pthread_mutex_lock(&jobs.lock);
	for (int i = 0; i < MAX_JOBS && !e; i++)
		if (jobs.entry[i].id && !strcmp(jobs.entry[i].id, id))
			e = &jobs.entry[i];
	pthread_mutex_unlock(&jobs.lock);
	return e;
}

static int refuse(const struct job_entry *e, const char *verb, struct err *err)
{
	return err_set(err, EINVAL, "Job '%s' in state '%s' cannot accept command verb '%s'", e->id,
		       status_names[e->status], verb);
}

int jobs_steer(const char *id, enum job_verb verb, bool block, struct err *err)
{
	static const char *const names[] = { "cancel", "complete", "pause",
					     "resume", "dismiss",  "finalize" };
	struct job_entry *e = find(id);

	if (!e || (block && e->own_thread))
		return block ? err_set(err, ENOTCONN, "Block job '%s' not found", id)
			     : err_set(err, ENOENT, "Job not found");
	if (verb == JOB_DISMISS && e->status == CONCLUDED) {
		forget(e);
		return 0;
	}
	if (!e->block || verb == JOB_DISMISS || verb == JOB_FINALIZE)
		return refuse(e, names[verb], err);
	if (verb == JOB_COMPLETE && e->status != READY)
		return err_set(err, EINVAL, "The active block job '%s' cannot be completed", id);
	switch (verb) {
	case JOB_CANCEL:
		job_cancel(e->block);
		break;
	case JOB_COMPLETE:
		job_complete(e->block);
		break;
	default:
		job_set_paused(e->block, verb == JOB_PAUSE);
		break;
	}
	return 0;
}

int jobs_set_speed(const char *id, uint64_t speed, struct err *err)
{
	struct job_entry *e = find(id);

	if (!e || !e->block)
		return err_set(err, ENOTCONN, "Block job '%s' not found", id);
	__atomic_store_n(&e->block->speed, speed, __ATOMIC_RELAXED);
	return 0;
}
