/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ends.c: ends the machine in the way that the command line names. */
#include "guest.h"

extern struct {
	uint32_t flags, mem_lower, mem_upper, boot_device;
	const char *cmdline;
} * multiboot_info;

static bool word(const char *name)
{
	size_t len = 0;

	while (name[len])
		len++;
	for (const char *p = multiboot_info->cmdline; *p; p++)
		if (!memcmp(p, name, len))
			return true;
	return false;
}

int main(void)
{
	CHECK(multiboot_info->flags & 4);
	print("command line: %s\n", multiboot_info->cmdline);
	if (word("exit0"))
		finish(0);
	if (word("exit127"))
		finish(127);
	if (word("default-port"))
		outb(0x501, 5);
	if (word("poweroff"))
		outw(0x604, 0x2000);		/* PM1a control: SLP_EN, S5 */
	if (word("triple")) {
		static const struct __attribute__((packed)) { uint16_t limit; uint32_t base; } none;

		__asm__ volatile("lidt %0; ud2" : : "m"(none));
	}
	/* PVM's interpreter of ring 0 lacks it: see test.sh */
	if (word("int3"))
		__asm__ volatile("int3");
	if (word("reset"))
		outb(0x64, 0xfe);
	if (word("hang"))
		__asm__ volatile("cli; hlt");
	while (word("chatter"))
		outb(0x80, 0);
	for (volatile unsigned i = 0; i < 1000000000; i++)
		;
	fail("still there");
}
