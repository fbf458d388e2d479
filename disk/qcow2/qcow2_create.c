/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2_create.c: new images with the options qemu-img 7.2 has, and what one would need (measure).
 * A new image is made with size 0 (header, refcount table, one block) and then enlarged, so that
 * all else is allocated the ordinary way.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "disk/crypt/crypt.h"
#include "disk/qcow2/qcow2.h"
#include "disk/qcow2/qcow2_crypt.h"
#include "vmm/base/log.h"

const struct node_opt qcow2_create_opts[] = {
	{ "backing_file", "str", "File name of a base image", NULL, true },
	{ "backing_fmt", "str", "Image format of the base image", NULL, true },
	{ "cluster_size", "size", "qcow2 cluster size", "65536", false },
	{ "compat", "str", "Compatibility level (v2 [0.10] or v3 [1.1])", NULL, true },
	{ "compression_type", "str", "Compression method used for image cluster compression",
	  "zlib", false },
	{ "data_file", "str", "File name of an external data file", NULL, true },
	{ "data_file_raw", "bool (on/off)", "The external data file must stay valid as a raw image",
	  NULL, true },
	{ "encryption", "bool (on/off)",
	  "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)", NULL,
	  false },
	{ "encrypt.format", "str", "Encrypt the image, format choices: 'aes', 'luks'", NULL,
	  false },
	LUKS_CREATE_OPTS("encrypt.", "ID of secret providing qcow AES key or LUKS passphrase"),
	LUKS_AMEND_OPTS("encrypt."),
	{ "extended_l2", "bool (on/off)", "Extended L2 tables", "off", false },
	{ "lazy_refcounts", "bool (on/off)", "Postpone refcount updates", "off", true },
	{ "preallocation", "str",
	  "Preallocation mode (allowed values: off, metadata, falloc, full)", NULL, false },
	{ "refcount_bits", "num", "Width of a reference count entry in bits", "16", true },
	{ "size", "size", "Virtual disk size", NULL, true },
	{ NULL, NULL, NULL, NULL, false },
};

struct params {
	struct qcow2_header h;
	const char *preallocation, *data_file;
	bool data_raw, lazy, encrypted;
};

static int parse_params(const char *const *opts, struct params *p, struct err *err)
{
	const char *compat = node_create_opt(opts, "compat"),
		   *type = node_create_opt(opts, "compression_type");
	const char *enc = node_create_opt(opts, "encrypt.format");
	uint64_t cluster, bits;
	bool ext_l2, old_aes;
	struct qcow2_header *h = &p->h;
	int ret;

	memset(p, 0, sizeof(*p));
	h->version = 3;
	if (compat && (!strcmp(compat, "0.10") || !strcmp(compat, "v2")))
		h->version = 2;
	else if (compat && strcmp(compat, "1.1") && strcmp(compat, "v3"))
		return err_set(err, EINVAL, "Parameter 'version' does not accept value '%s'",
			       compat);
	ret = node_create_opt_bool(opts, "extended_l2", false, &ext_l2, err);
	if (!ret)
		ret = node_create_opt_size(opts, "cluster_size", 65536, &cluster, err);
	if (!ret)
		ret = node_create_opt_size(opts, "refcount_bits", 16, &bits, err);
	if (!ret)
		ret = node_create_opt_bool(opts, "lazy_refcounts", false, &p->lazy, err);
	if (!ret)
		ret = node_create_opt_bool(opts, "data_file_raw", false, &p->data_raw, err);
	if (!ret)
		ret = node_create_opt_bool(opts, "encryption", false, &old_aes, err);
	if (ret)
		return ret;
	if (!IS_POWER_OF_2(cluster) || cluster < 512 || cluster > 2 * MiB)
		return err_set(err, EINVAL,
			       "Cluster size must be a power of two between 512 and 2048k");
	if (ext_l2 && cluster < 16 * KiB)
		return err_set(err, EINVAL,
			       "Extended L2 entries are only supported with cluster sizes of at "
			       "least 16384 bytes");
	if (!IS_POWER_OF_2(bits) || bits > 64)
		return err_set(err, EINVAL,
			       "Refcount width must be a power of two and may not exceed 64 bits");
	if (h->version < 3 && bits != 16)
		return err_set(err, EINVAL,
			       "Different refcount widths than 16 bits require compatibility level "
			       "1.1 or above (use version=v3 or greater)");
	if (h->version < 3 && (ext_l2 || p->lazy))
		return err_set(err, EINVAL,
			       "%s only supported with compatibility level 1.1 and above (use "
			       "version=v3 or greater)",
			       ext_l2 ? "Extended L2 entries are" : "Lazy refcounts");
	h->cluster_bits = __builtin_ctzll(cluster);
	h->refcount_order = __builtin_ctzll(bits);
	h->incompatible = ext_l2 ? QCOW2_INCOMPAT_EXTL2 : 0;
	h->compatible = p->lazy ? QCOW2_COMPAT_LAZY_REFCOUNTS : 0;
	h->header_length = h->version < 3 ? QCOW2_V2_HEADER : QCOW2_V3_HEADER_COMPRESSION;
	if (type && !strcmp(type, "zstd")) {
		if (h->version < 3)
			return err_set(
				err, EINVAL,
				"Non-zlib compression type is only supported with compatibility "
				"level 1.1 and above (use version=v3 or greater)");
		h->compression_type = QCOW2_COMPRESSION_ZSTD;
		h->incompatible |= QCOW2_INCOMPAT_COMPRESSION;
	} else if (type && strcmp(type, "zlib")) {
		return err_set(err, EINVAL,
			       "Invalid parameter '%s': compression_type is zlib or zstd", type);
	}
	p->data_file = node_create_opt(opts, "data_file");
	if (p->data_file) {
		if (h->version < 3)
			return err_set(err, EINVAL,
				       "External data files are only supported with compatibility "
				       "level 1.1 and above (use version=v3 or greater)");
		h->incompatible |= QCOW2_INCOMPAT_DATA_FILE;
		if (p->data_raw)
			h->autoclear |= QCOW2_AUTOCLEAR_DATA_FILE_RAW;
	} else if (p->data_raw) {
		return err_set(err, EINVAL, "data-file-raw requires data-file");
	}
	p->encrypted = enc || old_aes;
	if (old_aes || (enc && !strcmp(enc, "aes")))
		h->crypt_method = QCOW2_CRYPT_AES;
	else if (enc && !strcmp(enc, "luks"))
		h->crypt_method = QCOW2_CRYPT_LUKS;
	else if (enc)
		return err_set(err, EINVAL, "Unknown encryption format '%s': aes or luks", enc);
	p->preallocation = node_create_opt(opts, "preallocation");
	if (p->preallocation && strcmp(p->preallocation, "off") &&
	    strcmp(p->preallocation, "metadata") && strcmp(p->preallocation, "falloc") &&
	    strcmp(p->preallocation, "full"))
		return err_set(err, EINVAL, "Parameter 'preallocation' does not accept value '%s'",
			       p->preallocation);
	if (p->preallocation && !strcmp(p->preallocation, "off"))
		p->preallocation = NULL;
	return 0;
}

/*
 * Header, refcount table and first block: clusters 0, 1, 2. The header goes last: what is killed in
 * between is no image at all.
 */
static int write_empty(struct node *f, struct params *p, const char *backing,
		       const char *backing_format, struct err *err)
{
	struct qcow2 q = { .h = p->h };		/* for refcount_write only */
	size_t cluster = 1u << p->h.cluster_bits;
	uint8_t *buf = xcalloc(3, cluster);
	int ret;

	p->h.reftable_offset = cluster;
	p->h.reftable_clusters = 1;
	ret = qcow2_header_build(&p->h, NULL, backing, backing_format, p->data_file, true, buf,
				 cluster);
	if (ret)
		err_set(err, -ret,
			"The names do not fit into a header of %zu bytes; use larger clusters",
			cluster);
	st_be64(buf + cluster, 2 * cluster);
	for (int i = 0; i < 3; i++)
		refcount_write(&q, buf + 2 * cluster, i, 1);
	if (!ret)
		ret = node_pwrite(f, buf + cluster, 2 * cluster, cluster);
	if (!ret)
		ret = node_pwrite(f, buf, cluster, 0);
	free(buf);
	return ret;
}

static int check_backing(const struct node_create *c, const char *backing, struct err *err)
{
	if (backing && strlen(backing) > QCOW2_MAX_BACKING_NAME)
		return err_set(err, EINVAL, "Backing file name too long");
	if (backing && !strcmp(backing, c->filename))
		return err_set(err, EINVAL, "'%s' cannot be its own backing file", backing);
	return 0;
}

int qcow2_create(const struct node_create *c, struct err *err)
{
	const char *backing = c->backing ? c->backing : node_create_opt(c->opts, "backing_file");
	const char *format = c->backing_format ? c->backing_format
					       : node_create_opt(c->opts, "backing_fmt");
	const char *secret = node_create_opt(c->opts, "encrypt.key-secret");
	struct blk_options o = { .format = "qcow2",
				 .flags = BLK_RDWR | BLK_NO_BACKING | BLK_UNSAFE,
				 .host = c->host,
				 .secret_file = secret };
	struct node *f, *n;
	struct params p;
	int ret = parse_params(c->opts, &p, err);

	if (!ret)
		ret = check_backing(c, backing, err);
	if (ret)
		return ret;
	if (backing && !*backing)
		backing = NULL;
	if (backing && (p.preallocation && strcmp(p.preallocation, "off")) && p.h.version < 3)
		return err_set(err, EINVAL,
			       "Backing file and preallocation can only be used at the same time "
			       "if extended_l2 is enabled");
	if (p.data_file && p.data_raw && backing)
		return err_set(err, EINVAL,
			       "Backing file and data-file-raw cannot be used at the same time");
	if (p.encrypted && !secret)
		return err_set(err, EINVAL,
			       "Parameter 'encrypt.key-secret' is required for cipher");
	if (p.data_file) {
		f = node_create_file(p.data_file, c->size, c->host, err);
		if (!f)
			return -EIO;
		node_unref(f);
	}
	f = node_create_file(c->filename, 0, c->host, err);
	if (!f)
		return -EIO;
	f->flags |= BLK_UNSAFE;
	ret = write_empty(f, &p, backing, format, err);
	if (!ret && p.encrypted)
		ret = qcow2_crypt_create(f, &p.h, c->opts, secret, backing, format, p.data_file,
					 err);
	node_unref(f);
	if (ret)
		return ret;
	if (p.h.crypt_method == QCOW2_CRYPT_NONE)
		o.secret_file = NULL;
	n = node_open(c->filename, &o, err);
	if (!n)
		return -EIO;
	if (c->size)
		ret = node_resize(n, ALIGN_UP(c->size, 512ull), err);
	if (!ret && p.preallocation)
		ret = qcow2_preallocate(n, 0, n->size, p.preallocation, err);
	node_unref(n);
	return ret;
}

/* --- measure --- */

static uint64_t div_up(uint64_t a, uint64_t b)
{
	return a / b + !!(a % b);
}

/* Clusters of refcount blocks and table for so many other clusters; the blocks count themselves. */
static uint64_t refcount_clusters(uint64_t clusters, unsigned cluster_bits, unsigned order)
{
	uint64_t per_block = 1ull << (cluster_bits + 3 - order),
		 per_table = 1ull << (cluster_bits - 3), n = 0, last;

	do {
		uint64_t blocks, tables;

		last = n;
		blocks = div_up(clusters + last, per_block);
		tables = div_up(blocks, per_table);
		n = blocks + tables;
	} while (n != last);
	return n;
}

/*
 * What the source's bitmaps take in the new image: their bits, their tables, the directory. Those
 * that are not to be trusted are not copied.
 */
static void measure_bitmaps(struct node *src, uint64_t cluster, struct node_measure *m)
{
	struct node_bitmap *list = NULL;
	uint64_t dir = 0;
	int count = 0;

	if (!src->ops->bitmap_list || src->ops->bitmap_list(src, &list, &count) < 0)
		return;
	m->has_bitmaps = true;
	for (int i = 0; i < count; i++) {
		uint64_t bits = div_up(src->size, list[i].granularity);
		uint64_t clusters = div_up(div_up(bits, 8), cluster);

		if (list[i].in_use)
			continue;
		m->bitmaps += clusters * cluster + ALIGN_UP(clusters * 8, cluster);
		dir += ALIGN_UP(24 + strlen(list[i].name), 8ull);
	}
	m->bitmaps += ALIGN_UP(dir, cluster);
	free(list);
}

int qcow2_measure(const char *const *opts, uint64_t size, struct node *src, struct node_measure *m,
		  struct err *err)
{
	uint64_t cluster, clusters, l2, l1, meta, data = 0, luks = 0;
	struct params p;
	int ret = parse_params(opts, &p, err);

	if (ret)
		return ret;
	cluster = 1ull << p.h.cluster_bits;
	if (size > INT64_MAX - cluster)
		return err_set(err, EFBIG, "The image size is too large");
	if (p.h.crypt_method == QCOW2_CRYPT_LUKS)
		luks = ALIGN_UP(2 * MiB, cluster);
	clusters = div_up(size, cluster);
	l2 = div_up(clusters, cluster / (p.h.incompatible & QCOW2_INCOMPAT_EXTL2 ? 16 : 8));
	l1 = div_up(l2 * 8, cluster);
	meta = 1 + l2 + l1 + luks / cluster;
	meta += refcount_clusters(meta + (p.data_file ? 0 : clusters), p.h.cluster_bits,
				  p.h.refcount_order);
	*m = (struct node_measure){ 0 };
	/* Clusters with data in the source; without one none, or all that is preallocated. */
	if (src) {
		uint64_t end = 0;

		for (uint64_t off = 0; off < src->size;) {
			struct extent e;
			struct node *owner;
			uint64_t first, last;

			ret = node_extent_chain(src, off, MIN(src->size - off, 1ull << 30), &e,
						&owner);
			if (ret)
				return err_set(err, -ret, "Unable to get block status");
			if (!(e.flags & EXT_ZERO) && (e.flags & (EXT_DATA | EXT_ALLOCATED))) {
				first = MAX(ALIGN_DOWN(off, cluster), end);
				last = ALIGN_UP(off + e.len, cluster);
				data += last > first ? last - first : 0;
				end = MAX(end, last);
			}
			off += e.len;
		}
	}
	if (p.preallocation &&
	    (!strcmp(p.preallocation, "full") || !strcmp(p.preallocation, "falloc")))
		data = clusters * cluster;
	m->fully_allocated = (meta << p.h.cluster_bits) + (p.data_file ? 0 : clusters * cluster);
	m->required = (meta << p.h.cluster_bits) + (p.data_file ? 0 : data);
	if (src && p.h.version >= 3)
		measure_bitmaps(src, cluster, m);
	return 0;
}
