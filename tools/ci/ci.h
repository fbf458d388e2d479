/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ci.h: what the files of minivmm-ci share. One thread; each machine is a process of its own. */
#ifndef TOOLS_CI_H
#define TOOLS_CI_H

#include <sys/types.h>

#include "vmm/base/symtab.h"
#include "vmm/base/util.h"

/* --- the table of endings, the same in the manual --- */
enum ci_end {
	END_TIMEOUT = 124,		/* --timeout */
	END_ERROR = 125,		/* our own: bad option, no kernel */
	/* as a shell; 128 + n: killed by signal n */
	END_CANNOT_RUN = 126, END_NOT_FOUND = 127,
	/* 240 to 246: minivmm's own numbers */
	END_PANIC = 240, END_TRIPLE_FAULT = 242, END_KVM = 244, END_HANG = 246, END_OOPS = 248,
};
struct ci_ending { int status; const char *range, *text, *name; };
const char *ci_end_name(int status);	/* NULL: the command's own */

#define CI_DISKS 16
#define CI_HIDES 64
#define CI_MODULES 128

struct ci_options {
	/* a file, a folder, a .deb or a version; NULL: the newest in /boot */
	const char *kernel;
	/* the folder that has lib/modules; NULL: beside the kernel, or / */
	const char *modules;
	const char *root;
	const char *loopback;		/* as of -net user; NULL: closed */
	const char *net;		/* the card: "virtio", "e1000", "rtl8139"; NULL: none */
	bool rw, oops_fails, kmsg, keep, tty, show_keys;
	const char *machine;		/* "pc", "micro"; NULL: what fits */
	const char *matrix;
	int copy;			/* a descriptor that gets both outputs too, or -1 */
	const char *cpus, *mem, *append, *log, *junit;
	bool tap;
	unsigned timeout, idle_timeout, repeat, jobs;
	const char *disks[CI_DISKS];
	unsigned ndisks;
	char *hides[CI_HIDES];
	unsigned nhides;
	char **command;			/* NULL: a shell */
	const char *minivmm;		/* the program */
};

/* What a kernel needs to run our guest. */
struct ci_kernel {
	char *image;
	char *version;			/* NULL: unknown, modules cannot be found */
	char *modules_dir;		/* .../lib/modules/VERSION, or NULL */
	char *unpacked;			/* the kernel proper (vmlinux), or NULL */
	char *boot;			/* what is started: image or unpacked */
	char *symbols;			/* System.map beside it, or NULL */
};

/* kernel.c */
int kernel_find(const struct ci_options *o, struct ci_kernel *k, struct err *err);
void kernel_free(struct ci_kernel *k);
/* The kernel's functions, from its System.map or its image; NULL: no names known. */
struct symtab *kernel_symbols(const struct ci_kernel *k);
/*
 * The files of these modules and of all they need, in the order of loading; built-in ones are
 * passed over. n or -errno.
 */
int kernel_modules(const struct ci_kernel *k, const char *const *names, char *files[CI_MODULES],
		   struct err *err);

/* image.c: the kernel proper inside a bzImage, in the user's cache; NULL: it cannot be had. */
char *image_unpacked(const char *bzimage, const char *version);
bool image_has_pvh(const char *vmlinux);	/* minivmm can start it */
char *cache_folder(void);			/* ~/.cache/minivmm; NULL: there is none */

/* initramfs.c: a cpio archive in memory; the descriptor. */
struct cpio;
struct cpio *cpio_new(void);
void cpio_dir(struct cpio *c, const char *name);
void cpio_file(struct cpio *c, const char *name, unsigned mode, const void *data, size_t len);
/* .xz, .zst, .gz unpacked */
int cpio_add(struct cpio *c, const char *name, unsigned mode, const char *path, struct err *err);
int cpio_finish(struct cpio *c, struct err *err);		/* a memfd; frees c */

/* run.c: one machine, to its end. Output goes to out and err. Returns the ending. */
int ci_run(const struct ci_options *o, int in, int out, int err_fd);

/* options.c: ends the program at a mistake. */
void options_parse(struct ci_options *o, int argc, char **argv);

/* report.c: results for people (a table), for TAP readers and for JUnit readers. */
struct ci_result {
	const char *kernel;		/* NULL: that of the options */
	char **command;
	char *name, *output;
	int status;
	double seconds;
	/* while it runs */
	pid_t pid;
	int fd;
	int64_t started;
};
struct ci_report { struct ci_result *results; unsigned n; };
/* one has ended */
void report_progress(const struct ci_options *o, const struct ci_result *r, unsigned index);
int report_write(const struct ci_options *o, const struct ci_report *rep, struct err *err);

#endif
