/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow1.c: QEMU's first copy-on-write format, version 1. A table of tables of clusters (l2map.h);
 * compressed clusters are raw deflate. Everything is big-endian. Worker threads.
 */
#include <errno.h>
#include <libdeflate.h>
#include <stdlib.h>

#include "disk/formats.h"
#include "disk/formats/fmt.h"
#include "disk/formats/l2map.h"

enum {				/* header */
	QCOW_MAGIC = 0, QCOW_VERSION = 4, QCOW_BACKING = 8, QCOW_BACKING_SIZE = 16, QCOW_MTIME = 20,
	QCOW_SIZE = 24, QCOW_CLUSTER_BITS = 32, QCOW_L2_BITS = 33, QCOW_CRYPT = 36, QCOW_L1 = 40,
	QCOW_HEADER = 48,
};
#define QCOW_MAGIC_VALUE 0x514649fbu
#define QCOW_COMPRESSED (1ull << 63)
#define L1_MAX (32 * MiB)		/* 8 TiB in clusters of 4 KiB */
enum { NAME_MAX_LEN = 1023 };

struct qcow {
	struct l2map tables;
	unsigned cluster_bits;
};

static int qcow_probe(const uint8_t *head, size_t len, uint64_t file_size, const char *filename)
{
	return len >= 8 && ld_be32(head) == QCOW_MAGIC_VALUE && ld_be32(head + QCOW_VERSION) == 1 ?
	       100 : 0;
}

static int qcow_decode(const struct l2map *l, uint64_t v, struct bmap_entry *e)
{
	const struct qcow *q = container_of(l, struct qcow, tables);

	e->state = BMAP_DATA;
	e->off = v;
	if (v & QCOW_COMPRESSED) {
		e->state = BMAP_PACKED;
		e->packed_len = (v & ~QCOW_COMPRESSED) >> (63 - q->cluster_bits);
		e->off = v & ((1ull << (63 - q->cluster_bits)) - 1);
		if (!e->packed_len)
			return -EIO;
	}
	return 0;
}

static int qcow_unpack(struct bmap *m, uint64_t b, const void *packed, uint64_t len, void *out)
{
	return fmt_inflate(FMT_RAW_DEFLATE, packed, len, out, m->block);
}

static int read_backing(struct node *n, const uint8_t *h, struct err *err)
{
	uint64_t off = ld_be64(h + QCOW_BACKING);
	uint32_t len = ld_be32(h + QCOW_BACKING_SIZE);

	if (!off || !len)
		return 0;
	if (len > NAME_MAX_LEN || !range_ok(off, len, n->file->size))
		return err_set(err, EINVAL, "Backing file name too long or outside the file");
	n->backing_name = xcalloc(1, len + 1);
	return node_pread(n->file, n->backing_name, len, off);
}

static int qcow_start(struct node *n, struct qcow *q, const uint8_t *h, struct err *err)
{
	unsigned l2_bits = h[QCOW_L2_BITS];
	uint64_t size = ld_be64(h + QCOW_SIZE), l1 = ld_be64(h + QCOW_L1), per_l1;
	struct l2map *l = &q->tables;

	q->cluster_bits = h[QCOW_CLUSTER_BITS];
	if (ld_be32(h + QCOW_MAGIC) != QCOW_MAGIC_VALUE || ld_be32(h + QCOW_VERSION) != 1)
		return err_set(err, EINVAL, "Image not in qcow format");
	if (size <= 1 || size > INT64_MAX)
		return err_set(err, EINVAL, "Image size is too %s (must be at least 2 bytes%s)",
			       size > 1 ? "large" : "small", size > 1 ? " and below 8 EiB" : "");
	if (q->cluster_bits < 9 || q->cluster_bits > 16)
		return err_set(err, EINVAL, "Cluster size must be between 512 and 64k");
	if (l2_bits < 9 - 3 || l2_bits > 16 - 3)
		return err_set(err, EINVAL, "L2 table size must be between 512 and 64k");
	if (ld_be32(h + QCOW_CRYPT))
		return err_set(err, ENOTSUP, "encrypted qcow version 1 images are not supported");
	per_l1 = 1ull << (q->cluster_bits + l2_bits);
	l->l2_entries = 1ull << l2_bits;
	l->l1_entries = size / per_l1 + !!(size % per_l1);
	if (l->l1_entries * 8 > L1_MAX)
		return err_set(err, EINVAL, "Image too large");
	if (l1 < QCOW_HEADER || !range_ok(l1, l->l1_entries * 8, n->file->size))
		return err_set(err, EINVAL, "the L1 table of '%s' lies outside the file",
			       n->filename);
	n->size = size;
	l->big_endian = true;
	l->l1_off = l1;
	l->first_data = QCOW_HEADER;
	l->decode = qcow_decode;
	l->unpack = qcow_unpack;
	l->align = 1ull << q->cluster_bits;
	l->map = (struct bmap){ .owner = n, .file = n->file, .size = size,
				.block = 1ull << q->cluster_bits,
				.read_only = !(n->flags & BLK_RDWR) };
	return l2map_open(l, err);
}

static int qcow_open(struct node *n, const struct blk_options *o, struct err *err)
{
	struct qcow *q = xcalloc(1, sizeof(*q));
	uint8_t h[QCOW_HEADER];
	int ret = node_pread(n->file, h, sizeof(h), 0);

	if (ret == 0)
		ret = read_backing(n, h, err);
	if (ret == 0)
		ret = qcow_start(n, q, h, err);
	if (ret < 0) {
		free(q);
		return ret;
	}
	n->priv = q;
	return 0;
}

static void qcow_close(struct node *n)
{
	struct qcow *q = n->priv;

	fmt_close_map(n, &q->tables.map);
	l2map_close(&q->tables);
	free(q);
	n->priv = NULL;
}

static struct bmap *map_of(struct node *n)
{
	return &((struct qcow *)n->priv)->tables.map;
}

static int qcow_read(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len)
{
	return bmap_read(map_of(n), off, iov, niov, 0, len);
}

static int qcow_write(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len,
		      unsigned flags)
{
	return bmap_write(map_of(n), off, iov, niov, 0, len);
}

static int qcow_zeroes(struct node *n, uint64_t off, uint64_t len, unsigned flags)
{
	return bmap_zeroes(map_of(n), off, len);
}

static int qcow_flush(struct node *n)
{
	return bmap_flush(map_of(n));
}

/* A cluster, or the end of the disk, in less space if it is compressible; plain if not. */
static int qcow_write_compressed(struct node *n, uint64_t off, const void *buf, uint64_t len)
{
	struct qcow *q = n->priv;
	uint64_t block = map_of(n)->block, at;
	struct iovec iov = { (void *)buf, len };
	struct libdeflate_compressor *c;
	uint8_t *whole, *out;
	size_t packed = 0;
	int ret = -ENOMEM;

	if (off % block || (len != block && off + len != n->size) || len > block)
		return -EINVAL;
	whole = calloc(1, block);
	out = malloc(block);
	c = libdeflate_alloc_compressor(6);
	if (whole && out && c) {
		memcpy(whole, buf, len);
		packed = libdeflate_deflate_compress(c, whole, block, out, block - 1);
		ret = 0;
	}
	if (!ret && packed) {
		at = l2map_take(&q->tables, packed, 1);
		ret = at >> (63 - q->cluster_bits) ? -EFBIG :
		      node_pwrite(n->file, out, packed, at);
		if (!ret)
			ret = l2map_set(&q->tables, off / block,
					QCOW_COMPRESSED | at |
						(uint64_t)packed << (63 - q->cluster_bits));
	} else if (!ret) {
		ret = bmap_write(map_of(n), off, &iov, 1, 0, len);
	}
	libdeflate_free_compressor(c);
	free(whole);
	free(out);
	return ret;
}

static int qcow_extent(struct node *n, uint64_t off, uint64_t len, struct extent *e)
{
	return bmap_extent(map_of(n), off, len, e);
}

static int qcow_info(struct node *n, struct node_info *i)
{
	i->cluster_size = map_of(n)->block;
	return 0;
}

static int qcow_make_empty(struct node *n)
{
	struct l2map *l = &((struct qcow *)n->priv)->tables;

	return l2map_empty(l, l->l1_off + l->l1_entries * 8);
}

static const struct node_opt qcow_create_opts[] = {
	{ "size", "size", "Virtual disk size", NULL, OPT_CREATE },
	{ "backing_file", "str", "File name of a base image", NULL, OPT_CREATE },
	{ "backing_fmt", "str", "Format of the backing image", NULL, OPT_CREATE },
	{ "encryption", "bool (on/off)",
	  "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)", NULL,
	  OPT_CREATE },
	{ "encrypt.format", "str", "Encrypt the image, format choices: 'aes'", NULL, OPT_CREATE },
	{ "encrypt.key-secret", "str",
	  "ID of the secret that provides the AES encryption key", NULL, OPT_CREATE },
	{ NULL, NULL, NULL, NULL, OPT_CREATE },
};

static int refuse_encryption(const char *const *opts, struct err *err)
{
	bool on;
	int ret = node_create_opt_bool(opts, "encryption", false, &on, err);

	if (!ret && (on || node_create_opt(opts, "encrypt.format")))
		ret = err_set(
			err, ENOTSUP,
			"qcow version 1 is not encrypted here: the cipher it has is "
			"broken; 'create -f qcow2 -o encrypt.format=luks' makes an encrypted disk");
	return ret;
}

static int qcow_create(const struct node_create *c, struct err *err)
{
	size_t name = c->backing ? strlen(c->backing) : 0;
	/* An overlay has small clusters, so that little is copied up. */
	unsigned cluster_bits = name ? 9 : 12, l2_bits = name ? 12 : 9;
	uint64_t per_l1 = 1ull << (cluster_bits + l2_bits), size = ALIGN_UP(c->size, 512ull);
	uint64_t l1 = ALIGN_UP(QCOW_HEADER + name, 8ul);
	uint64_t l1_len = (size / per_l1 + !!(size % per_l1)) * 8;
	uint8_t h[QCOW_HEADER + NAME_MAX_LEN] = { 0 };
	struct node *f;
	int ret = refuse_encryption(c->opts, err);

	if (ret)
		return ret;
	if (!size)
		return err_set(err, EINVAL, "Image size is too small, cannot be zero length");
	if (l1_len > L1_MAX)
		return err_set(err, EFBIG,
			       "Image too large for qcow version 1, which ends at %llu TiB here; "
			       "use qcow2", (unsigned long long)(L1_MAX / 8 * per_l1 >> 40));
	if (name > NAME_MAX_LEN)
		return err_set(err, EINVAL, "Backing file name too long");
	st_be32(h + QCOW_MAGIC, QCOW_MAGIC_VALUE);
	st_be32(h + QCOW_VERSION, 1);
	if (name) {
		st_be64(h + QCOW_BACKING, QCOW_HEADER);
		st_be32(h + QCOW_BACKING_SIZE, name);
		memcpy(h + QCOW_HEADER, c->backing, name);
	}
	st_be64(h + QCOW_SIZE, size);
	h[QCOW_CLUSTER_BITS] = cluster_bits;
	h[QCOW_L2_BITS] = l2_bits;
	st_be64(h + QCOW_L1, l1);
	f = node_create_file(c->filename, 0, c->host, err);
	if (!f)
		return -EIO;
	/* A device may hold old bytes where the table of none is to be. */
	ret = node_zeroes(f, 0, ALIGN_UP(l1 + l1_len, 512ull), 0);
	if (!ret)
		ret = node_pwrite(f, h, QCOW_HEADER + name, 0);
	node_unref(f);
	return ret ? err_set(err, -ret, "could not write '%s': %s", c->filename, strerror(-ret))
		   : 0;
}

const struct node_ops qcow1_ops = {
	.activate = node_read_again,
	.format = "qcow", .probe = qcow_probe, .open = qcow_open, .close = qcow_close,
	.create = qcow_create, .create_opts = qcow_create_opts, .read = qcow_read,
	.write = qcow_write, .write_compressed = qcow_write_compressed, .zeroes = qcow_zeroes,
	.flush = qcow_flush, .extent = qcow_extent, .info = qcow_info,
	.make_empty = qcow_make_empty,
};
