/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * config_parse.c: -drive and -device: text into entries. The control socket's device_add and
 * blockdev commands come through here too.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/base/nearest.h"
#include "vmm/config/config.h"
#include "vmm/config/keyval.h"

/* --- drives --- */

static int parse_cache(struct keyval *kv, struct drive_config *d, struct err *err)
{
	static const char *const modes[] = { "writeback", "none",	"writethrough",
					     "unsafe",	  "directsync", NULL };
	static const unsigned flags[] = { 0, BLK_NOCACHE, BLK_WRITETHROUGH, BLK_UNSAFE,
					  BLK_NOCACHE | BLK_WRITETHROUGH };
	int mode = 0;

	if (keyval_choice(kv, "cache", modes, &mode, err) < 0)
		return -EINVAL;
	d->open.flags |= flags[mode];
	return 0;
}

static int parse_errors(struct keyval *kv, struct drive_config *d, struct err *err)
{
	static const char *const words[] = { "report", "ignore", "stop", "enospc", NULL };
	int w = d->werror, r = d->rerror;

	if (keyval_choice(kv, "werror", words, &w, err) < 0 ||
	    keyval_choice(kv, "rerror", words, &r, err) < 0)
		return -EINVAL;
	d->werror = w;
	d->rerror = r;
	return 0;
}

static int parse_throttle(struct keyval *kv, struct blk_throttle *t, struct err *err)
{
#define LIMIT(kind, name, long_name)                                                               \
	{ { name, "throttling." long_name }, offsetof(struct blk_throttle, limit[kind].rate) },    \
		{ { name "_max", "throttling." long_name "-max" },                                 \
		  offsetof(struct blk_throttle, limit[kind].max) },                                \
	{                                                                                          \
		{ name "_max_length", "throttling." long_name "-max-length" },                     \
			offsetof(struct blk_throttle, limit[kind].length)                          \
	}
	static const struct { const char *names[2]; size_t offset;
	} limits[] = {
		LIMIT(LIMIT_BPS, "bps", "bps-total"),
		LIMIT(LIMIT_BPS_RD, "bps_rd", "bps-read"),
		LIMIT(LIMIT_BPS_WR, "bps_wr", "bps-write"),
		LIMIT(LIMIT_IOPS, "iops", "iops-total"),
		LIMIT(LIMIT_IOPS_RD, "iops_rd", "iops-read"),
		LIMIT(LIMIT_IOPS_WR, "iops_wr", "iops-write"),
		{ { "iops_size", "throttling.iops-size" },
		  offsetof(struct blk_throttle, iops_size) },
	};
#undef LIMIT

	for (size_t i = 0; i < ARRAY_SIZE(limits); i++)
		for (int n = 0; n < 2; n++)
			if (keyval_size(kv, limits[i].names[n], 1,
					(uint64_t *)((char *)t + limits[i].offset), err) < 0)
				return -EINVAL;
	return blk_throttle_check(t, err);
}

static int parse_position(struct keyval *kv, struct drive_config *d, struct err *err)
{
	static const char *const ifs[] = { "virtio", "ide", "none", "pflash", NULL };
	static const char *const media[] = { "disk", "cdrom", NULL };
	int interface = -1, medium = 0;
	uint64_t index = ~0ull, bus = 0, unit = ~0ull, boot = ~0ull;

	if (keyval_choice(kv, "if", ifs, &interface, err) < 0 ||
	    keyval_choice(kv, "media", media, &medium, err) < 0 ||
	    keyval_u64(kv, "index", 1023, &index, err) < 0 ||
	    keyval_u64(kv, "bus", 1, &bus, err) < 0 ||
	    keyval_u64(kv, "unit", 1023, &unit, err) < 0 ||
	    keyval_u64(kv, "bootindex", 1023, &boot, err) < 0)
		return -EINVAL;
	d->cdrom = medium == 1;
	/* A CD drive is an IDE one: firmware and old systems know no other. */
	d->interface = interface >= 0 ? (enum drive_if)interface : d->cdrom ? IF_IDE : IF_VIRTIO;
	d->index = index != ~0ull ? (int)index : unit != ~0ull ? (int)(bus * 2 + unit) : -1;
	d->bootindex = boot == ~0ull ? -1 : (int)boot;
	return 0;
}

static int parse_drive(struct drive_config *d, struct keyval *kv, struct err *err)
{
	static const char *const aio[] = { "threads", "io_uring", "native", NULL };
	static const char *const discard[] = { "unmap", "on", "ignore", "off", NULL };
	static const char *const zeroes[] = { "off", "on", "unmap", NULL };
	bool readonly = false, snapshot = false;
	int aio_mode = 0, discard_mode = 0, zero_mode = 0;

	if (keyval_bool(kv, "readonly", &readonly, err) < 0 ||
	    keyval_bool(kv, "read-only", &readonly, err) < 0 ||
	    keyval_bool(kv, "snapshot", &snapshot, err) < 0 ||
	    keyval_choice(kv, "aio", aio, &aio_mode, err) < 0 ||
	    keyval_choice(kv, "discard", discard, &discard_mode, err) < 0 ||
	    keyval_choice(kv, "detect-zeroes", zeroes, &zero_mode, err) < 0 ||
	    keyval_size(kv, "l2-cache-size", 1, &d->open.l2_cache_size, err) < 0 ||
	    parse_position(kv, d, err) < 0 || parse_cache(kv, d, err) < 0 ||
	    parse_errors(kv, d, err) < 0 || parse_throttle(kv, &d->throttle, err) < 0)
		return -EINVAL;
	d->file = keyval_dup(kv, "file");
	d->serial = keyval_dup(kv, "serial");
	d->format = keyval_dup(kv, "format");
	d->secret_file = keyval_dup(kv, "secret-file");
	d->open.format = d->format;
	d->open.secret_file = d->secret_file;
	if (readonly || d->cdrom)
		d->open.flags &= ~BLK_RDWR;
	if (snapshot)
		d->open.flags |= BLK_SNAPSHOT;
	if (discard_mode >= 2)
		d->open.flags &= ~BLK_DISCARD_UNMAP;
	if (zero_mode)
		d->open.flags |= BLK_DETECT_ZEROES;
	if (!d->file && !d->cdrom)
		return err_set(err, EINVAL, "file= is missing");
	return 0;
}

struct drive_config *config_parse_drive(struct config *c, const char *spec, struct err *err)
{
	struct drive_config *d;
	struct keyval kv;
	int ret;

	if (keyval_parse(&kv, spec, "file", err) < 0)
		return NULL;
	d = config_add_drive(c, keyval_get(&kv, "id"), err);
	ret = d ? parse_drive(d, &kv, err) : -EINVAL;
	if (ret == 0)
		ret = keyval_finish(&kv, err);
	if (ret < 0)
		err_prefix(err, "-drive %s", spec);
	if (ret < 0 && d)
		config_remove_drive(d);
	keyval_free(&kv);
	return ret < 0 ? NULL : d;
}

/* --- devices --- */

enum { P_DRIVE = 1, P_NETDEV = 2, P_CHARDEV = 4, P_QUEUES = 8, P_IOBASE = 16, P_9P = 32, P_IDE = 64,
       P_SERIAL = 128,
       P_IOTHREAD = 256, P_PCI = 512, P_HOT = 1024, P_GUID = 4096 };

static const struct {
	/* the first is ours; the others are aliases in wide use */
	const char *names[4];
	enum device_kind kind;
	unsigned props;
	const char *help;
} kinds[] = {
	{ { "virtio-blk", "virtio-blk-pci", "virtio-blk-device", NULL },
	  DEV_VIRTIO_BLK,
	  P_DRIVE | P_QUEUES | P_SERIAL | P_IOTHREAD | P_PCI | P_HOT,
	  "disk" },
	{ { "virtio-net", "virtio-net-pci", "virtio-net-device", NULL },
	  DEV_VIRTIO_NET,
	  P_NETDEV | P_QUEUES | P_PCI | P_HOT,
	  "network card" },
	{ { "virtio-rng", "virtio-rng-pci", "virtio-rng-device", NULL },
	  DEV_VIRTIO_RNG,
	  P_PCI | P_HOT,
	  "random numbers" },
	{ { "virtio-console", "virtconsole", "virtio-serial-pci", NULL },
	  DEV_VIRTIO_CONSOLE,
	  P_CHARDEV | P_PCI,
	  "console" },
	{ { "virtio-balloon", "virtio-balloon-pci", "virtio-balloon-device", NULL },
	  DEV_VIRTIO_BALLOON,
	  P_PCI | P_HOT,
	  "memory balloon" },
	{ { "virtio-tablet", "virtio-tablet-pci", NULL },
	  DEV_VIRTIO_INPUT,
	  P_PCI | P_HOT,
	  "absolute pointer" },
	{ { "virtio-9p", "virtio-9p-pci", "virtio-9p-device", NULL },
	  DEV_VIRTIO_9P,
	  P_9P | P_PCI | P_HOT,
	  "shared folder" },
	{ { "e1000", "e1000-82540em", NULL },
	  DEV_E1000,
	  P_NETDEV | P_PCI | P_HOT,
	  "network card, Intel 82540EM" },
	{ { "rtl8139", NULL },
	  DEV_RTL8139,
	  P_NETDEV | P_PCI | P_HOT,
	  "network card, Realtek 8139" },
	{ { "ide-hd", "ide-drive", NULL }, DEV_IDE_HD, P_DRIVE | P_IDE | P_SERIAL, "IDE disk" },
	{ { "ide-cd", NULL }, DEV_IDE_CD, P_DRIVE | P_IDE, "IDE CD-ROM drive" },
	{ { "VGA", "vga", "stdvga", NULL }, DEV_VGA, P_PCI, "graphics card" },
	{ { "isa-debug-exit", NULL },
	  DEV_DEBUG_EXIT,
	  P_IOBASE,
	  "a write of v ends with exit status v*2+1" },
	{ { "isa-debugcon", NULL }, DEV_DEBUGCON, P_IOBASE | P_CHARDEV, "debug console port" },
	{ { "pvpanic", NULL }, DEV_PVPANIC, 0, "tells when the guest panics" },
	{ { "pc-testdev", NULL }, DEV_PC_TESTDEV, 0, "ports of kvm-unit-tests" },
	{ { "pci-testdev", NULL }, DEV_PCI_TESTDEV, P_PCI, "PCI function of kvm-unit-tests" },
	{ { "vmgenid", NULL },
	  DEV_VMGENID,
	  P_GUID,
	  "generation id: changes when a saved machine is started again" },
};

const char *device_kind_name(enum device_kind k)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (kinds[i].kind == k)
			return kinds[i].names[0];
	return "nic";		/* of a model still to be chosen */
}

bool device_kind_hotplugs(enum device_kind k)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (kinds[i].kind == k)
			return kinds[i].props & P_HOT;
	return false;
}

static int find_kind(const char *name, struct err *err)
{
	const char *all[4 * ARRAY_SIZE(kinds) + 1], *near;
	unsigned n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		for (int a = 0; a < 4 && kinds[i].names[a]; a++) {
			if (!strcmp(name, kinds[i].names[a]))
				return i;
			all[n++] = kinds[i].names[a];
		}
	}
	all[n] = NULL;
	near = nearest_name(name, all);
	return err_set(err, ENODEV, "no device is called \"%s\"%s%s%s (-device help lists them)",
		       name, near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static int parse_mac(const char *s, uint8_t mac[6])
{
	unsigned b[6];
	int end = 0;

	if (sscanf(s, "%2x%*1[:-]%2x%*1[:-]%2x%*1[:-]%2x%*1[:-]%2x%*1[:-]%2x%n", b, b + 1, b + 2,
		   b + 3, b + 4, b + 5, &end) != 6 ||
	    s[end])
		return -EINVAL;
	for (int i = 0; i < 6; i++)
		mac[i] = b[i];
	return 0;
}

static int parse_nic(struct device_config *d, struct keyval *kv, struct err *err)
{
	const char *mac = keyval_get(kv, "mac");

	if (!mac)
		mac = keyval_get(kv, "macaddr");
	if (!mac)
		return 0;
	if (parse_mac(mac, d->mac) < 0)
		return err_set(err, EINVAL,
			       "mac=%s: six hexadecimal bytes expected, as 52:54:00:12:34:56", mac);
	if (d->mac[0] & 1)
		return err_set(err, EINVAL,
			       "mac=%s: that is a group address; the first byte must be even", mac);
	d->has_mac = true;
	return 0;
}

/* "3", "3.0" or "03.0": slot and function. */
static int parse_addr(struct device_config *d, const char *s, struct err *err)
{
	char *end;
	unsigned long slot = strtoul(s, &end, 16), func = 0;

	if (end != s && *end == '.')
		func = strtoul(end + 1, &end, 16);
	if (end == s || *end || slot > 31 || func > 7)
		return err_set(
			err, EINVAL,
			"addr=%s: a PCI slot expected, as 5 or 5.0 (hexadecimal, up to 1f.7)", s);
	d->slot = slot;
	d->func = func;
	return 0;
}

static int parse_device_props(struct device_config *d, unsigned props, struct keyval *kv,
			      struct err *err)
{
	uint64_t queues = 0, size = 0, boot = ~0ull, iobase = 0, bus = 0, unit = ~0ull, iosize = 0;
	const char *s;

	if (keyval_u64(kv, "bootindex", 1023, &boot, err) < 0)
		return -EINVAL;
	d->bootindex = boot == ~0ull ? -1 : (int)boot;
	if ((props & P_PCI) && (s = keyval_get(kv, "addr")) && parse_addr(d, s, err) < 0)
		return -EINVAL;
	if (props & P_PCI)
		keyval_get(kv, "bus");			/* there is one: pci.0 */
	if ((props & P_NETDEV) && parse_nic(d, kv, err) < 0)
		return -EINVAL;
	if (props & (P_DRIVE | P_NETDEV | P_CHARDEV))
		d->backend = keyval_dup(kv, props & P_DRIVE    ? "drive"
					    : props & P_NETDEV ? "netdev"
							       : "chardev");
	if (props & P_QUEUES) {
		if (keyval_u64(kv, "num-queues", 64, &queues, err) < 0 ||
		    keyval_u64(kv, "queues", 64, &queues, err) < 0 ||
		    keyval_u64(kv, "queue-size", 1024, &size, err) < 0 ||
		    keyval_bool(kv, "packed", &d->packed, err) < 0)
			return -EINVAL;
		if (size && (!IS_POWER_OF_2(size) || size < 4))
			return err_set(err, EINVAL,
				       "queue-size=%lu: a power of two from 4 to 1024 expected",
				       size);
		d->queues = queues;
		d->queue_size = size;
	}
	if (props & P_IOTHREAD && keyval_bool(kv, "iothread", &d->iothread, err) < 0)
		return -EINVAL;
	if (props & P_SERIAL)
		d->serial = keyval_dup(kv, "serial");
	if (props & P_IOBASE) {
		if (keyval_u64(kv, "iobase", 0xffff, &iobase, err) < 0 ||
		    keyval_u64(kv, "iosize", 8, &iosize, err) < 0)
			return -EINVAL;
		if (iosize && !IS_POWER_OF_2(iosize))
			return err_set(err, EINVAL, "iosize=%" PRIu64 ": 1, 2, 4 or 8 expected",
				       iosize);
		d->iobase = iobase;
		d->iosize = iosize;
	}
	if (props & P_IDE) {
		s = keyval_get(kv, "bus");
		if (s && (strncmp(s, "ide.", 4) || parse_u64(s + 4, 1, &bus) < 0))
			return err_set(err, EINVAL, "bus=%s: ide.0 or ide.1 expected", s);
		if (keyval_u64(kv, "unit", 1, &unit, err) < 0)
			return -EINVAL;
		d->ide_index = s || unit != ~0ull ? (int)(bus * 2 + (unit == ~0ull ? 0 : unit))
						  : -1;
	}
	if ((props & P_GUID) && (s = keyval_get(kv, "guid")) && strcmp(s, "auto")) {
		if (parse_uuid(s, d->guid) < 0)
			return err_set(err, EINVAL,
				       "guid=%s: auto or 32 hexadecimal digits expected", s);
		d->has_guid = true;
	}
	if (props & P_9P) {
		d->path = keyval_dup(kv, "path");
		d->tag = keyval_dup(kv, "mount_tag");
		d->hide = keyval_dup(kv, "hide");
		if (keyval_bool(kv, "readonly", &d->readonly, err) < 0 ||
		    keyval_bool(kv, "pipes", &d->pipes, err) < 0)
			return -EINVAL;
	}
	return 0;
}

struct device_config *config_parse_device(struct config *c, const char *spec, struct err *err)
{
	struct device_config *d = NULL;
	struct keyval kv;
	int kind, ret = -EINVAL;

	if (keyval_parse(&kv, spec, "driver", err) < 0)
		return NULL;
	kind = find_kind(keyval_get(&kv, "driver") ? keyval_get(&kv, "driver") : "", err);
	if (kind >= 0)
		d = config_add_device(c, kinds[kind].kind, keyval_get(&kv, "id"), err);
	if (d)
		ret = parse_device_props(d, kinds[kind].props, &kv, err);
	if (ret == 0)
		ret = keyval_finish(&kv, err);
	if (ret < 0)
		err_prefix(err, "-device %s", spec);
	if (ret < 0 && d)
		config_remove_device(d);
	keyval_free(&kv);
	return ret < 0 ? NULL : d;
}

/* The properties of a device of that kind. */
static void print_props(unsigned p)
{
	printf("id=%s%s%s%s%s%s%s%s%s%s%s\n", p & P_PCI ? ", addr=SLOT" : "",
	       p & P_DRIVE ? ", drive=ID, bootindex=N" : "",
	       p & P_NETDEV ? ", netdev=ID, mac=MAC, bootindex=N" : "",
	       p & P_CHARDEV ? ", chardev=SPEC" : "",
	       p & P_QUEUES ? ", num-queues=N, queue-size=N, packed=on" : "",
	       p & P_IOTHREAD ? ", iothread=on" : "", p & P_SERIAL ? ", serial=TEXT" : "",
	       p & P_GUID ? ", guid=auto|UUID" : "", p & P_IOBASE ? ", iobase=PORT, iosize=N" : "",
	       p & P_IDE ? ", bus=ide.0|ide.1, unit=0|1" : "",
	       p & P_9P ? ", path=DIR, mount_tag=NAME, readonly=on, pipes=on, hide=PATH[:PATH]"
			: "");
}

void config_device_help(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		printf("  %-15s %s\n                  ", kinds[i].names[0], kinds[i].help);
		print_props(kinds[i].props);
	}
}

void config_device_man(void)
{
	printf(".RS\n");
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		printf(".TP\n.B %s\n%s: ", kinds[i].names[0], kinds[i].help);
		print_props(kinds[i].props);
	}
	printf(".RE\n");
}
