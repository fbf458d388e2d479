/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * geometry.h: cylinders, heads and sectors of a disk that has none. Old systems address disks by
 * them; what they are told must be what the disk was partitioned with, and what QEMU tells.
 */
#ifndef DEVICES_IDE_GEOMETRY_H
#define DEVICES_IDE_GEOMETRY_H

#include "vmm/base/util.h"

struct blk;

/*
 * How the BIOS turns the drive's geometry into its own (CMOS 0x39); the numbers are QEMU's words.
 */
enum ide_translation {
	IDE_TRANSLATION_AUTO,
	IDE_TRANSLATION_NONE,
	IDE_TRANSLATION_LBA,
	IDE_TRANSLATION_LARGE,
	IDE_TRANSLATION_RECHS,
};

struct ide_geometry {
	uint32_t cylinders;		/* 1-16383 where it is guessed; 0: to be guessed */
	uint8_t heads, sectors;		/* 1-16, 1-255 */
	enum ide_translation translation;
};

/*
 * Fills in what g leaves open: the geometry the disk was partitioned with, where its partition
 * table shows one of at most 16 heads, else 16 heads of 63 sectors. Reads the first sector; may
 * block. Before the guest runs.
 */
void ide_geometry_fill(struct ide_geometry *g, struct blk *b);

#endif
