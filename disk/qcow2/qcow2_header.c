/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2_header.c: the header and its extensions (spec: "Header", "Header extensions", "Feature name
 * table"). Opening and drained changes only, but qcow2_corrupt, which runs with the image lock.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "disk/qcow2/qcow2.h"
#include "vmm/base/log.h"

/* Offsets of the header's fields. */
enum {
	H_MAGIC = 0, H_VERSION = 4, H_BACKING_OFFSET = 8, H_BACKING_LEN = 16, H_CLUSTER_BITS = 20,
	H_SIZE = 24, H_CRYPT = 32,
	H_L1_SIZE = 36, H_L1_OFFSET = 40, H_REFT_OFFSET = 48, H_REFT_CLUSTERS = 56,
	H_SNAPSHOTS = 60, H_SNAPSHOTS_OFFSET = 64,
	H_INCOMPATIBLE = 72, H_COMPATIBLE = 80, H_AUTOCLEAR = 88, H_REFCOUNT_ORDER = 96,
	H_LENGTH = 100, H_COMPRESSION = 104,
};

static int refuse_features(struct node *file, const uint8_t *cluster, size_t len, uint64_t unknown,
			   struct err *err);

int qcow2_header_parse(struct node *file, struct qcow2_header *h, struct err *err)
{
	uint8_t b[QCOW2_V3_HEADER_COMPRESSION] = { 0 };
	int ret = node_pread(file, b, MIN((uint64_t)sizeof(b), file->size), 0);

	if (ret)
		return err_set(err, -ret, "'%s': cannot read the header: %s", file->filename,
			       strerror(-ret));
	if (ld_be32(b) != QCOW2_MAGIC)
		return err_set(err, EINVAL, "Image is not in qcow2 format");
	*h = (struct qcow2_header){
		.version = ld_be32(b + H_VERSION),
		.backing_offset = ld_be64(b + H_BACKING_OFFSET),
		.backing_len = ld_be32(b + H_BACKING_LEN),
		.cluster_bits = ld_be32(b + H_CLUSTER_BITS),
		.size = ld_be64(b + H_SIZE),
		.crypt_method = ld_be32(b + H_CRYPT),
		.l1_size = ld_be32(b + H_L1_SIZE),
		.l1_offset = ld_be64(b + H_L1_OFFSET),
		.reftable_offset = ld_be64(b + H_REFT_OFFSET),
		.reftable_clusters = ld_be32(b + H_REFT_CLUSTERS),
		.nb_snapshots = ld_be32(b + H_SNAPSHOTS),
		.snapshots_offset = ld_be64(b + H_SNAPSHOTS_OFFSET),
		.refcount_order = 4,
		.header_length = QCOW2_V2_HEADER,
	};
	if (h->version < 2 || h->version > 3)
		return err_set(err, ENOTSUP, "Unsupported qcow2 version %u", h->version);
	if (h->cluster_bits < QCOW2_MIN_CLUSTER_BITS || h->cluster_bits > QCOW2_MAX_CLUSTER_BITS)
		return err_set(err, EINVAL, "Unsupported cluster size: 2^%u", h->cluster_bits);
	if (h->version == 3) {
		h->incompatible = ld_be64(b + H_INCOMPATIBLE);
		h->compatible = ld_be64(b + H_COMPATIBLE);
		h->autoclear = ld_be64(b + H_AUTOCLEAR);
		h->refcount_order = ld_be32(b + H_REFCOUNT_ORDER);
		h->header_length = ld_be32(b + H_LENGTH);
		if (h->header_length < QCOW2_V3_HEADER)
			return err_set(err, EINVAL, "qcow2 header too short");
		if (h->header_length > (1u << h->cluster_bits))
			return err_set(err, EINVAL, "qcow2 header exceeds cluster size");
		if (h->header_length > H_COMPRESSION)
			h->compression_type = b[H_COMPRESSION];
	}
	if (h->incompatible & ~(uint64_t)QCOW2_INCOMPAT_MASK) {
		size_t len = MIN(1ull << h->cluster_bits, file->size);
		uint8_t *cluster = xcalloc(1, len);

		ret = node_pread(file, cluster, len, 0);
		ret = refuse_features(file, cluster + MIN(len, (size_t)h->header_length),
				      ret ? 0 : len - MIN(len, (size_t)h->header_length),
				      h->incompatible & ~(uint64_t)QCOW2_INCOMPAT_MASK, err);
		free(cluster);
		return ret;
	}
	if (h->refcount_order > 6)
		return err_set(err, EINVAL,
			       "Reference count entry width too large; may not exceed 64 bits");
	if (h->crypt_method > QCOW2_CRYPT_LUKS)
		return err_set(err, EINVAL, "Unsupported encryption method %u", h->crypt_method);
	if (h->incompatible & QCOW2_INCOMPAT_COMPRESSION) {
		if (h->compression_type > QCOW2_COMPRESSION_ZSTD)
			return err_set(err, ENOTSUP, "qcow2: unknown compression type: %u",
				       h->compression_type);
	} else if (h->compression_type) {
		return err_set(err, EINVAL,
			       "qcow2: Compression type incompatible feature bit must be set");
	}
	if ((h->incompatible & QCOW2_INCOMPAT_EXTL2) && h->cluster_bits < 14)
		return err_set(err, EINVAL, "extended L2 entries need clusters of at least 16 KiB");
	return 0;
}

/* The name of each unknown feature, if the image's feature table has it. */
static int refuse_features(struct node *file, const uint8_t *ext, size_t len, uint64_t unknown,
			   struct err *err)
{
	char names[400] = "";
	size_t used = 0;

	for (size_t off = 0; off + 8 <= len;) {
		uint32_t type = ld_be32(ext + off), elen = ld_be32(ext + off + 4);

		off += 8;
		if (type == QCOW2_EXT_END || elen > len - off)
			break;
		for (uint32_t i = 0;
		     type == QCOW2_EXT_FEATURE_NAMES && i + 48 <= elen && used < sizeof(names) - 60;
		     i += 48) {
			const uint8_t *f = ext + off + i;

			if (f[0] == 0 && f[1] < 64 && (unknown & (1ull << f[1]))) {
				unknown &= ~(1ull << f[1]);
				used += snprintf(names + used, sizeof(names) - used, "%s%.46s",
						 used ? ", " : "", (const char *)f + 2);
			}
		}
		off += ALIGN_UP(elen, 8u);
	}
	if (unknown)
		snprintf(names + used, sizeof(names) - used, "%sUnknown incompatible feature: %llx",
			 used ? ", " : "", (unsigned long long)unknown);
	return err_set(err, ENOTSUP, "Unsupported qcow2 feature(s): %s", names);
}

static void qcow2_header_encode(const struct qcow2_header *h, uint8_t *b)
{
	st_be32(b + H_MAGIC, QCOW2_MAGIC);
	st_be32(b + H_VERSION, h->version);
	st_be64(b + H_BACKING_OFFSET, h->backing_offset);
	st_be32(b + H_BACKING_LEN, h->backing_len);
	st_be32(b + H_CLUSTER_BITS, h->cluster_bits);
	st_be64(b + H_SIZE, h->size);
	st_be32(b + H_CRYPT, h->crypt_method);
	st_be32(b + H_L1_SIZE, h->l1_size);
	st_be64(b + H_L1_OFFSET, h->l1_offset);
	st_be64(b + H_REFT_OFFSET, h->reftable_offset);
	st_be32(b + H_REFT_CLUSTERS, h->reftable_clusters);
	st_be32(b + H_SNAPSHOTS, h->nb_snapshots);
	st_be64(b + H_SNAPSHOTS_OFFSET, h->snapshots_offset);
	if (h->version < 3)
		return;
	st_be64(b + H_INCOMPATIBLE, h->incompatible);
	st_be64(b + H_COMPATIBLE, h->compatible);
	st_be64(b + H_AUTOCLEAR, h->autoclear);
	st_be32(b + H_REFCOUNT_ORDER, h->refcount_order);
	st_be32(b + H_LENGTH, h->header_length);
	if (h->header_length > H_COMPRESSION) {
		memset(b + H_COMPRESSION, 0, 8);
		b[H_COMPRESSION] = h->compression_type;
	}
}

/* --- extensions --- */

struct qcow2_ext *qcow2_ext_find(struct qcow2 *q, uint32_t type)
{
	for (struct qcow2_ext *e = q->exts; e; e = e->next)
		if (e->type == type)
			return e;
	return NULL;
}

void qcow2_ext_set(struct qcow2 *q, uint32_t type, const void *data, uint32_t len)
{
	struct qcow2_ext **p = &q->exts, *e;

	while (*p && (*p)->type != type)
		p = &(*p)->next;
	e = *p;
	if (!data) {
		if (e) {
			*p = e->next;
			free(e->data);
			free(e);
		}
		return;
	}
	if (!e) {
		e = *p = xcalloc(1, sizeof(*e));
		e->type = type;
	}
	free(e->data);
	e->data = xcalloc(1, len);
	e->len = len;
	memcpy(e->data, data, len);
}

void qcow2_exts_free(struct qcow2 *q)
{
	while (q->exts)
		qcow2_ext_set(q, q->exts->type, NULL, 0);
	free(q->data_file_name);
	q->data_file_name = NULL;
}

static char *bytes_to_string(const uint8_t *p, size_t len)
{
	char *s = xcalloc(1, len + 1);

	memcpy(s, p, len);
	return s;
}

int qcow2_exts_load(struct qcow2 *q, struct err *err)
{
	struct node *n = q->n;
	struct qcow2_header *h = &q->h;
	uint64_t end = q->cluster_size, off = h->header_length;
	uint8_t *b = xcalloc(1, q->cluster_size);
	int ret = node_pread(n->file, b, q->cluster_size, 0);

	if (ret) {
		err_set(err, -ret, "'%s': cannot read the header: %s", n->filename, strerror(-ret));
		goto out;
	}
	if (h->backing_offset) {
		if (h->backing_len > MIN((uint64_t)QCOW2_MAX_BACKING_NAME, q->cluster_size) ||
		    !range_ok(h->backing_offset, h->backing_len, q->cluster_size)) {
			ret = err_set(err, EINVAL, "Invalid backing file offset or name too long");
			goto out;
		}
		if (h->backing_offset < off && h->backing_len) {
			ret = err_set(err, EINVAL, "Invalid backing file offset");
			goto out;
		}
		end = h->backing_len ? h->backing_offset : end;
		if (h->backing_len) {
			free(n->backing_name);
			n->backing_name = bytes_to_string(b + h->backing_offset, h->backing_len);
		}
	}
	while (off + 8 <= end) {
		uint32_t type = ld_be32(b + off), len = ld_be32(b + off + 4);

		off += 8;
		if (type == QCOW2_EXT_END)
			break;
		if (len > end - off) {
			ret = err_set(err, EINVAL, "Header extension too large");
			goto out;
		}
		if (type == QCOW2_EXT_BACKING_FORMAT) {
			free(n->backing_format);
			n->backing_format = bytes_to_string(b + off, MIN(len, 15u));
		} else if (type == QCOW2_EXT_DATA_FILE) {
			free(q->data_file_name);
			q->data_file_name = bytes_to_string(b + off, len);
		} else if (type != QCOW2_EXT_FEATURE_NAMES) {
			qcow2_ext_set(q, type, b + off, len);
		}
		off += ALIGN_UP((uint64_t)len, 8ull);
	}
out:
	free(b);
	return ret;
}

/* Type, bit, name: what QEMU writes, so that old programs can say what they miss. */
static const struct { uint8_t type, bit; const char *name;
} feature_names[] = {
	{ 0, 0, "dirty bit" },
	{ 0, 1, "corrupt bit" },
	{ 0, 2, "external data file" },
	{ 0, 3, "compression type" },
	{ 0, 4, "extended L2 entries" },
	{ 1, 0, "lazy refcounts" },
	{ 2, 0, "bitmaps" },
	{ 2, 1, "raw external data" },
};

static int put_ext(uint8_t *buf, size_t *off, size_t len, uint32_t type, const void *data,
		   size_t dlen)
{
	if (*off + 8 + ALIGN_UP(dlen, 8) > len)
		return -ENOSPC;
	st_be32(buf + *off, type);
	st_be32(buf + *off + 4, dlen);
	if (dlen)
		memcpy(buf + *off + 8, data, dlen);
	*off += 8 + ALIGN_UP(dlen, 8);
	return 0;
}

int qcow2_header_build(const struct qcow2_header *hdr, struct qcow2_ext *exts, const char *backing,
		       const char *backing_format, const char *data_file, bool names_too,
		       uint8_t *buf, size_t len)
{
	struct qcow2_header h = *hdr;
	size_t off = h.header_length;
	int ret = 0;

	memset(buf, 0, len);
	if (backing && backing_format)
		ret = put_ext(buf, &off, len, QCOW2_EXT_BACKING_FORMAT, backing_format,
			      strlen(backing_format));
	if (!ret && data_file)
		ret = put_ext(buf, &off, len, QCOW2_EXT_DATA_FILE, data_file, strlen(data_file));
	for (struct qcow2_ext *e = exts; e && !ret; e = e->next)
		ret = put_ext(buf, &off, len, e->type, e->data, e->len);
	if (!ret && h.version >= 3 && names_too) {
		uint8_t names[ARRAY_SIZE(feature_names) * 48] = { 0 };

		for (size_t i = 0; i < ARRAY_SIZE(feature_names); i++) {
			names[i * 48] = feature_names[i].type;
			names[i * 48 + 1] = feature_names[i].bit;
			memcpy(names + i * 48 + 2, feature_names[i].name,
			       strlen(feature_names[i].name));
		}
		/* Only where there is room: with 512-byte clusters there may be none. */
		if (off + 8 + sizeof(names) + 8 + (backing ? strlen(backing) : 0) <= len)
			ret = put_ext(buf, &off, len, QCOW2_EXT_FEATURE_NAMES, names,
				      sizeof(names));
	}
	if (!ret)
		ret = put_ext(buf, &off, len, QCOW2_EXT_END, NULL, 0);
	h.backing_offset = h.backing_len = 0;
	if (!ret && backing && *backing) {
		h.backing_len = strlen(backing);
		h.backing_offset = off;
		if (off + h.backing_len > len)
			return -ENOSPC;
		memcpy(buf + off, backing, h.backing_len);
	}
	if (!ret)
		qcow2_header_encode(&h, buf);
	return ret;
}

/*
 * Several sectors, and a cut must not leave half of them. So the header first becomes a short one
 * that fits into its first sector (without the table of feature names, which nobody needs); then
 * what lies behind is written; then the first sector again. Names so long that they do not fit into
 * one sector are the exception.
 */
int qcow2_header_rewrite(struct qcow2 *q, struct err *err)
{
	struct node *n = q->n;
	uint8_t *buf = xcalloc(1, q->cluster_size), brief[512];
	int ret = qcow2_header_build(&q->h, q->exts, n->backing_name, n->backing_format,
				     q->data_file_name, true, buf, q->cluster_size);

	if (ret == -ENOSPC) {
		err_set(err, ENOSPC,
			"'%s': the header has no room for these names (clusters of %llu bytes)",
			n->filename, (unsigned long long)q->cluster_size);
		free(buf);
		return ret;
	}
	if (!ret && qcow2_header_build(&q->h, q->exts, n->backing_name, n->backing_format,
				       q->data_file_name, false, brief, sizeof(brief)) == 0) {
		ret = node_flush(n->file);
		if (!ret)
			ret = node_pwrite(n->file, brief, sizeof(brief), 0);
		if (!ret)
			ret = node_flush(n->file);
	}
	if (!ret && q->cluster_size > sizeof(brief))
		ret = node_pwrite(n->file, buf + sizeof(brief), q->cluster_size - sizeof(brief),
				  sizeof(brief));
	if (!ret)
		ret = node_flush(n->file);
	if (!ret)
		ret = node_pwrite(n->file, buf, sizeof(brief), 0);
	if (!ret)
		ret = node_flush(n->file);
	if (!ret) {
		q->h.backing_offset = ld_be64(buf + H_BACKING_OFFSET);
		q->h.backing_len = ld_be32(buf + H_BACKING_LEN);
	} else {
		err_set(err, -ret, "'%s': cannot write the header: %s", n->filename,
			strerror(-ret));
	}
	free(buf);
	return ret;
}

int qcow2_header_update(struct qcow2 *q)
{
	uint8_t sector[512];
	int ret = node_pread(q->n->file, sector, sizeof(sector), 0);

	if (ret)
		return ret;
	qcow2_header_encode(&q->h, sector);
	return node_pwrite(q->n->file, sector, sizeof(sector), 0);
}

int qcow2_set_incompatible(struct qcow2 *q, uint64_t set, uint64_t clear)
{
	uint64_t was = q->h.incompatible;
	int ret;

	if (q->h.version < 3 || ((was | set) & ~clear) == was)
		return 0;
	/*
	 * What was done under the old bits is durable first, and the new ones before anything is
	 * done under them.
	 */
	ret = node_flush(q->n->file);
	q->h.incompatible = (was | set) & ~clear;
	if (!ret)
		ret = qcow2_header_update(q);
	if (!ret)
		ret = node_flush(q->n->file);
	if (ret)
		q->h.incompatible = was;
	return ret;
}

int qcow2_corrupt(struct qcow2 *q, const char *fmt, ...)
{
	char what[256];
	va_list ap;

	if (__atomic_exchange_n(&q->corrupt, true, __ATOMIC_RELAXED))
		return -EIO;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	log_error("'%s': the image is corrupt: %s; requests that meet this fail. Repair it with "
		  "minivmm-img check -r all, after a copy",
		  q->n->filename, what);
	if ((q->n->flags & BLK_RDWR) && !q->n->inactive && !q->no_repair && q->h.version >= 3)
		qcow2_set_incompatible(q, QCOW2_INCOMPAT_CORRUPT, 0);
	return -EIO;
}
