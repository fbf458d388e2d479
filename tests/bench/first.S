/* SPDX-License-Identifier: GPL-2.0-or-later */
/* first.S: a firmware whose first instruction is the last: the debug exit port. */
	.code16
	.globl	_start
	.org	0xfff0
_start:	movb	$0x10, %al
	outb	%al, $0xf4
1:	hlt
	jmp	1b
	.org	0xffff
	.byte	0
