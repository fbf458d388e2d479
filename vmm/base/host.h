/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * host.h: the one door to the host. disk, net and devices never open a path, connect or run a
 * program themselves: they are given these operations. In process today, a broker for the sandbox
 * later.
 */
#ifndef VMM_BASE_HOST_H
#define VMM_BASE_HOST_H

#include "vmm/base/util.h"

struct host_ops {
	/*
	 * open(2); "/dev/fdset/N" gives a duplicate of a descriptor passed in. fd or -errno with
	 * the reason.
	 */
	int (*open)(void *ctx, const char *path, int flags, int mode, struct err *err);
	/* "unix:PATH", "tcp:HOST:PORT": a connected stream socket. fd or -errno. */
	int (*connect)(void *ctx, const char *address, struct err *err);
	/*
	 * "unix:PATH" (a socket left over there is replaced; one somebody listens on is
	 * -EADDRINUSE), "tcp:[HOST]:PORT": a listening, non-blocking stream socket. fd or -errno.
	 */
	int (*listen)(void *ctx, const char *address, struct err *err);
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

/*
 * A symbol of a heavy backend that lives in its own shared object (minivmm-<name>.so beside the
 * program or in its library folder): "net-user" (libslirp), "vnc", "nbd", "crypto". NULL with a
 * reason that names the Debian package when the object or its library is missing. Never unloaded.
 */
void *module_symbol(const char *module, const char *symbol, struct err *err);

#endif
