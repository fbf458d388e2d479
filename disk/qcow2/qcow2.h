/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2.h: the qcow2 format, inside (QEMU's docs/interop/qcow2.txt, versions 2 and 3). Only
 * disk/qcow2*.c include it.
 *
 * The rules. Every change to these files is checked against them; tests/img/crash.c and
 * tests/mutants/ do it for you.
 *
 * R1  A refcount increase is durable before any entry points to the cluster; an entry is removed
 *     durably before the
 *     refcount drops. A crash may leak clusters, it never leaves a dangling entry.
 * R2  Data (with the copied head and tail of the cluster) is written before the L2 entry that links
 *     it. Metadata
 *     is written back at a flush: refcounts and new tables, fdatasync (data too), L2 and L1
 *     entries, fdatasync.
 * R3  The metadata has one owner: q->lock. Two writes that allocate in one cluster are serialised
 *     (struct alloc).
 * R4  A freed cluster can be allocated again only after R1 is durable and the I/O under way at that
 *     time has ended
 *     (the epochs below).
 * R5  Every offset read from the file is checked: aligned, inside the file, not over metadata.
 *     Otherwise the image is
 *     marked corrupt and the request fails with EIO.
 * R6  Unknown incompatible feature bits refuse to open. No feature bit changes silently.
 * R7  Locks on the file as lock.c has them; backing files are locked against writers.
 * R8  (raw.c) raw is never guessed for a writable disk without saying so.
 *
 * A request: MAP under the lock (find or allocate clusters), DATA without it, COMMIT under it (set
 * the entries). Reads and overwrites of allocated clusters take no lock at all (qcow2_plain): L2
 * tables in memory are reached through q->map and stay until every epoch that could see them is
 * over.
 *
 * Epochs: whoever uses a host cluster or an L2 table without the lock is inside one of two epochs.
 * What is thrown away waits until the other epoch, in which it could still be seen, is empty.
 *
 * The on-disk ordering holds by construction: a refcount block in memory never has a decrease whose
 * entry is not durably gone (decreases wait in `frees` until a flush has written the entries), so
 * refcount blocks may be written at any time.
 */
#ifndef DISK_QCOW2_QCOW2_H
#define DISK_QCOW2_QCOW2_H

#include <pthread.h>

#include "disk/node.h"

#define QCOW2_MAGIC 0x514649fbu			/* 'Q' 'F' 'I' 0xfb */
enum {
	QCOW2_MIN_CLUSTER_BITS = 9, QCOW2_MAX_CLUSTER_BITS = 21,
	QCOW2_V2_HEADER = 72, QCOW2_V3_HEADER = 104, QCOW2_V3_HEADER_COMPRESSION = 112,
	QCOW2_MAX_L1_BYTES = 32 << 20,
	QCOW2_MAX_REFTABLE_BYTES = 8 << 20,
	QCOW2_MAX_SNAPSHOTS = 65536,
	QCOW2_MAX_SNAPSHOT_BYTES = 64 << 20,
	QCOW2_MAX_SNAPSHOT_EXTRA = 1024,
	QCOW2_MAX_BACKING_NAME = 1023,
	QCOW2_MAX_BITMAPS = 65535,
};
enum {	/* incompatible features */
	QCOW2_INCOMPAT_DIRTY = 1 << 0, QCOW2_INCOMPAT_CORRUPT = 1 << 1,
	QCOW2_INCOMPAT_DATA_FILE = 1 << 2,
	QCOW2_INCOMPAT_COMPRESSION = 1 << 3, QCOW2_INCOMPAT_EXTL2 = 1 << 4,
	QCOW2_INCOMPAT_MASK = 31,
	QCOW2_COMPAT_LAZY_REFCOUNTS = 1 << 0,
	QCOW2_AUTOCLEAR_BITMAPS = 1 << 0, QCOW2_AUTOCLEAR_DATA_FILE_RAW = 1 << 1,
	QCOW2_AUTOCLEAR_MASK = 3,
};
enum {	/* header extensions */
	QCOW2_EXT_END = 0, QCOW2_EXT_BACKING_FORMAT = 0xe2792aca,
	QCOW2_EXT_FEATURE_NAMES = 0x6803f857,
	QCOW2_EXT_BITMAPS = 0x23852875, QCOW2_EXT_CRYPTO = 0x0537be77,
	QCOW2_EXT_DATA_FILE = 0x44415441,
};
enum { QCOW2_CRYPT_NONE, QCOW2_CRYPT_AES, QCOW2_CRYPT_LUKS };
enum { QCOW2_COMPRESSION_ZLIB, QCOW2_COMPRESSION_ZSTD };

#define L1E_OFFSET 0x00fffffffffffe00ull
#define L2E_OFFSET 0x00fffffffffffe00ull
#define L2E_COPIED (1ull << 63)
#define L2E_COMPRESSED (1ull << 62)
#define L2E_ZERO (1ull << 0)
#define REFT_OFFSET 0xfffffffffffffe00ull
/* Extended L2: the second word; bit n: subcluster n is allocated; bit 32 + n: it reads as zeros. */
#define SC_ALLOC(n) (1ull << (n))
#define SC_ZERO(n) (1ull << (32 + (n)))
#define SC_ALL_ALLOC 0xffffffffull
#define SC_ALL_ZERO 0xffffffff00000000ull

/* The fields of the header, in the machine's byte order. */
struct qcow2_header {
	uint32_t version, cluster_bits, crypt_method, l1_size, reftable_clusters, nb_snapshots;
	uint64_t backing_offset, size, l1_offset, reftable_offset, snapshots_offset;
	uint32_t backing_len;
	uint64_t incompatible, compatible, autoclear;
	uint32_t refcount_order, header_length;
	uint8_t compression_type;
};

/* An L2 table or refcount block in memory; `data` has the file's byte order. */
struct table {
	uint8_t *data;
	uint64_t host;			/* where it lies in the file */
	uint64_t index;			/* in the L1 or refcount table */
	uint64_t *dirty;		/* a bit for each 512-byte sector */
	bool is_dirty;
	/* nothing in the file points to it yet: written whole before it is linked */
	bool fresh;
	bool suspect;			/* holds an entry that fails R5: no fast path */
	bool refblock;
	unsigned pins;			/* not to be evicted */
	uint64_t used;			/* clock of last use, for eviction */
	struct table *prev, *next;	/* all tables of its kind */
};
struct table_list { struct table *head; uint64_t count, max; };

/* Clusters being allocated for a guest range, from MAP to COMMIT (R3). */
struct alloc {
	uint64_t first, count;		/* guest clusters */
	struct alloc *next;
};

/* Host clusters whose refcounts drop by one when it is safe. */
struct qcow2_free { uint64_t host, count; /* clusters */ };
struct free_list { struct qcow2_free *v; size_t n, max; };

struct epochs {
	unsigned current;		/* atomic; its lowest bit chooses the counter */
	unsigned users[2];		/* atomic */
	/* Thrown away; the second waits for users[waiting_for] to be zero. */
	struct free_list pending, waiting;
	struct table *dead, *dead_waiting;
	unsigned waiting_for;
	bool busy;			/* something waits */
};

struct qcow2_snapshot {
	uint64_t l1_offset, date_sec, vm_clock_nsec, vm_state_size, disk_size, icount;
	uint32_t l1_size, date_nsec;
	char *id, *name;
	uint8_t *extra;			/* unknown extra data, kept */
	uint32_t extra_len;
	bool broken;			/* its L1 table cannot be there: listed, not used */
};

struct qcow2_ext { uint32_t type, len; uint8_t *data; struct qcow2_ext *next; };

struct qcow2_bitmaps;
struct crypt;

struct qcow2 {
	struct node *n;
	struct qcow2_header h;
	struct qcow2_ext *exts;		/* as found, but those the header itself writes */
	char *data_file_name;
	uint64_t cluster_size;
	/* rb: entries of a refcount block */
	unsigned cluster_bits, l2_bits, entry_size, rb_bits;
	/* subclusters; a cluster is its own without extended L2 */
	unsigned sc_bits, sc_per_cluster;
	uint64_t refcount_max;
	/* what lies beyond the file's end reads as zeros when the file grows */
	bool sparse_file;
	bool corrupt;			/* atomic */
	bool no_repair;			/* opened for check: nothing is mended on the way */

	pthread_mutex_t lock;		/* the image lock: all below; never held while data moves */
	pthread_cond_t changed;		/* an alloc has ended */
	struct alloc *allocs;
	uint64_t *l1;			/* machine's order */
	uint64_t l1_size;		/* entries in memory == h.l1_size */
	uint64_t *l1_dirty;		/* a bit for each 512-byte sector */
	bool l1_is_dirty;
	struct table **map;		/* [l1_size], atomic */
	struct table_list l2s;
	uint64_t *reft;
	uint64_t reft_size;		/* entries */
	uint64_t *reft_dirty;
	bool reft_is_dirty;
	struct table **rmap;		/* [reft_size] */
	struct table_list rbs;
	uint64_t clock;			/* for eviction */
	uint64_t free_hint;		/* no free cluster below */
	/* clusters never used before begin here (file's end at open, or above) */
	uint64_t end;
	uint64_t bytes_next;		/* where the next compressed cluster goes on, or 0 */
	/* hash set of host clusters that hold L2 tables and refcount blocks */
	uint64_t *meta;
	size_t meta_n, meta_size;
	struct free_list frees;		/* entries removed in memory, not durably */
	struct epochs epochs;
	bool need_flush;		/* the cache is full of dirty tables, or `frees` is long */
	pthread_mutex_t flush_lock;	/* one flush at a time; taken before lock */
	bool discard_files;		/* punch holes for freed clusters */

	struct qcow2_snapshot *snapshots;	/* h.nb_snapshots of them */
	uint64_t snapshots_len;		/* of their table in the file, bytes */
	/* entries after those that make no sense; the header in the file counts them, too */
	uint32_t snapshots_lost;
	bool bitmaps_broken;		/* their directory makes no sense */
	struct qcow2_bitmaps *bitmaps;	/* NULL: none are being kept */
	bool bitmaps_watch;		/* one of them records what the guest writes */
	struct crypt *crypt;
	/* unpacked compressed clusters; own lock */
	struct qcow2_cbuf { uint64_t entry, used; uint8_t *data; } cbuf[4];
	uint64_t cbuf_clock;
	pthread_mutex_t cbuf_lock;
};

static inline uint64_t q_clusters(const struct qcow2 *q, uint64_t bytes)
{
	return (bytes >> q->cluster_bits) + !!(bytes & (q->cluster_size - 1));
}
static inline uint64_t q_in_cluster(const struct qcow2 *q, uint64_t off)
{
	return off & (q->cluster_size - 1);
}
static inline uint64_t q_l1_index(const struct qcow2 *q, uint64_t off)
{
	return off >> (q->cluster_bits + q->l2_bits);
}
static inline uint64_t q_l2_index(const struct qcow2 *q, uint64_t off)
{
	return (off >> q->cluster_bits) & ((1ull << q->l2_bits) - 1);
}
static inline uint64_t q_refcount_max(unsigned order)
{
	return order == 6 ? INT64_MAX : (1ull << (1u << order)) - 1;
}
static inline bool q_ext_l2(const struct qcow2 *q) { return q->entry_size == 16; }
/*
 * May something show through an unallocated cluster once the image is open with its backing file,
 * or has the one it will get? The file need not be open now (BLK_NO_BACKING).
 */
static inline bool q_below(const struct qcow2 *q)
{
	return q->n->backing || q->n->backing_name || q->n->record_zeros;
}
/* Where data clusters lie. */
static inline struct node *q_data(const struct qcow2 *q)
{
	return q->n->data_file ? q->n->data_file : q->n->file;
}

/* --- qcow2_header.c --- */
int qcow2_header_parse(struct node *file, struct qcow2_header *h, struct err *err);
int qcow2_exts_load(struct qcow2 *q, struct err *err);
void qcow2_exts_free(struct qcow2 *q);
struct qcow2_ext *qcow2_ext_find(struct qcow2 *q, uint32_t type);
/* data NULL: remove */
void qcow2_ext_set(struct qcow2 *q, uint32_t type, const void *data, uint32_t len);
/* The first sector only: numbers and feature bits. One write, whole or not at all. */
int qcow2_header_update(struct qcow2 *q);
/* The whole header cluster: extensions, names. */
int qcow2_header_rewrite(struct qcow2 *q, struct err *err);
/* All of a header for a new image into buf (one cluster). -ENOSPC when it does not fit. */
int qcow2_header_build(const struct qcow2_header *h, struct qcow2_ext *exts, const char *backing,
		       const char *backing_format, const char *data_file, bool names_too,
		       uint8_t *buf, size_t len);
/* Sets or clears incompatible bits, durably. */
int qcow2_set_incompatible(struct qcow2 *q, uint64_t set, uint64_t clear);
/* R5 was broken: says so, marks the image, returns -EIO. With the lock. */
int qcow2_corrupt(struct qcow2 *q, const char *fmt, ...) PRINTF(2, 3);

/* --- qcow2_cache.c: tables in memory --- */
struct table *table_new(struct qcow2 *q, bool refblock, uint64_t index, uint64_t host);
void table_drop(struct qcow2 *q, struct table *t);
/* Drops clean, unused tables until the cache is within its size. With the lock. */
void tables_trim(struct qcow2 *q, struct table_list *l);
void tables_drop_all(struct qcow2 *q);
void table_dirty(struct qcow2 *q, struct table *t, uint64_t byte, uint64_t len);
int l2_get(struct qcow2 *q, uint64_t l1_index, struct table **t);	/* *t NULL: there is none */
int l2_get_writable(struct qcow2 *q, uint64_t l1_index, struct table **t);
void l1_set(struct qcow2 *q, uint64_t index, uint64_t entry);
void meta_add(struct qcow2 *q, uint64_t host);
void meta_del(struct qcow2 *q, uint64_t host);
bool meta_has(const struct qcow2 *q, uint64_t host);
/*
 * Does [off, off+len) of the file hold any of the header, L1, refcount table, snapshot table, L2
 * tables, refcount blocks?
 */
bool meta_overlaps(const struct qcow2 *q, uint64_t off, uint64_t len);
/* aligned, inside the file: for metadata */
bool host_ok(const struct qcow2 *q, uint64_t host, uint64_t len);

/* --- qcow2_flush.c --- */
int qcow2_flush(struct node *n);
/* all metadata and frees; with nothing else going on (drained) */
int qcow2_flush_locked_out(struct qcow2 *q);
unsigned epoch_enter(struct qcow2 *q);
void epoch_leave(struct qcow2 *q, unsigned epoch);
/* Gives back what is no longer seen. With the lock. */
int free_later(struct qcow2 *q, struct free_list *l, uint64_t host, uint64_t clusters);

/* --- qcow2_refcount.c. With the lock. --- */
uint64_t refcount_read(const struct qcow2 *q, const uint8_t *block, uint64_t i);
void refcount_write(const struct qcow2 *q, uint8_t *block, uint64_t i, uint64_t v);
int refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *v);
int refcount_add(struct qcow2 *q, uint64_t cluster, uint64_t count, int delta);
/* count clusters in a row with refcount 1; *host their offset. At most `want`, at least one. */
int clusters_alloc(struct qcow2 *q, uint64_t want, uint64_t *host, uint64_t *got);
/* The same, of clusters that nothing has ever used: they read as zeros where sparse_file is set. */
int clusters_alloc_unused(struct qcow2 *q, uint64_t want, uint64_t *host, uint64_t *got);
/* All of them in one piece, however many. */
int clusters_alloc_all(struct qcow2 *q, uint64_t want, uint64_t *host);
/* Room for a compressed cluster. */
int bytes_alloc(struct qcow2 *q, uint64_t len, uint64_t *host);
/* Clusters that nothing in the file has ever pointed to. */
void clusters_unalloc(struct qcow2 *q, uint64_t host, uint64_t count);

/* --- qcow2_map.c: what an L2 entry says --- */
enum map_type { MAP_UNALLOCATED, MAP_ZERO, MAP_ZERO_ALLOC, MAP_NORMAL, MAP_COMPRESSED };
struct mapping {
	enum map_type type;
	/* NORMAL, ZERO_ALLOC: of the first byte asked for. COMPRESSED: of the packed bytes */
	uint64_t host;
	uint64_t len;			/* bytes this holds for */
	uint64_t packed_len;		/* COMPRESSED: at most */
	uint64_t entry;
	bool copied;			/* may be written in place */
};
void entry_load(const struct qcow2 *q, const struct table *t, uint64_t i, uint64_t *entry,
		uint64_t *bitmap);
void entry_store(struct qcow2 *q, struct table *t, uint64_t i, uint64_t entry, uint64_t bitmap);
enum map_type entry_type(const struct qcow2 *q, uint64_t entry, uint64_t bitmap, unsigned sc);
/* R5 for one entry. */
bool entry_ok(const struct qcow2 *q, uint64_t entry, uint64_t bitmap, uint64_t guest_cluster);
void entry_packed(const struct qcow2 *q, uint64_t entry, uint64_t *host, uint64_t *len);
/* The mapping at off, merged with what follows, at most len bytes. With the lock. */
int qcow2_map(struct qcow2 *q, uint64_t off, uint64_t len, struct mapping *m);
/* Gives up what an entry refers to, once that is safe. With the lock. */
int entry_free(struct qcow2 *q, uint64_t entry);

/* --- qcow2_io.c --- */
int qcow2_read(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len);
int qcow2_write(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len,
		unsigned flags);
int qcow2_copy_from(struct node *n, uint64_t off, int fd, uint64_t fd_off, uint64_t len);
int qcow2_plain(struct node *n, uint64_t off, uint64_t len, bool write, int *fd, uint64_t *fd_off,
		uintptr_t *cookie);
void qcow2_plain_done(struct node *n, uintptr_t cookie);
int qcow2_extent(struct node *n, uint64_t off, uint64_t len, struct extent *e);
/*
 * Holds a guest range against other allocations. With the lock, which alloc_begin may drop while it
 * waits.
 */
void alloc_begin(struct qcow2 *q, struct alloc *a, uint64_t first, uint64_t count);
void alloc_end(struct qcow2 *q, struct alloc *a);

/* --- qcow2_zero.c --- */
int qcow2_zeroes(struct node *n, uint64_t off, uint64_t len, unsigned flags);
int qcow2_discard(struct node *n, uint64_t off, uint64_t len);
int qcow2_forget(struct qcow2 *q, uint64_t off, uint64_t len);

/* --- qcow2_compress.c --- */
int qcow2_write_compressed(struct node *n, uint64_t off, const void *buf, uint64_t len);
/* Reads [skip, skip + len) of a compressed cluster. */
int qcow2_read_compressed(struct qcow2 *q, const struct mapping *m, uint64_t skip, uint64_t pos,
			  const struct iovec *iov, int niov, uint64_t len);
void qcow2_cbuf_drop(struct qcow2 *q);

/* --- qcow2_create.c, qcow2_resize.c, qcow2_info.c --- */
extern const struct node_opt qcow2_create_opts[];
int qcow2_create(const struct node_create *c, struct err *err);
int qcow2_measure(const char *const *opts, uint64_t size, struct node *src, struct node_measure *m,
		  struct err *err);
int qcow2_resize(struct node *n, uint64_t size, struct err *err);
/* Whether qcow2_resize would refuse, were the image of this version. Changes nothing. */
int qcow2_resize_check(struct qcow2 *q, uint32_t version, uint64_t size, struct err *err);
int qcow2_preallocate(struct node *n, uint64_t off, uint64_t len, const char *mode,
		      struct err *err);
int qcow2_l1_grow(struct qcow2 *q, uint64_t entries, struct err *err);
int qcow2_amend(struct node *n, const char *const *opts, bool force, struct err *err);
int qcow2_set_backing(struct node *n, const char *backing, const char *format, struct err *err);
int qcow2_make_empty(struct node *n);
int qcow2_info(struct node *n, struct node_info *i);

/* --- qcow2_check.c --- */
int qcow2_check(struct node *n, struct node_check *c, unsigned fix);
/* try_only: whether it could be done; nothing changes. */
int qcow2_refcount_width(struct qcow2 *q, unsigned order, bool try_only, struct err *err);

/* --- qcow2_snapshot.c --- */
int qcow2_snapshots_load(struct qcow2 *q, struct err *err);
void qcow2_snapshots_free(struct qcow2 *q);
bool qcow2_snapshots_damaged(const struct qcow2 *q);
/* Removes the damaged entries. Opened for check alone. */
int qcow2_snapshots_mend(struct qcow2 *q, struct node_check *c);
/*
 * The list at a new place, then the header, then the old place is given up. Sets q->snapshots on
 * success.
 */
int qcow2_snapshots_write(struct qcow2 *q, struct qcow2_snapshot *list, uint32_t n);
int qcow2_snapshot_create(struct node *n, const struct node_snapshot *s, struct err *err);
int qcow2_snapshot_goto(struct node *n, const char *id_or_name, struct err *err);
int qcow2_snapshot_delete(struct node *n, const char *id_or_name, struct err *err);
int qcow2_snapshot_list(struct node *n, struct node_snapshot **list, int *count);
int qcow2_snapshot_load_tmp(struct node *n, const char *id_or_name, struct err *err);
int qcow2_vmstate_read(struct node *n, void *buf, uint64_t len, uint64_t off);
int qcow2_vmstate_write(struct node *n, const void *buf, uint64_t len, uint64_t off);
uint64_t qcow2_vmstate_offset(const struct qcow2 *q);

/* --- qcow2.c --- */
/* Forgets all that is in memory and reads it again (after snapshots, repair, activation). */
int qcow2_reload(struct qcow2 *q, struct err *err);

#endif
