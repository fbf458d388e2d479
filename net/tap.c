/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tap.c: a TAP device of the host (Documentation/networking/tuntap.rst of Linux), one descriptor
 * for each queue pair. It is made and bridged here, or made by somebody else and opened by name or
 * passed as a descriptor. One that was made here is not persistent: it vanishes, also from its
 * bridge, with the process, however that ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/backend.h"
#include "net/tap_host.h"
#include "vmm/base/fdset.h"
#include "vmm/base/log.h"

#define TUN_PATH "/dev/net/tun"
#define TAP_KNOWN                                                                                  \
	"ifname=, br= (or the bridge as a word), script=, downscript=, fd=, fds=, queues=, "       \
	"sndbuf=, helper=, vhost=off"
#define HDR_LEN sizeof(struct virtio_net_hdr)
#define KERNEL_OFFLOADS (NET_CSUM | NET_TSO4 | NET_TSO6 | NET_TSO_ECN)

struct tap {
	int fd[NET_MAX_QUEUES];
	unsigned nfd;
	/* what the NIC wants; the kernel gives HDR_LEN when that is 0 */
	unsigned hdr_len;
	bool own_hdr;			/* the kernel's header is hidden from the NIC */
	unsigned rx_offloads;		/* bits this kernel knows */
	char ifname[IFNAMSIZ], bridge[IFNAMSIZ];
	char *downscript;
};

/* --- packets --- */

static ssize_t tap_send(struct net *n, unsigned q, const struct iovec *iov, int niov)
{
	static const struct virtio_net_hdr none;
	struct tap *t = n->priv;
	struct iovec with[niov + 1];
	ssize_t len;

	if (t->own_hdr) {
		with[0] = (struct iovec){ (void *)&none, HDR_LEN };
		memcpy(with + 1, iov, niov * sizeof(*iov));
		iov = with;
		niov++;
	}
	do
		len = writev(t->fd[q], iov, niov);
	while (len < 0 && errno == EINTR);
	if (len < 0)
		return -errno;
	return t->own_hdr ? len - (ssize_t)HDR_LEN : len;
}

static ssize_t tap_recv(struct net *n, unsigned q, const struct iovec *iov, int niov)
{
	struct tap *t = n->priv;
	struct iovec with[niov + 2];
	uint8_t hdr[HDR_LEN], beyond;
	size_t room = 0;
	int k = 0;
	ssize_t len;

	if (t->own_hdr)
		with[k++] = (struct iovec){ hdr, HDR_LEN };
	for (int i = 0; i < niov; i++, k++) {
		with[k] = iov[i];
		room += iov[i].iov_len;
	}
	/* A packet too long is cut without a word; one byte more shows it. */
	with[k++] = (struct iovec){ &beyond, 1 };
	do
		len = readv(t->fd[q], with, k);
	while (len < 0 && errno == EINTR);
	if (len < 0)
		return errno == EIO ? -EAGAIN : -errno;		/* EIO: the interface is down */
	if (t->own_hdr)
		len -= HDR_LEN;
	return (size_t)len > room ? -EMSGSIZE : len;
}

static int tap_poll_fd(struct net *n, unsigned q)
{
	struct tap *t = n->priv;

	return t->fd[q];
}

static int tap_set_offload(struct net *n, unsigned bits, unsigned hdr_len)
{
	struct tap *t = n->priv;
	int size = hdr_len ? hdr_len : HDR_LEN;

	bits &= t->rx_offloads;
	if (!(bits & NET_CSUM))
		bits = 0;
	for (unsigned q = 0; q < t->nfd; q++) {
		if (ioctl(t->fd[q], TUNSETVNETHDRSZ, &size) < 0)
			return -errno;
		/* A detached queue refuses; the device's setting is shared. */
		if (ioctl(t->fd[q], TUNSETOFFLOAD, (unsigned long)bits) < 0 && q == 0)
			return -errno;
	}
	t->own_hdr = hdr_len == 0;
	return 0;
}

static int tap_set_queues(struct net *n, unsigned pairs)
{
	struct tap *t = n->priv;

	for (unsigned q = 0; q < t->nfd && t->nfd > 1; q++) {
		struct ifreq ifr = { .ifr_flags = q < pairs ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE };
		/* EINVAL: it is in that state already. */
		int ret = host_interface(n->host, t->fd[q], TUNSETQUEUE, &ifr);

		if (ret < 0 && ret != -EINVAL)
			return ret;
	}
	return 0;
}

static void tap_set_link(struct net *n, bool up)
{
	struct tap *t = n->priv;
	int carrier = up;

	/*
	 * Kernels before 5.0 lack it: the host then goes on sending into a queue nobody empties,
	 * which is harmless.
	 */
	if (ioctl(t->fd[0], TUNSETCARRIER, &carrier) < 0)
		log_debug("%s: TUNSETCARRIER: %s", n->id, strerror(errno));
}

static int tap_vhost_fd(struct net *n, unsigned q)
{
	struct tap *t = n->priv;

	return n->vnet_hdr && q < t->nfd ? t->fd[q] : -1;
}

static void tap_info(struct net *n, char *buf, size_t len)
{
	struct tap *t = n->priv;

	snprintf(buf, len, "ifname=%s%s%s,queues=%u,vnet_hdr=%s", t->ifname,
		 *t->bridge ? ",br=" : "", t->bridge, t->nfd, n->vnet_hdr ? "on" : "off");
}

/* --- opening --- */

static int run_script(struct net *n, const char *script, const char *ifname, struct err *err)
{
	char *argv[] = { (char *)script, (char *)ifname, NULL };
	int ret, status, pid = host_spawn(n->host, "TAP script", argv, -1, -1, err);

	if (pid < 0)
		return pid;
	ret = host_wait(n->host, pid, &status);
	if (ret < 0)
		return err_set(err, -ret, "waiting for %s: %s", script, strerror(-ret));
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		return err_set(err, EIO, "%s %s failed with status %d", script, ifname,
			       WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	return 0;
}

static void tap_close(struct net *n)
{
	struct tap *t = n->priv;
	struct err err = { 0 };

	if (t->downscript && run_script(n, t->downscript, t->ifname, &err) < 0)
		log_warn("%s: %s", n->id, err.msg);
	for (unsigned q = 0; q < t->nfd; q++)
		close(t->fd[q]);
	free(t->downscript);
	free(t);
}

static const struct net_ops tap_ops = {
	.kind = "tap",
	.send = tap_send,
	.recv = tap_recv,
	.poll_fd = tap_poll_fd,
	.set_offload = tap_set_offload,
	.set_queues = tap_set_queues,
	.set_link = tap_set_link,
	.vhost_fd = tap_vhost_fd,
	.info = tap_info,
	.close = tap_close,
};

static int refuse_rights(struct err *err, const char *what, int errnum)
{
	return err_set(
		err, errnum,
		"%s: %s. Three ways are open: (1) run as root, or let the program do it: "
		"setcap cap_net_admin+ep on minivmm; (2) have root make a TAP of yours once: "
		"ip tuntap add dev tap0 mode tap user %u; ip link set tap0 up master BRIDGE; "
		"then say -net tap,ifname=tap0,script=no; (3) -net user, which needs no rights",
		what, strerror(errnum), (unsigned)getuid());
}

/* One descriptor of the interface; ifr->ifr_name comes back filled in. */
static int tun_attach(struct net *n, struct ifreq *ifr, bool existed, struct err *err)
{
	int fd, ret;

	fd = host_open(n->host, "TAP", TUN_PATH, O_RDWR | O_NONBLOCK, 0, err);
	if (fd == -ENOENT || fd == -ENODEV || fd == -ENXIO) {
		err->msg[0] = 0;
		return err_set(err, -fd,
			       "%s is missing: modprobe tun; without that module use -net user "
			       "(minivmm-doctor says what this "
			       "host has)",
			       TUN_PATH);
	}
	if (fd == -EACCES || fd == -EPERM) {
		err->msg[0] = 0;
		return refuse_rights(err, "cannot open " TUN_PATH, -fd);
	}
	if (fd < 0)
		return fd;
	ret = -host_interface(n->host, fd, TUNSETIFF, ifr);
	if (ret == 0)
		return fd;
	if (ret == EINVAL && existed) {
		/*
		 * A persistent device was made with multi_queue or without, and says so only thus.
		 */
		ifr->ifr_flags ^= IFF_MULTI_QUEUE;
		if (host_interface(n->host, fd, TUNSETIFF, ifr) == 0)
			return fd;
	}
	close(fd);
	if (ret == EPERM && existed)
		return err_set(
			err, ret,
			"%s belongs to somebody else: ip tuntap add dev NAME mode tap user %u "
			"makes one for you (as root)",
			ifr->ifr_name, (unsigned)getuid());
	if (ret == EPERM)
		return refuse_rights(err, "cannot make a TAP device", ret);
	if (ret == EBUSY)
		return err_set(err, ret,
			       "TAP %s is busy: another program (another VM?) has it open; choose "
			       "another ifname=",
			       ifr->ifr_name);
	if (ret == EINVAL && existed)
		return err_set(err, ret, "%s exists and is no TAP device; choose another ifname=",
			       ifr->ifr_name);
	return err_set(err, ret, "TAP %s: %s", *ifr->ifr_name ? ifr->ifr_name : "(new)",
		       strerror(ret));
}

/* All queues of one device. The name may be "", and is filled in. */
static int tap_open_queues(struct net *n, struct tap *t, unsigned queues, struct err *err)
{
	bool existed = *t->ifname && tap_host_index(n->host, t->ifname);
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR |
					  (queues > 1 ? IFF_MULTI_QUEUE : 0) };

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", *t->ifname ? t->ifname : "tap%d");
	while (t->nfd < queues) {
		int fd = tun_attach(n, &ifr, existed || t->nfd, err);

		if (fd < 0)
			return fd;
		t->fd[t->nfd++] = fd;
		if (t->nfd == 1 && queues > 1 && !(ifr.ifr_flags & IFF_MULTI_QUEUE))
			return err_set(err, EINVAL,
				       "TAP %s has one queue; make it with \"multi_queue\", or "
				       "leave out queues=%u",
				       ifr.ifr_name, queues);
	}
	snprintf(t->ifname, sizeof(t->ifname), "%s", ifr.ifr_name);
	n->vnet_hdr = true;
	return existed;
}

/* "3:4:5": descriptors somebody opened for us. */
static int tap_take_fds(struct net *n, struct tap *t, const char *list, struct err *err)
{
	char *text = xstrdup(list), *save = NULL;
	struct ifreq ifr = { 0 };
	int ret = 0;

	for (char *p = strtok_r(text, ":", &save); p && ret == 0; p = strtok_r(NULL, ":", &save)) {
		int fd = t->nfd < NET_MAX_QUEUES ? fd_given(p) : -1;

		if (fd < 0)
			ret = err_set(err, EINVAL,
				      "fd=%s: no list of at most %d descriptor numbers or names",
				      list, NET_MAX_QUEUES);
		else if (ioctl(fd, TUNGETIFF, &ifr) < 0)
			ret = err_set(err, EBADF, "descriptor %s is no TAP device: %s", p,
				      strerror(errno));
		else if (!(ifr.ifr_flags & IFF_TAP) || !(ifr.ifr_flags & IFF_NO_PI))
			ret = err_set(err, EINVAL,
				      "descriptor %s must be a TAP (not TUN) opened with IFF_NO_PI",
				      p);
		else if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
			ret = err_set(err, errno, "descriptor %s: %s", p, strerror(errno));
		else
			t->fd[t->nfd++] = fd;
	}
	free(text);
	if (ret == 0 && !t->nfd)
		ret = err_set(err, EINVAL, "fd=: no descriptor given");
	snprintf(t->ifname, sizeof(t->ifname), "%.*s", IFNAMSIZ - 1, ifr.ifr_name);
	n->vnet_hdr = ifr.ifr_flags & IFF_VNET_HDR;
	return ret;
}

/* Makes the interface useful: bridge, up, script. */
static int tap_configure(struct net *n, struct tap *t, const char *script, bool existed,
			 struct err *err)
{
	int ret = 0;

	if (script)
		return run_script(n, script, t->ifname, err);
	if (!existed)
		tap_host_hide_mac(n->host, t->ifname, t->bridge);
	if (*t->bridge)
		ret = tap_host_bridge(n->host, t->ifname, t->bridge, err);
	if (ret == 0)
		ret = tap_host_up(n->host, t->ifname, err);
	if (ret == -EPERM && existed) {
		/* Its owner may use it but not change it: root has to have it up. */
		if (*t->bridge)
			return ret;
		log_warn("%s: %s is down and we may not bring it up: ip link set %s up (as root)",
			 n->id, t->ifname, t->ifname);
		err->msg[0] = 0;
		ret = 0;
	}
	return ret;
}

static int copy_name(char *to, const char *name, const char *what, struct err *err)
{
	if (strlen(name) >= IFNAMSIZ || strchr(name, '/') || strchr(name, '%'))
		return err_set(err, EINVAL,
			       "%s \"%s\" is no interface name (at most %d characters)", what, name,
			       IFNAMSIZ - 1);
	strcpy(to, name);
	return 0;
}

static const char *script_option(struct net_spec *s, const char *key)
{
	const char *v = net_spec_get(s, key);

	return v && *v && strcmp(v, "no") ? v : NULL;
}

struct tap_options {
	const char *ifname, *bridge, *fds, *script, *downscript, *helper;
	uint64_t queues, sndbuf;
};

static int tap_parse(struct net_spec *s, struct tap *t, struct tap_options *o, struct err *err)
{
	bool vhost;
	int ret;

	o->ifname = net_spec_get(s, "ifname");
	o->bridge = net_spec_get(s, "br");
	if (!o->bridge)
		o->bridge = net_spec_get(s, "bridge");
	o->fds = net_spec_get(s, "fds");
	if (!o->fds)
		o->fds = net_spec_get(s, "fd");
	o->script = script_option(s, "script");
	o->downscript = script_option(s, "downscript");
	o->helper = script_option(s, "helper");
	if (!o->bridge)
		o->bridge = net_spec_word(s);
	if (!o->bridge && !strcmp(s->kind, "bridge"))
		o->bridge = "br0";
	ret = net_spec_u64(s, "queues", 1, 1, NET_MAX_QUEUES, &o->queues, err);
	if (ret == 0)
		ret = net_spec_u64(s, "sndbuf", 0, 0, INT32_MAX, &o->sndbuf, err);
	if (ret == 0)
		ret = net_spec_bool(s, "vhost", false, &vhost, err);
	if (ret == 0 && vhost)
		ret = err_set(err, ENOTSUP,
			      "vhost=on: packets are moved by this program, not by vhost-net; "
			      "leave it out");
	if (ret == 0)
		ret = net_spec_check(s, TAP_KNOWN, err);
	if (ret == 0 && o->ifname)
		ret = copy_name(t->ifname, o->ifname, "ifname", err);
	if (ret == 0 && o->bridge)
		ret = copy_name(t->bridge, o->bridge, "bridge", err);
	if (ret == 0 && o->bridge && o->script)
		ret = err_set(
			err, EINVAL,
			"br=%s and script=%s: the script attaches the bridge; give one of them",
			o->bridge, o->script);
	if (ret == 0 && o->fds && (o->ifname || o->bridge || o->script || o->helper))
		ret = err_set(err, EINVAL,
			      "fd= names a device that is set up already: leave out ifname=, br=, "
			      "script= and helper=");
	return ret;
}

/* Which offloads this kernel's TAP can give, by trying. */
static void tap_probe(struct net *n, struct tap *t)
{
	if (!n->vnet_hdr)
		return;
	if (ioctl(t->fd[0], TUNSETOFFLOAD, (unsigned long)KERNEL_OFFLOADS) == 0)
		t->rx_offloads = KERNEL_OFFLOADS;
	else if (ioctl(t->fd[0], TUNSETOFFLOAD, (unsigned long)NET_CSUM) == 0)
		t->rx_offloads = NET_CSUM;
	n->offload = KERNEL_OFFLOADS | NET_UFO;
	if (ioctl(t->fd[0], TUNSETOFFLOAD,
		  (unsigned long)(KERNEL_OFFLOADS | NET_USO4 | NET_USO6)) == 0) {
		t->rx_offloads |= NET_USO4 | NET_USO6;
		n->offload |= NET_USO4 | NET_USO6;
	}
	if (ioctl(t->fd[0], TUNSETOFFLOAD, (unsigned long)(t->rx_offloads | NET_UFO)) == 0)
		t->rx_offloads |= NET_UFO;
}

static int tap_setup(struct net *n, struct tap *t, const struct tap_options *o, struct err *err)
{
	int ret;

	if (o->bridge) {
		ret = tap_host_check_bridge(n->host, t->bridge, err);
		if (ret < 0)
			return ret;
	}
	if (o->fds)
		return tap_take_fds(n, t, o->fds, err);
	if (o->helper) {
		ret = tap_host_helper(n->host, o->helper, t->bridge, err);
		if (ret < 0)
			return ret;
		t->fd[t->nfd++] = ret;
		n->vnet_hdr = true;
		return tap_host_name(ret, t->ifname);
	}
	ret = tap_open_queues(n, t, o->queues, err);
	if (ret < 0)
		return ret;
	return tap_configure(n, t, o->script, ret, err);
}

int tap_open(struct net *n, struct net_spec *s, struct err *err)
{
	struct tap *t = xcalloc(1, sizeof(*t));
	struct tap_options o = { 0 };
	int ret, sndbuf;

	n->priv = t;
	n->ops = &tap_ops;
	ret = tap_parse(s, t, &o, err);
	if (ret == 0)
		ret = tap_setup(n, t, &o, err);
	if (ret == 0) {
		n->max_queues = t->nfd;
		n->any_loop = true;
		tap_probe(n, t);
		t->own_hdr = n->vnet_hdr;
		if (n->vnet_hdr)
			ret = tap_set_offload(n, 0, 0);
		if (ret == 0)
			ret = tap_set_queues(n, 1);
		if (ret < 0)
			err_set(err, -ret, "TAP %s: %s", t->ifname, strerror(-ret));
	}
	sndbuf = o.sndbuf;
	if (ret == 0 && sndbuf && ioctl(t->fd[0], TUNSETSNDBUF, &sndbuf) < 0)
		ret = err_set(err, errno, "sndbuf=%d: %s", sndbuf, strerror(errno));
	if (ret < 0) {
		tap_close(n);
		return ret;
	}
	if (o.downscript)
		t->downscript = xstrdup(o.downscript);
	trace(TRACE_NET, 0, n->id, "tap %s opened, %u queues", t->ifname, t->nfd);
	return 0;
}
