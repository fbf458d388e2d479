/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * guest.h: the guest's side of a machine without KVM, for tests/device: memory, buses, a PCI bus,
 * and a recorder of interrupts. The test is the only vCPU; guest_run lets the main loop work as the
 * VMM's main thread would.
 */
#ifndef TESTS_LIB_GUEST_H
#define TESTS_LIB_GUEST_H

#include "devices/pci/pci.h"
#include "tests/tap.h"
#include "vmm/machine/device_kinds.h"

#define GUEST_RAM (16 * MiB)
#define GUEST_ROM 0xf0000ull		/* 64 KiB that nobody may write */
#define GUEST_ROM_SIZE 0x10000ull
#define GUEST_HOLE 0x8000000ull		/* nothing here */

struct guest {
	struct loop *loop;
	struct vm_clock *clock;
	struct vm *vm;
	struct mem *mem;
	struct block *ram;
	struct bus *pio, *mmio;
	struct irq_hub *irqs;
	struct pci_bus *pci;
	uint64_t next;			/* guest memory handed out so far */
	unsigned intx_raised;		/* rising edges of INTA#-INTD# of any slot */
	int intx_level;
	unsigned msi[256];		/* messages by data & 0xff */
	unsigned lines[24];		/* rising edges by gsi */
	uint8_t line_level[24];
};

/*
 * A device from its row, as -device has it: props is "iobase=0xf4,iosize=4", "" for none; addr= is
 * needed where it has one. NULL with the reason (err may be NULL).
 */
struct device *guest_make(struct guest *g, const struct device_kind *k, const char *props,
			  struct err *err);
struct guest *guest_new(void);
void guest_free(struct guest *g);
/* Another PCI bus, with this VM behind it or none. */
void guest_pci_new(struct guest *g, struct vm *vm);
/* A zeroed piece of guest memory. */
uint64_t guest_alloc(struct guest *g, uint64_t len, uint64_t align);
/* Forget all pieces (between the rounds of a test). */
void guest_alloc_reset(struct guest *g);
void *guest_ptr(struct guest *g, uint64_t gpa, uint64_t len);
/* One pass of the main loop, at most ms. */
void guest_run(struct guest *g, int ms);
/* Until done(ctx), at most `ms` milliseconds; whether it came true. */
bool guest_run_until(struct guest *g, bool (*done)(void *ctx), void *ctx, int ms);

uint32_t cfg_read(struct guest *g, unsigned devfn, unsigned off, unsigned size);
void cfg_write(struct guest *g, unsigned devfn, unsigned off, unsigned size, uint32_t val);
/* What firmware does: every BAR gets an address and decodes. */
void guest_assign_bars(struct guest *g);
uint64_t bar_addr(struct guest *g, unsigned devfn, int n);
uint64_t in(struct bus *b, uint64_t addr, unsigned size);
void out(struct bus *b, uint64_t addr, unsigned size, uint64_t val);

/* d quiesced (waits), its registers as a blob; and a fresh device of the same kind from it. */
void guest_quiesce(struct guest *g, struct device *d);
void guest_save(struct device *d, void **blob, size_t *len);
/* 0, or the error with its reason in `why` (may be NULL). */
int guest_load(struct device *d, const void *blob, size_t len, struct err *why);

#endif
