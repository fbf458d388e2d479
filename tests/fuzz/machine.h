/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * machine.h: a whole machine for targets that need one, made once in a folder of its own, paused
 * before its first instruction. It needs /dev/kvm: without it a target says so and ends well.
 */
#ifndef TESTS_FUZZ_MACHINE_H
#define TESTS_FUZZ_MACHINE_H

#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk/node.h"
#include "vmm/base/log.h"
#include "vmm/machine/device_kinds.h"
#include "vmm/machine/machine_state.h"
#include "vmm/start.h"

static char fuzz_folder[] = "/tmp/minivmm-fuzz-XXXXXX";

static int fuzz_remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static void fuzz_remove_folder(void)
{
	if (chdir("/") == 0)
		nftw(fuzz_folder, fuzz_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void fuzz_enter_folder(void)
{
	struct rlimit file = { 64 << 20, 64 << 20 };

	if (!mkdtemp(fuzz_folder) || chdir(fuzz_folder) < 0)
		abort();
	atexit(fuzz_remove_folder);
	setrlimit(RLIMIT_FSIZE, &file);
	signal(SIGXFSZ, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	log_set_level(LOG_ERROR);
	/*
	 * What each input makes the machine say is of no interest; the sanitizers have their own
	 * way out.
	 */
	if (!getenv("FUZZ_LOG"))
		log_set_file("/dev/null", NULL);
}

static inline void fuzz_disk(const char *name)
{
	struct node_create c = { .filename = name, .size = 4 << 20, .host = &host_direct };
	struct err err = { "" };

	if (node_create("qcow2", &c, &err) < 0) {
		fprintf(stderr, "%s: %s\n", name, err.msg);
		abort();
	}
}

/* The machine of these options (ending with NULL). */
static inline struct machine *fuzz_machine(char **argv)
{
	static struct machine machine;
	static struct config config;
	struct err err = { "" };
	int argc = 0;

	if (access("/dev/kvm", R_OK | W_OK) < 0) {
		printf("no /dev/kvm here: nothing was tested\n");
		exit(0);
	}
	while (argv[argc])
		argc++;
	config_init(&config, device_kinds);
	if (options_parse(&config, argc, argv, &err) != 0 || config_finish(&config, &err) < 0 ||
	    machine_start(&machine, &config, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		abort();
	}
	return &machine;
}

/* Lets the machine's main loop work until nothing is left to do. */
static inline void fuzz_settle(struct machine *m)
{
	for (int i = 0; i < 8; i++)
		loop_once(m->loop, 0);
}

#endif
