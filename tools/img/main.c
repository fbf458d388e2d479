/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * main.c: minivmm-img, the disk image tool: its table of commands and options, from which the
 * command line is parsed, --help is printed and the manual page is made. Commands, output and exit
 * codes are those of qemu-img 7.2.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "tools/img/img.h"

#define OBJECT                                                                                     \
	{                                                                                          \
		"--object", "objectdef",                                                           \
			"a secret: secret,id=ID,file=FILE[,format=base64]; data=TEXT instead of "  \
			"file= can be read by every user of the host"                              \
	}
#define IMAGE_OPTS                                                                                 \
	{                                                                                          \
		"--image-opts", NULL,                                                              \
			"file names are option strings: driver=qcow2,file.filename=NAME"           \
	}
#define FMT { "-f", "fmt", "format of the image; it is probed when not given" }
#define QUIET { "-q", NULL, "print nothing but errors" }
#define SHARE                                                                                      \
	{                                                                                          \
		"-U|--force-share", NULL,                                                          \
			"open even when another process writes to the image; what is read may be " \
			"inconsistent"                                                             \
	}
#define PROGRESS                                                                                   \
	{                                                                                          \
		"-p", NULL,                                                                        \
			"show progress; on a terminal with rate and time left. SIGUSR1 shows it "  \
			"once"                                                                     \
	}
#define CACHE                                                                                      \
	{                                                                                          \
		"-t", "cache",                                                                     \
			"how output is written: none, writeback, writethrough, directsync, unsafe" \
	}
#define SRC_CACHE { "-T", "src_cache", "the same for images that are read" }
#define OUTPUT { "--output", "ofmt", "human or json" }
#define OPTIONS { "-o", "options", "format options: name=value,...; -o help lists them" }
#define RATE { "-r", "rate_limit", "at most so many bytes a second (K, M, G)" }
#define END { NULL, NULL, NULL }

const struct img_opt img_common_opts[] = {
	{ "-h|--help", NULL, "show help and exit" },
	{ "--image-dir", "dir",
	  "names inside images may lead to files in and below this folder, or to this address" },
	END
};

static const struct img_opt amend_opts[] = { OBJECT,
					     IMAGE_OPTS,
					     PROGRESS,
					     QUIET,
					     FMT,
					     CACHE,
					     { "--force", NULL,
					       "allow changes that may lose access to the data" },
					     OPTIONS,
					     END };
static const struct img_opt bench_opts[] = {
	{ "-c", "count", "number of requests (75000)" },
	{ "-d", "depth", "requests in flight (64)" },
	FMT,
	{ "--flush-interval", "n", "flush after so many writes" },
	{ "-i", "aio", "native, threads or io_uring: accepted; the engine is chosen by itself" },
	{ "-n|--native", NULL, "bypass the host's page cache" },
	{ "--no-drain", NULL, "do not wait for all requests before a flush" },
	{ "-o", "offset", "of the first request" },
	{ "--pattern", "byte", "what writes contain" },
	QUIET,
	{ "-s", "buffer_size", "bytes of each request (4096)" },
	{ "-S", "step_size", "distance of requests (buffer_size)" },
	CACHE,
	{ "-w", NULL, "write instead of read" },
	SHARE,
	OBJECT,
	IMAGE_OPTS,
	END
};
static const struct img_opt bitmap_opts[] = { { "--add", NULL, "make the bitmap" },
					      { "--remove", NULL, "remove it" },
					      { "--clear", NULL, "forget what it recorded" },
					      { "--enable", NULL, "record from now on" },
					      { "--disable", NULL, "stop recording" },
					      { "--merge", "SOURCE",
						"add what the bitmap SOURCE recorded" },
					      { "-b", "source_file", "image that holds SOURCE" },
					      { "-F", "source_fmt", "its format" },
					      { "-g|--granularity", "bytes", "of --add" },
					      OBJECT,
					      IMAGE_OPTS,
					      FMT,
					      END };
static const struct img_opt check_opts[] = {
	OBJECT,	   IMAGE_OPTS, QUIET,
	FMT,	   OUTPUT,     { "-r", "leaks|all", "repair leaks only, or all that was found" },
	SRC_CACHE, SHARE,      END
};
static const struct img_opt commit_opts[] = {
	OBJECT,	  IMAGE_OPTS,
	QUIET,	  FMT,
	CACHE,	  { "-b", "base", "commit into this image of the chain, not only the next one" },
	RATE,	  { "-d", NULL, "do not empty the overlay afterwards" },
	PROGRESS, END
};
static const struct img_opt compare_opts[] = {
	OBJECT,	   IMAGE_OPTS,
	FMT,	   { "-F", "fmt", "format of the second image" },
	SRC_CACHE, PROGRESS,
	QUIET,	   { "-s", NULL, "strict: sizes and allocation must be the same, too" },
	SHARE,	   END
};
static const struct img_opt convert_opts[] = {
	OBJECT,
	IMAGE_OPTS,
	{ "--target-image-opts", NULL, "the output name is an option string" },
	{ "--target-is-zero", NULL, "with -n: the output reads as zeros already" },
	{ "--bitmaps", NULL, "copy dirty bitmaps, too" },
	{ "--skip-broken-bitmaps", NULL, "with --bitmaps: leave out those that are inconsistent" },
	SHARE,
	{ "-C", NULL, "let the kernel copy (reflink where the file system can)" },
	{ "-c", NULL, "compress" },
	PROGRESS,
	QUIET,
	{ "-n", NULL, "do not make the output; it exists" },
	FMT,
	CACHE,
	SRC_CACHE,
	{ "-O", "output_fmt", "output format (raw)" },
	{ "-B", "backing_file",
	  "backing file of the output: only what differs in the top layer is copied" },
	{ "-F", "backing_fmt", "its format" },
	OPTIONS,
	{ "-l", "snapshot", "take this internal snapshot of the source" },
	{ "-s", "snapshot", "the same (older form)" },
	{ "-S", "sparse_size", "runs of zeros this long become holes (4k); 0: write all" },
	RATE,
	{ "-m", "num_coroutines", "requests in parallel, 1 to 16 (one for each processor)" },
	{ "-W", NULL, "write out of order" },
	{ "--salvage", NULL, "go on after read errors; what cannot be read becomes zeros" },
	END
};
static const struct img_opt create_opts[] = { OBJECT,
					      QUIET,
					      FMT,
					      { "-b", "backing_file",
						"the new image is an overlay of this one" },
					      { "-F", "backing_fmt", "its format" },
					      { "-u", NULL, "do not open the backing file" },
					      OPTIONS,
					      { "-6", NULL, "vmdk: the same as -o compat6" },
					      END };
static const struct img_opt dd_opts[] = {
	OBJECT, IMAGE_OPTS, SHARE, FMT, { "-O", "output_fmt", "output format (raw)" }, END
};
static const struct img_opt info_opts[] = {
	OBJECT, IMAGE_OPTS, FMT, OUTPUT, { "--backing-chain", NULL, "all images of the chain" },
	SHARE,	END
};
static const struct img_opt map_opts[] = { OBJECT,
					   IMAGE_OPTS,
					   FMT,
					   { "-s|--start-offset", "offset", "where to begin" },
					   { "-l|--max-length", "len", "how much to show" },
					   OUTPUT,
					   SHARE,
					   END };
static const struct img_opt measure_opts[] = {
	OUTPUT,	 { "-O", "output_fmt", "format of the image to be made (raw)" },
	OPTIONS, { "--size", "N", "of a new image" },
	OBJECT,	 IMAGE_OPTS,
	FMT,	 { "-l", "snapshot", "measure this internal snapshot" },
	SHARE,	 END
};
static const struct img_opt rebase_opts[] = { OBJECT,
					      IMAGE_OPTS,
					      SHARE,
					      QUIET,
					      FMT,
					      CACHE,
					      SRC_CACHE,
					      PROGRESS,
					      { "-u", NULL, "only change the name in the image" },
					      { "-b", "backing_file",
						"the new backing file; empty: none" },
					      { "-F", "backing_fmt", "its format" },
					      END };
static const struct img_opt resize_opts[] = {
	OBJECT, IMAGE_OPTS,
	FMT,	{ "--preallocation", "mode", "off, metadata, falloc or full, for the new part" },
	QUIET,	{ "--shrink", NULL, "allow the image to become smaller" },
	END
};
static const struct img_opt snapshot_opts[] = { OBJECT,
						IMAGE_OPTS,
						SHARE,
						QUIET,
						FMT,
						{ "-l", NULL, "list (default)" },
						{ "-a", "snapshot", "go back to it" },
						{ "-c", "snapshot", "make it" },
						{ "-d", "snapshot", "delete it" },
						END };

static const struct img_cmd img_cmds[] = {
	{ "amend", "filename", "Change format options of an image.", cmd_amend, amend_opts },
	{ "bench", "filename", "Time simple sequential I/O.", cmd_bench, bench_opts },
	{ "bitmap", "filename bitmap", "Change dirty bitmaps of an image.", cmd_bitmap,
	  bitmap_opts },
	{ "check", "filename",
	  "Check an image; exit code 0 clean, 1 check failed, 2 corrupt, 3 leaked clusters, 63 not "
	  "supported.",
	  cmd_check, check_opts },
	{ "commit", "filename", "Write what an overlay holds into its backing file.", cmd_commit,
	  commit_opts },
	{ "compare", "filename1 filename2",
	  "Compare contents; exit code 0 identical, 1 different, more on errors.", cmd_compare,
	  compare_opts },
	{ "convert", "filename [filename2 ...] output_filename",
	  "Copy images into another format; several sources are joined.", cmd_convert,
	  convert_opts },
	{ "create", "filename [size]", "Make an image.", cmd_create, create_opts },
	{ "dd", "[bs=block_size] [count=blocks] [skip=blocks] if=input of=output", "Copy blocks.",
	  cmd_dd, dd_opts },
	{ "info", "filename", "Say what an image is.", cmd_info, info_opts },
	{ "map", "filename", "Show where the data of an image lies.", cmd_map, map_opts },
	{ "measure", "[--size N | filename]", "Say how much space a new image would need.",
	  cmd_measure, measure_opts },
	{ "rebase", "-b backing_file filename", "Change the backing file of an image.", cmd_rebase,
	  rebase_opts },
	{ "resize", "filename [+|-]size", "Change the size of the disk.", cmd_resize, resize_opts },
	{ "snapshot", "filename", "List, make, apply or delete internal snapshots.", cmd_snapshot,
	  snapshot_opts },
	{ NULL, NULL, NULL, NULL, NULL },
};

static void print_command(const struct img_cmd *c)
{
	printf("  %s", c->name);
	for (const struct img_opt *o = c->opts; o->name; o++) {
		const char *bar = strchr(o->name, '|');

		printf(" [%.*s%s%s]", bar ? (int)(bar - o->name) : (int)strlen(o->name), o->name,
		       o->arg ? (o->name[1] == '-' ? "=" : " ") : "", o->arg ? o->arg : "");
	}
	printf(" %s\n", c->operands);
}

static void print_formats(const char *before)
{
	printf("%s", before);
	for (int i = 0; node_formats[i]; i++)
		if (node_formats[i]->read)
			printf(" %s", node_formats[i]->format);
	printf("\n");
}

static void print_help(void)
{
	printf("usage: %s [standard options] command [command options]\nminivmm disk image "
	       "utility\n\n"
	       "    '-h', '--help'       display this help and exit\n"
	       "    '-V', '--version'    output version information and exit\n"
	       "    '-image-dir DIR'     names inside images may lead there, too\n\n"
	       "Command syntax:\n",
	       log_name());
	for (const struct img_cmd *c = img_cmds; c->name; c++)
		print_command(c);
	printf("\n'%s COMMAND --help' explains the options of a command.\n\n", log_name());
	print_formats("Supported formats:");
}

static void print_command_help(const struct img_cmd *c)
{
	printf("usage: %s", log_name());
	print_command(c);
	printf("%s\n\n", c->summary);
	for (const struct img_opt *o = c->opts; o->name; o++) {
		char *left = xasprintf("%s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "");

		for (char *p = left; *p; p++)
			if (*p == '|')
				*p = ',';
		printf("  %-28s %s\n", left, o->help);
		free(left);
	}
	print_formats("\nSupported formats:");
}

static void roff(const char *s)
{
	for (; *s; s++)
		printf(*s == '-' || *s == '\\' ? "\\%c" : "%c", *s == '\\' ? 'e' : *s);
}

/* The manual page, from the same tables. */
static void print_man(void)
{
	printf(".TH MINIVMM\\-IMG 1 \"\" \"minivmm " MINIVMM_VERSION
	       "\" \"minivmm\"\n.SH NAME\nminivmm\\-img \\- disk image utility\n"
	       ".SH SYNOPSIS\n.B minivmm\\-img\n.I command\n[\\fIoptions\\fR] \\fIfile\\fR "
	       "...\n.SH DESCRIPTION\n"
	       "Makes, converts, checks and changes disk images. Commands, options, output and "
	       "exit codes are those of\n"
	       ".BR qemu\\-img (1),\nversion 7.2; scripts need only the name changed. Installed "
	       "as\n.B kvm\\-img\nas well.\n"
	       "Options may come after file names. Sizes take the suffixes k, M, G, T, P and E "
	       "(powers of 1024).\n.SH COMMANDS\n");
	for (const struct img_cmd *c = img_cmds; c->name; c++) {
		printf(".SS %s [\\fIoptions\\fR] ", c->name);
		roff(c->operands);
		printf("\n");
		roff(c->summary);
		printf("\n");
		for (const struct img_opt *o = c->opts; o->name; o++) {
			printf(".TP\n.B ");
			roff(o->name);
			if (o->arg)
				printf(" \\fI%s\\fR", o->arg);
			printf("\n");
			roff(o->help);
			printf("\n");
		}
	}
	printf(".SH FORMATS\n");
	for (int i = 0; node_formats[i]; i++) {
		const struct node_ops *f = node_formats[i];

		if (!f->read)
			continue;
		printf(".SS %s\n%s\n", f->format,
		       f->create  ? "Read and written."
		       : f->write ? "Read and written; not made."
				  : "Read only.");
		for (const struct node_opt *o = f->create_opts; o && o->name; o++) {
			printf(".TP\n.BI \\-o\\ %s= ", o->name);
			roff(o->type);
			printf("\n");
			roff(o->help);
			printf("\n");
		}
	}
	printf(".SH NAMES INSIDE IMAGES\n"
	       "An image names other files: its backing file, its data file, its pieces. The names "
	       "may be a stranger's; they lead to files in the folder of the image, in those of "
	       "files that the command line names, in and below those of\n.B \\-image\\-dir\n"
	       "and of /etc/minivmm/image\\-dirs (a folder a line; without the file: "
	       "/var/lib/minivmm/images and /var/lib/libvirt/images). Block devices count only in "
	       "and below listed folders. A backing file elsewhere is read, and named in a line, "
	       "if the image records its format, that is not raw, and the file looks like it. "
	       "Everything else is refused with the option to add; an address (nbd:, http:) "
	       "always, unless\n.B \\-image\\-dir\nallows it.\n");
	printf(".SH SIGNALS\nSIGUSR1 prints how far a long command is. SIGINT, SIGTERM and SIGHUP "
	       "end it; output that is not\n"
	       "complete is removed.\n"
	       ".SH EXIT STATUS\n.TP\n.B 0\nDone; compare: the contents are the same; check: no "
	       "errors.\n"
	       ".TP\n.B 1\nIt failed, and standard error says why; compare: the contents differ.\n"
	       ".TP\n.B 2\ncheck: the image is corrupt; compare: it could not be done.\n"
	       ".TP\n.B 3\ncheck: the image has leaked clusters, but is not corrupt.\n"
	       ".TP\n.B 63\ncheck: the format has no check.\n"
	       ".SH EXAMPLES\n.nf\nminivmm\\-img create \\-f qcow2 disk.qcow2 20G\n"
	       "minivmm\\-img create \\-f qcow2 \\-b disk.qcow2 \\-F qcow2 today.qcow2\n"
	       "minivmm\\-img convert \\-p \\-O qcow2 old.vmdk disk.qcow2\n.fi\n"
	       ".SH FILES\nDisk images, raw disks (/dev/sdX), and where the NBD and http modules "
	       "are installed, nbd:// and https:// addresses.\n"
	       ".SH SEE ALSO\n.BR minivmm (1),\n.BR minivmm\\-doctor (1),\n.BR qemu\\-img (1)\n");
}

int usage_error(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s: ", log_name());
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nTry '%s --help' for more information\n", log_name());
	return 1;
}

int fail(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fprintf(stderr, "%s: ", log_name());
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	return 1;
}

int main(int argc, char **argv)
{
	const char *slash = strrchr(argv[0], '/');
	struct args a = { 0 };
	int ret;

	log_set_name(slash ? slash + 1 : argv[0]);
	if (argc < 2)
		return usage_error("Not enough arguments");
	if (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "help")) {
		print_help();
		return 0;
	}
	if (!strcmp(argv[1], "-V") || !strcmp(argv[1], "--version")) {
		printf("%s version " MINIVMM_VERSION " (output as qemu-img version 7.2)\n",
		       log_name());
		return 0;
	}
	if (!strcmp(argv[1], "-man") || !strcmp(argv[1], "--man")) {
		print_man();
		return 0;
	}
	/* A standard option: it may stand before the command as well. */
	while (argc > 3 && (!strcmp(argv[1], "-image-dir") || !strcmp(argv[1], "--image-dir"))) {
		struct err err = { "" };

		if (host_allow(&img_host, argv[2], &err))
			return fail("%s", err.msg);
		argv += 2;
		argc -= 2;
	}
	for (const struct img_cmd *c = img_cmds; c->name; c++) {
		if (strcmp(c->name, argv[1]))
			continue;
		ret = args_parse(&a, c, argc - 1, argv + 1);
		if (ret == 0 && arg_has(&a, "-h|--help"))
			print_command_help(c);
		else if (ret == 0)
			ret = args_objects(&a) || img_allow_names(&a) ? 1 : c->run(&a);
		args_free(&a);
		if (fflush(stdout) || ferror(stdout))
			ret = fail("could not write the output: %s", strerror(errno));
		if (stop_signal()) {
			outputs_remove();
			signal(stop_signal(), SIG_DFL);
			raise(stop_signal());
		}
		if (ret)
			outputs_remove();
		return ret;
	}
	if (argv[1][0] == '-')
		return usage_error("unrecognized option '%s'", argv[1]);
	return usage_error("Command not found: %s", argv[1]);
}
