/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2_compress.c: compressed clusters (spec: "Compressed Clusters Descriptor"): raw deflate by
 * libdeflate, or zstd.
 *
 * The deflate window is 32 KiB, not the 4 KiB QEMU writes with: qemu-img 7.2, 7-Zip and libqcow
 * read it (they inflate a cluster in one call into its own buffer; tests/img/peers.c), and it is
 * what makes the image smaller.
 *
 * Worker threads. (De)compressors are kept for each thread.
 */
#include <errno.h>
#include <libdeflate.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "disk/qcow2/qcow2.h"
#include "disk/qcow2/qcow2_bitmap.h"
#include "vmm/base/iov.h"

/*
 * 3: a tenth smaller than what QEMU writes (zlib 6, 4 KiB window), in less than a third of its
 * time; 6 gains 3 % more for 40 % more time.
 */
enum { DEFLATE_LEVEL = 3, ZSTD_LEVEL = 3 };

struct coders {
	struct libdeflate_compressor *deflate;
	struct libdeflate_decompressor *inflate;
	ZSTD_CCtx *zc;
	ZSTD_DCtx *zd;
};

static pthread_key_t coders_key;
static pthread_once_t coders_once = PTHREAD_ONCE_INIT;

static void coders_free(void *p)
{
	struct coders *c = p;

	if (c->deflate)
		libdeflate_free_compressor(c->deflate);
	if (c->inflate)
		libdeflate_free_decompressor(c->inflate);
	ZSTD_freeCCtx(c->zc);
	ZSTD_freeDCtx(c->zd);
	free(c);
}

static void coders_key_make(void)
{
	pthread_key_create(&coders_key, coders_free);
}

static struct coders *coders_get(void)
{
	struct coders *c;

	pthread_once(&coders_once, coders_key_make);
	c = pthread_getspecific(coders_key);
	if (!c) {
		c = xcalloc(1, sizeof(*c));
		pthread_setspecific(coders_key, c);
	}
	return c;
}

/* The packed length, or 0 when it does not get smaller than `room`. */
static size_t pack(const struct qcow2 *q, const void *in, size_t len, void *out, size_t room)
{
	struct coders *c = coders_get();

	if (q->h.compression_type == QCOW2_COMPRESSION_ZSTD) {
		size_t n;

		if (!c->zc)
			c->zc = ZSTD_createCCtx();
		n = c->zc ? ZSTD_compressCCtx(c->zc, out, room, in, len, ZSTD_LEVEL) : 0;
		return ZSTD_isError(n) ? 0 : n;
	}
	if (!c->deflate)
		c->deflate = libdeflate_alloc_compressor(DEFLATE_LEVEL);
	return c->deflate ? libdeflate_deflate_compress(c->deflate, in, len, out, room) : 0;
}

/*
 * zlib copes with what libdeflate does not: a stream that is cut off behind the last byte needed,
 * or goes on.
 */
static int inflate_zlib(const void *in, size_t in_len, void *out, size_t len)
{
	z_stream z = {
		.next_in = (void *)in, .avail_in = in_len, .next_out = out, .avail_out = len
	};
	int ret;

	if (inflateInit2(&z, -15) != Z_OK)
		return -ENOMEM;
	ret = inflate(&z, Z_FINISH);
	inflateEnd(&z);
	return (ret == Z_STREAM_END || ret == Z_BUF_ERROR) && z.avail_out == 0 ? 0 : -EIO;
}

static int unzstd(struct coders *c, const void *in, size_t in_len, void *out, size_t len)
{
	ZSTD_inBuffer zin = { in, in_len, 0 };
	ZSTD_outBuffer zout = { out, len, 0 };

	if (!c->zd)
		c->zd = ZSTD_createDCtx();
	if (!c->zd)
		return -ENOMEM;
	ZSTD_DCtx_reset(c->zd, ZSTD_reset_session_only);
	while (zout.pos < len) {
		size_t was_in = zin.pos, was_out = zout.pos,
		       ret = ZSTD_decompressStream(c->zd, &zout, &zin);

		if (ZSTD_isError(ret) || (zin.pos == was_in && zout.pos == was_out))
			return -EIO;
	}
	return 0;
}

static int unpack(const struct qcow2 *q, const void *in, size_t in_len, void *out, size_t len)
{
	struct coders *c = coders_get();
	size_t got;

	if (q->h.compression_type == QCOW2_COMPRESSION_ZSTD)
		return unzstd(c, in, in_len, out, len);
	if (!c->inflate)
		c->inflate = libdeflate_alloc_decompressor();
	/*
	 * What follows the stream in its last sector belongs to others: the real end is not known.
	 */
	if (c->inflate &&
	    libdeflate_deflate_decompress_ex(c->inflate, in, in_len, out, len, NULL, &got) ==
		    LIBDEFLATE_SUCCESS &&
	    got == len)
		return 0;
	return inflate_zlib(in, in_len, out, len);
}

/* --- reading --- */
/* The few clusters unpacked last are kept, for guests that read them page by page. */

void qcow2_cbuf_drop(struct qcow2 *q)
{
	for (size_t i = 0; i < ARRAY_SIZE(q->cbuf); i++) {
		free(q->cbuf[i].data);
		q->cbuf[i] = (struct qcow2_cbuf){ 0 };
	}
}

static bool cbuf_find(struct qcow2 *q, uint64_t entry, uint64_t skip, uint64_t pos,
		      const struct iovec *iov, int niov, uint64_t len)
{
	bool found = false;

	pthread_mutex_lock(&q->cbuf_lock);
	for (size_t i = 0; i < ARRAY_SIZE(q->cbuf) && !found; i++)
		if (q->cbuf[i].data && q->cbuf[i].entry == entry) {
			iov_from_buf(iov, niov, pos, q->cbuf[i].data + skip, len);
			q->cbuf[i].used = ++q->cbuf_clock;
			found = true;
		}
	pthread_mutex_unlock(&q->cbuf_lock);
	return found;
}

/* Keeps buf, gives back an older one to be freed. */
static uint8_t *cbuf_keep(struct qcow2 *q, uint64_t entry, uint8_t *buf)
{
	struct qcow2_cbuf *oldest = &q->cbuf[0];
	uint8_t *old;

	pthread_mutex_lock(&q->cbuf_lock);
	for (size_t i = 0; i < ARRAY_SIZE(q->cbuf); i++)
		if (!q->cbuf[i].data || (oldest->data && q->cbuf[i].used < oldest->used))
			oldest = &q->cbuf[i];
	old = oldest->data;
	oldest->data = buf;
	oldest->entry = entry;
	oldest->used = ++q->cbuf_clock;
	pthread_mutex_unlock(&q->cbuf_lock);
	return old;
}

int qcow2_read_compressed(struct qcow2 *q, const struct mapping *m, uint64_t skip, uint64_t pos,
			  const struct iovec *iov, int niov, uint64_t len)
{
	bool whole = len == q->cluster_size, direct = whole && niov == 1;
	uint8_t *in, *out;
	int ret;

	/*
	 * The same entry may stand for other bytes later only in a writable image: there only whole
	 * clusters are trusted.
	 */
	if (!whole && !(q->n->flags & BLK_RDWR) &&
	    cbuf_find(q, m->entry, skip, pos, iov, niov, len))
		return 0;
	in = malloc(m->packed_len);
	/* A whole cluster is unpacked where it is wanted. */
	out = direct ? (uint8_t *)iov[0].iov_base + pos : malloc(q->cluster_size);
	ret = in && out ? node_pread(q->n->file, in, m->packed_len, m->host) : -ENOMEM;
	if (!ret)
		ret = unpack(q, in, m->packed_len, out, q->cluster_size);
	free(in);
	if (direct)
		return ret;
	if (!ret)
		iov_from_buf(iov, niov, pos, out + skip, len);
	if (!ret && !whole && !(q->n->flags & BLK_RDWR))
		out = cbuf_keep(q, m->entry, out);
	free(out);
	return ret;
}

/* --- writing --- */

int qcow2_write_compressed(struct node *n, uint64_t off, const void *buf, uint64_t len)
{
	struct qcow2 *q = n->priv;
	uint64_t host, entry, bitmap, sectors, i;
	uint8_t *whole = NULL, *out = NULL;
	struct iovec iov;
	struct table *t;
	struct alloc a;
	size_t packed;
	int ret;

	if (q_in_cluster(q, off) || len > q->cluster_size ||
	    (len < q->cluster_size && off + len != n->size))
		return -EINVAL;
	if (n->data_file || q->crypt)
		return -ENOTSUP;
	ret = qcow2_bitmaps_dirty(q, off, len);
	if (ret)
		return ret;
	out = malloc(q->cluster_size);
	if (!out)
		return -ENOMEM;
	iov = (struct iovec){ (void *)buf, len };
	if (len < q->cluster_size) {
		whole = calloc(1, q->cluster_size);
		if (!whole) {
			free(out);
			return -ENOMEM;
		}
		memcpy(whole, buf, len);
		buf = whole;
	}
	packed = pack(q, buf, q->cluster_size, out, q->cluster_size - 1);
	if (!packed) {
		ret = qcow2_write(n, off, &iov, 1, len, 0);
		goto out;
	}

	pthread_mutex_lock(&q->lock);
	alloc_begin(q, &a, off >> q->cluster_bits, 1);
	ret = q->corrupt ? -EIO : l2_get_writable(q, q_l1_index(q, off), &t);
	if (!ret) {
		t->pins++;
		ret = bytes_alloc(q, packed, &host);
		if (ret)
			t->pins--;
	}
	if (!ret) {
		pthread_mutex_unlock(&q->lock);
		ret = node_pwrite(n->file, out, packed, host);
		pthread_mutex_lock(&q->lock);
		i = q_l2_index(q, off);
		entry_load(q, t, i, &entry, &bitmap);
		if (!ret)
			ret = entry_free(q, entry);
		if (!ret) {
			sectors = ((host + packed - 1) >> 9) - (host >> 9);
			entry_store(q, t, i,
				    host | L2E_COMPRESSED | sectors << (62 - (q->cluster_bits - 8)),
				    0);
		} else {
			refcount_add(q, host >> q->cluster_bits,
				     q_clusters(q, q_in_cluster(q, host) + packed), -1);
		}
		t->pins--;
	}
	alloc_end(q, &a);
	pthread_mutex_unlock(&q->lock);
out:
	free(whole);
	free(out);
	return ret;
}
