/* SPDX-License-Identifier: GPL-2.0-or-later */
/* door.c: see door.h. Any thread. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/record.h"
#include "vmm/parent/door.h"
#include "vmm/parent/wire.h"

static int door = -1;		/* set before there is a second thread */

/*
 * /dev/stdout and its like mean descriptors of this process, not the parent's: they are sent and
 * opened anew. The number, or -1.
 */
static int own_descriptor(const char *path)
{
	static const char *const folders[] = { "/dev/fd/", "/proc/self/fd/" };
	static const char *const names[] = { "/dev/stdin", "/dev/stdout", "/dev/stderr" };
	uint64_t n;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(path, names[i]))
			return i;
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
		if (!strncmp(path, folders[i], strlen(folders[i])) &&
		    parse_u64(path + strlen(folders[i]), INT32_MAX, &n) == 0)
			return n;
	return -1;
}

/* The answer to what was sent; its descriptors go to their places in c. */
static int take_answer(int sock, struct host_call *c, struct err *err)
{
	struct wire_answer a;
	int fds[WIRE_FDS], nfds = WIRE_FDS, n = wire_recv(sock, &a, sizeof(a), fds, &nfds, 0);

	if (n != sizeof(a) || nfds != !!a.has_fd + !!a.has_pin) {
		for (int i = 0; n > 0 && i < nfds; i++)
			close(fds[i]);
		return err_set(err, EPIPE, "%s: this machine's parent process is gone",
			       c->name ? c->name : "the host");
	}
	a.why[sizeof(a.why) - 1] = 0;
	if (a.ret < 0 && a.why[0])
		err_set(err, -a.ret, "%s", a.why);
	c->status = a.status;
	if (c->op == HOST_STAT)
		c->st = a.st;
	else if (c->op == HOST_INTERFACE)
		c->ifr = a.ifr;
	else if (c->op == HOST_RESOLVE)
		c->in = a.in;
	else if (c->op == HOST_LOCK_OWNER)
		snprintf(c->text, sizeof(c->text), "%.*s", (int)sizeof(a.text) - 1, a.text);
	if (a.has_pin)
		c->pin = fds[nfds - 1];
	return a.has_fd ? fds[0] : a.ret;
}

/* answer: where the answer is to go; -1: none is wanted. 0 or -errno. */
static int send_call(const struct host_call *c, int answer)
{
	struct wire_call *w = malloc(sizeof(*w));
	int fds[WIRE_FDS], nfds = 0, ret;

	if (!w)
		return -ENOMEM;
	if (answer >= 0)
		fds[nfds++] = answer;
	if (c->fd >= 0)
		fds[nfds++] = c->fd;
	if (c->fd2 >= 0)
		fds[nfds++] = c->fd2;
	ret = wire_pack(w, c);
	if (ret == 0)
		ret = MIN(wire_send(door, w->buf, w->len, fds, nfds, 0), 0);
	free(w);
	return ret;
}

static int ask(void *ctx, struct host_call *c, struct err *err)
{
	struct host_call sent = *c;
	int pair[2], ret;

	if (c->op == HOST_OPEN && own_descriptor(c->name) >= 0) {
		sent.op = HOST_REOPEN;
		sent.fd = own_descriptor(c->name);
		if (fcntl(sent.fd, F_GETFD) < 0)
			return err_set(err, ENOENT, "cannot open '%s': %s", c->name,
				       strerror(ENOENT));
	}
	if (c->op == HOST_LOCK_OWNER)
		sent.mode = c->fd;	/* which of ours it is not */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(err, errno, "the parent process cannot be asked: %s",
			       strerror(errno));
	ret = send_call(&sent, pair[1]);
	close(pair[1]);
	if (ret < 0)
		err_set(err, -ret, "the parent process cannot be asked: %s",
			strerror(-ret));
	else
		ret = take_answer(pair[0], c, err);
	/*
	 * The parent's copies of what went across have to be closed when this returns: locks,
	 * pipes and interfaces end with their last descriptor.
	 */
	if (ret >= 0)
		while (recv(pair[0], &(char){ 0 }, 1, 0) < 0 && errno == EINTR)
			;
	close(pair[0]);
	/* One that was given came back as a duplicate of itself. */
	if (c->op == HOST_DATAGRAM && c->fd >= 0 && ret >= 0) {
		close(ret);
		ret = c->fd;
	}
	return ret;
}

bool door_open(void)
{
	const char *given = getenv(MACHINE_VARIABLE);
	int fd, pid, type;
	socklen_t len = sizeof(type);

	if (!given)
		return false;
	/* Without the parent that started it there is no machine: it died meanwhile. */
	if (sscanf(given, "%d:%d", &fd, &pid) != 2 || pid != getppid() ||
	    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_SEQPACKET)
		_exit(1);
	unsetenv(MACHINE_VARIABLE);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != pid)
		_exit(1);
	door = fd;
	host_door.call = ask;
	return true;
}

int door_watched(void)
{
	if (door >= 0)
		prctl(PR_SET_PDEATHSIG, 0);
	return door;
}

int door_read(void)
{
	struct wire_signal s;
	int nfds = 0, n = wire_recv(door, &s, sizeof(s), NULL, &nfds, MSG_DONTWAIT);

	if (n == -EAGAIN)
		return n;
	return n == sizeof(s) ? s.signal : 0;
}

int door_prepare(bool pidfile, struct err *err)
{
	struct host_call c = { .op = (enum host_op)WIRE_PREPARE, .fd = -1, .fd2 = -1 };

	if (door < 0)
		return 0;
	return pidfile ? ask(NULL, &c, err) : send_call(&c, -1);
}

void door_ready(void)
{
	struct host_call c = { .op = (enum host_op)WIRE_READY, .fd = -1, .fd2 = -1 };

	if (door >= 0)
		send_call(&c, -1);
}
