/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * control.h: connections of control clients: a listening socket, buffers with limits, one request
 * at a time. What the bytes mean is a protocol's matter (qmp.c, monitor.c). Main loop; slow
 * requests answer from a thread.
 */
#ifndef VMM_CONTROL_CONTROL_H
#define VMM_CONTROL_CONTROL_H

#include "vmm/machine/machine.h"

struct control_conn;

struct control_protocol {
	const char *name;		/* "QMP" */
	void (*opened)(struct control_conn *c);
	/*
	 * Takes a whole request from the front of buf (a 0 lies behind its end) and acts on it;
	 * returns bytes used, 0: incomplete.
	 */
	size_t (*input)(struct control_conn *c, const char *buf, size_t len);
	void (*closed)(struct control_conn *c);
};

/* Listens on "unix:PATH[,server][,nowait]" or "tcp:HOST:PORT[...]". 0 or -errno with the reason. */
int control_listen(struct machine *m, const char *spec, const struct control_protocol *p,
		   struct err *err);
/* Closes every connection and removes the sockets. */
void control_close_all(struct machine *m);
/* No more clients; those that are there stay. */
void control_stop_listening(struct machine *m);

struct machine *control_machine(struct control_conn *c);
/* The protocol's own per-connection data. */
void control_set_data(struct control_conn *c, void *data);
void *control_data(struct control_conn *c);
/*
 * The oldest descriptor that the client whose request is being taken passed with it (SCM_RIGHTS),
 * and that no request has taken: the caller's. -1: none. Main loop, inside input.
 */
int control_take_fd(void);
/* Queue text to the client; one that does not read is cut off. Main loop. */
void control_send(struct control_conn *c, const char *text, size_t len);
/* No further request is read until control_resume (a slow one is under way). */
void control_hold(struct control_conn *c);
void control_resume(struct control_conn *c);
/* Calls fn for every connection of the protocol. */
void control_for_each(const struct control_protocol *p,
		      void (*fn)(struct control_conn *c, void *ctx), void *ctx);

#endif
