/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cmos.S: a firmware that says what is in the 128 bytes of CMOS, as the machine leaves it at
 * power-on, to port 0x402, and ends. suite-cmos compares it with a PC that nobody here wrote.
 */
	.code16
	.globl	_start
_start:
	xorw	%cx, %cx
next:
	movb	%cl, %al
	outb	%al, $0x70
	inb	$0x71, %al
	movw	$0x402, %dx
	outb	%al, %dx
	incw	%cx
	cmpw	$128, %cx
	jb	next
	movw	$0xf4, %dx		/* isa-debug-exit */
	movb	$0x10, %al
	outb	%al, %dx
1:	hlt
	jmp	1b

	.org	0xfff0
	jmp	_start
	.org	0xffff
	.byte	0
