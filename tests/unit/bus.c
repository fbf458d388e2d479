/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unit tests of vmm/wires/bus.c. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/wires/bus.h"

/* A device that writes down what it is asked; reading gives the offset in every byte. */
struct rec { char log[512]; uint64_t last; uint8_t regs[32]; };

static void note(struct rec *r, char what, uint64_t off, unsigned size)
{
	size_t n = strlen(r->log);

	snprintf(r->log + n, sizeof(r->log) - n, "%c%llu.%u ", what, (unsigned long long)off, size);
}

static uint64_t rec_read(void *dev, uint64_t off, unsigned size)
{
	struct rec *r = dev;
	uint64_t v = 0;

	note(r, 'r', off, size);
	memcpy(&v, r->regs + off % 16, size);
	return v;
}

static void rec_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct rec *r = dev;

	note(r, 'w', off, size);
	r->last = val;
	memcpy(r->regs + off % 16, &val, size);
}

static const struct region_ops any = { .name = "any", .read = rec_read, .write = rec_write };
static const struct region_ops bytes = {
	.name = "bytes", .read = rec_read, .write = rec_write, .max_width = 1
};
static const struct region_ops words = {
	.name = "words", .read = rec_read, .write = rec_write, .min_width = 4, .max_width = 4
};

static struct bus *b;
static struct rec dev[4];
static void setup(void)
{
	b = bus_new("mmio", UINT64_MAX);
	for (int i = 0; i < 4; i++) {
		memset(&dev[i], 0, sizeof(dev[i]));
		for (int k = 0; k < 32; k++)
			dev[i].regs[k] = i * 64 + k;
	}
}

static void teardown(void)
{
	bus_free(b);
}

static uint64_t rd(uint64_t addr, unsigned size)
{
	uint64_t v = 0xdeadbeef;

	bus_read(b, addr, size, &v);
	return v;
}

Test(bus, callbacks_get_offsets_and_declared_widths, .init = setup, .fini = teardown)
{
	uint64_t v;

	bus_add(b, 0x1000, 16, &any, &dev[0], NULL, "d0", 0);
	bus_add(b, 0x2000, 16, &bytes, &dev[1], NULL, "d1", 0);
	bus_add(b, 0x3000, 16, &words, &dev[2], NULL, "d2", 0);
	cr_assert(bus_read(b, 0x1008, 4, &v));
	cr_assert_eq(v, 0x0b0a0908);
	cr_assert_str_eq(dev[0].log, "r8.4 ");
	/* Wider than the chip: split, low byte first. */
	cr_assert_eq(rd(0x2000, 4), 0x43424140);
	cr_assert(bus_write(b, 0x2002, 2, 0xbbaa));
	cr_assert_str_eq(dev[1].log, "r0.1 r1.1 r2.1 r3.1 w2.1 w3.1 ");
	cr_assert_eq(dev[1].regs[2], 0xaa);
	cr_assert_eq(dev[1].regs[3], 0xbb);
	/* Narrower than the chip: its bytes of the register; the rest is kept. */
	cr_assert_eq(rd(0x3006, 1), 0x86);
	cr_assert(bus_write(b, 0x3005, 1, 0x11));
	cr_assert_eq(dev[2].last, 0x87861184);
	/* Unaligned: aligned pieces. */
	dev[0].log[0] = 0;
	cr_assert_eq(rd(0x1001, 4), 0x04030201);
	cr_assert_str_eq(dev[0].log, "r1.1 r2.2 r4.1 ");
}

Test(bus, unclaimed_reads_give_all_ones, .init = setup, .fini = teardown)
{
	uint64_t v = 0;

	cr_assert_not(bus_read(b, 0x10, 1, &v));
	cr_assert_eq(v, 0xff);
	cr_assert_not(bus_read(b, 0x10, 8, &v));
	cr_assert_eq(v, UINT64_MAX);
	cr_assert_not(bus_write(b, 0x10, 4, 1));
	/* Half claimed. */
	bus_add(b, 0x12, 2, &any, &dev[0], NULL, "d", 0);
	cr_assert(bus_read(b, 0x10, 4, &v));
	cr_assert_eq(v, 0x0100ffff);
	cr_assert(bus_read(b, 0x13, 2, &v));
	cr_assert_eq(v, 0xff01);
}

Test(bus, overlap_needs_leave, .init = setup, .fini = teardown)
{
	cr_assert_eq(bus_add(b, 0xcf8, 4, &any, &dev[0], NULL, "pci", 0), 0);
	cr_assert_eq(bus_add(b, 0xcfb, 1, &any, &dev[1], NULL, "x", 0), -EEXIST);
	cr_assert_eq(bus_add(b, 0xcf9, 1, &any, &dev[1], NULL, "reset", BUS_OVER), 0);
	/* The byte is the reset register's, the whole dword is the configuration address. */
	rd(0xcf9, 1);
	rd(0xcf8, 4);
	rd(0xcf8, 1);
	cr_assert_str_eq(dev[1].log, "r0.1 ");
	cr_assert_str_eq(dev[0].log, "r0.4 r0.1 ");
	rd(0xcfa, 2);
	cr_assert_str_eq(dev[0].log, "r0.4 r0.1 r2.2 ");
	bus_del(b, 0xcf9, &any, &dev[1]);
	rd(0xcf9, 1);
	cr_assert_str_eq(dev[0].log, "r0.4 r0.1 r2.2 r1.1 ");
}

Test(bus, what_the_guest_moves_loses_to_what_is_wired, .init = setup, .fini = teardown)
{
	bus_add(b, 0x1000, 0x100, &any, &dev[0], NULL, "bar a", BUS_GUEST);
	cr_assert_eq(bus_add(b, 0x1080, 0x100, &any, &dev[1], NULL, "bar b", BUS_GUEST), 0);
	cr_assert_eq(bus_add(b, 0x10f0, 8, &any, &dev[2], NULL, "chip", 0), 0);
	rd(0x1080, 1);	/* the older of two BARs */
	rd(0x1100, 1);
	rd(0x10f0, 1);
	cr_assert_str_eq(dev[0].log, "r128.1 ");
	cr_assert_str_eq(dev[1].log, "r128.1 ");
	cr_assert_str_eq(dev[2].log, "r0.1 ");
	bus_del(b, 0x1000, &any, &dev[0]);
	rd(0x1080, 1);
	cr_assert_str_eq(dev[1].log, "r128.1 r0.1 ");
}

Test(bus, limits_hold, .init = setup, .fini = teardown)
{
	struct bus *ports = bus_new("pio", 0xffff);
	uint64_t v;

	cr_assert_eq(bus_add(ports, 0xffff, 2, &any, dev, NULL, "d", 0), -EINVAL);
	cr_assert_eq(bus_add(ports, 0x10000, 1, &any, dev, NULL, "d", 0), -EINVAL);
	cr_assert_eq(bus_add(ports, 0xfffe, 2, &any, dev, NULL, "d", 0), 0);
	bus_read(ports, 0xfffe, 4, &v);
	cr_assert_eq(v, 0xffff0100);
	bus_free(ports);
	cr_assert_eq(bus_add(b, UINT64_MAX - 3, 4, &any, dev, NULL, "d", 0), 0);
	bus_read(b, UINT64_MAX - 3, 8, &v);
	cr_assert_eq(v, 0xffffffff03020100);
}

static void rep_read(void *d, uint64_t off, unsigned size, void *data, size_t count)
{
	memset(data, 0x77, size * count);
	note(d, 'R', count, size);
}

Test(bus, repeated_accesses, .init = setup, .fini = teardown)
{
	static const struct region_ops rep = { .name = "ide",
					       .read = rec_read,
					       .write = rec_write,
					       .read_rep = rep_read,
					       .max_width = 4 };
	uint16_t buf[4] = { 1, 2, 3, 4 };

	bus_add(b, 0x1f0, 1, &rep, &dev[0], NULL, "ide", 0);
	bus_add(b, 0x2f0, 2, &any, &dev[1], NULL, "d", 0);
	cr_assert(bus_read_rep(b, 0x1f0, 2, buf, 4));	/* wider than the region: item by item */
	cr_assert_str_eq(dev[0].log, "r0.1 r0.1 r0.1 r0.1 ");
	bus_del(b, 0x1f0, &rep, &dev[0]);
	bus_add(b, 0x1f0, 2, &rep, &dev[0], NULL, "ide", 0);
	dev[0].log[0] = 0;
	cr_assert(bus_read_rep(b, 0x1f0, 2, buf, 4));
	cr_assert_str_eq(dev[0].log, "R4.2 ");
	cr_assert_eq(buf[3], 0x7777);
	cr_assert(bus_write_rep(b, 0x2f0, 2, buf, 2));
	cr_assert_str_eq(dev[1].log, "w0.2 w0.2 ");
	cr_assert_not(bus_read_rep(b, 0x9999, 2, buf, 4));
	cr_assert_eq(buf[3], 0xffff);
}

static int events, refuse;
static int backend_eventfd(void *ctx, struct bus *bus, uint64_t addr, unsigned size, bool any_value,
			   uint64_t match, int fd, bool add)
{
	events += add ? 1 : -1;
	return refuse;
}

Test(bus, doorbells, .init = setup, .fini = teardown)
{
	static const struct bus_backend backend = { backend_eventfd };
	int fd = eventfd(0, EFD_NONBLOCK), fd2 = eventfd(0, EFD_NONBLOCK);
	uint64_t n;

	refuse = -ENOSPC;	/* KVM has no room: the bus does it */
	bus_set_backend(b, &backend, NULL);
	bus_add(b, 0x1000, 16, &any, &dev[0], NULL, "d", 0);
	cr_assert_eq(bus_eventfd_add(b, 0x1004, 2, false, 3, fd), 0);
	cr_assert_eq(bus_eventfd_add(b, 0x1004, 2, false, 3, fd2), -EEXIST);
	cr_assert_eq(bus_eventfd_add(b, 0x1004, 2, false, 4, fd2), 0);
	cr_assert_eq(bus_eventfd_add(b, 0x1008, 0, true, 0, fd2), 0);
	cr_assert_eq(events, 3);
	cr_assert(bus_write(b, 0x1004, 2, 3));
	cr_assert_eq(read(fd, &n, 8), 8);
	cr_assert_eq(read(fd2, &n, 8), -1);
	bus_write(b, 0x1004, 2, 4);
	bus_write(b, 0x1008, 1, 99);
	cr_assert_eq(read(fd2, &n, 8), 8);
	cr_assert_eq(n, 2);
	cr_assert_str_eq(dev[0].log, "");
	bus_write(b, 0x1004, 2, 5);	/* no match */
	bus_write(b, 0x1004, 4, 3);	/* other width */
	cr_assert_str_eq(dev[0].log, "w4.2 w4.4 ");
	bus_eventfd_del(b, 0x1004, fd);
	bus_write(b, 0x1004, 2, 3);
	cr_assert_eq(read(fd, &n, 8), -1);
	cr_assert_eq(events, 2);
}

static int nregions;
static void count_region(void *ctx, uint64_t base, uint64_t len, const char *who, const char *chip)
{
	nregions++;
}

Test(bus, knows_who_is_where, .init = setup, .fini = teardown)
{
	const char *who, *chip, *reg;
	uint64_t off;

	bus_add(b, 0x3f8, 8, &bytes, &dev[0], NULL, "serial0", 0);
	cr_assert(bus_lookup(b, 0x3fd, &who, &chip, &off, &reg, false));
	cr_assert_str_eq(who, "serial0");
	cr_assert_str_eq(chip, "bytes");
	cr_assert_eq(off, 5);
	cr_assert_null(reg);
	cr_assert_not(bus_lookup(b, 0x400, &who, &chip, &off, &reg, false));
	bus_for_each(b, count_region, NULL);
	cr_assert_eq(nregions, 1);
}

/* --- the map moves under an access that waits for the lock --- */

static struct loop *loop;
static void *late_write(void *arg)
{
	bus_write(b, 0x1000, 1, 1);
	return NULL;
}

Test(bus, an_access_that_waited_sees_the_map_of_the_lock, .init = setup, .fini = teardown)
{
	pthread_t t;

	loop = loop_new("t");
	bus_add(b, 0x1000, 16, &any, &dev[0], loop, "old", 0);
	loop_lock(loop);
	pthread_create(&t, NULL, late_write, NULL);
	usleep(20000);		/* it has looked up "old" and waits */
	bus_del(b, 0x1000, &any, &dev[0]);
	bus_add(b, 0x1000, 16, &any, &dev[1], loop, "new", 0);
	loop_unlock(loop);
	pthread_join(t, NULL);
	cr_assert_str_eq(dev[0].log, "");
	cr_assert_str_eq(dev[1].log, "w0.1 ");
	bus_del(b, 0x1000, &any, &dev[1]);
	loop_free(loop);
}

static volatile int stop;
static void *hammer(void *arg)
{
	uint64_t v;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		bus_read(b, 0x5000, 4, &v);
		bus_lookup(b, 0x5000, &(const char *){ 0 }, &(const char *){ 0 }, &v,
			   &(const char *){ 0 }, false);
	}
	return NULL;
}

Test(bus, old_maps_outlive_the_accesses_that_hold_them, .init = setup, .fini = teardown)
{
	pthread_t t[2];

	loop = loop_new("t");
	bus_add(b, 0x5000, 16, &any, &dev[2], loop, "fixed", 0);
	for (int i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, hammer, NULL);
	for (int i = 0; i < 3000; i++) {
		loop_lock(loop);
		dev[2].log[0] = 0;
		bus_add(b, 0x1000, 16, &any, &dev[0], loop, "moving", BUS_GUEST);
		bus_del(b, 0x1000, &any, &dev[0]);
		loop_unlock(loop);
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
}
