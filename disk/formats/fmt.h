/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fmt.h: what the smaller formats share: preallocation, files an image names, inflating.
 */
#ifndef DISK_FORMATS_FMT_H
#define DISK_FORMATS_FMT_H

#include "disk/node.h"

enum prealloc { PREALLOC_OFF, PREALLOC_METADATA, PREALLOC_FALLOC, PREALLOC_FULL };
/* metadata: whether this format knows that mode. */
int opt_get_prealloc(const char *const *opts, bool metadata, enum prealloc *v, struct err *err);

/* A host file named by an image, opened with the image's own rights. */
struct node *fmt_file_open(struct node *n, const char *path, struct err *err);
/* Gives [off, off + len) of a new file its blocks as the mode says. */
int fmt_file_preallocate(struct node *file, uint64_t off, uint64_t len, enum prealloc mode,
			 struct err *err);
/* Flushes and ends the map of an image that is closed; what cannot be written is said. */
struct bmap;
void fmt_close_map(struct node *n, struct bmap *m);
/* A random (version 4) UUID. */
void fmt_uuid(uint8_t uuid[16]);

/*
 * An answer of a format without backing files: what was never written is zeros, and present. flat:
 * data may lie in holes of the file, and then reads as zeros, too.
 */
void fmt_extent_flat(struct extent *e, bool flat);

/*
 * zlib streams and raw deflate through libdeflate; whole buffers. -EIO when the data is not what it
 * should be.
 */
enum { FMT_ZLIB = 0, FMT_RAW_DEFLATE = 1 };
int fmt_inflate(int kind, const void *in, size_t in_len, void *out, size_t out_len);

/*
 * CHS geometry of a disk as VHD's specification computes it; returns cylinders * heads * sectors.
 */
uint64_t fmt_vhd_geometry(uint64_t sectors, uint16_t *cyls, uint8_t *heads, uint8_t *secs);

#endif
