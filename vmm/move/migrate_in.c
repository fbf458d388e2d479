/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * migrate_in.c: the receiving side of a migration, on a thread of its own, while the machine stands
 * for PAUSE_MIGRATE. What comes over the line is hostile: every length, block and page is checked
 * before it is used, and each record's checksum.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <zstd.h>

#include "vmm/base/log.h"
#include "vmm/machine/drives.h"
#include "vmm/machine/machine_state.h"
#include "vmm/move/migrate.h"
#include "vmm/move/migrate_stream.h"
#include "vmm/move/snapshot.h"

#define PAGE 4096ull
#define MAX_BLOCKS 128

struct receiver {
	struct machine *m;
	struct line *line;
	bool two_way;
	struct block *blocks[MAX_BLOCKS];
	unsigned nblocks;
	ZSTD_DCtx *zstd;
	uint8_t *payload, *plain;
	size_t cap;
	struct err err;
};

static int broken(struct receiver *r, int ret)
{
	return err_set(&r->err, -ret, "the connection broke: %s",
		       ret == -ENODATA ? "it ended early" : strerror(-ret));
}

static int answer(struct receiver *r, enum stream_answer what, const char *text)
{
	uint8_t head[8];
	size_t len = MIN(strlen(text), (size_t)STREAM_TEXT_MAX);
	int ret;

	if (!r->two_way)
		return 0;
	st_le32(head, what);
	st_le32(head + 4, len);
	ret = line_write(r->line, head, sizeof(head));
	if (ret == 0 && len)
		ret = line_write(r->line, text, len);
	return ret < 0 ? broken(r, ret) : 0;
}

/* The next record's head, its length possible. 0 or -errno with the reason. */
static int receive_head(struct receiver *r, uint32_t *type, uint32_t *crc, size_t *len)
{
	uint8_t head[16];
	uint64_t n, max;
	int ret = line_read(r->line, head, sizeof(head));

	if (ret < 0)
		return broken(r, ret);
	*type = ld_le32(head);
	*crc = ld_le32(head + 4);
	n = ld_le64(head + 8);
	switch (*type) {
	case STREAM_CONFIG:
	case STREAM_STATE:
		max = STREAM_MAX_TREE;
		break;
	case STREAM_PAGES:
	case STREAM_ZPAGES:
		max = STREAM_MAX_PAYLOAD;
		break;
	case STREAM_RUN:
		max = 4;
		break;
	default:
		return err_set(&r->err, EPROTO,
			       "unknown section %u; was it sent by a newer version?", *type);
	}
	if (n > max)
		return err_set(&r->err, EPROTO,
			       "section %u has %llu bytes, at most %llu are possible", *type,
			       (unsigned long long)n, (unsigned long long)max);
	*len = n;
	return 0;
}

static int damaged(struct receiver *r, uint32_t type)
{
	return err_set(&r->err, EPROTO, "section %u is damaged (wrong checksum)", type);
}

/* A record's payload in r->payload. 0 or -errno with the reason. */
static int receive_body(struct receiver *r, uint32_t type, uint32_t crc, size_t n)
{
	int ret;

	if (n > r->cap) {
		uint8_t *p = realloc(r->payload, n);

		if (!p)
			return err_set(&r->err, ENOMEM, "out of memory");
		r->payload = p;
		r->cap = n;
	}
	ret = line_read(r->line, r->payload, n);
	if (ret < 0)
		return broken(r, ret);
	return crc32c(0, r->payload, n) == crc ? 0 : damaged(r, type);
}

static int receive(struct receiver *r, uint32_t *type, size_t *len)
{
	uint32_t crc;
	int ret = receive_head(r, type, &crc, len);

	return ret < 0 ? ret : receive_body(r, *type, crc, *len);
}

static int receive_config(struct receiver *r, size_t len)
{
	struct state_in *in = state_in_new(r->payload, len, &r->err);
	struct block *b = NULL;
	const char *text;
	char name[16];
	uint64_t size;

	if (!in)
		return -EINVAL;
	state_get_str(in, "program", &text);
	if (state_enter(in, "config") == 0) {
		machine_compare(r->m, in);
		state_leave(in);
	}
	while ((b = block_next(r->m->mem, b)) && !state_in_error(in)) {
		snprintf(name, sizeof(name), "block@%u", r->nblocks);
		if (state_enter(in, name) < 0)
			break;
		state_get_str(in, "id", &text);
		state_get_u64(in, "size", &size);
		if (!state_in_error(in) && (strcmp(text, block_id(b)) || size != block_size(b)))
			state_bad(in,
				  "the other machine has memory '%s' of %llu KiB here, this one "
				  "'%s' of %llu KiB",
				  text, (unsigned long long)size / 1024, block_id(b),
				  (unsigned long long)block_size(b) / 1024);
		state_leave(in);
		r->blocks[r->nblocks++] = b;
	}
	return state_in_finish(in, &r->err);
}

/*
 * The runs of a section of pages: their number, and whether each lies in its block and the data is
 * as long as they say.
 */
static int check_runs(struct receiver *r, const uint8_t *p, uint32_t nruns, size_t len)
{
	struct block *b = r->blocks[ld_le32(p)];
	uint64_t pages = block_size(b) / PAGE, at = 8 + (uint64_t)nruns * STREAM_RUN_SIZE;

	for (uint32_t i = 0; i < nruns; i++) {
		const uint8_t *run = p + 8 + i * STREAM_RUN_SIZE;
		uint64_t n = ld_le32(run + 8);
		uint32_t zero = ld_le32(run + 12);

		if (!n || !range_ok(ld_le64(run), n, pages) || zero > 1)
			return err_set(&r->err, EPROTO, "pages outside of memory '%s'",
				       block_id(b));
		if (zero)
			continue;
		if (!range_ok(at, n * PAGE, len))
			return err_set(&r->err, EPROTO, "a section of pages is cut off");
		at += n * PAGE;
	}
	return at == len ? 0 : err_set(&r->err, EPROTO, "a section of pages is too long");
}

/* The beginning of a section of pages. */
static int check_block(struct receiver *r, const uint8_t *p, size_t len)
{
	uint32_t nruns = ld_le32(p + 4);

	if (ld_le32(p) >= r->nblocks || nruns > STREAM_MAX_PAGES ||
	    8 + (uint64_t)nruns * STREAM_RUN_SIZE > len)
		return err_set(&r->err, EPROTO, "a section of pages is impossible");
	return 0;
}

/* Only looked at: memory that nobody has written stays with the host. */
static void zero_pages(uint8_t *host, uint64_t n)
{
	for (; n > 0; n--, host += PAGE)
		if (!page_is_zero(host))
			memset(host, 0, PAGE);
}

/*
 * Pages go from the line to where they belong. All lengths are checked before the first byte, the
 * checksum after the last: a machine that got a damaged page never runs.
 */
static int receive_pages(struct receiver *r, uint32_t crc, size_t len)
{
	uint8_t table[8 + STREAM_MAX_PAGES * STREAM_RUN_SIZE], *host;
	uint32_t nruns, have = 0;
	int ret;

	if (len < 8)
		return err_set(&r->err, EPROTO, "a section of pages is cut off");
	if ((ret = line_read(r->line, table, 8)) < 0)
		return broken(r, ret);
	if ((ret = check_block(r, table, len)) < 0)
		return ret;
	nruns = ld_le32(table + 4);
	if ((ret = line_read(r->line, table + 8, nruns * STREAM_RUN_SIZE)) < 0)
		return broken(r, ret);
	if ((ret = check_runs(r, table, nruns, len)) < 0)
		return ret;
	have = crc32c(have, table, 8 + nruns * STREAM_RUN_SIZE);
	host = block_host(r->blocks[ld_le32(table)]);
	for (uint32_t i = 0; i < nruns; i++) {
		const uint8_t *run = table + 8 + i * STREAM_RUN_SIZE;
		uint8_t *at = host + ld_le64(run) * PAGE, *end = at + ld_le32(run + 8) * PAGE;

		if (ld_le32(run + 12)) {
			zero_pages(at, ld_le32(run + 8));
			continue;
		}
		/* Summed in pieces that are still in the cache. */
		for (size_t n; at < end; at += n) {
			n = MIN((size_t)(end - at), 256 * KiB);
			if ((ret = line_read(r->line, at, n)) < 0)
				return broken(r, ret);
			have = crc32c(have, at, n);
		}
	}
	return have == crc ? 0 : damaged(r, STREAM_PAGES);
}

/* The same from a buffer. */
static int unpack_pages(struct receiver *r, const uint8_t *p, size_t len)
{
	const uint8_t *data;
	uint8_t *host;
	int ret;

	if (len < 8)
		return err_set(&r->err, EPROTO, "a section of pages is cut off");
	if ((ret = check_block(r, p, len)) < 0 || (ret = check_runs(r, p, ld_le32(p + 4), len)) < 0)
		return ret;
	host = block_host(r->blocks[ld_le32(p)]);
	data = p + 8 + ld_le32(p + 4) * STREAM_RUN_SIZE;
	for (uint32_t i = 0; i < ld_le32(p + 4); i++) {
		const uint8_t *run = p + 8 + i * STREAM_RUN_SIZE;
		uint8_t *at = host + ld_le64(run) * PAGE;
		uint64_t n = ld_le32(run + 8);

		if (ld_le32(run + 12)) {
			zero_pages(at, n);
			continue;
		}
		memcpy(at, data, n * PAGE);
		data += n * PAGE;
	}
	return 0;
}

static int receive_packed(struct receiver *r, size_t len)
{
	size_t want = len >= 4 ? ld_le32(r->payload) : 0, got;

	if (!want || want > STREAM_MAX_PAYLOAD)
		return err_set(&r->err, EPROTO, "a packed section is impossible");
	if (!r->zstd) {
		r->zstd = ZSTD_createDCtx();
		r->plain = xcalloc(1, STREAM_MAX_PAYLOAD);
	}
	got = ZSTD_decompressDCtx(r->zstd, r->plain, STREAM_MAX_PAYLOAD, r->payload + 4, len - 4);
	if (ZSTD_isError(got) || got != want)
		return err_set(&r->err, EPROTO, "a packed section does not unpack");
	return unpack_pages(r, r->plain, got);
}

static int receive_state(struct receiver *r, size_t len)
{
	/* A sender that hears no answer has let go of the disks; what they hold is compared. */
	int ret = r->two_way ? 0 : machine_each_disk(r->m, blk_activate, &r->err);

	if (ret == 0)
		ret = machine_load(r->m, r->payload, len, NULL, NULL, &r->err);
	return ret == 0 && r->two_way ? machine_each_disk(r->m, blk_activate, &r->err) : ret;
}

/* Everything up to and including STATE, then who runs. *paused: the user had paused it. */
static int receive_machine(struct receiver *r, bool *paused)
{
	uint8_t head[STREAM_HEADER];
	uint32_t type = 0, crc;
	size_t len;
	int ret = line_accept(r->line, &r->err);

	if (ret < 0)
		return ret;
	ret = line_read(r->line, head, sizeof(head));
	if (ret < 0)
		return broken(r, ret);
	if (memcmp(head, stream_magic, 8))
		return err_set(&r->err, EPROTO, "what comes over the line is no minivmm machine");
	if (ld_le32(head + 8) != STREAM_VERSION)
		return err_set(&r->err, EPROTO, "version %u of the stream; this program knows %u",
			       ld_le32(head + 8), STREAM_VERSION);
	r->two_way = ld_le32(head + 12) & STREAM_TWO_WAY && line_two_way(r->line);
	if ((ret = receive(r, &type, &len)) < 0)
		return ret;
	if (type != STREAM_CONFIG)
		return err_set(&r->err, EPROTO, "section %u comes where the configuration must be",
			       type);
	if ((ret = receive_config(r, len)) < 0 || (ret = answer(r, ANSWER_ACCEPT, "")) < 0)
		return ret;
	while (type != STREAM_STATE) {
		if ((ret = receive_head(r, &type, &crc, &len)) < 0)
			return ret;
		if (type == STREAM_PAGES)
			ret = receive_pages(r, crc, len);
		else if ((ret = receive_body(r, type, crc, len)) < 0)
			return ret;
		else if (type == STREAM_ZPAGES)
			ret = receive_packed(r, len);
		else if (type == STREAM_STATE)
			ret = receive_state(r, len);
		else
			ret = err_set(&r->err, EPROTO, "section %u comes out of turn", type);
		if (ret < 0)
			return ret;
	}
	if (!r->two_way)
		return 0;
	if ((ret = answer(r, ANSWER_READY, "")) < 0 || (ret = receive(r, &type, &len)) < 0)
		return ret;
	if (type != STREAM_RUN || len != 4)
		return err_set(&r->err, EPROTO, "section %u comes where the last word must be",
			       type);
	*paused = ld_le32(r->payload) & 1;
	return 0;
}

int migrate_load_line(struct machine *m, struct line *l, struct err *err)
{
	struct receiver r = { .m = m, .line = l };
	bool paused;
	int ret = receive_machine(&r, &paused);

	if (ret < 0)
		err_set(err, -ret, "%s", r.err.msg);
	ZSTD_freeDCtx(r.zstd);
	free(r.payload);
	free(r.plain);
	return ret;
}

void migrate_receive(struct machine *m, struct line *l)
{
	struct receiver r = { .m = m, .line = l };
	bool paused = false;
	int ret = receive_machine(&r, &paused);

	if (ret == 0) {
		if (paused)
			vm_pause(m->vm, PAUSE_USER);
		/*
		 * A stream from a file may be read again; the other side of a line does not run any
		 * more.
		 */
		if (!r.two_way) {
			loop_lock(m->loop);
			machine_copied(m);
			loop_unlock(m->loop);
		}
		machine_unquiesce(m);
		vm_resume(m->vm, PAUSE_MIGRATE);
		answer(&r, ANSWER_DONE, "");
	} else {
		log_error("incoming migration: %s", r.err.msg);
		answer(&r, ANSWER_REFUSE, r.err.msg);
		vm_request(m->vm, VM_END_EXIT_CODE, STATUS_ERROR);
	}
	ZSTD_freeDCtx(r.zstd);
	free(r.payload);
	free(r.plain);
}
