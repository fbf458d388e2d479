/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vpc.c: Virtual PC and Hyper-V hard disks (VHD): fixed, dynamic, and differencing (read only).
 * "Virtual Hard Disk Image Format Specification", Microsoft, version 1.0. Everything is big-endian.
 * Worker threads.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "disk/formats.h"
#include "disk/formats/bmap.h"
#include "disk/formats/fmt.h"
#include "vmm/base/log.h"

enum {				/* Hard Disk Footer Format */
	VHD_COOKIE = 0, VHD_FEATURES = 8, VHD_VERSION = 12, VHD_DATA_OFFSET = 16,
	VHD_TIMESTAMP = 24, VHD_CREATOR = 28,
	VHD_CREATOR_VERSION = 32, VHD_CREATOR_OS = 36, VHD_ORIGINAL_SIZE = 40,
	VHD_CURRENT_SIZE = 48, VHD_CYLINDERS = 56,
	VHD_HEADS = 58, VHD_SECTORS = 59, VHD_TYPE = 60, VHD_CHECKSUM = 64, VHD_UUID = 68,
};
enum { VHD_FIXED = 2, VHD_DYNAMIC = 3, VHD_DIFFERENCING = 4 };
enum {				/* Dynamic Disk Header Format */
	DYN_COOKIE = 0, DYN_DATA_OFFSET = 8, DYN_TABLE = 16, DYN_VERSION = 24, DYN_ENTRIES = 28,
	DYN_BLOCK = 32,
	DYN_CHECKSUM = 36, DYN_PARENT_NAME = 64, DYN_LOCATORS = 576,
};
#define VHD_FREE 0xffffffffu
#define VHD_MAX_SECTORS (65535ull * 16 * 255)
#define VHD_TABLE_MAX (16 * MiB)
#define VHD_EPOCH 946684800		/* 1 January 2000 */

struct vpc {
	struct bmap map;
	bool fixed, differencing;
	uint8_t footer[512];
	uint8_t *bat;			/* as in the file */
	uint64_t entries, bat_off;
	uint8_t *dirty;			/* per 4 KiB of table */
	uint8_t *whole;			/* one bit for each block whose sector bitmap we have set */
	pthread_mutex_t whole_lock;
	/* Differencing: the sector bitmap read last; under the map's lock. */
	uint8_t *bitmap;
	uint64_t bitmap_block;
};

static int vpc_probe(const uint8_t *head, size_t len, uint64_t file_size, const char *filename)
{
	return len >= 8 && !memcmp(head, "conectix", 8) ? 100 : 0;
}

static uint32_t vhd_checksum(const uint8_t *p, size_t len, size_t field)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < len; i++)
		if (i < field || i >= field + 4)
			sum += p[i];
	return ~sum;
}

static int vpc_lookup(struct bmap *m, uint64_t b, struct bmap_entry *e)
{
	struct vpc *v = m->ctx;
	uint32_t at;

	if (b >= v->entries)
		return -EIO;
	at = ld_be32(v->bat + b * 4);
	if (at == VHD_FREE) {
		e->state = BMAP_NONE;
		return 0;
	}
	e->state = BMAP_DATA;
	e->off = (uint64_t)at * 512 + m->head;
	return at && e->off < bmap_file_size(m) ? 0 : -EIO;
}

static int vpc_commit(struct bmap *m, uint64_t b, uint64_t n, uint64_t off)
{
	struct vpc *v = m->ctx;
	uint64_t at = (off - m->head) / 512;

	if (at >= VHD_FREE)
		return -EFBIG;
	st_be32(v->bat + b * 4, at);
	v->dirty[b * 4 / 4096] = 1;
	return 0;
}

static int vpc_writeback(struct bmap *m)
{
	struct vpc *v = m->ctx;
	uint64_t len = ALIGN_UP(v->entries * 4, 512ull);
	int ret = node_pwrite(m->file, v->footer, sizeof(v->footer), m->end);

	for (uint64_t at = 0; at < len && ret == 0; at += 4096) {
		if (!v->dirty[at / 4096])
			continue;
		ret = node_pwrite(m->file, v->bat + at, MIN(4096, len - at), v->bat_off + at);
		if (ret == 0)
			v->dirty[at / 4096] = 0;
	}
	return ret;
}

/*
 * Before the first write into a block: all its sectors are marked as used. What was not, reads as
 * zeros here anyway.
 */
static int vpc_prepare(struct bmap *m, uint64_t b, uint64_t off, bool fresh, uint64_t in_block,
		       uint64_t len)
{
	struct vpc *v = m->ctx;
	uint8_t *ones;
	int ret;

	pthread_mutex_lock(&v->whole_lock);
	if (!fresh && v->whole[b / 8] & 1 << b % 8) {
		pthread_mutex_unlock(&v->whole_lock);
		return 0;
	}
	ones = malloc(m->head);
	if (ones)
		memset(ones, 0xff, m->head);
	ret = ones ? node_pwrite(m->file, ones, m->head, off) : -ENOMEM;
	if (ret == 0)
		v->whole[b / 8] |= 1 << b % 8;
	free(ones);
	pthread_mutex_unlock(&v->whole_lock);
	return ret;
}

static bool vpc_sector_present(struct bmap *m, uint64_t b, const struct bmap_entry *e,
			       uint64_t in_block, uint64_t *len)
{
	struct vpc *v = m->ctx;
	uint64_t s = in_block / 512, n = 0;
	bool present;

	if (v->bitmap_block != b) {
		/* A bitmap that cannot be read counts as full: the data read tells the error. */
		if (node_pread(m->file, v->bitmap, m->head, e->off - m->head) < 0)
			memset(v->bitmap, 0xff, m->head);
		v->bitmap_block = b;
	}
	present = v->bitmap[s / 8] & 0x80 >> s % 8;
	while (n * 512 < *len + in_block % 512 &&
	       !!(v->bitmap[(s + n) / 8] & 0x80 >> (s + n) % 8) == present)
		n++;
	*len = MIN(*len, n * 512 - in_block % 512);
	return present;
}

static const struct bmap_ops vpc_bmap_ops = {
	.lookup = vpc_lookup,
	.commit = vpc_commit,
	.writeback = vpc_writeback,
	.prepare = vpc_prepare,
};
static const struct bmap_ops vpc_diff_ops = { .lookup = vpc_lookup,
					      .sector_present = vpc_sector_present };

/* Programs that keep the true size in the footer; for all others the geometry is the size. */
static bool size_is_exact(const uint8_t *f)
{
	static const char exact[][5] = { "win ",  "qem2", "d2v ",   "tap\0",
					 "CXS\0", "mvmm", "wa\0\0", "vs  " };

	for (unsigned i = 0; i < ARRAY_SIZE(exact); i++)
		if (!memcmp(f + VHD_CREATOR, exact[i], 4))
			return true;
	return false;
}

static uint64_t disk_sectors(const uint8_t *f)
{
	uint64_t chs = (uint64_t)ld_be16(f + VHD_CYLINDERS) * f[VHD_HEADS] * f[VHD_SECTORS];

	if (size_is_exact(f) || chs == VHD_MAX_SECTORS || chs == 0)
		return ld_be64(f + VHD_CURRENT_SIZE) / 512;
	return chs;
}

/* The parent's name, UTF-16BE in the header; characters beyond ASCII as UTF-8. */
static void parent_name(struct node *n, const uint8_t *dyn)
{
	char name[1024];
	size_t len = 0;
	const char *base;

	for (int i = 0; i < 256; i++) {
		unsigned c = ld_be16(dyn + DYN_PARENT_NAME + i * 2);

		if (!c)
			break;
		if (c == '\\')
			c = '/';
		if (c < 0x80) {
			name[len++] = c;
		} else if (c < 0x800) {
			name[len++] = 0xc0 | c >> 6;
			name[len++] = 0x80 | (c & 0x3f);
		} else {
			name[len++] = 0xe0 | c >> 12;
			name[len++] = 0x80 | (c >> 6 & 0x3f);
			name[len++] = 0x80 | (c & 0x3f);
		}
	}
	name[len] = 0;
	/* A Windows path says nothing here: the parent is looked for beside the child. */
	base = strrchr(name, '/');
	base = base ? base + 1 : name;
	if (*base && strcmp(base, "..") && strcmp(base, ".")) {
		n->backing_name = xstrdup(base);
		n->backing_format = xstrdup("vpc");
	}
}

static int open_dynamic(struct node *n, struct vpc *v, struct err *err)
{
	uint64_t at = ld_be64(v->footer + VHD_DATA_OFFSET), block, end, bitmap;
	uint8_t dyn[1024];
	int ret;

	if (!range_ok(at, sizeof(dyn), n->file->size) ||
	    node_pread(n->file, dyn, sizeof(dyn), at) < 0 || memcmp(dyn, "cxsparse", 8))
		return err_set(err, EINVAL, "invalid VHD image: no dynamic disk header");
	block = ld_be32(dyn + DYN_BLOCK);
	v->entries = ld_be32(dyn + DYN_ENTRIES);
	v->bat_off = ld_be64(dyn + DYN_TABLE);
	if (!IS_POWER_OF_2(block) || block < 4096 || block > 64 * MiB)
		return err_set(err, EINVAL, "Invalid block size %llu", (unsigned long long)block);
	if (v->entries * 4 > VHD_TABLE_MAX)
		return err_set(err, EINVAL, "Too many blocks");
	if (v->entries < (n->size + block - 1) / block)
		return err_set(err, EINVAL, "Page table too small");
	if (v->bat_off < 512 || !range_ok(v->bat_off, v->entries * 4, n->file->size))
		return err_set(err, EINVAL, "invalid VHD image: its table lies outside the file");
	bitmap = ALIGN_UP(block / 512 / 8, 512ull);
	v->bat = calloc(1, ALIGN_UP(v->entries * 4, 512ull) + 1);
	v->dirty = calloc(1, v->entries * 4 / 4096 + 1);
	v->whole = calloc(1, v->entries / 8 + 1);
	v->bitmap = malloc(bitmap);
	v->bitmap_block = UINT64_MAX;
	if (!v->bat || !v->dirty || !v->whole || !v->bitmap)
		return err_set(err, ENOMEM, "no memory for the block table");
	ret = node_pread(n->file, v->bat, v->entries * 4, v->bat_off);
	if (ret < 0)
		return ret;
	end = MAX(v->bat_off + ALIGN_UP(v->entries * 4, 512ull),
		  ALIGN_UP(at + sizeof(dyn), 512ull));
	for (uint64_t i = 0; i < v->entries; i++) {
		uint32_t e = ld_be32(v->bat + i * 4);

		if (e != VHD_FREE)
			end = MAX(end, (uint64_t)e * 512 + bitmap + block);
	}
	/* The trailing footer gives way; anything else past the last block stays untouched. */
	if (n->file->size > 512)
		end = MAX(end, ALIGN_UP(n->file->size - 512, 512ull));
	if (v->differencing)
		parent_name(n, dyn);
	v->map = (struct bmap){
		.ops = v->differencing ? &vpc_diff_ops : &vpc_bmap_ops,
		.ctx = v,
		.owner = n,
		.file = n->file,
		.size = n->size,
		.block = block,
		.stride = bitmap + block,
		.head = bitmap,
		.end = end,
		.read_only = !(n->flags & BLK_RDWR),
	};
	bmap_init(&v->map);
	return 0;
}

static int read_footer(struct node *n, struct vpc *v, struct err *err)
{
	uint8_t *f = v->footer;
	uint32_t type;

	if (n->file->size < 512)
		return err_set(err, EINVAL, "invalid VHD image: no footer");
	if (node_pread(n->file, f, 512, 0) < 0 || memcmp(f, "conectix", 8)) {
		/*
		 * Only at the end: a fixed disk (whose file may have lost one byte to Virtual PC).
		 */
		if (node_pread(n->file, f, 512, n->file->size - (n->file->size % 512 ? 511 : 512)) <
			    0 ||
		    memcmp(f, "conectix", 8))
			return err_set(err, EINVAL, "invalid VHD image: no footer");
		if (ld_be32(f + VHD_TYPE) != VHD_FIXED)
			return err_set(err, EINVAL,
				       "invalid VHD image: the copy of the footer at its beginning "
				       "is missing");
	}
	if (ld_be32(f + VHD_CHECKSUM) != vhd_checksum(f, 512, VHD_CHECKSUM))
		log_warn("The header checksum of '%s' is incorrect.", n->filename);
	type = ld_be32(f + VHD_TYPE);
	if (type != VHD_FIXED && type != VHD_DYNAMIC && type != VHD_DIFFERENCING)
		return err_set(err, ENOTSUP, "unknown VHD disk type %u", type);
	v->fixed = type == VHD_FIXED;
	v->differencing = type == VHD_DIFFERENCING;
	if (v->differencing && n->flags & BLK_RDWR)
		return err_set(err, ENOTSUP,
			       "differencing VHD images are read only: convert it to qcow2 first");
	n->size = disk_sectors(f) * 512;
	if (n->size > INT64_MAX || (v->fixed && n->size > n->file->size))
		return err_set(err, EINVAL,
			       "invalid VHD image: a disk of %llu bytes in a file of %llu",
			       (unsigned long long)n->size, (unsigned long long)n->file->size);
	return 0;
}

static void vpc_free(struct vpc *v)
{
	pthread_mutex_destroy(&v->whole_lock);
	free(v->bat);
	free(v->dirty);
	free(v->whole);
	free(v->bitmap);
	free(v);
}

static int vpc_open(struct node *n, const struct blk_options *o, struct err *err)
{
	struct vpc *v = xcalloc(1, sizeof(*v));
	int ret;

	pthread_mutex_init(&v->whole_lock, NULL);
	ret = read_footer(n, v, err);
	if (ret == 0 && !v->fixed)
		ret = open_dynamic(n, v, err);
	if (ret < 0) {
		vpc_free(v);
		return ret;
	}
	n->priv = v;
	return 0;
}

static void vpc_close(struct node *n)
{
	struct vpc *v = n->priv;

	if (!v->fixed)
		fmt_close_map(n, &v->map);
	vpc_free(v);
	n->priv = NULL;
}

static int vpc_read(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len)
{
	struct vpc *v = n->priv;

	return v->fixed ? node_readv(n->file, off, iov, niov, len)
			: bmap_read(&v->map, off, iov, niov, 0, len);
}

static int vpc_write(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len,
		     unsigned flags)
{
	struct vpc *v = n->priv;

	return v->fixed ? node_writev(n->file, off, iov, niov, len, 0)
			: bmap_write(&v->map, off, iov, niov, 0, len);
}

static int vpc_zeroes(struct node *n, uint64_t off, uint64_t len, unsigned flags)
{
	struct vpc *v = n->priv;

	return v->fixed ? node_zeroes(n->file, off, len, flags) : bmap_zeroes(&v->map, off, len);
}

static int vpc_flush(struct node *n)
{
	struct vpc *v = n->priv;

	return v->fixed ? node_flush(n->file) : bmap_flush(&v->map);
}

static int vpc_extent(struct node *n, uint64_t off, uint64_t len, struct extent *e)
{
	struct vpc *v = n->priv;

	int ret = 0;

	if (v->fixed)
		*e = (struct extent){ len, EXT_DATA | EXT_ALLOCATED | EXT_OFFSET, n->file, off };
	else
		ret = bmap_extent(&v->map, off, len, e);
	if (ret == 0 && !v->differencing)
		fmt_extent_flat(e, v->fixed);
	return ret;
}

static int vpc_info(struct node *n, struct node_info *i)
{
	struct vpc *v = n->priv;

	i->cluster_size = v->fixed ? 0 : v->map.block;
	return 0;
}

/* --- create --- */

static const struct node_opt vpc_create_opts[] = {
	{ "size", "size", "Virtual disk size", NULL, false },
	{ "subformat", "str",
	  "Type of virtual hard disk format. Supported formats are {dynamic (default) | fixed} ",
	  NULL, false },
	{ "force_size", "bool (on/off)",
	  "Force disk size calculation to use the actual size specified, rather than using the "
	  "nearest CHS-based calculation",
	  NULL, false },
	{ "preallocation", "str",
	  "Preallocation mode of fixed disks (allowed values: off, falloc, full)", NULL, false },
	{ NULL, NULL, NULL, NULL, false },
};

/* The smallest geometry that holds the disk, as Virtual PC rounds. */
static uint64_t round_to_geometry(uint64_t sectors, uint16_t *c, uint8_t *h, uint8_t *s)
{
	uint64_t total = fmt_vhd_geometry(sectors, c, h, s);

	for (uint64_t i = 0; total < sectors; i++)
		total = fmt_vhd_geometry(sectors + i, c, h, s);
	return total;
}

static void make_footer(uint8_t *f, uint64_t sectors, bool fixed, bool exact, uint16_t c, uint8_t h,
			uint8_t s)
{
	memcpy(f + VHD_COOKIE, "conectix", 8);
	st_be32(f + VHD_FEATURES, 2);
	st_be32(f + VHD_VERSION, 0x00010000);
	st_be64(f + VHD_DATA_OFFSET, fixed ? UINT64_MAX : 512);
	st_be32(f + VHD_TIMESTAMP, time(NULL) - VHD_EPOCH);
	/* The names that other programs know decide how they compute the size. */
	memcpy(f + VHD_CREATOR, exact ? "qem2" : "qemu", 4);
	st_be32(f + VHD_CREATOR_VERSION, 0x00050003);
	memcpy(f + VHD_CREATOR_OS, "Wi2k", 4);
	st_be64(f + VHD_ORIGINAL_SIZE, sectors * 512);
	st_be64(f + VHD_CURRENT_SIZE, sectors * 512);
	st_be16(f + VHD_CYLINDERS, c);
	f[VHD_HEADS] = h;
	f[VHD_SECTORS] = s;
	st_be32(f + VHD_TYPE, fixed ? VHD_FIXED : VHD_DYNAMIC);
	fmt_uuid(f + VHD_UUID);
	st_be32(f + VHD_CHECKSUM, vhd_checksum(f, 512, VHD_CHECKSUM));
}

static int create_dynamic(struct node *f, const uint8_t *footer, uint64_t sectors)
{
	uint64_t block = 2 * MiB, entries = (sectors * 512 + block - 1) / block,
		 table = ALIGN_UP(entries * 4, 512ull);
	uint8_t dyn[1024] = { 0 }, *bat = malloc(table + 1);
	int ret;

	if (!bat)
		return -ENOMEM;
	memset(bat, 0xff, table);
	memcpy(dyn, "cxsparse", 8);
	st_be64(dyn + DYN_DATA_OFFSET, UINT64_MAX);
	st_be64(dyn + DYN_TABLE, 512 + sizeof(dyn));
	st_be32(dyn + DYN_VERSION, 0x00010000);
	st_be32(dyn + DYN_ENTRIES, entries);
	st_be32(dyn + DYN_BLOCK, block);
	st_be32(dyn + DYN_CHECKSUM, vhd_checksum(dyn, sizeof(dyn), DYN_CHECKSUM));
	ret = node_pwrite(f, footer, 512, 0);
	if (ret == 0)
		ret = node_pwrite(f, dyn, sizeof(dyn), 512);
	if (ret == 0)
		ret = node_pwrite(f, bat, table, 512 + sizeof(dyn));
	if (ret == 0)
		ret = node_pwrite(f, footer, 512, 512 + sizeof(dyn) + table);
	free(bat);
	return ret;
}

static int vpc_create(const struct node_create *c, struct err *err)
{
	const char *sub = node_create_opt(c->opts, "subformat");
	bool fixed = sub && !strcmp(sub, "fixed"), exact;
	uint64_t sectors = (c->size + 511) / 512, chs;
	uint8_t footer[512] = { 0 }, heads, secs;
	enum prealloc mode;
	uint16_t cyls;
	struct node *f;
	int ret = node_create_opt_bool(c->opts, "force_size", false, &exact, err);

	if (ret == 0)
		ret = opt_get_prealloc(c->opts, false, &mode, err);
	if (ret < 0)
		return ret;
	if (sub && !fixed && strcmp(sub, "dynamic"))
		return err_set(err, EINVAL, "Invalid subformat '%s'", sub);
	if (mode && !fixed)
		return err_set(err, ENOTSUP,
			       "preallocation is for fixed disks: use subformat=fixed");
	if (sectors > 2040 * GiB / 512)
		return err_set(err, EFBIG, "a VHD image holds at most 2040 GiB: use vhdx or qcow2");
	if (!exact && sectors <= VHD_MAX_SECTORS) {
		chs = round_to_geometry(sectors, &cyls, &heads, &secs);
		sectors = chs;
	} else {
		exact = true;
		fmt_vhd_geometry(sectors, &cyls, &heads, &secs);
	}
	make_footer(footer, sectors, fixed, exact, cyls, heads, secs);
	f = node_create_file(c->filename, 0, c->host, err);
	if (!f)
		return -EINVAL;
	if (fixed) {
		ret = node_pwrite(f, footer, 512, sectors * 512);
		if (ret == 0)
			ret = fmt_file_preallocate(f, 0, sectors * 512, mode, err);
	} else {
		ret = create_dynamic(f, footer, sectors);
	}
	node_unref(f);
	return ret < 0 ? err_set(err, -ret, "could not write '%s': %s", c->filename, strerror(-ret))
		       : 0;
}

const struct node_ops vpc_ops = {
	.activate = node_read_again,
	.format = "vpc",
	.probe = vpc_probe,
	.open = vpc_open,
	.close = vpc_close,
	.create = vpc_create,
	.create_opts = vpc_create_opts,
	.read = vpc_read,
	.write = vpc_write,
	.zeroes = vpc_zeroes,
	.flush = vpc_flush,
	.extent = vpc_extent,
	.info = vpc_info,
};
