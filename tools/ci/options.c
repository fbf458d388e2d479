/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * options.c: minivmm-ci's options, in one table that parses, helps and makes the manual page; what
 * is hidden from the guest.
 */
#include <errno.h>
#include <getopt.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tools/ci/ci.h"

enum code { O_KERNEL = 256, O_MODULES, O_RW, O_ROOT, O_HIDE, O_SHOW, O_CPUS, O_MEM, O_NET,
            O_LOOPBACK, O_DISK,
            O_APPEND_, O_MACHINE, O_TTY,
	    O_TIMEOUT, O_IDLE, O_OOPS, O_MATRIX, O_REPEAT, O_JOBS, O_TAP, O_JUNIT, O_LOG, O_KMSG,
	    O_KEEP, O_VERSION, O_MAN, O_HELP };

static const struct {
	const char *name;
	char letter;
	const char *arg, *text;
	enum code code;
} table[] = {
	{ NULL, 0, NULL, "What runs", 0 },
	{ "kernel", 'k', "K",
	  "a bzImage or vmlinux, a version, a folder with boot/ and lib/modules/, or a linux-image "
	  ".deb; "
	  "default: the newest /boot/vmlinuz-*",
	  O_KERNEL },
	{ "modules", 0, "DIR",
	  "the folder that holds lib/modules/VERSION; default: beside the kernel, or /",
	  O_MODULES },
	{ "cpus", 0, "N", "processors; default 1", O_CPUS },
	{ "mem", 0, "SIZE", "memory; default 1G", O_MEM },
	{ "append", 0, "TEXT", "more for the kernel's command line", O_APPEND_ },
	{ "machine", 0, "pc|micro", "the virtual computer; default: micro, pc for what needs PCI",
	  O_MACHINE },
	{ "tty", 0, NULL, "the command gets a terminal, as a shell without a command does", O_TTY },
	{ NULL, 0, NULL, "What it sees", 0 },
	{ "rw", 0, NULL, "what is written to this folder stays", O_RW },
	{ "root", 0, "DIR", "another tree as root", O_ROOT },
	{ "hide", 0, "PATH",
	  "a folder that looks empty, a file that looks missing inside (more than once)", O_HIDE },
	{ "show-keys", 0, NULL,
	  "do not hide .ssh, .gnupg, .aws and the like, /etc/shadow, the host's SSH keys", O_SHOW },
	{ "net", 0, "[=CARD]", "a network (NAT) behind a virtio (default), e1000 or rtl8139 card",
	  O_NET },
	{ "loopback", 0, "on|PORT[:PORT]",
	  "what of this machine's 127.0.0.1 the command reaches at 10.0.2.2 (with --net)",
	  O_LOOPBACK },
	{ "disk", 0, "FILE", "a disk, /dev/vda and on (more than once)", O_DISK },
	{ NULL, 0, NULL, "How it ends", 0 },
	{ "timeout", 't', "S", "at most S seconds (124)", O_TIMEOUT },
	{ "idle-timeout", 0, "S",
	  "at most S seconds in which the guest asks no device for anything (246)", O_IDLE },
	{ "oops", 0, "fail|ignore", "fail: a kernel oops ends the run (248)", O_OOPS },
	{ NULL, 0, NULL, "Many runs", 0 },
	{ "matrix", 0, "FILE", "each command of FILE under each kernel of it", O_MATRIX },
	{ "repeat", 0, "N", "each N times", O_REPEAT },
	{ "jobs", 0, "N", "so many machines at once", O_JOBS },
	{ NULL, 0, NULL, "Reports", 0 },
	{ "tap", 0, NULL, "results as TAP on standard output", O_TAP },
	{ "junit", 0, "FILE", "results as JUnit XML", O_JUNIT },
	{ "log", 0, "FILE", "the console's text, appended", O_LOG },
	{ "kmsg", 0, NULL, "the console's text to standard error as it comes, all levels", O_KMSG },
	{ "keep", 0, NULL, "keep the folder with the console, the status and minivmm's messages",
	  O_KEEP },
	{ "version", 0, NULL, "print the version", O_VERSION },
	{ "help", 'h', NULL, "print this", O_HELP },
	{ "man", 0, NULL, NULL, O_MAN },
};

/* text is NULL at the end; status 0: a range */
static const struct ci_ending ci_endings[] = {
	{ 0, "0-123", "the command's own status", NULL },
	{ END_TIMEOUT, NULL, "--timeout was reached", "time limit" },
	{ END_ERROR, NULL,
	  "minivmm-ci's own error: bad option, no kernel, no module; or the guest powered off "
	  "before the command ended",
	  "minivmm-ci's own error" },
	{ END_CANNOT_RUN, NULL, "the command cannot be run", "command cannot be run" },
	{ END_NOT_FOUND, NULL, "the command is not found", "command not found" },
	{ 0, "128+n", "signal n ended the command, or minivmm-ci itself", NULL },
	{ END_PANIC, NULL, "the kernel panicked", "kernel panic" },
	{ END_TRIPLE_FAULT, NULL, "triple fault: the guest could not handle an exception",
	  "triple fault" },
	{ END_KVM, NULL, "KVM cannot go on", "KVM failed" },
	{ END_HANG, NULL, "--idle-timeout was reached: the guest hangs",
	  "no progress for too long" },
	{ END_OOPS, NULL, "a kernel oops, with --oops=fail", "kernel oops" },
	{ 0, NULL, NULL, NULL },
};

const char *ci_end_name(int status)
{
	for (const struct ci_ending *e = ci_endings; e->text; e++)
		if (e->name && e->status == status)
			return e->name;
	return NULL;
}

/* --- help and manual --- */

static void print_help(void)
{
	printf("usage: minivmm-ci [options] [--] [command...]\n\n"
	       "Boots a kernel with this machine's file system as its root (read-only, writes stay "
	       "in memory), runs the command in\n"
	       "this folder as this user, and ends with its status. Without a command: a shell; "
	       "Enter ~ . leaves it.\n");
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		char left[64];

		if (!table[i].name) {
			printf("\n%s\n", table[i].text);
		} else if (table[i].text) {
			snprintf(left, sizeof(left), "%s%.1s%s--%s%s%s", table[i].letter ? "-" : "",
				 &table[i].letter, table[i].letter ? ", " : "", table[i].name,
				 table[i].arg && *table[i].arg != '[' ? " " : "",
				 table[i].arg ? table[i].arg : "");
			printf("  %-24s %s\n", left, table[i].text);
		}
	}
	printf("\nExit status\n");
	for (const struct ci_ending *e = ci_endings; e->text; e++)
		e->status ? printf("  %-6d %s\n", e->status, e->text)
			  : printf("  %-6s %s\n", e->range, e->text);
}

/* roff: hyphens that are to be copied, and no control line by accident. */
static void man_text(const char *s)
{
	for (; *s; s++) {
		if (*s == '-' || *s == '\\')
			putchar('\\');
		putchar(*s);
	}
}

static void print_man(void)
{
	printf(".TH MINIVMM-CI 1 \"\" \"minivmm %s\" \"User Commands\"\n.SH NAME\nminivmm\\-ci \\- "
	       "run a command under another kernel\n"
	       ".SH SYNOPSIS\n.B minivmm\\-ci\n[\\fIoptions\\fR] [\\-\\-] "
	       "[\\fIcommand\\fR...]\n.SH DESCRIPTION\n",
	       MINIVMM_VERSION);
	man_text("Boots a kernel in a virtual machine whose root is this machine's file system: "
		 "read-only, what is written stays in memory "
		 "and is gone at the end. There the command runs in this folder, as this user with "
		 "this user's groups and umask, with this "
		 "environment but for what names sessions and keys. Standard input, output and "
		 "error are kept apart and carry any bytes; the "
		 "exit status is the command's. No image, no root, no network is needed, only "
		 "/dev/kvm.\n.PP\n"
		 "Without a command, on a terminal, a shell runs there with job control; the "
		 "window's size follows. Ctrl-C and all other keys "
		 "go to it; Enter ~ . ends the machine, Enter ~ ~ types ~.\n.PP\n"
		 "A test kernel is not trusted: keys in home folders look absent unless "
		 "--show-keys is given, proc, sys and the like are the "
		 "guest's own, devices and sockets of this machine cannot be reached, and no name "
		 "leads out of the tree. But files that this "
		 "user can read elsewhere it can read.\n.SH OPTIONS\n");
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		if (!table[i].name) {
			printf(".SS %s\n", table[i].text);
		} else if (table[i].text) {
			printf(".TP\n.B ");
			if (table[i].letter)
				printf("\\-%c, ", table[i].letter);
			printf("\\-\\-");
			man_text(table[i].name);
			if (table[i].arg)
				printf("%s\\fI%s\\fR", *table[i].arg != '[' ? " " : "",
				       table[i].arg);
			putchar('\n');
			man_text(table[i].text);
			printf(".\n");
		}
	}
	printf(".SH EXIT STATUS\n");
	for (const struct ci_ending *e = ci_endings; e->text; e++) {
		e->status ? printf(".TP\n.B %d\n", e->status) : printf(".TP\n.B %s\n", e->range);
		man_text(e->text);
		printf(".\n");
	}
	printf(".PP\nWith 124 and 240 to 248 the console's last lines and the processors' "
	       "registers are on standard error, with the names\n"
	       "of the kernel's functions. The numbers are those of\n.BR minivmm (1)\nas well. Of "
	       "several runs: 0, or 1 when one failed.\n"
	       ".SH MATRIX\nA line of the file is one of\n.IP\n.nf\n"
	       "kernel K\n\\fIas \\-\\-kernel takes it\\fR\ncommand TEXT\n\\fIfor /bin/sh\\fR\n# a "
	       "comment\n.fi\n.PP\n"
	       "Every command runs under every kernel; without a kernel line under that of "
	       "\\-\\-kernel, without a command line the one given.\n"
	       ".SH FILES\n.TP\n~/.cache/minivmm\nkernels unpacked from .deb and bzImage files "
	       "($XDG_CACHE_HOME); may be removed.\n"
	       ".TP\n$TMPDIR/minivmm\\-ci\\-*\na run's folder, gone at its end.\n"
	       ".SH EXAMPLES\n.nf\nminivmm\\-ci uname \\-r\nminivmm\\-ci \\-k "
	       "./linux\\-image\\-6.1.deb \\-t 300 \\-\\-oops=fail \\-\\-rw make check\n"
	       "minivmm\\-ci \\-\\-matrix kernels.txt \\-\\-jobs 4 \\-\\-junit result.xml "
	       "./test.sh\ntar c . | minivmm\\-ci sha256sum\n.fi\n"
	       ".SH SEE ALSO\n.BR minivmm (1),\n.BR minivmm\\-doctor (1)\n");
}

/* --- parsing --- */

static void die(const char *fmt, const char *what)
{
	fprintf(stderr, "minivmm-ci: ");
	fprintf(stderr, fmt, what);
	fprintf(stderr, "\n");
	exit(END_ERROR);
}

static unsigned number(const char *option, const char *text, unsigned min)
{
	uint64_t v;

	if (parse_u64(text, 1000000, &v) < 0 || v < min) {
		fprintf(stderr, "minivmm-ci: --%s %s: a whole number from %u\n", option, text, min);
		exit(END_ERROR);
	}
	return v;
}

static const char *one_of(const char *option, const char *text, const char *const *values)
{
	for (const char *const *v = values; *v; v++)
		if (!strcmp(text, *v))
			return *v;
	fprintf(stderr, "minivmm-ci: --%s %s: one of", option, text);
	for (const char *const *v = values; *v; v++)
		fprintf(stderr, " %s", *v);
	fprintf(stderr, "\n");
	exit(END_ERROR);
}

static void hide(struct ci_options *o, const char *path)
{
	if (strchr(path, ':'))
		die("--hide %s: a path with a colon cannot be hidden", path);
	if (o->nhides == CI_HIDES - 1)
		die("too many hidden paths, at %s", path);
	o->hides[o->nhides++] = xstrdup(path);
}

/* A test kernel is not trusted: it gets no keys. */
static void hide_keys(struct ci_options *o)
{
	static const char *const patterns[] = {
		"/root/.[sgakdn]*", "/home/*/.[sgakdn]*",      "/etc/shadow*",
		"/etc/gshadow*",    "/etc/ssh/ssh_host_*_key", "/etc/ssl/private",
	};
	static const char *const names[] = {
		"/.ssh",   "/.gnupg",	       "/.aws",	 "/.kube", "/.docker",
		"/.netrc", "/.password-store", "shadow", "_key",   "private"
	};
	char *home = getenv("HOME") ? xasprintf("%s/.[sgakdn]*", getenv("HOME")) : NULL;

	for (size_t i = 0; i <= ARRAY_SIZE(patterns); i++) {
		const char *pattern = i < ARRAY_SIZE(patterns) ? patterns[i] : home;
		glob_t g;

		if (!pattern || glob(pattern, 0, NULL, &g))
			continue;
		for (size_t k = 0; k < g.gl_pathc; k++)
			for (size_t n = 0; n < ARRAY_SIZE(names); n++)
				if (strstr(g.gl_pathv[k], names[n]) && o->nhides < CI_HIDES - 8 &&
				    !strchr(g.gl_pathv[k], ':')) {
					hide(o, g.gl_pathv[k]);
					break;
				}
		globfree(&g);
	}
	free(home);
}

static void take(struct ci_options *o, enum code code, char *arg)
{
	switch (code) {
	case O_KERNEL: o->kernel = arg; break;
	case O_MODULES: o->modules = arg; break;
	case O_CPUS: number("cpus", arg, 1); o->cpus = arg; break;
	case O_MEM: o->mem = arg; break;
	case O_APPEND_: o->append = arg; break;
	case O_MACHINE:
		o->machine = one_of("machine", arg, (const char *const[]){ "pc", "micro", NULL });
		break;
	case O_TTY: o->tty = true; break;
	case O_RW: o->rw = true; break;
	case O_ROOT: o->root = arg; break;
	case O_HIDE: hide(o, arg); break;
	case O_SHOW: o->show_keys = true; break;
	case O_NET:
		o->net = one_of("net", arg ? arg : "virtio",
				(const char *const[]){ "virtio", "e1000", "rtl8139", NULL });
		break;
	case O_LOOPBACK: o->loopback = arg; break;
	case O_DISK:
		if (o->ndisks == CI_DISKS)
			die("too many disks, at %s", arg);
		o->disks[o->ndisks++] = arg;
		break;
	case O_TIMEOUT: o->timeout = number("timeout", arg, 1); break;
	case O_IDLE: o->idle_timeout = number("idle-timeout", arg, 1); break;
	case O_OOPS:
		o->oops_fails = !strcmp(
			one_of("oops", arg, (const char *const[]){ "fail", "ignore", NULL }),
			"fail");
		break;
	case O_MATRIX: o->matrix = arg; break;
	case O_REPEAT: o->repeat = number("repeat", arg, 1); break;
	case O_JOBS: o->jobs = number("jobs", arg, 1); break;
	case O_TAP: o->tap = true; break;
	case O_JUNIT: o->junit = arg; break;
	case O_LOG: o->log = arg; break;
	case O_KMSG: o->kmsg = true; break;
	case O_KEEP: o->keep = true; break;
	case O_VERSION: printf("minivmm-ci %s\n", MINIVMM_VERSION); exit(0);
	case O_MAN: print_man(); exit(0);
	case O_HELP: print_help(); exit(0);
	}
}

static void check(struct ci_options *o)
{
	if (!o->show_keys)
		hide_keys(o);
	if (o->rw && o->root)
		die("%s", "--rw keeps what is written to this folder, --root shows another tree: "
			  "give one of them");
	if (!o->command && !o->matrix && (o->repeat > 1 || o->jobs > 1 || o->tap || o->junit))
		die("%s", "--repeat, --jobs, --tap and --junit need a command");
	if (o->machine && !strcmp(o->machine, "micro") && o->net && strcmp(o->net, "virtio"))
		die("--net=%s: a PCI card, and --machine micro has no PCI", o->net);
	if (o->root && access(o->root, R_OK | X_OK) < 0)
		die("--root %s: no folder that can be read", o->root);
}

void options_parse(struct ci_options *o, int argc, char **argv)
{
	struct option longs[ARRAY_SIZE(table) + 1] = { 0 };
	char letters[2 * ARRAY_SIZE(table) + 2] = "+", *letter = letters + 1;
	int c, n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		if (!table[i].name)
			continue;
		longs[n++] = (struct option){ table[i].name,
					      !table[i].arg	     ? 0
					      : *table[i].arg == '[' ? 2
								     : 1,
					      NULL, table[i].code };
		if (table[i].letter)
			*letter++ = table[i].letter;
		if (table[i].letter && table[i].arg)
			*letter++ = ':';
	}
	if (argc == 2 && !strcmp(argv[1], "-man"))
		take(o, O_MAN, NULL);
	while ((c = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
		if (c == '?') {
			fprintf(stderr, "minivmm-ci --help lists the options\n");
			exit(END_ERROR);
		}
		for (size_t i = 0; c < 256 && i < ARRAY_SIZE(table); i++)
			if (table[i].letter == c)
				c = table[i].code;
		take(o, c, optarg);
	}
	if (optind < argc)
		o->command = argv + optind;
	check(o);
}
