/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unit tests of vmm/kvm/kvm_pit.c: what the ports do before KVM has the chip, when it gets it, and
 * that it gets what was said. Needs /dev/kvm.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "vmm/kvm/kvm_pit.h"

static struct kvm *kvm;
static struct loop *l;
static struct vm *vm;
static struct vm_clock *clk;

static struct kvm_pit_state2 kvms(void)
{
	struct kvm_pit_state2 s = { 0 };

	cr_assert_eq(ioctl(kvm->vm_fd, KVM_GET_PIT2, &s), 0);
	return s;
}

static bool made(void)
{
	struct kvm_pit_state2 s;

	return ioctl(kvm->vm_fd, KVM_GET_PIT2, &s) == 0;
}

static uint8_t in(uint16_t port)
{
	uint64_t val = 0;

	cr_assert(bus_read(kvm->pio, port, 1, &val));
	return val;
}

static void out(uint16_t port, uint8_t val)
{
	cr_assert(bus_write(kvm->pio, port, 1, val));
}

static bool start(void)
{
	struct err e = { "" };

	kvm = kvm_open(&e);
	if (!kvm) {
		cr_skip_test("%s", e.msg);
		return false;
	}
	l = loop_new("main");
	clk = vm_clock_new();
	vm = vm_new(l, clk);
	kvm->pio = bus_new("pio", 0xffff);
	cr_assert_eq(kvm_create_vm(kvm, &e), 0, "%s", e.msg);
	cr_assert_eq(kvm_create_irqchip(kvm, &e), 0, "%s", e.msg);
	kvm->pit = kvm_pit_new(kvm, vm, l, false, &e);
	cr_assert(kvm->pit, "%s", e.msg);
	return true;
}

static void end(void)
{
	kvm_pit_free(kvm->pit);
	bus_free(kvm->pio);
	kvm_close(kvm);
	vm_free(vm);
	vm_clock_free(clk);
	loop_free(l);
}

Test(kvm_pit, made_by_the_first_count)
{
	if (!start())
		return;
	out(0x61, 0x01);
	cr_expect_eq(in(0x61) & 0x03, 0x01);
	out(0x43, 0xb0);				/* counter 2, both bytes, mode 0 */
	cr_expect_eq(in(0x61) & 0x20, 0, "OUT is low in mode 0");
	out(0x43, 0xe8);				/* read back its status */
	cr_expect_eq(in(0x42) & 0x7f, 0x70, "no count yet, both bytes, mode 0");
	out(0x42, 0x34);
	cr_expect_not(made(), "half a count");
	/* thinks again: mode 3; the half is forgotten */
	out(0x43, 0xb6);
	cr_expect_eq(in(0x61) & 0x20, 0x20, "OUT is high in mode 3");
	out(0x42, 0x78);
	out(0x42, 0x56);
	cr_assert(made());
	struct kvm_pit_state2 s = kvms();
	cr_expect_eq(s.channels[2].count, 0x5678);
	cr_expect_eq(s.channels[2].mode, 3);
	cr_expect_eq(s.channels[2].rw_mode, 3);
	cr_expect_eq(s.channels[2].gate, 1);
	cr_expect_eq(s.channels[2].write_state, 3, "the next byte is a first one");
	cr_expect_eq(s.channels[0].mode, 0xff);
	cr_expect_eq(s.channels[0].gate, 1);
	end();
}

Test(kvm_pit, counts_of_one_byte_and_zero)
{
	static const struct { uint8_t control, byte; uint32_t count; } cases[] = {
		{ 0x94, 0x21, 0x21 }, { 0xa4, 0x21, 0x2100 }, { 0x94, 0x00, 0x10000 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if (!start())
			return;
		out(0x43, cases[i].control);
		out(0x42, cases[i].byte);
		cr_expect_eq(kvms().channels[2].count, cases[i].count);
		cr_expect_eq(kvms().channels[2].mode, 2);
		end();
	}
}

Test(kvm_pit, counters_count_before_they_are_loaded)
{
	uint16_t first, second;

	if (!start())
		return;
	out(0x43, 0x30);				/* both bytes */
	out(0x43, 0x00);				/* latch */
	first = in(0x40);
	first |= in(0x40) << 8;
	for (int64_t t = now_ns(); now_ns() < t + 2 * NS_PER_MS;)
		;
	out(0x43, 0xd2);				/* read back counter 0's count */
	out(0x43, 0xd2);				/* a second one is ignored */
	second = in(0x40);
	second |= in(0x40) << 8;
	cr_expect_geq((uint16_t)(first - second), 2386, "2 ms are 2386 ticks");
	cr_expect_eq(in(0x43), 0);
	cr_expect_not(made());
	end();
}

/* A vCPU was on its way to these ports when another one had the chip made. */
Test(kvm_pit, accesses_after_it_was_made_reach_it)
{
	if (!start())
		return;
	out(0x43, 0x34);
	out(0x40, 0);
	out(0x40, 0);
	cr_assert(made());
	out(0x61, 0x03);
	out(0x43, 0xb4);
	out(0x42, 0x10);
	cr_expect_eq(kvms().channels[2].write_state, 4, "half a count, in KVM's chip");
	out(0x42, 0x20);
	cr_expect_eq(kvms().channels[2].count, 0x2010);
	cr_expect_eq(kvms().channels[2].gate, 1);
	cr_expect_eq(in(0x61) & 0x01, 0x01);
	cr_expect_eq(kvm_pit_reset(kvm->pit), 0);
	cr_expect_eq(kvms().channels[2].mode, 0xff);
	cr_expect_eq(kvms().channels[0].count, 0x10000);
	end();
}

/* Saves one chip and loads it into another's machine. */
static void carry_over(void)
{
	struct state_out *o = state_out_new();
	struct err e = { "" };
	struct state_in *i;
	void *blob;
	size_t len;

	cr_assert_eq(kvm_pit_save(kvm->pit, o), 0);
	cr_assert_eq(state_out_finish(o, &blob, &len), 0);
	end();
	cr_assert(start());
	i = state_in_new(blob, len, &e);
	cr_assert(i, "%s", e.msg);
	cr_assert_eq(kvm_pit_load(kvm->pit, i), 0);
	cr_assert_eq(state_in_finish(i, &e), 0, "%s", e.msg);
	free(blob);
}

Test(kvm_pit, saved_and_loaded)
{
	if (!start())
		return;
	out(0x61, 0x01);
	carry_over();
	cr_expect_not(made(), "nothing was loaded");
	cr_expect_eq(in(0x61) & 0x03, 0x01);
	out(0x43, 0x36);
	out(0x40, 0x9c);
	carry_over();
	out(0x40, 0x2e);				/* the second half, here */
	cr_expect_eq(kvms().channels[0].count, 0x2e9c);
	carry_over();
	cr_assert(made());
	cr_expect_eq(kvms().channels[0].count, 0x2e9c);
	cr_expect_eq(kvms().channels[0].mode, 3);
	end();
}
