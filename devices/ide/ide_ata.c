/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ide_ata.c: the commands of an ATA disk (ATA/ATAPI-6, T13 1410D, chapter 8; TRIM from ACS-2). Main
 * loop.
 */

#include "devices/ide/ide.h"

enum {
	CMD_DSM = 0x06, CMD_RECALIBRATE = 0x10, CMD_READ = 0x20, CMD_READ_EXT = 0x24,
	CMD_READ_DMA_EXT = 0x25,
	CMD_NATIVE_MAX_EXT = 0x27, CMD_READ_MULTIPLE_EXT = 0x29, CMD_WRITE = 0x30,
	CMD_WRITE_EXT = 0x34,
	CMD_WRITE_DMA_EXT = 0x35, CMD_WRITE_MULTIPLE_EXT = 0x39, CMD_WRITE_DMA_FUA_EXT = 0x3d,
	CMD_VERIFY = 0x40,
	CMD_VERIFY_EXT = 0x42, CMD_SEEK = 0x70, CMD_DIAGNOSTIC = 0x90, CMD_INIT_PARAMS = 0x91,
	CMD_SMART = 0xb0,
	CMD_READ_MULTIPLE = 0xc4, CMD_WRITE_MULTIPLE = 0xc5, CMD_SET_MULTIPLE = 0xc6,
	CMD_READ_DMA = 0xc8,
	CMD_WRITE_DMA = 0xca, CMD_WRITE_MULTIPLE_FUA_EXT = 0xce, CMD_STANDBY_NOW = 0xe0,
	CMD_IDLE_NOW = 0xe1,
	CMD_STANDBY = 0xe2, CMD_IDLE = 0xe3, CMD_CHECK_POWER = 0xe5, CMD_SLEEP = 0xe6,
	CMD_FLUSH = 0xe7,
	CMD_FLUSH_EXT = 0xea, CMD_IDENTIFY = 0xec, CMD_SET_FEATURES = 0xef, CMD_NATIVE_MAX = 0xf8,
};
#define TRIM_BLOCKS	8		/* longest list of ranges, in sectors */

/* --- where a command points --- */

static uint64_t sectors_of(const struct ide_drive *d)
{
	return blk_size(d->blk) / IDE_SECTOR;
}

static bool get_range(struct ide_drive *d, bool ext, uint64_t *lba, uint32_t *count)
{
	const struct ide_regs *r = &d->r;
	uint64_t sectors = sectors_of(d);

	if (ext) {
		*lba = r->lba[0] | r->lba[1] << 8 | (uint64_t)r->lba[2] << 16 |
		       (uint64_t)r->hob_lba[0] << 24 | (uint64_t)r->hob_lba[1] << 32 |
		       (uint64_t)r->hob_lba[2] << 40;
		*count = r->nsector | r->hob_nsector << 8;
		*count = *count ? *count : 65536;
	} else {
		if (r->select & SEL_LBA) {
			*lba = r->lba[0] | r->lba[1] << 8 | r->lba[2] << 16 |
			       (uint32_t)(r->select & 15) << 24;
		} else {
			if (!r->lba[0] || r->lba[0] > d->spt || (r->select & 15) >= d->heads)
				return false;
			*lba = ((uint64_t)(r->lba[1] | r->lba[2] << 8) * d->heads +
				(r->select & 15)) *
				       d->spt +
			       r->lba[0] - 1;
		}
		*count = r->nsector ? r->nsector : 256;
	}
	return range_ok(*lba, *count, sectors);
}

static void transfer(struct ide_drive *d, enum ide_xfer xfer, bool ext, uint32_t block)
{
	uint64_t lba;
	uint32_t count;

	if (!get_range(d, ext, &lba, &count)) {
		ide_error(d, ERR_IDNF);
		return;
	}
	d->standby = false;
	d->xfer = xfer;
	d->off = lba * IDE_SECTOR;
	d->left = (uint64_t)count * IDE_SECTOR;
	d->drq_size = block * IDE_SECTOR;
	d->r.error = 0;
	switch (xfer) {
	case XFER_DMA_READ:
	case XFER_DMA_WRITE:
		ide_wait_dma(d, xfer);
		break;
	case XFER_WRITE:
		d->buf_pos = 0;
		d->buf_len = (uint32_t)MIN(d->left, IDE_BUFFER);
		ide_drq(d, false);	/* the first block is asked for by DRQ alone */
		break;
	default:
		ide_submit(d);
	}
}

static void multiple(struct ide_drive *d, enum ide_xfer xfer, bool ext)
{
	if (d->mult)
		transfer(d, xfer, ext, d->mult);
	else
		ide_error(d, ERR_ABRT);
}

/* --- IDENTIFY DEVICE --- */

static void put(uint8_t *words, unsigned word, uint16_t v)
{
	st_le16(words + 2 * word, v);
}

static void identify(struct ide_drive *d)
{
	uint8_t *w = d->buf;
	uint64_t sectors = sectors_of(d);
	uint32_t lba28 = (uint32_t)MIN(sectors, 0x0fffffff);
	uint16_t now = (uint16_t)MIN(sectors / ((uint64_t)d->heads * d->spt), 65535);
	uint8_t sum = 0;

	memset(w, 0, IDE_SECTOR);
	put(w, 0, 0x0040);				/* fixed device */
	put(w, 1, (uint16_t)d->geometry.cylinders);
	put(w, 3, d->geometry.heads);
	put(w, 6, d->geometry.sectors);
	ide_put_string(w + 20, d->serial, 20);
	/* firmware: belongs to the machine version */
	ide_put_string(w + 46, "1", 8);
	ide_put_string(w + 54, d->model, 40);
	put(w, 47, 0x8000 | IDE_MAX_MULT);
	put(w, 48, 1);					/* 32-bit data register */
	put(w, 49, 0x0f00);				/* IORDY, LBA, DMA */
	put(w, 50, 0x4000);
	put(w, 51, 0x0200);
	put(w, 53, 0x0007);				/* words 54-58, 64-70, 88 count */
	put(w, 54, now);
	put(w, 55, d->heads);
	put(w, 56, d->spt);
	st_le32(w + 2 * 57, (uint32_t)now * d->heads * d->spt);
	put(w, 59, d->mult ? 0x0100 | d->mult : 0);
	st_le32(w + 2 * 60, lba28);
	put(w, 63, 0x0007 | ((d->dma_mode & 0xf8) == 0x20 ? 0x0100 << (d->dma_mode & 7) : 0));
	put(w, 64, 0x0003);				/* PIO 3 and 4 */
	for (unsigned i = 65; i <= 68; i++)
		put(w, i, 120);
	put(w, 80, 0x00f0);				/* ATA-4 to ATA/ATAPI-7 */
	/* NOP, write cache, power management, SMART */
	put(w, 82, 0x4029);
	put(w, 83, 0x7400);				/* flush, flush ext, LBA48 */
	put(w, 84, 0x4040);				/* write FUA ext */
	put(w, 85, 0x4008 | (d->write_cache ? 0x20 : 0) | (d->smart ? 1 : 0));
	put(w, 86, 0x3400);
	put(w, 87, 0x4040);
	put(w, 88, 0x003f | ((d->dma_mode & 0xf8) == 0x40 ? 0x0100 << (d->dma_mode & 7) : 0));
	put(w, 93, 0x6001);				/* 80-conductor cable */
	st_le64(w + 2 * 100, sectors);
	put(w, 105, TRIM_BLOCKS);
	put(w, 169, 0x0001);				/* TRIM */
	w[510] = 0xa5;
	for (unsigned i = 0; i < 511; i++)
		sum += w[i];
	w[511] = -sum;
	ide_answer(d, XFER_ANSWER, IDE_SECTOR);
}

/* --- SET FEATURES --- */

static bool set_transfer_mode(struct ide_drive *d, uint8_t mode)
{
	switch (mode >> 3) {
	case 0:		/* PIO default */
		return mode <= 1;
	case 1:		/* PIO with IORDY */
		return (mode & 7) <= 4;
	case 4:		/* multiword DMA */
		if ((mode & 7) > 2)
			return false;
		break;
	case 8:		/* Ultra DMA */
		if ((mode & 7) > 5)
			return false;
		break;
	default:
		return false;
	}
	d->dma_mode = mode;
	return true;
}

static void flush(struct ide_drive *d)
{
	d->xfer = XFER_FLUSH;
	ide_submit(d);
}

static void set_features(struct ide_drive *d)
{
	switch (d->r.features) {
	case 0x02:
		d->write_cache = true;
		break;
	case 0x82:		/* what is cached goes to the medium first */
		d->write_cache = false;
		flush(d);
		return;
	case 0x03:
		if (set_transfer_mode(d, d->r.nsector))
			break;
		ide_error(d, ERR_ABRT);
		return;
	case 0x55: case 0xaa:	/* read look-ahead off, on */
	case 0x66: case 0xcc:	/* keep, or return to, defaults at a software reset */
		break;
	default:
		ide_error(d, ERR_ABRT);
		return;
	}
	ide_done(d);
}

/* --- SMART --- */

/* {id, flags, value now, worst, threshold, raw}: the few numbers a virtual disk has. */
static const struct {
	uint8_t id;
	uint16_t flags;
	uint8_t value, worst, threshold;
} smart_table[] = {
	{ 0x01, 0x000f, 100, 100, 6 },	/* raw read error rate */
	{ 0x05, 0x0033, 100, 100, 36 }, /* reallocated sectors */
	{ 0x09, 0x0032, 100, 100, 0 },	/* power-on hours */
	{ 0x0c, 0x0032, 100, 100, 0 },	/* power cycles */
	{ 0xc5, 0x0012, 100, 100, 0 },	/* pending sectors */
};

static void smart_finish(struct ide_drive *d)
{
	uint8_t sum = 0;

	for (unsigned i = 0; i < 511; i++)
		sum += d->buf[i];
	d->buf[511] = -sum;
	ide_answer(d, XFER_ANSWER, IDE_SECTOR);
}

static void smart_data(struct ide_drive *d, bool thresholds)
{
	uint8_t *b = d->buf;

	memset(b, 0, IDE_SECTOR);
	put(b, 0, 1);		/* structure's revision */
	for (unsigned i = 0; i < ARRAY_SIZE(smart_table); i++) {
		uint8_t *a = b + 2 + 12 * i;

		a[0] = smart_table[i].id;
		if (thresholds) {
			a[1] = smart_table[i].threshold;
			continue;
		}
		st_le16(a + 1, smart_table[i].flags);
		a[3] = smart_table[i].value;
		a[4] = smart_table[i].worst;
	}
	if (!thresholds) {
		b[362] = 0x02;		/* off-line collection has completed */
		st_le16(b + 368, 0x0003);	/* SMART is saved and autosaved */
	}
	smart_finish(d);
}

static void smart(struct ide_drive *d)
{
	if (d->r.lba[1] != 0x4f || d->r.lba[2] != 0xc2 || (!d->smart && d->r.features != 0xd8)) {
		ide_error(d, ERR_ABRT);
		return;
	}
	switch (d->r.features) {
	case 0xd0:
		smart_data(d, false);
		return;
	case 0xd1:
		smart_data(d, true);
		return;
	case 0xd2:		/* attribute autosave: there is nothing to lose */
		break;
	case 0xd8:
		d->smart = true;
		break;
	case 0xd9:
		d->smart = false;
		break;
	case 0xda:		/* status: the key values come back when no threshold is exceeded */
		break;
	default:
		ide_error(d, ERR_ABRT);
		return;
	}
	ide_done(d);
}

/* --- TRIM --- */

static void trim(struct ide_drive *d)
{
	uint32_t blocks = d->r.nsector | d->r.hob_nsector << 8;

	if (d->r.features != 1 || !blocks || blocks > TRIM_BLOCKS) {
		ide_error(d, ERR_ABRT);
		return;
	}
	d->buf_pos = 0;
	d->buf_len = blocks * IDE_SECTOR;
	ide_wait_dma(d, XFER_DMA_TRIM);
}

void ata_trim_next(struct ide_drive *d)
{
	uint64_t sectors = sectors_of(d);

	while (d->trim_next < d->buf_len / 8) {
		uint64_t range = ld_le64(d->buf + 8 * d->trim_next++);
		uint64_t lba = range & 0xffffffffffffull, count = range >> 48;

		if (!count)
			continue;
		if (!range_ok(lba, count, sectors)) {
			ide_error(d, ERR_IDNF);
			return;
		}
		d->off = lba * IDE_SECTOR;
		d->left = count * IDE_SECTOR;
		ide_submit(d);
		return;
	}
	ide_done(d);
}

/* --- the rest --- */

static void native_max(struct ide_drive *d, bool ext)
{
	uint64_t last = sectors_of(d) - 1;

	if (!ext)
		last = MIN(last, 0x0fffffff - 1);
	d->r.lba[0] = last & 0xff;
	d->r.lba[1] = last >> 8 & 0xff;
	d->r.lba[2] = last >> 16 & 0xff;
	if (ext) {
		for (unsigned i = 0; i < 3; i++)
			d->r.hob_lba[i] = last >> (24 + 8 * i) & 0xff;
	} else {
		d->r.select = (d->r.select & 0xf0) | (last >> 24 & 15);
	}
	ide_done(d);
}

static void set_multiple(struct ide_drive *d)
{
	uint8_t n = d->r.nsector;

	if (n > IDE_MAX_MULT || (n & (n - 1))) {
		ide_error(d, ERR_ABRT);
		return;
	}
	d->mult = n;
	ide_done(d);
}

static void init_params(struct ide_drive *d)
{
	if (!d->r.nsector) {
		ide_error(d, ERR_ABRT);
		return;
	}
	d->spt = d->r.nsector;
	d->heads = (d->r.select & 15) + 1;
	ide_done(d);
}

/* Both devices do it, whichever is selected; device 0 answers (9.10). */
static void diagnostic(struct ide_drive *d)
{
	for (unsigned i = 0; i < 2; i++) {
		struct ide_drive *e = &d->ch->drive[i];

		if (e->present && !e->inflight)
			ide_drive_reset(e);
		e->r.select &= ~SEL_DEV;
	}
	d = &d->ch->drive[0];
	if (d->present)
		ide_irq(d);
}

static void power(struct ide_drive *d, uint8_t command)
{
	if (command == CMD_CHECK_POWER)
		d->r.nsector = d->standby ? 0x00 : 0xff;
	else
		d->standby = command == CMD_STANDBY_NOW || command == CMD_STANDBY ||
			     command == CMD_SLEEP;
	ide_done(d);
}

void ata_command(struct ide_drive *d, uint8_t command)
{
	d->fua = command == CMD_WRITE_DMA_FUA_EXT || command == CMD_WRITE_MULTIPLE_FUA_EXT;
	d->raw = false;
	switch (command) {
	case CMD_READ: case CMD_READ + 1:
		transfer(d, XFER_READ, false, 1);
		break;
	case CMD_READ_EXT:
		transfer(d, XFER_READ, true, 1);
		break;
	case CMD_READ_MULTIPLE: case CMD_READ_MULTIPLE_EXT:
		multiple(d, XFER_READ, command == CMD_READ_MULTIPLE_EXT);
		break;
	case CMD_WRITE: case CMD_WRITE + 1:
		transfer(d, XFER_WRITE, false, 1);
		break;
	case CMD_WRITE_EXT:
		transfer(d, XFER_WRITE, true, 1);
		break;
	case CMD_WRITE_MULTIPLE: case CMD_WRITE_MULTIPLE_EXT: case CMD_WRITE_MULTIPLE_FUA_EXT:
		multiple(d, XFER_WRITE, command != CMD_WRITE_MULTIPLE);
		break;
	case CMD_READ_DMA: case CMD_READ_DMA + 1: case CMD_READ_DMA_EXT:
		transfer(d, XFER_DMA_READ, command == CMD_READ_DMA_EXT, 0);
		break;
	case CMD_WRITE_DMA: case CMD_WRITE_DMA + 1:
		transfer(d, XFER_DMA_WRITE, false, 0);
		break;
	case CMD_WRITE_DMA_EXT: case CMD_WRITE_DMA_FUA_EXT:
		transfer(d, XFER_DMA_WRITE, true, 0);
		break;
	case CMD_VERIFY: case CMD_VERIFY + 1: case CMD_VERIFY_EXT:
		transfer(d, XFER_VERIFY, command == CMD_VERIFY_EXT, 0);
		break;
	case CMD_DSM:
		trim(d);
		break;
	case CMD_IDENTIFY:
		identify(d);
		break;
	case CMD_SET_FEATURES:
		set_features(d);
		break;
	case CMD_FLUSH: case CMD_FLUSH_EXT:
		flush(d);
		break;
	case CMD_SMART:
		smart(d);
		break;
	case CMD_NATIVE_MAX: case CMD_NATIVE_MAX_EXT:
		native_max(d, command == CMD_NATIVE_MAX_EXT);
		break;
	case CMD_SET_MULTIPLE:
		set_multiple(d);
		break;
	case CMD_INIT_PARAMS:
		init_params(d);
		break;
	case CMD_DIAGNOSTIC:
		diagnostic(d);
		break;
	case CMD_STANDBY_NOW ... CMD_IDLE: case CMD_CHECK_POWER: case CMD_SLEEP:
		power(d, command);
		break;
	case CMD_RECALIBRATE ... CMD_RECALIBRATE + 15: case CMD_SEEK ... CMD_SEEK + 15:
		ide_done(d);
		break;
	default:	/* NOP among them: it is defined to fail */
		ide_error(d, ERR_ABRT);
	}
}
