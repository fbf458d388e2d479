/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * null.c: null-co:// and null-aio://, QEMU's disk that takes every write, keeps nothing and reads
 * as zeros, for measurements. 1 GiB; "null-co://BYTES" is what a json: name with another size
 * becomes. Any thread; no state.
 */
#include <errno.h>

#include "disk/formats.h"
#include "vmm/base/iov.h"

static const char *size_text(const char *name)
{
	return !strncmp(name, "null-co://", 10)	   ? name + 10
	       : !strncmp(name, "null-aio://", 11) ? name + 11
						   : NULL;
}

static bool null_match(const char *name)
{
	return size_text(name) != NULL;
}

static int null_open(struct node *n, const struct blk_options *o, struct err *err)
{
	const char *text = size_text(n->filename);

	n->size = GiB;
	if (*text && (parse_u64(text, INT64_MAX, &n->size) || n->size % 512))
		return err_set(err, EINVAL, "'%s': its size is no multiple of 512 below 2^63",
			       n->filename);
	return 0;
}

static int null_read(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len)
{
	iov_zero(iov, niov, 0, len);
	return 0;
}

static int null_write(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len,
		      unsigned flags)
{
	return range_ok(off, len, n->size) ? 0 : -ENOSPC;
}

static int null_zeroes(struct node *n, uint64_t off, uint64_t len, unsigned flags)
{
	return range_ok(off, len, n->size) ? 0 : -ENOSPC;
}

static int null_flush(struct node *n)
{
	return 0;
}

static int null_extent(struct node *n, uint64_t off, uint64_t len, struct extent *e)
{
	*e = (struct extent){ .len = len, .flags = EXT_ZERO | EXT_ALLOCATED };
	return 0;
}

const struct node_ops null_protocol = {
	.format = "null-co",
	.match = null_match,
	.open = null_open,
	.read = null_read,
	.write = null_write,
	.zeroes = null_zeroes,
	.flush = null_flush,
	.extent = null_extent,
};
