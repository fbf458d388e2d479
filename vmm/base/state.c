/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * state.c: a machine's registers as a flattened device tree (Devicetree Specification 0.4, chapter
 * 5; libfdt).
 *
 * Writing is sequential. Reading checks the blob as a whole, then makes an index of it, sorted by
 * name, in which every node and property is ticked off when it is read: what is left over at the
 * end is refused by name, so nothing of a saved machine is ever silently dropped. One thread at a
 * time.
 */
#include <assert.h>
#include <errno.h>
#include <libfdt.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/base/state.h"

#define STATE_MAX_DEPTH 16
#define STATE_NAME_MAX 64

/* --- writing --- */

struct state_out {
	void *buf;
	size_t size;
	int error;		/* first -errno */
	bool after_node;	/* the format has a node's properties before its nodes */
};

/* Runs one fdt_sw call, with a larger buffer as often as it asks for one. */
#define SW(o, call)								\
	do {									\
		int ret_;							\
										\
		if ((o)->error)							\
			break;							\
		while ((ret_ = (call)) == -FDT_ERR_NOSPACE && !grow(o))		\
			;							\
		if (ret_ && !(o)->error)					\
			(o)->error = -EINVAL;					\
	} while (0)

static int grow(struct state_out *o)
{
	size_t size = o->size * 2;
	void *buf = size <= INT32_MAX ? realloc(o->buf, size) : NULL;

	if (!buf)
		return o->error = -ENOMEM;
	o->buf = buf;
	o->size = size;
	if (fdt_resize(buf, buf, size))
		return o->error = -EINVAL;
	return 0;
}

struct state_out *state_out_new(void)
{
	struct state_out *o = xcalloc(1, sizeof(*o));

	o->size = 16 * KiB;
	o->buf = xcalloc(1, o->size);
	SW(o, fdt_create(o->buf, o->size));
	SW(o, fdt_finish_reservemap(o->buf));
	SW(o, fdt_begin_node(o->buf, ""));
	return o;
}

void state_begin(struct state_out *o, const char *node)
{
	o->after_node = false;
	SW(o, fdt_begin_node(o->buf, node));
}

void state_end(struct state_out *o)
{
	o->after_node = true;
	SW(o, fdt_end_node(o->buf));
}

void state_bytes(struct state_out *o, const char *prop, const void *p, size_t len)
{
	assert(!o->after_node);
	if (len > INT32_MAX) {
		o->error = -E2BIG;
		return;
	}
	SW(o, fdt_property(o->buf, prop, p, len));
}

void state_u8(struct state_out *o, const char *prop, uint8_t v)
{
	state_bytes(o, prop, &v, 1);
}

void state_u16(struct state_out *o, const char *prop, uint16_t v)
{
	v = htobe16(v);
	state_bytes(o, prop, &v, 2);
}

void state_u32(struct state_out *o, const char *prop, uint32_t v)
{
	v = htobe32(v);
	state_bytes(o, prop, &v, 4);
}

void state_u64(struct state_out *o, const char *prop, uint64_t v)
{
	v = htobe64(v);
	state_bytes(o, prop, &v, 8);
}

void state_str(struct state_out *o, const char *prop, const char *s)
{
	state_bytes(o, prop, s, strlen(s) + 1);
}

int state_out_finish(struct state_out *o, void **blob, size_t *len)
{
	int ret;

	SW(o, fdt_end_node(o->buf));
	SW(o, fdt_finish(o->buf));
	ret = o->error;
	if (ret) {
		free(o->buf);
		*blob = NULL;
		*len = 0;
	} else {
		*blob = o->buf;
		*len = fdt_totalsize(o->buf);
	}
	free(o);
	return ret;
}

/* --- reading: the index --- */

struct prop {
	const char *name;
	const void *data;
	size_t len;
	bool read;
};

struct node {
	const char *name;
	struct prop *props;
	struct node *children;
	size_t nprops, nchildren;
	bool read;
};

struct state_in {
	struct node root;
	struct node *path[STATE_MAX_DEPTH + 1];
	unsigned depth;
	struct err err;
	bool bad;
};

/* Names and strings of a tree come from anywhere: none of their bytes reaches a terminal. */
static void make_printable(char *s)
{
	for (; *s; s++)
		if (*s < ' ' || *s > '~')
			*s = '?';
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void node_clear(struct node *n)
{
	for (size_t i = 0; i < n->nchildren; i++)
		node_clear(&n->children[i]);
	free(n->children);
	free(n->props);
}

static int index_props(struct node *n, const void *fdt, int at, struct err *err)
{
	size_t count = 0;
	int p;

	fdt_for_each_property_offset(p, fdt, at)
		count++;
	n->props = calloc(count ? count : 1, sizeof(*n->props));
	if (!n->props)
		return err_set(err, ENOMEM, "out of memory");
	fdt_for_each_property_offset(p, fdt, at) {
		struct prop *pr = &n->props[n->nprops++];
		int len;

		pr->data = fdt_getprop_by_offset(fdt, p, &pr->name, &len);
		if (!pr->data)
			return err_set(err, EINVAL, "%s: broken property: %s", n->name,
				       fdt_strerror(len));
		pr->len = len;
	}
	qsort(n->props, n->nprops, sizeof(*n->props), by_name);
	for (size_t i = 1; i < n->nprops; i++)
		if (!strcmp(n->props[i - 1].name, n->props[i].name))
			return err_set(err, EINVAL, "%s: property %.*s is there twice", n->name,
				       STATE_NAME_MAX, n->props[i].name);
	return 0;
}

static int index_node(struct node *n, const void *fdt, int at, unsigned depth, struct err *err)
{
	size_t count = 0;
	int child, ret;

	n->name = fdt_get_name(fdt, at, &ret);
	if (!n->name)
		return err_set(err, EINVAL, "broken node: %s", fdt_strerror(ret));
	if (ret > STATE_NAME_MAX)
		return err_set(err, EINVAL, "a node's name has %d characters", ret);
	if (depth > STATE_MAX_DEPTH)
		return err_set(err, EINVAL, "%s: nodes lie more than %d deep", n->name,
			       STATE_MAX_DEPTH);
	ret = index_props(n, fdt, at, err);
	if (ret)
		return ret;
	fdt_for_each_subnode(child, fdt, at)
		count++;
	n->children = calloc(count ? count : 1, sizeof(*n->children));
	if (!n->children)
		return err_set(err, ENOMEM, "out of memory");
	fdt_for_each_subnode(child, fdt, at) {
		ret = index_node(&n->children[n->nchildren++], fdt, child, depth + 1, err);
		if (ret)
			return ret;
	}
	qsort(n->children, n->nchildren, sizeof(*n->children), by_name);
	for (size_t i = 1; i < n->nchildren; i++)
		if (!strcmp(n->children[i - 1].name, n->children[i].name))
			return err_set(err, EINVAL, "node %s is there twice", n->children[i].name);
	return 0;
}

/* Properties behind a node of their node: against the format, and libfdt would not see them. */
static bool has_late_props(const void *fdt)
{
	bool after_node = false;
	int next;
	uint32_t tag;

	for (int at = 0;; at = next) {
		tag = fdt_next_tag(fdt, at, &next);
		if (tag == FDT_END || next < 0)
			return false;
		if (tag == FDT_PROP && after_node)
			return true;
		if (tag != FDT_NOP)
			after_node = tag == FDT_END_NODE;
	}
}

struct state_in *state_in_new(const void *blob, size_t len, struct err *err)
{
	struct state_in *in;
	int ret = fdt_check_full(blob, len);

	if (ret) {
		err_set(err, EINVAL, "the machine's state is no valid tree: %s", fdt_strerror(ret));
		return NULL;
	}
	if (has_late_props(blob)) {
		err_set(err, EINVAL,
			"the machine's state is no valid tree: a property comes after a node");
		return NULL;
	}
	in = xcalloc(1, sizeof(*in));
	if (index_node(&in->root, blob, 0, 0, err)) {
		if (err)
			make_printable(err->msg);
		err_prefix(err, "the machine's state");
		state_in_free(in);
		return NULL;
	}
	in->path[0] = &in->root;
	return in;
}

void state_in_free(struct state_in *in)
{
	if (!in)
		return;
	node_clear(&in->root);
	free(in);
}

/* --- reading: finding things --- */

/* "pci@3.0/queue@0", for messages. */
static void path_name(struct state_in *in, char *buf, size_t len)
{
	size_t n = 0;

	buf[0] = 0;
	for (unsigned i = 1; i <= in->depth && n < len; i++)
		n += snprintf(buf + n, len - n, "%s%s", i > 1 ? "/" : "", in->path[i]->name);
}

static int refuse(struct state_in *in, const char *name, const char *fmt, ...) PRINTF(3, 4);
static int refuse(struct state_in *in, const char *name, const char *fmt, ...)
{
	char path[STATE_MAX_DEPTH * (STATE_NAME_MAX + 1)], why[256];
	va_list ap;

	in->bad = true;
	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	path_name(in, path, sizeof(path));
	err_set(&in->err, EINVAL, "%.600s%s%.*s%s%s", path, path[0] && name[0] ? "/" : "",
		STATE_NAME_MAX, name, path[0] || name[0] ? ": " : "", why);
	make_printable(in->err.msg);
	return -EINVAL;
}

int state_try_enter(struct state_in *in, const char *node)
{
	struct node *n = in->path[in->depth], *child;

	child = bsearch(&node, n->children, n->nchildren, sizeof(*n->children), by_name);
	if (!child || in->depth == STATE_MAX_DEPTH)
		return -ENOENT;
	child->read = true;
	in->path[++in->depth] = child;
	return 0;
}

int state_enter(struct state_in *in, const char *node)
{
	if (!state_try_enter(in, node))
		return 0;
	refuse(in, node, "missing");
	return -ENOENT;
}

void state_leave(struct state_in *in)
{
	assert(in->depth);
	in->depth--;
}

static struct prop *prop_find(struct state_in *in, const char *name)
{
	struct node *n = in->path[in->depth];

	return bsearch(&name, n->props, n->nprops, sizeof(*n->props), by_name);
}

bool state_has(struct state_in *in, const char *prop)
{
	return prop_find(in, prop) != NULL;
}

int state_get_blob(struct state_in *in, const char *prop, const void **p, size_t *len, size_t max)
{
	struct prop *pr = prop_find(in, prop);

	*p = NULL;
	*len = 0;
	if (!pr)
		return refuse(in, prop, "missing");
	pr->read = true;
	if (pr->len > max)
		return refuse(in, prop, "%zu bytes, at most %zu expected", pr->len, max);
	*p = pr->data;
	*len = pr->len;
	return 0;
}

int state_get_bytes(struct state_in *in, const char *prop, void *p, size_t len)
{
	struct prop *pr = prop_find(in, prop);
	int ret = 0;

	if (!pr) {
		ret = refuse(in, prop, "missing");
	} else {
		pr->read = true;
		if (pr->len != len)
			ret = refuse(in, prop, "%zu bytes, not the %zu expected", pr->len, len);
	}
	if (ret)
		memset(p, 0, len);
	else if (len)
		memcpy(p, pr->data, len);
	return ret;
}

int state_get_u8(struct state_in *in, const char *prop, uint8_t *v)
{
	return state_get_bytes(in, prop, v, 1);
}

int state_get_u16(struct state_in *in, const char *prop, uint16_t *v)
{
	int ret = state_get_bytes(in, prop, v, 2);

	*v = be16toh(*v);
	return ret;
}

int state_get_u32(struct state_in *in, const char *prop, uint32_t *v)
{
	int ret = state_get_bytes(in, prop, v, 4);

	*v = be32toh(*v);
	return ret;
}

int state_get_u64(struct state_in *in, const char *prop, uint64_t *v)
{
	int ret = state_get_bytes(in, prop, v, 8);

	*v = be64toh(*v);
	return ret;
}

int state_get_u32_opt(struct state_in *in, const char *prop, uint32_t *v, uint32_t def)
{
	if (state_has(in, prop))
		return state_get_u32(in, prop, v);
	*v = def;
	return 0;
}

int state_get_u64_opt(struct state_in *in, const char *prop, uint64_t *v, uint64_t def)
{
	if (state_has(in, prop))
		return state_get_u64(in, prop, v);
	*v = def;
	return 0;
}

int state_get_str(struct state_in *in, const char *prop, const char **s)
{
	const void *p;
	size_t len;
	int ret = state_get_blob(in, prop, &p, &len, SIZE_MAX);

	*s = "";
	if (ret)
		return ret;
	if (!len || memchr(p, 0, len) != (const char *)p + len - 1)
		return refuse(in, prop, "not a string");
	*s = p;
	return 0;
}

int state_bad(struct state_in *in, const char *fmt, ...)
{
	char why[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	return refuse(in, "", "%s", why);
}

int state_in_error(struct state_in *in)
{
	return in->bad ? -EINVAL : 0;
}

const char *state_in_reason(struct state_in *in)
{
	return in->err.msg;
}

/* --- the end: everything must have been read --- */

static void check_read(struct state_in *in, struct node *n)
{
	for (size_t i = 0; i < n->nprops && !in->bad; i++)
		if (!n->props[i].read)
			refuse(in, n->props[i].name,
			       "unknown property; was it saved by a newer version?");
	for (size_t i = 0; i < n->nchildren && !in->bad; i++) {
		if (!n->children[i].read) {
			refuse(in, n->children[i].name, "unknown; this machine has no such part");
			break;
		}
		in->path[++in->depth] = &n->children[i];
		check_read(in, &n->children[i]);
		in->depth--;
	}
}

int state_in_finish(struct state_in *in, struct err *err)
{
	int ret = 0;

	in->depth = 0;
	if (!in->bad)
		check_read(in, &in->root);
	if (in->bad)
		ret = err_set(err, EINVAL, "%s", in->err.msg);
	state_in_free(in);
	return ret;
}

/* --- register tables --- */

void state_save_fields(struct state_out *o, const void *base, const struct state_field *f, size_t n)
{
	for (; n--; f++) {
		const void *p = (const char *)base + f->offset;

		switch (f->type) {
		case STATE_U8:
			assert(f->size == 1);
			state_u8(o, f->prop, *(const uint8_t *)p);
			break;
		case STATE_BOOL:
			assert(f->size == sizeof(bool));
			state_u8(o, f->prop, *(const bool *)p);
			break;
		case STATE_U16:
			assert(f->size == 2);
			state_u16(o, f->prop, *(const uint16_t *)p);
			break;
		case STATE_U32:
			assert(f->size == 4);
			state_u32(o, f->prop, *(const uint32_t *)p);
			break;
		case STATE_U64:
			assert(f->size == 8);
			state_u64(o, f->prop, *(const uint64_t *)p);
			break;
		case STATE_BYTES:
			state_bytes(o, f->prop, p, f->size);
			break;
		}
	}
}

static int load_bool(struct state_in *in, const char *prop, bool *v)
{
	uint8_t byte;
	int ret = state_get_u8(in, prop, &byte);

	*v = byte == 1;
	if (!ret && byte > 1)
		ret = refuse(in, prop, "%u is neither 0 nor 1", byte);
	return ret;
}

int state_load_fields(struct state_in *in, void *base, const struct state_field *f, size_t n)
{
	for (; n--; f++) {
		void *p = (char *)base + f->offset;

		switch (f->type) {
		case STATE_U8:
			state_get_u8(in, f->prop, p);
			break;
		case STATE_BOOL:
			load_bool(in, f->prop, p);
			break;
		case STATE_U16:
			state_get_u16(in, f->prop, p);
			break;
		case STATE_U32:
			state_get_u32(in, f->prop, p);
			break;
		case STATE_U64:
			state_get_u64(in, f->prop, p);
			break;
		case STATE_BYTES:
			state_get_bytes(in, f->prop, p, f->size);
			break;
		}
	}
	return state_in_error(in);
}
