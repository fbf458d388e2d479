/* SPDX-License-Identifier: GPL-2.0-or-later */
/* host.c: the wishes of host.h as calls, and the door that answers them in this process. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/base/fdset.h"
#include "vmm/base/host_impl.h"

static int direct_call(void *ctx, struct host_call *c, struct err *err)
{
	static int (*const kinds[])(struct host_call *c, struct err *err) = {
		host_file_call, host_socket_call, host_process_call, host_names_call,
	};
	int ret = -ENOSYS;

	for (size_t i = 0; i < ARRAY_SIZE(kinds) && ret == -ENOSYS; i++)
		ret = kinds[i](c, err);
	return ret;
}

const struct host host_direct = { .call = direct_call };
struct host host_door = { .call = direct_call };

static int call(const struct host *h, struct host_call *c, struct err *err)
{
	struct err ignored = { "" };

	c->origin = h->origin;
	c->from = h->from;
	return h->call(h->ctx, c, err ? err : &ignored);
}

/* --- files --- */

int host_open(const struct host *h, const char *purpose, const char *path, int flags, int mode,
	      struct err *err)
{
	struct host_call c = { .op = HOST_OPEN, .purpose = purpose, .name = path, .flags = flags,
			       .mode = mode, .fd = -1, .fd2 = -1 };

	return fdset_is_path(path) ? fdset_open(path, flags, err) : call(h, &c, err);
}

int host_open_disk(const struct host *h, const char *path, int flags, const char *format,
		   bool *elsewhere, struct err *err)
{
	struct host_call c = { .op = HOST_OPEN, .purpose = "disk image", .name = path,
			       .other = format, .flags = flags, .mode = HOST_OPEN_DISK, .fd = -1,
			       .fd2 = -1 };
	int fd;

	*elsewhere = false;
	if (h->origin == HOST_IMAGE && (fdset_is_path(path) || host_is_process_name(path)))
		return err_set(err, EACCES, "'%s' names '%s', which is not for an image to name",
			       h->from ? h->from : "an image", path);
	fd = fdset_is_path(path) ? fdset_open(path, flags, err) : call(h, &c, err);
	*elsewhere = fd >= 0 && c.status;
	return fd;
}

static int allow(const struct host *h, enum host_allow what, const char *name, struct err *err)
{
	struct host_call c = { .op = HOST_ALLOW, .name = name, .flags = what, .fd = -1,
			       .fd2 = -1 };

	return call(h, &c, err);
}

int host_allow(const struct host *h, const char *place, struct err *err)
{
	return allow(h, HOST_ALLOW_DIR, place, err);
}

void host_allow_file(const struct host *h, const char *path)
{
	allow(h, HOST_ALLOW_FILE, path, NULL);
}

int host_ask_address(const struct host *h, const char *address, struct err *err)
{
	return allow(h, HOST_ALLOW_ASK, address, err);
}

int host_reopen(const struct host *h, const char *purpose, int fd, int flags, struct err *err)
{
	struct host_call c = { .op = HOST_REOPEN, .purpose = purpose, .flags = flags, .fd = fd,
			       .fd2 = -1 };

	return call(h, &c, err);
}

int host_temporary(const struct host *h, const char *purpose, const char *dir, struct err *err)
{
	struct host_call c = { .op = HOST_TEMPORARY, .purpose = purpose, .name = dir, .fd = -1,
			       .fd2 = -1 };

	return call(h, &c, err);
}

int host_unlink(const struct host *h, const char *path, int fd)
{
	struct host_call c = { .op = HOST_REMOVE, .name = path, .fd = fd, .fd2 = -1 };

	return call(h, &c, NULL);
}

static int stat_call(const struct host *h, const char *path, int flags, struct stat *st)
{
	struct host_call c = { .op = HOST_STAT, .name = path, .flags = flags, .fd = -1, .fd2 = -1 };
	int ret = call(h, &c, NULL);

	*st = c.st;
	return ret;
}

int host_stat(const struct host *h, const char *path, struct stat *st)
{
	return stat_call(h, path, 0, st);
}

int host_lstat(const struct host *h, const char *path, struct stat *st)
{
	return stat_call(h, path, AT_SYMLINK_NOFOLLOW, st);
}

int host_rename(const struct host *h, const char *purpose, const char *path, const char *to)
{
	struct host_call c = { .op = HOST_RENAME, .purpose = purpose, .name = path, .other = to,
			       .fd = -1, .fd2 = -1 };

	return call(h, &c, NULL);
}

int host_link(const struct host *h, const char *purpose, int fd, const char *path)
{
	struct host_call c = { .op = HOST_LINK, .purpose = purpose, .name = path, .fd = fd,
			       .fd2 = -1 };

	return call(h, &c, NULL);
}

void host_own(struct host_path *own, const char *path, int fd)
{
	char self[32];

	/* Not a duplicate: that would keep the locks of the one given. */
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	*own = (struct host_path){ .fd = host_open_again(self, O_PATH, 0) };
	if (own->fd >= 0)
		own->path = xstrdup(path);
}

void host_remove(const struct host *h, struct host_path *own)
{
	if (!own->path)
		return;
	host_unlink(h, own->path, own->fd);
	close(own->fd);
	free(own->path);
	*own = (struct host_path){ .fd = -1 };
}

/* --- sockets --- */

int host_connect(const struct host *h, const char *purpose, const char *address, struct err *err)
{
	struct host_call c = { .op = HOST_CONNECT, .purpose = purpose, .name = address, .fd = -1,
			       .fd2 = -1 };

	return call(h, &c, err);
}

/*
 * TCP ports that this process listens on, a bit each: a machine's own guest must not reach them.
 * They belong to the process as its sockets do.
 */
static uint64_t listens_on[65536 / 64];

static void note_port(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	uint16_t port = 0;

	if (getsockname(fd, (struct sockaddr *)&ss, &len))
		return;
	if (ss.ss_family == AF_INET)
		port = ntohs(((struct sockaddr_in *)&ss)->sin_port);
	else if (ss.ss_family == AF_INET6)
		port = ntohs(((struct sockaddr_in6 *)&ss)->sin6_port);
	if (port)
		__atomic_fetch_or(&listens_on[port / 64], 1ull << port % 64, __ATOMIC_RELAXED);
}

bool host_listens_on(uint16_t port)
{
	return __atomic_load_n(&listens_on[port / 64], __ATOMIC_RELAXED) >> port % 64 & 1;
}

int host_listen(const struct host *h, const char *purpose, const char *address,
		struct host_path *own, struct err *err)
{
	struct host_call c = { .op = HOST_LISTEN, .purpose = purpose, .name = address, .fd = -1,
			       .fd2 = -1, .pin = -1 };
	int fd = call(h, &c, err);

	*own = (struct host_path){ .fd = fd < 0 ? -1 : c.pin };
	if (own->fd >= 0)
		own->path = xstrdup(address + 5);
	if (fd >= 0)
		note_port(fd);
	return fd;
}

int host_datagram(const struct host *h, const char *purpose, int fd, const char *local,
		  const char *peer, bool shared, struct err *err)
{
	struct host_call c = { .op = HOST_DATAGRAM, .purpose = purpose, .name = local,
			       .other = peer, .flags = shared, .fd = fd, .fd2 = -1 };

	return call(h, &c, err);
}

int host_resolve(const struct host *h, const char *purpose, const char *text,
		 struct sockaddr_in *in, struct err *err)
{
	struct host_call c = { .op = HOST_RESOLVE, .purpose = purpose, .name = text, .fd = -1,
			       .fd2 = -1 };
	int ret = call(h, &c, err);

	*in = c.in;
	return ret;
}

int host_reserve(const struct host *h, const char *name)
{
	struct host_call c = { .op = HOST_RESERVE, .name = name, .fd = -1, .fd2 = -1 };

	return call(h, &c, NULL);
}

int host_interface(const struct host *h, int fd, unsigned request, struct ifreq *ifr)
{
	struct host_call c = { .op = HOST_INTERFACE, .name = ifr->ifr_name, .flags = request,
			       .fd = fd, .fd2 = -1, .ifr = *ifr };
	int ret = call(h, &c, NULL);

	*ifr = c.ifr;
	return ret;
}

/* --- programs, locks --- */

int host_spawn(const struct host *h, const char *purpose, char *const argv[], int in, int out,
	       struct err *err)
{
	struct host_call c = { .op = HOST_SPAWN, .purpose = purpose, .name = argv[0], .argv = argv,
			       .fd = in, .fd2 = out };

	return call(h, &c, err);
}

int host_wait(const struct host *h, int pid, int *status)
{
	struct host_call c = { .op = HOST_WAIT, .flags = pid, .fd = -1, .fd2 = -1 };
	int ret = call(h, &c, NULL);

	*status = c.status;
	return ret;
}

void host_kill(const struct host *h, int pid, int signal)
{
	struct host_call c = { .op = HOST_KILL, .flags = pid, .mode = signal, .fd = -1, .fd2 = -1 };

	call(h, &c, NULL);
}

void host_lock_owner(const struct host *h, int fd, char *buf, size_t len)
{
	struct host_call c = { .op = HOST_LOCK_OWNER, .fd = fd, .fd2 = -1 };

	call(h, &c, NULL);
	snprintf(buf, len, "%s", c.text);
}
