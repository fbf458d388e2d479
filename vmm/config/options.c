/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * options.c: the command line. One table holds every option's name, argument, help and handler; -h
 * and the man page are printed from it. The names are those of kvm(1) and qemu-system-x86_64(1).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/base/fdset.h"
#include "vmm/base/log.h"
#include "vmm/base/nearest.h"
#include "vmm/config/config.h"
#include "vmm/config/keyval.h"
#include "vmm/config/options.h"
#include "vmm/config/options_impl.h"

static void set_text(char **member, const char *text)
{
	free(*member);
	*member = text ? xstrdup(text) : NULL;
}

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

static OPT(loadvm)
{
	return restore_option(c, &c->loadvm, arg, err);
}

static OPT(incoming)
{
	/* The others do not come out of a saved file. */
	if (!strncmp(arg, "file:", 5))
		return restore_option(c, &c->incoming, arg, err);
	set_text(&c->incoming, arg);
	c->strict = false;
	return 0;
}


static int add_fd(struct keyval *kv, void *ctx, struct err *err)
{
	const char *set = keyval_get(kv, "set"), *fd = keyval_get(kv, "fd");
	const char *opaque = keyval_get(kv, "opaque");
	uint64_t number, n;
	int ret;

	if (!set || !fd)
		return err_set(err, EINVAL, "set= and fd= are needed");
	if (parse_u64(set, UINT32_MAX, &number) < 0 || parse_u64(fd, INT32_MAX, &n) < 0 || n < 3)
		return err_set(err, EINVAL, "set= is a number, fd= one above 2");
	ret = fdset_add(number, n, opaque);
	return ret < 0 ? err_set(err, -ret, "fd=%s: %s", fd, strerror(-ret)) : 0;
}

static OPT(add_fd)
{
	return keyval_use(arg, NULL, add_fd, NULL, err);
}

static OPT(sandbox)
{
	if (strcmp(arg, "split=on") && strcmp(arg, "split=off"))
		return err_set(err, EINVAL, "split=on or split=off is known");
	return 0;		/* main() has looked at it */
}

static int parse_seconds(const char *option, const char *arg, unsigned *seconds, struct err *err)
{
	uint64_t v;

	if (parse_u64(arg, 100000000, &v) < 0 || !v)
		return err_set(err, EINVAL, "-%s %s: a whole number of seconds, from 1", option,
			       arg);
	*seconds = v;
	return 0;
}

static OPT(timeout) { return parse_seconds("timeout", arg, &c->timeout, err); }
static OPT(idle_timeout) { return parse_seconds("idle-timeout", arg, &c->idle_timeout, err); }

static OPT(shutdown_timeout)
{
	uint64_t v;

	if (parse_u64(arg, 100000000, &v) < 0)
		return err_set(err, EINVAL,
			       "-shutdown-timeout %s: a whole number of seconds, or 0", arg);
	c->shutdown_timeout = v;
	return 0;
}

static OPT(gdb_default)
{
	set_text(&c->gdb, "tcp::1234");
	return 0;
}

static OPT(always) { return 0; }

static OPT(cpu)
{
	if (!strcmp(arg, "help") || !strcmp(arg, "?")) {
		cpuid_help();
		return 1;
	}
	set_text(&c->cpu, arg);
	return 0;
}

static OPT(trace)
{
	if (!strcmp(arg, "help") || !strcmp(arg, "?")) {
		trace_help();
		return 1;
	}
	set_text(&c->trace, arg);
	return 0;
}

static OPT(uuid)
{
	if (parse_uuid(arg, c->uuid) < 0)
		return err_set(err, EINVAL,
			       "-uuid %s: 32 hexadecimal digits expected, with or without dashes",
			       arg);
	c->has_uuid = true;
	return 0;
}

static PUT(uuid)
{
	char text[37];

	format_uuid(text, c->uuid);
	if (c->has_uuid)
		words_add(w, o->name, xstrdup(text));
}

static OPT(option_rom)
{
	if (c->nroms == CONFIG_MAX_ROMS)
		return err_set(err, E2BIG, "-option-rom: more than %d", CONFIG_MAX_ROMS);
	c->roms[c->nroms++] = xstrdup(arg);
	return 0;
}

static PUT(option_rom)
{
	for (unsigned i = 0; i < c->nroms; i++)
		words_add(w, o->name, xstrdup(c->roms[i]));
}

/* --- disks --- */

static OPT(image_dir)
{
	if (c->nimage_dirs == CONFIG_MAX_IMAGE_DIRS)
		return err_set(err, E2BIG, "-image-dir: more than %d", CONFIG_MAX_IMAGE_DIRS);
	c->image_dirs[c->nimage_dirs++] = xstrdup(arg);
	return 0;
}

static OPT(drive)
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
	d->media = cdrom;
	d->file = file ? xstrdup(file) : NULL;
	return 0;
}

/* "http://user:password@host/": only the user stays. A json: name may hold several. Allocated. */
static char *without_passwords(const char *file)
{
	char *text = xstrdup(file);

	for (char *p = text; (p = strstr(p, "://")); ) {
		size_t host = strcspn(p += 3, "/\"'?# "), at = host;
		char *colon;

		while (at && p[at - 1] != '@')
			at--;
		colon = at ? memchr(p, ':', at) : NULL;
		if (colon)
			memmove(colon, p + at - 1, strlen(p + at - 1) + 1);
	}
	return text;
}

/*
 * if=none, as the devices that show it are there as -device; the place among the IDE disks is
 * theirs.
 */
static PUT(drive)
{
	for (unsigned i = 0; i < c->ndrives; i++) {
		struct drive_config d = c->drives[i];
		char *text = NULL;
		size_t len;
		FILE *out;

		if (!*d.id || !(out = open_memstream(&text, &len)))
			continue;
		d.if_word = d.interface == IF_PFLASH ? IF_PFLASH : IF_NONE;
		d.index = d.bus = d.unit = d.bootindex = -1;
		if (d.file)
			d.file = without_passwords(d.file);
		keyval_put(out, "id", d.id);
		props_put(drive_props, &d, out);
		free(d.file);
		fclose(out);
		words_add(w, o->name, text);
	}
}

static OPT(hda) { return ide_drive(c, arg, 0, false, err); }
static OPT(hdb) { return ide_drive(c, arg, 1, false, err); }
static OPT(hdc) { return ide_drive(c, arg, 2, false, err); }
static OPT(hdd) { return ide_drive(c, arg, 3, false, err); }
static OPT(cdrom) { return ide_drive(c, *arg ? arg : NULL, 2, true, err); }

static OPT(device)
{
	char *name = xstrdup(arg), *end = strchr(name, ',');
	const struct device_kind *k = NULL;

	if (!strcmp(arg, "help") || !strcmp(arg, "?")) {
		device_kinds_help(c->kinds);
		free(name);
		return 1;
	}
	if (end && (!strcmp(end, ",help") || !strcmp(end, ",?"))) {
		*end = 0;
		k = device_kind_find(c->kinds, name);
	}
	free(name);
	if (k) {
		device_kind_help(k);
		return 1;
	}
	return config_parse_device(c, arg, err) ? 0 : -EINVAL;
}

static PUT(device)
{
	for (unsigned i = 0; i < c->ndevices; i++)
		words_add(w, o->name, device_text(c->devices[i]));
}

/* --- networks --- */

static OPT(netdev)
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

static PUT(netdev)
{
	for (unsigned i = 0; i < c->nnets; i++)
		if (*c->nets[i].id)
			words_add(w, o->name,
				  xasprintf("%s,id=%s", c->nets[i].spec, c->nets[i].id));
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
		d->any_model = !model;	/* config_finish knows whether the disks are IDE */
	}
	free(spec);
	free(props);
	free(model);
	free(name);
	return ret;
}

static OPT(net)
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

static OPT(serial)
{
	if (c->nserial == CONFIG_MAX_SERIAL)
		return err_set(err, E2BIG, "-serial: a PC has four serial ports");
	c->serial[c->nserial++] = xstrdup(arg);
	return 0;
}

static PUT(serial)
{
	for (unsigned i = 0; i < c->nserial; i++)
		words_add(w, o->name, xstrdup(c->serial[i]));
}

static OPT(chardev)
{
	return config_add_chardev(c, arg, err);
}

static PUT(chardev)
{
	for (unsigned i = 0; i < c->nchardevs; i++)
		words_add(w, o->name, xstrdup(c->chardevs[i].arg));
}

static OPT(debugcon)
{
	return config_add_device_with(c, "isa-debugcon", "chardev", arg, err) ? 0 : -EINVAL;
}

static OPT(display)
{
	static const char *const windows[] = { "gtk", "sdl", "cocoa", "spice-app", "egl-headless",
					       "dbus", NULL };

	if (!strncmp(arg, "vnc=", 4)) {
		set_text(&c->vnc, arg + 4);
		log_warn("-display %s: taken as -vnc %s", arg, arg + 4);
		return 0;
	}
	if (!strcmp(arg, "none") || !strcmp(arg, "curses")) {
		set_text(&c->display, arg);
		return 0;
	}
	for (size_t i = 0; windows[i]; i++)
		if (!strncmp(arg, windows[i], strcspn(arg, ",")) && *arg)
			return err_set(
				err, ENOTSUP,
				"-display %s: there is no window; -vnc :1 shows the screen to a "
				"VNC viewer, -display curses its text here",
				arg);
	return err_set(err, EINVAL, "-display %s: none, curses or vnc=SPEC expected", arg);
}

static OPT(nographic)
{
	c->nographic = true;
	set_text(&c->display, "none");
	return 0;
}

static OPT(vga)
{
	c->vga = !strcmp(arg, "std") ? CONFIG_VGA_STD : CONFIG_VGA_NONE;
	if (c->vga == CONFIG_VGA_STD || !strcmp(arg, "none"))
		return 0;
	return err_set(err, ENOTSUP,
		       "-vga %s: the graphics card is a standard VGA (std), or there is none", arg);
}

static OPT(std_vga) { return opt_vga(c, "std", err); }

static OPT(soundhw)
{
	char *old = c->unsupported;

	c->unsupported = xasprintf("%s%ssound (-soundhw %s)", old ? old : "", old ? ", " : "", arg);
	free(old);
	return 0;
}

static OPT(usb)
{
	char *old = c->unsupported;

	c->unsupported = xasprintf("%s%sUSB (-usb)", old ? old : "", old ? ", " : "");
	free(old);
	return 0;
}

static OPT(usbdevice)
{
	if (!strcmp(arg, "tablet"))
		return config_add_device(c, "virtio-tablet", err) ? 0 : -EINVAL;
	return opt_usb(c, arg, err);
}

/* KIND.PROP=VALUE, checked here and used by config_finish. */
static int device_global(struct config *c, const char *arg, struct err *err)
{
	const char *dot = strchr(arg, '.'), *eq = strchr(arg, '=');
	char *name = dot && dot < eq ? xasprintf("%.*s", (int)(dot - arg), arg) : xstrdup("");
	char *key = dot && dot < eq ? xasprintf("%.*s", (int)(eq - dot - 1), dot + 1) : xstrdup("");
	const struct device_kind *k = device_kind_find(c->kinds, name);
	const struct prop *p = k ? props_named(k->props, key) : NULL;
	void *trial = k ? xcalloc(1, k->size) : NULL;
	int ret = 0;

	if (!p)
		ret = err_set(err, ENOTSUP,
			      "-global %s: only kvm-pit.lost_tick_policy=discard or =delay and "
			      "KIND.PROP=VALUE of a -device are known",
			      arg);
	else if (c->nglobals == CONFIG_MAX_GLOBALS)
		ret = err_set(err, E2BIG, "-global: more than %d", CONFIG_MAX_GLOBALS);
	else
		ret = prop_set(p, trial, eq + 1, err);
	if (ret == 0) {
		c->globals[c->nglobals].kind = k;
		c->globals[c->nglobals].prop = p;
		c->globals[c->nglobals++].value = xstrdup(eq + 1);
	}
	if (k)
		props_free(k->props, trial);
	free(trial);
	free(name);
	free(key);
	return ret;
}

static OPT(global)
{
	static const char policy[] = "kvm-pit.lost_tick_policy=";
	const char *value = arg + strlen(policy);

	if (strncmp(arg, policy, strlen(policy)))
		return device_global(c, arg, err);
	if (strcmp(value, "discard") && strcmp(value, "delay"))
		return err_set(err, ENOTSUP, "-global %s: %sdiscard or %sdelay", arg, policy,
			       policy);
	c->pit_discard = !strcmp(value, "discard");
	return 0;
}

static PUT(global)
{
	if (c->pit_discard)
		words_add(w, o->name, xstrdup("kvm-pit.lost_tick_policy=discard"));
}

static PUT(vga)
{
	/* The card is a -device by now. */
	words_add(w, o->name, xstrdup("none"));
}

/* Everything there is is named. */
static PUT(always)
{
	words_flag(w, o->name);
}

static PUT(shutdown_timeout)
{
	if (c->shutdown_timeout != CONFIG_SHUTDOWN_TIMEOUT)
		words_add(w, o->name, xasprintf("%u", c->shutdown_timeout));
}

static PUT(display)
{
	if (c->display)
		words_add(w, o->name, xstrdup(c->display));
}

static PUT(seconds)
{
	unsigned n = !strcmp(o->name, "timeout") ? c->timeout : c->idle_timeout;

	if (n)
		words_add(w, o->name, xasprintf("%u", n));
}

static OPT(version)
{
	printf("minivmm version %s\n", MINIVMM_VERSION);
	return 1;
}

static OPT(h);
static OPT(man);

/* What may stand after the comma, by the option's table; those of net and chardev are elsewhere. */
static const struct { const char *option; const struct prop *props;
} tables[] = {
	{ "m", ram_props }, { "smp", smp_props }, { "rtc", rtc_props }, { "boot", boot_props },
	{ "drive", drive_props }, { "M", machine_props }, { "machine", machine_props },
};

#define TEXT(member) .text = offsetof(struct config, member)
#define FLAG(member) .flag = offsetof(struct config, member)
static const struct option options[] = {
	{ "", NULL, "Machine", .set = NULL },
	{ "m", "SIZE", "guest memory: 512 (MiB), 2G; default 128", .set = opt_m, .put = put_m },
	{ "smp", "N[,sockets=,cores=,threads=]", "number of processors; default 1", .set = opt_smp,
	  .put = put_smp },
	{ "cpu", "MODEL[,+feature,-feature]",
	  "processor: host (default), qemu64, x86-64-v2, x86-64-v3 ...; \"help\" lists them",
	  .set = opt_cpu, TEXT(cpu) },
	{ "M", "TYPE[,prop=value]",
	  "machine: pc (default) or micro; also pit=off, acpi=off; dumpdtb=FILE describes the "
	  "machine as a device tree, and ends",
	  .set = opt_machine, .put = put_machine },
	{ "machine", "TYPE[,prop=value]", "the same", .set = opt_machine },
	{ "name", "NAME", "name of the guest: process title, default network addresses",
	  TEXT(name) },
	{ "uuid", "UUID", "the machine's UUID as its firmware tables have it", .set = opt_uuid,
	  .put = put_uuid },
	{ "rtc", "base=utc|localtime|DATE", "time the real-time clock starts at", .set = opt_rtc,
	  .put = put_rtc },
	{ "device", "NAME[,prop=value]", "add a device; \"help\" lists them", .set = opt_device,
	  .put = put_device },
	{ "no-acpi", NULL, "no ACPI tables", .set = opt_no_acpi },
	{ "no-hpet", NULL, "no HPET (there is none by default)", .set = opt_no_hpet },
	{ "mem-path", "DIR",
	  "guest memory is a file in DIR: huge pages with a hugetlbfs (mount -t hugetlbfs none "
	  "DIR)",
	  TEXT(mem_path) },
	{ "mem-prealloc", NULL, "take all guest memory from the host at start, or do not start",
	  FLAG(mem_prealloc) },
	{ "enable-kvm", NULL, "KVM is always used", .set = opt_always },
	{ "accel", "kvm", "the same", .set = opt_accel },
	{ "global", "PROP=VALUE",
	  "kvm-pit.lost_tick_policy=discard: a late timer tick is lost; delay (default): it is "
	  "made up for",
	  .set = opt_global, .put = put_global },
	{ "nodefaults", NULL, "no default serial port and graphics card", FLAG(nodefaults),
	  .put = put_always },
	{ "", NULL, "Boot", .set = NULL },
	{ "kernel", "FILE", "boot this kernel: bzImage, PVH ELF (vmlinux) or multiboot",
	  TEXT(kernel) },
	{ "initrd", "FILE", "with this initial RAM disk (multiboot: modules, comma-separated)",
	  TEXT(initrd) },
	{ "append", "TEXT", "and this command line", TEXT(append) },
	{ "bios", "FILE", "firmware instead of SeaBIOS", TEXT(bios) },
	{ "boot", "ORDER|order=,once=,menu=on", "boot devices in order: c disk, d CD, n network",
	  .set = opt_boot, .put = put_boot },
	{ "option-rom", "FILE", "an option ROM for the firmware to start", .set = opt_option_rom,
	  .put = put_option_rom },
	{ "", NULL, "Disks", .set = NULL },
	{ "drive", "FILE|file=,format=,if=,readonly=,snapshot=,cache=",
	  "a disk; virtio unless if=ide; \"help\" lists the rest", .set = opt_drive,
	  .put = put_drive },
	{ "hda", "FILE", "first IDE disk (-hdb, -hdc, -hdd: the others)", .set = opt_hda },
	{ "hdb", "FILE", "second IDE disk", .set = opt_hdb },
	{ "hdc", "FILE", "third IDE disk", .set = opt_hdc },
	{ "hdd", "FILE", "fourth IDE disk", .set = opt_hdd },
	{ "cdrom", "FILE", "CD image or host drive", .set = opt_cdrom },
	{ "image-dir", "DIR|ADDRESS",
	  "names inside images (backing files ...) may lead to files in and below this folder, or "
	  "to this address (nbd:...); allowed anyway: the folders of the images themselves and "
	  "those of /etc/minivmm/image-dirs, without it /var/lib/minivmm/images and "
	  "/var/lib/libvirt/images",
	  .set = opt_image_dir },
	{ "snapshot", NULL, "write to temporary files instead of the disk images",
	  .flag = offsetof(struct config, snapshot), .start = true },
	{ "", NULL, "Network", .set = NULL },
	{ "net", "nic|tap|user|none[,prop=value]",
	  "a card, or what it is connected to: tap,br0 makes a TAP on bridge br0; \"help\" lists "
	  "the rest",
	  .set = opt_net },
	{ "netdev", "TYPE,id=ID[,prop=value]", "a network backend for a -device", .set = opt_netdev,
	  .put = put_netdev },
	{ "", NULL, "Console and screen", .set = NULL },
	{ "serial", "SPEC",
	  "a serial port: stdio, mon:stdio (default), "
	  "file:F[,append=on][,size=BYTES], pty, unix:F, none; each with "
	  "logfile=F[,logappend=on][,logsize=BYTES] for a copy of the output; size: when F is full "
	  "it becomes F.1",
	  .set = opt_serial, .put = put_serial },
	{ "chardev", "KIND,id=ID,...", "a stream for -serial chardev:ID or -device ...,chardev=ID",
	  .set = opt_chardev, .put = put_chardev },
	{ "debugcon", "SPEC", "what firmware writes to its debug port, 0x402: stdio, file:F ...",
	  .set = opt_debugcon },
	{ "nographic", NULL, "no screen, serial port and monitor on the terminal",
	  .set = opt_nographic },
	{ "display", "none|curses|vnc=SPEC", "show the screen", .set = opt_display,
	  .put = put_display },
	{ "vnc", "[HOST]:N|unix:F",
	  "show the screen to VNC viewers, on this machine unless HOST says more; ,password=on "
	  "(then "
	  "set_password in the monitor) or ,password-file=F",
	  TEXT(vnc) },
	{ "vga", "std|none", "graphics card", .set = opt_vga, .put = put_vga },
	{ "std-vga", NULL, "the same as -vga std", .set = opt_std_vga },
	{ "k", "fr|de|us", "keyboard layout of VNC viewers", TEXT(keymap) },
	{ "monitor", "SPEC", "a monitor for people: stdio, unix:F", TEXT(monitor) },
	{ "qmp", "unix:PATH,server,nowait", "a control socket for programs", TEXT(qmp) },
	{ "usb", NULL, "accepted; there is no USB", .set = opt_usb },
	{ "usbdevice", "tablet", "an absolute pointer (virtio-tablet)", .set = opt_usbdevice },
	{ "soundhw", "CARD", "accepted; there is no sound", .set = opt_soundhw },
	{ "", NULL, "Running", .set = NULL },
	{ "dump-config", NULL,
	  "print a command line that makes the same machine, every default, slot and address said, "
	  "and end; the monitor's \"info config\" does the same for a running one. Passwords in "
	  "addresses are left out",
	  FLAG(dump_config), .start = true },
	{ "S", NULL, "do not start the processors; \"cont\" does", FLAG(paused), .start = true },
	{ "gdb", "tcp::PORT", "wait for a debugger there", TEXT(gdb) },
	{ "s", NULL, "the same as -gdb tcp::1234", .set = opt_gdb_default },
	{ "incoming", "ADDRESS", "take a machine that another minivmm sends", .set = opt_incoming },
	{ "loadvm", "NAME|FILE[,strict=on]",
	  "start from a saved machine; strict: not when a disk was changed since it was saved",
	  .set = opt_loadvm },
	{ "verify", "FILE", "check a saved machine's checksums, those of its memory too",
	  TEXT(verify), .start = true },
	{ "no-reboot", NULL, "end instead of rebooting", FLAG(no_reboot) },
	{ "timeout", "SECONDS", "end after so long, with status 124 and the processors' registers",
	  .set = opt_timeout, .put = put_seconds },
	{ "idle-timeout", "SECONDS",
	  "end when the guest has asked no device for anything for so long (246)",
	  .set = opt_idle_timeout, .put = put_seconds },
	{ "shutdown-timeout", "SECONDS",
	  "SIGTERM presses the power button where the guest listens to it, and ends the machine "
	  "after "
	  "so long (5; 0: at once)",
	  .set = opt_shutdown_timeout, .put = put_shutdown_timeout },
	{ "no-shutdown", NULL, "stop instead of ending when the guest powers off",
	  FLAG(no_shutdown) },
	{ "daemonize", NULL, "go into the background once the machine runs", FLAG(daemonize) },
	{ "pidfile", "FILE", "write the process number there", TEXT(pidfile) },
	{ "D", "FILE[,size=BYTES]", "write messages there; at that size it becomes FILE.1",
	  TEXT(logfile) },
	{ "add-fd", "fd=N,set=M[,opaque=S]",
	  "what descriptor N is open on is at /dev/fdset/M, wherever a path does",
	  .set = opt_add_fd },
	{ "sandbox", "split=on|off",
	  "off: one process, for debuggers, instead of the machine and its small parent",
	  .set = opt_sandbox },
	{ "trace", "exits,pio,mmio,irq,blk,...[,file=F[,size=BYTES]][,symbols=F]",
	  "a line for each event; \"summary\": a table at the end; \"help\" lists them",
	  .set = opt_trace, TEXT(trace) },
	{ "version", NULL, "print the version", .set = opt_version },
	{ "h", NULL, "print this help", .set = opt_h },
	{ "help", NULL, NULL, .set = opt_h },
	{ "man", NULL, NULL, .set = opt_man },
};

/* As help, or as part of the man page. False: there is nothing to say. */
static bool option_props(const struct option *o, bool man)
{
	bool any = man ? options_props_man(o->name) : options_props_help(o->name);

	if (man && !strcmp(o->name, "machine"))
		return any;			/* the same as -M's */
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
		if (strcmp(tables[i].option, o->name))
			continue;
		options_table_help(tables[i].props, man);
		return true;
	}
	return any;
}

static OPT(h)
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

static OPT(man)
{
	options_man_head();
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		const struct option *o = &options[i];

		if (!*o->name)
			printf(".SS %s\n", o->help);
		else if (o->help)
			printf(".TP\n.BI \\-%s \" %s\"\n%s.\n", o->name, o->arg ? o->arg : "",
			       o->help);
		option_props(o, true);
		if (!strcmp(o->name, "device"))
			device_kinds_man(c->kinds);
	}
	options_man_tail();
	return 1;
}

static int no_option(const char *name, struct err *err)
{
	const char *names[ARRAY_SIZE(options) + 1], *near, *instead = option_instead(name);
	unsigned n = 0;

	if (instead)
		return err_set(err, EINVAL, "-%s: %s", name, instead);

	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if (*options[i].name && options[i].help)
			names[n++] = options[i].name;
	names[n] = NULL;
	/* With so few letters every option is near. */
	near = strlen(name) > 3 ? nearest_name(name, names) : NULL;
	return err_set(err, EINVAL, "no option is called -%s%s%s%s (-h lists them)", name,
		       near ? "; did you mean -" : "", near ? near : "", near ? "?" : "");
}

/* The option that word i of the command line is (its argument is the next one), or NULL. */
static const struct option *option_at(char *const argv[], int i)
{
	const char *name = argv[i];

	if (name[0] != '-' || !name[1])
		return NULL;
	name += name[1] == '-' ? 2 : 1;
	for (size_t k = 0; k < ARRAY_SIZE(options); k++)
		if (*options[k].name && !strcmp(name, options[k].name))
			return &options[k];
	return NULL;
}

bool options_find(int argc, char *const argv[], const char *name, const char **value)
{
	bool found = false;

	for (int i = 1; i < argc; i++) {
		const struct option *o = option_at(argv, i);

		if (!o)
			continue;
		if (!strcmp(o->name, name)) {
			found = true;
			if (o->arg && value)
				*value = argv[i + 1];
		}
		i += o->arg != NULL;
	}
	return found;
}

static int option_set(struct config *c, const struct option *o, const char *arg, struct err *err)
{
	if (o->set)
		return o->set(c, arg, err);
	if (o->text)
		set_text((char **)((char *)c + o->text), arg);
	else
		*(bool *)((char *)c + o->flag) = true;
	return 0;
}

void config_words(const struct config *c, struct words *w)
{
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		const struct option *o = &options[i];
		const char *text = o->text ? *(char **)((char *)c + o->text) : NULL;

		if (o->put)
			o->put(c, o, w);
		else if (text && !o->start)
			words_add(w, o->name, xstrdup(text));
		else if (o->flag && !o->start && *(bool *)((char *)c + o->flag))
			words_flag(w, o->name);
	}
}

int options_parse(struct config *c, int argc, char **argv, struct err *err)
{
	for (int i = 1; i < argc; i++) {
		const struct option *o;
		const char *name = argv[i], *arg = NULL;
		int ret;

		if (name[0] != '-' || !name[1]) {
			if ((ret = ide_drive(c, name, -1, false, err)) < 0)
				return ret;
			continue;
		}
		name += name[1] == '-' ? 2 : 1;
		o = option_at(argv, i);
		if (!o)
			return no_option(name, err);
		if (o->arg) {
			if (i + 1 == argc)
				return err_set(err, EINVAL, "-%s wants an argument: -%s %s", name,
					       name, o->arg);
			arg = argv[++i];
		}
		if (arg && (!strcmp(arg, "help") || !strcmp(arg, "?")) && option_props(o, false))
			return 1;
		ret = option_set(c, o, arg, err);
		if (ret < 0 && err->msg[0] != '-')
			err_prefix(err, "-%s%s%s", name, arg ? " " : "", arg ? arg : "");
		if (ret)
			return ret;
	}
	return 0;
}
