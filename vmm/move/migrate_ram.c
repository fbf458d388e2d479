/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * migrate_ram.c: guest memory over the line. It is read while the guest writes it: a page that
 * changes under the copy is dirty and goes over again. The migration's thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/move/migrate_impl.h"
#include "vmm/move/snapshot.h"

#define PAGE MIGRATE_PAGE
#define FEW_PAGES 64			/* go over the line in the time the registers take */
#define THROTTLE_STEP 20
#define THROTTLE_MAX 80
#define THROTTLE_PERIOD_NS (20 * NS_PER_MS)

/* --- pace: the bandwidth limit, and the guest's share of time --- */

static void pace(struct migration *g, bool live)
{
	uint64_t limit;
	unsigned throttle;
	int64_t now, ahead;

	pthread_mutex_lock(&g->mutex);
	limit = g->params.max_bandwidth;
	throttle = g->info.throttle;
	pthread_mutex_unlock(&g->mutex);
	if (!live)
		return;
	while (limit && !migration_cancelled(g)) {
		ahead = g->pace_start + (int64_t)(g->pace_bytes * 1e9 / limit) - now_ns();
		if (ahead <= 0)
			break;
		usleep(MIN(ahead / 1000 + 1, 100000));
	}
	now = now_ns();
	if (throttle && now - g->throttled > THROTTLE_PERIOD_NS) {
		vm_pause(g->m->vm, PAUSE_MIGRATE);
		usleep(THROTTLE_PERIOD_NS / 1000 * throttle / (100 - throttle));
		vm_resume(g->m->vm, PAUSE_MIGRATE);
		g->throttled = now_ns();
	}
}

/* --- pages --- */

struct batch {
	unsigned block, nruns, npages;
	struct { uint64_t first; uint32_t n, zero; } runs[STREAM_MAX_PAGES];
};

static int batch_send(struct migration *g, struct batch *t, bool live)
{
	uint8_t *p = g->payload + 8;
	const uint8_t *host = block_host(g->blocks[t->block]);
	enum stream_type type = STREAM_PAGES;
	const void *payload = g->payload;
	size_t len;
	int ret;

	if (!t->nruns)
		return 0;
	st_le32(g->payload, t->block);
	st_le32(g->payload + 4, t->nruns);
	for (unsigned i = 0; i < t->nruns; i++, p += STREAM_RUN_SIZE) {
		st_le64(p, t->runs[i].first);
		st_le32(p + 8, t->runs[i].n);
		st_le32(p + 12, t->runs[i].zero);
	}
	for (unsigned i = 0; i < t->nruns; i++) {
		if (t->runs[i].zero)
			continue;
		memcpy(p, host + t->runs[i].first * PAGE, t->runs[i].n * PAGE);
		p += t->runs[i].n * PAGE;
		g->raw_bytes += t->runs[i].n * PAGE;
	}
	len = p - g->payload;
	if (g->zstd) {
		size_t n = ZSTD_compressCCtx(g->zstd, g->packed + 4,
					     ZSTD_compressBound(STREAM_MAX_PAYLOAD), g->payload,
					     len, 1);

		if (!ZSTD_isError(n) && n < len) {
			st_le32(g->packed, len);
			payload = g->packed;
			len = n + 4;
			type = STREAM_ZPAGES;
		}
	}
	ret = migrate_send_record(g, type, payload, len);
	t->nruns = t->npages = 0;
	pace(g, live);
	return ret;
}

static int batch_add(struct migration *g, struct batch *t, uint64_t page, bool zero, bool live)
{
	int ret = 0;

	if (t->nruns && t->runs[t->nruns - 1].first + t->runs[t->nruns - 1].n == page &&
	    t->runs[t->nruns - 1].zero == zero && t->npages < STREAM_MAX_PAGES) {
		t->runs[t->nruns - 1].n++;
	} else {
		if (t->nruns == STREAM_MAX_PAGES || t->npages >= STREAM_MAX_PAGES)
			ret = batch_send(g, t, live);
		t->runs[t->nruns].first = page;
		t->runs[t->nruns].n = 1;
		t->runs[t->nruns++].zero = zero;
	}
	t->npages += !zero;
	if (t->npages == STREAM_MAX_PAGES && ret == 0)
		ret = batch_send(g, t, live);
	return ret;
}

/* In the first round untouched memory is skipped: it is zero on both sides. */
static void drop_untouched(struct migration *g, unsigned i)
{
	struct block *b = g->blocks[i];
	uint64_t at = 0;

	if (!(block_flags(b) & BLOCK_RAM) || !(block_flags(b) & BLOCK_SHARED))
		return;
	while (at < block_size(b)) {
		off_t data = lseek(block_fd(b), at, SEEK_DATA);
		uint64_t end = data < 0 ? block_size(b) : (uint64_t)data / PAGE * PAGE;

		if (data < 0 && errno != ENXIO)
			return;
		for (uint64_t p = at / PAGE; p < end / PAGE; p++)
			g->todo[i][p / 64] &= ~(1ul << p % 64);
		if (data < 0)
			return;
		data = lseek(block_fd(b), data, SEEK_HOLE);
		at = data < 0 ? block_size(b) : ALIGN_UP((uint64_t)data, PAGE);
	}
}

static int send_block(struct migration *g, unsigned i, bool live)
{
	struct batch *t = xcalloc(1, sizeof(*t));
	struct block *b = g->blocks[i];
	uint64_t words = (block_size(b) / PAGE + 63) / 64, zeros = 0, pages = 0;
	int ret = 0;

	t->block = i;
	for (uint64_t w = 0; w < words && ret == 0; w++) {
		unsigned long bits = g->todo[i][w];

		if (!bits)
			continue;
		for (; bits && ret == 0; bits &= bits - 1) {
			uint64_t page = w * 64 + __builtin_ctzl(bits);
			bool zero = page_is_zero((uint8_t *)block_host(b) + page * PAGE);

			zeros += zero;
			pages++;
			ret = batch_add(g, t, page, zero, live);
		}
		g->todo[i][w] = 0;
		if (live && migration_cancelled(g))
			ret = -ECANCELED;
		pthread_mutex_lock(&g->mutex);
		g->info.zero_pages += zeros;
		g->info.normal_pages += pages - zeros;
		g->info.remaining -= MIN(g->info.remaining, pages * PAGE);
		zeros = pages = 0;
		pthread_mutex_unlock(&g->mutex);
	}
	if (ret == 0)
		ret = batch_send(g, t, live);
	free(t);
	return ret;
}

/* What was written since the last time; returns how many pages are to be sent, or -errno. */
static int64_t collect(struct migration *g, bool first)
{
	uint64_t pages = 0;
	int ret = mem_dirty_sync(g->m->mem);

	if (ret < 0)
		return ret;
	for (unsigned i = 0; i < g->nblocks; i++) {
		uint64_t words = (block_size(g->blocks[i]) / PAGE + 63) / 64;

		/* What was collected before and is not sent yet stays to be sent. */
		dirty_client_take(g->dirty, g->blocks[i], g->fresh[i]);
		for (uint64_t w = 0; w < words; w++)
			g->todo[i][w] |= g->fresh[i][w];
		if (first)
			drop_untouched(g, i);
		for (uint64_t w = 0; w < words; w++)
			pages += __builtin_popcountl(g->todo[i][w]);
	}
	pthread_mutex_lock(&g->mutex);
	g->info.remaining = pages * PAGE;
	g->info.rounds++;
	pthread_mutex_unlock(&g->mutex);
	return pages;
}

static int send_round(struct migration *g, bool live)
{
	int ret = 0;

	for (unsigned i = 0; i < g->nblocks && ret == 0; i++)
		ret = send_block(g, i, live);
	return ret;
}

/* Rounds until the rest fits into the downtime, and gets no smaller. */
int migrate_ram_live(struct migration *g)
{
	int64_t pages = collect(g, true), last = pages;
	unsigned slow = 0;

	for (;;) {
		uint64_t sent, bandwidth, allowed;
		int64_t start = now_ns(), ns;
		int ret;

		if (pages < 0)
			return pages;
		g->pace_start = start;
		g->pace_bytes = g->raw_bytes = 0;
		ret = send_round(g, true);
		if (ret < 0)
			return ret;
		ns = MAX(now_ns() - start, 1);
		sent = g->raw_bytes;	/* packed pages go faster than the line */
		last = pages;
		pages = collect(g, false);
		pthread_mutex_lock(&g->mutex);
		if (sent > 64 * KiB || !g->info.bandwidth)
			g->info.bandwidth = sent * 1e9 / ns;
		bandwidth = MAX(g->info.bandwidth, 1ull);
		allowed = bandwidth / 1000 * g->params.downtime_ms;
		g->info.expected_downtime_ms = pages * PAGE * 1000 / bandwidth;
		g->info.dirty_rate = pages * 1e9 / ns;
		/* Half of what was sent came back: the guest is too fast for the line. */
		slow = pages > last / 2 ? slow + 1 : 0;
		if (slow > 2 && g->params.auto_converge && g->info.throttle < THROTTLE_MAX) {
			g->info.throttle += THROTTLE_STEP;
			slow = 0;
		}
		pthread_mutex_unlock(&g->mutex);
		/*
		 * The downtime is a limit, not an aim: as long as a round at least halves what is
		 * left, another one is worth its time.
		 */
		if (pages * PAGE <= allowed && (pages <= FEW_PAGES || pages > last / 2))
			return 0;
	}
}

int migrate_ram_rest(struct migration *g, bool first)
{
	int64_t pages = collect(g, first);

	return pages < 0 ? pages : send_round(g, false);
}

void migrate_ram_begin(struct migration *g)
{
	struct block *b = NULL;

	while ((b = block_next(g->m->mem, b))) {
		g->todo[g->nblocks] = xcalloc((block_size(b) / PAGE + 63) / 64, 8);
		g->fresh[g->nblocks] = xcalloc((block_size(b) / PAGE + 63) / 64, 8);
		g->blocks[g->nblocks++] = b;
		g->info.total += block_size(b);
	}
	g->dirty = dirty_client_new(g->m->mem, NULL);
	g->payload = xcalloc(1, STREAM_MAX_PAYLOAD);
}

void migrate_ram_end(struct migration *g)
{
	dirty_client_free(g->dirty);
	for (unsigned i = 0; i < g->nblocks; i++) {
		free(g->todo[i]);
		free(g->fresh[i]);
	}
	g->nblocks = 0;
	free(g->payload);
	g->payload = NULL;
}
