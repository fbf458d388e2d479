/* SPDX-License-Identifier: GPL-2.0-or-later */
/* check.c: check and map. */
#include <errno.h>
#include <stdlib.h>

#include "tools/img/img.h"

/* --- check --- */

static void report_finding(void *ctx, const char *line)
{
	if (!*(int *)ctx)
		fprintf(stderr, "%s\n", line);
}

static void check_print(const struct node_check *c)
{
	if (!c->corruptions && !c->leaks && !c->check_errors) {
		printf("No errors were found on the image.\n");
	} else {
		if (c->corruptions)
			printf("\n%llu errors were found on the image.\nData may be corrupted, or "
			       "further writes to the image may "
			       "corrupt it.\n",
			       (unsigned long long)c->corruptions);
		if (c->leaks)
			printf("\n%llu leaked clusters were found on the image.\nThis means waste "
			       "of disk space, but no harm to data.\n",
			       (unsigned long long)c->leaks);
		if (c->check_errors)
			printf("\n%llu internal errors have occurred during the check.\n",
			       (unsigned long long)c->check_errors);
	}
	if (c->total_clusters && c->allocated_clusters)
		printf("%llu/%llu = %0.2f%% allocated, %0.2f%% fragmented, %0.2f%% compressed "
		       "clusters\n",
		       (unsigned long long)c->allocated_clusters,
		       (unsigned long long)c->total_clusters,
		       c->allocated_clusters * 100.0 / c->total_clusters,
		       c->fragmented_clusters * 100.0 / c->allocated_clusters,
		       c->compressed_clusters * 100.0 / c->allocated_clusters);
	if (c->image_end_offset)
		printf("Image end offset: %llu\n", (unsigned long long)c->image_end_offset);
}

static void check_json(struct node *n, const struct node_check *c)
{
	const struct { const char *key; uint64_t v;
	} optional[] = {
		{ "image-end-offset", c->image_end_offset },
		{ "corruptions", c->corruptions },
		{ "leaks", c->leaks },
		{ "corruptions-fixed", c->corruptions_fixed },
		{ "leaks-fixed", c->leaks_fixed },
		{ "total-clusters", c->total_clusters },
		{ "allocated-clusters", c->allocated_clusters },
		{ "fragmented-clusters", c->fragmented_clusters },
		{ "compressed-clusters", c->compressed_clusters },
	};
	json_t *j = json_pack("{s:s, s:s, s:I}", "filename", n->filename, "format", n->ops->format,
			      "check-errors", (json_int_t)c->check_errors);

	for (unsigned i = 0; i < ARRAY_SIZE(optional); i++)
		if (optional[i].v)
			json_object_set_new(j, optional[i].key, json_integer(optional[i].v));
	json_print(j);
	json_decref(j);
}

int cmd_check(struct args *a)
{
	const char *repair = arg_get(a, "-r");
	int output = args_output(a), silent, ret;
	struct node_check c = { 0 };
	unsigned fix = 0;
	bool ok;
	int flags = cache_flags(arg_get(a, "-T"), "writeback", &ok);
	struct node *n;

	if (output < 0)
		return 1;
	silent = output || args_quiet(a);
	if (!ok)
		return fail("Invalid source cache option: %s", arg_get(a, "-T"));
	if (repair && !strcmp(repair, "leaks"))
		fix = CHECK_FIX_LEAKS;
	else if (repair && !strcmp(repair, "all"))
		fix = CHECK_FIX_LEAKS | CHECK_FIX_ERRORS;
	else if (repair)
		return usage_error("Unknown option value for -r (expecting 'leaks' or 'all'): %s",
				   repair);
	if (a->n != 1)
		return usage_error("Expecting one image file name");
	n = img_open(a, a->operand[0], arg_get(a, "-f"), flags | BLK_CHECK | (fix ? BLK_RDWR : 0));
	if (!n)
		return 1;
	c.report = report_finding;
	c.ctx = &silent;
	if (!n->ops->check) {
		fail("This image format does not support checks");
		node_unref(n);
		return 63;
	}
	ret = node_check(n, &c, fix);
	if (ret == 0 && fix && (c.corruptions_fixed || c.leaks_fixed)) {
		struct node_check again = { .report = report_finding, .ctx = &silent };

		/* What stands in the file now is found anew; of the first look only the repairs. */
		node_flush(n);
		if (!silent)
			printf("The following inconsistencies were found and repaired:\n\n"
			       "    %llu leaked clusters\n    %llu corruptions\n\n"
			       "Double checking the fixed image now...\n",
			       (unsigned long long)c.leaks_fixed,
			       (unsigned long long)c.corruptions_fixed);
		ret = node_check(n, &again, 0);
		again.corruptions_fixed = c.corruptions_fixed;
		again.leaks_fixed = c.leaks_fixed;
		c = again;
	}
	if (ret == -ENOTSUP) {
		fail("This image format does not support checks");
		node_unref(n);
		return 63;
	}
	if (ret < 0) {
		c.check_errors++;
		fail("Check failed: %s", strerror(-ret));
	} else if (output) {
		check_json(n, &c);
	} else if (!silent) {
		check_print(&c);
	}
	node_unref(n);
	if (ret < 0 || c.check_errors)
		return 1;
	return c.corruptions ? 2 : c.leaks ? 3 : 0;
}

/* --- map --- */

struct map_entry {
	uint64_t start, len, off;
	int depth;
	bool data, zero, present, has_off;
	struct node *file;
};

static bool map_joins(const struct map_entry *a, const struct map_entry *b)
{
	return a->data == b->data && a->zero == b->zero && a->present == b->present &&
	       a->has_off == b->has_off && a->depth == b->depth && a->file == b->file &&
	       (!a->has_off || a->off + a->len == b->off);
}

static int map_look(struct node *top, uint64_t off, uint64_t len, struct map_entry *m)
{
	struct node *n = top, *owner;
	struct extent x;
	int ret = node_extent_chain(top, off, len, &x, &owner);

	if (ret < 0)
		return ret;
	*m = (struct map_entry){ .start = off, .len = MIN(len, x.len) };
	/* Who nobody wrote belongs to the last image of the chain that reaches so far. */
	for (n = top; n && n != owner; n = n->backing)
		m->depth++;
	m->present = x.flags & (EXT_ALLOCATED | EXT_DATA);
	m->data = x.flags & EXT_DATA;
	m->zero = x.flags & EXT_ZERO;
	m->has_off = x.flags & EXT_OFFSET;
	m->off = x.file_off;
	m->file = m->has_off ? x.file : NULL;
	return 0;
}

static int map_print(const struct map_entry *m, const struct map_entry *next, int json)
{
	if (!json) {
		if (m->data && !m->zero && !m->has_off)
			return fail("File contains external, encrypted or compressed clusters.");
		if (m->data && !m->zero)
			printf("%#-16llx%#-16llx%#-16llx%s\n", (unsigned long long)m->start,
			       (unsigned long long)m->len, (unsigned long long)m->off,
			       m->file ? m->file->filename : "");
		return 0;
	}
	printf("{ \"start\": %llu, \"length\": %llu, \"depth\": %d, \"present\": %s, \"zero\": %s, "
	       "\"data\": %s",
	       (unsigned long long)m->start, (unsigned long long)m->len, m->depth,
	       m->present ? "true" : "false", m->zero ? "true" : "false",
	       m->data ? "true" : "false");
	if (m->has_off)
		printf(", \"offset\": %llu", (unsigned long long)m->off);
	printf("}%s", next ? ",\n" : "");
	return 0;
}

static int map_image(struct node *n, uint64_t start, uint64_t end, int json)
{
	struct map_entry cur = { 0 }, m;
	int ret;

	if (!json)
		printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
	else
		printf("[");
	for (uint64_t off = start; off < end; off += m.len) {
		ret = map_look(n, off, end - off, &m);
		if (ret < 0)
			return fail("Failed to read image metadata: %s", strerror(-ret));
		if (cur.len && map_joins(&cur, &m)) {
			cur.len += m.len;
			continue;
		}
		if (cur.len && map_print(&cur, &m, json))
			return 1;
		cur = m;
	}
	if (cur.len && map_print(&cur, NULL, json))
		return 1;
	if (json)
		printf("]\n");
	return 0;
}

int cmd_map(struct args *a)
{
	const char *s = arg_get(a, "-s|--start-offset"), *l = arg_get(a, "-l|--max-length");
	uint64_t start = 0, len = UINT64_MAX;
	int output = args_output(a), ret;
	struct node *n;

	if (output < 0)
		return 1;
	if ((s && size_arg(s, &start) < 0) || (l && size_arg(l, &len) < 0))
		return 1;
	if (a->n != 1)
		return usage_error("Expecting one image file name");
	n = img_open(a, a->operand[0], arg_get(a, "-f"), 0);
	if (!n)
		return 1;
	ret = map_image(n, start, start < n->size ? start + MIN(len, n->size - start) : start,
			output);
	node_unref(n);
	return ret;
}
