/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2.c: opening and closing qcow2 images, and the table of operations. The rules are in qcow2.h;
 * which file does what is in disk/README.md.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "disk/formats.h"
#include "disk/name.h"
#include "disk/qcow2/qcow2.h"
#include "disk/qcow2/qcow2_bitmap.h"
#include "disk/qcow2/qcow2_crypt.h"
#include "vmm/base/log.h"

enum { L2_CACHE_DEFAULT = 32 << 20, CACHE_MIN_TABLES = 4 };

static int qcow2_probe(const uint8_t *head, size_t len, uint64_t file_size, const char *filename)
{
	return len >= 8 && ld_be32(head) == QCOW2_MAGIC && ld_be32(head + 4) >= 2 ? 100 : 0;
}

/*
 * A table of 64-bit numbers in the machine's order; one word more than entries, so that it is never
 * empty.
 */
static int words_load(struct node *file, uint64_t host, uint64_t entries, uint64_t **out)
{
	uint64_t *w = calloc(entries + 1, sizeof(*w));
	int ret;

	if (!w)
		return -ENOMEM;
	ret = node_pread(file, w, entries * 8, host);
	if (ret) {
		free(w);
		return ret;
	}
	for (uint64_t i = 0; i < entries; i++)
		w[i] = be64toh(w[i]);
	*out = w;
	return 0;
}

static uint64_t *dirty_bits(uint64_t entries)
{
	return xcalloc(entries * 8 / 512 / 64 + 1, 8);
}

static void tables_close(struct qcow2 *q)
{
	if (q->map && q->rmap)
		tables_drop_all(q);
	free(q->l1);
	free(q->l1_dirty);
	free(q->map);
	free(q->reft);
	free(q->reft_dirty);
	free(q->rmap);
	free(q->meta);
	free(q->frees.v);
	free(q->epochs.pending.v);
	free(q->epochs.waiting.v);
	q->l1 = q->l1_dirty = q->reft = q->reft_dirty = q->meta = NULL;
	q->map = q->rmap = NULL;
	q->meta_n = q->meta_size = 0;
	q->l1_size = q->reft_size = 0;
	q->l1_is_dirty = q->reft_is_dirty = q->need_flush = false;
	q->frees = (struct free_list){ 0 };
	q->epochs = (struct epochs){ 0 };
	qcow2_cbuf_drop(q);
}

/* L1 and refcount table: their place and size are checked against the file (R5). */
static int tables_open(struct qcow2 *q, struct err *err)
{
	struct qcow2_header *h = &q->h;
	struct node *file = q->n->file;
	uint64_t need = q_l1_index(q, h->size ? h->size - 1 : 0) + !!h->size;
	int ret;

	if ((uint64_t)h->l1_size * 8 > QCOW2_MAX_L1_BYTES)
		return err_set(err, EFBIG, "Active L1 table too large");
	if (h->l1_size < need)
		return err_set(err, EINVAL, "L1 table is too small");
	if (h->l1_size && !host_ok(q, h->l1_offset, (uint64_t)h->l1_size * 8) && file->size)
		return err_set(err, EINVAL, "Active L1 table offset invalid");
	if (!h->reftable_clusters)
		return err_set(err, EINVAL, "Image does not contain a reference count table");
	if ((uint64_t)h->reftable_clusters << q->cluster_bits > QCOW2_MAX_REFTABLE_BYTES)
		return err_set(err, EFBIG, "Reference count table too large");
	/* Its last cluster may reach past the end of the file. */
	if (q_in_cluster(q, h->reftable_offset) || !h->reftable_offset ||
	    h->reftable_offset >= file->size)
		return err_set(err, EINVAL, "Reference count table offset invalid");

	q->l1_size = h->l1_size;
	q->reft_size = (uint64_t)h->reftable_clusters << (q->cluster_bits - 3);
	ret = words_load(file, h->l1_offset, q->l1_size, &q->l1);
	if (!ret)
		ret = words_load(file, h->reftable_offset, q->reft_size, &q->reft);
	if (ret)
		return err_set(err, -ret, "'%s': cannot read its tables: %s", q->n->filename,
			       strerror(-ret));
	q->l1_dirty = dirty_bits(q->l1_size);
	q->reft_dirty = dirty_bits(q->reft_size);
	q->map = calloc(q->l1_size + 1, sizeof(*q->map));
	q->rmap = calloc(q->reft_size + 1, sizeof(*q->rmap));
	if (!q->map || !q->rmap)
		return err_set(err, ENOMEM, "'%s': out of memory for its tables", q->n->filename);
	for (uint64_t i = 0; i < q->l1_size; i++)
		if (q->l1[i] & L1E_OFFSET)
			meta_add(q, q->l1[i] & L1E_OFFSET);
	for (uint64_t i = 0; i < q->reft_size; i++)
		if (q->reft[i] & REFT_OFFSET)
			meta_add(q, q->reft[i] & REFT_OFFSET);
	q->end = q_clusters(q, file->size);
	q->free_hint = 0;
	q->bytes_next = 0;
	return 0;
}

static void geometry(struct qcow2 *q, uint64_t cache)
{
	struct qcow2_header *h = &q->h;
	uint64_t covered;

	q->cluster_bits = h->cluster_bits;
	q->cluster_size = 1ull << h->cluster_bits;
	q->entry_size = h->incompatible & QCOW2_INCOMPAT_EXTL2 ? 16 : 8;
	q->l2_bits = h->cluster_bits - (q->entry_size == 16 ? 4 : 3);
	q->sc_bits = h->cluster_bits - (q_ext_l2(q) ? 5 : 0);
	q->sc_per_cluster = q_ext_l2(q) ? 32 : 1;
	q->rb_bits = h->cluster_bits + 3 - h->refcount_order;
	q->refcount_max = q_refcount_max(h->refcount_order);
	covered = (h->size >> (q->cluster_bits + q->l2_bits)) + 2;
	q->l2s.max = MAX(MIN((cache ? cache : L2_CACHE_DEFAULT) >> q->cluster_bits, covered),
			 (uint64_t)CACHE_MIN_TABLES);
	q->rbs.max = MAX((cache ? cache : L2_CACHE_DEFAULT) >> q->cluster_bits >> 2,
			 (uint64_t)CACHE_MIN_TABLES);
}

static int data_file_open(struct qcow2 *q, const char *said, unsigned flags, struct err *err)
{
	struct node *n = q->n,
		    as_backing = { .filename = n->filename, .backing_name = q->data_file_name };
	struct host host = node_names(n);
	struct err first = { "" };
	char *path;

	if (!(q->h.incompatible & QCOW2_INCOMPAT_DATA_FILE) || n->data_file || (flags & BLK_NO_IO))
		return 0;
	if (said) {
		n->data_file = node_open_file(said, n->file->flags, n->host, err);
		if (!n->data_file)
			err_prefix(err, "Could not open the data file of '%s'", n->filename);
		return n->data_file ? 0 : -EIO;
	}
	if (!q->data_file_name || !*q->data_file_name)
		return err_set(err, EINVAL, "'data-file' is required for this image");
	/*
	 * QEMU takes a relative name from the current folder; the image's own is the second guess.
	 */
	n->data_file = node_open_file(q->data_file_name, n->file->flags, &host, &first);
	if (!n->data_file && q->data_file_name[0] != '/') {
		path = node_backing_path(&as_backing);
		n->data_file = node_open_file(path, n->file->flags, &host, NULL);
		free(path);
	}
	if (!n->data_file)
		err_set(err, EIO, "%s", first.msg);
	if (!n->data_file) {
		err_prefix(err, "Could not open the data file of '%s'", n->filename);
		return -EIO;
	}
	return 0;
}

/*
 * What must happen before the first change: leftovers of a crash are mended, unknown autoclear bits
 * go (R6).
 */
static int make_writable(struct qcow2 *q, struct err *err)
{
	uint64_t known = q->h.autoclear & QCOW2_AUTOCLEAR_MASK;
	int ret = 0;

	if (q->n->inactive || q->no_repair)
		return 0;
	if (q->h.incompatible & QCOW2_INCOMPAT_CORRUPT)
		return err_set(err, EACCES,
			       "qcow2: Image is corrupt; cannot be opened read/write (repair it "
			       "with check -r all, after a copy)");
	if (q->h.incompatible & QCOW2_INCOMPAT_DIRTY) {
		struct node_check c = { 0 };

		log_warn("'%s': was not closed cleanly; rebuilding its reference counts",
			 q->n->filename);
		ret = qcow2_check(q->n, &c, CHECK_FIX_LEAKS | CHECK_FIX_ERRORS);
		if (ret)
			return err_set(err, -ret, "Could not repair dirty image: %s",
				       strerror(-ret));
		if (c.corruptions > c.corruptions_fixed)
			return err_set(err, EIO, "Could not repair dirty image: %llu errors remain",
				       (unsigned long long)(c.corruptions - c.corruptions_fixed));
	}
	if (q->h.autoclear != known) {
		q->h.autoclear = known;
		ret = qcow2_header_update(q);
		if (!ret)
			ret = node_flush(q->n->file);
	}
	return ret ? err_set(err, -ret, "'%s': cannot write the header: %s", q->n->filename,
			     strerror(-ret))
		   : 0;
}

static int load(struct qcow2 *q, uint64_t cache, unsigned flags, struct err *err)
{
	struct node *n = q->n;
	struct stat st;
	int ret = qcow2_header_parse(n->file, &q->h, err);

	if (ret)
		return ret;
	geometry(q, cache);
	q->corrupt = false;
	q->sparse_file = n->file->fd >= 0 && fstat(n->file->fd, &st) == 0 && S_ISREG(st.st_mode);
	ret = qcow2_exts_load(q, err);
	if (!ret)
		ret = tables_open(q, err);
	if (!ret)
		ret = qcow2_snapshots_load(q, err);
	if (ret)
		return ret;
	n->size = q->h.size;
	return 0;
}

static void unload(struct qcow2 *q)
{
	qcow2_bitmaps_free(q);
	qcow2_snapshots_free(q);
	qcow2_exts_free(q);
	tables_close(q);
}

int qcow2_reload(struct qcow2 *q, struct err *err)
{
	uint64_t cache = q->l2s.max << q->cluster_bits;
	int ret;

	unload(q);
	free(q->n->backing_name);
	free(q->n->backing_format);
	q->n->backing_name = q->n->backing_format = NULL;
	ret = load(q, cache, q->n->flags, err);
	if (!ret)
		ret = qcow2_bitmaps_load(q, err);
	return ret;
}

static void qcow2_close(struct node *n)
{
	struct qcow2 *q = n->priv;

	if ((n->flags & BLK_RDWR) && !n->inactive && q->map) {
		struct err err = { "" };

		if (qcow2_bitmaps_store(q, &err))
			log_error("'%s': %s", n->filename, err.msg);
		if (qcow2_flush_locked_out(q))
			log_error("'%s': could not write its metadata at the end", n->filename);
		/*
		 * Others read compressed clusters by whole sectors and do not like a file that ends
		 * within one.
		 */
		if (q->sparse_file && q_in_cluster(q, n->file->size))
			node_resize(n->file, ALIGN_UP(n->file->size, q->cluster_size), NULL);
	}
	unload(q);
	qcow2_crypt_close(q);
	pthread_mutex_destroy(&q->lock);
	pthread_mutex_destroy(&q->flush_lock);
	pthread_mutex_destroy(&q->cbuf_lock);
	pthread_cond_destroy(&q->changed);
	free(q);
	n->priv = NULL;
}

static int qcow2_open(struct node *n, const struct blk_options *o, struct err *err)
{
	struct qcow2 *q = xcalloc(1, sizeof(*q));
	int ret;

	q->n = n;
	n->priv = q;
	n->request_align = 1;
	pthread_mutex_init(&q->lock, NULL);
	pthread_mutex_init(&q->flush_lock, NULL);
	pthread_mutex_init(&q->cbuf_lock, NULL);
	pthread_cond_init(&q->changed, NULL);
	q->no_repair = n->flags & BLK_CHECK;
	q->discard_files = n->flags & BLK_DISCARD_UNMAP;
	ret = load(q, o->l2_cache_size, n->flags, err);
	if (!ret)
		ret = data_file_open(q, o->said ? o->said->data_file : NULL, n->flags, err);
	if (!ret && !(n->flags & (BLK_NO_IO | BLK_CHECK)))
		ret = qcow2_crypt_open(q, o, err);
	if (!ret && (n->flags & BLK_RDWR))
		ret = make_writable(q, err);
	if (!ret)
		ret = qcow2_bitmaps_load(q, err);
	if (n->data_file && n->data_file->request_align > n->request_align)
		n->request_align = n->data_file->request_align;
	else if (n->file->request_align > 1)
		n->request_align = n->file->request_align;
	if (ret) {
		unsigned was = n->flags;

		n->flags &= ~BLK_RDWR;		/* nothing to write back */
		qcow2_close(n);
		n->flags = was;
	}
	return ret;
}

static int qcow2_reopen(struct node *n, bool rdwr, struct err *err)
{
	struct qcow2 *q = n->priv;
	int ret;

	if (!rdwr) {
		n->flags |= BLK_RDWR;		/* for this last writing */
		ret = qcow2_bitmaps_store(q, err);
		if (!ret)
			ret = qcow2_flush_locked_out(q);
		n->flags &= ~BLK_RDWR;
		return ret;
	}
	/* Somebody else may have written it meanwhile. */
	ret = qcow2_reload(q, err);
	return ret ? ret : make_writable(q, err);
}

static int qcow2_inactivate(struct node *n, struct err *err)
{
	struct qcow2 *q = n->priv;
	int ret = 0;

	if (n->flags & BLK_RDWR) {
		ret = qcow2_bitmaps_store(q, err);
		if (!ret)
			ret = qcow2_flush_locked_out(q);
	}
	return ret;
}

static int qcow2_activate(struct node *n, struct err *err)
{
	struct qcow2 *q = n->priv;
	int ret = qcow2_reload(q, err);

	if (!ret && (n->flags & BLK_RDWR))
		ret = make_writable(q, err);
	return ret;
}

const struct node_ops qcow2_ops = {
	.format = "qcow2",
	.probe = qcow2_probe,
	.open = qcow2_open,
	.close = qcow2_close,
	.create = qcow2_create,
	.create_opts = qcow2_create_opts,
	.read = qcow2_read,
	.write = qcow2_write,
	.write_compressed = qcow2_write_compressed,
	.zeroes = qcow2_zeroes,
	.discard = qcow2_discard,
	.flush = qcow2_flush,
	.extent = qcow2_extent,
	.copy_from = qcow2_copy_from,
	.plain = qcow2_plain,
	.plain_done = qcow2_plain_done,
	.resize = qcow2_resize,
	.reopen = qcow2_reopen,
	.inactivate = qcow2_inactivate,
	.activate = qcow2_activate,
	.check = qcow2_check,
	.info = qcow2_info,
	.set_backing = qcow2_set_backing,
	.make_empty = qcow2_make_empty,
	.snapshot_create = qcow2_snapshot_create,
	.snapshot_goto = qcow2_snapshot_goto,
	.snapshot_delete = qcow2_snapshot_delete,
	.snapshot_list = qcow2_snapshot_list,
	.snapshot_load_tmp = qcow2_snapshot_load_tmp,
	.measure = qcow2_measure,
	.amend = qcow2_amend,
	.preallocate = qcow2_preallocate,
	.bitmap = qcow2_bitmap,
	.bitmap_list = qcow2_bitmap_list,
	.vmstate_read = qcow2_vmstate_read,
	.vmstate_write = qcow2_vmstate_write,
};
