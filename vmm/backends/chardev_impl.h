/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * chardev_impl.h: between chardev.c (the stream) and chardev_open.c (the kinds of it) only.
 */
#ifndef VMM_BACKENDS_CHARDEV_IMPL_H
#define VMM_BACKENDS_CHARDEV_IMPL_H

#include "vmm/backends/chardev.h"
#include "vmm/base/acceptor.h"

#define CHARDEV_BUFFER (64 * 1024u)

enum chardev_kind { CHARDEV_NULL, CHARDEV_STDIO, CHARDEV_FILE, CHARDEV_PTY, CHARDEV_SOCKET,
                    CHARDEV_TTY };

struct chardev {
	char *label, *filename;
	struct loop *loop;
	enum chardev_kind kind;
	int in_fd, out_fd;		/* -1: not (or no longer) connected */
	int out_watch_fd;		/* duplicate of out_fd, while out watches it */
	int owned[4];			/* descriptors to close at the end */
	int nowned;
	int listen_fd;			/* a server's */
	/* pty: our own hold on the slave, so that the master never hangs up */
	int keep_fd;
	const struct host *host;
	struct host_path own;	/* a server's socket file */
	struct loop_fd *in, *out;
	struct acceptor door;		/* a server's */
	struct loop_timer flush;
	/* a full buffer loses the newest instead of stopping the guest */
	char *path;			/* a file's */
	/* size=: where it ends (0: nowhere), and how far it is filled */
	uint64_t file_max, file_len;
	struct chardev *log;		/* logfile=: a file that gets all output too, or NULL */
	bool stuck;			/* a full disk: tried again now and then */
	uint64_t lost;			/* bytes, since then */
	bool lossy;
	bool restore_tty;		/* stdin's terminal was changed */
	bool escapes, escape_seen;	/* Ctrl-A keys */
	bool was_full;			/* a write was short: writable() is owed */
	bool (*escape)(void *ctx, char key);
	void *escape_ctx;
	const struct chardev_user *user;
	void *user_ctx;
	uint8_t held[4096];		/* read ahead of the escape keys, not yet taken */
	size_t held_len;
	size_t out_len;
	uint8_t out_buf[CHARDEV_BUFFER];
};

struct chardev *chardev_alloc(const char *id, struct loop *loop);
void chardev_connected(struct chardev *c, int fd);
/* Starts accepting; wait: not before a first client is there. 0 or -errno. */
int chardev_listen(struct chardev *c, bool wait);
/* Writes what is waiting, as far as the host takes it now. */
void chardev_flush(struct chardev *c);
/* Gives back terminal and descriptors. */
void chardev_close_host(struct chardev *c);

#endif
