/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * minivmm-ctl: running machines from the shell: which there are, one line of the monitor or one QMP
 * request, and the words people know from virsh. It speaks QMP to the machine's control socket
 * (-qmp unix:PATH,server,nowait), which it finds by the machine's name or process number.
 */
#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "tools/lib/qmp_client.h"
#include "vmm/base/log.h"
#include "vmm/base/record.h"
#include "vmm/base/util.h"

#define MAX_MACHINES 256
#define ESCAPE 0x1d			/* Ctrl-] */

/* --- what runs: the machines' records --- */

struct found {
	int pid;
	char *name, *socket;		/* socket: NULL without -qmp unix: */
};

static unsigned nfound;

static bool take_record(void *ctx, const struct record *r)
{
	struct found *list = ctx;
	const char *socket = record_socket(r, "QMP");

	list[nfound++] = (struct found){
		.pid = r->pid,
		.name = r->name ? xstrdup(r->name) : NULL,
		.socket = socket ? xstrdup(socket) : NULL,
	};
	return nfound < MAX_MACHINES;
}

static unsigned find_all(struct found *list)
{
	nfound = 0;
	record_each(take_record, list);
	return nfound;
}

static int connect_unix(const char *path, struct err *err)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd;

	if (strlen(path) >= sizeof(un.sun_path))
		return err_set(err, ENAMETOOLONG, "%s: a socket's path has at most %zu bytes", path,
			       sizeof(un.sun_path) - 1);
	strcpy(un.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0) {
		err_set(err, errno, "%s: %s", path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return -EIO;
	}
	return fd;
}

/* --- words --- */

/* What a word may take; the rest (save, a line that a person waits for) takes its time. */
#define QUICK_MS 10000
/* list asks each machine this long. */
#define LIST_MS 2000

static int quit(struct qmp *q, struct err *err)
{
	int ret = qmp_call(q, "quit", NULL, QUICK_MS, NULL, err);

	/* It may be gone before its answer is. */
	if (ret == -EPIPE)
		err->msg[0] = 0;
	return ret == -EPIPE ? 0 : ret;
}

/* A machine of an older version takes a line in one piece: words are quoted. */
static int old_line(struct qmp *q, int argc, char **argv, struct err *err)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	const char *answer;
	json_t *v;
	int ret;

	for (int i = 0; i < argc; i++) {
		fputs(i ? " \"" : "\"", f);
		for (const char *p = argv[i]; *p; p++)
			fprintf(f, *p == '"' || *p == '\\' ? "\\%c" : "%c", *p);
		fputs("\"", f);
	}
	fclose(f);
	ret = qmp_call(q, "human-monitor-command", json_pack("{s:s}", "command-line", text),
		       QMP_FOREVER, &v, err);
	answer = ret == 0 ? json_string_value(v) : NULL;
	for (const char *p = answer; p && *p; p++)
		if (*p != '\r')
			putchar(*p);
	if (answer && !strncmp(answer, "Error:", 6))
		ret = -EIO;
	json_decref(v);
	free(text);
	return ret;
}

/* A line of the monitor; what went wrong goes to stderr. */
static int line(struct qmp *q, int argc, char **argv, struct err *err)
{
	json_t *list = json_array(), *v;
	const char *text;
	int ret, ok;

	for (int i = 0; i < argc; i++)
		if (json_array_append_new(list, json_string(argv[i])) < 0) {
			json_decref(list);
			return err_set(err, EILSEQ, "'%s' is not UTF-8", argv[i]);
		}
	ret = qmp_call(q, "x-monitor-words", json_pack("{s:o,s:b}", "words", list, "wait", 1),
		       QMP_FOREVER, &v, err);
	if (ret == -ENOSYS) {
		err->msg[0] = 0;
		return old_line(q, argc, argv, err);
	}
	if (ret < 0)
		return ret;
	if (json_unpack(v, "{s:s,s:b}", "text", &text, "ok", &ok) < 0) {
		ret = err_set(err, EPROTO, "the machine's answer is not understood");
	} else {
		fputs(text, ok ? stdout : stderr);
		ret = ok ? 0 : -EIO;
	}
	json_decref(v);
	return ret;
}

/* The machine's memory and registers into a file, then it ends. */
static int save(struct qmp *q, const char *file, struct err *err)
{
	char *full = *file == '/' ? xstrdup(file) : NULL, *uri, cwd[4096];
	const char *status = "";
	json_t *v = NULL;
	int ret;

	if (!full)
		full = xasprintf("%s/%s", getcwd(cwd, sizeof(cwd)) ? cwd : ".", file);
	uri = xasprintf("file:%s", full);
	ret = qmp_call(q, "stop", NULL, QUICK_MS, NULL, err);
	if (ret == 0)
		ret = qmp_call(q, "migrate", json_pack("{s:s}", "uri", uri), QUICK_MS, NULL, err);
	while (ret == 0 && strcmp(status, "completed")) {
		json_decref(v);
		ret = qmp_call(q, "query-migrate", NULL, QUICK_MS, &v, err);
		status = ret == 0 ? json_string_value(json_object_get(v, "status")) : "";
		if (ret == 0 && (!strcmp(status, "failed") || !strcmp(status, "cancelled")))
			ret = err_set(err, EIO, "%s: %s", full, json_object_get(v, "error-desc") ?
				      json_string_value(json_object_get(v, "error-desc")) : status);
		usleep(20000);
	}
	json_decref(v);
	if (ret == 0)
		ret = quit(q, err);
	else
		qmp_call(q, "cont", NULL, QUICK_MS, NULL, &(struct err){ "" });
	free(full);
	free(uri);
	return ret;
}

static void carry(int fd)
{
	struct pollfd p[2] = { { .fd = 0, .events = POLLIN }, { .fd = fd, .events = POLLIN } };
	char buf[4096];

	while (poll(p, 2, -1) >= 0 || errno == EINTR) {
		for (int i = 0; i < 2; i++) {
			ssize_t n = p[i].revents ? read(p[i].fd, buf, sizeof(buf)) : 0;

			if (p[i].revents && n <= 0)
				return;
			if (i == 0 && n > 0 && memchr(buf, ESCAPE, n))
				return;
			if (n > 0 && write_full(i ? 1 : fd, buf, n) < 0)
				return;
		}
	}
}

/* The guest's first serial port that lies on a unix socket, on this terminal. */
static int console(struct qmp *q, struct err *err)
{
	struct termios old, raw;
	const char *name = NULL;
	json_t *list, *d;
	char *path;
	size_t i;
	int ret = qmp_call(q, "query-chardev", NULL, QUICK_MS, &list, err), fd;
	bool tty = tcgetattr(0, &old) == 0;

	if (ret < 0)
		return ret;
	json_array_foreach(list, i, d) {
		const char *f = json_string_value(json_object_get(d, "filename"));

		if (!name && f && !strncmp(f, "unix:", 5))
			name = f + 5;
	}
	path = name ? strndup(name, strcspn(name, ",")) : NULL;
	json_decref(list);
	if (!path)
		return err_set(err, ENOENT,
			       "no serial port lies on a socket (start the machine with -serial "
			       "unix:PATH,server,nowait)");
	fd = connect_unix(path, err);
	free(path);
	if (fd < 0)
		return fd;
	fprintf(stderr, "Ctrl-] leaves\n");
	if (tty) {
		raw = old;
		cfmakeraw(&raw);
		tcsetattr(0, TCSANOW, &raw);
	}
	carry(fd);
	if (tty)
		tcsetattr(0, TCSANOW, &old);
	close(fd);
	return 0;
}

static int events(struct qmp *q, struct err *err)
{
	json_t *e;

	while ((e = qmp_event(q, QMP_FOREVER, err))) {
		char *text = json_dumps(e, JSON_COMPACT | JSON_PRESERVE_ORDER);

		printf("%s\n", text ? text : "");
		fflush(stdout);
		free(text);
		json_decref(e);
	}
	return err->msg[0] ? -EIO : 0;
}

/* A request as it is; the answer as it comes. */
static int raw_request(struct qmp *q, const char *text, struct err *err)
{
	json_error_t why;
	json_t *request = json_loads(text, 0, &why), *a;
	char *out;
	int ret;

	if (!request)
		return err_set(err, EINVAL, "that is no JSON: %s", why.text);
	a = qmp_request(q, request, QMP_FOREVER, err);
	json_decref(request);
	if (!a)
		return -EIO;
	ret = json_object_get(a, "error") ? -EIO : 0;
	out = json_dumps(a, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
	printf("%s\n", out);
	free(out);
	json_decref(a);
	return ret;
}

static const struct { const char *word, *line, *help; } words[] = {
	{ "suspend", "stop", "the guest stands, its disks may be copied" },
	{ "resume", "cont", "it goes on" },
	{ "shutdown", "system_powerdown", "press the power button" },
	{ "reset", "system_reset", "press the reset button" },
	{ "destroy", "quit", "end it at once" },
	{ "status", "info status", "what it does" },
};

/* A word for people, as the monitor's words. */
static int run_line(struct qmp *q, int argc, char **argv, struct err *err)
{
	char *copy = NULL, *save = NULL, *longer[4];
	int n = 0, ret;

	for (size_t i = 0; argc == 1 && i < ARRAY_SIZE(words); i++)
		if (!strcmp(argv[0], words[i].word))
			copy = xstrdup(words[i].line);
	if (!copy)
		return line(q, argc, argv, err);
	for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
		longer[n++] = w;
	ret = !strcmp(longer[0], "quit") ? quit(q, err) : line(q, n, longer, err);
	free(copy);
	return ret;
}

/* "{...}" may come in pieces, as when nobody quoted it. */
static char *join(int argc, char **argv)
{
	char *text = xstrdup(argv[0]);

	for (int i = 1; i < argc; i++) {
		char *longer = xasprintf("%s %s", text, argv[i]);

		free(text);
		text = longer;
	}
	return text;
}

static int run_words(const char *socket, int argc, char **argv, struct err *err)
{
	struct qmp *q = qmp_open(socket, QUICK_MS, err);
	char *text;
	int ret;

	if (!q)
		return -EIO;
	if (*argv[0] == '{') {
		text = join(argc, argv);
		ret = raw_request(q, text, err);
		free(text);
	} else if (!strcmp(argv[0], "console")) {
		ret = console(q, err);
	} else if (!strcmp(argv[0], "events")) {
		ret = events(q, err);
	} else if (!strcmp(argv[0], "save") && argc == 2) {
		ret = save(q, argv[1], err);
	} else {
		ret = run_line(q, argc, argv, err);
	}
	qmp_close(q);
	return ret;
}

/* --- which machine --- */

static int list_machines(void)
{
	static struct found list[MAX_MACHINES];
	unsigned n = find_all(list);

	printf("%-8s %-20s %-12s %s\n", "PID", "NAME", "STATUS", "CONTROL SOCKET");
	for (unsigned i = 0; i < n; i++) {
		struct err err = { "" };
		struct qmp *q =
			list[i].socket ? qmp_open(list[i].socket, LIST_MS, &err) : NULL;
		json_t *v = NULL;
		const char *status = NULL;

		if (q && qmp_call(q, "query-status", NULL, LIST_MS, &v, &err) == 0)
			status = json_string_value(json_object_get(v, "status"));
		qmp_close(q);
		if (!status)
			status = strstr(err.msg, "no answer") ? "no answer" : "?";
		printf("%-8d %-20s %-12s %s\n", list[i].pid, list[i].name ? list[i].name : "-",
		       status, list[i].socket ? list[i].socket : "-");
		json_decref(v);
	}
	return 0;
}

static bool is_meant(const struct found *f, const char *who)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", f->pid);
	return !strcmp(who, pid) || (f->name && !strcmp(who, f->name)) || !strcmp(who, "all");
}

static int for_machines(const char *who, int argc, char **argv)
{
	static struct found list[MAX_MACHINES];
	unsigned n, met = 0;
	int worst = 0;

	if (strchr(who, '/')) {
		struct err err = { "" };

		worst = run_words(who, argc, argv, &err);
		if (err.msg[0])
			log_error("%s", err.msg);
		return worst < 0;
	}
	n = find_all(list);
	for (unsigned i = 0; i < n; i++) {
		struct err err = { "" };
		int ret;

		if (!is_meant(&list[i], who))
			continue;
		met++;
		ret = list[i].socket
			      ? run_words(list[i].socket, argc, argv, &err)
			      : err_set(&err, ENOENT,
					"it has no control socket (-qmp unix:PATH,server,nowait)");
		if (err.msg[0])
			log_error("%s (process %d): %s", list[i].name ? list[i].name : who,
				  list[i].pid, err.msg);
		worst |= ret < 0;
	}
	if (!met && strcmp(who, "all")) {
		log_error("no machine that runs has the name or process number '%s' (minivmm-ctl "
			  "list)",
			  who);
		return 1;
	}
	return worst;
}

static int usage(FILE *out)
{
	fprintf(out, "minivmm-ctl list                       the machines that run\n"
		     "minivmm-ctl MACHINE COMMAND [ARG...]   MACHINE: its name, its process "
		     "number, the path of its control socket, or all\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		fprintf(out, "  %-14s %s\n", words[i].word, words[i].help);
	fprintf(out, "  %-14s %s\n  %-14s %s\n  %-14s %s\n  %-14s %s\n  %-14s %s\n", "save FILE",
		"into a file, and end; minivmm -incoming file:FILE starts it again", "console",
		"its serial port here (-serial unix:PATH,server,nowait); Ctrl-] leaves", "events",
		"what happens to it, a line each, until it ends", "{...}", "a QMP request as it is",
		"anything else", "a line of its monitor: \"info block\", \"help\"");
	return out == stdout ? 0 : 2;
}

int main(int argc, char **argv)
{
	log_set_name("minivmm-ctl");
	if (argc == 2 && !strcmp(argv[1], "list"))
		return list_machines();
	if (argc == 2 &&
	    (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "help")))
		return usage(stdout);
	return argc < 3 ? usage(stderr) : for_machines(argv[1], argc - 2, argv + 2);
}
