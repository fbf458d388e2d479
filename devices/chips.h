/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * chips.h: the constructors of the classic PC's chips: each takes exactly its wires. Every chip
 * belongs to the loop it is given (the main loop). Backends, blocks and buses are borrowed and
 * outlive the chip; strings are copied. All plug themselves into their buses and are removed by
 * device_destroy(). A constructor that can fail takes err and returns NULL with the reason.
 *
 * Changes of the map (PAM, moved I/O bases) go through pci_exclusive(): at once while PAUSE_BOOT
 * stands, so that firmware-less boot and machine reset see their effect, else in an exclusive
 * section after the access.
 */
#ifndef DEVICES_CHIPS_H
#define DEVICES_CHIPS_H

#include "devices/device.h"
#include "devices/ide/geometry.h"
#include "devices/pci/pci.h"
#include "vmm/backends/input.h"
#include "vmm/wires/bus.h"
#include "vmm/wires/irq.h"
#include "vmm/wires/vm.h"

struct blk;
struct chardev;
struct display;

/* --- i440fx.c: host bridge 00:00.0, ports 0xcf8 and 0xcfc, PAM registers 0x59-0x5f --- */
/*
 * ram shows [0xc0000, 0x100000) of itself as PAM says, at MEM_PRIO_CHIPSET; the machine maps the
 * rest of it (below 0xa0000 and from 1 MiB up) and leaves 0xa0000-0xfffff alone. What lies there
 * with a lower priority (the firmware's shadow, option ROMs, the VGA window) is what the guest sees
 * where PAM does not choose RAM. shadow_shown: the machine has mapped all of it so already; it
 * stays until PAM is set, loaded or reset.
 */
struct device *i440fx_new(struct pci_bus *pci, struct block *ram, bool shadow_shown,
			  struct err *err);

/* --- piix3.c: ISA bridge 00:01.0 (multifunction): PIRQA-D router, ELCR, reset control 0xcf9 --- */
struct piix3_opts {
	unsigned devfn;
	/*
	 * ELCR (0x4d0, 0x4d1) lives in KVM's PIC, which answers the guest's accesses itself; ours
	 * (boot without firmware) come here. NULL: the chip keeps the register itself.
	 */
	uint16_t (*elcr_get)(void *ctx);
	void (*elcr_set)(void *ctx, uint16_t v);
	void *elcr_ctx;
};
/*
 * Takes pci_bus_set_intx(); a PIRQ routed to IRQ n drives global interrupt n. Reset asks
 * vm_request(VM_END_RESET).
 */
struct device *piix3_new(struct pci_bus *pci, const struct piix3_opts *o, struct err *err);

/* --- piix4_pm.c: power management 00:01.3 --- */
/* PM1, PM timer, GPE0 at 0xafe0, SMBus, APM ports 0xb2/0xb3. */
/* Sleep types as the DSDT's packages must say them. */
enum { PIIX4_SLP_S5 = 0, PIIX4_SLP_S3 = 1, PIIX4_SLP_S4 = 2 };
enum pm_wake { PM_WAKE_OTHER, PM_WAKE_POWER_BUTTON, PM_WAKE_RTC };
struct piix4_pm_opts {
	unsigned devfn;
	struct irq sci;			/* global interrupt 9 */
	/*
	 * The guest enters S3: the machine adds PAUSE_SUSPEND and, when woken, resets CPUs and
	 * chips but not RAM, then calls piix4_pm_woken. NULL: S3 is refused with a message. Called
	 * under the main loop's lock.
	 */
	void (*suspend)(void *ctx);
	void *suspend_ctx;
};
struct device *piix4_pm_new(struct pci_bus *pci, const struct piix4_pm_opts *o, struct err *err);
/* The user presses the power button (lock of the loop held). */
void piix4_pm_power_button(struct device *d);
/* Whether the guest has enabled the event (PM1_EN): else nobody hears the button. Lock held. */
bool piix4_pm_button_heard(const struct device *d);
/* A general purpose event: its status bit is set; the guest clears it. Lock held. n 0-15. */
void piix4_pm_gpe(struct device *d, unsigned n);
/* After the reset that ends S3: PM1 status says why. */
void piix4_pm_woken(struct device *d, enum pm_wake why);
/* The RTC's alarm reached its interrupt (mc146818_opts.alarm). */
void piix4_pm_rtc_alarm(struct device *d);

/* --- acpi_hotplug.c: PCI hot-plug registers at 0xae00 (bus 0), GPE 1 --- */
struct acpi_hotplug_opts {
	uint16_t base;			/* 0xae00 */
	void (*gpe)(void *ctx, unsigned n);	/* piix4_pm_gpe */
	void *gpe_ctx;
	/*
	 * The guest let go of the slot: remove the device. Called on the loop, lock held; the
	 * machine posts the work.
	 */
	void (*eject)(void *ctx, unsigned slot);
	void *eject_ctx;
};
struct device *acpi_hotplug_new(struct bus *pio, struct loop *loop,
				const struct acpi_hotplug_opts *o, struct err *err);
/* Which slots may be ejected at all (bit n: slot n). */
void acpi_hotplug_set_removable(struct device *d, uint32_t slots);
/* A device appeared in the slot / please eject it. Lock held. */
void acpi_hotplug_plugged(struct device *d, unsigned slot);
/* false: it had been asked before, and is again */
bool acpi_hotplug_unplug_request(struct device *d, unsigned slot);
/* The slot that was ejected is empty now. */
void acpi_hotplug_ejected(struct device *d, unsigned slot);

/* --- vmgenid.c: the generation id, in a page of its own --- */
struct vmgenid_opts {
	uint64_t gpa;
	bool has_uuid;			/* else random, and another at each renewal */
	uint8_t uuid[16];		/* in text order */
	void (*changed)(void *ctx);	/* tell the guest (ACPI) */
	void *ctx;
};
struct device *vmgenid_new(struct mem *mem, struct loop *loop, const struct vmgenid_opts *o,
			   struct err *err);
/*
 * The machine was started from a copy: another id, and the guest is told. Main loop's lock. 0 or
 * -errno.
 */
int vmgenid_renew(struct device *d);
void vmgenid_get(struct device *d, uint8_t uuid[16]);

/* --- port92.c: system control port A: fast A20 (remembered), fast reset --- */
struct device *port92_new(struct bus *pio, struct vm *vm, struct loop *loop, struct err *err);

/* --- uart16550.c --- */
/* chr NULL: a port with nothing connected (output vanishes, no modem lines). */
struct device *uart16550_new(const char *id, struct bus *pio, uint16_t base, struct irq irq,
			     struct chardev *chr, struct vm_clock *clock, struct loop *loop,
			     struct err *err);

/* --- mc146818.c: real-time clock and CMOS, ports 0x70/0x71 --- */
enum rtc_base { RTC_UTC, RTC_LOCALTIME, RTC_DATE };
struct mc146818_opts {
	struct irq irq;			/* global interrupt 8 */
	enum rtc_base base;
	int64_t date;			/* RTC_DATE: seconds since 1970 the clock starts with */
	void (*alarm)(void *ctx);	/* the alarm went off (wakes from S3); optional */
	void *alarm_ctx;
	/*
	 * The guest has set the clock, which is now that many seconds ahead of what base gives it;
	 * optional.
	 */
	void (*set)(void *ctx, int64_t ahead);
	void *set_ctx;
};
struct device *mc146818_new(struct bus *pio, struct vm_clock *clock, struct loop *loop,
			    const struct mc146818_opts *o, struct err *err);
/* A CMOS byte firmware looks at; kept over resets. index 0x0e-0x7f. */
void mc146818_set_cmos(struct device *d, unsigned index, uint8_t value);
/*
 * Nanoseconds until the alarm interrupts (0: now), or -1 when it will not. For waking up from S3,
 * in which the VM clock stands.
 */
int64_t mc146818_alarm_in(struct device *d);
/* The time of day moves on by what passed while the VM clock stood. */
void mc146818_advance(struct device *d, int64_t ns);
/*
 * The memory-size bytes for this much RAM below and above 4 GiB (0x15-0x18, 0x30, 0x31, 0x34, 0x35,
 * 0x5b-0x5d).
 */
void mc146818_set_memory(struct device *d, uint64_t low, uint64_t high);

/* --- i8042.c, ps2.c --- */
/* Keyboard controller, ports 0x60 and 0x64, with keyboard and wheel mouse. */
struct i8042_opts {
	struct irq kbd, aux;		/* global interrupts 1 and 12 */
	void (*leds)(void *ctx, unsigned leds);	/* PS2_LED_* when the guest sets them; optional */
	void *leds_ctx;
};
enum { PS2_LED_SCROLL = 1, PS2_LED_NUM = 2, PS2_LED_CAPS = 4 };
struct device *i8042_new(struct bus *pio, struct vm *vm, struct vm_clock *clock, struct loop *loop,
			 const struct i8042_opts *o, struct err *err);
/*
 * Input (loop's lock held). key: KEY_* of linux/input-event-codes.h; down again while down is
 * ignored, typematic is the keyboard's. A key the PC keyboard lacks is dropped and returns false.
 */
bool i8042_key(struct device *d, unsigned key, bool down);
/*
 * Movement since the last call (dy: down is positive), wheel clicks (down positive), buttons
 * PS2_BUTTON_*.
 */
void i8042_mouse(struct device *d, int dx, int dy, int dz, unsigned buttons);

/*
 * The driver of the mouse is to look (vmmouse): a packet of one step. Nothing while reporting is
 * off.
 */
void i8042_mouse_poke(struct device *d);

/* --- vmmouse.c: absolute pointer at port 0x5658; it wakes the driver through the PS/2 mouse --- */
enum { VMPORT_EAX, VMPORT_EBX, VMPORT_ECX, VMPORT_EDX };
struct vmmouse_opts {
	/*
	 * Registers of the vCPU whose access is being answered (eax, ebx, ecx, edx). 0 or -errno.
	 */
	int (*get_regs)(void *ctx, uint32_t regs[4]);
	void (*set_regs)(void *ctx, const uint32_t regs[4]);
	void *ctx;
};
struct device *vmmouse_new(struct bus *pio, struct device *i8042, struct loop *loop,
			   const struct vmmouse_opts *o, struct err *err);
/*
 * Whether the guest takes absolute positions; and one of them, 0-65535 over the screen. Lock held.
 */
bool vmmouse_active(struct device *d);
void vmmouse_move(struct device *d, uint16_t x, uint16_t y, int dz, unsigned buttons);

/* --- debugport.c: bytes written to the port (0x402) go to chr --- */
/* Reads give 0xe9, by which firmware knows it. */
struct device *debugport_new(struct bus *pio, uint16_t base, struct chardev *chr, struct loop *loop,
			     struct err *err);

/* --- pvpanic.c: the guest's kernel says that it panicked --- */
#define PVPANIC_PORT 0x505		/* where ACPI says it is */
struct device *pvpanic_new(struct bus *pio, uint16_t base, struct vm *vm, struct loop *loop,
			   struct err *err);

/* --- piix3_ide.c --- */
/* IDE 00:01.1, two channels at 0x1f0/0x3f6 and 0x170/0x376, bus master in BAR 4. */
struct piix3_ide_opts {
	unsigned devfn;
	struct irq irq[2];		/* global interrupts 14 and 15 */
};
struct device *piix3_ide_new(struct pci_bus *pci, const struct piix3_ide_opts *o, struct err *err);
struct ide_drive_opts {
	struct blk *blk;		/* NULL: a CD drive without a medium */
	bool cdrom;
	const char *serial;		/* at most 20 bytes; NULL: one made from the position */
	const char *model;		/* at most 40 bytes; NULL: ours */
	struct ide_geometry geometry;	/* of a disk; all zero: guessed */
	/* the guest opened or closed the CD's tray, or its medium was changed; optional */
	void (*tray_moved)(void *ctx, bool open);
	void *tray_ctx;
};
/* Before the guest runs. unit 0-3: hda-hdd. 0, -EBUSY, -EINVAL. */
int piix3_ide_attach(struct device *d, unsigned unit, const struct ide_drive_opts *o,
		     struct err *err);
/*
 * Change the CD's medium (NULL: take it out). -EBUSY while the guest holds the tray locked and not
 * force, in which case the guest has been asked to let go. The blk taken out is given back in *old.
 * Lock held.
 */
int piix3_ide_change_medium(struct device *d, unsigned unit, struct blk *blk, bool force,
			    struct blk **old);
/* The geometry of the disk there. false: there is none. */
bool piix3_ide_geometry(struct device *d, unsigned unit, struct ide_geometry *g);
bool piix3_ide_tray_open(struct device *d, unsigned unit);

/* --- vga/vga.c: the standard VGA 1234:1111 --- */
struct vga_opts {
	unsigned devfn;
	const char *id;
	int rom_fd;			/* vgabios-stdvga.bin, -1: none */
	unsigned vram_mib;		/* 0: 16 */
	unsigned width, height;		/* preferred in the EDID; 0: 1024x768 */
};
struct device *vga_new(struct pci_bus *pci, const struct vga_opts *o, struct err *err);
const struct display *vga_display(struct device *d);
/*
 * Text mode 3, as firmware would leave it; after a reset, for a kernel that starts without. false:
 * no font in the ROM.
 */
bool vga_text_mode(struct device *d);

#endif
