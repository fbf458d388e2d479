/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * times N COMMAND...: runs it N times, output dropped, and prints the median and the least time
 * from spawn to exit in microseconds.
 */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
	int n = argc > 2 ? atoi(argv[1]) : 0;
	double *t = n > 0 ? calloc((size_t)n, sizeof(*t)) : NULL;
	posix_spawn_file_actions_t fa;

	if (!t) {
		fprintf(stderr, "usage: times N COMMAND...\n");
		return 2;
	}
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&fa, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(&fa, 2, "/dev/null", O_WRONLY, 0);
	for (int i = 0; i < n; i++) {
		struct timespec a, b;
		int status;
		pid_t pid;

		clock_gettime(CLOCK_MONOTONIC, &a);
		if (posix_spawnp(&pid, argv[2], &fa, NULL, argv + 2, environ) ||
		    waitpid(pid, &status, 0) != pid) {
			perror(argv[2]);
			return 1;
		}
		clock_gettime(CLOCK_MONOTONIC, &b);
		/*
		 * The guest ends through the debug exit port with an odd status; 1 is a VMM that
		 * did not start.
		 */
		if (!WIFEXITED(status) || !(WEXITSTATUS(status) & 1) || WEXITSTATUS(status) == 1) {
			fprintf(stderr, "%s ended with %d\n", argv[2], status >> 8);
			return 1;
		}
		t[i] = (double)(b.tv_sec - a.tv_sec) * 1e6 + (double)(b.tv_nsec - a.tv_nsec) / 1e3;
	}
	qsort(t, (size_t)n, sizeof(*t), compare);
	printf("%.0f %.0f\n", t[n / 2], t[0]);
	return 0;
}
