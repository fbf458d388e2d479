/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pc_testdev.c: the test bench of kvm-unit-tests (QEMU's pc-testdev): a latch to try every width
 * and way of port access on, a buffer in device memory for the instruction emulator, every
 * interrupt line by hand, and a port that takes a page out of KVM's hands. Main loop.
 *
 *   0xe0-0xe3      a 32-bit latch, at any width
 *   0xe4           write a physical address: KVM forgets its mapping of that page; what is in it
 *                  stays
 *   0xe8-0xeb      the same latch, of which each byte is a register of its own
 *   0x2000-0x2017  the level of global interrupt 0-23
 *   0xff000000     64 KiB that keep what is written, a register for each access
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "devices/chips.h"
#include "vmm/base/log.h"
#include "vmm/config/device_kind.h"

#define LATCH_PORT	0xe0
#define FLUSH_PORT	0xe4
#define BYTES_PORT	0xe8
#define IRQ_PORT	0x2000
#define IRQ_LINES	24
#define BUFFER_GPA	0xff000000ull
#define BUFFER_LEN	0x10000
#define PAGE		4096ull

struct wires {
	struct bus *pio, *mmio;
	struct mem *mem;
	struct irq_hub *irqs;		/* each of its 24 lines is driven */
};

struct pc_testdev {
	struct device dev;
	struct wires w;
	struct irq line[IRQ_LINES];
	uint32_t latch, levels;
	uint8_t buffer[BUFFER_LEN];
};

static struct pc_testdev *of(struct device *d)
{
	return container_of(d, struct pc_testdev, dev);
}

/* --- the latch --- */

static uint64_t latch_read(void *dev, uint64_t off, unsigned size)
{
	struct pc_testdev *t = dev;
	uint8_t b[8];

	st_le64(b, t->latch);
	return size == 1 ? b[off] : size == 2 ? ld_le16(b + off) : ld_le32(b + off);
}

static void latch_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct pc_testdev *t = dev;
	uint32_t mask = (uint32_t)((1ull << 8 * size) - 1) << 8 * off;

	t->latch = (t->latch & ~mask) | ((uint32_t)val << 8 * off & mask);
}

static const char *latch_name(void *dev, uint64_t off, bool is_write)
{
	return "latch";
}

static const struct region_ops latch_ops = {
	.name = "pc-testdev",
	.read = latch_read,
	.write = latch_write,
	.max_width = 4,
	.reg_name = latch_name,
};
static const struct region_ops bytes_ops = {
	.name = "pc-testdev",
	.read = latch_read,
	.write = latch_write,
	.max_width = 1,
	.reg_name = latch_name,
};

/* --- a page KVM forgets --- */

static uint64_t flush_read(void *dev, uint64_t off, unsigned size)
{
	return UINT32_MAX;
}

/*
 * Changing the protection of host memory makes KVM drop the page from its tables, and the next
 * access of the guest brings it in again. Reading stays allowed all the time; a disk that writes to
 * just this page just now would get EFAULT.
 */
static void flush_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct pc_testdev *t = dev;
	void *page = mem_ptr(t->w.mem, val & ~(PAGE - 1), PAGE, true);

	if (!page)
		log_guest("pc-testdev: no memory at 0x%llx to forget", (unsigned long long)val);
	else if (mprotect(page, PAGE, PROT_READ) < 0 ||
		 mprotect(page, PAGE, PROT_READ | PROT_WRITE) < 0)
		log_guest("pc-testdev: the page at 0x%llx stays mapped: %s (huge pages cannot be "
			  "split)",
			  (unsigned long long)val, strerror(errno));
}

static const char *flush_name(void *dev, uint64_t off, bool is_write)
{
	return "forget page";
}

static const struct region_ops flush_ops = {
	.name = "pc-testdev",
	.read = flush_read,
	.write = flush_write,
	.min_width = 4,
	.max_width = 4,
	.reg_name = flush_name,
};

/* --- interrupt lines --- */

static uint64_t irq_read(void *dev, uint64_t off, unsigned size)
{
	return UINT8_MAX;
}

static void irq_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct pc_testdev *t = dev;

	t->levels = (t->levels & ~(1u << off)) | (val ? 1u << off : 0);
	irq_set(&t->line[off], val != 0);
}

static const char *irq_name(void *dev, uint64_t off, bool is_write)
{
	return "line level";
}

static const struct region_ops irq_ops = {
	.name = "pc-testdev",
	.read = irq_read,
	.write = irq_write,
	.max_width = 1,
	.reg_name = irq_name,
};

/* --- the buffer --- */

static uint64_t buffer_read(void *dev, uint64_t off, unsigned size)
{
	struct pc_testdev *t = dev;
	uint8_t b[8] = { 0 };

	memcpy(b, t->buffer + off, size);
	return ld_le64(b);
}

static void buffer_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
	struct pc_testdev *t = dev;
	uint8_t b[8];

	st_le64(b, val);
	memcpy(t->buffer + off, b, size);
}

static const char *buffer_name(void *dev, uint64_t off, bool is_write)
{
	return "buffer";
}

static const struct region_ops buffer_ops = {
	.name = "pc-testdev",
	.read = buffer_read,
	.write = buffer_write,
	.max_width = 8,
	.reg_name = buffer_name,
};

/* --- device --- */

static void set_lines(struct pc_testdev *t, uint32_t levels)
{
	t->levels = levels;
	for (unsigned i = 0; i < IRQ_LINES; i++)
		irq_set(&t->line[i], levels >> i & 1);
}

static void pc_testdev_reset(struct device *d)
{
	struct pc_testdev *t = of(d);

	t->latch = 0;
	memset(t->buffer, 0, sizeof(t->buffer));
	set_lines(t, 0);
}

static const struct state_field fields[] = {
	STATE_FIELD(struct pc_testdev, STATE_U32, latch),
	STATE_FIELD(struct pc_testdev, STATE_U32, levels),
	STATE_FIELD(struct pc_testdev, STATE_BYTES, buffer),
};

static int pc_testdev_save(struct device *d, struct state_out *o)
{
	state_save_fields(o, of(d), fields, ARRAY_SIZE(fields));
	return 0;
}

static int pc_testdev_load(struct device *d, struct state_in *in, uint32_t version)
{
	struct pc_testdev *t = of(d);
	int ret = state_load_fields(in, t, fields, ARRAY_SIZE(fields));

	if (!ret && t->levels >> IRQ_LINES)
		ret = state_bad(in, "levels 0x%x of %u lines", t->levels, IRQ_LINES);
	set_lines(t, ret ? 0 : t->levels);
	return ret;
}

static const struct {
	bool memory;
	uint64_t base, len;
	const struct region_ops *ops;
} regions[] = {
	{ false, LATCH_PORT, 4, &latch_ops },	       { false, FLUSH_PORT, 4, &flush_ops },
	{ false, BYTES_PORT, 4, &bytes_ops },	       { false, IRQ_PORT, IRQ_LINES, &irq_ops },
	{ true, BUFFER_GPA, BUFFER_LEN, &buffer_ops },
};

static struct bus *bus_of(const struct pc_testdev *t, unsigned i)
{
	return regions[i].memory ? t->w.mmio : t->w.pio;
}

static void pc_testdev_destroy(struct device *d)
{
	struct pc_testdev *t = of(d);

	for (unsigned i = 0; i < ARRAY_SIZE(regions); i++)
		bus_del(bus_of(t, i), regions[i].base, regions[i].ops, t);
	free(t);
}

static const struct device_ops pc_testdev_device = {
	.name = "pc-testdev",
	.version = 1,
	.reset = pc_testdev_reset,
	.save = pc_testdev_save,
	.load = pc_testdev_load,
	.destroy = pc_testdev_destroy,
};

static struct device *pc_testdev_make(const struct board *b, const struct device_config *d,
				      struct err *err)
{
	struct pc_testdev *t = xcalloc(1, sizeof(*t));
	unsigned i;
	int ret = 0;

	t->w = (struct wires){ b->pio, b->mmio, b->mem, b->irqs };
	device_init(&t->dev, &pc_testdev_device, "pc-testdev", b->loop);
	for (i = 0; i < ARRAY_SIZE(regions); i++) {
		ret = bus_add(bus_of(t, i), regions[i].base, regions[i].len, regions[i].ops, t,
			      b->loop, "pc-testdev", 0);
		if (ret < 0)
			break;
	}
	if (ret < 0) {
		err_set(err, -ret, "pc-testdev cannot have %s 0x%llx: %s; one is enough",
			regions[i].memory ? "memory" : "ports", (unsigned long long)regions[i].base,
			strerror(-ret));
		while (i-- > 0)
			bus_del(bus_of(t, i), regions[i].base, regions[i].ops, t);
		free(t->dev.id);
		free(t);
		return NULL;
	}
	for (i = 0; i < IRQ_LINES; i++)
		t->line[i] = irq_source(b->irqs, i);
	return &t->dev;
}

const struct device_kind kind_pc_testdev = {
	.name = "pc-testdev",
	.help = "ports of kvm-unit-tests",
	.machines = ON_PC | ON_MICRO,
	.size = sizeof(struct device_config),
	.make = pc_testdev_make,
};
