/* SPDX-License-Identifier: GPL-2.0-or-later */
/* testnode.c: see testnode.h. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/lib/testnode.h"
#include "vmm/base/iov.h"

static void testnode_delay(struct testnode *t)
{
	if (t->delay_us)
		usleep(rand() % t->delay_us);
}

/* True when this operation is the one that fails. */
static bool due(struct testnode *t)
{
	return t->fail_at && --t->fail_at == 0 && (t->failed = true);
}

static void log_add(struct testnode *t, uint64_t off, uint64_t len, const void *data)
{
	if (!t->record)
		return;
	if (t->nlog == t->maxlog) {
		t->maxlog = MAX(t->maxlog * 2, (size_t)64);
		t->log = xrealloc(t->log, t->maxlog * sizeof(*t->log));
	}
	t->log[t->nlog] = (struct testnode_write){ off, len, NULL };
	if (data) {
		t->log[t->nlog].data = malloc(len);
		memcpy(t->log[t->nlog].data, data, len);
	}
	t->nlog++;
}

static void grow(uint8_t **buf, uint64_t *room, uint64_t len)
{
	if (len <= *room)
		return;
	*buf = xrealloc(*buf, len + MiB);
	memset(*buf + *room, 0, len + MiB - *room);
	*room = len + MiB;
}

static int tn_read(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len)
{
	struct testnode *t = n->priv;
	uint64_t inside;

	testnode_delay(t);
	pthread_mutex_lock(&t->lock);
	t->reads++;
	inside = off < t->now_len ? MIN(len, t->now_len - off) : 0;
	iov_from_buf(iov, niov, 0, t->now + off, inside);
	iov_zero(iov, niov, inside, len - inside);
	pthread_mutex_unlock(&t->lock);
	return 0;
}

static int tn_write(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len,
		    unsigned flags)
{
	struct testnode *t = n->priv;
	int ret = 0;

	if (t->hook)
		t->hook(t, false);
	testnode_delay(t);
	pthread_mutex_lock(&t->lock);
	t->writes++;
	if (due(t)) {
		ret = -t->fail_errno;
		len = t->fail_half ? len / 2 & ~511ull : 0;
	}
	if (len) {
		grow(&t->now, &t->room, off + len);
		iov_to_buf(iov, niov, 0, t->now + off, len);
		t->now_len = MAX(t->now_len, off + len);
		__atomic_store_n(&n->size, t->now_len, __ATOMIC_RELAXED);
		log_add(t, off, len, t->now + off);
	}
	pthread_mutex_unlock(&t->lock);
	return ret;
}

static int tn_flush(struct node *n)
{
	struct testnode *t = n->priv;
	int ret = 0;

	if (t->hook)
		t->hook(t, true);
	testnode_delay(t);
	pthread_mutex_lock(&t->lock);
	t->flushes++;
	if (due(t)) {
		ret = -t->fail_errno;
	} else {
		uint64_t room = t->durable_len;

		if (t->record) {
			grow(&t->durable, &room, t->now_len);
			for (size_t i = 0; i < t->nlog; i++) {
				struct testnode_write *w = &t->log[i];

				if (w->data)
					memcpy(t->durable + w->off, w->data,
					       MIN(w->len,
						   t->now_len > w->off ? t->now_len - w->off : 0));
				free(w->data);
			}
			if (t->now_len < t->durable_len)
				memset(t->durable + t->now_len, 0, t->durable_len - t->now_len);
			t->durable_len = t->now_len;
			t->durable = xrealloc(t->durable, t->now_len + 1);
		}
		t->nlog = 0;
	}
	pthread_mutex_unlock(&t->lock);
	return ret;
}

static int tn_resize(struct node *n, uint64_t size, struct err *err)
{
	struct testnode *t = n->priv;

	pthread_mutex_lock(&t->lock);
	grow(&t->now, &t->room, size);
	if (size < t->now_len)
		memset(t->now + size, 0, t->now_len - size);
	t->now_len = size;
	__atomic_store_n(&n->size, size, __ATOMIC_RELAXED);
	log_add(t, size, 0, NULL);
	pthread_mutex_unlock(&t->lock);
	return 0;
}

static void tn_close(struct node *n)
{
	struct testnode *t = n->priv;

	for (size_t i = 0; i < t->nlog; i++)
		free(t->log[i].data);
	free(t->log);
	free(t->now);
	free(t->durable);
	pthread_mutex_destroy(&t->lock);
	free(t);
	n->priv = NULL;
}

static int tn_reopen(struct node *n, bool rdwr, struct err *err)
{
	return 0;
}

static const struct node_ops testnode_ops = {
	.format = "test",
	.read = tn_read,
	.write = tn_write,
	.flush = tn_flush,
	.resize = tn_resize,
	.close = tn_close,
	.reopen = tn_reopen,
};

struct node *testnode_new(const void *content, uint64_t len, unsigned flags, struct testnode **tp)
{
	struct node *n = node_new(&testnode_ops, "test", NULL, flags);
	struct testnode *t = xcalloc(1, sizeof(*t));

	pthread_mutex_init(&t->lock, NULL);
	t->now = malloc(len + MiB);
	memcpy(t->now, content, len);
	memset(t->now + len, 0, MiB);
	t->room = len + MiB;
	t->durable = malloc(len + 1);
	memcpy(t->durable, content, len);
	t->now_len = t->durable_len = len;
	t->fail_errno = EIO;
	n->priv = t;
	n->size = len;
	*tp = t;
	return n;
}

uint8_t *testnode_crash(struct testnode *t, unsigned *seed, uint64_t *len)
{
	/* Drop all, take all, or choose for each: the ends are where mistakes like to be. */
	int style = rand_r(seed) % 8, odds = 1 + rand_r(seed) % 9;
	uint8_t *img;
	uint64_t end, room;

	pthread_mutex_lock(&t->lock);
	end = t->durable_len;
	room = MAX(t->now_len, end) + 1;
	for (size_t i = 0; i < t->nlog; i++)
		room = MAX(room, t->log[i].off + t->log[i].len + 1);
	img = calloc(1, room);
	memcpy(img, t->durable, t->durable_len);
	for (size_t i = 0; i < t->nlog; i++) {
		struct testnode_write *w = &t->log[i];
		int fate = style == 0 ? 0 : style == 1 ? 1 : rand_r(seed) % 10 < odds;

		if (!w->data) {
			if (fate) {
				if (w->off < end)
					memset(img + w->off, 0, end - w->off);
				end = w->off;
			}
			continue;
		}
		if (style > 1 && rand_r(seed) % 3 == 0) {
			/* Torn: each sector of the file for itself. */
			for (uint64_t at = w->off; at < w->off + w->len;) {
				uint64_t n = MIN(ALIGN_DOWN(at, 512ull) + 512, w->off + w->len) -
					     at;

				if (rand_r(seed) & 1) {
					memcpy(img + at, w->data + (at - w->off), n);
					end = MAX(end, at + n);
				}
				at += n;
			}
		} else if (fate) {
			memcpy(img + w->off, w->data, w->len);
			end = MAX(end, w->off + w->len);
		}
	}
	pthread_mutex_unlock(&t->lock);
	*len = end;
	return img;
}
