/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * keymap.h: from what a person typed (X11 keysyms, names, terminal characters) to keys of the PC
 * keyboard.
 */
#ifndef VMM_BACKENDS_KEYMAP_H
#define VMM_BACKENDS_KEYMAP_H

#include "vmm/backends/input.h"
#include "vmm/base/util.h"

struct keymap;
/* "us", "fr", "de"; NULL: us. NULL with the reason (and the names there are). */
const struct keymap *keymap_find(const char *name, struct err *err);

enum key_level { KEY_LEVEL_ANY, KEY_LEVEL_PLAIN, KEY_LEVEL_SHIFT, KEY_LEVEL_ALTGR };
/* The key and level that give the keysym on this layout. false: none does. */
bool keymap_lookup(const struct keymap *k, uint32_t keysym, unsigned *key, enum key_level *level);

/*
 * A typist: keeps the modifiers such that what was typed arrives, whatever keyboard the viewer has.
 * One thread.
 */
struct typist {
	const struct keymap *map;
	const struct input *input;
	bool shift[2], altgr, caps;
	uint8_t down[32];		/* bit set of keys held */
};
void typist_key(struct typist *t, uint32_t keysym, bool down);
void typist_release_all(struct typist *t);

/* --- names, as in "sendkey ctrl-alt-delete" --- */
/* "ctrl-alt-delete": up to max keys. Their number, or -EINVAL with the word that is no key. */
int keys_parse(const char *spec, unsigned *keys, int max, struct err *err);

#endif
