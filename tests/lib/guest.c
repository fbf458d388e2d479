/* SPDX-License-Identifier: GPL-2.0-or-later */
/* guest.c: a machine without KVM for tests/device. */
#include <errno.h>
#include <unistd.h>

#include "tests/lib/guest.h"

static void record_line(void *ctx, unsigned gsi, int level)
{
	struct guest *g = ctx;

	if (gsi >= ARRAY_SIZE(g->lines))
		return;
	g->lines[gsi] += level && !g->line_level[gsi];
	g->line_level[gsi] = level;
}

static void record_msi(void *ctx, uint64_t addr, uint32_t data)
{
	__atomic_add_fetch(&((struct guest *)ctx)->msi[data & 0xff], 1, __ATOMIC_RELAXED);
}

static int record_routes(void *ctx, const struct irq_route *msi, size_t n)
{
	return 0;
}

static int record_irqfd(void *ctx, int fd, unsigned gsi, bool add)
{
	return 0;
}

static const struct irq_backend recorder = { record_line, record_msi, record_routes, record_irqfd };

static void record_intx(void *ctx, unsigned slot, unsigned pin, int level)
{
	struct guest *g = ctx;

	g->intx_raised += level && !g->intx_level;
	g->intx_level = level;
}

void guest_pci_new(struct guest *g, struct vm *vm)
{
	pci_bus_free(g->pci);
	g->pci = pci_bus_new(&(struct pci_wires){ g->pio, g->mmio, g->mem, g->irqs, vm, g->loop });
	pci_bus_set_intx(g->pci, record_intx, g);
}

struct guest *guest_new(void)
{
	struct guest *g = xcalloc(1, sizeof(*g));
	struct err err = { "" };
	struct block *rom;

	g->loop = loop_new("main");
	g->clock = vm_clock_new();
	g->vm = vm_new(g->loop, g->clock);
	g->mem = mem_new(NULL, NULL);
	g->pio = bus_new("pio", 0xffff);
	g->mmio = bus_new("mmio", (1ull << 40) - 1);
	g->irqs = irq_hub_new(&recorder, g);
	g->ram = block_new(g->mem, "ram", GUEST_RAM, BLOCK_RAM | BLOCK_SHARED, &err);
	rom = block_new(g->mem, "rom", GUEST_ROM_SIZE, BLOCK_ROM, &err);
	if (!g->ram || !rom || block_map(g->ram, 0, 0, GUEST_RAM, 0) ||
	    block_map(rom, GUEST_ROM, 0, GUEST_ROM_SIZE, 1))
		tap_fail(__FILE__, __LINE__, "guest memory: %s", err.msg);
	guest_pci_new(g, NULL);
	guest_alloc_reset(g);
	return g;
}

void guest_free(struct guest *g)
{
	struct block *b;

	alarm(20);		/* a block whose buffers are still pinned waits for ever */
	pci_bus_free(g->pci);
	bus_free(g->pio);
	bus_free(g->mmio);
	irq_hub_free(g->irqs);
	while ((b = block_next(g->mem, NULL)))
		block_free(b);
	mem_free(g->mem);
	vm_free(g->vm);
	vm_clock_free(g->clock);
	loop_free(g->loop);
	free(g);
	alarm(120);
}

void guest_alloc_reset(struct guest *g)
{
	g->next = 1 * MiB;
}

uint64_t guest_alloc(struct guest *g, uint64_t len, uint64_t align)
{
	uint64_t at = ALIGN_UP(g->next, align);

	if (at + len > GUEST_RAM)
		tap_fail(__FILE__, __LINE__, "the test needs more guest memory");
	g->next = at + len;
	memset(guest_ptr(g, at, len), 0, len);
	return at;
}

void *guest_ptr(struct guest *g, uint64_t gpa, uint64_t len)
{
	if (!range_ok(gpa, len, GUEST_RAM))
		tap_fail(__FILE__, __LINE__, "guest address 0x%llx", (unsigned long long)gpa);
	return (char *)block_host(g->ram) + gpa;
}

void guest_run(struct guest *g, int ms)
{
	loop_once(g->loop, ms);
}

bool guest_run_until(struct guest *g, bool (*done)(void *ctx), void *ctx, int ms)
{
	int64_t end = now_ns() + ms * NS_PER_MS;

	while (!done(ctx)) {
		if (now_ns() > end)
			return false;
		loop_once(g->loop, 1);
	}
	return true;
}

uint32_t cfg_read(struct guest *g, unsigned devfn, unsigned off, unsigned size)
{
	uint32_t val;

	loop_lock(g->loop);
	val = pci_bus_config_read(g->pci, devfn, off, size);
	loop_unlock(g->loop);
	return val;
}

void cfg_write(struct guest *g, unsigned devfn, unsigned off, unsigned size, uint32_t val)
{
	loop_lock(g->loop);
	pci_bus_config_write(g->pci, devfn, off, size, val);
	loop_unlock(g->loop);
}

void guest_assign_bars(struct guest *g)
{
	static const uint8_t irqs[4] = { 10, 10, 11, 11 };

	loop_lock(g->loop);
	pci_bus_assign(g->pci, 0xc000, 0xe0000000, 0xf0000000, 0, irqs);
	loop_unlock(g->loop);
}

uint64_t bar_addr(struct guest *g, unsigned devfn, int n)
{
	uint32_t lo = cfg_read(g, devfn, PCI_BASE_ADDRESS_0 + 4 * n, 4);

	if (lo & PCI_BASE_ADDRESS_SPACE_IO)
		return lo & PCI_BASE_ADDRESS_IO_MASK;
	if ((lo & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64)
		return (lo & ~0xfull) |
		       (uint64_t)cfg_read(g, devfn, PCI_BASE_ADDRESS_0 + 4 * n + 4, 4) << 32;
	return lo & ~0xfull;
}

uint64_t in(struct bus *b, uint64_t addr, unsigned size)
{
	uint64_t val;

	bus_read(b, addr, size, &val);
	return val;
}

void out(struct bus *b, uint64_t addr, unsigned size, uint64_t val)
{
	bus_write(b, addr, size, val);
}

static void set_flag(void *ctx)
{
	*(bool *)ctx = true;
}

static bool flag(void *ctx)
{
	return *(bool *)ctx;
}

void guest_quiesce(struct guest *g, struct device *d)
{
	bool quiet = false;

	if (!d->ops->quiesce)
		return;
	loop_lock(d->loop);
	d->ops->quiesce(d, set_flag, &quiet);
	loop_unlock(d->loop);
	if (!guest_run_until(g, flag, &quiet, 5000))
		tap_fail(__FILE__, __LINE__, "%s never becomes quiet", d->id);
}

void guest_save(struct device *d, void **blob, size_t *len)
{
	struct state_out *o = state_out_new();
	int ret;

	loop_lock(d->loop);
	ret = device_save(d, o);
	loop_unlock(d->loop);
	if (ret || state_out_finish(o, blob, len))
		tap_fail(__FILE__, __LINE__, "%s cannot be saved", d->id);
}

int guest_load(struct device *d, const void *blob, size_t len, struct err *why)
{
	struct err err = { "" };
	struct state_in *in = state_in_new(blob, len, &err);
	int ret;

	if (why)
		why->msg[0] = 0;
	if (!in) {
		err_set(why, EINVAL, "%s", err.msg);
		return -EINVAL;
	}
	loop_lock(d->loop);
	ret = device_load(d, in);
	loop_unlock(d->loop);
	if (ret) {
		err_set(why, -ret, "%s", state_in_reason(in));
		state_in_free(in);
		return ret;
	}
	return state_in_finish(in, why);
}
