/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * device.c: what all devices share: the node a device's registers are saved in, and its end.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/device.h"

int device_save(struct device *d, struct state_out *o)
{
	int ret;

	state_begin(o, d->id);
	state_str(o, "device", d->ops->name);
	state_u32(o, "version", d->ops->version);
	ret = d->ops->save ? d->ops->save(d, o) : 0;
	state_end(o);
	return ret;
}

static int load_registers(struct device *d, struct state_in *in)
{
	const char *name;
	uint32_t version;

	if (state_get_str(in, "device", &name) < 0 || state_get_u32(in, "version", &version) < 0)
		return -EINVAL;
	if (strcmp(name, d->ops->name))
		return state_bad(in, "%s is a %s in the saved machine and a %s here", d->id, name, d->ops->name);
	if (version > d->ops->version)
		return state_bad(in, "%s (%s) was saved as version %u; this program knows up to %u: use a newer minivmm",
				 d->id, name, version, d->ops->version);
	if (d->ops->load) {
		int ret = d->ops->load(d, in, version);

		if (ret < 0)
			return ret;
	}
	return state_in_error(in);
}

int device_load(struct device *d, struct state_in *in)
{
	int ret = state_enter(in, d->id);

	if (ret < 0)
		return ret;
	ret = load_registers(d, in);
	state_leave(in);
	return ret;
}

void device_destroy(struct device *d)
{
	char *id;

	if (!d)
		return;
	id = d->id;		/* destroy frees the structure around d, and may still name the device */
	d->ops->destroy(d);
	free(id);
}
