/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * screen.c: what a console does to a VGA card, N times (the number on the command line), then the
 * end: "text N" scrolls 80 x 25 characters by a line, "vbe N" fills 1024 x 768 pixels of 32 bits.
 * The card is programmed here: with -kernel no firmware has. IBM VGA registers of mode 3; Bochs VBE
 * (QEMU docs/specs/standard-vga).
 */
#include "pci.h"

extern struct {
	uint32_t flags, mem_lower, mem_upper, boot_device;
	const char *cmdline;
} * multiboot_info;

static void indexed(uint16_t port, const uint8_t *v, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		outw(port, (uint16_t)(v[i] << 8 | i));
}

static void text_mode(void)
{
	static const uint8_t seq[] = { 3, 0, 3, 0, 2 },
			     gc[] = { 0, 0, 0, 0, 0, 0x10, 0x0e, 0, 0xff };
	static const uint8_t crtc[] = {
		0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0,    0x4f, 0x0d, 0x0e, 0,
		0,    0,    0,	  0x9c, 0x0e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff,
	};

	outb(0x3c2, 0x67);
	indexed(0x3c4, seq, sizeof(seq));
	outw(0x3d4, 0x0e11);		/* the first eight are locked otherwise */
	indexed(0x3d4, crtc, sizeof(crtc));
	indexed(0x3ce, gc, sizeof(gc));
	inb(0x3da);
	outb(0x3c0, 0x10);
	outb(0x3c0, 0x0c);
	outb(0x3c0, 0x20);
}

static void scroll(void)
{
	void *to = (void *)0xb8000, *from = (void *)(0xb8000 + 160);
	unsigned n = 24 * 40;

	__asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
	n = 40;
	__asm__ volatile("rep stosl" : "+D"(to), "+c"(n) : "a"(0x07200720) : "memory");
}

static uint32_t *vbe_mode(void)
{
	static const uint16_t set[][2] = {
		{ 4, 0 }, { 1, 1024 }, { 2, 768 }, { 3, 32 }, { 4, 0x41 }
	};
	int slot = pci_find(0x1234, 0x1111, 0x1111);

	CHECK(slot >= 0);
	pci_write((unsigned)slot, 0, PCI_COMMAND, PCI_COMMAND_ALL);
	for (unsigned i = 0; i < sizeof(set) / sizeof(set[0]); i++) {
		outw(0x1ce, set[i][0]);
		outw(0x1cf, set[i][1]);
	}
	return (uint32_t *)(uintptr_t)(pci_read((unsigned)slot, 0, PCI_BAR(0)) & ~15u);
}

static void fill(uint32_t *frame, uint32_t colour)
{
	unsigned n = 1024 * 768;

	__asm__ volatile("rep stosl" : "+D"(frame), "+c"(n) : "a"(colour) : "memory");
}

int main(void)
{
	const char *p = multiboot_info->cmdline;
	uint32_t *frame = NULL;
	unsigned n = 0;
	bool text;

	while (*p && *p != ' ')		/* the kernel's path */
		p++;
	while (*p == ' ')
		p++;
	text = *p == 't';
	while (*p && *p != ' ')
		p++;
	while (*p == ' ')
		p++;
	for (; *p >= '0' && *p <= '9'; p++)
		n = n * 10 + (unsigned)(*p - '0');
	CHECK(n > 0);
	if (text)
		text_mode();
	else
		frame = vbe_mode();
	for (unsigned i = 0; i < n; i++) {
		if (text)
			scroll();
		else
			fill(frame, i * 0x10101);
	}
	if (!text)
		CHECK(frame[1024 * 768 - 1] == (n - 1) * 0x10101);
	finish(8);
}
