/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * options.h: the parts of the man page around the option table (options_man.c), and the properties
 * of options (options_props.c).
 */
#ifndef VMM_CONFIG_OPTIONS_H
#define VMM_CONFIG_OPTIONS_H

#include "vmm/base/log.h"
#include "vmm/config/prop.h"

void options_man_head(void);
void options_man_tail(void);

/*
 * What may follow -OPTION (without the dash) after its commas, for people: on standard output.
 * False: there is nothing to say.
 */
bool options_props_help(const char *option);
bool options_props_man(const char *option);
/* The same from a table, as help or as part of the man page. */
void options_table_help(const struct prop *p, bool man);

#endif
