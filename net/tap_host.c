/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tap_host.c: bridges and interface flags by the ioctls of netdevice(7). See tap_host.h. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/tap_host.h"
#include "vmm/base/log.h"

static void if_name(struct ifreq *ifr, const char *name)
{
	memset(ifr, 0, sizeof(*ifr));
	memcpy(ifr->ifr_name, name, strnlen(name, IFNAMSIZ - 1));
}

int tap_host_index(const struct host *host, const char *ifname)
{
	struct ifreq ifr;

	if_name(&ifr, ifname);
	return host_interface(host, -1, SIOCGIFINDEX, &ifr) < 0 ? 0 : ifr.ifr_ifindex;
}

int tap_host_check_bridge(const struct host *host, const char *bridge, struct err *err)
{
	char path[64];
	struct ifreq ifr;
	struct stat st;

	if (!tap_host_index(host, bridge))
		return err_set(
			err, ENODEV,
			"bridge %s does not exist: ip link add %s type bridge; ip link set %s up",
			bridge, bridge, bridge);
	snprintf(path, sizeof(path), "/sys/class/net/%s", bridge);
	if (host_stat(host, path, &st) == 0) {		/* sysfs shows this network namespace */
		snprintf(path, sizeof(path), "/sys/class/net/%s/bridge", bridge);
		if (host_stat(host, path, &st) < 0)
			return err_set(err, EINVAL,
				       "%s is an interface, but no bridge; make one (ip link add "
				       "br0 type bridge; "
				       "ip link set br0 up) and put %s into it (ip link set %s "
				       "master br0)",
				       bridge, bridge, bridge);
	}
	if_name(&ifr, bridge);
	if (host_interface(host, -1, SIOCGIFFLAGS, &ifr) == 0 && !(ifr.ifr_flags & IFF_UP))
		log_warn("bridge %s is down: the guest reaches nobody until \"ip link set %s up\"",
			 bridge, bridge);
	return 0;
}

static bool is_port(const struct host *host, const char *ifname, const char *bridge)
{
	char path[96];
	struct stat st;

	snprintf(path, sizeof(path), "/sys/class/net/%s/brif/%s", bridge, ifname);
	return host_stat(host, path, &st) == 0;
}

int tap_host_bridge(const struct host *host, const char *ifname, const char *bridge,
		    struct err *err)
{
	int ret, index = tap_host_index(host, ifname);
	struct ifreq ifr;

	if_name(&ifr, bridge);
	if (host_interface(host, -1, SIOCGIFMTU, &ifr) == 0) {
		int mtu = ifr.ifr_mtu;

		/* A port with a smaller one would pull the bridge's down. */
		if_name(&ifr, ifname);
		ifr.ifr_mtu = mtu;
		host_interface(host, -1, SIOCSIFMTU, &ifr);
	}
	if_name(&ifr, bridge);
	ifr.ifr_ifindex = index;
	ret = host_interface(host, -1, SIOCBRADDIF, &ifr);
	if ((ret == -EBUSY || ret == -EPERM) && is_port(host, ifname, bridge))
		return 0;
	if (ret == -EBUSY)
		return err_set(err, EBUSY,
			       "%s is a port of another bridge already; ip link set %s nomaster",
			       ifname, ifname);
	if (ret == -EPERM)
		return err_set(err, EPERM,
			       "may not put %s into bridge %s (needs CAP_NET_ADMIN); as root: "
			       "ip link set %s master %s",
			       ifname, bridge, ifname, bridge);
	if (ret < 0)
		return err_set(err, -ret, "cannot put %s into bridge %s: %s", ifname, bridge,
			       strerror(-ret));
	return 0;
}

int tap_host_up(const struct host *host, const char *ifname, struct err *err)
{
	struct ifreq ifr;
	int ret;

	if_name(&ifr, ifname);
	ret = host_interface(host, -1, SIOCGIFFLAGS, &ifr);
	if (ret == 0 && ifr.ifr_flags & IFF_UP)
		return 0;
	if (ret == 0) {
		ifr.ifr_flags |= IFF_UP;
		ret = host_interface(host, -1, SIOCSIFFLAGS, &ifr);
	}
	return ret < 0 ? err_set(err, -ret, "cannot bring %s up: %s", ifname, strerror(-ret)) : 0;
}

void tap_host_hide_mac(const struct host *host, const char *ifname, const char *bridge)
{
	struct ifreq ifr;

	if_name(&ifr, ifname);
	if (!*bridge || host_interface(host, -1, SIOCGIFHWADDR, &ifr) < 0)
		return;
	ifr.ifr_hwaddr.sa_data[0] = (char)0xfe;
	host_interface(host, -1, SIOCSIFHWADDR, &ifr);
}

int tap_host_name(int fd, char *ifname)
{
	struct ifreq ifr = { 0 };

	if (ioctl(fd, TUNGETIFF, &ifr) < 0)
		return -errno;
	memcpy(ifname, ifr.ifr_name, IFNAMSIZ);
	ifname[IFNAMSIZ - 1] = 0;
	return 0;
}

/* The descriptor in the helper's one message, or -errno. */
static int take_fd(int sock)
{
	union { struct cmsghdr h; char buf[CMSG_SPACE(sizeof(int))]; } control;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	struct cmsghdr *c;
	ssize_t len;
	int fd;

	do
		len = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	while (len < 0 && errno == EINTR);
	if (len < 0)
		return -errno;
	c = CMSG_FIRSTHDR(&msg);
	if (len == 0 || !c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
	    c->cmsg_len != CMSG_LEN(sizeof(fd)))
		return -ENODATA;
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

int tap_host_helper(const struct host *host, const char *helper, const char *bridge,
		    struct err *err)
{
	char *br = xasprintf("--br=%s", bridge);
	char *argv[] = { (char *)helper, "--use-vnet", "--fd=0", br, NULL };
	int pair[2], pid, status = 0, fd;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
		fd = err_set(err, errno, "socketpair: %s", strerror(errno));
		goto out;
	}
	pid = host_spawn(host, "bridge helper", argv, pair[1], -1, err);
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		fd = pid;
		goto out;
	}
	fd = take_fd(pair[0]);
	close(pair[0]);
	host_wait(host, pid, &status);
	if (fd < 0)
		err_set(err, -fd,
			"%s gave no TAP for bridge %s (status %d): see its configuration, often "
			"bridge.conf",
			helper, bridge, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
	else if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		log_warn("%s: O_NONBLOCK: %s", helper, strerror(errno));
out:
	free(br);
	return fd;
}
