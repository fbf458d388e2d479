/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node.c: the tree of nodes: opening with probing and backing chain, and the calls through which
 * one node uses another. Reads and writes run on worker threads, several at once; opening and
 * changing the tree is for one thread, while drained.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/stat.h>

#include "disk/formats.h"
#include "disk/name.h"
#include "vmm/base/iov.h"
#include "vmm/base/log.h"

enum { PROBE_BYTES = 4096, ZERO_PIECE = 1 << 20, CHAIN_MAX = 4096 };

static const uint8_t zero_piece[ZERO_PIECE] __attribute__((aligned(4096)));

const struct node_ops *node_format_find(const char *name)
{
	for (int i = 0; node_formats[i]; i++)
		if (!strcmp(node_formats[i]->format, name))
			return node_formats[i];
	/* What QEMU calls the protocols where a format is asked for. */
	if (!strcmp(name, "file") || !strcmp(name, "host_device") || !strcmp(name, "host_cdrom") ||
	    !strcmp(name, "nbd"))
		return &raw_ops;
	if (!strcmp(name, "vhd"))
		return node_format_find("vpc");
	return NULL;
}

/* --- a node's life --- */

/* A copy: whoever gave the door may be gone before the node. */
void node_set_host(struct node *n, const struct host *host)
{
	free(n->named_by);
	n->door = host ? *host : host_door;
	n->door.from = n->named_by = n->door.from ? xstrdup(n->door.from) : NULL;
	n->host = &n->door;
}

struct host node_names(const struct node *n)
{
	struct host h = *n->host;

	h.origin = HOST_IMAGE;
	h.from = n->filename;
	return h;
}

struct node *node_new(const struct node_ops *ops, const char *filename, struct node *file,
		      unsigned flags)
{
	struct node *n = xcalloc(1, sizeof(*n));

	n->ops = ops;
	n->filename = xstrdup(filename);
	n->file = file;
	n->flags = flags;
	n->request_align = 1;
	n->refs = 1;
	n->fd = -1;
	node_set_host(n, file ? file->host : NULL);
	n->inactive = flags & BLK_INACTIVE;
	return n;
}

void node_ref(struct node *n)
{
	__atomic_add_fetch(&n->refs, 1, __ATOMIC_RELAXED);
}

void node_unref(struct node *n)
{
	/* Down the chain in a loop: it may be long. */
	while (n && __atomic_sub_fetch(&n->refs, 1, __ATOMIC_ACQ_REL) == 0) {
		struct node *backing = n->backing;

		if (n->ops->close && n->priv)
			n->ops->close(n);
		node_unref(n->data_file);
		node_unref(n->file);
		free(n->filename);
		free(n->backing_name);
		free(n->backing_format);
		free(n->named_by);
		free(n);
		n = backing;
	}
}

bool node_reaches(const struct node *n, const struct node *other)
{
	for (; n; n = n->backing) {
		if (n == other || (n->file && node_reaches(n->file, other)))
			return true;
		if (n->data_file && node_reaches(n->data_file, other))
			return true;
	}
	return false;
}

/* --- opening --- */

/* format: what an image records for it, if it is a backing file; NULL otherwise. */
static struct node *open_protocol(const char *filename, unsigned flags, const struct host *host,
				  const char *format, struct err *err)
{
	const struct node_ops *ops = NULL;
	struct node *n;
	struct blk_options o = { .flags = flags, .host = host, .format = format };
	struct err why = { 0 };
	int ret;

	for (int i = 0; node_protocols[i] && !ops; i++)
		if (!node_protocols[i]->match || node_protocols[i]->match(filename))
			ops = node_protocols[i];
	if (ops == &file_ops && protocol_refuse(filename, false, err))
		return NULL;
	/* (A null disk is nobody's.) */
	if (ops != &file_ops && ops != &null_protocol && host && host->origin == HOST_IMAGE &&
	    host_ask_address(host, filename, err))
		return NULL;
	n = node_new(ops, strncmp(filename, "file:", 5) ? filename : filename + 5, NULL, flags);
	node_set_host(n, host);
	ret = ops->open(n, &o, &why);
	if (ret == -ENOENT && ops == &file_ops)
		protocol_refuse(filename, true, err);
	if (ret) {
		err_set(err, -ret, "%s", why.msg);
		err_set(err, -ret, "Could not open '%s': %s", filename, strerror(-ret));
		node_unref(n);
		return NULL;
	}
	return n;
}

struct node *node_open_file(const char *filename, unsigned flags, const struct host *host,
			    struct err *err)
{
	return open_protocol(filename, flags, host, NULL, err);
}

static const struct node_ops *probe(struct node *file, const char *filename, struct err *err)
{
	const struct node_ops *best = NULL;
	uint8_t *head = xcalloc(1, PROBE_BYTES);
	size_t len = MIN((uint64_t)PROBE_BYTES, file->size);
	int best_score = 0, ret;

	ret = node_pread(file, head, len, 0);
	if (ret)
		err_set(err, -ret, "'%s': cannot read its first bytes: %s", filename,
			strerror(-ret));
	for (int i = 0; node_formats[i] && !ret; i++) {
		int score = node_formats[i]->probe
				    ? node_formats[i]->probe(head, len, file->size, filename)
				    : 0;

		if (score > best_score) {
			best_score = score;
			best = node_formats[i];
		}
	}
	free(head);
	return best;
}

static void known_formats(char *buf, size_t len)
{
	size_t n = 0;

	buf[0] = 0;
	for (int i = 0; node_formats[i] && n < len; i++)
		n += snprintf(buf + n, len - n, "%s%s", i ? ", " : "", node_formats[i]->format);
}

/* The file that holds the passphrase a json: name asks for. */
static int find_secret(const char *id, struct blk_options *o, struct err *err)
{
	for (const struct blk_secret *s = o->secrets; s && s->id; s++)
		if (!strcmp(s->id, id)) {
			o->secret_file = s->file;
			return 0;
		}
	return err_set(err, ENOENT, "No secret with id '%s'", id);
}

/* What a json: name says about the layer below wins over what the image says. */
static void override_backing(struct node *n, const char *backing)
{
	free(n->backing_name);
	free(n->backing_format);
	n->backing_name = *backing ? xstrdup(backing) : NULL;
	n->backing_format = NULL;
	n->backing_said = true;
}

/*
 * A file that another image names, far from where images are kept: it is read only if it is what
 * it is said to be, and never in silence.
 */
static int accept_elsewhere(const struct node_ops *ops, struct node *file, struct err *err)
{
	uint8_t *head = xcalloc(1, PROBE_BYTES);
	size_t len = MIN((uint64_t)PROBE_BYTES, file->size);
	bool fits = ops && ops != &raw_ops && ops->probe && node_pread(file, head, len, 0) == 0 &&
		    ops->probe(head, len, file->size, file->filename) > 0;

	free(head);
	if (!fits) {
		const char *slash = strrchr(file->filename, '/');

		return err_set(err, EACCES,
			       "'%s' names '%s', which lies outside the folders of images and is "
			       "no %s image; to allow it, add: -image-dir '%.*s'",
			       file->named_by ? file->named_by : "an image", file->filename,
			       ops ? ops->format : "known",
			       slash ? (int)(slash - file->filename + 1) : 1,
			       slash ? file->filename : ".");
	}
	log_warn("'%s' names '%s' (%s), outside the folders of images: it is read",
		 file->named_by ? file->named_by : "an image", file->filename, ops->format);
	return 0;
}

/*
 * The format over a file that is open already (taken over, also when it fails). NULL with the
 * reason.
 */
static struct node *open_format(const struct node_ops *ops, struct node *file,
				const struct blk_options *o, struct err *err)
{
	char *filename = xstrdup(file->filename);
	struct node *n = NULL;

	if (!ops)
		ops = probe(file, filename, err);
	if (file->elsewhere && accept_elsewhere(ops, file, err)) {
		node_unref(file);
	} else if (!ops) {
		err_set(err, EINVAL, "'%s': its format is not known", filename);
		node_unref(file);
	} else {
		int ret;

		n = node_new(ops, filename, file, o->flags);
		n->probed = !o->format;
		ret = ops->open(n, o, err);
		if (ret) {
			err_set(err, -ret, "Could not open '%s': %s", filename, strerror(-ret));
			node_unref(n);
			n = NULL;
		}
	}
	free(filename);
	return n;
}

/* The format that is asked for; NULL in ops: it is to be found by looking. */
static int wanted_format(const char *format, const struct node_ops **ops, struct err *err)
{
	const char *why = format ? driver_refusal(format) : NULL;
	char known[512];

	*ops = format ? node_format_find(format) : NULL;
	if (!format || *ops)
		return 0;
	if (why)
		return err_set(err, ENOTSUP, "Driver '%s' is not supported: %s", format, why);
	known_formats(known, sizeof(known));
	return err_set(err, EINVAL, "Unknown driver '%s': minivmm knows %s", format, known);
}

static struct node *open_plain(const char *filename, const struct blk_options *o, struct err *err)
{
	const struct node_ops *ops;
	struct node *file;

	if (wanted_format(o->format, &ops, err))
		return NULL;
	/* (It may be recorded by the name of a protocol.) */
	file = open_protocol(filename, o->flags, o->host ? o->host : &host_door,
			     ops == &raw_ops ? "raw" : o->format, err);
	return file ? open_format(ops, file, o, err) : NULL;
}

enum { BELOW_MAX = 8 };

static struct node *open_layer_at(const char *filename, const struct blk_options *o, unsigned depth,
				  struct err *err);
static int open_chain(struct node *top, const struct blk_options *o, struct err *err);

/* What a json: name describes. */
static struct node *open_described(const struct image_name *name, const struct blk_options *o,
				   unsigned depth, struct err *err)
{
	struct blk_options named = *o, below = *o;
	const struct node_ops *ops;
	struct node *file;

	if (name->read_only && (o->flags & BLK_RDWR)) {
		err_set(err, EACCES, "Block node is read-only");
		return NULL;
	}
	if (name->secret && find_secret(name->secret, &named, err))
		return NULL;
	named.flags = (o->flags & ~name->flags_off) | name->flags_on;
	if (name->no_lock && !(o->flags & BLK_RDWR))
		named.flags |= BLK_SHARE;
	if (name->l2_cache_size)
		named.l2_cache_size = name->l2_cache_size;
	if (!named.format)
		named.format = name->format;
	named.said = name;
	if (!name->below)
		return open_plain(name->filename, &named, err);
	if (depth >= BELOW_MAX) {
		err_set(err, ELOOP, "More than %d formats one over the other", BELOW_MAX);
		return NULL;
	}
	if (wanted_format(named.format, &ops, err))
		return NULL;
	below.format = NULL;
	below.said = NULL;
	file = open_layer_at(name->below, &below, depth + 1, err);
	if (file && open_chain(file, &below, err)) {
		node_unref(file);
		file = NULL;
	}
	if (file && file->ops == &raw_ops && !file->priv) {
		/* The whole file as it is: it can grow below the format. */
		struct node *whole = file->file;

		node_ref(whole);
		node_unref(file);
		file = whole;
	}
	return file ? open_format(ops, file, &named, err) : NULL;
}

static struct node *open_layer_at(const char *filename, const struct blk_options *o, unsigned depth,
				  struct err *err)
{
	struct image_name name;
	struct node *n = NULL;

	if (!name_is_json(filename))
		return open_plain(filename, o, err);
	if (!name_parse(filename, &name, err))
		n = open_described(&name, o, depth, err);
	if (n && name.backing)
		override_backing(n, name.backing);
	name_free(&name);
	return n;
}

/* One layer, without its backing file. */
static struct node *open_layer(const char *filename, const struct blk_options *o, struct err *err)
{
	return open_layer_at(filename, o, 0, err);
}

char *node_backing_path(const struct node *n)
{
	const char *name = n->backing_name, *base = n->filename, *slash;

	if (!name || !*name)
		return NULL;
	if (name_is_json(name))
		return xstrdup(name);
	if (!strncmp(name, "file:", 5))
		name += 5;
	for (int i = 0; node_protocols[i]; i++)
		if (node_protocols[i]->match && node_protocols[i]->match(name))
			return xstrdup(name);
	if (!strncmp(base, "file:", 5))
		base += 5;
	slash = strrchr(base, '/');
	if (name[0] == '/' || !slash)
		return xstrdup(name);
	return xasprintf("%.*s%s", (int)(slash - base + 1), base, name);
}

/* Is this host file already among the layers from n on? */
static bool in_chain(const struct node *n, const struct node *layer)
{
	struct stat a, b;

	if (layer->file->fd < 0 || fstat(layer->file->fd, &a))
		return false;
	for (; n; n = n->backing)
		if (n->file && n->file->fd >= 0 && fstat(n->file->fd, &b) == 0 &&
		    a.st_dev == b.st_dev && a.st_ino == b.st_ino)
			return true;
	return false;
}

/* In a loop, not by recursion: a chain may be long. */
static int open_chain(struct node *top, const struct blk_options *o, struct err *err)
{
	struct blk_options bo = *o;
	struct node *n = top;
	unsigned depth = 0;

	bo.flags &= ~(BLK_RDWR | BLK_SNAPSHOT | BLK_CHECK | BLK_DETECT_ZEROES | BLK_DISCARD_UNMAP);
	while (!n->backing && n->backing_name && n->backing_name[0]) {
		char *path = node_backing_path(n);
		struct host host = n->backing_said ? *n->host : node_names(n);
		struct node *b;

		if (++depth > CHAIN_MAX) {
			free(path);
			return err_set(err, ELOOP,
				       "'%s': its chain of backing files has more than %d members",
				       top->filename, CHAIN_MAX);
		}
		bo.format = n->backing_format;
		bo.host = &host;
		b = open_layer(path, &bo, err);
		if (!b) {
			err_prefix(err, "Could not open backing file of '%s'", n->filename);
			free(path);
			return -ENOENT;
		}
		if (in_chain(top, b)) {
			err_set(err, ELOOP, "'%s': its chain of backing files comes back to '%s'",
				top->filename, path);
			free(path);
			node_unref(b);
			return -ELOOP;
		}
		free(path);
		if (b->probed && b->ops == &raw_ops)
			log_debug("'%s': backing format not given, taken as raw", b->filename);
		n->backing = b;
		n = b;
	}
	return 0;
}

struct node *node_open(const char *filename, const struct blk_options *o, struct err *err)
{
	static const struct blk_options none;
	struct node *n;

	o = o ? o : &none;
	n = open_layer(filename, o, err);
	if (n && !(o->flags & (BLK_NO_BACKING | BLK_NO_IO)) && open_chain(n, o, err)) {
		node_unref(n);
		return NULL;
	}
	return n;
}

/* --- creating --- */

const char *node_create_opt(const char *const *opts, const char *name)
{
	const char *found = NULL;
	size_t len = strlen(name);

	for (; opts && *opts; opts++)
		if (!strncmp(*opts, name, len) && ((*opts)[len] == '=' || !(*opts)[len]))
			found = (*opts)[len] ? *opts + len + 1 : "on";
	return found;
}

int node_create_opt_size(const char *const *opts, const char *name, uint64_t def, uint64_t *v,
			 struct err *err)
{
	const char *s = node_create_opt(opts, name);
	int ret;

	*v = def;
	if (!s)
		return 0;
	ret = parse_bytes(s, v);
	return ret ? err_set(err, -ret, "Parameter '%s' expects a size, not '%s'", name, s) : 0;
}

int node_create_opt_bool(const char *const *opts, const char *name, bool def, bool *v,
			 struct err *err)
{
	const char *s = node_create_opt(opts, name);
	int ret;

	*v = def;
	if (!s)
		return 0;
	ret = parse_bool(s, v);
	return ret ? err_set(err, -ret, "Parameter '%s' expects 'on' or 'off'", name) : 0;
}

static const struct node_opt *find_opt(const struct node_ops *ops, const char *opt)
{
	size_t len = strcspn(opt, "=");

	for (const struct node_opt *k = ops->create_opts; k && k->name; k++)
		if (strlen(k->name) == len && !strncmp(k->name, opt, len))
			return k;
	return NULL;
}

bool node_create_takes(const struct node_ops *ops, const char *opt)
{
	const struct node_opt *k = find_opt(ops, opt);

	return k ? k->amend != OPT_AMEND
		 : !strncmp(opt, "size", strcspn(opt, "=")) || (ops->create && file_hint_is(opt));
}

int node_amend(struct node *n, const char *const *opts, bool force, struct err *err)
{
	if (!n->ops->amend)
		return err_set(err, ENOTSUP, "Format driver '%s' does not support option amendment",
			       n->ops->format);
	for (int i = 0; opts && opts[i]; i++) {
		const struct node_opt *k = find_opt(n->ops, opts[i]);

		if (!k || k->amend == OPT_CREATE)
			return err_set(err, EINVAL, "Invalid parameter '%.*s'%s",
				       (int)strcspn(opts[i], "="), opts[i],
				       k ? "\nThis option is only supported for image creation"
					 : "");
	}
	return n->ops->amend(n, opts, force, err);
}

int node_create(const char *format, const struct node_create *c, struct err *err)
{
	const struct node_ops *ops = node_format_find(format);
	int ret;

	if (!ops)
		return err_set(err, EINVAL, "Unknown file format '%s'", format);
	if (!ops->create)
		return err_set(err, ENOTSUP, "Format driver '%s' does not support image creation",
			       format);
	if (name_is_json(c->filename))
		return err_set(err, EINVAL, "%s: Unknown protocol 'json'", c->filename);
	for (int i = 0; c->opts && c->opts[i]; i++)
		if (!node_create_takes(ops, c->opts[i]))
			return err_set(err, EINVAL, "Invalid parameter '%.*s'",
				       (int)strcspn(c->opts[i], "="), c->opts[i]);
	if (c->size > INT64_MAX - 511)
		return err_set(err, EFBIG, "Image size must be less than 8 EiB");
	ret = file_hints_apply(c, err);
	if (!ret)
		ret = ops->create(c, err);
	if (ret)
		err_set(err, -ret, "%s: %s", c->filename, strerror(-ret));
	return ret;
}

/* --- data --- */

static bool read_only(const struct node *n)
{
	return !(n->flags & BLK_RDWR) || n->inactive;
}

int node_readv(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len)
{
	uint64_t size = __atomic_load_n(&n->size, __ATOMIC_RELAXED),
		 inside = off < size ? MIN(len, size - off) : 0;
	struct iovec few[16], *part = few;
	int ret;

	/* A format that is opened inactive reads its header: what lies below it may be read. */
	if (n->inactive && n->file)
		return -EIO;
	if (inside == len)
		return n->ops->read(n, off, iov, niov, len);
	iov_zero(iov, niov, inside, len - inside);
	if (!inside)
		return 0;
	if (niov > (int)ARRAY_SIZE(few)) {
		part = calloc(niov, sizeof(*part));
		if (!part)
			return -ENOMEM;
	}
	ret = n->ops->read(n, off, part, iov_slice(part, iov, niov, 0, inside), inside);
	if (part != few)
		free(part);
	return ret;
}

int node_writev(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len,
		unsigned flags)
{
	int ret;

	if (read_only(n))
		return n->inactive ? -EIO : -EPERM;
	/* Only the bottom grows by writing. */
	if (n->file && !range_ok(off, len, n->size))
		return -EIO;
	if (!n->ops->write)
		return -ENOTSUP;
	ret = n->ops->write(n, off, iov, niov, len, flags & ~(unsigned)BLK_FUA);
	if (!ret && (flags & BLK_FUA))
		ret = node_flush(n);
	return ret;
}

int node_pread(struct node *n, void *buf, uint64_t len, uint64_t off)
{
	struct iovec iov = { buf, len };

	return len ? node_readv(n, off, &iov, 1, len) : 0;
}

int node_pwrite(struct node *n, const void *buf, uint64_t len, uint64_t off)
{
	struct iovec iov = { (void *)buf, len };

	return len ? node_writev(n, off, &iov, 1, len, 0) : 0;
}

int node_zeroes(struct node *n, uint64_t off, uint64_t len, unsigned flags)
{
	int ret = -ENOTSUP;

	if (read_only(n))
		return n->inactive ? -EIO : -EPERM;
	if (n->file && !range_ok(off, len, n->size))
		return -EIO;
	if (!len)
		return 0;
	if (n->ops->zeroes)
		ret = n->ops->zeroes(n, off, len, flags);
	if (ret == -ENOTSUP) {
		for (ret = 0; len && !ret;) {
			struct iovec iov = { (void *)zero_piece, MIN(len, (uint64_t)ZERO_PIECE) };

			ret = node_writev(n, off, &iov, 1, iov.iov_len, 0);
			off += iov.iov_len;
			len -= iov.iov_len;
		}
	}
	if (!ret && (flags & BLK_FUA))
		ret = node_flush(n);
	return ret;
}

int node_discard(struct node *n, uint64_t off, uint64_t len)
{
	if (read_only(n))
		return n->inactive ? -EIO : -EPERM;
	if (n->file && !range_ok(off, len, n->size))
		return -EIO;
	return len && n->ops->discard ? n->ops->discard(n, off, len) : 0;
}

int node_write_compressed(struct node *n, uint64_t off, const void *buf, uint64_t len)
{
	if (read_only(n))
		return n->inactive ? -EIO : -EPERM;
	if (!range_ok(off, len, n->size))
		return -EIO;
	return n->ops->write_compressed ? n->ops->write_compressed(n, off, buf, len) : -ENOTSUP;
}

int node_copy_from(struct node *n, uint64_t off, int fd, uint64_t fd_off, uint64_t len)
{
	if (read_only(n))
		return n->inactive ? -EIO : -EPERM;
	if (n->file && !range_ok(off, len, n->size))
		return -EIO;
	return n->ops->copy_from ? n->ops->copy_from(n, off, fd, fd_off, len) : -ENOTSUP;
}

int64_t node_actual_size(struct node *n, const struct node_info *info)
{
	json_t *extents = info->specific ? json_object_get(info->specific, "extents") : NULL;
	struct node *leaf = n;
	int64_t sum = 0;
	struct stat st;

	while (leaf->file)
		leaf = leaf->file;
	if (leaf->fd < 0 || fstat(leaf->fd, &st) < 0)
		return -1;
	sum = st.st_blocks * 512;
	/* The other files of a disk in pieces. */
	for (size_t i = 0; i < json_array_size(extents); i++) {
		const char *name =
			json_string_value(json_object_get(json_array_get(extents, i), "filename"));

		if (name && strcmp(name, n->filename) &&
		    host_stat(n->host, name, &st) == 0)
			sum += st.st_blocks * 512;
	}
	return sum;
}

int node_flush(struct node *n)
{
	if (read_only(n) || (n->flags & BLK_UNSAFE))
		return 0;
	if (n->ops->flush)
		return n->ops->flush(n);
	return n->file ? node_flush(n->file) : 0;
}

int node_resize(struct node *n, uint64_t size, struct err *err)
{
	if (read_only(n))
		return err_set(err, EPERM, "'%s' is open read-only: it cannot be resized",
			       n->filename);
	if (!n->ops->resize)
		return err_set(err, ENOTSUP, "Image format driver '%s' does not support resize",
			       n->ops->format);
	return n->ops->resize(n, size, err);
}

int node_extent(struct node *n, uint64_t off, uint64_t len, struct extent *e)
{
	uint64_t size = __atomic_load_n(&n->size, __ATOMIC_RELAXED);
	int ret = 0;

	if (off >= size) {
		*e = (struct extent){ .len = len, .flags = EXT_ZERO | EXT_EOF };
		return 0;
	}
	len = MIN(len, size - off);
	*e = (struct extent){ .len = len, .flags = EXT_DATA | EXT_ALLOCATED };
	if (!n->priv && n->ops->activate == node_read_again)
		return -EIO;
	if (n->ops->extent)
		ret = n->ops->extent(n, off, len, e);
	if (!ret && (e->len == 0 || e->len > len))
		e->len = e->len ? len : 1;
	if (!ret && off + e->len >= size)
		e->flags |= EXT_EOF;
	return ret;
}

int node_extent_chain(struct node *n, uint64_t off, uint64_t len, struct extent *e,
		      struct node **owner)
{
	struct node *top = n;
	int ret;

	for (;; n = n->backing) {
		ret = node_extent(n, off, len, e);
		if (ret)
			return ret;
		*owner = n;
		len = MIN(len, e->len);
		/* past the end of a shorter backing file: zeros, from nobody */
		if (off >= n->size)
			*owner = top;
		if (off >= n->size || (e->flags & EXT_ALLOCATED) || !n->backing)
			break;
	}
	if (!(e->flags & (EXT_ALLOCATED | EXT_DATA)))
		e->flags |= EXT_ZERO;
	e->len = len;
	if (n != top)
		e->flags &= ~EXT_EOF;
	if (off + len >= top->size)
		e->flags |= EXT_EOF;
	return 0;
}

/* --- access mode, activity --- */

int node_set_rdwr(struct node *n, bool rdwr, struct err *err)
{
	unsigned was = n->flags;
	int ret;

	if (!!(n->flags & BLK_RDWR) == rdwr)
		return 0;
	if (!n->ops->reopen)
		return err_set(err, ENOTSUP, "'%s': a %s image in use cannot become %s",
			       n->filename, n->ops->format, rdwr ? "writable" : "read-only");
	if (!rdwr) {
		ret = node_flush(n);
		if (ret)
			return err_set(err, -ret, "'%s': %s", n->filename, strerror(-ret));
	} else if (n->file) {
		ret = node_set_rdwr(n->file, true, err);
		if (!ret && n->data_file) {
			ret = node_set_rdwr(n->data_file, true, err);
			if (ret)
				node_set_rdwr(n->file, false, NULL);
		}
		if (ret)
			return ret;
	}
	n->flags = rdwr ? n->flags | BLK_RDWR : n->flags & ~BLK_RDWR;
	ret = n->ops->reopen(n, rdwr, err);
	if (ret)
		n->flags = was;
	if (n->file && (ret || !rdwr)) {
		node_set_rdwr(n->file, false, NULL);
		if (n->data_file)
			node_set_rdwr(n->data_file, false, NULL);
	}
	return ret;
}

int node_inactivate(struct node *n, struct err *err)
{
	struct node *part;

	for (; n; n = n->backing) {
		int ret;

		if (n->inactive)
			continue;
		ret = node_flush(n);
		if (!ret && n->ops->inactivate)
			ret = n->ops->inactivate(n, err);
		if (ret)
			return err_set(err, -ret, "'%s': %s", n->filename, strerror(-ret));
		n->inactive = true;
		if (n->data_file && (ret = node_inactivate(n->data_file, err)))
			return ret;
		for (unsigned i = 0; n->priv && n->ops->part && (part = n->ops->part(n, i)); i++)
			if ((ret = node_inactivate(part, err)))
				return ret;
		if (n->file && (ret = node_inactivate(n->file, err)))
			return ret;
	}
	return 0;
}

int node_read_again(struct node *n, struct err *err)
{
	struct blk_options o = { .flags = n->flags & ~(unsigned)BLK_INACTIVE, .host = n->host };
	unsigned flags = n->flags;
	int ret;

	n->inactive = true;		/* closing writes nothing */
	if (n->priv)
		n->ops->close(n);
	free(n->backing_name);
	free(n->backing_format);
	n->backing_name = n->backing_format = NULL;
	n->flags = o.flags;
	n->inactive = false;
	ret = n->ops->open(n, &o, err);
	if (ret)
		n->flags = flags;
	return ret;
}

int node_activate(struct node *n, struct err *err)
{
	for (; n; n = n->backing) {
		int ret = 0;

		if (!n->inactive)
			continue;
		if (n->file)
			ret = node_activate(n->file, err);
		if (!ret && n->data_file)
			ret = node_activate(n->data_file, err);
		if (ret)
			return ret;
		n->inactive = false;
		if (n->ops->activate)
			ret = n->ops->activate(n, err);
		if (ret) {
			n->inactive = true;
			return err_set(err, -ret, "'%s': %s", n->filename, strerror(-ret));
		}
		n->flags &= ~BLK_INACTIVE;
	}
	return 0;
}
