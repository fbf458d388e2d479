/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qmp_client.c: see qmp_client.h. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tools/lib/qmp_client.h"

#define MAX_MESSAGE (64 * MiB)
#define MAX_EVENTS 1024

struct qmp {
	int fd;
	char *path;
	char *in;			/* what came and is not a whole line yet, or beyond one */
	size_t in_len, in_size;
	size_t scanned;			/* no line ends before it */
	json_t *events;			/* that came during calls */
};

static int64_t deadline_of(int timeout_ms)
{
	return timeout_ms < 0 ? INT64_MAX : now_ns() + timeout_ms * NS_PER_MS;
}

/* Waits until the socket is ready. 0, or -ETIMEDOUT. */
static int wait_ready(struct qmp *q, short events, int64_t deadline)
{
	for (;;) {
		struct pollfd p = { .fd = q->fd, .events = events };
		int64_t left = deadline - now_ns();
		int n, ms = deadline == INT64_MAX ? -1 :
			    left <= 0		  ? 0 :
						    (int)MIN(left / NS_PER_MS + 1, 3600000);

		n = poll(&p, 1, ms);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0 && ms >= 0 && now_ns() >= deadline)
			return -ETIMEDOUT;
	}
}

static int send_text(struct qmp *q, const char *text, size_t len, int64_t deadline)
{
	while (len) {
		ssize_t n = send(q->fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		int ret;

		if (n >= 0) {
			text += n;
			len -= n;
			continue;
		}
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		ret = wait_ready(q, POLLOUT, deadline);
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* One message, which ends with its line. *msg is NULL at the end of the connection. */
static int receive(struct qmp *q, int64_t deadline, json_t **msg)
{
	json_error_t error;

	*msg = NULL;
	for (;;) {
		char *end = memchr(q->in + q->scanned, '\n', q->in_len - q->scanned);
		ssize_t n;
		int ret;

		if (end) {
			size_t len = end + 1 - q->in;

			*msg = json_loadb(q->in, len, 0, &error);
			memmove(q->in, q->in + len, q->in_len - len);
			q->in_len -= len;
			q->scanned = 0;
			return *msg ? 0 : -EPROTO;
		}
		q->scanned = q->in_len;
		if (q->in_len == q->in_size) {
			if (q->in_size >= MAX_MESSAGE)
				return -EMSGSIZE;
			q->in_size *= 2;
			q->in = xrealloc(q->in, q->in_size);
		}
		ret = wait_ready(q, POLLIN, deadline);
		if (ret < 0)
			return ret;
		n = recv(q->fd, q->in + q->in_len, q->in_size - q->in_len, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n < 0 && errno != ECONNRESET)
			return -errno;
		if (n <= 0)
			return 0;
		q->in_len += n;
	}
}

static int failed(struct qmp *q, int ret, struct err *err)
{
	if (ret == -ETIMEDOUT)
		return err_set(err, ETIMEDOUT, "%s: no answer; the machine may hang", q->path);
	return err_set(err, -ret, "%s: %s", q->path,
		       ret == -EPROTO	? "what came is no JSON"
		       : ret == -EPIPE ? "the machine ended"
				       : strerror(-ret));
}

/* The answer to the request that was sent; events that come before it are kept. 0 or -errno. */
static int answer(struct qmp *q, int64_t deadline, json_t **a, struct err *err)
{
	json_t *msg;
	int ret;

	for (;;) {
		ret = receive(q, deadline, &msg);
		if (ret < 0 || !msg)
			return failed(q, ret < 0 ? ret : -EPIPE, err);
		if (!json_object_get(msg, "event")) {
			*a = msg;
			return 0;
		}
		if (json_array_size(q->events) == MAX_EVENTS)
			json_array_remove(q->events, 0);
		json_array_append_new(q->events, msg);
	}
}

static int exchange(struct qmp *q, json_t *request, int timeout_ms, json_t **a, struct err *err)
{
	int64_t deadline = deadline_of(timeout_ms);
	char *text = json_dumps(request, JSON_COMPACT);
	char *line = xasprintf("%s\n", text ? text : "");
	int ret = text ? send_text(q, line, strlen(line), deadline) : -EINVAL;

	free(text);
	free(line);
	return ret < 0 ? failed(q, ret, err) : answer(q, deadline, a, err);
}

json_t *qmp_request(struct qmp *q, json_t *request, int timeout_ms, struct err *err)
{
	json_t *a;

	return exchange(q, request, timeout_ms, &a, err) < 0 ? NULL : a;
}

/* The machine's refusal as -errno, with its words. */
static int refusal(json_t *e, struct err *err)
{
	static const struct { const char *class; int errnum; } classes[] = {
		{ "CommandNotFound", ENOSYS },
		{ "DeviceNotFound", ENODEV },
		{ "DeviceNotActive", ENOTCONN },
	};
	const char *class = json_string_value(json_object_get(e, "class"));
	const char *desc = json_string_value(json_object_get(e, "desc"));
	int errnum = EIO;

	for (size_t i = 0; class && i < ARRAY_SIZE(classes); i++)
		if (!strcmp(class, classes[i].class))
			errnum = classes[i].errnum;
	return err_set(err, errnum, "%s", desc ? desc : "the machine gives no reason");
}

int qmp_call(struct qmp *q, const char *command, json_t *args, int timeout_ms, json_t **value,
	     struct err *err)
{
	json_t *request = json_pack("{s:s,s:o}", "execute", command, "arguments",
				    args ? args : json_object());
	json_t *a = NULL, *e;
	int ret = exchange(q, request, timeout_ms, &a, err);

	json_decref(request);
	e = json_object_get(a, "error");
	if (ret == 0 && e)
		ret = refusal(e, err);
	if (value)
		*value = ret == 0 ? json_incref(json_object_get(a, "return")) : NULL;
	json_decref(a);
	return ret;
}

json_t *qmp_event(struct qmp *q, int timeout_ms, struct err *err)
{
	json_t *msg = json_array_get(q->events, 0);
	int64_t deadline = deadline_of(timeout_ms);
	int ret;

	if (msg) {
		json_incref(msg);
		json_array_remove(q->events, 0);
		return msg;
	}
	do {
		ret = receive(q, deadline, &msg);
		if (ret < 0)
			failed(q, ret, err);
		if (ret < 0 || !msg || json_object_get(msg, "event"))
			return msg;
		json_decref(msg);
	} while (true);
}

static int connect_unix(const char *path, struct err *err)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd;

	if (strlen(path) >= sizeof(un.sun_path))
		return err_set(err, ENAMETOOLONG, "%s: a socket's path has at most %zu bytes", path,
			       sizeof(un.sun_path) - 1);
	strcpy(un.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&un, sizeof(un)) == 0)
		return fd;
	/* A unix socket connects at once, or its queue is full: the machine takes nobody. */
	err_set(err, errno == EAGAIN ? ETIMEDOUT : errno, "%s: %s", path,
		errno == EAGAIN ? "no answer; the machine may hang" : strerror(errno));
	if (fd >= 0)
		close(fd);
	return -EIO;
}

struct qmp *qmp_open(const char *path, int timeout_ms, struct err *err)
{
	int fd = connect_unix(path, err);
	json_t *greeting = NULL, *ready = NULL;
	struct qmp *q;

	if (fd < 0)
		return NULL;
	q = xcalloc(1, sizeof(*q));
	q->fd = fd;
	q->path = xstrdup(path);
	q->in_size = 4096;
	q->in = xcalloc(1, q->in_size);
	q->events = json_array();
	answer(q, deadline_of(timeout_ms), &greeting, err);
	if (greeting && !json_object_get(greeting, "QMP"))
		err_set(err, EPROTO, "%s: nobody there speaks QMP", path);
	else if (greeting)
		qmp_call(q, "qmp_capabilities", NULL, timeout_ms, &ready, err);
	json_decref(greeting);
	if (!ready) {
		qmp_close(q);
		return NULL;
	}
	json_decref(ready);
	return q;
}

void qmp_close(struct qmp *q)
{
	if (!q)
		return;
	close(q->fd);
	json_decref(q->events);
	free(q->in);
	free(q->path);
	free(q);
}
