/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhdx_log.c: the VHDX log, [MS-VHDX] 2.3. A ring of entries of 4 KiB sectors; the sequence that
 * ends with the highest sequence number and is whole from its tail on is replayed. With a read-only
 * file the changes are laid over what is read. Opening thread, or a worker with the map's lock.
 */
#include <errno.h>
#include <stdlib.h>

#include "disk/vhdx/vhdx.h"
#include "vmm/base/log.h"

#define LOG_MAX (64 * MiB)
#define PATCH_MAX 8192			/* 32 MiB of patches */

enum {				/* log entry header */
	LOGE_CHECKSUM = 4, LOGE_LENGTH = 8, LOGE_TAIL = 12, LOGE_SEQUENCE = 16, LOGE_COUNT = 24,
	LOGE_GUID = 32,
	LOGE_FLUSHED_OFFSET = 48, LOGE_LAST_OFFSET = 56, LOGE_SIZE = 64,
};

/* One entry that has been read and found whole. */
struct entry {
	uint8_t *data;
	uint64_t at, len, seq, tail;
};

/* Reads log bytes, around the end of the ring. */
static int ring_read(struct node *n, struct vhdx *v, void *buf, uint64_t len, uint64_t at)
{
	uint64_t first = MIN(len, v->log_len - at);
	int ret = node_pread(n->file, buf, first, v->log_off + at);

	return ret < 0 || first == len
		       ? ret
		       : node_pread(n->file, (uint8_t *)buf + first, len - first, v->log_off);
}

static uint64_t entry_sectors(uint32_t descriptors)
{
	return (LOGE_SIZE + (uint64_t)descriptors * 32 + VHDX_LOG_SECTOR - 1) / VHDX_LOG_SECTOR;
}

/* Is there a whole entry at this place? e->data is malloc()ed when so. */
static bool entry_read(struct node *n, struct vhdx *v, uint64_t at, struct entry *e)
{
	uint8_t h[LOGE_SIZE];
	uint64_t data = 0, first;
	uint32_t count;

	e->data = NULL;
	if (ring_read(n, v, h, sizeof(h), at) < 0 || memcmp(h, "loge", 4))
		return false;
	*e = (struct entry){ NULL, at, ld_le32(h + LOGE_LENGTH), ld_le64(h + LOGE_SEQUENCE),
			     ld_le32(h + LOGE_TAIL) };
	count = ld_le32(h + LOGE_COUNT);
	if (memcmp(h + LOGE_GUID, v->header + HDR_LOG_GUID, 16) || !e->len ||
	    e->len % VHDX_LOG_SECTOR || e->len > v->log_len || e->tail % VHDX_LOG_SECTOR ||
	    e->tail >= v->log_len || !e->seq || entry_sectors(count) * VHDX_LOG_SECTOR > e->len)
		return false;
	e->data = malloc(e->len);
	if (!e->data || ring_read(n, v, e->data, e->len, at) < 0 ||
	    !vhdx_checksum_ok(e->data, e->len, LOGE_CHECKSUM))
		goto bad;
	first = entry_sectors(count);
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *d = e->data + LOGE_SIZE + i * 32, *s;

		if (ld_le64(d + 24) != e->seq || ld_le64(d + 16) % VHDX_LOG_SECTOR)
			goto bad;
		if (!memcmp(d, "zero", 4))
			continue;
		if (memcmp(d, "desc", 4) || (first + data + 1) * VHDX_LOG_SECTOR > e->len)
			goto bad;
		s = e->data + (first + data++) * VHDX_LOG_SECTOR;
		if (memcmp(s, "data", 4) || ld_le32(s + 4) != e->seq >> 32 ||
		    ld_le32(s + 4092) != (uint32_t)e->seq)
			goto bad;
	}
	return true;
bad:
	free(e->data);
	e->data = NULL;
	return false;
}

/* The entries from tail up to the newest, in order. Returns their number (0: none is whole). */
static size_t find_sequence(struct node *n, struct vhdx *v, struct entry **list)
{
	uint64_t best = 0, best_tail = 0, best_at = 0, budget = v->log_len * 2;
	struct entry e;
	size_t count = 0;
	uint64_t total = 0;

	/* The newest whole entry ... */
	for (uint64_t at = 0; at < v->log_len && budget; at += VHDX_LOG_SECTOR) {
		if (!entry_read(n, v, at, &e))
			continue;
		if (e.seq > best) {
			best = e.seq;
			best_tail = e.tail;
			best_at = at;
		}
		budget -= MIN(budget, e.len);
		free(e.data);
	}
	if (!best)
		return 0;
	*list = NULL;
	/*
	 * ... and all from its tail on, with no gap. They lie beside each other in the ring:
	 * together they are no longer than it, and so is what we hold of them.
	 */
	for (uint64_t at = best_tail, seq = 0;; at = (at + e.len) % v->log_len) {
		if (total >= v->log_len || !entry_read(n, v, at, &e) || (seq && e.seq != seq) ||
		    e.len > v->log_len - total) {
			free(e.data);
			goto broken;
		}
		*list = xrealloc(*list, (count + 1) * sizeof(**list));
		(*list)[count++] = e;
		total += e.len;
		if (at == best_at)
			return count;
		seq = e.seq + 1;
	}
broken:
	while (count)
		free((*list)[--count].data);
	free(*list);
	*list = NULL;
	return 0;
}

static int add_patch(struct vhdx *v, uint64_t off, uint64_t len, uint8_t *data)
{
	if (v->npatch == PATCH_MAX) {
		free(data);
		return -EFBIG;
	}
	v->patch = xrealloc(v->patch, (v->npatch + 1) * sizeof(*v->patch));
	v->patch[v->npatch++] = (struct vhdx_patch){ off, len, data };
	return 0;
}

static int apply_descriptor(struct node *n, struct vhdx *v, const uint8_t *d, const uint8_t *s)
{
	uint64_t off = ld_le64(d + 16), len = s ? VHDX_LOG_SECTOR : ld_le64(d + 8);
	uint8_t *sector;
	int ret;

	if (!s) {
		if (len % VHDX_LOG_SECTOR || !range_ok(off, len, n->file->size))
			return -EIO;
		return n->flags & BLK_RDWR ? node_zeroes(n->file, off, len, 0)
					   : add_patch(v, off, len, NULL);
	}
	/* The first 8 and last 4 bytes of a sector are kept in its descriptor. */
	sector = malloc(VHDX_LOG_SECTOR);
	if (!sector)
		return -ENOMEM;
	memcpy(sector, d + 8, 8);
	memcpy(sector + 8, s + 8, VHDX_LOG_SECTOR - 12);
	memcpy(sector + VHDX_LOG_SECTOR - 4, d + 4, 4);
	if (!(n->flags & BLK_RDWR))
		return add_patch(v, off, VHDX_LOG_SECTOR, sector);
	ret = off <= INT64_MAX - VHDX_LOG_SECTOR
		      ? node_pwrite(n->file, sector, VHDX_LOG_SECTOR, off)
		      : -EIO;
	free(sector);
	return ret;
}

static int apply_entry(struct node *n, struct vhdx *v, const struct entry *e)
{
	uint32_t count = ld_le32(e->data + LOGE_COUNT);
	uint64_t sector = entry_sectors(count), end = ld_le64(e->data + LOGE_LAST_OFFSET);
	int ret = 0;

	if (ld_le64(e->data + LOGE_FLUSHED_OFFSET) > n->file->size)
		/* cut off after the log was written: what it refers to is gone */
		return -EIO;
	for (uint32_t i = 0; i < count && ret == 0; i++) {
		const uint8_t *d = e->data + LOGE_SIZE + i * 32;

		if (!memcmp(d, "zero", 4))
			ret = apply_descriptor(n, v, d, NULL);
		else
			ret = apply_descriptor(n, v, d, e->data + sector++ * VHDX_LOG_SECTOR);
	}
	if (ret == 0 && n->flags & BLK_RDWR && end > n->file->size &&
	    end <= n->file->size + 64 * GiB)
		ret = node_resize(n->file, end, NULL);
	return ret;
}

int vhdx_log_open(struct node *n, struct vhdx *v, struct err *err)
{
	static const uint8_t none[16];
	struct entry *list = NULL;
	size_t count;
	int ret = 0;

	/* its table changes through the log alone */
	if (!v->log_len && n->flags & BLK_RDWR)
		return err_set(err, EINVAL, "'%s' has no room for a log: it can be read only",
			       n->filename);
	if (!memcmp(v->header + HDR_LOG_GUID, none, 16))
		return 0;
	if (ld_le16(v->header + HDR_LOG_VERSION) != 0 || !v->log_len || v->log_len > LOG_MAX)
		return err_set(err, ENOTSUP,
			       "the VHDX image has a log of unknown form (version %u, %llu bytes)",
			       ld_le16(v->header + HDR_LOG_VERSION),
			       (unsigned long long)v->log_len);
	count = find_sequence(n, v, &list);
	if (count)
		log_info("%s: replaying its log (%zu entries)%s", n->filename, count,
			 n->flags & BLK_RDWR ? "" : ", in memory");
	for (size_t i = 0; i < count; i++) {
		if (ret == 0)
			ret = apply_entry(n, v, &list[i]);
		free(list[i].data);
	}
	free(list);
	if (ret < 0)
		return err_set(err, -ret, "could not replay the log of the VHDX image: %s",
			       strerror(-ret));
	if (n->flags & BLK_RDWR) {
		ret = node_flush(n->file);
		if (ret == 0)
			ret = vhdx_write_header(n, v, NULL);
	}
	return ret;
}

/*
 * An entry of count sectors at the ring's head. It alone is the log: what came before has reached
 * its place.
 */
static uint8_t *make_entry(struct node *n, struct vhdx *v, const uint64_t *off,
			   uint8_t *const *data, unsigned count, uint64_t *len)
{
	uint64_t first = entry_sectors(count);
	uint8_t *e;

	*len = (first + count) * VHDX_LOG_SECTOR;
	e = calloc(1, *len);
	if (!e)
		return NULL;
	v->log_sequence++;
	memcpy(e, "loge", 4);
	st_le32(e + LOGE_LENGTH, *len);
	st_le32(e + LOGE_TAIL, v->log_head);
	st_le64(e + LOGE_SEQUENCE, v->log_sequence);
	st_le32(e + LOGE_COUNT, count);
	memcpy(e + LOGE_GUID, v->log_guid, 16);
	st_le64(e + LOGE_FLUSHED_OFFSET, bmap_file_size(&v->map));
	st_le64(e + LOGE_LAST_OFFSET, bmap_file_size(&v->map));
	for (unsigned i = 0; i < count; i++) {
		uint8_t *d = e + LOGE_SIZE + i * 32, *s = e + (first + i) * VHDX_LOG_SECTOR;

		memcpy(d, "desc", 4);
		memcpy(d + 4, data[i] + VHDX_LOG_SECTOR - 4, 4);
		memcpy(d + 8, data[i], 8);
		st_le64(d + 16, off[i]);
		st_le64(d + 24, v->log_sequence);
		memcpy(s, "data", 4);
		st_le32(s + 4, v->log_sequence >> 32);
		memcpy(s + 8, data[i] + 8, VHDX_LOG_SECTOR - 12);
		st_le32(s + 4092, v->log_sequence);
	}
	st_le32(e + LOGE_CHECKSUM, vhdx_checksum(e, *len, LOGE_CHECKSUM));
	return e;
}

int vhdx_log_write(struct node *n, struct vhdx *v, const uint64_t *off, uint8_t *const *data,
		   unsigned count)
{
	uint64_t len, first;
	uint8_t *e;
	int ret = 0;

	if (!v->log_active) {
		fmt_uuid(v->log_guid);
		v->log_sequence = v->log_head = 0;
		ret = vhdx_write_header(n, v, v->log_guid);
		if (ret < 0)
			return ret;
		v->log_active = true;
	}
	e = make_entry(n, v, off, data, count, &len);
	if (!e)
		return -ENOMEM;
	first = MIN(len, v->log_len - v->log_head);
	ret = node_pwrite(n->file, e, first, v->log_off + v->log_head);
	if (ret == 0 && first < len)
		ret = node_pwrite(n->file, e + first, len - first, v->log_off);
	free(e);
	if (ret == 0)
		ret = node_flush(n->file);
	for (unsigned i = 0; i < count && ret == 0; i++)
		ret = node_pwrite(n->file, data[i], VHDX_LOG_SECTOR, off[i]);
	if (ret == 0)
		ret = node_flush(n->file);
	v->log_head = (v->log_head + len) % v->log_len;
	return ret;
}
