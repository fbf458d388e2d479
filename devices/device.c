/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * device.c: the life of any device: its node in a saved machine, its end.
 */
#include <errno.h>
#include <stdlib.h>

#include "devices/device.h"

int device_save(struct device *d, struct state_out *o)
{
	int ret = 0;

	state_begin(o, d->id);
	state_str(o, "name", d->ops->name);
	state_u32(o, "version", d->ops->version);
	if (d->ops->save)
		ret = d->ops->save(d, o);
	state_end(o);
	return ret;
}

int device_load(struct device *d, struct state_in *in)
{
	const char *name;
	uint32_t version;
	int ret;

	ret = state_enter(in, d->id);
	if (ret)
		return ret;
	state_get_str(in, "name", &name);
	state_get_u32(in, "version", &version);
	ret = state_in_error(in);
	if (!ret && strcmp(name, d->ops->name))
		ret = state_bad(in, "%s: a %s was saved, here is a %s", d->id, name, d->ops->name);
	if (!ret && version > d->ops->version)
		ret = state_bad(in,
				"%s: saved by a newer %s (version %u, this program knows up to %u)",
				d->id, name, version, d->ops->version);
	if (!ret && d->ops->load)
		ret = d->ops->load(d, in, version);
	state_leave(in);
	return ret ? ret : state_in_error(in);
}

void device_destroy(struct device *d)
{
	char *id;

	if (!d)
		return;
	id = d->id;
	d->ops->destroy(d);
	free(id);
}
