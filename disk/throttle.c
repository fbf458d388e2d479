/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * throttle.c: limits in bytes and requests a second, one leaky bucket for each. A bucket is kept as the time at
 * which it will be empty; a request may go while that is less than BURST away. Any thread; the front's lock.
 */
#include "disk/front.h"

enum { BURST_MS = 100 };

static uint64_t limit_rate(const struct blk_throttle *t, int i)
{
	const uint64_t rates[LIMITS] = { t->bps, t->bps_rd, t->bps_wr, t->iops, t->iops_rd, t->iops_wr };

	return rates[i];
}

static bool limit_applies(int i, enum blk_op op)
{
	if (i == LIMIT_BPS_RD || i == LIMIT_IOPS_RD)
		return op == BLK_READ;
	if (i == LIMIT_BPS_WR || i == LIMIT_IOPS_WR)
		return op != BLK_READ;
	return true;
}

int64_t throttle_take(struct blk *b, enum blk_op op, uint64_t len)
{
	int64_t now = now_ns(), wait = 0;

	if (!__atomic_load_n(&b->throttled, __ATOMIC_RELAXED) || op == BLK_FLUSH)
		return 0;
	pthread_mutex_lock(&b->lock);
	for (int i = 0; i < LIMITS; i++)
		if (limit_rate(&b->throttle, i) && limit_applies(i, op))
			wait = MAX(wait, b->due[i] - BURST_MS * NS_PER_MS);
	if (wait <= now) {
		wait = 0;
		for (int i = 0; i < LIMITS; i++) {
			uint64_t rate = limit_rate(&b->throttle, i), cost = i < LIMIT_IOPS ? len : 1;

			if (rate && limit_applies(i, op))
				b->due[i] = MAX(b->due[i], now) + (int64_t)((double)cost * NS_PER_SEC / rate);
		}
	}
	pthread_mutex_unlock(&b->lock);
	return wait;
}

void blk_set_throttle(struct blk *b, const struct blk_throttle *t)
{
	pthread_mutex_lock(&b->lock);
	b->throttle = *t;
	memset(b->due, 0, sizeof(b->due));
	__atomic_store_n(&b->throttled, t->bps || t->bps_rd || t->bps_wr || t->iops || t->iops_rd || t->iops_wr,
			 __ATOMIC_RELAXED);
	/* Those held back under the old limits look again. */
	for (struct blk_queue *q = b->queues; q; q = q->next)
		queue_wake(q);
	pthread_mutex_unlock(&b->lock);
}

void blk_get_throttle(struct blk *b, struct blk_throttle *t)
{
	pthread_mutex_lock(&b->lock);
	*t = b->throttle;
	pthread_mutex_unlock(&b->lock);
}
