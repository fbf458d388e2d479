/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * chardev.c: byte streams to the host for serial ports, consoles and monitors. Main loop.
 *
 * Output is gathered and written when a page of it is there or a millisecond has passed: a guest's
 * console writes single bytes, each costs an exit already and must not cost a system call as well.
 * What the host does not take stays in the buffer; when that is full the writer is told
 * (chardev_write is short, then writable()), except on a pty or a server without a client, where
 * the newest is lost, as on a line nobody listens to.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/backends/chardev.h"
#include "vmm/backends/chardev_impl.h"
#include "vmm/base/log.h"
#include "vmm/base/rotate.h"

#define FLUSH_AT	4096u		/* bytes that are written at once */
#define FLUSH_NS	NS_PER_MS
#define RETRY_NS	(500 * NS_PER_MS)	/* how often a full disk is tried again */
#define LINGER_MS	1000		/* how long chardev_free waits for a slow reader */

/* --- output --- */

static void out_event(void *ctx, uint32_t events);

/*
 * Input and output of a socket or terminal are one descriptor, and a loop watches a descriptor
 * once: output by a duplicate.
 */
static void out_watch(struct chardev *c)
{
	int fd = fcntl(c->out_fd, F_DUPFD_CLOEXEC, 0);

	if (fd < 0)
		return;
	c->out = loop_fd_add(c->loop, fd, EPOLLOUT, out_event, c);
	if (c->out)
		c->out_watch_fd = fd;
	else
		close(fd);
}

static void out_unwatch(struct chardev *c)
{
	if (!c->out)
		return;
	loop_fd_del(c->out);
	close(c->out_watch_fd);
	c->out = NULL;
}

/* The other end is gone. */
static void stream_closed(struct chardev *c)
{
	bool was_open = c->in_fd >= 0 || c->out_fd >= 0;

	if (c->in)
		loop_fd_del(c->in);
	out_unwatch(c);
	c->in = NULL;
	if (c->kind == CHARDEV_SOCKET && c->in_fd >= 0)
		close(c->in_fd);
	if (c->kind == CHARDEV_SOCKET)
		c->out_fd = -1;
	c->in_fd = -1;
	c->out_len = 0;
	if (was_open && c->user && c->user->event)
		c->user->event(c->user_ctx, CHARDEV_CLOSED);
}

static ssize_t out_write(struct chardev *c, const void *buf, size_t len)
{
	ssize_t n;

	do
		n = c->kind == CHARDEV_SOCKET
			    ? send(c->out_fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL)
			    : write(c->out_fd, buf, len);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* Whether writing may work again later: a disk has room again, a FIFO has a reader again. */
static bool out_passes(const struct chardev *c, int error)
{
	return c->kind == CHARDEV_FILE || error == ENOSPC || error == EDQUOT || error == EFBIG;
}

static void out_failed(struct chardev *c, int error)
{
	if (!out_passes(c, error)) {
		log_warn("%s: writing to %s: %s; further output is lost", c->label, c->filename,
			 strerror(error));
		c->out_fd = -1;
		return;
	}
	if (!c->stuck)
		log_warn("%s: writing to %s: %s; it is tried again, what does not fit until then "
			 "is lost", c->label, c->filename, strerror(error));
	c->stuck = true;
}

/* The file has its size: it becomes the old one. */
static void out_rotate(struct chardev *c, size_t more)
{
	struct err err = { "" };

	if (!c->file_max || c->file_len + more <= c->file_max)
		return;
	if (file_rotate(c->host, c->label, c->path, c->out_fd, &err) < 0)
		log_host("%s: %s; it is emptied instead", c->label, err.msg);
	c->file_len = 0;
}

/* Writes what the host takes now. Returns false when it takes no more for the moment. */
static bool out_flush(struct chardev *c)
{
	size_t done = 0;

	while (done < c->out_len && c->out_fd >= 0) {
		ssize_t n;

		out_rotate(c, c->out_len - done);
		n = out_write(c, c->out_buf + done, c->out_len - done);

		if (n == -EAGAIN)
			break;
		if (n < 0 && c->kind == CHARDEV_SOCKET) {
			stream_closed(c);
			return true;
		}
		if (n < 0) {
			out_failed(c, (int)-n);
			break;
		}
		done += (size_t)n;
		c->file_len += (size_t)n;
	}
	if (c->out_fd < 0)
		done = c->out_len;
	c->out_len -= done;
	memmove(c->out_buf, c->out_buf + done, c->out_len);
	if (c->out_len)
		return false;
	if (c->stuck)
		log_warn("%s: %s takes output again; %llu bytes were lost", c->label, c->filename,
			 (unsigned long long)c->lost);
	c->stuck = false;
	c->lost = 0;
	return true;
}

static void out_try(struct chardev *c)
{
	bool was_full = c->was_full;

	if (out_flush(c))
		out_unwatch(c);
	else if (c->stuck)
		loop_timer_set(&c->flush, now_ns() + RETRY_NS);
	else if (!c->out)
		out_watch(c);
	if (was_full && (c->stuck || c->out_len < CHARDEV_BUFFER / 2)) {
		c->was_full = false;
		if (c->user && c->user->writable)
			c->user->writable(c->user_ctx);
	}
}

static void out_event(void *ctx, uint32_t events)
{
	out_try(ctx);
}

void chardev_flush(struct chardev *c)
{
	out_try(c);
}

static void flush_expired(void *ctx)
{
	out_try(ctx);
}

static size_t stream_write(struct chardev *c, const void *buf, size_t len)
{
	size_t n;

	if (c->out_fd < 0)
		return len;		/* nobody is there */
	if (c->out_len + len > CHARDEV_BUFFER && !c->out && !c->stuck)
		out_flush(c);
	n = MIN(len, CHARDEV_BUFFER - c->out_len);
	if (c->out_fd < 0)
		return len;
	memcpy(c->out_buf + c->out_len, buf, n);
	c->out_len += n;
	if (c->stuck) {			/* a guest does not wait for room on a disk */
		c->lost += len - n;
		if (!loop_timer_armed(&c->flush))
			loop_timer_set(&c->flush, now_ns() + RETRY_NS);
		return len;
	}
	if (n < len) {
		if (c->lossy)
			return len;
		c->was_full = true;
	}
	if (c->out)
		return n;		/* the host is full: its event continues */
	if (c->out_len >= FLUSH_AT)
		loop_timer_cancel(&c->flush);
	if (c->out_len >= FLUSH_AT)
		out_try(c);
	else if (c->out_len && !loop_timer_armed(&c->flush))
		loop_timer_set(&c->flush, now_ns() + FLUSH_NS);
	return n;
}

size_t chardev_write(struct chardev *c, const void *buf, size_t len)
{
	size_t n = stream_write(c, buf, len);

	if (c->log && n)
		stream_write(c->log, buf, n);
	return n;
}

/* --- input --- */

#define ESCAPE		0x01		/* Ctrl-A */

static void escape_help(struct chardev *c)
{
	static const char text[] =
		"\r\nCtrl-A H  this help\r\n"
		"Ctrl-A X  end the virtual machine\r\n"
		"Ctrl-A C  switch between console and monitor\r\n"
		"Ctrl-A B  send a break (magic SysRq)\r\n"
		"Ctrl-A Ctrl-A  send Ctrl-A\r\n";

	chardev_write(c, text, sizeof(text) - 1);
}

/* The key after Ctrl-A. Returns true when it is a byte for the guest after all. */
static bool escape_key(struct chardev *c, uint8_t key)
{
	char lower = key >= 'A' && key <= 'Z' ? (char)(key + 32) : (char)key;

	if (key == ESCAPE)
		return true;
	if (c->escape && c->escape(c->escape_ctx, lower))
		return false;
	if (lower == 'b' && c->user && c->user->event)
		c->user->event(c->user_ctx, CHARDEV_BREAK);
	else if (lower == 'h' || lower == '?')
		escape_help(c);
	return false;
}

static size_t escape_filter(struct chardev *c, uint8_t *buf, size_t len)
{
	size_t out = 0;

	for (size_t i = 0; i < len; i++) {
		if (c->escape_seen) {
			c->escape_seen = false;
			if (escape_key(c, buf[i]))
				buf[out++] = buf[i];
		} else if (buf[i] == ESCAPE) {
			c->escape_seen = true;
		} else {
			buf[out++] = buf[i];
		}
	}
	return out;
}

static void in_event(void *ctx, uint32_t events);

static void in_watch(struct chardev *c, bool on)
{
	if (on && !c->in && c->in_fd >= 0) {
		c->in = loop_fd_add(c->loop, c->in_fd, EPOLLIN, in_event, c);
	} else if (!on && c->in) {
		/* Removed, not masked: a hang-up cannot be masked and would keep the loop awake. */
		loop_fd_del(c->in);
		c->in = NULL;
	}
}

static size_t user_wants(struct chardev *c)
{
	return c->user && c->user->can_read ? c->user->can_read(c->user_ctx) : 0;
}

/* Gives the user what was read ahead, as much as it takes. */
static void held_deliver(struct chardev *c)
{
	size_t n = MIN(c->held_len, user_wants(c));
	uint8_t buf[sizeof(c->held)];

	if (!n)
		return;
	memcpy(buf, c->held, n);
	c->held_len -= n;
	memmove(c->held, c->held + n, c->held_len);
	c->user->read(c->user_ctx, buf, n);
}

static void in_event(void *ctx, uint32_t events)
{
	struct chardev *c = ctx;
	uint8_t buf[sizeof(c->held)];
	size_t want = user_wants(c), room = sizeof(c->held) - c->held_len;
	ssize_t n;

	/* With escape keys everything is read: Ctrl-A X must work while the guest takes nothing. */
	if (!want && !c->escapes) {
		in_watch(c, false);
		return;
	}
	n = read(c->in_fd, buf, MIN(c->escapes ? sizeof(buf) : want, sizeof(buf)));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		if (c->kind == CHARDEV_SOCKET) {
			stream_closed(c);
			return;
		}
		in_watch(c, false);	/* end of input: output goes on */
		c->in_fd = -1;
		return;
	}
	if (c->escapes)
		n = (ssize_t)escape_filter(c, buf, (size_t)n);
	/* What finds no room was typed into a guest that has not listened for 4096 keys. */
	n = (ssize_t)MIN((size_t)n, room);
	memcpy(c->held + c->held_len, buf, (size_t)n);
	c->held_len += (size_t)n;
	held_deliver(c);
}

void chardev_accept(struct chardev *c)
{
	held_deliver(c);
	if (!c->held_len && c->user && c->user->can_read)
		in_watch(c, true);
}

void chardev_set_user(struct chardev *c, const struct chardev_user *ops, void *ctx)
{
	c->user = ops;
	c->user_ctx = ctx;
	in_watch(c, c->escapes || (ops && ops->can_read));
}

const struct chardev_user *chardev_get_user(struct chardev *c, void **ctx)
{
	*ctx = c->user_ctx;
	return c->user;
}

void chardev_on_escape(struct chardev *c, bool (*fn)(void *ctx, char key), void *ctx)
{
	c->escape = fn;
	c->escape_ctx = ctx;
}

bool chardev_is_stdio(const struct chardev *c)
{
	return c->kind == CHARDEV_STDIO;
}

const char *chardev_label(struct chardev *c)
{
	return c->label;
}

const char *chardev_filename(struct chardev *c)
{
	return c->filename;
}

/* --- a server's clients: one at a time --- */

void chardev_connected(struct chardev *c, int fd)
{
	c->in_fd = c->out_fd = fd;
	in_watch(c, true);
	if (c->user && c->user->event)
		c->user->event(c->user_ctx, CHARDEV_OPENED);
}

static void client_came(void *ctx, int fd)
{
	struct chardev *c = ctx;

	if (c->in_fd >= 0) {
		static const char busy[] = "in use by another connection\r\n";

		(void)!send(fd, busy, sizeof(busy) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		close(fd);
		return;
	}
	chardev_connected(c, fd);
}

int chardev_listen(struct chardev *c, bool wait)
{
	int fd;

	if (wait) {
		struct pollfd p = { .fd = c->listen_fd, .events = POLLIN };

		log_info("%s: waiting for a connection to %s", c->label, c->filename);
		while (poll(&p, 1, -1) < 0)
			if (errno != EINTR)
				return -errno;
		fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0)
			return -errno;
		client_came(c, fd);
	}
	c->door = (struct acceptor){
		.fd = c->listen_fd, .what = c->label, .peer = client_came, .ctx = c
	};
	return acceptor_start(&c->door, c->loop);
}

/* --- life --- */

struct chardev *chardev_alloc(const char *id, struct loop *loop)
{
	struct chardev *c = xcalloc(1, sizeof(*c));

	c->label = xstrdup(id);
	c->loop = loop;
	c->in_fd = c->out_fd = c->listen_fd = c->keep_fd = -1;
	loop_timer_init(&c->flush, loop, NULL, flush_expired, c);
	return c;
}

/* The last words of a guest matter most: give a slow reader some time. */
static void out_linger(struct chardev *c)
{
	int64_t until = now_ns() + LINGER_MS * NS_PER_MS;

	while (!out_flush(c) && c->out_fd >= 0 && !c->stuck && now_ns() < until) {
		struct pollfd p = { .fd = c->out_fd, .events = POLLOUT };

		poll(&p, 1, 100);
	}
	if (c->stuck)
		log_warn("%s: %s: the last %llu bytes are lost", c->label, c->filename,
			 (unsigned long long)c->lost + c->out_len);
}

void chardev_free(struct chardev *c)
{
	if (!c)
		return;
	loop_timer_cancel(&c->flush);
	c->user = NULL;
	if (!c->lossy)
		out_linger(c);
	if (c->in)
		loop_fd_del(c->in);
	out_unwatch(c);
	acceptor_stop(&c->door);
	chardev_free(c->log);
	chardev_close_host(c);
	free(c->label);
	free(c->filename);
	free(c);
}
