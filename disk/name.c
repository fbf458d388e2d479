/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * name.c: json: names (qemu(1), "blockdev" and the json: pseudo protocol). What they say flat
 * ("file.filename") and nested is the same; options that are not known are refused. Opening thread.
 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "disk/formats.h"
#include "disk/name.h"
#include "disk/name_opts.h"

/*
 * Far more than any description needs; each dot and each level costs stack, here and in the
 * library.
 */
enum { DOTS_MAX = 16, DEPTH_MAX = 512 };

static bool too_deep(const char *key)
{
	int dots = 0;

	for (; *key; key++)
		dots += *key == '.';
	return dots > DOTS_MAX;
}

/* dst.a.b = value, for the key "a.b". */
static int put(json_t *dst, const char *key, json_t *value, struct err *err)
{
	const char *dot = strchr(key, '.');
	char *first = dot ? xasprintf("%.*s", (int)(dot - key), key) : xstrdup(key);
	json_t *child = json_object_get(dst, first);
	int ret = 0;

	if (too_deep(key)) {
		ret = err_set(err, EINVAL, "A name with more than %d dots is no option", DOTS_MAX);
	} else if (dot) {
		if (!child) {
			child = json_object();
			/* it takes UTF-8 keys only, and frees what it does not take */
			if (json_object_set_new(dst, first, child))
				ret = err_set(err, EINVAL, "An option's name is no UTF-8 text");
		}
		if (!ret)
			ret = json_is_object(child)
				      ? put(child, dot + 1, value, err)
				      : err_set(err, EINVAL, "'%s' is given twice", first);
	} else if (json_is_object(value) && json_is_object(child)) {
		ret = json_object_update(child, value) ? -ENOMEM : 0;
	} else if (child) {
		ret = err_set(err, EINVAL, "'%s' is given twice", first);
	} else if (json_object_set(dst, first, value)) {
		ret = err_set(err, EINVAL, "An option's name is no UTF-8 text");
	}
	free(first);
	return ret;
}

/* The same with every dotted key nested, at all depths. NULL with the reason. */
static json_t *nested(json_t *flat, int depth, struct err *err)
{
	json_t *out, *v;
	const char *key;

	if (depth > DEPTH_MAX) {
		err_set(err, EINVAL, "The description is nested more than %d deep", DEPTH_MAX);
		return NULL;
	}
	out = json_object();
	json_object_foreach(flat, key, v) {
		json_t *inner = json_is_object(v) ? nested(v, depth + 1, err) : json_incref(v);
		int ret = inner ? put(out, key, inner, err) : -EINVAL;

		json_decref(inner);
		if (ret) {
			json_decref(out);
			return NULL;
		}
	}
	return out;
}

/* What is left of the options was not understood. */
static int nothing_left(json_t *o, const char *driver, bool protocol, struct err *err)
{
	const char *key;
	json_t *v;

	json_object_foreach(o, key, v) return err_set(
		err, EINVAL,
		protocol ? "Block protocol '%s' doesn't support the option '%s'"
			 : "Block format '%s' does not support the option '%s'",
		driver, key);
	return 0;
}

/* nbd: a server by name and port or by its socket, as the address the protocol takes. */
static char *nbd_address(json_t *o)
{
	json_t *server = json_incref(json_object_get(o, "server")),
	       *from = json_is_object(server) ? server : o;
	char *host = name_take(from, "host"), *port = name_take(from, "port"),
	     *path = name_take(from, "path");
	char *export = name_take(o, "export"), *type = name_take(from, "type"), *out = NULL;

	if (path)
		out = xasprintf("nbd:unix:%s%s%s", path, export ? ":exportname=" : "",
				export ? export : "");
	else if (host)
		out = xasprintf("nbd:%s:%s%s%s", host, port ? port : "10809",
				export ? ":exportname=" : "", export ? export : "");
	if (json_is_object(server))
		json_object_del(o, "server");
	json_decref(server);
	free(host);
	free(port);
	free(path);
	free(export);
	free(type);
	return out;
}

static bool is_plain_protocol(const char *s)
{
	return !strcmp(s, "file") || !strcmp(s, "host_device") || !strcmp(s, "host_cdrom");
}

static bool is_null(const char *s)
{
	return !strcmp(s, "null-co") || !strcmp(s, "null-aio");
}

static bool is_http(const char *s)
{
	return !strcmp(s, "http") || !strcmp(s, "https");
}

static bool is_protocol(const char *s)
{
	return is_plain_protocol(s) || is_null(s) || is_http(s) || !strcmp(s, "nbd");
}

/* A driver that is neither format nor protocol here: why, if QEMU has it. */
static int unknown_driver(const char *driver, struct err *err)
{
	const char *why = driver_refusal(driver);

	return why ? err_set(err, ENOTSUP, "Driver '%s' is not supported: %s", driver, why) :
	       err_set(err, EINVAL, "Unknown driver '%s'", driver);
}

/* The options of a protocol: what is below a format. */
static int parse_file(json_t *o, struct image_name *n, struct err *err)
{
	char *driver = name_take(o, "driver");
	const char *as = driver ? driver : "file";
	struct image_name null = { 0 };
	int ret = 0;

	if (is_null(as)) {
		ret = name_take_options(o, as, &null, err);
		n->filename = xasprintf("null-co://%llu",
					(unsigned long long)(null.has_length ? null.length : GiB));
	} else if (!strcmp(as, "nbd")) {
		n->filename = nbd_address(o);
	} else if (is_http(as)) {
		n->filename = name_take(o, "url");
	} else if (!is_plain_protocol(as)) {
		ret = unknown_driver(as, err);
	}
	if (!ret && !n->filename)
		n->filename = name_take(o, "filename");
	if (!ret && n->filename && driver && is_plain_protocol(driver) &&
	    strncmp(n->filename, "file:", 5)) {
		/* A file, even if it is called as an address would be. */
		char *path = xasprintf("file:%s", n->filename);

		free(n->filename);
		n->filename = path;
	}
	if (!ret && !n->filename)
		ret = err_set(err, EINVAL, "A file name is needed: \"file\": {\"filename\": NAME}");
	if (!ret && !is_null(as))
		ret = name_take_options(o, as, n, err);
	if (!ret)
		ret = nothing_left(o, as, true, err);
	free(driver);
	return ret;
}

static char *as_name(json_t *o)
{
	char *text = json_dumps(o, JSON_COMPACT), *name = xasprintf("json:%s", text ? text : "{}");

	free(text);
	return name;
}

static int parse_backing(json_t *o, struct image_name *n, struct err *err)
{
	json_t *b = json_object_get(o, "backing");

	if (json_is_object(b))
		n->backing = as_name(b);
	else if (json_is_null(b) || (json_is_string(b) && !*json_string_value(b)))
		n->backing = xstrdup("");
	else if (b)
		return err_set(err, EINVAL,
			       "'backing' takes the options of an image, or null; names of nodes "
			       "are not known here");
	json_object_del(o, "backing");
	return 0;
}

/* The external data file of a qcow2 image, where the description says it. */
static int parse_data_file(json_t *o, struct image_name *n, struct err *err)
{
	json_t *f = json_object_get(o, "data-file");
	struct image_name data = { 0 };
	int ret;

	if (!json_is_object(f))
		return f ? err_set(err, EINVAL,
				   "'data-file' takes the options of a file; names of nodes are "
				   "not known here")
			 : 0;
	ret = parse_file(f, &data, err);
	json_object_del(o, "data-file");
	if (!ret) {
		n->data_file = data.filename;
		data.filename = NULL;
	}
	name_free(&data);
	return ret;
}

/*
 * What is below the format: a file, or another format that stands in its place (raw, for a part of
 * a file).
 */
static int parse_below(json_t *below, struct image_name *n, struct err *err)
{
	const char *driver = json_string_value(json_object_get(below, "driver"));

	if (!driver || is_protocol(driver) || !node_format_find(driver))
		return parse_file(below, n, err);
	n->below = as_name(below);
	return 0;
}

/* One layer: a format and the file below it; the protocol alone is a raw disk. */
static int parse_layer(json_t *o, struct image_name *n, struct err *err)
{
	char *driver = name_take(o, "driver");
	json_t *file = json_incref(json_object_get(o, "file"));
	bool protocol = driver && is_protocol(driver);
	int ret = parse_backing(o, n, err);

	if (!ret && driver && !protocol && (!node_format_find(driver) || driver_refusal(driver)))
		ret = unknown_driver(driver, err);
	if (ret) {
		/* said already */
	} else if (file && !json_is_object(file)) {
		ret = err_set(
			err, EINVAL,
			"'file' takes the options of a file; names of nodes are not known here");
	} else if (protocol && !file) {
		json_object_set_new(o, "driver", json_string(driver));
		n->format = xstrdup("raw");
		ret = parse_file(o, n, err);
	} else if (protocol) {
		ret = nothing_left(o, driver, true, err);
	} else {
		n->format = driver ? xstrdup(driver) : NULL;
		json_object_del(o, "file");
		/*
		 * Without a driver the format is found by looking; only what every one takes, and
		 * qcow2's, can be said.
		 */
		if (!driver || !strcmp(driver, "qcow2"))
			ret = parse_data_file(o, n, err);
		if (!ret)
			ret = name_take_options(o, driver ? driver : "qcow2", n, err);
		if (!ret && !file)
			ret = parse_file(o, n, err);
		else if (!ret)
			ret = parse_below(file, n, err);
		if (!ret)
			ret = nothing_left(o, driver ? driver : "image", false, err);
	}
	json_decref(file);
	free(driver);
	return ret;
}

/*
 * QEMU's JSON has strings in single quotes, too, as a shell's user likes to write them: as a
 * standard JSON text. Inside them a double quote stands for itself.
 */
static char *double_quotes(const char *s)
{
	char *out = xcalloc(2, strlen(s) + 1), *p = out, quote = 0;

	for (; *s; s++) {
		if (quote && *s == '\\' && s[1]) {
			if (s[1] != '\'')
				*p++ = '\\';
			*p++ = *++s;
		} else if (quote && *s == quote) {
			*p++ = '"';
			quote = 0;
		} else if (quote && *s == '"') {
			*p++ = '\\';
			*p++ = '"';
		} else if (!quote && (*s == '"' || *s == '\'')) {
			quote = *s;
			*p++ = '"';
		} else {
			*p++ = *s;
		}
	}
	return out;
}

json_t *name_json(const char *text, struct err *err)
{
	char *standard = double_quotes(text);
	json_error_t e;
	json_t *o = json_loads(standard, 0, &e);

	free(standard);
	if (json_is_object(o))
		return o;
	err_set(err, EINVAL, "Could not parse the JSON options: %s",
		o ? "they are no object" : e.text);
	json_decref(o);
	return NULL;
}

int name_parse(const char *text, struct image_name *n, struct err *err)
{
	json_t *flat = name_json(text + strlen("json:"), err), *o;
	int ret;

	memset(n, 0, sizeof(*n));
	if (!flat)
		return -EINVAL;
	o = nested(flat, 1, err);
	ret = o ? parse_layer(o, n, err) : -EINVAL;
	json_decref(o);
	json_decref(flat);
	return ret;
}

void name_free(struct image_name *n)
{
	free(n->filename);
	free(n->format);
	free(n->secret);
	free(n->backing);
	free(n->below);
	free(n->data_file);
	memset(n, 0, sizeof(*n));
}

/* Removes the value of "a.b.c", if there is one. */
static void forget(json_t *o, const char *key)
{
	const char *dot = strchr(key, '.');
	char *first = dot ? xasprintf("%.*s", (int)(dot - key), key) : NULL;
	json_t *v = dot ? json_object_get(o, first) : NULL;

	if (!dot && !json_is_object(json_object_get(o, key)))
		json_object_del(o, key);
	else if (dot && json_is_object(v) && !too_deep(key))
		forget(v, dot + 1);
	free(first);
}

char *name_from_options(const char *const *options, struct err *err)
{
	json_t *o = json_object();
	char *name = NULL;
	int ret = 0;

	for (; options && *options && !ret; options++) {
		const char *eq = strchr(*options, '=');
		char *key = xasprintf("%.*s", eq ? (int)(eq - *options) : (int)strlen(*options),
				      *options);
		json_t *v = json_string(eq ? eq + 1 : "on");

		forget(o, key);		/* what is said last counts */
		ret = v ? put(o, key, v, err)
			: err_set(err, EINVAL, "'%s': its value is no UTF-8 text", key);
		json_decref(v);
		free(key);
	}
	if (!ret)
		name = as_name(o);
	json_decref(o);
	return name;
}

/* --- one file, several names --- */

static bool is_remote(const char *name)
{
	/* The last protocol is "file", which takes any name. */
	for (int i = 0; node_protocols[i] && node_protocols[i + 1]; i++)
		if (node_protocols[i]->match && node_protocols[i]->match(name))
			return true;
	return false;
}

/* The file a name leads to. false: none that can be looked at. */
static bool file_identity(const struct host *host, const char *name, struct stat *st)
{
	struct image_name parts = { 0 };
	struct err err = { "" };
	bool found;

	if (name_is_json(name))
		name = name_parse(name, &parts, &err) == 0 ? parts.filename : NULL;
	if (name && !strncmp(name, "file:", 5))
		name += 5;
	if (name && is_remote(name))
		name = NULL;
	found = name && *name && host_stat(host, name, st) == 0;
	name_free(&parts);
	return found;
}

void name_allow(const struct host *host, const char *name)
{
	struct image_name parts = { 0 };
	struct err err = { "" };

	if (!name_is_json(name)) {
		if (is_remote(name))
			host_allow(host, name, &err);
		else
			host_allow_file(host, strncmp(name, "file:", 5) ? name : name + 5);
	} else if (name_parse(name, &parts, &err) == 0) {
		const char *all[] = { parts.filename, parts.below, parts.backing,
				      parts.data_file };

		for (size_t i = 0; i < ARRAY_SIZE(all); i++)
			if (all[i] && *all[i])
				name_allow(host, all[i]);
	}
	name_free(&parts);
}

bool name_same_file(const struct host *host, const char *a, const char *b)
{
	struct stat sa, sb;

	if (!strcmp(a, b))
		return true;
	return file_identity(host, a, &sa) && file_identity(host, b, &sb) &&
	       sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

bool name_is_node(const struct node *n, const char *name)
{
	return name_same_file(n->host, n->filename, name);
}

bool name_is_backing(const struct node *n, const char *name)
{
	const struct node as_typed = { .filename = n->filename, .backing_name = (char *)name };
	char *path, *from_here;
	bool same;

	if (!n->backing_name || !*n->backing_name || !*name)
		return false;
	path = node_backing_path(n);
	from_here = node_backing_path(&as_typed);
	same = !strcmp(n->backing_name, name) || name_same_file(n->host, path, name) ||
	       name_same_file(n->host, path, from_here);
	free(path);
	free(from_here);
	return same;
}

struct node *name_find_layer(struct node *top, const char *name)
{
	struct node *n;

	if (name_is_node(top, name))
		return top;
	for (n = top; n && n->backing; n = n->backing)
		if (name_is_backing(n, name) || name_is_node(n->backing, name))
			return n->backing;
	return NULL;
}
