/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * oracle.c: raw is the oracle. Random writes, reads, zeroes, discards and flushes by several
 * threads, each in stripes of its own, on an image and on memory at once; compared all along, after
 * reopening, and by qemu-img (check and the content).
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#include "disk/node.h"
#include "tests/tap.h"
#include "vmm/base/iov.h"

/* stripes of any alignment: threads share clusters */
enum { SIZE = 6 << 20, THREADS = 4, STRIPE = 3000 };

static char dir[64], image[128], base[128], rawcopy[128];

static void setup(void)
{
	strcpy(dir, "/tmp/minivmm-oracle-XXXXXX");
	CHECK(mkdtemp(dir) && chdir(dir) == 0);
	snprintf(image, sizeof(image), "%s/disk.img", dir);
	snprintf(base, sizeof(base), "%s/base.img", dir);
	snprintf(rawcopy, sizeof(rawcopy), "%s/copy.raw", dir);
}

static void cleanup(void)
{
	char cmd[200];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	CHECK(system(cmd) == 0);
}

static void create(const char *path, const char *format, uint64_t size, const char *const *opts,
		   const char *backing)
{
	struct node_create c = { .filename = path,
				 .size = size,
				 .opts = opts,
				 .backing = backing,
				 .backing_format = backing ? "raw" : NULL };
	struct err err = { "" };

	if (node_create(format, &c, &err))
		tap_fail(__FILE__, __LINE__, "create %s: %s", format, err.msg);
}

static struct blk *open_image(const char *format, unsigned flags)
{
	struct blk_options o = { .format = format, .flags = flags, .l2_cache_size = 256 << 10 };
	struct err err = { "" };
	struct blk *b = blk_open(image, &o, &err);

	if (!b)
		tap_fail(__FILE__, __LINE__, "open: %s", err.msg);
	return b;
}

struct worker { struct blk *b; uint8_t *model; unsigned n, seed, ops; pthread_t thread; };

static void *work(void *arg)
{
	struct worker *w = arg;
	uint8_t *buf = malloc(STRIPE);
	unsigned seed = w->seed;

	for (unsigned i = 0; i < w->ops; i++) {
		uint64_t stripe = (uint64_t)(rand_r(&seed) % (SIZE / STRIPE / THREADS)) * THREADS +
				  w->n;
		uint64_t off = stripe * STRIPE + rand_r(&seed) % STRIPE,
			 end = (stripe + 1) * STRIPE;
		uint64_t len = 1 + rand_r(&seed) % (end - off);

		if (rand_r(&seed) % 3 == 0) {
			off = stripe * STRIPE;
			len = STRIPE;
		}
		switch (rand_r(&seed) % 8) {
		case 0: case 1: case 2: case 3:
			for (uint64_t k = 0; k < len; k++)
				buf[k] = rand_r(&seed) >> 8;
			CHECK_EQ(blk_pwrite(w->b, buf, len, off, 0), 0);
			memcpy(w->model + off, buf, len);
			break;
		case 4:
			CHECK_EQ(blk_pzero(w->b, off, len, rand_r(&seed) & 1 ? BLK_UNMAP : 0), 0);
			memset(w->model + off, 0, len);
			break;
		case 5:
			if (rand_r(&seed) % 16 == 0)
				CHECK_EQ(blk_flush(w->b), 0);
			break;
		default:
			CHECK_EQ(blk_pread(w->b, buf, len, off), 0);
			if (memcmp(buf, w->model + off, len)) {
				uint64_t k = 0;

				while (buf[k] == w->model[off + k])
					k++;
				tap_fail(__FILE__, __LINE__,
					 "thread %u, operation %u: byte %llu is %02x, not %02x",
					 w->n, i, (unsigned long long)(off + k), buf[k],
					 w->model[off + k]);
			}
		}
	}
	free(buf);
	return NULL;
}

/* Large requests by one thread: many clusters at once. */
static void big_ops(struct blk *b, uint8_t *model, unsigned seed, unsigned ops)
{
	uint8_t *buf = malloc(SIZE);

	for (unsigned i = 0; i < ops; i++) {
		uint64_t off = rand_r(&seed) % SIZE,
			 len = 1 + rand_r(&seed) % MIN(SIZE - off, 2000000ull);

		switch (rand_r(&seed) % 5) {
		case 0: case 1:
			memset(buf, rand_r(&seed) >> 8, len);
			CHECK_EQ(blk_pwrite(b, buf, len, off, 0), 0);
			memcpy(model + off, buf, len);
			break;
		case 2:
			CHECK_EQ(blk_pzero(b, off, len, i & 1 ? BLK_UNMAP : 0), 0);
			memset(model + off, 0, len);
			break;
		case 3:
			CHECK_EQ(blk_pdiscard(b, off, len), 0);
			/* What a discarded range reads as is the image's business: take it over. */
			CHECK_EQ(blk_pread(b, model + off, len, off), 0);
			break;
		default:
			CHECK_EQ(blk_pread(b, buf, len, off), 0);
			CHECK(!memcmp(buf, model + off, len));
		}
	}
	free(buf);
}

static void judge(const char *format, const uint8_t *model)
{
	char cmd[1200];
	int fd;

	if (strcmp(format, "raw") && access("/usr/bin/qemu-img", X_OK) == 0) {
		fd = open(rawcopy, O_RDWR | O_CREAT | O_TRUNC, 0600);
		CHECK(write(fd, model, SIZE) == SIZE);
		close(fd);
		snprintf(cmd, sizeof(cmd),
			 "(qemu-img check -q -f %s %s; [ $? = 0 -o $? = 63 ] && qemu-img compare "
			 "-q -f %s -F raw %s %s) "
			 ">%s/log 2>&1 || "
			 "{ cat %s/log; qemu-img check -f %s %s | head -20; exit 1; }",
			 format, image, format, image, rawcopy, dir, dir, format, image);
		if (system(cmd))
			tap_fail(__FILE__, __LINE__, "qemu-img finds fault with the image");
	}
}

/*
 * Made by qemu-img out of the same content as the model's; by is its command, up to the file names.
 */
static void made_by_qemu(const char *by, uint8_t *model)
{
	char cmd[700];
	unsigned seed = 5;
	int fd;

	if (access("/usr/bin/qemu-img", X_OK)) {
		cleanup();
		SKIP("qemu-utils is not installed");
	}
	for (int i = 0; i < SIZE; i++)
		model[i] = i % 200000 < 120000 ? (i / 64) ^ (i % 16 ? 0 : rand_r(&seed)) : 0;
	fd = open(rawcopy, O_RDWR | O_CREAT | O_TRUNC, 0600);
	CHECK(write(fd, model, SIZE) == SIZE);
	close(fd);
	snprintf(cmd, sizeof(cmd), "cd %s && qemu-img convert -q -f raw %s %s %s", dir, by, rawcopy,
		 image);
	CHECK(system(cmd) == 0);
}

static void oracle(const char *format, const char *const *opts, bool backing)
{
	uint8_t *model = calloc(1, SIZE), *back = malloc(SIZE);
	struct worker w[THREADS];
	struct blk *b;

	setup();
	if (backing) {
		int fd = open(base, O_RDWR | O_CREAT, 0600);

		/* Shorter than the disk, and not aligned. */
		for (int i = 0; i < SIZE / 2 + 12345; i++)
			model[i] = i * 7 + i / 4096;
		memset(model + 500000, 0, 300000);
		CHECK(write(fd, model, SIZE / 2 + 12345) == SIZE / 2 + 12345);
		close(fd);
	}
	if (opts[0] && opts[0][0] == '-')
		made_by_qemu(opts[0], model);
	else
		create(image, format, SIZE, opts, backing ? base : NULL);
	for (int round = 0; round < 4; round++) {
		b = open_image(format, BLK_RDWR | (round & 1 ? BLK_DISCARD_UNMAP : 0) |
					       (round == 2 ? BLK_NOCACHE : 0));
		for (int i = 0; i < THREADS; i++) {
			w[i] = (struct worker){
				.b = b, .model = model, .n = i, .seed = round * 100 + i, .ops = 600
			};
			pthread_create(&w[i].thread, NULL, work, &w[i]);
		}
		for (int i = 0; i < THREADS; i++)
			pthread_join(w[i].thread, NULL);
		big_ops(b, model, round + 1, 40);
		CHECK_EQ(blk_pread(b, back, SIZE, 0), 0);
		CHECK(!memcmp(back, model, SIZE));
		CHECK_EQ(blk_close(b), 0);
		judge(format, model);
		if (opts[0] && opts[1] && !strcmp(opts[1], "data_file_raw=on")) {
			char cmd[300];

			snprintf(cmd, sizeof(cmd), "cmp %s/data %s", dir, rawcopy);
			if (system(cmd))
				tap_fail(__FILE__, __LINE__, "the data file is not the disk");
		}
	}
	b = open_image(format, 0);
	CHECK_EQ(blk_pread(b, back, SIZE, 0), 0);
	CHECK(!memcmp(back, model, SIZE));
	blk_close(b);
	cleanup();
	free(model);
	free(back);
}

#define ORACLE(name, format, backing, ...)                                                         \
	TEST(name)                                                                                 \
	{                                                                                          \
		oracle(format, (const char *const[]){ __VA_ARGS__ __VA_OPT__(, ) NULL }, backing); \
	}
ORACLE(raw, "raw", false)
ORACLE(qcow2, "qcow2", false)
ORACLE(qcow2_v2, "qcow2", false, "compat=0.10")
ORACLE(qcow2_backing, "qcow2", true)
ORACLE(qcow2_v2_backing, "qcow2", true, "compat=0.10")
ORACLE(qcow2_512, "qcow2", true, "cluster_size=512")
ORACLE(qcow2_4k, "qcow2", true, "cluster_size=4k")
ORACLE(qcow2_2m, "qcow2", true, "cluster_size=2M")
ORACLE(qcow2_rc1, "qcow2", false, "refcount_bits=1", "cluster_size=1k")
ORACLE(qcow2_rc64, "qcow2", true, "refcount_bits=64", "cluster_size=512")
ORACLE(qcow2_extl2, "qcow2", false, "extended_l2=on")
ORACLE(qcow2_extl2_backing, "qcow2", true, "extended_l2=on", "cluster_size=16k")
ORACLE(qcow2_prealloc, "qcow2", false, "preallocation=metadata")
ORACLE(qcow2_full, "qcow2", false, "preallocation=full", "cluster_size=4k")
ORACLE(qcow2_data_file, "qcow2", true, "data_file=data")
ORACLE(qcow2_data_file_raw, "qcow2", false, "data_file=data", "data_file_raw=on")
ORACLE(qcow2_of_qemu, "qcow2", false, "-O qcow2 -c")
ORACLE(qcow2_of_qemu_zstd, "qcow2", false, "-O qcow2 -c -o compression_type=zstd,cluster_size=16k")
ORACLE(qcow2_of_qemu_v2, "qcow2", false, "-O qcow2 -c -o compat=0.10,cluster_size=4k")
ORACLE(qcow2_of_qemu_extl2, "qcow2", false,
       "-O qcow2 -o extended_l2=on,lazy_refcounts=on,refcount_bits=8")
ORACLE(qcow2_of_qemu_data, "qcow2", false, "-O qcow2 -o data_file=data,data_file_raw=on")
ORACLE(qcow1, "qcow", false)
ORACLE(qcow1_backing, "qcow", true)
ORACLE(qcow1_of_qemu, "qcow", false, "-O qcow")
ORACLE(qed, "qed", false)
ORACLE(qed_backing, "qed", true)
ORACLE(qed_small, "qed", true, "cluster_size=4k", "table_size=2")
ORACLE(qed_large, "qed", false, "cluster_size=1M", "table_size=16")
ORACLE(qed_of_qemu, "qed", false, "-O qed -o cluster_size=8k,table_size=2")
ORACLE(parallels, "parallels", false)
ORACLE(parallels_small, "parallels", false, "cluster_size=4k")
ORACLE(parallels_odd, "parallels", false, "cluster_size=1536")
ORACLE(parallels_of_qemu, "parallels", false, "-O parallels -o cluster_size=64k")
ORACLE(vdi, "vdi", false)

TAP_MAIN
