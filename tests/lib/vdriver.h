/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vdriver.h: a virtio driver as a guest has one, for tests/device: it finds the device on PCI
 * (legacy registers, modern capabilities, or only the window in configuration space) or behind
 * memory-mapped registers, negotiates, builds split or packed rings in guest memory, and checks
 * that each buffer it gave comes back exactly once.
 */
#ifndef TESTS_LIB_VDRIVER_H
#define TESTS_LIB_VDRIVER_H

#include "devices/virtio/virtio.h"
#include "tests/lib/guest.h"

enum vtransport { V_LEGACY, V_MODERN, V_WINDOW, V_MMIO };

struct vbuf { uint64_t gpa; uint32_t len; };

struct dring {
	struct vdrv *drv;
	unsigned index;			/* of the queue */
	uint16_t size;
	bool packed, event_idx, indirect;
	uint64_t desc, avail, used;
	uint16_t next_avail, last_used;	/* split: running; packed: slots */
	bool avail_wrap, used_wrap;
	uint16_t nfree;
	uint16_t *free_list;		/* split: descriptors; packed: ids */
	uint16_t *ndesc;		/* by head/id: descriptors taken; 0: not ours to get back */
	uint64_t *table;		/* by head/id: indirect table */
	void **token;
	unsigned outstanding;
};

struct vdrv {
	struct guest *g;
	enum vtransport transport;
	unsigned devfn;
	uint64_t base;			/* legacy: I/O; modern: BAR; mmio: registers */
	uint32_t common, isr, cfg, notify, notify_mult;	/* offsets in the BAR */
	uint8_t window;
	uint64_t features;
	bool msix;
	struct dring rings[16];
};

/* Finds the device's registers; nothing is written yet but BARs and the command word. */
void vdrv_find(struct vdrv *d, struct guest *g, enum vtransport t, unsigned devfn,
	       uint64_t mmio_base);
/*
 * Reset, ACKNOWLEDGE, DRIVER, features (wanted and offered), FEATURES_OK. False when the device
 * refuses.
 */
bool vdrv_negotiate(struct vdrv *d, uint64_t wanted);
uint64_t vdrv_offer(struct vdrv *d);
uint8_t vdrv_status(struct vdrv *d);
void vdrv_set_status(struct vdrv *d, uint8_t status);
/* Makes ring q of `size` entries (0: what the device has) and gives it to the device. */
struct dring *vdrv_queue(struct vdrv *d, unsigned q, uint16_t size);
/* Tells the device where ring r is (also after the test changed the addresses). */
void vdrv_queue_program(struct vdrv *d, struct dring *r);
void vdrv_start(struct vdrv *d);		/* DRIVER_OK */
void vdrv_free(struct vdrv *d);
uint64_t vdrv_config(struct vdrv *d, uint32_t off, unsigned size);
void vdrv_config_write(struct vdrv *d, uint32_t off, unsigned size, uint64_t val);
uint8_t vdrv_isr(struct vdrv *d);
/* MSI-X: table entries with data n; vector n for queue n, `nvec - 1` for the configuration. */
void vdrv_msix(struct vdrv *d, unsigned nqueues);
void vdrv_notify(struct vdrv *d, unsigned q);

/* Puts a chain in; returns its head or id. token comes back with it. */
unsigned vring_add(struct dring *r, const struct vbuf *bufs, int nout, int nin, void *token);
/* Would the device want to be told? Then tells it. */
bool vring_kick(struct dring *r);
/*
 * A chain that came back: its token and the bytes written; NULL when there is none. Fails the test
 * on anything odd.
 */
void *vring_get(struct dring *r, uint32_t *len);
/* The same, running the loop until one comes; fails after 5 s. */
void *vring_wait(struct dring *r, uint32_t *len);
/* Ask for an interrupt at the next used buffer, or never. */
void vring_want_irq(struct dring *r, bool on);
void vring_free(struct dring *r);

#endif
