/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lesson 02: from real mode to 32-bit protected mode, by hand, from the reset vector.
 */
#define ROM	0xffff0000		/* where this file's first byte lies */
#define CR0_PE	1

	.code16
	.globl	_start
_start:
	cli
	lgdtl	%cs:gdt_pointer
	movl	%cr0, %eax
	orl	$CR0_PE, %eax
	movl	%eax, %cr0		/* protected mode, still running 16-bit code */
	ljmpl	$8, $(ROM + protected)	/* loading CS from the table makes it 32-bit */

	.code32
protected:
	movw	$16, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movl	$0x8000, %esp

	/* Memory above 1 MiB, which real mode cannot reach. */
	movl	$0x200000, %ebx
	movl	$0x12345678, (%ebx)
	cmpl	$0x12345678, (%ebx)
	jne	bad
	/* A byte and a word of it: the order of the bytes is the CPU's, not the VMM's. */
	cmpb	$0x78, (%ebx)
	jne	bad
	cmpw	$0x1234, 2(%ebx)
	jne	bad

	movl	$(ROM + text), %esi
	call	print
	movb	$0x11, %al
	jmp	end
bad:	movl	$(ROM + wrong), %esi
	call	print
	movb	$0x3f, %al
end:	movw	$0xf4, %dx
	outb	%al, %dx
1:	hlt
	jmp	1b

print:	movw	$0x3f8, %dx
2:	lodsb
	testb	%al, %al
	jz	3f
	outb	%al, %dx
	jmp	2b
3:	ret

text:	.asciz	"02: 32 bits, and memory above 1 MiB\n"
wrong:	.asciz	"02: memory does not keep what is written\n"

	.balign	8
gdt:	.quad	0
	.quad	0x00cf9b000000ffff	/* 0x08: code, base 0, 4 GiB, 32 bits */
	.quad	0x00cf93000000ffff	/* 0x10: data, base 0, 4 GiB */
gdt_pointer:
	.word	. - gdt - 1
	.long	ROM + gdt

	.org	0xfff0
	.code16
	jmp	_start
	.org	0xffff
	.byte	0
