/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * config_parse.c: -drive: text into an entry. The control socket's blockdev commands come through
 * here too.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/config/config.h"

static const char *const ifs[] = { "virtio", "ide", "none", "pflash", NULL };
static const char *const media[] = { "disk", "cdrom", NULL };
static const char *const caches[] = { "writeback", "none", "writethrough", "unsafe", "directsync",
				      NULL };
static const char *const aios[] = { "threads", "io_uring", "native", NULL };
static const char *const discards[] = { "unmap", "on", "ignore", "off", NULL };
static const char *const zeroes[] = { "off", "on", "unmap", NULL };
static const char *const policies[] = { "report", "ignore", "stop", "enospc", NULL };

const char *const ide_translations[] = { "auto", "none", "lba", "large", "rechs", NULL };

#define D(member) .offset = offsetof(struct drive_config, member)
#define LIMIT(kind, word, long_word, what)                                                         \
	{ word, "throttling." long_word, PROP_SIZE, D(throttle.limit[kind].rate),                  \
	  .help = what },                                                                          \
	{ word "_max", "throttling." long_word "-max", PROP_SIZE, D(throttle.limit[kind].max),     \
	  .help = "a higher speed for a burst after a rest" },                                     \
	{ word "_max_length", "throttling." long_word "-max-length", PROP_SIZE,                    \
	  D(throttle.limit[kind].length), .value = "SECONDS",                                      \
	  .help = "how long such a burst may last; 1" }

const struct prop drive_props[] = {
	{ "file", NULL, PROP_STRING, D(file), .value = "FILE",
	  .help = "the image, block device or address (nbd://, http://); the word alone means "
		  "this" },
	{ "format", NULL, PROP_STRING, D(format), .value = "NAME",
	  .help = "raw, qcow2, vmdk ...; left out: as the file looks. Say raw for a disk whose "
		  "guest is not trusted" },
	{ "if", NULL, PROP_CHOICE, D(if_word), .def = -1, .words = ifs,
	  .help = "how the guest sees it; none: a -device names it by its id" },
	{ "media", NULL, PROP_CHOICE, D(media), .words = media,
	  .help = "a CD drive is an IDE one" },
	{ "index", NULL, PROP_INDEX, D(index), .max = 1023,
	  .help = "its place among the IDE or virtio disks" },
	{ "bus", NULL, PROP_INDEX, D(bus), .max = 1, .help = "the same in two parts: channel" },
	{ "unit", NULL, PROP_INDEX, D(unit), .max = 1023, .help = "and place on the channel" },
	{ "bootindex", NULL, PROP_BOOTINDEX, D(bootindex), .max = 1023,
	  .help = "the firmware tries the lowest first" },
	{ "serial", NULL, PROP_STRING, D(serial),
	  .help = "the serial number that the guest reads" },
	PROP_GEOMETRY(offsetof(struct drive_config, geometry)),
	{ "readonly", "read-only", PROP_BOOL, D(readonly), .help = "the guest cannot write" },
	{ "snapshot", NULL, PROP_BOOL, D(snapshot),
	  .help = "writes go to an unlinked temporary file; \"commit\" in the monitor keeps them" },
	{ "cache", NULL, PROP_CHOICE, D(cache), .words = caches,
	  .help = "writeback (default): the host's page cache, and the guest's flushes reach the "
		  "disk; none: past the cache; writethrough, directsync: each write reaches the "
		  "disk; unsafe: flushes are ignored" },
	{ "aio", NULL, PROP_CHOICE, D(aio), .words = aios,
	  .help = "accepted; io_uring where the kernel allows it, else threads" },
	{ "discard", NULL, PROP_CHOICE, D(discard), .words = discards, .value = "unmap|ignore",
	  .help = "what the guest discards is given back to the host (default), or kept" },
	{ "detect-zeroes", NULL, PROP_CHOICE, D(zeroes), .words = zeroes,
	  .help = "written zeroes become holes" },
	{ "l2-cache-size", NULL, PROP_SIZE, D(l2_cache_size), .help = "memory for qcow2's tables" },
	{ "secret-file", NULL, PROP_STRING, D(secret_file), .value = "FILE",
	  .help = "the passphrase of an encrypted image" },
	{ "werror", NULL, PROP_CHOICE, D(werror), .def = BLK_ERR_ENOSPC, .words = policies,
	  .help = "when a write fails: the guest is told, or not, or the machine stops and "
		  "\"cont\" tries again (enospc, the default: stops when the disk is full, else "
		  "reports)" },
	{ "rerror", NULL, PROP_CHOICE, D(rerror), .def = BLK_ERR_REPORT, .words = policies,
	  .help = "when a read fails" },
	LIMIT(LIMIT_BPS, "bps", "bps-total", "limit in bytes a second"),
	LIMIT(LIMIT_BPS_RD, "bps_rd", "bps-read", "of reads"),
	LIMIT(LIMIT_BPS_WR, "bps_wr", "bps-write", "of writes"),
	LIMIT(LIMIT_IOPS, "iops", "iops-total", "limit in requests a second"),
	LIMIT(LIMIT_IOPS_RD, "iops_rd", "iops-read", "of reads"),
	LIMIT(LIMIT_IOPS_WR, "iops_wr", "iops-write", "of writes"),
	{ "iops_size", "throttling.iops-size", PROP_SIZE, D(throttle.iops_size), .value = "BYTES",
	  .help = "a bigger request counts as several" },
	{ 0 },
};

void config_drive_open(struct drive_config *d)
{
	static const unsigned cache_flags[] = { 0, BLK_NOCACHE, BLK_WRITETHROUGH, BLK_UNSAFE,
						BLK_NOCACHE | BLK_WRITETHROUGH };

	d->open.format = d->format;
	d->open.secret_file = d->secret_file;
	d->open.l2_cache_size = d->l2_cache_size;
	d->open.flags = cache_flags[d->cache] | (d->readonly || d->cdrom ? 0 : BLK_RDWR) |
			(d->snapshot ? BLK_SNAPSHOT : 0) |
			(d->discard >= 2 ? 0 : BLK_DISCARD_UNMAP) |
			(d->zeroes ? BLK_DETECT_ZEROES : 0);
}

static int parse_drive(struct drive_config *d, struct keyval *kv, struct err *err)
{
	if (props_take(drive_props, d, kv, err) < 0 || blk_throttle_check(&d->throttle, err) < 0)
		return -EINVAL;
	d->cdrom = d->media == 1;
	/* A CD drive is an IDE one: firmware and old systems know no other. */
	d->interface = d->if_word >= 0 ? (enum drive_if)d->if_word : d->cdrom ? IF_IDE : IF_VIRTIO;
	if (d->index < 0 && d->unit >= 0)
		d->index = MAX(d->bus, 0) * 2 + d->unit;
	config_drive_open(d);
	return 0;
}

struct new_drive { struct config *c; struct drive_config *d; };

static int take_drive(struct keyval *kv, void *ctx, struct err *err)
{
	struct new_drive *n = ctx;

	n->d = config_add_drive(n->c, keyval_get(kv, "id"), err);
	return n->d ? parse_drive(n->d, kv, err) : -EINVAL;
}

struct drive_config *config_parse_drive(struct config *c, const char *spec, struct err *err)
{
	struct new_drive n = { c, NULL };

	if (keyval_use(spec, "file", take_drive, &n, err) == 0) {
		if (n.d->file || n.d->cdrom)
			return n.d;
		err_set(err, EINVAL, "file= is missing");
	}
	err_prefix(err, "-drive %s", spec);
	if (n.d)
		config_remove_drive(n.d);
	return NULL;
}
