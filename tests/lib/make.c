/* SPDX-License-Identifier: GPL-2.0-or-later */
/* make.c: a device from its row, without a machine. */
#include <stdlib.h>

#include "tests/lib/guest.h"

struct entry { const struct device_kind *kind; struct device_config *d; };

static int take(struct keyval *kv, void *ctx, struct err *err)
{
	struct entry *e = ctx;

	return props_take(e->kind->props, e->d, kv, err);
}

struct device *guest_make(struct guest *g, const struct device_kind *k, const char *props,
			  struct err *err)
{
	const struct board b = { g->pio, g->mmio, g->mem, g->irqs, g->vm, g->clock, g->loop,
				 g->pci };
	struct entry e = { k, xcalloc(1, k->size) };
	struct device *dev = NULL;

	*e.d = (struct device_config){ .kind = k, .id = xasprintf("%s0", k->name), .vlan = -1 };
	props_init(k->props, e.d);
	if (keyval_use(props, NULL, take, &e, err) == 0)
		dev = k->make(&b, e.d, err);
	props_free(k->props, e.d);
	free(e.d->id);
	free(e.d);
	return dev;
}
