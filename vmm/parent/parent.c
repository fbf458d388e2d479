/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * parent.c: see parent.h and README.md. The main thread waits for signals and for the machine's
 * end; server.c's threads do what the machine asks.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/base/record.h"
#include "vmm/parent/daemon.h"
#include "vmm/parent/door.h"
#include "vmm/parent/parent.h"
#include "vmm/parent/server.h"

#define STATUS_CANNOT_START 125
#define HIGH_FD 200	/* numbers below are the user's to name */

extern char **environ;

struct parent {
	const struct parent_options *o;
	int sock, machine;
	struct host_path pidfile;
	pthread_mutex_t lock;		/* of what is below: threads of the server */
	struct record record;
	bool stands, recorded;		/* with its first socket, or when it runs */
	bool over;
	bool runs;			/* atomic */
};

/* --- what the machine asks of the parent itself --- */

static char *one_word(const char *text)
{
	char *word = xstrdup(*text ? text : "?");

	for (char *p = word; *p; p++)
		if ((unsigned char)*p <= ' ')
			*p = '-';
	return word;
}

/* "guest=web,debug-threads=on" is QEMU's way to say "web". */
static char *plain_name(const char *name)
{
	if (name && !strncmp(name, "guest=", strlen("guest=")))
		name += strlen("guest=");
	return name ? strndup(name, strcspn(name, ",")) : NULL;
}

/* What was made is told to whoever looks for machines; one without a record runs as well. */
static void write_record(struct parent *p)
{
	int ret = p->over ? 0 : record_write(&p->record);

	if (ret < 0 && !p->recorded)
		log_debug("no record of this machine: %s", strerror(-ret));
	p->recorded = true;
}

static void listens(void *ctx, const char *what, const char *path, bool now)
{
	struct parent *p = ctx;
	struct record *r = &p->record;
	char cwd[4096], *whole;

	if (*path != '/' && !getcwd(cwd, sizeof(cwd)))
		return;
	whole = *path == '/' ? xstrdup(path) : xasprintf("%s/%s", cwd, path);
	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < r->nsockets; i++)
		if (!strcmp(r->sockets[i].path, whole)) {
			free(r->sockets[i].what);
			free(r->sockets[i].path);
			r->sockets[i--] = r->sockets[--r->nsockets];
		}
	if (now && r->nsockets < RECORD_SOCKETS)
		r->sockets[r->nsockets++] = (struct record_socket){ one_word(what),
								    xstrdup(whole) };
	if (p->stands)
		write_record(p);
	pthread_mutex_unlock(&p->lock);
	free(whole);
}

static void has_disk(void *ctx, const struct stat *st)
{
	struct parent *p = ctx;
	struct record *r = &p->record;
	unsigned i = 0;

	pthread_mutex_lock(&p->lock);
	while (i < r->nfiles && (r->files[i].dev != st->st_dev || r->files[i].ino != st->st_ino))
		i++;
	if (i == r->nfiles && i < RECORD_FILES) {
		r->files[r->nfiles++] = (struct record_file){ st->st_dev, st->st_ino };
		if (p->recorded)
			write_record(p);
	}
	pthread_mutex_unlock(&p->lock);
}

static int prepare(void *ctx, struct err *err)
{
	struct parent *p = ctx;

	pthread_mutex_lock(&p->lock);
	p->stands = true;
	pthread_mutex_unlock(&p->lock);

	/* Once: the rest of the machine's life it might ask anything. */
	if (!p->o->pidfile || p->pidfile.path)
		return 0;
	return daemon_pidfile(p->o->pidfile, &p->pidfile, err);
}

static void ready(void *ctx)
{
	struct parent *p = ctx;

	if (p->o->daemonize)
		daemon_detach(p->o->logfile);
	daemon_ready();
	__atomic_store_n(&p->runs, true, __ATOMIC_RELEASE);
	pthread_mutex_lock(&p->lock);
	if (!p->recorded)
		write_record(p);
	pthread_mutex_unlock(&p->lock);
}

static const struct server_ops ops = { .prepare = prepare, .ready = ready, .listens = listens,
				       .has_disk = has_disk };

/* --- starting it --- */

/* The environment and one variable more; the caller frees both. */
static char **with_variable(char *variable)
{
	size_t n = 0;
	char **env;

	while (environ[n])
		n++;
	env = xcalloc(n + 2, sizeof(*env));
	memcpy(env, environ, n * sizeof(*env));
	env[n] = variable;
	return env;
}

/*
 * Its number, or -errno. sock: the machine's end. By vfork: posix_spawn asks the kernel about each
 * signal, 128 calls of a start that is counted in milliseconds. No handler of ours is set yet.
 */
static int start_machine(int sock, char *const argv[], const sigset_t *mask)
{
	char *variable = xasprintf("%s=%d:%d", MACHINE_VARIABLE, sock, getpid());
	char **env = with_variable(variable);
	volatile int failed = 0;
	int pid = vfork();

	if (pid == 0) {
		fcntl(sock, F_SETFD, 0);
		sigprocmask(SIG_SETMASK, mask, NULL);
		execve("/proc/self/exe", argv, env);
		failed = errno;
		_exit(127);
	}
	if (pid < 0)
		failed = errno;
	else if (failed)
		waitpid(pid, NULL, 0);
	free(env);
	free(variable);
	return failed ? -failed : pid;
}

static int high(int fd)
{
	int other = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);

	if (other < 0)
		return fd;
	close(fd);
	return other;
}

/* All but the first three and these two (b may be -1). */
static void close_others(int a, int b)
{
	int low = b < 0 ? a : MIN(a, b), top = MAX(a, b);

	close_range(3, low - 1, 0);
	if (low + 1 < top)
		close_range(low + 1, top - 1, 0);
	close_range(top + 1, ~0u, 0);
}

/* --- signals --- */

static const int passed[] = { SIGTERM, SIGINT, SIGHUP };

static void pass_on(struct parent *p, int signo)
{
	struct wire_signal s = { hangup_meaning(signo) };

	switch (s.signal) {
	case 0:
		break;
	case SIGQUIT:
		kill(p->machine, SIGQUIT);
		break;
	case SIGTSTP:
		/* The whole job stands: the machine, whose terminal may have told it already. */
		kill(p->machine, SIGSTOP);
		raise(SIGSTOP);
		kill(p->machine, SIGCONT);
		break;
	case SIGCONT:
		kill(p->machine, SIGCONT);
		break;
	default:
		/* A machine that reads none is stuck: it has enough of them. */
		wire_send(p->sock, &s, sizeof(s), NULL, 0, MSG_DONTWAIT);
	}
}

static void watched_signals(sigset_t *set)
{
	sigemptyset(set);
	for (size_t i = 0; i < ARRAY_SIZE(passed); i++)
		sigaddset(set, passed[i]);
	sigaddset(set, SIGQUIT);
	sigaddset(set, SIGTSTP);
	sigaddset(set, SIGCONT);
	sigaddset(set, SIGCHLD);
}

/* A signal that came; true: the machine is gone, and this is how. */
static bool take_signal(struct parent *p, int fd, siginfo_t *end)
{
	struct signalfd_siginfo s;

	if (read(fd, &s, sizeof(s)) != sizeof(s))
		return false;
	if (s.ssi_signo != SIGCHLD) {
		pass_on(p, s.ssi_signo);
		return false;
	}
	end->si_pid = 0;
	return waitid(P_PID, p->machine, end, WEXITED | WNOHANG) == 0 && end->si_pid;
}

/*
 * Until the machine is gone. While it starts its wishes are done here, one after the other, as it
 * has them: threads would cost a start more than they are worth. When it runs they come.
 */
static void watch(struct parent *p, const sigset_t *set, siginfo_t *end)
{
	struct pollfd f[] = { { signalfd(-1, set, SFD_CLOEXEC), POLLIN, 0 },
			      { p->sock, POLLIN, 0 } };

	for (;;) {
		if (poll(f, f[1].fd < 0 ? 1 : 2, -1) < 0)
			continue;
		if (f[0].revents && take_signal(p, f[0].fd, end))
			return;
		if (f[1].fd >= 0 && f[1].revents && !server_step())
			f[1].fd = -1;
		if (f[1].fd >= 0 && __atomic_load_n(&p->runs, __ATOMIC_ACQUIRE)) {
			f[1].fd = -1;
			if (server_start() < 0)
				log_error("the parent has no thread to serve the machine");
		}
	}
}

/* --- the end --- */

static void report(struct parent *p, int signo, bool core)
{
	struct err err = { "" };

	if (p->o->logfile && log_set_file(p->o->logfile, &err) < 0)
		log_error("-D: %s", err.msg);
	if (signo == SIGKILL)
		log_error("the machine (process %d) was killed: by kill -9, or for want of memory",
			  p->machine);
	else
		log_error("the machine (process %d) ended by signal %d (%s)%s", p->machine, signo,
			  strsignal(signo), core ? ", core dumped" : "");
}

/* As the machine, so that whoever started us sees what it always saw. */
static int end_as(int signo)
{
	struct rlimit none = { 0, 0 };
	sigset_t set;

	setrlimit(RLIMIT_CORE, &none);		/* its core is there; ours tells nothing */
	signal(signo, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, signo);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	raise(signo);
	return 128 + signo;
}

int parent_run(const struct parent_options *o, char *const argv[])
{
	static struct parent p;		/* threads of the server see it until the very end */
	int pair[2], ret;
	sigset_t set, old;
	siginfo_t end;

	p = (struct parent){ .o = o, .pidfile = { .fd = -1 }, .lock = PTHREAD_MUTEX_INITIALIZER };
	if (o->daemonize && daemon_start() < 0)
		return STATUS_CANNOT_START;
	hangup_init();
	watched_signals(&set);
	sigprocmask(SIG_BLOCK, &set, &old);
	ret = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ? -errno : 0;
	if (ret == 0) {
		p.sock = high(pair[0]);
		pair[1] = high(pair[1]);
		ret = p.machine = start_machine(pair[1], argv, &old);
		close(pair[1]);
	}
	if (ret < 0) {
		log_error("the machine's process cannot be started: %s", strerror(-ret));
		return STATUS_CANNOT_START;
	}
	/* What was passed to the program is the machine's: a pipe ends when it closes it. */
	close_others(p.sock, daemon_descriptor());
	signal(SIGPIPE, SIG_IGN);
	mallopt(M_ARENA_MAX, 1);
	if (o->name)
		prctl(PR_SET_NAME, o->name);
	p.record = (struct record){ .pid = getpid(), .machine = p.machine, .uid = geteuid(),
				    .name = plain_name(o->name), .uuid = (char *)o->uuid };
	server_init(p.sock, p.machine, &ops, &p);
	watch(&p, &set, &end);
	server_clean();
	host_remove(&host_direct, &p.pidfile);
	pthread_mutex_lock(&p.lock);
	p.over = true;			/* a thread of the server writes no other */
	record_remove(getpid());
	pthread_mutex_unlock(&p.lock);
	if (end.si_code == CLD_EXITED)
		return end.si_status;
	report(&p, end.si_status, end.si_code == CLD_DUMPED);
	return end_as(end.si_status);
}
