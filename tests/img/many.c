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

TAP_MAIN
