/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ide_xfer.c: how data moves between the medium and the guest: DMA through the bus master's table
 * (SFF-8038i) and the walk from one piece of a transfer to the next. The bus master's registers are
 * piix3_ide.c's; a transfer starts when START and a drive that waits for it meet. Main loop; disk
 * requests complete on it.
 */
#include <errno.h>
#include <string.h>

#include "devices/ide/ide.h"
#include "vmm/base/log.h"

#define PRD_LAST	0x80000000u
#define PRD_MAX		8192		/* the table lies in 64 KiB */
#define RAW_PIECE	(IDE_BUFFER / RAW_SECTOR * CD_SECTOR)

/* --- the bus master's table --- */

/* Makes the cursor stand in a region that is not used up. 1, 0 at the end of the table, -EFAULT. */
static int cursor_region(struct ide_channel *c)
{
	struct bm_cursor *k = &c->cursor;
	uint8_t prd[8];
	uint32_t len;

	if (k->left)
		return 1;
	if (k->last)
		return 0;
	if (k->seen >= PRD_MAX || mem_read(c->ide->mem, k->entry, prd, sizeof(prd)) < 0)
		return -EFAULT;
	len = ld_le32(prd + 4);
	k->addr = ld_le32(prd) & ~1u;
	k->left = (len & 0xfffe) ? len & 0xfffe : 0x10000;
	k->last = len & PRD_LAST;
	k->entry += sizeof(prd);
	k->seen++;
	return 1;
}

/*
 * Moves bytes of buf to or from the guest. Returns how many, less at the end of the table, or
 * -EFAULT.
 */
static int64_t cursor_copy(struct ide_channel *c, uint8_t *buf, uint32_t len, bool to_guest)
{
	struct bm_cursor *k = &c->cursor;
	uint32_t done = 0;
	int ret;

	while (done < len) {
		uint32_t n;

		ret = cursor_region(c);
		if (ret < 0)
			return ret;
		if (!ret)
			break;
		n = MIN(len - done, k->left);
		ret = to_guest ? mem_write(c->ide->mem, k->addr, buf + done, n)
			       : mem_read(c->ide->mem, k->addr, buf + done, n);
		if (ret < 0)
			return ret;
		k->addr += n;
		k->left -= n;
		done += n;
	}
	return done;
}

/*
 * Gathers regions for at most `want` bytes into the drive's list, pinned. Bytes, 0 at the end of
 * the table, -EFAULT.
 */
static int64_t cursor_gather(struct ide_drive *d, uint64_t want, bool to_guest)
{
	struct ide_channel *c = d->ch;
	struct bm_cursor *k = &c->cursor;
	uint64_t done = 0;
	int ret;

	d->niov = 0;
	d->pinned = true;
	while (done < want && d->niov < IDE_IOV) {
		uint32_t n;

		ret = cursor_region(c);
		if (!ret)
			break;
		if (ret > 0) {
			n = (uint32_t)MIN(want - done, (uint64_t)k->left);
			ret = mem_iov(c->ide->mem, k->addr, n, to_guest, d->iov + d->niov,
				      IDE_IOV - d->niov);
			if (ret == -E2BIG && d->niov)
				break;		/* the list is full: the rest is the next piece's */
		}
		if (ret < 0) {
			mem_iov_done(c->ide->mem, d->iov, d->niov, 0);
			d->pinned = false;
			return ret;
		}
		d->niov += ret;
		k->addr += n;
		k->left -= n;
		done += n;
	}
	return (int64_t)done;
}

/* --- DMA --- */

/* The transfer cannot go on: the table points into nowhere, or mastering is off. */
static void dma_fault(struct ide_drive *d)
{
	struct ide_channel *c = d->ch;

	c->bm_status = (c->bm_status & ~BM_ACTIVE) | BM_ERROR;
	log_guest("%s: DMA of drive %u.%u with a table that leads outside memory, or without bus "
		  "mastering",
		  c->ide->pci.dev.id, c->index, d->index);
	if (d->cdrom)
		atapi_fail(d, SENSE_HARDWARE_ERROR, 0x08, 0);	/* communication failure */
	else
		ide_error(d, ERR_ABRT);
}

/*
 * The table ended before the data did: nothing more moves, and the driver's time-out is all that
 * tells it (SFF-8038i).
 */
static void dma_short(struct ide_drive *d)
{
	d->ch->bm_status &= ~BM_ACTIVE;
	ide_transfer_end(d);
	d->r.status = ST_DRDY | ST_DSC;
}

static void dma_complete(struct ide_drive *d)
{
	struct ide_channel *c = d->ch;

	/* A table longer than the transfer leaves the bus master active; its end is ours. */
	if (cursor_region(c) == 0)
		c->bm_status &= ~BM_ACTIVE;
	if (d->cdrom)
		atapi_good(d);
	else
		ide_done(d);
}

/* The bus master was started, or a drive now waits for it. */
static void ide_dma_try(struct ide_channel *c);

void ide_wait_dma(struct ide_drive *d, enum ide_xfer xfer)
{
	d->xfer = xfer;
	d->r.error = 0;
	d->r.status = ST_DRDY | ST_DSC | ST_DRQ;
	d->ch->dma_drive = (int8_t)d->index;
	ide_dma_try(d->ch);
}

static void dma_answer(struct ide_drive *d)
{
	int64_t n = cursor_copy(d->ch, d->buf, d->buf_len, true);

	if (n < 0)
		dma_fault(d);
	else if (n < d->buf_len)
		dma_short(d);
	else
		dma_complete(d);
}

static void dma_trim(struct ide_drive *d)
{
	int64_t n = cursor_copy(d->ch, d->buf, d->buf_len, false);

	if (n < 0) {
		dma_fault(d);
	} else if (n < d->buf_len) {
		dma_short(d);
	} else {
		if (cursor_region(d->ch) == 0)
			d->ch->bm_status &= ~BM_ACTIVE;
		d->trim_next = 0;
		d->r.status = ST_BSY;
		ata_trim_next(d);
	}
}

static void ide_dma_try(struct ide_channel *c)
{
	struct ide_drive *d;

	if (c->dma_drive < 0 || !(c->bm_command & BM_START) || !(c->bm_status & BM_ACTIVE))
		return;
	d = &c->drive[c->dma_drive];
	if (d->inflight || d->deferred || !(d->r.status & ST_DRQ))
		return;
	if (!pci_bus_master(&c->ide->pci))
		dma_fault(d);
	else if (d->xfer == XFER_DMA_TRIM)
		dma_trim(d);
	else if (d->xfer == XFER_ATAPI_DMA_ANSWER)
		dma_answer(d);
	else
		ide_submit(d);
}

void ide_dma_start(struct ide_channel *c)
{
	c->cursor = (struct bm_cursor){ .entry = c->bm_table };
	c->bm_status |= BM_ACTIVE;
	ide_dma_try(c);
}

/* --- pieces --- */

static void piece_done(struct blk_req *r);

static void request(struct ide_drive *d, enum blk_op op, uint64_t off, uint64_t len)
{
	d->req = (struct blk_req){
		.op = op,
		.off = off,
		.len = len,
		.iov = d->iov,
		.niov = d->niov,
		.done = piece_done,
		.ctx = d,
		.flags = op == BLK_WRITE && (d->fua || !d->write_cache) ? BLK_FUA : 0,
		.id = trace_new_id(),
	};
	d->r.status = ST_BSY | (d->r.status & ST_DSC);
	d->inflight = true;
	trace(TRACE_BLK, d->req.id, d->ch->ide->pci.dev.id, "drive %u.%u op %d at %llu, %llu bytes",
	      d->ch->index, d->index, op, (unsigned long long)off, (unsigned long long)len);
	blk_submit(d->q, &d->req);
}

static void request_buf(struct ide_drive *d, enum blk_op op, uint64_t len)
{
	d->iov[0] = (struct iovec){ d->buf, len };
	d->niov = 1;
	request(d, op, d->off, len);
}

static void submit_dma(struct ide_drive *d)
{
	int64_t n;

	d->ch->chunk = d->ch->cursor;
	if (d->raw) {		/* put together in the buffer, then copied */
		request_buf(d, BLK_READ, MIN(d->left, RAW_PIECE));
		return;
	}
	n = cursor_gather(d, MIN(d->left, IDE_CHUNK), d->xfer != XFER_DMA_WRITE);
	if (n < 0) {
		dma_fault(d);
	} else if (n == 0) {
		d->pinned = false;
		dma_short(d);
	} else {
		request(d, d->xfer == XFER_DMA_WRITE ? BLK_WRITE : BLK_READ, d->off, (uint64_t)n);
	}
}

void ide_submit(struct ide_drive *d)
{
	if (d->ch->ide->paused) {
		d->deferred = true;
		d->r.status = ST_BSY | (d->r.status & ST_DSC);
		return;
	}
	switch (d->xfer) {
	case XFER_READ:
	case XFER_VERIFY:
		request_buf(d, BLK_READ, MIN(d->left, IDE_BUFFER));
		break;
	case XFER_ATAPI_READ:
		/* A raw sector grows from 2048 to 2352 bytes in the buffer. */
		request_buf(d, BLK_READ, MIN(d->left, d->raw ? RAW_PIECE : IDE_BUFFER));
		break;
	case XFER_WRITE:
		request_buf(d, BLK_WRITE, d->buf_len);
		break;
	case XFER_FLUSH:
		d->niov = 0;
		request(d, BLK_FLUSH, 0, 0);
		break;
	case XFER_DMA_TRIM:
		d->niov = 0;
		request(d, BLK_DISCARD, d->off, d->left);
		break;
	case XFER_DMA_READ:
	case XFER_DMA_WRITE:
	case XFER_ATAPI_DMA_READ:
		submit_dma(d);
		break;
	}
}

/* Raw sectors read into buf go to the guest. False when that ended the transfer. */
static bool raw_copy(struct ide_drive *d, uint32_t sectors)
{
	int64_t n;

	atapi_raw_expand(d, sectors);
	n = cursor_copy(d->ch, d->buf, d->buf_len, true);
	if (n == d->buf_len)
		return true;
	if (n < 0)
		dma_fault(d);
	else
		dma_short(d);
	return false;
}

static void piece_ok(struct ide_drive *d, uint64_t len)
{
	switch (d->xfer) {
	case XFER_READ:
	case XFER_ATAPI_READ:
		d->off += len;
		d->left -= len;
		d->buf_pos = 0;
		d->buf_len = (uint32_t)len;
		if (d->xfer == XFER_READ) {
			ide_drq(d, true);
			break;
		}
		if (d->raw)
			atapi_raw_expand(d, (uint32_t)len / CD_SECTOR);
		atapi_portion(d);
		break;
	case XFER_WRITE:
		d->off += len;
		d->left -= len;
		if (!d->left) {
			ide_done(d);
			break;
		}
		d->buf_pos = 0;
		d->buf_len = (uint32_t)MIN(d->left, IDE_BUFFER);
		ide_drq(d, true);
		break;
	case XFER_VERIFY:
		d->off += len;
		d->left -= len;
		if (d->left)
			ide_submit(d);
		else
			ide_done(d);
		break;
	case XFER_DMA_TRIM:
		ata_trim_next(d);
		break;
	case XFER_DMA_READ:
	case XFER_DMA_WRITE:
	case XFER_ATAPI_DMA_READ:
		d->off += len;
		d->left -= len;
		if (d->raw && !raw_copy(d, (uint32_t)len / CD_SECTOR))
			break;
		if (!d->left) {
			dma_complete(d);
			break;
		}
		d->r.status = ST_DRDY | ST_DSC | ST_DRQ;
		ide_dma_try(d->ch);
		break;
	default:
		ide_done(d);
	}
}

static void set_lba(struct ide_drive *d, uint64_t lba)
{
	d->r.lba[0] = lba & 0xff;
	d->r.lba[1] = lba >> 8 & 0xff;
	d->r.lba[2] = lba >> 16 & 0xff;
	d->r.hob_lba[0] = lba >> 24 & 0xff;
	d->r.hob_lba[1] = lba >> 32 & 0xff;
	d->r.hob_lba[2] = lba >> 40 & 0xff;
	if (lba < 1ull << 28)
		d->r.select = (d->r.select & 0xf0) | (lba >> 24 & 15);
}

static void medium_failed(struct ide_drive *d)
{
	if (d->cdrom) {
		atapi_fail(d, SENSE_MEDIUM_ERROR, 0x11, 0);	/* unrecovered read error */
		return;
	}
	set_lba(d, d->off / IDE_SECTOR);
	ide_error(d, d->xfer == XFER_READ || d->xfer == XFER_DMA_READ || d->xfer == XFER_VERIFY
			     ? ERR_UNC
			     : ERR_ABRT);
}

static void piece_failed(struct ide_drive *d, const struct blk_req *r)
{
	enum blk_on_error action;

	/* A disk that cannot discard has nothing to complain about: it is a hint. */
	if (r->op == BLK_DISCARD) {
		piece_ok(d, r->len);
		return;
	}
	action = blk_error_action(d->blk, r, d->ch->ide->pci.dev.id);
	if (action == BLK_ERR_IGNORE) {
		piece_ok(d, r->len);
		return;
	}
	if (action != BLK_ERR_STOP) {
		medium_failed(d);
		return;
	}
	if (d->xfer == XFER_DMA_READ || d->xfer == XFER_DMA_WRITE || d->xfer == XFER_ATAPI_DMA_READ)
		d->ch->cursor = d->ch->chunk;
	d->deferred = true;
}

static void orphan_done(struct ide_drive *d)
{
	d->orphan = false;
	if (d->ch->control & CTL_SRST)
		return;		/* the signature comes when SRST goes */
	ide_drive_reset(d);
}

static void piece_done(struct blk_req *r)
{
	struct ide_drive *d = r->ctx;
	struct piix3_ide *ide = d->ch->ide;

	d->inflight = false;
	if (d->pinned)
		mem_iov_done(ide->mem, d->iov, d->niov, r->op == BLK_READ ? r->len : 0);
	d->pinned = false;
	if (d->orphan)
		orphan_done(d);
	else if (r->ret < 0)
		piece_failed(d, r);
	else
		piece_ok(d, r->len);
	loop_wake(ide->loop);
	if (ide->quiesced && ide_idle(ide)) {
		void (*done)(void *ctx) = ide->quiesced;

		ide->quiesced = NULL;
		done(ide->quiesced_ctx);
	}
}

bool ide_idle(struct piix3_ide *ide)
{
	for (unsigned i = 0; i < 4; i++)
		if (ide->ch[i / 2].drive[i % 2].inflight)
			return false;
	return true;
}

void ide_resume(struct piix3_ide *ide)
{
	ide->paused = false;
	for (unsigned i = 0; i < 4; i++) {
		struct ide_drive *d = &ide->ch[i / 2].drive[i % 2];

		if (!d->deferred)
			continue;
		d->deferred = false;
		ide_submit(d);
	}
}
