/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sleep.c: suspend to RAM and back without an operating system: the waking vector goes into the
 * FACS, the RTC's alarm is set to each second, SLP_EN puts the machine to sleep. It wakes in real
 * mode at the vector, with memory as it was.
 */
#include "acpi.h"

#define VECTOR 0x2010			/* not the start of a paragraph's page: CS 0x201, IP 0 */
#define MARK 0x3000
#define RTC_INDEX 0x70
#define RTC_DATA 0x71
#define RTC_ANY 0xc0			/* an alarm byte that always matches */
#define RTC_B 11
#define RTC_C 12
#define RTC_ALARM_ON 0x20
#define RTC_EN 0x400			/* PM1 enable: the RTC's alarm */
#define SLEEP_S3 (1 << 10 | 1 << 13)	/* type 1, as the DSDT's _S3 says; SLP_EN */

extern char wake[], wake_end[];
__asm__(".section .rodata\n"
	"	.code16\n"
	"wake:	mov	%cs, %ax\n"
	"	cmp	$0x201, %ax\n"
	"	jne	1f\n"
	"	xor	%ax, %ax\n"
	"	mov	%ax, %ds\n"
	"	movb	0x3000, %al\n"
	"1:	mov	$0xf4, %dx\n"
	"	outb	%al, %dx\n"
	"2:	hlt\n"
	"	jmp	2b\n"
	"wake_end:\n"
	"	.code32\n"
	"	.text\n");

static uint8_t rtc(uint8_t reg)
{
	outb(RTC_INDEX, reg);
	return inb(RTC_DATA);
}

static void rtc_write(uint8_t reg, uint8_t v)
{
	outb(RTC_INDEX, reg);
	outb(RTC_DATA, v);
}

int main(void)
{
	uint32_t fadt = acpi_find("FACP"), facs = MMIO32(fadt + FADT_FIRMWARE_CTRL);

	CHECK(MMIO32(facs) == 0x53434146);		/* "FACS" */
	MMIO32(facs + FACS_WAKING_VECTOR) = VECTOR;
	for (char *p = wake; p < wake_end; p++)
		MMIO8(VECTOR + (p - wake)) = (uint8_t)*p;
	MMIO8(MARK) = 0x2a;
	for (uint8_t reg = 1; reg <= 5; reg += 2)
		rtc_write(reg, RTC_ANY);
	rtc(RTC_C);
	rtc_write(RTC_B, rtc(RTC_B) | RTC_ALARM_ON);
	outw((uint16_t)(MMIO32(fadt + FADT_PM1A_EVT) + 2), RTC_EN);
	print("good night\n");
	outw((uint16_t)MMIO32(fadt + FADT_PM1A_CNT), SLEEP_S3);
	/* a few instructions more may run (in QEMU): they change nothing */
	for (;;)
		__asm__ volatile("cli; hlt");
}
