/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bmap.h: the engine below every image format that cuts the disk into equal blocks and keeps a
 * table of where each block lies: vmdk extents, vdi, vhd, vhdx, parallels, qcow, cow, cloop. A
 * format supplies lookup and (when it can be written) commit and writeback; reading, copy-on-write,
 * concurrent allocation and ordering are here.
 *
 * Order of writes: data (with its copied head and tail) first; the table is changed in memory when
 * the data has been written, and reaches the file at a flush, after an fdatasync: a crash loses
 * what was not flushed and nothing else.
 *
 * Threads: any number of workers. The lock guards the table and is never held while data moves,
 * except that allocation stands still during a flush.
 */
#ifndef DISK_FORMATS_BMAP_H
#define DISK_FORMATS_BMAP_H

#include <pthread.h>

#include "disk/node.h"

enum bmap_state {
	BMAP_NONE,			/* not here: the backing file's, or zeros */
	BMAP_ZERO,			/* zeros, whatever the backing file has */
	BMAP_DATA,			/* at off in file */
	/* compressed: packed_len bytes at off; unpack() makes a block of it */
	BMAP_PACKED,
};
struct bmap_entry {
	enum bmap_state state;
	uint64_t off;
	uint64_t packed_len;
	/* BMAP_NONE: at least this many blocks are so (0: one); lets big holes be skipped */
	uint64_t span;
};

struct bmap;
struct bmap_ops {
	/* Where block b lies. Lock held; checks what it reads from the file. 0 or -errno. */
	int (*lookup)(struct bmap *m, uint64_t b, struct bmap_entry *e);
	/*
	 * Blocks [b, b + n) now lie at off, off + stride, ...; changes the table in memory. Lock
	 * held.
	 */
	int (*commit)(struct bmap *m, uint64_t b, uint64_t n, uint64_t off);
	/* Blocks [b, b + n) now read as zeros. Lock held. NULL: the format cannot say so. */
	int (*commit_zero)(struct bmap *m, uint64_t b, uint64_t n);
	/* Writes what commit changed. Lock held. */
	int (*writeback)(struct bmap *m);
	/*
	 * Called before data is written into a new or existing block of formats with per-sector
	 * bitmaps. No lock.
	 */
	int (*prepare)(struct bmap *m, uint64_t b, uint64_t off, bool fresh, uint64_t in_block,
		       uint64_t len);
	int (*unpack)(struct bmap *m, uint64_t b, const void *packed, uint64_t packed_len,
		      void *out);
	/*
	 * Formats whose allocated blocks have holes (differencing vhd, cow): the state of the
	 * sectors at in_block, *len shortened to the run that shares it. NULL: a block is all or
	 * nothing. Lock held.
	 */
	bool (*sector_present)(struct bmap *m, uint64_t b, const struct bmap_entry *e,
			       uint64_t in_block, uint64_t *len);
};

struct bmap {
	const struct bmap_ops *ops;
	void *ctx;
	struct node *owner;		/* whose backing file lies below */
	struct node *file;		/* where blocks lie */
	uint64_t backing_off;		/* this map's byte 0 in the backing file */
	uint64_t size;			/* bytes of disk */
	uint64_t block;			/* bytes; a power of two */
	/* bytes a block takes in the file: block, more when a header precedes it */
	uint64_t stride;
	uint64_t head;			/* where the data begins inside the stride */
	uint64_t align;			/* of allocations in the file */
	uint64_t end;			/* where the next block goes */
	bool read_only;
	bool zero_in_place;		/* zeros into a block that has a place are written there */
	/* private */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct bmap_alloc *allocs;
	bool dirty;			/* the table differs from the file */
	uint8_t *unpacked;		/* the block unpacked last */
	uint64_t unpacked_block;
};

/* How long the file is now: another worker may be making it longer. */
static inline uint64_t bmap_file_size(const struct bmap *m)
{
	return __atomic_load_n(&m->file->size, __ATOMIC_RELAXED);
}

void bmap_init(struct bmap *m);
void bmap_destroy(struct bmap *m);
int bmap_read(struct bmap *m, uint64_t off, const struct iovec *iov, int niov, uint64_t skip,
	      uint64_t len);
int bmap_write(struct bmap *m, uint64_t off, const struct iovec *iov, int niov, uint64_t skip,
	       uint64_t len);
int bmap_zeroes(struct bmap *m, uint64_t off, uint64_t len);
int bmap_flush(struct bmap *m);
int bmap_extent(struct bmap *m, uint64_t off, uint64_t len, struct extent *e);
/*
 * Counts blocks that lie in the file and reports entries that two blocks share or that leave the
 * file.
 */
int bmap_check(struct bmap *m, struct node_check *c, uint64_t first_data);

#endif
