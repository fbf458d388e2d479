/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * snapshot.h: a whole machine in one file that can be started from in milliseconds, many times at
 * once.
 *
 *   0          header, 4 KiB: magic, version, where the tree is, checksums
 *   2 MiB ..   each block of memory as it lies in the guest; pages of zeros are holes of the file
 *   the end    the tree of machine_state.h; its node of each block has the block's place and
 *              checksums
 *
 * Memory is mapped privately: pages are read when the guest touches them, and its writes never
 * reach the file.
 */
#ifndef VMM_MOVE_SNAPSHOT_H
#define VMM_MOVE_SNAPSHOT_H

#include "vmm/machine/machine.h"

/*
 * Saves the machine to path: pauses it, writes a new file beside path, renames it; then the machine
 * goes on as before. An error leaves an older file and the machine as they were. Blocks for as long
 * as the writing takes: a control thread that holds no lock. progress(ctx, done, total) in bytes,
 * may return false to cancel; NULL: none.
 */
int snapshot_save(struct machine *m, const char *path,
		  bool (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx,
		  struct err *err);
/*
 * Loads it into a machine that has not run yet (instead of machine_reset). 0 or -errno with the
 * reason.
 */
int snapshot_restore(struct machine *m, const char *path, struct err *err);
/* True when the file begins as such a file does. */
bool snapshot_probe(const char *path);
/*
 * Reads everything and compares every checksum; report(ctx, line) for each finding. 0, or -errno
 * with the first reason.
 */
int snapshot_verify(const char *path, struct err *err);

/* True when the page of 4 KiB holds zeros only. */
bool page_is_zero(const void *page);

#endif
