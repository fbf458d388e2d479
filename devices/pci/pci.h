/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pci.h: PCI Local Bus 3.0 as a device sees it: configuration space, BARs, INTx, MSI-X.
 * Bus 0 only, configuration mechanism 1 (ports 0xcf8/0xcfc are in i440fx.c).
 *
 * The configuration space, the BAR map and everything here belong to the main loop's lock; a
 * function's BAR callbacks run with the lock of the function's own loop.
 */
#ifndef DEVICES_PCI_PCI_H
#define DEVICES_PCI_PCI_H

#include <linux/pci_regs.h>

#include "devices/device.h"
#include "vmm/wires/bus.h"
#include "vmm/wires/irq.h"
#include "vmm/wires/mem.h"
#include "vmm/wires/vm.h"

#define PCI_SLOTS 32
#define PCI_FUNCS 8
#define PCI_BARS 6
#define PCI_ROM_SLOT 6			/* index of the expansion ROM in bars[] */
#define PCI_DEVFN(slot, func) ((slot) << 3 | (func))
#define PCI_DEVFN_SLOT(devfn) ((devfn) >> 3)
#define PCI_DEVFN_FUNC(devfn) ((devfn) & 7)

struct pci_bus;
struct pci_dev;

struct pci_wires {
	struct bus *pio, *mmio;
	struct mem *mem;
	struct irq_hub *irqs;
	struct vm *vm;			/* exclusive sections for moving BARs */
	struct loop *loop;		/* main loop */
};
struct pci_bus *pci_bus_new(const struct pci_wires *w);
void pci_bus_free(struct pci_bus *b);
const struct pci_wires *pci_bus_wires(struct pci_bus *b);
/*
 * Have fn(ctx) change the map: at once when nothing of the guest can run (no vm, or PAUSE_BOOT
 * stands: start-up, machine reset), else by vm_exclusive() after the access that asked for it. Main
 * loop's lock.
 */
void pci_exclusive(struct pci_bus *b, void (*fn)(void *ctx), void *ctx);
/* Who turns INTA#-INTD# of a slot into an interrupt (PIIX3's PIRQ router). pin 0-3. */
void pci_bus_set_intx(struct pci_bus *b,
		      void (*set)(void *ctx, unsigned slot, unsigned pin, int level), void *ctx);
struct pci_dev *pci_bus_find(struct pci_bus *b, unsigned devfn);
/*
 * Interrupt router input (PIRQA-D = 0-3) that INTA#-INTD# (pin 0-3) of a slot is wired to on this
 * board; _PRT says the same.
 */
static inline unsigned pci_intx_pirq(unsigned slot, unsigned pin) { return (slot + 3 + pin) & 3; }
/*
 * A configuration access of 1, 2 or 4 bytes that does not cross a dword; all ones where nobody is.
 * Main loop's lock.
 */
uint32_t pci_bus_config_read(struct pci_bus *b, unsigned devfn, unsigned off, unsigned size);
void pci_bus_config_write(struct pci_bus *b, unsigned devfn, unsigned off, unsigned size,
			  uint32_t val);

struct pci_bar {
	uint64_t size;			/* 0: none; power of two */
	/* PCI_BASE_ADDRESS_SPACE_IO / _MEM_TYPE_64 / _MEM_PREFETCH bits */
	uint8_t type;
	const struct region_ops *ops;	/* registers ... */
	void *ctx;
	struct block *block;		/* ... or memory (VRAM, ROM) */
	/* optional; inside the exclusive section: ioeventfds follow */
	void (*moved)(void *ctx, bool mapped, uint64_t addr);
	uint64_t addr;			/* where it is mapped now; valid while mapped */
	bool mapped;
	/* whose lock the callbacks take; the function's own unless changed after pci_bar_regs */
	struct loop *loop;
};

/* What a kind of PCI function is; fixed at construction. */
struct pci_id {
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint32_t class_rev;		/* class << 8 | revision */
	bool intx;			/* has INTA# */
	bool multifunction;
};

struct pci_dev {
	struct device dev;		/* first: the function is a device */
	struct pci_bus *bus;
	unsigned devfn;
	uint8_t config[256];
	uint8_t wmask[256];		/* bits the guest may write */
	uint8_t w1cmask[256];		/* bits cleared by writing 1 */
	struct pci_bar bars[PCI_BARS + 1];
	/* Optional hooks, main loop's lock: after a write was applied; to replace a read. */
	void (*config_written)(struct pci_dev *p, unsigned off, unsigned size);
	void (*config_reading)(struct pci_dev *p, unsigned off, unsigned size);
	struct msix *msix;
	/* private */
	/* what pci_dev_reset brings back: the values before the guest's first write */
	uint8_t config_reset[256];
	bool config_sealed;		/* config_reset is taken */
	uint8_t cap_last;		/* capability list: tail, next free byte */
	uint8_t cap_free;
	bool intx_level;		/* what the function drives; bus->intx_lock */
	bool intx_out;			/* what reaches the router */
};

/*
 * Fills in the header, plugs the function into the bus. Call device_init (with id) before; then add
 * BARs and capabilities, all before the guest runs or inside hot-plug. 0, -EBUSY (slot taken).
 */
int pci_dev_init(struct pci_dev *p, struct pci_bus *bus, unsigned devfn, const struct pci_id *id);
/* Unmaps BARs, removes from the bus. In an exclusive section or before the guest runs. */
void pci_dev_exit(struct pci_dev *p);
/*
 * Back to the configuration space as construction left it (BARs unmapped, decode off); INTA# low,
 * MSI-X off. Call from the device's reset. What the constructor wrote into config[] is the default:
 * the first guest write or reset seals it.
 */
void pci_dev_reset(struct pci_dev *p);
void pci_bar_regs(struct pci_dev *p, int n, uint8_t type, uint64_t size,
		  const struct region_ops *ops, void *ctx);
void pci_bar_block(struct pci_dev *p, int n, uint8_t type, struct block *b);
/* Adds a capability of len bytes (with the 2-byte header); returns its offset. */
uint8_t pci_cap_add(struct pci_dev *p, uint8_t id, uint8_t len);
/* Level of INTA#, any thread. Honours command bit INTx-disable; keeps status bit 3. */
void pci_intx(struct pci_dev *p, int level);
bool pci_bus_master(const struct pci_dev *p);		/* DMA allowed */

/* MSI-X with n vectors: table and PBA in BAR bar (4 KiB aligned, memory). 0 or -errno. */
int pci_msix_init(struct pci_dev *p, int bar, unsigned n);
bool pci_msix_enabled(const struct pci_dev *p);
/* The vector n, or NULL when out of range. vec_notify(pci_msix_vec(p, n)) while enabled. */
struct vec *pci_msix_vec(struct pci_dev *p, unsigned n);
/* Called (main loop's lock) when the enable bit changes. */
void pci_msix_on_enable(struct pci_dev *p, void (*fn)(struct pci_dev *p, bool on));

/* Configuration space, BAR addresses, MSI-X table and PBA as properties of the current node. */
int pci_dev_save(struct pci_dev *p, struct state_out *o);
/* maps the BARs; exclusive section */
int pci_dev_load(struct pci_dev *p, struct state_in *in);

/*
 * What firmware does when there is none (-kernel): assign BARs, INTx lines, enable decode. bios/
 * calls it before the vCPUs run. [mem_base, mem_limit) is the window below 4 GiB; 64-bit BARs that
 * do not fit there go up from mem64_base. A BAR that fits nowhere stays unassigned with its decode
 * off, and a warning says so.
 */
void pci_bus_assign(struct pci_bus *b, uint64_t io_base, uint64_t mem_base, uint64_t mem_limit,
		    uint64_t mem64_base, const uint8_t irq_of_pirq[4]);
void pci_bus_for_each(struct pci_bus *b, void (*fn)(void *ctx, struct pci_dev *p), void *ctx);

#endif
