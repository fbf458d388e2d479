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

static const char *sysroot = "";

const char *at(const char *path)
{
	static char buf[4][512];
	static unsigned n;
	char *p = buf[n++ % ARRAY_SIZE(buf)];

	snprintf(p, sizeof(buf[0]), "%s%s", sysroot, path);
	return p;
}

FILE *open_text(const char *path)
{
	return fopen(at(path), "re");
}

const char *read_line(const char *path, char *buf, size_t len)
{
	int fd = open(at(path), O_RDONLY | O_CLOEXEC);
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
	return access(at(path), F_OK) == 0;
}

static const char *const words[] = { [GOOD] = "good", [LIMIT] = "limit", [BAD] = "bad" };

static void print_json(enum verdict worst)
{
	json_t *list = json_array(), *all;

	for (unsigned i = 0; i < nfindings; i++)
		json_array_append_new(list,
				      json_pack("{s:s,s:s,s:s,s:s*}", "topic", findings[i].topic,
						"verdict", words[findings[i].v], "text",
						findings[i].text, "cure", findings[i].cure));
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
	printf("\n%s\n", worst == GOOD	  ? "This machine runs guests."
			 : worst == LIMIT ? "This machine runs guests, with the limits above."
					  : "This machine cannot run guests yet.");
}

static int usage(FILE *out, int status)
{
	fprintf(out, "usage: minivmm-doctor [--json] [--sysroot DIR]\n"
		     "Says whether this machine can run guests and how well, and what to do where "
		     "it cannot.\n"
		     "Exit status: 0 yes, 2 yes with limits, 1 no; 125 the question was not "
		     "understood.\n");
	return status;
}

static int manual(void)
{
	printf(".TH MINIVMM-DOCTOR 1 \"\" \"minivmm %s\" \"User Commands\"\n"
	       ".SH NAME\nminivmm-doctor \\- can this machine run virtual machines\n"
	       ".SH SYNOPSIS\n.B minivmm-doctor\n[\\fB\\-\\-json\\fR] [\\fB\\-\\-sysroot\\fR "
	       "\\fIDIR\\fR]\n"
	       ".SH DESCRIPTION\n"
	       "Looks at the processor and its firmware setup, /dev/kvm and its rights, other "
	       "hypervisors, memory, networking and disks, and\n"
	       "runs a guest of a few bytes for half a second to measure how many exits and "
	       "instructions a second this machine gives.\n"
	       "Each finding is a line: ok, limit or NO; below it, after an arrow, the command "
	       "that cures it.\n"
	       "Nothing is changed, and nothing needs root. minivmm never falls back to emulation: "
	       "what is missing here, minivmm refuses.\n"
	       ".SH OPTIONS\n"
	       ".TP\n.B \\-\\-json\nThe same for programs: an object with the verdict (good, "
	       "limit, bad) and the list of findings, each with\n"
	       "topic, verdict, text and cure.\n"
	       ".TP\n.BI \\-\\-sysroot \" DIR\"\nLook at the files below DIR instead of this "
	       "machine's /proc, /sys and /dev: a copy from another\n"
	       "machine, or a test.\n"
	       ".SH EXIT STATUS\n.TP\n.B 0\nThis machine runs guests.\n.TP\n.B 1\nIt does "
	       "not.\n.TP\n.B 2\nIt does, with the limits listed.\n"
	       ".TP\n.B 125\nAn unknown option.\n"
	       ".SH EXAMPLES\n.nf\nminivmm\\-doctor\nminivmm\\-doctor \\-\\-json | jq \\-r "
	       "'.findings[] | select(.verdict != \"good\") | .cure'\n.fi\n"
	       ".SH FILES\n.TP\n.I /dev/kvm\nThe kernel's virtual machines.\n.TP\n.I "
	       "/proc/cpuinfo\nThe processor's flags.\n"
	       ".TP\n.I /sys/module/kvm_*/parameters\nWhat KVM's modules were told.\n.TP\n.I "
	       "/dev/cpu/0/msr\nWhere root sees what the firmware\n"
	       "has switched off.\n"
	       ".SH SEE ALSO\n.BR minivmm (1),\n.BR minivmm\\-img (1),\n.BR minivmm\\-ci (1)\n",
	       MINIVMM_VERSION);
	return 0;
}

int main(int argc, char **argv)
{
	enum verdict worst = GOOD;
	bool json = false;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--json"))
			json = true;
		else if (!strcmp(argv[i], "--sysroot") && i + 1 < argc)
			sysroot = argv[++i];
		else if (!strcmp(argv[i], "-man") || !strcmp(argv[i], "--man"))
			return manual();
		else if (!strcmp(argv[i], "-h") || !strcmp(argv[i], "--help"))
			return usage(stdout, 0);
		else
			return usage(stderr, 125);
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
