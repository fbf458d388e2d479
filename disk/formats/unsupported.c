/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * unsupported.c: formats that are recognised only to be refused by name: taken for raw, such a disk
 * would be garbage to its guest, and a write would destroy it; and QEMU's drivers that are not
 * here. Opening thread.
 */
#include <errno.h>
#include <strings.h>

#include "disk/formats.h"

static int bochs_probe(const uint8_t *head, size_t len, uint64_t file_size, const char *filename)
{
	return len >= 80 && !memcmp(head, "Bochs Virtual HD Image", 22) ? 100 : 0;
}

static int ewf_probe(const uint8_t *head, size_t len, uint64_t file_size, const char *filename)
{
	return len >= 13 && !memcmp(head, "EVF\t\r\n\377\0", 8) ? 100 : 0;
}

static int sparseimage_probe(const uint8_t *head, size_t len, uint64_t file_size,
			     const char *filename)
{
	return len >= 64 && !memcmp(head, "sprs", 4) && ld_be32(head + 4) == 3 ? 100 : 0;
}

/* An Apple image shows itself only at its end; its name has to do, as in qemu-img. */
static int dmg_probe(const uint8_t *head, size_t len, uint64_t file_size, const char *filename)
{
	size_t n = strlen(filename);

	return n > 4 && !strcasecmp(filename + n - 4, ".dmg") ? 2 : 0;
}

static int refuse(struct node *n, const struct blk_options *o, struct err *err)
{
	return err_set(
		err, ENOTSUP, "'%s' is a %s image, a format that is not supported here%s",
		n->filename, n->ops->format,
		!strcmp(n->ops->format, "dmg") ||
				!strcmp(n->ops->format, "bochs")
			? ": 'qemu-img convert -O qcow2' makes one that is (or give the format raw)"
			: " (give the format raw to see its bytes)");
}

const struct node_ops bochs_ops = { .format = "bochs", .probe = bochs_probe, .open = refuse };
const struct node_ops ewf_ops = { .format = "ewf", .probe = ewf_probe, .open = refuse };
const struct node_ops sparseimage_ops = { .format = "sparseimage",
					  .probe = sparseimage_probe,
					  .open = refuse };
const struct node_ops dmg_ops = { .format = "dmg", .probe = dmg_probe, .open = refuse };

/* QEMU 7.2's drivers that minivmm has not, each with what does its work here. */
static const struct { const char *driver, *prefix, *why;
} absent[] = {
	{ "blkdebug", "blkdebug:", "it makes errors for tests of QEMU" },
	{ "blklogwrites", NULL,
	  "it logs writes for tests of file systems; the kernel's dm-log-writes does" },
	{ "blkreplay", NULL, "it belongs to QEMU's record and replay" },
	{ "blkverify",
	  "blkverify:", "it compares two images at each read; 'compare' does afterwards" },
	{ "compress", NULL, "convert -c writes compressed images" },
	{ "copy-before-write", NULL, "the backup job of the control socket does its work" },
	{ "copy-on-read", NULL,
	  "the stream job of the control socket, or rebase, copies what lies below" },
	{ "ftp", "ftp://", "fetch the file first, with curl" },
	{ "ftps", "ftps://", "fetch the file first, with curl" },
	{ "gluster",
	  "gluster:", "mount the volume, or serve the image with qemu-nbd and open nbd://" },
	{ NULL, "gluster+", "mount the volume, or serve the image with qemu-nbd and open nbd://" },
	{ "iscsi", "iscsi:", "log in with iscsiadm and give the block device" },
	{ "iser", "iser:", "log in with iscsiadm and give the block device" },
	{ "nfs", "nfs:", "mount the share and give the file" },
	{ "nvme", "nvme://", "give the kernel's block device, /dev/nvme0n1" },
	{ "io_uring", NULL, "files and block devices are read by io_uring anyway" },
	{ "preallocate", NULL, "-o preallocation= at create, or --preallocation at resize" },
	{ "quorum", NULL, "a RAID of the host (mdadm, LVM) keeps several copies" },
	{ "rbd", "rbd:",
	  "map it with 'rbd map' and give /dev/rbdN, or serve it with qemu-nbd and open nbd://" },
	{ "replication", NULL,
	  "the mirror job of the control socket, to nbd://, copies a disk while it is used" },
	{ "snapshot-access", NULL, "convert -l SNAPSHOT reads an internal snapshot" },
	{ "ssh",
	  "ssh:", "mount the folder with sshfs, or serve the image with qemu-nbd and open nbd://" },
	{ "sheepdog", "sheepdog:", "QEMU has given it up, too" },
	{ "throttle", NULL,
	  "convert -r limits the rate; a machine's disk takes throttling.bps-total= and its kin" },
	{ "virtio-blk-vfio-pci", NULL, "give the kernel's block device" },
	{ "virtio-blk-vhost-user", NULL, "serve the image with qemu-nbd and open nbd://" },
	{ "virtio-blk-vhost-vdpa", NULL, "give the kernel's block device" },
	{ "vvfat", "fat:", "make an image with mkfs.vfat and mcopy, or share the folder by 9p" },
};

const char *driver_refusal(const char *driver)
{
	for (unsigned i = 0; i < ARRAY_SIZE(absent); i++)
		if (absent[i].driver && !strcmp(absent[i].driver, driver))
			return absent[i].why;
	return NULL;
}

int protocol_refuse(const char *filename, bool fresh, struct err *err)
{
	size_t len = strcspn(filename, ":/");

	if (filename[len] != ':' || !strncmp(filename, "file:", 5))
		return 0;
	for (unsigned i = 0; i < ARRAY_SIZE(absent); i++)
		if (absent[i].prefix &&
		    !strncmp(filename, absent[i].prefix, strlen(absent[i].prefix)))
			return err_set(err, EINVAL, "Unknown protocol '%.*s': %s", (int)len,
				       filename, absent[i].why);
	return fresh ? err_set(err, EINVAL, "Unknown protocol '%.*s'; a file of that name is ./%s",
			       (int)len, filename, filename)
		     : 0;
}
