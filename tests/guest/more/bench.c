/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bench.c: everything the test kernels in the manner of kvm-unit-tests expect of their machine:
 * where the loader puts what, the firmware configuration's numbers, and the test devices. What is
 * expected comes from the Multiboot Specification, the PC's data sheets and QEMU's docs/specs;
 * test.sh also runs it under QEMU, where there is one, and both must say the same.
 */
#include "acpi.h"
#include "pci.h"

#define FW_CFG_SELECT 0x510
#define FW_CFG_DATA 0x511
#define LATCH 0xe0
#define FORGET_PAGE 0xe4
#define LATCH_BYTES 0xe8
#define LINES 0x2000
#define BUFFER 0xff000000
#define IOAPIC 0xfec00000
#define LAPIC_ID 0xfee00020

extern struct info {
	uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4],
		mmap_length, mmap_addr, drives[2], config_table, loader;
} *multiboot_info;
extern char image_start[], image_end[];

static bool outside_image(uint32_t at, uint32_t len)
{
	return at + len <= (uint32_t)(uintptr_t)image_start || at >= (uint32_t)(uintptr_t)image_end;
}

/*
 * Multiboot Specification 3.3; a kernel starts its other CPUs from page 0, so that nothing of use
 * may lie there.
 */
static void loader(void)
{
	struct info *i = multiboot_info;
	struct { uint32_t start, end, cmdline, reserved; } *mod = (void *)(uintptr_t)i->mods_addr;
	const char *line = (const char *)(uintptr_t)i->cmdline, *word = line;
	uint64_t top = 0;

	/* memory, command line, modules, memory map */
	CHECK((i->flags & 0x4d) == 0x4d);
	CHECK((uint32_t)(uintptr_t)i >= 4096 && outside_image((uint32_t)(uintptr_t)i, sizeof(*i)));
	CHECK(i->cmdline >= 4096 && outside_image(i->cmdline, 1));
	while (*word && *word != ' ')
		word++;
	/* the first word is the kernel's own path */
	CHECK(word - line > 4 && !memcmp(word - 4, ".bin", 4));
	print("arguments:%s\n", word);
	CHECK(i->mem_lower >= 600 && i->mem_lower <= 640);
	/* of 64 MiB, without the first and what firmware kept */
	CHECK(i->mem_upper / 1024 == 62 || i->mem_upper / 1024 == 63);
	for (uint32_t at = i->mmap_addr; at < i->mmap_addr + i->mmap_length; at += MMIO32(at) + 4)
		if (MMIO32(at + 20) == 1 && MMIO32(at + 4) == 0x100000)
			top = MMIO32(at + 4) + MMIO32(at + 12);
	CHECK(top >> 20 >= 63 && top <= 64 << 20);
	CHECK(i->mods_count == 2);
	CHECK(mod->start % 4096 == 0 && outside_image(mod->start, mod->end - mod->start));
	for (unsigned n = 0; n < 2; n++, mod++) {
		print("module of %u bytes: ", mod->end - mod->start);
		for (uint32_t at = mod->start; at < mod->end; at++)
			print("%c", MMIO8(at));
		for (line = (const char *)(uintptr_t)mod->cmdline; *line && *line != ' '; line++)
			;
		print("module's arguments:%s\n", line);
	}
}

static uint32_t fw_cfg(uint16_t key)
{
	uint32_t v = 0;

	outw(FW_CFG_SELECT, key);
	for (unsigned i = 0; i < 4; i++)
		v |= (uint32_t)inb(FW_CFG_DATA) << 8 * i;
	return v;
}

static void numbers(void)
{
	CHECK(fw_cfg(0) == 0x554d4551);			/* "QEMU" */
	print("RAM %x, %u processors, at most %u\n", fw_cfg(3), fw_cfg(5) & 0xffff,
	      fw_cfg(15) & 0xffff);
}

static void latch(void)
{
	outl(LATCH, 0x04030201);
	CHECK(inl(LATCH) == 0x04030201 && inw(LATCH) == 0x0201 && inw(LATCH + 2) == 0x0403);
	CHECK(inb(LATCH) == 1 && inb(LATCH + 1) == 2 && inb(LATCH + 2) == 3 && inb(LATCH + 3) == 4);
	outb(LATCH + 1, 0xaa);
	outw(LATCH + 2, 0xbbcc);
	CHECK(inl(LATCH) == 0xbbccaa01);
	CHECK(inb(LATCH_BYTES + 2) == 0xcc && inw(LATCH_BYTES) == 0xaa01 &&
	      inl(LATCH_BYTES) == 0xbbccaa01);
	outl(LATCH_BYTES, 0x11223344);
	CHECK(inl(LATCH) == 0x11223344);
}

static void buffer(void)
{
	for (unsigned i = 0; i < 8; i++)
		MMIO8(BUFFER + 0xfff0 + i) = (uint8_t)(i + 1);
	CHECK(MMIO32(BUFFER + 0xfff0) == 0x04030201 && MMIO16(BUFFER + 0xfff3) == 0x0504);
	MMIO32(BUFFER + 0x100) = 0x55667788;
	CHECK(MMIO8(BUFFER + 0x101) == 0x77);
	/* A string instruction between device memory and RAM goes through KVM's emulator. */
	{
		static uint8_t copy[8];
		const void *from = (const void *)(uintptr_t)(BUFFER + 0xfff0);
		void *to = copy;
		uint32_t n = 8;

		__asm__ volatile("cld; rep movsb" : "+S"(from), "+D"(to), "+c"(n) : : "memory");
		CHECK(!memcmp(copy, "\1\2\3\4\5\6\7\10", 8));
	}
}

/* The page is forgotten by KVM, not by the guest. */
static void forget(void)
{
	static uint32_t pages[3][1024] __attribute__((aligned(4096)));

	for (unsigned i = 0; i < 1024; i++)
		pages[1][i] = i * 77;
	outl(FORGET_PAGE, (uint32_t)(uintptr_t)pages[1]);
	for (unsigned i = 0; i < 1024; i++)
		CHECK(pages[1][i] == i * 77);
	pages[1][5] = 1;
	outl(FORGET_PAGE, (uint32_t)(uintptr_t)pages[1] + 0x123);
	CHECK(pages[1][5] == 1 && !pages[0][5] && !pages[2][5]);
}

static volatile uint32_t calls, called;

static void ioapic_write(unsigned reg, uint32_t v)
{
	MMIO32(IOAPIC) = reg;
	MMIO32(IOAPIC + 16) = v;
}

static void handler(void)
{
	calls++;
	called = 1;
}

/* Takes the line away as a level-triggered device would: else it would interrupt for ever. */
static void level_handler(void)
{
	outb(LINES + 14, 0);
	handler();
}

static void lines(void)
{
	irq_handler(0x38, handler);
	irq_handler(0x39, level_handler);
	irq_enable();
	ioapic_write(0x10 + 2 * 14 + 1, MMIO32(LAPIC_ID) & 0xff000000);
	ioapic_write(0x10 + 2 * 14, 0x38);		/* pin 14: edge */
	outb(LINES + 14, 1);
	CHECK(irq_wait(&called, 100));
	called = 0;
	outb(LINES + 14, 0);
	outb(LINES + 14, 1);
	CHECK(irq_wait(&called, 100) && calls == 2);
	outb(LINES + 14, 0);
	called = 0;
	ioapic_write(0x10 + 2 * 14, 0x8039);		/* level */
	outb(LINES + 14, 1);
	CHECK(irq_wait(&called, 100) && calls == 3);
	ioapic_write(0x10 + 2 * 14, 0x10000);
	print("%u interrupts\n", calls);
}

/* The header at the start of either BAR; BAR 1 is read through ports. */
static uint8_t header(uint32_t bar, bool memory, unsigned off)
{
	return memory ? MMIO8(bar + off) : inb((uint16_t)(bar + off));
}

static void put(uint32_t bar, bool memory, unsigned off, uint8_t v)
{
	if (memory)
		MMIO8(bar + off) = v;
	else
		outb((uint16_t)(bar + off), v);
}

static void function(void)
{
	int slot = pci_find(0x1b36, 0x0005, 0x0005);

	CHECK(slot >= 0);
	pci_write((unsigned)slot, 0, PCI_COMMAND, 3);
	print("class %x\n", pci_read((unsigned)slot, 0, 8) & 0xffffffff);
	for (unsigned n = 0; n < 2; n++) {
		bool memory = n == 0;
		uint32_t bar = pci_read((unsigned)slot, 0, PCI_BAR(n)) & ~(memory ? 15u : 3u);

		pci_write((unsigned)slot, 0, PCI_BAR(n), 0xffffffff);
		print("BAR %u: mask %x\n", n, pci_read((unsigned)slot, 0, PCI_BAR(n)));
		pci_write((unsigned)slot, 0, PCI_BAR(n), bar | !memory);
		for (uint8_t test = 0;; test++) {
			uint32_t off = 0;
			uint8_t data;
			char c;

			put(bar, memory, 0, test);
			if (header(bar, memory, 1) != 1)
				break;
			for (unsigned i = 0; i < 4; i++)
				off |= (uint32_t)header(bar, memory, 4 + i) << 8 * i;
			data = header(bar, memory, 8);
			CHECK(header(bar, memory, 12) == 0);
			for (unsigned i = 0; (c = (char)header(bar, memory, 16 + i)); i++)
				print("%c", c);
			for (unsigned i = 0; i < 5; i++)
				put(bar, memory, off, data);
			put(bar, memory, off + 1, data);	/* another test's place */
			print(": %x to %x", data, off);
			/* What eventfds counted, QEMU forgets. */
			CHECK(header(bar, memory, 12) == 5 ||
			      (test > 0 && header(bar, memory, 12) == 0));
			print("\n");
		}
		put(bar, memory, 0, 0xff);
	}
}

/*
 * 3.579545 MHz, 24 bits (ACPI 4.8.3.3): 100 ms of the local APIC's are not fewer ticks. A busy host
 * makes them more.
 */
static void timer(void)
{
	uint16_t port = (uint16_t)MMIO32(acpi_find("FACP") + FADT_PM_TMR);
	uint32_t first = inl(port), ticks, never = 0;

	CHECK(!(first >> 24));
	irq_wait(&never, 10);
	ticks = (inl(port) - first) & 0xffffff;
	CHECK(ticks > 300000);
	print("the timer at %x runs\n", port);
}

int main(void)
{
	loader();
	numbers();
	latch();
	buffer();
	forget();
	lines();
	function();
	timer();
	print("the bench is complete\n");
	finish(0x20);
}
