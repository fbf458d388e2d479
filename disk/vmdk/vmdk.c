/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmdk.c: opens VMware disks and hands requests to their extents. Virtual Disk Format 5.0, "The
 * Descriptor File". A descriptor is a text from a stranger: it may name only files in its own
 * folder. Worker threads.
 */
#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "disk/vmdk/vmdk.h"
#include "vmm/base/iov.h"
#include "vmm/base/log.h"

#define EXTENTS_MAX 1100		/* 2 TiB in pieces of 2 GiB and some to spare */
#define DIRECTORIES_MAX (8 * MiB)	/* all extents' grain directories together */

static int vmdk_probe(const uint8_t *head, size_t len, uint64_t file_size, const char *filename)
{
	const char *p = (const char *)head, *end = p + len;

	if (len >= 4 && (ld_le32(head) == SPARSE_MAGIC_VALUE || ld_le32(head) == COWD_MAGIC_VALUE))
		return 100;
	while (p < end) {
		const char *eol = memchr(p, '\n', end - p);

		if (*p == '#' || *p == '\n' || *p == '\r' || *p == ' ') {
			if (!eol)
				return 0;
			p = eol + 1;
			continue;
		}
		return end - p >= 9 && !memcmp(p, "version=", 8) && p[8] >= '1' && p[8] <= '3' ? 100
											       : 0;
	}
	return 0;
}

bool vmdk_desc_get(const char *desc, const char *key, char *value, size_t len)
{
	size_t k = strlen(key), n;

	for (const char *p = desc; p && *p; p = strchr(p, '\n'), p = p ? p + 1 : NULL) {
		const char *v;

		while (*p == ' ' || *p == '\t')
			p++;
		if (strncasecmp(p, key, k))
			continue;
		for (v = p + k; *v == ' ' || *v == '\t'; v++)
			;
		if (*v++ != '=')
			continue;
		while (*v == ' ' || *v == '\t')
			v++;
		if (*v == '"') {
			v++;
			n = strcspn(v, "\"\n");
		} else {
			n = strcspn(v, " \t\r\n");
		}
		if (n >= len)
			return false;
		memcpy(value, v, n);
		value[n] = 0;
		return true;
	}
	return false;
}

char *vmdk_read_descriptor(struct node *file, uint64_t *off, uint64_t *max, struct err *err)
{
	uint8_t h[512];
	uint64_t len;
	char *desc;
	int ret;

	*off = 0;
	*max = VMDK_DESC_MAX;
	len = MIN(file->size, (uint64_t)VMDK_DESC_MAX);
	memset(h, 0, sizeof(h));
	ret = node_pread(file, h, MIN(file->size, sizeof(h)), 0);
	if (ret == 0 && ld_le32(h) == COWD_MAGIC_VALUE)
		return xstrdup("");
	if (ret == 0 && ld_le32(h) == SPARSE_MAGIC_VALUE) {
		if (!ld_le64(h + SPARSE_DESC) || !ld_le64(h + SPARSE_DESC_SIZE))
			return xstrdup("");
		if (ld_le64(h + SPARSE_DESC) > INT64_MAX / VMDK_SECTOR ||
		    ld_le64(h + SPARSE_DESC_SIZE) > VMDK_DESC_MAX / VMDK_SECTOR) {
			err_set(err, EINVAL, "'%s' has an invalid header (descriptor)",
				file->filename);
			return NULL;
		}
		*off = ld_le64(h + SPARSE_DESC) * VMDK_SECTOR;
		*max = len = ld_le64(h + SPARSE_DESC_SIZE) * VMDK_SECTOR;
		if (!range_ok(*off, len, file->size)) {
			err_set(err, EINVAL, "the descriptor of '%s' lies outside the file",
				file->filename);
			return NULL;
		}
	}
	desc = calloc(1, len + 1);
	if (desc && ret == 0)
		ret = node_pread(file, desc, len, *off);
	if (!desc || ret < 0) {
		err_set(err, desc ? -ret : ENOMEM, "could not read the descriptor of '%s'",
			file->filename);
		free(desc);
		return NULL;
	}
	return desc;
}

static int extent_append(struct vmdk *v, uint64_t size, const char *type, struct vmdk_extent **x,
			 struct err *err)
{
	if (v->n == EXTENTS_MAX)
		return err_set(err, EFBIG, "too many extents (more than %d)", EXTENTS_MAX);
	/* Each extent stays where it is: its block map, and the map's owner, point to it. */
	*x = xcalloc(1, sizeof(**x));
	v->ext = xrealloc(v->ext, (v->n + 1) * sizeof(*v->ext));
	v->ext[v->n++] = *x;
	(*x)->start = v->n > 1 ? v->ext[v->n - 2]->start + v->ext[v->n - 2]->size : 0;
	(*x)->size = size;
	snprintf((*x)->type, sizeof((*x)->type), "%s", type);
	if (!range_ok((*x)->start, size, INT64_MAX))
		return err_set(err, EFBIG, "the extents are larger than any file can be");
	return 0;
}

/* Opens the file that an extent line names. Only files beside the descriptor. */
static int extent_file(struct node *n, struct vmdk_extent *x, const char *name, struct err *err)
{
	const char *slash = strrchr(n->filename, '/');
	char *path;

	if (strchr(name, '/') || strchr(name, '\\') || !strcmp(name, "..") || !*name)
		return err_set(err, EACCES,
			       "'%s' names the extent '%s' outside its own folder: move the file "
			       "beside the "
			       "descriptor and name it without a folder",
			       n->filename, name);
	path = xasprintf("%.*s%s", slash ? (int)(slash - n->filename + 1) : 0, n->filename, name);
	x->file = fmt_file_open(n, path, err);
	x->own_file = true;
	free(path);
	return x->file ? 0 : -EINVAL;
}

static int extent_line(struct node *n, struct vmdk *v, const char *line, struct err *err)
{
	char access[16], type[16], name[512] = "";
	unsigned long long sectors, off = 0;
	struct vmdk_extent *x;
	int got, ret;

	got = sscanf(line, "%15s %llu %15s \"%511[^\n\r\"]\" %llu", access, &sectors, type, name,
		     &off);
	if (got < 3 ||
	    (strcmp(access, "RW") && strcmp(access, "RDONLY") && strcmp(access, "NOACCESS")))
		return 0;		/* not an extent line */
	if (!strcmp(access, "NOACCESS"))
		return err_set(err, EACCES, "'%s' has an extent that may not be accessed",
			       n->filename);
	if (!sectors || sectors > INT64_MAX / VMDK_SECTOR || off > INT64_MAX / VMDK_SECTOR)
		return err_set(err, EINVAL, "Invalid extent line: %.80s", line);
	ret = extent_append(v, sectors * VMDK_SECTOR, type, &x, err);
	if (ret < 0)
		return ret;
	if (!strcmp(type, "ZERO")) {
		x->kind = VMDK_ZERO;
		return 0;
	}
	if (got < 4 || (!strcmp(type, "FLAT") && got < 5))
		return err_set(err, EINVAL, "Invalid extent line: %.80s", line);
	x->read_only = !strcmp(access, "RDONLY");
	if (!strcmp(type, "FLAT") || !strcmp(type, "VMFS")) {
		x->kind = VMDK_FLAT;
		x->file_off = off * VMDK_SECTOR;
		return extent_file(n, x, name, err);
	}
	if (strcmp(type, "SPARSE") && strcmp(type, "VMFSSPARSE") && strcmp(type, "SESPARSE"))
		return err_set(err, ENOTSUP, "Unsupported extent type '%s'", type);
	ret = extent_file(n, x, name, err);
	if (ret < 0)
		return ret;
	if (!strcmp(type, "SPARSE"))
		return vmdk_sparse_open(n, x, err);
	return !strcmp(type, "VMFSSPARSE") ? vmdk_cowd_open(n, x, err)
					   : vmdk_sesparse_open(n, x, err);
}

static int open_extents(struct node *n, struct vmdk *v, struct err *err)
{
	uint64_t directories = 0;
	int ret;

	for (char *p = v->desc, *eol; p; p = eol) {
		char line[768];
		int before = v->n;

		eol = strchr(p, '\n');
		snprintf(line, sizeof(line), "%.*s", eol ? (int)MIN(eol - p, 767) : 767, p);
		ret = extent_line(n, v, line, err);
		if (ret < 0)
			return ret;
		if (v->n > before)
			directories += v->ext[before]->gds * v->ext[before]->entry;
		if (directories > DIRECTORIES_MAX)
			return err_set(err, EFBIG, "L1 size too big");
		eol = eol ? eol + 1 : NULL;
	}
	return v->n ? 0 : err_set(err, EINVAL, "the descriptor '%s' names no extent", n->filename);
}

static void parse_ids(struct node *n, struct vmdk *v)
{
	char value[1024];

	v->cid = v->parent_cid = 0xffffffff;
	if (vmdk_desc_get(v->desc, "CID", value, sizeof(value)))
		v->cid = strtoul(value, NULL, 16);
	if (vmdk_desc_get(v->desc, "parentCID", value, sizeof(value)))
		v->parent_cid = strtoul(value, NULL, 16);
	if (vmdk_desc_get(v->desc, "createType", value, sizeof(value)))
		snprintf(v->create_type, sizeof(v->create_type), "%.31s", value);
	if (v->parent_cid != 0xffffffff &&
	    vmdk_desc_get(v->desc, "parentFileNameHint", value, sizeof(value)) && *value) {
		n->backing_name = xstrdup(value);
		n->backing_format = xstrdup("vmdk");
	}
}

static void vmdk_free(struct vmdk *v)
{
	for (int i = 0; i < v->n; i++) {
		struct vmdk_extent *x = v->ext[i];

		vmdk_sparse_close(x);
		if (x->own_file && x->file)
			node_unref(x->file);
		free(x);
	}
	pthread_mutex_destroy(&v->lock);
	free(v->ext);
	free(v->desc);
	free(v);
}

static int vmdk_open(struct node *n, const struct blk_options *o, struct err *err)
{
	struct vmdk *v = xcalloc(1, sizeof(*v));
	struct vmdk_extent *x;
	uint8_t magic[4] = { 0 };
	int ret;

	pthread_mutex_init(&v->lock, NULL);
	n->priv = v;
	v->desc = vmdk_read_descriptor(n->file, &v->desc_off, &v->desc_max, err);
	if (!v->desc) {
		ret = -EINVAL;
		goto fail;
	}
	parse_ids(n, v);
	node_pread(n->file, magic, MIN(sizeof(magic), n->file->size), 0);
	if (ld_le32(magic) == SPARSE_MAGIC_VALUE || ld_le32(magic) == COWD_MAGIC_VALUE) {
		/*
		 * The file is an extent itself: with a descriptor inside, or a piece of a split
		 * disk.
		 */
		ret = extent_append(v, 0, "", &x, err);
		x->file = n->file;
		ret = ld_le32(magic) == COWD_MAGIC_VALUE ? vmdk_cowd_open(n, x, err)
							 : vmdk_sparse_open(n, x, err);
		if (!v->create_type[0])
			strcpy(v->create_type,
			       x->kind == VMDK_COWD ? "vmfsSparse" : "monolithicSparse");
	} else {
		v->own_desc = true;
		if (n->file->size > VMDK_DESC_MAX)
			ret = err_set(err, EINVAL, "'%s' is too large for a VMDK descriptor",
				      n->filename);
		else
			ret = open_extents(n, v, err);
	}
	if (ret < 0)
		goto fail;
	x = v->ext[v->n - 1];
	n->size = x->start + x->size;
	n->needs_packed = v->ext[0]->compressed;
	return 0;
fail:
	vmdk_free(v);
	n->priv = NULL;
	return ret;
}

/* Writes a new CID: children that name the old one must notice that their parent has changed. */
static int change_cid(struct node *n, struct vmdk *v)
{
	const char *at = v->desc, *eol;
	uint32_t cid = vmdk_new_cid();
	char *text, *padded;
	int ret;

	while (at && strncasecmp(at, "CID", 3)) {
		at = strchr(at, '\n');
		at = at ? at + 1 : NULL;
	}
	if (!at)
		return 0;		/* a piece of a split disk: its descriptor is elsewhere */
	eol = strchr(at, '\n');
	text = xasprintf("%.*sCID=%08x%s", (int)(at - v->desc), v->desc, cid, eol ? eol : "\n");
	if (strlen(text) >= v->desc_max) {
		free(text);
		return -ENOSPC;
	}
	/* Pad with zero bytes over what was there. */
	padded = xcalloc(1, MAX(strlen(text), strlen(v->desc)) + 1);
	strcpy(padded, text);
	ret = node_pwrite(n->file, padded, MAX(strlen(text), strlen(v->desc)), v->desc_off);
	free(padded);
	if (ret < 0) {
		free(text);
		return ret;
	}
	free(v->desc);
	v->desc = text;
	v->cid = cid;
	return 0;
}

/* Once the backing file is there: is it still the disk this delta was made on? */
static int check_parent(struct node *n, struct vmdk *v)
{
	struct vmdk *p = n->backing ? n->backing->priv : NULL;

	if (v->parent_checked || !n->backing)
		return v->parent_error;
	if (n->backing->ops == n->ops && p->cid != v->parent_cid)
		v->parent_error = -EIO;
	__atomic_store_n(&v->parent_checked, true, __ATOMIC_RELEASE);
	if (!v->parent_error)
		return 0;
	log_error("%s: its parent '%s' has changed since (CID %08x, expected %08x): reading would "
		  "mix two disks",
		  n->filename, n->backing->filename, p->cid, v->parent_cid);
	return v->parent_error;
}

static int vmdk_before(struct node *n, bool write)
{
	struct vmdk *v = n->priv;
	int ret = 0;

	if (__atomic_load_n(&v->parent_checked, __ATOMIC_ACQUIRE) &&
	    (!write || __atomic_load_n(&v->cid_changed, __ATOMIC_ACQUIRE)))
		return v->parent_error;
	pthread_mutex_lock(&v->lock);
	if (v->parent_cid != 0xffffffff)
		ret = check_parent(n, v);
	else
		__atomic_store_n(&v->parent_checked, true, __ATOMIC_RELEASE);
	if (ret == 0 && write && !v->cid_changed) {
		ret = change_cid(n, v);
		if (ret == 0)
			__atomic_store_n(&v->cid_changed, true, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&v->lock);
	return ret;
}

static struct vmdk_extent *find_extent(struct vmdk *v, uint64_t off)
{
	int lo = 0, hi = v->n - 1;

	while (lo < hi) {
		int mid = (lo + hi + 1) / 2;

		if (v->ext[mid]->start <= off)
			lo = mid;
		else
			hi = mid - 1;
	}
	return v->ext[lo];
}

enum vmdk_do { DO_READ, DO_WRITE, DO_ZEROES };

static int flat_io(struct vmdk_extent *x, enum vmdk_do what, uint64_t off, const struct iovec *iov,
		   int niov, uint64_t skip, uint64_t len, unsigned flags)
{
	struct iovec *part;
	int n, ret;

	if (what == DO_ZEROES)
		return node_zeroes(x->file, x->file_off + off, len, flags);
	part = malloc(niov * sizeof(*part));
	if (!part)
		return -ENOMEM;
	n = iov_slice(part, iov, niov, skip, len);
	ret = what == DO_READ ? node_readv(x->file, x->file_off + off, part, n, len) :
				node_writev(x->file, x->file_off + off, part, n, len, flags);
	free(part);
	return ret;
}

static int extent_io(struct vmdk_extent *x, enum vmdk_do what, uint64_t off,
		     const struct iovec *iov, int niov, uint64_t skip, uint64_t len, unsigned flags)
{
	if (what != DO_READ && x->read_only)
		return -EACCES;
	switch (x->kind) {
	case VMDK_FLAT:
		return flat_io(x, what, off, iov, niov, skip, len, flags);
	case VMDK_ZERO:
		if (what == DO_READ)
			iov_zero(iov, niov, skip, len);
		return what == DO_WRITE ? -EACCES : 0;
	default:
		break;
	}
	if (what == DO_READ)
		return bmap_read(&x->map, off, iov, niov, skip, len);
	if (x->kind == VMDK_SESPARSE)
		return -ENOTSUP;
	if (x->compressed)		/* grains of a stream are written once, packed */
		return what == DO_ZEROES ? -ENOTSUP : -EIO;
	if (what == DO_WRITE)
		return bmap_write(&x->map, off, iov, niov, skip, len);
	return bmap_zeroes(&x->map, off, len);
}

static int vmdk_io(struct node *n, enum vmdk_do what, uint64_t off, const struct iovec *iov,
		   int niov, uint64_t len, unsigned flags)
{
	struct vmdk *v = n->priv;
	uint64_t skip = 0;
	int ret = vmdk_before(n, what != DO_READ);

	while (len && ret == 0) {
		struct vmdk_extent *x = find_extent(v, off);
		uint64_t part = MIN(len, x->start + x->size - off);

		ret = extent_io(x, what, off - x->start, iov, niov, skip, part, flags);
		off += part;
		skip += part;
		len -= part;
	}
	return ret;
}

static int vmdk_read(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len)
{
	return vmdk_io(n, DO_READ, off, iov, niov, len, 0);
}

static int vmdk_flush(struct node *n)
{
	struct vmdk *v = n->priv;
	int ret = 0, r;

	for (int i = 0; i < v->n; i++) {
		struct vmdk_extent *x = v->ext[i];

		if (x->kind == VMDK_ZERO || x->read_only || x->kind == VMDK_SESPARSE)
			continue;
		/* a flush ends a stream: what follows is refused */
		r = x->stream ? vmdk_stream_finish(x) : 0;
		if (ret == 0)
			ret = r;
		r = x->kind == VMDK_FLAT || x->compressed ? node_flush(x->file)
							  : bmap_flush(&x->map);
		if (ret == 0)
			ret = r;
	}
	if (ret == 0 && v->own_desc && v->cid_changed)
		ret = node_flush(n->file);
	return ret;
}

static int vmdk_write(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len,
		      unsigned flags)
{
	int ret = vmdk_io(n, DO_WRITE, off, iov, niov, len, flags & ~BLK_FUA);

	return ret == 0 && flags & BLK_FUA ? vmdk_flush(n) : ret;
}

static int vmdk_zeroes(struct node *n, uint64_t off, uint64_t len, unsigned flags)
{
	return vmdk_io(n, DO_ZEROES, off, NULL, 0, len, flags);
}

static int vmdk_extent(struct node *n, uint64_t off, uint64_t len, struct extent *e)
{
	struct vmdk_extent *x = find_extent(n->priv, off);

	len = MIN(len, x->start + x->size - off);
	switch (x->kind) {
	case VMDK_FLAT:
		*e = (struct extent){ len, EXT_DATA | EXT_ALLOCATED | EXT_OFFSET, x->file,
				      x->file_off + off - x->start };
		fmt_extent_flat(e, true);
		return 0;
	case VMDK_ZERO:
		*e = (struct extent){ len, EXT_ZERO | EXT_ALLOCATED, NULL, 0 };
		return 0;
	default:
		return bmap_extent(&x->map, off - x->start, len, e);
	}
}

static void vmdk_close(struct node *n)
{
	struct vmdk *v = n->priv;

	if (n->flags & BLK_RDWR) {
		int ret = vmdk_flush(n);

		if (ret < 0)
			log_error("%s: could not write the rest: %s", n->filename, strerror(-ret));
	}
	vmdk_free(v);
	n->priv = NULL;
}

static int vmdk_info(struct node *n, struct node_info *i)
{
	struct vmdk *v = n->priv;
	json_t *list = json_array();

	if (v->ext[0]->map.ops)
		i->cluster_size = v->ext[0]->map.block;
	i->specific = json_pack("{s:s, s:I, s:I}", "create-type", v->create_type, "cid",
				(json_int_t)v->cid, "parent-cid", (json_int_t)v->parent_cid);
	for (int k = 0; k < v->n; k++) {
		struct vmdk_extent *x = v->ext[k];
		json_t *e = json_pack("{s:s, s:s, s:I}", "filename",
				      x->file ? x->file->filename : "", "format", x->type,
				      "virtual-size", (json_int_t)x->size);

		if (x->compressed)
			json_object_set_new(e, "compressed", json_true());
		if (x->map.ops)
			json_object_set_new(e, "cluster-size", json_integer(x->map.block));
		json_array_append_new(list, e);
	}
	json_object_set_new(i->specific, "extents", list);
	return 0;
}

static int vmdk_check(struct node *n, struct node_check *c, unsigned fix)
{
	struct vmdk *v = n->priv;
	int ret = 0;

	for (int k = 0; k < v->n && ret == 0; k++) {
		if (v->ext[k]->map.ops)
			ret = bmap_check(&v->ext[k]->map, c, VMDK_SECTOR);
		else if (v->ext[k]->kind == VMDK_FLAT &&
			 v->ext[k]->file->size < v->ext[k]->file_off + v->ext[k]->size) {
			node_check_say(c, "ERROR: '%s' is shorter than the extent it holds",
				       v->ext[k]->file->filename);
			c->corruptions++;
		}
	}
	/* qemu-img counts no blocks here, and scripts read that. */
	c->total_clusters = c->allocated_clusters = c->fragmented_clusters =
		c->compressed_clusters = 0;
	c->image_end_offset = 0;
	return ret;
}

static void vmdk_mark(struct node *n, char *buf, size_t len)
{
	struct vmdk *v = n->priv;

	pthread_mutex_lock(&v->lock);
	snprintf(buf, len, "CID %08x", v->cid);
	pthread_mutex_unlock(&v->lock);
}

static struct node *vmdk_part(struct node *n, unsigned i)
{
	struct vmdk *v = n->priv;

	for (int k = 0; k < v->n; k++)
		if (v->ext[k]->own_file && !i--)
			return v->ext[k]->file;
	return NULL;
}

const struct node_ops vmdk_ops = {
	.activate = node_read_again,
	.mark = vmdk_mark,
	.part = vmdk_part,
	.format = "vmdk",
	.probe = vmdk_probe,
	.open = vmdk_open,
	.close = vmdk_close,
	.create = vmdk_create,
	.create_opts = vmdk_create_opts,
	.read = vmdk_read,
	.write = vmdk_write,
	.zeroes = vmdk_zeroes,
	.flush = vmdk_flush,
	.extent = vmdk_extent,
	.info = vmdk_info,
	.check = vmdk_check,
	.pack = vmdk_pack,
	.put_packed = vmdk_put_packed,
};
