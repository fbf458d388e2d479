/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * keymap.c: the layouts us, fr and de, and the names of keys.
 *
 * Keysyms: X11's keysymdef.h (Latin-1 keysyms are the characters themselves). Keys:
 * linux/input-event-codes.h, named by their place on a US keyboard.
 */
#include <errno.h>
#include <linux/input-event-codes.h>
#include <stdio.h>

#include "vmm/backends/keymap.h"

struct sym {
	uint8_t key;
	uint16_t plain, shift, altgr;	/* keysyms; 0: none */
};
struct keymap {
	const char *name;
	const struct sym *syms;
	size_t n;
};

#define EURO 0x20ac
#define DEAD_GRAVE 0xfe50
#define DEAD_ACUTE 0xfe51
#define DEAD_CIRCUMFLEX 0xfe52
#define DEAD_TILDE 0xfe53
#define DEAD_DIAERESIS 0xfe57
#define LETTER(k, c) { k, c, (c) - 32, 0 }

static const struct sym us[] = {
	{ KEY_GRAVE, '`', '~', 0 },
	{ KEY_1, '1', '!', 0 },
	{ KEY_2, '2', '@', 0 },
	{ KEY_3, '3', '#', 0 },
	{ KEY_4, '4', '$', 0 },
	{ KEY_5, '5', '%', 0 },
	{ KEY_6, '6', '^', 0 },
	{ KEY_7, '7', '&', 0 },
	{ KEY_8, '8', '*', 0 },
	{ KEY_9, '9', '(', 0 },
	{ KEY_0, '0', ')', 0 },
	{ KEY_MINUS, '-', '_', 0 },
	{ KEY_EQUAL, '=', '+', 0 },
	LETTER(KEY_Q, 'q'),
	LETTER(KEY_W, 'w'),
	LETTER(KEY_E, 'e'),
	LETTER(KEY_R, 'r'),
	LETTER(KEY_T, 't'),
	LETTER(KEY_Y, 'y'),
	LETTER(KEY_U, 'u'),
	LETTER(KEY_I, 'i'),
	LETTER(KEY_O, 'o'),
	LETTER(KEY_P, 'p'),
	{ KEY_LEFTBRACE, '[', '{', 0 },
	{ KEY_RIGHTBRACE, ']', '}', 0 },
	{ KEY_BACKSLASH, '\\', '|', 0 },
	LETTER(KEY_A, 'a'),
	LETTER(KEY_S, 's'),
	LETTER(KEY_D, 'd'),
	LETTER(KEY_F, 'f'),
	LETTER(KEY_G, 'g'),
	LETTER(KEY_H, 'h'),
	LETTER(KEY_J, 'j'),
	LETTER(KEY_K, 'k'),
	LETTER(KEY_L, 'l'),
	{ KEY_SEMICOLON, ';', ':', 0 },
	{ KEY_APOSTROPHE, '\'', '"', 0 },
	LETTER(KEY_Z, 'z'),
	LETTER(KEY_X, 'x'),
	LETTER(KEY_C, 'c'),
	LETTER(KEY_V, 'v'),
	LETTER(KEY_B, 'b'),
	LETTER(KEY_N, 'n'),
	LETTER(KEY_M, 'm'),
	{ KEY_COMMA, ',', '<', 0 },
	{ KEY_DOT, '.', '>', 0 },
	{ KEY_SLASH, '/', '?', 0 },
	{ KEY_102ND, '<', '>', '|' },
};

static const struct sym fr[] = {
	{ KEY_GRAVE, 0xb2, 0, 0 },
	{ KEY_1, '&', '1', 0 },
	{ KEY_2, 0xe9, '2', '~' },
	{ KEY_3, '"', '3', '#' },
	{ KEY_4, '\'', '4', '{' },
	{ KEY_5, '(', '5', '[' },
	{ KEY_6, '-', '6', '|' },
	{ KEY_7, 0xe8, '7', '`' },
	{ KEY_8, '_', '8', '\\' },
	{ KEY_9, 0xe7, '9', '^' },
	{ KEY_0, 0xe0, '0', '@' },
	{ KEY_MINUS, ')', 0xb0, ']' },
	{ KEY_EQUAL, '=', '+', '}' },
	LETTER(KEY_Q, 'a'),
	LETTER(KEY_W, 'z'),
	{ KEY_E, 'e', 'E', EURO },
	LETTER(KEY_R, 'r'),
	LETTER(KEY_T, 't'),
	LETTER(KEY_Y, 'y'),
	LETTER(KEY_U, 'u'),
	LETTER(KEY_I, 'i'),
	LETTER(KEY_O, 'o'),
	LETTER(KEY_P, 'p'),
	{ KEY_LEFTBRACE, DEAD_CIRCUMFLEX, DEAD_DIAERESIS, 0 },
	{ KEY_LEFTBRACE, 0, 0xa8, 0 },
	{ KEY_RIGHTBRACE, '$', 0xa3, 0xa4 },
	{ KEY_BACKSLASH, '*', 0xb5, 0 },
	LETTER(KEY_A, 'q'),
	LETTER(KEY_S, 's'),
	LETTER(KEY_D, 'd'),
	LETTER(KEY_F, 'f'),
	LETTER(KEY_G, 'g'),
	LETTER(KEY_H, 'h'),
	LETTER(KEY_J, 'j'),
	LETTER(KEY_K, 'k'),
	LETTER(KEY_L, 'l'),
	LETTER(KEY_SEMICOLON, 'm'),
	{ KEY_APOSTROPHE, 0xf9, '%', 0 },
	LETTER(KEY_Z, 'w'),
	LETTER(KEY_X, 'x'),
	LETTER(KEY_C, 'c'),
	LETTER(KEY_V, 'v'),
	LETTER(KEY_B, 'b'),
	LETTER(KEY_N, 'n'),
	{ KEY_M, ',', '?', 0 },
	{ KEY_COMMA, ';', '.', 0 },
	{ KEY_DOT, ':', '/', 0 },
	{ KEY_SLASH, '!', 0xa7, 0 },
	{ KEY_102ND, '<', '>', 0 },
	{ KEY_2, 0, 0, DEAD_TILDE },
	{ KEY_7, 0, 0, DEAD_GRAVE },
};

static const struct sym de[] = {
	{ KEY_GRAVE, '^', 0xb0, 0 },
	{ KEY_GRAVE, DEAD_CIRCUMFLEX, 0, 0 },
	{ KEY_1, '1', '!', 0xb9 },
	{ KEY_2, '2', '"', 0xb2 },
	{ KEY_3, '3', 0xa7, 0xb3 },
	{ KEY_4, '4', '$', 0 },
	{ KEY_5, '5', '%', 0 },
	{ KEY_6, '6', '&', 0 },
	{ KEY_7, '7', '/', '{' },
	{ KEY_8, '8', '(', '[' },
	{ KEY_9, '9', ')', ']' },
	{ KEY_0, '0', '=', '}' },
	{ KEY_MINUS, 0xdf, '?', '\\' },
	{ KEY_EQUAL, 0xb4, '`', 0 },
	{ KEY_EQUAL, DEAD_ACUTE, DEAD_GRAVE, 0 },
	{ KEY_Q, 'q', 'Q', '@' },
	LETTER(KEY_W, 'w'),
	{ KEY_E, 'e', 'E', EURO },
	LETTER(KEY_R, 'r'),
	LETTER(KEY_T, 't'),
	LETTER(KEY_Y, 'z'),
	LETTER(KEY_U, 'u'),
	LETTER(KEY_I, 'i'),
	LETTER(KEY_O, 'o'),
	LETTER(KEY_P, 'p'),
	{ KEY_LEFTBRACE, 0xfc, 0xdc, 0 },
	{ KEY_RIGHTBRACE, '+', '*', '~' },
	{ KEY_RIGHTBRACE, 0, 0, DEAD_TILDE },
	{ KEY_BACKSLASH, '#', '\'', 0 },
	LETTER(KEY_A, 'a'),
	LETTER(KEY_S, 's'),
	LETTER(KEY_D, 'd'),
	LETTER(KEY_F, 'f'),
	LETTER(KEY_G, 'g'),
	LETTER(KEY_H, 'h'),
	LETTER(KEY_J, 'j'),
	LETTER(KEY_K, 'k'),
	LETTER(KEY_L, 'l'),
	{ KEY_SEMICOLON, 0xf6, 0xd6, 0 },
	{ KEY_APOSTROPHE, 0xe4, 0xc4, 0 },
	LETTER(KEY_Z, 'y'),
	LETTER(KEY_X, 'x'),
	LETTER(KEY_C, 'c'),
	LETTER(KEY_V, 'v'),
	LETTER(KEY_B, 'b'),
	LETTER(KEY_N, 'n'),
	{ KEY_M, 'm', 'M', 0xb5 },
	{ KEY_COMMA, ',', ';', 0 },
	{ KEY_DOT, '.', ':', 0 },
	{ KEY_SLASH, '-', '_', 0 },
	{ KEY_102ND, '<', '>', '|' },
};

static const struct keymap keymaps[] = {
	{ "us", us, ARRAY_SIZE(us) }, { "fr", fr, ARRAY_SIZE(fr) }, { "de", de, ARRAY_SIZE(de) },
	{ "en-us", us, ARRAY_SIZE(us) },
};

/* What is the same everywhere: keysym 0xff.. to key. */
static const struct { uint32_t keysym; uint8_t key;
} common[] = {
	{ ' ', KEY_SPACE },
	{ 0xff08, KEY_BACKSPACE },
	{ 0xff09, KEY_TAB },
	{ 0xfe20, KEY_TAB },
	{ 0xff0d, KEY_ENTER },
	{ 0xff13, KEY_PAUSE },
	{ 0xff14, KEY_SCROLLLOCK },
	{ 0xff15, KEY_SYSRQ },
	{ 0xff61, KEY_SYSRQ },
	{ 0xff1b, KEY_ESC },
	{ 0xff50, KEY_HOME },
	{ 0xff51, KEY_LEFT },
	{ 0xff52, KEY_UP },
	{ 0xff53, KEY_RIGHT },
	{ 0xff54, KEY_DOWN },
	{ 0xff55, KEY_PAGEUP },
	{ 0xff56, KEY_PAGEDOWN },
	{ 0xff57, KEY_END },
	{ 0xff63, KEY_INSERT },
	{ 0xffff, KEY_DELETE },
	{ 0xff67, KEY_COMPOSE },
	{ 0xff7f, KEY_NUMLOCK },
	{ 0xffe1, KEY_LEFTSHIFT },
	{ 0xffe2, KEY_RIGHTSHIFT },
	{ 0xffe3, KEY_LEFTCTRL },
	{ 0xffe4, KEY_RIGHTCTRL },
	{ 0xffe5, KEY_CAPSLOCK },
	{ 0xffe7, KEY_LEFTMETA },
	{ 0xffe8, KEY_RIGHTMETA },
	{ 0xffe9, KEY_LEFTALT },
	{ 0xffea, KEY_RIGHTALT },
	{ 0xfe03, KEY_RIGHTALT },
	{ 0xff7e, KEY_RIGHTALT },
	{ 0xffeb, KEY_LEFTMETA },
	{ 0xffec, KEY_RIGHTMETA },
	/* keypad: with and without NumLock */
	{ 0xff8d, KEY_KPENTER },
	{ 0xffaa, KEY_KPASTERISK },
	{ 0xffab, KEY_KPPLUS },
	{ 0xffad, KEY_KPMINUS },
	{ 0xffac, KEY_KPDOT },
	{ 0xffae, KEY_KPDOT },
	{ 0xff9f, KEY_KPDOT },
	{ 0xffaf, KEY_KPSLASH },
	{ 0xffb0, KEY_KP0 },
	{ 0xffb1, KEY_KP1 },
	{ 0xffb2, KEY_KP2 },
	{ 0xffb3, KEY_KP3 },
	{ 0xffb4, KEY_KP4 },
	{ 0xffb5, KEY_KP5 },
	{ 0xffb6, KEY_KP6 },
	{ 0xffb7, KEY_KP7 },
	{ 0xffb8, KEY_KP8 },
	{ 0xffb9, KEY_KP9 },
	{ 0xff9e, KEY_KP0 },
	{ 0xff9c, KEY_KP1 },
	{ 0xff99, KEY_KP2 },
	{ 0xff9b, KEY_KP3 },
	{ 0xff96, KEY_KP4 },
	{ 0xff9d, KEY_KP5 },
	{ 0xff98, KEY_KP6 },
	{ 0xff95, KEY_KP7 },
	{ 0xff97, KEY_KP8 },
	{ 0xff9a, KEY_KP9 },
	{ 0xffbe, KEY_F1 },
	{ 0xffbf, KEY_F2 },
	{ 0xffc0, KEY_F3 },
	{ 0xffc1, KEY_F4 },
	{ 0xffc2, KEY_F5 },
	{ 0xffc3, KEY_F6 },
	{ 0xffc4, KEY_F7 },
	{ 0xffc5, KEY_F8 },
	{ 0xffc6, KEY_F9 },
	{ 0xffc7, KEY_F10 },
	{ 0xffc8, KEY_F11 },
	{ 0xffc9, KEY_F12 },
};

const struct keymap *keymap_find(const char *name, struct err *err)
{
	if (!name)
		return &keymaps[0];
	for (size_t i = 0; i < ARRAY_SIZE(keymaps); i++)
		if (!strcmp(keymaps[i].name, name))
			return &keymaps[i];
	err_set(err, EINVAL, "-k %s: no such keyboard layout; there are us, fr and de", name);
	return NULL;
}

bool keymap_lookup(const struct keymap *k, uint32_t keysym, unsigned *key, enum key_level *level)
{
	for (size_t i = 0; i < ARRAY_SIZE(common); i++) {
		if (common[i].keysym == keysym) {
			*key = common[i].key;
			*level = KEY_LEVEL_ANY;
			return true;
		}
	}
	/* Characters beyond Latin-1 also come as 0x01000000 + Unicode. */
	if (keysym == (0x01000000 | EURO))
		keysym = EURO;
	for (size_t i = 0; keysym && i < k->n; i++) {
		const struct sym *s = &k->syms[i];

		if (s->plain != keysym && s->shift != keysym && s->altgr != keysym)
			continue;
		*key = s->key;
		*level = s->plain == keysym   ? KEY_LEVEL_PLAIN
			 : s->shift == keysym ? KEY_LEVEL_SHIFT
					      : KEY_LEVEL_ALTGR;
		return true;
	}
	return false;
}

/* --- the typist --- */
static void send(struct typist *t, unsigned key, bool down)
{
	if (down)
		t->down[key / 8] |= 1 << key % 8;
	else
		t->down[key / 8] &= ~(1 << key % 8);
	t->input->key(t->input->ctx, key, down);
}

static bool track_modifier(struct typist *t, unsigned key, bool down)
{
	switch (key) {
	case KEY_LEFTSHIFT:
	case KEY_RIGHTSHIFT:
		t->shift[key == KEY_RIGHTSHIFT] = down;
		return true;
	case KEY_RIGHTALT:
		t->altgr = down;
		return true;
	case KEY_CAPSLOCK:
		t->caps ^= down;
		return true;
	}
	return false;
}

static bool is_down(const struct typist *t, unsigned key)
{
	return t->down[key / 8] >> key % 8 & 1;
}

/* Puts Shift and AltGr into the state the character needs, or back as the person holds them. */
static void adjust(struct typist *t, bool left, bool right, bool altgr)
{
	const struct { unsigned key; bool want; } modifiers[] = {
		{ KEY_LEFTSHIFT, left }, { KEY_RIGHTSHIFT, right }, { KEY_RIGHTALT, altgr },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(modifiers); i++)
		if (is_down(t, modifiers[i].key) != modifiers[i].want)
			send(t, modifiers[i].key, modifiers[i].want);
}

void typist_key(struct typist *t, uint32_t keysym, bool down)
{
	bool shift, held;
	enum key_level level;
	unsigned key;

	if (!keymap_lookup(t->map, keysym, &key, &level))
		return;
	if (!down || track_modifier(t, key, down) || level == KEY_LEVEL_ANY) {
		if (!down)
			track_modifier(t, key, down);
		send(t, key, down);
		return;
	}
	held = t->shift[0] || t->shift[1];
	shift = level == KEY_LEVEL_SHIFT;
	if (t->caps && ((keysym >= 'a' && keysym <= 'z') || (keysym >= 'A' && keysym <= 'Z')))
		shift = !shift;
	adjust(t, shift && (t->shift[0] || !held), shift && t->shift[1], level == KEY_LEVEL_ALTGR);
	send(t, key, true);
	adjust(t, t->shift[0], t->shift[1], t->altgr);
}

void typist_release_all(struct typist *t)
{
	for (unsigned key = 0; key < 8 * sizeof(t->down); key++)
		if (t->down[key / 8] >> key % 8 & 1)
			send(t, key, false);
	t->shift[0] = t->shift[1] = t->altgr = false;
}

/* --- names --- */
static const struct { const char *name; uint8_t key;
} names[] = {
	{ "esc", KEY_ESC },
	{ "minus", KEY_MINUS },
	{ "equal", KEY_EQUAL },
	{ "backspace", KEY_BACKSPACE },
	{ "tab", KEY_TAB },
	{ "bracket_left", KEY_LEFTBRACE },
	{ "bracket_right", KEY_RIGHTBRACE },
	{ "ret", KEY_ENTER },
	{ "enter", KEY_ENTER },
	{ "ctrl", KEY_LEFTCTRL },
	{ "ctrl_r", KEY_RIGHTCTRL },
	{ "shift", KEY_LEFTSHIFT },
	{ "shift_r", KEY_RIGHTSHIFT },
	{ "alt", KEY_LEFTALT },
	{ "alt_r", KEY_RIGHTALT },
	{ "altgr", KEY_RIGHTALT },
	{ "meta_l", KEY_LEFTMETA },
	{ "meta_r", KEY_RIGHTMETA },
	{ "menu", KEY_COMPOSE },
	{ "semicolon", KEY_SEMICOLON },
	{ "apostrophe", KEY_APOSTROPHE },
	{ "grave_accent", KEY_GRAVE },
	{ "backslash", KEY_BACKSLASH },
	{ "comma", KEY_COMMA },
	{ "dot", KEY_DOT },
	{ "slash", KEY_SLASH },
	{ "less", KEY_102ND },
	{ "asterisk", KEY_KPASTERISK },
	{ "spc", KEY_SPACE },
	{ "space", KEY_SPACE },
	{ "caps_lock", KEY_CAPSLOCK },
	{ "num_lock", KEY_NUMLOCK },
	{ "scroll_lock", KEY_SCROLLLOCK },
	{ "sysrq", KEY_SYSRQ },
	{ "print", KEY_SYSRQ },
	{ "pause", KEY_PAUSE },
	{ "home", KEY_HOME },
	{ "end", KEY_END },
	{ "pgup", KEY_PAGEUP },
	{ "pgdn", KEY_PAGEDOWN },
	{ "up", KEY_UP },
	{ "down", KEY_DOWN },
	{ "left", KEY_LEFT },
	{ "right", KEY_RIGHT },
	{ "insert", KEY_INSERT },
	{ "delete", KEY_DELETE },
	{ "kp_divide", KEY_KPSLASH },
	{ "kp_multiply", KEY_KPASTERISK },
	{ "kp_subtract", KEY_KPMINUS },
	{ "kp_add", KEY_KPPLUS },
	{ "kp_enter", KEY_KPENTER },
	{ "kp_decimal", KEY_KPDOT },
	{ "kp_0", KEY_KP0 },
	{ "kp_1", KEY_KP1 },
	{ "kp_2", KEY_KP2 },
	{ "kp_3", KEY_KP3 },
	{ "kp_4", KEY_KP4 },
	{ "kp_5", KEY_KP5 },
	{ "kp_6", KEY_KP6 },
	{ "kp_7", KEY_KP7 },
	{ "kp_8", KEY_KP8 },
	{ "kp_9", KEY_KP9 },
	{ "f1", KEY_F1 },
	{ "f2", KEY_F2 },
	{ "f3", KEY_F3 },
	{ "f4", KEY_F4 },
	{ "f5", KEY_F5 },
	{ "f6", KEY_F6 },
	{ "f7", KEY_F7 },
	{ "f8", KEY_F8 },
	{ "f9", KEY_F9 },
	{ "f10", KEY_F10 },
	{ "f11", KEY_F11 },
	{ "f12", KEY_F12 },
};

/* 0: no such name. */
static unsigned key_by_name(const char *name, size_t len)
{
	unsigned key;
	enum key_level level;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strlen(names[i].name) == len && !strncmp(names[i].name, name, len))
			return names[i].key;
	/* Letters and digits are named by what is printed on a US keyboard. */
	if (len == 1 && ((*name >= 'a' && *name <= 'z') || (*name >= '0' && *name <= '9')) &&
	    keymap_lookup(&keymaps[0], *name, &key, &level))
		return key;
	return 0;
}

int keys_parse(const char *spec, unsigned *keys, int max, struct err *err)
{
	int n = 0;

	for (;; spec++) {
		size_t len = strcspn(spec, "-");
		unsigned key = key_by_name(spec, len);

		if (!key)
			return err_set(
				err, EINVAL,
				"'%.*s' is no key; names are as in ctrl-alt-delete, ret, f1, kp_0",
				(int)len, spec);
		if (n == max)
			return err_set(err, EINVAL, "more than %d keys at once", max);
		keys[n++] = key;
		spec += len;
		if (!*spec)
			return n;
	}
}
