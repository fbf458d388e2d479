/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmdk_sparse.c: extents made of grains: hosted sparse (KDMV), vmfsSparse (COWD), seSparse. A grain
 * directory names grain tables, a table names grains. Virtual Disk Format 5.0, "Hosted Sparse
 * Extents", "ESX Server Sparse Extents". Tables are read when first used; their number in memory is
 * bounded.
 */
#include <errno.h>
#include <stdlib.h>

#include "disk/vmdk/vmdk.h"

#define GD_MAX (8 * MiB)		/* 64 TiB at the usual grain size */
#define GT_CACHE_MAX (32 * MiB)
#define GTE_ZERO 1u			/* with SPARSEFLAG_ZEROED */

static uint64_t file_size(const struct vmdk_extent *x)
{
	return __atomic_load_n(&x->file->size, __ATOMIC_RELAXED);
}

static uint64_t entry_get(const struct vmdk_extent *x, const uint8_t *table, uint64_t i)
{
	return x->entry == 8 ? ld_le64(table + i * 8) : ld_le32(table + i * 4);
}

static uint64_t gt_bytes(const struct vmdk_extent *x)
{
	return (uint64_t)x->gtes * x->entry;
}

/* Where table i lies in the file, 0 when there is none; redundant: the copy. */
static int gt_offset(const struct vmdk_extent *x, uint64_t i, bool redundant, uint64_t *off)
{
	uint64_t e = entry_get(x, redundant ? x->rgd : x->gd, i);

	*off = 0;
	if (!e)
		return 0;
	if (x->kind == VMDK_SESPARSE) {
		if (e >> 32 != 0x10000000)
			return -EIO;
		e = (e & 0xffffffff) * gt_bytes(x) + x->se_tables;
	} else {
		e *= VMDK_SECTOR;
	}
	if (!range_ok(e, gt_bytes(x), file_size(x)))
		return -EIO;
	*off = e;
	return 0;
}

static int gt_writeback(struct vmdk_extent *x, uint64_t i)
{
	uint64_t off;
	int ret = gt_offset(x, i, false, &off);

	if (ret == 0)
		ret = node_pwrite(x->file, x->gt[i], gt_bytes(x), off);
	if (ret == 0 && x->rgd) {
		ret = gt_offset(x, i, true, &off);
		if (ret == 0 && off)
			ret = node_pwrite(x->file, x->gt[i], gt_bytes(x), off);
	}
	if (ret == 0)
		x->gt_dirty[i] = 0;
	return ret;
}

static int sparse_writeback(struct bmap *m)
{
	struct vmdk_extent *x = m->ctx;
	int ret = 0;

	for (uint64_t i = 0; i < x->gds && ret == 0; i++)
		if (x->gt_dirty[i])
			ret = gt_writeback(x, i);
	if (ret == 0 && x->gd_dirty) {
		ret = node_pwrite(x->file, x->gd, ALIGN_UP(x->gds * x->entry, VMDK_SECTOR),
				  x->gd_off);
		if (ret == 0 && x->rgd)
			ret = node_pwrite(x->file, x->rgd, ALIGN_UP(x->gds * x->entry, VMDK_SECTOR),
					  x->rgd_off);
		if (ret == 0)
			x->gd_dirty = false;
	}
	return ret;
}

static void gt_drop_clean(struct vmdk_extent *x)
{
	for (uint64_t i = 0; i < x->gds; i++) {
		if (x->gt[i] && !x->gt_dirty[i]) {
			free(x->gt[i]);
			x->gt[i] = NULL;
			x->gt_cached--;
		}
	}
}

/* The table for index i, read if need be; *gt is NULL when there is none. */
static int gt_get(struct vmdk_extent *x, uint64_t i, uint8_t **gt)
{
	uint64_t off;
	int ret;

	*gt = x->gt[i];
	if (*gt)
		return 0;
	ret = gt_offset(x, i, false, &off);
	if (ret < 0 || !off)
		return ret;
	if ((x->gt_cached + 1) * gt_bytes(x) > GT_CACHE_MAX)
		gt_drop_clean(x);
	*gt = malloc(gt_bytes(x));
	if (!*gt)
		return -ENOMEM;
	ret = node_pread(x->file, *gt, gt_bytes(x), off);
	if (ret < 0) {
		free(*gt);
		*gt = NULL;
		return ret;
	}
	x->gt[i] = *gt;
	x->gt_cached++;
	return 0;
}

static int packed_length(struct vmdk_extent *x, uint64_t b, struct bmap_entry *e)
{
	uint8_t marker[MARKER_HEADER];
	int ret = node_pread(x->file, marker, sizeof(marker), e->off);

	if (ret < 0)
		return ret;
	e->packed_len = ld_le32(marker + 8);
	if (ld_le64(marker) != b * (x->map.block / VMDK_SECTOR) || !e->packed_len ||
	    e->packed_len > x->map.block * 2 ||
	    !range_ok(e->off + MARKER_HEADER, e->packed_len, file_size(x)))
		return -EIO;
	e->off += MARKER_HEADER;
	e->state = BMAP_PACKED;
	return 0;
}

static int sesparse_entry(struct vmdk_extent *x, uint64_t v, struct bmap_entry *e)
{
	switch (v >> 60) {
	case 0:
		e->state = BMAP_NONE;
		return v ? -EIO : 0;
	case 1:				/* unmapped by the guest */
	case 2:
		e->state = BMAP_ZERO;
		return 0;
	case 3:
		v = (v & 0x0fff000000000000ull) >> 48 | (v & 0x0000ffffffffffffull) << 12;
		if (v > (file_size(x) - MIN(x->se_grains, file_size(x))) / x->map.block)
			return -EIO;
		e->state = BMAP_DATA;
		e->off = x->se_grains + v * x->map.block;
		return e->off < file_size(x) ? 0 : -EIO;
	default:
		return -EIO;
	}
}

static int sparse_lookup(struct bmap *m, uint64_t b, struct bmap_entry *e)
{
	struct vmdk_extent *x = m->ctx;
	uint64_t v;
	uint8_t *gt;
	int ret;

	if (b / x->gtes >= x->gds)
		return -EIO;
	ret = gt_get(x, b / x->gtes, &gt);
	if (ret < 0)
		return ret;
	if (!gt) {
		e->state = BMAP_NONE;
		e->span = x->gtes - b % x->gtes;
		return 0;
	}
	v = entry_get(x, gt, b % x->gtes);
	if (x->kind == VMDK_SESPARSE)
		return sesparse_entry(x, v, e);
	if (v == 0) {
		e->state = BMAP_NONE;
		return 0;
	}
	if (v == GTE_ZERO && x->zeroed) {
		e->state = BMAP_ZERO;
		return 0;
	}
	e->off = v * VMDK_SECTOR;
	if (e->off >= file_size(x))
		return -EIO;
	if (x->compressed)
		return packed_length(x, b, e);
	e->state = BMAP_DATA;
	return 0;
}

/* A new table at the end of the file, for images that make them late (COWD). */
static int gt_new(struct vmdk_extent *x, uint64_t i, uint8_t **gt)
{
	uint64_t off = ALIGN_UP(x->map.end, (uint64_t)VMDK_SECTOR);
	int ret;

	if (off / VMDK_SECTOR > UINT32_MAX)
		return -EFBIG;
	*gt = calloc(1, gt_bytes(x));
	if (!*gt)
		return -ENOMEM;
	x->map.end = off + gt_bytes(x);
	ret = node_pwrite(x->file, *gt, gt_bytes(x), off);
	if (ret < 0) {
		free(*gt);
		return ret;
	}
	st_le32(x->gd + i * 4, off / VMDK_SECTOR);
	if (x->rgd)
		st_le32(x->rgd + i * 4, off / VMDK_SECTOR);
	x->gd_dirty = true;
	x->gt[i] = *gt;
	x->gt_cached++;
	return 0;
}

static int entry_set(struct vmdk_extent *x, uint64_t b, uint32_t v)
{
	uint64_t i = b / x->gtes;
	uint8_t *gt;
	int ret = gt_get(x, i, &gt);

	if (ret == 0 && !gt)
		ret = gt_new(x, i, &gt);
	if (ret < 0)
		return ret;
	st_le32(gt + b % x->gtes * 4, v);
	x->gt_dirty[i] = 1;
	return 0;
}

static int sparse_commit(struct bmap *m, uint64_t b, uint64_t n, uint64_t off)
{
	int ret = 0;

	if ((off + n * m->block) / VMDK_SECTOR > UINT32_MAX)
		return -EFBIG;
	for (uint64_t i = 0; i < n && ret == 0; i++)
		ret = entry_set(m->ctx, b + i, (off + i * m->block) / VMDK_SECTOR);
	return ret;
}

static int sparse_commit_zero(struct bmap *m, uint64_t b, uint64_t n)
{
	int ret = 0;

	for (uint64_t i = 0; i < n && ret == 0; i++)
		ret = entry_set(m->ctx, b + i, GTE_ZERO);
	return ret;
}

static const struct bmap_ops sparse_ops = {
	.lookup = sparse_lookup,
	.commit = sparse_commit,
	.writeback = sparse_writeback,
	.unpack = vmdk_stream_unpack,
};
static const struct bmap_ops sparse_zero_ops = {
	.lookup = sparse_lookup, .commit = sparse_commit, .commit_zero = sparse_commit_zero,
	.writeback = sparse_writeback, .unpack = vmdk_stream_unpack,
};

static int read_directory(struct vmdk_extent *x, uint64_t off, uint8_t **table, struct err *err)
{
	uint64_t len = ALIGN_UP(x->gds * x->entry, VMDK_SECTOR);
	int ret;

	if (x->gds * x->entry > GD_MAX)
		return err_set(err, EFBIG, "L1 size too big");
	if (!range_ok(off, x->gds * x->entry, file_size(x)))
		return err_set(err, EINVAL,
			       "the grain directory of '%s' lies outside the file: it is truncated "
			       "or damaged",
			       x->file->filename);
	*table = calloc(1, len);
	if (!*table)
		return err_set(err, ENOMEM, "no memory for the grain directory");
	ret = node_pread(x->file, *table, x->gds * x->entry, off);
	if (ret < 0)
		return err_set(err, -ret, "could not read the grain directory of '%s': %s",
			       x->file->filename, strerror(-ret));
	return 0;
}

/* After size, grain, gtes, entry and the directory's place are known. */
static int sparse_start(struct node *n, struct vmdk_extent *x, uint64_t grain,
			const struct bmap_ops *ops, struct err *err)
{
	int ret;

	if (grain < VMDK_SECTOR || grain > 16 * MiB || !IS_POWER_OF_2(grain))
		return err_set(err, EINVAL, "'%s' has an invalid grain size, maybe it is damaged",
			       x->file->filename);
	if (!x->gtes || x->gtes > 4096)
		return err_set(err, EINVAL, "L2 table size too big");
	if (!x->gds)
		return err_set(err, EINVAL, "'%s' has an empty grain directory", x->file->filename);
	ret = read_directory(x, x->gd_off, &x->gd, err);
	if (ret == 0 && x->rgd_off)
		ret = read_directory(x, x->rgd_off, &x->rgd, err);
	if (ret < 0)
		return ret;
	x->gt = calloc(x->gds, sizeof(*x->gt));
	x->gt_dirty = calloc(x->gds, 1);
	if (!x->gt || !x->gt_dirty)
		return err_set(err, ENOMEM, "no memory for grain tables");
	x->map = (struct bmap){
		.ops = ops,
		.ctx = x,
		.owner = n,
		.file = x->file,
		.backing_off = x->start,
		.size = x->size,
		.block = grain,
		.align = VMDK_SECTOR,
		.end = ALIGN_UP(file_size(x), grain),
		.read_only = !(n->flags & BLK_RDWR) || x->read_only,
	};
	bmap_init(&x->map);
	return 0;
}

int vmdk_sparse_open(struct node *n, struct vmdk_extent *x, struct err *err)
{
	uint8_t h[512];
	uint64_t capacity, grain, per_gt;
	int ret = node_pread(x->file, h, sizeof(h), 0);

	if (ret < 0 || ld_le32(h + SPARSE_MAGIC) != SPARSE_MAGIC_VALUE)
		return err_set(err, EINVAL, "'%s' is not a sparse extent", x->file->filename);
	if (ld_le64(h + SPARSE_GD) == VMDK_GD_AT_END) {
		ret = vmdk_stream_footer(x->file, h, err);
		if (ret < 0)
			return ret;
	}
	x->kind = VMDK_SPARSE;
	x->version = ld_le32(h + SPARSE_VERSION);
	x->flags = ld_le32(h + SPARSE_FLAGS);
	x->compressed = x->flags & SPARSEFLAG_COMPRESSED;
	x->zeroed = x->flags & SPARSEFLAG_ZEROED;
	if (x->version < 1 || x->version > 3)
		return err_set(err, ENOTSUP, "Unsupported VMDK version %u", x->version);
	if (x->compressed && ld_le16(h + SPARSE_COMPRESS) != 1)
		return err_set(err, ENOTSUP, "'%s' is compressed by an unknown method",
			       x->file->filename);
	if (x->compressed && !(x->flags & SPARSEFLAG_MARKERS))
		return err_set(err, ENOTSUP, "'%s' is compressed but has no markers",
			       x->file->filename);
	/* Version 3 keeps a changed-block map that we would leave stale. */
	if (x->version == 3 && !x->compressed && n->flags & BLK_RDWR)
		return err_set(err, EACCES, "VMDK version 3 must be read only");
	capacity = ld_le64(h + SPARSE_CAPACITY);
	grain = ld_le64(h + SPARSE_GRAIN);
	x->gtes = ld_le32(h + SPARSE_GTES);
	x->entry = 4;
	if (!capacity || capacity > INT64_MAX / VMDK_SECTOR || !grain ||
	    grain > 16 * MiB / VMDK_SECTOR || !x->gtes || x->gtes > VMDK_GTES)
		return err_set(err, EINVAL,
			       "'%s' has an invalid header (capacity %llu, grain %llu, %u entries "
			       "per table)",
			       x->file->filename, (unsigned long long)capacity,
			       (unsigned long long)grain, x->gtes);
	if (!x->size)
		x->size = capacity * VMDK_SECTOR;
	if (x->size > capacity * VMDK_SECTOR)
		return err_set(err, EINVAL, "'%s' is smaller than its descriptor says",
			       x->file->filename);
	per_gt = grain * x->gtes;
	x->gds = (x->size / VMDK_SECTOR + per_gt - 1) / per_gt;
	if (ld_le64(h + SPARSE_GD) > INT64_MAX / VMDK_SECTOR ||
	    ld_le64(h + SPARSE_RGD) > INT64_MAX / VMDK_SECTOR)
		return err_set(err, EINVAL, "'%s' has an invalid header (grain directory)",
			       x->file->filename);
	x->gd_off = ld_le64(h + SPARSE_GD) * VMDK_SECTOR;
	x->rgd_off = x->flags & SPARSEFLAG_REDUNDANT ? ld_le64(h + SPARSE_RGD) * VMDK_SECTOR : 0;
	return sparse_start(n, x, grain * VMDK_SECTOR, x->zeroed ? &sparse_zero_ops : &sparse_ops,
			    err);
}

/*
 * COWDisk_Header: magic, version, flags, sectors, grain, gd offset, gd entries, free sector: u32
 * each.
 */
int vmdk_cowd_open(struct node *n, struct vmdk_extent *x, struct err *err)
{
	uint8_t h[512];
	uint64_t sectors, grain;
	int ret = node_pread(x->file, h, sizeof(h), 0);

	if (ret < 0 || ld_le32(h) != COWD_MAGIC_VALUE)
		return err_set(err, EINVAL, "'%s' is not a vmfsSparse extent", x->file->filename);
	sectors = ld_le32(h + 12);
	grain = ld_le32(h + 16);
	x->kind = VMDK_COWD;
	x->gtes = 4096;
	x->entry = 4;
	x->gd_off = (uint64_t)ld_le32(h + 20) * VMDK_SECTOR;
	x->gds = ld_le32(h + 24);
	if (!x->size)
		x->size = sectors * VMDK_SECTOR;
	if (!x->size || x->size > sectors * VMDK_SECTOR || !grain || grain > 16 * MiB / VMDK_SECTOR)
		return err_set(err, EINVAL, "'%s' has an invalid header (%llu sectors, grain %llu)",
			       x->file->filename, (unsigned long long)sectors,
			       (unsigned long long)grain);
	if (x->gds < (x->size / VMDK_SECTOR + grain * 4096 - 1) / (grain * 4096))
		return err_set(err, EINVAL, "the grain directory of '%s' is too small for its disk",
			       x->file->filename);
	return sparse_start(n, x, grain * VMDK_SECTOR, &sparse_ops, err);
}

/* seSparse const header, in 64-bit fields: what we need of it. */
enum {
	SE_MAGIC = 0, SE_VERSION = 8, SE_CAPACITY = 16, SE_GRAIN = 24, SE_GT_SIZE = 32,
	SE_VOLATILE = 80,
	SE_GD = 128, SE_GD_SIZE = 136, SE_GT = 144, SE_GRAINS = 192,
};

int vmdk_sesparse_open(struct node *n, struct vmdk_extent *x, struct err *err)
{
	uint8_t h[512], v[512];
	uint64_t capacity, field;
	int ret = node_pread(x->file, h, sizeof(h), 0);

	if (ret < 0 || ld_le64(h + SE_MAGIC) != 0x00000000cafebabeull)
		return err_set(err, EINVAL, "'%s' is not a seSparse extent", x->file->filename);
	if (ld_le64(h + SE_VERSION) != 0x0000000200000001ull)
		return err_set(err, ENOTSUP, "'%s' has an unknown seSparse version",
			       x->file->filename);
	if (n->flags & BLK_RDWR)
		return err_set(err, ENOTSUP, "No write support for seSparse images available");
	if (ld_le64(h + SE_GRAIN) != 8 || ld_le64(h + SE_GT_SIZE) != 64)
		return err_set(err, ENOTSUP, "'%s' has an unknown grain or table size",
			       x->file->filename);
	field = ld_le64(h + SE_VOLATILE);
	if (field > INT64_MAX / VMDK_SECTOR ||
	    node_pread(x->file, v, sizeof(v), field * VMDK_SECTOR) < 0 ||
	    ld_le64(v) != 0x00000000cafecafeull)
		return err_set(err, EINVAL, "'%s' has no valid volatile header", x->file->filename);
	if (ld_le64(v + 24))
		return err_set(err, ENOTSUP, "'%s' has a journal to replay: let ESX open it once",
			       x->file->filename);
	capacity = ld_le64(h + SE_CAPACITY);
	x->kind = VMDK_SESPARSE;
	x->gtes = 4096;
	x->entry = 8;
	if (ld_le64(h + SE_GD_SIZE) > GD_MAX / VMDK_SECTOR || !capacity ||
	    capacity > INT64_MAX / VMDK_SECTOR)
		return err_set(err, EINVAL, "L1 size too big");
	x->gds = ld_le64(h + SE_GD_SIZE) * VMDK_SECTOR / 8;
	if (!x->size)
		x->size = capacity * VMDK_SECTOR;
	if (x->size > capacity * VMDK_SECTOR ||
	    x->gds < (x->size / VMDK_SECTOR + 8 * 4096 - 1) / (8 * 4096))
		return err_set(err, EINVAL, "the grain directory of '%s' is too small for its disk",
			       x->file->filename);
	if (ld_le64(h + SE_GD) > INT64_MAX / VMDK_SECTOR || ld_le64(h + SE_GT) > UINT32_MAX ||
	    ld_le64(h + SE_GRAINS) > INT64_MAX / VMDK_SECTOR)
		return err_set(err, EINVAL, "'%s' has an invalid header (offsets)",
			       x->file->filename);
	x->gd_off = ld_le64(h + SE_GD) * VMDK_SECTOR;
	x->se_tables = ld_le64(h + SE_GT) * VMDK_SECTOR;
	x->se_grains = ld_le64(h + SE_GRAINS) * VMDK_SECTOR;
	return sparse_start(n, x, 8 * VMDK_SECTOR, &sparse_ops, err);
}

void vmdk_sparse_close(struct vmdk_extent *x)
{
	for (uint64_t i = 0; x->gt && i < x->gds; i++)
		free(x->gt[i]);
	if (x->map.ops)
		bmap_destroy(&x->map);
	free(x->gt);
	free(x->gt_dirty);
	free(x->gd);
	free(x->rgd);
	vmdk_stream_free(x);
}
