/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmdk_create.c: new VMware disks: the descriptor, and empty extents with their grain tables in
 * place. Virtual Disk Format 5.0. Names and layout as qemu-img makes them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "disk/vmdk/vmdk.h"

const struct node_opt vmdk_create_opts[] = {
	{ "size", "size", "Virtual disk size", NULL, false },
	{ "adapter_type", "str",
	  "Virtual adapter type, can be one of ide (default), lsilogic, buslogic or legacyESX",
	  NULL, false },
	{ "backing_file", "str", "File name of a base image", NULL, false },
	{ "backing_fmt", "str", "Must be 'vmdk' if present", NULL, false },
	{ "compat6", "bool (on/off)", "VMDK version 6 image", "off", false },
	{ "hwversion", "str", "VMDK hardware version", "undefined", false },
	{ "toolsversion", "str", "VMware guest tools version", NULL, false },
	{ "subformat", "str",
	  "VMDK flat extent format, can be one of {monolithicSparse (default) | monolithicFlat | "
	  "twoGbMaxExtentSparse | twoGbMaxExtentFlat | streamOptimized} ",
	  NULL, false },
	{ "zeroed_grain", "bool (on/off)",
	  "Enable efficient zero writes using the zeroed-grain GTE feature", NULL, false },
	{ "preallocation", "str",
	  "Preallocation mode of flat extents (allowed values: off, falloc, full)", NULL, false },
	{ NULL, NULL, NULL, NULL, false },
};

/* What create was asked for, checked. */
struct vmdk_new {
	const struct node_create *c;
	const char *subformat, *adapter, *hwversion, *toolsversion;
	bool flat, split, stream, zeroed;
	enum prealloc prealloc;
	uint64_t size;
	uint32_t parent_cid;
	char *stem, *suffix, *folder;	/* "disk", ".vmdk", "dir/" */
	char extents[VMDK_DESC_MAX];
	size_t extents_len;
};

uint32_t vmdk_new_cid(void)
{
	uint32_t cid = 0;

	while (cid == 0 || cid >= 0xfffffffe)
		if (getrandom(&cid, sizeof(cid), 0) != sizeof(cid))
			cid = now_ns() / 1000;
	return cid;
}

static int parse_options(struct vmdk_new *v, struct err *err)
{
	static const char *const subformats[] = { "monolithicSparse", "monolithicFlat",
						  "twoGbMaxExtentSparse", "twoGbMaxExtentFlat",
						  "streamOptimized" };
	static const char *const adapters[] = { "ide", "lsilogic", "buslogic", "legacyESX" };
	const char *const *opts = v->c->opts;
	bool compat6 = false, known = false;
	int ret;

	v->subformat = node_create_opt(opts, "subformat");
	if (!v->subformat)
		v->subformat = subformats[0];
	for (unsigned i = 0; i < ARRAY_SIZE(subformats); i++)
		known |= !strcmp(v->subformat, subformats[i]);
	if (!known)
		return err_set(err, EINVAL, "Invalid subformat '%s'", v->subformat);
	v->flat = strstr(v->subformat, "Flat") != NULL;
	v->split = !strncmp(v->subformat, "twoGb", 5);
	v->stream = !strcmp(v->subformat, "streamOptimized");
	v->adapter = node_create_opt(opts, "adapter_type");
	if (!v->adapter)
		v->adapter = adapters[0];
	known = false;
	for (unsigned i = 0; i < ARRAY_SIZE(adapters); i++)
		known |= !strcmp(v->adapter, adapters[i]);
	if (!known)
		return err_set(err, EINVAL, "Unknown adapter type: %s", v->adapter);
	ret = node_create_opt_bool(opts, "compat6", false, &compat6, err);
	if (ret == 0)
		ret = node_create_opt_bool(opts, "zeroed_grain", false, &v->zeroed, err);
	if (ret == 0)
		ret = opt_get_prealloc(opts, false, &v->prealloc, err);
	if (ret < 0)
		return ret;
	v->hwversion = node_create_opt(opts, "hwversion");
	if (v->hwversion && !strcmp(v->hwversion, "undefined"))
		v->hwversion = NULL;
	if (v->hwversion && compat6)
		return err_set(err, EINVAL, "compat6 cannot be enabled with hwversion set");
	if (!v->hwversion)
		v->hwversion = compat6 ? "6" : "4";
	v->toolsversion = node_create_opt(opts, "toolsversion");
	if (!v->toolsversion)
		v->toolsversion = "2147483647";
	if (strpbrk(v->hwversion, "\"\n") || strpbrk(v->toolsversion, "\"\n"))
		return err_set(err, EINVAL, "a version may not contain a quotation mark");
	if (v->prealloc && !v->flat)
		return err_set(err, ENOTSUP,
			       "preallocation is for flat extents: use subformat=monolithicFlat");
	if (v->zeroed && (v->flat || v->stream))
		return err_set(err, ENOTSUP, "Cannot enable zeroed_grain with %s", v->subformat);
	return 0;
}

static int parse_backing(struct vmdk_new *v, struct err *err)
{
	const struct node_create *c = v->c;
	struct blk_options o = { .format = "vmdk",
				 .flags = BLK_NO_BACKING | BLK_SHARE,
				 .host = c->host };
	uint64_t off, max;
	char value[16], *desc, *path;
	struct node *p;

	v->parent_cid = 0xffffffff;
	if (!c->backing)
		return 0;
	if (v->flat)
		return err_set(err, ENOTSUP, "Flat image can't have backing file");
	if (v->stream)
		return err_set(err, ENOTSUP, "a streamOptimized image can't have a backing file");
	if (strpbrk(c->backing, "\"\n"))
		return err_set(err, EINVAL,
			       "a backing file's name may not contain a quotation mark");
	if (c->backing_format && strcmp(c->backing_format, "vmdk"))
		return err_set(err, EINVAL, "backing_file must be a vmdk image");
	path = *c->backing == '/' ? xstrdup(c->backing) : xasprintf("%s%s", v->folder, c->backing);
	p = node_open(path, &o, err);
	free(path);
	if (!p)
		return -EINVAL;
	desc = vmdk_read_descriptor(p->file, &off, &max, err);
	node_unref(p);
	if (!desc)
		return -EINVAL;
	if (vmdk_desc_get(desc, "CID", value, sizeof(value)))
		v->parent_cid = strtoul(value, NULL, 16);
	free(desc);
	return 0;
}

/* An empty sparse extent; desc (may be NULL) goes into it. */
static int create_sparse(struct vmdk_new *v, struct node *f, uint64_t size, const char *desc,
			 struct err *err)
{
	uint64_t sectors = size / VMDK_SECTOR, grain = VMDK_GRAIN / VMDK_SECTOR;
	uint64_t tables = (sectors + grain * VMDK_GTES - 1) / (grain * VMDK_GTES);
	uint64_t gd_sectors = (tables * 4 + 511) / 512, gt_sectors = VMDK_GTES * 4 / 512;
	uint64_t rgd = 1 + VMDK_DESC_SECTORS, gd = rgd + gd_sectors + tables * gt_sectors;
	uint64_t overhead = ALIGN_UP(gd + gd_sectors + tables * gt_sectors, grain);
	uint8_t h[512] = { 0 }, text[VMDK_DESC_SECTORS * 512] = { 0 }, *dir;
	int ret;

	if (v->stream)
		overhead = grain;
	st_le32(h + SPARSE_MAGIC, SPARSE_MAGIC_VALUE);
	st_le32(h + SPARSE_VERSION, v->stream ? 3 : v->zeroed ? 2 : 1);
	st_le32(h + SPARSE_FLAGS, SPARSEFLAG_NEWLINE_TEST |
		(v->stream ? SPARSEFLAG_COMPRESSED | SPARSEFLAG_MARKERS : SPARSEFLAG_REDUNDANT) |
		(v->zeroed ? SPARSEFLAG_ZEROED : 0));
	st_le64(h + SPARSE_CAPACITY, sectors);
	st_le64(h + SPARSE_GRAIN, grain);
	if (desc) {
		st_le64(h + SPARSE_DESC, 1);
		st_le64(h + SPARSE_DESC_SIZE, VMDK_DESC_SECTORS);
		if (strlen(desc) >= sizeof(text))
			return err_set(err, EINVAL, "the descriptor is too long");
		strcpy((char *)text, desc);
	}
	st_le32(h + SPARSE_GTES, VMDK_GTES);
	st_le64(h + SPARSE_RGD, v->stream ? 0 : rgd);
	st_le64(h + SPARSE_GD, v->stream ? VMDK_GD_AT_END : gd);
	st_le64(h + SPARSE_OVERHEAD, overhead);
	memcpy(h + SPARSE_NEWLINES, "\n \r\n", 4);
	st_le16(h + SPARSE_COMPRESS, v->stream ? 1 : 0);
	ret = node_pwrite(f, h, sizeof(h), 0);
	if (ret == 0)
		ret = node_pwrite(f, text, sizeof(text), 512);
	if (ret == 0)
		ret = node_resize(f, overhead * VMDK_SECTOR, err);
	if (ret < 0)
		return err_set(err, -ret, "could not write '%s': %s", f->filename, strerror(-ret));
	dir = calloc(1, gd_sectors * 512);
	if (!dir)
		return err_set(err, ENOMEM, "no memory for the grain directory");
	if (v->stream) {
		/*
		 * No grain yet: directory and footer make it whole; the writer takes them off
		 * again.
		 */
		struct vmdk_extent x = { .file = f, .gd = dir, .gds = tables, .entry = 4 };

		ret = vmdk_stream_close_empty(&x, overhead * VMDK_SECTOR);
	} else {
		for (unsigned copy = 0; copy < 2 && ret == 0; copy++) {
			uint64_t at = copy ? gd : rgd;

			for (uint64_t i = 0; i < tables; i++)
				st_le32(dir + i * 4, at + gd_sectors + i * gt_sectors);
			ret = node_pwrite(f, dir, gd_sectors * 512, at * 512);
		}
	}
	free(dir);
	return ret < 0 ? err_set(err, -ret, "could not write '%s': %s", f->filename, strerror(-ret))
		       : 0;
}

static int create_extent(struct vmdk_new *v, unsigned index, uint64_t size, struct err *err)
{
	char *name, *path;
	struct node *f;
	int ret, n;

	if (v->split)
		name = xasprintf("%s-%c%03u%s", v->stem, v->flat ? 'f' : 's', index + 1, v->suffix);
	else
		name = xasprintf("%s-flat%s", v->stem, v->suffix);
	path = xasprintf("%s%s", v->folder, name);
	n = snprintf(v->extents + v->extents_len, sizeof(v->extents) - v->extents_len,
		     "RW %llu %s \"%s\"%s\n", (unsigned long long)size / VMDK_SECTOR,
		     v->flat ? "FLAT" : "SPARSE", name, v->flat ? " 0" : "");
	v->extents_len += n;
	free(name);
	ret = v->extents_len >= sizeof(v->extents) - 1024 ? err_set(err, EFBIG, "too many extents")
							  : 0;
	f = ret < 0 ? NULL : node_create_file(path, 0, v->c->host, err);
	free(path);
	if (!f)
		return -EINVAL;
	if (v->flat) {
		ret = node_resize(f, size, err);
		if (ret == 0)
			ret = fmt_file_preallocate(f, 0, size, v->prealloc, err);
	} else {
		ret = create_sparse(v, f, size, NULL, err);
	}
	node_unref(f);
	return ret;
}

static char *descriptor(struct vmdk_new *v, bool own_file)
{
	unsigned heads = strcmp(v->adapter, "ide") ? 255 : 16;
	char *parent = v->c->backing ? xasprintf("parentFileNameHint=\"%s\"\n", v->c->backing)
				     : xstrdup("");
	const char *gap = own_file ? "\n" : "";
	char *text = xasprintf(
		"# Disk "
		"DescriptorFile\nversion=1\nCID=%08x\nparentCID=%08x\ncreateType=\"%s\"\n%s%s"
		"# Extent description\n%s%s# The Disk Data Base\n%s"
		"ddb.virtualHWVersion = \"%s\"\nddb.geometry.cylinders = "
		"\"%llu\"\nddb.geometry.heads = \"%u\"\n"
		"ddb.geometry.sectors = \"63\"\nddb.adapterType = \"%s\"\nddb.toolsVersion = "
		"\"%s\"\n",
		vmdk_new_cid(), v->parent_cid, v->subformat, parent, gap, v->extents, gap,
		own_file ? "#DDB\n\n" : "", v->hwversion,
		(unsigned long long)(v->size / (63ull * heads * 512)), heads, v->adapter,
		v->toolsversion);

	free(parent);
	return text;
}

static int create_files(struct vmdk_new *v, struct err *err)
{
	bool own_file = v->flat || v->split;
	uint64_t at = 0, piece;
	unsigned i = 0;
	struct node *f;
	char *desc;
	int ret = 0;

	if (own_file) {
		do {
			piece = v->split ? MIN(v->size - at, VMDK_EXTENT_2G) : v->size;
			ret = create_extent(v, i++, piece, err);
			at += piece;
		} while (ret == 0 && at < v->size);
	} else {
		snprintf(v->extents, sizeof(v->extents), "RW %llu SPARSE \"%s%s\"\n",
			 (unsigned long long)v->size / VMDK_SECTOR, v->stem, v->suffix);
	}
	if (ret < 0)
		return ret;
	f = node_create_file(v->c->filename, 0, v->c->host, err);
	if (!f)
		return -EINVAL;
	desc = descriptor(v, own_file);
	if (own_file)
		ret = node_pwrite(f, desc, strlen(desc), 0);
	else
		ret = create_sparse(v, f, v->size, desc, err);
	if (ret < 0)
		err_set(err, -ret, "could not write '%s': %s", v->c->filename, strerror(-ret));
	free(desc);
	node_unref(f);
	return ret;
}

int vmdk_create(const struct node_create *c, struct err *err)
{
	struct vmdk_new *v = xcalloc(1, sizeof(*v));
	const char *slash = strrchr(c->filename, '/'), *base = slash ? slash + 1 : c->filename,
		   *dot = strrchr(base, '.');
	int ret;

	v->c = c;
	v->size = ALIGN_UP(c->size, (uint64_t)VMDK_SECTOR);
	v->folder = xasprintf("%.*s", (int)(base - c->filename), c->filename);
	v->stem = xasprintf("%.*s", dot ? (int)(dot - base) : (int)strlen(base), base);
	v->suffix = xstrdup(dot ? dot : "");
	ret = parse_options(v, err);
	if (ret == 0 && strpbrk(base, "\"\n"))
		ret = err_set(err, EINVAL, "a vmdk file's name may not contain a quotation mark");
	if (ret == 0 && v->size / VMDK_GRAIN / VMDK_GTES * 4 > 8 * MiB)
		ret = err_set(err, EFBIG, "a vmdk image holds at most 64 TiB");
	if (ret == 0)
		ret = parse_backing(v, err);
	if (ret == 0)
		ret = create_files(v, err);
	free(v->folder);
	free(v->stem);
	free(v->suffix);
	free(v);
	return ret;
}
