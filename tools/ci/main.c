/* SPDX-License-Identifier: GPL-2.0-or-later */
/* main.c: minivmm-ci: options, and many machines at once. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/ci/ci.h"
#include "vmm/log.h"

static const char usage[] =
"usage: minivmm-ci [options] [--] [command...]\n"
"\n"
"Boots a kernel with this machine's file system as its root (read-only, writes stay in memory), runs the command in\n"
"this folder as this user, and ends with its status. Without a command: a shell.\n"
"\n"
"  -k, --kernel K         a bzImage, a version, a folder with boot/ and lib/modules/, or a linux-image .deb;\n"
"                         default: the newest /boot/vmlinuz-*\n"
"      --modules DIR      the folder that holds lib/modules/VERSION\n"
"      --rw               what is written to this folder stays\n"
"      --root DIR         another tree as root\n"
"      --hide PATH        looks empty or missing inside; keys in home folders always do, unless --show-keys\n"
"      --cpus N, --mem M  default 1, 1G\n"
"      --net[=CARD]       a network (NAT) behind a virtio (default), e1000 or rtl8139 card\n"
"      --disk FILE        a disk, /dev/vda and on\n"
"      --append TEXT      more for the kernel's command line\n"
"  -t, --timeout S        at most S seconds (124)\n"
"      --idle-timeout S   at most S seconds without output (246)\n"
"      --oops=fail        a kernel oops ends the run (248)\n"
"      --repeat N         N runs; --jobs N: so many at once\n"
"      --tap, --junit F   results as TAP on standard output, as JUnit XML in F\n"
"      --log F, --kmsg    the console's text to F; to standard error as it comes\n"
"\n"
"Status: the command's own, 128+n when signal n ended it; 124 time limit; 125 error of minivmm-ci; 126, 127 command\n"
"cannot be run, not found; 240 kernel panic, 242 triple fault, 244 KVM failed, 246 no output for too long, 248 oops.\n";

enum { O_MODULES = 256, O_RW, O_ROOT, O_HIDE, O_SHOW, O_CPUS, O_MEM, O_NET, O_DISK, O_APPEND_, O_IDLE, O_OOPS, O_REPEAT, O_JOBS,
       O_TAP, O_JUNIT, O_LOG, O_KMSG, O_KEEP, O_VERSION };

static const struct option longs[] = {
	{ "kernel", 1, NULL, 'k' }, { "modules", 1, NULL, O_MODULES }, { "rw", 0, NULL, O_RW }, { "root", 1, NULL, O_ROOT },
	{ "hide", 1, NULL, O_HIDE }, { "show-keys", 0, NULL, O_SHOW }, { "cpus", 1, NULL, O_CPUS }, { "mem", 1, NULL, O_MEM },
	{ "net", 2, NULL, O_NET }, { "disk", 1, NULL, O_DISK }, { "append", 1, NULL, O_APPEND_ }, { "timeout", 1, NULL, 't' },
	{ "idle-timeout", 1, NULL, O_IDLE }, { "oops", 1, NULL, O_OOPS }, { "repeat", 1, NULL, O_REPEAT },
	{ "jobs", 1, NULL, O_JOBS }, { "tap", 0, NULL, O_TAP }, { "junit", 1, NULL, O_JUNIT }, { "log", 1, NULL, O_LOG },
	{ "kmsg", 0, NULL, O_KMSG }, { "keep", 0, NULL, O_KEEP }, { "version", 0, NULL, O_VERSION }, { "help", 0, NULL, 'h' }, { 0 },
};

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
		"/root/.[sgakdn]*", "/home/*/.[sgakdn]*", "/etc/shadow*", "/etc/gshadow*", "/etc/ssh/ssh_host_*_key", "/etc/ssl/private",
	};
	static const char *const names[] = { "/.ssh", "/.gnupg", "/.aws", "/.kube", "/.docker", "/.netrc", "/.password-store", "shadow", "_key", "private" };
	char *home = getenv("HOME") ? xasprintf("%s/.[sgakdn]*", getenv("HOME")) : NULL;

	for (size_t i = 0; i <= ARRAY_SIZE(patterns); i++) {
		const char *pattern = i < ARRAY_SIZE(patterns) ? patterns[i] : home;
		glob_t g;

		if (!pattern || glob(pattern, 0, NULL, &g))
			continue;
		for (size_t k = 0; k < g.gl_pathc; k++)
			for (size_t n = 0; n < ARRAY_SIZE(names); n++)
				if (strstr(g.gl_pathv[k], names[n]) && o->nhides < CI_HIDES - 8 && !strchr(g.gl_pathv[k], ':')) {
					hide(o, g.gl_pathv[k]);
					break;
				}
		globfree(&g);
	}
	free(home);
}

static void parse(struct ci_options *o, int argc, char **argv)
{
	bool show = false;
	int c;

	while ((c = getopt_long(argc, argv, "+k:t:h", longs, NULL)) != -1) {
		switch (c) {
		case 'k': o->kernel = optarg; break;
		case O_MODULES: o->modules = optarg; break;
		case O_RW: o->rw = true; break;
		case O_ROOT: o->root = optarg; break;
		case O_HIDE: hide(o, optarg); break;
		case O_SHOW: show = true; break;
		case O_CPUS: number("cpus", optarg, 1); o->cpus = optarg; break;
		case O_MEM: o->mem = optarg; break;
		case O_NET:
			o->net = optarg ? optarg : "virtio";
			if (strcmp(o->net, "virtio") && strcmp(o->net, "e1000") && strcmp(o->net, "rtl8139"))
				die("--net=%s: virtio, e1000 or rtl8139", o->net);
			break;
		case O_DISK:
			if (o->ndisks == CI_DISKS)
				die("too many disks, at %s", optarg);
			o->disks[o->ndisks++] = optarg;
			break;
		case O_APPEND_: o->append = optarg; break;
		case 't': o->timeout = number("timeout", optarg, 1); break;
		case O_IDLE: o->idle_timeout = number("idle-timeout", optarg, 1); break;
		case O_OOPS:
			if (strcmp(optarg, "fail") && strcmp(optarg, "ignore"))
				die("--oops=%s: fail or ignore", optarg);
			o->oops_fails = !strcmp(optarg, "fail");
			break;
		case O_REPEAT: o->repeat = number("repeat", optarg, 1); break;
		case O_JOBS: o->jobs = number("jobs", optarg, 1); break;
		case O_TAP: o->tap = true; break;
		case O_JUNIT: o->junit = optarg; break;
		case O_LOG: o->log = optarg; break;
		case O_KMSG: o->kmsg = true; break;
		case O_KEEP: o->keep = true; break;
		case O_VERSION:
			printf("minivmm-ci %s\n", MINIVMM_VERSION);
			exit(0);
		case 'h':
			fputs(usage, stdout);
			exit(0);
		default:
			fprintf(stderr, "minivmm-ci --help lists the options\n");
			exit(END_ERROR);
		}
	}
	if (optind < argc)
		o->command = argv + optind;
	if (!show)
		hide_keys(o);
	if (o->rw && o->root)
		die("%s", "--rw keeps what is written to this folder, --root shows another tree: give one of them");
	if (!o->command && (o->repeat > 1 || o->jobs > 1))
		die("%s", "--repeat and --jobs need a command");
}

/* minivmm beside us, or in PATH. */
static const char *find_minivmm(void)
{
	char self[4096], *slash;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *path;

	self[n < 0 ? 0 : n] = 0;
	slash = strrchr(self, '/');
	if (slash)
		*slash = 0;
	path = xasprintf("%s/minivmm", self);
	return access(path, X_OK) == 0 ? path : "minivmm";
}

/* --- several machines: a process each, whose output is kept --- */

struct job { pid_t pid; int output; int64_t started; };

static void job_start(const struct ci_options *o, struct job *j)
{
	FILE *f = tmpfile();

	j->output = f ? fcntl(fileno(f), F_DUPFD_CLOEXEC, 3) : -1;
	if (f)
		fclose(f);
	j->started = now_ns();
	fflush(NULL);
	j->pid = fork();
	if (j->pid == 0)
		_exit(ci_run(o, -1, j->output, j->output));
}

static char *job_output(struct job *j)
{
	off_t size = lseek(j->output, 0, SEEK_END);
	char *text = xcalloc(1, MIN(size < 0 ? 0 : size, (off_t)(1 << 20)) + 1);
	ssize_t n = pread(j->output, text, MIN(size < 0 ? 0 : size, (off_t)(1 << 20)), 0);

	text[n < 0 ? 0 : n] = 0;
	close(j->output);
	return text;
}

static volatile sig_atomic_t stop;
static void on_stop(int sig) { stop = sig; }

static int run_many(const struct ci_options *o, struct err *err)
{
	unsigned total = o->repeat, jobs = MIN(o->jobs, total), begun = 0, ended = 0, failed = 0;
	struct ci_result *results = xcalloc(total, sizeof(*results));
	struct job *job = xcalloc(total, sizeof(*job));
	int ret;

	for (const int *s = (const int[]){ SIGINT, SIGTERM, SIGHUP, 0 }; *s; s++)
		sigaction(*s, &(struct sigaction){ .sa_handler = on_stop }, NULL);
	while (ended < begun || (begun < total && !stop)) {
		int status;
		pid_t pid;

		while (begun < total && begun - ended < jobs && !stop)
			job_start(o, &job[begun++]);
		pid = waitpid(-1, &status, 0);
		if (stop)
			for (unsigned i = 0; i < begun; i++)
				if (job[i].pid > 0)
					kill(job[i].pid, SIGTERM);
		for (unsigned i = 0; i < begun && pid > 0; i++) {
			if (job[i].pid != pid)
				continue;
			job[i].pid = 0;
			results[i].status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
			results[i].seconds = (now_ns() - job[i].started) / 1e9;
			results[i].output = job_output(&job[i]);
			failed += results[i].status != 0;
			if (results[i].status || total == 1)
				fprintf(total == 1 && !o->tap ? stdout : stderr, "%s", results[i].output);
			ended++;
		}
	}
	ret = report_write(o, results, begun, err);
	for (unsigned i = 0; i < begun; i++)
		free(results[i].output);
	free(results);
	free(job);
	if (ret < 0)
		return END_ERROR;
	return stop ? 128 + stop : failed ? 1 : 0;
}

/* The manual page, from the help. */
static void print_man(void)
{
	printf(".TH MINIVMM-CI 1 \"\" \"minivmm %s\"\n.SH NAME\nminivmm-ci \\- run a command under another kernel\n"
	       ".SH SYNOPSIS\n.B minivmm-ci\n[options] [\\-\\-] [command...]\n.SH DESCRIPTION\n.nf\n", MINIVMM_VERSION);
	for (const char *p = strchr(usage, '\n') + 2; *p; p++) {
		if (*p == '-' || *p == '\\')
			putchar('\\');
		putchar(*p);
	}
	printf(".fi\n.SH SEE ALSO\n.BR minivmm (1)\n");
}

int main(int argc, char **argv)
{
	struct ci_options o = { .repeat = 1, .jobs = 1 };
	struct err err = { 0 };
	int status;

	log_set_name("minivmm-ci");
	if (argc == 2 && (!strcmp(argv[1], "-man") || !strcmp(argv[1], "--man"))) {
		print_man();
		return 0;
	}
	parse(&o, argc, argv);
	o.minivmm = find_minivmm();
	if (o.repeat == 1 && !o.tap && !o.junit)
		return ci_run(&o, 0, 1, 2);
	status = run_many(&o, &err);
	if (err.msg[0])
		fprintf(stderr, "minivmm-ci: %s\n", err.msg);
	return status;
}
