/* SPDX-License-Identifier: GPL-2.0-or-later */
/* matrix.h: the combinations that tests/img/matrix runs, and what each operation needs. */
#ifndef TESTS_LIB_MATRIX_H
#define TESTS_LIB_MATRIX_H

#include "disk/job.h"
#include "disk/node.h"

enum {
	V2 = 1, NO_BASE = 2, NO_SHARED = 4 /* counts to one only */, DATA_FILE = 8, DATA_RAW = 16,
	LUKS = 32, LARGE = 64 /* clusters of 2 MiB want a larger disk */,
};
struct feature {
	const char *name, *opts;	/* -o of create */
	unsigned is;
};
struct base {
	const char *name, *format, *opts;
	int64_t delta;			/* its size, beside the overlay's */
	uint64_t below;			/* not 0: it has a base itself, so much longer */
};
enum {
	NEEDS_BASE = 1,
	NEEDS_NO_BASE = 2,
	NEEDS_SHARED = 4 /* counts above one: snapshots */,
	NEEDS_V3 = 8,
	NEEDS_EXT = 16,
	NEEDS_PLAIN_DATA = 32 /* clusters in the image, not encrypted */,
	NEEDS_OVERLAY = 64 /* can have a backing file */,
	NEEDS_CLEAR = 256 /* not encrypted */,
	NEEDS_LARGER = 128 /* clusters of more than a sector */,
};
struct run;
struct operation {
	const char *name;
	unsigned needs;
	void (*fn)(struct run *r);
};
extern const struct operation matrix_operations[];	/* ends with name NULL */

struct combination {
	char name[64];
	const struct feature *feature;
	const struct base *base;
	const struct operation *op;
	uint64_t seed;
};
/* Runs one in the current process; what is wrong ends it by tap_fail. */
void matrix_run(const struct combination *c);

#endif
