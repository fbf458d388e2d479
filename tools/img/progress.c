/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * progress.c: how far a long command is, and the signals that ask for it or end it. progress_add:
 * any thread.
 */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "tools/img/img.h"

static volatile sig_atomic_t stop_sig, wants_print;
static struct {
	bool on, show, terminal, ended;
	uint64_t total, done;
	double printed;			/* per cent shown last */
	int64_t start, last;
	uint32_t printing;
} p;

static void on_stop(int sig)
{
	stop_sig = sig;
}

static void on_usr1(int sig)
{
	wants_print = 1;
}

static void print_progress(FILE *out, const char *end)
{
	uint64_t done = __atomic_load_n(&p.done, __ATOMIC_RELAXED);
	double percent = p.ended   ? 100
			 : p.total ? 100.0 * done / p.total
				   : 0,
	       seconds = (now_ns() - p.start) / 1e9;

	if (percent > 100)
		percent = 100;
	fprintf(out, "    (%3.2f/100%%)", percent);
	if (isatty(fileno(out)) && seconds > 0.5 && done) {
		double rate = done / seconds, left = (p.total - MIN(done, p.total)) / rate;
		char *r = size_human(rate);

		fprintf(out, "  %s/s, %d:%02d left   ", r, (int)(left / 60), (int)left % 60);
		free(r);
	}
	fputs(end, out);
	fflush(out);
	p.printed = percent;
}

void progress_start(bool show, uint64_t total)
{
	struct sigaction stop = { .sa_handler = on_stop },
			 usr1 = { .sa_handler = on_usr1, .sa_flags = SA_RESTART };

	p.show = show;
	p.terminal = isatty(1);
	p.total = total;
	p.done = 0;
	p.printed = 0;
	p.ended = false;
	p.start = p.last = now_ns();
	sigaction(SIGINT, &stop, NULL);
	sigaction(SIGTERM, &stop, NULL);
	sigaction(SIGHUP, &stop, NULL);
	sigaction(SIGUSR1, &usr1, NULL);
	p.on = true;
	if (show)
		print_progress(stdout, "\r");
}

void progress_add(uint64_t bytes)
{
	uint64_t done = __atomic_add_fetch(&p.done, bytes, __ATOMIC_RELAXED);
	double percent = p.total ? 100.0 * done / p.total : 100;

	if (!p.on || (!wants_print && !(p.show && percent - p.printed >= 1)))
		return;
	if (__atomic_exchange_n(&p.printing, 1, __ATOMIC_ACQUIRE))
		return;
	if (wants_print) {
		wants_print = 0;
		print_progress(stderr, "\n");
	} else if (!p.terminal || now_ns() - p.last > 200 * NS_PER_MS) {
		p.last = now_ns();
		print_progress(stdout, "\r");
	}
	__atomic_store_n(&p.printing, 0, __ATOMIC_RELEASE);
}

void progress_end(void)
{
	if (p.show && !stop_sig) {
		p.done = p.total;
		p.ended = true;
		print_progress(stdout, "\r");
		printf("\n");
	}
	p.on = false;
}

bool stop_requested(void)
{
	return stop_sig;
}

int stop_signal(void)
{
	return stop_sig;
}
