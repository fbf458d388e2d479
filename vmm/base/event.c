/* SPDX-License-Identifier: GPL-2.0-or-later */
/* event.c: see event.h. */
#include <pthread.h>
#include <time.h>

#include "vmm/base/event.h"

static struct {
	pthread_mutex_t lock;
	struct event_listener *list;
} events = { .lock = PTHREAD_MUTEX_INITIALIZER };

void event_listen(struct event_listener *l)
{
	pthread_mutex_lock(&events.lock);
	l->next = events.list;
	events.list = l;
	pthread_mutex_unlock(&events.lock);
}

void event_unlisten(struct event_listener *l)
{
	pthread_mutex_lock(&events.lock);
	for (struct event_listener **p = &events.list; *p; p = &(*p)->next)
		if (*p == l) {
			*p = l->next;
			break;
		}
	pthread_mutex_unlock(&events.lock);
}

bool event_wanted(void)
{
	bool wanted;

	pthread_mutex_lock(&events.lock);
	wanted = events.list != NULL;
	pthread_mutex_unlock(&events.lock);
	return wanted;
}

void event_emit(const char *name, json_t *data)
{
	struct timespec ts;
	json_t *e;

	pthread_mutex_lock(&events.lock);
	if (events.list) {
		clock_gettime(CLOCK_REALTIME, &ts);
		e = json_pack("{s:{s:I,s:I},s:s}", "timestamp", "seconds", (json_int_t)ts.tv_sec,
			      "microseconds", (json_int_t)ts.tv_nsec / 1000, "event", name);
		if (data)
			json_object_set(e, "data", data);
		for (struct event_listener *l = events.list; l; l = l->next)
			l->heard(l->ctx, e);
		json_decref(e);
	}
	pthread_mutex_unlock(&events.lock);
	json_decref(data);
}

/* --- events that the guest causes --- */

static void limit_over(void *ctx)
{
	struct event_limit *l = ctx;
	json_t *data = l->waiting;

	l->waiting = NULL;
	if (!data)
		return;
	event_emit(l->name, data);
	loop_timer_set(&l->timer, now_ns() + NS_PER_SEC);
}

void event_limit_init(struct event_limit *l, const char *name, struct loop *loop)
{
	*l = (struct event_limit){ .name = name };
	loop_timer_init(&l->timer, loop, NULL, limit_over, l);
}

void event_limit_emit(struct event_limit *l, json_t *data)
{
	json_decref(l->waiting);
	l->waiting = data;
	if (!loop_timer_armed(&l->timer))
		limit_over(l);
}

void event_limit_free(struct event_limit *l)
{
	if (l->name)
		loop_timer_cancel(&l->timer);
	json_decref(l->waiting);
	l->waiting = NULL;
}
