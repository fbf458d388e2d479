/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * net.h: a network backend as a NIC sees it: TAP on a bridge, user NAT, socket. Knows nothing of KVM or virtio.
 *
 * Packets carry a virtio_net_hdr of hdr_len bytes in front (0, 10 or 12) once net_set_offload asked for one, so that
 * checksum and segmentation offload pass through to the host. All calls with the lock of the queue's loop held.
 */
#ifndef NET_NET_H
#define NET_NET_H

#include <sys/uio.h>

#include "vmm/host.h"
#include "vmm/loop.h"
#include "vmm/util.h"

struct net;

/* What the guest can take (TUN_F_*): receive checksum and segmentation offload. */
enum { NET_CSUM = 1, NET_TSO4 = 2, NET_TSO6 = 4, NET_TSO_ECN = 8, NET_UFO = 16, NET_USO4 = 32, NET_USO6 = 64 };

struct net_ops {
	const char *kind;		/* "tap", "user", "socket" */
	/* Send one packet. Returns its length, -EAGAIN (full: try again on the next writable event), or -errno (dropped). */
	ssize_t (*send)(struct net *n, unsigned q, const struct iovec *iov, int niov);
	/* Receive one packet into iov; length, -EAGAIN when none, -EMSGSIZE when it did not fit (dropped). */
	ssize_t (*recv)(struct net *n, unsigned q, const struct iovec *iov, int niov);
	/* Bits of NET_ that the guest accepts and the length of the header both sides use. 0, or -ENOTSUP: without. */
	int (*set_offload)(struct net *n, unsigned bits, unsigned hdr_len);
	/* Queue pairs in use (multi-queue TAP). 0 or -ENOTSUP. */
	int (*set_queues)(struct net *n, unsigned pairs);
	/* The NIC's filter, so that a backend can leave out what nobody wants. Optional. */
	int (*vhost_fd)(struct net *n, unsigned q);	/* a TAP descriptor for vhost-net, or -1 */
	void (*info)(struct net *n, char *buf, size_t len);	/* "ifname=tap0,br=br0" for the monitor */
	void (*close)(struct net *n);
};

struct net {
	const struct net_ops *ops;
	char *id;
	void *priv;
	unsigned offload;		/* NET_ bits the host side can do */
	bool vnet_hdr;			/* a header is possible */
	unsigned max_queues;
	bool link_up;
	/* The NIC: told when packets wait (recv until -EAGAIN) or there is room again. On the queue's loop. */
	void (*readable)(void *ctx, unsigned q);
	void (*writable)(void *ctx, unsigned q);
	void (*link)(void *ctx, bool up);
	void *ctx;
	struct loop *loop;
};

/*
 * spec is what follows -netdev / -net: "tap,br0", "tap,ifname=tap1,script=no", "bridge,br=br0",
 * "user,hostfwd=tcp::2222-:22", "socket,...". NULL with the reason. Runs before the guest, or on a control thread.
 */
struct net *net_open(const char *id, const char *spec, struct loop *loop, const struct host *host, struct err *err);
void net_close(struct net *n);
/* Attach the NIC: callbacks and on which loop. NULL callbacks detach. */
void net_attach(struct net *n, struct loop *loop, void (*readable)(void *, unsigned), void (*writable)(void *, unsigned),
		void (*link)(void *, bool), void *ctx);
/* Start / stop watching for packets on queue q (a NIC without buffers stops). */
void net_poll(struct net *n, unsigned q, bool read, bool write);
void net_set_link(struct net *n, bool up);
/* A stable default address 52:54:00:xx:xx:xx for (VM name, NIC index) that no other VM on this host uses now. */
void net_default_mac(const char *vm_name, unsigned index, uint8_t mac[6]);

#endif
