/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * options_props.c: what may stand after the comma, for "-drive help" and the man page: from the
 * tables that parse it, and for what net/ and config_chardev.c parse from one here;
 * tests/guest/suite-doctor holds these together.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/config/options.h"

static const struct words_of {
	const char *option;		/* those of one option follow each other */
	const char *name, *help;
} props[] = {
	{ "M", "pc",
	  "i440FX PC: BIOS, PCI, IDE, everything (default; pc-1 is its present version)" },
	{ "M", "micro", "no PCI and no firmware, virtio-mmio only: the fastest boot (micro-1)" },

	{ "chardev", "file,path=FILE,append=on|off,size=BYTES",
	  "what comes is written there; emptied at start, or not; at that size it becomes FILE.1 "
	  "and begins anew" },
	{ "chardev", "socket,path=FILE|host=H,port=N,server=on|off,wait=on|off",
	  "a unix or TCP socket" },
	{ "chardev", "stdio,mux=on|off",
	  "the terminal; mux: with the monitor and its Ctrl-A keys" },
	{ "chardev", "null, pty, serial,path=/dev/ttyS0",
	  "nothing, a pseudo terminal, a port of the host" },
	{ "chardev", "logfile=FILE,logappend=on|off,logsize=BYTES",
	  "a copy of all output, of any kind" },

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
	{ "net", "user,loopback=on|PORT[:PORT]",
	  "what of this host's loopback (services on 127.0.0.1) the guest reaches at 10.0.2.2; "
	  "left "
	  "out: nothing. This machine's own control ports stay closed always" },
	{ "net", "user,restrict=on", "nothing but hostfwd and guestfwd" },
	{ "net", "user,hostname=NAME domainname=NAME dnssearch=NAME", "what DHCP says" },
	{ "net", "user,tftp=DIR bootfile=FILE tftp-server-name=NAME", "files for a network boot" },
	{ "net", "socket,listen=ADDR connect=ADDR",
	  "frames to another VM: [HOST]:PORT or unix:PATH" },
	{ "net", "socket,mcast=ADDR:PORT udp=HOST:PORT localaddr=ADDR fd=N", "or by datagrams" },
	{ "net", "vlan=N", "cards and networks of one number are connected" },
};

static bool is(const struct words_of *p, const char *option)
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

static void man_row(const char *name, const char *help)
{
	printf(".TP\n.B ");
	for (const char *c = name; *c; c++)
		printf(*c == '-' ? "\\-" : "%c", *c);
	printf("\n%s.\n", help);
}

bool options_props_man(const char *option)
{
	bool any = false;

	for (size_t i = 0; i < ARRAY_SIZE(props); i++) {
		if (!is(&props[i], option))
			continue;
		if (!any)
			printf(".RS\n");
		any = true;
		man_row(props[i].name, props[i].help);
	}
	if (any)
		printf(".RE\n");
	return any;
}

void options_table_help(const struct prop *p, bool man)
{
	if (man)
		printf(".RS\n");
	for (; p->name; p++) {
		char *usage = prop_usage(p);
		char *help = p->alias ? xasprintf("%s (also %s=)", p->help, p->alias)
				      : xstrdup(p->help);

		if (man)
			man_row(usage, help);
		else
			printf("  %s\n      %s\n", usage, help);
		free(usage);
		free(help);
	}
	if (man)
		printf(".RE\n");
}
