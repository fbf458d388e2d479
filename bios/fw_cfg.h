/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fw_cfg.h: the firmware configuration device (ports 0x510, 0x511, DMA at 0x514): how SeaBIOS and
 * OVMF learn of the machine. Linux has a driver for it too. Belongs to the loop it is made with.
 */
#ifndef BIOS_FW_CFG_H
#define BIOS_FW_CFG_H

#include "devices/device.h"
#include "vmm/wires/bus.h"
#include "vmm/wires/mem.h"

/* Keys with a fixed number; files get theirs from 0x20 on. */
enum {
	FW_CFG_SIGNATURE = 0x00, FW_CFG_ID = 0x01, FW_CFG_UUID = 0x02, FW_CFG_RAM_SIZE = 0x03,
	FW_CFG_NOGRAPHIC = 0x04,
	FW_CFG_NB_CPUS = 0x05, FW_CFG_MACHINE_ID = 0x06, FW_CFG_KERNEL_ADDR = 0x07,
	FW_CFG_KERNEL_SIZE = 0x08,
	FW_CFG_KERNEL_CMDLINE = 0x09, FW_CFG_INITRD_ADDR = 0x0a, FW_CFG_INITRD_SIZE = 0x0b,
	FW_CFG_BOOT_DEVICE = 0x0c,
	FW_CFG_NUMA = 0x0d, FW_CFG_BOOT_MENU = 0x0e, FW_CFG_MAX_CPUS = 0x0f,
	FW_CFG_KERNEL_ENTRY = 0x10,
	FW_CFG_KERNEL_DATA = 0x11, FW_CFG_INITRD_DATA = 0x12, FW_CFG_CMDLINE_ADDR = 0x13,
	FW_CFG_CMDLINE_SIZE = 0x14,
	FW_CFG_CMDLINE_DATA = 0x15, FW_CFG_SETUP_ADDR = 0x16, FW_CFG_SETUP_SIZE = 0x17,
	FW_CFG_SETUP_DATA = 0x18,
	FW_CFG_FILE_DIR = 0x19, FW_CFG_FILE_FIRST = 0x20,
	FW_CFG_ACPI_TABLES = 0x8000, FW_CFG_SMBIOS_ENTRIES = 0x8001, FW_CFG_IRQ0_OVERRIDE = 0x8002,
};
#define FW_CFG_MAX_FILES 64
#define FW_CFG_NAME_MAX 56		/* with the final 0 */

struct fw_cfg;
/* Plugs into pio. NULL with the reason. Destroy through fw_cfg_device(). */
struct fw_cfg *fw_cfg_new(struct bus *pio, struct mem *mem, struct loop *loop, struct err *err);
struct device *fw_cfg_device(struct fw_cfg *f);

/*
 * Adding: before the guest runs, or with the loop's lock held. Data is copied. A file or key that
 * exists is replaced (a file keeps its number). 0, -ENOSPC (too many), -EINVAL (name too long).
 */
int fw_cfg_add_key(struct fw_cfg *f, uint16_t key, const void *data, size_t len);
void fw_cfg_add_key_u16(struct fw_cfg *f, uint16_t key, uint16_t v);
void fw_cfg_add_key_u32(struct fw_cfg *f, uint16_t key, uint32_t v);
void fw_cfg_add_key_u64(struct fw_cfg *f, uint16_t key, uint64_t v);
int fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, size_t len);
/*
 * The guest may write it by DMA; written(ctx) runs after each write, selected(ctx) when the guest
 * selects it. Either may be NULL.
 */
struct fw_cfg_hooks {
	void (*selected)(void *ctx);
	void (*written)(void *ctx, const void *data, size_t len);
	void *ctx;
};
int fw_cfg_add_file_hooks(struct fw_cfg *f, const char *name, const void *data, size_t len,
			  bool writable, const struct fw_cfg_hooks *hooks);
/* Other contents of the same length for a file that is there; the directory stays as it is. */
void fw_cfg_replace_file(struct fw_cfg *f, const char *name, const void *data, size_t len);
/* Contents as they are now (len out), or NULL. For -fw_cfg, dumps and tests. */
const void *fw_cfg_file(struct fw_cfg *f, const char *name, size_t *len);
void fw_cfg_for_each(struct fw_cfg *f,
		     void (*fn)(void *ctx, uint16_t key, const char *name, const void *data,
				size_t len),
		     void *ctx);

#endif
