/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The small virtio devices: random numbers, console, balloon. */
#include <linux/virtio_balloon.h>
#include <linux/virtio_console.h>
#include <linux/virtio_input.h>
#include <linux/input-event-codes.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/chips.h"
#include "tests/lib/vdriver.h"
#include "vmm/backends/chardev.h"

#define DEVFN PCI_DEVFN(5, 0)
#define F(bit) (1ull << (bit))
#define RINGS (F(VIRTIO_RING_F_EVENT_IDX) | F(VIRTIO_RING_F_INDIRECT_DESC))

struct bench {
	struct guest *g;
	struct virtio_dev *v;
	struct device *dev;
	struct vdrv d;
	struct chardev *chr;
	char path[64];
	int peer;
	enum { RNG, CONSOLE, BALLOON, TABLET, KEYBOARD } kind;
	uint64_t features;
	unsigned nqueues;
};

static void build(struct bench *b)
{
	struct err err = { "" };

	switch (b->kind) {
	case RNG: b->v = virtio_rng_new("dev0", b->g->loop, b->g->mem, &err); break;
	case CONSOLE: b->v = virtio_console_new("dev0", b->g->loop, b->g->mem, b->chr, &err); break;
	case BALLOON: b->v = virtio_balloon_new("dev0", b->g->loop, b->g->mem, &err); break;
	case TABLET:
	case KEYBOARD:
		b->v = virtio_input_new("dev0", b->g->loop, b->g->mem, b->kind == TABLET, &err);
		break;
	}
	CHECK(b->v);
	b->dev = virtio_pci_new(b->g->pci, DEVFN, b->v, &err);
	CHECK(b->dev);
}

static void drive(struct bench *b)
{
	guest_alloc_reset(b->g);
	CHECK(vdrv_negotiate(&b->d, b->features));
	for (unsigned q = 0; q < b->nqueues; q++)
		vdrv_queue(&b->d, q, 0);
	vdrv_start(&b->d);
}

static struct bench *bench_new(int kind, enum vtransport t, uint64_t features, unsigned nqueues)
{
	struct bench *b = xcalloc(1, sizeof(*b));
	struct err err = { "" };

	b->kind = kind;
	b->features = features;
	b->nqueues = nqueues;
	b->g = guest_new();
	if (kind == CONSOLE) {
		struct sockaddr_un sa = { .sun_family = AF_UNIX };
		char spec[128];

		snprintf(b->path, sizeof(b->path), "/tmp/virtio-small.%d", getpid());
		snprintf(spec, sizeof(spec), "unix:%s,server,nowait", b->path);
		b->chr = chardev_open("chr0", spec, b->g->loop, &host_direct, &err);
		if (!b->chr)
			tap_fail(__FILE__, __LINE__, "%s", err.msg);
		b->peer = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		memcpy(sa.sun_path, b->path, strlen(b->path));
		CHECK(connect(b->peer, (void *)&sa, sizeof(sa)) == 0);
		fcntl(b->peer, F_SETFL, O_NONBLOCK);
	}
	build(b);
	vdrv_find(&b->d, b->g, t, DEVFN, 0);
	drive(b);
	return b;
}

static void destroy(struct bench *b)
{
	loop_lock(b->g->loop);
	device_destroy(b->dev);
	loop_unlock(b->g->loop);
}

static void bench_free(struct bench *b)
{
	destroy(b);
	vdrv_free(&b->d);
	if (b->chr) {
		loop_lock(b->g->loop);
		chardev_free(b->chr);
		loop_unlock(b->g->loop);
		close(b->peer);
		unlink(b->path);
	}
	guest_free(b->g);
	free(b);
}

static void replace(struct bench *b)
{
	struct err why;
	void *blob;
	size_t len;

	guest_quiesce(b->g, b->dev);
	for (unsigned q = 0; q < b->v->nqueues; q++)
		CHECK_EQ(b->v->queues[q].inflight, 0);
	guest_save(b->dev, &blob, &len);
	destroy(b);
	build(b);
	if (guest_load(b->dev, blob, len, &why))
		tap_fail(__FILE__, __LINE__, "load: %s", why.msg);
	free(blob);
	loop_lock(b->g->loop);
	b->dev->ops->resume(b->dev);
	loop_unlock(b->g->loop);
}

/* --- random numbers --- */

static void rng(enum vtransport t, uint64_t features)
{
	struct bench *b = bench_new(RNG, t, features, 1);
	struct dring *r = &b->d.rings[0];
	uint8_t *p[4];
	uint32_t len;

	for (int way = 0; way < 3; way++) {
		for (int i = 0; i < 4; i++) {
			uint64_t at = guest_alloc(b->g, 80, 64);

			p[i] = guest_ptr(b->g, at, 80);
			vring_add(r, &(struct vbuf){ at, 64 }, 0, 1, p[i]);
		}
		vring_kick(r);
		CHECK(r->outstanding == 4);
		if (way == 1)
			replace(b);
		if (way == 2) {
			drive(b);
			for (int i = 0; i < 4; i++)
				vring_add(r,
					  &(struct vbuf){ (uint8_t *)p[i] -
								  (uint8_t *)guest_ptr(b->g, 0, 1),
							  64 },
					  0, 1, p[i]);
			vring_kick(r);
		}
		for (int i = 0; i < 4; i++) {
			CHECK(vring_wait(r, &len) == p[i]);
			CHECK_EQ(len, 64);
			CHECK(memcmp(p[i], p[(i + 1) % 4], 64) || i == 3);
			CHECK_EQ(p[i][64], 0);
		}
	}
	bench_free(b);
}

TEST(rng_legacy) { rng(V_LEGACY, 0); }
TEST(rng_modern) { rng(V_MODERN, RINGS); }

TEST(rng_odd_requests)
{
	struct bench *b = bench_new(RNG, V_MODERN, RINGS, 1);
	struct dring *r = &b->d.rings[0];
	uint64_t at = guest_alloc(b->g, MiB, 64);
	uint32_t len;

	/* A megabyte is answered with less; a buffer that may only be read, with nothing. */
	vring_add(r, &(struct vbuf){ at, MiB }, 0, 1, b);
	vring_kick(r);
	CHECK(vring_wait(r, &len) == b);
	CHECK(len > 0 && len <= MiB);
	vring_add(r, &(struct vbuf){ at, 64 }, 1, 0, b);
	vring_kick(r);
	CHECK(vring_wait(r, &len) == b);
	CHECK_EQ(len, 0);
	bench_free(b);
}

/* --- console --- */

static void con_write(struct bench *b, const char *text, size_t len)
{
	uint64_t at = guest_alloc(b->g, len, 64);

	memcpy(guest_ptr(b->g, at, len), text, len);
	vring_add(&b->d.rings[1], &(struct vbuf){ at, len }, 1, 0, b);
	vring_kick(&b->d.rings[1]);
}

/* What the person at the other end sees. */
static void peer_expect(struct bench *b, const char *text, size_t len)
{
	size_t have = 0;
	int64_t end = now_ns() + 5 * NS_PER_SEC;
	char buf[4096];

	while (have < len) {
		ssize_t n = read(b->peer, buf, MIN(sizeof(buf), len - have));

		if (n > 0) {
			CHECK(!memcmp(buf, text + have, n));
			have += n;
		} else {
			if (now_ns() > end)
				tap_fail(__FILE__, __LINE__, "%zu of %zu bytes arrived", have, len);
			guest_run(b->g, 1);
		}
	}
}

static void con_expect(struct bench *b, const char *text)
{
	while (*text) {
		uint32_t n;
		char *p = vring_wait(&b->d.rings[0], &n);

		CHECK(n <= strlen(text) && n > 0);
		CHECK(!memcmp(p, text, n));
		text += n;
	}
}

static void con_post(struct bench *b, unsigned n)
{
	while (n--) {
		uint64_t at = guest_alloc(b->g, 16, 64);

		vring_add(&b->d.rings[0], &(struct vbuf){ at, 16 }, 0, 1, guest_ptr(b->g, at, 16));
	}
	vring_kick(&b->d.rings[0]);
}

static void console(enum vtransport t, uint64_t features)
{
	struct bench *b = bench_new(CONSOLE, t, features, 2);
	char *big = malloc(2 * MiB);

	for (size_t i = 0; i < 2 * MiB; i++)
		big[i] = i * 7 ^ i >> 8;
	con_write(b, "hello\n", 6);
	peer_expect(b, "hello\n", 6);
	con_post(b, 20);
	CHECK(write(b->peer, "a line that needs more than one buffer\n", 39) == 39);
	con_expect(b, "a line that needs more than one buffer\n");
	/* Input before there are buffers waits. */
	drive(b);
	CHECK(write(b->peer, "patience", 8) == 8);
	for (int i = 0; i < 5; i++)
		guest_run(b->g, 1);
	con_post(b, 4);
	con_expect(b, "patience");
	/* More than the host takes at once; saved in the middle, and nothing is lost or doubled. */
	con_write(b, big, 2 * MiB);
	for (int i = 0; i < 5; i++)
		guest_run(b->g, 1);
	CHECK_EQ(b->d.rings[1].outstanding, 1);
	peer_expect(b, big, 100000);
	CHECK_EQ(b->d.rings[1].outstanding, 1);
	replace(b);
	peer_expect(b, big + 100000, 2 * MiB - 100000);
	CHECK(vring_wait(&b->d.rings[1], NULL));
	/* Buffers fetched ahead survive a save. */
	con_post(b, 4);
	guest_run(b->g, 1);
	replace(b);
	CHECK(write(b->peer, "again", 5) == 5);
	con_expect(b, "again");
	free(big);
	bench_free(b);
}

TEST(console_legacy) { console(V_LEGACY, 0); }
TEST(console_modern) { console(V_MODERN, RINGS); }

TEST(console_emergency_write)
{
	struct bench *b = bench_new(CONSOLE, V_MODERN, F(VIRTIO_CONSOLE_F_EMERG_WRITE), 0);

	vdrv_set_status(&b->d, 0);
	guest_run(b->g, 10);
	vdrv_config_write(&b->d, 8, 4, '!');
	peer_expect(b, "!", 1);
	bench_free(b);
}

/* --- balloon --- */

static bool resident(struct bench *b, uint64_t gpa)
{
	unsigned char v;

	CHECK(mincore(guest_ptr(b->g, gpa, 4096), 4096, &v) == 0);
	return v & 1;
}

static void give(struct bench *b, unsigned q, const uint32_t *pfns, unsigned n)
{
	uint64_t at = guest_alloc(b->g, 4 * n, 64);

	memcpy(guest_ptr(b->g, at, 4 * n), pfns, 4 * n);
	vring_add(&b->d.rings[q], &(struct vbuf){ at, 4 * n }, 1, 0, b);
	vring_kick(&b->d.rings[q]);
	CHECK(vring_wait(&b->d.rings[q], NULL) == b);
}

static void balloon(enum vtransport t)
{
	struct bench *b =
		bench_new(BALLOON, t,
			  RINGS | F(VIRTIO_BALLOON_F_STATS_VQ) | F(VIRTIO_BALLOON_F_REPORTING), 4);
	uint32_t pfns[] = { 2048, 2049, 2050, 2060, 2100, 2099, 2098 };
	uint64_t at = 2048 * 4096;

	memset(guest_ptr(b->g, at, 64 * 4096), 0x5a, 64 * 4096);
	CHECK(resident(b, at));
	vdrv_msix(&b->d, 4);
	loop_lock(b->g->loop);
	CHECK_EQ(virtio_balloon_actual(b->v), GUEST_RAM);
	virtio_balloon_set(b->v, GUEST_RAM - 7 * 4096);
	loop_unlock(b->g->loop);
	CHECK_EQ(b->g->msi[4], 1);
	CHECK_EQ(vdrv_config(&b->d, 0, 4), 7);
	give(b, 0, pfns, ARRAY_SIZE(pfns));
	vdrv_config_write(&b->d, 4, 4, 7);
	CHECK_EQ(virtio_balloon_actual(b->v), GUEST_RAM - 7 * 4096);
	for (unsigned i = 0; i < ARRAY_SIZE(pfns); i++)
		if (pfns[i] < 2112)
			CHECK(!resident(b, pfns[i] * 4096ull));
	CHECK(resident(b, 2051 * 4096) && resident(b, 2059 * 4096) && resident(b, 2061 * 4096));
	replace(b);
	CHECK_EQ(vdrv_config(&b->d, 4, 4), 7);
	give(b, 1, pfns, ARRAY_SIZE(pfns));
	CHECK_EQ(*(uint32_t *)guest_ptr(b->g, at, 4), 0);
	/* Pages that are no memory, half in ROM, or far away. */
	give(b, 0, (uint32_t[]){ 0xffffffff, 0xffffffff, 0, 0xf0, 0x8000, 0x4000000 }, 6);
	CHECK_EQ(*(uint8_t *)guest_ptr(b->g, 2051 * 4096, 1), 0x5a);
	bench_free(b);
}

TEST(balloon_legacy) { balloon(V_LEGACY); }
TEST(balloon_modern) { balloon(V_MODERN); }

TEST(balloon_statistics)
{
	struct bench *b = bench_new(BALLOON, V_MODERN, F(VIRTIO_BALLOON_F_STATS_VQ), 3);
	struct virtio_balloon_stat *s;
	uint64_t at = guest_alloc(b->g, 4096, 64), stats[VIRTIO_BALLOON_STATS];

	s = guest_ptr(b->g, at, 4096);
	s[0] = (struct virtio_balloon_stat){ VIRTIO_BALLOON_S_MEMFREE, 111 };
	s[1] = (struct virtio_balloon_stat){ VIRTIO_BALLOON_S_MEMTOT, 222 };
	s[2] = (struct virtio_balloon_stat){ 999, 333 };
	vring_add(&b->d.rings[2], &(struct vbuf){ at, 3 * sizeof(*s) + 5 }, 1, 0, b);
	vring_kick(&b->d.rings[2]);
	for (int i = 0; i < 5; i++)
		guest_run(b->g, 1);
	CHECK(!vring_get(&b->d.rings[2], NULL));	/* kept until the next question */
	CHECK(virtio_balloon_stats(b->v, stats) > 0);
	CHECK_EQ(stats[VIRTIO_BALLOON_S_MEMFREE], 111);
	CHECK_EQ(stats[VIRTIO_BALLOON_S_MEMTOT], 222);
	replace(b);
	guest_run(b->g, 1);
	loop_lock(b->g->loop);
	virtio_balloon_set_stats(b->v, 1);
	loop_unlock(b->g->loop);
	CHECK(vring_wait(&b->d.rings[2], NULL) == b);
	s[0].val = 110;
	vring_add(&b->d.rings[2], &(struct vbuf){ at, 2 * sizeof(*s) }, 1, 0, b);
	vring_kick(&b->d.rings[2]);
	for (int i = 0; i < 5; i++)
		guest_run(b->g, 1);
	virtio_balloon_stats(b->v, stats);
	CHECK_EQ(stats[VIRTIO_BALLOON_S_MEMFREE], 110);
	bench_free(b);
}

/* The reporting queue moves up when there are no statistics. */
static void reporting(uint64_t features, unsigned q)
{
	struct bench *b = bench_new(BALLOON, V_MODERN, features | F(VIRTIO_BALLOON_F_REPORTING),
				    q + 1);
	uint64_t at = 2048 * 4096;

	memset(guest_ptr(b->g, at, 64 * 4096), 0x5a, 64 * 4096);
	vring_add(&b->d.rings[q],
		  (struct vbuf[]){ { at, 8 * 4096 }, { at + 16 * 4096 + 100, 2 * 4096 } }, 0, 2, b);
	vring_kick(&b->d.rings[q]);
	CHECK(vring_wait(&b->d.rings[q], NULL) == b);
	CHECK(!resident(b, at) && !resident(b, at + 7 * 4096) && resident(b, at + 8 * 4096));
	CHECK(resident(b, at + 16 * 4096) && !resident(b, at + 17 * 4096) &&
	      resident(b, at + 18 * 4096));
	CHECK_EQ(*(uint8_t *)guest_ptr(b->g, at + 18 * 4096, 1), 0x5a);
	bench_free(b);
}

TEST(balloon_reporting) { reporting(F(VIRTIO_BALLOON_F_STATS_VQ), 3); }
TEST(balloon_reporting_without_statistics) { reporting(0, 2); }

/* --- tablet and keyboard --- */

static void input_post(struct bench *b, unsigned n)
{
	while (n--) {
		uint64_t at = guest_alloc(b->g, 8, 64);

		vring_add(&b->d.rings[0], &(struct vbuf){ at, 8 }, 0, 1, guest_ptr(b->g, at, 8));
	}
	vring_kick(&b->d.rings[0]);
}

static void expect_event(struct bench *b, unsigned type, unsigned code, int value)
{
	uint32_t len;
	struct virtio_input_event *e = vring_wait(&b->d.rings[0], &len);

	CHECK_EQ(len, 8);
	CHECK_EQ(e->type, type);
	CHECK_EQ(e->code, code);
	CHECK_EQ((int)e->value, value);
}

static unsigned ask(struct bench *b, unsigned select, unsigned subsel)
{
	vdrv_config_write(&b->d, 0, 1, select);
	vdrv_config_write(&b->d, 1, 1, subsel);
	return vdrv_config(&b->d, 2, 1);
}

static void point(struct bench *b, unsigned x, unsigned y, int wheel, unsigned buttons)
{
	loop_lock(b->g->loop);
	virtio_input_pointer(b->v, x, y, wheel, buttons);
	loop_unlock(b->g->loop);
}

TEST(tablet)
{
	struct bench *b = bench_new(TABLET, V_MODERN, RINGS, 2);

	CHECK_EQ(cfg_read(b->g, DEVFN, PCI_DEVICE_ID, 2), 0x1052);
	CHECK_EQ(ask(b, VIRTIO_INPUT_CFG_ID_NAME, 0), strlen("minivmm tablet"));
	CHECK_EQ(vdrv_config(&b->d, 8, 4), 'm' | 'i' << 8 | 'n' << 16 | 'i' << 24);
	CHECK_EQ(ask(b, VIRTIO_INPUT_CFG_EV_BITS, EV_ABS), 1);
	CHECK_EQ(vdrv_config(&b->d, 8, 1), 3);
	CHECK_EQ(ask(b, VIRTIO_INPUT_CFG_EV_BITS, EV_KEY), BTN_MIDDLE / 8 + 1);
	CHECK_EQ(ask(b, VIRTIO_INPUT_CFG_EV_BITS, EV_LED), 0);
	CHECK_EQ(ask(b, VIRTIO_INPUT_CFG_ABS_INFO, ABS_Y), 20);
	CHECK_EQ(vdrv_config(&b->d, 12, 4), VIRTIO_INPUT_ABS_MAX);
	CHECK_EQ(ask(b, VIRTIO_INPUT_CFG_ABS_INFO, 77), 0);
	CHECK_EQ(ask(b, 0xff, 0xff), 0);
	/* What happens before there are buffers waits, through a save too. */
	point(b, 100, 200, 0, PS2_BUTTON_LEFT);
	replace(b);
	input_post(b, 8);
	expect_event(b, EV_ABS, ABS_X, 100);
	expect_event(b, EV_ABS, ABS_Y, 200);
	expect_event(b, EV_KEY, BTN_LEFT, 1);
	expect_event(b, EV_SYN, SYN_REPORT, 0);
	point(b, 40000, 0, -1, PS2_BUTTON_RIGHT);
	input_post(b, 8);
	expect_event(b, EV_ABS, ABS_X, VIRTIO_INPUT_ABS_MAX);
	expect_event(b, EV_ABS, ABS_Y, 0);
	expect_event(b, EV_REL, REL_WHEEL, -1);
	expect_event(b, EV_KEY, BTN_LEFT, 0);
	expect_event(b, EV_KEY, BTN_RIGHT, 1);
	expect_event(b, EV_SYN, SYN_REPORT, 0);
	/* A guest that never looks costs a bounded backlog of whole frames. */
	for (int i = 0; i < 1000; i++)
		point(b, i, i, 0, 0);
	input_post(b, 50);
	for (int i = 0; i < 15; i++) {
		expect_event(b, EV_ABS, ABS_X, i);
		expect_event(b, EV_ABS, ABS_Y, i);
		if (!i)
			expect_event(b, EV_KEY, BTN_RIGHT, 0);
		expect_event(b, EV_SYN, SYN_REPORT, 0);
	}
	drive(b);
	CHECK_EQ(ask(b, VIRTIO_INPUT_CFG_ID_DEVIDS, 0), 8);
	bench_free(b);
}

TEST(keyboard)
{
	struct bench *b = bench_new(KEYBOARD, V_MODERN, RINGS, 2);

	input_post(b, 4);
	loop_lock(b->g->loop);
	virtio_input_key(b->v, KEY_A, true);
	virtio_input_key(b->v, KEY_A, false);
	virtio_input_key(b->v, 99999, true);
	loop_unlock(b->g->loop);
	expect_event(b, EV_KEY, KEY_A, 1);
	expect_event(b, EV_SYN, SYN_REPORT, 0);
	expect_event(b, EV_KEY, KEY_A, 0);
	expect_event(b, EV_SYN, SYN_REPORT, 0);
	/* The lights are taken note of by nobody, but come back. */
	vring_add(&b->d.rings[1], &(struct vbuf){ guest_alloc(b->g, 8, 8), 8 }, 1, 0, b);
	vring_kick(&b->d.rings[1]);
	CHECK(vring_wait(&b->d.rings[1], NULL) == b);
	CHECK(vdrv_config(&b->d, 2, 1) == 0);
	bench_free(b);
}

TAP_MAIN
