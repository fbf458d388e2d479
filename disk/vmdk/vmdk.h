/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmdk.h: what the files of the VMware disk format share. Specification: "Virtual Disk Format 5.0"
 * (VMware, 2011); vmfsSparse and seSparse by the layout of images ESX writes.
 *
 * vmdk.c        opening, the descriptor, requests handed to extents
 * vmdk_sparse.c grain directories and tables
 * vmdk_stream.c streamOptimized: packed grains, markers, footer
 * vmdk_create.c new images
 */
#ifndef DISK_VMDK_VMDK_H
#define DISK_VMDK_VMDK_H

#include "disk/formats/bmap.h"
#include "disk/formats/fmt.h"

#define VMDK_SECTOR 512u
#define VMDK_GD_AT_END 0xffffffffffffffffull
#define VMDK_DESC_MAX (64 * 1024)
#define VMDK_DESC_SECTORS 20
#define VMDK_GRAIN (64 * KiB)
#define VMDK_GTES 512
#define VMDK_EXTENT_2G (2147483648ull)		/* twoGbMaxExtent*: where the next piece begins */

/* SparseExtentHeader: offsets of its little-endian fields */
enum {
	SPARSE_MAGIC = 0, SPARSE_VERSION = 4, SPARSE_FLAGS = 8, SPARSE_CAPACITY = 12,
	SPARSE_GRAIN = 20,
	SPARSE_DESC = 28, SPARSE_DESC_SIZE = 36, SPARSE_GTES = 44, SPARSE_RGD = 48, SPARSE_GD = 56,
	SPARSE_OVERHEAD = 64, SPARSE_UNCLEAN = 72, SPARSE_NEWLINES = 73, SPARSE_COMPRESS = 77,
};
#define SPARSE_MAGIC_VALUE 0x564d444bu		/* "KDMV" */
#define COWD_MAGIC_VALUE 0x44574f43u		/* "COWD" */
enum {
	SPARSEFLAG_NEWLINE_TEST = 1 << 0, SPARSEFLAG_REDUNDANT = 1 << 1, SPARSEFLAG_ZEROED = 1 << 2,
	SPARSEFLAG_COMPRESSED = 1 << 16, SPARSEFLAG_MARKERS = 1 << 17,
};
enum { MARKER_EOS, MARKER_GT, MARKER_GD, MARKER_FOOTER };
#define MARKER_HEADER 12			/* of a grain: lba u64, size u32 */

enum vmdk_kind { VMDK_FLAT, VMDK_ZERO, VMDK_SPARSE, VMDK_COWD, VMDK_SESPARSE };

struct vmdk_extent {
	enum vmdk_kind kind;
	/* as the descriptor says: "SPARSE"; empty for monolithicSparse */
	char type[16];
	struct node *file;
	bool own_file;			/* opened by us, as opposed to n->file */
	bool read_only;
	uint64_t start, size;		/* bytes of disk */
	uint64_t file_off;		/* VMDK_FLAT */
	/* sparse: */
	struct bmap map;
	uint32_t version, flags;
	bool compressed, zeroed;
	uint32_t gtes;			/* entries of a grain table */
	uint32_t entry;			/* bytes of an entry: 4, seSparse 8 */
	uint64_t gds;			/* entries of the directory */
	uint8_t *gd, *rgd;		/* as in the file; rgd NULL: none */
	uint64_t gd_off, rgd_off;	/* bytes */
	uint8_t **gt;			/* cached tables, host memory, file's byte order */
	uint8_t *gt_dirty;
	uint64_t gt_cached;
	bool gd_dirty;
	uint64_t se_tables, se_grains;	/* seSparse: bytes */
	struct vmdk_stream *stream;	/* being written */
};

struct vmdk {
	struct vmdk_extent **ext;	/* [n]; an extent never moves */
	int n;
	char *desc;			/* descriptor text */
	uint64_t desc_off, desc_max;	/* where it lies in n->file */
	bool own_desc;			/* n->file is the descriptor alone */
	uint32_t cid, parent_cid;
	char create_type[32];
	pthread_mutex_t lock;
	bool cid_changed, parent_checked;
	int parent_error;
};

/* vmdk_sparse.c */
int vmdk_sparse_open(struct node *n, struct vmdk_extent *x, struct err *err);
int vmdk_cowd_open(struct node *n, struct vmdk_extent *x, struct err *err);
int vmdk_sesparse_open(struct node *n, struct vmdk_extent *x, struct err *err);
void vmdk_sparse_close(struct vmdk_extent *x);

/* vmdk_stream.c */
/* Reads the footer of a stream whose header says GD_AT_END into header. */
int vmdk_stream_footer(struct node *file, uint8_t header[512], struct err *err);
int vmdk_stream_unpack(struct bmap *m, uint64_t b, const void *packed, uint64_t len, void *out);
int vmdk_pack(struct node *n, uint64_t off, const void *buf, uint64_t len, void **packed,
	      size_t *packed_len);
int vmdk_put_packed(struct node *n, uint64_t off, const void *packed, size_t packed_len);
/* Writes the directory and the footer that make the stream whole. */
int vmdk_stream_finish(struct vmdk_extent *x);
/*
 * The same for a stream without any grain, whose metadata begins at end. x needs file, gd and gds.
 */
int vmdk_stream_close_empty(struct vmdk_extent *x, uint64_t end);
void vmdk_stream_free(struct vmdk_extent *x);

/* vmdk_create.c */
int vmdk_create(const struct node_create *c, struct err *err);
extern const struct node_opt vmdk_create_opts[];
/* A value of the descriptor: key=value or key="value"; false when it is not there or too long. */
bool vmdk_desc_get(const char *desc, const char *key, char *value, size_t len);
uint32_t vmdk_new_cid(void);
/* The descriptor of an image by name, for its CID; malloc()ed text or NULL. */
char *vmdk_read_descriptor(struct node *file, uint64_t *off, uint64_t *max, struct err *err);

#endif
