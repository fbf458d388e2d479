/* SPDX-License-Identifier: GPL-2.0-or-later */
/* main.c: the program: options, signals, daemon, one machine, exit status. Main thread. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/control/command.h"
#include "vmm/control/control.h"
#include "vmm/control/gdb.h"
#include "vmm/kvm/exit_trace.h"
#include "vmm/machine/device_kinds.h"
#include "vmm/machine/machine_state.h"
#include "vmm/machine/screen.h"
#include "vmm/move/snapshot.h"
#include "vmm/parent/daemon.h"
#include "vmm/parent/door.h"
#include "vmm/parent/parent.h"
#include "vmm/start.h"

/* --- signals: one descriptor in the main loop --- */

struct signals {
	struct machine *m;
	int fd;
	bool split;		/* they come from the parent */
	struct loop_fd *watch;
};

static void force_end(void *ctx)
{
	struct machine *m = ctx;

	log_warn("the guest did not power off within %u s (-shutdown-timeout): ending it",
		 m->config->shutdown_timeout);
	vm_request(m->vm, VM_END_SIGNAL, 0);
}

static void take_signal(struct machine *m, int signo)
{
	if (!signo)
		return;
	if (signo == SIGHUP) {
		log_reopen();
		for (unsigned i = 0; i < ARRAY_SIZE(m->serial); i++)
			chardev_reopen(m->serial[i]);
		for (unsigned i = 0; i < m->nconsoles; i++)
			chardev_reopen(m->consoles[i]);
	} else if (m->powering_down || vm_pause_reasons(m->vm) || !m->config->shutdown_timeout ||
		   !machine_powerdown_heard(m)) {
		vm_request(m->vm, VM_END_SIGNAL, 0);
	} else {
		m->powering_down = true;
		machine_powerdown(m);
		loop_timer_set(&m->powerdown_timer,
			       now_ns() + m->config->shutdown_timeout * NS_PER_SEC);
	}
}

static void on_signal(void *ctx, uint32_t events)
{
	struct signals *s = ctx;
	struct signalfd_siginfo info;

	if (read(s->fd, &info, sizeof(info)) == sizeof(info))
		take_signal(s->m, hangup_meaning(info.ssi_signo));
}

/* Signals are the parent's, which tells them once: a terminal sends them to both. */
static void on_parent(void *ctx, uint32_t events)
{
	struct signals *s = ctx;
	int signo = door_read();

	if (signo > 0)
		take_signal(s->m, signo);
	if (signo)
		return;
	log_warn("this machine's parent process is gone: ending");
	loop_fd_del(s->watch);
	s->watch = NULL;
	control_stop_listening(s->m);	/* a machine that follows may have the sockets */
	vm_request(s->m->vm, VM_END_SIGNAL, 0);
}

static void watch_signals(struct signals *s, const sigset_t *set)
{
	s->fd = door_watched();
	s->split = s->fd >= 0;
	if (!s->split)
		s->fd = signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
	s->watch = loop_fd_add(s->m->loop, s->fd, EPOLLIN, s->split ? on_parent : on_signal, s);
}

static void unwatch_signals(struct signals *s)
{
	if (s->watch)
		loop_fd_del(s->watch);
	if (!s->split)
		close(s->fd);
}

static void block_signals(sigset_t *set)
{
	hangup_init();
	sigemptyset(set);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);	/* ulimit -f: an error of one file, as of a full disk */
}

/* --- Ctrl-A keys of the terminal --- */

static bool on_escape(void *ctx, char key)
{
	struct machine *m = ctx;

	if (key == 'x')
		vm_request(m->vm, VM_END_QUIT, 0);
	else if (key == 'c')
		monitor_toggle(m);
	else
		return false;
	return true;
}

/* --- one machine --- */

static bool is_split, is_ready;

/* -dump-config */
static int print_config(struct machine *m)
{
	struct words w = { 0 };
	char *text;
	int ret;

	machine_words(m, &w);
	text = words_text(&w);
	ret = printf("minivmm \\\n%s", text) < 0 || fflush(stdout) ? STATUS_ERROR : STATUS_OK;
	free(text);
	words_free(&w);
	return ret;
}

static int run(struct machine *m, struct config *c, struct err *err)
{
	struct signals signals = { .m = m, .fd = -1 };
	struct host_path pidfile = { NULL, -1 };
	sigset_t set;
	int status;

	block_signals(&set);
	if (machine_start(m, c, err) < 0)
		return STATUS_ERROR;
	if (c->dump_config)
		return print_config(m);
	if (c->dumpdtb)
		return machine_dumpdtb(m, c->dumpdtb, err) < 0 ? STATUS_ERROR : STATUS_OK;
	if (is_split)
		status = door_prepare(c->pidfile, err);
	else
		status = c->pidfile ? daemon_pidfile(c->pidfile, &pidfile, err) : 0;
	if (status < 0)
		return STATUS_ERROR;
	watch_signals(&signals, &set);
	loop_timer_init(&m->powerdown_timer, m->loop, NULL, force_end, m);
	status = STATUS_ERROR;
	if (screen_start(m, err) < 0 || (c->qmp && qmp_start(m, c->qmp, err) < 0) ||
	    (c->monitor && monitor_start(m, c->monitor, err) < 0) ||
	    (c->gdb && gdb_start(m, c->gdb, err) < 0))
		goto out;
	if (m->stdio)
		chardev_on_escape(m->stdio, on_escape, m);
	if (c->daemonize)
		daemon_detach(c->logfile);
	if (is_split)
		door_ready();
	else
		daemon_ready();
	is_ready = true;
	status = machine_run(m, err);
out:
	loop_timer_cancel(&m->powerdown_timer);
	unwatch_signals(&signals);
	host_remove(&m->host, &pidfile);
	return status;
}

/* -verify FILE: the checksums of a saved machine; no machine is made. */
static int verify(const char *file)
{
	struct err err = { "" };

	if (snapshot_verify(file, &err) < 0) {
		log_error("%s", err.msg);
		return STATUS_ERROR;
	}
	printf("%s: every checksum is right\n", file);
	return STATUS_OK;
}

/*
 * The small parent: all it wants to know stands on the command line, whose text it looks at without
 * a word; the machine reads it, and says what is wrong with it.
 */
static int parent(int argc, char **argv)
{
	struct parent_options o = {
		.daemonize = options_find(argc, argv, "daemonize", NULL),
	};

	options_find(argc, argv, "pidfile", &o.pidfile);
	options_find(argc, argv, "D", &o.logfile);
	options_find(argc, argv, "name", &o.name);
	options_find(argc, argv, "uuid", &o.uuid);
	return parent_run(&o, argv);
}

static bool wants_split(int argc, char **argv)
{
	const char *sandbox = NULL;

	options_find(argc, argv, "sandbox", &sandbox);
	return !sandbox || strcmp(sandbox, "split=off");
}

int main(int argc, char **argv)
{
	static struct config config;
	static struct machine machine;
	struct err err = { "" };
	int status;

	log_set_name(argv[0]);
	is_split = door_open();
	if (!is_split && wants_split(argc, argv))
		return parent(argc, argv);
	prctl(PR_SET_NAME, program_invocation_short_name);	/* not "exe" */
	config_init(&config, device_kinds);
	status = options_parse(&config, argc, argv, &err);
	if (status > 0)
		return 0;
	if (status == 0 && config.verify)
		return verify(config.verify);
	if (status == 0)
		status = config_finish(&config, &err);
	if (status == 0 && config.trace)
		status = trace_setup(config.trace, &err);
	if (status == 0 && config.trace)
		status = exit_trace_init(config.kernel, &err);
	for (unsigned i = 0; config.trace && device_kinds[i]; i++)
		if (device_kinds[i]->port)
			exit_trace_port(device_kinds[i]->port, device_kinds[i]->name);
	if (status == 0 && config.logfile && (status = log_set_file(config.logfile, &err)) < 0)
		err_prefix(&err, "-D");
	if (status < 0) {
		log_error("%s", err.msg);
		return STATUS_ERROR;
	}
	if (config.unsupported)
		log_warn("%s: not emulated; the machine starts without", config.unsupported);
	if (config.name)
		prctl(PR_SET_NAME, config.name);
	if (config.daemonize && !is_split && daemon_start() < 0)
		return STATUS_ERROR;
	status = run(&machine, &config, &err);
	command_threads_wait(&machine);
	screen_stop(&machine);
	control_close_all(&machine);
	machine_stop(&machine);
	exit_trace_summary();
	if (err.msg[0])
		log_error("%s", err.msg);
	/* A log file (-D) has it, but whoever started the machine looks at standard error. */
	if (err.msg[0] && config.logfile && !is_ready)
		fprintf(stderr, "minivmm: %s\n", err.msg);
	config_free(&config);
	return status;
}
