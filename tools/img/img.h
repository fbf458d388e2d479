/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * img.h: what the commands of minivmm-img share: the option tables, opening images, output,
 * progress. One thread, except for the copy engine's workers.
 */
#ifndef TOOLS_IMG_H
#define TOOLS_IMG_H

#include <jansson.h>
#include <stdio.h>

#include "disk/node.h"
#include "vmm/base/log.h"

/* --- commands and their options: one table for parsing, --help and the manual page --- */
struct img_opt {
	const char *name;		/* "-f", "--output", or both: "-h|--help" */
	const char *arg;		/* NULL: none */
	const char *help;
};
struct args;
struct img_cmd {
	const char *name;
	const char *operands;		/* for usage */
	const char *summary;
	int (*run)(struct args *a);
	const struct img_opt *opts;	/* ends with name NULL; the common ones are added */
};
extern const struct img_opt img_common_opts[];

struct args {
	const struct img_cmd *cmd;
	/* in the order given; name as in the table */
	struct { const char *name, *value; } *set;
	int nset;
	char **operand;
	int n;
};
bool arg_has(const struct args *a, const char *name);
/* the last one given, or NULL */
const char *arg_get(const struct args *a, const char *name);
int args_parse(struct args *a, const struct img_cmd *cmd, int argc, char **argv);
void args_free(struct args *a);
/* "PREFIX: message", and the hint to --help. Returns 1. */
int usage_error(const char *fmt, ...) PRINTF(1, 2);
/* "PREFIX: message". Returns 1. */
int fail(const char *fmt, ...) PRINTF(1, 2);
/* -q */
bool args_quiet(const struct args *a);
/* --output: 0 human, 1 json, -1 after a message */
int args_output(const struct args *a);

/* --- -o lists --- */
struct optlist { char **v; int n; };				/* v ends with NULL */
int optlist_add(struct optlist *l, const char *text);		/* "a=b,c=d"; ",," is a comma */
/* {"a":"b"}, flat. 0 or -EINVAL */
int optlist_json(struct optlist *l, const char *text, struct err *err);
void optlist_set(struct optlist *l, const char *name, const char *value);
const char *optlist_get(const struct optlist *l, const char *name);
char *optlist_take(struct optlist *l, const char *name);	/* removes it; free the value */
void optlist_free(struct optlist *l);
bool optlist_help(const char *text);				/* asks for help */
/* Every -o of the command line. 0, or 1 after a message. */
int args_optlist(const struct args *a, struct optlist *l);
int print_format_help(const char *format, bool with_protocol, bool amend);

/* --- opening --- */
/* Cache mode ("none", "writeback" ...) as BLK_ flags; -1 after a message. NULL: def. */
int cache_flags(const char *mode, const char *def, bool *ok);
/*
 * Opens an operand: with --image-opts, -U and the secrets of the command line. NULL after a
 * message.
 */
struct node *img_open(const struct args *a, const char *filename, const char *format,
		      unsigned flags);
/* Opens what an option string, or an image, names. */
struct node *img_open_options(const struct args *a, const char *text, unsigned flags,
			      struct err *err);
struct node *img_open_layer(const struct args *a, const char *filename, const char *format,
			    unsigned flags, struct err *err);
/* The same for a name that stands in an image, with the door for those (node_names()). */
struct node *img_open_below(const struct args *a, const struct host *door, const char *filename,
			    const char *format, unsigned flags, struct err *err);
/*
 * Takes note of what the command line names: names inside images may lead to those folders and
 * addresses, and to those of --image-dir. 0, or 1 after a message.
 */
int img_allow_names(const struct args *a);
/* The secrets of the command line; ends with id NULL. NULL: none. */
extern struct blk_secret *img_secrets;
/* --object secret,id=ID: the file that holds the secret, or NULL. */
const char *secret_file(const char *id);
/*
 * A copy of -o options in which ids of secrets have become the names of their files. 0 or -errno.
 */
int secrets_to_files(const struct optlist *in, struct optlist *out, struct err *err);
int args_objects(const struct args *a);			/* takes them all. 0 or 1 after a message */
/* Makes an image; ids of secrets among the options become files. 0 or -errno. */
int img_create(const struct args *a, const char *format, const char *filename, uint64_t size,
	       const char *backing, const char *backing_format, const struct optlist *opts,
	       struct err *err);
/*
 * The disk as an internal snapshot has it: a name or ID, or "snapshot.id=1,snapshot.name=x". 0, or
 * 1 after a message.
 */
int img_load_snapshot(struct node *n, const char *param);
/*
 * For data: begins at a page, or the kernel's copies take twice as long. NULL: no memory. free()
 * it.
 */
void *img_buffer(size_t len);
/* Size from the command line; -errno after a message in qemu-img's words. */
int size_arg(const char *s, uint64_t *size);
/* Files made by this run: removed when it ends early, so that no half output looks whole. */
extern const struct host img_host;
void outputs_keep(void);
void outputs_remove(void);

/* --- output --- */
char *size_human(uint64_t bytes);			/* "1.5 GiB"; free it */
void json_print(const json_t *v);			/* pretty, keys in QEMU's order, newline */
/* as info prints format specific information */
void json_print_text(const json_t *v, int indent);
void snapshot_print_head(void);
void snapshot_print(const struct node_snapshot *s);
json_t *snapshot_json(const struct node_snapshot *s);

/* --- progress and signals --- */
/*
 * From here on SIGINT, SIGTERM and SIGHUP only set a flag; SIGUSR1 prints how far we are. show: -p.
 */
void progress_start(bool show, uint64_t total);
void progress_add(uint64_t bytes);			/* any thread */
void progress_end(void);
bool stop_requested(void);
int stop_signal(void);

/* --- the copy engine (copy.c) --- */
struct copy {
	struct node **src;
	/* of each source in the output, and the end: nsrc + 1 */
	uint64_t *start;
	int nsrc;
	struct node *dst;
	uint64_t total;				/* bytes of output written */
	bool compressed, salvage, dst_backing, dst_zero, copy_range;
	uint64_t min_sparse;			/* 0: write zeros, too */
	unsigned threads;
	uint64_t rate;				/* bytes a second; 0: no limit */
};
/* 0, or -errno with the reason. Progress is reported in source bytes. */
int copy_run(struct copy *c, struct err *err);

int cmd_amend(struct args *a);
int cmd_bench(struct args *a);
int cmd_bitmap(struct args *a);
int cmd_check(struct args *a);
int cmd_commit(struct args *a);
int cmd_compare(struct args *a);
int cmd_convert(struct args *a);
int cmd_create(struct args *a);
int cmd_dd(struct args *a);
int cmd_info(struct args *a);
int cmd_map(struct args *a);
int cmd_measure(struct args *a);
int cmd_rebase(struct args *a);
int cmd_resize(struct args *a);
int cmd_snapshot(struct args *a);

#endif
