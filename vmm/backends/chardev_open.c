/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * chardev_open.c: the kinds of streams: terminal, file, pty, sockets. Opening may block (start-up,
 * control threads).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/backends/chardev_impl.h"
#include "vmm/base/log.h"
#include "vmm/base/rotate.h"

/* --- the terminal --- */

/*
 * A process has one controlling terminal, and it must be usable again however the program ends; so
 * this is the one thing here that is not part of a chardev.
 */
static struct termios terminal_before;
static volatile sig_atomic_t terminal_changed;

static void terminal_restore(void)
{
	if (!terminal_changed)
		return;
	terminal_changed = 0;
	tcsetattr(STDIN_FILENO, TCSANOW, &terminal_before);
}

static void make_raw(struct termios *t)
{
	t->c_iflag &= ~(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
	t->c_lflag &= ~(ECHO | ECHONL | ICANON | IEXTEN | ISIG);
	t->c_cflag = (t->c_cflag & ~(CSIZE | PARENB)) | CS8;
	t->c_cc[VMIN] = 1;
	t->c_cc[VTIME] = 0;
}

static bool terminal_raw(void)
{
	static bool registered;
	struct termios t;

	if (terminal_changed || tcgetattr(STDIN_FILENO, &t))
		return false;
	/* In the background changing the terminal would stop us, and reading too. */
	if (tcgetpgrp(STDIN_FILENO) != getpgrp())
		return false;
	terminal_before = t;
	make_raw(&t);
	t.c_oflag |= OPOST;		/* our own messages still end lines as usual */
	if (!registered)
		atexit(terminal_restore);
	registered = true;
	terminal_changed = 1;
	return tcsetattr(STDIN_FILENO, TCSANOW, &t) == 0;
}

static int own(struct chardev *c, int fd)
{
	c->owned[c->nowned++] = fd;
	return fd;
}

/*
 * A descriptor for the same terminal or pipe with its own flags: O_NONBLOCK on the one we were
 * given would change it for the shell that lent it to us.
 */
static int reopen(const struct host *host, int fd, int flags)
{
	struct stat st;

	if (fstat(fd, &st) || (!S_ISCHR(st.st_mode) && !S_ISFIFO(st.st_mode)))
		return -1;
	fd = host_reopen(host, "terminal", fd, flags | O_NONBLOCK | O_NOCTTY, NULL);
	return fd < 0 ? -1 : fd;
}

static int open_stdio(struct chardev *c, const struct host *host, bool monitor, struct err *err)
{
	bool tty = isatty(STDIN_FILENO);
	int fd;

	c->kind = CHARDEV_STDIO;
	fd = reopen(host, STDIN_FILENO, O_RDONLY);
	c->in_fd = fd >= 0 ? own(c, fd) : STDIN_FILENO;
	fd = reopen(host, STDOUT_FILENO, O_WRONLY);
	c->out_fd = fd >= 0 ? own(c, fd) : STDOUT_FILENO;
	/* Only a terminal has someone who knows the keys; a pipe may carry any byte. */
	c->escapes = tty || monitor;
	if (tty) {
		c->restore_tty = terminal_raw();
		if (!c->restore_tty)
			c->in_fd = -1;
	}
	return 0;
}

/* --- files, devices, pty --- */

/* O_APPEND whatever else: who cuts the file short from outside finds no hole in it later. */
static int open_file(struct chardev *c, const char *path, bool append, uint64_t max,
		     struct err *err)
{
	struct stat st;
	int fd = host_open(c->host, c->label, path,
			   O_WRONLY | O_CREAT | O_APPEND | (append ? 0 : O_TRUNC), 0644, err);

	if (fd < 0)
		return fd;
	c->kind = CHARDEV_FILE;
	c->path = xstrdup(path);
	c->out_fd = own(c, fd);
	if (max && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)))
		return err_set(err, EINVAL, "size= goes with a regular file, and %s is none", path);
	c->file_max = max;
	c->file_len = max ? (uint64_t)st.st_size : 0;
	return 0;
}

void chardev_reopen(struct chardev *c)
{
	struct err err = { "" };
	struct stat st;
	int fd;

	if (!c)
		return;
	chardev_reopen(c->log);
	if (c->kind != CHARDEV_FILE)
		return;
	chardev_flush(c);
	fd = host_open(c->host, c->label, c->path, O_WRONLY | O_CREAT | O_APPEND, 0644, &err);
	if (fd < 0) {
		log_warn("%s: %s; writing goes on into the old file", c->label, err.msg);
		return;
	}
	dup3(fd, c->out_fd, O_CLOEXEC);
	close(fd);
	c->file_len = fstat(c->out_fd, &st) == 0 ? (uint64_t)st.st_size : 0;
	chardev_flush(c);
}

static int open_tty(struct chardev *c, const char *path, const struct host *host, struct err *err)
{
	int fd = host_open(host, c->label, path, O_RDWR | O_NONBLOCK | O_NOCTTY, 0, err);
	struct termios t;

	if (fd < 0)
		return fd;
	c->kind = CHARDEV_TTY;
	c->in_fd = c->out_fd = own(c, fd);
	if (!tcgetattr(fd, &t)) {
		make_raw(&t);
		t.c_oflag &= ~OPOST;
		tcsetattr(fd, TCSANOW, &t);
	}
	return 0;
}

static int open_pty(struct chardev *c, const struct host *host, struct err *err)
{
	char name[64];
	struct termios t;
	int master, slave, ret;

	master = host_open(host, c->label, "/dev/ptmx", O_RDWR | O_NONBLOCK | O_NOCTTY, 0, err);
	if (master < 0)
		return master;
	own(c, master);
	if (grantpt(master) || unlockpt(master) || (ret = ptsname_r(master, name, sizeof(name))))
		return err_set(err, errno, "%s: no pseudo terminal to be had: %s", c->label,
			       strerror(errno));
	slave = host_open(host, c->label, name, O_RDWR | O_NOCTTY, 0, err);
	if (slave < 0)
		return slave;
	c->keep_fd = own(c, slave);
	if (!tcgetattr(slave, &t)) {
		make_raw(&t);
		t.c_oflag &= ~OPOST;
		tcsetattr(slave, TCSANOW, &t);
	}
	c->kind = CHARDEV_PTY;
	c->in_fd = c->out_fd = master;
	c->lossy = true;
	free(c->filename);
	c->filename = xasprintf("pty:%s", name);
	log_info("%s is at %s", c->label, name);
	return 0;
}

/* --- sockets --- */

struct socket_options {
	bool server, wait;
};

/* ",server,nowait" and ",server=on,wait=off". Cuts them off the address. */
static int socket_parse(char *address, struct socket_options *o, struct err *err)
{
	char *comma = strchr(address, ','), *word, *next = NULL;

	*o = (struct socket_options){ .wait = true };
	if (!comma)
		return 0;
	*comma = 0;
	for (word = strtok_r(comma + 1, ",", &next); word; word = strtok_r(NULL, ",", &next)) {
		if (!strcmp(word, "server") || !strcmp(word, "server=on"))
			o->server = true;
		else if (!strcmp(word, "server=off"))
			o->server = false;
		else if (!strcmp(word, "nowait") || !strcmp(word, "wait=off"))
			o->wait = false;
		else if (!strcmp(word, "wait") || !strcmp(word, "wait=on"))
			o->wait = true;
		else
			return err_set(err, EINVAL,
				       "%s: '%s' is not an option of a socket; known are server "
				       "and nowait",
				       address, word);
	}
	return 0;
}

static int open_socket(struct chardev *c, const char *spec, const struct host *host,
		       struct err *err)
{
	char *address = xstrdup(spec);
	struct socket_options o;
	int ret = socket_parse(address, &o, err);

	if (ret < 0)
		goto out;
	c->kind = CHARDEV_SOCKET;
	free(c->filename);
	c->filename = xstrdup(address);
	ret = o.server ? host_listen(host, c->label, address, &c->own, err)
		       : host_connect(host, c->label, address, err);
	if (ret < 0)
		goto out;
	if (!o.server) {
		fcntl(ret, F_SETFL, fcntl(ret, F_GETFL) | O_NONBLOCK);
		chardev_connected(c, ret);
		ret = 0;
		goto out;
	}
	c->listen_fd = own(c, ret);
	ret = chardev_listen(c, o.wait);
	if (ret < 0)
		err_set(err, -ret, "%s: %s", address, strerror(-ret));
out:
	free(address);
	return ret;
}

/* What any kind takes, behind everything else. */
struct tail {
	char *logfile;
	bool append, logappend;
	uint64_t size, logsize;
};

/*
 * Cuts ",append=", ",size=", ",logfile=", ",logappend=" and ",logsize=" off the end, word by word:
 * the path of a file may have commas of its own.
 */
static int tail_parse(char *spec, struct tail *t, struct err *err)
{
	static const char *const names[] = { "append=", "size=", "logappend=", "logsize=",
					     "logfile=" };
	bool *bools[] = { &t->append, NULL, &t->logappend, NULL, NULL };
	uint64_t *sizes[] = { NULL, &t->size, NULL, &t->logsize, NULL };
	char *comma;

	while ((comma = strrchr(spec, ','))) {
		unsigned i = 0;

		while (i < ARRAY_SIZE(names) && strncmp(comma + 1, names[i], strlen(names[i])))
			i++;
		if (i == ARRAY_SIZE(names) || (i < 2 && strncmp(spec, "file:", 5)))
			break;
		if (bools[i] && parse_bool(comma + 1 + strlen(names[i]), bools[i]) < 0)
			return err_set(err, EINVAL, "'%s': on or off expected", comma + 1);
		if (sizes[i] && rotate_parse(names[i], comma + 1 + strlen(names[i]), sizes[i],
					     err) < 0)
			return -EINVAL;
		if (i == 4 && !comma[1 + strlen(names[i])])
			return err_set(err, EINVAL, "'%s': the name of a file expected", comma + 1);
		if (i == 4) {
			free(t->logfile);
			t->logfile = xstrdup(comma + 1 + strlen(names[i]));
		}
		*comma = 0;
	}
	if ((t->logappend || t->logsize) && !t->logfile)
		return err_set(err, EINVAL, "logappend= and logsize= go with logfile=FILE");
	if (t->logfile && !strcmp(spec, "none"))
		return err_set(err, EINVAL, "none has nothing to log; null with logfile= has");
	return 0;
}

static int open_kind(struct chardev *c, const char *spec, const struct tail *t, struct err *err)
{
	const struct host *host = c->host;

	if (!strcmp(spec, "null"))
		return 0;
	if (!strcmp(spec, "stdio"))
		return open_stdio(c, host, false, err);
	if (!strcmp(spec, "mon:stdio"))
		return open_stdio(c, host, true, err);
	if (!strncmp(spec, "file:", 5))
		return open_file(c, spec + 5, t->append, t->size, err);
	if (!strcmp(spec, "pty"))
		return open_pty(c, host, err);
	if (!strncmp(spec, "unix:", 5) || !strncmp(spec, "tcp:", 4))
		return open_socket(c, spec, host, err);
	if (!strncmp(spec, "/dev/", 5))
		return open_tty(c, spec, host, err);
	return err_set(err, EINVAL,
		       "'%s' is no character device; known are stdio, mon:stdio, "
		       "file:PATH[,append=on][,size=BYTES], pty, unix:PATH[,server][,nowait], "
		       "tcp:HOST:PORT[,server][,nowait], /dev/ttyX, null and none, each with "
		       "logfile=FILE[,logappend=on][,logsize=BYTES]", spec);
}

static int open_log(struct chardev *c, const struct tail *t, struct err *err)
{
	int ret;

	c->log = chardev_alloc(c->label, c->loop);
	c->log->host = c->host;
	c->log->filename = xstrdup(t->logfile);
	ret = open_file(c->log, t->logfile, t->logappend, t->logsize, err);
	if (ret < 0)
		err_prefix(err, "logfile");
	return ret;
}

struct chardev *chardev_open(const char *id, const char *spec, struct loop *loop,
			     const struct host *host, struct err *err)
{
	char *words = xstrdup(spec);
	struct tail tail = { 0 };
	struct chardev *c = NULL;
	int ret = tail_parse(words, &tail, err);

	if (ret < 0)
		err_prefix(err, "%s", id);
	if (ret < 0 || !strcmp(words, "none"))
		goto out;
	signal(SIGPIPE, SIG_IGN);	/* a reader that leaves is an error of one stream, not the
					   end of the machine */
	c = chardev_alloc(id, loop);
	c->host = host;
	c->filename = xstrdup(words);
	ret = open_kind(c, words, &tail, err);
	if (ret == 0 && tail.logfile)
		ret = open_log(c, &tail, err);
	if (ret < 0) {
		err_prefix(err, "%s", id);
		chardev_free(c);
		c = NULL;
	}
out:
	free(tail.logfile);
	free(words);
	return c;
}

void chardev_close_host(struct chardev *c)
{
	if (c->restore_tty)
		terminal_restore();
	if (c->kind == CHARDEV_SOCKET && c->in_fd >= 0)
		close(c->in_fd);
	host_remove(c->host, &c->own);
	for (int i = 0; i < c->nowned; i++)
		close(c->owned[i]);
	free(c->path);
}
