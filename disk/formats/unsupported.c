/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * unsupported.c: formats that are recognised only to be refused by name: taken for raw, such a disk
 * would be garbage to its guest, and a write would destroy it. Opening thread.
 */
#include <errno.h>
#include <strings.h>

#include "disk/formats.h"

static int qed_probe(const uint8_t *head, size_t len, uint64_t file_size, const char *filename)
{
	return len >= 64 && !memcmp(head, "QED\0", 4) ? 100 : 0;
}

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
		!strcmp(n->ops->format, "qed") || !strcmp(n->ops->format, "dmg") ||
				!strcmp(n->ops->format, "bochs")
			? ": 'qemu-img convert -O qcow2' makes one that is (or give the format raw)"
			: " (give the format raw to see its bytes)");
}

const struct node_ops qed_ops = { .format = "qed", .probe = qed_probe, .open = refuse };
const struct node_ops bochs_ops = { .format = "bochs", .probe = bochs_probe, .open = refuse };
const struct node_ops ewf_ops = { .format = "ewf", .probe = ewf_probe, .open = refuse };
const struct node_ops sparseimage_ops = { .format = "sparseimage",
					  .probe = sparseimage_probe,
					  .open = refuse };
const struct node_ops dmg_ops = { .format = "dmg", .probe = dmg_probe, .open = refuse };
