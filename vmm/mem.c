/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mem.c: blocks of guest memory, where the guest sees them, and the accessors.
 *
 * The map is an immutable sorted array. It changes only in an exclusive section, when no accessor runs, so the
 * old one is freed at once. mem_iov_done alone may run at any time on an I/O thread: it uses the
 * table of host addresses, not the map.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/flat.h"
#include "vmm/mem_impl.h"

#define HUGE_SIZE (2 * MiB)

struct mem *mem_new(const struct mem_backend *backend, void *ctx)
{
	struct mem *m = xcalloc(1, sizeof(*m));

	m->backend = backend;
	m->ctx = ctx;
	m->map = xcalloc(1, sizeof(*m->map));
	m->generation = 1;
	pthread_mutex_init(&m->mutex, NULL);
	pthread_cond_init(&m->unpinned, NULL);
	return m;
}

void mem_free(struct mem *m)
{
	struct block *b;

	if (!m)
		return;
	while ((b = block_next(m, NULL)))
		block_free(b);
	assert(!m->clients);
	free(m->pieces);
	free(m->map);
	pthread_cond_destroy(&m->unpinned);
	pthread_mutex_destroy(&m->mutex);
	free(m);
}

/* --- blocks --- */

struct block *block_new_mapping(struct mem *m, const char *id, void *host, uint64_t size, int fd, unsigned flags)
{
	struct block *b = xcalloc(1, sizeof(*b));
	unsigned i = 0;

	assert(size && size % PAGE_SIZE == 0);
	b->m = m;
	b->id = xstrdup(id);
	b->host = host;
	b->size = size;
	b->fd = fd;
	b->flags = flags;
	b->kind = fd < 0 ? BLOCK_KIND_ANON : flags & BLOCK_SHARED ? BLOCK_KIND_SHARED : BLOCK_KIND_PRIVATE_FILE;
	pthread_mutex_lock(&m->mutex);
	while (i < MEM_MAX_BLOCKS && m->hosts[i].block)
		i++;
	assert(i < MEM_MAX_BLOCKS);	/* wiring makes a few for each slot at most */
	b->index = i;
	m->hosts[i].block = b;
	__atomic_store_n(&m->hosts[i].end, b->host + size, __ATOMIC_RELAXED);
	__atomic_store_n(&m->hosts[i].start, b->host, __ATOMIC_RELEASE);
	if (i >= m->nhosts)
		__atomic_store_n(&m->nhosts, i + 1, __ATOMIC_RELEASE);
	dirty_block_added(b);
	pthread_mutex_unlock(&m->mutex);
	return b;
}

/* A memfd of the size, huge pages if wanted and to be had; mapped at `at`. The fd or -errno. */
static int map_memfd(const char *id, void *at, uint64_t size, unsigned flags)
{
	int ret, fd = -1;

	if ((flags & BLOCK_HUGE) && size % HUGE_SIZE == 0)
		fd = memfd_create(id, MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
	if (fd >= 0) {
		if (!ftruncate(fd, size) &&
		    mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED)
			return fd;
		close(fd);	/* none reserved (vm.nr_hugepages): ordinary pages do */
	}
	fd = memfd_create(id, MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (!ftruncate(fd, size) &&
	    mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0) != MAP_FAILED)
		return fd;
	ret = -errno;
	close(fd);
	return ret;
}

struct block *block_new(struct mem *m, const char *id, uint64_t size, unsigned flags, struct err *err)
{
	uint64_t len = size + HUGE_SIZE + 2 * PAGE_SIZE;
	uint8_t *reserved, *host;
	struct block *b;
	int fd = -1;

	assert(size && size % PAGE_SIZE == 0);
	if (block_find(m, id)) {
		err_set(err, EEXIST, "memory '%s' exists already", id);
		return NULL;
	}
	/* Inaccessible pages on both sides: an overrun ends here, not in a neighbour. Huge pages need alignment. */
	reserved = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (reserved == MAP_FAILED) {
		err_set(err, errno, "memory '%s': no address space for %llu MiB: %s", id,
			(unsigned long long)(size / MiB), strerror(errno));
		return NULL;
	}
	host = (uint8_t *)ALIGN_UP((uintptr_t)reserved + PAGE_SIZE, size >= HUGE_SIZE ? HUGE_SIZE : PAGE_SIZE);
	if (flags & BLOCK_SHARED)
		fd = map_memfd(id, host, size, flags);
	else if (mmap(host, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
		      0) == MAP_FAILED)
		fd = -errno;
	if (fd < -1 || ((flags & BLOCK_SHARED) && fd < 0) || (!(flags & BLOCK_SHARED) && fd != -1)) {
		err_set(err, -fd, "memory '%s': cannot get %llu MiB: %s", id, (unsigned long long)(size / MiB),
			strerror(-fd));
		munmap(reserved, len);
		return NULL;
	}
	if (flags & BLOCK_HUGE)
		madvise(host, size, MADV_HUGEPAGE);
	madvise(host, size, MADV_DONTDUMP);
	b = block_new_mapping(m, id, host, size, fd, flags);
	b->reserved = reserved;
	b->reserved_len = len;
	return b;
}

void block_free(struct block *b)
{
	struct mem *m;

	if (!b)
		return;
	m = b->m;
	block_unmap(b);
	__atomic_add_fetch(&m->freeing, 1, __ATOMIC_SEQ_CST);
	pthread_mutex_lock(&m->mutex);
	while (__atomic_load_n(&b->pins, __ATOMIC_SEQ_CST))
		pthread_cond_wait(&m->unpinned, &m->mutex);
	m->hosts[b->index].block = NULL;
	__atomic_store_n(&m->hosts[b->index].start, NULL, __ATOMIC_RELAXED);
	__atomic_store_n(&m->hosts[b->index].end, NULL, __ATOMIC_RELAXED);
	dirty_block_removed(b);
	pthread_mutex_unlock(&m->mutex);
	__atomic_sub_fetch(&m->freeing, 1, __ATOMIC_SEQ_CST);
	if (b->reserved)
		munmap(b->reserved, b->reserved_len);
	else
		munmap(b->host, b->size);
	if (b->fd >= 0)
		close(b->fd);
	free(b->own_storage);
	free(b->id);
	free(b);
}

void *block_host(struct block *b)
{
	return b->host;
}

uint64_t block_size(const struct block *b)
{
	return b->size;
}

int block_fd(const struct block *b)
{
	return b->fd;
}

unsigned block_flags(const struct block *b)
{
	return b->flags;
}

const char *block_id(const struct block *b)
{
	return b->id;
}

struct block *block_next(struct mem *m, struct block *b)
{
	for (unsigned i = b ? b->index + 1 : 0; i < m->nhosts; i++)
		if (m->hosts[i].block)
			return m->hosts[i].block;
	return NULL;
}

struct block *block_find(struct mem *m, const char *id)
{
	struct block *b = NULL;

	while ((b = block_next(m, b)))
		if (!strcmp(b->id, id))
			break;
	return b;
}

/* --- the map --- */

static bool range_same(const struct mem_range *a, const struct mem_range *b)
{
	return a->gpa == b->gpa && a->last == b->last && a->host == b->host && a->rom == b->rom;
}

static uint64_t range_size(const struct mem_range *r)
{
	return r->last - r->gpa + 1;
}

static int slot_set(struct mem *m, const struct mem_range *r)
{
	if (!m->backend)
		return 0;
	return m->backend->slot(m->ctx, r->slot, r->gpa, range_size(r), r->host, r->rom, range_logged(m, r));
}

static void slot_clear(struct mem *m, const struct mem_range *r)
{
	if (!m->backend)
		return;
	dirty_collect_range(m, r);	/* or what the guest wrote last would be forgotten */
	m->backend->slot(m->ctx, r->slot, r->gpa, 0, NULL, false, false);
}

static const struct mem_range *range_like(const struct mem_map *map, const struct mem_range *r)
{
	for (size_t i = 0; i < map->n; i++)
		if (range_same(&map->r[i], r))
			return &map->r[i];
	return NULL;
}

static unsigned slot_unused(const struct mem_map *old, const struct mem_map *map, size_t done)
{
	for (unsigned slot = 0;; slot++) {
		bool used = false;

		for (size_t i = 0; i < old->n && !used; i++)
			used = old->r[i].slot == slot && range_like(map, &old->r[i]);
		for (size_t i = 0; i < done && !used; i++)
			used = map->r[i].slot == slot && !range_like(old, &map->r[i]);
		if (!used)
			return slot;
	}
}

/* Tells the backend the difference. On failure it is back at `old`. The mutex is held. */
static int slots_switch(struct mem *m, const struct mem_map *old, struct mem_map *map)
{
	const struct mem_range *same;
	int ret = 0;
	size_t i;

	for (i = 0; i < old->n; i++)
		if (!range_like(map, &old->r[i]))
			slot_clear(m, &old->r[i]);
	for (i = 0; i < map->n && !ret; i++) {
		same = range_like(old, &map->r[i]);
		map->r[i].slot = same ? same->slot : slot_unused(old, map, i);
		if (!same)
			ret = slot_set(m, &map->r[i]);
	}
	if (!ret)
		return 0;
	for (i--; i-- > 0;)
		if (!range_like(old, &map->r[i]))
			slot_clear(m, &map->r[i]);
	for (i = 0; i < old->n; i++)
		if (!range_like(map, &old->r[i]))
			slot_set(m, &old->r[i]);
	return ret;
}

static struct mem_map *map_build(struct mem *m)
{
	struct span *in = xcalloc(m->npieces, sizeof(*in)), *out = xcalloc(2 * m->npieces, sizeof(*out));
	struct mem_map *map;
	size_t n;

	for (size_t i = 0; i < m->npieces; i++) {
		struct piece *p = m->pieces[i];

		/* The higher prio is seen, then who came first. */
		in[i] = (struct span){ p->gpa, p->gpa + p->size - 1,
				       (uint64_t)((int64_t)INT32_MAX - p->prio) << 32 | p->seq, p };
	}
	n = flatten(in, m->npieces, out);
	map = xcalloc(1, sizeof(*map) + n * sizeof(map->r[0]));
	map->n = n;
	for (size_t i = 0; i < n; i++) {
		struct piece *p = out[i].owner;
		uint64_t off = p->offset + (out[i].start - p->gpa);

		map->r[i] = (struct mem_range){ out[i].start, out[i].last, p->block->host + off, p->block, off, p->rom, 0 };
		if (range_size(&map->r[i]) > range_size(&map->r[map->biggest]))
			map->biggest = i;
	}
	free(in);
	free(out);
	return map;
}

/* Publishes the map of the present pieces. 0, or -errno with nothing changed. */
static int map_update(struct mem *m)
{
	struct mem_map *old = m->map, *map = map_build(m);
	int ret;

	pthread_mutex_lock(&m->mutex);
	ret = slots_switch(m, old, map);
	if (!ret) {
		__atomic_store_n(&m->map, map, __ATOMIC_RELEASE);
		__atomic_add_fetch(&m->generation, 1, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&m->mutex);
	free(ret ? map : old);
	return ret;
}

static void piece_insert(struct mem *m, struct piece *p)
{
	size_t i = m->npieces;

	m->pieces = xrealloc(m->pieces, (m->npieces + 1) * sizeof(*m->pieces));
	for (; i > 0 && m->pieces[i - 1]->gpa > p->gpa; i--)
		m->pieces[i] = m->pieces[i - 1];
	m->pieces[i] = p;
	m->npieces++;
}

static void piece_remove(struct mem *m, size_t i)
{
	free(m->pieces[i]);
	m->npieces--;
	memmove(m->pieces + i, m->pieces + i + 1, (m->npieces - i) * sizeof(*m->pieces));
}

static struct piece *piece_new(struct mem *m, const struct piece *like)
{
	struct piece *p = xcalloc(1, sizeof(*p));

	*p = *like;
	p->seq = m->next_seq++;
	piece_insert(m, p);
	return p;
}

int block_map(struct block *b, uint64_t gpa, uint64_t offset, uint64_t size, int prio)
{
	struct piece like = { b, gpa, offset, size, prio, 0, b->flags & BLOCK_ROM };
	struct mem *m = b->m;
	struct piece *p;
	int ret;

	if (!size || (gpa | offset | size) % PAGE_SIZE || !range_ok(offset, size, b->size) || size - 1 > UINT64_MAX - gpa)
		return -EINVAL;
	p = piece_new(m, &like);
	ret = map_update(m);
	for (size_t i = 0; ret && i < m->npieces; i++) {
		if (m->pieces[i] == p) {
			piece_remove(m, i);
			break;
		}
	}
	return ret;
}

void block_unmap(struct block *b)
{
	struct mem *m = b->m;
	bool any = false;

	for (size_t i = m->npieces; i-- > 0;) {
		if (m->pieces[i]->block == b) {
			piece_remove(m, i);
			any = true;
		}
	}
	/* Taking slots away fails only for our own mistakes; what it uncovers may find no slot left. */
	if (any && map_update(m))
		assert(!"removing memory from the guest failed");
}

/* Makes a piece begin at gpa where one contains it. */
static void piece_split(struct mem *m, struct block *b, int prio, uint64_t gpa)
{
	for (size_t i = 0; i < m->npieces; i++) {
		struct piece *p = m->pieces[i], *tail;
		uint64_t head = gpa - p->gpa;

		if (p->block != b || p->prio != prio || gpa <= p->gpa || head >= p->size)
			continue;
		tail = piece_new(m, p);
		tail->gpa += head;
		tail->offset += head;
		tail->size -= head;
		p->size = head;
		/* piece_new put it beside p, at p's address: sort it in again. */
		for (i = 0; m->pieces[i] != tail; i++)
			;
		for (; i + 1 < m->npieces && m->pieces[i + 1]->gpa < tail->gpa; i++) {
			m->pieces[i] = m->pieces[i + 1];
			m->pieces[i + 1] = tail;
		}
		return;
	}
}

/* The rank of the block's piece that is uppermost at gpa; false where it has none. */
static bool prio_at(struct mem *m, struct block *b, uint64_t gpa, int *prio)
{
	bool any = false;

	for (size_t i = 0; i < m->npieces; i++) {
		struct piece *p = m->pieces[i];

		if (p->block == b && gpa >= p->gpa && gpa - p->gpa < p->size && (!any || p->prio > *prio)) {
			*prio = p->prio;
			any = true;
		}
	}
	return any;
}

static bool piece_inside(const struct piece *p, const struct block *b, int prio, uint64_t gpa, uint64_t size)
{
	return p->block == b && p->prio == prio && p->gpa >= gpa && range_ok(p->gpa - gpa, p->size, size);
}

/*
 * Makes [gpa, gpa + size) of the block consist of whole pieces of one rank, which *prio tells. Splits stay when the
 * pieces become equal again: KVM would throw away every mapping of a slot that grows or shrinks, and firmware
 * toggles these registers often.
 */
static int pieces_cut(struct mem *m, struct block *b, uint64_t gpa, uint64_t size, int *prio)
{
	uint64_t covered = 0;

	if (!size || (gpa | size) % PAGE_SIZE || size - 1 > UINT64_MAX - gpa)
		return -EINVAL;
	if (!prio_at(m, b, gpa, prio))
		return -ENOENT;
	for (size_t i = 0; i < m->npieces; i++) {
		struct piece *p = m->pieces[i];
		uint64_t from = MAX(gpa, p->gpa), to = MIN(gpa + size, p->gpa + p->size);

		if (p->block == b && p->prio == *prio && from < to)
			covered += to - from;
	}
	if (covered != size)
		return -ENOENT;
	piece_split(m, b, *prio, gpa);
	piece_split(m, b, *prio, gpa + size);
	return 0;
}

int block_protect(struct block *b, uint64_t gpa, uint64_t size, bool rom)
{
	struct mem *m = b->m;
	bool change = false;
	int prio, ret = pieces_cut(m, b, gpa, size, &prio);

	if (ret)
		return ret;
	for (size_t i = 0; i < m->npieces; i++) {
		struct piece *p = m->pieces[i];

		if (piece_inside(p, b, prio, gpa, size) && p->rom != rom) {
			p->rom = rom;
			change = true;
		}
	}
	return change ? map_update(m) : 0;
}

int block_unmap_piece(struct block *b, uint64_t gpa, uint64_t size)
{
	struct mem *m = b->m;
	int prio, ret = pieces_cut(m, b, gpa, size, &prio);

	if (ret)
		return ret;
	for (size_t i = m->npieces; i-- > 0;)
		if (piece_inside(m->pieces[i], b, prio, gpa, size))
			piece_remove(m, i);
	return map_update(m);
}

uint64_t mem_generation(const struct mem *m)
{
	return __atomic_load_n(&m->generation, __ATOMIC_ACQUIRE);
}

int mem_for_each(struct mem *m, int (*fn)(void *ctx, struct block *b, uint64_t gpa, uint64_t offset, uint64_t size),
		 void *ctx)
{
	const struct mem_map *map = __atomic_load_n(&m->map, __ATOMIC_ACQUIRE);
	int ret = 0;

	for (size_t i = 0; i < map->n && !ret; i++) {
		const struct mem_range *r = &map->r[i];

		ret = fn(ctx, r->block, r->gpa, r->offset, range_size(r));
	}
	return ret;
}

/* --- accessors --- */

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
 * The range at gpa and how many of len bytes lie in it, counting neighbours that continue in our address space too.
 * NULL where nothing is, or ROM and for_write.
 */
static inline const struct mem_range *range_at(struct mem *m, uint64_t gpa, uint64_t len, bool for_write, uint64_t *n)
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

/* Steps through [gpa, gpa + len): true with the next part's host address, *n and *b; *bad set where it cannot go on. */
static inline bool next_part(struct mem *m, uint64_t *gpa, uint64_t *len, bool for_write, uint8_t **host, uint64_t *n,
			     struct block **b, bool *bad)
{
	const struct mem_range *r;

	if (!*len)
		return false;
	r = range_at(m, *gpa, *len, for_write, n);
	*bad = !r || (*n < *len && *n - 1 == UINT64_MAX - *gpa);	/* the rest would wrap around */
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

/* --- another backing --- */

int block_remap_private(struct block *b, int fd, uint64_t off)
{
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	if (own < 0)
		return -errno;
	if (mmap(b->host, b->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, own, off) == MAP_FAILED) {
		int ret = -errno;

		close(own);
		return ret;
	}
	madvise(b->host, b->size, MADV_DONTDUMP);
	if (b->fd >= 0)
		close(b->fd);
	b->fd = own;
	b->flags &= ~BLOCK_SHARED;
	b->kind = BLOCK_KIND_PRIVATE_FILE;
	return 0;
}

/* --- giving memory back to the host --- */

static int discard_part(struct block *b, uint8_t *host, uint64_t len)
{
	int ret;

	switch (b->kind) {
	case BLOCK_KIND_ANON:
		ret = madvise(host, len, MADV_DONTNEED);
		break;
	case BLOCK_KIND_SHARED:
		ret = madvise(host, len, MADV_REMOVE);
		break;
	default:
		/* The file's old bytes would show again: cover them with fresh zero pages. */
		ret = mmap(host, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
			   0) == MAP_FAILED ? -1 : 0;
	}
	return ret ? -errno : 0;
}

int block_discard(struct block *b)
{
	block_mark(b, 0, b->size);
	return discard_part(b, b->host, b->size);
}

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
		if (__atomic_load_n(&b->pins, __ATOMIC_RELAXED) && b->kind == BLOCK_KIND_PRIVATE_FILE)
			memset(host, 0, n);	/* a device may be writing here: the mapping must stay */
		else
			ret = discard_part(b, host, n);
		block_mark(b, host - b->host, n);
	}
	return ret;
}

void mem_iov_discard(struct mem *m, const struct iovec *iov, int niov)
{
	for (int i = 0; i < niov; i++) {
		struct block *b = block_of_host(m, iov[i].iov_base);
		uint8_t *from = (uint8_t *)ALIGN_UP((uintptr_t)iov[i].iov_base, PAGE_SIZE);
		uint8_t *to = (uint8_t *)ALIGN_DOWN((uintptr_t)iov[i].iov_base + iov[i].iov_len, PAGE_SIZE);

		assert(b && b->pins);
		/* Others than this list may be writing: such a mapping must stay, and it is only a hint. */
		if (from >= to || (b->kind == BLOCK_KIND_PRIVATE_FILE &&
				   __atomic_load_n(&b->pins, __ATOMIC_RELAXED) > (unsigned)niov))
			continue;
		if (discard_part(b, from, to - from) == 0)
			block_mark(b, from - b->host, to - from);
	}
}
