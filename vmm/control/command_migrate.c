/* SPDX-License-Identifier: GPL-2.0-or-later */
/* command_migrate.c: commands that save, restore and move the machine (migrate.h, snapshot.h). */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "disk/node.h"
#include "vmm/control/command.h"
#include "vmm/control/command_print.h"
#include "vmm/move/migrate.h"
#include "vmm/move/savevm.h"
#include "vmm/move/snapshot.h"

static int run_migrate(struct machine *m, json_t *args, struct command_result *r)
{
	int ret;

	loop_lock(m->loop);
	ret = migrate_start(m, json_string_value(json_object_get(args, "uri")), &r->err);
	loop_unlock(m->loop);
	return ret;
}

/*
 * The monitor's: waits for the end, which migrate_cancel over another connection or the machine's
 * own end may bring, too.
 */
static int run_migrate_line(struct machine *m, json_t *args, struct command_result *r)
{
	json_t *to = json_pack("{s:O}", "uri", json_object_get(args, "uri"));
	int ret = command_run(m, command_by_name("migrate"), to, r);
	struct migrate_info i;

	json_decref(to);
	if (ret < 0 || json_is_true(json_object_get(args, "detach")))
		return ret;
	migrate_wait(m, &i);
	if (i.state == MIGRATE_FAILED)
		return err_set(&r->err, EIO, "%s", i.error);
	r->value = json_pack("{s:s,s:I,s:I}", "status",
			     i.state == MIGRATE_COMPLETED ? "completed" : "cancelled", "total-time",
			     (json_int_t)i.total_ms, "downtime", (json_int_t)i.downtime_ms);
	return 0;
}

static int run_cancel(struct machine *m, json_t *args, struct command_result *r)
{
	migrate_cancel(m);
	return 0;
}

static int run_incoming(struct machine *m, json_t *args, struct command_result *r)
{
	const char *uri = json_string_value(json_object_get(args, "uri"));

	if (!m->config->incoming)
		return err_set(&r->err, EINVAL,
			       "'-incoming' was not specified on the command line (defer is for "
			       "this command)");
	if (strcmp(m->config->incoming, "defer"))
		return err_set(&r->err, EINVAL,
			       "this machine was not started with -incoming defer");
	if (!strncmp(uri, "file:", 5))
		return err_set(&r->err, EINVAL, "a file is loaded at the start: -incoming %s", uri);
	return migrate_incoming(m, uri, &r->err);
}

static int query_migrate(struct machine *m, json_t *args, struct command_result *r)
{
	static const char *const names[] = {
		"none",	      "setup",	   "active",	"device",
		"cancelling", "cancelled", "completed", "failed",
	};
	struct migrate_info i;

	migrate_query(m, &i);
	if (i.state == MIGRATE_NONE)
		return 0;
	r->value = json_pack("{s:s,s:I}", "status", names[i.state], "total-time",
			     (json_int_t)i.total_ms);
	if (i.state == MIGRATE_FAILED)
		json_object_set_new(r->value, "error-desc", json_string(i.error));
	if (i.state == MIGRATE_COMPLETED)
		json_object_set_new(r->value, "downtime", json_integer(i.downtime_ms));
	else
		json_object_set_new(r->value, "expected-downtime",
				    json_integer(i.expected_downtime_ms));
	if (i.throttle)
		json_object_set_new(r->value, "cpu-throttle-percentage", json_integer(i.throttle));
	json_object_set_new(
		r->value, "ram",
		json_pack("{s:I,s:I,s:I,s:I,s:I,s:i,s:I,s:I,s:f}", "total", (json_int_t)i.total,
			  "transferred", (json_int_t)i.transferred, "remaining",
			  (json_int_t)i.remaining, "duplicate", (json_int_t)i.zero_pages, "normal",
			  (json_int_t)i.normal_pages, "page-size", 4096, "dirty-pages-rate",
			  (json_int_t)i.dirty_rate, "dirty-sync-count", (json_int_t)i.rounds,
			  "mbps", i.bandwidth * 8.0 / 1e6));
	return 0;
}

static int set_parameters(struct machine *m, json_t *args, struct command_result *r)
{
	struct migrate_params p;
	json_t *bandwidth = json_object_get(args, "max-bandwidth"),
	       *downtime = json_object_get(args, "downtime-limit");

	migrate_get_params(m, &p);
	if (bandwidth && json_integer_value(bandwidth) < 0)
		return err_set(&r->err, EINVAL, "max-bandwidth: bytes a second, 0 for no limit");
	if (downtime &&
	    (json_integer_value(downtime) < 0 || json_integer_value(downtime) > 2000000))
		return err_set(&r->err, EINVAL, "downtime-limit: 0 to 2000000 milliseconds");
	if (bandwidth)
		p.max_bandwidth = json_integer_value(bandwidth);
	if (downtime)
		p.downtime_ms = json_integer_value(downtime);
	migrate_set_params(m, &p);
	return 0;
}

static int query_parameters(struct machine *m, json_t *args, struct command_result *r)
{
	struct migrate_params p;

	migrate_get_params(m, &p);
	r->value = json_pack("{s:I,s:I}", "max-bandwidth", (json_int_t)p.max_bandwidth,
			     "downtime-limit", (json_int_t)p.downtime_ms);
	return 0;
}

static int set_capabilities(struct machine *m, json_t *args, struct command_result *r)
{
	json_t *list = json_object_get(args, "capabilities"), *c;
	struct migrate_params p;
	size_t i;

	migrate_get_params(m, &p);
	json_array_foreach(list, i, c) {
		const char *name = json_string_value(json_object_get(c, "capability"));
		json_t *state = json_object_get(c, "state");

		if (!name || !json_is_boolean(state))
			return err_set(&r->err, EINVAL,
				       "capabilities: objects with \"capability\" and \"state\"");
		if (!strcmp(name, "compress"))
			p.compress = json_is_true(state);
		else if (!strcmp(name, "auto-converge"))
			p.auto_converge = json_is_true(state);
		else if (json_is_true(state))
			return err_set(&r->err, EINVAL,
				       "capability '%s' is not supported; there are: compress, "
				       "auto-converge",
				       name);
	}
	migrate_set_params(m, &p);
	return 0;
}

/* The monitor's, one at a time. */
static int set_parameter_line(struct machine *m, json_t *args, struct command_result *r)
{
	const char *name = json_string_value(json_object_get(args, "parameter"));
	const char *word = json_string_value(json_object_get(args, "value"));
	bool size = !strcmp(name, "max-bandwidth");
	uint64_t value;
	json_t *p;
	int ret;

	if (!size && strcmp(name, "downtime-limit"))
		return err_set(
			&r->err, EINVAL,
			"parameter '%s' is not known; there are: max-bandwidth, downtime-limit",
			name);
	if ((size ? parse_size(word, MiB, &value) : parse_u64(word, INT64_MAX, &value)) < 0 ||
	    value > INT64_MAX)
		return err_set(&r->err, EINVAL, "%s: \"%s\" is no number of %s", name, word,
			       size ? "bytes" : "milliseconds");
	p = json_pack("{s:I}", name, (json_int_t)value);
	ret = set_parameters(m, p, r);
	json_decref(p);
	return ret;
}

static int set_capability_line(struct machine *m, json_t *args, struct command_result *r)
{
	json_t *list = json_pack("{s:[O]}", "capabilities", args);
	int ret = set_capabilities(m, list, r);

	json_decref(list);
	return ret;
}

static int query_capabilities(struct machine *m, json_t *args, struct command_result *r)
{
	struct migrate_params p;

	migrate_get_params(m, &p);
	r->value = json_pack("[{s:s,s:b},{s:s,s:b}]", "capability", "auto-converge", "state",
			     p.auto_converge, "capability", "compress", "state", p.compress);
	return 0;
}

/* --- savevm --- */

static const char *name_of(json_t *args)
{
	return json_string_value(json_object_get(args, "name"));
}

static int run_savevm(struct machine *m, json_t *args, struct command_result *r)
{
	return savevm_save(m, name_of(args), &r->err);
}

static int run_loadvm(struct machine *m, json_t *args, struct command_result *r)
{
	return savevm_load(m, name_of(args), &r->err);
}

static int run_delvm(struct machine *m, json_t *args, struct command_result *r)
{
	return savevm_delete(m, name_of(args), &r->err);
}

static int info_snapshots(struct machine *m, json_t *args, struct command_result *r)
{
	struct node_snapshot *list = NULL;
	int count = 0, ret = savevm_list(m, &list, &count, &r->err);

	if (ret < 0)
		return ret;
	r->value = json_array();
	for (int i = 0; i < count; i++)
		json_array_append_new(r->value,
				      json_pack("{s:s,s:s,s:I,s:I,s:I}", "id", list[i].id, "name",
						list[i].name, "vm-state-size",
						(json_int_t)list[i].vm_state_size, "date-sec",
						(json_int_t)list[i].date_sec, "vm-clock-nsec",
						(json_int_t)list[i].vm_clock_nsec));
	free(list);
	return 0;
}

static void print_snapshots(json_t *value, FILE *out)
{
	json_t *s;
	size_t i;

	if (!json_array_size(value)) {
		fprintf(out, "There is no snapshot available.\n");
		return;
	}
	fprintf(out, "%-8s %-20s %10s %-19s %s\n", "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK");
	json_array_foreach(value, i, s) {
		time_t when = json_integer_value(json_object_get(s, "date-sec"));
		json_int_t ns = json_integer_value(json_object_get(s, "vm-clock-nsec"));
		char date[32];
		struct tm tm;

		strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", localtime_r(&when, &tm));
		fprintf(out, "%-8s %-20s %6.1f MiB %-19s %02d:%02d:%02d.%03d\n",
			json_string_value(json_object_get(s, "id")),
			json_string_value(json_object_get(s, "name")),
			json_integer_value(json_object_get(s, "vm-state-size")) / (double)MiB, date,
			(int)(ns / 3600000000000), (int)(ns / 60000000000 % 60),
			(int)(ns / 1000000000 % 60), (int)(ns / 1000000 % 1000));
	}
}

const struct command commands_migrate[] = {
	{ NULL,
	  "savevm",
	  "keep the machine in its disks under a name",
	  run_savevm,
	  NULL,
	  COMMAND_DISKS,
	  { { "name", ARG_STR, false } } },
	{ NULL,
	  "loadvm",
	  "go back to a machine kept by savevm",
	  run_loadvm,
	  NULL,
	  COMMAND_DISKS,
	  { { "name", ARG_STR, false } } },
	{ NULL,
	  "delvm",
	  "remove a machine kept by savevm",
	  run_delvm,
	  NULL,
	  COMMAND_DISKS,
	  { { "name", ARG_STR, false } } },
	{ NULL,
	  "info snapshots",
	  "machines kept by savevm",
	  info_snapshots,
	  print_snapshots,
	  COMMAND_DISKS,
	  { { 0 } } },
	{ "migrate",
	  NULL,
	  "move the machine to tcp:HOST:PORT, unix:PATH, exec:COMMAND, fd:N, or save it: file:PATH",
	  run_migrate,
	  NULL,
	  COMMAND_DISKS,
	  { { "uri", ARG_STR, false }, { "detach", ARG_BOOL, true } } },
	{ NULL,
	  "migrate",
	  "[-d] URI: move the machine to tcp:HOST:PORT, unix:PATH, exec:COMMAND, fd:N, or save it: "
	  "file:PATH; -d: do not "
	  "wait for the end (info migrate)",
	  run_migrate_line,
	  NULL,
	  COMMAND_PARTS,
	  { { "uri", ARG_STR, false }, { "detach", ARG_BOOL, true } } },
	{ "migrate_cancel",
	  "migrate_cancel",
	  "go on here",
	  run_cancel,
	  NULL,
	  COMMAND_FAST,
	  { { 0 } } },
	{ "migrate-incoming",
	  "migrate_incoming",
	  "wait for a machine (-incoming defer)",
	  run_incoming,
	  NULL,
	  COMMAND_FAST,
	  { { "uri", ARG_STR, false } } },
	{ "query-migrate",
	  "info migrate",
	  "how far a migration is",
	  query_migrate,
	  print_migrate,
	  COMMAND_FAST,
	  { { 0 } } },
	{ "migrate-set-parameters",
	  NULL,
	  "max-bandwidth (bytes a second), downtime-limit (milliseconds)",
	  set_parameters,
	  NULL,
	  COMMAND_FAST,
	  { { "max-bandwidth", ARG_SIZE, true }, { "downtime-limit", ARG_INT, true } } },
	{ "query-migrate-parameters",
	  "info migrate_parameters",
	  "limits of a migration",
	  query_parameters,
	  print_migrate_parameters,
	  COMMAND_FAST,
	  { { 0 } } },
	{ NULL,
	  "migrate_set_parameter",
	  "NAME VALUE: max-bandwidth (bytes a second, in MiB without a unit), downtime-limit "
	  "(milliseconds)",
	  set_parameter_line,
	  NULL,
	  COMMAND_FAST,
	  { { "parameter", ARG_STR, false }, { "value", ARG_STR, false } } },
	{ NULL,
	  "migrate_set_capability",
	  "compress or auto-converge, on or off",
	  set_capability_line,
	  NULL,
	  COMMAND_FAST,
	  { { "capability", ARG_STR, false }, { "state", ARG_BOOL, false } } },
	{ "migrate-set-capabilities",
	  NULL,
	  "compress, auto-converge",
	  set_capabilities,
	  NULL,
	  COMMAND_FAST,
	  { { "capabilities", ARG_ARRAY, false } } },
	{ "query-migrate-capabilities",
	  "info migrate_capabilities",
	  "what a migration may do",
	  query_capabilities,
	  print_migrate_capabilities,
	  COMMAND_FAST,
	  { { 0 } } },
	{ 0 },
};
