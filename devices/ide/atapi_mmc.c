/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * atapi_mmc.c: what the packets mean: the commands of MMC-3 (T10 1363D) and SPC that systems and
 * firmware send to a CD-ROM drive. Sectors of 2048 bytes; one track of data. Main loop.
 */
#include <string.h>

#include "devices/ide/ide.h"

enum {
	OP_TEST_UNIT_READY = 0x00, OP_REQUEST_SENSE = 0x03, OP_INQUIRY = 0x12,
	OP_MODE_SENSE_6 = 0x1a, OP_START_STOP = 0x1b,
	OP_PREVENT_ALLOW = 0x1e, OP_READ_CAPACITY = 0x25, OP_READ_10 = 0x28, OP_SEEK = 0x2b,
	OP_VERIFY = 0x2f,
	OP_SYNC_CACHE = 0x35, OP_READ_SUBCHANNEL = 0x42, OP_READ_TOC = 0x43,
	OP_GET_CONFIGURATION = 0x46,
	OP_GET_EVENT = 0x4a, OP_READ_DISC_INFO = 0x51, OP_READ_TRACK_INFO = 0x52,
	OP_MODE_SELECT_10 = 0x55,
	OP_MODE_SENSE_10 = 0x5a, OP_READ_12 = 0xa8, OP_READ_DVD_STRUCTURE = 0xad,
	OP_READ_CD_MSF = 0xb9,
	OP_SET_SPEED = 0xbb, OP_MECHANISM_STATUS = 0xbd, OP_READ_CD = 0xbe,
};
#define ASC_OPCODE	0x20, 0
#define ASC_LBA		0x21, 0
#define ASC_FIELD	0x24, 0
#define ASC_PARAMS	0x26, 0
#define LEAD_OUT	0xaa
#define PREGAP		150u		/* LBA 0 is at 00:02:00 */
#define CD_SECTORS_MAX	(80u * 60 * 75)	/* beyond that it is a DVD */

static bool has_medium(const struct ide_drive *d)
{
	return d->blk && !d->tray_open;
}

static uint64_t sectors_of(const struct ide_drive *d)
{
	return has_medium(d) ? blk_size(d->blk) / CD_SECTOR : 0;
}

static bool is_dvd(const struct ide_drive *d)
{
	return sectors_of(d) > CD_SECTORS_MAX;
}

/* --- reading --- */

static void read_medium(struct ide_drive *d, uint32_t lba, uint32_t count, bool raw)
{
	if (!range_ok(lba, count, sectors_of(d))) {
		atapi_fail(d, SENSE_ILLEGAL_REQUEST, ASC_LBA);
		return;
	}
	if (!count) {
		atapi_good(d);
		return;
	}
	d->raw = raw;
	d->off = (uint64_t)lba * CD_SECTOR;
	d->left = (uint64_t)count * CD_SECTOR;
	if (atapi_wants_dma(d)) {
		d->r.nsector = (d->r.nsector & ~7) | REASON_IO;
		ide_wait_dma(d, XFER_ATAPI_DMA_READ);
	} else {
		d->xfer = XFER_ATAPI_READ;
		ide_submit(d);
	}
}

static void put_msf(uint8_t *p, uint32_t lba)
{
	lba += PREGAP;
	p[0] = lba / 75 / 60;
	p[1] = lba / 75 % 60;
	p[2] = lba % 75;
}

static uint8_t bcd(uint8_t v)
{
	return (uint8_t)((v / 10 % 10) << 4 | v % 10);
}

/*
 * A mode 1 sector is sync, header, 2048 bytes and 288 of check codes; readers of whole sectors do
 * not check those.
 */
void atapi_raw_expand(struct ide_drive *d, uint32_t sectors)
{
	uint32_t first = (uint32_t)(d->off / CD_SECTOR) - sectors;

	for (uint32_t i = sectors; i-- > 0;) {
		uint8_t *p = d->buf + i * RAW_SECTOR;

		memmove(p + 16, d->buf + i * CD_SECTOR, CD_SECTOR);
		memset(p, 0xff, 12);
		p[0] = p[11] = 0;
		put_msf(p + 12, first + i);
		for (unsigned k = 12; k < 15; k++)
			p[k] = bcd(p[k]);
		p[15] = 1;
		memset(p + 16 + CD_SECTOR, 0, RAW_SECTOR - 16 - CD_SECTOR);
	}
	d->buf_pos = 0;
	d->buf_len = sectors * RAW_SECTOR;
}

/* --- commands that describe drive and medium --- */

static void inquiry(struct ide_drive *d)
{
	uint8_t *b = d->buf;

	if (d->packet[1] & 1) {		/* vital product data: not offered */
		atapi_fail(d, SENSE_ILLEGAL_REQUEST, ASC_FIELD);
		return;
	}
	memset(b, 0, 36);
	b[0] = 0x05;			/* CD-ROM */
	b[1] = 0x80;			/* removable */
	b[3] = 0x21;			/* ATAPI, response format 1 */
	b[4] = 31;
	memcpy(b + 8, "minivmm CD-ROM          1   ", 28);
	atapi_answer(d, 36, ld_be16(d->packet + 3));
}

static void request_sense(struct ide_drive *d)
{
	uint8_t *b = d->buf;

	/* A change of medium that nobody has been told of yet is told here, too. */
	if (!d->sense_key && d->attention) {
		d->sense_key = SENSE_UNIT_ATTENTION;
		d->asc = 0x28;
		d->ascq = 0;
		d->attention = false;
	}
	memset(b, 0, 18);
	b[0] = 0x70;
	b[2] = d->sense_key;
	b[7] = 10;
	b[12] = d->asc;
	b[13] = d->ascq;
	d->sense_key = d->asc = d->ascq = 0;
	atapi_answer(d, 18, d->packet[4]);
}

static void read_capacity(struct ide_drive *d)
{
	st_be32(d->buf, (uint32_t)sectors_of(d) - 1);
	st_be32(d->buf + 4, CD_SECTOR);
	atapi_answer(d, 8, 8);
}

static void put_toc_address(uint8_t *p, uint32_t lba, bool msf)
{
	if (msf) {
		p[0] = 0;
		put_msf(p + 1, lba);
	} else {
		st_be32(p, lba);
	}
}

static uint32_t toc_track(uint8_t *p, uint8_t track, uint32_t lba, bool msf)
{
	memset(p, 0, 8);
	p[1] = 0x14;			/* data track, position in Q */
	p[2] = track;
	put_toc_address(p + 4, lba, msf);
	return 8;
}

static uint32_t toc_raw(uint8_t *p, uint8_t point, uint8_t m, uint8_t s, uint8_t f)
{
	memset(p, 0, 11);
	p[0] = 1;
	p[1] = 0x14;
	p[3] = point;
	p[8] = m;
	p[9] = s;
	p[10] = f;
	return 11;
}

static void read_toc(struct ide_drive *d)
{
	bool msf = d->packet[1] & 2;
	uint8_t format = (d->packet[2] & 15) ? d->packet[2] & 15 : d->packet[9] >> 6,
		start = d->packet[6];
	uint32_t end = (uint32_t)sectors_of(d), len = 4;
	uint8_t *b = d->buf, m[3];

	b[2] = b[3] = 1;
	switch (format) {
	case 0:
		if (start > 1 && start != LEAD_OUT) {
			atapi_fail(d, SENSE_ILLEGAL_REQUEST, ASC_FIELD);
			return;
		}
		if (start <= 1)
			len += toc_track(b + len, 1, 0, msf);
		len += toc_track(b + len, LEAD_OUT, end, msf);
		break;
	case 1:				/* one session */
		len += toc_track(b + len, 1, 0, msf);
		break;
	case 2:
		put_msf(m, end);
		len += toc_raw(b + len, 0xa0, 1, 0, 0);
		len += toc_raw(b + len, 0xa1, 1, 0, 0);
		len += toc_raw(b + len, 0xa2, m[0], m[1], m[2]);
		len += toc_raw(b + len, 1, 0, 2, 0);
		break;
	default:
		atapi_fail(d, SENSE_ILLEGAL_REQUEST, ASC_FIELD);
		return;
	}
	st_be16(b, (uint16_t)(len - 2));
	atapi_answer(d, len, ld_be16(d->packet + 7));
}

/*
 * Features (MMC-3, 5.3). A persistent one is always current; the others are with the medium they
 * are about.
 */
#define PERSISTENT	0x02		/* version << 2 stands beside it */
enum feature_medium { ALWAYS, WITH_MEDIUM, WITH_CD, WITH_DVD };
static const struct {
	uint16_t code;
	uint8_t flags, len;
	enum feature_medium current;
	uint8_t data[8];
} features[] = {
	/* profiles: DVD-ROM, CD-ROM; which is current is put in */
	{ 0x0000, PERSISTENT, 8, ALWAYS, { 0, 0x10, 0, 0, 0, 0x08, 0, 0 } },
	/* core: ATAPI, device busy events */
	{ 0x0001, PERSISTENT | 2 << 2, 8, ALWAYS, { 0, 0, 0, 2, 1 } },
	/* morphing: by polling */
	{ 0x0002, PERSISTENT, 4, ALWAYS, { 0 } },
	/* removable medium: tray, eject, lock */
	{ 0x0003, PERSISTENT, 4, ALWAYS, { 0x29 } },
	/* random readable: 2048 bytes, recovery page */
	{ 0x0010, 0, 8, WITH_MEDIUM, { 0, 0, 8, 0, 0, 1, 1 } },
	{ 0x001d, 0, 0, WITH_CD, { 0 } }, /* multi-read */
	/* CD read: no C2 pointers, no CD-Text */
	{ 0x001e, 0, 4, WITH_CD, { 0 } },
	{ 0x001f, 0, 0, WITH_DVD, { 0 } }, /* DVD read */
	/* power management */
	{ 0x0100, PERSISTENT, 0, ALWAYS, { 0 } },
	{ 0x0105, PERSISTENT, 0, ALWAYS, { 0 } }, /* timeout */
};

static bool feature_current(const struct ide_drive *d, enum feature_medium m)
{
	return m == ALWAYS || (has_medium(d) && (m == WITH_MEDIUM || (m == WITH_DVD) == is_dvd(d)));
}

static void get_configuration(struct ide_drive *d)
{
	uint8_t *b = d->buf, rt = d->packet[1] & 3;
	uint16_t from = ld_be16(d->packet + 2);
	bool dvd = is_dvd(d), cd = has_medium(d) && !dvd;
	uint32_t len = 8;

	if (rt == 3) {
		atapi_fail(d, SENSE_ILLEGAL_REQUEST, ASC_FIELD);
		return;
	}
	memset(b, 0, 8);
	st_be16(b + 6, dvd ? 0x0010 : cd ? 0x0008 : 0);
	/* RT: 0 all from the number on, 1 the current ones of these, 2 that one alone. */
	for (unsigned i = 0; i < ARRAY_SIZE(features); i++) {
		bool current = feature_current(d, features[i].current);
		uint8_t *p = b + len;

		if (features[i].code < from || (rt == 1 && !current) ||
		    (rt == 2 && features[i].code != from))
			continue;
		st_be16(p, features[i].code);
		p[2] = features[i].flags | current;
		p[3] = features[i].len;
		memcpy(p + 4, features[i].data, features[i].len);
		if (!features[i].code) {
			p[6] = dvd;
			p[10] = cd;
		}
		len += 4 + features[i].len;
	}
	st_be32(b, len - 4);
	atapi_answer(d, len, ld_be16(d->packet + 7));
}

static void get_event(struct ide_drive *d)
{
	uint8_t *b = d->buf;

	if (!(d->packet[1] & 1)) {		/* asynchronous notification does not exist here */
		atapi_fail(d, SENSE_ILLEGAL_REQUEST, ASC_FIELD);
		return;
	}
	memset(b, 0, 8);
	b[3] = 0x10;				/* supported classes: media */
	if (!(d->packet[4] & 0x10)) {
		st_be16(b, 2);
		b[2] = 0x80;			/* no event available */
		atapi_answer(d, 4, ld_be16(d->packet + 7));
		return;
	}
	st_be16(b, 6);
	b[2] = 4;
	if (d->eject_request)
		b[4] = 1;
	else if (d->media_event)
		b[4] = has_medium(d) ? 2 : 3;
	d->eject_request = d->media_event = false;
	b[5] = (d->tray_open ? 1 : 0) | (has_medium(d) ? 2 : 0);
	atapi_answer(d, 8, ld_be16(d->packet + 7));
}

static void read_disc_info(struct ide_drive *d)
{
	uint8_t *b = d->buf;

	if (d->packet[1] & 7) {
		atapi_fail(d, SENSE_ILLEGAL_REQUEST, ASC_FIELD);
		return;
	}
	memset(b, 0, 34);
	st_be16(b, 32);
	b[2] = 0x0e;				/* complete disc, complete session */
	/* first track, sessions, first and last track of the last */
	b[3] = b[4] = b[5] = b[6] = 1;
	b[7] = 0x20;
	memset(b + 16, 0xff, 8);
	atapi_answer(d, 34, ld_be16(d->packet + 7));
}

static void read_track_info(struct ide_drive *d)
{
	uint8_t *b = d->buf;

	memset(b, 0, 36);
	st_be16(b, 34);
	b[2] = b[3] = 1;
	b[5] = 0x04;				/* data */
	b[6] = 0x01;				/* mode 1 */
	st_be32(b + 24, (uint32_t)sectors_of(d));
	atapi_answer(d, 36, ld_be16(d->packet + 7));
}

static void read_subchannel(struct ide_drive *d)
{
	memset(d->buf, 0, 4);
	d->buf[1] = 0x15;			/* no audio status: nothing plays */
	atapi_answer(d, 4, ld_be16(d->packet + 7));
}

static void read_dvd_structure(struct ide_drive *d)
{
	uint32_t end = (uint32_t)sectors_of(d);
	uint8_t *b = d->buf;

	if (!is_dvd(d) || d->packet[7] != 0) {	/* physical format information alone */
		atapi_fail(d, SENSE_ILLEGAL_REQUEST, d->packet[7] ? 0x24 : 0x30,
			   d->packet[7] ? 0 : 0x02);
		return;
	}
	memset(b, 0, 2052);
	st_be16(b, 2050);
	b[4] = 0x01;				/* DVD-ROM, part 1 */
	b[5] = 0x0f;				/* 120 mm, no maximum rate */
	b[6] = 0x01;				/* one layer, embossed */
	st_be32(b + 8, 0x30000);
	st_be32(b + 12, 0x30000 + end - 1);
	atapi_answer(d, 2052, ld_be16(d->packet + 8));
}

static void mechanism_status(struct ide_drive *d)
{
	memset(d->buf, 0, 8);
	d->buf[1] = d->tray_open ? 0x10 : 0;
	atapi_answer(d, 8, ld_be16(d->packet + 8));
}

/* --- mode pages --- */

static uint32_t mode_page(const struct ide_drive *d, uint8_t *p, uint8_t page)
{
	switch (page) {
	case 0x01:		/* error recovery */
		memset(p, 0, 8);
		p[0] = 0x01;
		p[1] = 6;
		p[3] = 5;
		return 8;
	case 0x0e:		/* audio control: no audio, silence on both channels */
		memset(p, 0, 16);
		p[0] = 0x0e;
		p[1] = 14;
		return 16;
	case 0x2a:		/* capabilities */
		memset(p, 0, 22);
		p[0] = 0x2a;
		p[1] = 20;
		p[2] = 0x3b;	/* reads CD-R, CD-RW, DVD */
		p[4] = 0x70;	/* mode 2 forms, multi-session */
		p[6] = 0x29 | (d->locked ? 2 : 0);	/* tray, eject, lock */
		st_be16(p + 8, 706);
		st_be16(p + 12, 512);
		st_be16(p + 14, 706);
		return 22;
	default:
		return 0;
	}
}

static void mode_sense(struct ide_drive *d)
{
	static const uint8_t pages[] = { 0x01, 0x0e, 0x2a };
	bool six = d->packet[0] == OP_MODE_SENSE_6;
	uint8_t page = d->packet[2] & 0x3f, control = d->packet[2] >> 6;
	uint32_t head = six ? 4 : 8, len = head;

	if (control == 3) {
		/* saving parameters not supported */
		atapi_fail(d, SENSE_ILLEGAL_REQUEST, 0x39, 0);
		return;
	}
	memset(d->buf, 0, head);
	for (unsigned i = 0; i < sizeof(pages); i++) {
		uint32_t at = len;

		if (page != pages[i] && page != 0x3f)
			continue;
		len += mode_page(d, d->buf + len, pages[i]);
		if (control == 1)	/* changeable values: none */
			memset(d->buf + at + 2, 0, len - at - 2);
	}
	if (len == head) {
		atapi_fail(d, SENSE_ILLEGAL_REQUEST, ASC_FIELD);
		return;
	}
	if (six)
		d->buf[0] = (uint8_t)(len - 1);
	else
		st_be16(d->buf, (uint16_t)(len - 2));
	atapi_answer(d, len, six ? d->packet[4] : ld_be16(d->packet + 7));
}

static void mode_select(struct ide_drive *d)
{
	uint32_t len = ld_be16(d->packet + 7);

	if (!len) {
		atapi_good(d);
		return;
	}
	if (atapi_wants_dma(d) || len > IDE_BUFFER) {
		atapi_fail(d, SENSE_ILLEGAL_REQUEST, ASC_FIELD);
		return;
	}
	d->xfer = XFER_ATAPI_PARAMS;
	d->buf_pos = 0;
	d->buf_len = len;
	d->drq_size = len;
	d->r.lba[1] = len & 0xff;
	d->r.lba[2] = len >> 8 & 0xff;
	d->r.nsector &= ~7;
	ide_drq(d, true);
}

/* Nothing can be changed: a page may be set to the values it has, as drivers do to learn that. */
void atapi_params(struct ide_drive *d)
{
	uint32_t at = 8, len;
	uint8_t now[32];

	while (at + 2 <= d->buf_len) {
		len = mode_page(d, now, d->buf[at] & 0x3f);
		if (!len || d->buf[at + 1] + 2u != len || at + len > d->buf_len ||
		    memcmp(now + 2, d->buf + at + 2, len - 2)) {
			/* The recovery parameters are a matter of taste that costs nothing here. */
			if (len && (d->buf[at] & 0x3f) == 0x01 && at + len <= d->buf_len) {
				at += len;
				continue;
			}
			atapi_fail(d, SENSE_ILLEGAL_REQUEST, ASC_PARAMS);
			return;
		}
		at += len;
	}
	atapi_good(d);
}

/* --- tray and reading --- */

void ide_tray(struct ide_drive *d, bool open)
{
	if (d->tray_open == open)
		return;
	d->tray_open = open;
	if (d->tray_moved)
		d->tray_moved(d->tray_ctx, open);
}

static void start_stop(struct ide_drive *d)
{
	bool start = d->packet[4] & 1, load = d->packet[4] & 2;

	if (load && !start) {
		if (d->locked) {
			atapi_fail(d, has_medium(d) ? SENSE_ILLEGAL_REQUEST : SENSE_NOT_READY, 0x53,
				   0x02);
			return;
		}
		if (!d->tray_open)
			d->media_event = true;
		ide_tray(d, true);
	} else if (load && d->tray_open) {
		ide_tray(d, false);
		d->media_event = d->attention = d->blk != NULL;
	}
	atapi_good(d);
}

static void prevent_allow(struct ide_drive *d)
{
	d->locked = d->packet[4] & 1;
	atapi_good(d);
}

static void read_cd(struct ide_drive *d, uint32_t lba, uint32_t count)
{
	uint8_t type = d->packet[1] >> 2 & 7;

	if (d->packet[10] & 7) {	/* there are no sub-channels */
		atapi_fail(d, SENSE_ILLEGAL_REQUEST, ASC_FIELD);
		return;
	}
	/* Sector type: any or mode 1, for that is what is there. */
	if (type != 0 && type != 2) {
		atapi_fail(d, SENSE_ILLEGAL_REQUEST, 0x64, 0);
		return;
	}
	switch (d->packet[9] & 0xf8) {
	case 0x00:
		atapi_good(d);		/* no data wanted */
		break;
	case 0x10:
		read_medium(d, lba, count, false);
		break;
	case 0xf8:
		read_medium(d, lba, count, true);
		break;
	default:
		atapi_fail(d, SENSE_ILLEGAL_REQUEST, ASC_FIELD);
	}
}

static uint32_t msf_to_lba(const uint8_t *p)
{
	uint32_t at = (p[0] * 60u + p[1]) * 75 + p[2];

	return at < PREGAP ? UINT32_MAX : at - PREGAP;
}

static void read_command(struct ide_drive *d)
{
	const uint8_t *p = d->packet;
	uint32_t from, to;

	switch (p[0]) {
	case OP_READ_10:
		read_medium(d, ld_be32(p + 2), ld_be16(p + 7), false);
		break;
	case OP_READ_12:
		read_medium(d, ld_be32(p + 2), ld_be32(p + 6), false);
		break;
	case OP_READ_CD:
		read_cd(d, ld_be32(p + 2), (uint32_t)p[6] << 16 | ld_be16(p + 7));
		break;
	default:
		from = msf_to_lba(p + 3);
		to = msf_to_lba(p + 6);
		if (from == UINT32_MAX || to == UINT32_MAX || to < from)
			atapi_fail(d, SENSE_ILLEGAL_REQUEST, ASC_FIELD);
		else
			read_cd(d, from, to - from);
	}
}

/* --- dispatch --- */

#define NEEDS_MEDIUM	1		/* fails while there is none */
#define QUIET		2		/* does not report that the medium changed */

static const struct { uint8_t op, flags; void (*run)(struct ide_drive *d); } packets[] = {
	{ OP_TEST_UNIT_READY, NEEDS_MEDIUM, atapi_good },
	{ OP_REQUEST_SENSE, QUIET, request_sense },
	{ OP_INQUIRY, QUIET, inquiry },
	{ OP_MODE_SENSE_6, 0, mode_sense },
	{ OP_MODE_SENSE_10, 0, mode_sense },
	{ OP_MODE_SELECT_10, 0, mode_select },
	{ OP_START_STOP, 0, start_stop },
	{ OP_PREVENT_ALLOW, 0, prevent_allow },
	{ OP_READ_CAPACITY, NEEDS_MEDIUM, read_capacity },
	{ OP_READ_10, NEEDS_MEDIUM, read_command },
	{ OP_READ_12, NEEDS_MEDIUM, read_command },
	{ OP_READ_CD, NEEDS_MEDIUM, read_command },
	{ OP_READ_CD_MSF, NEEDS_MEDIUM, read_command },
	{ OP_READ_SUBCHANNEL, NEEDS_MEDIUM, read_subchannel },
	{ OP_READ_TOC, NEEDS_MEDIUM, read_toc },
	{ OP_READ_DISC_INFO, NEEDS_MEDIUM, read_disc_info },
	{ OP_READ_TRACK_INFO, NEEDS_MEDIUM, read_track_info },
	{ OP_READ_DVD_STRUCTURE, NEEDS_MEDIUM, read_dvd_structure },
	{ OP_GET_CONFIGURATION, QUIET, get_configuration },
	{ OP_GET_EVENT, QUIET, get_event },
	{ OP_MECHANISM_STATUS, 0, mechanism_status },
	{ OP_SEEK, NEEDS_MEDIUM, atapi_good },
	{ OP_VERIFY, NEEDS_MEDIUM, atapi_good },
	{ OP_SYNC_CACHE, 0, atapi_good },
	{ OP_SET_SPEED, 0, atapi_good },
};

void atapi_packet(struct ide_drive *d)
{
	uint8_t op = d->packet[0];

	d->raw = false;
	for (unsigned i = 0; i < ARRAY_SIZE(packets); i++) {
		if (packets[i].op != op)
			continue;
		if (d->attention && has_medium(d) && !(packets[i].flags & QUIET)) {
			d->attention = false;
			/* medium may have changed */
			atapi_fail(d, SENSE_UNIT_ATTENTION, 0x28, 0);
		} else if ((packets[i].flags & NEEDS_MEDIUM) && !has_medium(d)) {
			atapi_fail(d, SENSE_NOT_READY, 0x3a, d->tray_open ? 2 : 1);
		} else {
			packets[i].run(d);
		}
		return;
	}
	atapi_fail(d, SENSE_ILLEGAL_REQUEST, ASC_OPCODE);
}
