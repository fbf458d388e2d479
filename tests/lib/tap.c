/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tap.c: runs the tests of a suite, each in a child process, and prints TAP. */
#include <stdarg.h>

#include "tests/tap.h"

#define TAP_SKIP_STATUS 77
#define TAP_SECONDS 120

struct tap_test *tap_tests, **tap_tail = &tap_tests;

void tap_fail(const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	printf("# %s:%d: ", file, line);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
	_exit(1);
}

void tap_skip(const char *why)
{
	printf("#SKIP# %s\n", why);
	fflush(stdout);
	_exit(TAP_SKIP_STATUS);
}

static int run_child(const struct tap_test *t)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		perror("fork");
		return -1;
	}
	if (pid == 0) {
		alarm(TAP_SECONDS);
		t->fn();
		fflush(stdout);
		exit(0);
	}
	if (waitpid(pid, &status, 0) < 0)
		return -1;
	if (WIFSIGNALED(status)) {
		printf("# signal %d (%s)\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
		return -1;
	}
	return WEXITSTATUS(status);
}

int tap_main(int argc, char **argv)
{
	int n = 0, failed = 0;

	for (struct tap_test *t = tap_tests; t; t = t->next) {
		int ret = 0;

		if (argc > 1 && !strstr(t->name, argv[1]))
			continue;
		if (argc > 1)
			t->fn();
		else
			ret = run_child(t);
		n++;
		if (ret == TAP_SKIP_STATUS)
			printf("ok %d - %s # SKIP\n", n, t->name);
		else
			printf("%sok %d - %s\n", ret ? "not " : "", n, t->name);
		failed += ret && ret != TAP_SKIP_STATUS;
	}
	printf("1..%d\n", n);
	return failed != 0;
}
