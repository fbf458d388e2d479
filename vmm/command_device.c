/* SPDX-License-Identifier: GPL-2.0-or-later */
/* command_device.c: devices while they run. Main loop. */
#include <errno.h>

#include "devices/virtio.h"
#include "vmm/command.h"

static int run_set_link(struct machine *m, json_t *args, struct command_result *r)
{
	const char *name = json_string_value(json_object_get(args, "name"));
	bool up = json_is_true(json_object_get(args, "up"));
	struct machine_device *d = machine_find_device(m, name);
	struct net *n = machine_find_net(m, name);

	if (!n && d && d->config->backend)
		n = machine_find_net(m, d->config->backend);
	if (n)
		net_set_link(n, up);
	else if (d && d->virtio && d->config->kind == DEV_VIRTIO_NET)
		virtio_net_set_link(d->virtio, up);
	else
		return err_set(&r->err, ENODEV, "Device '%s' not found", name);
	return 0;
}

const struct command commands_device[] = {
	{ "set_link", "set_link", "plug a network cable in or out", run_set_link, NULL, COMMAND_FAST,
	  { { "name", ARG_STR, false }, { "up", ARG_BOOL, false } } },
	{ 0 },
};
