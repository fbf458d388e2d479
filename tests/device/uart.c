/* SPDX-License-Identifier: GPL-2.0-or-later */
/* uart.c: the serial port and the streams behind it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>

#include "devices/chips.h"
#include "tests/lib/threeway.h"
#include "vmm/backends/chardev.h"
#include "vmm/base/log.h"

#define COM 0x3f8
#define RBR COM
#define IER (COM + 1)
#define IIR (COM + 2)
#define LCR (COM + 3)
#define MCR (COM + 4)
#define LSR (COM + 5)
#define MSR (COM + 6)

static struct device *make(struct guest *g, void *ctx)
{
	struct err err = { "" };

	return uart16550_new("serial0", g->pio, COM, irq_source(g->irqs, 4), ctx, g->clock, g->loop,
			     &err);
}

#define R(reg) ((unsigned)in(t->g->pio, reg, 1))
#define W(reg, v) out(t->g->pio, reg, 1, v)

/* --- loopback, three ways: the receiver and transmitter without a host --- */

static void step_loop_on(struct tw *t)
{
	tw_say(t, "reset: ier %02x iir %02x lcr %02x lsr %02x msr %02x", R(IER), R(IIR), R(LCR),
	       R(LSR), R(MSR));
	W(LCR, 0x83);
	W(RBR, 1);
	W(IER, 0);
	tw_say(t, "divisor %02x %02x", R(RBR), R(IER));
	W(LCR, 0x03);
	W(IIR, 0xc7);		/* FIFOs on, trigger 14 */
	W(MCR, 0x1b);		/* loop, OUT2, RTS, DTR */
	tw_say(t, "msr %02x then %02x", R(MSR), R(MSR));
}

static void step_loop_send(struct tw *t)
{
	W(IER, 0x05);
	for (int i = 0; i < 13; i++)
		W(RBR, 'a' + i);
	tw_say(t, "13 sent: iir %02x lsr %02x irq %d", R(IIR), R(LSR), t->g->line_level[4]);
	W(RBR, 'n');
	tw_say(t, "14 sent: iir %02x lsr %02x irq %d", R(IIR), R(LSR), t->g->line_level[4]);
}

static void step_overrun(struct tw *t)
{
	for (int i = 0; i < 3; i++)
		W(RBR, 'x' + i);
	tw_say(t, "17 sent: iir %02x irq %d", R(IIR), t->g->line_level[4]);
	tw_say(t, "lsr %02x then %02x", R(LSR), R(LSR));
}

static void step_receive(struct tw *t)
{
	char buf[17] = "";

	for (int i = 0; i < 16; i++)
		buf[i] = (char)in(t->g->pio, RBR, 1);
	tw_say(t, "received %s, lsr %02x iir %02x irq %d", buf, R(LSR), R(IIR),
	       t->g->line_level[4]);
}

static void step_thre(struct tw *t)
{
	W(MCR, 0x0b);
	W(IER, 0);
	W(IER, 0x02);
	tw_say(t, "thre irq %d", t->g->line_level[4]);
	tw_say(t, "iir %02x then %02x, irq %d", R(IIR), R(IIR), t->g->line_level[4]);
	W(RBR, 'q');
	tw_say(t, "after a byte: irq %d iir %02x irq %d", t->g->line_level[4], R(IIR),
	       t->g->line_level[4]);
}

static void step_modem(struct tw *t)
{
	W(IER, 0x08);
	W(MCR, 0x10);
	tw_say(t, "modem irq %d iir %02x msr %02x irq %d", t->g->line_level[4], R(IIR), R(MSR),
	       t->g->line_level[4]);
	W(MCR, 0x14);
	W(MCR, 0x10);
	tw_say(t, "ring msr %02x", R(MSR));
	W(COM + 7, 0xa7);
	tw_say(t, "scratch %02x", R(COM + 7));
}

static void (*const steps[])(struct tw *t) = {
	step_loop_on, step_loop_send, step_overrun, step_receive, step_thre, step_modem,
};

TEST(uart_three_ways)
{
	threeway(&(struct tw_scenario){ .make = make, .steps = steps, .n = ARRAY_SIZE(steps) });
}

/* --- with a host --- */

struct rig {
	struct guest *g;
	struct device *d;
	struct chardev *chr;
	int peer;
};

static void chr_open(struct rig *r, const char *spec)
{
	struct err err = { "" };

	r->g = chips_guest();
	loop_lock(r->g->loop);
	r->chr = chardev_open("serial0", spec, r->g->loop, &host_direct, &err);
	if (!r->chr)
		tap_fail(__FILE__, __LINE__, "%s: %s", spec, err.msg);
	r->d = make(r->g, r->chr);
	loop_unlock(r->g->loop);
}

static struct rig rig_unix(void)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct rig r;
	char spec[200];

	snprintf(sun.sun_path, sizeof(sun.sun_path), "/tmp/uart-test-%d", getpid());
	snprintf(spec, sizeof(spec), "unix:%s,server,nowait", sun.sun_path);
	chr_open(&r, spec);
	r.peer = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK_EQ(connect(r.peer, (struct sockaddr *)&sun, sizeof(sun)), 0);
	for (int i = 0; i < 5; i++)
		guest_run(r.g, 1);
	return r;
}

static void rig_end(struct rig *r)
{
	loop_lock(r->g->loop);
	device_destroy(r->d);
	chardev_free(r->chr);
	loop_unlock(r->g->loop);
	guest_free(r->g);
}

static void run_for(struct guest *g, int ms)
{
	int64_t end = now_ns() + ms * NS_PER_MS;

	while (now_ns() < end)
		guest_run(g, 1);
}

TEST(output_is_gathered)
{
	struct rig r = rig_unix();
	char buf[4096];

	for (int i = 0; i < 100; i++)
		out(r.g->pio, COM, 1, 'A');
	CHECK_EQ(recv(r.peer, buf, sizeof(buf), MSG_DONTWAIT), -1);	/* not a byte at a time */
	run_for(r.g, 20);
	CHECK_EQ(recv(r.peer, buf, sizeof(buf), MSG_DONTWAIT), 100);
	for (int i = 0; i < 5000; i++)
		out(r.g->pio, COM, 1, 'B');
	CHECK_EQ(recv(r.peer, buf, sizeof(buf), MSG_DONTWAIT), 4096);	/* a page goes at once */
	rig_end(&r);
	/* and the rest before the end */
	CHECK_EQ(recv(r.peer, buf, sizeof(buf), 0), 904);
}

/* --- files --- */

static char file_path[64], file_spec[300];

static const char *file_named(const char *what)
{
	snprintf(file_path, sizeof(file_path), "/tmp/uart-test-%d.%s", getpid(), what);
	return file_path;
}

static size_t file_size(const char *path)
{
	struct stat st;

	return stat(path, &st) ? 0 : (size_t)st.st_size;
}

static void say(struct rig *r, char c, int n)
{
	for (int i = 0; i < n; i++)
		out(r->g->pio, COM, 1, c);
}

/* Nothing but c from here to there. */
static size_t run_of(const char *path, char c, off_t from)
{
	int fd = open(path, O_RDONLY);
	size_t n = 0;
	char b;

	while (pread(fd, &b, 1, from + (off_t)n) == 1 && b == c)
		n++;
	close(fd);
	return n;
}

static void room(rlim_t bytes)
{
	struct rlimit limit = { bytes, RLIM_INFINITY };

	signal(SIGXFSZ, SIG_IGN);
	CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* Until the file has so many bytes; it is tried again by itself. */
static void until_size(struct rig *r, const char *path, size_t size)
{
	for (int i = 0; i < 3000 && file_size(path) < size; i++)
		guest_run(r->g, 10);
	CHECK_EQ(file_size(path), size);
}

TEST(a_full_disk_does_not_stop_the_guest_and_is_tried_again)
{
	struct rig r;
	char text[4096] = "", log[80], *told;
	unsigned long long lost = 0;
	int fd;

	snprintf(log, sizeof(log), "%s", file_named("log"));
	unlink(file_named("full"));
	CHECK_EQ(log_set_file(log, NULL), 0);
	snprintf(file_spec, sizeof(file_spec), "file:%s", file_path);
	chr_open(&r, file_spec);
	room(10000);
	say(&r, 'A', 200000);
	CHECK(in(r.g->pio, LSR, 1) & 0x20);		/* the guest does not notice */
	run_for(r.g, 20);
	CHECK_EQ(file_size(file_path), 10000);
	room(RLIM_INFINITY);
	until_size(&r, file_path, 10000 + 65536);		/* what waited */
	say(&r, 'B', 5000);
	until_size(&r, file_path, 10000 + 65536 + 5000);
	CHECK_EQ(run_of(file_path, 'A', 0), 10000 + 65536);
	CHECK_EQ(run_of(file_path, 'B', 10000 + 65536), 5000);
	/* Cut short by who rotates logs by copying: it goes on at the start, without a hole. */
	CHECK_EQ(truncate(file_path, 0), 0);
	say(&r, 'C', 5000);
	until_size(&r, file_path, 5000);
	CHECK_EQ(run_of(file_path, 'C', 0), 5000);
	rig_end(&r);
	log_set_file(NULL, NULL);
	fd = open(log, O_RDONLY);
	CHECK(read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	told = strstr(text, "takes output again; ");
	CHECK(told && sscanf(told, "takes output again; %llu bytes were lost", &lost) == 1);
	CHECK_EQ(lost, 200000 - 10000 - 65536);
	CHECK(strstr(text, "tried again") && !strstr(told + 1, "takes output again"));
	unlink(log);
	unlink(file_path);
}

TEST(a_file_is_emptied_or_appended_to_as_told)
{
	static const struct { const char *tail; size_t size; } runs[] = {
		{ "", 10 }, { ",append=on", 20 }, { ",append=on", 30 }, { ",append=off", 10 },
	};
	struct err err = { "" };
	struct rig r;

	unlink(file_named("a,b"));
	for (unsigned i = 0; i < ARRAY_SIZE(runs); i++) {
		snprintf(file_spec, sizeof(file_spec), "file:%s%s", file_path, runs[i].tail);
		chr_open(&r, file_spec);
		say(&r, 'x', 10);
		rig_end(&r);
		CHECK_EQ(file_size(file_path), runs[i].size);
	}
	snprintf(file_spec, sizeof(file_spec), "file:%s,append=maybe", file_path);
	CHECK(!chardev_open("com", file_spec, NULL, &host_direct, &err) &&
	      strstr(err.msg, "append"));
	err.msg[0] = 0;
	CHECK(!chardev_open("com", "null,logappend=on", NULL, &host_direct, &err) &&
	      strstr(err.msg, "logfile"));
	CHECK_EQ(file_size(file_path), 10);
	unlink(file_path);
}

/* However much the guest says: the file and its predecessor are no longer than they may be. */
TEST(a_file_has_an_end)
{
	char old[80];
	struct err err = { "" };
	struct rig r;

	unlink(file_named("ended"));
	snprintf(old, sizeof(old), "%s.1", file_path);
	unlink(old);
	for (int log = 0; log < 2; log++) {
		snprintf(file_spec, sizeof(file_spec),
			 log ? "null,logsize=65536,logfile=%s" : "file:%s,size=64K", file_path);
		chr_open(&r, file_spec);
		for (int i = 0; i < 40; i++) {
			say(&r, 'a' + i % 26, 10000);
			run_for(r.g, 2);
			CHECK(file_size(file_path) <= 65536);
		}
		rig_end(&r);
		/* what came last is there, what came before it in the other file */
		CHECK(file_size(file_path) > 0 && file_size(file_path) <= 65536);
		CHECK(file_size(old) > 32768 && file_size(old) <= 65536);
		CHECK_EQ(run_of(file_path, 'a' + 39 % 26, file_size(file_path) - 10000), 10000);
		unlink(file_path);
		unlink(old);
	}
	/* A stranger at the old name is not written over: the file is emptied where it is. */
	CHECK_EQ(mkdir(old, 0700), 0);
	snprintf(file_spec, sizeof(file_spec), "file:%s,size=64K", file_path);
	chr_open(&r, file_spec);
	for (int i = 0; i < 20; i++) {
		say(&r, 'x', 10000);
		run_for(r.g, 2);
		CHECK(file_size(file_path) <= 65536);
	}
	rig_end(&r);
	CHECK_EQ(rmdir(old), 0);
	unlink(file_path);
	r.g = guest_new();
	CHECK(!chardev_open("com", "file:/dev/null,size=1M", r.g->loop, &host_direct, &err) &&
	      strstr(err.msg, "regular file"));
	err.msg[0] = 0;
	CHECK(!chardev_open("com", "file:/dev/null,size=12", NULL, &host_direct, &err) &&
	      strstr(err.msg, "64K"));
	err.msg[0] = 0;
	CHECK(!chardev_open("com", "null,logsize=1M", NULL, &host_direct, &err) &&
	      strstr(err.msg, "logfile"));
}

TEST(a_logfile_gets_a_copy_whoever_listens)
{
	char buf[200], copy[80];
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct rig r;

	snprintf(copy, sizeof(copy), "%s", file_named("copy"));
	unlink(copy);
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", file_named("sock"));
	for (int i = 0; i < 2; i++) {
		snprintf(file_spec, sizeof(file_spec),
			 "unix:%s,server,nowait,logappend=on,logfile=%s", sun.sun_path, copy);
		chr_open(&r, file_spec);
		say(&r, 'n', 50);		/* nobody is there */
		r.peer = socket(AF_UNIX, SOCK_STREAM, 0);
		CHECK_EQ(connect(r.peer, (struct sockaddr *)&sun, sizeof(sun)), 0);
		run_for(r.g, 20);
		say(&r, 'y', 50);
		rig_end(&r);
		CHECK_EQ(recv(r.peer, buf, sizeof(buf), MSG_WAITALL), 50);
		close(r.peer);
		CHECK_EQ(run_of(copy, 'n', i * 100), 50);
		CHECK_EQ(run_of(copy, 'y', i * 100 + 50), 50);
	}
	unlink(copy);
}

TEST(a_renamed_file_is_left_when_told_to)
{
	char old[80];
	struct rig r;

	unlink(file_named("rotated"));
	snprintf(old, sizeof(old), "%s.1", file_path);
	snprintf(file_spec, sizeof(file_spec), "file:%s", file_path);
	chr_open(&r, file_spec);
	say(&r, 'a', 10);
	CHECK_EQ(rename(file_path, old), 0);
	loop_lock(r.g->loop);
	chardev_reopen(r.chr);
	loop_unlock(r.g->loop);
	say(&r, 'b', 10);
	rig_end(&r);
	CHECK_EQ(run_of(old, 'a', 0), 10);
	CHECK_EQ(file_size(old), 10);
	CHECK_EQ(run_of(file_path, 'b', 0), 10);
	unlink(old);
	unlink(file_path);
}

TEST(a_full_host_stops_the_guest_and_loses_nothing)
{
	struct rig r = rig_unix();
	size_t sent = 0, got = 0;
	uint8_t buf[65536];
	ssize_t n;

	out(r.g->pio, IIR, 1, 1);
	while (sent < 2000000 && (in(r.g->pio, LSR, 1) & 0x20)) {
		for (int i = 0; i < 16 && (in(r.g->pio, LSR, 1) & 0x20); i++)
			out(r.g->pio, COM, 1, (uint8_t)sent++ % 251);
		guest_run(r.g, 0);
	}
	CHECK(sent < 2000000);		/* THRE went away */
	out(r.g->pio, IER, 1, 2);
	for (int idle = 0; idle < 50;) {
		n = recv(r.peer, buf, sizeof(buf), MSG_DONTWAIT);
		guest_run(r.g, 1);
		if (n <= 0) {
			idle++;
			continue;
		}
		for (ssize_t i = 0; i < n; i++, got++)
			CHECK_EQ(buf[i], (uint8_t)got % 251);
	}
	CHECK_EQ(got, sent);
	CHECK(in(r.g->pio, LSR, 1) & 0x20);
	CHECK_EQ(r.g->line_level[4], 1);	/* and the driver is told */
}

TEST(input_waits_until_the_guest_takes_it)
{
	struct rig r = rig_unix();
	char text[200], got[201] = "";
	size_t n = 0;

	for (unsigned i = 0; i < sizeof(text); i++)
		text[i] = 'a' + i % 26;
	CHECK_EQ(send(r.peer, text, sizeof(text), 0), sizeof(text));
	out(r.g->pio, IIR, 1, 0x81);
	out(r.g->pio, IER, 1, 1);
	for (int i = 0; i < 2000 && n < sizeof(text); i++) {
		guest_run(r.g, 1);
		while (in(r.g->pio, LSR, 1) & 1)
			got[n++] = (char)in(r.g->pio, COM, 1);
	}
	CHECK_EQ(n, sizeof(text));
	CHECK(!memcmp(got, text, sizeof(text)));
}

TEST(the_timeout_interrupt_comes_after_four_characters)
{
	struct rig r = rig_unix();

	out(r.g->pio, LCR, 1, 0x83);
	out(r.g->pio, COM, 1, 96);		/* 1200 baud: 33 ms for four characters */
	out(r.g->pio, LCR, 1, 0x03);
	out(r.g->pio, IIR, 1, 0xc1);
	out(r.g->pio, IER, 1, 1);
	vm_clock_start(r.g->clock);
	CHECK_EQ(send(r.peer, "abc", 3, 0), 3);
	run_for(r.g, 10);
	CHECK_EQ(in(r.g->pio, LSR, 1) & 1, 1);
	CHECK_EQ(r.g->line_level[4], 0);
	run_for(r.g, 60);
	CHECK_EQ(r.g->line_level[4], 1);
	CHECK_EQ(in(r.g->pio, IIR, 1), 0xcc);
	for (int i = 0; i < 3; i++)
		in(r.g->pio, COM, 1);
	CHECK_EQ(r.g->line_level[4], 0);
}

TEST(a_client_goes_and_another_comes)
{
	struct rig r = rig_unix();
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int again = socket(AF_UNIX, SOCK_STREAM, 0);
	char buf[10];

	close(r.peer);
	run_for(r.g, 5);
	for (int i = 0; i < 100; i++)
		out(r.g->pio, COM, 1, 'x');	/* nobody listens: nothing blocks */
	CHECK(in(r.g->pio, LSR, 1) & 0x20);
	snprintf(sun.sun_path, sizeof(sun.sun_path), "/tmp/uart-test-%d", getpid());
	CHECK_EQ(connect(again, (struct sockaddr *)&sun, sizeof(sun)), 0);
	run_for(r.g, 5);
	out(r.g->pio, COM, 1, 'y');
	run_for(r.g, 10);
	CHECK_EQ(recv(again, buf, sizeof(buf), MSG_DONTWAIT), 1);
	CHECK_EQ(buf[0], 'y');
	rig_end(&r);
	CHECK(access(sun.sun_path, F_OK) < 0);
}

TEST(a_pty_without_a_reader_costs_nothing)
{
	struct rig r;
	const char *name;
	char buf[16];
	int fd;

	chr_open(&r, "pty");
	for (int i = 0; i < 300000; i++)
		out(r.g->pio, COM, 1, 'z');
	CHECK(in(r.g->pio, LSR, 1) & 0x20);
	name = chardev_filename(r.chr);
	CHECK(!strncmp(name, "pty:/dev/pts/", 13));
	fd = open(name + 4, O_RDWR | O_NOCTTY);
	CHECK(fd >= 0);
	CHECK_EQ(write(fd, "\rk", 2), 2);
	run_for(r.g, 20);
	CHECK_EQ(in(r.g->pio, COM, 1), '\r');	/* raw: nothing is translated */
	CHECK_EQ(read(fd, buf, 1), 1);
	rig_end(&r);
}

static bool escape(void *ctx, char key)
{
	*(char *)ctx = key;
	return key == 'x';
}

TEST(escape_keys_work_while_the_guest_takes_nothing)
{
	char file[64], key = 0, buf[1000];
	int in_pipe[2], out_pipe[2];
	struct rig r;
	ssize_t n;

	CHECK_EQ(pipe(in_pipe) | pipe(out_pipe), 0);
	n = dup(STDOUT_FILENO);
	dup2(in_pipe[0], STDIN_FILENO);
	dup2(out_pipe[1], STDOUT_FILENO);
	chr_open(&r, "mon:stdio");
	dup2((int)n, STDOUT_FILENO);
	snprintf(file, sizeof(file), "%s", chardev_filename(r.chr));
	chardev_on_escape(r.chr, escape, &key);
	CHECK_EQ(write(in_pipe[1], "0123456789012345678901234\1x", 27), 27);
	run_for(r.g, 20);
	CHECK_EQ(key, 'x');
	CHECK_EQ(write(in_pipe[1], "\1\1\1b\1h", 6), 6);
	run_for(r.g, 20);
	n = read(out_pipe[0], buf, sizeof(buf) - 1);
	CHECK(n > 0);
	buf[n] = 0;
	CHECK(strstr(buf, "Ctrl-A X"));
	n = 0;
	for (int i = 0; i < 200; i++) {
		while (in(r.g->pio, LSR, 1) & 1)
			buf[n++] = (char)in(r.g->pio, COM, 1);
		guest_run(r.g, 1);
	}
	buf[n] = 0;
	/* 25 keys and Ctrl-A; the break found the buffer full and took the place of a byte */
	CHECK_EQ(n, 26);
	CHECK(memchr(buf, 1, (size_t)n));
}

TEST(what_cannot_be_opened_says_why)
{
	static const struct { const char *spec, *word;
	} bad[] = {
		{ "file:/nonexistent/x", "/nonexistent/x" },
		{ "unix:/nonexistent/s", "/nonexistent/s" },
		{ "unix:/tmp/x,server,frobnicate", "frobnicate" },
		{ "tcp:localhost", "PORT" },
		{ "vc", "stdio" },
		{ "/dev/nonexistent", "/dev/nonexistent" },
	};
	struct loop *loop = loop_new("main");

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		struct err err = { "" };

		CHECK(!chardev_open("s", bad[i].spec, loop, &host_direct, &err));
		if (!strstr(err.msg, bad[i].word))
			tap_fail(__FILE__, __LINE__, "'%s' does not speak of %s", err.msg,
				 bad[i].word);
	}
	CHECK(!chardev_open("s", "none", loop, &host_direct, NULL));
	loop_free(loop);
}

TAP_MAIN
