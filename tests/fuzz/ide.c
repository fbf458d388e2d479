/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: the IDE controller, a disk and a CD-ROM drive through ports, configuration space and
 * regions of memory. The input is a program: a byte of code, a few of arguments. Commands are set
 * up whole as often as bent, so that transfers run; in between requests fail, media change, and the
 * machine is saved, loaded and reset.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/chips.h"
#include "tests/lib/testdisk.h"
#include "tests/lib/threeway.h"

#define DEVFN PCI_DEVFN(1, 1)
#define BM 0xc000
#define PRD 0x1000
#define DATA 0x100000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct bytes { const uint8_t *p; size_t len; };

static uint32_t take(struct bytes *in, unsigned n)
{
	uint32_t v = 0;

	while (n--) {
		v = v << 8 | (in->len ? *in->p : 0);
		if (in->len) {
			in->p++;
			in->len--;
		}
	}
	return v;
}

static const uint8_t ata_commands[] = {
	0x20, 0x24, 0x25, 0x29, 0x30, 0x34, 0x35, 0x39, 0x3d, 0x40, 0x06, 0xb0, 0xc4, 0xc5,
	0xc6, 0xc8, 0xca, 0xec, 0xef, 0xe7, 0xea, 0x90, 0x91, 0xf8, 0xa0, 0xa1, 0x08,
};
static const uint8_t packets[] = {
	0x00, 0x03, 0x12, 0x1a, 0x1b, 0x1e, 0x25, 0x28, 0x43, 0x46,
	0x4a, 0x51, 0x52, 0x55, 0x5a, 0xa8, 0xad, 0xb9, 0xbd, 0xbe,
};

struct rig {
	struct guest *g;
	struct testdisk *hd, *cd;
	struct device *d;
};

static struct device *make(struct guest *g, struct rig *r)
{
	struct piix3_ide_opts o = { .devfn = DEVFN,
				    .irq = { irq_source(g->irqs, 14), irq_source(g->irqs, 15) } };
	struct ide_drive_opts hd = { .blk = r->hd->blk }, cd = { .blk = r->cd->blk, .cdrom = true };
	struct err err = { "" };
	struct device *d = piix3_ide_new(g->pci, &o, &err);

	if (!d || piix3_ide_attach(d, 0, &hd, &err) || piix3_ide_attach(d, 1, &cd, &err) ||
	    piix3_ide_attach(d, 2, &cd, &err))
		abort();
	return d;
}

static uint64_t in_port(struct rig *r, uint16_t at)
{
	return in(r->g->pio, at, 1);
}

static void settle(struct rig *r)
{
	for (int i = 0; i < 3; i++)
		guest_run(r->g, 0);
}

static uint16_t port(uint32_t v)
{
	static const uint16_t base[] = { 0x1f0, 0x170, BM, BM };

	if ((v & 15) == 15)
		return v & 16 ? 0x3f6 : 0x376;
	return base[v >> 4 & 3] + ((v >> 4 & 3) < 2 ? v & 7 : v & 15);
}

/* A command with sensible registers; its DMA or data phase may follow from the input. */
static void command(struct rig *r, struct bytes *input)
{
	uint16_t base = take(input, 1) & 1 ? 0x170 : 0x1f0;
	uint32_t lba = take(input, 2);

	out(r->g->pio, base + 6, 1, 0xe0 | (take(input, 1) & 0x1f));
	out(r->g->pio, base + 1, 1, take(input, 1));
	out(r->g->pio, base + 2, 1, take(input, 1));
	for (unsigned i = 0; i < 3; i++)
		out(r->g->pio, base + 3 + i, 1, lba >> (8 * i) & 0xff);
	out(r->g->pio, base + 7, 1, ata_commands[take(input, 1) % sizeof(ata_commands)]);
}

static void packet(struct rig *r, struct bytes *input)
{
	uint16_t base = take(input, 1) & 1 ? 0x170 : 0x1f0;
	uint8_t p[12] = { packets[take(input, 1) % sizeof(packets)] };

	for (unsigned i = 1; i < sizeof(p); i++)
		p[i] = (uint8_t)take(input, 1);
	out(r->g->pio, base + 6, 1, base == 0x1f0 ? 0xb0 : 0xa0);
	out(r->g->pio, base + 1, 1, take(input, 1) & 1);
	out(r->g->pio, base + 4, 2, take(input, 2));
	out(r->g->pio, base + 7, 1, 0xa0);
	bus_write_rep(r->g->pio, base, 2, p, 6);
}

static void regions(struct rig *r, struct bytes *input)
{
	uint8_t *p = guest_ptr(r->g, PRD, 64);

	for (unsigned i = 0; i < 4; i++) {
		uint32_t v = take(input, 3);

		st_le32(p + 8 * i, v & 1 ? v << 9 : DATA + (v >> 8 & 0xffff));
		st_le32(p + 8 * i + 4, (v >> 4 & 0xffff) | (v & 2 ? 0x80000000u : 0));
	}
	out(r->g->pio, BM + 4, 4, PRD);
	out(r->g->pio, BM + 12, 4, PRD);
}

static void save_and_load(struct rig *r, struct bytes *input)
{
	struct err err = { "" };
	size_t len, at = take(input, 2);
	uint8_t flip = (uint8_t)take(input, 1);
	void *blob;

	guest_quiesce(r->g, r->d);
	guest_save(r->d, &blob, &len);
	((uint8_t *)blob)[at % len] ^= flip;
	if (guest_load(r->d, blob, len, &err) && !flip)
		abort();		/* what we saved must load */
	free(blob);
	loop_lock(r->g->loop);
	r->d->ops->resume(r->d);
	loop_unlock(r->g->loop);
}

static void other(struct rig *r, struct bytes *input)
{
	struct blk *old;

	switch (take(input, 1) & 7) {
	case 0:
		loop_lock(r->g->loop);
		r->d->ops->reset(r->d);
		loop_unlock(r->g->loop);
		break;
	case 1:
		loop_lock(r->g->loop);
		piix3_ide_change_medium(r->d, 2, take(input, 1) & 1 ? r->cd->blk : NULL,
					take(input, 1) & 1, &old);
		loop_unlock(r->g->loop);
		break;
	case 2:
		r->hd->error = r->cd->error = -EIO;
		r->hd->errors = r->cd->errors = take(input, 1) & 3;
		break;
	case 3:
		save_and_load(r, input);
		break;
	default:
		cfg_write(r->g, DEVFN, take(input, 1) & 0xfc, 4, take(input, 4));
	}
	cfg_write(r->g, DEVFN, 0x40, 4, 0x80008000);
	cfg_write(r->g, DEVFN, PCI_BASE_ADDRESS_4, 4, BM);
	cfg_write(r->g, DEVFN, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
}

static void step(struct rig *r, struct bytes *input)
{
	uint8_t buf[4096];
	uint32_t v = take(input, 1);

	switch (v & 7) {
	case 0:
		out(r->g->pio, port(take(input, 1)), 1u << (v >> 3 & 3 & ~(v >> 4)),
		    take(input, 2));
		break;
	case 1:
		bus_read(r->g->pio, port(take(input, 1)), 1u << (v >> 3 & 1), &(uint64_t){ 0 });
		break;
	case 2:
		bus_read_rep(r->g->pio, v & 8 ? 0x170 : 0x1f0, 2, buf, take(input, 1) * 8 % 2048);
		break;
	case 3:
		memset(buf, (int)v, sizeof(buf));
		bus_write_rep(r->g->pio, v & 8 ? 0x170 : 0x1f0, 2, buf, take(input, 1) * 8 % 2048);
		break;
	case 4:
		if (v & 8)
			packet(r, input);
		else
			command(r, input);
		break;
	case 5:
		if (v & 8)
			regions(r, input);
		out(r->g->pio, BM + (v & 16 ? 8 : 0), 1, 0);
		out(r->g->pio, BM + (v & 16 ? 8 : 0), 1, v & 32 ? 1 : 9);
		break;
	case 6:
		settle(r);
		break;
	default:
		other(r, input);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct bytes in = { data, len };
	struct rig r = { .g = chips_guest(),
			 .hd = testdisk_new(256 * 1024, false),
			 .cd = testdisk_new(256 * 2048, true) };
	int i;

	r.d = make(r.g, &r);
	cfg_write(r.g, DEVFN, 0x40, 4, 0x80008000);
	cfg_write(r.g, DEVFN, PCI_BASE_ADDRESS_4, 4, BM);
	cfg_write(r.g, DEVFN, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
	for (i = 0; i < 400 && in.len; i++)
		step(&r, &in);
	/* Whatever happened: after a reset the disk answers. */
	r.hd->errors = r.cd->errors = 0;
	loop_lock(r.g->loop);
	r.d->ops->reset(r.d);
	loop_unlock(r.g->loop);
	cfg_write(r.g, DEVFN, 0x40, 4, 0x80008000);
	cfg_write(r.g, DEVFN, PCI_COMMAND, 2, PCI_COMMAND_IO);
	out(r.g->pio, 0x1f6, 1, 0xa0);
	out(r.g->pio, 0x1f7, 1, 0xec);
	if (in_port(&r, 0x1f7) != 0x58)
		abort();
	loop_lock(r.g->loop);
	device_destroy(r.d);
	loop_unlock(r.g->loop);
	testdisk_free(r.hd);
	testdisk_free(r.cd);
	guest_free(r.g);
	return 0;
}
