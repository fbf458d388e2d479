/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * migrate.c: the control side of a migration; see migrate.h. A thread of its own copies and decides
 * (migrate_send.c); the main loop only starts, asks and cancels.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/base/event.h"
#include "vmm/base/log.h"
#include "vmm/machine/drives.h"
#include "vmm/machine/machine_state.h"
#include "vmm/move/migrate_impl.h"
#include "vmm/move/snapshot.h"

#define DEFAULT_DOWNTIME_MS 300

static struct migration *migration_of(struct machine *m)
{
	struct migration *g = m->migration;

	if (g)
		return g;
	g = xcalloc(1, sizeof(*g));
	g->m = m;
	g->params.downtime_ms = DEFAULT_DOWNTIME_MS;
	pthread_mutex_init(&g->mutex, NULL);
	pthread_cond_init(&g->over, NULL);
	return m->migration = g;
}

void migration_set_state(struct migration *g, enum migrate_state state)
{
	static const char *const names[] = {
		"none",	      "setup",	   "active",	"device",
		"cancelling", "cancelled", "completed", "failed",
	};

	pthread_mutex_lock(&g->mutex);
	/* Once cancelled, only an end may follow. */
	if (g->info.state == MIGRATE_CANCELLING && state < MIGRATE_CANCELLED)
		state = MIGRATE_CANCELLING;
	g->info.state = state;
	pthread_cond_broadcast(&g->over);
	pthread_mutex_unlock(&g->mutex);
	event_emit("MIGRATION", json_pack("{s:s}", "status", names[state]));
}

static bool file_progress(void *ctx, uint64_t done, uint64_t total)
{
	struct migration *g = ctx;

	pthread_mutex_lock(&g->mutex);
	g->info.total = total;
	g->info.transferred = done;
	g->info.remaining = total - done;
	pthread_mutex_unlock(&g->mutex);
	return !migration_cancelled(g);
}

static void *migrate_thread(void *arg)
{
	struct migration *g = arg;
	struct err err = { "" };
	struct line *line;
	int64_t start = now_ns();
	int ret;

	pthread_setname_np(pthread_self(), "migrate");
	pthread_rwlock_rdlock(&g->m->shape);	/* its parts stay what they are (hotplug.h) */
	if (!strncmp(g->uri, "file:", 5)) {
		migration_set_state(g, MIGRATE_ACTIVE);
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
		ret = line ? migrate_send_machine(g, &err) : -EIO;
	}
	if (ret < 0 && !migration_cancelled(g))
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
	pthread_rwlock_unlock(&g->m->shape);
	migration_set_state(g, ret == 0			? MIGRATE_COMPLETED
			       : migration_cancelled(g) ? MIGRATE_CANCELLED
							: MIGRATE_FAILED);
	return NULL;
}

/* --- the control side --- */

static bool under_way(const struct migration *g)
{
	return g->info.state > MIGRATE_NONE && g->info.state < MIGRATE_CANCELLED;
}

bool migrate_under_way(struct machine *m)
{
	struct migration *g = m->migration;
	bool yes;

	if (!g)
		return false;
	pthread_mutex_lock(&g->mutex);
	yes = under_way(g);
	pthread_mutex_unlock(&g->mutex);
	return yes;
}

/* A machine that came has come: it may be sent on. */
static void incoming_over(struct migration *g)
{
	if (!g->incoming || vm_pause_reasons(g->m->vm) & PAUSE_MIGRATE)
		return;
	pthread_join(g->thread, NULL);
	line_free(g->line);
	g->line = NULL;
	g->has_thread = g->incoming = false;
}

int migrate_start(struct machine *m, const char *uri, struct err *err)
{
	static const char *const kinds[] = { "tcp:", "unix:", "exec:", "fd:", "file:" };
	struct migration *g = migration_of(m);
	bool busy, known = false;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		known |= !strncmp(uri, kinds[i], strlen(kinds[i]));
	if (!known)
		return err_set(err, EINVAL,
			       "Parameter 'uri' expects a valid migration protocol: tcp:HOST:PORT, "
			       "unix:PATH, exec:COMMAND, "
			       "fd:N or file:PATH");
	incoming_over(g);
	pthread_mutex_lock(&g->mutex);
	busy = under_way(g) || g->incoming;
	if (!busy) {
		memset(&g->info, 0, sizeof(g->info));
		g->info.state = MIGRATE_SETUP;
	}
	pthread_mutex_unlock(&g->mutex);
	if (busy)
		return err_set(err, EBUSY, "There's a migration process in progress");
	if (g->has_thread)
		pthread_join(g->thread, NULL);
	free(g->uri);
	g->uri = xstrdup(uri);
	g->cancel = false;
	if (pthread_create(&g->thread, NULL, migrate_thread, g)) {
		g->has_thread = false;
		migration_set_state(g, MIGRATE_FAILED);
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
	enum migrate_state state;
	int ret;

	pthread_mutex_lock(&g->mutex);
	state = g->info.state;
	pthread_mutex_unlock(&g->mutex);
	if (state < MIGRATE_CANCELLED)
		return err_set(err, EBUSY,
			       state == MIGRATE_NONE
				       ? "no machine has come yet"
				       : "There's a migration process in progress");
	ret = machine_each_disk(m, blk_activate, err);
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

void migrate_wait(struct machine *m, struct migrate_info *info)
{
	struct migration *g = migration_of(m);

	pthread_mutex_lock(&g->mutex);
	while (under_way(g))
		pthread_cond_wait(&g->over, &g->mutex);
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
	pthread_rwlock_rdlock(&g->m->shape);
	migrate_receive(g->m, g->line);
	pthread_rwlock_unlock(&g->m->shape);
	return NULL;
}

int migrate_incoming(struct machine *m, const char *uri, struct err *err)
{
	struct migration *g = migration_of(m);
	bool busy;

	if (!strncmp(uri, "file:", 5))
		return snapshot_restore(m, uri + 5, err);
	pthread_mutex_lock(&g->mutex);
	busy = g->incoming || g->info.state != MIGRATE_NONE;
	pthread_mutex_unlock(&g->mutex);
	if (busy)
		return err_set(err, EBUSY, "already waiting for a machine");
	g->line = line_listen(m, uri, err);
	if (!g->line)
		return -EINVAL;
	g->incoming = true;
	if (pthread_create(&g->thread, NULL, incoming_thread, g)) {
		line_free(g->line);
		g->line = NULL;
		g->incoming = false;
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
	pthread_cond_destroy(&g->over);
	free(g->uri);
	free(g);
	m->migration = NULL;
}
