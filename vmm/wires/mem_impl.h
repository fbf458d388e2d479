/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mem_impl.h: what mem.c, mem_block.c, mem_map.c and dirty.c share; nobody else includes it. */
#ifndef VMM_WIRES_MEM_IMPL_H
#define VMM_WIRES_MEM_IMPL_H

#include <pthread.h>

#include "vmm/wires/mem.h"

#define PAGE_SHIFT 12
#define PAGE_SIZE 4096ull
#define MEM_MAX_BLOCKS 128
#define BITS_PER_LONG 64

static inline size_t bitmap_longs(uint64_t pages)
{
	return (pages + BITS_PER_LONG - 1) / BITS_PER_LONG;
}

enum block_kind { BLOCK_KIND_ANON, BLOCK_KIND_SHARED, BLOCK_KIND_PRIVATE_FILE };

struct block {
	struct mem *m;
	char *id;
	uint8_t *host;
	/* the address space with its guard pages; NULL for a given mapping */
	void *reserved;
	size_t reserved_len;
	uint64_t size;
	int fd;
	unsigned flags, index;
	enum block_kind kind;
	unsigned pins;			/* atomic */
	/* Dirty state: dirty.c. */
	unsigned nclients;
	/* our writes since the last sync; NULL while nobody listens; atomic */
	unsigned long *own;
	unsigned long *own_storage;
};

/* A part of a block shown to the guest. */
struct piece {
	struct block *block;
	uint64_t gpa, offset, size;
	int prio;
	unsigned seq;
	bool rom;
};

/* What the guest sees at [gpa, last]: immutable once published. */
struct mem_range {
	uint64_t gpa, last;
	uint8_t *host;
	struct block *block;
	uint64_t offset;
	bool rom;
	unsigned slot;
};

static inline uint64_t range_size(const struct mem_range *r)
{
	return r->last - r->gpa + 1;
}

struct mem_map {
	size_t n, biggest;
	struct mem_range r[];
};

struct mem {
	const struct mem_backend *backend;
	void *ctx;
	/*
	 * Where each block lies in our address space, readable without a lock: mem_iov_done runs on
	 * I/O threads. The range of a block that is pinned does not change, and nobody else's can
	 * contain it.
	 */
	struct { uint8_t *start, *end; struct block *block; } hosts[MEM_MAX_BLOCKS];
	unsigned nhosts;		/* entries in use are below this */
	struct piece **pieces;		/* sorted by gpa */
	size_t npieces;
	unsigned next_seq;
	struct mem_map *map;		/* atomic */
	uint64_t generation;		/* atomic */
	pthread_mutex_t mutex;		/* leaf: map changes against dirty_sync; clients */
	pthread_cond_t unpinned;
	unsigned freeing;		/* blocks whose free waits for pins; atomic */
	struct dirty_client *clients;
	unsigned tracking;		/* blocks with clients; atomic */
};

/*
 * mem_block.c: a part of the block, at its host address, reads as zeros from now on. 0 or -errno.
 */
int block_discard_part(struct block *b, uint8_t *host, uint64_t len);

/* dirty.c */
void block_mark(struct block *b, uint64_t off, uint64_t len);
/* The mutex is held: take the backend's log of a range into the clients' bitmaps. */
int dirty_collect_range(struct mem *m, const struct mem_range *r);
bool range_logged(const struct mem *m, const struct mem_range *r);
void dirty_block_added(struct block *b);
void dirty_block_removed(struct block *b);

#endif
