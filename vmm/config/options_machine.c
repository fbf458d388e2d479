/* SPDX-License-Identifier: GPL-2.0-or-later */
/* options_machine.c: options with a table of properties: -m, -smp, -M, -boot, -rtc. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "vmm/config/options_impl.h"

#define C(member) .offset = offsetof(struct config, member)

/* Fills in c from "key=value,..." by a table; implied: the key of a word alone. */
struct into { struct config *c; const struct prop *props; };

static int take_props(struct keyval *kv, void *ctx, struct err *err)
{
	struct into *i = ctx;

	return props_take(i->props, i->c, kv, err);
}

static int parse_props(struct config *c, const struct prop *p, const char *arg,
		       const char *implied, struct err *err)
{
	struct into i = { c, p };

	return keyval_use(arg, implied, take_props, &i, err);
}

/* The same the other way. NULL when every value is the default; allocated. */
static char *props_words(const struct config *c, const struct prop *p, const char *first)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	fputs(first, out);
	props_put(p, c, out);
	fclose(out);
	if (!*text) {
		free(text);
		return NULL;
	}
	return text;
}

const struct prop ram_props[] = {
	{ "size", NULL, PROP_SIZE, C(ram), .min = MiB,
	  .help = "guest memory; the number alone means this" },
	{ "slots", NULL, PROP_NUMBER, C(ram_slots), .max = 256,
	  .help = "accepted; nothing can be plugged into them" },
	{ 0 },
};

static int take_ram(struct keyval *kv, void *ctx, struct err *err)
{
	if (keyval_get(kv, "maxmem"))
		return err_set(err, ENOTSUP,
			       "-m maxmem=: memory hot-plug is not offered; a balloon (-device "
			       "virtio-balloon) takes memory back at run time");
	return props_take(ram_props, ctx, kv, err);
}

OPT(m)
{
	return keyval_use(arg, "size", take_ram, c, err);
}

PUT(m)
{
	uint64_t unit = c->ram % MiB ? KiB : MiB;

	words_add(w, o->name, xasprintf("%lu%s", c->ram / unit, unit == KiB ? "K" : ""));
}

const struct prop smp_props[] = {
	{ "cpus", NULL, PROP_NUMBER, C(cpus), .min = 1, .max = 1024,
	  .help = "processors at the start; the number alone means this" },
	{ "maxcpus", NULL, PROP_NUMBER, C(max_cpus), .max = 1024, .help = "not more than that" },
	{ "sockets", NULL, PROP_NUMBER, C(topology.sockets), .max = 1024,
	  .help = "how the guest sees them; what is left out follows from the others" },
	{ "cores", NULL, PROP_NUMBER, C(topology.cores), .max = 1024, .help = "of a socket" },
	{ "threads", NULL, PROP_NUMBER, C(topology.threads), .max = 1024, .help = "of a core" },
	{ 0 },
};

static int take_smp(struct keyval *kv, void *ctx, struct err *err)
{
	struct config *c = ctx;
	int ret = props_take(smp_props, c, kv, err);

	return ret == 0 && keyval_get(kv, "cpus") && !c->cpus ?
		err_set(err, EINVAL, "-smp 0: at least one processor") : ret;
}

OPT(smp)
{
	return keyval_use(arg, "cpus", take_smp, c, err);
}

PUT(smp)
{
	words_add(w, o->name, props_words(c, smp_props, ""));
}

static const char *const yes[] = { "on", NULL };
static const char *const any_bool[] = { "on", "off", NULL };
const struct prop machine_props[] = {
	{ "pit", NULL, PROP_BOOL, C(pit), .def = true, .help = "the 8254 timer" },
	{ "acpi", NULL, PROP_BOOL, C(acpi), .def = true, .help = "ACPI tables; off: as -no-acpi" },
	{ "hpet", NULL, PROP_BOOL, C(hpet), .def = true, .help = "as -no-hpet; there is none" },
	{ "accel", NULL, PROP_STRING, C(accel), .value = "kvm", .help = "as -accel" },
	{ "kernel_irqchip", "kernel-irqchip", PROP_FIXED, .words = yes,
	  .help = "the interrupt chips are KVM's: always" },
	{ "usb", NULL, PROP_FIXED, .words = any_bool, .help = "accepted; there is no USB" },
	{ "vmport", NULL, PROP_FIXED, .words = any_bool, .help = "accepted" },
	{ "mem-merge", NULL, PROP_FIXED, .words = any_bool, .help = "accepted" },
	{ "dumpdtb", NULL, PROP_STRING, C(dumpdtb), .value = "FILE",
	  .help = "write what the machine is made of as a device tree, and end" },
	{ 0 },
};

static int take_machine(struct keyval *kv, void *ctx, struct err *err)
{
	static const struct {
		const char *name;
		enum machine_type type;
		unsigned version;
	} types[] = {
		{ "pc", MACHINE_PC, 1 },	{ "pc-1", MACHINE_PC, 1 },
		{ "micro", MACHINE_MICRO, 1 },	{ "micro-1", MACHINE_MICRO, 1 },
		{ "pc-i440fx", MACHINE_PC, 1 }, { "microvm", MACHINE_MICRO, 1 },
	};
	const char *type = keyval_get(kv, "type");
	struct config *c = ctx;

	for (size_t i = 0; type && i < ARRAY_SIZE(types); i++) {
		if (!strcmp(type, types[i].name)) {
			c->machine = types[i].type;
			c->version = types[i].version;
			type = NULL;
		}
	}
	if (type)
		return err_set(err, EINVAL, "-machine %s: the machines are pc and micro", type);
	if (props_take(machine_props, c, kv, err) < 0)
		return -EINVAL;
	return c->accel ? opt_accel(c, c->accel, err) : 0;
}

OPT(machine)
{
	const char *eq = strchr(arg, '=');

	return keyval_use(arg, eq && eq < arg + strcspn(arg, ",") ? NULL : "type", take_machine, c,
			  err);
}

PUT(machine)
{
	char type[32];

	snprintf(type, sizeof(type), "%s-%u", c->machine == MACHINE_PC ? "pc" : "micro",
		 c->version);
	words_add(w, o->name, props_words(c, machine_props, type));
}

OPT(no_acpi)
{
	c->acpi = false;
	return 0;
}

OPT(no_hpet)
{
	c->hpet = false;
	return 0;
}

OPT(accel)
{
	if (strncmp(arg, "kvm", 3))
		return err_set(err, ENOTSUP,
			       "-accel %s: minivmm runs guests with KVM and nothing else", arg);
	return 0;
}

const struct prop boot_props[] = {
	{ "order", NULL, PROP_STRING, C(boot_order), .value = "LETTERS",
	  .help = "a floppy (there is none), c disk, d CD, n network" },
	{ "once", NULL, PROP_STRING, C(boot_once), .value = "LETTERS",
	  .help = "for the first start only" },
	{ "menu", NULL, PROP_BOOL, C(boot_menu),
	  .help = "the firmware waits and offers a menu (Esc)" },
	{ "splash-time", NULL, PROP_INDEX, C(boot_splash_ms), .max = 65535, .value = "MS",
	  .help = "how long it waits" },
	{ "strict", NULL, PROP_BOOL, C(boot_strict),
	  .help = "nothing but the devices with a bootindex=" },
	{ 0 },
};

static int take_boot(struct keyval *kv, void *ctx, struct err *err)
{
	struct config *c = ctx;
	int ret = props_take(boot_props, c, kv, err);

	for (int i = 0; ret == 0 && i < 2; i++) {
		const char *s = i ? c->boot_once : c->boot_order;

		if (s && (!*s || strspn(s, "acdn") != strlen(s)))
			ret = err_set(err, EINVAL,
				      "-boot %s: letters of a (floppy), c (disk), d (CD), n "
				      "(network) expected",
				      s);
	}
	return ret;
}

OPT(boot)
{
	return keyval_use(arg, strchr(arg, '=') ? NULL : "order", take_boot, c, err);
}

PUT(boot)
{
	words_add(w, o->name, props_words(c, boot_props, ""));
}

static const char *const clocks[] = { "host", "rt", "vm", NULL };
const struct prop rtc_props[] = {
	{ "base", NULL, PROP_STRING, C(rtc_text), .value = "utc|localtime|DATE",
	  .help = "what the clock shows at the start; DATE as 2006-06-17T16:01:21. Windows wants "
		  "localtime" },
	{ "clock", NULL, PROP_FIXED, .words = clocks,
	  .help = "accepted; the clock stands while the guest is paused" },
	{ "driftfix", NULL, PROP_STRING, C(rtc_driftfix),
	  .help = "accepted; KVM's timers make up for lost ticks themselves" },
	{ 0 },
};

OPT(rtc)
{
	struct tm tm = { 0 };
	const char *s, *end;

	if (parse_props(c, rtc_props, arg, NULL, err) < 0)
		return -EINVAL;
	s = c->rtc_text;
	if (!s || !strcmp(s, "utc")) {
		c->rtc_base = CONFIG_RTC_UTC;
	} else if (!strcmp(s, "localtime")) {
		c->rtc_base = CONFIG_RTC_LOCALTIME;
	} else {
		end = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);
		if (!end)
			end = strptime(s, "%Y-%m-%d", &tm);
		if (!end || *end)
			return err_set(
				err, EINVAL,
				"-rtc base=%s: utc, localtime or 2006-06-17T16:01:21 expected", s);
		c->rtc_base = CONFIG_RTC_DATE;
		c->rtc_date = timegm(&tm);
	}
	return 0;
}

PUT(rtc)
{
	words_add(w, o->name, props_words(c, rtc_props, ""));
}
