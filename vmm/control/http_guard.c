/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * http_guard.c: see http_guard.h. Nobody but a browser speaks so: no JSON, no command, no packet.
 */
#include <string.h>
#include <strings.h>

#include "vmm/base/util.h"
#include "vmm/control/http_guard.h"

#define TLS_HANDSHAKE 0x16

/* The line begins as a request line or a Host field does. */
static bool head_is_http(const struct http_guard *g)
{
	static const char *const starts[] = {
		"GET ",	   "POST ", "PUT ",	"HEAD ",  "OPTIONS ", "DELETE ",
		"CONNECT ", "TRACE ", "PATCH ", "PRI * ", "Host:",
	};

	for (size_t i = 0; i < ARRAY_SIZE(starts); i++) {
		size_t n = strlen(starts[i]);

		if (g->nhead >= n && !strncasecmp(g->head, starts[i], n))
			return true;
	}
	return false;
}

/* "... HTTP/1.1", at the line's end. */
static bool tail_is_http(const struct http_guard *g)
{
	return g->ntail >= 9 && !strncasecmp(g->tail + g->ntail - 9, " HTTP/", 6);
}

static void tail_add(struct http_guard *g, char c)
{
	if (g->ntail == sizeof(g->tail)) {
		memmove(g->tail, g->tail + 1, sizeof(g->tail) - 1);
		g->ntail--;
	}
	g->tail[g->ntail++] = c;
}

bool http_guard_sees(struct http_guard *g, const char *buf, size_t len)
{
	if (len && !g->any && buf[0] == TLS_HANDSHAKE)
		return true;
	g->any |= len > 0;
	for (size_t i = 0; i < len; i++) {
		if (buf[i] == '\n' || buf[i] == '\r') {
			if (tail_is_http(g))
				return true;
			g->nhead = g->ntail = 0;
			continue;
		}
		tail_add(g, buf[i]);
		if (g->nhead == sizeof(g->head) ||
		    (!g->nhead && (buf[i] == ' ' || buf[i] == '\t')))
			continue;
		g->head[g->nhead++] = buf[i];
		if (head_is_http(g))
			return true;
	}
	return false;
}
