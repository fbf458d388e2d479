/* SPDX-License-Identifier: GPL-2.0-or-later */
/* parent.h: the small process that starts a machine and stands between it and the host. */
#ifndef VMM_PARENT_PARENT_H
#define VMM_PARENT_PARENT_H

#include "vmm/base/util.h"

/* From the command line; NULL where it says nothing. */
struct parent_options {
	bool daemonize;
	const char *pidfile, *logfile;
	const char *name;		/* the processes' */
	const char *uuid;
};

/*
 * Starts the program anew as a machine with the same arguments and serves it until it ends. The
 * exit status for main(), the machine's; does not return when a signal ended the machine: that
 * ends this process, too. Called first, before there is a second thread.
 */
int parent_run(const struct parent_options *o, char *const argv[]);

#endif
