/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * file_hints.c: the options of create that are for the host's file system: nocow (btrfs) and
 * extent_size_hint (xfs). They are set while the new file is empty, as those file systems want it;
 * others ignore them, and so do we. Opening thread.
 */
#include <errno.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "disk/formats.h"

const struct node_opt file_hint_opts[] = {
	{ "extent_size_hint", "size", "Extent size hint for the image file, 0 to disable", NULL,
	  OPT_CREATE },
	{ "nocow", "bool (on/off)", "Turn off copy-on-write (valid only on btrfs)", NULL,
	  OPT_CREATE },
	{ NULL, NULL, NULL, NULL, OPT_CREATE },
};

bool file_hint_is(const char *opt)
{
	size_t len = strcspn(opt, "=");

	for (const struct node_opt *o = file_hint_opts; o->name; o++)
		if (strlen(o->name) == len && !strncmp(o->name, opt, len))
			return true;
	return false;
}

int file_hints_apply(const struct node_create *c, struct err *err)
{
	uint64_t size = 0;
	bool nocow = false, sized = node_create_opt(c->opts, "extent_size_hint") != NULL;
	struct fsxattr x;
	struct node *f;
	int flags, ret;

	ret = node_create_opt_size(c->opts, "extent_size_hint", 0, &size, err);
	if (!ret)
		ret = node_create_opt_bool(c->opts, "nocow", false, &nocow, err);
	if (!ret && size > UINT32_MAX)
		ret = err_set(err, EINVAL, "Extent size hint is too large");
	if (ret || (!sized && !nocow))
		return ret;
	f = node_create_file(c->filename, 0, c->host, err);
	if (!f)
		return -EIO;
	if (f->fd >= 0 && nocow && !ioctl(f->fd, FS_IOC_GETFLAGS, &flags)) {
		flags |= FS_NOCOW_FL;
		ioctl(f->fd, FS_IOC_SETFLAGS, &flags);
	}
	if (f->fd >= 0 && sized && !ioctl(f->fd, FS_IOC_FSGETXATTR, &x)) {
		x.fsx_xflags = size ? x.fsx_xflags | FS_XFLAG_EXTSIZE
				    : x.fsx_xflags & ~FS_XFLAG_EXTSIZE;
		x.fsx_extsize = size;
		ioctl(f->fd, FS_IOC_FSSETXATTR, &x);
	}
	node_unref(f);
	return 0;
}
