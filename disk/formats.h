/* SPDX-License-Identifier: GPL-2.0-or-later */
/* formats.h: the formats and protocols by name; only disk/ itself looks here. */
#ifndef DISK_FORMATS_H
#define DISK_FORMATS_H

#include "disk/node.h"

extern const struct node_ops file_ops, raw_ops, qcow2_ops;
extern const struct node_ops vmdk_ops, vdi_ops, vpc_ops, vhdx_ops, qcow1_ops, qed_ops,
	parallels_ops, cow_ops, cloop_ops, luks_ops;
/* Known, and refused: no read. */
extern const struct node_ops bochs_ops, ewf_ops, sparseimage_ops, dmg_ops;
extern const struct node_ops nbd_protocol, http_protocol, null_protocol;
/* The options of create that every format has, because the host's file system takes them. */
extern const struct node_opt file_hint_opts[];
bool file_hint_is(const char *opt);
/*
 * Makes the empty file with what they say. Nothing to do when none is given. 0, or -errno with the
 * reason.
 */
int file_hints_apply(const struct node_create *c, struct err *err);
/*
 * Why a driver that QEMU has is not here, and what to do instead. NULL: no such driver is known, or
 * it is here.
 */
const char *driver_refusal(const char *driver);
/*
 * Does a name begin with a protocol that is not here ("ssh://", "rbd:", "foo:")? fresh: no such
 * file is there. 0, or -EINVAL with the reason; "file:" and "./" make a file of any name.
 */
int protocol_refuse(const char *filename, bool fresh, struct err *err);

#endif
