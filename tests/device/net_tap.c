/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * net_tap.c: TAP devices and bridges of the running kernel, each test in a network namespace of its
 * own, so that nothing is left behind. The judge on the other side is a packet socket on the
 * bridge.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <linux/virtio_net.h>

#include "net/net.h"
#include "tests/tap.h"

static struct loop *loop;
static int packets, rooms, link_now = -1;

static void on_readable(void *ctx, unsigned q) { packets++; net_poll(ctx, q, false, false); }
static void on_writable(void *ctx, unsigned q) { rooms++; }
static void on_link(void *ctx, bool up) { link_now = up; }

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

/* A fresh network namespace, as root or through a user namespace. */
static void lab(void)
{
	char map[32];
	int uid = getuid(), fd;

	if (uid == 0) {
		if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0)
			SKIP("no network namespace (CAP_SYS_ADMIN)");
	} else {
		if (unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS) < 0)
			SKIP("no network namespace (user namespaces are off)");
		write_file("/proc/self/setgroups", "deny");
		snprintf(map, sizeof(map), "0 %d 1", uid);
		write_file("/proc/self/uid_map", map);
	}
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		SKIP("/dev/net/tun cannot be opened (modprobe tun, or no right to)");
	close(fd);
	/* sysfs shows the namespace of whoever mounts it. */
	if (system("mount --make-rprivate / && mount -t sysfs sysfs /sys && ip link set lo up") !=
	    0)
		SKIP("cannot mount sysfs for the namespace, or no ip command");
	loop = loop_new("test");
}

static void shell(const char *cmd)
{
	CHECK(system(cmd) == 0);
}

static int have(const char *cmd)
{
	return system(cmd) == 0;
}

static struct net *open_net(const char *spec)
{
	struct err err = { 0 };
	struct net *n = net_open("net0", spec, loop, &host_direct, &err);

	if (!n)
		tap_fail(__FILE__, __LINE__, "%s", err.msg);
	net_attach(n, loop, on_readable, on_writable, on_link, n);
	return n;
}

static void open_fails(const char *spec, const struct host *host, const char *a, const char *b)
{
	struct err err = { 0 };
	struct net *n = net_open("net0", spec, loop, host, &err);

	CHECK(!n);
	if (!strstr(err.msg, a) || !strstr(err.msg, b))
		tap_fail(__FILE__, __LINE__, "the message lacks \"%s\" or \"%s\": %s", a, b,
			 err.msg);
}

#define TYPE 0x88b5	/* for experiments: nobody else speaks it */

static int packet_socket(const char *ifname)
{
	struct sockaddr_ll sa = { .sll_family = AF_PACKET,
				  .sll_protocol = htons(TYPE),
				  .sll_ifindex = if_nametoindex(ifname) };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(TYPE));

	CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0);
	return fd;
}

static void make_frame(uint8_t *f, size_t len, uint8_t fill)
{
	memset(f, fill, len);
	memset(f, 0xff, 6);
	memcpy(f + 6, "\x52\x54\x00\x11\x22\x33", 6);
	st_be16(f + 12, TYPE);
}

static ssize_t take(int fd, uint8_t *buf, size_t len, int ms)
{
	struct pollfd p = { fd, POLLIN, 0 };

	if (poll(&p, 1, ms) != 1)
		return -1;
	return recv(fd, buf, len, 0);
}

/* Bridges forward only after the port's listening time unless STP is off and the delay 0. */
static void make_bridge(void)
{
	shell("ip link add br0 type bridge stp_state 0 forward_delay 0 && ip link set br0 up");
}

static ssize_t send_frame(struct net *n, const uint8_t *f, size_t len)
{
	struct iovec iov = { (void *)f, len };

	return net_send(n, 0, &iov, 1);
}

/* The packet of our type, whatever else the kernel multicasts at us. */
static ssize_t recv_frame(struct net *n, uint8_t *buf, size_t len, size_t hdr)
{
	for (int tries = 0; tries < 200; tries++) {
		struct iovec iov = { buf, len };
		ssize_t got = net_recv(n, 0, &iov, 1);

		if (got == -EAGAIN) {
			usleep(5000);
			continue;
		}
		if (got < 0 || (got >= (ssize_t)hdr + 14 && ld_be16(buf + hdr + 12) == TYPE))
			return got;
	}
	return -ETIME;
}

TEST(bridge_round_trip)
{
	uint8_t f[1514], buf[2048];
	struct net *n;
	char info[128];
	int fd;

	lab();
	make_bridge();
	n = open_net("tap,br0");
	net_info(n, info, sizeof(info));
	CHECK(!strncmp(info, "tap,ifname=tap0,br=br0", 22));
	CHECK(have("ip -o link show tap0 | grep -q 'master br0'"));
	CHECK(have("ip -o link show tap0 | grep -q ',UP'"));
	fd = packet_socket("br0");

	make_frame(f, sizeof(f), 0xa5);
	CHECK_EQ(send_frame(n, f, sizeof(f)), sizeof(f));
	CHECK_EQ(take(fd, buf, sizeof(buf), 1000), sizeof(f));
	CHECK(!memcmp(f, buf, sizeof(f)));

	make_frame(f, 60, 0x5a);
	CHECK_EQ(write(fd, f, 60), 60);
	CHECK_EQ(recv_frame(n, buf, sizeof(buf), 0), 60);
	CHECK(!memcmp(f, buf, 60));

	net_close(n);
	CHECK(!have("ip link show tap0 2>/dev/null"));
	CHECK(have("ip link show br0 >/dev/null"));
}

TEST(events_through_the_loop)
{
	uint8_t f[60], buf[256];
	struct net *n;
	int fd;

	lab();
	make_bridge();
	n = open_net("bridge,br=br0");
	fd = packet_socket("br0");
	make_frame(f, sizeof(f), 1);
	loop_lock(loop);
	while (recv_frame(n, buf, sizeof(buf), 0) > 0)
		;
	net_poll(n, 0, true, false);
	loop_unlock(loop);
	CHECK_EQ(write(fd, f, sizeof(f)), sizeof(f));
	for (int i = 0; i < 50 && !packets; i++)
		loop_once(loop, 20);
	CHECK(packets);
	net_poll(n, 0, false, true);
	for (int i = 0; i < 50 && !rooms; i++)
		loop_once(loop, 20);
	CHECK_EQ(rooms, 1);
	net_close(n);
}

TEST(bad_bridges)
{
	lab();
	open_fails("tap,br0", &host_direct, "bridge br0 does not exist",
		   "ip link add br0 type bridge");
	open_fails("tap,br=lo", &host_direct, "lo is an interface, but no bridge", "master");
	open_fails("tap,br=averyveryverylongname", &host_direct, "no interface name", "15");
	open_fails("tap,brigde=br0", &host_direct, "unknown option \"brigde\"", "br=");
	open_fails("tap,vhost=on", &host_direct, "vhost=on", "leave it out");
	open_fails("tap,ifname=lo,script=no", &host_direct, "no TAP device", "lo");
	open_fails("tun", &host_direct, "unknown network \"tun\"", "bridge");
	CHECK(!have("ip link show tap0 2>/dev/null"));
}

TEST(existing_tap_is_used_and_stays)
{
	struct net *n;

	lab();
	shell("ip tuntap add dev tap1 mode tap && ip link set tap1 up");
	n = open_net("tap,ifname=tap1,script=no");
	open_fails("tap,ifname=tap1,script=no", &host_direct, "tap1 is busy", "ifname=");
	net_close(n);
	CHECK(have("ip link show tap1 >/dev/null"));
	n = open_net("tap,ifname=tap1,script=no,downscript=no");
	net_close(n);
	/* One made for several queues says so only by refusing. */
	shell("ip tuntap add dev tap2 mode tap multi_queue");
	n = open_net("tap,ifname=tap2,script=no");
	CHECK(have("ip -o link show tap2 | grep -q ',UP'"));
	net_close(n);
	open_fails("tap,ifname=tap1,script=no,queues=2", &host_direct, "has one queue",
		   "multi_queue");
}

/* What an ordinary user may do; the descriptor comes from a door that could still open it. */
static int door_fd;
static int door_call(void *ctx, struct host_call *c, struct err *err)
{
	if (c->op != HOST_OPEN)
		return host_direct.call(NULL, c, err);
	return ctx ? err_set(err, EACCES, "%s: %s", c->name, strerror(EACCES))
		   : fcntl(door_fd, F_DUPFD_CLOEXEC, 3);
}

TEST(without_rights_three_ways_are_named)
{
	const struct host door = { .call = door_call }, 
			  closed = { .call = door_call, .ctx = &door_fd };
	struct net *n;
	struct err err = { 0 };

	lab();
	if (getuid() != 0)
		SKIP("needs a second user: run as root");
	make_bridge();
	shell("ip tuntap add dev tap7 mode tap user 65534 && ip link set tap7 master br0 up");
	shell("ip tuntap add dev tap8 mode tap user 1 && ip link set tap8 up");
	door_fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
	CHECK(door_fd >= 0);
	CHECK(setresuid(65534, 65534, 65534) == 0);
	open_fails("tap,br0", &closed, "setcap cap_net_admin+ep", "-net user");
	open_fails("tap,br0", &door, "setcap cap_net_admin+ep", "ifname=tap0,script=no");
	open_fails("tap,ifname=tap8,script=no", &door, "belongs to somebody else", "user 65534");
	open_fails("tap,ifname=tap8,script=no", &closed, "Three ways", "user 65534");
	n = net_open("net0", "tap,ifname=tap7,br=br0,script=no", loop, &door, &err);
	if (!n)
		tap_fail(__FILE__, __LINE__, "own TAP: %s", err.msg);
	net_close(n);
}

TEST(missing_tun)
{
	lab();
	if (mount("tmpfs", "/dev/net", "tmpfs", 0, NULL) < 0)
		SKIP("cannot hide /dev/net");
	open_fails("tap", &host_direct, "/dev/net/tun is missing", "modprobe tun");
}

TEST(queues)
{
	struct net *n;
	uint8_t f[60], buf[64];
	struct iovec iov = { f, sizeof(f) };
	int fd;

	lab();
	make_bridge();
	n = open_net("tap,br0,queues=3");
	CHECK_EQ(n->max_queues, 3);
	fd = packet_socket("br0");
	make_frame(f, sizeof(f), 9);
	CHECK_EQ(net_set_queues(n, 3), 0);
	CHECK_EQ(net_set_queues(n, 4), -EINVAL);
	for (unsigned q = 0; q < 3; q++) {
		net_poll(n, q, true, false);
		CHECK_EQ(net_send(n, q, &iov, 1), 60);
		CHECK_EQ(take(fd, buf, sizeof(buf), 1000), 60);
	}
	loop_once(loop, 0);
	/*
	 * Fewer queues while all are watched: the detached ones report errors, which is not the
	 * device's end.
	 */
	CHECK_EQ(net_set_queues(n, 1), 0);
	for (int i = 0; i < 5; i++)
		loop_once(loop, 10);
	CHECK(n->link_up);
	CHECK_EQ(net_send(n, 0, &iov, 1), 60);
	net_close(n);
}

/*
 * A TCP packet over IPv4 of len bytes behind a virtio_net_hdr of hdr bytes, to be cut to segments
 * of mss.
 */
static void make_tso(uint8_t *f, size_t hdr, size_t len, unsigned mss)
{
	struct virtio_net_hdr *h = (void *)f;
	uint8_t *ip = f + hdr + 14, *tcp = ip + 20;
	uint32_t sum = 0;

	memset(f, 0, hdr + 54);
	h->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	h->gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
	h->gso_size = mss;
	h->hdr_len = 54;
	h->csum_start = 34;
	h->csum_offset = 16;
	memset(f + hdr, 0xff, 6);
	memcpy(f + hdr + 6, "\x52\x54\x00\x11\x22\x33\x08\x00", 8);
	memcpy(ip,
	       "\x45\x00\x00\x00\x00\x00\x40\x00\x40\x06\x00\x00\x0a\x09\x00\x02\x0a\x09\x00\x01",
	       20);
	st_be16(ip + 2, len - 14);
	for (int i = 0; i < 20; i += 2)
		sum += ld_be16(ip + i);
	sum = (sum & 0xffff) + (sum >> 16);
	st_be16(ip + 10, ~((sum & 0xffff) + (sum >> 16)));
	tcp[12] = 5 << 4;
	tcp[13] = 0x10;
	/* What NEEDS_CSUM wants in the field: the pseudo header's sum. */
	sum = 0x0a09 + 0x0002 + 0x0a09 + 0x0001 + 6 + len - 34;
	st_be16(tcp + 16, (sum & 0xffff) + (sum >> 16));
}

static int ip_packet_socket(const char *ifname)
{
	struct sockaddr_ll sa = { .sll_family = AF_PACKET,
				  .sll_protocol = htons(ETH_P_IP),
				  .sll_ifindex = if_nametoindex(ifname) };
	int on = 1, fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_IP));

	CHECK(fd >= 0 && setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) == 0);
	CHECK(bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0);
	return fd;
}

/* The header passes through: the kernel completes a checksum and cuts a TSO packet. */
TEST(offload_headers)
{
	uint8_t f[12 + 3014] = { 0 }, buf[4096];
	struct net *n;
	int fd, got = 0, bytes = 0;

	lab();
	make_bridge();
	n = open_net("tap,br0");
	CHECK(n->vnet_hdr && n->offload & NET_TSO4);
	CHECK_EQ(net_set_offload(n, NET_CSUM | NET_TSO4 | NET_TSO6, 11), -EINVAL);
	CHECK_EQ(net_set_offload(n, NET_CSUM | NET_TSO4 | NET_TSO6, 12), 0);
	/*
	 * A packet socket with headers sees what the bridge got: still one packet, or already cut
	 * ones.
	 */
	fd = ip_packet_socket("br0");
	make_tso(f, 12, 3014, 1000);
	CHECK_EQ(send_frame(n, f, sizeof(f)), sizeof(f));
	while (bytes < 2960 && got < 4) {
		ssize_t len = take(fd, buf, sizeof(buf), 1000);

		CHECK(len > 10 + 54);
		bytes += len - 10 - 54;
		got++;
	}
	CHECK_EQ(bytes, 2960);
	net_close(n);
}

static uint16_t ones_sum(const uint8_t *p, size_t len, uint32_t sum)
{
	for (size_t i = 0; i < len; i++)
		sum += i & 1 ? p[i] : p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/*
 * One segment of make_tso's packet: headers, checksums, and the bytes from `at` on. Returns how
 * many.
 */
static size_t check_segment(const uint8_t *buf, size_t len, const uint8_t *sent, size_t at)
{
	const uint8_t *ip = buf + 10 + 14, *tcp = ip + 20;
	size_t l4 = len - 10 - 34;

	CHECK_EQ(buf[0], VIRTIO_NET_HDR_F_DATA_VALID);
	CHECK_EQ(buf[1], VIRTIO_NET_HDR_GSO_NONE);
	CHECK_EQ(ld_be16(ip + 2), len - 10 - 14);
	CHECK_EQ(ones_sum(ip, 20, 0), 0xffff);
	CHECK_EQ(ones_sum(tcp, l4, ones_sum(ip + 12, 8, 6 + l4)), 0xffff);
	CHECK_EQ(ld_be32(tcp + 4), at);
	CHECK(!memcmp(tcp + 20, sent + 10 + 54 + at, l4 - 20));
	return l4 - 20;
}

/*
 * Takes segments while events tell of them; the card stops after each `most`, as one without
 * buffers does.
 */
static size_t cut_got, cut_most, cut_calls;
static const uint8_t *cut_sent;

static void on_segments(void *ctx, unsigned q)
{
	uint8_t buf[10 + 1514], rest[600];

	cut_calls++;
	for (size_t i = 0; i < cut_most; i++) {
		/* The card's buffer is in two pieces. */
		struct iovec iov[2] = { { buf, 1000 }, { rest, sizeof(buf) - 1000 } };
		ssize_t len = net_recv(ctx, q, iov, 2);

		if (len < 0) {
			CHECK_EQ(len, -EAGAIN);
			return;
		}
		memcpy(buf + 1000, rest, sizeof(buf) - 1000);
		if (len > 10 + 54 && ld_be16(buf + 10 + 12) == 0x800)
			cut_got += check_segment(buf, len, cut_sent, cut_got);
	}
	if (cut_calls % 2) {			/* no buffers: asks again later */
		net_poll(ctx, q, false, false);
		net_poll(ctx, q, true, false);
	}
}

/*
 * A card without large receive: the kernel's big packet arrives whole and is cut here, in pieces
 * the card has room for.
 */
TEST(large_packets_are_cut)
{
	static uint8_t f[10 + 60000];
	struct net_stats stats;
	struct net *n;
	int fd;

	lab();
	/*
	 * No multicast of the kernel's own: a packet that waits behind the segments would keep the
	 * descriptor readable.
	 */
	shell("for f in all default; do echo 1 >/proc/sys/net/ipv6/conf/$f/disable_ipv6; done "
	      "2>/dev/null; true");
	make_bridge();
	n = open_net("tap,br0");
	net_attach(n, loop, on_segments, on_writable, on_link, n);
	CHECK_EQ(net_set_offload(n, NET_CUT, 10), 0);
	fd = ip_packet_socket("br0");
	make_tso(f, 10, sizeof(f) - 10, 1448);
	for (size_t i = 10 + 54; i < sizeof(f); i++)
		f[i] = i * 7 + (i >> 8);
	cut_sent = f;
	net_poll(n, 0, true, false);
	for (cut_most = 1; cut_most < 100; cut_most *= 6) {
		cut_got = 0;
		CHECK_EQ(write(fd, f, sizeof(f)), sizeof(f));
		for (int i = 0; i < 300 && cut_got < sizeof(f) - 64; i++)
			loop_once(loop, 20);
		CHECK_EQ(cut_got, sizeof(f) - 64);
	}
	net_get_stats(n, &stats);
	CHECK(stats.rx_packets >= 3 * 42);
	/* One that is left half taken does not outlive the cable. */
	cut_most = 1;
	cut_got = 0;
	CHECK_EQ(write(fd, f, sizeof(f)), sizeof(f));
	for (int i = 0; i < 50 && !cut_got; i++)
		loop_once(loop, 20);
	CHECK_EQ(cut_got, 1448);
	net_set_link(n, false);
	for (int i = 0; i < 3; i++)
		loop_once(loop, 10);
	net_set_link(n, true);
	net_poll(n, 0, true, false);
	for (int i = 0; i < 3; i++)
		loop_once(loop, 10);
	CHECK_EQ(cut_got, 1448);
	close(fd);
	net_close(n);
}

TEST(link_down_and_up)
{
	uint8_t f[60], buf[256];
	struct net *n;
	int fd;

	lab();
	make_bridge();
	n = open_net("tap,br0");
	fd = packet_socket("br0");
	make_frame(f, sizeof(f), 1);
	net_set_link(n, false);
	CHECK_EQ(link_now, 0);
	CHECK(have("ip -o link show tap0 | grep -q NO-CARRIER"));
	CHECK_EQ(send_frame(n, f, sizeof(f)), 60);
	CHECK_EQ(take(fd, buf, sizeof(buf), 100), -1);
	(void)!write(fd, f, sizeof(f));
	net_set_link(n, true);
	CHECK_EQ(link_now, 1);
	/* The bridge notices the carrier asynchronously. */
	for (int i = 0; i < 100 && !have("ip -o link show tap0 | grep -q 'state UP'"); i++)
		usleep(20000);
	f[20] = 77;
	CHECK_EQ(write(fd, f, sizeof(f)), 60);
	CHECK_EQ(recv_frame(n, buf, sizeof(buf), 0), 60);
	CHECK_EQ(buf[20], 77);
	net_close(n);
}

TEST(long_packets_and_many_pieces)
{
	uint8_t f[2000], buf[3000];
	struct iovec iov[1026];
	struct net *n;
	int fd;

	lab();
	make_bridge();
	n = open_net("tap,br0");
	fd = packet_socket("br0");
	make_frame(f, 1400, 3);
	CHECK_EQ(write(fd, f, 1400), 1400);
	CHECK_EQ(recv_frame(n, buf, 500, 0), -EMSGSIZE);
	CHECK_EQ(write(fd, f, 500), 500);
	CHECK_EQ(recv_frame(n, buf, 500, 0), 500);
	/* More pieces than one writev takes. */
	for (int i = 0; i < 1026; i++)
		iov[i] = (struct iovec){ f + i, 1 };
	CHECK_EQ(net_send(n, 0, iov, 1026), 1026);
	CHECK_EQ(take(fd, buf, sizeof(buf), 1000), 1026);
	CHECK(!memcmp(f, buf, 1026));
	CHECK_EQ(send_frame(n, f, 13), -EMSGSIZE);
	net_close(n);
}

TEST(interface_removed_under_us)
{
	struct net *n;
	struct timespec t0, t1;

	lab();
	make_bridge();
	n = open_net("tap,br0");
	net_poll(n, 0, true, false);
	shell("ip link del tap0");
	for (int i = 0; i < 200 && link_now != 0; i++) {
		loop_once(loop, 10);
		net_poll(n, 0, true, false);
	}
	CHECK_EQ(link_now, 0);
	/* And then silence, not a spinning loop. */
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t0);
	for (int i = 0; i < 10; i++)
		loop_once(loop, 20);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t1);
	CHECK(t1.tv_sec == t0.tv_sec && t1.tv_nsec - t0.tv_nsec < 50000000);
	net_set_link(n, true);
	CHECK(!n->link_up);
	net_close(n);
}

TEST(passed_descriptor)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	char spec[32], info[128];
	struct net *n;
	int fd;

	lab();
	fd = open("/dev/net/tun", O_RDWR);
	CHECK(ioctl(fd, TUNSETIFF, &ifr) == 0);
	snprintf(spec, sizeof(spec), "tap,fd=%d", fd);
	n = open_net(spec);
	net_info(n, info, sizeof(info));
	CHECK(strstr(info, "vnet_hdr=off"));
	/* Without headers of its own software stands in. */
	CHECK(!n->vnet_hdr && n->offload & NET_TSO4);
	CHECK_EQ(net_set_offload(n, NET_CSUM, 12), 0);
	net_close(n);
	open_fails("tap,fd=0", &host_direct, "no TAP device", "0");
	open_fails("tap,fd=x", &host_direct, "descriptor numbers", "x");
}

TEST(scripts)
{
	char dir[] = "/tmp/minivmm-test-XXXXXX", cmd[300], spec[200];
	struct net *n;

	lab();
	CHECK(mkdtemp(dir));
	snprintf(cmd, sizeof(cmd),
		 "printf '#!/bin/sh\\nip link set $1 up; echo $1 >>%s/log\\n' >%s/up; chmod +x "
		 "%s/up",
		 dir, dir, dir);
	shell(cmd);
	snprintf(spec, sizeof(spec), "tap,ifname=vm3,script=%s/up,downscript=%s/up", dir, dir);
	n = open_net(spec);
	CHECK(have("ip -o link show vm3 | grep -q ',UP'"));
	net_close(n);
	snprintf(cmd, sizeof(cmd), "test \"$(cat %s/log)\" = \"$(printf 'vm3\\nvm3')\"", dir);
	CHECK(have(cmd));
	open_fails("tap,script=/nonexistent/up", &host_direct, "/nonexistent/up", "");
	open_fails("tap,script=/bin/false", &host_direct, "/bin/false", "status 1");
	snprintf(cmd, sizeof(cmd), "rm -r %s", dir);
	shell(cmd);
}

TAP_MAIN
