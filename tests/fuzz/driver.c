/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * driver.c: runs a fuzz target (LLVMFuzzerTestOneInput) without a fuzzing engine:
 *	TARGET FILE...			these inputs (a corpus, a crash)
 *	TARGET -n COUNT [-s SEED]	COUNT random inputs; the one that kills the program is in SEED's sequence, and is
 *					written to crash-input before it runs
 * Built with clang and -fsanitize=fuzzer, the target needs no driver.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/log.h"
#include "vmm/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define MAX_INPUT 2048

static uint64_t state;

static uint64_t next_random(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static void run_file(const char *path)
{
	static uint8_t buf[1 << 20];
	FILE *f = fopen(path, "rb");
	size_t len;

	if (!f) {
		perror(path);
		exit(1);
	}
	len = fread(buf, 1, sizeof(buf), f);
	fclose(f);
	LLVMFuzzerTestOneInput(buf, len);
}

static void keep_input(const uint8_t *buf, size_t len)
{
	int fd = open("crash-input", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd >= 0 && write_full(fd, buf, len) == 0)
		close(fd);
}

int main(int argc, char **argv)
{
	unsigned long count = 0;
	uint8_t buf[MAX_INPUT];
	int opt;

	state = 88172645463325252ull;
	while ((opt = getopt(argc, argv, "n:s:")) > 0) {
		if (opt == 'n')
			count = strtoul(optarg, NULL, 0);
		else if (opt == 's')
			state ^= strtoull(optarg, NULL, 0) * 0x9e3779b97f4a7c15ull;
		else
			return 1;
	}
	log_set_file("/dev/null");
	for (; optind < argc; optind++)
		run_file(argv[optind]);
	for (unsigned long i = 0; i < count; i++) {
		size_t len = next_random() % MAX_INPUT;

		for (size_t k = 0; k < len; k++) {
			/* Small numbers, and bits set alone, find more than noise does. */
			uint64_t r = next_random();

			buf[k] = r >> 8 & 3 ? r >> 16 & 15 : r >> 8 & 4 ? 1u << (r >> 16 & 7) : r >> 16;
		}
		keep_input(buf, len);
		LLVMFuzzerTestOneInput(buf, len);
	}
	if (count)
		unlink("crash-input");
	printf("%lu inputs, no crash\n", count);
	return 0;
}
