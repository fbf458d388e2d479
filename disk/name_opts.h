/* SPDX-License-Identifier: GPL-2.0-or-later */
/* name_opts.h: the options of one layer of a described image; for name.c alone. */
#ifndef DISK_NAME_OPTS_H
#define DISK_NAME_OPTS_H

#include "disk/name.h"

/*
 * A string, number or boolean among the options, as text, and it is removed; "a.b" lies in "a".
 * Free it. NULL: not there.
 */
char *name_take(struct json_t *o, const char *key);
/*
 * Takes all that the driver knows into n; what remains was not understood. 0, or -errno with the
 * reason.
 */
int name_take_options(struct json_t *o, const char *driver, struct image_name *n, struct err *err);

#endif
