/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * info.c: info and snapshot. info opens the image itself, and its backing files only when
 * --backing-chain asks for them.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/time.h>

#include "tools/img/img.h"

static json_t *snapshots_json(const struct node_snapshot *list, int count)
{
	json_t *a = json_array();

	for (int i = 0; i < count; i++)
		json_array_append_new(a, snapshot_json(&list[i]));
	return a;
}

struct image {
	struct node *n;
	struct node_info info;
	struct node_snapshot *snaps;
	int nsnaps;
	char *full_backing;
	int64_t actual;
};

static json_t *image_json(struct image *im)
{
	struct node *n = im->n;
	json_t *j = json_object();

	json_object_set_new(j, "filename", json_string(n->filename));
	json_object_set_new(j, "format", json_string(n->ops->format));
	json_object_set_new(j, "virtual-size", json_integer(n->size));
	if (im->actual >= 0)
		json_object_set_new(j, "actual-size", json_integer(im->actual));
	if (strcmp(n->ops->format, "parallels"))
		json_object_set_new(j, "dirty-flag", json_boolean(im->info.dirty));
	if (im->info.cluster_size)
		json_object_set_new(j, "cluster-size", json_integer(im->info.cluster_size));
	if (im->info.encrypted)
		json_object_set_new(j, "encrypted", json_true());
	if (im->info.compressed)
		json_object_set_new(j, "compressed", json_true());
	if (n->backing_name && *n->backing_name) {
		json_object_set_new(j, "backing-filename", json_string(n->backing_name));
		json_object_set_new(j, "full-backing-filename", json_string(im->full_backing));
		if (n->backing_format && *n->backing_format)
			json_object_set_new(j, "backing-filename-format",
					    json_string(n->backing_format));
	}
	if (im->nsnaps)
		json_object_set_new(j, "snapshots", snapshots_json(im->snaps, im->nsnaps));
	if (im->info.specific)
		json_object_set_new(
			j, "format-specific",
			json_pack("{s:s, s:O}", "type", n->ops->format, "data", im->info.specific));
	return j;
}

static void image_print(struct image *im)
{
	struct node *n = im->n;
	char *virt = size_human(n->size),
	     *disk = im->actual >= 0 ? size_human(im->actual) : xstrdup("unavailable");

	printf("image: %s\nfile format: %s\nvirtual size: %s (%llu bytes)\ndisk size: %s\n",
	       n->filename, n->ops->format, virt, (unsigned long long)n->size, disk);
	free(virt);
	free(disk);
	if (im->info.encrypted)
		printf("encrypted: yes\n");
	if (im->info.cluster_size)
		printf("cluster_size: %u\n", im->info.cluster_size);
	if (im->info.dirty)
		printf("cleanly shut down: no\n");
	if (n->backing_name && *n->backing_name) {
		printf("backing file: %s", n->backing_name);
		if (strcmp(n->backing_name, im->full_backing))
			printf(" (actual path: %s)", im->full_backing);
		printf("\n");
		if (n->backing_format && *n->backing_format)
			printf("backing file format: %s\n", n->backing_format);
	}
	if (im->nsnaps) {
		snapshot_print_head();
		for (int i = 0; i < im->nsnaps; i++)
			snapshot_print(&im->snaps[i]);
	}
	if (im->info.specific && json_object_size(im->info.specific)) {
		printf("Format specific information:\n");
		json_print_text(im->info.specific, 1);
	}
}

static int image_read(struct image *im)
{
	struct node *n = im->n;
	int ret;

	if (n->ops->info) {
		ret = n->ops->info(n, &im->info);
		if (ret < 0)
			return fail("Could not read information of '%s': %s", n->filename,
				    strerror(-ret));
	}
	if (n->ops->snapshot_list) {
		ret = n->ops->snapshot_list(n, &im->snaps, &im->nsnaps);
		if (ret < 0 && ret != -ENOTSUP)
			return fail("Could not read the snapshots of '%s': %s", n->filename,
				    strerror(-ret));
	}
	im->full_backing = node_backing_path(n);
	if (!im->full_backing)
		im->full_backing = xstrdup("");
	im->actual = node_actual_size(n, &im->info);
	return 0;
}

static void image_free(struct image *im)
{
	node_unref(im->n);
	json_decref(im->info.specific);
	free(im->snaps);
	free(im->full_backing);
}

/* The host files a chain has come through. */
struct seen { struct stat *st; int n; };

/* Has the chain come back to the file of this layer? */
static bool seen_before(struct seen *s, const struct node *n)
{
	struct stat st;

	if (!n->file || n->file->fd < 0 || fstat(n->file->fd, &st) < 0)
		return false;
	for (int i = 0; i < s->n; i++)
		if (s->st[i].st_dev == st.st_dev && s->st[i].st_ino == st.st_ino)
			return true;
	s->st = xrealloc(s->st, (s->n + 1) * sizeof(st));
	s->st[s->n++] = st;
	return false;
}

int cmd_info(struct args *a)
{
	char *name, *format = arg_get(a, "-f") ? xstrdup(arg_get(a, "-f")) : NULL;
	bool chain = arg_has(a, "--backing-chain");
	json_t *list = json_array();
	struct seen seen = { 0 };
	struct err err = { 0 };
	struct node *above = NULL;
	int output = args_output(a), n = 0, ret = 0;

	if (output < 0 || a->n != 1) {
		json_decref(list);
		free(format);
		return output < 0 ? 1 : usage_error("Expecting one image file name");
	}
	name = xstrdup(a->operand[0]);
	while (name && !ret) {
		struct image im = { 0 };
		struct host door = above ? node_names(above) : img_host;

		if (above && above->backing_said)
			door = *above->host;
		if (!n)
			im.n = img_open(a, name, format, BLK_NO_IO | BLK_NO_BACKING);
		else if (!(im.n = img_open_below(a, &door, name, format,
						 BLK_NO_IO | BLK_NO_BACKING, &err)))
			fail("Could not open '%s': %s", name, err.msg);
		node_unref(above);
		above = NULL;
		if (im.n && seen_before(&seen, im.n))
			ret = fail("Backing file '%s' creates an infinite loop.", name);
		else
			ret = im.n ? image_read(&im) : 1;
		if (!ret && output)
			json_array_append_new(list, image_json(&im));
		else if (!ret) {
			printf("%s", n ? "\n" : "");
			image_print(&im);
		}
		n++;
		free(name);
		free(format);
		name = !ret && chain && *im.full_backing ? xstrdup(im.full_backing) : NULL;
		format = name && im.n->backing_format ? xstrdup(im.n->backing_format) : NULL;
		if (name) {
			above = im.n;
			node_ref(above);
		}
		if (im.n)
			image_free(&im);
	}
	free(name);
	free(format);
	free(seen.st);
	if (!ret && output)
		json_print(chain ? list : json_array_get(list, 0));
	json_decref(list);
	return ret;
}

/* --- snapshot --- */

static int snapshot_list(struct node *n)
{
	struct node_snapshot *list = NULL;
	int count = 0, ret = 0;

	if (n->ops->snapshot_list)
		ret = n->ops->snapshot_list(n, &list, &count);
	if (ret < 0)
		return fail("Could not read the snapshots of '%s': %s", n->filename,
			    strerror(-ret));
	if (count > 0) {
		snapshot_print_head();
		for (int i = 0; i < count; i++)
			snapshot_print(&list[i]);
	}
	free(list);
	return 0;
}

/* The ID of the snapshot called so: by name first, then (as old scripts do) by ID. NULL: none. */
static char *find_snapshot(struct node *n, const char *name)
{
	struct node_snapshot *list = NULL;
	char *id = NULL;
	int count = 0;

	if (n->ops->snapshot_list(n, &list, &count) < 0)
		return NULL;
	for (int pass = 0; pass < 2 && !id; pass++)
		for (int i = 0; i < count && !id; i++)
			if (!strcmp(pass ? list[i].id : list[i].name, name))
				id = xstrdup(pass ? list[i].id : list[i].name);
	free(list);
	return id;
}

static int snapshot_create(struct node *n, const char *name)
{
	struct node_snapshot s = { 0 };
	struct err err = { 0 };
	struct timeval tv;

	if (strlen(name) >= sizeof(s.name))
		return fail("Could not create snapshot '%s': its name is longer than %zu bytes",
			    name, sizeof(s.name) - 1);
	strcpy(s.name, name);
	gettimeofday(&tv, NULL);
	s.date_sec = tv.tv_sec;
	s.date_nsec = tv.tv_usec * 1000;
	s.icount = 0;
	s.disk_size = n->size;
	if (n->ops->snapshot_create(n, &s, &err) < 0)
		return fail("Could not create snapshot '%s': %s", name, err.msg);
	return 0;
}

static int snapshot_change(struct node *n, char what, const char *name)
{
	static const char *const verb[] = { ['a'] = "apply", ['c'] = "create", ['d'] = "delete" };
	struct err err = { 0 };
	char *found;
	int ret;

	if (!n->ops->snapshot_create)
		return fail("Could not %s snapshot '%s': the format %s has no internal snapshots; "
			    "'%s convert -O qcow2 %s %s.qcow2' "
			    "makes an image that has",
			    verb[(int)what], name, n->ops->format, log_name(), n->filename,
			    n->filename);
	if (what == 'c')
		return snapshot_create(n, name);
	found = find_snapshot(n, name);
	if (!found && what == 'a')
		return fail("Could not apply snapshot '%s': Failed to load snapshot: No such file "
			    "or directory",
			    name);
	if (!found)
		return fail("Could not delete snapshot '%s': snapshot not found", name);
	if (what == 'a')
		ret = n->ops->snapshot_goto(n, found, &err);
	else
		ret = n->ops->snapshot_delete(n, found, &err);
	free(found);
	return ret < 0 ? fail("Could not %s snapshot '%s': %s", verb[(int)what], name, err.msg) : 0;
}

int cmd_snapshot(struct args *a)
{
	char what = 0;
	const char *name = NULL;
	struct node *n;
	int ret;

	for (int i = 0; i < a->nset; i++) {
		const char *o = a->set[i].name;

		if (strcmp(o, "-l") && strcmp(o, "-a") && strcmp(o, "-c") && strcmp(o, "-d"))
			continue;
		if (what)
			return usage_error("Cannot mix '-l', '-a', '-c', '-d'");
		what = o[1];
		name = a->set[i].value;
	}
	if (a->n != 1)
		return usage_error("Expecting one image file name");
	if (!what)
		what = 'l';
	n = img_open(a, a->operand[0], arg_get(a, "-f"), what == 'l' ? BLK_NO_IO : BLK_RDWR);
	if (!n)
		return 1;
	ret = what == 'l' ? snapshot_list(n) : snapshot_change(n, what, name);
	if (!ret && what != 'l' && node_flush(n) < 0)
		ret = fail("could not write '%s'", n->filename);
	node_unref(n);
	return ret;
}
