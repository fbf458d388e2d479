/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VNC server before a screen of ours: a viewer of our own that checks every pixel (RFC 6143,
 * version 3.8, raw encoding), and vncsnapshot as one that nobody here wrote.
 */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "tests/tap.h"
#include "vmm/backends/vnc.h"
#include "vmm/base/host.h"

/* --- a screen that shows what the test wants --- */
struct fake {
	pthread_mutex_t mutex;
	struct surface s;
	struct screen_rect dirty;
	bool resized;
	_Atomic int open;
};
static struct fake fake = { .mutex = PTHREAD_MUTEX_INITIALIZER };

static struct screen *fake_open(void *ctx)
{
	fake.open++;
	fake.resized = true;
	return (struct screen *)&fake;
}

static void fake_close(struct screen *s)
{
	fake.open--;
}

static bool fake_update(struct screen *s, void (*changed)(void *ctx, const struct screen_rect *r),
			void *ctx)
{
	bool resized;

	pthread_mutex_lock(&fake.mutex);
	resized = fake.resized;
	fake.resized = false;
	if (fake.dirty.w)
		changed(ctx, &fake.dirty);
	fake.dirty.w = 0;
	pthread_mutex_unlock(&fake.mutex);
	return resized;
}

static const struct surface *fake_surface(struct screen *s)
{
	return &fake.s;
}

static const struct display_ops fake_ops = {
	.open = fake_open, .close = fake_close, .update = fake_update, .surface = fake_surface,
};
static const struct display fake_display = { &fake_ops, NULL };

static uint32_t pattern(unsigned x, unsigned y)
{
	return (x * 255 / 320 & 0xff) << 16 | (y * 255 / 200 & 0xff) << 8 |
	       ((x / 16 + y / 16) & 1 ? 0x80 : 0);
}

static void paint(unsigned w, unsigned h)
{
	pthread_mutex_lock(&fake.mutex);
	free(fake.s.pixels);
	fake.s = (struct surface){ w, h, xcalloc((size_t)w * h, 4) };
	for (unsigned y = 0; y < h; y++)
		for (unsigned x = 0; x < w; x++)
			fake.s.pixels[y * w + x] = pattern(x, y);
	fake.resized = true;
	pthread_mutex_unlock(&fake.mutex);
}

static _Atomic unsigned keys_seen, last_key;
static void on_key(void *ctx, unsigned key, bool down)
{
	last_key = key;
	keys_seen++;
}
static _Atomic int mouse_x, mouse_y;
static _Atomic unsigned mouse_buttons;
static void on_mouse(void *ctx, int dx, int dy, int dz, unsigned buttons)
{
	mouse_x += dx;
	mouse_y += dy;
	mouse_buttons = buttons;
}
static const struct input input = { .key = on_key, .mouse = on_mouse };

/* --- the server --- */
static struct vnc *vnc;
static const struct vnc_ops *ops;
static int port;

static void serve(const char *password, bool need)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct vnc_opts o = { .display = &fake_display,
			      .input = &input,
			      .keymap = keymap_find("us", NULL),
			      .name = "test",
			      .need_password = need,
			      .password = password };
	struct err err = { "" };
	socklen_t len = sizeof(a);

	setenv("MINIVMM_LIBDIR", getenv("BUILD") ? getenv("BUILD") : "build", 0);
	ops = module_symbol("vnc", "vnc_module", &err);
	if (!ops)
		tap_skip(err.msg);
	o.listen_fd = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(bind(o.listen_fd, (struct sockaddr *)&a, sizeof(a)) == 0 &&
	      listen(o.listen_fd, 8) == 0);
	CHECK(getsockname(o.listen_fd, (struct sockaddr *)&a, &len) == 0);
	port = ntohs(a.sin_port);
	paint(320, 200);
	vnc = ops->start(&o, &err);
	CHECK(vnc);
}

/* --- the viewer --- */
static void get(int fd, void *p, size_t len)
{
	struct pollfd f = { fd, POLLIN, 0 };
	char *to = p;

	while (len) {
		ssize_t n;

		CHECK(poll(&f, 1, 10000) == 1);
		n = read(fd, to, len);
		CHECK(n > 0);
		to += n;
		len -= n;
	}
}

static int viewer(unsigned *w, unsigned *h)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				 .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	uint8_t b[64], n;

	CHECK(connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
	get(fd, b, 12);
	CHECK(!memcmp(b, "RFB 003.008\n", 12));
	CHECK(write(fd, "RFB 003.008\n", 12) == 12);
	get(fd, &n, 1);
	get(fd, b, n);
	CHECK(memchr(b, 1, n));				/* security type: none */
	CHECK(write(fd, "\1", 1) == 1);
	get(fd, b, 4);
	CHECK_EQ(ld_be32(b), 0);
	CHECK(write(fd, "\1", 1) == 1);			/* shared */
	get(fd, b, 24);
	*w = ld_be16(b);
	*h = ld_be16(b + 2);
	CHECK_EQ(b[4], 32);
	CHECK_EQ(ld_be32(b + 20), 4);
	get(fd, b, 4);
	CHECK(!memcmp(b, "test", 4));
	/* Raw, and desktop size. */
	CHECK(write(fd, "\2\0\0\2\0\0\0\0\xff\xff\xff\x21", 12) == 12);
	return fd;
}

static void request(int fd, bool incremental, unsigned w, unsigned h)
{
	uint8_t b[10] = { 3, incremental };

	st_be16(b + 6, w);
	st_be16(b + 8, h);
	CHECK(write(fd, b, 10) == 10);
}

/*
 * One update; returns pixels received, checks each against the pattern. size gets a new desktop
 * size.
 */
static unsigned receive(int fd, struct screen_rect *box, unsigned *w, unsigned *h)
{
	static uint8_t line[4 * 4096];
	unsigned pixels = 0;
	uint8_t b[12];

	get(fd, b, 4);
	CHECK_EQ(b[0], 0);
	for (unsigned n = ld_be16(b + 2); n; n--) {
		unsigned x, y, rw, rh;

		get(fd, b, 12);
		x = ld_be16(b);
		y = ld_be16(b + 2);
		rw = ld_be16(b + 4);
		rh = ld_be16(b + 6);
		if (ld_be32(b + 8) == 0xffffff21) {
			*w = rw;
			*h = rh;
			continue;
		}
		CHECK_EQ(ld_be32(b + 8), 0);
		*box = (struct screen_rect){ x, y, rw, rh };
		for (unsigned i = 0; i < rh; i++) {
			get(fd, line, 4 * rw);
			for (unsigned k = 0; k < rw; k++)
				CHECK_EQ(ld_le32(line + 4 * k) & 0xffffff,
					 fake.s.pixels[(y + i) * fake.s.width + x + k]);
		}
		pixels += rw * rh;
	}
	return pixels;
}

TEST(pixels_and_changes)
{
	unsigned w, h, got = 0;
	struct screen_rect box;
	int fd, second;

	serve(NULL, false);
	CHECK_EQ(fake.open, 0);				/* nobody looks, nothing is computed */
	fd = viewer(&w, &h);
	CHECK_EQ(w, 320);
	CHECK_EQ(h, 200);
	request(fd, false, w, h);
	while (got < 320 * 200)
		got += receive(fd, &box, &w, &h);
	CHECK_EQ(got, 320 * 200);
	CHECK_EQ(fake.open, 1);
	/* Only what changed. */
	pthread_mutex_lock(&fake.mutex);
	for (unsigned y = 50; y < 60; y++)
		for (unsigned x = 100; x < 130; x++)
			fake.s.pixels[y * 320 + x] = 0xffffff;
	fake.dirty = (struct screen_rect){ 100, 50, 30, 10 };
	pthread_mutex_unlock(&fake.mutex);
	request(fd, true, w, h);
	got = receive(fd, &box, &w, &h);
	CHECK_EQ(got, 300);
	CHECK_EQ(box.x, 100);
	CHECK_EQ(box.y, 50);
	/* A second viewer sees the same and takes nothing from the first. */
	second = viewer(&w, &h);
	request(second, false, w, h);
	for (got = 0; got < 320 * 200;)
		got += receive(second, &box, &w, &h);
	CHECK_EQ(ops->clients(vnc), 2);
	close(second);
	/* Another size. */
	request(fd, true, w, h);
	paint(400, 300);
	for (w = 0; w != 400;)
		receive(fd, &box, &w, &h);
	CHECK_EQ(h, 300);
	request(fd, false, w, h);
	for (got = 0; got < 400 * 300;)
		got += receive(fd, &box, &w, &h);
	close(fd);
	for (int i = 0; i < 100 && fake.open; i++)
		usleep(50000);
	CHECK_EQ(fake.open, 0);
	ops->stop(vnc);
}

TEST(keys_and_pointer)
{
	unsigned w, h;
	int fd;

	serve(NULL, false);
	fd = viewer(&w, &h);
	CHECK(write(fd, "\4\1\0\0\0\0\0a", 8) == 8);
	for (int i = 0; i < 100 && keys_seen < 1; i++)
		usleep(50000);
	CHECK_EQ(last_key, 30);
	CHECK(write(fd, "\5\0\0\x10\0\x10", 6) == 6);	/* first: tells where it is */
	CHECK(write(fd, "\5\1\0\x14\0\x0e", 6) == 6);
	for (int i = 0; i < 100 && !mouse_buttons; i++)
		usleep(50000);
	CHECK_EQ(mouse_x, 4);
	CHECK_EQ(mouse_y, -2);
	CHECK_EQ(mouse_buttons, 1);
	/* It goes away with the key held: the key is released. */
	close(fd);
	for (int i = 0; i < 100 && keys_seen < 2; i++)
		usleep(50000);
	CHECK_EQ(keys_seen, 2);
	ops->stop(vnc);
}

static int snapshot(const char *password)
{
	char cmd[512];

	snprintf(cmd, sizeof(cmd),
		 "d=$(mktemp -d) && printf '%%s' '%s' >$d/pw && { test -z '%s' || vncpasswd -f "
		 "<$d/pw >$d/auth 2>/dev/null; }; "
		 "timeout 20 vncsnapshot -quality 100 $(test -z '%s' || echo -passwd $d/auth) "
		 "127.0.0.1:%d $d/x.jpg >$d/log 2>&1; r=$?; "
		 "test $r != 0 || { djpeg -pnm $d/x.jpg 2>/dev/null | head -c 15 | tr '\\n' ' ' | "
		 "grep -q 'P6 320 200 255' || r=9; }; "
		 "rm -rf $d; exit $r",
		 password, password, password, port - 5900);
	return WEXITSTATUS(system(cmd));
}

TEST(vncsnapshot_sees_it)
{
	if (system("command -v vncsnapshot >/dev/null && command -v djpeg >/dev/null") != 0)
		SKIP("vncsnapshot or djpeg (libjpeg-turbo-progs) is not installed");
	serve(NULL, false);
	CHECK_EQ(snapshot(""), 0);
}

/*
 * DES of the challenge by the server's own library would judge itself; a viewer that answers
 * nonsense must not get in.
 */
TEST(passwords)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	uint8_t b[64], n;

	serve("secret", true);
	for (int round = 0; round < 2; round++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		a.sin_port = htons(port);
		CHECK(connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
		get(fd, b, 12);
		CHECK(write(fd, "RFB 003.008\n", 12) == 12);
		get(fd, &n, 1);
		get(fd, b, n);
		CHECK(!memchr(b, 1, n));		/* not without */
		CHECK(memchr(b, 2, n));
		CHECK(write(fd, "\2", 1) == 1);
		get(fd, b, 16);
		CHECK(write(fd, b, 16) == 16);
		get(fd, b, 4);
		CHECK_EQ(ld_be32(b), 1);		/* failed */
		close(fd);
		/* second round: no password at all, nobody gets in */
		ops->set_password(vnc, NULL);
	}
	CHECK_EQ(fake.open <= 1, 1);
}

TEST(vncsnapshot_knows_the_password)
{
	if (system("command -v vncsnapshot >/dev/null && command -v vncpasswd >/dev/null && "
		   "command -v djpeg >/dev/null") != 0)
		SKIP("vncsnapshot, vncpasswd (tigervnc-tools) or djpeg is not installed");
	serve("secret", true);
	CHECK(snapshot("wrong") != 0);
	CHECK_EQ(snapshot("secret"), 0);
}

TAP_MAIN
