/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * server.c: see server.h. The machine may be anybody's by the time it asks: every message is
 * checked for its form (wire.c), the tables here are bounded, and no answer is waited for.
 *
 * A wish may take long (a name server, a file on a dead server): it holds up one thread, and there
 * is always another one that listens, up to a bound.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/parent/server.h"

#define THREADS_MAX 16
#define STACK_SIZE (256 * KiB)		/* getaddrinfo() */
#define SOCKETS_MAX 256
#define PROGRAMS_MAX 64

static struct {
	int sock, machine;
	const struct server_ops *ops;
	void *ctx;
	pthread_mutex_t lock;
	unsigned threads, idle;
	/* socket files that the machine listens at, with a hold on their inodes */
	struct host_path sockets[SOCKETS_MAX];
	int programs[PROGRAMS_MAX];	/* 0: free */
} server = { .sock = -1, .lock = PTHREAD_MUTEX_INITIALIZER };

static int start_thread(void);

/* --- what goes with the machine --- */

static void keep_socket(const char *what, const char *path, int pin)
{
	struct host_path own = { .fd = -1 };

	host_own(&own, path, pin);
	pthread_mutex_lock(&server.lock);
	for (size_t i = 0; i < SOCKETS_MAX && own.path; i++)
		if (!server.sockets[i].path) {
			server.sockets[i] = own;
			own.path = NULL;
			server.ops->listens(server.ctx, what ? what : "", path, true);
		}
	pthread_mutex_unlock(&server.lock);
	if (own.path) {
		close(own.fd);
		free(own.path);
	}
}

/* The machine has taken it away itself. */
static void forget_socket(const char *path)
{
	pthread_mutex_lock(&server.lock);
	for (size_t i = 0; i < SOCKETS_MAX; i++)
		if (server.sockets[i].path && !strcmp(server.sockets[i].path, path)) {
			close(server.sockets[i].fd);
			free(server.sockets[i].path);
			server.sockets[i] = (struct host_path){ .fd = -1 };
			server.ops->listens(server.ctx, "", path, false);
		}
	pthread_mutex_unlock(&server.lock);
}

/* Disks are known by what they are opened for: a lock's owner is told by name. */
static void look_at_file(const struct host_call *c, int fd)
{
	struct stat st;

	if (!c->purpose ||
	    (strcmp(c->purpose, "disk image") && strcmp(c->purpose, "new disk image")))
		return;
	if (fstat(fd, &st) || !(S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)))
		return;
	pthread_mutex_lock(&server.lock);
	server.ops->has_disk(server.ctx, &st);
	pthread_mutex_unlock(&server.lock);
}

/* In the table of programs, for one that is about to be started: no process number. */
#define STARTING (-1)

/* from becomes to in the table of programs; false: from is not there. */
static bool change_program(int from, int to)
{
	bool found = false;

	pthread_mutex_lock(&server.lock);
	for (size_t i = 0; i < PROGRAMS_MAX && !found; i++)
		if (server.programs[i] == from) {
			server.programs[i] = to;
			found = true;
		}
	pthread_mutex_unlock(&server.lock);
	return found;
}

void server_clean(void)
{
	pthread_mutex_lock(&server.lock);	/* its last wish may still be under way */
	for (size_t i = 0; i < SOCKETS_MAX; i++)
		host_remove(&host_direct, &server.sockets[i]);
	for (size_t i = 0; i < PROGRAMS_MAX; i++)
		if (server.programs[i] > 0)	/* -1 would be every process there is */
			kill(server.programs[i], SIGTERM);
	pthread_mutex_unlock(&server.lock);
}

/* --- one wish --- */

static int run_program(struct host_call *c, struct err *err)
{
	int pid;

	if (!c->argv)
		return -EPROTO;
	/* The place first (STARTING): a program that runs has one. */
	if (!change_program(0, STARTING))
		return err_set(err, EAGAIN, "more than %d programs at once", PROGRAMS_MAX);
	pid = host_direct.call(NULL, c, err);
	change_program(STARTING, MAX(pid, 0));
	return pid;
}

static int wait_program(struct host_call *c, struct err *err)
{
	siginfo_t info;
	int ret;

	if (c->flags <= 0 || !change_program(c->flags, c->flags))
		return -ECHILD;
	/* Out of the table while the number is still the program's: nobody else is killed by it. */
	do
		ret = waitid(P_PID, c->flags, &info, WEXITED | WNOWAIT);
	while (ret < 0 && errno == EINTR);
	change_program(c->flags, 0);
	return host_direct.call(NULL, c, err);
}

static bool needs_name(unsigned op)
{
	return op != HOST_REOPEN && op != HOST_DATAGRAM && op != HOST_WAIT && op != HOST_KILL &&
	       op != HOST_LOCK_OWNER && op < HOST_OPS;
}

static int answer(struct host_call *c, struct err *err)
{
	int ret;

	if (needs_name(c->op) && !c->name)
		return -EPROTO;
	switch ((unsigned)c->op) {
	case HOST_RENAME:
		return c->other ? host_direct.call(NULL, c, err) : -EPROTO;
	case HOST_SPAWN:
		return run_program(c, err);
	case HOST_WAIT:
		return wait_program(c, err);
	case HOST_KILL:
		if (c->flags <= 0 || !change_program(c->flags, c->flags))
			return -ESRCH;
		return host_direct.call(NULL, c, err);
	case HOST_OPEN:
		ret = host_direct.call(NULL, c, err);
		if (ret >= 0)
			look_at_file(c, ret);
		return ret;
	case HOST_LISTEN:
		ret = host_direct.call(NULL, c, err);
		if (ret >= 0 && c->pin >= 0)
			keep_socket(c->purpose, c->name + strlen("unix:"), c->pin);
		return ret;
	case HOST_REMOVE:
		ret = host_direct.call(NULL, c, err);
		forget_socket(c->name);
		return ret;
	case HOST_LOCK_OWNER:
		c->flags = server.machine;
		return host_direct.call(NULL, c, err);
	case WIRE_PREPARE:
		return server.ops->prepare(server.ctx, err);
	case WIRE_READY:
		server.ops->ready(server.ctx);
		return 0;
	default:
		return host_direct.call(NULL, c, err);
	}
}

static bool gives_descriptor(unsigned op)
{
	return op == HOST_OPEN || op == HOST_REOPEN || op == HOST_TEMPORARY || op == HOST_CONNECT ||
	       op == HOST_LISTEN || op == HOST_DATAGRAM || op == HOST_RESERVE;
}

static void serve_one(struct wire_call *w, int *fds, int nfds)
{
	struct wire_answer a = { 0 };
	struct host_call *c = &w->c;
	struct err err = { "" };
	int out[2], nout = 0, next = 1, given;

	if (wire_unpack(w) < 0)
		goto out;
	if (c->op >= HOST_OPS && nfds == 0)		/* no answer is wanted */
		answer(c, &err);
	if (nfds != 1 + w->has_fd + w->has_fd2)
		goto out;
	if (w->has_fd)
		c->fd = fds[next++];
	if (w->has_fd2)
		c->fd2 = fds[next++];
	given = c->fd;
	a.ret = answer(c, &err);
	a.status = c->status;
	if (c->op == HOST_STAT)
		a.st = c->st;
	else if (c->op == HOST_INTERFACE)
		a.ifr = c->ifr;
	else if (c->op == HOST_RESOLVE)
		a.in = c->in;
	else if (c->op == HOST_LOCK_OWNER)
		memcpy(a.text, c->text, sizeof(a.text));
	memcpy(a.why, err.msg, sizeof(a.why));
	if (a.ret >= 0 && gives_descriptor(c->op)) {
		out[nout++] = a.ret;
		a.has_fd = 1;
	}
	if (a.has_fd && c->op == HOST_LISTEN && c->pin >= 0) {
		out[nout++] = c->pin;
		a.has_pin = 1;
	}
	/* Who does not take the answer has none. */
	wire_send(fds[0], &a, sizeof(a), out, nout, MSG_DONTWAIT);
	for (int i = 0; i < nout; i++)
		if (out[i] != given)
			close(out[i]);
out:
	/* The answer's socket last: its end tells that this process holds none of the others. */
	while (nfds)
		close(fds[--nfds]);
}

/* Waits for a wish; false: there is none any more. */
static bool take(struct wire_call *w, int *fds, int *nfds)
{
	int n;

	*nfds = WIRE_FDS;
	n = wire_recv(server.sock, w->buf, sizeof(w->buf), fds, nfds, 0);
	w->len = MAX(n, 0);
	return n > 0 || n == -EPROTO;
}

bool server_step(void)
{
	static struct wire_call w;
	int fds[WIRE_FDS], nfds;

	if (!take(&w, fds, &nfds))
		return false;
	serve_one(&w, fds, nfds);
	return true;
}

static void *serve(void *ctx)
{
	struct wire_call *w = xcalloc(1, sizeof(*w));
	int fds[WIRE_FDS], nfds;

	while (take(w, fds, &nfds)) {
		bool alone;

		pthread_mutex_lock(&server.lock);
		alone = --server.idle == 0 && server.threads < THREADS_MAX;
		pthread_mutex_unlock(&server.lock);
		if (alone)
			start_thread();
		serve_one(w, fds, nfds);
		pthread_mutex_lock(&server.lock);
		server.idle++;
		pthread_mutex_unlock(&server.lock);
	}
	free(w);
	return NULL;
}

static int start_thread(void)
{
	pthread_attr_t attr;
	pthread_t thread;
	int ret;

	pthread_mutex_lock(&server.lock);
	server.threads++;
	server.idle++;
	pthread_mutex_unlock(&server.lock);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	ret = pthread_create(&thread, &attr, serve, NULL);
	pthread_attr_destroy(&attr);
	if (ret) {
		pthread_mutex_lock(&server.lock);
		server.threads--;
		server.idle--;
		pthread_mutex_unlock(&server.lock);
	}
	return -ret;
}

void server_init(int sock, int machine, const struct server_ops *ops, void *ctx)
{
	server.sock = sock;
	server.machine = machine;
	server.ops = ops;
	server.ctx = ctx;
}

int server_start(void)
{
	return start_thread();
}
