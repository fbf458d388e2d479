/* SPDX-License-Identifier: GPL-2.0-or-later */
/* host_process.c: programs to run and who holds a lock, in this process. See host.h. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/host_impl.h"
#include "vmm/base/record.h"

extern char **environ;

static int spawn(char *const argv[], int in, int out, struct err *err)
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
/* What find_lock_owner looks for among the machines that run. */
struct search {
	const struct stat *st;
	int asker, number;
	char *buf;
	size_t len;
};

/* A machine is named by its name and its parent, which people know. */
static bool is_owner(void *ctx, const struct record *r)
{
	struct search *s = ctx;
	bool self = r->machine == s->asker;
	char pid[16], path[32];
	unsigned i = 0;

	while (i < r->nfiles && (r->files[i].dev != s->st->st_dev ||
				 r->files[i].ino != s->st->st_ino))
		i++;
	if (i == r->nfiles)
		return true;
	/* It had the disk open; whether it still has can be seen of one's own processes. */
	snprintf(pid, sizeof(pid), "%d", r->machine);
	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	if (access(path, R_OK | X_OK) == 0 &&
	    !pid_holds_lock(pid, s->st, self ? s->number : -1))
		return true;
	snprintf(s->buf, s->len, "%s%s (pid %d)", self ? "this process, " : "",
		 r->name ? r->name : "minivmm", r->pid);
	return false;
}

/* Asked by the process asker (0: this one), where the descriptor is called number. */
static void find_lock_owner(int fd, int asker, int number, char *buf, size_t len)
{
	struct stat st;
	struct dirent *d;
	DIR *proc;

	buf[0] = 0;
	if (fstat(fd, &st))
		return;
	record_each(is_owner, &(struct search){ &st, asker, number, buf, len });
	proc = buf[0] ? NULL : opendir("/proc");
	if (!proc)
		return;
	while (!buf[0] && (d = readdir(proc))) {
		char path[300], comm[64] = "?";
		int pid = atoi(d->d_name), skip = pid == getpid() ? fd : -1;
		bool self = pid == (asker ? asker : getpid());
		FILE *f;

		if (asker && self)
			skip = number;
		if (pid <= 0 || !pid_holds_lock(d->d_name, &st, skip))
			continue;
		if (record_is_orphan(pid))
			break;		/* it lets go at any moment: nobody to name */
		snprintf(path, sizeof(path), "/proc/%.20s/comm", d->d_name);
		f = fopen(path, "re");
		if (f) {
			if (fgets(comm, sizeof(comm), f))
				comm[strcspn(comm, "\n")] = 0;
			fclose(f);
		}
		snprintf(buf, len, "%s%s (pid %d)", self ? "this process, " : "", comm,
			 pid);
	}
	closedir(proc);
}

static int wait_for(int pid, int *status)
{
	while (waitpid(pid, status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

int host_process_call(struct host_call *c, struct err *err)
{
	switch (c->op) {
	case HOST_SPAWN:
		return spawn(c->argv, c->fd, c->fd2, err);
	case HOST_WAIT:
		return wait_for(c->flags, &c->status);
	case HOST_KILL:
		return kill(c->flags, c->mode) ? -errno : 0;
	case HOST_LOCK_OWNER:
		find_lock_owner(c->fd, c->flags, c->mode, c->text, sizeof(c->text));
		return 0;
	default:
		return -ENOSYS;
	}
}
