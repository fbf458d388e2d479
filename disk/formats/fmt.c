/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fmt.c: what the smaller formats share; see fmt.h. */
#include <errno.h>
#include <fcntl.h>
#include <libdeflate.h>
#include <stdlib.h>
#include <sys/random.h>

#include "disk/formats/bmap.h"
#include "disk/formats/fmt.h"
#include "vmm/base/log.h"

int opt_get_prealloc(const char *const *opts, bool metadata, enum prealloc *v, struct err *err)
{
	static const char *const names[] = { "off", "metadata", "falloc", "full" };
	const char *s = node_create_opt(opts, "preallocation");

	*v = PREALLOC_OFF;
	for (unsigned i = 0; s && i < ARRAY_SIZE(names); i++) {
		if (strcmp(s, names[i]))
			continue;
		if (i == PREALLOC_METADATA && !metadata)
			return err_set(err, EINVAL, "Unsupported preallocation mode '%s'", s);
		*v = i;
		return 0;
	}
	return s ? err_set(err, EINVAL, "Invalid parameter '%s'", s) : 0;
}

struct node *fmt_file_open(struct node *n, const char *path, struct err *err)
{
	struct host host = node_names(n);

	return node_open_file(path,
			      n->flags & (BLK_RDWR | BLK_NOCACHE | BLK_WRITETHROUGH | BLK_UNSAFE |
					  BLK_SHARE | BLK_INACTIVE),
			      &host, err);
}

int fmt_file_preallocate(struct node *file, uint64_t off, uint64_t len, enum prealloc mode,
			 struct err *err)
{
	static const uint8_t zeros[64 * 1024];
	int ret = 0;

	if (mode == PREALLOC_FALLOC && file->fd >= 0) {
		ret = -posix_fallocate(file->fd, off, len);
	} else if (mode == PREALLOC_FULL) {
		for (uint64_t at = 0; at < len && ret == 0; at += sizeof(zeros))
			ret = node_pwrite(file, zeros, MIN(sizeof(zeros), len - at), off + at);
	}
	if (ret < 0)
		err_set(err, -ret, "Could not preallocate '%s': %s", file->filename,
			strerror(-ret));
	return ret;
}

void fmt_extent_flat(struct extent *e, bool flat)
{
	struct extent below;

	if (!(e->flags & EXT_ALLOCATED))
		e->flags |= EXT_ZERO | EXT_ALLOCATED;
	if (flat && e->flags & EXT_OFFSET &&
	    node_extent(e->file, e->file_off, e->len, &below) == 0) {
		e->len = MIN(e->len, below.len);
		e->flags |= below.flags & EXT_ZERO;
	}
}

void fmt_close_map(struct node *n, struct bmap *m)
{
	if (n->flags & BLK_RDWR && !n->inactive) {
		int ret = bmap_flush(m);

		if (ret < 0)
			log_error("%s: could not write its tables: %s", n->filename,
				  strerror(-ret));
	}
	bmap_destroy(m);
}

void fmt_uuid(uint8_t uuid[16])
{
	if (getrandom(uuid, 16, 0) != 16) {
		int64_t t = now_ns();

		memcpy(uuid, &t, sizeof(t));
	}
	uuid[6] = (uuid[6] & 0x0f) | 0x40;
	uuid[8] = (uuid[8] & 0x3f) | 0x80;
}

int fmt_inflate(int kind, const void *in, size_t in_len, void *out, size_t out_len)
{
	/*
	 * Allocation is cheap beside a block's worth of inflating; a thread_local would outlive its
	 * thread.
	 */
	struct libdeflate_decompressor *d = libdeflate_alloc_decompressor();
	enum libdeflate_result r;
	size_t used, made = 0;

	if (!d)
		return -ENOMEM;
	if (kind == FMT_ZLIB)
		r = libdeflate_zlib_decompress_ex(d, in, in_len, out, out_len, &used, &made);
	else
		r = libdeflate_deflate_decompress_ex(d, in, in_len, out, out_len, &used, &made);
	libdeflate_free_decompressor(d);
	if (r != LIBDEFLATE_SUCCESS || made != out_len)
		return -EIO;
	return 0;
}

uint64_t fmt_vhd_geometry(uint64_t sectors, uint16_t *cyls, uint8_t *heads, uint8_t *secs)
{
	uint64_t total = MIN(sectors, 65535ull * 16 * 255), cth;
	unsigned s, h;

	if (total >= 65535ull * 16 * 63) {
		s = 255;
		h = 16;
		cth = total / s;
	} else {
		s = 17;
		cth = total / s;
		h = (cth + 1023) / 1024;
		if (h < 4)
			h = 4;
		if (cth >= h * 1024 || h > 16) {
			s = 31;
			h = 16;
			cth = total / s;
		}
		if (cth >= h * 1024) {
			s = 63;
			h = 16;
			cth = total / s;
		}
	}
	*cyls = cth / h;
	*heads = h;
	*secs = s;
	return (uint64_t)*cyls * h * s;
}
