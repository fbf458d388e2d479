/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sigbus.h: a restored machine's memory is mapped from its file. When that file is cut short or its
 * storage fails, pages are gone: the process says so and ends at once, as a power cut would: going
 * on with anything else in their place could reach the disks.
 */
#ifndef VMM_BASE_SIGBUS_H
#define VMM_BASE_SIGBUS_H

#include "vmm/base/util.h"

/* [host, host + len) is a mapping of the file. Main thread, before the guest runs. */
void sigbus_watch(const void *host, size_t len, const char *path);

#endif
