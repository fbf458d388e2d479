/* SPDX-License-Identifier: GPL-2.0-or-later */
/* options_impl.h: the row of an option; private to options*.c. */
#ifndef VMM_CONFIG_OPTIONS_IMPL_H
#define VMM_CONFIG_OPTIONS_IMPL_H

#include "vmm/config/config.h"

/*
 * A row: a text or a flag of the configuration, or a function that reads the argument; and, when
 * the option belongs to what a dumped configuration says, one that says it again. Those of neither
 * kind are short forms of others, or say how one start goes.
 */
struct option {
	const char *name, *arg, *help;
	int (*set)(struct config *c, const char *arg, struct err *err);
	void (*put)(const struct config *c, const struct option *o, struct words *w);
	size_t text, flag;		/* offset of a char *, of a bool; 0: neither */
	bool start;			/* a text or flag that a dump leaves out */
};

/* The option's functions: what reads it, what says it again. */
#define OPT(name) int opt_##name(struct config *c, const char *arg, struct err *err)
#define PUT(name) void put_##name(const struct config *c, const struct option *o, struct words *w)

/* options_machine.c: what the machine is, and how it boots */
OPT(accel);
OPT(boot);
OPT(m);
OPT(machine);
OPT(no_acpi);
OPT(no_hpet);
OPT(rtc);
OPT(smp);
PUT(boot);
PUT(m);
PUT(machine);
PUT(rtc);
PUT(smp);
extern const struct prop ram_props[], smp_props[], machine_props[], boot_props[], rtc_props[];

/*
 * What to do instead of an option of QEMU's that is not here; NULL: it is unknown
 * (options_foreign.c).
 */
const char *option_instead(const char *name);

#endif
