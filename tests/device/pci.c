/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pci.c: configuration space, BARs and MSI-X of a function, and what a guest can do to them. */
#include <errno.h>

#include "devices/chips.h"
#include "tests/lib/threeway.h"

#define DEVFN PCI_DEVFN(5, 0)

struct fn {
	struct pci_dev pci;
	uint32_t reg;
	uint64_t at[PCI_BARS];		/* where `moved` says each BAR is */
	unsigned moves;
};

static uint64_t reg_read(void *dev, uint64_t off, unsigned size)
{
	return ((struct fn *)dev)->reg + off;
}

static void reg_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	((struct fn *)dev)->reg = (uint32_t)val;
}

static const struct region_ops reg_ops = {
	.name = "test", .read = reg_read, .write = reg_write, .min_width = 4, .max_width = 4
};

static void moved(void *ctx, bool mapped, uint64_t addr)
{
	struct fn *f = ctx;

	f->at[0] = mapped ? addr : 0;
	f->moves++;
}

static struct fn *of(struct device *d)
{
	return container_of(d, struct fn, pci.dev);
}

static void fn_reset(struct device *d)
{
	of(d)->reg = 0;
	pci_dev_reset(&of(d)->pci);
}

static int fn_save(struct device *d, struct state_out *o)
{
	state_u32(o, "reg", of(d)->reg);
	return pci_dev_save(&of(d)->pci, o);
}

static int fn_load(struct device *d, struct state_in *in, uint32_t version)
{
	if (state_get_u32(in, "reg", &of(d)->reg) < 0)
		return -EINVAL;
	return pci_dev_load(&of(d)->pci, in);
}

static void fn_destroy(struct device *d)
{
	pci_dev_exit(&of(d)->pci);
	free(of(d));
}

static const struct device_ops fn_ops = {
	.name = "test",
	.version = 1,
	.reset = fn_reset,
	.save = fn_save,
	.load = fn_load,
	.destroy = fn_destroy,
};

static struct fn *fn_new(struct guest *g, unsigned devfn, bool msix)
{
	struct fn *f = xcalloc(1, sizeof(*f));
	char id[16];

	snprintf(id, sizeof(id), "test%u", devfn);
	device_init(&f->pci.dev, &fn_ops, id, g->loop);
	CHECK_EQ(pci_dev_init(&f->pci, g->pci, devfn,
			      &(struct pci_id){ 0x1234, 0x5678, 0x1af4, 0x1100, 0xff000001, true,
						false }),
		 0);
	pci_bar_regs(&f->pci, 0, PCI_BASE_ADDRESS_SPACE_IO, 32, &reg_ops, f);
	f->pci.bars[0].moved = moved;
	if (msix)
		CHECK_EQ(pci_msix_init(&f->pci, 1, 3), 0);
	pci_bar_regs(&f->pci, 2, PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH,
		     64 * KiB, &reg_ops, f);
	return f;
}

static struct device *make(struct guest *g, void *ctx)
{
	return &fn_new(g, DEVFN, true)->pci.dev;
}

#define CR(off, size) cfg_read(t->g, DEVFN, off, size)
#define CW(off, size, v) cfg_write(t->g, DEVFN, off, size, v)

static void step_sizes(struct tw *t)
{
	unsigned before = of(t->d)->moves;

	tw_say(t, "id %08x class %08x command %08x", CR(0, 4), CR(8, 4), CR(4, 4));
	for (unsigned i = 0; i < 6; i++)
		CW(0x10 + 4 * i, 4, 0xffffffff);
	for (unsigned i = 0; i < 6; i++)
		tw_say(t, "bar %u %08x", i, CR(0x10 + 4 * i, 4));
	tw_say(t, "rom %08x", CR(0x30, 4));
	CHECK_EQ(of(t->d)->moves, before);	/* sizing with decode off costs nothing */
}

static void step_map(struct tw *t)
{
	CW(0x10, 4, 0xc000);
	CW(0x14, 4, 0xe0000000);
	/* 64 bits: above 4 GiB, misaligned bits are not there */
	CW(0x18, 4, 0x20000);
	CW(0x1c, 4, 8);
	CW(0x04, 2, 7);
	out(t->g->pio, 0xc004, 4, 77);
	tw_say(t, "io %llx mem %llx bars %08x %08x %08x",
	       (unsigned long long)in(t->g->pio, 0xc008, 4),
	       (unsigned long long)in(t->g->mmio, 0x800020010, 4), CR(0x10, 4), CR(0x18, 4),
	       CR(0x1c, 4));
}

static void step_move(struct tw *t)
{
	CW(0x10, 4, 0xd000);
	tw_say(t, "old %llx new %llx", (unsigned long long)in(t->g->pio, 0xc008, 4),
	       (unsigned long long)in(t->g->pio, 0xd008, 4));
	CW(0x04, 2, 6);
	tw_say(t, "off %llx", (unsigned long long)in(t->g->pio, 0xd008, 4));
	CW(0x04, 2, 7);
}

static void entry(struct guest *g, unsigned i, uint64_t addr, uint32_t data, uint32_t control)
{
	out(g->mmio, 0xe0000000 + 16 * i, 4, (uint32_t)addr);
	out(g->mmio, 0xe0000004 + 16 * i, 4, addr >> 32);
	out(g->mmio, 0xe0000008 + 16 * i, 4, data);
	out(g->mmio, 0xe000000c + 16 * i, 4, control);
}

static unsigned msix_cap(struct guest *g)
{
	return cfg_read(g, DEVFN, PCI_CAPABILITY_LIST, 1);
}

static void step_msix(struct tw *t)
{
	tw_say(t, "cap %08x %08x %08x", CR(msix_cap(t->g), 4), CR(msix_cap(t->g) + 4, 4),
	       CR(msix_cap(t->g) + 8, 4));
	for (unsigned i = 0; i < 3; i++)
		entry(t->g, i, 0xfee00000, 0x40 + i, i == 1);
	memset(t->g->msi, 0, sizeof(t->g->msi));
	CW(msix_cap(t->g) + 2, 2, 0xc000);	/* enabled, all masked */
	vec_notify(pci_msix_vec(&of(t->d)->pci, 0));
	vec_notify(pci_msix_vec(&of(t->d)->pci, 1));
	CHECK_EQ(t->g->msi[0x40], 0);
	tw_say(t, "pending %llx", (unsigned long long)in(t->g->mmio, 0xe0000800, 4));
}

static void step_unmask(struct tw *t)
{
	memset(t->g->msi, 0, sizeof(t->g->msi));
	CW(msix_cap(t->g) + 2, 2, 0x8000);
	tw_say(t, "pending %llx, sent %u %u", (unsigned long long)in(t->g->mmio, 0xe0000800, 4),
	       t->g->msi[0x40], t->g->msi[0x41]);
	CHECK_EQ(t->g->msi[0x40], 1);
	CHECK_EQ(t->g->msi[0x41], 0);
	out(t->g->mmio, 0xe000001c, 4, 0);
	tw_say(t, "pending %llx, sent %u %u", (unsigned long long)in(t->g->mmio, 0xe0000800, 4),
	       t->g->msi[0x40], t->g->msi[0x41]);
	out(t->g->mmio, 0xe0000800, 4, ~0u);	/* read-only */
	tw_say(t, "entry %08llx %08llx", (unsigned long long)in(t->g->mmio, 0xe0000010, 4),
	       (unsigned long long)in(t->g->mmio, 0xe0000018, 4));
	CHECK(!pci_msix_vec(&of(t->d)->pci, 3));
}

static void (*const steps[])(struct tw *t) = { step_sizes, step_map, step_move, step_msix,
					       step_unmask };

TEST(function_three_ways)
{
	threeway(&(struct tw_scenario){ .make = make, .steps = steps, .n = ARRAY_SIZE(steps) });
}

TEST(the_lower_function_wins_where_bars_overlap)
{
	struct guest *g = chips_guest();
	struct fn *low = fn_new(g, PCI_DEVFN(3, 0), false),
		  *high = fn_new(g, PCI_DEVFN(6, 0), false);

	low->reg = 0x1000;
	high->reg = 0x2000;
	cfg_write(g, PCI_DEVFN(6, 0), 0x10, 4, 0xc000);
	cfg_write(g, PCI_DEVFN(6, 0), 4, 2, 1);
	CHECK_EQ(in(g->pio, 0xc000, 4), 0x2000);
	cfg_write(g, PCI_DEVFN(3, 0), 0x10, 4, 0xc000);
	cfg_write(g, PCI_DEVFN(3, 0), 4, 2, 1);
	CHECK_EQ(in(g->pio, 0xc000, 4), 0x1000);
	cfg_write(g, PCI_DEVFN(3, 0), 4, 2, 0);
	CHECK_EQ(in(g->pio, 0xc000, 4), 0x2000);
	/* Removing the winner gives the place back, too. */
	cfg_write(g, PCI_DEVFN(3, 0), 4, 2, 1);
	loop_lock(g->loop);
	device_destroy(&low->pci.dev);
	loop_unlock(g->loop);
	CHECK_EQ(in(g->pio, 0xc000, 4), 0x2000);
	CHECK_EQ(cfg_read(g, PCI_DEVFN(3, 0), 0, 4), 0xffffffff);
}

TEST(addresses_that_are_no_places)
{
	struct guest *g = chips_guest();
	struct fn *f = fn_new(g, DEVFN, false);
	static const uint32_t io[] = { 0, 0xffffffff, 0xffe0, 0x10000, 0xfffffc00 };

	cfg_write(g, DEVFN, 4, 2, 3);
	for (unsigned i = 0; i < ARRAY_SIZE(io); i++) {
		cfg_write(g, DEVFN, 0x10, 4, io[i]);
		CHECK_EQ(f->pci.bars[0].mapped, 0);
	}
	cfg_write(g, DEVFN, 0x18, 4, 0xffffffff);
	cfg_write(g, DEVFN, 0x1c, 4, 0xffffffff);
	CHECK_EQ(f->pci.bars[2].mapped, 0);
	cfg_write(g, DEVFN, 0x1c, 4, 0x7fffffff);	/* beyond the bus: refused, and said */
	CHECK_EQ(f->pci.bars[2].mapped, 0);
	/* over RAM: RAM wins at the vCPU, the map takes it */
	cfg_write(g, DEVFN, 0x18, 4, 0);
	cfg_write(g, DEVFN, 0x1c, 4, 1);
	CHECK_EQ(f->pci.bars[2].mapped, 1);
}

TEST(assignment_without_firmware)
{
	struct guest *g = chips_guest();
	struct fn *a = fn_new(g, PCI_DEVFN(3, 0), true), *b = fn_new(g, PCI_DEVFN(4, 0), true);

	guest_assign_bars(g);
	CHECK(a->pci.bars[0].mapped && b->pci.bars[0].mapped && a->pci.bars[2].mapped &&
	      b->pci.bars[1].mapped);
	CHECK_EQ(a->pci.bars[2].addr, 0xe0000000);	/* the largest first */
	CHECK_EQ(b->pci.bars[2].addr, 0xe0010000);
	CHECK_EQ(a->pci.bars[1].addr, 0xe0020000);
	/* slot 3 is on PIRQC */
	CHECK_EQ(cfg_read(g, PCI_DEVFN(3, 0), PCI_INTERRUPT_LINE, 1), 11);
	CHECK_EQ(cfg_read(g, PCI_DEVFN(4, 0), PCI_COMMAND, 2), 3);
}

TEST(a_bent_state_is_refused_or_lived_with)
{
	struct guest *g = chips_guest(), *g2 = chips_guest();
	struct fn *f = fn_new(g, DEVFN, true);
	struct device *d2 = make(g2, NULL);
	unsigned refused = 0;
	struct err err;
	size_t len;
	void *blob;

	guest_assign_bars(g);
	guest_save(&f->pci.dev, &blob, &len);
	for (size_t i = 0; i < len; i++) {
		uint8_t *p = blob, old = p[i];

		p[i] ^= 0x11;
		err.msg[0] = 0;
		if (guest_load(d2, blob, len, &err)) {
			CHECK(err.msg[0]);
			refused++;
		}
		cfg_read(g2, DEVFN, 0, 4);
		p[i] = old;
	}
	CHECK(refused > 100);
	free(blob);
	f->pci.config[PCI_VENDOR_ID] ^= 1;
	guest_save(&f->pci.dev, &blob, &len);
	err.msg[0] = 0;
	CHECK(guest_load(d2, blob, len, &err) < 0 && strstr(err.msg, "read-only"));
	free(blob);
	f->pci.config[PCI_VENDOR_ID] ^= 1;
	guest_save(&f->pci.dev, &blob, &len);
	CHECK_EQ(guest_load(d2, blob, len, &err), 0);
}

TAP_MAIN
