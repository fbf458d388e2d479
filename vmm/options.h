/* SPDX-License-Identifier: GPL-2.0-or-later */
/* options.h: the parts of the man page around the option table (options_man.c). */
#ifndef VMM_OPTIONS_H
#define VMM_OPTIONS_H

#include "vmm/log.h"

void options_man_head(void);
void options_man_tail(void);

#endif
