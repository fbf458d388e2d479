/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fuzz target of the same name, with a few hundred programs of fixed random bytes for each
 * device: whatever a guest did is saved, loads again and saves as the same; bent states are refused
 * with a reason or lived with.
 */
#include <signal.h>

#include "tests/fuzz/devstate.c"
#include "vmm/base/log.h"

#define RUNS 60

static uint64_t state = 88172645463325252ull;

static uint8_t next_byte(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint8_t)(state >> 24);
}

int main(int argc, char **argv)
{
	int failed = 0;

	log_set_level(LOG_ERROR);
	for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
		int status;
		pid_t pid;

		if (argc > 1 && !strstr(kinds[k].name, argv[1]))
			continue;
		fflush(stdout);
		pid = fork();
		for (unsigned i = 0; pid == 0 && i < RUNS; i++) {
			uint8_t program[700] = { k };

			state = 88172645463325252ull + 1000003ull * k + i;
			for (unsigned j = 1; j < sizeof(program); j++)
				program[j] = next_byte();
			alarm(60);
			LLVMFuzzerTestOneInput(program, sizeof(program));
		}
		if (pid == 0)
			_exit(0);
		if (pid < 0 || waitpid(pid, &status, 0) != pid)
			status = -1;
		failed |= status;
		printf("%sok %u - %s\n", status ? "not " : "", k + 1, kinds[k].name);
	}
	printf("1..%zu\n", ARRAY_SIZE(kinds));
	return failed != 0;
}
