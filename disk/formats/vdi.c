/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vdi.c: VirtualBox disk images, version 1.1: a header, a table of 32-bit block numbers, blocks of
 * (usually) 1 MiB. The layout is that of VirtualBox's VDICore.h. Worker threads.
 */
#include <errno.h>
#include <stdlib.h>

#include "disk/formats.h"
#include "disk/formats/bmap.h"
#include "disk/formats/fmt.h"

enum {
	VDI_SIGNATURE = 64, VDI_VERSION = 68, VDI_HEADER_SIZE = 72, VDI_TYPE = 76,
	VDI_OFF_BLOCKS = 340, VDI_OFF_DATA = 344,
	VDI_CYLINDERS = 348, VDI_HEADS = 352, VDI_SECTORS = 356, VDI_SECTOR_SIZE = 360,
	VDI_DISK_SIZE = 368, VDI_BLOCK_SIZE = 376,
	VDI_BLOCKS = 384, VDI_ALLOCATED = 388, VDI_UUID = 392, VDI_UUID_SNAP = 408,
	VDI_UUID_LINK = 424, VDI_UUID_PARENT = 440,
};
#define VDI_SIGNATURE_VALUE 0xbeda107fu
#define VDI_VERSION_1_1 0x00010001u
enum { VDI_TYPE_DYNAMIC = 1, VDI_TYPE_STATIC = 2 };
#define VDI_FREE 0xffffffffu		/* never written */
#define VDI_ZERO 0xfffffffeu		/* given back: reads as zeros */
/* 512 TiB in blocks of 1 MiB, as in QEMU; a whole number of sectors */
#define VDI_TABLE_MAX 0x7ffffe00ull

struct vdi {
	struct bmap map;
	uint8_t header[512];
	/* The table as in the file, in pages that are read when they are wanted. */
	struct page { uint8_t *data; bool dirty; } *pages;
	uint64_t npages, loaded;
	uint32_t blocks, allocated;
	uint64_t table_off, data_off;
};
enum { PAGE = 64 * 1024, LOADED_MAX = 1024 };	/* clean pages beyond these are dropped */

static int vdi_probe(const uint8_t *head, size_t len, uint64_t file_size, const char *filename)
{
	return len >= 512 && ld_le32(head + VDI_SIGNATURE) == VDI_SIGNATURE_VALUE ? 100 : 0;
}

static void drop_clean(struct vdi *v)
{
	for (uint64_t i = 0; i < v->npages; i++) {
		if (!v->pages[i].data || v->pages[i].dirty)
			continue;
		free(v->pages[i].data);
		v->pages[i].data = NULL;
		v->loaded--;
	}
}

/* How much of page i is table. */
static uint64_t page_len(const struct vdi *v, uint64_t i)
{
	return MIN((uint64_t)PAGE, ALIGN_UP((uint64_t)v->blocks * 4, 512ull) - i * PAGE);
}

/* The entry of block b < v->blocks, in its page. Lock held. */
static int entry(struct vdi *v, uint64_t b, uint8_t **at)
{
	struct page *p = &v->pages[b * 4 / PAGE];
	int ret;

	if (!p->data) {
		if (v->loaded >= LOADED_MAX)
			drop_clean(v);
		p->data = calloc(1, PAGE);
		ret = p->data ? node_pread(v->map.file, p->data, page_len(v, p - v->pages),
					   v->table_off + (p - v->pages) * PAGE)
			      : -ENOMEM;
		if (ret < 0) {
			free(p->data);
			p->data = NULL;
			return ret;
		}
		v->loaded++;
	}
	*at = p->data + b * 4 % PAGE;
	return 0;
}

static int vdi_lookup(struct bmap *m, uint64_t b, struct bmap_entry *e)
{
	struct vdi *v = m->ctx;
	uint8_t *place;
	uint32_t at;
	int ret;

	if (b >= v->blocks)
		return -EIO;
	ret = entry(v, b, &place);
	if (ret < 0)
		return ret;
	at = ld_le32(place);
	if (at == VDI_FREE) {
		e->state = BMAP_NONE;
		return 0;
	}
	if (at == VDI_ZERO) {
		e->state = BMAP_ZERO;
		return 0;
	}
	e->state = BMAP_DATA;
	e->off = v->data_off + (uint64_t)at * m->block;
	return at < v->blocks && e->off < bmap_file_size(m) ? 0 : -EIO;
}

static int vdi_commit(struct bmap *m, uint64_t b, uint64_t n, uint64_t off)
{
	struct vdi *v = m->ctx;
	uint64_t at = (off - v->data_off) / m->block;

	if (at + n > v->blocks)
		return -EFBIG;
	for (uint64_t i = 0; i < n; i++) {
		uint8_t *place;
		int ret = entry(v, b + i, &place);

		if (ret < 0)
			return ret;
		st_le32(place, at + i);
		v->pages[(b + i) * 4 / PAGE].dirty = true;
	}
	v->allocated = MAX(v->allocated, at + n);
	return 0;
}

static int vdi_writeback(struct bmap *m)
{
	struct vdi *v = m->ctx;
	int ret = 0;

	for (uint64_t i = 0; i < v->npages && ret == 0; i++) {
		if (!v->pages[i].dirty)
			continue;
		ret = node_pwrite(m->file, v->pages[i].data, page_len(v, i),
				  v->table_off + i * PAGE);
		if (ret == 0)
			v->pages[i].dirty = false;
	}
	if (ret == 0) {
		st_le32(v->header + VDI_ALLOCATED, v->allocated);
		ret = node_pwrite(m->file, v->header, sizeof(v->header), 0);
	}
	return ret;
}

static const struct bmap_ops vdi_bmap_ops = { .lookup = vdi_lookup,
					      .commit = vdi_commit,
					      .writeback = vdi_writeback };

static bool uuid_set(const uint8_t *p)
{
	static const uint8_t none[16];

	return memcmp(p, none, 16);
}

static int vdi_check_header(struct node *n, const uint8_t *h, struct err *err)
{
	uint64_t size = ld_le64(h + VDI_DISK_SIZE), block = ld_le32(h + VDI_BLOCK_SIZE),
		 blocks = ld_le32(h + VDI_BLOCKS);

	if (ld_le32(h + VDI_SIGNATURE) != VDI_SIGNATURE_VALUE)
		return err_set(err, EINVAL, "Image not in VDI format (bad signature %08x)",
			       ld_le32(h + VDI_SIGNATURE));
	if (ld_le32(h + VDI_VERSION) != VDI_VERSION_1_1)
		return err_set(err, ENOTSUP, "unsupported VDI image (version %u.%u)",
			       ld_le32(h + VDI_VERSION) >> 16, ld_le32(h + VDI_VERSION) & 0xffff);
	if (uuid_set(h + VDI_UUID_LINK) || uuid_set(h + VDI_UUID_PARENT))
		return err_set(err, ENOTSUP,
			       "unsupported VDI image (differencing: it needs its parent; clone it "
			       "with VirtualBox first)");
	if (ld_le32(h + VDI_SECTOR_SIZE) != 512)
		return err_set(err, ENOTSUP, "unsupported VDI image (sector size %u is not 512)",
			       ld_le32(h + VDI_SECTOR_SIZE));
	if (!IS_POWER_OF_2(block) || block < 4096 || block > 64 * MiB)
		return err_set(err, ENOTSUP, "unsupported VDI image (block size %llu)",
			       (unsigned long long)block);
	if (ld_le32(h + VDI_OFF_BLOCKS) % 512 || ld_le32(h + VDI_OFF_BLOCKS) < 512 ||
	    ld_le32(h + VDI_OFF_DATA) % 512)
		return err_set(err, EINVAL, "unsupported VDI image (table at %u, data at %u)",
			       ld_le32(h + VDI_OFF_BLOCKS), ld_le32(h + VDI_OFF_DATA));
	if (blocks * 4 > VDI_TABLE_MAX)
		return err_set(err, EFBIG, "unsupported VDI image (too many blocks: %llu)",
			       (unsigned long long)blocks);
	if (size > blocks * block ||
	    !range_ok(ld_le32(h + VDI_OFF_BLOCKS), blocks * 4, n->file->size))
		return err_set(
			err, EINVAL,
			"damaged VDI image (disk of %llu bytes, %llu blocks, file of %llu bytes)",
			(unsigned long long)size, (unsigned long long)blocks,
			(unsigned long long)n->file->size);
	if (ld_le32(h + VDI_OFF_DATA) < ld_le32(h + VDI_OFF_BLOCKS) + blocks * 4)
		return err_set(err, EINVAL, "damaged VDI image (its data begins inside its table)");
	return 0;
}

static int vdi_open(struct node *n, const struct blk_options *o, struct err *err)
{
	struct vdi *v = xcalloc(1, sizeof(*v));
	uint64_t end;
	int ret = node_pread(n->file, v->header, sizeof(v->header), 0);

	if (ret == 0)
		ret = vdi_check_header(n, v->header, err);
	if (ret < 0)
		goto fail;
	v->blocks = ld_le32(v->header + VDI_BLOCKS);
	v->allocated = ld_le32(v->header + VDI_ALLOCATED);
	v->table_off = ld_le32(v->header + VDI_OFF_BLOCKS);
	v->data_off = ld_le32(v->header + VDI_OFF_DATA);
	v->npages = ((uint64_t)v->blocks * 4 + PAGE - 1) / PAGE;
	v->pages = calloc(v->npages + 1, sizeof(*v->pages));
	if (!v->pages) {
		ret = -ENOMEM;
		goto fail;
	}
	n->size = ld_le64(v->header + VDI_DISK_SIZE);
	v->map = (struct bmap){
		.ops = &vdi_bmap_ops, .ctx = v, .owner = n, .file = n->file, .size = n->size,
		.block = ld_le32(v->header + VDI_BLOCK_SIZE), .read_only = !(n->flags & BLK_RDWR),
	};
	/* New blocks go past everything that is in the file or said to be. */
	end = n->file->size > v->data_off
		      ? (n->file->size - v->data_off + v->map.block - 1) / v->map.block
		      : 0;
	v->map.end = v->data_off + MAX(end, (uint64_t)v->allocated) * v->map.block;
	bmap_init(&v->map);
	n->priv = v;
	return 0;
fail:
	free(v);
	return ret;
}

static void vdi_close(struct node *n)
{
	struct vdi *v = n->priv;

	fmt_close_map(n, &v->map);
	for (uint64_t i = 0; i < v->npages; i++)
		free(v->pages[i].data);
	free(v->pages);
	free(v);
	n->priv = NULL;
}

static int vdi_read(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len)
{
	return bmap_read(&((struct vdi *)n->priv)->map, off, iov, niov, 0, len);
}

static int vdi_write(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len,
		     unsigned flags)
{
	return bmap_write(&((struct vdi *)n->priv)->map, off, iov, niov, 0, len);
}

static int vdi_zeroes(struct node *n, uint64_t off, uint64_t len, unsigned flags)
{
	return bmap_zeroes(&((struct vdi *)n->priv)->map, off, len);
}

static int vdi_flush(struct node *n)
{
	return bmap_flush(&((struct vdi *)n->priv)->map);
}

static int vdi_extent(struct node *n, uint64_t off, uint64_t len, struct extent *e)
{
	struct vdi *v = n->priv;
	int ret = bmap_extent(&v->map, off, len, e);

	fmt_extent_flat(e, ld_le32(v->header + VDI_TYPE) == VDI_TYPE_STATIC);
	return ret;
}

static int vdi_info(struct node *n, struct node_info *i)
{
	i->cluster_size = ((struct vdi *)n->priv)->map.block;
	return 0;
}

static int vdi_check(struct node *n, struct node_check *c, unsigned fix)
{
	struct vdi *v = n->priv;
	int ret = bmap_check(&v->map, c, v->data_off);

	/* As qemu-img shows it for this format: no counts. */
	c->image_end_offset = c->total_clusters = c->allocated_clusters = c->fragmented_clusters =
		0;
	return ret;
}

static const struct node_opt vdi_create_opts[] = {
	{ "size", "size", "Virtual disk size", NULL, false },
	{ "static", "bool (on/off)", "VDI static (pre-allocated) image", "off", false },
	{ "preallocation", "str",
	  "Preallocation mode (allowed values: off, metadata, falloc, full)", NULL, false },
	{ NULL, NULL, NULL, NULL, false },
};

static int write_table(struct node *f, uint64_t blocks, bool is_static)
{
	uint8_t *page = malloc(PAGE);
	int ret = page ? 0 : -ENOMEM;

	for (uint64_t b = 0; b < blocks && ret == 0; b += PAGE / 4) {
		uint64_t n = MIN(blocks - b, (uint64_t)PAGE / 4);

		memset(page, 0, PAGE);
		for (uint64_t i = 0; i < n; i++)
			st_le32(page + i * 4, is_static ? b + i : VDI_FREE);
		ret = node_pwrite(f, page, ALIGN_UP(n * 4, 512ull), 512 + b * 4);
	}
	free(page);
	return ret;
}

static int vdi_create(const struct node_create *c, struct err *err)
{
	uint64_t size = ALIGN_UP(c->size, 512ull), block = MiB,
		 blocks = size / block + !!(size % block);
	uint64_t table_len = ALIGN_UP(blocks * 4, 512ull),
		 data_off = ALIGN_UP(512 + table_len, block);
	enum prealloc mode;
	bool is_static = false;
	uint8_t h[512] = { 0 };
	struct node *f;
	int ret = node_create_opt_bool(c->opts, "static", false, &is_static, err);

	if (ret == 0)
		ret = opt_get_prealloc(c->opts, true, &mode, err);
	if (ret < 0)
		return ret;
	is_static |= mode != PREALLOC_OFF;
	if (table_len > VDI_TABLE_MAX)
		return err_set(
			err, EFBIG,
			"Unsupported VDI image size (size is 0x%llx, max supported is 0x%llx)",
			(unsigned long long)c->size,
			(unsigned long long)(VDI_TABLE_MAX / 4 * block));
	strcpy((char *)h, "<<< minivmm VM Virtual Disk Image >>>\n");
	st_le32(h + VDI_SIGNATURE, VDI_SIGNATURE_VALUE);
	st_le32(h + VDI_VERSION, VDI_VERSION_1_1);
	st_le32(h + VDI_HEADER_SIZE, 0x180);
	st_le32(h + VDI_TYPE, is_static ? VDI_TYPE_STATIC : VDI_TYPE_DYNAMIC);
	st_le32(h + VDI_OFF_BLOCKS, 512);
	st_le32(h + VDI_OFF_DATA, data_off);
	st_le32(h + VDI_SECTOR_SIZE, 512);
	st_le64(h + VDI_DISK_SIZE, size);
	st_le32(h + VDI_BLOCK_SIZE, block);
	st_le32(h + VDI_BLOCKS, blocks);
	st_le32(h + VDI_ALLOCATED, is_static ? blocks : 0);
	fmt_uuid(h + VDI_UUID);
	fmt_uuid(h + VDI_UUID_SNAP);
	f = node_create_file(c->filename, 0, c->host, err);
	if (!f)
		return -EINVAL;
	ret = node_pwrite(f, h, sizeof(h), 0);
	if (ret == 0)
		ret = write_table(f, blocks, is_static);
	if (ret == 0)
		ret = node_resize(f, data_off + (is_static ? blocks * block : 0), err);
	if (ret == 0 && is_static)
		ret = fmt_file_preallocate(f, data_off, blocks * block, mode, err);
	node_unref(f);
	return ret < 0 ? err_set(err, -ret, "could not write '%s': %s", c->filename, strerror(-ret))
		       : 0;
}

const struct node_ops vdi_ops = {
	.activate = node_read_again,
	.format = "vdi",
	.probe = vdi_probe,
	.open = vdi_open,
	.close = vdi_close,
	.create = vdi_create,
	.create_opts = vdi_create_opts,
	.read = vdi_read,
	.write = vdi_write,
	.zeroes = vdi_zeroes,
	.flush = vdi_flush,
	.extent = vdi_extent,
	.info = vdi_info,
	.check = vdi_check,
};
