/* SPDX-License-Identifier: GPL-2.0-or-later */
/* spec.c: the options of a -net or -netdev argument. Any thread; no state. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/backend.h"

/* Cuts the next option off *p in place, ",," becoming ","; NULL at the end. */
static char *next_item(char **p)
{
	char *in = *p, *out = *p, *start = *p;

	if (!in)
		return NULL;
	for (; *in; in++) {
		if (*in == ',' && in[1] != ',')
			break;
		if (*in == ',')
			in++;
		*out++ = *in;
	}
	*p = *in ? in + 1 : NULL;
	*out = 0;
	return start;
}

int net_spec_parse(struct net_spec *s, const char *text, struct err *err)
{
	char *p, *item;

	memset(s, 0, sizeof(*s));
	p = s->text = xstrdup(text);
	s->kind = next_item(&p);
	while ((item = next_item(&p))) {
		char *eq = strchr(item, '=');
		struct net_opt *o = &s->opt[s->n];

		if (!*item)
			continue;
		if (s->n == NET_SPEC_MAX)
			return err_set(err, EINVAL, "more than %d options", NET_SPEC_MAX);
		if (eq) {
			*eq = 0;
			o->key = item;
		}
		o->val = eq ? eq + 1 : item;
		s->n++;
	}
	return 0;
}

void net_spec_free(struct net_spec *s)
{
	free(s->text);
	s->text = NULL;
}

const char *net_spec_next(struct net_spec *s, const char *key, unsigned *at)
{
	while (*at < s->n) {
		struct net_opt *o = &s->opt[(*at)++];

		if (strcmp(o->key ? o->key : o->val, key))
			continue;
		o->used = true;
		return o->key ? o->val : "on";
	}
	return NULL;
}

const char *net_spec_get(struct net_spec *s, const char *key)
{
	const char *v, *last = NULL;
	unsigned at = 0;

	while ((v = net_spec_next(s, key, &at)))
		last = v;
	return last;
}

const char *net_spec_word(struct net_spec *s)
{
	for (unsigned i = 0; i < s->n; i++) {
		if (!s->opt[i].key && !s->opt[i].used) {
			s->opt[i].used = true;
			return s->opt[i].val;
		}
	}
	return NULL;
}

int net_spec_bool(struct net_spec *s, const char *key, bool def, bool *v, struct err *err)
{
	const char *text = net_spec_get(s, key);

	*v = def;
	if (text && parse_bool(text, v) < 0)
		return err_set(err, EINVAL, "%s=%s: say on or off", key, text);
	return 0;
}

int net_spec_u64(struct net_spec *s, const char *key, uint64_t def, uint64_t min, uint64_t max,
		 uint64_t *v, struct err *err)
{
	const char *text = net_spec_get(s, key);

	*v = def;
	if (text && (parse_u64(text, max, v) < 0 || *v < min))
		return err_set(err, EINVAL, "%s=%s: not a number from %llu to %llu", key, text,
			       (unsigned long long)min, (unsigned long long)max);
	return 0;
}

int net_spec_check(struct net_spec *s, const char *known, struct err *err)
{
	for (unsigned i = 0; i < s->n; i++) {
		struct net_opt *o = &s->opt[i];

		if (!o->used)
			return err_set(err, EINVAL, "unknown option \"%s\"; %s knows: %s",
				       o->key ? o->key : o->val, s->kind, known);
	}
	return 0;
}
