/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bus.c: address to device. Any thread looks up without a lock; the region's loop is locked for the
 * call.
 *
 * The map is an immutable sorted array behind an atomic pointer. It is swapped in exclusive
 * sections, when every vCPU is parked and every loop's lock is taken. Threads that are neither
 * (tests, a debugger) may still be between looking up and taking the lock, so an access looks at
 * the map again once it has the lock, and an old map is freed only when no access is under way that
 * may hold it.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/wires/bus.h"
#include "vmm/wires/flat.h"

/* counters of accesses under way, so that vCPUs do not share a cache line */
#define BUS_STRIPES 8
#define BUS_MAX_WIDTH 8

struct region {
	uint64_t base, last;
	const struct region_ops *ops;
	void *dev;
	struct loop *loop;
	char *who;
	uint64_t rank;
};

struct bus_event {
	uint64_t addr, match;
	unsigned size;		/* 0: any */
	bool any_value;
	int fd;
	struct bus_event *next;
};

struct bus_map {
	size_t nspans, nevents;
	const struct bus_event *events;		/* sorted by address */
	struct bus_map *next;			/* retired */
	struct span spans[];
};

struct bus {
	const char *name;
	uint64_t limit;
	struct bus_map *map;		/* atomic */
	struct bus_map *retired;
	struct region **regions;	/* sorted by base */
	size_t nregions;
	uint64_t next_seq;
	struct bus_event *events;
	const struct bus_backend *backend;
	void *backend_ctx;
	struct region **dead;		/* deleted, but an old map may name them */
	size_t ndead;
	struct { unsigned n; char pad[60]; } busy[BUS_STRIPES] __attribute__((aligned(64)));
};

/* --- the map --- */

static void map_free(struct bus_map *map)
{
	if (map)
		free((void *)map->events);
	free(map);
}

static void region_free(struct region *r)
{
	free(r->who);
	free(r);
}

/*
 * Frees what no access can hold: an access that began after the present map was published has seen
 * that one, and each stripe seen at zero has let go of everything older.
 */
static void bus_reclaim(struct bus *b)
{
	for (int i = 0; i < BUS_STRIPES; i++)
		if (__atomic_load_n(&b->busy[i].n, __ATOMIC_SEQ_CST))
			return;
	while (b->retired) {
		struct bus_map *old = b->retired;

		b->retired = old->next;
		map_free(old);
	}
	while (b->ndead)
		region_free(b->dead[--b->ndead]);
}

static struct bus_event *events_copy(struct bus *b, size_t *n)
{
	struct bus_event *v, *e;

	*n = 0;
	for (e = b->events; e; e = e->next)
		(*n)++;
	v = xcalloc(*n, sizeof(*v));
	*n = 0;
	for (e = b->events; e; e = e->next)
		v[(*n)++] = *e;
	return v;
}

static void bus_publish(struct bus *b)
{
	struct span *in = xcalloc(b->nregions, sizeof(*in));
	struct bus_map *map = xcalloc(1, sizeof(*map) + 2 * b->nregions * sizeof(map->spans[0])),
		       *old = b->map;

	for (size_t i = 0; i < b->nregions; i++)
		in[i] = (struct span){ b->regions[i]->base, b->regions[i]->last,
				       b->regions[i]->rank, b->regions[i] };
	map->nspans = flatten(in, b->nregions, map->spans);
	map->events = events_copy(b, &map->nevents);
	free(in);
	__atomic_store_n(&b->map, map, __ATOMIC_SEQ_CST);
	if (old) {
		old->next = b->retired;
		b->retired = old;
	}
	bus_reclaim(b);
}

struct bus *bus_new(const char *name, uint64_t limit)
{
	struct bus *b = aligned_alloc(64, ALIGN_UP(sizeof(*b), (size_t)64));

	if (!b)
		abort();
	memset(b, 0, sizeof(*b));
	b->name = name;
	b->limit = limit;
	bus_publish(b);
	return b;
}

void bus_free(struct bus *b)
{
	if (!b)
		return;
	while (b->nregions)
		region_free(b->regions[--b->nregions]);
	while (b->events) {
		struct bus_event *e = b->events;

		b->events = e->next;
		free(e);
	}
	bus_reclaim(b);
	assert(!b->retired);
	map_free(b->map);
	free(b->regions);
	free(b->dead);
	free(b);
}

int bus_add(struct bus *b, uint64_t base, uint64_t len, const struct region_ops *ops, void *dev,
	    struct loop *loop, const char *who, unsigned flags)
{
	struct region *r;
	size_t i;

	if (!len || base > b->limit || len - 1 > b->limit - base)
		return -EINVAL;
	for (i = 0; i < b->nregions && !(flags & (BUS_OVER | BUS_GUEST)); i++) {
		struct region *o = b->regions[i];

		/*
		 * What the guest moves about may lie under a fixed device, but a fixed one must not
		 * surprise another.
		 */
		if (o->rank >> 62 == 1 && o->base <= base + (len - 1) && base <= o->last)
			return -EEXIST;
	}
	r = xcalloc(1, sizeof(*r));
	*r = (struct region){ base, base + (len - 1), ops, dev, loop, xstrdup(who), 0 };
	/*
	 * Over before fixed before the guest's; the newest `over` wins, of the guest's the oldest.
	 */
	if (flags & BUS_OVER)
		r->rank = (1ull << 61) - b->next_seq++;
	else
		r->rank = (flags & BUS_GUEST ? 2ull : 1ull) << 62 | b->next_seq++;
	b->regions = xrealloc(b->regions, (b->nregions + 1) * sizeof(*b->regions));
	for (i = b->nregions++; i > 0 && b->regions[i - 1]->base > base; i--)
		b->regions[i] = b->regions[i - 1];
	b->regions[i] = r;
	bus_publish(b);
	return 0;
}

void bus_del(struct bus *b, uint64_t base, const struct region_ops *ops, void *dev)
{
	for (size_t i = 0; i < b->nregions; i++) {
		struct region *r = b->regions[i];

		if (r->base != base || r->ops != ops || r->dev != dev)
			continue;
		b->nregions--;
		memmove(b->regions + i, b->regions + i + 1,
			(b->nregions - i) * sizeof(*b->regions));
		b->dead = xrealloc(b->dead, (b->ndead + 1) * sizeof(*b->dead));
		b->dead[b->ndead++] = r;
		bus_publish(b);
		return;
	}
	assert(!"bus_del of a region that is not there");
}

/* --- doorbells --- */

void bus_set_backend(struct bus *b, const struct bus_backend *ops, void *ctx)
{
	b->backend = ops;
	b->backend_ctx = ctx;
}

int bus_eventfd_add(struct bus *b, uint64_t addr, unsigned size, bool any_value, uint64_t match,
		    int fd)
{
	struct bus_event *e, **at;

	for (e = b->events; e; e = e->next)
		if (e->addr == addr && e->size == size &&
		    (e->any_value || any_value || e->match == match))
			return -EEXIST;
	e = xcalloc(1, sizeof(*e));
	*e = (struct bus_event){ addr, match, size, any_value, fd, NULL };
	for (at = &b->events; *at && (*at)->addr <= addr; at = &(*at)->next)
		;
	e->next = *at;
	*at = e;
	bus_publish(b);
	/* Where the backend cannot, the access arrives here and bus_write signals. */
	if (b->backend)
		b->backend->eventfd(b->backend_ctx, b, addr, size, any_value, match, fd, true);
	return 0;
}

void bus_eventfd_del(struct bus *b, uint64_t addr, int fd)
{
	for (struct bus_event **at = &b->events; *at; at = &(*at)->next) {
		struct bus_event *e = *at;

		if (e->addr != addr || e->fd != fd)
			continue;
		*at = e->next;
		if (b->backend)
			b->backend->eventfd(b->backend_ctx, b, addr, e->size, e->any_value,
					    e->match, fd, false);
		free(e);
		bus_publish(b);
		return;
	}
}

static bool event_signal(const struct bus_map *map, uint64_t addr, unsigned size, uint64_t val)
{
	size_t low = 0, high = map->nevents;
	uint64_t one = 1;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (map->events[mid].addr < addr)
			low = mid + 1;
		else
			high = mid;
	}
	for (; low < map->nevents && map->events[low].addr == addr; low++) {
		const struct bus_event *e = &map->events[low];

		if ((e->size && e->size != size) || (!e->any_value && e->match != val))
			continue;
		/* A full counter means that the signal is there already. */
		return write(e->fd, &one, sizeof(one)) == sizeof(one) || errno == EAGAIN;
	}
	return false;
}

/* --- looking up --- */

static unsigned stripe(void)
{
	static unsigned next;
	static __thread unsigned mine;

	if (!mine)
		mine = __atomic_add_fetch(&next, 1, __ATOMIC_RELAXED);
	return mine % BUS_STRIPES;
}

/* Between enter and leave the map and its regions stay. */
static unsigned bus_enter(struct bus *b)
{
	unsigned s = stripe();

	__atomic_add_fetch(&b->busy[s].n, 1, __ATOMIC_SEQ_CST);
	return s;
}

static void bus_leave(struct bus *b, unsigned s)
{
	__atomic_sub_fetch(&b->busy[s].n, 1, __ATOMIC_SEQ_CST);
}

static struct bus_map *bus_map(struct bus *b)
{
	return __atomic_load_n(&b->map, __ATOMIC_SEQ_CST);
}

static struct region *map_find(const struct bus_map *map, uint64_t addr)
{
	size_t low = 0, high = map->nspans;

	while (low < high) {
		size_t mid = (low + high) / 2;
		const struct span *s = &map->spans[mid];

		if (addr < s->start)
			high = mid;
		else if (addr > s->last)
			low = mid + 1;
		else
			return s->owner;
	}
	return NULL;
}

/* The region at addr with its loop locked (if it has one); NULL: nobody. */
static struct region *region_lock(struct bus *b, uint64_t addr)
{
	for (;;) {
		struct bus_map *map = bus_map(b);
		struct region *r = map_find(map, addr);

		if (!r || !r->loop)
			return r;
		loop_lock(r->loop);
		if (bus_map(b) == map)
			return r;
		loop_unlock(r->loop);	/* it moved while we waited */
	}
}

/* --- widths --- */

static unsigned min_width(const struct region_ops *ops)
{
	return ops->min_width ? ops->min_width : 1;
}

static unsigned max_width(const struct region_ops *ops)
{
	return ops->max_width ? ops->max_width : BUS_MAX_WIDTH;
}

static uint64_t width_mask(unsigned size)
{
	return size >= 8 ? UINT64_MAX : (1ull << size * 8) - 1;
}

/*
 * The largest naturally aligned piece of an access of `size` bytes at `off` that the region takes.
 */
static unsigned piece_width(const struct region_ops *ops, uint64_t off, unsigned size)
{
	unsigned w = max_width(ops);

	while (w > size || off % w)
		w /= 2;
	return w;
}

static uint64_t region_read(struct region *r, uint64_t off, unsigned size)
{
	unsigned min = min_width(r->ops);
	uint64_t val = 0;

	if (!r->ops->read)
		return width_mask(size);
	for (unsigned done = 0, w; done < size; done += w) {
		uint64_t at = off + done, v;

		w = piece_width(r->ops, at, size - done);
		if (w < min)	/* the register is wider: our bytes of it */
			v = r->ops->read(r->dev, ALIGN_DOWN(at, min), min) >> at % min * 8;
		else
			v = r->ops->read(r->dev, at, w);
		val |= (v & width_mask(w)) << done * 8;
	}
	return val;
}

static void region_write(struct region *r, uint64_t off, unsigned size, uint64_t val)
{
	unsigned min = min_width(r->ops);

	if (!r->ops->write)
		return;
	for (unsigned done = 0, w; done < size; done += w) {
		uint64_t at = off + done, v = val >> done * 8;

		w = piece_width(r->ops, at, size - done);
		v &= width_mask(w);
		if (w < min) {	/* the other bytes keep what they read as */
			unsigned shift = at % min * 8;
			uint64_t old = region_read(r, ALIGN_DOWN(at, min), min);

			v = (old & ~(width_mask(w) << shift)) | v << shift;
			r->ops->write(r->dev, ALIGN_DOWN(at, min), min, v);
		} else {
			r->ops->write(r->dev, at, w, v);
		}
	}
}

/* --- accesses --- */

static bool read_inside(struct bus *b, uint64_t addr, unsigned size, uint64_t *val)
{
	struct region *r = region_lock(b, addr);
	struct loop *loop = r ? r->loop : NULL;
	uint64_t high;
	bool found;

	if (r && r->last - addr >= size - 1) {
		*val = region_read(r, addr - r->base, size);
		if (loop)
			loop_unlock(loop);
		return true;
	}
	if (loop)
		loop_unlock(loop);
	if (size == 1) {
		*val = 0xff;
		return false;
	}
	/* It crosses an end, or begins where nobody is: halves. */
	size /= 2;
	found = read_inside(b, addr, size, val);
	found |= read_inside(b, addr + size, size, &high);
	*val |= high << size * 8;
	return found;
}

static bool write_inside(struct bus *b, uint64_t addr, unsigned size, uint64_t val)
{
	struct region *r = region_lock(b, addr);
	struct loop *loop = r ? r->loop : NULL;
	bool found;

	if (r && r->last - addr >= size - 1) {
		region_write(r, addr - r->base, size, val & width_mask(size));
		if (loop)
			loop_unlock(loop);
		return true;
	}
	if (loop)
		loop_unlock(loop);
	if (size == 1)
		return false;
	size /= 2;
	found = write_inside(b, addr, size, val);
	return write_inside(b, addr + size, size, val >> size * 8) | found;
}

bool bus_read(struct bus *b, uint64_t addr, unsigned size, uint64_t *val)
{
	unsigned s = bus_enter(b);
	bool found = read_inside(b, addr, size, val);

	bus_leave(b, s);
	return found;
}

bool bus_write(struct bus *b, uint64_t addr, unsigned size, uint64_t val)
{
	unsigned s = bus_enter(b);
	const struct bus_map *map = bus_map(b);
	bool found = map->nevents && event_signal(map, addr, size, val & width_mask(size));

	if (!found)
		found = write_inside(b, addr, size, val);
	bus_leave(b, s);
	return found;
}

bool bus_read_rep(struct bus *b, uint64_t addr, unsigned size, void *data, size_t count)
{
	unsigned s = bus_enter(b);
	struct region *r = region_lock(b, addr);
	struct loop *loop = r ? r->loop : NULL;
	uint8_t *p = data;
	bool found = false;
	uint64_t val;

	if (r && r->ops->read_rep && size <= max_width(r->ops) && r->last - addr >= size - 1) {
		r->ops->read_rep(r->dev, addr - r->base, size, data, count);
		found = true;
		count = 0;
	}
	if (loop)
		loop_unlock(loop);
	for (; count--; p += size) {
		found |= read_inside(b, addr, size, &val);
		val = htole64(val);
		memcpy(p, &val, size);
	}
	bus_leave(b, s);
	return found;
}

bool bus_write_rep(struct bus *b, uint64_t addr, unsigned size, const void *data, size_t count)
{
	unsigned s = bus_enter(b);
	struct region *r = region_lock(b, addr);
	struct loop *loop = r ? r->loop : NULL;
	const uint8_t *p = data;
	bool found = false;

	if (r && r->ops->write_rep && size <= max_width(r->ops) && r->last - addr >= size - 1) {
		r->ops->write_rep(r->dev, addr - r->base, size, data, count);
		found = true;
		count = 0;
	}
	if (loop)
		loop_unlock(loop);
	for (; count--; p += size) {
		uint64_t val = 0;

		memcpy(&val, p, size);
		found |= write_inside(b, addr, size, le64toh(val));
	}
	bus_leave(b, s);
	return found;
}

bool bus_lookup(struct bus *b, uint64_t addr, const char **who, const char **chip, uint64_t *off,
		const char **reg, bool is_write)
{
	unsigned s = bus_enter(b);
	struct region *r = map_find(bus_map(b), addr);

	if (r) {
		*who = r->who;
		*chip = r->ops->name;
		*off = addr - r->base;
		*reg = r->ops->reg_name ? r->ops->reg_name(r->dev, *off, is_write) : NULL;
	}
	bus_leave(b, s);
	return r != NULL;
}

void bus_for_each(struct bus *b,
		  void (*fn)(void *ctx, uint64_t base, uint64_t len, const char *who,
			     const char *chip),
		  void *ctx)
{
	for (size_t i = 0; i < b->nregions; i++) {
		struct region *r = b->regions[i];

		fn(ctx, r->base, r->last - r->base + 1, r->who, r->ops->name);
	}
}
