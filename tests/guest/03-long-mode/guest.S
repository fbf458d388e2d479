/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lesson 03: long mode and page tables. Started by the multiboot loader in 32-bit protected mode
 * without paging.
 */
#include "asm.h"

#define PTE_P		0x01
#define PTE_W		0x02
#define PTE_A		0x20
#define PTE_D		0x40
#define PTE_PS		0x80
#define CR0_PG		0x80000000
#define CR4_PAE		0x20
#define MSR_EFER	0xc0000080
#define EFER_LME	0x100
#define ALIAS		0xffff800000000000	/* a second name for the first 2 MiB */

	MULTIBOOT_HEADER
	.text
	.code32
	.globl	_start
_start:
	cli
	/*
	 * Level 4: entry 0 and entry 256 (addresses from 0xffff800000000000) lead to the same
	 * table.
	 */
	movl	$(pdpt + PTE_P + PTE_W), pml4
	movl	$(pdpt + PTE_P + PTE_W), pml4 + 256 * 8
	movl	$(pd + PTE_P + PTE_W), pdpt
	/* Level 2: one entry maps 2 MiB at once. */
	movl	$(0x000000 + PTE_P + PTE_W + PTE_PS), pd
	movl	$(0x200000 + PTE_P + PTE_W + PTE_PS), pd + 8

	movl	$pml4, %eax
	movl	%eax, %cr3
	movl	%cr4, %eax
	orl	$CR4_PAE, %eax
	movl	%eax, %cr4
	movl	$MSR_EFER, %ecx
	rdmsr
	orl	$EFER_LME, %eax
	wrmsr
	movl	%cr0, %eax
	orl	$CR0_PG, %eax
	movl	%eax, %cr0		/* paging on: long mode is active, in its 32-bit submode */
	lgdt	gdt_pointer
	ljmp	$8, $long_mode

	.code64
long_mode:
	xorl	%eax, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	$stack_top, %esp

	/* Written through one address, read through the other. */
	movabsq	$0x1122334455667788, %rax
	movq	%rax, word
	movabsq	$(ALIAS + word), %rbx
	cmpq	%rax, (%rbx)
	jne	bad
	incq	(%rbx)
	cmpb	$0x89, word
	jne	bad

	/*
	 * The CPU has marked what it touched: the page at 0 as accessed and dirty, the page at 2
	 * MiB as neither.
	 */
	movq	pd, %rax
	andl	$(PTE_A | PTE_D), %eax
	cmpl	$(PTE_A | PTE_D), %eax
	jne	bad_bits
	testq	$(PTE_A | PTE_D), pd + 8
	jnz	bad_bits
	/* A read sets A alone. */
	movl	0x200000, %ecx
	movq	pd + 8, %rax
	andl	$(PTE_A | PTE_D), %eax
	cmpl	$PTE_A, %eax
	jne	bad_bits

	PRINT	text
	END	0x12
bad:
	PRINT	wrong
	END	0x3f
bad_bits:
	PRINT	wrong_bits
	END	0x3e
	PRINT_BODY

text:	.asciz	"03: 64 bits; two addresses, one page; accessed and dirty bits are right\n"
wrong:	.asciz	"03: the two addresses do not show the same memory\n"
wrong_bits: .asciz "03: wrong accessed or dirty bits\n"

	.balign	8
gdt:	.quad	0
	.quad	0x00af9b000000ffff	/* code, 64 bits */
gdt_pointer:
	.word	. - gdt - 1
	.long	gdt

	.data
	.balign	8
word:	.quad	0
	.bss
	.balign	4096
pml4:	.skip	4096
pdpt:	.skip	4096
pd:	.skip	4096
	.skip	4096
stack_top:
