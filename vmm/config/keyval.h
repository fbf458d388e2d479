/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * keyval.h: "file=a.img,format=raw,readonly" as a list. Two commas are one comma of a value. Values
 * are taken by name, and what nobody took is refused with the nearest name that would have been.
 */
#ifndef VMM_CONFIG_KEYVAL_H
#define VMM_CONFIG_KEYVAL_H

#include "vmm/base/util.h"

#define KEYVAL_MAX 48

struct keyval {
	/* value: "on" for a bare word */
	struct { char *key, *value; bool taken; } item[KEYVAL_MAX];
	unsigned n;
	const char *asked[2 * KEYVAL_MAX];	/* names that were asked for, to suggest */
	unsigned nasked;
};

/* implied: key of a first item without "=", or NULL. 0 or -errno with the reason. */
int keyval_parse(struct keyval *kv, const char *spec, const char *implied, struct err *err);
void keyval_free(struct keyval *kv);
/* The last value of the key, or NULL; belongs to kv. */
const char *keyval_get(struct keyval *kv, const char *key);
char *keyval_dup(struct keyval *kv, const char *key);		/* allocated copy, or NULL */
/*
 * Typed: leave *v alone when the key is missing. 0 or -EINVAL with the reason ("option key=value:
 * number expected").
 */
int keyval_bool(struct keyval *kv, const char *key, bool *v, struct err *err);
int keyval_u64(struct keyval *kv, const char *key, uint64_t max, uint64_t *v, struct err *err);
int keyval_size(struct keyval *kv, const char *key, uint64_t unit, uint64_t *v, struct err *err);
/* One of a list of words that ends with NULL: its index goes to *v. */
int keyval_choice(struct keyval *kv, const char *key, const char *const *words, int *v,
		  struct err *err);
/* -EINVAL with the reason when a key was not taken. */
int keyval_finish(struct keyval *kv, struct err *err);

/* Takes "key=value" out of a text that is not parsed here; the value is the caller's, or NULL. */
char *keyval_take(char *spec, const char *key);

#endif
