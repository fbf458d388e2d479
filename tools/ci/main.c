/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * main.c: minivmm-ci: one machine, or many: kernels times commands times repetitions, so many at
 * once.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/ci/ci.h"
#include "vmm/base/log.h"

#define OUTPUT_MAX (1 << 20)		/* of one run, in a report */

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

/* --- what is to be run --- */

struct list { char **v; unsigned n; };

static void list_add(struct list *l, char *s)
{
	l->v = xrealloc(l->v, (l->n + 1) * sizeof(*l->v));
	l->v[l->n++] = s;
}

static int read_matrix(const char *path, struct list *kernels, struct list *commands,
		       struct err *err)
{
	FILE *f = fopen(path, "re");
	char *line = NULL;
	size_t room = 0;
	int ret = 0;

	if (!f)
		return err_set(err, errno, "--matrix %s: %s", path, strerror(errno));
	for (unsigned n = 1; ret == 0 && getline(&line, &room, f) >= 0; n++) {
		char *word = line + strspn(line, " \t"), *rest;
		size_t len = strcspn(word, " \t\n");

		word[strcspn(word, "\n")] = 0;
		rest = word + len + strspn(word + len, " \t");
		if (!*word || *word == '#')
			continue;
		if (len == 6 && !strncmp(word, "kernel", 6) && *rest)
			list_add(kernels, xstrdup(rest));
		else if (len == 7 && !strncmp(word, "command", 7) && *rest)
			list_add(commands, xstrdup(rest));
		else
			ret = err_set(err, EINVAL,
				      "--matrix %s, line %u: neither \"kernel K\" nor \"command "
				      "TEXT\": %s",
				      path, n, word);
	}
	free(line);
	fclose(f);
	return ret;
}

static char *join(char **argv)
{
	char *text = xstrdup(argv && *argv ? *argv : "shell");

	for (char **a = argv ? argv + 1 : NULL; argv && *argv && *a; a++) {
		char *longer = xasprintf("%s %s", text, *a);

		free(text);
		text = longer;
	}
	return text;
}

static void add_result(struct ci_report *r, const char *kernel, char **command, unsigned repeat)
{
	for (unsigned i = 0; i < repeat; i++) {
		char *text = join(command);
		struct ci_result *one;

		r->results = xrealloc(r->results, (r->n + 1) * sizeof(*r->results));
		one = &r->results[r->n++];
		*one = (struct ci_result){ .kernel = kernel, .command = command };
		one->name = repeat > 1 ? xasprintf("%s%s%s #%u", kernel ? kernel : "",
						   kernel ? ": " : "", text, i + 1)
				       : xasprintf("%s%s%s", kernel ? kernel : "",
						   kernel ? ": " : "", text);
		free(text);
	}
}

static int plan(const struct ci_options *o, struct ci_report *r, struct err *err)
{
	struct list kernels = { 0 }, commands = { 0 };

	if (!o->matrix) {
		add_result(r, NULL, o->command, o->repeat);
		return 0;
	}
	if (read_matrix(o->matrix, &kernels, &commands, err) < 0)
		return -EINVAL;
	if (!commands.n && !o->command)
		return err_set(err, EINVAL, "--matrix %s: no command in it, and none given",
			       o->matrix);
	if (!kernels.n)
		list_add(&kernels, (char *)o->kernel);
	for (unsigned k = 0; k < kernels.n; k++) {
		if (o->command)
			add_result(r, kernels.v[k], o->command, o->repeat);
		for (unsigned c = 0; c < commands.n; c++) {
			char **argv = xcalloc(4, sizeof(*argv));

			argv[0] = "sh";
			argv[1] = "-c";
			argv[2] = commands.v[c];
			add_result(r, kernels.v[k], argv, o->repeat);
		}
	}
	/* The lists live as long as the program: the results point into them. */
	return 0;
}

/* --- a process for each machine, whose output is kept --- */

static int temporary(void)
{
	FILE *f = tmpfile();
	int fd = f ? fcntl(fileno(f), F_DUPFD_CLOEXEC, 3) : -1;

	if (f)
		fclose(f);
	return fd;
}

static char *kept_output(int fd)
{
	off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END), from = MAX(size - OUTPUT_MAX, (off_t)0);
	char *text = xcalloc(1, MIN(MAX(size, (off_t)0), (off_t)OUTPUT_MAX) + 1);
	ssize_t n = size > 0 ? pread(fd, text, size - from, from) : 0;

	/* A report is text. */
	for (ssize_t i = 0; i < n; i++)
		if (!text[i])
			text[i] = '?';
	if (fd >= 0)
		close(fd);
	return text;
}

static void job_start(const struct ci_options *o, struct ci_result *r)
{
	struct ci_options mine = *o;
	pid_t parent = getpid();

	mine.command = r->command;
	if (r->kernel)
		mine.kernel = r->kernel;
	r->fd = temporary();
	r->started = now_ns();
	fflush(NULL);
	r->pid = fork();
	if (r->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		_exit(getppid() == parent ? ci_run(&mine, -1, r->fd, r->fd) : END_ERROR);
	}
}

static void job_end(struct ci_result *r, int status)
{
	r->pid = 0;
	r->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	r->seconds = (now_ns() - r->started) / 1e9;
	r->output = kept_output(r->fd);
}

static int run_many(const struct ci_options *o, struct ci_report *rep, struct err *err)
{
	unsigned begun = 0, ended = 0, failed = 0;
	int stop = 0, status, sig;
	sigset_t set;
	pid_t pid;

	sigemptyset(&set);
	for (const int *s = (const int[]){ SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGCHLD, 0 }; *s; s++)
		sigaddset(&set, *s);
	sigprocmask(SIG_BLOCK, &set, NULL);
	while (ended < begun || (begun < rep->n && !stop)) {
		while (begun < rep->n && begun - ended < o->jobs && !stop)
			job_start(o, &rep->results[begun++]);
		sig = sigwaitinfo(&set, NULL);
		if (sig > 0 && sig != SIGCHLD) {
			stop = sig;
			for (unsigned i = 0; i < begun; i++)
				if (rep->results[i].pid > 0)
					kill(rep->results[i].pid, SIGTERM);
		}
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
			for (unsigned i = 0; i < begun; i++) {
				if (rep->results[i].pid != pid)
					continue;
				job_end(&rep->results[i], status);
				failed += rep->results[i].status != 0;
				ended++;
				report_progress(o, &rep->results[i], i);
			}
		}
	}
	rep->n = begun;
	if (report_write(o, rep, err) < 0)
		return END_ERROR;
	return stop ? 128 + stop : failed ? 1 : 0;
}

/* One machine with our own streams; a report wants its output as well. */
static int run_one(struct ci_options *o, struct ci_report *rep, struct err *err)
{
	struct ci_result *r = rep->results;

	o->command = r->command;
	if (r->kernel)
		o->kernel = r->kernel;
	r->started = now_ns();
	r->fd = o->junit ? temporary() : -1;
	o->copy = r->fd;
	r->status = ci_run(o, 0, 1, 2);
	r->seconds = (now_ns() - r->started) / 1e9;
	r->output = kept_output(r->fd);
	return report_write(o, rep, err) < 0 ? END_ERROR : r->status;
}

int main(int argc, char **argv)
{
	struct ci_options o = { .repeat = 1, .jobs = 1, .copy = -1 };
	struct ci_report rep = { 0 };
	struct err err = { "" };
	int status;

	log_set_name("minivmm-ci");
	options_parse(&o, argc, argv);
	o.minivmm = find_minivmm();
	if (plan(&o, &rep, &err) < 0)
		status = END_ERROR;
	else if (rep.n == 1 && !o.tap)
		status = run_one(&o, &rep, &err);
	else
		status = run_many(&o, &rep, &err);
	if (err.msg[0])
		fprintf(stderr, "minivmm-ci: %s\n", err.msg);
	return status;
}
