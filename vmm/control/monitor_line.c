/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * monitor_line.c: a line of the monitor: words into arguments, the command, its value as text. Any
 * thread that holds no lock.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/nearest.h"
#include "vmm/control/command.h"

#define MAX_COMMANDS 256

/* --- a person's line: words, "quoted words", -f as booleans --- */

static unsigned split_words(char *line, char *words[MONITOR_MAX_WORDS])
{
	unsigned n = 0;
	char *p = line, *out;

	while (n < MONITOR_MAX_WORDS) {
		p += strspn(p, " \t\r\n");
		if (!*p)
			break;
		words[n++] = out = p;
		if (*p == '"') {
			for (p++; *p && *p != '"'; p++) {
				if (*p == '\\' && p[1])
					p++;
				*out++ = *p;
			}
			p += *p == '"';
		} else {
			for (; *p && !strchr(" \t\r\n", *p); p++)
				*out++ = *p;
		}
		p += *p != 0;
		*out = 0;
	}
	return n;
}

static json_t *word_to_json(const struct command_arg *a, const char *word)
{
	uint64_t n;
	bool b;

	switch (a->type) {
	case ARG_INT:
		return parse_u64(word, INT64_MAX, &n) == 0 ? json_integer(n) : NULL;
	case ARG_SIZE:
		return parse_size(word, MiB, &n) == 0 && n <= INT64_MAX ? json_integer(n) : NULL;
	case ARG_BOOL:
		return parse_bool(word, &b) == 0 ? json_boolean(b) : NULL;
	default:
		return json_string(word);
	}
}

/* "-f" is the optional boolean whose name begins so, wherever it stands. */
static const char *flag_name(const struct command *c, const char *word)
{
	if (word[0] != '-' || !word[1] || word[2])
		return NULL;
	for (unsigned i = 0; i < COMMAND_MAX_ARGS && c->args[i].name; i++)
		if (c->args[i].type == ARG_BOOL && c->args[i].optional &&
		    c->args[i].name[0] == word[1])
			return c->args[i].name;
	return NULL;
}

static json_t *words_to_args(const struct command *c, char **words, unsigned n, FILE *out)
{
	json_t *args = json_object(), *v;
	unsigned i = 0;

	for (unsigned w = 0; w < n; w++) {
		const char *flag = flag_name(c, words[w]);

		if (flag) {
			json_object_set_new(args, flag, json_true());
			continue;
		}
		while (i < COMMAND_MAX_ARGS && c->args[i].name &&
		       json_object_get(args, c->args[i].name))
			i++;
		if (i == COMMAND_MAX_ARGS || !c->args[i].name) {
			fprintf(out, "%s: too many arguments (help %s)\n", c->monitor, c->monitor);
			json_decref(args);
			return NULL;
		}
		v = word_to_json(&c->args[i], words[w]);
		if (!v) {
			fprintf(out, "%s: \"%s\" does not fit argument %s\n", c->monitor, words[w],
				c->args[i].name);
			json_decref(args);
			return NULL;
		}
		json_object_set_new(args, c->args[i++].name, v);
	}
	return args;
}

static void print_value(json_t *v, int indent, FILE *out)
{
	const char *key;
	json_t *item;
	size_t i;
	char *text;

	if (json_is_object(v)) {
		json_object_foreach(v, key, item) {
			bool deep = json_is_object(item) || json_is_array(item);

			fprintf(out, "%*s%s:%s", indent, "", key, deep ? "\n" : " ");
			print_value(item, deep ? indent + 2 : 0, out);
		}
		return;
	}
	if (json_is_array(v)) {
		json_array_foreach(v, i, item) {
			print_value(item, indent, out);
			if (json_is_object(item))
				fprintf(out, "\n");
		}
		return;
	}
	text = json_is_string(v) ? xstrdup(json_string_value(v)) : json_dumps(v, JSON_ENCODE_ANY);
	fprintf(out, "%*s%s\n", indent, "", text ? text : "");
	free(text);
}

static bool print_help(const struct command *c, const void *ctx)
{
	FILE *out = (FILE *)ctx;
	char left[128];
	size_t n;

	if (!c->monitor)
		return false;
	n = snprintf(left, sizeof(left), "%s", c->monitor);
	for (int i = 0; i < COMMAND_MAX_ARGS && c->args[i].name && n < sizeof(left); i++)
		n += snprintf(left + n, sizeof(left) - n, c->args[i].optional ? " [%s]" : " %s",
			      c->args[i].name);
	fprintf(out, "%-36s %s\n", left, c->help);
	return false;
}

static bool collect_name(const struct command *c, const void *ctx)
{
	struct { const char *names[MAX_COMMANDS + 1]; unsigned n; } *all = (void *)ctx;

	if (c->monitor && all->n < MAX_COMMANDS)
		all->names[all->n++] = c->monitor;
	return false;
}

static int unknown_command(const char *name, FILE *out)
{
	struct { const char *names[MAX_COMMANDS + 1]; unsigned n; } all = { .n = 0 };
	const char *near;

	command_find(collect_name, &all);
	all.names[all.n] = NULL;
	near = nearest_name(name, all.names);
	fprintf(out, "unknown command: '%s'%s%s%s (help lists them)\n", name,
		near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
	return -ENOSYS;
}

int monitor_words(struct machine *m, char **words, unsigned n, bool person, FILE *out)
{
	struct command_result r = { NULL, { "" } };
	const struct command *c = NULL;
	unsigned used = 1;
	char two[128] = "";
	json_t *args;
	int ret;

	if (!n)
		return 0;
	if (!strcmp(words[0], "help") || !strcmp(words[0], "?")) {
		c = n > 1 ? command_by_monitor_name(words[1]) : NULL;
		if (n > 1 && !c)
			return unknown_command(words[1], out);
		if (c)
			print_help(c, out);
		else
			command_find(print_help, out);
		return 0;
	}
	/* "info status" is one name of two words. */
	if (n > 1) {
		snprintf(two, sizeof(two), "%s %s", words[0], words[1]);
		c = command_by_monitor_name(two);
		used = c ? 2 : 1;
	}
	if (!c)
		c = command_by_monitor_name(words[0]);
	if (!c)
		return unknown_command(n > 1 && !strcmp(words[0], "info") ? two : words[0], out);
	args = words_to_args(c, words + used, n - used, out);
	if (!args)
		return -EINVAL;
	/* A program asks how far it is; only a person waits. */
	if (!person && flag_name(c, "-d"))
		json_object_set_new(args, flag_name(c, "-d"), json_true());
	ret = command_run(m, c, args, &r);
	if (ret < 0)
		fprintf(out, "Error: %s\n", r.err.msg[0] ? r.err.msg : strerror(-ret));
	else if (r.value && c->print)
		c->print(r.value, out);
	else if (r.value)
		print_value(r.value, 0, out);
	json_decref(r.value);
	json_decref(args);
	return ret;
}

int monitor_line(struct machine *m, const char *line, bool person, FILE *out)
{
	char *copy = xstrdup(line), *words[MONITOR_MAX_WORDS];
	int ret = monitor_words(m, words, split_words(copy, words), person, out);

	free(copy);
	return ret;
}
