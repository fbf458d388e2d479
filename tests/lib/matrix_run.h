/* SPDX-License-Identifier: GPL-2.0-or-later */
/* matrix_run.h: one combination of the matrix while it runs; what its operations use. */
#ifndef TESTS_LIB_MATRIX_RUN_H
#define TESTS_LIB_MATRIX_RUN_H

#include "tests/lib/imgtest.h"
#include "tests/lib/matrix.h"

#define TOP "top.qcow2"
enum { ZEROS = 0, DISCARDS, PACKED };

struct run {
	const struct combination *c;
	uint64_t rng;
	uint8_t *m;			/* what the guest sees in TOP */
	uint64_t size;
	char base[32];			/* its backing file, or "" */
	uint8_t *bm;			/* what that holds */
	uint64_t base_size;
};

uint64_t matrix_below(struct run *r, uint64_t n);	/* a random number below n */
bool matrix_coin(struct run *r);
/* How both programs are told of a qcow2 image: -f, or a description with the key. */
const char *matrix_words(const struct run *r, const char *file);
void matrix_save(const char *name, const uint8_t *data, uint64_t len);
struct blk *matrix_open(const struct run *r, const char *file, const char *format, unsigned flags);
/*
 * Random writes, and with a bit set in kinds zeros, discards, compressed clusters; the model
 * follows.
 */
void matrix_dabble(struct run *r, struct blk *b, unsigned ops, unsigned kinds);
void matrix_change(struct run *r, unsigned ops, unsigned kinds);	/* TOP */
void matrix_size(struct run *r, uint64_t size);	/* the model gets another size: zeros at the end */
void matrix_judge(struct run *r, const char *where);
void matrix_judge_file(struct run *r, const char *file, const char *format, const uint8_t *want,
		       uint64_t size, const char *where);

#endif
