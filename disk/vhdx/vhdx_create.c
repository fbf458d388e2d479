/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhdx_create.c: new VHDX images, [MS-VHDX] 2: headers, log, regions, metadata, an empty or full
 * block table.
 */
#include <errno.h>
#include <stdlib.h>

#include "disk/vhdx/vhdx.h"

const struct node_opt vhdx_create_opts[] = {
	{ "size", "size", "Virtual disk size; max of 64TB.", NULL, false },
	{ "log_size", "size", "Log size; min 1MB.", "1048576", false },
	{ "block_size", "size",
	  "Block Size; min 1MB, max 256MB. 0 means auto-calculate based on image size.", "0",
	  false },
	{ "subformat", "str",
	  "VHDX format type, can be either 'dynamic' or 'fixed'. Default is 'dynamic'.", NULL,
	  false },
	{ "block_state_zero", "bool (on/off)",
	  "Mark new blocks as zero rather than as not present (off)", NULL, false },
	{ "preallocation", "str",
	  "Preallocation mode of fixed disks (allowed values: off, falloc, full)", NULL, false },
	{ NULL, NULL, NULL, NULL, false },
};

struct vhdx_new {
	uint64_t size, block, log, bat, bat_off, meta_off, data_off, blocks, chunk_ratio;
	bool fixed, zero;
	enum prealloc prealloc;
};

static int parse_options(const struct node_create *c, struct vhdx_new *v, struct err *err)
{
	const char *sub = node_create_opt(c->opts, "subformat");
	int ret;

	v->size = ALIGN_UP(c->size, 512ull);
	ret = node_create_opt_size(c->opts, "log_size", MiB, &v->log, err);
	if (ret == 0)
		ret = node_create_opt_size(c->opts, "block_size", 0, &v->block, err);
	if (ret == 0)
		ret = node_create_opt_bool(c->opts, "block_state_zero", false, &v->zero, err);
	if (ret == 0)
		ret = opt_get_prealloc(c->opts, false, &v->prealloc, err);
	if (ret < 0)
		return ret;
	if (v->size > 64ull << 40)
		return err_set(err, EINVAL, "Image size too large; max of 64TB");
	if (!v->size)
		return err_set(err, EINVAL, "a VHDX image cannot be empty");
	if (sub && strcmp(sub, "dynamic") && strcmp(sub, "fixed"))
		return err_set(err, EINVAL, "Invalid subformat '%s'", sub);
	v->fixed = sub && !strcmp(sub, "fixed");
	if (v->prealloc && !v->fixed)
		return err_set(err, ENOTSUP,
			       "preallocation is for fixed disks: use subformat=fixed");
	if (!v->block)
		v->block = v->size > 32ull << 40 ? 64 * MiB
			   : v->size > 100 * GiB ? 32 * MiB
			   : v->size > GiB	 ? 16 * MiB
						 : 8 * MiB;
	if (v->block % MiB || v->block > 256 * MiB || !IS_POWER_OF_2(v->block))
		return err_set(err, EINVAL,
			       "Block size must be a power of two from 1 MB to 256 MB");
	v->log = ALIGN_UP(v->log, MiB);
	if (v->log < MiB || v->log > 64 * MiB)
		return err_set(err, EINVAL, "Log size must be from 1 MB to 64 MB");
	v->chunk_ratio = 8 * MiB * 512 / v->block;
	v->blocks = (v->size + v->block - 1) / v->block;
	v->bat = ALIGN_UP((v->blocks + (v->blocks - 1) / v->chunk_ratio) * 8, MiB);
	v->meta_off = MiB + v->log;
	v->bat_off = v->meta_off + MiB;
	v->data_off = v->bat_off + v->bat;
	return 0;
}

static int write_headers(struct node *f, const struct vhdx_new *v)
{
	static const char creator[] = "minivmm " MINIVMM_VERSION;
	uint8_t b[4096] = { 0 };
	int ret;

	memcpy(b, "vhdxfile", 8);
	for (size_t i = 0; creator[i]; i++)
		st_le16(b + 8 + i * 2, creator[i]);
	ret = node_pwrite(f, b, sizeof(b), 0);
	memset(b, 0, sizeof(b));
	memcpy(b, "head", 4);
	fmt_uuid(b + HDR_FILE_WRITE_GUID);
	fmt_uuid(b + HDR_DATA_WRITE_GUID);
	st_le16(b + HDR_VERSION, 1);
	st_le32(b + HDR_LOG_LENGTH, v->log);
	st_le64(b + HDR_LOG_OFFSET, MiB);
	for (int i = 0; i < 2 && ret == 0; i++) {
		st_le64(b + HDR_SEQUENCE, 1 + i);
		st_le32(b + HDR_CHECKSUM, vhdx_checksum(b, sizeof(b), HDR_CHECKSUM));
		ret = node_pwrite(f, b, sizeof(b), i ? VHDX_HEADER2 : VHDX_HEADER1);
	}
	return ret;
}

static int write_regions(struct node *f, const struct vhdx_new *v)
{
	uint8_t *t = xcalloc(1, VHDX_REGION_SIZE);
	int ret;

	memcpy(t, "regi", 4);
	st_le32(t + 8, 2);
	memcpy(t + 16, vhdx_guid_bat, 16);
	st_le64(t + 32, v->bat_off);
	st_le32(t + 40, v->bat);
	st_le32(t + 44, 1);
	memcpy(t + 48, vhdx_guid_metadata, 16);
	st_le64(t + 64, v->meta_off);
	st_le32(t + 72, MiB);
	st_le32(t + 76, 1);
	st_le32(t + 4, vhdx_checksum(t, VHDX_REGION_SIZE, 4));
	ret = node_pwrite(f, t, VHDX_REGION_SIZE, VHDX_REGION1);
	if (ret == 0)
		ret = node_pwrite(f, t, VHDX_REGION_SIZE, VHDX_REGION2);
	free(t);
	return ret;
}

static int write_metadata(struct node *f, const struct vhdx_new *v)
{
	enum { IS_VIRTUAL_DISK = 2, IS_REQUIRED = 4 };
	const struct { const uint8_t *guid; uint32_t len, flags; } items[] = {
		{ vhdx_guid_file_parameters, 8, IS_REQUIRED },
		{ vhdx_guid_disk_size, 8, IS_REQUIRED | IS_VIRTUAL_DISK },
		{ vhdx_guid_disk_id, 16, IS_REQUIRED | IS_VIRTUAL_DISK },
		{ vhdx_guid_logical_sector, 4, IS_REQUIRED | IS_VIRTUAL_DISK },
		{ vhdx_guid_physical_sector, 4, IS_REQUIRED | IS_VIRTUAL_DISK },
	};
	uint8_t *t = xcalloc(1, VHDX_METADATA_TABLE + 4096), *data = t + VHDX_METADATA_TABLE;
	uint32_t at = 0;
	int ret;

	memcpy(t, "metadata", 8);
	st_le16(t + 10, ARRAY_SIZE(items));
	for (unsigned i = 0; i < ARRAY_SIZE(items); i++) {
		uint8_t *e = t + 32 + i * 32;

		memcpy(e, items[i].guid, 16);
		st_le32(e + 16, VHDX_METADATA_TABLE + at);
		st_le32(e + 20, items[i].len);
		st_le32(e + 24, items[i].flags);
		at += items[i].len;
	}
	st_le32(data, v->block);
	st_le32(data + 4, v->fixed ? 1 : 0);
	st_le64(data + 8, v->size);
	fmt_uuid(data + 16);
	st_le32(data + 32, 512);
	st_le32(data + 36, 512);
	ret = node_pwrite(f, t, VHDX_METADATA_TABLE + 4096, v->meta_off);
	free(t);
	return ret;
}

static int write_table(struct node *f, const struct vhdx_new *v)
{
	uint64_t entries = v->blocks + (v->blocks - 1) / v->chunk_ratio,
		 len = ALIGN_UP(entries * 8, 4096ull);
	uint8_t *bat;
	int ret;

	if (!v->fixed && !v->zero)
		return 0;
	bat = calloc(1, len);
	if (!bat)
		return -ENOMEM;
	for (uint64_t b = 0; b < v->blocks; b++)
		st_le64(bat + (b + b / v->chunk_ratio) * 8,
			v->fixed ? (v->data_off + b * v->block) | BLOCK_FULLY_PRESENT : BLOCK_ZERO);
	ret = node_pwrite(f, bat, len, v->bat_off);
	free(bat);
	return ret;
}

int vhdx_create(const struct node_create *c, struct err *err)
{
	struct vhdx_new v = { 0 };
	struct node *f;
	int ret = parse_options(c, &v, err);

	if (ret < 0)
		return ret;
	f = node_create_file(c->filename, 0, c->host, err);
	if (!f)
		return -EINVAL;
	ret = node_resize(f, v.data_off + (v.fixed ? v.blocks * v.block : 0), err);
	if (ret == 0)
		ret = write_headers(f, &v);
	if (ret == 0)
		ret = write_regions(f, &v);
	if (ret == 0)
		ret = write_metadata(f, &v);
	if (ret == 0)
		ret = write_table(f, &v);
	if (ret == 0 && v.fixed)
		ret = fmt_file_preallocate(f, v.data_off, v.blocks * v.block, v.prealloc, err);
	node_unref(f);
	return ret < 0 ? err_set(err, -ret, "could not write '%s': %s", c->filename, strerror(-ret))
		       : 0;
}
