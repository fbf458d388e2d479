/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tap_host.h: what is done to the host's interfaces around a TAP: bridge, flags, address. Before
 * the guest runs, or on a control thread; needs CAP_NET_ADMIN. 0 or -errno with the reason.
 */
#ifndef NET_TAP_HOST_H
#define NET_TAP_HOST_H

#include "vmm/base/host.h"

/* The interface's number; 0: there is none of that name. */
int tap_host_index(const struct host *host, const char *ifname);
/* It exists and is a bridge; a warning when it is down. */
int tap_host_check_bridge(const struct host *host, const char *bridge, struct err *err);
/* Makes the TAP a port of the bridge, with the bridge's MTU. Being one already is fine. */
int tap_host_bridge(const struct host *host, const char *ifname, const char *bridge,
		    struct err *err);
int tap_host_up(const struct host *host, const char *ifname, struct err *err);
/* A high address, or the bridge takes over its port's and its neighbours lose it for a while. */
void tap_host_hide_mac(const struct host *host, const char *ifname, const char *bridge);
/* Runs a set-user-id helper of qemu-bridge-helper's protocol; the TAP's descriptor. */
int tap_host_helper(const struct host *host, const char *helper, const char *bridge,
		    struct err *err);
int tap_host_name(int fd, char *ifname);

#endif
