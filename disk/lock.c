/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lock.c: OFD byte-range locks in QEMU's scheme (its block/file-posix.c; docs/system/images "Disk
 * image file locking"), so that minivmm, qemu-img and QEMU keep out of each other's way (R7).
 *
 * What an owner does with the file is a set of permissions. Holding permission n is a shared lock
 * on byte 100 + n; not letting anybody else have permission n is a shared lock on byte 200 + n. The
 * locks are all shared ones, so taking them never fails: one takes one's own first, then looks
 * (F_OFD_GETLK with a write lock, which conflicts with everybody's but one's own) whether someone
 * holds a permission one does not share, or does not share one that one holds. Two that start at
 * the same moment may both withdraw; they never both go on.
 *
 * Any thread; no state but the locks themselves, which die with the descriptor.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "disk/lock.h"
#include "vmm/base/log.h"

enum { PERM_BASE = 100, SHARED_BASE = 200 };
enum { GHOST_MS = 2000, GHOST_LOOK_MS = 10 };
enum {
	PERM_CONSISTENT_READ = 1 << 0,
	PERM_WRITE = 1 << 1,
	PERM_WRITE_UNCHANGED = 1 << 2,
	PERM_RESIZE = 1 << 3,
	PERM_BITS = 4,
};
static const struct { unsigned held, unshared;
} lock_kinds[] = {
	[FILE_UNLOCKED] = { 0, 0 },
	[FILE_READS] = { PERM_CONSISTENT_READ, PERM_WRITE | PERM_RESIZE },
	[FILE_WRITES] = { PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE,
			  PERM_WRITE | PERM_RESIZE },
};

static int byte_lock(int fd, off_t byte, short type)
{
	struct flock fl = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
	int ret;

	do {
		ret = fcntl(fd, F_OFD_SETLK, &fl);
	} while (ret < 0 && errno == EINTR);
	return ret < 0 ? -errno : 0;
}

/* Does another open file hold a lock on this byte? 1, 0 or -errno. */
static int byte_taken(int fd, off_t byte)
{
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

	if (fcntl(fd, F_OFD_GETLK, &fl) < 0)
		return -errno;
	return fl.l_type != F_UNLCK;
}

/* Sets the bytes of mask and clears the others; the first error is returned, all are tried. */
static int bytes_set(int fd, off_t base, unsigned mask)
{
	int first = 0;

	for (unsigned i = 0; i < PERM_BITS; i++) {
		int ret = byte_lock(fd, base + i, mask & (1u << i) ? F_RDLCK : F_UNLCK);

		if (ret && !first)
			first = ret;
	}
	return first;
}

/* -EAGAIN when another open file holds one of these bytes. */
static int conflicts(int fd, off_t base, unsigned mask)
{
	for (unsigned i = 0; i < PERM_BITS; i++) {
		int ret;

		if (!(mask & (1u << i)))
			continue;
		ret = byte_taken(fd, base + i);
		if (ret < 0)
			return ret;
		if (ret)
			return -EAGAIN;
	}
	return 0;
}

/* The holder's name; false: it cannot be seen. */
static bool find_owner(const struct host *host, int fd, char *owner, size_t len)
{
	host_lock_owner(host, fd, owner, len);
	return *owner;
}

static int refuse(const char *filename, const char *owner, bool writer_there, enum lock_kind kind,
		  struct err *err)
{
	return err_set(
		err, EAGAIN,
		"'%s' is in use by %s, which %s: cannot open it for %s; stop that program first%s",
		filename,
		*owner ? owner
		       : "another program (it cannot be seen from here: another user's, or on "
			 "another machine)",
		writer_there ? "writes to it" : "needs it unchanged",
		kind == FILE_WRITES ? "writing" : "reading",
		kind == FILE_READS ? ", or read what may change with -U" : "");
}

/* 0, -EAGAIN when somebody is in the way, or another error. */
static int look(int fd, enum lock_kind kind, bool *writer_there)
{
	unsigned held = lock_kinds[kind].held, unshared = lock_kinds[kind].unshared;
	int ret = conflicts(fd, SHARED_BASE, held);

	*writer_there = false;
	if (!ret) {
		ret = conflicts(fd, PERM_BASE, unshared);
		*writer_there = ret == -EAGAIN;
	} else if (ret == -EAGAIN) {
		/* A writer, too, does not share: say which of the two it is. */
		*writer_there = byte_taken(fd, PERM_BASE + 1) == 1;
	}
	return ret;
}

static int take(int fd, enum lock_kind kind)
{
	int ret = bytes_set(fd, PERM_BASE, lock_kinds[kind].held);

	return ret ? ret : bytes_set(fd, SHARED_BASE, lock_kinds[kind].unshared);
}

static void give_back(int fd, enum lock_kind kind)
{
	bytes_set(fd, SHARED_BASE, lock_kinds[kind].unshared);
	bytes_set(fd, PERM_BASE, lock_kinds[kind].held);
}

int lock_set(const struct host *host, int fd, const char *filename, enum lock_kind from,
	     enum lock_kind kind, bool wait, struct err *err)
{
	int64_t end = now_ns() + GHOST_MS * NS_PER_MS;
	char owner[256] = "";
	bool writer_there;
	int ret;

	for (;;) {
		ret = take(fd, kind);
		if (ret == -EINVAL || ret == -ENOLCK || ret == -ENOSYS || ret == -EOPNOTSUPP) {
			if (kind == FILE_WRITES)
				log_warn("'%s': this file system has no locks (%s): nothing keeps "
					 "a second program from writing to it",
					 filename, strerror(-ret));
			return 0;
		}
		if (ret)
			return err_set(err, -ret, "'%s': cannot lock: %s", filename,
				       strerror(-ret));
		ret = look(fd, kind, &writer_there);
		if (!ret)
			return 0;
		give_back(fd, from);
		if (ret != -EAGAIN)
			return err_set(err, -ret, "'%s': cannot look at its locks: %s", filename,
				       strerror(-ret));
		/*
		 * Without an owner it may be one that was killed: the kernel closes the files of an
		 * io_uring a while after the process is gone. Or another that starts just now.
		 */
		if (find_owner(host, fd, owner, sizeof(owner)) || !wait || now_ns() > end)
			return refuse(filename, owner, writer_there, kind, err);
		usleep(GHOST_LOOK_MS * 1000);
	}
}
