/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pci_testdev.c: 1b36:0005, the PCI function by which kvm-unit-tests measures what a register
 * access costs with and without an eventfd. Specification: QEMU's docs/specs/pci-testdev. Main
 * loop.
 *
 * BAR 0 is memory, BAR 1 ports; each begins with a header. Writing a test's number to its first
 * byte starts the test; the header then tells width, offset and value of the write to do, and
 * counts the writes that came. With an eventfd, KVM counts (our side of it is a number in the
 * kernel), without one an access comes here.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/chips.h"
#include "vmm/base/log.h"
#include "vmm/config/device_kind.h"

#define MEM_BAR 0
#define MEM_LEN 4096
#define PIO_BAR 1
#define PIO_LEN 256
enum { HDR_TEST = 0, HDR_WIDTH = 1, HDR_OFFSET = 4, HDR_DATA = 8, HDR_COUNT = 12, HDR_NAME = 16,
       HDR_MAX = 64 };
#define NO_TEST 0xff

/* The tests of each BAR. A value that must match is told apart from one that need not. */
static const struct test {
	const char *name;
	bool eventfd, any_value;
	uint8_t data;
} tests[] = {
	{ "no-eventfd", false, false, 0xfa },
	{ "wildcard-eventfd", true, true, 0xce },
	{ "datamatch-eventfd", true, false, 0xfa },
};

struct pci_testdev {
	struct pci_dev pci;
	struct side {
		struct pci_testdev *owner;
		unsigned bar;
	} side[2];
	uint8_t bar, test;		/* what runs; test NO_TEST: nothing */
	uint32_t count;
	int fd;				/* signalled by KVM */
	bool armed;			/* fd is on the bus, */
	uint64_t armed_at;		/* here */
};

static struct pci_testdev *of(struct device *d)
{
	return container_of(d, struct pci_testdev, pci.dev);
}

/*
 * Where in its BAR a test is written to: past the header, each test of both BARs at a byte of its
 * own.
 */
static uint32_t test_offset(unsigned bar, unsigned test)
{
	return (bar == MEM_BAR ? MEM_LEN : PIO_LEN) / 2 + bar * ARRAY_SIZE(tests) + test;
}

/* --- the eventfd; exclusive section, or nothing runs --- */

static struct bus *bus_of(struct pci_testdev *t)
{
	const struct pci_wires *w = pci_bus_wires(t->pci.bus);

	return t->bar == MEM_BAR ? w->mmio : w->pio;
}

static void disarm(struct pci_testdev *t)
{
	if (t->armed)
		bus_eventfd_del(bus_of(t), t->armed_at, t->fd);
	t->armed = false;
}

static void arm(void *ctx)
{
	struct pci_testdev *t = ctx;
	const struct pci_bar *bar = &t->pci.bars[t->bar];
	const struct test *test = &tests[t->test % ARRAY_SIZE(tests)];
	int ret;

	disarm(t);
	if (t->test == NO_TEST || !test->eventfd || !bar->mapped)
		return;
	t->armed_at = bar->addr + test_offset(t->bar, t->test);
	ret = bus_eventfd_add(bus_of(t), t->armed_at, 1, test->any_value, test->data, t->fd);
	t->armed = ret == 0;
	/* Without it the register's own callback counts. */
	if (ret)
		log_warn("%s: %s without KVM's eventfd: %s", t->pci.dev.id, test->name,
			 strerror(-ret));
}

static void bar_moved(void *ctx, bool mapped, uint64_t addr)
{
	struct side *side = ctx;

	if (mapped)
		arm(side->owner);
	else if (side->bar == side->owner->bar)
		disarm(side->owner);
}

/* What KVM counted since. */
static void collect(struct pci_testdev *t)
{
	uint64_t n;

	if (read(t->fd, &n, sizeof(n)) == sizeof(n))
		t->count += (uint32_t)n;
}

struct start {
	struct pci_testdev *t;
	uint8_t bar, test;
};

static void start_now(void *ctx)
{
	struct start *s = ctx;
	struct pci_testdev *t = s->t;

	disarm(t);
	collect(t);
	t->bar = s->bar;
	t->test = s->test;
	t->count = 0;
	arm(t);
	free(s);
}

static void start(struct pci_testdev *t, unsigned bar, unsigned test)
{
	struct start *s = xcalloc(1, sizeof(*s));

	*s = (struct start){ t, (uint8_t)bar, test < ARRAY_SIZE(tests) ? (uint8_t)test : NO_TEST };
	pci_exclusive(t->pci.bus, start_now, s);
}

/* --- registers: bytes --- */

static uint64_t testdev_read(void *dev, uint64_t off, unsigned size)
{
	struct side *side = dev;
	struct pci_testdev *t = side->owner;
	uint8_t hdr[HDR_MAX] = { 0 };

	if (t->test == NO_TEST || off >= sizeof(hdr))
		return 0;
	collect(t);
	hdr[HDR_TEST] = (uint8_t)(t->bar * ARRAY_SIZE(tests) + t->test);
	hdr[HDR_WIDTH] = 1;
	st_le32(hdr + HDR_OFFSET, test_offset(t->bar, t->test));
	hdr[HDR_DATA] = tests[t->test].data;
	st_le32(hdr + HDR_COUNT, t->count);
	snprintf((char *)hdr + HDR_NAME, sizeof(hdr) - HDR_NAME, "%s-%s",
		 t->bar == MEM_BAR ? "mmio" : "portio", tests[t->test].name);
	return hdr[off];
}

static void testdev_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct side *side = dev;
	struct pci_testdev *t = side->owner;

	if (off == HDR_TEST)
		start(t, side->bar, val);
	else if (t->test != NO_TEST && side->bar == t->bar && off == test_offset(t->bar, t->test) &&
		 (tests[t->test].any_value || val == tests[t->test].data))
		t->count++;
}

static const char *testdev_name(void *dev, uint64_t off, bool is_write)
{
	static const char *const names[] = {
		[HDR_TEST] = "test", [HDR_WIDTH] = "width", [HDR_OFFSET] = "offset",
		[HDR_DATA] = "data", [HDR_COUNT] = "count", [HDR_NAME] = "name"
	};

	return off >= HDR_MAX	   ? "write here"
	       : off >= HDR_NAME   ? "name"
	       : off >= HDR_OFFSET ? names[off & ~3ull]
				   : names[off];
}

static const struct region_ops testdev_ops = {
	.name = "pci-testdev",
	.read = testdev_read,
	.write = testdev_write,
	.max_width = 1,
	.reg_name = testdev_name,
};

/* --- device --- */

static void testdev_reset(struct device *d)
{
	struct pci_testdev *t = of(d);

	disarm(t);
	collect(t);
	t->test = NO_TEST;
	t->count = 0;
	pci_dev_reset(&t->pci);
}

static const struct state_field fields[] = {
	STATE_FIELD(struct pci_testdev, STATE_U8, bar),
	STATE_FIELD(struct pci_testdev, STATE_U8, test),
	STATE_FIELD(struct pci_testdev, STATE_U32, count),
};

static int testdev_save(struct device *d, struct state_out *o)
{
	struct pci_testdev *t = of(d);

	collect(t);
	state_save_fields(o, t, fields, ARRAY_SIZE(fields));
	return pci_dev_save(&t->pci, o);
}

static int testdev_load(struct device *d, struct state_in *in, uint32_t version)
{
	struct pci_testdev *t = of(d);
	int ret;

	disarm(t);
	ret = state_load_fields(in, t, fields, ARRAY_SIZE(fields));
	if (!ret && (t->bar > PIO_BAR || (t->test != NO_TEST && t->test >= ARRAY_SIZE(tests))))
		ret = state_bad(in, "test %u of BAR %u", t->test, t->bar);
	if (ret) {
		t->bar = MEM_BAR;
		t->test = NO_TEST;
		return ret;
	}
	ret = pci_dev_load(&t->pci, in);
	arm(t);
	return ret;
}

static void testdev_destroy(struct device *d)
{
	struct pci_testdev *t = of(d);

	disarm(t);
	pci_dev_exit(&t->pci);
	close(t->fd);
	free(t);
}

static const struct device_ops testdev_device = {
	.name = "pci-testdev",
	.version = 1,
	.reset = testdev_reset,
	.save = testdev_save,
	.load = testdev_load,
	.destroy = testdev_destroy,
};

static const struct pci_id testdev_id = {
	.vendor = 0x1b36,
	.device = 0x0005,
	.class_rev = 0x00ff0000,
	.subsystem_vendor = 0x1af4,
	.subsystem = 0x1100,
};

static struct device *pci_testdev_make(const struct board *b, const struct device_config *d,
				       struct err *err)
{
	const struct pci_entry *e = container_of(d, struct pci_entry, base);
	struct pci_testdev *t = xcalloc(1, sizeof(*t));
	int ret;

	t->test = NO_TEST;
	t->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	device_init(&t->pci.dev, &testdev_device, d->id, b->loop);
	ret = t->fd < 0 ? -errno
			: pci_dev_init(&t->pci, b->pci, PCI_DEVFN(e->addr.slot, e->addr.func),
				       &testdev_id);
	if (ret < 0) {
		err_set(err, -ret, "%s cannot be plugged into slot %d: %s", d->id,
			e->addr.slot, strerror(-ret));
		if (t->fd >= 0)
			close(t->fd);
		free(t->pci.dev.id);
		free(t);
		return NULL;
	}
	for (unsigned bar = MEM_BAR; bar <= PIO_BAR; bar++) {
		t->side[bar] = (struct side){ t, bar };
		pci_bar_regs(&t->pci, (int)bar,
			     bar == MEM_BAR ? PCI_BASE_ADDRESS_SPACE_MEMORY
					    : PCI_BASE_ADDRESS_SPACE_IO,
			     bar == MEM_BAR ? MEM_LEN : PIO_LEN, &testdev_ops, &t->side[bar]);
		t->pci.bars[bar].moved = bar_moved;
	}
	return &t->pci.dev;
}

static const struct prop pci_testdev_props[] = {
	PROP_PCI_ADDR(struct pci_entry),
	PROP_PCI_BUS,
	{ 0 },
};

const struct device_kind kind_pci_testdev = {
	.name = "pci-testdev",
	.help = "PCI function of kvm-unit-tests",
	.machines = ON_PC,
	.size = sizeof(struct pci_entry),
	.props = pci_testdev_props,
	.make = pci_testdev_make,
};
