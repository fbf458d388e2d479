/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mem.h: guest memory as a list of blocks: RAM, VRAM, pflash, option ROMs, the generation-id page.
 *
 * Everything a guest hands us as an address goes through the accessors below: they take (gpa, len)
 * and check the whole range. Device DMA reaches blocks only, never device registers. The map of
 * blocks changes only in an exclusive section (vmm/wires/vm.h), so a reader needs no lock;
 * accessors may be called from any thread that is a vCPU in a bus access, a loop callback, or an
 * I/O worker whose request is pinned.
 */
#ifndef VMM_WIRES_MEM_H
#define VMM_WIRES_MEM_H

#include <sys/uio.h>

#include "vmm/base/util.h"

struct mem;
struct block;

enum block_flags {
	BLOCK_ROM = 1 << 0,	/* guest writes are refused (and go to the bus); our writes too */
	BLOCK_SHARED = 1 << 1,	/* memfd, shared mapping: vhost-user and migration can map it */
	BLOCK_HUGE = 1 << 2,	/* wanted: transparent huge pages */
	BLOCK_RAM = 1 << 3,	/* the machine's main memory (as opposed to VRAM, ROM ...) */
};

/*
 * What turns blocks into KVM memory slots; vmm/kvm/kvm.c implements it, tests pass NULL. Exclusive
 * section only.
 */
struct mem_backend {
	/* Make, change (size != 0) or remove (size == 0) the slot. 0 or -errno. */
	int (*slot)(void *ctx, unsigned slot, uint64_t gpa, uint64_t size, void *host, bool rom,
		    bool log_dirty);
	/* Reads and clears the slot's dirty log: one bit per 4 KiB page. 0 or -errno. */
	int (*dirty_log)(void *ctx, unsigned slot, uint64_t size, unsigned long *bitmap);
};

/* Who wins where blocks overlap; a BAR's rank is below RAM's, lower functions first. */
enum mem_prio {
	MEM_PRIO_RAM = 0,
	MEM_PRIO_ROM = 10,	/* firmware and option ROMs over the machine's RAM */
	MEM_PRIO_CHIPSET = 100,	/* what the host bridge shows in place of everything else (PAM) */
};

struct mem *mem_new(const struct mem_backend *backend, void *ctx);
void mem_free(struct mem *m);

/* --- blocks --- */
/*
 * A block of anonymous or memfd memory, zeroed, not yet mapped into the guest. id is unique and
 * stable ("ram", "vram"...): saved machines name it. size is a multiple of 4 KiB.
 */
struct block *block_new(struct mem *m, const char *id, uint64_t size, unsigned flags,
			struct err *err);
/*
 * The same over a given mapping (private file for fast restore, userfaultfd): the block owns host,
 * size and fd (or -1) from now on.
 */
struct block *block_new_mapping(struct mem *m, const char *id, void *host, uint64_t size, int fd,
				unsigned flags);
/*
 * Put a file's bytes from off on (4 KiB aligned) in place of the contents, mapped privately and
 * read on demand: restore in milliseconds. The file must stay as it is; fd is duplicated. Before
 * the guest runs. 0 or -errno.
 */
int block_remap_private(struct block *b, int fd, uint64_t off);
void block_free(struct block *b);		/* unmaps first; waits for pins */
/*
 * Show [offset, offset + size) of the block at gpa; a block may be shown in several pieces (RAM
 * below and above 4 GiB). prio decides who wins where blocks overlap (chipset > RAM > BAR): higher
 * covers lower. Exclusive section, or before the vCPUs run. 0 or -errno.
 */
int block_map(struct block *b, uint64_t gpa, uint64_t offset, uint64_t size, int prio);
void block_unmap(struct block *b);		/* all its pieces */
/*
 * Hide one piece again, gpa and size as it was mapped (PAM registers). Exclusive section. 0 or
 * -ENOENT.
 */
int block_unmap_piece(struct block *b, uint64_t gpa, uint64_t size);
/* Change ROM-ness of a piece (PAM registers). Exclusive section. */
int block_protect(struct block *b, uint64_t gpa, uint64_t size, bool rom);
void *block_host(struct block *b);
uint64_t block_size(const struct block *b);
int block_fd(const struct block *b);
unsigned block_flags(const struct block *b);
const char *block_id(const struct block *b);
struct block *block_find(struct mem *m, const char *id);
struct block *block_next(struct mem *m, struct block *b);	/* NULL starts and ends the list */
/* Pieces in order of gpa, for e820, vhost and dumps: fn returns non-zero to stop. */
int mem_for_each(struct mem *m,
		 int (*fn)(void *ctx, struct block *b, uint64_t gpa, uint64_t offset,
			   uint64_t size),
		 void *ctx);

/* --- accessors: 0, or -EFAULT when any byte lies outside the blocks (or in ROM, for writes) --- */
int mem_read(struct mem *m, uint64_t gpa, void *buf, uint64_t len);
int mem_write(struct mem *m, uint64_t gpa, const void *buf, uint64_t len);
int mem_set(struct mem *m, uint64_t gpa, uint8_t byte, uint64_t len);
/*
 * The guest does not need these pages (balloon): the host gets them back, they read as zeros. 4 KiB
 * aligned.
 */
int mem_discard(struct mem *m, uint64_t gpa, uint64_t len);
/* The whole block, wherever it is shown; nobody is writing to it. */
int block_discard(struct block *b);

/*
 * Direct host address of [gpa, gpa + len), or NULL when it is not wholly inside one block (or in
 * ROM and for_write). Valid until the map changes (mem_generation); for rings, which are looked up
 * once.
 */
void *mem_ptr(struct mem *m, uint64_t gpa, uint64_t len, bool for_write);
uint64_t mem_generation(const struct mem *m);

/*
 * Scatter list of host addresses for [gpa, gpa + len); appends at most max entries, pins their
 * blocks. Returns the number of entries, -EFAULT, or -E2BIG. Each entry is pinned by itself, so one
 * mem_iov_done may cover the entries of several calls; every entry is given to mem_iov_done exactly
 * once.
 */
int mem_iov(struct mem *m, uint64_t gpa, uint64_t len, bool for_write, struct iovec *iov, int max);
/*
 * Unpins; the first `written` bytes of the list were written by us and are marked dirty. Call AFTER
 * the data is there and BEFORE the used index or interrupt tells the guest. A request that failed
 * or was dropped by a reset may have written as well: then `written` is its whole length.
 */
void mem_iov_done(struct mem *m, const struct iovec *iov, int niov, uint64_t written);
/*
 * Whole pages of a piece, or of a part of one, of a pinned list of npieces hold nothing the guest
 * needs (free page reporting): the host gets them back.
 */
void mem_iov_discard(struct mem *m, const struct iovec *part, int npieces);

/* --- dirty pages: one collector, one bitmap for each consumer --- */
struct dirty_client;
/*
 * A consumer of the dirty pages of one block (screen) or of all (b == NULL: migration). All pages
 * start dirty.
 */
struct dirty_client *dirty_client_new(struct mem *m, struct block *b);
void dirty_client_free(struct dirty_client *c);
/* Collects the KVM logs into every client's bitmap. 0 or -errno. */
int mem_dirty_sync(struct mem *m);
/*
 * Moves the client's bits for the block into out (one bit per 4 KiB page) and clears them; returns
 * how many were set.
 */
uint64_t dirty_client_take(struct dirty_client *c, struct block *b, unsigned long *out);
/*
 * Our own write to guest memory behind the accessors' back (used rings). Any thread; cheap when
 * nobody listens.
 */
void mem_mark_dirty(struct mem *m, uint64_t gpa, uint64_t len);
/* The same for an owner that writes its own block (VRAM through a device window), mapped or not. */
void block_mark_dirty(struct block *b, uint64_t off, uint64_t len);

#endif
