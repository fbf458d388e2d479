/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mod_net-user.c: a network for those without rights: NAT, DHCP, DNS, TFTP and forwarded ports by
 * libslirp. A module, loaded when -net user asks for it.
 *
 * libslirp runs on a thread of its own with poll(), so that neither its lookups nor a thousand
 * connections hold a loop. Frames cross by a SOCK_SEQPACKET pair; "guest" is the NIC's end, "stack"
 * the thread's. Who calls libslirp holds the lock; the thread lets go of it while it sleeps.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <slirp/libslirp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/backend.h"
#include "net/user_filter.h"
#include "vmm/base/fds.h"
#include "vmm/base/host.h"
#include "vmm/base/log.h"

#define SLIRP_IDLE_MS 1000
#define USER_KNOWN                                                                                 \
	"net=, host=, dhcpstart=, dns=, restrict=, hostname=, domainname=, dnssearch=, hostfwd=, " \
	"guestfwd=, "                                                                              \
	"loopback=, ipv4=, ipv6=, ipv6-net=, ipv6-host=, ipv6-dns=, tftp=, bootfile=, "            \
	"tftp-server-name="
/* frames taken from the guest before the sockets get their turn */
#define BATCH 64
#define SEARCH_MAX 16
#define SOCKET_BUFFER (4 << 20)
/* a guest that takes nothing for so long loses the frame; TCP sends it again */
#define FULL_WAIT_MS 20

struct user_timer {
	SlirpTimerId id;
	void *cb_opaque;
	int64_t at_ms;			/* -1: not armed */
	struct user_timer *next;
};

struct user {
	Slirp *slirp;
	pthread_mutex_t lock;		/* of all calls of libslirp */
	pthread_t thread;
	bool running, ending;		/* ending: under the lock */
	int guest, stack, wake;		/* wake: an eventfd, look again */
	struct in_addr first_guest;	/* whom a forwarded port without an address is for */
	struct pollfd *poll;
	unsigned npoll, poll_max;
	struct user_timer *timers;
	uint8_t *frame;
	char *summary;
	const char *id;
	int fd_end;			/* descriptors from here on are not for the guest */
	struct user_filter filter;
};

/* --- what libslirp asks of its host; on the thread --- */

static ssize_t slirp_out(const void *buf, size_t len, void *opaque)
{
	struct user *u = opaque;

	user_filter_in(&u->filter, buf, len);
	for (int tries = 0; tries < 2; tries++) {
		struct pollfd p = { u->stack, POLLOUT, 0 };
		ssize_t n = send(u->stack, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n >= 0 || errno != EAGAIN)
			return n;
		poll(&p, 1, FULL_WAIT_MS);
	}
	return len;			/* dropped, as a wire would */
}

static void slirp_guest_error(const char *msg, void *opaque)
{
	struct user *u = opaque;

	log_guest("%s: %s", u->id, msg);
}

static int64_t slirp_clock(void *opaque)
{
	return now_ns();
}

static void *slirp_timer_new(SlirpTimerId id, void *cb_opaque, void *opaque)
{
	struct user *u = opaque;
	struct user_timer *t = xcalloc(1, sizeof(*t));

	t->id = id;
	t->cb_opaque = cb_opaque;
	t->at_ms = -1;
	t->next = u->timers;
	u->timers = t;
	return t;
}

static void slirp_timer_free(void *timer, void *opaque)
{
	struct user *u = opaque;

	for (struct user_timer **p = &u->timers; *p; p = &(*p)->next) {
		if (*p == timer) {
			*p = (*p)->next;
			free(timer);
			return;
		}
	}
}

static void slirp_timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
	((struct user_timer *)timer)->at_ms = expire_ms;
}

static void slirp_fd_ignored(int fd, void *opaque)
{
	/* slirp_pollfds_fill names them all each time round. */
}

static void slirp_notify(void *opaque)
{
	/* Called on the thread, which fills its list anew before it sleeps. */
}

static const SlirpCb callbacks = {
	.send_packet = slirp_out,
	.guest_error = slirp_guest_error,
	.clock_get_ns = slirp_clock,
	.timer_new_opaque = slirp_timer_new,
	.timer_free = slirp_timer_free,
	.timer_mod = slirp_timer_mod,
	.register_poll_fd = slirp_fd_ignored,
	.unregister_poll_fd = slirp_fd_ignored,
	.notify = slirp_notify,
};

static int poll_add(int fd, int events, void *opaque)
{
	struct user *u = opaque;

	if (u->npoll == u->poll_max) {
		u->poll_max = u->poll_max ? u->poll_max * 2 : 16;
		u->poll = xrealloc(u->poll, u->poll_max * sizeof(*u->poll));
	}
	u->poll[u->npoll] = (struct pollfd){ .fd = fd,
					     .events = (events & SLIRP_POLL_IN ? POLLIN : 0) |
						       (events & SLIRP_POLL_OUT ? POLLOUT : 0) |
						       (events & SLIRP_POLL_PRI ? POLLPRI : 0) };
	return u->npoll++;
}

static int poll_result(int index, void *opaque)
{
	struct user *u = opaque;
	int r = u->poll[index].revents;

	return (r & POLLIN ? SLIRP_POLL_IN : 0) | (r & POLLOUT ? SLIRP_POLL_OUT : 0) |
	       (r & POLLPRI ? SLIRP_POLL_PRI : 0) |
	       (r & (POLLERR | POLLNVAL) ? SLIRP_POLL_ERR : 0) | (r & POLLHUP ? SLIRP_POLL_HUP : 0);
}

/* Runs timers that are due; the milliseconds until the next, at most `most`. */
static uint32_t run_timers(struct user *u, uint32_t most)
{
	int64_t now = now_ns() / NS_PER_MS;
	struct user_timer *t, *next;

	for (t = u->timers; t; t = next) {
		next = t->next;
		if (t->at_ms < 0)
			continue;
		if (t->at_ms <= now) {
			t->at_ms = -1;
			slirp_handle_timer(u->slirp, t->id, t->cb_opaque);
		} else if (t->at_ms - now < most) {
			most = t->at_ms - now;
		}
	}
	return most;
}

/*
 * Each flow of the guest is a descriptor here, as long as libslirp keeps it. When the last ones are
 * near, what may begin another one is dropped: TCP's SYN, all of UDP and ICMP.
 */
static bool is_short_of_fds(const struct user *u)
{
	int fd;

	if ((int)u->npoll < u->fd_end / 2)
		return false;
	fd = fcntl(u->wake, F_DUPFD_CLOEXEC, 3);
	if (fd >= 0)
		close(fd);
	return fd < 0 || fd >= u->fd_end;
}

static bool may_begin_flow(const uint8_t *frame, size_t len)
{
	unsigned type = len >= 54 ? ld_be16(frame + 12) : 0, l4 = 14, proto;

	if (type == 0x86dd) {
		proto = frame[20];
		l4 += 40;
	} else {
		proto = type == 0x800 ? frame[23] : 0;
		l4 += (frame[14] & 15) * 4;
	}
	if (proto == IPPROTO_TCP)	/* SYN without ACK */
		return len < l4 + 14 || (frame[l4 + 13] & 0x12) == 2;
	return proto;
}

static void guest_sent(struct user *u, const uint8_t *frame, size_t len, bool is_short)
{
	enum user_verdict v;
	unsigned port;

	if (is_short && may_begin_flow(frame, len)) {
		log_guest("%s: too many connections: a new one is dropped", u->id);
		return;
	}
	v = user_filter_out(&u->filter, frame, len, &port);
	if (port && host_listens_on(port))
		log_warn("%s: the guest wants port %u of this host's loopback, where this machine "
			 "is "
			 "controlled: that stays closed",
			 u->id, port);
	else if (port)
		log_warn("%s: the guest wants port %u of this host's loopback, which is closed to "
			 "it; "
			 "-net user,loopback=%u opens it",
			 u->id, port, port);
	if (v == USER_PASS) {
		slirp_input(u->slirp, frame, len);
	} else if (v == USER_REFUSE) {
		uint8_t reset[USER_RESET_MAX];

		slirp_out(reset, user_filter_reset(frame, reset), u);
	}
}

static void *user_thread(void *arg)
{
	struct user *u = arg;
	bool is_short = false;

	pthread_setname_np(pthread_self(), "net-user");
	pthread_mutex_lock(&u->lock);
	while (!u->ending) {
		uint32_t timeout = UINT32_MAX;
		uint64_t count;
		int ret;

		u->npoll = 0;
		poll_add(u->wake, SLIRP_POLL_IN, u);
		poll_add(u->stack, SLIRP_POLL_IN, u);
		slirp_pollfds_fill(u->slirp, &timeout, poll_add, u);
		/*
		 * What libslirp says when nothing it keeps will expire: then only a packet, or a
		 * timer, is worth waking for.
		 */
		if (timeout >= SLIRP_IDLE_MS)
			timeout = UINT32_MAX;
		timeout = run_timers(u, timeout);
		pthread_mutex_unlock(&u->lock);
		ret = poll(u->poll, u->npoll, timeout > INT32_MAX ? -1 : (int)timeout);
		pthread_mutex_lock(&u->lock);
		/* Somebody changed what is listened to: ask for it anew. */
		if (u->poll[0].revents && ret > 0 &&
		    read(u->wake, &count, sizeof(count)) == sizeof(count))
			continue;
		slirp_pollfds_poll(u->slirp, ret < 0, poll_result, u);
		for (int i = 0; i < BATCH; i++) {
			ssize_t len = recv(u->stack, u->frame, NET_MAX_FRAME, MSG_DONTWAIT);

			if (len <= 0)
				break;
			if (i == 0)
				is_short = is_short_of_fds(u);
			guest_sent(u, u->frame, len, is_short);
		}
	}
	pthread_mutex_unlock(&u->lock);
	return NULL;
}

static void user_wake(struct user *u)
{
	uint64_t one = 1;

	if (write(u->wake, &one, sizeof(one)) < 0)
		log_error("%s: eventfd: %s", u->id, strerror(errno));
}

/* --- the NIC's side --- */

static ssize_t user_send(struct net *n, unsigned q, const struct iovec *iov, int niov)
{
	struct user *u = n->priv;

	return dgram_send(u->guest, NULL, iov, niov);
}

static ssize_t user_recv(struct net *n, unsigned q, const struct iovec *iov, int niov)
{
	struct user *u = n->priv;

	return dgram_recv(u->guest, NULL, iov, niov);
}

static int user_poll_fd(struct net *n, unsigned q)
{
	struct user *u = n->priv;

	return u->guest;
}

static void user_info(struct net *n, char *buf, size_t len)
{
	struct user *u = n->priv;

	snprintf(buf, len, "%s", u->summary);
}

static void user_close(struct net *n)
{
	struct user *u = n->priv;

	if (u->running) {
		pthread_mutex_lock(&u->lock);
		u->ending = true;
		user_wake(u);
		pthread_mutex_unlock(&u->lock);
		pthread_join(u->thread, NULL);
	}
	if (u->slirp)
		slirp_cleanup(u->slirp);
	for (struct user_timer *t = u->timers, *next; t; t = next) {
		next = t->next;
		free(t);
	}
	if (u->guest >= 0)
		close(u->guest);
	if (u->stack >= 0)
		close(u->stack);
	if (u->wake >= 0)
		close(u->wake);
	pthread_mutex_destroy(&u->lock);
	free(u->poll);
	free(u->frame);
	free(u->summary);
	free(u);
}

/* --- options --- */

/*
 * "10.0.2.0/24", "10.0.2.0/255.255.255.0" or an address alone, whose class A, B, C says the rest.
 */
static int parse_network(const char *text, struct in_addr *addr, struct in_addr *mask,
			 struct err *err)
{
	char *copy = xstrdup(text), *slash = strchr(copy, '/');
	uint64_t bits = 24;
	uint32_t m;
	int ret = 0;

	if (slash)
		*slash++ = 0;
	if (!inet_pton(AF_INET, copy, addr))
		ret = err_set(err, EINVAL, "net=%s: no IPv4 network, as 10.0.2.0/24", text);
	if (ret == 0 && slash && strchr(slash, '.')) {
		if (!inet_pton(AF_INET, slash, mask))
			ret = err_set(err, EINVAL, "net=%s: no network mask after the slash", text);
	} else if (ret == 0) {
		m = ntohl(addr->s_addr);
		if (!slash)
			bits = m >> 31 == 0 ? 8 : m >> 30 == 2 ? 16 : 24;
		else if (parse_u64(slash, 30, &bits) < 0 || bits < 8)
			ret = err_set(err, EINVAL, "net=%s: the number after the slash is 8 to 30",
				      text);
		mask->s_addr = htonl(0xffffffffu << (32 - bits));
	}
	m = ~ntohl(mask->s_addr);
	if (ret == 0 && (m & (m + 1) || m < 3))
		ret = err_set(err, EINVAL, "net=%s: no usable network mask", text);
	addr->s_addr &= mask->s_addr;
	free(copy);
	return ret;
}

/* An address inside the network, by default its n-th. */
static int parse_inside(struct net_spec *s, const char *key, const SlirpConfig *c, uint32_t nth,
			struct in_addr *out, struct err *err)
{
	const char *text = net_spec_get(s, key);

	out->s_addr = c->vnetwork.s_addr | htonl(nth & ~ntohl(c->vnetmask.s_addr));
	if (!text)
		return 0;
	if (!inet_pton(AF_INET, text, out))
		return err_set(err, EINVAL, "%s=%s: no IPv4 address", key, text);
	if ((out->s_addr & c->vnetmask.s_addr) != c->vnetwork.s_addr)
		return err_set(err, EINVAL, "%s=%s lies outside the guest's network (net=)", key,
			       text);
	return 0;
}

static int parse_ip6(struct net_spec *s, SlirpConfig *c, struct err *err)
{
	const char *prefix = net_spec_get(s, "ipv6-net"), *host = net_spec_get(s, "ipv6-host"),
		   *dns = net_spec_get(s, "ipv6-dns");
	char *copy = xstrdup(prefix ? prefix : "fec0::/64"), *slash = strchr(copy, '/');
	uint64_t bits = 64;
	int ret = 0;

	if (slash)
		*slash++ = 0;
	if ((slash && parse_u64(slash, 126, &bits) < 0) ||
	    !inet_pton(AF_INET6, copy, &c->vprefix_addr6))
		ret = err_set(err, EINVAL, "ipv6-net=%s: no IPv6 network, as fec0::/64", prefix);
	c->vprefix_len = bits;
	c->vhost6 = c->vnameserver6 = c->vprefix_addr6;
	c->vhost6.s6_addr[15] |= 2;
	c->vnameserver6.s6_addr[15] |= 3;
	if (ret == 0 && host && !inet_pton(AF_INET6, host, &c->vhost6))
		ret = err_set(err, EINVAL, "ipv6-host=%s: no IPv6 address", host);
	if (ret == 0 && dns && !inet_pton(AF_INET6, dns, &c->vnameserver6))
		ret = err_set(err, EINVAL, "ipv6-dns=%s: no IPv6 address", dns);
	free(copy);
	return ret;
}

static int folder_check(const struct host *host, const char *path)
{
	int fd = host_open(host, "TFTP folder", path, O_RDONLY | O_DIRECTORY, 0, NULL);

	if (fd >= 0)
		close(fd);
	return MIN(fd, 0);
}

static int parse_config(const struct host *host, struct net_spec *s, SlirpConfig *c,
			struct user_filter *f, const char **search, struct err *err)
{
	const char *net = net_spec_get(s, "net");
	bool restricted, v4, v6;
	unsigned at = 0, n = 0;
	int ret;

	c->version = 4;
	ret = net_spec_bool(s, "restrict", false, &restricted, err);
	if (ret == 0)
		ret = net_spec_bool(s, "ipv4", true, &v4, err);
	if (ret == 0)
		ret = net_spec_bool(s, "ipv6", true, &v6, err);
	if (ret == 0 && !v4 && !v6)
		ret = err_set(err, EINVAL, "ipv4=off,ipv6=off leaves nothing");
	if (ret == 0)
		ret = parse_network(net ? net : "10.0.2.0/24", &c->vnetwork, &c->vnetmask, err);
	if (ret == 0)
		ret = parse_inside(s, "host", c, 2, &c->vhost, err);
	if (ret == 0)
		ret = parse_inside(s, "dns", c, 3, &c->vnameserver, err);
	if (ret == 0)
		ret = parse_inside(s, "dhcpstart", c, ~ntohl(c->vnetmask.s_addr) >= 31 ? 15 : 4,
				   &c->vdhcp_start, err);
	if (ret == 0)
		ret = parse_ip6(s, c, err);
	if (ret < 0)
		return ret;
	if (c->vhost.s_addr == c->vnameserver.s_addr || c->vhost.s_addr == c->vdhcp_start.s_addr)
		return err_set(err, EINVAL,
			       "host=, dns= and dhcpstart= must be different addresses");
	*f = (struct user_filter){ .net = c->vnetwork, .mask = c->vnetmask, .host = c->vhost,
				   .dns = c->vnameserver, .net6 = c->vprefix_addr6,
				   .host6 = c->vhost6, .dns6 = c->vnameserver6,
				   .bits6 = c->vprefix_len, .is_ours = host_listens_on };
	if (net_spec_get(s, "loopback") &&
	    user_filter_open(f, net_spec_get(s, "loopback"), err) < 0)
		return -EINVAL;
	c->restricted = restricted;
	c->in_enabled = v4;
	c->in6_enabled = v6;
	c->vhostname = net_spec_get(s, "hostname");
	c->vdomainname = net_spec_get(s, "domainname");
	c->tftp_path = net_spec_get(s, "tftp");
	c->tftp_server_name = net_spec_get(s, "tftp-server-name");
	c->bootfile = net_spec_get(s, "bootfile");
	ret = c->tftp_path ? folder_check(host, c->tftp_path) : 0;
	if (ret < 0)
		return err_set(err, -ret, "tftp=%s: %s", c->tftp_path, strerror(-ret));
	if (c->vhostname && strlen(c->vhostname) > 64)
		return err_set(err, EINVAL, "hostname=%s: longer than 64 characters", c->vhostname);
	if (c->bootfile && strlen(c->bootfile) > 127)
		return err_set(err, EINVAL, "bootfile=%s: longer than 127 characters", c->bootfile);
	while (n < SEARCH_MAX && (search[n] = net_spec_next(s, "dnssearch", &at)))
		n++;
	c->vdnssearch = n ? search : NULL;
	return 0;
}

/* "HOST:PORT" of either side; an empty host leaves *addr alone. */
static int parse_end(char *text, struct in_addr *addr, uint64_t *port)
{
	char *colon = strrchr(text, ':');

	if (!colon)
		return -EINVAL;
	*colon = 0;
	if (*text && !inet_pton(AF_INET, text, addr))
		return -EINVAL;
	return parse_u64(colon + 1, 65535, port) < 0 || !*port ? -EINVAL : 0;
}

/* "tcp:[HOST]:PORT-[GUEST]:PORT" */
static int add_hostfwd(struct user *u, const char *text, struct err *err)
{
	struct in_addr host = { htonl(INADDR_ANY) }, guest = u->first_guest;
	uint64_t host_port = 0, guest_port = 0;
	char *copy = xstrdup(text), *dash = strchr(copy, '-'), *from = strchr(copy, ':');
	bool udp = !strncmp(copy, "udp:", 4);
	int ret = 0;

	if (dash)
		*dash = 0;
	if (!dash || !from || from > dash || (!udp && strncmp(copy, "tcp:", 4) && *copy != ':') ||
	    parse_end(from + 1, &host, &host_port) < 0 ||
	    parse_end(dash + 1, &guest, &guest_port) < 0)
		ret = err_set(err, EINVAL,
			      "hostfwd=%s: expected tcp:[HOST]:PORT-[GUEST]:PORT, as tcp::2222-:22",
			      text);
	else if (slirp_add_hostfwd(u->slirp, udp, host, host_port, guest, guest_port) < 0)
		ret = err_set(err, errno ? errno : EADDRINUSE,
			      "hostfwd=%s: cannot listen on port %u of the host: %s", text,
			      (unsigned)host_port, strerror(errno ? errno : EADDRINUSE));
	free(copy);
	return ret;
}

/* "tcp:[HOST]:PORT" */
static int remove_hostfwd(struct user *u, const char *text, struct err *err)
{
	struct in_addr host = { htonl(INADDR_ANY) };
	char *copy = xstrdup(text), *from = strchr(copy, ':');
	bool udp = !strncmp(copy, "udp:", 4);
	uint64_t port = 0;
	int ret = 0;

	if (!from || (!udp && strncmp(copy, "tcp:", 4) && *copy != ':') ||
	    parse_end(from + 1, &host, &port) < 0)
		ret = err_set(err, EINVAL, "%s: expected tcp:[HOST]:PORT, as tcp::2222", text);
	else if (slirp_remove_hostfwd(u->slirp, udp, host, port) < 0)
		ret = err_set(err, ENOENT, "host forwarding rule for %s not found", text);
	free(copy);
	return ret;
}

static int user_forward(struct net *n, const char *rule, bool add, struct err *err)
{
	struct user *u = n->priv;
	int ret;

	pthread_mutex_lock(&u->lock);
	ret = add ? add_hostfwd(u, rule, err) : remove_hostfwd(u, rule, err);
	user_wake(u);
	pthread_mutex_unlock(&u->lock);
	return ret;
}

static char *user_connections(struct net *n)
{
	struct user *u = n->priv;
	char *text;

	pthread_mutex_lock(&u->lock);
	text = slirp_connection_info(u->slirp);
	pthread_mutex_unlock(&u->lock);
	return text;
}

/*
 * "tcp:ADDR:PORT-cmd:COMMAND" or "-unix:PATH": the guest's connections to ADDR go to a program or a
 * socket.
 */
static int add_guestfwd(struct user *u, const char *text, struct err *err)
{
	char *copy = xstrdup(text), *dash = strchr(copy, '-'), *from = copy;
	struct in_addr addr = { 0 };
	uint64_t port = 0;
	int ret;

	if (dash)
		*dash++ = 0;
	if (!strncmp(from, "tcp:", 4))
		from += 4;
	if (!dash || parse_end(from, &addr, &port) < 0 ||
	    (strncmp(dash, "cmd:", 4) && strncmp(dash, "unix:", 5)))
		ret = err_set(err, EINVAL,
			      "guestfwd=%s: expected tcp:ADDR:PORT-cmd:COMMAND or -unix:PATH",
			      text);
	else if (!strncmp(dash, "cmd:", 4))
		ret = slirp_add_exec(u->slirp, dash + 4, &addr, port);
	else
		ret = slirp_add_unix(u->slirp, dash + 5, &addr, port);
	if (ret == 0)
		ret = user_filter_service(&u->filter, addr, port);
	if (ret < 0)
		ret = err_set(err, EINVAL,
			      "guestfwd=%s: the address must be a free one of the guest's network",
			      text);
	free(copy);
	return ret;
}

static int user_start(struct user *u, struct err *err)
{
	sigset_t all, old;
	int ret;

	/* Signals are for the main thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&u->thread, NULL, user_thread, u);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	u->running = ret == 0;
	return ret ? err_set(err, ret, "cannot start a thread: %s", strerror(ret)) : 0;
}

static int user_sockets(struct user *u, struct err *err)
{
	int pair[2], size = SOCKET_BUFFER;

	u->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (u->wake < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(err, errno, "socketpair: %s", strerror(errno));
	u->guest = pair[0];
	u->stack = pair[1];
	for (int i = 0; i < 2; i++)
		/* With the right to; else up to net.core.wmem_max. */
		if (setsockopt(pair[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
			setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	return 0;
}

static const struct net_ops user_ops = {
	.kind = "user",
	.send = user_send,
	.recv = user_recv,
	.poll_fd = user_poll_fd,
	.info = user_info,
	.forward = user_forward,
	.connections = user_connections,
	.close = user_close,
};

int net_user_open(struct net *n, struct net_spec *s, struct err *err);
int net_user_open(struct net *n, struct net_spec *s, struct err *err)
{
	const char *search[SEARCH_MAX + 1] = { 0 }, *v;
	struct user *u = xcalloc(1, sizeof(*u));
	char net[INET_ADDRSTRLEN];
	SlirpConfig c = { 0 };
	unsigned at = 0;
	int ret;

	n->priv = u;
	n->ops = &user_ops;
	u->guest = u->stack = u->wake = -1;
	pthread_mutex_init(&u->lock, NULL);
	u->id = n->id;
	u->fd_end = fds_for_guest(0);
	u->frame = xcalloc(1, NET_MAX_FRAME);
	ret = parse_config(n->host, s, &c, &u->filter, search, err);
	if (ret == 0)
		ret = user_sockets(u, err);
	if (ret < 0)
		goto fail;
	u->first_guest = c.vdhcp_start;
	u->slirp = slirp_new(&c, &callbacks, u);
	if (!u->slirp) {
		ret = err_set(err, EINVAL, "libslirp refuses this configuration");
		goto fail;
	}
	while (ret == 0 && (v = net_spec_next(s, "hostfwd", &at)))
		ret = add_hostfwd(u, v, err);
	for (at = 0; ret == 0 && (v = net_spec_next(s, "guestfwd", &at));)
		ret = add_guestfwd(u, v, err);
	if (ret == 0)
		ret = net_spec_check(s, USER_KNOWN, err);
	if (ret == 0)
		ret = user_start(u, err);
	if (ret < 0)
		goto fail;
	n->jumbo = true;
	inet_ntop(AF_INET, &c.vnetwork, net, sizeof(net));
	u->summary = xasprintf("net=%s/%d,restrict=%s", net, __builtin_popcount(c.vnetmask.s_addr),
			       c.restricted ? "on" : "off");
	return 0;
fail:
	user_close(n);
	return ret;
}
