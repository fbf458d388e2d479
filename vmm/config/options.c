/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * options.c: the command line. One table holds every option's name, argument, help and handler; -h
 * and the man page are printed from it. The names are those of kvm(1) and qemu-system-x86_64(1).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/base/nearest.h"
#include "vmm/config/config.h"
#include "vmm/config/keyval.h"
#include "vmm/config/options.h"

#define OPT(name) static int opt_##name(struct config *c, const char *arg, struct err *err)
#define STRING_OPTION(name, member)                                                                \
	OPT(name)                                                                                  \
	{                                                                                          \
		free(c->member);                                                                   \
		c->member = arg ? xstrdup(arg) : NULL;                                             \
		return 0;                                                                          \
	}
#define FLAG_OPTION(name, member) OPT(name) { c->member = true; return 0; }

STRING_OPTION(kernel, kernel)
STRING_OPTION(initrd, initrd)
STRING_OPTION(append, append)
STRING_OPTION(bios, bios)
STRING_OPTION(name, name)
STRING_OPTION(cpu_model, cpu)
STRING_OPTION(display, display)
STRING_OPTION(vnc, vnc)
STRING_OPTION(k, keymap)
STRING_OPTION(monitor, monitor)
STRING_OPTION(qmp, qmp)
STRING_OPTION(gdb, gdb)

/* FILE[,strict=on|off]; only this ending is ours, a file's name may have commas. */
static int restore_option(struct config *c, char **member, const char *arg, struct err *err)
{
	const char *end = strstr(arg, ",strict=");

	for (const char *next; end && (next = strstr(end + 1, ",strict=")); end = next)
		;
	if (end && strcmp(end + 8, "on") && strcmp(end + 8, "off"))
		return err_set(err, EINVAL, "strict=%s: on or off", end + 8);
	free(*member);
	*member = end ? xasprintf("%.*s", (int)(end - arg), arg) : xstrdup(arg);
	c->strict = end && !strcmp(end + 8, "on");
	return 0;
}

OPT(loadvm)
{
	return restore_option(c, &c->loadvm, arg, err);
}

OPT(incoming)
{
	/* The others do not come out of a saved file. */
	if (!strncmp(arg, "file:", 5))
		return restore_option(c, &c->incoming, arg, err);
	free(c->incoming);
	c->incoming = xstrdup(arg);
	c->strict = false;
	return 0;
}

STRING_OPTION(verify, verify)
STRING_OPTION(pidfile, pidfile)
STRING_OPTION(logfile, logfile)
STRING_OPTION(mem_path, mem_path)
FLAG_OPTION(paused, paused)
FLAG_OPTION(no_reboot, no_reboot)
FLAG_OPTION(no_shutdown, no_shutdown)
FLAG_OPTION(daemonize, daemonize)
FLAG_OPTION(snapshot, snapshot)
FLAG_OPTION(no_acpi, no_acpi)
FLAG_OPTION(no_hpet, no_hpet)
FLAG_OPTION(nodefaults, nodefaults)
FLAG_OPTION(mem_prealloc, mem_prealloc)

static int parse_seconds(const char *option, const char *arg, unsigned *seconds, struct err *err)
{
	uint64_t v;

	if (parse_u64(arg, 100000000, &v) < 0 || !v)
		return err_set(err, EINVAL, "-%s %s: a whole number of seconds, from 1", option,
			       arg);
	*seconds = v;
	return 0;
}

OPT(timeout) { return parse_seconds("timeout", arg, &c->timeout, err); }
OPT(idle_timeout) { return parse_seconds("idle-timeout", arg, &c->idle_timeout, err); }

OPT(gdb_default)
{
	return opt_gdb(c, "tcp::1234", err);
}

OPT(always) { return 0; }

OPT(cpu)
{
	if (!strcmp(arg, "help") || !strcmp(arg, "?")) {
		cpuid_help();
		return 1;
	}
	return opt_cpu_model(c, arg, err);
}

OPT(trace)
{
	if (!strcmp(arg, "help") || !strcmp(arg, "?")) {
		trace_help();
		return 1;
	}
	free(c->trace);
	c->trace = xstrdup(arg);
	return 0;
}

OPT(accel)
{
	if (strncmp(arg, "kvm", 3))
		return err_set(err, ENOTSUP,
			       "-accel %s: minivmm runs guests with KVM and nothing else", arg);
	return 0;
}

OPT(m)
{
	struct keyval kv;
	uint64_t slots;
	int ret = keyval_parse(&kv, arg, "size", err);

	if (ret == 0)
		ret = keyval_size(&kv, "size", MiB, &c->ram, err);
	if (ret == 0 && keyval_u64(&kv, "slots", 256, &slots, err) == 0)
		ret = keyval_get(&kv, "maxmem")
			      ? err_set(err, ENOTSUP,
					"-m maxmem=: memory hot-plug is not offered; "
					"a balloon (-device virtio-balloon) takes memory back at "
					"run time")
			      : keyval_finish(&kv, err);
	keyval_free(&kv);
	return ret;
}

OPT(smp)
{
	static const char *const names[] = { "cpus", "maxcpus", "sockets", "cores", "threads" };
	unsigned *const values[] = { &c->cpus, &c->max_cpus, &c->topology.sockets,
				     &c->topology.cores, &c->topology.threads };
	struct keyval kv;
	int ret = keyval_parse(&kv, arg, "cpus", err);

	for (size_t i = 0; ret == 0 && i < ARRAY_SIZE(names); i++) {
		uint64_t v = *values[i];

		ret = keyval_u64(&kv, names[i], 1024, &v, err);
		*values[i] = v;
	}
	if (ret == 0)
		ret = keyval_finish(&kv, err);
	if (ret == 0 && keyval_get(&kv, "cpus") && !c->cpus)
		ret = err_set(err, EINVAL, "-smp 0: at least one processor");
	keyval_free(&kv);
	return ret;
}

static int machine_props(struct config *c, struct keyval *kv, struct err *err)
{
	bool pit = !c->no_pit, on = true, acpi = !c->no_acpi, hpet = !c->no_hpet;
	const char *s = keyval_get(kv, "accel");
	int ret;

	if (s && (ret = opt_accel(c, s, err)) < 0)
		return ret;
	if (keyval_bool(kv, "pit", &pit, err) < 0 || keyval_bool(kv, "acpi", &acpi, err) < 0 ||
	    keyval_bool(kv, "hpet", &hpet, err) < 0 || keyval_bool(kv, "usb", &on, err) < 0 ||
	    keyval_bool(kv, "vmport", &on, err) < 0 || keyval_bool(kv, "mem-merge", &on, err) < 0)
		return -EINVAL;
	s = keyval_get(kv, "kernel_irqchip");
	if (!s)
		s = keyval_get(kv, "kernel-irqchip");
	if (s && strcmp(s, "on"))
		return err_set(
			err, ENOTSUP,
			"kernel_irqchip=%s: the interrupt chips are KVM's (on) in this machine", s);
	c->no_pit = !pit;
	c->no_acpi = !acpi;
	c->no_hpet = !hpet;
	c->dumpdtb = keyval_dup(kv, "dumpdtb");
	return 0;
}

OPT(machine)
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
	struct keyval kv;
	const char *type;
	int ret;

	ret = keyval_parse(&kv, arg,
			   strchr(arg, '=') && strchr(arg, '=') < arg + strcspn(arg, ",") ? NULL
											  : "type",
			   err);
	if (ret < 0)
		return ret;
	type = keyval_get(&kv, "type");
	for (size_t i = 0; type && i < ARRAY_SIZE(types); i++) {
		if (!strcmp(type, types[i].name)) {
			c->machine = types[i].type;
			c->version = types[i].version;
			type = NULL;
		}
	}
	if (type)
		ret = err_set(err, EINVAL, "-machine %s: the machines are pc and micro", type);
	if (ret == 0)
		ret = machine_props(c, &kv, err);
	if (ret == 0)
		ret = keyval_finish(&kv, err);
	keyval_free(&kv);
	return ret;
}

OPT(uuid)
{
	if (parse_uuid(arg, c->uuid) < 0)
		return err_set(err, EINVAL,
			       "-uuid %s: 32 hexadecimal digits expected, with or without dashes",
			       arg);
	c->has_uuid = true;
	return 0;
}

OPT(boot)
{
	struct keyval kv;
	uint64_t splash = 0;
	const char *s;
	int ret = keyval_parse(&kv, arg, strchr(arg, '=') ? NULL : "order", err);

	if (ret < 0)
		return ret;
	if (keyval_bool(&kv, "menu", &c->boot_menu, err) < 0 ||
	    keyval_bool(&kv, "strict", &c->boot_strict, err) < 0 ||
	    keyval_u64(&kv, "splash-time", 65535, &splash, err) < 0)
		ret = -EINVAL;
	if (keyval_get(&kv, "splash-time"))
		c->boot_splash_ms = splash;
	for (int i = 0; ret == 0 && i < 2; i++) {
		char **where = i ? &c->boot_once : &c->boot_order;

		s = keyval_get(&kv, i ? "once" : "order");
		if (!s)
			continue;
		if (!*s || strspn(s, "acdn") != strlen(s))
			ret = err_set(err, EINVAL,
				      "-boot %s: letters of a (floppy), c (disk), d (CD), n "
				      "(network) expected",
				      s);
		free(*where);
		*where = xstrdup(s);
	}
	if (ret == 0)
		ret = keyval_finish(&kv, err);
	keyval_free(&kv);
	return ret;
}

OPT(rtc)
{
	struct keyval kv;
	struct tm tm = { 0 };
	const char *s, *end;
	int ret = keyval_parse(&kv, arg, NULL, err);

	if (ret < 0)
		return ret;
	keyval_get(&kv, "driftfix");		/* KVM's chips replay lost ticks themselves */
	s = keyval_get(&kv, "clock");
	if (s && strcmp(s, "host") && strcmp(s, "vm") && strcmp(s, "rt"))
		ret = err_set(err, EINVAL, "-rtc clock=%s: host, rt or vm expected", s);
	s = keyval_get(&kv, "base");
	if (s && !strcmp(s, "localtime")) {
		c->rtc_base = CONFIG_RTC_LOCALTIME;
	} else if (s && strcmp(s, "utc")) {
		end = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);
		if (!end)
			end = strptime(s, "%Y-%m-%d", &tm);
		if (!end || *end)
			ret = err_set(
				err, EINVAL,
				"-rtc base=%s: utc, localtime or 2006-06-17T16:01:21 expected", s);
		c->rtc_base = CONFIG_RTC_DATE;
		c->rtc_date = timegm(&tm);
	}
	if (ret == 0)
		ret = keyval_finish(&kv, err);
	keyval_free(&kv);
	return ret;
}

OPT(option_rom)
{
	if (c->nroms == CONFIG_MAX_ROMS)
		return err_set(err, E2BIG, "-option-rom: more than %d", CONFIG_MAX_ROMS);
	c->roms[c->nroms++] = xstrdup(arg);
	return 0;
}

/* --- disks --- */

OPT(drive)
{
	return config_parse_drive(c, arg, err) ? 0 : -EINVAL;
}

static int ide_drive(struct config *c, const char *file, int index, bool cdrom, struct err *err)
{
	struct drive_config *d = config_add_drive(c, NULL, err);

	if (!d)
		return -EINVAL;
	d->interface = IF_IDE;
	d->index = index;
	d->cdrom = cdrom;
	d->file = file ? xstrdup(file) : NULL;
	if (cdrom)
		d->open.flags &= ~BLK_RDWR;
	return 0;
}

OPT(hda) { return ide_drive(c, arg, 0, false, err); }
OPT(hdb) { return ide_drive(c, arg, 1, false, err); }
OPT(hdc) { return ide_drive(c, arg, 2, false, err); }
OPT(hdd) { return ide_drive(c, arg, 3, false, err); }
OPT(cdrom) { return ide_drive(c, *arg ? arg : NULL, 2, true, err); }

OPT(device)
{
	if (!strcmp(arg, "help") || !strcmp(arg, "?")) {
		config_device_help();
		return 1;
	}
	return config_parse_device(c, arg, err) ? 0 : -EINVAL;
}

/* --- networks --- */

OPT(netdev)
{
	char *spec = xstrdup(arg), *id = keyval_take(spec, "id");
	int ret = 0;

	if (!id)
		ret = err_set(err, EINVAL, "-netdev %s: id= is missing (a -device names it)", arg);
	else if (!config_add_net(c, id, spec, err))
		ret = -EINVAL;
	free(id);
	free(spec);
	return ret;
}

/*
 * "-net nic,model=e1000,macaddr=...": rewritten as a -device without a backend; config_finish pairs
 * them.
 */
static int net_nic(struct config *c, const char *arg, int vlan, struct err *err)
{
	char *props = xstrdup(arg), *model = keyval_take(props, "model"),
	     *name = keyval_take(props, "name");
	const char *rest = strchr(props, ',');
	char *spec = xasprintf("%s%s", model ? model : "virtio-net", rest ? rest : "");
	struct device_config *d;
	int ret = 0;

	if (model && !strcmp(model, "virtio")) {
		free(spec);
		spec = xasprintf("virtio-net%s", rest ? rest : "");
	}
	d = config_parse_device(c, spec, err);
	if (!d) {
		ret = -EINVAL;
	} else {
		d->vlan = vlan;
		if (!model)
			d->kind = DEV_NONE;	/* config_finish knows whether the disks are IDE */
	}
	free(spec);
	free(props);
	free(model);
	free(name);
	return ret;
}

OPT(net)
{
	char *spec, *s;
	uint64_t vlan = 0;
	struct net_config *n;
	int ret = 0;

	if (!strcmp(arg, "none"))
		return 0;		/* no network that was not asked for: there never is */
	spec = xstrdup(arg);
	s = keyval_take(spec, "vlan");
	if (s && parse_u64(s, 255, &vlan) < 0)
		ret = err_set(err, EINVAL, "-net vlan=%s: a number from 0 to 255 expected", s);
	free(s);
	free(keyval_take(spec, "name"));
	if (ret == 0 && !strncmp(spec, "nic", 3) && (!spec[3] || spec[3] == ',')) {
		ret = net_nic(c, spec, vlan, err);
	} else if (ret == 0) {
		n = config_add_net(c, NULL, spec, err);
		if (n)
			n->vlan = vlan;
		ret = n ? 0 : -EINVAL;
	}
	free(spec);
	return ret;
}

/* --- console, screen --- */

OPT(serial)
{
	if (c->nserial == CONFIG_MAX_SERIAL)
		return err_set(err, E2BIG, "-serial: a PC has four serial ports");
	c->serial[c->nserial++] = xstrdup(arg);
	return 0;
}

OPT(chardev)
{
	return config_add_chardev(c, arg, err);
}

OPT(debugcon)
{
	struct device_config *d = config_add_device(c, DEV_DEBUGCON, NULL, err);

	if (d)
		d->backend = xstrdup(arg);
	return d ? 0 : -EINVAL;
}

OPT(nographic)
{
	c->nographic = true;
	return opt_display(c, "none", err);
}

OPT(vga)
{
	c->vga = !strcmp(arg, "std") ? CONFIG_VGA_STD : CONFIG_VGA_NONE;
	if (c->vga == CONFIG_VGA_STD || !strcmp(arg, "none"))
		return 0;
	return err_set(err, ENOTSUP,
		       "-vga %s: the graphics card is a standard VGA (std), or there is none", arg);
}

OPT(std_vga) { return opt_vga(c, "std", err); }

OPT(soundhw)
{
	char *old = c->unsupported;

	c->unsupported = xasprintf("%s%ssound (-soundhw %s)", old ? old : "", old ? ", " : "", arg);
	free(old);
	return 0;
}

OPT(usb)
{
	char *old = c->unsupported;

	c->unsupported = xasprintf("%s%sUSB (-usb)", old ? old : "", old ? ", " : "");
	free(old);
	return 0;
}

OPT(usbdevice)
{
	if (!strcmp(arg, "tablet"))
		return config_add_device(c, DEV_VIRTIO_INPUT, NULL, err) ? 0 : -EINVAL;
	return opt_usb(c, arg, err);
}

OPT(global)
{
	static const char policy[] = "kvm-pit.lost_tick_policy=";
	static const char port[] = "isa-debugcon.iobase=";
	const char *value = arg + strlen(policy);
	uint64_t n;

	if (!strncmp(arg, port, strlen(port))) {
		if (parse_u64(arg + strlen(port), 0xffff, &n) < 0 || !n)
			return err_set(err, EINVAL, "-global %s: a port number, 1 to 0xffff", arg);
		c->debugcon_iobase = n;
		return 0;
	}
	if (strncmp(arg, policy, strlen(policy)) ||
	    (strcmp(value, "discard") && strcmp(value, "delay")))
		return err_set(err, ENOTSUP,
			       "-global %s: only %sdiscard, %sdelay and %sN are known", arg, policy,
			       policy, port);
	c->pit_discard = !strcmp(value, "discard");
	return 0;
}

OPT(version)
{
	printf("minivmm version %s\n", MINIVMM_VERSION);
	return 1;
}

OPT(h);
OPT(man);

static const struct option {
	const char *name, *arg, *help;
	int (*set)(struct config *c, const char *arg, struct err *err);
} options[] = {
	{ "", NULL, "Machine", NULL },
	{ "m", "SIZE", "guest memory: 512 (MiB), 2G; default 128", opt_m },
	{ "smp", "N[,sockets=,cores=,threads=]", "number of processors; default 1", opt_smp },
	{ "cpu", "MODEL[,+feature,-feature]",
	  "processor: host (default), qemu64, x86-64-v2, x86-64-v3 ...; \"help\" lists them",
	  opt_cpu },
	{ "M", "TYPE[,prop=value]",
	  "machine: pc (default) or micro; also pit=off, acpi=off; dumpdtb=FILE describes the "
	  "machine as a device tree, and ends",
	  opt_machine },
	{ "machine", "TYPE[,prop=value]", "the same", opt_machine },
	{ "name", "NAME", "name of the guest: process title, default network addresses", opt_name },
	{ "uuid", "UUID", "the machine's UUID as its firmware tables have it", opt_uuid },
	{ "rtc", "base=utc|localtime|DATE", "time the real-time clock starts at", opt_rtc },
	{ "device", "NAME[,prop=value]", "add a device; \"help\" lists them", opt_device },
	{ "no-acpi", NULL, "no ACPI tables", opt_no_acpi },
	{ "no-hpet", NULL, "no HPET (there is none by default)", opt_no_hpet },
	{ "mem-path", "DIR",
	  "guest memory is a file in DIR: huge pages with a hugetlbfs (mount -t hugetlbfs none "
	  "DIR)",
	  opt_mem_path },
	{ "mem-prealloc", NULL, "take all guest memory from the host at start, or do not start",
	  opt_mem_prealloc },
	{ "enable-kvm", NULL, "KVM is always used", opt_always },
	{ "accel", "kvm", "the same", opt_accel },
	{ "global", "PROP=VALUE",
	  "kvm-pit.lost_tick_policy=discard: a late timer tick is lost; delay (default): it is "
	  "made up for",
	  opt_global },
	{ "nodefaults", NULL, "no default serial port and graphics card", opt_nodefaults },
	{ "", NULL, "Boot", NULL },
	{ "kernel", "FILE", "boot this kernel: bzImage, PVH ELF (vmlinux) or multiboot",
	  opt_kernel },
	{ "initrd", "FILE", "with this initial RAM disk (multiboot: modules, comma-separated)",
	  opt_initrd },
	{ "append", "TEXT", "and this command line", opt_append },
	{ "bios", "FILE", "firmware instead of SeaBIOS", opt_bios },
	{ "boot", "ORDER|order=,once=,menu=on", "boot devices in order: c disk, d CD, n network",
	  opt_boot },
	{ "option-rom", "FILE", "an option ROM for the firmware to start", opt_option_rom },
	{ "", NULL, "Disks", NULL },
	{ "drive", "FILE|file=,format=,if=,readonly=,snapshot=,cache=",
	  "a disk; virtio unless if=ide; \"help\" lists the rest", opt_drive },
	{ "hda", "FILE", "first IDE disk (-hdb, -hdc, -hdd: the others)", opt_hda },
	{ "hdb", "FILE", "second IDE disk", opt_hdb },
	{ "hdc", "FILE", "third IDE disk", opt_hdc },
	{ "hdd", "FILE", "fourth IDE disk", opt_hdd },
	{ "cdrom", "FILE", "CD image or host drive", opt_cdrom },
	{ "snapshot", NULL, "write to temporary files instead of the disk images", opt_snapshot },
	{ "", NULL, "Network", NULL },
	{ "net", "nic|tap|user|none[,prop=value]",
	  "a card, or what it is connected to: tap,br0 makes a TAP on bridge br0; \"help\" lists "
	  "the rest",
	  opt_net },
	{ "netdev", "TYPE,id=ID[,prop=value]", "a network backend for a -device", opt_netdev },
	{ "", NULL, "Console and screen", NULL },
	{ "serial", "SPEC", "a serial port: stdio, mon:stdio (default), file:F[,append=on], pty, "
	  "unix:F, none; each with logfile=F[,logappend=on] for a copy of the output",
	  opt_serial },
	{ "chardev", "KIND,id=ID,...", "a stream for -serial chardev:ID or -device ...,chardev=ID",
	  opt_chardev },
	{ "debugcon", "SPEC", "what firmware writes to its debug port, 0x402: stdio, file:F ...",
	  opt_debugcon },
	{ "nographic", NULL, "no screen, serial port and monitor on the terminal", opt_nographic },
	{ "display", "none|curses", "show the screen", opt_display },
	{ "vnc", "[HOST]:N|unix:F",
	  "show the screen to VNC viewers, on this machine unless HOST says more; ,password=on "
	  "(then "
	  "set_password in the monitor) or ,password-file=F",
	  opt_vnc },
	{ "vga", "std|none", "graphics card", opt_vga },
	{ "std-vga", NULL, "the same as -vga std", opt_std_vga },
	{ "k", "fr|de|us", "keyboard layout of VNC viewers", opt_k },
	{ "monitor", "SPEC", "a monitor for people: stdio, unix:F", opt_monitor },
	{ "qmp", "unix:PATH,server,nowait", "a control socket for programs", opt_qmp },
	{ "usb", NULL, "accepted; there is no USB", opt_usb },
	{ "usbdevice", "tablet", "an absolute pointer (virtio-tablet)", opt_usbdevice },
	{ "soundhw", "CARD", "accepted; there is no sound", opt_soundhw },
	{ "", NULL, "Running", NULL },
	{ "S", NULL, "do not start the processors; \"cont\" does", opt_paused },
	{ "gdb", "tcp::PORT", "wait for a debugger there", opt_gdb },
	{ "s", NULL, "the same as -gdb tcp::1234", opt_gdb_default },
	{ "incoming", "ADDRESS", "take a machine that another minivmm sends", opt_incoming },
	{ "loadvm", "NAME|FILE[,strict=on]",
	  "start from a saved machine; strict: not when a disk was changed since it was saved",
	  opt_loadvm },
	{ "verify", "FILE", "check a saved machine's checksums, those of its memory too",
	  opt_verify },
	{ "no-reboot", NULL, "end instead of rebooting", opt_no_reboot },
	{ "timeout", "SECONDS", "end after so long, with status 124 and the processors' registers",
	  opt_timeout },
	{ "idle-timeout", "SECONDS",
	  "end when the guest has asked no device for anything for so long (246)",
	  opt_idle_timeout },
	{ "no-shutdown", NULL, "stop instead of ending when the guest powers off",
	  opt_no_shutdown },
	{ "daemonize", NULL, "go into the background once the machine runs", opt_daemonize },
	{ "pidfile", "FILE", "write the process number there", opt_pidfile },
	{ "D", "FILE", "write messages there", opt_logfile },
	{ "trace", "exits,pio,mmio,irq,blk,...[,file=F][,symbols=F]",
	  "a line for each event; \"summary\": a table at the end; \"help\" lists them",
	  opt_trace },
	{ "version", NULL, "print the version", opt_version },
	{ "h", NULL, "print this help", opt_h },
	{ "help", NULL, NULL, opt_h },
	{ "man", NULL, NULL, opt_man },
};

OPT(h)
{
	printf("usage: %s [options] [disk image]\n\n"
	       "Runs a virtual machine with KVM. Ctrl-A X on the serial console ends it, Ctrl-A H "
	       "lists the keys.\n"
	       "  %s -m 512 -drive disk.qcow2 -net tap,br0\n",
	       log_name(), log_name());
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		const struct option *o = &options[i];
		char left[96];

		if (!*o->name) {
			printf("\n%s:\n", o->help);
		} else if (o->help) {
			snprintf(left, sizeof(left), "-%s%s%s", o->name, o->arg ? " " : "",
				 o->arg ? o->arg : "");
			printf("  %-30s%s%s\n", left,
			       strlen(left) > 29 ? "\n                                " : " ",
			       o->help);
		}
	}
	printf("\nExit status: 0 the guest powered off, 125 the machine could not start, odd what "
	       "isa-debug-exit says; minivmm(1) "
	       "lists the others.\n");
	return 1;
}

OPT(man)
{
	options_man_head();
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		const struct option *o = &options[i];

		if (!*o->name)
			printf(".SS %s\n", o->help);
		else if (o->help)
			printf(".TP\n.BI \\-%s \" %s\"\n%s.\n", o->name, o->arg ? o->arg : "",
			       o->help);
		options_props_man(o->name);
		if (!strcmp(o->name, "device"))
			config_device_man();
	}
	options_man_tail();
	return 1;
}

static int no_option(const char *name, struct err *err)
{
	const char *names[ARRAY_SIZE(options) + 1], *near;
	unsigned n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if (*options[i].name && options[i].help)
			names[n++] = options[i].name;
	names[n] = NULL;
	near = nearest_name(name, names);
	return err_set(err, EINVAL, "no option is called -%s%s%s%s (-h lists them)", name,
		       near ? "; did you mean -" : "", near ? near : "", near ? "?" : "");
}

int options_parse(struct config *c, int argc, char **argv, struct err *err)
{
	for (int i = 1; i < argc; i++) {
		const struct option *o = NULL;
		const char *name = argv[i], *arg = NULL;
		int ret;

		if (name[0] != '-' || !name[1]) {
			if ((ret = ide_drive(c, name, -1, false, err)) < 0)
				return ret;
			continue;
		}
		name += name[1] == '-' ? 2 : 1;
		for (size_t k = 0; k < ARRAY_SIZE(options) && !o; k++)
			if (*options[k].name && !strcmp(name, options[k].name))
				o = &options[k];
		if (!o)
			return no_option(name, err);
		if (o->arg) {
			if (i + 1 == argc)
				return err_set(err, EINVAL, "-%s wants an argument: -%s %s", name,
					       name, o->arg);
			arg = argv[++i];
		}
		if (arg && (!strcmp(arg, "help") || !strcmp(arg, "?")) && options_props_help(name))
			return 1;
		ret = o->set(c, arg, err);
		if (ret < 0 && err->msg[0] != '-')
			err_prefix(err, "-%s%s%s", name, arg ? " " : "", arg ? arg : "");
		if (ret)
			return ret;
	}
	return 0;
}
