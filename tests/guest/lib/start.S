/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * start.S: from the multiboot loader to main(), and the entries of the interrupt table. 32-bit
 * protected mode.
 */
#include "multiboot.h"

	MULTIBOOT_HEADER
	.text
	.code32
	.globl	_start, vector_entries, load_tables, multiboot_info
_start:
	movl	$stack_top, %esp
	movl	%ebx, multiboot_info
	call	load_tables
	call	main
	pushl	%eax
	call	finish

load_tables:
	lgdt	gdt_pointer
	ljmp	$8, $1f
1:	movw	$16, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movw	%ax, %fs
	movw	%ax, %gs
	lidt	idt_pointer
	ret

/* 64 entries of 16 bytes: each tells vector_common its number. */
	.balign	16
vector_entries:
	vector = 0
	.rept	64
	.balign	16
	pushl	$vector
	jmp	vector_common
	vector = vector + 1
	.endr

vector_common:
	pushal
	pushl	32(%esp)
	call	vector_called
	addl	$4, %esp
	popal
	addl	$4, %esp
	/* iret in three steps, for hosts whose KVM interprets ring 0: see lesson 04. */
	pushl	8(%esp)
	popfl
	lret	$4

	.data
	.balign	8
gdt:	.quad	0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
	.word	. - gdt - 1
	.long	gdt
idt_pointer:
	.word	64 * 8 - 1
	.long	idt
multiboot_info: .long 0
	.bss
	.balign	16
	.skip	16384
stack_top:
