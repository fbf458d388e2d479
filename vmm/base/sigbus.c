/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sigbus.c: see sigbus.h. The handler runs on whichever thread touched the page. */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "vmm/base/sigbus.h"

#define MAX_RANGES 128

static struct {
	const char *host;
	size_t len;
	char *path;
} ranges[MAX_RANGES];
static unsigned nranges;

/* The file behind a host address, or NULL. */
static const char *sigbus_file(const void *host)
{
	for (unsigned i = 0; i < nranges; i++)
		if ((const char *)host >= ranges[i].host &&
		    (const char *)host < ranges[i].host + ranges[i].len)
			return ranges[i].path;
	return NULL;
}

static void say(const char *s)
{
	if (write(STDERR_FILENO, s, strlen(s)) < 0)
		_exit(1);
}

static void on_sigbus(int sig, siginfo_t *info, void *ctx)
{
	const char *path = sigbus_file(info->si_addr);

	if (!path) {		/* not ours: as if there were no handler */
		signal(SIGBUS, SIG_DFL);
		return;
	}
	say("minivmm: '");
	say(path);
	say("': the file was cut short, or its storage failed, while the machine runs from it: its "
	    "memory is lost and it ends\n");
	_exit(1);
}

void sigbus_watch(const void *host, size_t len, const char *path)
{
	struct sigaction sa = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };

	if (nranges == MAX_RANGES)
		return;
	ranges[nranges].host = host;
	ranges[nranges].len = len;
	ranges[nranges].path = xstrdup(path);
	nranges++;
	sigaction(SIGBUS, &sa, NULL);
}
