/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * monitor.c: lines a person types: on a socket, or on the terminal after Ctrl-A C. Main loop; each
 * line is carried out by a thread of its own.
 */
#include <errno.h>
#include <stdlib.h>

#include "vmm/base/log.h"
#include "vmm/control/command.h"
#include "vmm/control/control.h"

#define PROMPT "(minivmm) "
#define MAX_LINE 1024
#define HISTORY 32

/* --- on a socket --- */

static void socket_opened(struct control_conn *c)
{
	static const char hello[] = "minivmm " MINIVMM_VERSION
				    " monitor - type 'help' for the commands\n" PROMPT;

	control_send(c, hello, sizeof(hello) - 1);
}

/*
 * A line runs on a thread of its own: a slow command must not hold up the machine. The answer comes
 * back by post.
 */
struct line_job {
	struct machine *m;
	char *line, *text;
	size_t len;
	void (*done)(struct line_job *j);
	void *ctx;
};

static void line_done(void *ctx)
{
	struct line_job *j = ctx;

	j->done(j);
	free(j->line);
	free(j->text);
	free(j);
}

static void line_work(void *ctx)
{
	struct line_job *j = ctx;
	FILE *out = open_memstream(&j->text, &j->len);

	if (out) {
		monitor_line(j->m, j->line, true, out);
		fclose(out);
	}
}

static void run_line(struct machine *m, const char *line, void (*done)(struct line_job *j),
		     void *ctx)
{
	struct line_job *j = xcalloc(1, sizeof(*j));

	*j = (struct line_job){ .m = m, .line = xstrdup(line), .done = done, .ctx = ctx };
	if (command_thread(m, line_work, line_done, j) < 0) {
		j->text = xstrdup("Error: no thread for the line\n");
		j->len = strlen(j->text);
		line_done(j);
	}
}

static void socket_done(struct line_job *j)
{
	struct control_conn *c = j->ctx;

	if (j->text)
		control_send(c, j->text, j->len);
	control_send(c, PROMPT, strlen(PROMPT));
	control_resume(c);
}

static size_t socket_input(struct control_conn *c, const char *buf, size_t len)
{
	const char *end = memchr(buf, '\n', len);
	char *line;

	if (!end)
		return 0;
	line = strndup(buf, end - buf);
	if (line) {
		control_hold(c);
		run_line(control_machine(c), line, socket_done, c);
	}
	free(line);
	return end - buf + 1;
}

static const struct control_protocol monitor_protocol = {
	"monitor", socket_opened, socket_input, NULL
};

/* --- on the terminal, sharing it with the serial port --- */

struct terminal {
	struct machine *m;
	struct chardev *c;
	/* the serial port, while the monitor has the terminal */
	const struct chardev_user *guest;
	void *guest_ctx;
	bool active;
	bool busy;				/* a line is being carried out */
	uint8_t ahead[64];			/* what was typed meanwhile */
	size_t nahead;
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
	const struct {
		struct terminal *t;
		const char *prefix;
		size_t len;
	} list = { t, t->line, t->len };

	command_find(complete_one, &k);
	if (k.n == 1) {
		t->len = snprintf(t->line, sizeof(t->line), "%s ", k.found);
	} else if (k.n > 1) {
		command_find(list_one, &list);
		puts_text(t, "\n");
	}
	show_line(t);
}

static void keys(struct terminal *t, const uint8_t *buf, size_t len);

/* What was typed while the line was carried out is next; then the terminal is read again. */
static void terminal_done(struct line_job *j)
{
	struct terminal *t = j->ctx;
	uint8_t ahead[sizeof(t->ahead)];
	size_t n = t->nahead;

	t->busy = false;
	if (j->text)
		put(t, j->text, j->len);
	if (t->active)
		puts_text(t, PROMPT);
	memcpy(ahead, t->ahead, n);
	t->nahead = 0;
	keys(t, ahead, n);
	if (!t->busy && t->active)
		chardev_accept(t->c);
}

static void enter(struct terminal *t)
{
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
	t->busy = true;
	run_line(t->m, t->line, terminal_done, t);
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

static void keys(struct terminal *t, const uint8_t *buf, size_t len)
{
	size_t i = 0;

	while (i < len && !t->busy)
		key(t, buf[i++]);
	t->nahead = len - i;
	memcpy(t->ahead, buf + i, t->nahead);
}

static size_t terminal_can_read(void *ctx)
{
	struct terminal *t = ctx;

	return t->busy ? 0 : sizeof(t->ahead);
}

static void terminal_read(void *ctx, const uint8_t *buf, size_t len)
{
	keys(ctx, buf, len);
}

static const struct chardev_user terminal_user = { .can_read = terminal_can_read,
						   .read = terminal_read };
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
		puts_text(t,
			  "\nminivmm " MINIVMM_VERSION
			  " monitor - type 'help' for the commands, Ctrl-A C goes back\n" PROMPT);
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
