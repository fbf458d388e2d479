/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * snapshot.c: see snapshot.h. Header, tree and memory carry CRC-32C; a restore checks the first
 * two, because reading all memory would cost more than the rest of it, snapshot_verify checks all
 * three. Everything read from a file is hostile. Numbers of the header are little-endian.
 */
#include <errno.h>
#include <fcntl.h>
#include <libfdt.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/sigbus.h"
#include "vmm/machine/machine_state.h"
#include "vmm/move/snapshot.h"

#define PAGE 4096ull
#define PURPOSE "saved machine"
/* has a checksum; blocks begin at a multiple, so that huge pages stay possible */
#define CHUNK (2 * MiB)
#define FLUSH_CHUNKS 8			/* written back together */
#define HEADER_SIZE 4096
#define HEADER_VERSION 1
#define MAX_TREE (64 * MiB)

static const uint8_t magic[8] = { 'M', 'I', 'N', 'I', 'V', 'M', 'M', 0x1a };
enum {	/* offsets in the header */
	H_MAGIC = 0, H_VERSION = 8, H_TREE_OFF = 16, H_TREE_LEN = 24, H_TREE_CRC = 32,
	H_FILE_LEN = 40, H_CRC = HEADER_SIZE - 4,
};

bool page_is_zero(const void *page)
{
	static const char zeros[64];

	return !memcmp(page, zeros, sizeof(zeros)) &&
	       !memcmp(page, (const char *)page + sizeof(zeros), PAGE - sizeof(zeros));
}

/* --- saving --- */

struct saved_block {
	struct block *b;
	uint64_t off;
	uint8_t *crcs;			/* big-endian, one for each chunk; 0: all zeros */
	size_t nchunks;
};

struct saver {
	struct machine *m;
	int fd;
	struct saved_block blocks[128];
	unsigned nblocks;
	uint64_t end, done, total;
	bool (*progress)(void *ctx, uint64_t done, uint64_t total);
	void *ctx;
	struct err *err;
};

static int layout(struct saver *s)
{
	struct block *b = NULL;

	s->end = CHUNK;
	while ((b = block_next(s->m->mem, b))) {
		struct saved_block *sb = &s->blocks[s->nblocks++];

		sb->b = b;
		sb->off = s->end;
		sb->nchunks = (block_size(b) + CHUNK - 1) / CHUNK;
		sb->crcs = xcalloc(sb->nchunks, 4);
		s->end = ALIGN_UP(s->end + block_size(b), CHUNK);
		s->total += block_size(b);
	}
	return ftruncate(s->fd, s->end) ? err_set(s->err, errno, "%s", strerror(errno)) : 0;
}

/*
 * The next run of pages that anybody ever touched; a look into a hole of shared memory would fill
 * it.
 */
struct run {
	uint64_t start, end;
};

static struct run next_touched(struct block *b, uint64_t off)
{
	struct run all = { off, block_size(b) }, r;
	off_t at;

	if (!(block_flags(b) & BLOCK_SHARED) || block_fd(b) < 0)
		return all;
	at = lseek(block_fd(b), off, SEEK_DATA);
	if (at < 0)
		return errno == ENXIO ? (struct run){ block_size(b), block_size(b) } : all;
	r.start = ALIGN_DOWN((uint64_t)at, PAGE);
	at = lseek(block_fd(b), at, SEEK_HOLE);
	r.end = at < 0 ? block_size(b) : ALIGN_UP((uint64_t)at, PAGE);
	return r;
}

/* One chunk: writes the runs of pages that are not zero, makes the checksum. */
static int save_chunk(struct saver *s, struct saved_block *sb, uint64_t chunk)
{
	static const uint8_t zeros[PAGE];
	uint64_t start = chunk * CHUNK, end = MIN(start + CHUNK, block_size(sb->b)),
		 first = UINT64_MAX;
	struct run touched = next_touched(sb->b, start);
	const uint8_t *host = block_host(sb->b);
	uint32_t crc = 0;
	bool any = false;
	int ret = 0;

	if (touched.start >= end)
		return 0;
	for (uint64_t at = start; at < end && ret == 0; at += PAGE) {
		bool data;

		if (at >= touched.end)
			touched = next_touched(sb->b, at);
		data = at >= touched.start && !page_is_zero(host + at);
		crc = crc32c(crc, data ? host + at : zeros, PAGE);
		any |= data;
		if (data && first == UINT64_MAX)
			first = at;
		if (first != UINT64_MAX && (!data || at + PAGE == end)) {
			ret = pwrite_full(s->fd, host + first, at + (data ? PAGE : 0) - first,
					  sb->off + first);
			first = UINT64_MAX;
		}
	}
	st_be32(sb->crcs + 4 * chunk, any ? crc : 0);
	return ret < 0 ? err_set(s->err, -ret, "writing memory: %s", strerror(-ret)) : 0;
}

static int save_memory(struct saver *s)
{
	for (unsigned i = 0; i < s->nblocks; i++) {
		struct saved_block *sb = &s->blocks[i];

		for (uint64_t c = 0; c < sb->nchunks; c++) {
			int ret = save_chunk(s, sb, c);

			if (ret < 0)
				return ret;
			/*
			 * On its way to the disk at once, beside the copying; the wait at the end
			 * is for the rest.
			 */
			if (c % FLUSH_CHUNKS == FLUSH_CHUNKS - 1)
				sync_file_range(s->fd, sb->off + (c + 1 - FLUSH_CHUNKS) * CHUNK,
						FLUSH_CHUNKS * CHUNK, SYNC_FILE_RANGE_WRITE);
			s->done += MIN(CHUNK, block_size(sb->b) - c * CHUNK);
			if (s->progress && !s->progress(s->ctx, s->done, s->total))
				return err_set(s->err, ECANCELED, "cancelled");
		}
	}
	return 0;
}

static void describe_block(void *ctx, struct block *b, struct state_out *o)
{
	struct saver *s = ctx;

	for (unsigned i = 0; i < s->nblocks; i++) {
		if (s->blocks[i].b == b) {
			state_u64(o, "offset", s->blocks[i].off);
			state_bytes(o, "checksums", s->blocks[i].crcs, 4 * s->blocks[i].nchunks);
		}
	}
}

static int save_tree(struct saver *s)
{
	uint8_t header[HEADER_SIZE] = { 0 };
	void *blob;
	size_t len;
	int ret = machine_save(s->m, describe_block, s, true, &blob, &len, s->err);

	if (ret < 0)
		return ret;
	memcpy(header + H_MAGIC, magic, sizeof(magic));
	st_le32(header + H_VERSION, HEADER_VERSION);
	st_le64(header + H_TREE_OFF, s->end);
	st_le64(header + H_TREE_LEN, len);
	st_le32(header + H_TREE_CRC, crc32c(0, blob, len));
	st_le64(header + H_FILE_LEN, s->end + len);
	st_le32(header + H_CRC, crc32c(0, header, H_CRC));
	ret = pwrite_full(s->fd, blob, len, s->end);
	if (ret == 0)
		ret = pwrite_full(s->fd, header, sizeof(header), 0);
	if (ret == 0 && fdatasync(s->fd) < 0)
		ret = -errno;
	free(blob);
	return ret < 0 ? err_set(s->err, -ret, "%s", strerror(-ret)) : 0;
}

static int save_paused(struct saver *s)
{
	int ret = machine_quiesce(s->m, s->err);

	if (ret < 0)
		return ret;
	if ((ret = layout(s)) == 0 && (ret = save_memory(s)) == 0)
		ret = save_tree(s);
	machine_unquiesce(s->m);
	for (unsigned i = 0; i < s->nblocks; i++)
		free(s->blocks[i].crcs);
	return ret;
}

/* The new name must be on the disk, too. */
static int sync_folder(struct machine *m, const char *path)
{
	char *copy = xstrdup(path);
	int fd = host_open(&m->host, PURPOSE, dirname(copy), O_RDONLY | O_DIRECTORY, 0, NULL);
	int ret = MIN(fd, 0);

	free(copy);
	if (fd < 0)
		return ret;
	if (fsync(fd) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/*
 * A file without a name in path's folder, so that nothing is left behind by a kill; where that is
 * not possible, one with.
 */
static int open_new(struct machine *m, const char *path, const char *tmp, bool *named,
		    struct err *err)
{
	char *copy = xstrdup(path);
	int fd = host_open(&m->host, PURPOSE, dirname(copy), O_TMPFILE | O_RDWR, 0600, NULL);

	free(copy);
	*named = fd < 0;
	return fd < 0 ? host_open(&m->host, PURPOSE, tmp, O_RDWR | O_CREAT | O_EXCL, 0600, err)
		      : fd;
}

static int give_name(struct saver *s, const char *path, const char *tmp, bool *named)
{
	const struct host *h = &s->m->host;
	int ret = *named ? 0 : host_link(h, PURPOSE, s->fd, tmp);

	if (ret < 0)
		return ret;
	*named = true;
	ret = host_rename(h, PURPOSE, tmp, path);
	return ret < 0 ? ret : sync_folder(s->m, path);
}

int snapshot_save(struct machine *m, const char *path,
		  bool (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx,
		  struct err *err)
{
	struct saver *s = xcalloc(1, sizeof(*s));
	uint32_t random = 0;
	char *tmp;
	bool named = false;
	int ret;

	/* Without it the name can be guessed, which O_EXCL makes harmless. */
	if (getrandom(&random, sizeof(random), 0) < 0)
		random = 0;
	tmp = xasprintf("%s.%d.%08x", path, getpid(), random);
	*s = (struct saver){ .m = m, .progress = progress, .ctx = ctx, .err = err };
	ret = s->fd = open_new(m, path, tmp, &named, err);
	if (ret < 0)
		goto out;
	vm_pause(m->vm, PAUSE_SAVE);
	ret = save_paused(s);
	vm_resume(m->vm, PAUSE_SAVE);
	if (ret == 0 && (ret = give_name(s, path, tmp, &named)) < 0)
		err_set(err, -ret, "%s", strerror(-ret));
	if (ret < 0 && named)
		host_unlink(&m->host, tmp, s->fd);
	close(s->fd);
out:
	if (ret < 0)
		err_prefix(err, "saving the machine to '%s'", path);
	free(tmp);
	free(s);
	return ret;
}

/* --- loading --- */

struct snapshot {
	int fd;
	void *tree;
	uint64_t tree_off;
	size_t tree_len;
	const char *path;
	struct err *err;
};

static void snapshot_close(struct snapshot *s)
{
	if (s->fd >= 0)
		close(s->fd);
	free(s->tree);
}

/* Header and tree, checked. 0 or -errno with the reason. */
static int snapshot_open(struct snapshot *s, const char *path, struct err *err)
{
	uint8_t h[HEADER_SIZE];
	struct stat st;
	int ret;

	*s = (struct snapshot){ .path = path, .err = err };
	s->fd = host_open(&host_door, PURPOSE, path, O_RDONLY, 0, err);
	if (s->fd < 0)
		return err_set(err, errno, "cannot open '%s': %s", path, strerror(errno));
	if (fstat(s->fd, &st) < 0 || pread_full(s->fd, h, sizeof(h), 0) < 0 ||
	    memcmp(h, magic, sizeof(magic)))
		return err_set(err, EINVAL, "'%s' is no saved machine", path);
	if (ld_le32(h + H_CRC) != crc32c(0, h, H_CRC))
		return err_set(err, EINVAL, "'%s': the header is damaged (wrong checksum)", path);
	if (ld_le32(h + H_VERSION) != HEADER_VERSION)
		return err_set(err, EINVAL, "'%s': version %u of the file; this program knows %u",
			       path, ld_le32(h + H_VERSION), HEADER_VERSION);
	if ((uint64_t)st.st_size != ld_le64(h + H_FILE_LEN))
		return err_set(
			err, EINVAL,
			"'%s' has %lld bytes and should have %llu: it was cut off or added to",
			path, (long long)st.st_size, (unsigned long long)ld_le64(h + H_FILE_LEN));
	s->tree_off = ld_le64(h + H_TREE_OFF);
	s->tree_len = ld_le64(h + H_TREE_LEN);
	if (s->tree_len > MAX_TREE || !range_ok(s->tree_off, s->tree_len, st.st_size))
		return err_set(err, EINVAL, "'%s': the header is impossible", path);
	s->tree = malloc(s->tree_len ? s->tree_len : 1);
	if (!s->tree)
		return err_set(err, ENOMEM, "'%s': out of memory", path);
	ret = pread_full(s->fd, s->tree, s->tree_len, s->tree_off);
	if (ret < 0)
		return err_set(err, -ret, "'%s': %s", path, strerror(-ret));
	if (crc32c(0, s->tree, s->tree_len) != ld_le32(h + H_TREE_CRC))
		return err_set(err, EINVAL, "'%s': the machine's state is damaged (wrong checksum)",
			       path);
	return 0;
}

static int restore_block(void *ctx, struct block *b, struct state_in *in)
{
	struct snapshot *s = ctx;
	const void *crcs;
	uint64_t off;
	size_t n;
	int ret;

	state_get_u64(in, "offset", &off);
	state_get_blob(in, "checksums", &crcs, &n, SIZE_MAX);
	if (state_in_error(in))
		return -EINVAL;
	if (off % PAGE || !range_ok(off, block_size(b), s->tree_off))
		return state_bad(in, "its place in the file is impossible");
	if (block_size(b) >= MiB) {
		if ((ret = block_remap_private(b, s->fd, off)) == 0)
			sigbus_watch(block_host(b), block_size(b), s->path);
	} else {
		ret = pread_full(s->fd, block_host(b), block_size(b), off);
	}
	return ret < 0 ? state_bad(in, "%s", strerror(-ret)) : 0;
}

int snapshot_restore(struct machine *m, const char *path, struct err *err)
{
	struct snapshot s;
	int ret = snapshot_open(&s, path, err);

	if (ret == 0) {
		ret = machine_load(m, s.tree, s.tree_len, restore_block, &s, err);
		if (ret < 0)
			err_prefix(err, "'%s'", path);
	}
	if (ret == 0) {
		machine_copied(m);
		machine_unquiesce(m);	/* what was in flight when it was saved is taken up */
	}
	snapshot_close(&s);
	return ret;
}

bool snapshot_probe(const char *path)
{
	int fd = host_open(&host_door, PURPOSE, path, O_RDONLY, 0, NULL);
	uint8_t head[8];
	bool yes;

	if (fd < 0)
		return false;
	yes = pread_full(fd, head, sizeof(head), 0) == 0 && !memcmp(head, magic, sizeof(magic));
	close(fd);
	return yes;
}

/* --- verifying --- */

static int verify_block(struct snapshot *s, int node, struct err *err)
{
	const char *name = fdt_get_name(s->tree, node, NULL);
	int size_len, off_len, crc_len, ret = 0;
	const void *size_p = fdt_getprop(s->tree, node, "size", &size_len);
	const void *off_p = fdt_getprop(s->tree, node, "offset", &off_len);
	const uint8_t *crcs = fdt_getprop(s->tree, node, "checksums", &crc_len);
	uint64_t size, off;
	uint8_t *buf;

	if (!size_p || !off_p || !crcs || size_len != 8 || off_len != 8)
		return err_set(err, EINVAL, "memory '%s' is not described", name);
	size = ld_be64(size_p);
	off = ld_be64(off_p);
	if (!range_ok(off, size, s->tree_off) ||
	    (uint64_t)crc_len != (size + CHUNK - 1) / CHUNK * 4)
		return err_set(err, EINVAL, "memory '%s': impossible place in the file", name);
	buf = malloc(CHUNK);
	if (!buf)
		return err_set(err, ENOMEM, "out of memory");
	for (uint64_t at = 0; at < size && ret == 0; at += CHUNK) {
		uint64_t n = MIN(CHUNK, size - at);
		uint32_t want = ld_be32(crcs + at / CHUNK * 4);
		bool zero = true;

		ret = pread_full(s->fd, buf, n, off + at);
		for (uint64_t p = 0; p < n && zero; p += PAGE)
			zero = page_is_zero(buf + p);
		if (ret < 0)
			err_set(err, -ret, "memory '%s': %s", name, strerror(-ret));
		else if (zero ? want != 0 : crc32c(0, buf, n) != want)
			ret = err_set(err, EINVAL,
				      "memory '%s' is damaged between bytes %llu and %llu", name,
				      (unsigned long long)at, (unsigned long long)(at + n));
	}
	free(buf);
	return ret;
}

int snapshot_verify(const char *path, struct err *err)
{
	struct state_in *in;
	struct snapshot s;
	int node, ret = snapshot_open(&s, path, err);

	if (ret < 0) {
		snapshot_close(&s);
		return ret;
	}
	in = state_in_new(s.tree, s.tree_len, err);	/* the tree's own rules */
	ret = in ? 0 : -EINVAL;
	state_in_free(in);
	if (ret == 0 && fdt_path_offset(s.tree, "/memory") < 0)
		ret = err_set(err, EINVAL, "the state names no memory");
	if (ret == 0)
		fdt_for_each_subnode(node, s.tree, fdt_path_offset(s.tree, "/memory"))
			if (ret == 0)
				ret = verify_block(&s, node, err);
	if (ret < 0)
		err_prefix(err, "'%s'", path);
	snapshot_close(&s);
	return ret;
}
