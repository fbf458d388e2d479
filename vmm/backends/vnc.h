/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vnc.h: the VNC server's door; mod_vnc.c is a module (libvncserver) loaded when -vnc asks for it.
 */
#ifndef VMM_BACKENDS_VNC_H
#define VMM_BACKENDS_VNC_H

#include "vmm/backends/display.h"
#include "vmm/backends/keymap.h"

struct vnc_opts {
	const struct display *display;
	const struct input *input;
	const struct keymap *keymap;
	const char *name;		/* what viewers show as title */
	/* bound and listening; the server's from now on, also on failure */
	int listen_fd;
	bool need_password;		/* nobody gets in until there is one */
	/* at most 8 characters count (the protocol's limit); NULL: none yet */
	const char *password;
};

struct vnc;
struct vnc_ops {
	/* Starts its threads. NULL with the reason. */
	struct vnc *(*start)(const struct vnc_opts *o, struct err *err);
	void (*set_password)(struct vnc *v, const char *password);
	unsigned (*clients)(struct vnc *v);
	void (*stop)(struct vnc *v);
};
/* The module's symbol: struct vnc_ops vnc_module. */

/* curses: the text screen on the terminal (mod_curses.c). */
struct curses_opts {
	const struct display *display;
	const struct input *input;
	const struct keymap *keymap;
	void (*quit)(void *ctx);	/* Ctrl-A X */
	void *ctx;
};
struct curses;
struct curses_ops {
	struct curses *(*start)(const struct curses_opts *o, struct err *err);
	void (*stop)(struct curses *c);
};
/* The module's symbol: struct curses_ops curses_module. */

#endif
