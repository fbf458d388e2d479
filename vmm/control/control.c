/* SPDX-License-Identifier: GPL-2.0-or-later */
/* control.c: sockets of control clients. Main loop, lock held. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/acceptor.h"
#include "vmm/base/limits.h"
#include "vmm/base/log.h"
#include "vmm/control/control.h"
#include "vmm/control/http_guard.h"

#define MAX_REQUEST (1 * MiB)		/* longer ones end the connection */
#define MAX_UNREAD (4 * MiB)		/* so does leaving this much unread */
#define MAX_LISTENERS 8
#define MAX_CLIENTS 64
#define MAX_PASSED 16			/* descriptors of a client that no request has taken */

struct control_conn {
	struct machine *m;
	const struct control_protocol *p;
	void *data;
	int fd;
	struct loop_fd *watch;
	char *in, *out;
	struct http_guard guard;
	size_t in_len, out_len;
	bool held, closing;
	bool parsing;			/* inside p->input */
	int passed[MAX_PASSED];
	unsigned npassed;
	/* commands of this turn of the loop; the rest waits for `again` */
	uint64_t turn;
	unsigned commands;
	struct loop_timer again;
	struct control_conn *next;
};

struct listener {
	struct machine *m;
	const struct control_protocol *p;
	struct acceptor door;
	struct host_path own;		/* of a unix socket, removed at the end */
};

/* Connections belong to the process as its sockets do; the main loop's lock guards them. */
static struct control_conn *conns;
static unsigned nconns;
static struct listener listeners[MAX_LISTENERS];
static unsigned nlisteners;
static struct control_conn *asking;	/* whose request is being taken */

struct machine *control_machine(struct control_conn *c) { return c->m; }
void control_set_data(struct control_conn *c, void *data) { c->data = data; }
void *control_data(struct control_conn *c) { return c->data; }
void control_hold(struct control_conn *c) { c->held = true; }

static void conn_close(struct control_conn *c)
{
	struct control_conn **p = &conns;

	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
	nconns--;
	loop_timer_cancel(&c->again);
	loop_fd_del(c->watch);
	close(c->fd);
	while (c->npassed)
		close(c->passed[--c->npassed]);
	if (c->p->closed)
		c->p->closed(c);
	free(c->in);
	free(c->out);
	free(c);
}

/* A held connection's thread still refers to it: close it once the answer came. */
static void conn_fail(struct control_conn *c)
{
	if (c->held) {
		c->closing = true;
		loop_fd_mod(c->watch, 0);
	} else {
		conn_close(c);
	}
}

static void conn_watch(struct control_conn *c)
{
	/* While requests wait for their turn no more of them are read. */
	bool more = !c->held && !loop_timer_armed(&c->again);

	loop_fd_mod(c->watch,
		    c->closing ? 0 : (more ? EPOLLIN : 0) | (c->out_len ? EPOLLOUT : 0));
}

/* Many small commands in one packet: after some of them it is everybody else's turn. */
static bool turn_over(struct control_conn *c)
{
	if (c->turn != loop_turn(c->m->loop)) {
		c->turn = loop_turn(c->m->loop);
		c->commands = 0;
	}
	if (c->commands < TURN_COMMANDS)
		return false;
	loop_timer_set(&c->again, 0);
	return true;
}

static void conn_parse(struct control_conn *c)
{
	while (c->in_len && !c->held && !c->closing && !turn_over(c)) {
		size_t n;

		c->parsing = true;
		asking = c;
		n = c->p->input(c, c->in, c->in_len);
		asking = NULL;
		c->parsing = false;
		if (!n)
			break;
		c->commands++;
		c->in_len -= n;
		memmove(c->in, c->in + n, c->in_len + 1);
	}
	if (c->in_len >= MAX_REQUEST && !c->held && !loop_timer_armed(&c->again)) {
		log_warn("control socket: a request of more than %llu bytes: connection closed",
			 MAX_REQUEST);
		c->closing = true;
	}
}

/* A connection that parsing closed goes as one that an event closed does. */
static void parse_again(void *ctx)
{
	struct control_conn *c = ctx;

	conn_parse(c);
	if (c->closing)
		conn_fail(c);
	else
		conn_watch(c);
}

static int conn_flush(struct control_conn *c)
{
	while (c->out_len) {
		ssize_t n = send(c->fd, c->out, c->out_len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		c->out_len -= n;
		memmove(c->out, c->out + n, c->out_len);
	}
	return 0;
}

void control_send(struct control_conn *c, const char *text, size_t len)
{
	if (c->closing)
		return;
	if (c->out_len + len > MAX_UNREAD) {
		log_warn("control socket: the client leaves %llu bytes unread: connection closed",
			 MAX_UNREAD);
		c->closing = true;
		loop_fd_mod(c->watch, EPOLLOUT | EPOLLIN);	/* conn_event closes it */
		shutdown(c->fd, SHUT_RDWR);
		return;
	}
	c->out = xrealloc(c->out, c->out_len + len);
	memcpy(c->out + c->out_len, text, len);
	c->out_len += len;
	if (conn_flush(c) < 0)
		shutdown(c->fd, SHUT_RDWR);
	conn_watch(c);
}

void control_resume(struct control_conn *c)
{
	c->held = false;
	/* Answered at once: conn_parse goes on by itself, with the request taken off. */
	if (c->parsing)
		return;
	if (!c->closing)
		conn_parse(c);
	if (c->closing && !c->held)
		conn_close(c);
	else
		conn_watch(c);
}

int control_take_fd(void)
{
	int fd;

	if (!asking || !asking->npassed)
		return -1;
	fd = asking->passed[0];
	memmove(asking->passed, asking->passed + 1, --asking->npassed * sizeof(fd));
	return fd;
}

/* recv(2), and descriptors that come along; what there is no place for is closed. */
static ssize_t receive(struct control_conn *c, char *buf, size_t len)
{
	union { struct cmsghdr h; char buf[CMSG_SPACE(MAX_PASSED * sizeof(int))]; } control;
	struct iovec iov = { buf, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(c->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	for (struct cmsghdr *h = n < 0 ? NULL : CMSG_FIRSTHDR(&msg); h; h = CMSG_NXTHDR(&msg, h)) {
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < (h->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(h) + i * sizeof(fd), sizeof(fd));
			if (c->npassed < MAX_PASSED)
				c->passed[c->npassed++] = fd;
			else
				close(fd);
		}
	}
	return n;
}

static void conn_event(void *ctx, uint32_t ev)
{
	struct control_conn *c = ctx;

	if (c->closing || ((ev & EPOLLOUT) && conn_flush(c) < 0)) {
		conn_fail(c);
		return;
	}
	if (ev & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		char buf[16384];
		ssize_t n = c->held ? 0 : receive(c, buf, sizeof(buf));

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			conn_fail(c);
			return;
		}
		if (http_guard_sees(&c->guard, buf, n)) {
			log_warn("control socket: a web page's request (HTTP or TLS): connection "
				 "closed, nothing of it was run");
			c->in_len = 0;
			conn_fail(c);
			return;
		}
		c->in = xrealloc(c->in, c->in_len + n + 1);
		memcpy(c->in + c->in_len, buf, n);
		c->in_len += n;
		c->in[c->in_len] = 0;
		conn_parse(c);
		if (c->closing) {
			conn_fail(c);
			return;
		}
	}
	conn_watch(c);
}

static void client_came(void *ctx, int fd)
{
	struct listener *l = ctx;
	struct control_conn *c;

	if (nconns == MAX_CLIENTS) {
		log_warn("control socket: more than %d clients: one is turned away", MAX_CLIENTS);
		close(fd);
		return;
	}
	c = xcalloc(1, sizeof(*c));
	c->m = l->m;
	c->p = l->p;
	c->fd = fd;
	loop_timer_init(&c->again, l->m->loop, NULL, parse_again, c);
	c->watch = loop_fd_add(l->m->loop, fd, EPOLLIN, conn_event, c);
	if (!c->watch) {
		log_error("control socket: a client is turned away: %s", strerror(errno));
		close(fd);
		free(c);
		return;
	}
	nconns++;
	c->next = conns;
	conns = c;
	if (c->p->opened)
		c->p->opened(c);
}

void control_for_each(const struct control_protocol *p,
		      void (*fn)(struct control_conn *c, void *ctx), void *ctx)
{
	for (struct control_conn *c = conns, *next; c; c = next) {
		next = c->next;
		if (c->p == p)
			fn(c, ctx);
	}
}

/* --- listening --- */

int control_listen(struct machine *m, const char *spec, const struct control_protocol *p,
		   struct err *err)
{
	struct listener *l = &listeners[nlisteners];
	char *copy = xstrdup(spec);
	struct host_path own;
	int fd;

	copy[strcspn(copy, ",")] = 0;		/* ",server,nowait": that is what this is */
	if (nlisteners == MAX_LISTENERS)
		fd = err_set(err, E2BIG, "more than %d control sockets", MAX_LISTENERS);
	else
		fd = host_listen(&m->host, p->name, copy, &own, err);
	if (fd >= 0) {
		*l = (struct listener){ .m = m, .p = p, .own = own };
		l->door = (struct acceptor){
			.fd = fd, .what = "control socket", .peer = client_came, .ctx = l
		};
		acceptor_start(&l->door, m->loop);
		nlisteners++;
	}
	free(copy);
	return MIN(fd, 0);
}

void control_close_all(struct machine *m)
{
	while (conns) {
		conns->held = false;
		conn_flush(conns);
		conn_close(conns);
	}
	control_stop_listening(m);
}

void control_stop_listening(struct machine *m)
{
	for (unsigned i = 0; i < nlisteners; i++) {
		acceptor_stop(&listeners[i].door);
		host_remove(&m->host, &listeners[i].own);
		close(listeners[i].door.fd);
	}
	nlisteners = 0;
}
