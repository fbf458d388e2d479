/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * boot.h: from reset to the guest's first instruction.
 *
 * The machine describes itself in a struct bios_config. bios_new() builds what never changes (ACPI,
 * SMBIOS, the memory map, fw_cfg's files); bios_reset() puts the chosen boot way into guest memory
 * and says in which state the first vCPU starts. Both run before the vCPUs or with all of them
 * parked (at a machine reset).
 *
 * Nothing here depends on the time of day: the same configuration gives the same bytes, and those
 * bytes belong to the machine version (tests/golden holds them).
 */
#ifndef BIOS_BOOT_H
#define BIOS_BOOT_H

#include "vmm/base/util.h"
#include "vmm/wires/boot_cpu.h"
#include "vmm/wires/layout.h"
#include "vmm/wires/mem.h"

struct fw_cfg;
struct pci_bus;
struct bus;

enum bios_machine { BIOS_PC, BIOS_MICRO };

/* --- the fixed places of the machines --- */
/* machine.c wires its chips there, the tables name them. */
#define BIOS_TOP		0x100000000ull	/* firmware ends here */
/* PIIX4 power management I/O, 64 ports; GPE0 is apart */
#define BIOS_PM_BASE		0x600
#define BIOS_SMB_BASE		0x700		/* PIIX4 SMBus I/O, 16 ports */
/* general purpose events: 2 status bytes, 2 enable bytes */
#define BIOS_GPE0_BASE		0xafe0
/* PCI hot-plug: up +0, down +4, eject +8, removable +12, select +16 */
#define BIOS_PCIHP_BASE		0xae00
#define BIOS_SCI_IRQ		9
#define BIOS_GPE_PCIHP		1		/* GPE bit: a PCI slot changed */
#define BIOS_GPE_VMGENID	5		/* GPE bit: the generation id changed */
/* RAM below 4 GiB ends here at the latest (3 GiB) */
#define BIOS_PCI_HOLE		0xc0000000u
#define BIOS_PCI_HOLE_END	0xfec00000u
#define BIOS_PCI_IO_BASE	0xc000		/* where bios_setup_pci puts I/O BARs */
/* micro: an ACPI reduced-hardware machine; sleep and reset are one register each */
/* write (SLP_TYP << 2 | SLP_EN 0x20): sleep control; +1 status; +2 reset: write 1 */
#define BIOS_MICRO_PM		0x600
/* 4 bytes, read clears: what happened */
#define BIOS_MICRO_EVENT	0x610
#define BIOS_EVENT_POWER_BUTTON	1
#define BIOS_EVENT_VMGENID	2

/*
 * An opened file to load from; the descriptor stays the caller's and is kept open for resets. fd
 * -1: none.
 */
struct bios_file {
	int fd;
	const char *path;		/* for messages, and the multiboot command line */
};

struct bios_virtio_mmio {
	uint64_t base, size;
	unsigned gsi;
};

#define BIOS_MAX_ROMS 8
#define BIOS_MAX_MODULES 16
#define BIOS_MAX_PARTS 32

/* What the namespace says of a device, and what is notified when it raises its event. */
struct aml;
struct acpi_part {
	void (*isa)(struct aml *a);	/* below the ISA bridge (micro: \_SB), or NULL */
	void (*board)(struct aml *a);	/* in \_SB, or NULL */
	const char *notify;		/* path that is told 0x80, or NULL */
	unsigned gpe;			/* on the PC's general purpose event of that number ... */
	uint32_t event;			/* ... or the micro machine's event word has that bit */
};
extern const struct acpi_part acpi_pvpanic, acpi_vmgenid;
struct bios_config {
	enum bios_machine machine;
	unsigned version;		/* of the machine type: 1 for pc-1, micro-1 */
	struct mem *mem;
	/* [0, ram_low) at 0, [ram_low, ram_low + ram_high) at 4 GiB */
	struct block *ram;
	uint64_t ram_low, ram_high;
	unsigned ncpus;			/* started at power-on */
	unsigned max_cpus;		/* slots in the MADT; 0: ncpus */
	const uint32_t *apic_ids;	/* max_cpus of them; NULL: 0, 1, 2 ... */
	unsigned sockets, cores, threads;	/* for SMBIOS; 0: 1 socket of ncpus cores */
	unsigned phys_bits;		/* CPUID 0x80000008; 0: 40. Bounds the 64-bit PCI window */
	uint8_t uuid[16];		/* as printed (big-endian); all zero: none */
	const char *name;		/* may be NULL */

	/* What is wired, for the tables. */
	unsigned serial_mask;		/* bit n: COMn+1 at its usual place */
	bool no_kbd;			/* no i8042 */
	bool hpet;
	/* of the devices that are there, each once */
	const struct acpi_part *parts[BIOS_MAX_PARTS];
	unsigned nparts;
	bool no_rtc, no_acpi;
	uint16_t pm_base;		/* where the PIIX4's ports are; 0: BIOS_PM_BASE */
	/* asked where firmware has put them when it fetches the tables; NULL: they stay */
	struct pci_bus *pci;
	bool no_s3, no_s4;
	bool graphics;			/* there is a VGA card */
	bool serial_console;		/* SeaBIOS writes to COM1 too */
	bool text_screen;		/* with -kernel: the machine puts the VGA into mode 3 */
	const struct bios_virtio_mmio *mmio;	/* micro */
	unsigned nmmio;

	/* The way to boot. */
	struct bios_file firmware;	/* -bios: the image itself; ignored with kernel.fd >= 0 */
	/* firmware is in flash chips the machine has mapped: nothing to load */
	bool pflash;
	struct bios_file kernel, initrd;
	/*
	 * Multiboot and PVH: further modules after initrd, each with its command line (NULL: its
	 * path).
	 */
	struct bios_module {
		struct bios_file file;
		const char *cmdline;
	} modules[BIOS_MAX_MODULES];
	unsigned nmodules;
	const char *cmdline;		/* NULL: empty */
	const char *boot_order;		/* letters of a c d n, as -boot order=; NULL: "cad" */
	/* fw_cfg bootorder, one OpenFirmware path a line; NULL: none */
	const char *boot_devices;
	bool boot_menu, boot_strict;
	int boot_splash_ms, boot_reboot_ms;	/* -1: not given */
	const uint8_t *rng_seed;	/* 32 fresh random bytes for Linux's setup_data, or NULL */
	struct bios_file roms[BIOS_MAX_ROMS];	/* -option-rom, shown to SeaBIOS as genroms/NAME */
	unsigned nroms;
};

/* --- the whole --- */
struct bios;
/*
 * Checks the configuration and the files (a kernel that is no kernel fails here), builds the
 * tables, fills fw (NULL on micro). c and what it points to are copied, except mem, ram and the
 * descriptors. NULL with the reason.
 */
struct bios *bios_new(const struct bios_config *c, struct fw_cfg *fw, struct err *err);
void bios_free(struct bios *b);
/*
 * At power-on and at every machine reset, after the devices' own reset: loads kernel or firmware,
 * writes tables where no firmware will, sets up PCI (pci may be NULL) for -kernel. Fills *cpu. 0 or
 * -errno with the reason.
 */
int bios_reset(struct bios *b, struct pci_bus *pci, struct bus *pio, struct boot_cpu *cpu,
	       struct err *err);
/*
 * At the reset that ends S3: with firmware the same as bios_reset; without, memory stays as it is,
 * the chips are set up again and the first vCPU starts where the FACS the guest was given says. 0
 * or -errno with the reason.
 */
int bios_resume(struct bios *b, struct pci_bus *pci, struct bus *pio, struct boot_cpu *cpu,
		struct err *err);

/*
 * The CMOS bytes SeaBIOS reads: boot order, processors, equipment (not memory:
 * mc146818_set_memory).
 */
void bios_cmos(const struct bios_config *c, void (*set)(void *ctx, unsigned index, uint8_t value),
	       void *ctx);
/*
 * The disks of the four IDE positions (NULL: none): type and parameters of the first two, and how
 * the BIOS translates each.
 */
struct ide_geometry;
void bios_cmos_disks(const struct ide_geometry *const disks[4],
		     void (*set)(void *ctx, unsigned index, uint8_t value), void *ctx);
/* The order alone: -boot once= holds for the first boot only. */
void bios_cmos_order(const char *order, void (*set)(void *ctx, unsigned index, uint8_t value),
		     void *ctx);

/*
 * What firmware does to the PC's chips when there is none: PIRQ routing and ELCR, BARs and
 * decoding, PM and SMBus base, PAM to RAM, IDE decode. bios_reset calls it.
 */
void bios_setup_pci(const struct bios_config *c, struct pci_bus *pci, struct bus *pio);
/* The 64-bit PCI window of this machine: above RAM, aligned. */
void bios_pci64_window(const struct bios_config *c, uint64_t *base, uint64_t *limit);

/* --- the memory map (e820.c) --- */
enum { E820_RAM = 1, E820_RESERVED = 2, E820_ACPI = 3, E820_NVS = 4 };
struct e820_entry {
	uint64_t base, len;
	uint32_t type;
};
#define E820_MAX 32
/* What a kernel without firmware sees; returns the number of entries. */
unsigned e820_build(const struct bios_config *c, struct e820_entry *e, unsigned max);

/* --- loaders (load_*.c) --- */
/* Read the file, fill guest RAM, fill *cpu. 0 or -errno with the reason. */
enum bios_kernel { KERNEL_UNKNOWN, KERNEL_BZIMAGE, KERNEL_PVH, KERNEL_MULTIBOOT };
/* Looks at the first bytes; KERNEL_UNKNOWN with the reason when it is nothing we boot. */
enum bios_kernel kernel_identify(const struct bios_file *f, struct err *err);
/* rsdp: guest address of the ACPI root pointer, 0: none. */
int load_linux(const struct bios_config *c, uint64_t rsdp, struct boot_cpu *cpu, struct err *err);
int load_pvh(const struct bios_config *c, uint64_t rsdp, struct boot_cpu *cpu, struct err *err);
int load_multiboot(const struct bios_config *c, uint64_t rsdp, struct boot_cpu *cpu,
		   struct err *err);
/*
 * -bios: makes the ROM block "bios" below 4 GiB and shows its last 128 KiB below 1 MiB (once; its
 * contents are written again at each reset). NULL with the reason.
 */
struct block *firmware_map(const struct bios_config *c, struct err *err);
int firmware_reload(const struct bios_config *c, struct block *rom, struct err *err);

#endif
