/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * config_chardev.c: -chardev KIND,id=ID,...: a stream with a name, rewritten as the short form that
 * -serial takes. Main thread, before the machine is there.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/config/config.h"
#include "vmm/config/keyval.h"

static int file_spec(struct keyval *kv, const char *path, FILE *out, struct err *err)
{
	const char *size = keyval_get(kv, "size");
	bool append = false;

	if (!path)
		return err_set(err, EINVAL, "a file needs path=");
	if (keyval_bool(kv, "append", &append, err) < 0)
		return -EINVAL;
	fprintf(out, "file:%s,append=%s", path, append ? "on" : "off");
	if (size)
		fprintf(out, ",size=%s", size);
	return 0;
}

static int socket_spec(struct keyval *kv, const char *path, FILE *out, struct err *err)
{
	const char *host = keyval_get(kv, "host"), *port = keyval_get(kv, "port");
	bool server = false, wait = true;

	if (!path == !port)
		return err_set(err, EINVAL, "a socket needs path=, or host= and port=");
	if (path && strchr(path, ','))
		return err_set(err, EINVAL, "path=%s: no commas in the path of a socket", path);
	if (keyval_bool(kv, "server", &server, err) < 0 || keyval_bool(kv, "wait", &wait, err) < 0)
		return -EINVAL;
	if (path)
		fprintf(out, "unix:%s", path);
	else
		fprintf(out, "tcp:%s:%s", host ? host : "", port);
	fprintf(out, "%s%s", server ? ",server" : "", server && !wait ? ",nowait" : "");
	return 0;
}

static int kind_spec(struct keyval *kv, FILE *out, struct err *err)
{
	static const char *const kinds[] = { "null", "pty", "stdio", "file", "socket",
					     "serial", "tty", NULL };
	const char *path;
	bool mux = false;
	int kind = -1;

	if (keyval_choice(kv, "backend", kinds, &kind, err) < 0)
		return -EINVAL;
	switch (kind) {
	case 0:
	case 1:
		fputs(kinds[kind], out);
		return 0;
	case 2:
		if (keyval_bool(kv, "mux", &mux, err) < 0)
			return -EINVAL;
		fputs(mux ? "mon:stdio" : "stdio", out);
		return 0;
	}
	path = keyval_get(kv, "path");
	switch (kind) {
	case 3:
		return file_spec(kv, path, out, err);
	case 4:
		return socket_spec(kv, path, out, err);
	case 5:
	case 6:
		if (!path || strncmp(path, "/dev/", 5))
			return err_set(err, EINVAL, "%s needs path=/dev/...", kinds[kind]);
		fputs(path, out);
		return 0;
	}
	return err_set(err, EINVAL, "which kind? null, pty, stdio, file, socket or serial");
}

struct new_chardev { struct config *c; char *id; FILE *out; };

static int take_chardev(struct keyval *kv, void *ctx, struct err *err)
{
	struct new_chardev *n = ctx;
	const char *logfile, *logsize;
	bool logappend = false;

	n->id = keyval_dup(kv, "id");
	logfile = keyval_get(kv, "logfile");
	logsize = keyval_get(kv, "logsize");
	if (kind_spec(kv, n->out, err) < 0 || keyval_bool(kv, "logappend", &logappend, err) < 0)
		return -EINVAL;
	if (logfile && strchr(logfile, ','))
		return err_set(err, EINVAL, "logfile=%s: no commas in its path", logfile);
	if (logfile)
		fprintf(n->out, ",logappend=%s,logfile=%s", logappend ? "on" : "off", logfile);
	if (logsize)
		fprintf(n->out, ",logsize=%s", logsize);
	return 0;
}

int config_add_chardev(struct config *c, const char *arg, struct err *err)
{
	char *spec = NULL;
	size_t len;
	struct new_chardev n = { c, NULL, open_memstream(&spec, &len) };
	int ret = n.out ? keyval_use(arg, "backend", take_chardev, &n, err) : -ENOMEM;

	if (n.out)
		fclose(n.out);
	if (ret == 0 && (!n.id || !*n.id))
		ret = err_set(err, EINVAL, "id= is missing (-serial chardev:ID names it)");
	if (ret == 0 && config_chardev_spec(c, n.id) != n.id)
		ret = err_set(err, EEXIST, "the id '%s' is taken", n.id);
	if (ret == 0 && c->nchardevs == ARRAY_SIZE(c->chardevs))
		ret = err_set(err, E2BIG, "more than %zu", ARRAY_SIZE(c->chardevs));
	if (ret == 0) {
		c->chardevs[c->nchardevs].id = n.id;
		c->chardevs[c->nchardevs].spec = spec;
		c->chardevs[c->nchardevs++].arg = xstrdup(arg);
		return 0;
	}
	err_prefix(err, "-chardev %s", arg);
	free(n.id);
	free(spec);
	return ret;
}

const char *config_chardev_spec(const struct config *c, const char *name)
{
	const char *id = strncmp(name, "chardev:", 8) ? name : name + 8;

	for (unsigned i = 0; i < c->nchardevs; i++)
		if (!strcmp(c->chardevs[i].id, id))
			return c->chardevs[i].spec;
	return name;
}
