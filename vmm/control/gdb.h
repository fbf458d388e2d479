/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gdb.h: a debugger's connection: -gdb tcp::1234 (GDB manual, appendix E: Remote Serial Protocol).
 */
#ifndef VMM_CONTROL_GDB_H
#define VMM_CONTROL_GDB_H

#include "vmm/machine/machine.h"

/* Listens on "tcp:HOST:PORT" or "unix:PATH". 0 or -errno with the reason. */
int gdb_start(struct machine *m, const char *spec, struct err *err);

#endif
