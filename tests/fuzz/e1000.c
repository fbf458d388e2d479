/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fuzz target: the 82540EM; see nic_ops.h. */
#include "devices/nic/e1000.h"
#include "tests/fuzz/nic_ops.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint32_t hot[] = {
		E_TDT,	E_RDT,	E_TDH,	  E_RDH, E_TDLEN, E_RDLEN, E_TCTL, E_RCTL,
		E_CTRL, E_IMS,	E_IMC,	  E_ICR, E_MDIC,  E_EECD,  E_EERD, E_ITR,
		E_RDTR, E_TIDV, E_RXCSUM, E_TDT, E_RDT,	  E_TDT,
	};
	static const struct nic_fuzz f = {
		.rings = { 0x10000, 0x10000, 0x20000, 0x20000 },
		.desc_size = 16,
		.reg_space = E_MEM_SIZE,
		.hot = hot,
		.nhot = ARRAY_SIZE(hot),
	};
	struct nic_bench *b = bench_new(e1000_new, 1, 0);

	wr32(b, E_TDBAL, 0x10000);
	wr32(b, E_TDLEN, 64 * 16);
	wr32(b, E_TCTL, TCTL_EN | TCTL_PSP);
	wr32(b, E_RDBAL, 0x20000);
	wr32(b, E_RDLEN, 64 * 16);
	wr32(b, E_RCTL, RCTL_EN | RCTL_BAM | RCTL_LPE);
	wr32(b, E_RDT, 63);
	nic_fuzz_run(b, &f, data, size);
	bench_free(b);
	return 0;
}
