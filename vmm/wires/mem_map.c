/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mem_map.c: where the guest sees which part of which block. The map is an immutable sorted array.
 * It changes only in an exclusive section, when no accessor runs, so the old one is freed at once.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "vmm/wires/flat.h"
#include "vmm/wires/mem_impl.h"

static bool range_same(const struct mem_range *a, const struct mem_range *b)
{
	return a->gpa == b->gpa && a->last == b->last && a->host == b->host && a->rom == b->rom;
}

static int slot_set(struct mem *m, const struct mem_range *r)
{
	if (!m->backend)
		return 0;
	return m->backend->slot(m->ctx, r->slot, r->gpa, range_size(r), r->host, r->rom,
				range_logged(m, r));
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
	struct span *in = xcalloc(m->npieces, sizeof(*in)),
		    *out = xcalloc(2 * m->npieces, sizeof(*out));
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

		map->r[i] = (struct mem_range){
			out[i].start, out[i].last, p->block->host + off, p->block, off, p->rom, 0
		};
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

	if (!size || (gpa | offset | size) % PAGE_SIZE || !range_ok(offset, size, b->size) ||
	    size - 1 > UINT64_MAX - gpa)
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
	/*
	 * Taking slots away fails only for our own mistakes; what it uncovers may find no slot
	 * left.
	 */
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

		if (p->block == b && gpa >= p->gpa && gpa - p->gpa < p->size &&
		    (!any || p->prio > *prio)) {
			*prio = p->prio;
			any = true;
		}
	}
	return any;
}

static bool piece_inside(const struct piece *p, const struct block *b, int prio, uint64_t gpa,
			 uint64_t size)
{
	return p->block == b && p->prio == prio && p->gpa >= gpa &&
	       range_ok(p->gpa - gpa, p->size, size);
}

/*
 * Makes [gpa, gpa + size) of the block consist of whole pieces of one rank, which *prio tells.
 * Splits stay when the pieces become equal again: KVM would throw away every mapping of a slot that
 * grows or shrinks, and firmware toggles these registers often.
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

int mem_for_each(struct mem *m,
		 int (*fn)(void *ctx, struct block *b, uint64_t gpa, uint64_t offset,
			   uint64_t size),
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
