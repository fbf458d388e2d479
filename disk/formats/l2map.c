/* SPDX-License-Identifier: GPL-2.0-or-later */
/* l2map.c: tables of tables; see l2map.h. Worker threads. */
#include "disk/formats/l2map.h"

#include <errno.h>
#include <stdlib.h>

#define LOADED_MAX (16 * MiB)	/* clean tables beyond this are dropped */
#define DIRTY_MAX (16 * MiB)	/* changed tables beyond this are written without a flush */

struct l2_table {
	uint8_t *data;
	uint64_t fresh;		/* its place, until the first level in the file names it */
	bool dirty;
};

static uint64_t table_len(const struct l2map *l)
{
	return l->l2_entries * 8;
}

static uint64_t load(const struct l2map *l, const uint8_t *p)
{
	return l->big_endian ? ld_be64(p) : ld_le64(p);
}

static void store(const struct l2map *l, uint8_t *p, uint64_t v)
{
	if (l->big_endian)
		st_be64(p, v);
	else
		st_le64(p, v);
}

static void drop_clean(struct l2map *l)
{
	for (uint64_t i = 0; i < l->l1_entries; i++) {
		if (!l->tables[i].data || l->tables[i].dirty)
			continue;
		free(l->tables[i].data);
		l->tables[i].data = NULL;
		l->loaded--;
	}
}

static bool is_place(const struct l2map *l, uint64_t off, uint64_t len)
{
	return off >= l->first_data && !(off & l->place_mask) &&
	       range_ok(off, len, bmap_file_size(&l->map));
}

/* Table i, or NULL in *t when there is none. Lock held. */
static int table_get(struct l2map *l, uint64_t i, struct l2_table **t)
{
	uint64_t off = load(l, l->l1 + i * 8);
	uint8_t *data;
	int ret;

	*t = &l->tables[i];
	if ((*t)->data)
		return 0;
	if (!off) {
		*t = NULL;
		return 0;
	}
	if (!is_place(l, off, table_len(l)))
		return -EIO;
	if ((l->loaded + 1) * table_len(l) > LOADED_MAX)
		drop_clean(l);
	data = malloc(table_len(l));
	if (!data)
		return -ENOMEM;
	ret = node_pread(l->map.file, data, table_len(l), off);
	if (ret < 0) {
		free(data);
		return ret;
	}
	(*t)->data = data;
	l->loaded++;
	return 0;
}

static int l2_lookup(struct bmap *m, uint64_t b, struct bmap_entry *e)
{
	struct l2map *l = m->ctx;
	struct l2_table *t;
	uint64_t v;
	int ret;

	if (b / l->l2_entries >= l->l1_entries)
		return -EIO;
	ret = table_get(l, b / l->l2_entries, &t);
	if (ret < 0)
		return ret;
	e->state = BMAP_NONE;
	if (!t) {
		e->span = l->l2_entries - b % l->l2_entries;
		return 0;
	}
	v = load(l, t->data + b % l->l2_entries * 8);
	if (!v)
		return 0;
	if (l->zero_entry && v == l->zero_entry) {
		e->state = BMAP_ZERO;
		return 0;
	}
	ret = l->decode(l, v, e);
	if (ret < 0)
		return ret;
	if (e->state == BMAP_DATA)
		return is_place(l, e->off, 1) ? 0 : -EIO;
	return e->off >= l->first_data && e->off < bmap_file_size(m) ? 0 : -EIO;
}

static void mark(struct l2map *l, uint64_t i)
{
	if (l->tables[i].dirty)
		return;
	l->tables[i].dirty = true;
	l->dirty[l->ndirty++] = i;
}

/* Table i to be changed, made if it is not there. Lock held. */
static int table_for(struct l2map *l, uint64_t i, struct l2_table **t)
{
	uint64_t at;
	int ret = table_get(l, i, t);

	if (ret < 0 || *t)
		return ret;
	at = ALIGN_UP(l->map.end, l->align);
	if (at > INT64_MAX - table_len(l))
		return -EFBIG;
	*t = &l->tables[i];
	(*t)->data = calloc(1, table_len(l));
	if (!(*t)->data)
		return -ENOMEM;
	(*t)->fresh = at;
	l->map.end = at + table_len(l);
	l->loaded++;
	mark(l, i);
	return 0;
}

static int write_l1(struct l2map *l)
{
	int ret = 0;

	for (uint64_t k = 0; k < l->ndirty && !ret; k++) {
		uint64_t i = l->dirty[k];
		uint8_t place[8];

		if (!l->tables[i].fresh)
			continue;
		store(l, place, l->tables[i].fresh);
		ret = node_pwrite(l->map.file, place, 8, l->l1_off + i * 8);
	}
	return ret;
}

/* Until all of it is written all of it stays marked: the next flush does it again. */
static int l2_writeback(struct bmap *m)
{
	struct l2map *l = m->ctx;
	bool fresh = false;
	int ret = 0;

	for (uint64_t k = 0; k < l->ndirty && !ret; k++) {
		uint64_t i = l->dirty[k];
		const struct l2_table *t = &l->tables[i];

		fresh |= t->fresh != 0;
		ret = node_pwrite(m->file, t->data, table_len(l),
				  t->fresh ? t->fresh : load(l, l->l1 + i * 8));
	}
	if (!ret && fresh)
		ret = node_flush(m->file);
	if (!ret && fresh)
		ret = write_l1(l);
	for (uint64_t k = 0; k < l->ndirty && !ret; k++) {
		struct l2_table *t = &l->tables[l->dirty[k]];

		if (t->fresh)
			store(l, l->l1 + l->dirty[k] * 8, t->fresh);
		t->fresh = 0;
		t->dirty = false;
	}
	if (!ret)
		l->ndirty = 0;
	return ret;
}

/* Entries of [b, b + n) become v, v + step, ... Lock held. */
static int set_entries(struct l2map *l, uint64_t b, uint64_t n, uint64_t v, uint64_t step)
{
	for (uint64_t k = 0; k < n; k++) {
		struct l2_table *t;
		int ret = table_for(l, (b + k) / l->l2_entries, &t);

		if (ret < 0)
			return ret;
		store(l, t->data + (b + k) % l->l2_entries * 8, v + k * step);
		mark(l, (b + k) / l->l2_entries);
	}
	if (l->ndirty * table_len(l) > DIRTY_MAX) {
		int ret = node_flush(l->map.file);

		return ret ? ret : l2_writeback(&l->map);
	}
	return 0;
}

static int l2_commit(struct bmap *m, uint64_t b, uint64_t n, uint64_t off)
{
	return set_entries(m->ctx, b, n, off, m->block);
}

static int l2_commit_zero(struct bmap *m, uint64_t b, uint64_t n)
{
	struct l2map *l = m->ctx;

	return set_entries(l, b, n, l->zero_entry, 0);
}

static int l2_unpack(struct bmap *m, uint64_t b, const void *packed, uint64_t len, void *out)
{
	const struct l2map *l = m->ctx;

	return l->unpack ? l->unpack(m, b, packed, len, out) : -EIO;
}

static const struct bmap_ops with_zeros = {
	.lookup = l2_lookup, .commit = l2_commit, .commit_zero = l2_commit_zero,
	.writeback = l2_writeback, .unpack = l2_unpack,
};
static const struct bmap_ops without_zeros = {
	.lookup = l2_lookup, .commit = l2_commit, .writeback = l2_writeback, .unpack = l2_unpack,
};

int l2map_open(struct l2map *l, struct err *err)
{
	l->l1 = malloc(l->l1_entries * 8 + 1);
	l->tables = calloc(l->l1_entries + 1, sizeof(*l->tables));
	l->dirty = calloc(l->l1_entries + 1, sizeof(*l->dirty));
	if (!l->l1 || !l->tables || !l->dirty) {
		free(l->l1);
		free(l->tables);
		free(l->dirty);
		return err_set(err, ENOMEM, "no memory for the L1 table");
	}
	l->map.ctx = l;
	l->map.ops = l->zero_entry ? &with_zeros : &without_zeros;
	l->map.align = l->align;
	l->map.end = ALIGN_UP(MAX(l->map.file->size, l->first_data), l->map.align);
	bmap_init(&l->map);
	return node_pread(l->map.file, l->l1, l->l1_entries * 8, l->l1_off);
}

void l2map_close(struct l2map *l)
{
	for (uint64_t i = 0; l->tables && i < l->l1_entries; i++)
		free(l->tables[i].data);
	free(l->tables);
	free(l->dirty);
	free(l->l1);
}

int l2map_set(struct l2map *l, uint64_t block, uint64_t v)
{
	int ret;

	pthread_mutex_lock(&l->map.lock);
	l->map.dirty = true;
	ret = set_entries(l, block, 1, v, 0);
	if (l->map.unpacked_block == block)
		l->map.unpacked_block = UINT64_MAX;
	pthread_mutex_unlock(&l->map.lock);
	return ret;
}

uint64_t l2map_take(struct l2map *l, uint64_t len, uint64_t align)
{
	uint64_t at;

	pthread_mutex_lock(&l->map.lock);
	at = ALIGN_UP(l->map.end, align);
	l->map.end = at + len;
	pthread_mutex_unlock(&l->map.lock);
	return at;
}

int l2map_empty(struct l2map *l, uint64_t keep)
{
	struct bmap *m = &l->map;
	int ret;

	pthread_mutex_lock(&m->lock);
	for (uint64_t i = 0; i < l->l1_entries; i++) {
		free(l->tables[i].data);
		l->tables[i] = (struct l2_table){ 0 };
	}
	l->loaded = l->ndirty = 0;
	m->dirty = false;
	m->unpacked_block = UINT64_MAX;
	memset(l->l1, 0, l->l1_entries * 8);
	ret = node_pwrite(m->file, l->l1, l->l1_entries * 8, l->l1_off);
	if (!ret)
		ret = node_flush(m->file);
	/* Nothing names what follows any more. */
	if (!ret)
		ret = node_resize(m->file, keep, NULL);
	if (!ret)
		m->end = ALIGN_UP(keep, m->align);
	pthread_mutex_unlock(&m->lock);
	return ret;
}

void l2map_tables(struct l2map *l, uint64_t *count, uint64_t *bytes)
{
	*count = 0;
	for (uint64_t i = 0; i < l->l1_entries; i++)
		*count += load(l, l->l1 + i * 8) != 0;
	*bytes = *count * table_len(l);
}
