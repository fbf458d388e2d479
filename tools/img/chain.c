/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * chain.c: commit and rebase: moving data along a chain of backing files, or a chain onto another
 * base.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "disk/name.h"
#include "tools/img/img.h"
#include "vmm/base/iov.h"

#define STEP (1 * MiB)

/* --- commit --- */

struct commit {
	struct args *a;
	/* from the top down to the one above the base, each without its backing file */
	struct node *layer[64];
	int n;
	struct node *base;
	uint64_t rate;
	int64_t started;
	uint64_t copied;
};

/* What opens the file below an image: a stranger may have written its name, unless -b gave it. */
static struct host backing_door(const struct node *n)
{
	return n->backing_said ? *n->host : node_names(n);
}

/* Opens the layers above the base and then the base for writing. */
static int open_chain(struct commit *c, const char *filename, unsigned flags)
{
	const char *format = arg_get(c->a, "-f"), *wanted = arg_get(c->a, "-b");
	char *path = NULL;
	struct err err = { 0 };
	bool found = false;
	struct host door;

	while (!found) {
		struct node *n;

		if (c->n == (int)ARRAY_SIZE(c->layer)) {
			free(path);
			return fail("the chain of backing files has more than %d members", c->n);
		}
		if (c->n)
			door = backing_door(c->layer[c->n - 1]);
		if (c->n == 0)
			n = img_open(c->a, filename, format, BLK_NO_BACKING | BLK_RDWR | flags);
		else if (!(n = img_open_below(c->a, &door, path, format, BLK_NO_BACKING | flags,
					      &err)))
			fail("Could not open '%s': %s", path, err.msg);
		free(path);
		if (!n)
			return 1;
		c->layer[c->n++] = n;
		path = node_backing_path(n);
		if (!path && wanted)
			return fail("Did not find '%s' in the backing chain of '%s'", wanted,
				    filename);
		if (!path)
			return fail("Image does not have a backing file");
		format = n->backing_format;
		found = !wanted || name_is_backing(n, wanted);
	}
	door = wanted ? img_host : backing_door(c->layer[c->n - 1]);
	c->base = img_open_below(c->a, &door, path, format, BLK_RDWR | flags, &err);
	if (!c->base)
		fail("Could not open '%s': %s", path, err.msg);
	free(path);
	return c->base ? 0 : 1;
}

/* The layer that decides about [off, off + *len); NULL: the base. */
static int find_layer(struct commit *c, uint64_t off, uint64_t *len, struct node **n,
		      struct extent *x)
{
	*n = NULL;
	for (int i = 0; i < c->n; i++) {
		int ret;

		if (off >= c->layer[i]->size) {
			/*
			 * A shorter image in between: it ends, and what lies below does not show.
			 */
			*x = (struct extent){ .len = *len, .flags = EXT_ZERO | EXT_ALLOCATED };
			*n = c->layer[i];
			return 0;
		}
		ret = node_extent(c->layer[i], off, *len, x);
		if (ret < 0)
			return ret;
		*len = MIN(*len, x->len);
		if (x->flags & EXT_ALLOCATED) {
			*n = c->layer[i];
			return 0;
		}
	}
	return 0;
}

static void commit_pace(struct commit *c, uint64_t bytes)
{
	int64_t due;

	c->copied += bytes;
	if (!c->rate)
		return;
	due = c->started + (int64_t)((double)c->copied / c->rate * NS_PER_SEC) - now_ns();
	if (due > 0)
		nanosleep(&(struct timespec){ due / NS_PER_SEC, due % NS_PER_SEC }, NULL);
}

static int commit_data(struct commit *c)
{
	struct node *top = c->layer[0];
	uint8_t *buf = img_buffer(STEP);
	struct err err = { 0 };
	int ret = 0;

	if (!buf)
		return fail("no memory");
	if (top->size > c->base->size && node_resize(c->base, top->size, &err) < 0) {
		free(buf);
		return fail("Could not grow the backing file: %s", err.msg);
	}
	for (uint64_t off = 0, len; off < top->size && ret == 0; off += len) {
		struct extent x = { 0 };
		struct node *n;

		len = top->size - off;
		if (stop_requested()) {
			ret = -ECANCELED;
			break;
		}
		ret = find_layer(c, off, &len, &n, &x);
		if (ret == 0 && n && x.flags & EXT_ZERO) {
			ret = node_zeroes(c->base, off, len, BLK_UNMAP);
		} else if (ret == 0 && n) {
			len = MIN(len, STEP);
			ret = node_pread(n, buf, len, off);
			if (ret == 0)
				ret = node_pwrite(c->base, buf, len, off);
			commit_pace(c, len);
		}
		progress_add(len);
	}
	free(buf);
	if (ret == 0)
		ret = node_flush(c->base);
	if (ret < 0 && !stop_requested())
		fail("Error while committing: %s", strerror(-ret));
	return ret < 0;
}

int cmd_commit(struct args *a)
{
	struct commit c = { .a = a, .started = now_ns() };
	const char *rate = arg_get(a, "-r");
	bool ok, keep = arg_has(a, "-d") || arg_get(a, "-b");
	int flags = cache_flags(arg_get(a, "-t"), "writeback", &ok), ret;

	if (!ok)
		return fail("Invalid cache option: %s", arg_get(a, "-t"));
	if (rate && parse_bytes(rate, &c.rate) < 0)
		return fail("Invalid rate limit '%s'", rate);
	if (a->n != 1)
		return usage_error("Expecting one image file name");
	ret = open_chain(&c, a->operand[0], flags);
	if (!ret) {
		progress_start(arg_has(a, "-p") && !args_quiet(a), c.layer[0]->size);
		ret = commit_data(&c);
	}
	if (!ret && !keep && c.layer[0]->ops->make_empty) {
		int e = c.layer[0]->ops->make_empty(c.layer[0]);

		if (e == 0)
			e = node_flush(c.layer[0]);
		if (e < 0)
			ret = fail("Could not empty %s: %s", a->operand[0], strerror(-e));
	}
	node_unref(c.base);
	for (int i = 0; i < c.n; i++)
		node_unref(c.layer[i]);
	if (ret)
		return ret;
	progress_end();
	if (!args_quiet(a))
		printf("Image committed.\n");
	return 0;
}

/* --- rebase --- */

/* Writes into the overlay what the old chain shows there and the new one does not. */
static int rebase_copy(struct node *n, struct node *to)
{
	uint8_t *a = img_buffer(STEP), *b = img_buffer(STEP);
	struct node_info info = { 0 };
	uint64_t grain = 64 * KiB;
	int ret = a && b ? 0 : -ENOMEM;

	if (n->ops->info)
		n->ops->info(n, &info);
	json_decref(info.specific);
	if (info.cluster_size)
		grain = MIN(info.cluster_size, STEP);
	for (uint64_t off = 0, len; off < n->size && ret == 0; off += len) {
		struct extent x;

		len = MIN(n->size - off, STEP - off % STEP);
		if (stop_requested()) {
			ret = -ECANCELED;
			break;
		}
		ret = node_extent(n, off, n->size - off, &x);
		if (ret < 0)
			break;
		if (x.flags & EXT_ALLOCATED) {
			len = x.len;
			progress_add(len);
			continue;
		}
		len = MIN(len, x.len);
		ret = node_pread(n, a, len, off);
		if (ret == 0) {
			memset(b, 0, len);
			if (to && off < to->size)
				ret = node_pread(to, b, MIN(len, to->size - off), off);
		}
		for (uint64_t at = 0; at < len && ret == 0; at += grain) {
			uint64_t part = MIN(grain, len - at);

			if (!memcmp(a + at, b + at, part))
				continue;
			if (buf_is_zero(a + at, part))
				ret = node_zeroes(n, off + at, part, 0);
			else
				ret = node_pwrite(n, a + at, part, off + at);
		}
		progress_add(len);
	}
	free(a);
	free(b);
	return ret;
}

/* Would the image be its own backing file, by whatever name? */
static bool names_itself(const struct node *n, const struct node *over)
{
	char *path = node_backing_path(over);
	bool same = name_is_node(n, path);

	free(path);
	return same;
}

static int rebase_to(struct args *a, struct node *n, const char *name, const char *format,
		     unsigned src_flags)
{
	struct node over = { .filename = n->filename, .backing_name = (char *)name };
	struct err err = { 0 };
	struct node *to = NULL;
	int ret = 0;

	if (*name && names_itself(n, &over))
		return fail("Could not change the backing file to '%s': that is the image itself",
			    name);
	if (!arg_has(a, "-u")) {
		char *path = *name ? node_backing_path(&over) : NULL;

		if (path) {
			to = img_open_layer(a, path, format, src_flags, &err);
			if (!to)
				fail("Could not open new backing file '%s': %s", name, err.msg);
		}
		free(path);
		if (!to && *name)
			return 1;
		if (!format && to && *name)
			format = to->ops->format;
		/*
		 * Where the image has no backing file yet, its zeros are written down before the
		 * new one can show through.
		 */
		n->record_zeros = to;
		ret = rebase_copy(n, to);
		n->record_zeros = false;
		node_unref(to);
		if (ret == 0)
			ret = node_flush(n);
		if (ret < 0)
			return stop_requested() ? 1
						: fail("error while rebasing: %s", strerror(-ret));
	}
	if (*name && !format)
		return fail("Could not change the backing file to '%s': backing format must be "
			    "specified",
			    name);
	if (n->ops->set_backing(n, *name ? name : NULL, *name ? format : NULL, &err) < 0 ||
	    node_flush(n) < 0)
		return fail("Could not change the backing file to '%s': %s", name,
			    err.msg[0] ? err.msg : "write error");
	return 0;
}

int cmd_rebase(struct args *a)
{
	const char *name = arg_get(a, "-b"), *format = arg_get(a, "-F");
	bool ok, unsafe = arg_has(a, "-u");
	int flags = cache_flags(arg_get(a, "-t"), "writeback", &ok), src_flags, ret;
	struct node *n;

	if (!ok)
		return fail("Invalid cache option: %s", arg_get(a, "-t"));
	src_flags = cache_flags(arg_get(a, "-T"), "writeback", &ok);
	if (!ok)
		return fail("Invalid source cache option: %s", arg_get(a, "-T"));
	if (a->n != 1)
		return usage_error("Expecting one image file name");
	if (!unsafe && !name)
		return usage_error("Must specify backing file (-b) or use unsafe mode (-u)");
	n = img_open(a, a->operand[0], arg_get(a, "-f"),
		     BLK_RDWR | flags | (unsafe ? BLK_NO_BACKING : 0));
	if (!n)
		return 1;
	if (format && !node_format_find(format))
		ret = fail("Invalid format name: '%s'", format);
	else if (!n->ops->set_backing)
		ret = fail("Could not change the backing file to '%s': the format %s has no "
			   "backing files",
			   name ? name : "", n->ops->format);
	else {
		progress_start(arg_has(a, "-p") && !args_quiet(a), n->size);
		ret = rebase_to(a, n, name ? name : "", format, src_flags);
	}
	node_unref(n);
	if (!ret)
		progress_end();
	return ret;
}
