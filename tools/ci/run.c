/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * run.c: one machine, from its kernel to its ending. A folder of its own under /tmp holds the FIFOs that the guest's streams
 * come out of (virtio-9p with pipes=on), its status and its console.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "tools/ci/ci.h"
#include "vmm/log.h"

#define BUFFER (256 << 10)
#define TAIL_LINES 25
#define TROUBLE_MAX 16384
#define ARGS_MAX 256

extern char **environ;

struct stream { int from, keep; };	/* keep: an end of ours, so that the FIFO does not end before we say so */

struct run {
	const struct ci_options *o;
	struct ci_kernel kernel;
	char *dir;
	int initrd, in, out, err;
	int fifo_in, fifo_in_keep;
	struct stream s_out, s_err;
	int console;			/* for --kmsg */
	char *console_path, *log_path;
	pid_t pid;
	bool tty, broken;
	struct termios saved;
	int64_t started, last_output;
};

static char *in_dir(const struct run *r, const char *name)
{
	return xasprintf("%s/%s", r->dir, name);
}

/* --- the guest's first program and what it is told --- */

static char *find_helper(const char *name)
{
	char self[4096], *slash, *path;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	self[n < 0 ? 0 : n] = 0;
	slash = strrchr(self, '/');
	if (slash)
		*slash = 0;
	path = xasprintf("%s/%s", self, name);
	if (access(path, R_OK) == 0)
		return path;
	free(path);
	return xasprintf("%s/%s", MINIVMM_LIBDIR, name);
}

struct text { char *p; size_t len; };

static void tell(struct text *t, const char *key, const char *value)
{
	size_t k = strlen(key) + 1, v = strlen(value) + 1;

	t->p = xrealloc(t->p, t->len + k + v);
	memcpy(t->p + t->len, key, k);
	memcpy(t->p + t->len + k, value, v);
	t->len += k + v;
}

static void tell_number(struct text *t, const char *key, long v)
{
	char text[32];

	snprintf(text, sizeof(text), "%ld", v);
	tell(t, key, text);
}

static bool env_wanted(const char *e)
{
	static const char *const drop[] = { "SSH_", "DBUS_", "XDG_RUNTIME_DIR=", "DISPLAY=", "WAYLAND_", "GPG_", "AWS_",
					    "GITHUB_TOKEN", "GH_TOKEN", "_=" };

	for (size_t i = 0; i < ARRAY_SIZE(drop); i++)
		if (!strncmp(e, drop[i], strlen(drop[i])))
			return false;
	return true;
}

static void tell_all(struct run *r, struct text *t)
{
	static char *shell[2];
	char cwd[4096], size[32];
	struct winsize ws = { 24, 80, 0, 0 };
	gid_t groups[64];
	int n = getgroups(64, groups);

	tell_number(t, "uid", getuid());
	tell_number(t, "gid", getgid());
	for (int i = 0; i < n; i++)
		tell_number(t, "group", groups[i]);
	tell(t, "cwd", getcwd(cwd, sizeof(cwd)) && !r->o->root ? cwd : "/");
	if (r->o->rw)
		tell(t, "rw", cwd);
	if (r->o->net)
		tell(t, "net", "1");
	if (r->tty) {
		ioctl(r->in, TIOCGWINSZ, &ws);
		snprintf(size, sizeof(size), "%d %d", ws.ws_row, ws.ws_col);
		tell(t, "tty", size);
	}
	shell[0] = getenv("SHELL") ? getenv("SHELL") : "/bin/sh";
	for (char **a = r->o->command ? r->o->command : shell; *a; a++)
		tell(t, "arg", *a);
	for (char **e = environ; *e; e++)
		if (env_wanted(*e))
			tell(t, "env", *e);
}

static int make_initrd(struct run *r, struct err *err)
{
	static const char *base[] = { "virtio_pci", "9pnet_virtio", "9p", "overlay", NULL, NULL, NULL };
	char *files[CI_MODULES], name[16], *init;
	struct cpio *c = cpio_new();
	struct text cfg = { 0 };
	int n, ret = 0, k = 4;

	if (r->o->net)
		base[k++] = !strcmp(r->o->net, "virtio") ? "virtio_net" : !strcmp(r->o->net, "e1000") ? "e1000" : "8139cp";
	if (r->o->ndisks)
		base[k++] = "virtio_blk";
	n = kernel_modules(&r->kernel, base, files, err);
	if (n < 0)
		return n;
	init = find_helper("minivmm-ci-init");
	ret = cpio_add(c, "init", 0755, init, err);
	free(init);
	cpio_dir(c, "m");
	cpio_dir(c, "dev");
	for (int i = 0; i < n; i++) {
		const char *suffix = strrchr(files[i], '/');

		snprintf(name, sizeof(name), "m/%03d", i);
		if (ret == 0 && suffix)
			ret = cpio_add(c, name, 0644, files[i], err);
		free(files[i]);
	}
	tell_all(r, &cfg);
	cpio_file(c, "cfg", 0600, cfg.p, cfg.len);
	free(cfg.p);
	if (ret < 0)
		return ret;
	r->initrd = cpio_finish(c, err);
	return MIN(r->initrd, 0);
}

/* --- the folder and its FIFOs --- */

static int make_fifo(struct run *r, const char *name, int *read_end, int *write_end, struct err *err)
{
	char *path = in_dir(r, name);
	int ret = 0;

	if (mkfifo(path, 0600) < 0) {
		ret = err_set(err, errno, "%s: %s", path, strerror(errno));
	} else {
		*read_end = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		*write_end = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
		if (*read_end < 0 || *write_end < 0)
			ret = err_set(err, errno, "%s: %s", path, strerror(errno));
		else
			fcntl(*read_end, F_SETPIPE_SZ, 1 << 20);
	}
	free(path);
	return ret;
}

static int make_folder(struct run *r, struct err *err)
{
	const char *tmp = getenv("TMPDIR");
	char *status;
	int fd, ret = 0;

	r->dir = xasprintf("%s/minivmm-ci-XXXXXX", tmp && *tmp == '/' ? tmp : "/tmp");
	if (!mkdtemp(r->dir))
		return err_set(err, errno, "cannot make a folder %s: %s", r->dir, strerror(errno));
	r->console_path = in_dir(r, "console");
	r->log_path = in_dir(r, "log");
	for (int i = 0; i < 2; i++) {
		char *sub = in_dir(r, i ? "o" : "i");

		if (mkdir(sub, 0700) < 0)
			ret = err_set(err, errno, "%s: %s", sub, strerror(errno));
		free(sub);
	}
	if (ret == 0)
		ret = make_fifo(r, "i/in", &r->fifo_in_keep, &r->fifo_in, err);
	if (ret == 0)
		ret = make_fifo(r, "o/out", &r->s_out.from, &r->s_out.keep, err);
	if (ret == 0)
		ret = make_fifo(r, "o/err", &r->s_err.from, &r->s_err.keep, err);
	status = in_dir(r, "o/status");
	fd = open(status, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	if (ret == 0 && fd < 0)
		ret = err_set(err, errno, "%s: %s", status, strerror(errno));
	if (fd >= 0)
		close(fd);
	free(status);
	return ret;
}

static void remove_folder(struct run *r)
{
	static const char *const names[] = { "i/in", "o/out", "o/err", "o/status", "i", "o", "console", "log", "." };

	if (!r->dir || r->o->keep)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char *path = i + 1 < ARRAY_SIZE(names) ? in_dir(r, names[i]) : xstrdup(r->dir);

		remove(path);
		free(path);
	}
}

/* --- minivmm --- */

/* A comma ends an option's value unless it is doubled. */
static char *escape(const char *s)
{
	char *out = xcalloc(2, strlen(s) + 1), *p = out;

	for (; *s; s++) {
		*p++ = *s;
		if (*s == ',')
			*p++ = ',';
	}
	return out;
}

static char *share(const char *path, const char *tag, const char *more)
{
	char *e = escape(path), *text = xasprintf("virtio-9p,path=%s,mount_tag=%s%s", e, tag, more);

	free(e);
	return text;
}

static char *hidden(const struct run *r)
{
	char *list = xasprintf(",readonly=on,hide=%s", r->dir);

	for (unsigned i = 0; i < r->o->nhides; i++) {
		char *e = escape(r->o->hides[i]), *longer = xasprintf("%s:%s", list, e);

		free(list);
		free(e);
		list = longer;
	}
	return list;
}

static void build_args(struct run *r, char **argv)
{
	const struct ci_options *o = r->o;
	char cwd[4096] = "/", *hide = hidden(r), *path;
	int n = 0;

	argv[n++] = (char *)o->minivmm;
	for (const char *const *p = (const char *const[]){ "-M", "pc", "-nodefaults", "-display", "none", "-no-reboot", "-monitor", "none", NULL }; *p; p++)
		argv[n++] = (char *)*p;
	argv[n++] = "-m";
	argv[n++] = (char *)(o->mem ? o->mem : "1G");
	argv[n++] = "-smp";
	argv[n++] = (char *)(o->cpus ? o->cpus : "1");
	argv[n++] = "-kernel";
	argv[n++] = r->kernel.image;
	argv[n++] = "-initrd";
	argv[n++] = xasprintf("/proc/self/fd/%d", r->initrd);
	argv[n++] = "-append";
	argv[n++] = xasprintf("console=ttyS0 %s panic=-1 net.ifnames=0 %s%s%s", o->kmsg ? "ignore_loglevel" : "quiet",
			      o->oops_fails ? "oops=panic " : "", o->append ? o->append : "", "");
	argv[n++] = "-serial";
	argv[n++] = xasprintf("file:%s", r->console_path);
	argv[n++] = "-device";
	argv[n++] = "isa-debug-exit";
	argv[n++] = "-device";
	argv[n++] = share(o->root ? o->root : "/", "root", hide);
	path = in_dir(r, "i");
	argv[n++] = "-device";
	argv[n++] = share(path, "io-in", ",pipes=on");
	free(path);
	path = in_dir(r, "o");
	argv[n++] = "-device";
	argv[n++] = share(path, "io-out", ",pipes=on");
	free(path);
	if (o->rw && getcwd(cwd, sizeof(cwd))) {
		argv[n++] = "-device";
		argv[n++] = share(cwd, "cwd", strchr(hide + 1, ','));	/* the same without readonly */
	}
	if (o->net) {
		argv[n++] = "-net";
		argv[n++] = xasprintf("nic,model=%s", o->net);
		argv[n++] = "-net";
		argv[n++] = "user";
	} else {
		argv[n++] = "-net";
		argv[n++] = "none";
	}
	for (unsigned i = 0; i < o->ndisks; i++) {
		char *e = escape(o->disks[i]);

		argv[n++] = "-drive";
		argv[n++] = xasprintf("file=%s,if=virtio", e);
		free(e);
	}
	argv[n] = NULL;
	free(hide);
}

static int start(struct run *r, struct err *err)
{
	char *argv[ARGS_MAX];
	pid_t parent = getpid();
	int log;

	build_args(r, argv);
	log = open(r->log_path, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
	if (log < 0)
		return err_set(err, errno, "%s: %s", r->log_path, strerror(errno));
	r->pid = fork();
	if (r->pid == 0) {
		int null = open("/dev/null", O_RDONLY);

		/* Whatever happens to us, no machine stays. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(125);
		setpgid(0, 0);
		dup2(null, 0);
		dup2(log, 1);
		dup2(log, 2);
		execvp(argv[0], argv);
		dprintf(2, "minivmm-ci: cannot run %s: %s\n", argv[0], strerror(errno));
		_exit(125);
	}
	close(log);
	return r->pid < 0 ? err_set(err, errno, "fork: %s", strerror(errno)) : 0;
}

/* --- while it runs --- */

/* What has come out of a FIFO goes on; false when nobody takes it any more. */
static bool forward(struct run *r, struct stream *s, int to)
{
	static char buf[BUFFER];
	ssize_t n;

	while ((n = read(s->from, buf, sizeof(buf))) > 0) {
		r->last_output = now_ns();
		if (to >= 0 && write_full(to, buf, n) < 0)
			return false;
	}
	return true;
}

static void feed(struct run *r, struct pollfd *p)
{
	static char buf[65536];
	static size_t have, at;

	if (at == have) {
		ssize_t n = read(r->in, buf, sizeof(buf));

		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			return;
		if (n <= 0) {
			close(r->fifo_in);		/* end of file for the guest */
			r->fifo_in = -1;
			return;
		}
		have = n;
		at = 0;
	}
	while (at < have) {
		ssize_t n = write(r->fifo_in, buf + at, have - at);

		if (n < 0)
			break;
		at += n;
	}
	/* Wait for the guest to take it before more is read. */
	p->fd = at < have ? r->fifo_in : r->in;
	p->events = at < have ? POLLOUT : POLLIN;
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

static volatile sig_atomic_t interrupted;
static void on_signal(int sig) { interrupted = sig; }

/* Until minivmm ends, by itself or by us. 0, or the ending that we made. */
static int attend(struct run *r)
{
	int pidfd = syscall(SYS_pidfd_open, r->pid, 0), made = 0;
	struct pollfd p[4] = { { r->s_out.from, POLLIN, 0 }, { r->s_err.from, POLLIN, 0 }, { pidfd, POLLIN, 0 }, { r->in, POLLIN, 0 } };

	for (;;) {
		int64_t now = now_ns(), left = INT64_MAX;

		if (r->o->timeout)
			left = r->started + r->o->timeout * NS_PER_SEC - now;
		if (r->o->idle_timeout)
			left = MIN(left, r->last_output + r->o->idle_timeout * NS_PER_SEC - now);
		if (left <= 0)
			made = r->o->timeout && now >= r->started + r->o->timeout * NS_PER_SEC ? END_TIMEOUT : END_HANG;
		else if (interrupted)
			made = 128 + interrupted;
		else if (r->broken)
			made = 128 + SIGPIPE;
		if (made)
			break;
		if (r->o->kmsg)
			left = MIN(left, 100 * NS_PER_MS);
		if (r->fifo_in < 0 || r->in < 0)
			p[3].fd = -1;
		poll(p, 4, left == INT64_MAX ? -1 : (int)MIN(left / NS_PER_MS + 1, 1000000000ll));
		if (!forward(r, &r->s_out, r->out) || !forward(r, &r->s_err, r->err))
			r->broken = true;
		if (p[3].fd >= 0 && p[3].revents)
			feed(r, &p[3]);
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

/* --- the ending --- */

static char *slurp_text(const char *path, size_t max)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *text = xcalloc(1, max + 1);
	off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
	ssize_t n = fd < 0 ? 0 : pread(fd, text, max, size > (off_t)max ? size - (off_t)max : 0);

	text[n < 0 ? 0 : n] = 0;
	if (fd >= 0)
		close(fd);
	return text;
}

static void print_tail(struct run *r, const char *text, const char *title)
{
	static const char *const trouble[] = { "BUG: ", "Oops", "general protection fault", "Kernel panic" };
	const char *p = text + strlen(text);
	int lines = 0;

	if (!*text)
		return;
	while (p > text && lines < TAIL_LINES + 1)
		if (*--p == '\n')
			lines++;
	/* From where it went wrong, when that was earlier. */
	for (size_t i = 0; i < ARRAY_SIZE(trouble); i++) {
		const char *at = strstr(text, trouble[i]);

		if (at && at < p && p - at < TROUBLE_MAX) {
			while (at > text && at[-1] != '\n')
				at--;
			p = at - (at > text);
		}
	}
	dprintf(r->err, "minivmm-ci: %s:\n%s%s", title, p + (*p == '\n'), text[strlen(text) - 1] == '\n' ? "" : "\n");
}

/* What the guest said, what minivmm said, and what stands on the console make one number. */
static int judge(struct run *r, int made, int wait_status)
{
	char *path = in_dir(r, "o/status"), *said = slurp_text(path, 63), *console = slurp_text(r->console_path, 1 << 20);
	char *log = slurp_text(r->log_path, 65536);
	int status = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status), n, end;

	if (made)
		end = made;
	else if (sscanf(said, "exit %d", &n) == 1)
		end = n;
	else if (sscanf(said, "signal %d", &n) == 1)
		end = 128 + n;
	else if (status == END_PANIC || strstr(console, "Kernel panic - not syncing"))
		end = r->o->oops_fails && strstr(console, "Oops") ? END_OOPS : END_PANIC;
	else if (status == END_TRIPLE_FAULT)
		end = END_TRIPLE_FAULT;
	else if (status == END_KVM)
		end = END_KVM;
	else
		end = END_ERROR;
	if (end == END_TIMEOUT)
		dprintf(r->err, "minivmm-ci: time limit of %u s reached\n", r->o->timeout);
	else if (end >= END_PANIC && ci_end_name(end))
		dprintf(r->err, "minivmm-ci: %s\n", ci_end_name(end));
	else if (end == END_ERROR && !strncmp(said, "exit", 4) == 0)
		dprintf(r->err, "minivmm-ci: the machine ended (%d) without the command's status\n", status);
	if (end >= END_PANIC || end == END_TIMEOUT || (end == END_ERROR && strncmp(said, "exit", 4))) {
		if (!r->o->kmsg)
			print_tail(r, console, "last lines of the console");
		print_tail(r, log, "minivmm said");
	}
	if (r->o->log) {
		int fd = open(r->o->log, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0644);

		if (fd < 0 || write_full(fd, console, strlen(console)) < 0 || write_full(fd, log, strlen(log)) < 0)
			dprintf(r->err, "minivmm-ci: --log %s: %s\n", r->o->log, strerror(errno));
		if (fd >= 0)
			close(fd);
	}
	free(path);
	free(said);
	free(console);
	free(log);
	return end;
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

int ci_run(const struct ci_options *o, int in, int out, int err_fd)
{
	struct run r = { .o = o, .in = in, .out = out, .err = err_fd, .console = -1, .fifo_in = -1, .initrd = -1 };
	int status = 0, end = END_ERROR, made, ret;
	struct err err = { 0 };

	r.started = r.last_output = now_ns();
	r.tty = !o->command && in >= 0 && isatty(in) && isatty(out);
	ret = kernel_find(o, &r.kernel, &err);
	if (ret == 0)
		ret = make_folder(&r, &err);
	if (ret == 0)
		ret = make_initrd(&r, &err);
	if (ret == 0)
		ret = start(&r, &err);
	if (ret < 0) {
		dprintf(err_fd, "minivmm-ci: %s\n", err.msg);
		goto out;
	}
	signal(SIGPIPE, SIG_IGN);
	for (const int *s = (const int[]){ SIGINT, SIGTERM, SIGHUP, 0 }; *s; s++)
		sigaction(*s, &(struct sigaction){ .sa_handler = on_signal }, NULL);
	raw_terminal(&r, true);
	if (r.in < 0) {
		close(r.fifo_in);
		r.fifo_in = -1;
	}
	made = attend(&r);
	while (waitpid(r.pid, &status, 0) < 0 && errno == EINTR)
		;
	forward(&r, &r.s_out, r.broken ? -1 : r.out);
	forward(&r, &r.s_err, r.err);
	show_console(&r);
	raw_terminal(&r, false);
	end = judge(&r, made, status);
out:
	remove_folder(&r);
	kernel_free(&r.kernel);
	free(r.dir);
	free(r.console_path);
	free(r.log_path);
	return end;
}
