/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * threeways_virtio.c: the small virtio devices straight, saved and loaded at each step with chains
 * in the device's hands, and reset at each step (tests/lib/threeway.h). virtio_blk.c and
 * virtio_net.c have scenarios of their own. The driver's ring code fails on a head that comes back
 * twice, or that was never given.
 */
#include <fcntl.h>
#include <linux/input-event-codes.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_input.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/chips.h"
#include "devices/p9/p9_impl.h"
#include "tests/lib/threeway.h"
#include "tests/lib/vdriver.h"
#include "vmm/backends/chardev.h"

#define DEVFN PCI_DEVFN(5, 0)
#define F(bit) (1ull << (bit))
#define RINGS (F(VIRTIO_RING_F_EVENT_IDX) | F(VIRTIO_RING_F_INDIRECT_DESC))

enum kind { RNG, CONSOLE, BALLOON, TABLET, FOLDER };

struct kit {
	enum kind kind;
	enum vtransport transport;
	uint64_t features;
	unsigned nqueues;
	struct virtio_dev *v;
	struct vdrv d;			/* the driver lives in the guest and so through a save */
	bool driven;
	/* console */
	struct chardev *chr;
	char path[64];
	int peer;
	/* what the person at the other end got; over all connections */
	char seen[64 * KiB];
	size_t nseen;
	char folder[64];
};

static void see(struct kit *k)
{
	ssize_t n;

	while (k->peer >= 0 && k->nseen < sizeof(k->seen) &&
	       (n = read(k->peer, k->seen + k->nseen, sizeof(k->seen) - k->nseen)) > 0)
		k->nseen += n;
}

static void console_open(struct guest *g, struct kit *k)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct err err = { "" };
	char spec[128];

	snprintf(spec, sizeof(spec), "unix:%s,server,nowait", k->path);
	k->chr = chardev_open("chr0", spec, g->loop, &host_direct, &err);
	if (!k->chr)
		tap_fail(__FILE__, __LINE__, "%s", err.msg);
	k->peer = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	memcpy(sa.sun_path, k->path, strlen(k->path));
	CHECK(connect(k->peer, (void *)&sa, sizeof(sa)) == 0);
	fcntl(k->peer, F_SETFL, O_NONBLOCK);
	for (int i = 0; i < 3; i++)
		guest_run(g, 1);
}

static struct device *make(struct guest *g, void *ctx)
{
	struct kit *k = ctx;
	struct err err = { "" };
	struct virtio_9p_opts o = { .path = k->folder, .tag = "shared" };
	struct device *d;

	k->peer = -1;
	if (k->kind == CONSOLE)
		console_open(g, k);
	switch (k->kind) {
	case RNG: k->v = virtio_rng_new("dev0", g->loop, g->mem, &err); break;
	case CONSOLE: k->v = virtio_console_new("dev0", g->loop, g->mem, k->chr, &err); break;
	case BALLOON: k->v = virtio_balloon_new("dev0", g->loop, g->mem, &err); break;
	case TABLET: k->v = virtio_input_new("dev0", g->loop, g->mem, true, &err); break;
	case FOLDER: k->v = virtio_9p_new("dev0", g->loop, g->mem, &o, &err); break;
	}
	if (!k->v)
		tap_fail(__FILE__, __LINE__, "%s", err.msg);
	d = virtio_pci_new(g->pci, DEVFN, k->v, &err);
	CHECK(d);
	k->d.g = g;
	return d;
}

static void unmake(struct guest *g, void *ctx)
{
	struct kit *k = ctx;

	if (k->kind != CONSOLE)
		return;
	loop_lock(g->loop);
	chardev_free(k->chr);		/* sends what it still has */
	loop_unlock(g->loop);
	see(k);
	close(k->peer);
	unlink(k->path);
}

static void restore(void *ctx)
{
	((struct kit *)ctx)->nseen = 0;
}

/* Chains the driver gave and did not get back. */
static unsigned in_flight(struct tw *t)
{
	struct kit *k = t->ctx;
	unsigned n = 0;

	for (unsigned q = 0; k->driven && q < k->nqueues; q++)
		n += k->d.rings[q].outstanding;
	return n;
}

static void start(struct tw *t)
{
	struct kit *k = t->ctx;

	if (k->driven)
		vdrv_free(&k->d);
	k->driven = true;
	vdrv_find(&k->d, t->g, k->transport, DEVFN, 0);
	CHECK(vdrv_negotiate(&k->d, k->features));
	for (unsigned q = 0; q < k->nqueues; q++)
		vdrv_queue(&k->d, q, 0);
	vdrv_start(&k->d);
	tw_say(t, "features %llx status %x", (unsigned long long)k->d.features, vdrv_status(&k->d));
}

static struct dring *ring(struct tw *t, unsigned q)
{
	return &((struct kit *)t->ctx)->d.rings[q];
}

/* The token is the guest address: pointers do not survive a move. */
static uint64_t give(struct tw *t, unsigned q, const void *out, uint32_t n_out, uint32_t n_in)
{
	uint64_t at = guest_alloc(t->g, n_out + n_in, 4096);
	struct vbuf bufs[2] = { { at, n_out }, { at + n_out, n_in } };

	if (n_out)
		memcpy(guest_ptr(t->g, at, n_out), out, n_out);
	vring_add(ring(t, q), n_out ? bufs : bufs + 1, n_out != 0, n_in != 0,
		  (void *)(uintptr_t)at);
	vring_kick(ring(t, q));
	return at;
}

/* The next chain that comes back; its address, and how much was written. */
static uint64_t back(struct tw *t, unsigned q, uint32_t *len)
{
	return (uintptr_t)vring_wait(ring(t, q), len);
}

static void none_back(struct tw *t, unsigned q)
{
	for (int i = 0; i < 3; i++)
		guest_run(t->g, 1);
	CHECK(!vring_get(ring(t, q), NULL));
}

static void scenario(enum kind kind, enum vtransport transport, uint64_t features, unsigned nqueues,
		     void (*const *steps)(struct tw *t), size_t n)
{
	struct kit *k = xcalloc(1, sizeof(*k));

	k->kind = kind;
	k->transport = transport;
	k->features = features;
	k->nqueues = nqueues;
	snprintf(k->path, sizeof(k->path), "/tmp/minivmm-threeways.%d", getpid());
	strcpy(k->folder, "/tmp/minivmm-threeways-XXXXXX");
	CHECK(mkdtemp(k->folder));
	threeway(&(struct tw_scenario){ make, steps, n, restore, k, unmake, in_flight });
	vdrv_free(&k->d);
	CHECK_EQ(rmdir(k->folder), 0);
	free(k);
}

/* --- random numbers: only their number is known --- */

static void rng_ask(struct tw *t)
{
	for (int i = 0; i < 3; i++)
		give(t, 0, NULL, 0, 64);
}

static void rng_take(struct tw *t)
{
	for (int i = 0; i < 3; i++) {
		uint32_t len;
		uint64_t at = back(t, 0, &len);
		static const uint8_t zeros[64];

		tw_say(t, "%u bytes at %llx", len, (unsigned long long)at);
		CHECK(memcmp(guest_ptr(t->g, at, 64), zeros, 64));
	}
}

static void (*const rng_steps[])(struct tw *t) = { start, rng_ask, rng_take, rng_ask, rng_take };

TEST(rng_three_ways) { scenario(RNG, V_MODERN, RINGS, 1, rng_steps, ARRAY_SIZE(rng_steps)); }
TEST(rng_three_ways_legacy) { scenario(RNG, V_LEGACY, 0, 1, rng_steps, ARRAY_SIZE(rng_steps)); }

/* --- console --- */

static void con_buffers(struct tw *t)
{
	for (int i = 0; i < 4; i++)
		give(t, 0, NULL, 0, 8);
	none_back(t, 0);
}

static void con_say(struct tw *t)
{
	char text[5000];

	memset(text, 'a' + ring(t, 1)->last_used % 20, sizeof(text));
	give(t, 1, text, sizeof(text), 0);
	give(t, 1, "end\n", 4, 0);
}

/* Until the other end has it: what the host holds is no business of a reset. */
static void con_said(struct tw *t)
{
	struct kit *k = t->ctx;
	size_t want = k->nseen + 5004;

	back(t, 1, NULL);
	back(t, 1, NULL);
	for (int i = 0; i < 1000 && k->nseen < want; i++) {
		guest_run(t->g, 1);
		see(k);
	}
}

static void con_hear(struct tw *t)
{
	struct kit *k = t->ctx;
	uint32_t len, n = 0;

	CHECK(write(k->peer, "more than a buffer", 18) == 18);
	while (n < 18) {
		uint64_t at = back(t, 0, &len);

		tw_say(t, "heard %.*s", (int)len, (char *)guest_ptr(t->g, at, len));
		n += len;
	}
}

static void con_seen(struct tw *t)
{
	struct kit *k = t->ctx;

	for (int i = 0; i < 5; i++) {
		guest_run(t->g, 1);
		see(k);
	}
	tw_say(t, "the other end saw %zu bytes %08x", k->nseen, crc32c(0, k->seen, k->nseen));
}

static void (*const con_steps[])(struct tw *t) = {
	start,	     con_buffers, con_say,  con_said, con_hear,
	con_buffers, con_say,	  con_said, con_hear, con_seen,
};

TEST(console_three_ways)
{
	scenario(CONSOLE, V_MODERN, RINGS, 2, con_steps, ARRAY_SIZE(con_steps));
}
TEST(console_three_ways_legacy)
{
	scenario(CONSOLE, V_LEGACY, 0, 2, con_steps, ARRAY_SIZE(con_steps));
}

/* --- balloon --- */

static const uint32_t pages[] = { 2048, 2049, 2060, 2100 };

static void bal_target(struct tw *t)
{
	struct kit *k = t->ctx;

	loop_lock(t->g->loop);
	virtio_balloon_set(k->v, GUEST_RAM - sizeof(pages) / 4 * 4096);
	loop_unlock(t->g->loop);
	tw_say(t, "target %u actual %u", (unsigned)vdrv_config(&k->d, 0, 4),
	       (unsigned)vdrv_config(&k->d, 4, 4));
}

static void bal_inflate(struct tw *t)
{
	for (unsigned i = 0; i < ARRAY_SIZE(pages); i++)
		memset(guest_ptr(t->g, pages[i] * 4096ull, 4096), 0x5a, 4096);
	memset(guest_ptr(t->g, 2051 * 4096ull, 4096), 0x5a, 4096);
	give(t, 0, pages, sizeof(pages), 0);
}

static void bal_inflated(struct tw *t)
{
	struct kit *k = t->ctx;

	back(t, 0, NULL);
	vdrv_config_write(&k->d, 4, 4, ARRAY_SIZE(pages));
	for (unsigned i = 0; i < ARRAY_SIZE(pages); i++)
		tw_say(t, "page %u: %x", pages[i],
		       *(uint32_t *)guest_ptr(t->g, pages[i] * 4096ull, 4));
	tw_say(t, "2051: %x, actual %u", *(uint32_t *)guest_ptr(t->g, 2051 * 4096ull, 4),
	       (unsigned)vdrv_config(&k->d, 4, 4));
}

/* The statistics' chain stays with the device until it asks again. */
static void bal_statistics(struct tw *t)
{
	struct virtio_balloon_stat s[2] = { { VIRTIO_BALLOON_S_MEMFREE, 111 },
					    { VIRTIO_BALLOON_S_MEMTOT, 222 } };

	give(t, 2, s, sizeof(s), 0);
	none_back(t, 2);
}

static void bal_deflate(struct tw *t)
{
	give(t, 1, pages, sizeof(pages), 0);
}

static void bal_deflated(struct tw *t)
{
	struct kit *k = t->ctx;

	back(t, 1, NULL);
	vdrv_config_write(&k->d, 4, 4, 0);
	loop_lock(t->g->loop);
	virtio_balloon_set_stats(k->v, 1);
	loop_unlock(t->g->loop);
	back(t, 2, NULL);
	tw_say(t, "actual %u, the statistics came back", (unsigned)vdrv_config(&k->d, 4, 4));
}

static void (*const bal_steps[])(struct tw *t) = {
	start, bal_target, bal_inflate, bal_inflated, bal_statistics, bal_deflate, bal_deflated,
};

TEST(balloon_three_ways)
{
	scenario(BALLOON, V_MODERN, RINGS | F(VIRTIO_BALLOON_F_STATS_VQ), 3, bal_steps,
		 ARRAY_SIZE(bal_steps));
}

/* --- tablet --- */

static void in_buffers(struct tw *t)
{
	for (int i = 0; i < 6; i++)
		give(t, 0, NULL, 0, 8);
}

static void in_point(struct tw *t)
{
	struct kit *k = t->ctx;

	loop_lock(t->g->loop);
	virtio_input_pointer(k->v, 100, 200, 0, PS2_BUTTON_LEFT);
	virtio_input_pointer(k->v, 300, 200, -1, 0);
	loop_unlock(t->g->loop);
}

static void in_events(struct tw *t, unsigned n)
{
	while (n--) {
		uint32_t len;
		struct virtio_input_event *e = guest_ptr(t->g, back(t, 0, &len), 8);

		CHECK_EQ(len, 8);
		tw_say(t, "event %u %u %d", e->type, e->code, (int)e->value);
	}
}

/* Of eight events six fit, and the rest waits for buffers. */
static void in_some(struct tw *t)
{
	in_events(t, 4);
}

static void in_rest(struct tw *t)
{
	in_events(t, 4);
}

static void in_select(struct tw *t)
{
	struct kit *k = t->ctx;

	vdrv_config_write(&k->d, 0, 1, VIRTIO_INPUT_CFG_ABS_INFO);
	vdrv_config_write(&k->d, 1, 1, ABS_Y);
}

static void in_ask(struct tw *t)
{
	struct kit *k = t->ctx;

	tw_say(t, "size %u maximum %u", (unsigned)vdrv_config(&k->d, 2, 1),
	       (unsigned)vdrv_config(&k->d, 12, 4));
}

static void (*const in_steps[])(struct tw *t) = {
	start, in_buffers, in_point, in_some, in_buffers, in_rest, in_select, in_ask,
};

TEST(tablet_three_ways) { scenario(TABLET, V_MODERN, RINGS, 2, in_steps, ARRAY_SIZE(in_steps)); }

/* --- shared folder: what can be saved of it, a session in which nothing is held --- */

static void p9_version(struct tw *t)
{
	give(t, 0, "\x15\0\0\0\x64\xff\xff\0\x20\0\0\x08\0" "9P2000.L", 21, 4096);
}

static void p9_answer(struct tw *t)
{
	uint32_t len;
	uint64_t at = back(t, 0, &len);

	tw_say(t, "answer of %u bytes, type %u", len, *(uint8_t *)guest_ptr(t->g, at + 21 + 4, 1));
}

static void (*const p9_steps[])(struct tw *t) = { start, p9_version, p9_answer, p9_version,
						  p9_answer };

TEST(folder_three_ways) { scenario(FOLDER, V_MODERN, RINGS, 1, p9_steps, ARRAY_SIZE(p9_steps)); }

TAP_MAIN
