/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * screen.c: connects the graphics card and the keyboard controller with whoever looks and types:
 * VNC viewers, the terminal, the sendkey and screendump commands (control/command_screen.c). The
 * servers themselves are modules with threads of their own; their input comes here on any thread
 * and takes the main loop's lock for a moment.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/chips.h"
#include "devices/virtio/virtio.h"
#include "vmm/backends/display.h"
#include "vmm/backends/keymap.h"
#include "vmm/backends/vnc.h"
#include "vmm/base/log.h"
#include "vmm/machine/screen.h"

#define VNC_BASE_PORT 5900
#define SENDKEY_HOLD_MS 100
#define SENDKEY_MAX 16

struct machine_screen {
	struct machine *m;
	struct input input;
	const struct keymap *keymap;
	const struct vnc_ops *vnc_ops;
	struct vnc *vnc;
	char *vnc_host, *vnc_service;	/* for query-vnc */
	struct host_path vnc_own;	/* the socket to remove */
	bool vnc_password;
	const struct curses_ops *curses_ops;
	struct curses *curses;
	struct loop_timer release;	/* of what sendkey holds down */
	unsigned held[SENDKEY_MAX];
	int nheld;
};

/* --- input, any thread --- */
static void input_key(void *ctx, unsigned key, bool down)
{
	struct machine *m = ctx;

	if (!m->i8042)
		return;
	loop_lock(m->loop);
	i8042_key(m->i8042, key, down);
	loop_unlock(m->loop);
}

static void input_mouse(void *ctx, int dx, int dy, int dz, unsigned buttons)
{
	struct machine *m = ctx;

	if (!m->i8042)
		return;
	loop_lock(m->loop);
	i8042_mouse(m->i8042, dx, dy, dz, buttons);
	loop_unlock(m->loop);
}

/* A tablet whose driver runs, or the pointer of the VMware port, takes the place of the mouse. */
static bool input_pointer(void *ctx, unsigned x, unsigned y, unsigned w, unsigned h, int dz,
			  unsigned buttons)
{
	struct machine *m = ctx;
	bool taken;

	loop_lock(m->loop);
	taken = m->tablet && virtio_input_active(m->tablet) && w > 1 && h > 1;
	if (!taken && m->vmmouse && vmmouse_active(m->vmmouse) && w > 1 && h > 1) {
		vmmouse_move(m->vmmouse, (uint16_t)(MIN(x, w - 1) * 65535ull / (w - 1)),
			     (uint16_t)(MIN(y, h - 1) * 65535ull / (h - 1)), dz, buttons);
		loop_unlock(m->loop);
		return true;
	}
	if (taken)
		virtio_input_pointer(m->tablet, (uint64_t)x * VIRTIO_INPUT_ABS_MAX / (w - 1),
				     (uint64_t)y * VIRTIO_INPUT_ABS_MAX / (h - 1), -dz, buttons);
	loop_unlock(m->loop);
	return taken;
}

static void sendkey_release(void *ctx)
{
	struct machine_screen *s = ctx;

	while (s->nheld)
		i8042_key(s->m->i8042, s->held[--s->nheld], false);
}

int screen_sendkey(struct machine *m, const char *keys, unsigned hold_ms, struct err *err)
{
	struct machine_screen *s = m->screen;
	unsigned list[SENDKEY_MAX];
	int n;

	if (!m->i8042)
		return err_set(err, ENODEV, "this machine has no keyboard (-M micro)");
	n = keys_parse(keys, list, SENDKEY_MAX, err);
	if (n < 0)
		return n;
	/*
	 * What is still down from the last time goes up first, so that the same key can be pressed
	 * again.
	 */
	sendkey_release(s);
	for (; s->nheld < n; s->nheld++) {
		s->held[s->nheld] = list[s->nheld];
		i8042_key(m->i8042, list[s->nheld], true);
	}
	loop_timer_set(&s->release,
		       now_ns() + (hold_ms ? MIN(hold_ms, 60000u) : SENDKEY_HOLD_MS) * NS_PER_MS);
	return 0;
}

/* --- -vnc [HOST]:N | unix:PATH [,password=on] [,password-file=F] --- */
struct vnc_spec {
	char host[108], path[108];
	unsigned display;
	bool is_unix, password;
	char *password_text;
};

static int password_from_file(struct machine *m, const char *path, char **text, struct err *err)
{
	int fd = host_open(&m->host, "password", path, O_RDONLY, 0, err);
	char buf[64] = "";
	ssize_t n;

	if (fd < 0)
		return fd;
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (n < 0)
		return err_set(err, errno, "-vnc: password-file=%s: %s", path, strerror(errno));
	buf[strcspn(buf, "\r\n")] = 0;
	if (!*buf)
		return err_set(err, EINVAL, "-vnc: password-file=%s: its first line is empty",
			       path);
	*text = xstrdup(buf);
	explicit_bzero(buf, sizeof(buf));
	return 0;
}

static int vnc_parse_option(struct machine *m, struct vnc_spec *v, char *option, struct err *err)
{
	char *value = strchr(option, '=');

	if (value)
		*value++ = 0;
	if (!strcmp(option, "password"))
		return !value ? (v->password = true, 0)
		       : parse_bool(value, &v->password) < 0
			       ? err_set(err, EINVAL, "-vnc: password=%s: on or off", value)
			       : 0;
	if (!strcmp(option, "password-file") && value) {
		v->password = true;
		return password_from_file(m, value, &v->password_text, err);
	}
	return err_set(err, EINVAL,
		       "-vnc: '%s': no such option; there are password=on and password-file=FILE",
		       option);
}

static int vnc_parse(struct machine *m, const char *spec, struct vnc_spec *v, struct err *err)
{
	char *copy = xstrdup(spec), *save = NULL, *address = strtok_r(copy, ",", &save), *option,
	     *colon;
	uint64_t n = 0;
	int ret = 0;

	if (address && !strncmp(address, "unix:", 5)) {
		v->is_unix = true;
		if (!address[5] || strlen(address + 5) >= sizeof(v->path))
			ret = err_set(err, EINVAL, "-vnc unix:PATH: a path of 1 to %zu characters",
				      sizeof(v->path) - 1);
		else
			strcpy(v->path, address + 5);
	} else {
		colon = address ? strrchr(address, ':') : NULL;
		if (!colon || parse_u64(colon + 1, 65535 - VNC_BASE_PORT, &n) < 0 ||
		    colon - address >= (int)sizeof(v->host))
			ret = err_set(err, EINVAL,
				      "-vnc %s: it is [HOST]:N with the display number N (port "
				      "5900 + N), or unix:PATH",
				      spec);
		else
			memcpy(v->host, address, colon - address);
		v->display = n;
	}
	while (ret == 0 && (option = strtok_r(NULL, ",", &save)))
		ret = vnc_parse_option(m, v, option, err);
	free(copy);
	return ret;
}

static int vnc_listen(struct machine_screen *s, const struct vnc_spec *v, struct err *err)
{
	char address[512];
	int fd;

	if (v->is_unix)
		snprintf(address, sizeof(address), "unix:%s", v->path);
	else
		snprintf(address, sizeof(address), "tcp:%s:%u", v->host,
			 VNC_BASE_PORT + v->display);
	fd = host_listen(&s->m->host, "VNC", address, &s->vnc_own, err);
	if (fd < 0)
		err_prefix(err, "-vnc");
	return fd;
}

static int start_vnc(struct machine_screen *s, const char *spec, struct err *err)
{
	struct vnc_spec v = { .display = 0 };
	struct vnc_opts o = { .display = s->m->display,
			      .input = &s->input,
			      .keymap = s->keymap,
			      .name = s->m->config->name };
	int ret;

	if (!strcmp(spec, "none"))
		return 0;
	if (!s->m->display)
		return err_set(
			err, EINVAL,
			"-vnc %s: the machine has no graphics card (-vga std, without -nographic)",
			spec);
	ret = vnc_parse(s->m, spec, &v, err);
	if (ret < 0)
		goto out;
	s->vnc_ops = module_symbol("vnc", "vnc_module", err);
	ret = -ENOENT;
	if (!s->vnc_ops)
		goto out;
	ret = o.listen_fd = vnc_listen(s, &v, err);
	if (ret < 0)
		goto out;
	o.need_password = s->vnc_password = v.password;
	o.password = v.password_text;
	s->vnc = s->vnc_ops->start(&o, err);
	ret = s->vnc ? 0 : -EIO;
	s->vnc_host = xstrdup(v.is_unix ? v.path : *v.host ? v.host : "127.0.0.1");
	s->vnc_service = v.is_unix ? xstrdup("") : xasprintf("%u", VNC_BASE_PORT + v.display);
out:
	if (v.password_text)
		explicit_bzero(v.password_text, strlen(v.password_text));
	free(v.password_text);
	return ret;
}

/* --- the terminal --- */
static void curses_quit(void *ctx)
{
	struct machine_screen *s = ctx;

	vm_request(s->m->vm, VM_END_QUIT, 0);
}

static int start_curses(struct machine_screen *s, struct err *err)
{
	struct curses_opts o = { .display = s->m->display,
				 .input = &s->input,
				 .keymap = s->keymap,
				 .quit = curses_quit,
				 .ctx = s };

	if (!s->m->display)
		return err_set(err, EINVAL,
			       "-display curses: the machine has no graphics card (-vga std, "
			       "without -nographic)");
	if (!isatty(0) || !isatty(1))
		return err_set(err, ENOTTY,
			       "-display curses: standard input and output are no terminal");
	s->curses_ops = module_symbol("curses", "curses_module", err);
	if (!s->curses_ops)
		return -ENOENT;
	s->curses = s->curses_ops->start(&o, err);
	return s->curses ? 0 : -EIO;
}

int screen_start(struct machine *m, struct err *err)
{
	struct machine_screen *s = xcalloc(1, sizeof(*s));
	int ret = 0;

	m->screen = s;
	s->m = m;
	s->input = (struct input){ input_key, input_mouse, m, input_pointer };
	loop_timer_init(&s->release, m->loop, NULL, sendkey_release, s);
	s->keymap = keymap_find(m->config->keymap, err);
	if (!s->keymap)
		return -EINVAL;
	if (m->config->vnc)
		ret = start_vnc(s, m->config->vnc, err);
	if (ret == 0 && m->config->display && !strcmp(m->config->display, "curses"))
		ret = start_curses(s, err);
	return ret;
}

/* The threads of VNC and curses may be waiting for the main loop's lock: it must not be held. */
void screen_stop(struct machine *m)
{
	struct machine_screen *s = m->screen;

	if (!s)
		return;
	loop_timer_cancel(&s->release);
	if (s->curses)
		s->curses_ops->stop(s->curses);
	host_remove(&m->host, &s->vnc_own);
	if (s->vnc)
		s->vnc_ops->stop(s->vnc);
	free(s->vnc_host);
	free(s->vnc_service);
	free(s);
	m->screen = NULL;
}

/* --- what commands ask --- */
int screen_set_password(struct machine *m, const char *password, struct err *err)
{
	if (!m->screen || !m->screen->vnc)
		return err_set(err, EINVAL, "the machine has no VNC server (-vnc)");
	if (!m->screen->vnc_password)
		return err_set(err, EINVAL,
			       "the VNC server runs without passwords (-vnc ...,password=on)");
	m->screen->vnc_ops->set_password(m->screen->vnc, password);
	return 0;
}

bool screen_vnc_info(struct machine *m, struct vnc_info *info)
{
	struct machine_screen *s = m->screen;

	if (!s || !s->vnc)
		return false;
	*info = (struct vnc_info){ .host = s->vnc_host,
				   .service = s->vnc_service,
				   .is_unix = s->vnc_own.path,
				   .password = s->vnc_password,
				   .viewers = s->vnc_ops->clients(s->vnc) };
	return true;
}
