/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ps2.c: an enhanced PC keyboard: scan code sets 1, 2 and 3, typematic, LEDs (IBM PS/2 Hardware
 * Interface Technical Reference, "Keyboard (101- and 102-key)"); and the queue both PS/2 devices
 * send from. Main loop.
 */
#include <errno.h>
#include <linux/input-event-codes.h>

#include "devices/pc/ps2.h"

/* --- the queue --- */

void ps2_reply(struct ps2_queue *q, uint8_t byte)
{
	if (q->reply_len < PS2_REPLIES)
		q->reply[q->reply_len++] = byte;
}

bool ps2_input(struct ps2_queue *q, const uint8_t *bytes, size_t len)
{
	if (len > PS2_INPUT - (size_t)q->input_len)
		return false;
	memcpy(q->input + q->input_len, bytes, len);
	q->input_len += len;
	return true;
}

uint8_t ps2_queue_pop(struct ps2_queue *q)
{
	uint8_t byte = 0;

	if (q->reply_len) {
		byte = q->reply[0];
		memmove(q->reply, q->reply + 1, --q->reply_len);
	} else if (q->input_len) {
		byte = q->input[0];
		memmove(q->input, q->input + 1, --q->input_len);
	}
	return byte;
}

void ps2_queue_save(const struct ps2_queue *q, struct state_out *o)
{
	state_bytes(o, "replies", q->reply, q->reply_len);
	state_bytes(o, "input", q->input, q->input_len);
}

int ps2_queue_load(struct ps2_queue *q, struct state_in *in)
{
	const void *p;
	size_t len;

	memset(q, 0, sizeof(*q));
	if (state_get_blob(in, "replies", &p, &len, PS2_REPLIES) < 0)
		return -EINVAL;
	memcpy(q->reply, p, len);
	q->reply_len = (uint8_t)len;
	if (state_get_blob(in, "input", &p, &len, PS2_INPUT) < 0)
		return -EINVAL;
	memcpy(q->input, p, len);
	q->input_len = (uint8_t)len;
	return 0;
}

/* --- scan codes --- */

/*
 * What the keyboard controller makes of set 2 (row: high, column: low half of the byte): IBM's
 * translation, by which set 1 lives on. Linux's key numbers 1-88 are set 1 codes, so this is also,
 * read backwards, their set 2 code.
 */
static const uint8_t set2_to_set1[128] = {
	0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29,
	0x59, 0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11,
	0x03, 0x5b, 0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14,
	0x13, 0x06, 0x5d, 0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24,
	0x16, 0x08, 0x09, 0x5f, 0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35,
	0x26, 0x27, 0x19, 0x0c, 0x61, 0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36,
	0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76, 0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c,
	0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f, 0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45,
	0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
};
#define SET2_F7		0x83		/* the one key beyond the table */
#define SET2_SYSRQ	0x84
#define BREAK		0xf0
#define EXT0		0xe0
#define EXT1		0xe1

/*
 * Keys with a prefix in sets 1 and 2, and those set 1 names otherwise: {key, set 2, set 3,
 * prefixed}.
 */
static const struct key_code { uint16_t key; uint8_t set2, set3; bool ext;
} extended[] = {
	{ KEY_KPENTER, 0x5a, 0x79, true },
	{ KEY_RIGHTCTRL, 0x14, 0x58, true },
	{ KEY_KPSLASH, 0x4a, 0x77, true },
	{ KEY_RIGHTALT, 0x11, 0x39, true },
	{ KEY_HOME, 0x6c, 0x6e, true },
	{ KEY_UP, 0x75, 0x63, true },
	{ KEY_PAGEUP, 0x7d, 0x6f, true },
	{ KEY_LEFT, 0x6b, 0x61, true },
	{ KEY_RIGHT, 0x74, 0x6a, true },
	{ KEY_END, 0x69, 0x65, true },
	{ KEY_DOWN, 0x72, 0x60, true },
	{ KEY_PAGEDOWN, 0x7a, 0x6d, true },
	{ KEY_INSERT, 0x70, 0x67, true },
	{ KEY_DELETE, 0x71, 0x64, true },
	{ KEY_LEFTMETA, 0x1f, 0x8b, true },
	{ KEY_RIGHTMETA, 0x27, 0x8c, true },
	{ KEY_COMPOSE, 0x2f, 0x8d, true },
	{ KEY_POWER, 0x37, 0, true },
	{ KEY_SLEEP, 0x3f, 0, true },
	{ KEY_WAKEUP, 0x5e, 0, true },
	{ KEY_MUTE, 0x23, 0, true },
	{ KEY_VOLUMEDOWN, 0x21, 0, true },
	{ KEY_VOLUMEUP, 0x32, 0, true },
	{ KEY_NEXTSONG, 0x4d, 0, true },
	{ KEY_PREVIOUSSONG, 0x15, 0, true },
	{ KEY_PLAYPAUSE, 0x34, 0, true },
	{ KEY_STOPCD, 0x3b, 0, true },
	{ KEY_MAIL, 0x48, 0, true },
	{ KEY_HOMEPAGE, 0x3a, 0, true },
	{ KEY_BACK, 0x38, 0, true },
	{ KEY_FORWARD, 0x30, 0, true },
	{ KEY_REFRESH, 0x20, 0, true },
	{ KEY_CALC, 0x2b, 0, true },
	{ KEY_RO, 0x51, 0x51, false },
	{ KEY_KATAKANAHIRAGANA, 0x13, 0x87, false },
	{ KEY_YEN, 0x6a, 0x5d, false },
	{ KEY_HENKAN, 0x64, 0x86, false },
	{ KEY_MUHENKAN, 0x67, 0x85, false },
	{ KEY_KPCOMMA, 0x6d, 0, false },
};

/* Set 3 where it differs from set 2, for the plain keys: {set 2, set 3}. */
static const uint8_t set3_plain[][2] = {
	{ 0x76, 0x08 }, { 0x05, 0x07 }, { 0x06, 0x0f }, { 0x04, 0x17 }, { 0x0c, 0x1f },
	{ 0x03, 0x27 }, { 0x0b, 0x2f }, { 0x83, 0x37 }, { 0x0a, 0x3f }, { 0x01, 0x47 },
	{ 0x09, 0x4f }, { 0x78, 0x56 }, { 0x07, 0x5e }, { 0x5d, 0x5c }, { 0x58, 0x14 },
	{ 0x14, 0x11 }, { 0x11, 0x19 }, { 0x77, 0x76 }, { 0x79, 0x7c }, { 0x7b, 0x84 },
	{ 0x7c, 0x7e }, { 0x7e, 0x5f }, { 0x61, 0x13 },
};

static bool key_find(unsigned key, struct key_code *code)
{
	for (unsigned i = 0; i < ARRAY_SIZE(extended); i++) {
		if (extended[i].key == key) {
			*code = extended[i];
			return true;
		}
	}
	if (key == KEY_F7) {
		*code = (struct key_code){ .key = KEY_F7, .set2 = SET2_F7, .set3 = 0x37 };
		return true;
	}
	if (!key || key > KEY_F12 || key == 0x54 || key == KEY_ZENKAKUHANKAKU)
		return false;
	for (unsigned i = 0; i < ARRAY_SIZE(set2_to_set1); i++) {
		if (set2_to_set1[i] != key)
			continue;
		*code = (struct key_code){ .key = (uint16_t)key,
					   .set2 = (uint8_t)i,
					   .set3 = (uint8_t)i };
		for (unsigned k = 0; k < ARRAY_SIZE(set3_plain); k++)
			if (set3_plain[k][0] == i)
				code->set3 = set3_plain[k][1];
		return true;
	}
	return false;
}

int ps2_translate(uint8_t byte, bool *release)
{
	uint8_t code;

	if (byte == BREAK) {
		*release = true;
		return -1;
	}
	if (byte == SET2_F7)
		code = 0x41;
	else if (byte == SET2_SYSRQ)
		code = 0x54;
	else
		code = byte < ARRAY_SIZE(set2_to_set1) ? set2_to_set1[byte] : byte;
	/* A prefix or answer is not a code: the F0 before it stands for the code that follows. */
	if (*release && byte < 0x85) {
		code |= 0x80;
		*release = false;
	}
	return code;
}

/* --- keys --- */

static bool key_is_down(const struct ps2_keyboard *k, unsigned key)
{
	return k->down[key / 8] >> (key % 8) & 1;
}

/* Appends one code to seq in set 1 or 2. */
static size_t put_code(const struct ps2_keyboard *k, uint8_t *seq, size_t n, bool ext, uint8_t set2,
		       bool down)
{
	if (ext)
		seq[n++] = EXT0;
	if (k->set == 1) {
		bool none = false;

		seq[n++] = (uint8_t)ps2_translate(set2, &none) | (down ? 0 : 0x80);
		return n;
	}
	if (!down)
		seq[n++] = BREAK;
	seq[n++] = set2;
	return n;
}

/* PrintScreen and Pause have ways of their own. */
static size_t put_special(const struct ps2_keyboard *k, uint8_t *seq, unsigned key, bool down)
{
	bool ctrl = key_is_down(k, KEY_LEFTCTRL) || key_is_down(k, KEY_RIGHTCTRL);
	bool alt = key_is_down(k, KEY_LEFTALT) || key_is_down(k, KEY_RIGHTALT);
	size_t n = 0;

	if (key == KEY_SYSRQ) {
		if (alt)
			return put_code(k, seq, 0, false, SET2_SYSRQ, down);
		if (down)
			n = put_code(k, seq, n, true, 0x12, true);
		n = put_code(k, seq, n, true, 0x7c, down);
		if (!down)
			n = put_code(k, seq, n, true, 0x12, false);
		return n;
	}
	/* Pause is sent when pressed, made and released in one; nothing follows. */
	if (!down)
		return 0;
	if (ctrl) {
		n = put_code(k, seq, n, true, 0x7e, true);
		return put_code(k, seq, n, true, 0x7e, false);
	}
	for (int release = 0; release < 2; release++) {
		seq[n++] = EXT1;
		n = put_code(k, seq, n, false, 0x14, !release);
		n = put_code(k, seq, n, false, 0x77, !release);
	}
	return n;
}

static size_t key_sequence(const struct ps2_keyboard *k, uint8_t *seq, unsigned key, bool down)
{
	struct key_code code;
	size_t n = 0;

	if (key == KEY_SYSRQ || key == KEY_PAUSE) {
		if (k->set != 3)
			return put_special(k, seq, key, down);
		code = (struct key_code){ .set3 = key == KEY_PAUSE ? 0x62 : 0x57 };
	} else if (!key_find(key, &code)) {
		return 0;
	}
	if (k->set != 3)
		return put_code(k, seq, 0, code.ext, code.set2, down);
	if (!code.set3)
		return 0;
	if (!down)
		seq[n++] = BREAK;
	seq[n++] = code.set3;
	return n;
}

/* Delay before the first repeat and period of the others, from the typematic byte. */
static int64_t repeat_delay(const struct ps2_keyboard *k)
{
	return ((k->rate >> 5 & 3) + 1) * 250 * NS_PER_MS;
}

static int64_t repeat_period(const struct ps2_keyboard *k)
{
	return (8 + (k->rate & 7)) * (1 << (k->rate >> 3 & 3)) * 4170000ll;
}

static void repeat_stop(struct ps2_keyboard *k)
{
	k->repeat_key = 0;
	loop_timer_cancel(&k->repeat);
}

static void repeat_expired(void *ctx)
{
	struct ps2_keyboard *k = ctx;
	uint8_t seq[16];
	size_t n;

	if (!k->repeat_key)
		return;
	/* A guest that does not keep up gets fewer repeats, not a queue full of them. */
	n = key_sequence(k, seq, k->repeat_key, true);
	if (k->scanning && ps2_queue_empty(&k->q) && ps2_input(&k->q, seq, n))
		k->changed(k->ctx);
	loop_timer_set(&k->repeat, vm_clock_now(k->clock) + repeat_period(k));
}

bool ps2_keyboard_key(struct ps2_keyboard *k, unsigned key, bool down)
{
	uint8_t seq[16];
	struct key_code code;
	size_t n;

	if (key >= sizeof(k->down) * 8 ||
	    (key != KEY_SYSRQ && key != KEY_PAUSE && !key_find(key, &code)))
		return false;
	if (key_is_down(k, key) == down)
		return true;
	n = key_sequence(k, seq, key, down);
	k->down[key / 8] ^= 1u << (key % 8);
	if (down && key != KEY_PAUSE) {
		k->repeat_key = (uint16_t)key;
		loop_timer_set(&k->repeat, vm_clock_now(k->clock) + repeat_delay(k));
	} else if (!down && k->repeat_key == key) {
		repeat_stop(k);
	}
	if (n && k->scanning && ps2_input(&k->q, seq, n))
		k->changed(k->ctx);
	return true;
}

void ps2_keyboard_release_all(struct ps2_keyboard *k)
{
	for (unsigned key = 0; key < sizeof(k->down) * 8; key++)
		if (key_is_down(k, key))
			ps2_keyboard_key(k, key, false);
}

/* --- commands --- */

enum {
	KBD_SET_LEDS = 0xed, KBD_ECHO = 0xee, KBD_SET_SCANSET = 0xf0, KBD_IDENTIFY = 0xf2,
	KBD_SET_RATE = 0xf3,
	KBD_ENABLE = 0xf4, KBD_DISABLE = 0xf5, KBD_DEFAULTS = 0xf6, KBD_ALL_FIRST = 0xf7,
	KBD_ALL_LAST = 0xfa,
	KBD_KEY_FIRST = 0xfb, KBD_KEY_LAST = 0xfd, KBD_RESEND = 0xfe, KBD_RESET = 0xff,
	PS2_ACK = 0xfa, PS2_BAT_OK = 0xaa, PS2_NAK = 0xfe,
};
#define RATE_DEFAULT 0x2b		/* 500 ms, 10.9 characters a second */

static void set_leds(struct ps2_keyboard *k, uint8_t leds)
{
	k->leds = leds & 7;
	if (k->leds_changed)
		k->leds_changed(k->leds_ctx, k->leds);
}

static void defaults(struct ps2_keyboard *k)
{
	k->rate = RATE_DEFAULT;
	k->set = 2;
	k->q.input_len = 0;
	repeat_stop(k);
}

void ps2_keyboard_reset(struct ps2_keyboard *k)
{
	defaults(k);
	memset(&k->q, 0, sizeof(k->q));
	memset(k->down, 0, sizeof(k->down));
	k->command = k->last = 0;
	k->scanning = true;
	set_leds(k, 0);
}

static void argument(struct ps2_keyboard *k, uint8_t command, uint8_t byte)
{
	switch (command) {
	case KBD_SET_LEDS:
		set_leds(k, byte);
		break;
	case KBD_SET_RATE:
		k->rate = byte & 0x7f;
		break;
	case KBD_SET_SCANSET:
		if (byte > 3) {
			ps2_reply(&k->q, PS2_NAK);
			return;
		}
		if (byte) {
			k->set = byte;
			k->q.input_len = 0;
		}
		break;
	}
	ps2_reply(&k->q, PS2_ACK);
	if (command == KBD_SET_SCANSET && byte == 0)
		ps2_reply(&k->q, k->set);
}

static void command_run(struct ps2_keyboard *k, uint8_t byte)
{
	switch (byte) {
	case KBD_ECHO:
		ps2_reply(&k->q, KBD_ECHO);
		return;
	case KBD_RESEND:
		ps2_reply(&k->q, k->last);
		return;
	case KBD_SET_LEDS:
	case KBD_SET_SCANSET:
	case KBD_SET_RATE:
	case KBD_KEY_FIRST ... KBD_KEY_LAST:
		k->command = byte;
		ps2_reply(&k->q, PS2_ACK);
		return;
	case KBD_IDENTIFY:
		ps2_reply(&k->q, PS2_ACK);
		ps2_reply(&k->q, 0xab);
		ps2_reply(&k->q, 0x83);
		return;
	case KBD_ENABLE:
		k->q.input_len = 0;
		k->scanning = true;
		break;
	case KBD_DISABLE:
		defaults(k);
		k->scanning = false;
		break;
	case KBD_DEFAULTS:
		defaults(k);
		break;
	/* key types of set 3: all keys are make, break and typematic here */
	case KBD_ALL_FIRST ... KBD_ALL_LAST:
		break;
	case KBD_RESET:
		ps2_keyboard_reset(k);
		ps2_reply(&k->q, PS2_ACK);
		ps2_reply(&k->q, PS2_BAT_OK);
		return;
	default:
		ps2_reply(&k->q, PS2_NAK);
		return;
	}
	ps2_reply(&k->q, PS2_ACK);
}

void ps2_keyboard_command(struct ps2_keyboard *k, uint8_t byte)
{
	uint8_t command = k->command;

	/*
	 * A new command ends what was being sent and whatever waited for an argument (bytes from
	 * 0xed on are commands).
	 */
	k->q.reply_len = 0;
	k->command = 0;
	if (command && byte < KBD_SET_LEDS)
		argument(k, command, byte);
	else
		command_run(k, byte);
	k->changed(k->ctx);
}

/* --- life --- */

void ps2_keyboard_init(struct ps2_keyboard *k, struct loop *loop, struct vm_clock *clock)
{
	k->clock = clock;
	loop_timer_init(&k->repeat, loop, clock, repeat_expired, k);
	ps2_keyboard_reset(k);
}

static const struct state_field keyboard_fields[] = {
	STATE_FIELD(struct ps2_keyboard, STATE_U8, command),
	STATE_FIELD(struct ps2_keyboard, STATE_U8, last),
	STATE_FIELD(struct ps2_keyboard, STATE_U8, set),
	STATE_FIELD(struct ps2_keyboard, STATE_U8, rate),
	STATE_FIELD(struct ps2_keyboard, STATE_U8, leds),
	STATE_FIELD(struct ps2_keyboard, STATE_BOOL, scanning),
};

/*
 * Keys held down are the user's, not the machine's: a saved machine wakes up with none. Their
 * release is saved.
 */
void ps2_keyboard_save(struct ps2_keyboard *k, struct state_out *o)
{
	ps2_keyboard_release_all(k);
	state_save_fields(o, k, keyboard_fields, ARRAY_SIZE(keyboard_fields));
	ps2_queue_save(&k->q, o);
}

int ps2_keyboard_load(struct ps2_keyboard *k, struct state_in *in)
{
	int ret;

	ps2_keyboard_reset(k);
	ret = state_load_fields(in, k, keyboard_fields, ARRAY_SIZE(keyboard_fields));
	if (!ret)
		ret = ps2_queue_load(&k->q, in);
	if (!ret && (k->set < 1 || k->set > 3 || k->rate > 0x7f || k->leds > 7))
		ret = state_bad(in, "scan code set %u, typematic 0x%x, LEDs 0x%x", k->set, k->rate,
				k->leds);
	if (ret < 0)
		ps2_keyboard_reset(k);
	else
		set_leds(k, k->leds);
	return ret;
}
