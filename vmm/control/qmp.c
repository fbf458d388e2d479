/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qmp.c: the QMP protocol (QEMU's docs/interop/qmp-spec): greeting, capabilities, commands with
 * ids, events. Main loop; command_call says when a command is done.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

#include "vmm/base/log.h"
#include "vmm/control/command.h"
#include "vmm/control/control.h"

#define QMP_MAX_DEPTH 64

struct qmp_conn {
	bool ready;			/* qmp_capabilities was given */
	/* Where the scan for the end of the request stands. */
	size_t scanned;
	unsigned depth;
	bool in_string, escaped, started;
};

static void send_json(struct control_conn *c, json_t *v)
{
	char *text = json_dumps(v, JSON_COMPACT | JSON_PRESERVE_ORDER);
	size_t len = text ? strlen(text) : 0;

	if (text) {
		/* In one piece: a client that reads what is there finds whole messages. */
		text = xrealloc(text, len + 2);
		memcpy(text + len, "\r\n", 2);
		control_send(c, text, len + 2);
	}
	free(text);
	json_decref(v);
}

static void qmp_opened(struct control_conn *c)
{
	control_set_data(c, xcalloc(1, sizeof(struct qmp_conn)));
	/* Clients look for the "qemu" member; "package" says who really answers. */
	send_json(c, json_pack("{s:{s:{s:{s:i,s:i,s:i},s:s},s:[]}}", "QMP", "version", "qemu",
			       "micro", 0, "minor", 2, "major", 7, "package",
			       "minivmm-" MINIVMM_VERSION, "capabilities"));
}

static void qmp_closed(struct control_conn *c)
{
	free(control_data(c));
}

static json_t *error_object(int errnum, const char *desc, json_t *id)
{
	const char *class = errnum == -ENODEV	  ? "DeviceNotFound"
			    : errnum == -ENOSYS	  ? "CommandNotFound"
			    : errnum == -ENOTCONN ? "DeviceNotActive"
						  : "GenericError";
	json_t *e = json_pack("{s:{s:s,s:s}}", "error", "class", class, "desc", desc);

	if (id)
		json_object_set(e, "id", id);
	return e;
}

static json_t *reply_object(int ret, struct command_result *r, json_t *id)
{
	json_t *o;

	if (ret < 0) {
		o = error_object(ret, r->err.msg[0] ? r->err.msg : strerror(-ret), id);
		return o;
	}
	o = json_object();
	json_object_set_new(o, "return", r->value ? json_incref(r->value) : json_object());
	if (id)
		json_object_set(o, "id", id);
	return o;
}

/* --- commands --- */

/* A command under way for a client; the connection reads nothing meanwhile. */
struct request {
	struct control_conn *c;
	json_t *id;
};

static void request_done(void *ctx, int ret, struct command_result *r)
{
	struct request *q = ctx;

	send_json(q->c, reply_object(ret, r, q->id));
	control_resume(q->c);
	json_decref(q->id);
	free(q);
}

static void run_command(struct control_conn *c, const struct command *cmd, json_t *args, json_t *id)
{
	struct request *q = xcalloc(1, sizeof(*q));

	*q = (struct request){ c, json_incref(id) };
	control_hold(c);
	command_call(control_machine(c), cmd, args, request_done, q);
}

/* --- requests --- */

static void qmp_execute(struct control_conn *c, json_t *req)
{
	struct qmp_conn *q = control_data(c);
	const char *name = json_string_value(json_object_get(req, "execute"));
	json_t *args = json_object_get(req, "arguments"), *id = json_object_get(req, "id"),
	       *none = NULL;
	struct command_result r = { NULL, { "" } };
	const struct command *cmd;
	const char *key;
	json_t *member;
	char desc[256];

	json_object_foreach(req, key, member) {
		if (strcmp(key, "execute") && strcmp(key, "arguments") && strcmp(key, "id")) {
			snprintf(desc, sizeof(desc), "QMP input member '%.100s' is unexpected",
				 key);
			send_json(c, error_object(-EINVAL, desc, id));
			return;
		}
	}
	if (!name) {
		send_json(c, error_object(-EINVAL,
					  json_object_get(req, "execute")
						  ? "QMP input member 'execute' must be a string"
						  : "QMP input lacks member 'execute'",
					  id));
		return;
	}
	if (!q->ready) {
		if (!strcmp(name, "qmp_capabilities")) {
			q->ready = true;
			send_json(c, reply_object(0, &r, id));
		} else {
			send_json(c, error_object(-ENOSYS,
						  "Expecting capabilities negotiation with "
						  "'qmp_capabilities'",
						  id));
		}
		return;
	}
	cmd = command_by_name(name);
	if (!cmd) {
		snprintf(desc, sizeof(desc), "The command %.100s has not been found", name);
		send_json(c, error_object(-ENOSYS, desc, id));
		return;
	}
	if (args && !json_is_object(args)) {
		send_json(c, error_object(-EINVAL, "QMP input member 'arguments' must be an object",
					  id));
		return;
	}
	if (!args)
		args = none = json_object();
	run_command(c, cmd, args, id);
	json_decref(none);
}

/*
 * Looks for the end of one JSON value without parsing it again and again; returns its length, 0
 * when incomplete.
 */
static size_t scan_value(struct qmp_conn *q, const char *buf, size_t len)
{
	for (; q->scanned < len; q->scanned++) {
		char ch = buf[q->scanned];

		if (q->in_string) {
			if (q->escaped)
				q->escaped = false;
			else if (ch == '\\')
				q->escaped = true;
			else if (ch == '"')
				q->in_string = false;
		} else if (ch == '"') {
			q->in_string = q->started = true;
		} else if (ch == '{' || ch == '[') {
			q->started = true;
			q->depth++;
		} else if ((ch == '}' || ch == ']') && q->depth) {
			q->depth--;
			if (!q->depth)
				return q->scanned + 1;
		} else if (!isspace((unsigned char)ch)) {
			q->started = true;
		}
		/* Not an object: the line's end ends it. */
		if (!q->depth && !q->in_string && ch == '\n' && q->started)
			return q->scanned + 1;
		if (q->depth > QMP_MAX_DEPTH)
			return q->scanned + 1;
	}
	return q->started ? 0 : len;
}

static size_t qmp_input(struct control_conn *c, const char *buf, size_t len)
{
	struct qmp_conn *q = control_data(c);
	size_t n = scan_value(q, buf, len);
	json_error_t error;
	json_t *req;
	bool blank = !q->started;

	if (!n)
		return 0;
	q->scanned = q->depth = 0;
	q->in_string = q->escaped = q->started = false;
	if (blank)
		return n;
	req = json_loadb(buf, n, 0, &error);
	if (!json_is_object(req)) {
		char desc[256];

		snprintf(desc, sizeof(desc),
			 req ? "QMP input must be a JSON object" : "JSON parse error: %s",
			 error.text);
		send_json(c, error_object(-EINVAL, desc, NULL));
	} else {
		qmp_execute(c, req);
	}
	json_decref(req);
	return n;
}

static const struct control_protocol qmp_protocol = {
	"QMP", qmp_opened, qmp_input, qmp_closed
};

static void send_event(struct control_conn *c, void *ctx)
{
	struct qmp_conn *q = control_data(c);

	if (q->ready)
		send_json(c, json_incref((json_t *)ctx));
}

struct posted_event { json_t *event; };

static void deliver_event(void *ctx)
{
	struct posted_event *p = ctx;

	control_for_each(&qmp_protocol, send_event, p->event);
	json_decref(p->event);
	free(p);
}

/* Any thread: connections belong to the main loop. */
static void event_heard(void *ctx, json_t *event)
{
	struct machine *m = ctx;
	struct posted_event *p = xcalloc(1, sizeof(*p));

	p->event = json_deep_copy(event);
	if (loop_is_current(m->loop))
		deliver_event(p);
	else
		loop_post(m->loop, deliver_event, p);
}

static struct event_listener listener = { .heard = event_heard };

int qmp_start(struct machine *m, const char *spec, struct err *err)
{
	int ret = control_listen(m, spec, &qmp_protocol, err);

	if (ret < 0)
		return err_prefix(err, "-qmp"), ret;
	event_unlisten(&listener);		/* another -qmp */
	listener.ctx = m;
	event_listen(&listener);
	return 0;
}
