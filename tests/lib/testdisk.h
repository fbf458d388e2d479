/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * testdisk.h: a disk in memory that can be slow and can fail, behind the same front as any image.
 */
#ifndef TESTS_LIB_TESTDISK_H
#define TESTS_LIB_TESTDISK_H

#include "disk/node.h"

struct testdisk {
	struct blk *blk;
	uint8_t *data;
	uint64_t size;
	unsigned delay_us;		/* of each request; atomic from here on */
	int error;			/* -errno that requests get while `errors` lasts */
	int errors;			/* how many more fail; -1: all */
	unsigned reads, writes, flushes, discards, zeroes;
	unsigned unstable;		/* writes since the last flush */
	unsigned running, max_running;	/* requests inside now; the most there were */
};

struct testdisk *testdisk_new(uint64_t size, bool readonly);
void testdisk_free(struct testdisk *t);

#endif
