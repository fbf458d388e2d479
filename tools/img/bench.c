/* SPDX-License-Identifier: GPL-2.0-or-later */
/* bench.c: bench: simple sequential I/O through the same front that a running machine uses. */
#include <errno.h>
#include <stdlib.h>

#include "disk/blk.h"
#include "tools/img/img.h"

struct bench {
	struct blk *b;
	struct blk_queue *q;
	struct loop *loop;
	bool write, drain, flushing;
	uint64_t count, depth, size, step, off, image_size, flush_interval;
	uint64_t submitted, done, in_flight;
	uint8_t *buf;
	int ret;
	struct slot { struct blk_req r; struct iovec iov; struct bench *bench; } *slots;
};

static void request_done(struct blk_req *r)
{
	struct slot *s = container_of(r, struct slot, r);
	struct bench *b = s->bench;

	if (r->ret < 0 && b->ret == 0)
		b->ret = r->ret;
	r->ctx = NULL;
	b->in_flight--;
	if (r->op == BLK_FLUSH)
		b->flushing = false;
	else
		b->done++;
}

static void start_flush(struct bench *b)
{
	struct slot *s = &b->slots[b->depth];

	b->flushing = true;
	b->in_flight++;
	s->r = (struct blk_req){ .op = BLK_FLUSH, .done = request_done, .ctx = b };
	blk_submit(b->q, &s->r);
}

static void submit_more(struct bench *b)
{
	blk_plug(b->q);
	for (uint64_t i = 0; i < b->depth && b->submitted < b->count && b->ret == 0; i++) {
		struct slot *s = &b->slots[i];

		if (b->flushing && b->drain)
			break;
		if (s->r.ctx)
			continue;
		if (b->flush_interval && b->submitted && b->submitted % b->flush_interval == 0 &&
		    !b->flushing && b->slots[b->depth].r.id != b->submitted) {
			if (b->drain && b->in_flight)
				break;
			start_flush(b);
			b->slots[b->depth].r.id = b->submitted;
			if (b->drain)
				break;
		}
		s->iov = (struct iovec){ b->buf + i * b->size, b->size };
		s->r = (struct blk_req){ .op = b->write ? BLK_WRITE : BLK_READ,
					 .off = b->off,
					 .len = b->size,
					 .iov = &s->iov,
					 .niov = 1,
					 .done = request_done,
					 .ctx = b };
		b->off += b->step;
		if (b->image_size <= b->size)
			b->off = 0;
		else
			b->off %= b->image_size - b->size;
		b->submitted++;
		b->in_flight++;
		blk_submit(b->q, &s->r);
	}
	blk_unplug(b->q);
}

static int number(struct args *a, const char *name, uint64_t def, uint64_t max, uint64_t *v,
		  const char *what)
{
	const char *s = arg_get(a, name);

	*v = def;
	if (s && (parse_bytes(s, v) < 0 || *v > max))
		return fail("Invalid %s specified", what);
	return 0;
}

static int parse(struct args *a, struct bench *b, uint64_t *pattern)
{
	const char *aio = arg_get(a, "-i");

	if (number(a, "-c", 75000, INT64_MAX, &b->count, "request count") ||
	    number(a, "-d", 64, 65536, &b->depth, "queue depth") ||
	    number(a, "-o", 0, INT64_MAX, &b->off, "offset") ||
	    number(a, "-s", 4096, INT32_MAX, &b->size, "buffer size") ||
	    number(a, "-S", 0, INT64_MAX, &b->step, "step size") ||
	    number(a, "--flush-interval", 0, INT64_MAX, &b->flush_interval, "flush interval") ||
	    number(a, "--pattern", 0, 255, pattern, "pattern byte"))
		return 1;
	if (aio && strcmp(aio, "threads") && strcmp(aio, "native") && strcmp(aio, "io_uring"))
		return fail("Invalid aio option: %s", aio);
	b->write = arg_has(a, "-w");
	b->drain = !arg_has(a, "--no-drain");
	if (!b->size || !b->depth)
		return fail("Invalid %s specified", b->size ? "queue depth" : "buffer size");
	if (!b->step)
		b->step = b->size;
	if (!b->write && b->flush_interval)
		return fail("--flush-interval is only available in write tests");
	if (b->flush_interval && b->flush_interval < b->depth)
		return fail("Flush interval can't be smaller than depth");
	if (b->depth * b->size > 4 * GiB)
		return fail("depth and buffer size need more than 4 GiB of memory");
	return 0;
}

static int run(struct args *a, struct bench *b, uint64_t pattern)
{
	int64_t start;

	b->loop = loop_new("bench");
	b->q = blk_queue_new(b->b, b->loop);
	b->slots = xcalloc(b->depth + 1, sizeof(*b->slots));
	for (uint64_t i = 0; i <= b->depth; i++)
		b->slots[i].bench = b;
	if (posix_memalign((void **)&b->buf, 4096, b->depth * b->size))
		return fail("no memory for the buffers");
	memset(b->buf, pattern, b->depth * b->size);
	if (!args_quiet(a))
		printf("Sending %llu %s requests, %llu bytes each, %llu in parallel (starting at "
		       "offset %llu, step size %llu)\n",
		       (unsigned long long)b->count, b->write ? "write" : "read",
		       (unsigned long long)b->size, (unsigned long long)b->depth,
		       (unsigned long long)b->off, (unsigned long long)b->step);
	if (b->flush_interval && !args_quiet(a))
		printf("Sending flush every %s%llu requests\n", b->drain ? "" : "ca. ",
		       (unsigned long long)b->flush_interval);
	start = now_ns();
	loop_lock(b->loop);
	submit_more(b);
	loop_unlock(b->loop);
	while (b->in_flight || (b->submitted < b->count && b->ret == 0)) {
		loop_once(b->loop, -1);
		loop_lock(b->loop);
		submit_more(b);
		loop_unlock(b->loop);
	}
	if (b->ret < 0)
		return fail("Failed request: %s", strerror(-b->ret));
	if (!args_quiet(a))
		printf("Run completed in %3.3f seconds.\n", (now_ns() - start) / 1e9);
	return 0;
}

int cmd_bench(struct args *a)
{
	struct bench b = { 0 };
	struct blk_options o = { 0 };
	struct node *n;
	uint64_t pattern;
	bool ok;
	int ret;

	if (a->n != 1)
		return usage_error("Expecting one image file name");
	if (parse(a, &b, &pattern))
		return 1;
	o.flags = cache_flags(arg_get(a, "-t"), "writeback", &ok) | (b.write ? BLK_RDWR : 0);
	if (!ok)
		return fail("Invalid cache option: %s", arg_get(a, "-t"));
	if (arg_has(a, "-n|--native"))
		o.flags |= BLK_NOCACHE;
	n = img_open(a, a->operand[0], arg_get(a, "-f"), o.flags);
	if (!n)
		return 1;
	b.b = blk_new(n, &o);
	b.image_size = blk_size(b.b);
	if (b.size > b.image_size)
		ret = fail("the image is smaller than one request");
	else
		ret = run(a, &b, pattern);
	if (b.q)
		blk_queue_free(b.q);
	if (b.loop)
		loop_free(b.loop);
	free(b.buf);
	free(b.slots);
	if (blk_close(b.b) < 0 && !ret)
		ret = fail("could not write '%s'", a->operand[0]);
	return ret;
}
