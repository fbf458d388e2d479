/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * command_transaction.c: several changes of disks at one instant of the guest, all or none (QMP's
 * transaction). A backup of a machine with its data on two disks needs both as of the same moment:
 * none of the disks takes a request from before the first change until after the last. A control
 * thread, as each of the changes alone.
 */
#include <errno.h>
#include <unistd.h>

#include "disk/node.h"
#include "vmm/base/log.h"
#include "vmm/control/command.h"
#include "vmm/machine/jobs.h"

#define MAX_ACTIONS 64

struct action {
	const struct action_type *type;
	json_t *data;
	struct machine_drive *drive;	/* NULL: abort */
};

static const char *str(json_t *args, const char *name)
{
	return json_string_value(json_object_get(args, name));
}

/* --- taking back what was done; the disk is drained --- */

static void undo_overlay(struct machine *m, struct action *a)
{
	const char *mode = str(a->data, "mode"), *file = str(a->data, "snapshot-file");
	const struct node *root = blk_root(a->drive->blk);
	int ret = 0;

	/* While it is open: only that very file goes. */
	if ((!mode || strcmp(mode, "existing")) && root->file && root->file->fd >= 0)
		ret = host_unlink(&m->host, file, root->file->fd);
	if (ret < 0)
		log_warn("transaction: the overlay '%s' was taken back, but its file stays: %s",
			 file, strerror(-ret));
	blk_drop_overlay(a->drive->blk);
}

static void undo_internal(struct machine *m, struct action *a)
{
	struct node *n = blk_root(a->drive->blk);
	struct err err = { 0 };

	if (n->ops->snapshot_delete(n, str(a->data, "name"), &err) < 0)
		log_error("transaction: a snapshot stays that was to be taken back: %s", err.msg);
}

/* What it has written so far stays, as after any cancel. */
static void undo_job(struct machine *m, struct action *a)
{
	const char *id = str(a->data, "job-id");
	struct err err = { 0 };

	loop_lock(m->loop);
	/* one that is over already needs no cancel */
	jobs_steer(id ? id : a->drive->config->id, JOB_CANCEL, true, &err);
	loop_unlock(m->loop);
}

static int run_abort(struct machine *m, json_t *args, struct command_result *r)
{
	return err_set(&r->err, ECANCELED, "Transaction aborted using Abort action");
}

static const struct command abort_command = { "abort", NULL,	      "",	run_abort,
					      NULL,    COMMAND_DISKS, { { 0 } } };

static const struct action_type {
	const char *name;
	void (*undo)(struct machine *m, struct action *a);
} types[] = {
	{ "blockdev-snapshot-sync", undo_overlay },
	{ "blockdev-snapshot-internal-sync", undo_internal },
	{ "drive-backup", undo_job },
	{ "abort", NULL },
};

static const struct command *command_of(const struct action *a)
{
	return a->type->undo ? command_by_name(a->type->name) : &abort_command;
}

/* --- all of them --- */

static int parse_action(struct machine *m, json_t *j, struct action *a, struct err *err)
{
	const char *name = str(j, "type");

	a->data = json_object_get(j, "data");
	if (!name || !json_is_object(a->data))
		return err_set(err, EINVAL,
			       "Parameter 'actions' expects objects with \"type\" and \"data\"");
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (!strcmp(types[i].name, name))
			a->type = &types[i];
	if (!a->type)
		return err_set(err, ENOTSUP,
			       "Parameter 'type' does not accept value '%s'; there are: "
			       "blockdev-snapshot-sync, "
			       "blockdev-snapshot-internal-sync, drive-backup, abort",
			       name);
	if (command_check_args(command_of(a), a->data, err) < 0)
		return -EINVAL;
	if (!a->type->undo)
		return 0;
	a->drive = command_drive(m, a->data, err);
	return a->drive ? 0 : -ENOENT;
}

static int run_actions(struct machine *m, struct action *a, size_t n, struct err *err)
{
	size_t done = 0;
	int ret = 0;

	for (; done < n && ret == 0; done++) {
		struct command_result r = { 0 };

		ret = command_of(&a[done])->run(m, a[done].data, &r);
		json_decref(r.value);
		if (ret < 0)
			*err = r.err;
	}
	if (ret < 0)
		for (done--; done-- > 0;)
			a[done].type->undo(m, &a[done]);
	return ret;
}

static int run_transaction(struct machine *m, json_t *args, struct command_result *r)
{
	json_t *list = json_object_get(args, "actions"),
	       *properties = json_object_get(args, "properties"), *j;
	const char *mode = properties ? str(properties, "completion-mode") : NULL;
	struct action a[MAX_ACTIONS] = { 0 };
	size_t n = json_array_size(list), i;
	int ret = 0;

	if (mode && strcmp(mode, "individual"))
		return err_set(&r->err, ENOTSUP,
			       "completion-mode '%s': jobs of a transaction end each for itself "
			       "('individual')",
			       mode);
	if (n > MAX_ACTIONS)
		return err_set(&r->err, E2BIG, "a transaction has at most %d actions", MAX_ACTIONS);
	json_array_foreach(list, i, j) {
		if ((ret = parse_action(m, j, &a[i], &r->err)) < 0)
			return ret;
		/* What is taken back must be the top of its disk. */
		for (size_t k = 0; k < i; k++)
			if (a[i].drive && a[k].drive == a[i].drive)
				return err_set(&r->err, ENOTSUP,
					       "'%s': a transaction does one thing with each disk",
					       a[i].drive->config->id);
	}
	for (i = 0; i < n; i++)
		if (a[i].drive)
			blk_drain_begin(a[i].drive->blk);
	ret = run_actions(m, a, n, &r->err);
	for (i = 0; i < n; i++)
		if (a[i].drive)
			blk_drain_end(a[i].drive->blk);
	return ret;
}

const struct command commands_transaction[] = {
	{ "transaction",
	  NULL,
	  "several snapshots and backups of disks at one instant, all or none",
	  run_transaction,
	  NULL,
	  COMMAND_DISKS,
	  { { "actions", ARG_ARRAY, false }, { "properties", ARG_OBJECT, true } } },
	{ 0 },
};
