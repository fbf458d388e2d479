/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What an AZERTY or QWERTZ viewer types is what arrives; the names of sendkey. */
#include <linux/input-event-codes.h>

#include "tests/tap.h"
#include "vmm/backends/keymap.h"

static char log_text[512];
static void on_key(void *ctx, unsigned key, bool down)
{
	char word[16];

	snprintf(word, sizeof(word), "%s%c%u", *log_text ? " " : "", down ? '+' : '-', key);
	strcat(log_text, word);
}
static const struct input input = { .key = on_key };

/* Types one keysym on a layout with nothing else held; what went to the keyboard. */
static const char *typed(struct typist *t, uint32_t keysym, bool down)
{
	*log_text = 0;
	typist_key(t, keysym, down);
	return log_text;
}

static struct typist typist(const char *layout)
{
	struct err err = { "" };
	struct typist t = { .map = keymap_find(layout, &err), .input = &input };

	CHECK(t.map);
	return t;
}

#define SENT(call, want)                                                                           \
	do {                                                                                       \
		const char *got_ = (call);                                                         \
		if (strcmp(got_, want))                                                            \
			tap_fail(__FILE__, __LINE__, "%s sent \"%s\", not \"%s\"", #call, got_,    \
				 want);                                                            \
	} while (0)

TEST(french)
{
	struct typist t = typist("fr");

	SENT(typed(&t, 'a', true), "+16");		/* KEY_Q */
	SENT(typed(&t, 'a', false), "-16");
	SENT(typed(&t, 'm', true), "+39");		/* KEY_SEMICOLON */
	SENT(typed(&t, 'm', false), "-39");
	SENT(typed(&t, 0xe9, true), "+3");		/* é on the 2 */
	typed(&t, 0xe9, false);
	SENT(typed(&t, 0xffe1, true), "+42");
	SENT(typed(&t, '1', true), "+2");		/* Shift is held already */
	SENT(typed(&t, '1', false), "-2");
	SENT(typed(&t, 0xffe1, false), "-42");
	SENT(typed(&t, 0xfe03, true), "+100");
	SENT(typed(&t, '@', true), "+11");
	SENT(typed(&t, '@', false), "-11");
	SENT(typed(&t, 0xfe03, false), "-100");
}

/*
 * The viewer's keyboard is another: Shift and AltGr are made to fit the character, then put back.
 */
TEST(other_keyboards)
{
	struct typist t = typist("fr");

	SENT(typed(&t, '1', true), "+42 +2 -42");
	typed(&t, '1', false);
	typed(&t, 0xffe1, true);
	SENT(typed(&t, '!', true), "-42 +53 +42");	/* unshifted in France */
	typed(&t, '!', false);
	SENT(typed(&t, 0xffe1, false), "-42");
	SENT(typed(&t, '{', true), "+100 +5 -100");
	typed(&t, '{', false);
	t = typist("us");
	SENT(typed(&t, 'A', true), "+42 +30 -42");
	/* Released after Shift was: the viewer names the key by what it gives now. */
	SENT(typed(&t, 'a', false), "-30");
}

TEST(caps_lock)
{
	struct typist t = typist("us");

	SENT(typed(&t, 0xffe5, true), "+58");
	SENT(typed(&t, 0xffe5, false), "-58");
	SENT(typed(&t, 'A', true), "+30");
	typed(&t, 'A', false);
	SENT(typed(&t, '1', true), "+2");
}

TEST(german)
{
	struct typist t = typist("de");

	SENT(typed(&t, 'z', true), "+21");
	typed(&t, 'z', false);
	SENT(typed(&t, 0xdf, true), "+12");
	typed(&t, 0xdf, false);
	SENT(typed(&t, '@', true), "+100 +16 -100");
	SENT(typed(&t, '@', false), "-16");
	SENT(typed(&t, 0x12345, true), "");
}

TEST(every_ascii_character_can_be_typed)
{
	static const char *const layouts[] = { "us", "fr", "de" };
	enum key_level level;
	unsigned key;

	for (unsigned l = 0; l < ARRAY_SIZE(layouts); l++)
		for (unsigned c = ' '; c < 0x7f; c++)
			if (!keymap_lookup(keymap_find(layouts[l], NULL), c, &key, &level))
				tap_fail(__FILE__, __LINE__, "'%c' cannot be typed on %s", c,
					 layouts[l]);
	CHECK(!keymap_find("klingon", NULL));
}

TEST(a_viewer_that_leaves_lets_go)
{
	struct typist t = typist("us");

	typed(&t, 0xffe3, true);
	typed(&t, 'c', true);
	*log_text = 0;
	typist_release_all(&t);
	SENT(log_text, "-29 -46");
	*log_text = 0;
	typist_release_all(&t);
	SENT(log_text, "");
}

TEST(names)
{
	struct err err = { "" };
	unsigned keys[4];

	CHECK_EQ(keys_parse("ctrl-alt-delete", keys, 4, &err), 3);
	CHECK_EQ(keys[0], KEY_LEFTCTRL);
	CHECK_EQ(keys[1], KEY_LEFTALT);
	CHECK_EQ(keys[2], KEY_DELETE);
	CHECK_EQ(keys_parse("a", keys, 4, &err), 1);
	CHECK_EQ(keys_parse("f12", keys, 4, &err), 1);
	CHECK_EQ(keys[0], KEY_F12);
	CHECK(keys_parse("ctrl-", keys, 4, &err) < 0);
	CHECK(keys_parse("", keys, 4, &err) < 0);
	err.msg[0] = 0;
	CHECK(keys_parse("ctrl-hyper", keys, 4, &err) < 0);
	CHECK(strstr(err.msg, "'hyper' is no key"));
	CHECK(keys_parse("a-b-c-d-e", keys, 4, &err) < 0);
}

TAP_MAIN
