/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lesson 01: real mode and a port. This is a whole firmware: 64 KiB that end at 4 GiB, where an x86
 * CPU starts.
 */
	.code16
	.globl	_start
_start:
	cld
	movw	$text, %si
	movw	$0x3f8, %dx		/* THR, the transmit register of the first serial port */
next:
	movb	%cs:(%si), %al		/* CS still has the base of the reset, 0xffff0000 */
	incw	%si
	testb	%al, %al
	jz	done
	outb	%al, %dx		/* one exit from the guest for each letter */
	jmp	next
done:
	movw	$0xf4, %dx		/* isa-debug-exit: the VMM ends with (value << 1) | 1 */
	movb	$0x10, %al
	outb	%al, %dx
1:	hlt
	jmp	1b

text:	.asciz	"01: hello from real mode\n"

	.org	0xfff0			/* linear 0xfffffff0: the first instruction after reset */
	jmp	_start
	.org	0xffff
	.byte	0
