/* SPDX-License-Identifier: GPL-2.0-or-later */
/* dump.h: an ELF core of the guest. */
#ifndef VMM_CONTROL_DUMP_H
#define VMM_CONTROL_DUMP_H

#include "vmm/machine/machine.h"

/*
 * Writes a core file to path; one that could not be finished is removed. A control thread, machine
 * paused. 0 or -errno with the reason.
 */
int dump_guest_memory(struct machine *m, const char *path, struct err *err);

#endif
