/* SPDX-License-Identifier: GPL-2.0-or-later */
/* savevm.c: see savevm.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "disk/node.h"
#include "vmm/machine/drives.h"
#include "vmm/machine/machine_state.h"
#include "vmm/move/migrate.h"
#include "vmm/move/migrate_stream.h"
#include "vmm/move/savevm.h"

/*
 * No migration may be under way; every disk must be able to; the first takes the machine's state.
 * NULL with the reason.
 */
static struct node *state_node(struct machine *m, struct err *err)
{
	struct node *first = NULL;
	for (struct machine_drive *d = NULL; (d = machine_next_writable(m, d));) {
		struct node *n = blk_root(d->blk);

		if (!n->ops->snapshot_create || !n->ops->vmstate_write) {
			err_set(err, ENOTSUP,
				"'%s' is %s, which has no snapshots; convert it to qcow2",
				blk_filename(d->blk), blk_format(d->blk));
			return NULL;
		}
		first = first ? first : n;
	}
	if (first && migrate_under_way(m)) {
		err_set(err, EBUSY, "There's a migration process in progress");
		return NULL;
	}
	if (!first)
		err_set(err, ENOMEDIUM, "the machine has no disk to keep a snapshot in");
	return first;
}

static bool has_snapshot(struct node *n, const char *name, struct node_snapshot *found)
{
	struct node_snapshot *list = NULL;
	int count = 0;
	bool yes = false;

	if (n->ops->snapshot_list(n, &list, &count) < 0)
		return false;
	for (int i = 0; i < count && !yes; i++) {
		yes = !strcmp(list[i].name, name) || !strcmp(list[i].id, name);
		if (yes && found)
			*found = list[i];
	}
	free(list);
	return yes;
}

static int delete_all(struct machine *m, const char *name, struct err *err)
{
	int ret = 0;

	for (struct machine_drive *d = NULL; ret == 0 && (d = machine_next_writable(m, d));)
		if (has_snapshot(blk_root(d->blk), name, NULL))
			ret = blk_root(d->blk)->ops->snapshot_delete(blk_root(d->blk), name, err);
	return ret;
}

static void drain(struct machine *m, bool begin)
{
	for (struct machine_drive *d = NULL; (d = machine_next_writable(m, d));)
		begin ? blk_drain_begin(d->blk) : blk_drain_end(d->blk);
}

static int write_state(void *ctx, const void *buf, size_t len, uint64_t off)
{
	struct node *n = ctx;

	return n->ops->vmstate_write(n, buf, len, off);
}

static int read_state(void *ctx, void *buf, size_t len, uint64_t off)
{
	struct node *n = ctx;

	return n->ops->vmstate_read(n, buf, len, off);
}

static int save_drained(struct machine *m, struct node *state, const char *name, struct err *err)
{
	struct node_snapshot s = { .vm_clock_nsec = vm_clock_now(m->clock), .icount = UINT64_MAX };
	struct line *l = line_callback(write_state, NULL, state);
	struct timespec now;
	int ret;

	clock_gettime(CLOCK_REALTIME, &now);
	s.date_sec = now.tv_sec;
	s.date_nsec = now.tv_nsec;
	snprintf(s.name, sizeof(s.name), "%s", name);
	ret = delete_all(m, name, err);
	if (ret == 0)
		ret = migrate_save_line(m, l, err);
	if (ret == 0)
		ret = line_finish(l, err);
	s.vm_state_size = line_bytes(l);
	line_free(l);
	for (struct machine_drive *d = NULL; ret == 0 && (d = machine_next_writable(m, d));) {
		ret = blk_root(d->blk)->ops->snapshot_create(blk_root(d->blk), &s, err);
		s.vm_state_size = 0;	/* in the first alone */
	}
	return ret;
}

int savevm_save(struct machine *m, const char *name, struct err *err)
{
	struct node *state = state_node(m, err);
	int ret;

	if (!state)
		return -ENOTSUP;
	if (!name[0] || strlen(name) > 255)
		return err_set(err, EINVAL, "a snapshot's name has 1 to 255 characters");
	ret = machine_take_disks(m, err);
	if (ret < 0)
		return ret;
	vm_pause(m->vm, PAUSE_SAVE);
	ret = machine_quiesce(m, err);
	if (ret == 0) {
		drain(m, true);
		ret = save_drained(m, state, name, err);
		drain(m, false);
		machine_unquiesce(m);
	}
	vm_resume(m->vm, PAUSE_SAVE);
	return ret;
}

/* --- loading --- */

struct reset {
	struct machine *m;
	bool done;
};

static void reset_devices(void *ctx)
{
	struct reset *r = ctx;

	for (unsigned i = r->m->ndevices; i-- > 0;) {
		struct device *d = r->m->devices[i].dev;

		loop_lock(d->loop);
		if (d->ops->reset)
			d->ops->reset(d);
		loop_unlock(d->loop);
	}
	__atomic_store_n(&r->done, true, __ATOMIC_RELEASE);
	loop_wake(r->m->loop);
}

static bool reset_done(void *ctx)
{
	return __atomic_load_n(&((struct reset *)ctx)->done, __ATOMIC_ACQUIRE);
}

/* What a device was about to do belongs to a time that is gone. Resets belong on the main loop. */
static void forget_devices(struct machine *m)
{
	struct reset r = { m, false };

	loop_lock(m->loop);
	loop_post(m->loop, reset_devices, &r);
	loop_wait(m->loop, reset_done, &r);
	loop_unlock(m->loop);
}

static int load_drained(struct machine *m, struct node *state, const char *name, struct err *err)
{
	struct line *l;
	int ret = 0;

	for (struct machine_drive *d = NULL; ret == 0 && (d = machine_next_writable(m, d));)
		ret = blk_root(d->blk)->ops->snapshot_goto(blk_root(d->blk), name, err);
	if (ret < 0)
		return ret;
	l = line_callback(NULL, read_state, state);
	ret = migrate_load_line(m, l, err);
	line_free(l);
	return ret;
}

int savevm_load(struct machine *m, const char *name, struct err *err)
{
	struct node *state = state_node(m, err);
	struct node_snapshot s = { .vm_state_size = 0 };
	bool fresh = vm_pause_reasons(m->vm) & PAUSE_BOOT;
	int ret;

	if (!state)
		return -ENOTSUP;
	ret = machine_take_disks(m, err);
	if (ret < 0)
		return ret;
	for (struct machine_drive *d = NULL; (d = machine_next_writable(m, d));)
		if (!has_snapshot(blk_root(d->blk), name, blk_root(d->blk) == state ? &s : NULL))
			return err_set(err, ENOENT, "'%s' has no snapshot '%s'",
				       blk_filename(d->blk), name);
	if (!s.vm_state_size)
		return err_set(err, EINVAL,
			       "snapshot '%s' is of the disk alone; it holds no machine", name);
	vm_pause(m->vm, PAUSE_SAVE);
	ret = fresh ? 0 : machine_quiesce(m, err);
	if (ret < 0) {
		vm_resume(m->vm, PAUSE_SAVE);
		return ret;
	}
	if (!fresh)
		forget_devices(m);
	/* Pages that were zero are not in the stream. */
	ret = block_discard(m->ram);
	if (ret < 0)
		err_set(err, -ret, "clearing memory: %s", strerror(-ret));
	drain(m, true);
	if (ret == 0)
		ret = load_drained(m, state, name, err);
	drain(m, false);
	if (ret < 0) {
		err_prefix(err, "loading '%s' (the machine stays paused)", name);
		return ret;
	}
	loop_lock(m->loop);
	machine_copied(m);
	loop_unlock(m->loop);
	machine_unquiesce(m);
	vm_resume(m->vm, PAUSE_SAVE);
	return 0;
}

int savevm_delete(struct machine *m, const char *name, struct err *err)
{
	struct node *state = state_node(m, err);
	int ret;

	if (!state)
		return -ENOTSUP;
	ret = machine_take_disks(m, err);
	if (ret < 0)
		return ret;
	if (!has_snapshot(state, name, NULL))
		return err_set(err, ENOENT, "'%s' has no snapshot '%s'", state->filename, name);
	drain(m, true);
	ret = delete_all(m, name, err);
	drain(m, false);
	return ret;
}

int savevm_list(struct machine *m, struct node_snapshot **list, int *count, struct err *err)
{
	struct node *state = state_node(m, err);
	int ret;

	if (!state)
		return -ENOTSUP;
	ret = state->ops->snapshot_list(state, list, count);
	return ret < 0 ? err_set(err, -ret, "'%s': %s", state->filename, strerror(-ret)) : 0;
}
