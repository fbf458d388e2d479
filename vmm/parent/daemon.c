/* SPDX-License-Identifier: GPL-2.0-or-later */
/* daemon.c: see daemon.h. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/parent/daemon.h"

static int daemon_pipe = -1;

int daemon_start(void)
{
	int fds[2], status = 0;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
		log_error("-daemonize: %s", strerror(errno));
		return -1;
	}
	if (pid > 0) {
		char byte;

		close(fds[1]);
		/*
		 * The child writes one byte when the machine runs; end of file means that it ended
		 * and said why.
		 */
		status = read(fds[0], &byte, 1) == 1 ? 0 : 1;
		_exit(status);
	}
	close(fds[0]);
	daemon_pipe = fds[1];
	setsid();
	return 0;
}

/*
 * sd_notify(3)'s protocol: a datagram to the socket the environment names; "@" stands for the
 * abstract namespace.
 */
static void notify_manager(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	char text[64];
	size_t len = path ? strlen(path) : 0;
	int fd, n;

	if (!len || len >= sizeof(un.sun_path))
		return;
	memcpy(un.sun_path, path, len);
	if (*path == '@')
		un.sun_path[0] = 0;
	n = snprintf(text, sizeof(text), "READY=1\nMAINPID=%d\n", getpid());
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || sendto(fd, text, n, MSG_NOSIGNAL, (struct sockaddr *)&un,
			     offsetof(struct sockaddr_un, sun_path) + len) < 0)
		log_warn("NOTIFY_SOCKET=%s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

/*
 * The folder stays what it was: logs, sockets and files named later are where the user meant them.
 */
void daemon_detach(const char *logfile)
{
	int null = host_open(&host_door, "standard input and output", "/dev/null", O_RDWR, 0, NULL);

	if (null < 0)
		return;
	dup2(null, 0);
	dup2(null, 1);
	if (!logfile)
		dup2(null, 2);
	close(null);
}

int daemon_descriptor(void)
{
	return daemon_pipe;
}

void daemon_ready(void)
{
	notify_manager();
	if (daemon_pipe < 0)
		return;
	if (write(daemon_pipe, "r", 1) != 1)
		log_warn("-daemonize: whoever started it is gone");
	close(daemon_pipe);
	daemon_pipe = -1;
}

int daemon_pidfile(const char *path, struct host_path *own, struct err *err)
{
	char text[32];
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd, ret, n = snprintf(text, sizeof(text), "%d\n", getpid());

	fd = host_open(&host_direct, "pid file", path, O_WRONLY | O_CREAT, 0644, err);
	if (fd < 0) {
		err_prefix(err, "-pidfile");
		return fd;
	}
	/*
	 * Open and locked for as long as we run: a second machine does not take the first one's
	 * number away.
	 */
	if (fcntl(fd, F_OFD_SETLK, &lock) < 0 && (errno == EAGAIN || errno == EACCES)) {
		close(fd);
		return err_set(err, EBUSY, "-pidfile %s: another running program holds it", path);
	}
	/* EINVAL: a pipe */
	ret = ftruncate(fd, 0) < 0 && errno != EINVAL ? -errno : write_full(fd, text, n);
	*own = (struct host_path){ xstrdup(path), fd };
	if (ret < 0)
		host_remove(&host_direct, own);
	return ret < 0 ? err_set(err, -ret, "-pidfile %s: %s", path, strerror(-ret)) : 0;
}

/* --- SIGHUP --- */

static bool had_terminal, hangup_ignored;

static bool has_terminal(void)
{
	struct err none = { "" };
	int fd = host_open(&host_direct, "terminal", "/dev/tty", O_RDONLY | O_NOCTTY, 0, &none);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

void hangup_init(void)
{
	struct sigaction sa;

	had_terminal = has_terminal();
	/* A blocked signal comes by the descriptor even when it is ignored. */
	hangup_ignored = sigaction(SIGHUP, NULL, &sa) == 0 && sa.sa_handler == SIG_IGN;
}

int hangup_meaning(int signo)
{
	if (signo != SIGHUP)
		return signo;
	if (hangup_ignored)
		return 0;
	return had_terminal && !has_terminal() ? SIGTERM : SIGHUP;
}
