/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * names.c: images named by a description. The first byte's lowest bit: a json: name, or the options
 * of --image-opts, one per line.
 */
#include <stdlib.h>
#include <string.h>

#include "disk/name.h"

enum { OPTIONS_MAX = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static char *from_options(char *text)
{
	const char *options[OPTIONS_MAX + 1] = { NULL };
	char *rest = text;

	for (int i = 0; i < OPTIONS_MAX && rest; i++)
		options[i] = strsep(&rest, "\n");
	return name_from_options(options, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct image_name n;
	struct err err = { 0 };
	char *text, *name;

	if (!len)
		return 0;
	text = xasprintf("%s%.*s", data[0] & 1 ? "" : "json:", (int)len - 1,
			 (const char *)data + 1);
	name = data[0] & 1 ? from_options(text) : xstrdup(text);
	if (name && !name_parse(name, &n, &err) && !n.filename)
		abort();		/* whoever opens it relies on one */
	if (name)
		name_free(&n);
	free(name);
	free(text);
	return 0;
}
