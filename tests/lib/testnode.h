/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * testnode.h: a file in memory below a format, that fails, delays and forgets on request. It keeps
 * what is durable and what was written since the last flush apart, so that a test can ask what a
 * power cut would leave: each unflushed write applied, dropped, or torn at 512-byte sectors.
 */
#ifndef TESTS_TESTNODE_H
#define TESTS_TESTNODE_H

#include <pthread.h>

#include "disk/node.h"

/* data NULL: the length becomes off */
struct testnode_write { uint64_t off, len; uint8_t *data; };
struct testnode {
	pthread_mutex_t lock;
	uint8_t *now, *durable;
	uint64_t now_len, durable_len, room;
	struct testnode_write *log;
	size_t nlog, maxlog;
	bool record;			/* keep the log (costs memory) */
	/* Before each write or flush; with no lock held. */
	void (*hook)(struct testnode *t, bool flush);
	void *ctx;
	/*
	 * The fail_at-th write or flush from now fails once with fail_errno; fail_half: half of a
	 * write is done before.
	 */
	unsigned fail_at;
	int fail_errno;
	bool fail_half, failed;
	unsigned delay_us;		/* up to so much before each operation, at random */
	uint64_t reads, writes, flushes;
};

/* The node takes a copy of the content; *t is valid while the node is. */
struct node *testnode_new(const void *content, uint64_t len, unsigned flags, struct testnode **t);
/* The file after a power cut now. malloc()ed. */
uint8_t *testnode_crash(struct testnode *t, unsigned *seed, uint64_t *len);

#endif
