/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * open.c: opening and making images as the command line says, and removing what was left half made.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk/name.h"
#include "tools/img/img.h"

/*
 * --- outputs: every file created through img_host ---
 * A file that was there before is ours to remove only once it has been made anew: until then it may
 * be refused to us, because a running machine has it open.
 */
static struct output { struct host_path own; bool existed; } *outputs;
static int noutputs;

static int record_call(void *ctx, struct host_call *c, struct err *err)
{
	struct stat st;
	bool output = c->op == HOST_OPEN && c->flags & O_CREAT;
	bool existed = output && host_lstat(&host_direct, c->name, &st) == 0;
	int fd = host_direct.call(host_direct.ctx, c, err);

	if (fd >= 0 && output && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
	    strncmp(c->name, "/dev/", 5)) {
		outputs = xrealloc(outputs, (noutputs + 1) * sizeof(*outputs));
		outputs[noutputs].existed = existed;
		host_own(&outputs[noutputs++].own, c->name, fd);
	}
	return fd;
}

const struct host img_host = { .call = record_call };

void outputs_keep(void)
{
	while (noutputs--)
		if (outputs[noutputs].own.path) {
			close(outputs[noutputs].own.fd);
			free(outputs[noutputs].own.path);
		}
	noutputs = 0;
	free(outputs);
	outputs = NULL;
}

void outputs_remove(void)
{
	for (int i = 0; i < noutputs; i++)
		if (!outputs[i].existed)
			host_remove(&host_direct, &outputs[i].own);
	outputs_keep();
}

/* --- opening --- */

int cache_flags(const char *mode, const char *def, bool *ok)
{
	static const struct { const char *name; int flags;
	} modes[] = {
		{ "none", BLK_NOCACHE },
		{ "off", BLK_NOCACHE },
		{ "directsync", BLK_NOCACHE | BLK_WRITETHROUGH },
		{ "writeback", 0 },
		{ "unsafe", BLK_UNSAFE },
		{ "writethrough", BLK_WRITETHROUGH },
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

/* In qemu-img's words. */
static void warn_raw_guess(const struct node *n)
{
	if (!n->probed || strcmp(n->ops->format, "raw") || !(n->flags & BLK_RDWR))
		return;
	fprintf(stderr,
		"WARNING: Image format was not specified for '%s' and probing guessed raw.\n"
		"         Automatically detecting the format is dangerous for raw images, write "
		"operations on block 0 will be restricted.\n"
		"         Specify the 'raw' format explicitly to remove the restrictions.\n",
		n->filename);
}

struct node *img_open_layer(const struct args *a, const char *filename, const char *format,
			    unsigned flags, struct err *err)
{
	return img_open_below(a, &img_host, filename, format, flags, err);
}

struct node *img_open_below(const struct args *a, const struct host *door, const char *filename,
			    const char *format, unsigned flags, struct err *err)
{
	struct blk_options o = { .format = format,
				 .flags = flags | BLK_GUESS_TOLD,
				 .host = door,
				 .secrets = img_secrets };
	struct node *n;

	if (arg_has(a, "-U|--force-share")) {
		if (flags & BLK_RDWR) {
			err_set(err, EINVAL,
				"force-share=on can only be used with read-only images");
			return NULL;
		}
		o.flags |= BLK_SHARE;
	}
	n = node_open(filename, &o, err);
	if (n)
		warn_raw_guess(n);
	return n;
}

/* A backing file's name: from the current folder, or from that of the image. */
static void allow_backing(const struct args *a, const char *name)
{
	const struct node over = { .filename = a->n ? a->operand[0] : (char *)"",
				   .backing_name = (char *)name };
	char *path = node_backing_path(&over);

	name_allow(&img_host, name);
	if (path)
		name_allow(&img_host, path);
	free(path);
}

int img_allow_names(const struct args *a)
{
	bool options = arg_has(a, "--image-opts");
	struct err err = { "" };

	for (int i = 0; i < a->nset; i++) {
		const char *name = a->set[i].name, *value = a->set[i].value;

		if (!strcmp(name, "--image-dir") && host_allow(&img_host, value, &err))
			return fail("%s", err.msg);
		if (value && *value && (!strcmp(name, "-b") || !strcmp(name, "-B")))
			allow_backing(a, value);
	}
	for (int i = 0; i < a->n; i++) {
		const char *text = a->operand[i];
		struct optlist l = { 0 };
		char *name = NULL;

		if (options && optlist_add(&l, text) == 0)
			name = name_from_options((const char *const *)l.v, &err);
		else if (!strcmp(a->cmd->name, "dd") && !strncmp(text, "if=", 3))
			text += 3;
		name_allow(&img_host, name ? name : text);
		free(name);
		optlist_free(&l);
	}
	return 0;
}

struct node *img_open_options(const struct args *a, const char *text, unsigned flags,
			      struct err *err)
{
	struct optlist l = { 0 };
	struct node *n = NULL;
	char *name = NULL;

	if (optlist_add(&l, text))
		err_set(err, EINVAL, "Invalid option list");
	else
		name = name_from_options((const char *const *)l.v, err);
	if (name)
		n = img_open_layer(a, name, NULL, flags, err);
	free(name);
	optlist_free(&l);
	return n;
}

struct node *img_open(const struct args *a, const char *filename, const char *format,
		      unsigned flags)
{
	bool options = arg_has(a, "--image-opts");
	struct err err = { 0 };
	struct node *n;

	if (options && format) {
		fail("--image-opts and --format are mutually exclusive");
		return NULL;
	}
	n = options ? img_open_options(a, filename, flags, &err)
		    : img_open_layer(a, filename, format, flags, &err);
	if (!n)
		fail("Could not open '%s': %s", filename, err.msg);
	return n;
}

void *img_buffer(size_t len)
{
	void *p;

	return posix_memalign(&p, 4096, len) ? NULL : p;
}

int size_arg(const char *s, uint64_t *size)
{
	int ret = parse_bytes(s, size);

	if (ret == 0 && *size <= INT64_MAX)
		return 0;
	if (ret == -ERANGE || (ret == 0 && *size > INT64_MAX))
		fail("Invalid image size specified. Must be between 0 and 9223372036854775807.");
	else
		fail("Invalid image size specified. You may use k, M, G, T, P or E suffixes "
		     "for\n%s: kilobytes, megabytes, "
		     "gigabytes, terabytes, petabytes and exabytes.",
		     log_name());
	return -EINVAL;
}

int secrets_to_files(const struct optlist *in, struct optlist *out, struct err *err)
{
	static const char *const ids[] = { "key-secret", "new-secret", "old-secret" };

	for (int i = 0; i < in->n; i++) {
		char *eq = strchr(in->v[i], '='),
		     *name = xasprintf("%.*s", (int)(eq - in->v[i]), in->v[i]);
		const char *last = strncmp(name, "encrypt.", 8) ? name : name + 8, *value = eq + 1;

		for (unsigned k = 0; k < ARRAY_SIZE(ids); k++)
			if (!strcmp(last, ids[k]) && !(value = secret_file(eq + 1))) {
				free(name);
				return err_set(err, ENOENT, "No secret with id '%s'", eq + 1);
			}
		optlist_set(out, name, value);
		free(name);
	}
	return 0;
}

int img_create(const struct args *a, const char *format, const char *filename, uint64_t size,
	       const char *backing, const char *backing_format, const struct optlist *opts,
	       struct err *err)
{
	struct node_create c = {
		.filename = filename,
		.size = size,
		.backing = backing,
		.backing_format = backing_format,
		.opts = (const char *const *)opts->v,
		.host = &img_host,
	};
	struct optlist copy = { 0 };
	int ret = secrets_to_files(opts, &copy, err);

	c.opts = (const char *const *)copy.v;
	if (!ret)
		ret = node_create(format, &c, err);
	for (int i = 0; ret == 0 && i < noutputs; i++)
		outputs[i].existed = false;	/* what was there before is gone */
	optlist_free(&copy);
	return ret;
}
