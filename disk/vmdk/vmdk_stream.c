/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmdk_stream.c: streamOptimized extents. Virtual Disk Format 5.0, "Stream-Optimized Compressed
 * Sparse Extents": grains in ascending order, each behind a marker, a table after every 512 grains'
 * worth, then the directory, a footer and an end-of-stream marker. Without the footer a stream
 * cannot be opened: a broken-off conversion never looks whole.
 */
#include <errno.h>
#include <libdeflate.h>
#include <pthread.h>
#include <stdlib.h>

#include "disk/vmdk/vmdk.h"
#include "vmm/base/iov.h"

/* of libdeflate: smaller than zlib's 6, several times faster */
#define STREAM_LEVEL 5

struct vmdk_stream {
	uint64_t end;			/* where the next piece goes */
	uint64_t table;			/* index of gt */
	bool any;			/* gt has an entry */
	uint64_t next;			/* bytes of disk already passed */
	bool finished;
	uint8_t gt[VMDK_GTES * 4];
};

int vmdk_stream_footer(struct node *file, uint8_t header[512], struct err *err)
{
	uint8_t f[1536];

	if (file->size < sizeof(f) ||
	    node_pread(file, f, sizeof(f), ALIGN_DOWN(file->size, 512ull) - sizeof(f)) < 0 ||
	    ld_le32(f + 8) != 0 || ld_le32(f + 12) != MARKER_FOOTER ||
	    ld_le32(f + 512) != SPARSE_MAGIC_VALUE || ld_le32(f + 1024 + 12) != MARKER_EOS)
		return err_set(err, EINVAL,
			       "'%s' has no footer: it was cut off while it was written",
			       file->filename);
	memcpy(header, f + 512, 512);
	if (ld_le64(header + SPARSE_GD) == VMDK_GD_AT_END)
		return err_set(err, EINVAL, "'%s' has a footer without a grain directory",
			       file->filename);
	return 0;
}

int vmdk_stream_unpack(struct bmap *m, uint64_t b, const void *packed, uint64_t len, void *out)
{
	return fmt_inflate(FMT_ZLIB, packed, len, out, m->block);
}

/* A compressor for each thread: making one costs as much as packing several grains. */
static pthread_key_t compressor_key;
static pthread_once_t compressor_once = PTHREAD_ONCE_INIT;

static void compressor_free(void *c)
{
	libdeflate_free_compressor(c);
}

static void compressor_key_make(void)
{
	pthread_key_create(&compressor_key, compressor_free);
}

static struct libdeflate_compressor *compressor_get(void)
{
	struct libdeflate_compressor *c;

	pthread_once(&compressor_once, compressor_key_make);
	c = pthread_getspecific(compressor_key);
	if (!c) {
		c = libdeflate_alloc_compressor(STREAM_LEVEL);
		pthread_setspecific(compressor_key, c);
	}
	return c;
}

/* One grain behind its marker, padded to whole sectors. Returns the bytes made. */
static size_t pack_grain(struct libdeflate_compressor *c, uint64_t lba, const uint8_t *in,
			 uint64_t grain, uint8_t *p, size_t bound)
{
	size_t made = libdeflate_zlib_compress(c, in, grain, p + MARKER_HEADER,
					       bound - MARKER_HEADER);
	size_t padded = ALIGN_UP(MARKER_HEADER + made, (size_t)VMDK_SECTOR);

	st_le64(p, lba);
	st_le32(p + 8, made);
	memset(p + MARKER_HEADER + made, 0, padded - MARKER_HEADER - made);
	return padded;
}

/* Grains of [off, off + len), each with marker and padding; those of zeros are left out. */
int vmdk_pack(struct node *n, uint64_t off, const void *buf, uint64_t len, void **packed,
	      size_t *packed_len)
{
	struct vmdk *v = n->priv;
	struct vmdk_extent *x = v->ext[0];
	struct libdeflate_compressor *c = compressor_get();
	uint64_t grain = x->map.block;
	uint8_t *out, *p, *whole = NULL;
	size_t bound;

	if (!x->compressed || v->n != 1 || off % grain)
		return -ENOTSUP;
	bound = c ? ALIGN_UP(MARKER_HEADER + libdeflate_zlib_compress_bound(c, grain),
			     (size_t)VMDK_SECTOR)
		  : 0;
	out = p = c ? malloc(bound * (len / grain + 1)) : NULL;
	if (len % grain)
		whole = calloc(1, grain);
	if (!out || (len % grain && !whole)) {
		free(out);
		free(whole);
		return -ENOMEM;
	}
	for (uint64_t at = 0; at < len; at += grain) {
		const uint8_t *in = (const uint8_t *)buf + at;

		if (len - at < grain) {		/* the disk's last grain is filled with zeros */
			memcpy(whole, in, len - at);
			in = whole;
		}
		if (!buf_is_zero(in, grain))
			p += pack_grain(c, (off + at) / VMDK_SECTOR, in, grain, p, bound);
	}
	free(whole);
	*packed = out;
	*packed_len = p - out;
	return 0;
}

static int put_metadata(struct vmdk_extent *x, unsigned type, const void *data, uint64_t len)
{
	struct vmdk_stream *s = x->stream;
	uint64_t padded = ALIGN_UP(len, (uint64_t)VMDK_SECTOR);
	uint8_t *b = xcalloc(1, VMDK_SECTOR + padded);
	int ret;

	st_le64(b, padded / VMDK_SECTOR);
	st_le32(b + 12, type);
	memcpy(b + VMDK_SECTOR, data, len);
	ret = node_pwrite(x->file, b, VMDK_SECTOR + padded, s->end);
	free(b);
	if (ret == 0)
		s->end += VMDK_SECTOR + padded;
	return ret;
}

static int put_table(struct vmdk_extent *x)
{
	struct vmdk_stream *s = x->stream;
	int ret;

	if (!s->any)
		return 0;
	if (s->end / VMDK_SECTOR + 1 > UINT32_MAX)
		return -EFBIG;
	st_le32(x->gd + s->table * 4, s->end / VMDK_SECTOR + 1);
	ret = put_metadata(x, MARKER_GT, s->gt, sizeof(s->gt));
	memset(s->gt, 0, sizeof(s->gt));
	s->any = false;
	return ret;
}

static int stream_start(struct node *n, struct vmdk_extent *x)
{
	uint8_t h[512];
	uint64_t end;
	int ret;

	for (uint64_t i = 0; i < x->gds; i++)
		if (ld_le32(x->gd + i * 4))
			return -EEXIST;		/* has grains: a stream is written once */
	ret = node_pread(x->file, h, sizeof(h), 0);
	if (ret < 0)
		return ret;
	if (ld_le64(h + SPARSE_GD) != VMDK_GD_AT_END || x->gtes != VMDK_GTES || x->version != 3)
		return -EEXIST;
	end = (ld_le64(h + SPARSE_DESC) + ld_le64(h + SPARSE_DESC_SIZE)) * VMDK_SECTOR;
	end = MAX(end, ld_le64(h + SPARSE_OVERHEAD) * VMDK_SECTOR);
	if (end > x->file->size)
		return -EIO;
	/* The footer that made the empty stream whole goes first. */
	ret = node_resize(x->file, end, NULL);
	if (ret < 0)
		return ret;
	x->stream = calloc(1, sizeof(*x->stream));
	if (!x->stream)
		return -ENOMEM;
	x->stream->end = end;
	return 0;
}

int vmdk_put_packed(struct node *n, uint64_t off, const void *packed, size_t packed_len)
{
	struct vmdk *v = n->priv;
	struct vmdk_extent *x = v->ext[0];
	const uint8_t *p = packed, *end = p + packed_len, *run = p;
	struct vmdk_stream *s;
	int ret = 0;

	if (!x->stream)
		ret = stream_start(n, x);
	if (ret < 0)
		return ret;
	s = x->stream;
	if (off < s->next || s->finished)
		return -EINVAL;
	s->next = off + 1;
	while (p < end) {
		uint64_t grain = ld_le64(p) * VMDK_SECTOR / x->map.block, table = grain / VMDK_GTES;
		size_t padded = ALIGN_UP((size_t)MARKER_HEADER + ld_le32(p + 8),
					 (size_t)VMDK_SECTOR);

		if (table != s->table || s->end / VMDK_SECTOR > UINT32_MAX) {
			/* What has gathered goes out before the table that ends its part. */
			if (run < p)
				ret = node_pwrite(x->file, run, p - run, s->end - (p - run));
			if (ret == 0)
				ret = s->end / VMDK_SECTOR > UINT32_MAX ? -EFBIG : put_table(x);
			if (ret < 0)
				return ret;
			run = p;
			s->table = table;
		}
		st_le32(s->gt + grain % VMDK_GTES * 4, s->end / VMDK_SECTOR);
		s->any = true;
		s->end += padded;
		p += padded;
	}
	return run < p ? node_pwrite(x->file, run, p - run, s->end - (p - run)) : 0;
}

int vmdk_stream_finish(struct vmdk_extent *x)
{
	struct vmdk_stream *s = x->stream;
	uint8_t tail[1536] = { 0 };
	uint64_t gd;
	int ret;

	if (s->finished)
		return 0;
	ret = put_table(x);
	if (ret < 0)
		return ret;
	gd = s->end / VMDK_SECTOR + 1;
	ret = put_metadata(x, MARKER_GD, x->gd, x->gds * 4);
	if (ret == 0)
		ret = node_pread(x->file, tail + 512, 512, 0);
	if (ret < 0)
		return ret;
	st_le64(tail, 1);
	st_le32(tail + 12, MARKER_FOOTER);
	st_le64(tail + 512 + SPARSE_GD, gd);
	ret = node_pwrite(x->file, tail, sizeof(tail), s->end);
	if (ret == 0)
		s->finished = true;
	return ret;
}

int vmdk_stream_close_empty(struct vmdk_extent *x, uint64_t end)
{
	int ret;

	x->stream = calloc(1, sizeof(*x->stream));
	if (!x->stream)
		return -ENOMEM;
	x->stream->end = end;
	ret = vmdk_stream_finish(x);
	vmdk_stream_free(x);
	return ret;
}

void vmdk_stream_free(struct vmdk_extent *x)
{
	free(x->stream);
	x->stream = NULL;
}
