/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * prop.h: properties as data. A table of struct prop says which key=value pairs something takes and
 * where each value goes in its structure; parsing, printing, help, the man page and the control
 * socket's introspection read the table. It knows neither machines nor devices.
 */
#ifndef VMM_CONFIG_PROP_H
#define VMM_CONFIG_PROP_H

#include <stdio.h>

#include "vmm/config/keyval.h"

enum prop_type {
	PROP_NUMBER,			/* unsigned: from min to max */
	PROP_INDEX,			/* int: from 0 to max; -1: not given */
	PROP_BOOTINDEX,			/* the same: the firmware tries the lowest first */
	PROP_SIZE,			/* uint64_t, in units of min (0: bytes) */
	PROP_BOOL,			/* bool */
	PROP_CHOICE,			/* int: which of words; def when not given */
	PROP_STRING,			/* char *, NULL: not given */
	PROP_DRIVE,			/* char *: the id of a drive ... */
	PROP_NETDEV,			/* ... of a network backend ... */
	PROP_CHARDEV,			/* ... of a -chardev, or what -serial takes */
	PROP_MAC,			/* struct prop_mac */
	PROP_UUID,			/* struct prop_uuid; the word auto: not given */
	PROP_PCI,			/* struct prop_pci: slot and function */
	PROP_FIXED,			/* one of words, which all mean the same: nothing is kept */
};

struct prop_mac { bool set; uint8_t addr[6]; };
struct prop_uuid { bool set; uint8_t bytes[16]; };
struct prop_pci { int slot, func; };			/* slot -1: the next free one */

struct prop {
	const char *name, *alias;	/* alias: another key in wide use, or NULL */
	enum prop_type type;
	size_t offset;			/* of the value, in the structure the table belongs to */
	uint64_t min, max;
	int def;			/* numbers, choices and bools that are not given */
	bool power_of_2, hex;			/* hex: it is written as 0x402 */
	const char *const *words;	/* ends with NULL */
	const char *value, *help;	/* for people: "N"; "how many queues" */
};

/* Tables end with a row without name. p NULL: a table without rows. */
/* Every value as if nothing was given. */
void props_init(const struct prop *p, void *to);
void props_free(const struct prop *p, void *to);
/* Takes what the table knows out of the list. 0 or -EINVAL with the reason. */
int props_take(const struct prop *p, void *to, struct keyval *kv, struct err *err);
/* One value from text. 0 or -EINVAL with the reason ("name=text: a number expected"). */
int prop_set(const struct prop *p, void *to, const char *text, struct err *err);
/* Whether the value is the one that props_init gave it. */
bool prop_is_default(const struct prop *p, const void *from);
/* The value as prop_set takes it; allocated. NULL: it has none (not given, PROP_FIXED). */
char *prop_text(const struct prop *p, const void *from);
/* All that differ from the default, by keyval_put. */
void props_put(const struct prop *p, const void *from, FILE *out);
/* The row of that type or name, or NULL. */
const struct prop *props_of_type(const struct prop *p, enum prop_type t);
const struct prop *props_named(const struct prop *p, const char *name);
/* "drive=ID": as help has it; allocated. And the type's name for the control socket. */
char *prop_usage(const struct prop *p);
const char *prop_type_name(const struct prop *p);

#endif
