/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * compare.c: compare and bitmap. Exit codes of compare: 0 identical, 1 different, 2 cannot open, 3
 * status, 4 read error.
 */
#include <errno.h>
#include <stdlib.h>

#include "tools/img/img.h"
#include "vmm/base/iov.h"

#define STEP (256 * KiB)		/* both buffers fit into a processor's cache */

struct compare {
	struct node *n[2];
	struct extent x[2];		/* the last answers about allocation: they hold up to end */
	uint64_t end[2];
	uint8_t *buf[2];
	bool quiet, strict;
};

static int differ(struct compare *c, const char *fmt, uint64_t off)
{
	if (!c->quiet) {
		progress_end();
		printf(fmt, (long long)off);
	}
	return 1;
}

/* One range: 0 the same, 1 different (said so), above 1 an error. */
static int compare_range(struct compare *c, uint64_t off, uint64_t *len)
{
	struct node *owner;
	bool zero[2];

	for (int i = 0; i < 2; i++) {
		int ret = off < c->end[i] ? 0
					  : node_extent_chain(c->n[i], off, *len, &c->x[i], &owner);

		if (ret < 0)
			return fail("Sector allocation test failed for %s", c->n[i]->filename) + 2;
		if (off >= c->end[i])
			c->end[i] = off + c->x[i].len;
		zero[i] = c->x[i].flags & EXT_ZERO;
	}
	*len = MIN(*len, MIN(c->end[0], c->end[1]) - off);
	if (c->strict && (c->x[0].flags ^ c->x[1].flags) & EXT_DATA)
		return differ(c, "Strict mode: Offset %lld block status mismatch!\n", off);
	if (zero[0] && zero[1])
		return 0;
	*len = MIN(*len, STEP);
	for (int i = 0; i < 2; i++) {
		int ret = zero[i] ? 0 : node_pread(c->n[i], c->buf[i], *len, off);

		if (ret < 0)
			return fail("Error while reading offset %lld of %s: %s", (long long)off,
				    c->n[i]->filename, strerror(-ret)) +
			       3;
	}
	if (zero[0] || zero[1] ? buf_is_zero(c->buf[zero[0]], *len)
			       : !memcmp(c->buf[0], c->buf[1], *len))
		return 0;
	/* Somewhere in here: the sector is asked for. */
	for (uint64_t at = 0; at < *len; at += 512) {
		uint64_t part = MIN(512, *len - at);
		bool same;

		if (zero[0] || zero[1])
			same = buf_is_zero(c->buf[zero[0]] + at, part);
		else
			same = !memcmp(c->buf[0] + at, c->buf[1] + at, part);
		if (!same)
			return differ(c, "Content mismatch at offset %lld!\n", off + at);
	}
	return 0;
}

/* What one image has beyond the end of the other must be zeros. */
static int compare_rest(struct compare *c, struct node *n, uint64_t from)
{
	for (uint64_t off = from, len; off < n->size; off += len) {
		struct extent x;
		struct node *owner;
		int ret = node_extent_chain(n, off, n->size - off, &x, &owner);

		if (ret < 0)
			return fail("Sector allocation test failed for %s", n->filename) + 2;
		len = MIN(n->size - off, x.len);
		if (!(x.flags & EXT_ZERO)) {
			len = MIN(len, STEP);
			ret = node_pread(n, c->buf[0], len, off);
			if (ret < 0)
				return fail("Error while reading offset %lld of %s: %s",
					    (long long)off, n->filename, strerror(-ret)) +
				       3;
			for (uint64_t at = 0; at < len; at += 512)
				if (!buf_is_zero(c->buf[0] + at, MIN(512, len - at)))
					return differ(c, "Content mismatch at offset %lld!\n",
						      off + at);
		}
		progress_add(len);
	}
	return 0;
}

static int compare_images(struct compare *c)
{
	uint64_t size = MIN(c->n[0]->size, c->n[1]->size);
	struct node *longer = c->n[0]->size > size ? c->n[0] : c->n[1];
	int ret = 0;

	if (c->strict && c->n[0]->size != c->n[1]->size) {
		if (!c->quiet)
			printf("Strict mode: Image size mismatch!\n");
		return 1;
	}
	for (uint64_t off = 0, len; off < size && ret == 0; off += len) {
		len = size - off;
		ret = stop_requested() ? 4 : compare_range(c, off, &len);
		progress_add(len);
	}
	if (ret)
		return ret;
	if (longer->size > size) {
		if (!c->quiet)
			printf("Warning: Image size mismatch!\n");
		ret = compare_rest(c, longer, size);
	}
	if (ret == 0) {
		progress_end();
		if (!c->quiet)
			printf("Images are identical.\n");
	}
	return ret;
}

int cmd_compare(struct args *a)
{
	struct compare c = { .quiet = args_quiet(a), .strict = arg_has(a, "-s") };
	bool ok;
	int flags = cache_flags(arg_get(a, "-T"), "writeback", &ok), ret = 2;

	if (!ok)
		return fail("Invalid source cache option: %s", arg_get(a, "-T")) + 1;
	if (a->n != 2) {
		usage_error("Expecting two image file names");
		return 1;
	}
	c.n[0] = img_open(a, a->operand[0], arg_get(a, "-f"), flags);
	c.n[1] = c.n[0] ? img_open(a, a->operand[1], arg_get(a, "-F"), flags) : NULL;
	if (c.n[1]) {
		c.buf[0] = img_buffer(STEP);
		c.buf[1] = img_buffer(STEP);
		progress_start(arg_has(a, "-p") && !c.quiet, MAX(c.n[0]->size, c.n[1]->size));
		ret = c.buf[0] && c.buf[1] ? compare_images(&c) : fail("no memory") + 3;
	}
	free(c.buf[0]);
	free(c.buf[1]);
	node_unref(c.n[0]);
	node_unref(c.n[1]);
	return ret;
}

/* --- bitmap --- */

static const struct { const char *opt, *word; enum bitmap_op op;
} bitmap_ops[] = {
	{ "--add", "add", BITMAP_ADD },
	{ "--remove", "remove", BITMAP_REMOVE },
	{ "--clear", "clear", BITMAP_CLEAR },
	{ "--enable", "enable", BITMAP_ENABLE },
	{ "--disable", "disable", BITMAP_DISABLE },
	{ "--merge", "merge", BITMAP_MERGE },
};

static int bitmap_do(struct args *a, struct node *n, struct node *src, uint64_t granularity)
{
	const char *name = a->operand[1];
	int ret = 0;

	for (int i = 0; i < a->nset && !ret; i++) {
		for (unsigned k = 0; k < ARRAY_SIZE(bitmap_ops) && !ret; k++) {
			struct err err = { 0 };

			if (strcmp(a->set[i].name, bitmap_ops[k].opt))
				continue;
			if (n->ops->bitmap(n, bitmap_ops[k].op, name,
					   bitmap_ops[k].op == BITMAP_ADD ? granularity : 0,
					   bitmap_ops[k].op == BITMAP_MERGE ? src : NULL,
					   a->set[i].value, &err) < 0)
				ret = fail("Operation %s on bitmap %s failed: %s",
					   bitmap_ops[k].word, name, err.msg);
		}
	}
	if (!ret && node_flush(n) < 0)
		ret = fail("could not write '%s'", n->filename);
	return ret;
}

int cmd_bitmap(struct args *a)
{
	const char *file = arg_get(a, "-b"), *g = arg_get(a, "-g|--granularity");
	uint64_t granularity = 0;
	struct node *n, *src = NULL;
	struct err err = { 0 };
	bool any = false;
	int ret;

	for (unsigned k = 0; k < ARRAY_SIZE(bitmap_ops); k++)
		any |= arg_has(a, bitmap_ops[k].opt);
	if (a->n != 2)
		return usage_error("Expecting filename and bitmap name");
	if (!any)
		return fail("Need at least one of --add, --remove, --clear, --enable, --disable, "
			    "or --merge");
	if (g && !arg_has(a, "--add"))
		return fail("granularity only supported with --add");
	if (g && (parse_bytes(g, &granularity) < 0 || granularity > 2 * GiB ||
		  !IS_POWER_OF_2(granularity) || granularity < 512))
		return fail("Invalid granularity '%s': a power of two from 512 to 2G", g);
	if (file && !arg_has(a, "--merge"))
		return fail("Merge bitmap source file only supported with --merge");
	if (arg_get(a, "-F") && !file)
		return fail("-F only supported with -b");
	n = img_open(a, a->operand[0], arg_get(a, "-f"), BLK_RDWR | BLK_NO_BACKING);
	if (!n)
		return 1;
	if (file)
		src = img_open_layer(a, file, arg_get(a, "-F"), BLK_NO_BACKING, &err);
	if (file && !src)
		ret = fail("Could not open '%s': %s", file, err.msg);
	else if (!n->ops->bitmap)
		ret = fail("the format %s keeps no bitmaps; '%s convert -O qcow2 %s %s.qcow2' "
			   "makes an image that does",
			   n->ops->format, log_name(), n->filename, n->filename);
	else
		ret = bitmap_do(a, n, src ? src : n, granularity);
	node_unref(src);
	node_unref(n);
	return ret;
}
