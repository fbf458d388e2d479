/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * migrate_impl.h: what the parts of the sending side share: migrate.c (control, threads),
 * migrate_send.c (the conversation with the other side) and migrate_ram.c (pages).
 */
#ifndef VMM_MOVE_MIGRATE_IMPL_H
#define VMM_MOVE_MIGRATE_IMPL_H

#include <pthread.h>
#include <zstd.h>

#include "vmm/move/migrate.h"
#include "vmm/move/migrate_stream.h"

#define MIGRATE_PAGE 4096ull
#define MIGRATE_MAX_BLOCKS 128

struct migration {
	struct machine *m;
	pthread_mutex_t mutex;		/* info, params, line */
	pthread_cond_t over;		/* the state has changed */
	struct migrate_info info;
	struct migrate_params params;
	struct line *line;
	char *uri;
	pthread_t thread;
	bool has_thread, incoming;
	bool cancel;			/* atomic */
	/* The thread's own. */
	struct block *blocks[MIGRATE_MAX_BLOCKS];
	unsigned long *todo[MIGRATE_MAX_BLOCKS];	/* pages to send */
	unsigned long *fresh[MIGRATE_MAX_BLOCKS];	/* what the last sync brought */
	unsigned nblocks;
	struct dirty_client *dirty;
	ZSTD_CCtx *zstd;
	uint8_t *payload, *packed;
	int64_t pace_start, throttled;
	/* of this round: on the line, and of pages that are not zero */
	uint64_t pace_bytes, raw_bytes;
};

void migration_set_state(struct migration *g, enum migrate_state state);
static inline bool migration_cancelled(struct migration *g)
{
	return __atomic_load_n(&g->cancel, __ATOMIC_ACQUIRE);
}

/* --- migrate_send.c --- */

/* A record on the line, counted. 0 or -errno. */
int migrate_send_record(struct migration *g, enum stream_type type, const void *payload,
			size_t len);
/* The whole conversation over g->line, up to who runs. 0, or -errno with the reason. */
int migrate_send_machine(struct migration *g, struct err *err);

/* --- migrate_ram.c --- */

void migrate_ram_begin(struct migration *g);
void migrate_ram_end(struct migration *g);
/* Rounds while the guest runs, until what is left fits into the downtime. 0 or -errno. */
int migrate_ram_live(struct migration *g);
/* All that is left (first: all there is), while the guest stands. 0 or -errno. */
int migrate_ram_rest(struct migration *g, bool first);

#endif
