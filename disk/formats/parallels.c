/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * parallels.c: expandable Parallels disks (hds), read only: a header and a table of 32-bit places.
 * Layout: QEMU's docs/interop/parallels.txt. Worker threads.
 */
#include <errno.h>
#include <stdlib.h>

#include "disk/formats.h"
#include "disk/formats/bmap.h"
#include "disk/formats/fmt.h"

enum {				/* header, little-endian */
	PRL_VERSION = 16, PRL_TRACKS = 28, PRL_ENTRIES = 32, PRL_SECTORS = 36, PRL_INUSE = 44,
	PRL_DATA = 48, PRL_HEADER = 64,
};
#define PRL_INUSE_VALUE 0x746f6e59u
#define PRL_TABLE_MAX (16 * MiB)

struct parallels {
	struct bmap map;
	uint8_t *bat;
	uint64_t entries, unit;		/* unit: bytes a table entry counts in */
	bool in_use;
};

static int prl_probe(const uint8_t *head, size_t len, uint64_t file_size, const char *filename)
{
	return len >= PRL_HEADER &&
			       (!memcmp(head, "WithoutFreeSpace", 16) ||
				!memcmp(head, "WithouFreSpacExt", 16)) &&
			       ld_le32(head + PRL_VERSION) == 2
		       ? 100
		       : 0;
}

static int prl_lookup(struct bmap *m, uint64_t b, struct bmap_entry *e)
{
	struct parallels *p = m->ctx;
	uint32_t at;

	if (b >= p->entries)
		return -EIO;
	at = ld_le32(p->bat + b * 4);
	if (!at) {
		e->state = BMAP_NONE;
		return 0;
	}
	e->state = BMAP_DATA;
	e->off = at * p->unit;
	return e->off >= PRL_HEADER && e->off < bmap_file_size(m) ? 0 : -EIO;
}

static const struct bmap_ops prl_bmap_ops = { .lookup = prl_lookup };

static int prl_open(struct node *n, const struct blk_options *o, struct err *err)
{
	struct parallels *p = xcalloc(1, sizeof(*p));
	uint8_t h[PRL_HEADER];
	uint64_t sectors, tracks;
	bool ext;
	int ret = node_pread(n->file, h, sizeof(h), 0);

	if (ret < 0)
		goto fail;
	ret = -EINVAL;
	ext = !memcmp(h, "WithouFreSpacExt", 16);
	if (!prl_probe(h, sizeof(h), n->file->size, n->filename)) {
		err_set(err, EINVAL, "Image not in Parallels format");
		goto fail;
	}
	if (n->flags & BLK_RDWR) {
		err_set(err, ENOTSUP, "Parallels images are read only: convert it to qcow2 first");
		goto fail;
	}
	tracks = ld_le32(h + PRL_TRACKS);
	sectors = ext ? ld_le64(h + PRL_SECTORS) : ld_le32(h + PRL_SECTORS);
	p->entries = ld_le32(h + PRL_ENTRIES);
	p->in_use = ld_le32(h + PRL_INUSE) == PRL_INUSE_VALUE;
	if (!tracks || tracks > 256 * MiB / 512) {
		err_set(err, EINVAL, "Invalid image: %s",
			tracks ? "Too big cluster" : "Zero sectors per track");
		goto fail;
	}
	if (!sectors || sectors > INT64_MAX / 512 || p->entries * 4 > PRL_TABLE_MAX ||
	    p->entries < sectors / tracks + !!(sectors % tracks) ||
	    !range_ok(PRL_HEADER, p->entries * 4, n->file->size)) {
		err_set(err, EFBIG, "Catalog too large, or too small for the disk");
		goto fail;
	}
	p->bat = malloc(p->entries * 4);
	ret = p->bat ? node_pread(n->file, p->bat, p->entries * 4, PRL_HEADER) : -ENOMEM;
	if (ret < 0)
		goto fail;
	p->unit = ext ? tracks * 512 : 512;
	n->size = sectors * 512;
	p->map = (struct bmap){ .ops = &prl_bmap_ops,
				.ctx = p,
				.owner = n,
				.file = n->file,
				.size = n->size,
				.block = tracks * 512,
				.read_only = true };
	bmap_init(&p->map);
	n->priv = p;
	return 0;
fail:
	free(p->bat);
	free(p);
	return ret;
}

static void prl_close(struct node *n)
{
	struct parallels *p = n->priv;

	bmap_destroy(&p->map);
	free(p->bat);
	free(p);
	n->priv = NULL;
}

static int prl_read(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len)
{
	return bmap_read(&((struct parallels *)n->priv)->map, off, iov, niov, 0, len);
}

static int prl_extent(struct node *n, uint64_t off, uint64_t len, struct extent *e)
{
	return bmap_extent(&((struct parallels *)n->priv)->map, off, len, e);
}

static int prl_info(struct node *n, struct node_info *i)
{
	i->dirty = ((struct parallels *)n->priv)->in_use;
	return 0;
}

static int prl_check(struct node *n, struct node_check *c, unsigned fix)
{
	struct parallels *p = n->priv;
	int ret = bmap_check(&p->map, c, PRL_HEADER);

	if (p->in_use) {
		node_check_say(c, "ERROR image was not closed correctly");
		c->corruptions++;
	}
	c->image_end_offset = n->file->size;
	return ret;
}

const struct node_ops parallels_ops = {
	.activate = node_read_again,
	.format = "parallels",
	.probe = prl_probe,
	.open = prl_open,
	.close = prl_close,
	.read = prl_read,
	.extent = prl_extent,
	.info = prl_info,
	.check = prl_check,
};
