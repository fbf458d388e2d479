/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * check.c: what `minivmm-img check` says about large, broken and mended images, how many lines it
 * takes, and how much memory.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "disk/node.h"
#include "tests/lib/imgtest.h"
#include "tests/tap.h"

static uint64_t word_get(int fd, uint64_t off)
{
	uint8_t b[8];

	CHECK(pread(fd, b, 8, off) == 8);
	return ld_be64(b);
}

static void word_put(int fd, uint64_t off, uint64_t v)
{
	uint8_t b[8];

	st_be64(b, v);
	CHECK(pwrite(fd, b, 8, off) == 8);
}

/* Where the header says that a table lies: 40 the L1 table, 48 the refcount table. */
enum { L1 = 40, REFTABLE = 48 };
#define OFFSET 0x00fffffffffffe00ull
#define COPIED (1ull << 63)

static unsigned lines_of(const char *text)
{
	unsigned n = 0;

	while ((text = strchr(text, '\n'))) {
		n++;
		text++;
	}
	return n;
}

/* Tells little, knows the number, and finds nothing once it has mended. */
static void told_and_mended(int status, const char *errors)
{
	struct img_result *r = RUN_FAILS(status, "%%M check a.qcow2");
	const char *again;

	CHECK(strstr(r->out, errors));
	CHECK(lines_of(r->out) < 250);
	r = RUN_OK("%%M check -r all a.qcow2");
	CHECK(lines_of(r->out) < 250);
	again = strstr(r->out, "Double checking the fixed image now...\n");
	CHECK(again && strstr(again, "\nNo errors were found on the image.\n"));
	CHECK(!strstr(again, " errors were found on the image.\nData"));
	CHECK(!strstr(again, " leaked clusters were found"));
	RUN_OK("%%M check a.qcow2");
	if (img_have("qemu-img"))
		RUN_OK("qemu-img check -q a.qcow2");
	r = RUN_OK("%%M check --output=json -r all a.qcow2");
	CHECK(!strstr(r->out, "corruptions") && !strstr(r->out, "leaks"));
}

/* One wrong byte in the refcount table: all that a block counted have no count. */
TEST(lost_refcount_block)
{
	int fd;

	img_enter();
	RUN_OK("%%M create -q -f qcow2 -o cluster_size=4k,preallocation=metadata a.qcow2 1G");
	fd = open("a.qcow2", O_RDWR);
	word_put(fd, word_get(fd, REFTABLE) + 16, 0);
	close(fd);
	told_and_mended(2, "ERROR cluster ...: 1947 more of this kind\n");
}

/* One wrong byte in the L1 table: all that an L2 table named is leaked. */
TEST(lost_l2_table)
{
	int fd;

	img_enter();
	RUN_OK("%%M create -q -f qcow2 -o cluster_size=64k,preallocation=metadata a.qcow2 1G");
	fd = open("a.qcow2", O_RDWR);
	word_put(fd, word_get(fd, L1), 0);
	close(fd);
	told_and_mended(3, "Leaked cluster ...: 8093 more of this kind\n");
}

/* The mark "only one refers to it" is gone from each entry of a table. */
TEST(lost_copied_marks)
{
	uint64_t l2;
	int fd;

	img_enter();
	RUN_OK("%%M create -q -f qcow2 -o preallocation=metadata a.qcow2 32M");
	fd = open("a.qcow2", O_RDWR);
	l2 = word_get(fd, word_get(fd, L1)) & OFFSET;
	for (int i = 0; i < 512; i++)
		word_put(fd, l2 + i * 8, word_get(fd, l2 + i * 8) & ~COPIED);
	close(fd);
	told_and_mended(2, "ERROR OFLAG_COPIED ...: 412 more of this kind\n");
}

/* Every entry wrong in the same way, in a format that is not qcow2. */
TEST(vdi_blocks_beyond_the_end)
{
	struct img_result *r;
	uint8_t b[4];
	int fd;

	img_enter();
	RUN_OK("%%M create -q -f vdi a.vdi 2G");
	fd = open("a.vdi", O_RDWR);
	CHECK(pread(fd, b, 4, 0x154) == 4);
	for (uint32_t i = 0, map = ld_le32(b); i < 2048; i++) {
		st_le32(b, 100000 + i);
		CHECK(pwrite(fd, b, 4, map + i * 4) == 4);
	}
	close(fd);
	r = RUN_FAILS(2, "%%M check -f vdi a.vdi");
	CHECK(lines_of(r->out) < 250 && strstr(r->out, " more of this kind\n"));
}

/* More clusters than any fixed number of counters; the memory is in proportion. */
TEST(many_clusters_are_sound)
{
	struct img_result *r;

	img_enter();
	if (img_sanitized())
		SKIP("too large for a sanitizer");
	RUN_OK("%%M create -q -f qcow2 -o cluster_size=4k,refcount_bits=8,preallocation=metadata "
	       "a.qcow2 135G");
	r = RUN_OK("%%M check a.qcow2");
	CHECK(strstr(r->out, "No errors were found on the image.\n"
			     "35389440/35389440 = 100.00% allocated"));
	CHECK(r->max_rss < 200 << 10);
}

/* A hostile file: 13 MB of entries that point here and there into a hole of terabytes. */
TEST(scattered_clusters_cost_in_proportion)
{
	struct img_result *r;
	uint64_t l1, at;
	uint8_t *t = malloc(65536);
	int fd;

	img_enter();
	if (img_sanitized())
		SKIP("measures memory");
	RUN_OK("%%M create -q -f qcow2 -o preallocation=metadata a.qcow2 100G");
	fd = open("a.qcow2", O_RDWR);
	l1 = word_get(fd, L1);
	at = lseek(fd, 0, SEEK_END);
	for (int i = 0; i < 200; i++) {
		for (int e = 0; e < 8192; e++, at += 33 * 65536)
			st_be64(t + e * 8, at | COPIED);
		CHECK(pwrite(fd, t, 65536, word_get(fd, l1 + i * 8) & OFFSET) == 65536);
	}
	if (ftruncate(fd, at))
		SKIP("no files of terabytes here");
	close(fd);
	r = RUN_FAILS(2, "%%M check a.qcow2");
	CHECK(lines_of(r->out) < 500);
	CHECK(r->max_rss < 256 << 10);
	free(t);
}

TAP_MAIN
