/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * record.h: which machines run. Each has a small text file, called by its process number, in
 * /run/minivmm (root's), $XDG_RUNTIME_DIR/minivmm, or without that /tmp/minivmm-UID:
 *
 *	minivmm 1
 *	pid 1234 56789			the parent, and when it started (proc(5), stat, field 22)
 *	machine 1235 56790		the machine's own process
 *	uid 1000
 *	name web
 *	uuid ...
 *	socket QMP /run/web.qmp		what it listens at, with what for
 *	file 8:1 131074			device and inode of each disk it has opened
 *
 * A file appears whole and goes at the machine's end. One that a kill left behind names a process
 * that is gone, or a younger one: whoever reads it takes it away.
 */
#ifndef VMM_BASE_RECORD_H
#define VMM_BASE_RECORD_H

#include <sys/types.h>

#include "vmm/base/util.h"

/*
 * The variable by which a parent tells the process it starts that it is a machine: "SOCKET:PID",
 * the parent's end of the door and its process number.
 */
#define MACHINE_VARIABLE "MINIVMM_PARENT"
#define RECORD_SOCKETS 32
#define RECORD_FILES 64

struct record {
	int pid, machine;
	unsigned uid;
	char *name, *uuid;		/* NULL: none was given */
	unsigned nsockets, nfiles;
	struct record_socket { char *what, *path; } sockets[RECORD_SOCKETS];
	struct record_file { dev_t dev; ino_t ino; } files[RECORD_FILES];
};

/* Writes r, anew or over what it wrote before. 0 or -errno; a machine without a record runs. */
int record_write(const struct record *r);
/*
 * Is the process a machine whose parent is gone? It is on its way to its end, without a record.
 * Only one's own processes tell.
 */
bool record_is_orphan(int pid);
/* Takes away the record of the process. */
void record_remove(int pid);
/*
 * Each machine that runs and that this user may know of; one user's files are no one else's word.
 * fn returns false to end.
 */
void record_each(bool (*fn)(void *ctx, const struct record *r), void *ctx);
/* The socket of that kind; NULL: none. */
const char *record_socket(const struct record *r, const char *what);

#endif
