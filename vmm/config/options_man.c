/* SPDX-License-Identifier: GPL-2.0-or-later */
/* options_man.c: what the man page says around the option table; `minivmm -man` prints the whole. */
#include <stdio.h>

#include "vmm/config/options.h"

void options_man_head(void)
{
	printf(".TH MINIVMM 1 \"\" \"minivmm %s\" \"User Commands\"\n"
	       ".SH NAME\nminivmm \\- run a virtual machine with KVM\n"
	       ".SH SYNOPSIS\n.B minivmm\n[\\fIoptions\\fR] [\\fIdisk image\\fR]\n"
	       ".SH DESCRIPTION\n"
	       "minivmm opens /dev/kvm, makes one virtual machine and runs it until the guest powers off. Its options are those\n"
	       "of kvm(1). A disk image given without an option is the first IDE disk.\n"
	       ".PP\nWhen the serial port is on the terminal, Ctrl\\-A is the escape key: Ctrl\\-A X ends the machine,\n"
	       "Ctrl\\-A H lists the keys, Ctrl\\-A Ctrl\\-A sends Ctrl\\-A.\n"
	       ".SH OPTIONS\n", MINIVMM_VERSION);
}

void options_man_tail(void)
{
	printf(".SH SIGNALS\n"
	       "SIGINT and SIGTERM press the power button; a second one, or ten seconds without effect, ends the machine at once.\n"
	       "SIGHUP opens the log file again.\n"
	       ".SH EXIT STATUS\n"
	       ".TP\n.B 0\nThe guest powered off, or was ended from the console or the control socket.\n"
	       ".TP\n.B 124\n\\-timeout: so long and no longer.\n"
	       ".TP\n.B 125\nA bad option, a missing file, a host that cannot run guests: said on standard error.\n"
	       ".TP\n.B 240\nThe guest panicked (with \\-device pvpanic and \\-no\\-reboot).\n"
	       ".TP\n.B 242\nTriple fault (with \\-no\\-reboot).\n"
	       ".TP\n.B 244\nKVM cannot go on.\n"
	       ".TP\n.B 246\n\\-idle\\-timeout: the guest has asked no device for anything for so long.\n"
	       ".TP\n.B odd\nThe guest wrote v to isa\\-debug\\-exit: v * 2 + 1.\n"
	       ".PP\nWith 124, 240, 242, 244 and 246 the processors' registers are on standard error. The table is that of\n"
	       ".BR minivmm\\-ci (1).\n"
	       ".SH EXAMPLES\n"
	       ".nf\n"
	       "minivmm \\-m 512 \\-drive disk.qcow2 \\-net tap,br0\n"
	       "minivmm \\-M micro \\-m 256 \\-kernel bzImage \\-initrd initrd.gz \\-append \"console=ttyS0\"\n"
	       "minivmm \\-m 1G \\-smp 2 \\-drive file=disk.qcow2,snapshot=on \\-net user,hostfwd=tcp::2222\\-:22\n"
	       ".fi\n"
	       ".SH FROM IDE TO VIRTIO\n"
	       "A guest that was installed on an IDE disk (\\-hda) starts from a virtio disk once it has the driver and starts it at\n"
	       "boot. Windows loads at boot only what it has met before, so it is shown a virtio disk first, beside its own:\n"
	       ".IP 1. 4\nMake a small second disk, and have a CD of the drivers (virtio\\-win.iso):\n"
	       ".br\nminivmm\\-img create \\-f qcow2 temp.qcow2 64M\n"
	       ".IP 2. 4\nStart with both, and with a virtio network card if that is to change, too:\n"
	       ".br\nminivmm \\-m 1024 \\-hda windows.qcow2 \\-drive temp.qcow2 \\-cdrom virtio\\-win.iso \\-net nic,model=virtio \\-net user\n"
	       ".IP 3. 4\nWindows finds new hardware; give it the drivers from the CD (viostor for the disk, NetKVM for the card). When\n"
	       "the device manager shows the small disk without a complaint, the driver is one that boots. Shut down.\n"
	       ".IP 4. 4\nStart from now on with the disk as virtio, and delete temp.qcow2:\n"
	       ".br\nminivmm \\-m 1024 \\-drive windows.qcow2 \\-net nic,model=virtio \\-net user\n"
	       ".PP\nThe devices are transitional: the drivers of 2011 (for Windows XP and 2003) find them as well as today's. A blue screen\n"
	       "0x7B at step 4 means that step 3 was left out; \\-hda starts the guest as before, nothing is lost. Linux needs\n"
	       "virtio_blk and virtio_pci in its initial RAM disk (Debian: MODULES=most, the default) and file systems named by UUID or\n"
	       "label rather than /dev/sda1 in /etc/fstab and the boot loader; no second disk.\n"
	       ".PP\nWindows is quicker with \\-cpu host,hv_relaxed,hv_time,hv_vapic where the host's KVM offers that, and wants its clock\n"
	       "in local time: \\-rtc base=localtime.\n"
	       ".SH COPIES OF A MACHINE\n"
	       "A file that \"migrate file:F\" has written can be started many times at once (\\-loadvm F, with \\-snapshot or an overlay for each\n"
	       "copy's disks): its memory is mapped, and each copy keeps what it writes. With \\-device vmgenid each has a generation id of its\n"
	       "own, and the guest is told. Each also has another network address, unless mac= says which; the guest goes on with the saved\n"
	       "one until it resets the card (Linux: the driver's unbind and bind), so until then copies belong on networks of their own,\n"
	       "as \\-net user gives each.\n"
	       ".SH FILES\n"
	       ".TP\n.I /dev/kvm\nThe kernel's virtual machines; minivmm\\-doctor says what to do when it is missing or may not be used.\n"
	       ".TP\n.I /dev/net/tun\n\\-net tap.\n"
	       ".TP\n.I /usr/share/seabios\nThe BIOS and the video BIOS (package seabios).\n"
	       ".TP\n.I /usr/share/OVMF\nUEFI firmware for \\-drive if=pflash (package ovmf).\n"
	       ".TP\n.I /usr/lib/ipxe/qemu\nBoot ROMs of network cards (package ipxe\\-qemu).\n"
	       ".SH SEE ALSO\n.BR minivmm\\-doctor (1),\n.BR minivmm\\-img (1),\n.BR minivmm\\-ci (1)\n");
}
