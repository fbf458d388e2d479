/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mod_nbd.c: network block devices through libnbd: nbd://HOST[:PORT]/EXPORT,
 * nbd+unix:///EXPORT?socket=PATH, nbds:// with TLS, and QEMU's older
 * nbd:HOST:PORT[:exportname=NAME] and nbd:unix:PATH[:exportname=NAME]. One libnbd handle serves one
 * thread at a time; more are connected as workers need them, if the server allows that. Worker
 * threads.
 */
#include <errno.h>
#include <libnbd.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "disk/node.h"
#include "vmm/base/iov.h"

#define HANDLES_MAX 4
#define CHUNK (32 * MiB)		/* the protocol's usual limit of one request */

struct nbd_remote {
	char address[1024], export[4096];
	bool tls, multi, read_only;
	const struct host *host;
	pthread_mutex_t lock;
	pthread_cond_t freed;
	struct nbd_handle *idle[HANDLES_MAX];
	int nidle, nopen;
};

static int hex(char c)
{
	return c >= '0' && c <= '9'		    ? c - '0'
	       : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
						    : -1;
}

/* %41 -> A, into dst. */
static int unescape(char *dst, size_t room, const char *s, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		int c = (unsigned char)s[i];

		if (c == '%' && i + 2 < len && hex(s[i + 1]) >= 0 && hex(s[i + 2]) >= 0) {
			c = hex(s[i + 1]) * 16 + hex(s[i + 2]);
			i += 2;
		}
		if (n + 1 >= room || !c)
			return -ENAMETOOLONG;
		dst[n++] = c;
	}
	dst[n] = 0;
	return 0;
}

/* scheme://authority/export?socket=path */
static int parse_uri(struct nbd_remote *r, const char *name, struct err *err)
{
	const char *p = strstr(name, "://"), *slash, *query, *socket;
	bool is_unix = p && (size_t)(p - name) >= 5 && !strncmp(p - 5, "+unix", 5);
	char text[1024];

	if (!p)
		return err_set(
			err, EINVAL,
			"'%s': expected nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH",
			name);
	r->tls = !strncmp(name, "nbds", 4);
	p += 3;
	slash = p + strcspn(p, "/?");
	query = slash + strcspn(slash, "?");
	if (*slash == '/' && unescape(r->export, sizeof(r->export), slash + 1, query - slash - 1))
		return err_set(err, EINVAL, "'%s': the export's name is too long", name);
	if (is_unix) {
		socket = *query ? strstr(query, "socket=") : NULL;
		if (!socket || unescape(text, sizeof(text), socket + 7, strcspn(socket + 7, "&")))
			return err_set(err, EINVAL, "'%s': it needs ?socket=PATH", name);
		snprintf(r->address, sizeof(r->address), "unix:%.1000s", text);
		return 0;
	}
	if (slash == p)
		return err_set(err, EINVAL, "'%s': it names no host", name);
	if (unescape(text, sizeof(text), p, slash - p))
		return err_set(err, EINVAL, "'%s': the host's name is too long", name);
	p = strrchr(text, ':');
	snprintf(r->address, sizeof(r->address), "tcp:%.1000s%s", text,
		 p && !strchr(p, ']') ? "" : ":10809");
	return 0;
}

/* nbd:HOST:PORT[:exportname=NAME], nbd:unix:PATH[:exportname=NAME] */
static int parse_old(struct nbd_remote *r, const char *name, struct err *err)
{
	const char *p = name + 4, *export = strstr(p, ":exportname=");
	int len = export ? (int)(export - p) : (int)strlen(p);

	if (export)
		snprintf(r->export, sizeof(r->export), "%s", export + 12);
	if (!strncmp(p, "unix:", 5))
		snprintf(r->address, sizeof(r->address), "%.*s", MIN(len, 1000), p);
	else if (memchr(p, ':', len))
		snprintf(r->address, sizeof(r->address), "tcp:%.*s", MIN(len, 1000), p);
	else
		return err_set(err, EINVAL, "'%s': expected nbd:HOST:PORT or nbd:unix:PATH", name);
	return 0;
}

static struct nbd_handle *handle_new(struct nbd_remote *r, struct err *err)
{
	struct nbd_handle *h = nbd_create();
	int fd;

	if (!h) {
		err_set(err, ENOMEM, "libnbd: %s", nbd_get_error());
		return NULL;
	}
	nbd_set_export_name(h, r->export);
	nbd_add_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION);
	if (r->tls)
		nbd_set_tls(h, LIBNBD_TLS_REQUIRE);
	fd = host_connect(r->host, "NBD server", r->address, err);
	if (fd < 0) {
		nbd_close(h);
		return NULL;
	}
	/* The handle owns the descriptor from here on. */
	if (nbd_connect_socket(h, fd) < 0) {
		err_set(err, EIO, "%s: %s", r->address, nbd_get_error());
		nbd_close(h);
		return NULL;
	}
	return h;
}

static struct nbd_handle *handle_get(struct nbd_remote *r)
{
	struct nbd_handle *h = NULL;

	pthread_mutex_lock(&r->lock);
	while (!r->nidle && (!r->multi || r->nopen == HANDLES_MAX) && r->nopen)
		pthread_cond_wait(&r->freed, &r->lock);
	if (r->nidle) {
		h = r->idle[--r->nidle];
		pthread_mutex_unlock(&r->lock);
		return h;
	}
	r->nopen++;
	pthread_mutex_unlock(&r->lock);
	h = handle_new(r, NULL);
	if (!h) {
		pthread_mutex_lock(&r->lock);
		r->nopen--;
		pthread_cond_broadcast(&r->freed);
		pthread_mutex_unlock(&r->lock);
	}
	return h;
}

static void handle_put(struct nbd_remote *r, struct nbd_handle *h)
{
	pthread_mutex_lock(&r->lock);
	if (nbd_aio_is_dead(h) || nbd_aio_is_closed(h)) {
		nbd_close(h);		/* the next request connects anew */
		r->nopen--;
	} else {
		r->idle[r->nidle++] = h;
	}
	pthread_cond_signal(&r->freed);
	pthread_mutex_unlock(&r->lock);
}

static int last_error(void)
{
	int e = nbd_get_errno();

	return e > 0 ? -e : -EIO;
}

static int remote_open(struct node *n, const struct blk_options *o, struct err *err)
{
	struct nbd_remote *r = xcalloc(1, sizeof(*r));
	struct nbd_handle *h = NULL;
	int64_t size;
	int ret;

	r->host = n->host;
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->freed, NULL);
	ret = strstr(n->filename, "://") ? parse_uri(r, n->filename, err)
					 : parse_old(r, n->filename, err);
	if (ret == 0) {
		h = handle_new(r, err);
		ret = h ? 0 : -EIO;
	}
	if (ret < 0)
		goto fail;
	size = nbd_get_size(h);
	if (size < 0) {
		ret = err_set(err, EIO, "%s: %s", n->filename, nbd_get_error());
		goto fail;
	}
	r->read_only = nbd_is_read_only(h) != 0;
	if (r->read_only && n->flags & BLK_RDWR) {
		ret = err_set(err, EACCES, "%s: the server offers it for reading only",
			      n->filename);
		goto fail;
	}
	r->multi = nbd_can_multi_conn(h) == 1;
	r->idle[r->nidle++] = h;
	r->nopen = 1;
	n->size = size;
	n->priv = r;
	return 0;
fail:
	if (h)
		nbd_close(h);
	free(r);
	return ret;
}

static void remote_close(struct node *n)
{
	struct nbd_remote *r = n->priv;

	while (r->nidle) {
		struct nbd_handle *h = r->idle[--r->nidle];

		nbd_shutdown(h, 0);
		nbd_close(h);
	}
	pthread_mutex_destroy(&r->lock);
	pthread_cond_destroy(&r->freed);
	free(r);
	n->priv = NULL;
}

enum remote_op { REMOTE_READ, REMOTE_WRITE, REMOTE_ZERO, REMOTE_TRIM };

static int transfer(struct nbd_remote *r, enum remote_op op, void *buf, uint64_t off, uint64_t len)
{
	struct nbd_handle *h = handle_get(r);
	int ret = h ? 0 : -EIO;

	while (len && ret == 0) {
		uint64_t part = MIN(len, CHUNK);
		int e = -1;

		switch (op) {
		case REMOTE_READ:
			e = nbd_pread(h, buf, part, off, 0);
			break;
		case REMOTE_WRITE:
			e = nbd_pwrite(h, buf, part, off, 0);
			break;
		case REMOTE_ZERO:
			e = nbd_zero(h, part, off, 0);
			break;
		case REMOTE_TRIM:
			e = nbd_trim(h, part, off, 0);
			break;
		}
		if (e < 0)
			ret = last_error();
		off += part;
		len -= part;
		buf = buf ? (char *)buf + part : NULL;
	}
	if (h)
		handle_put(r, h);
	return ret;
}

static int transfer_iov(struct node *n, enum remote_op op, uint64_t off, const struct iovec *iov,
			int niov)
{
	int ret = 0;

	for (int i = 0; i < niov && ret == 0; i++) {
		ret = transfer(n->priv, op, iov[i].iov_base, off, iov[i].iov_len);
		off += iov[i].iov_len;
	}
	return ret;
}

static int remote_read(struct node *n, uint64_t off, const struct iovec *iov, int niov,
		       uint64_t len)
{
	return transfer_iov(n, REMOTE_READ, off, iov, niov);
}

static int remote_write(struct node *n, uint64_t off, const struct iovec *iov, int niov,
			uint64_t len, unsigned flags)
{
	return range_ok(off, len, n->size) ? transfer_iov(n, REMOTE_WRITE, off, iov, niov)
					   : -ENOSPC;
}

static int remote_can(struct nbd_remote *r, int (*can)(struct nbd_handle *h))
{
	struct nbd_handle *h = handle_get(r);
	int yes = h ? can(h) == 1 : 0;

	if (h)
		handle_put(r, h);
	return yes;
}

static int remote_zeroes(struct node *n, uint64_t off, uint64_t len, unsigned flags)
{
	if (!remote_can(n->priv, nbd_can_zero))
		return -ENOTSUP;
	return transfer(n->priv, REMOTE_ZERO, NULL, off, len);
}

static int remote_discard(struct node *n, uint64_t off, uint64_t len)
{
	return remote_can(n->priv, nbd_can_trim) ? transfer(n->priv, REMOTE_TRIM, NULL, off, len)
						 : 0;
}

static int remote_flush(struct node *n)
{
	struct nbd_remote *r = n->priv;
	struct nbd_handle *h = handle_get(r);
	int ret = h ? 0 : -EIO;

	if (h && nbd_can_flush(h) == 1 && nbd_flush(h, 0) < 0)
		ret = last_error();
	if (h)
		handle_put(r, h);
	return ret;
}

/* The first answers about a range, joined while they say the same. */
struct status { uint64_t len; uint32_t flags; bool first, done; };

static int on_extent(void *user, const char *context, uint64_t off, uint32_t *entries, size_t n,
		     int *error)
{
	struct status *s = user;

	for (size_t i = 0; i + 1 < n && !s->done; i += 2) {
		if (!s->first && entries[i + 1] != s->flags) {
			s->done = true;
			break;
		}
		s->first = false;
		s->flags = entries[i + 1];
		s->len += entries[i];
	}
	return 0;
}

static int remote_extent(struct node *n, uint64_t off, uint64_t len, struct extent *e)
{
	struct nbd_remote *r = n->priv;
	struct nbd_handle *h = handle_get(r);
	struct status s = { .first = true };

	*e = (struct extent){ .len = len,
			      .flags = EXT_DATA | EXT_ALLOCATED | EXT_OFFSET,
			      .file = n,
			      .file_off = off };
	if (!h)
		return -EIO;
	if (nbd_can_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1 &&
	    nbd_block_status(h, MIN(len, GiB), off,
			     (nbd_extent_callback){ .callback = on_extent, .user_data = &s },
			     0) == 0 &&
	    s.len) {
		e->len = MIN(len, s.len);
		if (s.flags & LIBNBD_STATE_ZERO)
			e->flags |= EXT_ZERO;
		if (s.flags & LIBNBD_STATE_HOLE)
			e->flags &= ~EXT_DATA;
	}
	handle_put(r, h);
	return 0;
}

extern const struct node_ops nbd_node_ops;
const struct node_ops nbd_node_ops = {
	.format = "nbd",
	.open = remote_open,
	.close = remote_close,
	.read = remote_read,
	.write = remote_write,
	.zeroes = remote_zeroes,
	.discard = remote_discard,
	.flush = remote_flush,
	.extent = remote_extent,
};
