/* SPDX-License-Identifier: GPL-2.0-or-later */
/* keyval.c: comma-separated options. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/base/nearest.h"
#include "vmm/config/keyval.h"

/* Copies one item up to a single comma; returns where the next begins, or NULL at the end. */
static const char *next_item(const char *s, char *out)
{
	for (; *s; s++) {
		if (*s == ',') {
			if (s[1] != ',') {
				*out = 0;
				return s + 1;
			}
			s++;
		}
		*out++ = *s;
	}
	*out = 0;
	return NULL;
}

static void release(struct keyval *kv)
{
	for (unsigned i = 0; i < kv->n; i++) {
		free(kv->item[i].key);
		free(kv->item[i].value);
	}
	kv->n = 0;
}

static int parse(struct keyval *kv, const char *spec, const char *implied, struct err *err)
{
	char *item = xcalloc(1, strlen(spec) + 1), *eq;

	memset(kv, 0, sizeof(*kv));
	for (const char *p = spec; p && *p;) {
		p = next_item(p, item);
		if (kv->n == KEYVAL_MAX) {
			free(item);
			release(kv);
			return err_set(err, E2BIG, "\"%s\": more than %d parts", spec, KEYVAL_MAX);
		}
		eq = strchr(item, '=');
		if (!eq && kv->n == 0 && implied) {
			kv->item[0].key = xstrdup(implied);
			kv->item[0].value = xstrdup(item);
		} else {
			kv->item[kv->n].value = xstrdup(eq ? eq + 1 : "on");
			if (eq)
				*eq = 0;
			kv->item[kv->n].key = xstrdup(item);
		}
		kv->n++;
	}
	free(item);
	return 0;
}

const char *keyval_get(struct keyval *kv, const char *key)
{
	const char *value = NULL;

	if (kv->nasked + 1 < ARRAY_SIZE(kv->asked))
		kv->asked[kv->nasked++] = key;
	for (unsigned i = 0; i < kv->n; i++) {
		if (!strcmp(kv->item[i].key, key)) {
			kv->item[i].taken = true;
			value = kv->item[i].value;
		}
	}
	return value;
}

char *keyval_dup(struct keyval *kv, const char *key)
{
	const char *v = keyval_get(kv, key);

	return v ? xstrdup(v) : NULL;
}

int keyval_bool(struct keyval *kv, const char *key, bool *v, struct err *err)
{
	const char *s = keyval_get(kv, key);

	return s && parse_bool(s, v) < 0 ? err_set(err, EINVAL, "%s=%s: on or off expected", key, s)
					 : 0;
}

int keyval_choice(struct keyval *kv, const char *key, const char *const *words, int *v,
		  struct err *err)
{
	const char *s = keyval_get(kv, key);
	char list[256];
	size_t n = 0;

	if (!s)
		return 0;
	for (int i = 0; words[i]; i++) {
		if (!strcmp(s, words[i])) {
			*v = i;
			return 0;
		}
		n += snprintf(list + n, n < sizeof(list) ? sizeof(list) - n : 0, "%s%s",
			      i ? ", " : "", words[i]);
	}
	return err_set(err, EINVAL, "%s=%s: one of %s expected", key, s, list);
}

/* What nobody took is refused. */
static int finish(struct keyval *kv, struct err *err)
{
	const char *near;

	for (unsigned i = 0; i < kv->n; i++) {
		if (kv->item[i].taken)
			continue;
		kv->asked[MIN(kv->nasked, (unsigned)ARRAY_SIZE(kv->asked) - 1)] = NULL;
		near = nearest_name(kv->item[i].key, kv->asked);
		return err_set(err, EINVAL, "no property is called \"%s\" here%s%s%s",
			       kv->item[i].key, near ? "; did you mean \"" : "", near ? near : "",
			       near ? "\"?" : "");
	}
	return 0;
}

int keyval_use(const char *spec, const char *implied, keyval_fn *fn, void *ctx, struct err *err)
{
	struct keyval kv;
	int ret = parse(&kv, spec, implied, err);

	if (ret < 0)
		return ret;
	ret = fn(&kv, ctx, err);
	if (ret == 0)
		ret = finish(&kv, err);
	release(&kv);
	return ret;
}

void keyval_put(FILE *out, const char *key, const char *value)
{
	fprintf(out, "%s%s=", ftell(out) ? "," : "", key);
	for (; *value; value++)
		fprintf(out, *value == ',' ? ",," : "%c", *value);
}

char *keyval_take(char *spec, const char *key)
{
	size_t len = strlen(key);

	for (char *p = spec; *p; p += strcspn(p, ",") + (p[strcspn(p, ",")] == ',')) {
		size_t item = strcspn(p, ",");
		char *value;

		if (strncmp(p, key, len) || p[len] != '=')
			continue;
		value = strndup(p + len + 1, item - len - 1);
		memmove(p > spec ? p - 1 : p, p + item + (p == spec && p[item]),
			strlen(p + item + (p == spec && p[item])) + 1);
		return value;
	}
	return NULL;
}
