/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * net.h: a network backend as a NIC sees it: TAP on a bridge, user NAT, socket. Knows nothing of
 * KVM or virtio.
 *
 * Packets are Ethernet frames without FCS. Once net_set_offload asked for one they carry a
 * virtio_net_hdr of hdr_len bytes in front (10 or 12), so that checksum and segmentation offload
 * pass through to the host; a backend that cannot take such packets (user, socket) is served by
 * net/offload.c, so a NIC may always use them.
 *
 * What names a queue is called with the lock of the queue's loop held; what does not, with that of
 * the NIC's loop, and takes the queues' itself.
 */
#ifndef NET_NET_H
#define NET_NET_H

#include <sys/uio.h>

#include "vmm/base/host.h"
#include "vmm/base/loop.h"
#include "vmm/base/util.h"

struct net;
struct net_queue;

/*
 * What a side can take (the values of TUN_F_*, but the last): packets without checksum, and of more
 * than one segment.
 */
enum { NET_CSUM = 1, NET_TSO4 = 2, NET_TSO6 = 4, NET_TSO_ECN = 8, NET_UFO = 16, NET_USO4 = 32,
       NET_USO6 = 64,
       /*
        * Receive only: packets of several segments are wanted, but one segment at a time, with
        * complete checksums.
        */
       NET_CUT = 128 };

/* The longest frame any side may hand over: 64 KiB of IP, Ethernet with two VLAN tags. */
#define NET_MAX_FRAME (65536 + 22)

/* What a backend implements; NICs call the net_ functions below. */
struct net_ops {
	const char *kind;		/* "tap", "user", "socket" */
	/*
	 * Send one packet. Returns its length, -EAGAIN (full: try again on the next writable
	 * event), or -errno (dropped).
	 */
	ssize_t (*send)(struct net *n, unsigned q, const struct iovec *iov, int niov);
	/*
	 * Receive one packet into iov; length, -EAGAIN when none, -EMSGSIZE when it did not fit
	 * (dropped).
	 */
	ssize_t (*recv)(struct net *n, unsigned q, const struct iovec *iov, int niov);
	/*
	 * The descriptor whose readiness means packets or room; -1: none now. net_fd_changed()
	 * tells of another one.
	 */
	int (*poll_fd)(struct net *n, unsigned q);
	/*
	 * Room again: send what was kept of an accepted packet. 0 or -EAGAIN. Optional, with
	 * net_want_room().
	 */
	int (*flush)(struct net *n, unsigned q);
	/* The descriptor hung up. Optional: without it that is the backend's end. */
	void (*hangup)(struct net *n, unsigned q);
	/*
	 * Only with vnet_hdr: bits of NET_ that the guest accepts, header length of both sides. 0
	 * or -errno.
	 */
	int (*set_offload)(struct net *n, unsigned bits, unsigned hdr_len);
	/* Queue pairs in use (multi-queue TAP). 0 or -errno. Optional. */
	int (*set_queues)(struct net *n, unsigned pairs);
	/* tell the host's side too; optional */
	void (*set_link)(struct net *n, bool up);
	/* a TAP descriptor for vhost-net, or -1; optional */
	int (*vhost_fd)(struct net *n, unsigned q);
	/* "ifname=tap0,br=br0" for the monitor */
	void (*info)(struct net *n, char *buf, size_t len);
	/*
	 * Begin or end to forward a port of the host; what is forwarded and open, as text that
	 * malloc() made. Optional.
	 */
	int (*forward)(struct net *n, const char *rule, bool add, struct err *err);
	char *(*connections)(struct net *n);
	void (*close)(struct net *n);
};

struct net_stats {
	uint64_t rx_packets, rx_bytes, rx_dropped;	/* towards the guest */
	uint64_t tx_packets, tx_bytes, tx_dropped;	/* from the guest */
};

struct net {
	const struct net_ops *ops;
	char *id;
	void *priv;			/* the backend's */
	/* NET_ bits a NIC may use when it sends; offer the guest no more */
	unsigned offload;
	/* the backend takes and gives headers itself: receive offload is possible */
	bool vnet_hdr;
	/* takes plain frames of up to 64 KiB: TCP need not be cut, only summed */
	bool jumbo;
	unsigned max_queues;		/* queue pairs */
	bool any_loop;			/* each may be on a loop of its own (net_queue_loop) */
	bool link_up;
	/*
	 * The NIC: told when packets wait (recv until -EAGAIN) or there is room again. On the
	 * queue's loop.
	 */
	void (*readable)(void *ctx, unsigned q);
	void (*writable)(void *ctx, unsigned q);
	void (*link)(void *ctx, bool up);
	void *ctx;
	struct loop *loop;
	/* private to net.c */
	unsigned hdr_len;
	unsigned pairs;			/* queue pairs in use */
	bool cut;			/* NET_CUT */
	struct net_queue *queues;
	/* a queue on a loop of its own has found its host side gone */
	struct loop_timer lost;
	const struct host *host;
};

/*
 * spec is what follows -netdev / -net: "tap,br0", "tap,ifname=tap1,script=no", "bridge,br=br0",
 * "user,hostfwd=tcp::2222-:22", "socket,...". NULL with the reason. Runs before the guest, or on a
 * control thread.
 */
struct net *net_open(const char *id, const char *spec, struct loop *loop, const struct host *host,
		     struct err *err);
void net_close(struct net *n);			/* NULL is fine */
/*
 * Attach the NIC: callbacks and on which loop; every queue starts without watching (net_poll). NULL
 * callbacks detach and put offload and header back to none.
 */
void net_attach(struct net *n, struct loop *loop, void (*readable)(void *, unsigned),
		void (*writable)(void *, unsigned), void (*link)(void *, bool), void *ctx);
/*
 * Queue q belongs to another loop than the NIC's, where any_loop says so; after net_attach, before
 * net_poll. The NIC's loop.
 */
void net_queue_loop(struct net *n, unsigned q, struct loop *loop);

/*
 * The receive bits (NET_) the guest takes, and the length of the header on every packet, both ways:
 * 0, 10 or 12.
 */
int net_set_offload(struct net *n, unsigned bits, unsigned hdr_len);
int net_set_queues(struct net *n, unsigned pairs);
/* As the operations above. With the link down packets vanish. No allocation, no blocking. */
ssize_t net_send(struct net *n, unsigned q, const struct iovec *iov, int niov);
ssize_t net_recv(struct net *n, unsigned q, const struct iovec *iov, int niov);
/*
 * Start / stop watching queue q for packets (a NIC without buffers stops) and for room (after
 * -EAGAIN).
 */
void net_poll(struct net *n, unsigned q, bool read, bool write);
/* Unplug or plug the cable: the NIC's link callback runs when it changed. */
void net_set_link(struct net *n, bool up);
int net_vhost_fd(struct net *n, unsigned q);
/*
 * "tcp::2222-:22" begins, "tcp::2222" ends (user NAT only). 0 or -errno with the reason; any
 * thread.
 */
int net_forward(struct net *n, const char *rule, bool add, struct err *err);
/*
 * The open connections and forwarded ports; NULL when the backend has none to tell. The caller
 * frees it. Any thread.
 */
char *net_connections(struct net *n);
/* "tap,ifname=tap0,br=br0" */
void net_info(struct net *n, char *buf, size_t len);
void net_get_stats(struct net *n, struct net_stats *s);		/* any thread */

/*
 * A stable default address 52:54:00:xx:xx:xx for (VM name, NIC index) that no other VM of this host
 * (network namespace) uses now. Reserved until the process ends: ask once for a NIC and keep the
 * answer. moves: for a machine that comes here from another process, perhaps of this host, whose
 * address it keeps.
 */
void net_default_mac(const char *vm_name, unsigned index, bool moves, uint8_t mac[6]);
/*
 * "52:54:00:12:34:56" (or with dashes) to bytes; refuses multicast and zero. 0 or -EINVAL with the
 * reason.
 */
int net_parse_mac(const char *s, uint8_t mac[6], struct err *err);

#endif
