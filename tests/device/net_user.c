/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * net_user.c: user networking against a real TCP/IP stack: this kernel's, in a network namespace
 * behind a TAP, plays the guest (busybox udhcpc asks for its address), and a server in the outer
 * namespace plays the world.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <sys/resource.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <time.h>

#include "net/net.h"
#include "tests/tap.h"

#define FRAME (65550 + 12)

static struct loop *loop;
static uint8_t frame[FRAME];
static struct net *user, *tap;

static struct net *open_net(const char *spec)
{
	struct err err = { 0 };
	struct net *n = net_open("net0", spec, loop, &host_direct, &err);

	if (!n && strstr(err.msg, "has no minivmm-net-user.so"))
		SKIP("the module net-user is not built");
	if (!n)
		tap_fail(__FILE__, __LINE__, "%s", err.msg);
	return n;
}

static void open_fails(const char *spec, const char *words)
{
	struct err err = { 0 };
	struct net *n = net_open("net0", spec, loop, &host_direct, &err);

	CHECK(!n);
	if (!strstr(err.msg, words))
		tap_fail(__FILE__, __LINE__, "the message lacks \"%s\": %s", words, err.msg);
}

/*
 * One direction of the wire between the two backends; a frame the other side has no room for waits
 * in the buffer.
 */
struct pipe { struct net **from, **to; uint8_t buf[FRAME]; ssize_t len; };
static struct pipe out_pipe = { &tap, &user, { 0 }, 0 }, in_pipe = { &user, &tap, { 0 }, 0 };

static void pump(struct pipe *p)
{
	for (;;) {
		struct iovec iov = { p->buf, sizeof(p->buf) };

		if (!p->len) {
			p->len = net_recv(*p->from, 0, &iov, 1);
			if (p->len < 0) {
				p->len = 0;
				break;
			}
		}
		iov.iov_len = p->len;
		if (net_send(*p->to, 0, &iov, 1) == -EAGAIN) {
			net_poll(*p->from, 0, false, false);
			net_poll(*p->to, 0, true, true);
			return;
		}
		p->len = 0;
	}
	net_poll(*p->from, 0, true, false);
}
static void readable(void *ctx, unsigned q) { pump(ctx); }
static void user_room(void *ctx, unsigned q) { pump(&out_pipe); }
static void tap_room(void *ctx, unsigned q) { pump(&in_pipe); }

static void setup(const char *spec)
{
	if (getuid() != 0)
		SKIP("needs root for a network namespace and a TAP");
	setenv("MINIVMM_LIBDIR", "build", 0);
	loop = loop_new("test");
	user = open_net(spec);
	if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0)
		SKIP("no network namespace");
	CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	      mount("sysfs", "/sys", "sysfs", 0, NULL) == 0);
	CHECK(system("ip link set lo up") == 0);
	tap = open_net("tap,ifname=eth0");
	CHECK_EQ(net_set_offload(tap, NET_CSUM | NET_TSO4 | NET_TSO6, 12), 0);
	CHECK_EQ(net_set_offload(user, NET_CSUM | NET_TSO4 | NET_TSO6, 12), 0);
	net_attach(tap, loop, readable, tap_room, NULL, &out_pipe);
	net_attach(user, loop, readable, user_room, NULL, &in_pipe);
	loop_lock(loop);
	net_poll(tap, 0, true, false);
	net_poll(user, 0, true, false);
	loop_unlock(loop);
	CHECK_EQ(loop_thread_start(loop), 0);
}

static void teardown(void)
{
	loop_thread_join(loop);
	net_close(user);
	net_close(tap);
	loop_free(loop);
}

static void dhcp(void)
{
	CHECK(system("printf '#!/bin/sh\\ntest $1 = bound && ip addr add $ip/$mask dev $interface "
		     "&& "
		     "ip route add default via $router && echo $dns >/tmp/minivmm-dns.'$$'\\nexit "
		     "0\\n' >/tmp/minivmm-udhcpc.$$ && "
		     "chmod +x /tmp/minivmm-udhcpc.$$ && "
		     "busybox udhcpc -q -n -t 10 -i eth0 -s /tmp/minivmm-udhcpc.$$ >/dev/null "
		     "2>&1; "
		     "r=$?; rm -f /tmp/minivmm-udhcpc.$$ /tmp/minivmm-dns.*; exit $r") == 0);
}

/* --- a server in the outer namespace: a socket belongs to the namespace it was made in --- */
static int server_socket(uint16_t *port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0 && listen(fd, 5) == 0);
	CHECK(getsockname(fd, (struct sockaddr *)&sa, &len) == 0);
	*port = ntohs(sa.sin_port);
	return fd;
}

static int connect_to(const char *addr, uint16_t port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	inet_pton(AF_INET, addr, &sa.sin_addr);
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		tap_fail(__FILE__, __LINE__, "connect to %s:%u: %s", addr, port, strerror(errno));
	return fd;
}

#define AMOUNT (8 << 20)
static uint8_t pattern(size_t i) { return i * 7 + (i >> 8) * 13 + (i >> 16); }

static void *writer(void *arg)
{
	static uint8_t buf[1 << 16];
	int fd = *(int *)arg;

	for (size_t at = 0; at < AMOUNT; at += sizeof(buf)) {
		for (size_t i = 0; i < sizeof(buf); i++)
			buf[i] = pattern(at + i);
		if (write_full(fd, buf, sizeof(buf)) < 0)
			break;
	}
	shutdown(fd, SHUT_WR);
	return NULL;
}

/* Every byte arrives, in order, once. */
static void transfer(int from, int to)
{
	static uint8_t buf[1 << 16];
	pthread_t t;
	size_t at = 0;
	ssize_t n;

	pthread_create(&t, NULL, writer, &from);
	while ((n = read(to, buf, sizeof(buf))) > 0)
		for (ssize_t i = 0; i < n; i++, at++)
			if (buf[i] != pattern(at))
				tap_fail(__FILE__, __LINE__, "byte %zu differs", at);
	CHECK_EQ(n, 0);
	CHECK_EQ(at, AMOUNT);
	pthread_join(t, NULL);
}

TEST(dhcp_then_a_megabyte_each_way)
{
	struct timespec t0, t1;
	char spec[64];
	uint16_t port;
	int srv, guest, world;

	srv = server_socket(&port);
	snprintf(spec, sizeof(spec), "user,loopback=7:%u", port);
	setup(spec);
	dhcp();
	CHECK(system("ip -o -4 addr show eth0 | grep -q '10.0.2.15/24'") == 0);
	guest = connect_to("10.0.2.2", port);
	world = accept(srv, NULL, NULL);
	CHECK(world >= 0);
	clock_gettime(CLOCK_MONOTONIC, &t0);
	transfer(guest, world);
	clock_gettime(CLOCK_MONOTONIC, &t1);
	printf("# out %.0f MB/s\n",
	       AMOUNT / 1e6 / (t1.tv_sec - t0.tv_sec + (t1.tv_nsec - t0.tv_nsec) / 1e9));
	transfer(world, guest);
	clock_gettime(CLOCK_MONOTONIC, &t0);
	printf("# in %.0f MB/s\n",
	       AMOUNT / 1e6 / (t0.tv_sec - t1.tv_sec + (t0.tv_nsec - t1.tv_nsec) / 1e9));
	teardown();
}

/*
 * The forwarding socket is opened before the namespace changes, as the connecting one must be made.
 */
TEST(hostfwd_and_other_addresses)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int outer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), srv, guest, on = 1;
	uint16_t port, inner = 2222;
	char spec[128];
	int probe = server_socket(&port);

	close(probe);
	snprintf(spec, sizeof(spec),
		 "user,net=192.168.77.0/24,dhcpstart=192.168.77.40,hostfwd=tcp:127.0.0.1:%u-:2222",
		 port);
	setup(spec);
	dhcp();
	CHECK(system("ip -o -4 addr show eth0 | grep -q '192.168.77.40/24'") == 0);
	srv = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(srv, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	CHECK(bind(srv,
		   (struct sockaddr *)&(struct sockaddr_in){ .sin_family = AF_INET,
							     .sin_port = htons(inner) },
		   sizeof(sa)) == 0);
	CHECK(listen(srv, 1) == 0);
	sa.sin_port = htons(port);
	CHECK(connect(outer, (struct sockaddr *)&sa, sizeof(sa)) == 0);
	guest = accept(srv, NULL, NULL);
	CHECK(guest >= 0);
	transfer(outer, guest);
	transfer(guest, outer);
	teardown();
}

static int refused(const char *addr, uint16_t port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), ret;

	inet_pton(AF_INET, addr, &sa.sin_addr);
	ret = connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ? errno : 0;
	close(fd);
	return ret;
}

/* The host's services are not the guest's, by whichever address; and it is told at once. */
TEST(the_hosts_loopback_is_closed)
{
	uint16_t port;

	server_socket(&port);
	setup("user");
	dhcp();
	CHECK_EQ(refused("10.0.2.2", port), ECONNREFUSED);
	CHECK(refused("10.0.2.99", port) != 0);	/* nobody answers there to ARP */
	teardown();
}

/* What controls this machine is closed also where the loopback is open. */
TEST(the_machines_own_ports_are_closed)
{
	struct host_path own;
	struct err err = { "" };
	uint16_t port, ours;
	struct sockaddr_in sa;
	socklen_t len = sizeof(sa);
	int fd = host_listen(&host_direct, "test", "tcp:127.0.0.1:0", &own, &err);

	CHECK(fd >= 0 && getsockname(fd, (struct sockaddr *)&sa, &len) == 0);
	ours = ntohs(sa.sin_port);
	server_socket(&port);
	setup("user,loopback=on");
	dhcp();
	CHECK_EQ(refused("10.0.2.2", port), 0);
	CHECK_EQ(refused("10.0.2.2", ours), ECONNREFUSED);
	teardown();
}

TEST(restrict_keeps_the_guest_in)
{
	struct sockaddr_in sa = { .sin_family = AF_INET };
	struct pollfd p;
	uint16_t port;
	int fd;

	server_socket(&port);
	setup("user,restrict=on");
	dhcp();
	if (system("ip route add default via 10.0.2.2 2>/dev/null"))
		printf("# there is a default route already\n");
	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	sa.sin_port = htons(port);
	inet_pton(AF_INET, "10.0.2.2", &sa.sin_addr);
	CHECK(connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0 || errno == EINPROGRESS);
	p = (struct pollfd){ fd, POLLOUT, 0 };
	if (poll(&p, 1, 1500) == 1) {
		int e = 0;
		socklen_t len = sizeof(e);

		getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len);
		CHECK(e != 0);
	}
	teardown();
}

TEST(tftp_serves_a_folder)
{
	char dir[] = "/tmp/minivmm-tftp-XXXXXX", cmd[300], spec[100];

	CHECK(mkdtemp(dir));
	snprintf(cmd, sizeof(cmd), "head -c 300000 /dev/urandom >%s/boot.img && chmod 755 %s", dir,
		 dir);
	CHECK(system(cmd) == 0);
	snprintf(spec, sizeof(spec), "user,tftp=%s,bootfile=boot.img", dir);
	setup(spec);
	dhcp();
	snprintf(cmd, sizeof(cmd),
		 "cd %s && busybox tftp -g -r boot.img -l got.img 10.0.2.2 >/dev/null 2>&1 && cmp "
		 "boot.img got.img",
		 dir);
	CHECK(system(cmd) == 0);
	snprintf(cmd, sizeof(cmd), "rm -r %s", dir);
	CHECK(system(cmd) == 0);
	teardown();
}

static unsigned open_fds(void)
{
	unsigned n = 0;
	DIR *d = opendir("/proc/self/fd");

	while (d && readdir(d))
		n++;
	closedir(d);
	return n;
}

TEST(bad_options)
{
	char spec[64];
	uint16_t port;

	setenv("MINIVMM_LIBDIR", "build", 0);
	loop = loop_new("test");
	net_close(open_net("user"));
	open_fails("user,net=10.0.2", "no IPv4 network");
	open_fails("user,net=10.0.2.0/31", "8 to 30");
	open_fails("user,net=10.0.2.0/255.0.255.0", "mask");
	open_fails("user,host=10.9.9.9", "outside");
	open_fails("user,dns=10.0.2.2", "different");
	open_fails("user,hostfwd=tcp:2222", "expected tcp:");
	open_fails("user,hostfwd=tcp::99999-:22", "expected tcp:");
	open_fails("user,restrict=maybe", "on or off");
	open_fails("user,loopback=99999", "from 1 to 65535");
	open_fails("user,loopback=80:x", "from 1 to 65535");
	open_fails("user,tftp=/nonexistent", "No such file");
	open_fails("user,guestfwd=tcp:10.0.2.100:80-chardev", "expected tcp:");
	open_fails("user,smb=/x", "unknown option \"smb\"");
	open_fails("user,ipv4=off,ipv6=off", "nothing");
	server_socket(&port);
	snprintf(spec, sizeof(spec), "user,hostfwd=tcp:127.0.0.1:%u-:22", port);
	open_fails(spec, "in use");
}

/* What a hostile guest sends must leave the stack standing: it answers DHCP afterwards. */
/* How often the backend's thread has slept so far. */
static long thread_sleeps(void)
{
	char cmd[200];
	long n = -1;
	FILE *f;

	snprintf(cmd, sizeof(cmd),
		 "cat $(dirname $(grep -lx net-user /proc/%d/task/*/comm))/status | awk "
		 "'/^voluntary/ { print $2 }'",
		 getpid());
	f = popen(cmd, "r");
	CHECK(f && fscanf(f, "%ld", &n) == 1);
	pclose(f);
	return n;
}

TEST(an_idle_network_sleeps)
{
	struct net *n;
	long before;

	setenv("MINIVMM_LIBDIR", "build", 0);
	loop = loop_new("test");
	n = open_net("user");
	usleep(100000);
	before = thread_sleeps();
	usleep(2500000);
	CHECK(thread_sleeps() - before <= 1);
	net_close(n);
}

/* A flow is a descriptor, and a guest begins as many as it likes: not the last ones. */
TEST(flows_have_an_end)
{
	struct rlimit rl = { 300, 300 };
	struct net *n;
	int fd;

	CHECK(setrlimit(RLIMIT_NOFILE, &rl) == 0);
	setenv("MINIVMM_LIBDIR", "build", 0);
	loop = loop_new("test");
	n = open_net("user,loopback=on");
	for (unsigned port = 1; port <= 1000; port++) {
		uint8_t f[60] = { 0x52, 0x55, 10, 0, 2, 2, 0x52, 0x54, 0, 1, 2, 3, 8, 0, 0x45 };
		struct iovec iov = { f, sizeof(f) };
		uint32_t sum = 0;

		st_be16(f + 16, 46);
		f[22] = 64;
		f[23] = IPPROTO_UDP;
		st_be32(f + 26, 0x0a00020f);
		st_be32(f + 30, 0x0a000202);
		for (unsigned i = 14; i < 34; i += 2)
			sum += ld_be16(f + i);
		st_be16(f + 24, ~((sum & 0xffff) + (sum >> 16)));
		st_be16(f + 34, port);
		st_be16(f + 36, 9);
		st_be16(f + 38, 26);
		while (net_send(n, 0, &iov, 1) == -EAGAIN)
			usleep(1000);
	}
	/* Its thread may still be at it; a moment more only makes the test stricter. */
	for (int i = 0; i < 20000 && open_fds() < 140; i++)
		usleep(1000);
	usleep(50000);
	CHECK(open_fds() > 100 && open_fds() < 250);
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0);
	close(fd);
	net_close(n);
}

TEST(noise_first)
{
	struct iovec iov = { frame, 0 };
	unsigned seed = 1;

	setup("user");
	loop_lock(loop);
	for (int i = 0; i < 20000; i++) {
		iov.iov_len = 12 + 14 + rand_r(&seed) % 1600;
		for (size_t k = 0; k < iov.iov_len; k++)
			frame[k] = rand_r(&seed) >> 7;
		if (i % 4)
			memset(frame, 0, 12);
		st_be16(frame + 12 + 12, (const uint16_t[]){ 0x800, 0x806, 0x86dd, 0x8100 }[i % 4]);
		frame[12 + 14] = i % 3 ? 0x45 : frame[26];
		net_send(user, 0, &iov, 1);
	}
	loop_unlock(loop);
	usleep(200000);
	dhcp();
	teardown();
}

TAP_MAIN
