/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * identity.h: what tells whether a disk still holds what it held: the files it lies in, down its
 * whole backing chain, with their times and the marks that formats change with each change.
 * A saved machine keeps it (vmm/machine/machine_disks.c).
 */
#ifndef DISK_IDENTITY_H
#define DISK_IDENTITY_H

#include "disk/node.h"

struct disk_file {
	unsigned layer;			/* 0: the disk itself; 1: its backing file ... */
	char *name;
	char *kind;			/* "file", "block device", or a protocol: "nbd" */
	char *mark;			/* of the format: VMDK's CID ...; "": it has none */
	struct node_stamp at;		/* known: a regular file */
};

struct disk_identity {
	struct disk_file *files;	/* layers in order */
	unsigned n, layers;
	/* What was written lies in a file without a name, which ends with the program. */
	bool lost;
	/* Layers from the top that hold nothing: as a new overlay does. */
	unsigned empty;
};

/* In the order of how bad they are. */
enum disk_verdict { DISK_SAME, DISK_UNKNOWN, DISK_COPIED, DISK_CHANGED };

/*
 * opened: as the files were when they were opened, before this program wrote to them; else as they
 * are now. May read metadata of the image: not while others change the tree; requests may run.
 */
void disk_identity_get(struct blk *b, bool opened, struct disk_identity *id);
void disk_identity_free(struct disk_identity *id);
/*
 * Whether now is the disk that was. New overlays that are empty may have come on top of it. why
 * gets the reason, with the file's name, for all but DISK_SAME.
 */
enum disk_verdict disk_identity_compare(const struct disk_identity *was,
					const struct disk_identity *now, char *why, size_t len);
/*
 * Waits until what is written from now on gets a time later than the newest in id: clocks of file
 * systems tick some 250 times a second. At most 20 ms.
 */
void disk_identity_settle(const struct disk_identity *id);

#endif
