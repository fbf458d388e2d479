/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * irq.c: interrupt lines as a wired OR of their sources, message vectors, and the routing table.
 * Any thread.
 *
 * Locks, all leaves: one for each line, one for each vector, then one for the routes. They are held
 * across the backend's ioctl, so that two changes reach the interrupt controller in the order in
 * which they happened.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/wires/irq.h"

#define IRQ_LINES 24		/* pins of the IOAPIC */
#define IRQ_SOURCES 64		/* bits of the mask */
#define IRQ_FIRST_MSI IRQ_LINES	/* first gsi of the table that messages may use */

struct irq_line {
	struct irq_hub *hub;
	unsigned gsi, nsources;
	/* one bit for each source that is active; written under the mutex */
	uint64_t mask;
	pthread_mutex_t mutex;
};

struct irq_hub {
	const struct irq_backend *ops;
	void *ctx;
	struct irq_line lines[IRQ_LINES];
	pthread_mutex_t route_mutex;
	struct irq_route *routes;
	size_t nroutes, cap;
	unsigned next_gsi;
	unsigned *free_gsis;
	size_t nfree;
};

struct vec {
	struct irq_hub *hub;
	pthread_mutex_t mutex;
	uint64_t addr;
	uint32_t data;
	bool masked;
	bool pending;			/* vec_notify while masked */
	int fd;				/* -1 until vec_fd */
	unsigned gsi;			/* with fd */
	bool attached;			/* the backend injects what is written to fd */
};

struct irq_hub *irq_hub_new(const struct irq_backend *ops, void *ctx)
{
	struct irq_hub *h = xcalloc(1, sizeof(*h));

	h->ops = ops;
	h->ctx = ctx;
	h->next_gsi = IRQ_FIRST_MSI;
	pthread_mutex_init(&h->route_mutex, NULL);
	for (unsigned i = 0; i < IRQ_LINES; i++) {
		h->lines[i].hub = h;
		h->lines[i].gsi = i;
		pthread_mutex_init(&h->lines[i].mutex, NULL);
	}
	return h;
}

void irq_hub_free(struct irq_hub *h)
{
	if (!h)
		return;
	assert(!h->nroutes);
	for (unsigned i = 0; i < IRQ_LINES; i++)
		pthread_mutex_destroy(&h->lines[i].mutex);
	pthread_mutex_destroy(&h->route_mutex);
	free(h->routes);
	free(h->free_gsis);
	free(h);
}

/* --- lines --- */

/* What a PC's lines are used for; those without a name are the PCI devices'. */
static const char *const line_names[IRQ_LINES] = {
	[0] = " timer", [1] = " keyboard", [3] = " COM2", [4] = " COM1",   [8] = " RTC",
	[9] = " ACPI",	[12] = " mouse",   [14] = " IDE", [15] = " IDE 2",
};

/* The line's mutex is held. */
static void line_drive(struct irq_line *line)
{
	bool up = line->mask != 0;

	trace(TRACE_IRQ, 0, "irq", "line %u%s %s", line->gsi,
	      line_names[line->gsi] ? line_names[line->gsi] : "", up ? "up" : "down");
	line->hub->ops->line(line->hub->ctx, line->gsi, up);
}

static void source_set(void *ctx, int n, int level)
{
	struct irq_line *line = ctx;
	uint64_t bit = 1ull << n, old;

	/*
	 * Devices repeat themselves often; the line's own source knows its level without the lock.
	 */
	old = __atomic_load_n(&line->mask, __ATOMIC_ACQUIRE);
	if (!(old & bit) == !level)
		return;
	pthread_mutex_lock(&line->mutex);
	old = line->mask;
	__atomic_store_n(&line->mask, level ? old | bit : old & ~bit, __ATOMIC_RELEASE);
	if (!old != !line->mask)
		line_drive(line);
	pthread_mutex_unlock(&line->mutex);
}

struct irq irq_source(struct irq_hub *h, unsigned gsi)
{
	struct irq_line *line = &h->lines[gsi];
	struct irq irq = { source_set, line, 0 };

	assert(gsi < IRQ_LINES);
	pthread_mutex_lock(&line->mutex);
	assert(line->nsources < IRQ_SOURCES);
	irq.n = line->nsources++;
	pthread_mutex_unlock(&line->mutex);
	return irq;
}

int irq_level(struct irq_hub *h, unsigned gsi)
{
	return gsi < IRQ_LINES && __atomic_load_n(&h->lines[gsi].mask, __ATOMIC_ACQUIRE) != 0;
}

void irq_resync(struct irq_hub *h)
{
	for (unsigned i = 0; i < IRQ_LINES; i++) {
		struct irq_line *line = &h->lines[i];

		pthread_mutex_lock(&line->mutex);
		if (line->nsources)
			h->ops->line(h->ctx, i, line->mask != 0);
		pthread_mutex_unlock(&line->mutex);
	}
}

/* --- routes --- */

/* Gives the gsi this message, telling the backend. 0 or -errno. */
static int route_set(struct irq_hub *h, unsigned gsi, uint64_t addr, uint32_t data)
{
	struct irq_route want = { gsi, addr, data };
	bool change = true;
	int ret = 0;
	size_t i;

	pthread_mutex_lock(&h->route_mutex);
	for (i = 0; i < h->nroutes && h->routes[i].gsi != gsi; i++)
		;
	if (i == h->nroutes) {
		if (i == h->cap) {
			h->cap = h->cap ? h->cap * 2 : 16;
			h->routes = xrealloc(h->routes, h->cap * sizeof(*h->routes));
		}
		h->nroutes++;
	} else {
		change = h->routes[i].addr != addr || h->routes[i].data != data;
	}
	h->routes[i] = want;
	if (change && h->ops->routes)
		ret = h->ops->routes(h->ctx, h->routes, h->nroutes);
	pthread_mutex_unlock(&h->route_mutex);
	return ret;
}

static unsigned gsi_new(struct irq_hub *h)
{
	unsigned gsi;

	pthread_mutex_lock(&h->route_mutex);
	gsi = h->nfree ? h->free_gsis[--h->nfree] : h->next_gsi++;
	pthread_mutex_unlock(&h->route_mutex);
	return gsi;
}

static void gsi_free(struct irq_hub *h, unsigned gsi)
{
	pthread_mutex_lock(&h->route_mutex);
	for (size_t i = 0; i < h->nroutes; i++) {
		if (h->routes[i].gsi == gsi) {
			h->routes[i] = h->routes[--h->nroutes];
			if (h->ops->routes)
				h->ops->routes(h->ctx, h->routes, h->nroutes);
			break;
		}
	}
	h->free_gsis = xrealloc(h->free_gsis, (h->nfree + 1) * sizeof(*h->free_gsis));
	h->free_gsis[h->nfree++] = gsi;
	pthread_mutex_unlock(&h->route_mutex);
}

/* --- vectors --- */

/*
 * Intel SDM volume 3, 11.11: the address names the processors, the data the vector. The vector's
 * mutex is held.
 */
static void message_send(struct vec *v)
{
	trace(TRACE_IRQ, 0, "irq", "message 0x%llx = 0x%x: vector 0x%02x to local APIC %u",
	      (unsigned long long)v->addr, v->data, v->data & 0xff,
	      (unsigned)(v->addr >> 12 & 0xff));
	v->hub->ops->msi(v->hub->ctx, v->addr, v->data);
}

struct vec *vec_new(struct irq_hub *h)
{
	struct vec *v = xcalloc(1, sizeof(*v));

	v->hub = h;
	v->masked = true;
	v->fd = -1;
	pthread_mutex_init(&v->mutex, NULL);
	return v;
}

/*
 * The backend listens to the eventfd exactly while the vector is unmasked. The mutex is held. 0 or
 * -errno.
 */
static int vec_attach(struct vec *v, bool on)
{
	struct irq_hub *h = v->hub;
	int ret = 0;

	if (v->fd < 0 || v->attached == on)
		return 0;
	if (on)
		ret = route_set(h, v->gsi, v->addr, v->data);
	/* Signals collected in the eventfd meanwhile are injected by the kernel as it attaches. */
	if (!ret)
		ret = h->ops->irqfd(h->ctx, v->fd, v->gsi, on);
	if (!ret)
		v->attached = on;
	return ret;
}

void vec_free(struct vec *v)
{
	if (!v)
		return;
	pthread_mutex_lock(&v->mutex);
	vec_attach(v, false);
	if (v->fd >= 0) {
		gsi_free(v->hub, v->gsi);
		close(v->fd);
	}
	pthread_mutex_unlock(&v->mutex);
	pthread_mutex_destroy(&v->mutex);
	free(v);
}

void vec_set(struct vec *v, uint64_t addr, uint32_t data, bool masked)
{
	pthread_mutex_lock(&v->mutex);
	v->addr = addr;
	v->data = data;
	v->masked = masked;
	if (v->attached && !masked)
		route_set(v->hub, v->gsi, addr, data);
	vec_attach(v, !masked);
	if (!masked && v->pending) {
		v->pending = false;
		message_send(v);
	}
	pthread_mutex_unlock(&v->mutex);
}

void vec_notify(struct vec *v)
{
	pthread_mutex_lock(&v->mutex);
	if (v->masked)
		v->pending = true;
	else
		message_send(v);
	pthread_mutex_unlock(&v->mutex);
}

int vec_fd(struct vec *v)
{
	int ret;

	pthread_mutex_lock(&v->mutex);
	ret = v->fd;
	if (ret < 0 && !v->hub->ops->irqfd)
		ret = -ENOTSUP;
	else if (ret < 0) {
		v->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		ret = v->fd < 0 ? -errno : 0;
		if (!ret) {
			v->gsi = gsi_new(v->hub);
			ret = vec_attach(v, !v->masked);
			if (ret) {
				gsi_free(v->hub, v->gsi);
				close(v->fd);
				v->fd = -1;
			} else {
				ret = v->fd;
			}
		}
	}
	pthread_mutex_unlock(&v->mutex);
	return ret;
}

bool vec_pending(struct vec *v)
{
	bool pending;

	pthread_mutex_lock(&v->mutex);
	pending = v->pending;
	if (!pending && v->fd >= 0 && !v->attached) {
		struct pollfd p = { v->fd, POLLIN, 0 };

		pending = poll(&p, 1, 0) == 1;
	}
	pthread_mutex_unlock(&v->mutex);
	return pending;
}

void vec_set_pending(struct vec *v, bool pending)
{
	uint64_t count;

	pthread_mutex_lock(&v->mutex);
	if (v->fd >= 0 && !v->attached && read(v->fd, &count, sizeof(count)) < 0)
		assert(errno == EAGAIN);
	v->pending = pending;
	if (pending && !v->masked) {
		v->pending = false;
		message_send(v);
	}
	pthread_mutex_unlock(&v->mutex);
}
