/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: the control socket. The first byte chooses: raw bytes for the QMP protocol, or a
 * command of the table by its number with arguments of the types that it wants, made of the bytes
 * that follow. Whatever is asked, the machine answers and lives.
 */
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/fuzz/machine.h"
#include "tests/fuzz/ops.h"
#include "vmm/control/command.h"
#include "vmm/machine/screen.h"

static struct machine *m;

static void make(void)
{
	char *argv[] = { "fuzz",     "-m",
			 "8",	     "-nodefaults",
			 "-display", "none",
			 "-serial",  "null",
			 "-vga",     "std",
			 "-drive",   "file=disk,format=qcow2,id=d0",
			 "-drive",   "file=disk2,format=qcow2,id=d1,if=none",
			 "-device",  "virtio-balloon-pci",
			 NULL };
	struct err err = { "" };

	fuzz_enter_folder();
	fuzz_disk("disk");
	fuzz_disk("disk2");
	fuzz_disk("disk3");
	m = fuzz_machine(argv);
	if (screen_start(m, &err) < 0 || qmp_start(m, "unix:qmp", &err) < 0)
		abort();
}

/* What reaches beyond the folder or ends the machine. */
static bool forbidden(const uint8_t *p, size_t len)
{
	static const char *const words[] = { "/",     "\\",   "exec:", "quit", "tcp:",
					     "spawn", "http", "nbd",   "ssh" };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (memmem(p, len, words[i], strlen(words[i])))
			return true;
	return false;
}

/* --- raw bytes --- */

static void raw(const uint8_t *p, size_t len)
{
	static const char hello[] = "{\"execute\":\"qmp_capabilities\"}\n",
			  end[] = "\n{\"execute\":\"query-status\",\"id\":\"the end\"}\n";
	struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "qmp" };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char answer[65536];
	ssize_t n;

	if (forbidden(p, len))
		goto out;
	if (connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0)
		abort();
	fcntl(fd, F_SETFL, O_NONBLOCK);
	loop_once(m->loop, 0);
	(void)!send(fd, hello, strlen(hello), MSG_NOSIGNAL);
	(void)!send(fd, p, len, MSG_NOSIGNAL);
	(void)!send(fd, end, strlen(end), MSG_NOSIGNAL);
	/* An answer to the end, or an input that swallows it. */
	for (int idle = 0; idle < 5;) {
		loop_once(m->loop, 1);
		n = recv(fd, answer, sizeof(answer), MSG_DONTWAIT);
		if (!n || (n > 0 && memmem(answer, n, "the end", 7)))
			break;
		idle = n > 0 ? 0 : idle + 1;
	}
out:
	close(fd);
	fuzz_settle(m);
}

/* --- a command with arguments --- */

static const struct command *all[256];
static unsigned nall;

static bool collect(const struct command *c, const void *ctx)
{
	static const char *const not_these[] = { "quit", "q", "human-monitor-command" };

	for (size_t i = 0; i < ARRAY_SIZE(not_these); i++)
		if ((c->name && !strcmp(c->name, not_these[i])) ||
		    (c->monitor && !strcmp(c->monitor, not_these[i])))
			return false;
	if (nall < ARRAY_SIZE(all))
		all[nall++] = c;
	return false;
}

static json_t *value(enum arg_type type, const uint8_t **p, size_t *left, unsigned depth)
{
	static const char *const words[] = { "d0",	 "d1",	     "disk",
					     "disk2",	 "disk3",    "new",
					     "",	 "all",	     "qcow2",
					     "raw",	 "full",     "none",
					     "x86",	 "file:new", "unix:none",
					     "compress", "a",	     "ram",
					     "name",	 "0",	     "18446744073709551615",
					     "on",	 "up",	     "existing",
					     "report",	 "\xc3\xa4" };
	static const char *const keys[] = {
		"type", "data", "capability", "state", "key",  "down",
		"axis", "id",	"driver",     "value", "name", "device"
	};
	uint8_t pick = fuzz_take(p, left, 1);
	char text[40] = "";
	json_t *v;

	switch (type) {
	case ARG_STR:
		if (pick < 200)
			return json_string(words[pick % ARRAY_SIZE(words)]);
		memcpy(text, *p, MIN((size_t)pick - 200, MIN(*left, sizeof(text) - 1)));
		fuzz_take(p, left, 8);
		if (forbidden((uint8_t *)text, strlen(text)) || !(v = json_string(text)))
			return json_string("odd");
		return v;
	case ARG_INT:
	case ARG_SIZE:
		return json_integer(
			(json_int_t)(pick < 128 ? pick : fuzz_take(p, left, pick & 8 ? 8 : 4)));
	case ARG_BOOL:
		return json_boolean(pick & 1);
	case ARG_ARRAY:
		v = json_array();
		for (unsigned i = 0; i < pick % 4u && depth < 4; i++)
			json_array_append_new(v, value(ARG_ANY, p, left, depth + 1));
		return v;
	case ARG_OBJECT:
		v = json_object();
		for (unsigned i = 0; i < pick % 5u && depth < 4; i++) {
			const char *key = keys[fuzz_take(p, left, 1) % ARRAY_SIZE(keys)];

			json_object_set_new(v, key, value(ARG_ANY, p, left, depth + 1));
		}
		return v;
	default:
		return value(pick % 6, p, left, depth);
	}
}

struct call { const struct command *c; json_t *args; struct command_result r; int ret; bool done; };

static void *call_thread(void *ctx)
{
	struct call *c = ctx;

	c->ret = command_run(m, c->c, c->args, &c->r);
	__atomic_store_n(&c->done, true, __ATOMIC_RELEASE);
	loop_wake(m->loop);
	return NULL;
}

static void one_command(const uint8_t **p, size_t *left)
{
	struct call call = { .args = json_object() };
	pthread_t thread;

	if (!nall)
		command_find(collect, NULL);
	call.c = all[fuzz_take(p, left, 1) % nall];
	for (int i = 0; i < COMMAND_MAX_ARGS && call.c->args[i].name; i++) {
		const struct command_arg *a = &call.c->args[i];

		if (!a->optional || fuzz_take(p, left, 1) & 1)
			json_object_set_new(call.args, a->name, value(a->type, p, left, 0));
	}
	if (getenv("FUZZ_LOG")) {
		char *text = json_dumps(call.args, 0);

		fprintf(stderr, "%s %s\n", call.c->name ? call.c->name : call.c->monitor, text);
		free(text);
	}
	if (call.c->slow == COMMAND_FAST) {
		call.ret = command_run(m, call.c, call.args, &call.r);
	} else {
		if (pthread_create(&thread, NULL, call_thread, &call))
			abort();
		while (!__atomic_load_n(&call.done, __ATOMIC_ACQUIRE))
			loop_once(m->loop, 10);
		pthread_join(thread, NULL);
	}
	if (call.ret >= 0 && call.r.value) {
		char *text = json_dumps(call.r.value, JSON_ENCODE_ANY);

		if (!text)
			abort();		/* an answer that is no JSON */
		free(text);
	}
	json_decref(call.r.value);
	json_decref(call.args);
	fuzz_settle(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!m)
		make();
	if (!size)
		return 0;
	if (data[0] & 1) {
		raw(data + 1, size - 1);
	} else {
		data++, size--;
		for (int i = 0; size && i < 6; i++)
			one_command(&data, &size);
	}
	return 0;
}
