/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * throttle.c: limits in bytes and requests a second, one leaky bucket for each. A bucket is kept as
 * the time at which it will be empty; a request may go while that is less than the bucket's depth
 * away, depth being what a burst may bring, in nanoseconds at the long-run rate. A burst that lasts
 * has a second bucket, which leaks at the burst's own rate. Any thread; the front's lock.
 */
#include <errno.h>

#include "disk/front.h"

#define SHORT_BURST	(NS_PER_SEC / 10)
/* three years: sums of these times do not overflow, and no limit means more */
#define NS_MAX		1e17

const char *const blk_limit_names[LIMITS] = { "bps",  "bps_rd",	 "bps_wr",
					      "iops", "iops_rd", "iops_wr" };

static bool limit_applies(int i, enum blk_op op)
{
	if (i == LIMIT_BPS_RD || i == LIMIT_IOPS_RD)
		return op == BLK_READ;
	if (i == LIMIT_BPS_WR || i == LIMIT_IOPS_WR)
		return op != BLK_READ;
	return true;
}

/* How long units take at a rate. */
static int64_t duration(double units, uint64_t rate)
{
	return (int64_t)MIN(units * NS_PER_SEC / rate, NS_MAX);
}

static int64_t depth(const struct blk_limit *l)
{
	if (!l->max)
		return SHORT_BURST;
	return duration((double)l->max * MAX(l->length, 1), l->rate);
}

/* What a request of len bytes counts for limit i: bytes, or requests. */
static double cost(const struct blk_throttle *t, int i, uint64_t len)
{
	if (i < LIMIT_IOPS)
		return len;
	return t->iops_size && len > t->iops_size ? (double)len / t->iops_size : 1;
}

static void pour(int64_t *due, int64_t now, double units, uint64_t rate)
{
	*due = MAX(*due, now) + duration(units, rate);
}

int64_t throttle_take(struct blk *b, enum blk_op op, uint64_t len)
{
	const struct blk_throttle *t = &b->throttle;
	int64_t now = now_ns(), wait = 0;

	if (!__atomic_load_n(&b->throttled, __ATOMIC_RELAXED) || op == BLK_FLUSH)
		return 0;
	pthread_mutex_lock(&b->lock);
	for (int i = 0; i < LIMITS; i++) {
		const struct blk_limit *l = &t->limit[i];

		if (!l->rate || !limit_applies(i, op))
			continue;
		wait = MAX(wait, b->buckets[i].due - depth(l));
		if (l->length > 1)
			wait = MAX(wait, b->buckets[i].peak_due - SHORT_BURST);
	}
	if (wait <= now) {
		wait = 0;
		for (int i = 0; i < LIMITS; i++) {
			const struct blk_limit *l = &t->limit[i];

			if (!l->rate || !limit_applies(i, op))
				continue;
			pour(&b->buckets[i].due, now, cost(t, i, len), l->rate);
			if (l->length > 1)
				pour(&b->buckets[i].peak_due, now, cost(t, i, len), l->max);
		}
	}
	pthread_mutex_unlock(&b->lock);
	return wait;
}

static int check_limit(const struct blk_limit *l, const char *name, struct err *err)
{
	if (l->rate > BLK_LIMIT_MAX || l->max > BLK_LIMIT_MAX)
		return err_set(err, EINVAL, "bps/iops/max values must be within [0, %llu]: %s",
			       BLK_LIMIT_MAX, name);
	if (l->max && !l->rate)
		return err_set(err, EINVAL,
			       "%s_max needs %s beside it: what the speed is after the burst", name,
			       name);
	if (l->max && l->max < l->rate)
		return err_set(err, EINVAL, "%s_max cannot be less than %s", name, name);
	if (l->length && !l->max)
		return err_set(err, EINVAL, "%s_max_length needs %s_max beside it", name, name);
	if (l->length && l->max > BLK_LIMIT_MAX / l->length)
		return err_set(err, EINVAL, "%s_max_length is too long for a burst of %llu", name,
			       (unsigned long long)l->max);
	return 0;
}

int blk_throttle_check(const struct blk_throttle *t, struct err *err)
{
	for (int i = 0; i < LIMITS; i++)
		if (check_limit(&t->limit[i], blk_limit_names[i], err) < 0)
			return -EINVAL;
	for (int i = 0; i < LIMITS; i += LIMIT_IOPS)
		if (t->limit[i].rate && (t->limit[i + 1].rate || t->limit[i + 2].rate))
			return err_set(err, EINVAL,
				       "bps/iops/max total values and read/write values cannot be "
				       "used at the same time");
	if (t->iops_size && !t->limit[LIMIT_IOPS].rate && !t->limit[LIMIT_IOPS_RD].rate &&
	    !t->limit[LIMIT_IOPS_WR].rate)
		return err_set(err, EINVAL, "iops_size needs iops, iops_rd or iops_wr beside it");
	return 0;
}

void blk_set_throttle(struct blk *b, const struct blk_throttle *t)
{
	bool any = false;

	for (int i = 0; i < LIMITS; i++)
		any |= t->limit[i].rate != 0;
	pthread_mutex_lock(&b->lock);
	b->throttle = *t;
	memset(b->buckets, 0, sizeof(b->buckets));
	__atomic_store_n(&b->throttled, any, __ATOMIC_RELAXED);
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
