/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio_balloon.c: the memory balloon (virtio 1.2, 5.5): inflate and deflate, deflate when the
 * guest runs out of memory, statistics, reporting of free pages. The device's loop.
 *
 * The statistics chain stays popped until the next statistics are wanted; while the device is
 * stopped it is in the ring.
 */
#include <errno.h>
#include <linux/virtio_balloon.h>
#include <stdlib.h>

#include "devices/virtio/virtio.h"
#include "vmm/base/limits.h"
#include "vmm/base/log.h"

#define QUEUE_SIZE 128
#define PFN_BATCH 1024			/* page numbers looked at in one piece */
#define QUEUES 4
enum { INFLATE, DEFLATE };

struct balloon {
	struct virtio_dev v;
	struct virtio_balloon_config cfg;
	uint64_t stats[VIRTIO_BALLOON_S_NR];
	int64_t stats_time;			/* ns of the host; 0: none yet */
	bool stats_popped;
	/* bytes of the next chain that were dealt with in earlier turns, per queue */
	uint64_t done[QUEUES];
	uint64_t turn;				/* of the loop, in which these were used: */
	unsigned pages, calls;
	struct virtq_elem stats_elem;
	struct loop_timer timer;
	int64_t interval;			/* ns between statistics; 0: not wanted */
	void (*changed)(void *ctx, uint64_t actual);
	void *changed_ctx;
	struct iovec iov[VIRTQ_MAX_IOV], stats_iov[VIRTQ_MAX_IOV];
};

static struct balloon *to_balloon(struct virtio_dev *v)
{
	return container_of(v, struct balloon, v);
}

/*
 * Queues exist only with their feature and move up when an earlier one is missing; nqueues: not
 * there.
 */
static unsigned stats_queue(const struct virtio_dev *v)
{
	return virtio_has(v, VIRTIO_BALLOON_F_STATS_VQ) ? 2 : v->nqueues;
}

static unsigned reporting_queue(const struct virtio_dev *v)
{
	if (!virtio_has(v, VIRTIO_BALLOON_F_REPORTING))
		return v->nqueues;
	return virtio_has(v, VIRTIO_BALLOON_F_STATS_VQ) ? 3 : 2;
}

/* --- pages --- */

/* Whether this turn of the loop has had its pages and calls to the host, all queues together. */
static bool turn_over(struct balloon *b)
{
	if (b->turn != loop_turn(b->v.loop)) {
		b->turn = loop_turn(b->v.loop);
		b->pages = b->calls = 0;
	}
	return b->pages >= TURN_PAGES || b->calls >= TURN_CALLS;
}

static void give_back(struct balloon *b, uint32_t pfn, uint32_t pages)
{
	b->calls++;
	int ret = mem_discard(b->v.mem, (uint64_t)pfn << VIRTIO_BALLOON_PFN_SHIFT,
			      (uint64_t)pages << VIRTIO_BALLOON_PFN_SHIFT);

	if (ret == -EFAULT)
		log_guest("%s: %u pages from page %u on are not memory", b->v.id, pages, pfn);
	else if (ret)
		log_guest("%s: the host did not take %u pages back: %s", b->v.id, pages,
			  strerror(-ret));
}

/*
 * Drivers list pages one by one, mostly neighbours, upwards or downwards: one call to the host for
 * each run. Begins at byte *off of the list and says where it stopped; true at the list's end.
 */
static bool inflate(struct balloon *b, const struct virtq_elem *e, uint64_t *off)
{
	uint8_t le[4 * PFN_BATCH];
	uint32_t first = 0, pages = 0;
	size_t n, i;

	while (!turn_over(b) && (n = iov_to_buf(e->iov, e->out_n, *off, le, sizeof(le)) / 4)) {
		for (i = 0; i < n && b->calls < TURN_CALLS; i++) {
			uint32_t pfn = ld_le32(le + 4 * i);

			if (pages && pfn == first + pages) {
				pages++;
			} else if (pages && pfn == first - 1) {
				first--;
				pages++;
			} else {
				if (pages)
					give_back(b, first, pages);
				first = pfn;
				pages = 1;
			}
		}
		*off += 4 * i;
		b->pages += i;
	}
	if (pages)
		give_back(b, first, pages);
	return e->out_len - MIN(*off, e->out_len) < 4;
}

/* The same for pages reported as free: the chain's own buffers. */
static bool report(struct balloon *b, const struct virtq_elem *e, uint64_t *off)
{
	const uint64_t most = (uint64_t)TURN_PAGES << VIRTIO_BALLOON_PFN_SHIFT;
	uint64_t skip = *off;

	for (int i = 0; i < e->in_n; i++) {
		struct iovec part = e->iov[e->out_n + i];

		if (skip >= part.iov_len) {
			skip -= part.iov_len;
			continue;
		}
		while (skip < part.iov_len && !turn_over(b)) {
			struct iovec now = { (char *)part.iov_base + skip,
					     MIN(part.iov_len - skip, most) };

			mem_iov_discard(b->v.mem, &now, e->in_n);
			b->calls++;
			b->pages += now.iov_len >> VIRTIO_BALLOON_PFN_SHIFT;
			skip += now.iov_len;
			*off += now.iov_len;
		}
		if (skip < part.iov_len)
			return false;
		skip = 0;
	}
	return true;
}

static void pages_kick(struct balloon *b, unsigned q)
{
	struct virtq *vq = &b->v.queues[q];
	struct virtq_elem e;
	bool all = true;

	do {
		virtq_kicks_off(vq);
		while (all && virtq_pop(vq, &e, b->iov, VIRTQ_MAX_IOV) == 1) {
			trace(TRACE_VIRTIO, e.id, b->v.id, "%s %llu pages",
			      q == INFLATE   ? "inflate"
			      : q == DEFLATE ? "deflate"
					     : "report",
			      (unsigned long long)(q > DEFLATE ? e.in_len >> 12 : e.out_len / 4));
			/* Deflated pages come back by themselves when the guest touches them. */
			if (q == INFLATE)
				all = inflate(b, &e, &b->done[q]);
			else if (q != DEFLATE)
				all = report(b, &e, &b->done[q]);
			if (!all) {
				/* The rest of it after the others; kicks stay off. */
				virtq_unpop(vq, &e);
				virtio_ring_bell(&b->v, q);
				break;
			}
			b->done[q] = 0;
			virtq_push(vq, &e, 0);
		}
	} while (all && virtq_kicks_on(vq));
	virtio_flush(&b->v, q);
}

/* --- statistics --- */

static void stats_take(struct balloon *b, const struct virtq_elem *e)
{
	struct virtio_balloon_stat s;

	for (size_t off = 0;
	     off < sizeof(s) * 64 && iov_to_buf(e->iov, e->out_n, off, &s, sizeof(s)) == sizeof(s);
	     off += sizeof(s))
		if (ld_le16(&s.tag) < VIRTIO_BALLOON_S_NR)
			b->stats[ld_le16(&s.tag)] = ld_le64(&s.val);
	b->stats_time = now_ns();
	trace(TRACE_VIRTIO, e->id, b->v.id, "statistics: %llu bytes free of %llu",
	      (unsigned long long)b->stats[VIRTIO_BALLOON_S_MEMFREE],
	      (unsigned long long)b->stats[VIRTIO_BALLOON_S_MEMTOT]);
}

static void stats_kick(struct balloon *b)
{
	struct virtq *vq = &b->v.queues[stats_queue(&b->v)];
	struct virtq_elem e;

	/* A driver has one chain here; from one that puts more, the newest counts. */
	while (virtq_pop(vq, &e, b->iov, VIRTQ_MAX_IOV) == 1) {
		if (b->stats_popped)
			virtq_push(vq, &b->stats_elem, 0);
		stats_take(b, &e);
		memcpy(b->stats_iov, e.iov, (e.out_n + e.in_n) * sizeof(*e.iov));
		e.iov = b->stats_iov;
		b->stats_elem = e;
		b->stats_popped = true;
	}
	if (virtq_kicks_on(vq))
		virtio_ring_bell(&b->v, stats_queue(&b->v));
	virtio_flush(&b->v, stats_queue(&b->v));
}

/* Giving the chain back is the question; the driver answers by putting it there again. */
static void stats_ask(void *ctx)
{
	struct balloon *b = ctx;
	unsigned q = stats_queue(&b->v);

	if (b->stats_popped && __atomic_load_n(&b->v.running, __ATOMIC_ACQUIRE)) {
		virtq_push(&b->v.queues[q], &b->stats_elem, 0);
		b->stats_popped = false;
		virtio_flush(&b->v, q);
	}
	if (b->interval)
		loop_timer_set(&b->timer, now_ns() + b->interval);
}

void virtio_balloon_set_stats(struct virtio_dev *v, unsigned seconds)
{
	struct balloon *b = to_balloon(v);

	b->interval = seconds * NS_PER_SEC;
	if (seconds)
		loop_timer_set(&b->timer, now_ns() + b->interval);
	else
		loop_timer_cancel(&b->timer);
}

int64_t virtio_balloon_stats(struct virtio_dev *v, uint64_t stats[VIRTIO_BALLOON_STATS])
{
	_Static_assert(VIRTIO_BALLOON_STATS == VIRTIO_BALLOON_S_NR,
		       "as many as the specification has");
	memcpy(stats, to_balloon(v)->stats, sizeof(to_balloon(v)->stats));
	return to_balloon(v)->stats_time;
}

/* --- size --- */

static uint64_t ram_size(struct balloon *b)
{
	uint64_t ram = 0;

	for (struct block *k = block_next(b->v.mem, NULL); k; k = block_next(b->v.mem, k))
		if (block_flags(k) & BLOCK_RAM)
			ram += block_size(k);
	return ram;
}

void virtio_balloon_set(struct virtio_dev *v, uint64_t ram_bytes)
{
	struct balloon *b = to_balloon(v);
	uint64_t ram = ram_size(b), pages = (ram - MIN(ram_bytes, ram)) >> VIRTIO_BALLOON_PFN_SHIFT;

	if (pages == ld_le32(&b->cfg.num_pages))
		return;
	st_le32(&b->cfg.num_pages, MIN(pages, UINT32_MAX));
	virtio_config_changed(v);
}

uint64_t virtio_balloon_actual(struct virtio_dev *v)
{
	struct balloon *b = to_balloon(v);
	uint64_t taken = (uint64_t)ld_le32(&b->cfg.actual) << VIRTIO_BALLOON_PFN_SHIFT,
		 ram = ram_size(b);

	return ram - MIN(taken, ram);
}

static uint64_t config_read(struct virtio_dev *v, uint32_t off, unsigned size)
{
	return virtio_bytes_read((const char *)&to_balloon(v)->cfg + off, 0, size);
}

static void config_write(struct virtio_dev *v, uint32_t off, unsigned size, uint64_t val)
{
	struct balloon *b = to_balloon(v);
	uint32_t old = ld_le32(&b->cfg.actual);

	/* Legacy drivers write it byte by byte. */
	for (unsigned i = 0; i < size; i++)
		if (off + i >= offsetof(struct virtio_balloon_config, actual) &&
		    off + i < offsetof(struct virtio_balloon_config, actual) + 4)
			((uint8_t *)&b->cfg)[off + i] = val >> (8 * i);
	if (ld_le32(&b->cfg.actual) != old && b->changed)
		b->changed(b->changed_ctx, virtio_balloon_actual(v));
}

void virtio_balloon_on_change(struct virtio_dev *v, void (*fn)(void *ctx, uint64_t actual),
			      void *ctx)
{
	to_balloon(v)->changed = fn;
	to_balloon(v)->changed_ctx = ctx;
}

/* --- life --- */

static void kick(struct virtio_dev *v, unsigned q)
{
	if (q == stats_queue(v))
		stats_kick(to_balloon(v));
	else if (q <= DEFLATE || q == reporting_queue(v))
		pages_kick(to_balloon(v), q);
}

static void stop(struct virtio_dev *v)
{
	struct balloon *b = to_balloon(v);

	if (b->stats_popped)
		virtq_unpop(&v->queues[stats_queue(v)], &b->stats_elem);
	b->stats_popped = false;
	/* A list in the middle begins anew: its pages are the host's until it is given back. */
	memset(b->done, 0, sizeof(b->done));
	virtio_stopped(v);
}

static void reset(struct virtio_dev *v)
{
	st_le32(&to_balloon(v)->cfg.actual, 0);
	to_balloon(v)->stats_time = 0;
}

static int save(struct virtio_dev *v, struct state_out *o)
{
	state_u32(o, "num_pages", ld_le32(&to_balloon(v)->cfg.num_pages));
	state_u32(o, "actual", ld_le32(&to_balloon(v)->cfg.actual));
	return 0;
}

static int load(struct virtio_dev *v, struct state_in *in, uint32_t version)
{
	struct balloon *b = to_balloon(v);
	uint32_t num_pages, actual;

	state_get_u32(in, "num_pages", &num_pages);
	state_get_u32(in, "actual", &actual);
	if (state_in_error(in))
		return -EINVAL;
	if (num_pages > ram_size(b) >> VIRTIO_BALLOON_PFN_SHIFT)
		return state_bad(in, "%s: a balloon of %u pages", v->id, num_pages);
	st_le32(&b->cfg.num_pages, num_pages);
	st_le32(&b->cfg.actual, actual);
	return 0;
}

static void destroy(struct virtio_dev *v)
{
	struct balloon *b = to_balloon(v);

	loop_timer_cancel(&b->timer);
	virtio_exit(v);
	free(b);
}

static const struct virtio_ops virtio_balloon_ops = {
	.name = "virtio-balloon",
	.id = VIRTIO_ID_BALLOON,
	.class_code = 0x00ff00,
	.version = 1,
	.config_read = config_read,
	.config_write = config_write,
	.kick = kick,
	.stop = stop,
	.reset = reset,
	.save = save,
	.load = load,
	.destroy = destroy,
};

struct virtio_dev *virtio_balloon_new(const char *id, struct loop *loop, struct mem *mem,
				      struct err *err)
{
	struct balloon *b = xcalloc(1, sizeof(*b));

	virtio_init(&b->v, &virtio_balloon_ops, id, loop, mem, QUEUES, QUEUE_SIZE,
		    1ull << VIRTIO_BALLOON_F_STATS_VQ | 1ull << VIRTIO_BALLOON_F_DEFLATE_ON_OOM |
		    1ull << VIRTIO_BALLOON_F_REPORTING, 8);
	for (unsigned q = 0; q < QUEUES; q++)
		b->v.queues[q].turn_max = TURN_COMMANDS;
	loop_timer_init(&b->timer, loop, NULL, stats_ask, b);
	return &b->v;
}
