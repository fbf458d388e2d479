/* SPDX-License-Identifier: GPL-2.0-or-later */
/* device_kinds.c: the table of devices, from the list in the header. */
#include "vmm/machine/device_kinds.h"

#define POINTER(name) &kind_##name,
const struct device_kind *const device_kinds[] = { DEVICE_KINDS(POINTER) NULL };
