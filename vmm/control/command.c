/* SPDX-License-Identifier: GPL-2.0-or-later */
/* command.c: finds commands, checks their arguments, runs them; the monitor's line syntax. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

#include "vmm/base/log.h"
#include "vmm/base/nearest.h"
#include "vmm/control/command.h"
#include "vmm/machine/drives.h"
#include "vmm/move/migrate.h"

#define MAX_COMMANDS 256
#define MAX_WORDS 32

static const struct command *const tables[] = {
	commands_run,	 commands_query,   commands_query_block, commands_stats,
	commands_block,	 commands_device,  commands_net,	 commands_memory,
	commands_screen, commands_migrate, commands_job,	 commands_transaction,
	commands_step,	 commands_look,	   commands_chips,
};

const struct command *command_find(bool (*fn)(const struct command *c, const void *ctx),
				   const void *ctx)
{
	for (size_t t = 0; t < ARRAY_SIZE(tables); t++)
		for (const struct command *c = tables[t]; c->run; c++)
			if (fn(c, ctx))
				return c;
	return NULL;
}

static bool has_name(const struct command *c, const void *name)
{
	return c->name && !strcmp(c->name, name);
}

static bool has_monitor_name(const struct command *c, const void *name)
{
	return c->monitor && !strcmp(c->monitor, name);
}

const struct command *command_by_name(const char *qmp_name)
{
	return command_find(has_name, qmp_name);
}

static const struct command *command_by_monitor_name(const char *name)
{
	return command_find(has_monitor_name, name);
}

static bool type_fits(enum arg_type type, const json_t *v)
{
	switch (type) {
	case ARG_STR:
		return json_is_string(v);
	case ARG_INT:
	case ARG_SIZE:
		return json_is_integer(v);
	case ARG_BOOL:
		return json_is_boolean(v);
	case ARG_OBJECT:
		return json_is_object(v);
	case ARG_ARRAY:
		return json_is_array(v);
	case ARG_ANY:
		return true;
	}
	return false;
}

int command_check_args(const struct command *c, json_t *args, struct err *err)
{
	static const char *const types[] = { "string", "integer", "boolean", "integer",
					     "object", "array",	  "value" };
	const char *key;
	json_t *v;
	int i;

	json_object_foreach(args, key, v) {
		for (i = 0; i < COMMAND_MAX_ARGS && c->args[i].name; i++)
			if (!strcmp(key, c->args[i].name) || !strcmp("*", c->args[i].name))
				break;
		if (i == COMMAND_MAX_ARGS || !c->args[i].name)
			return err_set(err, EINVAL, "Parameter '%s' is unexpected", key);
		if (!type_fits(c->args[i].type, v))
			return err_set(err, EINVAL, "Invalid parameter type for '%s', expected: %s",
				       key, types[c->args[i].type]);
	}
	for (i = 0; i < COMMAND_MAX_ARGS && c->args[i].name; i++)
		if (!c->args[i].optional && !json_object_get(args, c->args[i].name))
			return err_set(err, EINVAL, "Parameter '%s' is missing", c->args[i].name);
	return 0;
}

int command_run(struct machine *m, const struct command *c, json_t *args, struct command_result *r)
{
	int ret = command_check_args(c, args, &r->err);
	bool lock = c->slow == COMMAND_FAST && !loop_is_current(m->loop);
	bool hold = c->slow == COMMAND_SLOW || c->slow == COMMAND_DISKS;

	if (ret < 0)
		return ret;
	/* A stop in the middle of a savevm would take the disks from under it. */
	if (hold) {
		pthread_mutex_lock(&m->control_lock);
		pthread_rwlock_rdlock(&m->shape);
	}
	if (lock)
		loop_lock(m->loop);
	if (c->slow == COMMAND_DISKS)
		ret = machine_take_disks(m, &r->err);
	if (ret == 0)
		ret = c->run(m, args, r);
	if (lock)
		loop_unlock(m->loop);
	if (hold) {
		pthread_rwlock_unlock(&m->shape);
		pthread_mutex_unlock(&m->control_lock);
	}
	return ret;
}

void command_thread_begin(struct machine *m)
{
	m->command_threads++;
}

void command_thread_end(struct machine *m)
{
	m->command_threads--;
}

void command_threads_wait(struct machine *m)
{
	while (m->command_threads) {
		/* one of them may wait for it, or just have begun it */
		migrate_cancel(m);
		/* they post their answers, and may need the loop before */
		loop_once(m->loop, 100);
	}
}

/* --- a person's line: words, "quoted words", -f as booleans --- */

static unsigned split_words(char *line, char *words[MAX_WORDS])
{
	unsigned n = 0;
	char *p = line, *out;

	while (n < MAX_WORDS) {
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

json_t *command_text(FILE *out, char **text, const size_t *len)
{
	json_t *value;

	fclose(out);
	/* A line's end comes with the printing. */
	if (*len && (*text)[*len - 1] == '\n')
		(*text)[*len - 1] = 0;
	value = json_string(*text);
	free(*text);
	*text = NULL;
	return value;
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

static void unknown_command(const char *name, FILE *out)
{
	struct { const char *names[MAX_COMMANDS + 1]; unsigned n; } all = { .n = 0 };
	const char *near;

	command_find(collect_name, &all);
	all.names[all.n] = NULL;
	near = nearest_name(name, all.names);
	fprintf(out, "unknown command: '%s'%s%s%s (help lists them)\n", name,
		near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

void monitor_line(struct machine *m, const char *line, bool person, FILE *out)
{
	struct command_result r = { NULL, { "" } };
	char *copy = xstrdup(line), *words[MAX_WORDS], two[128];
	unsigned n = split_words(copy, words), used = 1;
	const struct command *c = NULL;
	json_t *args;

	if (!n)
		goto out;
	if (!strcmp(words[0], "help") || !strcmp(words[0], "?")) {
		c = n > 1 ? command_by_monitor_name(words[1]) : NULL;
		if (c)
			print_help(c, out);
		else
			command_find(print_help, out);
		goto out;
	}
	/* "info status" is one name of two words. */
	if (n > 1) {
		snprintf(two, sizeof(two), "%s %s", words[0], words[1]);
		c = command_by_monitor_name(two);
		used = c ? 2 : 1;
	}
	if (!c)
		c = command_by_monitor_name(words[0]);
	if (!c) {
		unknown_command(n > 1 && !strcmp(words[0], "info") ? two : words[0], out);
		goto out;
	}
	args = words_to_args(c, words + used, n - used, out);
	if (!args)
		goto out;
	/* A program asks how far it is; only a person waits. */
	if (!person && flag_name(c, "-d"))
		json_object_set_new(args, flag_name(c, "-d"), json_true());
	if (command_run(m, c, args, &r) < 0)
		fprintf(out, "Error: %s\n", r.err.msg);
	else if (r.value && c->print)
		c->print(r.value, out);
	else if (r.value)
		print_value(r.value, 0, out);
	json_decref(r.value);
	json_decref(args);
out:
	free(copy);
}
