/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ps2_mouse.c: a PS/2 mouse (IBM PS/2 Hardware Interface Technical Reference, "Mouse"), which
 * becomes one with a wheel, or with a wheel and five buttons, when the driver sets the sample rates
 * 200, 100, 80 or 200, 200, 80. Main loop.
 */
#include <errno.h>

#include "devices/chips.h"
#include "devices/pc/ps2.h"

enum {
	MOUSE_SCALE_11 = 0xe6, MOUSE_SCALE_21 = 0xe7, MOUSE_RESOLUTION = 0xe8, MOUSE_STATUS = 0xe9,
	MOUSE_STREAM = 0xea,
	MOUSE_READ = 0xeb, MOUSE_UNWRAP = 0xec, MOUSE_WRAP = 0xee, MOUSE_REMOTE = 0xf0,
	MOUSE_TYPE = 0xf2,
	MOUSE_RATE = 0xf3, MOUSE_ENABLE = 0xf4, MOUSE_DISABLE = 0xf5, MOUSE_DEFAULTS = 0xf6,
	MOUSE_RESEND = 0xfe,
	MOUSE_RESET = 0xff,
	MOUSE_ACK = 0xfa, MOUSE_NAK = 0xfc, MOUSE_BAT_OK = 0xaa,
};
/* bytes of movement in the queue; more gathers in dx, dy, dz */
#define PACKETS_WAITING 16
#define MOVE_LIMIT 1000000

static int clamp(int v, int low, int high)
{
	return v < low ? low : v > high ? high : v;
}

/* Takes what has moved, up to what fits into one packet, and builds that. */
static size_t packet_build(struct ps2_mouse *m, uint8_t *p)
{
	int dx = clamp(m->dx, -255, 255), dy = clamp(m->dy, -255, 255), dz = 0;
	size_t n = 3;

	p[0] = (m->buttons & 7) | 0x08 | (dx < 0 ? 0x10 : 0) | (dy < 0 ? 0x20 : 0);
	p[1] = (uint8_t)dx;
	p[2] = (uint8_t)dy;
	if (m->type == 3) {
		dz = clamp(m->dz, -127, 127);
		p[n++] = (uint8_t)dz;
	} else if (m->type == 4) {
		dz = clamp(m->dz, -7, 7);
		p[n++] = (dz & 15) | (m->buttons >> 3 & 3) << 4;
	} else {
		m->dz = 0;
	}
	m->dx -= dx;
	m->dy -= dy;
	m->dz -= dz;
	m->reported_buttons = m->buttons;
	return n;
}

void ps2_mouse_pump(struct ps2_mouse *m)
{
	uint8_t packet[4];
	bool any = false;
	size_t n;

	while (m->enabled && !m->remote && m->q.input_len <= PACKETS_WAITING - sizeof(packet) &&
	       (m->dx || m->dy || (m->dz && m->type) || m->buttons != m->reported_buttons)) {
		n = packet_build(m, packet);
		any |= ps2_input(&m->q, packet, n);
	}
	if (any)
		m->changed(m->ctx);
}

void ps2_mouse_move(struct ps2_mouse *m, int dx, int dy, int dz, unsigned buttons)
{
	m->buttons = buttons & 0x1f;
	if (!m->enabled && !m->remote) {
		m->dx = m->dy = m->dz = 0;	/* counters do not run while reporting is off */
		return;
	}
	m->dx = clamp(m->dx + clamp(dx, -MOVE_LIMIT, MOVE_LIMIT), -MOVE_LIMIT, MOVE_LIMIT);
	/* up is positive here */
	m->dy = clamp(m->dy - clamp(dy, -MOVE_LIMIT, MOVE_LIMIT), -MOVE_LIMIT, MOVE_LIMIT);
	m->dz = clamp(m->dz + clamp(dz, -MOVE_LIMIT, MOVE_LIMIT), -127, 127);
	ps2_mouse_pump(m);
}

static void defaults(struct ps2_mouse *m)
{
	m->rate = 100;
	m->resolution = 2;
	m->scale21 = m->remote = m->enabled = false;
	m->dx = m->dy = m->dz = 0;
	m->q.input_len = 0;
}

void ps2_mouse_reset(struct ps2_mouse *m)
{
	defaults(m);
	memset(&m->q, 0, sizeof(m->q));
	memset(m->rates, 0, sizeof(m->rates));
	m->command = m->last = m->type = 0;
	m->wrap = false;
	m->buttons = m->reported_buttons = 0;
}

static void rate_set(struct ps2_mouse *m, uint8_t rate)
{
	m->rate = rate;
	m->rates[0] = m->rates[1];
	m->rates[1] = m->rates[2];
	m->rates[2] = rate;
	if (m->rates[0] == 200 && m->rates[1] == 100 && m->rates[2] == 80)
		m->type = 3;
	else if (m->rates[0] == 200 && m->rates[1] == 200 && m->rates[2] == 80)
		m->type = 4;
}

static void status_reply(struct ps2_mouse *m)
{
	ps2_reply(&m->q, (m->buttons & 1 ? 4 : 0) | (m->buttons & 4 ? 2 : 0) |
				 (m->buttons & 2 ? 1 : 0) | (m->scale21 ? 0x10 : 0) |
				 (m->enabled ? 0x20 : 0) | (m->remote ? 0x40 : 0));
	ps2_reply(&m->q, m->resolution);
	ps2_reply(&m->q, m->rate);
}

static void command_run(struct ps2_mouse *m, uint8_t byte)
{
	uint8_t packet[4];
	size_t n;

	if (byte == MOUSE_RESEND) {
		ps2_reply(&m->q, m->last);
		return;
	}
	if (byte < MOUSE_SCALE_11 || byte == 0xed || byte == 0xef || byte == 0xf1 ||
	    (byte > MOUSE_DEFAULTS && byte < MOUSE_RESEND)) {
		ps2_reply(&m->q, MOUSE_NAK);
		return;
	}
	ps2_reply(&m->q, MOUSE_ACK);
	switch (byte) {
	case MOUSE_SCALE_11:
	case MOUSE_SCALE_21:
		m->scale21 = byte == MOUSE_SCALE_21;
		break;
	case MOUSE_RESOLUTION:
	case MOUSE_RATE:
		m->command = byte;
		break;
	case MOUSE_STATUS:
		status_reply(m);
		break;
	case MOUSE_STREAM:
		m->remote = false;
		break;
	case MOUSE_READ:
		n = packet_build(m, packet);
		for (size_t i = 0; i < n; i++)
			ps2_reply(&m->q, packet[i]);
		break;
	case MOUSE_WRAP:
		m->wrap = true;
		break;
	case MOUSE_REMOTE:
		m->remote = true;
		m->q.input_len = 0;
		break;
	case MOUSE_TYPE:
		ps2_reply(&m->q, m->type);
		break;
	case MOUSE_ENABLE:
		m->enabled = true;
		break;
	case MOUSE_DISABLE:
		m->enabled = false;
		m->q.input_len = 0;
		break;
	case MOUSE_DEFAULTS:
		defaults(m);
		break;
	case MOUSE_RESET:
		ps2_mouse_reset(m);
		ps2_reply(&m->q, MOUSE_ACK);
		ps2_reply(&m->q, MOUSE_BAT_OK);
		ps2_reply(&m->q, m->type);
		break;
	}
}

void ps2_mouse_command(struct ps2_mouse *m, uint8_t byte)
{
	uint8_t command = m->command;

	m->q.reply_len = 0;
	m->command = 0;
	if (m->wrap && byte != MOUSE_UNWRAP && byte != MOUSE_RESET) {
		ps2_reply(&m->q, byte);
	} else if (byte == MOUSE_UNWRAP) {
		m->wrap = false;
		ps2_reply(&m->q, MOUSE_ACK);
	} else if (command == MOUSE_RATE) {
		rate_set(m, byte);
		ps2_reply(&m->q, MOUSE_ACK);
	} else if (command == MOUSE_RESOLUTION) {
		m->resolution = byte & 3;
		ps2_reply(&m->q, MOUSE_ACK);
	} else {
		command_run(m, byte);
	}
	m->changed(m->ctx);
}

static const struct state_field mouse_fields[] = {
	STATE_FIELD(struct ps2_mouse, STATE_U8, reported_buttons),
	STATE_FIELD(struct ps2_mouse, STATE_U8, command),
	STATE_FIELD(struct ps2_mouse, STATE_U8, last),
	STATE_FIELD(struct ps2_mouse, STATE_U8, rate),
	STATE_FIELD(struct ps2_mouse, STATE_U8, resolution),
	STATE_FIELD(struct ps2_mouse, STATE_BYTES, rates),
	STATE_FIELD(struct ps2_mouse, STATE_U8, type),
	STATE_FIELD(struct ps2_mouse, STATE_BOOL, enabled),
	STATE_FIELD(struct ps2_mouse, STATE_BOOL, remote),
	STATE_FIELD(struct ps2_mouse, STATE_BOOL, wrap),
	STATE_FIELD(struct ps2_mouse, STATE_BOOL, scale21),
};

/*
 * Movement not yet reported and buttons held are the user's and not saved; what the driver was told
 * of buttons is.
 */
void ps2_mouse_save(const struct ps2_mouse *m, struct state_out *o)
{
	state_save_fields(o, m, mouse_fields, ARRAY_SIZE(mouse_fields));
	ps2_queue_save(&m->q, o);
}

int ps2_mouse_load(struct ps2_mouse *m, struct state_in *in)
{
	int ret;

	ps2_mouse_reset(m);
	ret = state_load_fields(in, m, mouse_fields, ARRAY_SIZE(mouse_fields));
	if (!ret)
		ret = ps2_queue_load(&m->q, in);
	if (!ret && ((m->type != 0 && m->type != 3 && m->type != 4) || m->resolution > 3 ||
		     m->reported_buttons > 31))
		ret = state_bad(in, "mouse type %u, resolution %u, buttons 0x%x", m->type,
				m->resolution, m->reported_buttons);
	if (ret < 0)
		ps2_mouse_reset(m);
	return ret;
}
