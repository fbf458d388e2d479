/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fdset.h: descriptors passed to the program (-add-fd, add-fd, getfd): sets with numbers, for
 * "/dev/fdset/N" wherever a path does, and single ones with names. Any thread.
 */
#ifndef VMM_BASE_FDSET_H
#define VMM_BASE_FDSET_H

#include "vmm/base/util.h"

/* One member, as fdset_each tells it. */
struct fdset_member {
	unsigned set;
	int fd;
	const char *opaque;	/* NULL: none was given */
};

/* fd belongs to the set from now on. 0 or -errno. */
int fdset_add(unsigned set, int fd, const char *opaque);
/* The lowest number that no set has. */
unsigned fdset_free_number(void);
/* Closes a member, or with fd -1 all of them. Duplicates in use stay. 0 or -ENOENT. */
int fdset_remove(unsigned set, int fd);
/* In order of the sets' numbers; nothing may be added or removed by fn. */
void fdset_each(void (*fn)(void *ctx, const struct fdset_member *m), void *ctx);
/* Is the path one of "/dev/fdset/N"? */
bool fdset_is_path(const char *path);
/* A duplicate of the member with the access mode of flags; open for both will do for either. */
int fdset_open(const char *path, int flags, struct err *err);

/*
 * getfd: fd is called name from now on; one of that name is closed. 0, or -EMFILE: FD_NAMES_MAX
 * others have one.
 */
#define FD_NAMES_MAX 256
int fd_name(const char *name, int fd);
/* The descriptor of that name, which then has no name: the caller's. -1: none. */
int fd_take(const char *name);
/*
 * "fd=3", "fd:name": a descriptor by its number, open or not, or by the name getfd gave it. -1: it
 * is no name, either.
 */
int fd_given(const char *text);

#endif
