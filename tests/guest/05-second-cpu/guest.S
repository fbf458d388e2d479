/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lesson 05: a second CPU (and all others). INIT and STARTUP messages through the local APIC start
 * the application processors in real mode at a page we choose (SDM volume 3, chapter 9.4). Each
 * counts itself and halts.
 */
#include "asm.h"

#define LAPIC_SVR	0xfee000f0
#define LAPIC_ICR_LOW	0xfee00300
#define ICR_PENDING	0x1000
#define ALL_BUT_SELF	0xc0000
#define INIT		0x4500
#define STARTUP		0x4600
#define TRAMPOLINE	0x8000		/* STARTUP's vector is its page number */
#define COUNT		0x7ff0		/* 32 bits */
#define FW_CFG_SEL	0x510
#define FW_CFG_DATA	0x511
#define FW_CFG_NB_CPUS	5

	MULTIBOOT_HEADER
	.text
	.code32
	.globl	_start
_start:
	cli
	movl	$stack_top, %esp
	/* How many CPUs should there be? Firmware asks the same way. */
	movw	$FW_CFG_SEL, %dx
	movw	$FW_CFG_NB_CPUS, %ax
	outw	%ax, %dx
	incw	%dx
	xorl	%eax, %eax
	inb	%dx, %al
	movl	%eax, wanted

	movl	$trampoline, %esi
	movl	$TRAMPOLINE, %edi
	movl	$(trampoline_end - trampoline), %ecx
	rep movsb
	movl	$1, COUNT
	movl	$0x1ff, LAPIC_SVR
	movl	$(ALL_BUT_SELF | INIT), LAPIC_ICR_LOW
	call	sent
	movl	$(ALL_BUT_SELF | STARTUP | (TRAMPOLINE >> 12)), LAPIC_ICR_LOW
	call	sent

	movl	$200000000, %ecx
	movl	wanted, %ebx
1:	cmpl	%ebx, COUNT
	jae	2f
	pause
	decl	%ecx
	jnz	1b
	PRINT	text_few
	END	0x3f
2:	ja	3f
	movl	%ebx, %eax		/* two decimal digits */
	movb	$10, %cl
	divb	%cl
	addw	$0x3030, %ax
	movw	%ax, number
	PRINT	text
	END	0x14
3:	PRINT	text_many
	END	0x3e

sent:	testl	$ICR_PENDING, LAPIC_ICR_LOW
	jnz	sent
	ret
	PRINT_BODY

	.code16
trampoline:				/* CS is 0x0800 here, the other segments 0 */
	lock incl COUNT
4:	cli
	hlt
	jmp	4b
trampoline_end:

text_few: .asciz "05: some CPUs did not start\n"
text_many: .asciz "05: more CPUs started than the machine has\n"
	.data
text:	.ascii	"05: "
number:	.asciz	"00 CPUs count themselves\n"
wanted:	.long	0
	.bss
	.balign	16
	.skip	4096
stack_top:
