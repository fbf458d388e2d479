/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio.c: what all virtio devices and both transports share (virtio 1.2, chapter 2 and 3): the
 * status register, feature negotiation, starting, stopping and resetting, doorbells, saving.
 *
 * Control (status, features, queue registers) runs with the lock of the device's loop. A kick
 * arrives on the queue's own loop by an eventfd, whether KVM signalled it without an exit or the
 * register's callback did. Stopping clears `running`, passes once through each queue loop's lock,
 * and from then on no kick reaches the device.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/virtio/virtio.h"
#include "vmm/base/log.h"

/*
 * Something is so wrong that the device stops: DEVICE_NEEDS_RESET, the driver is told, a line in
 * the log.
 */
static void virtio_needs_reset(struct virtio_dev *v, const char *why)
{
	uint8_t old;

	/* 2.1.2: only a modern driver knows the bit. */
	if (!virtio_has(v, VIRTIO_F_VERSION_1))
		return;
	old = __atomic_fetch_or(&v->status, VIRTIO_CONFIG_S_NEEDS_RESET, __ATOMIC_ACQ_REL);
	trace(TRACE_VIRTIO, 0, v->id, "needs reset: %s", why);
	if (!(old & VIRTIO_CONFIG_S_NEEDS_RESET) && old & VIRTIO_CONFIG_S_DRIVER_OK)
		v->transport->notify_config(v->transport_ctx);
}

static void queue_broken(void *ctx, const char *why)
{
	virtio_needs_reset(ctx, why);
}

void virtio_init(struct virtio_dev *v, const struct virtio_ops *ops, const char *id,
		 struct loop *loop, struct mem *mem, unsigned nqueues, uint16_t queue_size,
		 uint64_t offer, uint32_t cfg_len)
{
	v->ops = ops;
	v->id = xstrdup(id);
	v->loop = loop;
	v->mem = mem;
	v->nqueues = nqueues;
	v->offer = offer | 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_F_ANY_LAYOUT |
		   1ull << VIRTIO_RING_F_INDIRECT_DESC | 1ull << VIRTIO_RING_F_EVENT_IDX |
		   1ull << VIRTIO_F_RING_RESET;
	v->cfg_len = cfg_len;
	v->queues = xcalloc(nqueues, sizeof(*v->queues));
	v->queue_loops = xcalloc(nqueues, sizeof(*v->queue_loops));
	v->bells = xcalloc(nqueues, sizeof(*v->bells));
	for (unsigned q = 0; q < nqueues; q++) {
		char *who = xasprintf("%s queue %u", id, q);

		virtq_init(&v->queues[q], mem, who, queue_size);
		free(who);
		v->queues[q].trace = TRACE_VIRTIO | (ops->id == VIRTIO_ID_BLOCK ? TRACE_BLK
						     : ops->id == VIRTIO_ID_NET ? TRACE_NET
										: 0);
		v->queues[q].on_broken = queue_broken;
		v->queues[q].on_broken_ctx = v;
		v->queue_loops[q] = loop;
		v->bells[q].fd = -1;
	}
}

void virtio_exit(struct virtio_dev *v)
{
	for (unsigned q = 0; q < v->nqueues; q++) {
		struct virtio_bell *b = &v->bells[q];

		if (b->watch) {
			loop_lock(v->queue_loops[q]);
			loop_fd_del(b->watch);
			loop_unlock(v->queue_loops[q]);
		}
		if (b->fd >= 0)
			close(b->fd);
		virtq_exit(&v->queues[q]);
	}
	free(v->queues);
	free(v->queue_loops);
	free(v->bells);
	free(v->id);
}

void virtio_queues_lock(struct virtio_dev *v)
{
	for (unsigned q = 0; q < v->nqueues; q++)
		if (v->queue_loops[q] != v->loop)
			loop_lock(v->queue_loops[q]);
}

void virtio_queues_unlock(struct virtio_dev *v)
{
	for (unsigned q = 0; q < v->nqueues; q++)
		if (v->queue_loops[q] != v->loop)
			loop_unlock(v->queue_loops[q]);
}

/* --- doorbells --- */

static void start(struct virtio_dev *v);

static bool is_running(struct virtio_dev *v)
{
	return __atomic_load_n(&v->running, __ATOMIC_ACQUIRE);
}

static void start_legacy(void *ctx)
{
	struct virtio_dev *v = ctx;

	if (v->started || v->stopping || v->resetting)
		return;
	if (v->ops->features_ok)
		v->ops->features_ok(v);
	start(v);
}

/* 3.1.2: legacy drivers used the device before they set DRIVER_OK. */
static void early_kick(struct virtio_dev *v)
{
	if (v->started || virtio_has(v, VIRTIO_F_VERSION_1))
		return;
	if (loop_is_locked(v->loop))
		start_legacy(v);
	else
		loop_post(v->loop, start_legacy, v);
}

/*
 * On the queue's loop. The watch is edge triggered: every ring is an event, nobody needs to read
 * the counter.
 */
static void bell_rung(void *ctx, uint32_t events)
{
	struct virtio_bell *b = ctx;

	__atomic_store_n(&b->rings, b->rings + 1, __ATOMIC_RELAXED);
	if (!b->v->queues[b->q].enabled)
		return;
	if (!is_running(b->v)) {
		early_kick(b->v);
		return;
	}
	trace(b->v->queues[b->q].trace, 0, b->v->queues[b->q].who, "kick");
	b->v->ops->kick(b->v, b->q);
}

uint64_t virtio_doorbells(const struct virtio_dev *v)
{
	uint64_t n = 0;

	for (unsigned q = 0; q < v->nqueues; q++)
		n += __atomic_load_n(&v->bells[q].rings, __ATOMIC_RELAXED);
	return n;
}

/* Also how a queue whose share of a turn is over gets another (virtq.h, again). */
static void ring(void *ctx)
{
	struct virtio_bell *b = ctx;

	if (eventfd_write(b->fd, 1) < 0 && errno == EAGAIN) {
		/* 2^64 rings that nobody read: start counting again. */
		eventfd_t n;

		if (eventfd_read(b->fd, &n) == 0)
			eventfd_write(b->fd, 1);
	}
}

int virtio_attach(struct virtio_dev *v)
{
	for (unsigned q = 0; q < v->nqueues; q++) {
		struct virtio_bell *b = &v->bells[q];

		b->v = v;
		b->q = q;
		b->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (b->fd < 0)
			return -errno;
		loop_lock(v->queue_loops[q]);
		b->watch = loop_fd_add(v->queue_loops[q], b->fd, EPOLLIN | EPOLLET, bell_rung, b);
		loop_unlock(v->queue_loops[q]);
		if (!b->watch)
			return -ENOMEM;
		v->queues[q].again = ring;
		v->queues[q].again_ctx = b;
		v->queues[q].loop = v->queue_loops[q];
	}
	return 0;
}
/* What was put into the rings before we ran is worth a look. */
static void ring_all(struct virtio_dev *v)
{
	for (unsigned q = 0; q < v->nqueues; q++)
		if (v->queues[q].enabled)
			ring(&v->bells[q]);
}

/* --- start, stop, resume --- */

static void start(struct virtio_dev *v)
{
	v->started = true;
	if (v->ops->start)
		v->ops->start(v);
	__atomic_store_n(&v->running, true, __ATOMIC_RELEASE);
	trace(TRACE_VIRTIO, 0, v->id, "driver runs, features 0x%llx",
	      (unsigned long long)v->features);
	ring_all(v);
}

static void stop(struct virtio_dev *v)
{
	if (!is_running(v))
		return;
	v->stopping = true;
	__atomic_store_n(&v->running, false, __ATOMIC_RELEASE);
	for (unsigned q = 0; q < v->nqueues; q++) {
		if (v->queue_loops[q] == v->loop)
			continue;
		loop_lock(v->queue_loops[q]);
		loop_unlock(v->queue_loops[q]);
	}
	if (v->ops->stop)
		v->ops->stop(v);
	else
		virtio_stopped(v);
}

static void stopped_on_loop(void *ctx)
{
	struct virtio_dev *v = ctx;
	void (*done)(void *) = v->quiesced;

	v->stopping = false;
	v->quiesced = NULL;
	loop_wake(v->loop);
	if (done)
		done(v->quiesced_ctx);
}

void virtio_stopped(struct virtio_dev *v)
{
	if (loop_is_locked(v->loop))
		stopped_on_loop(v);
	else
		loop_post(v->loop, stopped_on_loop, v);
}

static bool is_stopped(void *ctx)
{
	return !((struct virtio_dev *)ctx)->stopping;
}

static void stop_and_wait(struct virtio_dev *v)
{
	stop(v);
	if (!v->stopping)
		return;
	/* Held already but where a machine ends, in the middle of a request. */
	loop_lock(v->loop);
	loop_wait(v->loop, is_stopped, v);
	loop_unlock(v->loop);
}

void virtio_quiesce(struct virtio_dev *v, void (*done)(void *ctx), void *ctx)
{
	if (!is_running(v) && !v->stopping) {
		done(ctx);
		return;
	}
	v->quiesced_ctx = ctx;
	v->quiesced = done;
	stop(v);
}

void virtio_resume(struct virtio_dev *v)
{
	if (!v->started || is_running(v))
		return;
	__atomic_store_n(&v->running, true, __ATOMIC_RELEASE);
	if (v->ops->resume)
		v->ops->resume(v);
	ring_all(v);
}

/*
 * What the rings look like: settled by FEATURES_OK (ok), or at once by a driver that does not know
 * it, for whom rings are always split.
 */
static void set_queue_flags(struct virtio_dev *v, bool ok)
{
	bool settled = ok || !virtio_has(v, VIRTIO_F_VERSION_1);

	for (unsigned q = 0; q < v->nqueues; q++) {
		v->queues[q].event_idx = settled && virtio_has(v, VIRTIO_RING_F_EVENT_IDX);
		v->queues[q].indirect = settled && virtio_has(v, VIRTIO_RING_F_INDIRECT_DESC);
		v->queues[q].packed = ok && virtio_has(v, VIRTIO_F_RING_PACKED);
	}
}

void virtio_reset(struct virtio_dev *v)
{
	if (v->resetting)
		return;
	v->resetting = true;
	stop_and_wait(v);
	if (v->ops->reset)
		v->ops->reset(v);
	for (unsigned q = 0; q < v->nqueues; q++)
		virtq_reset(&v->queues[q]);
	v->features = v->unknown = 0;
	set_queue_flags(v, false);
	v->started = false;
	__atomic_store_n(&v->status, 0, __ATOMIC_RELEASE);
	v->resetting = false;
	trace(TRACE_VIRTIO, 0, v->id, "reset");
}

/* --- registers the transports share --- */

void virtio_set_features(struct virtio_dev *v, uint64_t features, bool legacy)
{
	if (v->resetting || v->started || virtio_status(v) & VIRTIO_CONFIG_S_FEATURES_OK)
		return;
	if (legacy)
		features &= v->offer & UINT32_MAX;
	for (unsigned q = 0; q < v->nqueues; q++)
		if (v->queues[q].enabled && features >> VIRTIO_F_RING_PACKED & 1)
			return;
	v->features = features & v->offer;
	v->unknown = features & ~v->offer;
	set_queue_flags(v, false);
}

void virtio_features_loaded(struct virtio_dev *v, uint64_t features)
{
	if (!v->started && !(virtio_status(v) & VIRTIO_CONFIG_S_FEATURES_OK))
		v->unknown = features & ~v->offer;
}

static bool features_acceptable(struct virtio_dev *v)
{
	if (v->unknown) {
		log_guest("%s: the driver took features 0x%llx that were not offered", v->id,
			  (unsigned long long)v->unknown);
		return false;
	}
	return !v->ops->features_ok || v->ops->features_ok(v);
}

bool virtio_set_status(struct virtio_dev *v, uint8_t status, bool legacy)
{
	uint8_t old = virtio_status(v), now;

	if (v->resetting)
		return false;
	trace(TRACE_VIRTIO, 0, v->id, "status 0x%x", status);
	if (!status) {
		virtio_reset(v);
		return true;
	}
	now = status & ~VIRTIO_CONFIG_S_NEEDS_RESET & ~old;
	if (legacy)
		now &= ~VIRTIO_CONFIG_S_FEATURES_OK;
	if (now & VIRTIO_CONFIG_S_FEATURES_OK) {
		/*
		 * A modern driver must take VERSION_1; one that did not gets no FEATURES_OK (3.1.1,
		 * step 6).
		 */
		if (!virtio_has(v, VIRTIO_F_VERSION_1) || !features_acceptable(v))
			now &= ~VIRTIO_CONFIG_S_FEATURES_OK;
		else
			set_queue_flags(v, true);
	}
	if (now & VIRTIO_CONFIG_S_DRIVER_OK && !legacy &&
	    !((old | now) & VIRTIO_CONFIG_S_FEATURES_OK))
		now &= ~VIRTIO_CONFIG_S_DRIVER_OK;
	__atomic_or_fetch(&v->status, now, __ATOMIC_ACQ_REL);
	if (now & VIRTIO_CONFIG_S_DRIVER_OK && !v->started) {
		if (legacy)
			start_legacy(v);
		else
			start(v);
	}
	return false;
}

void virtio_queue_enable(struct virtio_dev *v, unsigned q)
{
	struct virtq *vq = &v->queues[q];

	/* What the ring looks like is settled with the features. */
	if (v->resetting || vq->enabled ||
	    (virtio_has(v, VIRTIO_F_VERSION_1) &&
	     !(virtio_status(v) & VIRTIO_CONFIG_S_FEATURES_OK)))
		return;
	if (v->queue_loops[q] != v->loop)
		loop_lock(v->queue_loops[q]);
	if (virtq_enable(vq) == 0)
		trace(TRACE_VIRTIO, 0, vq->who, "size %u at 0x%llx 0x%llx 0x%llx%s", vq->size,
		      (unsigned long long)vq->desc, (unsigned long long)vq->avail,
		      (unsigned long long)vq->used, vq->packed ? " packed" : "");
	if (v->queue_loops[q] != v->loop)
		loop_unlock(v->queue_loops[q]);
	if (is_running(v))
		ring(&v->bells[q]);
}

void virtio_queue_disable(struct virtio_dev *v, unsigned q)
{
	bool was_running = is_running(v);

	if (v->resetting)
		return;
	v->resetting = true;
	stop_and_wait(v);
	virtq_reset(&v->queues[q]);
	v->resetting = false;
	if (was_running)
		virtio_resume(v);
}

void virtio_ring_bell(struct virtio_dev *v, unsigned q)
{
	if (q < v->nqueues)
		ring(&v->bells[q]);
}

uint64_t virtio_bytes_read(const void *cfg, uint32_t off, unsigned size)
{
	uint64_t val = 0;

	memcpy(&val, (const char *)cfg + off, MIN(size, 8u));
	return le64toh(val);
}

uint64_t virtio_config_load(struct virtio_dev *v, uint32_t off, unsigned size)
{
	if (!v->ops->config_read || !range_ok(off, size, v->cfg_len))
		return 0;
	return v->ops->config_read(v, off, size);
}

void virtio_config_store(struct virtio_dev *v, uint32_t off, unsigned size, uint64_t val)
{
	if (v->ops->config_write && !v->resetting && range_ok(off, size, v->cfg_len))
		v->ops->config_write(v, off, size, val);
}

/* --- what devices call --- */

void virtio_flush(struct virtio_dev *v, unsigned q)
{
	if (!virtq_flush(&v->queues[q]))
		return;
	trace(v->queues[q].trace, v->queues[q].used_id, v->queues[q].who, "interrupt");
	v->transport->notify_queue(v->transport_ctx, q);
}

void virtio_config_changed(struct virtio_dev *v)
{
	__atomic_add_fetch(&v->generation, 1, __ATOMIC_ACQ_REL);
	if (virtio_status(v) & VIRTIO_CONFIG_S_DRIVER_OK)
		v->transport->notify_config(v->transport_ctx);
}

/* --- saved machines: device part in its own node "virtio", queues in "queue0" ... --- */

int virtio_save(struct virtio_dev *v, struct state_out *o)
{
	int ret = 0;

	state_begin(o, "virtio");
	state_u64(o, "features", v->features);
	state_u8(o, "status", virtio_status(v));
	state_u32(o, "generation", v->generation);
	state_u8(o, "started", v->started);
	for (unsigned q = 0; q < v->nqueues; q++) {
		char name[16];

		snprintf(name, sizeof(name), "queue%u", q);
		state_begin(o, name);
		virtq_save(&v->queues[q], o);
		state_end(o);
	}
	state_begin(o, "device");
	state_str(o, "name", v->ops->name);
	state_u32(o, "version", v->ops->version);
	if (v->ops->save)
		ret = v->ops->save(v, o);
	state_end(o);
	state_end(o);
	return ret;
}

static int load_queues(struct virtio_dev *v, struct state_in *in)
{
	for (unsigned q = 0; q < v->nqueues; q++) {
		char name[16];
		int ret;

		snprintf(name, sizeof(name), "queue%u", q);
		ret = state_enter(in, name);
		if (ret)
			return ret;
		ret = virtq_load(&v->queues[q], in);
		state_leave(in);
		if (ret)
			return ret;
	}
	return 0;
}

static int load_device(struct virtio_dev *v, struct state_in *in)
{
	const char *name;
	uint32_t version;
	int ret;

	ret = state_enter(in, "device");
	if (ret)
		return ret;
	state_get_str(in, "name", &name);
	state_get_u32(in, "version", &version);
	ret = state_in_error(in);
	if (!ret && strcmp(name, v->ops->name))
		ret = state_bad(in, "%s: a %s was saved, here is a %s", v->id, name, v->ops->name);
	if (!ret && version > v->ops->version)
		ret = state_bad(in, "%s: saved by a newer %s (version %u)", v->id, name, version);
	if (!ret && v->ops->load)
		ret = v->ops->load(v, in, version);
	state_leave(in);
	return ret;
}

int virtio_load(struct virtio_dev *v, struct state_in *in)
{
	uint8_t status, started;
	bool ok;
	int ret;

	virtio_reset(v);
	ret = state_enter(in, "virtio");
	if (ret)
		return ret;
	state_get_u64(in, "features", &v->features);
	state_get_u8(in, "status", &status);
	state_get_u32(in, "generation", &v->generation);
	state_get_u8(in, "started", &started);
	ret = state_in_error(in);
	if (ret)
		goto out;
	ok = status & VIRTIO_CONFIG_S_FEATURES_OK;
	if (v->features & ~v->offer) {
		ret = state_bad(in, "%s: the guest uses features 0x%llx that this device lacks",
				v->id, (unsigned long long)(v->features & ~v->offer));
		goto out;
	}
	if (started > 1 || (ok && !virtio_has(v, VIRTIO_F_VERSION_1))) {
		ret = state_bad(in, "%s: status 0x%x, started %u with features 0x%llx", v->id,
				status, started, (unsigned long long)v->features);
		goto out;
	}
	set_queue_flags(v, ok);
	if ((started || ok) && v->ops->features_ok &&
	    !v->ops->features_ok(v)) {
		ret = state_bad(in, "%s: features 0x%llx are refused", v->id,
				(unsigned long long)v->features);
		goto out;
	}
	ret = load_queues(v, in);
	if (!ret)
		ret = load_device(v, in);
	if (ret)
		goto out;
	__atomic_store_n(&v->status, status, __ATOMIC_RELEASE);
	v->started = started;
out:
	if (ret)
		virtio_reset(v);
	state_leave(in);
	return ret;
}
