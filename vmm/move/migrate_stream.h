/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * migrate_stream.h: what goes over the line of a migration. All numbers little-endian.
 *
 *   header   "MVMSTRM" 0x1a, u32 version, u32 flags
 *   record   u32 type, u32 CRC-32C of the payload, u64 length, payload
 *
 *   CONFIG   tree: machine_describe, and the memory blocks in the order of their numbers
 *   PAGES    u32 block, u32 runs; runs of { u64 first page, u32 pages, u32 zero }; then the pages
 *            that are not zero
 *   ZPAGES   u32 length, then PAGES' payload packed by zstd
 *   STATE    tree: machine_save; one-way: with what identifies the disks' contents
 *   RUN      u32: 1 when the user had paused it
 *
 * With STREAM_TWO_WAY the destination answers { u32 answer, u32 length, text }: ACCEPT to CONFIG,
 * READY to STATE, DONE to RUN, and REFUSE with the reason at any time. Without it STATE is the end
 * and the destination runs.
 */
#ifndef VMM_MOVE_MIGRATE_STREAM_H
#define VMM_MOVE_MIGRATE_STREAM_H

#include "vmm/base/util.h"

#define STREAM_VERSION 1
#define STREAM_HEADER 16
#define STREAM_MAX_PAGES 256				/* in a record */
#define STREAM_MAX_TREE (64 * MiB)
#define STREAM_RUN_SIZE 16
#define STREAM_MAX_PAYLOAD (8 + STREAM_MAX_PAGES * (STREAM_RUN_SIZE + 4096))
#define STREAM_TEXT_MAX 1000

enum stream_flags { STREAM_TWO_WAY = 1 };
enum stream_type { STREAM_CONFIG = 1, STREAM_PAGES, STREAM_ZPAGES, STREAM_STATE, STREAM_RUN };
enum stream_answer { ANSWER_ACCEPT = 1, ANSWER_READY, ANSWER_DONE, ANSWER_REFUSE };

static const uint8_t stream_magic[8] = { 'M', 'V', 'M', 'S', 'T', 'R', 'M', 0x1a };

struct machine;
struct line;			/* migrate_line.c: a connection, or a program's pipe */

/* "tcp:", "unix:", "exec:", "fd:" to / from. NULL with the reason. listen waits for the peer. */
struct line *line_connect(struct machine *m, const char *uri, struct err *err);
struct line *line_listen(struct machine *m, const char *uri, struct err *err);
int line_accept(struct line *l, struct err *err);
bool line_two_way(const struct line *l);
int line_write(struct line *l, const void *buf, size_t len);	/* 0 or -errno */
int line_read(struct line *l, void *buf, size_t len);
/* Makes reads and writes under way and to come fail. Any thread. */
void line_abort(struct line *l);
/* Waits for the program of exec:. 0, or -EIO with the reason when it failed. */
int line_finish(struct line *l, struct err *err);
void line_free(struct line *l);

/* A line to or from anything that takes bytes at an offset, in pieces of up to 1 MiB; one-way. */
struct line *line_callback(int (*write)(void *ctx, const void *buf, size_t len, uint64_t off),
			   int (*read)(void *ctx, void *buf, size_t len, uint64_t off), void *ctx);
uint64_t line_bytes(const struct line *l);	/* written so far */

/*
 * The whole machine at once, paused and quiesced / into a machine without contents of memory. 0 or
 * -errno with the reason.
 */
int migrate_save_line(struct machine *m, struct line *l, struct err *err);
int migrate_load_line(struct machine *m, struct line *l, struct err *err);
/* Receives a whole machine (migrate_in.c). On a thread of its own. */
void migrate_receive(struct machine *m, struct line *l);
/* The payload of CONFIG. */
int stream_config(struct machine *m, void **blob, size_t *len);

#endif
