/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * host.h: the one door to the host. disk, net and devices never open a path, connect or run a
 * program themselves: they are given these operations. In process today, a broker for the sandbox
 * later.
 */
#ifndef VMM_BASE_HOST_H
#define VMM_BASE_HOST_H

#include "vmm/base/util.h"

/*
 * A path that this program made, and a descriptor that holds its inode: while it is held no other
 * file gets its number, so that at the end the path is removed only if it is still ours. Zeroed, or
 * path NULL: none.
 */
struct host_path {
	char *path;
	int fd;
};

struct host_ops {
	/*
	 * open(2); "/dev/fdset/N" gives a duplicate of a descriptor passed in. fd or -errno with
	 * the reason. With O_CREAT it is the door for every output: a symbolic link at the end of
	 * the path is followed only when it is ours or root's, and in a folder where everybody may
	 * make files (/tmp) somebody else's file is not written into. With O_TRUNC nothing that
	 * another open file holds a lock on is emptied: a disk in use.
	 */
	int (*open)(void *ctx, const char *path, int flags, int mode, struct err *err);
	/*
	 * A file without a name in the folder, 0600, for reading and writing: it vanishes with its
	 * last descriptor. fd or -errno.
	 */
	int (*temporary)(void *ctx, const char *dir, struct err *err);
	/*
	 * Removes the path only if it still is the file that fd is open on. 0, or -ESTALE: it is
	 * another one now, or gone, or no file; or -errno.
	 */
	int (*remove)(void *ctx, const char *path, int fd);
	/* "unix:PATH", "tcp:HOST:PORT": a connected stream socket. fd or -errno. */
	int (*connect)(void *ctx, const char *address, struct err *err);
	/*
	 * "unix:PATH", "tcp:[HOST]:PORT" (no host: the loopback): a listening, non-blocking stream
	 * socket. fd or -errno. A socket file that no process holds any more is replaced,
	 * everything else at the path stays and is -EADDRINUSE or -EEXIST. The new one is 0600 from
	 * its first moment. *pin becomes a descriptor that holds the socket file for remove, -1
	 * with TCP.
	 */
	int (*listen)(void *ctx, const char *address, int *pin, struct err *err);
	/* Runs argv with the given stdin/stdout (-1: /dev/null); returns the pid or -errno. */
	int (*spawn)(void *ctx, char *const argv[], int in, int out, struct err *err);
	/*
	 * Who holds a lock on the open file fd: "qemu-img (pid 123)" in buf, or 0-length when it
	 * cannot be seen.
	 */
	void (*lock_owner)(void *ctx, int fd, char *buf, size_t len);
};
struct host {
	const struct host_ops *ops;
	void *ctx;
};
/* The in-process implementation. */
extern const struct host host_direct;
/*
 * -add-fd set=N,fd=M: "/dev/fdset/N" opens a duplicate of fd from now on (several fds: by access
 * mode). 0 or -errno.
 */
int host_fdset_add(unsigned set, int fd);

static inline int host_open(const struct host *h, const char *path, int flags, int mode,
			    struct err *err)
{
	return h->ops->open(h->ctx, path, flags, mode, err);
}

/* As ops->listen; own takes the path and the pin, for host_remove. */
int host_listen(const struct host *h, const char *address, struct host_path *own, struct err *err);
/*
 * The path of own goes if it is still ours; own holds nothing afterwards. Before the socket is
 * closed: nobody takes it for stale.
 */
void host_remove(const struct host *h, struct host_path *own);
/* own becomes the file that fd is open on, called path. */
void host_own(struct host_path *own, const char *path, int fd);

/*
 * A symbol of a heavy backend that lives in its own shared object (minivmm-<name>.so beside the
 * program or in its library folder): "net-user" (libslirp), "vnc", "nbd", "crypto". NULL with a
 * reason that names the Debian package when the object or its library is missing. Never unloaded.
 */
void *module_symbol(const char *module, const char *symbol, struct err *err);

#endif
