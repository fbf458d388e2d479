/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * migrate.c: the sending side of a migration; see migrate.h. A thread of its own copies and decides; the main loop
 * only starts, asks and cancels. Guest memory is read while the guest writes it: a page that changes under the copy is
 * dirty and goes over the line again.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zstd.h>

#include "vmm/command.h"
#include "vmm/log.h"
#include "vmm/machine_state.h"
#include "vmm/migrate.h"
#include "vmm/migrate_stream.h"
#include "vmm/snapshot.h"

#define PAGE 4096ull
#define MAX_BLOCKS 128
#define DEFAULT_DOWNTIME_MS 300
#define TAKE_BACK_SECONDS 5
#define THROTTLE_STEP 20
#define THROTTLE_MAX 80
#define THROTTLE_PERIOD_NS (20 * NS_PER_MS)

struct migration {
	struct machine *m;
	pthread_mutex_t mutex;		/* info, params, line */
	struct migrate_info info;
	struct migrate_params params;
	struct line *line;
	char *uri;
	pthread_t thread;
	bool has_thread, incoming;
	bool cancel;			/* atomic */
	/* The thread's own. */
	struct block *blocks[MAX_BLOCKS];
	unsigned long *todo[MAX_BLOCKS];	/* pages to send */
	unsigned long *fresh[MAX_BLOCKS];	/* what the last sync brought */
	unsigned nblocks;
	struct dirty_client *dirty;
	ZSTD_CCtx *zstd;
	uint8_t *payload, *packed;
	int64_t pace_start, throttled;
	uint64_t pace_bytes, raw_bytes;	/* of this round: on the line, and of pages that are not zero */
};

static struct migration *migration_of(struct machine *m)
{
	struct migration *g = m->migration;

	if (g)
		return g;
	g = xcalloc(1, sizeof(*g));
	g->m = m;
	g->params.downtime_ms = DEFAULT_DOWNTIME_MS;
	pthread_mutex_init(&g->mutex, NULL);
	return m->migration = g;
}

static void set_state(struct migration *g, enum migrate_state state)
{
	static const char *const names[] = {
		"none", "setup", "active", "device", "cancelling", "cancelled", "completed", "failed",
	};

	pthread_mutex_lock(&g->mutex);
	/* Once cancelled, only an end may follow. */
	if (g->info.state == MIGRATE_CANCELLING && state < MIGRATE_CANCELLED)
		state = MIGRATE_CANCELLING;
	g->info.state = state;
	pthread_mutex_unlock(&g->mutex);
	event_emit("MIGRATION", json_pack("{s:s}", "status", names[state]));
}

static bool cancelled(struct migration *g)
{
	return __atomic_load_n(&g->cancel, __ATOMIC_ACQUIRE);
}

/* --- records --- */

static int send_record(struct migration *g, enum stream_type type, const void *payload, size_t len)
{
	uint8_t head[16];
	int ret;

	st_le32(head, type);
	st_le32(head + 4, crc32c(0, payload, len));
	st_le64(head + 8, len);
	ret = line_write(g->line, head, sizeof(head));
	if (ret == 0)
		ret = line_write(g->line, payload, len);
	pthread_mutex_lock(&g->mutex);
	g->info.transferred += sizeof(head) + len;
	pthread_mutex_unlock(&g->mutex);
	g->pace_bytes += sizeof(head) + len;
	return ret;
}

int stream_config(struct machine *m, void **blob, size_t *len)
{
	struct state_out *o = state_out_new();
	struct block *b = NULL;
	char name[16];
	unsigned n = 0;

	state_str(o, "program", "minivmm " MINIVMM_VERSION);
	state_begin(o, "config");
	machine_describe(m, o);
	state_end(o);
	while ((b = block_next(m->mem, b))) {
		snprintf(name, sizeof(name), "block@%u", n++);
		state_begin(o, name);
		state_str(o, "id", block_id(b));
		state_u64(o, "size", block_size(b));
		state_end(o);
	}
	return state_out_finish(o, blob, len);
}

/* Waits for the other side's word. 0, or -errno with the reason. */
static int expect(struct migration *g, enum stream_answer want, struct err *err)
{
	uint8_t head[8];
	char text[STREAM_TEXT_MAX + 1];
	uint32_t len;
	int ret;

	if (!line_two_way(g->line))
		return 0;
	ret = line_read(g->line, head, sizeof(head));
	if (ret < 0)
		return err_set(err, -ret, "no answer from the destination: %s",
			       ret == -ENODATA ? "it closed the connection" : strerror(-ret));
	len = MIN(ld_le32(head + 4), (uint32_t)STREAM_TEXT_MAX);
	if (line_read(g->line, text, len) < 0)
		len = 0;
	text[len] = 0;
	for (uint32_t i = 0; i < len; i++)
		if ((unsigned char)text[i] < ' ')
			text[i] = '?';
	if (ld_le32(head) == ANSWER_REFUSE)
		return err_set(err, EREMOTEIO, "the destination refuses: %s", text);
	if (ld_le32(head) != want)
		return err_set(err, EPROTO, "the destination gave an answer out of turn");
	return 0;
}

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
	while (limit && !cancelled(g)) {
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
		size_t n = ZSTD_compressCCtx(g->zstd, g->packed + 4, ZSTD_compressBound(STREAM_MAX_PAYLOAD), g->payload, len, 1);

		if (!ZSTD_isError(n) && n < len) {
			st_le32(g->packed, len);
			payload = g->packed;
			len = n + 4;
			type = STREAM_ZPAGES;
		}
	}
	ret = send_record(g, type, payload, len);
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
		if (live && cancelled(g))
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

/* Rounds until the rest fits into the downtime. */
static int send_live(struct migration *g)
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
		if (pages * PAGE <= allowed)
			return 0;
	}
}

/* --- the end --- */

static int disks(struct machine *m, int (*fn)(struct blk *b, struct err *err), struct err *err)
{
	int ret = 0;

	for (unsigned i = 0; i < m->ndrives && ret == 0; i++)
		if (m->drives[i].blk)
			ret = fn(m->drives[i].blk, err);
	return ret;
}

/* The guest stands and its devices are still: the rest of memory, the registers, and who runs from here on. */
static int hand_over(struct migration *g, bool paused, bool *given, struct err *err)
{
	uint8_t run[4];
	void *blob;
	size_t len;
	int ret;

	if (collect(g, false) < 0 || (ret = send_round(g, false)) < 0)
		return err_set(err, EIO, "sending memory: the connection broke");
	ret = machine_save(g->m, NULL, NULL, &blob, &len, err);
	if (ret < 0)
		return ret;
	ret = disks(g->m, blk_inactivate, err);
	if (ret == 0 && (ret = send_record(g, STREAM_STATE, blob, len)) < 0)
		err_set(err, -ret, "sending the machine's state: %s", strerror(-ret));
	free(blob);
	if (ret < 0 || (ret = expect(g, ANSWER_READY, err)) < 0)
		return ret;
	/* From here on the other side may run. */
	*given = true;
	st_le32(run, paused);
	ret = send_record(g, STREAM_RUN, run, sizeof(run));
	if (ret < 0)
		return err_set(err, -ret, "the connection broke at the last step: %s", strerror(-ret));
	return expect(g, ANSWER_DONE, err);
}

/*
 * With the disks we know who runs: the destination took their locks before it said that it was ready. One that did not get
 * the last word ends and lets go of them, which may take it a moment.
 */
static bool take_back(struct migration *g, bool given)
{
	int64_t end = now_ns() + TAKE_BACK_SECONDS * NS_PER_SEC;
	bool have_disks = false;
	struct err err;

	for (unsigned i = 0; i < g->m->ndrives; i++)
		have_disks |= g->m->drives[i].blk && !blk_readonly(g->m->drives[i].blk);
	if (given && !have_disks) {
		log_error("migration: it is not known whether the destination runs; this side stays paused. If it does not: cont");
		return false;
	}
	line_abort(g->line);
	line_finish(g->line, NULL);	/* so that the other side learns of it */
	do {
		err.msg[0] = 0;
		if (disks(g->m, blk_activate, &err) == 0)
			return true;
		usleep(50000);
	} while (now_ns() < end);
	log_error("migration: %s; this side stays paused%s", err.msg, given ? ", the destination has the disks" : "");
	return false;
}

static int stop_and_hand_over(struct migration *g, struct err *err)
{
	bool paused = vm_pause_reasons(g->m->vm) & PAUSE_USER, given = false;
	int64_t start = now_ns();
	int ret;

	set_state(g, MIGRATE_DEVICE);
	vm_pause(g->m->vm, PAUSE_MIGRATE);
	ret = machine_quiesce(g->m, err);
	if (ret == 0) {
		ret = hand_over(g, paused, &given, err);
		if (ret == 0)
			ret = line_finish(g->line, err);
		if (ret < 0) {
			if (!take_back(g, given))
				return ret;
			machine_unquiesce(g->m);
		}
	}
	if (ret < 0) {
		vm_resume(g->m->vm, PAUSE_MIGRATE);
		return ret;
	}
	pthread_mutex_lock(&g->mutex);
	g->info.downtime_ms = (now_ns() - start) / NS_PER_MS;
	g->info.remaining = 0;
	pthread_mutex_unlock(&g->mutex);
	return 0;
}

static int send_head(struct migration *g, struct err *err)
{
	uint8_t head[STREAM_HEADER];
	void *blob;
	size_t len;
	int ret;

	memcpy(head, stream_magic, 8);
	st_le32(head + 8, STREAM_VERSION);
	st_le32(head + 12, line_two_way(g->line) ? STREAM_TWO_WAY : 0);
	ret = stream_config(g->m, &blob, &len);
	if (ret == 0)
		ret = line_write(g->line, head, sizeof(head));
	if (ret == 0)
		ret = send_record(g, STREAM_CONFIG, blob, len);
	free(blob);
	if (ret < 0)
		return err_set(err, -ret, "the connection: %s", strerror(-ret));
	return expect(g, ANSWER_ACCEPT, err);
}

static void begin_memory(struct migration *g)
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

static void end_memory(struct migration *g)
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

static int migrate_line(struct migration *g, struct err *err)
{
	int ret = send_head(g, err);

	if (ret < 0)
		return ret;
	begin_memory(g);
	set_state(g, MIGRATE_ACTIVE);
	ret = send_live(g);
	if (ret < 0)
		err_set(err, -ret, "sending memory: %s", strerror(-ret));
	else
		ret = stop_and_hand_over(g, err);
	end_memory(g);
	return ret;
}

int migrate_save_line(struct machine *m, struct line *l, struct err *err)
{
	struct migration *g = xcalloc(1, sizeof(*g));
	void *blob = NULL;
	size_t len;
	int ret;

	g->m = m;
	g->line = l;
	pthread_mutex_init(&g->mutex, NULL);
	ret = send_head(g, err);
	if (ret == 0) {
		begin_memory(g);
		if (collect(g, true) < 0 || (ret = send_round(g, false)) < 0)
			ret = err_set(err, EIO, "writing memory: %s", strerror(ret < 0 ? -ret : EIO));
		end_memory(g);
	}
	if (ret == 0)
		ret = machine_save(m, NULL, NULL, &blob, &len, err);
	if (ret == 0 && (ret = send_record(g, STREAM_STATE, blob, len)) < 0)
		err_set(err, -ret, "writing the machine's state: %s", strerror(-ret));
	free(blob);
	pthread_mutex_destroy(&g->mutex);
	free(g);
	return ret;
}

static bool file_progress(void *ctx, uint64_t done, uint64_t total)
{
	struct migration *g = ctx;

	pthread_mutex_lock(&g->mutex);
	g->info.total = total;
	g->info.transferred = done;
	g->info.remaining = total - done;
	pthread_mutex_unlock(&g->mutex);
	return !cancelled(g);
}

static void *migrate_thread(void *arg)
{
	struct migration *g = arg;
	struct err err = { "" };
	struct line *line;
	int64_t start = now_ns();
	int ret;

	pthread_setname_np(pthread_self(), "migrate");
	if (!strncmp(g->uri, "file:", 5)) {
		set_state(g, MIGRATE_ACTIVE);
		ret = snapshot_save(g->m, g->uri + 5, file_progress, g, &err);
	} else {
		line = line_connect(g->m, g->uri, &err);
		pthread_mutex_lock(&g->mutex);
		g->line = line;
		pthread_mutex_unlock(&g->mutex);
		if (g->params.compress) {
			g->zstd = ZSTD_createCCtx();
			g->packed = xcalloc(1, 4 + ZSTD_compressBound(STREAM_MAX_PAYLOAD));
		}
		ret = line ? migrate_line(g, &err) : -EIO;
	}
	if (ret < 0 && !cancelled(g))
		log_error("migration to %s failed: %s", g->uri, err.msg);
	pthread_mutex_lock(&g->mutex);
	line = g->line;
	g->line = NULL;
	g->info.total_ms = (now_ns() - start) / NS_PER_MS;
	g->info.throttle = 0;
	if (ret < 0)
		snprintf(g->info.error, sizeof(g->info.error), "%s", err.msg);
	pthread_mutex_unlock(&g->mutex);
	line_free(line);
	ZSTD_freeCCtx(g->zstd);
	g->zstd = NULL;
	free(g->packed);
	g->packed = NULL;
	set_state(g, ret == 0 ? MIGRATE_COMPLETED : cancelled(g) ? MIGRATE_CANCELLED : MIGRATE_FAILED);
	return NULL;
}

/* --- the control side --- */

static bool under_way(const struct migration *g)
{
	return g->info.state > MIGRATE_NONE && g->info.state < MIGRATE_CANCELLED;
}

int migrate_start(struct machine *m, const char *uri, struct err *err)
{
	struct migration *g = migration_of(m);
	bool busy;
	int ret = machine_take_disks(m, err);

	if (ret < 0)
		return ret;
	pthread_mutex_lock(&g->mutex);
	busy = under_way(g);
	if (!busy) {
		memset(&g->info, 0, sizeof(g->info));
		g->info.state = MIGRATE_SETUP;
	}
	pthread_mutex_unlock(&g->mutex);
	if (busy || g->incoming)
		return err_set(err, EBUSY, "There's a migration process in progress");
	if (g->has_thread)
		pthread_join(g->thread, NULL);
	free(g->uri);
	g->uri = xstrdup(uri);
	g->cancel = false;
	if (pthread_create(&g->thread, NULL, migrate_thread, g)) {
		g->info.state = MIGRATE_FAILED;
		g->has_thread = false;
		return err_set(err, EAGAIN, "no thread for the migration");
	}
	g->has_thread = true;
	return 0;
}

void migrate_cancel(struct machine *m)
{
	struct migration *g = migration_of(m);

	pthread_mutex_lock(&g->mutex);
	if (under_way(g)) {
		__atomic_store_n(&g->cancel, true, __ATOMIC_RELEASE);
		g->info.state = MIGRATE_CANCELLING;
		if (g->line)
			line_abort(g->line);
	}
	pthread_mutex_unlock(&g->mutex);
}

int migrate_continue(struct machine *m, struct err *err)
{
	struct migration *g = migration_of(m);
	bool over;
	int ret;

	pthread_mutex_lock(&g->mutex);
	over = g->info.state >= MIGRATE_CANCELLED;
	pthread_mutex_unlock(&g->mutex);
	if (!over)
		return err_set(err, EBUSY, g->info.state == MIGRATE_NONE ? "no machine has come yet" :
			       "There's a migration process in progress");
	ret = disks(m, blk_activate, err);
	if (ret < 0)
		return ret;
	machine_unquiesce(m);
	vm_resume(m->vm, PAUSE_MIGRATE);
	return 0;
}

void migrate_query(struct machine *m, struct migrate_info *info)
{
	struct migration *g = migration_of(m);

	pthread_mutex_lock(&g->mutex);
	*info = g->info;
	pthread_mutex_unlock(&g->mutex);
}

void migrate_get_params(struct machine *m, struct migrate_params *p)
{
	struct migration *g = migration_of(m);

	pthread_mutex_lock(&g->mutex);
	*p = g->params;
	pthread_mutex_unlock(&g->mutex);
}

void migrate_set_params(struct machine *m, const struct migrate_params *p)
{
	struct migration *g = migration_of(m);

	pthread_mutex_lock(&g->mutex);
	g->params = *p;
	pthread_mutex_unlock(&g->mutex);
}

static void *incoming_thread(void *arg)
{
	struct migration *g = arg;

	pthread_setname_np(pthread_self(), "incoming");
	migrate_receive(g->m, g->line);
	return NULL;
}

int migrate_incoming(struct machine *m, const char *uri, struct err *err)
{
	struct migration *g = migration_of(m);

	if (!strncmp(uri, "file:", 5))
		return snapshot_restore(m, uri + 5, err);
	if (g->incoming)
		return err_set(err, EBUSY, "already waiting for a machine");
	g->line = line_listen(m, uri, err);
	if (!g->line)
		return -EINVAL;
	g->incoming = true;
	if (pthread_create(&g->thread, NULL, incoming_thread, g)) {
		line_free(g->line);
		g->line = NULL;
		return err_set(err, EAGAIN, "no thread for the migration");
	}
	g->has_thread = true;
	return 0;
}

void migrate_exit(struct machine *m)
{
	struct migration *g = m->migration;

	if (!g)
		return;
	migrate_cancel(m);
	if (g->incoming && g->line)
		line_abort(g->line);
	if (g->has_thread)
		pthread_join(g->thread, NULL);
	if (g->incoming)
		line_free(g->line);
	pthread_mutex_destroy(&g->mutex);
	free(g->uri);
	free(g);
	m->migration = NULL;
}
