/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options into a configuration: the forms people type, and what is refused with which words. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/base/nearest.h"
#include "vmm/config/config.h"
#include "vmm/config/keyval.h"
#include "vmm/machine/device_kinds.h"

static struct config c;
static struct err e;

/* Parses a command line of words and finishes the configuration. */
static int parse(const char *line)
{
	char *copy = strdup(line), *save = NULL, *argv[256] = { "minivmm" };
	int argc = 1, ret;

	e.msg[0] = 0;
	config_init(&c, device_kinds);
	for (char *w = strtok_r(copy, " ", &save); w && argc < 256; w = strtok_r(NULL, " ", &save))
		argv[argc++] = w;
	ret = options_parse(&c, argc, argv, &e);
	if (ret == 0)
		ret = config_finish(&c, &e);
	free(copy);
	return ret;
}

static void refused(const char *line, const char *words)
{
	cr_assert_lt(parse(line), 0, "%s was taken", line);
	cr_assert(strstr(e.msg, words), "%s: \"%s\" lacks \"%s\"", line, e.msg, words);
	config_free(&c);
}

static struct device_config *device(const char *kind)
{
	for (unsigned i = 0; i < c.ndevices; i++)
		if (!strcmp(c.devices[i]->kind->name, kind))
			return c.devices[i];
	return NULL;
}

/* A property as text, "" when it is not given; good until the next call. */
static const char *prop(const struct device_config *d, const char *name)
{
	static char *text;
	const struct prop *p = d ? props_named(d->kind->props, name) : NULL;

	cr_assert(p, "no property %s", name);
	free(text);
	text = prop_text(p, d);
	return text ? text : "";
}

Test(config, demo_line)
{
	cr_assert_eq(parse("-m 512 -drive disk.qcow2 -net tap,br0"), 0, "%s", e.msg);
	cr_assert_eq(c.ram, 512 * MiB);
	cr_assert_str_eq(c.drives[0].file, "disk.qcow2");
	cr_assert_eq(c.drives[0].interface, IF_VIRTIO);
	cr_assert(device("virtio-blk") && device("virtio-net"));
	cr_assert_str_eq(device_backend(device("virtio-net")), c.nets[0].id);
	cr_assert_str_eq(c.nets[0].spec, "tap,br0");
	cr_assert_str_eq(c.serial[0], "mon:stdio");
	config_free(&c);
}

Test(config, chardevs)
{
	static const struct { const char *arg, *spec; } good[] = {
		{ "file,id=a,path=f,append=on", "file:f,append=on" },
		{ "file,id=a,path=x,,y", "file:x,y,append=off" },
		{ "null,id=a,logfile=l,logappend=on", "null,logappend=on,logfile=l" },
		{ "stdio,id=a,mux=on", "mon:stdio" },
		{ "pty,id=a", "pty" },
		{ "socket,id=a,path=s,server=on,wait=off", "unix:s,server,nowait" },
		{ "socket,id=a,host=h,port=7", "tcp:h:7" },
		{ "socket,id=a,port=7,server", "tcp::7,server" },
		{ "serial,id=a,path=/dev/ttyS0", "/dev/ttyS0" },
	};
	char line[200];

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		snprintf(line, sizeof(line), "-chardev %s -serial chardev:a -serial null",
			 good[i].arg);
		cr_assert_eq(parse(line), 0, "%s: %s", line, e.msg);
		cr_assert_str_eq(config_chardev_spec(&c, c.serial[0]), good[i].spec);
		cr_assert_str_eq(config_chardev_spec(&c, "a"), good[i].spec);
		cr_assert_str_eq(config_chardev_spec(&c, c.serial[1]), "null");
		config_free(&c);
	}
	refused("-chardev file,id=a", "path=");
	refused("-chardev file,path=f", "id=");
	refused("-chardev file,id=a,path=f,append=maybe", "append=maybe");
	refused("-chardev file,id=a,path=f,appendd=on", "appendd");
	refused("-chardev socket,id=a", "host= and port=");
	refused("-chardev spicevmc,id=a", "spicevmc");
	refused("-chardev pty,id=a -chardev pty,id=a", "taken");
	refused("-chardev null,id=a,append=on", "append");
}

Test(config, memory_sizes)
{
	static const struct { const char *line; uint64_t bytes;
	} good[] = {
		{ "-m 512", 512 * MiB },       { "-m 2G", 2 * GiB },
		{ "-m size=1G", GiB },	       { "-m 1.5G", 3 * GiB / 2 },
		{ "-m 300000", 300000 * MiB }, { "-m 65536K", 64 * MiB },
	};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		cr_assert_eq(parse(good[i].line), 0, "%s: %s", good[i].line, e.msg);
		cr_assert_eq(c.ram, good[i].bytes, "%s", good[i].line);
		config_free(&c);
	}
	refused("-m 12Q", "-m 12Q: size=12Q: a size expected");
	refused("-m 0", "at least");
	refused("-m", "wants an argument");
	refused("-m 1G,maxmem=4G", "hot-plug");
}

Test(config, processors)
{
	cr_assert_eq(parse("-smp 4"), 0);
	cr_assert_eq(c.cpus, 4);
	config_free(&c);
	cr_assert_eq(parse("-smp sockets=2,cores=2,threads=2"), 0, "%s", e.msg);
	cr_assert_eq(c.cpus, 8);
	config_free(&c);
	cr_assert_eq(parse("-smp 2,maxcpus=4"), 0, "%s", e.msg);
	cr_assert_eq(c.max_cpus, 4);
	config_free(&c);
	refused("-smp 0", "at least one");
	refused("-smp 5000", "-smp 5000: cpus=5000: a number");
	refused("-smp 5,cores=2,sockets=2", "not 5");
	refused("-smp 2,coress=1", "did you mean \"cores\"");
}

Test(config, apic_ids_leave_room)
{
	struct cpu_topology t = { .sockets = 2, .cores = 3, .threads = 2 };

	cr_assert_eq(cpu_apic_id(&t, 0), 0);
	cr_assert_eq(cpu_apic_id(&t, 1), 1);
	cr_assert_eq(cpu_apic_id(&t, 5), 5);
	cr_assert_eq(cpu_apic_id(&t, 6), 8, "the second socket begins at a power of two");
}

Test(config, old_lines)
{
	cr_assert_eq(parse("-hda root.img -hdb swap.img -m 4096 -net nic -net "
			   "tap,ifname=tap1,script=no -daemonize"),
		     0, "%s", e.msg);
	cr_assert(device("e1000"), "a bare nic beside IDE disks is e1000");
	cr_assert_eq(c.drives[0].index, 0);
	cr_assert_eq(c.drives[1].index, 1);
	cr_assert_str_eq(c.serial[0], "null", "a daemon has no terminal");
	config_free(&c);
	cr_assert_eq(parse("-m 386 -std-vga -cdrom /dev/cdrom image.img -soundhw all -usb"), 0,
		     "%s", e.msg);
	cr_assert(strstr(c.unsupported, "sound") && strstr(c.unsupported, "USB"));
	cr_assert_eq(c.drives[0].index, 2);
	cr_assert_eq(c.drives[1].index, 0, "the image is the first disk");
	config_free(&c);
	cr_assert_eq(parse("-m 512 -hdb /dev/sdb"), 0, "%s", e.msg);
	config_free(&c);
	cr_assert_eq(parse("-m 256 -cdrom image.iso -boot d image.img"), 0, "%s", e.msg);
	cr_assert_str_eq(c.boot_order, "d");
	config_free(&c);
	cr_assert_eq(parse("-net nic,model=virtio,macaddr=52:54:00:aa:bb:cc -net user"), 0, "%s",
		     e.msg);
	cr_assert_str_eq(prop(device("virtio-net"), "mac"), "52:54:00:aa:bb:cc");
	config_free(&c);
}

Test(config, a_second_machine_option_adds_to_the_first)
{
	cr_assert_eq(parse("-M pc,dumpdtb=a.dtb,pit=off -machine acpi=off"), 0, "%s", e.msg);
	cr_assert_str_eq(c.dumpdtb, "a.dtb");
	cr_assert(!c.pit && !c.acpi);
	config_free(&c);
}

Test(config, vlans_pair)
{
	cr_assert_eq(parse("-net nic,vlan=1,model=e1000 -net nic,vlan=2,model=rtl8139 -net "
			   "tap,br2,vlan=2 -net tap,br1,vlan=1"),
		     0, "%s", e.msg);
	cr_assert_str_eq(device_backend(device("rtl8139")), c.nets[0].id);
	cr_assert_str_eq(device_backend(device("e1000")), c.nets[1].id);
	cr_assert_str_eq(c.nets[0].spec, "tap,br2", "vlan= is ours, not the backend's");
	config_free(&c);
}

Test(config, drives)
{
	cr_assert_eq(parse("-drive file=a.img,format=raw,if=none,id=d0,cache=none,readonly=on "
			   "-device virtio-blk-pci,drive=d0,addr=7"),
		     0, "%s", e.msg);
	cr_assert_eq(c.drives[0].open.flags & (BLK_RDWR | BLK_NOCACHE), BLK_NOCACHE);
	cr_assert_str_eq(prop(device("virtio-blk"), "addr"), "07.0");
	cr_assert_str_eq(prop(device("virtio-blk"), "packed"), "off");
	config_free(&c);
	cr_assert_eq(parse("-drive file=a.img,if=none,id=d0 -device "
			   "virtio-blk-pci,drive=d0,num-queues=4,packed=on"),
		     0, "%s", e.msg);
	cr_assert_str_eq(prop(device("virtio-blk"), "packed"), "on");
	cr_assert_str_eq(prop(device("virtio-blk"), "num-queues"), "4");
	config_free(&c);
	cr_assert_eq(parse("-drive file=a,,b.img"), 0, "%s", e.msg);
	cr_assert_str_eq(c.drives[0].file, "a,b.img", "two commas are one");
	config_free(&c);
	cr_assert_eq(parse("-snapshot -drive a.img"), 0);
	cr_assert(c.drives[0].open.flags & BLK_SNAPSHOT);
	config_free(&c);
	refused("-drive file=a.img,formt=raw", "did you mean \"format\"");
	refused("-drive file=a.img,cache=maybe", "one of writeback");
	refused("-drive if=virtio", "file= is missing");
	refused("-hda a -hdb b -hdc c -hdd d e.img", "all four IDE positions");
	refused("-hda a -drive file=b,if=ide,index=0", "taken");
	refused("-drive id=x,file=a -drive id=x,file=b", "taken");
}

Test(config, debug_port)
{
	cr_assert_eq(parse("-debugcon file:log"), 0, "%s", e.msg);
	cr_assert_str_eq(prop(device("isa-debugcon"), "chardev"), "file:log");
	cr_assert_str_eq(prop(device("isa-debugcon"), "iobase"), "0x0",
			 "the default, where firmware writes");
	config_free(&c);
	cr_assert_eq(parse("-global isa-debugcon.iobase=0xe9 -debugcon stdio -device "
			   "isa-debugcon,iobase=0x403,chardev=null"),
		     0, "%s", e.msg);
	cr_assert_str_eq(prop(c.devices[0], "iobase"), "0xe9");
	cr_assert_str_eq(prop(c.devices[1], "iobase"), "0x403");
	config_free(&c);
	refused("-global isa-debugcon.iobase=70000", "from 0 to 65535");
}

Test(config, refusals)
{
	refused("-m 512,slots=abc,typo=1", "slots=abc");
	refused("-m 512,slots=1,typo=1", "\"typo\"");
	refused("-m 512,maxmem=1G", "not offered");
	refused("-device virtio-rng,bus=pci.1", "pci.0");
	refused("-device virtio-net,queue-size=5", "power of two");
	refused("-hda x -net nic,queues=2 -net user", "\"num-queues\"");
	refused("-smpp 2", "did you mean -smp");
	refused("-device virtio-blkk", "did you mean \"virtio-blk\"");
	refused("-device e1000,mac=1:2", "six hexadecimal bytes");
	refused("-device e1000,mac=01:00:00:00:00:00", "group address");
	refused("-device virtio-rng,addr=99", "PCI slot");
	refused("-M micro", "has no firmware");
	refused("-M micro -kernel k -hda x", "has no IDE");
	refused("-M q35", "pc and micro");
	refused("-initrd x", "belong to a -kernel");
	refused("-boot x", "letters");
	refused("-uuid 12", "32 hexadecimal digits");
	refused("-rtc base=never", "utc, localtime");
	refused("-accel tcg", "KVM and nothing else");
	refused("-global foo.bar=1", "lost_tick_policy");
	refused("-netdev user", "id= is missing");
	refused("-vga qxl", "standard VGA");
	refused("-M micro -kernel x -vga std", "take -M pc");
}

/* The words of c, and those of the machine that they make. */
static char *dump_twice(char **again)
{
	struct words w = { 0 };
	char *text, *argv[256] = { "minivmm" };
	int argc = 1;

	config_words(&c, &w);
	text = words_text(&w);
	for (unsigned i = 0; i < w.n; i++)
		argv[argc++] = w.word[i];
	config_free(&c);
	config_init(&c, device_kinds);
	e.msg[0] = 0;
	cr_assert_eq(options_parse(&c, argc, argv, &e), 0, "%s", e.msg);
	cr_assert_eq(config_finish(&c, &e), 0, "%s", e.msg);
	words_free(&w);
	config_words(&c, &w);
	*again = words_text(&w);
	words_free(&w);
	config_free(&c);
	return text;
}

Test(config, a_dump_makes_the_same_configuration)
{
	static const char *const lines[] = {
		"", "-hda a -cdrom b c", "-net nic -net user -hda a",
		"-drive http://me:hush@host:80/a,,b.img,format=raw -snapshot -m 99 -smp 3",
		"-drive json:{'file':{'driver':'http',,'url':'http://me:hush@h/x'}} -S -loadvm x",
		"-debugcon file:a,b=c -vnc :1,password=on -nographic -k fr -rtc base=localtime",
	};

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		char *text, *again;

		cr_assert_eq(parse(lines[i]), 0, "%s", e.msg);
		text = dump_twice(&again);
		cr_assert_str_eq(text, again);
		cr_assert(!strstr(text, "hush"), "a password: %s", text);
		cr_assert(!strstr(text, "-loadvm") && !strstr(text, "-S"), "%s", text);
		cr_assert_eq(!strstr(text, "//me@h"), !strstr(lines[i], "hush"), "%s", text);
		free(text);
		free(again);
	}
}

Test(config, a_graphics_card_asked_for_is_there)
{
	static const struct { const char *line; bool there;
	} t[] = {
		{ "", true },
		{ "-nodefaults", false },
		{ "-nographic", false },
		{ "-vga none", false },
		{ "-nodefaults -vga std", true },
		{ "-nographic -std-vga", true },
		{ "-nodefaults -device VGA", true },
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		cr_assert_eq(parse(t[i].line), 0, "%s", e.msg);
		cr_assert_eq(device("VGA") != NULL, t[i].there, "%s", t[i].line);
		config_free(&c);
	}
}

Test(config, many_of_everything)
{
	char line[4096] = "";

	for (int i = 0; i < CONFIG_MAX_DRIVES + 1; i++)
		strcat(line, "-drive a.img ");
	refused(line, "more than");
	refused("-serial a -serial b -serial c -serial d -serial e", "four serial ports");
}

static int take_nothing(struct keyval *kv, void *ctx, struct err *err)
{
	return 0;
}

static int take_all(struct keyval *kv, void *ctx, struct err *err)
{
	keyval_get(kv, "a");
	return 0;
}

Test(keyval, what_nobody_takes_is_refused)
{
	e.msg[0] = 0;
	cr_assert_lt(keyval_use("a=1,b=2", NULL, take_all, NULL, &e), 0);
	cr_assert(strstr(e.msg, "\"b\""), "%s", e.msg);
	e.msg[0] = 0;
	cr_assert_eq(keyval_use("a=1", NULL, take_all, NULL, &e), 0);
}

Test(keyval, too_many_parts)
{
	char spec[512] = "a";

	for (int i = 0; i < KEYVAL_MAX + 4; i++)
		strcat(spec, ",a=1");
	e.msg[0] = 0;
	cr_assert_lt(keyval_use(spec, NULL, take_nothing, NULL, &e), 0);
}

Test(nearest, swapped_and_missing_letters)
{
	static const char *const names[] = { "drive", "device", "display", NULL };

	cr_assert_str_eq(nearest_name("dirve", names), "drive");
	cr_assert_str_eq(nearest_name("divice", names), "device");
	cr_assert_null(nearest_name("xyzzy", names));
}
