/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as a kernel: every loader must refuse or load it, and never touch what is not guest
 * RAM.
 */
#include "bios/load.h"
#include "tests/lib/bios_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct bios_config c;
	struct boot_cpu cpu;
	struct err err;

	if (!c.mem)
		c = bios_fixture(BIOS_PC, 32 * MiB, 8 * MiB);
	if (!size)
		return 0;
	c.kernel = bios_file_of("kernel", data, size);
	c.initrd = bios_file_of("initrd", data, MIN(size, 100));
	c.cmdline = "console=ttyS0";
	for (int kind = 0; kind < 4; kind++) {
		memset(&cpu, 0, sizeof(cpu));
		err.msg[0] = 0;
		int ret = kind == 0   ? load_linux(&c, 0xe0000, &cpu, &err)
			  : kind == 1 ? load_pvh(&c, 0xe0000, &cpu, &err)
			  : kind == 2 ? load_multiboot(&c, 0xe0000, &cpu, &err)
			  : kernel_identify(&c.kernel, &err) == KERNEL_UNKNOWN ? -1
									       : 0;

		if (ret < 0 && !err.msg[0])
			abort();		/* refused without a word */
		if (kind < 3 && ret == 0 && !ram_at(&c, cpu.rip, 1))
			abort();		/* starts where no memory is */
	}
	close(c.kernel.fd);
	close(c.initrd.fd);
	return 0;
}
