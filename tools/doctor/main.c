/* SPDX-License-Identifier: GPL-2.0-or-later */
/* main.c: minivmm-doctor: can this machine run guests, and how well. */
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tools/doctor/doctor.h"

static struct {
	enum verdict v;
	char *topic, *text, *cure;
} findings[64];
static unsigned nfindings;

void finding(enum verdict v, const char *topic, const char *cure, const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		exit(1);
	va_end(ap);
	if (nfindings == ARRAY_SIZE(findings))
		return;
	findings[nfindings].v = v;
	findings[nfindings].topic = xstrdup(topic);
	findings[nfindings].text = text;
	findings[nfindings++].cure = cure ? xstrdup(cure) : NULL;
}

const char *read_line(const char *path, char *buf, size_t len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, buf, len - 1);

	if (fd >= 0)
		close(fd);
	buf[n > 0 ? n : 0] = 0;
	buf[strcspn(buf, "\n")] = 0;
	return buf;
}

bool module_loaded(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/module/%s", name);
	return access(path, F_OK) == 0;
}

static const char *const words[] = { [GOOD] = "good", [LIMIT] = "limit", [BAD] = "bad" };

static void print_json(enum verdict worst)
{
	json_t *list = json_array(), *all;

	for (unsigned i = 0; i < nfindings; i++)
		json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:s*}", "topic", findings[i].topic, "verdict",
						      words[findings[i].v], "text", findings[i].text, "cure", findings[i].cure));
	all = json_pack("{s:s,s:o}", "verdict", words[worst], "findings", list);
	json_dumpf(all, stdout, JSON_INDENT(2));
	printf("\n");
	json_decref(all);
}

static void print_text(enum verdict worst)
{
	static const char *const marks[] = { [GOOD] = "ok   ", [LIMIT] = "limit", [BAD] = "NO   " };

	for (unsigned i = 0; i < nfindings; i++) {
		printf("%s  %-12s %s\n", marks[findings[i].v], findings[i].topic, findings[i].text);
		if (findings[i].cure)
			printf("%21s-> %s\n", "", findings[i].cure);
	}
	printf("\n%s\n", worst == GOOD ? "This machine runs guests." :
			 worst == LIMIT ? "This machine runs guests, with the limits above." : "This machine cannot run guests yet.");
}

static int usage(FILE *out, int status)
{
	fprintf(out, "usage: minivmm-doctor [--json]\n"
		"Says whether this machine can run guests and how well, and what to do where it cannot.\n"
		"Exit status: 0 yes, 2 yes with limits, 1 no.\n");
	return status;
}

int main(int argc, char **argv)
{
	enum verdict worst = GOOD;
	bool json = false;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--json"))
			json = true;
		else
			return usage(!strcmp(argv[i], "-h") || !strcmp(argv[i], "--help") ? stdout : stderr,
				     strcmp(argv[i], "-h") && strcmp(argv[i], "--help") ? 1 : 0);
	}
	check_processor();
	check_rivals();
	check_kvm();
	check_memory();
	check_network();
	check_disks();
	for (unsigned i = 0; i < nfindings; i++)
		worst = MAX(worst, findings[i].v);
	if (json)
		print_json(worst);
	else
		print_text(worst);
	return worst == GOOD ? 0 : worst == LIMIT ? 2 : 1;
}
