/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * display.h: what the guest shows, for whoever looks at it: VNC, the terminal, screendump.
 *
 * A watcher opens a screen, calls screen_update when it wants to know what changed, and reads the
 * picture from the screen's surface until its next call. Nobody watches, nothing is computed. Any
 * thread, one at a time for each screen; no lock held by the caller (the device's loop lock is
 * taken for a moment inside).
 */
#ifndef VMM_BACKENDS_DISPLAY_H
#define VMM_BACKENDS_DISPLAY_H

#include "vmm/base/util.h"

struct surface {
	unsigned width, height;		/* 0 x 0 before the first update */
	uint32_t *pixels;		/* 0x00rrggbb, width of them a line */
};

/* The screen as characters, when the guest shows text. */
#define TEXT_MAX_COLS 256
#define TEXT_MAX_ROWS 128
struct text_screen {
	unsigned cols, rows;
	int cursor_x, cursor_y;		/* -1: not shown */
	/* cols * rows: character (code page 437), attribute << 8 */
	uint16_t cells[TEXT_MAX_COLS * TEXT_MAX_ROWS];
};

struct display;
struct screen;
struct screen_rect { unsigned x, y, w, h; };

struct display_ops {
	struct screen *(*open)(void *ctx);
	void (*close)(struct screen *s);
	/*
	 * Brings the surface up to date. Calls changed for every rectangle that is different;
	 * returns true when the size changed (then all of it is).
	 */
	bool (*update)(struct screen *s, void (*changed)(void *ctx, const struct screen_rect *r),
		       void *ctx);
	const struct surface *(*surface)(struct screen *s);
	/* false: the guest shows graphics (width and height then say how large) */
	bool (*text)(void *ctx, struct text_screen *t, unsigned *width, unsigned *height);
};
struct display {
	const struct display_ops *ops;
	void *ctx;
};

static inline struct screen *screen_open(const struct display *d) { return d->ops->open(d->ctx); }

/* Writes the picture of now as a PNG file. 0 or -errno with the reason. */
int display_screendump(const struct display *d, int fd, struct err *err);

#endif
