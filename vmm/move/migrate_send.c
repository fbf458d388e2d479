/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * migrate_send.c: the sending side's conversation: who we are, memory, registers, and who runs from
 * here on. The migration's thread.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/machine/drives.h"
#include "vmm/machine/machine_state.h"
#include "vmm/move/migrate_impl.h"

#define TAKE_BACK_SECONDS 5

/* --- records --- */

int migrate_send_record(struct migration *g, enum stream_type type, const void *payload, size_t len)
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

/* --- the end --- */

/*
 * The guest stands and its devices are still: the rest of memory, the registers, and who runs from
 * here on.
 */
static int hand_over(struct migration *g, bool paused, bool *given, struct err *err)
{
	bool one_way = !line_two_way(g->line);
	uint8_t run[4];
	void *blob = NULL;
	size_t len;
	int ret;

	ret = migrate_ram_rest(g, false);
	if (ret < 0)
		return err_set(err, -ret, "sending memory: %s", strerror(-ret));
	/*
	 * What goes one way may lie in a file for long, and says what the disks hold; letting go of
	 * them is the last that is written to them.
	 */
	if (one_way && (ret = machine_each_disk(g->m, blk_inactivate, err)) < 0)
		return ret;
	ret = machine_save(g->m, NULL, NULL, one_way, &blob, &len, err);
	if (ret < 0)
		return ret;
	if (!one_way)
		ret = machine_each_disk(g->m, blk_inactivate, err);
	if (ret == 0 && (ret = migrate_send_record(g, STREAM_STATE, blob, len)) < 0)
		err_set(err, -ret, "sending the machine's state: %s", strerror(-ret));
	free(blob);
	if (ret < 0 || (ret = expect(g, ANSWER_READY, err)) < 0)
		return ret;
	/* From here on the other side may run. */
	*given = true;
	st_le32(run, paused);
	ret = migrate_send_record(g, STREAM_RUN, run, sizeof(run));
	if (ret < 0)
		return err_set(err, -ret, "the connection broke at the last step: %s",
			       strerror(-ret));
	return expect(g, ANSWER_DONE, err);
}

/*
 * With the disks we know who runs: the destination took their locks before it said that it was
 * ready. One that did not get the last word ends and lets go of them, which may take it a moment.
 */
static bool take_back(struct migration *g, bool given)
{
	int64_t end = now_ns() + TAKE_BACK_SECONDS * NS_PER_SEC;
	bool have_disks = machine_next_writable(g->m, NULL);
	struct err err;

	if (given && !have_disks) {
		log_error("migration: it is not known whether the destination runs; this side "
			  "stays paused. If it does not: cont");
		return false;
	}
	line_abort(g->line);
	line_finish(g->line, NULL);	/* so that the other side learns of it */
	do {
		err.msg[0] = 0;
		if (machine_each_disk(g->m, blk_activate, &err) == 0)
			return true;
		usleep(50000);
	} while (now_ns() < end);
	log_error("migration: %s; this side stays paused%s", err.msg,
		  given ? ", the destination has the disks" : "");
	return false;
}

static int stop_and_hand_over(struct migration *g, struct err *err)
{
	bool paused = vm_pause_reasons(g->m->vm) & PAUSE_USER, given = false;
	int64_t start = now_ns();
	int ret;

	migration_set_state(g, MIGRATE_DEVICE);
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
		ret = migrate_send_record(g, STREAM_CONFIG, blob, len);
	free(blob);
	if (ret < 0)
		return err_set(err, -ret, "the connection: %s", strerror(-ret));
	return expect(g, ANSWER_ACCEPT, err);
}

int migrate_send_machine(struct migration *g, struct err *err)
{
	int ret = send_head(g, err);

	if (ret < 0)
		return ret;
	migrate_ram_begin(g);
	migration_set_state(g, MIGRATE_ACTIVE);
	ret = migrate_ram_live(g);
	if (ret < 0)
		err_set(err, -ret, "sending memory: %s", strerror(-ret));
	else
		ret = stop_and_hand_over(g, err);
	migrate_ram_end(g);
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
		migrate_ram_begin(g);
		ret = migrate_ram_rest(g, true);
		if (ret < 0)
			err_set(err, -ret, "writing memory: %s", strerror(-ret));
		migrate_ram_end(g);
	}
	if (ret == 0)
		ret = machine_save(m, NULL, NULL, false, &blob, &len, err);
	if (ret == 0 && (ret = migrate_send_record(g, STREAM_STATE, blob, len)) < 0)
		err_set(err, -ret, "writing the machine's state: %s", strerror(-ret));
	free(blob);
	pthread_mutex_destroy(&g->mutex);
	free(g);
	return ret;
}
