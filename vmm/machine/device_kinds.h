/* SPDX-License-Identifier: GPL-2.0-or-later */
/* device_kinds.h: the devices there are. */
#ifndef VMM_MACHINE_DEVICE_KINDS_H
#define VMM_MACHINE_DEVICE_KINDS_H

#include "vmm/config/device_kind.h"

/* In the order of "-device help"; ends with NULL. */
extern const struct device_kind *const device_kinds[];

#endif
