/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cow.c: the copy-on-write files of User-mode Linux and of QEMU before 2.2, version 2, read only: a
 * header, a bitmap of the sectors that are here, the sectors. Worker threads.
 */
#include <errno.h>
#include <stdlib.h>

#include "disk/formats.h"
#include "disk/formats/bmap.h"

#define COW_MAGIC 0x4f4f4f4du
/* 1024 bytes of name, then the time, then (aligned as the writer's machine did) size */
#define COW_BACKING 8
#define COW_SIZE_64 1040
#define COW_SIZE_32 1036
#define COW_PAGE 4096u			/* of bitmap; what a bmap block covers */
#define COW_BLOCK (COW_PAGE * 8ull * 512)

struct cow {
	struct bmap map;
	uint64_t bitmap_off, data_off;
	uint8_t page[COW_PAGE];		/* the piece of bitmap read last; under the map's lock */
	uint64_t page_block;
};

static int cow_probe(const uint8_t *head, size_t len, uint64_t file_size, const char *filename)
{
	return len >= 1056 && ld_be32(head) == COW_MAGIC && ld_be32(head + 4) == 2 ? 100 : 0;
}

static int cow_lookup(struct bmap *m, uint64_t b, struct bmap_entry *e)
{
	struct cow *c = m->ctx;
	uint64_t left = m->size - b * m->block, bytes = (MIN(left, m->block) + 4095) / 4096;
	int ret;

	if (c->page_block != b) {
		memset(c->page, 0, sizeof(c->page));
		ret = node_pread(m->file, c->page, MIN(bytes, COW_PAGE),
				 c->bitmap_off + b * COW_PAGE);
		if (ret < 0)
			return ret;
		c->page_block = b;
	}
	e->state = BMAP_DATA;
	e->off = c->data_off + b * m->block;
	return 0;
}

static bool cow_sector_present(struct bmap *m, uint64_t b, const struct bmap_entry *e,
			       uint64_t in_block, uint64_t *len)
{
	struct cow *c = m->ctx;
	uint64_t s = in_block / 512, n = 0;
	bool present = c->page[s / 8] & 1 << s % 8;

	while (n * 512 < *len + in_block % 512 &&
	       !!(c->page[(s + n) / 8] & 1 << (s + n) % 8) == present)
		n++;
	*len = MIN(*len, n * 512 - in_block % 512);
	return present;
}

static const struct bmap_ops cow_bmap_ops = { .lookup = cow_lookup,
					      .sector_present = cow_sector_present };

static int cow_open(struct node *n, const struct blk_options *o, struct err *err)
{
	uint8_t h[1056];
	uint64_t sectors, header;
	struct cow *c;
	int ret = node_pread(n->file, h, sizeof(h), 0);

	if (ret < 0)
		return ret;
	if (!cow_probe(h, sizeof(h), n->file->size, n->filename))
		return err_set(err, EINVAL, "Image not in cow format");
	if (n->flags & BLK_RDWR)
		return err_set(err, ENOTSUP, "cow images are read only: convert it to qcow2 first");
	if (ld_be32(h + COW_SIZE_64 + 8) == 512) {
		sectors = ld_be64(h + COW_SIZE_64) / 512;
		header = COW_SIZE_64 + 16;
	} else if (ld_be32(h + COW_SIZE_32 + 8) == 512) {
		sectors = ld_be64(h + COW_SIZE_32) / 512;
		header = COW_SIZE_32 + 12;
	} else {
		return err_set(err, ENOTSUP, "the cow image has sectors of another size than 512");
	}
	if (!sectors || sectors > INT64_MAX / 512 || header + sectors / 8 > n->file->size)
		return err_set(err, EINVAL,
			       "invalid cow image: a disk of %llu sectors in a file of %llu bytes",
			       (unsigned long long)sectors, (unsigned long long)n->file->size);
	h[COW_BACKING + 1023] = 0;
	if (h[COW_BACKING])
		n->backing_name = xstrdup((char *)h + COW_BACKING);
	c = xcalloc(1, sizeof(*c));
	c->bitmap_off = header;
	c->data_off = ALIGN_UP(header + (sectors + 7) / 8, 512ull);
	c->page_block = UINT64_MAX;
	n->size = sectors * 512;
	c->map = (struct bmap){ .ops = &cow_bmap_ops,
				.ctx = c,
				.owner = n,
				.file = n->file,
				.size = n->size,
				.block = COW_BLOCK,
				.read_only = true };
	bmap_init(&c->map);
	n->priv = c;
	return 0;
}

static void cow_close(struct node *n)
{
	struct cow *c = n->priv;

	bmap_destroy(&c->map);
	free(c);
	n->priv = NULL;
}

static int cow_read(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len)
{
	return bmap_read(&((struct cow *)n->priv)->map, off, iov, niov, 0, len);
}

static int cow_extent(struct node *n, uint64_t off, uint64_t len, struct extent *e)
{
	return bmap_extent(&((struct cow *)n->priv)->map, off, len, e);
}

const struct node_ops cow_ops = {
	.format = "cow",
	.probe = cow_probe,
	.open = cow_open,
	.close = cow_close,
	.read = cow_read,
	.extent = cow_extent,
};
