/* SPDX-License-Identifier: GPL-2.0-or-later */
/* screen.h: the machine's screen and keyboard for people: VNC, the terminal, sendkey. Main loop. */
#ifndef VMM_MACHINE_SCREEN_H
#define VMM_MACHINE_SCREEN_H

#include "vmm/machine/machine.h"

struct machine_screen;
/* Starts what -vnc and -display ask for. 0 or -errno with the reason. */
int screen_start(struct machine *m, struct err *err);
void screen_stop(struct machine *m);
/* "ctrl-alt-delete", held for so many ms (0: 100). */
int screen_sendkey(struct machine *m, const char *keys, unsigned hold_ms, struct err *err);
/* The password that VNC viewers must give from now on. 0 or -errno with the reason. */
int screen_set_password(struct machine *m, const char *password, struct err *err);

/* The VNC server; the strings belong to the screen and live as long as it. */
struct vnc_info {
	const char *host;		/* or the socket's path */
	const char *service;		/* port number; empty for a unix socket */
	bool is_unix, password;
	unsigned viewers;
};
/* false: the machine has none. */
bool screen_vnc_info(struct machine *m, struct vnc_info *info);

#endif
