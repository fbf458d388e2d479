/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhdx.c: Hyper-V disks, [MS-VHDX]: headers, regions, metadata, and the block allocation table.
 * Differencing disks are refused. The table changes only through the log (vhdx_log.c). Worker
 * threads.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "disk/formats.h"
#include "disk/vhdx/vhdx.h"

/* GUIDs as they lie in the file. */
const uint8_t vhdx_guid_bat[16] = { 0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42,
				    0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08 };
const uint8_t vhdx_guid_metadata[16] = { 0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b,
					 0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e };
const uint8_t vhdx_guid_file_parameters[16] = { 0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d,
						0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b };
const uint8_t vhdx_guid_disk_size[16] = { 0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48,
					  0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8 };
const uint8_t vhdx_guid_disk_id[16] = { 0xab, 0x12, 0xca, 0xbe, 0xe6, 0xb2, 0x23, 0x45,
					0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46 };
const uint8_t vhdx_guid_logical_sector[16] = { 0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9, 0x09, 0x47,
					       0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f };
const uint8_t vhdx_guid_physical_sector[16] = { 0xc7, 0x48, 0xa3, 0xcd, 0x5d, 0x44, 0x71, 0x44,
						0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56 };
static const uint8_t vhdx_guid_parent_locator[16] = { 0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3,
						      0x4d, 0x45, 0xab, 0xf7, 0xd3, 0xd8,
						      0x48, 0x34, 0xab, 0x0c };

uint32_t vhdx_checksum(const void *buf, size_t len, size_t field)
{
	static const uint8_t zero[4];
	uint32_t crc = crc32c(0, buf, field);

	crc = crc32c(crc, zero, 4);
	return crc32c(crc, (const uint8_t *)buf + field + 4, len - field - 4);
}

/* Reads with the patches laid over. */
static int vhdx_read_meta(struct node *n, struct vhdx *v, void *buf, uint64_t len, uint64_t off)
{
	int ret = node_pread(n->file, buf, len, off);

	for (size_t i = 0; i < v->npatch && ret == 0; i++) {
		const struct vhdx_patch *p = &v->patch[i];
		uint64_t from = MAX(off, p->off), to = MIN(off + len, p->off + p->len);

		if (from >= to)
			continue;
		if (p->data)
			memcpy((uint8_t *)buf + from - off, p->data + from - p->off, to - from);
		else
			memset((uint8_t *)buf + from - off, 0, to - from);
	}
	return ret;
}

static int vhdx_probe(const uint8_t *head, size_t len, uint64_t file_size, const char *filename)
{
	return len >= 8 && !memcmp(head, "vhdxfile", 8) ? 100 : 0;
}

/* --- the block table as bmap sees it --- */

/* A sector bitmap entry follows every chunk_ratio payload entries. */
static uint64_t bat_index(const struct vhdx *v, uint64_t b)
{
	return b + b / v->chunk_ratio;
}

static int vhdx_lookup(struct bmap *m, uint64_t b, struct bmap_entry *e)
{
	struct vhdx *v = m->ctx;
	uint64_t i = bat_index(v, b), entry;

	if (i >= v->entries)
		return -EIO;
	entry = ld_le64(v->bat + i * 8);
	switch (entry & 7) {
	case BLOCK_NOT_PRESENT:
	case BLOCK_UNDEFINED:
	case BLOCK_UNMAPPED:
		e->state = BMAP_NONE;
		return 0;
	case BLOCK_ZERO:
		e->state = BMAP_ZERO;
		return 0;
	case BLOCK_FULLY_PRESENT:
		e->state = BMAP_DATA;
		e->off = entry & ~(MiB - 1);
		return e->off >= MiB && e->off < bmap_file_size(m) ? 0 : -EIO;
	default:
		return -EIO;
	}
}

static void bat_set(struct vhdx *v, uint64_t b, uint64_t entry)
{
	uint64_t i = bat_index(v, b);

	st_le64(v->bat + i * 8, entry);
	v->dirty[i * 8 / VHDX_LOG_SECTOR] = 1;
}

static int vhdx_commit(struct bmap *m, uint64_t b, uint64_t n, uint64_t off)
{
	for (uint64_t i = 0; i < n; i++)
		bat_set(m->ctx, b + i, (off + i * m->block) | BLOCK_FULLY_PRESENT);
	return 0;
}

static int vhdx_writeback(struct bmap *m)
{
	struct vhdx *v = m->ctx;
	uint64_t pieces = (v->bat_len + VHDX_LOG_SECTOR - 1) / VHDX_LOG_SECTOR;
	unsigned most = MIN(v->log_len / VHDX_LOG_SECTOR / 2, 64u), n = 0;
	uint64_t off[64];
	uint8_t *data[64];
	int ret = 0;

	for (uint64_t i = 0; i < pieces && ret == 0; i++) {
		if (v->dirty[i]) {
			off[n] = v->bat_off + i * VHDX_LOG_SECTOR;
			data[n++] = v->bat + i * VHDX_LOG_SECTOR;
		}
		if (n == most || (n && i + 1 == pieces)) {
			ret = vhdx_log_write(m->owner, v, off, data, n);
			for (unsigned k = 0; k < n && ret == 0; k++)
				v->dirty[(off[k] - v->bat_off) / VHDX_LOG_SECTOR] = 0;
			n = 0;
		}
	}
	return ret;
}

static const struct bmap_ops vhdx_bmap_ops = { .lookup = vhdx_lookup,
					       .commit = vhdx_commit,
					       .writeback = vhdx_writeback };

/* --- opening --- */

static bool header_valid(const uint8_t *h)
{
	return !memcmp(h, "head", 4) && vhdx_checksum_ok(h, 4096, HDR_CHECKSUM) &&
	       ld_le16(h + HDR_VERSION) == 1;
}

static int read_headers(struct node *n, struct vhdx *v, struct err *err)
{
	uint8_t h[2][4096];
	bool ok[2];

	for (int i = 0; i < 2; i++)
		ok[i] = node_pread(n->file, h[i], 4096, i ? VHDX_HEADER2 : VHDX_HEADER1) == 0 &&
			header_valid(h[i]);
	if (!ok[0] && !ok[1])
		return err_set(err, EINVAL, "No valid VHDX header found");
	v->header2 = ok[1] &&
		     (!ok[0] || ld_le64(h[1] + HDR_SEQUENCE) > ld_le64(h[0] + HDR_SEQUENCE));
	memcpy(v->header, h[v->header2], 4096);
	v->log_len = ld_le32(v->header + HDR_LOG_LENGTH);
	v->log_off = ld_le64(v->header + HDR_LOG_OFFSET);
	if (v->log_len % MiB || v->log_off % MiB || v->log_off < MiB ||
	    !range_ok(v->log_off, v->log_len, n->file->size))
		return err_set(err, EINVAL, "invalid VHDX image: its log lies outside the file");
	return 0;
}

int vhdx_write_header(struct node *n, struct vhdx *v, const uint8_t log_guid[16])
{
	int ret;

	st_le64(v->header + HDR_SEQUENCE, ld_le64(v->header + HDR_SEQUENCE) + 1);
	if (!v->headers_claimed) {
		fmt_uuid(v->header + HDR_FILE_WRITE_GUID);
		fmt_uuid(v->header + HDR_DATA_WRITE_GUID);
		v->headers_claimed = true;
	}
	memset(v->header + HDR_LOG_GUID, 0, 16);
	if (log_guid)
		memcpy(v->header + HDR_LOG_GUID, log_guid, 16);
	st_le32(v->header + HDR_CHECKSUM, vhdx_checksum(v->header, 4096, HDR_CHECKSUM));
	v->header2 = !v->header2;
	ret = node_pwrite(n->file, v->header, 4096, v->header2 ? VHDX_HEADER2 : VHDX_HEADER1);
	return ret < 0 ? ret : node_flush(n->file);
}

static int read_regions(struct node *n, struct vhdx *v, struct err *err)
{
	uint8_t *t = malloc(VHDX_REGION_SIZE);
	uint32_t count;
	bool ok = false;
	int ret = 0;

	for (int i = 0; i < 2 && t && !ok; i++)
		ok = vhdx_read_meta(n, v, t, VHDX_REGION_SIZE, i ? VHDX_REGION2 : VHDX_REGION1) ==
			     0 &&
		     !memcmp(t, "regi", 4) && vhdx_checksum_ok(t, VHDX_REGION_SIZE, 4);
	if (!ok) {
		free(t);
		return err_set(err, EINVAL, "No valid VHDX region table found");
	}
	count = ld_le32(t + 8);
	if (count > 2047)
		ret = err_set(err, EINVAL, "invalid VHDX image: %u regions", count);
	for (uint32_t i = 0; i < count && ret == 0; i++) {
		const uint8_t *e = t + 16 + i * 32;
		uint64_t off = ld_le64(e + 16), len = ld_le32(e + 24);

		if (off < MiB || off % MiB || len % MiB || !range_ok(off, len, n->file->size)) {
			ret = err_set(err, EINVAL,
				      "invalid VHDX image: a region lies outside the file");
		} else if (!memcmp(e, vhdx_guid_bat, 16)) {
			if (v->bat_off)
				ret = err_set(err, EINVAL, "invalid VHDX image: two block tables");
			v->bat_off = off;
			v->bat_len = len;
		} else if (!memcmp(e, vhdx_guid_metadata, 16)) {
			if (v->meta_off)
				ret = err_set(err, EINVAL,
					      "invalid VHDX image: two metadata regions");
			v->meta_off = off;
			v->meta_len = len;
		} else if (ld_le32(e + 28) & 1) {
			ret = err_set(err, ENOTSUP,
				      "the VHDX image needs a region that is not known here");
		}
	}
	free(t);
	if (ret == 0 && (!v->bat_off || v->meta_len < VHDX_METADATA_TABLE))
		ret = err_set(err, EINVAL, "invalid VHDX image: no block table or no metadata");
	return ret;
}

struct vhdx_items { uint32_t block, flags, logical, physical; uint64_t size; };

static int read_items(struct node *n, struct vhdx *v, struct vhdx_items *it, struct err *err)
{
	static const struct { const uint8_t *guid; size_t at, len; } known[] = {
		{ vhdx_guid_file_parameters, offsetof(struct vhdx_items, block), 8 },
		{ vhdx_guid_disk_size, offsetof(struct vhdx_items, size), 8 },
		{ vhdx_guid_logical_sector, offsetof(struct vhdx_items, logical), 4 },
		{ vhdx_guid_physical_sector, offsetof(struct vhdx_items, physical), 4 },
		{ vhdx_guid_disk_id, 0, 0 }, { vhdx_guid_parent_locator, 0, 0 },
	};
	uint8_t *t = malloc(VHDX_METADATA_TABLE);
	unsigned count = 0, found = 0;
	int ret = t ? vhdx_read_meta(n, v, t, VHDX_METADATA_TABLE, v->meta_off) : -ENOMEM;

	if (ret == 0 && memcmp(t, "metadata", 8))
		ret = err_set(err, EINVAL, "invalid VHDX image: no metadata table");
	if (ret == 0) {
		count = ld_le16(t + 10);
		if (count > 2047)
			ret = err_set(err, EINVAL, "invalid VHDX image: %u metadata items", count);
	}
	for (unsigned i = 0; i < count && ret == 0; i++) {
		const uint8_t *e = t + 32 + i * 32;
		unsigned k = 0;

		while (k < ARRAY_SIZE(known) && memcmp(e, known[k].guid, 16))
			k++;
		if (k == ARRAY_SIZE(known)) {
			if (ld_le32(e + 24) & 4)
				ret = err_set(err, ENOTSUP,
					      "the VHDX image needs a metadata item that is not "
					      "known here");
			continue;
		}
		if (!known[k].len)
			continue;
		if (found & 1 << k || ld_le32(e + 20) < known[k].len ||
		    !range_ok(ld_le32(e + 16), known[k].len, v->meta_len) ||
		    ld_le32(e + 16) < VHDX_METADATA_TABLE)
			ret = err_set(err, EINVAL, "invalid VHDX image: metadata item %u", i);
		else
			ret = vhdx_read_meta(n, v, (uint8_t *)it + known[k].at, known[k].len,
					     v->meta_off + ld_le32(e + 16));
		found |= 1 << k;
	}
	free(t);
	if (ret == 0 && found != 15)
		ret = err_set(err, EINVAL, "invalid VHDX image: metadata items are missing");
	it->block = le32toh(it->block);
	it->flags = le32toh(it->flags);
	it->logical = le32toh(it->logical);
	it->physical = le32toh(it->physical);
	it->size = le64toh(it->size);
	return ret;
}

static int use_items(struct node *n, struct vhdx *v, const struct vhdx_items *it, struct err *err)
{
	uint64_t blocks;

	if (it->flags & 2)
		return err_set(err, ENOTSUP,
			       "differencing VHDX images are not supported: merge it with its "
			       "parent first");
	if (it->block < MiB || it->block > 256 * MiB || !IS_POWER_OF_2(it->block))
		return err_set(err, EINVAL, "invalid VHDX image: block size %u", it->block);
	if (it->logical != 512 && it->logical != 4096)
		return err_set(err, EINVAL, "invalid VHDX image: sectors of %u bytes", it->logical);
	if (!it->size || it->size % it->logical || it->size > 64ull << 40)
		return err_set(err, EINVAL, "invalid VHDX image: a disk of %llu bytes",
			       (unsigned long long)it->size);
	v->logical_sector = it->logical;
	v->chunk_ratio = (8ull * MiB * it->logical) / it->block;
	blocks = (it->size + it->block - 1) / it->block;
	v->entries = blocks + (blocks - 1) / v->chunk_ratio;
	if (v->entries * 8 > v->bat_len)
		return err_set(err, EINVAL, "invalid VHDX image: its block table is too small");
	if (v->entries * 8 > VHDX_BAT_MAX)
		return err_set(err, EFBIG, "the VHDX image has too many blocks (%llu)",
			       (unsigned long long)blocks);
	v->bat_len = ALIGN_UP(v->entries * 8, (uint64_t)VHDX_LOG_SECTOR);
	n->size = it->size;
	v->bat = calloc(1, v->bat_len);
	v->dirty = calloc(1, v->bat_len / VHDX_LOG_SECTOR + 1);
	if (!v->bat || !v->dirty)
		return err_set(err, ENOMEM, "no memory for the block table");
	return vhdx_read_meta(n, v, v->bat, v->bat_len, v->bat_off);
}

static void vhdx_free(struct vhdx *v)
{
	for (size_t i = 0; i < v->npatch; i++)
		free(v->patch[i].data);
	free(v->patch);
	free(v->bat);
	free(v->dirty);
	free(v);
}

static int vhdx_open(struct node *n, const struct blk_options *o, struct err *err)
{
	struct vhdx *v = xcalloc(1, sizeof(*v));
	struct vhdx_items it = { 0 };
	uint8_t magic[8];
	int ret = node_pread(n->file, magic, 8, 0);

	if (ret == 0 && memcmp(magic, "vhdxfile", 8))
		ret = err_set(err, EINVAL, "Image not in VHDX format");
	if (ret == 0)
		ret = read_headers(n, v, err);
	if (ret == 0)
		ret = vhdx_log_open(n, v, err);
	if (ret == 0)
		ret = read_regions(n, v, err);
	if (ret == 0)
		ret = read_items(n, v, &it, err);
	if (ret == 0)
		ret = use_items(n, v, &it, err);
	if (ret < 0) {
		vhdx_free(v);
		return ret;
	}
	v->map = (struct bmap){
		.ops = &vhdx_bmap_ops,
		.ctx = v,
		.owner = n,
		.file = n->file,
		.size = n->size,
		.block = it.block,
		.align = MiB,
		.end = ALIGN_UP(n->file->size, MiB),
		.read_only = !(n->flags & BLK_RDWR),
	};
	bmap_init(&v->map);
	n->priv = v;
	return 0;
}

static void vhdx_close(struct node *n)
{
	struct vhdx *v = n->priv;

	fmt_close_map(n, &v->map);
	/* Given up, the file is somebody else's: its header says so already. */
	if (v->log_active && n->flags & BLK_RDWR && !n->inactive)
		vhdx_write_header(n, v, NULL);
	vhdx_free(v);
	n->priv = NULL;
}

/* What the log holds lies in its place; the next one to open the file need not look. */
static int vhdx_inactivate(struct node *n, struct err *err)
{
	struct vhdx *v = n->priv;
	int ret = 0;

	pthread_mutex_lock(&v->map.lock);
	if (v->log_active && n->flags & BLK_RDWR)
		ret = vhdx_write_header(n, v, NULL);
	if (ret == 0)
		v->log_active = false;
	pthread_mutex_unlock(&v->map.lock);
	return ret < 0 ? err_set(err, -ret, "its header: %s", strerror(-ret)) : 0;
}

static int vhdx_read(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len)
{
	return bmap_read(&((struct vhdx *)n->priv)->map, off, iov, niov, 0, len);
}

static int vhdx_write(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len,
		      unsigned flags)
{
	struct vhdx *v = n->priv;
	int ret = 0;

	/* Before the first change: new GUIDs in the header, as the specification asks. */
	pthread_mutex_lock(&v->map.lock);
	if (!v->headers_claimed)
		ret = vhdx_write_header(n, v, NULL);
	pthread_mutex_unlock(&v->map.lock);
	return ret < 0 ? ret : bmap_write(&v->map, off, iov, niov, 0, len);
}

static int vhdx_zeroes(struct node *n, uint64_t off, uint64_t len, unsigned flags)
{
	return bmap_zeroes(&((struct vhdx *)n->priv)->map, off, len);
}

static int vhdx_flush(struct node *n)
{
	return bmap_flush(&((struct vhdx *)n->priv)->map);
}

static int vhdx_extent(struct node *n, uint64_t off, uint64_t len, struct extent *e)
{
	int ret = bmap_extent(&((struct vhdx *)n->priv)->map, off, len, e);

	if (ret == 0)
		fmt_extent_flat(e, false);
	return ret;
}

static int vhdx_info(struct node *n, struct node_info *i)
{
	i->cluster_size = ((struct vhdx *)n->priv)->map.block;
	return 0;
}

static int vhdx_check(struct node *n, struct node_check *c, unsigned fix)
{
	struct vhdx *v = n->priv;
	int ret = bmap_check(&v->map, c, MiB);

	c->image_end_offset = c->total_clusters = c->allocated_clusters = c->fragmented_clusters =
		0;
	return ret;
}

static void vhdx_mark(struct node *n, char *buf, size_t len)
{
	struct vhdx *v = n->priv;
	size_t at = snprintf(buf, len, "GUID ");

	pthread_mutex_lock(&v->map.lock);
	for (unsigned i = 0; i < 16 && at < len; i++)
		at += snprintf(buf + at, len - at, "%02x", v->header[HDR_DATA_WRITE_GUID + i]);
	pthread_mutex_unlock(&v->map.lock);
}

const struct node_ops vhdx_ops = {
	.activate = node_read_again,
	.mark = vhdx_mark,
	.inactivate = vhdx_inactivate,
	.format = "vhdx",
	.probe = vhdx_probe,
	.open = vhdx_open,
	.close = vhdx_close,
	.create = vhdx_create,
	.create_opts = vhdx_create_opts,
	.read = vhdx_read,
	.write = vhdx_write,
	.zeroes = vhdx_zeroes,
	.flush = vhdx_flush,
	.extent = vhdx_extent,
	.info = vhdx_info,
	.check = vhdx_check,
};
