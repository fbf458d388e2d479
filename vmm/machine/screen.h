/* SPDX-License-Identifier: GPL-2.0-or-later */
/* screen.h: the machine's screen and keyboard for people: VNC, the terminal, sendkey. Main loop. */
#ifndef VMM_SCREEN_H
#define VMM_SCREEN_H

#include "vmm/machine.h"

struct machine_screen;
/* Starts what -vnc and -display ask for. 0 or -errno with the reason. */
int screen_start(struct machine *m, struct err *err);
void screen_stop(struct machine *m);
/* "ctrl-alt-delete", held for so many ms (0: 100). */
int screen_sendkey(struct machine *m, const char *keys, unsigned hold_ms, struct err *err);

#endif
