/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * atapi.c: the packet protocol of a CD-ROM drive (ATA/ATAPI-6, chapter 9.8): how a command and its
 * data travel, and the few ATA commands. What the packets mean is in atapi_mmc.c. Main loop.
 */
#include <string.h>

#include "devices/ide/ide.h"

enum {
	CMD_PACKET = 0xa0, CMD_IDENTIFY_PACKET = 0xa1, CMD_IDENTIFY = 0xec, CMD_SET_FEATURES = 0xef,
	CMD_FLUSH = 0xe7, CMD_STANDBY_NOW = 0xe0, CMD_SLEEP = 0xe6, CMD_CHECK_POWER = 0xe5,
	CMD_DIAGNOSTIC = 0x90,
};

/* --- the end of a packet command --- */

static void finish(struct ide_drive *d, uint8_t error, uint8_t status)
{
	ide_transfer_end(d);
	d->r.error = error;
	d->r.status = status;
	d->r.nsector = (d->r.nsector & ~7) | REASON_IO | REASON_CD;
	ide_irq(d);
}

void atapi_good(struct ide_drive *d)
{
	d->sense_key = d->asc = d->ascq = 0;
	finish(d, 0, ST_DRDY | ST_DSC);
}

void atapi_fail(struct ide_drive *d, uint8_t key, uint8_t asc, uint8_t ascq)
{
	d->sense_key = key;
	d->asc = asc;
	d->ascq = ascq;
	finish(d, (uint8_t)(key << 4) | (key == SENSE_ILLEGAL_REQUEST ? ERR_ABRT : 0),
	       ST_DRDY | ST_DSC | ST_ERR);
}

void atapi_signature(struct ide_drive *d)
{
	d->r.lba[1] = 0x14;
	d->r.lba[2] = 0xeb;
	d->r.status = 0;		/* no DRDY: an ATA driver looks elsewhere */
}

/* --- moving data --- */

void atapi_portion(struct ide_drive *d)
{
	uint32_t rest = d->buf_len - d->buf_pos, n = MIN(rest, d->byte_limit);

	/* An odd limit is rounded down unless the rest fits (9.8.4). */
	if (n < rest)
		n &= ~1u;
	d->r.lba[1] = n & 0xff;
	d->r.lba[2] = n >> 8 & 0xff;
	d->r.nsector = (d->r.nsector & ~7) | REASON_IO;
	d->drq_size = n;
	ide_drq(d, true);
}

bool atapi_wants_dma(const struct ide_drive *d)
{
	return d->r.features & 1;
}

void atapi_answer(struct ide_drive *d, uint32_t len, uint32_t limit)
{
	d->buf_pos = 0;
	d->buf_len = MIN(len, limit);
	if (!d->buf_len) {
		atapi_good(d);
	} else if (atapi_wants_dma(d)) {
		d->r.nsector = (d->r.nsector & ~7) | REASON_IO;
		ide_wait_dma(d, XFER_ATAPI_DMA_ANSWER);
	} else {
		d->xfer = XFER_ATAPI_ANSWER;
		atapi_portion(d);
	}
}

/* --- the few ATA commands of a packet device --- */

static void identify(struct ide_drive *d)
{
	uint8_t *w = d->buf;

	memset(w, 0, IDE_SECTOR);
	/* ATAPI CD-ROM, removable, DRQ within 50 us, 12-byte packets */
	st_le16(w, 0x85c0);
	ide_put_string(w + 20, d->serial, 20);
	ide_put_string(w + 46, "1", 8);
	ide_put_string(w + 54, d->model, 40);
	st_le16(w + 2 * 48, 1);
	st_le16(w + 2 * 49, 0x0f00);
	st_le16(w + 2 * 53, 0x0006);
	st_le16(w + 2 * 63,
		0x0007 | ((d->dma_mode & 0xf8) == 0x20 ? 0x0100 << (d->dma_mode & 7) : 0));
	st_le16(w + 2 * 64, 0x0003);
	for (unsigned i = 65; i <= 68; i++)
		st_le16(w + 2 * i, 120);
	st_le16(w + 2 * 80, 0x00f0);
	st_le16(w + 2 * 82, 0x0210);		/* DEVICE RESET, PACKET */
	st_le16(w + 2 * 83, 0x4000);
	st_le16(w + 2 * 85, 0x0210);
	st_le16(w + 2 * 87, 0x4000);
	st_le16(w + 2 * 88,
		0x003f | ((d->dma_mode & 0xf8) == 0x40 ? 0x0100 << (d->dma_mode & 7) : 0));
	st_le16(w + 2 * 93, 0x6001);
	ide_answer(d, XFER_ANSWER, IDE_SECTOR);
}

static void packet_begin(struct ide_drive *d)
{
	/* The byte count limit of PIO: 0 means the most (9.8.2). */
	d->byte_limit = d->r.lba[1] | d->r.lba[2] << 8;
	if (!d->byte_limit || d->byte_limit == 0xffff)
		d->byte_limit = 0xfffe;
	if (d->byte_limit == 1)
		d->byte_limit = 2;
	if (d->r.features & 2) {		/* overlapped commands */
		ide_error(d, ERR_ABRT);
		return;
	}
	d->xfer = XFER_PACKET;
	d->buf_pos = 0;
	d->buf_len = d->drq_size = PACKET_LEN;
	d->r.nsector = (d->r.nsector & ~7) | REASON_CD;
	ide_drq(d, false);
}

void atapi_command(struct ide_drive *d, uint8_t command)
{
	switch (command) {
	case CMD_PACKET:
		packet_begin(d);
		break;
	case CMD_IDENTIFY_PACKET:
		identify(d);
		break;
	case CMD_SET_FEATURES:
		if (d->r.features == 0x03 && d->r.nsector < 0x46) {
			d->dma_mode = d->r.nsector;
			ide_done(d);
		} else if (d->r.features == 0x66 || d->r.features == 0xcc) {
			ide_done(d);
		} else {
			ide_error(d, ERR_ABRT);
		}
		break;
	case CMD_CHECK_POWER:
		d->r.nsector = 0xff;
		ide_done(d);
		break;
	case CMD_FLUSH:
	case CMD_STANDBY_NOW ... CMD_STANDBY_NOW + 3:
	case CMD_SLEEP:
		ide_done(d);
		break;
	case CMD_DIAGNOSTIC:
		ide_drive_reset(d);
		ide_irq(d);
		break;
	case CMD_IDENTIFY:		/* fails, and the signature says why (9.9) */
		d->r.nsector = d->r.lba[0] = 1;
		d->r.lba[1] = 0x14;
		d->r.lba[2] = 0xeb;
		ide_error(d, ERR_ABRT);
		break;
	default:
		ide_error(d, ERR_ABRT);
	}
}
