/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * options.h: the parts of the man page around the option table (options_man.c), and the properties
 * of options (options_props.c).
 */
#ifndef VMM_CONFIG_OPTIONS_H
#define VMM_CONFIG_OPTIONS_H

#include "vmm/base/log.h"

void options_man_head(void);
void options_man_tail(void);

/*
 * What may follow -OPTION (without the dash) after its commas, for people: on standard output.
 * False: there is nothing to say.
 */
bool options_props_help(const char *option);
void options_props_man(const char *option);

#endif
