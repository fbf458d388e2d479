/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ps2.h: keyboard and mouse at the two ports of the keyboard controller (i8042.c). Main loop.
 */
#ifndef DEVICES_PC_PS2_H
#define DEVICES_PC_PS2_H

#include "devices/device.h"

/* Bytes a device wants to send. Answers to commands go before what the user does. */
#define PS2_REPLIES 8
#define PS2_INPUT 64
struct ps2_queue {
	uint8_t reply[PS2_REPLIES], reply_len;
	uint8_t input[PS2_INPUT], input_len;
};
static inline bool ps2_queue_empty(const struct ps2_queue *q)
{
	return !q->reply_len && !q->input_len;
}
void ps2_reply(struct ps2_queue *q, uint8_t byte);
/* All len bytes or none: half a scan code would be another key. */
bool ps2_input(struct ps2_queue *q, const uint8_t *bytes, size_t len);
uint8_t ps2_queue_pop(struct ps2_queue *q);
void ps2_queue_save(const struct ps2_queue *q, struct state_out *o);
int ps2_queue_load(struct ps2_queue *q, struct state_in *in);

struct ps2_keyboard {
	struct ps2_queue q;
	void (*changed)(void *ctx);	/* there is something to send */
	void (*leds_changed)(void *ctx, unsigned leds);
	void *ctx, *leds_ctx;
	struct vm_clock *clock;
	struct loop_timer repeat;
	uint8_t down[32];		/* bitmap of KEY_*, for typematic and to drop doubles */
	uint16_t repeat_key;		/* KEY_*, 0: none */
	uint8_t command;		/* waits for its argument; 0: none */
	uint8_t last;			/* sent last, for RESEND */
	uint8_t set;			/* scan code set 1-3 */
	uint8_t rate, leds;
	bool scanning;
};
void ps2_keyboard_init(struct ps2_keyboard *k, struct loop *loop, struct vm_clock *clock);
void ps2_keyboard_reset(struct ps2_keyboard *k);
void ps2_keyboard_command(struct ps2_keyboard *k, uint8_t byte);
bool ps2_keyboard_key(struct ps2_keyboard *k, unsigned key, bool down);
void ps2_keyboard_release_all(struct ps2_keyboard *k);
void ps2_keyboard_save(struct ps2_keyboard *k, struct state_out *o);
int ps2_keyboard_load(struct ps2_keyboard *k, struct state_in *in);
/*
 * What the controller makes of a set 2 byte when it translates; *release is the F0 seen before. -1:
 * nothing yet.
 */
int ps2_translate(uint8_t byte, bool *release);

struct ps2_mouse {
	struct ps2_queue q;
	void (*changed)(void *ctx);
	void *ctx;
	int32_t dx, dy, dz;		/* moved and not yet reported */
	uint8_t buttons, reported_buttons;
	uint8_t command, last;
	uint8_t rate, resolution;
	uint8_t rates[3];		/* the last three rates set: they switch the wheel on */
	uint8_t type;			/* 0, 3 wheel, 4 wheel and five buttons */
	bool enabled, remote, wrap, scale21;
};
void ps2_mouse_reset(struct ps2_mouse *m);
void ps2_mouse_command(struct ps2_mouse *m, uint8_t byte);
void ps2_mouse_move(struct ps2_mouse *m, int dx, int dy, int dz, unsigned buttons);
/* The queue has room again: report what has gathered. */
void ps2_mouse_pump(struct ps2_mouse *m);
void ps2_mouse_save(const struct ps2_mouse *m, struct state_out *o);
int ps2_mouse_load(struct ps2_mouse *m, struct state_in *in);

#endif
