/* SPDX-License-Identifier: GPL-2.0-or-later */
/* bios_fixture.h: guest RAM without KVM and files made of bytes, for the tests of bios/. */
#ifndef TESTS_BIOS_FIXTURE_H
#define TESTS_BIOS_FIXTURE_H

#include "bios/boot.h"

/* A configuration of the machine version under test with this much RAM; mem and ram are made. */
struct bios_config bios_fixture(enum bios_machine machine, uint64_t ram_low, uint64_t ram_high);
/* An anonymous file with these bytes. */
struct bios_file bios_file_of(const char *name, const void *data, size_t len);

#endif
