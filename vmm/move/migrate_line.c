/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * migrate_line.c: the line of a migration: a socket, an inherited descriptor, or a program's
 * standard input or output.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/fdset.h"
#include "vmm/machine/machine.h"
#include "vmm/move/migrate_stream.h"

#define LINE_TIMEOUT_S 60	/* without a byte: the peer is gone */

struct line {
	int fd, listen_fd;
	pid_t pid;		/* of exec: */
	bool two_way;
	bool aborted;		/* atomic */
	const struct host *host;
	struct host_path own;	/* socket to remove */
	/* line_callback's */
	int (*write)(void *ctx, const void *buf, size_t len, uint64_t off);
	int (*read)(void *ctx, void *buf, size_t len, uint64_t off);
	void *ctx;
	uint8_t *buf;
	size_t used, pos;
	uint64_t off;
};

#define CALLBACK_BUFFER MiB

static struct line *line_new(int fd)
{
	struct line *l = xcalloc(1, sizeof(*l));

	l->fd = fd;
	l->listen_fd = -1;
	return l;
}

static void socket_ready(struct line *l)
{
	int one = 1, ms = LINE_TIMEOUT_S * 1000;

	l->two_way = true;
	setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(l->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
	setsockopt(l->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
}

static struct line *line_exec(struct machine *m, const char *command, bool out, struct err *err)
{
	char *argv[] = { "/bin/sh", "-c", (char *)command, NULL };
	struct line *l;
	int p[2], pid;

	if (pipe2(p, O_CLOEXEC) < 0) {
		err_set(err, errno, "exec: %s", strerror(errno));
		return NULL;
	}
	pid = host_spawn(&m->host, "migration", argv, out ? p[0] : -1, out ? -1 : p[1], err);
	close(p[!out]);
	if (pid < 0) {
		close(p[out]);
		return NULL;
	}
	l = line_new(p[out]);
	l->host = &m->host;
	l->pid = pid;
	fcntl(l->fd, F_SETFL, O_NONBLOCK);
	fcntl(l->fd, F_SETPIPE_SZ, 1 << 20);
	return l;
}

static struct line *line_fd(const char *number, struct err *err)
{
	int fd = fd_given(number);
	struct stat st;
	struct line *l;

	if (fd < 0 || fstat(fd, &st) < 0) {
		err_set(err, EBADF, "fd:%s: no such open file descriptor", number);
		return NULL;
	}
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	l = line_new(fd);
	if (S_ISSOCK(st.st_mode))
		socket_ready(l);
	return l;
}

struct line *line_connect(struct machine *m, const char *uri, struct err *err)
{
	struct line *l;
	int fd;

	if (!strncmp(uri, "exec:", 5))
		return line_exec(m, uri + 5, true, err);
	if (!strncmp(uri, "fd:", 3))
		return line_fd(uri + 3, err);
	if (strncmp(uri, "tcp:", 4) && strncmp(uri, "unix:", 5)) {
		err_set(err, EINVAL,
			"'%s': expected tcp:HOST:PORT, unix:PATH, exec:COMMAND, fd:N or file:PATH",
			uri);
		return NULL;
	}
	fd = host_connect(&m->host, "migration", uri, err);
	if (fd < 0)
		return NULL;
	l = line_new(fd);
	socket_ready(l);
	return l;
}

struct line *line_listen(struct machine *m, const char *uri, struct err *err)
{
	struct host_path own;
	struct line *l;
	int fd;

	if (!strncmp(uri, "exec:", 5))
		return line_exec(m, uri + 5, false, err);
	if (!strncmp(uri, "fd:", 3))
		return line_fd(uri + 3, err);
	if (!strncmp(uri, "unix:", 5) || !strncmp(uri, "tcp:", 4))
		fd = host_listen(&m->host, "migration", uri, &own, err);
	else
		fd = err_set(
			err, EINVAL,
			"'%s': expected tcp:HOST:PORT, unix:PATH, exec:COMMAND, fd:N or file:PATH",
			uri);
	if (fd < 0)
		return NULL;
	l = line_new(-1);
	l->listen_fd = fd;
	l->host = &m->host;
	l->own = own;
	return l;
}

int line_accept(struct line *l, struct err *err)
{
	struct pollfd p = { l->listen_fd, POLLIN, 0 };

	if (l->listen_fd < 0)
		return 0;
	while (l->fd < 0) {
		if (__atomic_load_n(&l->aborted, __ATOMIC_ACQUIRE))
			return err_set(err, ECANCELED, "cancelled");
		if (poll(&p, 1, 100) != 1)
			continue;
		l->fd = accept4(l->listen_fd, NULL, NULL, SOCK_CLOEXEC);
		if (l->fd < 0 && errno != EINTR && errno != EAGAIN && errno != ECONNABORTED)
			return err_set(err, errno, "accept: %s", strerror(errno));
	}
	socket_ready(l);
	return 0;
}

bool line_two_way(const struct line *l)
{
	return l->two_way;
}

/* Waits in steps, so that an abort is noticed whatever the descriptor is. */
static int line_wait(struct line *l, short events)
{
	struct pollfd p = { l->fd, events, 0 };

	for (int i = 0; i < LINE_TIMEOUT_S * 10; i++) {
		if (__atomic_load_n(&l->aborted, __ATOMIC_ACQUIRE))
			return -ECANCELED;
		if (poll(&p, 1, 100) > 0)
			return 0;
	}
	return -ETIMEDOUT;
}

struct line *line_callback(int (*write)(void *ctx, const void *buf, size_t len, uint64_t off),
			   int (*read)(void *ctx, void *buf, size_t len, uint64_t off), void *ctx)
{
	struct line *l = line_new(-1);

	l->write = write;
	l->read = read;
	l->ctx = ctx;
	l->buf = xcalloc(1, CALLBACK_BUFFER);
	return l;
}

uint64_t line_bytes(const struct line *l)
{
	return l->off;
}

static int callback_flush(struct line *l)
{
	int ret = l->used ? l->write(l->ctx, l->buf, l->used, l->off) : 0;

	l->off += l->used;
	l->used = 0;
	return ret;
}

static int callback_write(struct line *l, const uint8_t *p, size_t len)
{
	int ret = 0;

	while (len && ret == 0) {
		size_t n = MIN(len, CALLBACK_BUFFER - l->used);

		memcpy(l->buf + l->used, p, n);
		l->used += n;
		p += n;
		len -= n;
		if (l->used == CALLBACK_BUFFER)
			ret = callback_flush(l);
	}
	return ret;
}

static int callback_read(struct line *l, uint8_t *p, size_t len)
{
	while (len) {
		size_t n = MIN(len, l->used - l->pos);

		if (!n) {
			int ret = l->read(l->ctx, l->buf, CALLBACK_BUFFER, l->off);

			if (ret < 0)
				return ret;
			l->off += CALLBACK_BUFFER;
			l->used = CALLBACK_BUFFER;
			l->pos = 0;
			continue;
		}
		memcpy(p, l->buf + l->pos, n);
		l->pos += n;
		p += n;
		len -= n;
	}
	return 0;
}

int line_write(struct line *l, const void *buf, size_t len)
{
	const char *p = buf;

	if (l->write)
		return callback_write(l, buf, len);
	while (len) {
		ssize_t n;
		int ret = line_wait(l, POLLOUT);

		if (ret < 0)
			return ret;
		if (l->two_way)
			n = send(l->fd, p, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		else
			/*
			 * what an inherited pipe surely takes, for it may block and must not for
			 * long
			 */
			n = write(l->fd, p, l->pid > 0 ? len : MIN(len, 4096ul));
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= n;
	}
	return 0;
}

int line_read(struct line *l, void *buf, size_t len)
{
	char *p = buf;

	if (l->read)
		return callback_read(l, buf, len);
	while (len) {
		ssize_t n;
		int ret = line_wait(l, POLLIN);

		if (ret < 0)
			return ret;
		n = read(l->fd, p, len);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		p += n;
		len -= n;
	}
	return 0;
}

void line_abort(struct line *l)
{
	__atomic_store_n(&l->aborted, true, __ATOMIC_RELEASE);
	if (l->pid > 0)
		host_kill(l->host, l->pid, SIGTERM);
}

int line_finish(struct line *l, struct err *err)
{
	int status;

	if (l->write) {
		int ret = callback_flush(l);

		return ret < 0 ? err_set(err, -ret, "writing the machine's state: %s",
					 strerror(-ret))
			       : 0;
	}
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
	if (l->pid <= 0)
		return 0;
	if (host_wait(l->host, l->pid, &status) < 0)
		return 0;		/* somebody else has waited for it */
	l->pid = 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return err_set(err, EIO, "the program ended with %s %d",
		       WIFEXITED(status) ? "status" : "signal",
		       WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
}

void line_free(struct line *l)
{
	if (!l)
		return;
	if (l->pid > 0)
		host_kill(l->host, l->pid, SIGTERM);
	l->write = NULL;	/* what was not finished is given up */
	line_finish(l, NULL);
	free(l->buf);
	host_remove(l->host, &l->own);
	if (l->listen_fd >= 0)
		close(l->listen_fd);
	free(l);
}
