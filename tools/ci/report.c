/* SPDX-License-Identifier: GPL-2.0-or-later */
/* report.c: results for people (a table), for TAP readers and for JUnit readers. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/base/host.h"
#include "tools/ci/ci.h"

/* How long the UTF-8 character at s is; 0: it is none that XML 1.0 carries. */
static unsigned utf8(const unsigned char *s)
{
	unsigned n = *s < 0x80		       ? 1
		     : *s >= 0xc2 && *s < 0xe0 ? 2
		     : (*s & 0xf0) == 0xe0     ? 3
		     : *s >= 0xf0 && *s < 0xf5 ? 4
					       : 0;

	if (n == 1)
		return *s >= 0x20 || *s == '\n' || *s == '\t';
	for (unsigned i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	/* Overlong forms, surrogates, beyond U+10FFFF, U+FFFE and U+FFFF. */
	if ((*s == 0xe0 && s[1] < 0xa0) || (*s == 0xed && s[1] > 0x9f) ||
	    (*s == 0xf0 && s[1] < 0x90) || (*s == 0xf4 && s[1] > 0x8f) ||
	    (*s == 0xef && s[1] == 0xbf && s[2] >= 0xbe))
		return 0;
	return n;
}

/* Text inside XML: what XML 1.0 cannot carry becomes '?'. */
static void xml(FILE *f, const char *s)
{
	for (unsigned n; *s; s += n ? n : 1) {
		char c = *s;

		n = utf8((const unsigned char *)s);
		if (!n)
			fputc('?', f);
		else if (n > 1)
			fwrite(s, 1, n, f);
		else if (c == '<')
			fputs("&lt;", f);
		else if (c == '>')
			fputs("&gt;", f);
		else if (c == '&')
			fputs("&amp;", f);
		else if (c == '"')
			fputs("&quot;", f);
		else
			fputc(c, f);
	}
}

/* One line, whatever the arguments hold; '#' would begin a directive in TAP. */
static void plain(FILE *f, const char *s)
{
	for (; *s; s++)
		fputc((unsigned char)*s < 0x20 ? ' ' : *s, f);
}

static const char *verdict(const struct ci_result *r)
{
	const char *name = ci_end_name(r->status);

	return name ? name : r->status > 128 ? "killed" : r->status ? "failed" : "passed";
}

static int junit(const struct ci_options *o, const struct ci_report *rep, struct err *err)
{
	int fd = host_open(&host_direct, "report", o->junit,
			   O_CREAT | O_WRONLY | O_TRUNC, 0644, err);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
	unsigned failed = 0;
	double total = 0;

	if (!f) {
		err_prefix(err, "--junit");
		return MIN(fd, -1);
	}
	for (unsigned i = 0; i < rep->n; i++) {
		failed += rep->results[i].status != 0;
		total += rep->results[i].seconds;
	}
	fprintf(f,
		"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"minivmm-ci\" "
		"tests=\"%u\" failures=\"%u\" time=\"%.3f\">\n",
		rep->n, failed, total);
	for (unsigned i = 0; i < rep->n; i++) {
		const struct ci_result *r = &rep->results[i];

		fprintf(f, "  <testcase classname=\"minivmm-ci\" name=\"");
		xml(f, r->name);
		fprintf(f, "\" time=\"%.3f\">\n", r->seconds);
		if (r->status)
			fprintf(f, "    <failure message=\"%s, status %d\"/>\n", verdict(r),
				r->status);
		fprintf(f, "    <system-out>");
		xml(f, r->output);
		fprintf(f, "</system-out>\n  </testcase>\n");
	}
	fprintf(f, "</testsuite>\n");
	if (fclose(f))
		return err_set(err, errno, "--junit %s: %s", o->junit, strerror(errno));
	return 0;
}

void report_progress(const struct ci_options *o, const struct ci_result *r, unsigned index)
{
	if (o->tap) {
		printf("%sok %u - ", r->status ? "not " : "", index + 1);
		for (const char *p = r->name; *p; p++)
			*p == '#' ? fputs("\\#", stdout)
				  : putchar((unsigned char)*p < 0x20 ? ' ' : *p);
		printf(" (%.1f s, %s %d)\n", r->seconds, verdict(r), r->status);
		for (const char *p = r->output, *end; r->status && *p; p = end + (*end == '\n')) {
			end = strchrnul(p, '\n');
			printf("# %.*s\n", (int)(end - p), p);
		}
		fflush(stdout);
	} else if (r->status) {
		fprintf(stderr, "== %s\n%s%s", r->name, r->output,
			*r->output && r->output[strlen(r->output) - 1] != '\n' ? "\n" : "");
	}
}

int report_write(const struct ci_options *o, const struct ci_report *rep, struct err *err)
{
	unsigned failed = 0;

	if (o->tap)
		printf("1..%u\n", rep->n);
	if (!o->tap && rep->n > 1) {
		for (unsigned i = 0; i < rep->n; i++) {
			const struct ci_result *r = &rep->results[i];

			failed += r->status != 0;
			fprintf(stderr, "%3u  %-24s %3d  %7.1f s  ", i + 1, verdict(r), r->status,
				r->seconds);
			plain(stderr, r->name);
			fputc('\n', stderr);
		}
		fprintf(stderr, "%u passed, %u failed\n", rep->n - failed, failed);
	}
	return o->junit ? junit(o, rep, err) : 0;
}
