/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ending.h: -timeout and -idle-timeout, and what is printed when a machine ends badly. Main loop.
 */
#ifndef VMM_MACHINE_ENDING_H
#define VMM_MACHINE_ENDING_H

#include "vmm/machine/machine.h"

/* Before and after the main loop runs. */
void ending_start(struct machine *m);
void ending_stop(struct machine *m);
/* Every vCPU's registers and what on its stack may be return addresses, to the log. All parked. */
void ending_describe(struct machine *m);

#endif
