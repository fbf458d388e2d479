/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * command_screen.c: commands of the screen and the keyboard: screendump, sendkey, VNC's password
 * and state.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/backends/display.h"
#include "vmm/control/command.h"
#include "vmm/control/command_print.h"
#include "vmm/machine/screen.h"

static int run_screendump(struct machine *m, json_t *args, struct command_result *r)
{
	const char *path = json_string_value(json_object_get(args, "filename"));
	const char *format = json_string_value(json_object_get(args, "format"));
	int fd, ret;

	if (!m->display)
		return err_set(&r->err, ENODEV, "the machine has no graphics card");
	if (format && strcmp(format, "png"))
		return err_set(&r->err, EINVAL, "format %s: pictures are written as png", format);
	fd = host_open(&m->host, "picture of the screen", path, O_WRONLY | O_CREAT | O_TRUNC,
		       0644, &r->err);
	if (fd < 0)
		return fd;
	ret = display_screendump(m->display, fd, &r->err);
	if (close(fd) < 0 && ret == 0)
		ret = err_set(&r->err, errno, "%s: %s", path, strerror(errno));
	return ret;
}

static int run_sendkey(struct machine *m, json_t *args, struct command_result *r)
{
	return screen_sendkey(m, json_string_value(json_object_get(args, "keys")),
			      json_integer_value(json_object_get(args, "hold-time")), &r->err);
}

/* QMP: a list of {"type": "qcode", "data": "ctrl"}. */
static int run_send_key(struct machine *m, json_t *args, struct command_result *r)
{
	char line[256] = "";
	json_t *key;
	size_t i;

	json_array_foreach(json_object_get(args, "keys"), i, key) {
		const char *name = json_string_value(json_object_get(key, "data"));

		if (!name || strlen(line) + strlen(name) + 2 > sizeof(line))
			return err_set(&r->err, EINVAL,
				       "keys: a list of {\"type\": \"qcode\", \"data\": NAME}");
		if (*line)
			strcat(line, "-");
		strcat(line, name);
	}
	return screen_sendkey(m, line, json_integer_value(json_object_get(args, "hold-time")),
			      &r->err);
}

static int run_set_password(struct machine *m, json_t *args, struct command_result *r)
{
	const char *protocol = json_string_value(json_object_get(args, "protocol"));

	if (strcmp(protocol, "vnc"))
		return err_set(&r->err, EINVAL, "protocol %s: there is only vnc", protocol);
	return screen_set_password(m, json_string_value(json_object_get(args, "password")),
				   &r->err);
}

static int run_query_vnc(struct machine *m, json_t *args, struct command_result *r)
{
	struct vnc_info v;

	if (!screen_vnc_info(m, &v))
		r->value = json_pack("{s:b}", "enabled", 0);
	else
		r->value = json_pack("{s:b, s:s, s:s, s:s, s:s, s:i}", "enabled", 1, "host", v.host,
				     "service", v.service, "family",
				     v.is_unix		   ? "unix"
				     : strchr(v.host, ':') ? "ipv6"
							   : "ipv4",
				     "auth", v.password ? "vnc" : "none", "x-viewers",
				     (int)v.viewers);
	return r->value ? 0 : -ENOMEM;
}

/*
 * The characters on the screen, a line each, without what code page 437 has beyond ASCII ('#'
 * stands for it).
 */
static int run_screen_text(struct machine *m, json_t *args, struct command_result *r)
{
	struct text_screen *t;
	unsigned width, height;
	int ret = 0;

	if (!m->display)
		return err_set(&r->err, ENODEV, "the machine has no graphics card");
	t = xcalloc(1, sizeof(*t));
	if (!m->display->ops->text(m->display->ctx, t, &width, &height)) {
		ret = err_set(&r->err, EINVAL,
			      "the guest shows %u x %u pixels of graphics, no text (screendump)",
			      width, height);
	} else {
		char line[TEXT_MAX_COLS + 1];
		json_t *lines = json_array();

		for (unsigned y = 0; y < t->rows; y++) {
			unsigned len = 0;

			for (unsigned x = 0; x < t->cols; x++) {
				uint8_t c = t->cells[y * t->cols + x];

				line[x] = !c ? ' ' : c < ' ' || c >= 0x7f ? '#' : c;
				if (line[x] != ' ')
					len = x + 1;
			}
			line[len] = 0;
			json_array_append_new(lines, json_string(line));
		}
		r->value = lines;
	}
	free(t);
	return ret;
}

static void print_lines(json_t *value, FILE *out)
{
	json_t *line;
	size_t i;

	json_array_foreach(value, i, line)
		fprintf(out, "%s\n", json_string_value(line));
}

const struct command commands_screen[] = {
	{ "x-query-screen-text",
	  "info screen",
	  "the characters on the screen",
	  run_screen_text,
	  print_lines,
	  COMMAND_FAST,
	  { { 0 } } },
	{ "screendump",
	  "screendump",
	  "write the screen as a PNG picture",
	  run_screendump,
	  NULL,
	  COMMAND_SLOW,
	  { { "filename", ARG_STR, false },
	    { "device", ARG_STR, true },
	    { "head", ARG_INT, true },
	    { "format", ARG_STR, true } } },
	{ NULL,
	  "sendkey",
	  "press keys together, as in sendkey ctrl-alt-delete",
	  run_sendkey,
	  NULL,
	  COMMAND_FAST,
	  { { "keys", ARG_STR, false }, { "hold-time", ARG_INT, true } } },
	{ "send-key",
	  NULL,
	  "press keys together",
	  run_send_key,
	  NULL,
	  COMMAND_FAST,
	  { { "keys", ARG_ARRAY, false }, { "hold-time", ARG_INT, true } } },
	{ "set_password",
	  "set_password",
	  "the password VNC viewers must give",
	  run_set_password,
	  NULL,
	  COMMAND_FAST,
	  { { "protocol", ARG_STR, false },
	    { "password", ARG_STR, false },
	    { "connected", ARG_STR, true } } },
	{ "query-vnc",
	  "info vnc",
	  "the VNC server and how many watch",
	  run_query_vnc,
	  print_vnc,
	  COMMAND_FAST,
	  { { 0 } } },
	{ 0 },
};
