/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vdriver.c: a virtio driver for tests, written from the specification (virtio 1.2), sharing no
 * code with the devices.
 */
#include <linux/virtio_mmio.h>
#include <linux/virtio_pci.h>
#include <stdlib.h>

#include "tests/lib/vdriver.h"

#define FAIL(...) tap_fail(__FILE__, __LINE__, __VA_ARGS__)
#define SHARED_LOAD(type, p) __atomic_load_n((type *)(p), __ATOMIC_ACQUIRE)
#define SHARED_STORE(type, p, v) __atomic_store_n((type *)(p), v, __ATOMIC_RELEASE)

/* --- registers --- */

static uint64_t window_access(struct vdrv *d, uint32_t off, unsigned size, bool write, uint32_t val)
{
	cfg_write(d->g, d->devfn, d->window + VIRTIO_PCI_CAP_BAR, 1, 4);
	cfg_write(d->g, d->devfn, d->window + VIRTIO_PCI_CAP_OFFSET, 4, off);
	cfg_write(d->g, d->devfn, d->window + VIRTIO_PCI_CAP_LENGTH, 4, size);
	if (write)
		cfg_write(d->g, d->devfn, d->window + 16, size, val);
	else
		return cfg_read(d->g, d->devfn, d->window + 16, size);
	return 0;
}

static uint64_t rd(struct vdrv *d, uint32_t off, unsigned size)
{
	if (d->transport == V_WINDOW)
		return window_access(d, off, size, false, 0);
	return in(d->transport == V_LEGACY ? d->g->pio : d->g->mmio, d->base + off, size);
}

static void wr(struct vdrv *d, uint32_t off, unsigned size, uint64_t val)
{
	if (d->transport == V_WINDOW)
		window_access(d, off, size, true, val);
	else
		out(d->transport == V_LEGACY ? d->g->pio : d->g->mmio, d->base + off, size, val);
}

static void find_caps(struct vdrv *d)
{
	unsigned at = cfg_read(d->g, d->devfn, PCI_CAPABILITY_LIST, 1), seen = 0;

	for (; at && seen < 48; at = cfg_read(d->g, d->devfn, at + 1, 1), seen++) {
		uint32_t off;
		uint8_t type;

		if (cfg_read(d->g, d->devfn, at, 1) != PCI_CAP_ID_VNDR)
			continue;
		type = cfg_read(d->g, d->devfn, at + VIRTIO_PCI_CAP_CFG_TYPE, 1);
		off = cfg_read(d->g, d->devfn, at + VIRTIO_PCI_CAP_OFFSET, 4);
		if (type != VIRTIO_PCI_CAP_PCI_CFG &&
		    cfg_read(d->g, d->devfn, at + VIRTIO_PCI_CAP_BAR, 1) != 4)
			FAIL("capability %u is not in BAR 4", type);
		switch (type) {
		case VIRTIO_PCI_CAP_COMMON_CFG: d->common = off; break;
		case VIRTIO_PCI_CAP_ISR_CFG: d->isr = off; break;
		case VIRTIO_PCI_CAP_DEVICE_CFG: d->cfg = off; break;
		case VIRTIO_PCI_CAP_PCI_CFG: d->window = at; break;
		case VIRTIO_PCI_CAP_NOTIFY_CFG:
			d->notify = off;
			d->notify_mult = cfg_read(d->g, d->devfn, at + VIRTIO_PCI_NOTIFY_CAP_MULT,
						  4);
			break;
		}
	}
	if (seen == 48 || !d->notify || !d->isr || !d->window)
		FAIL("capability list");
}

void vdrv_find(struct vdrv *d, struct guest *g, enum vtransport t, unsigned devfn,
	       uint64_t mmio_base)
{
	memset(d, 0, sizeof(*d));
	d->g = g;
	d->transport = t;
	d->devfn = devfn;
	if (t == V_MMIO) {
		d->base = mmio_base;
		if (rd(d, VIRTIO_MMIO_MAGIC_VALUE, 4) != 0x74726976 ||
		    rd(d, VIRTIO_MMIO_VERSION, 4) != 2)
			FAIL("no virtio-mmio device of version 2");
		return;
	}
	if (cfg_read(g, devfn, PCI_VENDOR_ID, 2) != 0x1af4)
		FAIL("no virtio function");
	guest_assign_bars(g);
	cfg_write(g, devfn, PCI_COMMAND, 2,
		  PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	find_caps(d);
	d->base = bar_addr(g, devfn, t == V_LEGACY ? 0 : 4);
}

static uint32_t config_base(struct vdrv *d)
{
	switch (d->transport) {
	case V_LEGACY: return VIRTIO_PCI_CONFIG_OFF(d->msix);
	case V_MMIO: return VIRTIO_MMIO_CONFIG;
	default: return d->cfg;
	}
}

uint64_t vdrv_config(struct vdrv *d, uint32_t off, unsigned size)
{
	if (size == 8)
		return vdrv_config(d, off, 4) | vdrv_config(d, off + 4, 4) << 32;
	return rd(d, config_base(d) + off, size);
}

void vdrv_config_write(struct vdrv *d, uint32_t off, unsigned size, uint64_t val)
{
	wr(d, config_base(d) + off, size, val);
}

uint8_t vdrv_status(struct vdrv *d)
{
	switch (d->transport) {
	case V_LEGACY: return rd(d, VIRTIO_PCI_STATUS, 1);
	case V_MMIO: return rd(d, VIRTIO_MMIO_STATUS, 4);
	default: return rd(d, d->common + VIRTIO_PCI_COMMON_STATUS, 1);
	}
}

void vdrv_set_status(struct vdrv *d, uint8_t status)
{
	switch (d->transport) {
	case V_LEGACY: wr(d, VIRTIO_PCI_STATUS, 1, status); break;
	case V_MMIO: wr(d, VIRTIO_MMIO_STATUS, 4, status); break;
	default: wr(d, d->common + VIRTIO_PCI_COMMON_STATUS, 1, status);
	}
}

uint8_t vdrv_isr(struct vdrv *d)
{
	uint8_t isr;

	switch (d->transport) {
	case V_LEGACY: return rd(d, VIRTIO_PCI_ISR, 1);
	case V_MMIO:
		isr = rd(d, VIRTIO_MMIO_INTERRUPT_STATUS, 4);
		wr(d, VIRTIO_MMIO_INTERRUPT_ACK, 4, isr);
		return isr;
	default: return rd(d, d->isr, 1);
	}
}

uint64_t vdrv_offer(struct vdrv *d)
{
	uint64_t f = 0;

	if (d->transport == V_LEGACY)
		return rd(d, VIRTIO_PCI_HOST_FEATURES, 4);
	for (unsigned i = 0; i < 2; i++) {
		if (d->transport == V_MMIO) {
			wr(d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 4, i);
			f |= rd(d, VIRTIO_MMIO_DEVICE_FEATURES, 4) << (32 * i);
		} else {
			wr(d, d->common + VIRTIO_PCI_COMMON_DFSELECT, 4, i);
			f |= rd(d, d->common + VIRTIO_PCI_COMMON_DF, 4) << (32 * i);
		}
	}
	return f;
}

static void take_features(struct vdrv *d, uint64_t f)
{
	if (d->transport == V_LEGACY) {
		wr(d, VIRTIO_PCI_GUEST_FEATURES, 4, f);
		return;
	}
	for (unsigned i = 0; i < 2; i++) {
		if (d->transport == V_MMIO) {
			wr(d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 4, i);
			wr(d, VIRTIO_MMIO_DRIVER_FEATURES, 4, f >> (32 * i) & UINT32_MAX);
		} else {
			wr(d, d->common + VIRTIO_PCI_COMMON_GFSELECT, 4, i);
			wr(d, d->common + VIRTIO_PCI_COMMON_GF, 4, f >> (32 * i) & UINT32_MAX);
		}
	}
}

bool vdrv_negotiate(struct vdrv *d, uint64_t wanted)
{
	uint8_t s = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;

	vdrv_set_status(d, 0);
	for (int i = 0; vdrv_status(d); i++) {
		if (i == 1000)
			FAIL("the device does not come out of reset");
		guest_run(d->g, 1);
	}
	vdrv_set_status(d, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	vdrv_set_status(d, s);
	if (d->transport != V_LEGACY)
		wanted |= 1ull << VIRTIO_F_VERSION_1;
	d->features = vdrv_offer(d) & wanted;
	take_features(d, d->features);
	if (d->transport == V_LEGACY)
		return true;
	vdrv_set_status(d, s | VIRTIO_CONFIG_S_FEATURES_OK);
	return vdrv_status(d) & VIRTIO_CONFIG_S_FEATURES_OK;
}

void vdrv_msix(struct vdrv *d, unsigned nqueues)
{
	uint64_t table = bar_addr(d->g, d->devfn, 1);
	unsigned at = cfg_read(d->g, d->devfn, PCI_CAPABILITY_LIST, 1);

	while (at && cfg_read(d->g, d->devfn, at, 1) != PCI_CAP_ID_MSIX)
		at = cfg_read(d->g, d->devfn, at + 1, 1);
	if (!at)
		FAIL("no MSI-X");
	for (unsigned i = 0; i <= nqueues; i++) {
		out(d->g->mmio, table + 16 * i, 4, 0xfee00000);
		out(d->g->mmio, table + 16 * i + 4, 4, 0);
		out(d->g->mmio, table + 16 * i + 8, 4, i);
		out(d->g->mmio, table + 16 * i + 12, 4, 0);
	}
	cfg_write(d->g, d->devfn, at + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	d->msix = true;
	for (unsigned i = 0; i <= nqueues; i++) {
		unsigned sel = d->transport == V_LEGACY ? VIRTIO_PCI_QUEUE_SEL
							: d->common + VIRTIO_PCI_COMMON_Q_SELECT;
		unsigned vec = d->transport == V_LEGACY ? VIRTIO_MSI_QUEUE_VECTOR
							: d->common + VIRTIO_PCI_COMMON_Q_MSIX;

		if (i == nqueues)
			vec = d->transport == V_LEGACY ? VIRTIO_MSI_CONFIG_VECTOR
						       : d->common + VIRTIO_PCI_COMMON_MSIX;
		else
			wr(d, sel, 2, i);
		wr(d, vec, 2, i);
		if (rd(d, vec, 2) != i)
			FAIL("vector %u was refused", i);
	}
}

void vdrv_notify(struct vdrv *d, unsigned q)
{
	switch (d->transport) {
	case V_LEGACY: wr(d, VIRTIO_PCI_QUEUE_NOTIFY, 2, q); break;
	case V_MMIO: wr(d, VIRTIO_MMIO_QUEUE_NOTIFY, 4, q); break;
	default: wr(d, d->notify + d->notify_mult * q, 2, q);
	}
}

/* --- queues --- */

static void program_legacy(struct vdrv *d, struct dring *r)
{
	wr(d, VIRTIO_PCI_QUEUE_SEL, 2, r->index);
	wr(d, VIRTIO_PCI_QUEUE_PFN, 4, r->desc >> 12);
}

static void program_modern(struct vdrv *d, struct dring *r)
{
	uint32_t c = d->common;

	wr(d, c + VIRTIO_PCI_COMMON_Q_SELECT, 2, r->index);
	wr(d, c + VIRTIO_PCI_COMMON_Q_SIZE, 2, r->size);
	wr(d, c + VIRTIO_PCI_COMMON_Q_DESCLO, 4, r->desc & UINT32_MAX);
	wr(d, c + VIRTIO_PCI_COMMON_Q_DESCHI, 4, r->desc >> 32);
	wr(d, c + VIRTIO_PCI_COMMON_Q_AVAILLO, 4, r->avail & UINT32_MAX);
	wr(d, c + VIRTIO_PCI_COMMON_Q_AVAILHI, 4, r->avail >> 32);
	wr(d, c + VIRTIO_PCI_COMMON_Q_USEDLO, 4, r->used & UINT32_MAX);
	wr(d, c + VIRTIO_PCI_COMMON_Q_USEDHI, 4, r->used >> 32);
	wr(d, c + VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
}

static void program_mmio(struct vdrv *d, struct dring *r)
{
	wr(d, VIRTIO_MMIO_QUEUE_SEL, 4, r->index);
	wr(d, VIRTIO_MMIO_QUEUE_NUM, 4, r->size);
	wr(d, VIRTIO_MMIO_QUEUE_DESC_LOW, 4, r->desc & UINT32_MAX);
	wr(d, VIRTIO_MMIO_QUEUE_DESC_HIGH, 4, r->desc >> 32);
	wr(d, VIRTIO_MMIO_QUEUE_AVAIL_LOW, 4, r->avail & UINT32_MAX);
	wr(d, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, 4, r->avail >> 32);
	wr(d, VIRTIO_MMIO_QUEUE_USED_LOW, 4, r->used & UINT32_MAX);
	wr(d, VIRTIO_MMIO_QUEUE_USED_HIGH, 4, r->used >> 32);
	wr(d, VIRTIO_MMIO_QUEUE_READY, 4, 1);
}

void vdrv_queue_program(struct vdrv *d, struct dring *r)
{
	if (d->transport == V_LEGACY)
		program_legacy(d, r);
	else if (d->transport == V_MMIO)
		program_mmio(d, r);
	else
		program_modern(d, r);
}

static uint16_t queue_max(struct vdrv *d, unsigned q)
{
	switch (d->transport) {
	case V_LEGACY:
		wr(d, VIRTIO_PCI_QUEUE_SEL, 2, q);
		return rd(d, VIRTIO_PCI_QUEUE_NUM, 2);
	case V_MMIO:
		wr(d, VIRTIO_MMIO_QUEUE_SEL, 4, q);
		return rd(d, VIRTIO_MMIO_QUEUE_NUM_MAX, 4);
	default:
		wr(d, d->common + VIRTIO_PCI_COMMON_Q_SELECT, 2, q);
		return rd(d, d->common + VIRTIO_PCI_COMMON_Q_SIZE, 2);
	}
}

struct dring *vdrv_queue(struct vdrv *d, unsigned q, uint16_t size)
{
	struct dring *r = &d->rings[q];
	uint16_t max = queue_max(d, q);

	if (!max)
		FAIL("queue %u does not exist", q);
	vring_free(r);
	r->drv = d;
	r->index = q;
	r->size = d->transport == V_LEGACY || !size ? max : size;
	r->packed = d->features >> VIRTIO_F_RING_PACKED & 1;
	r->event_idx = d->features >> VIRTIO_RING_F_EVENT_IDX & 1;
	r->indirect = d->features >> VIRTIO_RING_F_INDIRECT_DESC & 1;
	r->desc = guest_alloc(d->g, 16ull * r->size, 4096);
	if (d->transport == V_LEGACY) {
		/* One block of memory in the layout of 2.7.2. */
		r->avail = guest_alloc(d->g, 6 + 2ull * r->size, 1);
		r->used = guest_alloc(d->g, 6 + 8ull * r->size, 4096);
	} else {
		r->avail = guest_alloc(d->g, 6 + 2ull * r->size, 64);
		r->used = guest_alloc(d->g, 6 + 8ull * r->size, 64);
	}
	r->avail_wrap = r->used_wrap = true;
	r->nfree = r->size;
	r->free_list = xcalloc(r->size, sizeof(*r->free_list));
	r->ndesc = xcalloc(r->size, sizeof(*r->ndesc));
	r->table = xcalloc(r->size, sizeof(*r->table));
	r->token = xcalloc(r->size, sizeof(*r->token));
	for (unsigned i = 0; i < r->size; i++)
		r->free_list[i] = r->size - 1 - i;
	vdrv_queue_program(d, r);
	return r;
}

void vring_free(struct dring *r)
{
	free(r->free_list);
	free(r->ndesc);
	free(r->table);
	free(r->token);
	memset(r, 0, sizeof(*r));
}

void vdrv_start(struct vdrv *d)
{
	vdrv_set_status(d, vdrv_status(d) | VIRTIO_CONFIG_S_DRIVER_OK);
}

void vdrv_free(struct vdrv *d)
{
	for (size_t i = 0; i < ARRAY_SIZE(d->rings); i++)
		vring_free(&d->rings[i]);
}

/* --- adding --- */

static void put_desc(struct dring *r, uint64_t table, unsigned i, const struct vbuf *b,
		     uint16_t flags, uint16_t next)
{
	struct vring_desc *d = guest_ptr(r->drv->g, table + 16 * i, 16);

	d->addr = b->gpa;
	d->len = b->len;
	d->flags = flags;
	d->next = next;
}

static uint16_t flags_of(int i, int nout, int n)
{
	return (i >= nout ? VRING_DESC_F_WRITE : 0) | (i + 1 < n ? VRING_DESC_F_NEXT : 0);
}

/*
 * Every third chain of more than one buffer goes into an indirect table, where the device has them.
 */
static bool use_indirect(struct dring *r, int n)
{
	return r->indirect && n > 1 && (r->next_avail % 3 == 2 || n > r->nfree);
}

static struct vbuf indirect_table(struct dring *r, unsigned head, const struct vbuf *bufs, int nout,
				  int n)
{
	struct vbuf table = { guest_alloc(r->drv->g, 16ull * n, 16), 16 * n };

	for (int i = 0; i < n; i++) {
		struct vring_packed_desc *d = guest_ptr(r->drv->g, table.gpa + 16 * i, 16);

		if (r->packed)	/* the id may be anything */
			*d = (struct vring_packed_desc){ bufs[i].gpa, bufs[i].len, 0x5a5a,
							 flags_of(i, nout, n) &
								 VRING_DESC_F_WRITE };
		else
			put_desc(r, table.gpa, i, &bufs[i], flags_of(i, nout, n), i + 1);
	}
	r->table[head] = table.gpa;
	return table;
}

static unsigned add_split(struct dring *r, const struct vbuf *bufs, int nout, int n)
{
	uint16_t *avail = guest_ptr(r->drv->g, r->avail, 6 + 2ull * r->size), ids[1026] = { 0 };
	struct vbuf table;
	int taken = n;

	if (use_indirect(r, n)) {
		ids[0] = r->free_list[--r->nfree];
		table = indirect_table(r, ids[0], bufs, nout, n);
		put_desc(r, r->desc, ids[0], &table, VRING_DESC_F_INDIRECT, 0);
		taken = 1;
	} else {
		if (n > r->nfree)
			FAIL("ring of %u is full", r->size);
		for (int i = 0; i < n; i++)
			ids[i] = r->free_list[--r->nfree];
		for (int i = 0; i < n; i++)
			put_desc(r, r->desc, ids[i], &bufs[i], flags_of(i, nout, n),
				 i + 1 < n ? ids[i + 1] : 0);
	}
	r->ndesc[ids[0]] = taken;
	avail[2 + r->next_avail % r->size] = ids[0];
	r->next_avail++;
	SHARED_STORE(uint16_t, &avail[1], r->next_avail);
	return ids[0];
}

static unsigned add_packed(struct dring *r, const struct vbuf *bufs, int nout, int n)
{
	struct vring_packed_desc *ring = guest_ptr(r->drv->g, r->desc, 16ull * r->size);
	uint16_t first_flags = 0, first = r->next_avail, id;
	struct vbuf table;
	bool indirect = use_indirect(r, n);
	int taken = indirect ? 1 : n;

	if (taken > r->nfree)
		FAIL("packed ring of %u is full", r->size);
	for (id = 0; id < r->size && r->ndesc[id]; id++)
		;
	if (indirect) {
		table = indirect_table(r, id, bufs, nout, n);
		bufs = &table;
	}
	for (int i = 0; i < taken; i++) {
		struct vring_packed_desc *d = &ring[r->next_avail];
		uint16_t flags = indirect ? VRING_DESC_F_INDIRECT : flags_of(i, nout, n);

		flags |= r->avail_wrap ? 1 << VRING_PACKED_DESC_F_AVAIL
				       : 1 << VRING_PACKED_DESC_F_USED;
		d->addr = bufs[i].gpa;
		d->len = bufs[i].len;
		d->id = id;
		if (i)
			SHARED_STORE(uint16_t, &d->flags, flags);
		else
			first_flags = flags;
		if (++r->next_avail == r->size) {
			r->next_avail = 0;
			r->avail_wrap = !r->avail_wrap;
		}
	}
	SHARED_STORE(uint16_t, &ring[first].flags, first_flags);
	r->nfree -= taken;
	r->ndesc[id] = taken;
	return id;
}

unsigned vring_add(struct dring *r, const struct vbuf *bufs, int nout, int nin, void *token)
{
	unsigned head = (r->packed ? add_packed : add_split)(r, bufs, nout, nout + nin);

	r->token[head] = token;
	r->outstanding++;
	return head;
}

bool vring_kick(struct dring *r)
{
	bool want;

	__asm__ volatile("lock; addl $0, (%%rsp)" ::: "memory", "cc");
	if (r->packed) {
		uint16_t *ev = guest_ptr(r->drv->g, r->used, 4);

		/*
		 * With an event index a driver may be lazier; telling too often is always allowed.
		 */
		want = SHARED_LOAD(uint16_t, &ev[1]) != VRING_PACKED_EVENT_FLAG_DISABLE;
	} else if (r->event_idx) {
		uint16_t event = SHARED_LOAD(
			uint16_t, (char *)guest_ptr(r->drv->g, r->used, 6 + 8ull * r->size) + 4 +
					  8 * r->size);

		/*
		 * One chain since the last look, as these tests add them; the device must want the
		 * one it waits for.
		 */
		want = vring_need_event(event, r->next_avail, r->next_avail - r->outstanding);
	} else {
		want = !(SHARED_LOAD(uint16_t, guest_ptr(r->drv->g, r->used, 2)) &
			 VRING_USED_F_NO_NOTIFY);
	}
	if (want)
		vdrv_notify(r->drv, r->index);
	return want;
}

/* --- getting back --- */

static void *give_back(struct dring *r, unsigned id, uint16_t next_free)
{
	if (id >= r->size || !r->ndesc[id])
		FAIL("queue %u: the device used buffer %u, which it does not have", r->index, id);
	r->outstanding--;
	if (!r->packed) {
		struct vring_desc *desc = guest_ptr(r->drv->g, r->desc, 16ull * r->size);
		uint16_t i = id;

		for (unsigned n = r->ndesc[id]; n; n--) {
			r->free_list[r->nfree++] = i;
			i = desc[i].next;
		}
	} else {
		r->nfree += r->ndesc[id];
	}
	r->ndesc[id] = 0;
	return r->token[id];
}

static void *get_split(struct dring *r, uint32_t *len)
{
	char *used = guest_ptr(r->drv->g, r->used, 6 + 8ull * r->size);
	uint16_t idx = SHARED_LOAD(uint16_t, used + 2);
	uint32_t *elem;

	if (idx == r->last_used)
		return NULL;
	if ((uint16_t)(idx - r->last_used) > r->outstanding)
		FAIL("queue %u: used index %u, we saw %u and wait for %u", r->index, idx,
		     r->last_used, r->outstanding);
	elem = (uint32_t *)(used + 4 + 8 * (r->last_used % r->size));
	r->last_used++;
	*len = elem[1];
	return give_back(r, elem[0], 0);
}

static void *get_packed(struct dring *r, uint32_t *len)
{
	struct vring_packed_desc *d = guest_ptr(r->drv->g, r->desc + 16 * r->last_used, 16);
	uint16_t flags = SHARED_LOAD(uint16_t, &d->flags);
	bool avail = flags >> VRING_PACKED_DESC_F_AVAIL & 1,
	     used = flags >> VRING_PACKED_DESC_F_USED & 1;
	uint16_t id = d->id;

	if (avail != used || used != r->used_wrap)
		return NULL;
	*len = d->len;
	if (id >= r->size || !r->ndesc[id])
		FAIL("queue %u: the device used buffer %u, which it does not have", r->index, id);
	r->last_used += r->ndesc[id];
	if (r->last_used >= r->size) {
		r->last_used -= r->size;
		r->used_wrap = !r->used_wrap;
	}
	return give_back(r, id, 0);
}

void *vring_get(struct dring *r, uint32_t *len)
{
	uint32_t dummy;

	return (r->packed ? get_packed : get_split)(r, len ? len : &dummy);
}

void *vring_wait(struct dring *r, uint32_t *len)
{
	int64_t end = now_ns() + 5 * NS_PER_SEC;
	void *token;

	while (!(token = vring_get(r, len))) {
		if (now_ns() > end)
			FAIL("queue %u: nothing comes back (%u outstanding)", r->index,
			     r->outstanding);
		guest_run(r->drv->g, 1);
	}
	return token;
}

void vring_want_irq(struct dring *r, bool on)
{
	uint16_t *avail = guest_ptr(r->drv->g, r->avail, r->packed ? 4 : 6 + 2ull * r->size);

	if (r->packed) {
		avail[0] = r->last_used | r->used_wrap << VRING_PACKED_EVENT_F_WRAP_CTR;
		SHARED_STORE(uint16_t, &avail[1],
			     !on	    ? VRING_PACKED_EVENT_FLAG_DISABLE
			     : r->event_idx ? VRING_PACKED_EVENT_FLAG_DESC
					    : VRING_PACKED_EVENT_FLAG_ENABLE);
	} else if (r->event_idx) {
		SHARED_STORE(uint16_t, &avail[2 + r->size], on ? r->last_used : r->last_used - 1);
	} else {
		SHARED_STORE(uint16_t, &avail[0], on ? 0 : VRING_AVAIL_F_NO_INTERRUPT);
	}
	__asm__ volatile("lock; addl $0, (%%rsp)" ::: "memory", "cc");
}
