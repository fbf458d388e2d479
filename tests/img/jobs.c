/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * jobs.c: the tree changes under load: overlay in, commit out, backup filter in and out, mirror,
 * stream, resize, close; with a guest that writes, reads and flushes through a queue all the time,
 * for each writable format below; on files, and on a test node that delays, reorders and fails.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#include "disk/job.h"
#include "disk/node.h"
#include "tests/lib/testnode.h"
#include "tests/tap.h"

enum { SIZE = 8 << 20, DEPTH = 8, BLOCK = 4096, BLOCKS = SIZE / BLOCK };
#define UNKNOWN UINT32_MAX		/* a block whose last write failed */

static char dir[64];

static char *path(const char *name)
{
	static char bufs[8][128];
	static int next;
	char *b = bufs[next++ % 8];

	snprintf(b, 128, "%s/%s", dir, name);
	return b;
}

/* --- the guest --- */
/* DEPTH requests in flight on a loop's thread; it knows what each block must hold. */

struct slot {
	struct blk_req r;
	struct iovec iov;
	uint32_t *buf;
	struct guest *g;
	uint64_t block;
	uint32_t version;
};
struct guest {
	struct blk *b;
	struct loop *loop;
	struct blk_queue *q;
	struct slot slots[DEPTH];
	uint32_t version[BLOCKS];	/* written last */
	bool busy[BLOCKS];
	unsigned seed, inflight;
	uint64_t done;
	bool stop;
	bool may_fail;			/* atomic */
	uint64_t failures;
	pthread_mutex_t lock;
	pthread_cond_t idle;
	uint32_t next;
};

static void slot_next(struct slot *s);

static void slot_done(struct blk_req *r)
{
	struct slot *s = r->ctx;
	struct guest *g = s->g;

	if (r->ret && __atomic_load_n(&g->may_fail, __ATOMIC_RELAXED)) {
		g->failures++;
		if (r->op == BLK_WRITE || r->op == BLK_ZEROES)
			g->version[s->block] = UNKNOWN;
	} else if (r->ret)
		tap_fail(__FILE__, __LINE__, "request %d at block %llu: %d", r->op,
			 (unsigned long long)s->block, r->ret);
	if (r->op == BLK_READ && !r->ret && g->version[s->block] != UNKNOWN)
		for (int i = 0; i < BLOCK / 4; i += 97)
			if (s->buf[i] != g->version[s->block])
				tap_fail(__FILE__, __LINE__, "block %llu holds %u, not %u",
					 (unsigned long long)s->block, s->buf[i],
					 g->version[s->block]);
	if (r->op != BLK_FLUSH)
		g->busy[s->block] = false;
	__atomic_add_fetch(&g->done, 1, __ATOMIC_RELAXED);
	pthread_mutex_lock(&g->lock);
	if (g->stop) {
		if (--g->inflight == 0)
			pthread_cond_signal(&g->idle);
		pthread_mutex_unlock(&g->lock);
		return;
	}
	pthread_mutex_unlock(&g->lock);
	slot_next(s);
}

static void slot_next(struct slot *s)
{
	struct guest *g = s->g;
	int kind = rand_r(&g->seed) % 20;

	s->r = (struct blk_req){
		.done = slot_done, .ctx = s, .iov = &s->iov, .niov = 1, .len = BLOCK
	};
	s->iov = (struct iovec){ s->buf, BLOCK };
	if (kind == 0) {
		s->r.op = BLK_FLUSH;
		s->r.len = 0;
	} else {
		do {
			s->block = rand_r(&g->seed) % BLOCKS;
		} while (g->busy[s->block]);
		g->busy[s->block] = true;
		s->r.off = s->block * BLOCK;
		s->r.op = kind < 8 ? BLK_READ : kind == 8 ? BLK_ZEROES : BLK_WRITE;
		if (s->r.op == BLK_WRITE) {
			g->version[s->block] = ++g->next;
			for (int i = 0; i < BLOCK / 4; i++)
				s->buf[i] = g->next;
		} else if (s->r.op == BLK_ZEROES) {
			g->version[s->block] = 0;
		}
	}
	blk_submit(g->q, &s->r);
}

static void guest_kick(void *ctx)
{
	struct guest *g = ctx;

	for (int i = 0; i < DEPTH; i++)
		slot_next(&g->slots[i]);
}

static struct guest *guest_start(struct blk *b)
{
	struct guest *g = calloc(1, sizeof(*g));

	g->b = b;
	g->loop = loop_new("guest");
	g->q = blk_queue_new(b, g->loop);
	g->inflight = DEPTH;
	pthread_mutex_init(&g->lock, NULL);
	pthread_cond_init(&g->idle, NULL);
	for (int i = 0; i < DEPTH; i++) {
		g->slots[i].g = g;
		CHECK(posix_memalign((void **)&g->slots[i].buf, 4096, BLOCK) == 0);
	}
	CHECK_EQ(loop_thread_start(g->loop), 0);
	loop_post(g->loop, guest_kick, g);
	return g;
}

static void guest_work(struct guest *g, uint64_t more)
{
	uint64_t until = __atomic_load_n(&g->done, __ATOMIC_RELAXED) + more;

	while (__atomic_load_n(&g->done, __ATOMIC_RELAXED) < until)
		usleep(1000);
}

static void expect_all(struct node *n, const uint32_t *version)
{
	uint32_t *buf = malloc(BLOCK);

	for (uint64_t i = 0; i < BLOCKS; i++) {
		CHECK_EQ(node_pread(n, buf, BLOCK, i * BLOCK), 0);
		if (version[i] != UNKNOWN &&
		    (buf[0] != version[i] || buf[BLOCK / 4 - 1] != version[i]))
			tap_fail(__FILE__, __LINE__, "block %llu holds %u, not %u",
				 (unsigned long long)i, buf[0], version[i]);
	}
	free(buf);
}

static void guest_stop(struct guest *g)
{
	pthread_mutex_lock(&g->lock);
	g->stop = true;
	while (g->inflight)
		pthread_cond_wait(&g->idle, &g->lock);
	pthread_mutex_unlock(&g->lock);
	loop_stop(g->loop);
	loop_thread_join(g->loop);
	blk_queue_free(g->q);
	loop_free(g->loop);
}

static void guest_free(struct guest *g)
{
	for (int i = 0; i < DEPTH; i++)
		free(g->slots[i].buf);
	free(g);
}

/* --- the tree --- */

static void create(const char *file, const char *format, uint64_t size)
{
	struct node_create c = { .filename = file, .size = size };
	struct err err = { "" };

	if (node_create(format, &c, &err))
		tap_fail(__FILE__, __LINE__, "create %s: %s", format, err.msg);
}

static struct blk *open_disk(const char *file, const char *format)
{
	struct blk_options o = { .format = format, .flags = BLK_RDWR | BLK_DISCARD_UNMAP };
	struct err err = { "" };
	struct blk *b = blk_open(file, &o, &err);

	if (!b)
		tap_fail(__FILE__, __LINE__, "open: %s", err.msg);
	return b;
}

static struct node *open_target(const char *file, const char *format)
{
	struct blk_options o = { .format = format, .flags = BLK_RDWR };
	struct err err = { "" };
	struct node *n = node_open(file, &o, &err);

	if (!n)
		tap_fail(__FILE__, __LINE__, "open: %s", err.msg);
	return n;
}

static void end(struct job *j, struct err *err, int expect)
{
	if (!j)
		tap_fail(__FILE__, __LINE__, "%s", err->msg);
	if (job_wait(j) != expect)
		tap_fail(__FILE__, __LINE__, "job %s: %d: %s", j->id, j->ret, j->err.msg);
	job_free(j);
}

static void qemu_check(const char *file)
{
	char cmd[300];

	/*
	 * This layer alone: a vhdx below it that is being written has an open log, which qemu-img
	 * would have to replay.
	 */
	snprintf(cmd, sizeof(cmd),
		 "qemu-img check -U -q "
		 "'json:{\"driver\":\"qcow2\",\"backing\":null,\"file.filename\":\"%s\"}'",
		 file);
	if (access("/usr/bin/qemu-img", X_OK) == 0 && system(cmd))
		tap_fail(__FILE__, __LINE__, "qemu-img check finds fault with %s", file);
}

static void under_load(const char *format)
{
	struct err err = { "" };
	struct job_common paced = { .id = "paced", .speed = 40 << 20 };
	uint32_t *then = malloc(sizeof(uint32_t) * BLOCKS);
	struct blk_options ro = { .format = "qcow2" };
	struct guest *g;
	struct blk *b;
	struct job *j;
	struct node *n;

	strcpy(dir, "/tmp/minivmm-jobs-XXXXXX");
	CHECK(mkdtemp(dir));
	create(path("disk"), format, SIZE);
	b = open_disk(path("disk"), format);
	/* Some formats round the size up. */
	create(path("backup"), "qcow2", blk_size(b));
	create(path("mirror"), "qcow2", blk_size(b));
	g = guest_start(b);
	guest_work(g, 300);
	/* Overlay in, another on top, both committed, under load. */
	CHECK_EQ(blk_overlay(b, path("over1"), "qcow2", false, &err), 0);
	guest_work(g, 300);
	CHECK_EQ(blk_overlay(b, path("over2"), "qcow2", false, &err), 0);
	guest_work(g, 300);
	j = job_commit(b, NULL, &paced, &err);
	/* one job at a time */
	CHECK(j && !job_backup(b, open_target(path("backup"), "qcow2"), NULL, NULL));
	end(j, &err, 0);
	guest_work(g, 200);
	qemu_check(path("over2"));
	end(job_commit(b, NULL, NULL, &err), &err, 0);
	CHECK(!strcmp(blk_format(b), format) && !blk_root(b)->backing);
	guest_work(g, 200);
	/* A backup of this moment: what the disk is then is known while the guest stands. */
	blk_drain_begin(b);
	usleep(20000);
	loop_lock(g->loop);
	memcpy(then, g->version, sizeof(uint32_t) * BLOCKS);
	/*
	 * Requests on hold have changed the model already, but not the disk: those blocks are not
	 * looked at.
	 */
	{
		bool skip[BLOCKS];
		uint32_t buf;

		memcpy(skip, g->busy, sizeof(skip));
		for (uint64_t i = 0; i < BLOCKS; i++)
			if (skip[i]) {
				CHECK_EQ(node_pread(blk_root(b), &buf, 4, i * BLOCK), 0);
				then[i] = buf;
			}
	}
	loop_unlock(g->loop);
	j = job_backup(b, open_target(path("backup"), "qcow2"), &paced, &err);
	blk_drain_end(b);
	end(j, &err, 0);
	n = node_open(path("backup"), &ro, &err);
	CHECK(n);
	expect_all(n, then);
	node_unref(n);
	qemu_check(path("backup"));
	/* One that is cancelled leaves the disk as it is. */
	paced.speed = 1 << 20;
	j = job_backup(b, open_target(path("backup"), "qcow2"), &paced, &err);
	guest_work(g, 100);
	job_cancel(j);
	end(j, &err, -ECANCELED);
	/* Mirror, then the disk is the copy. */
	paced.speed = 0;
	j = job_mirror(b, open_target(path("mirror"), "qcow2"), &paced, &err);
	while (__atomic_load_n(&j->state, __ATOMIC_RELAXED) != JOB_READY)
		usleep(1000);
	guest_work(g, 200);
	job_complete(j);
	end(j, &err, 0);
	CHECK(!strcmp(blk_filename(b), path("mirror")));
	guest_work(g, 200);
	/* Overlay and stream: it stands alone afterwards. */
	CHECK_EQ(blk_overlay(b, path("over3"), "qcow2", false, &err), 0);
	guest_work(g, 200);
	end(job_stream(b, NULL, &paced, &err), &err, 0);
	CHECK(!blk_root(b)->backing);
	guest_work(g, 100);
	CHECK_EQ(blk_resize(b, 2 * SIZE, false, &err), 0);
	guest_work(g, 100);
	guest_stop(g);
	expect_all(blk_root(b), g->version);
	CHECK_EQ(blk_close(b), 0);
	qemu_check(path("over3"));
	ro.flags = BLK_RDWR;
	n = node_open(path("over3"), &ro, &err);
	CHECK(n);
	expect_all(n, g->version);
	node_unref(n);
	guest_free(g);
	free(then);
	{
		char cmd[100];

		snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
		CHECK(system(cmd) == 0);
	}
}
TEST(raw) { under_load("raw"); }
TEST(qcow2) { under_load("qcow2"); }
TEST(vdi) { under_load("vdi"); }
TEST(vmdk) { under_load("vmdk"); }
TEST(vpc) { under_load("vpc"); }
TEST(vhdx) { under_load("vhdx"); }

/*
 * The disk's file in memory, where every operation takes its time, and so overtakes others; and
 * some fail.
 */
static struct blk *open_slow(const char *file, const char *format, struct testnode **t)
{
	struct blk_options o = { .flags = BLK_RDWR | BLK_DISCARD_UNMAP };
	const struct node_ops *ops = node_format_find(format);
	struct err err = { "" };
	struct stat st;
	struct node *n;
	uint8_t *image;
	int fd = open(file, O_RDONLY);

	CHECK(fd >= 0 && fstat(fd, &st) == 0);
	image = malloc(st.st_size + 1);
	CHECK(read_full(fd, image, st.st_size) == 0);
	close(fd);
	n = node_new(ops, file, testnode_new(image, st.st_size, o.flags, t), o.flags);
	free(image);
	if (ops->open(n, &o, &err))
		tap_fail(__FILE__, __LINE__, "open: %s", err.msg);
	(*t)->delay_us = 200;
	return blk_new(n, &o);
}

static void slow_and_failing(const char *format)
{
	struct err err = { "" };
	struct testnode *t;
	struct guest *g;
	struct blk *b;
	struct job *j;

	strcpy(dir, "/tmp/minivmm-jobs-XXXXXX");
	CHECK(mkdtemp(dir));
	create(path("disk"), format, SIZE);
	b = open_slow(path("disk"), format, &t);
	create(path("backup"), "qcow2", blk_size(b));
	g = guest_start(b);
	guest_work(g, 300);
	CHECK_EQ(blk_overlay(b, path("over1"), "qcow2", false, &err), 0);
	guest_work(g, 300);
	end(job_commit(b, NULL, NULL, &err), &err, 0);
	CHECK(!strcmp(blk_format(b), format));
	guest_work(g, 100);
	end(job_backup(b, open_target(path("backup"), "qcow2"), NULL, &err), &err, 0);
	guest_work(g, 100);
	/* Single operations fail, while the guest works and while a commit writes here. */
	__atomic_store_n(&g->may_fail, true, __ATOMIC_RELAXED);
	for (int i = 0; i < 12; i++) {
		pthread_mutex_lock(&t->lock);
		t->fail_at = 1 + i * 3;
		pthread_mutex_unlock(&t->lock);
		guest_work(g, 60);
	}
	CHECK_EQ(blk_overlay(b, path("over2"), "qcow2", false, &err), 0);
	guest_work(g, 300);
	pthread_mutex_lock(&t->lock);
	t->failed = false;
	t->fail_at = 5;
	pthread_mutex_unlock(&t->lock);
	j = job_commit(b, NULL, NULL, &err);
	CHECK(j && job_wait(j) == -EIO && t->failed);
	job_free(j);
	CHECK(strcmp(blk_format(b), format) || !strcmp(format, "qcow2"));
	guest_work(g, 100);
	end(job_commit(b, NULL, NULL, &err), &err, 0);
	CHECK(!strcmp(blk_format(b), format) && !blk_root(b)->backing);
	__atomic_store_n(&g->may_fail, false, __ATOMIC_RELAXED);
	guest_work(g, 200);
	if (blk_root(b)->ops->resize) {
		CHECK_EQ(blk_resize(b, blk_size(b) + SIZE, false, &err), 0);
		guest_work(g, 100);
	}
	guest_stop(g);
	CHECK(g->failures);
	expect_all(blk_root(b), g->version);
	CHECK_EQ(blk_close(b), 0);
	guest_free(g);
	{
		char cmd[100];

		snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
		CHECK(system(cmd) == 0);
	}
}
TEST(slow_raw) { slow_and_failing("raw"); }
TEST(slow_qcow2) { slow_and_failing("qcow2"); }
TEST(slow_vdi) { slow_and_failing("vdi"); }
TEST(slow_vmdk) { slow_and_failing("vmdk"); }
TEST(slow_vpc) { slow_and_failing("vpc"); }
TEST(slow_vhdx) { slow_and_failing("vhdx"); }

/* The target fails: the backup is lost, the guest is not. */
TEST(target_fails)
{
	struct err err = { "" };
	struct guest *g;
	struct blk *b;
	struct job *j;

	strcpy(dir, "/tmp/minivmm-jobs-XXXXXX");
	CHECK(mkdtemp(dir));
	create(path("disk"), "qcow2", SIZE);
	create(path("backup"), "raw", SIZE);
	b = open_disk(path("disk"), "qcow2");
	g = guest_start(b);
	guest_work(g, 300);
	{
		struct node *t = open_target(path("backup"), "raw");

		t->file->flags &= ~BLK_RDWR;		/* every write is refused */
		j = job_backup(b, t, NULL, &err);
	}
	end(j, &err, -EPERM);
	guest_work(g, 300);
	guest_stop(g);
	expect_all(blk_root(b), g->version);
	CHECK_EQ(blk_close(b), 0);
	qemu_check(path("disk"));
	guest_free(g);
}

/* As the destination of a migration opens its disks; later it takes a snapshot. */
TEST(opened_inactive_then_active_takes_an_overlay)
{
	struct blk_options o = { .format = "qcow2", .flags = BLK_RDWR | BLK_INACTIVE };
	struct node_create c = { .filename = path("inactive"),
				 .size = 1 << 20,
				 .host = &host_direct };
	struct err err = { "" };
	char buf[512], back[512];
	struct blk *b;

	CHECK_EQ(node_create("qcow2", &c, &err), 0);
	b = blk_open(path("inactive"), &o, &err);
	if (!b)
		tap_fail(__FILE__, __LINE__, "%s", err.msg);
	memset(buf, 0x5a, sizeof(buf));
	CHECK_EQ(blk_pread(b, back, sizeof(back), 0), -EIO);
	CHECK(blk_pwrite(b, buf, sizeof(buf), 0, 0) < 0);
	CHECK_EQ(blk_activate(b, &err), 0);
	CHECK_EQ(blk_pwrite(b, buf, sizeof(buf), 0, 0), 0);
	CHECK_EQ(blk_overlay(b, path("inactive-over"), "qcow2", false, &err), 0);
	CHECK_EQ(blk_pwrite(b, buf, sizeof(buf), 512, 0), 0);
	CHECK_EQ(blk_pread(b, back, sizeof(back), 0), 0);
	CHECK(!memcmp(buf, back, sizeof(buf)));
	CHECK_EQ(blk_close(b), 0);
}

TAP_MAIN
