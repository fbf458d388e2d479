/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * load_firmware.c: a BIOS image as ROM: it ends at 4 GiB, where the processor's first instruction
 * lies, and its last 128 KiB are also seen below 1 MiB, where the host bridge's PAM registers can
 * put RAM in its place.
 */
#include <errno.h>
#include <stdlib.h>

#include "bios/load.h"
#include "vmm/base/log.h"

#define FIRMWARE_MAX (16 * MiB)
#define SHADOW_MAX (128 * KiB)

struct block *firmware_map(const struct bios_config *c, struct err *err)
{
	const struct bios_file *f = &c->firmware;
	uint64_t size, shadow;
	struct block *b;
	int ret;

	if (file_size(f, &size, err) < 0)
		return NULL;
	if (size % (64 * KiB) || size > FIRMWARE_MAX) {
		err_set(err, EINVAL,
			"%s is no firmware: its size of %llu bytes is not a multiple of 64 KiB up "
			"to 16 MiB",
			f->path, (unsigned long long)size);
		return NULL;
	}
	b = block_new(c->mem, "bios", size, BLOCK_ROM, err);
	if (!b)
		return NULL;
	if (firmware_reload(c, b, err) < 0)
		goto fail;
	shadow = MIN(size, SHADOW_MAX);
	ret = block_map(b, BIOS_TOP - size, 0, size, MEM_PRIO_ROM);
	if (ret == 0)
		ret = block_map(b, LOW_END - shadow, size - shadow, shadow, MEM_PRIO_ROM);
	if (ret < 0) {
		err_set(err, -ret, "%s: cannot be mapped below 4 GiB: %s", f->path, strerror(-ret));
		goto fail;
	}
	trace(TRACE_BOOT, 0, "bios", "%s: %llu KiB", f->path, (unsigned long long)(size / KiB));
	return b;
fail:
	block_free(b);
	return NULL;
}

int firmware_reload(const struct bios_config *c, struct block *rom, struct err *err)
{
	return file_read(&c->firmware, block_host(rom), block_size(rom), 0, err);
}
