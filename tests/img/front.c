/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * front.c: the front over raw files: synchronous and asynchronous requests, holding, draining,
 * throttling, locks.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#include "disk/node.h"
#include "tests/tap.h"

static char path[64];

static const char *temp(uint64_t size)
{
	int fd;

	snprintf(path, sizeof(path), "/tmp/minivmm-front-XXXXXX");
	fd = mkstemp(path);
	CHECK(fd >= 0 && ftruncate(fd, size) == 0);
	close(fd);
	return path;
}

static struct blk *open_raw(const char *p, unsigned flags)
{
	struct blk_options o = { .format = "raw", .flags = flags };
	struct err err = { "" };
	struct blk *b = blk_open(p, &o, &err);

	if (!b)
		tap_fail(__FILE__, __LINE__, "%s", err.msg);
	return b;
}

TEST(sync_read_write)
{
	struct blk *b = open_raw(temp(1 << 20), BLK_RDWR);
	char buf[5000], back[5000];

	memset(buf, 0x5a, sizeof(buf));
	CHECK_EQ(blk_size(b), 1 << 20);
	CHECK_EQ(blk_pwrite(b, buf, sizeof(buf), 777, 0), 0);
	CHECK_EQ(blk_pread(b, back, sizeof(back), 777), 0);
	CHECK(!memcmp(buf, back, sizeof(buf)));
	CHECK_EQ(blk_pzero(b, 1000, 2000, 0), 0);
	CHECK_EQ(blk_pread(b, back, sizeof(back), 777), 0);
	CHECK(back[222] == 0x5a && back[223] == 0 && back[2222] == 0 && back[2223] == 0x5a);
	CHECK_EQ(blk_pread(b, back, 2, (1 << 20) - 1), -EINVAL);
	CHECK_EQ(blk_pread(b, back, 2, UINT64_MAX), -EINVAL);
	CHECK_EQ(blk_close(b), 0);
	b = open_raw(path, 0);
	CHECK_EQ(blk_pwrite(b, buf, 1, 0, 0), -EPERM);
	blk_close(b);
	unlink(path);
}

TEST(odd_file_size_reads_zeros)
{
	struct blk *b = open_raw(temp(1000), BLK_RDWR);
	char buf[1024];

	CHECK_EQ(blk_size(b), 1024);
	memset(buf, 1, sizeof(buf));
	CHECK_EQ(blk_pread(b, buf, 1024, 0), 0);
	CHECK(buf[1023] == 0 && buf[0] == 0);
	blk_close(b);
	unlink(path);
}

struct io { struct blk_req r; struct iovec iov; char *buf; int *left; };
static void io_done(struct blk_req *r)
{
	struct io *io = r->ctx;

	CHECK_EQ(r->ret, 0);
	--*io->left;
}

static void many_requests(unsigned flags)
{
	enum { N = 300, SIZE = 4096 };
	struct blk *b = open_raw(temp(N * SIZE), BLK_RDWR | flags);
	struct loop *l = loop_new("test");
	struct blk_queue *q = blk_queue_new(b, l);
	struct io *ios = calloc(N, sizeof(*ios));
	int left = N;

	for (int pass = 0; pass < 2; pass++) {
		left = N;
		blk_plug(q);
		for (int i = 0; i < N; i++) {
			struct io *io = &ios[i];

			if (!io->buf)
				CHECK(posix_memalign((void **)&io->buf, 4096, SIZE) == 0);
			memset(io->buf, pass ? 0 : i, SIZE);
			io->iov = (struct iovec){ io->buf, SIZE };
			io->left = &left;
			io->r = (struct blk_req){ .op = pass ? BLK_READ : BLK_WRITE,
						  .off = (uint64_t)i * SIZE,
						  .len = SIZE,
						  .iov = &io->iov,
						  .niov = 1,
						  .done = io_done,
						  .ctx = io };
			blk_submit(q, &io->r);
			CHECK_EQ(left, N);		/* never inside submit */
		}
		blk_unplug(q);
		while (left)
			loop_once(l, 1000);
	}
	for (int i = 0; i < N; i++)
		CHECK(ios[i].buf[0] == (char)i && ios[i].buf[SIZE - 1] == (char)i);
	for (int i = 0; i < N; i++)
		free(ios[i].buf);
	free(ios);
	blk_queue_free(q);
	loop_free(l);
	CHECK_EQ(blk_close(b), 0);
	unlink(path);
}
TEST(async_buffered) { many_requests(0); }
TEST(async_direct) { many_requests(BLK_NOCACHE); }
TEST(async_writethrough) { many_requests(BLK_WRITETHROUGH); }

/*
 * Unaligned writes to one block of an O_DIRECT file by several threads: nothing of a neighbour gets
 * lost.
 */
struct piece { struct blk *b; int n; };
static void *piece_writer(void *arg)
{
	struct piece *p = arg;
	char c[128];

	for (int i = 0; i < 50; i++) {
		memset(c, p->n * 16 + i % 16, sizeof(c));
		CHECK_EQ(blk_pwrite(p->b, c, sizeof(c), p->n * 128, 0), 0);
	}
	return NULL;
}

TEST(direct_unaligned_neighbours)
{
	struct blk *b = open_raw(temp(64 << 10), BLK_RDWR | BLK_NOCACHE);
	pthread_t t[4];
	struct piece p[4];
	char back[512];

	for (int i = 0; i < 4; i++) {
		p[i] = (struct piece){ b, i };
		pthread_create(&t[i], NULL, piece_writer, &p[i]);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	CHECK_EQ(blk_pread(b, back, 512, 0), 0);
	for (int i = 0; i < 512; i++)
		CHECK_EQ((unsigned char)back[i], i / 128 * 16 + 49 % 16);
	blk_close(b);
	unlink(path);
}

TEST(drain_holds_and_lets_go)
{
	struct blk *b = open_raw(temp(1 << 20), BLK_RDWR);
	struct loop *l = loop_new("test");
	struct blk_queue *q = blk_queue_new(b, l);
	struct io io = { 0 };
	int left = 1;
	char buf[512];

	blk_drain_begin(b);
	blk_drain_begin(b);
	io = (struct io){ .iov = { buf, 512 }, .left = &left };
	io.r = (struct blk_req){
		.op = BLK_READ, .len = 512, .iov = &io.iov, .niov = 1, .done = io_done, .ctx = &io
	};
	blk_submit(q, &io.r);
	blk_drain_end(b);
	for (int i = 0; i < 5; i++)
		loop_once(l, 10);
	CHECK_EQ(left, 1);
	blk_drain_end(b);
	while (left)
		loop_once(l, 1000);
	blk_queue_free(q);
	loop_free(l);
	blk_close(b);
	unlink(path);
}

/*
 * The loop stands still (exclusive section) while requests are in the ring: a drain must not wait
 * for it.
 */
TEST(drain_without_the_loop)
{
	struct blk *b = open_raw(temp(8 << 20), BLK_RDWR | BLK_NOCACHE);
	struct loop *l = loop_new("test");
	struct blk_queue *q = blk_queue_new(b, l);
	struct io io[8];
	int left = 8;

	for (int i = 0; i < 8; i++) {
		io[i] = (struct io){ .left = &left };
		CHECK(posix_memalign((void **)&io[i].buf, 4096, 1 << 20) == 0);
		io[i].iov = (struct iovec){ io[i].buf, 1 << 20 };
		io[i].r = (struct blk_req){ .op = BLK_WRITE,
					    .off = (uint64_t)i << 20,
					    .len = 1 << 20,
					    .iov = &io[i].iov,
					    .niov = 1,
					    .done = io_done,
					    .ctx = &io[i] };
		blk_submit(q, &io[i].r);
	}
	blk_drain_begin(b);
	CHECK_EQ(left, 8);
	blk_drain_end(b);
	while (left)
		loop_once(l, 1000);
	for (int i = 0; i < 8; i++)
		free(io[i].buf);
	blk_queue_free(q);
	loop_free(l);
	blk_close(b);
	unlink(path);
}

static void *close_later(void *b)
{
	usleep(300000);
	blk_close(b);
	return NULL;
}

/*
 * A lock whose owner is nowhere to be seen may be a killed program's, which the kernel has not
 * taken apart yet (its io_uring holds the files): it is waited for.
 */
static int blind_call(void *ctx, struct host_call *c, struct err *err)
{
	return c->op == HOST_LOCK_OWNER ? 0 : host_direct.call(NULL, c, err);
}

TEST(lock_of_a_ghost_is_waited_for)
{
	struct host host = { .call = blind_call };
	struct blk_options o = { .format = "raw", .flags = BLK_RDWR, .host = &host };
	struct err err = { "" };
	struct blk *b = open_raw(temp(1 << 20), BLK_RDWR);
	pthread_t thread;

	o.flags |= BLK_NOWAIT;
	CHECK(!blk_open(path, &o, &err) && strstr(err.msg, "in use"));
	err.msg[0] = 0;
	o.flags &= ~BLK_NOWAIT;
	CHECK(pthread_create(&thread, NULL, close_later, b) == 0);
	b = blk_open(path, &o, &err);
	if (!b)
		tap_fail(__FILE__, __LINE__, "%s", err.msg);
	pthread_join(thread, NULL);
	blk_close(b);
	unlink(path);
}

/* Up to 60 requests of 4 KiB at once; how long they take (ms) under t. */
static int64_t throttled(const struct blk_throttle *t, int n)
{
	struct blk *b = open_raw(temp(1 << 20), BLK_RDWR);
	struct loop *l = loop_new("test");
	struct blk_queue *q = blk_queue_new(b, l);
	struct io io[60];
	int left = n;
	char buf[4096];
	int64_t start = now_ns();

	blk_set_throttle(b, t);
	for (int i = 0; i < n; i++) {
		io[i] = (struct io){ .iov = { buf, 4096 }, .left = &left };
		io[i].r = (struct blk_req){ .op = BLK_READ,
					    .len = 4096,
					    .iov = &io[i].iov,
					    .niov = 1,
					    .done = io_done,
					    .ctx = &io[i] };
		blk_submit(q, &io[i].r);
	}
	while (left)
		loop_once(l, 1000);
	start = now_ns() - start;
	blk_queue_free(q);
	loop_free(l);
	blk_close(b);
	unlink(path);
	return start / NS_PER_MS;
}

TEST(throttle_limits)
{
	struct blk_throttle t = { .limit[LIMIT_IOPS] = { .rate = 100 } };
	int64_t ms = throttled(&t, 40);

	/* 40 at 100 a second, 10 of them at once. */
	CHECK(ms > 250 && ms < 3000);
}

/*
 * Lower bounds are the limits' own; upper ones leave a slow machine time and still tell a burst
 * from none.
 */
TEST(throttle_bursts)
{
	struct blk_limit burst = { .rate = 10, .max = 50 },
			 lasting = { .rate = 10, .max = 50, .length = 10 };
	struct blk_throttle t = { .limit[LIMIT_IOPS] = burst };
	int64_t ms = throttled(&t, 60);

	/* 50 at once, the rest at 10 a second; without the burst it were 5.9 s. */
	CHECK(ms > 850 && ms < 4000);
	/* 5 at once, all others at 50 a second. */
	t.limit[LIMIT_IOPS] = lasting;
	ms = throttled(&t, 60);
	CHECK(ms > 1050 && ms < 4000);
	/* Each of 4 KiB counts as two of 2 KiB: 120 of them, 50 at once, at 40 a second. */
	t = (struct blk_throttle){ .limit[LIMIT_IOPS_RD] = { .rate = 40, .max = 50 },
				   .iops_size = 2048 };
	ms = throttled(&t, 60);
	CHECK(ms > 1600 && ms < 5000);
	/* The longest burst there is: all of them at once. */
	t = (struct blk_throttle){ .limit[LIMIT_IOPS] = { .rate = 1, .max = BLK_LIMIT_MAX } };
	CHECK(throttled(&t, 60) < 2000);
}

TEST(throttle_combinations)
{
	static const struct { struct blk_throttle t; const char *says;
	} bad[] = {
		{ { .limit[LIMIT_BPS] = { .rate = BLK_LIMIT_MAX + 1 } }, "within" },
		{ { .limit[LIMIT_BPS] = { .max = 5 } }, "bps_max needs bps" },
		{ { .limit[LIMIT_IOPS_WR] = { .rate = 6, .max = 5 } },
		  "iops_wr_max cannot be less" },
		{ { .limit[LIMIT_BPS] = { .rate = 5, .length = 5 } },
		  "bps_max_length needs bps_max" },
		{ { .limit[LIMIT_BPS] = { .rate = 5, .max = 1ull << 40, .length = 1 << 20 } },
		  "too long" },
		{ { .limit[LIMIT_BPS].rate = 5, .limit[LIMIT_BPS_WR].rate = 5 }, "same time" },
		{ { .limit[LIMIT_IOPS].rate = 5, .limit[LIMIT_IOPS_RD].rate = 5 }, "same time" },
		{ { .iops_size = 512 }, "iops_size needs" },
	};
	struct blk_throttle good = { .limit[LIMIT_BPS].rate = 5,
				     .limit[LIMIT_IOPS_WR] = { 5, 10, 3 },
				     .iops_size = 512 };
	struct err err = { "" };

	CHECK_EQ(blk_throttle_check(&good, &err), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		err.msg[0] = 0;
		CHECK_EQ(blk_throttle_check(&bad[i].t, &err), -EINVAL);
		CHECK(strstr(err.msg, bad[i].says));
	}
}

/* -snapshot: the guest writes, the image does not change, nothing is left behind. */
TEST(snapshot_mode)
{
	struct blk_options o = { .format = "raw",
				 .flags = BLK_RDWR | BLK_SNAPSHOT,
				 .tmpdir = "/tmp" };
	struct err err = { "" };
	struct blk *b, *r;
	char buf[4096], back[4096], dir[] = "/tmp/minivmm-front-XXXXXX";

	temp(1 << 20);
	CHECK(mkdtemp(dir) != NULL);
	o.tmpdir = dir;
	memset(buf, 'w', sizeof(buf));
	b = blk_open(path, &o, &err);
	if (!b)
		tap_fail(__FILE__, __LINE__, "%s", err.msg);
	CHECK(!blk_readonly(b));
	CHECK_EQ(blk_pwrite(b, buf, sizeof(buf), 5000, 0), 0);
	CHECK_EQ(blk_flush(b), 0);
	CHECK_EQ(blk_pread(b, back, sizeof(back), 5000), 0);
	CHECK(!memcmp(buf, back, sizeof(buf)));
	CHECK_EQ(rmdir(dir), 0);		/* the file that takes the writes has no name, */
	CHECK_EQ(mkdir(dir, 0700), 0);
	r = open_raw(path, 0);		/* others may read it meanwhile */
	CHECK_EQ(blk_pread(r, back, sizeof(back), 5000), 0);
	CHECK(back[0] == 0);
	CHECK_EQ(blk_close(r), 0);
	CHECK_EQ(blk_close(b), 0);
	o.flags |= BLK_NOCACHE;			/* O_DIRECT is set on the one descriptor there is */
	b = blk_open(path, &o, &err);
	if (!b)
		tap_fail(__FILE__, __LINE__, "%s", err.msg);
	CHECK_EQ(blk_pwrite(b, buf, sizeof(buf), 5000, 0), 0);
	CHECK_EQ(blk_pread(b, back, sizeof(back), 5000), 0);
	CHECK(!memcmp(buf, back, sizeof(buf)));
	CHECK(blk_overlay(b, "/nowhere/overlay", "qcow2", false, &err) == -ENOTSUP &&
	      strstr(err.msg, "no name"));
	CHECK_EQ(blk_close(b), 0);
	o.tmpdir = "/nowhere";
	err.msg[0] = 0;
	CHECK(!blk_open(path, &o, &err) && strstr(err.msg, "-snapshot") &&
	      strstr(err.msg, "/nowhere"));
	CHECK_EQ(rmdir(dir), 0);		/* and never had one */
	unlink(path);
}

/* R8: a guessed raw disk does not become a qcow2 image, however the header is written. */
TEST(guessed_raw_stays_raw)
{
	struct blk_options o = { .flags = BLK_RDWR };
	struct err err = { "" };
	uint8_t head[512] = { 'Q', 'F', 'I', 0xfb, 0, 0, 0, 3 };
	struct blk *b;

	temp(1 << 20);
	b = blk_open(path, &o, &err);
	CHECK(b && !strcmp(blk_format(b), "raw"));
	CHECK_EQ(blk_pwrite(b, head, 512, 0, 0), -EPERM);
	CHECK_EQ(blk_pwrite(b, head + 4, 4, 4, 0), 0);
	CHECK_EQ(blk_pwrite(b, head, 4, 0, 0), -EPERM);		/* its last piece */
	CHECK_EQ(blk_pwrite(b, head, 512, 4096, 0), 0);		/* elsewhere it is data */
	blk_close(b);
	b = open_raw(path, BLK_RDWR);				/* said to be raw: all is allowed */
	CHECK_EQ(blk_pwrite(b, head, 512, 0, 0), 0);
	blk_close(b);
	unlink(path);
}

TEST(second_writer_is_refused_and_told_who)
{
	struct blk_options o = { .format = "raw", .flags = BLK_RDWR };
	struct err err = { "" };
	struct blk *b = open_raw(temp(1 << 20), BLK_RDWR), *r1, *r2;
	char me[32];

	snprintf(me, sizeof(me), "%d", getpid());
	CHECK(!blk_open(path, &o, &err));
	CHECK(strstr(err.msg, me));
	o.flags = 0;
	err.msg[0] = 0;
	CHECK(!blk_open(path, &o, &err));
	o.flags = BLK_SHARE;
	r1 = blk_open(path, &o, NULL);
	CHECK(r1);
	blk_close(r1);
	blk_close(b);
	r1 = open_raw(path, 0);
	r2 = open_raw(path, 0);		/* readers share */
	o.flags = BLK_RDWR;
	CHECK(!blk_open(path, &o, NULL));
	blk_close(r1);
	/* From reader to writer and back. */
	CHECK_EQ(node_set_rdwr(blk_root(r2), true, NULL), 0);
	CHECK_EQ(blk_pwrite(r2, me, 4, 0, 0), 0);
	o.flags = 0;
	CHECK(!blk_open(path, &o, NULL));
	CHECK_EQ(node_set_rdwr(blk_root(r2), false, NULL), 0);
	r1 = open_raw(path, 0);
	CHECK(node_set_rdwr(blk_root(r2), true, NULL) < 0);
	CHECK_EQ(blk_pread(r2, me, 4, 0), 0);
	blk_close(r1);
	blk_close(r2);
	unlink(path);
}

TAP_MAIN
