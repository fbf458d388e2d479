/* SPDX-License-Identifier: GPL-2.0-or-later */
/* formats.c: the two tables: every format in probing order, and every protocol. */
#include "disk/formats.h"

const struct node_ops *const node_formats[] = {
	&qcow2_ops,
	&vmdk_ops,
	&vdi_ops,
	&vpc_ops,
	&vhdx_ops,
	&qcow1_ops,
	&parallels_ops,
	&cow_ops,
	&cloop_ops,
	&luks_ops,
	&qed_ops,
	&bochs_ops,
	&ewf_ops,
	&sparseimage_ops,
	&dmg_ops,
	&raw_ops,		/* last: takes anything */
	NULL,
};

const struct node_ops *const node_protocols[] = {
	&nbd_protocol,
	&http_protocol,
	&null_protocol,
	&file_ops,		/* last: takes any name */
	NULL,
};
