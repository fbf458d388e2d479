/* SPDX-License-Identifier: GPL-2.0-or-later */
/* record.c: see record.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "vmm/base/record.h"

#define RECORD_MAX 65536	/* bytes of one that is believed */

static char *own_folder(void)
{
	const char *xdg = secure_getenv("XDG_RUNTIME_DIR");

	if (geteuid() == 0)
		return xstrdup("/run/minivmm");
	return xdg && *xdg == '/' ? xasprintf("%s/minivmm", xdg)
				  : xasprintf("/tmp/minivmm-%u", (unsigned)geteuid());
}

/* When the process started, in ticks since the host did; 0: there is none. */
static unsigned long long started(int pid)
{
	unsigned long long start = 0;
	char path[64], buf[1024], *end;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	buf[fread(buf, 1, sizeof(buf) - 1, f)] = 0;
	fclose(f);
	end = strrchr(buf, ')');	/* the name before it may hold anything */
	if (!end || sscanf(end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d"
				    " %*d %*d %*d %*d %llu", &start) != 1)
		return 0;
	return start;
}

bool record_is_orphan(int pid)
{
	static const char name[] = "\0" MACHINE_VARIABLE "=";
	char path[64], *text, *at;
	int parent = 0, now = 0;
	size_t len = 1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/environ", pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	text = xcalloc(1, RECORD_MAX + 2);
	len += fread(text + 1, 1, RECORD_MAX, f);
	fclose(f);
	at = memmem(text, len, name, sizeof(name) - 1);
	if (at)
		sscanf(at + sizeof(name) - 1, "%*d:%d", &parent);
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = parent ? fopen(path, "re") : NULL;
	if (f) {
		text[fread(text, 1, RECORD_MAX, f)] = 0;
		fclose(f);
		at = strrchr(text, ')');
		if (!at || sscanf(at + 1, " %*c %d", &now) != 1)
			now = 0;
	}
	free(text);
	return now && now != parent;
}

/* --- writing --- */

/* A word that ends its line: no line of ours comes from it. */
static void put_word(FILE *f, const char *key, const char *word)
{
	if (word && !strchr(word, '\n'))
		fprintf(f, "%s %s\n", key, word);
}

static void put(FILE *f, const struct record *r)
{
	fprintf(f, "minivmm 1\npid %d %llu\nmachine %d %llu\nuid %u\n", r->pid, started(r->pid),
		r->machine, started(r->machine), r->uid);
	put_word(f, "name", r->name);
	put_word(f, "uuid", r->uuid);
	for (unsigned i = 0; i < r->nsockets; i++) {
		char *line = xasprintf("%s %s", r->sockets[i].what, r->sockets[i].path);

		put_word(f, "socket", line);
		free(line);
	}
	for (unsigned i = 0; i < r->nfiles; i++)
		fprintf(f, "file %u:%u %lu\n", major(r->files[i].dev), minor(r->files[i].dev),
			r->files[i].ino);
}

int record_write(const struct record *r)
{
	char *folder = own_folder(), *path = xasprintf("%s/%d", folder, r->pid);
	char *tmp = xasprintf("%s/.%d", folder, r->pid);
	struct stat st;
	int fd, ret;
	FILE *f;

	mkdir(folder, geteuid() ? 0700 : 0755);
	/* In /tmp anybody may have made it. */
	ret = lstat(folder, &st) ? -errno
	      : !S_ISDIR(st.st_mode) || st.st_uid != geteuid() || st.st_mode & 022 ? -EPERM : 0;
	fd = ret ? ret : open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	f = fd < 0 ? NULL : fdopen(fd, "w");
	if (ret == 0 && !f)
		ret = -errno;
	if (f) {
		put(f, r);
		if (fclose(f) || rename(tmp, path))
			ret = -errno;
	}
	free(tmp);
	free(path);
	free(folder);
	return ret;
}

void record_remove(int pid)
{
	char *folder = own_folder(), *path = xasprintf("%s/%d", folder, pid);

	unlink(path);
	free(path);
	free(folder);
}

/* --- reading --- */

static void forget(struct record *r)
{
	free(r->name);
	free(r->uuid);
	for (unsigned i = 0; i < r->nsockets; i++) {
		free(r->sockets[i].what);
		free(r->sockets[i].path);
	}
}

/* One line; false: it is none of ours. */
static bool take_line(struct record *r, char *line, unsigned long long *start)
{
	char *word = strchr(line, ' '), *path;
	unsigned major, minor;
	unsigned long ino;

	if (!word)
		return false;
	*word++ = 0;
	if (!strcmp(line, "pid"))
		return sscanf(word, "%d %llu", &r->pid, start) == 2;
	if (!strcmp(line, "machine"))
		return sscanf(word, "%d", &r->machine) == 1;
	if (!strcmp(line, "uid"))
		return sscanf(word, "%u", &r->uid) == 1;
	if (!strcmp(line, "name") && !r->name)
		r->name = xstrdup(word);
	if (!strcmp(line, "uuid") && !r->uuid)
		r->uuid = xstrdup(word);
	path = strchr(word, ' ');
	if (!strcmp(line, "socket") && path && r->nsockets < RECORD_SOCKETS)
		r->sockets[r->nsockets++] = (struct record_socket){
			strndup(word, path - word), xstrdup(path + 1) };
	if (!strcmp(line, "file") && r->nfiles < RECORD_FILES &&
	    sscanf(word, "%u:%u %lu", &major, &minor, &ino) == 3)
		r->files[r->nfiles++] = (struct record_file){ makedev(major, minor), ino };
	return true;		/* a newer version may say more */
}

/* False: it is no record, or of a machine that is gone; then the file goes, too. */
static bool read_record(int dir, const char *name, struct record *r)
{
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	char *text = xcalloc(1, RECORD_MAX + 1), *save = NULL, *line;
	unsigned long long start = 0;
	bool good = fd >= 0 && read(fd, text, RECORD_MAX) > 0;

	*r = (struct record){ .uid = (unsigned)-1 };
	line = good ? strtok_r(text, "\n", &save) : NULL;
	good = line && !strcmp(line, "minivmm 1");
	while (good && (line = strtok_r(NULL, "\n", &save)))
		good = take_line(r, line, &start);
	if (good && started(r->pid) != start) {
		unlinkat(dir, name, 0);
		good = false;
	}
	if (fd >= 0)
		close(fd);
	free(text);
	if (!good)
		forget(r);
	return good;
}

/* Only what the folder's owner or root wrote there is read. */
static bool each_in(const char *folder, bool (*fn)(void *ctx, const struct record *r), void *ctx)
{
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct dirent *e;
	bool more = true;
	struct stat st;
	DIR *d;

	if (fd < 0)
		return true;
	if (fstat(fd, &st) || (st.st_uid && st.st_uid != geteuid() && geteuid()) ||
	    st.st_mode & 022 || !(d = fdopendir(fd))) {
		close(fd);
		return true;
	}
	while (more && (e = readdir(d))) {
		struct record r;

		if (atoi(e->d_name) <= 0 || !read_record(fd, e->d_name, &r))
			continue;
		/* A user's word is about that user's machines. */
		if (!st.st_uid || st.st_uid == r.uid)
			more = fn(ctx, &r);
		forget(&r);
	}
	closedir(d);
	return more;
}

void record_each(bool (*fn)(void *ctx, const struct record *r), void *ctx)
{
	char *own = own_folder();
	glob_t users;

	if (each_in("/run/minivmm", fn, ctx) && geteuid())
		each_in(own, fn, ctx);
	free(own);
	if (geteuid() || glob("/run/user/*/minivmm", 0, NULL, &users))
		return;
	for (size_t i = 0; i < users.gl_pathc && each_in(users.gl_pathv[i], fn, ctx); i++)
		;
	globfree(&users);
}

const char *record_socket(const struct record *r, const char *what)
{
	for (unsigned i = 0; i < r->nsockets; i++)
		if (!strcmp(r->sockets[i].what, what))
			return r->sockets[i].path;
	return NULL;
}
