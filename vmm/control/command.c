/* SPDX-License-Identifier: GPL-2.0-or-later */
/* command.c: finds commands, checks their arguments, runs them. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "vmm/base/log.h"
#include "vmm/control/command.h"
#include "vmm/machine/drives.h"
#include "vmm/move/migrate.h"

static const struct command *const tables[] = {
	commands_run,	 commands_query,   commands_query_block, commands_stats,
	commands_fd,
	commands_block,	 commands_device,  commands_net,	 commands_memory,
	commands_screen, commands_migrate, commands_job,	 commands_transaction,
	commands_config,
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

const struct command *command_by_monitor_name(const char *name)
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
	bool lock = c->speed == COMMAND_FAST && !loop_is_current(m->loop);
	bool hold = c->speed == COMMAND_SLOW || c->speed == COMMAND_DISKS;

	if (ret < 0)
		return ret;
	/* A stop in the middle of a savevm would take the disks from under it. */
	if (hold) {
		pthread_mutex_lock(&m->control_lock);
		pthread_rwlock_rdlock(&m->shape);
	}
	if (lock)
		loop_lock(m->loop);
	if (c->speed == COMMAND_DISKS)
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

/* --- threads --- */

struct thread_job {
	struct machine *m;
	void (*work)(void *ctx), (*done)(void *ctx);
	void *ctx;
};

static void thread_over(void *arg)
{
	struct thread_job *j = arg;

	j->m->command_threads--;
	j->done(j->ctx);
	free(j);
}

static void *thread_main(void *arg)
{
	struct thread_job *j = arg;

	pthread_setname_np(pthread_self(), "command");
	j->work(j->ctx);
	loop_post(j->m->loop, thread_over, j);
	return NULL;
}

int command_thread(struct machine *m, void (*work)(void *ctx), void (*done)(void *ctx), void *ctx)
{
	struct thread_job *j = xcalloc(1, sizeof(*j));
	pthread_t thread;
	int ret;

	*j = (struct thread_job){ m, work, done, ctx };
	m->command_threads++;
	ret = pthread_create(&thread, NULL, thread_main, j);
	if (ret) {
		m->command_threads--;
		free(j);
		return -ret;
	}
	pthread_detach(thread);
	return 0;
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

/* --- a client's call --- */

struct call {
	struct machine *m;
	const struct command *command;
	json_t *args;
	struct command_result result;
	int ret;
	command_done *done;
	void *ctx;
};

static void call_work(void *arg)
{
	struct call *c = arg;

	c->ret = command_run(c->m, c->command, c->args, &c->result);
}

static void call_done(void *arg)
{
	struct call *c = arg;

	c->done(c->ctx, c->ret, &c->result);
	json_decref(c->result.value);
	json_decref(c->args);
	free(c);
}

void command_call(struct machine *m, const struct command *command, json_t *args,
		  command_done *done, void *ctx)
{
	struct call *c = xcalloc(1, sizeof(*c));
	int ret;

	*c = (struct call){ m, command, json_incref(args), { NULL, { "" } }, 0, done, ctx };
	if (command->speed == COMMAND_FAST) {
		call_work(c);
		call_done(c);
		return;
	}
	/* Once there is a thread, the call is its own. */
	ret = command_thread(m, call_work, call_done, c);
	if (ret < 0) {
		c->ret = err_set(&c->result.err, -ret, "no thread for the command: %s",
				 strerror(-ret));
		call_done(c);
	}
}
