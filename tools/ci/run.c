/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * run.c: one machine, from its kernel to its ending: minivmm is a child, the guest's streams come
 * and go through FIFOs (virtio-9p with pipes=on). One thread, one poll.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/ci/run.h"

#define BUFFER (256 << 10)
/* for minivmm to end by its own time limit and say where the guest was */
#define GRACE_S 15

static volatile sig_atomic_t interrupted, resized;
static void on_signal(int sig) { interrupted = sig; }
static void on_resize(int sig) { resized = 1; }

/* --- the streams --- */

/* What has come out of a FIFO goes on; false when nobody takes it any more. */
static bool forward(struct run *r, struct stream *s, int to)
{
	static char buf[BUFFER];
	ssize_t n;

	while ((n = read(s->from, buf, sizeof(buf))) > 0) {
		if (to >= 0 && write_full(to, buf, n) < 0)
			return false;
		if (r->o->copy >= 0)
			(void)!write_full(r->o->copy, buf, n);
	}
	return true;
}

static void input_end(struct run *r)
{
	close(r->fifo_in);
	r->fifo_in = -1;
}

/* A piece of the terminal's input, as init.c takes it. */
static void put_piece(struct run *r, char type, const void *data, size_t len)
{
	uint8_t *p = r->input + r->have;

	if (r->have + 3 + len > sizeof(r->input))
		/* a terminal's new size that has to wait for room is asked for again */
		return;
	p[0] = type;
	st_le16(p + 1, len);
	memcpy(p + 3, data, len);
	r->have += 3 + len;
}

static void put_size(struct run *r)
{
	struct winsize ws;
	uint8_t size[4];

	if (ioctl(r->in, TIOCGWINSZ, &ws) < 0)
		return;
	st_le16(size, ws.ws_row);
	st_le16(size + 2, ws.ws_col);
	put_piece(r, 'w', size, sizeof(size));
}

/* Enter ~ . leaves, as with ssh; Enter ~ ~ types one ~. Returns the bytes that stay. */
static size_t find_escape(struct run *r, uint8_t *buf, size_t n)
{
	size_t out = 0;

	for (size_t i = 0; i < n; i++) {
		uint8_t c = buf[i];

		if (r->escape == 2) {
			r->escape = 0;
			if (c == '.') {
				interrupted = SIGHUP;
				return out;
			}
			if (c != '~' && out < n)
				/* i is ahead of out: the held-back ~ has its room */
				buf[out++] = '~';
		} else if (r->escape == 1 && c == '~') {
			r->escape = 2;
			continue;
		}
		r->escape = c == '\r' || c == '\n' ? 1 : 0;
		buf[out++] = c;
	}
	return out;
}

static void read_input(struct run *r)
{
	uint8_t buf[4096 + 1];
	ssize_t n;

	r->have = r->at = 0;
	if (!r->tty) {
		n = read(r->in, r->input, CI_INPUT);
		if (n > 0)
			r->have = n;
	} else {
		/* One byte of room before: a ~ held back from the last read. */
		n = read(r->in, buf + 1, sizeof(buf) - 1);
		if (n > 0 && r->escape == 2 && buf[1] != '.' && buf[1] != '~') {
			buf[0] = '~';
			r->escape = 0;
			put_piece(r, 'd', buf, find_escape(r, buf, n + 1));
		} else if (n > 0) {
			size_t len = find_escape(r, buf + 1, n);

			if (len)
				put_piece(r, 'd', buf + 1, len);
		}
	}
	if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
		input_end(r);
}

/* Something to read, or room for what was read. */
static void feed(struct run *r)
{
	if (r->at == r->have)
		read_input(r);
	while (r->fifo_in >= 0 && r->at < r->have) {
		ssize_t n = write(r->fifo_in, r->input + r->at, r->have - r->at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			input_end(r);
		if (n < 0)
			break;
		r->at += n;
	}
}

static void show_console(struct run *r)
{
	char buf[4096];
	ssize_t n;

	if (!r->o->kmsg)
		return;
	if (r->console < 0)
		r->console = open(r->console_path, O_RDONLY | O_CLOEXEC);
	while (r->console >= 0 && (n = read(r->console, buf, sizeof(buf))) > 0)
		if (write_full(r->err, buf, n) < 0)
			return;
}

/* --- while it runs --- */

static int ending_made(const struct run *r, int64_t now)
{
	if (interrupted)
		return 128 + interrupted;
	if (r->broken)
		return 128 + SIGPIPE;
	/* minivmm keeps the limit; this is for a minivmm that does not. */
	if (r->o->timeout && now >= r->started + (r->o->timeout + GRACE_S) * NS_PER_SEC)
		return END_TIMEOUT;
	return 0;
}

/*
 * Until minivmm ends, by itself or by us. 0, or the ending that we made. Signals come only while it
 * waits.
 */
static int attend(struct run *r, const sigset_t *while_waiting)
{
	int pidfd = syscall(SYS_pidfd_open, r->pid, 0), made;
	struct pollfd p[4] = { { r->s_out.from, POLLIN, 0 },
			       { r->s_err.from, POLLIN, 0 },
			       { pidfd, POLLIN, 0 },
			       { -1, 0, 0 } };

	while (!(made = ending_made(r, now_ns()))) {
		struct timespec wait = { r->o->kmsg ? 0 : 1, r->o->kmsg ? 100 * NS_PER_MS : 0 };

		if (resized && r->at == r->have) {
			resized = 0;
			r->have = r->at = 0;
			put_size(r);
		}
		p[3].fd = r->fifo_in < 0 ? -1 : r->at < r->have ? r->fifo_in : r->in;
		p[3].events = r->at < r->have ? POLLOUT : POLLIN;
		p[3].revents = 0;
		if (ppoll(p, 4, &wait, while_waiting) < 0)
			continue;
		if (!forward(r, &r->s_out, r->out) || !forward(r, &r->s_err, r->err))
			r->broken = true;
		if (p[3].revents)
			feed(r);
		show_console(r);
		if (p[2].revents & POLLIN)
			break;
	}
	if (pidfd >= 0)
		close(pidfd);
	if (made)
		kill(r->pid, SIGKILL);
	return made;
}

static void raw_terminal(struct run *r, bool on)
{
	struct termios t;

	if (!r->tty)
		return;
	if (on && tcgetattr(r->in, &r->saved) == 0) {
		t = r->saved;
		cfmakeraw(&t);
		tcsetattr(r->in, TCSADRAIN, &t);
	} else if (!on) {
		tcsetattr(r->in, TCSADRAIN, &r->saved);
	}
}

/* Those that end us, and the terminal's new size, come only while attend waits. */
static void catch_signals(sigset_t *before)
{
	static const int ends[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		sigaction(ends[i], &(struct sigaction){ .sa_handler = on_signal }, NULL);
		sigaddset(&set, ends[i]);
	}
	sigaction(SIGWINCH, &(struct sigaction){ .sa_handler = on_resize }, NULL);
	sigaddset(&set, SIGWINCH);
	signal(SIGPIPE, SIG_IGN);
	sigprocmask(SIG_BLOCK, &set, before);
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		sigdelset(before, ends[i]);
	sigdelset(before, SIGWINCH);
}

int ci_run(const struct ci_options *o, int in, int out, int err_fd)
{
	struct run *r = xcalloc(1, sizeof(*r));
	int status = 0, end = END_ERROR, made, ret;
	struct err err = { "" };
	sigset_t before;

	*r = (struct run){ .o = o,
			   .in = in,
			   .out = out,
			   .err = err_fd,
			   .console = -1,
			   .initrd = -1,
			   .fifo_in = -1,
			   .fifo_in_keep = -1,
			   .s_out = { -1, -1 },
			   .s_err = { -1, -1 },
			   .started = now_ns() };
	r->tty = (!o->command || o->tty) && in >= 0 && isatty(in) && isatty(out);
	catch_signals(&before);
	ret = kernel_find(o, &r->kernel, &err);
	if (ret == 0)
		ret = prepare_folder(r, &err);
	if (ret == 0)
		ret = prepare_initrd(r, &err);
	if (ret == 0)
		ret = prepare_start(r, &err);
	if (ret < 0) {
		dprintf(err_fd, "minivmm-ci: %s\n", err.msg);
		goto out;
	}
	raw_terminal(r, true);
	if (r->in < 0)
		input_end(r);
	made = attend(r, &before);
	while (waitpid(r->pid, &status, 0) < 0 && errno == EINTR)
		;
	forward(r, &r->s_out, r->broken ? -1 : r->out);
	forward(r, &r->s_err, r->err);
	show_console(r);
	raw_terminal(r, false);
	end = ending_judge(r, made, status);
out:
	prepare_remove(r);
	kernel_free(&r->kernel);
	free(r);
	return end;
}
