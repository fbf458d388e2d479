/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * imgtest.h: for suites that run minivmm-img and other programs on image files, in a folder of
 * their own that goes away with the test.
 */
#ifndef TESTS_LIB_IMGTEST_H
#define TESTS_LIB_IMGTEST_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

/* What a command did. out holds stdout and stderr as they came; shortened when longer. */
struct img_result {
	int status;			/* exit code; 128 + signal when it died of one */
	char out[65536];
	double seconds;
	long max_rss;			/* KiB */
};

/*
 * Makes a new folder and goes there; %M in commands is this build's minivmm-img. Removed when the
 * test's process ends.
 */
void img_enter(void);
/* Runs a shell command; the result is valid until the next call. */
struct img_result *img_run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The same; the test fails unless it ends with this status. */
struct img_result *img_expect(const char *file, int line, int status, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
#define RUN_OK(...) img_expect(__FILE__, __LINE__, 0, __VA_ARGS__)
#define RUN_FAILS(status, ...) img_expect(__FILE__, __LINE__, status, __VA_ARGS__)
/* Is there such a program? */
bool img_have(const char *program);
/*
 * A raw file with random data, text, short and long runs of zeros and holes; the same for the same
 * seed.
 */
void img_pattern(const char *filename, uint64_t size, unsigned seed);
/* Small deterministic random numbers. */
uint32_t img_random(uint64_t *state);
/* The path of minivmm-img. */
const char *img_tool(void);
bool img_sanitized(void);

#endif
