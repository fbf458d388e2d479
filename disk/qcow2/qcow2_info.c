/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2_info.c: what `info` shows (the keys are qemu-img's), also while a guest runs; and `amend`:
 * changing options in place, drained.
 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

#include "disk/qcow2/qcow2.h"
#include "disk/qcow2/qcow2_bitmap.h"
#include "disk/qcow2/qcow2_crypt.h"
#include "vmm/base/log.h"

static json_t *bitmaps_json(struct node *n)
{
	struct node_bitmap *list = NULL;
	json_t *a = NULL;
	int count = 0;

	if (qcow2_bitmap_list(n, &list, &count) == 0 && count) {
		a = json_array();
		for (int i = 0; i < count; i++) {
			json_t *flags = json_array();

			if (list[i].in_use)
				json_array_append_new(flags, json_string("in-use"));
			if (list[i].autoload)
				json_array_append_new(flags, json_string("auto"));
			json_array_append_new(a, json_pack("{s:o, s:s, s:I}", "flags", flags,
							   "name", list[i].name, "granularity",
							   (json_int_t)list[i].granularity));
		}
	}
	free(list);
	return a;
}

int qcow2_info(struct node *n, struct node_info *i)
{
	struct qcow2 *q = n->priv;
	json_t *j = json_object(), *bitmaps = bitmaps_json(n);
	bool v3, corrupt;

	pthread_mutex_lock(&q->lock);
	v3 = q->h.version >= 3;
	corrupt = q->corrupt || (q->h.incompatible & QCOW2_INCOMPAT_CORRUPT);
	*i = (struct node_info){ .cluster_size = q->cluster_size,
				 .encrypted = q->h.crypt_method != QCOW2_CRYPT_NONE,
				 .dirty = q->h.incompatible & QCOW2_INCOMPAT_DIRTY,
				 .corrupt = corrupt,
				 .vm_state_offset = qcow2_vmstate_offset(q) };
	json_object_set_new(j, "compat", json_string(v3 ? "1.1" : "0.10"));
	json_object_set_new(j, "compression-type",
			    json_string(q->h.compression_type ? "zstd" : "zlib"));
	if (v3)
		json_object_set_new(j, "lazy-refcounts",
				    json_boolean(q->h.compatible & QCOW2_COMPAT_LAZY_REFCOUNTS));
	if (bitmaps)
		json_object_set_new(j, "bitmaps", bitmaps);
	json_object_set_new(j, "refcount-bits", json_integer(1 << q->h.refcount_order));
	if (q->h.crypt_method)
		qcow2_crypt_info(q, j);
	if (q->data_file_name)
		json_object_set_new(j, "data-file", json_string(q->data_file_name));
	if (q->h.incompatible & QCOW2_INCOMPAT_DATA_FILE)
		json_object_set_new(j, "data-file-raw",
				    json_boolean(q->h.autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW));
	if (v3) {
		json_object_set_new(j, "corrupt", json_boolean(corrupt));
		json_object_set_new(j, "extended-l2", json_boolean(q_ext_l2(q)));
	}
	pthread_mutex_unlock(&q->lock);
	i->specific = j;
	return 0;
}

/* --- amend --- */

/*
 * Version 2 has no zero clusters: they become unallocated, or clusters of zeros over a backing
 * file.
 */
static int zeros_expand(struct qcow2 *q)
{
	struct node *n = q->n;
	uint8_t *zeros = calloc(1, q->cluster_size);
	int ret = zeros ? 0 : -ENOMEM;

	for (uint64_t off = 0; off < n->size && !ret;) {
		struct mapping m;
		struct iovec iov = { zeros, MIN(q->cluster_size, n->size - off) };

		pthread_mutex_lock(&q->lock);
		ret = qcow2_map(q, off, n->size - off, &m);
		pthread_mutex_unlock(&q->lock);
		if (ret)
			break;
		if (m.type == MAP_ZERO && !n->backing_name)
			ret = qcow2_forget(q, off, ALIGN_UP(m.len, q->cluster_size));
		else if (m.type == MAP_ZERO || m.type == MAP_ZERO_ALLOC)
			for (uint64_t at = 0; at < m.len && !ret; at += q->cluster_size) {
				iov.iov_len = MIN(q->cluster_size, n->size - off - at);
				ret = qcow2_write(n, off + at, &iov, 1, iov.iov_len, 0);
			}
		off += m.len;
	}
	free(zeros);
	return ret;
}

/* What amend is asked for, looked through before anything changes. */
struct amend {
	uint32_t version;		/* in the end */
	uint64_t size;
	unsigned refcount_order;
	bool lazy, raw, keys;
	const char *data_file;		/* NULL: stays */
};

static int header_fits(struct qcow2 *q, const char *data_file, struct err *err)
{
	uint8_t *buf = xcalloc(1, q->cluster_size);
	struct qcow2_header h = q->h;
	int ret;

	h.header_length = QCOW2_V3_HEADER_COMPRESSION;
	ret = qcow2_header_build(&h, q->exts, q->n->backing_name, q->n->backing_format, data_file,
				 true, buf, q->cluster_size);
	free(buf);
	return ret ? err_set(err, -ret, "'%s': the header has no room for these names",
			     q->n->filename)
		   : 0;
}

static int check_downgrade(struct qcow2 *q, const struct amend *a, struct err *err)
{
	const char *why = a->refcount_order != 4 ? "its reference counts are not 16 bits wide"
			  : q->h.incompatible & ~(uint64_t)QCOW2_INCOMPAT_DIRTY
				  ? "it uses features that compat 0.10 does not have"
			  : q->h.nb_snapshots			 ? "it has internal snapshots"
			  : qcow2_ext_find(q, QCOW2_EXT_BITMAPS) ? "it has bitmaps"
			  : q->h.crypt_method == QCOW2_CRYPT_LUKS ? "it is encrypted with LUKS"
								  : NULL;

	return why ? err_set(err, ENOTSUP, "'%s': cannot downgrade to compat 0.10: %s",
			     q->n->filename, why)
		   : 0;
}

/* The options by themselves and with each other. */
static int amend_parse(struct qcow2 *q, const char *const *opts, struct amend *a, struct err *err)
{
	const char *compat = node_create_opt(opts, "compat");
	uint64_t bits = 0;
	int ret;

	*a = (struct amend){ .version = q->h.version,
			     .data_file = node_create_opt(opts, "data_file") };
	for (int i = 0; opts && opts[i]; i++)
		a->keys |= !strncmp(opts[i], "encrypt.", 8);
	ret = node_create_opt_size(opts, "size", q->n->size, &a->size, err);
	if (!ret)
		ret = node_create_opt_size(opts, "refcount_bits", 1ull << q->h.refcount_order,
					   &bits, err);
	if (!ret)
		ret = node_create_opt_bool(opts, "lazy_refcounts",
					   q->h.compatible & QCOW2_COMPAT_LAZY_REFCOUNTS, &a->lazy,
					   err);
	if (!ret)
		ret = node_create_opt_bool(opts, "data_file_raw",
					   q->h.autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW, &a->raw,
					   err);
	if (ret)
		return ret;
	if (compat && (!strcmp(compat, "0.10") || !strcmp(compat, "v2")))
		a->version = 2;
	else if (compat && (!strcmp(compat, "1.1") || !strcmp(compat, "v3")))
		a->version = 3;
	else if (compat)
		return err_set(err, EINVAL, "Unknown compatibility level %s", compat);
	if (!IS_POWER_OF_2(bits) || bits > 64)
		return err_set(err, EINVAL,
			       "Refcount width must be a power of two and may not exceed 64 bits");
	a->refcount_order = __builtin_ctzll(bits);
	/* What stood in a newer image goes with its version; what is asked for must be possible. */
	if (a->version < 3 && !node_create_opt(opts, "lazy_refcounts"))
		a->lazy = false;
	if (a->lazy && a->version < 3)
		return err_set(err, EINVAL,
			       "Lazy refcounts only supported with compatibility level 1.1 and "
			       "above (use compat=1.1 or greater)");
	if (a->raw && !(q->h.autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW))
		return err_set(err, EINVAL, "data_file_raw cannot be set on existing images");
	return 0;
}

/* All that can refuse, but for the disk itself, refuses here. */
static int amend_check(struct qcow2 *q, const char *const *opts, struct amend *a, struct err *err)
{
	struct node *n = q->n;
	const char *file = node_create_opt(opts, "backing_file");
	const char *fmt = node_create_opt(opts, "backing_fmt");
	bool other = file && strcmp(file, n->backing_name ? n->backing_name : "");
	uint32_t highest;
	int ret = amend_parse(q, opts, a, err);

	if (ret)
		return ret;
	/* Its content would change with it. */
	if (other || (fmt && strcmp(fmt, n->backing_format ? n->backing_format : "")))
		return err_set(err, EINVAL,
			       "Cannot amend the backing file%s\nYou can use '%s rebase' instead.",
			       other ? "" : " format", log_name());
	if (a->data_file && !(q->h.incompatible & QCOW2_INCOMPAT_DATA_FILE))
		return err_set(
			err, EINVAL,
			"data-file can only be set for images that use an external data file");
	highest = MAX(a->version, q->h.version);
	if (highest < 3 && a->refcount_order != q->h.refcount_order)
		return err_set(err, EINVAL,
			       "Refcount widths other than 16 bits require compatibility "
			       "level 1.1 or above (use compat=1.1 or greater)");
	if (a->version < q->h.version)
		ret = check_downgrade(q, a, err);
	if (!ret && (a->version > q->h.version || a->data_file))
		ret = header_fits(q, a->data_file ? a->data_file : q->data_file_name, err);
	if (!ret && a->size != n->size)
		ret = qcow2_resize_check(q, highest, a->size, err);
	if (!ret && a->refcount_order != q->h.refcount_order)
		ret = qcow2_refcount_width(q, a->refcount_order, true, err);
	return ret;
}

static int set_version(struct qcow2 *q, uint32_t version, struct err *err)
{
	struct qcow2_header was = q->h;
	int ret;

	if (version == q->h.version)
		return 0;
	if (version == 2) {
		ret = zeros_expand(q);
		if (!ret)
			ret = qcow2_flush_locked_out(q);
		if (ret)
			return err_set(err, -ret,
				       "'%s': cannot turn its zero clusters into data: %s",
				       q->n->filename, strerror(-ret));
		q->h.incompatible = q->h.compatible = q->h.autoclear = 0;
		q->h.header_length = QCOW2_V2_HEADER;
	} else {
		q->h.header_length = QCOW2_V3_HEADER_COMPRESSION;
	}
	q->h.version = version;
	ret = qcow2_header_rewrite(q, err);
	if (ret)
		q->h = was;
	return ret;
}

static int set_features(struct qcow2 *q, const struct amend *a, struct err *err)
{
	struct qcow2_header was = q->h;
	int ret;

	q->h.compatible = a->lazy ? q->h.compatible | QCOW2_COMPAT_LAZY_REFCOUNTS
				  : q->h.compatible & ~(uint64_t)QCOW2_COMPAT_LAZY_REFCOUNTS;
	if (!a->raw)
		q->h.autoclear &= ~(uint64_t)QCOW2_AUTOCLEAR_DATA_FILE_RAW;
	if (q->h.compatible == was.compatible && q->h.autoclear == was.autoclear)
		return 0;
	ret = qcow2_header_update(q);
	if (!ret)
		ret = node_flush(q->n->file);
	if (ret)
		q->h = was;
	return ret ? err_set(err, -ret, "'%s': cannot write the header: %s", q->n->filename,
			     strerror(-ret))
		   : 0;
}

static int set_data_file(struct qcow2 *q, const char *name, struct err *err)
{
	char *was = q->data_file_name;
	int ret;

	q->data_file_name = xstrdup(name);
	ret = qcow2_header_rewrite(q, err);
	if (ret) {
		free(q->data_file_name);
		q->data_file_name = was;
	} else {
		free(was);
	}
	return ret;
}

/* Each step leaves a whole image: what stops half way (a full disk) can be asked for again. */
int qcow2_amend(struct node *n, const char *const *opts, bool force, struct err *err)
{
	struct qcow2 *q = n->priv;
	struct amend a;
	int ret = amend_check(q, opts, &a, err);

	/* The keys first: they may refuse yet. */
	if (!ret && a.keys)
		ret = qcow2_crypt_amend(q, opts, force, err);
	/* Upgrades come before what needs them, downgrades last. */
	if (!ret && a.version > q->h.version)
		ret = set_version(q, a.version, err);
	if (!ret && a.refcount_order != q->h.refcount_order)
		ret = qcow2_refcount_width(q, a.refcount_order, false, err);
	if (!ret)
		ret = set_features(q, &a, err);
	if (!ret && a.data_file)
		ret = set_data_file(q, a.data_file, err);
	if (!ret && a.size != n->size)
		ret = qcow2_resize(n, a.size, err);
	if (!ret && a.version < q->h.version)
		ret = set_version(q, a.version, err);
	return ret;
}
