/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * keyval.h: "file=a.img,format=raw,readonly" as a list. Two commas are one comma of a value. Values
 * are taken by name, and what nobody took is refused with the nearest name that would have been.
 */
#ifndef VMM_CONFIG_KEYVAL_H
#define VMM_CONFIG_KEYVAL_H

#include <stdio.h>

#include "vmm/base/util.h"

#define KEYVAL_MAX 48

struct keyval {
	/* value: "on" for a bare word */
	struct { char *key, *value; bool taken; } item[KEYVAL_MAX];
	unsigned n;
	const char *asked[2 * KEYVAL_MAX];	/* names that were asked for, to suggest */
	unsigned nasked;
};

/*
 * Takes the list apart, lets fn take what it knows, and refuses what is left: the only way to a
 * list, so that no reader can forget the last step. implied: key of a first item without "=", or
 * NULL. 0, or -errno with the reason, fn's own or ours; what fn stored stays then, for the caller
 * to drop.
 */
typedef int keyval_fn(struct keyval *kv, void *ctx, struct err *err);
int keyval_use(const char *spec, const char *implied, keyval_fn *fn, void *ctx, struct err *err);
/* The last value of the key, or NULL; belongs to kv. */
const char *keyval_get(struct keyval *kv, const char *key);
char *keyval_dup(struct keyval *kv, const char *key);		/* allocated copy, or NULL */
/*
 * Typed: leave *v alone when the key is missing. 0 or -EINVAL with the reason ("option key=value:
 * number expected").
 */
int keyval_bool(struct keyval *kv, const char *key, bool *v, struct err *err);
/* One of a list of words that ends with NULL: its index goes to *v. */
int keyval_choice(struct keyval *kv, const char *key, const char *const *words, int *v,
		  struct err *err);

/*
 * The other way: "key=value" behind a comma unless it is the stream's first; a comma of the value
 * is doubled. out: of open_memstream.
 */
void keyval_put(FILE *out, const char *key, const char *value);

/* Takes "key=value" out of a text that is not parsed here; the value is the caller's, or NULL. */
char *keyval_take(char *spec, const char *key);

#endif
