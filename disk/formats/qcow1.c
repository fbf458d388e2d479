/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow1.c: QEMU's first copy-on-write format, version 1, read only. A table of tables of clusters;
 * compressed clusters are raw deflate. Everything is big-endian. Worker threads.
 */
#include <errno.h>
#include <stdlib.h>

#include "disk/formats.h"
#include "disk/formats/bmap.h"
#include "disk/formats/fmt.h"

enum {				/* header */
	QCOW_MAGIC = 0, QCOW_VERSION = 4, QCOW_BACKING = 8, QCOW_BACKING_SIZE = 16, QCOW_SIZE = 24,
	QCOW_CLUSTER_BITS = 32,
	QCOW_L2_BITS = 33, QCOW_CRYPT = 36, QCOW_L1 = 40, QCOW_HEADER = 48,
};
#define QCOW_MAGIC_VALUE 0x514649fbu
#define QCOW_COMPRESSED (1ull << 63)
#define L1_MAX (8 * MiB)
#define L2_CACHE_MAX (16 * MiB)

struct qcow {
	struct bmap map;
	uint8_t *l1;
	uint64_t l1_entries, l2_entries;
	unsigned cluster_bits;
	uint8_t **l2;			/* cached tables */
	uint64_t cached;
};

static int qcow_probe(const uint8_t *head, size_t len, uint64_t file_size, const char *filename)
{
	return len >= 8 && ld_be32(head) == QCOW_MAGIC_VALUE && ld_be32(head + QCOW_VERSION) == 1
		       ? 100
		       : 0;
}

static int l2_get(struct bmap *m, uint64_t i, uint8_t **l2)
{
	struct qcow *q = m->ctx;
	uint64_t off, len = q->l2_entries * 8;
	int ret;

	*l2 = q->l2[i];
	if (*l2)
		return 0;
	off = ld_be64(q->l1 + i * 8);
	if (!off)
		return 0;
	if (off < QCOW_HEADER || !range_ok(off, len, bmap_file_size(m)))
		return -EIO;
	if ((q->cached + 1) * len > L2_CACHE_MAX) {
		for (uint64_t k = 0; k < q->l1_entries; k++) {
			free(q->l2[k]);
			q->l2[k] = NULL;
		}
		q->cached = 0;
	}
	*l2 = malloc(len);
	if (!*l2)
		return -ENOMEM;
	ret = node_pread(m->file, *l2, len, off);
	if (ret < 0) {
		free(*l2);
		*l2 = NULL;
		return ret;
	}
	q->l2[i] = *l2;
	q->cached++;
	return 0;
}

static int qcow_lookup(struct bmap *m, uint64_t b, struct bmap_entry *e)
{
	struct qcow *q = m->ctx;
	uint8_t *l2;
	uint64_t v;
	int ret;

	if (b / q->l2_entries >= q->l1_entries)
		return -EIO;
	ret = l2_get(m, b / q->l2_entries, &l2);
	if (ret < 0)
		return ret;
	e->state = BMAP_NONE;
	if (!l2) {
		e->span = q->l2_entries - b % q->l2_entries;
		return 0;
	}
	v = ld_be64(l2 + b % q->l2_entries * 8);
	if (!v)
		return 0;
	if (v & QCOW_COMPRESSED) {
		e->state = BMAP_PACKED;
		e->packed_len = (v & ~QCOW_COMPRESSED) >> (63 - q->cluster_bits);
		e->off = v & ((1ull << (63 - q->cluster_bits)) - 1);
		if (!e->packed_len)
			return -EIO;
	} else {
		e->state = BMAP_DATA;
		e->off = v;
	}
	return e->off >= QCOW_HEADER && e->off < bmap_file_size(m) ? 0 : -EIO;
}

static int qcow_unpack(struct bmap *m, uint64_t b, const void *packed, uint64_t len, void *out)
{
	return fmt_inflate(FMT_RAW_DEFLATE, packed, len, out, m->block);
}

static const struct bmap_ops qcow_bmap_ops = { .lookup = qcow_lookup, .unpack = qcow_unpack };

static int read_backing(struct node *n, const uint8_t *h, struct err *err)
{
	uint64_t off = ld_be64(h + QCOW_BACKING);
	uint32_t len = ld_be32(h + QCOW_BACKING_SIZE);

	if (!off || !len)
		return 0;
	if (len > 1023 || !range_ok(off, len, n->file->size))
		return err_set(err, EINVAL, "Backing file name too long or outside the file");
	n->backing_name = xcalloc(1, len + 1);
	return node_pread(n->file, n->backing_name, len, off);
}

static void qcow_free(struct qcow *q)
{
	for (uint64_t i = 0; q->l2 && i < q->l1_entries; i++)
		free(q->l2[i]);
	free(q->l2);
	free(q->l1);
	free(q);
}

static int qcow_start(struct node *n, struct qcow *q, const uint8_t *h, struct err *err)
{
	unsigned l2_bits = h[QCOW_L2_BITS];
	uint64_t size = ld_be64(h + QCOW_SIZE), l1 = ld_be64(h + QCOW_L1), per_l1;

	q->cluster_bits = h[QCOW_CLUSTER_BITS];
	if (n->flags & BLK_RDWR)
		return err_set(err, ENOTSUP,
			       "qcow version 1 images are read only: convert it to qcow2 first");
	if (ld_be32(h + QCOW_MAGIC) != QCOW_MAGIC_VALUE || ld_be32(h + QCOW_VERSION) != 1)
		return err_set(err, EINVAL, "Image not in qcow format");
	if (size <= 1 || size > INT64_MAX)
		return err_set(err, EINVAL,
			       "Image size is too small (must be at least 2 bytes) or too large");
	if (q->cluster_bits < 9 || q->cluster_bits > 16)
		return err_set(err, EINVAL, "Cluster size must be between 512 and 64k");
	if (l2_bits < 9 - 3 || l2_bits > 16 - 3)
		return err_set(err, EINVAL, "L2 table size must be between 512 and 64k");
	if (ld_be32(h + QCOW_CRYPT))
		return err_set(err, ENOTSUP, "encrypted qcow version 1 images are not supported");
	per_l1 = 1ull << (q->cluster_bits + l2_bits);
	q->l2_entries = 1ull << l2_bits;
	q->l1_entries = size / per_l1 + !!(size % per_l1);
	if (q->l1_entries * 8 > L1_MAX)
		return err_set(err, EINVAL, "Image too large");
	if (l1 < QCOW_HEADER || !range_ok(l1, q->l1_entries * 8, n->file->size))
		return err_set(err, EINVAL, "the L1 table of '%s' lies outside the file",
			       n->filename);
	q->l1 = malloc(q->l1_entries * 8);
	q->l2 = calloc(q->l1_entries, sizeof(*q->l2));
	if (!q->l1 || !q->l2)
		return err_set(err, ENOMEM, "no memory for the L1 table");
	n->size = size;
	return node_pread(n->file, q->l1, q->l1_entries * 8, l1);
}

static int qcow_open(struct node *n, const struct blk_options *o, struct err *err)
{
	struct qcow *q = xcalloc(1, sizeof(*q));
	uint8_t h[QCOW_HEADER];
	int ret = node_pread(n->file, h, sizeof(h), 0);

	if (ret == 0)
		ret = qcow_start(n, q, h, err);
	if (ret == 0)
		ret = read_backing(n, h, err);
	if (ret < 0) {
		qcow_free(q);
		return ret;
	}
	q->map = (struct bmap){ .ops = &qcow_bmap_ops,
				.ctx = q,
				.owner = n,
				.file = n->file,
				.size = n->size,
				.block = 1ull << q->cluster_bits,
				.read_only = true };
	bmap_init(&q->map);
	n->priv = q;
	return 0;
}

static void qcow_close(struct node *n)
{
	struct qcow *q = n->priv;

	bmap_destroy(&q->map);
	qcow_free(q);
	n->priv = NULL;
}

static int qcow_read(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len)
{
	return bmap_read(&((struct qcow *)n->priv)->map, off, iov, niov, 0, len);
}

static int qcow_extent(struct node *n, uint64_t off, uint64_t len, struct extent *e)
{
	return bmap_extent(&((struct qcow *)n->priv)->map, off, len, e);
}

static int qcow_info(struct node *n, struct node_info *i)
{
	i->cluster_size = ((struct qcow *)n->priv)->map.block;
	return 0;
}

const struct node_ops qcow1_ops = {
	.format = "qcow",
	.probe = qcow_probe,
	.open = qcow_open,
	.close = qcow_close,
	.read = qcow_read,
	.extent = qcow_extent,
	.info = qcow_info,
};
