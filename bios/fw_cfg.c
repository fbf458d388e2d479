/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fw_cfg.c: the firmware configuration device.
 *
 * Facts: QEMU's docs/specs/fw_cfg.rst: selector (write 16 bits at 0x510), data (bytes at 0x511),
 * DMA address (big-endian halves at 0x514 and 0x518; the lower half starts the transfer), the file
 * directory at key 0x19. Runs on the loop it was made with; a transfer is done before the port
 * write returns.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "bios/fw_cfg.h"
#include "vmm/base/log.h"

#define FW_CFG_PORT 0x510
#define FW_CFG_DMA_PORT 0x514
#define FW_CFG_DMA_SIGNATURE 0x51454d5520434647ull	/* "QEMU CFG" */
#define FW_CFG_VERSION_PIO (1 << 0)
#define FW_CFG_VERSION_DMA (1 << 1)
#define FW_CFG_WRITE_CHANNEL 0x4000
#define FW_CFG_MAX_KEYS 128
/* Reading on past the end gives zeros; nobody needs more of them than this. */
#define FW_CFG_MAX_ZEROS (1 * MiB)
enum { DMA_ERROR = 1 << 0, DMA_READ = 1 << 1, DMA_SKIP = 1 << 2, DMA_SELECT = 1 << 3,
       DMA_WRITE = 1 << 4 };

struct fw_cfg_entry {
	uint16_t key;
	char name[FW_CFG_NAME_MAX];	/* empty: not a file */
	uint8_t *data;
	size_t len;
	bool writable;
	struct fw_cfg_hooks hooks;
};

struct fw_cfg {
	struct device dev;
	struct bus *pio;
	struct mem *mem;
	struct fw_cfg_entry entries[FW_CFG_MAX_KEYS];
	unsigned n, nfiles;
	/* registers */
	uint16_t key;
	uint32_t offset;
	uint64_t dma_addr;
};

struct fw_cfg_dma {
	uint32_t control, length;
	uint64_t address;
};

static struct fw_cfg_entry *entry_find(struct fw_cfg *f, uint16_t key)
{
	unsigned i;

	for (i = 0; i < f->n; i++)
		if (f->entries[i].key == key)
			return &f->entries[i];
	return NULL;
}

static struct fw_cfg_entry *entry_find_file(struct fw_cfg *f, const char *name)
{
	unsigned i;

	for (i = 0; i < f->n; i++)
		if (*name && !strcmp(f->entries[i].name, name))
			return &f->entries[i];
	return NULL;
}

static void entry_set(struct fw_cfg_entry *e, const void *data, size_t len)
{
	free(e->data);
	e->data = xcalloc(1, len + 1);
	if (len)
		memcpy(e->data, data, len);
	e->len = len;
}

static struct fw_cfg_entry *entry_new(struct fw_cfg *f, uint16_t key)
{
	struct fw_cfg_entry *e;

	if (f->n == FW_CFG_MAX_KEYS)
		return NULL;
	e = &f->entries[f->n++];
	e->key = key;
	return e;
}

static void directory_update(struct fw_cfg *f)
{
	uint8_t dir[4 + FW_CFG_MAX_FILES * 64] = { 0 }, *p = dir + 4;
	unsigned i;

	for (i = 0; i < f->n; i++) {
		struct fw_cfg_entry *e = &f->entries[i];

		if (!*e->name)
			continue;
		st_be32(p, e->len);
		st_be16(p + 4, e->key);
		memcpy(p + 8, e->name, FW_CFG_NAME_MAX);
		p += 64;
	}
	st_be32(dir, f->nfiles);
	fw_cfg_add_key(f, FW_CFG_FILE_DIR, dir, p - dir);
}

int fw_cfg_add_key(struct fw_cfg *f, uint16_t key, const void *data, size_t len)
{
	struct fw_cfg_entry *e = entry_find(f, key);

	if (!e)
		e = entry_new(f, key);
	if (!e)
		return -ENOSPC;
	entry_set(e, data, len);
	return 0;
}

void fw_cfg_add_key_u16(struct fw_cfg *f, uint16_t key, uint16_t v)
{
	v = htole16(v);
	fw_cfg_add_key(f, key, &v, sizeof(v));
}

void fw_cfg_add_key_u32(struct fw_cfg *f, uint16_t key, uint32_t v)
{
	v = htole32(v);
	fw_cfg_add_key(f, key, &v, sizeof(v));
}

void fw_cfg_add_key_u64(struct fw_cfg *f, uint16_t key, uint64_t v)
{
	v = htole64(v);
	fw_cfg_add_key(f, key, &v, sizeof(v));
}

int fw_cfg_add_file_hooks(struct fw_cfg *f, const char *name, const void *data, size_t len,
			  bool writable, const struct fw_cfg_hooks *hooks)
{
	struct fw_cfg_entry *e = entry_find_file(f, name);

	if (!*name || strlen(name) >= FW_CFG_NAME_MAX || len > UINT32_MAX)
		return -EINVAL;
	if (!e) {
		e = f->nfiles < FW_CFG_MAX_FILES ? entry_new(f, FW_CFG_FILE_FIRST + f->nfiles)
						 : NULL;
		if (!e)
			return -ENOSPC;
		strcpy(e->name, name);
		f->nfiles++;
	}
	entry_set(e, data, len);
	e->writable = writable;
	e->hooks = hooks ? *hooks : (struct fw_cfg_hooks){ NULL };
	directory_update(f);
	return 0;
}

int fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, size_t len)
{
	return fw_cfg_add_file_hooks(f, name, data, len, false, NULL);
}

void fw_cfg_replace_file(struct fw_cfg *f, const char *name, const void *data, size_t len)
{
	struct fw_cfg_entry *e = entry_find_file(f, name);

	assert(e && e->len == len);
	memcpy(e->data, data, len);
}

const void *fw_cfg_file(struct fw_cfg *f, const char *name, size_t *len)
{
	struct fw_cfg_entry *e = entry_find_file(f, name);

	if (!e)
		return NULL;
	*len = e->len;
	return e->data;
}

void fw_cfg_for_each(struct fw_cfg *f,
		     void (*fn)(void *ctx, uint16_t key, const char *name, const void *data,
				size_t len),
		     void *ctx)
{
	unsigned i;

	for (i = 0; i < f->n; i++)
		fn(ctx, f->entries[i].key, f->entries[i].name, f->entries[i].data,
		   f->entries[i].len);
}

static void fw_cfg_select(struct fw_cfg *f, uint16_t key)
{
	struct fw_cfg_entry *e;

	f->key = key & ~FW_CFG_WRITE_CHANNEL;
	f->offset = 0;
	e = entry_find(f, f->key);
	if (e && e->hooks.selected)
		e->hooks.selected(e->hooks.ctx);
}

/* --- ports --- */
static void fw_cfg_read_data(struct fw_cfg *f, uint8_t *p, size_t n)
{
	struct fw_cfg_entry *e = entry_find(f, f->key);
	size_t have = e && f->offset < e->len ? MIN(n, e->len - f->offset) : 0;

	if (have)
		memcpy(p, e->data + f->offset, have);
	memset(p + have, 0, n - have);
	f->offset += have;
}

static uint64_t fw_cfg_port_read(void *dev, uint64_t off, unsigned size)
{
	uint8_t b[2] = { 0 };

	fw_cfg_read_data(dev, b, size);
	return ld_le16(b);
}

static void fw_cfg_port_read_rep(void *dev, uint64_t off, unsigned size, void *data, size_t count)
{
	fw_cfg_read_data(dev, data, size * count);
}

static void fw_cfg_port_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	/*
	 * Writing data through the port went out of the specification; only the selector is left.
	 */
	if (off == 0 && size == 2)
		fw_cfg_select(dev, val);
}

static const char *fw_cfg_reg_name(void *dev, uint64_t off, bool is_write)
{
	return is_write ? "selector" : "data";
}

static const struct region_ops fw_cfg_ops = {
	.name = "fw_cfg",
	.read = fw_cfg_port_read,
	.write = fw_cfg_port_write,
	.min_width = 1,
	.max_width = 2,
	.reg_name = fw_cfg_reg_name,
	.read_rep = fw_cfg_port_read_rep,
};

/* --- DMA --- */
static int dma_read(struct fw_cfg *f, uint64_t gpa, uint32_t len)
{
	struct fw_cfg_entry *e = entry_find(f, f->key);
	uint32_t have = e && f->offset < e->len ? MIN(len, e->len - f->offset) : 0;
	int ret = 0;

	if (len - have > FW_CFG_MAX_ZEROS)
		return -EINVAL;
	if (have)
		ret = mem_write(f->mem, gpa, e->data + f->offset, have);
	if (ret == 0 && len > have)
		ret = mem_set(f->mem, gpa + have, 0, len - have);
	f->offset += have;
	return ret;
}

static int dma_write(struct fw_cfg *f, uint64_t gpa, uint32_t len)
{
	struct fw_cfg_entry *e = entry_find(f, f->key);
	int ret;

	if (!e || !e->writable || !range_ok(f->offset, len, e->len))
		return -EPERM;
	ret = mem_read(f->mem, gpa, e->data + f->offset, len);
	if (ret < 0)
		return ret;
	f->offset += len;
	if (e->hooks.written)
		e->hooks.written(e->hooks.ctx, e->data, e->len);
	return 0;
}

static int dma_transfer(struct fw_cfg *f, const struct fw_cfg_dma *d)
{
	struct fw_cfg_entry *e;

	if (d->control & DMA_SELECT)
		fw_cfg_select(f, d->control >> 16);
	if (d->control & DMA_READ)
		return dma_read(f, d->address, d->length);
	if (d->control & DMA_WRITE)
		return dma_write(f, d->address, d->length);
	if (d->control & DMA_SKIP) {
		e = entry_find(f, f->key);
		f->offset = e ? MIN((uint64_t)f->offset + d->length, e->len) : 0;
	}
	return 0;
}

static void dma_run(struct fw_cfg *f)
{
	uint64_t at = f->dma_addr;
	uint8_t raw[16], result[4];
	struct fw_cfg_dma d;
	int ret;

	f->dma_addr = 0;
	if (mem_read(f->mem, at, raw, sizeof(raw)) < 0) {
		log_guest("fw_cfg: the DMA descriptor at 0x%llx lies outside memory",
			  (unsigned long long)at);
		return;
	}
	d.control = ld_be32(raw);
	d.length = ld_be32(raw + 4);
	d.address = ld_be64(raw + 8);
	ret = dma_transfer(f, &d);
	if (ret < 0)
		log_guest("fw_cfg: DMA control 0x%x, %u bytes at 0x%llx of key 0x%x refused: %s",
			  d.control, d.length, (unsigned long long)d.address, f->key,
			  strerror(-ret));
	st_be32(result, ret < 0 ? DMA_ERROR : 0);
	if (mem_write(f->mem, at, result, sizeof(result)) < 0)
		log_guest("fw_cfg: the DMA descriptor at 0x%llx cannot be written",
			  (unsigned long long)at);
}

static uint64_t fw_cfg_dma_port_read(void *dev, uint64_t off, unsigned size)
{
	return be32toh(FW_CFG_DMA_SIGNATURE >> (off ? 0 : 32) & UINT32_MAX);
}

static void fw_cfg_dma_port_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct fw_cfg *f = dev;

	if (off == 0) {
		f->dma_addr = (uint64_t)be32toh(val) << 32;
		return;
	}
	f->dma_addr |= be32toh(val);
	dma_run(f);
}

static const char *fw_cfg_dma_reg_name(void *dev, uint64_t off, bool is_write)
{
	return off < 4 ? "DMA high" : "DMA low";
}

static const struct region_ops fw_cfg_dma_ops = {
	.name = "fw_cfg DMA",
	.read = fw_cfg_dma_port_read,
	.write = fw_cfg_dma_port_write,
	.min_width = 4,
	.max_width = 4,
	.reg_name = fw_cfg_dma_reg_name,
};

/* --- device --- */
static void fw_cfg_reset(struct device *d)
{
	struct fw_cfg *f = container_of(d, struct fw_cfg, dev);
	unsigned i;

	f->dma_addr = 0;
	fw_cfg_select(f, FW_CFG_SIGNATURE);
	/* What the guest wrote (etc/vmgenid_addr) belongs to the firmware run that wrote it. */
	for (i = 0; i < f->n; i++) {
		struct fw_cfg_entry *e = &f->entries[i];

		if (!e->writable)
			continue;
		memset(e->data, 0, e->len);
		if (e->hooks.written)
			e->hooks.written(e->hooks.ctx, e->data, e->len);
	}
}

static int fw_cfg_save(struct device *d, struct state_out *o)
{
	struct fw_cfg *f = container_of(d, struct fw_cfg, dev);
	char prop[16];
	unsigned i;

	state_u16(o, "key", f->key);
	state_u32(o, "offset", f->offset);
	state_u64(o, "dma-address", f->dma_addr);
	for (i = 0; i < f->n; i++) {
		if (!f->entries[i].writable)
			continue;
		snprintf(prop, sizeof(prop), "file-%x", f->entries[i].key);
		state_bytes(o, prop, f->entries[i].data, f->entries[i].len);
	}
	return 0;
}

static int fw_cfg_load(struct device *d, struct state_in *in, uint32_t version)
{
	struct fw_cfg *f = container_of(d, struct fw_cfg, dev);
	char prop[16];
	unsigned i;

	state_get_u16(in, "key", &f->key);
	state_get_u32(in, "offset", &f->offset);
	state_get_u64(in, "dma-address", &f->dma_addr);
	for (i = 0; i < f->n; i++) {
		struct fw_cfg_entry *e = &f->entries[i];

		if (!e->writable)
			continue;
		snprintf(prop, sizeof(prop), "file-%x", e->key);
		if (state_get_bytes(in, prop, e->data, e->len) == 0 && e->hooks.written)
			e->hooks.written(e->hooks.ctx, e->data, e->len);
	}
	return state_in_error(in);
}

static void fw_cfg_destroy(struct device *d)
{
	struct fw_cfg *f = container_of(d, struct fw_cfg, dev);
	unsigned i;

	bus_del(f->pio, FW_CFG_PORT, &fw_cfg_ops, f);
	bus_del(f->pio, FW_CFG_DMA_PORT, &fw_cfg_dma_ops, f);
	for (i = 0; i < f->n; i++)
		free(f->entries[i].data);
	free(f);
}

static const struct device_ops fw_cfg_device_ops = {
	.name = "fw_cfg",
	.version = 1,
	.reset = fw_cfg_reset,
	.save = fw_cfg_save,
	.load = fw_cfg_load,
	.destroy = fw_cfg_destroy,
};

struct fw_cfg *fw_cfg_new(struct bus *pio, struct mem *mem, struct loop *loop, struct err *err)
{
	struct fw_cfg *f = xcalloc(1, sizeof(*f));
	int ret;

	device_init(&f->dev, &fw_cfg_device_ops, "fw_cfg", loop);
	f->pio = pio;
	f->mem = mem;
	fw_cfg_add_key(f, FW_CFG_SIGNATURE, "QEMU", 4);
	fw_cfg_add_key_u32(f, FW_CFG_ID, FW_CFG_VERSION_PIO | FW_CFG_VERSION_DMA);
	directory_update(f);
	ret = bus_add(pio, FW_CFG_PORT, 2, &fw_cfg_ops, f, loop, "fw_cfg", 0);
	if (ret == 0) {
		ret = bus_add(pio, FW_CFG_DMA_PORT, 8, &fw_cfg_dma_ops, f, loop, "fw_cfg", 0);
		if (ret < 0)
			bus_del(pio, FW_CFG_PORT, &fw_cfg_ops, f);
	}
	if (ret < 0) {
		err_set(err, -ret, "fw_cfg: ports 0x510-0x51b are taken");
		free(f->dev.id);
		free(f);
		return NULL;
	}
	return f;
}

struct device *fw_cfg_device(struct fw_cfg *f)
{
	return &f->dev;
}
