/* SPDX-License-Identifier: GPL-2.0-or-later */
/* asm.h: what the assembler lessons share: printing and ending, in 32- and 64-bit mode. */
#include "multiboot.h"

#define COM1		0x3f8
#define DEBUG_EXIT	0xf4

	.macro	END value		/* status (value << 1) | 1 */
	movb	$\value, %al
	movw	$DEBUG_EXIT, %dx
	outb	%al, %dx
9999:	hlt
	jmp	9999b
	.endm

	.macro	PRINT text		/* uses eax, edx, esi */
	movl	$\text, %esi
	call	print
	.endm

	/* print: the string at esi. The same bytes mean the same in 32- and 64-bit mode. */
	.macro	PRINT_BODY
print:	movw	$COM1, %dx
9990:	lodsb
	testb	%al, %al
	jz	9991f
	outb	%al, %dx
	jmp	9990b
9991:	ret
	.endm
