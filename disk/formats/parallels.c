/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * parallels.c: expandable Parallels disks (hds): a header and a table of 32-bit places. Layout:
 * QEMU's docs/interop/parallels.txt. The mark "in use" of others is honoured; our order of writes
 * (data, then the table) needs none of our own. Worker threads.
 */
#include <errno.h>
#include <stdlib.h>

#include "disk/formats.h"
#include "disk/formats/bmap.h"
#include "disk/formats/fmt.h"

enum {				/* header, little-endian */
	PRL_VERSION = 16, PRL_HEADS = 20, PRL_CYLINDERS = 24, PRL_TRACKS = 28, PRL_ENTRIES = 32,
	PRL_SECTORS = 36, PRL_INUSE = 44, PRL_DATA = 48, PRL_HEADER = 64,
};
#define PRL_INUSE_VALUE 0x746f6e59u
#define PRL_TABLE_MAX (16 * MiB)	/* 4 TiB in clusters of 1 MiB */
enum { DIRTY_PAGE = 4096 };

struct parallels {
	struct bmap map;
	uint8_t header[PRL_HEADER];
	uint8_t *bat;			/* as in the file; ends with a whole DIRTY_PAGE */
	uint8_t *dirty;			/* which of its DIRTY_PAGEs differ from the file */
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

static void set_entry(struct parallels *p, uint64_t b, uint32_t value)
{
	st_le32(p->bat + b * 4, value);
	p->dirty[b * 4 / DIRTY_PAGE] = 1;
}

static int prl_commit(struct bmap *m, uint64_t b, uint64_t n, uint64_t off)
{
	struct parallels *p = m->ctx;

	if ((off + (n - 1) * m->block) / p->unit > UINT32_MAX)
		return -EFBIG;
	for (uint64_t i = 0; i < n; i++)
		set_entry(p, b + i, (off + i * m->block) / p->unit);
	return 0;
}

static int prl_writeback(struct bmap *m)
{
	struct parallels *p = m->ctx;
	uint64_t len = p->entries * 4;
	int ret = 0;

	for (uint64_t at = 0; at < len && ret == 0; at += DIRTY_PAGE) {
		if (!p->dirty[at / DIRTY_PAGE])
			continue;
		ret = node_pwrite(m->file, p->bat + at, MIN((uint64_t)DIRTY_PAGE, len - at),
				  PRL_HEADER + at);
		if (ret == 0)
			p->dirty[at / DIRTY_PAGE] = 0;
	}
	return ret;
}

static const struct bmap_ops prl_bmap_ops = {
	.lookup = prl_lookup, .commit = prl_commit, .writeback = prl_writeback,
};

/* The numbers of the header, checked. *block: bytes of a cluster. */
static int prl_header(struct node *n, struct parallels *p, uint64_t *block, struct err *err)
{
	const uint8_t *h = p->header;
	bool ext = !memcmp(h, "WithouFreSpacExt", 16);
	uint64_t tracks = ld_le32(h + PRL_TRACKS), sectors;

	if (!prl_probe(h, PRL_HEADER, n->file->size, n->filename))
		return err_set(err, EINVAL, "Image not in Parallels format");
	sectors = ext ? ld_le64(h + PRL_SECTORS) : ld_le32(h + PRL_SECTORS);
	p->entries = ld_le32(h + PRL_ENTRIES);
	p->in_use = ld_le32(h + PRL_INUSE) == PRL_INUSE_VALUE;
	if (!tracks || tracks > 256 * MiB / 512)
		return err_set(err, EINVAL, "Invalid image: %s",
			       tracks ? "Too big cluster" : "Zero sectors per track");
	if (sectors > INT64_MAX / 512 || p->entries * 4 > PRL_TABLE_MAX ||
	    p->entries < sectors / tracks + !!(sectors % tracks) ||
	    !range_ok(PRL_HEADER, p->entries * 4, n->file->size))
		return err_set(err, EFBIG, "Catalog too large, or too small for the disk");
	*block = tracks * 512;
	p->unit = ext ? *block : 512;
	n->size = sectors * 512;
	return 0;
}

/*
 * Where the next cluster goes: past the table and all that is in the file, where an entry can say
 * it.
 */
static uint64_t prl_end(const struct node *n, const struct parallels *p)
{
	uint64_t end = MAX((uint64_t)ld_le32(p->header + PRL_DATA) * 512,
			   PRL_HEADER + p->entries * 4);

	end = MAX(end, n->file->size);
	return (end + p->unit - 1) / p->unit * p->unit;
}

static int prl_open(struct node *n, const struct blk_options *o, struct err *err)
{
	struct parallels *p = xcalloc(1, sizeof(*p));
	uint64_t block = 0;
	int ret = node_pread(n->file, p->header, PRL_HEADER, 0);

	if (ret == 0)
		ret = prl_header(n, p, &block, err);
	if (ret == 0 && p->in_use && n->flags & BLK_RDWR && !(n->flags & BLK_CHECK))
		ret = err_set(err, EACCES,
			      "parallels: Image was not closed correctly; cannot be opened "
			      "read/write ('check -r all' looks at it first)");
	if (ret < 0)
		goto fail;
	p->bat = calloc(1, ALIGN_UP(p->entries * 4 + 1, (uint64_t)DIRTY_PAGE));
	p->dirty = calloc(1, p->entries * 4 / DIRTY_PAGE + 1);
	ret = p->bat && p->dirty ? node_pread(n->file, p->bat, p->entries * 4, PRL_HEADER)
				 : -ENOMEM;
	if (ret < 0)
		goto fail;
	p->map = (struct bmap){ .ops = &prl_bmap_ops, .ctx = p, .owner = n, .file = n->file,
				.size = n->size, .block = block, .end = prl_end(n, p),
				.read_only = !(n->flags & BLK_RDWR) };
	bmap_init(&p->map);
	n->priv = p;
	return 0;
fail:
	free(p->bat);
	free(p->dirty);
	free(p);
	return ret;
}

static void prl_close(struct node *n)
{
	struct parallels *p = n->priv;

	fmt_close_map(n, &p->map);
	free(p->bat);
	free(p->dirty);
	free(p);
	n->priv = NULL;
}

static int prl_read(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len)
{
	return bmap_read(&((struct parallels *)n->priv)->map, off, iov, niov, 0, len);
}

static int prl_write(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len,
		     unsigned flags)
{
	return bmap_write(&((struct parallels *)n->priv)->map, off, iov, niov, 0, len);
}

static int prl_zeroes(struct node *n, uint64_t off, uint64_t len, unsigned flags)
{
	return bmap_zeroes(&((struct parallels *)n->priv)->map, off, len);
}

static int prl_flush(struct node *n)
{
	return bmap_flush(&((struct parallels *)n->priv)->map);
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

/*
 * Entries that name no place in the file become "not there"; then the mark of an unfinished use
 * goes.
 */
static int prl_repair(struct node *n, struct parallels *p, struct node_check *c)
{
	uint64_t bad = 0;
	int ret;

	pthread_mutex_lock(&p->map.lock);
	for (uint64_t b = 0; b < p->entries; b++) {
		struct bmap_entry e = { 0 };

		if (prl_lookup(&p->map, b, &e) == 0)
			continue;
		set_entry(p, b, 0);
		p->map.dirty = true;
		bad++;
	}
	pthread_mutex_unlock(&p->map.lock);
	ret = bmap_flush(&p->map);
	if (ret == 0 && p->in_use) {
		st_le32(p->header + PRL_INUSE, 0);
		ret = node_pwrite(n->file, p->header, PRL_HEADER, 0);
	}
	if (ret < 0)
		return ret;
	c->corruptions_fixed += bad + p->in_use;
	c->corruptions -= MIN(c->corruptions, bad + p->in_use);
	p->in_use = false;
	return 0;
}

static int prl_check(struct node *n, struct node_check *c, unsigned fix)
{
	struct parallels *p = n->priv;
	int ret = bmap_check(&p->map, c, PRL_HEADER + p->entries * 4);

	if (p->in_use) {
		node_check_say(c, "ERROR image was not closed correctly");
		c->corruptions++;
	}
	if (ret == 0 && fix & CHECK_FIX_ERRORS && c->corruptions)
		ret = prl_repair(n, p, c);
	c->image_end_offset = n->file->size;
	return ret;
}

static const struct node_opt prl_create_opts[] = {
	{ "size", "size", "Virtual disk size", NULL, OPT_CREATE },
	{ "cluster_size", "size", "Parallels image cluster size", "1048576", OPT_CREATE },
	{ NULL, NULL, NULL, NULL, OPT_CREATE },
};

static int prl_create(const struct node_create *c, struct err *err)
{
	uint64_t cluster, size = ALIGN_UP(c->size, 512ull), entries, data;
	uint8_t h[PRL_HEADER] = { 0 };
	struct node *f;
	int ret = node_create_opt_size(c->opts, "cluster_size", MiB, &cluster, err);

	if (ret)
		return ret;
	if (!cluster || cluster > 256 * MiB)
		return err_set(err, EINVAL, "Cluster size must be between 512 bytes and 256 MiB");
	cluster = ALIGN_UP(cluster, 512ull);
	entries = size / cluster + !!(size % cluster);
	if (entries * 4 > PRL_TABLE_MAX)
		return err_set(err, EFBIG, "Image size is too large for this cluster size");
	data = (PRL_HEADER + entries * 4 + cluster - 1) / cluster * cluster;
	memcpy(h, "WithouFreSpacExt", 16);
	st_le32(h + PRL_VERSION, 2);
	st_le32(h + PRL_HEADS, 16);
	st_le32(h + PRL_CYLINDERS, MIN(size / 512 / 16 / 32, (uint64_t)UINT32_MAX));
	st_le32(h + PRL_TRACKS, cluster / 512);
	st_le32(h + PRL_ENTRIES, entries);
	st_le64(h + PRL_SECTORS, size / 512);
	st_le32(h + PRL_DATA, data / 512);
	f = node_create_file(c->filename, 0, c->host, err);
	if (!f)
		return -EIO;
	ret = node_zeroes(f, 0, data, 0);
	if (!ret)
		ret = node_pwrite(f, h, sizeof(h), 0);
	node_unref(f);
	return ret ? err_set(err, -ret, "could not write '%s': %s", c->filename, strerror(-ret))
		   : 0;
}

const struct node_ops parallels_ops = {
	.activate = node_read_again,
	.format = "parallels", .probe = prl_probe, .open = prl_open, .close = prl_close,
	.create = prl_create, .create_opts = prl_create_opts, .read = prl_read, .write = prl_write,
	.zeroes = prl_zeroes, .flush = prl_flush, .extent = prl_extent, .info = prl_info,
	.check = prl_check,
};
