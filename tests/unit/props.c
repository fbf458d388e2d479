/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Every row of every device, and of drives: from text to a value and back, and what is refused. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "vmm/config/config.h"
#include "vmm/machine/device_kinds.h"

/* Something the property takes, other than its default; and something it does not (or NULL). */
static const char *sample(const struct prop *p)
{
	static char number[32];

	switch (p->type) {
	case PROP_NUMBER:
		snprintf(number, sizeof(number), p->hex ? "0x%lx" : "%lu",
			 p->max == (uint64_t)p->def ? p->min : p->max);
		return number;
	case PROP_INDEX:
	case PROP_BOOTINDEX:
		snprintf(number, sizeof(number), "%lu", p->max);
		return number;
	case PROP_SIZE:
		return "4096";
	case PROP_BOOL:
		return p->def ? "off" : "on";
	case PROP_CHOICE:
		return p->words[p->def == 0 ? 1 : 0];
	case PROP_MAC:
		return "52:54:00:12:34:56";
	case PROP_UUID:
		return "00112233-4455-6677-8899-aabbccddeeff";
	case PROP_PCI:
		return "1f.7";
	case PROP_FIXED:
		return p->words[0];
	default:
		return "some,text=with commas";
	}
}

static const char *wrong(const struct prop *p)
{
	static char number[32];

	switch (p->type) {
	case PROP_NUMBER:
	case PROP_INDEX:
	case PROP_BOOTINDEX:
		snprintf(number, sizeof(number), "%lu", p->max + 1);
		return number;
	case PROP_SIZE:
		return "much";
	case PROP_BOOL:
		return "maybe";
	case PROP_CHOICE:
	case PROP_FIXED:
		return "none-of-these";
	case PROP_MAC:
		return "53:54:00:12:34:56";
	case PROP_UUID:
		return "0011";
	case PROP_PCI:
		return "20";
	default:
		return NULL;
	}
}

static void check_row(const char *who, const struct prop *p, const struct prop *table, size_t size)
{
	void *a = xcalloc(1, size), *b = xcalloc(1, size);
	struct err e = { "" };
	char *text, *usage = prop_usage(p);

	props_init(table, a);
	props_init(table, b);
	cr_assert(prop_is_default(p, a), "%s %s", who, p->name);
	cr_assert_lt(p->offset, size, "%s %s", who, p->name);
	cr_assert(p->help && *p->help, "%s %s says nothing of itself", who, p->name);
	cr_assert(!strncmp(usage, p->name, strlen(p->name)) && strlen(usage) > strlen(p->name) + 1,
		  "%s %s", who, usage);
	cr_assert_eq(prop_set(p, a, sample(p), &e), 0, "%s: %s", who, e.msg);
	cr_assert_eq(prop_is_default(p, a), p->type == PROP_FIXED, "%s %s", who, p->name);
	text = prop_text(p, a);
	if (p->type != PROP_FIXED) {
		cr_assert_str_eq(text, sample(p), "%s %s", who, p->name);
		cr_assert_eq(prop_set(p, b, text, &e), 0, "%s: %s", who, e.msg);
		free(text);
		text = prop_text(p, b);
		cr_assert_str_eq(text, sample(p), "%s %s", who, p->name);
	}
	if (wrong(p)) {
		cr_assert_lt(prop_set(p, a, wrong(p), &e), 0, "%s %s=%s", who, p->name, wrong(p));
		cr_assert(strstr(e.msg, p->name) && strstr(e.msg, wrong(p)), "%s", e.msg);
	}
	free(text);
	free(usage);
	props_free(table, a);
	props_free(table, b);
	free(a);
	free(b);
}

static void check_table(const char *who, const struct prop *table, size_t size)
{
	for (const struct prop *p = table; p && p->name; p++) {
		check_row(who, p, table, size);
		cr_assert_eq(props_named(table, p->name), p, "%s: %s twice", who, p->name);
		for (const struct prop *q = table; q < p; q++)
			cr_assert(p->type == PROP_FIXED || q->type == PROP_FIXED ||
					  p->offset != q->offset,
				  "%s: %s lies on %s", who, p->name, q->name);
	}
}

Test(props, every_row_of_every_device)
{
	unsigned n = 0;

	for (; device_kinds[n]; n++) {
		const struct device_kind *k = device_kinds[n];

		cr_assert(k->name && k->help && k->machines, "%s", k->name);
		cr_assert_geq(k->size, sizeof(struct device_config), "%s", k->name);
		cr_assert_eq(!k->make, !!k->build, "%s is built in one way", k->name);
		cr_assert_eq(device_kind_find(device_kinds, k->name), k, "%s twice", k->name);
		check_table(k->name, k->props, k->size);
	}
	cr_assert_geq(n, 18);
}

Test(props, every_row_of_drives)
{
	check_table("drive", drive_props, sizeof(struct drive_config));
}

/* What a device's text says makes the same device. */
Test(props, a_device_from_its_text)
{
	struct err e = { "" };
	struct config c;

	for (unsigned n = 0; device_kinds[n]; n++) {
		struct device_config *first, *second;
		char *text, *again;

		config_init(&c, device_kinds);
		first = config_add_device(&c, device_kinds[n]->name, &e);
		cr_assert(first, "%s", e.msg);
		for (const struct prop *p = first->kind->props; p && p->name; p++)
			cr_assert_eq(prop_set(p, first, sample(p), &e), 0, "%s", e.msg);
		text = device_text(first);
		config_remove_device(&c, first);
		second = config_add_device(&c, text, &e);
		cr_assert(second, "%s: %s", text, e.msg);
		again = device_text(second);
		cr_assert_str_eq(text, again);
		free(text);
		free(again);
		config_free(&c);
	}
}
