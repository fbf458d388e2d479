/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * backend.h: what the files of net/ share: the options of a -net/-netdev argument, the backends'
 * constructors, and the software forms of checksum and segmentation offload. Nobody outside net/
 * includes it.
 */
#ifndef NET_BACKEND_H
#define NET_BACKEND_H

#include <linux/virtio_net.h>

#include "net/net.h"

#define NET_MAX_QUEUES 64
#define NET_SPEC_MAX 64

/* --- options: "kind,key=value,word,...", a comma inside a value is written ",," --- */
struct net_opt {
	char *key;			/* NULL: a bare word */
	char *val;
	bool used;
};
struct net_spec {
	char *text, *kind;
	unsigned n;
	struct net_opt opt[NET_SPEC_MAX];
};
int net_spec_parse(struct net_spec *s, const char *text, struct err *err);
void net_spec_free(struct net_spec *s);
/*
 * The value of key, or NULL; a bare word equal to key means "on". The last one given wins, all are
 * marked used.
 */
const char *net_spec_get(struct net_spec *s, const char *key);
/* The next value of a key that may be given several times; *at starts at 0. */
const char *net_spec_next(struct net_spec *s, const char *key, unsigned *at);
/* The first bare word nobody asked for yet ("br0"), or NULL. */
const char *net_spec_word(struct net_spec *s);
/* 0 with *v set (def when absent), or -EINVAL with the reason. */
int net_spec_bool(struct net_spec *s, const char *key, bool def, bool *v, struct err *err);
int net_spec_u64(struct net_spec *s, const char *key, uint64_t def, uint64_t min, uint64_t max,
		 uint64_t *v, struct err *err);
/* Refuses options nobody asked for; known is what to print: "br=, ifname=". */
int net_spec_check(struct net_spec *s, const char *known, struct err *err);

/* --- backends --- */
/* Fill n (ops, priv, offload, vnet_hdr, max_queues); 0 or -errno with the reason. */
int tap_open(struct net *n, struct net_spec *s, struct err *err);
int socket_open(struct net *n, struct net_spec *s, struct err *err);
/* In the module net-user: "net_user_open". */
typedef int net_user_open_fn(struct net *n, struct net_spec *s, struct err *err);

/* The backend's descriptor of queue q is another one now. On the queue's loop. */
void net_fd_changed(struct net *n, unsigned q);
/* The loop that queue q is served on now. */
struct loop *net_queue_runs_on(struct net *n, unsigned q);
/* Watch for room on queue q and call ops->flush then. */
void net_want_room(struct net *n, unsigned q);
/* The host's side is gone for good: says so once, takes the link down. */
void net_broken(struct net *n, unsigned q, const char *why);

/* --- dgram.c: sockets that keep packets apart. ops->send and recv on fd; to NULL: connected --- */
struct sockaddr_in;
ssize_t dgram_send(int fd, const struct sockaddr_in *to, const struct iovec *iov, int niov);
/* from: filled in when not NULL. -EPIPE when the other side closed. */
ssize_t dgram_recv(int fd, struct sockaddr_in *from, const struct iovec *iov, int niov);

/* --- offload.c: what the host's TAP does, for backends that take plain frames --- */
struct net_gso {
	uint8_t *frame;			/* NET_MAX_FRAME bytes: the packet as sent */
	uint32_t len;
	struct virtio_net_hdr hdr;
	uint32_t net_off, l4_off, payload_off, next;	/* offsets; next payload byte to send */
	uint32_t segment;		/* number of the next one */
	bool v6, tcp, jumbo;
	bool pending;			/* cut.c: segments are left */
	uint8_t head[256];		/* headers of the segment being sent */
};
struct net_gso *gso_new(void);
void gso_free(struct net_gso *g);		/* NULL is fine */
/*
 * The frame g->frame/len with g->hdr: 0 when it makes sense; -EINVAL when the guest's header does
 * not.
 */
int gso_begin(struct net_gso *g);
/*
 * The next frame to send in iov (2 entries); false when there is none left. gso_advance after it
 * was sent.
 */
bool gso_segment(struct net_gso *g, struct iovec iov[2]);
void gso_advance(struct net_gso *g);
/*
 * cut.c: receives one segment: of the packet in g, or of the next one of the backend. The room in
 * iov behind the header is at most NET_MAX_FRAME or all of it. As net_recv.
 */
ssize_t cut_recv(struct net *n, unsigned q, struct net_gso *g, const struct iovec *iov, int niov);
/* One's complement sum of a buffer, to be folded by csum_fold. */
uint32_t csum_add(uint32_t sum, const void *buf, size_t len);
uint16_t csum_fold(uint32_t sum);

#endif
