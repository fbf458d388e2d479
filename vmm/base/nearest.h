/* SPDX-License-Identifier: GPL-2.0-or-later */
/* nearest.h: "did you mean": the known name nearest to a mistyped one. */
#ifndef VMM_BASE_NEAREST_H
#define VMM_BASE_NEAREST_H

#include "vmm/base/util.h"

/* names ends with NULL. NULL when nothing is near enough to be meant. */
const char *nearest_name(const char *typed, const char *const *names);

#endif
