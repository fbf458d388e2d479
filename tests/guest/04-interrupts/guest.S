/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lesson 04: interrupts, in 32-bit protected mode. The timer chip (8254) ticks through the
 * interrupt controller (8259), then the CPU's own local APIC sends itself an interrupt. Names:
 * Intel 8259A and 8254 data sheets, SDM volume 3, chapter 11.
 */
#include "asm.h"

#define PIC1_CMD	0x20
#define PIC1_DATA	0x21
#define PIC2_CMD	0xa0
#define PIC2_DATA	0xa1
#define PIT_CH0		0x40
#define PIT_CMD		0x43
#define TIMER_VECTOR	0x20
#define IPI_VECTOR	0x40
#define LAPIC		0xfee00000
#define LAPIC_EOI	(LAPIC + 0xb0)
#define LAPIC_SVR	(LAPIC + 0xf0)
#define LAPIC_ICR_LOW	(LAPIC + 0x300)
#define ICR_SELF	0x40000
#define TICKS		5

	.macro	OUT port, value
	movb	$\value, %al
	outb	%al, $\port
	.endm
	/*
	 * What iret does when the privilege stays: flags, then EIP and CS, and the flags' place
	 * dropped. Written out since a host whose KVM interprets ring 0 (PVM) has no iret in
	 * protected mode.
	 */
	.macro	RETURN_FROM_INTERRUPT
	pushl	8(%esp)
	popfl
	lret	$4
	.endm
	.macro	GATE vector, handler	/* a 32-bit interrupt gate in the IDT */
	movl	$\handler, %eax
	movw	%ax, idt + \vector * 8
	movw	$8, idt + \vector * 8 + 2
	movw	$0x8e00, idt + \vector * 8 + 4
	shrl	$16, %eax
	movw	%ax, idt + \vector * 8 + 6
	.endm

	MULTIBOOT_HEADER
	.text
	.code32
	.globl	_start
_start:
	cli
	movl	$stack_top, %esp
	lgdt	gdt_pointer
	ljmp	$8, $1f
1:	movw	$16, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	GATE	TIMER_VECTOR, timer
	GATE	IPI_VECTOR, ipi
	lidt	idt_pointer

	/* The 8259 pair: IRQ 0-15 become vectors 0x20-0x2f; all masked but the timer. */
	OUT	PIC1_CMD, 0x11
	OUT	PIC2_CMD, 0x11
	OUT	PIC1_DATA, TIMER_VECTOR
	OUT	PIC2_DATA, TIMER_VECTOR + 8
	OUT	PIC1_DATA, 0x04
	OUT	PIC2_DATA, 0x02
	OUT	PIC1_DATA, 0x01
	OUT	PIC2_DATA, 0x01
	OUT	PIC1_DATA, 0xfe
	OUT	PIC2_DATA, 0xff
	/* The 8254: channel 0, mode 2, 1193182 Hz / 11932 = 100 ticks a second. */
	OUT	PIT_CMD, 0x34
	OUT	PIT_CH0, (11932 & 0xff)
	OUT	PIT_CH0, (11932 >> 8)
2:	sti
	hlt				/* sleeps in the host's kernel until the interrupt */
	cli
	cmpl	$TICKS, ticks
	jb	2b
	OUT	PIC1_DATA, 0xff
	PRINT	text_timer

	/* The local APIC: on, and an interrupt to ourselves. */
	movl	$0x1ff, LAPIC_SVR
	movl	$(ICR_SELF | IPI_VECTOR), LAPIC_ICR_LOW
	sti
	movl	$10000000, %ecx
3:	cmpl	$1, ipis
	je	4f
	pause
	loop	3b
	PRINT	text_lost
	END	0x3f
4:	PRINT	text_ipi
	END	0x13

timer:	pushl	%eax
	incl	ticks
	OUT	PIC1_CMD, 0x20		/* end of interrupt */
	popl	%eax
	RETURN_FROM_INTERRUPT
ipi:	incl	ipis
	movl	$0, LAPIC_EOI
	RETURN_FROM_INTERRUPT
	PRINT_BODY

text_timer: .asciz "04: the timer ticked five times\n"
text_ipi: .asciz "04: the local APIC interrupted its own CPU\n"
text_lost: .asciz "04: the interrupt to ourselves did not come\n"
	.balign	8
gdt:	.quad	0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
	.word	. - gdt - 1
	.long	gdt
idt_pointer:
	.word	256 * 8 - 1
	.long	idt
	.bss
	.balign	16
idt:	.skip	256 * 8
ticks:	.skip	4
ipis:	.skip	4
	.skip	4096
stack_top:
