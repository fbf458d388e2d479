/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * remote.c: nbd:// and http(s):// names. The code that speaks these protocols is in modules
 * (mod_nbd.c, mod_http.c), loaded when the first such name is opened; the node becomes the module's
 * from then on. Opening thread.
 */
#include <errno.h>

#include "disk/formats.h"

static bool nbd_match(const char *name)
{
	return !strncmp(name, "nbd:", 4) || !strncmp(name, "nbd+unix:", 9) ||
	       !strncmp(name, "nbds:", 5) || !strncmp(name, "nbds+unix:", 10);
}

static bool http_match(const char *name)
{
	return !strncmp(name, "http://", 7) || !strncmp(name, "https://", 8);
}

static int open_module(struct node *n, const struct blk_options *o, const char *module,
		       const char *symbol, struct err *err)
{
	const struct node_ops *ops = module_symbol(module, symbol, err);

	if (!ops)
		return -ENOENT;
	n->ops = ops;
	return ops->open(n, o, err);
}

static int nbd_open(struct node *n, const struct blk_options *o, struct err *err)
{
	return open_module(n, o, "nbd", "nbd_node_ops", err);
}

static int http_open(struct node *n, const struct blk_options *o, struct err *err)
{
	return open_module(n, o, "http", "http_node_ops", err);
}

const struct node_ops nbd_protocol = { .format = "nbd", .match = nbd_match, .open = nbd_open };
const struct node_ops http_protocol = { .format = "http", .match = http_match, .open = http_open };
