/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio_net.h: what virtio_net.c (packets) and virtio_net_ctrl.c (control queue, filter) share,
 * and the receive filter as query-rx-filter (vmm/control/command_net.c) shows it. Nobody else
 * includes it.
 */
#ifndef DEVICES_VIRTIO_VIRTIO_NET_H
#define DEVICES_VIRTIO_VIRTIO_NET_H

#include <linux/virtio_net.h>

#include "devices/virtio/virtio.h"
#include "net/net.h"

#define MAC_LEN 6
#define FILTER_MACS 64			/* of each kind; a longer table counts as "all" */
#define VLANS 4096

/* The receive filter as the driver set it (5.1.6.5.1 - 5.1.6.5.3). */
struct net_filter {
	bool promisc, allmulti, alluni, nomulti, nouni, nobcast;
	bool uni_overflow, multi_overflow;
	uint8_t uni_count, multi_count;
	uint8_t uni[FILTER_MACS][MAC_LEN], multi[FILTER_MACS][MAC_LEN];
	uint8_t vlans[VLANS / 8];
};

struct net_rx;

/* Tells of each change the driver makes to its filter. Device's loop lock. */
void virtio_net_on_filter(struct virtio_dev *v, void (*fn)(void *ctx, struct virtio_dev *v),
			  void *ctx);
const struct net_filter *virtio_net_filter(struct virtio_dev *v, const uint8_t **mac);

struct vnet {
	struct virtio_dev v;
	struct net *net;		/* borrowed; NULL: no cable */
	uint8_t perm_mac[MAC_LEN];	/* after a reset */
	struct virtio_net_config cfg;
	unsigned pairs;			/* offered */
	unsigned active;		/* pairs the driver uses */
	unsigned hdr_len;
	unsigned offloads;		/* NET_ bits for received packets, now */
	struct net_rx **rx;		/* a pair each */
	struct net_filter filter;
	void (*on_filter)(void *ctx, struct virtio_dev *v);
	void *filter_ctx;
};

static inline struct vnet *to_net(struct virtio_dev *v)
{
	return container_of(v, struct vnet, v);
}

/* --- virtio_net.c --- */
unsigned vnet_guest_offloads(uint64_t features);	/* GUEST_ feature bits to NET_ bits */
void vnet_poll_all(struct vnet *d);

/* --- virtio_net_ctrl.c --- */
void filter_reset(struct vnet *d);
/* Does the driver want this frame? frame holds at least its first `len` bytes of 18. */
bool filter_accepts(const struct vnet *d, const uint8_t *frame, size_t len);
void ctrl_kick(struct virtio_dev *v, unsigned q);
void filter_save(struct vnet *d, struct state_out *o);
int filter_load(struct vnet *d, struct state_in *in);

#endif
