/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * host.c: the in-process door to the host: open, connect, spawn, and who holds a lock.
 * Any thread that may block (start-up and control threads).
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/magic.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "vmm/base/host.h"

extern char **environ;

/* --- descriptors passed in: -add-fd set=N,fd=M --- */
struct fdset_entry {
	unsigned set;
	int fd;
	struct fdset_entry *next;
};
static pthread_mutex_t fdset_mutex = PTHREAD_MUTEX_INITIALIZER;
/* a process has one table of descriptors; so this is one too */
static struct fdset_entry *fdsets;

int host_fdset_add(unsigned set, int fd)
{
	struct fdset_entry *e;

	if (fcntl(fd, F_GETFL) < 0)
		return -errno;
	e = xcalloc(1, sizeof(*e));
	e->set = set;
	e->fd = fd;
	pthread_mutex_lock(&fdset_mutex);
	e->next = fdsets;
	fdsets = e;
	pthread_mutex_unlock(&fdset_mutex);
	return 0;
}

/* The member of the set with the access mode wanted; one open for both will do for either. */
static int fdset_open(unsigned set, int flags, const char *path, struct err *err)
{
	int want = flags & O_ACCMODE, found = -1;
	bool known = false;

	pthread_mutex_lock(&fdset_mutex);
	for (struct fdset_entry *e = fdsets; e && found < 0; e = e->next) {
		int mode;

		if (e->set != set)
			continue;
		known = true;
		mode = fcntl(e->fd, F_GETFL) & O_ACCMODE;
		if (mode == want || mode == O_RDWR)
			found = fcntl(e->fd, F_DUPFD_CLOEXEC, 3);
	}
	pthread_mutex_unlock(&fdset_mutex);
	if (found >= 0)
		return found;
	if (!known)
		return err_set(err, ENOENT,
			       "%s: no such set of descriptors; pass one with -add-fd set=%u,fd=N",
			       path, set);
	return err_set(err, EACCES, "%s: no descriptor of this set is open for %s", path,
		       want == O_RDONLY ? "reading" : "writing");
}

/* --- files --- */

#define LINKS_MAX 8

static int open_again(const char *path, int flags, int mode)
{
	int fd;

	do
		fd = open(path, flags | O_CLOEXEC, mode);
	while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : fd;
}

static char *folder_of(const char *path)
{
	char *copy = xstrdup(path), *dir = xstrdup(dirname(copy));

	free(copy);
	return dir;
}

/*
 * Where the link at path leads, or NULL with *ret set: 0 when the kernel has to follow it itself
 * (/proc/self/fd/1 names what no path names), -ELOOP when somebody else made it.
 */
static char *link_target(const char *path, int *ret)
{
	int fd = open_again(path, O_PATH | O_NOFOLLOW, 0);
	char target[4096], *dir, *whole;
	struct statfs fs;
	struct stat st;
	ssize_t n;

	*ret = fd;
	if (fd < 0)
		return NULL;
	*ret = fstat(fd, &st) || fstatfs(fd, &fs) ? -errno : 0;
	n = *ret ? -1 : readlinkat(fd, "", target, sizeof(target) - 1);
	if (!*ret && (n < 0 || (st.st_uid != geteuid() && st.st_uid)))
		*ret = -ELOOP;
	close(fd);
	if (*ret || fs.f_type == PROC_SUPER_MAGIC)
		return NULL;
	target[n] = 0;
	if (*target == '/')
		return xstrdup(target);
	dir = folder_of(path);
	whole = xasprintf("%s/%s", dir, target);
	free(dir);
	return whole;
}

/*
 * In a folder where everybody makes files, one that is there already and is somebody else's was
 * laid out for us.
 */
static bool is_bait(const char *path, int fd)
{
	char *dir = folder_of(path);
	struct stat folder, st;
	bool bait = fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISFIFO(st.st_mode)) &&
		    stat(dir, &folder) == 0 && folder.st_mode & S_ISVTX &&
		    folder.st_mode & (S_IWOTH | S_IWGRP) && st.st_uid != folder.st_uid &&
		    st.st_uid != geteuid();

	free(dir);
	return bait;
}

static bool locked_by_others(int fd)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

/* The file is there or was made; nothing in it has changed yet. */
static int output_check(const char *path, int fd, int flags, struct err *err)
{
	struct stat st;

	if (!(flags & O_EXCL) && is_bait(path, fd))
		return err_set(err, EACCES,
			       "'%s' is another user's file in a folder that everybody writes to: "
			       "take another name",
			       path);
	if (!(flags & O_TRUNC) || fstat(fd, &st) || !S_ISREG(st.st_mode) || !st.st_size)
		return 0;
	if (locked_by_others(fd))
		return err_set(
			err, EBUSY,
			"'%s' is in use (a disk of a running machine?) and is not overwritten",
			path);
	return ftruncate(fd, 0)
		       ? err_set(err, errno, "cannot empty '%s': %s", path, strerror(errno))
		       : 0;
}

static int open_output(const char *name, int flags, int mode, struct err *err)
{
	char *path = xstrdup(name);
	int fd, ret = 0;

	for (int links = 0;; links++) {
		char *next;

		fd = open_again(path, (flags & ~O_TRUNC) | O_NOFOLLOW, mode);
		if (fd != -ELOOP)
			break;
		next = links < LINKS_MAX ? link_target(path, &ret) : NULL;
		if (!next && !ret && links < LINKS_MAX)
			fd = open_again(path, flags & ~O_TRUNC, mode);
		if (!next)
			break;
		free(path);
		path = next;
	}
	if (fd == -ELOOP)
		ret = err_set(err, ELOOP,
			      "cannot open '%s' for writing: '%s' is a symbolic link that another "
			      "user made, or leads "
			      "to itself",
			      name, path);
	else if (fd < 0)
		ret = err_set(err, -fd, "cannot open '%s' for writing: %s", name, strerror(-fd));
	else if ((ret = output_check(path, fd, flags, err)) < 0)
		close(fd);
	free(path);
	return ret < 0 ? ret : fd;
}

static int direct_open(void *ctx, const char *path, int flags, int mode, struct err *err)
{
	static const char prefix[] = "/dev/fdset/";
	uint64_t set;
	int fd;

	if (!strncmp(path, prefix, sizeof(prefix) - 1)) {
		if (parse_u64(path + sizeof(prefix) - 1, UINT32_MAX, &set))
			return err_set(err, EINVAL, "%s: a number must follow /dev/fdset/", path);
		return fdset_open(set, flags, path, err);
	}
	if (flags & O_CREAT)
		return open_output(path, flags, mode, err);
	fd = open_again(path, flags, mode);
	if (fd < 0)
		return err_set(err, -fd, "cannot open '%s'%s: %s", path,
			       (flags & O_ACCMODE) == O_RDONLY ? "" : " for writing",
			       strerror(-fd));
	return fd;
}

static int direct_temporary(void *ctx, const char *dir, struct err *err)
{
	char *path = xasprintf("%s/minivmm-XXXXXX", dir);
	int fd = open_again(dir, O_RDWR | O_TMPFILE, 0600);

	if (fd == -EOPNOTSUPP || fd == -EISDIR) {	/* not every file system has them */
		fd = mkostemp(path, O_CLOEXEC);
		fd = fd < 0 ? -errno : fd;
		if (fd >= 0)
			unlink(path);
	}
	free(path);
	return fd < 0 ? err_set(err, -fd, "cannot make a temporary file in '%s': %s", dir,
				strerror(-fd))
		      : fd;
}

static int direct_remove(void *ctx, const char *path, int fd)
{
	struct stat is, ours;

	if (lstat(path, &is) || fstat(fd, &ours))
		return errno == ENOENT ? -ESTALE : -errno;
	if (is.st_dev != ours.st_dev || is.st_ino != ours.st_ino ||
	    !(S_ISREG(is.st_mode) || S_ISSOCK(is.st_mode)))
		return -ESTALE;		/* nor a device, whoever named it */
	return unlink(path) ? -errno : 0;
}

void host_own(struct host_path *own, const char *path, int fd)
{
	char self[32];

	/* Not a duplicate: that would keep the locks of the one given. */
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	*own = (struct host_path){ .fd = open_again(self, O_PATH, 0) };
	if (own->fd >= 0)
		own->path = xstrdup(path);
}

void host_remove(const struct host *h, struct host_path *own)
{
	if (!own->path)
		return;
	h->ops->remove(h->ctx, own->path, own->fd);
	close(own->fd);
	free(own->path);
	*own = (struct host_path){ .fd = -1 };
}

/* --- sockets --- */

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

static int direct_connect(void *ctx, const char *address, struct err *err)
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
	char *dir = folder_of(path);
	int fd = open_again(dir, O_RDONLY | O_DIRECTORY, 0);

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
		direct_remove(NULL, sun->sun_path, *pin);
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

static int direct_listen(void *ctx, const char *address, int *pin, struct err *err)
{
	*pin = -1;
	if (!strncmp(address, "unix:", 5))
		return listen_unix(address + 5, address, pin, err);
	if (!strncmp(address, "tcp:", 4))
		return listen_tcp(address + 4, address, err);
	return err_set(err, EINVAL, "'%s' is no address; expected unix:PATH or tcp:[HOST]:PORT",
		       address);
}

int host_listen(const struct host *h, const char *address, struct host_path *own, struct err *err)
{
	int pin, fd = h->ops->listen(h->ctx, address, &pin, err);

	*own = (struct host_path){ .fd = fd < 0 ? -1 : pin };
	if (own->fd >= 0)
		own->path = xstrdup(address + 5);
	return fd;
}

/* --- programs, locks --- */

static int direct_spawn(void *ctx, char *const argv[], int in, int out, struct err *err)
{
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	sigset_t none, all;
	pid_t pid;
	int ret;

	posix_spawn_file_actions_init(&fa);
	posix_spawnattr_init(&attr);
	sigemptyset(&none);
	sigfillset(&all);
	/* The child starts with a clean signal state: our threads block some and ignore others. */
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	if (in >= 0)
		posix_spawn_file_actions_adddup2(&fa, in, 0);
	else
		posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	if (out >= 0)
		posix_spawn_file_actions_adddup2(&fa, out, 1);
	else
		posix_spawn_file_actions_addopen(&fa, 1, "/dev/null", O_WRONLY, 0);
	ret = posix_spawnp(&pid, argv[0], &fa, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&fa);
	if (ret)
		return err_set(err, ret, "cannot run '%s': %s", argv[0], strerror(ret));
	return pid;
}

/* True when /proc/PID/fdinfo/FD shows a lock. */
static bool fdinfo_has_lock(const char *pid, const char *fd)
{
	char path[300], line[256];
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%.20s/fdinfo/%.20s", pid, fd);
	f = fopen(path, "re");
	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f))
		found = !strncmp(line, "lock:", 5);
	fclose(f);
	return found;
}

static bool pid_holds_lock(const char *pid, const struct stat *st, int own_fd)
{
	char path[300];
	struct dirent *d;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
	dir = opendir(path);
	if (!dir)
		return false;
	while (!found && (d = readdir(dir))) {
		struct stat s;

		if (!isdigit((unsigned char)d->d_name[0]) || atoi(d->d_name) == own_fd)
			continue;
		if (fstatat(dirfd(dir), d->d_name, &s, 0) || s.st_dev != st->st_dev ||
		    s.st_ino != st->st_ino)
			continue;
		found = fdinfo_has_lock(pid, d->d_name);
	}
	closedir(dir);
	return found;
}

/* OFD locks report no pid to F_GETLK, but every process's fdinfo lists its locks. */
static void direct_lock_owner(void *ctx, int fd, char *buf, size_t len)
{
	struct stat st;
	struct dirent *d;
	DIR *proc;

	buf[0] = 0;
	if (fstat(fd, &st))
		return;
	proc = opendir("/proc");
	if (!proc)
		return;
	while (!buf[0] && (d = readdir(proc))) {
		char path[300], comm[64] = "?";
		bool self = atoi(d->d_name) == getpid();
		FILE *f;

		if (!isdigit((unsigned char)d->d_name[0]) ||
		    !pid_holds_lock(d->d_name, &st, self ? fd : -1))
			continue;
		snprintf(path, sizeof(path), "/proc/%.20s/comm", d->d_name);
		f = fopen(path, "re");
		if (f) {
			if (fgets(comm, sizeof(comm), f))
				comm[strcspn(comm, "\n")] = 0;
			fclose(f);
		}
		snprintf(buf, len, self ? "this process, %s (pid %.20s)" : "%s (pid %.20s)", comm,
			 d->d_name);
	}
	closedir(proc);
}

static const struct host_ops direct_ops = {
	.open = direct_open,
	.temporary = direct_temporary,
	.remove = direct_remove,
	.connect = direct_connect,
	.listen = direct_listen,
	.spawn = direct_spawn,
	.lock_owner = direct_lock_owner,
};
const struct host host_direct = { &direct_ops, NULL };
