/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * command_run.c: commands that start, stop and end the machine, and what asks how it is. Main loop.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "devices/chips.h"
#include "vmm/base/log.h"
#include "vmm/control/command.h"
#include "vmm/machine/drives.h"
#include "vmm/machine/machine_state.h"
#include "vmm/move/migrate.h"

/* --- running --- */

static int run_stop(struct machine *m, json_t *args, struct command_result *r)
{
	struct err err = { "" };

	vm_pause(m->vm, PAUSE_USER);
	/* A migration needs them to the end. */
	if (migrate_under_way(m))
		return 0;
	/*
	 * A disk that cannot be flushed stays ours; the machine is stopped all the same, and the
	 * log says why.
	 */
	if (machine_give_disks(m, &err) < 0)
		log_warn("stop: the disks stay locked: %s", err.msg);
	return 0;
}

static int run_cont(struct machine *m, json_t *args, struct command_result *r)
{
	bool io_error = vm_pause_reasons(m->vm) & PAUSE_IO_ERROR;
	int ret = machine_take_disks(m, &r->err);

	if (ret < 0)
		return ret;
	if (vm_pause_reasons(m->vm) & PAUSE_MIGRATE && (ret = migrate_continue(m, &r->err)) < 0)
		return ret;
	vm_resume(m->vm, PAUSE_USER);
	vm_resume(m->vm, PAUSE_IO_ERROR);
	/* Only now: what fails again stops the guest again. */
	return io_error ? machine_retry_io(m, &r->err) : 0;
}

static int run_powerdown(struct machine *m, json_t *args, struct command_result *r)
{
	machine_powerdown(m);
	event_emit("POWERDOWN", NULL);
	return 0;
}

static int run_wakeup(struct machine *m, json_t *args, struct command_result *r)
{
	if (!machine_wakeup(m, PM_WAKE_OTHER))
		return err_set(&r->err, EINVAL,
			       "Unable to wake up: guest is not in suspended state");
	return 0;
}

static int run_reset(struct machine *m, json_t *args, struct command_result *r)
{
	vm_request(m->vm, VM_END_RESET, 1);
	return 0;
}

static int run_quit(struct machine *m, json_t *args, struct command_result *r)
{
	vm_request(m->vm, VM_END_QUIT, 0);
	return 0;
}

struct nmi {
	struct machine *m;
	int ret;
};

static void inject_nmi(void *ctx)
{
	struct nmi *n = ctx;

	for (unsigned i = 0; i < n->m->nvcpus && n->ret == 0; i++)
		n->ret = vcpu_nmi(n->m->vcpus[i]);
}

static int run_nmi(struct machine *m, json_t *args, struct command_result *r)
{
	struct nmi n = { .m = m };

	vm_exclusive_sync(m->vm, inject_nmi, &n);
	return n.ret < 0 ? err_set(&r->err, -n.ret, "KVM_NMI: %s", strerror(-n.ret)) : 0;
}

static int run_capabilities(struct machine *m, json_t *args, struct command_result *r)
{
	return err_set(&r->err, ENOSYS,
		       "Capabilities negotiation is already complete, command ignored");
}

static int run_human(struct machine *m, json_t *args, struct command_result *r)
{
	char *text = NULL, *crlf = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return -ENOMEM;
	monitor_line(m, json_string_value(json_object_get(args, "command-line")), false, out);
	fclose(out);
	/* As existing clients expect them, lines end with CR LF. */
	out = open_memstream(&crlf, &len);
	for (const char *p = text; *p; p++)
		fprintf(out, *p == '\n' ? "\r\n" : "%c", *p);
	fclose(out);
	r->value = json_string(crlf);
	free(crlf);
	free(text);
	return 0;
}

/*
 * For minivmm-ctl: a line already cut into words, so that a file name may have spaces, and whether
 * it went well.
 */
static int run_monitor_words(struct machine *m, json_t *args, struct command_result *r)
{
	json_t *list = json_object_get(args, "words"), *word;
	char *words[MONITOR_MAX_WORDS], *text = NULL;
	size_t len, i;
	FILE *out;
	int ret;

	if (json_array_size(list) > ARRAY_SIZE(words))
		return err_set(&r->err, E2BIG, "a line has at most %d words", MONITOR_MAX_WORDS);
	json_array_foreach(list, i, word) {
		if (!json_is_string(word))
			return err_set(&r->err, EINVAL, "words: a list of strings");
		words[i] = (char *)json_string_value(word);
	}
	out = open_memstream(&text, &len);
	if (!out)
		return -ENOMEM;
	ret = monitor_words(m, words, json_array_size(list),
			    json_is_true(json_object_get(args, "wait")), out);
	fclose(out);
	r->value = json_pack("{s:s, s:b}", "text", text, "ok", ret == 0);
	free(text);
	return r->value ? 0 : -ENOMEM;
}

const struct command commands_run[] = {
	{ "qmp_capabilities",
	  NULL,
	  "begin",
	  run_capabilities,
	  NULL,
	  COMMAND_FAST,
	  { { "enable", ARG_ARRAY, true } } },
	{ "stop", "stop", "pause the machine", run_stop, NULL, COMMAND_SLOW, { { 0 } } },
	{ "cont", "cont", "let it run on", run_cont, NULL, COMMAND_SLOW, { { 0 } } },
	{ NULL, "c", "let it run on", run_cont, NULL, COMMAND_SLOW, { { 0 } } },
	{ "system_powerdown",
	  "system_powerdown",
	  "press the power button",
	  run_powerdown,
	  NULL,
	  COMMAND_FAST,
	  { { 0 } } },
	{ "system_reset",
	  "system_reset",
	  "press the reset button",
	  run_reset,
	  NULL,
	  COMMAND_FAST,
	  { { 0 } } },
	{ "system_wakeup",
	  "system_wakeup",
	  "wake a guest that sleeps (S3)",
	  run_wakeup,
	  NULL,
	  COMMAND_FAST,
	  { { 0 } } },
	{ "quit", "quit", "end the machine at once", run_quit, NULL, COMMAND_FAST, { { 0 } } },
	{ NULL, "q", "end the machine at once", run_quit, NULL, COMMAND_FAST, { { 0 } } },
	{ "inject-nmi",
	  "nmi",
	  "a non-maskable interrupt on every processor (its LINT1 pin)",
	  run_nmi,
	  NULL,
	  COMMAND_SLOW,
	  { { 0 } } },
	{ "human-monitor-command",
	  NULL,
	  "a line of the monitor",
	  run_human,
	  NULL,
	  COMMAND_PARTS,
	  { { "command-line", ARG_STR, false }, { "cpu-index", ARG_INT, true } } },
	{ "x-monitor-words",
	  NULL,
	  "a line of the monitor, in words",
	  run_monitor_words,
	  NULL,
	  COMMAND_PARTS,
	  { { "words", ARG_ARRAY, false }, { "wait", ARG_BOOL, true } } },
	{ 0 },
};
