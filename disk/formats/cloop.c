/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cloop.c: compressed loop images of live CDs (V2.0 format), read only: zlib blocks and a table of
 * offsets. Worker threads.
 */
#include <errno.h>
#include <stdlib.h>

#include "disk/formats.h"
#include "disk/formats/bmap.h"
#include "disk/formats/fmt.h"

#define CLOOP_PREAMBLE "#!/bin/sh\n#V2.0 Format\nmodprobe cloop"
#define CLOOP_BLOCK_SIZE 128		/* u32, big-endian; then the number of blocks */
#define CLOOP_OFFSETS 136		/* u64 each, one more than blocks */
#define CLOOP_BLOCK_MAX (8 * MiB)
#define CLOOP_TABLE_MAX (16 * MiB)

struct cloop {
	struct bmap map;
	uint8_t *offsets;
	uint64_t blocks;
};

static int cloop_probe(const uint8_t *head, size_t len, uint64_t file_size, const char *filename)
{
	return len >= strlen(CLOOP_PREAMBLE) &&
			       !memcmp(head, CLOOP_PREAMBLE, strlen(CLOOP_PREAMBLE))
		       ? 2
		       : 0;
}

static int cloop_lookup(struct bmap *m, uint64_t b, struct bmap_entry *e)
{
	struct cloop *c = m->ctx;
	uint64_t from, to;

	if (b >= c->blocks)
		return -EIO;
	from = ld_be64(c->offsets + b * 8);
	to = ld_be64(c->offsets + b * 8 + 8);
	if (from >= to || to - from > 2 * m->block || !range_ok(from, to - from, bmap_file_size(m)))
		return -EIO;
	*e = (struct bmap_entry){ .state = BMAP_PACKED, .off = from, .packed_len = to - from };
	return 0;
}

static int cloop_unpack(struct bmap *m, uint64_t b, const void *packed, uint64_t len, void *out)
{
	return fmt_inflate(FMT_ZLIB, packed, len, out, m->block);
}

static const struct bmap_ops cloop_bmap_ops = { .lookup = cloop_lookup, .unpack = cloop_unpack };

static int cloop_open(struct node *n, const struct blk_options *o, struct err *err)
{
	struct cloop *c;
	uint8_t h[8];
	uint32_t block;
	int ret = node_pread(n->file, h, sizeof(h), CLOOP_BLOCK_SIZE);

	if (ret < 0)
		return ret;
	if (n->flags & BLK_RDWR)
		return err_set(err, ENOTSUP,
			       "cloop images are read only: convert it to qcow2 first");
	block = ld_be32(h);
	if (!block || block % 512)
		return err_set(err, EINVAL, "block_size %u must be a multiple of 512", block);
	if (block > CLOOP_BLOCK_MAX)
		return err_set(err, EINVAL, "block_size %u must be %llu MB or less", block,
			       CLOOP_BLOCK_MAX / MiB);
	c = xcalloc(1, sizeof(*c));
	c->blocks = ld_be32(h + 4);
	if (!c->blocks || (c->blocks + 1) * 8 > CLOOP_TABLE_MAX ||
	    !range_ok(CLOOP_OFFSETS, (c->blocks + 1) * 8, n->file->size)) {
		ret = err_set(err, EINVAL, "n_blocks %llu must fit into the file and %llu MB",
			      (unsigned long long)c->blocks, CLOOP_TABLE_MAX / MiB);
		goto fail;
	}
	c->offsets = malloc((c->blocks + 1) * 8);
	ret = c->offsets ? node_pread(n->file, c->offsets, (c->blocks + 1) * 8, CLOOP_OFFSETS)
			 : -ENOMEM;
	if (ret < 0)
		goto fail;
	n->size = c->blocks * block;
	c->map = (struct bmap){ .ops = &cloop_bmap_ops,
				.ctx = c,
				.owner = n,
				.file = n->file,
				.size = n->size,
				.block = block,
				.read_only = true };
	bmap_init(&c->map);
	n->priv = c;
	return 0;
fail:
	free(c->offsets);
	free(c);
	return ret;
}

static void cloop_close(struct node *n)
{
	struct cloop *c = n->priv;

	bmap_destroy(&c->map);
	free(c->offsets);
	free(c);
	n->priv = NULL;
}

static int cloop_read(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len)
{
	return bmap_read(&((struct cloop *)n->priv)->map, off, iov, niov, 0, len);
}

const struct node_ops cloop_ops = {
	.format = "cloop",
	.probe = cloop_probe,
	.open = cloop_open,
	.close = cloop_close,
	.read = cloop_read,
};
