/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * options_props.c: what may stand after the comma: the properties of -drive, -net and others, for
 * "-drive help" and the man page. The parsers are config_parse.c, options.c and net/;
 * tests/guest/suite-doctor holds the two together.
 */
#include <stdio.h>
#include <string.h>

#include "vmm/config/options.h"

static const struct prop {
	const char *option;		/* those of one option follow each other */
	const char *name, *help;
} props[] = {
	{ "smp", "cpus=N", "processors at the start; the word alone means this" },
	{ "smp", "maxcpus=N", "not more than that" },
	{ "smp", "sockets=N cores=N threads=N",
	  "how the guest sees them; what is left out follows from the others" },
	{ "M", "pc",
	  "i440FX PC: BIOS, PCI, IDE, everything (default; pc-1 is its present version)" },
	{ "M", "micro", "no PCI and no firmware, virtio-mmio only: the fastest boot (micro-1)" },
	{ "M", "pit=off", "no 8254 timer" },
	{ "M", "acpi=off", "no ACPI tables, as -no-acpi" },
	{ "M", "hpet=off", "as -no-hpet; there is none" },
	{ "M", "kernel_irqchip=on", "KVM's interrupt chips: always" },
	{ "M", "accel=kvm", "as -accel" },
	{ "M", "dumpdtb=FILE", "write what the machine is made of as a device tree, and end" },
	{ "rtc", "base=utc|localtime|DATE",
	  "what the clock shows at the start; DATE as 2006-06-17T16:01:21. Windows wants "
	  "localtime" },
	{ "rtc", "clock=host|rt|vm", "accepted; the clock stands while the guest is paused" },
	{ "rtc", "driftfix=", "accepted; KVM's timers make up for lost ticks themselves" },
	{ "boot", "order=LETTERS", "a floppy (there is none), c disk, d CD, n network" },
	{ "boot", "once=LETTERS", "for the first start only" },
	{ "boot", "menu=on", "the firmware waits and offers a menu (Esc)" },
	{ "boot", "splash-time=MS", "how long it waits" },
	{ "boot", "strict=on", "nothing but the devices with a bootindex=" },

	{ "drive", "file=FILE",
	  "the image, block device or address (nbd://, http://); the word alone means this" },
	{ "drive", "format=NAME",
	  "raw, qcow2, vmdk ...; left out: as the file looks. Say raw for a disk whose guest is "
	  "not trusted" },
	{ "drive", "if=virtio|ide|pflash|none",
	  "how the guest sees it; none: a -device names it by its id" },
	{ "drive", "id=NAME", "its name for -device, monitor and control socket" },
	{ "drive", "media=disk|cdrom", "a CD drive is an IDE one" },
	{ "drive", "index=N bus=N unit=N", "its place among the IDE or virtio disks" },
	{ "drive", "bootindex=N", "the firmware tries the lowest first" },
	{ "drive", "serial=TEXT", "the serial number that the guest reads" },
	{ "drive", "readonly=on read-only=on", "the guest cannot write" },
	{ "drive", "snapshot=on",
	  "writes go to an unlinked temporary file; \"commit\" in the monitor keeps them" },
	{ "drive", "cache=writeback|none|writethrough|directsync|unsafe",
	  "writeback (default): the host's page cache, and the guest's flushes reach the "
	  "disk; none: past the cache; writethrough, directsync: each write reaches the disk; "
	  "unsafe: flushes are ignored" },
	{ "drive", "aio=threads|io_uring|native",
	  "accepted; io_uring where the kernel allows it, else threads" },
	{ "drive", "discard=unmap|ignore",
	  "what the guest discards is given back to the host (default), or kept" },
	{ "drive", "detect-zeroes=off|on|unmap", "written zeroes become holes" },
	{ "drive", "l2-cache-size=SIZE", "memory for qcow2's tables" },
	{ "drive", "secret-file=FILE", "the passphrase of an encrypted image" },
	{ "drive", "werror=report|ignore|stop|enospc",
	  "when a write fails: the guest is told, or not, or the machine stops and \"cont\" tries "
	  "again "
	  "(enospc, the default: stops when the disk is full, else reports)" },
	{ "drive", "rerror=report|ignore|stop", "when a read fails" },
	{ "drive", "bps=N bps_rd=N bps_wr=N",
	  "limits in bytes a second (all, reads, writes); also throttling.bps-total, -read, "
	  "-write" },
	{ "drive", "iops=N iops_rd=N iops_wr=N",
	  "limits in requests a second; also throttling.iops-total, -read, -write" },
	{ "drive", "bps_max=N iops_max=N ...",
	  "a higher speed for a burst after a rest (each limit has one: bps_rd_max ...; "
	  "throttling.bps-total-max)" },
	{ "drive", "bps_max_length=SECONDS iops_max_length=SECONDS ...",
	  "how long such a burst may last (1; throttling.bps-total-max-length)" },
	{ "drive", "iops_size=BYTES", "a bigger request counts as several (throttling.iops-size)" },

	{ "chardev", "file,path=FILE,append=on|off",
	  "what comes is written there; emptied at start, or not" },
	{ "chardev", "socket,path=FILE|host=H,port=N,server=on|off,wait=on|off",
	  "a unix or TCP socket" },
	{ "chardev", "stdio,mux=on|off",
	  "the terminal; mux: with the monitor and its Ctrl-A keys" },
	{ "chardev", "null, pty, serial,path=/dev/ttyS0",
	  "nothing, a pseudo terminal, a port of the host" },
	{ "chardev", "logfile=FILE,logappend=on|off", "a copy of all output, of any kind" },

	{ "net", "nic,model=virtio|e1000|rtl8139",
	  "a card; left out: e1000 when the disks are IDE, else virtio" },
	{ "net", "nic,macaddr=MAC", "its address; left out: made from -name" },
	{ "net", "nic,addr=SLOT", "its PCI slot" },
	{ "net", "tap[,BRIDGE]", "a TAP of the host; br=BRIDGE bridge=BRIDGE: put on that bridge" },
	{ "net", "tap,ifname=NAME",
	  "this TAP, made if it does not exist; with fd=N or fds=N:N one that is open already" },
	{ "net", "tap,script=FILE downscript=FILE",
	  "a program that sets it up, and one for the end; no: none" },
	{ "net", "tap,helper=FILE", "a helper with the rights to open it, as qemu-bridge-helper" },
	{ "net", "tap,queues=N", "pairs of queues for virtio-net" },
	{ "net", "tap,sndbuf=BYTES", "how much may wait in the host" },
	{ "net", "tap,vhost=off", "there is no other" },
	{ "net", "bridge[,br=BRIDGE]", "the same as tap,BRIDGE; br0" },
	{ "net", "user,hostfwd=tcp|udp:[HOST]:PORT-[GUEST]:PORT",
	  "NAT without any rights; a port of the host leads into the guest" },
	{ "net", "user,guestfwd=tcp:ADDR:PORT-cmd:COMMAND",
	  "the guest's connections to ADDR go to a program (-unix:PATH: a socket)" },
	{ "net", "user,net=ADDR/BITS host=ADDR dns=ADDR dhcpstart=ADDR",
	  "the guest's network and who is who on it; 10.0.2.0/24" },
	{ "net", "user,ipv4=on|off ipv6=on|off ipv6-net=ADDR/BITS ipv6-host=ADDR ipv6-dns=ADDR",
	  "the same for IPv6; fec0::/64" },
	{ "net", "user,restrict=on", "nothing but hostfwd and guestfwd" },
	{ "net", "user,hostname=NAME domainname=NAME dnssearch=NAME", "what DHCP says" },
	{ "net", "user,tftp=DIR bootfile=FILE tftp-server-name=NAME", "files for a network boot" },
	{ "net", "socket,listen=ADDR connect=ADDR",
	  "frames to another VM: [HOST]:PORT or unix:PATH" },
	{ "net", "socket,mcast=ADDR:PORT udp=HOST:PORT localaddr=ADDR fd=N", "or by datagrams" },
	{ "net", "vlan=N", "cards and networks of one number are connected" },
};

static bool is(const struct prop *p, const char *option)
{
	return !strcmp(p->option, option);
}

/* Options that take what another takes. */
static const struct { const char *name, *as; } same[] = { { "machine", "M" }, { "netdev", "net" } };

bool options_props_help(const char *option)
{
	bool any = false;

	for (size_t i = 0; i < ARRAY_SIZE(same); i++)
		if (!strcmp(option, same[i].name))
			option = same[i].as;
	for (size_t i = 0; i < ARRAY_SIZE(props); i++) {
		if (!is(&props[i], option))
			continue;
		printf("  %s\n      %s\n", props[i].name, props[i].help);
		any = true;
	}
	return any;
}

void options_props_man(const char *option)
{
	bool any = false;

	for (size_t i = 0; i < ARRAY_SIZE(props); i++) {
		if (!is(&props[i], option))
			continue;
		if (!any)
			printf(".RS\n");
		any = true;
		printf(".TP\n.B ");
		for (const char *c = props[i].name; *c; c++)
			printf(*c == '-' ? "\\-" : "%c", *c);
		printf("\n%s.\n", props[i].help);
	}
	if (any)
		printf(".RE\n");
}
