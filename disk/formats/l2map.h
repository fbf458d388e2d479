/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * l2map.h: formats that keep a table of tables of 64-bit places: qcow version 1 and qed. The block
 * map (bmap.h) moves the data; here are the tables: read when they are wanted, changed in memory,
 * written at a flush.
 *
 * Order: the data is durable before a table names it (bmap_flush), and a new second-level table is
 * durable before the first level names it: a crash loses what was not flushed, and leaks its space.
 */
#ifndef DISK_FORMATS_L2MAP_H
#define DISK_FORMATS_L2MAP_H

#include "disk/formats/bmap.h"

struct l2map {
	struct bmap map;		/* first: its ctx is this */
	bool big_endian;
	uint64_t l1_off;		/* where the first level lies */
	uint64_t l1_entries;		/* those the disk needs */
	uint64_t l2_entries;		/* of each second-level table; a power of two */
	uint64_t first_data;		/* no table and no block lies before this */
	uint64_t align;			/* of new tables and blocks; a power of two */
	uint64_t place_mask;		/* a place with one of these bits is none */
	/* What an entry says; where a block lies is checked by the caller. 0 or -EIO. */
	int (*decode)(const struct l2map *l, uint64_t v, struct bmap_entry *e);
	/* Makes a block of packed bytes; NULL: the format packs nothing. */
	int (*unpack)(struct bmap *m, uint64_t b, const void *packed, uint64_t len, void *out);
	uint64_t zero_entry;		/* what says "zeros"; 0: the format has no such word */
	/* private */
	uint8_t *l1;			/* as in the file */
	struct l2_table *tables;
	uint64_t loaded;
	uint64_t *dirty, ndirty;	/* numbers of the tables that differ from the file */
};

/* The disk's map, after map.file, owner, size, block and the fields above are set. 0 or -errno. */
int l2map_open(struct l2map *l, struct err *err);
/* Does not flush. */
void l2map_close(struct l2map *l);
/* A block's entry is v from now on (compressed blocks); the bytes it names are written. Locks. */
int l2map_set(struct l2map *l, uint64_t block, uint64_t v);
/* Takes len bytes, at a multiple of align, from the end of the file. Locks. */
uint64_t l2map_take(struct l2map *l, uint64_t len, uint64_t align);
/* Forgets all blocks, in the file too; the file keeps [0, keep). While drained. 0 or -errno. */
int l2map_empty(struct l2map *l, uint64_t keep);
/* Tables in use, and bytes they take. */
void l2map_tables(struct l2map *l, uint64_t *count, uint64_t *bytes);

#endif
