/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ide.h: ATA channels and drives, between piix3_ide.c (the controller), ide.c (registers),
 * ide_xfer.c (data), ide_ata.c (disk commands), atapi.c and atapi_mmc.c (CD-ROM: the packets and
 * what they mean). Main loop.
 *
 * A transfer is described by the drive's fields alone: xfer says what moves, off and left what is
 * still to come, buf and its positions what is half-way. ide_submit() starts the next piece of it
 * from these, ide_finish_piece() goes on from there; so a transfer can be stopped between two
 * pieces, saved, and continued.
 */
#ifndef DEVICES_IDE_IDE_H
#define DEVICES_IDE_IDE_H

#include "devices/chips.h"
#include "devices/ide/geometry.h"
#include "disk/blk.h"

#define IDE_SECTOR	512u
#define CD_SECTOR	2048u
#define IDE_BUFFER	(256u * IDE_SECTOR)	/* what PIO reads ahead or gathers */
#define IDE_IOV		256
#define IDE_CHUNK	(4u * 1024 * 1024)	/* most bytes of one disk request */
#define IDE_MAX_MULT	16
#define PACKET_LEN	12
#define RAW_SECTOR	2352u			/* of a CD, with what lies around its 2048 bytes */

/* status register; ERR is CHK for a packet device */
#define ST_ERR		0x01
#define ST_DRQ		0x08
#define ST_DSC		0x10
#define ST_DF		0x20
#define ST_DRDY		0x40
#define ST_BSY		0x80
#define ERR_ABRT	0x04			/* error register */
#define ERR_IDNF	0x10
#define ERR_UNC		0x40
#define SEL_DEV		0x10			/* device register */
#define SEL_LBA		0x40
#define CTL_NIEN	0x02			/* device control */
#define CTL_SRST	0x04
#define CTL_HOB		0x80
#define BM_START	0x01			/* bus master command */
#define BM_TO_MEMORY	0x08
#define BM_ACTIVE	0x01			/* bus master status */
#define BM_ERROR	0x02
#define BM_INTERRUPT	0x04
/* interrupt reason of a packet device (in nsector) */
#define REASON_CD	0x01
#define REASON_IO	0x02

enum ide_xfer {
	XFER_NONE,
	XFER_ANSWER,		/* PIO in: buf holds it all */
	XFER_READ,		/* PIO in, from the medium, in blocks of drq_size */
	XFER_WRITE,		/* PIO out */
	XFER_DMA_READ, XFER_DMA_WRITE,
	/* the list of ranges comes by DMA into buf, then range after range goes to the disk */
	XFER_DMA_TRIM,
	XFER_FLUSH,
	XFER_VERIFY,
	XFER_PACKET,		/* PIO out: the 12 bytes of a command */
	XFER_ATAPI_ANSWER,	/* PIO in, in portions of the byte count */
	XFER_ATAPI_READ,
	XFER_ATAPI_PARAMS,	/* PIO out: parameters of MODE SELECT */
	XFER_ATAPI_DMA_ANSWER, XFER_ATAPI_DMA_READ,
	XFER_COUNT,
};

struct ide_channel;

/* The task file; the hob_ half is what was in a register before the last write to it. */
struct ide_regs {
	uint8_t features, nsector, lba[3], select;
	uint8_t hob_features, hob_nsector, hob_lba[3];
	uint8_t error, status;
};

struct ide_drive {
	struct ide_channel *ch;
	unsigned index;			/* 0 or 1 on the channel */
	bool present, cdrom;
	struct blk *blk;		/* NULL: no medium */
	struct blk_queue *q;
	char serial[21], model[41];
	struct ide_geometry geometry;	/* of a disk; fixed when it is attached */

	struct ide_regs r;
	uint8_t command;
	bool intrq;
	/* Settings that commands change. */
	uint8_t mult, heads, spt, dma_mode;
	bool write_cache, smart, standby;
	/* The transfer. */
	uint8_t xfer;			/* enum ide_xfer */
	bool fua;
	uint64_t off, left;		/* of the medium: bytes */
	uint32_t buf_pos, buf_len;	/* next byte the guest moves, and how many there are */
	uint32_t drq_end;		/* where the present DRQ block ends */
	uint32_t drq_size;		/* bytes of a full DRQ block */
	uint32_t trim_next;		/* range of the list in buf */
	bool deferred;			/* the next piece waits for resume */
	/* ATAPI. */
	uint8_t packet[PACKET_LEN];
	uint8_t sense_key, asc, ascq;
	bool tray_open, locked, attention, media_event, eject_request, raw;
	void (*tray_moved)(void *ctx, bool open);
	void *tray_ctx;
	uint32_t byte_limit;
	/* In flight; never while saving. */
	bool inflight, orphan;		/* orphan: the channel was reset meanwhile */
	struct blk_req req;
	struct iovec iov[IDE_IOV];
	int niov;
	bool pinned;
	uint8_t *buf;			/* IDE_BUFFER bytes; a drive that is there has one */
};

/* Where the bus master is in its table of physical regions. */
struct bm_cursor {
	uint32_t entry;			/* address of the next descriptor */
	uint32_t addr, left;		/* rest of the present region */
	uint16_t seen;			/* descriptors read */
	bool last;
};

struct ide_channel {
	struct piix3_ide *ide;
	unsigned index;
	struct ide_drive drive[2];
	struct irq irq;
	uint8_t control;		/* device control: nIEN, SRST, HOB */
	bool irq_level;
	/* Bus master registers. */
	uint8_t bm_command, bm_status;
	uint32_t bm_table;
	struct bm_cursor cursor, chunk;	/* now, and where the piece in flight began */
	int8_t dma_drive;		/* who waits for or uses the bus master; -1: nobody */
};

struct piix3_ide {
	struct pci_dev pci;
	struct ide_channel ch[2];
	struct mem *mem;
	struct loop *loop;
	bool paused;			/* quiesced: no new piece starts */
	void (*quiesced)(void *ctx);
	void *quiesced_ctx;
	bool mapped[2], remap_pending;
};

/* --- ide.c --- */
extern const struct region_ops ide_command_ops, ide_control_ops;
/* power-on: settings, signature; nothing is in flight */
void ide_drive_reset(struct ide_drive *d);
void ide_irq(struct ide_drive *d);
void ide_irq_update(struct ide_channel *c);
/* nothing moves any more; status and interrupt are the caller's */
void ide_transfer_end(struct ide_drive *d);
/* The command ended: DRDY without data, with the interrupt. */
void ide_done(struct ide_drive *d);
void ide_error(struct ide_drive *d, uint8_t error);
/* IDENTIFY's: the high byte first */
void ide_put_string(uint8_t *words, const char *s, size_t len);
/* Begins PIO in of len bytes in buf / offers the next block of a PIO transfer. */
void ide_answer(struct ide_drive *d, enum ide_xfer xfer, uint32_t len);
void ide_drq(struct ide_drive *d, bool interrupt);

/* --- ide_xfer.c --- */
/* Begins DMA of left bytes of the medium from off, or of what is in buf. */
void ide_wait_dma(struct ide_drive *d, enum ide_xfer xfer);
/* Start the next piece; when it is done the drive goes on by itself. */
void ide_submit(struct ide_drive *d);
/* The bus master was started, or a drive now waits for it. */
void ide_dma_start(struct ide_channel *c);
bool ide_idle(struct piix3_ide *ide);
void ide_resume(struct piix3_ide *ide);

/* --- ide_ata.c --- */
void ata_command(struct ide_drive *d, uint8_t command);
/* XFER_DMA_TRIM: the list is there, or a range is done */
void ata_trim_next(struct ide_drive *d);

/* --- atapi.c --- */
enum { SENSE_NOT_READY = 2, SENSE_MEDIUM_ERROR = 3, SENSE_HARDWARE_ERROR = 4,
       SENSE_ILLEGAL_REQUEST = 5, SENSE_UNIT_ATTENTION = 6 };
void atapi_command(struct ide_drive *d, uint8_t command);
/* A packet command ends: good, or with sense data. */
void atapi_good(struct ide_drive *d);
void atapi_fail(struct ide_drive *d, uint8_t key, uint8_t asc, uint8_t ascq);
/* Opens or closes the CD's tray and tells who wants to know. */
void ide_tray(struct ide_drive *d, bool open);
bool atapi_wants_dma(const struct ide_drive *d);
/* The answer is in buf, len bytes of it; the initiator takes at most `limit`. */
void atapi_answer(struct ide_drive *d, uint32_t len, uint32_t limit);
/* Sets up the next PIO portion of what lies in buf. */
void atapi_portion(struct ide_drive *d);
void atapi_signature(struct ide_drive *d);

/* --- atapi_mmc.c --- */
void atapi_packet(struct ide_drive *d);		/* the packet is in d->packet */
void atapi_params(struct ide_drive *d);		/* XFER_ATAPI_PARAMS is complete in buf */
/* Offset on the medium and layout of what a raw read puts around its sectors. */
void atapi_raw_expand(struct ide_drive *d, uint32_t sectors);

#endif
