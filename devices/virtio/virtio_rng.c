/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio_rng.c: the entropy device (virtio 1.2, 5.4): the host kernel's random numbers. The
 * device's loop.
 */
#include <stdlib.h>
#include <sys/random.h>

#include "devices/virtio/virtio.h"
#include "vmm/base/limits.h"
#include "vmm/base/log.h"

#define QUEUE_SIZE 8
/* of one request: more is neither needed nor wanted on the loop */
#define MAX_BYTES 4096

static void kick(struct virtio_dev *v, unsigned q)
{
	struct virtq *vq = &v->queues[q];
	struct iovec iov[VIRTQ_MAX_IOV];
	uint8_t bytes[MAX_BYTES];
	struct virtq_elem e;

	do {
		virtq_kicks_off(vq);
		while (virtq_pop(vq, &e, iov, ARRAY_SIZE(iov)) == 1) {
			ssize_t got = getrandom(bytes, MIN(e.in_len, (uint64_t)MAX_BYTES), 0);

			got = iov_from_buf(e.iov + e.out_n, e.in_n, 0, bytes, MAX(got, 0));
			trace(TRACE_VIRTIO, e.id, v->id, "%zd random bytes", got);
			virtq_push(vq, &e, got);
		}
	} while (virtq_kicks_on(vq));
	explicit_bzero(bytes, sizeof(bytes));
	virtio_flush(v, q);
}

static void destroy(struct virtio_dev *v)
{
	virtio_exit(v);
	free(v);
}

static const struct virtio_ops virtio_rng_ops = {
	.name = "virtio-rng", .id = VIRTIO_ID_RNG, .class_code = 0x00ff00, .version = 1,
	.kick = kick, .destroy = destroy,
};

struct virtio_dev *virtio_rng_new(const char *id, struct loop *loop, struct mem *mem,
				  struct err *err)
{
	struct virtio_dev *v = xcalloc(1, sizeof(*v));

	virtio_init(v, &virtio_rng_ops, id, loop, mem, 1, QUEUE_SIZE, 0, 0);
	v->queues[0].turn_max = TURN_COMMANDS;
	return v;
}
