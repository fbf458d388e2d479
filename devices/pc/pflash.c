/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pflash.c: a parallel flash chip with Intel's command set (CFI 0001), in which UEFI firmware and
 * its variables live.
 *
 * Intel 28F640J3 data sheet (commands, status register), JEDEC JESD68 (CFI query). In read-array
 * mode the chip is memory: reading costs no exit. The first command takes the memory away, 0xff
 * (read array) brings it back.
 *
 * What is programmed is in the block at once and in the image soon after: the changed sectors are
 * written when a burst of commands ends, one request at a time, a flush behind the last. Main loop.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/pc/pflash.h"
#include "disk/blk.h"
#include "vmm/base/log.h"

#define SECTOR 4096u			/* erase block */
#define BUFFER 32u			/* write buffer, bytes */
#define MAX_SIZE (16 * MiB)
#define SHADOW (128 * KiB)

enum flash_cmd {
	CMD_PROGRAM = 0x40, CMD_PROGRAM_ALT = 0x10, CMD_ERASE = 0x20, CMD_CLEAR_STATUS = 0x50,
	CMD_LOCK = 0x60, CMD_READ_STATUS = 0x70,
	CMD_READ_ID = 0x90, CMD_CFI = 0x98, CMD_SUSPEND = 0xb0, CMD_CONFIRM = 0xd0,
	CMD_BUFFER = 0xe8, CMD_READ_ARRAY = 0xff,
};
enum { ST_READY = 0x80, ST_ERASE_ERROR = 0x20, ST_PROGRAM_ERROR = 0x10, ST_PROTECTED = 0x02 };

struct pflash {
	struct device dev;
	struct pci_bus *pci;
	struct bus *mmio;
	struct block *block;
	uint8_t *data;
	uint64_t base, size;
	struct blk *blk;
	struct blk_queue *queue;
	bool readonly;
	/* registers */
	uint8_t cmd, cycle, status;	/* cycle 0: the next write is a command */
	uint32_t left;			/* bytes the write buffer still takes */
	uint64_t buffer_at;
	uint8_t buffer[BUFFER];
	/* the map */
	bool mapped, switching;
	/* writing back */
	uint64_t dirty_from, dirty_to;	/* to == 0: clean */
	bool busy;
	uint8_t *copy;			/* of what is being written */
	struct iovec iov;
	struct blk_req req;
	void (*idle)(void *ctx);	/* quiesce waits */
	void *idle_ctx;
};

/* --- writing back --- */
static void write_back(struct pflash *p);

static void write_back_done(struct blk_req *r)
{
	struct pflash *p = r->ctx;

	if (r->ret < 0)
		log_error("%s: %s: the firmware's variables cannot be saved: %s", p->dev.id,
			  blk_filename(p->blk), strerror(-r->ret));
	if (r->op == BLK_WRITE && r->ret == 0 && !p->dirty_to) {
		p->req = (struct blk_req){ .op = BLK_FLUSH, .done = write_back_done, .ctx = p };
		blk_submit(p->queue, &p->req);
		return;
	}
	p->busy = false;
	if (p->dirty_to) {
		write_back(p);
	} else if (p->idle) {
		void (*idle)(void *ctx) = p->idle;

		p->idle = NULL;
		idle(p->idle_ctx);
	}
	loop_wake(p->dev.loop);
}

static void write_back(struct pflash *p)
{
	uint64_t len = p->dirty_to - p->dirty_from;

	if (p->busy || !p->dirty_to || !p->queue)
		return;
	memcpy(p->copy, p->data + p->dirty_from, len);
	p->iov = (struct iovec){ p->copy, len };
	p->req = (struct blk_req){ .op = BLK_WRITE,
				   .off = p->dirty_from,
				   .len = len,
				   .iov = &p->iov,
				   .niov = 1,
				   .done = write_back_done,
				   .ctx = p };
	p->dirty_to = 0;
	p->busy = true;
	blk_submit(p->queue, &p->req);
}

static void mark(struct pflash *p, uint64_t off, uint64_t len)
{
	uint64_t from = ALIGN_DOWN(off, (uint64_t)SECTOR),
		 to = MIN(ALIGN_UP(off + len, (uint64_t)SECTOR), p->size);

	p->dirty_from = p->dirty_to ? MIN(p->dirty_from, from) : from;
	p->dirty_to = MAX(p->dirty_to, to);
	block_mark_dirty(p->block, off, len);
}

/* --- the map: memory in read-array mode --- */
static void switch_mode(void *ctx)
{
	struct pflash *p = ctx;
	bool want = p->cmd == CMD_READ_ARRAY;
	int ret;

	p->switching = false;
	if (want == p->mapped)
		return;
	if (want) {
		ret = block_map(p->block, p->base, 0, p->size, MEM_PRIO_ROM);
		if (ret < 0)
			log_error("%s: cannot be mapped: %s", p->dev.id, strerror(-ret));
	} else {
		ret = block_unmap_piece(p->block, p->base, p->size);
	}
	p->mapped = want && ret == 0;
}

static void set_mode(struct pflash *p, uint8_t cmd)
{
	p->cmd = cmd;
	p->cycle = 0;
	if (cmd == CMD_READ_ARRAY)
		write_back(p);
	if ((cmd == CMD_READ_ARRAY) == p->mapped || p->switching)
		return;
	p->switching = true;
	pci_exclusive(p->pci, switch_mode, p);
}

/* --- commands --- */
static bool may_write(struct pflash *p, uint8_t error)
{
	if (p->readonly)
		p->status |= error | ST_PROTECTED;
	return !p->readonly;
}

/*
 * Programming only clears bits on a real chip; drivers erase before, so what they see is the same.
 */
static void program(struct pflash *p, uint64_t off, const uint8_t *from, unsigned len)
{
	if (!range_ok(off, len, p->size) || !may_write(p, ST_PROGRAM_ERROR))
		return;
	for (unsigned i = 0; i < len; i++)
		p->data[off + i] &= from[i];
	mark(p, off, len);
}

static void erase(struct pflash *p, uint64_t off)
{
	off = ALIGN_DOWN(off, (uint64_t)SECTOR);
	if (!may_write(p, ST_ERASE_ERROR))
		return;
	memset(p->data + off, 0xff, SECTOR);
	mark(p, off, SECTOR);
}

static void command(struct pflash *p, uint64_t off, uint8_t cmd)
{
	switch (cmd) {
	case CMD_PROGRAM:
	case CMD_PROGRAM_ALT:
	case CMD_ERASE:
	case CMD_LOCK:
	case CMD_BUFFER:
		set_mode(p, cmd);
		p->cycle = 1;
		if (cmd == CMD_BUFFER)
			p->status |= ST_READY;
		break;
	case CMD_CLEAR_STATUS:
		p->status = 0;
		set_mode(p, CMD_READ_ARRAY);
		break;
	case CMD_READ_STATUS:
	case CMD_READ_ID:
	case CMD_CFI:
		set_mode(p, cmd);
		break;
	case CMD_READ_ARRAY:
	case 0x00:
	/* the reset of the other command set; probing drivers send it */
	case 0xf0:
		set_mode(p, CMD_READ_ARRAY);
		break;
	default:
		log_guest("%s: command 0x%02x at 0x%llx is not of this chip", p->dev.id, cmd,
			  (unsigned long long)off);
		set_mode(p, CMD_READ_ARRAY);
	}
}

/* Write buffer: count - 1, then the bytes, then the confirmation. */
static void buffer_cycle(struct pflash *p, uint64_t off, const uint8_t *bytes, unsigned size)
{
	if (p->cycle == 1) {
		p->left = MIN(bytes[0] + 1u, BUFFER);
		p->buffer_at = ALIGN_DOWN(off, (uint64_t)BUFFER);
		memset(p->buffer, 0xff, sizeof(p->buffer));
		p->cycle = 2;
	} else if (p->cycle == 2) {
		for (unsigned i = 0; i < size && p->left; i++, p->left--)
			if (off + i >= p->buffer_at && off + i - p->buffer_at < BUFFER)
				p->buffer[off + i - p->buffer_at] = bytes[i];
		if (!p->left)
			p->cycle = 3;
	} else {
		if (bytes[0] == CMD_CONFIRM)
			program(p, p->buffer_at, p->buffer, BUFFER);
		else
			p->status |= ST_PROGRAM_ERROR | ST_ERASE_ERROR;
		p->status |= ST_READY;
		set_mode(p, CMD_READ_STATUS);
	}
}

static void pflash_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct pflash *p = dev;
	uint8_t bytes[8];

	st_le64(bytes, val);
	if (!p->cycle) {
		command(p, off, val);
		return;
	}
	switch (p->cmd) {
	case CMD_PROGRAM:
	case CMD_PROGRAM_ALT:
		program(p, off, bytes, size);
		p->status |= ST_READY;
		p->cycle = 0;		/* reads give the status until the next command */
		break;
	case CMD_ERASE:
		if (bytes[0] == CMD_CONFIRM)
			erase(p, off);
		else
			p->status |= ST_PROGRAM_ERROR | ST_ERASE_ERROR;
		p->status |= ST_READY;
		p->cycle = 0;
		break;
	case CMD_BUFFER:
		buffer_cycle(p, off, bytes, size);
		break;
	default:			/* CMD_LOCK: blocks are never locked */
		p->status |= ST_READY;
		p->cycle = 0;
	}
}

static uint8_t cfi_byte(const struct pflash *p, uint64_t off)
{
	uint64_t blocks = p->size / SECTOR - 1;
	const uint8_t table[] = {
		/* 0x10: Intel's command set, extension at 0x31 */
		'Q', 'R', 'Y', 1, 0, 0x31, 0, 0, 0, 0, 0,
		/* 0x1b: voltages, typical and greatest times */
		0x45, 0x55, 0, 0, 7, 7, 10, 0, 4, 4, 4, 0,
		/* 0x27: size, x8/x16, buffer of 32, one region */
		63 - __builtin_clzll(p->size), 2, 0, 5, 0, 1,
		blocks, blocks >> 8, SECTOR / 256, 0,			/* 0x2d */
		'P', 'R', 'I', '1', '0',				/* 0x31 */
	};

	return off >= 0x10 && off - 0x10 < sizeof(table) ? table[off - 0x10] : 0;
}

static uint64_t pflash_read(void *dev, uint64_t off, unsigned size)
{
	struct pflash *p = dev;
	uint64_t val = 0;

	switch (p->cmd) {
	case CMD_READ_ARRAY:
		memcpy(&val, p->data + off, MIN(size, p->size - off));
		return val;
	case CMD_READ_ID:
		return (off & 0xff) == 0 ? 0x89 : (off & 0xff) == 1 ? 0x18 : 0;
	case CMD_CFI:
		return cfi_byte(p, off & 0xff);
	default:
		return p->status;
	}
}

static const char *pflash_name(void *dev, uint64_t off, bool is_write)
{
	return is_write ? "command, data" : "status, data";
}

static const struct region_ops pflash_ops = {
	.name = "28F640J3",
	.read = pflash_read,
	.write = pflash_write,
	.min_width = 1,
	.max_width = 4,
	.reg_name = pflash_name,
};

/* --- device --- */
static void pflash_reset(struct device *d)
{
	struct pflash *p = container_of(d, struct pflash, dev);

	p->status = 0x80;
	p->left = 0;
	set_mode(p, CMD_READ_ARRAY);
}

static void pflash_quiesce(struct device *d, void (*done)(void *ctx), void *ctx)
{
	struct pflash *p = container_of(d, struct pflash, dev);

	write_back(p);
	if (!p->busy) {
		done(ctx);
		return;
	}
	p->idle = done;
	p->idle_ctx = ctx;
}

#define F(t, m) STATE_FIELD(struct pflash, STATE_##t, m)
static const struct state_field pflash_fields[] = {
	F(U8, cmd),	   F(U8, cycle),     F(U8, status),	 F(U32, left),
	F(U64, buffer_at), F(BYTES, buffer), F(U64, dirty_from), F(U64, dirty_to),
};
#undef F

static int pflash_save(struct device *d, struct state_out *o)
{
	state_save_fields(o, container_of(d, struct pflash, dev), pflash_fields,
			  ARRAY_SIZE(pflash_fields));
	return 0;
}

static int pflash_load(struct device *d, struct state_in *in, uint32_t version)
{
	struct pflash *p = container_of(d, struct pflash, dev), t = *p;
	int ret = state_load_fields(in, &t, pflash_fields, ARRAY_SIZE(pflash_fields));

	if (ret < 0)
		return ret;
	/* A reset keeps what is not written back yet: nothing of a refused state may be in it. */
	if (t.cycle > 3 || t.left > BUFFER || t.buffer_at >= p->size ||
	    t.buffer_at % BUFFER || t.dirty_to > p->size || t.dirty_to % SECTOR ||
	    t.dirty_from % SECTOR || (t.dirty_to && t.dirty_from >= t.dirty_to))
		return state_bad(in, "%s: cycle %u, %u bytes left for 0x%llx, 0x%llx to 0x%llx to "
				 "write back", d->id, t.cycle, t.left,
				 (unsigned long long)t.buffer_at, (unsigned long long)t.dirty_from,
				 (unsigned long long)t.dirty_to);
	*p = t;
	switch_mode(p);
	return 0;
}

static void pflash_destroy(struct device *d)
{
	struct pflash *p = container_of(d, struct pflash, dev);

	/*
	 * Only at the machine's end: its loop has stopped, so its events are run here until the
	 * last write is down.
	 */
	for (write_back(p); p->busy;)
		loop_once(d->loop, 100);
	bus_del(p->mmio, p->base, &pflash_ops, p);
	block_free(p->block);
	if (p->queue)
		blk_queue_free(p->queue);
	free(p->copy);
	free(p);
}

static const struct device_ops pflash_device_ops = {
	.name = "pflash",
	.version = 1,
	.reset = pflash_reset,
	.quiesce = pflash_quiesce,
	.save = pflash_save,
	.load = pflash_load,
	.destroy = pflash_destroy,
};

static int pflash_map(struct pflash *p, bool shadow, struct err *err)
{
	uint64_t len = MIN(p->size, SHADOW);
	int ret;

	ret = bus_add(p->mmio, p->base, p->size, &pflash_ops, p, p->dev.loop, p->dev.id, 0);
	if (ret < 0)
		return err_set(err, -ret, "%s: 0x%llx-0x%llx is taken", p->dev.id,
			       (unsigned long long)p->base,
			       (unsigned long long)(p->base + p->size - 1));
	ret = block_map(p->block, p->base, 0, p->size, MEM_PRIO_ROM);
	if (ret == 0 && shadow)
		ret = block_map(p->block, MiB - len, p->size - len, len, MEM_PRIO_ROM);
	if (ret < 0) {
		bus_del(p->mmio, p->base, &pflash_ops, p);
		return err_set(err, -ret, "%s: cannot be mapped: %s", p->dev.id, strerror(-ret));
	}
	p->mapped = true;
	return 0;
}

struct device *pflash_new(struct pci_bus *pci, const char *id, struct blk *blk, uint64_t end,
			  bool shadow, struct err *err)
{
	const struct pci_wires *w = pci_bus_wires(pci);
	struct pflash *p = xcalloc(1, sizeof(*p));
	int ret;

	device_init(&p->dev, &pflash_device_ops, id, w->loop);
	p->pci = pci;
	p->mmio = w->mmio;
	p->blk = blk;
	p->size = blk_size(blk);
	p->readonly = blk_readonly(blk);
	p->cmd = CMD_READ_ARRAY;
	p->status = ST_READY;
	if (!p->size || p->size % SECTOR || p->size > MAX_SIZE || p->size > end) {
		err_set(err, EINVAL,
			"%s: %s has %llu bytes: a flash image has a multiple of 4 KiB, up to 16 "
			"MiB",
			id, blk_filename(blk), (unsigned long long)p->size);
		goto fail;
	}
	p->base = end - p->size;
	p->block = block_new(w->mem, id, p->size, BLOCK_ROM, err);
	if (!p->block)
		goto fail;
	p->data = block_host(p->block);
	/*
	 * A machine that moves here brings what the chip holds in its memory; the file is still the
	 * other side's.
	 */
	ret = blk_is_inactive(blk) ? 0 : blk_pread(blk, p->data, p->size, 0);
	if (ret < 0) {
		err_set(err, -ret, "%s: %s: %s", id, blk_filename(blk), strerror(-ret));
		goto fail;
	}
	if (pflash_map(p, shadow, err) < 0)
		goto fail;
	if (!p->readonly) {
		p->queue = blk_queue_new(blk, w->loop);
		p->copy = xcalloc(1, p->size);
	}
	return &p->dev;
fail:
	if (p->block)
		block_free(p->block);
	free(p->dev.id);
	free(p);
	return NULL;
}

uint64_t pflash_base(struct device *d)
{
	return container_of(d, struct pflash, dev)->base;
}
