/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * machine_disks.c: see machine_disks.h. The tree's part, which older versions have not:
 *
 *   disks/drive0/       id, files: how many; medium 0: the drive is empty; lost
 *   disks/drive0/file0  layer, name, kind, mark, known, size, device, inode, mtime, ctime
 */
#include <stdio.h>
#include <stdlib.h>

#include "disk/identity.h"
#include "vmm/base/log.h"
#include "vmm/machine/drives.h"
#include "vmm/machine/machine_disks.h"

#define FILES_MAX 8192			/* of a drive; what a hostile file may make us remember */

struct drive_was {
	char *id;
	bool medium;
	struct disk_identity disk;
};
struct machine_disks {
	struct drive_was drives[CONFIG_MAX_DRIVES];
	unsigned n;
};

/* --- saving --- */

struct machine_disks *machine_disks_get(struct machine *m)
{
	struct machine_disks *d = xcalloc(1, sizeof(*d));

	for (unsigned i = 0; i < m->ndrives; i++) {
		struct drive_was *w = &d->drives[d->n];

		if (!m->drives[i].config)
			continue;
		d->n++;
		w->id = xstrdup(m->drives[i].config->id);
		w->medium = m->drives[i].blk != NULL;
		if (!w->medium)
			continue;
		disk_identity_get(m->drives[i].blk, false, &w->disk);
		disk_identity_settle(&w->disk);
	}
	return d;
}

void machine_disks_free(struct machine_disks *d)
{
	if (!d)
		return;
	for (unsigned i = 0; i < d->n; i++) {
		free(d->drives[i].id);
		disk_identity_free(&d->drives[i].disk);
	}
	free(d);
}

static void save_file(struct state_out *o, const struct disk_file *f)
{
	state_u32(o, "layer", f->layer);
	state_str(o, "name", f->name);
	state_str(o, "kind", f->kind);
	state_str(o, "mark", f->mark);
	state_u8(o, "known", f->at.known);
	state_u64(o, "size", f->at.size);
	state_u64(o, "device", f->at.dev);
	state_u64(o, "inode", f->at.ino);
	state_u64(o, "mtime", f->at.mtime);
	state_u64(o, "ctime", f->at.ctime);
}

void machine_disks_save(const struct machine_disks *d, struct state_out *o)
{
	char name[24];

	state_begin(o, "disks");
	state_u32(o, "drives", d->n);
	for (unsigned i = 0; i < d->n; i++) {
		const struct drive_was *w = &d->drives[i];

		snprintf(name, sizeof(name), "drive%u", i);
		state_begin(o, name);
		state_str(o, "id", w->id);
		state_u8(o, "medium", w->medium);
		state_u8(o, "lost", w->disk.lost);
		state_u32(o, "files", w->disk.n);
		for (unsigned k = 0; k < w->disk.n; k++) {
			snprintf(name, sizeof(name), "file%u", k);
			state_begin(o, name);
			save_file(o, &w->disk.files[k]);
			state_end(o);
		}
		state_end(o);
	}
	state_end(o);
}

/* --- restoring --- */

/* For people's eyes; the file may be hostile, and a name may hold anything but '/'. */
static char *printable(const char *s)
{
	char *copy = xstrdup(s ? s : "");

	for (char *p = copy; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	return copy;
}

static void load_file(struct state_in *in, struct disk_identity *id, struct disk_file *f)
{
	const char *name = "", *kind = "", *mark = "";
	uint64_t mtime, ctime;
	uint8_t known;

	state_get_u32(in, "layer", &f->layer);
	state_get_str(in, "name", &name);
	state_get_str(in, "kind", &kind);
	state_get_str(in, "mark", &mark);
	state_get_u8(in, "known", &known);
	state_get_u64(in, "size", &f->at.size);
	state_get_u64(in, "device", &f->at.dev);
	state_get_u64(in, "inode", &f->at.ino);
	state_get_u64(in, "mtime", &mtime);
	state_get_u64(in, "ctime", &ctime);
	f->at.known = known;
	f->at.mtime = mtime;
	f->at.ctime = ctime;
	f->name = printable(name);
	f->kind = printable(kind);
	f->mark = printable(mark);
	if (f->layer > id->layers)
		state_bad(in, "layer %u after %u", f->layer, id->layers);
	else
		id->layers = MAX(id->layers, f->layer + 1);
}

static void load_drive(struct state_in *in, struct drive_was *w)
{
	uint32_t files;
	const char *id;
	uint8_t medium, lost;
	char name[24];

	if (state_get_str(in, "id", &id) < 0)
		return;
	w->id = printable(id);
	state_get_u8(in, "medium", &medium);
	state_get_u8(in, "lost", &lost);
	state_get_u32(in, "files", &files);
	w->medium = medium;
	w->disk.lost = lost;
	if (files > FILES_MAX) {
		state_bad(in, "%u files", files);
		return;
	}
	w->disk.files = xcalloc(files ? files : 1, sizeof(*w->disk.files));
	for (uint32_t i = 0; i < files && !state_in_error(in); i++) {
		snprintf(name, sizeof(name), "file%u", i);
		if (state_enter(in, name) < 0)
			return;
		w->disk.n++;
		load_file(in, &w->disk, &w->disk.files[i]);
		state_leave(in);
	}
}

static enum disk_verdict compare_drive(const struct drive_was *was, struct machine_drive *now,
				       char *why, size_t len)
{
	struct disk_identity id;
	enum disk_verdict v;

	if (!now) {
		snprintf(why, len, "this machine has no drive of that name");
		return DISK_UNKNOWN;
	}
	if (was->medium != (now->blk != NULL)) {
		snprintf(why, len, was->medium ? "it is empty now and held '%s'"
					       : "it was empty and holds '%s' now",
			 was->medium ? was->disk.n ? was->disk.files[0].name : "a medium"
				     : blk_filename(now->blk));
		return DISK_CHANGED;
	}
	if (!now->blk)
		return DISK_SAME;
	disk_identity_get(now->blk, true, &id);
	v = disk_identity_compare(&was->disk, &id, why, len);
	disk_identity_free(&id);
	return v;
}

static void check_drive(struct machine *m, const struct drive_was *was, struct state_in *in,
			bool strict)
{
	char why[1200];
	enum disk_verdict v = compare_drive(was, machine_find_drive(m, was->id), why, sizeof(why));

	if (v == DISK_CHANGED && strict)
		state_bad(in, "drive '%s' is not what it was when the machine was saved: %s "
			      "(strict=on)", was->id, why);
	else if (v == DISK_CHANGED)
		log_warn("drive '%s' is not what it was when the machine was saved: %s; the guest "
			 "does not know and may destroy what it holds", was->id, why);
	else if (v != DISK_SAME)
		log_warn("drive '%s' of the saved machine: %s", was->id, why);
}

void machine_disks_check(struct machine *m, struct state_in *in, bool strict)
{
	struct machine_disks *d;
	uint32_t n;

	if (state_try_enter(in, "disks") < 0) {
		if (strict && m->ndrives)
			log_warn("the saved machine does not say what its disks held: whether they "
				 "were changed cannot be told");
		return;
	}
	d = xcalloc(1, sizeof(*d));
	if (state_get_u32(in, "drives", &n) == 0 && n > ARRAY_SIZE(d->drives))
		state_bad(in, "%u drives", n);
	for (uint32_t i = 0; i < n && !state_in_error(in); i++) {
		char name[24];

		snprintf(name, sizeof(name), "drive%u", i);
		if (state_enter(in, name) < 0)
			break;
		d->n++;
		load_drive(in, &d->drives[i]);
		if (!state_in_error(in))
			check_drive(m, &d->drives[i], in, strict);
		state_leave(in);
	}
	state_leave(in);
	machine_disks_free(d);
}
