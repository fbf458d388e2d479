/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * start.h: from a configuration to a running machine and its end; above machine/ and move/. Main
 * thread.
 */
#ifndef VMM_START_H
#define VMM_START_H

#include "vmm/machine/machine.h"

/*
 * machine_init, then the first state: power-on, or that of -loadvm and -incoming. The machine is
 * paused for PAUSE_BOOT afterwards. 0 or -errno with the reason; machine_stop cleans up after both.
 */
int machine_start(struct machine *m, struct config *c, struct err *err);
/*
 * Starts the vCPU threads and runs the main loop on this thread until the machine ends. Returns the
 * exit status.
 */
int machine_run(struct machine *m, struct err *err);
/* Cancels a migration that is under way, then takes the machine apart. */
void machine_stop(struct machine *m);

#endif
