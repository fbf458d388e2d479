/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ops.h: bytes as a guest's accesses: each takes an opcode (bit 0: write, bits 1-2: width, bit 3:
 * memory rather than ports, bits 4-7: which of the target's ranges), an offset of 2 or 4 bytes and,
 * for a write, a value.
 */
#ifndef TESTS_FUZZ_OPS_H
#define TESTS_FUZZ_OPS_H

#include "vmm/wires/bus.h"

struct fuzz_range { uint64_t base, len; };

static inline uint64_t fuzz_take(const uint8_t **p, size_t *left, unsigned n)
{
	uint64_t v = 0;

	n = MIN(n, *left);
	memcpy(&v, *p, n);
	*p += n;
	*left -= n;
	return le64toh(v);
}

static inline void fuzz_ops(struct bus *pio, const struct fuzz_range *ports, unsigned nports,
			    struct bus *mmio, const struct fuzz_range *mem, unsigned nmem,
			    const uint8_t *p, size_t left)
{
	while (left >= 3) {
		uint8_t op = fuzz_take(&p, &left, 1);
		unsigned size = 1u << (op >> 1 & 3);
		bool is_mem = (op & 8) && nmem;
		const struct fuzz_range *r = is_mem ? &mem[(op >> 4) % nmem]
						    : &ports[(op >> 4) % nports];
		uint64_t off = fuzz_take(&p, &left, is_mem ? 4 : 2) % r->len, v;

		if (!is_mem)
			size = MIN(size, 4u);
		if (op & 1)
			bus_write(is_mem ? mmio : pio, r->base + off, size,
				  fuzz_take(&p, &left, size));
		else
			bus_read(is_mem ? mmio : pio, r->base + off, size, &v);
	}
}

#endif
