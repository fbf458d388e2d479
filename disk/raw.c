/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * raw.c: the disk's bytes are the file's bytes, or those of a part of it (a partition, a member of
 * an archive), which n->priv then says. Any thread.
 *
 * R8: a raw disk whose format was only guessed would be read as something else on the next start if
 * the guest wrote such a format's header into it (a qcow2 header names a backing file: any file of
 * the host). So the first bytes of a guessed raw disk may not become such a header.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "disk/formats.h"
#include "disk/name.h"
#include "vmm/base/iov.h"
#include "vmm/base/log.h"

enum { HEAD = 4096 };		/* what probing looks at */

static int raw_probe(const uint8_t *head, size_t len, uint64_t file_size, const char *filename)
{
	return 1;
}

struct window { uint64_t off; bool fixed; };	/* where the part begins; its length was said */

static uint64_t begin(const struct node *n)
{
	const struct window *w = n->priv;

	return w ? w->off : 0;
}

/* The size of the whole disk, of a part that ends with the file, or what it was. */
static void measure(struct node *n)
{
	const struct window *w = n->priv;
	uint64_t file = ALIGN_UP(n->file->size, 512ull);

	if (!w || !w->fixed)
		n->size = file > begin(n) ? file - begin(n) : 0;
}

static int open_window(struct node *n, const struct image_name *said, struct err *err)
{
	uint64_t file = ALIGN_UP(n->file->size, 512ull);
	struct window *w;

	if (said->offset > file)
		return err_set(
			err, EINVAL,
			"Offset (%llu) cannot be greater than size of the containing file (%llu)",
			(unsigned long long)said->offset, (unsigned long long)file);
	if (said->has_length && said->length > file - said->offset)
		return err_set(err, EINVAL,
			       "The sum of offset (%llu) and size (%llu) has to be smaller or "
			       "equal to the  actual size of "
			       "the containing file (%llu)",
			       (unsigned long long)said->offset, (unsigned long long)said->length,
			       (unsigned long long)file);
	if (said->has_length && said->length % 512)
		return err_set(err, EINVAL, "Specified size is not multiple of 512");
	if (said->offset % n->file->request_align)
		return err_set(err, EINVAL,
			       "The offset %llu is no multiple of %u, as cache.direct=on needs it",
			       (unsigned long long)said->offset, n->file->request_align);
	n->priv = w = xcalloc(1, sizeof(*w));
	*w = (struct window){ .off = said->offset, .fixed = said->has_length };
	n->size = said->length;
	return 0;
}

static int raw_open(struct node *n, const struct blk_options *o, struct err *err)
{
	int ret = 0;

	n->request_align = n->file->request_align;
	if (o->said && (o->said->offset || o->said->has_length))
		ret = open_window(n, o->said, err);
	measure(n);
	if (!ret && n->probed && (n->flags & BLK_RDWR) && !(o->flags & BLK_GUESS_TOLD))
		log_warn("'%s': the format was not given and looks like raw; say format=raw (-f "
			 "raw) if it is. Until then writes "
			 "that would make it look like another format are refused",
			 n->filename);
	return ret;
}

static void raw_close(struct node *n)
{
	free(n->priv);
	n->priv = NULL;
}

static int raw_read(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len)
{
	return node_readv(n->file, begin(n) + off, iov, niov, len);
}

/* Would these bytes make a guessed raw disk something else? */
static bool becomes_format(struct node *n, uint64_t off, const struct iovec *iov, int niov,
			   uint64_t len)
{
	uint8_t *head;
	bool bad = false;

	if (!n->probed || off >= HEAD)
		return false;
	head = xcalloc(1, HEAD);
	node_pread(n, head, HEAD, 0);
	if (iov)
		iov_to_buf(iov, niov, 0, head + off, MIN(len, HEAD - off));
	else
		memset(head + off, 0, MIN(len, HEAD - off));
	for (int i = 0; node_formats[i] && !bad; i++)
		bad = node_formats[i] != &raw_ops && node_formats[i]->probe &&
		      node_formats[i]->probe(head, HEAD, n->file->size, n->filename) > 0;
	if (bad)
		log_guest("'%s': refused a write that would turn this raw disk into another "
			  "format; if it is meant, "
			  "say format=raw",
			  n->filename);
	free(head);
	return bad;
}

static int raw_write(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len,
		     unsigned flags)
{
	if (becomes_format(n, off, iov, niov, len))
		return -EPERM;
	return node_writev(n->file, begin(n) + off, iov, niov, len, flags);
}

static int raw_copy_from(struct node *n, uint64_t off, int fd, uint64_t fd_off, uint64_t len)
{
	return n->probed && off < HEAD ? -ENOTSUP
				       : node_copy_from(n->file, begin(n) + off, fd, fd_off, len);
}

static int raw_zeroes(struct node *n, uint64_t off, uint64_t len, unsigned flags)
{
	if (becomes_format(n, off, NULL, 0, len))
		return -EPERM;
	return n->file->ops->zeroes ? n->file->ops->zeroes(n->file, begin(n) + off, len, flags)
				    : -ENOTSUP;
}

static int raw_discard(struct node *n, uint64_t off, uint64_t len)
{
	if (becomes_format(n, off, NULL, 0, len))
		return 0;
	return node_discard(n->file, begin(n) + off, len);
}

static int raw_flush(struct node *n)
{
	return node_flush(n->file);
}

static int raw_extent(struct node *n, uint64_t off, uint64_t len, struct extent *e)
{
	struct node *owner;
	int ret = node_extent_chain(n->file, begin(n) + off, len, e, &owner);

	/* Below may be another format with a chain of its own; all of it is this layer's. */
	e->flags = (e->flags & ~EXT_EOF) | EXT_ALLOCATED;
	return ret;
}

static int raw_plain(struct node *n, uint64_t off, uint64_t len, bool write, int *fd,
		     uint64_t *fd_off, uintptr_t *cookie)
{
	if (!n->file->ops->plain || (write && n->probed && off < HEAD))
		return -EAGAIN;
	return n->file->ops->plain(n->file, begin(n) + off, len, write, fd, fd_off, cookie);
}

static void raw_plain_done(struct node *n, uintptr_t cookie)
{
	if (n->file->ops->plain_done)
		n->file->ops->plain_done(n->file, cookie);
}

static int raw_resize(struct node *n, uint64_t size, struct err *err)
{
	const struct window *w = n->priv;
	int ret;

	if (w && w->fixed)
		return err_set(err, ENOTSUP, "Cannot resize fixed-size raw disks");
	if (size > INT64_MAX - begin(n))
		return err_set(err, EINVAL, "Disk size too large for the chosen offset");
	ret = node_resize(n->file, begin(n) + size, err);
	if (!ret)
		measure(n);
	return ret;
}

static int raw_reopen(struct node *n, bool rdwr, struct err *err)
{
	return 0;
}

static int raw_activate(struct node *n, struct err *err)
{
	measure(n);
	return 0;
}

static int raw_preallocate(struct node *n, uint64_t off, uint64_t len, const char *mode,
			   struct err *err)
{
	if (!strcmp(mode, "off"))
		return 0;
	if (strcmp(mode, "falloc") && strcmp(mode, "full"))
		return err_set(err, EINVAL,
			       "Unsupported preallocation mode '%s' for raw: off, falloc or full",
			       mode);
	if (!n->file->ops->preallocate)
		return err_set(err, ENOTSUP, "'%s': a %s cannot preallocate", n->filename,
			       n->file->ops->format);
	return n->file->ops->preallocate(n->file, begin(n) + off, len, mode, err);
}

static const struct node_opt raw_create_opts[] = {
	{ "preallocation", "str", "Preallocation mode (allowed values: off, falloc, full)", NULL,
	  false },
	{ "size", "size", "Virtual disk size", NULL, false },
	{ NULL, NULL, NULL, NULL, false },
};

static int raw_create(const struct node_create *c, struct err *err)
{
	const char *mode = node_create_opt(c->opts, "preallocation");
	struct node *f;
	int ret = 0;

	if (c->backing)
		return err_set(err, EINVAL, "raw has no place for a backing file; use qcow2");
	if (mode && strcmp(mode, "off") && strcmp(mode, "falloc") && strcmp(mode, "full"))
		return err_set(err, EINVAL,
			       "Unsupported preallocation mode '%s' for raw: off, falloc or full",
			       mode);
	f = node_create_file(c->filename, ALIGN_UP(c->size, 512ull), c->host, err);
	if (!f)
		return -EIO;
	if (mode && strcmp(mode, "off") && f->ops->preallocate)
		ret = f->ops->preallocate(f, 0, ALIGN_UP(c->size, 512ull), mode, err);
	node_unref(f);
	return ret;
}

static int raw_info(struct node *n, struct node_info *i)
{
	return 0;
}

const struct node_ops raw_ops = {
	.format = "raw",
	.probe = raw_probe,
	.open = raw_open,
	.close = raw_close,
	.create = raw_create,
	.create_opts = raw_create_opts,
	.read = raw_read,
	.write = raw_write,
	.zeroes = raw_zeroes,
	.discard = raw_discard,
	.flush = raw_flush,
	.extent = raw_extent,
	.copy_from = raw_copy_from,
	.plain = raw_plain,
	.plain_done = raw_plain_done,
	.resize = raw_resize,
	.reopen = raw_reopen,
	.activate = raw_activate,
	.preallocate = raw_preallocate,
	.info = raw_info,
};
