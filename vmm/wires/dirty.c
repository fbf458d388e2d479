/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dirty.c: which pages changed: one collector (the backend's log of the guest's writes, a bitmap of
 * our own), one bitmap for each consumer and block.
 *
 * Marking is lock-free and costs one load while nobody listens. A writer stores its data and then
 * marks; a new consumer publishes the bitmap and then reads the data. Without a fence on either
 * side both could miss each other; the writers are many and busy, so the consumer alone pays:
 * membarrier(2) makes every other thread pass a barrier.
 */
#include <errno.h>
#include <linux/membarrier.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/wires/mem_impl.h"

struct dirty_client {
	struct mem *m;
	struct block *only;		/* or NULL: every block */
	unsigned long *bits[MEM_MAX_BLOCKS];
	struct dirty_client *next;
};

static void set_bits(unsigned long *map, uint64_t from, uint64_t n)
{
	for (uint64_t p = from; p < from + n; p++) {
		unsigned long bit = 1ul << p % BITS_PER_LONG, *word = &map[p / BITS_PER_LONG];

		if (!(__atomic_load_n(word, __ATOMIC_RELAXED) & bit))
			__atomic_or_fetch(word, bit, __ATOMIC_RELEASE);
	}
}

void block_mark(struct block *b, uint64_t off, uint64_t len)
{
	unsigned long *own;

	__atomic_signal_fence(__ATOMIC_SEQ_CST);	/* the data first; see above */
	own = __atomic_load_n(&b->own, __ATOMIC_ACQUIRE);
	if (own && len)
		set_bits(own, off >> PAGE_SHIFT,
			 ((off + len - 1) >> PAGE_SHIFT) - (off >> PAGE_SHIFT) + 1);
}

static void barrier_everywhere(void)
{
	static bool registered;

	if (!registered) {
		syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
		registered = true;
	}
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0))
		syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
}

void block_mark_dirty(struct block *b, uint64_t off, uint64_t len)
{
	block_mark(b, off, len);
}

bool range_logged(const struct mem *m, const struct mem_range *r)
{
	return r->block->nclients && !r->rom;
}

/* Switches the backend's log of a block on or off. The mutex is held. */
static int log_switch(struct mem *m, struct block *b)
{
	int ret = 0;

	if (!m->backend)
		return 0;
	for (size_t i = 0; i < m->map->n && !ret; i++) {
		const struct mem_range *r = &m->map->r[i];

		if (r->block == b && !r->rom)
			ret = m->backend->slot(m->ctx, r->slot, r->gpa, r->last - r->gpa + 1,
					       r->host, false, range_logged(m, r));
	}
	return ret;
}

static void client_attach(struct dirty_client *c, struct block *b)
{
	size_t n = bitmap_longs(b->size >> PAGE_SHIFT);

	c->bits[b->index] = xcalloc(n, sizeof(long));
	set_bits(c->bits[b->index], 0, b->size >> PAGE_SHIFT);
	if (b->nclients++)
		return;
	if (!b->own_storage)
		b->own_storage = xcalloc(n, sizeof(long));
	__atomic_store_n(&b->own, b->own_storage, __ATOMIC_RELEASE);
	__atomic_add_fetch(&b->m->tracking, 1, __ATOMIC_RELEASE);
	log_switch(b->m, b);
}

static void client_detach(struct dirty_client *c, struct block *b)
{
	if (!c->bits[b->index])
		return;
	free(c->bits[b->index]);
	c->bits[b->index] = NULL;
	if (--b->nclients)
		return;
	/* The storage stays: a writer may be setting a bit in it right now. */
	__atomic_store_n(&b->own, NULL, __ATOMIC_RELEASE);
	__atomic_sub_fetch(&b->m->tracking, 1, __ATOMIC_RELEASE);
	log_switch(b->m, b);
}

struct dirty_client *dirty_client_new(struct mem *m, struct block *b)
{
	struct dirty_client *c = xcalloc(1, sizeof(*c));

	c->m = m;
	c->only = b;
	pthread_mutex_lock(&m->mutex);
	c->next = m->clients;
	m->clients = c;
	if (b)
		client_attach(c, b);
	for (b = NULL; !c->only && (b = block_next(m, b));)
		client_attach(c, b);
	pthread_mutex_unlock(&m->mutex);
	barrier_everywhere();
	return c;
}

void dirty_client_free(struct dirty_client *c)
{
	struct dirty_client **at;
	struct block *b = NULL;
	struct mem *m;

	if (!c)
		return;
	m = c->m;
	pthread_mutex_lock(&m->mutex);
	while ((b = block_next(m, b)))
		client_detach(c, b);
	for (at = &m->clients; *at != c; at = &(*at)->next)
		;
	*at = c->next;
	pthread_mutex_unlock(&m->mutex);
	free(c);
}

void dirty_block_added(struct block *b)
{
	for (struct dirty_client *c = b->m->clients; c; c = c->next)
		if (!c->only)
			client_attach(c, b);
}

void dirty_block_removed(struct block *b)
{
	for (struct dirty_client *c = b->m->clients; c; c = c->next)
		client_detach(c, b);
}

/* ORs n bits of src into every client's bitmap of the block, from page `first` on. */
static void spread(struct block *b, const unsigned long *src, uint64_t first, uint64_t n)
{
	for (size_t w = 0; w < bitmap_longs(n); w++) {
		unsigned long word = src[w];

		while (word) {
			uint64_t page = w * BITS_PER_LONG + __builtin_ctzl(word);

			word &= word - 1;
			if (page >= n)
				break;
			for (struct dirty_client *c = b->m->clients; c; c = c->next)
				if (c->bits[b->index])
					set_bits(c->bits[b->index], first + page, 1);
		}
	}
}

int dirty_collect_range(struct mem *m, const struct mem_range *r)
{
	uint64_t pages = (r->last - r->gpa + 1) >> PAGE_SHIFT;
	unsigned long *bits;
	int ret;

	if (!range_logged(m, r) || !m->backend || !m->backend->dirty_log)
		return 0;
	bits = xcalloc(bitmap_longs(pages), sizeof(long));
	ret = m->backend->dirty_log(m->ctx, r->slot, pages << PAGE_SHIFT, bits);
	if (!ret)
		spread(r->block, bits, r->offset >> PAGE_SHIFT, pages);
	free(bits);
	return ret;
}

static void collect_own(struct block *b)
{
	uint64_t pages = b->size >> PAGE_SHIFT;

	for (size_t w = 0; w < bitmap_longs(pages); w++) {
		unsigned long word;

		if (!__atomic_load_n(&b->own[w], __ATOMIC_RELAXED))
			continue;
		word = __atomic_exchange_n(&b->own[w], 0, __ATOMIC_ACQUIRE);
		spread(b, &word, w * BITS_PER_LONG, MIN(pages - w * BITS_PER_LONG, BITS_PER_LONG));
	}
}

int mem_dirty_sync(struct mem *m)
{
	struct block *b = NULL;
	int ret = 0;

	pthread_mutex_lock(&m->mutex);
	for (size_t i = 0; i < m->map->n && !ret; i++)
		ret = dirty_collect_range(m, &m->map->r[i]);
	while ((b = block_next(m, b)))
		if (b->own)
			collect_own(b);
	pthread_mutex_unlock(&m->mutex);
	return ret;
}

uint64_t dirty_client_take(struct dirty_client *c, struct block *b, unsigned long *out)
{
	size_t n = bitmap_longs(b->size >> PAGE_SHIFT);
	unsigned long *bits = c->bits[b->index];
	uint64_t set = 0;

	memset(out, 0, n * sizeof(*out));
	if (!bits)
		return 0;
	pthread_mutex_lock(&c->m->mutex);
	for (size_t w = 0; w < n; w++) {
		out[w] = bits[w];
		bits[w] = 0;
		set += __builtin_popcountl(out[w]);
	}
	pthread_mutex_unlock(&c->m->mutex);
	return set;
}
