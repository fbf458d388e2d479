/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * convert.c: convert and dd: sources opened, output made, copied, flushed, and only then left in
 * place.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/img/img.h"

struct convert {
	struct args *a;
	const char *in_format, *out_format, *backing, *backing_format, *out_name, *snapshot;
	struct optlist opts;
	struct copy copy;
	char *opt_backing, *opt_backing_format;
	unsigned src_flags, dst_flags;
	bool no_create;
};

static uint64_t round_sector(uint64_t size)
{
	return ALIGN_UP(size, 512ull);
}

/* The ID of the snapshot of that ID and name, either may be NULL; NULL after a message. */
static char *snapshot_id(struct node *n, const char *id, const char *name)
{
	struct node_snapshot *list = NULL;
	char *found = NULL;
	int count = 0;

	if (n->ops->snapshot_list)
		n->ops->snapshot_list(n, &list, &count);
	for (int i = 0; i < count && !found; i++)
		if ((!id || !strcmp(id, list[i].id)) && (!name || !strcmp(name, list[i].name)))
			found = xstrdup(list[i].id);
	free(list);
	if (!found)
		fail("Failed to load snapshot: Can't find snapshot");
	return found;
}

/* "snapshot.id=1,snapshot.name=x", or a name or ID alone. NULL after a message. */
static char *snapshot_param(struct node *n, const char *s)
{
	struct optlist l = { 0 };
	char *id, *name, *found = NULL;

	if (strncmp(s, "snapshot.", 9))
		return xstrdup(s);
	if (optlist_add(&l, s))
		return NULL;
	id = optlist_take(&l, "snapshot.id");
	name = optlist_take(&l, "snapshot.name");
	if (l.n)
		fail("Failed in parsing snapshot param '%s': it takes snapshot.id and "
		     "snapshot.name",
		     s);
	else
		found = snapshot_id(n, id, name);
	free(id);
	free(name);
	optlist_free(&l);
	return found;
}

int img_load_snapshot(struct node *n, const char *param)
{
	struct err err = { 0 };
	char *name;
	int ret;

	if (!n->ops->snapshot_load_tmp)
		return fail("Failed to load snapshot: format %s has no internal snapshots",
			    n->ops->format);
	name = snapshot_param(n, param);
	if (!name)
		return 1;
	ret = n->ops->snapshot_load_tmp(n, name, &err) < 0
		      ? fail("Failed to load snapshot: %s", err.msg)
		      : 0;
	free(name);
	return ret;
}

static int open_sources(struct convert *cv)
{
	struct copy *c = &cv->copy;
	struct args *a = cv->a;

	c->nsrc = a->n - 1;
	c->src = xcalloc(c->nsrc, sizeof(*c->src));
	c->start = xcalloc(c->nsrc + 1, sizeof(*c->start));
	for (int i = 0; i < c->nsrc; i++) {
		c->src[i] = img_open(a, a->operand[i], cv->in_format, cv->src_flags);
		if (!c->src[i])
			return 1;
		if (cv->snapshot && c->nsrc > 1)
			return fail("No support for concatenating multiple snapshot");
		if (cv->snapshot && img_load_snapshot(c->src[i], cv->snapshot))
			return 1;
		c->start[i + 1] = c->start[i] + round_sector(c->src[i]->size);
	}
	c->total = c->start[c->nsrc];
	return 0;
}

/* Options that are create's own business leave the list. */
static int split_options(struct convert *cv, uint64_t *size)
{
	char *s = optlist_take(&cv->opts, "size");

	*size = cv->copy.total;
	if (s && size_arg(s, size) < 0) {
		free(s);
		return 1;
	}
	free(s);
	cv->opt_backing = optlist_take(&cv->opts, "backing_file");
	cv->opt_backing_format = optlist_take(&cv->opts, "backing_fmt");
	if (!cv->backing)
		cv->backing = cv->opt_backing;
	if (!cv->backing_format)
		cv->backing_format = cv->opt_backing_format;
	return 0;
}

static int make_output(struct convert *cv, const struct node_ops *ops)
{
	struct err err = { 0 };
	uint64_t size;

	if (split_options(cv, &size))
		return 1;
	if (!ops->create)
		return fail("Format driver '%s' does not support image creation", ops->format);
	if (cv->backing && !node_create_takes(ops, "backing_file"))
		return fail("Backing file not supported for file format '%s'", ops->format);
	if (cv->backing && !cv->backing_format)
		return fail("Use of backing file requires explicit backing format");
	if (arg_has(cv->a, "--bitmaps") && !ops->bitmap)
		return fail("Format driver '%s' does not support bitmaps", ops->format);
	if (cv->copy.compressed) {
		const char *prealloc = optlist_get(&cv->opts, "preallocation");

		if (prealloc && strcmp(prealloc, "off"))
			return fail("Compression and preallocation not supported at the same time");
		if (optlist_get(&cv->opts, "encrypt.format") ||
		    optlist_get(&cv->opts, "encryption"))
			return fail("Compression and encryption not supported at the same time");
	}
	if (img_create(cv->a, cv->out_format, cv->out_name, size, cv->backing, cv->backing_format,
		       &cv->opts, &err) < 0)
		return fail("%s: error while converting %s: %s", cv->out_name, cv->out_format,
			    err.msg);
	return 0;
}

/* Were its blocks all laid out when it was made? Then what the file held before shows through. */
static bool laid_out(const struct optlist *opts)
{
	static const char *const names[] = { "preallocation", "static", "subformat" };

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		const char *v = optlist_get(opts, names[i]);

		if (v && strcmp(v, "off"))
			return true;
	}
	return false;
}

/*
 * Does fresh output read as zeros? Not a block device, not encrypted blocks, and not an image that
 * existed before.
 */
static bool reads_as_zeros(const struct convert *cv)
{
	const char *format = cv->copy.dst->ops->format;
	struct node *f = cv->copy.dst->file;
	struct node_info info = { 0 };
	struct stat st;
	bool regular = f && f->fd >= 0 && fstat(f->fd, &st) == 0 && S_ISREG(st.st_mode);

	if (cv->no_create)
		return arg_has(cv->a, "--target-is-zero");
	if (!strcmp(format, "raw"))
		return regular;
	if (cv->copy.dst->ops->info && cv->copy.dst->ops->info(cv->copy.dst, &info) == 0)
		json_decref(info.specific);
	if (info.encrypted && (!strcmp(format, "luks") || laid_out(&cv->opts)))
		return false;
	return regular || !laid_out(&cv->opts);
}

static int open_output(struct convert *cv, const struct node_ops *ops)
{
	struct copy *c = &cv->copy;
	struct err err = { 0 };
	const char *secret = optlist_get(
		&cv->opts, !strcmp(cv->out_format, "luks") ? "key-secret" : "encrypt.key-secret");
	struct blk_options o = { .format = cv->out_format,
				 .flags = cv->dst_flags | BLK_RDWR | BLK_NO_BACKING,
				 .host = &img_host };

	if (c->dst_backing)
		o.flags &= ~BLK_NO_BACKING;
	if (arg_has(cv->a, "--target-image-opts")) {
		c->dst = img_open_options(cv->a, cv->out_name, o.flags, &err);
	} else {
		if (secret)
			o.secret_file = secret_file(secret);
		c->dst = node_open(cv->out_name, &o, &err);
	}
	if (!c->dst)
		return fail("Could not open '%s': %s", cv->out_name, err.msg);
	if (c->compressed && !c->dst->ops->write_compressed && !c->dst->needs_packed)
		return fail("Compression not supported for this file format");
	if (c->dst->size < c->total) {
		if (cv->no_create || c->total - c->dst->size >= 512)
			return fail("output file is smaller than input file");
		c->total = c->dst->size;
	}
	c->dst_zero = reads_as_zeros(cv);
	return 0;
}

static int copy_bitmaps(struct convert *cv)
{
	struct node *src = cv->copy.src[0], *dst = cv->copy.dst;
	struct node_bitmap *list = NULL;
	struct err err = { 0 };
	int n = 0, ret = 0;

	if (!src->ops->bitmap_list || src->ops->bitmap_list(src, &list, &n) < 0)
		return fail("--bitmaps: format %s keeps no bitmaps", src->ops->format);
	if (!dst->ops->bitmap) {
		free(list);
		return fail("This image format doesn't support bitmaps");
	}
	for (int i = 0; i < n && !ret; i++) {
		if (list[i].in_use) {
			if (arg_has(cv->a, "--skip-broken-bitmaps")) {
				fail("warning: Skipping inconsistent bitmap '%s'", list[i].name);
				continue;
			}
			ret = fail("Cannot copy inconsistent bitmap '%s': try "
				   "--skip-broken-bitmaps, or use 'bitmap --remove'",
				   list[i].name);
			break;
		}
		if (dst->ops->bitmap(dst, BITMAP_ADD, list[i].name, list[i].granularity, NULL, NULL,
				     &err) < 0 ||
		    dst->ops->bitmap(dst, BITMAP_MERGE, list[i].name, 0, src, list[i].name, &err) <
			    0 ||
		    (!list[i].autoload &&
		     dst->ops->bitmap(dst, BITMAP_DISABLE, list[i].name, 0, NULL, NULL, &err) < 0))
			ret = fail("Failed to populate bitmap %s: %s", list[i].name, err.msg);
	}
	free(list);
	return ret;
}

static int finish(struct convert *cv)
{
	struct node *dst = cv->copy.dst;
	int ret;

	if (arg_has(cv->a, "--bitmaps") && copy_bitmaps(cv))
		return 1;
	/*
	 * The format's tables reach the file now, where an error can still be told; "unsafe"
	 * remains for the file itself.
	 */
	dst->flags &= ~BLK_UNSAFE;
	ret = node_flush(dst);
	return ret < 0 ? fail("error while writing '%s': %s", cv->out_name, strerror(-ret)) : 0;
}

static void convert_free(struct convert *cv)
{
	for (int i = 0; i < cv->copy.nsrc; i++)
		node_unref(cv->copy.src[i]);
	node_unref(cv->copy.dst);
	free(cv->copy.src);
	free(cv->copy.start);
	free(cv->opt_backing);
	free(cv->opt_backing_format);
	optlist_free(&cv->opts);
}

static int sparse_size(struct convert *cv)
{
	const char *s = arg_get(cv->a, "-S");
	uint64_t v = 4096;

	if (s && (parse_bytes(s, &v) < 0 || v % 512 || v > 16 * MiB))
		return fail("Invalid buffer size for sparse output specified. Valid sizes are "
			    "multiples of 512 up to 16777216. "
			    "Select 0 to disable sparse detection (fully allocates output).");
	cv->copy.min_sparse = v;
	return 0;
}

static int parse_numbers(struct convert *cv)
{
	const char *s = arg_get(cv->a, "-m");
	uint64_t v;

	if (s && (parse_u64(s, 16, &v) < 0 || v < 1))
		return fail("Invalid number of coroutines. Allowed number of coroutines is between "
			    "1 and 16");
	cv->copy.threads = s ? v : 0;
	s = arg_get(cv->a, "-r");
	if (s && (parse_bytes(s, &cv->copy.rate) < 0 || !cv->copy.rate))
		return fail("Invalid rate limit specified. You may use k, M, G, T, P or E suffixes "
			    "for\n%s: kilobytes, megabytes, "
			    "gigabytes, terabytes, petabytes and exabytes.",
			    log_name());
	return sparse_size(cv);
}

static int parse_convert(struct convert *cv)
{
	struct args *a = cv->a;
	bool ok;

	cv->in_format = arg_get(a, "-f");
	cv->out_format = arg_get(a, "-O");
	if (!cv->out_format)
		cv->out_format = "raw";
	cv->backing = arg_get(a, "-B");
	cv->backing_format = arg_get(a, "-F");
	cv->snapshot = arg_get(a, "-l") ? arg_get(a, "-l") : arg_get(a, "-s");
	cv->no_create = arg_has(a, "-n");
	cv->copy.compressed = arg_has(a, "-c");
	cv->copy.salvage = arg_has(a, "--salvage");
	cv->copy.copy_range = arg_has(a, "-C");
	cv->dst_flags = cache_flags(arg_get(a, "-t"), "unsafe", &ok);
	if (!ok)
		return fail("Invalid cache option: %s", arg_get(a, "-t"));
	cv->src_flags = cache_flags(arg_get(a, "-T"), "writeback", &ok);
	if (!ok)
		return fail("Invalid source cache option: %s", arg_get(a, "-T"));
	for (int i = 0; i < a->nset; i++)
		if (!strcmp(a->set[i].name, "-o") && optlist_help(a->set[i].value))
			return print_format_help(cv->out_format, a->n > 0, false) ? 1 : -1;
	if (args_optlist(a, &cv->opts) || parse_numbers(cv))
		return 1;
	if (cv->no_create && cv->opts.n)
		return fail("-o has no effect when skipping image creation");
	if (arg_has(a, "--skip-broken-bitmaps") && !arg_has(a, "--bitmaps"))
		return fail("Use of --skip-broken-bitmaps requires --bitmaps");
	if (arg_has(a, "--target-is-zero") && !cv->no_create)
		return fail("--target-is-zero requires use of -n flag");
	if (arg_has(a, "--target-image-opts") && arg_get(a, "-O"))
		return fail("--image-opts and --format are mutually exclusive");
	if (arg_has(a, "--target-image-opts") && !cv->no_create)
		return fail("--target-image-opts requires use of -n flag");
	if (cv->copy.compressed && cv->copy.copy_range)
		return fail("Cannot enable copy offloading when -c is used");
	if (cv->copy.copy_range && arg_get(a, "-S"))
		return fail("Cannot enable copy offloading when -S is used");
	if (a->n < 2)
		return fail("Must specify image file name");
	cv->out_name = a->operand[a->n - 1];
	return 0;
}

int cmd_convert(struct args *a)
{
	struct convert cv = { .a = a };
	const struct node_ops *ops;
	struct err err = { 0 };
	int ret = parse_convert(&cv);

	if (ret) {
		optlist_free(&cv.opts);
		return ret < 0 ? 0 : ret;
	}
	ops = node_format_find(cv.out_format);
	if (!ops && !arg_has(a, "--target-image-opts"))
		ret = fail("Unknown file format '%s'", cv.out_format);
	if (!ret && cv.copy.compressed && ops && !ops->write_compressed && !ops->pack)
		ret = fail("Compression not supported for this file format");
	if (!ret)
		ret = open_sources(&cv);
	if (!ret && arg_has(a, "--bitmaps") && cv.copy.nsrc > 1)
		ret = fail("Copying bitmaps only possible with single source");
	if (!ret) {
		progress_start(arg_has(a, "-p") && !args_quiet(a), cv.copy.total);
		if (!cv.no_create)
			ret = make_output(&cv, ops);
		cv.copy.dst_backing = cv.backing != NULL;
	}
	if (!ret)
		ret = open_output(&cv, ops);
	if (!ret && copy_run(&cv.copy, &err) < 0)
		ret = stop_requested() ? 1 : fail("%s", err.msg);
	if (!ret)
		ret = finish(&cv);
	convert_free(&cv);
	if (ret) {
		if (stop_requested() && cv.no_create)
			fail("'%s' is incomplete", cv.out_name);
		return ret;
	}
	if (!stop_requested())
		outputs_keep();
	progress_end();
	return 0;
}

/* --- dd --- */

struct dd {
	const char *in, *out;
	uint64_t bs, count, skip;
	bool counted;
};

static int parse_dd(const struct args *a, struct dd *d)
{
	d->bs = 512;
	for (int i = 0; i < a->n; i++) {
		const char *s = a->operand[i], *eq = strchr(s, '=');
		size_t len = eq ? (size_t)(eq - s) : 0;
		uint64_t *number = NULL;

		if (len == 2 && !strncmp(s, "if", 2))
			d->in = eq + 1;
		else if (len == 2 && !strncmp(s, "of", 2))
			d->out = eq + 1;
		else if (len == 2 && !strncmp(s, "bs", 2))
			number = &d->bs;
		else if (len == 5 && !strncmp(s, "count", 5))
			number = &d->count, d->counted = true;
		else if (len == 4 && !strncmp(s, "skip", 4))
			number = &d->skip;
		else
			return fail("unrecognized operand %.*s", eq ? (int)len : (int)strlen(s), s);
		if (number && parse_bytes(eq + 1, number) < 0)
			return fail("invalid number: '%s'", eq + 1);
		if (number == &d->bs && (d->bs < 1 || d->bs > INT32_MAX))
			return fail("Invalid bs specified. Must be between 1 and 2147483647.");
	}
	if (!d->in || !d->out)
		return fail("Must specify both input and output files");
	return 0;
}

static int dd_copy(struct convert *cv, const struct dd *d)
{
	struct copy *c = &cv->copy;
	uint64_t from = 0, size;
	struct err err = { 0 };
	uint8_t *buf = NULL;
	int ret = 0;

	if (__builtin_mul_overflow(d->skip, d->bs, &from))
		from = UINT64_MAX;
	size = c->src[0]->size;
	if (d->counted && d->count <= INT64_MAX / d->bs &&
	    d->count * d->bs + MIN(from, size) < size)
		size = d->count * d->bs + MIN(from, size);
	if (from > size)
		fail("%s: cannot skip to specified offset", d->in);
	from = MIN(from, size);
	c->total = size - from;
	if (img_create(cv->a, cv->out_format, d->out, c->total, NULL, NULL, &cv->opts, &err) < 0)
		return fail("%s: error while creating output image of type '%s': %s", d->out,
			    cv->out_format, err.msg);
	if (open_output(cv, NULL))
		return 1;
	buf = img_buffer(MiB);
	for (uint64_t at = 0; at < c->total && !ret && buf; at += MiB) {
		uint64_t part = MIN(c->total - at, MiB);

		ret = stop_requested() ? -ECANCELED : node_pread(c->src[0], buf, part, from + at);
		if (ret < 0) {
			fail("error while reading from input image file: %s", strerror(-ret));
			break;
		}
		ret = node_pwrite(c->dst, buf, part, at);
		if (ret < 0)
			fail("error while writing to output image file: %s", strerror(-ret));
	}
	free(buf);
	return ret < 0 || !c->total ? ret < 0 : finish(cv);
}

int cmd_dd(struct args *a)
{
	struct convert cv = { .a = a, .out_format = arg_get(a, "-O") };
	struct dd d = { 0 };
	int ret = parse_dd(a, &d);

	if (ret)
		return ret;
	if (!cv.out_format)
		cv.out_format = "raw";
	if (!node_format_find(cv.out_format))
		return fail("Unknown file format '%s'", cv.out_format);
	cv.out_name = d.out;
	cv.dst_flags = BLK_UNSAFE;
	cv.copy.nsrc = 1;
	cv.copy.src = xcalloc(1, sizeof(*cv.copy.src));
	cv.copy.src[0] = img_open(a, d.in, arg_get(a, "-f"), 0);
	if (!cv.copy.src[0]) {
		convert_free(&cv);
		return 1;
	}
	progress_start(false, cv.copy.src[0]->size);
	ret = dd_copy(&cv, &d);
	convert_free(&cv);
	if (!ret)
		outputs_keep();
	return ret;
}
