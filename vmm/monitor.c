/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * monitor.c: lines a person types: on a socket, or on the terminal after Ctrl-A C. Main loop. A slow command blocks
 * the person's connection only on a socket of its own thread's making (qmp.c does the same); here it runs at once.
 */
#include <errno.h>
#include <stdlib.h>

#include "vmm/command.h"
#include "vmm/control.h"
#include "vmm/log.h"

#define PROMPT "(minivmm) "
#define MAX_LINE 1024
#define HISTORY 32

/* --- on a socket --- */

static void socket_opened(struct control_conn *c)
{
	static const char hello[] = "minivmm " MINIVMM_VERSION " monitor - type 'help' for the commands\n" PROMPT;

	control_send(c, hello, sizeof(hello) - 1);
}

static char *run_line(struct machine *m, const char *line, size_t *len)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, len);

	if (!out)
		return NULL;
	monitor_line(m, line, out);
	fclose(out);
	return text;
}

static size_t socket_input(struct control_conn *c, const char *buf, size_t len)
{
	const char *end = memchr(buf, '\n', len);
	char *line, *text;
	size_t n, out_len = 0;

	if (!end)
		return 0;
	n = end - buf + 1;
	line = strndup(buf, n - 1);
	text = line ? run_line(control_machine(c), line, &out_len) : NULL;
	if (text)
		control_send(c, text, out_len);
	control_send(c, PROMPT, strlen(PROMPT));
	free(text);
	free(line);
	return n;
}

static const struct control_protocol monitor_protocol = { socket_opened, socket_input, NULL };

/* --- on the terminal, sharing it with the serial port --- */

struct terminal {
	struct machine *m;
	struct chardev *c;
	const struct chardev_user *guest;	/* the serial port, while the monitor has the terminal */
	void *guest_ctx;
	bool active;
	char line[MAX_LINE];
	size_t len;
	char *history[HISTORY];
	unsigned nhistory, at;			/* at: which line the arrow keys show */
	unsigned escape;			/* how much of an arrow key's sequence has come */
};

static void put(struct terminal *t, const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (s[i] == '\n')
			chardev_write(t->c, "\r", 1);
		chardev_write(t->c, s + i, 1);
	}
}

static void puts_text(struct terminal *t, const char *s)
{
	put(t, s, strlen(s));
}

static void show_line(struct terminal *t)
{
	puts_text(t, "\r\033[K" PROMPT);
	put(t, t->line, t->len);
}

static void recall(struct terminal *t, int step)
{
	unsigned at = t->at + step;

	if (at > t->nhistory)
		return;
	t->at = at;
	t->len = at < t->nhistory ? strlen(t->history[at]) : 0;
	memcpy(t->line, at < t->nhistory ? t->history[at] : "", t->len);
	show_line(t);
}

struct completion { const char *prefix; size_t len; const char *found; unsigned n; };

static bool complete_one(const struct command *c, const void *ctx)
{
	struct completion *k = (struct completion *)ctx;

	if (c->monitor && !strncmp(c->monitor, k->prefix, k->len)) {
		k->found = c->monitor;
		k->n++;
	}
	return false;
}

static bool list_one(const struct command *c, const void *ctx)
{
	const struct { struct terminal *t; const char *prefix; size_t len; } *k = ctx;

	if (c->monitor && !strncmp(c->monitor, k->prefix, k->len)) {
		puts_text(k->t, "\n");
		puts_text(k->t, c->monitor);
	}
	return false;
}

static void complete(struct terminal *t)
{
	struct completion k = { t->line, t->len, NULL, 0 };
	const struct { struct terminal *t; const char *prefix; size_t len; } list = { t, t->line, t->len };

	command_find(complete_one, &k);
	if (k.n == 1) {
		t->len = snprintf(t->line, sizeof(t->line), "%s ", k.found);
	} else if (k.n > 1) {
		command_find(list_one, &list);
		puts_text(t, "\n");
	}
	show_line(t);
}

static void enter(struct terminal *t)
{
	char *text;
	size_t len = 0;

	t->line[t->len] = 0;
	puts_text(t, "\n");
	if (t->len) {
		if (t->nhistory == HISTORY) {
			free(t->history[0]);
			memmove(t->history, t->history + 1, (HISTORY - 1) * sizeof(t->history[0]));
			t->nhistory--;
		}
		t->history[t->nhistory++] = xstrdup(t->line);
	}
	t->at = t->nhistory;
	t->len = 0;
	text = run_line(t->m, t->line, &len);
	if (text)
		put(t, text, len);
	free(text);
	puts_text(t, PROMPT);
}

static void key(struct terminal *t, uint8_t k)
{
	if (t->escape == 2 || (t->escape == 1 && k == '[')) {
		t->escape = t->escape == 1 ? 2 : 0;
		if (k == 'A')
			recall(t, -1);
		else if (k == 'B')
			recall(t, 1);
	} else if (k == 27) {
		t->escape = 1;
	} else if (k == '\r' || k == '\n') {
		enter(t);
	} else if (k == '\t') {
		complete(t);
	} else if (k == 127 || k == 8) {
		t->len -= t->len > 0;
		show_line(t);
	} else if (k == 21) {
		t->len = 0;
		show_line(t);
	} else if (k >= ' ' && t->len < MAX_LINE - 1) {
		t->line[t->len++] = k;
		put(t, (char *)&k, 1);
	}
}

static size_t terminal_can_read(void *ctx)
{
	return 64;
}

static void terminal_read(void *ctx, const uint8_t *buf, size_t len)
{
	struct terminal *t = ctx;

	for (size_t i = 0; i < len; i++)
		key(t, buf[i]);
}

static const struct chardev_user terminal_user = { .can_read = terminal_can_read, .read = terminal_read };
static struct terminal terminal;

void monitor_toggle(struct machine *m)
{
	struct terminal *t = &terminal;

	t->m = m;
	t->c = m->stdio;
	if (t->active) {
		t->active = false;
		puts_text(t, "\n");
		chardev_set_user(t->c, t->guest, t->guest_ctx);
	} else {
		t->active = true;
		t->guest = chardev_get_user(t->c, &t->guest_ctx);
		chardev_set_user(t->c, &terminal_user, t);
		puts_text(t, "\nminivmm " MINIVMM_VERSION " monitor - type 'help' for the commands, Ctrl-A C goes back\n" PROMPT);
	}
}

int monitor_start(struct machine *m, const char *spec, struct err *err)
{
	int ret = 0;

	if (!strcmp(spec, "none"))
		return 0;
	if (strcmp(spec, "stdio")) {
		ret = control_listen(m, spec, &monitor_protocol, err);
		if (ret < 0)
			err_prefix(err, "-monitor");
		return ret;
	}
	if (!m->stdio) {
		m->stdio = chardev_open("monitor", "mon:stdio", m->loop, &m->host, err);
		if (!m->stdio)
			return -EIO;
		m->consoles[m->nconsoles++] = m->stdio;
	}
	monitor_toggle(m);
	return 0;
}
