/* SPDX-License-Identifier: GPL-2.0-or-later */
/* matrix.c: making an image of a combination, changing it at random, and judging it. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "tests/lib/matrix_run.h"
#include "tests/tap.h"

uint64_t matrix_below(struct run *r, uint64_t n)
{
	return n ? (img_random(&r->rng) ^ (uint64_t)img_random(&r->rng) << 31) % n : 0;
}

bool matrix_coin(struct run *r)
{
	return img_random(&r->rng) & 1;
}

const char *matrix_words(const struct run *r, const char *file)
{
	static char text[4][400];
	static unsigned next;
	char *t = text[next++ % 4];

	if (!(r->c->feature->is & LUKS) || strcmp(file, TOP))
		snprintf(t, sizeof(text[0]), "-f qcow2 %s", file);
	else
		snprintf(t, sizeof(text[0]),
			 "--object secret,id=s,file=key --image-opts "
			 "driver=qcow2,encrypt.key-secret=s,file.driver=file,file.filename=%s",
			 file);
	return t;
}

void matrix_save(const char *name, const uint8_t *data, uint64_t len)
{
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || write(fd, data, len) != (ssize_t)len)
		tap_fail(__FILE__, __LINE__, "%s: %s", name, strerror(errno));
	close(fd);
}

static void load(const char *name, uint8_t *data, uint64_t len)
{
	int fd = open(name, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, data, len) != (ssize_t)len)
		tap_fail(__FILE__, __LINE__, "%s: cannot read %llu bytes", name,
			 (unsigned long long)len);
	close(fd);
}

struct blk *matrix_open(const struct run *r, const char *file, const char *format, unsigned flags)
{
	struct blk_options o = { .format = format, .flags = flags };
	struct err err = { "" };
	struct blk *b;

	if (flags & BLK_RDWR)
		o.flags |= BLK_UNSAFE | BLK_DISCARD_UNMAP;
	if ((r->c->feature->is & LUKS) && !strcmp(file, TOP))
		o.secret_file = "key";
	b = blk_open(file, &o, &err);
	if (!b)
		tap_fail(__FILE__, __LINE__, "%s: %s", file, err.msg);
	return b;
}

/* --- changing it --- */

static uint64_t cluster_of(const char *opts)
{
	const char *p = strstr(opts, "cluster_size=");
	uint64_t v = 65536;

	if (p) {
		v = strtoul(p + 13, (char **)&p, 10);
		v <<= *p == 'k' ? 10 : *p == 'M' ? 20 : 0;
	}
	return v;
}

/* What a discarded range may read as: what it was, or zeros. */
static void discard(struct run *r, struct blk *b, uint64_t off, uint64_t len)
{
	uint8_t *now = malloc(len);

	CHECK_EQ(blk_pdiscard(b, off, len), 0);
	CHECK_EQ(blk_pread(b, now, len, off), 0);
	for (uint64_t i = 0; i < len; i++)
		if (now[i] && now[i] != r->m[off + i])
			tap_fail(__FILE__, __LINE__, "discarded byte %llu is %02x, and was %02x",
				 (unsigned long long)(off + i), now[i], r->m[off + i]);
	memcpy(r->m + off, now, len);
	free(now);
}

static void packed(struct run *r, struct blk *b, uint64_t cluster, uint8_t *buf)
{
	uint64_t off = ALIGN_DOWN(matrix_below(r, r->size), cluster);
	uint64_t len = MIN(cluster, r->size - off);
	uint8_t fill = img_random(&r->rng) >> 7;

	for (uint64_t i = 0; i < len; i++)
		buf[i] = fill + i / 1000;
	if (node_write_compressed(blk_root(b), off, buf, len) == 0)
		memcpy(r->m + off, buf, len);
}

void matrix_dabble(struct run *r, struct blk *b, unsigned ops, unsigned kinds)
{
	uint64_t cluster = cluster_of(r->c->feature->opts);
	uint8_t *buf = malloc(r->size + cluster);

	CHECK_EQ(blk_size(b), r->size);
	while (ops--) {
		unsigned kind = img_random(&r->rng) % 16;
		uint64_t off = matrix_below(r, r->size), most = r->size - off, len;

		len = matrix_coin(r) ? 5000 : 3 * cluster + 100;
		len = 1 + matrix_below(r, MIN(most, len));
		if (matrix_coin(r)) {
			off = ALIGN_DOWN(off, 512);
			len = MIN(ALIGN_UP(len, 512), r->size - off);
		}
		if (kinds & (1u << DISCARDS) && kind < 5) {
			discard(r, b, off, len);
		} else if (kinds & (1u << ZEROS) && kind < 10) {
			CHECK_EQ(blk_pzero(b, off, len, kind & 1 ? BLK_UNMAP : 0), 0);
			memset(r->m + off, 0, len);
		} else if (kinds & (1u << PACKED) && kind < 13 && !(r->c->feature->is & LUKS) &&
			   !(r->c->feature->is & DATA_FILE)) {
			packed(r, b, cluster, buf);
		} else {
			for (uint64_t i = 0; i < len; i++)
				buf[i] = 1 + (img_random(&r->rng) >> 7) % 255;
			CHECK_EQ(blk_pwrite(b, buf, len, off, 0), 0);
			memcpy(r->m + off, buf, len);
		}
	}
	free(buf);
}

void matrix_change(struct run *r, unsigned ops, unsigned kinds)
{
	struct blk *b = matrix_open(r, TOP, "qcow2", BLK_RDWR);

	matrix_dabble(r, b, ops, kinds);
	CHECK_EQ(blk_close(b), 0);
}

void matrix_size(struct run *r, uint64_t size)
{
	r->m = realloc(r->m, size + 1);
	if (size > r->size)
		memset(r->m + r->size, 0, size - r->size);
	r->size = size;
}

/* --- judging it --- */

static void compare(const uint8_t *have, const uint8_t *want, uint64_t len, const char *who,
		    const char *where)
{
	for (uint64_t i = 0; i < len; i++)
		if (have[i] != want[i])
			tap_fail(__FILE__, __LINE__, "%s: %s reads byte %#llx as %02x, not %02x",
				 where, who, (unsigned long long)i, have[i], want[i]);
}

/* Both programs read an image of any format, and find nothing wrong with a qcow2. */
void matrix_judge_file(struct run *r, const char *file, const char *format, const uint8_t *want,
		       uint64_t size, const char *where)
{
	char words[420];
	struct img_result *x;
	uint8_t *have = malloc(size + 1);
	struct blk *b;
	struct stat st;

	snprintf(words, sizeof(words), "-f %s %s", format, file);
	if (!strcmp(format, "qcow2")) {
		snprintf(words, sizeof(words), "%s", matrix_words(r, file));
		x = img_run("qemu-img check %s 2>&1 && %%M check -q %s 2>&1", words, words);
		if (x->status)
			tap_fail(__FILE__, __LINE__, "%s: check of %s: %d\n# %.3000s", where, file,
				 x->status, x->out);
	}
	x = img_run("rm -f out; qemu-img convert %s -O raw out", words);
	if (x->status)
		tap_fail(__FILE__, __LINE__, "%s: qemu-img cannot read %s: %.2000s", where, file,
			 x->out);
	if (stat("out", &st) || (uint64_t)st.st_size != ALIGN_UP(size, 512))
		tap_fail(__FILE__, __LINE__, "%s: %s has %llu bytes, not %llu", where, file,
			 (unsigned long long)st.st_size, (unsigned long long)size);
	load("out", have, size);
	compare(have, want, size, "qemu-img", where);
	b = matrix_open(r, file, format, 0);
	CHECK(blk_size(b) >= size && blk_size(b) <= ALIGN_UP(size, 512));
	memset(have, 0xee, size);
	CHECK_EQ(blk_pread(b, have, size, 0), 0);
	compare(have, want, size, "minivmm", where);
	blk_close(b);
	free(have);
}

void matrix_judge(struct run *r, const char *where)
{
	matrix_judge_file(r, TOP, "qcow2", r->m, r->size, where);
	if ((r->c->feature->is & DATA_RAW)) {
		uint8_t *have = malloc(r->size);

		load("data", have, r->size);
		compare(have, r->m, r->size, "the data file as it is", where);
		free(have);
	}
}

/* --- making it --- */

static void make_base(struct run *r)
{
	const struct base *b = r->c->base;
	struct run base = { .c = r->c, .rng = r->rng + 1 };
	struct combination c = *r->c;
	struct feature plain = { .name = "base", .opts = b->opts };
	struct blk *blk;

	r->base_size = r->size + b->delta;
	r->bm = calloc(1, r->base_size + 1);
	snprintf(r->base, sizeof(r->base), "base.%s", b->format);
	img_pattern("pattern", r->base_size, r->c->seed);
	load("pattern", r->bm, r->base_size);
	if (!strcmp(b->format, "raw")) {
		RUN_OK("mv pattern %s", r->base);
		return;
	}
	if (!b->below) {
		RUN_OK("qemu-img convert -f raw -O qcow2 -o %s pattern %s", b->opts, r->base);
		return;
	}
	/* The base's own base is longer than it: what lies beyond does not show. */
	img_pattern("below.raw", r->base_size + b->below, r->c->seed + 1);
	load("below.raw", r->bm, r->base_size);
	RUN_OK("qemu-img create -q -f qcow2 -o %s -b below.raw -F raw %s %llu", b->opts, r->base,
	       (unsigned long long)r->base_size);
	c.feature = &plain;
	base.c = &c;
	base.m = r->bm;
	base.size = r->base_size;
	blk = matrix_open(&base, r->base, "qcow2", BLK_RDWR);
	matrix_dabble(&base, blk, 12, 1u << ZEROS);
	CHECK_EQ(blk_close(blk), 0);
}

static void make(struct run *r)
{
	const struct feature *f = r->c->feature;
	bool ours = (f->is & LUKS) || matrix_coin(r);
	char base[160] = "";

	r->size = ((f->is & LARGE) ? 9 : 2) * 1024 * 1024 + 67 * 512;
	r->m = calloc(1, r->size + 1);
	if ((f->is & LUKS))
		matrix_save("key", (const uint8_t *)"sesame", 6);
	if (r->c->base->format) {
		make_base(r);
		memcpy(r->m, r->bm, MIN(r->size, r->base_size));
		snprintf(base, sizeof(base), "-b %s -F %s", r->base, r->c->base->format);
	}
	RUN_OK("%s create -q -f qcow2 %s %s%s %s %s %llu", ours ? "%M" : "qemu-img",
	       (f->is & LUKS) ? "--object secret,id=s,file=key" : "", *f->opts ? "-o " : "",
	       f->opts, base, TOP, (unsigned long long)r->size);
	matrix_judge(r, ours ? "just created" : "created by qemu-img");
	matrix_change(r, 25, 1u << ZEROS | (r->c->seed & 1) << PACKED);
}

void matrix_run(const struct combination *c)
{
	struct run r = { .c = c, .rng = c->seed * 2654435761u + 12345 };

	img_enter();
	make(&r);
	c->op->fn(&r);
	matrix_judge(&r, "at the end");
	free(r.m);
	free(r.bm);
}
