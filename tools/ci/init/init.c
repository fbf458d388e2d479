/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * init.c: the first program inside a minivmm-ci machine, static, alone in the initial RAM disk.
 * Loads the modules that lie in /m, mounts the host's tree (9p, read-only, under an overlay in
 * memory), runs one command as the host's user would, carries its three streams, and hands its wait
 * status to the host.
 *
 * /cfg is a list of "key\0value\0". The streams are files of two 9p shares, each a FIFO of the
 * host. With a terminal, what comes in is in pieces: a type (d: bytes typed, w: rows and columns),
 * a length of two bytes, the bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define MAX_LIST 4096
#define BUFFER (256 << 10)
#define DEBUG_EXIT 0x501
#define P9_OPTIONS "trans=virtio,version=9p2000.L,msize=512000,access=any"

static struct {
	int uid, gid, ngroups, net, rows, columns, tty, umask, console;
	gid_t groups[64];
	const char *cwd, *rw;
	char *argv[MAX_LIST + 1], *env[MAX_LIST + 1];
	int argc, envc;
} cfg;
static int in_fd = -1, out_fd = -1, err_fd = -1, status_fd = -1;

/* The machine ends here, one way or another. */
static void end(void)
{
	sync();
	/* isa-debug-exit is the short way; without it, the long one. */
	if (ioperm(DEBUG_EXIT, 1, 1) == 0)
		outb(0, DEBUG_EXIT);
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

static void report(const char *fmt, ...)
{
	char text[64];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (status_fd < 0 || write(status_fd, text, n) != n)
		printf("minivmm-ci-init: cannot hand over: %s\n", text);
}

/* Our own failure: on the console, which the host shows. */
static void die(const char *what)
{
	printf("minivmm-ci-init: %s: %s\n", what, strerror(errno));
	fflush(stdout);
	report("error\n");
	end();
}

static void read_config(void)
{
	static char text[1 << 20];
	int fd = open("/cfg", O_RDONLY), n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (n < 0)
		die("/cfg");
	close(fd);
	for (char *p = text; p < text + n;) {
		char *key = p, *value = p + strlen(p) + 1;

		p = value + strlen(value) + 1;
		if (!strcmp(key, "uid"))
			cfg.uid = atoi(value);
		else if (!strcmp(key, "gid"))
			cfg.gid = atoi(value);
		else if (!strcmp(key, "console"))
			cfg.console = 1;
		else if (!strcmp(key, "umask"))
			cfg.umask = atoi(value);
		else if (!strcmp(key, "group") && cfg.ngroups < 64)
			cfg.groups[cfg.ngroups++] = atoi(value);
		else if (!strcmp(key, "cwd"))
			cfg.cwd = value;
		else if (!strcmp(key, "rw"))
			cfg.rw = value;
		else if (!strcmp(key, "net"))
			cfg.net = 1;
		else if (!strcmp(key, "tty") &&
			 sscanf(value, "%d %d", &cfg.rows, &cfg.columns) == 2)
			cfg.tty = 1;
		else if (!strcmp(key, "arg") && cfg.argc < MAX_LIST)
			cfg.argv[cfg.argc++] = value;
		else if (!strcmp(key, "env") && cfg.envc < MAX_LIST)
			cfg.env[cfg.envc++] = value;
	}
}

static void load_modules(void)
{
	char path[32];

	for (int i = 0;; i++) {
		int fd;

		snprintf(path, sizeof(path), "/m/%03d", i);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return;
		if (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST)
			printf("minivmm-ci-init: module %d: %s\n", i, strerror(errno));
		close(fd);
		unlink(path);
	}
}

static void mount_or_die(const char *what, const char *where, const char *type, unsigned long flags,
			 const char *options)
{
	mkdir(where, 0755);
	if (mount(what, where, type, flags, options) < 0)
		die(where);
}

static int open_stream(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	if (fd < 0)
		die(path);
	return fd;
}

static void mount_streams(void)
{
	mount_or_die("io-in", "/i", "9p", 0, P9_OPTIONS ",cache=none");
	mount_or_die("io-out", "/x", "9p", 0, P9_OPTIONS ",cache=none");
	status_fd = open_stream("/x/status", O_WRONLY);
	/* 9p: what is there, not all that was asked for */
	in_fd = open_stream("/i/in", O_RDONLY | O_NONBLOCK);
	out_fd = open_stream("/x/out", O_WRONLY);
	err_fd = open_stream("/x/err", O_WRONLY);
}

static void mount_tree(void)
{
	char path[4200];

	/* "console" is for benchmarks: a VMM that cannot pass streams on. */
	if (cfg.console) {
		mkdir("/dev", 0755);
		mount_or_die("devtmpfs", "/dev", "devtmpfs", 0, NULL);
		in_fd = open_stream("/dev/null", O_RDONLY);
		out_fd = open_stream("/dev/console", O_WRONLY);
		err_fd = dup(out_fd);
		status_fd = dup(out_fd);
	} else {
		mount_streams();
	}
	/*
	 * Nothing below it changes while the machine runs that the guest has to see: cache as you
	 * like.
	 */
	mount_or_die("root", "/r", "9p", MS_RDONLY | MS_NODEV, P9_OPTIONS ",cache=loose");
	mount_or_die("tmpfs", "/o", "tmpfs", 0, "mode=0755");
	mkdir("/o/up", 0755);
	mkdir("/o/work", 0755);
	mount_or_die("overlay", "/n", "overlay", 0, "lowerdir=/r,upperdir=/o/up,workdir=/o/work");
	if (cfg.rw) {
		snprintf(path, sizeof(path), "/n%s", cfg.rw);
		if (mount("cwd", path, "9p", MS_NODEV, P9_OPTIONS ",cache=mmap") < 0)
			die("the folder to write to (--rw)");
	}
	mount_or_die("proc", "/n/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_or_die("sysfs", "/n/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_or_die("devtmpfs", "/n/dev", "devtmpfs", MS_NOSUID, NULL);
	mount_or_die("devpts", "/n/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
		     "mode=0620,ptmxmode=0666");
	mount_or_die("tmpfs", "/n/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
	mount_or_die("tmpfs", "/n/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755");
	mkdir("/n/run/lock", 01777);
	if (symlink("/proc/self/fd", "/n/dev/fd") < 0 ||
	    symlink("/proc/self/fd/0", "/n/dev/stdin") < 0 ||
	    symlink("/proc/self/fd/1", "/n/dev/stdout") < 0 ||
	    symlink("/proc/self/fd/2", "/n/dev/stderr") < 0)
		printf("minivmm-ci-init: /dev/fd: %s\n", strerror(errno));
	if (chdir("/n") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
	    chdir("/") < 0)
		die("the new root");
}

static int if_flags(int fd, const char *name, int flags)
{
	struct ifreq r = { 0 };

	strncpy(r.ifr_name, name, IFNAMSIZ - 1);
	if (ioctl(fd, SIOCGIFFLAGS, &r) < 0)
		return -1;
	r.ifr_flags |= flags;
	return ioctl(fd, SIOCSIFFLAGS, &r);
}

static int if_address(int fd, unsigned long request, const char *name, const char *addr)
{
	struct ifreq r = { 0 };
	struct sockaddr_in *sa = (struct sockaddr_in *)&r.ifr_addr;

	strncpy(r.ifr_name, name, IFNAMSIZ - 1);
	sa->sin_family = AF_INET;
	inet_pton(AF_INET, addr, &sa->sin_addr);
	return ioctl(fd, request, &r);
}

/* What minivmm's user network always gives its first guest. */
static void start_network(void)
{
	struct rtentry route = { .rt_flags = RTF_UP | RTF_GATEWAY };
	struct sockaddr_in *gw = (struct sockaddr_in *)&route.rt_gateway;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	FILE *f;

	if_flags(fd, "lo", IFF_UP);
	if (!cfg.net)
		goto out;
	route.rt_dst.sa_family = route.rt_genmask.sa_family = gw->sin_family = AF_INET;
	inet_pton(AF_INET, "10.0.2.2", &gw->sin_addr);
	if (if_address(fd, SIOCSIFADDR, "eth0", "10.0.2.15") < 0 ||
	    if_address(fd, SIOCSIFNETMASK, "eth0", "255.255.255.0") < 0 ||
	    if_flags(fd, "eth0", IFF_UP) < 0 || ioctl(fd, SIOCADDRT, &route) < 0)
		die("network eth0");
	unlink("/etc/resolv.conf");
	f = fopen("/etc/resolv.conf", "w");
	if (f) {
		fputs("nameserver 10.0.2.3\n", f);
		fclose(f);
	}
out:
	close(fd);
}

/* --- streams: a thread each, so that killing every process leaves them --- */

struct pump { int from, to; };

static void *pump(void *arg)
{
	struct pump *p = arg;
	char *buf = malloc(BUFFER);

	for (;;) {
		ssize_t n = read(p->from, buf, BUFFER), done = 0;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;			/* a pty whose last user is gone gives EIO */
		while (done < n) {
			ssize_t k = write(p->to, buf + done, n - done);

			if (k < 0 && errno == EINTR)
				continue;
			if (k <= 0)
				goto out;
			done += k;
		}
	}
out:
	close(p->from);
	close(p->to);
	free(buf);
	return NULL;
}

static pthread_t start_pump(int from, int to)
{
	struct pump *p = malloc(sizeof(*p));
	pthread_t t;

	*p = (struct pump){ from, to };
	if (pthread_create(&t, NULL, pump, p))
		die("a thread");
	return t;
}

/* The command's process: never returns. */
static void run(int in, int out, int err, const char *tty)
{
	setsid();
	signal(SIGPIPE, SIG_DFL);
	umask(cfg.umask);
	if (tty) {
		int fd = open(tty, O_RDWR);

		ioctl(fd, TIOCSCTTY, 0);
		in = out = err = fd;
	}
	dup2(in, 0);
	dup2(out, 1);
	dup2(err, 2);
	syscall(SYS_close_range, 3, ~0u, 0);
	if (setgroups(cfg.ngroups, cfg.groups) < 0 || setgid(cfg.gid) < 0 || setuid(cfg.uid) < 0) {
		dprintf(2, "minivmm-ci: user %d: %s\n", cfg.uid, strerror(errno));
		_exit(125);
	}
	if (chdir(cfg.cwd) < 0) {
		dprintf(2, "minivmm-ci: %s: %s\n", cfg.cwd, strerror(errno));
		_exit(125);
	}
	environ = cfg.env;
	execvp(cfg.argv[0], cfg.argv);
	dprintf(2, "minivmm-ci: %s: %s\n", cfg.argv[0],
		errno == ENOENT ? "command not found" : strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

static void set_pipe(int fds[2])
{
	if (pipe2(fds, O_CLOEXEC) < 0)
		die("a pipe");
	fcntl(fds[0], F_SETPIPE_SZ, 1 << 20);
}

static pid_t start_on_pipes(pthread_t threads[2])
{
	int in[2], out[2], err[2];
	pid_t pid;

	set_pipe(in);
	set_pipe(out);
	set_pipe(err);
	pid = fork();
	if (pid == 0)
		run(in[0], out[1], err[1], NULL);
	close(in[0]);
	close(out[1]);
	close(err[1]);
	start_pump(in_fd, in[1]);
	threads[0] = start_pump(out[0], out_fd);
	threads[1] = start_pump(err[0], err_fd);
	return pid;
}

/* Whole pieces are asked for: some kernels' 9p waits until a read is complete. */
static bool take(void *buf, size_t len)
{
	for (size_t at = 0; at < len;) {
		ssize_t n = read(in_fd, (char *)buf + at, len - at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		at += n;
	}
	return true;
}

static void *type_in(void *arg)
{
	int master = (intptr_t)arg;
	static unsigned char head[3], data[65536];

	while (take(head, 3) && take(data, head[1] | head[2] << 8)) {
		size_t len = head[1] | head[2] << 8;

		if (head[0] == 'w' && len == 4) {
			struct winsize ws = { .ws_row = data[0] | data[1] << 8,
					      .ws_col = data[2] | data[3] << 8 };

			/* the kernel tells the foreground by SIGWINCH */
			ioctl(master, TIOCSWINSZ, &ws);
		}
		for (size_t at = 0; head[0] == 'd' && at < len;) {
			ssize_t n = write(master, data + at, len - at);

			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0)
				return NULL;
			at += n;
		}
	}
	return NULL;
}

static pid_t start_on_tty(pthread_t threads[2])
{
	struct winsize ws = { .ws_row = cfg.rows, .ws_col = cfg.columns };
	int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC), unlock = 0, n;
	char name[32];
	pthread_t typing;
	pid_t pid;

	if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0 || ioctl(master, TIOCGPTN, &n) < 0)
		die("a terminal");
	ioctl(master, TIOCSWINSZ, &ws);
	snprintf(name, sizeof(name), "/dev/pts/%d", n);
	if (chown(name, cfg.uid, 5) < 0)
		die(name);
	pid = fork();
	if (pid == 0)
		run(-1, -1, -1, name);
	if (pthread_create(&typing, NULL, type_in, (void *)(intptr_t)dup(master)))
		die("a thread");
	threads[0] = threads[1] = start_pump(master, out_fd);
	return pid;
}

int main(void)
{
	pthread_t threads[2];
	pid_t pid, got;
	int status;

	umask(0);
	setvbuf(stdout, NULL, _IONBF, 0);
	signal(SIGPIPE, SIG_IGN);
	read_config();
	load_modules();
	mount_tree();
	umask(022);
	start_network();
	pid = cfg.tty ? start_on_tty(threads) : start_on_pipes(threads);
	if (pid < 0)
		die("fork");
	do
		got = wait(&status);
	while (got != pid && (got > 0 || errno == EINTR));
	/* What the command left behind would hold the streams open. */
	kill(-1, SIGKILL);
	while (wait(NULL) > 0)
		;
	pthread_join(threads[0], NULL);
	if (threads[1] != threads[0])
		pthread_join(threads[1], NULL);
	if (WIFSIGNALED(status))
		report("signal %d\n", WTERMSIG(status));
	else
		report("exit %d\n", WEXITSTATUS(status));
	end();
	return 0;
}
