/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mod_http.c: images on a web server, read only, through libcurl: ranges of the file are asked for,
 * with read-ahead in a small cache. libcurl opens its connections itself. Worker threads.
 */
#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "disk/node.h"
#include "vmm/base/iov.h"
#include "vmm/base/log.h"

#define PIECE (512 * KiB)		/* asked for at once */
#define PIECES 16			/* kept */
#define RETRIES 3

struct piece {
	uint64_t index, used;
	size_t len;
	uint8_t *data;
	bool busy;			/* being fetched */
	int ret;
};

struct http {
	pthread_mutex_t lock;
	pthread_cond_t done;
	struct piece piece[PIECES];
	CURL *idle[PIECES];
	int nidle;
	uint64_t clock;
};

struct sink { uint8_t *buf; size_t len, at; };

static size_t on_data(char *data, size_t size, size_t n, void *user)
{
	struct sink *s = user;

	n *= size;
	if (n > s->len - s->at)
		return 0;		/* more than was asked for: the server ignored the range */
	memcpy(s->buf + s->at, data, n);
	s->at += n;
	return n;
}

static CURL *easy_new(struct node *n)
{
	CURL *c = curl_easy_init();

	if (!c)
		return NULL;
	curl_easy_setopt(c, CURLOPT_URL, n->filename);
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
	curl_easy_setopt(c, CURLOPT_MAXREDIRS, 8L);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(c, CURLOPT_FAILONERROR, 1L);
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, 10L);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, 30L);
	curl_easy_setopt(c, CURLOPT_USERAGENT, "minivmm/" MINIVMM_VERSION);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_data);
	return c;
}

/* One range. Lock not held. */
static int fetch(struct node *n, uint8_t *buf, size_t len, uint64_t off)
{
	struct http *h = n->priv;
	struct sink s = { buf, len, 0 };
	CURL *c = NULL;
	CURLcode code = CURLE_FAILED_INIT;
	char range[64];

	pthread_mutex_lock(&h->lock);
	if (h->nidle)
		c = h->idle[--h->nidle];
	pthread_mutex_unlock(&h->lock);
	if (!c)
		c = easy_new(n);
	if (!c)
		return -ENOMEM;
	snprintf(range, sizeof(range), "%llu-%llu", (unsigned long long)off,
		 (unsigned long long)(off + len - 1));
	curl_easy_setopt(c, CURLOPT_RANGE, range);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, &s);
	for (int i = 0; i < RETRIES && (code != CURLE_OK || s.at != len); i++) {
		s.at = 0;
		code = curl_easy_perform(c);
	}
	if (code != CURLE_OK)
		log_error("%s: %s", n->filename, curl_easy_strerror(code));
	pthread_mutex_lock(&h->lock);
	if (h->nidle < PIECES)
		h->idle[h->nidle++] = c;
	else
		curl_easy_cleanup(c);
	pthread_mutex_unlock(&h->lock);
	return code == CURLE_OK && s.at == len ? 0 : -EIO;
}

/*
 * The piece with this index, fetched if need be; locked on return, NULL when all are being fetched.
 * Lock held.
 */
static struct piece *piece_get(struct node *n, uint64_t index, int *ret)
{
	struct http *h = n->priv;
	struct piece *p, *oldest;

	for (;;) {
		oldest = NULL;
		for (int i = 0; i < PIECES; i++) {
			p = &h->piece[i];
			if (p->data && p->index == index) {
				if (!p->busy) {
					*ret = p->ret;
					p->used = ++h->clock;
					return p;
				}
				goto wait;
			}
			if (!p->busy && (!oldest || p->used < oldest->used))
				oldest = p;
		}
		if (oldest)
			break;
wait:
		pthread_cond_wait(&h->done, &h->lock);
	}
	p = oldest;
	if (!p->data)
		p->data = malloc(PIECE);
	if (!p->data) {
		*ret = -ENOMEM;
		return NULL;
	}
	p->index = index;
	p->busy = true;
	p->len = MIN(PIECE, n->size - index * PIECE);
	pthread_mutex_unlock(&h->lock);
	*ret = fetch(n, p->data, p->len, index * PIECE);
	pthread_mutex_lock(&h->lock);
	p->busy = false;
	p->ret = *ret;
	p->used = ++h->clock;
	if (*ret < 0)
		p->index = UINT64_MAX;	/* ask again next time */
	pthread_cond_broadcast(&h->done);
	return p;
}

static int http_read(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len)
{
	struct http *h = n->priv;
	uint64_t at = 0;
	int ret = 0;

	pthread_mutex_lock(&h->lock);
	while (at < len && ret == 0) {
		uint64_t in = (off + at) % PIECE, part = MIN(len - at, PIECE - in);
		struct piece *p = piece_get(n, (off + at) / PIECE, &ret);

		if (ret == 0)
			iov_from_buf(iov, niov, at, p->data + in, part);
		at += part;
	}
	pthread_mutex_unlock(&h->lock);
	return ret;
}

/* Remembers whether the server said it serves ranges. */
static size_t on_header(char *data, size_t size, size_t n, void *user)
{
	static const char name[] = "accept-ranges:";

	n *= size;
	if (n > sizeof(name) && !strncasecmp(data, name, sizeof(name) - 1) &&
	    memmem(data, n, "bytes", 5))
		*(bool *)user = true;
	return n;
}

static int http_open(struct node *n, const struct blk_options *o, struct err *err)
{
	struct http *h;
	curl_off_t size = -1;
	bool ranges = false;
	CURLcode code;
	CURL *c;

	if (n->flags & BLK_RDWR)
		return err_set(err, EACCES, "%s: images on a web server are read only",
			       n->filename);
	c = easy_new(n);
	if (!c)
		return err_set(err, ENOMEM, "libcurl: no memory");
	curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, &ranges);
	code = curl_easy_perform(c);
	if (code == CURLE_OK)
		curl_easy_getinfo(c, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &size);
	curl_easy_cleanup(c);
	if (code != CURLE_OK)
		return err_set(err, EIO, "%s: %s", n->filename, curl_easy_strerror(code));
	if (size < 0)
		return err_set(err, EIO, "%s: the server does not say how large it is",
			       n->filename);
	if (!ranges)
		return err_set(err, ENOTSUP,
			       "%s: the server does not serve parts of a file (no 'Accept-Ranges: "
			       "bytes'): download it "
			       "first",
			       n->filename);
	h = xcalloc(1, sizeof(*h));
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->done, NULL);
	n->size = size;
	n->priv = h;
	return 0;
}

static void http_close(struct node *n)
{
	struct http *h = n->priv;

	for (int i = 0; i < PIECES; i++)
		free(h->piece[i].data);
	while (h->nidle)
		curl_easy_cleanup(h->idle[--h->nidle]);
	pthread_mutex_destroy(&h->lock);
	pthread_cond_destroy(&h->done);
	free(h);
	n->priv = NULL;
}

extern const struct node_ops http_node_ops;
const struct node_ops http_node_ops = {
	.format = "http", .open = http_open, .close = http_close, .read = http_read
};
