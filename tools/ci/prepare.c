/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * prepare.c: what a machine needs before it starts: the initial RAM disk with the modules and what
 * the first program is told; a folder of its own under /tmp with the FIFOs that the guest's streams
 * come out of, its status and its console; minivmm's arguments.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/ci/run.h"

#define ARGS_MAX 256

extern char **environ;

char *run_path(const struct run *r, const char *name)
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
	static const char *const drop[] = {
		"SSH_", "DBUS_", "XDG_RUNTIME_DIR=", "DISPLAY=", "WAYLAND_",
		"GPG_", "AWS_",	 "GITHUB_TOKEN",     "GH_TOKEN", "_="
	};

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
	mode_t mask;
	int n = getgroups(64, groups);

	tell_number(t, "uid", getuid());
	tell_number(t, "gid", getgid());
	for (int i = 0; i < n; i++)
		tell_number(t, "group", groups[i]);
	mask = umask(0);
	umask(mask);
	tell_number(t, "umask", mask);
	tell(t, "cwd", getcwd(cwd, sizeof(cwd)) && !r->o->root ? cwd : "/");
	if (r->o->rw)
		tell(t, "rw", cwd);
	if (r->o->net)
		tell(t, "net", "1");
	if (r->tty) {
		if (ioctl(r->in, TIOCGWINSZ, &ws) < 0 || !ws.ws_row || !ws.ws_col)
			ws = (struct winsize){ 24, 80, 0, 0 };
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

/* Without PCI a kernel starts faster; only old cards need it. */
static bool is_micro(const struct run *r)
{
	if (r->o->machine)
		return !strcmp(r->o->machine, "micro");
	return !r->o->net || !strcmp(r->o->net, "virtio");
}

int prepare_initrd(struct run *r, struct err *err)
{
	const char *base[8] = { is_micro(r) ? "virtio_mmio" : "virtio_pci", "9pnet_virtio", "9p",
				"overlay" };
	char *files[CI_MODULES], name[16], *init;
	struct cpio *c = cpio_new();
	struct text cfg = { 0 };
	int n, ret = 0, k = 4;

	base[k++] = "?pvpanic-mmio";
	if (r->o->net)
		base[k++] = !strcmp(r->o->net, "virtio")  ? "virtio_net"
			    : !strcmp(r->o->net, "e1000") ? "e1000"
							  : "8139cp";
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

static int make_fifo(struct run *r, const char *name, int *read_end, int *write_end,
		     struct err *err)
{
	char *path = run_path(r, name);
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

int prepare_folder(struct run *r, struct err *err)
{
	const char *tmp = getenv("TMPDIR");
	char *status;
	int fd, ret = 0;

	r->dir = xasprintf("%s/minivmm-ci-XXXXXX", tmp && *tmp == '/' ? tmp : "/tmp");
	if (!mkdtemp(r->dir)) {
		ret = err_set(err, errno,
			      "cannot make a folder %s: %s (TMPDIR names another place)", r->dir,
			      strerror(errno));
		free(r->dir);
		r->dir = NULL;
		return ret;
	}
	r->console_path = run_path(r, "console");
	r->log_path = run_path(r, "log");
	for (int i = 0; i < 2; i++) {
		char *sub = run_path(r, i ? "o" : "i");

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
	status = run_path(r, "o/status");
	fd = open(status, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	if (ret == 0 && fd < 0)
		ret = err_set(err, errno, "%s: %s", status, strerror(errno));
	if (fd >= 0)
		close(fd);
	free(status);
	return ret;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path) < 0 && errno != ENOENT ? -1 : 0;
}

/* Whatever the guest has put into its shares goes too; links are not followed. */
void prepare_remove(struct run *r)
{
	const int fds[] = { r->fifo_in,	   r->fifo_in_keep, r->s_out.from, r->s_out.keep,
			    r->s_err.from, r->s_err.keep,   r->console,	   r->initrd };

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	if (r->dir && !r->o->keep && nftw(r->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) < 0)
		dprintf(r->err, "minivmm-ci: %s stays behind: %s\n", r->dir, strerror(errno));
	if (r->dir && r->o->keep)
		dprintf(r->err, "minivmm-ci: kept: %s\n", r->dir);
	free(r->dir);
	free(r->console_path);
	free(r->log_path);
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
	for (const char *const *p = (const char *const[]){ "-nodefaults", "-display", "none",
							   "-no-reboot", "-monitor", "none", NULL };
	     *p; p++)
		argv[n++] = (char *)*p;
	argv[n++] = "-M";
	argv[n++] = is_micro(r) ? "micro" : "pc";
	argv[n++] = "-m";
	argv[n++] = (char *)(o->mem ? o->mem : "1G");
	argv[n++] = "-smp";
	argv[n++] = (char *)(o->cpus ? o->cpus : "1");
	argv[n++] = "-kernel";
	argv[n++] = r->kernel.boot;
	argv[n++] = "-initrd";
	argv[n++] = xasprintf("/proc/self/fd/%d", r->initrd);
	argv[n++] = "-append";
	argv[n++] = xasprintf("console=ttyS0 %s panic=-1 nokaslr net.ifnames=0 %s%s%s",
			      o->kmsg ? "ignore_loglevel" : "quiet",
			      /*
			       * Not to look for PCI on 256 buses; with reduced ACPI hardware Linux
			       * would reset by EFI, and that is not there.
			       */
			      is_micro(r) ? "pci=off reboot=a " : "",
			      o->oops_fails ? "oops=panic " : "", o->append ? o->append : "");
	if (o->timeout) {
		argv[n++] = "-timeout";
		argv[n++] = xasprintf("%u", o->timeout);
	}
	if (o->idle_timeout) {
		argv[n++] = "-idle-timeout";
		argv[n++] = xasprintf("%u", o->idle_timeout);
	}
	argv[n++] = "-serial";
	argv[n++] = xasprintf("file:%s", r->console_path);
	argv[n++] = "-device";
	argv[n++] = "isa-debug-exit";
	argv[n++] = "-device";
	argv[n++] = "pvpanic";
	argv[n++] = "-device";
	argv[n++] = share(o->root ? o->root : "/", "root", hide);
	path = run_path(r, "i");
	argv[n++] = "-device";
	argv[n++] = share(path, "io-in", ",pipes=on");
	free(path);
	path = run_path(r, "o");
	argv[n++] = "-device";
	argv[n++] = share(path, "io-out", ",pipes=on");
	free(path);
	if (o->rw && getcwd(cwd, sizeof(cwd))) {
		argv[n++] = "-device";
		/* the same without readonly */
		argv[n++] = share(cwd, "cwd", strchr(hide + 1, ','));
	}
	if (o->net) {
		argv[n++] = "-net";
		argv[n++] = xasprintf("nic,model=%s", o->net);
		argv[n++] = "-net";
		argv[n++] = o->loopback ? xasprintf("user,loopback=%s", o->loopback) : "user";
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

int prepare_start(struct run *r, struct err *err)
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
		sigset_t none;

		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);

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

