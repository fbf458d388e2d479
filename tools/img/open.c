/* SPDX-License-Identifier: GPL-2.0-or-later */
/* open.c: opening and making images as the command line says, and removing what was left half made. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/img/img.h"

/*
 * --- outputs: every file created through img_host ---
 * A file that was there before is ours to remove only once it has been made anew: until then it may be refused to us, because
 * a running machine has it open.
 */
static struct output { char *path; bool existed; } *outputs;
static int noutputs;

static int record_open(void *ctx, const char *path, int flags, int mode, struct err *err)
{
	struct stat st;
	bool existed = flags & O_CREAT && lstat(path, &st) == 0;
	int fd = host_open(&host_direct, path, flags, mode, err);

	if (fd >= 0 && flags & O_CREAT && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && strncmp(path, "/dev/", 5)) {
		outputs = xrealloc(outputs, (noutputs + 1) * sizeof(*outputs));
		outputs[noutputs++] = (struct output){ xstrdup(path), existed };
	}
	return fd;
}

static int direct_connect(void *ctx, const char *address, struct err *err)
{
	return host_direct.ops->connect(host_direct.ctx, address, err);
}

static int direct_spawn(void *ctx, char *const argv[], int in, int out, struct err *err)
{
	return host_direct.ops->spawn(host_direct.ctx, argv, in, out, err);
}

static void direct_lock_owner(void *ctx, int fd, char *buf, size_t len)
{
	host_direct.ops->lock_owner(host_direct.ctx, fd, buf, len);
}

static const struct host_ops record_ops = {
	.open = record_open, .connect = direct_connect, .spawn = direct_spawn, .lock_owner = direct_lock_owner,
};
const struct host img_host = { &record_ops, NULL };

void outputs_keep(void)
{
	while (noutputs)
		free(outputs[--noutputs].path);
	free(outputs);
	outputs = NULL;
}

void outputs_remove(void)
{
	for (int i = 0; i < noutputs; i++)
		if (!outputs[i].existed)
			unlink(outputs[i].path);
	outputs_keep();
}

/* --- --object secret,id=,file= --- */

const char *secret_file(const struct args *a, const char *id)
{
	static char file[4096];

	for (int i = 0; i < a->nset; i++) {
		struct optlist l = { 0 };
		const char *v;
		bool found;

		if (strcmp(a->set[i].name, "--object") || optlist_add(&l, a->set[i].value))
			continue;
		v = optlist_get(&l, "id");
		found = v && !strcmp(v, id) && optlist_get(&l, "file");
		if (found)
			snprintf(file, sizeof(file), "%s", optlist_get(&l, "file"));
		optlist_free(&l);
		if (found)
			return file;
	}
	return NULL;
}

int args_objects(const struct args *a)
{
	for (int i = 0; i < a->nset; i++) {
		struct optlist l = { 0 };
		int ret = 0;

		if (strcmp(a->set[i].name, "--object"))
			continue;
		if (optlist_add(&l, a->set[i].value))
			return 1;
		if (strcmp(l.n ? l.v[0] : "", "secret=on") && strcmp(l.n ? l.v[0] : "", "qom-type=secret"))
			ret = fail("Invalid object '%s': only secret,id=ID,file=FILE is known", a->set[i].value);
		else if (optlist_get(&l, "data"))
			ret = fail("a secret's data on the command line can be read by every user: put it into a file and use file=FILE");
		else if (!optlist_get(&l, "id") || !optlist_get(&l, "file"))
			ret = fail("Invalid object '%s': it needs id=ID and file=FILE", a->set[i].value);
		optlist_free(&l);
		if (ret)
			return ret;
	}
	return 0;
}

/* --- opening --- */

int cache_flags(const char *mode, const char *def, bool *ok)
{
	static const struct { const char *name; int flags; } modes[] = {
		{ "none", BLK_NOCACHE }, { "off", BLK_NOCACHE }, { "directsync", BLK_NOCACHE | BLK_WRITETHROUGH },
		{ "writeback", 0 }, { "unsafe", BLK_UNSAFE }, { "writethrough", BLK_WRITETHROUGH },
	};

	if (!mode)
		mode = def;
	for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
		if (!strcmp(mode, modes[i].name)) {
			*ok = true;
			return modes[i].flags;
		}
	}
	*ok = false;
	return 0;
}

/* "driver=qcow2,file.driver=file,file.filename=x": the format and name that node_open takes. */
static int image_opts(const char *text, struct optlist *l, const char **filename, const char **format, const char **secret,
		      struct err *err)
{
	static const char *const known[] = { "driver", "file.driver", "file.filename", "filename", "key-secret",
					     "encrypt.key-secret", "encrypt.format", "read-only", "file.read-only",
					     "force-share", "file.locking" };

	if (optlist_add(l, text))
		return err_set(err, EINVAL, "Invalid option list");
	for (int i = 0; i < l->n; i++) {
		size_t len = strcspn(l->v[i], "=");
		bool found = false;

		for (unsigned k = 0; k < ARRAY_SIZE(known); k++)
			found |= strlen(known[k]) == len && !strncmp(known[k], l->v[i], len);
		if (!found)
			return err_set(err, EINVAL, "Invalid parameter '%.*s': minivmm knows driver, file.driver, file.filename and "
				       "encrypt.key-secret here", (int)len, l->v[i]);
	}
	*format = optlist_get(l, "driver");
	*filename = optlist_get(l, "file.filename");
	if (!*filename)
		*filename = optlist_get(l, "filename");
	if (!*filename)
		return err_set(err, EINVAL, "A file name is needed: file.filename=NAME");
	if (*format && !strcmp(*format, "file"))
		*format = "raw";
	*secret = optlist_get(l, "encrypt.key-secret");
	if (!*secret)
		*secret = optlist_get(l, "key-secret");
	return 0;
}

struct node *img_open_err(const struct args *a, const char *filename, const char *format, unsigned flags, struct err *err)
{
	struct blk_options o = { .format = format, .flags = flags, .host = &img_host };
	struct optlist l = { 0 };
	const char *secret = NULL;
	struct node *n = NULL;

	if (arg_has(a, "-U|--force-share"))
		o.flags |= BLK_SHARE;
	if (arg_has(a, "--image-opts") && image_opts(filename, &l, &filename, &o.format, &secret, err))
		goto out;
	if (secret) {
		o.secret_file = secret_file(a, secret);
		if (!o.secret_file) {
			err_set(err, ENOENT, "No secret with id '%s'", secret);
			goto out;
		}
	}
	n = node_open(filename, &o, err);
out:
	optlist_free(&l);
	return n;
}

struct node *img_open(const struct args *a, const char *filename, const char *format, unsigned flags)
{
	struct err err = { 0 };
	struct node *n = img_open_err(a, filename, format, flags, &err);

	if (!n)
		fail("Could not open '%s': %s", filename, err.msg);
	return n;
}

bool img_warn_raw_guess(struct node *n)
{
	if (!n->probed || strcmp(n->ops->format, "raw") || !(n->flags & BLK_RDWR))
		return false;
	fprintf(stderr, "WARNING: Image format was not specified for '%s' and probing guessed raw.\n"
		"         Automatically detecting the format is dangerous for raw images, write operations on block 0 will be restricted.\n"
		"         Specify the 'raw' format explicitly to remove the restrictions.\n", n->filename);
	return true;
}

int size_arg(const char *s, uint64_t *size)
{
	int ret = parse_size(s, 1, size);

	if (ret == 0 && *size <= INT64_MAX)
		return 0;
	if (ret == -ERANGE || (ret == 0 && *size > INT64_MAX))
		fail("Image size must be less than 8 EiB!");
	else
		fail("Invalid image size specified. You may use k, M, G, T, P or E suffixes for\n%s: kilobytes, megabytes, "
		     "gigabytes, terabytes, petabytes and exabytes.", log_name());
	return -EINVAL;
}

int img_create(const struct args *a, const char *format, const char *filename, uint64_t size, const char *backing,
	       const char *backing_format, const struct optlist *opts, struct err *err)
{
	struct node_create c = {
		.filename = filename, .size = size, .backing = backing, .backing_format = backing_format,
		.opts = (const char *const *)opts->v, .host = &img_host,
	};
	const char *secret = optlist_get(opts, "encrypt.key-secret");
	struct optlist copy = { 0 };
	int ret;

	if (secret) {
		if (!secret_file(a, secret))
			return err_set(err, ENOENT, "No secret with id '%s'", secret);
		for (int i = 0; i < opts->n; i++) {
			char *eq = strchr(opts->v[i], '='), *name = xasprintf("%.*s", (int)(eq - opts->v[i]), opts->v[i]);

			optlist_set(&copy, name, eq + 1);
			free(name);
		}
		optlist_set(&copy, "encrypt.key-secret", secret_file(a, secret));
		c.opts = (const char *const *)copy.v;
	}
	ret = node_create(format, &c, err);
	for (int i = 0; ret == 0 && i < noutputs; i++)
		outputs[i].existed = false;	/* what was there before is gone */
	optlist_free(&copy);
	return ret;
}
