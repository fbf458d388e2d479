/* SPDX-License-Identifier: GPL-2.0-or-later */
/* host_socket.c: sockets and interfaces of the host, in this process. See host.h. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/host_impl.h"

/* --- streams --- */

static int connect_unix(const char *path, const char *address, struct err *err)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd;

	if (strlen(path) >= sizeof(sun.sun_path))
		return err_set(err, ENAMETOOLONG,
			       "%s: the path of a socket has at most %zu characters", address,
			       sizeof(sun.sun_path) - 1);
	memcpy(sun.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set(err, errno, "%s: %s", address, strerror(errno));
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun))) {
		int e = errno;

		close(fd);
		return err_set(err, e, "cannot connect to %s: %s", address, strerror(e));
	}
	return fd;
}

/* "HOST:PORT" or "[V6]:PORT". */
static int connect_tcp(const char *spec, const char *address, struct err *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list, *a;
	char host[256];
	const char *colon = strrchr(spec, ':');
	size_t len;
	int fd = -1, ret;

	if (!colon || colon == spec || !colon[1])
		return err_set(err, EINVAL, "%s: expected tcp:HOST:PORT", address);
	len = colon - spec;
	if (spec[0] == '[' && colon[-1] == ']') {
		spec++;
		len -= 2;
	}
	if (len >= sizeof(host))
		return err_set(err, ENAMETOOLONG, "%s: the host's name is too long", address);
	memcpy(host, spec, len);
	host[len] = 0;
	ret = getaddrinfo(host, colon + 1, &hints, &list);
	if (ret)
		return err_set(err, EHOSTUNREACH, "%s: %s", address, gai_strerror(ret));
	ret = -EHOSTUNREACH;
	for (a = list; a && fd < 0; a = a->ai_next) {
		fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, a->ai_protocol);
		if (fd >= 0 && !connect(fd, a->ai_addr, a->ai_addrlen))
			break;
		ret = -errno;
		if (fd >= 0)
			close(fd);
		fd = -1;
	}
	freeaddrinfo(list);
	if (fd < 0)
		return err_set(err, -ret, "cannot connect to %s: %s", address, strerror(-ret));
	return fd;
}

static int connect_stream(const char *address, struct err *err)
{
	if (!strncmp(address, "unix:", 5))
		return connect_unix(address + 5, address, err);
	if (!strncmp(address, "tcp:", 4))
		return connect_tcp(address + 4, address, err);
	return err_set(err, EINVAL, "'%s' is no address; expected unix:PATH or tcp:HOST:PORT",
		       address);
}

/*
 * A socket file that no process holds any more may go; anything else at the path stays. The probe
 * is a datagram socket: to a stream socket it cannot connect, and so a program that waits there for
 * its one peer never sees it.
 */
static int remove_stale_socket(const struct sockaddr_un *sun)
{
	struct stat st;
	int fd, ret;

	if (lstat(sun->sun_path, &st))
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	ret = connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) ? -errno : -EADDRINUSE;
	close(fd);
	if (ret == -EPROTOTYPE || ret == -EAGAIN)
		return -EADDRINUSE;
	if (ret != -ECONNREFUSED)
		return ret;
	return unlink(sun->sun_path) ? -errno : 0;
}

/*
 * Between the look at a stale socket and our own bind nobody of ours may do the same. Best effort:
 * the folder may be unreadable.
 */
static int folder_lock(const char *path)
{
	char *dir = host_folder_of(path);
	int fd = host_open_again(dir, O_RDONLY | O_DIRECTORY, 0);

	free(dir);
	for (int i = 0; fd >= 0 && i < 100 && flock(fd, LOCK_EX | LOCK_NB) < 0; i++)
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	return fd;
}

static int bind_unix(const struct sockaddr_un *sun, int *pin)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), ret;

	if (fd < 0)
		return -errno;
	/*
	 * The file inherits the socket's mode (less the umask): there is no moment at which others
	 * may connect.
	 */
	if (fchmod(fd, 0600) || bind(fd, (const struct sockaddr *)sun, sizeof(*sun)))
		goto fail;
	*pin = open(sun->sun_path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (*pin >= 0 && listen(fd, 8) == 0)
		return fd;
fail:
	ret = -errno;
	if (*pin >= 0)
		host_remove_exact(sun->sun_path, *pin);
	if (*pin >= 0)
		close(*pin);
	*pin = -1;
	close(fd);
	return ret;
}

static int listen_unix(const char *path, const char *address, int *pin, struct err *err)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd, lock;

	if (!*path || strlen(path) >= sizeof(sun.sun_path))
		return err_set(err, ENAMETOOLONG,
			       "%s: the path of a socket has 1 to %zu characters", address,
			       sizeof(sun.sun_path) - 1);
	memcpy(sun.sun_path, path, strlen(path));
	lock = folder_lock(path);
	fd = remove_stale_socket(&sun);
	if (fd == 0)
		fd = bind_unix(&sun, pin);
	if (lock >= 0)
		close(lock);
	if (fd == -EADDRINUSE)
		return err_set(err, EADDRINUSE, "%s: another program listens there", address);
	if (fd == -EEXIST)
		return err_set(
			err, EEXIST,
			"%s: a file that is no socket is in the way; it stays: take another path",
			address);
	return fd < 0 ? err_set(err, -fd, "cannot listen on %s: %s", address, strerror(-fd)) : fd;
}

/* No host means the loopback: who wants to be reached from outside says so. */
static int listen_tcp(const char *spec, const char *address, struct err *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE }, *list, *a;
	const char *colon = strrchr(spec, ':');
	char host[256] = "127.0.0.1";
	int fd = -1, ret, one = 1;
	uint64_t port;

	if (!colon || !colon[1] || (size_t)(colon - spec) >= sizeof(host))
		return err_set(err, EINVAL, "%s: expected tcp:[HOST]:PORT", address);
	if (isdigit((unsigned char)colon[1]) && parse_u64(colon + 1, 65535, &port))
		return err_set(err, EINVAL, "%s: a port is a number up to 65535", address);
	if (colon > spec && spec[0] == '[' && colon[-1] == ']')
		snprintf(host, sizeof(host), "%.*s", (int)(colon - spec - 2), spec + 1);
	else if (colon > spec)
		snprintf(host, sizeof(host), "%.*s", (int)(colon - spec), spec);
	ret = getaddrinfo(host, colon + 1, &hints, &list);
	if (ret)
		return err_set(err, EADDRNOTAVAIL, "%s: %s", address, gai_strerror(ret));
	ret = EADDRNOTAVAIL;
	for (a = list; a && fd < 0; a = a->ai_next) {
		fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
			    a->ai_protocol);
		if (fd >= 0 && !setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) &&
		    !bind(fd, a->ai_addr, a->ai_addrlen) && !listen(fd, 8))
			break;
		ret = errno;
		if (fd >= 0)
			close(fd);
		fd = -1;
	}
	freeaddrinfo(list);
	if (fd < 0)
		return err_set(err, ret, "cannot listen on %s: %s%s", address, strerror(ret),
			       ret == EADDRINUSE
				       ? "; perhaps another machine does: take another port"
				       : "");
	return fd;
}

static int listen_stream(const char *address, int *pin, struct err *err)
{
	*pin = -1;
	if (!strncmp(address, "unix:", 5))
		return listen_unix(address + 5, address, pin, err);
	if (!strncmp(address, "tcp:", 4))
		return listen_tcp(address + 4, address, err);
	return err_set(err, EINVAL, "'%s' is no address; expected unix:PATH or tcp:[HOST]:PORT",
		       address);
}

/* --- datagrams, addresses --- */

/* "HOST:PORT", ":PORT" or "HOST" to an IPv4 address; no host: any. */
static int resolve(const char *text, struct sockaddr_in *in, struct err *err)
{
	struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_DGRAM }, *list;
	char *host = xstrdup(text), *colon = strrchr(host, ':');
	uint64_t port = 0;
	int ret = 0, gai;

	memset(in, 0, sizeof(*in));
	in->sin_family = AF_INET;
	if (colon)
		*colon = 0;
	if (colon && parse_u64(colon + 1, 65535, &port) < 0)
		ret = err_set(err, EINVAL, "%s: no port number after the colon", text);
	in->sin_port = htons(port);
	if (ret == 0 && *host) {
		gai = getaddrinfo(host, NULL, &hints, &list);
		if (gai) {
			ret = err_set(err, EHOSTUNREACH, "%s: %s", text, gai_strerror(gai));
		} else {
			in->sin_addr = ((struct sockaddr_in *)list->ai_addr)->sin_addr;
			freeaddrinfo(list);
		}
	}
	free(host);
	return ret;
}

static int make_datagram(const struct host_call *c, struct err *err)
{
	struct sockaddr_in local, peer;
	int fd = c->fd, ret = 0, on = 1;

	if (c->name)
		ret = resolve(c->name, &local, err);
	if (ret == 0 && c->other)
		ret = resolve(c->other, &peer, err);
	if (ret < 0)
		return ret;
	if (fd < 0)
		fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(err, errno, "socket: %s", strerror(errno));
	if (c->flags && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		ret = err_set(err, errno, "%s: %s", c->name, strerror(errno));
	if (ret == 0 && c->name && bind(fd, (struct sockaddr *)&local, sizeof(local)) < 0)
		ret = err_set(err, errno, "%s: %s", c->name, strerror(errno));
	if (ret == 0 && c->other && connect(fd, (struct sockaddr *)&peer, sizeof(peer)) < 0)
		ret = err_set(err, errno, "%s: %s", c->other, strerror(errno));
	if (ret < 0 && c->fd < 0)
		close(fd);
	return ret < 0 ? ret : fd;
}

/* A name in the abstract namespace: it vanishes with its last descriptor, however that ends. */
static int reserve_name(const char *name)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	size_t len = strlen(name);
	int fd, ret;

	if (len >= sizeof(sun.sun_path))
		return -ENAMETOOLONG;
	memcpy(sun.sun_path + 1, name, len);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&sun, offsetof(struct sockaddr_un, sun_path) + 1 + len)) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

/* --- interfaces --- */

static int interface_request(struct host_call *c)
{
	unsigned request = c->flags;
	int fd = c->fd, ret;

	switch (request) {
	case SIOCGIFINDEX: case SIOCGIFFLAGS: case SIOCSIFFLAGS: case SIOCGIFMTU: case SIOCSIFMTU:
	case SIOCGIFHWADDR: case SIOCSIFHWADDR: case SIOCBRADDIF:
		fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		break;
	case TUNSETIFF: case TUNSETQUEUE:
		break;
	default:
		return -EINVAL;
	}
	if (fd < 0)
		return fd == c->fd ? -EBADF : -errno;
	ret = ioctl(fd, request, &c->ifr) < 0 ? -errno : 0;
	if (fd != c->fd)
		close(fd);
	return ret;
}

int host_socket_call(struct host_call *c, struct err *err)
{
	switch (c->op) {
	case HOST_CONNECT:
		return connect_stream(c->name, err);
	case HOST_LISTEN:
		return listen_stream(c->name, &c->pin, err);
	case HOST_DATAGRAM:
		return make_datagram(c, err);
	case HOST_RESOLVE:
		return resolve(c->name, &c->in, err);
	case HOST_RESERVE:
		return reserve_name(c->name);
	case HOST_INTERFACE:
		return interface_request(c);
	default:
		return -ENOSYS;
	}
}
