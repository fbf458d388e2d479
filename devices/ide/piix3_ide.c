/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * piix3_ide.c: the IDE function of the 82371SB (Intel 290550, function 1): two channels at the
 * legacy ports, and the bus master registers of SFF-8038i in BAR 4. Main loop.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "devices/ide/ide.h"
#include "vmm/base/log.h"

#define IDETIM		0x40		/* 0x40, 0x42: timing; bit 15: the channel's ports decode */
#define IDETIM_IDE	0x80		/* in the high byte */
#define BMIDE_BAR	4
#define BMIDE_LEN	16
#define BM_CAPABLE	0x60		/* software's notes on the drives */

static const uint16_t command_port[2] = { 0x1f0, 0x170 }, control_port[2] = { 0x3f6, 0x376 };

static struct piix3_ide *of(struct device *d)
{
	return container_of(d, struct piix3_ide, pci.dev);
}

static struct ide_drive *drive(struct piix3_ide *s, unsigned unit)
{
	return &s->ch[unit / 2 % 2].drive[unit % 2];
}

/* --- bus master registers --- */

static uint8_t bm_byte(struct ide_channel *c, unsigned reg)
{
	switch (reg) {
	case 0:
		return c->bm_command;
	case 2:
		return c->bm_status;
	case 4 ... 7:
		return c->bm_table >> (8 * (reg - 4)) & 0xff;
	default:
		return 0xff;
	}
}

static void bm_write_byte(struct ide_channel *c, unsigned reg, uint8_t val)
{
	uint8_t old = c->bm_command;

	switch (reg) {
	case 0:
		c->bm_command = val & (BM_START | BM_TO_MEMORY);
		if ((val & BM_START) && !(old & BM_START))
			ide_dma_start(c);
		else if (!(val & BM_START))
			c->bm_status &= ~BM_ACTIVE;
		break;
	case 2:
		c->bm_status = (val & BM_CAPABLE) | (c->bm_status & BM_ACTIVE) |
			       (c->bm_status & ~val & (BM_ERROR | BM_INTERRUPT));
		break;
	case 4 ... 7:
		c->bm_table &= ~(0xffu << (8 * (reg - 4)));
		c->bm_table |= (uint32_t)val << (8 * (reg - 4));
		c->bm_table &= ~3u;
		break;
	}
}

static uint64_t bm_read(void *dev, uint64_t off, unsigned size)
{
	struct piix3_ide *s = dev;
	uint64_t val = 0;

	for (unsigned i = 0; i < size; i++)
		val |= (uint64_t)bm_byte(&s->ch[(off + i) >> 3 & 1], (off + i) & 7) << (8 * i);
	return val;
}

static void bm_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct piix3_ide *s = dev;

	for (unsigned i = 0; i < size; i++)
		bm_write_byte(&s->ch[(off + i) >> 3 & 1], (off + i) & 7, val >> (8 * i) & 0xff);
}

static const char *bm_name(void *dev, uint64_t off, bool is_write)
{
	static const char *const names[] = { "BMIC",   NULL,	 "BMIS",   NULL,
					     "BMIDTP", "BMIDTP", "BMIDTP", "BMIDTP" };

	return names[off & 7];
}

static const struct region_ops bm_ops = {
	.name = "82371sb-bmide",
	.read = bm_read,
	.write = bm_write,
	.max_width = 4,
	.reg_name = bm_name,
};

/* --- where the channels' ports are --- */

static bool channel_decodes(const struct piix3_ide *s, unsigned i)
{
	return (s->pci.config[PCI_COMMAND] & PCI_COMMAND_IO) &&
	       (s->pci.config[IDETIM + 2 * i + 1] & IDETIM_IDE);
}

static void channel_map(struct piix3_ide *s, unsigned i, bool on)
{
	struct bus *pio = pci_bus_wires(s->pci.bus)->pio;
	char who[16];

	if (on == s->mapped[i])
		return;
	s->mapped[i] = on;
	if (!on) {
		bus_del(pio, command_port[i], &ide_command_ops, &s->ch[i]);
		bus_del(pio, control_port[i], &ide_control_ops, &s->ch[i]);
		return;
	}
	snprintf(who, sizeof(who), "ide%u", i);
	if (bus_add(pio, command_port[i], 8, &ide_command_ops, &s->ch[i], s->loop, who, BUS_GUEST) <
		    0 ||
	    bus_add(pio, control_port[i], 1, &ide_control_ops, &s->ch[i], s->loop, who, BUS_GUEST) <
		    0)
		log_error("%s: ports 0x%x and 0x%x cannot be claimed", s->pci.dev.id,
			  command_port[i], control_port[i]);
}

static void ports_apply(void *ctx)
{
	struct piix3_ide *s = ctx;

	s->remap_pending = false;
	for (unsigned i = 0; i < 2; i++)
		channel_map(s, i, channel_decodes(s, i));
}

static void ports_changed(struct piix3_ide *s)
{
	if (s->remap_pending ||
	    (s->mapped[0] == channel_decodes(s, 0) && s->mapped[1] == channel_decodes(s, 1)))
		return;
	s->remap_pending = true;
	pci_exclusive(s->pci.bus, ports_apply, s);
}

static void config_written(struct pci_dev *p, unsigned off, unsigned size)
{
	ports_changed(container_of(p, struct piix3_ide, pci));
}

/* --- drives and media --- */

static void medium_changed(void *ctx)
{
	struct ide_drive *d = ctx;

	if (!d->cdrom)
		return;		/* a disk's size is read again at the next command */
	d->attention = d->media_event = true;
}

static void medium_put(struct ide_drive *d, struct blk *blk)
{
	if (d->q) {
		blk_off_change(d->blk, medium_changed, d);
		blk_queue_free(d->q);
	}
	d->q = NULL;
	d->blk = blk;
	if (blk) {
		d->q = blk_queue_new(blk, d->ch->ide->loop);
		blk_on_change(blk, d->ch->ide->loop, medium_changed, d);
	}
}

int piix3_ide_attach(struct device *dev, unsigned unit, const struct ide_drive_opts *o,
		     struct err *err)
{
	struct piix3_ide *s = of(dev);
	struct ide_drive *d = drive(s, unit);

	if (unit > 3)
		return err_set(err, EINVAL, "IDE has units 0 to 3, not %u", unit);
	if (d->present)
		return err_set(err, EBUSY,
			       "hd%c is there already: two drives want IDE bus %u unit %u",
			       'a' + unit, unit / 2, unit % 2);
	if (!o->cdrom && !o->blk)
		return err_set(err, EINVAL, "hd%c: a disk needs an image", 'a' + unit);
	if (!o->cdrom && blk_readonly(o->blk))
		return err_set(
			err, EROFS,
			"hd%c: '%s' is read-only, which an IDE disk cannot be: use if=virtio, or "
			"snapshot=on, or media=cdrom",
			'a' + unit, blk_filename(o->blk));
	if (!o->cdrom && blk_size(o->blk) < IDE_SECTOR)
		return err_set(err, EINVAL, "hd%c: '%s' holds %llu bytes, less than a sector",
			       'a' + unit, blk_filename(o->blk),
			       (unsigned long long)blk_size(o->blk));
	d->present = true;
	d->cdrom = o->cdrom;
	d->buf = xcalloc(1, IDE_BUFFER);
	if (o->serial)
		snprintf(d->serial, sizeof(d->serial), "%s", o->serial);
	else
		snprintf(d->serial, sizeof(d->serial), "MV%05u", unit + 1);
	snprintf(d->model, sizeof(d->model), "%s",
		 o->model   ? o->model
		 : o->cdrom ? "minivmm CD-ROM"
			    : "minivmm disk");
	d->tray_moved = o->tray_moved;
	d->tray_ctx = o->tray_ctx;
	d->write_cache = true;
	d->smart = true;
	medium_put(d, o->blk);
	/* A CD drive has none; its task file is reset as a disk's is. */
	d->geometry = o->cdrom ? (struct ide_geometry){ .heads = 16, .sectors = 63 } : o->geometry;
	if (!o->cdrom)
		ide_geometry_fill(&d->geometry, o->blk);
	ide_drive_reset(d);
	return 0;
}

bool piix3_ide_geometry(struct device *dev, unsigned unit, struct ide_geometry *g)
{
	struct ide_drive *d = drive(of(dev), unit);

	if (!d->present || d->cdrom)
		return false;
	*g = d->geometry;
	return true;
}

static bool drive_idle(void *ctx)
{
	return !((struct ide_drive *)ctx)->inflight;
}

int piix3_ide_change_medium(struct device *dev, unsigned unit, struct blk *blk, bool force,
			    struct blk **old)
{
	struct piix3_ide *s = of(dev);
	struct ide_drive *d = drive(s, unit);

	*old = NULL;
	if (unit > 3 || !d->present || !d->cdrom)
		return -ENODEV;
	if (d->locked && !force) {
		d->eject_request = true;
		return -EBUSY;
	}
	loop_wait(s->loop, drive_idle, d);
	/*
	 * A command that waits for its next piece of the old medium ends as it would with a drive
	 * opened by hand.
	 */
	if (d->xfer == XFER_ATAPI_READ || d->xfer == XFER_ATAPI_DMA_READ)
		atapi_fail(d, 2, 0x3a, 0);
	d->deferred = false;
	*old = d->blk;
	medium_put(d, blk);
	d->locked = d->eject_request = false;
	ide_tray(d, true);
	if (blk)	/* without a medium it stays open */
		ide_tray(d, false);
	d->media_event = true;
	d->attention = blk != NULL;
	return 0;
}

bool piix3_ide_tray_open(struct device *dev, unsigned unit)
{
	return drive(of(dev), unit)->tray_open;
}

/* --- the device --- */

static bool all_idle(void *ctx)
{
	return ide_idle(ctx);
}

static void piix3_ide_reset(struct device *dev)
{
	struct piix3_ide *s = of(dev);

	/*
	 * What is in flight ends first: a write must not reach the disk after what the next boot
	 * writes.
	 */
	for (unsigned i = 0; i < 4; i++)
		drive(s, i)->orphan = drive(s, i)->inflight;
	if (!ide_idle(s))
		loop_wait(s->loop, all_idle, s);
	for (unsigned i = 0; i < 2; i++) {
		struct ide_channel *c = &s->ch[i];

		c->control = c->bm_command = c->bm_status = 0;
		c->bm_table = 0;
		c->cursor = c->chunk = (struct bm_cursor){ 0 };
		c->dma_drive = -1;
		for (unsigned k = 0; k < 2; k++) {
			struct ide_drive *d = &c->drive[k];

			d->r = (struct ide_regs){ 0 };
			d->write_cache = d->smart = true;
			d->dma_mode = 0;
			d->attention = d->media_event = d->eject_request = false;
			d->sense_key = d->asc = d->ascq = 0;
			ide_drive_reset(d);
		}
		ide_irq_update(c);
	}
	pci_dev_reset(&s->pci);
	ports_changed(s);
}

static void piix3_ide_quiesce(struct device *dev, void (*done)(void *ctx), void *ctx)
{
	struct piix3_ide *s = of(dev);

	s->paused = true;
	if (ide_idle(s)) {
		done(ctx);
		return;
	}
	s->quiesced = done;
	s->quiesced_ctx = ctx;
}

static void piix3_ide_resume(struct device *dev)
{
	ide_resume(of(dev));
}

static const struct state_field drive_fields[] = {
	STATE_FIELD(struct ide_drive, STATE_U8, command),
	STATE_FIELD(struct ide_drive, STATE_BOOL, intrq),
	STATE_FIELD(struct ide_drive, STATE_U8, mult),
	STATE_FIELD(struct ide_drive, STATE_U8, heads),
	STATE_FIELD(struct ide_drive, STATE_U8, spt),
	STATE_FIELD(struct ide_drive, STATE_U8, dma_mode),
	STATE_FIELD(struct ide_drive, STATE_BOOL, write_cache),
	STATE_FIELD(struct ide_drive, STATE_BOOL, smart),
	STATE_FIELD(struct ide_drive, STATE_BOOL, standby),
	STATE_FIELD(struct ide_drive, STATE_U8, xfer),
	STATE_FIELD(struct ide_drive, STATE_BOOL, fua),
	STATE_FIELD(struct ide_drive, STATE_U64, off),
	STATE_FIELD(struct ide_drive, STATE_U64, left),
	STATE_FIELD(struct ide_drive, STATE_U32, buf_pos),
	STATE_FIELD(struct ide_drive, STATE_U32, buf_len),
	STATE_FIELD(struct ide_drive, STATE_U32, drq_end),
	STATE_FIELD(struct ide_drive, STATE_U32, drq_size),
	STATE_FIELD(struct ide_drive, STATE_U32, trim_next),
	STATE_FIELD(struct ide_drive, STATE_BOOL, deferred),
	STATE_FIELD(struct ide_drive, STATE_BYTES, packet),
	STATE_FIELD(struct ide_drive, STATE_U8, sense_key),
	STATE_FIELD(struct ide_drive, STATE_U8, asc),
	STATE_FIELD(struct ide_drive, STATE_U8, ascq),
	STATE_FIELD(struct ide_drive, STATE_BOOL, tray_open),
	STATE_FIELD(struct ide_drive, STATE_BOOL, locked),
	STATE_FIELD(struct ide_drive, STATE_BOOL, attention),
	STATE_FIELD(struct ide_drive, STATE_BOOL, media_event),
	STATE_FIELD(struct ide_drive, STATE_BOOL, eject_request),
	STATE_FIELD(struct ide_drive, STATE_BOOL, raw),
	STATE_FIELD(struct ide_drive, STATE_U32, byte_limit),
};

static const struct state_field channel_fields[] = {
	STATE_FIELD(struct ide_channel, STATE_U8, control),
	STATE_FIELD(struct ide_channel, STATE_U8, bm_command),
	STATE_FIELD(struct ide_channel, STATE_U8, bm_status),
	STATE_FIELD(struct ide_channel, STATE_U32, bm_table),
};

static const struct state_field cursor_fields[] = {
	STATE_FIELD(struct bm_cursor, STATE_U32, entry),
	STATE_FIELD(struct bm_cursor, STATE_U32, addr),
	STATE_FIELD(struct bm_cursor, STATE_U32, left),
	STATE_FIELD(struct bm_cursor, STATE_U16, seen),
	STATE_FIELD(struct bm_cursor, STATE_BOOL, last),
};

/*
 * The task file in one property: features to status in the order of struct ide_regs, which is bytes
 * only.
 */
static void drive_save(struct ide_drive *d, struct state_out *o)
{
	state_bytes(o, "registers", &d->r, sizeof(d->r));
	if (!d->present)
		return;
	state_save_fields(o, d, drive_fields, ARRAY_SIZE(drive_fields));
	/*
	 * Guessed from what was on the disk when the guest was started: it may be something else
	 * now.
	 */
	if (!d->cdrom)
		state_u64(o, "geometry", (uint64_t)d->geometry.cylinders << 16 |
						 d->geometry.heads << 8 | d->geometry.sectors);
	state_bytes(o, "buffer", d->buf, d->buf_len);
}

static int piix3_ide_save(struct device *dev, struct state_out *o)
{
	struct piix3_ide *s = of(dev);
	int ret = pci_dev_save(&s->pci, o);
	char name[16];

	for (unsigned i = 0; i < 2; i++) {
		struct ide_channel *c = &s->ch[i];

		snprintf(name, sizeof(name), "channel@%u", i);
		state_begin(o, name);
		state_save_fields(o, c, channel_fields, ARRAY_SIZE(channel_fields));
		state_u8(o, "dma-drive", (uint8_t)(c->dma_drive + 1));
		state_begin(o, "cursor");
		state_save_fields(o, &c->cursor, cursor_fields, ARRAY_SIZE(cursor_fields));
		state_end(o);
		for (unsigned k = 0; k < 2; k++) {
			snprintf(name, sizeof(name), "drive@%u", k);
			state_begin(o, name);
			drive_save(&c->drive[k], o);
			state_end(o);
		}
		state_end(o);
	}
	return ret;
}

static bool moves_medium(const struct ide_drive *d)
{
	switch (d->xfer) {
	case XFER_READ: case XFER_WRITE: case XFER_DMA_READ: case XFER_DMA_WRITE: case XFER_VERIFY:
	case XFER_DMA_TRIM: case XFER_ATAPI_READ: case XFER_ATAPI_DMA_READ:
		return true;
	default:
		return false;
	}
}

static bool moves_by_pio(const struct ide_drive *d)
{
	switch (d->xfer) {
	case XFER_ANSWER: case XFER_READ: case XFER_WRITE: case XFER_PACKET: case XFER_ATAPI_ANSWER:
	case XFER_ATAPI_READ: case XFER_ATAPI_PARAMS:
		return true;
	default:
		return false;
	}
}

/* Which kinds of transfer a kind of drive can be in. */
static bool xfer_fits(const struct ide_drive *d)
{
	if (d->xfer == XFER_NONE || d->xfer == XFER_ANSWER)
		return true;
	return d->xfer < XFER_COUNT && (d->xfer >= XFER_PACKET) == d->cdrom;
}

static int drive_check(struct ide_drive *d, struct state_in *in)
{
	if (!xfer_fits(d))
		return state_bad(in, "transfer kind %u", d->xfer);
	if (d->buf_len > IDE_BUFFER || d->drq_end > d->buf_len || d->buf_pos > d->drq_end)
		return state_bad(in, "byte %u of a block to %u of %u", d->buf_pos, d->drq_end,
				 d->buf_len);
	/* Blocks of nothing would never end. */
	if (!d->drq_size && moves_by_pio(d))
		return state_bad(in, "blocks of no bytes");
	if (d->mult > IDE_MAX_MULT || !d->heads || d->heads > 16 || !d->spt)
		return state_bad(in, "multiple %u, %u heads, %u sectors", d->mult, d->heads,
				 d->spt);
	if (moves_medium(d) && (!d->blk || !range_ok(d->off, d->left, blk_size(d->blk)) ||
				d->left > 65536ull * CD_SECTOR * 65536))
		return state_bad(in, "a transfer of %llu bytes at %llu, beyond the medium",
				 (unsigned long long)d->left, (unsigned long long)d->off);
	if ((d->xfer == XFER_PACKET && d->buf_len != PACKET_LEN) ||
	    (d->xfer == XFER_WRITE && d->buf_len > d->left) || (d->raw && !d->cdrom) ||
	    /* DMA into the guest's own pieces goes on in the middle of a sector, nothing else. */
	    (d->cdrom && (d->raw || d->xfer == XFER_ATAPI_READ) &&
	     (d->off % CD_SECTOR || d->left % CD_SECTOR)) ||
	    (d->xfer == XFER_DMA_TRIM && d->trim_next > d->buf_len / 8) ||
	    (d->cdrom && d->xfer >= XFER_PACKET && d->byte_limit < 2))
		return state_bad(in, "a transfer that cannot be");
	return 0;
}

/* What a transfer left behind means nothing without one. */
static void drive_rest(struct ide_drive *d)
{
	d->off = d->left = 0;
	d->trim_next = 0;
	d->raw = false;
}

/* States of before say nothing of it: then it is guessed anew, as they did. */
static int load_geometry(struct ide_drive *d, struct state_in *in)
{
	const struct ide_geometry *g = &d->geometry;
	uint64_t v;
	int ret = state_get_u64_opt(in, "geometry", &v,
				    (uint64_t)g->cylinders << 16 | g->heads << 8 | g->sectors);

	if (ret)
		return ret;
	if (!(v >> 16) || v >> 16 > UINT16_MAX || !(v >> 8 & 0xff) || (v >> 8 & 0xff) > 16 ||
	    !(v & 0xff))
		return state_bad(in, "geometry %#lx", v);
	d->geometry.cylinders = v >> 16;
	d->geometry.heads = v >> 8 & 0xff;
	d->geometry.sectors = v & 0xff;
	return 0;
}

static int drive_load(struct ide_drive *d, struct state_in *in)
{
	const void *buf;
	size_t len;
	int ret;

	state_get_bytes(in, "registers", &d->r, sizeof(d->r));
	if (!d->present)
		return state_in_error(in);
	ret = d->cdrom ? 0 : load_geometry(d, in);
	if (!ret)
		ret = state_load_fields(in, d, drive_fields, ARRAY_SIZE(drive_fields));
	if (!ret && d->xfer == XFER_NONE)
		drive_rest(d);
	if (!ret)
		ret = drive_check(d, in);
	if (!ret)
		ret = state_get_blob(in, "buffer", &buf, &len, IDE_BUFFER);
	if (!ret && len != d->buf_len)
		ret = state_bad(in, "a buffer of %zu bytes that should hold %u", len, d->buf_len);
	if (ret)
		return ret;
	memcpy(d->buf, buf, len);
	/* Nothing is in flight in a saved machine: what is busy is waiting for its next piece. */
	if (d->deferred && (d->xfer == XFER_NONE || !d->blk))
		return state_bad(in, "a piece is due and there is no transfer");
	return 0;
}

static int channel_load(struct ide_channel *c, struct state_in *in)
{
	uint8_t dma_drive;
	char name[16];
	int ret;

	ret = state_load_fields(in, c, channel_fields, ARRAY_SIZE(channel_fields));
	state_get_u8(in, "dma-drive", &dma_drive);
	if (!ret && (dma_drive > 2 || (dma_drive && !c->drive[dma_drive - 1].present)))
		ret = state_bad(in, "drive %d uses the bus master", dma_drive - 1);
	if (!ret)
		ret = state_enter(in, "cursor");
	if (!ret) {
		ret = state_load_fields(in, &c->cursor, cursor_fields, ARRAY_SIZE(cursor_fields));
		if (!ret && c->cursor.left > 0x10000)
			ret = state_bad(in, "a region of %u bytes", c->cursor.left);
		state_leave(in);
	}
	for (unsigned k = 0; k < 2 && !ret; k++) {
		snprintf(name, sizeof(name), "drive@%u", k);
		ret = state_enter(in, name);
		if (ret)
			break;
		ret = drive_load(&c->drive[k], in);
		state_leave(in);
	}
	if (!ret)
		ret = state_in_error(in);
	if (ret)
		return ret;
	c->dma_drive = (int8_t)(dma_drive - 1);
	c->bm_table &= ~3u;
	return 0;
}

static int piix3_ide_load(struct device *dev, struct state_in *in, uint32_t version)
{
	struct piix3_ide *s = of(dev);
	char name[16];
	int ret = 0;

	for (unsigned i = 0; i < 2 && !ret; i++) {
		snprintf(name, sizeof(name), "channel@%u", i);
		ret = state_enter(in, name);
		if (ret)
			break;
		ret = channel_load(&s->ch[i], in);
		state_leave(in);
	}
	if (!ret)
		ret = pci_dev_load(&s->pci, in);
	if (ret < 0) {
		piix3_ide_reset(dev);
		return ret;
	}
	ports_apply(s);
	for (unsigned i = 0; i < 2; i++) {
		uint8_t status = s->ch[i].bm_status;

		ide_irq_update(&s->ch[i]);
		s->ch[i].bm_status = status;
	}
	return 0;
}

static void piix3_ide_destroy(struct device *dev)
{
	struct piix3_ide *s = of(dev);

	for (unsigned i = 0; i < 4; i++)
		drive(s, i)->orphan = drive(s, i)->inflight;
	/* Nobody holds the lock where a machine ends. */
	loop_lock(s->loop);
	loop_wait(s->loop, all_idle, s);
	loop_unlock(s->loop);
	for (unsigned i = 0; i < 4; i++) {
		medium_put(drive(s, i), NULL);
		free(drive(s, i)->buf);
	}
	for (unsigned i = 0; i < 2; i++)
		channel_map(s, i, false);
	pci_dev_exit(&s->pci);
	free(s);
}

static const struct device_ops piix3_ide_device = {
	.name = "piix3-ide",
	.version = 1,
	.reset = piix3_ide_reset,
	.quiesce = piix3_ide_quiesce,
	.resume = piix3_ide_resume,
	.save = piix3_ide_save,
	.load = piix3_ide_load,
	.destroy = piix3_ide_destroy,
};

static const struct pci_id piix3_ide_id = {
	.vendor = 0x8086, .device = 0x7010, .class_rev = 0x01018000,
	.subsystem_vendor = 0x1af4, .subsystem = 0x1100,
};

struct device *piix3_ide_new(struct pci_bus *pci, const struct piix3_ide_opts *o, struct err *err)
{
	const struct pci_wires *w = pci_bus_wires(pci);
	struct piix3_ide *s = xcalloc(1, sizeof(*s));
	int ret;

	s->mem = w->mem;
	s->loop = w->loop;
	for (unsigned i = 0; i < 2; i++) {
		s->ch[i].ide = s;
		s->ch[i].index = i;
		s->ch[i].irq = o->irq[i];
		s->ch[i].dma_drive = -1;
		for (unsigned k = 0; k < 2; k++) {
			s->ch[i].drive[k].ch = &s->ch[i];
			s->ch[i].drive[k].index = k;
		}
	}
	device_init(&s->pci.dev, &piix3_ide_device, "ide", w->loop);
	ret = pci_dev_init(&s->pci, pci, o->devfn, &piix3_ide_id);
	if (ret < 0) {
		err_set(err, -ret, "the IDE controller cannot be plugged in: %s", strerror(-ret));
		free(s->pci.dev.id);
		free(s);
		return NULL;
	}
	st_le16(s->pci.config + PCI_STATUS, PCI_STATUS_FAST_BACK | PCI_STATUS_DEVSEL_MEDIUM);
	/*
	 * Both channels decode from reset on, unlike the chip's, whose firmware turns them on: OVMF
	 * was written for a machine that takes no notice of the bits, and waits half a minute for
	 * each drive; Linux takes a channel without its bit for one that is off.
	 */
	st_le32(s->pci.config + IDETIM, (uint32_t)IDETIM_IDE << 24 | IDETIM_IDE << 8);
	st_le32(s->pci.wmask + IDETIM, 0xffffffff);
	s->pci.wmask[IDETIM + 4] = 0xff;	/* SIDETIM */
	s->pci.config_written = config_written;
	pci_bar_regs(&s->pci, BMIDE_BAR, PCI_BASE_ADDRESS_SPACE_IO, BMIDE_LEN, &bm_ops, s);
	return &s->pci.dev;
}
