/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fdset.c: see fdset.h. A process has one table of descriptors; so this is one too. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/base/fdset.h"

#define PREFIX "/dev/fdset/"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static struct entry {
	struct entry *next;
	unsigned set;
	int fd;
	char *opaque;
} *entries;		/* by number of the set; a set's newest last */

static struct named {
	struct named *next;
	int fd;
	char name[];
} *named;

int fdset_add(unsigned set, int fd, const char *opaque)
{
	struct entry *e, **at;

	if (fcntl(fd, F_GETFL) < 0)
		return -errno;
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	e = xcalloc(1, sizeof(*e));
	*e = (struct entry){ .set = set, .fd = fd, .opaque = opaque ? xstrdup(opaque) : NULL };
	pthread_mutex_lock(&mutex);
	for (at = &entries; *at && (*at)->set <= set; at = &(*at)->next)
		;
	e->next = *at;
	*at = e;
	pthread_mutex_unlock(&mutex);
	return 0;
}

unsigned fdset_free_number(void)
{
	unsigned n = 0;

	pthread_mutex_lock(&mutex);
	for (struct entry *e = entries; e; e = e->next)
		if (e->set == n)
			n++;
	pthread_mutex_unlock(&mutex);
	return n;
}

int fdset_remove(unsigned set, int fd)
{
	struct entry **at = &entries;
	int ret = -ENOENT;

	pthread_mutex_lock(&mutex);
	while (*at) {
		struct entry *e = *at;

		if (e->set != set || (fd >= 0 && e->fd != fd)) {
			at = &e->next;
			continue;
		}
		*at = e->next;
		close(e->fd);
		free(e->opaque);
		free(e);
		ret = 0;
	}
	pthread_mutex_unlock(&mutex);
	return ret;
}

void fdset_each(void (*fn)(void *ctx, const struct fdset_member *m), void *ctx)
{
	pthread_mutex_lock(&mutex);
	for (struct entry *e = entries; e; e = e->next)
		fn(ctx, &(struct fdset_member){ e->set, e->fd, e->opaque });
	pthread_mutex_unlock(&mutex);
}

bool fdset_is_path(const char *path)
{
	return !strncmp(path, PREFIX, sizeof(PREFIX) - 1);
}

int fdset_open(const char *path, int flags, struct err *err)
{
	int want = flags & O_ACCMODE, found = -1;
	bool known = false;
	uint64_t set;

	if (parse_u64(path + sizeof(PREFIX) - 1, UINT32_MAX, &set))
		return err_set(err, EINVAL, "%s: a number must follow " PREFIX, path);
	pthread_mutex_lock(&mutex);
	for (struct entry *e = entries; e && found < 0; e = e->next) {
		int mode;

		if (e->set != set)
			continue;
		known = true;
		mode = fcntl(e->fd, F_GETFL) & O_ACCMODE;
		if (mode == want || mode == O_RDWR)
			found = fcntl(e->fd, F_DUPFD_CLOEXEC, 3);
	}
	pthread_mutex_unlock(&mutex);
	if (found >= 0)
		return found;
	if (!known)
		return err_set(err, ENOENT,
			       "%s: no such set of descriptors; pass one with -add-fd set=%u,fd=N",
			       path, (unsigned)set);
	return err_set(err, EACCES, "%s: no descriptor of this set is open for %s", path,
		       want == O_RDONLY ? "reading" : "writing");
}

int fd_name(const char *name, int fd)
{
	struct named *n = xcalloc(1, sizeof(*n) + strlen(name) + 1);
	int old = fd_take(name);
	unsigned others = 0;

	if (old >= 0)
		close(old);
	n->fd = fd;
	strcpy(n->name, name);
	pthread_mutex_lock(&mutex);
	for (struct named *o = named; o; o = o->next)
		others++;
	if (others < FD_NAMES_MAX) {
		n->next = named;
		named = n;
		n = NULL;
	}
	pthread_mutex_unlock(&mutex);
	free(n);
	return others < FD_NAMES_MAX ? 0 : -EMFILE;
}

int fd_take(const char *name)
{
	struct named **at = &named, *n;
	int fd = -1;

	pthread_mutex_lock(&mutex);
	while (*at && strcmp((*at)->name, name))
		at = &(*at)->next;
	n = *at;
	if (n) {
		*at = n->next;
		fd = n->fd;
		free(n);
	}
	pthread_mutex_unlock(&mutex);
	return fd;
}

int fd_given(const char *text)
{
	uint64_t fd;

	if (parse_u64(text, INT32_MAX, &fd) < 0)
		return fd_take(text);
	return fd;
}
