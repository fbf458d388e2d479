/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * png.c: a picture as a PNG file (RFC 2083: 11.2 chunks; filter 0; 8 bits of red, green, blue).
 * zlib compresses.
 */
#include <errno.h>
#include <stdlib.h>
#include <zlib.h>

#include "vmm/backends/display.h"

static int chunk(int fd, const char *type, const void *data, uint32_t len)
{
	uint8_t head[8], tail[4];
	uLong crc;
	int ret;

	st_be32(head, len);
	memcpy(head + 4, type, 4);
	crc = crc32(crc32(0, Z_NULL, 0), head + 4, 4);
	if (len)
		crc = crc32(crc, data, len);
	st_be32(tail, crc);
	ret = write_full(fd, head, 8);
	if (ret == 0 && len)
		ret = write_full(fd, data, len);
	return ret ? ret : write_full(fd, tail, 4);
}

/* Writes the surface as PNG. 0 or -errno with the reason. */
static int png_write(int fd, const struct surface *s, struct err *err)
{
	static const uint8_t signature[8] = { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n' };
	size_t line = 1 + 3ul * s->width, raw = line * s->height;
	uLongf packed = compressBound(raw);
	uint8_t *in = malloc(raw), *out = malloc(packed), *p = in, header[13] = { 0 };
	int ret = -ENOMEM;

	if (!in || !out)
		goto out;
	for (unsigned y = 0; y < s->height; y++) {
		*p++ = 0;		/* filter: none */
		for (unsigned x = 0; x < s->width; x++) {
			uint32_t c = s->pixels[(size_t)y * s->width + x];

			*p++ = c >> 16;
			*p++ = c >> 8;
			*p++ = c;
		}
	}
	if (compress2(out, &packed, in, raw, 6) != Z_OK)
		goto out;
	st_be32(header, s->width);
	st_be32(header + 4, s->height);
	header[8] = 8;			/* bits */
	header[9] = 2;			/* truecolour */
	ret = write_full(fd, signature, sizeof(signature));
	if (ret == 0)
		ret = chunk(fd, "IHDR", header, sizeof(header));
	if (ret == 0)
		ret = chunk(fd, "IDAT", out, packed);
	if (ret == 0)
		ret = chunk(fd, "IEND", NULL, 0);
out:
	free(in);
	free(out);
	return ret < 0 ? err_set(err, -ret, "the picture cannot be written: %s", strerror(-ret))
		       : 0;
}

static void ignore_change(void *ctx, const struct screen_rect *r)
{
}

int display_screendump(const struct display *d, int fd, struct err *err)
{
	struct screen *s = screen_open(d);
	int ret;

	d->ops->update(s, ignore_change, NULL);
	ret = png_write(fd, d->ops->surface(s), err);
	d->ops->close(s);
	return ret;
}
