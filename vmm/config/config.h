/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * config.h: what machine to build. The command line, a control-socket command and a saved machine
 * all fill in the same structures; machine_init and device_build read nothing else.
 */
#ifndef VMM_CONFIG_CONFIG_H
#define VMM_CONFIG_CONFIG_H

#include "disk/blk.h"
#include "vmm/base/util.h"
#include "vmm/kvm/cpuid.h"

#define CONFIG_MAX_SERIAL 4
#define CONFIG_MAX_DRIVES 64
#define CONFIG_MAX_NETS 32
#define CONFIG_MAX_DEVICES 128
#define CONFIG_MAX_ROMS 8

enum machine_type { MACHINE_PC, MACHINE_MICRO };

/* A disk image and how to open it; what the guest sees of it is a device entry that names it. */
enum drive_if { IF_VIRTIO, IF_IDE, IF_NONE, IF_PFLASH };
struct drive_config {
	char *id, *file, *serial;		/* file NULL: a drive without a medium */
	enum drive_if interface;
	bool cdrom;
	int index;				/* IDE: channel * 2 + unit; -1: next free */
	struct blk_options open;
	enum blk_on_error rerror, werror;
	struct blk_throttle throttle;
	int bootindex;				/* -1: none */
	char *format, *secret_file;		/* open.format and open.secret_file point here */
	/* blockdev-add: stays when its device is taken out */
	bool keep;
};

/* A network backend: spec as net_open takes it. */
struct net_config {
	char *id, *spec;
	int vlan;				/* old -net pairing; -1: -netdev */
};

enum device_kind {
	DEV_NONE, DEV_VIRTIO_BLK, DEV_VIRTIO_NET, DEV_VIRTIO_RNG, DEV_VIRTIO_CONSOLE,
	DEV_VIRTIO_BALLOON, DEV_VIRTIO_INPUT,
	DEV_VIRTIO_9P, DEV_E1000, DEV_RTL8139, DEV_IDE_HD, DEV_IDE_CD, DEV_VGA, DEV_DEBUG_EXIT,
	DEV_DEBUGCON, DEV_PVPANIC,
	DEV_PC_TESTDEV, DEV_PCI_TESTDEV, DEV_VMGENID,
	DEV_KINDS
};

/* One device; a union by kind would save bytes nobody misses. */
struct device_config {
	enum device_kind kind;
	char *id;
	int slot, func;				/* PCI address; slot -1: next free */
	char *backend;				/* drive, netdev or chardev id (or chardev spec) */
	int vlan;				/* nic of the old -net; -1: backend names it */
	bool has_mac;
	uint8_t mac[6];
	/* 0: one; of a NIC: as many pairs as its backend has */
	unsigned queues;
	unsigned queue_size;			/* 0: the device's default */
	uint16_t iobase, iosize;		/* 0: the device's default */
	int bootindex;
	int ide_index;				/* channel * 2 + unit */
	char *serial;				/* disk serial number */
	/* 9p: folder, mount tag, paths to cover with colons between */
	char *path, *tag, *hide;
	bool readonly, pipes;
	bool iothread;				/* queues on threads of their own */
	bool packed;				/* offer packed virtqueues */
	/* vmgenid: a fixed one; else a new one whenever the machine is copied */
	bool has_guid;
	uint8_t guid[16];
};

struct config {
	/* the machine */
	enum machine_type machine;
	unsigned version;			/* pc-1: 1 */
	char *name;
	uint8_t uuid[16];
	bool has_uuid;
	uint64_t ram;
	bool mem_prealloc;
	char *mem_path;
	unsigned cpus, max_cpus;
	struct cpu_topology topology;
	char *cpu;
	bool no_acpi, no_pit, no_hpet;
	/* default: unless nobody looks */
	enum { CONFIG_VGA_DEFAULT, CONFIG_VGA_STD, CONFIG_VGA_NONE } vga;
	uint16_t debugcon_iobase;		/* of debug ports that name none; 0: 0x402 */
	bool pit_discard;			/* a late PIT tick is lost instead of made up for */
	enum { CONFIG_RTC_UTC, CONFIG_RTC_LOCALTIME, CONFIG_RTC_DATE } rtc_base;
	int64_t rtc_date;			/* seconds since 1970 with CONFIG_RTC_DATE */
	/* boot */
	char *kernel, *initrd, *append, *bios;
	char *boot_order, *boot_once;
	bool boot_menu, boot_strict;
	int boot_splash_ms;			/* -1 */
	char *roms[CONFIG_MAX_ROMS];
	unsigned nroms;
	/* parts */
	struct drive_config drives[CONFIG_MAX_DRIVES];
	unsigned ndrives;
	struct net_config nets[CONFIG_MAX_NETS];
	unsigned nnets;
	struct device_config devices[CONFIG_MAX_DEVICES];
	unsigned ndevices;
	char *serial[CONFIG_MAX_SERIAL];	/* chardev specs */
	unsigned nserial;
	struct { char *id, *spec; } chardevs[16];	/* -chardev; spec as -serial takes it */
	unsigned nchardevs;
	bool nodefaults, snapshot;
	/* how to run */
	char *display, *vnc, *keymap;		/* NULL: none */
	bool nographic;
	char *monitor, *qmp, *gdb, *incoming, *loadvm, *verify;
	/* -loadvm FILE,strict=on, -incoming file:FILE,strict=on: a changed disk is refused */
	bool strict;
	bool paused;				/* -S */
	bool no_reboot, no_shutdown, daemonize;
	unsigned timeout, idle_timeout;		/* seconds; 0: none */
	char *pidfile, *logfile, *trace, *dumpdtb;
	char *unsupported;			/* -soundhw, -usb: said in one line at start */
};

void config_init(struct config *c);
void config_free(struct config *c);
/*
 * Fills in what the options left open: default serial, NICs for -net, topology. 0 or -errno with
 * the reason.
 */
int config_finish(struct config *c, struct err *err);

struct drive_config *config_drive(struct config *c, const char *id);
struct net_config *config_net(struct config *c, const char *id);
/*
 * New entries with defaults; NULL with the reason when there are too many or the id is taken. id
 * NULL: made up.
 */
struct drive_config *config_add_drive(struct config *c, const char *id, struct err *err);
struct net_config *config_add_net(struct config *c, const char *id, const char *spec,
				  struct err *err);
struct device_config *config_add_device(struct config *c, enum device_kind kind, const char *id,
					struct err *err);
/* The entry goes; what it pointed to is freed. The others stay where they are. */
void config_remove_drive(struct drive_config *d);
void config_remove_net(struct net_config *n);
void config_remove_device(struct device_config *d);
/*
 * "virtio-blk-pci,drive=d0,...": an entry from text, as -device and device_add have it. NULL with
 * the reason.
 */
struct device_config *config_parse_device(struct config *c, const char *spec, struct err *err);
struct drive_config *config_parse_drive(struct config *c, const char *spec, struct err *err);
const char *device_kind_name(enum device_kind k);
bool config_is_nic(const struct device_config *d);
bool device_kind_hotplugs(enum device_kind k);		/* may come and go while the guest runs */
/* A line a device with its properties, for -device help. */
void config_device_help(void);
void config_device_man(void);

/* --- the command line (options.c) --- */
/*
 * Fills in c; a positional argument is a disk image. 0, -errno with the reason, or 1: the answer
 * was printed (-h, -version): exit 0.
 */
int options_parse(struct config *c, int argc, char **argv, struct err *err);

/* -chardev KIND,id=ID,... 0 or -errno with the reason. */
int config_add_chardev(struct config *c, const char *arg, struct err *err);
/*
 * What stands behind "chardev:ID" or "ID": a -chardev's short form; name itself when none has that
 * id. Belongs to c.
 */
const char *config_chardev_spec(const struct config *c, const char *name);

#endif
