/* SPDX-License-Identifier: GPL-2.0-or-later */
/* create.c: create, amend, resize, measure. */
#include <errno.h>
#include <stdlib.h>

#include "disk/formats.h"
#include "disk/name.h"
#include "tools/img/img.h"

/* --- create --- */

struct create {
	struct args *a;
	const char *format, *filename;
	char *backing, *backing_format;
	struct optlist opts;
	uint64_t size;
	bool has_size;
};

/* Where an option comes in the line below: QEMU's order for qcow2, the table's for the rest. */
static int option_rank(const char *name)
{
	static const char *const first[] = { "encrypt",	      "cluster_size",	  "extended_l2",
					     "preallocation", "compression_type", "size",
					     "compat",	      "backing_file",	  "backing_fmt",
					     "data_file",     "data_file_raw",	  "lazy_refcounts",
					     "refcount_bits" };

	for (unsigned i = 0; i < ARRAY_SIZE(first); i++)
		if (!strcmp(name, first[i]) ||
		    (i == 0 && !strncmp(name, first[i], strlen(first[i]))))
			return i;
	return ARRAY_SIZE(first);
}

static int compare_rank(const void *a, const void *b)
{
	const struct node_opt *x = *(const struct node_opt *const *)a,
			      *y = *(const struct node_opt *const *)b;
	int r = option_rank(x->name) - option_rank(y->name);

	return r ? r : x < y ? -1 : x > y;
}

/*
 * "Formatting 'x', fmt=qcow2 size=..": options in the format's order, with the defaults it shows.
 */
static void print_formatting(const struct create *c, const struct node_ops *ops)
{
	static const struct node_opt only_size[] = { { "size", "size", "", NULL, false },
						     { NULL, NULL, NULL, NULL, false } };
	const struct node_opt *list[128];
	bool size_shown = false;
	int n = 0;

	for (const struct node_opt *o = ops->create_opts ? ops->create_opts : only_size;
	     o->name && n < 128; o++)
		list[n++] = o;
	if (!strcmp(ops->format, "qcow2"))
		qsort(list, n, sizeof(*list), compare_rank);
	printf("Formatting '%s', fmt=%s", c->filename, ops->format);
	for (int i = 0; i < n; i++) {
		const struct node_opt *o = list[i];
		const char *v = optlist_get(&c->opts, o->name);
		uint64_t bytes;

		if (!strcmp(o->name, "size")) {
			printf(" size=%llu", (unsigned long long)c->size);
			size_shown = true;
			continue;
		}
		if (!strcmp(o->name, "backing_file"))
			v = c->backing;
		else if (!strcmp(o->name, "backing_fmt"))
			v = c->backing_format;
		if (!v)
			v = o->def;
		if (!v)
			continue;
		if (!strcmp(o->type, "size") && parse_bytes(v, &bytes) == 0) {
			printf(" %s=%llu", o->name, (unsigned long long)bytes);
			continue;
		}
		printf(" %s=", o->name);
		for (; *v; v++)		/* as it would be written after -o */
			printf(*v == ',' ? ",," : "%c", *v);
	}
	if (!size_shown)
		printf(" size=%llu", (unsigned long long)c->size);
	/* Those of the host's file come last. */
	for (int i = 0; i < c->opts.n; i++)
		if (file_hint_is(c->opts.v[i])) {
			bool sized = !strncmp(c->opts.v[i], "extent", 6);
			uint64_t bytes;

			if (sized && parse_bytes(strchr(c->opts.v[i], '=') + 1, &bytes) == 0)
				printf(" extent_size_hint=%llu", (unsigned long long)bytes);
			else
				printf(" %s", c->opts.v[i]);
		}
	printf("\n");
	fflush(stdout);
}

/* Is the backing file the image that is to be made? That would be emptied. */
static bool own_backing(const struct create *c)
{
	const struct node over = { .filename = (char *)c->filename, .backing_name = c->backing };
	char *path = node_backing_path(&over);
	bool same = !strcmp(c->backing, c->filename) ||
		    name_same_file(&img_host, path, c->filename);

	free(path);
	return same;
}

static int probe_backing(struct create *c)
{
	bool unsafe = arg_has(c->a, "-u");
	struct err err = { 0 };
	struct node over = { .filename = (char *)c->filename, .backing_name = c->backing };
	struct node *b;
	char *path;

	if (unsafe) {
		if (!c->backing_format)
			return fail("%s: Backing file specified without backing format",
				    c->filename);
		return 0;
	}
	path = node_backing_path(&over);
	b = img_open_layer(c->a, path ? path : c->backing, c->backing_format,
			   c->backing_format ? 0 : BLK_NO_IO, &err);
	free(path);
	if (!b)
		return fail("%s: %s\nCould not open backing image.", c->filename, err.msg);
	if (!c->backing_format) {
		fail("%s: Backing file specified without backing format\nDetected format of %s.",
		     c->filename, b->ops->format);
		node_unref(b);
		return 1;
	}
	if (!c->has_size) {
		c->size = b->size;
		c->has_size = true;
	}
	node_unref(b);
	return 0;
}

static int create_options(struct create *c)
{
	struct args *a = c->a;
	char *s;

	if (args_optlist(a, &c->opts))
		return 1;
	if (arg_has(a, "-6"))
		optlist_set(&c->opts, "compat6", "on");
	s = optlist_take(&c->opts, "size");
	if (s) {
		int bad = size_arg(s, &c->size) < 0;

		free(s);
		if (bad)
			return 1;
		c->has_size = true;
	}
	c->backing = optlist_take(&c->opts, "backing_file");
	c->backing_format = optlist_take(&c->opts, "backing_fmt");
	if (arg_get(a, "-b")) {
		free(c->backing);
		c->backing = xstrdup(arg_get(a, "-b"));
	}
	if (arg_get(a, "-F")) {
		free(c->backing_format);
		c->backing_format = xstrdup(arg_get(a, "-F"));
	}
	if (a->n > 1 && c->has_size)
		return fail("%s: The image size must be specified only once", c->filename);
	if (a->n > 1) {
		if (size_arg(a->operand[1], &c->size) < 0)
			return 1;
		c->has_size = true;
	}
	if (a->n > 2)
		return fail("Unexpected argument: %s", a->operand[2]);
	return 0;
}

/* Names, and what is on or off; the rest only the format can judge. */
static int check_options(struct create *c, const struct node_ops *ops)
{
	for (int i = 0; i < c->opts.n; i++) {
		int len = strcspn(c->opts.v[i], "=");
		bool v;

		if (!node_create_takes(ops, c->opts.v[i]))
			return fail("%s: Invalid parameter '%.*s'", c->filename, len, c->opts.v[i]);
		for (const struct node_opt *o = ops->create_opts; o && o->name; o++)
			if ((int)strlen(o->name) == len && !strncmp(o->name, c->opts.v[i], len) &&
			    !strncmp(o->type, "bool", 4) && parse_bool(c->opts.v[i] + len + 1, &v))
				return fail("%s: Parameter '%s' expects 'on' or 'off'", c->filename,
					    o->name);
	}
	return 0;
}

static int create_image(struct create *c)
{
	const struct node_ops *ops = node_format_find(c->format);
	struct err err = { 0 };

	if (!ops)
		return fail("%s: Unknown file format '%s'", c->filename, c->format);
	if (!ops->create)
		return fail("%s: Format driver '%s' does not support image creation", c->filename,
			    ops->format);
	if (name_is_json(c->filename))
		return fail("%s: Unknown protocol 'json'", c->filename);
	if (create_options(c))
		return 1;
	if (c->backing && !node_create_takes(ops, "backing_file"))
		return fail("%s: Backing file not supported for file format '%s'", c->filename,
			    ops->format);
	if (c->backing && !*c->backing)
		return fail("%s: Expected backing file name, got empty string", c->filename);
	if (c->backing_format && !c->backing)
		return fail("%s: Backing format cannot be used without backing file", c->filename);
	if (c->backing_format && !node_format_find(c->backing_format))
		return fail("%s: Unknown driver '%s'\nCould not open backing image.", c->filename,
			    c->backing_format);
	if (check_options(c, ops))
		return 1;
	if (c->backing && *c->backing && own_backing(c))
		return fail("%s: Error: Trying to create an image with the same filename as the "
			    "backing file", c->filename);
	if (c->backing && *c->backing && probe_backing(c))
		return 1;
	if (!c->has_size)
		return fail("%s: Image creation needs a size parameter", c->filename);
	if (!args_quiet(c->a))
		print_formatting(c, ops);
	if (img_create(c->a, c->format, c->filename, c->size, c->backing, c->backing_format,
		       &c->opts, &err) < 0)
		return fail("%s: %s", c->filename, err.msg);
	outputs_keep();
	return 0;
}

int cmd_create(struct args *a)
{
	struct create c = { .a = a, .format = arg_get(a, "-f") };
	int ret;

	if (!c.format)
		c.format = "raw";
	for (int i = 0; i < a->nset; i++)
		if (!strcmp(a->set[i].name, "-o") && optlist_help(a->set[i].value))
			return print_format_help(c.format, a->n > 0, false);
	if (a->n == 0)
		return usage_error("Expecting image file name");
	c.filename = a->operand[0];
	ret = create_image(&c);
	free(c.backing);
	free(c.backing_format);
	optlist_free(&c.opts);
	return ret;
}

/* --- amend --- */

int cmd_amend(struct args *a)
{
	const char *format = arg_get(a, "-f");
	struct optlist opts = { 0 }, files = { 0 };
	struct err err = { 0 };
	struct node *n = NULL;
	bool ok, help = false;
	int flags = cache_flags(arg_get(a, "-t"), "writeback", &ok), ret = 1;

	if (!ok)
		return fail("Invalid cache option: %s", arg_get(a, "-t"));
	for (int i = 0; i < a->nset; i++)
		help |= !strcmp(a->set[i].name, "-o") && optlist_help(a->set[i].value);
	if (help && format)
		return print_format_help(format, false, true);
	if (!arg_get(a, "-o"))
		return usage_error("Must specify options (-o)");
	if (a->n != 1)
		return usage_error("Expecting one image file name");
	if (args_optlist(a, &opts))
		goto out;
	n = img_open(a, a->operand[0], format, BLK_RDWR | flags);
	if (!n)
		goto out;
	if (help) {
		ret = print_format_help(n->ops->format, false, true);
		goto out;
	}
	if (secrets_to_files(&opts, &files, &err)) {
		fail("%s", err.msg);
		goto out;
	}
	progress_start(arg_has(a, "-p") && !args_quiet(a), 0);
	ret = node_amend(n, (const char *const *)files.v, arg_has(a, "--force"), &err) < 0
		      ? fail("%s", err.msg)
		      : 0;
	if (ret == 0 && node_flush(n) < 0)
		ret = fail("could not write '%s'", a->operand[0]);
	progress_end();
out:
	node_unref(n);
	optlist_free(&opts);
	optlist_free(&files);
	return ret;
}

/* --- resize --- */

static int new_size(struct node *n, const char *s, uint64_t *size)
{
	int sign = *s == '+' ? 1 : *s == '-' ? -1 : 0;
	uint64_t v;

	if (parse_bytes(sign ? s + 1 : s, &v) < 0) {
		fail("Parameter 'size' expects a non-negative number below 2^64\nOptional suffix "
		     "k, M, G, T, P or E means kilo-, "
		     "mega-, giga-, tera-, peta-\nand exabytes, respectively.");
		return -EINVAL;
	}
	if (sign > 0 && v > INT64_MAX - n->size)
		v = UINT64_MAX;
	else if (sign > 0)
		v += n->size;
	else if (sign < 0)
		v = v <= n->size ? n->size - v : 0;
	if (v == 0 || v > INT64_MAX) {
		fail("New image size must be positive%s", v ? " and below 8 EiB" : "");
		return -EINVAL;
	}
	*size = v;
	return 0;
}

static int resize_image(struct args *a, struct node *n, const char *size_text)
{
	const char *mode = arg_get(a, "--preallocation");
	struct err err = { 0 };
	uint64_t size, old = n->size;

	if (new_size(n, size_text, &size) < 0)
		return 1;
	if (size < old && !arg_has(a, "--shrink")) {
		fail("Use the --shrink option to perform a shrink operation.");
		return fail("warning: Shrinking an image will delete all data beyond the shrunken "
			    "image's end. Before performing such an "
			    "operation, make sure there is no important data there.");
	}
	if (size <= old && mode && strcmp(mode, "off"))
		return fail("Preallocation can only be used for growing images");
	if (!n->ops->resize)
		return fail("Image format driver '%s' does not support resize", n->ops->format);
	if (mode && strcmp(mode, "off") && strcmp(mode, "metadata") && strcmp(mode, "falloc") &&
	    strcmp(mode, "full"))
		return fail("Invalid preallocation mode '%s'", mode);
	if (mode && strcmp(mode, "off") && !n->ops->preallocate)
		return fail("Unsupported preallocation mode '%s' for format %s", mode,
			    n->ops->format);
	/* Refused before the size changes, if it must be. */
	if (mode && strcmp(mode, "off") && n->ops->preallocate(n, old, 0, mode, &err) < 0)
		return fail("%s", err.msg);
	if (node_resize(n, size, &err) < 0)
		return fail("%s", err.msg);
	if (mode && strcmp(mode, "off") && n->ops->preallocate(n, old, size - old, mode, &err) < 0)
		return fail("%s", err.msg);
	if (node_flush(n) < 0)
		return fail("could not write '%s'", n->filename);
	if (!args_quiet(a))
		printf("Image resized.\n");
	return 0;
}

int cmd_resize(struct args *a)
{
	struct node *n;
	int ret;

	if (a->n < 2)
		return usage_error("Not enough arguments");
	if (a->n != 2)
		return usage_error("Expecting image file name and size");
	n = img_open(a, a->operand[0], arg_get(a, "-f"), BLK_RDWR);
	if (!n)
		return 1;
	ret = resize_image(a, n, a->operand[1]);
	node_unref(n);
	return ret;
}

/* --- measure --- */

static int measure_print(const struct node_measure *m, int output)
{
	if (output) {
		json_t *j = json_pack("{s:I, s:I}", "required", (json_int_t)m->required,
				      "fully-allocated", (json_int_t)m->fully_allocated);

		if (m->has_bitmaps)
			json_object_set_new(j, "bitmaps", json_integer(m->bitmaps));
		json_print(j);
		json_decref(j);
		return 0;
	}
	printf("required size: %llu\nfully allocated size: %llu\n", (unsigned long long)m->required,
	       (unsigned long long)m->fully_allocated);
	if (m->has_bitmaps)
		printf("bitmaps size: %llu\n", (unsigned long long)m->bitmaps);
	return 0;
}

static int measure_image(struct args *a, const char *format, uint64_t size, struct node *n,
			 int output)
{
	const struct node_ops *ops = node_format_find(format);
	struct node_measure m = { 0 };
	struct optlist opts = { 0 };
	struct err err = { 0 };
	int ret;

	if (!ops)
		return fail("Unknown file format '%s'", format);
	if (!ops->measure && strcmp(ops->format, "raw"))
		return fail("Block driver '%s' does not support size measurement", ops->format);
	ret = args_optlist(a, &opts);
	if (!ret && !ops->measure)
		m.required = m.fully_allocated = ALIGN_UP(size, 512ull);
	else if (!ret && ops->measure((const char *const *)opts.v, size, n, &m, &err) < 0)
		ret = fail("%s", err.msg);
	optlist_free(&opts);
	return ret ? ret : measure_print(&m, output);
}

int cmd_measure(struct args *a)
{
	const char *format = arg_get(a, "-O"), *s = arg_get(a, "--size");
	int output = args_output(a), ret = 1;
	struct node *n = NULL;
	uint64_t size = 0;

	if (output < 0)
		return 1;
	if (s && size_arg(s, &size) < 0)
		return 1;
	if (a->n > 1)
		return fail("At most one filename argument is allowed.");
	if (!a->n && (arg_get(a, "-f") || arg_get(a, "-l") || arg_has(a, "--image-opts")))
		return fail("--image-opts, -f, and -l can only be used with a filename argument.");
	if (s && a->n)
		return fail("--size N cannot be used together with a filename.");
	if (!s && !a->n)
		return fail("Either --size N or one filename must be specified.");
	if (a->n) {
		n = img_open(a, a->operand[0], arg_get(a, "-f"), 0);
		if (!n)
			return 1;
		if (arg_get(a, "-l") && img_load_snapshot(n, arg_get(a, "-l")))
			goto out;
		size = n->size;
	}
	ret = measure_image(a, format ? format : "raw", size, n, output);
out:
	node_unref(n);
	return ret;
}
