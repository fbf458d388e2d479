/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio_console.c: the console device (virtio 1.2, 5.3), one port. The device's loop, which is the
 * character device's.
 *
 * Nothing stays popped while the device is stopped: a chain that the host took only in part goes
 * back to the ring, and how much of it is gone is remembered (tx_done).
 */
#include <errno.h>
#include <linux/virtio_console.h>
#include <stdlib.h>

#include "devices/virtio/virtio.h"
#include "vmm/backends/chardev.h"
#include "vmm/base/limits.h"
#include "vmm/base/log.h"

#define QUEUE_SIZE 128
enum { RX, TX };

struct vcon {
	struct virtio_dev v;
	struct chardev *chr;		/* borrowed; NULL: output goes nowhere */
	struct virtio_console_config cfg;
	uint64_t tx_done;		/* bytes of the next chain that are written */
	bool tx_full;			/* waiting for writable() */
	bool tx_writing, tx_room;	/* writable() may also come while we write */
	bool rx_popped;			/* rx holds a chain */
	struct virtq_elem rx;
	struct iovec rx_iov[VIRTQ_MAX_IOV], tx_iov[VIRTQ_MAX_IOV];
};

static struct vcon *to_con(struct virtio_dev *v)
{
	return container_of(v, struct vcon, v);
}

static bool is_running(struct vcon *c)
{
	return __atomic_load_n(&c->v.running, __ATOMIC_ACQUIRE);
}

/* --- to the guest --- */

static bool rx_have(struct vcon *c)
{
	struct virtq *vq = &c->v.queues[RX];

	if (c->rx_popped)
		return true;
	if (!is_running(c))
		return false;
	do {
		virtq_kicks_off(vq);
		if (virtq_pop(vq, &c->rx, c->rx_iov, VIRTQ_MAX_IOV) == 1) {
			c->rx_popped = true;
			return true;
		}
	} while (virtq_kicks_on(vq));
	return false;
}

static size_t can_read(void *ctx)
{
	struct vcon *c = ctx;

	return rx_have(c) ? MAX(c->rx.in_len, (uint64_t)1) : 0;
}

static void read_input(void *ctx, const uint8_t *buf, size_t len)
{
	struct vcon *c = ctx;

	while (len && rx_have(c)) {
		size_t n = iov_from_buf(c->rx.iov + c->rx.out_n, c->rx.in_n, 0, buf, len);

		virtq_push(&c->v.queues[RX], &c->rx, n);
		c->rx_popped = false;
		buf += n;
		len -= n;
	}
	virtio_flush(&c->v, RX);
}

/* --- from the guest --- */

/*
 * False when the host takes no more for now, or this turn has copied its share: *full says which.
 */
static bool tx_write(struct vcon *c, const struct virtq_elem *e, bool *full)
{
	struct virtq *vq = &c->v.queues[TX];
	uint64_t skip = c->tx_done;

	for (int i = 0; i < e->out_n; i++) {
		uint64_t off = MIN(skip, e->iov[i].iov_len);

		skip -= off;
		while (off < e->iov[i].iov_len) {
			uint64_t left = MIN(e->iov[i].iov_len - off, TURN_BYTES / 16);
			size_t n = c->chr ? chardev_write(c->chr, (char *)e->iov[i].iov_base + off,
							  left)
					  : left;

			if (!n && c->tx_room)
				c->tx_room = false;
			else if (!n)
				return !(*full = true);
			off += n;
			c->tx_done += n;
			virtq_charge(vq, n);
			if (virtq_turn_over(vq) && c->tx_done < e->out_len)
				return *full = false;
		}
	}
	c->tx_done = 0;
	return true;
}

static void tx_kick(struct vcon *c)
{
	struct virtq *vq = &c->v.queues[TX];
	struct virtq_elem e;

	if (c->tx_full)
		return;
	do {
		virtq_kicks_off(vq);
		while (virtq_pop(vq, &e, c->tx_iov, VIRTQ_MAX_IOV) == 1) {
			bool all;

			c->tx_room = false;
			c->tx_writing = true;
			all = tx_write(c, &e, &c->tx_full);
			c->tx_writing = false;
			if (!all) {
				virtq_unpop(vq, &e);
				goto out;
			}
			trace(TRACE_VIRTIO, e.id, c->v.id, "wrote %llu bytes",
			      (unsigned long long)e.out_len);
			virtq_push(vq, &e, 0);
		}
	} while (virtq_kicks_on(vq));
out:
	virtio_flush(&c->v, TX);
}

static void writable(void *ctx)
{
	struct vcon *c = ctx;

	c->tx_full = false;
	c->tx_room = true;
	if (is_running(c) && !c->tx_writing)
		tx_kick(c);
}

static void kick(struct virtio_dev *v, unsigned q)
{
	struct vcon *c = to_con(v);

	if (q == TX)
		tx_kick(c);
	else if (c->chr)
		chardev_accept(c->chr);
}

/* --- life --- */

static uint64_t config_read(struct virtio_dev *v, uint32_t off, unsigned size)
{
	return virtio_bytes_read((const char *)&to_con(v)->cfg + off, 0, size);
}

/* 5.3.4: one character at a time, even before the driver has set anything up. */
static void config_write(struct virtio_dev *v, uint32_t off, unsigned size, uint64_t val)
{
	uint8_t ch = val;

	if (off == offsetof(struct virtio_console_config, emerg_wr) && to_con(v)->chr)
		chardev_write(to_con(v)->chr, &ch, 1);
}

static void stop(struct virtio_dev *v)
{
	struct vcon *c = to_con(v);

	if (c->rx_popped)
		virtq_unpop(&v->queues[RX], &c->rx);
	c->rx_popped = false;
	virtio_stopped(v);
}

static void resume(struct virtio_dev *v)
{
	/* The character device may have had room while nobody ran. */
	to_con(v)->tx_full = false;
}

static void reset(struct virtio_dev *v)
{
	to_con(v)->tx_done = 0;
	to_con(v)->tx_full = false;
}

static int save(struct virtio_dev *v, struct state_out *o)
{
	state_u64(o, "tx_done", to_con(v)->tx_done);
	return 0;
}

static int load(struct virtio_dev *v, struct state_in *in, uint32_t version)
{
	struct vcon *c = to_con(v);
	int ret = state_get_u64(in, "tx_done", &c->tx_done);

	if (!v->queues[TX].enabled)
		c->tx_done = 0;
	return ret;
}

static void destroy(struct virtio_dev *v)
{
	struct vcon *c = to_con(v);

	if (c->chr)
		chardev_set_user(c->chr, NULL, NULL);
	virtio_exit(v);
	free(c);
}

static const struct virtio_ops virtio_console_ops = {
	.name = "virtio-console",
	.id = VIRTIO_ID_CONSOLE,
	.class_code = 0x078000,
	.version = 1,
	.config_read = config_read,
	.config_write = config_write,
	.start = resume,
	.kick = kick,
	.stop = stop,
	.resume = resume,
	.reset = reset,
	.save = save,
	.load = load,
	.destroy = destroy,
};

static const struct chardev_user console_user = { .can_read = can_read,
						  .read = read_input,
						  .writable = writable };

struct virtio_dev *virtio_console_new(const char *id, struct loop *loop, struct mem *mem,
				      struct chardev *chr, struct err *err)
{
	struct vcon *c = xcalloc(1, sizeof(*c));

	virtio_init(&c->v, &virtio_console_ops, id, loop, mem, 2, QUEUE_SIZE,
		    1ull << VIRTIO_CONSOLE_F_EMERG_WRITE, sizeof(c->cfg));
	c->chr = chr;
	st_le16(&c->cfg.cols, 80);
	st_le16(&c->cfg.rows, 25);
	st_le32(&c->cfg.max_nr_ports, 1);
	if (chr)
		chardev_set_user(chr, &console_user, c);
	return &c->v;
}
