/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bus.h: address to device. Ports and memory are two instances of this one type.
 *
 * A region's callbacks get an offset from its base, run with the lock of the region's loop held,
 * and see only the access widths they declare: the bus splits wider and joins narrower accesses.
 * The map changes only in an exclusive section or before the vCPUs run.
 */
#ifndef VMM_WIRES_BUS_H
#define VMM_WIRES_BUS_H

#include "vmm/base/loop.h"
#include "vmm/base/util.h"

struct bus;

struct region_ops {
	/* for traces: "serial0" comes from bus_add, this is the chip: "16550" */
	const char *name;
	uint64_t (*read)(void *dev, uint64_t off, unsigned size);
	void (*write)(void *dev, uint64_t off, unsigned size, uint64_t val);
	/* Widths the callbacks take, in bytes, powers of two; 0 means 1 and 8. */
	unsigned min_width, max_width;
	/* Optional: the register's name from the data sheet for the trace. */
	const char *(*reg_name)(void *dev, uint64_t off, bool is_write);
	/* Optional: `rep ins/outs` in one call (IDE data port). count items of `size` bytes. */
	void (*read_rep)(void *dev, uint64_t off, unsigned size, void *data, size_t count);
	void (*write_rep)(void *dev, uint64_t off, unsigned size, const void *data, size_t count);
};

enum bus_flags {
	BUS_OVER = 1 << 0,	/* deliberately lies over another region (0xcf9 in 0xcf8..0xcfb) */
	/* placed by the guest (a BAR): overlap is legal; lower prio loses, then later add loses */
	BUS_GUEST = 1 << 1,
};

/* limit: highest address, 0xffff for ports */
struct bus *bus_new(const char *name, uint64_t limit);
void bus_free(struct bus *b);
/*
 * 0, -EEXIST on overlap without leave, -EINVAL beyond the limit. ops and dev outlive the region;
 * who ("serial0") is copied. loop NULL: no lock.
 */
int bus_add(struct bus *b, uint64_t base, uint64_t len, const struct region_ops *ops, void *dev,
	    struct loop *loop, const char *who, unsigned flags);
void bus_del(struct bus *b, uint64_t base, const struct region_ops *ops, void *dev);

/*
 * A write of `size` bytes (0: any) at addr (with value `match` unless any_value) signals fd instead
 * of calling the device: KVM does it without an exit where the backend can; bus_write does it
 * otherwise, so tests without KVM see the same. 0 or -errno.
 */
int bus_eventfd_add(struct bus *b, uint64_t addr, unsigned size, bool any_value, uint64_t match,
		    int fd);
void bus_eventfd_del(struct bus *b, uint64_t addr, int fd);
struct bus_backend {
	int (*eventfd)(void *ctx, struct bus *b, uint64_t addr, unsigned size, bool any_value,
		       uint64_t match, int fd, bool add);
};
void bus_set_backend(struct bus *b, const struct bus_backend *ops, void *ctx);

/*
 * An access by a vCPU (or a test): any thread, no lock held. Unclaimed reads give all ones,
 * unclaimed writes are dropped; both return false. size 1, 2, 4 or 8.
 */
bool bus_read(struct bus *b, uint64_t addr, unsigned size, uint64_t *val);
bool bus_write(struct bus *b, uint64_t addr, unsigned size, uint64_t val);
/* `rep ins/outs`: count items of size bytes at the same address. */
bool bus_read_rep(struct bus *b, uint64_t addr, unsigned size, void *data, size_t count);
bool bus_write_rep(struct bus *b, uint64_t addr, unsigned size, const void *data, size_t count);

/* Who is at addr, for traces and messages ("serial0", "16550"); false when nobody. Any thread. */
bool bus_lookup(struct bus *b, uint64_t addr, const char **who, const char **chip, uint64_t *off,
		const char **reg, bool is_write);
/* Calls fn for each region in order of address (info mtree, dumpdtb). */
void bus_for_each(struct bus *b,
		  void (*fn)(void *ctx, uint64_t base, uint64_t len, const char *who,
			     const char *chip),
		  void *ctx);

#endif
