/* SPDX-License-Identifier: GPL-2.0-or-later */
/* device_kind.c: what follows from the rows alone. */
#include <stdlib.h>

#include "vmm/config/device_kind.h"

void *device_prop(const struct device_config *d, enum prop_type t)
{
	const struct prop *p = props_of_type(d->kind->props, t);

	return p ? (char *)d + p->offset : NULL;
}

const char *device_backend(const struct device_config *d)
{
	char **id = device_prop(d, PROP_DRIVE);

	if (!id)
		id = device_prop(d, PROP_NETDEV);
	return id ? *id : NULL;
}

bool device_is_nic(const struct device_config *d)
{
	return device_prop(d, PROP_MAC);
}

char *device_text(const struct device_config *d)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return xstrdup("");
	fputs(d->kind->name, out);
	keyval_put(out, "id", d->id);
	props_put(d->kind->props, d, out);
	fclose(out);
	return text;
}

const struct device_kind *device_kind_find(const struct device_kind *const *kinds, const char *name)
{
	for (; *kinds; kinds++) {
		if (!strcmp((*kinds)->name, name))
			return *kinds;
		for (size_t i = 0; i < ARRAY_SIZE((*kinds)->aliases); i++)
			if ((*kinds)->aliases[i] && !strcmp((*kinds)->aliases[i], name))
				return *kinds;
	}
	return NULL;
}

/* --- for people --- */

static void print_props(const struct device_kind *k)
{
	printf("id=ID");
	for (const struct prop *p = k->props; p && p->name; p++) {
		char *usage = prop_usage(p);

		if (p->type != PROP_FIXED)
			printf(", %s", usage);
		free(usage);
	}
	printf("\n");
}

void device_kinds_help(const struct device_kind *const *kinds)
{
	for (; *kinds; kinds++) {
		printf("  %-15s %s\n                  ", (*kinds)->name, (*kinds)->help);
		print_props(*kinds);
	}
}

void device_kinds_man(const struct device_kind *const *kinds)
{
	printf(".RS\n");
	for (; *kinds; kinds++) {
		printf(".TP\n.B %s\n%s: ", (*kinds)->name, (*kinds)->help);
		print_props(*kinds);
	}
	printf(".RE\n");
}

void device_kind_help(const struct device_kind *k)
{
	printf("%s: %s%s%s\n", k->name, k->help,
	       k->machines == ON_PC ? "; not with -M micro" : "",
	       k->hotplugs ? "; can be plugged in" : "");
	printf("  %-28s its name\n", "id=ID");
	for (const struct prop *p = k->props; p && p->name; p++) {
		char *usage = prop_usage(p);

		printf("  %-28s %s\n", usage, p->help ? p->help : "");
		free(usage);
	}
}
