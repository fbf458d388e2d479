/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * http_guard.h: knows the beginning of an HTTP request in a control client's bytes. A web page can
 * make a browser send one to a port of this host, with lines of its own in the body; so where one
 * begins the connection ends, and nothing of what came is run.
 */
#ifndef VMM_CONTROL_HTTP_GUARD_H
#define VMM_CONTROL_HTTP_GUARD_H

#include <stdbool.h>
#include <stddef.h>

/* What is known of the line that has begun; all zero at first. */
struct http_guard {
	char head[16];			/* its first bytes, without leading blanks */
	char tail[10];			/* its last bytes */
	unsigned nhead, ntail;
	bool any;			/* a byte has come */
};

/*
 * The next bytes of the connection, as they come. True: they belong to an HTTP request (RFC 9112: a
 * request line, or a Host field; also the preface of HTTP/2) or to a TLS handshake.
 */
bool http_guard_sees(struct http_guard *g, const char *buf, size_t len);

#endif
