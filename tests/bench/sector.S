/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sector.S: a boot sector that ends the machine: all that ran before it is firmware. */
	.code16
	.globl	_start
_start:	movb	$0x10, %al
	outb	%al, $0xf4
1:	hlt
	jmp	1b
	.org	510
	.byte	0x55, 0xaa
