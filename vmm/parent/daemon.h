/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon.h: -daemonize and what service managers want: a process number in a file, and to be told
 * when the machine is there. Main thread.
 */
#ifndef VMM_PARENT_DAEMON_H
#define VMM_PARENT_DAEMON_H

#include "vmm/base/host.h"

/*
 * Goes on in a child; the parent waits and ends with 0 when daemon_ready is called, with an error
 * when the child ends before.
 */
int daemon_start(void);
/*
 * The machine is there: lets the process end that waits in daemon_start, tells systemd
 * (NOTIFY_SOCKET).
 */
void daemon_ready(void);
/* What daemon_ready needs open; -1: nothing. */
int daemon_descriptor(void);
/* Lets go of the terminal; with a log file of the messages too, else they go to nowhere. */
void daemon_detach(const char *logfile);
/*
 * own: what host_remove takes away at the end. 0 or -errno with the reason: -EBUSY when another
 * running machine has it.
 */
int daemon_pidfile(const char *path, struct host_path *own, struct err *err);

/*
 * SIGHUP means three things. After daemon_start, before signals are blocked: takes down whether
 * there is a terminal, and whether SIGHUP is ignored (nohup).
 */
void hangup_init(void);
/*
 * What a signal that came means: SIGTERM when it is a SIGHUP and the terminal is gone, 0 when it is
 * ignored, else what it is (SIGHUP: open the logs anew).
 */
int hangup_meaning(int signo);

#endif
