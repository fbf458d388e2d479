/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * geometry.c: see geometry.h. ATA-4, 8.16 (IDENTIFY DEVICE words 1, 3, 6); the PC's partition
 * table.
 */
#include "devices/ide/geometry.h"
#include "disk/blk.h"

#define SECTOR 512
#define MAX_CYLINDERS 16383
#define MAX_HEADS 16
#define MAX_SECTORS 63
#define PARTITION_TABLE 0x1be
#define PARTITION_SIZE 16
#define PARTITION_END_HEAD 5
#define PARTITION_END_SECTOR 6
#define PARTITION_SECTORS 12
/* What INT 13h can count without help: 1024 cylinders. */
#define BIOS_CYLINDERS 1024
/* Above, doubling heads and halving cylinders is not enough. */
#define LARGE_TRACKS 131072

/*
 * The geometry that a partition's last sector tells, for partitions end with a cylinder. False:
 * there is no such table. What the disk is an inactive machine's cannot be read yet: then there is
 * none.
 */
static bool partitioned_with(struct blk *b, uint64_t total, struct ide_geometry *g)
{
	uint8_t s[SECTOR];

	if (blk_pread(b, s, sizeof(s), 0) < 0 || ld_le16(s + 510) != 0xaa55)
		return false;
	for (unsigned i = 0; i < 4; i++) {
		const uint8_t *p = s + PARTITION_TABLE + i * PARTITION_SIZE;
		uint8_t sectors = p[PARTITION_END_SECTOR] & 63;
		unsigned heads = p[PARTITION_END_HEAD] + 1u;
		uint64_t cylinders;

		if (!ld_le32(p + PARTITION_SECTORS) || !p[PARTITION_END_HEAD] || !sectors)
			continue;
		cylinders = total / (heads * sectors);
		if (cylinders < 1 || cylinders > MAX_CYLINDERS)
			continue;
		g->cylinders = cylinders;
		g->heads = MIN(heads, 255u);
		g->sectors = sectors;
		return true;
	}
	return false;
}

static void by_size(uint64_t total, struct ide_geometry *g)
{
	g->cylinders = MAX(MIN(total / (MAX_HEADS * MAX_SECTORS), MAX_CYLINDERS), 2u);
	g->heads = MAX_HEADS;
	g->sectors = MAX_SECTORS;
}

static enum ide_translation by_geometry(const struct ide_geometry *g)
{
	return g->cylinders <= BIOS_CYLINDERS && g->heads <= MAX_HEADS && g->sectors <= MAX_SECTORS
		       ? IDE_TRANSLATION_NONE
		       : IDE_TRANSLATION_LBA;
}

void ide_geometry_fill(struct ide_geometry *g, struct blk *b)
{
	uint64_t total = blk_size(b) / SECTOR;
	enum ide_translation t;

	if (g->cylinders) {
		t = by_geometry(g);
	} else if (!partitioned_with(b, total, g)) {
		by_size(total, g);
		t = by_geometry(g);
	} else if (g->heads > MAX_HEADS) {
		/* Made by a BIOS that translated: it must do so again. */
		by_size(total, g);
		t = g->cylinders * g->heads <= LARGE_TRACKS ? IDE_TRANSLATION_LARGE
							     : IDE_TRANSLATION_LBA;
	} else {
		t = IDE_TRANSLATION_NONE;
	}
	if (g->translation == IDE_TRANSLATION_AUTO)
		g->translation = t;
}
