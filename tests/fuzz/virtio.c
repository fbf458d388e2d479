/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: the virtio devices through registers, rings and configuration space. The input is a
 * program: which device and transport, then operations on registers, guest memory and time. A
 * working driver is set up first, so that the input bends something that runs; every operation is
 * one byte of code and a few of arguments.
 */
#include <linux/virtio_blk.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/net.h"
#include "tests/lib/testdisk.h"
#include "tests/lib/vdriver.h"

#define DEVFN PCI_DEVFN(3, 0)
#define MMIO_BASE 0xd0000000ull

struct input { const uint8_t *p; size_t len; };

static uint64_t take(struct input *in, unsigned n)
{
	uint64_t v = 0;

	while (n--) {
		v = v << 8 | (in->len ? *in->p : 0);
		if (in->len) {
			in->p++;
			in->len--;
		}
	}
	return v;
}

struct machine {
	struct guest *g;
	struct testdisk *disk;
	struct net *net;
	int wire;
	unsigned kind, transport;
	struct virtio_dev *v;
	struct device *dev;
	struct vdrv d;
};

static void build(struct machine *m)
{
	struct virtio_blk_config_opts bo = {
		.blk = m->disk->blk, .nqueues = 2, .queue_size = 16, .packed = true
	};
	struct virtio_net_opts no = { .net = m->net, .pairs = 1, .queue_size = 16, .packed = true };
	struct guest *g = m->g;

	switch (m->kind) {
	case 0: m->v = virtio_blk_new("fuzz", g->loop, g->mem, &bo, NULL); break;
	case 1: m->v = virtio_net_new("fuzz", g->loop, g->mem, &no, NULL); break;
	case 2: m->v = virtio_rng_new("fuzz", g->loop, g->mem, NULL); break;
	case 3: m->v = virtio_console_new("fuzz", g->loop, g->mem, NULL, NULL); break;
	default: m->v = virtio_balloon_new("fuzz", g->loop, g->mem, NULL);
	}
	m->dev = m->transport == V_MMIO ? virtio_mmio_new(g->mmio, MMIO_BASE,
							  irq_source(g->irqs, 5), NULL, m->v, NULL)
					: virtio_pci_new(g->pci, DEVFN, m->v, NULL);
}

static void destroy(struct machine *m)
{
	loop_lock(m->g->loop);
	device_destroy(m->dev);
	loop_unlock(m->g->loop);
}

/*
 * The device is saved, and the saved state bent at one place before it is loaded: refused, or
 * usable.
 */
static void save_and_load(struct machine *m, uint32_t at, uint8_t flip)
{
	uint8_t *blob;
	size_t len;

	guest_quiesce(m->g, m->dev);
	guest_save(m->dev, (void **)&blob, &len);
	blob[at % len] ^= flip;
	guest_load(m->dev, blob, len, NULL);
	loop_lock(m->g->loop);
	m->dev->ops->resume(m->dev);
	loop_unlock(m->g->loop);
	free(blob);
}

static void operate(struct machine *m, struct input *i)
{
	struct guest *g = m->g;
	struct dring *r = &m->d.rings[take(i, 1) % 3];
	struct bus *bus = m->transport == V_LEGACY ? g->pio : g->mmio;
	uint64_t off, size;

	switch (take(i, 1) % 12) {
	case 0:
	case 1:
		off = m->transport == V_LEGACY ? take(i, 1) % 64
		      : m->transport == V_MMIO ? take(i, 2) % 0x200
					       : take(i, 2) % 64 + 0x1000 * (take(i, 1) % 4);
		size = 1ull << take(i, 1) % 4;
		out(bus, m->d.base + off, size, take(i, size));
		in(bus, m->d.base + off, size);
		break;
	case 2:
		cfg_write(g, DEVFN, take(i, 1) & 0xfc, 4, take(i, 4));
		break;
	case 3:
	case 4:
		if (r->size)
			st_le64(guest_ptr(g, r->desc + take(i, 1) % (2 * r->size) * 8, 8),
				take(i, 8));
		break;
	case 5:
		if (r->size)
			st_le16(guest_ptr(g, r->avail + 2 * (take(i, 1) % (3 + r->size)), 2),
				take(i, 2));
		break;
	case 6:
		if (r->size)
			st_le16(guest_ptr(g, r->avail + 2, 2),
				ld_le16(guest_ptr(g, r->avail + 2, 2)) + take(i, 1) % 4);
		break;
	case 7:
		vdrv_notify(&m->d, take(i, 1) % 5);
		break;
	case 8:
		st_le64(guest_ptr(g, 2 * MiB + take(i, 2), 8), take(i, 8));
		break;
	case 9:
		if (m->wire >= 0 && send(m->wire, i->p, MIN(i->len, 1500u), MSG_DONTWAIT) < 0)
			guest_run(g, 0);
		break;
	case 10:
		off = take(i, 2);
		save_and_load(m, off, take(i, 1));
		break;
	default:
		guest_run(g, 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct machine m = { .g = guest_new(), .wire = -1 };
	struct input i = { data, len };
	uint64_t features;
	int pair[2];
	char spec[32];

	m.kind = take(&i, 1) % 5;
	m.transport = take(&i, 1) % 4;
	m.disk = testdisk_new(MiB, false);
	if (m.kind == 1 &&
	    socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0) {
		snprintf(spec, sizeof(spec), "socket,fd=%d", pair[0]);
		m.net = net_open("n0", spec, m.g->loop, &host_direct, NULL);
		m.wire = pair[1];
	}
	build(&m);
	vdrv_find(&m.d, m.g, m.transport, DEVFN, MMIO_BASE);
	features = take(&i, 4);
	if (take(&i, 1) & 1)
		features |= 1ull << VIRTIO_F_RING_PACKED;
	vdrv_negotiate(&m.d, features);
	for (unsigned q = 0; q < MIN(m.v->nqueues, 3u); q++) {
		struct dring *r = vdrv_queue(&m.d, q, 0);
		uint64_t at = 2 * MiB + 4096 * q;

		/* Something to chew on in each queue: 16 bytes out, 512 in, 1 in. */
		for (int k = 0; k < 3 && r->nfree >= 3; k++)
			vring_add(
				r,
				(struct vbuf[]){ { at, 16 }, { at + 512, 512 }, { at + 1500, 1 } },
				1, 2, r);
	}
	vdrv_start(&m.d);
	while (i.len)
		operate(&m, &i);
	guest_run(m.g, 0);
	guest_quiesce(m.g, m.dev);
	for (unsigned q = 0; q < m.v->nqueues; q++)
		if (m.v->queues[q].inflight != m.v->queues[q].held)
			abort();	/* quiet, and yet something is popped */
	/* Whatever happened: a reset brings it back. */
	loop_lock(m.g->loop);
	m.dev->ops->reset(m.dev);
	loop_unlock(m.g->loop);
	vdrv_free(&m.d);
	vdrv_find(&m.d, m.g, m.transport, DEVFN, MMIO_BASE);
	vdrv_negotiate(&m.d, 0);
	vdrv_start(&m.d);
	if (!(vdrv_status(&m.d) & VIRTIO_CONFIG_S_DRIVER_OK))
		abort();
	destroy(&m);
	vdrv_free(&m.d);
	if (m.net) {
		loop_lock(m.g->loop);
		net_close(m.net);
		loop_unlock(m.g->loop);
	}
	if (m.wire >= 0)
		close(m.wire);
	testdisk_free(m.disk);
	guest_free(m.g);
	return 0;
}
