/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ide_rig.h: the PIIX3 IDE controller with a disk and a CD-ROM drive, and how a driver moves data,
 * for tests/device/{ide,atapi}.c.
 */
#ifndef TESTS_IDE_RIG_H
#define TESTS_IDE_RIG_H

#include "devices/chips.h"
#include "tests/lib/testdisk.h"
#include "tests/lib/threeway.h"

#define DEVFN PCI_DEVFN(1, 1)
#define CMD 0x1f0
#define CTL 0x3f6
#define CMD2 0x170
#define BM 0xc000		/* where the tests put BAR 4 */
#define BSY 0x80
#define DRQ 0x08
#define ERR 0x01
#define SECTORS 4096u
#define CD_SECTORS 400u

struct disks {
	struct testdisk *hd, *cd;
	uint64_t slow;			/* buffer of the transfer under way */
};

static inline uint8_t pattern(uint64_t off, unsigned salt)
{
	return (uint8_t)((off * 2654435761u >> 13) ^ (off >> 9) ^ salt);
}

static inline void fill(struct testdisk *t, unsigned salt)
{
	for (uint64_t i = 0; i < t->size; i++)
		t->data[i] = pattern(i, salt);
}

static inline void restore(void *ctx)
{
	struct disks *d = ctx;

	fill(d->hd, 1);
	fill(d->cd, 2);
}

static inline struct disks *disks_new(void)
{
	struct disks *d = xcalloc(1, sizeof(*d));

	d->hd = testdisk_new(SECTORS * 512, false);
	d->cd = testdisk_new(CD_SECTORS * 2048, true);
	restore(d);
	return d;
}

static inline void disks_free(struct disks *d)
{
	testdisk_free(d->hd);
	testdisk_free(d->cd);
	free(d);
}

static inline struct device *make(struct guest *g, void *ctx)
{
	struct disks *k = ctx;
	struct piix3_ide_opts o = { .devfn = DEVFN,
				    .irq = { irq_source(g->irqs, 14), irq_source(g->irqs, 15) } };
	struct ide_drive_opts hd = { .blk = k->hd->blk, .serial = "S123" },
			      cd = { .blk = k->cd->blk, .cdrom = true };
	struct err err = { "" };
	struct device *d = piix3_ide_new(g->pci, &o, &err);

	CHECK(d);
	CHECK_EQ(piix3_ide_attach(d, 0, &hd, &err), 0);
	CHECK_EQ(piix3_ide_attach(d, 2, &cd, &err), 0);
	return d;
}

/* What firmware does: ports on, BAR 4, bus mastering. */
static inline void setup(struct guest *g)
{
	cfg_write(g, DEVFN, 0x40, 4, 0x80008000);
	cfg_write(g, DEVFN, PCI_BASE_ADDRESS_4, 4, BM);
	cfg_write(g, DEVFN, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
}

static inline uint8_t wait_busy(struct guest *g, unsigned cmd)
{
	for (int i = 0; i < 5000; i++) {
		uint8_t st = (uint8_t)in(g->pio, cmd + 0x206, 1);

		if (!(st & BSY))
			return st;
		guest_run(g, 1);
	}
	tap_fail(__FILE__, __LINE__, "the drive stays busy");
}

static inline void task(struct guest *g, uint64_t lba, unsigned count, bool ext)
{
	if (ext) {
		out(g->pio, CMD + 2, 1, count >> 8);
		for (unsigned i = 0; i < 3; i++)
			out(g->pio, CMD + 3 + i, 1, lba >> (24 + 8 * i) & 0xff);
	}
	out(g->pio, CMD + 2, 1, count & 0xff);
	for (unsigned i = 0; i < 3; i++)
		out(g->pio, CMD + 3 + i, 1, lba >> (8 * i) & 0xff);
	out(g->pio, CMD + 6, 1, 0xe0 | (ext ? 0 : lba >> 24 & 15));
}

static inline uint32_t sum(const uint8_t *p, size_t n)
{
	return crc32c(0, p, n);
}

/* Reads what the drive offers, DRQ block by block; each must raise the interrupt. Returns bytes. */
static inline size_t pio_in(struct guest *g, unsigned cmd, uint8_t *buf, size_t max, unsigned block)
{
	size_t n = 0;

	for (;;) {
		uint8_t st = wait_busy(g, cmd);

		if (!(st & DRQ))
			return n;
		CHECK_EQ(g->line_level[cmd == CMD ? 14 : 15], 1);
		in(g->pio, cmd + 7, 1);
		CHECK_EQ(g->line_level[cmd == CMD ? 14 : 15], 0);
		CHECK(n + block <= max);
		bus_read_rep(g->pio, cmd, 2, buf + n, block / 2);
		n += block;
	}
}

static inline bool is_disk(const uint8_t *buf, uint64_t off, size_t n, unsigned salt)
{
	for (size_t i = 0; i < n; i++)
		if (buf[i] != pattern(off + i, salt))
			return false;
	return true;
}

/* A table of regions of `piece` bytes for len bytes at buf, the last marked. */
static inline uint64_t prd_make(struct guest *g, uint64_t buf, uint32_t len, uint32_t piece)
{
	uint64_t table = guest_alloc(g, 4096, 4096);
	uint8_t *p = guest_ptr(g, table, 4096);

	while (len) {
		uint32_t n = MIN(len, piece);

		st_le32(p, (uint32_t)buf);
		st_le32(p + 4, (n & 0xffff) | (n == len ? 0x80000000u : 0));
		p += 8;
		buf += n;
		len -= n;
	}
	return table;
}

static inline void dma_start(struct guest *g, uint64_t table, bool to_memory)
{
	out(g->pio, BM + 4, 4, table);
	out(g->pio, BM + 2, 1, 0x06);
	out(g->pio, BM, 1, to_memory ? 0x08 : 0);
	out(g->pio, BM, 1, to_memory ? 0x09 : 1);
}

static inline bool dma_ended(void *ctx)
{
	return in(((struct guest *)ctx)->pio, BM + 2, 1) & 4;
}

static inline void dma_stop(struct guest *g)
{
	out(g->pio, BM, 1, 0);
	out(g->pio, BM + 2, 1, 0x06);
}

struct rig {
	struct guest *g;
	struct disks *k;
	struct device *d;
};

static inline struct rig rig_new(void)
{
	struct rig r = { .g = chips_guest(), .k = disks_new() };

	r.d = make(r.g, r.k);
	setup(r.g);
	return r;
}

/*
 * What hdparm reads in IDENTIFY's 256 words: somebody else's eyes. Empty when it is not installed.
 */
static inline void hdparm_says(const uint8_t *words, char *said, size_t max)
{
	char path[] = "/tmp/identify.XXXXXX", command[128];
	int fd = mkstemp(path);
	FILE *f = fdopen(fd, "w"), *p;
	size_t n;

	CHECK(f);
	for (unsigned i = 0; i < 256; i++)
		fprintf(f, "%04x%c", ld_le16(words + 2 * i), i % 8 == 7 ? '\n' : ' ');
	fclose(f);
	snprintf(command, sizeof(command), "PATH=$PATH:/sbin:/usr/sbin hdparm --Istdin <%s 2>&1",
		 path);
	p = popen(command, "r");
	CHECK(p);
	n = fread(said, 1, max - 1, p);
	said[n] = 0;
	if (pclose(p) != 0)
		said[0] = 0;
	unlink(path);
}

#endif
