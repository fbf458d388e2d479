/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bounds.c: what one request may cost the host: a guest of a few megabytes can name the same page a
 * thousand times, and the disk must not hold a copy of it all. Data first: requests that go through
 * the bounce buffer in several pieces, at odd places, against a copy in memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include "disk/node.h"
#include "tests/tap.h"
#include "vmm/base/limits.h"

#define DISK (8 * MiB)

static char folder[] = "/tmp/minivmm-bounds-XXXXXX";

static void run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void run(const char *fmt, ...)
{
	char cmd[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	if (system(cmd))
		tap_fail(__FILE__, __LINE__, "%s", cmd);
}

static struct blk *encrypted(const char *format, const char *options, uint64_t size)
{
	const char *build = getenv("BUILD") ? getenv("BUILD") : "build";
	struct blk_options o = { .flags = BLK_RDWR, .host = &host_direct };
	char secret[64], lib[PATH_MAX];
	static char image[64];
	struct err err = { "" };
	struct blk *b;

	CHECK(realpath(build, lib));
	setenv("MINIVMM_LIBDIR", lib, 1);
	CHECK(mkdtemp(folder));
	snprintf(secret, sizeof(secret), "%s/secret", folder);
	snprintf(image, sizeof(image), "%s/image", folder);
	run("printf open >%s; %s/minivmm-img create -q -f %s --object secret,id=s,file=%s "
	    "-o %s %s %llu",
	    secret, build, format, secret, options, image, (unsigned long long)size);
	o.secret_file = secret;
	b = blk_open(image, &o, &err);
	if (!b)
		tap_fail(__FILE__, __LINE__, "%s", err.msg);
	return b;
}

static void over(struct blk *b)
{
	CHECK_EQ(blk_close(b), 0);
	run("rm -r %s", folder);
}

static void equals_the_model(const char *format, const char *options)
{
	struct blk *b = encrypted(format, options, DISK);
	uint8_t *model = xcalloc(1, DISK), *got = xcalloc(1, DISK);
	unsigned seed = 7;

	CHECK_EQ(blk_pwrite(b, model, DISK, 0, 0), 0);
	for (int i = 0; i < 30; i++) {
		uint64_t off = rand_r(&seed) % DISK, len = rand_r(&seed) % (DISK - off) + 1;

		if (i % 3 == 0) {		/* around the ends of pieces */
			off = (rand_r(&seed) % 6) * BOUNCE_BYTES + rand_r(&seed) % 3 - (off != 0);
			off %= DISK - 2 * BOUNCE_BYTES;
			len = BOUNCE_BYTES + rand_r(&seed) % 1026 - 513;
		}
		for (uint64_t k = 0; k < len; k++)
			model[off + k] = (uint8_t)(k * 31 + i + (k >> 9));
		CHECK_EQ(blk_pwrite(b, model + off, len, off, 0), 0);
		off = rand_r(&seed) % DISK;
		len = rand_r(&seed) % (DISK - off) + 1;
		CHECK_EQ(blk_pread(b, got, len, off), 0);
		CHECK(!memcmp(got, model + off, len));
	}
	CHECK_EQ(blk_pread(b, got, DISK, 0), 0);
	CHECK(!memcmp(got, model, DISK));
	free(model);
	free(got);
	over(b);
}

TEST(luks_equals_the_model)
{
	equals_the_model("luks", "key-secret=s,iter-time=10");
}

TEST(encrypted_qcow2_equals_the_model)
{
	equals_the_model("qcow2",
			 "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10");
}

static long peak_kib(void)
{
	char line[200];
	long v = 0;
	FILE *f = fopen("/proc/self/status", "re");

	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, "VmHWM:", 6))
			v = atol(line + 6);
	fclose(f);
	return v;
}

static bool finished;
static int result;

static void done(struct blk_req *r)
{
	result = r->ret;
	finished = true;
}

/* A request of 256 MiB over the same megabyte of memory, again and again. */
static void costs_little(const char *format, const char *options)
{
	enum { N = 256 };
	struct blk *b = encrypted(format, options, N * MiB);
	struct loop *loop = loop_new("t");
	struct blk_queue *q = blk_queue_new(b, loop);
	static struct iovec iov[N];
	uint8_t *page = xcalloc(1, MiB);
	long before;

	for (int i = 0; i < N; i++)
		iov[i] = (struct iovec){ page, MiB };
	for (int write = 0; write < 2; write++) {
		struct blk_req r = { .op = write ? BLK_WRITE : BLK_READ, .len = N * MiB,
				     .iov = iov, .niov = N, .done = done };

		before = peak_kib();
		finished = false;
		loop_lock(loop);
		blk_submit(q, &r);
		loop_unlock(loop);
		while (!finished)
			loop_once(loop, 100);
		CHECK_EQ(result, 0);
		printf("# %s: %ld KiB more\n", write ? "write" : "read", peak_kib() - before);
		CHECK(peak_kib() - before < 64 * 1024);
	}
	loop_lock(loop);
	blk_queue_free(q);
	loop_unlock(loop);
	loop_free(loop);
	free(page);
	over(b);
}

TEST(luks_costs_little) { costs_little("luks", "key-secret=s,iter-time=10"); }
TEST(encrypted_qcow2_costs_little)
{
	costs_little("qcow2", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10");
}

TAP_MAIN
