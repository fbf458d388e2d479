/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * migrate.h: a running machine moves to another minivmm: "tcp:HOST:PORT", "unix:PATH",
 * "exec:COMMAND", "fd:N"; and "file:PATH" saves it into a file (snapshot.h).
 *
 * Memory is copied while the guest runs, then what it wrote meanwhile, until the rest fits into the
 * allowed downtime. Over a socket both sides agree: the destination says that it has everything and
 * holds the disks, the source lets go, and only then the destination runs. A cut at any byte leaves
 * one runnable machine; disks' locks decide the one case in which a side cannot know.
 */
#ifndef VMM_MOVE_MIGRATE_H
#define VMM_MOVE_MIGRATE_H

#include "vmm/machine/machine.h"

struct migrate_params {
	uint64_t max_bandwidth;		/* bytes a second; 0: no limit */
	uint64_t downtime_ms;
	bool compress;			/* zstd */
	/* slow the guest down when it writes faster than the line */
	bool auto_converge;
};

/* QEMU's words in query-migrate. */
enum migrate_state { MIGRATE_NONE, MIGRATE_SETUP, MIGRATE_ACTIVE, MIGRATE_DEVICE,
                     MIGRATE_CANCELLING, MIGRATE_CANCELLED,
		     MIGRATE_COMPLETED, MIGRATE_FAILED };
struct migrate_info {
	enum migrate_state state;
	uint64_t total, transferred, remaining;	/* bytes of memory; bytes on the line */
	uint64_t zero_pages, normal_pages, rounds;
	uint64_t dirty_rate;			/* pages a second */
	uint64_t bandwidth;			/* bytes a second, measured */
	uint64_t total_ms, downtime_ms, expected_downtime_ms;
	unsigned throttle;			/* percent of the guest's time */
	char error[1024];
};

/*
 * Starts it; a thread does the rest. Main loop; the disks are this machine's (machine_take_disks).
 * 0, or -errno with the reason (-EBUSY: one is under way).
 */
int migrate_start(struct machine *m, const char *uri, struct err *err);
/* The source goes on running. Does nothing when none is under way. */
void migrate_cancel(struct machine *m);
/*
 * "cont" on a machine that was sent away, or may have been: takes the disks back and lets it run
 * here. Refused while it is under way, before a machine has come, and while the other side has the
 * disks. Main loop. 0 or -errno with the reason.
 */
int migrate_continue(struct machine *m, struct err *err);
/* Any thread. */
bool migrate_under_way(struct machine *m);
void migrate_query(struct machine *m, struct migrate_info *info);
/* Waits for the end of the one under way. A control thread that holds no lock. */
void migrate_wait(struct machine *m, struct migrate_info *info);
void migrate_get_params(struct machine *m, struct migrate_params *p);
void migrate_set_params(struct machine *m, const struct migrate_params *p);
/* Ends and joins what is under way. Before machine_exit frees anything. */
void migrate_exit(struct machine *m);

/*
 * -incoming and -loadvm, instead of the first machine_reset: a file is loaded at once; for a line
 * the machine waits (paused for PAUSE_MIGRATE) and a thread listens. "defer": migrate-incoming
 * tells later. 0 or -errno with the reason.
 */
int migrate_incoming(struct machine *m, const char *uri, struct err *err);

#endif
