/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mem.c: the accessors: from an address and a length of the guest to bytes of ours, each checked
 * whole. Blocks are in mem_block.c, the map of where the guest sees them in mem_map.c.
 *
 * mem_iov_done alone may run at any time on an I/O thread: it uses the table of host addresses, not
 * the map.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "vmm/wires/mem_impl.h"

/* Nearly every address lies in the biggest range; the rest is a short binary search. */
static inline const struct mem_range *range_find(struct mem *m, uint64_t gpa)
{
	const struct mem_map *map = __atomic_load_n(&m->map, __ATOMIC_ACQUIRE);
	const struct mem_range *r = &map->r[map->biggest];
	size_t low = 0, high = map->n;

	if (!high)
		return NULL;
	if (gpa - r->gpa <= r->last - r->gpa)
		return r;
	while (low < high) {
		size_t mid = (low + high) / 2;

		r = &map->r[mid];
		if (gpa < r->gpa)
			high = mid;
		else if (gpa > r->last)
			low = mid + 1;
		else
			return r;
	}
	return NULL;
}

/*
 * The range at gpa and how many of len bytes lie in it, counting neighbours that continue in our
 * address space too. NULL where nothing is, or ROM and for_write.
 */
static inline const struct mem_range *range_at(struct mem *m, uint64_t gpa, uint64_t len,
					       bool for_write, uint64_t *n)
{
	const struct mem_range *r = range_find(m, gpa), *next;

	if (!r || (for_write && r->rom))
		return NULL;
	*n = r->last - gpa + 1;
	if (*n >= len) {
		*n = len;
		return r;
	}
	for (uint64_t at = r->last; at != UINT64_MAX && *n < len; at = next->last) {
		next = range_find(m, at + 1);
		if (!next || (for_write && next->rom) || next->block != r->block ||
		    next->host != r->host + (next->gpa - r->gpa))
			break;
		*n += next->last - next->gpa + 1;
	}
	*n = MIN(*n, len);
	return r;
}

/*
 * Steps through [gpa, gpa + len): true with the next part's host address, *n and *b; *bad set where
 * it cannot go on.
 */
static inline bool next_part(struct mem *m, uint64_t *gpa, uint64_t *len, bool for_write,
			     uint8_t **host, uint64_t *n, struct block **b, bool *bad)
{
	const struct mem_range *r;

	if (!*len)
		return false;
	r = range_at(m, *gpa, *len, for_write, n);
	/* the rest would wrap around */
	*bad = !r || (*n < *len && *n - 1 == UINT64_MAX - *gpa);
	if (*bad)
		return false;
	*host = r->host + (*gpa - r->gpa);
	*b = r->block;
	*gpa += *n;
	*len -= *n;
	return true;
}

static bool range_valid(struct mem *m, uint64_t gpa, uint64_t len, bool for_write)
{
	struct block *b;
	uint8_t *host;
	uint64_t n;
	bool bad = false;

	while (next_part(m, &gpa, &len, for_write, &host, &n, &b, &bad))
		;
	return !bad;
}

int mem_read(struct mem *m, uint64_t gpa, void *buf, uint64_t len)
{
	struct block *b;
	uint8_t *host;
	uint64_t n;
	bool bad = false;

	while (next_part(m, &gpa, &len, false, &host, &n, &b, &bad)) {
		memcpy(buf, host, n);
		buf = (uint8_t *)buf + n;
	}
	return bad ? -EFAULT : 0;
}

/* Nothing is written unless all of it can be. buf NULL: set bytes. */
static int mem_fill(struct mem *m, uint64_t gpa, const void *buf, uint8_t byte, uint64_t len)
{
	struct block *b;
	uint8_t *host;
	uint64_t n;
	bool bad = false;

	if (!range_valid(m, gpa, len, true))
		return -EFAULT;
	while (next_part(m, &gpa, &len, true, &host, &n, &b, &bad)) {
		if (buf) {
			memcpy(host, buf, n);
			buf = (const uint8_t *)buf + n;
		} else {
			memset(host, byte, n);
		}
		block_mark(b, host - b->host, n);
	}
	return 0;
}

int mem_write(struct mem *m, uint64_t gpa, const void *buf, uint64_t len)
{
	return mem_fill(m, gpa, buf, 0, len);
}

int mem_set(struct mem *m, uint64_t gpa, uint8_t byte, uint64_t len)
{
	return mem_fill(m, gpa, NULL, byte, len);
}

void *mem_ptr(struct mem *m, uint64_t gpa, uint64_t len, bool for_write)
{
	const struct mem_range *r;
	uint64_t n;

	r = range_at(m, gpa, len, for_write, &n);
	return r && n == len ? r->host + (gpa - r->gpa) : NULL;
}

static void block_unpin(struct mem *m, struct block *b)
{
	unsigned pins = __atomic_fetch_sub(&b->pins, 1, __ATOMIC_SEQ_CST);

	assert(pins);
	if (pins == 1 && __atomic_load_n(&m->freeing, __ATOMIC_SEQ_CST)) {
		pthread_mutex_lock(&m->mutex);
		pthread_cond_broadcast(&m->unpinned);
		pthread_mutex_unlock(&m->mutex);
	}
}

/* The block an address of a pinned buffer lies in. */
static struct block *block_of_host(struct mem *m, const uint8_t *p)
{
	unsigned n = __atomic_load_n(&m->nhosts, __ATOMIC_ACQUIRE);

	for (unsigned i = 0; i < n; i++) {
		const uint8_t *start = __atomic_load_n(&m->hosts[i].start, __ATOMIC_ACQUIRE);

		if (p >= start && p < __atomic_load_n(&m->hosts[i].end, __ATOMIC_RELAXED) && start)
			return m->hosts[i].block;
	}
	return NULL;
}

int mem_iov(struct mem *m, uint64_t gpa, uint64_t len, bool for_write, struct iovec *iov, int max)
{
	struct block *b;
	uint8_t *host;
	uint64_t n;
	bool bad = false;
	int count = 0, ret = -EFAULT;

	while (next_part(m, &gpa, &len, for_write, &host, &n, &b, &bad)) {
		if (count == max) {
			ret = -E2BIG;
			bad = true;
			break;
		}
		__atomic_add_fetch(&b->pins, 1, __ATOMIC_RELAXED);
		iov[count++] = (struct iovec){ host, n };
	}
	if (!bad)
		return count;
	mem_iov_done(m, iov, count, 0);
	return ret;
}

void mem_iov_done(struct mem *m, const struct iovec *iov, int niov, uint64_t written)
{
	for (int i = 0; i < niov; i++) {
		uint64_t n = MIN(written, iov[i].iov_len);
		uint8_t *p = iov[i].iov_base;
		struct block *b = block_of_host(m, p);

		assert(b);
		if (n)
			block_mark(b, p - b->host, n);
		written -= n;
		block_unpin(m, b);
	}
}

void mem_mark_dirty(struct mem *m, uint64_t gpa, uint64_t len)
{
	struct block *b;
	uint8_t *host;
	uint64_t n;
	bool bad = false;

	if (!__atomic_load_n(&m->tracking, __ATOMIC_RELAXED))
		return;
	while (next_part(m, &gpa, &len, false, &host, &n, &b, &bad))
		block_mark(b, host - b->host, n);
}

/* --- giving memory back to the host --- */

int mem_discard(struct mem *m, uint64_t gpa, uint64_t len)
{
	struct block *b;
	uint8_t *host;
	uint64_t n;
	bool bad = false;
	int ret = 0;

	if ((gpa | len) % PAGE_SIZE)
		return -EINVAL;
	if (!range_valid(m, gpa, len, true))
		return -EFAULT;
	while (!ret && next_part(m, &gpa, &len, true, &host, &n, &b, &bad)) {
		if (__atomic_load_n(&b->pins, __ATOMIC_RELAXED) &&
		    b->kind == BLOCK_KIND_PRIVATE_FILE)
			/* a device may be writing here: the mapping must stay */
			memset(host, 0, n);
		else
			ret = block_discard_part(b, host, n);
		block_mark(b, host - b->host, n);
	}
	return ret;
}

void mem_iov_discard(struct mem *m, const struct iovec *part, int npieces)
{
	struct block *b = block_of_host(m, part->iov_base);
	uint8_t *from = (uint8_t *)ALIGN_UP((uintptr_t)part->iov_base, PAGE_SIZE);
	uint8_t *to = (uint8_t *)ALIGN_DOWN((uintptr_t)part->iov_base + part->iov_len, PAGE_SIZE);

	assert(b && b->pins);
	/* Others than this list may be writing: such a mapping must stay, and it is only a hint. */
	if (from >= to || (b->kind == BLOCK_KIND_PRIVATE_FILE &&
			   __atomic_load_n(&b->pins, __ATOMIC_RELAXED) > (unsigned)npieces))
		return;
	if (block_discard_part(b, from, to - from) == 0)
		block_mark(b, from - b->host, to - from);
}
