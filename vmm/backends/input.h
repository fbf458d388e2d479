/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * input.h: keys and movements on their way from a person (VNC, the terminal) to the guest's
 * keyboard and pointer.
 */
#ifndef VMM_BACKENDS_INPUT_H
#define VMM_BACKENDS_INPUT_H

#include <stdbool.h>

enum { PS2_BUTTON_LEFT = 1, PS2_BUTTON_RIGHT = 2, PS2_BUTTON_MIDDLE = 4, PS2_BUTTON_SIDE = 8,
       PS2_BUTTON_EXTRA = 16 };

/* Where keys and movements go. Any thread; the callee takes the lock it needs. */
struct input {
	/* KEY_* of linux/input-event-codes.h */
	void (*key)(void *ctx, unsigned key, bool down);
	void (*mouse)(void *ctx, int dx, int dy, int dz, unsigned buttons);	/* PS2_BUTTON_* */
	void *ctx;
	/*
	 * Optional: the pointer is at (x, y) of a picture of w x h; false when the guest has no
	 * absolute pointer: send movements.
	 */
	bool (*pointer)(void *ctx, unsigned x, unsigned y, unsigned w, unsigned h, int dz,
			unsigned buttons);
};

#endif
