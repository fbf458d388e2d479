/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * server.h: the parent's side of the door: it does what the machine asks by host_direct, and keeps
 * what has to go when the machine is gone.
 */
#ifndef VMM_PARENT_SERVER_H
#define VMM_PARENT_SERVER_H

#include "vmm/parent/wire.h"

/*
 * What the parent itself does (WIRE_PREPARE, WIRE_READY), and what it learns: the machine listens
 * at a path or no longer, has opened a disk. On a thread of the server, one at a time but for
 * prepare and ready.
 */
struct server_ops {
	int (*prepare)(void *ctx, struct err *err);
	void (*ready)(void *ctx);
	void (*listens)(void *ctx, const char *what, const char *path, bool now);
	void (*has_disk)(void *ctx, const struct stat *st);
};

/* machine: the process at the other end of the socket. */
void server_init(int sock, int machine, const struct server_ops *ops, void *ctx);
/* One wish on this thread, waited for. False: the other end is closed. */
bool server_step(void);
/*
 * From now on threads of its own serve, until the other end is closed. Signals that the caller
 * blocks stay blocked on them. 0 or -errno.
 */
int server_start(void);
/*
 * After the machine's end: socket files that it made and did not take away go, programs that it
 * started and that still run get SIGTERM.
 */
void server_clean(void);

#endif
