/* SPDX-License-Identifier: GPL-2.0-or-later */
/* testdisk.c: a disk in memory that can be slow and can fail. Any thread. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/lib/testdisk.h"

#define GET(x) __atomic_load_n(&(x), __ATOMIC_SEQ_CST)
#define ADD(x, n) __atomic_add_fetch(&(x), n, __ATOMIC_SEQ_CST)

static int enter(struct testdisk *t)
{
	unsigned now = ADD(t->running, 1), most = GET(t->max_running);

	while (now > most && !__atomic_compare_exchange_n(&t->max_running, &most, now, false,
							  __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
	if (GET(t->delay_us))
		usleep(GET(t->delay_us));
	if (GET(t->errors) == 0)
		return 0;
	if (GET(t->errors) > 0)
		ADD(t->errors, -1);
	return GET(t->error);
}

static int leave(struct testdisk *t, int ret)
{
	ADD(t->running, -1);
	return ret;
}

static int test_read(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len)
{
	struct testdisk *t = n->priv;
	int ret = enter(t);

	ADD(t->reads, 1);
	for (int i = 0; !ret && i < niov; i++) {
		memcpy(iov[i].iov_base, t->data + off, iov[i].iov_len);
		off += iov[i].iov_len;
	}
	return leave(t, ret);
}

static int test_write(struct node *n, uint64_t off, const struct iovec *iov, int niov, uint64_t len,
		      unsigned flags)
{
	struct testdisk *t = n->priv;
	int ret = enter(t);

	ADD(t->writes, 1);
	ADD(t->unstable, 1);
	for (int i = 0; !ret && i < niov; i++) {
		memcpy(t->data + off, iov[i].iov_base, iov[i].iov_len);
		off += iov[i].iov_len;
	}
	return leave(t, ret);
}

static int test_zeroes(struct node *n, uint64_t off, uint64_t len, unsigned flags)
{
	struct testdisk *t = n->priv;
	int ret = enter(t);

	ADD(t->zeroes, 1);
	if (!ret)
		memset(t->data + off, 0, len);
	return leave(t, ret);
}

static int test_discard(struct node *n, uint64_t off, uint64_t len)
{
	struct testdisk *t = n->priv;
	int ret = enter(t);

	ADD(t->discards, 1);
	if (!ret)
		memset(t->data + off, 0xdd, len);
	return leave(t, ret);
}

static int test_flush(struct node *n)
{
	struct testdisk *t = n->priv;
	int ret = enter(t);

	ADD(t->flushes, 1);
	if (!ret)
		__atomic_store_n(&t->unstable, 0, __ATOMIC_SEQ_CST);
	return leave(t, ret);
}

static int test_resize(struct node *n, uint64_t size, struct err *err)
{
	struct testdisk *t = n->priv;

	if (size > t->size)
		return err_set(err, ENOSPC, "test disk of %llu bytes", (unsigned long long)t->size);
	__atomic_store_n(&n->size, size, __ATOMIC_RELAXED);
	return 0;
}

static const struct node_ops test_ops = {
	.format = "test",
	.read = test_read,
	.write = test_write,
	.zeroes = test_zeroes,
	.discard = test_discard,
	.flush = test_flush,
	.resize = test_resize,
};

struct testdisk *testdisk_new(uint64_t size, bool readonly)
{
	struct blk_options o = { .flags = (readonly ? 0 : BLK_RDWR) | BLK_DISCARD_UNMAP };
	struct testdisk *t = xcalloc(1, sizeof(*t));
	struct node *n = xcalloc(1, sizeof(*n));

	t->size = size;
	t->data = xcalloc(1, size);
	n->ops = &test_ops;
	n->priv = t;
	n->filename = xstrdup("test disk");
	n->flags = o.flags;
	n->size = size;
	n->request_align = 1;
	n->refs = 1;
	n->fd = -1;
	t->blk = blk_new(n, &o);
	return t;
}

void testdisk_free(struct testdisk *t)
{
	blk_close(t->blk);
	free(t->data);
	free(t);
}
