/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * options_foreign.c: options of kvm(1), qemu-kvm and qemu-system-x86_64 (up to 7.2) that minivmm
 * does not have, each with what to type or what it is without. tests/guest/suite-options walks the
 * list.
 */
#include <string.h>

#include "vmm/config/options_impl.h"

/* What stands after "-NAME: ". */
static const struct { const char *name, *instead; } rows[] = {
	/* the same thing by another name */
	{ "curses", "it is -display curses" },
	{ "sdl", "there is no window; -vnc :1 shows the screen to a VNC viewer" },
	{ "localtime", "it is -rtc base=localtime" },
	{ "startdate", "it is -rtc base=2006-06-17T16:01:21" },
	{ "pflash", "it is -drive if=pflash,format=raw,file=FILE" },
	{ "balloon", "it is -device virtio-balloon" },
	{ "redir", "it is -net user,hostfwd=tcp::2222-:22" },
	{ "tftp", "it is -net user,tftp=DIR" },
	{ "bootp", "it is -net user,bootfile=FILE" },
	{ "hostname", "it is -net user,hostname=NAME" },
	{ "nic", "it is -net nic,model=MODEL and -net user or -net tap,br0" },
	{ "mon", "it is -monitor or -qmp, with unix:PATH,server,nowait" },
	{ "qmp-pretty", "it is -qmp; what reads it formats it" },
	{ "blockdev", "it is -drive file=FILE,format=FORMAT,if=none,id=ID" },
	{ "virtfs", "it is -device virtio-9p,path=DIR,mount_tag=NAME" },
	{ "fsdev", "it is -device virtio-9p,path=DIR,mount_tag=NAME" },
	{ "vga-std", "it is -vga std" },
	{ "chroot", "start it in one; -sandbox split=on is what there is" },
	{ "runas", "start it as that user: it needs /dev/kvm and a TAP made for that user" },
	{ "watchdog", "-idle-timeout SECONDS ends a machine that asks no device for anything" },
	{ "watchdog-action",
	  "-idle-timeout SECONDS ends a machine that asks no device for anything" },
	{ "action", "-no-reboot and -no-shutdown say what follows a reset and a power off" },
	{ "seed", "nothing here is made from a seed" },
	{ "msg", "-D FILE writes the messages, with their time" },
	{ "d", "-trace help lists what can be watched" },
	{ "dfilter", "-trace help lists what can be watched" },
	{ "singlestep", "\"step\" in the monitor goes from exit to exit" },
	{ "L", "firmware is named by -bios FILE" },
	{ "object",
	  "-drive secret-file=FILE gives a passphrase; iothread=on is of -device virtio-blk" },
	{ "readconfig", "options in a file: minivmm $(cat FILE)" },
	{ "writeconfig", "-dump-config prints the machine as a command line" },
	{ "set", "properties are given with -device and -drive" },
	/* done without a word, or always so */
	{ "no-kvm-pit", "KVM's timer chip is always used" },
	{ "no-kvm-irqchip", "KVM's interrupt controllers are always used" },
	{ "no-kvm", "guests run with KVM and nothing else" },
	{ "enable-hax", "guests run with KVM and nothing else" },
	{ "icount", "guests run with KVM and nothing else" },
	{ "tb-size", "guests run with KVM and nothing else" },
	{ "plugin", "guests run with KVM and nothing else" },
	{ "no-user-config", "there is no configuration file" },
	{ "nodefconfig", "there is no configuration file" },
	{ "no-fd-bootchk", "there is no floppy drive" },
	{ "no-quit", "there is no window to close" },
	{ "no-frame", "there is no window" },
	{ "alt-grab", "there is no window that holds the mouse" },
	{ "ctrl-grab", "there is no window that holds the mouse" },
	{ "full-screen", "there is no window; a VNC viewer can be full-screen (-vnc :1)" },
	{ "portrait", "there is no window to turn" },
	{ "rotate", "there is no window to turn" },
	{ "show-cursor", "there is no window" },
	{ "tdf", "lost timer ticks are KVM's business" },
	{ "rtc-td-hack", "lost timer ticks are KVM's business" },
	{ "win2k-hack", "Windows 2000 needs none here" },
	{ "clock", "the host's clock is the only one" },
	{ "only-migratable", "every device can be saved and moved" },
	{ "overcommit", "-mem-prealloc takes the memory at the start" },
	{ "compat", "there are no deprecated interfaces to choose" },
	{ "preconfig", "-S stops before the guest's first instruction" },
	{ "async-teardown", "a machine ends in milliseconds" },
	{ "enable-sync-profile", "there is nothing of the kind; perf(1) sees all locks" },
	{ "dump-vmstate", "-verify FILE checks a saved machine; fdtdump shows its tree" },
	{ "echr", "Ctrl-A is the terminal's key" },
	/* not there */
	{ "fda", "there is no floppy drive; a CD (-cdrom) or a disk boots" },
	{ "fdb", "there is no floppy drive; a CD (-cdrom) or a disk boots" },
	{ "sd", "there is no SD card; -drive file=FILE is a disk" },
	{ "mtdblock", "there is no flash disk; -drive file=FILE is a disk" },
	{ "parallel", "there is no parallel port; -serial is there" },
	{ "audio", "there is no sound card" },
	{ "audiodev", "there is no sound card" },
	{ "audio-help", "there is no sound card" },
	{ "spice", "there is no SPICE server; -vnc :1 is there" },
	{ "tpmdev", "there is no TPM" },
	{ "smb",
	  "there is no SMB server; -device virtio-9p,path=DIR,mount_tag=NAME shares a folder" },
	{ "iscsi", "log in with the host's iSCSI tools; the block device they make is a -drive" },
	{ "numa", "all memory is one node" },
	{ "xen-attach", "it is no device model of Xen" },
	{ "xen-domid", "it is no device model of Xen" },
	{ "xen-domid-restrict", "it is no device model of Xen" },
	{ "smbios", "the tables are made from -name, -uuid, -m and -smp" },
	{ "acpitable", "the ACPI tables are made from the machine" },
	{ "fw_cfg", "files for the firmware cannot be given" },
	{ "dtb", "a PC has no device tree; -M dumpdtb=FILE writes one that describes it" },
	{ "realtime", "-mem-prealloc takes the memory at the start" },
};

const char *option_instead(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (!strcmp(rows[i].name, name))
			return rows[i].instead;
	return NULL;
}
