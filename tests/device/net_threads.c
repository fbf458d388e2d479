/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * net_threads.c: a network device with two pairs of queues, each on a loop and thread of its own,
 * on a TAP in a network namespace. Two driver threads send and receive all the time while control
 * changes the filter, the number of pairs, the cable, stops and resumes; then the TAP goes. Every
 * buffer comes back once (vdriver.c); the thread sanitizer looks on.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/net.h"
#include "tests/lib/vdriver.h"

#define PAIRS 2
#define DEVFN PCI_DEVFN(4, 0)
#define TYPE 0x88b5		/* for experiments */
#define FRAME 80
#define HDR 12
#define RX_BUF 2048
#define BUFFERS 32		/* of each direction and pair */
#define F(bit) (1ull << (bit))
#define FEATURES                                                                                   \
	(F(VIRTIO_F_VERSION_1) | F(VIRTIO_RING_F_EVENT_IDX) | F(VIRTIO_NET_F_MAC) |                \
	 F(VIRTIO_NET_F_STATUS) | F(VIRTIO_NET_F_MRG_RXBUF) | F(VIRTIO_NET_F_MQ) |                 \
	 F(VIRTIO_NET_F_CTRL_VQ) | F(VIRTIO_NET_F_CTRL_RX) | F(VIRTIO_NET_F_CTRL_MAC_ADDR))

static const uint8_t mac[6] = { 0x52, 0x54, 0x00, 1, 2, 3 },
		     broadcast[6] = { 255, 255, 255, 255, 255, 255 };

static struct guest *g;
static struct vdrv drv;
static struct virtio_dev *v;
static struct loop *loops[PAIRS];
static uint64_t command_at;
static int quit;

/* What a driver's thread has: a pair of rings, its buffers, what it saw. */
static struct driver {
	struct dring *rx, *tx;
	uint64_t rx_at[BUFFERS], tx_at[BUFFERS];
	unsigned free[BUFFERS], nfree;
	pthread_t thread;
	uint64_t sent, received;
	uint8_t index;
} drivers[PAIRS];

static void shell(const char *cmd)
{
	CHECK(system(cmd) == 0);
}

static void lab(void)
{
	if (getuid() != 0 || unshare(CLONE_NEWNET | CLONE_NEWNS) < 0)
		SKIP("no network namespace (root)");
	if (access("/dev/net/tun", R_OK | W_OK) < 0)
		SKIP("/dev/net/tun cannot be opened (modprobe tun)");
	if (system("mount --make-rprivate / && mount -t sysfs sysfs /sys && ip link set lo up") !=
	    0)
		SKIP("cannot mount sysfs for the namespace, or no ip command");
	shell("ip link add br0 type bridge && ip link set br0 up");
}

static int packet_socket(const char *ifname)
{
	struct sockaddr_ll sa = { .sll_family = AF_PACKET,
				  .sll_protocol = htons(TYPE),
				  .sll_ifindex = if_nametoindex(ifname) };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(TYPE));

	CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0);
	return fd;
}

static void frame_make(uint8_t *f, const uint8_t *to, uint8_t from)
{
	memset(f, from, FRAME);
	memcpy(f, to, 6);
	memcpy(f + 6, (uint8_t[]){ 2, 0, 0, 0, 0, from }, 6);
	st_be16(f + 12, TYPE);
}

static void rx_put(struct driver *d, void *token)
{
	unsigned i = (uint64_t *)token - d->rx_at;

	vring_add(d->rx, &(struct vbuf){ d->rx_at[i], RX_BUF }, 0, 1, token);
}

static void tx_put(struct driver *d, unsigned i)
{
	uint8_t *p = guest_ptr(g, d->tx_at[i], HDR + FRAME);

	memset(p, 0, HDR);
	frame_make(p + HDR, broadcast, d->index);
	vring_add(d->tx, &(struct vbuf){ d->tx_at[i], HDR + FRAME }, 1, 0, &d->tx_at[i]);
}

/* One look at both rings; true when there was something. */
static bool drive(struct driver *d)
{
	bool some = false;
	uint32_t len;
	void *t;

	while ((t = vring_get(d->rx, &len))) {
		const uint8_t *f = (uint8_t *)guest_ptr(g, *(uint64_t *)t, RX_BUF) + HDR;

		if (ld_be16(f + 12) == TYPE) {		/* the bridge speaks, too */
			CHECK_EQ(len, HDR + FRAME);
			__atomic_add_fetch(&d->received, 1, __ATOMIC_RELAXED);
		}
		rx_put(d, t);
		some = true;
	}
	if (some)
		vring_kick(d->rx);
	while ((t = vring_get(d->tx, &len))) {
		d->free[d->nfree++] = (uint64_t *)t - d->tx_at;
		__atomic_add_fetch(&d->sent, 1, __ATOMIC_RELAXED);
		some = true;
	}
	if (d->nfree) {
		while (d->nfree)
			tx_put(d, d->free[--d->nfree]);
		vring_kick(d->tx);
	}
	return some;
}

static void *driver_thread(void *ctx)
{
	while (!__atomic_load_n(&quit, __ATOMIC_ACQUIRE))
		if (!drive(ctx))
			usleep(50);
	return NULL;
}

/* The other end of the bridge: the guest gets as much as the socket takes. */
static void *peer_thread(void *ctx)
{
	int fd = *(int *)ctx;
	uint8_t f[FRAME], got[256];

	frame_make(f, mac, 9);
	while (!__atomic_load_n(&quit, __ATOMIC_ACQUIRE)) {
		for (unsigned i = 0; i < 16; i++) {
			f[11] = i;		/* several senders: several queues */
			if (write(fd, f, FRAME) < 0)
				break;
		}
		while (read(fd, got, sizeof(got)) > 0)
			;
		usleep(200);
	}
	return NULL;
}

static uint8_t command(uint8_t class, uint8_t cmd, const void *data, size_t len)
{
	uint8_t *p = guest_ptr(g, command_at, 256);
	struct dring *ctrl = &drv.rings[2 * PAIRS];

	p[0] = class;
	p[1] = cmd;
	memcpy(p + 64, data, len);
	p[128] = 0xee;
	vring_add(ctrl,
		  (struct vbuf[]){
			  { command_at, 2 }, { command_at + 64, len }, { command_at + 128, 1 } },
		  2, 1, p);
	vring_kick(ctrl);
	CHECK(vring_wait(ctrl, NULL) == p);
	return p[128];
}

static void set_pairs(uint8_t n)
{
	CHECK_EQ(command(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, (uint8_t[]){ n, 0 },
			 2),
		 VIRTIO_NET_OK);
}

static void set_promisc(uint8_t on)
{
	CHECK_EQ(command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &on, 1), VIRTIO_NET_OK);
}

static void set_link(bool up)
{
	loop_lock(g->loop);
	virtio_net_set_link(v, up);
	loop_unlock(g->loop);
}

static bool has_link(void *ctx) { return vdrv_config(&drv, 6, 2) & VIRTIO_NET_S_LINK_UP; }
static bool has_no_link(void *ctx) { return !has_link(ctx); }
static void was_stopped(void *ctx) { *(bool *)ctx = true; }
static bool is_true(void *ctx) { return *(bool *)ctx; }

static void stop_and_go(void)
{
	bool stopped = false;

	loop_lock(g->loop);
	virtio_quiesce(v, was_stopped, &stopped);
	loop_unlock(g->loop);
	CHECK(guest_run_until(g, is_true, &stopped, 5000));
	loop_lock(g->loop);
	virtio_resume(v);
	loop_unlock(g->loop);
}

static void rings_make(void)
{
	CHECK(vdrv_negotiate(&drv, FEATURES));
	CHECK_EQ(drv.features & FEATURES, FEATURES);
	for (unsigned q = 0; q <= 2 * PAIRS; q++)
		vdrv_queue(&drv, q, 0);
	command_at = guest_alloc(g, 256, 64);
	for (unsigned p = 0; p < PAIRS; p++) {
		struct driver *d = &drivers[p];

		d->rx = &drv.rings[2 * p];
		d->tx = &drv.rings[2 * p + 1];
		d->index = p + 1;
		for (unsigned i = 0; i < BUFFERS; i++) {
			d->rx_at[i] = guest_alloc(g, RX_BUF, 64);
			d->tx_at[i] = guest_alloc(g, HDR + FRAME, 64);
			d->free[d->nfree++] = i;
		}
	}
	vdrv_start(&drv);
	for (unsigned p = 0; p < PAIRS; p++) {
		for (unsigned i = 0; i < BUFFERS; i++)
			rx_put(&drivers[p], &drivers[p].rx_at[i]);
		vring_kick(drivers[p].rx);
	}
}

/*
 * Both pairs move packets again: each has sent some, and together they have received some, since
 * this was called.
 */
static void both_work(void)
{
	uint64_t sent[PAIRS], received = 0, now = 0;
	int64_t end = now_ns() + 10 * NS_PER_SEC;
	bool ok = false;

	for (unsigned p = 0; p < PAIRS; p++) {
		sent[p] = __atomic_load_n(&drivers[p].sent, __ATOMIC_RELAXED);
		received += __atomic_load_n(&drivers[p].received, __ATOMIC_RELAXED);
	}
	while (!ok && now_ns() < end) {
		guest_run(g, 1);
		ok = true;
		now = 0;
		for (unsigned p = 0; p < PAIRS; p++) {
			ok &= __atomic_load_n(&drivers[p].sent, __ATOMIC_RELAXED) >
			      sent[p] + 2 * BUFFERS;
			now += __atomic_load_n(&drivers[p].received, __ATOMIC_RELAXED);
		}
		ok &= now > received + 20;
	}
	CHECK(ok);
}

TEST(pairs_on_threads)
{
	struct virtio_net_opts o = { .pairs = PAIRS, .queue_loops = loops };
	struct err err = { "" };
	struct device *dev;
	char info[128], ifname[16];
	pthread_t peer;
	int64_t end;
	int fd;

	lab();
	g = guest_new();
	for (unsigned p = 0; p < PAIRS; p++) {
		loops[p] = loop_new("pair");
		loop_set_patient(loops[p]);
		CHECK_EQ(loop_thread_start(loops[p]), 0);
	}
	o.net = net_open("n0", "tap,br0,queues=2", g->loop, &host_direct, &err);
	if (!o.net)
		tap_fail(__FILE__, __LINE__, "%s", err.msg);
	memcpy(o.mac, mac, 6);
	v = virtio_net_new("net0", g->loop, g->mem, &o, &err);
	CHECK(v);
	dev = virtio_pci_new(g->pci, DEVFN, v, &err);
	CHECK(dev);
	vdrv_find(&drv, g, V_MODERN, DEVFN, 0);
	rings_make();
	set_pairs(PAIRS);
	fd = packet_socket("br0");
	for (unsigned p = 0; p < PAIRS; p++)
		pthread_create(&drivers[p].thread, NULL, driver_thread, &drivers[p]);
	pthread_create(&peer, NULL, peer_thread, &fd);
	both_work();

	end = now_ns() + 2 * NS_PER_SEC;
	for (unsigned n = 0; now_ns() < end; n++) {
		struct net_stats s;

		set_promisc(n & 1);
		set_pairs(1 + (n >> 1 & 1));
		if (n % 5 == 0) {
			set_link(false);
			CHECK(guest_run_until(g, has_no_link, NULL, 1000));
			set_link(true);
			CHECK(guest_run_until(g, has_link, NULL, 1000));
		}
		if (n % 7 == 0)
			stop_and_go();
		net_get_stats(o.net, &s);
		guest_run(g, 1);
	}
	set_pairs(PAIRS);
	set_promisc(1);
	both_work();

	/* Somebody removes the TAP: a queue's thread finds it gone, the guest's cable is out. */
	net_info(o.net, info, sizeof(info));
	CHECK(sscanf(info, "tap,ifname=%15[^,]", ifname) == 1);
	snprintf(info, sizeof(info), "ip link del %s", ifname);
	shell(info);
	CHECK(guest_run_until(g, has_no_link, NULL, 5000));
	__atomic_store_n(&quit, 1, __ATOMIC_RELEASE);
	for (unsigned p = 0; p < PAIRS; p++)
		pthread_join(drivers[p].thread, NULL);
	pthread_join(peer, NULL);
	for (unsigned p = 0; p < PAIRS; p++)
		loop_thread_join(loops[p]);
	loop_lock(g->loop);
	device_destroy(dev);
	net_close(o.net);
	loop_unlock(g->loop);
	for (unsigned p = 0; p < PAIRS; p++)
		loop_free(loops[p]);
	vdrv_free(&drv);
	close(fd);
	guest_free(g);
}

TAP_MAIN
