/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fuzz target: the 8139C+ in both modes; see nic_ops.h. */
#include "devices/nic/rtl8139.h"
#include "tests/fuzz/nic_ops.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint32_t hot[] = {
		R_TSD,	R_TSD + 4, R_TSD + 8, R_TSD + 12, R_TSAD0, R_TSAD0 + 4, R_CR,
		R_CAPR, R_IMR,	   R_ISR,     R_TCR,	  R_RCR,   R_9346CR,	R_TPPOLL,
		R_CPCR, R_RBSTART, R_RDSAR,   R_TIMERINT, R_TCTR,  R_BMCR,
	};
	static const struct nic_fuzz f = {
		.rings = { 0x10000, 0x20000, 0x30000, 0x10000 },
		.desc_size = 16,
		.reg_space = 256,
		.hot = hot,
		.nhot = ARRAY_SIZE(hot),
	};
	struct nic_bench *b = bench_new(rtl8139_new, 0, 1);

	wr32(b, R_RBSTART, 0x30000);
	for (unsigned i = 0; i < TX_SLOTS; i++)
		wr32(b, R_TSAD0 + 4 * i, 0x100000 + 2048 * i);
	if (size && data[0] & 1) {
		bus_write(b->mmio, BAR_MEM + R_CPCR, 2, CPCR_TXEN | CPCR_RXEN | CPCR_RXVLAN);
		wr32(b, R_TSAD0, 0x10000);
		wr32(b, R_TSAD0 + 4, 0);
		wr32(b, R_RDSAR, 0x20000);
	}
	wr32(b, R_RCR, RCR_APM | RCR_AB | (size && data[0] & 2 ? RCR_WRAP : 0));
	bus_write(b->mmio, BAR_MEM + R_CR, 1, CR_RE | CR_TE);
	nic_fuzz_run(b, &f, data, size);
	bench_free(b);
	return 0;
}
