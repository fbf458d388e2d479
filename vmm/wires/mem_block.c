/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mem_block.c: blocks of guest memory: where their bytes come from and how they go back to the
 * host.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/wires/mem_impl.h"

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

struct block *block_new_mapping(struct mem *m, const char *id, void *host, uint64_t size, int fd,
				unsigned flags)
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
	b->kind = fd < 0		 ? BLOCK_KIND_ANON
		  : flags & BLOCK_SHARED ? BLOCK_KIND_SHARED
					 : BLOCK_KIND_PRIVATE_FILE;
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

/* A memfd of the size, mapped at `at`. The fd or -errno. */
static int map_memfd(const char *id, void *at, uint64_t size)
{
	int ret, fd = memfd_create(id, MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (!ftruncate(fd, size) &&
	    mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0) !=
		    MAP_FAILED)
		return fd;
	ret = -errno;
	close(fd);
	return ret;
}

struct block *block_new(struct mem *m, const char *id, uint64_t size, unsigned flags,
			struct err *err)
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
	/*
	 * Inaccessible pages on both sides: an overrun ends here, not in a neighbour. Huge pages
	 * need alignment.
	 */
	reserved = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (reserved == MAP_FAILED) {
		err_set(err, errno, "memory '%s': no address space for %llu MiB: %s", id,
			(unsigned long long)(size / MiB), strerror(errno));
		return NULL;
	}
	host = (uint8_t *)ALIGN_UP((uintptr_t)reserved + PAGE_SIZE,
				   size >= HUGE_SIZE ? HUGE_SIZE : PAGE_SIZE);
	if (flags & BLOCK_SHARED)
		fd = map_memfd(id, host, size);
	else if (mmap(host, size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
		fd = -errno;
	if (fd < -1 || ((flags & BLOCK_SHARED) && fd < 0) ||
	    (!(flags & BLOCK_SHARED) && fd != -1)) {
		err_set(err, -fd, "memory '%s': cannot get %llu MiB: %s", id,
			(unsigned long long)(size / MiB), strerror(-fd));
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

/* --- another backing --- */

int block_remap_private(struct block *b, int fd, uint64_t off)
{
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	if (own < 0)
		return -errno;
	if (mmap(b->host, b->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE,
		 own, off) == MAP_FAILED) {
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

int block_discard_part(struct block *b, uint8_t *host, uint64_t len)
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
		ret = mmap(host, len, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
			   0) == MAP_FAILED
			      ? -1
			      : 0;
	}
	return ret ? -errno : 0;
}

int block_discard(struct block *b)
{
	block_mark(b, 0, b->size);
	return block_discard_part(b, b->host, b->size);
}
