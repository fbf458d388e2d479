/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * chardev.h: a byte stream a serial port, console or monitor talks to: stdio, file, pty, unix
 * socket, none. Main loop. Output never blocks: what the host does not take is kept (up to a limit)
 * and can_write tells.
 */
#ifndef VMM_BACKENDS_CHARDEV_H
#define VMM_BACKENDS_CHARDEV_H

#include "vmm/base/host.h"
#include "vmm/base/loop.h"

struct chardev;
enum chardev_event { CHARDEV_OPENED, CHARDEV_CLOSED, CHARDEV_BREAK };
struct chardev_user {
	/* How many bytes the device takes now; 0 stops reading until chardev_accept. */
	size_t (*can_read)(void *ctx);
	void (*read)(void *ctx, const uint8_t *buf, size_t len);
	/* room again after a short write; optional */
	void (*writable)(void *ctx);
	void (*event)(void *ctx, enum chardev_event e);		/* optional */
};

/*
 * spec: "stdio", "mon:stdio", "file:PATH", "pty", "unix:PATH[,server][,nowait]",
 * "tcp:HOST:PORT[,server][,nowait]", "null", "none", "/dev/ttyX". NULL with the reason. "none"
 * gives NULL without an error (err->msg empty). ",append=on" behind a file keeps what it holds;
 * ",logfile=FILE[,logappend=on]" behind any kind writes all output there too. ",size=BYTES" and
 * ",logsize=BYTES" end the file there: it becomes FILE.1 and begins anew (rotate.h).
 *
 * A file whose disk is full never stops the guest: 64 KiB wait, what comes then is lost and
 * counted, and the file is tried again twice a second.
 */
struct chardev *chardev_open(const char *id, const char *spec, struct loop *loop,
			     const struct host *host, struct err *err);
void chardev_free(struct chardev *c);	/* restores the terminal */
/*
 * Opens files anew by their names, without emptying them: who rotates logs has renamed the old
 * ones. NULL: nothing. Main loop.
 */
void chardev_reopen(struct chardev *c);
/*
 * The device side. A chardev has one user at a time (the multiplexer in front of stdio switches).
 */
/* Who it is now, to be put back later. */
const struct chardev_user *chardev_get_user(struct chardev *c, void **ctx);
void chardev_set_user(struct chardev *c, const struct chardev_user *ops, void *ctx);
/* Returns how many bytes were taken, 0 when full. Any thread that holds the loop's lock. */
size_t chardev_write(struct chardev *c, const void *buf, size_t len);
void chardev_accept(struct chardev *c);			/* the user can take input again */
bool chardev_is_stdio(const struct chardev *c);
const char *chardev_label(struct chardev *c);
const char *chardev_filename(struct chardev *c);	/* "pty:/dev/pts/3" ... */
/*
 * The stdio multiplexer's escape keys: Ctrl-A X (quit), H (help), C (switch to the monitor), S, B
 * (break).
 */
void chardev_on_escape(struct chardev *c, bool (*fn)(void *ctx, char key), void *ctx);

#endif
