/* SPDX-License-Identifier: GPL-2.0-or-later */
/* wire.c: see wire.h. */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/parent/wire.h"

static int put_text(struct wire_call *w, const char *s)
{
	size_t len = s ? strlen(s) + 2 : 1;

	if (len > sizeof(w->buf) - w->len)
		return -E2BIG;
	w->buf[w->len] = s != NULL;
	if (s)
		memcpy(w->buf + w->len + 1, s, len - 1);
	w->len += len;
	return 0;
}

int wire_pack(struct wire_call *w, const struct host_call *c)
{
	struct wire_request r = { .op = c->op, .origin = c->origin, .flags = c->flags,
				  .mode = c->mode, .has_fd = c->fd >= 0, .has_fd2 = c->fd2 >= 0 };
	const char *const texts[] = { c->from, c->purpose, c->name, c->other };
	int ret = 0;

	if (c->op == HOST_INTERFACE)
		r.ifr = c->ifr;
	w->len = sizeof(r);
	for (size_t i = 0; i < ARRAY_SIZE(texts) && ret == 0; i++)
		ret = put_text(w, texts[i]);
	for (; c->argv && c->argv[r.argc] && ret == 0; r.argc++)
		ret = r.argc < WIRE_ARGS ? put_text(w, c->argv[r.argc]) : -E2BIG;
	memcpy(w->buf, &r, sizeof(r));
	return ret;
}

/* The next text; NULL with *ok false when there is none whole. */
static char *take_text(struct wire_call *w, size_t *at, bool *ok)
{
	char *s, *end;

	if (!*ok || *at >= w->len || (unsigned char)w->buf[*at] > 1) {
		*ok = false;
		return NULL;
	}
	if (!w->buf[(*at)++])
		return NULL;
	s = w->buf + *at;
	end = memchr(s, 0, w->len - *at);
	*ok = end;
	*at = end ? (size_t)(end + 1 - w->buf) : w->len;
	return end ? s : NULL;
}

int wire_unpack(struct wire_call *w)
{
	struct wire_request r;
	size_t at = sizeof(r);
	bool ok = w->len >= sizeof(r) && w->len <= sizeof(w->buf);

	if (!ok)
		return -EPROTO;
	memcpy(&r, w->buf, sizeof(r));
	if (r.op >= WIRE_OPS || r.origin > HOST_SHARE || r.argc > WIRE_ARGS)
		return -EPROTO;
	w->c = (struct host_call){ .op = r.op, .origin = r.origin, .flags = r.flags,
				   .mode = r.mode, .fd = -1, .fd2 = -1, .pin = -1, .ifr = r.ifr };
	w->c.ifr.ifr_name[IFNAMSIZ - 1] = 0;
	w->c.from = take_text(w, &at, &ok);
	w->c.purpose = take_text(w, &at, &ok);
	w->c.name = take_text(w, &at, &ok);
	w->c.other = take_text(w, &at, &ok);
	for (uint32_t i = 0; i < r.argc; i++) {
		w->argv[i] = take_text(w, &at, &ok);
		ok = ok && w->argv[i];
	}
	w->argv[r.argc] = NULL;
	w->c.argv = r.argc ? w->argv : NULL;
	w->has_fd = r.has_fd;
	w->has_fd2 = r.has_fd2;
	return ok && at == w->len ? 0 : -EPROTO;
}

union wire_control {
	struct cmsghdr h;
	char buf[CMSG_SPACE(WIRE_FDS * sizeof(int))];
};

int wire_send(int sock, const void *buf, size_t len, const int *fds, int nfds, int flags)
{
	union wire_control control = { 0 };
	struct iovec iov = { (void *)buf, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (nfds) {
		struct cmsghdr *h = &control.h;

		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(h), fds, nfds * sizeof(int));
	}
	do
		n = sendmsg(sock, &msg, MSG_NOSIGNAL | flags);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : (int)n;
}

int wire_recv(int sock, void *buf, size_t len, int *fds, int *nfds, int flags)
{
	union wire_control control = { 0 };
	struct iovec iov = { buf, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	int room = *nfds;
	ssize_t n;

	*nfds = 0;
	do
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | flags);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	for (struct cmsghdr *h = CMSG_FIRSTHDR(&msg); h; h = CMSG_NXTHDR(&msg, h)) {
		size_t count = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(int));
			if (*nfds < room)
				fds[(*nfds)++] = fd;
			else
				close(fd);
		}
	}
	if (!(msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
		return n;
	while (*nfds)
		close(fds[--*nfds]);
	return -EPROTO;
}
