/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * user_filter.h: what a guest behind user networking may reach of its own host. libslirp turns each
 * address of the guest's network but the name server's into the host's loopback, where databases,
 * debuggers and this machine's control ports listen. The filter stands on our side of the wire, in
 * front of libslirp: it closes the loopback but for the ports that were opened.
 *
 * Pure: no system call, no lock. The caller holds the lock of libslirp's calls.
 */
#ifndef NET_USER_FILTER_H
#define NET_USER_FILTER_H

#include <netinet/in.h>

#include "vmm/base/util.h"

#define USER_FILTER_PORTS 64		/* open ones; services; ports told */
#define USER_FILTER_FLOWS 256		/* UDP of the host that a guest may answer */

struct user_filter {
	/* as libslirp was told */
	struct in_addr net, mask, host, dns;
	struct in6_addr net6, host6, dns6;
	unsigned bits6;
	/* loopback=: all, or these */
	bool open_all;
	uint16_t open[USER_FILTER_PORTS];
	unsigned nopen;
	/* guestfwd=: addresses of the guest's network where something else answers */
	struct { struct in_addr addr; uint16_t port; } services[USER_FILTER_PORTS];
	unsigned nservices;
	/* whether this process listens there for control: closed always */
	bool (*is_ours)(uint16_t port);
	/* UDP that came from the host (hostfwd), newest last: its port there, the guest's */
	struct { uint16_t host, guest; } flows[USER_FILTER_FLOWS];
	unsigned nflows;
	/* ports whose refusal was told */
	uint16_t told[USER_FILTER_PORTS];
	unsigned ntold;
};

/* "on", "off", or PORT[:PORT ...]. 0 or -EINVAL with the reason. */
int user_filter_open(struct user_filter *f, const char *text, struct err *err);
/* -ENOSPC: there are too many. */
int user_filter_service(struct user_filter *f, struct in_addr addr, uint16_t port);

enum user_verdict {
	USER_PASS,
	USER_DROP,			/* silently, as a wire would */
	USER_REFUSE,			/* a connection: answer with user_filter_reset */
};
/*
 * An Ethernet frame of the guest. *port: what it wanted, when that is to be told (the first time,
 * for each port), else 0.
 */
enum user_verdict user_filter_out(struct user_filter *f, const uint8_t *frame, size_t len,
				  unsigned *port);
/* A frame for the guest: remembers what it may answer. */
void user_filter_in(struct user_filter *f, const uint8_t *frame, size_t len);
/* The answer to a TCP segment that is refused: its length, at most USER_RESET_MAX, in out. */
#define USER_RESET_MAX 80
size_t user_filter_reset(const uint8_t *frame, uint8_t out[USER_RESET_MAX]);

#endif
