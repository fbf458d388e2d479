/* SPDX-License-Identifier: GPL-2.0-or-later */
/* report.c: results for people (a table), for TAP readers and for JUnit readers. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "tools/ci/ci.h"

const char *ci_end_name(int status)
{
	switch (status) {
	case END_TIMEOUT: return "time limit";
	case END_ERROR: return "minivmm-ci's own error";
	case END_CANNOT_RUN: return "command cannot be run";
	case END_NOT_FOUND: return "command not found";
	case END_PANIC: return "kernel panic";
	case END_OOPS: return "kernel oops";
	case END_TRIPLE_FAULT: return "triple fault";
	case END_KVM: return "KVM failed";
	case END_HANG: return "no output for too long";
	}
	return NULL;
}

/* Text inside XML: what XML 1.0 cannot carry becomes '?'. */
static void xml(FILE *f, const char *s)
{
	for (; *s; s++) {
		unsigned char c = *s;

		if (c == '<')
			fputs("&lt;", f);
		else if (c == '>')
			fputs("&gt;", f);
		else if (c == '&')
			fputs("&amp;", f);
		else if (c == '"')
			fputs("&quot;", f);
		else
			fputc(c < 0x20 && c != '\n' && c != '\t' ? '?' : c, f);
	}
}

static void print_command(FILE *f, const struct ci_options *o, void (*put)(FILE *, const char *))
{
	for (char **a = o->command; a && *a; a++) {
		if (a != o->command)
			fputc(' ', f);
		put(f, *a);
	}
	if (!o->command)
		put(f, "shell");
}

/* One line, whatever the arguments hold. */
static void plain(FILE *f, const char *s)
{
	for (; *s; s++)
		fputc((unsigned char)*s < 0x20 ? ' ' : *s, f);
}

static int junit(const struct ci_options *o, const struct ci_result *r, unsigned n, struct err *err)
{
	FILE *f = fopen(o->junit, "we");
	unsigned failed = 0;
	double total = 0;

	if (!f)
		return err_set(err, errno, "--junit %s: %s", o->junit, strerror(errno));
	for (unsigned i = 0; i < n; i++) {
		failed += r[i].status != 0;
		total += r[i].seconds;
	}
	fprintf(f, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"minivmm-ci\" tests=\"%u\" failures=\"%u\" time=\"%.3f\">\n",
		n, failed, total);
	for (unsigned i = 0; i < n; i++) {
		fprintf(f, "  <testcase classname=\"minivmm-ci\" name=\"");
		print_command(f, o, xml);
		fprintf(f, " #%u\" time=\"%.3f\">\n", i + 1, r[i].seconds);
		if (r[i].status) {
			const char *name = ci_end_name(r[i].status);

			fprintf(f, "    <failure message=\"%s %d\"/>\n", name ? name : "status", r[i].status);
		}
		fprintf(f, "    <system-out>");
		xml(f, r[i].output ? r[i].output : "");
		fprintf(f, "</system-out>\n  </testcase>\n");
	}
	fprintf(f, "</testsuite>\n");
	if (fclose(f))
		return err_set(err, errno, "--junit %s: %s", o->junit, strerror(errno));
	return 0;
}

int report_write(const struct ci_options *o, const struct ci_result *r, unsigned n, struct err *err)
{
	unsigned failed = 0;

	for (unsigned i = 0; i < n; i++) {
		const char *name = ci_end_name(r[i].status);

		failed += r[i].status != 0;
		if (o->tap) {
			printf("%sok %u - ", r[i].status ? "not " : "", i + 1);
			print_command(stdout, o, plain);
			printf(" (%.1f s%s%s)\n", r[i].seconds, name ? ", " : "", name ? name : "");
		} else if (n > 1) {
			fprintf(stderr, "%3u  %-24s %3d  %7.1f s\n", i + 1, name ? name : r[i].status ? "failed" : "passed", r[i].status,
				r[i].seconds);
		}
	}
	if (o->tap)
		printf("1..%u\n", n);
	else if (n > 1)
		fprintf(stderr, "%u passed, %u failed\n", n - failed, failed);
	return o->junit ? junit(o, r, n, err) : 0;
}
