/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * device_kind.h: one row per kind of device. The row is all there is to say about it outside of its
 * own file: names, properties, how it is built, what firmware and ACPI hear of it. Parsing, help,
 * the man page, the control socket, hot-plug, ACPI tables and boot order read the rows; none of
 * them names a device. A row stands in the device's own file, or in vmm/machine/build_*.c when it
 * needs the machine; device_kinds.c lists them. Here they are data, and a machine is a name.
 */
#ifndef VMM_CONFIG_DEVICE_KIND_H
#define VMM_CONFIG_DEVICE_KIND_H

#include "vmm/config/prop.h"

struct acpi_part;
struct board;
struct device;
struct device_config;
struct machine;

enum machine_type { MACHINE_PC, MACHINE_MICRO };
#define ON_PC (1u << MACHINE_PC)
#define ON_MICRO (1u << MACHINE_MICRO)

struct device_kind {
	const char *name, *aliases[3];	/* aliases: others in wide use */
	const char *help;
	unsigned machines;		/* ON_PC, ON_MICRO */
	bool hotplugs;			/* may come and go while the guest runs */
	/*
	 * The kind's own structure, which begins with a struct device_config, and the properties
	 * that fill it.
	 */
	size_t size;
	const struct prop *props;
	/*
	 * One of these builds the device: at boot, hot-plug and restore. Main thread, before the
	 * guest runs or with all parked. make is for a device that needs no more than the board
	 * (devices/device.h); its slot, if it has one, is chosen. NULL with the reason.
	 */
	struct device *(*make)(const struct board *b, const struct device_config *d,
			       struct err *err);
	/*
	 * build is for one that needs a backend, or is needed by others. What the entry left open
	 * (slot, MAC) is filled in. 0 or -errno with the reason.
	 */
	int (*build)(struct machine *m, struct device_config *d, struct err *err);
	const struct acpi_part *acpi;	/* what the tables say of it (bios/boot.h), or NULL */
	/* OpenFirmware path for bootindex=, allocated; the function NULL: nothing boots from it. */
	char *(*boot_path)(struct machine *m, const struct device_config *d);
	const char *rom;		/* network boot ROM, or NULL */
	uint16_t port;			/* an ISA device's usual port; 0: none */
};

/* --- for the rows --- */
#define PROP_PCI_ADDR(type)                                                                        \
	{ "addr", NULL, PROP_PCI, offsetof(type, addr), .help = "its PCI slot; the next free one" }
/* There is one bus. */
#define PROP_PCI_BUS                                                                               \
	{ "bus", NULL, PROP_FIXED, .words = (const char *const[]){ "pci.0", "pci", NULL },         \
	  .help = "there is no other" }
#define PROP_PORT(type, member)                                                                    \
	{ "iobase", NULL, PROP_NUMBER, offsetof(type, member), .max = 0xffff, .hex = true,         \
	  .value = "PORT", .help = "where it is" }

/* What every entry has. */
struct device_config {
	const struct device_kind *kind;
	char *id;
	int vlan;			/* nic of the old -net; -1: its netdev= names the backend */
	bool any_model;			/* a nic whose model config_finish chooses */
};

/* A PCI function without more to say. */
struct pci_entry {
	struct device_config base;
	struct prop_pci addr;
};

/* --- what follows from a row --- */
/* The value of the first property of that type, in the entry's structure; NULL: it has none. */
void *device_prop(const struct device_config *d, enum prop_type t);
/* The id of the drive or network behind it, or NULL. */
const char *device_backend(const struct device_config *d);
bool device_is_nic(const struct device_config *d);
/* "virtio-blk,id=d0,drive=disk": makes the same entry; allocated. */
char *device_text(const struct device_config *d);
/* The kind that has that name or alias in a list that ends with NULL, or NULL. */
const struct device_kind *device_kind_find(const struct device_kind *const *kinds,
					   const char *name);

/* A line a device with its properties, for -device help and for the man page. */
void device_kinds_help(const struct device_kind *const *kinds);
void device_kinds_man(const struct device_kind *const *kinds);
/* -device NAME,help: each property. */
void device_kind_help(const struct device_kind *k);

#endif
