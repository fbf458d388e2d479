/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tap.h: a test program in one header, for suites that drive devices or images step by step:
 * TEST(name) { CHECK(x == 1); }  and TAP_MAIN at the end. Prints TAP; each test runs in a child
 *                                process, so a
 * crash fails that test only. With an argument, runs only tests whose name contains it, in this
 * process.
 */
#ifndef TESTS_TAP_H
#define TESTS_TAP_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct tap_test { const char *name; void (*fn)(void); struct tap_test *next; };
extern struct tap_test *tap_tests, **tap_tail;
void tap_fail(const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 3, 4), noreturn));
void tap_skip(const char *why) __attribute__((noreturn));
int tap_main(int argc, char **argv);

#define TEST(n)										\
	static void test_##n(void);							\
	static struct tap_test tap_##n = { #n, test_##n, NULL };			\
	__attribute__((constructor)) static void tap_add_##n(void)			\
	{ *tap_tail = &tap_##n; tap_tail = &tap_##n.next; }				\
	static void test_##n(void)
#define CHECK(x) ((x) ? (void)0 : tap_fail(__FILE__, __LINE__, "%s", #x))
#define CHECK_EQ(a, b)                                                                             \
	do {                                                                                       \
		long long a_ = (long long)(a), b_ = (long long)(b);                                \
		if (a_ != b_)                                                                      \
			tap_fail(__FILE__, __LINE__,                                               \
				 "%s is %lld (0x%llx), not %s = %lld (0x%llx)", #a, a_,            \
				 (unsigned long long)a_, #b, b_, (unsigned long long)b_);          \
	} while (0)
#define SKIP(why) tap_skip(why)
#define TAP_MAIN int main(int argc, char **argv) { return tap_main(argc, argv); }

#endif
