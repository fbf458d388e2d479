/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * findings.c: what a check has to say, line by line. One wrong byte can make millions of clusters
 * wrong: the first lines of each kind are told, the rest are counted.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "disk/node.h"

void node_check_say(struct node_check *c, const char *fmt, ...)
{
	char line[300];
	unsigned i = 0;
	va_list ap;

	while (i < CHECK_KINDS - 1 && c->kinds[i].fmt && c->kinds[i].fmt != fmt)
		i++;
	/* The last place is shared by all kinds that found no place of their own. */
	c->kinds[i].fmt = fmt;
	if (c->kinds[i].lines++ >= CHECK_LINES || !c->report)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	c->report(c->ctx, line);
}

static void say_rest(struct node_check *c)
{
	for (unsigned i = 0; i < CHECK_KINDS && c->kinds[i].fmt; i++) {
		const char *fmt = c->kinds[i].fmt;
		uint64_t lines = c->kinds[i].lines;
		char line[300];

		c->kinds[i].fmt = NULL;
		c->kinds[i].lines = 0;
		if (lines <= CHECK_LINES || !c->report)
			continue;
		snprintf(line, sizeof(line), "%.*s...: %llu more of this kind",
			 (int)strcspn(fmt, "%"), fmt, (unsigned long long)(lines - CHECK_LINES));
		c->report(c->ctx, line);
	}
}

int node_check(struct node *n, struct node_check *c, unsigned fix)
{
	int ret = n->ops->check ? n->ops->check(n, c, fix) : -ENOTSUP;

	say_rest(c);
	return ret;
}
