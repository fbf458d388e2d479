/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * host.h: the one door to the host. No other file opens a path, makes a socket, runs a program or
 * asks about a name of the host (tests/layers has the list of exceptions with their reasons). Every
 * wish is one struct host_call that says what, for whom and what for; one function answers it: in
 * this process (host_direct), or in the parent of a machine (vmm/parent/). A function in between
 * may look at calls, change them or answer some itself.
 *
 * Any thread that may block: nothing here is quick when the host is not.
 */
#ifndef VMM_BASE_HOST_H
#define VMM_BASE_HOST_H

#include <net/if.h>
#include <netinet/in.h>
#include <sys/stat.h>

#include "vmm/base/util.h"

enum host_op {
	HOST_OPEN, HOST_REOPEN, HOST_TEMPORARY, HOST_REMOVE, HOST_STAT, HOST_RENAME, HOST_LINK,
	HOST_CONNECT, HOST_LISTEN, HOST_DATAGRAM, HOST_RESOLVE, HOST_RESERVE, HOST_INTERFACE,
	HOST_SPAWN, HOST_WAIT, HOST_KILL, HOST_LOCK_OWNER, HOST_ALLOW, HOST_OPS
};

/* HOST_ALLOW: flags. ASK is about an address; the others add. */
enum host_allow { HOST_ALLOW_DIR, HOST_ALLOW_FILE, HOST_ALLOW_ADDRESS, HOST_ALLOW_ASK };
/* HOST_OPEN without O_CREAT: in mode, a disk; other is its format, status whether elsewhere. */
enum { HOST_OPEN_DISK = 1 };

/* Who named what is asked for: the user before the guest ran, a control client, a file, a share. */
enum host_origin { HOST_COMMAND_LINE, HOST_CONTROL, HOST_IMAGE, HOST_SHARE };

struct host_call {
	enum host_op op;
	enum host_origin origin;
	const char *from;		/* the image or share that named it; NULL otherwise */
	const char *purpose;		/* "disk image", "firmware": for people */
	/* Asked; which ones an operation takes stands at its function below. */
	const char *name, *other;	/* a path or an address; a second one */
	char *const *argv;
	int flags, mode, fd, fd2;	/* fd, fd2: -1 for none */
	/* Answered, beside the result. */
	int pin, status;
	union {
		struct stat st;
		struct ifreq ifr;	/* asked, too */
		struct sockaddr_in in;
		char text[128];
	};
};

struct host {
	/* The result: a descriptor, a process number, 0, or -errno with the reason in err. */
	int (*call)(void *ctx, struct host_call *c, struct err *err);
	void *ctx;
	enum host_origin origin;	/* of whoever holds this door */
	const char *from;
};

/* In this process. */
extern const struct host host_direct;
/*
 * The door of this process: host_direct, or in a machine the one to its parent. main() sets it
 * before there is a second thread.
 */
extern struct host host_door;

/*
 * A path that this program made, and a descriptor that holds its inode: while it is held no other
 * file gets its number, so that at the end the path is removed only if it is still ours. Zeroed, or
 * path NULL: none.
 */
struct host_path {
	char *path;
	int fd;
};

/* --- files --- */

/*
 * open(2), close-on-exec. fd or -errno with the reason. "/dev/fdset/N" gives a duplicate of a
 * descriptor passed in (fdset.h). With O_CREAT it is the door for every output: a symbolic link at
 * the end of the path is followed only when it is ours or root's, and in a folder where everybody
 * may make files (/tmp) somebody else's file is not written into. With O_TRUNC nothing that another
 * open file holds a lock on is emptied: a disk in use.
 */
int host_open(const struct host *h, const char *purpose, const char *path, int flags, int mode,
	      struct err *err);
/*
 * A disk: only a file or a block device is opened, and nothing is waited for (a FIFO). The folder
 * of a disk that was not named by an image becomes one of those that images may name. With a door
 * of node_names() the name stands in an image, and the rule for those decides
 * (host_name_from_image() in host_names.c): allowed are files in the image's own folder, in those
 * of disks that were named, and in and below those of host_allow() and /etc/minivmm/image-dirs. A
 * file that lies elsewhere is opened for reading only, when format, the one that the image records
 * for it, is neither NULL nor raw; *elsewhere says so, and the caller has to see whether the file
 * is such an image. Everything else is -EACCES, with the option to add. fd or -errno.
 */
int host_open_disk(const struct host *h, const char *path, int flags, const char *format,
		   bool *elsewhere, struct err *err);
/*
 * Names in images may lead to what lies in and below this folder; or to this address ("nbd:..."),
 * and below it. 0 or -errno.
 */
int host_allow(const struct host *h, const char *place, struct err *err);
/* ... and to the folder of this file, if it is one; opening it does the same. */
void host_allow_file(const struct host *h, const char *path);
/* May an image name this address? 0, or -EACCES with the option to add. */
int host_ask_address(const struct host *h, const char *address, struct err *err);
/* What fd is open on, once more, with flags of its own (/proc/self/fd). fd or -errno. */
int host_reopen(const struct host *h, const char *purpose, int fd, int flags, struct err *err);
/*
 * A file without a name in the folder, 0600, for reading and writing: it vanishes with its last
 * descriptor. fd or -errno.
 */
int host_temporary(const struct host *h, const char *purpose, const char *dir, struct err *err);
/*
 * Removes the path only if it still is the file that fd is open on. 0, or -ESTALE: it is another
 * one now, or gone, or no file; or -errno.
 */
int host_unlink(const struct host *h, const char *path, int fd);
/* stat(2), or lstat(2). 0 or -errno. */
int host_stat(const struct host *h, const char *path, struct stat *st);
int host_lstat(const struct host *h, const char *path, struct stat *st);
/* rename(2): path becomes to. 0 or -errno. */
int host_rename(const struct host *h, const char *purpose, const char *path, const char *to);
/* Gives a name to a file that has none (O_TMPFILE). 0 or -errno. */
int host_link(const struct host *h, const char *purpose, int fd, const char *path);

/* The path of own goes if it is still ours; own holds nothing afterwards. For a socket: before it
 * is closed, so that nobody takes it for stale. */
void host_remove(const struct host *h, struct host_path *own);
/* own becomes the file that fd is open on, called path. */
void host_own(struct host_path *own, const char *path, int fd);

/* --- sockets --- */

/* "unix:PATH", "tcp:HOST:PORT": a connected stream socket. fd or -errno. */
int host_connect(const struct host *h, const char *purpose, const char *address, struct err *err);
/*
 * "unix:PATH", "tcp:[HOST]:PORT" (no host: the loopback): a listening, non-blocking stream socket.
 * fd or -errno. A socket file that no process holds any more is replaced, everything else at the
 * path stays and is -EADDRINUSE or -EEXIST. The new one is 0600 from its first moment. own takes
 * the path, for host_remove; nothing with TCP.
 */
int host_listen(const struct host *h, const char *purpose, const char *address,
		struct host_path *own, struct err *err);
/*
 * Whether this process has listened on the TCP port (control, VNC, gdb, a serial port): a guest
 * behind user networking does not reach it. Any thread.
 */
bool host_listens_on(uint16_t port);
/*
 * A non-blocking IPv4 datagram socket; given fd >= 0, that one. Bound to local and connected to
 * peer ("HOST:PORT") unless they are NULL; shared: other programs may bind to the same. fd or
 * -errno (the one given stays open).
 */
int host_datagram(const struct host *h, const char *purpose, int fd, const char *local,
		  const char *peer, bool shared, struct err *err);
/* "[HOST]:PORT" or "HOST" as an IPv4 address. 0 or -errno. */
int host_resolve(const struct host *h, const char *purpose, const char *text,
		 struct sockaddr_in *in, struct err *err);
/*
 * A name of which there is one in this network namespace: it is held until the descriptor is
 * closed. fd, -EADDRINUSE or -errno.
 */
int host_reserve(const struct host *h, const char *name);
/*
 * A request of netdevice(7) or tun(4) about ifr->ifr_name, on a socket of its own or (tun) on fd;
 * only those that this program has use for. 0 or -errno.
 */
int host_interface(const struct host *h, int fd, unsigned request, struct ifreq *ifr);

/* --- programs, locks --- */

/*
 * Runs argv with the given stdin and stdout (-1: /dev/null) and the environment the program was
 * started with. Its process number, good for the two below until host_wait has told its end; or
 * -errno.
 */
int host_spawn(const struct host *h, const char *purpose, char *const argv[], int in, int out,
	       struct err *err);
/* Waits for its end: 0 with the status of waitpid(2), or -errno. */
int host_wait(const struct host *h, int pid, int *status);
void host_kill(const struct host *h, int pid, int signal);
/*
 * Who holds a lock on the open file fd: "qemu-img (pid 123)" in buf, or 0-length when it cannot be
 * seen.
 */
void host_lock_owner(const struct host *h, int fd, char *buf, size_t len);

/*
 * A symbol of a heavy backend that lives in its own shared object (minivmm-<name>.so beside the
 * program or in its library folder): "net-user" (libslirp), "vnc", "nbd", "crypto". NULL with a
 * reason that names the Debian package when the object or its library is missing. Never unloaded.
 */
void *module_symbol(const char *module, const char *symbol, struct err *err);

#endif
