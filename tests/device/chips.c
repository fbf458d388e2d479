/* SPDX-License-Identifier: GPL-2.0-or-later */
/* chips.c: host bridge, ISA bridge, power management, hot-plug and the small ports, without KVM. */
#include <errno.h>

#include "devices/chips.h"
#include "tests/lib/threeway.h"

static uint32_t conf(struct guest *g, unsigned devfn, unsigned off, unsigned size)
{
	out(g->pio, 0xcf8, 4, 0x80000000u | devfn << 8 | (off & ~3u));
	return (uint32_t)in(g->pio, 0xcfc + (off & 3), size);
}

static void conf_write(struct guest *g, unsigned devfn, unsigned off, unsigned size, uint32_t val)
{
	out(g->pio, 0xcf8, 4, 0x80000000u | devfn << 8 | (off & ~3u));
	out(g->pio, 0xcfc + (off & 3), size, val);
}

/* --- host bridge --- */

static struct block *pam_ram(struct guest *g)
{
	struct err err = { "" };
	struct block *b = block_find(g->mem, "pc-ram");

	return b ? b : block_new(g->mem, "pc-ram", 2 * MiB, BLOCK_RAM, &err);
}

static struct device *make_i440fx(struct guest *g, void *ctx)
{
	struct err err = { "" };

	return i440fx_new(g->pci, pam_ram(g), false, &err);
}

/*
 * What the guest sees at an address of the shadow area: n nothing of ours, r read-only RAM, w RAM.
 */
static char shown(struct guest *g, uint64_t gpa)
{
	uint8_t *ram = block_host(pam_ram(g));

	if (mem_ptr(g->mem, gpa, 1, true) == ram + gpa)
		return 'w';
	return mem_ptr(g->mem, gpa, 1, false) == ram + gpa ? 'r' : 'n';
}

static void say_pam(struct tw *t)
{
	char map[14] = "";

	for (unsigned i = 0; i < 13; i++)
		map[i] = shown(t->g, 0xc0000 + 0x4000 * i);
	tw_say(t, "pam %s", map);
}

static void step_pam_start(struct tw *t)
{
	tw_say(t, "id %08x", conf(t->g, 0, 0, 4));
	say_pam(t);
}

static void step_pam_all(struct tw *t)
{
	conf_write(t->g, 0, 0x58, 4, 0x33333000);
	conf_write(t->g, 0, 0x5c, 4, 0x33333333);
	tw_say(t, "%08x %08x", conf(t->g, 0, 0x58, 4), conf(t->g, 0, 0x5c, 4));
	say_pam(t);
}

static void step_pam_mixed(struct tw *t)
{
	conf_write(t->g, 0, 0x59, 1, 0x10);
	conf_write(t->g, 0, 0x5b, 1, 0x13);
	conf_write(t->g, 0, 0x5d, 1, 0x20);
	say_pam(t);
}

static void step_address(struct tw *t)
{
	out(t->g->pio, 0xcf8, 4, 0xdeadbeef);
	tw_say(t, "address %08x", (unsigned)in(t->g->pio, 0xcf8, 4));
	out(t->g->pio, 0xcf8, 1, 0);		/* not a dword: nothing happens */
	tw_say(t, "address %08x, data %08x", (unsigned)in(t->g->pio, 0xcf8, 4),
	       (unsigned)in(t->g->pio, 0xcfc, 4));
}

static void (*const pam_steps[])(struct tw *t) = {
	step_pam_start, step_pam_all, step_pam_mixed, step_address, step_pam_all,
};

TEST(host_bridge_three_ways)
{
	threeway(&(struct tw_scenario){
		.make = make_i440fx, .steps = pam_steps, .n = ARRAY_SIZE(pam_steps) });
}

TEST(pam_shows_what_it_says)
{
	struct guest *g = chips_guest();
	char *ram = block_host(pam_ram(g)), c;

	make_i440fx(g, NULL);
	memcpy(ram + 0xc0000, "shadow", 7);
	CHECK_EQ(shown(g, 0xc0000), 'n');
	conf_write(g, 0, 0x5a, 1, 0x01);
	CHECK_EQ(shown(g, 0xc0000), 'r');
	CHECK_EQ(shown(g, 0xc4000), 'n');
	CHECK(mem_write(g->mem, 0xc0000, "x", 1) < 0);
	CHECK_EQ(mem_read(g->mem, 0xc0000, &c, 1), 0);
	CHECK_EQ(c, 's');
	conf_write(g, 0, 0x5a, 1, 0x33);
	CHECK_EQ(mem_write(g->mem, 0xc7fff, "x", 1), 0);
	CHECK_EQ(ram[0xc7fff], 'x');
	conf_write(g, 0, 0x5a, 1, 0x22);	/* write-only is shown as nothing */
	CHECK_EQ(shown(g, 0xc0000), 'n');
}

/* --- router --- */

struct fn {
	struct pci_dev pci;
};

static void fn_reset(struct device *d)
{
	pci_dev_reset(container_of(d, struct pci_dev, dev));
}

static void fn_destroy(struct device *d)
{
	struct fn *f = container_of(d, struct fn, pci.dev);

	pci_dev_exit(&f->pci);
	free(f);
}

static const struct device_ops fn_ops = {
	.name = "test", .version = 1, .reset = fn_reset, .destroy = fn_destroy
};

static struct pci_dev *fn_new(struct guest *g, unsigned devfn)
{
	struct fn *f = xcalloc(1, sizeof(*f));
	char id[16];

	snprintf(id, sizeof(id), "fn%u", devfn);
	device_init(&f->pci.dev, &fn_ops, id, g->loop);
	CHECK_EQ(pci_dev_init(&f->pci, g->pci, devfn,
			      &(struct pci_id){ .vendor = 1, .device = 2, .intx = true }),
		 0);
	return &f->pci;
}

static struct device *make_piix3(struct guest *g, void *ctx)
{
	struct err err = { "" };
	struct device *d;

	fn_new(g, PCI_DEVFN(3, 0));		/* PIRQC */
	fn_new(g, PCI_DEVFN(4, 0));		/* PIRQD */
	fn_new(g, PCI_DEVFN(7, 0));		/* PIRQC again */
	d = piix3_new(g->pci, &(struct piix3_opts){ .devfn = PCI_DEVFN(1, 0) }, &err);
	return d;
}

static void say_lines(struct tw *t)
{
	tw_say(t, "5:%d 10:%d 11:%d", t->g->line_level[5], t->g->line_level[10],
	       t->g->line_level[11]);
}

static void step_routes(struct tw *t)
{
	cfg_write(t->g, PCI_DEVFN(1, 0), 0x60, 4, 0x0b0b0a0a);
	tw_say(t, "%08x", cfg_read(t->g, PCI_DEVFN(1, 0), 0x60, 4));
	say_lines(t);
}

static void step_moved_route(struct tw *t)
{
	cfg_write(t->g, PCI_DEVFN(1, 0), 0x62, 1, 0x05);
	say_lines(t);
	cfg_write(t->g, PCI_DEVFN(1, 0), 0x63, 1, 0x80);
	say_lines(t);
}

static void step_elcr(struct tw *t)
{
	out(t->g->pio, 0x4d0, 2, 0xffff);
	tw_say(t, "elcr %04x", (unsigned)in(t->g->pio, 0x4d0, 2));
	out(t->g->pio, 0xcf9, 1, 2);
	tw_say(t, "rc %02x", (unsigned)in(t->g->pio, 0xcf9, 1));
}

static void (*const piix3_steps[])(struct tw *t) = { step_routes, step_moved_route, step_elcr,
						     step_routes };

TEST(isa_bridge_three_ways)
{
	threeway(&(struct tw_scenario){
		.make = make_piix3, .steps = piix3_steps, .n = ARRAY_SIZE(piix3_steps) });
}

TEST(a_pirq_follows_its_route)
{
	struct guest *g = chips_guest();
	struct pci_dev *a, *b;

	make_piix3(g, NULL);
	a = pci_bus_find(g->pci, PCI_DEVFN(3, 0));
	b = pci_bus_find(g->pci, PCI_DEVFN(7, 0));
	pci_intx(a, 1);
	CHECK_EQ(g->line_level[11], 0);			/* no route yet */
	cfg_write(g, PCI_DEVFN(1, 0), 0x62, 1, 11);
	CHECK_EQ(g->line_level[11], 1);
	pci_intx(b, 1);
	pci_intx(a, 0);
	CHECK_EQ(g->line_level[11], 1);			/* two functions, one wire */
	cfg_write(g, PCI_DEVFN(1, 0), 0x62, 1, 5);
	CHECK_EQ(g->line_level[11], 0);
	CHECK_EQ(g->line_level[5], 1);
	CHECK(cfg_read(g, PCI_DEVFN(7, 0), PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	cfg_write(g, PCI_DEVFN(7, 0), PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE);
	CHECK_EQ(g->line_level[5], 0);
	CHECK(cfg_read(g, PCI_DEVFN(7, 0), PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	cfg_write(g, PCI_DEVFN(7, 0), PCI_COMMAND, 2, 0);
	CHECK_EQ(g->line_level[5], 1);
	cfg_write(g, PCI_DEVFN(1, 0), 0x62, 1, 2);	/* IRQ 2 is the cascade: no route */
	CHECK_EQ(g->line_level[5], 0);
	CHECK_EQ(g->line_level[2], 0);
}

/* --- requests to the machine --- */

static enum vm_end last_request;
static int last_code;

static void on_request(void *ctx, enum vm_end what, int code)
{
	last_request = what;
	last_code = code;
}

static void expect_request(struct guest *g, enum vm_end what, int code)
{
	for (int i = 0; i < 100 && last_request == VM_END_NONE; i++)
		guest_run(g, 1);
	CHECK_EQ(last_request, what);
	CHECK_EQ(last_code, code);
	last_request = VM_END_NONE;
}

TEST(the_ways_to_ask_for_the_end)
{
	struct guest *g = chips_guest();
	struct err err = { "" };

	vm_on_request(g->vm, on_request, NULL);
	CHECK(make_i440fx(g, NULL));
	CHECK(make_piix3(g, NULL));
	CHECK(port92_new(g->pio, g->vm, g->loop, &err));
	CHECK(guest_make(g, &kind_debug_exit, "iobase=0xf4,iosize=4", &err));
	CHECK(pvpanic_new(g->pio, 0x505, g->vm, g->loop, &err));
	out(g->pio, 0xcf9, 1, 0x02);
	out(g->pio, 0xcf9, 1, 0x06);
	expect_request(g, VM_END_RESET, 0);
	CHECK_EQ(in(g->pio, 0x92, 1), 2);
	out(g->pio, 0x92, 1, 3);
	expect_request(g, VM_END_RESET, 0);
	out(g->pio, 0x92, 1, 3);			/* no rising edge: no second reset */
	out(g->pio, 0xf4, 4, 5);
	expect_request(g, VM_END_EXIT_CODE, 11);
	CHECK_EQ(in(g->pio, 0x505, 1), 3);
	out(g->pio, 0x505, 1, 1);
	expect_request(g, VM_END_PANIC, 0);
}

/* --- power management --- */

#define PM_DEVFN PCI_DEVFN(1, 3)
#define PM 0x600
static unsigned suspended;

static void suspend(void *ctx)
{
	suspended++;
}

static struct device *make_pm(struct guest *g, void *ctx)
{
	struct piix4_pm_opts o = { .devfn = PM_DEVFN,
				   .sci = irq_source(g->irqs, 9),
				   .suspend = suspend };
	struct err err = { "" };

	return piix4_pm_new(g->pci, &o, &err);
}

static void step_pm_on(struct tw *t)
{
	tw_say(t, "devactb %08x", cfg_read(t->g, PM_DEVFN, 0x58, 4));
	tw_say(t, "off %04x", (unsigned)in(t->g->pio, PM, 2));
	cfg_write(t->g, PM_DEVFN, 0x40, 4, PM | 1);
	cfg_write(t->g, PM_DEVFN, 0x80, 1, 1);
	cfg_write(t->g, PM_DEVFN, 0x90, 4, 0x701);
	cfg_write(t->g, PM_DEVFN, 0xd2, 1, 9);
	tw_say(t, "on %04x %04x", (unsigned)in(t->g->pio, PM, 2),
	       (unsigned)in(t->g->pio, PM + 4, 2));
}

static void step_acpi_on(struct tw *t)
{
	out(t->g->pio, 0xb2, 1, 0xf1);
	out(t->g->pio, 0xb3, 1, 0x12);
	tw_say(t, "control %04x apm %04x", (unsigned)in(t->g->pio, PM + 4, 2),
	       (unsigned)in(t->g->pio, 0xb2, 2));
	out(t->g->pio, PM + 2, 2, 0x0120);	/* power button and global enable */
	tw_say(t, "enable %04x sci %d", (unsigned)in(t->g->pio, PM + 2, 2), t->g->line_level[9]);
}

static void step_button(struct tw *t)
{
	loop_lock(t->g->loop);
	piix4_pm_power_button(t->d);
	loop_unlock(t->g->loop);
	tw_say(t, "status %04x sci %d", (unsigned)in(t->g->pio, PM, 2), t->g->line_level[9]);
}

static void step_gpe(struct tw *t)
{
	out(t->g->pio, PM, 1, 0x20);		/* the low byte does not clear the high one */
	tw_say(t, "status %04x sci %d", (unsigned)in(t->g->pio, PM, 2), t->g->line_level[9]);
	out(t->g->pio, PM + 1, 1, 0x01);
	tw_say(t, "status %04x sci %d", (unsigned)in(t->g->pio, PM, 2), t->g->line_level[9]);
	loop_lock(t->g->loop);
	piix4_pm_gpe(t->d, 1);
	loop_unlock(t->g->loop);
	tw_say(t, "gpe %08x sci %d", (unsigned)in(t->g->pio, 0xafe0, 4), t->g->line_level[9]);
	out(t->g->pio, 0xafe2, 1, 2);
	tw_say(t, "gpe %08x sci %d", (unsigned)in(t->g->pio, 0xafe0, 4), t->g->line_level[9]);
}

static void step_gpe_clear(struct tw *t)
{
	tw_say(t, "sci %d", t->g->line_level[9]);
	out(t->g->pio, 0xafe0, 1, 2);
	tw_say(t, "gpe %08x sci %d", (unsigned)in(t->g->pio, 0xafe0, 4), t->g->line_level[9]);
}

static void step_smbus(struct tw *t)
{
	out(t->g->pio, 0x704, 1, 0xa1);
	out(t->g->pio, 0x702, 1, 0x48);
	tw_say(t, "smbus %02x", (unsigned)in(t->g->pio, 0x700, 1));
	out(t->g->pio, 0x700, 1, 0x1e);
	tw_say(t, "smbus %02x", (unsigned)in(t->g->pio, 0x700, 1));
}

static void step_timer(struct tw *t)
{
	vm_clock_set(t->g->clock, NS_PER_SEC);
	tw_say(t, "timer %06x, half %04x", (unsigned)in(t->g->pio, PM + 8, 4),
	       (unsigned)in(t->g->pio, PM + 8, 2));
	vm_clock_set(t->g->clock, 3 * NS_PER_SEC);		/* bit 23 changes after 2.34 s */
	tw_say(t, "status %04x", (unsigned)in(t->g->pio, PM, 2));
	vm_clock_set(t->g->clock, 0);
}

static void (*const pm_steps[])(struct tw *t) = {
	step_pm_on, step_acpi_on, step_button, step_gpe, step_gpe_clear, step_smbus, step_timer,
};

TEST(power_management_three_ways)
{
	threeway(&(struct tw_scenario){
		.make = make_pm, .steps = pm_steps, .n = ARRAY_SIZE(pm_steps) });
}

TEST(sleep_states)
{
	struct guest *g = chips_guest();
	struct device *d = make_pm(g, NULL);
	struct tw t = { .g = g, .d = d };

	t.log = open_memstream(&t.text, &t.len);
	vm_on_request(g->vm, on_request, NULL);
	step_pm_on(&t);
	step_acpi_on(&t);
	suspended = 0;
	out(g->pio, PM + 4, 2, 0x0401);			/* type alone: nothing */
	CHECK_EQ(suspended, 0);
	out(g->pio, PM + 4, 2, 0x2401);
	CHECK_EQ(suspended, 1);
	CHECK_EQ(in(g->pio, PM + 4, 2), 0x0401);	/* SLP_EN reads as 0 */
	d->ops->reset(d);
	step_pm_on(&t);
	piix4_pm_woken(d, PM_WAKE_RTC);
	CHECK_EQ(in(g->pio, PM, 2), 0x8400);
	out(g->pio, PM + 4, 2, 0x2001);
	expect_request(g, VM_END_POWEROFF, 0);
	out(g->pio, PM + 4, 2, 0x3c01);			/* a type nobody named */
	for (int i = 0; i < 5; i++)
		guest_run(g, 1);
	CHECK_EQ(last_request, VM_END_NONE);
}

TEST(the_timer_interrupt_comes_when_bit_23_changes)
{
	struct guest *g = chips_guest();
	struct tw t = { .g = g, .d = make_pm(g, NULL) };

	t.log = open_memstream(&t.text, &t.len);
	step_pm_on(&t);
	step_acpi_on(&t);
	out(g->pio, PM + 2, 2, 1);
	vm_clock_set(g->clock, 2340 * NS_PER_MS);
	vm_clock_start(g->clock);
	CHECK_EQ(g->line_level[9], 0);
	for (int i = 0; i < 200 && !g->line_level[9]; i++)
		guest_run(g, 1);
	CHECK_EQ(g->line_level[9], 1);
	CHECK((in(g->pio, PM + 8, 4) & 0x800000) != 0);
	out(g->pio, PM, 2, 1);
	CHECK_EQ(g->line_level[9], 0);
}

/* --- hot-plug --- */

static uint32_t ejected;
static bool eject_later;		/* as a machine that is being saved does */
static struct device *hotplug_dev;

static void eject(void *ctx, unsigned slot)
{
	ejected |= 1u << slot;
	if (!eject_later)
		acpi_hotplug_ejected(hotplug_dev, slot);
}

static void gpe(void *ctx, unsigned n)
{
	((struct guest *)ctx)->lines[23] += n == 1;
}

static struct device *make_hotplug(struct guest *g, void *ctx)
{
	struct acpi_hotplug_opts o = { .base = 0xae00, .gpe = gpe, .gpe_ctx = g, .eject = eject };
	struct err err = { "" };
	struct device *d = hotplug_dev = acpi_hotplug_new(g->pio, g->loop, &o, &err);

	acpi_hotplug_set_removable(d, 0xfffffff8);
	return d;
}

static void step_plug(struct tw *t)
{
	acpi_hotplug_plugged(t->d, 5);
	acpi_hotplug_unplug_request(t->d, 6);
	tw_say(t, "removable %08x", (unsigned)in(t->g->pio, 0xae0c, 4));
}

static void step_look(struct tw *t)
{
	for (int i = 0; i < 2; i++) {
		unsigned up = (unsigned)in(t->g->pio, 0xae00, 4),
			 down = (unsigned)in(t->g->pio, 0xae04, 4);

		tw_say(t, "up %08x down %08x", up, down);
	}
	out(t->g->pio, 0xae10, 4, 1);
	tw_say(t, "bus 1: removable %08x", (unsigned)in(t->g->pio, 0xae0c, 4));
}

static void step_eject(struct tw *t)
{
	ejected = 0;
	out(t->g->pio, 0xae08, 4, 0x60);	/* bus 1 is selected: nobody */
	tw_say(t, "ejected %x", ejected);
	out(t->g->pio, 0xae10, 4, 0);
	out(t->g->pio, 0xae08, 4, 0x41);	/* slot 0 cannot go */
	tw_say(t, "ejected %x, down %08x", ejected, (unsigned)in(t->g->pio, 0xae04, 4));
}

static void (*const hotplug_steps[])(struct tw *t) = { step_plug, step_look, step_eject };

/* The machine is saved between the guest's eject and the removal: the copy removes it. */
TEST(hot_plug_eject_outlives_a_save)
{
	struct guest *g = guest_new();
	struct device *d = make_hotplug(g, NULL);
	struct state_out *o = state_out_new();
	struct state_in *in_state;
	struct err err = { "" };
	void *blob;
	size_t len;

	eject_later = true;
	ejected = 0;
	CHECK(acpi_hotplug_unplug_request(d, 6));
	CHECK(!acpi_hotplug_unplug_request(d, 6));
	out(g->pio, 0xae08, 4, 0x40);
	out(g->pio, 0xae08, 4, 0x40);
	CHECK_EQ(ejected, 0x40);
	CHECK_EQ(device_save(d, o), 0);
	CHECK_EQ(state_out_finish(o, &blob, &len), 0);
	device_destroy(d);
	eject_later = false;
	ejected = 0;
	d = make_hotplug(g, NULL);
	in_state = state_in_new(blob, len, &err);
	CHECK(in_state != NULL);
	CHECK_EQ(device_load(d, in_state), 0);
	CHECK_EQ(state_in_finish(in_state, &err), 0);
	CHECK_EQ(ejected, 0x40);
	CHECK(acpi_hotplug_unplug_request(d, 6));
	free(blob);
	device_destroy(d);
	guest_free(g);
}

TEST(hot_plug_three_ways)
{
	threeway(&(struct tw_scenario){
		.make = make_hotplug, .steps = hotplug_steps, .n = ARRAY_SIZE(hotplug_steps) });
}

TAP_MAIN
