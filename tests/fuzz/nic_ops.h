/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nic_ops.h: bytes as what a driver does with a network card: registers, descriptors and packets in
 * memory, frames on the wire, time. A leaked pin of guest memory hangs bench_free, which the
 * driver's alarm reports.
 */
#ifndef TESTS_FUZZ_NIC_OPS_H
#define TESTS_FUZZ_NIC_OPS_H

#include <stdlib.h>

#include "tests/fuzz/ops.h"
#include "tests/lib/nic_bench.h"

struct nic_fuzz {
	uint64_t rings[4];		/* where descriptors go */
	unsigned desc_size;
	uint32_t reg_space;
	const uint32_t *hot;		/* registers worth more than the others */
	unsigned nhot;
};

static inline void nic_fuzz_run(struct nic_bench *b, const struct nic_fuzz *f, const uint8_t *p,
				size_t left)
{
	static uint8_t frame[9100];
	uint8_t d[32];

	while (left >= 3) {
		uint8_t op = fuzz_take(&p, &left, 1);
		uint64_t v;

		switch (op & 7) {
		case 0:
		case 1:
			v = fuzz_take(&p, &left, 1);
			bus_write(b->mmio, BAR_MEM + f->hot[v % f->nhot],
				  op & 8 ? 4 : 1u << (op >> 4 & 3),
				  fuzz_take(&p, &left, op & 64 ? 2 : 4));
			break;
		case 2:
			v = fuzz_take(&p, &left, 2) * 4 % f->reg_space;
			bus_write(b->mmio, BAR_MEM + v, 4, fuzz_take(&p, &left, 4));
			break;
		case 3:
			bus_read(b->mmio, BAR_MEM + fuzz_take(&p, &left, 2) * 4 % f->reg_space,
				 1u << (op >> 4 & 3), &v);
			break;
		case 4:
		case 5:
			/* A descriptor; bit 3: its address is kept inside memory. */
			memset(d, 0, sizeof(d));
			v = fuzz_take(&p, &left, 1) % 64;
			for (unsigned i = 0; i < f->desc_size; i += 4)
				st_le32(d + i, fuzz_take(&p, &left, 4));
			if (op & 8) {
				unsigned at = f->desc_size == 16 && op & 64 ? 8 : 0;

				st_le64(d + at, ld_le32(d + at) % RAM);
			}
			mem_write(b->mem, f->rings[op >> 4 & 3] + v * f->desc_size, d,
				  f->desc_size);
			break;
		case 6:
			frame_make(frame, sizeof(frame),
				   op & 8 ? (const uint8_t *)"\x52\x54\x00\x01\x02\x03"
					  : (const uint8_t *)"\xff\xff\xff\xff\xff\xff",
				   fuzz_take(&p, &left, 2));
			v = 14 + fuzz_take(&p, &left, 2) % 9000;
			send(b->wire, frame, v, MSG_DONTWAIT);
			loop_once(b->loop, 0);
			break;
		case 7:
			/* Bytes of a packet to send: headers that offloads look at. */
			for (unsigned i = 0; i < 32; i++)
				d[i] = fuzz_take(&p, &left, 1);
			mem_write(b->mem, 0x100000 + (op >> 3) * 32, d, 32);
			loop_once(b->loop, 0);
			break;
		}
		while (wire_take(b, frame, sizeof(frame)) > 0)
			;
	}
	loop_once(b->loop, 0);
}

#endif
