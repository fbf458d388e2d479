/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ide.c: what all ATA devices do (ATA/ATAPI-6, T13 1410D): the task file, resets, interrupts, PIO
 * blocks. Main loop.
 */
#include <string.h>

#include "devices/ide/ide.h"

enum { REG_DATA, REG_ERROR, REG_NSECTOR, REG_LBA0, REG_LBA1, REG_LBA2, REG_SELECT, REG_STATUS };
#define CMD_DEVICE_RESET 0x08

static struct ide_drive *selected(struct ide_channel *c)
{
	return &c->drive[c->drive[0].r.select & SEL_DEV ? 1 : 0];
}

/* --- interrupt --- */

void ide_irq_update(struct ide_channel *c)
{
	bool level = selected(c)->intrq && !(c->control & CTL_NIEN);

	if (level && !c->irq_level)
		c->bm_status |= BM_INTERRUPT;
	c->irq_level = level;
	irq_set(&c->irq, level);
}

void ide_irq(struct ide_drive *d)
{
	d->intrq = true;
	ide_irq_update(d->ch);
}

/* --- the end of a command --- */

void ide_transfer_end(struct ide_drive *d)
{
	d->xfer = XFER_NONE;
	d->off = d->left = 0;
	d->raw = false;
	d->trim_next = 0;
	d->buf_pos = d->buf_len = d->drq_end = 0;
	if (d->ch->dma_drive == (int)d->index)
		d->ch->dma_drive = -1;
}

void ide_done(struct ide_drive *d)
{
	ide_transfer_end(d);
	d->r.error = 0;
	d->r.status = ST_DRDY | ST_DSC;
	ide_irq(d);
}

void ide_error(struct ide_drive *d, uint8_t error)
{
	ide_transfer_end(d);
	d->r.error = error;
	d->r.status = ST_DRDY | ST_DSC | ST_ERR;
	ide_irq(d);
}

/* --- PIO blocks --- */

void ide_put_string(uint8_t *words, const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		words[i ^ 1] = (uint8_t)(*s ? *s++ : ' ');
}


/* The next block of what is in buf (or fits into it) belongs to the guest. */
void ide_drq(struct ide_drive *d, bool interrupt)
{
	d->drq_end = MIN(d->buf_pos + d->drq_size, d->buf_len);
	d->r.status = ST_DRDY | ST_DSC | ST_DRQ;
	if (interrupt)
		ide_irq(d);
}

void ide_answer(struct ide_drive *d, enum ide_xfer xfer, uint32_t len)
{
	d->xfer = xfer;
	d->buf_pos = 0;
	d->buf_len = len;
	d->drq_size = IDE_BUFFER;
	d->r.error = 0;
	ide_drq(d, true);
}

/* A block has been moved to its end. */
static void block_end(struct ide_drive *d)
{
	bool more = d->buf_pos < d->buf_len;

	switch (d->xfer) {
	case XFER_READ:
		if (more) {
			ide_drq(d, true);
		} else if (d->left) {
			ide_submit(d);
		} else {
			ide_transfer_end(d);
			d->r.status = ST_DRDY | ST_DSC;
		}
		return;
	case XFER_WRITE:
		if (more)
			ide_drq(d, true);
		else
			ide_submit(d);
		return;
	case XFER_PACKET:
		memcpy(d->packet, d->buf, PACKET_LEN);
		ide_transfer_end(d);
		atapi_packet(d);
		return;
	case XFER_ATAPI_PARAMS:
		atapi_params(d);
		return;
	case XFER_ATAPI_ANSWER:
	case XFER_ATAPI_READ:
		if (more)
			atapi_portion(d);
		else if (d->xfer == XFER_ATAPI_READ && d->left)
			ide_submit(d);
		else
			atapi_good(d);
		return;
	default:	/* XFER_ANSWER */
		ide_transfer_end(d);
		d->r.status = ST_DRDY | ST_DSC;
	}
}

static bool moves_in(const struct ide_drive *d)
{
	return d->xfer == XFER_ANSWER || d->xfer == XFER_READ || d->xfer == XFER_ATAPI_ANSWER ||
	       d->xfer == XFER_ATAPI_READ;
}

static bool moves_out(const struct ide_drive *d)
{
	return d->xfer == XFER_WRITE || d->xfer == XFER_PACKET || d->xfer == XFER_ATAPI_PARAMS;
}

/*
 * Up to len bytes through the data register; what goes beyond the block reads as ones or is
 * dropped.
 */
static void data_move(struct ide_drive *d, uint8_t *data, size_t len, bool in)
{
	size_t done = 0;

	while (done < len && (d->r.status & ST_DRQ) && (in ? moves_in(d) : moves_out(d))) {
		size_t n = MIN(len - done, (size_t)(d->drq_end - d->buf_pos));

		if (in)
			memcpy(data + done, d->buf + d->buf_pos, n);
		else
			memcpy(d->buf + d->buf_pos, data + done, n);
		d->buf_pos += (uint32_t)n;
		done += n;
		if (d->buf_pos == d->drq_end) {
			d->r.status &= ~ST_DRQ;
			block_end(d);
		}
	}
	if (in)
		memset(data + done, 0xff, len - done);
}

/* --- reset --- */

static void signature(struct ide_drive *d)
{
	uint8_t select = d->r.select & SEL_DEV;

	d->r = (struct ide_regs){
		.error = 0x01, .nsector = 1, .lba = { 1, 0, 0 }, .select = select
	};
	if (d->cdrom)
		atapi_signature(d);
	else
		d->r.status = ST_DRDY | ST_DSC;
}

void ide_drive_reset(struct ide_drive *d)
{
	if (!d->present)
		return;
	ide_transfer_end(d);
	d->deferred = d->intrq = false;
	d->mult = IDE_MAX_MULT;
	d->heads = d->geometry.heads;
	d->spt = d->geometry.sectors;
	d->standby = false;
	d->locked = false;
	signature(d);
}

/*
 * The guest resets a drive: what is in flight ends on its own and is forgotten; until then the
 * drive is busy.
 */
static void drive_abort(struct ide_drive *d)
{
	if (!d->present)
		return;
	d->deferred = false;
	d->intrq = false;
	d->orphan = d->inflight;
	d->r.status = ST_BSY;
	if (!d->inflight)
		ide_transfer_end(d);
}

static void control_write(struct ide_channel *c, uint8_t val)
{
	uint8_t old = c->control;

	c->control = val & (CTL_NIEN | CTL_SRST);
	if ((val & CTL_SRST) && !(old & CTL_SRST)) {
		c->dma_drive = -1;
		for (unsigned i = 0; i < 2; i++)
			drive_abort(&c->drive[i]);
	} else if (!(val & CTL_SRST) && (old & CTL_SRST)) {
		for (unsigned i = 0; i < 2; i++) {
			c->drive[i].r.select &= ~SEL_DEV;
			if (!c->drive[i].orphan)
				ide_drive_reset(&c->drive[i]);
		}
	}
	if (val & CTL_HOB)
		c->control |= CTL_HOB;
	ide_irq_update(c);
}

/* --- registers --- */

static void task_file_write(struct ide_drive *d, unsigned reg, uint8_t val)
{
	struct ide_regs *r = &d->r;

	switch (reg) {
	case REG_ERROR:
		r->hob_features = r->features;
		r->features = val;
		break;
	case REG_NSECTOR:
		r->hob_nsector = r->nsector;
		r->nsector = val;
		break;
	case REG_LBA0 ... REG_LBA2:
		r->hob_lba[reg - REG_LBA0] = r->lba[reg - REG_LBA0];
		r->lba[reg - REG_LBA0] = val;
		break;
	case REG_SELECT:
		r->select = val | 0xa0;
		break;
	}
}

static void command_write(struct ide_channel *c, uint8_t command)
{
	struct ide_drive *d = selected(c);

	if (!d->present || (c->control & CTL_SRST))
		return;
	if (command == CMD_DEVICE_RESET && d->cdrom) {
		drive_abort(d);
		if (!d->orphan)
			ide_drive_reset(d);
		ide_irq_update(c);
		return;
	}
	if (d->r.status & (ST_BSY | ST_DRQ))
		return;		/* a device that is busy does not hear it */
	d->intrq = false;
	ide_irq_update(c);
	d->command = command;
	if (d->cdrom)
		atapi_command(d, command);
	else
		ata_command(d, command);
}

static void reg_write(struct ide_channel *c, unsigned reg, uint8_t val)
{
	c->control &= ~CTL_HOB;		/* any write to the command block turns it off */
	if (reg == REG_STATUS) {
		command_write(c, val);
		return;
	}
	/* Both devices hear everything but the command; one that is busy keeps its registers. */
	for (unsigned i = 0; i < 2; i++)
		if (reg == REG_SELECT || !(c->drive[i].r.status & (ST_BSY | ST_DRQ)))
			task_file_write(&c->drive[i], reg, val);
	if (reg == REG_SELECT)
		ide_irq_update(c);
}

static uint8_t reg_read(struct ide_channel *c, unsigned reg)
{
	struct ide_drive *d = selected(c);
	const struct ide_regs *r = &d->r;
	bool hob = c->control & CTL_HOB;

	if (!d->present)
		return 0;
	switch (reg) {
	case REG_ERROR:
		return hob ? r->hob_features : r->error;
	case REG_NSECTOR:
		return hob ? r->hob_nsector : r->nsector;
	case REG_LBA0 ... REG_LBA2:
		return hob ? r->hob_lba[reg - REG_LBA0] : r->lba[reg - REG_LBA0];
	case REG_SELECT:
		return r->select | 0xa0;
	default:
		d->intrq = false;
		ide_irq_update(c);
		return r->status;
	}
}

static void command_read_rep(void *dev, uint64_t off, unsigned size, void *data, size_t count)
{
	struct ide_channel *c = dev;

	if (off == REG_DATA && selected(c)->present)
		data_move(selected(c), data, size * count, true);
	else
		memset(data, off == REG_DATA ? 0xff : reg_read(c, (unsigned)off), size * count);
}

static void command_write_rep(void *dev, uint64_t off, unsigned size, const void *data,
			      size_t count)
{
	struct ide_channel *c = dev;
	const uint8_t *p = data;

	if (off == REG_DATA) {
		if (selected(c)->present)
			data_move(selected(c), (uint8_t *)data, size * count, false);
		return;
	}
	for (size_t i = 0; i < count; i++)
		reg_write(c, (unsigned)off, p[i * size]);
}

static uint64_t ide_command_read(void *dev, uint64_t off, unsigned size)
{
	uint64_t val = 0;

	if (off == REG_DATA) {
		command_read_rep(dev, off, size, &val, 1);
		return le64toh(val);
	}
	for (unsigned i = 0; i < size && off + i <= REG_STATUS; i++)
		val |= (uint64_t)reg_read(dev, (unsigned)off + i) << (8 * i);
	return val;
}

static void ide_command_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	uint64_t le = htole64(val);

	if (off == REG_DATA) {
		command_write_rep(dev, off, size, &le, 1);
		return;
	}
	for (unsigned i = 0; i < size && off + i <= REG_STATUS; i++)
		reg_write(dev, (unsigned)off + i, val >> (8 * i) & 0xff);
}

static uint64_t ide_control_read(void *dev, uint64_t off, unsigned size)
{
	struct ide_drive *d = selected(dev);

	return d->present ? d->r.status : 0;
}

static void ide_control_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	control_write(dev, (uint8_t)val);
}

static const char *command_name(void *dev, uint64_t off, bool to_device)
{
	static const char *const in[] = { "DATA", "ERROR", "NSECTOR", "LBA0",
					  "LBA1", "LBA2",  "DEVICE",  "STATUS" };
	static const char *const out[] = { "DATA", "FEATURES", "NSECTOR", "LBA0",
					   "LBA1", "LBA2",     "DEVICE",  "COMMAND" };

	return (to_device ? out : in)[off & 7];
}

const struct region_ops ide_command_ops = {
	.name = "ata",
	.read = ide_command_read,
	.write = ide_command_write,
	.max_width = 4,
	.reg_name = command_name,
	.read_rep = command_read_rep,
	.write_rep = command_write_rep,
};
static const char *control_name(void *dev, uint64_t off, bool to_device)
{
	return to_device ? "device control" : "alternate STATUS";
}

const struct region_ops ide_control_ops = {
	.name = "ata-control",
	.read = ide_control_read,
	.write = ide_control_write,
	.max_width = 1,
	.reg_name = control_name,
};
