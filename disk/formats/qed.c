/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qed.c: QEMU's enhanced disk: two levels of tables (l2map.h), an entry that says zeros, no
 * snapshots and no compression. Little-endian. Layout: QEMU's docs/interop/qed_spec.txt. The bit
 * NEED_CHECK of others is honoured; our order of writes needs none of our own. Worker threads.
 */
#include <errno.h>
#include <stdlib.h>

#include "disk/formats.h"
#include "disk/formats/fmt.h"
#include "disk/formats/l2map.h"
#include "vmm/base/log.h"

enum {				/* header */
	QED_MAGIC = 0, QED_CLUSTER = 4, QED_TABLE = 8, QED_HEADER_CLUSTERS = 12, QED_FEATURES = 16,
	QED_COMPAT = 24, QED_AUTOCLEAR = 32, QED_L1 = 40, QED_SIZE = 48, QED_BACKING = 56,
	QED_BACKING_LEN = 60, QED_HEADER = 64,
};
enum { QED_F_BACKING = 1, QED_F_NEED_CHECK = 2, QED_F_RAW_BACKING = 4, QED_F_ALL = 7 };
enum { QED_MIN_CLUSTER = 4 * 1024, QED_MAX_CLUSTER = 64 << 20, QED_MAX_TABLE = 16 };
enum { NAME_MAX_LEN = 1023 };
/*
 * Of a table: memory that an image can ask for. QEMU goes to 1 GiB, and cannot open its own images
 * with tables of one cluster; they are read here.
 */
#define L1_MAX (16 * MiB)

struct qed {
	struct l2map tables;
	uint8_t header[QED_HEADER];
	uint64_t cluster, header_len, capacity;	/* capacity: the largest disk */
};

static int qed_probe(const uint8_t *head, size_t len, uint64_t file_size, const char *filename)
{
	return len >= QED_HEADER && !memcmp(head, "QED\0", 4) ? 100 : 0;
}

static int qed_decode(const struct l2map *l, uint64_t v, struct bmap_entry *e)
{
	e->state = BMAP_DATA;
	e->off = v;
	return 0;
}

static uint64_t features(const struct qed *q)
{
	return ld_le64(q->header + QED_FEATURES);
}

static struct bmap *map_of(struct node *n)
{
	return &((struct qed *)n->priv)->tables.map;
}

static int read_backing(struct node *n, const struct qed *q, struct err *err)
{
	uint32_t off = ld_le32(q->header + QED_BACKING), len = ld_le32(q->header + QED_BACKING_LEN);

	if (!(features(q) & QED_F_BACKING))
		return 0;
	if (!len || len > NAME_MAX_LEN || !range_ok(off, len, q->header_len))
		return err_set(err, EINVAL, "Backing file name too long or outside the header");
	n->backing_name = xcalloc(1, len + 1);
	if (features(q) & QED_F_RAW_BACKING)
		n->backing_format = xstrdup("raw");
	return node_pread(n->file, n->backing_name, len, off);
}

static int check_header(struct node *n, struct qed *q, struct err *err)
{
	const uint8_t *h = q->header;
	uint64_t cluster = ld_le32(h + QED_CLUSTER), table = ld_le32(h + QED_TABLE);
	uint64_t size = ld_le64(h + QED_SIZE), unknown = features(q) & ~(uint64_t)QED_F_ALL, nelems;

	if (memcmp(h, "QED\0", 4))
		return err_set(err, EINVAL, "Image not in QED format");
	if (unknown)
		return err_set(err, ENOTSUP, "Unsupported QED features: %llx",
			       (unsigned long long)unknown);
	if (!IS_POWER_OF_2(cluster) || cluster < QED_MIN_CLUSTER || cluster > QED_MAX_CLUSTER)
		return err_set(err, EINVAL, "QED cluster size is invalid");
	if (!IS_POWER_OF_2(table) || table > QED_MAX_TABLE || table * cluster > L1_MAX)
		return err_set(err, EINVAL, "QED table size is invalid");
	nelems = table * cluster / 8;
	q->cluster = cluster;
	q->header_len = ld_le32(h + QED_HEADER_CLUSTERS) * cluster;
	if (__builtin_mul_overflow(nelems * nelems, cluster, &q->capacity) ||
	    q->capacity > INT64_MAX)
		q->capacity = INT64_MAX & ~511ull;
	if (!q->header_len || q->header_len > n->file->size)
		return err_set(err, EINVAL, "QED header size is invalid");
	if (size % 512 || size > q->capacity)
		return err_set(err, EINVAL, "QED image size is invalid");
	if (ld_le64(h + QED_L1) % cluster || ld_le64(h + QED_L1) < q->header_len ||
	    !range_ok(ld_le64(h + QED_L1), table * cluster, n->file->size))
		return err_set(err, EINVAL, "QED table offset is invalid");
	n->size = size;
	return 0;
}

static int write_header(struct node *n, struct qed *q)
{
	return node_pwrite(n->file, q->header, QED_HEADER, 0);
}

/* What others left unfinished is looked at before the first write. */
static int make_clean(struct node *n, struct qed *q, struct err *err)
{
	struct node_check c = { 0 };
	int ret = 0;

	if (features(q) & QED_F_NEED_CHECK) {
		ret = bmap_check(&q->tables.map, &c, q->header_len);
		if (ret || c.corruptions || c.check_errors)
			return err_set(err, EINVAL,
				       "'%s' was not closed cleanly and has errors: it can be "
				       "read ('convert' saves what is there), not written",
				       n->filename);
		st_le64(q->header + QED_FEATURES, features(q) & ~(uint64_t)QED_F_NEED_CHECK);
	}
	if (ld_le64(q->header + QED_AUTOCLEAR)) {
		st_le64(q->header + QED_AUTOCLEAR, 0);
		ret = 1;
	}
	return (ret || c.total_clusters) && write_header(n, q) ?
	       err_set(err, EIO, "'%s': its header could not be written", n->filename) : 0;
}

static int qed_open(struct node *n, const struct blk_options *o, struct err *err)
{
	struct qed *q = xcalloc(1, sizeof(*q));
	struct l2map *l = &q->tables;
	int ret = node_pread(n->file, q->header, QED_HEADER, 0);

	if (ret == 0)
		ret = check_header(n, q, err);
	if (ret == 0)
		ret = read_backing(n, q, err);
	if (ret < 0) {
		free(q);
		return ret;
	}
	l->l2_entries = l->l1_entries = ld_le32(q->header + QED_TABLE) * q->cluster / 8;
	l->l1_off = ld_le64(q->header + QED_L1);
	l->first_data = q->header_len;
	l->align = q->cluster;
	l->place_mask = q->cluster - 1;
	l->decode = qed_decode;
	l->zero_entry = 1;
	/* Nobody would find a cluster again that no table names: it would be lost. */
	l->map = (struct bmap){ .owner = n, .file = n->file, .size = n->size, .block = q->cluster,
				.zero_in_place = true,
				.read_only = !(n->flags & BLK_RDWR) };
	ret = l2map_open(l, err);
	n->priv = q;
	if (ret == 0 && n->flags & BLK_RDWR)
		ret = make_clean(n, q, err);
	if (ret < 0) {
		bmap_destroy(&l->map);
		l2map_close(l);
		free(q);
		n->priv = NULL;
	}
	return ret;
}

static void qed_close(struct node *n)
{
	struct qed *q = n->priv;

	fmt_close_map(n, &q->tables.map);
	l2map_close(&q->tables);
	free(q);
	n->priv = NULL;
}

static int qed_read(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len)
{
	return bmap_read(map_of(n), off, iov, niov, 0, len);
}

static int qed_write(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len,
		     unsigned flags)
{
	return bmap_write(map_of(n), off, iov, niov, 0, len);
}

static int qed_zeroes(struct node *n, uint64_t off, uint64_t len, unsigned flags)
{
	return bmap_zeroes(map_of(n), off, len);
}

static int qed_flush(struct node *n)
{
	return bmap_flush(map_of(n));
}

static int qed_extent(struct node *n, uint64_t off, uint64_t len, struct extent *e)
{
	return bmap_extent(map_of(n), off, len, e);
}

static int qed_info(struct node *n, struct node_info *i)
{
	const struct qed *q = n->priv;

	i->cluster_size = q->cluster;
	i->dirty = features(q) & QED_F_NEED_CHECK;
	return 0;
}

static int qed_check(struct node *n, struct node_check *c, unsigned fix)
{
	struct qed *q = n->priv;
	uint64_t tables, bytes, used, end;
	int ret = bmap_check(&q->tables.map, c, q->header_len);

	l2map_tables(&q->tables, &tables, &bytes);
	end = (n->file->size + q->cluster - 1) / q->cluster;
	used = (q->header_len + ld_le32(q->header + QED_TABLE) * q->cluster + bytes) / q->cluster +
	       c->allocated_clusters;
	c->leaks += !ret && !c->corruptions && end > used ? end - used : 0;
	c->image_end_offset = n->file->size;
	return ret;
}

static int qed_resize(struct node *n, uint64_t size, struct err *err)
{
	struct qed *q = n->priv;
	struct bmap *m = map_of(n);
	int ret;

	if (size < n->size)
		return err_set(err, ENOTSUP, "Shrinking images is currently not supported");
	if (size % 512 || size > q->capacity)
		return err_set(
			err, EINVAL,
			"The new size is no multiple of 512 or exceeds %llu, the most that its "
			"tables can hold",
			(unsigned long long)q->capacity);
	ret = bmap_flush(m);
	if (ret < 0)
		return err_set(err, -ret, "'%s': %s", n->filename, strerror(-ret));
	st_le64(q->header + QED_SIZE, size);
	ret = write_header(n, q);
	if (ret < 0) {
		st_le64(q->header + QED_SIZE, n->size);
		return err_set(err, -ret, "'%s': %s", n->filename, strerror(-ret));
	}
	pthread_mutex_lock(&m->lock);
	m->size = n->size = size;
	pthread_mutex_unlock(&m->lock);
	return 0;
}

/* Puts the name into the header; at is where it begins. */
static void name_backing(uint8_t *h, const char *backing, const char *format, uint64_t at)
{
	uint64_t f = ld_le64(h + QED_FEATURES) & ~(uint64_t)(QED_F_BACKING | QED_F_RAW_BACKING);

	if (backing)
		f |= QED_F_BACKING | (format && !strcmp(format, "raw") ? QED_F_RAW_BACKING : 0);
	st_le64(h + QED_FEATURES, f);
	st_le32(h + QED_BACKING, backing ? at : 0);
	st_le32(h + QED_BACKING_LEN, backing ? strlen(backing) : 0);
}

/* The name is written beside the old one and then the header, one sector, names it. */
static int qed_set_backing(struct node *n, const char *backing, const char *format, struct err *err)
{
	struct qed *q = n->priv;
	uint64_t off = ld_le32(q->header + QED_BACKING), len = backing ? strlen(backing) : 0;
	uint64_t after = off + ld_le32(q->header + QED_BACKING_LEN), at = QED_HEADER;
	uint8_t h[QED_HEADER];
	int ret = 0;

	if (!len)
		backing = NULL;
	if (len > NAME_MAX_LEN)
		return err_set(err, EINVAL, "Backing file name too long");
	if (off && at + len > off)
		at = after;
	if (backing && !range_ok(at, len, q->header_len))
		return err_set(err, ENOSPC,
			       "The header has no room for both names of the backing file");
	memcpy(h, q->header, sizeof(h));
	name_backing(h, backing, format, at);
	if (backing)
		ret = node_pwrite(n->file, backing, len, at);
	if (!ret)
		ret = node_flush(n->file);
	if (!ret)
		ret = node_pwrite(n->file, h, sizeof(h), 0);
	if (!ret)
		ret = node_flush(n->file);
	if (ret < 0)
		return err_set(err, -ret, "'%s': %s", n->filename, strerror(-ret));
	memcpy(q->header, h, sizeof(h));
	free(n->backing_name);
	free(n->backing_format);
	n->backing_name = backing ? xstrdup(backing) : NULL;
	n->backing_format = backing && features(q) & QED_F_RAW_BACKING ? xstrdup("raw") : NULL;
	return 0;
}

static const struct node_opt qed_create_opts[] = {
	{ "size", "size", "Virtual disk size", NULL, OPT_CREATE },
	{ "backing_file", "str", "File name of a base image", NULL, OPT_CREATE },
	{ "backing_fmt", "str", "Image format of the base image", NULL, OPT_CREATE },
	{ "cluster_size", "size", "Cluster size (in bytes)", "65536", OPT_CREATE },
	{ "table_size", "size", "L1/L2 table size (in clusters)", NULL, OPT_CREATE },
	{ NULL, NULL, NULL, NULL, OPT_CREATE },
};

static int qed_create(const struct node_create *c, struct err *err)
{
	uint64_t cluster, table, nelems, most, size = ALIGN_UP(c->size, 512ull);
	uint8_t h[QED_HEADER] = { 0 };
	struct node *f;
	int ret = node_create_opt_size(c->opts, "cluster_size", 64 * KiB, &cluster, err);

	if (!ret)
		ret = node_create_opt_size(c->opts, "table_size", 4, &table, err);
	if (ret)
		return ret;
	if (!IS_POWER_OF_2(cluster) || cluster < QED_MIN_CLUSTER || cluster > QED_MAX_CLUSTER)
		return err_set(err, EINVAL,
			       "QED cluster size must be within range [%u, %u] and power of 2",
			       QED_MIN_CLUSTER, QED_MAX_CLUSTER);
	if (!IS_POWER_OF_2(table) || table > QED_MAX_TABLE || table * cluster > L1_MAX)
		return err_set(err, EINVAL,
			       "QED table size must be within range [1, %u] and power of 2%s",
			       QED_MAX_TABLE,
			       table * cluster > L1_MAX ? ", and 16 MiB at most here" : "");
	nelems = table * cluster / 8;
	if (__builtin_mul_overflow(nelems * nelems, cluster, &most) || most > INT64_MAX)
		most = INT64_MAX & ~511ull;
	if (size > most)
		return err_set(err, EINVAL,
			       "QED image size must be a non-zero multiple of cluster size and "
			       "less than %llu bytes", (unsigned long long)most);
	if (c->backing && (strlen(c->backing) > NAME_MAX_LEN))
		return err_set(err, EINVAL, "Backing file name too long");
	memcpy(h, "QED", 4);
	st_le32(h + QED_CLUSTER, cluster);
	st_le32(h + QED_TABLE, table);
	st_le32(h + QED_HEADER_CLUSTERS, 1);
	st_le64(h + QED_L1, cluster);
	st_le64(h + QED_SIZE, size);
	name_backing(h, c->backing, c->backing_format, QED_HEADER);
	f = node_create_file(c->filename, 0, c->host, err);
	if (!f)
		return -EIO;
	ret = node_zeroes(f, 0, cluster + table * cluster, 0);
	if (!ret && c->backing)
		ret = node_pwrite(f, c->backing, strlen(c->backing), QED_HEADER);
	if (!ret)
		ret = node_pwrite(f, h, sizeof(h), 0);
	node_unref(f);
	return ret ? err_set(err, -ret, "could not write '%s': %s", c->filename, strerror(-ret))
		   : 0;
}

const struct node_ops qed_ops = {
	.activate = node_read_again,
	.format = "qed", .probe = qed_probe, .open = qed_open, .close = qed_close,
	.create = qed_create, .create_opts = qed_create_opts, .read = qed_read, .write = qed_write,
	.zeroes = qed_zeroes, .flush = qed_flush, .extent = qed_extent, .info = qed_info,
	.check = qed_check, .resize = qed_resize, .set_backing = qed_set_backing,
};
