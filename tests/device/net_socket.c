/* SPDX-License-Identifier: GPL-2.0-or-later */
/* net_socket.c: two VMs' socket backends talk to each other; a hostile peer talks to one. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "net/backend.h"
#include "tests/tap.h"

static struct loop *loop;
static uint8_t big[NET_MAX_FRAME], got[NET_MAX_FRAME];

static struct net *open_net(const char *spec)
{
	struct err err = { 0 };
	struct net *n = net_open("net0", spec, loop, &host_direct, &err);

	if (!n)
		tap_fail(__FILE__, __LINE__, "%s", err.msg);
	net_attach(n, loop, NULL, NULL, (void (*)(void *, bool))abort, n);
	n->link = NULL;
	return n;
}

static void open_fails(const char *spec, const char *words)
{
	struct err err = { 0 };

	CHECK(!net_open("net0", spec, loop, &host_direct, &err));
	if (!strstr(err.msg, words))
		tap_fail(__FILE__, __LINE__, "the message lacks \"%s\": %s", words, err.msg);
}

static ssize_t recv_soon(struct net *n)
{
	struct iovec iov = { got, sizeof(got) };
	ssize_t len = -EAGAIN;

	for (int i = 0; i < 200 && len == -EAGAIN; i++) {
		len = net_recv(n, 0, &iov, 1);
		if (len == -EAGAIN)
			usleep(1000);
	}
	return len;
}

static ssize_t send_one(struct net *n, size_t len, uint8_t fill)
{
	struct iovec iov[2] = { { big, 100 }, { big + 100, len - 100 } };

	memset(big, fill, len);
	return net_send(n, 0, iov, 2);
}

static void both_ways(struct net *a, struct net *b, size_t len)
{
	for (unsigned i = 1; i < 4; i++) {
		CHECK_EQ(send_one(a, len, i), len);
		CHECK_EQ(recv_soon(b), len);
		CHECK(got[0] == i && got[len - 1] == i);
		CHECK_EQ(send_one(b, len, i + 100), len);
		CHECK_EQ(recv_soon(a), len);
		CHECK(got[0] == i + 100 && got[len - 1] == i + 100);
	}
}

static void connected_pair(struct net **a, struct net **b)
{
	*a = open_net("socket,listen=unix:/tmp/minivmm-test-net.sock");
	CHECK_EQ(send_one(*a, 200, 1), -ENOTCONN);
	*b = open_net("socket,connect=unix:/tmp/minivmm-test-net.sock");
	CHECK_EQ(recv_soon(*a), -EAGAIN);	/* accepts */
}

TEST(stream_unix)
{
	struct net *a, *b;

	loop = loop_new("test");
	connected_pair(&a, &b);
	both_ways(a, b, 1514);
	both_ways(a, b, 60000);
	net_close(b);
	/* Another peer may come. */
	CHECK_EQ(recv_soon(a), -EAGAIN);
	b = open_net("socket,connect=unix:/tmp/minivmm-test-net.sock");
	CHECK_EQ(recv_soon(a), -EAGAIN);
	both_ways(a, b, 300);
	net_close(a);
	CHECK(access("/tmp/minivmm-test-net.sock", F_OK) < 0);
	/* The connecting side loses its only peer: its link goes down. */
	for (int i = 0; i < 100 && b->link_up; i++)
		recv_soon(b);
	CHECK(!b->link_up);
	net_close(b);
}

/* More than the socket's buffer: -EAGAIN, then the rest goes out by itself and no frame is torn. */
TEST(stream_backpressure)
{
	struct net *a, *b;
	unsigned sent = 0, seen = 0;

	loop = loop_new("test");
	connected_pair(&a, &b);
	for (int round = 0; round < 40; round++) {
		while (sent < 2000 && send_one(b, 9000 + sent % 1000, sent) >= 0)
			sent++;
		for (;;) {
			struct iovec iov = { got, sizeof(got) };
			ssize_t len = net_recv(a, 0, &iov, 1);

			loop_once(loop, 0);
			if (len == -EAGAIN)
				break;
			CHECK_EQ(len, 9000 + seen % 1000);
			CHECK(got[0] == (uint8_t)seen && got[len - 1] == (uint8_t)seen);
			seen++;
		}
	}
	CHECK(sent > 40);
	CHECK_EQ(seen, sent);
	net_close(a);
	net_close(b);
}

TEST(stream_hostile_peer)
{
	static const uint8_t huge[] = { 0x7f, 0xff, 0xff, 0xff, 1, 2, 3 }, empty[4];
	struct sockaddr_un sa = { .sun_family = AF_UNIX, .sun_path = "/tmp/minivmm-test-net.sock" };
	struct net *a;

	loop = loop_new("test");
	a = open_net("socket,listen=unix:/tmp/minivmm-test-net.sock");
	for (int i = 0; i < 2; i++) {
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);
		char c;

		CHECK(connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0);
		CHECK(i ? write(fd, empty, 4) == 4 : write(fd, huge, 7) == 7);
		for (int k = 0; k < 10; k++)
			recv_soon(a);
		CHECK(read(fd, &c, 1) <= 0);		/* it hung up on us */
		close(fd);
	}
	CHECK(a->link_up);
	net_close(a);
}

TEST(tcp_udp_and_multicast)
{
	struct net *a, *b, *c;

	loop = loop_new("test");
	if (unshare(CLONE_NEWNET) == 0)
		CHECK(system("ip link set lo up multicast on && ip route add 224.0.0.0/4 dev lo") ==
		      0);
	a = open_net("socket,listen=127.0.0.1:7345");
	b = open_net("socket,connect=127.0.0.1:7345");
	CHECK_EQ(recv_soon(a), -EAGAIN);
	both_ways(a, b, 1514);
	net_close(a);
	net_close(b);
	a = open_net("socket,udp=127.0.0.1:7346,localaddr=127.0.0.1:7347");
	b = open_net("socket,udp=127.0.0.1:7347,localaddr=127.0.0.1:7346");
	both_ways(a, b, 1514);
	net_close(a);
	net_close(b);
	a = open_net("socket,mcast=230.0.0.1:7348,localaddr=127.0.0.1");
	b = open_net("socket,mcast=230.0.0.1:7348,localaddr=127.0.0.1");
	c = open_net("socket,mcast=230.0.0.1:7348,localaddr=127.0.0.1");
	CHECK_EQ(send_one(a, 500, 42), 500);
	CHECK_EQ(recv_soon(b), 500);
	CHECK_EQ(recv_soon(c), 500);
	CHECK_EQ(recv_soon(a), -EAGAIN);		/* not its own */
	net_close(a);
	net_close(b);
	net_close(c);
}

/* Anybody who reaches the port can send them: they are nothing, and no reason to pull the cable. */
TEST(empty_datagrams)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(7350),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct net *a, *b;
	int fd;

	loop = loop_new("test");
	if (unshare(CLONE_NEWNET) == 0)
		CHECK(system("ip link set lo up") == 0);
	a = open_net("socket,udp=127.0.0.1:7349,localaddr=127.0.0.1:7350");
	b = open_net("socket,udp=127.0.0.1:7350,localaddr=127.0.0.1:7349");
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	for (int i = 0; i < 200; i++) {
		struct iovec iov = { got, sizeof(got) };

		CHECK(sendto(fd, "", 0, 0, (struct sockaddr *)&to, sizeof(to)) == 0);
		CHECK_EQ(net_recv(a, 0, &iov, 1), -EAGAIN);
	}
	CHECK(a->link_up);
	both_ways(a, b, 1514);
	/* However many wait: one look takes a few of them. */
	for (int i = 0; i < 100; i++)
		CHECK(sendto(fd, "", 0, 0, (struct sockaddr *)&to, sizeof(to)) == 0);
	CHECK_EQ(send_one(b, 600, 1), 600);
	CHECK_EQ(net_recv(a, 0, &(struct iovec){ got, sizeof(got) }, 1), -EAGAIN);
	for (int i = 0; i < 20 && a->link_up; i++)
		if (net_recv(a, 0, &(struct iovec){ got, sizeof(got) }, 1) == 600)
			goto arrived;
	tap_fail(__FILE__, __LINE__, "the frame behind them is lost");
arrived:
	close(fd);
	net_close(a);
	net_close(b);
}

TEST(bad_options)
{
	loop = loop_new("test");
	open_fails("socket", "exactly one");
	open_fails("socket,listen=:1,connect=:2", "exactly one");
	open_fails("socket,connect=127.0.0.1:1", "refused");
	open_fails("socket,connect=unix:/nonexistent", "No such file");
	open_fails("socket,mcast=10.0.0.1:5", "multicast address");
	open_fails("socket,udp=127.0.0.1:5", "localaddr");
	open_fails("socket,fd=0,x=1", "unknown option \"x\"");
	open_fails("socket,fd=999", "no socket");
}

TAP_MAIN
