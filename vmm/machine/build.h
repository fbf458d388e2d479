/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * build.h: what the rows share that need the machine (build_*.c): common properties, and the
 * steps from an entry to a device in its place. Main thread, before the guest runs or in an
 * exclusive section.
 */
#ifndef VMM_MACHINE_BUILD_H
#define VMM_MACHINE_BUILD_H

#include "vmm/machine/machine.h"

/* --- properties --- */
#define PROP_BOOT(type)                                                                            \
	{ "bootindex", NULL, PROP_BOOTINDEX, offsetof(type, bootindex), .max = 1023,               \
	  .help = "the firmware tries the lowest first" }
#define PROP_QUEUES(type)                                                                          \
	{ "num-queues", "queues", PROP_NUMBER, offsetof(type, queues), .max = 64,                  \
	  .help = "how many queues, or pairs of them" },                                           \
	{ "queue-size", NULL, PROP_NUMBER, offsetof(type, queue_size), .min = 4, .max = 1024,      \
	  .power_of_2 = true, .help = "entries of a queue" },                                      \
	{ "packed", NULL, PROP_BOOL, offsetof(type, packed), .help = "offer packed queues" }

/* Of a struct pci_entry. */
extern const struct prop build_pci_props[];

/* --- steps --- */
/*
 * The PCI address asked for, or the lowest free slot from first on, which the entry says from now
 * on. 0 or -errno with the reason.
 */
int build_slot(struct machine *m, struct device_config *d, unsigned first, unsigned *devfn,
	       struct err *err);
/* A slot for an ordinary card. */
int build_pci_slot(struct machine *m, struct device_config *d, unsigned *devfn, struct err *err);
/* Records the device: the machine owns it. dev NULL: -EINVAL, the reason is there. */
int build_done(struct machine *m, struct device_config *d, struct device *dev);
/*
 * A virtio device behind the transport of this machine. Takes v (NULL: the reason is there) and its
 * threads (NULL: none) over, also on failure.
 */
int build_virtio(struct machine *m, struct device_config *d, struct virtio_dev *v,
		 struct queue_threads *threads, struct err *err);
/* n threads named after the device; patient: as loop_set_patient. 0 or -errno with the reason. */
int build_threads(struct machine *m, struct queue_threads *t, const char *id, unsigned n,
		  bool patient, struct err *err);
/*
 * The drive of that id (NULL: "") with its medium; a drive without one: NULL with the reason, too.
 */
struct machine_drive *build_drive(struct machine *m, const struct device_config *d, const char *id,
				  struct err *err);
/*
 * A stream for a console or debug port; belongs to the machine. *chr NULL: "none". 0 or -errno with
 * the reason.
 */
int build_chardev(struct machine *m, const struct device_config *d, const char *spec,
		  struct chardev **chr, struct err *err);
/* "/pci@i0cf8/NAME@SLOT/REST", or NULL: the device is in no slot. Allocated. */
char *build_pci_path(struct machine *m, const struct device_config *d, const char *name,
		     const char *rest);

#endif
