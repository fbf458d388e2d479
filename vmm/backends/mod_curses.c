/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mod_curses.c: the text screen on the terminal, so that a machine with a BIOS can be used over
 * ssh. A module (ncursesw). One thread of its own draws and reads keys. Ctrl-A X ends the machine,
 * Ctrl-A H helps, Ctrl-A Ctrl-A is Ctrl-A.
 */
#include <errno.h>
#include <locale.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <wchar.h>

#define NCURSES_WIDECHAR 1
#include <ncurses.h>

#include "vmm/backends/vnc.h"

#define INTERVAL_MIN_MS 40
#define INTERVAL_MAX_MS 250
#define CTRL_A 1

struct curses {
	struct curses_opts o;
	struct typist typist;
	pthread_t thread;
	int wake;
	bool stop, escape, help;
	struct text_screen now, shown;
	bool graphics_shown;
};

/* Code page 437. */
static const wchar_t low[33] = L" ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼";
static const wchar_t high[130] = L"⌂ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛"
				 L"┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀"
				 L"αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■ ";

static wchar_t glyph(uint8_t c)
{
	return c < 32 ? low[c] : c < 127 ? c : high[c - 127];
}

/* The VGA counts blue, green, red; terminals red, green, blue. */
static int colour(unsigned n)
{
	return (n & 1) << 2 | (n & 2) | (n & 4) >> 2;
}

static void cell_put(unsigned x, unsigned y, uint16_t cell)
{
	unsigned attr = cell >> 8, fg = attr & 7, bg = attr >> 4 & 7;
	wchar_t text[2] = { glyph(cell), 0 };
	cchar_t c;

	/* Pair 0 is the terminal's own; ours are numbered from 1. */
	setcchar(&c, text, attr & 8 ? A_BOLD : A_NORMAL, has_colors() ? 1 + bg * 8 + fg : 0, NULL);
	mvadd_wch(y, x, &c);
}

/* Returns whether anything changed. */
static bool draw_text(struct curses *v)
{
	struct text_screen *n = &v->now, *s = &v->shown;
	bool all = n->cols != s->cols || n->rows != s->rows || v->graphics_shown, any = all;
	unsigned lines = LINES, cols = COLS;

	if (all)
		erase();
	for (unsigned y = 0; y < n->rows && y < lines; y++) {
		for (unsigned x = 0; x < n->cols && x < cols; x++) {
			uint16_t cell = n->cells[y * n->cols + x];

			if (!all && cell == s->cells[y * n->cols + x])
				continue;
			cell_put(x, y, cell);
			any = true;
		}
	}
	any |= n->cursor_x != s->cursor_x || n->cursor_y != s->cursor_y;
	curs_set(n->cursor_x >= 0);
	if (n->cursor_x >= 0)
		move(MIN(n->cursor_y, LINES - 1), MIN(n->cursor_x, COLS - 1));
	*s = *n;
	v->graphics_shown = false;
	return any;
}

static bool draw(struct curses *v)
{
	unsigned width, height;
	bool any = true;

	if (v->help)
		return false;
	if (v->o.display->ops->text(v->o.display->ctx, &v->now, &width, &height)) {
		any = draw_text(v);
	} else {
		any = !v->graphics_shown;
		if (any) {
			erase();
			mvprintw(LINES / 2, 2, "%u x %u pixels of graphics: look with -vnc :N",
				 width, height);
			curs_set(0);
		}
		v->graphics_shown = true;
		v->shown.cols = 0;
	}
	if (any)
		refresh();
	return any;
}

static void show_help(struct curses *v)
{
	erase();
	mvprintw(1, 2, "Ctrl-A X       end the machine");
	mvprintw(2, 2, "Ctrl-A D       press Ctrl-Alt-Delete");
	mvprintw(3, 2, "Ctrl-A Ctrl-A  send Ctrl-A");
	mvprintw(4, 2, "Ctrl-A H       this help; any key goes back");
	mvprintw(5, 2, "Esc, then a key, is Alt and that key");
	refresh();
	v->help = true;
	v->shown.cols = 0;
}

/* --- keys --- */
static void press(struct curses *v, uint32_t keysym)
{
	typist_key(&v->typist, keysym, true);
	typist_key(&v->typist, keysym, false);
}

static void press_with(struct curses *v, uint32_t modifier, uint32_t keysym)
{
	typist_key(&v->typist, modifier, true);
	press(v, keysym);
	typist_key(&v->typist, modifier, false);
}

static void function_key(struct curses *v, wint_t k)
{
	static const struct { wint_t code; uint32_t keysym;
	} map[] = {
		{ KEY_DOWN, 0xff54 },  { KEY_UP, 0xff52 },    { KEY_LEFT, 0xff51 },
		{ KEY_RIGHT, 0xff53 }, { KEY_HOME, 0xff50 },  { KEY_BACKSPACE, 0xff08 },
		{ KEY_DC, 0xffff },    { KEY_IC, 0xff63 },    { KEY_NPAGE, 0xff56 },
		{ KEY_PPAGE, 0xff55 }, { KEY_ENTER, 0xff8d }, { KEY_BTAB, 0xfe20 },
		{ KEY_END, 0xff57 },
	};

	if (k >= KEY_F(1) && k <= KEY_F(12)) {
		press(v, 0xffbe + (k - KEY_F(1)));
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(map); i++)
		if (map[i].code == k)
			press(v, map[i].keysym);
}

static void character(struct curses *v, wint_t c)
{
	if (c == '\r' || c == '\n')
		press(v, 0xff0d);
	else if (c == '\t')
		press(v, 0xff09);
	else if (c == 0x7f || c == '\b')
		press(v, 0xff08);
	else if (c < 32)
		press_with(v, 0xffe3, c == 0 ? ' ' : c < 27 ? c + 'a' - 1 : c + '@');
	else
		press(v, c);
}

static void escape_key(struct curses *v, wint_t c)
{
	v->escape = false;
	if (c == 'x' || c == 'X') {
		v->o.quit(v->o.ctx);
	} else if (c == 'h' || c == 'H' || c == '?') {
		show_help(v);
	} else if (c == 'd' || c == 'D') {
		typist_key(&v->typist, 0xffe3, true);
		press_with(v, 0xffe9, 0xffff);
		typist_key(&v->typist, 0xffe3, false);
	} else if (c == CTRL_A) {
		character(v, c);
	}
}

static void read_keys(struct curses *v)
{
	wint_t c, next;
	int kind;

	while ((kind = get_wch(&c)) != ERR) {
		if (v->help) {
			v->help = false;
			v->graphics_shown = false;
		} else if (kind == KEY_CODE_YES) {
			function_key(v, c);
		} else if (v->escape) {
			escape_key(v, c);
		} else if (c == CTRL_A) {
			v->escape = true;
		} else if (c == 27) {
			/* Alt and a key arrive as Escape and the key, together. */
			kind = get_wch(&next);
			if (kind == OK && next != 27) {
				typist_key(&v->typist, 0xffe9, true);
				character(v, next);
				typist_key(&v->typist, 0xffe9, false);
			} else {
				press(v, 0xff1b);
			}
		} else {
			character(v, c);
		}
	}
}

static void *curses_thread(void *arg)
{
	int interval = INTERVAL_MIN_MS;
	struct curses *v = arg;

	pthread_setname_np(pthread_self(), "curses");
	while (!__atomic_load_n(&v->stop, __ATOMIC_ACQUIRE)) {
		struct pollfd p[2] = { { 0, POLLIN, 0 }, { v->wake, POLLIN, 0 } };

		if (poll(p, 2, interval) < 0 && errno != EINTR)
			break;
		if (p[0].revents & (POLLHUP | POLLERR)) {
			/* The terminal is gone; the machine runs on without it. */
			p[0].fd = -1;
			poll(p, 2, -1);
			break;
		}
		if (p[0].revents) {
			read_keys(v);
			interval = INTERVAL_MIN_MS;
		}
		interval = draw(v) ? INTERVAL_MIN_MS
				   : MIN(interval + interval / 8 + 1, INTERVAL_MAX_MS);
	}
	return NULL;
}

static void terminal_start(void)
{
	setlocale(LC_CTYPE, "");
	initscr();
	raw();
	noecho();
	nonl();
	nodelay(stdscr, TRUE);
	keypad(stdscr, TRUE);
	set_escdelay(25);
	if (has_colors()) {
		start_color();
		for (int bg = 0; bg < 8; bg++)
			for (int fg = 0; fg < 8; fg++)
				init_pair(1 + bg * 8 + fg, colour(fg), colour(bg));
	}
}

static struct curses *curses_start(const struct curses_opts *o, struct err *err)
{
	struct curses *v = xcalloc(1, sizeof(*v));
	int ret;

	v->o = *o;
	v->typist = (struct typist){ .map = o->keymap, .input = o->input };
	v->shown.cursor_x = -2;
	v->wake = eventfd(0, EFD_CLOEXEC);
	if (v->wake < 0) {
		err_set(err, errno, "-display curses: %s", strerror(errno));
		free(v);
		return NULL;
	}
	terminal_start();
	ret = pthread_create(&v->thread, NULL, curses_thread, v);
	if (ret) {
		endwin();
		err_set(err, ret, "-display curses: %s", strerror(ret));
		close(v->wake);
		free(v);
		return NULL;
	}
	return v;
}

static void curses_stop(struct curses *v)
{
	uint64_t one = 1;

	__atomic_store_n(&v->stop, true, __ATOMIC_RELEASE);
	if (write(v->wake, &one, sizeof(one)) == sizeof(one))
		pthread_join(v->thread, NULL);
	endwin();
	close(v->wake);
	free(v);
}

extern const struct curses_ops curses_module;
const struct curses_ops curses_module = { .start = curses_start, .stop = curses_stop };
