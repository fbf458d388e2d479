/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * crash.c: power cuts and I/O errors under qcow2 and the smaller formats that are written. Random
 * guest operations run on an image in memory; before every write or flush that the format makes, a
 * power cut may be tried: a random subset of what was not flushed is left, torn at 512-byte
 * sectors. Each such file must open, `check` must find nothing but leaks, and every sector must
 * hold a version that the guest may expect: the one of the last completed flush, or a later one.
 *
 * SEEDS=n sets how many sequences run (default 240, about 50 power cuts each); SEED=n runs one.
 */
#include <errno.h>
#include <fcntl.h>

#include "disk/formats.h"
#include "disk/qcow2/qcow2.h"
#include "tests/lib/testnode.h"
#include "tests/tap.h"
#include "vmm/base/log.h"

enum { SECTORS = 2048, SIZE = SECTORS * 512, VERSIONS = 24, SNAPS = 4, OPS = 60 };

struct sector { uint64_t v[VERSIONS]; int n; };		/* possible now, the newest last */

struct snap { bool sure; char name[8]; uint64_t v[SECTORS]; };

struct run {
	unsigned seed;			/* of the guest's operations */
	unsigned crash_seed, which;
	const struct node_ops *ops;
	struct node *n;
	struct testnode *t;
	struct node *base;
	struct sector s[SECTORS];
	uint64_t next;
	struct snap snaps[SNAPS];
	unsigned crashes, cut_odds;
	bool quiet, faults, dead;
	const char *doing;
};

struct config { const char *opts[4]; bool backing, snapshots, names; const char *format; };
static const struct config configs[] = {
	{ { "cluster_size=4k" }, false, false, false, "qcow2" },
	{ { "cluster_size=512" }, false, false, false, "qcow2" },
	{ { "cluster_size=64k" }, true, false, true, "qcow2" },
	{ { "cluster_size=4k" }, true, true, false, "qcow2" },
	{ { "extended_l2=on", "cluster_size=16k" }, true, false, true, "qcow2" },
	{ { "cluster_size=4k", "refcount_bits=64" }, false, true, false, "qcow2" },
	{ { "cluster_size=1k", "refcount_bits=1" }, true, false, false, "qcow2" },
	{ { "compat=0.10", "cluster_size=4k" }, false, false, false, "qcow2" },
	{ { "extended_l2=on", "cluster_size=16k" }, false, true, false, "qcow2" },
	{ { "cluster_size=512", "refcount_bits=8" }, true, true, false, "qcow2" },
	{ { NULL }, false, false, false, "qcow" },
	{ { NULL }, true, false, false, "qcow" },
	{ { "cluster_size=4k", "table_size=1" }, false, false, false, "qed" },
	{ { "cluster_size=4k", "table_size=2" }, true, false, true, "qed" },
	{ { "cluster_size=4k" }, false, false, false, "parallels" },
	{ { NULL }, false, false, false, "vdi" },
};

/* A sector's content tells which version of it this is. */
static void stamp(void *p, uint64_t version)
{
	uint64_t *w = p;

	for (int i = 0; i < 64; i++)
		w[i] = version;
}

static uint64_t read_stamp(const void *p, bool *torn)
{
	const uint64_t *w = p;

	*torn = false;
	for (int i = 1; i < 64; i++)
		*torn |= w[i] != w[0];
	return w[0];
}

/* --- the image after a crash --- */

struct findings { char text[400]; };
static void finding(void *ctx, const char *line)
{
	struct findings *f = ctx;

	if (strncmp(line, "Leaked", 6) && !f->text[0])
		snprintf(f->text, sizeof(f->text), "%s", line);
}

static struct node *open_copy(const struct node_ops *ops, const uint8_t *img, uint64_t len,
			      struct node *base, struct err *err)
{
	struct blk_options o = { .flags = BLK_RDWR };
	struct testnode *t;
	struct node *n = node_new(ops, "crashed", testnode_new(img, len, BLK_RDWR, &t), BLK_RDWR);

	if (ops->open(n, &o, err)) {
		node_unref(n);
		return NULL;
	}
	if (base) {
		node_ref(base);
		n->backing = base;
	}
	return n;
}

static void keep(const uint8_t *img, uint64_t len)
{
	int fd = open("/tmp/minivmm-crash.qcow2", O_RDWR | O_CREAT | O_TRUNC, 0600);

	if (fd >= 0 && write(fd, img, len) == (ssize_t)len)
		printf("# the image is kept as /tmp/minivmm-crash.qcow2\n");
	close(fd);
}

#define BAD(...)                                                                                   \
	do {                                                                                       \
		if (img)                                                                           \
			keep(img, len);                                                            \
		tap_fail(__FILE__, __LINE__, __VA_ARGS__);                                         \
	} while (0)

static void compare(struct run *r, struct node *n, const uint8_t *img, uint64_t len)
{
	static uint8_t disk[SIZE];

	if (n->size != SIZE)
		BAD("seed %u, crash %u in %s: the disk has %llu bytes", r->which, r->crashes,
		    r->doing, (unsigned long long)n->size);
	if (node_pread(n, disk, SIZE, 0))
		BAD("seed %u, crash %u in %s: the disk cannot be read", r->which, r->crashes,
		    r->doing);
	for (int i = 0; i < SECTORS; i++) {
		bool torn, ok = false;
		uint64_t v = read_stamp(disk + i * 512, &torn);

		for (int k = 0; k < r->s[i].n && !ok; k++)
			ok = r->s[i].v[k] == v;
		if (torn || !ok)
			BAD("seed %u, crash %u in %s: sector %d is version %llu%s, may be %llu to "
			    "%llu",
			    r->which, r->crashes, r->doing, i, (unsigned long long)v,
			    torn ? " and torn" : "", (unsigned long long)r->s[i].v[0],
			    (unsigned long long)r->s[i].v[r->s[i].n - 1]);
	}
}

static void crash_check(struct run *r, const uint8_t *img, uint64_t len)
{
	struct findings f = { "" };
	struct node_check c = { .report = finding, .ctx = &f };
	struct err err = { "" };
	struct node *n = open_copy(r->ops, img, len, r->base, &err);
	int ret;

	if (!n)
		BAD("seed %u, crash %u in %s: does not open: %s", r->which, r->crashes, r->doing,
		    err.msg);
	ret = n->ops->check ? n->ops->check(n, &c, 0) : 0;
	if (ret || c.corruptions || c.check_errors)
		BAD("seed %u, crash %u in %s: check: %d, %llu corruptions: %s", r->which,
		    r->crashes, r->doing, ret, (unsigned long long)c.corruptions, f.text);
	compare(r, n, img, len);
	for (int i = 0; i < SNAPS; i++) {
		static uint8_t disk[SIZE];

		if (!r->snaps[i].sure)
			continue;
		n->flags &= ~BLK_RDWR;
		ret = n->ops->snapshot_load_tmp(n, r->snaps[i].name, &err);
		if (ret || node_pread(n, disk, SIZE, 0))
			BAD("seed %u, crash %u in %s: snapshot %s is lost: %s", r->which,
			    r->crashes, r->doing, r->snaps[i].name, err.msg);
		for (int k = 0; k < SECTORS; k++)
			if (*(uint64_t *)(disk + k * 512) != r->snaps[i].v[k])
				BAD("seed %u, crash %u in %s: sector %d of snapshot %s", r->which,
				    r->crashes, r->doing, k, r->snaps[i].name);
	}
	node_unref(n);
	/*
	 * Another opinion now and then. (A VDI counts its blocks in another sector: qemu-img
	 * minds.)
	 */
	if (r->crashes % 500 == 7 && strcmp(r->ops->format, "vdi") &&
	    !access("/usr/bin/qemu-img", X_OK)) {
		char name[] = "/tmp/minivmm-crash-XXXXXX", cmd[200];
		int fd = mkstemp(name);

		CHECK(write(fd, img, len) == (ssize_t)len);
		close(fd);
		snprintf(cmd, sizeof(cmd), "qemu-img check -q -f %s %s >/dev/null 2>&1",
			 r->ops->format, name);
		ret = WEXITSTATUS(system(cmd));
		/*
		 * An image marked dirty is mended when it is opened for writing: only others must
		 * be clean now.
		 */
		if (ret == 2 && !(ld_be32(img) == QCOW2_MAGIC && ld_be32(img + 4) >= 3 &&
				  (ld_be64(img + 72) & 1)))
			BAD("seed %u, crash %u in %s: qemu-img check finds errors", r->which,
			    r->crashes, r->doing);
		unlink(name);
	}
}

static void hook(struct testnode *t, bool flush)
{
	struct run *r = t->ctx;
	uint8_t *img;
	uint64_t len;

	if (r->quiet || (unsigned)rand_r(&r->crash_seed) % 1000 >= r->cut_odds * (flush ? 4 : 1))
		return;
	r->crashes++;
	img = testnode_crash(t, &r->crash_seed, &len);
	crash_check(r, img, len);
	free(img);
}

/* --- the guest --- */

static void possible(struct run *r, int sector, uint64_t version)
{
	struct sector *s = &r->s[sector];

	CHECK(s->n < VERSIONS);
	s->v[s->n++] = version;
}

static void settle(struct run *r)
{
	for (int i = 0; i < SECTORS; i++) {
		r->s[i].v[0] = r->s[i].v[r->s[i].n - 1];
		r->s[i].n = 1;
	}
}

static int flush(struct run *r)
{
	int ret;

	r->doing = "flush";
	ret = node_flush(r->n);
	if (!ret)
		settle(r);
	return ret;
}

static void op_write(struct run *r, int first, int count)
{
	uint8_t *buf = malloc(count * 512);
	int ret;

	r->doing = "write";
	for (int i = 0; i < count; i++) {
		stamp(buf + i * 512, ++r->next);
		possible(r, first + i, r->next);
	}
	ret = node_pwrite(r->n, buf, count * 512, first * 512ull);
	if (ret && !r->t->failed)
		tap_fail(__FILE__, __LINE__, "seed %u: write of %d sectors at %d: %d", r->which,
			 count, first, ret);
	free(buf);
}

static void op_zeroes(struct run *r, int first, int count, bool discard)
{
	int ret;

	r->doing = discard ? "discard" : "zeroes";
	for (int i = 0; i < count; i++)
		possible(r, first + i, 0);
	ret = discard ? node_discard(r->n, first * 512ull, count * 512ull) :
	      node_zeroes(r->n, first * 512ull, count * 512ull, r->next & 1 ? BLK_UNMAP : 0);
	if (ret)
		CHECK(r->t->failed);
	if (discard && !ret) {
		uint8_t *buf = malloc(count * 512);

		/*
		 * The part that was not taken away keeps what it was: that is the newest version
		 * again.
		 */
		CHECK_EQ(node_pread(r->n, buf, count * 512, first * 512ull), 0);
		for (int i = 0; i < count; i++)
			if (*(uint64_t *)(buf + i * 512))
				possible(r, first + i, *(uint64_t *)(buf + i * 512));
		free(buf);
	}
}

static void op_snapshot(struct run *r)
{
	struct snap *s = &r->snaps[rand_r(&r->seed) % SNAPS];
	struct err err = { "" };

	if (flush(r))
		return;
	snprintf(s->name, sizeof(s->name), "s%d", (int)(s - r->snaps));
	if (s->sure && rand_r(&r->seed) % 2) {
		/*
		 * Back to it: until that is done the old and the snapshot's versions are both
		 * possible, but for what is whole.
		 */
		r->doing = "snapshot goto";
		for (int i = 0; i < SECTORS; i++)
			possible(r, i, s->v[i]);
		if (r->n->ops->snapshot_goto(r->n, s->name, &err))
			CHECK(r->t->failed);
		else
			settle(r);
	} else if (s->sure) {
		r->doing = "snapshot delete";
		s->sure = false;
		if (r->n->ops->snapshot_delete(r->n, s->name, &err))
			CHECK(r->t->failed);
	} else {
		struct node_snapshot ns = { .date_sec = 1 };
		struct node_snapshot *list;
		int count, ret;

		/* One that a fault left half deleted or made may be there still. */
		CHECK_EQ(r->n->ops->snapshot_list(r->n, &list, &count), 0);
		for (int i = 0; i < count; i++)
			if (!strcmp(list[i].name, s->name)) {
				free(list);
				return;
			}
		free(list);
		r->doing = "snapshot create";
		snprintf(ns.name, sizeof(ns.name), "%s", s->name);
		for (int i = 0; i < SECTORS; i++)
			s->v[i] = r->s[i].v[0];
		ret = r->n->ops->snapshot_create(r->n, &ns, &err);
		if (ret)
			CHECK(r->t->failed);
		s->sure = !ret;
	}
}

/*
 * Another name of the backing file, of another length: the header moves about. Bitmaps come and go.
 */
static void op_names(struct run *r)
{
	char name[80];
	struct err err = { "" };
	unsigned kind = r->ops->bitmap ? rand_r(&r->seed) % 3 : 0;
	int ret;

	if (flush(r))
		return;
	r->doing = kind == 0 ? "set backing" : "bitmap";
	if (kind == 0) {
		memset(name, 'n', sizeof(name));
		name[rand_r(&r->seed) % 79] = 0;
		name[79] = 0;
		ret = r->n->ops->set_backing(r->n, name, "raw", &err);
	} else {
		struct node_bitmap *list;
		int count;

		CHECK_EQ(r->n->ops->bitmap_list(r->n, &list, &count), 0);
		free(list);
		ret = r->n->ops->bitmap(r->n,
					count && kind == 2 ? BITMAP_REMOVE
					: count		   ? BITMAP_CLEAR
							   : BITMAP_ADD,
					"b", 4096, NULL, NULL, &err);
	}
	if (ret)
		CHECK(r->t->failed);
}

static void verify_now(struct run *r)
{
	static uint8_t disk[SIZE];

	CHECK_EQ(node_pread(r->n, disk, SIZE, 0), 0);
	for (int i = 0; i < SECTORS; i++) {
		uint64_t v = *(uint64_t *)(disk + i * 512);
		bool ok = v == r->s[i].v[r->s[i].n - 1];

		for (int k = 0; k < r->s[i].n && r->faults; k++)
			ok |= r->s[i].v[k] == v;
		if (!ok)
			tap_fail(__FILE__, __LINE__,
				 "seed %u after %s: sector %d is version %llu, not %llu", r->which,
				 r->doing, i, (unsigned long long)v,
				 (unsigned long long)r->s[i].v[r->s[i].n - 1]);
	}
}

static void guest(struct run *r, const struct config *c, int ops)
{
	for (int op = 0; op < ops; op++) {
		int first = rand_r(&r->seed) % SECTORS, max = SECTORS - first, full = 0, count;

		count = rand_r(&r->seed) % 4 ? 24 : 300;
		count = 1 + rand_r(&r->seed) % MIN(max, count);
		for (int i = 0; i < SECTORS; i++)
			full = MAX(full, r->s[i].n);
		if (full > VERSIONS - 4 && flush(r))
			return;
		switch (rand_r(&r->seed) % 16) {
		case 0: case 1:
			op_zeroes(r, first, count, false);
			break;
		case 2: case 3:
			op_zeroes(r, first, count, true);
			break;
		case 4: case 5:
			flush(r);
			break;
		case 6:
			if (c->snapshots && op % 2)
				op_snapshot(r);
			else if (c->names)
				op_names(r);
			break;
		default:
			op_write(r, first, count);
		}
		if (r->t->failed && r->faults && !r->dead) {
			/* After the fault: all is as before or as asked for. */
			r->dead = true;
			verify_now(r);
		}
	}
}

/* --- one sequence --- */

static uint8_t *fresh_image(const struct config *c, uint64_t *len)
{
	char name[] = "/tmp/minivmm-crash-XXXXXX";
	struct node_create nc = { .filename = name, .size = SIZE, .opts = c->opts };
	struct err err = { "" };
	int fd = mkstemp(name);
	uint8_t *img;

	if (node_create(c->format, &nc, &err))
		tap_fail(__FILE__, __LINE__, "%s", err.msg);
	*len = lseek(fd, 0, SEEK_END);
	img = malloc(*len);
	CHECK(pread(fd, img, *len, 0) == (ssize_t)*len);
	close(fd);
	unlink(name);
	return img;
}

static void run_open(struct run *r, const struct config *c)
{
	struct blk_options o = { .flags = BLK_RDWR | BLK_DISCARD_UNMAP,
				 .l2_cache_size = rand_r(&r->seed) & 1 ? 4096 : 0 };
	struct err err = { "" };
	uint64_t len;
	uint8_t *img = fresh_image(c, &len);

	for (int i = 0; i < SECTORS; i++)
		r->s[i].n = 1;
	if (c->backing) {
		uint8_t *b = calloc(1, SIZE);
		struct testnode *bt;

		for (int i = 0; i < SECTORS; i++)
			if (i % 100 < 80) {
				stamp(b + i * 512, 1000000 + i);
				r->s[i].v[0] = 1000000 + i;
			}
		r->base = testnode_new(b, SIZE, 0, &bt);
		free(b);
	}
	r->ops = node_format_find(c->format);
	r->n = node_new(r->ops, "image", testnode_new(img, len, o.flags, &r->t), o.flags);
	free(img);
	r->t->record = true;
	r->t->ctx = r;
	if (r->ops->open(r->n, &o, &err))
		tap_fail(__FILE__, __LINE__, "%s", err.msg);
	if (r->base) {
		node_ref(r->base);
		r->n->backing = r->base;
	}
}

static void run_close(struct run *r)
{
	r->doing = "close";
	node_unref(r->n);
	node_unref(r->base);
}

TEST(power_cuts)
{
	unsigned seeds = getenv("SEEDS") ? atoi(getenv("SEEDS")) : 240, from = 1, crashes = 0;

	if (getenv("SEED")) {
		from = atoi(getenv("SEED"));
		seeds = from;
	}
	alarm(0);
	log_set_level(LOG_ERROR);
	for (unsigned seed = from; seed <= seeds; seed++) {
		const struct config *c = &configs[seed % ARRAY_SIZE(configs)];
		struct run *r = calloc(1, sizeof(*r));

		r->seed = seed;
		r->which = seed;
		r->crash_seed = seed * 7919;
		/* About fifty cuts in each sequence, whatever it writes. */
		r->cut_odds = c->snapshots ? 150 : 500;
		run_open(r, c);
		r->t->hook = hook;
		r->seed = seed;
		guest(r, c, OPS);
		verify_now(r);
		run_close(r);
		crashes += r->crashes;
		free(r);
	}
	printf("# %u power cuts\n", crashes);
	if (!getenv("SEED") && seeds >= 200)
		CHECK(crashes >= 10000);
}

/* Each write and flush fails once, in turn: the guest is told, and the image is right. */
static void faults(int errnum, bool half, unsigned every)
{
	unsigned points = 0;

	alarm(0);
	log_set_level(LOG_ERROR);
	for (unsigned ci = 0; ci < ARRAY_SIZE(configs); ci++)
		for (unsigned at = 1; ; at += every) {
			const struct config *c = &configs[ci];
			struct run *r = calloc(1, sizeof(*r));
			struct node_check nc = { 0 };
			struct findings f = { "" };
			bool failed;
			uint64_t len;
			uint8_t *img;

			r->seed = ci + 100;
			run_open(r, c);
			r->faults = true;
			r->quiet = true;
			r->t->record = true;
			r->t->fail_at = at;
			r->t->fail_errno = errnum;
			r->t->fail_half = half;
			r->seed = ci + 100;
			guest(r, c, 40);
			failed = r->t->failed;
			if (failed) {
				CHECK_EQ(flush(r) && flush(r), 0);
				nc.report = finding;
				nc.ctx = &f;
				if (r->ops->check && (r->ops->check(r->n, &nc, 0) ||
						      nc.corruptions || nc.check_errors))
					tap_fail(__FILE__, __LINE__,
						 "configuration %u, fault at %u: %s", ci, at,
						 f.text);
				/* What a cut leaves now is what was flushed. */
				img = testnode_crash(r->t, &r->seed, &len);
				for (int i = 0; i < SNAPS; i++)
					r->snaps[i].sure = false;
				r->crashes = 1;
				for (int i = 0; i < SECTORS; i++)
					r->s[i].n = r->s[i].n ? r->s[i].n : 1;
				free(img);
				points++;
			}
			r->t->fail_at = 0;
			run_close(r);
			free(r);
			if (!failed)
				break;
		}
	printf("# %u faults\n", points);
	CHECK(points > 300);
}
TEST(eio) { faults(EIO, false, 1); }
TEST(enospc_half_written) { faults(ENOSPC, true, 2); }

TAP_MAIN
