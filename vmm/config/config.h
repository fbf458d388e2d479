/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * config.h: what machine to build. The command line, a control-socket command and a saved machine
 * all fill in the same structures; machine_init and device_build read nothing else.
 */
#ifndef VMM_CONFIG_CONFIG_H
#define VMM_CONFIG_CONFIG_H

#include "disk/blk.h"
#include "vmm/base/util.h"
#include "vmm/config/device_kind.h"
#include "vmm/kvm/cpuid.h"

#define CONFIG_MAX_SERIAL 4
#define CONFIG_MAX_DRIVES 64
#define CONFIG_MAX_NETS 32
#define CONFIG_MAX_DEVICES 128
#define CONFIG_MAX_ROMS 8
#define CONFIG_MAX_IMAGE_DIRS 64
#define CONFIG_MAX_GLOBALS 16
#define CONFIG_SHUTDOWN_TIMEOUT 5

/* A disk image and how to open it; what the guest sees of it is a device entry that names it. */
enum drive_if { IF_VIRTIO, IF_IDE, IF_NONE, IF_PFLASH };
/* Of an IDE disk, as old systems see it. */
struct drive_geometry {
	unsigned cylinders, heads, sectors;	/* 0: guessed from what is on the disk */
	int translation;			/* of ide_translations; 0: auto */
};
extern const char *const ide_translations[];
/* The four rows of a table whose structure has one at offset `at`. */
#define PROP_GEOMETRY(at) \
	{ "cyls", NULL, PROP_NUMBER, (at) + offsetof(struct drive_geometry, cylinders), \
	  .min = 1, .max = 65535, .help = "cylinders; with heads and secs" }, \
	{ "heads", NULL, PROP_NUMBER, (at) + offsetof(struct drive_geometry, heads), .min = 1, \
	  .max = 16, .help = "heads" }, \
	{ "secs", NULL, PROP_NUMBER, (at) + offsetof(struct drive_geometry, sectors), .min = 1, \
	  .max = 255, .help = "sectors of a track" }, \
	{ "trans", "bios-chs-trans", PROP_CHOICE, \
	  (at) + offsetof(struct drive_geometry, translation), .words = ide_translations, \
	  .help = "how the BIOS makes its own geometry of it" }

struct drive_config {
	struct drive_geometry geometry;
	char *id, *file, *serial;		/* file NULL: a drive without a medium */
	enum drive_if interface;
	bool cdrom;
	int index;				/* IDE: channel * 2 + unit; -1: next free */
	struct blk_options open;		/* follows from what is below (config_drive_open) */
	int rerror, werror;			/* enum blk_on_error */
	struct blk_throttle throttle;
	int bootindex;				/* -1: none */
	char *format, *secret_file;		/* open.format and open.secret_file point here */
	/* as the words of -drive have them */
	int if_word, media, bus, unit, cache, aio, discard, zeroes;
	bool readonly, snapshot;
	uint64_t l2_cache_size;
	/* blockdev-add: stays when its device is taken out */
	bool keep;
};

/* A network backend: spec as net_open takes it. */
struct net_config {
	char *id, *spec;
	int vlan;				/* old -net pairing; -1: -netdev */
};

struct config {
	const struct device_kind *const *kinds;	/* of devices there are; ends with NULL */
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
	bool acpi, pit, hpet;			/* hpet: accepted, there is none */
	char *accel, *rtc_text, *rtc_driftfix;	/* as they were said */
	unsigned ram_slots;			/* accepted */
	/* default: unless nobody looks */
	enum { CONFIG_VGA_DEFAULT, CONFIG_VGA_STD, CONFIG_VGA_NONE } vga;
	/* -global KIND.PROP=VALUE: for the devices of that kind that do not say it themselves */
	struct { const struct device_kind *kind; const struct prop *prop; char *value;
	} globals[CONFIG_MAX_GLOBALS];
	unsigned nglobals;
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
	/* where names inside images may lead to; not saved: whoever starts a machine says it */
	char *image_dirs[CONFIG_MAX_IMAGE_DIRS];
	unsigned nimage_dirs;
	/* parts */
	struct drive_config drives[CONFIG_MAX_DRIVES];
	unsigned ndrives;
	struct net_config nets[CONFIG_MAX_NETS];
	unsigned nnets;
	struct device_config *devices[CONFIG_MAX_DEVICES];	/* in order: slots follow from it */
	unsigned ndevices;
	char *serial[CONFIG_MAX_SERIAL];	/* chardev specs */
	unsigned nserial;
	/* -chardev; spec: as -serial takes it; arg: as it was given */
	struct { char *id, *spec, *arg; } chardevs[16];
	unsigned nchardevs;
	bool nodefaults, snapshot;
	/* how to run */
	char *display, *vnc, *keymap;		/* NULL: none */
	bool nographic;
	char *monitor, *qmp, *gdb, *incoming, *loadvm, *verify;
	/* -loadvm FILE,strict=on, -incoming file:FILE,strict=on: a changed disk is refused */
	bool strict;
	bool dump_config;			/* print the words, and end */
	bool paused;				/* -S */
	bool no_reboot, no_shutdown, daemonize;
	unsigned timeout, idle_timeout;		/* seconds; 0: none */
	unsigned shutdown_timeout;		/* seconds; 0: the button is not tried */
	char *pidfile, *logfile, *trace, *dumpdtb;
	char *unsupported;			/* -soundhw, -usb: said in one line at start */
};

/* kinds: what -device may name; they stay the caller's. */
void config_init(struct config *c, const struct device_kind *const *kinds);
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
/* The entry goes; what it pointed to is freed. The others stay where they are. */
void config_remove_drive(struct drive_config *d);
void config_remove_net(struct net_config *n);
void config_remove_device(struct config *c, struct device_config *d);
/*
 * "virtio-blk-pci,drive=d0,...": an entry from text, as -device and device_add have it. NULL with
 * the reason.
 */
struct device_config *config_parse_device(struct config *c, const char *spec, struct err *err);
/* The same without "-device ..." before the reason: for entries that other options ask for. */
struct device_config *config_add_device(struct config *c, const char *spec, struct err *err);
/* Such an entry, with one text property; the commas of value need no doubling. */
struct device_config *config_add_device_with(struct config *c, const char *kind, const char *key,
					     const char *value, struct err *err);
struct drive_config *config_parse_drive(struct config *c, const char *spec, struct err *err);
/* The properties of -drive. */
extern const struct prop drive_props[];
/* open, from the words of the entry. */
void config_drive_open(struct drive_config *d);

/* --- the command line (options.c) --- */
/*
 * Fills in c; a positional argument is a disk image. 0, -errno with the reason, or 1: the answer
 * was printed (-h, -version): exit 0.
 */
int options_parse(struct config *c, int argc, char **argv, struct err *err);
/*
 * Whether -NAME stands on the command line, and the argument of its last one (may be NULL, and is
 * left alone without one). Nothing is checked or printed.
 */
bool options_find(int argc, char *const argv[], const char *name, const char **value);

/* A command line: words of which each belongs to its list. */
struct words { char **word; unsigned n; };
void words_flag(struct words *w, const char *option);		/* -option */
/* -option text; takes text over. NULL: nothing. */
void words_add(struct words *w, const char *option, char *text);
void words_free(struct words *w);
/*
 * The words that make the same machine: everything is named, so that neither defaults nor order
 * matter. What belongs to one start alone (-S, -incoming, -loadvm) and passwords are not among
 * them.
 */
void config_words(const struct config *c, struct words *w);
/* As text for a shell, an option a line; allocated. */
char *words_text(const struct words *w);

/* -chardev KIND,id=ID,... 0 or -errno with the reason. */
int config_add_chardev(struct config *c, const char *arg, struct err *err);
/*
 * What stands behind "chardev:ID" or "ID": a -chardev's short form; name itself when none has that
 * id. Belongs to c.
 */
const char *config_chardev_spec(const struct config *c, const char *name);

#endif
