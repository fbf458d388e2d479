/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ending.c: what the guest said, what minivmm said and what stands on the console make one number;
 * a bad one is explained by the console's last words and the registers, with the names of the
 * kernel's functions.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/host.h"
#include "tools/ci/run.h"

#define TAIL_LINES 25
#define TROUBLE_MAX 16384

static char *slurp_text(const char *path, size_t max)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *text = xcalloc(1, max + 1);
	off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
	ssize_t n = fd < 0 ? 0 : pread(fd, text, max, size > (off_t)max ? size - (off_t)max : 0),
		out = 0;

	/* A serial console's lines end with CR LF; a NUL would end the text. */
	for (ssize_t i = 0; i < n; i++)
		if (text[i] && text[i] != '\r')
			text[out++] = text[i];
	text[out] = 0;
	if (fd >= 0)
		close(fd);
	return text;
}

static void print_console(struct run *r, const char *text)
{
	static const char *const trouble[] = { "BUG: ", "Oops", "general protection fault", "[#1]",
					       "Kernel panic" };
	const char *p = text + strlen(text);
	int lines = 0;

	if (!*text)
		return;
	while (p > text && lines < TAIL_LINES + 1)
		if (*--p == '\n')
			lines++;
	/* From where it went wrong, when that was earlier. */
	for (size_t i = 0; i < ARRAY_SIZE(trouble); i++) {
		const char *at = strstr(text, trouble[i]);

		if (at && at < p && p - at < TROUBLE_MAX) {
			while (at > text && at[-1] != '\n')
				at--;
			p = at - (at > text);
		}
	}
	dprintf(r->err, "minivmm-ci: last lines of the console:\n%s%s", p + (*p == '\n'),
		text[strlen(text) - 1] == '\n' ? "" : "\n");
}

/* A kernel address in 16 digits, at p. */
static bool is_address(const char *p, uint64_t *v)
{
	for (int i = 0; i < 16; i++)
		if (!isxdigit((unsigned char)p[i]))
			return false;
	*v = strtoull(p, NULL, 16);
	return !isxdigit((unsigned char)p[16]) && *v >> 63;
}

/*
 * minivmm's words. Addresses of functions get their names; of what may be return addresses those
 * stay that are one.
 */
static void print_log(struct run *r, const char *log)
{
	struct symtab *t = kernel_symbols(&r->kernel);
	bool stack = false, known;
	char name[600];
	uint64_t v;
	FILE *f = fdopen(fcntl(r->err, F_DUPFD_CLOEXEC, 3), "w");

	if (*log && f)
		fprintf(f, "minivmm-ci: minivmm said:\n");
	for (const char *line = log, *end; *line && f; line = end) {
		end = strchrnul(line, '\n');
		end += *end == '\n';
		stack = *line == ' ' ? stack
				     : memmem(line, end - line, "return addresses", 16) != NULL;
		for (const char *p = line; p < end; p++) {
			bool start = p == line || !isxdigit((unsigned char)p[-1]);

			if (!start || !is_address(p, &v)) {
				if (!t || !stack || *line != ' ')
					fputc(*p, f);
				continue;
			}
			known = symtab_name(t, v, name, sizeof(name));
			if (stack && *line == ' ' && known)
				fprintf(f, "  %.16s %s\n", p, name);
			else if (!stack || !t)
				fprintf(f, known ? "%.16s <%s>" : "%.16s", p, name);
			p += 15;
		}
	}
	if (f)
		fclose(f);
	symtab_free(t);
}

static void write_log(struct run *r, const char *console, const char *log)
{
	struct err err = { "" };
	int fd = host_open(&host_direct, "log", r->o->log,
			   O_CREAT | O_WRONLY | O_APPEND, 0644, &err);
	int ret = MIN(fd, 0);

	if (ret == 0)
		ret = write_full(fd, console, strlen(console));
	if (ret == 0)
		ret = write_full(fd, log, strlen(log));
	if (ret < 0)
		dprintf(r->err, "minivmm-ci: --log %s: %s\n", r->o->log,
			err.msg[0] ? err.msg : strerror(-ret));
	if (fd >= 0)
		close(fd);
}

/* The number, and in words why it is none of the command's. */
static int decide(const struct run *r, int made, int status, const char *said, const char *console,
		  const char **why)
{
	int n;

	*why = NULL;
	if (sscanf(said, "exit %d", &n) == 1)
		return n & 0xff;
	if (sscanf(said, "signal %d", &n) == 1)
		return 128 + (n & 0x7f);
	if (made) {
		*why = ci_end_name(made);
		return made;
	}
	if (status == END_PANIC || strstr(console, "Kernel panic - not syncing"))
		n = r->o->oops_fails &&
				    strstr(console, "Kernel panic - not syncing: Fatal exception")
			    ? END_OOPS
			    : END_PANIC;
	else if (status == END_TIMEOUT || status == END_TRIPLE_FAULT || status == END_KVM ||
		 status == END_HANG)
		n = status;
	else
		n = END_ERROR;
	*why = n != END_ERROR		    ? ci_end_name(n)
	       : !strncmp(said, "error", 5) ? "the machine could not be prepared for the command"
	       : status == 0 ? "the guest powered off or rebooted before the command ended"
			     : "minivmm failed";
	return n;
}

int ending_judge(struct run *r, int made, int wait_status)
{
	char *path = run_path(r, "o/status"), *said = slurp_text(path, 63),
	     *console = slurp_text(r->console_path, 1 << 20);
	char *log = slurp_text(r->log_path, 65536);
	int status = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status)
					    : 128 + WTERMSIG(wait_status),
	    end;
	const char *why;

	end = decide(r, made, status, said, console, &why);
	if (why && r->o->copy >= 0)
		dprintf(r->o->copy, "minivmm-ci: %s\n%s%s", why, console, log);
	if (why) {
		dprintf(r->err, "minivmm-ci: %s\n", why);
		if (!r->o->kmsg)
			print_console(r, console);
		print_log(r, log);
	}
	if (r->o->log)
		write_log(r, console, log);
	free(path);
	free(said);
	free(console);
	free(log);
	return end;
}
