/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pci.c: functions on PCI bus 0 (PCI Local Bus 3.0, chapter 6): configuration space, capabilities,
 * INTA#, and the base address registers, whose windows follow what the guest programs.
 *
 * Configuration space belongs to the main loop's lock. A write that changes where a BAR really
 * decodes asks for an exclusive section, which then compares every function's registers with what
 * is mapped: sizing a BAR while decode is off, as firmware and Linux do, changes nothing and costs
 * nothing.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "devices/pci/msix.h"
#include "vmm/base/log.h"

#define PCI_CONFIG_SIZE 256
/* Below RAM, and a lower function wins against a higher one. */
#define PCI_BAR_PRIO(p, n) (MEM_PRIO_RAM - 1 - (int)((p)->devfn * 8 + (unsigned)(n)))

struct pci_bus {
	struct pci_wires wires;
	struct pci_dev *devs[PCI_SLOTS * PCI_FUNCS];
	bool remap_pending;		/* main loop's lock */
	pthread_mutex_t intx_lock;	/* leaf; held over the router's set */
	uint8_t intx_funcs[PCI_SLOTS][4];	/* functions of the slot that drive the pin */
	void (*intx_set)(void *ctx, unsigned slot, unsigned pin, int level);
	void *intx_ctx;
};

struct pci_bus *pci_bus_new(const struct pci_wires *w)
{
	struct pci_bus *b = xcalloc(1, sizeof(*b));

	b->wires = *w;
	pthread_mutex_init(&b->intx_lock, NULL);
	return b;
}

void pci_bus_free(struct pci_bus *b)
{
	if (!b)
		return;
	pthread_mutex_destroy(&b->intx_lock);
	free(b);
}

const struct pci_wires *pci_bus_wires(struct pci_bus *b)
{
	return &b->wires;
}

void pci_exclusive(struct pci_bus *b, void (*fn)(void *ctx), void *ctx)
{
	if (!b->wires.vm || (vm_pause_reasons(b->wires.vm) & PAUSE_BOOT))
		fn(ctx);
	else
		vm_exclusive(b->wires.vm, fn, ctx);
}

void pci_bus_set_intx(struct pci_bus *b,
		      void (*set)(void *ctx, unsigned slot, unsigned pin, int level), void *ctx)
{
	b->intx_set = set;
	b->intx_ctx = ctx;
}

struct pci_dev *pci_bus_find(struct pci_bus *b, unsigned devfn)
{
	return devfn < ARRAY_SIZE(b->devs) ? b->devs[devfn] : NULL;
}

void pci_bus_for_each(struct pci_bus *b, void (*fn)(void *ctx, struct pci_dev *p), void *ctx)
{
	for (unsigned i = 0; i < ARRAY_SIZE(b->devs); i++)
		if (b->devs[i])
			fn(ctx, b->devs[i]);
}

/* --- INTA# --- */

/* The lock is held. */
static void intx_update(struct pci_dev *p)
{
	bool out = p->intx_level && !(ld_le16(p->config + PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE);
	unsigned slot = PCI_DEVFN_SLOT(p->devfn), pin = p->config[PCI_INTERRUPT_PIN] - 1u;
	uint8_t before, *funcs;

	if (out == p->intx_out || pin > 3)
		return;
	p->intx_out = out;
	funcs = &p->bus->intx_funcs[slot][pin];
	before = *funcs;
	if (out)
		*funcs |= 1u << PCI_DEVFN_FUNC(p->devfn);
	else
		*funcs &= ~(1u << PCI_DEVFN_FUNC(p->devfn));
	if (!before != !*funcs && p->bus->intx_set)
		p->bus->intx_set(p->bus->intx_ctx, slot, pin, out);
}

void pci_intx(struct pci_dev *p, int level)
{
	pthread_mutex_lock(&p->bus->intx_lock);
	p->intx_level = level != 0;
	intx_update(p);
	pthread_mutex_unlock(&p->bus->intx_lock);
}

static bool intx_asserted(struct pci_dev *p)
{
	bool level;

	pthread_mutex_lock(&p->bus->intx_lock);
	level = p->intx_level;
	pthread_mutex_unlock(&p->bus->intx_lock);
	return level;
}

bool pci_bus_master(const struct pci_dev *p)
{
	return ld_le16(p->config + PCI_COMMAND) & PCI_COMMAND_MASTER;
}

/* --- base address registers --- */

static unsigned bar_offset(int n)
{
	return n == PCI_ROM_SLOT ? PCI_ROM_ADDRESS : PCI_BASE_ADDRESS_0 + 4u * (unsigned)n;
}

static bool bar_is_io(const struct pci_bar *b)
{
	return b->type & PCI_BASE_ADDRESS_SPACE_IO;
}

static bool bar_is_64(const struct pci_bar *b)
{
	return !bar_is_io(b) &&
	       (b->type & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64;
}

/* Where the registers say the BAR decodes; false when it does not decode at all. */
static bool bar_wanted(const struct pci_dev *p, int n, uint64_t *addr)
{
	const struct pci_bar *b = &p->bars[n];
	uint16_t command = ld_le16(p->config + PCI_COMMAND);
	const uint8_t *reg = p->config + bar_offset(n);
	uint64_t a, top;

	if (!b->size || !(command & (bar_is_io(b) ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY)))
		return false;
	if (n == PCI_ROM_SLOT && !(ld_le32(reg) & PCI_ROM_ADDRESS_ENABLE))
		return false;
	a = bar_is_64(b) ? ld_le64(reg) : ld_le32(reg);
	a &= ~(b->size - 1);
	/*
	 * Nothing decodes at 0, and an address whose end is the top of its space is the value
	 * software writes to learn the size, never a place.
	 */
	top = bar_is_io(b) ? 0xffff : bar_is_64(b) ? UINT64_MAX : UINT32_MAX;
	if (a == 0 || a > top || top - a <= b->size - 1)
		return false;
	*addr = a;
	return true;
}

static struct bus *bar_bus(struct pci_dev *p, const struct pci_bar *b)
{
	return bar_is_io(b) ? p->bus->wires.pio : p->bus->wires.mmio;
}

static void bar_unmap(struct pci_dev *p, int n)
{
	struct pci_bar *b = &p->bars[n];

	if (!b->mapped)
		return;
	if (b->moved)
		b->moved(b->ctx, false, b->addr);
	if (b->block)
		block_unmap(b->block);
	else
		bus_del(bar_bus(p, b), b->addr, b->ops, b->ctx);
	b->mapped = false;
	trace(TRACE_MMIO, 0, p->dev.id, "BAR %d leaves 0x%llx", n, (unsigned long long)b->addr);
}

static void bar_map(struct pci_dev *p, int n, uint64_t addr)
{
	struct pci_bar *b = &p->bars[n];
	int ret;

	if (b->block)
		ret = block_map(b->block, addr, 0, b->size, PCI_BAR_PRIO(p, n));
	else
		ret = bus_add(bar_bus(p, b), addr, b->size, b->ops, b->ctx, b->loop, p->dev.id,
			      BUS_GUEST);
	if (ret < 0) {
		log_guest("%s: the guest put BAR %d at 0x%llx (%s); it decodes nowhere until it is "
			  "moved",
			  p->dev.id, n, (unsigned long long)addr, strerror(-ret));
		return;
	}
	b->addr = addr;
	b->mapped = true;
	trace(TRACE_MMIO, 0, p->dev.id, "BAR %d at 0x%llx, 0x%llx bytes", n,
	      (unsigned long long)addr, (unsigned long long)b->size);
	if (b->moved)
		b->moved(b->ctx, true, addr);
}

static bool bar_stale(struct pci_dev *p, int n)
{
	const struct pci_bar *b = &p->bars[n];
	uint64_t addr;
	bool wanted;

	if (!b->size)
		return false;
	wanted = bar_wanted(p, n, &addr);
	return wanted != b->mapped || (wanted && addr != b->addr);
}

/*
 * A lower function wins where register windows overlap, and the bus prefers who came first: unmap
 * who must come again.
 */
static void unmap_overlapped(struct pci_bus *bus, const struct pci_bar *fresh, uint64_t addr,
			     unsigned devfn, int n)
{
	for (unsigned i = devfn; i < ARRAY_SIZE(bus->devs); i++) {
		struct pci_dev *p = bus->devs[i];

		for (int k = 0; p && k <= PCI_ROM_SLOT; k++) {
			struct pci_bar *b = &p->bars[k];

			if (!b->mapped || b->block || (i == devfn && k <= n) ||
			    bar_is_io(b) != bar_is_io(fresh))
				continue;
			if (b->addr < addr + fresh->size && addr < b->addr + b->size)
				bar_unmap(p, k);
		}
	}
}

/*
 * Makes the map agree with the registers of every function: exclusive section, or nothing runs yet.
 */
static void bus_remap(void *ctx)
{
	struct pci_bus *bus = ctx;
	uint64_t addr;

	bus->remap_pending = false;
	for (unsigned i = 0; i < ARRAY_SIZE(bus->devs); i++)
		for (int n = 0; bus->devs[i] && n <= PCI_ROM_SLOT; n++)
			if (bar_stale(bus->devs[i], n))
				bar_unmap(bus->devs[i], n);
	for (unsigned i = 0; i < ARRAY_SIZE(bus->devs); i++) {
		struct pci_dev *p = bus->devs[i];

		for (int n = 0; p && n <= PCI_ROM_SLOT; n++) {
			struct pci_bar *b = &p->bars[n];

			if (b->mapped || !bar_wanted(p, n, &addr))
				continue;
			if (!b->block)
				unmap_overlapped(bus, b, addr, i, n);
			bar_map(p, n, addr);
		}
	}
}

static void bars_changed(struct pci_dev *p)
{
	struct pci_bus *bus = p->bus;

	if (bus->remap_pending)
		return;
	for (int n = 0; n <= PCI_ROM_SLOT; n++) {
		if (!bar_stale(p, n))
			continue;
		bus->remap_pending = true;
		pci_exclusive(bus, bus_remap, bus);
		return;
	}
}

static void bar_init(struct pci_dev *p, int n, uint8_t type, uint64_t size)
{
	struct pci_bar *b = &p->bars[n];
	uint8_t *reg = p->config + bar_offset(n), *mask = p->wmask + bar_offset(n);

	assert(n >= 0 && n <= PCI_ROM_SLOT && !b->size && IS_POWER_OF_2(size));
	b->size = size;
	b->type = type;
	b->loop = p->dev.loop;
	if (n == PCI_ROM_SLOT) {
		assert(size >= 2048);
		st_le32(mask, ~((uint32_t)size - 1) | PCI_ROM_ADDRESS_ENABLE);
	} else if (bar_is_64(b)) {
		assert(n < PCI_BARS - 1 && !p->bars[n + 1].size && size >= 16);
		st_le64(reg, type);
		st_le64(mask, ~(size - 1));
	} else {
		assert(size >= (bar_is_io(b) ? 4 : 16) && size <= (bar_is_io(b) ? 256 : GiB));
		st_le32(reg, type);
		st_le32(mask, ~((uint32_t)size - 1));
	}
}

void pci_bar_regs(struct pci_dev *p, int n, uint8_t type, uint64_t size,
		  const struct region_ops *ops, void *ctx)
{
	bar_init(p, n, type, size);
	p->bars[n].ops = ops;
	p->bars[n].ctx = ctx;
}

void pci_bar_block(struct pci_dev *p, int n, uint8_t type, struct block *b)
{
	bar_init(p, n, type, block_size(b));
	p->bars[n].block = b;
}

/* --- a function's life --- */

int pci_dev_init(struct pci_dev *p, struct pci_bus *bus, unsigned devfn, const struct pci_id *id)
{
	if (devfn >= ARRAY_SIZE(bus->devs))
		return -EINVAL;
	if (bus->devs[devfn])
		return -EBUSY;
	p->bus = bus;
	p->devfn = devfn;
	st_le16(p->config + PCI_VENDOR_ID, id->vendor);
	st_le16(p->config + PCI_DEVICE_ID, id->device);
	st_le32(p->config + PCI_CLASS_REVISION, id->class_rev);
	st_le16(p->config + PCI_SUBSYSTEM_VENDOR_ID, id->subsystem_vendor);
	st_le16(p->config + PCI_SUBSYSTEM_ID, id->subsystem);
	p->config[PCI_HEADER_TYPE] = PCI_HEADER_TYPE_NORMAL | (id->multifunction ? 0x80 : 0);
	p->config[PCI_INTERRUPT_PIN] = id->intx ? 1 : 0;
	st_le16(p->wmask + PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |
		PCI_COMMAND_PARITY | PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE);
	p->wmask[PCI_CACHE_LINE_SIZE] = 0xff;
	p->wmask[PCI_LATENCY_TIMER] = 0xff;
	p->wmask[PCI_INTERRUPT_LINE] = 0xff;
	p->cap_free = PCI_STD_HEADER_SIZEOF;
	bus->devs[devfn] = p;
	return 0;
}

void pci_dev_exit(struct pci_dev *p)
{
	if (!p->bus)
		return;
	pci_intx(p, 0);
	for (int n = 0; n <= PCI_ROM_SLOT; n++)
		bar_unmap(p, n);
	msix_free(p);
	p->bus->devs[p->devfn] = NULL;
	p->bus = NULL;
}

static void config_seal(struct pci_dev *p)
{
	if (p->config_sealed)
		return;
	memcpy(p->config_reset, p->config, sizeof(p->config));
	p->config_sealed = true;
}

void pci_dev_reset(struct pci_dev *p)
{
	config_seal(p);
	pthread_mutex_lock(&p->bus->intx_lock);
	p->intx_level = false;
	intx_update(p);
	memcpy(p->config, p->config_reset, sizeof(p->config));
	pthread_mutex_unlock(&p->bus->intx_lock);
	if (p->msix)
		msix_reset(p);
	bars_changed(p);
}

uint8_t pci_cap_add(struct pci_dev *p, uint8_t id, uint8_t len)
{
	uint8_t at = p->cap_free;

	assert(len >= 2 && at + len <= PCI_CONFIG_SIZE);
	p->config[at + PCI_CAP_LIST_ID] = id;
	p->config[at + PCI_CAP_LIST_NEXT] = 0;
	p->config[p->cap_last ? p->cap_last + PCI_CAP_LIST_NEXT : PCI_CAPABILITY_LIST] = at;
	p->config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	p->cap_last = at;
	p->cap_free = ALIGN_UP(at + len, 4) & 0xff;
	return at;
}

/* --- configuration accesses --- */

static bool access_ok(unsigned off, unsigned size)
{
	return (size == 1 || size == 2 || size == 4) && off < PCI_CONFIG_SIZE &&
	       (off & 3) + size <= 4;
}

uint32_t pci_bus_config_read(struct pci_bus *b, unsigned devfn, unsigned off, unsigned size)
{
	struct pci_dev *p = pci_bus_find(b, devfn);
	uint32_t val = 0;

	if (!p || !access_ok(off, size))
		return size == 1 ? 0xff : size == 2 ? 0xffff : 0xffffffff;
	if (p->config_reading)
		p->config_reading(p, off, size);
	for (unsigned i = 0; i < size; i++) {
		uint8_t byte = p->config[off + i];

		if (off + i == PCI_STATUS && intx_asserted(p))
			byte |= PCI_STATUS_INTERRUPT;
		val |= (uint32_t)byte << (8 * i);
	}
	return val;
}

static bool touches(unsigned off, unsigned size, unsigned reg, unsigned len)
{
	return off < reg + len && reg < off + size;
}

void pci_bus_config_write(struct pci_bus *b, unsigned devfn, unsigned off, unsigned size,
			  uint32_t val)
{
	struct pci_dev *p = pci_bus_find(b, devfn);

	if (!p || !access_ok(off, size))
		return;
	config_seal(p);
	/* the command word is read under it by other threads */
	pthread_mutex_lock(&b->intx_lock);
	for (unsigned i = 0; i < size; i++) {
		uint8_t *reg = &p->config[off + i], byte = val >> (8 * i) & 0xff;

		*reg = (*reg & ~p->wmask[off + i]) | (byte & p->wmask[off + i]);
		*reg &= ~(byte & p->w1cmask[off + i]);
	}
	if (touches(off, size, PCI_COMMAND, 2))
		intx_update(p);
	pthread_mutex_unlock(&b->intx_lock);
	if (touches(off, size, PCI_COMMAND, 2) ||
	    touches(off, size, PCI_BASE_ADDRESS_0, 4 * PCI_BARS) ||
	    touches(off, size, PCI_ROM_ADDRESS, 4))
		bars_changed(p);
	if (p->msix)
		msix_config_written(p);
	if (p->config_written)
		p->config_written(p, off, size);
}

/* --- saved state --- */

int pci_dev_save(struct pci_dev *p, struct state_out *o)
{
	state_u8(o, "devfn", p->devfn);
	state_bytes(o, "config", p->config, sizeof(p->config));
	state_u8(o, "intx", intx_asserted(p));
	if (p->msix)
		msix_save(p, o);
	return 0;
}

int pci_dev_load(struct pci_dev *p, struct state_in *in)
{
	uint8_t config[PCI_CONFIG_SIZE], level, devfn = p->devfn;
	int ret;

	config_seal(p);
	if (state_has(in, "devfn"))		/* version 0.1 did not say it at first */
		state_get_u8(in, "devfn", &devfn);
	state_get_bytes(in, "config", config, sizeof(config));
	state_get_u8(in, "intx", &level);
	ret = state_in_error(in);
	if (ret < 0)
		return ret;
	if (devfn != p->devfn)
		return state_bad(
			in,
			"%s: the guest knows it in slot %x.%x, here it is in %x.%x: say addr=%x",
			p->dev.id, devfn >> 3, devfn & 7, p->devfn >> 3, p->devfn & 7, devfn >> 3);
	if (level > 1)
		return state_bad(in, "%s: interrupt level %u", p->dev.id, level);
	for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++) {
		uint8_t fixed = ~(p->wmask[i] | p->w1cmask[i]);

		if ((config[i] ^ p->config_reset[i]) & fixed)
			return state_bad(in,
					 "%s: configuration byte 0x%x is 0x%02x, which differs in "
					 "read-only bits from 0x%02x",
					 p->dev.id, i, config[i], p->config_reset[i]);
	}
	pthread_mutex_lock(&p->bus->intx_lock);
	memcpy(p->config, config, sizeof(config));
	p->intx_level = level;
	intx_update(p);
	pthread_mutex_unlock(&p->bus->intx_lock);
	if (p->msix) {
		ret = msix_load(p, in);
		if (ret < 0)
			return ret;
	}
	bus_remap(p->bus);
	return 0;
}

/* --- assignment without firmware --- */

struct bar_ref {
	struct pci_dev *p;
	int n;
};

static int bar_ref_compare(const void *a, const void *b)
{
	const struct bar_ref *x = a, *y = b;
	uint64_t sx = x->p->bars[x->n].size, sy = y->p->bars[y->n].size;

	if (sx != sy)
		return sx < sy ? 1 : -1;
	if (x->p->devfn != y->p->devfn)
		return x->p->devfn < y->p->devfn ? -1 : 1;
	return x->n - y->n;
}

static bool take_window(uint64_t *base, uint64_t limit, uint64_t size, uint64_t *addr)
{
	uint64_t a = ALIGN_UP(*base, size);

	if (a < *base || a > limit || limit - a < size)
		return false;
	*base = a + size;
	*addr = a;
	return true;
}

static void bar_assign(struct pci_dev *p, int n, uint64_t *io, uint64_t *mem, uint64_t mem_limit,
		       uint64_t *mem64)
{
	struct pci_bar *b = &p->bars[n];
	uint8_t *reg = p->config + bar_offset(n);
	uint16_t decode = bar_is_io(b) ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
	uint64_t addr;

	if (!(bar_is_io(b) ? take_window(io, 0x10000 - 1, b->size, &addr)
			   : take_window(mem, mem_limit, b->size, &addr) ||
				     (bar_is_64(b) && *mem64 &&
				      take_window(mem64, UINT64_MAX, b->size, &addr)))) {
		log_warn("%s: no room for BAR %d (%llu bytes); the guest has to place it",
			 p->dev.id, n, (unsigned long long)b->size);
		return;
	}
	if (bar_is_64(b))
		st_le64(reg, addr | (ld_le64(reg) & (b->size - 1)));
	else
		st_le32(reg, (uint32_t)addr | (ld_le32(reg) & ((uint32_t)b->size - 1)));
	if (n != PCI_ROM_SLOT)
		st_le16(p->config + PCI_COMMAND, ld_le16(p->config + PCI_COMMAND) | decode);
}

void pci_bus_assign(struct pci_bus *b, uint64_t io_base, uint64_t mem_base, uint64_t mem_limit,
		    uint64_t mem64_base, const uint8_t irq_of_pirq[4])
{
	struct bar_ref *refs = xcalloc(ARRAY_SIZE(b->devs) * (PCI_ROM_SLOT + 1), sizeof(*refs));
	size_t count = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(b->devs); i++) {
		struct pci_dev *p = b->devs[i];

		if (!p)
			continue;
		config_seal(p);
		for (int n = 0; n <= PCI_ROM_SLOT; n++)
			if (p->bars[n].size)
				refs[count++] = (struct bar_ref){ p, n };
		if (p->config[PCI_INTERRUPT_PIN])
			p->config[PCI_INTERRUPT_LINE] = irq_of_pirq[pci_intx_pirq(
				PCI_DEVFN_SLOT(i), p->config[PCI_INTERRUPT_PIN] - 1u)];
	}
	/* Largest first: every window then starts aligned and none is wasted between. */
	qsort(refs, count, sizeof(*refs), bar_ref_compare);
	for (size_t i = 0; i < count; i++)
		bar_assign(refs[i].p, refs[i].n, &io_base, &mem_base, mem_limit, &mem64_base);
	free(refs);
	bus_remap(b);
}
