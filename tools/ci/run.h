/* SPDX-License-Identifier: GPL-2.0-or-later */
/* run.h: one machine of minivmm-ci under way; what the files that run it share. */
#ifndef TOOLS_CI_RUN_H
#define TOOLS_CI_RUN_H

#include <termios.h>

#include "tools/ci/ci.h"

#define CI_INPUT 65536

/* keep: an end of ours, so that the FIFO does not end before we say so */
struct stream { int from, keep; };

struct run {
	const struct ci_options *o;
	struct ci_kernel kernel;
	char *dir;			/* a folder of this run; NULL: not made yet */
	char *console_path, *log_path;	/* in it */
	int initrd, in, out, err;
	int fifo_in, fifo_in_keep;
	struct stream s_out, s_err;
	int console;			/* for --kmsg */
	pid_t pid;			/* minivmm; 0: not started */
	bool broken;			/* nobody reads our output any more */
	/*
	 * The terminal: what goes in is in pieces of type, length, bytes (init.c), so that its size
	 * can change.
	 */
	bool tty;
	struct termios saved;
	unsigned escape;		/* how much of Enter ~ . has been typed */
	uint8_t input[CI_INPUT + 16];	/* read, and not yet taken by the guest */
	size_t have, at;
	int64_t started;
};

/* prepare.c: 0 or -errno. The folder goes with prepare_remove, whatever came of it. */
int prepare_folder(struct run *r, struct err *err);
int prepare_initrd(struct run *r, struct err *err);
int prepare_start(struct run *r, struct err *err);	/* minivmm itself */
void prepare_remove(struct run *r);
char *run_path(const struct run *r, const char *name);	/* in the run's folder; free it */

/*
 * ending.c: the number; a bad one is explained on r->err. made: an ending of our own, or 0;
 * wait_status: minivmm's.
 */
int ending_judge(struct run *r, int made, int wait_status);

#endif
