/* SPDX-License-Identifier: GPL-2.0-or-later */
/* bios_fixture.h: guest RAM without KVM and files made of bytes, for the tests of bios/. */
#ifndef TESTS_BIOS_FIXTURE_H
#define TESTS_BIOS_FIXTURE_H

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bios/boot.h"

/* A configuration of the machine version under test with this much RAM; mem and ram are made. */
static inline struct bios_config bios_fixture(enum bios_machine machine, uint64_t ram_low,
					      uint64_t ram_high)
{
	struct bios_config c = {
		.machine = machine,
		.version = 1,
		.ram_low = ram_low,
		.ram_high = ram_high,
		.ncpus = 1,
		.serial_mask = 1,
		.boot_splash_ms = -1,
		.boot_reboot_ms = -1,
		.phys_bits = 40,
		.firmware = { .fd = -1 },
		.kernel = { .fd = -1 },
		.initrd = { .fd = -1 },
	};
	struct err err = { "" };

	c.mem = mem_new(NULL, NULL);
	c.ram = block_new(c.mem, "ram", ram_low + ram_high, BLOCK_RAM, &err);
	if (!c.ram || block_map(c.ram, 0, 0, ram_low, MEM_PRIO_RAM) < 0 ||
	    (ram_high && block_map(c.ram, 4 * GiB, ram_low, ram_high, MEM_PRIO_RAM) < 0))
		abort();
	return c;
}

/* An anonymous file with these bytes. */
static inline struct bios_file bios_file_of(const char *name, const void *data, size_t len)
{
	int fd = memfd_create(name, MFD_CLOEXEC);

	if (fd < 0 || write_full(fd, data, len) < 0)
		abort();
	return (struct bios_file){ .fd = fd, .path = name };
}

#endif
