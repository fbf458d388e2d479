/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * command_config.c: the machine's configuration as a command line; what devices there are and which
 * properties they take, from their rows. Main loop.
 */
#include <errno.h>
#include <stdlib.h>

#include "vmm/control/command.h"

static int query_config(struct machine *m, json_t *args, struct command_result *r)
{
	struct words w = { 0 };
	json_t *list = json_array();
	char *text;

	machine_words(m, &w);
	text = words_text(&w);
	for (unsigned i = 0; i < w.n; i++) {
		json_t *word = json_string(w.word[i]);

		if (!word || json_array_append_new(list, word) < 0) {
			words_free(&w);
			free(text);
			json_decref(list);
			return err_set(&r->err, EILSEQ,
				       "the command line holds bytes that are no UTF-8 text");
		}
	}
	r->value = json_pack("{s:o,s:s}", "arguments", list, "text", text);
	free(text);
	words_free(&w);
	return 0;
}

static void print_config(json_t *v, FILE *out)
{
	fputs(json_string_value(json_object_get(v, "text")), out);
}

/* --- the rows --- */

static json_t *default_value(const struct device_kind *k, const struct prop *p)
{
	void *fresh = xcalloc(1, k->size);
	json_t *v = NULL;
	char *text;

	props_init(k->props, fresh);
	text = prop_text(p, fresh);
	if (text && (p->type == PROP_NUMBER || p->type == PROP_SIZE))
		v = json_integer(strtoll(text, NULL, 0));
	else if (text && p->type == PROP_BOOL)
		v = json_boolean(!strcmp(text, "on"));
	else if (text)
		v = json_string(text);
	props_free(k->props, fresh);
	free(fresh);
	free(text);
	return v;
}

static int list_properties(struct machine *m, json_t *args, struct command_result *r)
{
	const char *name = json_string_value(json_object_get(args, "typename"));
	const struct device_kind *k = device_kind_find(m->config->kinds, name);

	if (!k)
		return err_set(&r->err, ENODEV, "Device '%s' not found", name);
	r->value = json_array();
	for (const struct prop *p = k->props; p && p->name; p++) {
		json_t *j = json_pack("{s:s,s:s}", "name", p->name, "type", prop_type_name(p));
		json_t *v = default_value(k, p);

		if (p->help)
			json_object_set_new(j, "description", json_string(p->help));
		if (v)
			json_object_set_new(j, "default-value", v);
		json_array_append_new(r->value, j);
	}
	return 0;
}

static int query_kinds(struct machine *m, json_t *args, struct command_result *r)
{
	r->value = json_array();
	for (const struct device_kind *const *k = m->config->kinds; *k; k++) {
		json_t *aliases = json_array(), *machines = json_array();

		for (size_t i = 0; i < ARRAY_SIZE((*k)->aliases); i++)
			if ((*k)->aliases[i])
				json_array_append_new(aliases, json_string((*k)->aliases[i]));
		if ((*k)->machines & ON_PC)
			json_array_append_new(machines, json_string("pc"));
		if ((*k)->machines & ON_MICRO)
			json_array_append_new(machines, json_string("micro"));
		json_array_append_new(r->value,
				      json_pack("{s:s,s:s,s:b,s:o,s:o}", "name", (*k)->name,
						"description", (*k)->help, "hotpluggable",
						(*k)->hotplugs, "aliases", aliases, "machines",
						machines));
	}
	return 0;
}

static void print_kinds(json_t *v, FILE *out)
{
	json_t *j;
	size_t i;

	json_array_foreach(v, i, j)
		fprintf(out, "%-15s %s%s\n", json_string_value(json_object_get(j, "name")),
			json_string_value(json_object_get(j, "description")),
			json_is_true(json_object_get(j, "hotpluggable")) ? " (device_add)" : "");
}

#define NO_ARGS { { 0 } }
const struct command commands_config[] = {
	{ "x-query-config", "info config", "the command line that makes this machine again",
	  query_config, print_config, COMMAND_FAST, NO_ARGS },
	{ "x-query-device-types", "info device-types", "the devices there are", query_kinds,
	  print_kinds, COMMAND_FAST, NO_ARGS },
	{ "device-list-properties",
	  NULL,
	  "the properties of a kind of device",
	  list_properties,
	  NULL,
	  COMMAND_FAST,
	  { { "typename", ARG_STR, false } } },
	{ 0 },
};
