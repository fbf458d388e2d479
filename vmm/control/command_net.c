/* SPDX-License-Identifier: GPL-2.0-or-later */
/* command_net.c: networks while they run: cables and receive filters. Main loop. */
#include <errno.h>
#include <stdlib.h>

#include "devices/virtio/virtio_net.h"
#include "vmm/control/command.h"

static bool is_virtio_net(const struct machine_device *d)
{
	return d->virtio && d->virtio->ops->id == VIRTIO_ID_NET;
}

static int run_set_link(struct machine *m, json_t *args, struct command_result *r)
{
	const char *name = json_string_value(json_object_get(args, "name"));
	bool up = json_is_true(json_object_get(args, "up"));
	struct machine_device *d = machine_find_device(m, name);
	struct net *n = machine_find_net(m, name);

	if (!n && d && device_backend(d->config))
		n = machine_find_net(m, device_backend(d->config));
	if (n)
		net_set_link(n, up);
	else if (d && is_virtio_net(d))
		virtio_net_set_link(d->virtio, up);
	else
		return err_set(&r->err, ENODEV, "Device '%s' not found", name);
	return 0;
}

/* --- query-rx-filter --- */

static json_t *mac_text(const uint8_t *m)
{
	return json_sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
}

static json_t *mac_list(const uint8_t (*macs)[MAC_LEN], unsigned n)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < n; i++)
		json_array_append_new(list, mac_text(macs[i]));
	return list;
}

static json_t *vlan_list(const struct net_filter *f)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < VLANS; i++)
		if (f->vlans[i / 8] >> (i % 8) & 1)
			json_array_append_new(list, json_integer(i));
	return list;
}

static const char *filter_state(bool none, bool all)
{
	return none ? "none" : all ? "all" : "normal";
}

static json_t *filter_object(struct machine_device *d)
{
	const uint8_t *mac;
	const struct net_filter *f = virtio_net_filter(d->virtio, &mac);
	bool vlans = virtio_has(d->virtio, VIRTIO_NET_F_CTRL_VLAN);

	return json_pack("{s:s,s:b,s:s,s:s,s:s,s:b,s:b,s:b,s:o,s:o,s:o,s:o}", "name", d->config->id,
			 "promiscuous", f->promisc, "multicast",
			 filter_state(f->nomulti, f->allmulti), "unicast",
			 filter_state(f->nouni, f->alluni), "vlan", filter_state(false, !vlans),
			 "broadcast-allowed", !f->nobcast, "multicast-overflow", f->multi_overflow,
			 "unicast-overflow", f->uni_overflow, "main-mac", mac_text(mac),
			 "vlan-table", vlans ? vlan_list(f) : json_array(), "unicast-table",
			 mac_list(f->uni, f->uni_count), "multicast-table",
			 mac_list(f->multi, f->multi_count));
}

/* The first change after somebody looked: one event, as the next look shows everything. */
static void filter_changed(void *ctx, struct virtio_dev *v)
{
	virtio_net_on_filter(v, NULL, NULL);
	event_emit("NIC_RX_FILTER_CHANGED", json_pack("{s:s,s:o}", "name", v->id, "path",
		   json_sprintf("/machine/peripheral/%s/virtio-backend", v->id)));
}

static int query_rx_filter(struct machine *m, json_t *args, struct command_result *r)
{
	const char *name = json_string_value(json_object_get(args, "name"));
	struct machine_device *d = name ? machine_find_device(m, name) : NULL;

	if (name && !d)
		return err_set(&r->err, ENOENT, "invalid net client name: %s", name);
	if (d && !is_virtio_net(d))
		return err_set(&r->err, ENOTSUP,
			       "net client(%s) doesn't support rx-filter querying", name);
	r->value = json_array();
	for (unsigned i = 0; i < m->ndevices; i++) {
		if (!is_virtio_net(&m->devices[i]) || (d && d != &m->devices[i]))
			continue;
		json_array_append_new(r->value, filter_object(&m->devices[i]));
		virtio_net_on_filter(m->devices[i].virtio, filter_changed, m);
	}
	return 0;
}

/* --- info network --- */

static void nic_lines(struct machine *m, const struct device_config *c, FILE *out)
{
	struct net *n = device_backend(c) ? machine_find_net(m, device_backend(c)) : NULL;
	const uint8_t *mac = ((struct prop_mac *)device_prop(c, PROP_MAC))->addr;
	struct net_stats s;
	char text[512];

	fprintf(out, "%s: index=0,type=nic,model=%s,macaddr=%02x:%02x:%02x:%02x:%02x:%02x\n", c->id,
		c->kind->name, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	if (!n)
		return;
	net_info(n, text, sizeof(text));
	net_get_stats(n, &s);
	fprintf(out, " \\ %s: index=0,type=%s%s\n", n->id, text, n->link_up ? "" : ",link=down");
	fprintf(out,
		"   to the guest: %lu packets, %lu bytes, %lu dropped; from it: %lu packets, %lu "
		"bytes, %lu dropped\n",
		s.rx_packets, s.rx_bytes, s.rx_dropped, s.tx_packets, s.tx_bytes, s.tx_dropped);
}

static int query_network(struct machine *m, json_t *args, struct command_result *r)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	for (unsigned i = 0; i < m->ndevices; i++) {
		const struct device_config *c = m->devices[i].config;

		if (c && device_is_nic(c))
			nic_lines(m, c, out);
	}
	r->value = command_text(out, &text, &len);
	return 0;
}

/* --- ports of the host --- */

static int query_usernet(struct machine *m, json_t *args, struct command_result *r)
{
	char *text = NULL, *some;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	for (unsigned i = 0; i < ARRAY_SIZE(m->nets); i++) {
		some = m->nets[i] ? net_connections(m->nets[i]) : NULL;
		if (some)
			fprintf(out, "Hub -1 (%s):\n%s", m->nets[i]->id, some);
		free(some);
	}
	r->value = command_text(out, &text, &len);
	return 0;
}

/*
 * "hostfwd_add tcp::2222-:22", or with the network's name before the rule where there are several.
 */
static int forward(struct machine *m, json_t *args, bool add, struct command_result *r)
{
	const char *first = json_string_value(json_object_get(args, "netdev_or_rule"));
	const char *rule = json_string_value(json_object_get(args, "rule"));
	struct net *n = rule ? machine_find_net(m, first) : NULL;

	if (rule && !n)
		return err_set(&r->err, ENOENT, "no network backend '%s' (info network)", first);
	for (unsigned i = 0; !rule && !n && i < ARRAY_SIZE(m->nets); i++)
		if (m->nets[i] && m->nets[i]->ops->forward)
			n = m->nets[i];
	if (!n)
		return err_set(&r->err, ENODEV,
			       "the machine has no network that forwards ports (-netdev user)");
	return net_forward(n, rule ? rule : first, add, &r->err);
}

static int run_hostfwd_add(struct machine *m, json_t *args, struct command_result *r)
{
	return forward(m, args, true, r);
}
static int run_hostfwd_remove(struct machine *m, json_t *args, struct command_result *r)
{
	return forward(m, args, false, r);
}

#define RULE { { "netdev_or_rule", ARG_STR, false }, { "rule", ARG_STR, true } }
const struct command commands_net[] = {
	{ "set_link",
	  "set_link",
	  "plug a network cable in or out",
	  run_set_link,
	  NULL,
	  COMMAND_FAST,
	  { { "name", ARG_STR, false }, { "up", ARG_BOOL, false } } },
	{ NULL,
	  "info network",
	  "the network cards, what they are connected to, and what went through",
	  query_network,
	  NULL,
	  COMMAND_FAST,
	  { { 0 } } },
	{ NULL,
	  "info usernet",
	  "connections and forwarded ports of user networks",
	  query_usernet,
	  NULL,
	  COMMAND_FAST,
	  { { 0 } } },
	{ NULL, "hostfwd_add", "forward a port of the host: [NETDEV] tcp:[HOST]:PORT-[GUEST]:PORT",
	  run_hostfwd_add, NULL, COMMAND_FAST, RULE },
	{ NULL, "hostfwd_remove", "no longer: [NETDEV] tcp:[HOST]:PORT", run_hostfwd_remove, NULL,
	  COMMAND_FAST, RULE },
	{ "query-rx-filter",
	  "info rx-filter",
	  "which frames the guest's drivers take",
	  query_rx_filter,
	  NULL,
	  COMMAND_FAST,
	  { { "name", ARG_STR, true } } },
	{ 0 },
};
