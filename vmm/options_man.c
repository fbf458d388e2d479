/* SPDX-License-Identifier: GPL-2.0-or-later */
/* options_man.c: what the man page says around the option table; `minivmm -man` prints the whole. */
#include <stdio.h>

#include "vmm/options.h"

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
	       ".SH SEE ALSO\n.BR minivmm\\-img (1),\n.BR minivmm\\-ci (1)\n");
}
