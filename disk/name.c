/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * name.c: json: names (qemu(1), "blockdev" and the json: pseudo protocol). What they say flat
 * ("file.filename") and nested is the same; options that would change what is read and are not
 * known are refused. Opening thread.
 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

#include "disk/name.h"
#include "disk/node.h"

/*
 * These change nothing of what is read: the command decides about access, and locks are held
 * whatever a name says.
 */
static const char *const passed_over[] = { "read-only", "auto-read-only", "force-share", "locking",
					   "node-name" };

static bool passes(const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(passed_over); i++)
		if (!strcmp(key, passed_over[i]))
			return true;
	return false;
}

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

/* A string or number among the options, as text; it is removed. NULL: not there. */
static char *take(json_t *o, const char *key)
{
	json_t *v = json_object_get(o, key);
	char *s = json_is_string(v) ? xstrdup(json_string_value(v)) :
		  json_is_integer(v) ? xasprintf("%lld", (long long)json_integer_value(v)) : NULL;

	if (s)
		json_object_del(o, key);
	return s;
}

/* What is left of the options was not understood. */
static int nothing_left(json_t *o, const char *driver, struct err *err)
{
	const char *key;
	json_t *v;

	json_object_foreach(o, key, v) if (!passes(key)) return err_set(
		err, EINVAL, "Block format '%s' does not support the option '%s'", driver, key);
	return 0;
}

/* nbd: a server by name and port or by its socket, as the address the protocol takes. */
static char *nbd_address(json_t *o)
{
	json_t *server = json_incref(json_object_get(o, "server")),
	       *from = json_is_object(server) ? server : o;
	char *host = take(from, "host"), *port = take(from, "port"), *path = take(from, "path"),
	     *export = take(o, "export");
	char *type = take(from, "type"), *out = NULL;

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

/* The options of a protocol: what is below a format. */
static int parse_file(json_t *o, struct image_name *n, struct err *err)
{
	char *driver = take(o, "driver");
	int ret = 0;

	if (driver && !strcmp(driver, "nbd"))
		n->filename = nbd_address(o);
	else if (driver && (!strcmp(driver, "http") || !strcmp(driver, "https")))
		n->filename = take(o, "url");
	else if (driver && !is_plain_protocol(driver))
		ret = err_set(err, ENOTSUP,
			      "Unknown protocol '%s': minivmm knows file, host_device, nbd, http "
			      "and https here",
			      driver);
	if (!ret && !n->filename)
		n->filename = take(o, "filename");
	if (!ret && n->filename && driver && is_plain_protocol(driver) &&
	    strncmp(n->filename, "file:", 5)) {
		/* A file, even if it is called as an address would be. */
		char *path = xasprintf("file:%s", n->filename);

		free(n->filename);
		n->filename = path;
	}
	if (!ret && !n->filename)
		ret = err_set(err, EINVAL, "A file name is needed: \"file\": {\"filename\": NAME}");
	if (!ret)
		ret = nothing_left(o, driver ? driver : "file", err);
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

/* One layer: a format and the file below it; the protocol alone is a raw disk. */
static int parse_layer(json_t *o, struct image_name *n, struct err *err)
{
	char *driver = take(o, "driver");
	json_t *file = json_incref(json_object_get(o, "file")),
	       *encrypt = json_object_get(o, "encrypt");
	bool protocol = driver && (is_plain_protocol(driver) || !strcmp(driver, "nbd") ||
				   !strncmp(driver, "http", 4));
	int ret = parse_backing(o, n, err);

	if (!ret && driver && !protocol && !node_format_find(driver))
		ret = err_set(err, EINVAL, "Unknown driver '%s'", driver);

	n->secret = json_is_object(encrypt) ? take(encrypt, "key-secret") : NULL;
	if (!n->secret)
		n->secret = take(o, "key-secret");
	if (json_is_object(encrypt))
		json_object_del(o, "encrypt");
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
	} else {
		n->format = driver ? xstrdup(driver) : NULL;
		json_object_del(o, "file");
		ret = parse_file(file ? file : o, n, err);
		if (!ret)
			ret = nothing_left(o, driver ? driver : "image", err);
	}
	json_decref(file);
	free(driver);
	return ret;
}

int name_parse(const char *text, struct image_name *n, struct err *err)
{
	json_error_t e;
	json_t *flat = json_loads(text + strlen("json:"), 0, &e), *o = NULL;
	int ret;

	memset(n, 0, sizeof(*n));
	if (!json_is_object(flat)) {
		json_decref(flat);
		return err_set(err, EINVAL, "Could not parse the JSON options: %s",
			       flat ? "they are no object" : e.text);
	}
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
	memset(n, 0, sizeof(*n));
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
