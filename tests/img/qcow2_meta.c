/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2_meta.c: what changes a qcow2 image as a whole: snapshots, VM state, resizing, repair,
 * amend, commit's emptying; each step judged by qemu-img where it is installed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>

#include "disk/node.h"
#include "tests/tap.h"

static char dir[64], image[128], base[128], judge_args[600];

static void setup(void)
{
	strcpy(dir, "/tmp/minivmm-meta-XXXXXX");
	CHECK(mkdtemp(dir));
	snprintf(image, sizeof(image), "%s/disk.qcow2", dir);
	snprintf(base, sizeof(base), "%s/base.raw", dir);
}

static int sh(const char *fmt, ...)
{
	char cmd[1000];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	return system(cmd);
}

static void cleanup(void) { CHECK(sh("rm -rf %s", dir) == 0); }

static void judge(void)
{
	if (access("/usr/bin/qemu-img", X_OK))
		return;
	if (sh("qemu-img check -U %s >%s/log 2>&1", judge_args[0] ? judge_args : image, dir)) {
		sh("head -20 %s/log", dir);
		tap_fail(__FILE__, __LINE__, "qemu-img check finds fault");
	}
}

static void create(const char *opt, uint64_t size)
{
	const char *opts[] = { opt, NULL };
	struct node_create c = { .filename = image, .size = size, .opts = opts };
	struct err err = { "" };

	if (node_create("qcow2", &c, &err))
		tap_fail(__FILE__, __LINE__, "create: %s", err.msg);
}

static struct node *open_node(unsigned flags)
{
	struct blk_options o = { .format = "qcow2", .flags = flags };
	struct err err = { "" };
	struct node *n = node_open(image, &o, &err);

	if (!n)
		tap_fail(__FILE__, __LINE__, "open: %s", err.msg);
	return n;
}

#define OK(call)                                                                                   \
	do {                                                                                       \
		struct err err = { "" };                                                           \
		int r_ = call;                                                                     \
		if (r_)                                                                            \
			tap_fail(__FILE__, __LINE__, "%s: %d: %s", #call, r_, err.msg);            \
	} while (0)

static void fill(struct node *n, uint64_t off, uint64_t len, int c)
{
	char *b = malloc(len);

	memset(b, c, len);
	CHECK_EQ(node_pwrite(n, b, len, off), 0);
	free(b);
}

static void expect(struct node *n, uint64_t off, uint64_t len, int c)
{
	char *b = malloc(len);

	CHECK_EQ(node_pread(n, b, len, off), 0);
	for (uint64_t i = 0; i < len; i++)
		if (b[i] != (char)c)
			tap_fail(__FILE__, __LINE__, "byte %llu is %02x, not %02x",
				 (unsigned long long)(off + i), (unsigned char)b[i], c);
	free(b);
}

static void snapshots(const char *opt)
{
	struct node_snapshot one = { .name = "one", .date_sec = 1000 },
			     two = { .name = "two", .date_sec = 2000 }, *list;
	struct node *n;
	int count;

	setup();
	create(opt, 8 << 20);
	n = open_node(BLK_RDWR);
	fill(n, 0, 3 << 20, 'a');
	OK(n->ops->snapshot_create(n, &one, &err));
	judge();
	fill(n, 100000, 1 << 20, 'b');
	fill(n, 5 << 20, 4096, 'c');
	OK(n->ops->snapshot_create(n, &two, &err));
	CHECK_EQ(node_zeroes(n, 0, 1 << 20, BLK_UNMAP), 0);
	expect(n, 0, 1 << 20, 0);
	OK(node_flush(n));
	OK(node_flush(n));	/* the second one writes the counts that fell */
	judge();
	OK(n->ops->snapshot_goto(n, "one", &err));
	expect(n, 0, 3 << 20, 'a');
	expect(n, 5 << 20, 4096, 0);
	judge();
	fill(n, 0, 70000, 'd');
	node_unref(n);
	judge();
	n = open_node(BLK_RDWR);
	OK(n->ops->snapshot_goto(n, "2", &err));
	expect(n, 0, 100000, 'a');
	expect(n, 100000, 1 << 20, 'b');
	expect(n, 5 << 20, 4096, 'c');
	CHECK_EQ(n->ops->snapshot_list(n, &list, &count), 0);
	CHECK_EQ(count, 2);
	CHECK(!strcmp(list[0].id, "1") && !strcmp(list[1].name, "two") && list[1].date_sec == 2000);
	free(list);
	OK(n->ops->snapshot_delete(n, "one", &err));
	judge();
	CHECK(n->ops->snapshot_delete(n, "one", NULL) == -ENOENT);
	fill(n, 0, 3 << 20, 'e');
	OK(node_flush(n));
	OK(node_flush(n));	/* the second one writes the counts that fell */
	judge();
	OK(n->ops->snapshot_delete(n, "two", &err));
	expect(n, 0, 3 << 20, 'e');
	node_unref(n);
	judge();
	cleanup();
}
TEST(snapshots_default) { snapshots("cluster_size=65536"); }
TEST(snapshots_512) { snapshots("cluster_size=512"); }
TEST(snapshots_v2) { snapshots("compat=0.10"); }
TEST(snapshots_extl2) { snapshots("extended_l2=on"); }
TEST(snapshots_rc4) { snapshots("refcount_bits=4"); }

TEST(snapshot_that_the_counts_cannot_hold)
{
	struct node_snapshot one = { .name = "one" };
	struct node *n;

	setup();
	create("refcount_bits=1", 8 << 20);
	n = open_node(BLK_RDWR);
	fill(n, 0, 1 << 20, 'a');
	CHECK(n->ops->snapshot_create(n, &one, NULL) < 0);
	expect(n, 0, 1 << 20, 'a');
	fill(n, 1 << 20, 1 << 20, 'b');
	node_unref(n);
	judge();
	n = open_node(0);
	expect(n, 0, 1 << 20, 'a');
	expect(n, 1 << 20, 1 << 20, 'b');
	node_unref(n);
	cleanup();
}

TEST(vm_state)
{
	struct node_snapshot s = { .name = "run" };
	struct node *n;
	char *b = malloc(3 << 20), *r = malloc(3 << 20);

	setup();
	create("cluster_size=64k", 8 << 20);
	for (int i = 0; i < 3 << 20; i++)
		b[i] = i * 31 + i / 999;
	n = open_node(BLK_RDWR);
	fill(n, (8 << 20) - 512, 512, 'z');
	CHECK_EQ(n->ops->vmstate_write(n, b, 3 << 20, 0), 0);
	CHECK_EQ(n->ops->vmstate_read(n, r, 3 << 20, 0), 0);
	CHECK(!memcmp(b, r, 3 << 20));
	s.vm_state_size = 3 << 20;
	OK(n->ops->snapshot_create(n, &s, &err));
	judge();
	CHECK_EQ(n->ops->vmstate_read(n, r, 4096, 0), 0);
	CHECK(memcmp(b, r, 4096));		/* the snapshot's now */
	OK(n->ops->snapshot_goto(n, "run", &err));
	CHECK_EQ(n->ops->vmstate_read(n, r, 3 << 20, 0), 0);
	CHECK(!memcmp(b, r, 3 << 20));
	node_unref(n);
	judge();
	n = open_node(0);
	OK(n->ops->snapshot_load_tmp(n, "run", &err));
	expect(n, (8 << 20) - 512, 512, 'z');
	node_unref(n);
	free(b);
	free(r);
	cleanup();
}

TEST(resizing)
{
	struct node *n;

	setup();
	create("cluster_size=4k", 1000448);
	n = open_node(BLK_RDWR);
	fill(n, 0, 1000448, 'a');
	OK(node_resize(n, 40 << 20, &err));
	expect(n, 0, 1000448, 'a');
	expect(n, 1000448, 100000, 0);
	fill(n, (40 << 20) - 512, 512, 'b');
	node_unref(n);
	judge();
	n = open_node(BLK_RDWR);
	OK(node_resize(n, 500224, &err));
	expect(n, 0, 500224, 'a');
	OK(node_resize(n, 30 << 20, &err));
	expect(n, 500224, 1 << 20, 0);
	node_unref(n);
	judge();
	cleanup();
}

TEST(preallocations)
{
	static const char *const modes[] = { "preallocation=metadata", "preallocation=falloc",
					     "preallocation=full" };

	for (int i = 0; i < 3; i++) {
		struct node *n;

		setup();
		create(modes[i], 20 << 20);
		judge();
		n = open_node(BLK_RDWR);
		expect(n, 0, 20 << 20, 0);
		fill(n, 12345, 99999, 'x');
		expect(n, 12345, 99999, 'x');
		node_unref(n);
		judge();
		cleanup();
	}
}

/* Break counts by hand; both repairs and qemu-img's opinion of them. */
static void put(uint64_t off, const void *p, size_t len)
{
	int fd = open(image, O_RDWR);

	CHECK(pwrite(fd, p, len, off) == (ssize_t)len);
	close(fd);
}

static void repair_case(unsigned fix, uint64_t off, const void *p, size_t len, bool leak)
{
	struct node_check c = { 0 };
	struct node *n;

	setup();
	create("cluster_size=64k", 8 << 20);
	n = open_node(BLK_RDWR);
	fill(n, 0, 1 << 20, 'a');
	node_unref(n);
	put(off, p, len);
	n = open_node(BLK_CHECK);
	CHECK_EQ(n->ops->check(n, &c, 0), 0);
	CHECK(leak ? c.leaks && !c.corruptions : c.corruptions);
	node_unref(n);
	memset(&c, 0, sizeof(c));
	n = open_node(BLK_CHECK | BLK_RDWR);
	OK(n->ops->check(n, &c, fix));
	CHECK_EQ(c.leaks + c.corruptions, c.leaks_fixed + c.corruptions_fixed);
	node_unref(n);
	memset(&c, 0, sizeof(c));
	n = open_node(BLK_RDWR);
	OK(n->ops->check(n, &c, 0));
	CHECK_EQ(c.leaks + c.corruptions + c.check_errors, 0);
	expect(n, 0, 1 << 20, 'a');
	fill(n, 1 << 20, 1 << 20, 'b');
	node_unref(n);
	judge();
	cleanup();
}
static const uint8_t one[2] = { 0, 1 }, two[2] = { 0, 2 }, none[2] = { 0, 0 }, zero_block[65536],
		     wild[8] = { 0, 0, 0, 0x7f, 0, 0, 2, 0 };
TEST(repair_leak) { repair_case(CHECK_FIX_LEAKS, 2 * 65536 + 100 * 2, one, 2, true); }
TEST(repair_count_too_high)
{
	repair_case(CHECK_FIX_LEAKS | CHECK_FIX_ERRORS, 2 * 65536 + 6 * 2, two, 2, true);
}
TEST(repair_count_too_low) { repair_case(CHECK_FIX_ERRORS, 2 * 65536 + 6 * 2, none, 2, false); }
TEST(repair_no_counts) { repair_case(CHECK_FIX_ERRORS, 2 * 65536, zero_block, 65536, false); }
TEST(repair_reftable) { repair_case(CHECK_FIX_ERRORS, 65536, zero_block, 8, false); }
TEST(repair_wild_reftable)
{
	repair_case(CHECK_FIX_ERRORS | CHECK_FIX_LEAKS, 65536, wild, 8, false);
}

TEST(dirty_image_is_mended_at_open)
{
	uint8_t dirty[8] = { 0, 0, 0, 0, 0, 0, 0, 1 };
	struct node *n;

	setup();
	create("lazy_refcounts=on", 8 << 20);
	n = open_node(BLK_RDWR);
	fill(n, 0, 1 << 20, 'a');
	node_unref(n);
	put(72, dirty, 8);
	put(2 * 65536, zero_block, 65536);
	n = open_node(BLK_RDWR);
	fill(n, 1 << 20, 1 << 20, 'b');
	expect(n, 0, 1 << 20, 'a');
	node_unref(n);
	judge();
	cleanup();
}

TEST(amend)
{
	struct node *n;

	setup();
	create("cluster_size=64k", 8 << 20);
	n = open_node(BLK_RDWR);
	fill(n, 0, 1 << 20, 'a');
	CHECK_EQ(node_zeroes(n, 0, 128 << 10, BLK_UNMAP), 0);
	OK(node_amend(n, (const char *const[]){ "refcount_bits=64", NULL }, false, &err));
	fill(n, 4 << 20, 1 << 20, 'b');
	OK(node_flush(n));
	OK(node_flush(n));	/* the second one writes the counts that fell */
	judge();
	OK(node_amend(n, (const char *const[]){ "refcount_bits=1", NULL }, false, &err));
	judge();
	CHECK(node_amend(n, (const char *const[]){ "compat=0.10", NULL }, false, NULL) < 0);
	OK(node_amend(n, (const char *const[]){ "refcount_bits=16", NULL }, false, &err));
	OK(node_amend(n, (const char *const[]){ "compat=0.10", NULL }, false, &err));
	node_unref(n);
	judge();
	n = open_node(BLK_RDWR);
	expect(n, 0, 128 << 10, 0);
	expect(n, 128 << 10, 800 << 10, 'a');
	OK(node_amend(n,
		      (const char *const[]){ "compat=1.1", "lazy_refcounts=on", "size=16M", NULL },
		      false, &err));
	CHECK_EQ(n->size, 16 << 20);
	expect(n, 4 << 20, 1 << 20, 'b');
	CHECK(node_amend(n, (const char *const[]){ "cluster_size=4k", NULL }, false, NULL) < 0);
	node_unref(n);
	judge();
	cleanup();
}

/* Ours read by qemu and back; a wrong passphrase; nothing of the plain text in the file. */
static void encryption(const char *format)
{
	char secret[160], wrong[160], opt1[64], opt2[200];
	const char *opts[] = { opt1, opt2, "encrypt.iter-time=20", NULL };
	struct node_create c = { .filename = image, .size = 4 << 20, .opts = opts };
	struct blk_options o = { .format = "qcow2", .flags = BLK_RDWR, .secret_file = secret };
	struct err err = { "" };
	char lib[300] = "";
	struct node *n;

	/* The module lies two folders above this program. */
	CHECK(readlink("/proc/self/exe", lib, sizeof(lib) - 10) > 0);
	strcpy(strrchr(lib, '/'), "/../..");
	setenv("MINIVMM_LIBDIR", lib, 1);
	setup();
	snprintf(secret, sizeof(secret), "%s/secret", dir);
	snprintf(judge_args, sizeof(judge_args),
		 "--object secret,id=s,file=%s --image-opts "
		 "driver=qcow2,encrypt.format=%s,encrypt.key-secret=s,file.filename=%s",
		 secret, format, image);
	snprintf(wrong, sizeof(wrong), "%s/wrong", dir);
	snprintf(opt1, sizeof(opt1), "encrypt.format=%s", format);
	snprintf(opt2, sizeof(opt2), "encrypt.key-secret=%s", secret);
	CHECK(sh("printf correct-horse >%s; printf battery >%s", secret, wrong) == 0);
	if (node_create("qcow2", &c, &err))
		tap_fail(__FILE__, __LINE__, "create: %s", err.msg);
	judge();
	n = node_open(image, &o, &err);
	if (!n)
		tap_fail(__FILE__, __LINE__, "open: %s", err.msg);
	fill(n, 100, 300000, 'A');
	fill(n, 200000, 77, 'B');
	expect(n, 0, 100, 0);
	expect(n, 100, 199900, 'A');
	expect(n, 200000, 77, 'B');
	expect(n, 200077, 1000, 'A');
	node_unref(n);
	judge();
	CHECK(sh("grep -q AAAAAAAA %s", image) != 0);
	if (!strcmp(format, "luks")) {
		o.secret_file = wrong;
		CHECK(!node_open(image, &o, NULL));
		o.secret_file = secret;
	}
	CHECK(!node_open(image, &(struct blk_options){ .flags = BLK_RDWR }, NULL));
	CHECK(sh("qemu-io %s -c 'read -P 0x41 1024 100000' -c 'read -P 0x42 200000 77' -c 'write "
		 "-P 0x43 1M 64k' | grep -q 'verification failed'",
		 judge_args) != 0);
	n = node_open(image, &o, &err);
	CHECK(n);
	expect(n, 1 << 20, 65536, 'C');
	expect(n, 100, 199900, 'A');
	node_unref(n);
	judge();
	cleanup();
}
TEST(encryption_luks) { encryption("luks"); }
TEST(encryption_aes) { encryption("aes"); }

static uint64_t bitmap_dirty(const char *name)
{
	struct node *n = open_node(0);
	struct node_bitmap *list;
	uint64_t v = UINT64_MAX;
	int count;

	CHECK_EQ(n->ops->bitmap_list(n, &list, &count), 0);
	for (int i = 0; i < count; i++)
		if (!strcmp(list[i].name, name))
			v = list[i].in_use ? UINT64_MAX - 1 : list[i].count;
	free(list);
	node_unref(n);
	return v;
}

TEST(bitmaps)
{
	struct node *n;

	setup();
	create("cluster_size=64k", 8 << 20);
	n = open_node(BLK_RDWR);
	OK(n->ops->bitmap(n, BITMAP_ADD, "b0", 0, NULL, NULL, &err));
	OK(n->ops->bitmap(n, BITMAP_ADD, "fine", 4096, NULL, NULL, &err));
	CHECK(n->ops->bitmap(n, BITMAP_ADD, "b0", 0, NULL, NULL, NULL) == -EEXIST);
	node_unref(n);
	judge();
	CHECK_EQ(bitmap_dirty("b0"), 0);
	n = open_node(BLK_RDWR);
	fill(n, 100000, 5000, 'a');
	CHECK_EQ(node_zeroes(n, 4 << 20, 1 << 20, 0), 0);
	/* Looked at while in use: not to be trusted. */
	CHECK(sh("qemu-img info -U %s | grep -q in-use", image) == 0);
	node_unref(n);
	judge();
	CHECK_EQ(bitmap_dirty("b0"), 65536 + (1 << 20));
	CHECK_EQ(bitmap_dirty("fine"), 8192 + (1 << 20));
	CHECK(sh("qemu-img info %s | grep -q in-use", image) != 0);
	/* qemu writes: it must take our bitmaps up, and we its. */
	CHECK(sh("qemu-io -c 'write 7M 64k' %s >/dev/null", image) == 0);
	CHECK_EQ(bitmap_dirty("b0"), 2 * 65536 + (1 << 20));
	n = open_node(BLK_RDWR);
	OK(n->ops->bitmap(n, BITMAP_DISABLE, "b0", 0, NULL, NULL, &err));
	OK(n->ops->bitmap(n, BITMAP_ADD, "c", 65536, NULL, NULL, &err));
	OK(n->ops->bitmap(n, BITMAP_MERGE, "c", 0, n, "fine", &err));
	OK(n->ops->bitmap(n, BITMAP_CLEAR, "fine", 0, NULL, NULL, &err));
	fill(n, 0, 512, 'x');
	node_unref(n);
	judge();
	CHECK_EQ(bitmap_dirty("b0"), 2 * 65536 + (1 << 20));
	CHECK_EQ(bitmap_dirty("fine"), 4096);
	CHECK_EQ(bitmap_dirty("c"), 3 * 65536 + (1 << 20));
	n = open_node(BLK_RDWR);
	OK(node_resize(n, 20 << 20, &err));
	fill(n, 19 << 20, 65536, 'z');
	OK(n->ops->bitmap(n, BITMAP_REMOVE, "b0", 0, NULL, NULL, &err));
	node_unref(n);
	judge();
	CHECK_EQ(bitmap_dirty("b0"), UINT64_MAX);
	CHECK_EQ(bitmap_dirty("c"), 4 * 65536 + (1 << 20));
	n = open_node(BLK_RDWR);
	OK(n->ops->bitmap(n, BITMAP_REMOVE, "c", 0, NULL, NULL, &err));
	OK(n->ops->bitmap(n, BITMAP_REMOVE, "fine", 0, NULL, NULL, &err));
	node_unref(n);
	judge();
	cleanup();
}

TEST(emptying)
{
	struct node *n;

	setup();
	create("cluster_size=4k", 8 << 20);
	n = open_node(BLK_RDWR);
	fill(n, 0, 8 << 20, 'a');
	OK(n->ops->make_empty(n));
	CHECK(n->file->size < 1 << 20);
	expect(n, 0, 8 << 20, 0);
	fill(n, 77, 9999, 'b');
	node_unref(n);
	judge();
	cleanup();
}

TEST(compressed_writes)
{
	static const char *const types[] = { "compression_type=zlib", "compression_type=zstd",
					     "cluster_size=512" };
	char b[65536];

	for (int i = 0; i < 3; i++) {
		uint64_t cluster = i == 2 ? 512 : 65536;
		struct node *n;

		setup();
		create(types[i], 1 << 20);
		n = open_node(BLK_RDWR);
		for (uint64_t off = 0; off < 1 << 20; off += cluster) {
			for (unsigned k = 0; k < cluster; k++)
				b[k] = off >> 16 ? (k / 97) + (off >> 12) : 'q';
			CHECK_EQ(node_write_compressed(n, off, b, cluster), 0);
		}
		fill(n, 300000, 1000, 'x');
		expect(n, 300000, 1000, 'x');
		expect(n, 0, 65536, 'q');
		node_unref(n);
		judge();
		if (access("/usr/bin/qemu-img", X_OK) == 0)
			CHECK(sh("qemu-img convert -O raw %s %s", image, base) == 0);
		n = open_node(0);
		{
			char *mine = malloc(1 << 20), *theirs = malloc(1 << 20);
			int fd = open(base, O_RDONLY);

			CHECK_EQ(node_pread(n, mine, 1 << 20, 0), 0);
			if (fd >= 0) {
				CHECK(pread(fd, theirs, 1 << 20, 0) == 1 << 20);
				CHECK(!memcmp(mine, theirs, 1 << 20));
				close(fd);
			}
			free(mine);
			free(theirs);
		}
		node_unref(n);
		cleanup();
	}
}

TAP_MAIN
