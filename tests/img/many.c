/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * many.c: images with many of whatever their format may have many of: extents, snapshots, bitmaps,
 * L1 tables of many clusters, refcount blocks and tables of many clusters, layers. Written,
 * committed, converted and checked beside a raw model; qemu-img judges.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "disk/node.h"
#include "tests/lib/imgtest.h"
#include "tests/tap.h"

static struct blk *open_blk(const char *name, const char *format)
{
	struct blk_options o = { .format = format, .flags = BLK_RDWR };
	struct err err = { "" };
	struct blk *b = blk_open(name, &o, &err);

	if (!b)
		tap_fail(__FILE__, __LINE__, "%s: %s", name, err.msg);
	return b;
}

/*
 * The same writes, zeroes and reads on an image and on a raw file: around each multiple of
 * `stride`, where one piece ends and the next begins. Everywhere once, then in random order.
 */
static void beside(const char *image, const char *format, const char *raw, uint64_t stride,
		   unsigned seed, unsigned ops)
{
	enum { MOST = 150000 };
	struct blk *b = open_blk(image, format), *m = open_blk(raw, "raw");
	uint64_t s = seed, size = blk_size(m), pieces = (size - 1) / stride + 1;
	uint8_t *buf = malloc(MOST), *want = malloc(MOST);

	CHECK_EQ(blk_size(b), size);
	for (uint64_t i = 0; i < pieces + ops; i++) {
		uint64_t at = (i < pieces ? i : img_random(&s) % pieces) * stride,
			 back = img_random(&s) % (MOST / 2);
		uint64_t off = at < back ? 0 : at - back,
			 len = MIN(1 + img_random(&s) % MOST, size - off);
		unsigned what = i < pieces ? 0 : img_random(&s) % 8;

		if (what < 4) {
			memset(buf, 1 + img_random(&s) % 255, len);
			CHECK_EQ(blk_pwrite(b, buf, len, off, 0), 0);
			CHECK_EQ(blk_pwrite(m, buf, len, off, 0), 0);
		} else if (what == 4) {
			CHECK_EQ(blk_pzero(b, off, len, BLK_UNMAP), 0);
			CHECK_EQ(blk_pzero(m, off, len, BLK_UNMAP), 0);
		} else if (what == 5 && i % 32 == 0) {
			CHECK_EQ(blk_flush(b), 0);
		} else {
			CHECK_EQ(blk_pread(b, buf, len, off), 0);
			CHECK_EQ(blk_pread(m, want, len, off), 0);
			CHECK(!memcmp(buf, want, len));
		}
	}
	CHECK_EQ(blk_close(b), 0);
	CHECK_EQ(blk_close(m), 0);
	free(buf);
	free(want);
}

/* qemu-img, and our own readers, find the image sound and equal to the model. */
static void judged(const char *image, const char *format, const char *raw)
{
	RUN_OK("%%M check -q -f %s %s", format, image);
	RUN_OK("%%M compare -q -f %s -F raw %s %s", format, image, raw);
	if (!img_have("qemu-img"))
		return;
	if (strcmp(format, "vmdk"))
		RUN_OK("qemu-img check -q -f %s %s", format, image);
	RUN_OK("qemu-img compare -q -f %s -F raw %s %s", format, image, raw);
}

/* --- extents --- */

static void extents(const char *subformat, unsigned gigs)
{
	const char *flat = strstr(subformat, "Flat");

	img_enter();
	RUN_OK("truncate -s %uG base.raw over.raw", gigs);
	RUN_OK("%%M create -q -f vmdk -o subformat=%s base.vmdk %uG", subformat, gigs);
	for (int i = 0; i < 2; i++)
		beside("base.vmdk", "vmdk", "base.raw", 2 * GiB, i, 200);
	judged("base.vmdk", "vmdk", "base.raw");
	RUN_OK("%%M convert -O qcow2 base.vmdk copy.qcow2");
	judged("copy.qcow2", "qcow2", "base.raw");
	RUN_OK("%%M convert -O vmdk -o subformat=%s copy.qcow2 copy.vmdk", subformat);
	judged("copy.vmdk", "vmdk", "base.raw");
	RUN_OK("%%M map --output=json base.vmdk | grep -c '\"data\": true' >n; test $(cat n) -ge "
	       "%u",
	       (gigs + 1) / 2);
	if (flat)
		return;
	/* An overlay in as many pieces, committed. */
	RUN_OK("%%M create -q -f vmdk -o subformat=%s -b base.vmdk -F vmdk over.vmdk", subformat);
	RUN_OK("cp --sparse=always base.raw over.raw");
	beside("over.vmdk", "vmdk", "over.raw", 2 * GiB, 7, 200);
	judged("over.vmdk", "vmdk", "over.raw");
	RUN_OK("%%M commit -q over.vmdk");
	judged("base.vmdk", "vmdk", "over.raw");
}

TEST(vmdk_3_sparse_extents) { extents("twoGbMaxExtentSparse", 5); }
TEST(vmdk_60_sparse_extents) { extents("twoGbMaxExtentSparse", 120); }
TEST(vmdk_3_flat_extents) { extents("twoGbMaxExtentFlat", 5); }
TEST(vmdk_60_flat_extents) { extents("twoGbMaxExtentFlat", 120); }

/* Made by qemu-img, of every kind of extent in turn. */
TEST(vmdk_mixed_extents)
{
	img_enter();
	if (!img_have("qemu-img"))
		SKIP("qemu-utils is not installed");
	RUN_OK("qemu-img create -q -f vmdk -o subformat=twoGbMaxExtentSparse s.vmdk 12G");
	RUN_OK("truncate -s 64M flat.bin; truncate -s %lluM m.raw", 6 * 2048ull + 6 * 64);
	/* A flat piece of 64 MiB after each sparse one of 2 GiB. */
	RUN_OK("awk '/^RW/ { print; print \"RW 131072 FLAT \\\"flat\" ++n \".bin\\\" 0\"; next } { "
	       "print }' s.vmdk >m.vmdk");
	RUN_OK("for i in 1 2 3 4 5 6; do cp flat.bin flat$i.bin; done");
	beside("m.vmdk", "vmdk", "m.raw", 2 * GiB, 1, 300);
	beside("m.vmdk", "vmdk", "m.raw", 2 * GiB + 64 * MiB, 2, 300);
	judged("m.vmdk", "vmdk", "m.raw");
}

/* --- small clusters: L1 tables and refcount tables of many clusters --- */

/* The file is at most `most` KiB long. */
#define SHORT(file, most) RUN_OK("test $(stat -c %%s %s) -le %u", file, (most) * 1024u)

TEST(small_clusters_empty)
{
	static const struct { const char *opts, *size; unsigned most;
	} v[] = {
		{ "cluster_size=512", "8G", 2300 },
		{ "cluster_size=1k", "8G", 700 },
		{ "cluster_size=2k", "1T", 17000 },
		{ "cluster_size=4k", "5T", 21000 },
		{ "cluster_size=512", "100G", 35000 },
		{ "cluster_size=512,refcount_bits=1", "8G", 2300 },
		{ "cluster_size=512,refcount_bits=64", "8G", 7000 },
		{ "cluster_size=4k,refcount_bits=64", "5T", 25000 },
		{ "cluster_size=512,compat=0.10", "20G", 9000 },
	};

	img_enter();
	for (unsigned i = 0; i < ARRAY_SIZE(v); i++) {
		RUN_OK("rm -f a.qcow2 a.raw; truncate -s %s a.raw", v[i].size);
		RUN_OK("%%M create -q -f qcow2 -o %s a.qcow2 %s", v[i].opts, v[i].size);
		SHORT("a.qcow2", v[i].most);
		beside("a.qcow2", "qcow2", "a.raw", i % 3 ? 100 * GiB : 3 * GiB + 1234, i, 20);
		judged("a.qcow2", "qcow2", "a.raw");
	}
}

/*
 * The L1 table moves to larger places while there are data, and snapshots if a count of two can be
 * had.
 */
static void grown(unsigned bits)
{
	static const char *const sizes[] = { "1M", "100M", "700M", "3G", "9G" };

	img_enter();
	RUN_OK("%%M create -q -f qcow2 -o cluster_size=512,refcount_bits=%u a.qcow2 64k; truncate "
	       "-s 64k a.raw",
	       bits);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		RUN_OK("%%M resize -q a.qcow2 %s; truncate -s %s a.raw", sizes[i], sizes[i]);
		beside("a.qcow2", "qcow2", "a.raw", i < 2 ? 600000 : 300000000, i, 100);
		if (bits > 1)
			RUN_OK("%%M snapshot -c s%u a.qcow2; cp --sparse=always a.raw s%u.raw", i,
			       i);
		judged("a.qcow2", "qcow2", "a.raw");
	}
	for (unsigned i = 0; i < ARRAY_SIZE(sizes) && bits > 1; i++)
		RUN_OK("%%M convert -l s%u -O raw a.qcow2 b.raw && %%M compare -f raw -F raw b.raw "
		       "s%u.raw",
		       i, i);
	RUN_OK("%%M snapshot -l a.qcow2 | awk 'NR > 2 { print $2 }' | while read s; do %%M "
	       "snapshot -d $s a.qcow2 || exit 1; done");
	judged("a.qcow2", "qcow2", "a.raw");
	RUN_OK("%%M resize -q --shrink a.qcow2 90M; truncate -s 90M a.raw");
	judged("a.qcow2", "qcow2", "a.raw");
}
TEST(small_clusters_grow_rc1) { grown(1); }
TEST(small_clusters_grow_rc16) { grown(16); }
TEST(small_clusters_grow_rc64) { grown(64); }

TEST(small_clusters_preallocated)
{
	static const char *const modes[] = { "metadata", "falloc", "full" };

	img_enter();
	RUN_OK("truncate -s 20M zero.raw; truncate -s 30M more.raw");
	for (unsigned m = 0; m < ARRAY_SIZE(modes); m++) {
		for (unsigned bits = 1; bits <= 64; bits *= 8) {
			RUN_OK("%%M create -q -f qcow2 -o "
			       "cluster_size=512,refcount_bits=%u,preallocation=%s a.qcow2 20M",
			       bits, modes[m]);
			SHORT("a.qcow2", 25 * 1024);
			judged("a.qcow2", "qcow2", "zero.raw");
			RUN_OK("%%M resize -q --preallocation=%s a.qcow2 30M", modes[m]);
			SHORT("a.qcow2", 38 * 1024);
			judged("a.qcow2", "qcow2", "more.raw");
		}
	}
}

/* Converted to, given other counts, its refcount table lost and made anew. */
TEST(small_clusters_convert_amend_rebuild)
{
	img_enter();
	img_pattern("in.raw", 50 * MiB, 3);
	for (unsigned bits = 1; bits <= 64; bits *= 2) {
		RUN_OK("%%M convert -f raw -O qcow2 %s -o cluster_size=512,refcount_bits=%u in.raw "
		       "a.qcow2",
		       bits == 16 ? "-c" : "", bits);
		judged("a.qcow2", "qcow2", "in.raw");
		RUN_OK("%%M amend -o refcount_bits=%u a.qcow2", bits == 64 ? 16 : 64);
		judged("a.qcow2", "qcow2", "in.raw");
		/* The whole refcount table becomes zeros. */
		RUN_OK("o=$(od -A n -t u8 --endian=big -j 48 -N 8 a.qcow2); dd if=/dev/zero "
		       "of=a.qcow2 bs=512 seek=$((o / 512)) count=1 "
		       "conv=notrunc 2>/dev/null");
		RUN_FAILS(2, "%%M check -q a.qcow2");
		RUN_OK("%%M check -q -r all a.qcow2");
		judged("a.qcow2", "qcow2", "in.raw");
		SHORT("a.qcow2", 70 * 1024);
	}
}

/* --- snapshots, bitmaps, layers --- */

TEST(many_snapshots)
{
	img_enter();
	RUN_OK("%%M create -q -f qcow2 -o cluster_size=512 a.qcow2 300M; truncate -s 300M a.raw");
	for (unsigned i = 0; i < 150; i++) {
		if (i % 10 == 0) {
			beside("a.qcow2", "qcow2", "a.raw", 40000000, i, 10);
			RUN_OK("cp --sparse=always a.raw s%u.raw", i);
		}
		RUN_OK("%%M snapshot -c s%u a.qcow2", i);
	}
	judged("a.qcow2", "qcow2", "a.raw");
	for (unsigned i = 0; i < 150; i++)
		if (i % 10)
			RUN_OK("%%M snapshot -d s%u a.qcow2", i);
	judged("a.qcow2", "qcow2", "a.raw");
	for (unsigned i = 0; i < 150; i += 30)
		RUN_OK("%%M snapshot -a s%u a.qcow2 && %%M compare -q -F raw a.qcow2 s%u.raw && "
		       "%%M check -q a.qcow2",
		       i, i);
}

TEST(many_bitmaps)
{
	img_enter();
	RUN_OK("%%M create -q -f qcow2 -o cluster_size=512 a.qcow2 4G; truncate -s 4G a.raw");
	for (unsigned i = 0; i < 60; i++)
		RUN_OK("%%M bitmap --add -g %u a.qcow2 b%u", i % 20 ? 65536 : 4096, i);
	beside("a.qcow2", "qcow2", "a.raw", 500000000, 1, 60);
	judged("a.qcow2", "qcow2", "a.raw");
	RUN_OK("%%M resize -q a.qcow2 6G; truncate -s 6G a.raw");
	beside("a.qcow2", "qcow2", "a.raw", 500000000, 2, 60);
	for (unsigned i = 0; i < 60; i += 3)
		RUN_OK("%%M bitmap --remove a.qcow2 b%u && %%M bitmap --merge b%u a.qcow2 b%u", i,
		       i + 1, i + 2);
	judged("a.qcow2", "qcow2", "a.raw");
	RUN_OK("%%M info a.qcow2 | grep -c 'granularity:' >n; test $(cat n) = 40");
}

static void layers(const char *format, const char *opts)
{
	enum { LAYERS = 50 };
	const char *o = *opts ? "-o" : "";

	img_enter();
	RUN_OK("%%M create -q -f %s %s %s l0 20M; truncate -s 20M a.raw", format, o, opts);
	for (unsigned i = 1; i <= LAYERS; i++) {
		char name[16];

		RUN_OK("%%M create -q -f %s %s %s -b l%u -F %s l%u", format, o, opts, i - 1, format,
		       i);
		snprintf(name, sizeof(name), "l%u", i);
		beside(name, format, "a.raw", 7000000, i, 12);
	}
	judged("l50", format, "a.raw");
	RUN_OK("%%M convert -f %s -O qcow2 l50 flat.qcow2", format);
	judged("flat.qcow2", "qcow2", "a.raw");
	for (unsigned i = LAYERS; i > 40; i--)
		RUN_OK("%%M commit -q -f %s l%u", format, i);
	judged("l40", format, "a.raw");
	if (strcmp(format, "qcow2"))
		return;
	RUN_OK("%%M commit -q -b l3 l40");
	judged("l3", format, "a.raw");
}
TEST(chain_of_50_qcow2) { layers("qcow2", "cluster_size=4k"); }
TEST(chain_of_50_vmdk) { layers("vmdk", ""); }

TAP_MAIN
