/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * machine.h: one virtual machine, whole. Only vmm/machine, move, control and main.c include it; no
 * device reaches in here.
 */
#ifndef VMM_MACHINE_MACHINE_H
#define VMM_MACHINE_MACHINE_H

#include "bios/boot.h"
#include "devices/device.h"
#include "disk/blk.h"
#include "net/net.h"
#include "vmm/backends/chardev.h"
#include "vmm/base/event.h"
#include "vmm/config/config.h"
#include "vmm/kvm/kvm.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/wires/vm.h"

#define MACHINE_MAX_DEVICES 256
/* virtio-mmio windows of the micro machine, 512 bytes each */
#define MICRO_MMIO_BASE 0xfeb00000ull
#define MICRO_MMIO_SIZE 0x200
#define MICRO_MMIO_FIRST_GSI 5
#define MICRO_MMIO_MAX 16

/*
 * How the program ends when the guest does not decide; the same table for minivmm-ci
 * (tools/ci/ci.h) and in both man pages. No number but 125 is one that isa-debug-exit makes: those
 * are odd. 1 there means success, so an error of ours must not be 1.
 */
enum machine_status { STATUS_OK = 0, STATUS_TIMEOUT = 124, STATUS_ERROR = 125, STATUS_PANIC = 240,
                      STATUS_TRIPLE_FAULT = 242,
		      STATUS_KVM_ERROR = 244, STATUS_HANG = 246 };

/*
 * The loops, a thread each, that carry a device's queues, or all of it; none: it belongs to the
 * main loop.
 */
struct queue_threads {
	struct loop **loops;
	unsigned n;
};

/* A device, and the entry it was built from (NULL: wired in by the machine itself). */
struct machine_device {
	struct device *dev;
	struct device_config *config;
	struct virtio_dev *virtio;		/* when it is one: for balloon, resize, link */
	struct queue_threads threads;
};

struct machine_drive {
	struct drive_config *config;
	struct blk *blk;			/* NULL: no medium */
	char *opened;				/* its name when it came from config->file */
	bool on_ide;				/* an IDE device shows it ... */
	unsigned ide_unit;			/* ... there: channel * 2 + unit */
	struct machine *machine;
};

struct machine {
	struct config *config;
	struct host host;
	struct loop *loop;			/* main */
	struct vm_clock *clock;
	struct vm *vm;
	struct kvm *kvm;
	struct mem *mem;
	struct block *ram;
	struct bus *pio, *mmio;
	struct irq_hub *irqs;
	struct vcpu_wires wires;
	struct vcpu **vcpus;
	unsigned nvcpus;
	struct kvm_cpuid2 *cpuid;
	/* the guest's clocks while it stands; clock_ns 0: it never ran */
	struct kvm_moment paused;

	/*
	 * Chips that others have to reach; each is also in devices[]. NULL where the machine has
	 * none.
	 */
	struct pci_bus *pci;
	struct device *i440fx, *piix3, *ide, *pm, *rtc, *i8042, *vmmouse, *micro_pm, *hotplug,
		*vmgenid;
	struct event_limit rtc_event, balloon_event;
	struct device *vga;
	const struct display *display;		/* of the graphics card */
	struct machine_screen *screen;		/* who looks at it (screen.c) */
	struct fw_cfg *fw_cfg;
	struct bios *bios;

	/* Everything that saves, resets and quiesces, in wiring order. */
	struct machine_device devices[MACHINE_MAX_DEVICES];
	unsigned ndevices;
	struct machine_drive drives[CONFIG_MAX_DRIVES];
	unsigned ndrives;
	struct net *nets[CONFIG_MAX_NETS];
	unsigned nnets;
	struct chardev *serial[CONFIG_MAX_SERIAL];
	struct chardev *consoles[8];		/* of virtio-console and debug ports */
	unsigned nconsoles;
	struct chardev *stdio;			/* the one on the terminal, or NULL */
	struct virtio_dev *tablet;	/* absolute pointer, or NULL */
	unsigned nmmio;				/* virtio-mmio windows in use */
	struct bios_virtio_mmio mmio_windows[MICRO_MMIO_MAX];

	struct migration *migration;		/* migrate.c's; NULL until it is needed */
	pthread_rwlock_t shape;			/* which parts there are (hotplug.h) */
	/* threads that take a device out; main loop's lock */
	unsigned ejecting;

	/* one slow command at a time; the first of all locks */
	pthread_mutex_t control_lock;
	unsigned command_threads;		/* commands under way on threads; main loop */
	pthread_mutex_t disks_lock;
	bool disks_given;			/* machine_give_disks was done */
	int status;				/* exit status once it ended */
	bool ended;
	bool powering_down;			/* the power button was pressed for SIGTERM */
	struct loop_timer powerdown_timer;
	struct loop_timer timeout_timer, idle_timer;	/* ending.c */
	/* ending.c: requests of the guest when idle_timer last looked ... */
	uint64_t progress;
	int64_t progress_at;			/* ... and since when there have been no more */
	/* sleep.c: the RTC's alarm, or a wake-up that is due */
	struct loop_timer wake_timer;
	int64_t asleep_since;
	int wake_reason;			/* enum pm_wake */
	bool waking;				/* the reset that is under way ends S3 */
};

/*
 * machine_init is the one wiring function: which devices exist, where, on which interrupt. Its only
 * input is the configuration. The machine is paused for PAUSE_BOOT afterwards. 0 or -errno with the
 * reason; machine_exit cleans up after both.
 */
int machine_init(struct machine *m, struct config *c, struct err *err);
void machine_exit(struct machine *m);
/*
 * From its first state on: the machine hears of pauses and of what its guest asks for. Main thread,
 * before the vCPUs run.
 */
void machine_watch(struct machine *m);

/*
 * Builds one device from its entry: at boot, at hot-plug and at restore. 0 or -errno with the
 * reason.
 */
int device_build(struct machine *m, struct device_config *d, struct err *err);
/*
 * A device's threads end before it does, their loops after it. The main loop's lock, but for join.
 */
void machine_threads_join(struct queue_threads *t);
void machine_threads_free(struct machine *m, struct queue_threads *t);
/* Records a device in wiring order; the machine owns it from now on. */
struct machine_device *machine_add_device(struct machine *m, struct device *dev,
					  struct device_config *config);
struct machine_device *machine_find_device(struct machine *m, const char *id);
struct net *machine_find_net(struct machine *m, const char *id);

/* The PC's and the micro machine's own chips (machine_pc.c, machine_micro.c). */
int machine_init_pc(struct machine *m, struct err *err);
int machine_init_micro(struct machine *m, struct err *err);
/* Guest RAM and where it stands (machine_ram.c); low: the bytes below the PCI hole. */
/* Whether RAM is shown at 0xc0000 to 1 MiB from the start, before the host bridge is there. */
bool machine_starts_open(const struct machine *m);
int machine_init_ram(struct machine *m, struct err *err);
uint64_t machine_ram_low(const struct machine *m);
/* Serial ports, shared by both. port 0..3 */
int machine_init_serial(struct machine *m, struct err *err);

/* Power button: what SIGTERM and system_powerdown do. Main loop. */
void machine_powerdown(struct machine *m);
/*
 * Whether the guest listens to it: it has enabled the event, or, on micro, the event's interrupt.
 */
bool machine_powerdown_heard(struct machine *m);
/*
 * S3 (sleep.c): the guest goes to sleep (a struct machine); someone wakes it, false when it does
 * not sleep. Main loop's lock.
 */
void machine_suspend(void *ctx);
bool machine_wakeup(struct machine *m, int reason);
void machine_sleep_init(struct machine *m);
/* Whether another minivmm sends the machine over a line (a file is loaded at once). */
bool machine_moves_here(const struct config *c);
/*
 * The machine goes on from a copy of what it was: its generation id changes, and the guest is told.
 * Main loop's lock.
 */
void machine_copied(struct machine *m);
/* The micro machine's own notification (machine_micro.c). Main loop's lock. */
void micro_pm_generation(struct device *d);
/*
 * Power-on state of every part, then firmware or kernel again. All parked. 0 or -errno with the
 * reason.
 */
int machine_reset(struct machine *m, struct err *err);

/* machine_boot.c: bootindex= as fw_cfg's bootorder (NULL: none; free it), network boot ROMs. */
char *machine_boot_devices(struct machine *m);
int machine_boot_roms(struct machine *m, struct err *err);
/*
 * Opens a file of the boot configuration (NULL: none); the descriptor is kept for resets. 0 or
 * -errno with the reason.
 */
int machine_boot_file(struct machine *m, const char *path, struct bios_file *f, const char *what,
		      struct err *err);
/*
 * -initrd of the opened kernel: one file, or for a multiboot kernel its modules "FILE
 * [ARGUMENTS],FILE ...". The strings belong to the caller, who frees them by
 * machine_boot_modules_free once bios_new has copied them. 0 or -errno with the reason.
 */
int machine_boot_modules(struct machine *m, struct bios_config *b, struct err *err);
void machine_boot_modules_free(struct bios_config *b);
/*
 * The words that make this machine again, as it is now: hot-plugged devices, slots and addresses,
 * changed media (machine_config.c). words_free them. Main loop's lock.
 */
void machine_words(struct machine *m, struct words *w);
/* Somebody may look at the screen: -vnc, -display curses. */
bool machine_has_viewer(const struct config *c);

#endif
