/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * matrix.c: every operation on a qcow2 image with every feature it can be made with, over no, a
 * shorter, a longer and an odd base. What the guest must see is kept in memory; after each step our
 * own reading, qemu-img's reading and both checks judge.
 *
 * `make check` runs a selection, with all that ever failed; LONG=1 runs about a thousand
 * combinations, MATRIX=all every one. `build/tests/img/matrix NAME` runs those whose name begins
 * so, SEED=n with other data. The parts of a name are: feature, base, operation.
 */
#include <fcntl.h>
#include <sys/statvfs.h>

#include "tests/lib/imgtest.h"
#include "tests/lib/matrix.h"
#include "tests/tap.h"

static const struct feature features[] = {
	{ "plain", "", 0 },
	{ "c512", "cluster_size=512", 0 },
	{ "c4k", "cluster_size=4k", 0 },
	{ "c2M", "cluster_size=2M", LARGE },
	{ "ext", "extended_l2=on", 0 },
	{ "ext16k", "extended_l2=on,cluster_size=16k", 0 },
	{ "ext2M", "extended_l2=on,cluster_size=2M", LARGE },
	{ "rc1", "refcount_bits=1,cluster_size=4k", NO_SHARED },
	{ "rc2", "refcount_bits=2,cluster_size=1k", NO_SHARED },
	{ "rc8", "refcount_bits=8", 0 },
	{ "rc64", "refcount_bits=64,cluster_size=512", 0 },
	{ "v2", "compat=0.10", V2 },
	{ "v2c4k", "compat=0.10,cluster_size=4k", V2 },
	{ "lazy", "lazy_refcounts=on", 0 },
	{ "zstd", "compression_type=zstd,cluster_size=16k", 0 },
	{ "meta", "preallocation=metadata", NO_BASE },
	{ "metav2", "preallocation=metadata,compat=0.10,cluster_size=4k", NO_BASE | V2 },
	{ "falloc", "preallocation=falloc,cluster_size=4k", NO_BASE },
	{ "full", "preallocation=full", NO_BASE },
	{ "extmeta", "extended_l2=on,preallocation=metadata", 0 },
	{ "extfull", "extended_l2=on,preallocation=full,cluster_size=32k", 0 },
	{ "data", "data_file=data", DATA_FILE },
	{ "dataext", "data_file=data,extended_l2=on,cluster_size=16k", DATA_FILE },
	{ "datameta", "data_file=data,preallocation=metadata", DATA_FILE | NO_BASE },
	{ "dataraw", "data_file=data,data_file_raw=on", DATA_FILE | NO_BASE | DATA_RAW },
	{ "luks", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", LUKS },
};

static const struct base bases[] = {
	{ .name = "none" },
	{ .name = "same", .format = "raw", .delta = 0 },
	{ .name = "short", .format = "raw", .delta = -1000001 },
	{ .name = "long", .format = "raw", .delta = 700003 },
	{ .name = "hair", .format = "raw", .delta = 700 },
	{ .name = "qshort", .format = "qcow2", .delta = -512 * 1001, .opts = "cluster_size=4k" },
	{ .name = "qlong", .format = "qcow2", .delta = 512 * 2001, .opts = "extended_l2=on" },
	{ .name = "chain",
	  .format = "qcow2",
	  .delta = -512 * 801,
	  .opts = "cluster_size=512",
	  .below = 1200 * 1024 },
};

/* What failed once, and one of each operation. */
static const char *const quick[] = {
	"plain/none/rebase-first",
	"plain/none/job-mirror",
	"plain/none/amend-refused",
	"plain/none/measure",
	"v2/short/measure",
	"plain/none/commit-into",
	"plain/none/rebase-self",
	"plain/same/convert-into",
	"plain/same/grow-preallocated",
	"plain/same/job-stream-onto",
	"plain/long/job-commit-through",
	"plain/long/commit-through",
	"v2/none/rebase-first",
	"v2/same/shrink-grow",
	"v2/same/convert-into",
	"v2/long/job-mirror",
	"ext/none/rebase-first",
	"ext/none/check-bitmap",
	"ext/same/check-bitmap",
	"ext/hair/shrink-grow",
	"ext16k/short/convert-into",
	"plain/none/snapshot-damaged",
	"v2/same/snapshot-damaged",
	"c4k/long/snapshot-damaged",
	"ext/none/snapshot-damaged",
	"plain/none/bitmap-damaged",
	"plain/same/check-place",
	"ext/none/check-place",
	"extmeta/same/write",
	"extmeta/long/zero",
	"extfull/hair/discard",
	/* One of each other operation. */
	"c512/chain/snapshot",
	"rc8/qlong/snapshot-resize",
	"zstd/chain/packed",
	"rc64/qshort/grow",
	"rc1/none/check-counts",
	"lazy/hair/check-table",
	"luks/short/rebase",
	"luks/same/commit",
	"data/long/commit",
	"dataext/qlong/job-stream",
	"dataraw/none/amend",
	"v2c4k/hair/amend",
	"c2M/short/rebase-none",
	"c4k/long/bitmap",
	"full/none/shrink",
	"rc8/same/convert",
	"metav2/none/write",
};

static bool in_quick(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(quick); i++)
		if (!strcmp(quick[i], name))
			return true;
	return false;
}

static uint32_t hash(const char *s)
{
	uint32_t h = 2166136261u;

	for (; *s; s++)
		h = (h ^ (uint8_t)*s) * 16777619u;
	return h ^ h >> 15;
}

static bool fits(const struct feature *f, const struct base *b, const struct operation *o)
{
	if (b->format && (f->is & NO_BASE))
		return false;
	if ((o->needs & NEEDS_BASE) && !b->format)
		return false;
	if ((o->needs & NEEDS_NO_BASE) && b->format)
		return false;
	if ((o->needs & NEEDS_SHARED) && ((f->is & NO_SHARED) || (f->is & DATA_FILE)))
		return false;
	if ((o->needs & NEEDS_V3) && (f->is & V2))
		return false;
	if ((o->needs & NEEDS_EXT) && !strstr(f->opts, "extended_l2"))
		return false;
	if ((o->needs & NEEDS_PLAIN_DATA) && ((f->is & DATA_FILE) || (f->is & LUKS)))
		return false;
	if ((o->needs & NEEDS_CLEAR) && (f->is & LUKS))
		return false;
	if ((o->needs & NEEDS_LARGER) && strstr(f->opts, "cluster_size=512"))
		return false;
	if ((o->needs & NEEDS_OVERLAY) && (f->is & DATA_RAW))
		return false;
	return true;
}

/* One combination in a child, so that it may crash or hang. */
static int run(const struct combination *c)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		alarm(getenv("SAN") ? 600 : 120);
		matrix_run(c);
		fflush(stdout);
		exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return -1;
	if (WIFSIGNALED(status))
		printf("# signal %d (%s)\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
	return status;
}

int main(int argc, char **argv)
{
	const char *only = argc > 1 ? argv[1] : NULL, *seed = getenv("SEED");
	bool all = getenv("MATRIX") && !strcmp(getenv("MATRIX"), "all"), some = getenv("LONG");
	unsigned n = 0, failed = 0;
	struct statvfs v;
	char lib[4096];

	if (access("/usr/bin/qemu-img", X_OK)) {
		printf("1..0 # SKIP qemu-utils is not installed\n");
		return 0;
	}
	if (!getenv("TMPDIR") && statvfs("/dev/shm", &v) == 0 &&
	    v.f_bavail * v.f_bsize > 1ull << 30 && access("/dev/shm", W_OK) == 0)
		setenv("TMPDIR", "/dev/shm", 1);
	snprintf(lib, sizeof(lib), "%.*s", (int)(strrchr(img_tool(), '/') - img_tool()),
		 img_tool());
	setenv("MINIVMM_LIBDIR", lib, 1);
	for (size_t f = 0; f < ARRAY_SIZE(features); f++)
		for (size_t b = 0; b < ARRAY_SIZE(bases); b++)
			for (const struct operation *o = matrix_operations; o->name; o++) {
				struct combination c = { .feature = &features[f],
							 .base = &bases[b],
							 .op = o };

				if (!fits(&features[f], &bases[b], o))
					continue;
				snprintf(c.name, sizeof(c.name), "%s/%s/%s", features[f].name,
					 bases[b].name, o->name);
				c.seed = hash(c.name) + (seed ? strtoul(seed, NULL, 10) * 7919 : 0);
				if (only ? strncmp(c.name, only, strlen(only))
					 : !all && !in_quick(c.name) &&
						    (!some || hash(c.name) % 5))
					continue;
				n++;
				if (run(&c)) {
					failed++;
					printf("# again: %sbuild/tests/img/matrix %s\nnot ",
					       seed ? "SEED=... " : "", c.name);
				}
				printf("ok %u - %s\n", n, c.name);
				fflush(stdout);
			}
	printf("1..%u\n", n);
	return failed || !n;
}
