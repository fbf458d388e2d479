/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * multiboot.h: the header by which a loader knows a multiboot 1 kernel (Multiboot Specification
 * 0.6.96, section 3.1).
 */
#define MULTIBOOT_HEADER				\
	.section .multiboot, "a";			\
	.balign	4;					\
	.long	0x1badb002, 0x2, -(0x1badb002 + 0x2)
