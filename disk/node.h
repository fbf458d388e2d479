/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node.h: one part of a disk's tree: a format (qcow2, vmdk), the file below it, or a filter
 * (throttle, backup).
 *
 * Only the front (disk/blk.c) queues. Nodes are called synchronously on a worker thread, several at
 * once, and call their children synchronously on the same worker; a node keeps its own lock ("image
 * lock") for its metadata: MAP under it, DATA without it, COMMIT under it. The tree changes only
 * while every front above it is drained.
 */
#ifndef DISK_NODE_H
#define DISK_NODE_H

#include "disk/blk.h"

struct node;
struct json_t;

enum { EXT_DATA = 1, EXT_ZERO = 2, EXT_ALLOCATED = 4, EXT_OFFSET = 8, EXT_COMPRESSED = 16,
       EXT_EOF = 32 };
/* What lies at a range of a node: qemu-img map's words. */
struct extent {
	uint64_t len;			/* how far this answer holds, > 0 */
	unsigned flags;			/* EXT_ */
	struct node *file;		/* with EXT_OFFSET: the bytes lie in this child ... */
	uint64_t file_off;		/* ... here */
};

struct node_create {
	const char *filename;
	uint64_t size;
	const char *backing, *backing_format;
	const char *const *opts;	/* "cluster_size=64k", ... NULL-terminated */
	const struct host *host;
};

enum { CHECK_LINES = 100, CHECK_KINDS = 32 };
struct node_check {
	uint64_t corruptions, corruptions_fixed, leaks, leaks_fixed, check_errors;
	uint64_t image_end_offset, total_clusters, allocated_clusters, fragmented_clusters,
		compressed_clusters;
	void (*report)(void *ctx, const char *line);	/* each finding, as text */
	void *ctx;
	struct { const char *fmt; uint64_t lines; } kinds[CHECK_KINDS];	/* told so far */
};
/*
 * For checks: tells a finding. A format is a kind; of each kind CHECK_LINES lines are told. Formats
 * must be constants.
 */
void node_check_say(struct node_check *c, const char *fmt, ...) PRINTF(2, 3);
enum { CHECK_FIX_LEAKS = 1, CHECK_FIX_ERRORS = 2 };
struct node_snapshot {
	char id[128], name[256];
	uint64_t vm_state_size, date_sec, vm_clock_nsec, icount;
	uint32_t date_nsec;
	uint64_t disk_size;
};
struct node_info {
	uint32_t cluster_size;
	bool encrypted, compressed, dirty, corrupt;
	uint64_t vm_state_offset;
	/*
	 * Format-specific lines: keys as qemu-img prints them; values JSON (jansson), owned by the
	 * caller afterwards.
	 */
	struct json_t *specific;
};

/* One -o option of a format, for help and for refusing unknown ones. */
enum node_opt_use { OPT_CREATE, OPT_BOTH, OPT_AMEND };
struct node_opt {
	const char *name;
	/* "size", "bool (on/off)", "str", "num": as -o help prints it */
	const char *type;
	const char *help;
	const char *def;		/* shown by create when not given; NULL: not shown */
	enum node_opt_use amend;	/* whether amend, or amend alone, takes it */
};
/* What a new image of this format would need for the disk given. */
struct node_measure { uint64_t required, fully_allocated, bitmaps; bool has_bitmaps; };
enum bitmap_op { BITMAP_ADD, BITMAP_REMOVE, BITMAP_CLEAR, BITMAP_ENABLE, BITMAP_DISABLE,
                 BITMAP_MERGE };
struct node_bitmap {
	char name[1024];
	uint32_t granularity;
	bool in_use, autoload;
	uint64_t count;
};

struct node_ops {
	const char *format;		/* "qcow2" */
	/* stands before another node while a job runs; not a format of its own */
	bool filter;
	/*
	 * A protocol ("file", "nbd"): true when filename is its kind. It opens n->filename itself;
	 * n->file is NULL.
	 */
	bool (*match)(const char *filename);
	/* How sure a probe is, 0-100, from the first bytes of the file and its name. */
	int (*probe)(const uint8_t *head, size_t len, uint64_t file_size, const char *filename);
	/*
	 * n->file is open; fills in n->size, backing name. Every offset read from the file is
	 * checked.
	 */
	int (*open)(struct node *n, const struct blk_options *o, struct err *err);
	void (*close)(struct node *n);
	int (*create)(const struct node_create *c, struct err *err);

	/* Whole ranges inside [0, size), aligned to n->request_align. 0 or -errno. */
	int (*read)(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len);
	int (*write)(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len,
		     unsigned flags);
	int (*write_compressed)(struct node *n, uint64_t off, const void *buf, uint64_t len);
	/*
	 * Like write, of bytes that a host file has: the kernel copies, or shares them
	 * (copy_file_range). -ENOTSUP: not these.
	 */
	int (*copy_from)(struct node *n, uint64_t off, int fd, uint64_t fd_off, uint64_t len);
	/* -ENOTSUP: the front writes zeros */
	int (*zeroes)(struct node *n, uint64_t off, uint64_t len, unsigned flags);
	int (*discard)(struct node *n, uint64_t off, uint64_t len);
	int (*flush)(struct node *n);
	/* block status of this layer only */
	int (*extent)(struct node *n, uint64_t off, uint64_t len, struct extent *e);
	/*
	 * Fast path: the range is plainly these bytes of a host file and needs no metadata change:
	 * the front may do it by io_uring without a worker. Must not block: -EAGAIN sends the
	 * request to a worker. After 0, plain_done ends it with the same cookie (a freed cluster is
	 * not reused before). plain_done NULL: nothing to end. 1: a read of zeros; nothing to do
	 * and nothing to end.
	 */
	int (*plain)(struct node *n, uint64_t off, uint64_t len, bool write, int *fd,
		     uint64_t *fd_off, uintptr_t *cookie);
	void (*plain_done)(struct node *n, uintptr_t cookie);

	int (*resize)(struct node *n, uint64_t size, struct err *err);
	/*
	 * BLK_RDWR has been added to or taken from n->flags; the children have followed when rdwr,
	 * follow after otherwise.
	 */
	int (*reopen)(struct node *n, bool rdwr, struct err *err);
	int (*inactivate)(struct node *n, struct err *err);
	int (*activate)(struct node *n, struct err *err);
	/*
	 * The tool's and the control socket's part. Optional: NULL gives "format X does not support
	 * ...".
	 */
	int (*check)(struct node *n, struct node_check *c, unsigned fix);
	int (*info)(struct node *n, struct node_info *i);
	int (*set_backing)(struct node *n, const char *backing, const char *format,
			   struct err *err);
	int (*make_empty)(struct node *n);					/* after commit */
	int (*snapshot_create)(struct node *n, const struct node_snapshot *s, struct err *err);
	int (*snapshot_goto)(struct node *n, const char *id_or_name, struct err *err);
	int (*snapshot_delete)(struct node *n, const char *id_or_name, struct err *err);
	int (*snapshot_list)(struct node *n, struct node_snapshot **list, int *count);
	/* convert -l */
	int (*snapshot_load_tmp)(struct node *n, const char *id_or_name, struct err *err);
	/* -o options create knows; ends with name NULL. NULL: only size. */
	const struct node_opt *create_opts;
	/* src is the disk that would be converted, or NULL: then size alone counts. */
	int (*measure)(const char *const *opts, uint64_t size, struct node *src,
		       struct node_measure *m, struct err *err);
	int (*amend)(struct node *n, const char *const *opts, bool force, struct err *err);
	/*
	 * After a resize: mode is "metadata", "falloc" or "full". len 0: only whether it can be
	 * done.
	 */
	int (*preallocate)(struct node *n, uint64_t off, uint64_t len, const char *mode,
			   struct err *err);
	/* granularity: BITMAP_ADD only, 0: default. src, src_name: BITMAP_MERGE only. */
	int (*bitmap)(struct node *n, enum bitmap_op op, const char *name, uint32_t granularity,
		      struct node *src, const char *src_name, struct err *err);
	int (*bitmap_list)(struct node *n, struct node_bitmap **list, int *count);
	/*
	 * Formats whose blocks must be written in ascending order (streamOptimized): pack (several
	 * threads at once) makes the bytes for [off, off + len), put_packed (one thread at a time,
	 * ascending) appends them. *packed is malloc()ed.
	 */
	int (*pack)(struct node *n, uint64_t off, const void *buf, uint64_t len, void **packed,
		    size_t *packed_len);
	int (*put_packed)(struct node *n, uint64_t off, const void *packed, size_t packed_len);
	/*
	 * Bytes beyond the disk for a saved machine (RAM, registers); qcow2 keeps them after the
	 * disk's end.
	 */
	int (*vmstate_read)(struct node *n, void *buf, uint64_t len, uint64_t off);
	int (*vmstate_write)(struct node *n, const void *buf, uint64_t len, uint64_t off);
	/*
	 * What the format changes whenever the disk is changed, as text (VMDK's CID, VHDX's data
	 * write GUID).
	 */
	void (*mark)(struct node *n, char *buf, size_t len);
	/* The i-th file the disk lies in beside file and data_file; NULL: no more. */
	struct node *(*part)(struct node *n, unsigned i);
};

/* A regular file's marks of when it was changed; times in ns. */
struct node_stamp {
	bool known, unlinked;
	uint64_t dev, ino, size;
	int64_t mtime, ctime;
};
/* known false: no regular file (identity.c). */
void node_stamp(int fd, struct node_stamp *s);

struct node {
	const struct node_ops *ops;
	void *priv;			/* the format's own */
	char *filename;
	unsigned flags;			/* BLK_ flags it was opened with */
	uint64_t size;			/* of the disk, bytes */
	uint32_t request_align;
	struct node *file;		/* protocol child; NULL at the leaf */
	struct node *backing;		/* or NULL */
	struct node *data_file;		/* qcow2 external data, or NULL */
	char *backing_name, *backing_format;	/* as written in the image, or NULL */
	unsigned refs;
	/* no lock, no cached metadata, no I/O (but a format's own reading) until node_activate */
	bool inactive;
	bool probed;			/* the format was guessed from the content */
	/* a backing file is about to come: zeros are written down, also where nothing lies below */
	bool record_zeros;
	bool needs_packed;		/* can only be written through pack and put_packed */
	int fd;				/* leaf on a host file: its descriptor; -1 otherwise */
	/* leaf: when it was opened or activated, before anything was written to it by us */
	struct node_stamp opened;
	const struct host *host;	/* what opens its file: &door */
	struct host door;
	char *named_by;			/* the image that named this one; NULL: none */
	/* leaf: named by an image, and outside the folders of images: only for reading */
	bool elsewhere;
	bool backing_said;		/* backing_name is not the image's own word */
};

/* Protocols ("file" last: it takes any name); ends with NULL. disk/formats.c has both tables. */
extern const struct node_ops *const node_protocols[];
/* Formats known, in the order they are probed; ends with NULL. */
extern const struct node_ops *const node_formats[];
const struct node_ops *node_format_find(const char *name);
/* Opens filename with its backing chain (unless BLK_NO_BACKING). NULL with the reason. */
struct node *node_open(const char *filename, const struct blk_options *o, struct err *err);
/* The node opens by a copy of the door (NULL: host_door). */
void node_set_host(struct node *n, const struct host *host);
/* The door for names that stand in this image: its calls say so. Good as long as the node. */
struct host node_names(const struct node *n);
/*
 * The protocol alone: a file, a block device, nbd://. n->ops is a protocol's. For create and for
 * extra files.
 */
struct node *node_open_file(const char *filename, unsigned flags, const struct host *host,
			    struct err *err);
/*
 * A node around a child: filters, tests, overlays made by hand. Takes over the reference on file
 * (may be NULL).
 */
struct node *node_new(const struct node_ops *ops, const char *filename, struct node *file,
		      unsigned flags);
/*
 * Makes (or empties) the host file of a new image, size bytes of holes. Refuses one in use. NULL
 * with the reason.
 */
struct node *node_create_file(const char *filename, uint64_t size, const struct host *host,
			      struct err *err);
/*
 * Runs the format's check: ->check above, and at the end a line for each kind of finding of which
 * lines were left out. -ENOTSUP: the format has none. Drained.
 */
int node_check(struct node *n, struct node_check *c, unsigned fix);
/*
 * A format's create, after looking at the options: unknown ones are refused, sizes of a backing
 * file taken over.
 */
int node_create(const char *format, const struct node_create *c, struct err *err);
/* A format's amend, after looking at the options. */
int node_amend(struct node *n, const char *const *opts, bool force, struct err *err);
/* Does the format's create know this option ("name=value")? */
bool node_create_takes(const struct node_ops *ops, const char *opt);
/* "cluster_size=64k" among opts, or NULL when not given. */
const char *node_create_opt(const char *const *opts, const char *name);
int node_create_opt_size(const char *const *opts, const char *name, uint64_t def, uint64_t *v,
			 struct err *err);
int node_create_opt_bool(const char *const *opts, const char *name, bool def, bool *v,
			 struct err *err);
/*
 * The name of the backing file as it is opened: relative names belong to the overlay's folder. Free
 * it. NULL: none.
 */
char *node_backing_path(const struct node *n);
/*
 * From read-only to writable or back, with the children below that the format writes to. While
 * drained.
 */
int node_set_rdwr(struct node *n, bool rdwr, struct err *err);
int node_inactivate(struct node *n, struct err *err);
int node_activate(struct node *n, struct err *err);
/*
 * The activate of formats that keep nothing of their own over it: opened anew, because their tables
 * are those that another program left. On failure n->priv is NULL.
 */
int node_read_again(struct node *n, struct err *err);
/* n with all below through which it would reach other, or n == other. */
bool node_reaches(const struct node *n, const struct node *other);
void node_ref(struct node *n);
void node_unref(struct node *n);		/* closes at zero */

/*
 * Calls that handle what a format leaves out (zeros past the end, splitting, fallbacks). 0 or
 * -errno.
 */
int node_pread(struct node *n, void *buf, uint64_t len, uint64_t off);
int node_pwrite(struct node *n, const void *buf, uint64_t len, uint64_t off);
int node_readv(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len);
int node_writev(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len,
		unsigned flags);
int node_zeroes(struct node *n, uint64_t off, uint64_t len, unsigned flags);
int node_discard(struct node *n, uint64_t off, uint64_t len);
int node_write_compressed(struct node *n, uint64_t off, const void *buf, uint64_t len);
/*
 * -ENOTSUP, whatever it has written by then, when the kernel cannot: to be read and written
 * instead.
 */
int node_copy_from(struct node *n, uint64_t off, int fd, uint64_t fd_off, uint64_t len);
int node_flush(struct node *n);
/*
 * What its files take on the host, bytes; info: what ops->info answered. -1: not known (a disk over
 * the network).
 */
int64_t node_actual_size(struct node *n, const struct node_info *info);
int node_resize(struct node *n, uint64_t size, struct err *err);
int node_extent(struct node *n, uint64_t off, uint64_t len, struct extent *e);
/* Block status through the backing chain; *owner is the layer that has it. */
int node_extent_chain(struct node *n, uint64_t off, uint64_t len, struct extent *e,
		      struct node **owner);

#endif
