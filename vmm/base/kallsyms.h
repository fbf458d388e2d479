/* SPDX-License-Identifier: GPL-2.0-or-later */
/* kallsyms.h: the names that a Linux kernel's image carries for its own messages. */
#ifndef VMM_BASE_KALLSYMS_H
#define VMM_BASE_KALLSYMS_H

#include "vmm/base/util.h"

/* Gets each symbol: its address, its type as nm prints it, its name, which is gone afterwards. */
typedef void (*kallsyms_add)(void *opaque, uint64_t addr, char type, const char *name);

/*
 * Finds the table in an unpacked kernel (vmlinux) and hands over all it has; false: there is none.
 */
bool kallsyms_read(const void *image, size_t size, kallsyms_add add, void *opaque);

#endif
