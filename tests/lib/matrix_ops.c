/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * matrix_ops.c: the operations of the matrix. Each ends with TOP as the model says; the runner
 * judges.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "tests/lib/matrix_run.h"
#include "tests/tap.h"

enum { EVERY = 1u << ZEROS | 1u << DISCARDS | 1u << PACKED };

static void op_write(struct run *r)
{
	matrix_change(r, 40, 0);
}

static void op_zero(struct run *r)
{
	matrix_change(r, 60, 1u << ZEROS);
}

static void op_discard(struct run *r)
{
	matrix_change(r, 40, 1u << DISCARDS | 1u << ZEROS);
	matrix_judge(r, "after discards");
	matrix_change(r, 40, EVERY);
}

static void op_packed(struct run *r)
{
	matrix_change(r, 40, 1u << PACKED);
	matrix_judge(r, "after compressed writes");
	matrix_change(r, 40, EVERY);
}

/* --- size --- */

static void resize(struct run *r, uint64_t size, const char *more)
{
	RUN_OK("%%M resize -q %s %s %llu", more, matrix_words(r, TOP), (unsigned long long)size);
	matrix_size(r, size);
	matrix_judge(r, more[0] ? more : "after growing");
}

static void op_grow(struct run *r)
{
	resize(r, r->size + 512 * (1 + matrix_below(r, 100)), "");
	matrix_change(r, 20, EVERY);
	resize(r, r->size + 512 * (1 + matrix_below(r, 9000)), "");
	matrix_change(r, 20, EVERY);
}

static void op_shrink(struct run *r)
{
	resize(r, 512 * (1 + matrix_below(r, r->size / 512 - 1)), "--shrink");
	matrix_change(r, 20, EVERY);
}

static void op_shrink_grow(struct run *r)
{
	for (int i = 0; i < 2; i++) {
		resize(r, 512 * (r->size / 1024 + matrix_below(r, r->size / 1024 - 1)), "--shrink");
		resize(r, r->size + 512 * (1 + matrix_below(r, 40)), "");
		resize(r, r->size + 512 * (1 + matrix_below(r, 3000)), "");
		matrix_change(r, 20, EVERY);
	}
}

static void op_grow_preallocated(struct run *r)
{
	if (r->base[0] && !strstr(r->c->feature->opts, "extended_l2"))
		RUN_FAILS(1, "%%M resize -q --preallocation=metadata %s +1M", matrix_words(r, TOP));
	else
		resize(r, r->size + 512 * (1 + matrix_below(r, 3000)), "--preallocation=metadata");
}

/* --- snapshots --- */

static void op_snapshot(struct run *r)
{
	uint8_t *one = malloc(r->size), *last = malloc(r->size);
	const char *words = matrix_words(r, TOP);

	memcpy(one, r->m, r->size);
	RUN_OK("%%M snapshot -c one %s", words);
	matrix_judge(r, "with a snapshot");
	matrix_change(r, 30, EVERY);
	RUN_OK("%%M snapshot -c two %s", words);
	matrix_change(r, 30, EVERY);
	matrix_judge(r, "with two snapshots");
	memcpy(last, r->m, r->size);
	matrix_save("one", one, r->size);
	if (!(r->c->feature->is & LUKS))
		RUN_OK("%%M convert -l one %s -O raw x && cmp x one && qemu-img convert -l one %s "
		       "-O raw x && cmp x one",
		       words, words);
	RUN_OK("%%M snapshot -a one %s", words);
	memcpy(r->m, one, r->size);
	matrix_judge(r, "after going back");
	matrix_change(r, 30, EVERY);
	RUN_OK("%%M snapshot -d two %s", words);
	matrix_judge(r, "one removed");
	RUN_OK("%%M snapshot -a one %s && %%M snapshot -d one %s", words, words);
	memcpy(r->m, one, r->size);
	matrix_judge(r, "both removed");
	matrix_change(r, 30, EVERY);
	free(one);
	free(last);
}

static void op_snapshot_resize(struct run *r)
{
	uint64_t size = r->size;
	uint8_t *one = malloc(size);
	const char *words = matrix_words(r, TOP);

	memcpy(one, r->m, size);
	RUN_OK("%%M snapshot -c one %s", words);
	if (matrix_coin(r))
		resize(r, size + 512 * (1 + matrix_below(r, 5000)), "");
	else
		resize(r, 512 * (1 + matrix_below(r, size / 512 - 1)), "--shrink");
	matrix_change(r, 30, EVERY);
	matrix_judge(r, "another size than the snapshot");
	RUN_OK("%%M snapshot -a one %s", words);
	matrix_size(r, size);
	memcpy(r->m, one, size);
	matrix_judge(r, "back at the old size");
	resize(r, size + 512 * (1 + matrix_below(r, 3000)), "");
	RUN_OK("%%M snapshot -d one %s", words);
	matrix_change(r, 30, EVERY);
	free(one);
}

/* --- chains --- */

/* The base as it must be after a commit of what `m` holds; r->bm follows. */
static void base_gets(struct run *r, const uint8_t *m, uint64_t size)
{
	if (size > r->base_size) {
		r->bm = realloc(r->bm, size + 1);
		r->base_size = size;
	}
	memcpy(r->bm, m, size);
	matrix_judge_file(r, r->base, r->c->base->format, r->bm, r->base_size, "the base");
}

static void op_commit(struct run *r)
{
	bool keep = matrix_coin(r);

	RUN_OK("%%M commit -q %s %s", keep ? "-d" : "", matrix_words(r, TOP));
	base_gets(r, r->m, r->size);
	matrix_judge(r, "the overlay");
	matrix_change(r, 20, EVERY);
	RUN_OK("%%M commit -q %s", matrix_words(r, TOP));
	base_gets(r, r->m, r->size);
}

/* A new image over TOP, longer or shorter, with data. */
static void make_up(struct run *r, struct run *up, uint64_t size)
{
	struct blk *b;

	*up = (struct run){ .c = r->c, .rng = r->rng + 7, .m = malloc(size + 1), .size = r->size };
	memcpy(up->m, r->m, MIN(size, r->size));
	up->size = MIN(size, r->size);
	matrix_size(up, size);
	RUN_OK("%%M create -q -f qcow2 -o cluster_size=%s -b %s -F qcow2 up.qcow2 %llu",
	       matrix_coin(r) ? "4k" : "64k", TOP, (unsigned long long)size);
	b = matrix_open(up, "up.qcow2", "qcow2", BLK_RDWR);
	matrix_dabble(up, b, 15, 1u << ZEROS);
	CHECK_EQ(blk_close(b), 0);
	matrix_judge_file(up, "up.qcow2", "qcow2", up->m, size, "an overlay of it");
}

static uint64_t other_size(struct run *r)
{
	return matrix_coin(r) ? r->size + 512 * matrix_below(r, 3000) :
				r->size - 512 * matrix_below(r, r->size / 512 - 1);
}

static void op_commit_into(struct run *r)
{
	struct run up;

	make_up(r, &up, other_size(r));
	RUN_OK("%%M commit -q -b $PWD/%s up.qcow2", TOP);
	if (up.size > r->size)
		matrix_size(r, up.size);
	memcpy(r->m, up.m, up.size);
	free(up.m);
}

static void op_commit_through(struct run *r)
{
	struct run up;

	make_up(r, &up, other_size(r));
	RUN_OK("%%M commit -q -b ./%s up.qcow2", r->base);
	base_gets(r, up.m, up.size);
	/* TOP itself is worth nothing any more where it showed the base. */
	RUN_OK("%%M rebase -u -b %s -F %s up.qcow2", r->base, r->c->base->format);
	matrix_judge_file(&up, "up.qcow2", "qcow2", up.m, up.size, "the overlay, on the base");
	RUN_OK("rm %s; mv up.qcow2 %s", TOP, TOP);
	exit(0);
}

static void new_base(struct run *r, char *name, size_t room, const char **format)
{
	int64_t delta = (int64_t)matrix_below(r, 1800000) - 900000;

	*format = matrix_coin(r) ? "raw" : "qcow2";
	snprintf(name, room, "new.%s", *format);
	img_pattern("new.raw", r->size + delta, r->c->seed + 5);
	if (!strcmp(*format, "qcow2"))
		RUN_OK("truncate -s %%512 new.raw; qemu-img convert -f raw -O qcow2 new.raw "
		       "new.qcow2");
}

static void op_rebase(struct run *r)
{
	const char *format;
	char name[32];

	new_base(r, name, sizeof(name), &format);
	RUN_OK("%%M rebase -b %s -F %s %s", name, format, matrix_words(r, TOP));
	matrix_judge(r, "rebased");
	RUN_OK("qemu-img info -U %s | grep -q '^backing file: %s'", TOP, name);
	resize(r, r->size + 512 * (1 + matrix_below(r, 2000)), "");
	matrix_change(r, 30, EVERY);
}

static void op_rebase_none(struct run *r)
{
	RUN_OK("%%M rebase -b '' %s", matrix_words(r, TOP));
	matrix_judge(r, "rebased");
	RUN_OK("rm -f base.*; ! qemu-img info -U %s | grep '^backing file'", TOP);
	resize(r, r->size + 512 * (1 + matrix_below(r, 2000)), "");
	matrix_change(r, 30, EVERY);
}

static void op_rebase_unsafe(struct run *r)
{
	RUN_OK("mv %s other; %%M rebase -u -b other -F %s %s", r->base, r->c->base->format,
	       matrix_words(r, TOP));
	matrix_judge(r, "rebased");
	matrix_change(r, 30, EVERY);
}

static void op_rebase_self(struct run *r)
{
	RUN_FAILS(1, "%%M rebase -b $PWD/%s -F qcow2 %s", TOP, matrix_words(r, TOP));
	RUN_FAILS(1, "%%M rebase -u -b ./%s -F qcow2 %s", TOP, matrix_words(r, TOP));
	RUN_FAILS(1, "%%M create -q -f qcow2 -b ./%s -F qcow2 %s", TOP, TOP);
}

/* --- convert --- */

static const char *const targets[] = {
	"cluster_size=512", "cluster_size=2M", "extended_l2=on", "compat=0.10", "refcount_bits=1",
	"compression_type=zstd", "preallocation=metadata", "data_file=d2,data_file_raw=on",
	"extended_l2=on,cluster_size=16k,preallocation=metadata",
};

static void op_convert(struct run *r)
{
	const char *words = matrix_words(r, TOP);

	matrix_save("model", r->m, r->size);
	RUN_OK("%%M convert %s -O raw x && cmp x model", words);
	for (int i = 0; i < 3; i++) {
		const char *o = targets[matrix_below(r, ARRAY_SIZE(targets))];
		const char *c = matrix_coin(r) && !strstr(o, "data_file") && !strstr(o, "prealloc")
					? "-c"
					: "";

		RUN_OK("rm -f x d2; %%M convert %s %s -O qcow2 -o %s x && qemu-img check -q x && "
		       "%%M check -q x && "
		       "qemu-img compare -q -f qcow2 -F raw x model",
		       c, words, o);
	}
}

/* Into an image that is there, and shows its base where nothing is written. */
static void op_convert_into(struct run *r)
{
	uint64_t size = r->size;
	int fd;

	img_pattern("in", size, r->c->seed + 9);
	fd = open("in", O_RDONLY);
	CHECK(read(fd, r->m, size) == (ssize_t)size);
	close(fd);
	if ((r->c->feature->is & LUKS))
		RUN_OK("%%M convert -n -f raw --object secret,id=s,file=key --target-image-opts in "
		       "driver=qcow2,encrypt.key-secret=s,file.driver=file,file.filename=%s", TOP);
	else
		RUN_OK("%%M convert -n -f raw -O qcow2 in %s", TOP);
}

static void op_convert_over(struct run *r)
{
	matrix_save("model", r->m, r->size);
	RUN_OK("%%M convert %s -O qcow2 -o %s -B %s -F %s x && qemu-img check -q x && %%M check -q "
	       "x && "
	       "qemu-img compare -q -f qcow2 -F raw x model",
	       matrix_words(r, TOP), matrix_coin(r) ? "cluster_size=4k" : "extended_l2=on", r->base,
	       r->c->base->format);
}

static void op_measure(struct run *r)
{
	const char *words = matrix_words(r, TOP), *o = targets[matrix_below(r, 4)];

	if (!(r->c->feature->is & V2) && !(r->c->feature->is & LUKS))
		RUN_OK("for i in 1 2 3 4 5; do %%M bitmap --add -g $((512 << i)) %s b$i; done",
		       TOP);
	/* qemu-img sees holes of the file within a cluster: ours may be higher. */
	RUN_OK("qemu-img measure %s -O qcow2 -o %s >a; %%M measure %s -O qcow2 -o %s >b; "
	       "diff <(grep -v required a) <(grep -v required b) && "
	       "(( $(sed -n 's/required size: //p' b) >= $(sed -n 's/required size: //p' a) ))",
	       words, o, words, o);
}

/* --- check -r --- */

static uint64_t be64_at(const char *file, uint64_t off)
{
	uint64_t v;
	int fd = open(file, O_RDONLY);

	CHECK(pread(fd, &v, 8, off) == 8);
	close(fd);
	return be64toh(v);
}

static void poke(const char *file, uint64_t off, const void *p, size_t len)
{
	int fd = open(file, O_RDWR);

	CHECK(pwrite(fd, p, len, off) == (ssize_t)len);
	close(fd);
}

static void op_check(struct run *r)
{
	const char *words = matrix_words(r, TOP);

	RUN_OK("cp %s was; %%M check -r all %s && %%M check -r leaks %s && cmp %s was", TOP, words,
	       words, TOP);
}

static void op_check_counts(struct run *r)
{
	uint64_t block = be64_at(TOP, be64_at(TOP, 48));
	static const uint8_t zeros[200];

	poke(TOP, block, zeros, sizeof(zeros));
	RUN_FAILS(2, "%%M check %s", matrix_words(r, TOP));
	RUN_OK("%%M check -r all %s", matrix_words(r, TOP));
	matrix_judge(r, "repaired");
	matrix_change(r, 30, EVERY);
}

static void op_check_table(struct run *r)
{
	static const uint8_t zeros[8];

	poke(TOP, be64_at(TOP, 48), zeros, sizeof(zeros));
	RUN_FAILS(2, "%%M check %s", matrix_words(r, TOP));
	RUN_OK("%%M check -r all %s", matrix_words(r, TOP));
	matrix_judge(r, "repaired");
	matrix_change(r, 30, EVERY);
}

/* Subclusters that are data and zeros at once: the cluster stays, and its data with it. */
static void op_check_bitmap(struct run *r)
{
	uint64_t l1 = be64_at(TOP, 40), n = 0;
	uint64_t entries = (1ull << be64_at(TOP, 20) / (1ull << 32)) / 16;

	matrix_change(r, 10, 0);
	for (uint64_t i = 0; i < (be64_at(TOP, 36) >> 32); i++) {
		uint64_t l2 = be64_at(TOP, l1 + i * 8) & 0xfffffffffffe00ull;

		for (uint64_t e = 0; l2 && e < entries; e++) {
			uint64_t entry = be64_at(TOP, l2 + e * 16),
				 map = be64_at(TOP, l2 + e * 16 + 8);

			if (entry >> 62 & 1 || !(map & 0xffffffff) || matrix_below(r, 2))
				continue;
			map = htobe64(map | map << 32);
			poke(TOP, l2 + e * 16 + 8, &map, 8);
			n++;
		}
	}
	CHECK(n);
	RUN_FAILS(2, "%%M check %s", matrix_words(r, TOP));
	RUN_FAILS(2, "%%M check -r leaks %s", matrix_words(r, TOP));
	RUN_OK("%%M check -r all %s", matrix_words(r, TOP));
}

/* One damaged entry costs its snapshot alone; a damaged table costs those behind the damage. */
static void op_snapshot_damaged(struct run *r)
{
	uint64_t table, nb = htobe64(0x11170ull << 32), size = r->size;
	const char *words = matrix_words(r, TOP);
	unsigned kind = matrix_below(r, 4);
	uint8_t *one = malloc(size);

	memcpy(one, r->m, size);
	RUN_OK("%%M snapshot -c one %s", words);
	matrix_change(r, 10, EVERY);
	RUN_OK("%%M snapshot -c two %s", words);
	matrix_change(r, 10, EVERY);
	RUN_OK("%%M snapshot -c three %s", words);
	matrix_change(r, 10, EVERY);
	table = be64_at(TOP, 64);
	/* Entries of 40 + 24 bytes and their names: "1one", "2two". */
	if (kind == 0) {
		uint64_t l1 = htobe64(r->c->seed & 1 ? 1ull << 50 : be64_at(TOP, table + 72) + 8);

		poke(TOP, table + 72, &l1, 8);
	} else if (kind == 1) {
		poke(TOP, table + 72 + 36, "\xff\xff\xff\xff", 4);
	} else if (kind == 2) {
		poke(TOP, 60, &nb, 4);		/* 70000 snapshots */
	} else {
		poke(TOP, 64, "\0\0\0\1\0\0\0\1", 8);
	}
	matrix_save("model", r->m, r->size);
	RUN_OK("%%M convert %s -O raw x && cmp x model && %%M info -f qcow2 %s", words, TOP);
	if (kind < 2 && !(r->c->feature->is & LUKS)) {
		matrix_save("one", one, size);
		RUN_OK("%%M snapshot -l %s | grep -q ' one ' && %%M convert -l one %s -O raw x && "
		       "cmp x one",
		       words, words);
		RUN_FAILS(1, "%%M convert -l two %s -O raw x", words);
	}
	if (kind) {
		RUN_FAILS(1, "%%M snapshot -c four %s", words);
	} else {
		RUN_OK("%%M snapshot -l %s | grep -q ' two ' && %%M snapshot -l %s | grep -q ' "
		       "three '",
		       words, words);
		RUN_FAILS(1, "%%M snapshot -a two %s", words);
		matrix_change(r, 10, EVERY);
	}
	RUN_FAILS(2, "cp %s was; %%M check %s", TOP, words);
	RUN_FAILS(2, "%%M check -r leaks %s", words);
	RUN_OK("%%M check -r all %s", words);
	matrix_judge(r, "repaired");
	if (!kind)
		RUN_OK("! %%M snapshot -l %s | grep ' two ' && %%M snapshot -a three %s", words,
		       words);
	if (kind < 2) {
		RUN_OK("%%M snapshot -a one %s", words);
		memcpy(r->m, one, size);
	} else {
		RUN_OK("! %%M snapshot -l %s | grep .", words);
	}
	free(one);
}

static void op_bitmap_damaged(struct run *r)
{
	uint64_t at = 104, wrong = htobe64(be64_at(TOP, 24) | 1);

	RUN_OK("%%M bitmap --add %s b0", matrix_words(r, TOP));
	while (be64_at(TOP, at) >> 32 != 0x23852875 && at < 4096)
		at += 8;
	CHECK(at < 4096);
	poke(TOP, at + 8 + 16, &wrong, 8);
	matrix_save("model", r->m, r->size);
	RUN_OK("%%M convert %s -O raw x && cmp x model && %%M info -f qcow2 %s",
	       matrix_words(r, TOP), TOP);
	RUN_FAILS(1, "%%M bitmap --add %s b1", matrix_words(r, TOP));
	RUN_FAILS(2, "%%M check -r leaks %s", matrix_words(r, TOP));
	RUN_OK("%%M check -r all %s", matrix_words(r, TOP));
	matrix_judge(r, "repaired");
	RUN_OK("%%M bitmap --add %s b1", matrix_words(r, TOP));
}

/* Data in a wrong place: said, and kept, with what looks leaked. */
static void op_check_place(struct run *r)
{
	bool ext = strstr(r->c->feature->opts, "extended_l2");
	uint64_t l1 = be64_at(TOP, 40), entry, at, bits = be64_at(TOP, 20) >> 32, wrong;

	matrix_change(r, 20, 0);
	for (uint64_t i = 0;; i++) {
		at = be64_at(TOP, l1 + i * 8) & 0xfffffffffffe00ull;
		for (uint64_t e = 0; at && e < (1ull << bits) / (ext ? 16 : 8);
		     e++, at += ext ? 16 : 8) {
			entry = be64_at(TOP, at);
			if (entry >> 63 && entry & 0xfffffffffffe00ull && !(entry & 1) &&
			    (!ext || be64_at(TOP, at + 8) & 0xffffffff))
				goto found;
		}
	}
found:
	wrong = htobe64(entry + 512);
	poke(TOP, at, &wrong, 8);
	RUN_FAILS(2, "%%M check -r all %s", matrix_words(r, TOP));
	CHECK(be64_at(TOP, at) == entry + 512);
	wrong = htobe64(entry);
	poke(TOP, at, &wrong, 8);
	RUN_OK("%%M check -r all %s", matrix_words(r, TOP));
}

/* --- amend --- */

static void amend(struct run *r, const char *o)
{
	RUN_OK("%%M amend -o %s %s", o, matrix_words(r, TOP));
	matrix_judge(r, o);
	matrix_change(r, 10, EVERY);
}

static void op_amend(struct run *r)
{
	const struct feature *f = r->c->feature;
	bool old = !(f->is & DATA_FILE) && !(f->is & LUKS) && !strstr(f->opts, "extended") &&
		   !strstr(f->opts, "zstd");
	uint64_t size;
	char text[64];

	amend(r, "compat=1.1,lazy_refcounts=on");
	amend(r, "refcount_bits=64");
	amend(r, "refcount_bits=16,lazy_refcounts=off");
	if (old)
		amend(r, "compat=0.10");
	size = r->size + 512 * (1 + matrix_below(r, 2000));
	snprintf(text, sizeof(text), "size=%llu", (unsigned long long)size);
	RUN_OK("%%M amend -o %s %s", text, matrix_words(r, TOP));
	matrix_size(r, size);
	matrix_judge(r, "amended size");
	if (old)
		amend(r, "compat=1.1,refcount_bits=8");
	if (old)
		amend(r, "refcount_bits=16,compat=0.10");
}

/* What is refused has changed nothing. */
static void op_amend_refused(struct run *r)
{
	static const char *const bad[] = {
		"compat=1.1,refcount_bits=3",
		"compat=1.1,lazy_refcounts=on,size=1000",
		"compat=1.1,refcount_bits=8,data_file_raw=on",
		"refcount_bits=8,compat=0.10",
		"size=8M,refcount_bits=7",
		"compat=1.1,size=7E",
		"lazy_refcounts=on,compat=0.10",
		"compat=1.1,lazy_refcounts=on,encrypt.state=active",
		"compat=1.1,lazy_refcounts=maybe",
		"compat=1.1,size=16M,backing_file=other",
	};

	RUN_OK("cp %s was", TOP);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		RUN_OK("! %%M amend -o %s %s >/dev/null 2>&1 && cmp %s was", bad[i],
		       matrix_words(r, TOP), TOP);
}

/* --- bitmaps --- */

static void op_bitmap(struct run *r)
{
	const char *w = matrix_words(r, TOP);

	RUN_OK("%%M bitmap --add -g 4k %s b0 && %%M bitmap --add %s b1", w, w);
	matrix_change(r, 20, EVERY);
	matrix_judge(r, "with bitmaps");
	resize(r, r->size + 512 * (1 + matrix_below(r, 9000)), "");
	matrix_change(r, 20, EVERY);
	resize(r, 512 * (1 + matrix_below(r, r->size / 512 - 1)), "--shrink");
	matrix_change(r, 20, EVERY);
	RUN_OK("%%M bitmap --merge b0 %s b1 && %%M bitmap --disable %s b0", w, w);
	matrix_judge(r, "merged");
	RUN_OK("rm -f x; %%M convert --bitmaps %s -O qcow2 -o cluster_size=4k x && "
	       "qemu-img check -q x && "
	       "qemu-img info x | grep -q 'name: b1'",
	       w);
	RUN_OK("%%M bitmap --clear %s b1 && %%M bitmap --remove %s b0", w, w);
	matrix_judge(r, "one removed");
	RUN_OK("%%M bitmap --remove %s b1", w);
}

/* --- jobs: what a machine does while it runs --- */

static void job_ends(struct job *j, const struct err *err)
{
	if (!j)
		tap_fail(__FILE__, __LINE__, "%s", err->msg);
	while (j->state != JOB_READY && j->state != JOB_DONE)
		usleep(1000);
	job_complete(j);
	if (job_wait(j))
		tap_fail(__FILE__, __LINE__, "job: %s", j->err.msg);
	job_free(j);
}

static void op_job_commit(struct run *r)
{
	struct blk *b = matrix_open(r, TOP, "qcow2", BLK_RDWR);
	struct err err = { "" };

	job_ends(job_commit(b, NULL, NULL, &err), &err);
	CHECK_EQ(blk_close(b), 0);
	base_gets(r, r->m, r->size);
}

static void op_job_commit_through(struct run *r)
{
	struct err err = { "" };
	struct run up;
	struct blk *b;

	if ((r->c->feature->is & LUKS))
		exit(0);
	make_up(r, &up, other_size(r));
	b = matrix_open(&up, "up.qcow2", "qcow2", BLK_RDWR);
	job_ends(job_commit(b, blk_root(b)->backing->backing, NULL, &err), &err);
	CHECK_EQ(blk_close(b), 0);
	base_gets(r, up.m, up.size);
	exit(0);
}

static void op_job_stream(struct run *r)
{
	struct blk *b = matrix_open(r, TOP, "qcow2", BLK_RDWR);
	struct err err = { "" };

	job_ends(job_stream(b, NULL, NULL, &err), &err);
	matrix_dabble(r, b, 10, EVERY);
	CHECK_EQ(blk_close(b), 0);
	RUN_OK("rm -f base.*; ! qemu-img info -U %s | grep '^backing file'", TOP);
}

/* An overlay takes in what TOP has, and stands on the base afterwards, also from another folder. */
static void op_job_stream_onto(struct run *r)
{
	struct err err = { "" };
	struct run up;
	struct blk *b;

	if (r->c->feature->is & LUKS)
		exit(0);
	make_up(r, &up, other_size(r));
	b = matrix_open(&up, "up.qcow2", "qcow2", BLK_RDWR);
	job_ends(job_stream(b, blk_root(b)->backing->backing, NULL, &err), &err);
	matrix_dabble(&up, b, 10, EVERY);
	CHECK_EQ(blk_close(b), 0);
	RUN_OK("rm %s; qemu-img info up.qcow2 | grep '^backing file: %s'", TOP, r->base);
	matrix_judge_file(&up, "up.qcow2", "qcow2", up.m, up.size, "the overlay, on the base");
	exit(0);
}

/* Into an image that has a base of its own, opened without it as a machine does. */
static void op_job_mirror(struct run *r)
{
	struct blk *b = matrix_open(r, TOP, "qcow2", BLK_RDWR);
	struct blk_options o = { .format = "qcow2", .flags = BLK_RDWR | BLK_NO_BACKING };
	struct err err = { "" };
	const char *format;
	struct node *n;
	char name[32];

	new_base(r, name, sizeof(name), &format);
	RUN_OK("%%M create -q -f qcow2 -o %s -b %s -F %s to.qcow2 %llu",
	       matrix_coin(r) ? "compat=0.10" : "extended_l2=on", name, format,
	       (unsigned long long)r->size);
	n = node_open("to.qcow2", &o, &err);
	if (!n)
		tap_fail(__FILE__, __LINE__, "%s", err.msg);
	job_ends(matrix_coin(r) ? job_mirror(b, n, NULL, &err) : job_backup(b, n, NULL, &err),
		 &err);
	CHECK_EQ(blk_close(b), 0);
	matrix_judge_file(r, "to.qcow2", "qcow2", r->m, r->size, "the copy");
}

const struct operation matrix_operations[] = {
	{ "write", 0, op_write },
	{ "zero", 0, op_zero },
	{ "discard", 0, op_discard },
	{ "packed", NEEDS_PLAIN_DATA, op_packed },
	{ "grow", 0, op_grow },
	{ "shrink", 0, op_shrink },
	{ "shrink-grow", 0, op_shrink_grow },
	{ "grow-preallocated", 0, op_grow_preallocated },
	{ "snapshot", NEEDS_SHARED, op_snapshot },
	{ "snapshot-resize", NEEDS_SHARED | NEEDS_V3, op_snapshot_resize },
	{ "commit", NEEDS_BASE, op_commit },
	{ "commit-into", NEEDS_OVERLAY | NEEDS_CLEAR, op_commit_into },
	{ "commit-through", NEEDS_BASE | NEEDS_CLEAR, op_commit_through },
	{ "rebase", NEEDS_BASE, op_rebase },
	{ "rebase-first", NEEDS_NO_BASE | NEEDS_OVERLAY, op_rebase },
	{ "rebase-none", NEEDS_BASE, op_rebase_none },
	{ "rebase-unsafe", NEEDS_BASE, op_rebase_unsafe },
	{ "rebase-self", 0, op_rebase_self },
	{ "convert", 0, op_convert },
	{ "convert-into", 0, op_convert_into },
	{ "convert-over", NEEDS_BASE, op_convert_over },
	{ "measure", 0, op_measure },
	{ "check", 0, op_check },
	{ "check-counts", 0, op_check_counts },
	{ "check-table", 0, op_check_table },
	{ "check-bitmap", NEEDS_EXT, op_check_bitmap },
	{ "check-place", NEEDS_PLAIN_DATA | NEEDS_LARGER, op_check_place },
	{ "snapshot-damaged", NEEDS_SHARED, op_snapshot_damaged },
	{ "bitmap-damaged", NEEDS_V3, op_bitmap_damaged },
	{ "amend", 0, op_amend },
	{ "amend-refused", 0, op_amend_refused },
	{ "bitmap", NEEDS_V3, op_bitmap },
	{ "job-commit", NEEDS_BASE, op_job_commit },
	{ "job-commit-through", NEEDS_BASE, op_job_commit_through },
	{ "job-stream", NEEDS_BASE, op_job_stream },
	{ "job-stream-onto", NEEDS_BASE, op_job_stream_onto },
	{ "job-mirror", 0, op_job_mirror },
	{ NULL, 0, NULL },
};
