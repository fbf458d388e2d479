/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * command.h: one table of control commands serves programs (QMP, qmp.c) and people (monitor.c). A
 * command takes a JSON object that was checked against its arguments and gives a JSON value or an
 * error.
 *
 * Handlers run on the main loop; one marked slow runs on a thread of its own connection's making,
 * holds no lock, and may block.
 */
#ifndef VMM_CONTROL_COMMAND_H
#define VMM_CONTROL_COMMAND_H

#include <jansson.h>

#include "vmm/base/event.h"
#include "vmm/machine/machine.h"

enum arg_type { ARG_STR, ARG_INT, ARG_BOOL, ARG_SIZE, ARG_OBJECT, ARG_ARRAY, ARG_ANY };
struct command_arg {
	const char *name;		/* "*": whatever else there is, the command looks itself */
	enum arg_type type;
	bool optional;
};

/*
 * QMP's error classes; -errno decides: -ENODEV DeviceNotFound, -ENOSYS CommandNotFound, everything
 * else GenericError.
 */
struct command_result {
	json_t *value;			/* NULL: {} */
	struct err err;
};

enum command_speed {
	COMMAND_FAST,			/* main loop, its lock held */
	/*
	 * a control thread, no loop's lock held; one after the other, and the machine keeps its
	 * parts meanwhile
	 */
	COMMAND_SLOW,
	/* the same, and the disks are taken back first when a stopped machine gave them up */
	COMMAND_DISKS,
	/*
	 * a control thread that holds nothing: the command changes the machine's parts, or runs
	 * others
	 */
	COMMAND_PARTS,
};

#define COMMAND_MAX_ARGS 24
struct command {
	const char *name;		/* as QMP has it; NULL: monitor only */
	const char *monitor;		/* as the monitor has it; NULL: QMP only */
	const char *help;
	int (*run)(struct machine *m, json_t *args, struct command_result *r);
	/* How a person sees the value; NULL: one "key: value" line each. Writes to out. */
	void (*print)(json_t *value, FILE *out);
	enum command_speed speed;
	struct command_arg args[COMMAND_MAX_ARGS];
};

/* The tables, each ending with an empty entry; command_*.c. */
extern const struct command commands_step[], commands_look[], commands_chips[];
extern const struct command commands_run[], commands_query[], commands_query_block[],
	commands_stats[], commands_block[], commands_device[], commands_net[], commands_memory[],
	commands_screen[], commands_migrate[], commands_job[], commands_transaction[],
	commands_config[], commands_fd[];
/*
 * Runs work(ctx) on a thread of its own, which holds no lock, then done(ctx) on the main loop. The
 * machine is not taken apart before (command_threads_wait, at its end). Main loop. 0, or -errno
 * when there is no thread: neither of the two runs.
 */
int command_thread(struct machine *m, void (*work)(void *ctx), void (*done)(void *ctx), void *ctx);
void command_threads_wait(struct machine *m);
/*
 * The drive with a medium that "device" or "node-name" names, by its own name or its device's. NULL
 * with the reason.
 */
struct machine_drive *command_drive(struct machine *m, json_t *args, struct err *err);
/*
 * The answer of a command whose value is text: what was written to a stream of open_memstream,
 * which ends here.
 */
json_t *command_text(FILE *out, char **text, const size_t *len);
/* Calls fn for each command of all tables; stops when it returns true and gives that command. */
const struct command *command_find(bool (*fn)(const struct command *c, const void *ctx),
				   const void *ctx);
const struct command *command_by_name(const char *qmp_name);
const struct command *command_by_monitor_name(const char *name);

/* Checks types, missing and unknown arguments. 0 or -EINVAL with the reason. */
int command_check_args(const struct command *c, json_t *args, struct err *err);
/*
 * The one way in which clients call a command: checks its arguments, runs it at once or on a thread
 * as its speed says, and calls done(ctx, ret, r) on the main loop, exactly once, perhaps before
 * this returns. ret: 0 or -errno with r->err; r and its value are done's to look at, not to keep.
 * Main loop. args is not taken over.
 */
typedef void command_done(void *ctx, int ret, struct command_result *r);
void command_call(struct machine *m, const struct command *c, json_t *args, command_done *done,
		  void *ctx);
/* The same without a loop: on any thread that holds no lock, or the main loop for a fast one. */
int command_run(struct machine *m, const struct command *c, json_t *args, struct command_result *r);
/*
 * A line of the monitor: finds the command, turns words into arguments, runs it, prints. A person
 * waits for what takes long unless told otherwise with -d (detach); for a program
 * (human-monitor-command) it goes on by itself.
 */
/* 0, or -errno when it failed; out says why. */
int monitor_line(struct machine *m, const char *line, bool person, FILE *out);
/* The same, already cut into words. */
int monitor_words(struct machine *m, char **words, unsigned n, bool person, FILE *out);
#define MONITOR_MAX_WORDS 32

/* "-qmp SPEC": a server of QMP connections. 0 or -errno with the reason. */
int qmp_start(struct machine *m, const char *spec, struct err *err);
int monitor_start(struct machine *m, const char *spec, struct err *err);
/* Ctrl-A C: the terminal goes to the monitor, or back to the serial port. */
void monitor_toggle(struct machine *m);

#endif
