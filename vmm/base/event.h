/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * event.h: what programs on the control socket are told without asking: QMP's events, to every
 * connection.
 */
#ifndef VMM_BASE_EVENT_H
#define VMM_BASE_EVENT_H

#include <jansson.h>

#include "vmm/base/loop.h"

void event_emit(const char *name, json_t *data);	/* steals data; any thread */
/* whether anyone listens; where data costs something to make */
bool event_wanted(void);

/*
 * Who hears of events. heard(ctx, event) runs on the thread that emits, with the list locked: it
 * keeps what it needs (a copy) and must neither emit nor change the list. The structure is the
 * listener's own, from event_listen to event_unlisten.
 */
struct event_listener {
	void (*heard)(void *ctx, json_t *event);
	void *ctx;
	struct event_listener *next;	/* private */
};
void event_listen(struct event_listener *l);
/* Also one that does not listen. */
void event_unlisten(struct event_listener *l);

/*
 * Events that a guest can cause as fast as it likes: the first at once, then the newest each
 * second, the last one always. Otherwise a guest could fill a client's connection until it is
 * closed. Embedded in the owner; the loop's lock is held for all three.
 */
struct event_limit {
	const char *name;
	struct loop_timer timer;	/* armed: one went out within the last second */
	json_t *waiting;
};
void event_limit_init(struct event_limit *l, const char *name, struct loop *loop);
void event_limit_emit(struct event_limit *l, json_t *data);	/* steals data */
void event_limit_free(struct event_limit *l);		/* also one that was never made, all zero */

#endif
