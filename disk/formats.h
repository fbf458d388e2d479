/* SPDX-License-Identifier: GPL-2.0-or-later */
/* formats.h: the formats and protocols by name; only disk/ itself looks here. */
#ifndef DISK_FORMATS_H
#define DISK_FORMATS_H

#include "disk/node.h"

extern const struct node_ops file_ops, raw_ops, qcow2_ops;
extern const struct node_ops vmdk_ops, vdi_ops, vpc_ops, vhdx_ops, qcow1_ops, parallels_ops,
	cow_ops, cloop_ops, luks_ops;
/* Known, and refused: no read. */
extern const struct node_ops qed_ops, bochs_ops, ewf_ops, sparseimage_ops, dmg_ops;
extern const struct node_ops nbd_protocol, http_protocol;

#endif
