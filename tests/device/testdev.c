/* SPDX-License-Identifier: GPL-2.0-or-later */
/* testdev.c: pc-testdev and pci-testdev, without KVM. */
#include "devices/chips.h"
#include "tests/lib/threeway.h"

#define DEVFN PCI_DEVFN(4, 0)

static struct device *make_pc(struct guest *g, void *ctx)
{
	return guest_make(g, &kind_pc_testdev, "", NULL);
}

static void step_latch(struct tw *t)
{
	out(t->g->pio, 0xe0, 4, 0xa1b2c3d4);
	out(t->g->pio, 0xe1, 1, 0x55);
	out(t->g->pio, 0xe8, 2, 0x6677);
}

static void step_say(struct tw *t)
{
	tw_say(t, "latch %08x %04x %02x", (unsigned)in(t->g->pio, 0xe0, 4),
	       (unsigned)in(t->g->pio, 0xe2, 2), (unsigned)in(t->g->pio, 0xeb, 1));
	tw_say(t, "buffer %016lx", (unsigned long)in(t->g->mmio, 0xff00fff8, 8));
	for (unsigned i = 0; i < 24; i++)
		if (irq_level(t->g->irqs, i))
			tw_say(t, "line %u", i);
}

static void step_lines(struct tw *t)
{
	out(t->g->pio, 0x2000 + 5, 1, 1);
	out(t->g->pio, 0x2000 + 23, 1, 0xff);
	out(t->g->pio, 0x2000 + 14, 1, 1);
	out(t->g->pio, 0x2000 + 14, 1, 0);
}

static void step_buffer(struct tw *t)
{
	out(t->g->mmio, 0xff00fff8, 8, 0x1122334455667788);
	out(t->g->mmio, 0xff00ffff, 1, 0x99);
	out(t->g->pio, 0xe4, 4, 0x3000);	/* forgotten by KVM, kept by us */
}

static void (*const pc_steps[])(struct tw *t) = { step_latch, step_say, step_lines, step_buffer,
						  step_say };

TEST(pc_testdev_three_ways)
{
	threeway(&(struct tw_scenario){
		.make = make_pc, .steps = pc_steps, .n = ARRAY_SIZE(pc_steps) });
}

TEST(pc_testdev_once)
{
	struct guest *g = chips_guest();
	struct err err = { "" };
	uint8_t *page;

	CHECK(make_pc(g, NULL));
	CHECK(!guest_make(g, &kind_pc_testdev, "", &err));
	CHECK(strstr(err.msg, "0xe0"));
	page = guest_ptr(g, guest_alloc(g, 4096, 4096), 4096);
	page[7] = 7;
	out(g->pio, 0xe4, 4, 0x10);		/* RAM, */
	out(g->pio, 0xe4, 4, GUEST_ROM);	/* what nobody may write, */
	out(g->pio, 0xe4, 4, GUEST_HOLE);	/* nothing at all */
	CHECK_EQ(page[7], 7);
}

static struct device *make_pci(struct guest *g, void *ctx)
{
	return guest_make(g, &kind_pci_testdev, "addr=4", NULL);
}

static struct bus *bar_bus(struct guest *g, int n)
{
	return n ? g->pio : g->mmio;
}

static void step_assign(struct tw *t)
{
	guest_assign_bars(t->g);
	tw_say(t, "id %08x, class %08x, pin %02x", cfg_read(t->g, DEVFN, 0, 4),
	       cfg_read(t->g, DEVFN, 8, 4), cfg_read(t->g, DEVFN, 0x3d, 1));
}

static void start(struct tw *t, int bar, unsigned test)
{
	out(bar_bus(t->g, bar), bar_addr(t->g, DEVFN, bar), 1, test);
	guest_run(t->g, 0);
}

/* The write the header asks for, some that it does not, and what was counted. */
static void count(struct tw *t, int bar)
{
	struct bus *b = bar_bus(t->g, bar);
	uint64_t at = bar_addr(t->g, DEVFN, bar);
	unsigned off = (unsigned)in(b, at + 4, 4), data = (unsigned)in(b, at + 8, 1);

	for (int i = 0; i < 3; i++)
		out(b, at + off, 1, data);
	out(b, at + off, 1, 0x11);
	out(b, at + off + 1, 1, data);
	tw_say(t, "width %u, %02x to %03x, count %u, %c", (unsigned)in(b, at + 1, 1), data, off,
	       (unsigned)in(b, at + 12, 4), (char)in(b, at + 16, 1));
}

static void step_memory(struct tw *t)
{
	start(t, 0, 1);
	count(t, 0);
}

static void step_again(struct tw *t)
{
	count(t, 0);
}

static void step_ports(struct tw *t)
{
	for (unsigned test = 0; test < 4; test++) {
		start(t, 1, test);
		count(t, 1);
	}
	start(t, 1, 2);
}

/* The eventfd follows the BAR. */
static void step_move(struct tw *t)
{
	uint64_t at = bar_addr(t->g, DEVFN, 1);

	count(t, 1);
	cfg_write(t->g, DEVFN, 0x14, 4, (uint32_t)at + 0x1000);
	guest_run(t->g, 0);
	out(t->g->pio, at + 0x85, 1, 0xfa);	/* nobody's any more */
	count(t, 1);
}

static void (*const pci_steps[])(struct tw *t) = { step_assign, step_memory, step_again, step_ports,
						   step_move };

TEST(pci_testdev_three_ways)
{
	threeway(&(struct tw_scenario){
		.make = make_pci, .steps = pci_steps, .n = ARRAY_SIZE(pci_steps) });
}

TEST(pci_testdev_counts)
{
	struct guest *g = chips_guest();
	struct tw t = { .g = g, .d = make_pci(g, NULL) };
	static const struct { int bar; unsigned test, count; const char *name;
	} cases[] = {
		{ 0, 0, 3, "mmio-no-eventfd" },		{ 0, 1, 4, "mmio-wildcard-eventfd" },
		{ 0, 2, 3, "mmio-datamatch-eventfd" },	{ 1, 0, 3, "portio-no-eventfd" },
		{ 1, 1, 4, "portio-wildcard-eventfd" }, { 1, 2, 3, "portio-datamatch-eventfd" },
	};

	CHECK(t.d);
	t.log = fopen("/dev/null", "w");
	guest_assign_bars(g);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct bus *b = bar_bus(g, cases[i].bar);
		uint64_t at = bar_addr(g, DEVFN, cases[i].bar);
		char name[32] = "";

		start(&t, cases[i].bar, cases[i].test);
		CHECK_EQ(in(b, at + 4, 4), (cases[i].bar ? 128 : 2048) + i);
		count(&t, cases[i].bar);
		CHECK_EQ(in(b, at + 12, 4), cases[i].count);
		for (unsigned k = 0; k < sizeof(name) - 1; k++)
			name[k] = (char)in(b, at + 16 + k, 1);
		CHECK(!strcmp(name, cases[i].name));
		start(&t, cases[i].bar, 3);
		CHECK_EQ(in(b, at + 1, 1), 0);		/* no such test */
	}
}

TEST(the_eventfd_follows_the_bar)
{
	struct guest *g = chips_guest();
	struct tw t = { .g = g, .d = make_pci(g, NULL) };
	uint64_t at;

	CHECK(t.d);
	guest_assign_bars(g);
	start(&t, 1, 1);
	at = bar_addr(g, DEVFN, 1);
	cfg_write(g, DEVFN, 0x14, 4, (uint32_t)at + 0x1000);
	guest_run(g, 0);
	out(g->pio, at + 0x84, 1, 1);
	CHECK_EQ(in(g->pio, at + 0x1000 + 12, 4), 0);
	out(g->pio, at + 0x1000 + 0x84, 1, 1);
	CHECK_EQ(in(g->pio, at + 0x1000 + 12, 4), 1);
	/* A BAR that does not decode counts nothing. */
	start(&t, 1, 1);
	cfg_write(g, DEVFN, 4, 2, 2);		/* memory, no ports */
	guest_run(g, 0);
	out(g->pio, at + 0x1000 + 0x84, 1, 1);
	cfg_write(g, DEVFN, 4, 2, 3);
	guest_run(g, 0);
	CHECK_EQ(in(g->pio, at + 0x1000 + 12, 4), 0);
}

TAP_MAIN
